/*
 * space/space.h - an address space, and the cell that publishes its view.
 *
 * A cell stands for one resolved root. All spaces that resolve to it share the cell, so a commit that
 * changes the view stores one pointer, however many spaces show it. Readers follow two pointers:
 * space -> cell -> view, both under RCU.
 */
#ifndef SPACE_SPACE_H
#define SPACE_SPACE_H

#include "base/rcu.h"
#include "view/view.h"

#include <guestmem/space.h>

#include <stdatomic.h>

struct cell;

struct gm_space {
    struct ref
        refs; /* the caller's, dropped by gm_space_free(), and those of accesses that outlive a section */
    struct gm_map *map; /* referenced */
    char *name;
    unsigned index;
    struct gm_region *root; /* under the map's lock; referenced */
    _Atomic(struct cell *) cell;
    struct gm_space *next; /* under the map's lock: all spaces of the map, by index */
    struct gm_space **prev;
    struct gm_space *next_in_cell;
    struct gm_space **prev_in_cell;
    struct cell *next_cell; /* scratch: where the commit under way moves the space; NULL: nowhere */
    size_t move_index;      /* scratch: of its move there */
    unsigned listener_count;  /* listeners of this space alone: it cannot end before them */
    atomic_uint bounce_bytes; /* in use by gm_map_range() */
    struct rcu_item reclaim;
};

/* Drop a reference; the last frees the space's memory. */
void space_put(struct gm_space *space);

/* Drop the map's reference once all readers that may have found the space have left. */
void space_retire(struct gm_space *space);

#endif
