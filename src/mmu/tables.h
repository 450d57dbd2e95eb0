/*
 * mmu/tables.h - table pages: where they come from, what is known about each, and where they go.
 *
 * Pages lie in arenas of 2 MiB, aligned to their size, which begin with a record for each page: so a
 * page's record is found by its address, and the overhead is 1.6%. A page is
 *
 *   free --cache_fill--> cached (a vCPU's) --take--> linked in a tree --retire--> waiting --> free
 *
 * It waits for a flush of all TLBs, which its caller makes, and then for a grace period.
 */
#ifndef MMU_TABLES_H
#define MMU_TABLES_H

#include "base/addr.h"
#include "base/lock.h"
#include "base/rcu.h"

#include <guestmem/types.h>

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

struct shadow_page;
struct tables;

/* The record of a table page; 64 bytes. */
struct table {
    _Alignas(64) struct rcu_item reclaim; /* of the first of a list that is retired together */
    union {
        struct table *next; /* while it is in no tree */
        /* Of a page of an EPT tree: a bit for each line of entries of which one may have EPT_WRITE (I-33).
         * Acquire-release, all of them: install.c says why. */
        atomic_ullong writable;
    };
    struct gfn first;           /* that the page translates; of a shadow page: that it stands for */
    struct shadow_page *shadow; /* NULL: a page of an EPT tree. Under mmu's lock */
    uint8_t level;              /* of its entries: 1 to 5 */
    uint8_t space;
    atomic_bool is_linked; /* set by the installer that linked it; relaxed: read by takers */
};

struct arena;

struct tables {
    struct gm_allocator allocator;
    struct lock lock; /* rank LEAF: arenas, the free list */
    struct arena *arenas;
    struct table *free;
    uint64_t arena_count;
    uint64_t hand;          /* the reclaim clock: under mmu's lock */
    atomic_ullong used;     /* linked pages; relaxed */
    atomic_ullong used_max; /* the limit; relaxed */
};

/* A vCPU's stock: as many as one fault can need. */
#define TABLES_CACHE_MAX 5u
struct tables_cache {
    struct table *first;
    unsigned count;
};

int tables_init(struct tables *tables, const struct gm_allocator *allocator, uint64_t used_max);
/* Nothing is linked or cached, and what was retired is free. */
void tables_fini(struct tables *tables);

/* A page's entries, zeroed when it is taken. */
uint64_t *table_entries(const struct table *table);
/* The record of the page whose entries these are, or one of them. */
struct table *table_of(const uint64_t *entries);

/* Entries that one bit of table.writable stands for: a cache line. */
#define TABLE_LINE_ENTRIES 8u
/* An entry has got EPT_WRITE. By its installer, before it goes out, or a taker. */
void table_note_writable(const uint64_t *entry);
/* May one of the entries from this one to the end of its line have EPT_WRITE? */
bool table_may_be_writable(const uint64_t *entry);

/* Stock up to TABLES_CACHE_MAX pages. May allocate. Return: 0; -ENOMEM. */
int tables_cache_fill(struct tables *tables, struct tables_cache *cache);
void tables_cache_drain(struct tables *tables, struct tables_cache *cache);

/* A page for the entries of @level that translate @first on; NULL: the cache is empty. It counts as
 * linked from here on; give back one that was not needed. */
uint64_t *table_take(struct tables *tables, struct tables_cache *cache, unsigned level,
                     unsigned space, struct gfn first);
void table_give_back(struct tables *tables, struct tables_cache *cache, uint64_t *entries);

/* Table pages that were taken out of a tree, until their TLB flush. */
struct retired {
    struct table *first;
    uint64_t count;
};
void table_retire(struct retired *retired, uint64_t *entries);
/* All vCPUs have flushed: free them after a grace period. Empties the list. */
void tables_free_retired(struct rcu_domain *deferred, struct retired *retired);

/*
 * The next linked page of EPT trees after the hand of the clock that translates at @level, which moves on to it.
 * NULL: there is none. *turned: set when the hand begins anew.
 * Context: mmu's lock; pages are linked meanwhile by nobody.
 */
struct table *tables_clock(struct tables *tables, unsigned level, bool *turned);

#endif
