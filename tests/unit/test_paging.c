/*
 * unit/test_paging.c - what control registers and CPUID come to: modes, shapes, reserved bits, rights. Each
 * expectation has its sentence of Intel SDM 3A, chapter 4, or AMD APM 2, chapter 5.
 */
#include "mmu/paging.h"
#include "model/random.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#define COUNT_OF(array) (sizeof(array) / sizeof((array)[0]))

/* SDM 3A, 2.5 and 2.2.1. */
#define PE UINT64_C(0x1)
#define WP UINT64_C(0x10000)
#define PG UINT64_C(0x80000000)
#define PSE UINT64_C(0x10)
#define PAE UINT64_C(0x20)
#define PGE UINT64_C(0x80)
#define LA57 UINT64_C(0x1000)
#define SMEP UINT64_C(0x100000)
#define SMAP UINT64_C(0x200000)
#define PKE UINT64_C(0x400000)
#define LME UINT64_C(0x100)
#define LMA UINT64_C(0x400)
#define NXE UINT64_C(0x800)

static const struct paging_state state_none = {.cr0 = PE, .maxphyaddr = 40};
static const struct paging_state state_32 = {
    .cr0 = PG | PE, .maxphyaddr = 40, .has_pse36 = true, .has_1g_pages = true};
static const struct paging_state state_pae = {
    .cr0 = PG | PE, .cr4 = PAE, .maxphyaddr = 40, .has_pse36 = true, .has_1g_pages = true};
static const struct paging_state state_4 = {.cr0 = PG | PE,
                                            .cr4 = PAE,
                                            .efer = LMA | LME,
                                            .maxphyaddr = 40,
                                            .has_pse36 = true,
                                            .has_1g_pages = true};
static const struct paging_state state_5 = {.cr0 = PG | PE,
                                            .cr4 = PAE | LA57,
                                            .efer = LMA | LME,
                                            .maxphyaddr = 40,
                                            .has_pse36 = true,
                                            .has_1g_pages = true};

static struct paging computed(const struct paging_state *state)
{
    struct paging paging;

    paging_compute(&paging, state);
    return paging;
}

/* Bits @high down to @low. */
static uint64_t range(unsigned high, unsigned low)
{
    uint64_t bits = 0;

    for (unsigned bit = low; bit <= high; bit++) {
        bits |= UINT64_C(1) << bit;
    }
    return bits;
}

static void paging_mode_follows_pg_pae_lma_la57(void **state)
{
    /* 4.1.1: paging "is used" or not by CR0.PG, and its mode is told by CR4.PAE, IA32_EFER.LMA, CR4.LA57. */
    static const struct {
        uint64_t cr0;
        uint64_t cr4;
        uint64_t efer;
        enum paging_mode mode;
    } rows[] = {
        {PE, 0, 0, PAGING_NONE},
        {PE, PAE | LA57, NXE | LME, PAGING_NONE}, /* LMA is 0 as long as PG is */
        {PG | PE, 0, 0, PAGING_32},
        {PG | PE, LA57 | PSE, NXE, PAGING_32},
        {PG | PE, PAE, 0, PAGING_PAE},
        {PG | PE, PAE | LA57, NXE, PAGING_PAE}, /* "CR4.LA57 has no effect if not in IA-32e mode" */
        {PG | PE, PAE, LMA | LME, PAGING_4},
        {PG | PE, PAE | LA57, LMA | LME, PAGING_5},
    };

    (void)state;
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        const struct paging_state registers = {
            .cr0 = rows[i].cr0, .cr4 = rows[i].cr4, .efer = rows[i].efer, .maxphyaddr = 40};

        assert_int_equal(computed(&registers).mode, rows[i].mode);
    }
}

