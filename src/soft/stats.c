/* soft/stats.c - the numbers of kcore and mmu, put together. */
#include "soft/soft.h"

static uint64_t read_count(const atomic_ullong *counter)
{
    return atomic_load_explicit(counter, memory_order_relaxed);
}

static void count_slots(const struct kcore *core, struct gm_soft_stats *stats)
{
    rcu_enter();
    for (unsigned space = 0; space < KCORE_SPACES; space++) {
        const struct memslots *slots = kcore_slots(core, space);

        stats->slots += slots->count;
        if (slots->generation > stats->generation) {
            stats->generation = slots->generation;
        }
    }
    rcu_leave();
}

/* While vCPUs run, a leaf may be seen to go before it is seen to come. */
static uint64_t not_below_zero(uint64_t count)
{
    return (int64_t)count > 0 ? count : 0;
}

void gm_soft_stats(struct gm_soft *soft, struct gm_soft_stats *stats)
{
    struct mmu *mmu = &soft->mmu;
    struct mmu_counts counts;

    mmu_sum_counts(mmu, &counts);
    *stats = (struct gm_soft_stats){
        .table_pages = read_count(&mmu->tables.used),
        .table_pages_max = read_count(&mmu->tables.used_max),
        .pages_4k = not_below_zero(read_count(&counts.leaves[1])),
        .pages_2m = not_below_zero(read_count(&counts.leaves[2])),
        .pages_1g = not_below_zero(read_count(&counts.leaves[3])),
        .faults = read_count(&counts.faults),
        .faults_fixed = read_count(&counts.faults_fixed),
        .faults_spurious = read_count(&counts.faults_spurious),
        .faults_retried = read_count(&counts.faults_retried),
        .mmio = read_count(&counts.mmio),
        .flushes = read_count(&counts.flushes),
        .splits = read_count(&counts.splits),
        .collapses = read_count(&counts.collapses),
        .reclaimed = read_count(&counts.reclaimed),
        .holds = read_count(&soft->core.holds),
        .shadow_pages = read_count(&mmu->shadow.page_count),
        .shadow_unsync = read_count(&mmu->shadow.unsync_count),
        .shadow_leaves = read_count(&mmu->shadow.leaf_count),
        .shadow_syncs = read_count(&mmu->shadow.syncs),
        .shadow_writes = read_count(&mmu->shadow.writes),
    };
    count_slots(&soft->core, stats);
}
