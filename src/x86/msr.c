/*
 * x86/msr.c - model-specific registers (Intel SDM 4).
 */
#include "x86/msr.h"

#include "base/clock.h"
#include "x86/cpuid.h"
#include "x86/mem.h"
#include "x86/paging.h"
#include "x86/seg.h"

#define EFER_LMA UINT64_C(0x400)
#define EFER_KNOWN X86_EFER_KNOWN
#define EFER_LME UINT64_C(0x100)
#define EFER_NXE UINT64_C(0x800)
#define CR0_PG UINT64_C(0x80000000)
/* Bits of IA32_APIC_BASE. */
#define APIC_BASE_RESERVED UINT64_C(0x2ff)
#define APIC_BASE_X2APIC UINT64_C(0x400)
#define APIC_BASE_ENABLE UINT64_C(0x800)
#define MTRR_TYPE UINT64_C(0xff)
#define MTRR_DEF_TYPE_KNOWN UINT64_C(0xcff) /* enable, fixed ones too */
#define MTRR_MASK_VALID UINT64_C(0x800)

enum {
    MSR_TSC = 0x10,
    MSR_APIC_BASE = 0x1b,
    MSR_TSC_ADJUST = 0x3b,
    MSR_MICROCODE = 0x8b,
    MSR_MTRR_CAP = 0xfe,
    MSR_SYSENTER_CS = 0x174,
    MSR_SYSENTER_ESP = 0x175,
    MSR_SYSENTER_EIP = 0x176,
    MSR_MISC_ENABLE = 0x1a0,
    MSR_POWER_CTL = 0x1fc,
    MSR_MTRR_VARIABLE = 0x200,
    MSR_MTRR_FIX64K = 0x250,
    MSR_MTRR_FIX16K = 0x258,
    MSR_MTRR_FIX4K = 0x268,
    MSR_PAT = 0x277,
    MSR_MTRR_DEF_TYPE = 0x2ff,
    MSR_EFER = 0xc0000080,
    MSR_STAR = 0xc0000081,
    MSR_LSTAR = 0xc0000082,
    MSR_CSTAR = 0xc0000083,
    MSR_SYSCALL_MASK = 0xc0000084,
    MSR_FS_BASE = 0xc0000100,
    MSR_GS_BASE = 0xc0000101,
    MSR_KERNEL_GS_BASE = 0xc0000102,
    MSR_TSC_AUX = 0xc0000103,
};

uint64_t msr_tsc(const struct x86_vcpu *vcpu)
{
    return clock_now_ns() + vcpu->msr.tsc_offset;
}

/* Those that are a word of memory. NULL: of no such kind. */
static uint64_t *plain_place(struct x86_vcpu *vcpu, uint32_t number)
{
    if (number >= MSR_MTRR_VARIABLE && number < MSR_MTRR_VARIABLE + 16) {
        return &vcpu->msr.mtrr_variable[number - MSR_MTRR_VARIABLE];
    }
    if (number >= MSR_MTRR_FIX4K && number < MSR_MTRR_FIX4K + 8) {
        return &vcpu->msr.mtrr_fixed[3 + number - MSR_MTRR_FIX4K];
    }
    switch (number) {
    case MSR_MTRR_FIX64K:
        return &vcpu->msr.mtrr_fixed[0];
    case MSR_MTRR_FIX16K:
    case MSR_MTRR_FIX16K + 1:
        return &vcpu->msr.mtrr_fixed[1 + number - MSR_MTRR_FIX16K];
    case MSR_MTRR_DEF_TYPE:
        return &vcpu->msr.mtrr_def_type;
    case MSR_APIC_BASE:
        return &vcpu->msr.apic_base;
    case MSR_SYSENTER_CS:
        return &vcpu->msr.sysenter_cs;
    case MSR_MISC_ENABLE:
        return &vcpu->msr.misc_enable;
    case MSR_POWER_CTL:
        return &vcpu->msr.power_ctl;
    case MSR_PAT:
        return &vcpu->msr.pat;
    case MSR_STAR:
        return &vcpu->msr.star;
    case MSR_SYSCALL_MASK:
        return &vcpu->msr.syscall_mask;
    case MSR_TSC_AUX:
        return &vcpu->msr.tsc_aux;
    default:
        return NULL;
    }
}

