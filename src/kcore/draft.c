/* kcore/draft.c - staging changes of slots, one after the other. Sealing is in seal.c. */
#include "kcore/draft.h"

#include "base/alloc.h"
#include "base/check.h"
#include "kcore/dirtylog.h"
#include "kcore/retire.h"

#include <errno.h>

/* Of one list: what the table of a draft can number, by far more than a list can need. */
#define CHANGES_MAX (SIZE_MAX / 64 < UINT32_MAX / 4 ? SIZE_MAX / 64 : UINT32_MAX / 4)

int draft_init(struct draft *draft, struct kcore *core, size_t count)
{
    size_t table_size = 2;

    *draft = (struct draft){.core = core};
    if (count > CHANGES_MAX) {
        return -ENOMEM;
    }
    while (table_size < 2 * count) {
        table_size *= 2;
    }
    draft->table_mask = table_size - 1;
    if (count <= 1) {
        draft->touched = &draft->one_touched;
        draft->table = draft->one_table;
    } else {
        draft->touched = mem_alloc(&core->allocator, count * sizeof(*draft->touched));
        draft->table = mem_zalloc(&core->allocator, table_size * sizeof(*draft->table));
        if (draft->touched == NULL || draft->table == NULL) {
            mem_free(&core->allocator, draft->touched);
            mem_free(&core->allocator, draft->table);
            return -ENOMEM;
        }
    }
    for (unsigned i = 0; i < core->spaces; i++) {
        const struct memslots *slots = kcore_slots(core, i);

        index_edit_begin(&draft->spaces[i].by_gfn, &core->index_pool, slots->by_gfn);
        index_edit_begin(&draft->spaces[i].by_hva, &core->index_pool, slots->by_hva);
        draft->spaces[i].count = slots->count;
    }
    return 0;
}

/* The entry of a slot, which is made if the list has not named it before: as it is published. */
static struct draft_touched *touch(struct draft *draft, uint32_t slot)
{
    size_t place = (slot * UINT64_C(0x9e3779b97f4a7c15) >> 32) & draft->table_mask;
    struct memslot *before;

    while (draft->table[place] != 0) {
        struct draft_touched *touched = &draft->touched[draft->table[place] - 1];

        if (touched->slot == slot) {
            return touched;
        }
        place = (place + 1) & draft->table_mask;
    }
    before = draft->core->by_id[change_space(slot)][change_id(slot)];
    draft->touched[draft->touched_count] =
        (struct draft_touched){.slot = slot, .before = before, .after = before};
    draft->touched_count++;
    draft->table[place] = (uint32_t)draft->touched_count;
    return &draft->touched[draft->touched_count - 1];
}

static struct draft_space *space_of(struct draft *draft, uint32_t slot)
{
    return &draft->spaces[change_space(slot)];
}

static uint64_t last_frame(const struct memslot *slot)
{
    return slot->base.value + (slot->page_count - 1);
}

static struct index_entry entry_by_hva(const struct memslot *slot)
{
    return (struct index_entry){
        slot->hva.value, hva_last(slot->hva, slot->page_count << PAGE_SHIFT_4K), slot->id, slot};
}

static struct index_entry entry_of_private(const struct memslot *slot)
{
    return (struct index_entry){slot->private_hva.value,
                                hva_last(slot->private_hva, slot->page_count << PAGE_SHIFT_4K),
                                slot->id | MEMSLOTS_PRIVATE_ID, slot};
}

static int insert_by_gfn(struct draft_space *space, const struct memslot *slot)
{
    struct index_entry entry = {slot->base.value, last_frame(slot), slot->id, slot};

    return index_insert(&space->by_gfn, &entry);
}

static int insert_by_hva(struct draft_space *space, const struct memslot *slot)
{
    struct index_entry entry = entry_by_hva(slot);
    int rc = index_insert(&space->by_hva, &entry);

    if (rc == 0 && (slot->flags & MEMSLOT_GUEST_MEMFD) != 0) {
        entry = entry_of_private(slot);
        rc = index_insert(&space->by_hva, &entry);
    }
    return rc;
}

