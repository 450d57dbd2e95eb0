/* view/view.c - looking things up in a flat view, and its lifetime. */
#include "view/view.h"

#include "base/check.h"
#include "view/hva_index.h"

/* Lookups before a view gets an index: one that a commit replaces soon is not worth it. */
#define COLD_LOOKUPS 64u

bool range_merges(const struct range *a, const struct range *b)
{
    return a->region == b->region && a->last != UINT64_MAX && a->last + 1 == b->gpa &&
           a->offset + (a->last - a->gpa) + 1 == b->offset && a->flags == b->flags &&
           a->log_mask == b->log_mask && a->eventfds == b->eventfds &&
           a->coalesced == b->coalesced && (a->flags & GM_SECTION_UNMERGEABLE) == 0;
}

bool range_equals(const struct range *a, const struct range *b)
{
    return a->gpa == b->gpa && a->last == b->last && a->region == b->region &&
           a->offset == b->offset && a->flags == b->flags;
}

/* The number of keys that are not above @gpa; branch-free, so that random addresses cost no misses. */
static inline uint32_t count_not_above(const uint64_t *keys, uint32_t count, uint64_t gpa)
{
    const uint64_t *base = keys;

    while (count > 1) {
        uint32_t half = count / 2;

        base = base[half - 1] <= gpa ? base + half : base;
        count -= half;
    }
    return (uint32_t)(base - keys) + (count == 1 && base[0] <= gpa ? 1 : 0);
}

const struct range *view_search(const struct gm_view *view, uint64_t gpa, uint64_t *hole_last)
{
    uint32_t leaf_after = count_not_above(view->firsts, view->leaf_count, gpa);
    const struct view_leaf *leaf;
    const struct range *range;
    uint32_t after;

    if (leaf_after == 0) {
        *hole_last = view->leaf_count != 0 ? view->firsts[0] - 1 : UINT64_MAX;
        return NULL;
    }
    leaf = view->leaves[leaf_after - 1];
    after = count_not_above(leaf->starts, leaf->count, gpa);
    range = &leaf->ranges[after - 1];
    if (gpa <= range->last) {
        return range;
    }
    if (after < leaf->count) {
        *hole_last = leaf->starts[after] - 1;
    } else {
        *hole_last = leaf_after < view->leaf_count ? view->firsts[leaf_after] - 1 : UINT64_MAX;
    }
    return NULL;
}

/* The leaf that holds the range at *index, which becomes the index within the leaf. */
static const struct view_leaf *leaf_of(const struct gm_view *view, size_t *index)
{
    uint32_t leaf = 0;

    while (*index >= view->leaves[leaf]->count) {
        *index -= view->leaves[leaf]->count;
        leaf++;
    }
    return view->leaves[leaf];
}

const struct range *view_range(const struct gm_view *view, size_t index)
{
    const struct view_leaf *leaf = leaf_of(view, &index);

    return &leaf->ranges[index];
}

size_t view_lower_bound(const struct gm_view *view, uint64_t gpa)
{
    uint32_t leaf_after = count_not_above(view->firsts, view->leaf_count, gpa);
    const struct view_leaf *leaf;
    size_t before = 0;
    uint32_t after;
    uint32_t i;

    if (leaf_after == 0) {
        return 0;
    }
    for (i = 0; i + 1 < leaf_after; i++) {
        before += view->leaves[i]->count;
    }
    leaf = view->leaves[leaf_after - 1];
    after = count_not_above(leaf->starts, leaf->count, gpa);
    return before + after - (leaf->ranges[after - 1].last >= gpa ? 1 : 0);
}

void view_put(struct gm_view *view)
{
    struct gm_map *map = view->map;
    uint32_t i;

    if (!ref_put(&view->refs)) {
        return;
    }
    for (i = 0; i < view->leaf_count; i++) {
        view_leaf_put(&map->allocator, view->leaves[i]);
    }
    hva_index_free(&map->allocator, atomic_load_explicit(&view->hva_index, memory_order_acquire));
    gpa_index_free(&map->allocator, atomic_load_explicit(&view->gpa_index, memory_order_acquire));
    gm_region_put(view->root);
    mem_free(&map->allocator, view);
    map_put(map);
}

bool view_count_cold(struct gm_view *view)
{
    /* Relaxed, and not one step: a lookup that is not counted is no harm. */
    unsigned count = atomic_load_explicit(&view->cold_lookups, memory_order_relaxed);

    atomic_store_explicit(&view->cold_lookups, count + 1, memory_order_relaxed);
    return count == COLD_LOOKUPS && view->range_count > 0;
}

