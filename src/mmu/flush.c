/* mmu/flush.c - the VM's log of translations to forget. */
#include "mmu/flush.h"

#include "mmu/mmu.h"

int flush_log_init(struct flush_log *log)
{
    atomic_init(&log->appended, 0);
    atomic_init(&log->flushed, 0);
    return lock_init(&log->lock, LOCK_RANK_LEAF);
}

void flush_log_fini(struct flush_log *log)
{
    lock_fini(&log->lock);
}

void flush_append(struct flush_log *log, unsigned space, struct gfn first, uint64_t page_count)
{
    uint64_t appended;

    lock_take(&log->lock);
    appended = atomic_load_explicit(&log->appended, memory_order_relaxed);
    log->records[appended % FLUSH_RECORDS] = (struct flush_record){first.value, page_count, space};
    atomic_store_explicit(&log->appended, appended + 1, memory_order_release);
    lock_drop(&log->lock);
}

int flush_read(struct flush_log *log, uint64_t *done, struct flush_record *records)
{
    uint64_t appended;
    uint64_t count;

    lock_take(&log->lock);
    appended = atomic_load_explicit(&log->appended, memory_order_relaxed);
    count = appended - *done;
    if (count <= FLUSH_RECORDS) {
        for (uint64_t i = 0; i < count; i++) {
            records[i] = log->records[(*done + i) % FLUSH_RECORDS];
        }
    }
    lock_drop(&log->lock);
    *done = appended;
    return count <= FLUSH_RECORDS ? (int)count : -1;
}

/* Raise the count of what is flushed; another thread may have raised it further. */
static void note_flushed(struct flush_log *log, unsigned long long position)
{
    unsigned long long now = atomic_load_explicit(&log->flushed, memory_order_relaxed);

    while (now < position && !atomic_compare_exchange_weak(&log->flushed, &now, position)) {
    }
}

void mmu_flush(struct mmu *mmu)
{
    struct flush_log *log = &mmu->flush_log;
    unsigned long long position = atomic_load(&log->appended);

    if (atomic_load(&log->flushed) >= position) {
        return;
    }
    kcore_hold(mmu->core);
    kcore_release(mmu->core);
    note_flushed(log, position);
    /* Not under the lock that the VM's other counts have. */
    atomic_fetch_add_explicit(&mmu->counts.flushes, 1, memory_order_relaxed);
}
