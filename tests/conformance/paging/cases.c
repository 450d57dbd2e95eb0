/*
 * conformance/paging/cases.c - random cases.
 *
 * Most entries are good ones; then a few things go wrong in some of them. Tables are few, and their
 * indexes repeat, so that at times an entry is met at two levels. What leaves lead to is limited to few
 * pages of RAM, whatever the size of the page: indexes below a leaf come from a short list.
 */
#include "cases.h"

#define CR0_ALWAYS UINT32_C(0x33) /* PE, MP, ET, NE */
#define CR0_WP UINT32_C(0x10000)
#define CR0_PG UINT32_C(0x80000000)
#define CR4_PSE UINT64_C(0x10)
#define CR4_PAE UINT64_C(0x20)
#define CR4_LA57 UINT64_C(0x1000)
#define CR4_SMEP UINT64_C(0x100000)
#define CR4_SMAP UINT64_C(0x200000)
#define CR4_PKE UINT64_C(0x400000)
#define EFER_LME UINT32_C(0x100)
#define EFER_LMA UINT32_C(0x400)
#define EFER_NXE UINT32_C(0x800)

#define PWT_PCD UINT64_C(0x18)
#define SOFTWARE_BITS UINT64_C(0xe00)                   /* 9 to 11 */
#define HIGH_SOFTWARE_BITS UINT64_C(0x7ff0000000000000) /* with the key, where there are some */

#define COUNT_OF(array) (sizeof(array) / sizeof((array)[0]))

/* Tables that begin with the way to the guest program. PDPTs of PAE are at any 32 bytes. */
static const uint64_t roots[] = {0x1000000, 0x1001000, 0x1002000, 0x1003000};

/* Others that a case fills. Some are aligned as large pages have to be. */
static const uint64_t tables[] = {0x1004000, 0x1005000, 0x1006000, 0x1007000,
                                  0x1200000, 0x1400000, 0x1800000, 0x1801000};

/* Above 4 GiB, where the 32-bit guest program cannot write: their entries stay for a whole boot. */
static const uint64_t high_tables[] = {0x101000000, 0x101001000, 0x101002000, 0x101200000};

/*
 * Where leaves lead. A word's own address may not have bit 27, or 32-bit entries would read it as
 * one that is present.
 */
static const uint64_t frames_4k[] = {0x2000000,  0x2001000,   0x2ffd000,
                                     0x70001000, 0x102000000, 0x1f7fff000};
static const uint64_t frames_2m[] = {0x2200000, 0x10200000, 0x70400000, 0x110000000, 0x1e0200000};
static const uint64_t frames_4m[] = {0x10400000, 0x20000000, 0x120400000, 0x1a0000000};
static const uint64_t frames_1g[] = {0x40000000, 0x100000000, 0x140000000, 0x180000000,
                                     0x1c0000000};

static const unsigned indexes_9[] = {0, 1, 7, 256, 511};
static const unsigned indexes_10[] = {0, 1, 7, 512, 1023};

/* Shapes of the modes: of the generator's own, so that the walker's are not taken for granted. */
static const struct {
    unsigned levels;
    unsigned index_bits; /* but for PAE's 2 at the top */
    unsigned leaf_level_max;
} shapes[] = {
    [PAGING_NONE] = {0, 0, 0}, [PAGING_32] = {2, 10, 2}, [PAGING_PAE] = {3, 9, 2},
    [PAGING_4] = {4, 9, 3},    [PAGING_5] = {5, 9, 3},
};

#define PICK(rnd, array) ((array)[rnd_below(rnd, COUNT_OF(array))])

static bool is_32(const struct cases *cases)
{
    return cases->mode == PAGING_32;
}

static bool is_long(const struct cases *cases)
{
    return cases->mode >= PAGING_4;
}

static bool chance(struct rnd *rnd, unsigned part, unsigned whole)
{
    return rnd_below(rnd, whole) < part;
}

static bool is_of(uint64_t page, const uint64_t *list, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (list[i] == page) {
            return true;
        }
    }
    return false;
}

static bool is_root(uint64_t gpa)
{
    return is_of(gpa & ~UINT64_C(0xfff), roots, COUNT_OF(roots));
}

static bool is_table(uint64_t gpa)
{
    uint64_t page = gpa & ~UINT64_C(0xfff);

    return is_root(gpa) || is_of(page, tables, COUNT_OF(tables)) ||
           is_of(page, high_tables, COUNT_OF(high_tables));
}

