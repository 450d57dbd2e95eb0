/*
 * unit/test_guestwalk.c - the walker, situation by situation: where it leads, what it reads and writes, in
 * which order, and what it does when memory changes under it. Section numbers are of Intel SDM 3A.
 * test_guestwalk_sweep.c has all combinations of bits.
 */
#include "mmu/guestwalk.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#define CR0_PG UINT64_C(0x80000001)
#define CR0_WP UINT64_C(0x10000)
#define CR4_PSE UINT64_C(0x10)
#define CR4_PAE UINT64_C(0x20)
#define CR4_PGE UINT64_C(0x80)
#define CR4_LA57 UINT64_C(0x1000)
#define CR4_SMAP UINT64_C(0x200000)
#define CR4_PKE UINT64_C(0x400000)
#define EFER_LONG UINT64_C(0x500)
#define EFER_NXE UINT64_C(0x800)

/* P, R/W, U/S; A; D; PS; G. */
#define OPEN UINT64_C(0x7)
#define A UINT64_C(0x20)
#define D UINT64_C(0x40)
#define PS UINT64_C(0x80)
#define G UINT64_C(0x100)
#define XD (UINT64_C(1) << 63)

#define WORDS_MAX 16
#define LOG_MAX 64

/* A few words of guest memory; whatever else is asked for is 0. */
struct word {
    uint64_t gpa;
    uint64_t value;
};

enum event { EVENT_LOAD, EVENT_REPLACE };

struct bench {
    struct paging paging;
    struct guestmem memory;
    struct word words[WORDS_MAX];
    unsigned word_count;
    struct {
        enum event event;
        uint64_t gpa;
        unsigned size_bytes;
    } log[LOG_MAX];
    unsigned log_count;
    /* Before event number `at`, memory changes, or the callback says something else than OK. */
    unsigned at;
    uint64_t change_gpa;
    uint64_t change_value;
    enum guestmem_result says;
};

static uint64_t *word_at(struct bench *bench, uint64_t gpa)
{
    for (unsigned i = 0; i < bench->word_count; i++) {
        if (bench->words[i].gpa == gpa) {
            return &bench->words[i].value;
        }
    }
    assert_true(bench->word_count < WORDS_MAX);
    bench->words[bench->word_count].gpa = gpa;
    return &bench->words[bench->word_count++].value;
}

static enum guestmem_result note(struct bench *bench, enum event event, uint64_t gpa,
                                 unsigned size_bytes)
{
    assert_true(bench->log_count < LOG_MAX);
    assert_int_equal(gpa % size_bytes, 0);
    bench->log[bench->log_count].event = event;
    bench->log[bench->log_count].gpa = gpa;
    bench->log[bench->log_count].size_bytes = size_bytes;
    bench->log_count++;
    if (bench->log_count != bench->at) {
        return GUESTMEM_OK;
    }
    if (bench->change_gpa != 0) {
        *word_at(bench, bench->change_gpa) = bench->change_value;
    }
    return bench->says;
}

static enum guestmem_result bench_load(void *opaque, uint64_t gpa, unsigned size_bytes,
                                       uint64_t *value)
{
    struct bench *bench = opaque;
    enum guestmem_result result = note(bench, EVENT_LOAD, gpa, size_bytes);

    *value = *word_at(bench, gpa);
    return result;
}

static enum guestmem_result bench_replace(void *opaque, uint64_t gpa, unsigned size_bytes,
                                          uint64_t expected, uint64_t value)
{
    struct bench *bench = opaque;
    enum guestmem_result result = note(bench, EVENT_REPLACE, gpa, size_bytes);
    uint64_t *word = word_at(bench, gpa);

    if (result != GUESTMEM_OK) {
        return result;
    }
    if (*word != expected) {
        return GUESTMEM_AGAIN;
    }
    *word = value;
    return GUESTMEM_OK;
}

static void bench_init(struct bench *bench, const struct paging_state *state,
                       const struct word *words, unsigned word_count)
{
    *bench = (struct bench){.memory = {bench_load, bench_replace, bench}};
    paging_compute(&bench->paging, state);
    for (unsigned i = 0; i < word_count; i++) {
        *word_at(bench, words[i].gpa) = words[i].value;
    }
}

static const struct paging_state state_32 = {
    .cr0 = CR0_PG | CR0_WP, .cr3 = 0x1000, .cr4 = CR4_PSE, .maxphyaddr = 40, .has_pse36 = true};