/* Those that hold a linear address, and take only a canonical one. */
static uint64_t *address_place(struct x86_vcpu *vcpu, uint32_t number)
{
    switch (number) {
    case MSR_SYSENTER_ESP:
        return &vcpu->msr.sysenter_esp;
    case MSR_SYSENTER_EIP:
        return &vcpu->msr.sysenter_eip;
    case MSR_LSTAR:
        return &vcpu->msr.lstar;
    case MSR_CSTAR:
        return &vcpu->msr.cstar;
    case MSR_FS_BASE:
        return &vcpu->segment[X86_FS].base;
    case MSR_GS_BASE:
        return &vcpu->segment[X86_GS].base;
    case MSR_KERNEL_GS_BASE:
        return &vcpu->msr.kernel_gs_base;
    default:
        return NULL;
    }
}

static enum x86_msr_result read_own(struct x86_vcpu *vcpu, uint32_t number, uint64_t *value)
{
    const uint64_t *place = plain_place(vcpu, number);

    place = place != NULL ? place : address_place(vcpu, number);
    if (place != NULL) {
        *value = *place;
        return X86_MSR_DONE;
    }
    switch (number) {
    case MSR_TSC:
        *value = msr_tsc(vcpu);
        return X86_MSR_DONE;
    case MSR_TSC_ADJUST:
        *value = vcpu->msr.tsc_adjust;
        return X86_MSR_DONE;
    case MSR_EFER:
        *value = vcpu->msr.efer;
        return X86_MSR_DONE;
    case MSR_MICROCODE:
        *value = vcpu->msr.microcode;
        return X86_MSR_DONE;
    case MSR_MTRR_CAP:
        *value = 0x508; /* eight variable ranges, fixed ones, write-combining */
        return X86_MSR_DONE;
    default:
        return X86_MSR_UNKNOWN;
    }
}

enum x86_msr_result x86_get_msr(struct x86_vcpu *vcpu, uint32_t number, uint64_t *value)
{
    enum x86_msr_result result = X86_MSR_UNKNOWN;

    if (vcpu->hooks.read_msr != NULL) {
        result = vcpu->hooks.read_msr(vcpu->hooks.opaque, number, value);
    }
    return result != X86_MSR_UNKNOWN ? result : read_own(vcpu, number, value);
}

/* A guest's access that has come to nothing: the user is asked, or it is #GP. */
static enum step give_up(struct x86_vcpu *vcpu, const struct x86_msr_access *access)
{
    if (vcpu->hooks.asks_msr == NULL || !vcpu->hooks.asks_msr(vcpu->hooks.opaque, access->result)) {
        return step_raise_code(vcpu, X86_GP, 0);
    }
    TRY(answer_expect(vcpu, X86_ANSWER_MSR, access->number, 8));
    vcpu->msr_access = *access;
    return step_exit(vcpu, X86_EXIT_MSR);
}

/* Return: whether the user has answered; then @step is what comes of it. */
static bool find_answer(struct x86_vcpu *vcpu, uint32_t number, uint64_t *value, enum step *step)
{
    const struct x86_answer *answer = answer_find(vcpu, X86_ANSWER_MSR, number, 8);

    if (answer == NULL) {
        return false;
    }
    *value = answer->value;
    *step = vcpu->msr_access.is_refused ? step_raise_code(vcpu, X86_GP, 0) : STEP_NEXT;
    return true;
}

static bool is_denied(const struct x86_vcpu *vcpu, uint32_t number, bool is_write)
{
    return vcpu->hooks.allows_msr != NULL &&
           !vcpu->hooks.allows_msr(vcpu->hooks.opaque, number, is_write);
}

enum step msr_read(struct x86_vcpu *vcpu, uint32_t number, uint64_t *value)
{
    struct x86_msr_access access = {.number = number};
    enum step step;

    if (find_answer(vcpu, number, value, &step)) {
        return step;
    }
    access.result =
        is_denied(vcpu, number, false) ? X86_MSR_DENIED : x86_get_msr(vcpu, number, value);
    return access.result == X86_MSR_DONE ? STEP_NEXT : give_up(vcpu, &access);
}

/* Eight memory types. PAT has one that MTRRs have not: uncached, but by an MTRR. */
static bool are_memory_types(uint64_t types, bool is_pat)
{
    unsigned known = is_pat ? 0xf3 : 0x73;

    for (unsigned i = 0; i < 8; i++) {
        uint8_t type = (uint8_t)(types >> (8 * i));

        if (type > 7 || (known >> type & 1) == 0) {
            return false;
        }
    }
    return true;
}

