/*
 * unit/test_soft_cpuid.c - CPUID is honest: something of each feature that KVM_GET_SUPPORTED_CPUID claims is executed by a vCPU that
 * has that CPUID, and nothing of well-known ones that it does not claim.
 */
#include "vcpu_face.h"
#include "x86_rig.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

enum reg {
    EAX,
    EBX,
    ECX,
    EDX,
};

/* Code in 64-bit mode at level 0, which comes to its HLT. RBX points to memory, mapped also by a page of 1 GiB at 1 GiB. */
struct feature {
    const char *name;
    uint32_t function;
    enum reg reg;
    uint8_t bit;
    const char *code;
    uint8_t size; /* of the code, without the HLT */
};

#define CODE(literal) literal, sizeof(literal) - 1
#define MOV_CR4(bits)                                                                              \
    CODE("\x0f\x20\xe0\x0d" bits "\x0f\x22\xe0") /* mov rax,cr4; or eax,bits; mov cr4,rax */
#define SET_CR4(bits) "\x0f\x20\xe0\x0d" bits "\x0f\x22\xe0"
#define RDMSR(number) CODE("\xb9" number "\x0f\x32") /* mov ecx,number; rdmsr */

static const struct feature CLAIMED[] = {
    {"sse3", 1, ECX, 0, CODE("\xf2\x0f\xd0\xc1")},
    {"ssse3", 1, ECX, 9, CODE("\x66\x0f\x38\0\xc1")},
    {"cx16", 1, ECX, 13, CODE("\x48\x0f\xc7\x0b")},
    {"pcid", 1, ECX, 17, MOV_CR4("\0\0\x02\0")},
    {"sse4.1", 1, ECX, 19, CODE("\x66\x0f\x38\x17\xc1")},
    {"sse4.2", 1, ECX, 20, CODE("\x66\x0f\x38\x37\xc1")},
    {"movbe", 1, ECX, 22, CODE("\x0f\x38\xf0\x03")},
    {"popcnt", 1, ECX, 23, CODE("\xf3\x0f\xb8\xc3")},
    {"xsave", 1, ECX, 26,
     CODE(SET_CR4("\0\0\x04\0") "\x31\xc9\x0f\x01\xd0\x0f\xae\x23")}, /* xgetbv; xsave */
    {"hypervisor", 1, ECX, 31, CODE("\xb8\0\0\0\x40\x0f\xa2")},
    {"fpu", 1, EDX, 0, CODE("\xd9\xe8")},
    {"pse", 1, EDX, 3, MOV_CR4("\x10\0\0\0")},
    {"tsc", 1, EDX, 4, CODE("\x0f\x31")},
    {"msr", 1, EDX, 5, RDMSR("\x80\0\0\xc0")},
    {"pae", 1, EDX, 6, MOV_CR4("\x20\0\0\0")},
    {"cx8", 1, EDX, 8, CODE("\x0f\xc7\x0b")},
    {"apic", 1, EDX, 9, RDMSR("\x1b\0\0\0")},
    /* sysenter_cs = 8; sysenter to the HLT: eip and esp are the test's */
    {"sep", 1, EDX, 11, CODE("\x0f\x34\x0f\x0b\x90\x90\x90\x90")},
    {"mtrr", 1, EDX, 12, RDMSR("\xfe\0\0\0")},
    {"pge", 1, EDX, 13, MOV_CR4("\x80\0\0\0")},
    {"cmov", 1, EDX, 15, CODE("\x0f\x44\xc3")},
    {"pat", 1, EDX, 16, RDMSR("\x77\x02\0\0")},
    {"clfsh", 1, EDX, 19, CODE("\x0f\xae\x3b")},
    {"mmx", 1, EDX, 23, CODE("\x0f\xfe\xc1")},
    {"fxsr", 1, EDX, 24, CODE("\x0f\xae\x03\x0f\xae\x0b")},
    {"sse", 1, EDX, 25, CODE("\x0f\x58\xc1")},
    {"sse2", 1, EDX, 26, CODE("\x66\x0f\x58\xc1")},
    {"fsgsbase", 7, EBX, 0, CODE(SET_CR4("\0\0\x01\0") "\xf3\x48\x0f\xae\xc0")},
    {"tsc_adjust", 7, EBX, 1, RDMSR("\x3b\0\0\0")},
    {"bmi1", 7, EBX, 3, CODE("\xc4\xe2\x78\xf2\xc3")},
    {"smep", 7, EBX, 7, MOV_CR4("\0\0\x10\0")},
    {"bmi2", 7, EBX, 8, CODE("\xc4\xe2\x7b\xf5\xc3")},
    {"adx", 7, EBX, 19, CODE("\x66\x0f\x38\xf6\xc3")},
    {"smap", 7, EBX, 20, CODE(SET_CR4("\0\0\x20\0") "\x0f\x01\xcb\x0f\x01\xca")},
    {"clflushopt", 7, EBX, 23, CODE("\x66\x0f\xae\x3b")},
    {"clwb", 7, EBX, 24, CODE("\x66\x0f\xae\x33")},
    {"umip", 7, ECX, 2, CODE(SET_CR4("\0\x08\0\0") "\x0f\x01\x03")},
    {"lahf_lm", 0x80000001, ECX, 0, CODE("\x9f\x9e")},
    {"lzcnt", 0x80000001, ECX, 5, CODE("\xf3\x0f\xbd\xc3")},
    {"prefetchw", 0x80000001, ECX, 8, CODE("\x0f\x0d\x0b")},
    {"syscall", 0x80000001, EDX, 11, CODE("\x0f\x05\x0f\x0b\x90\x90\x90\x90")},
    {"nx", 0x80000001, EDX, 20, CODE("\xb9\x80\0\0\xc0\x0f\x32\x0d\0\x08\0\0\x0f\x30")},
    {"pdpe1gb", 0x80000001, EDX, 26, CODE("\xa1\0\0\x02\x40\0\0\0\0")},
    {"rdtscp", 0x80000001, EDX, 27, CODE("\x0f\x01\xf9")},
    {"lm", 0x80000001, EDX, 29, CODE("\x48\xb8\0\0\0\0\x01\0\0\0")},
};