static void paging_shape_is_that_of_the_mode(void **state)
{
    /*
     * 4.3: "Bits 11:2 are bits 31:22 of the linear address", then 21:12. 4.4: PDPTE register 31:30, PDE
     * 29:21, PTE 20:12. 4.5: PML5E 56:48, PML4E 47:39, PDPTE 38:30, then as PAE.
     */
    static const struct {
        const struct paging_state *state;
        uint8_t level_count;
        uint8_t entry_bytes;
        uint8_t linear_bits;
        struct {
            uint8_t high; /* bits of the linear address that are the index, by level from 1 */
            uint8_t low;
        } index[PAGING_LEVELS_MAX];
    } rows[] = {
        {&state_none, 0, 0, 32, {{0, 0}}},
        {&state_32, 2, 4, 32, {{21, 12}, {31, 22}}},
        {&state_pae, 3, 8, 32, {{20, 12}, {29, 21}, {31, 30}}},
        {&state_4, 4, 8, 48, {{20, 12}, {29, 21}, {38, 30}, {47, 39}}},
        {&state_5, 5, 8, 57, {{20, 12}, {29, 21}, {38, 30}, {47, 39}, {56, 48}}},
    };

    (void)state;
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        struct paging paging = computed(rows[i].state);

        assert_int_equal(paging.level_count, rows[i].level_count);
        assert_int_equal(paging.entry_bytes, rows[i].entry_bytes);
        assert_int_equal(paging.linear_bits, rows[i].linear_bits);
        assert_int_equal(paging.has_flags_at_top, paging.mode != PAGING_PAE);
        for (unsigned level = 1; level <= paging.level_count; level++) {
            assert_int_equal(paging.levels[level].shift, rows[i].index[level - 1].low);
            assert_int_equal(paging.levels[level].shift + paging.levels[level].index_bits - 1,
                             rows[i].index[level - 1].high);
        }
    }
}

static void paging_root_is_cr3_without_what_is_no_address(void **state)
{
    /* Tables 4-3, 4-7, 4-12: bits 31:12 of CR3, bits 31:5, bits M-1:12; the others are controls or ignored. */
    static const struct {
        const struct paging_state *state;
        uint64_t root;
    } rows[] = {
        {&state_32, UINT64_C(0xfffff000)},
        {&state_pae, UINT64_C(0xffffffe0)},
        {&state_4, UINT64_C(0xfffffff000)},
        {&state_5, UINT64_C(0xfffffff000)},
    };

    (void)state;
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        struct paging_state registers = *rows[i].state;

        registers.cr3 = UINT64_MAX;
        assert_int_equal(computed(&registers).root, rows[i].root);
    }
}

static void paging_large_pages_are_where_the_processor_has_them(void **state)
{
    /*
     * 4.1.4: "PSE: 4-MByte pages for 32-bit paging" by CR4.PSE; 2 MiB always; 1 GiB by Page1GB, in 4.5
     * alone: "CR4.PSE = 1 [...] PAE paging and IA-32e paging can use multiple page sizes regardless".
     */
    static const struct {
        const struct paging_state *state;
        uint64_t cr4;
        bool has_1g;
        unsigned large_levels; /* bit N: level N */
    } rows[] = {
        {&state_32, 0, true, 0},         {&state_32, PSE, true, 1u << 2},
        {&state_pae, 0, true, 1u << 2},  {&state_pae, PSE, true, 1u << 2},
        {&state_4, 0, false, 1u << 2},   {&state_4, 0, true, 1u << 2 | 1u << 3},
        {&state_4, PSE, false, 1u << 2}, {&state_5, 0, true, 1u << 2 | 1u << 3},
        {&state_5, PSE, false, 1u << 2},
    };

    (void)state;
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        struct paging_state registers = *rows[i].state;
        struct paging paging;

        registers.cr4 |= rows[i].cr4;
        registers.has_1g_pages = rows[i].has_1g;
        paging = computed(&registers);
        for (unsigned level = 1; level <= paging.level_count; level++) {
            assert_int_equal(paging.levels[level].may_be_large, rows[i].large_levels >> level & 1);
        }
    }
}