static const struct paging_state state_pae = {
    .cr0 = CR0_PG | CR0_WP, .cr3 = 0x1020, .cr4 = CR4_PAE, .efer = EFER_NXE, .maxphyaddr = 40};
static const struct paging_state state_4 = {.cr0 = CR0_PG | CR0_WP,
                                            .cr3 = 0x1000,
                                            .cr4 = CR4_PAE,
                                            .efer = EFER_LONG | EFER_NXE,
                                            .maxphyaddr = 40,
                                            .has_1g_pages = true};
static const struct paging_state state_5 = {.cr0 = CR0_PG | CR0_WP,
                                            .cr3 = 0x1000,
                                            .cr4 = CR4_PAE | CR4_LA57,
                                            .efer = EFER_LONG | EFER_NXE,
                                            .maxphyaddr = 40,
                                            .has_1g_pages = true};

/*
 * The walk that most tests make: PML4E 1, PDPTE 2, PDE 3, PTE 4, byte 0x567. Its entries, by level from 4
 * on: they lead to tables at 0x2000, 0x3000, 0x4000 and to a page at 0xabc000.
 */
#define LINEAR                                                                                     \
    ((UINT64_C(1) << 39) | (UINT64_C(2) << 30) | (UINT64_C(3) << 21) | (4u << 12) | 0x567u)
#define PML4E_GPA UINT64_C(0x1008)
#define PDPTE_GPA UINT64_C(0x2010)
#define PDE_GPA UINT64_C(0x3018)
#define PTE_GPA UINT64_C(0x4020)
#define PAGE_GPA UINT64_C(0xabc000)

static const struct word words_4[] = {
    {PML4E_GPA, 0x2000 | OPEN},
    {PDPTE_GPA, 0x3000 | OPEN},
    {PDE_GPA, 0x4000 | OPEN},
    {PTE_GPA, PAGE_GPA | OPEN},
};

static void bench_init_4(struct bench *bench)
{
    bench_init(bench, &state_4, words_4, 4);
}

static enum guestwalk_result walk_to(struct bench *bench, uint64_t linear, unsigned access,
                                     struct guestwalk *walk)
{
    const struct guestwalk_request request = {linear, access, GUESTWALK_SET_FLAGS};

    return guest_walk(&bench->paging, &bench->memory, &request, walk);
}

static void assert_logged(const struct bench *bench, unsigned index, enum event event, uint64_t gpa)
{
    assert_true(index < bench->log_count);
    assert_int_equal(bench->log[index].event, event);
    assert_int_equal(bench->log[index].gpa, gpa);
}

static void guestwalk_4_levels_lead_to_the_byte(void **state)
{
    /* 4.5: bits 47:39, 38:30, 29:21, 20:12 select entries, bits 11:0 "are from the original linear address". */
    struct bench bench;
    struct guestwalk walk;

    (void)state;
    bench_init_4(&bench);
    assert_int_equal(walk_to(&bench, LINEAR, 0, &walk), GUESTWALK_OK);
    assert_int_equal(walk.gpa, PAGE_GPA | 0x567);
    assert_int_equal(walk.level, 1);
    assert_int_equal(walk.page_shift, 12);
    assert_int_equal(walk.rights, PAGING_RIGHTS_ALL);
    assert_false(walk.is_dirty);
    assert_false(walk.is_global);
}

static void guestwalk_each_entry_is_read_once_from_the_top(void **state)
{
    /* What is checked is what is used: a second load could see something else. */
    static const uint64_t gpas[] = {PML4E_GPA, PDPTE_GPA, PDE_GPA, PTE_GPA};
    const struct guestwalk_request request = {LINEAR, 0, 0};
    struct bench bench;
    struct guestwalk walk;

    (void)state;
    bench_init_4(&bench);
    assert_int_equal(guest_walk(&bench.paging, &bench.memory, &request, &walk), GUESTWALK_OK);
    assert_int_equal(bench.log_count, 4);
    for (unsigned i = 0; i < 4; i++) {
        assert_logged(&bench, i, EVENT_LOAD, gpas[i]);
        assert_int_equal(bench.log[i].size_bytes, 8);
        assert_int_equal(walk.entry_gpas[4 - i], gpas[i]);
        assert_int_equal(walk.entries[4 - i], words_4[i].value);
    }
    assert_int_equal(walk.depth, 1);
}

