/*
 * base/lock.h - mutexes with a rank, and who holds them. The order is in docs/locking.md; builds with
 * -Daudit=true check it: a thread takes locks in rising rank only.
 */
#ifndef BASE_LOCK_H
#define BASE_LOCK_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>

enum lock_rank {
    LOCK_RANK_VCPU = 8,       /* a software vCPU: one ioctl at a time */
    LOCK_RANK_MAP = 9,        /* a map's commit lock */
    LOCK_RANK_RAM = 10,       /* a block's memory: discards, and who is told of them */
    LOCK_RANK_SOFT = 11,      /* a software VM's settings that come before its vCPUs */
    LOCK_RANK_RINGS = 12,     /* a VM's dirty rings, for those who harvest */
    LOCK_RANK_KCORE = 13,     /* a software VM's slots: changes, logs, attributes */
    LOCK_RANK_MMU = 14,       /* a software VM's tables, for those who take entries away */
    LOCK_RANK_HOLD = 16,      /* how often a software VM's vCPUs are held out of guest mode */
    LOCK_RANK_GATE = 20,      /* a run gate */
    LOCK_RANK_DIRTY = 30,     /* a block's list of dirty clients */
    LOCK_RANK_IRQFD = 38,     /* a software VM's eventfds that interrupt */
    LOCK_RANK_IRQ = 40,       /* a software VM's interrupt chips */
    LOCK_RANK_COALESCED = 50, /* a VM's coalesced writes */
    LOCK_RANK_LEAF = 100,     /* taken last, nothing is called under it */
};

struct lock {
    pthread_mutex_t mutex;
    enum lock_rank rank;
    atomic_ulong owner; /* an id of the thread inside, 0 for none */
};

/* 0 or -errno of pthread_mutex_init(). */
int lock_init(struct lock *lock, enum lock_rank rank);
void lock_fini(struct lock *lock);

void lock_take(struct lock *lock);
bool lock_try(struct lock *lock);
void lock_drop(struct lock *lock);

/* Does the calling thread hold it? Exact for the caller; meaningless about others. */
bool lock_is_mine(const struct lock *lock);

#endif