static void paging_of_32_bits_reserves_bits_of_large_pages_alone(void **state)
{
    /*
     * 4.3: "If the PSE-36 mechanism is not supported, bits 21:13 are reserved. If the PSE-36 mechanism is
     * supported, bits 21:(M-19) are reserved, where M is the minimum of 40 and MAXPHYADDR."
     */
    static const struct {
        uint8_t maxphyaddr;
        bool has_pse36;
        unsigned low;
    } rows[] = {
        {40, false, 13}, {32, true, 13}, {36, true, 17},
        {39, true, 20},  {40, true, 21}, {52, true, 21},
    };

    (void)state;
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        struct paging_state registers = state_32;
        struct paging paging;

        registers.cr4 |= PSE;
        registers.maxphyaddr = rows[i].maxphyaddr;
        registers.has_pse36 = rows[i].has_pse36;
        paging = computed(&registers);
        assert_int_equal(paging.levels[2].reserved_leaf, range(21, rows[i].low));
        assert_int_equal(paging.levels[2].reserved, 0);
        assert_int_equal(paging.levels[1].reserved_leaf, 0);
    }
}

static void paging_of_32_bits_without_pse_reserves_nothing(void **state)
{
    /* 4.3: "With 32-bit paging, there are reserved bits only if CR4.PSE = 1". */
    struct paging paging = computed(&state_32);

    (void)state;
    for (unsigned level = 1; level <= 2; level++) {
        assert_int_equal(paging.levels[level].reserved, 0);
        assert_int_equal(paging.levels[level].reserved_leaf, 0);
    }
}

static void paging_pae_reserves_up_to_bit_62(void **state)
{
    /*
     * 4.4.2: "If the P flag of a PDE or a PTE is 1, bits 62:MAXPHYADDR are reserved. If the P flag and the
     * PS flag of a PDE are both 1, bits 20:13 are reserved. If IA32_EFER.NXE = 0 [...] the XD flag (bit
     * 63) is reserved."
     */
    struct paging_state registers = state_pae;
    struct paging paging;

    (void)state;
    registers.maxphyaddr = 36;
    paging = computed(&registers);
    assert_int_equal(paging.levels[1].reserved_leaf, range(63, 36));
    assert_int_equal(paging.levels[2].reserved, range(63, 36));
    assert_int_equal(paging.levels[2].reserved_leaf, range(63, 36) | range(20, 13));
    registers.efer = NXE;
    registers.maxphyaddr = 52;
    paging = computed(&registers);
    assert_int_equal(paging.levels[1].reserved_leaf, range(62, 52));
    assert_int_equal(paging.levels[2].reserved, range(62, 52));
    assert_int_equal(paging.levels[2].reserved_leaf, range(62, 52) | range(20, 13));
}

static void paging_of_4_and_5_levels_reserves_up_to_bit_51(void **state)
{
    /*
     * 4.5: "bits 51:MAXPHYADDR are reserved. If the P flag of a PML4E is 1, the PS flag is reserved. [PDPTE
     * with PS] bits 29:13, [PDE with PS] bits 20:13 are reserved. If IA32_EFER.NXE = 0 [...] XD".
     */
    static const struct paging_state *const states[] = {&state_4, &state_5};

    (void)state;
    for (size_t i = 0; i < COUNT_OF(states); i++) {
        struct paging paging = computed(states[i]);
        uint64_t always = range(51, 40) | range(63, 63);

        assert_int_equal(paging.levels[1].reserved_leaf, always);
        assert_int_equal(paging.levels[2].reserved, always);
        assert_int_equal(paging.levels[2].reserved_leaf, always | range(20, 13));
        assert_int_equal(paging.levels[3].reserved, always);
        assert_int_equal(paging.levels[3].reserved_leaf, always | range(29, 13));
        for (unsigned level = 4; level <= paging.level_count; level++) {
            assert_int_equal(paging.levels[level].reserved, always | range(7, 7));
        }
    }
}