/* Intel SDM 3A, 12.11.2: may the register hold the value? */
static bool is_mtrr_allowed(const struct x86_vcpu *vcpu, uint32_t number, uint64_t value)
{
    uint64_t beyond = ~UINT64_C(0) << x86_maxphyaddr(vcpu);

    if (number == MSR_MTRR_DEF_TYPE) {
        return (value & ~MTRR_DEF_TYPE_KNOWN) == 0 && are_memory_types(value & MTRR_TYPE, false);
    }
    if (number >= MSR_MTRR_FIX64K) {
        return are_memory_types(value, false);
    }
    if (number % 2 == 0) { /* base */
        return (value & (beyond | 0xf00)) == 0 && are_memory_types(value & MTRR_TYPE, false);
    }
    return (value & (beyond | (MTRR_MASK_VALID - 1))) == 0;
}

/* A vCPU without CPUID has no x2APIC mode, as in Linux. */
bool msr_may_set_apic_base(const struct x86_vcpu *vcpu, uint64_t before, uint64_t value,
                           enum x86_msr_writer writer)
{
    const uint64_t modes = APIC_BASE_ENABLE | APIC_BASE_X2APIC;
    bool has_x2apic = vcpu->cpuid_count != 0 && cpuid_allows(vcpu, 1, CPUID_ECX, 21);
    bool was_enabled = (before & APIC_BASE_ENABLE) != 0;
    bool was_x2apic = (before & modes) == modes;

    if ((value & (~UINT64_C(0) << x86_maxphyaddr(vcpu) | APIC_BASE_RESERVED)) != 0 ||
        ((value & APIC_BASE_X2APIC) != 0 && !has_x2apic) || (value & modes) == APIC_BASE_X2APIC) {
        return false;
    }
    return writer == X86_MSR_HOST || !((was_x2apic && (value & modes) == APIC_BASE_ENABLE) ||
                                       (!was_enabled && (value & modes) == modes));
}

/* May a plain register hold the value? */
static bool is_allowed(const struct x86_vcpu *vcpu, uint32_t number, uint64_t value)
{
    switch (number) {
    case MSR_PAT:
        return are_memory_types(value, true);
    case MSR_TSC_AUX:
        return value >> 32 == 0;
    default:
        return number < MSR_MTRR_VARIABLE || number > MSR_MTRR_DEF_TYPE ||
               is_mtrr_allowed(vcpu, number, value);
    }
}

/* The VMM restores CR4 before or after: either width of addresses will do. And SYSENTER's may come from a
 * processor of AMD's, which keeps half of them. */
static enum x86_msr_result write_address(struct x86_vcpu *vcpu, uint32_t number, uint64_t value,
                                         enum x86_msr_writer writer)
{
    uint64_t widest = (uint64_t)((int64_t)(value << 7) >> 7);

    if (writer == X86_MSR_HOST && (number == MSR_SYSENTER_ESP || number == MSR_SYSENTER_EIP)) {
        value = widest;
    }
    if (writer == X86_MSR_HOST ? widest != value : !is_canonical(vcpu, value)) {
        return X86_MSR_REFUSED;
    }
    *address_place(vcpu, number) = value;
    return X86_MSR_DONE;
}

/* Intel SDM 3B, 18.17.3: what a guest adds to the counter by either register shows in this one. The user moves each for
 * itself. A guest that was not promised the register has it read as it was, as in Linux. */
static void write_tsc_adjust(struct x86_vcpu *vcpu, uint64_t value, enum x86_msr_writer writer)
{
    if (!cpuid_allows(vcpu, 7, CPUID_EBX, 1)) {
        return;
    }
    if (writer == X86_MSR_GUEST) {
        vcpu->msr.tsc_offset += value - vcpu->msr.tsc_adjust;
    }
    vcpu->msr.tsc_adjust = value;
}

static void write_tsc(struct x86_vcpu *vcpu, uint64_t value, enum x86_msr_writer writer)
{
    uint64_t added = value - msr_tsc(vcpu);

    vcpu->msr.tsc_offset += added;
    if (writer == X86_MSR_GUEST) {
        vcpu->msr.tsc_adjust += added;
    }
}