static void guestwalk_5_levels_lead_to_the_byte(void **state)
{
    /* 4.5: "bits 56:48 of the linear address" select the PML5E; addresses above are in the upper half. */
    static const struct word words[] = {
        {0x1ff8, 0x2000 | OPEN}, {0x2000, 0x3000 | OPEN}, {0x3ff8, 0x4000 | OPEN},
        {0x4800, 0x5000 | OPEN}, {0x5008, 0x7000 | OPEN},
    };
    struct bench bench;
    struct guestwalk walk;

    (void)state;
    bench_init(&bench, &state_5, words, 5);
    assert_int_equal(walk_to(&bench, UINT64_C(0xffff007fe0001123), 0, &walk), GUESTWALK_OK);
    assert_int_equal(walk.gpa, 0x7123);
}

static void guestwalk_large_pages_keep_more_of_the_linear_address(void **state)
{
    /* 4.5: a PDPTE with PS maps 1 GiB: "bits 29:0 are from the original linear address"; a PDE 2 MiB. */
    struct bench bench;
    struct guestwalk walk;

    (void)state;
    bench_init_4(&bench);
    *word_at(&bench, PDE_GPA) = UINT64_C(0x3456801000) | OPEN | PS; /* with PAT, bit 12 */
    assert_int_equal(walk_to(&bench, LINEAR, 0, &walk), GUESTWALK_OK);
    assert_int_equal(walk.gpa, UINT64_C(0x3456800000) | (LINEAR & 0x1fffff));
    assert_int_equal(walk.level, 2);
    assert_int_equal(walk.page_shift, 21);
    *word_at(&bench, PDPTE_GPA) = UINT64_C(0x3440001000) | OPEN | PS;
    assert_int_equal(walk_to(&bench, LINEAR, 0, &walk), GUESTWALK_OK);
    assert_int_equal(walk.gpa, UINT64_C(0x3440000000) | (LINEAR & 0x3fffffff));
    assert_int_equal(walk.level, 3);
    assert_int_equal(walk.page_shift, 30);
}

static void guestwalk_32_bits_lead_to_the_byte(void **state)
{
    /* 4.3: entries of 4 bytes; bits 31:22 select the PDE, bits 21:12 the PTE. */
    static const struct word words[] = {{0x1ffc, 0xfedcb000 | OPEN},
                                        {0xfedcb004, 0x80000000 | OPEN}};
    struct bench bench;
    struct guestwalk walk;

    (void)state;
    bench_init(&bench, &state_32, words, 2);
    assert_int_equal(walk_to(&bench, 0xffc01fff, 0, &walk), GUESTWALK_OK);
    assert_int_equal(walk.gpa, 0x80000fff);
    assert_int_equal(bench.log[0].size_bytes, 4);
    assert_int_equal(walk.page_shift, 12);
}

static void guestwalk_pse36_puts_bits_20_to_13_above_4_gib(void **state)
{
    /* 4.3: "Bits 39:32 are bits 20:13 of the PDE. Bits 31:22 are bits 31:22 of the PDE." */
    static const struct word words[] = {{0x1004, 0x40000000 | 0xa5u << 13 | 0x1000 | OPEN | PS}};
    struct bench bench;
    struct guestwalk walk;

    (void)state;
    bench_init(&bench, &state_32, words, 1);
    assert_int_equal(walk_to(&bench, 0x7fffff, 0, &walk), GUESTWALK_OK);
    assert_int_equal(walk.gpa, UINT64_C(0xa5403fffff));
    assert_int_equal(walk.level, 2);
    assert_int_equal(walk.page_shift, 22);
}

static void guestwalk_without_pse_ps_is_ignored(void **state)
{
    /* 4.3: "If CR4.PSE = 0 or the PDE's PS flag is 0, a 4-KByte naturally aligned page table". */
    static const struct word words[] = {{0x1004, 0x2000 | OPEN | PS}, {0x2ffc, 0x5000 | OPEN}};
    struct paging_state registers = state_32;
    struct bench bench;
    struct guestwalk walk;

    (void)state;
    registers.cr4 = 0;
    bench_init(&bench, &registers, words, 2);
    assert_int_equal(walk_to(&bench, 0x7fffff, 0, &walk), GUESTWALK_OK);
    assert_int_equal(walk.gpa, 0x5fff);
}

