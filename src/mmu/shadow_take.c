/* mmu/shadow_take.c - what takers do to shadow tables: by the reverse maps of the slots that a range meets. */
#include "mmu/large.h"
#include "mmu/rmap.h"
#include "mmu/shadow_page.h"
#include "mmu/walk.h"

/* What is done to the leaves of one list. Return: pages found. */
typedef uint64_t leaves_fn(struct shadow_work *work, struct entry_list *list, unsigned level,
                           const void *opaque);

/* All leaves that map frames of [first, end) of a slot. */
static uint64_t visit_slot(struct shadow_work *work, const struct memslot *slot, struct range range,
                           leaves_fn *visit, const void *opaque)
{
    uint64_t found = 0;

    for (unsigned level = 1; level <= EPT_LEAF_LEVEL_MAX; level++) {
        struct gfn gfn = {range.first};
        struct entry_list *list;

        while ((list = rmap_next(slot, level, &gfn, (struct gfn){range.end})) != NULL) {
            found += visit(work, list, level, opaque);
            gfn.value += level_pages(level);
        }
    }
    return found;
}

static uint64_t visit_range(struct shadow_work *work, struct range range, leaves_fn *visit,
                            const void *opaque)
{
    const struct memslots *slots = kcore_slots(work->mmu->core, range.space);
    struct gfn gfn = {range.first};
    const struct memslot *slot;
    uint64_t found = 0;

    /* In a VM that shadows nothing each harvested word of a log comes by here. */
    if (work->mmu->shadow.newest == NULL) {
        return 0;
    }
    slot = memslots_find(slots, gfn);
    if (slot == NULL) {
        slot = memslots_next(slots, gfn);
    }
    while (slot != NULL && slot->base.value < range.end) {
        found += visit_slot(work, slot, range, visit, opaque);
        slot = memslots_next(slots, (struct gfn){slot->base.value + 1});
    }
    return found;
}

static uint64_t drop_leaves(struct shadow_work *work, struct entry_list *list, unsigned level,
                            const void *opaque)
{
    uint64_t *entry;

    (void)level;
    (void)opaque;
    while ((entry = entry_list_any(list)) != NULL) {
        shadow_drop(work, shadow_page_of(entry), shadow_index_of(entry));
    }
    return 0;
}

static uint64_t protect_leaves(struct shadow_work *work, struct entry_list *list, unsigned level,
                               const void *opaque)
{
    struct entry_cursor cursor = entry_list_begin(list);
    uint64_t *entry;

    (void)level;
    (void)opaque;
    while ((entry = entry_cursor_next(&cursor)) != NULL) {
        (void)shadow_take_flags(work, entry, EPT_WRITE);
    }
    return 0;
}

static uint64_t age_leaves(struct shadow_work *work, struct entry_list *list, unsigned level,
                           const void *opaque)
{
    const struct span *hosts = opaque;
    struct entry_cursor cursor = entry_list_begin(list);
    uint64_t flags = 0;
    uint64_t *entry;

    while ((entry = entry_cursor_next(&cursor)) != NULL) {
        struct span leaf =
            span_of((pos_t)entry_hva(entry_load(entry)).value, (pos_t)level_bytes(level));

        if (span_meets(*hosts, leaf)) {
            flags |= shadow_take_flags(work, entry, EPT_ACCESSED);
        }
    }
    return flags != 0 ? level_pages(level) : 0;
}

static bool is_within(const struct shadow_page *page, const struct range *range)
{
    return page->role.space == range->space && page->gfn.value >= range->first &&
           page->gfn.value < range->end;
}

/* A few frames are looked up, many are looked for in the list of all pages. */
#define LOOKUPS_MAX 16u

static void zap_tables(struct shadow_work *work, struct range range)
{
    struct shadow *shadow = &work->mmu->shadow;
    struct shadow_page *page = shadow->newest;

    for (uint64_t gfn = range.first; range.end - range.first <= LOOKUPS_MAX && gfn < range.end;
         gfn++) {
        while ((page = shadow_page_first(shadow, range.space, (struct gfn){gfn})) != NULL) {
            shadow_zap(work, page);
        }
    }
    while (page != NULL) {
        struct shadow_page *older = page->older;

        if (!page->role.is_direct && is_within(page, &range)) {
            shadow_zap(work, page);
        }
        page = older;
    }
}

void shadow_unmap(struct mmu_locked locked, struct range range, struct retired *retired)
{
    struct shadow_work work = shadow_work_of_taker(locked, retired);

    (void)visit_range(&work, range, drop_leaves, NULL);
    zap_tables(&work, range);
    shadow_work_of_taker_end(&work);
}

void shadow_protect(struct mmu_locked locked, struct range range)
{
    struct shadow_work work = shadow_work_of_taker(locked, NULL);

    (void)visit_range(&work, range, protect_leaves, NULL);
    shadow_work_of_taker_end(&work);
}

uint64_t shadow_age(struct mmu_locked locked, struct range range, struct hva hva,
                    uint64_t size_bytes)
{
    const struct span hosts = span_of((pos_t)hva.value, (pos_t)size_bytes);
    struct shadow_work work = shadow_work_of_taker(locked, NULL);
    uint64_t found = visit_range(&work, range, age_leaves, &hosts);

    shadow_work_of_taker_end(&work);
    return found;
}

/* Could the guest's large page that this page maps in parts have a larger leaf? */
static bool could_be_larger(const struct mmu *mmu, const struct shadow_page *page,
                            const struct memslot *slot)
{
    unsigned level = page->role.level + 1u;

    return page->role.is_direct && page->role.space == slot->space &&
           memslot_holds(slot, page->gfn) &&
           slot_leaf_level((struct mmu *)mmu, slot, page->gfn) >= level &&
           slot_backing_level(slot) >= level;
}

void shadow_collapse(struct mmu_locked locked, const struct memslot *slot, struct retired *retired)
{
    struct shadow_work work = shadow_work_of_taker(locked, retired);
    struct shadow_page *page = locked.mmu->shadow.newest;

    while (page != NULL) {
        struct shadow_page *older = page->older;

        if (could_be_larger(locked.mmu, page, slot)) {
            shadow_zap(&work, page);
            count_up(&locked.mmu->counts.collapses, 1);
        }
        page = older;
    }
    shadow_work_of_taker_end(&work);
}

void shadow_zap_all(struct mmu_locked locked, struct retired *retired)
{
    struct shadow *shadow = &locked.mmu->shadow;
    struct shadow_work work = shadow_work_of_taker(locked, retired);

    atomic_fetch_add_explicit(&shadow->generation, 1, memory_order_relaxed);
    while (shadow->oldest != NULL) {
        shadow_zap(&work, shadow->oldest);
    }
    shadow_work_of_taker_end(&work);
}

uint64_t shadow_reclaim(struct mmu_locked locked, uint64_t page_count, struct retired *retired)
{
    struct mmu *mmu = locked.mmu;
    struct shadow_work work = shadow_work_of_taker(locked, retired);
    struct shadow_page *page = mmu->shadow.oldest;
    uint64_t zapped = 0;

    while (page != NULL &&
           atomic_load_explicit(&mmu->tables.used, memory_order_relaxed) > page_count) {
        struct shadow_page *newer = page->newer;

        /* A root would stay until its vCPU comes by. */
        if (atomic_load(&page->root_count) == 0) {
            shadow_zap(&work, page);
            zapped++;
        }
        page = newer;
    }
    shadow_work_of_taker_end(&work);
    return zapped;
}
