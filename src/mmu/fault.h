/*
 * mmu/fault.h - what KVM does when a processor's walk found no right: find the slot, its host page, and
 * put an entry into the tables. Out of guest mode, on the vCPU's thread.
 */
#ifndef MMU_FAULT_H
#define MMU_FAULT_H

#include "mmu/mmu.h"

enum fault_result {
    FAULT_FIXED,   /* the walk will find what it needs */
    FAULT_RETRY,   /* something changed meanwhile: let the processor try again */
    FAULT_REFUSED, /* a write that read-only memory refuses: as MMIO, as of fault->generation */
    FAULT_DENIED,  /* the attributes forbid it: fault->attributes */
    FAULT_ERROR,   /* fault->error: -EFAULT no host memory, -ENOMEM */
};

struct fault {
    struct gfn gfn;
    enum gm_mmu_access access;
    /* Out. */
    uint64_t generation; /* of the vCPU's space's slots */
    uint64_t attributes;
    unsigned level; /* of the leaf, for who goes on behind it */
    int error;
};

/*
 * Handle one violation.
 * Context: out of guest mode, no locks; may block in the host's memory management.
 */
enum fault_result fault_handle(struct mmu_vcpu *vcpu, struct fault *fault);

#endif
