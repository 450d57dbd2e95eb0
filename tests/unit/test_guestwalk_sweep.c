/*
 * unit/test_guestwalk_sweep.c - the walker against the manual (sdm.h): all combinations of the bits of one
 * level's entry, with all accesses and all control bits, at each level of each mode; then all levels at
 * random.
 */
#include "mmu/guestwalk.h"
#include "model/random.h"
#include "model/require.h"
#include "unit/sdm.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

char require_place[160];

#define MAXPHYADDR 46u

/* Three bits of a table's address are its level; whatever the others are, its entry is the one. */
#define TABLE_SHIFT_64 40u
#define TABLE_SHIFT_32 23u
#define TABLE_LEVEL_MASK 7u

#define LINEAR UINT64_C(0x7ec0ffee)

/* Entries, where our walker finds them; and what it was asked for. */
struct bench {
    struct sdm_state state;
    struct paging paging;
    struct guestmem memory;
    unsigned table_shift;
    uint64_t entries[SDM_LEVELS + 1];
    uint64_t count;
};

static const char *const mode_names[] = {"32-bit", "PAE", "4 levels", "5 levels"};

static uint64_t *bench_entry(struct bench *bench, uint64_t gpa)
{
    unsigned level = (unsigned)(gpa >> bench->table_shift) & TABLE_LEVEL_MASK;

    REQUIRE(level >= 1 && level <= SDM_LEVELS, "an entry at %#llx", (unsigned long long)gpa);
    return &bench->entries[level];
}

static enum guestmem_result bench_load(void *opaque, uint64_t gpa, unsigned size_bytes,
                                       uint64_t *value)
{
    struct bench *bench = opaque;

    REQUIRE(size_bytes == (bench->state.mode == SDM_32 ? 4 : 8), "%u bytes", size_bytes);
    *value = *bench_entry(bench, gpa);
    return GUESTMEM_OK;
}

static enum guestmem_result bench_replace(void *opaque, uint64_t gpa, unsigned size_bytes,
                                          uint64_t expected, uint64_t value)
{
    struct bench *bench = opaque;
    uint64_t *entry = bench_entry(bench, gpa);

    REQUIRE(size_bytes == (bench->state.mode == SDM_32 ? 4 : 8), "%u bytes", size_bytes);
    REQUIRE(*entry == expected, "expects %#llx", (unsigned long long)expected);
    *entry = value;
    return GUESTMEM_OK;
}

/* Bits of registers: SDM 3A, 2.5 "Control Registers", 2.2.1 "Extended Feature Enable Register". */
static void bench_compute(struct bench *bench)
{
    const struct sdm_state *state = &bench->state;
    bool is_long = state->mode >= SDM_4_LEVEL;
    unsigned top = 2 + (unsigned)state->mode;
    struct paging_state registers = {
        .cr0 = 1 | 1u << 31 | (state->wp ? 1u << 16 : 0),
        .cr4 = (state->pse ? 1u << 4 : 0) | (state->mode != SDM_32 ? 1u << 5 : 0) |
               (state->mode == SDM_5_LEVEL ? 1u << 12 : 0) | (state->smep ? 1u << 20 : 0) |
               (state->smap ? 1u << 21 : 0) | (state->pke ? 1u << 22 : 0),
        .efer = (state->nxe ? 1u << 11 : 0) | (is_long ? 1u << 10 | 1u << 8 : 0),
        .pkru = state->pkru,
        .maxphyaddr = (uint8_t)state->maxphyaddr,
        .has_1g_pages = state->has_1g,
        .has_pse36 = state->has_pse36,
    };

    bench->table_shift = state->mode == SDM_32 ? TABLE_SHIFT_32 : TABLE_SHIFT_64;
    registers.cr3 = state->mode == SDM_PAE ? 0 : (uint64_t)top << bench->table_shift;
    bench->memory = (struct guestmem){bench_load, bench_replace, bench};
    paging_compute(&bench->paging, &registers);
}

