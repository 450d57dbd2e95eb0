/*
 * region/iommu.h - what an IOMMU region has beside its translation: notifiers, and counts of changes.
 *
 * A translation is used in two steps: translate is asked outside of read sections, and what it said is used
 * inside one. An unmap between the two is noticed by a count of the map's: it is read before translate is
 * asked, and again inside the section. gm_iommu_notify() adds to it and then waits for the sections that
 * are open: a section that still saw the old count has ended by then. docs/locking.md has the orders.
 *
 * Notifiers are in a list under a lock which is not held while one is called. Who calls one has its turn: others who
 * would call it wait, and who is inside its callback may call it again. It stays in the list while it
 * has users.
 */
#ifndef REGION_IOMMU_H
#define REGION_IOMMU_H

#include "base/alloc.h"
#include "base/lock.h"
#include "region/map.h"

#include <guestmem/iommu.h>

/* An access is denied, and a replay given up, whose translation was taken away so often. */
#define IOMMU_TRIES_MAX 1000u

/* A refusal holds for this much at least, if the IOMMU does not say how large its pages are. */
#define IOMMU_DENIED_MASK 0xfffu

struct iommu {
    struct gm_iommu_ops ops;
    atomic_uint_fast64_t changes; /* maps and unmaps of this region */

    struct lock lock;       /* rank LEAF: what follows */
    pthread_cond_t changed; /* a turn or a registration has ended */
    struct gm_iommu_notifier *notifiers;
    struct gm_iommu_notifier **notifiers_end;
    const void *registrar; /* the thread that is registering or unregistering; NULL: none */
};

struct gm_iommu_notifier {
    struct gm_iommu_notifier_options options;
    struct gm_region *region; /* referenced */

    /* ---- under the lock ---- */
    struct gm_iommu_notifier *next;
    struct gm_iommu_notifier **prev;
    unsigned users;     /* threads that look at it without the lock */
    const void *teller; /* the thread whose turn it is; NULL: none */
    unsigned depth;     /* of its calls */
    bool is_removed;
};

bool iommu_ops_are_valid(const struct gm_iommu_ops *ops);

/* 0 or -ENOMEM. NULL may be freed. */
int iommu_new(const struct gm_allocator *allocator, const struct gm_iommu_ops *ops,
              struct iommu **iommu);
void iommu_free(const struct gm_allocator *allocator, struct iommu *iommu);

/* What stands for the calling thread among those that live. */
const void *iommu_thread(void);

/* Is the calling thread inside a notifier's or notifiers_changed callback of @map? */
bool iommu_is_telling(const struct gm_map *map);

/* Mark, around a callback, that it is. */
struct iommu_frame {
    const struct gm_map *map;
    const struct iommu_frame *outer;
};
void iommu_frame_push(struct iommu_frame *frame, const struct gm_map *map);
void iommu_frame_pop(const struct iommu_frame *frame);

/* Be a user, with a reference on the region: over callbacks that may unregister it. Without the lock. */
void iommu_pin(struct gm_iommu_notifier *notifier);
void iommu_unpin(struct gm_iommu_notifier *notifier);

/* Under the lock: one user less. True: it was removed, and is out of the list; free it after the lock. */
bool iommu_drop_user(struct iommu *iommu, struct gm_iommu_notifier *notifier);

/* Without the lock: free what is out of the list, and drop its region. */
void iommu_notifier_free(struct gm_iommu_notifier *notifier);

/* How often something was unmapped. Acquire: pairs with gm_iommu_notify()'s release, so that who
 * sees the count sees the tables. */
static inline uint64_t iommu_unmaps(const struct gm_map *map)
{
    return atomic_load_explicit(&map->iommu_unmaps, memory_order_acquire);
}

/* How often something changed at all. */
static inline uint64_t iommu_changes(const struct gm_map *map)
{
    return iommu_unmaps(map) + atomic_load_explicit(&map->iommu_maps, memory_order_acquire);
}

#endif
