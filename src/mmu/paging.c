/*
 * mmu/paging.c - from control registers and CPUID to the tables that the walker reads.
 *
 * Sources are sections of Intel SDM 3A, chapter 4, unless said.
 */
#include "mmu/paging.h"

#define CR0_WP (UINT64_C(1) << 16)
#define CR0_PG (UINT64_C(1) << 31)
#define CR4_PSE (UINT64_C(1) << 4)
#define CR4_PAE (UINT64_C(1) << 5)
#define CR4_PGE (UINT64_C(1) << 7)
#define CR4_LA57 (UINT64_C(1) << 12)
#define CR4_SMEP (UINT64_C(1) << 20)
#define CR4_SMAP (UINT64_C(1) << 21)
#define CR4_PKE (UINT64_C(1) << 22)
#define EFER_LMA (UINT64_C(1) << 10)
#define EFER_NXE (UINT64_C(1) << 11)

#define PAGE_SHIFT 12u
#define MAXPHYADDR_MIN 32u
#define MAXPHYADDR_MAX 52u
#define PSE36_BITS_MAX 40u

/* What does not depend on anything but the mode. */
struct shape {
    uint8_t level_count;
    uint8_t entry_bytes;
    uint8_t linear_bits;
    uint8_t index_bits[PAGING_LEVELS_MAX + 1]; /* by level */
};

static const struct shape shapes[] = {
    [PAGING_NONE] = {0, 0, 32, {0}},
    [PAGING_32] = {2, 4, 32, {0, 10, 10}},
    [PAGING_PAE] = {3, 8, 32, {0, 9, 9, 2}},
    [PAGING_4] = {4, 8, 48, {0, 9, 9, 9, 9}},
    [PAGING_5] = {5, 8, 57, {0, 9, 9, 9, 9, 9}},
};

/* Bits @high down to @low; none if @high < @low. Below bit 64. */
static uint64_t bits(unsigned high, unsigned low)
{
    return high < low ? 0 : UINT64_MAX >> (63 - high) & UINT64_MAX << low;
}

/* 4.1.1 "Four Paging Modes". Long mode implies PAE. */
enum paging_mode paging_mode_of(const struct paging_state *state)
{
    if ((state->cr0 & CR0_PG) == 0) {
        return PAGING_NONE;
    }
    if ((state->efer & EFER_LMA) != 0) {
        return (state->cr4 & CR4_LA57) != 0 ? PAGING_5 : PAGING_4;
    }
    return (state->cr4 & CR4_PAE) != 0 ? PAGING_PAE : PAGING_32;
}

static unsigned maxphyaddr_of(const struct paging_state *state)
{
    if (state->maxphyaddr < MAXPHYADDR_MIN) {
        return MAXPHYADDR_MIN;
    }
    return state->maxphyaddr > MAXPHYADDR_MAX ? MAXPHYADDR_MAX : state->maxphyaddr;
}

/* 4.3: of PDEs in 32-bit paging only those that map 4 MiB have reserved bits, of PTEs none. */
static void reserve_32(struct paging_level *level, const struct paging_state *state)
{
    unsigned width = MAXPHYADDR_MIN;

    if (state->has_pse36) {
        width = maxphyaddr_of(state) < PSE36_BITS_MAX ? maxphyaddr_of(state) : PSE36_BITS_MAX;
    }
    level->reserved = 0;
    level->reserved_leaf = level->may_be_large ? bits(21, width - 19) : 0;
}

/* 4.4 and 4.5: entries of 8 bytes, but PAE's PDPTEs. */
static void reserve_64(struct paging *paging, unsigned number, const struct paging_state *state)
{
    struct paging_level *level = &paging->levels[number];
    unsigned top_bit = paging->mode == PAGING_PAE ? 62 : 51;
    uint64_t always = bits(top_bit, maxphyaddr_of(state));

    if ((state->efer & EFER_NXE) == 0) {
        always |= PAGING_NO_EXECUTE;
    }
    level->reserved = always;
    level->reserved_leaf = always;
    if (level->may_be_large) {
        level->reserved_leaf |= bits(level->shift - 1u, PAGE_SHIFT + 1); /* PAT is in between */
    } else if (number > 1) {
        level->reserved |= PAGING_LARGE;
    }
    if (number > 3 && state->reserves_bit_8) {
        level->reserved |= PAGING_GLOBAL; /* APM 2, 5.3.3: PML5E and PML4E */
    }
}

