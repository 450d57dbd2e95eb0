/*
 * mmu/flush.h - which translations vCPUs must forget: one log for the VM, a position in it for each
 * vCPU.
 *
 * A taker appends what it changed, then calls mmu_flush(), which holds all vCPUs out of guest mode
 * for a moment. A vCPU that comes in replays what was appended since it last did; if that is more
 * than the log keeps, it forgets everything.
 */
#ifndef MMU_FLUSH_H
#define MMU_FLUSH_H

#include "base/addr.h"
#include "base/lock.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#define FLUSH_RECORDS 64u

/* Frames of a space that were unmapped or lost rights. */
struct flush_record {
    uint64_t first;
    uint64_t page_count; /* FLUSH_ALL_PAGES: the whole space; FLUSH_LINEAR */
    unsigned space;
};
#define FLUSH_ALL_PAGES UINT64_MAX
/* Only what linear addresses lead to, as shadow tables have it. */
#define FLUSH_LINEAR 0u

struct flush_log {
    struct lock lock; /* rank LEAF: records */
    struct flush_record records[FLUSH_RECORDS];
    /* Ever appended. Changes under the lock; release, pairs with the acquire in flush_is_due(). */
    atomic_ullong appended;
    atomic_ullong flushed; /* all vCPUs have been held out since this many were appended */
};

int flush_log_init(struct flush_log *log);
void flush_log_fini(struct flush_log *log);

void flush_append(struct flush_log *log, unsigned space, struct gfn first, uint64_t page_count);

/* Has a vCPU that replayed up to @done something to forget? */
static inline bool flush_is_due(const struct flush_log *log, uint64_t done)
{
    return atomic_load_explicit(&log->appended, memory_order_acquire) != done;
}

/*
 * The records after *done, which moves on. Return: how many, at most FLUSH_RECORDS, are copied to
 * @records; -1 there are more than the log keeps.
 */
int flush_read(struct flush_log *log, uint64_t *done, struct flush_record *records);

struct mmu;

/* Wait until no vCPU uses a translation that was appended before the call. Nothing appended: nothing
 * is done. Not from a vCPU in guest mode. */
void mmu_flush(struct mmu *mmu);

#endif
