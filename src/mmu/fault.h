/*
 * mmu/fault.h - what KVM does when a processor's walk found no right: find the slot, its host page, and
 * put an entry into the tables. Out of guest mode, on the vCPU's thread.
 */
#ifndef MMU_FAULT_H
#define MMU_FAULT_H

#include "mmu/host.h"
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

/* What the first phase of handling found: the slot and its host page, made present. */
struct resolved {
    const struct memslots *slots;
    const struct memslot *slot; /* NULL: none there. Used only while its version is the newest */
    uint64_t generation;
    uint64_t token;
    uint64_t attributes;
    struct hva hva;         /* of the 4 KiB page */
    unsigned level;         /* of the leaf, at most */
    unsigned backing_level; /* what the host's pages allow; 0: not asked for yet */
    enum host_kind host_kind;
    struct hva slot_hva; /* to ask for these: of all of the slot */
    uint64_t slot_bytes;
};

/*
 * The first phase alone, for who puts entries elsewhere. FAULT_FIXED: go on.
 * Context: as fault_handle().
 */
enum fault_result fault_resolve(struct mmu_vcpu *vcpu, struct fault *fault,
                                struct resolved *resolved);

/* Has anything changed that it looked at? As an installer, or under mmu's lock; in a read section. */
bool fault_is_stale(const struct mmu_vcpu *vcpu, const struct fault *fault,
                    const struct resolved *resolved);

/*
 * The leaf for the fault's page, as if at level 1, with @write, the right to write in one of its forms, beside what
 * attributes leave of the others; and how large it may be now. Context as above.
 */
uint64_t fault_leaf(const struct mmu *mmu, const struct resolved *resolved, uint64_t write);
unsigned fault_leaf_level(struct mmu *mmu, const struct fault *fault,
                          const struct resolved *resolved);

/* Keep what it found of the host's pages with the slot. Context as above. */
void fault_note_backing(const struct mmu *mmu, const struct resolved *resolved);

/* The page's host address: private pages lie elsewhere. False: a private page without memory. */
bool fault_page_hva(const struct memslot *slot, struct gfn gfn, uint64_t attributes,
                    struct hva *hva);

/*
 * Handle one violation.
 * Context: out of guest mode, no locks; may block in the host's memory management.
 */
enum fault_result fault_handle(struct mmu_vcpu *vcpu, struct fault *fault);

#endif
