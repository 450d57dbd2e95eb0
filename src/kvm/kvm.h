/*
 * kvm/kvm.h - /dev/kvm itself: opening it, making a VM, and asking what it can do.
 *
 * Nothing is assumed: what a kernel does not announce is not used.
 */
#ifndef KVM_KVM_H
#define KVM_KVM_H

#include <guestmem/types.h>

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define KVM_DEVICE_PATH "/dev/kvm"

/* What one VM of one kernel can do. */
struct kvm_features {
    uint32_t max_slots;      /* user slots */
    size_t run_bytes;        /* of a vCPU's mapped kvm_run area */
    bool readonly_slots;     /* writes to such a slot exit as MMIO */
    bool join_works;         /* a slot may cover what several slots covered before */
    bool destroy_works;      /* slots can be deleted */
    bool manual_protect;     /* reading a log and clearing it are two steps */
    bool eventfds;           /* KVM_IOEVENTFD */
    bool eventfds_any_size;  /* ... also for writes of every size */
    bool immediate_exit;     /* kvm_run.immediate_exit */
    uint32_t coalesced_page; /* of a vCPU's area: the ring of coalesced MMIO; 0: there is none */
    bool coalesced_ports;    /* ... and of ports */
    bool guest_memfd;        /* slots with a guest memfd, by KVM_SET_USER_MEMORY_REGION2 */
    unsigned spaces;         /* address spaces: 2 where SMM has its own */
    uint32_t ring_cap;   /* the better of KVM_CAP_DIRTY_LOG_RING and _ACQ_REL; 0: no dirty rings */
    uint32_t ring_bytes; /* ... the largest */
};

/* An ioctl, again while a signal interrupts it. Not for KVM_RUN. Return: its result, or -errno. */
int kvm_ioctl(int fd, unsigned long request, void *argument);

/*
 * Open the device and check that it speaks the API that everyone speaks.
 * Return: 0; -ENOENT, -EACCES, -ENODEV or what else open() says; -EOPNOTSUPP no KVM, or another
 * API version. The diag says how to go on.
 */
int kvm_open(const char *path, int *fd, struct gm_diag *diag);

/* Return: 0; errno of KVM_CREATE_VM. */
int kvm_make_vm(int system_fd, int *vm_fd, struct gm_diag *diag);

/* Return: 0; -EOPNOTSUPP the kernel lacks what no map can do without. */
int kvm_probe(int system_fd, int vm_fd, struct kvm_features *features, struct gm_diag *diag);

#endif
