/*
 * mmu/walk.h - the processor's walk of the EPT: without locks, in guest mode, as hardware does it.
 */
#ifndef MMU_WALK_H
#define MMU_WALK_H

#include "mmu/mmu.h"

enum walk_result {
    WALK_OK,        /* there, with the right; accessed and dirty flags are set */
    WALK_TRACKED,   /* a write of a tracked page: `host` may be written, and its tracker told */
    WALK_MMIO,      /* no slot is there */
    WALK_VIOLATION, /* absent, without the right, or MMIO of older slots: a fault */
};

struct walk {
    uint8_t *host;   /* the byte of the address */
    uint64_t rights; /* of the leaf; EPT_WRITE only if it is dirty already */
};

/*
 * Translate for one access.
 * Context: guest mode; or as the taker, with all vCPUs held.
 */
enum walk_result mmu_walk(struct mmu_vcpu *vcpu, uint64_t gpa, enum gm_mmu_access access,
                          struct walk *walk);

/* An entry that others change too, and its next value. */
static inline uint64_t entry_load(const uint64_t *entry)
{
    /* Acquire; pairs with the release of entry_replace(): what the entry leads to is there. */
    return __atomic_load_n(entry, __ATOMIC_ACQUIRE);
}

/* *expected is what is there, if it was something else. */
static inline bool entry_replace(uint64_t *entry, uint64_t *expected, uint64_t value)
{
    return __atomic_compare_exchange_n(entry, expected, value, false, __ATOMIC_ACQ_REL,
                                       __ATOMIC_ACQUIRE);
}

#endif
