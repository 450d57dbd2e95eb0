/*
 * kcore/apply.c - making a list of changes true: the steps of kcore.h from hold to retire. Nothing here
 * can fail; what could has been done by the draft.
 */
#include "kcore/kcore.h"

#include "base/check.h"
#include "base/point.h"
#include "kcore/draft.h"
#include "kcore/retire.h"

static bool is_generation_wrapped(const struct kcore *core)
{
    return (core->generation & ((UINT64_C(1) << core->generation_bits) - 1)) == 0;
}

/*
 * The MMIO entries that remember the generation that now comes round were made 2^generation_bits
 * versions ago, and must be gone before a vCPU compares: vCPUs are held until they are. A fault that
 * is handled meanwhile, out of guest mode, goes by the slots, not by such entries; what it installs for
 * the old version after this has a number that comes round only after the next time that all go.
 */
static void publish(struct kcore *core, unsigned space, struct memslots *next)
{
    core->generation++;
    next->generation = core->generation;
    rcu_store(&core->slots[space], next);
    if (is_generation_wrapped(core)) {
        core->arch_ops->generation_wrapped(core->arch);
    }
}

/* What vCPUs have buffered is of the slots as they are: bring it in while they still are. */
static void drain_logs(struct kcore *core, const struct draft *draft)
{
    bool is_logged = false;

    for (size_t i = 0; i < draft->touched_count; i++) {
        const struct draft_touched *touched = &draft->touched[i];

        is_logged = is_logged || (touched->before != NULL && touched->effect != MEMSLOT_SAME &&
                                  (touched->before->flags & MEMSLOT_LOG) != 0);
    }
    if (is_logged && !core->log_is_immediate && core->arch_ops->log_drain != NULL) {
        core->arch_ops->log_drain(core->arch);
    }
}

static void tell_removing(struct kcore *core, const struct memslot *slot)
{
    for (struct kcore_follower *f = core->followers; f != NULL; f = f->next) {
        if (f->removing != NULL) {
            f->removing(f->opaque, slot);
        }
    }
}

static void tell_created(struct kcore *core, const struct memslot *slot)
{
    for (struct kcore_follower *f = core->followers; f != NULL; f = f->next) {
        if (f->created != NULL) {
            f->created(f->opaque, slot);
        }
    }
}

static void tell_flags_changed(struct kcore *core, const struct memslot *slot)
{
    for (struct kcore_follower *f = core->followers; f != NULL; f = f->next) {
        if (f->flags_changed != NULL) {
            f->flags_changed(f->opaque, slot);
        }
    }
}

/* The invalid step: nobody may map these slots from here on, and nobody does any more. */
static void take_out(struct kcore *core, struct draft *draft)
{
    for (unsigned i = 0; i < core->spaces; i++) {
        if (draft->spaces[i].invalid != NULL) {
            publish(core, i, draft->spaces[i].invalid);
        }
    }
    for (size_t i = 0; i < draft->touched_count; i++) {
        if (effect_removes(draft->touched[i].effect)) {
            tell_removing(core, draft->touched[i].before);
        }
    }
    for (unsigned i = 0; i < core->spaces; i++) {
        const struct memslots *invalid = draft->spaces[i].invalid;

        for (uint32_t j = 0; invalid != NULL && j < invalid->invalid_count; j++) {
            core->arch_ops->slot_flush(core->arch, &invalid->invalid[j]);
        }
    }
    GM_POINT("slots-flushed");
}

/* The newest version of a slot owns what was handed on to it. */
static void hand_on(const struct draft_touched *touched)
{
    struct memslot *before = touched->before;
    struct memslot *after = touched->after;
    unsigned handed_on = 0;

    if (before == NULL || after == NULL) {
        return;
    }
    if (after->log != NULL && after->log == before->log) {
        handed_on |= MEMSLOT_OWNS_LOG;
    }
    if (touched->effect == MEMSLOT_FLAGS) {
        handed_on |= MEMSLOT_OWNS_ARCH;
    }
    after->owns |= before->owns & handed_on;
    before->owns &= (uint8_t)~handed_on;
}