static void paging_with_nxe_and_52_bits_reserves_no_high_bit(void **state)
{
    /* 4.5: MAXPHYADDR is at most 52; with IA32_EFER.NXE = 1 bit 63 is XD, and 62:52 are "ignored". */
    struct paging_state registers = state_4;
    struct paging paging;

    (void)state;
    registers.maxphyaddr = 52;
    registers.efer |= NXE;
    paging = computed(&registers);
    assert_int_equal(paging.levels[1].reserved_leaf, 0);
    assert_int_equal(paging.levels[4].reserved, range(7, 7));
    assert_int_equal(paging.address_mask, range(51, 12));
}

static void paging_without_1g_pages_reserves_ps_of_pdptes(void **state)
{
    /* 4.5: "If 1-GByte pages are not supported and the P flag of a PDPTE is 1, the PS flag is reserved." */
    struct paging_state registers = state_4;

    (void)state;
    registers.has_1g_pages = false;
    assert_true((computed(&registers).levels[3].reserved & range(7, 7)) != 0);
    assert_true((computed(&state_4).levels[3].reserved & range(7, 7)) == 0);
}

static void paging_of_amd_reserves_bit_8_at_the_top(void **state)
{
    /* APM 2, figures of PML5E and PML4E in long mode: bits 8:7 are MBZ; of PDPE and PDE, bit 8 is IGN. */
    struct paging_state registers = state_5;

    (void)state;
    registers.reserves_bit_8 = true;
    for (unsigned level = 1; level <= 5; level++) {
        assert_int_equal(computed(&registers).levels[level].reserved & range(8, 8),
                         level >= 4 ? range(8, 8) : 0);
        assert_int_equal(computed(&state_5).levels[level].reserved & range(8, 8), 0);
    }
}

static void paging_takes_widths_beyond_32_and_52_as_these(void **state)
{
    /* 4.1.4: MAXPHYADDR "is at most 52"; and 4-byte entries have 32 bits. A guest's CPUID may say anything. */
    struct paging_state registers = state_4;

    (void)state;
    registers.maxphyaddr = 0;
    assert_int_equal(computed(&registers).address_mask, range(31, 12));
    registers.maxphyaddr = 31;
    assert_int_equal(computed(&registers).address_mask, range(31, 12));
    registers.maxphyaddr = 255;
    assert_int_equal(computed(&registers).address_mask, range(51, 12));
    assert_int_equal(computed(&state_32).address_mask, range(31, 12));
}

static void paging_pdptes_with_reserved_bits_are_refused(void **state)
{
    /*
     * 4.4.1: "If any of the PDPTEs sets both the P flag (bit 0) and any reserved bit, [...] a
     * general-protection exception (#GP(0))"; "bits 2:1, 8:5, and 63:MAXPHYADDR are reserved".
     */
    struct paging_state registers = state_pae;
    uint64_t reserved = range(2, 1) | range(8, 5) | range(63, 40);
    struct paging paging;

    (void)state;
    registers.efer = NXE; /* which does not make bit 63 one of a PDPTE */
    paging = computed(&registers);
    for (unsigned i = 0; i < PAGING_PDPTE_COUNT; i++) {
        for (unsigned bit = 1; bit < 64; bit++) {
            uint64_t pdptes[PAGING_PDPTE_COUNT] = {0x1001, 0, 0x3019, UINT64_C(0xfffffff001)};

            pdptes[i] = 1 | UINT64_C(1) << bit;
            assert_int_equal(paging_pdptes_are_valid(&paging, pdptes), (reserved >> bit & 1) == 0);
            pdptes[i] &= ~UINT64_C(1); /* absent: "the processor ignores bits 63:1" */
            assert_true(paging_pdptes_are_valid(&paging, pdptes));
        }
    }
}

