/* view/gpa_index.c - cutting a view's addresses into buckets. */
#include "view/gpa_index.h"

#include "base/check.h"
#include "ram/ram.h"
#include "view/view.h"

const struct gpa_entry gpa_entry_unknown;

/* Stretches within stretches; what lies deeper is left to the view's own search. */
#define DEPTH_MAX 6u

/* Everything grows while the index is made, and is then put behind the index in one piece. */
struct maker {
    const struct gm_allocator *allocator;
    void *memory;
    struct gpa_entry *entries; /* in it; numbered from 1 */
    struct gpa_section *sections;
    struct gpa_bucket *buckets;
    size_t bucket_count;
    size_t bucket_capacity;
    struct stretch_plan *stretches;
    size_t stretch_count;
    size_t stretch_capacity;
};

/* A stretch before its buckets have their place. */
struct stretch_plan {
    uint64_t base;
    uint32_t bucket_count;
    uint32_t shift;
    size_t first_bucket;
    unsigned depth;
    uint32_t first_range; /* that reach into it: [first_range, end_range) */
    uint32_t end_range;
};

static uint64_t bucket_start(const struct stretch_plan *stretch, uint32_t bucket)
{
    return stretch->base + ((uint64_t)bucket << stretch->shift);
}

/* The last address of a bucket. */
static uint64_t bucket_last(const struct stretch_plan *stretch, uint32_t bucket)
{
    return bucket_start(stretch, bucket) + (((uint64_t)1 << stretch->shift) - 1);
}

static uint64_t entry_last(const struct gpa_entry *entry)
{
    return entry->gpa + entry->size_less_1;
}

/* The part of [first, last] that its ranges reach into, in buckets of the size that gives about one a range. */
static struct stretch_plan plan_stretch(const struct maker *maker, uint64_t first, uint64_t last,
                                        uint32_t first_range, uint32_t end_range, unsigned depth)
{
    uint64_t count = end_range - first_range;
    uint64_t lowest = maker->entries[first_range].gpa;
    uint64_t highest = entry_last(&maker->entries[end_range - 1]);
    struct stretch_plan stretch = {
        .depth = depth,
        .first_range = first_range,
        .end_range = end_range,
    };

    lowest = lowest > first ? lowest : first;
    highest = highest < last ? highest : last;
    /* Aligned to the buckets' own size, so that ranges of a power of two begin where a bucket does. */
    while (((highest >> stretch.shift) - (lowest >> stretch.shift)) > 2 * count + 10) {
        stretch.shift++;
    }
    stretch.base = lowest >> stretch.shift << stretch.shift;
    stretch.bucket_count = (uint32_t)((highest - stretch.base) >> stretch.shift) + 1;
    return stretch;
}

/* Return: its number, or UINT32_MAX without memory. */
static uint32_t add_stretch(struct maker *maker, struct stretch_plan stretch)
{
    struct stretch_plan *stretches =
        mem_reserve(maker->allocator, maker->stretches, &maker->stretch_capacity,
                    maker->stretch_count + 1, sizeof(*stretches));
    struct gpa_bucket *buckets;

    if (stretches == NULL) {
        return UINT32_MAX;
    }
    maker->stretches = stretches;
    buckets = mem_reserve(maker->allocator, maker->buckets, &maker->bucket_capacity,
                          maker->bucket_count + stretch.bucket_count, sizeof(*buckets));
    if (buckets == NULL) {
        return UINT32_MAX;
    }
    maker->buckets = buckets;
    stretch.first_bucket = maker->bucket_count;
    maker->bucket_count += stretch.bucket_count;
    stretches[maker->stretch_count] = stretch;
    maker->stretch_count++;
    return (uint32_t)(maker->stretch_count - 1);
}

/* What one bucket says, which ranges [first_range, end_range) reach into. false: no memory. */
static bool fill_bucket(struct maker *maker, struct stretch_plan stretch, uint32_t number,
                        uint32_t first_range, uint32_t end_range)
{
    struct gpa_bucket bucket = {.split = 0};

    if (end_range - first_range == 1) {
        bucket.high = first_range;
    } else if (end_range - first_range == 2) {
        bucket.split = maker->entries[first_range + 1].gpa;
        bucket.low = first_range;
        bucket.high = first_range + 1;
    } else if (end_range - first_range > 2 && stretch.depth < DEPTH_MAX) {
        bucket.low = GPA_BUCKET_DEEPER;
        bucket.high = add_stretch(maker, plan_stretch(maker, bucket_start(&stretch, number),
                                                      bucket_last(&stretch, number), first_range,
                                                      end_range, stretch.depth + 1));
        if (bucket.high == UINT32_MAX) {
            return false;
        }
    }
    maker->buckets[stretch.first_bucket + number] = bucket;
    return true;
}

static bool fill_stretch(struct maker *maker, size_t number)
{
    struct stretch_plan stretch = maker->stretches[number]; /* a copy: they may move */
    uint32_t first = stretch.first_range;
    uint32_t bucket;

    for (bucket = 0; bucket < stretch.bucket_count; bucket++) {
        uint64_t last = bucket_last(&stretch, bucket);
        uint32_t end;

        while (first < stretch.end_range &&
               entry_last(&maker->entries[first]) < bucket_start(&stretch, bucket)) {
            first++;
        }
        for (end = first; end < stretch.end_range && maker->entries[end].gpa <= last; end++) {
        }
        if (!fill_bucket(maker, stretch, bucket, first, end)) {
            return false;
        }
    }
    return true;
}

