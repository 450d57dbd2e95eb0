/*
 * base/barrier.h - a barrier of two sides: all but free for those who write guest memory, a system call
 * for the few who read what was written.
 *
 * Either side stores something and then loads what the other side stores. At least one of them must see
 * the other's store, which takes a full barrier between the store and the load on both sides. Writers
 * are many and fast, so theirs is a barrier to the compiler only, and barrier_heavy() makes the kernel
 * run a full barrier on every processor that runs a thread of this process (membarrier). Where the
 * kernel has no membarrier, both sides fence.
 */
#ifndef BASE_BARRIER_H
#define BASE_BARRIER_H

#include <stdatomic.h>
#include <stdbool.h>

struct barrier {
    bool light_fences; /* never changes; false: the heavy side fences for all */
};

/* Ask the kernel once. Registers the process for membarrier, which is idempotent. */
void barrier_init(struct barrier *barrier);

/* Between a writer's store of data and its load of the dirty record. */
static inline void barrier_light(const struct barrier *barrier)
{
    if (barrier->light_fences) {
        atomic_thread_fence(memory_order_seq_cst); /* pairs with barrier_heavy()'s */
    } else {
        atomic_signal_fence(memory_order_seq_cst); /* completed by barrier_heavy()'s system call */
    }
}

/*
 * Between a store to the dirty record and the load of data. May block for some microseconds.
 * Return: 0; -ENOMEM the kernel refused (no memory, or a system call filter set up meanwhile).
 */
int barrier_heavy(const struct barrier *barrier);

#endif
