/*
 * mmu/take.c - taking entries, rights and flags away.
 *
 * One walk over a range serves all of them: it goes down where tables are, and hands each leaf or table
 * to a visitor, which says whether to go down. Processors set flags meanwhile, so entries change by
 * exchange or by atomic and.
 */
#include "mmu/take.h"

#include "base/check.h"
#include "kcore/attributes.h"
#include "mmu/install.h"
#include "mmu/large.h"
#include "mmu/walk.h"

/* An entry that the walk has come to: it is present, or MMIO. */
struct spot {
    uint64_t *entry;
    uint64_t value;
    unsigned level;
    uint64_t first; /* frame */
};

struct visit {
    struct mmu *mmu;
    struct range range;
    bool is_of_writable; /* only entries that have EPT_WRITE matter */
    struct span hosts;   /* leaves of this memory only; empty: of any */
    struct retired *retired;
    struct tables_cache *cache;
    const struct memslot *slot;
    uint64_t found;         /* pages */
    uint64_t changed_first; /* frames that changed: from here */
    uint64_t changed_end;   /* to here; 0: none */
    /* Return: true to go down into a table. */
    bool (*spot)(struct visit *visit, const struct spot *spot);
};

static void note_change(struct visit *visit, const struct spot *spot)
{
    uint64_t end = spot->first + level_pages(spot->level);

    if (visit->changed_end == 0 || spot->first < visit->changed_first) {
        visit->changed_first = spot->first;
    }
    visit->changed_end = end > visit->changed_end ? end : visit->changed_end;
}

static bool is_within(const struct range *range, const struct spot *spot)
{
    return spot->first >= range->first && spot->first + level_pages(spot->level) <= range->end;
}

/* Recursion ends at level 1: five deep at most. */
static void walk_table(struct visit *visit, uint64_t *table, unsigned level, uint64_t table_first)
{
    uint64_t pages = level_pages(level);
    const struct range *range = &visit->range;
    uint64_t from = range->first > table_first ? (range->first - table_first) / pages : 0;
    uint64_t beyond = range->end - table_first; /* the range meets the table */

    for (uint64_t i = from; i < EPT_ENTRIES && i * pages < beyond; i++) {
        struct spot spot = {&table[i], 0, level, table_first + i * pages};

        if (visit->is_of_writable && !table_may_be_writable(&table[i])) {
            i |= TABLE_LINE_ENTRIES - 1; /* the rest of its line, too */
            continue;
        }
        spot.value = entry_load(&table[i]);
        if (spot.value != 0 && visit->spot(visit, &spot) && entry_is_table(level, spot.value)) {
            walk_table(visit, entry_table(spot.value), level - 1, spot.first);
        }
    }
}

static void walk_range(struct visit *visit)
{
    struct mmu *mmu = visit->mmu;
    uint64_t limit = level_pages(mmu->levels + 1);
    uint64_t *root = atomic_load_explicit(&mmu->roots[visit->range.space], memory_order_relaxed);

    if (visit->range.first >= limit) {
        return;
    }
    visit->range.end = visit->range.end < limit ? visit->range.end : limit;
    walk_table(visit, root, mmu->levels, 0);
    if (visit->changed_end != 0) {
        flush_append(&mmu->flush_log, visit->range.space, (struct gfn){visit->changed_first},
                     visit->changed_end - visit->changed_first);
    }
}

/* What is below a table that was unlinked: pages to the retired, leaves out of the count. */
static void retire_below(struct mmu *mmu, uint64_t *table, unsigned level, struct retired *retired)
{
    for (unsigned i = 0; i < EPT_ENTRIES; i++) {
        uint64_t value = entry_load(&table[i]);

        if (entry_is_table(level, value)) {
            retire_below(mmu, entry_table(value), level - 1, retired);
        } else if (entry_is_leaf(level, value)) {
            count_up(&mmu->counts.leaves[level], -1ull);
        }
    }
    table_retire(retired, table);
}

void retire_tree(struct mmu_locked locked, uint64_t *root, struct retired *retired)
{
    retire_below(locked.mmu, root, locked.mmu->levels, retired);
}

/* Take an entry out, whatever flags came meanwhile. */
static void remove_entry(struct visit *visit, const struct spot *spot)
{
    uint64_t was = __atomic_exchange_n(spot->entry, 0, __ATOMIC_ACQ_REL);

    note_change(visit, spot);
    if (entry_is_table(spot->level, was)) {
        retire_below(visit->mmu, entry_table(was), spot->level - 1, visit->retired);
    } else if (entry_is_leaf(spot->level, was)) {
        count_up(&visit->mmu->counts.leaves[spot->level], -1ull);
    }
}

static bool spot_unmap(struct visit *visit, const struct spot *spot)
{
    if (entry_is_table(spot->level, spot->value) && !is_within(&visit->range, spot)) {
        return true;
    }
    remove_entry(visit, spot);
    return false;
}

bool take_unmap(struct mmu_locked locked, struct range range, struct retired *retired)
{
    struct visit visit = {
        .mmu = locked.mmu, .range = range, .retired = retired, .spot = spot_unmap};

    walk_range(&visit);
    return visit.changed_end != 0;
}

