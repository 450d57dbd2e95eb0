/*
 * space/hub.h - what a map keeps of its spaces, cells and listeners. All under the map's lock, but for the
 * counts.
 */
#ifndef SPACE_HUB_H
#define SPACE_HUB_H

#include "region/map.h"
#include "view/render.h"

#include <guestmem/listener.h>

#include <stdatomic.h>

struct cell;

struct gm_listener {
    struct gm_map *map;
    struct gm_space *space; /* NULL: all */
    int32_t priority;
    struct gm_listener_ops ops;
    void *opaque;
    bool prepared; /* in the commit under way */
    bool begun;
    bool applied;
};

struct hub {
    struct gm_space *spaces;      /* ascending by index */
    struct gm_space **spaces_end; /* where the next one goes */
    unsigned next_space_index;
    struct cell *cells;
    struct cell *empty_cell; /* of spaces that show nothing; always there */

    struct gm_listener **listeners; /* ascending by priority, then as registered */
    size_t listener_count;
    size_t listener_capacity;
    size_t all_listener_count; /* those of all spaces */

    uint64_t way_stamp; /* of the regions that roots lead through now */
    bool ways_unknown;  /* a failed commit stamped what it then took back */
    struct render_limits limits;
    atomic_bool broken; /* an undo failed; set under the lock, read anywhere */

    /* Counts, written under the lock, read anywhere (relaxed: they order nothing). */
    atomic_uint_fast64_t commits;
    atomic_uint_fast64_t failed_commits;
    atomic_uint_fast64_t rendered_views;
    atomic_uint_fast64_t rendered_ranges;
    atomic_uint_fast64_t visited_regions;
    atomic_uint_fast64_t listener_calls;
};

static inline void count_add(atomic_uint_fast64_t *counter, uint64_t by)
{
    atomic_store_explicit(counter, atomic_load_explicit(counter, memory_order_relaxed) + by,
                          memory_order_relaxed);
}

static inline uint64_t count_read(const atomic_uint_fast64_t *counter)
{
    return atomic_load_explicit(counter, memory_order_relaxed);
}

/*
 * Of a copy, by the thread that forked: was nobody changing the map as the process was copied? If somebody was, nothing can be
 * said about what is in it.
 */
bool map_was_at_rest(struct gm_map *map);

/* struct gm_map_options. */
extern const struct options_kind map_options_kind;

#endif
