/* mmu/tables.c - arenas of table pages, the stock of a vCPU, and pages on their way back. */
#include "mmu/tables.h"

#include "base/alloc.h"
#include "base/check.h"
#include "mmu/entry.h"

#include <errno.h>

#define ARENA_BYTES ((uint64_t)2 << 20)
#define ARENA_PAGES (ARENA_BYTES >> PAGE_SHIFT_4K)

/* The first pages of an arena hold the records; those of these pages themselves hold this. */
struct arena {
    struct arena *next;
    struct tables *owner;
    void *memory; /* as it was allocated */
};

#define RECORD_PAGES (ARENA_PAGES * sizeof(struct table) / PAGE_BYTES_4K)

_Static_assert(sizeof(struct table) == 64, "an arena's overhead is 1.6%");
_Static_assert(sizeof(struct arena) <= RECORD_PAGES * sizeof(struct table),
               "fits before the records");

static struct arena *arena_of(const void *within)
{
    return (struct arena *)align_down((uintptr_t)within, ARENA_BYTES);
}

static struct table *arena_record(struct arena *arena, uint64_t page)
{
    return (struct table *)arena + page;
}

uint64_t *table_entries(const struct table *table)
{
    struct arena *arena = arena_of(table);
    uint64_t page = (uint64_t)(table - (struct table *)arena);

    return (uint64_t *)((uintptr_t)arena + (page << PAGE_SHIFT_4K));
}

struct table *table_of(const uint64_t *entries)
{
    struct arena *arena = arena_of(entries);

    return arena_record(arena, ((uintptr_t)entries - (uintptr_t)arena) >> PAGE_SHIFT_4K);
}

static unsigned line_of(const uint64_t *entry)
{
    return (unsigned)((uintptr_t)entry % PAGE_BYTES_4K / (TABLE_LINE_ENTRIES * sizeof(*entry)));
}

void table_note_writable(const uint64_t *entry)
{
    atomic_fetch_or_explicit(&table_of(entry)->writable, 1ull << line_of(entry),
                             memory_order_acq_rel);
}

bool table_may_be_writable(const uint64_t *entry)
{
    return (atomic_load_explicit(&table_of(entry)->writable, memory_order_acquire) >>
                line_of(entry) &
            1) != 0;
}

int tables_init(struct tables *tables, const struct gm_allocator *allocator, uint64_t used_max)
{
    tables->allocator = *allocator;
    tables->arenas = NULL;
    tables->free = NULL;
    tables->arena_count = 0;
    tables->hand = 0;
    atomic_init(&tables->used, 0);
    atomic_init(&tables->used_max, used_max);
    return lock_init(&tables->lock, LOCK_RANK_LEAF);
}

void tables_fini(struct tables *tables)
{
    struct arena *arena = tables->arenas;

    GM_ASSERT(atomic_load(&tables->used) == 0);
    while (arena != NULL) {
        struct arena *next = arena->next;

        mem_free(&tables->allocator, arena->memory);
        arena = next;
    }
    lock_fini(&tables->lock);
}

/* A new arena's pages become free. Under the lock. */
static int arena_add(struct tables *tables)
{
    /* Room for an aligned arena; pages of the rest are never touched. */
    void *memory = mem_alloc(&tables->allocator, 2 * ARENA_BYTES);
    struct arena *arena;

    if (memory == NULL) {
        return -ENOMEM;
    }
    arena = (struct arena *)align_down((uintptr_t)memory + ARENA_BYTES - 1, ARENA_BYTES);
    *arena = (struct arena){.next = tables->arenas, .owner = tables, .memory = memory};
    for (uint64_t page = ARENA_PAGES; page-- > RECORD_PAGES;) {
        struct table *table = arena_record(arena, page);

        *table = (struct table){.next = tables->free};
        tables->free = table;
    }
    tables->arenas = arena;
    tables->arena_count++;
    return 0;
}

static void cache_push(struct tables_cache *cache, struct table *table)
{
    table->next = cache->first;
    cache->first = table;
    cache->count++;
}

