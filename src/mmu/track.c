/*
 * mmu/track.c - write tracking: frames whose writes somebody wants to know of.
 *
 * A tracked frame's leaf has no right to write. The fault of a write gives it EPT_TRACKED, with its host
 * page there for writing; the vCPU then makes the write by hand, in guest mode, and tells after it.
 */
#include "mmu/large.h"
#include "mmu/mmu.h"
#include "mmu/take.h"

#include <errno.h>

void mmu_set_tracker(struct mmu *mmu, mmu_written_fn *written, void *opaque)
{
    mmu->written_opaque = opaque;
    atomic_store_explicit(&mmu->written, written, memory_order_release);
}

/* What maps the frame goes: faults bring it back as its tracking asks. */
static void remap(struct mmu *mmu, unsigned space, struct gfn gfn)
{
    const struct range range = {space, gfn.value, gfn.value + 1};
    struct retired retired = {0};
    struct mmu_locked locked = mmu_lock(mmu);

    (void)take_unmap(locked, range, &retired);
    shadow_unmap(locked, range, &retired);
    mmu_unlock(locked);
    mmu_flush(mmu);
    tables_free_retired(mmu->core->deferred, &retired);
}

static int change(struct mmu *mmu, unsigned space, struct gfn gfn,
                  int (*count)(struct mmu *, const struct memslot *, struct gfn))
{
    struct kcore *core = mmu->core;
    const struct memslot *slot;
    bool was_tracked = false;
    int rc = -EINVAL;

    if (space >= core->spaces) {
        return -EINVAL;
    }
    lock_take(&core->slots_lock);
    slot = memslots_find(kcore_slots(core, space), gfn);
    if (slot != NULL) {
        lock_take(&mmu->lock);
        was_tracked = slot_is_tracked_by_user(slot, gfn);
        rc = count(mmu, slot, gfn);
        lock_drop(&mmu->lock);
    }
    if (rc == 0 && was_tracked != slot_is_tracked_by_user(slot, gfn)) {
        remap(mmu, space, gfn);
    }
    lock_drop(&core->slots_lock);
    return rc;
}

int mmu_track(struct mmu *mmu, unsigned space, struct gfn gfn)
{
    return change(mmu, space, gfn, slot_track);
}

int mmu_untrack(struct mmu *mmu, unsigned space, struct gfn gfn)
{
    return change(mmu, space, gfn, slot_untrack);
}

bool mmu_is_tracked(struct mmu *mmu, unsigned space, struct gfn gfn)
{
    const struct memslot *slot;
    bool is_tracked;

    rcu_enter();
    slot = memslots_find(kcore_slots(mmu->core, space), gfn);
    is_tracked = slot != NULL && slot_is_tracked_by_user(slot, gfn);
    rcu_leave();
    return is_tracked;
}
