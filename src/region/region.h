/*
 * region/region.h - a region: a node of the tree. Fields above the line never change; fields below are
 * the tree's, under the map's lock.
 */
#ifndef REGION_REGION_H
#define REGION_REGION_H

#include "base/addr.h"
#include "base/ref.h"
#include "ram/claim.h"
#include "region/children.h"
#include "region/coalesced.h"
#include "region/eventfd.h"
#include "region/map.h"

#include <guestmem/region.h>
#include <guestmem/txn.h>

struct cell;
struct iommu;

struct gm_region {
    struct ref refs;
    enum gm_region_kind kind;
    struct gm_map *map;
    char *name;
    void *opaque;
    void (*release)(void *opaque);
    struct gm_ram *ram;
    uint64_t ram_offset;
    struct gm_io_ops io;
    struct iommu *iommu;      /* of an IOMMU; owned */
    struct gm_region *target; /* of an alias; referenced */
    /* Accesses see coalesced writes that are pending dispatched first. By its option, or from its first coalesced
     * range on; relaxed: whoever adds a range is ahead of accesses that have to see it by the view's publication. */
    atomic_bool flushes;
    uint8_t plain_sizes; /* io_plain_sizes(): region/io_sizes.h */

    /* ---- under the map's lock ---- */
    pos_t size;
    struct ram_claim claim; /* of its block, for what a view may show of it */
    uint64_t addr;
    uint64_t target_offset;
    int32_t priority;
    bool enabled;
    bool readonly;
    bool nonvolatile;
    bool unmergeable;
    bool romd;
    uint32_t log_mask; /* clients that asked for this region; gm_map.log_all_mask comes on top */
    struct eventfd_list *eventfds;
    struct coalesced_list *coalesced;

    struct gm_region *parent;   /* holds a reference on us */
    struct child_link as_child; /* our place among the parent's children */
    struct children children;
    uint64_t enabled_child_count;

    /*
     * Is any cell rendered through us? Counts a cell of our own, a parent with uses and each alias of
     * us with uses. Only then do edits travel upwards through us, so that what an address space has
     * resolved away (two hundred bus masters' windows) costs an edit nothing.
     */
    uint64_t uses;
    struct gm_region *used_aliases; /* aliases of us that have uses, by next_used_alias */
    struct gm_region *next_used_alias;
    struct gm_region **prev_used_alias;
    struct cell *cell; /* the cell that is rendered from us, or NULL */

    uint64_t way_stamp;          /* hub.way_stamp if a space's root leads through us: resolve.h */
    struct gm_region *next_work; /* in a list of regions still to be looked at */
    struct gm_region *next_in_map;
    struct gm_region **prev_in_map;
    struct gm_region *next_dead; /* in the graveyard: not under the lock */
    uint64_t died_ns; /* ... since then, where a log hook is told who lies there for long */
};

/* What gm_region_put() does when the last reference has gone. */
void region_die(struct gm_region *region);

/* gm_region_get() and gm_region_put(), for hot paths. */
static inline void region_get(struct gm_region *region)
{
    ref_get(&region->refs);
}

static inline void region_put(struct gm_region *region)
{
    if (ref_put(&region->refs)) {
        region_die(region);
    }
}

/* Does it have content of its own? Containers and aliases have none. */
static inline bool region_terminates(const struct gm_region *region)
{
    return region->kind != GM_REGION_CONTAINER && region->kind != GM_REGION_ALIAS;
}

static inline bool region_has_ram(const struct gm_region *region)
{
    return region->ram != NULL;
}

static inline struct span region_span(const struct gm_region *region)
{
    return span_of(0, region->size);
}

/* The clients that log it: its own and the map's. 0 without RAM. Under the lock. */
uint32_t region_effective_log_mask(const struct gm_region *region);

/*
 * May the region show @size bytes of its block, and can the block not be made smaller while it
 * does? An unbacked block, seen from its start, has no end. Regions without a block need none.
 * Return: 0; -EINVAL the block ends before.
 */
int region_claim(struct gm_region *region, gm_size_t size);

/* No view shows more than @size bytes any more. */
void region_claim_less(struct gm_region *region, gm_size_t size);

/* Children: keeps the parent's index, its count of enabled ones, uses and references right. */
void region_attach(struct map_locked locked, struct gm_region *parent, struct gm_region *child);
void region_detach(struct map_locked locked, struct gm_region *child);

/*
 * Begin and end the record of its block for every client in @mask: all, or none and -ENOMEM.
 */
int region_log_begin(struct gm_region *region, uint32_t mask);
void region_log_end(struct gm_region *region, uint32_t mask);

/*
 * Drop a reference from under the lock or from the burial itself: the dead lie in the graveyard until whoever
 * is at work there comes to them, so that long chains of regions cost no stack.
 */
void region_put_later(struct gm_region *region);

/* Take all the dead out of the tree; then, without the lock, call their release and free them. */
struct gm_region *region_unlink_dead(struct map_locked locked);
void region_release_dead(struct gm_region *dead);

#endif
