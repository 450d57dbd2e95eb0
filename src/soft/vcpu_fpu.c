/*
 * soft/vcpu_fpu.c - the state of x87, SSE and protection keys: KVM_GET_FPU, KVM_SET_FPU, KVM_GET_XSAVE, KVM_GET_XSAVE2,
 * KVM_SET_XSAVE, KVM_GET_XCRS, KVM_SET_XCRS.
 *
 * struct kvm_xsave has the layout of XSAVE (Intel SDM 1, 13.4), with PKRU where Intel's processors have it.
 */
#include "soft/ioctl.h"
#include "soft/soft.h"
#include "soft/usercopy.h"

#include <errno.h>
#include <stddef.h>
#include <string.h>

#define MXCSR_KNOWN 0xffffu
#define FCW_INIT 0x37fu
#define FEATURE_X87 (UINT64_C(1) << 0)
#define FEATURE_SSE (UINT64_C(1) << 1)
#define FEATURE_PKRU (UINT64_C(1) << 9)
#define FEATURES (FEATURE_X87 | FEATURE_SSE | FEATURE_PKRU)
#define PKRU_OFFSET 2688u

struct xsave {
    uint16_t fcw, fsw;
    uint8_t ftw, reserved_1;
    uint16_t last_opcode;
    uint64_t last_ip, last_dp;
    uint32_t mxcsr, mxcsr_mask;
    uint8_t st[8][16];
    union x86_xmm xmm[16];
    uint8_t unused[96];
    uint64_t present; /* XSTATE_BV: components that are not, are as after INIT */
    uint64_t header[7];
    uint8_t gap[PKRU_OFFSET - 576];
    uint32_t pkru;
    uint8_t rest[4096 - PKRU_OFFSET - 4];
};

_Static_assert(offsetof(struct xsave, xmm) == 160 && offsetof(struct xsave, present) == 512 &&
                   offsetof(struct xsave, pkru) == PKRU_OFFSET &&
                   sizeof(struct xsave) == sizeof(struct kvm_xsave),
               "the layout is the processor's");

/* MXCSR is given, but not taken: KVM_SET_XSAVE does that. */
long ioctl_get_fpu(struct gm_soft_vcpu *vcpu, uint64_t argument)
{
    const struct x86_vcpu *cpu = vcpu->x86;
    struct kvm_fpu fpu = {
        .fcw = cpu->fpu.fcw,
        .fsw = cpu->fpu.fsw,
        .ftwx = cpu->fpu.ftw,
        .last_opcode = cpu->fpu.last_opcode,
        .last_ip = cpu->fpu.last_ip,
        .last_dp = cpu->fpu.last_dp,
        .mxcsr = cpu->mxcsr,
    };

    memcpy(fpu.fpr, cpu->fpu.st, sizeof(fpu.fpr));
    memcpy(fpu.xmm, cpu->xmm, sizeof(fpu.xmm));
    return usercopy_to(argument, &fpu, sizeof(fpu));
}

long ioctl_set_fpu(struct gm_soft_vcpu *vcpu, uint64_t argument)
{
    struct x86_vcpu *cpu = vcpu->x86;
    struct kvm_fpu fpu;
    int rc = usercopy_from(&fpu, argument, sizeof(fpu));

    if (rc != 0) {
        return rc;
    }
    cpu->fpu = (struct x86_fpu){
        .fcw = fpu.fcw,
        .fsw = fpu.fsw,
        .ftw = fpu.ftwx,
        .last_opcode = fpu.last_opcode,
        .last_ip = fpu.last_ip,
        .last_dp = fpu.last_dp,
    };
    memcpy(cpu->fpu.st, fpu.fpr, sizeof(fpu.fpr));
    memcpy(cpu->xmm, fpu.xmm, sizeof(fpu.xmm));
    return 0;
}

