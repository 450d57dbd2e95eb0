/* mmu/visit.c - all entries of a tree, for tests and dumps. */
#include "mmu/mmu.h"
#include "mmu/walk.h"

/* @denied: rights that an entry above does not give. */
static void visit_table(mmu_visit_fn *visit, void *opaque, unsigned level, const uint64_t *table,
                        uint64_t first, uint64_t denied)
{
    for (unsigned i = 0; i < EPT_ENTRIES; i++) {
        uint64_t entry = entry_load(&table[i]);
        uint64_t gfn = first + i * level_pages(level);

        if (entry == 0) {
            continue;
        }
        if (entry_is_table(level, entry)) {
            visit(opaque, level, (struct gfn){gfn}, table, entry);
            visit_table(visit, opaque, level - 1, entry_table(entry), gfn,
                        denied | (~entry & EPT_RIGHTS));
        } else {
            visit(opaque, level, (struct gfn){gfn}, table,
                  entry_is_mmio(entry) ? entry : entry & ~denied);
        }
    }
}

void mmu_visit(struct mmu *mmu, unsigned space, mmu_visit_fn *visit, void *opaque)
{
    visit_table(visit, opaque, mmu->levels, atomic_load(&mmu->roots[space]), 0, 0);
}