/* Publish what the list comes to. *old gets the versions to retire. */
static void put_in(struct kcore *core, struct draft *draft, struct memslots *old[KCORE_SPACES])
{
    for (unsigned i = 0; i < core->spaces; i++) {
        struct draft_space *space = &draft->spaces[i];

        if (space->next != NULL) {
            old[i]->dead_nodes[0] = space->replaced[0];
            old[i]->dead_nodes[1] = space->replaced[1];
            old[i]->dead_invalid = space->invalid;
            publish(core, i, space->next);
        }
    }
    for (size_t i = 0; i < draft->touched_count; i++) {
        struct draft_touched *touched = &draft->touched[i];
        unsigned space = change_space(touched->slot);

        if (touched->effect == MEMSLOT_SAME) {
            continue;
        }
        core->by_id[space][change_id(touched->slot)] = touched->after;
        hand_on(touched);
        if (touched->before != NULL) {
            touched->before->dead_next = old[space]->dead_slots;
            old[space]->dead_slots = touched->before;
        }
    }
}

static void commit(struct kcore *core, const struct draft_touched *touched)
{
    const struct kcore_arch_ops *ops = core->arch_ops;

    switch (touched->effect) {
    case MEMSLOT_SAME:
        break;
    case MEMSLOT_REPLACE:
        ops->slot_commit(core->arch, touched->before, NULL);
        ops->slot_commit(core->arch, NULL, touched->after);
        break;
    default:
        ops->slot_commit(core->arch, touched->before, touched->after);
        break;
    }
    if (effect_adds(touched->effect)) {
        tell_created(core, touched->after);
    } else if (touched->effect == MEMSLOT_FLAGS) {
        tell_flags_changed(core, touched->after);
    }
}

/* Slots that only the list itself has seen go with the first version that does. */
static void retire(struct kcore *core, struct draft *draft, struct memslots *old[KCORE_SPACES])
{
    for (unsigned i = 0; i < core->spaces; i++) {
        if (draft->spaces[i].next == NULL) {
            continue;
        }
        while (draft->unused != NULL) {
            struct memslot *slot = draft->unused;

            draft->unused = slot->dead_next;
            slot->dead_next = old[i]->dead_slots;
            old[i]->dead_slots = slot;
        }
        memslots_retire(old[i]);
    }
}

static void carry_out(struct kcore *core, struct draft *draft)
{
    struct memslots *old[KCORE_SPACES] = {NULL};

    for (unsigned i = 0; i < core->spaces; i++) {
        old[i] = atomic_load_explicit(&core->slots[i], memory_order_relaxed);
    }
    kcore_hold(core);
    drain_logs(core, draft);
    take_out(core, draft);
    put_in(core, draft, old);
    for (size_t i = 0; i < draft->touched_count; i++) {
        commit(core, &draft->touched[i]);
    }
    core->arch_ops->tlb_flush(core->arch);
    kcore_release(core);
    retire(core, draft, old);
}

/* Where memory ran out after the last change was staged, that one is named as the one that failed. */
static int apply(struct kcore *core, const struct memslot_change *changes, size_t count,
                 enum change_origin origin, size_t *failed)
{
    struct draft draft;
    size_t at = 0;
    int rc = draft_init(&draft, core, count);

    if (rc != 0) {
        goto out;
    }
    for (; at < count && rc == 0; at++) {
        rc = draft_stage(&draft, &changes[at], origin);
    }
    at -= at > 0 ? 1 : 0;
    rc = rc != 0 ? rc : draft_seal(&draft);
    if (rc != 0) {
        draft_abort(&draft);
        goto out;
    }
    if (draft.is_changed) {
        carry_out(core, &draft);
        GM_AUDIT(kcore_audit_sometimes(core));
    } else {
        memslot_free_list(core, draft.unused);
    }
    draft_done(&draft);

out:
    if (rc != 0 && failed != NULL) {
        *failed = at;
    }
    return rc;
}

int kcore_apply(struct kcore *core, const struct memslot_change *changes, size_t count,
                size_t *failed)
{
    int rc;

    lock_take(&core->slots_lock);
    rc = apply(core, changes, count, CHANGE_BY_USER, failed);
    lock_drop(&core->slots_lock);
    retire_keep_up(core);
    return rc;
}

int kcore_apply_private(struct kcore *core, const struct memslot_change *changes, size_t count)
{
    int rc;

    lock_take(&core->slots_lock);
    rc = apply(core, changes, count, CHANGE_PRIVATE, NULL);
    lock_drop(&core->slots_lock);
    retire_keep_up(core);
    return rc;
}