/* Breadth first: the stretches that filling adds are filled in their turn. */
static bool fill_all(struct maker *maker, uint32_t range_count)
{
    size_t next;

    if (add_stretch(maker, plan_stretch(maker, 0, UINT64_MAX, 1, range_count + 1, 0)) ==
        UINT32_MAX) {
        return false;
    }
    for (next = 0; next < maker->stretch_count; next++) {
        if (!fill_stretch(maker, next)) {
            return false;
        }
    }
    return true;
}

static struct gpa_stretch settle_stretch(const struct stretch_plan *plan,
                                         const struct gpa_bucket *buckets)
{
    return (struct gpa_stretch){
        .base = plan->base,
        .bucket_count = plan->bucket_count,
        .shift = plan->shift,
        .buckets = &buckets[plan->first_bucket],
    };
}

/* The index, its stretches, its buckets, in one allocation; entries have one of their own, which becomes the index's. */
static struct gpa_index *settle(const struct maker *maker)
{
    size_t stretch_bytes = maker->stretch_count * sizeof(struct gpa_stretch);
    size_t bucket_bytes = maker->bucket_count * sizeof(struct gpa_bucket);
    struct gpa_index *index =
        mem_alloc(maker->allocator, sizeof(*index) + stretch_bytes + bucket_bytes);
    struct gpa_stretch *stretches;
    struct gpa_bucket *buckets;
    size_t i;

    if (index == NULL) {
        return NULL;
    }
    stretches = (struct gpa_stretch *)(index + 1);
    buckets = (struct gpa_bucket *)(stretches + maker->stretch_count);
    memcpy(buckets, maker->buckets, bucket_bytes);
    for (i = 0; i < maker->stretch_count; i++) {
        stretches[i] = settle_stretch(&maker->stretches[i], buckets);
    }
    index->root = stretches[0];
    index->deeper = stretches;
    index->entries = maker->entries;
    index->sections = maker->sections;
    index->memory = maker->memory;
    return index;
}

/* How many offsets of the range there are at which 8 bytes may begin, if it has the flag. */
static uint64_t offsets_with(const struct range *range, uint32_t flag)
{
    uint64_t size_less_1 = range->last - range->gpa;

    return (range->flags & flag) != 0 && size_less_1 >= 7 ? size_less_1 - 6 : 0;
}

/* Stores that take a fence before the record is looked at are not what hot paths do. */
static bool stores_fence(const struct range *range)
{
    return range->region->ram != NULL && range->region->ram->dirty.barrier.light_fences;
}

static struct gpa_entry entry_of(const struct range *range)
{
    return (struct gpa_entry){
        .gpa = range->gpa,
        .size_less_1 = range->last - range->gpa,
        .load_offsets = offsets_with(range, RANGE_DIRECT_READ),
        .store_offsets = stores_fence(range) ? 0 : offsets_with(range, RANGE_DIRECT_WRITE),
        .addend = (uint64_t)(uintptr_t)range->hva - range->gpa,
        .ram = range->region->ram,
        .ram_offset = range->region->ram_offset + range->offset,
        .range = range,
    };
}

static bool make_entries(struct maker *maker, const struct gm_view *view)
{
    size_t count = view->range_count + 1;
    size_t bytes = count * (sizeof(struct gpa_entry) + sizeof(struct gpa_section));
    size_t at = 1;

    maker->memory = mem_alloc(maker->allocator, bytes + GPA_ENTRY_BYTES - 1);
    if (maker->memory == NULL) {
        return false;
    }
    maker->entries =
        (struct gpa_entry *)(void *)((uint8_t *)maker->memory +
                                     (-(uintptr_t)maker->memory & (GPA_ENTRY_BYTES - 1)));
    maker->sections = (struct gpa_section *)(maker->entries + count);
    maker->entries[0] = gpa_entry_unknown;
    maker->sections[0] = (struct gpa_section){.section = {.gpa = 1, .last = 0}};
    for (uint32_t i = 0; i < view->leaf_count; i++) {
        const struct view_leaf *leaf = view->leaves[i];

        for (uint32_t j = 0; j < leaf->count; j++) {
            maker->entries[at] = entry_of(&leaf->ranges[j]);
            range_to_section(&leaf->ranges[j], NULL, &maker->sections[at].section);
            at++;
        }
    }
    return true;
}

struct gpa_index *gpa_index_new(const struct gm_view *view)
{
    struct maker maker = {.allocator = &view->map->allocator};
    struct gpa_index *index = NULL;

    GM_ASSERT(view->range_count > 0 && view->range_count < UINT32_MAX - 1);
    if (!make_entries(&maker, view)) {
        return NULL;
    }
    if (fill_all(&maker, (uint32_t)view->range_count)) {
        index = settle(&maker);
    }
    mem_free(maker.allocator, maker.buckets);
    mem_free(maker.allocator, maker.stretches);
    if (index == NULL) {
        mem_free(maker.allocator, maker.memory);
    }
    return index;
}

void gpa_index_free(const struct gm_allocator *allocator, struct gpa_index *index)
{
    if (index != NULL) {
        mem_free(allocator, index->memory);
        mem_free(allocator, index);
    }
}
