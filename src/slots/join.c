/*
 * slots/join.c - joining neighbours when the slots of a plan do not fit into the numbers.
 *
 * All slots of the plan's outcome, kept and created, stand in a row; some continue their neighbour
 * in address, memory and flags. Linking n of them into one saves n - 1 numbers. It costs a delete
 * for each that was kept, and a create unless one of them was to be created anyway; of several
 * creates all but one are spared. With S numbers saved by J groups that contain C creates, that is
 * S - 2 (C - J) operations more. So the cheapest way to save S is, in this order:
 *
 *   bridge   creates with each other, over the fewest kept slots first (C - J grows by 1 each time)
 *   extend   creates by kept neighbours (as many operations as numbers)
 *   fuse     kept slots, the largest groups first (C - J falls by 1 each time)
 *
 * This walks all slots, which is why it happens only when numbers have run out.
 */
#include "base/diag.h"
#include "slots/draft.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

/* A slot of the outcome. */
struct item {
    struct plan_section section;
    struct slot *slot; /* NULL: it is to be created */
    size_t entry;      /* of the slot, or NONE */
    size_t rebind;     /* of the slot, or NONE */
    bool can_link;     /* continued by the next item */
    bool is_linked;    /* ... and to be one with it */
};
#define NONE SIZE_MAX

/* Neighbouring items [first, first + length). */
struct stretch {
    size_t first;
    size_t length;
};

struct row {
    struct draft *draft;
    struct item *items;
    size_t count;
    struct stretch *stretches; /* scratch: as many as there are items */
    size_t to_save;            /* numbers */
};

static struct item item_of_slot(const struct draft *draft, struct slot *slot, size_t entry,
                                size_t rebind)
{
    const struct draft_entry *entries = draft->entries.items;
    const struct plan_rebind *rebinds = draft->rebinds.items;
    struct item item = {.section = section_of_slot(slot), .slot = slot, .entry = entry};

    if (entry != NONE) {
        item.section.flags = entries[entry].new_flags;
    }
    item.rebind = rebind;
    if (rebind != NONE) {
        item.section.region = rebinds[rebind].region;
        item.section.region_offset = rebinds[rebind].region_offset;
    }
    return item;
}

/* The outcome in order of address: the slots that stay and the runs, merged. */
static void fill_row(struct row *row)
{
    const struct draft *draft = row->draft;
    const struct draft_entry *entries = draft->entries.items;
    const struct plan_rebind *rebinds = draft->rebinds.items;
    const struct draft_run *runs = draft->runs.items;
    size_t entry = 0;
    size_t rebind = 0;
    size_t run = 0;

    for (struct slot *slot = draft->set->first; slot != NULL || run < draft->runs.count;) {
        bool has_entry = entry < draft->entries.count && entries[entry].slot == slot;
        bool has_rebind = rebind < draft->rebinds.count && rebinds[rebind].slot == slot;

        if (slot == NULL ||
            (run < draft->runs.count && runs[run].section.span.start < slot_span(slot).start)) {
            row->items[row->count] = (struct item){.section = runs[run].section};
            row->count++;
            run++;
            continue;
        }
        if (!has_entry || entries[entry].verdict != VERDICT_DESTROY) {
            row->items[row->count] =
                item_of_slot(draft, slot, has_entry ? entry : NONE, has_rebind ? rebind : NONE);
            row->count++;
        }
        entry += has_entry ? 1 : 0;
        rebind += has_rebind ? 1 : 0;
        slot = slot->next;
    }
    for (size_t i = 0; i + 1 < row->count; i++) {
        row->items[i].can_link =
            section_continues(&row->items[i].section, &row->items[i + 1].section, draft->limits);
    }
}

static void link_with_next(struct row *row, size_t index)
{
    struct item *item = &row->items[index];

    if (row->to_save > 0 && item->can_link && !item->is_linked) {
        item->is_linked = true;
        row->to_save--;
    }
}

static int compare_shorter_first(const void *a, const void *b)
{
    const struct stretch *left = a;
    const struct stretch *right = b;

    if (left->length != right->length) {
        return left->length < right->length ? -1 : 1;
    }
    return left->first < right->first ? -1 : left->first > right->first;
}

static int compare_longer_first(const void *a, const void *b)
{
    const struct stretch *left = a;
    const struct stretch *right = b;

    return left->length == right->length ? compare_shorter_first(a, b)
                                         : compare_shorter_first(b, a);
}

/*
 * From create to create. One more than what is to be saved is worth it: the bridge makes up for
 * two.
 */
static void bridge_creates(struct row *row)
{
    size_t count = 0;
    size_t create = NONE;

    for (size_t i = 0; i < row->count; i++) {
        if (row->items[i].slot == NULL) {
            if (create != NONE) {
                row->stretches[count] = (struct stretch){create, i - create};
                count++;
            }
            create = i;
        }
        if (!row->items[i].can_link) {
            create = NONE;
        }
    }
    qsort(row->stretches, count, sizeof(*row->stretches), compare_shorter_first);
    for (size_t i = 0; i < count && row->to_save > 0; i++) {
        if (row->stretches[i].length > row->to_save + 1) {
            return;
        }
        for (size_t at = 0; at < row->stretches[i].length; at++) {
            row->items[row->stretches[i].first + at].is_linked = true;
        }
        row->to_save -=
            row->stretches[i].length < row->to_save ? row->stretches[i].length : row->to_save;
    }
}

