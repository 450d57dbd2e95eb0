/*
 * x86/cpuid.c - CPUID's answers (Intel SDM 2, CPUID), and the bits of CR4 that need a feature.
 */
#include "x86/cpuid.h"

#define CR4_OSXSAVE (UINT64_C(1) << 18)
#define CR4_PKE (UINT64_C(1) << 22)
#define CR4_KNOWN UINT64_C(0x771fff) /* to PKE, without VMX, SMX, CET */
#define LEAF_TOPOLOGY 0xbu
#define LEAF_TOPOLOGY_2 0x1fu
#define FEATURE_OSXSAVE (1u << 27) /* leaf 1, ECX */
#define FEATURE_APIC (1u << 9)     /* leaf 1, EDX */
#define FEATURE_OSPKE (1u << 4)    /* leaf 7, ECX */
#define APIC_BASE_ENABLED UINT64_C(0x800)

bool cpuid_find(const struct x86_vcpu *vcpu, uint32_t function, uint32_t index,
                struct x86_cpuid_entry *entry)
{
    for (size_t i = 0; i < vcpu->cpuid_count; i++) {
        const struct x86_cpuid_entry *candidate = &vcpu->cpuid[i];

        if (candidate->function == function &&
            (!candidate->is_indexed || candidate->index == index)) {
            *entry = *candidate;
            return true;
        }
    }
    *entry = (struct x86_cpuid_entry){0};
    return false;
}

bool cpuid_allows(const struct x86_vcpu *vcpu, uint32_t function, enum cpuid_register reg,
                  unsigned bit)
{
    struct x86_cpuid_entry entry;

    (void)cpuid_find(vcpu, function, 0, &entry);
    const uint32_t registers[] = {entry.eax, entry.ebx, entry.ecx, entry.edx};

    return vcpu->cpuid_count == 0 || (registers[reg] >> bit & 1) != 0;
}

/* The leaf that says which is the last of its range: basic, extended, or one of the hypervisors'. */
static uint32_t range_of(uint32_t function)
{
    if (function >> 28 == 4) {
        return function & 0xffffff00;
    }
    return function >= 0xc0000000 ? 0xc0000000 : function & 0x80000000;
}

/* Leaves past the last one are answered as the last basic one, but by AMD's processors, which say nothing. */
static void answer_past_the_last(const struct x86_vcpu *vcpu, uint32_t function, uint32_t index,
                                 struct x86_cpuid_entry *entry)
{
    const uint32_t amd = 0x68747541;   /* "Auth" */
    const uint32_t hygon = 0x6f677948; /* "Hygo" */
    struct x86_cpuid_entry basic, range;
    bool has_range = cpuid_find(vcpu, range_of(function), 0, &range);

    if (cpuid_find(vcpu, 0, 0, &basic) && basic.ebx != amd && basic.ebx != hygon &&
        (!has_range || function > range.eax)) {
        (void)cpuid_find(vcpu, basic.eax, index, entry);
    }
}

/* Levels past the last one still say which was asked for, and whose processor this is. */
static void answer_past_the_topology(const struct x86_vcpu *vcpu, uint32_t function, uint32_t index,
                                     struct x86_cpuid_entry *entry)
{
    struct x86_cpuid_entry level;

    if (cpuid_find(vcpu, function, 1, &level)) {
        entry->ecx = index & 0xff;
        entry->edx = level.edx;
    }
}

static uint32_t with_bit(uint32_t word, uint32_t bit, bool is_set)
{
    return is_set ? word | bit : word & ~bit;
}

void cpuid_answer(const struct x86_vcpu *vcpu, uint32_t function, uint32_t index,
                  struct x86_cpuid_entry *entry)
{
    if (!cpuid_find(vcpu, function, index, entry)) {
        if (function == LEAF_TOPOLOGY || function == LEAF_TOPOLOGY_2) {
            answer_past_the_topology(vcpu, function, index, entry);
        } else {
            answer_past_the_last(vcpu, function, index, entry);
        }
    }
    if (function == 1) { /* bits that follow other registers */
        entry->ecx = with_bit(entry->ecx, FEATURE_OSXSAVE, (vcpu->cr4 & CR4_OSXSAVE) != 0);
        if ((vcpu->msr.apic_base & APIC_BASE_ENABLED) == 0) {
            entry->edx &= ~FEATURE_APIC;
        }
    } else if (function == 7 && index == 0) {
        entry->ecx = with_bit(entry->ecx, FEATURE_OSPKE, (vcpu->cr4 & CR4_PKE) != 0);
    }
}

unsigned x86_maxphyaddr(const struct x86_vcpu *vcpu)
{
    struct x86_cpuid_entry entry;
    unsigned width;

    (void)cpuid_find(vcpu, 0x80000008, 0, &entry);
    width = entry.eax & 0xff;
    return width < 32 || width > 52 ? 52 : width;
}

bool x86_is_cr4_valid(const struct x86_vcpu *vcpu, uint64_t cr4)
{
    static const struct {
        uint8_t cr4_bit;
        uint8_t function, reg, bit;
    } needs[] = {
        {11, 7, CPUID_ECX, 2},  /* UMIP */
        {12, 7, CPUID_ECX, 16}, /* LA57 */
        {16, 7, CPUID_EBX, 0},  /* FSGSBASE */
        {17, 1, CPUID_ECX, 17}, /* PCID */
        {18, 1, CPUID_ECX, 26}, /* XSAVE */
        {20, 7, CPUID_EBX, 7},  /* SMEP */
        {21, 7, CPUID_EBX, 20}, /* SMAP */
        {22, 7, CPUID_ECX, 3},  /* PKU */
    };

    if ((cr4 & ~CR4_KNOWN) != 0) {
        return false;
    }
    for (size_t i = 0; i < sizeof(needs) / sizeof(needs[0]); i++) {
        if ((cr4 >> needs[i].cr4_bit & 1) != 0 &&
            !cpuid_allows(vcpu, needs[i].function, needs[i].reg, needs[i].bit)) {
            return false;
        }
    }
    return true;
}
