/*
 * mmu/arch.c - what kcore asks of mmu: the table of struct kcore_arch_ops, and mmu's own calls of the same
 * kind. All take the lock, change what they must, and flush.
 */
#include "mmu/large.h"
#include "mmu/mmu.h"
#include "mmu/take.h"

#include <errno.h>

struct mmu_locked mmu_lock(struct mmu *mmu)
{
    lock_take(&mmu->lock);
    gate_hold(&mmu->installers);
    return (struct mmu_locked){mmu};
}

void mmu_unlock(struct mmu_locked locked)
{
    gate_release(&locked.mmu->installers);
    lock_drop(&locked.mmu->lock);
}

/* Unlock, wait until nobody uses what was taken out, and free it. */
static void finish(struct mmu_locked locked, struct retired *retired)
{
    struct mmu *mmu = locked.mmu;

    mmu_unlock(locked);
    mmu_flush(mmu);
    tables_free_retired(mmu->core->deferred, retired);
}

static int slot_prepare(void *arch, struct memslot *slot)
{
    struct mmu *mmu = arch;

    if (!range_holds(0, level_pages(mmu->levels + 1), slot->base.value, slot->page_count)) {
        return -EINVAL;
    }
    return slot_pages_new(mmu, slot);
}

static void slot_free(void *arch, struct memslot *slot)
{
    slot_pages_free(arch, slot);
}

static void unmap_range(struct mmu *mmu, struct range range)
{
    struct retired retired = {0};
    struct mmu_locked locked = mmu_lock(mmu);

    (void)take_unmap(locked, range, &retired);
    shadow_unmap(locked, range, &retired);
    finish(locked, &retired);
}

static void slot_flush(void *arch, const struct memslot *slot)
{
    unmap_range(arch, range_of_slot(slot));
}

/* Split all large leaves of a slot, as far as there is memory: writes split the rest. */
static void split_slot(struct mmu *mmu, const struct memslot *slot)
{
    struct tables_cache cache = {0};
    bool all_split = false;

    while (!all_split && tables_cache_fill(&mmu->tables, &cache) == 0) {
        struct mmu_locked locked = mmu_lock(mmu);

        all_split = take_split(locked, range_of_slot(slot), &cache);
        mmu_unlock(locked);
    }
    tables_cache_drain(&mmu->tables, &cache);
}

/*
 * Logging begins: the next write of each page must be seen. Where all pages begin as dirty, that is so
 * from the first clear on.
 */
static void begin_log(struct mmu *mmu, const struct memslot *slot)
{
    struct retired none = {0};
    struct mmu_locked locked;

    if (mmu->core->initially_all_set && mmu->core->ring_entries == 0) {
        return;
    }
    if (mmu->eager_split) {
        split_slot(mmu, slot);
    }
    locked = mmu_lock(mmu);
    take_writes(locked, range_of_slot(slot));
    shadow_protect(locked, range_of_slot(slot));
    finish(locked, &none);
}

/* Logging ends: what was mapped by small leaves for its sake may be large again. */
static void end_log(struct mmu *mmu, const struct memslot *slot)
{
    struct retired retired = {0};
    struct mmu_locked locked;

    if (!slot_could_have_large(slot)) {
        return;
    }
    /* While it was logged nobody had to know. */
    if (slot_backing_level(slot) == 0) {
        uint64_t size_bytes = slot->page_count << PAGE_SHIFT_4K;

        slot_remember_backing(slot, slot_ask_backing(mmu, slot->hva, size_bytes));
    }
    if (slot_backing_level(slot) == 1) {
        return;
    }
    locked = mmu_lock(mmu);
    (void)take_collapse(locked, slot, &retired);
    shadow_collapse(locked, slot, &retired);
    finish(locked, &retired);
}

static void slot_commit(void *arch, const struct memslot *before, const struct memslot *after)
{
    bool logged = before != NULL && (before->flags & MEMSLOT_LOG) != 0;

    /* Only a change of flags finds pages mapped: others have unmapped the slot. */
    if (before == NULL || after == NULL) {
        return;
    }
    if (!logged && (after->flags & MEMSLOT_LOG) != 0) {
        begin_log(arch, after);
    } else if (logged && (after->flags & MEMSLOT_LOG) == 0) {
        end_log(arch, after);
    }
}

static void generation_wrapped(void *arch)
{
    struct mmu_locked locked = mmu_lock(arch);

    take_mmio(locked);
    mmu_unlock(locked);
}

/* A vCPU empties its buffer as it leaves guest mode: those that are held have. */
static void log_drain(void *arch)
{
    (void)arch;
}

static void log_begin(void *arch)
{
    (void)mmu_lock(arch);
}

static void log_end(void *arch)
{
    mmu_unlock((struct mmu_locked){arch});
}

/* Call @protect for each run of pages of a mask. */
static void protect_runs(struct mmu_locked locked, const struct memslot *slot, uint64_t first_page,
                         uint64_t mask,
                         void (*protect)(struct mmu_locked locked, struct range range))
{
    uint64_t base = slot->base.value + first_page;

    while (mask != 0) {
        unsigned first = (unsigned)__builtin_ctzll(mask);
        uint64_t shifted = mask >> first;
        unsigned count = ~shifted == 0 ? 64 - first : (unsigned)__builtin_ctzll(~shifted);
        struct range range = {slot->space, base + first, base + first + count};

        protect(locked, range);
        mask = first + count == 64 ? 0 : mask >> (first + count) << (first + count);
    }
}

