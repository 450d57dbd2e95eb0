/*
 * ram/dirty.h - the one dirty record of a block: who records, and marking for all of them.
 *
 * Each client that has begun owns a set of pages (ram/pageset.h). Marks find the sets under RCU, so a
 * client that ends does not wait for them. No page is lost at either end of a recording, nor when a
 * mark is skipped because its page is dirty already:
 *
 *   | # | writer                          | consumer                        | outcome                     |
 *   | - | ------------------------------- | ------------------------------- | --------------------------- |
 *   | 1 | store data                      | publish set, barrier, begin     | Writer sees no client: its  |
 *   |   | light barrier                   | returns, load data              | load came before the        |
 *   |   | load active clients             |                                 | barrier, so the consumer's  |
 *   |   |                                 |                                 | load sees the data.         |
 *   | 2 | store data                      | end; begin again: publish the   | Writer marks the old set:   |
 *   |   | light barrier                   | new set, barrier, load data     | as 1, its load of the set   |
 *   |   | load the client's set           |                                 | came before the barrier.    |
 *   | 3 | store data                      | clear page bit (take), barrier, | Writer sees the bit set and |
 *   |   | light barrier                   | harvest begins, load data       | skips: its load came before |
 *   |   | load page bit                   |                                 | the clear, hence before the |
 *   |   |                                 |                                 | barrier: data is seen.      |
 *   | 4 | store data, mark (release)      | clear page bit (acquire), load  | The bit was taken after the |
 *   |   |                                 | data                            | mark: data is seen.         |
 *   | 5 | load page bit; store data       | clear page bit, barrier, load   | Forbidden to writers: the   |
 *   |   |                                 | data                            | page would be lost. Hence   |
 *   |   |                                 |                                 | "store the data first".     |
 *   | 6 | enter section, load set         | end: take the set away, drop it | The set is freed after the  |
 *   |   | mark, leave section             |                                 | section; the mark is gone,  |
 *   |   |                                 |                                 | as its recording is.        |
 *   | 7 |                                 | harvest, end, abort             | A harvest keeps its set     |
 *   |   |                                 |                                 | alive; a later recording    |
 *   |   |                                 |                                 | gets none of its pages.     |
 *
 * tests/race/test_dirty_points.c forces them (docs/locking-dirty.md has one more, and other numbers).
 *
 * In 1 to 3 the barrier is barrier_heavy(), and "before" is in the order of the writer's own program,
 * where the store of the data comes first.
 */
#ifndef RAM_DIRTY_H
#define RAM_DIRTY_H

#include "base/barrier.h"
#include "base/lock.h"
#include "base/point.h"
#include "ram/pageset.h"

#include <guestmem/ram.h>

#include <stdatomic.h>
#include <stdint.h>

struct ram_dirty {
    struct barrier barrier;
    atomic_uint active;                               /* bit N: client N has a set */
    _Atomic(struct pageset *) sets[GM_DIRTY_CLIENTS]; /* each holds a reference on its set */
    struct lock lock;                                 /* rank DIRTY; of the changes to all fields */
    uint64_t begin_counts[GM_DIRTY_CLIENTS];
};

/* 0 or -ENOMEM. */
int ram_dirty_init(struct ram_dirty *dirty);

/* No thread uses the block any more. */
void ram_dirty_fini(struct ram_dirty *dirty);

/* The clients that have begun, as a mask: a hint for callers that could spare work. */
uint32_t ram_dirty_clients(const struct gm_ram *ram);

/* Inside a read section. The set of the lowest client in *clients, which is taken out; or NULL. */
static inline struct pageset *ram_dirty_next_set(struct ram_dirty *dirty, uint32_t *clients)
{
    unsigned client = (unsigned)__builtin_ctz(*clients);
    struct pageset *set;

    *clients &= *clients - 1;
    set = rcu_load(&dirty->sets[client]); /* pairs with publish() */
    GM_POINT("mark-found-set");
    return set;
}

/*
 * gm_ram_dirty_mark() for all clients, inside a read section, after barrier_light() and a look at `active` that found some.
 * Wait-free.
 */
void ram_dirty_mark_inside(struct gm_ram *ram, uint64_t offset_bytes, uint64_t size_bytes);

/* The same for one page of the block, for @clients that were found in `active`: what nearly all stores mark. */
static inline void ram_dirty_mark_page(struct ram_dirty *dirty, uint64_t page, uint32_t clients)
{
    while (clients != 0) {
        struct pageset *set = ram_dirty_next_set(dirty, &clients);

        if (__builtin_expect(set != NULL, 1)) {
            pageset_mark_page(set, page);
        }
    }
}

/*
 * Mark the pages of a hypervisor's bitmap: bit 0 of word 0 is the page at @offset_bytes, a multiple of
 * 4 KiB. Bits from @page_count on, and pages beyond the block, are ignored. As gm_ram_dirty_mark(): for
 * each begun client in @client_mask, wait-free.
 */
void ram_dirty_merge(struct gm_ram *ram, uint64_t offset_bytes, const uint64_t *bitmap,
                     uint64_t page_count, uint32_t client_mask);

/* The client's set, with a reference for the caller, or NULL: not begun. client < GM_DIRTY_CLIENTS */
struct pageset *ram_dirty_set_get(struct gm_ram *ram, unsigned client);

#endif