static unsigned access_flags(const struct sdm_access *access)
{
    return (access->kind == SDM_WRITE ? PAGING_WRITE : 0) |
           (access->kind == SDM_FETCH ? PAGING_FETCH : 0) | (access->by_user ? PAGING_USER : 0) |
           (access->ac && !access->is_implicit ? PAGING_AC : 0);
}

/* An entry that leads to the next table and allows everything; a page, at level 1. */
static uint64_t open_entry(const struct bench *bench, unsigned level)
{
    uint64_t entry = (uint64_t)(level - 1) << bench->table_shift | 0x7;

    return bench->state.mode == SDM_PAE && level == 3 ? entry & ~UINT64_C(6) : entry;
}

static void compare(struct bench *bench, const struct sdm_rules *rules,
                    const uint64_t entries[SDM_LEVELS + 1])
{
    struct guestwalk_request request = {LINEAR, access_flags(&rules->access), GUESTWALK_SET_FLAGS};
    enum guestwalk_result result;
    struct sdm_answer want;
    struct guestwalk walk;
    bool equal;

    for (unsigned level = 1; level <= rules->top; level++) {
        bench->entries[level] = entries[level];
    }
    for (unsigned i = 0; i < PAGING_PDPTE_COUNT; i++) {
        bench->paging.pdptes[i] = entries[3];
    }
    result = guest_walk(&bench->paging, &bench->memory, &request, &walk);
    sdm_walk(rules, LINEAR, entries, &want);
    equal = want.is_fault ? result == GUESTWALK_FAULT && walk.error_code == want.error_code
                          : result == GUESTWALK_OK && walk.gpa == want.address;
    equal = equal && walk.depth == want.level;
    for (unsigned level = 1; level <= rules->top; level++) {
        equal = equal && bench->entries[level] == want.entries[level];
    }
    bench->count++;
    REQUIRE(
        equal,
        "%s, flags %#x, WP %d PSE %d SMEP %d SMAP %d NXE %d PKE %d PKRU %#x, entries %#llx %#llx "
        "%#llx %#llx %#llx: result %d level %u error %#x gpa %#llx; the manual: %d level %u "
        "error %#x address %#llx",
        mode_names[bench->state.mode], request.access, bench->state.wp, bench->state.pse,
        bench->state.smep, bench->state.smap, bench->state.nxe, bench->state.pke, bench->state.pkru,
        (unsigned long long)entries[5], (unsigned long long)entries[4],
        (unsigned long long)entries[3], (unsigned long long)entries[2],
        (unsigned long long)entries[1], (int)result, walk.depth, walk.error_code,
        (unsigned long long)walk.gpa, want.is_fault, want.level, want.error_code,
        (unsigned long long)want.address);
}

/* The bits that a sweep sets and clears. The last is one of two keys: 0, or 5. */
#define KEY UINT64_C(5)
static const uint64_t bits_64[] = {
    1u << 0,           1u << 1,  1u << 2, 1u << 3, 1u << 4,
    1u << 5,           1u << 6,  1u << 7, 1u << 8, UINT64_C(1) << MAXPHYADDR,
    UINT64_C(1) << 63, KEY << 59};
static const uint64_t bits_32[] = {1u << 0, 1u << 1, 1u << 2, 1u << 3, 1u << 4,
                                   1u << 5, 1u << 6, 1u << 7, 1u << 8, 1u << 21};
static const uint64_t bits_pdpte[] = {1u << 0, 1u << 3, 1u << 4};

struct bit_list {
    const uint64_t *bits;
    unsigned count;
};

static struct bit_list bits_of(const struct bench *bench, unsigned level)
{
    switch (bench->state.mode) {
    case SDM_32:
        return (struct bit_list){bits_32, 10};
    case SDM_PAE:
        return level == 3 ? (struct bit_list){bits_pdpte, 3} : (struct bit_list){bits_64, 11};
    default:
        return (struct bit_list){bits_64, 12};
    }
}

