/* model/model_view.c - what the model's tree shows, address by address. */
#include "model/model.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define TOP ((__int128)1 << 64)

/* ---- children, the winner first ---- */

static bool wins(const struct model_region *a, const struct model_region *b)
{
    return a->priority != b->priority ? a->priority > b->priority : a->added > b->added;
}

void model_index_init(struct model_index *index, const struct model *model, uint64_t steps_max)
{
    const struct model_region *regions = model->regions;
    int count = model->region_count;
    int *used = calloc((size_t)count, sizeof(*used));
    int i;

    *index = (struct model_index){.model = model, .steps_max = steps_max};
    index->first = calloc((size_t)count + 1, sizeof(*index->first));
    index->kids = calloc((size_t)count, sizeof(*index->kids));
    for (i = 0; i < count; i++) {
        if (regions[i].exists && regions[i].parent != MODEL_NONE) {
            index->first[regions[i].parent + 1]++;
        }
    }
    for (i = 0; i < count; i++) {
        index->first[i + 1] += index->first[i];
    }
    for (i = 0; i < count; i++) {
        if (regions[i].exists && regions[i].parent != MODEL_NONE) {
            int *kids = &index->kids[index->first[regions[i].parent]];
            int at = used[regions[i].parent]++;

            for (; at > 0 && wins(&regions[i], &regions[kids[at - 1]]); at--) {
                kids[at] = kids[at - 1];
            }
            kids[at] = i;
        }
    }
    free(used);
}

void model_index_fini(struct model_index *index)
{
    free(index->first);
    free(index->kids);
    free(index->bounds);
}

/* ---- which root ---- */

static int follow(const struct model_index *index, int at)
{
    const struct model_region *regions = index->model->regions;
    const struct model_region *region = &regions[at];
    int enabled = 0;
    int only = MODEL_NONE;
    int i;

    if (!region->enabled) {
        return MODEL_NONE;
    }
    if (region->target != MODEL_NONE) {
        return region->target_offset == 0 && region->size >= regions[region->target].size
                   ? region->target
                   : at;
    }
    if (model_terminates(region)) {
        return at;
    }
    for (i = index->first[at]; i < index->first[at + 1]; i++) {
        if (regions[index->kids[i]].enabled) {
            enabled++;
            only = index->kids[i];
        }
    }
    if (enabled == 0) {
        return MODEL_NONE;
    }
    return enabled == 1 && regions[only].addr == 0 && regions[only].size <= region->size ? only
                                                                                         : at;
}

int model_resolve(const struct model_index *index, int root, int *resolved)
{
    int steps = 0;

    while (root != MODEL_NONE) {
        int next = follow(index, root);

        if (next == root) {
            break;
        }
        root = next;
        /* Who has gone on more often than there are regions has been somewhere twice. */
        if (++steps > index->model->region_count) {
            return -ELOOP;
        }
    }
    *resolved = root;
    return 0;
}

/* ---- all bounds, and loops on the way ---- */

struct way {
    const struct way *above;
    int region;
    __int128 base;
    unsigned depth;
    unsigned aliases;
};

static void add_bound(struct model_index *index, __int128 bound)
{
    if (index->bound_count == index->bound_capacity) {
        index->bound_capacity = index->bound_capacity * 2 + 64;
        index->bounds = realloc(index->bounds, index->bound_capacity * sizeof(*index->bounds));
    }
    index->bounds[index->bound_count++] = bound;
}

/* All of them, also past a loop, so that whatever the library meets first is known. False: too many steps. */
static bool collect(struct model_index *index, const struct way *above, int at, __int128 base,
                    const __int128 clip[2])
{
    const struct model_region *region = &index->model->regions[at];
    struct way way = {above, at, base, above != NULL ? above->depth + 1 : 0, 0};
    __int128 mine[2];
    const struct way *up;
    bool goes_on = true;
    int i;

    if (!region->enabled) {
        return true;
    }
    mine[0] = base > clip[0] ? base : clip[0];
    mine[1] = base + (__int128)region->size < clip[1] ? base + (__int128)region->size : clip[1];
    if (mine[0] >= mine[1]) {
        return true;
    }
    for (up = above; up != NULL; up = up->above) {
        if (up->region == at && up->base == base) {
            index->loops = true;
            return true;
        }
    }
    if (way.depth > MODEL_DEPTH_MAX) {
        index->too_deep = true;
        return true;
    }
    if (++index->steps > index->steps_max) {
        return false;
    }
    add_bound(index, mine[0]);
    add_bound(index, mine[1]);
    way.aliases = (above != NULL ? above->aliases : 0) + (region->target != MODEL_NONE ? 1 : 0);
    index->alias_depth = index->alias_depth > way.aliases ? index->alias_depth : way.aliases;
    if (region->target != MODEL_NONE) {
        return collect(index, &way, region->target, base - region->target_offset, mine);
    }
    for (i = index->first[at]; i < index->first[at + 1] && goes_on; i++) {
        int kid = index->kids[i];

        goes_on = collect(index, &way, kid, base + index->model->regions[kid].addr, mine);
    }
    return goes_on;
}

