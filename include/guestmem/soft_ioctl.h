/*
 * guestmem/soft_ioctl.h - the software KVM by Linux's own ioctls: same numbers, structures,
 * results.
 *
 * A request goes to the object that has it: the system (what /dev/kvm answers), a VM, a vCPU; to
 * another it is -ENOTTY or -EINVAL as in Linux. @argument is what the third argument of ioctl()
 * would be: a number or an address. Memory behind addresses is copied so that a bad one is -EFAULT.
 *
 * System: KVM_GET_API_VERSION, KVM_CHECK_EXTENSION, KVM_GET_VCPU_MMAP_SIZE. VM:
 * KVM_CHECK_EXTENSION, KVM_SET_USER_MEMORY_REGION, KVM_SET_USER_MEMORY_REGION2,
 *         KVM_GET_DIRTY_LOG, KVM_CLEAR_DIRTY_LOG, KVM_ENABLE_CAP (MANUAL_DIRTY_LOG_PROTECT2,
 *         DIRTY_LOG_RING, DIRTY_LOG_RING_ACQ_REL, DIRTY_LOG_RING_WITH_BITMAP),
 *         KVM_RESET_DIRTY_RINGS, KVM_SET_TSS_ADDR, KVM_SET_IDENTITY_MAP_ADDR, KVM_SET_NR_MMU_PAGES,
 *         KVM_GET_NR_MMU_PAGES, KVM_SET_MEMORY_ATTRIBUTES, KVM_CREATE_GUEST_MEMFD.
 * vCPU:   KVM_PRE_FAULT_MEMORY, KVM_TRANSLATE. KVM_CREATE_VM and KVM_CREATE_VCPU, which give descriptors, are
 * gm_soft_open(), gm_soft_vcpu_new().
 */
#ifndef GUESTMEM_SOFT_IOCTL_H
#define GUESTMEM_SOFT_IOCTL_H

#include <guestmem/kvm_abi.h>
#include <guestmem/soft.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Return: what the ioctl returns, 0 or more, or its errno, negative (docs/software-kvm.md has a
 * table). Any thread. */
long gm_soft_system_ioctl(unsigned long request, unsigned long argument);
long gm_soft_vm_ioctl(struct gm_soft *soft, unsigned long request, unsigned long argument);
/* Context: the vCPU's thread, not in guest mode. */
long gm_soft_vcpu_ioctl(struct gm_soft_vcpu *vcpu, unsigned long request, unsigned long argument);

#ifdef __cplusplus
}
#endif

#endif