/* All combinations of the bits of one level. */
static void sweep_entry(struct bench *bench, const struct sdm_rules *rules, unsigned level)
{
    struct bit_list list = bits_of(bench, level);
    uint64_t entries[SDM_LEVELS + 1] = {0};
    uint64_t swept = 0;

    for (unsigned i = 1; i <= rules->top; i++) {
        entries[i] = open_entry(bench, i);
    }
    for (unsigned i = 0; i < list.count; i++) {
        entries[level] &= ~list.bits[i];
        swept |= list.bits[i];
    }
    for (unsigned number = 0; number < 1u << list.count; number++) {
        /* Gray's order: one bit changes at a time. */
        compare(bench, rules, entries);
        entries[level] ^= list.bits[(unsigned)__builtin_ctz((number + 1) | 1u << (list.count - 1))];
    }
    REQUIRE((entries[level] & swept) == 0, "the sweep came round");
}

/* All accesses, to all levels. */
static void sweep_accesses(struct bench *bench)
{
    bench_compute(bench);
    for (unsigned number = 0; number < 12; number++) {
        const struct sdm_access access = {
            .kind = (enum sdm_kind)(number % 3),
            .by_user = number / 3 % 2 != 0,
            .ac = number / 6 != 0,
        };
        struct sdm_rules rules;

        sdm_rules(&rules, &bench->state, &access);
        for (unsigned level = 1; level <= rules.top; level++) {
            sweep_entry(bench, &rules, level);
        }
    }
}

/* PKRU: key 5 as told, key 0 permits all, others forbid all. */
static uint32_t pkru_of(unsigned rights_of_key)
{
    return (UINT32_C(0xfffffffc) & ~(3u << (2 * KEY))) | rights_of_key << (2 * KEY);
}

/* All control bits. Where a mode has no use for one, it is set in some of the rounds all the same. */
static void sweep_mode(enum sdm_mode mode)
{
    bool has_keys = mode >= SDM_4_LEVEL;
    struct bench bench = {0};

    snprintf(require_place, sizeof(require_place), "%s", mode_names[mode]);
    for (unsigned bits = 0; bits < 16; bits++) {
        for (unsigned round = 0; round < (has_keys ? 5u : 4u); round++) {
            bench.state = (struct sdm_state){
                .mode = mode,
                .wp = (bits & 1) != 0,
                .smep = (bits & 2) != 0,
                .smap = (bits & 4) != 0,
                .nxe = (bits & 8) != 0,
                .pse = round % 2 != 0,
                .pke = has_keys ? round != 4 : round >= 2,
                .pkru = pkru_of(round % 4),
                .maxphyaddr = MAXPHYADDR,
                .has_pse36 = true,
                .has_1g = true,
            };
            sweep_accesses(&bench);
        }
    }
    printf("%s: %llu walks are as the manual says\n", mode_names[mode],
           (unsigned long long)bench.count);
}

static void guestwalk_each_entry_of_32_bits_is_as_the_manual_says(void **state)
{
    /* SDM 3A, 4.3: two levels. */
    (void)state;
    sweep_mode(SDM_32);
}

static void guestwalk_each_entry_of_pae_is_as_the_manual_says(void **state)
{
    /* SDM 3A, 4.4: PDPTEs are only absent or not, as CR3 accepts no others. */
    (void)state;
    sweep_mode(SDM_PAE);
}

static void guestwalk_each_entry_of_4_levels_is_as_the_manual_says(void **state)
{
    /* SDM 3A, 4.5, with protection keys. */
    (void)state;
    sweep_mode(SDM_4_LEVEL);
}

static void guestwalk_each_entry_of_5_levels_is_as_the_manual_says(void **state)
{
    /* SDM 3A, 4.5, with one level more. */
    (void)state;
    sweep_mode(SDM_5_LEVEL);
}

