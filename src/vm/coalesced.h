/*
 * vm/coalesced.h - writes that a hypervisor has collected, and that regions' callbacks are still to see.
 *
 * KVM puts them into a ring that all vCPUs of a VM share. Whoever flushes dispatches, one after the other, what was
 * pending when it came:
 *
 *   C-1  Each write is dispatched once. It is taken out of the ring under the lock.
 *   C-2  Writes are dispatched in their order: one at a time, by whichever thread; the next one is taken when the callback of
 *        the one before has returned (`dispatcher`). The lock is not held meanwhile.
 *   C-3  A flush returns when all that was pending as it began has been dispatched. If another thread is at one of these it
 *        waits for that one's callback.
 *   C-4  A flush from inside of such a callback, or from under the map's lock, returns at once: it would wait for itself.
 *   C-5  A write reaches the region that showed at its address while the range was registered. When a range has been removed, the
 *        writes to it that are in the ring move to the queue, with their region, before the commit's view is published; whatever
 *        was in the ring before or between them goes with them, so the order stays.
 *   C-6  The ring's indices are the user's and the kernel's: any value is harmless. If one is out of range somebody has overwritten
 *        it: what was pending is lost, the ring begins anew, and the log hook is told once. A write of no sense is dropped.
 *
 * docs/locking.md has the interleavings.
 */
#ifndef VM_COALESCED_H
#define VM_COALESCED_H

#include "base/alloc.h"
#include "base/lock.h"
#include "slots/io.h"

#include <guestmem/space.h>

#include <pthread.h>
#include <stdatomic.h>

struct kvm_coalesced_mmio_ring;

/* A write that is pending. */
struct coalesced_write {
    bool is_port;
    uint32_t size_bytes; /* 1 to 8 */
    uint64_t address;
    uint8_t data[8];
    struct gm_region
        *region;     /* referenced: its range is gone; NULL: whatever shows at the address */
    uint64_t offset; /* in the region */
};

struct coalesced {
    struct gm_allocator allocator;
    struct gm_map *map; /* borrowed, like the spaces */
    struct gm_space *memory;
    struct gm_space *ports;
    /* There is, or has been, a range. Release, pairs with the acquire in coalesced_flush(): a vCPU that has written to
     * one was let in after it was registered. */
    atomic_bool is_used;

    struct lock lock; /* rank COALESCED: all below */
    bool is_closed;   /* the map goes: its spaces are not looked at any more */
    pthread_cond_t dispatched_one;
    unsigned waiting;
    struct kvm_coalesced_mmio_ring *ring; /* a vCPU's mapping of it; NULL: there is no vCPU */
    struct coalesced_write *queue;        /* older than what is in the ring; a circle */
    size_t first;
    size_t count;
    size_t capacity;
    uint64_t dispatched; /* writes so far */
    bool is_overwritten; /* its indices were out of range once */
    bool is_told;        /* ... and the hook knows */
    bool is_busy;        /* one is being dispatched, by */
    pthread_t dispatcher;
};

/* Return: 0; -errno of a mutex or a condition. */
int coalesced_init(struct coalesced *coalesced, const struct gm_allocator *allocator);
/* The map goes: nobody flushes any more, and what is pending is dropped, with the regions that it holds. */
void coalesced_drop(struct coalesced *coalesced);
void coalesced_fini(struct coalesced *coalesced);

/* What a backend has to call. */
struct coalesced_hooks coalesced_hooks(struct coalesced *coalesced);

/* A vCPU enters the guest on /dev/kvm: what its thread has done comes before the entries that the kernel adds for it. */
void coalesced_enter(struct coalesced *coalesced);

/* In a copy of the process: was nobody at it as the copy was made? */
bool coalesced_was_at_rest(struct coalesced *coalesced);

/* Dispatch what is pending: C-3, C-4. In a copy of the process nothing: the ring is the parent's. */
void coalesced_flush(struct coalesced *coalesced);

#endif