/* Those that take more than code in this mode, each with a test below; or that no instruction shows: the APIC's
 * timer runs in HLT, where there is an APIC; the counter has one frequency; x87's segments are 0 (test_x86_x87.c). */
static const struct feature CLAIMED_OTHERWISE[] = {
    {"pse36", 1, EDX, 17, NULL, 0},
    {"mce", 1, EDX, 7, NULL, 0}, /* test_soft_vcpu_mce.c */
    {"mca", 1, EDX, 14, NULL, 0},
    {"x2apic", 1, ECX, 21, NULL, 0}, /* where there are chips: test_soft_x2apic.c */
    {"arat", 6, EAX, 2, NULL, 0},
    {"no fcs, fds", 7, EBX, 13, NULL, 0},
    {"la57", 7, ECX, 16, NULL, 0},
    {"invariant tsc", 0x80000007, EDX, 8, NULL, 0},
    {"kvmclock", 0x40000001, EAX, 0, NULL, 0}, /* test_soft_clock.c */
    {"kvmclock2", 0x40000001, EAX, 3, NULL, 0},
    {"kvmclock stable", 0x40000001, EAX, 24, NULL, 0},
};

static const struct feature NOT_CLAIMED[] = {
    {"pclmulqdq", 1, ECX, 1, CODE("\x66\x0f\x3a\x44\xc1\0")},
    {"monitor", 1, ECX, 3, CODE("\x0f\x01\xc8")},
    {"vmx", 1, ECX, 5, CODE("\xf3\x0f\xc7\x33")},
    {"smx", 1, ECX, 6, CODE("\x0f\x37")},
    {"fma", 1, ECX, 12, CODE("\xc4\xe2\xf1\x98\xc2")},
    {"aes", 1, ECX, 25, CODE("\x66\x0f\x38\xdc\xc1")},
    {"avx", 1, ECX, 28, CODE("\xc5\xf8\x58\xc1")},
    {"f16c", 1, ECX, 29, CODE("\xc4\xe2\x79\x13\xc1")},
    {"rdrand", 1, ECX, 30, CODE("\x0f\xc7\xf0")},
    {"sgx", 7, EBX, 2, CODE("\x0f\x01\xcf")},
    {"avx2", 7, EBX, 5, CODE("\xc5\xf5\xfe\xc1")},
    {"invpcid", 7, EBX, 10, CODE("\x66\x0f\x38\x82\x03")},
    {"rtm", 7, EBX, 11, CODE("\xc7\xf8\0\0\0\0")},
    {"avx512f", 7, EBX, 16, CODE("\x62\xf1\x7c\x48\x58\xc1")},
    {"rdseed", 7, EBX, 18, CODE("\x0f\xc7\xf8")},
    {"sha", 7, EBX, 29, CODE("\x0f\x38\xc8\xc1")},
    {"pku", 7, ECX, 3, MOV_CR4("\0\0\x40\0")},
    {"rdpkru", 7, ECX, 3, CODE("\x31\xc9\x0f\x01\xee")},
    {"waitpkg", 7, ECX, 5, CODE("\xf3\x0f\xae\xf3")},
    {"cet", 7, ECX, 7, MOV_CR4("\0\0\x80\0")},
    {"gfni", 7, ECX, 8, CODE("\x66\x0f\x38\xcf\xc1")},
    {"rdpid", 7, ECX, 22, CODE("\xf3\x0f\xc7\xf8")},
    {"movdiri", 7, ECX, 27, CODE("\x0f\x38\xf9\x03")},
    {"serialize", 7, EDX, 14, CODE("\x0f\x01\xe8")},
    {"spec_ctrl", 7, EDX, 26, RDMSR("\x48\0\0\0")},
    {"arch_capabilities", 7, EDX, 29, RDMSR("\x0a\x01\0\0")},
    {"svm", 0x80000001, ECX, 2, CODE("\x0f\x01\xd8")},
    {"sse4a", 0x80000001, ECX, 6, CODE("\xf2\x0f\x79\xc1")},
    {"xop", 0x80000001, ECX, 11, CODE("\x8f\xe8\x78\xc1\xc1\0")},
    {"tbm", 0x80000001, ECX, 21, CODE("\x8f\xe9\x78\x01\xc8")},
    {"mwaitx", 0x80000001, ECX, 29, CODE("\x0f\x01\xfa")},
    {"3dnow", 0x80000001, EDX, 31, CODE("\x0f\x0f\xc1\x9e")},
    {"clzero", 0x80000008, EBX, 0, CODE("\x0f\x01\xfc")},
};

