/*
 * soft/ioctl.h - the requests of the ioctl face, one function each. @argument is the ioctl's third:
 * a number, or the address of a structure that is copied by soft/usercopy.h.
 */
#ifndef SOFT_IOCTL_H
#define SOFT_IOCTL_H

#include <guestmem/soft_ioctl.h>

/* ioctl_slots.c */
long ioctl_set_region(struct gm_soft *soft, uint64_t argument);
long ioctl_set_region2(struct gm_soft *soft, uint64_t argument);
long ioctl_set_attributes(struct gm_soft *soft, uint64_t argument);
long ioctl_create_guest_memfd(struct gm_soft *soft, uint64_t argument);
long ioctl_set_identity(struct gm_soft *soft, uint64_t argument);
long ioctl_translate(struct gm_soft_vcpu *vcpu, uint64_t argument);
long ioctl_pre_fault(struct gm_soft_vcpu *vcpu, uint64_t argument);

/* ioctl_log.c */
long ioctl_get_log(struct gm_soft *soft, uint64_t argument);
long ioctl_clear_log(struct gm_soft *soft, uint64_t argument);

/* ioctl_chips.c: the VM's requests that are the interrupt chips'. -ENOTTY: it is none of these. */
long ioctl_vm_chips(struct gm_soft *soft, unsigned long request, uint64_t argument);
long ioctl_get_lapic(struct gm_soft_vcpu *vcpu, uint64_t argument);
long ioctl_set_lapic(struct gm_soft_vcpu *vcpu, uint64_t argument);
long ioctl_set_vapic(struct gm_soft_vcpu *vcpu, uint64_t argument);

/* ioctl_io.c: those of eventfds and coalesced zones. -ENOTTY: it is none of these. */
long ioctl_vm_io(struct gm_soft *soft, unsigned long request, uint64_t argument);

/* cpuid.c */
#define CPUID_ENTRIES_MAX 256u
long ioctl_get_supported_cpuid(uint64_t argument);
long ioctl_get_emulated_cpuid(uint64_t argument);

/* vcpu_cpuid.c */
long ioctl_set_cpuid(struct gm_soft_vcpu *vcpu, uint64_t argument);
long ioctl_set_cpuid2(struct gm_soft_vcpu *vcpu, uint64_t argument);
long ioctl_get_cpuid2(struct gm_soft_vcpu *vcpu, uint64_t argument);

/* vcpu_regs.c */
long ioctl_get_regs(struct gm_soft_vcpu *vcpu, uint64_t argument);
long ioctl_set_regs(struct gm_soft_vcpu *vcpu, uint64_t argument);
long ioctl_get_debugregs(struct gm_soft_vcpu *vcpu, uint64_t argument);
long ioctl_set_debugregs(struct gm_soft_vcpu *vcpu, uint64_t argument);

/* vcpu_sregs.c */
long ioctl_get_sregs(struct gm_soft_vcpu *vcpu, uint64_t argument);
long ioctl_set_sregs(struct gm_soft_vcpu *vcpu, uint64_t argument);
long ioctl_get_sregs2(struct gm_soft_vcpu *vcpu, uint64_t argument);
long ioctl_set_sregs2(struct gm_soft_vcpu *vcpu, uint64_t argument);
/* Tell the mmu of control registers that were set. Return: whether it knows them. */
bool vcpu_sync_paging(struct gm_soft_vcpu *vcpu);

/* vcpu_fpu.c */
long ioctl_get_fpu(struct gm_soft_vcpu *vcpu, uint64_t argument);
long ioctl_set_fpu(struct gm_soft_vcpu *vcpu, uint64_t argument);
long ioctl_get_xsave(struct gm_soft_vcpu *vcpu, uint64_t argument);
long ioctl_set_xsave(struct gm_soft_vcpu *vcpu, uint64_t argument);
long ioctl_get_xcrs(struct gm_soft_vcpu *vcpu, uint64_t argument);
long ioctl_set_xcrs(struct gm_soft_vcpu *vcpu, uint64_t argument);

/* vcpu_msrs.c */
long ioctl_get_msrs(struct gm_soft_vcpu *vcpu, uint64_t argument);
long ioctl_set_msrs(struct gm_soft_vcpu *vcpu, uint64_t argument);
long ioctl_get_feature_msrs(uint64_t argument);
long ioctl_get_msr_indices(uint64_t argument);
long ioctl_get_feature_msr_indices(uint64_t argument);
long ioctl_get_tsc_khz(struct gm_soft_vcpu *vcpu, uint64_t argument);
long ioctl_set_tsc_khz(struct gm_soft_vcpu *vcpu, uint64_t argument);

/* vcpu_events.c */
long ioctl_get_events(struct gm_soft_vcpu *vcpu, uint64_t argument);
long ioctl_set_events(struct gm_soft_vcpu *vcpu, uint64_t argument);
long ioctl_interrupt(struct gm_soft_vcpu *vcpu, uint64_t argument);
long ioctl_nmi(struct gm_soft_vcpu *vcpu, uint64_t argument);
long ioctl_get_mp_state(struct gm_soft_vcpu *vcpu, uint64_t argument);
long ioctl_set_mp_state(struct gm_soft_vcpu *vcpu, uint64_t argument);

/* capability.c */
long ioctl_check_extension(uint64_t number);
long ioctl_enable_cap(struct gm_soft *soft, uint64_t argument);

#endif
