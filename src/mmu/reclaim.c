/* mmu/reclaim.c - keeping table pages within their limit: a clock over the pages that map 4 KiB leaves. */
#include "mmu/reclaim.h"

#include "mmu/take.h"
#include "mmu/walk.h"

#include <errno.h>

/* What is freed beyond the need, so that not each fault reclaims: a sixteenth of the limit. */
#define SLACK_SHIFT 4
/* Turns of the hand after which even tables in use go. */
#define TURNS_MAX 2u

static uint64_t pages_used(const struct mmu *mmu)
{
    return atomic_load_explicit(&mmu->tables.used, memory_order_relaxed);
}

/* The entry that leads to a linked table. */
static uint64_t *parent_entry(struct mmu *mmu, const struct table *table)
{
    uint64_t *entries = atomic_load(&mmu->roots[table->space]);
    unsigned level = mmu->levels;

    while (level > table->level + 1u) {
        entries = entry_table(entry_load(&entries[level_index(level, table->first)]));
        level--;
    }
    return &entries[level_index(level, table->first)];
}

/* Was the table used since the hand came by last? Then it is spared once. */
static bool is_spared(struct mmu *mmu, const struct table *table)
{
    uint64_t was = __atomic_fetch_and(parent_entry(mmu, table), ~EPT_ACCESSED, __ATOMIC_RELAXED);

    return (was & EPT_ACCESSED) != 0;
}

/* Tables of one level go until few enough are left. */
static void reclaim_level(struct mmu_locked locked, unsigned level, uint64_t page_count,
                          struct retired *retired)
{
    struct mmu *mmu = locked.mmu;
    unsigned turns = 0;

    while (pages_used(mmu) > page_count) {
        bool turned = false;
        struct table *table = tables_clock(&mmu->tables, level, &turned);

        if (table == NULL) {
            return;
        }
        turns += turned;
        if (turns > TURNS_MAX || !is_spared(mmu, table)) {
            take_table(locked, table, retired);
        }
    }
}

void reclaim_down_to(struct mmu *mmu, uint64_t page_count)
{
    struct retired retired = {0};
    struct mmu_locked locked = mmu_lock(mmu);

    (void)shadow_reclaim(locked, page_count, &retired);
    /* Higher ones, without their tables of leaves, hold large leaves or nothing. */
    for (unsigned level = 1; level < mmu->levels; level++) {
        reclaim_level(locked, level, page_count, &retired);
    }
    count_up(&mmu->counts.reclaimed, retired.count);
    mmu_unlock(locked);
    mmu_flush(mmu);
    tables_free_retired(mmu->core->deferred, &retired);
}

int reclaim_make_room(struct mmu_vcpu *vcpu)
{
    struct mmu *mmu = vcpu->mmu;
    uint64_t limit = atomic_load_explicit(&mmu->tables.used_max, memory_order_relaxed);

    if (pages_used(mmu) + TABLES_CACHE_MAX > limit) {
        reclaim_down_to(mmu, limit - (limit >> SLACK_SHIFT) - TABLES_CACHE_MAX);
    }
    return tables_cache_fill(&mmu->tables, &vcpu->cache);
}

int mmu_set_page_limit(struct mmu *mmu, uint64_t page_count)
{
    if (page_count < MMU_PAGES_MIN) {
        return -EINVAL;
    }
    atomic_store_explicit(&mmu->tables.used_max, page_count, memory_order_relaxed);
    if (pages_used(mmu) > page_count) {
        reclaim_down_to(mmu, page_count);
    }
    return 0;
}
