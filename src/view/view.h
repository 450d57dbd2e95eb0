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
 *   I-4  a leaf holds a reference on each range's region and lists; a view on its leaves and root
 */
#ifndef VIEW_VIEW_H
#define VIEW_VIEW_H

#include "base/addr.h"
#include "base/alloc.h"
#include "base/rcu.h"
#include "base/ref.h"
#include "region/region.h"
#include "view/gpa_index.h"

#include <guestmem/space.h>

#define VIEW_LEAF_RANGES 16u

/* Beside GM_SECTION_*: can it be read, written as host memory (not unbacked, no RAM device)? */
#define RANGE_DIRECT_READ (1u << 16)
#define RANGE_DIRECT_WRITE (1u << 17)
#define RANGE_CALLS (1u << 18) /* an MMIO region: every access is its callbacks' */
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
    struct coalesced_list *coalesced;
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
    _Atomic(struct gpa_index *) gpa_index; /* made when asked often: view/gpa_index.h */
    atomic_uint cold_lookups;              /* about how often, while there is none */
    uint64_t firsts[]; /* leaf_count starts, then (in the same allocation) the leaves */
};

/* May @b, which follows @a, become one range with it? */
bool range_merges(const struct range *a, const struct range *b);

/* The same in everything that a listener of regions is told (not: log mask, eventfds, coalesced ranges). */
bool range_equals(const struct range *a, const struct range *b);

/* A range as the public sees it: what a lookup by itself copies. */
struct gpa_section {
    struct gm_section section;
    uint64_t unused;
};
_Static_assert(sizeof(struct gpa_section) == GPA_ENTRY_BYTES, "it is a line of the cache, too");

/* Of no range; allows nothing. */
extern const struct gpa_entry gpa_entry_unknown;

/* The number of the only range that could hold @gpa; 0: none, or not known. The hottest path of all: one bucket. */
static inline uint32_t gpa_index_number(const struct gpa_index *index, uint64_t gpa)
{
    const struct gpa_stretch *stretch;

    for (stretch = &index->root;;) {
        uint64_t number = (gpa - stretch->base) >> stretch->shift;
        const struct gpa_bucket *bucket;

        if (__builtin_expect(number >= stretch->bucket_count, 0)) {
            return 0;
        }
        bucket = &stretch->buckets[number];
        if (__builtin_expect(bucket->low != GPA_BUCKET_DEEPER, 1)) {
            return gpa < bucket->split ? bucket->low : bucket->high;
        }
        stretch = &index->deeper[bucket->high];
    }
}

/* The view's index, or NULL: it is cold. Acquire: pairs with the release in view_warm(). */
static inline const struct gpa_index *view_index(const struct gm_view *view)
{
    return atomic_load_explicit(&((struct gm_view *)view)->gpa_index, memory_order_acquire);
}

/*
 * The entry of the range that holds @gpa if any does, by the index; or one of no range, if the index does not know. Borrowed from the view.
 * Whether the range does hold @gpa is left to the caller.
 */
static inline const struct gpa_entry *view_guess(const struct gm_view *view, uint64_t gpa)
{
    const struct gpa_index *index = view_index(view);

    return __builtin_expect(index == NULL, 0) ? &gpa_entry_unknown
                                              : &index->entries[gpa_index_number(index, gpa)];
}

/* The range that holds @gpa, or NULL: a hole, or the index does not know. Borrowed from the view. */
static inline const struct range *view_find(const struct gm_view *view, uint64_t gpa)
{
    const struct gpa_entry *entry = view_guess(view, gpa);

    return __builtin_expect(gpa - entry->gpa <= entry->size_less_1, 1) ? entry->range : NULL;
}

/*
 * May @size_bytes (1, 2, 4 or 8) at @offset be loaded, or stored? @offsets: an entry's load_offsets, or store_offsets. What is
 * shorter than 8 bytes may begin among the last 7 of the range as well.
 */
static inline bool offsets_allow_number(uint64_t offsets, uint64_t offset, unsigned size_bytes)
{
    return __builtin_expect(offset < offsets, 1) ||
           (offset - offsets < 8 - size_bytes && offsets != 0);
}

/* The same for any length, 1 byte or more. */
static inline bool offsets_allow(uint64_t offsets, uint64_t offset, uint64_t size_bytes)
{
    return __builtin_expect(
        offset < offsets ? size_bytes <= 8 || size_bytes - 8 <= offsets - 1 - offset
                         : size_bytes < 8 && offset - offsets < 8 - size_bytes && offsets != 0,
        1);
}

/* The same without an index, and if it is NULL, *hole_last is the last address of the hole around @gpa. Two binary searches. */
const struct range *view_search(const struct gm_view *view, uint64_t gpa, uint64_t *hole_last);

/* The range that holds @gpa, or NULL; then *hole_last is the last address of the hole around it. Borrowed from the view. */
static inline const struct range *view_lookup(const struct gm_view *view, uint64_t gpa,
                                              uint64_t *hole_last)
{
    const struct range *range = view_find(view, gpa);

    return range != NULL ? range : view_search(view, gpa, hole_last);
}

/* Has it no index yet, so that lookups are to be counted? */
static inline bool view_is_cold(const struct gm_view *view)
{
    return atomic_load_explicit(&((struct gm_view *)view)->gpa_index, memory_order_relaxed) == NULL;
}

/* Count a lookup in a cold view. Any thread, also within a read section. Return: it is time for view_warm(). */
bool view_count_cold(struct gm_view *view);

/*
 * Make the view's index, and drop a reference; NULL is allowed. Without memory the view stays as it is.
 * Context: outside of read sections, since it allocates.
 */
void view_warm(struct gm_view *view);

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

/* Add a new range; its region and lists get references. It must not be mergeable with the last. */
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