/* Where the features are that one could claim. */
static const struct {
    uint32_t function;
    enum reg reg;
} WORDS[] = {{1, ECX},          {1, EDX},          {6, EAX},          {7, EBX},
             {7, ECX},          {7, EDX},          {0x80000001, ECX}, {0x80000001, EDX},
             {0x80000007, EDX}, {0x80000008, EBX}, {0x40000001, EAX}};

static uint32_t word(uint32_t function, enum reg reg)
{
    struct face_cpuid list = {.head.nent = 300};

    assert_int_equal(gm_soft_system_ioctl(KVM_GET_SUPPORTED_CPUID, (uintptr_t)&list), 0);
    for (uint32_t i = 0; i < list.head.nent; i++) {
        const struct kvm_cpuid_entry2 *entry = &list.entries[i];
        const uint32_t registers[] = {entry->eax, entry->ebx, entry->ecx, entry->edx};

        if (entry->function == function && entry->index == 0) {
            return registers[reg];
        }
    }
    return 0;
}

static bool is_claimed(const struct feature *feature)
{
    return (word(feature->function, feature->reg) >> feature->bit & 1) != 0;
}

struct cpuid_rig {
    struct x86_rig rig;
    struct x86_cpuid_entry entries[300];
};

/* A vCPU with the supported CPUID, in 64-bit mode. */
static void cpuid_rig_make(struct cpuid_rig *made, unsigned bits)
{
    struct face_cpuid list = {.head.nent = 300};
    struct x86_vcpu *cpu;

    made->rig = x86_rig_new(bits);
    cpu = made->rig.cpu;
    assert_int_equal(gm_soft_system_ioctl(KVM_GET_SUPPORTED_CPUID, (uintptr_t)&list), 0);
    for (uint32_t i = 0; i < list.head.nent; i++) {
        const struct kvm_cpuid_entry2 *entry = &list.entries[i];

        made->entries[i] = (struct x86_cpuid_entry){
            .function = entry->function,
            .index = entry->index,
            .is_indexed = (entry->flags & KVM_CPUID_FLAG_SIGNIFCANT_INDEX) != 0,
            .eax = entry->eax,
            .ebx = entry->ebx,
            .ecx = entry->ecx,
            .edx = entry->edx,
        };
    }
    cpu->cpuid = made->entries;
    cpu->cpuid_count = list.head.nent;
    cpu->gpr[X86_RBX] = X86_RIG_DATA;
    cpu->idt.limit = 0;                        /* a fault is the end */
    x86_rig_put(&made->rig, X86_RIG_PD, 0x83); /* supervisor's, for SMEP */
    x86_rig_put(&made->rig, X86_RIG_PDPT + 8, 0x83);
    x86_state_changed(cpu);
}

