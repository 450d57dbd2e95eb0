/*
 * vm/vm.h - a VM and its vCPUs, as this room sees them.
 */
#ifndef VM_VM_H
#define VM_VM_H

#include "base/gate.h"
#include "base/lock.h"
#include "kvm/backend.h"
#include "kvm/kvm.h"
#include "region/map.h"
#include "slots/ports.h"
#include "vm/coalesced.h"
#include "vm/kick.h"

#include <guestmem/vm.h>

#include <stdatomic.h>

/* The address space, for KVM, of vCPUs in system management mode. */
#define SMM_SPACE 1u

/* What differs with what is under the map: one table for each (accel_kvm.c, accel_soft.c). */
struct vm_accel {
    /* Make what a map can be attached to. Errors as gm_vm_open(). */
    int (*begin)(struct gm_vm *vm, const struct gm_vm_options *options, struct gm_diag *diag);
    /* Attach to the two spaces. The slots come last: what fails before or in them leaves nothing
     * behind that has to be detached. */
    int (*attach)(struct gm_vm *vm, const struct gm_vm_options *options, struct gm_diag *diag);
    /* Attach SMM's space: vm->smm. Errors as gm_vm_add_smm(). */
    int (*attach_smm)(struct gm_vm *vm, struct gm_diag *diag);
    /* May it be closed? Return: 0; -EBUSY. */
    int (*check_idle)(struct gm_vm *vm, struct gm_diag *diag);
    /* Undo begin, and what attach made: the map and its vCPUs have gone. */
    void (*end)(struct gm_vm *vm);
    /* In a copy of the process, before its end: what is under the map is the parent's, and is not asked for anything. */
    void (*forget)(struct gm_vm *vm);
    /* In a copy, in place of all else: its memory may be in any state. Close what are only descriptors. */
    void (*drop)(struct gm_vm *vm);
    /* As ioctl() on the system's and the VM's descriptors. Return: 0 or more, or -errno. */
    long (*system_ioctl)(struct gm_vm *vm, unsigned long request, unsigned long argument);
    long (*vm_ioctl)(struct gm_vm *vm, unsigned long request, unsigned long argument);

    /* Make a vCPU's own part, and undo that. Errors as gm_vcpu_new(). */
    int (*make_vcpu)(struct gm_vcpu *vcpu, unsigned id, struct gm_diag *diag);
    void (*end_vcpu)(struct gm_vcpu *vcpu);
    void (*drop_vcpu)(struct gm_vcpu *vcpu); /* as drop */
    long (*vcpu_ioctl)(struct gm_vcpu *vcpu, unsigned long request, unsigned long argument);
    /* Around a KVM_RUN of the caller's. Enter may wait for an edit. */
    void (*enter)(struct gm_vcpu *vcpu);
    void (*leave)(struct gm_vcpu *vcpu);
    /*
     * KVM_RUN, once; if the vCPU is to stop, no further than its last exit's instruction.
     * Return: 0 an exit; -errno. *is_ours: -EINTR was no signal of the caller's.
     */
    int (*run)(struct gm_vcpu *vcpu, bool *is_ours);
    /* Make KVM_RUN return, now or the next time. Any thread; async-signal-safe. */
    void (*kick)(struct gm_vcpu *vcpu);
    /* KVM_RUN came out with KVM_EXIT_DIRTY_RING_FULL. Return: can it go on? */
    bool (*ring_full)(struct gm_vcpu *vcpu);
};
extern const struct vm_accel vm_accel_kvm;
extern const struct vm_accel vm_accel_soft;

struct gm_vm {
    struct gm_allocator allocator;
    const struct vm_accel *accel;
    bool
        is_torn; /* in a copy: a vCPU was running as the process was copied, and was given up since */

    /* On /dev/kvm. */
    int system_fd;
    int vm_fd;
    bool owns_fds;
    int kick_signal;
    struct kvm_backend backend;

    struct gm_soft *soft; /* NULL: on /dev/kvm */

    struct gm_map *map;
    struct gm_region *memory_root;
    struct gm_region *ports_root;
    struct gm_space *memory;
    struct gm_space *ports;
    struct gm_slots *slots;
    struct ports *ports_listener;
    struct coalesced coalesced;
    uint32_t max_slots; /* of the options */

    struct gm_space *smm; /* what vCPUs in SMM see; NULL: the same as others */
    struct gm_slots *smm_slots;

    struct lock lock; /* protects the list below; rank LEAF */
    struct gm_vcpu *vcpus;
};

/* Counted by the thread that runs the vCPU, read by any: relaxed, each number for itself. */
struct vcpu_counts {
    atomic_ullong runs;
    atomic_ullong mmio_reads;
    atomic_ullong mmio_writes;
    atomic_ullong port_reads;
    atomic_ullong port_writes;
    atomic_ullong unmapped;
    atomic_ullong interrupted;
    atomic_ullong rings_full;
    atomic_ullong other;
};

struct gm_vcpu {
    struct gm_vm *vm;
    int fd;                    /* -1 of a software VM */
    struct gm_soft_vcpu *soft; /* NULL: on /dev/kvm */
    struct kvm_run *run;
    struct kvm_coalesced_mmio_ring *coalesced_ring; /* the VM's, in the area at `run`; or NULL */
    size_t run_bytes;                               /* of the area at `run` */
    bool has_immediate_exit;                        /* kvm_run.immediate_exit */
    bool owns_fd;       /* gm_vcpu_new(): the descriptor and the mapping are ours */
    bool own_signal;    /* kicked by `kick`; else by the caller's function */
    atomic_bool stop;   /* gm_vcpu_kick() was called; release, pairs with the exchange in run.c */
    atomic_bool in_run; /* a thread is in gm_vcpu_run(), or between enter and leave */
    struct gate_vcpu at_gate;
    struct kick kick;
    struct dirty_ring ring; /* of /dev/kvm; a software vCPU has its own */
    struct vcpu_counts counts;
    struct gm_vcpu *next; /* under the VM's lock */
};

/* The VM is a copy in a child of fork(), which may only close it. */
static inline bool vm_is_copy(const struct gm_vm *vm)
{
    return map_is_copy(vm->map);
}

/* 0, or -EIO: it is one. */
int vm_in_parent(const struct gm_vm *vm, struct gm_diag *diag);

/* One more; the only writer needs no locked instruction. */
static inline void vcpu_count(atomic_ullong *counter)
{
    unsigned long long now = atomic_load_explicit(counter, memory_order_relaxed);

    atomic_store_explicit(counter, now + 1, memory_order_relaxed);
}

/*
 * Make the next KVM_RUN return -EINTR as soon as the last exit's instruction is complete.
 * Return: false: there is no way to.
 */
bool vcpu_arm_immediate_exit(struct gm_vcpu *vcpu);

/* A descriptor of the caller's becomes the vCPU's; @kick as gm_vcpu_attach(). accel_kvm.c. */
int vcpu_take_fd(struct gm_vcpu *vcpu, void (*kick)(void *opaque), void *opaque,
                 struct gm_diag *diag);

/* Is a thread in a vCPU's run? Any vCPU of gm_vcpu_new() and gm_vcpu_attach(). */
bool vcpu_any_runs(struct gm_vm *vm);

/* The calling thread becomes, stops being, the one that a kick makes leave KVM_RUN. 0 or -errno. */
int vcpu_bind(struct gm_vcpu *vcpu);
void vcpu_unbind(struct gm_vcpu *vcpu);

#endif