static void make_index(struct gm_view *view)
{
    struct gpa_index *index = gpa_index_new(view);
    struct gpa_index *none = NULL;

    /* release: pairs with the acquire in view_find(). Two threads may both make one; the first is kept. */
    if (index != NULL &&
        !atomic_compare_exchange_strong_explicit(&view->gpa_index, &none, index,
                                                 memory_order_release, memory_order_relaxed)) {
        gpa_index_free(&view->map->allocator, index);
    }
}

void view_warm(struct gm_view *view)
{
    if (view != NULL) {
        make_index(view);
        view_put(view);
    }
}

static void put_retired(struct rcu_item *item)
{
    view_put(rcu_owner(item, struct gm_view, reclaim));
}

void view_retire(struct gm_view *view)
{
    rcu_defer(&view->reclaim, put_retired);
}

void range_to_section(const struct range *range, struct gm_space *space, struct gm_section *section)
{
    *section = (struct gm_section){
        .space = space,
        .gpa = range->gpa,
        .last = range->last,
        .region = range->region,
        .offset = range->offset,
        .flags = range->flags & RANGE_PUBLIC_FLAGS,
        .log_mask = range->log_mask,
        .hva = range->hva,
    };
}

void view_audit(const struct gm_view *view)
{
    const struct range *previous = NULL;
    size_t count = 0;
    uint32_t i;
    uint32_t j;

    for (i = 0; i < view->leaf_count; i++) {
        const struct view_leaf *leaf = view->leaves[i];

        GM_ASSERT(leaf->count > 0 && leaf->count <= VIEW_LEAF_RANGES);
        GM_ASSERT(view->firsts[i] == leaf->starts[0]);
        for (j = 0; j < leaf->count; j++) {
            const struct range *range = &leaf->ranges[j];

            GM_ASSERT(leaf->starts[j] == range->gpa && range->gpa <= range->last);
            GM_ASSERT(atomic_load_explicit(&range->region->refs.count, memory_order_relaxed) > 0);
            GM_ASSERT(previous == NULL || previous->last < range->gpa);
            GM_ASSERT(previous == NULL || !range_merges(previous, range));
            previous = range;
            count++;
        }
    }
    GM_ASSERT(count == view->range_count);
}

/* ---- the public face of a snapshot ---- */

void gm_view_put(struct gm_view *view)
{
    if (view != NULL) {
        view_put(view);
    }
}

struct gm_region *gm_view_root(const struct gm_view *view)
{
    return view->root;
}

size_t gm_view_count(const struct gm_view *view)
{
    return view->range_count;
}

bool gm_view_at(const struct gm_view *view, size_t index, struct gm_section *section)
{
    if (index >= view->range_count) {
        return false;
    }
    range_to_section(view_range(view, index), NULL, section);
    return true;
}

/* A hole, or a view without an index. */
static const struct range *find_cold(struct gm_view *view, gm_gpa_t gpa)
{
    uint64_t hole_last;

    if (view_is_cold(view) && view_count_cold(view)) {
        make_index(view);
    }
    return view_search(view, gpa, &hole_last);
}

static __attribute__((noinline)) bool find_slow(struct gm_view *view, gm_gpa_t gpa,
                                                struct gm_section *section)
{
    const struct range *range = find_cold(view, gpa);

    if (range != NULL) {
        range_to_section(range, NULL, section);
    }
    return range != NULL;
}

/* What is behind `last`, as it is in the index; the compiler makes it two copies of 16 bytes. */
#define SECTION_REST offsetof(struct gm_section, region)

bool gm_view_find(const struct gm_view *view, gm_gpa_t gpa, struct gm_section *section)
{
    const struct gpa_index *index = view_index(view);
    const struct gm_section *found;
    uint64_t first;
    uint64_t last;

    if (__builtin_expect(index == NULL, 0)) {
        return find_slow((struct gm_view *)view, gpa, section);
    }
    found = &index->sections[gpa_index_number(index, gpa)].section;
    first = found->gpa;
    last = found->last;
    if (__builtin_expect(gpa < first, 0) || __builtin_expect(gpa > last, 0)) {
        return find_slow((struct gm_view *)view, gpa, section);
    }
    section->space = NULL;
    section->gpa = first;
    /* By itself: who goes on from there would wait longer for a larger store. */
    atomic_signal_fence(memory_order_relaxed);
    section->last = last;
    memcpy((uint8_t *)section + SECTION_REST, (const uint8_t *)found + SECTION_REST,
           sizeof(*section) - SECTION_REST);
    return true;
}

gm_size_t gm_section_size(const struct gm_section *section)
{
    return (gm_size_t)(section->last - section->gpa) + 1;
}