/* Run a feature's code and a HLT. */
static enum x86_exit try_feature(const struct feature *feature)
{
    static struct cpuid_rig rig;
    uint8_t code[64];
    enum x86_exit exit;

    cpuid_rig_make(&rig, 64);
    rig.rig.cpu->msr.sysenter_cs = 8;
    rig.rig.cpu->msr.star = UINT64_C(8) << 32;
    rig.rig.cpu->msr.sysenter_esp = X86_RIG_STACK;
    rig.rig.cpu->msr.sysenter_eip = rig.rig.cpu->msr.lstar = X86_RIG_CODE + feature->size;
    assert_true(feature->size < sizeof(code));
    memcpy(code, feature->code, feature->size);
    code[feature->size] = 0xf4;
    exit = x86_rig_run(&rig.rig, code, feature->size + 1u);
    if (exit == X86_EXIT_HLT) {
        assert_int_equal(rig.rig.cpu->rip, X86_RIG_CODE + feature->size + 1u);
    }
    x86_rig_free(&rig.rig);
    return exit;
}

static void claimed_features_execute(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT(CLAIMED); i++) {
        enum x86_exit exit = try_feature(&CLAIMED[i]);

        if (!is_claimed(&CLAIMED[i]) || exit != X86_EXIT_HLT) {
            fail_msg("%s: exit %d", CLAIMED[i].name, (int)exit);
        }
    }
}

static void every_claimed_bit_is_tried(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT(WORDS); i++) {
        uint32_t tried = 0;

        for (size_t j = 0; j < COUNT(CLAIMED) + COUNT(CLAIMED_OTHERWISE); j++) {
            const struct feature *feature =
                j < COUNT(CLAIMED) ? &CLAIMED[j] : &CLAIMED_OTHERWISE[j - COUNT(CLAIMED)];

            if (feature->function == WORDS[i].function && feature->reg == WORDS[i].reg) {
                tried |= 1u << feature->bit;
            }
        }
        assert_int_equal(word(WORDS[i].function, WORDS[i].reg), tried);
    }
}

static void features_that_are_not_claimed_do_not_execute(void **state)
{
    /* #UD and #GP are the end, where there is no IDT; or the instruction comes out. */
    (void)state;
    for (size_t i = 0; i < COUNT(NOT_CLAIMED); i++) {
        enum x86_exit exit = try_feature(&NOT_CLAIMED[i]);

        if (is_claimed(&NOT_CLAIMED[i]) ||
            (exit != X86_EXIT_SHUTDOWN && exit != X86_EXIT_EMULATION)) {
            fail_msg("%s: exit %d", NOT_CLAIMED[i].name, (int)exit);
        }
    }
}