/* Memory that belongs to the guest program and to the questions. */
static bool is_own(uint64_t gpa)
{
    return gpa < PAGING_TABLES || (gpa >= PAGING_IMAGE && gpa < PAGING_IMAGE_END);
}

static bool is_hole(uint64_t gpa)
{
    return gpa >= MACHINE_LOW_END && gpa < MACHINE_HIGH;
}

bool cases_can_put_word(const struct cases *cases, uint64_t gpa)
{
    return machine_has(gpa) && !is_own(gpa) && !is_table(gpa) &&
           (!is_32(cases) || (gpa >> 27 & 1) == 0);
}

bool cases_allow_access(const struct cases *cases, uint64_t gpa, enum paging_kind kind)
{
    if (is_own(gpa) || is_hole(gpa)) {
        return false;
    }
    if (cases_can_put_word(cases, gpa)) {
        return true;
    }
    /* Entries are not code; and roots stay whole. What is beyond RAM may be asked for, too. */
    return kind == PAGING_KIND_READ || kind == PAGING_KIND_IMPLICIT ||
           (kind == PAGING_KIND_WRITE && (is_table(gpa) || !machine_has(gpa)) && !is_root(gpa));
}

bool cases_allow_entry(uint64_t gpa)
{
    bool is_monitor_table = gpa >= PAGING_MONITOR_TABLES && gpa < PAGING_MONITOR_TABLES + 0x10000;

    return is_monitor_table || (!is_own(gpa) && !is_hole(gpa));
}

/* Flags that never matter to where a walk ends. */
static uint64_t random_flags(const struct cases *cases, unsigned level)
{
    uint64_t mask = PWT_PCD | SOFTWARE_BITS;

    if (cases->mode != PAGING_PAE || level != 3) {
        mask |= PAGING_ACCESSED | PAGING_DIRTY | PAGING_GLOBAL;
    }
    if (is_long(cases)) {
        mask |= HIGH_SOFTWARE_BITS;
    }
    return rnd_next(cases->rnd) & mask;
}

static uint64_t pointer_target(const struct cases *cases)
{
    struct rnd *rnd = cases->rnd;

    if (!is_32(cases) && chance(rnd, 1, 12)) {
        return PICK(rnd, high_tables);
    }
    return chance(rnd, 1, 8) ? PICK(rnd, roots) : PICK(rnd, tables);
}

/* The address part of a large leaf in 32-bit paging: bits 32 to 39 go to 13 to 20. */
static uint64_t fold_4m(uint64_t frame)
{
    return (frame & UINT32_MAX) | frame >> 32 << 13;
}

static uint64_t leaf_target(const struct cases *cases, unsigned level)
{
    struct rnd *rnd = cases->rnd;
    uint64_t frame;

    switch (level) {
    case 1:
        frame = chance(rnd, 1, 16) ? PICK(rnd, tables) : PICK(rnd, frames_4k);
        return is_32(cases) ? frame & UINT32_MAX : frame;
    case 2:
        return is_32(cases) ? fold_4m(PICK(rnd, frames_4m)) : PICK(rnd, frames_2m);
    default:
        return PICK(rnd, frames_1g);
    }
}

/* A leaf that all may write. */
static uint64_t good_leaf(const struct cases *cases, unsigned level)
{
    uint64_t entry = leaf_target(cases, level) | random_flags(cases, level) | PAGING_PRESENT |
                     PAGING_WRITABLE | PAGING_FOR_USER;

    if (level > 1) {
        entry |= PAGING_LARGE;
    } else {
        entry |= rnd_next(cases->rnd) & PAGING_LARGE; /* which is PAT there */
    }
    return entry;
}

static uint64_t good_pointer(const struct cases *cases, unsigned level, uint64_t table)
{
    uint64_t entry = table | random_flags(cases, level) | PAGING_PRESENT;

    if (cases->mode != PAGING_PAE || level != 3) {
        entry |= PAGING_WRITABLE | PAGING_FOR_USER;
    }
    return entry;
}

