/* mmu/shadow_page.c - shadow pages: the hash, their entries and parents, and their end. */
#include "mmu/shadow_page.h"

#include "base/alloc.h"
#include "base/check.h"
#include "mmu/large.h"
#include "mmu/rmap.h"
#include "mmu/walk.h"

#include <errno.h>

void shadow_init(struct shadow *shadow, bool is_on)
{
    /* The rest is zeroed. */
    shadow->is_on = is_on;
}

static void count(atomic_ullong *counter, unsigned long long by)
{
    atomic_fetch_add_explicit(counter, by, memory_order_relaxed);
}

/*
 * Finding.
 */

static struct shadow_page **bucket_of(struct shadow *shadow, struct gfn gfn)
{
    return &shadow->buckets[(gfn.value ^ gfn.value >> 10) % SHADOW_BUCKETS];
}

static struct shadow_page *next_of_frame(struct shadow_page *page, unsigned space, struct gfn gfn)
{
    while (page != NULL &&
           (page->gfn.value != gfn.value || page->role.space != space || page->role.is_direct)) {
        page = page->bucket_next;
    }
    return page;
}

struct shadow_page *shadow_page_first(const struct shadow *shadow, unsigned space, struct gfn gfn)
{
    return next_of_frame(*bucket_of((struct shadow *)shadow, gfn), space, gfn);
}

struct shadow_page *shadow_page_next(struct shadow_page *page)
{
    return next_of_frame(page->bucket_next, page->role.space, page->gfn);
}

_Static_assert(sizeof(struct shadow_role) == sizeof(uint64_t), "compared as one number");

static struct shadow_page *find(struct shadow *shadow, struct gfn gfn,
                                const struct shadow_role *role)
{
    struct shadow_page *page = *bucket_of(shadow, gfn);

    while (page != NULL && !shadow_page_is(page, gfn, role)) {
        page = page->bucket_next;
    }
    return page;
}

/* To the front of the list by use; it is in none. */
static void list_add(struct shadow *shadow, struct shadow_page *page)
{
    page->newer = NULL;
    page->older = shadow->newest;
    if (shadow->newest != NULL) {
        shadow->newest->newer = page;
    } else {
        shadow->oldest = page;
    }
    shadow->newest = page;
}

static void list_remove(struct shadow *shadow, struct shadow_page *page)
{
    if (page->newer != NULL) {
        page->newer->older = page->older;
    } else {
        shadow->newest = page->older;
    }
    if (page->older != NULL) {
        page->older->newer = page->newer;
    } else {
        shadow->oldest = page->newer;
    }
}

static void hash_remove(struct shadow *shadow, struct shadow_page *page)
{
    struct shadow_page **place = bucket_of(shadow, page->gfn);

    while (*place != page) {
        place = &(*place)->bucket_next;
    }
    *place = page->bucket_next;
}

struct shadow_page *shadow_page_of(const uint64_t *entry)
{
    return table_of((const uint64_t *)align_down((uintptr_t)entry, PAGE_BYTES_4K))->shadow;
}

struct shadow_page *shadow_child(const struct shadow_page *page, unsigned index)
{
    uint64_t entry = entry_load(&page->entries[index]);

    return entry_is_table(page->role.level, entry) ? table_of(entry_table(entry))->shadow : NULL;
}

struct gfn shadow_frame(const struct shadow_page *page, unsigned index)
{
    if (page->role.is_direct) {
        return (struct gfn){page->gfn.value + index * level_pages(page->role.level)};
    }
    return (struct gfn){page->frames[index]};
}

const struct memslot *shadow_slot(const struct mmu *mmu, unsigned space, struct gfn gfn)
{
    return memslots_find(kcore_slots(mmu->core, space), gfn);
}

/*
 * Unsync children: bits of parents.
 */

static void set_child_bit(struct shadow_page *page, unsigned index, bool is_unsync);

/* It has something unsync, or nothing any more. Recursion goes up: four deep at most. */
static void tell_parents(const struct shadow_page *page, bool is_unsync)
{
    struct entry_cursor cursor = entry_list_begin(&page->parents);
    uint64_t *parent;

    while ((parent = entry_cursor_next(&cursor)) != NULL) {
        set_child_bit(shadow_page_of(parent), shadow_index_of(parent), is_unsync);
    }
}

