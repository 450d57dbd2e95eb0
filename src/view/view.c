/* view/view.c - looking things up in a flat view, and its lifetime. */
#include "view/view.h"

#include "base/check.h"
#include "view/hva_index.h"

bool range_merges(const struct range *a, const struct range *b)
{
    return a->region == b->region && a->last != UINT64_MAX && a->last + 1 == b->gpa &&
           a->offset + (a->last - a->gpa) + 1 == b->offset && a->flags == b->flags &&
           a->log_mask == b->log_mask && a->eventfds == b->eventfds &&
           (a->flags & GM_SECTION_UNMERGEABLE) == 0;
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

const struct range *view_lookup(const struct gm_view *view, uint64_t gpa, uint64_t *hole_last)
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
    gm_region_put(view->root);
    mem_free(&map->allocator, view);
    map_put(map);
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

bool gm_view_find(const struct gm_view *view, gm_gpa_t gpa, struct gm_section *section)
{
    uint64_t hole_last;
    const struct range *range = view_lookup(view, gpa, &hole_last);

    if (range == NULL) {
        return false;
    }
    range_to_section(range, NULL, section);
    return true;
}

gm_size_t gm_section_size(const struct gm_section *section)
{
    return (gm_size_t)(section->last - section->gpa) + 1;
}
