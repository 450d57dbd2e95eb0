/*
 * mmu/audit.c - the tables against what they must say, rebuilt from the slots. In audit builds.
 *
 *   I-18  a table's record says its level, space and first frame, and that it is linked
 *   I-19  as many table pages are counted as used as trees have
 *   I-20  as many leaves are counted as trees have, by level
 *   I-21  a leaf maps its slot's host page, which the slot holds as a whole
 *   I-22  a leaf has no right that its slot, attributes, logging or tracking forbid
 *   I-23  no leaf is larger than allowed, but for those that were there when logging began
 *   I-24  an MMIO entry of the newest generation is where no slot is
 *   I-33  a table's record knows the lines of its entries that have EPT_WRITE
 */
#include "mmu/mmu.h"

#include "base/check.h"
#include "kcore/attributes.h"
#include "kcore/dirtylog.h"
#include "mmu/large.h"

#ifdef GM_AUDIT_ON

struct audit {
    struct mmu *mmu;
    unsigned space;
    uint64_t tables;
    uint64_t leaves[EPT_LEAF_LEVEL_MAX + 1];
};

/* In the slot's log; what a vCPU wrote may be in a ring instead. */
static bool page_is_dirty(const struct memslot *slot, struct gfn gfn)
{
    uint64_t page = memslot_page_of(slot, gfn);

    return (dirtylog_word(slot->log, page / 64) >> page % 64 & 1) != 0;
}

/* Would a write through this entry go to no log? */
static bool is_written_unseen(const struct mmu *mmu, uint64_t entry)
{
    uint64_t flags = mmu->log_buffer ? EPT_WRITE | EPT_DIRTY : EPT_WRITE;

    return (entry & flags) == flags && mmu->core->ring_entries == 0;
}

static void audit_rights(const struct audit *audit, const struct memslot *slot, struct gfn gfn,
                         uint64_t entry)
{
    uint64_t attributes = kcore_attributes(audit->mmu->core, gfn);

    GM_ASSERT((entry & EPT_READ) == 0 || (attributes & ATTRIBUTE_NO_READ) == 0);
    GM_ASSERT((entry & EPT_EXECUTE) == 0 || (attributes & ATTRIBUTE_NO_EXECUTE) == 0);
    if ((entry & (EPT_WRITE | EPT_TRACKED)) == 0) {
        return;
    }
    GM_ASSERT((attributes & ATTRIBUTE_NO_WRITE) == 0 && (slot->flags & MEMSLOT_READONLY) == 0);
    GM_ASSERT(slot_is_tracked(slot, gfn) == ((entry & EPT_TRACKED) != 0));
    if ((slot->flags & MEMSLOT_LOG) != 0 && is_written_unseen(audit->mmu, entry)) {
        /* It will be reported, or it was and is not protected again before its clear. */
        GM_ASSERT(page_is_dirty(slot, gfn) || audit->mmu->core->manual_protect);
    }
}

static void audit_leaf(struct audit *audit, unsigned level, struct gfn first, uint64_t entry)
{
    struct kcore *core = audit->mmu->core;
    const struct memslot *slot = memslots_find(kcore_slots(core, audit->space), first);
    uint64_t hva;

    GM_ASSERT(slot != NULL && (slot->flags & MEMSLOT_INVALID) == 0);
    GM_ASSERT(range_holds(slot->base.value, slot->page_count, first.value, level_pages(level)));
    hva = (kcore_attributes(core, first) & ATTRIBUTE_PRIVATE) == 0
              ? memslot_hva(slot, first).value
              : slot->private_hva.value + (memslot_page_of(slot, first) << PAGE_SHIFT_4K);
    GM_ASSERT(entry_hva(entry).value == hva);
    GM_ASSERT(level <= slot_leaf_level(audit->mmu, slot, first) ||
              (slot->flags & MEMSLOT_LOG) != 0);
    audit_rights(audit, slot, first, entry);
    audit->leaves[level]++;
}

static void audit_entry(void *opaque, unsigned level, struct gfn first, const uint64_t *table,
                        uint64_t entry)
{
    struct audit *audit = opaque;
    const struct table *record = table_of(table);
    const uint64_t *place = &table[level_index(level, first)];

    GM_ASSERT(record->level == level && record->space == audit->space &&
              atomic_load(&record->is_linked));
    GM_ASSERT(record->first.value == align_down(first.value, level_pages(level + 1)));
    GM_ASSERT(!entry_is_present(*place) || (*place & EPT_WRITE) == 0 ||
              table_may_be_writable(place));
    if (entry_is_table(level, entry)) {
        audit->tables++;
    } else if (entry_is_leaf(level, entry)) {
        audit_leaf(audit, level, first, entry);
    } else {
        GM_ASSERT(level == 1 && entry_is_mmio(entry));
        GM_ASSERT(entry != entry_of_mmio(mmu_generation(audit->mmu)) ||
                  memslots_find(kcore_slots(audit->mmu->core, audit->space), first) == NULL);
    }
}

void mmu_audit(struct mmu *mmu)
{
    struct audit audit = {.mmu = mmu, .tables = KCORE_SPACES};
    struct mmu_counts sum;

    for (unsigned space = 0; space < mmu->core->spaces; space++) {
        audit.space = space;
        mmu_visit(mmu, space, audit_entry, &audit);
    }
    lock_take(&mmu->lock);
    audit.tables += shadow_audit(mmu);
    lock_drop(&mmu->lock);
    GM_ASSERT(audit.tables == atomic_load(&mmu->tables.used));
    mmu_sum_counts(mmu, &sum);
    for (unsigned level = 1; level <= EPT_LEAF_LEVEL_MAX; level++) {
        GM_ASSERT(audit.leaves[level] == atomic_load(&sum.leaves[level]));
    }
}

#else
/* A file may not be empty. */
extern const int mmu_audit_is_off;
const int mmu_audit_is_off = 1;
#endif
