/*
 * soft/cpuid.c - what vCPUs can do: KVM_GET_SUPPORTED_CPUID, KVM_GET_EMULATED_CPUID.
 *
 * A bit is here if and only if src/x86 does what it promises; tests/unit/test_soft_cpuid.c runs something of each.
 *
 * The vendor is Intel on all hosts: the interpreter follows the SDM where processors differ (SYSCALL and SYSENTER by mode,
 * leaves past the last). The model is one that executes in order: guests need not defend it against speculation. The
 * hypervisor is KVM, whose interface this is, and has its clock. Cores, and APIC IDs other than 0, are
 * for the VMM to fill in.
 */
#include "soft/ioctl.h"
#include "soft/usercopy.h"
#include "x86/x86.h"

#include <errno.h>
#include <stddef.h>
#include <string.h>

#define BIT(number) (1u << (number))

#define FAMILY_6_MODEL_1C_STEPPING_10 0x106cau
#define CACHE_LINE_8_QUADS (8u << 8)

/* Leaf 1. */
#define ECX_SSE3 BIT(0)
#define ECX_SSSE3 BIT(9)
#define ECX_CX16 BIT(13)
#define ECX_PCID BIT(17)
#define ECX_SSE41 BIT(19)
#define ECX_SSE42 BIT(20)
#define ECX_X2APIC BIT(21) /* where there are interrupt chips: so Linux has it */
#define ECX_MOVBE BIT(22)
#define ECX_POPCNT BIT(23)
#define ECX_XSAVE BIT(26)
#define ECX_HYPERVISOR BIT(31)
#define EDX_FPU BIT(0)
#define EDX_PSE BIT(3)
#define EDX_TSC BIT(4)
#define EDX_MSR BIT(5)
#define EDX_PAE BIT(6)
#define EDX_MCE BIT(7)
#define EDX_CX8 BIT(8)
#define EDX_APIC BIT(9)
#define EDX_SEP BIT(11)
#define EDX_MTRR BIT(12)
#define EDX_PGE BIT(13)
#define EDX_MCA BIT(14)
#define EDX_CMOV BIT(15)
#define EDX_PAT BIT(16)
#define EDX_PSE36 BIT(17)
#define EDX_CLFSH BIT(19)
#define EDX_MMX BIT(23)
#define EDX_FXSR BIT(24)
#define EDX_SSE BIT(25)
#define EDX_SSE2 BIT(26)

/* Leaf 6. */
#define EAX_ARAT BIT(2)

/* Leaf 7. */
#define EBX_FSGSBASE BIT(0)
#define EBX_TSC_ADJUST BIT(1)
#define EBX_BMI1 BIT(3)
#define EBX_SMEP BIT(7)
#define EBX_BMI2 BIT(8)
#define EBX_NO_FCS_FDS BIT(13) /* segments of x87 pointers are not kept */
#define EBX_ADX BIT(19)
#define EBX_SMAP BIT(20)
#define EBX_CLFLUSHOPT BIT(23)
#define EBX_CLWB BIT(24)
#define ECX_UMIP BIT(2)
#define ECX_LA57 BIT(16)

/* Leaf 0xd: x87 and SSE, whose state is 512 bytes and a header. */
#define XCR0_X87_SSE 3u
#define XSAVE_BYTES (512u + 64u)
#define EAX_XSAVEOPT BIT(0)

/* Leaf 0x40000001: kvmclock, by both pairs of MSRs, and the same on all vCPUs. */
#define KVMCLOCK (BIT(0) | BIT(3) | BIT(24))

/* Leaf 0x80000001. */
#define ECX_LAHF BIT(0)
#define ECX_LZCNT BIT(5)
#define ECX_PREFETCHW BIT(8)
#define EDX_SYSCALL BIT(11)
#define EDX_NX BIT(20)
#define EDX_PDPE1GB BIT(26)
#define EDX_RDTSCP BIT(27)
#define EDX_LM BIT(29)

/* Leaf 0x80000007. */
#define EDX_INVARIANT_TSC BIT(8)

/* Leaf 0x80000008: how wide physical and linear addresses are. */
#define WIDTHS (52u | 57u << 8)

