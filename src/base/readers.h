/*
 * base/readers.h - read sections that are a store at either end: those of cached translations (guestmem/access.h), whose
 * calls are inlined into programs that know nothing of liburcu.
 *
 * A reader has a slot and a number: of the changes that its owner (a map) had made as the reader looked. To use what it found it
 *
 *     stores its number in the slot; (a barrier to the compiler;) loads the owner's count of changes;
 *     equal: uses what it found; different: does not, but looks again, in a section of liburcu's;
 *     stores 0 in the slot.
 *
 * The owner makes the count odd before it changes anything that readers go by, and even again, one higher, when all is changed. A
 * reader never keeps an odd number, so nothing old is used by one who could know better: whoever has seen a part of the change
 * has seen the odd count as well. Before it takes away what readers may be using still, the owner waits:
 *
 *   | # | reader                         | owner                          | outcome                              |
 *   | - | ------------------------------ | ------------------------------ | ------------------------------------ |
 *   | 1 | store slot; load count: equal  |                                |                                      |
 *   |   |                                | change the count; barrier;     |                                      |
 *   |   |                                | load slot: not 0               |                                      |
 *   |   | use; store 0 (release)         | load slot: 0 (acquire)         | The use came before the taking.      |
 *   | 2 |                                | change the count; barrier;     |                                      |
 *   |   |                                | load slot: 0                   |                                      |
 *   |   | store slot; load count         |                                | Had the load come before the change, |
 *   |   |                                |                                | the barrier would have shown the     |
 *   |   |                                |                                | store. So it is different.           |
 *
 * The barrier is barrier_heavy() (base/barrier.h). Where the kernel has none, no reader gets a slot. tests/race/test_cache_race.c forces
 * row 1, tests/race/test_reader_points.c row 2.
 *
 * Slots are the owner's, and go with it; a reader that has one keeps its owner alive. In a child of fork() nobody waits for readers:
 * copies of maps cannot be changed.
 */
#ifndef BASE_READERS_H
#define BASE_READERS_H

#include "base/alloc.h"
#include "base/barrier.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#define READER_LINE_BYTES 64u

/* Alone in its line of the cache: its owner writes it twice for each use. */
struct reader_slot {
    uint64_t inside; /* atomic: 0, or the number of the reader that is using something */
    atomic_bool is_taken;
    uint8_t unused[READER_LINE_BYTES - sizeof(uint64_t) - sizeof(atomic_bool)];
};
_Static_assert(sizeof(struct reader_slot) == READER_LINE_BYTES, "a slot fills a line");

struct reader_slots; /* some slots; more are made as they are needed */

struct readers {
    struct gm_allocator allocator;
    struct barrier barrier;
    uint64_t *changes; /* atomic; alone in its line */
    _Atomic(struct reader_slots *) slots;
};

/* Return: 0; -ENOMEM. */
int readers_init(struct readers *readers, const struct gm_allocator *allocator);

/* No reader has a slot any more. */
void readers_fini(struct readers *readers);

/* A slot for one reader, until readers_give_back(). Any thread. Return: NULL no memory, or no barrier: there are none. */
struct reader_slot *readers_take(struct readers *readers);
void readers_give_back(struct reader_slot *slot);

/*
 * The number for who begins to look now; 0: things are being changed, and what is found is not to be kept. Acquire: pairs with the
 * release in readers_changed(); who has the number sees all changes up to it.
 */
static inline uint64_t readers_number(const struct readers *readers)
{
    uint64_t number = __atomic_load_n(readers->changes, __ATOMIC_ACQUIRE);

    return (number & 1) == 0 ? number : 0;
}

/* Around a change, which one thread at a time makes, and publishes by stores that release. */
void readers_change(struct readers *readers);
void readers_changed(struct readers *readers);

/*
 * Wait until nobody uses what was found before the last change. Blocks for some microseconds, and as long as a reader is not running.
 * Context: not inside a reader's section.
 */
void readers_wait(const struct readers *readers);

#endif
