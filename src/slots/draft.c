/* slots/draft.c - a plan that is being made: its lists, and the arithmetic of sections. */
#include "slots/draft.h"

void *draft_append(struct draft *draft, struct draft_list *list, size_t item_bytes)
{
    void *items =
        mem_reserve(draft->allocator, list->items, &list->capacity, list->count + 1, item_bytes);
    char *item;

    if (items == NULL) {
        return NULL;
    }
    list->items = items;
    item = (char *)items + list->count * item_bytes;
    list->count++;
    return memset(item, 0, item_bytes);
}

struct plan_section section_clip(const struct plan_section *section, struct span span)
{
    struct plan_section clipped = *section;
    uint64_t skipped_bytes = (uint64_t)(span.start - section->span.start);

    clipped.span = span;
    clipped.ram_offset += skipped_bytes;
    clipped.region_offset += skipped_bytes;
    if (clipped.hva != NULL) {
        clipped.hva += skipped_bytes;
    }
    return clipped;
}

struct plan_section section_of_slot(const struct slot *slot)
{
    return (struct plan_section){
        .span = slot_span(slot),
        .ram = slot->ram,
        .ram_offset = slot->ram_offset,
        .region = slot->shown.region,
        .region_offset = slot->shown.offset,
        .hva = slot->shown.hva,
        .flags = slot->shown.flags,
    };
}

bool section_continues(const struct plan_section *section, const struct plan_section *next,
                       const struct plan_limits *limits)
{
    uint64_t size_bytes = (uint64_t)span_size(section->span);

    return section->span.end == next->span.start &&
           next->span.start % draft_border_unit(limits) != 0 && section->ram == next->ram &&
           section->ram_offset + size_bytes == next->ram_offset && section->flags == next->flags;
}

static int compare_starts(struct span a, struct span b)
{
    return a.start < b.start ? -1 : a.start > b.start;
}

int draft_compare_entries(const void *a, const void *b)
{
    const struct draft_entry *left = a;
    const struct draft_entry *right = b;

    return compare_starts(slot_span(left->slot), slot_span(right->slot));
}

int draft_compare_runs(const void *a, const void *b)
{
    const struct draft_run *left = a;
    const struct draft_run *right = b;

    return compare_starts(left->section.span, right->section.span);
}

size_t draft_slot_count(const struct draft *draft)
{
    return draft->set->count - draft->destroy_count + draft->runs.count;
}
