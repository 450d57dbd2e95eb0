/*
 * mmu/entry.h - an EPT entry, in Intel's own bits.
 *
 * Where hardware holds a host frame, a leaf holds the page of a host virtual address, and an entry
 * that is no leaf the address of the next table: both are below 2^47 here. An entry is one of
 *
 *   absent   no right is set: 0
 *   table    leads to a table one level down. All three rights; without EPT_WRITE nothing below it may be
 *            written, whatever the leaves there say: they were write-protected together (take.h)
 *   leaf     at level 1, or LARGE at level 2 or 3
 *   MMIO     write and execute without read, which hardware calls a misconfiguration: no slot is here,
 *            as of the slots' generation that it holds. At level 1 only
 *
 * Source: Intel SDM 3C, "EPT Translation Mechanism", "Accessed and Dirty Flags for EPT".
 */
#ifndef MMU_ENTRY_H
#define MMU_ENTRY_H

#include "base/addr.h"

#include <guestmem/mmu.h>

#include <stdbool.h>
#include <stdint.h>

#define EPT_READ (UINT64_C(1) << 0)
#define EPT_WRITE (UINT64_C(1) << 1)
#define EPT_EXECUTE (UINT64_C(1) << 2)
#define EPT_RIGHTS (EPT_READ | EPT_WRITE | EPT_EXECUTE)
#define EPT_TYPE_SHIFT 3 /* memory type of a leaf, 3 bits */
#define EPT_IGNORE_PAT (UINT64_C(1) << 6)
#define EPT_LARGE (UINT64_C(1) << 7)
#define EPT_ACCESSED (UINT64_C(1) << 8)
#define EPT_DIRTY (UINT64_C(1) << 9)
#define EPT_ADDRESS UINT64_C(0x000ffffffffff000)
/* Hardware ignores bits 52 to 62. Ours, of a leaf without EPT_WRITE: its host page was probed for
 * writing, and writes are made for the guest, since somebody tracks them. */
#define EPT_TRACKED (UINT64_C(1) << 57)

/* The generation in an MMIO entry: 9 bits from bit 3 on, 11 bits from bit 52 on. */
#define EPT_MMIO_RIGHTS (EPT_WRITE | EPT_EXECUTE)
#define EPT_MMIO_LOW_BITS 9u
#define EPT_MMIO_BITS 20u
#define EPT_MMIO_LOW_SHIFT 3u
#define EPT_MMIO_HIGH_SHIFT 52u

#define EPT_ENTRIES 512u
#define EPT_LEVELS_MAX 5u
#define EPT_LEAF_LEVEL_MAX 3u

_Static_assert(EPT_MMIO_LOW_SHIFT + EPT_MMIO_LOW_BITS == PAGE_SHIFT_4K, "below the address");
_Static_assert(EPT_MMIO_HIGH_SHIFT + EPT_MMIO_BITS - EPT_MMIO_LOW_BITS == 63,
               "bit 63 is hardware's");

/* The right that an access needs. */
static inline uint64_t entry_right_of(enum gm_mmu_access access)
{
    switch (access) {
    case GM_MMU_READ:
        return EPT_READ;
    case GM_MMU_WRITE:
        return EPT_WRITE;
    default:
        return EPT_EXECUTE;
    }
}

static inline unsigned level_shift(unsigned level)
{
    return PAGE_SHIFT_4K + 9 * (level - 1);
}

/* What one entry of a level maps. */
static inline uint64_t level_bytes(unsigned level)
{
    return UINT64_C(1) << level_shift(level);
}

static inline uint64_t level_pages(unsigned level)
{
    return UINT64_C(1) << (9 * (level - 1));
}

static inline unsigned level_index(unsigned level, struct gfn gfn)
{
    return (unsigned)(gfn.value >> (9 * (level - 1))) % EPT_ENTRIES;
}

/* The first frame of the entry of @level that maps @gfn. */
static inline struct gfn level_first(unsigned level, struct gfn gfn)
{
    return (struct gfn){align_down(gfn.value, level_pages(level))};
}

static inline bool entry_is_mmio(uint64_t entry)
{
    return (entry & EPT_RIGHTS) == EPT_MMIO_RIGHTS;
}

/* Table or leaf. */
static inline bool entry_is_present(uint64_t entry)
{
    return (entry & EPT_RIGHTS) != 0 && !entry_is_mmio(entry);
}

static inline bool entry_is_leaf(unsigned level, uint64_t entry)
{
    return entry_is_present(entry) && (level == 1 || (entry & EPT_LARGE) != 0);
}

static inline bool entry_is_table(unsigned level, uint64_t entry)
{
    return entry_is_present(entry) && level > 1 && (entry & EPT_LARGE) == 0;
}

static inline uint64_t *entry_table(uint64_t entry)
{
    return (uint64_t *)(uintptr_t)(entry & EPT_ADDRESS);
}

static inline struct hva entry_hva(uint64_t entry)
{
    return (struct hva){entry & EPT_ADDRESS};
}

static inline uint64_t entry_to_table(const uint64_t *table)
{
    return (uint64_t)(uintptr_t)table | EPT_RIGHTS;
}

static inline uint64_t entry_of_mmio(uint64_t generation)
{
    uint64_t low = generation % (UINT64_C(1) << EPT_MMIO_LOW_BITS);
    uint64_t high =
        (generation >> EPT_MMIO_LOW_BITS) % (UINT64_C(1) << (EPT_MMIO_BITS - EPT_MMIO_LOW_BITS));

    return EPT_MMIO_RIGHTS | low << EPT_MMIO_LOW_SHIFT | high << EPT_MMIO_HIGH_SHIFT;
}

#endif
