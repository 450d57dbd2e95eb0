/*
 * x86/msr.c - model-specific registers (Intel SDM 4).
 */
#include "x86/msr.h"

#include "x86/paging.h"
#include "x86/seg.h"

#include <time.h>

#define EFER_LMA UINT64_C(0x400)
#define EFER_KNOWN UINT64_C(0xd01) /* SCE, LME, LMA, NXE */

enum {
    MSR_TSC = 0x10,
    MSR_APIC_BASE = 0x1b,
    MSR_MTRR_CAP = 0xfe,
    MSR_SYSENTER_CS = 0x174,
    MSR_SYSENTER_ESP = 0x175,
    MSR_SYSENTER_EIP = 0x176,
    MSR_MISC_ENABLE = 0x1a0,
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
    struct timespec time;

    clock_gettime(CLOCK_MONOTONIC, &time);
    return (uint64_t)time.tv_sec * 1000000000 + (uint64_t)time.tv_nsec + vcpu->msr.tsc_offset;
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

enum step msr_read(struct x86_vcpu *vcpu, uint32_t number, uint64_t *value)
{
    const uint64_t *place = plain_place(vcpu, number);

    if (vcpu->hooks.read_msr != NULL && vcpu->hooks.read_msr(vcpu->hooks.opaque, number, value)) {
        return STEP_NEXT;
    }
    place = place != NULL ? place : address_place(vcpu, number);
    if (place != NULL) {
        *value = *place;
        return STEP_NEXT;
    }
    switch (number) {
    case MSR_TSC:
        *value = msr_tsc(vcpu);
        return STEP_NEXT;
    case MSR_EFER:
        *value = vcpu->msr.efer;
        return STEP_NEXT;
    case MSR_MTRR_CAP:
        *value = 0x508; /* eight variable ranges, fixed ones, write-combining */
        return STEP_NEXT;
    default:
        return step_raise_code(vcpu, X86_GP, 0);
    }
}

/* LME may not change while paging is on; LMA is the processor's own. */
static enum step write_efer(struct x86_vcpu *vcpu, uint64_t value)
{
    uint64_t efer = (value & ~EFER_LMA) | (vcpu->msr.efer & EFER_LMA);
    bool is_paging = (vcpu->cr0 >> 31 & 1) != 0;

    if ((value & ~EFER_KNOWN) != 0 || (is_paging && ((vcpu->msr.efer ^ value) & 0x100) != 0)) {
        return step_raise_code(vcpu, X86_GP, 0);
    }
    TRY(paging_set(vcpu, vcpu->cr0, vcpu->cr3, vcpu->cr4, efer, vcpu->pkru));
    vcpu->msr.efer = efer;
    return STEP_NEXT;
}

enum step msr_write(struct x86_vcpu *vcpu, uint32_t number, uint64_t value)
{
    uint64_t *place = plain_place(vcpu, number);

    if (vcpu->hooks.write_msr != NULL && vcpu->hooks.write_msr(vcpu->hooks.opaque, number, value)) {
        return STEP_NEXT;
    }
    if (place != NULL) {
        *place = value;
        return STEP_NEXT;
    }
    place = address_place(vcpu, number);
    if (place != NULL) {
        if (!is_canonical(vcpu, value)) {
            return step_raise_code(vcpu, X86_GP, 0);
        }
        *place = value;
        return STEP_NEXT;
    }
    switch (number) {
    case MSR_TSC:
        vcpu->msr.tsc_offset += value - msr_tsc(vcpu);
        return STEP_NEXT;
    case MSR_EFER:
        return write_efer(vcpu, value);
    default:
        return step_raise_code(vcpu, X86_GP, 0);
    }
}
