/* mmu/large.c - how large leaves may be, and tracked frames. */
#include "mmu/large.h"

#include "base/alloc.h"
#include "kcore/attributes.h"
#include "mmu/host.h"

#include <errno.h>

/* Tracked frames of 2 MiB of a slot, by guest address. */
struct group {
    atomic_uint tracked_count;            /* frames that are */
    _Atomic uint16_t counts[EPT_ENTRIES]; /* how often each is */
};

/* Made when the first frame of a slot is tracked. */
struct tracking {
    atomic_uint *tracked_1g;          /* tracked frames in each 1 GiB that the slot meets */
    _Atomic(struct group *) groups[]; /* for each 2 MiB that it meets */
};

struct slot_pages {
    /* Level that the host's pages allow; 0: not looked up yet. Relaxed: all find the same. */
    atomic_uint backing_level;
    /* Release; pairs with the acquire in group_of(). Freed with the slot. */
    _Atomic(struct tracking *) tracking;
};

/* The number of a slot's aligned blocks of one level: by their place in guest memory. */
static uint64_t block_index(const struct memslot *slot, struct gfn gfn, unsigned level)
{
    unsigned shift = 9 * (level - 1);

    return (gfn.value >> shift) - (slot->base.value >> shift);
}

static uint64_t block_count(const struct memslot *slot, unsigned level)
{
    struct gfn last = {slot->base.value + slot->page_count - 1};

    return block_index(slot, last, level) + 1;
}

int slot_pages_new(struct mmu *mmu, struct memslot *slot)
{
    struct slot_pages *pages = mem_zalloc(&mmu->allocator, sizeof(*pages));

    slot->arch = pages;
    return pages != NULL ? 0 : -ENOMEM;
}

void slot_pages_free(struct mmu *mmu, struct memslot *slot)
{
    struct slot_pages *pages = slot->arch;
    struct tracking *tracking;

    if (pages == NULL) {
        return;
    }
    tracking = atomic_load_explicit(&pages->tracking, memory_order_acquire);
    if (tracking != NULL) {
        for (uint64_t i = 0; i < block_count(slot, 2); i++) {
            mem_free(&mmu->allocator, atomic_load(&tracking->groups[i]));
        }
        mem_free(&mmu->allocator, tracking->tracked_1g);
        mem_free(&mmu->allocator, tracking);
    }
    mem_free(&mmu->allocator, pages);
}

/* The highest level at which guest and host addresses are aligned alike. */
static unsigned alike_level(const struct memslot *slot)
{
    uint64_t difference = gpa_of_gfn(slot->base) ^ slot->hva.value;
    unsigned level = EPT_LEAF_LEVEL_MAX;

    while (level > 1 && difference % level_bytes(level) != 0) {
        level--;
    }
    return level;
}

unsigned slot_backing_level(const struct memslot *slot)
{
    const struct slot_pages *pages = slot->arch;

    return atomic_load_explicit(&pages->backing_level, memory_order_relaxed);
}

unsigned slot_ask_backing(struct mmu *mmu, struct hva hva, uint64_t size_bytes)
{
    uint64_t page_bytes = mmu->page_bytes != NULL
                              ? mmu->page_bytes(mmu->opaque, hva.value, size_bytes)
                              : host_page_bytes(hva, size_bytes);
    unsigned level = 1;

    while (level < EPT_LEAF_LEVEL_MAX && page_bytes >= level_bytes(level + 1)) {
        level++;
    }
    return level;
}

void slot_remember_backing(const struct memslot *slot, unsigned level)
{
    struct slot_pages *pages = slot->arch;

    if (level != slot_backing_level(slot)) {
        atomic_store_explicit(&pages->backing_level, level, memory_order_relaxed);
    }
}

void slot_forget_backing(const struct memslot *slot)
{
    slot_remember_backing(slot, 0);
}

bool slot_could_have_large(const struct memslot *slot)
{
    return slot->page_count >= level_pages(2) && alike_level(slot) > 1;
}

/* Does the slot hold all of the leaf that would map @gfn at @level? */
static bool leaf_fits(const struct memslot *slot, struct gfn gfn, unsigned level)
{
    return range_holds(slot->base.value, slot->page_count, level_first(level, gfn).value,
                       level_pages(level));
}

