/*
 * region/map.h - struct gm_map: what all regions of one machine share, and the lock over the tree.
 *
 * The tree (children, parents, attributes) is read and changed under the map's lock only. A function
 * that needs it takes a struct map_locked, which only map_lock() makes. What readers without the lock
 * see of a region are its immutable fields; everything mutable reaches them through views.
 *
 * A region whose last reference goes is put on the graveyard (lock-free), and buried by whoever gets
 * the lock: unlinked from the tree under it, then released, with no lock held.
 */
#ifndef REGION_MAP_H
#define REGION_MAP_H

#include "base/alloc.h"
#include "base/fork.h"
#include "base/lock.h"
#include "base/readers.h"
#include "base/ref.h"
#include "base/scratch.h"

#include <guestmem/map.h>

#include <stdatomic.h>

struct hub;

struct gm_map {
    struct ref refs; /* one of gm_map_new()'s caller, one of each region, view and space */
    struct gm_allocator allocator;
    struct fork_mark mark; /* whose process it is */
    struct readers
        readers; /* cached translations; its count is of commits that published something */
    struct gm_log_hook log;
    struct lock lock;
    bool guest_big_endian;
    bool closed; /* gm_map_free() was called: nothing can be edited any more */

    struct gm_region *regions; /* all that live, for teardown; by gm_region.next_in_map */
    _Atomic(struct gm_region *) graveyard;
    atomic_uint burials;   /* threads that have taken the dead out and still release them */
    uint32_t log_all_mask; /* clients that log every region */

    /* Unmaps, and maps, that any IOMMU of this map has been told of: region/iommu.h. */
    atomic_uint_fast64_t iommu_unmaps;
    atomic_uint_fast64_t iommu_maps;

    /*
     * Dispatches coalesced writes that are pending, if there can be any (vm/coalesced.h). Set once, before
     * the first region is made.
     */
    void (*flush)(void *opaque);
    void *flush_opaque;

    struct hub *hub; /* spaces, cells and listeners: space/'s, opaque here */

    struct scratch scratch; /* under the lock: what lives no longer than a commit */
};

/* Is the calling thread where a commit could wait for itself: under the lock, or in an IOMMU
 * notifier's callback, which whoever has the lock may wait for? */
bool map_is_locked_out(const struct gm_map *map);

/* Proof that the calling thread holds the map's lock. */
struct map_locked {
    struct gm_map *map;
};

static inline struct map_locked map_lock(struct gm_map *map)
{
    lock_take(&map->lock);
    return (struct map_locked){map};
}

/* Drop the lock, and bury what died meanwhile. Calls release callbacks; the map may be gone afterwards
 * if the caller has no reference. */
void map_unlock(struct map_locked locked);

/* It is a copy in a child of fork(), which may only take it down. */
static inline bool map_is_copy(const struct gm_map *map)
{
    return fork_mark_is_copy(&map->mark);
}

static inline void map_get(struct gm_map *map)
{
    ref_get(&map->refs);
}

/* Drop a reference; the last one frees the map's memory. */
void map_put(struct gm_map *map);

/*
 * Bury the dead if the lock is free now; else its holder does when it drops the lock. From inside a
 * release callback: whoever called that does, so that releases which lead to releases cost no stack.
 */
void map_bury(struct gm_map *map);

/* Wait until all that are dead by now have been released, by whomever. Not from a callback. */
void map_wait_buried(struct gm_map *map);

#endif