/* Something goes wrong with an entry. PDPTEs of PAE can only be absent: CR3 refuses others. */
static uint64_t spoil(const struct cases *cases, unsigned level, uint64_t entry)
{
    struct rnd *rnd = cases->rnd;

    if (cases->mode == PAGING_PAE && level == 3) {
        return chance(rnd, 1, 8) ? entry & ~PAGING_PRESENT : entry;
    }
    switch (rnd_below(rnd, 16)) {
    case 0:
        return entry & ~PAGING_PRESENT;
    case 1:
    case 2:
    case 3:
    case 4:
        return entry & ~PAGING_WRITABLE;
    case 5:
    case 6:
    case 7:
    case 8:
        return entry & ~PAGING_FOR_USER;
    case 9:
    case 10:
    case 11:
        return is_32(cases) ? entry & ~PAGING_WRITABLE : entry | PAGING_NO_EXECUTE;
    case 12:
        return entry ^ PAGING_LARGE;
    case 13: /* an address beyond the end of RAM, or of physical addresses */
        return entry | (is_32(cases) ? UINT64_C(1) << (13 + rnd_below(rnd, 9))
                                     : UINT64_C(1) << (33 + rnd_below(rnd, 19)));
    case 14: /* below a large page's address; in 32-bit paging this makes others */
        return entry | UINT64_C(1) << (12 + rnd_below(rnd, 18));
    default:
        return entry ^ UINT64_C(1) << rnd_below(rnd, is_32(cases) ? 32 : 64);
    }
}

static unsigned random_index(const struct cases *cases, unsigned level)
{
    struct rnd *rnd = cases->rnd;
    bool is_top = level == shapes[cases->mode].levels;
    unsigned end = 1u << shapes[cases->mode].index_bits;

    if (is_top) {
        end = cases->mode == PAGING_PAE ? 4 : end;
        return 1 + (unsigned)rnd_below(rnd, end - 1); /* index 0 leads to the guest program */
    }
    if (level > 2 && chance(rnd, 1, 2)) {
        return (unsigned)rnd_below(rnd, end);
    }
    return is_32(cases) ? PICK(rnd, indexes_10) : PICK(rnd, indexes_9);
}

static void make_registers(const struct cases *cases, struct paging_case *test)
{
    struct rnd *rnd = cases->rnd;

    test->cr0 =
        CR0_ALWAYS | (cases->mode == PAGING_NONE ? 0 : CR0_PG) | (chance(rnd, 1, 2) ? CR0_WP : 0);
    test->cr4 = rnd_next(rnd) & (CR4_PSE | CR4_SMEP | CR4_SMAP | CR4_PKE);
    if (cases->mode >= PAGING_PAE) {
        test->cr4 |= CR4_PAE;
    }
    if (cases->mode == PAGING_32 && chance(rnd, 1, 2)) {
        test->cr4 |= CR4_PSE;
    }
    if (cases->mode == PAGING_5) {
        test->cr4 |= CR4_LA57;
    }
    test->efer = (chance(rnd, 2, 3) ? EFER_NXE : 0) | (is_long(cases) ? EFER_LME | EFER_LMA : 0);
    test->pkru = (uint32_t)(rnd_next(rnd) & rnd_next(rnd));
}

static void make_access(const struct cases *cases, struct paging_case *test)
{
    static const uint8_t kinds[] = {
        PAGING_KIND_READ,  PAGING_KIND_READ,     PAGING_KIND_READ,  PAGING_KIND_WRITE,
        PAGING_KIND_WRITE, PAGING_KIND_WRITE,    PAGING_KIND_FETCH, PAGING_KIND_FETCH,
        PAGING_KIND_FETCH, PAGING_KIND_IMPLICIT,
    };
    static const uint8_t rings[] = {0, 0, 0, 1, 2, 3, 3, 3, 3, 3};

    test->kind = PICK(cases->rnd, kinds);
    test->ring = PICK(cases->rnd, rings);
    test->ac = chance(cases->rnd, 1, 2);
    test->written = (uint32_t)rnd_next(cases->rnd);
}

/* The table for an entry of @level, and the root. Roots' entry 0 is not for cases. */
static uint64_t choose_table(const struct cases *cases, unsigned level, unsigned index)
{
    uint64_t table;

    if (level == shapes[cases->mode].levels) {
        table = PICK(cases->rnd, roots);
        return cases->mode == PAGING_PAE ? table + 32 * rnd_below(cases->rnd, 128) : table;
    }
    do {
        table = pointer_target(cases);
    } while (is_root(table) && (index == 0 || cases->mode == PAGING_PAE));
    return table;
}

static bool is_written_by_cases(uint64_t table)
{
    return !is_of(table, high_tables, COUNT_OF(high_tables));
}