static void paging_canonical_addresses_are_sign_extended(void **state)
{
    /* SDM 1, 3.3.7.1: canonical "if bits 63 through to the most-significant implemented bit are all the same". */
    static const struct {
        const struct paging_state *state;
        uint64_t linear;
        bool is_canonical;
    } rows[] = {
        {&state_4, 0, true},
        {&state_4, UINT64_C(0x00007fffffffffff), true},
        {&state_4, UINT64_C(0x0000800000000000), false},
        {&state_4, UINT64_C(0xffff7fffffffffff), false},
        {&state_4, UINT64_C(0xffff800000000000), true},
        {&state_4, UINT64_MAX, true},
        {&state_4, UINT64_C(0x00ffffffffffffff), false},
        {&state_5, UINT64_C(0x00ffffffffffffff), true},
        {&state_5, UINT64_C(0x0100000000000000), false},
        {&state_5, UINT64_C(0xfeffffffffffffff), false},
        {&state_5, UINT64_C(0xff00000000000000), true},
        {&state_5, UINT64_C(0x0000800000000000), true},
        {&state_32, UINT64_C(0xffffffff), true},
        {&state_32, UINT64_C(0x100000000), false},
        {&state_pae, UINT64_C(0xffffffff), true},
        {&state_pae, UINT64_MAX, false},
        {&state_none, UINT64_C(0xffffffff), true},
        {&state_none, UINT64_C(0x100000000), false},
    };

    (void)state;
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        struct paging paging = computed(rows[i].state);

        assert_int_equal(paging_is_canonical(&paging, rows[i].linear), rows[i].is_canonical);
    }
}

#define READ 0u
#define WRITE PAGING_WRITE
#define FETCH PAGING_FETCH
#define USER PAGING_USER
#define AC PAGING_AC
#define RIGHTS_W PAGING_RIGHT_WRITE
#define RIGHTS_U PAGING_RIGHT_USER
#define RIGHTS_X PAGING_RIGHT_EXECUTE
#define KEY_5_AD UINT32_C(0x400)
#define KEY_5_WD UINT32_C(0x800)

/* Whether an access is permitted, and how the error code says that it is not. Key 5 where keys are on. */
struct rights_row {
    const char *sentence;
    uint64_t cr0;
    uint64_t cr4;
    uint64_t efer;
    uint32_t pkru;
    unsigned access;
    unsigned rights;
    uint32_t error_code;
};