static void guestwalk_pae_takes_pdptes_from_the_processor(void **state)
{
    /* 4.4.2, note: "the processor does not use CR3 when translating [...]. It does not access the PDPTEs". */
    static const struct word words[] = {{0x1038, 0x9000 | 1}, /* in memory, and changed since */
                                        {0x100002fe8, 0x2000 | OPEN},
                                        {0x2008, UINT64_C(0xff00003000) | OPEN}};
    struct bench bench;
    struct guestwalk walk;

    (void)state;
    bench_init(&bench, &state_pae, words, 3);
    bench.paging.pdptes[3] = UINT64_C(0x100002000) | 1;
    assert_int_equal(walk_to(&bench, 0xffa01234, PAGING_WRITE | PAGING_USER, &walk), GUESTWALK_OK);
    assert_int_equal(walk.gpa, UINT64_C(0xff00003234));
    assert_logged(&bench, 0, EVENT_LOAD, UINT64_C(0x100002fe8));
    assert_int_equal(walk.entries[3], UINT64_C(0x100002000) | 1); /* no flags: it has none */
    assert_int_equal(walk.entry_gpas[3], 0x1038);
    assert_int_equal(*word_at(&bench, 0x1038), 0x9000 | 1);
}

static void guestwalk_pae_without_pdpte_is_absent(void **state)
{
    /* 4.4.2: "If the P flag of PDPTEi is 0, the processor ignores bits 63:1 [...] causes a page-fault exception". */
    struct bench bench;
    struct guestwalk walk;

    (void)state;
    bench_init(&bench, &state_pae, NULL, 0);
    bench.paging.pdptes[1] = ~UINT64_C(1);
    assert_int_equal(walk_to(&bench, 0x40000000, PAGING_FETCH | PAGING_USER, &walk),
                     GUESTWALK_FAULT);
    assert_int_equal(walk.error_code, 0x14);
    assert_int_equal(walk.depth, 3);
    assert_int_equal(bench.log_count, 0);
}

static void guestwalk_off_reads_nothing(void **state)
{
    /* 4.1.1: "If CR0.PG = 0, [...] linear addresses are treated as physical addresses": of 32 bits. */
    const struct paging_state registers = {.cr0 = 1, .cr4 = CR4_SMAP, .maxphyaddr = 40};
    struct bench bench;
    struct guestwalk walk;

    (void)state;
    bench_init(&bench, &registers, NULL, 0);
    assert_int_equal(walk_to(&bench, 0xfffff123, PAGING_WRITE | PAGING_USER, &walk), GUESTWALK_OK);
    assert_int_equal(walk.gpa, 0xfffff123);
    assert_int_equal(walk.level, 0);
    assert_int_equal(walk.page_shift, 12);
    assert_int_equal(walk.rights, PAGING_RIGHTS_ALL);
    assert_true(walk.is_dirty);
    assert_int_equal(walk_to(&bench, UINT64_C(0x1fffff123), 0, &walk), GUESTWALK_OK);
    assert_int_equal(walk.gpa, 0xfffff123);
    assert_int_equal(bench.log_count, 0);
}

static void guestwalk_absent_entry_hides_its_reserved_bits(void **state)
{
    /* 4.7: "reserved bits are not checked in a paging-structure entry whose P flag is 0". */
    struct bench bench;
    struct guestwalk walk;

    (void)state;
    bench_init_4(&bench);
    *word_at(&bench, PDE_GPA) = UINT64_C(0x000ff00000000000);
    assert_int_equal(walk_to(&bench, LINEAR, PAGING_WRITE, &walk), GUESTWALK_FAULT);
    assert_int_equal(walk.error_code, 0x2);
    assert_int_equal(walk.depth, 2);
}

static void guestwalk_reserved_bit_ends_the_walk_where_it_is(void **state)
{
    /* 4.5: an entry with a reserved bit "is used neither to reference another [...] nor to map a page". */
    struct bench bench;
    struct guestwalk walk;

    (void)state;
    bench_init_4(&bench);
    *word_at(&bench, PDPTE_GPA) |= UINT64_C(1) << 40;
    *word_at(&bench, PDE_GPA) = 0; /* which nobody reads */
    assert_int_equal(walk_to(&bench, LINEAR, PAGING_USER, &walk), GUESTWALK_FAULT);
    assert_int_equal(walk.error_code, 0xd);
    assert_int_equal(walk.depth, 3);
    assert_int_equal(bench.log[bench.log_count - 1].gpa, PDPTE_GPA);
}

