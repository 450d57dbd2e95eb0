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

/* The frame's leaf goes: faults bring it back as its tracking asks. */
static void remap(struct mmu *mmu, unsigned space, struct gfn gfn)
{
    struct retired retired = {0};
    struct mmu_locked locked = mmu_lock(mmu);

    (void)take_unmap(locked, (struct range){space, gfn.value, gfn.value + 1}, &retired);
    mmu_unlock(locked);
    mmu_flush(mmu);
    tables_free_retired(mmu->core->deferred, &retired);
}

static int change(struct mmu *mmu, unsigned space, struct gfn gfn,
                  int (*count)(struct mmu *, const struct memslot *, struct gfn, bool *))
{
    struct kcore *core = mmu->core;
    const struct memslot *slot;
    bool changed = false;
    int rc = -EINVAL;

    if (space >= core->spaces) {
        return -EINVAL;
    }
    lock_take(&core->slots_lock);
    slot = memslots_find(kcore_slots(core, space), gfn);
    if (slot != NULL) {
        rc = count(mmu, slot, gfn, &changed);
    }
    if (changed) {
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