static const struct rights_row rights_rows[] = {
    {"supervisor: Data may be read from any supervisor-mode address", WP, SMEP | SMAP, NXE, 0, READ,
     0, 0},
    {"supervisor: If CR4.SMAP = 0, data may be read from any user-mode address", WP, SMEP, NXE, 0,
     READ, RIGHTS_U, 0},
    {"supervisor: If EFLAGS.AC = 1 and the access is explicit, data may be read", WP, SMAP, NXE, 0,
     READ | AC, RIGHTS_U, 0},
    {"supervisor: If EFLAGS.AC = 0 or the access is implicit, data may not be read", WP, SMAP, NXE,
     0, READ, RIGHTS_U, 0x1},
    {"supervisor: If CR0.WP = 0, data may be written to any supervisor-mode address", 0, SMAP, NXE,
     0, WRITE, 0, 0},
    {"supervisor: If CR0.WP = 1, R/W has to be 1", WP, 0, NXE, 0, WRITE, 0, 0x3},
    {"supervisor: and then is enough", WP, 0, NXE, 0, WRITE, RIGHTS_W, 0},
    {"supervisor, WP = 0, SMAP = 0: data may be written to any user-mode address", 0, 0, NXE, 0,
     WRITE, RIGHTS_U, 0},
    {"supervisor, WP = 0, SMAP = 1, AC = 0: data may not be written to any user-mode address", 0,
     SMAP, NXE, 0, WRITE, RIGHTS_U | RIGHTS_W, 0x3},
    {"supervisor, WP = 1, SMAP = 1, AC = 1: R/W has to be 1", WP, SMAP, NXE, 0, WRITE | AC,
     RIGHTS_U, 0x3},
    {"supervisor, WP = 1, SMAP = 1, AC = 1: and then is enough", WP, SMAP, NXE, 0, WRITE | AC,
     RIGHTS_U | RIGHTS_W, 0},
    {"supervisor: For [...] NXE = 1, instructions may be fetched [...] for which the XD flag is 0",
     0, 0, NXE, 0, FETCH, RIGHTS_X, 0},
    {"supervisor: and not where it is 1", 0, 0, NXE, 0, FETCH, 0, 0x11},
    {"supervisor: If CR4.SMEP = 0, [the same of user-mode addresses]", 0, SMAP, NXE, 0, FETCH,
     RIGHTS_X | RIGHTS_U, 0},
    {"supervisor: If CR4.SMEP = 1, instructions may not be fetched from any user-mode address", 0,
     SMEP, NXE, 0, FETCH, RIGHTS_X | RIGHTS_U, 0x11},
    {"supervisor: SMEP is no matter of AC", 0, SMEP, NXE, 0, FETCH | AC, RIGHTS_X | RIGHTS_U, 0x11},
    {"user: Data may be read from any user-mode address", WP, SMEP | SMAP, NXE, 0, READ | USER,
     RIGHTS_U, 0},
    {"user: Data may not be read from any supervisor-mode address", 0, 0, NXE, 0, READ | USER,
     RIGHTS_W | RIGHTS_X, 0x5},
    {"user: Data may be written [...] for which the R/W flag is 1", 0, SMAP, NXE, 0, WRITE | USER,
     RIGHTS_U | RIGHTS_W, 0},
    {"user: whatever CR0.WP is, not where it is 0", 0, 0, NXE, 0, WRITE | USER, RIGHTS_U, 0x7},
    {"user: Data may not be written to any supervisor-mode address", 0, 0, NXE, 0, WRITE | USER,
     RIGHTS_W, 0x7},
    {"user: instructions may be fetched from any user-mode address [...] XD flag is 0", 0, SMEP,
     NXE, 0, FETCH | USER, RIGHTS_U | RIGHTS_X, 0},
    {"user: and not where it is 1", 0, 0, NXE, 0, FETCH | USER, RIGHTS_U, 0x15},
    {"user: Instructions may not be fetched from any supervisor-mode address", 0, 0, NXE, 0,
     FETCH | USER, RIGHTS_X, 0x15},
    {"4.7, I/D: CR4.PAE = 1 and IA32_EFER.NXE = 1, or CR4.SMEP = 1; otherwise, the flag is 0", 0, 0,
     0, 0, FETCH | USER, RIGHTS_X, 0x5},
    {"4.7, I/D: CR4.SMEP = 1", 0, SMEP, 0, 0, FETCH | USER, RIGHTS_X, 0x15},
    {"4.6.2: if ADi = 1, no data access to user-mode addresses with key i", 0, PKE, NXE, KEY_5_AD,
     READ | USER, RIGHTS_U, 0x25},
    {"4.6.2: by the supervisor neither", 0, PKE, NXE, KEY_5_AD, READ, RIGHTS_U, 0x21},
    {"4.6.2: if WDi = 1, user-mode write accesses are not permitted", 0, PKE, NXE, KEY_5_WD,
     WRITE | USER, RIGHTS_U | RIGHTS_W, 0x27},
    {"4.6.2: supervisor-mode write accesses are not if CR0.WP = 1", WP, PKE, NXE, KEY_5_WD, WRITE,
     RIGHTS_U | RIGHTS_W, 0x23},
    {"4.6.2: and are if it is 0", 0, PKE, NXE, KEY_5_WD, WRITE, RIGHTS_U | RIGHTS_W, 0},
    {"4.6.2: WDi is no matter of reads", WP, PKE, NXE, KEY_5_WD, READ | USER, RIGHTS_U, 0},
    {"4.6.2: keys are of user-mode addresses", WP, PKE, NXE, KEY_5_AD | KEY_5_WD, WRITE, RIGHTS_W,
     0},
    {"4.6.2: keys are of data accesses", 0, PKE, NXE, KEY_5_AD | KEY_5_WD, FETCH | USER,
     RIGHTS_U | RIGHTS_X, 0},
    {"4.6.2: if CR4.PKE = 0, there are none", 0, 0, NXE, KEY_5_AD | KEY_5_WD, WRITE | USER,
     RIGHTS_U | RIGHTS_W, 0},
    {"4.7, PK: even if R/W forbids it as well", 0, PKE, NXE, KEY_5_WD, WRITE | USER, RIGHTS_U,
     0x27},
    {"4.7, PK: even if SMAP forbids it as well", 0, PKE | SMAP, NXE, KEY_5_AD, READ, RIGHTS_U,
     0x21},
    {"4.7, PK: the linear address was a user-mode address", 0, PKE, NXE, KEY_5_AD, READ | USER, 0,
     0x5},
};