int tables_cache_fill(struct tables *tables, struct tables_cache *cache)
{
    int rc = 0;

    lock_take(&tables->lock);
    while (cache->count < TABLES_CACHE_MAX && rc == 0) {
        struct table *table = tables->free;

        if (table == NULL) {
            rc = arena_add(tables);
            continue;
        }
        tables->free = table->next;
        cache_push(cache, table);
    }
    lock_drop(&tables->lock);
    return rc;
}

/* Put a list of pages back. */
static void free_list(struct tables *tables, struct table *first)
{
    lock_take(&tables->lock);
    while (first != NULL) {
        struct table *next = first->next;

        first->next = tables->free;
        tables->free = first;
        first = next;
    }
    lock_drop(&tables->lock);
}

void tables_cache_drain(struct tables *tables, struct tables_cache *cache)
{
    free_list(tables, cache->first);
    *cache = (struct tables_cache){0};
}

uint64_t *table_take(struct tables *tables, struct tables_cache *cache, unsigned level,
                     unsigned space, struct gfn first)
{
    struct table *table = cache->first;
    uint64_t *entries;

    if (table == NULL) {
        return NULL;
    }
    cache->first = table->next;
    cache->count--;
    table->level = (uint8_t)level;
    table->space = (uint8_t)space;
    table->first = first;
    atomic_store_explicit(&table->writable, 0, memory_order_relaxed);
    atomic_store_explicit(&table->is_linked, true, memory_order_relaxed);
    atomic_fetch_add_explicit(&tables->used, 1, memory_order_relaxed);
    entries = table_entries(table);
    memset(entries, 0, PAGE_BYTES_4K);
    return entries;
}

static void unlink_record(struct tables *tables, struct table *table)
{
    atomic_store_explicit(&table->is_linked, false, memory_order_relaxed);
    atomic_fetch_sub_explicit(&tables->used, 1, memory_order_relaxed);
}

void table_give_back(struct tables *tables, struct tables_cache *cache, uint64_t *entries)
{
    struct table *table = table_of(entries);

    unlink_record(tables, table);
    cache_push(cache, table);
}

void table_retire(struct retired *retired, uint64_t *entries)
{
    struct table *table = table_of(entries);

    unlink_record(arena_of(table)->owner, table);
    table->next = retired->first;
    retired->first = table;
    retired->count++;
}

static void reclaim_list(struct rcu_item *item)
{
    struct table *first = rcu_owner(item, struct table, reclaim);

    free_list(arena_of(first)->owner, first);
}

void tables_free_retired(struct rcu_domain *deferred, struct retired *retired)
{
    if (retired->first != NULL) {
        rcu_domain_defer(deferred, &retired->first->reclaim, reclaim_list);
    }
    *retired = (struct retired){0};
}

/* Under the lock: a vCPU that fills its stock may add an arena meanwhile. */
static struct table *next_linked(struct tables *tables, unsigned level, bool *turned)
{
    uint64_t pages = tables->arena_count * ARENA_PAGES;
    struct arena *arena = tables->arenas;
    uint64_t arena_index = 0;

    for (uint64_t step = 0; step < pages; step++) {
        uint64_t at = (tables->hand + 1 + step) % pages;
        struct table *table;

        if (at == 0) {
            *turned = true;
        }
        if (at / ARENA_PAGES < arena_index) {
            arena = tables->arenas;
            arena_index = 0;
        }
        while (arena_index < at / ARENA_PAGES) {
            arena = arena->next;
            arena_index++;
        }
        table = arena_record(arena, at % ARENA_PAGES);
        if (at % ARENA_PAGES >= RECORD_PAGES &&
            atomic_load_explicit(&table->is_linked, memory_order_relaxed) &&
            table->level == level && table->shadow == NULL) {
            tables->hand = at;
            return table;
        }
    }
    return NULL;
}

struct table *tables_clock(struct tables *tables, unsigned level, bool *turned)
{
    struct table *table;

    lock_take(&tables->lock);
    table = next_linked(tables, level, turned);
    lock_drop(&tables->lock);
    return table;
}