static int compare_bounds(const void *a, const void *b)
{
    __int128 left = *(const __int128 *)a;
    __int128 right = *(const __int128 *)b;

    return left < right ? -1 : left > right;
}

/* ---- who answers at one address? ---- */

struct answer {
    int region;
    uint64_t offset;
    uint32_t flags;
    uint64_t path;
};

static bool ask(const struct model_index *index, int at, __int128 base, __int128 address,
                struct answer *answer)
{
    const struct model_region *region = &index->model->regions[at];
    struct answer inner = *answer;
    int i;

    if (!region->enabled || address < base || address >= base + (__int128)region->size) {
        return false;
    }
    inner.flags |= region->readonly ? GM_SECTION_READONLY : 0;
    inner.flags |= region->nonvolatile ? GM_SECTION_NONVOLATILE : 0;
    inner.flags |= region->unmergeable ? GM_SECTION_UNMERGEABLE : 0;
    inner.path = (inner.path * 0x100000001b3ull + (uint64_t)at + 1) * 0x9e3779b97f4a7c15ull;
    if (region->target != MODEL_NONE) {
        *answer = inner;
        return ask(index, region->target, base - region->target_offset, address, answer);
    }
    for (i = index->first[at]; i < index->first[at + 1]; i++) {
        int kid = index->kids[i];
        struct answer below = inner;

        if (ask(index, kid, base + index->model->regions[kid].addr, address, &below)) {
            *answer = below;
            return true;
        }
    }
    if (!model_terminates(region)) {
        return false;
    }
    *answer = inner;
    answer->region = at;
    answer->offset = (uint64_t)(address - base);
    answer->flags |= region->romd ? GM_SECTION_ROMD : 0;
    return true;
}

/* ---- the view ---- */

static void view_append(const struct model *model, struct model_view *view,
                        const struct answer *answer, __int128 start, __int128 end)
{
    const struct model_region *region = &model->regions[answer->region];
    struct model_range range = {
        .start = (uint64_t)start,
        .last = (uint64_t)(end - 1),
        .region = answer->region,
        .offset = answer->offset,
        .flags = answer->flags,
        .log_mask = region->ram != MODEL_NONE ? region->log_mask | model->log_all_mask : 0,
        .path = answer->path,
    };
    struct model_range *before = view->count > 0 ? &view->ranges[view->count - 1] : NULL;
    bool goes_on = before != NULL && (__int128)before->last + 1 == start &&
                   before->region == range.region &&
                   before->offset + (before->last - before->start) + 1 == range.offset &&
                   before->flags == range.flags && before->log_mask == range.log_mask;
    bool same_path = goes_on && before->path == range.path;

    view->painted_count += same_path ? 0 : 1;
    if (goes_on && (same_path || (range.flags & GM_SECTION_UNMERGEABLE) == 0)) {
        before->last = range.last;
        before->path = range.path;
        return;
    }
    if (view->count == view->capacity) {
        view->capacity = view->capacity * 2 + 64;
        view->ranges = realloc(view->ranges, view->capacity * sizeof(*view->ranges));
    }
    view->ranges[view->count++] = range;
}

