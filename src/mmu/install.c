/*
 * mmu/install.c - putting an entry into the tables.
 *
 * Each step is one compare-and-swap; where it fails, another installer or a processor's flag was
 * faster, and the entry is read again. A table is filled before it is linked.
 *
 * A table whose own entry lacks EPT_WRITE is write-protected as a whole (take_writes()). The first write below it
 * hands that on to its entries: the one case in which installers take a right. Line by line: the entries' right,
 * then the line's bit of table.writable; then the entries are looked at again. When no bit is left from before, the table's
 * own entry gets the right. Who installs a right sets the bit after it.
 *
 * | # | A hands on                 | B hands on, or installs     | outcome                                      |
 * | - | -------------------------- | --------------------------- | -------------------------------------------- |
 * | 1 | takes a leaf's right       |                             |                                              |
 * |   |                            | gives it again, sets the bit|                                              |
 * |   | takes the bit; looks again |                             | Sees the right, and sets the bit.            |
 * | 2 | takes a leaf's right       | gives it again              |                                              |
 * |   | takes the bit              |                             |                                              |
 * |   |                            | sets the bit                | The bit stays.                               |
 * | 3 |                            | gives the right             |                                              |
 * |   | takes it                   | sets the bit                | B's processor faults again.                  |
 * | 4 | finds no bit left          | has taken the last bit, and |                                              |
 * |   | gives the table's entry    | so the rights before it     | All that takers left was protected by then.  |
 * |   | its right                  |                             |                                              |
 * | 5 | has given the table's      | takes a leaf's right that   |                                              |
 * |   | entry its right            | came since                  | As 3. The page was marked: nothing is lost.  |
 *
 * tests/race/test_install_points.c forces them. Takers, of whose work this is the rest, are out meanwhile.
 */
#include "mmu/install.h"

#include "base/check.h"
#include "base/point.h"
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
    atomic_store_explicit(&table_of(entries)->writable, (leaf & EPT_WRITE) != 0 ? UINT64_MAX : 0,
                          memory_order_relaxed);
}

static bool line_is_writable(uint64_t *entries)
{
    uint64_t any = 0;

    for (unsigned i = 0; i < TABLE_LINE_ENTRIES; i++) {
        uint64_t value = entry_load(&entries[i]);

        any |= entry_is_present(value) ? value : 0;
    }
    return (any & EPT_WRITE) != 0;
}

static void protect_line(const struct mmu *mmu, uint64_t *entries, unsigned level)
{
    for (unsigned i = 0; i < TABLE_LINE_ENTRIES; i++) {
        uint64_t value = entry_load(&entries[i]);

        if (entry_is_present(value) && (value & EPT_WRITE) != 0) {
            __atomic_fetch_and(&entries[i], ~mmu_write_flags(mmu, level, value), __ATOMIC_ACQ_REL);
        }
    }
}

/* The table that an entry of @level leads to is write-protected as a whole: protect its entries instead. */
static void hand_protection_on(const struct mmu *mmu, uint64_t *entry, unsigned level)
{
    uint64_t *table = entry_table(entry_load(entry));
    atomic_ullong *writable = &table_of(table)->writable;
    unsigned long long lines = atomic_load_explicit(writable, memory_order_acquire);

    GM_POINT("hand-on-begins");
    for (; lines != 0; lines &= lines - 1) {
        unsigned line = (unsigned)__builtin_ctzll(lines);
        uint64_t *entries = &table[line * TABLE_LINE_ENTRIES];

        protect_line(mmu, entries, level - 1);
        GM_POINT("line-protected");
        atomic_fetch_and_explicit(writable, ~(1ull << line), memory_order_acq_rel);
        GM_POINT("line-bit-taken");
        if (line_is_writable(entries)) {
            table_note_writable(entries);
        }
    }
    __atomic_fetch_or(entry, EPT_WRITE, __ATOMIC_ACQ_REL);
    table_note_writable(entry);
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
    table_note_writable(entry);
    if (is_split) {
        count_up(&vcpu->counts.leaves[level], -1ull);
        count_up(&vcpu->counts.leaves[level - 1], EPT_ENTRIES);
        count_up(&vcpu->counts.splits, 1);
    }
    return true;
}

/*
 * The entry of @gfn at @level, or above it where a large leaf that may stay is met; NULL: no table page.
 * @for_writing: with nothing above it that forbids to write.
 */
static uint64_t *reach(struct mmu_vcpu *vcpu, struct gfn gfn, unsigned goal, bool for_writing,
                       unsigned *level)
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
        if (for_writing && (seen & EPT_WRITE) == 0) {
            hand_protection_on(vcpu->mmu, entry, *level);
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
    uint64_t *entry = reach(vcpu, leaf->gfn, leaf->level, (leaf->entry & EPT_WRITE) != 0, &level);
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
            GM_POINT("right-installed");
            if ((next & EPT_WRITE) != 0) {
                table_note_writable(entry);
            }
            count_up(&vcpu->counts.leaves[level], is_present ? 0 : 1);
            return INSTALL_DONE;
        }
    }
}

enum install_result install_mmio(struct mmu_vcpu *vcpu, struct gfn gfn, uint64_t generation)
{
    unsigned level;
    uint64_t *entry = reach(vcpu, gfn, 1, false, &level);
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
