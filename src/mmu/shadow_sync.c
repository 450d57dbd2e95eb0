/*
 * mmu/shadow_sync.c - catching writes to guests' tables, letting them pass unseen, and bringing what was written in
 * step.
 */
#include "mmu/shadow_page.h"

#include "base/point.h"
#include "mmu/guestwalk.h"
#include "mmu/rmap.h"
#include "mmu/walk.h"

/* A small leaf of a frame is protected; a large one goes, since a small one has to take its place. */
static void protect_level(struct shadow_work *work, const struct memslot *slot, unsigned level,
                          struct gfn gfn)
{
    struct gfn first = gfn;
    struct gfn end = {gfn.value + 1};
    struct entry_list *list = rmap_next(slot, level, &first, end);
    struct entry_cursor cursor;
    uint64_t *entry;

    if (list == NULL) {
        return;
    }
    if (level > 1) {
        while ((entry = entry_list_any(list)) != NULL) {
            shadow_drop(work, shadow_page_of(entry), shadow_index_of(entry));
        }
        return;
    }
    cursor = entry_list_begin(list);
    while ((entry = entry_cursor_next(&cursor)) != NULL) {
        (void)shadow_take_flags(work, entry, EPT_WRITE);
    }
}

void shadow_protect_frame(struct shadow_work *work, unsigned space, struct gfn gfn)
{
    const struct memslot *slot = shadow_slot(work->mmu, space, gfn);

    for (unsigned level = 1; level <= EPT_LEAF_LEVEL_MAX; level++) {
        protect_level(work, slot, level, gfn);
    }
}

bool shadow_make_unsync(struct shadow_work *work, unsigned space, struct gfn gfn)
{
    struct shadow_page *first = shadow_page_first(&work->mmu->shadow, space, gfn);

    for (struct shadow_page *page = first; page != NULL; page = shadow_page_next(page)) {
        if (page->role.level != 1) {
            return false;
        }
    }
    for (struct shadow_page *page = first; page != NULL; page = shadow_page_next(page)) {
        shadow_set_unsync(work, page, true);
    }
    return true;
}

/* The guest's entry that one of a page of level 1 stands for. */
static uint64_t guest_entry(const struct shadow_page *page, unsigned index,
                            const struct shadow_format *format)
{
    unsigned guest_index = index + page->role.quadrant * EPT_ENTRIES;

    return gm_host_load(page->guest_table + guest_index * format->entry_bytes, format->entry_bytes);
}

/* What a leaf says of the guest: rights and key. */
static uint64_t leaf_of_guest(const struct shadow_page *page, uint64_t entry)
{
    uint64_t rights = page->role.rights & paging_entry_rights(entry);
    uint64_t key = entry >> PAGING_KEY_SHIFT & PAGING_KEY_MASK;

    return rights << SHADOW_RIGHTS_SHIFT | key << SHADOW_KEY_SHIFT;
}

/* Would a walk of the guest's tables come by the entry, and find its flag set? */
static bool is_usable(const struct shadow_format *format, uint64_t entry)
{
    return (entry & PAGING_PRESENT) != 0 && (entry & PAGING_ACCESSED) != 0 &&
           (entry & format->levels[1].reserved_leaf) == 0;
}

void shadow_sync_entry(struct shadow_work *work, struct shadow_page *page, unsigned index)
{
    const uint64_t of_guest = SHADOW_KEY_MASK << SHADOW_KEY_SHIFT | (uint64_t)PAGING_RIGHTS_ALL
                                                                        << SHADOW_RIGHTS_SHIFT;
    const struct shadow_format *format = &work->mmu->shadow.formats[page->role.format];
    uint64_t *place = &page->entries[index];
    uint64_t leaf = entry_load(place);
    uint64_t entry;

    if (leaf == 0) {
        return;
    }
    entry = guest_entry(page, index, format);
    if (!is_usable(format, entry) ||
        (entry & format->address_mask) >> PAGE_SHIFT_4K != page->frames[index] ||
        (leaf & of_guest) != leaf_of_guest(page, entry)) {
        shadow_drop(work, page, index);
        return;
    }
    if ((entry & PAGING_DIRTY) == 0) {
        (void)shadow_take_flags(work, place, EPT_WRITE);
    }
}

static void sync_page(struct shadow_work *work, struct shadow_page *page)
{
    for (unsigned index = 0; index < EPT_ENTRIES; index++) {
        shadow_sync_entry(work, page, index);
    }
    atomic_fetch_add_explicit(&work->mmu->shadow.syncs, 1, memory_order_relaxed);
}

/* The first page in a tree that is unsync; NULL: none. */
static struct shadow_page *find_unsync(struct shadow_page *page)
{
    while (!page->is_unsync) {
        unsigned word = 0;

        if (page->unsync_child_count == 0) {
            return NULL;
        }
        while (page->unsync_children[word] == 0) {
            word++;
        }
        page =
            shadow_child(page, word * 64 + (unsigned)__builtin_ctzll(page->unsync_children[word]));
    }
    return page;
}

/* Pages that are flushed for together. */
#define BATCH 64u

/* Some unsync pages of a tree: their writes are caught from here on. Return: how many. */
static unsigned collect(struct shadow_work *work, struct shadow_page *root,
                        struct shadow_page **pages)
{
    unsigned count = 0;
    struct shadow_page *page;

    while (count < BATCH && (page = find_unsync(root)) != NULL) {
        shadow_protect_frame(work, page->role.space, page->gfn);
        shadow_set_unsync(work, page, false);
        pages[count] = page;
        count++;
    }
    return count;
}

void shadow_sync_tree(struct shadow_work *work, struct shadow_page *page)
{
    struct shadow_page *pages[BATCH];
    unsigned count;

    while ((count = collect(work, page, pages)) != 0) {
        /* No write is under way behind the right that was taken: what is read now is the last. */
        shadow_work_flush(work);
        GM_POINT("shadow-syncing");
        for (unsigned i = 0; i < count; i++) {
            sync_page(work, pages[i]);
        }
    }
}
