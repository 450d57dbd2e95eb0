/*
 * soft/msr_filter.h - which MSRs a VM's guests may use, and which accesses the user answers: KVM_X86_SET_MSR_FILTER and
 * KVM_CAP_X86_USER_SPACE_MSR. The user's own KVM_GET_MSRS and KVM_SET_MSRS are not filtered.
 *
 * Source: Linux api.rst at both.
 */
#ifndef SOFT_MSR_FILTER_H
#define SOFT_MSR_FILTER_H

#include "base/lock.h"
#include "x86/x86.h"

#include <linux/kvm.h>
#include <stdatomic.h>

struct gm_soft;

struct msr_filter {
    atomic_uint reasons;      /* KVM_MSR_EXIT_REASON_*: accesses that come out */
    atomic_bool is_on;        /* there are ranges */
    struct lock lock;         /* rank LEAF: all below */
    struct kvm_msr_filter is; /* bitmaps are the VM's own, or NULL */
};

/* Return: 0; -errno of a mutex. */
int msr_filter_init(struct msr_filter *filter);
void msr_filter_fini(struct msr_filter *filter, const struct gm_allocator *allocator);

/* May a guest's RDMSR, or WRMSR, do it? Any thread. */
bool msr_filter_allows(struct msr_filter *filter, uint32_t number, bool is_write);

/* Does what a guest may not, for this reason, come out to the user? Any thread. */
bool msr_filter_asks(const struct msr_filter *filter, enum x86_msr_result result);

/* As the exit says it. */
uint32_t msr_filter_reason(enum x86_msr_result result);

/* KVM_CAP_X86_USER_SPACE_MSR. Return: 0; -EINVAL an unknown reason. */
int msr_filter_set_reasons(struct msr_filter *filter, uint64_t reasons);

/* KVM_X86_SET_MSR_FILTER. Return: 0; -EFAULT; -EINVAL flags, a bitmap too large, all denied; -ENOMEM. On error the old one holds. */
long ioctl_set_msr_filter(struct gm_soft *soft, uint64_t argument);

#endif