/* The entry leads, or does not lead any more, to something unsync. */
static void set_child_bit(struct shadow_page *page, unsigned index, bool is_unsync)
{
    uint64_t bit = UINT64_C(1) << index % 64;
    uint64_t *word = &page->unsync_children[index / 64];
    bool had = shadow_has_unsync(page);

    if (((*word & bit) != 0) == is_unsync) {
        return;
    }
    *word ^= bit;
    page->unsync_child_count += is_unsync ? 1u : -1u;
    if (had != shadow_has_unsync(page)) {
        tell_parents(page, is_unsync);
    }
}

void shadow_set_unsync(struct shadow_work *work, struct shadow_page *page, bool is_unsync)
{
    if (page->is_unsync == is_unsync) {
        return;
    }
    page->is_unsync = is_unsync;
    count(&work->mmu->shadow.unsync_count, is_unsync ? 1 : -1ull);
    tell_parents(page, is_unsync); /* of the lowest level: it has no children */
}

/*
 * Entries.
 */

static void note_loss(struct shadow_work *work, const struct shadow_page *page)
{
    work->lost[page->role.space] = true;
}

void shadow_link(struct shadow_page *page, unsigned index, struct shadow_page *child,
                 struct chunk_stock *stock)
{
    uint64_t *entry = &page->entries[index];

    GM_ASSERT(entry_load(entry) == 0);
    entry_list_add(&child->parents, entry, stock);
    set_child_bit(page, index, shadow_has_unsync(child));
    /* Release; pairs with the acquire in entry_load(): what is in the page is there. */
    __atomic_store_n(entry, entry_to_table(child->entries), __ATOMIC_RELEASE);
}

int shadow_add_leaf(struct shadow_work *work, struct shadow_page *page, unsigned index,
                    struct gfn first, uint64_t leaf, struct chunk_stock *stock)
{
    const struct memslot *slot = shadow_slot(work->mmu, page->role.space, first);
    uint64_t *entry = &page->entries[index];
    int rc;

    GM_ASSERT(entry_load(entry) == 0);
    rc = rmap_add(work->mmu, slot, page->role.level, first, entry, stock);
    if (rc != 0) {
        return rc;
    }
    page->frames[index] = first.value;
    __atomic_store_n(entry, leaf, __ATOMIC_RELEASE);
    count(&work->mmu->shadow.leaf_count, 1);
    return 0;
}

void shadow_drop(struct shadow_work *work, struct shadow_page *page, unsigned index)
{
    struct mmu *mmu = work->mmu;
    uint64_t *entry = &page->entries[index];
    struct shadow_page *child = shadow_child(page, index);
    uint64_t was = __atomic_exchange_n(entry, 0, __ATOMIC_ACQ_REL);

    if (was == 0) {
        return;
    }
    note_loss(work, page);
    if (child != NULL) {
        set_child_bit(page, index, false);
        entry_list_remove(&child->parents, entry, &mmu->allocator);
    } else {
        struct gfn first = shadow_frame(page, index);

        rmap_remove(mmu, shadow_slot(mmu, page->role.space, first), page->role.level, first, entry);
        count(&mmu->shadow.leaf_count, -1ull);
    }
}

uint64_t shadow_take_flags(struct shadow_work *work, uint64_t *entry, uint64_t flags)
{
    uint64_t was;

    if ((entry_load(entry) & flags) == 0) {
        return 0;
    }
    was = __atomic_fetch_and(entry, ~flags, __ATOMIC_ACQ_REL) & flags;
    if (was != 0) {
        note_loss(work, shadow_page_of(entry));
    }
    return was;
}

/*
 * Tracking a guest's table: its slot counts it, and EPT's leaf goes, to come back as tracked, or as not any more.
 */

