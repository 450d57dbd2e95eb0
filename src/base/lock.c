/* base/lock.c - mutexes with a rank. */
#include "base/lock.h"

#include "base/check.h"
#include "base/fork.h"

#include <stddef.h>

/* The address of a thread-local is unique among live threads, which is all that "is it mine" needs. */
static _Thread_local char thread_mark;

#ifdef GM_AUDIT_ON
#define MAX_HELD 8
static _Thread_local const struct lock *held[MAX_HELD];
static _Thread_local unsigned held_count;

/* Waiting for @lock while holding another: the order is that of the ranks. Two maps may be nested: in
 * which order is up to the caller whose listener of the one edits the other. */
static void audit_wait(const struct lock *lock)
{
    const struct lock *last = held_count > 0 ? held[held_count - 1] : NULL;

    GM_ASSERT(last == NULL || last->rank < lock->rank ||
              (last != lock && last->rank == LOCK_RANK_MAP && lock->rank == LOCK_RANK_MAP));
}

static void audit_take(const struct lock *lock)
{
    GM_ASSERT(held_count < MAX_HELD);
    held[held_count] = lock;
    held_count++;
}

static void audit_drop(const struct lock *lock)
{
    GM_ASSERT(held_count > 0 && held[held_count - 1] == lock);
    held_count--;
}
#else
static void audit_wait(const struct lock *lock)
{
    (void)lock;
}

static void audit_take(const struct lock *lock)
{
    (void)lock;
}

static void audit_drop(const struct lock *lock)
{
    (void)lock;
}
#endif

int lock_init(struct lock *lock, enum lock_rank rank)
{
    lock->rank = rank;
    atomic_init(&lock->owner, 0);
    return -pthread_mutex_init(&lock->mutex, NULL);
}

void lock_fini(struct lock *lock)
{
    pthread_mutex_destroy(&lock->mutex);
}

static void mark_taken(struct lock *lock)
{
    audit_take(lock);
    atomic_store_explicit(&lock->owner, (unsigned long)&thread_mark, memory_order_relaxed);
}

void lock_take(struct lock *lock)
{
    audit_wait(lock);
    if (!alone_now()) {
        pthread_mutex_lock(&lock->mutex);
    } else if (pthread_mutex_trylock(&lock->mutex) != 0) {
        /* Of a thread that did not come along into this process. */
        pthread_mutex_init(&lock->mutex, NULL);
        pthread_mutex_lock(&lock->mutex);
    }
    mark_taken(lock);
}

bool lock_try(struct lock *lock)
{
    if (pthread_mutex_trylock(&lock->mutex) != 0) {
        return false;
    }
    mark_taken(lock);
    return true;
}

void lock_drop(struct lock *lock)
{
    atomic_store_explicit(&lock->owner, 0, memory_order_relaxed);
    audit_drop(lock);
    pthread_mutex_unlock(&lock->mutex);
}

bool lock_is_mine(const struct lock *lock)
{
    return atomic_load_explicit(&lock->owner, memory_order_relaxed) == (unsigned long)&thread_mark;
}
