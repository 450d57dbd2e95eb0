/*
 * view/builder.c - making a view out of kept and new ranges.
 *
 * Leaves of the old view that are kept whole are shared. Sharing would leave ever smaller leaves behind
 * edits in many places, so two neighbours that fit into one leaf are always made one: on average a
 * leaf is more than half full.
 */
#include "base/check.h"
#include "view/hva_index.h"
#include "view/view.h"

void view_leaf_put(const struct gm_allocator *allocator, struct view_leaf *leaf)
{
    uint32_t i;

    if (!ref_put(&leaf->refs)) {
        return;
    }
    for (i = 0; i < leaf->count; i++) {
        gm_region_put(leaf->ranges[i].region);
        eventfd_list_put(leaf->ranges[i].eventfds);
        coalesced_list_put(leaf->ranges[i].coalesced);
    }
    mem_free(allocator, leaf);
}

void view_build_begin(struct view_builder *builder, struct gm_map *map, const struct gm_view *old)
{
    *builder = (struct view_builder){.map = map, .old = old};
}

/* Put a leaf (its reference becomes the builder's) behind the others. */
static void append_leaf(struct view_builder *builder, struct view_leaf *leaf)
{
    struct view_leaf **leaves =
        mem_reserve(&builder->map->scratch.allocator, builder->leaves, &builder->leaf_capacity,
                    builder->leaf_count + 1, sizeof(*leaves));

    if (leaves == NULL) {
        builder->failed = true;
        view_leaf_put(&builder->map->allocator, leaf);
        return;
    }
    builder->leaves = leaves;
    leaves[builder->leaf_count] = leaf;
    builder->leaf_count++;
}

static bool open_leaf(struct view_builder *builder)
{
    if (builder->open == NULL && !builder->failed) {
        builder->open = mem_alloc(&builder->map->allocator, sizeof(*builder->open));
        if (builder->open == NULL) {
            builder->failed = true;
            return false;
        }
        ref_init(&builder->open->refs);
        builder->open->count = 0;
    }
    return !builder->failed;
}

/* A leaf's own references: most ranges have a region alone. */
static void get_range(const struct range *range)
{
    ref_get(&range->region->refs);
    if (range->eventfds != NULL) {
        eventfd_list_get(range->eventfds);
    }
    if (range->coalesced != NULL) {
        coalesced_list_get(range->coalesced);
    }
}

/* @count ranges of @from, from @first on, become those of @leaf from @at on. */
static void copy_ranges(struct view_leaf *leaf, uint32_t at, const struct view_leaf *from,
                        uint32_t first, uint32_t count)
{
    memcpy(&leaf->ranges[at], &from->ranges[first], count * sizeof(leaf->ranges[0]));
    memcpy(&leaf->starts[at], &from->starts[first], count * sizeof(leaf->starts[0]));
    for (uint32_t i = at; i < at + count; i++) {
        get_range(&leaf->ranges[i]);
    }
}

/* If the leaf before the open one has room for it, take its ranges in front of the open leaf's. */
static void absorb_previous(struct view_builder *builder)
{
    struct view_leaf *open = builder->open;
    struct view_leaf *previous;

    if (builder->leaf_count == 0) {
        return;
    }
    previous = builder->leaves[builder->leaf_count - 1];
    if (previous->count + open->count > VIEW_LEAF_RANGES) {
        return;
    }
    memmove(&open->ranges[previous->count], open->ranges, open->count * sizeof(open->ranges[0]));
    memmove(&open->starts[previous->count], open->starts, open->count * sizeof(open->starts[0]));
    copy_ranges(open, 0, previous, 0, previous->count);
    open->count += previous->count;
    builder->leaf_count--;
    view_leaf_put(&builder->map->allocator, previous);
}

static void close_leaf(struct view_builder *builder)
{
    if (builder->open != NULL) {
        absorb_previous(builder);
        append_leaf(builder, builder->open);
        builder->open = NULL;
    }
}

