/* view/hva_index.c - cutting the host addresses of a view into segments, and searching them. */
#include "view/hva_index.h"

#include "base/check.h"

struct segment {
    uint64_t first;
    uint64_t last;
    const struct range *range;
};

struct hva_index {
    size_t count;
    struct segment segments[];
};

/* A range while it is being cut: the host addresses it shows. */
struct shown {
    uint64_t first;
    uint64_t last;
    const struct range *range;
};

enum heap_order {
    HEAP_BY_HVA, /* those not begun yet: the lowest address first */
    HEAP_BY_GPA, /* those under way: the lowest GPA wins */
};

struct heap {
    enum heap_order order;
    size_t count;
    struct shown *items;
};

/*
 * Does the range show host memory as memory? A ROM device outside romd mode answers with callbacks.
 */
static bool shows_memory(const struct range *range)
{
    return range->hva != NULL &&
           (range->region->kind != GM_REGION_ROM_DEVICE || (range->flags & GM_SECTION_ROMD) != 0);
}

static struct shown shown_of(const struct range *range)
{
    uint64_t first = hva_of(range->hva).value;

    return (struct shown){first, first + (range->last - range->gpa), range};
}

static bool heap_before(const struct heap *heap, size_t a, size_t b)
{
    const struct shown *left = &heap->items[a];
    const struct shown *right = &heap->items[b];

    if (heap->order == HEAP_BY_HVA && left->first != right->first) {
        return left->first < right->first;
    }
    return left->range->gpa < right->range->gpa;
}

static void heap_swap(struct heap *heap, size_t a, size_t b)
{
    struct shown kept = heap->items[a];

    heap->items[a] = heap->items[b];
    heap->items[b] = kept;
}

static void heap_push(struct heap *heap, struct shown item)
{
    size_t at = heap->count;

    heap->items[at] = item;
    heap->count++;
    while (at > 0 && heap_before(heap, at, (at - 1) / 2)) {
        heap_swap(heap, at, (at - 1) / 2);
        at = (at - 1) / 2;
    }
}

static void heap_pop(struct heap *heap)
{
    size_t at = 0;

    heap->count--;
    heap->items[0] = heap->items[heap->count];
    for (;;) {
        size_t least = at;
        size_t child = 2 * at + 1;

        if (child < heap->count && heap_before(heap, child, least)) {
            least = child;
        }
        if (child + 1 < heap->count && heap_before(heap, child + 1, least)) {
            least = child + 1;
        }
        if (least == at) {
            return;
        }
        heap_swap(heap, at, least);
        at = least;
    }
}

static void emit(struct hva_index *index, uint64_t first, uint64_t last, const struct range *range)
{
    struct segment *previous = index->count > 0 ? &index->segments[index->count - 1] : NULL;

    if (previous != NULL && previous->range == range && previous->last + 1 == first) {
        previous->last = last;
        return;
    }
    index->segments[index->count] = (struct segment){first, last, range};
    index->count++;
}

/*
 * Sweep upwards over the host addresses. Each step emits one segment and either begins a range or
 * ends one, so there are never more than two segments a range.
 */
static void sweep(struct hva_index *index, struct heap *waiting, struct heap *active)
{
    uint64_t at = 0;

    for (;;) {
        const struct shown *top;
        uint64_t last;

        while (active->count > 0 && active->items[0].last < at) {
            heap_pop(active);
        }
        if (active->count == 0) {
            if (waiting->count == 0) {
                return;
            }
            at = waiting->items[0].first;
        }
        while (waiting->count > 0 && waiting->items[0].first <= at) {
            heap_push(active, waiting->items[0]);
            heap_pop(waiting);
        }
        top = &active->items[0];
        last = top->last;
        if (waiting->count > 0 && waiting->items[0].first <= last) {
            last = waiting->items[0].first - 1;
        }
        emit(index, at, last, top->range);
        if (last == UINT64_MAX) {
            return;
        }
        at = last + 1;
    }
}

static void collect(const struct gm_view *view, struct heap *waiting)
{
    uint32_t i;
    uint32_t j;

    for (i = 0; i < view->leaf_count; i++) {
        for (j = 0; j < view->leaves[i]->count; j++) {
            if (shows_memory(&view->leaves[i]->ranges[j])) {
                heap_push(waiting, shown_of(&view->leaves[i]->ranges[j]));
            }
        }
    }
}

struct hva_index *hva_index_new(const struct gm_view *view)
{
    const struct gm_allocator *allocator = &view->map->allocator;
    size_t count = view->range_count;
    struct hva_index *index =
        mem_alloc(allocator, sizeof(*index) + 2 * count * sizeof(index->segments[0]));
    struct shown *items = mem_alloc(allocator, (2 * count + 1) * sizeof(*items));
    struct heap waiting = {HEAP_BY_HVA, 0, items};
    struct heap active = {HEAP_BY_GPA, 0, items + count};

    if (index == NULL || items == NULL) {
        mem_free(allocator, index);
        mem_free(allocator, items);
        return NULL;
    }
    index->count = 0;
    collect(view, &waiting);
    sweep(index, &waiting, &active);
    GM_ASSERT(index->count <= 2 * count);
    mem_free(allocator, items);
    return index;
}

void hva_index_free(const struct gm_allocator *allocator, struct hva_index *index)
{
    mem_free(allocator, index);
}

const struct range *hva_index_find(const struct hva_index *index, struct hva hva)
{
    size_t low = 0;
    size_t high = index->count;

    while (low < high) {
        size_t middle = low + (high - low) / 2;

        if (index->segments[middle].last < hva.value) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    if (low == index->count || index->segments[low].first > hva.value) {
        return NULL;
    }
    return index->segments[low].range;
}

const struct range *hva_index_scan(const struct gm_view *view, struct hva hva)
{
    uint32_t i;
    uint32_t j;

    for (i = 0; i < view->leaf_count; i++) {
        for (j = 0; j < view->leaves[i]->count; j++) {
            const struct range *range = &view->leaves[i]->ranges[j];
            struct shown shown;

            if (!shows_memory(range)) {
                continue;
            }
            shown = shown_of(range);
            if (shown.first <= hva.value && hva.value <= shown.last) {
                return range;
            }
        }
    }
    return NULL;
}
