/*
 * view/view.h - a flat view: sorted, immutable, reference-counted.
 *
 * The ranges live in leaves of at most VIEW_LEAF_RANGES; a view is an array of leaves with their first
 * addresses. A commit that changes three ranges makes one or two leaves anew and shares the others
 * with the view before it, so its cost does not grow with the map but by a pointer for each leaf.
 *
 *   I-1  ranges ascend and do not overlap, within a leaf and across leaves
 *   I-2  no leaf is empty; a view without ranges has no leaves
 *   I-3  neighbours that could merge (range_merges) have merged
 *   I-4  a leaf holds a reference on each range's region and eventfd list; a view on its leaves and root
 */
#ifndef VIEW_VIEW_H
#define VIEW_VIEW_H

#include "base/addr.h"
#include "base/alloc.h"
#include "base/rcu.h"
#include "base/ref.h"
#include "region/region.h"

#include <guestmem/space.h>

#define VIEW_LEAF_RANGES 16u

/* Beside GM_SECTION_*: can it be read, written as host memory (not unbacked, no RAM device)? */
#define RANGE_DIRECT_READ (1u << 16)
#define RANGE_DIRECT_WRITE (1u << 17)
#define RANGE_PUBLIC_FLAGS 0xffffu

struct hva_index;

struct range {
    uint64_t gpa;
    uint64_t last;
    struct gm_region *region;
    uint64_t offset; /* of gpa's byte in the region */
    uint8_t *hva;    /* of gpa's byte; NULL without host memory */
    uint32_t flags;
    uint32_t log_mask;
    struct eventfd_list *eventfds;
};

struct view_leaf {
    struct ref refs;
    uint32_t count;
    uint64_t
        starts[VIEW_LEAF_RANGES]; /* ranges[i].gpa again: what a search touches, side by side */
    struct range ranges[VIEW_LEAF_RANGES];
};

struct gm_view {
    struct ref refs;
    uint32_t leaf_count;
    size_t range_count;
    struct gm_map *map;     /* referenced */
    struct gm_region *root; /* referenced; NULL for an empty view */
    struct rcu_item reclaim;
    struct view_leaf **leaves;
    _Atomic(struct hva_index *) hva_index; /* made on first need: view/hva_index.h */
    uint64_t firsts[]; /* leaf_count starts, then (in the same allocation) the leaves */
};

/* May @b, which follows @a, become one range with it? */
bool range_merges(const struct range *a, const struct range *b);

/* The same in everything that a listener of regions is told (not: log mask and eventfds). */
bool range_equals(const struct range *a, const struct range *b);

/*
 * The range that holds @gpa, or NULL; then *hole_last is the last address of the hole around it. Borrowed
 * from the view. Hot path: two binary searches over contiguous keys.
 */
const struct range *view_lookup(const struct gm_view *view, uint64_t gpa, uint64_t *hole_last);

/* The range at @index; index < range_count. */
const struct range *view_range(const struct gm_view *view, size_t index);

/* The number of ranges that end before @gpa: the index of the first that could hold it. */
size_t view_lower_bound(const struct gm_view *view, uint64_t gpa);

/*
 * Building a view, in ascending order: ranges of an old view that are kept, whose leaves are shared where
 * they can be, and new ones. A failed allocation is remembered, and makes view_build_end() fail.
 */
struct view_builder {
    struct gm_map *map;
    const struct gm_view *old; /* NULL: nothing to keep */
    struct view_leaf **leaves; /* referenced */
    size_t leaf_count;
    size_t leaf_capacity;
    struct view_leaf *open; /* being filled; ours alone */
    bool failed;
};

void view_build_begin(struct view_builder *builder, struct gm_map *map, const struct gm_view *old);

/* Keep old's ranges [first, end). */
void view_build_keep(struct view_builder *builder, size_t first, size_t end);

/* Add a new range; its region and eventfd list get references. It must not be mergeable with the last. */
void view_build_add(struct view_builder *builder, const struct range *range);

/* Drop a reference to a leaf. */
void view_leaf_put(const struct gm_allocator *allocator, struct view_leaf *leaf);

/* The finished view with one reference, or NULL without memory. Ends the builder either way. */
struct gm_view *view_build_end(struct view_builder *builder, struct gm_region *root);

static inline void view_get(struct gm_view *view)
{
    ref_get(&view->refs);
}

/* Drop a reference; the last frees the view. The one of a published cell: view_retire(). */
void view_put(struct gm_view *view);

/* Drop the reference of a cell that has published the view, once all readers that may be looking at it
 * without a reference have left. Does not wait. */
void view_retire(struct gm_view *view);

/* A range as the public sees it. @space may be NULL. */
void range_to_section(const struct range *range, struct gm_space *space,
                      struct gm_section *section);

/* Stops the program if I-1 to I-3 do not hold, or a region has no reference (I-4). */
void view_audit(const struct gm_view *view);

#endif