static void pse36_reaches_beyond_4_gib(void **state)
{
    /* A 4 MiB page of 32-bit paging with bit 32 of its address: no memory is there. */
    static struct cpuid_rig rig;
    struct x86_vcpu *cpu;

    (void)state;
    cpuid_rig_make(&rig, 32);
    cpu = rig.rig.cpu;
    x86_rig_put(&rig.rig, 0x6000, UINT64_C(0x2083) << 32 | 0x83); /* entries 1 and 0 */
    cpu->cr3 = 0x6000;
    cpu->cr4 |= 0x10;
    cpu->cr0 |= UINT64_C(1) << 31;
    x86_state_changed(cpu);
    assert_int_equal(X86_RIG_RUN(&rig.rig, "\xa1\x34\x12\x40\0\xf4"), X86_EXIT_MMIO);
    assert_int_equal(gm_mmu_exit(rig.rig.rig.mmu)->gpa, UINT64_C(0x100001234));
    x86_rig_free(&rig.rig);
}

static void la57_has_five_levels(void **state)
{
    /* mov rax,[1 << 48]: entry 1 of the fifth level leads to the same tables. */
    static struct cpuid_rig rig;
    struct x86_vcpu *cpu;

    (void)state;
    cpuid_rig_make(&rig, 64);
    cpu = rig.rig.cpu;
    x86_rig_put(&rig.rig, 0x6000, X86_RIG_PML4 | 7);
    x86_rig_put(&rig.rig, 0x6008, X86_RIG_PML4 | 7);
    x86_rig_put(&rig.rig, X86_RIG_DATA, 0x1234);
    cpu->cr3 = 0x6000;
    cpu->cr4 |= 0x1000;
    assert_true(x86_is_cr4_valid(cpu, cpu->cr4));
    x86_state_changed(cpu);
    assert_int_equal(X86_RIG_RUN(&rig.rig, "\x48\xa1\0\0\x02\0\0\0\x01\0\xf4"), X86_EXIT_HLT);
    assert_int_equal(cpu->gpr[X86_RAX], 0x1234);
    x86_rig_free(&rig.rig);
}

static void guest_sees_its_hypervisor_and_its_name(void **state)
{
    static struct cpuid_rig rig;
    static const char cpuid_hlt[] = "\x0f\xa2\xf4";
    struct x86_vcpu *cpu;
    char text[17] = "";

    (void)state;
    cpuid_rig_make(&rig, 64);
    cpu = rig.rig.cpu;
    cpu->gpr[X86_RAX] = 0x40000000;
    assert_int_equal(x86_rig_run(&rig.rig, cpuid_hlt, 3), X86_EXIT_HLT);
    memcpy(text, &cpu->gpr[X86_RBX], 4);
    memcpy(text + 4, &cpu->gpr[X86_RCX], 4);
    memcpy(text + 8, &cpu->gpr[X86_RDX], 4);
    assert_string_equal(text, "KVMKVMKVM");
    cpu->mp_state = X86_RUNNABLE;
    cpu->gpr[X86_RAX] = 0x80000002;
    assert_int_equal(x86_rig_run(&rig.rig, cpuid_hlt, 3), X86_EXIT_HLT);
    memcpy(text, &cpu->gpr[X86_RAX], 4);
    memcpy(text + 4, &cpu->gpr[X86_RBX], 4);
    memcpy(text + 8, &cpu->gpr[X86_RCX], 4);
    memcpy(text + 12, &cpu->gpr[X86_RDX], 4);
    assert_string_equal(text, "guestmem softwar");
    x86_rig_free(&rig.rig);
}

