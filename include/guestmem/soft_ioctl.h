/*
 * guestmem/soft_ioctl.h - the software KVM by Linux's own ioctls: same numbers, structures,
 * results.
 *
 * A request goes to the object that has it: the system (what /dev/kvm answers), a VM, a vCPU; to
 * another it is -ENOTTY or -EINVAL as in Linux. @argument is what the third argument of ioctl()
 * would be: a number or an address. Memory behind addresses is copied so that a bad one is -EFAULT.
 *
 * System: KVM_GET_API_VERSION, KVM_CHECK_EXTENSION, KVM_GET_VCPU_MMAP_SIZE, KVM_GET_SUPPORTED_CPUID,
 *         KVM_GET_EMULATED_CPUID, KVM_GET_MSR_INDEX_LIST, KVM_GET_MSR_FEATURE_INDEX_LIST, KVM_GET_MSRS,
 *         KVM_X86_GET_MCE_CAP_SUPPORTED.
 * VM:     KVM_CHECK_EXTENSION, KVM_SET_USER_MEMORY_REGION, KVM_SET_USER_MEMORY_REGION2,
 *         KVM_GET_DIRTY_LOG, KVM_CLEAR_DIRTY_LOG, KVM_ENABLE_CAP (MANUAL_DIRTY_LOG_PROTECT2,
 *         DIRTY_LOG_RING, DIRTY_LOG_RING_ACQ_REL, DIRTY_LOG_RING_WITH_BITMAP, X86_USER_SPACE_MSR,
 *         MAX_VCPU_ID, MSR_PLATFORM_INFO), KVM_SET_BOOT_CPU_ID,
 *         KVM_RESET_DIRTY_RINGS, KVM_SET_TSS_ADDR, KVM_SET_IDENTITY_MAP_ADDR, KVM_SET_NR_MMU_PAGES,
 *         KVM_GET_NR_MMU_PAGES, KVM_SET_MEMORY_ATTRIBUTES, KVM_CREATE_GUEST_MEMFD,
 *         KVM_GET_CLOCK, KVM_SET_CLOCK, KVM_X86_SET_MSR_FILTER;
 *         KVM_CREATE_IRQCHIP, KVM_CREATE_PIT, KVM_CREATE_PIT2, KVM_IRQ_LINE, KVM_IRQ_LINE_STATUS, KVM_SIGNAL_MSI,
 *         KVM_SET_GSI_ROUTING; both GET and SET of IRQCHIP, PIT2.
 * vCPU:   KVM_RUN, KVM_SET_SIGNAL_MASK, KVM_SET_GUEST_DEBUG, KVM_PRE_FAULT_MEMORY, KVM_TRANSLATE; both GET and SET of
 *         REGS, SREGS, SREGS2, FPU, XSAVE, XCRS, DEBUGREGS, MSRS, CPUID2, VCPU_EVENTS, MP_STATE, TSC_KHZ, LAPIC;
 *         KVM_GET_XSAVE2, KVM_SET_CPUID, KVM_INTERRUPT, KVM_NMI,
 *         KVM_KVMCLOCK_CTRL, KVM_SET_VAPIC_ADDR, KVM_X86_SETUP_MCE, KVM_X86_SET_MCE.
 *
 * KVM_CREATE_VM and KVM_CREATE_VCPU, which give descriptors, are gm_soft_open(), gm_soft_vcpu_new().
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
/*
 * Context: any thread that is not in this vCPU's guest mode: one at a time, others wait, for the end of KVM_RUN as well. Not from
 * a tracker's callback for the vCPU that has written.
 */
long gm_soft_vcpu_ioctl(struct gm_soft_vcpu *vcpu, unsigned long request, unsigned long argument);

#ifdef __cplusplus
}
#endif

#endif
