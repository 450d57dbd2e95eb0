/* slots/draft.h - a plan that is being made: what plan.c and join.c hand to each other. */
#ifndef SLOTS_DRAFT_H
#define SLOTS_DRAFT_H

#include "slots/plan.h"

enum verdict {
    VERDICT_KEEP = 1,
    VERDICT_SET_FLAGS, /* all of it logs from now on, or no longer */
    VERDICT_DESTROY,
};

/* A slot that the commit touches, or that has to be joined with others. */
struct draft_entry {
    struct slot *slot;
    enum verdict verdict;
    uint32_t new_flags;
    bool is_covered;   /* at some of its addresses the guest has memory afterwards, too */
    bool is_untouched; /* ... and it is the same memory with the same readonly flag */
};

/* A slot to create. @origin: the section, or the slot before, that its last byte came from. */
struct draft_run {
    struct plan_section section;
    const void *origin;
    bool had_slot; /* some of it was in a slot that is deleted */
};

/* A growing array of any kind; see draft_append(). Its first items are in the draft. */
struct draft_list {
    void *items;
    size_t count;
    size_t capacity;
};

#define DRAFT_FIRST_ITEMS 2u

struct draft {
    const struct slot_set *set;
    const struct plan_limits *limits;
    const struct gm_allocator *allocator;
    struct draft_list windows;   /* struct span: what the commit mentions */
    struct draft_list pieces;    /* struct plan_section: what is wanted in the windows */
    struct draft_list entries;   /* struct draft_entry, by address */
    struct draft_list fragments; /* struct draft_run: what is wanted and not kept, cut everywhere */
    struct draft_list runs;      /* struct draft_run: the creates, by address */
    struct draft_list rebinds;   /* struct plan_rebind */
    size_t destroy_count;
    uint32_t joins;

    /* The lists' first items: most plans are of one slot. Not those of rebinds, which the plan takes over. */
    struct span first_windows[DRAFT_FIRST_ITEMS];
    struct plan_section first_pieces[DRAFT_FIRST_ITEMS];
    struct draft_entry first_entries[DRAFT_FIRST_ITEMS];
    struct draft_run first_fragments[DRAFT_FIRST_ITEMS];
    struct draft_run first_runs[DRAFT_FIRST_ITEMS];
};

void draft_begin(struct draft *draft, const struct slot_set *set, const struct plan_limits *limits,
                 const struct gm_allocator *allocator);
void draft_end(struct draft *draft);

/* draft_append(), where there is no room. */
void *draft_append_grown(struct draft *draft, struct draft_list *list, size_t item_bytes);

/* A new last item, which the caller fills; NULL: no memory. Moves the items. */
static inline void *draft_append(struct draft *draft, struct draft_list *list, size_t item_bytes)
{
    if (list->count == list->capacity) {
        return draft_append_grown(draft, list, item_bytes);
    }
    list->count++;
    return (char *)list->items + (list->count - 1) * item_bytes;
}

/* Free the items of a list. */
void draft_list_free(struct draft *draft, struct draft_list *list);

/* The part of @section that is within @span, which it holds. */
struct plan_section section_clip(const struct plan_section *section, struct span span);

/* What a slot shows. */
struct plan_section section_of_slot(const struct slot *slot);

/* What no slot crosses a multiple of: the size of a slot has 64 bits. */
static inline pos_t draft_border_unit(const struct plan_limits *limits)
{
    return limits->slot_span_bytes != 0 ? limits->slot_span_bytes : (pos_t)1 << 63;
}

/* May one slot hold both: does @next begin where @section ends, in guest and in block, with the same
 * flags, and not at a border that slots do not cross? */
bool section_continues(const struct plan_section *section, const struct plan_section *next,
                       const struct plan_limits *limits);

/* Order of entries, and of runs, by address: for qsort(). */
int draft_compare_entries(const void *a, const void *b);
int draft_compare_runs(const void *a, const void *b);

/* How many slots there are after the plan. */
size_t draft_slot_count(const struct draft *draft);

/*
 * Join neighbours until the slots fit into the set's numbers.
 * Return: 0; -ENOMEM; -ENOSPC they cannot.
 */
int draft_join(struct draft *draft, struct gm_diag *diag);

#endif