static void paging_rights_are_as_4_6_has_them(void **state)
{
    /* SDM 3A, 4.6 "Access Rights", and 4.7 for the error code: row by row. */
    (void)state;
    for (size_t i = 0; i < COUNT_OF(rights_rows); i++) {
        const struct rights_row *row = &rights_rows[i];
        struct paging_state registers = state_4;
        struct paging paging;
        uint32_t error_code;

        registers.cr0 |= row->cr0;
        registers.cr4 |= row->cr4;
        registers.efer |= row->efer;
        registers.pkru = row->pkru;
        paging = computed(&registers);
        error_code = paging_refusal(&paging, row->access, row->rights, 5);
        if (error_code != row->error_code) {
            fail_msg("%s: %#x, not %#x", row->sentence, error_code, row->error_code);
        }
    }
}

static void paging_of_32_bits_has_no_fetch_in_error_codes_but_by_smep(void **state)
{
    /* 4.7, I/D: "(b) both (i) CR4.PAE = 1 [...] and (ii) IA32_EFER.NXE = 1": NXE alone is not enough. */
    struct paging_state registers = state_32;
    struct paging paging;

    (void)state;
    registers.efer = NXE;
    paging = computed(&registers);
    assert_int_equal(paging_refusal(&paging, FETCH | USER, RIGHTS_X, 0), 0x5);
    registers.cr4 |= SMEP;
    paging = computed(&registers);
    assert_int_equal(paging_refusal(&paging, FETCH | USER, RIGHTS_X, 0), 0x15);
}

static void paging_keys_are_of_long_mode(void **state)
{
    /* 4.6.2: "if CR4.PKE = 0, or if IA-32e paging is not active, the processor does not associate [...] keys". */
    static const struct paging_state *const states[] = {&state_none, &state_32, &state_pae,
                                                        &state_4, &state_5};

    (void)state;
    for (size_t i = 0; i < COUNT_OF(states); i++) {
        struct paging_state registers = *states[i];
        struct paging paging;

        registers.cr4 |= PKE;
        registers.pkru = UINT32_MAX;
        paging = computed(&registers);
        assert_int_equal(paging.keys, i >= 3);
        assert_int_equal(paging_refusal(&paging, READ | USER, RIGHTS_U, 0), i >= 3 ? 0x25 : 0);
    }
}

static void paging_pkru_stored_is_pkru_computed(void **state)
{
    /* Guests write PKRU often: nothing else depends on it. */
    struct paging_state registers = state_4;
    struct paging stored;
    struct paging fresh;

    (void)state;
    registers.cr4 |= PKE;
    stored = computed(&registers);
    registers.pkru = 0xdeadbeef;
    stored.pkru = 0xdeadbeef;
    fresh = computed(&registers);
    assert_memory_equal(stored.allowed, fresh.allowed, sizeof(fresh.allowed));
    assert_memory_equal(stored.errors, fresh.errors, sizeof(fresh.errors));
    for (unsigned key = 0; key < 16; key++) {
        assert_int_equal(paging_refusal(&stored, WRITE | USER, RIGHTS_U | RIGHTS_W, key),
                         paging_refusal(&fresh, WRITE | USER, RIGHTS_U | RIGHTS_W, key));
    }
}

static void paging_off_refuses_nothing(void **state)
{
    /* 4.6: access rights are those "specified by the paging-structure entries": there are none. */
    struct paging_state registers = state_none;
    struct paging paging;

    (void)state;
    registers.cr0 |= WP;
    registers.cr4 = SMEP | SMAP | PKE;
    paging = computed(&registers);
    for (unsigned access = 0; access < PAGING_ACCESS_KINDS; access++) {
        for (unsigned rights = 0; rights <= PAGING_RIGHTS_ALL; rights++) {
            assert_int_equal(paging_refusal(&paging, access, rights, 0), 0);
        }
    }
}