/* From each create to the right and to the left, as far as it goes. */
static void extend_creates(struct row *row)
{
    for (size_t i = 0; i < row->count && row->to_save > 0; i++) {
        if (row->items[i].slot != NULL) {
            continue;
        }
        for (size_t at = i; row->items[at].can_link; at++) {
            link_with_next(row, at);
        }
        for (size_t at = i; at > 0 && row->items[at - 1].can_link; at--) {
            link_with_next(row, at - 1);
        }
    }
}

/* Groups of kept slots alone; those with creates have been linked as a whole by now. */
static void fuse_kept(struct row *row)
{
    size_t count = 0;
    size_t first = 0;

    for (size_t i = 0; i < row->count; i++) {
        if (!row->items[i].can_link) {
            row->stretches[count] = (struct stretch){first, i - first};
            count++;
            first = i + 1;
        }
    }
    qsort(row->stretches, count, sizeof(*row->stretches), compare_longer_first);
    for (size_t i = 0; i < count && row->to_save > 0; i++) {
        for (size_t at = 0; at < row->stretches[i].length; at++) {
            link_with_next(row, row->stretches[i].first + at);
        }
    }
}

/* A kept slot goes into a joined one: it is deleted after all. */
static int destroy_kept(struct draft *draft, const struct item *item)
{
    struct draft_entry *entry;

    if (item->entry != NONE) {
        entry = (struct draft_entry *)draft->entries.items + item->entry;
    } else {
        entry = draft_append(draft, &draft->entries, sizeof(*entry));
    }
    if (entry == NULL) {
        return -ENOMEM;
    }
    *entry = (struct draft_entry){
        .slot = item->slot,
        .verdict = VERDICT_DESTROY,
        .is_covered = true,
        .is_untouched = true,
    };
    draft->destroy_count++;
    if (item->rebind != NONE) {
        ((struct plan_rebind *)draft->rebinds.items)[item->rebind].slot = NULL;
    }
    return 0;
}

static void drop_void_rebinds(struct draft *draft)
{
    struct plan_rebind *rebinds = draft->rebinds.items;
    size_t count = 0;

    for (size_t i = 0; i < draft->rebinds.count; i++) {
        if (rebinds[i].slot != NULL) {
            rebinds[count] = rebinds[i];
            count++;
        }
    }
    draft->rebinds.count = count;
}

/* The links, as entries and runs. */
static int rebuild(struct row *row)
{
    struct draft *draft = row->draft;
    struct draft_list runs = {0};
    struct draft_run *run;
    size_t first = 0;
    int rc = 0;

    for (size_t i = 0; rc == 0 && i < row->count; i++) {
        bool is_group = row->items[i].is_linked || i > first;

        if (is_group && row->items[i].slot != NULL) {
            rc = destroy_kept(draft, &row->items[i]);
        }
        if (row->items[i].is_linked) {
            continue;
        }
        if (rc == 0 && (is_group || row->items[i].slot == NULL)) {
            run = draft_append(draft, &runs, sizeof(*run));
            if (run == NULL) {
                rc = -ENOMEM;
                break;
            }
            *run = (struct draft_run){.section = row->items[first].section};
            run->section.span.end = row->items[i].section.span.end;
            draft->joins += is_group ? 1 : 0;
        }
        first = i + 1;
    }
    draft_list_free(draft, &draft->runs);
    draft->runs = runs;
    drop_void_rebinds(draft);
    if (draft->entries.count > 1) {
        qsort(draft->entries.items, draft->entries.count, sizeof(struct draft_entry),
              draft_compare_entries);
    }
    return rc;
}

static int choose_links(struct row *row, struct gm_diag *diag)
{
    const struct draft *draft = row->draft;
    size_t needed = row->count;

    for (size_t i = 0; i < row->count; i++) {
        needed -= row->items[i].can_link ? 1 : 0;
    }
    if (draft->limits->no_join || draft->limits->no_destroy) {
        needed = row->count;
    }
    if (needed > draft->set->max_slots) {
        return diag_set(diag, GM_DIAG_SLOTS_EXHAUSTED, -ENOSPC,
                        "the map needs %zu memory slots and the hypervisor has %" PRIu32, needed,
                        draft->set->max_slots);
    }
    row->to_save = row->count - draft->set->max_slots;
    bridge_creates(row);
    extend_creates(row);
    fuse_kept(row);
    return 0;
}

int draft_join(struct draft *draft, struct gm_diag *diag)
{
    size_t count = draft_slot_count(draft);
    struct row row = {.draft = draft};
    int rc = -ENOMEM;

    row.items = mem_alloc(draft->allocator, count * sizeof(*row.items));
    row.stretches = mem_alloc(draft->allocator, count * sizeof(*row.stretches));
    if (row.items != NULL && row.stretches != NULL) {
        fill_row(&row);
        rc = choose_links(&row, diag);
    }
    if (rc == 0) {
        rc = rebuild(&row);
    }
    mem_free(draft->allocator, row.items);
    mem_free(draft->allocator, row.stretches);
    return rc;
}
