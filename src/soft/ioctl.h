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

/* capability.c */
long ioctl_check_extension(uint64_t number);
long ioctl_enable_cap(struct gm_soft *soft, uint64_t argument);

#endif