/* All but EFER. */
static enum x86_msr_result write_own(struct x86_vcpu *vcpu, uint32_t number, uint64_t value,
                                     enum x86_msr_writer writer)
{
    uint64_t *place = plain_place(vcpu, number);

    if (place != NULL) {
        bool may_set = number == MSR_APIC_BASE ? msr_may_set_apic_base(vcpu, *place, value, writer)
                                               : is_allowed(vcpu, number, value);

        if (!may_set) {
            return X86_MSR_REFUSED;
        }
        *place = value;
        return X86_MSR_DONE;
    }
    if (address_place(vcpu, number) != NULL) {
        return write_address(vcpu, number, value, writer);
    }
    switch (number) {
    case MSR_TSC:
        write_tsc(vcpu, value, writer);
        return X86_MSR_DONE;
    case MSR_TSC_ADJUST:
        write_tsc_adjust(vcpu, value, writer);
        return X86_MSR_DONE;
    case MSR_MICROCODE: /* guests clear it to have CPUID fill it in: no update is ever loaded */
        if (writer == X86_MSR_HOST) {
            vcpu->msr.microcode = value;
        }
        return X86_MSR_DONE;
    default:
        return X86_MSR_UNKNOWN;
    }
}

static enum x86_msr_result write_other(struct x86_vcpu *vcpu, uint32_t number, uint64_t value,
                                       enum x86_msr_writer writer)
{
    enum x86_msr_result result = X86_MSR_UNKNOWN;

    if (vcpu->hooks.write_msr != NULL) {
        result = vcpu->hooks.write_msr(vcpu->hooks.opaque, number, value, writer);
    }
    return result != X86_MSR_UNKNOWN ? result : write_own(vcpu, number, value, writer);
}

/* Bits that the guest's CPUID does not promise are reserved. */
static uint64_t efer_known(const struct x86_vcpu *vcpu)
{
    uint64_t known = EFER_KNOWN;

    known &= cpuid_allows(vcpu, 0x80000001, CPUID_EDX, 29) ? UINT64_MAX : ~(EFER_LME | EFER_LMA);
    known &= cpuid_allows(vcpu, 0x80000001, CPUID_EDX, 20) ? UINT64_MAX : ~EFER_NXE;
    return known;
}

/* LME may not change while paging is on; LMA is the processor's own. */
static bool is_efer_allowed(const struct x86_vcpu *vcpu, uint64_t value)
{
    bool is_paging = (vcpu->cr0 & CR0_PG) != 0;

    return (value & ~efer_known(vcpu)) == 0 &&
           !(is_paging && ((vcpu->msr.efer ^ value) & EFER_LME) != 0);
}

static enum step write_efer(struct x86_vcpu *vcpu, uint64_t value)
{
    uint64_t efer = (value & ~EFER_LMA) | (vcpu->msr.efer & EFER_LMA);

    TRY(paging_set(vcpu, vcpu->cr0, vcpu->cr3, vcpu->cr4, efer, vcpu->pkru));
    vcpu->msr.efer = efer;
    return STEP_NEXT;
}

enum step msr_write(struct x86_vcpu *vcpu, uint32_t number, uint64_t value)
{
    struct x86_msr_access access = {.number = number, .is_write = true, .value = value};
    uint64_t unused;
    enum step step;

    if (find_answer(vcpu, number, &unused, &step)) {
        return step;
    }
    if (is_denied(vcpu, number, true)) {
        access.result = X86_MSR_DENIED;
    } else if (number != MSR_EFER) {
        access.result = write_other(vcpu, number, value, X86_MSR_GUEST);
    } else if (is_efer_allowed(vcpu, value)) {
        return write_efer(vcpu, value);
    } else {
        access.result = X86_MSR_REFUSED;
    }
    return access.result == X86_MSR_DONE ? STEP_NEXT : give_up(vcpu, &access);
}

enum x86_msr_result x86_set_msr(struct x86_vcpu *vcpu, uint32_t number, uint64_t value)
{
    if (number != MSR_EFER) {
        return write_other(vcpu, number, value, X86_MSR_HOST);
    }
    if ((value & ~EFER_KNOWN) != 0) {
        return X86_MSR_REFUSED;
    }
    vcpu->msr.efer = (value & ~EFER_LMA) | (vcpu->msr.efer & EFER_LMA);
    x86_state_changed(vcpu);
    return X86_MSR_DONE;
}
