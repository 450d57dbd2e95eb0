/* slots/draft.c - a plan that is being made: its lists, and the arithmetic of sections. */
#include "slots/draft.h"

/* Member by member: the first items, which are most of it, are not touched before they are needed. */
void draft_begin(struct draft *draft, const struct slot_set *set, const struct plan_limits *limits,
                 const struct gm_allocator *allocator)
{
    draft->set = set;
    draft->limits = limits;
    draft->allocator = allocator;
    draft->windows = (struct draft_list){draft->first_windows, 0, DRAFT_FIRST_ITEMS};
    draft->pieces = (struct draft_list){draft->first_pieces, 0, DRAFT_FIRST_ITEMS};
    draft->entries = (struct draft_list){draft->first_entries, 0, DRAFT_FIRST_ITEMS};
    draft->fragments = (struct draft_list){draft->first_fragments, 0, DRAFT_FIRST_ITEMS};
    draft->runs = (struct draft_list){draft->first_runs, 0, DRAFT_FIRST_ITEMS};
    draft->rebinds = (struct draft_list){0};
    draft->destroy_count = 0;
    draft->joins = 0;
}

void draft_end(struct draft *draft)
{
    draft_list_free(draft, &draft->windows);
    draft_list_free(draft, &draft->pieces);
    draft_list_free(draft, &draft->entries);
    draft_list_free(draft, &draft->fragments);
    draft_list_free(draft, &draft->runs);
    draft_list_free(draft, &draft->rebinds);
}

static bool has_first_items(const struct draft *draft, const struct draft_list *list)
{
    return (uintptr_t)list->items - (uintptr_t)draft < sizeof(*draft);
}

void *draft_append_grown(struct draft *draft, struct draft_list *list, size_t item_bytes)
{
    bool is_first = has_first_items(draft, list);
    void *items = mem_reserve(draft->allocator, is_first ? NULL : list->items, &list->capacity,
                              list->count + 1, item_bytes);

    if (items == NULL) {
        return NULL;
    }
    if (is_first) {
        memcpy(items, list->items, list->count * item_bytes);
    }
    list->items = items;
    return draft_append(draft, list, item_bytes);
}

void draft_list_free(struct draft *draft, struct draft_list *list)
{
    if (!has_first_items(draft, list)) {
        mem_free(draft->allocator, list->items);
    }
    list->items = NULL;
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