/* Mostly a good entry, with anything on top. */
static uint64_t random_entry(const struct bench *bench, struct rnd *rnd, unsigned level)
{
    uint64_t entry = open_entry(bench, level);
    uint64_t flags = bench->state.mode == SDM_32 ? 0xfff : UINT64_C(0x7ff0000000000fff);

    if (bench->state.mode == SDM_PAE) {
        flags = level == 3 ? UINT64_C(0xe18) : UINT64_C(0xfff);
    }
    entry |= rnd_next(rnd) & flags & ~UINT64_C(0x87);
    for (uint64_t i = rnd_below(rnd, 3); i > 0; i--) {
        uint64_t bit = UINT64_C(1) << rnd_below(rnd, bench->state.mode == SDM_32 ? 32 : 64);
        uint64_t low = UINT64_C(1) << rnd_below(rnd, 9);

        bit = rnd_one_in(rnd, 2) ? bit : low;
        if (bench->state.mode == SDM_PAE && level == 3) {
            bit = rnd_one_in(rnd, 4) ? 1 : 0;
        }
        /* Table numbers stay: our walker has to find the entry of the same level. */
        entry ^= (bit & (uint64_t)TABLE_LEVEL_MASK << bench->table_shift) != 0 ? 0 : bit;
    }
    return entry;
}

static void guestwalk_random_entries_are_as_the_manual_says(void **state)
{
    /* All levels, registers, widths and features at once. */
    struct rnd rnd = {rnd_seed("guestwalk")};
    uint64_t count = rnd_setting("GM_WALKS", 1000000);
    struct bench bench = {0};

    (void)state;
    for (uint64_t i = 0; i < count; i++) {
        uint64_t random = rnd_next(&rnd);
        uint64_t entries[SDM_LEVELS + 1] = {0};
        struct sdm_access access = {
            .kind = (enum sdm_kind)(random >> 8 & 0xff) % 3,
            .by_user = (random & 1) != 0,
            .ac = (random & 2) != 0,
        };
        struct sdm_rules rules;

        access.is_implicit = !access.by_user && access.kind == SDM_READ && (random & 4) != 0;
        bench.state = (struct sdm_state){
            .mode = (enum sdm_mode)(random >> 16 & 3),
            .wp = (random >> 18 & 1) != 0,
            .pse = (random >> 19 & 1) != 0,
            .smep = (random >> 20 & 1) != 0,
            .smap = (random >> 21 & 1) != 0,
            .pke = (random >> 22 & 1) != 0,
            .nxe = (random >> 23 & 1) != 0,
            .has_pse36 = (random >> 24 & 1) != 0,
            .has_1g = (random >> 25 & 1) != 0,
            .pkru = (uint32_t)(rnd_next(&rnd) & rnd_next(&rnd)),
        };
        /* In 32-bit paging tables are below 2^32; elsewhere ours are below 2^43. */
        bench.state.maxphyaddr = bench.state.mode == SDM_32 ? 32 + (unsigned)rnd_below(&rnd, 21)
                                                            : 43 + (unsigned)rnd_below(&rnd, 10);
        bench_compute(&bench);
        sdm_rules(&rules, &bench.state, &access);
        for (unsigned level = 1; level <= rules.top; level++) {
            entries[level] = random_entry(&bench, &rnd, level);
        }
        snprintf(require_place, sizeof(require_place), "walk %llu", (unsigned long long)i);
        compare(&bench, &rules, entries);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(guestwalk_each_entry_of_32_bits_is_as_the_manual_says),
        cmocka_unit_test(guestwalk_each_entry_of_pae_is_as_the_manual_says),
        cmocka_unit_test(guestwalk_each_entry_of_4_levels_is_as_the_manual_says),
        cmocka_unit_test(guestwalk_each_entry_of_5_levels_is_as_the_manual_says),
        cmocka_unit_test(guestwalk_random_entries_are_as_the_manual_says),
    };

    return cmocka_run_group_tests_name("guestwalk_sweep", tests, NULL, NULL);
}