static void remap(struct shadow_work *work, unsigned space, struct gfn gfn)
{
    struct mmu *mmu = work->mmu;

    if (!work->installers_are_out) {
        gate_hold(&mmu->installers);
    }
    (void)take_unmap((struct mmu_locked){mmu}, (struct range){space, gfn.value, gfn.value + 1},
                     work->retired);
    if (!work->installers_are_out) {
        gate_release(&mmu->installers);
    }
}

/* Return: 0; -ENOMEM. */
static int begin_tracking(struct shadow_work *work, unsigned space, struct gfn gfn)
{
    int rc = slot_begin_table(work->mmu, shadow_slot(work->mmu, space, gfn), gfn);

    if (rc == 0) {
        remap(work, space, gfn);
    }
    return rc;
}

static void end_tracking(struct shadow_work *work, unsigned space, struct gfn gfn)
{
    slot_end_table(shadow_slot(work->mmu, space, gfn), gfn);
    remap(work, space, gfn);
}

/*
 * Making.
 */

int shadow_stock_fill(struct mmu_vcpu *vcpu)
{
    const struct gm_allocator *allocator = &vcpu->mmu->allocator;
    struct shadow_vcpu *stock = &vcpu->shadow;

    while (stock->page_count < PAGING_LEVELS_MAX) {
        struct shadow_page *page = mem_alloc(allocator, sizeof(*page));

        if (page == NULL) {
            return -ENOMEM;
        }
        page->bucket_next = stock->pages;
        stock->pages = page;
        stock->page_count++;
    }
    return chunk_stock_fill(&stock->chunks, allocator, SHADOW_CHUNKS);
}

void shadow_vcpu_fini(struct mmu_vcpu *vcpu)
{
    struct shadow_vcpu *stock = &vcpu->shadow;

    for (unsigned i = 0; i < LINEAR_CONTEXTS; i++) {
        shadow_root_put(&vcpu->linear.contexts[i].root);
    }
    while (stock->pages != NULL) {
        struct shadow_page *page = stock->pages;

        stock->pages = page->bucket_next;
        mem_free(&vcpu->mmu->allocator, page);
    }
    chunk_stock_drain(&stock->chunks, &vcpu->mmu->allocator);
}

/* A page of the vCPU's stocks, empty, in the hash. NULL: they are empty. */
static struct shadow_page *make(struct mmu_vcpu *vcpu, struct gfn gfn,
                                const struct shadow_role *role)
{
    struct shadow *shadow = &vcpu->mmu->shadow;
    struct shadow_page *page = vcpu->shadow.pages;
    struct shadow_page **bucket = bucket_of(shadow, gfn);
    uint64_t *entries;

    if (page == NULL) {
        return NULL;
    }
    entries = table_take(&vcpu->mmu->tables, &vcpu->cache, role->level, role->space, gfn);
    if (entries == NULL) {
        return NULL;
    }
    vcpu->shadow.pages = page->bucket_next;
    vcpu->shadow.page_count--;
    memset(page, 0, offsetof(struct shadow_page, frames));
    page->entries = entries;
    page->gfn = gfn;
    page->role = *role;
    table_of(entries)->shadow = page;
    page->bucket_next = *bucket;
    *bucket = page;
    list_add(shadow, page);
    count(&shadow->page_count, 1);
    return page;
}

/* From here on writes to the guest's table are seen, and what was written before is there to be read. */
static int catch_writes(struct shadow_work *work, unsigned space, struct gfn gfn)
{
    int rc = 0;

    if (shadow_page_first(&work->mmu->shadow, space, gfn) == NULL) {
        rc = begin_tracking(work, space, gfn);
    }
    if (rc == 0) {
        shadow_protect_frame(work, space, gfn);
        shadow_work_flush(work);
    }
    return rc;
}

enum shadow_get shadow_page_get(struct shadow_work *work, struct mmu_vcpu *vcpu, struct gfn gfn,
                                const struct shadow_role *role, const uint8_t *guest_table,
                                struct shadow_page **page)
{
    struct shadow *shadow = &work->mmu->shadow;

