/*
 * guestmem/space.h - address spaces, and the flat views that they show.
 *
 * An address space has a root region and shows the flat map that the tree below it comes to. Spaces
 * whose roots resolve to the same region share one view: following an alias with offset 0 that is
 * not smaller than its target, and a container whose only enabled child is at address 0 and fits.
 */
#ifndef GUESTMEM_SPACE_H
#define GUESTMEM_SPACE_H

#include <guestmem/region.h>
#include <guestmem/types.h>

#ifdef __cplusplus
extern "C" {
#endif

/*
 * Make an address space. Listeners of all spaces are told its view as adds.
 * @name: copied; need not be unique.
 * @root: a reference is taken; NULL for an empty space.
 * Context: as gm_txn_commit(), of whose errors it has -EDEADLK, -ELOOP, -E2BIG, -ENOMEM, -EIO and
 * those of listeners; -EINVAL root of another map.
 */
GM_MUST_CHECK int gm_space_new(struct gm_map *map, const char *name, struct gm_region *root,
                               struct gm_space **space, struct gm_diag *diag);

/*
 * End an address space. Its own listeners have to be gone (-EBUSY); listeners of all spaces are told
 * its view as dels. Accesses in other threads may still be under way: they end normally, and later
 * ones through pointers that the caller kept are the caller's error.
 * Context: as gm_txn_commit(). Return: 0; -EBUSY; -EDEADLK; -ENOMEM; what a listener of all spaces
 * returned.
 */
GM_MUST_CHECK int gm_space_free(struct gm_space *space, struct gm_diag *diag);

/* What was given at the making. The name is borrowed until the space ends. */
const char *gm_space_name(const struct gm_space *space);

/* The number given in the order of making, from 0; it is not used again. */
unsigned gm_space_index(const struct gm_space *space);

/* The map it belongs to; borrowed. */
struct gm_map *gm_space_map_of(const struct gm_space *space);

/* A region's visible piece in an address space: one range of a flat view. */
struct gm_section {
    struct gm_space *space; /* NULL in a view that was asked for by itself */
    gm_gpa_t gpa;
    gm_gpa_t last;            /* inclusive: a section may end at 2^64 - 1 */
    struct gm_region *region; /* referenced by the view, or for the callback's time */
    uint64_t offset;          /* of gpa's byte in the region */
    uint32_t flags;           /* GM_SECTION_* */
    uint32_t log_mask;        /* clients that log it; 0 without RAM */
    void *hva;                /* of gpa's byte; NULL without host memory */
};
#define GM_SECTION_READONLY (1u << 0)
#define GM_SECTION_NONVOLATILE (1u << 1)
#define GM_SECTION_ROMD (1u << 2)
#define GM_SECTION_UNMERGEABLE (1u << 3)

/* Bytes in a section. */
gm_size_t gm_section_size(const struct gm_section *section);

/*
 * A snapshot of what a space shows now. It does not change, and keeps the regions it shows alive.
 * Two spaces that share one view give the same pointer.
 * Context: any thread, never blocks. Return: a reference; never NULL.
 */
struct gm_view *gm_view_get(struct gm_space *space);
void gm_view_put(struct gm_view *view);

/*
 * A thread's own way to what a space shows now, for who asks often: gm_reader_view() is some instructions as long as no
 * commit of the map has published anything. It is the hot way to read beside commits; gm_view_get() is for a snapshot that is kept.
 *
 *     gm_reader_init(&reader, space);
 *     while (...) { view = gm_reader_view(&reader); ... gm_view_find(view, gpa, &section) ... }
 *     gm_reader_fini(&reader);
 *
 * One thread at a time may use one reader. It references the view that it gave last, which keeps the regions alive that it
 * shows: a reader that is not asked any more keeps an old one until gm_reader_fini(), which has to come before the space ends.
 */
struct gm_reader {
    const uint64_t *changes; /* atomic: how often the map has changed; odd while it does */
    uint64_t changes_seen;   /* ... as of which the view is the newest; 0: never */
    const struct gm_view *view;
    struct gm_space *space;
};

/* Context: any thread, never blocks. */
void gm_reader_init(struct gm_reader *reader, struct gm_space *space);
void gm_reader_fini(struct gm_reader *reader);

/* gm_reader_view() when the map has changed. */
const struct gm_view *gm_reader_view_slow(struct gm_reader *reader);

/*
 * What the space shows now: a view that does not change, borrowed until the next call for this reader. Never older than a commit
 * that has returned, or of which the thread has seen anything.
 * Context: the reader's thread; outside of what the last view was asked for. Never blocks. May call regions' release callbacks.
 */
static inline const struct gm_view *gm_reader_view(struct gm_reader *reader)
{
    /* Acquire: pairs with the release after a commit's publications. */
    return __builtin_expect(
               __atomic_load_n(reader->changes, __ATOMIC_ACQUIRE) == reader->changes_seen, 1)
               ? reader->view
               : gm_reader_view_slow(reader);
}

/* The region that the view was rendered from (borrowed from the view); NULL for an empty one. */
struct gm_region *gm_view_root(const struct gm_view *view);

/* Number of ranges, and the one at @index (ascending by address); false past the end. */
size_t gm_view_count(const struct gm_view *view);
bool gm_view_at(const struct gm_view *view, size_t index, struct gm_section *section);

/* The range that holds @gpa; false if nothing is mapped there. Logarithmic. */
bool gm_view_find(const struct gm_view *view, gm_gpa_t gpa, struct gm_section *section);

#ifdef __cplusplus
}
#endif

#endif
