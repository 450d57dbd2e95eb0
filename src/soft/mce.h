/*
 * soft/mce.h - a vCPU's machine-check registers (Intel SDM 3B, 16.3): banks that report what the user injects.
 *
 * Source: Linux api.rst, KVM_X86_SETUP_MCE, KVM_X86_SET_MCE.
 */
#ifndef SOFT_MCE_H
#define SOFT_MCE_H

#include "x86/x86.h"

#define MCE_BANKS 32u

struct gm_soft_vcpu;

/* With the vCPU's lock. */
struct mce {
    uint64_t cap, status, ctl;    /* IA32_MCG_* */
    uint64_t banks[MCE_BANKS][4]; /* IA32_MCi_CTL, _STATUS, _ADDR, _MISC */
};

void mce_init(struct mce *mce);

/* X86_MSR_UNKNOWN: none of these. */
enum x86_msr_result mce_read_msr(const struct mce *mce, uint32_t number, uint64_t *value);
enum x86_msr_result mce_write_msr(struct mce *mce, uint32_t number, uint64_t value,
                                  enum x86_msr_writer writer);

/* KVM_X86_GET_MCE_CAP_SUPPORTED. Return: 0; -EFAULT. */
long ioctl_get_mce_cap(uint64_t argument);
/* KVM_X86_SETUP_MCE. Return: 0; -EFAULT; -EINVAL no bank, too many, or a bit that is not there. */
long ioctl_setup_mce(struct gm_soft_vcpu *vcpu, uint64_t argument);
/* KVM_X86_SET_MCE. Return: 0; -EFAULT; -EINVAL no such bank, or nothing to report. */
long ioctl_set_mce(struct gm_soft_vcpu *vcpu, uint64_t argument);

#endif