static void paging_global_pages_are_by_pge(void **state)
{
    /* Tables of entries: G, "if CR4.PGE = 1, determines whether the translation is global; ignored otherwise". */
    struct paging_state registers = state_32;

    (void)state;
    assert_false(computed(&registers).global_pages);
    registers.cr4 |= PGE;
    assert_true(computed(&registers).global_pages);
}

static void paging_any_register_values_give_a_usable_mode(void **state)
{
    /* Registers and CPUID come from guests and files: whatever they are, shifts and masks stay in bounds. */
    struct rnd rnd = {rnd_seed("paging")};

    (void)state;
    for (unsigned i = 0; i < 100000; i++) {
        uint64_t random = rnd_next(&rnd);
        const struct paging_state registers = {
            .cr0 = rnd_next(&rnd),
            .cr3 = rnd_next(&rnd),
            .cr4 = rnd_next(&rnd),
            .efer = rnd_next(&rnd),
            .pkru = (uint32_t)rnd_next(&rnd),
            .maxphyaddr = (uint8_t)random,
            .has_1g_pages = (random >> 8 & 1) != 0,
            .has_pse36 = (random >> 9 & 1) != 0,
            .reserves_bit_8 = (random >> 10 & 1) != 0,
        };
        struct paging paging = computed(&registers);
        unsigned bits = 12;

        for (unsigned level = 1; level <= paging.level_count; level++) {
            assert_int_equal(paging.levels[level].shift, bits);
            assert_int_equal(paging.levels[level].reserved & 1, 0);
            bits += paging.levels[level].index_bits;
        }
        assert_int_equal(paging.mode == PAGING_NONE ? 32 : bits, paging.linear_bits);
        assert_int_equal(paging.root & ~range(51, 5), 0);
        (void)paging_is_canonical(&paging, random);
        (void)paging_pdptes_are_valid(&paging, paging.pdptes);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(paging_mode_follows_pg_pae_lma_la57),
        cmocka_unit_test(paging_shape_is_that_of_the_mode),
        cmocka_unit_test(paging_root_is_cr3_without_what_is_no_address),
        cmocka_unit_test(paging_large_pages_are_where_the_processor_has_them),
        cmocka_unit_test(paging_of_32_bits_reserves_bits_of_large_pages_alone),
        cmocka_unit_test(paging_of_32_bits_without_pse_reserves_nothing),
        cmocka_unit_test(paging_pae_reserves_up_to_bit_62),
        cmocka_unit_test(paging_of_4_and_5_levels_reserves_up_to_bit_51),
        cmocka_unit_test(paging_with_nxe_and_52_bits_reserves_no_high_bit),
        cmocka_unit_test(paging_without_1g_pages_reserves_ps_of_pdptes),
        cmocka_unit_test(paging_of_amd_reserves_bit_8_at_the_top),
        cmocka_unit_test(paging_takes_widths_beyond_32_and_52_as_these),
        cmocka_unit_test(paging_pdptes_with_reserved_bits_are_refused),
        cmocka_unit_test(paging_canonical_addresses_are_sign_extended),
        cmocka_unit_test(paging_rights_are_as_4_6_has_them),
        cmocka_unit_test(paging_of_32_bits_has_no_fetch_in_error_codes_but_by_smep),
        cmocka_unit_test(paging_keys_are_of_long_mode),
        cmocka_unit_test(paging_pkru_stored_is_pkru_computed),
        cmocka_unit_test(paging_off_refuses_nothing),
        cmocka_unit_test(paging_global_pages_are_by_pge),
        cmocka_unit_test(paging_any_register_values_give_a_usable_mode),
    };

    return cmocka_run_group_tests_name("paging", tests, NULL, NULL);
}