static void guestwalk_rights_are_checked_when_the_page_is_known(void **state)
{
    /* 4.6: "There is a translation [...] if the processes described [...] completes": rights come after. */
    struct bench bench;
    struct guestwalk walk;

    (void)state;
    bench_init_4(&bench);
    *word_at(&bench, PML4E_GPA) &= ~UINT64_C(0x4); /* for supervisors alone */
    *word_at(&bench, PTE_GPA) = 0;
    assert_int_equal(walk_to(&bench, LINEAR, PAGING_USER, &walk), GUESTWALK_FAULT);
    assert_int_equal(walk.error_code, 0x4); /* not there, whatever its rights might be */
    *word_at(&bench, PTE_GPA) = PAGE_GPA | OPEN | UINT64_C(1) << 51;
    assert_int_equal(walk_to(&bench, LINEAR, PAGING_USER, &walk), GUESTWALK_FAULT);
    assert_int_equal(walk.error_code, 0xd); /* malformed, whatever its rights might be */
    *word_at(&bench, PTE_GPA) = PAGE_GPA | OPEN;
    assert_int_equal(walk_to(&bench, LINEAR, PAGING_USER, &walk), GUESTWALK_FAULT);
    assert_int_equal(walk.error_code, 0x5);
    assert_int_equal(walk.gpa, PAGE_GPA | 0x567);
}

static void guestwalk_rights_are_those_of_all_levels(void **state)
{
    /* 4.6.1: "in every paging-structure entry controlling the translation"; XD: "in any". */
    struct bench bench;
    struct guestwalk walk;

    (void)state;
    bench_init_4(&bench);
    *word_at(&bench, PML4E_GPA) |= XD;
    *word_at(&bench, PDE_GPA) &= ~UINT64_C(0x2);
    assert_int_equal(walk_to(&bench, LINEAR, 0, &walk), GUESTWALK_OK);
    assert_int_equal(walk.rights, PAGING_RIGHT_USER);
    assert_int_equal(walk.table_rights[4], PAGING_RIGHTS_ALL);
    assert_int_equal(walk.table_rights[3], PAGING_RIGHT_USER | PAGING_RIGHT_WRITE);
    assert_int_equal(walk.table_rights[2], PAGING_RIGHT_USER | PAGING_RIGHT_WRITE);
    assert_int_equal(walk.table_rights[1], PAGING_RIGHT_USER);
    assert_int_equal(walk_to(&bench, LINEAR, PAGING_WRITE, &walk), GUESTWALK_FAULT);
    assert_int_equal(walk.error_code, 0x3);
    assert_int_equal(walk_to(&bench, LINEAR, PAGING_FETCH, &walk), GUESTWALK_FAULT);
    assert_int_equal(walk.error_code, 0x11);
}

static void guestwalk_key_is_that_of_the_leaf(void **state)
{
    /* 4.6.2: the key "located in bits 62:59 of the paging-structure entry that mapped the page". */
    struct paging_state registers = state_4;
    struct bench bench;
    struct guestwalk walk;

    (void)state;
    registers.cr4 |= CR4_PKE;
    registers.pkru = 1u << (2 * 9); /* AD of key 9 */
    bench_init(&bench, &registers, words_4, 4);
    *word_at(&bench, PDE_GPA) |= UINT64_C(9) << 59;
    *word_at(&bench, PTE_GPA) |= UINT64_C(3) << 59;
    assert_int_equal(walk_to(&bench, LINEAR, 0, &walk), GUESTWALK_OK);
    assert_int_equal(walk.key, 3);
    *word_at(&bench, PTE_GPA) |= UINT64_C(9) << 59; /* 11 */
    *word_at(&bench, PTE_GPA) &= ~(UINT64_C(2) << 59);
    assert_int_equal(walk_to(&bench, LINEAR, 0, &walk), GUESTWALK_FAULT);
    assert_int_equal(walk.error_code, 0x21);
    assert_int_equal(walk.key, 9);
    bench.paging.keys = false; /* "a reference [...] to any user-mode address" */
    assert_int_equal(walk_to(&bench, LINEAR, 0, &walk), GUESTWALK_OK);
    assert_int_equal(walk.key, 0);
}

