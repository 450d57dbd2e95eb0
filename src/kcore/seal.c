/*
 * kcore/seal.c - the end of a draft: what the list comes to for each slot, and the versions to publish.
 */
#include "kcore/draft.h"

#include "base/alloc.h"
#include "base/check.h"
#include "kcore/retire.h"

#include <errno.h>
#include <stdlib.h>

static enum memslot_effect effect_of(const struct draft_touched *touched)
{
    const struct memslot *before = touched->before;
    const struct memslot *after = touched->after;

    if (before == NULL) {
        return after != NULL ? MEMSLOT_CREATE : MEMSLOT_SAME;
    }
    if (after == NULL) {
        return MEMSLOT_DELETE;
    }
    if (touched->was_deleted) {
        return MEMSLOT_REPLACE;
    }
    if (before->base.value != after->base.value) {
        return MEMSLOT_MOVE;
    }
    return before->flags != after->flags ? MEMSLOT_FLAGS : MEMSLOT_SAME;
}

/* A slot that moved away and back is where it was, and what mmu keeps about it still holds. */
static void keep_arch(struct draft *draft, struct draft_touched *touched)
{
    struct memslot *after = touched->after;

    if ((after->owns & MEMSLOT_OWNS_ARCH) != 0) {
        draft->core->arch_ops->slot_free(draft->core->arch, after);
        after->owns &= (uint8_t)~MEMSLOT_OWNS_ARCH;
    }
    after->arch = touched->before->arch;
}

/* A slot that was changed and changed back: the version that is published stays. Its places in the trees are this draft's
 * already, so that needs no memory. */
static void keep_before(struct draft *draft, struct draft_touched *touched)
{
    struct draft_space *space = &draft->spaces[change_space(touched->slot)];
    struct memslot *before = touched->before;
    int rc = index_replace(&space->by_gfn, before->base.value, before->id, before);

    rc = rc != 0 ? rc : index_replace(&space->by_hva, before->hva.value, before->id, before);
    GM_ASSERT(rc == 0);
    draft_put_aside(draft, touched);
    touched->after = before;
}

static void find_effects(struct draft *draft)
{
    for (size_t i = 0; i < draft->touched_count; i++) {
        struct draft_touched *touched = &draft->touched[i];

        touched->effect = effect_of(touched);
        if (touched->effect == MEMSLOT_FLAGS) {
            keep_arch(draft, touched);
        }
        if (touched->effect != MEMSLOT_SAME) {
            draft->spaces[change_space(touched->slot)].is_changed = true;
            draft->is_changed = true;
        } else if (touched->after != touched->before) {
            keep_before(draft, touched);
        }
    }
}

static int compare_ids(const void *a, const void *b)
{
    return (int)((const struct memslot *)a)->id - (int)((const struct memslot *)b)->id;
}

static bool is_removed_from(const struct draft_touched *touched, unsigned space)
{
    return effect_removes(touched->effect) && change_space(touched->slot) == space;
}

/* The invalid step of a space: both trees as they are, and copies of what goes or moves. */
static int make_invalid(struct draft *draft, unsigned space, size_t removed_count)
{
    const struct memslots *now = kcore_slots(draft->core, space);
    struct memslots *invalid;
    struct memslot *copies;

    invalid =
        mem_zalloc(&draft->core->allocator, sizeof(*invalid) + removed_count * sizeof(*copies));
    if (invalid == NULL) {
        return -ENOMEM;
    }
    draft->spaces[space].invalid = invalid;
    copies = (struct memslot *)(void *)(invalid + 1);
    for (size_t i = 0; i < draft->touched_count; i++) {
        if (is_removed_from(&draft->touched[i], space)) {
            copies[invalid->invalid_count] = *draft->touched[i].before;
            copies[invalid->invalid_count].flags |= MEMSLOT_INVALID;
            copies[invalid->invalid_count].owns = 0;
            invalid->invalid_count++;
        }
    }
    if (removed_count > 1) {
        qsort(copies, removed_count, sizeof(*copies), compare_ids);
    }
    invalid->core = draft->core;
    invalid->count = now->count;
    invalid->by_gfn = now->by_gfn;
    invalid->by_hva = now->by_hva;
    invalid->invalid = copies;
    return 0;
}

static int make_versions(struct draft *draft, unsigned space)
{
    struct memslots *next = mem_zalloc(&draft->core->allocator, sizeof(*next));
    size_t removed_count = 0;

    if (next == NULL) {
        return -ENOMEM;
    }
    next->core = draft->core;
    draft->spaces[space].next = next;
    for (size_t i = 0; i < draft->touched_count; i++) {
        removed_count += is_removed_from(&draft->touched[i], space) ? 1 : 0;
    }
    return removed_count != 0 ? make_invalid(draft, space, removed_count) : 0;
}

/* Nothing can fail any more: the trees are as they will be published. */
static void close_trees(struct draft_space *space)
{
    if (!space->is_changed) {
        index_edit_abort(&space->by_gfn);
        index_edit_abort(&space->by_hva);
        return;
    }
    space->replaced[0] = index_edit_commit(&space->by_gfn);
    space->replaced[1] = index_edit_commit(&space->by_hva);
    space->next->by_gfn = space->by_gfn.root;
    space->next->by_hva = space->by_hva.root;
    space->next->count = space->count;
}

int draft_seal(struct draft *draft)
{
    unsigned spaces = draft->core->spaces;
    int rc = 0;

    find_effects(draft);
    for (unsigned i = 0; i < spaces && rc == 0; i++) {
        rc = draft->spaces[i].is_changed ? make_versions(draft, i) : 0;
    }
    if (rc != 0) {
        return rc;
    }
    for (unsigned i = 0; i < spaces; i++) {
        close_trees(&draft->spaces[i]);
    }
    return 0;
}
