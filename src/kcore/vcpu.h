/*
 * kcore/vcpu.h - a vCPU as the VM sees it: where it stands, and what it is asked to do.
 *
 * A vCPU is in guest mode between kcore_vcpu_enter() and kcore_vcpu_leave(): then, and only then, it
 * uses its TLB and walks its tables. Whoever needs it to forget translations appends to the VM's flush
 * log (mmu/flush.h) and holds vCPUs out for a moment; each replays what it missed when it comes in
 * again. A vCPU must look at `requests` at each instruction's boundary, and leave if it is not 0.
 */
#ifndef KCORE_VCPU_H
#define KCORE_VCPU_H

#include "base/gate.h"
#include "kcore/ring.h"

enum kcore_request {
    KCORE_REQUEST_LEAVE = 1u << 0, /* somebody holds the gate: leave guest mode, and come again */
    KCORE_REQUEST_KICK = 1u << 1,  /* the user wants the vCPU back */
    KCORE_REQUEST_EVENT = 1u << 2, /* an interrupt chip has something for it */
};

struct kcore_vcpu {
    struct kcore *core;
    unsigned id;
    /* enum kcore_request. Set by anyone, relaxed loads at boundaries; cleared by the vCPU. By __atomic
     * builtins, as it lies in a public structure, with an inlined check (guestmem/mmu.h). */
    uint32_t *requests;
    struct gate_vcpu at_gate;
    bool in_guest; /* the vCPU's thread's own */
    /* Written to by a request while the vCPU sleeps out of guest mode (soft/sleep.h); -1: it never does. */
    int wake_fd;
    atomic_bool is_asleep;
    struct ring ring;
    struct kcore_vcpu *next; /* under the VM's vcpus_lock */
};

#define KCORE_VCPU_IDS 4096u /* KVM_MAX_VCPU_IDS on x86 */

/*
 * @requests: the word that the vCPU polls; outlives it.
 * Context: takes the slots lock, as fini does.
 * Return: 0; -EEXIST id; -EINVAL id; -ENOMEM.
 */
int kcore_vcpu_init(struct kcore_vcpu *vcpu, struct kcore *core, unsigned id, uint32_t *requests);
/* Context: not in guest mode. */
void kcore_vcpu_fini(struct kcore_vcpu *vcpu);

/* Waits while vCPUs are held. Clears REQUEST_LEAVE, and leaves all others. The vCPU's thread. */
void kcore_vcpu_enter(struct kcore_vcpu *vcpu);
void kcore_vcpu_leave(struct kcore_vcpu *vcpu);

/* Ask from any thread; async-signal-safe. */
void kcore_vcpu_request(struct kcore_vcpu *vcpu, unsigned request);

#endif