/* The indexes, by level; and the linear address that has them. */
static uint64_t make_linear(const struct cases *cases, unsigned indexes[PAGING_LEVEL_COUNT + 1])
{
    unsigned levels = shapes[cases->mode].levels;
    unsigned bits = shapes[cases->mode].index_bits;
    bool is_same = cases->mode != PAGING_PAE && chance(cases->rnd, 1, 16);
    uint64_t linear = rnd_below(cases->rnd, 512) * 8;

    for (unsigned level = levels; level >= 1; level--) {
        indexes[level] = is_same && level < levels ? indexes[levels] : random_index(cases, level);
        linear |= (uint64_t)indexes[level] << (12 + bits * (level - 1));
    }
    if (is_long(cases)) { /* canonical */
        unsigned unused = 64 - 12 - bits * levels;

        linear = (uint64_t)((int64_t)(linear << unused) >> unused);
    }
    return linear;
}

static void make_walk(const struct cases *cases, struct paging_case *test)
{
    unsigned indexes[PAGING_LEVEL_COUNT + 1] = {0};
    unsigned levels = shapes[cases->mode].levels;
    unsigned leaf_level = 1 + (unsigned)rnd_below(cases->rnd, shapes[cases->mode].leaf_level_max);
    unsigned spoiled_count = (unsigned)rnd_below(cases->rnd, 4);
    uint64_t table;

    test->linear = make_linear(cases, indexes);
    table = choose_table(cases, levels, indexes[levels]);
    test->cr3 = table;
    for (unsigned level = levels; level >= leaf_level; level--) {
        if (is_written_by_cases(table)) {
            test->places[level - 1] = table + indexes[level] * (is_32(cases) ? 4 : 8);
        }
        if (level == leaf_level) {
            test->entries[level - 1] = good_leaf(cases, level);
        } else {
            table = choose_table(cases, level - 1, indexes[level - 1]);
            test->entries[level - 1] = good_pointer(cases, level, table);
        }
    }
    for (unsigned i = 0; i < spoiled_count; i++) {
        unsigned level = leaf_level + (unsigned)rnd_below(cases->rnd, levels - leaf_level + 1);

        test->entries[level - 1] = spoil(cases, level, test->entries[level - 1]);
    }
}

void cases_make(const struct cases *cases, struct paging_case *test)
{
    *test = (struct paging_case){0};
    make_registers(cases, test);
    make_access(cases, test);
    if (cases->mode == PAGING_NONE) {
        test->linear = PICK(cases->rnd, frames_4k) + rnd_below(cases->rnd, 512) * 8;
        test->linear &= UINT32_MAX;
        return;
    }
    make_walk(cases, test);
}

/* A static entry: for either of the lowest levels. */
static uint64_t static_entry(const struct cases *cases)
{
    struct rnd *rnd = cases->rnd;
    unsigned level = 1 + (unsigned)rnd_below(rnd, 2);
    uint64_t entry =
        chance(rnd, 1, 4) ? good_pointer(cases, 2, pointer_target(cases)) : good_leaf(cases, level);

    return chance(rnd, 1, 2) ? spoil(cases, level, entry) : entry;
}

void cases_put_tables(const struct cases *cases, struct machine *machine)
{
    for (size_t i = 0; i < COUNT_OF(roots) && cases->mode != PAGING_NONE; i++) {
        uint64_t entry = machine_monitor_entry(cases->mode);
        uint64_t step = cases->mode == PAGING_PAE ? 32 : MACHINE_PAGE_BYTES;

        for (uint64_t at = 0; at < MACHINE_PAGE_BYTES; at += step) {
            machine_put(machine, roots[i] + at, entry);
        }
    }
    for (size_t i = 0; i < COUNT_OF(high_tables) && cases->mode >= PAGING_PAE; i++) {
        for (size_t j = 0; j < COUNT_OF(indexes_9); j++) {
            machine_put(machine, high_tables[i] + indexes_9[j] * 8, static_entry(cases));
        }
    }
}

void cases_state(const struct cases *cases, const struct paging_case *test,
                 struct paging_state *state)
{
    *state = (struct paging_state){
        .cr0 = test->cr0,
        .cr3 = test->cr3,
        .cr4 = test->cr4,
        .efer = test->efer,
        .pkru = test->pkru,
        .maxphyaddr = (uint8_t)cases->physical_bits,
        .has_1g_pages = true,
        .has_pse36 = true,
    };
}

unsigned cases_access(const struct paging_case *test)
{
    unsigned access = 0;

    if (test->kind == PAGING_KIND_IMPLICIT) {
        return 0; /* by the supervisor, whoever runs and whatever AC is */
    }
    access |= test->kind == PAGING_KIND_WRITE ? PAGING_WRITE : 0;
    access |= test->kind == PAGING_KIND_FETCH ? PAGING_FETCH : 0;
    access |= test->ring == 3 ? PAGING_USER : 0;
    access |= test->ac != 0 ? PAGING_AC : 0;
    return access;
}