long ioctl_get_xsave(struct gm_soft_vcpu *vcpu, uint64_t argument)
{
    const struct x86_vcpu *cpu = vcpu->x86;
    struct xsave area = {
        .fcw = cpu->fpu.fcw,
        .fsw = cpu->fpu.fsw,
        .ftw = cpu->fpu.ftw,
        .last_opcode = cpu->fpu.last_opcode,
        .last_ip = cpu->fpu.last_ip,
        .last_dp = cpu->fpu.last_dp,
        .mxcsr = cpu->mxcsr,
        .mxcsr_mask = MXCSR_KNOWN,
        .present = FEATURE_X87 | FEATURE_SSE | (cpu->pkru != 0 ? FEATURE_PKRU : 0),
        .pkru = cpu->pkru,
    };

    memcpy(area.st, cpu->fpu.st, sizeof(area.st));
    memcpy(area.xmm, cpu->xmm, sizeof(area.xmm));
    return usercopy_to(argument, &area, sizeof(area));
}

static bool is_valid(const struct xsave *area)
{
    uint64_t header = 0;

    for (unsigned i = 0; i < 7; i++) {
        header |= area->header[i]; /* no compacted format */
    }
    return (area->present & ~FEATURES) == 0 && header == 0 && (area->mxcsr & ~MXCSR_KNOWN) == 0;
}

static void take_x87(struct x86_vcpu *cpu, const struct xsave *area)
{
    cpu->fpu = (struct x86_fpu){.fcw = FCW_INIT};
    if ((area->present & FEATURE_X87) != 0) {
        cpu->fpu.fcw = area->fcw;
        cpu->fpu.fsw = area->fsw;
        cpu->fpu.ftw = area->ftw;
        cpu->fpu.last_opcode = area->last_opcode;
        cpu->fpu.last_ip = area->last_ip;
        cpu->fpu.last_dp = area->last_dp;
        memcpy(cpu->fpu.st, area->st, sizeof(area->st));
    }
}

static void take_pkru(struct x86_vcpu *cpu, const struct xsave *area)
{
    uint32_t pkru = (area->present & FEATURE_PKRU) != 0 ? area->pkru : 0;

    if (pkru != cpu->pkru) {
        cpu->pkru = pkru;
        x86_state_changed(cpu);
    }
}

long ioctl_set_xsave(struct gm_soft_vcpu *vcpu, uint64_t argument)
{
    struct x86_vcpu *cpu = vcpu->x86;
    struct xsave area;
    int rc = usercopy_from(&area, argument, sizeof(area));

    if (rc != 0) {
        return rc;
    }
    if (!is_valid(&area)) {
        return -EINVAL;
    }
    take_x87(cpu, &area);
    memset(cpu->xmm, 0, sizeof(cpu->xmm));
    if ((area.present & FEATURE_SSE) != 0) {
        memcpy(cpu->xmm, area.xmm, sizeof(area.xmm));
        cpu->mxcsr = area.mxcsr;
    }
    take_pkru(cpu, &area);
    return 0;
}

long ioctl_get_xcrs(struct gm_soft_vcpu *vcpu, uint64_t argument)
{
    struct kvm_xcrs xcrs = {.nr_xcrs = 1, .xcrs = {{.value = vcpu->x86->xcr0}}};

    return usercopy_to(argument, &xcrs, sizeof(xcrs));
}

/* Others than XCR0 are passed over, as in Linux. */
long ioctl_set_xcrs(struct gm_soft_vcpu *vcpu, uint64_t argument)
{
    struct kvm_xcrs xcrs;
    int rc = usercopy_from(&xcrs, argument, sizeof(xcrs));

    if (rc != 0) {
        return rc;
    }
    if (xcrs.flags != 0 || xcrs.nr_xcrs > KVM_MAX_XCRS) {
        return -EINVAL;
    }
    for (unsigned i = 0; i < xcrs.nr_xcrs; i++) {
        if (xcrs.xcrs[i].xcr == 0) {
            if (!x86_is_xcr0_valid(xcrs.xcrs[i].value)) {
                return -EINVAL;
            }
            vcpu->x86->xcr0 = xcrs.xcrs[i].value;
            return 0;
        }
    }
    return 0;
}