static bool is_of_hosts(const struct visit *visit, const struct spot *spot)
{
    struct span leaf =
        span_of((pos_t)entry_hva(spot->value).value, (pos_t)level_bytes(spot->level));

    return span_is_empty(visit->hosts) || span_meets(visit->hosts, leaf);
}

static bool spot_accessed(struct visit *visit, const struct spot *spot)
{
    uint64_t was;

    if (!entry_is_leaf(spot->level, spot->value)) {
        return true;
    }
    if ((spot->value & EPT_ACCESSED) == 0 || !is_of_hosts(visit, spot)) {
        return false;
    }
    was = __atomic_fetch_and(spot->entry, ~EPT_ACCESSED, __ATOMIC_ACQ_REL);
    if ((was & EPT_ACCESSED) != 0) {
        note_change(visit, spot);
        visit->found += level_pages(spot->level);
    }
    return false;
}

uint64_t take_accessed(struct mmu_locked locked, struct range range, struct hva hva,
                       uint64_t size_bytes)
{
    struct visit visit = {.mmu = locked.mmu,
                          .range = range,
                          .hosts = span_of((pos_t)hva.value, (pos_t)size_bytes),
                          .spot = spot_accessed};

    walk_range(&visit);
    return visit.found;
}

static bool spot_writes(struct visit *visit, const struct spot *spot)
{
    bool is_table = entry_is_table(spot->level, spot->value);
    uint64_t flags = mmu_write_flags(visit->mmu, spot->level, spot->value);
    uint64_t was;

    if (!entry_is_present(spot->value) || (spot->value & flags) == 0) {
        return false; /* nothing below such a table is writable */
    }
    if (is_table && !is_within(&visit->range, spot)) {
        return true;
    }
    was = __atomic_fetch_and(spot->entry, ~flags, __ATOMIC_ACQ_REL);
    if ((was & flags) != 0) {
        note_change(visit, spot);
    }
    return false;
}

void take_writes(struct mmu_locked locked, struct range range)
{
    struct visit visit = {
        .mmu = locked.mmu, .range = range, .is_of_writable = true, .spot = spot_writes};

    walk_range(&visit);
}

static bool spot_split(struct visit *visit, const struct spot *spot)
{
    uint64_t value = spot->value;
    struct gfn first = {spot->first};
    uint64_t *table;

    if (!entry_is_leaf(spot->level, value) || spot->level == 1) {
        return true;
    }
    table =
        table_take(&visit->mmu->tables, visit->cache, spot->level - 1, visit->range.space, first);
    if (table == NULL) {
        visit->cache = NULL;
        return false;
    }
    /* A processor may add a flag meanwhile. */
    do {
        split_into(table, value, spot->level);
    } while (!entry_replace(spot->entry, &value, entry_to_table(table)));
    table_note_writable(spot->entry);
    count_up(&visit->mmu->counts.leaves[spot->level], -1ull);
    count_up(&visit->mmu->counts.leaves[spot->level - 1], EPT_ENTRIES);
    count_up(&visit->mmu->counts.splits, 1);
    return false;
}

/* The visitor stops splitting when the stock is empty, but the walk goes on: cheap, and ends. */
static bool spot_split_while_stocked(struct visit *visit, const struct spot *spot)
{
    return visit->cache != NULL && spot_split(visit, spot);
}

bool take_split(struct mmu_locked locked, struct range range, struct tables_cache *cache)
{
    struct visit visit = {
        .mmu = locked.mmu, .range = range, .cache = cache, .spot = spot_split_while_stocked};

    walk_range(&visit);
    return visit.cache != NULL;
}

static bool spot_collapse(struct visit *visit, const struct spot *spot)
{
    struct gfn first = {spot->first};

    if (!entry_is_table(spot->level, spot->value) || spot->level > EPT_LEAF_LEVEL_MAX ||
        !is_within(&visit->range, spot) ||
        slot_leaf_level(visit->mmu, visit->slot, first) < spot->level ||
        slot_backing_level(visit->slot) < spot->level) {
        return true;
    }
    remove_entry(visit, spot);
    count_up(&visit->mmu->counts.collapses, 1);
    return false;
}

bool take_collapse(struct mmu_locked locked, const struct memslot *slot, struct retired *retired)
{
    struct visit visit = {.mmu = locked.mmu,
                          .range = range_of_slot(slot),
                          .retired = retired,
                          .slot = slot,
                          .spot = spot_collapse};

    walk_range(&visit);
    return visit.changed_end != 0;
}

static bool spot_mmio(struct visit *visit, const struct spot *spot)
{
    (void)visit;
    if (entry_is_mmio(spot->value)) {
        /* No TLB holds it. */
        __atomic_store_n(spot->entry, 0, __ATOMIC_RELEASE);
    }
    return true;
}

void take_mmio(struct mmu_locked locked)
{
    for (unsigned space = 0; space < locked.mmu->core->spaces; space++) {
        struct visit visit = {
            .mmu = locked.mmu, .range = {space, 0, UINT64_MAX}, .spot = spot_mmio};

        walk_range(&visit);
    }
}

void take_table(struct mmu_locked locked, const struct table *table, struct retired *retired)
{
    struct range range = {table->space, table->first.value,
                          table->first.value + level_pages(table->level + 1u)};

    (void)take_unmap(locked, range, retired);
}
