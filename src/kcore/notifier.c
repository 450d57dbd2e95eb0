/*
 * kcore/notifier.c - host memory that goes away. The numbers of comments are those of the table in
 * notifier.h.
 *
 * Why a fault's two questions are enough. All accesses below are sequentially consistent. Start first
 * tells (range, then count), and takes entries away after; end moves the sequence first, and drops the
 * count after. The fault asks in the opposite order: count, range, sequence.
 *
 *  - It sees the count of a start: it also sees a range that holds that start's, or (1) asks so early that
 *    what it installs is there when start takes entries away: a taker waits for installers inside.
 *  - It sees no count: either start has not counted yet, as (1), or end has dropped it, and then the
 *    sequence has moved before; a token from before that tells (3, 4). A token from after the move
 *    was taken when the memory had gone, and the page found after it is the new one.
 *  - Ranges only grow while something is active. Where one period of activity ends and the next
 *    begins between two loads, the sequence has moved as well.
 */
#include "kcore/notifier.h"

#include "base/check.h"
#include "kcore/kcore.h"

int notifier_init(struct notifier *notifier)
{
    atomic_init(&notifier->sequence, 0);
    atomic_init(&notifier->active, 0);
    atomic_init(&notifier->first, 0);
    atomic_init(&notifier->last, 0);
    return lock_init(&notifier->lock, LOCK_RANK_LEAF);
}

void notifier_fini(struct notifier *notifier)
{
    GM_ASSERT(atomic_load(&notifier->active) == 0);
    lock_fini(&notifier->lock);
}

static uint64_t last_of(struct hva hva, uint64_t size_bytes)
{
    return size_bytes != 0 ? hva_last(hva, size_bytes) : hva.value;
}

bool notifier_retry(struct notifier *notifier, uint64_t token, struct hva hva, uint64_t size_bytes)
{
    /* Before the sequence: end moves that before it drops the count. */
    if (atomic_load(&notifier->active) != 0 &&
        last_of(hva, size_bytes) >= atomic_load(&notifier->first) &&
        hva.value <= atomic_load(&notifier->last)) {
        return true; /* 2 */
    }
    return atomic_load(&notifier->sequence) != token; /* 3, 4 */
}

static void count_start(struct notifier *notifier, uint64_t first, uint64_t last)
{
    lock_take(&notifier->lock);
    if (atomic_load(&notifier->active) == 0) {
        atomic_store(&notifier->first, first);
        atomic_store(&notifier->last, last);
    } else {
        if (first < atomic_load(&notifier->first)) {
            atomic_store(&notifier->first, first);
        }
        if (last > atomic_load(&notifier->last)) {
            atomic_store(&notifier->last, last);
        }
    }
    atomic_fetch_add(&notifier->active, 1); /* after the range */
    lock_drop(&notifier->lock);
}

struct unmapping {
    struct kcore *core;
    bool any;      /* an entry was taken away */
    bool any_slot; /* a slot maps some of it */
};

static void unmap(void *opaque, const struct memslot *slot, struct gfn first, uint64_t page_count)
{
    struct unmapping *unmapping = opaque;
    struct kcore *core = unmapping->core;

    unmapping->any_slot = true;
    if (core->arch_ops->unmap(core->arch, slot, first, page_count)) {
        unmapping->any = true;
    }
}

/*
 * A slot that is created after the walk is found by faults that come after it, by the slots lock: they see
 * the count.
 */
bool notifier_start(struct kcore *core, struct hva hva, uint64_t size_bytes)
{
    struct unmapping unmapping = {core, false, false};

    count_start(&core->notifier, hva.value, last_of(hva, size_bytes));
    lock_take(&core->slots_lock);
    for (unsigned i = 0; i < core->spaces; i++) {
        memslots_visit_hva(kcore_slots(core, i), hva, size_bytes, unmap, &unmapping);
    }
    if (unmapping.any) {
        core->arch_ops->tlb_flush(core->arch);
    }
    lock_drop(&core->slots_lock);
    return unmapping.any_slot;
}

/* An end too many is the caller's mistake; it must not open what others have closed. */
void notifier_end(struct kcore *core, struct hva hva, uint64_t size_bytes)
{
    struct notifier *notifier = &core->notifier;

    (void)hva;
    (void)size_bytes;
    lock_take(&notifier->lock);
    atomic_fetch_add(&notifier->sequence, 1);
    if (atomic_load(&notifier->active) != 0) {
        atomic_fetch_sub(&notifier->active, 1);
    }
    lock_drop(&notifier->lock);
}

void notifier_renew(struct notifier *notifier)
{
    atomic_fetch_add(&notifier->sequence, 1);
}
