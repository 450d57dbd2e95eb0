/*
 * mmu/install.c - putting an entry into the tables.
 *
 * Each step is one compare-and-swap; where it fails, another installer or a processor's flag was
 * faster, and the entry is read again. A table is filled before it is linked.
 */
#include "mmu/install.h"

#include "base/check.h"
#include "mmu/walk.h"

/* Rights that were not there, of the same memory. */
#define ADDABLE (EPT_RIGHTS | EPT_TRACKED)

static uint64_t *tree_root(const struct mmu_vcpu *vcpu)
{
    /* Acquire; pairs with the release where takers replace a root. */
    return atomic_load_explicit(&vcpu->mmu->roots[vcpu->space], memory_order_acquire);
}

void split_into(uint64_t *entries, uint64_t leaf, unsigned level)
{
    uint64_t child = level - 1 == 1 ? leaf & ~EPT_LARGE : leaf;

    for (unsigned i = 0; i < EPT_ENTRIES; i++) {
        entries[i] = child + i * level_bytes(level - 1);
    }
}

/* Put a new table where *seen is: nothing, MMIO, or a large leaf, which it then maps in parts. */
static bool link_table(struct mmu_vcpu *vcpu, uint64_t *entry, uint64_t *seen, unsigned level,
                       struct gfn gfn, bool *failed)
{
    bool is_split = entry_is_leaf(level, *seen);
    uint64_t *table = table_take(&vcpu->mmu->tables, &vcpu->cache, level - 1, vcpu->space,
                                 level_first(level, gfn));

    *failed = table == NULL;
    if (table == NULL) {
        return false;
    }
    if (is_split) {
        split_into(table, *seen, level);
    }
    if (!entry_replace(entry, seen, entry_to_table(table))) {
        table_give_back(&vcpu->mmu->tables, &vcpu->cache, table);
        return false;
    }
    *seen = entry_to_table(table);
    if (is_split) {
        count_up(&vcpu->counts.leaves[level], -1ull);
        count_up(&vcpu->counts.leaves[level - 1], EPT_ENTRIES);
        count_up(&vcpu->counts.splits, 1);
    }
    return true;
}

/* The entry of @gfn at @level, or above it where a large leaf that may stay is met; NULL: no table page. */
static uint64_t *reach(struct mmu_vcpu *vcpu, struct gfn gfn, unsigned goal, unsigned *level)
{
    uint64_t *table = tree_root(vcpu);

    *level = vcpu->mmu->levels;
    for (;;) {
        uint64_t *entry = &table[level_index(*level, gfn)];
        uint64_t seen = entry_load(entry);
        bool failed = false;

        if (*level == goal && !entry_is_table(*level, seen)) {
            return entry;
        }
        while (!failed && !entry_is_table(*level, seen)) {
            (void)link_table(vcpu, entry, &seen, *level, gfn, &failed);
        }
        if (failed) {
            return NULL;
        }
        /* Below the goal only where a table is there already: smaller leaves do as well. */
        table = entry_table(seen);
        goal = goal < *level ? goal : *level - 1;
        (*level)--;
    }
}

enum install_result install_leaf(struct mmu_vcpu *vcpu, const struct leaf *leaf)
{
    unsigned level;
    uint64_t *entry = reach(vcpu, leaf->gfn, leaf->level, &level);
    uint64_t seen;
    uint64_t wanted;

    if (entry == NULL) {
        return INSTALL_NEEDS_TABLE;
    }
    wanted = leaf->entry;
    if (level > 1) {
        wanted -= (leaf->gfn.value % level_pages(level)) << PAGE_SHIFT_4K;
        wanted |= EPT_LARGE;
    }
    seen = entry_load(entry);
    for (;;) {
        bool is_present = entry_is_present(seen);
        uint64_t next = is_present ? seen | (wanted & ADDABLE) : wanted;

        GM_ASSERT(!is_present || entry_hva(seen).value == entry_hva(wanted).value);
        if ((next & EPT_WRITE) != 0) {
            next &= ~EPT_TRACKED;
        }
        if (next == seen) {
            return INSTALL_SPURIOUS;
        }
        if (entry_replace(entry, &seen, next)) {
            count_up(&vcpu->counts.leaves[level], is_present ? 0 : 1);
            return INSTALL_DONE;
        }
    }
}

enum install_result install_mmio(struct mmu_vcpu *vcpu, struct gfn gfn, uint64_t generation)
{
    unsigned level;
    uint64_t *entry = reach(vcpu, gfn, 1, &level);
    uint64_t seen;

    if (entry == NULL) {
        return INSTALL_NEEDS_TABLE;
    }
    seen = entry_load(entry);
    do {
        /* A slot may have come since, and another vCPU have mapped it. */
        if (entry_is_present(seen) || seen == entry_of_mmio(generation)) {
            return INSTALL_SPURIOUS;
        }
    } while (!entry_replace(entry, &seen, entry_of_mmio(generation)));
    return INSTALL_DONE;
}