int model_render(struct model_index *index, int root, struct model_view *view)
{
    const __int128 everything[2] = {0, TOP};
    __int128 base;
    size_t i;

    index->loops = false;
    index->too_deep = false;
    view->count = 0;
    view->painted_count = 0;
    index->bound_count = 0;
    if (root == MODEL_NONE) {
        return 0;
    }
    base = index->model->regions[root].addr;
    if (!collect(index, NULL, root, base, everything) || index->loops || index->too_deep) {
        return -1;
    }
    if (index->bound_count == 0) {
        return 0;
    }
    qsort(index->bounds, index->bound_count, sizeof(*index->bounds), compare_bounds);
    for (i = 0; i + 1 < index->bound_count; i++) {
        __int128 start = index->bounds[i];
        __int128 end = index->bounds[i + 1];
        struct answer answer = {0};

        if (start < end && ask(index, root, base, start, &answer)) {
            view_append(index->model, view, &answer, start, end);
        }
    }
    return 0;
}

bool model_views_equal(const struct model_view *a, const struct model_view *b)
{
    size_t i;

    if (a->count != b->count) {
        return false;
    }
    for (i = 0; i < a->count; i++) {
        const struct model_range *left = &a->ranges[i];
        const struct model_range *right = &b->ranges[i];

        if (left->start != right->start || left->last != right->last ||
            left->region != right->region || left->offset != right->offset ||
            left->flags != right->flags || left->log_mask != right->log_mask) {
            return false;
        }
    }
    return true;
}

void model_view_fini(struct model_view *view)
{
    free(view->ranges);
}

/* ---- coalesced ranges ---- */

size_t model_show_coalesced(const struct model *model, const struct model_view *view,
                            struct model_shown *shown)
{
    size_t count = 0;
    size_t i;
    unsigned j;

    for (i = 0; i < view->count; i++) {
        const struct model_range *range = &view->ranges[i];
        const struct model_region *region = &model->regions[range->region];

        for (j = 0; j < region->coalesced_count; j++) {
            const struct model_coalesced *coalesced = &region->coalesced[j];
            __int128 start = (__int128)range->start + coalesced->offset - range->offset;
            __int128 last = start + (__int128)coalesced->size - 1;
            size_t at = count;

            start = start > range->start ? start : range->start;
            last = last < range->last ? last : range->last;
            if (start > last) {
                continue;
            }
            for (; at > 0 && shown[at - 1].gpa > (uint64_t)start; at--) {
                shown[at] = shown[at - 1];
            }
            shown[at] = (struct model_shown){(uint64_t)start, (uint64_t)last, range->region,
                                             range->offset + (uint64_t)(start - range->start)};
            count++;
        }
    }
    return count;
}

/* ---- slots ---- */

size_t model_run_append(struct model_run *runs, size_t count, struct model_run run)
{
    struct model_run *before = count > 0 ? &runs[count - 1] : NULL;

    if (before != NULL && before->gpa + before->size == run.gpa && before->ram == run.ram &&
        before->ram_offset + (uint64_t)before->size == run.ram_offset &&
        before->flags == run.flags) {
        before->size += run.size;
        return count;
    }
    runs[count] = run;
    return count + 1;
}

/* RAM and ROM as their flags say; a ROM device read-only while it reads as memory. */
static bool slot_flags_of(const struct model_region *region, const struct model_range *range,
                          uint32_t *flags)
{
    bool readonly = (range->flags & GM_SECTION_READONLY) != 0;

    switch (region->kind) {
    case GM_REGION_RAM:
    case GM_REGION_ROM:
    case GM_REGION_RAM_DEVICE:
        break;
    case GM_REGION_ROM_DEVICE:
        readonly = true;
        if ((range->flags & GM_SECTION_ROMD) == 0) {
            return false;
        }
        break;
    default:
        return false;
    }
    *flags = (readonly ? GM_SLOT_READONLY : 0) | (range->log_mask != 0 ? GM_SLOT_LOG : 0);
    return true;
}

size_t model_runs(const struct model *model, const struct model_view *view, struct model_run *runs)
{
    const __int128 page = 4096;
    size_t count = 0;
    size_t i;

    for (i = 0; i < view->count; i++) {
        const struct model_range *range = &view->ranges[i];
        const struct model_region *region = &model->regions[range->region];
        __int128 start = ((__int128)range->start + page - 1) / page * page;
        __int128 end = ((__int128)range->last + 1) / page * page;
        uint64_t at = region->ram_offset + range->offset + (uint64_t)(start - range->start);
        uint32_t flags;

        if (start < end && slot_flags_of(region, range, &flags) && at % 4096 == 0) {
            struct model_run run = {(uint64_t)start, (gm_size_t)(end - start), region->ram, at,
                                    flags};

            count = model_run_append(runs, count, run);
        }
    }
    return count;
}
