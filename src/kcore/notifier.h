/*
 * kcore/notifier.h - host memory that goes away, and faults that must not map it meanwhile.
 *
 * Whoever unmaps, discards or protects host memory brackets that with start and end. Start makes sure
 * that no table and no TLB leads there; a fault that has resolved its host page before and wants to
 * install it after finds by notifier_retry() that it must begin anew:
 *
 * | # | fault                            | invalidation                | outcome                     |
 * | - | -------------------------------- | --------------------------- | --------------------------- |
 * | 1 | token; host page; retry? no;     | start: counts, unmaps       | Unmapped by start: both are |
 * |   | installs, as an installer        | with installers kept out    | exclusive (mmu/mmu.h).      |
 * | 2 | token; host page                 | start                       |                             |
 * |   | retry? yes: a range is active    |                             | Begins anew.                |
 * | 3 | token; host page                 | start; ...; end             |                             |
 * |   | retry? yes: the sequence moved   |                             | Begins anew.                |
 * | 4 | token (after start)              | start ... memory goes       |                             |
 * |   | host page: the old one           | end                         |                             |
 * |   | retry? yes: the sequence moved   |                             | Begins anew.                |
 *
 * tests/race/test_soft_points.c forces them.
 *
 * Source: Linux Documentation/virt/kvm/locking.rst; the idea of mmu notifiers is Linux's.
 */
#ifndef KCORE_NOTIFIER_H
#define KCORE_NOTIFIER_H

#include "base/addr.h"
#include "base/lock.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

struct kcore;

struct notifier {
    struct lock lock; /* rank LEAF: what follows, as it changes */
    /* How many invalidations have ended. Sequentially consistent; read without the lock. */
    atomic_uint_fast64_t sequence;
    atomic_uint active; /* how many are between start and end */
    /* The smallest range that holds all of those; [0, 2^64) is a fine answer. */
    atomic_uint_fast64_t first;
    atomic_uint_fast64_t last;
};

int notifier_init(struct notifier *notifier);
void notifier_fini(struct notifier *notifier);

/* Taken before a fault looks for its host page. */
static inline uint64_t notifier_token(struct notifier *notifier)
{
    return atomic_load(&notifier->sequence);
}

/* Make all faults that are under way begin anew. */
void notifier_renew(struct notifier *notifier);

/* Must a fault that took @token, and wants to map the host range, begin anew? Asked as an installer. */
bool notifier_retry(struct notifier *notifier, uint64_t token, struct hva hva, uint64_t size_bytes);

/* Is anything between start and end? */
static inline bool notifier_is_active(const struct notifier *notifier)
{
    return atomic_load(&notifier->active) != 0;
}

/*
 * The host range is about to go: unmap it from all tables and TLBs, and keep faults from mapping it
 * until the end. Starts may overlap each other; each has its end.
 * Context: any thread but a vCPU's in guest mode; takes the slots lock, so not from a follower; waits
 * for vCPUs to flush.
 * Return: whether a slot maps some of it.
 */
bool notifier_start(struct kcore *core, struct hva hva, uint64_t size_bytes);
void notifier_end(struct kcore *core, struct hva hva, uint64_t size_bytes);

#endif