/* 4.4.1 "PDPTE Registers": bit 63, too, whatever NXE says. */
static void reserve_pdpte(struct paging_level *level, const struct paging_state *state)
{
    level->reserved = bits(2, 1) | bits(8, 5) | bits(63, maxphyaddr_of(state));
    level->reserved_leaf = level->reserved;
}

/* 4.1.4: at which levels PAGING_LARGE makes a leaf. */
static bool level_may_be_large(enum paging_mode mode, unsigned level,
                               const struct paging_state *state)
{
    switch (level) {
    case 2:
        return mode != PAGING_32 || (state->cr4 & CR4_PSE) != 0;
    case 3:
        return mode != PAGING_PAE && state->has_1g_pages;
    default:
        return false;
    }
}

static void compute_levels(struct paging *paging, const struct paging_state *state)
{
    const struct shape *shape = &shapes[paging->mode];
    unsigned shift = PAGE_SHIFT;

    for (unsigned number = 1; number <= shape->level_count; number++) {
        struct paging_level *level = &paging->levels[number];

        level->shift = (uint8_t)shift;
        level->index_bits = shape->index_bits[number];
        level->may_be_large = level_may_be_large(paging->mode, number, state);
        if (paging->mode == PAGING_32) {
            reserve_32(level, state);
        } else if (number == shape->level_count && !paging->has_flags_at_top) {
            reserve_pdpte(level, state);
        } else {
            reserve_64(paging, number, state);
        }
        shift += level->index_bits;
    }
}

/* 4.3, 4.4.1, 4.5: CR3's other bits are cache controls, a PCID, or ignored. */
static uint64_t root_of(const struct paging *paging, const struct paging_state *state)
{
    switch (paging->mode) {
    case PAGING_NONE:
        return 0;
    case PAGING_PAE:
        return state->cr3 & bits(31, 5);
    default:
        return state->cr3 & paging->address_mask;
    }
}

/* 4.6.1 "Determination of Access Rights", without protection keys. */
static bool rights_allow(const struct paging_state *state, unsigned access, unsigned rights)
{
    bool by_user = (access & PAGING_USER) != 0;
    bool of_user = (rights & PAGING_RIGHT_USER) != 0; /* a user-mode address */

    if (by_user && !of_user) {
        return false;
    }
    if ((access & PAGING_FETCH) != 0) {
        /* Where there is no XD flag, all pages have the right: bit 63 is 0, or reserved. */
        return (rights & PAGING_RIGHT_EXECUTE) != 0 &&
               (by_user || !of_user || (state->cr4 & CR4_SMEP) == 0);
    }
    if (!by_user && of_user && (state->cr4 & CR4_SMAP) != 0 && (access & PAGING_AC) == 0) {
        return false;
    }
    return (access & PAGING_WRITE) == 0 || (rights & PAGING_RIGHT_WRITE) != 0 ||
           (!by_user && (state->cr0 & CR0_WP) == 0);
}

static uint8_t allowed_of(const struct paging *paging, const struct paging_state *state,
                          unsigned access)
{
    unsigned allowed = 0;

    if (paging->mode == PAGING_NONE) {
        return UINT8_MAX; /* 4.6: access rights are a matter of paging */
    }
    for (unsigned rights = 0; rights <= PAGING_RIGHTS_ALL; rights++) {
        allowed |= rights_allow(state, access, rights) ? 1u << rights : 0;
    }
    return (uint8_t)allowed;
}