static void log_protect(void *arch, const struct memslot *slot, uint64_t first_page, uint64_t mask)
{
    struct mmu_locked locked = {arch};

    protect_runs(locked, slot, first_page, mask, take_writes);
    protect_runs(locked, slot, first_page, mask, shadow_protect);
}

/* EPT costs least when protected as a whole; shadow leaves are found frame by frame. */
static void log_protect_words(void *arch, const struct memslot *slot, uint64_t first_page,
                              const uint64_t *words, uint64_t word_count)
{
    struct mmu_locked locked = {arch};
    uint64_t page_count = word_count * 64;
    struct range range = {slot->space, slot->base.value + first_page, 0};

    if (page_count > slot->page_count - first_page) {
        page_count = slot->page_count - first_page;
    }
    range.end = range.first + page_count;
    take_writes(locked, range);
    for (uint64_t i = 0; i < word_count && locked.mmu->shadow.newest != NULL; i++) {
        protect_runs(locked, slot, first_page + i * 64, words[i], shadow_protect);
    }
}

static void tlb_flush(void *arch)
{
    mmu_flush(arch);
}

static bool unmap(void *arch, const struct memslot *slot, struct gfn first, uint64_t page_count)
{
    struct range range = {slot->space, first.value, first.value + page_count};

    slot_forget_backing(slot);
    unmap_range(arch, range);
    return false; /* flushed already */
}

static void attributes_changed(void *arch, unsigned space, struct gfn first, uint64_t page_count)
{
    struct range range = {space, first.value, first.value + page_count};

    unmap_range(arch, range);
}

const struct kcore_arch_ops mmu_arch_ops = {
    .slot_prepare = slot_prepare,
    .slot_free = slot_free,
    .slot_flush = slot_flush,
    .slot_commit = slot_commit,
    .generation_wrapped = generation_wrapped,
    .log_drain = log_drain,
    .log_begin = log_begin,
    .log_end = log_end,
    .log_protect = log_protect,
    .log_protect_words = log_protect_words,
    .tlb_flush = tlb_flush,
    .unmap = unmap,
    .attributes_changed = attributes_changed,
};

void mmu_zap_all(struct mmu *mmu)
{
    struct retired retired = {0};
    uint64_t *old[KCORE_SPACES] = {NULL};
    struct tables_cache cache = {0};
    struct mmu_locked locked;

    /* Roots are made of a stock, so that this cannot fail: without one, all is unmapped in place. */
    (void)tables_cache_fill(&mmu->tables, &cache);
    locked = mmu_lock(mmu);
    for (unsigned space = 0; space < mmu->core->spaces; space++) {
        uint64_t *root = table_take(&mmu->tables, &cache, mmu->levels, space, (struct gfn){0});

        if (root == NULL) {
            (void)take_unmap(locked, (struct range){space, 0, UINT64_MAX}, &retired);
            continue;
        }
        old[space] = atomic_exchange(&mmu->roots[space], root);
        flush_append(&mmu->flush_log, space, (struct gfn){0}, FLUSH_ALL_PAGES);
    }
    atomic_fetch_add(&mmu->root_generation, 1);
    shadow_zap_all(locked, &retired);
    /* New faults fill the new trees, while the old ones are taken apart behind them. The lock stays
     * taken: the reclaim clock must not come to a table of the old ones. */
    gate_release(&mmu->installers);
    mmu_flush(mmu);
    for (unsigned space = 0; space < mmu->core->spaces; space++) {
        if (old[space] != NULL) {
            retire_tree(locked, old[space], &retired);
        }
    }
    lock_drop(&mmu->lock);
    tables_free_retired(mmu->core->deferred, &retired);
    tables_cache_drain(&mmu->tables, &cache);
}

/* The frames of one slot, with accessed flags cleared. */
struct age {
    struct mmu *mmu;
    struct hva hva;
    uint64_t size_bytes;
    uint64_t page_count;
};

static void age_slot(void *opaque, const struct memslot *slot, struct gfn first,
                     uint64_t page_count)
{
    struct age *age = opaque;
    struct range range = {slot->space, first.value, first.value + page_count};
    struct mmu_locked locked = mmu_lock(age->mmu);

    age->page_count += take_accessed(locked, range, age->hva, age->size_bytes);
    age->page_count += shadow_age(locked, range, age->hva, age->size_bytes);
    mmu_unlock(locked);
}

uint64_t mmu_age(struct mmu *mmu, struct hva hva, uint64_t size_bytes)
{
    struct kcore *core = mmu->core;
    struct age age = {.mmu = mmu, .hva = hva, .size_bytes = size_bytes};

    lock_take(&core->slots_lock);
    for (unsigned space = 0; space < core->spaces; space++) {
        memslots_visit_hva(kcore_slots(core, space), hva, size_bytes, age_slot, &age);
    }
    lock_drop(&core->slots_lock);
    mmu_flush(mmu); /* a translation in a TLB sets no flag */
    return age.page_count;
}