/* The leaf that the next range goes to; NULL: no memory. */
static struct view_leaf *leaf_with_room(struct view_builder *builder)
{
    if (builder->open != NULL && builder->open->count == VIEW_LEAF_RANGES) {
        close_leaf(builder);
    }
    return open_leaf(builder) ? builder->open : NULL;
}

void view_build_add(struct view_builder *builder, const struct range *range)
{
    struct view_leaf *leaf = leaf_with_room(builder);

    if (leaf != NULL) {
        get_range(range);
        leaf->ranges[leaf->count] = *range;
        leaf->starts[leaf->count] = range->gpa;
        leaf->count++;
    }
}

/* Keep ranges [first, end) of one leaf: the leaf itself if it is all of it and does not fit elsewhere. */
static void keep_of_leaf(struct view_builder *builder, struct view_leaf *leaf, uint32_t first,
                         uint32_t end)
{
    uint32_t open_count = builder->open != NULL ? builder->open->count : 0;

    if (first == 0 && end == leaf->count && open_count + leaf->count > VIEW_LEAF_RANGES) {
        close_leaf(builder);
        open_count = 0;
    }
    if (first == 0 && end == leaf->count && open_count == 0) {
        ref_get(&leaf->refs);
        append_leaf(builder, leaf);
        return;
    }
    while (first < end) {
        struct view_leaf *open = leaf_with_room(builder);
        uint32_t count;

        if (open == NULL) {
            return;
        }
        count = VIEW_LEAF_RANGES - open->count;
        count = count < end - first ? count : end - first;
        copy_ranges(open, open->count, leaf, first, count);
        open->count += count;
        first += count;
    }
}

void view_build_keep(struct view_builder *builder, size_t first, size_t end)
{
    const struct gm_view *old = builder->old;
    size_t leaf_first = 0;
    uint32_t i;

    for (i = 0; first < end && i < old->leaf_count && !builder->failed; i++) {
        struct view_leaf *leaf = old->leaves[i];
        size_t leaf_end = leaf_first + leaf->count;

        if (first < leaf_end) {
            size_t until = end < leaf_end ? end : leaf_end;

            keep_of_leaf(builder, leaf, (uint32_t)(first - leaf_first),
                         (uint32_t)(until - leaf_first));
            first = until;
        }
        leaf_first = leaf_end;
    }
}

static struct gm_view *assemble(struct view_builder *builder, struct gm_region *root)
{
    size_t count = builder->leaf_count;
    struct gm_view *view =
        mem_alloc(&builder->map->allocator,
                  sizeof(*view) + count * (sizeof(view->firsts[0]) + sizeof(view->leaves[0])));
    size_t i;

    if (view == NULL) {
        return NULL;
    }
    ref_init(&view->refs);
    view->leaf_count = (uint32_t)count;
    view->range_count = 0;
    view->map = builder->map;
    view->root = root;
    view->leaves = (struct view_leaf **)&view->firsts[count];
    atomic_init(&view->hva_index, NULL);
    atomic_init(&view->gpa_index, NULL);
    atomic_init(&view->cold_lookups, 0);
    for (i = 0; i < count; i++) {
        view->leaves[i] = builder->leaves[i];
        view->firsts[i] = builder->leaves[i]->starts[0];
        view->range_count += builder->leaves[i]->count;
    }
    map_get(view->map);
    if (root != NULL) {
        gm_region_get(root);
    }
    return view;
}

struct gm_view *view_build_end(struct view_builder *builder, struct gm_region *root)
{
    const struct gm_allocator *allocator = &builder->map->allocator;
    struct gm_view *view;
    size_t i;

    if (!builder->failed) {
        close_leaf(builder);
    }
    view = builder->failed ? NULL : assemble(builder, root);
    GM_ASSERT(builder->open == NULL); /* failing closes or drops it */
    if (view == NULL) {
        for (i = 0; i < builder->leaf_count; i++) {
            view_leaf_put(allocator, builder->leaves[i]);
        }
    }
    mem_free(&builder->map->scratch.allocator, builder->leaves);
    if (view != NULL) {
        GM_AUDIT(view_audit(view));
    }
    return view;
}