/* 4.7 "Page-Fault Exceptions". */
static uint8_t error_of(const struct paging *paging, const struct paging_state *state,
                        unsigned access)
{
    bool has_no_execute = paging->entry_bytes == 8 && (state->efer & EFER_NXE) != 0;
    uint8_t error = 0;

    if ((access & PAGING_USER) != 0) {
        error |= PAGING_ERROR_USER;
    }
    if ((access & PAGING_FETCH) == 0) {
        error |= (access & PAGING_WRITE) != 0 ? PAGING_ERROR_WRITE : 0;
    } else if (has_no_execute || (state->cr4 & CR4_SMEP) != 0) {
        error |= PAGING_ERROR_FETCH;
    }
    return error;
}

void paging_compute(struct paging *paging, const struct paging_state *state)
{
    enum paging_mode mode = paging_mode_of(state);
    const struct shape *shape = &shapes[mode];

    *paging = (struct paging){
        .mode = mode,
        .level_count = shape->level_count,
        .entry_bytes = shape->entry_bytes,
        .linear_bits = shape->linear_bits,
        .has_flags_at_top = mode != PAGING_PAE,
        .address_mask = bits(mode == PAGING_32 ? 31 : maxphyaddr_of(state) - 1, PAGE_SHIFT),
        .global_pages = (state->cr4 & CR4_PGE) != 0,
        .keys = mode >= PAGING_4 && (state->cr4 & CR4_PKE) != 0,
        .write_protect = (state->cr0 & CR0_WP) != 0,
        .pkru = state->pkru,
    };
    paging->root = root_of(paging, state);
    compute_levels(paging, state);
    for (unsigned access = 0; access < PAGING_ACCESS_KINDS; access++) {
        paging->allowed[access] = allowed_of(paging, state, access);
        paging->errors[access] = error_of(paging, state, access);
    }
}

void paging_set_root(struct paging *paging, const struct paging_state *state)
{
    paging->root = root_of(paging, state);
    paging->pkru = state->pkru;
}

bool paging_pdptes_are_valid(const struct paging *paging, const uint64_t pdptes[PAGING_PDPTE_COUNT])
{
    const struct paging_level *top = &paging->levels[paging->level_count];

    for (unsigned i = 0; i < PAGING_PDPTE_COUNT; i++) {
        if ((pdptes[i] & PAGING_PRESENT) != 0 && (pdptes[i] & top->reserved) != 0) {
            return false;
        }
    }
    return true;
}

bool paging_is_canonical(const struct paging *paging, uint64_t linear)
{
    unsigned unused = 64u - paging->linear_bits;

    if (paging->linear_bits == 32) {
        return linear >> 32 == 0; /* outside of long mode there are no more bits */
    }
    return (uint64_t)((int64_t)(linear << unused) >> unused) == linear;
}

/* 4.6.2 "Protection Keys": do they forbid it? Only data, and only user-mode addresses. */
static bool key_refuses(const struct paging *paging, unsigned access, unsigned rights, unsigned key)
{
    bool access_disabled = (paging->pkru >> (2 * key) & 1) != 0;
    bool write_disabled = (paging->pkru >> (2 * key + 1) & 1) != 0;

    if (!paging->keys || (access & PAGING_FETCH) != 0 || (rights & PAGING_RIGHT_USER) == 0) {
        return false;
    }
    return access_disabled || (write_disabled && (access & PAGING_WRITE) != 0 &&
                               ((access & PAGING_USER) != 0 || paging->write_protect));
}

uint32_t paging_refusal(const struct paging *paging, unsigned access, unsigned rights, unsigned key)
{
    /* 4.7: PK says that the key forbids it, whether or not something else does so, too. */
    bool by_key = key_refuses(paging, access, rights, key);

    if (!by_key && (paging->allowed[access] >> rights & 1) != 0) {
        return 0;
    }
    return paging->errors[access] | PAGING_ERROR_PRESENT | (by_key ? PAGING_ERROR_KEY : 0);
}