static void guestwalk_global_is_the_leaf_s_if_pge_is_on(void **state)
{
    /* Tables of entries: G "if CR4.PGE = 1, determines whether the translation is global; ignored otherwise". */
    struct bench bench;
    struct guestwalk walk;

    (void)state;
    bench_init_4(&bench);
    *word_at(&bench, PDE_GPA) |= G; /* no leaf: ignored */
    bench.paging.global_pages = true;
    assert_int_equal(walk_to(&bench, LINEAR, 0, &walk), GUESTWALK_OK);
    assert_false(walk.is_global);
    *word_at(&bench, PTE_GPA) |= G;
    assert_int_equal(walk_to(&bench, LINEAR, 0, &walk), GUESTWALK_OK);
    assert_true(walk.is_global);
    bench.paging.global_pages = false;
    assert_int_equal(walk_to(&bench, LINEAR, 0, &walk), GUESTWALK_OK);
    assert_false(walk.is_global);
}

static void guestwalk_read_sets_accessed_flags_from_the_top(void **state)
{
    /* 4.8: "Whenever the processor uses a paging-structure entry [...], it sets the accessed flag in that entry". */
    static const uint64_t gpas[] = {PML4E_GPA, PDPTE_GPA, PDE_GPA, PTE_GPA};
    struct bench bench;
    struct guestwalk walk;

    (void)state;
    bench_init_4(&bench);
    assert_int_equal(walk_to(&bench, LINEAR, 0, &walk), GUESTWALK_OK);
    assert_int_equal(bench.log_count, 8);
    for (unsigned i = 0; i < 4; i++) {
        assert_logged(&bench, 2 * i, EVENT_LOAD, gpas[i]);
        assert_logged(&bench, 2 * i + 1, EVENT_REPLACE, gpas[i]);
        assert_int_equal(*word_at(&bench, gpas[i]), words_4[i].value | A);
        assert_int_equal(walk.entries[4 - i], words_4[i].value | A);
    }
    assert_false(walk.is_dirty);
}

static void guestwalk_write_sets_the_dirty_flag_of_the_leaf(void **state)
{
    /* 4.8: "Whenever there is a write [...] sets the dirty flag [in the entry] that identifies the final [...]". */
    struct bench bench;
    struct guestwalk walk;

    (void)state;
    bench_init_4(&bench);
    assert_int_equal(walk_to(&bench, LINEAR, PAGING_WRITE, &walk), GUESTWALK_OK);
    assert_int_equal(*word_at(&bench, PDE_GPA), (0x4000 | OPEN | A));
    assert_int_equal(*word_at(&bench, PTE_GPA), (PAGE_GPA | OPEN | A | D));
    assert_true(walk.is_dirty);
    assert_int_equal(bench.log_count, 8); /* both of the leaf's at once */
}

static void guestwalk_flags_that_are_set_are_not_written(void **state)
{
    /* 4.8: "if it is not already set": tables in read-only memory can be used. */
    struct bench bench;
    struct guestwalk walk;

    (void)state;
    bench_init_4(&bench);
    for (unsigned i = 0; i < 4; i++) {
        bench.words[i].value |= A;
    }
    *word_at(&bench, PTE_GPA) |= D;
    assert_int_equal(walk_to(&bench, LINEAR, PAGING_WRITE, &walk), GUESTWALK_OK);
    assert_int_equal(bench.log_count, 4);
    assert_true(walk.is_dirty);
    assert_int_equal(walk_to(&bench, LINEAR, 0, &walk), GUESTWALK_OK);
    assert_true(walk.is_dirty);
}

static void guestwalk_fault_sets_accessed_flags_above_it(void **state)
{
    /*
     * 6.15, #PF: "If a page fault is caused by a page-level protection violation, the access flag in the
     * page-directory entry is set when the fault occurs. The behavior [...] in the corresponding page-table
     * entry is model specific". Entries above an absent one were "used to reference another".
     */
    static const uint64_t ptes[] = {0, PAGE_GPA | OPEN | UINT64_C(1) << 45, PAGE_GPA | 0x1};

    (void)state;
    for (unsigned i = 0; i < 3; i++) {
        struct bench bench;
        struct guestwalk walk;

        bench_init_4(&bench);
        *word_at(&bench, PTE_GPA) = ptes[i];
        assert_int_equal(walk_to(&bench, LINEAR, PAGING_WRITE, &walk), GUESTWALK_FAULT);
        assert_int_equal(*word_at(&bench, PML4E_GPA), (0x2000 | OPEN | A));
        assert_int_equal(*word_at(&bench, PDPTE_GPA), (0x3000 | OPEN | A));
        assert_int_equal(*word_at(&bench, PDE_GPA), (0x4000 | OPEN | A));
        assert_int_equal(*word_at(&bench, PTE_GPA), ptes[i]);
    }
}