static void bits_follow_the_registers(void **state)
{
    /* OSXSAVE, OSPKE and APIC are what CR4 and IA32_APIC_BASE say. */
    static struct cpuid_rig rig;
    struct x86_vcpu *cpu;

    (void)state;
    cpuid_rig_make(&rig, 64);
    cpu = rig.rig.cpu;
    cpu->cpuid_count = 0; /* so that all bits may be set */
    cpu->cr4 |= UINT64_C(1) << 18 | UINT64_C(1) << 22;
    x86_state_changed(cpu);
    cpu->gpr[X86_RAX] = 1;
    assert_int_equal(X86_RIG_RUN(&rig.rig, "\x0f\xa2\xf4"), X86_EXIT_HLT);
    assert_int_equal(cpu->gpr[X86_RCX], 1u << 27);
    cpu->mp_state = X86_RUNNABLE;
    cpu->gpr[X86_RAX] = 7;
    cpu->gpr[X86_RCX] = 0;
    assert_int_equal(X86_RIG_RUN(&rig.rig, "\x0f\xa2\xf4"), X86_EXIT_HLT);
    assert_int_equal(cpu->gpr[X86_RCX], 1u << 4);
    cpu->mp_state = X86_RUNNABLE;
    cpu->cpuid_count = COUNT(rig.entries);
    cpu->msr.apic_base = 0;
    cpu->gpr[X86_RAX] = 1;
    assert_int_equal(X86_RIG_RUN(&rig.rig, "\x0f\xa2\xf4"), X86_EXIT_HLT);
    assert_int_equal(cpu->gpr[X86_RDX] & 1u << 9, 0);
    x86_rig_free(&rig.rig);
}

static void leaves_past_the_last_are_the_vendors(void **state)
{
    /* Intel's processors answer the last basic leaf, AMD's nothing; levels past the topology's still say which processor. */
    const struct x86_cpuid_entry entries[] = {
        {.function = 0, .eax = 1, .ebx = 0x756e6547},
        {.function = 1, .eax = 0x1111},
        {.function = 0xb, .index = 0, .is_indexed = true, .edx = 5},
        {.function = 0xb, .index = 1, .is_indexed = true, .edx = 5},
        {.function = 0x40000000, .eax = 0x40000001},
    };
    static const struct {
        uint32_t function, index, eax, ecx, edx;
    } answers[] = {{2, 0, 0x1111, 0, 0},
                   {0x12345678, 0, 0x1111, 0, 0},
                   {0x40000001, 0, 0, 0, 0},
                   {0x40000002, 0, 0x1111, 0, 0},
                   {0x80000000, 0, 0x1111, 0, 0},
                   {0xc0000000, 0, 0x1111, 0, 0},
                   {0xb, 7, 0, 7, 5}};
    struct x86_cpuid_entry amd[COUNT(entries)];
    struct x86_rig rig = x86_rig_new(64);

    (void)state;
    memcpy(amd, entries, sizeof(entries));
    amd[0].ebx = 0x68747541;
    rig.cpu->cpuid_count = COUNT(entries);
    for (size_t i = 0; i < 2 * COUNT(answers); i++) {
        bool is_amd = i >= COUNT(answers);
        size_t row = i % COUNT(answers);

        rig.cpu->cpuid = is_amd ? amd : entries;
        rig.cpu->mp_state = X86_RUNNABLE;
        rig.cpu->gpr[X86_RAX] = answers[row].function;
        rig.cpu->gpr[X86_RCX] = answers[row].index;
        assert_int_equal(X86_RIG_RUN(&rig, "\x0f\xa2\xf4"), X86_EXIT_HLT);
        assert_int_equal(rig.cpu->gpr[X86_RAX], is_amd ? 0 : answers[row].eax);
        assert_int_equal(rig.cpu->gpr[X86_RCX], answers[row].ecx);
        assert_int_equal(rig.cpu->gpr[X86_RDX], answers[row].edx);
    }
    x86_rig_free(&rig);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(claimed_features_execute),
        cmocka_unit_test(every_claimed_bit_is_tried),
        cmocka_unit_test(features_that_are_not_claimed_do_not_execute),
        cmocka_unit_test(pse36_reaches_beyond_4_gib),
        cmocka_unit_test(la57_has_five_levels),
        cmocka_unit_test(guest_sees_its_hypervisor_and_its_name),
        cmocka_unit_test(bits_follow_the_registers),
        cmocka_unit_test(leaves_past_the_last_are_the_vendors),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
