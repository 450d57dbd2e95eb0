/*
 * vm/vm.h - a VM and its vCPUs, as this room sees them.
 */
#ifndef VM_VM_H
#define VM_VM_H

#include "base/gate.h"
#include "base/lock.h"
#include "kvm/backend.h"
#include "kvm/kvm.h"
#include "kvm/ports.h"
#include "vm/kick.h"

#include <guestmem/vm.h>

#include <stdatomic.h>

/* What differs with what is under the map: one table for each (accel_kvm.c, accel_soft.c). */
struct vm_accel {
    /* Make what a map can be attached to. Errors as gm_vm_open(). */
    int (*begin)(struct gm_vm *vm, const struct gm_vm_options *options, struct gm_diag *diag);
    /* Attach to the two spaces. The slots come last: what fails before or in them leaves nothing
     * behind that has to be detached. */
    int (*attach)(struct gm_vm *vm, const struct gm_vm_options *options, struct gm_diag *diag);
    /* May it be closed? Return: 0; -EBUSY. */
    int (*check_idle)(struct gm_vm *vm, struct gm_diag *diag);
    /* Undo begin, and what attach made: the map and its vCPUs have gone. */
    void (*end)(struct gm_vm *vm);
};
extern const struct vm_accel vm_accel_kvm;
extern const struct vm_accel vm_accel_soft;

struct gm_vm {
    struct gm_allocator allocator;
    const struct vm_accel *accel;

    /* On /dev/kvm. */
    int system_fd;
    int vm_fd;
    bool owns_fds;
    int kick_signal;
    struct kvm_backend backend;
    struct kvm_ports *ports_listener; /* NULL: this kernel has no eventfds */

    struct gm_soft *soft; /* NULL: on /dev/kvm */

    struct gm_map *map;
    struct gm_region *memory_root;
    struct gm_region *ports_root;
    struct gm_space *memory;
    struct gm_space *ports;
    struct gm_slots *slots;

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
    atomic_ullong other;
};

struct gm_vcpu {
    struct gm_vm *vm;
    int fd;
    struct kvm_run *run;
    bool owns_fd;       /* gm_vcpu_new(): the descriptor and the mapping are ours */
    bool own_signal;    /* kicked by `kick`; else by the caller's function */
    atomic_bool stop;   /* gm_vcpu_kick() was called; release, pairs with the exchange in run.c */
    atomic_bool in_run; /* a thread is in gm_vcpu_run(), or between enter and leave */
    struct gate_vcpu at_gate;
    struct kick kick;
    struct vcpu_counts counts;
    struct gm_vcpu *next; /* under the VM's lock */
};

/* One more; the only writer needs no locked instruction. */
static inline void vcpu_count(atomic_ullong *counter)
{
    unsigned long long now = atomic_load_explicit(counter, memory_order_relaxed);

    atomic_store_explicit(counter, now + 1, memory_order_relaxed);
}

/* The calling thread becomes, stops being, the one that a kick makes leave KVM_RUN. 0 or -errno. */
int vcpu_bind(struct gm_vcpu *vcpu);
void vcpu_unbind(struct gm_vcpu *vcpu);

#endif