static void guestwalk_without_set_flags_writes_nothing(void **state)
{
    /* A debugger's or KVM_TRANSLATE's walk leaves no trace in the guest. */
    const struct guestwalk_request request = {LINEAR, PAGING_WRITE, 0};
    struct bench bench;
    struct guestwalk walk;

    (void)state;
    bench_init_4(&bench);
    assert_int_equal(guest_walk(&bench.paging, &bench.memory, &request, &walk), GUESTWALK_OK);
    assert_false(walk.is_dirty);
    for (unsigned i = 0; i < bench.log_count; i++) {
        assert_int_equal(bench.log[i].event, EVENT_LOAD);
    }
    *word_at(&bench, PTE_GPA) |= D;
    assert_int_equal(guest_walk(&bench.paging, &bench.memory, &request, &walk), GUESTWALK_OK);
    assert_true(walk.is_dirty);
}

static void guestwalk_entry_that_changed_begins_the_walk_anew(void **state)
{
    /* Another processor takes the page away between the load and the setting of its flags. */
    struct bench bench;
    struct guestwalk walk;

    (void)state;
    bench_init_4(&bench);
    bench.at = 8; /* the replacement of the PTE */
    bench.change_gpa = PTE_GPA;
    bench.change_value = PAGE_GPA & ~UINT64_C(1);
    assert_int_equal(walk_to(&bench, LINEAR, PAGING_WRITE, &walk), GUESTWALK_FAULT);
    assert_int_equal(walk.error_code, 0x2);
    assert_int_equal(*word_at(&bench, PTE_GPA), (PAGE_GPA & ~UINT64_C(1))); /* and stays away */
    assert_logged(&bench, 8, EVENT_LOAD, PML4E_GPA);
}

static void guestwalk_upper_entry_that_changed_leads_elsewhere(void **state)
{
    /* Another processor puts another table there: the walk never mixes the old and the new. */
    struct bench bench;
    struct guestwalk walk;

    (void)state;
    bench_init_4(&bench);
    *word_at(&bench, UINT64_C(0x6018)) = 0x7000 | OPEN;
    *word_at(&bench, UINT64_C(0x7020)) = UINT64_C(0xdef000) | OPEN;
    bench.at = 4; /* the replacement of the PDPTE */
    bench.change_gpa = PDPTE_GPA;
    bench.change_value = 0x6000 | OPEN;
    assert_int_equal(walk_to(&bench, LINEAR, 0, &walk), GUESTWALK_OK);
    assert_int_equal(walk.gpa, UINT64_C(0xdef567));
    assert_int_equal(*word_at(&bench, PDE_GPA), (0x4000 | OPEN));
}

static void guestwalk_memory_that_says_again_begins_the_walk_anew(void **state)
{
    /* The caller left guest mode to make the table's page present: everything may be different now. */
    (void)state;
    for (unsigned at = 1; at <= 8; at++) {
        struct bench bench;
        struct guestwalk walk;

        bench_init_4(&bench);
        bench.at = at;
        bench.says = GUESTMEM_AGAIN;
        assert_int_equal(walk_to(&bench, LINEAR, PAGING_WRITE, &walk), GUESTWALK_OK);
        assert_int_equal(walk.gpa, PAGE_GPA | 0x567);
        assert_logged(&bench, at, EVENT_LOAD, PML4E_GPA);
        assert_int_equal(*word_at(&bench, PTE_GPA), (PAGE_GPA | OPEN | A | D));
    }
}

static void guestwalk_memory_that_says_stop_ends_the_walk(void **state)
{
    /* A table where no memory is; the caller is told which entry. */
    static const uint64_t gpas[] = {PML4E_GPA, PDPTE_GPA, PDE_GPA, PTE_GPA};

    (void)state;
    for (unsigned at = 1; at <= 8; at++) {
        struct bench bench;
        struct guestwalk walk;

        bench_init_4(&bench);
        bench.at = at;
        bench.says = GUESTMEM_STOP;
        assert_int_equal(walk_to(&bench, LINEAR, PAGING_WRITE, &walk), GUESTWALK_STOP);
        assert_int_equal(bench.log_count, at);
        assert_int_equal(walk.depth, 4 - (at - 1) / 2);
        assert_int_equal(walk.entry_gpas[walk.depth], gpas[(at - 1) / 2]);
    }
}