static bool is_tracked_within(const struct memslot *slot, struct gfn gfn, unsigned level)
{
    const struct slot_pages *pages = slot->arch;
    struct tracking *tracking = atomic_load_explicit(&pages->tracking, memory_order_acquire);
    struct group *group;

    if (tracking == NULL) {
        return false;
    }
    if (level == 3) {
        return atomic_load(&tracking->tracked_1g[block_index(slot, gfn, 3)]) != 0;
    }
    group =
        atomic_load_explicit(&tracking->groups[block_index(slot, gfn, 2)], memory_order_acquire);
    return group != NULL && atomic_load(&group->tracked_count) != 0;
}

unsigned slot_leaf_level(struct mmu *mmu, const struct memslot *slot, struct gfn gfn)
{
    unsigned level = alike_level(slot);

    if ((slot->flags & MEMSLOT_LOG) != 0 || !leaf_fits(slot, gfn, 2)) {
        return 1;
    }
    while (level > 1 &&
           (!leaf_fits(slot, gfn, level) || is_tracked_within(slot, gfn, level) ||
            !kcore_attributes_same(mmu->core, level_first(level, gfn), level_pages(level)))) {
        level--;
    }
    return level;
}

bool slot_is_tracked(const struct memslot *slot, struct gfn gfn)
{
    const struct slot_pages *pages = slot->arch;
    struct tracking *tracking = atomic_load_explicit(&pages->tracking, memory_order_acquire);
    struct group *group = tracking == NULL
                              ? NULL
                              : atomic_load_explicit(&tracking->groups[block_index(slot, gfn, 2)],
                                                     memory_order_acquire);

    return group != NULL && atomic_load(&group->counts[gfn.value % EPT_ENTRIES]) != 0;
}

/* The slot's tracking, made if it is not there. NULL: no memory. */
static struct tracking *need_tracking(struct mmu *mmu, const struct memslot *slot)
{
    struct slot_pages *pages = slot->arch;
    struct tracking *tracking = atomic_load_explicit(&pages->tracking, memory_order_relaxed);

    if (tracking != NULL) {
        return tracking;
    }
    tracking = mem_zalloc(&mmu->allocator,
                          sizeof(*tracking) + block_count(slot, 2) * sizeof(tracking->groups[0]));
    if (tracking == NULL) {
        return NULL;
    }
    tracking->tracked_1g =
        mem_zalloc(&mmu->allocator, block_count(slot, 3) * sizeof(tracking->tracked_1g[0]));
    if (tracking->tracked_1g == NULL) {
        mem_free(&mmu->allocator, tracking);
        return NULL;
    }
    atomic_store_explicit(&pages->tracking, tracking, memory_order_release);
    return tracking;
}

int slot_track(struct mmu *mmu, const struct memslot *slot, struct gfn gfn, bool *changed)
{
    struct tracking *tracking = need_tracking(mmu, slot);
    _Atomic(struct group *) *place;
    struct group *group;

    if (tracking == NULL) {
        return -ENOMEM;
    }
    place = &tracking->groups[block_index(slot, gfn, 2)];
    group = atomic_load_explicit(place, memory_order_relaxed);
    if (group == NULL) {
        group = mem_zalloc(&mmu->allocator, sizeof(*group));
        if (group == NULL) {
            return -ENOMEM;
        }
        atomic_store_explicit(place, group, memory_order_release);
    }
    if (atomic_load(&group->counts[gfn.value % EPT_ENTRIES]) == UINT16_MAX) {
        return -ENOMEM;
    }
    *changed = atomic_fetch_add(&group->counts[gfn.value % EPT_ENTRIES], 1) == 0;
    if (*changed) {
        atomic_fetch_add(&group->tracked_count, 1);
        atomic_fetch_add(&tracking->tracked_1g[block_index(slot, gfn, 3)], 1);
    }
    return 0;
}

int slot_untrack(struct mmu *mmu, const struct memslot *slot, struct gfn gfn, bool *changed)
{
    const struct slot_pages *pages = slot->arch;
    struct tracking *tracking = atomic_load_explicit(&pages->tracking, memory_order_relaxed);
    struct group *group;

    (void)mmu;
    if (!slot_is_tracked(slot, gfn)) {
        return -ENOENT;
    }
    group =
        atomic_load_explicit(&tracking->groups[block_index(slot, gfn, 2)], memory_order_relaxed);
    *changed = atomic_fetch_sub(&group->counts[gfn.value % EPT_ENTRIES], 1) == 1;
    if (*changed) {
        atomic_fetch_sub(&group->tracked_count, 1);
        atomic_fetch_sub(&tracking->tracked_1g[block_index(slot, gfn, 3)], 1);
    }
    return 0;
}
