/* mmu/large.c - how large leaves may be, and tracked frames. */
#include "mmu/large.h"

#include "base/alloc.h"
#include "kcore/attributes.h"
#include "mmu/host.h"
#include "mmu/rmap.h"

#include <errno.h>

/* Tracked frames of 2 MiB of a slot, by guest address. */
struct group {
    atomic_uint tracked_count;              /* frames that are */
    _Atomic uint16_t counts[EPT_ENTRIES];   /* how often each is, by users */
    atomic_ullong tables[EPT_ENTRIES / 64]; /* a bit for each that holds a table that is shadowed */
};

/* Made when the first frame of a slot is tracked. */
struct tracking {
    atomic_uint *tracked_1g;          /* tracked frames in each 1 GiB that the slot meets */
    _Atomic(struct group *) groups[]; /* for each 2 MiB that it meets */
};

struct slot_pages {
    /* Level that the host's pages allow; 0: not looked up yet. Relaxed: all find the same. */
    atomic_uint backing_level;
    atomic_uint host_kind; /* enum host_kind; likewise */
    /* Release; pairs with the acquire in group_of(). Freed with the slot. */
    _Atomic(struct tracking *) tracking;
    struct rmap *rmap; /* made when a shadow leaf first maps a frame of the slot */
};

uint64_t slot_block_index(const struct memslot *slot, struct gfn gfn, unsigned level)
{
    unsigned shift = 9 * (level - 1);

    return (gfn.value >> shift) - (slot->base.value >> shift);
}

uint64_t slot_block_count(const struct memslot *slot, unsigned level)
{
    struct gfn last = {slot->base.value + slot->page_count - 1};

    return slot_block_index(slot, last, level) + 1;
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
        for (uint64_t i = 0; i < slot_block_count(slot, 2); i++) {
            mem_free(&mmu->allocator, atomic_load(&tracking->groups[i]));
        }
        mem_free(&mmu->allocator, tracking->tracked_1g);
        mem_free(&mmu->allocator, tracking);
    }
    rmap_free(mmu, slot, pages->rmap);
    mem_free(&mmu->allocator, pages);
}

struct rmap **slot_rmap(const struct memslot *slot)
{
    struct slot_pages *pages = slot->arch;

    return &pages->rmap;
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

enum host_kind slot_host_kind(const struct memslot *slot)
{
    const struct slot_pages *pages = slot->arch;

    return (enum host_kind)atomic_load_explicit(&pages->host_kind, memory_order_relaxed);
}

void slot_remember_host_kind(const struct memslot *slot, enum host_kind kind)
{
    struct slot_pages *pages = slot->arch;

    if (kind != slot_host_kind(slot)) {
        atomic_store_explicit(&pages->host_kind, (unsigned)kind, memory_order_relaxed);
    }
}

void slot_forget_backing(const struct memslot *slot)
{
    slot_remember_backing(slot, 0);
    slot_remember_host_kind(slot, HOST_KIND_UNKNOWN);
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
        return atomic_load(&tracking->tracked_1g[slot_block_index(slot, gfn, 3)]) != 0;
    }
    group = atomic_load_explicit(&tracking->groups[slot_block_index(slot, gfn, 2)],
                                 memory_order_acquire);
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

static struct group *group_of(const struct memslot *slot, struct gfn gfn)
{
    const struct slot_pages *pages = slot->arch;
    struct tracking *tracking = atomic_load_explicit(&pages->tracking, memory_order_acquire);

    return tracking == NULL
               ? NULL
               : atomic_load_explicit(&tracking->groups[slot_block_index(slot, gfn, 2)],
                                      memory_order_acquire);
}

static bool has_table(const struct group *group, struct gfn gfn)
{
    unsigned index = gfn.value % EPT_ENTRIES;

    return (atomic_load(&group->tables[index / 64]) >> index % 64 & 1) != 0;
}

static bool has_users(const struct group *group, struct gfn gfn)
{
    return atomic_load(&group->counts[gfn.value % EPT_ENTRIES]) != 0;
}

bool slot_is_tracked(const struct memslot *slot, struct gfn gfn)
{
    const struct group *group = group_of(slot, gfn);

    return group != NULL && (has_users(group, gfn) || has_table(group, gfn));
}

bool slot_is_tracked_by_user(const struct memslot *slot, struct gfn gfn)
{
    const struct group *group = group_of(slot, gfn);

    return group != NULL && has_users(group, gfn);
}

/* The slot's tracking, made if it is not there. NULL: no memory. */
static struct tracking *need_tracking(struct mmu *mmu, const struct memslot *slot)
{
    struct slot_pages *pages = slot->arch;
    struct tracking *tracking = atomic_load_explicit(&pages->tracking, memory_order_relaxed);