static void guestwalk_table_that_maps_itself_is_met_at_each_level(void **state)
{
    /* One entry at all four levels: its flags, set at the first, are seen at the next; the page is the table. */
    static const struct word words[] = {{0x1008, 0x1000 | OPEN}};
    uint64_t linear = UINT64_C(1) << 39 | UINT64_C(1) << 30 | UINT64_C(1) << 21 | 1u << 12 | 0x8u;
    struct bench bench;
    struct guestwalk walk;

    (void)state;
    bench_init(&bench, &state_4, words, 1);
    assert_int_equal(walk_to(&bench, linear, PAGING_WRITE, &walk), GUESTWALK_OK);
    assert_int_equal(walk.gpa, 0x1008);
    assert_int_equal(*word_at(&bench, 0x1008), (0x1000 | OPEN | A | D));
    assert_int_equal(bench.log_count, 6); /* four loads; A at the top, D at the leaf */
    assert_int_equal(walk.entries[4], (0x1000 | OPEN | A));
    assert_int_equal(walk.entries[1], (0x1000 | OPEN | A | D));
}

static void guestwalk_implicit_access_has_no_ac(void **state)
{
    /* 4.6.1: "If EFLAGS.AC = 0 or the access is implicit, data may not be read from any user-mode address." */
    struct paging_state registers = state_4;
    struct bench bench;
    struct guestwalk walk;

    (void)state;
    registers.cr4 |= CR4_SMAP;
    bench_init(&bench, &registers, words_4, 4);
    assert_int_equal(walk_to(&bench, LINEAR, 0, &walk), GUESTWALK_FAULT);
    assert_int_equal(walk.error_code, 0x1); /* a supervisor-mode access, even at CPL 3 */
    assert_int_equal(walk_to(&bench, LINEAR, PAGING_AC, &walk), GUESTWALK_OK);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(guestwalk_4_levels_lead_to_the_byte),
        cmocka_unit_test(guestwalk_each_entry_is_read_once_from_the_top),
        cmocka_unit_test(guestwalk_5_levels_lead_to_the_byte),
        cmocka_unit_test(guestwalk_large_pages_keep_more_of_the_linear_address),
        cmocka_unit_test(guestwalk_32_bits_lead_to_the_byte),
        cmocka_unit_test(guestwalk_pse36_puts_bits_20_to_13_above_4_gib),
        cmocka_unit_test(guestwalk_without_pse_ps_is_ignored),
        cmocka_unit_test(guestwalk_pae_takes_pdptes_from_the_processor),
        cmocka_unit_test(guestwalk_pae_without_pdpte_is_absent),
        cmocka_unit_test(guestwalk_off_reads_nothing),
        cmocka_unit_test(guestwalk_absent_entry_hides_its_reserved_bits),
        cmocka_unit_test(guestwalk_reserved_bit_ends_the_walk_where_it_is),
        cmocka_unit_test(guestwalk_rights_are_checked_when_the_page_is_known),
        cmocka_unit_test(guestwalk_rights_are_those_of_all_levels),
        cmocka_unit_test(guestwalk_key_is_that_of_the_leaf),
        cmocka_unit_test(guestwalk_global_is_the_leaf_s_if_pge_is_on),
        cmocka_unit_test(guestwalk_read_sets_accessed_flags_from_the_top),
        cmocka_unit_test(guestwalk_write_sets_the_dirty_flag_of_the_leaf),
        cmocka_unit_test(guestwalk_flags_that_are_set_are_not_written),
        cmocka_unit_test(guestwalk_fault_sets_accessed_flags_above_it),
        cmocka_unit_test(guestwalk_without_set_flags_writes_nothing),
        cmocka_unit_test(guestwalk_entry_that_changed_begins_the_walk_anew),
        cmocka_unit_test(guestwalk_upper_entry_that_changed_leads_elsewhere),
        cmocka_unit_test(guestwalk_memory_that_says_again_begins_the_walk_anew),
        cmocka_unit_test(guestwalk_memory_that_says_stop_ends_the_walk),
        cmocka_unit_test(guestwalk_table_that_maps_itself_is_met_at_each_level),
        cmocka_unit_test(guestwalk_implicit_access_has_no_ac),
    };

    return cmocka_run_group_tests_name("guestwalk", tests, NULL, NULL);
}