static int remove_from_trees(struct draft_space *space, const struct memslot *slot)
{
    int rc = index_remove(&space->by_gfn, slot->base.value, slot->id);

    if (rc == 0) {
        rc = index_remove(&space->by_hva, slot->hva.value, slot->id);
    }
    if (rc == 0 && (slot->flags & MEMSLOT_GUEST_MEMFD) != 0) {
        rc = index_remove(&space->by_hva, slot->private_hva.value, slot->id | MEMSLOTS_PRIVATE_ID);
    }
    return rc;
}

/* Does another slot than @self have one of these frames? Slots do not overlap, so of those that begin at
 * or before @last only the last one can reach there. */
static bool is_taken(const struct draft_space *space, uint64_t first, uint64_t last,
                     const struct memslot *self)
{
    const struct index_node *root = space->by_gfn.root;
    struct index_entry entry;
    bool is_found = index_floor(root, last, &entry);

    if (is_found && entry.value == self) {
        is_found = entry.first > 0 && index_floor(root, entry.first - 1, &entry);
    }
    return is_found && entry.last >= first;
}

void draft_put_aside(struct draft *draft, struct draft_touched *touched)
{
    if (touched->after != NULL && touched->after != touched->before) {
        touched->after->dead_next = draft->unused;
        draft->unused = touched->after;
    }
    touched->after = NULL;
}

/* Take over from @older: its own things, too, if it is of this draft and so nobody else's. */
static void take_over(struct memslot *slot, struct memslot *older,
                      const struct draft_touched *touched, unsigned what)
{
    if (older != touched->before) {
        slot->owns |= older->owns & what;
        older->owns &= (uint8_t)~what;
    }
}

/*
 * The log of a new version: the one that the slot has, or had before the list turned it off, so that
 * nothing is lost; or a fresh one.
 */
static int give_log(struct draft *draft, const struct draft_touched *touched, struct memslot *slot)
{
    const struct kcore *core = draft->core;
    struct memslot *current = touched->after;

    if ((slot->flags & MEMSLOT_LOG) == 0 || !kcore_has_bitmaps(core)) {
        return 0;
    }
    if (current != NULL && current->log != NULL) {
        slot->log = current->log;
        take_over(slot, current, touched, MEMSLOT_OWNS_LOG);
        return 0;
    }
    if (!touched->was_deleted && touched->before != NULL && touched->before->log != NULL) {
        slot->log = touched->before->log;
        return 0;
    }
    slot->log = dirtylog_new(&core->allocator, slot->page_count,
                             core->manual_protect && core->initially_all_set);
    if (slot->log == NULL) {
        return -ENOMEM;
    }
    slot->owns |= MEMSLOT_OWNS_LOG;
    return 0;
}

static int give_arch(struct draft *draft, const struct draft_touched *touched, struct memslot *slot,
                     enum memslot_effect effect)
{
    int rc;

    if (effect == MEMSLOT_FLAGS) {
        slot->arch = touched->after->arch;
        take_over(slot, touched->after, touched, MEMSLOT_OWNS_ARCH);
        return 0;
    }
    rc = draft->core->arch_ops->slot_prepare(draft->core->arch, slot);
    if (rc == 0) {
        slot->owns |= MEMSLOT_OWNS_ARCH;
    }
    return rc;
}

static struct memslot *slot_new(struct kcore *core, const struct memslot_change *change)
{
    bool is_private = (change->flags & MEMSLOT_GUEST_MEMFD) != 0;
    struct memslot *slot = mem_alloc(&core->allocator, sizeof(*slot));

    if (slot != NULL) {
        *slot = (struct memslot){
            .id = (uint16_t)change_id(change->slot),
            .space = (uint8_t)change_space(change->slot),
            .owns = is_private ? MEMSLOT_OWNS_PRIVATE : 0,
            .flags = change->flags,
            .base = gfn_of(change->gpa),
            .page_count = change->size_bytes >> PAGE_SHIFT_4K,
            .hva = {change->hva},
            .private_hva = {is_private ? change->private_hva : 0},
            .private_owner = is_private ? change->private_owner : NULL,
        };
    }
    return slot;
}

