/*
 * ram/pageset.h - one client's dirty pages of a block: a bit for each 4 KiB page, and summaries above.
 *
 * Level 0 has a bit for each page, in words of 64. A bit of level N + 1 stands for a word of level N. The
 * top level has at most 64 words, so a clean set is seen to be clean by loading 512 bytes, and a take
 * goes down only where something is dirty. 64 GiB: 2 MiB of bits, 32 KiB and 512 bytes of summaries.
 *
 * Invariants, while no mark is under way (pageset_audit):
 *  I-10  a word that is not 0 has its bit set in the level above; the converse need not hold
 *  I-11  no bit beyond the last page is set
 *
 * A mark sets bits from the bottom up, a take clears them from the top down; every one of these
 * operations is sequentially consistent, so they have one order. The pages of a mark are found by the
 * next take, or by one that is under way:
 *
 *   | mark                                 | take                                  | outcome           |
 *   | ------------------------------------ | ------------------------------------- | ----------------- |
 *   | page bit, summary bit                | summary bit, page bit                 | taken             |
 *   | page bit                             |                                       |                   |
 *   |                                      | summary bit, page bit                 | taken (if another |
 *   |                                      |                                       | page led there)   |
 *   | summary bit: leads to an empty word  |                                       | harmless          |
 *   |                                      | summary bit                           |                   |
 *   | page bit, summary bit                |                                       |                   |
 *   |                                      | page bit                              | taken; summary    |
 *   |                                      |                                       | leads nowhere     |
 *   |                                      | summary bit, page bit                 |                   |
 *   | page bit, summary bit                |                                       | next take         |
 *   | page bit; summary bit is set: skip   |                                       |                   |
 *   |                                      | summary bit, then page bit: the skip  | taken             |
 *   |                                      | came before the clear, so the page    |                   |
 *   |                                      | bit did too                           |                   |
 *
 * A mark that finds its page bit set still looks at the summary: whoever set the page bit may not have
 * got there yet, and a mark that has returned must be seen by every take that begins afterwards. That
 * the data stored before a skipped mark is seen by the taker is the work of base/barrier.h.
 *
 * A take of a part of what a summary bit stands for leaves that bit set. Clearing it and setting it
 * again would hide, for a moment, dirty pages outside the part from other takers.
 */
#ifndef RAM_PAGESET_H
#define RAM_PAGESET_H

#include "base/point.h"
#include "base/rcu.h"
#include "base/ref.h"
#include "ram/pagelist.h"

#include <guestmem/types.h>

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#define PAGESET_WORD_PAGES 64u
#define PAGESET_WORD_SHIFT 6u
#define PAGESET_TOP_WORDS 64u
#define PAGESET_LEVELS 8u /* enough for 2^63 bytes */

/*
 * Storage of this size and more is mapped rather than allocated: fresh mappings are zero without being
 * written, so that the parts where nothing is ever dirty take no memory. The caller's allocator cannot
 * promise that; it is asked for everything smaller and for the set itself.
 */
#define PAGESET_MAPPED_BYTES 65536u

struct pageset {
    struct ref refs;
    unsigned level_count;
    uint64_t page_count;
    _Atomic(uint64_t) *levels[PAGESET_LEVELS];
    void *storage;
    size_t storage_bytes;
    struct gm_allocator allocator;
    struct rcu_item reclaim;
};

/* An empty set of @page_count pages (at least 1) with one reference, or NULL: no memory. */
struct pageset *pageset_new(uint64_t page_count, const struct gm_allocator *allocator);

/* Free a set that no other thread can reach; its only reference is the caller's. NULL is allowed. */
void pageset_free(struct pageset *set);

/* Drop a reference. The memory goes after a grace period, for marks that found the set under RCU. */
void pageset_put(struct pageset *set);

/* Add pages [first, last]; last < page_count. Wait-free. */
void pageset_mark(struct pageset *set, uint64_t first_page, uint64_t last_page);

/* Set bits. The load spares a set that is dirty already the exclusive hold of its cache line. */
static inline void pageset_or(_Atomic(uint64_t) *word, uint64_t bits)
{
    if (__builtin_expect((atomic_load(word) & bits) != bits, 0)) { /* pairs with a take's clears */
        atomic_fetch_or(word, bits);                               /* likewise */
    }
}

/* Add one page: what nearly all marks of stores are. */
static inline void pageset_mark_page(struct pageset *set, uint64_t page)
{
    for (unsigned level = 0; level < set->level_count; level++) {
        uint64_t word = page >> PAGESET_WORD_SHIFT;

        pageset_or(&set->levels[level][word], (uint64_t)1 << (page % PAGESET_WORD_PAGES));
        GM_POINT("mark-level");
        page = word;
    }
}

/* Add the pages @bits of @word, all below page_count. Wait-free. */
void pageset_mark_word(struct pageset *set, uint64_t word, uint64_t bits);

/*
 * Move the set's pages of [first, last] to @list, ascending; last < page_count.
 * Return: 0; -ENOMEM: some may have been moved, which the caller gives back with pageset_give_back().
 */
int pageset_take(struct pageset *set, uint64_t first_page, uint64_t last_page,
                 struct pagelist *list);

/* Add all pages of the list. */
void pageset_give_back(struct pageset *set, const struct pagelist *list);

/* Stops the program if the invariants above do not hold. No other thread uses the set meanwhile. */
void pageset_audit(const struct pageset *set);

#endif
