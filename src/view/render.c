/*
 * view/render.c - rendering a tree of regions.
 *
 * The tree is walked from the top: at each region its children, the winner first, then the region's own
 * content. Whoever comes first takes what is still free of its extent, so that nothing is ever
 * overwritten. An alias is walked as its target, shifted.
 */
#include "view/render.h"

#include "base/check.h"

#include <guestmem/ram.h>

#include <errno.h>
#include <stdlib.h>

/* A region on the way from the root to where the walk is. */
struct frame {
    const struct frame *above;
    const struct gm_region *region;
    pos_t base; /* where the region's first byte is, in the address space */
    uint32_t depth;
};

/* What a subtree inherits. */
struct inherited {
    struct span clip;
    uint32_t flags; /* READONLY, NONVOLATILE, UNMERGEABLE of the regions above */
};

void render_begin(struct render *render, struct map_locked locked, struct render_limits limits)
{
    *render = (struct render){.locked = locked, .limits = limits};
}

void render_end(struct render *render)
{
    mem_free(&render->locked.map->scratch.allocator, render->ranges);
    mem_free(&render->locked.map->scratch.allocator, render->siblings);
}

/* ---- content: filling what is free ---- */

/* The index of the first range that ends at or after @start. */
static size_t first_ending_after(const struct render *render, pos_t start)
{
    size_t low = 0;
    size_t high = render->count;

    while (low < high) {
        size_t middle = low + (high - low) / 2;

        if ((pos_t)render->ranges[middle].last < start) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

static int insert_range(struct render *render, size_t at, const struct range *range)
{
    struct range *ranges;

    if (render->count >= render->limits.max_ranges) {
        return -E2BIG;
    }
    ranges = mem_reserve(&render->locked.map->scratch.allocator, render->ranges, &render->capacity,
                         render->count + 1, sizeof(*ranges));
    if (ranges == NULL) {
        return -ENOMEM;
    }
    render->ranges = ranges;
    memmove(&ranges[at + 1], &ranges[at], (render->count - at) * sizeof(*ranges));
    ranges[at] = *range;
    render->count++;
    return 0;
}

static uint32_t direct_flags(const struct gm_region *region, const struct range *range)
{
    bool is_memory = region->kind == GM_REGION_RAM || region->kind == GM_REGION_ROM;
    uint32_t flags = 0;

    if (range->hva == NULL) {
        return region->kind == GM_REGION_MMIO ? RANGE_CALLS : 0;
    }
    if (is_memory || (region->kind == GM_REGION_ROM_DEVICE && region->romd)) {
        flags |= RANGE_DIRECT_READ;
    }
    if (is_memory && (range->flags & GM_SECTION_READONLY) == 0) {
        flags |= RANGE_DIRECT_WRITE;
    }
    return flags;
}

/* The part @piece of the region's own content, as a range. */
static struct range make_range(const struct frame *frame, uint32_t flags, struct span piece)
{
    struct gm_region *region = (struct gm_region *)frame->region;
    struct range range = {
        .gpa = (uint64_t)piece.start,
        .last = (uint64_t)(piece.end - 1),
        .region = region,
        .offset = (uint64_t)(piece.start - frame->base),
        .flags = flags | (region->romd ? GM_SECTION_ROMD : 0),
        .log_mask = region_effective_log_mask(region),
        .eventfds = region->eventfds,
        .coalesced = region->coalesced,
    };

    if (region->ram != NULL && gm_ram_hva(region->ram) != NULL) {
        range.hva = (uint8_t *)gm_ram_hva(region->ram) + region->ram_offset + range.offset;
    }
    range.flags |= direct_flags(region, &range);
    return range;
}

static int fill_free(struct render *render, const struct frame *frame, struct inherited inherited)
{
    struct span rest = inherited.clip;
    size_t at = first_ending_after(render, rest.start);

    while (!span_is_empty(rest)) {
        struct span piece = rest;

        if (at < render->count) {
            piece.end = pos_min(piece.end, (pos_t)render->ranges[at].gpa);
        }
        if (!span_is_empty(piece)) {
            struct range range = make_range(frame, inherited.flags, piece);
            int result = insert_range(render, at, &range);

            if (result != 0) {
                return result;
            }
            at++;
        }
        rest.start = at < render->count ? (pos_t)render->ranges[at].last + 1 : rest.end;
        at++;
    }
    return 0;
}

/* ---- the walk ---- */

static bool push_sibling(void *opaque, struct gm_region *child)
{
    struct render *render = opaque;
    struct gm_region **siblings;

    if (!child->enabled) {
        return true;
    }
    siblings = mem_reserve(&render->locked.map->scratch.allocator, render->siblings,
                           &render->sibling_capacity, render->sibling_count + 1, sizeof(*siblings));
    if (siblings == NULL) {
        return false;
    }
    render->siblings = siblings;
    siblings[render->sibling_count] = child;
    render->sibling_count++;
    return true;
}

static int compare_siblings(const void *a, const void *b)
{
    return child_wins(*(struct gm_region *const *)a, *(struct gm_region *const *)b) ? -1 : 1;
}

static bool is_loop(const struct frame *frame)
{
    const struct frame *above;

    for (above = frame->above; above != NULL; above = above->above) {
        if (above->region == frame->region && above->base == frame->base) {
            return true;
        }
    }
    return false;
}

static int walk(struct render *render, const struct frame *above, struct gm_region *region,
                pos_t base, struct inherited inherited);

/* Siblings come in order of address. Where none overlaps another, nobody wins over anybody, and this
 * order is the best one: each range is appended behind the last. */
static bool siblings_overlap(const struct render *render, size_t first, size_t end)
{
    pos_t reached = 0;
    size_t i;

    for (i = first; i < end; i++) {
        const struct gm_region *child = render->siblings[i];

        if (i > first && child->addr < reached) {
            return true;
        }
        reached = (pos_t)child->addr + child->size;
    }
    return false;
}

static int walk_children(struct render *render, const struct frame *frame,
                         struct inherited inherited)
{
    size_t first = render->sibling_count;
    struct span wanted = span_shift(inherited.clip, -frame->base);
    size_t end;
    size_t i;
    int result = 0;

    if (!children_visit(&frame->region->children, wanted, push_sibling, render)) {
        render->sibling_count = first;
        return -ENOMEM;
    }
    end = render->sibling_count;
    if (siblings_overlap(render, first, end)) {
        qsort(&render->siblings[first], end - first, sizeof(*render->siblings), compare_siblings);
    }
    for (i = first; i < end && result == 0; i++) {
        struct gm_region *child = render->siblings[i]; /* the array may move meanwhile */

        result = walk(render, frame, child, frame->base + child->addr, inherited);
    }
    render->sibling_count = first;
    return result;
}

static int walk(struct render *render, const struct frame *above, struct gm_region *region,
                pos_t base, struct inherited inherited)
{
    struct frame frame = {above, region, base, above != NULL ? above->depth + 1 : 0};
    int result;

    if (!region->enabled) {
        return 0;
    }
    inherited.clip = span_meet(inherited.clip, span_of(base, region->size));
    if (span_is_empty(inherited.clip)) {
        return 0;
    }
    render->steps++;
    if (render->steps > render->limits.max_steps) {
        return -E2BIG;
    }
    if (is_loop(&frame)) {
        return -ELOOP;
    }
    if (frame.depth > RENDER_MAX_DEPTH) {
        return -E2BIG;
    }
    inherited.flags |= (region->readonly ? GM_SECTION_READONLY : 0) |
                       (region->nonvolatile ? GM_SECTION_NONVOLATILE : 0) |
                       (region->unmergeable ? GM_SECTION_UNMERGEABLE : 0);
    if (region->target != NULL) {
        return walk(render, &frame, region->target, base - region->target_offset, inherited);
    }
    result = walk_children(render, &frame, inherited);
    if (result == 0 && region_terminates(region)) {
        result = fill_free(render, &frame, inherited);
    }
    return result;
}

int render_window(struct render *render, struct gm_region *root, struct span window)
{
    struct inherited inherited = {.clip = span_meet(window, span_of(0, POS_2_64))};

    GM_ASSERT(!span_is_empty(inherited.clip));
    render->count = 0;
    return walk(render, NULL, root, root->addr, inherited);
}
