/*
 * mmu/take.h - taking entries, rights and flags away: unmapping, write protection, ageing, collapsing.
 *
 * Each works on a range of frames of one space, as the taker, and appends what changed to the flush log;
 * the caller calls mmu_flush() after it has unlocked, and then the pages of `retired` may be freed.
 */
#ifndef MMU_TAKE_H
#define MMU_TAKE_H

#include "mmu/mmu.h"

struct range {
    unsigned space;
    uint64_t first; /* frames [first, end) */
    uint64_t end;
};

static inline struct range range_of_slot(const struct memslot *slot)
{
    return (struct range){slot->space, slot->base.value, slot->base.value + slot->page_count};
}

/* Unmap; a large leaf that the range meets goes as a whole. Return: was anything there? */
bool take_unmap(struct mmu_locked locked, struct range range, struct retired *retired);

/*
 * Make the next write of each page be seen: by its dirty flag, or by the want of a right. A table that lies in
 * the range as a whole is write-protected by its own entry alone, in one step; the first write below it hands
 * that on (install.c). So a harvest costs by the tables of its range's ends, not by pages.
 */
void take_writes(struct mmu_locked locked, struct range range);

/* Clear accessed flags of leaves whose memory meets the host range: private pages of the same frames lie
 * elsewhere. Return: their pages that had it. */
uint64_t take_accessed(struct mmu_locked locked, struct range range, struct hva hva,
                       uint64_t size_bytes);

/* Replace large leaves by tables of small ones, with @cache's pages. False: they ran out. */
bool take_split(struct mmu_locked locked, struct range range, struct tables_cache *cache);

/* Unmap tables of small leaves that lie in ranges where a large leaf may be. */
bool take_collapse(struct mmu_locked locked, const struct memslot *slot, struct retired *retired);

/* Drop all MMIO entries of all spaces. */
void take_mmio(struct mmu_locked locked);

/* Unlink the table that maps @first at @level - 1, with all below it. */
void take_table(struct mmu_locked locked, const struct table *table, struct retired *retired);

/* All tables below @root, and it; nobody uses it any more. */
void retire_tree(struct mmu_locked locked, uint64_t *root, struct retired *retired);

#endif