    *page = find(shadow, gfn, role);
    if (*page != NULL) {
        list_remove(shadow, *page);
        list_add(shadow, *page);
        (*page)->write_count = 0;
        shadow_sync_tree(work, *page);
        return SHADOW_GOT;
    }
    if (vcpu->shadow.pages == NULL || vcpu->cache.first == NULL) {
        return SHADOW_NO_STOCK;
    }
    if (!role->is_direct && catch_writes(work, role->space, gfn) != 0) {
        return SHADOW_NO_MEMORY;
    }
    *page = make(vcpu, gfn, role);
    (*page)->guest_table = guest_table;
    return SHADOW_GOT;
}

/*
 * The end.
 */

static void free_page(struct shadow_work *work, struct shadow_page *page)
{
    note_loss(work, page); /* a processor may be in it */
    table_of(page->entries)->shadow = NULL;
    table_retire(work->retired, page->entries);
    mem_free(&work->mmu->allocator, page);
    count(&work->mmu->shadow.page_count, -1ull);
}

void shadow_zap(struct shadow_work *work, struct shadow_page *page)
{
    struct shadow *shadow = &work->mmu->shadow;
    uint64_t *parent;

    shadow_set_unsync(work, page, false);
    for (unsigned i = 0; i < EPT_ENTRIES; i++) {
        shadow_drop(work, page, i);
    }
    while ((parent = entry_list_any(&page->parents)) != NULL) {
        shadow_drop(work, shadow_page_of(parent), shadow_index_of(parent));
    }
    hash_remove(shadow, page);
    list_remove(shadow, page);
    if (!page->role.is_direct && shadow_page_first(shadow, page->role.space, page->gfn) == NULL) {
        end_tracking(work, page->role.space, page->gfn);
    }
    if (atomic_load(&page->root_count) == 0) {
        free_page(work, page);
        return;
    }
    atomic_store(&page->is_invalid, true);
    page->bucket_next = shadow->invalid;
    shadow->invalid = page;
}

/* Invalid pages that have been given up go. */
static void sweep(struct shadow_work *work)
{
    struct shadow_page **place = &work->mmu->shadow.invalid;

    while (*place != NULL) {
        struct shadow_page *page = *place;

        if (atomic_load(&page->root_count) != 0) {
            place = &page->bucket_next;
            continue;
        }
        *place = page->bucket_next;
        free_page(work, page);
    }
}

/*
 * Stretches of work.
 */

struct shadow_work shadow_work_begin(struct mmu *mmu, struct retired *retired)
{
    lock_take(&mmu->lock);
    rcu_enter(); /* slots are looked up */
    return (struct shadow_work){.mmu = mmu, .retired = retired};
}

static void append_losses(struct shadow_work *work)
{
    for (unsigned space = 0; space < KCORE_SPACES; space++) {
        if (work->lost[space]) {
            flush_append(&work->mmu->flush_log, space, (struct gfn){0}, FLUSH_LINEAR);
            work->lost[space] = false;
        }
    }
}

void shadow_work_flush(struct shadow_work *work)
{
    append_losses(work);
    mmu_flush(work->mmu);
}

void shadow_work_end(struct shadow_work *work)
{
    struct mmu *mmu = work->mmu;

    sweep(work);
    append_losses(work);
    rcu_leave();
    lock_drop(&mmu->lock);
    if (work->retired->count != 0) {
        mmu_flush(mmu);
        tables_free_retired(mmu->core->deferred, work->retired);
    }
}

struct shadow_work shadow_work_of_taker(struct mmu_locked locked, struct retired *retired)
{
    rcu_enter();
    return (struct shadow_work){.mmu = locked.mmu, .retired = retired, .installers_are_out = true};
}

void shadow_work_of_taker_end(struct shadow_work *work)
{
    if (work->retired != NULL) {
        sweep(work);
    }
    append_losses(work);
    rcu_leave();
}

void shadow_fini(struct mmu *mmu)
{
    struct retired retired = {0};
    struct shadow_work work = shadow_work_begin(mmu, &retired);

    while (mmu->shadow.oldest != NULL) {
        shadow_zap(&work, mmu->shadow.oldest);
    }
    shadow_work_end(&work);
    GM_ASSERT(mmu->shadow.invalid == NULL);
}
