/* mmu/visit.c - all entries of a tree, for tests and dumps. */
#include "mmu/mmu.h"
#include "mmu/walk.h"

static void visit_table(mmu_visit_fn *visit, void *opaque, unsigned level, const uint64_t *table,
                        uint64_t first)
{
    for (unsigned i = 0; i < EPT_ENTRIES; i++) {
        uint64_t entry = entry_load(&table[i]);
        uint64_t gfn = first + i * level_pages(level);

        if (entry == 0) {
            continue;
        }
        visit(opaque, level, (struct gfn){gfn}, table, entry);
        if (entry_is_table(level, entry)) {
            visit_table(visit, opaque, level - 1, entry_table(entry), gfn);
        }
    }
}

void mmu_visit(struct mmu *mmu, unsigned space, mmu_visit_fn *visit, void *opaque)
{
    visit_table(visit, opaque, mmu->levels, atomic_load(&mmu->roots[space]), 0);
}