static const struct kvm_cpuid_entry2 SUPPORTED[] = {
    {.function = 0, .eax = 0xd, .ebx = 0x756e6547, .edx = 0x49656e69, .ecx = 0x6c65746e},
    {.function = 1,
     .eax = FAMILY_6_MODEL_1C_STEPPING_10,
     .ebx = CACHE_LINE_8_QUADS,
     .ecx = ECX_CX16 | ECX_PCID | ECX_X2APIC | ECX_MOVBE | ECX_POPCNT | ECX_XSAVE | ECX_HYPERVISOR,
     .edx = EDX_FPU | EDX_PSE | EDX_TSC | EDX_MSR | EDX_PAE | EDX_MCE | EDX_CX8 | EDX_APIC |
            EDX_SEP | EDX_MTRR | EDX_PGE | EDX_MCA | EDX_CMOV | EDX_PAT | EDX_PSE36 | EDX_CLFSH |
            EDX_MMX | EDX_FXSR | EDX_SSE | EDX_SSE2},
    {.function = 2, .eax = 1}, /* ask once; no cache is described */
    {.function = 4, .flags = KVM_CPUID_FLAG_SIGNIFCANT_INDEX},
    {.function = 6, .eax = EAX_ARAT},
    {.function = 7,
     .flags = KVM_CPUID_FLAG_SIGNIFCANT_INDEX,
     .ebx = EBX_FSGSBASE | EBX_TSC_ADJUST | EBX_BMI1 | EBX_SMEP | EBX_BMI2 | EBX_NO_FCS_FDS |
            EBX_ADX | EBX_SMAP | EBX_CLFLUSHOPT | EBX_CLWB,
     .ecx = ECX_UMIP | ECX_LA57},
    {.function = 0xb, .flags = KVM_CPUID_FLAG_SIGNIFCANT_INDEX},
    {.function = 0xd,
     .flags = KVM_CPUID_FLAG_SIGNIFCANT_INDEX,
     .eax = XCR0_X87_SSE,
     .ebx = XSAVE_BYTES,
     .ecx = XSAVE_BYTES},
    {.function = 0xd, .index = 1, .flags = KVM_CPUID_FLAG_SIGNIFCANT_INDEX, .eax = EAX_XSAVEOPT},
    {.function = 0x40000000,
     .eax = 0x40000001,
     .ebx = 0x4b4d564b, /* "KVMKVMKVM" */
     .ecx = 0x564b4d56,
     .edx = 0x4d},
    {.function = 0x40000001, .eax = KVMCLOCK},
    {.function = 0x80000000, .eax = 0x80000008},
    {.function = 0x80000001,
     .ecx = ECX_LAHF | ECX_LZCNT | ECX_PREFETCHW,
     .edx = EDX_SYSCALL | EDX_NX | EDX_PDPE1GB | EDX_RDTSCP | EDX_LM},
    /* "guestmem software vCPU" */
    {.function = 0x80000002,
     .eax = 0x73657567,
     .ebx = 0x6d656d74,
     .ecx = 0x666f7320,
     .edx = 0x72617774},
    {.function = 0x80000003, .eax = 0x43762065, .ebx = 0x5550},
    {.function = 0x80000004},
    {.function = 0x80000007, .edx = EDX_INVARIANT_TSC},
    {.function = 0x80000008, .eax = WIDTHS},
};

#define SUPPORTED_COUNT (sizeof(SUPPORTED) / sizeof(SUPPORTED[0]))

/* An entry, with what only some hosts have. */
static struct kvm_cpuid_entry2 supported(size_t i)
{
    struct kvm_cpuid_entry2 entry = SUPPORTED[i];

    if (entry.function == 1 && x86_has_sse4()) {
        entry.ecx |= ECX_SSE3 | ECX_SSSE3 | ECX_SSE41 | ECX_SSE42;
    }
    return entry;
}

long ioctl_get_supported_cpuid(uint64_t argument)
{
    struct kvm_cpuid2 head;
    int rc = usercopy_from(&head, argument, sizeof(head));

    if (rc == 0 && head.nent < SUPPORTED_COUNT) {
        rc = -E2BIG;
    }
    head.nent = SUPPORTED_COUNT;
    for (size_t i = 0; rc == 0 && i < SUPPORTED_COUNT; i++) {
        const struct kvm_cpuid_entry2 entry = supported(i);

        rc = usercopy_to(argument + sizeof(head) + i * sizeof(entry), &entry, sizeof(entry));
    }
    return rc != 0 ? rc : usercopy_to(argument, &head, sizeof(head));
}

/* Nothing is there that is not among the supported. Linux looks at entries' padding here, and only here. */
long ioctl_get_emulated_cpuid(uint64_t argument)
{
    struct kvm_cpuid2 head;
    int rc = usercopy_from(&head, argument, sizeof(head));

    if (rc == 0 && head.nent == 0) {
        rc = -E2BIG;
    }
    head.nent = rc == 0 && head.nent > CPUID_ENTRIES_MAX ? CPUID_ENTRIES_MAX : head.nent;
    for (size_t i = 0; rc == 0 && i < head.nent; i++) {
        struct kvm_cpuid_entry2 entry;

        rc = usercopy_from(&entry, argument + sizeof(head) + i * sizeof(entry), sizeof(entry));
        if (rc == 0 && (entry.padding[0] | entry.padding[1] | entry.padding[2]) != 0) {
            rc = -EINVAL;
        }
    }
    head.nent = 0;
    return rc != 0 ? rc : usercopy_to(argument, &head, sizeof(head));
}
