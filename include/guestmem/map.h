/*
 * guestmem/map.h - a map: one machine's regions, address spaces and listeners. Everything else hangs
 * from it; two maps share nothing but RAM blocks.
 */
#ifndef GUESTMEM_MAP_H
#define GUESTMEM_MAP_H

#include <guestmem/types.h>

#ifdef __cplusplus
extern "C" {
#endif

struct gm_map_options {
    size_t size;                          /* sizeof(struct gm_map_options) */
    const struct gm_allocator *allocator; /* copied; NULL for malloc */
    uint32_t max_view_ranges;             /* a view past this fails the commit; 0 for 2^20 */
    uint32_t max_render_steps;            /* region visits of one render; 0 for 16 million */
    bool guest_big_endian;                /* what GM_ORDER_GUEST means */
    struct gm_log_hook log;               /* of the map, and of gm_vm_open()'s slots */
};

/*
 * Make an empty map: no regions, no address spaces.
 * @options: NULL for all defaults.
 * Return: 0; -EINVAL, -E2BIG options->size (types.h); -ENOMEM; -EOPNOTSUPP Linux before 4.14.
 */
GM_MUST_CHECK int gm_map_new(const struct gm_map_options *options, struct gm_map **map,
                             struct gm_diag *diag);

/*
 * Give up the map: its spaces and listeners end without being told, regions are detached from each
 * other and those which nobody else holds are released. Regions that the caller or a reader still
 * holds stay valid until put; the map's memory itself goes with the last of them. So do views, caches,
 * mappings and transactions until they end: a commit is -EIO, a bounce buffer is not written back
 * (GM_ACCESS_DECODE).
 * Context: no reader, access or transaction of this map in progress in another thread; not from a
 * listener's callback.
 */
void gm_map_free(struct gm_map *map);

/*
 * Wait until every reader that began before has ended and each region that nobody reaches any more
 * has had its release callback. Never needed for correctness of memory; useful before dlclose() and
 * in tests. With @map NULL: until what all maps had deferred by now is done; after the last
 * gm_map_free() this is what makes it safe to unload the library, or to end an allocator. In a child of fork() a map of the
 * parent's has nothing to wait for; NULL would wait for ever there, for liburcu's thread.
 * Context: not from a callback of any kind, nor inside gm_view_get()..put; blocks.
 */
void gm_map_quiesce(struct gm_map *map);

/* Counts since the map was made; all only grow. */
struct gm_map_stats {
    uint64_t commits;         /* outermost commits that succeeded */
    uint64_t failed_commits;  /* ... that failed and changed nothing */
    uint64_t rendered_views;  /* views whose ranges were computed, wholly or in part */
    uint64_t rendered_ranges; /* ranges that rendering gave out */
    uint64_t visited_regions; /* steps that rendering took */
    uint64_t listener_calls;  /* callbacks of listeners, all kinds */
};
void gm_map_stats(const struct gm_map *map, struct gm_map_stats *stats);

/* True once an undo has failed: every commit returns -EIO from then on. */
bool gm_map_is_broken(const struct gm_map *map);

#ifdef __cplusplus
}
#endif

#endif
