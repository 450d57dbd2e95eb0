/*
 * kcore/memslots.h - one version of an address space's slots: immutable, published under RCU.
 *
 * Two persistent trees (index.h) over the same memslots: by guest frame, where slots do not overlap,
 * and by host address, where they may. A change copies the few nodes on its way and shares the rest
 * with the version before, so its cost grows with the logarithm of the number of slots.
 */
#ifndef KCORE_MEMSLOTS_H
#define KCORE_MEMSLOTS_H

#include "base/rcu.h"
#include "kcore/memslot.h"

struct index_node;
struct kcore;

struct memslots {
    /* Grows by one with each version, over both address spaces of a VM: two versions are the same
     * if and only if their generations are. */
    uint64_t generation;
    uint32_t count;
    const struct index_node *by_gfn;
    const struct index_node *by_hva;

    /*
     * The invalid step shares both trees with the version before. It lists, by id, copies of the slots
     * that are about to go or move, which say MEMSLOT_INVALID: lookups give these instead.
     */
    const struct memslot *invalid;
    uint32_t invalid_count;

    /* What goes with this version, after a grace period; the slots lock's. */
    struct rcu_item reclaim;
    struct kcore *core;
    struct index_node *dead_nodes[2]; /* of each tree */
    struct memslot *dead_slots;
    struct memslots *dead_invalid; /* the invalid step between this version and the next */
    unsigned dead_count;           /* what this counts as in kcore.dead_count */
};

/*
 * The slot that holds @gfn, or NULL. It may be MEMSLOT_INVALID. Logarithmic.
 * Context: a read section, or the VM's slots lock.
 */
const struct memslot *memslots_find(const struct memslots *slots, struct gfn gfn);

/* The first slot whose base is @gfn or above; NULL past the last. */
const struct memslot *memslots_next(const struct memslots *slots, struct gfn gfn);

/*
 * Call @visit for each slot that maps a byte of the host range [hva, hva + size_bytes), in no order,
 * with the frames that it maps there. Memory for private pages counts as well: a slot may be visited
 * for that, too. A range that wraps ends with the address space. Costs what is found, times the
 * logarithm.
 */
typedef void memslots_visit_fn(void *opaque, const struct memslot *slot, struct gfn first,
                               uint64_t page_count);
void memslots_visit_hva(const struct memslots *slots, struct hva hva, uint64_t size_bytes,
                        memslots_visit_fn *visit, void *opaque);

/* For those who change slots: the key of a slot's private memory in by_hva. */
#define MEMSLOTS_PRIVATE_ID 0x10000u

#endif
