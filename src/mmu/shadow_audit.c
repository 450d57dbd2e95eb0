/* mmu/shadow_audit.c - shadow tables against what they must say (shadow.h has the invariants). In audit builds. */
#include "mmu/shadow_page.h"

#include "base/check.h"
#include "kcore/attributes.h"
#include "mmu/fault.h"
#include "mmu/large.h"
#include "mmu/rmap.h"
#include "mmu/walk.h"

#ifdef GM_AUDIT_ON

struct shadow_audit {
    struct mmu *mmu;
    uint64_t pages;
    uint64_t leaves;
    uint64_t unsync;
    uint64_t links;
    uint64_t parents;
};

/* How often an entry is in a list. */
static unsigned times_in(const struct entry_list *list, const uint64_t *wanted)
{
    struct entry_cursor cursor = entry_list_begin(list);
    unsigned times = 0;
    uint64_t *entry;

    while ((entry = entry_cursor_next(&cursor)) != NULL) {
        times += entry == wanted ? 1 : 0;
    }
    return times;
}

static uint64_t length_of(const struct entry_list *list)
{
    struct entry_cursor cursor = entry_list_begin(list);
    uint64_t length = 0;

    while (entry_cursor_next(&cursor) != NULL) {
        length++;
    }
    return length;
}

/* I-26, I-28. */
static void audit_link(struct shadow_audit *audit, const struct shadow_page *page, unsigned index)
{
    const struct shadow_page *child = shadow_child(page, index);

    GM_ASSERT(child != NULL && child->role.level + 1u == page->role.level &&
              child->role.space == page->role.space && !atomic_load(&child->is_invalid));
    GM_ASSERT((child->role.rights & ~page->role.rights) == 0);
    GM_ASSERT(child->role.is_direct || child->role.format == page->role.format);
    GM_ASSERT(times_in(&child->parents, &page->entries[index]) == 1);
    audit->links++;
}

/* Does any page of the frame stand for its table as it is? */
static bool has_page_in_step(struct shadow *shadow, unsigned space, struct gfn gfn)
{
    struct shadow_page *page = shadow_page_first(shadow, space, gfn);

    while (page != NULL && page->is_unsync) {
        page = shadow_page_next(page);
    }
    return page != NULL;
}

/* I-27, I-30, and that the leaf is of its slot, with no right that the slot does not give. */
static void audit_leaf(struct shadow_audit *audit, const struct shadow_page *page, unsigned index)
{
    struct mmu *mmu = audit->mmu;
    unsigned level = page->role.level;
    uint64_t leaf = entry_load(&page->entries[index]);
    struct gfn first = shadow_frame(page, index);
    const struct memslot *slot = shadow_slot(mmu, page->role.space, first);
    struct gfn found = first;
    struct entry_list *list;
    uint64_t attributes = kcore_attributes(mmu->core, first);
    struct hva hva;

    GM_ASSERT(slot != NULL && (slot->flags & MEMSLOT_INVALID) == 0);
    list = rmap_next(slot, level, &found, (struct gfn){first.value + 1});
    GM_ASSERT(list != NULL && found.value == first.value);
    GM_ASSERT(times_in(list, &page->entries[index]) == 1);
    GM_ASSERT(fault_page_hva(slot, first, attributes, &hva) && entry_hva(leaf).value == hva.value);
    GM_ASSERT(range_holds(slot->base.value, slot->page_count, first.value, level_pages(level)));
    GM_ASSERT(level <= slot_leaf_level(mmu, slot, first) || (slot->flags & MEMSLOT_LOG) != 0);
    GM_ASSERT((leaf >> SHADOW_RIGHTS_SHIFT & PAGING_RIGHTS_ALL & ~(uint64_t)page->role.rights) ==
              0);
    if ((leaf & EPT_WRITE) != 0) {
        GM_ASSERT((slot->flags & MEMSLOT_READONLY) == 0 && (attributes & ATTRIBUTE_NO_WRITE) == 0);
        GM_ASSERT(!slot_is_tracked_by_user(slot, first));
        GM_ASSERT(!has_page_in_step(&mmu->shadow, page->role.space, first));
    }
    audit->leaves++;
}

/* I-29: found first, and alone. */
static void audit_hash(struct shadow *shadow, const struct shadow_page *page)
{
    unsigned found = 0;

    for (unsigned bucket = 0; bucket < SHADOW_BUCKETS; bucket++) {
        for (const struct shadow_page *other = shadow->buckets[bucket]; other != NULL;
             other = other->bucket_next) {
            if (other->gfn.value == page->gfn.value &&
                memcmp(&other->role, &page->role, sizeof(page->role)) == 0) {
                GM_ASSERT(other == page);
                found++;
            }
        }
    }
    GM_ASSERT(found == 1);
    if (!page->role.is_direct) {
        struct shadow_page *of_frame = shadow_page_first(shadow, page->role.space, page->gfn);

        while (of_frame != page) {
            GM_ASSERT(of_frame != NULL);
            of_frame = shadow_page_next(of_frame);
        }
    }
}