/* Put @slot into the trees, in the place of @current. */
static int put_in(struct draft_space *space, const struct memslot *current,
                  const struct memslot *slot, enum memslot_effect effect)
{
    int rc;

    switch (effect) {
    case MEMSLOT_CREATE:
        rc = insert_by_gfn(space, slot);
        return rc != 0 ? rc : insert_by_hva(space, slot);
    case MEMSLOT_MOVE:
        rc = index_remove(&space->by_gfn, current->base.value, current->id);
        rc = rc != 0 ? rc : insert_by_gfn(space, slot);
        break;
    default:
        rc = index_replace(&space->by_gfn, current->base.value, current->id, slot);
        break;
    }
    return rc != 0 ? rc : index_replace(&space->by_hva, current->hva.value, current->id, slot);
}

/* A new version of a slot, or a new slot. */
static int stage_version(struct draft *draft, struct draft_touched *touched,
                         const struct memslot_change *change, enum memslot_effect effect)
{
    struct draft_space *space = space_of(draft, change->slot);
    struct memslot *slot = slot_new(draft->core, change);
    int rc;

    if (slot == NULL) {
        return -ENOMEM;
    }
    rc = give_log(draft, touched, slot);
    rc = rc != 0 ? rc : give_arch(draft, touched, slot, effect);
    rc = rc != 0 ? rc : put_in(space, touched->after, slot, effect);
    draft_put_aside(draft, touched);
    touched->after = slot; /* also after an error: it is freed with the draft */
    space->count += effect == MEMSLOT_CREATE ? 1 : 0;
    return rc;
}

static int stage_delete(struct draft *draft, struct draft_touched *touched)
{
    struct draft_space *space = space_of(draft, touched->slot);
    int rc = remove_from_trees(space, touched->after);

    draft_put_aside(draft, touched);
    touched->was_deleted = touched->before != NULL;
    space->count--;
    return rc;
}

int draft_stage(struct draft *draft, const struct memslot_change *change, enum change_origin origin)
{
    const struct kcore *core = draft->core;
    struct draft_touched *touched;
    enum memslot_effect effect;
    int rc = change_check(core, change, origin);

    if (rc != 0) {
        return rc;
    }
    touched = touch(draft, change->slot);
    rc = change_effect(touched->after, change, &effect);
    if (rc != 0 || effect == MEMSLOT_SAME) {
        return rc;
    }
    if (effect == MEMSLOT_DELETE) {
        return stage_delete(draft, touched);
    }
    if (effect != MEMSLOT_FLAGS) {
        uint64_t last_gpa = change->gpa + (change->size_bytes - 1);

        if (is_taken(space_of(draft, change->slot), gfn_of(change->gpa).value,
                     gfn_of(last_gpa).value, touched->after)) {
            return -EEXIST;
        }
        if (!range_holds(0, UINT64_C(1) << core->gpa_bits, change->gpa, change->size_bytes)) {
            return -EINVAL;
        }
    }
    return stage_version(draft, touched, change, effect);
}

static void free_lists(struct draft *draft)
{
    const struct gm_allocator *allocator = &draft->core->allocator;

    if (draft->touched != &draft->one_touched) {
        mem_free(allocator, draft->touched);
        mem_free(allocator, draft->table);
    }
}

void draft_abort(struct draft *draft)
{
    struct kcore *core = draft->core;

    for (size_t i = 0; i < draft->touched_count; i++) {
        draft_put_aside(draft, &draft->touched[i]);
    }
    /* Private memory is still the caller's. */
    for (struct memslot *slot = draft->unused; slot != NULL; slot = slot->dead_next) {
        slot->owns &= (uint8_t)~MEMSLOT_OWNS_PRIVATE;
    }
    memslot_free_list(core, draft->unused);
    for (unsigned i = 0; i < core->spaces; i++) {
        index_edit_abort(&draft->spaces[i].by_gfn);
        index_edit_abort(&draft->spaces[i].by_hva);
        mem_free(&core->allocator, draft->spaces[i].invalid);
        mem_free(&core->allocator, draft->spaces[i].next);
    }
    free_lists(draft);
}

void draft_done(struct draft *draft)
{
    free_lists(draft);
}