    if (tracking != NULL) {
        return tracking;
    }
    tracking = mem_zalloc(&mmu->allocator, sizeof(*tracking) + slot_block_count(slot, 2) *
                                                                   sizeof(tracking->groups[0]));
    if (tracking == NULL) {
        return NULL;
    }
    tracking->tracked_1g =
        mem_zalloc(&mmu->allocator, slot_block_count(slot, 3) * sizeof(tracking->tracked_1g[0]));
    if (tracking->tracked_1g == NULL) {
        mem_free(&mmu->allocator, tracking);
        return NULL;
    }
    atomic_store_explicit(&pages->tracking, tracking, memory_order_release);
    return tracking;
}

/* The frame's group, made if it is not there. NULL: no memory. */
static struct group *need_group(struct mmu *mmu, const struct memslot *slot, struct gfn gfn)
{
    struct tracking *tracking = need_tracking(mmu, slot);
    _Atomic(struct group *) *place;
    struct group *group;

    if (tracking == NULL) {
        return NULL;
    }
    place = &tracking->groups[slot_block_index(slot, gfn, 2)];
    group = atomic_load_explicit(place, memory_order_relaxed);
    if (group == NULL) {
        group = mem_zalloc(&mmu->allocator, sizeof(*group));
        if (group != NULL) {
            atomic_store_explicit(place, group, memory_order_release);
        }
    }
    return group;
}

/* The frame begins, ends to be tracked. */
static void count_frame(const struct memslot *slot, struct group *group, struct gfn gfn,
                        bool begins)
{
    const struct slot_pages *pages = slot->arch;
    struct tracking *tracking = atomic_load_explicit(&pages->tracking, memory_order_relaxed);
    unsigned by = begins ? 1 : -1u;

    atomic_fetch_add(&group->tracked_count, by);
    atomic_fetch_add(&tracking->tracked_1g[slot_block_index(slot, gfn, 3)], by);
}

int slot_track(struct mmu *mmu, const struct memslot *slot, struct gfn gfn)
{
    struct group *group = need_group(mmu, slot, gfn);
    _Atomic uint16_t *count;

    if (group == NULL) {
        return -ENOMEM;
    }
    count = &group->counts[gfn.value % EPT_ENTRIES];
    if (atomic_load(count) == UINT16_MAX) {
        return -ENOMEM;
    }
    if (atomic_fetch_add(count, 1) == 0 && !has_table(group, gfn)) {
        count_frame(slot, group, gfn, true);
    }
    return 0;
}

int slot_untrack(struct mmu *mmu, const struct memslot *slot, struct gfn gfn)
{
    struct group *group = group_of(slot, gfn);

    (void)mmu;
    if (group == NULL || !has_users(group, gfn)) {
        return -ENOENT;
    }
    if (atomic_fetch_sub(&group->counts[gfn.value % EPT_ENTRIES], 1) == 1 &&
        !has_table(group, gfn)) {
        count_frame(slot, group, gfn, false);
    }
    return 0;
}

int slot_begin_table(struct mmu *mmu, const struct memslot *slot, struct gfn gfn)
{
    struct group *group = need_group(mmu, slot, gfn);
    unsigned index = gfn.value % EPT_ENTRIES;

    if (group == NULL) {
        return -ENOMEM;
    }
    atomic_fetch_or(&group->tables[index / 64], 1ull << index % 64);
    if (!has_users(group, gfn)) {
        count_frame(slot, group, gfn, true);
    }
    return 0;
}

void slot_end_table(const struct memslot *slot, struct gfn gfn)
{
    struct group *group = group_of(slot, gfn);
    unsigned index = gfn.value % EPT_ENTRIES;

    atomic_fetch_and(&group->tables[index / 64], ~(1ull << index % 64));
    if (!has_users(group, gfn)) {
        count_frame(slot, group, gfn, false);
    }
}