/* I-28. */
static void audit_unsync(const struct shadow_page *page)
{
    unsigned bits = 0;

    GM_ASSERT(!page->is_unsync || (page->role.level == 1 && !page->role.is_direct));
    for (unsigned index = 0; index < EPT_ENTRIES; index++) {
        const struct shadow_page *child = shadow_child(page, index);
        bool is_set = (page->unsync_children[index / 64] >> index % 64 & 1) != 0;

        GM_ASSERT(is_set == (child != NULL && shadow_has_unsync(child)));
        bits += is_set ? 1 : 0;
    }
    GM_ASSERT(bits == page->unsync_child_count);
}

/* I-31. Tables that cannot be written have flags that nobody can set. */
static void audit_in_step(struct mmu *mmu, const struct shadow_page *page, unsigned index)
{
    const struct shadow_format *format = &mmu->shadow.formats[page->role.format];
    const struct memslot *slot = shadow_slot(mmu, page->role.space, page->gfn);
    uint64_t leaf = entry_load(&page->entries[index]);
    uint64_t entry = gm_host_load(page->guest_table + (index + page->role.quadrant * EPT_ENTRIES) *
                                                          format->entry_bytes,
                                  format->entry_bytes);

    GM_ASSERT((entry & PAGING_PRESENT) != 0 && (entry & format->levels[1].reserved_leaf) == 0);
    GM_ASSERT((entry & format->address_mask) >> PAGE_SHIFT_4K == page->frames[index]);
    GM_ASSERT((leaf >> SHADOW_RIGHTS_SHIFT & PAGING_RIGHTS_ALL) ==
              (page->role.rights & paging_entry_rights(entry)));
    if ((slot->flags & MEMSLOT_READONLY) == 0) {
        GM_ASSERT((entry & PAGING_ACCESSED) != 0);
        GM_ASSERT((leaf & EPT_WRITE) == 0 || (entry & PAGING_DIRTY) != 0);
    }
}

static void audit_page(struct shadow_audit *audit, const struct shadow_page *page)
{
    struct mmu *mmu = audit->mmu;
    const struct table *record = table_of(page->entries);

    GM_ASSERT(record->shadow == page && record->level == page->role.level &&
              record->space == page->role.space && atomic_load(&record->is_linked));
    GM_ASSERT(!atomic_load(&page->is_invalid));
    audit_hash(&mmu->shadow, page);
    audit_unsync(page);
    if (!page->role.is_direct) {
        const struct memslot *slot = shadow_slot(mmu, page->role.space, page->gfn);

        GM_ASSERT(slot != NULL && slot_is_tracked(slot, page->gfn));
    }
    for (unsigned index = 0; index < EPT_ENTRIES; index++) {
        uint64_t entry = entry_load(&page->entries[index]);

        if (entry_is_table(page->role.level, entry)) {
            audit_link(audit, page, index);
        } else if (entry != 0) {
            GM_ASSERT(entry_is_leaf(page->role.level, entry));
            audit_leaf(audit, page, index);
            if (page->role.level == 1 && !page->role.is_direct && !page->is_unsync) {
                audit_in_step(mmu, page, index);
            }
        }
    }
    audit->pages++;
    audit->unsync += page->is_unsync ? 1 : 0;
    audit->parents += length_of(&page->parents);
}

/* Leaves that the reverse maps of a space's slots have. */
static uint64_t mapped_leaves(const struct mmu *mmu, unsigned space)
{
    const struct memslots *slots = kcore_slots(mmu->core, space);
    uint64_t leaves = 0;

    for (const struct memslot *slot = memslots_next(slots, (struct gfn){0}); slot != NULL;
         slot = memslots_next(slots, (struct gfn){slot->base.value + 1})) {
        leaves += rmap_leaf_count(slot);
    }
    return leaves;
}

uint64_t shadow_audit(struct mmu *mmu)
{
    struct shadow *shadow = &mmu->shadow;
    struct shadow_audit audit = {.mmu = mmu};
    uint64_t mapped = 0;
    uint64_t invalid = 0;

    for (const struct shadow_page *page = shadow->newest; page != NULL; page = page->older) {
        GM_ASSERT(page->older == NULL || page->older->newer == page);
        audit_page(&audit, page);
    }
    for (const struct shadow_page *page = shadow->invalid; page != NULL; page = page->bucket_next) {
        GM_ASSERT(atomic_load(&page->is_invalid) && entry_list_is_empty(&page->parents));
        invalid++;
    }
    for (unsigned space = 0; space < mmu->core->spaces; space++) {
        mapped += mapped_leaves(mmu, space);
    }
    GM_ASSERT(audit.links == audit.parents);
    GM_ASSERT(audit.leaves == mapped && audit.leaves == atomic_load(&shadow->leaf_count));
    GM_ASSERT(audit.unsync == atomic_load(&shadow->unsync_count));
    GM_ASSERT(audit.pages + invalid == atomic_load(&shadow->page_count));
    return audit.pages + invalid;
}

#else
/* A file may not be empty. */
extern const int mmu_shadow_audit_is_off;
const int mmu_shadow_audit_is_off = 1;
#endif
