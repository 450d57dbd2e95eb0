/*
 * unit/sdm.c - chapter 4 of Intel SDM 3A as tables. Section numbers are those of the editions up to 2023;
 * "4.5" is 4-level and 5-level paging.
 */
#include "unit/sdm.h"

#include "model/require.h"

#include <stddef.h>

#define P (UINT64_C(1) << 0)
#define RW (UINT64_C(1) << 1)
#define US (UINT64_C(1) << 2)
#define A (UINT64_C(1) << 5)
#define D (UINT64_C(1) << 6)
#define PS (UINT64_C(1) << 7)
#define XD (UINT64_C(1) << 63)

#define COUNT_OF(array) (sizeof(array) / sizeof((array)[0]))

/* Sets of modes, and of levels. */
#define IN_32 (1u << SDM_32)
#define IN_PAE (1u << SDM_PAE)
#define IN_LONG (1u << SDM_4_LEVEL | 1u << SDM_5_LEVEL)
#define PTE (1u << 1)
#define PDE (1u << 2)
#define PDPTE (1u << 3)
#define PML4E (1u << 4)
#define PML5E (1u << 5)

enum when {
    ALWAYS,
    NXE_IS_0,
    PSE36_IS_0,
    PSE36_IS_1,
    NO_1G,
};

/* A bit's number that depends on MAXPHYADDR: M, or M - 19 with M no more than 40. */
#define M 100u
#define M_LESS_19 101u

struct reserved_row {
    unsigned modes;
    unsigned levels;
    bool only_if_ps; /* "the P flag and the PS flag are both 1" */
    enum when when;
    unsigned high;
    unsigned low;
};

static const struct reserved_row reserved_rows[] = {
    /* 4.3: "If the PSE-36 mechanism is not supported, bits 21:13 are reserved." */
    {IN_32, PDE, true, PSE36_IS_0, 21, 13},
    /* "If the PSE-36 mechanism is supported, bits 21:(M-19) are reserved, where M is the minimum of 40
     * and MAXPHYADDR." All of 4.3 under "there are reserved bits only if CR4.PSE = 1". */
    {IN_32, PDE, true, PSE36_IS_1, 21, M_LESS_19},
    /* 4.4.2: "If the P flag (bit 0) of a PDE or a PTE is 1, bits 62:MAXPHYADDR are reserved." */
    {IN_PAE, PDE | PTE, false, ALWAYS, 62, M},
    /* "If the P flag and the PS flag (bit 7) of a PDE are both 1, bits 20:13 are reserved." */
    {IN_PAE, PDE, true, ALWAYS, 20, 13},
    /* "If IA32_EFER.NXE = 0 and the P flag of a PDE or a PTE is 1, the XD flag (bit 63) is reserved." */
    {IN_PAE, PDE | PTE, false, NXE_IS_0, 63, 63},
    /* 4.5: "If the P flag of a paging-structure entry is 1, bits 51:MAXPHYADDR are reserved." */
    {IN_LONG, PTE | PDE | PDPTE | PML4E | PML5E, false, ALWAYS, 51, M},
    /* "If the P flag of a PML4E [PML5E] is 1, the PS flag is reserved." */
    {IN_LONG, PML4E | PML5E, false, ALWAYS, 7, 7},
    /* "If 1-GByte pages are not supported and the P flag of a PDPTE is 1, the PS flag is reserved." */
    {IN_LONG, PDPTE, false, NO_1G, 7, 7},
    /* "If 1-GByte pages are supported and the P flag and PS flag of a PDPTE are both 1, bits 29:13 are
     * reserved." */
    {IN_LONG, PDPTE, true, ALWAYS, 29, 13},
    /* "If the P flag and the PS flag of a PDE are both 1, bits 20:13 are reserved." */
    {IN_LONG, PDE, true, ALWAYS, 20, 13},
    /* "If IA32_EFER.NXE = 0 and the P flag of a paging-structure entry is 1, the XD flag (bit 63) is
     * reserved." */
    {IN_LONG, PTE | PDE | PDPTE | PML4E | PML5E, false, NXE_IS_0, 63, 63},
};

/* Sides of a rule: no, yes, or whatever. */
enum side { NO, YES, ANY };

/* What has to be so, for an access that a rule is about to be permitted. */
enum need {
    NOTHING, /* "from any address" */
    NEVER,
    RW_IN_ALL, /* "the R/W flag is 1 in every paging-structure entry controlling the translation" */
    XD_IN_NONE, /* "the XD flag is 0 in every ..." */
};

struct rights_row {
    bool by_user;
    enum sdm_kind kind;
    enum side user_address;
    enum side wp;
    enum side smap;
    enum side ac_and_explicit;
    enum side smep;
    enum side xd_in_use; /* "PAE paging or IA-32e paging with IA32_EFER.NXE = 1" */
    enum need need;
};

/* 4.6.1 "Determination of Access Rights", from top to bottom. Keys are apart. */
static const struct rights_row rights_rows[] = {
    /* "For supervisor-mode accesses: Data may be read (implicitly or explicitly) from any
     * supervisor-mode address." */
    {false, SDM_READ, NO, ANY, ANY, ANY, ANY, ANY, NOTHING},
    /* "Data reads from user-mode pages. If CR4.SMAP = 0, data may be read from any user-mode address" */
    {false, SDM_READ, YES, ANY, NO, ANY, ANY, ANY, NOTHING},
    /* "If EFLAGS.AC = 1 and the access is explicit, data may be read from any user-mode address" */
    {false, SDM_READ, YES, ANY, YES, YES, ANY, ANY, NOTHING},
    /* "If EFLAGS.AC = 0 or the access is implicit, data may not be read from any user-mode address." */
    {false, SDM_READ, YES, ANY, YES, NO, ANY, ANY, NEVER},
    /* "Data writes to supervisor-mode addresses. If CR0.WP = 0, data may be written to any
     * supervisor-mode address." */
    {false, SDM_WRITE, NO, NO, ANY, ANY, ANY, ANY, NOTHING},
    /* "If CR0.WP = 1, data may be written to any supervisor-mode address with a translation for which the
     * R/W flag (bit 1) is 1 in every paging-structure entry controlling the translation" */
    {false, SDM_WRITE, NO, YES, ANY, ANY, ANY, ANY, RW_IN_ALL},
    /* "Data writes to user-mode addresses. If CR0.WP = 0, access rights depend on CR4.SMAP: If
     * CR4.SMAP = 0, data may be written to any user-mode address" */
    {false, SDM_WRITE, YES, NO, NO, ANY, ANY, ANY, NOTHING},
    /* "If EFLAGS.AC = 1 and the access is explicit, data may be written to any user-mode address" */
    {false, SDM_WRITE, YES, NO, YES, YES, ANY, ANY, NOTHING},
    /* "If EFLAGS.AC = 0 or the access is implicit, data may not be written" */
    {false, SDM_WRITE, YES, NO, YES, NO, ANY, ANY, NEVER},
    /* "If CR0.WP = 1 [and] CR4.SMAP = 0, data may be written to any user-mode address with a translation
     * for which the R/W flag is 1 in every paging-structure entry" */
    {false, SDM_WRITE, YES, YES, NO, ANY, ANY, ANY, RW_IN_ALL},
    /* "If EFLAGS.AC = 1 and the access is explicit, [the same]" */
    {false, SDM_WRITE, YES, YES, YES, YES, ANY, ANY, RW_IN_ALL},
    /* "If EFLAGS.AC = 0 or the access is implicit, data may not be written" */
    {false, SDM_WRITE, YES, YES, YES, NO, ANY, ANY, NEVER},
    /* "Instruction fetches from supervisor-mode addresses. For 32-bit paging or if IA32_EFER.NXE = 0,
     * instructions may be fetched from any supervisor-mode address." */
    {false, SDM_FETCH, NO, ANY, ANY, ANY, ANY, NO, NOTHING},
    /* "For PAE paging or IA-32e paging with IA32_EFER.NXE = 1, [where] the XD flag (bit 63) is 0 in
     * every paging-structure entry" */
    {false, SDM_FETCH, NO, ANY, ANY, ANY, ANY, YES, XD_IN_NONE},
    /* "Instruction fetches from user-mode addresses. If CR4.SMEP = 0, [by paging mode and NXE, as
     * above]" */
    {false, SDM_FETCH, YES, ANY, ANY, ANY, NO, NO, NOTHING},
    {false, SDM_FETCH, YES, ANY, ANY, ANY, NO, YES, XD_IN_NONE},
    /* "If CR4.SMEP = 1, instructions may not be fetched from any user-mode address." */
    {false, SDM_FETCH, YES, ANY, ANY, ANY, YES, ANY, NEVER},
    /* "For user-mode accesses: Data reads. Data may be read from any user-mode address" */
    {true, SDM_READ, YES, ANY, ANY, ANY, ANY, ANY, NOTHING},
    /* "Data may not be read from any supervisor-mode address." */
    {true, SDM_READ, NO, ANY, ANY, ANY, ANY, ANY, NEVER},
    /* "Data writes. Data may be written to any user-mode address with a translation for which the R/W
     * flag is 1 in every paging-structure entry" */
    {true, SDM_WRITE, YES, ANY, ANY, ANY, ANY, ANY, RW_IN_ALL},
    /* "Data may not be written to any supervisor-mode address." */
    {true, SDM_WRITE, NO, ANY, ANY, ANY, ANY, ANY, NEVER},
    /* "Instruction fetches. [by paging mode and NXE, as above, from any user-mode address]" */
    {true, SDM_FETCH, YES, ANY, ANY, ANY, ANY, NO, NOTHING},
    {true, SDM_FETCH, YES, ANY, ANY, ANY, ANY, YES, XD_IN_NONE},
    /* "Instructions may not be fetched from any supervisor-mode address." */
    {true, SDM_FETCH, NO, ANY, ANY, ANY, ANY, ANY, NEVER},
};

static bool holds(enum when when, const struct sdm_state *state)
{
    switch (when) {
    case NXE_IS_0:
        return !state->nxe;
    case PSE36_IS_0:
        return !state->has_pse36;
    case PSE36_IS_1:
        return state->has_pse36;
    case NO_1G:
        return !state->has_1g;
    default:
        return true;
    }
}

static unsigned bit_number(unsigned number, const struct sdm_state *state)
{
    if (number == M) {
        return state->maxphyaddr;
    }
    if (number == M_LESS_19) {
        return (state->maxphyaddr < 40 ? state->maxphyaddr : 40) - 19;
    }
    return number;
}

static uint64_t reserved_bits(const struct sdm_state *state, unsigned level, bool maps_page)
{
    uint64_t reserved = 0;

    for (size_t i = 0; i < COUNT_OF(reserved_rows); i++) {
        const struct reserved_row *row = &reserved_rows[i];

        if ((row->modes >> state->mode & 1) == 0 || (row->levels >> level & 1) == 0 ||
            (row->only_if_ps && !maps_page) || !holds(row->when, state)) {
            continue;
        }
        for (unsigned bit = bit_number(row->low, state); bit <= bit_number(row->high, state);
             bit++) {
            reserved |= UINT64_C(1) << bit;
        }
    }
    return reserved;
}

static bool matches(enum side side, bool is)
{
    return side == ANY || (side == YES) == is;
}

/* The one row that is about this access. */
static enum need need_of(const struct sdm_rules *rules, bool user_address)
{
    const struct sdm_state *state = &rules->state;
    const struct sdm_access *access = &rules->access;
    const struct rights_row *found = NULL;

    for (size_t i = 0; i < COUNT_OF(rights_rows); i++) {
        const struct rights_row *row = &rights_rows[i];

        if (row->by_user == access->by_user && row->kind == access->kind &&
            matches(row->user_address, user_address) && matches(row->wp, state->wp) &&
            matches(row->smap, state->smap) &&
            matches(row->ac_and_explicit, access->ac && !access->is_implicit) &&
            matches(row->smep, state->smep) &&
            matches(row->xd_in_use, state->mode != SDM_32 && state->nxe)) {
            REQUIRE(found == NULL, "rows %zu and %zu", (size_t)(found - rights_rows), i);
            found = row;
        }
    }
    REQUIRE(found != NULL, "no row");
    return found->need;
}

static bool is_permitted(enum need need, bool rw_in_all, bool xd_in_any)
{
    switch (need) {
    case NOTHING:
        return true;
    case RW_IN_ALL:
        return rw_in_all;
    case XD_IN_NONE:
        return !xd_in_any;
    default:
        return false;
    }
}

/*
 * 4.6.2 "Protection Keys": "If ADi = 1, [...] data accesses to user-mode addresses with key i are not
 * permitted. If WDi = 1, write accesses: user-mode ones are not permitted, supervisor-mode ones are not
 * permitted if CR0.WP = 1." 4.7 has the same as condition of PK: "IA32_EFER.LMA = CR4.PKE = 1", "a data
 * access".
 */
static bool key_forbids(const struct sdm_rules *rules, unsigned key)
{
    const struct sdm_state *state = &rules->state;
    bool ad = (state->pkru & 1u << (2 * key)) != 0;
    bool wd = (state->pkru & 2u << (2 * key)) != 0;
    bool is_long = state->mode == SDM_4_LEVEL || state->mode == SDM_5_LEVEL;

    if (!is_long || !state->pke || rules->access.kind == SDM_FETCH) {
        return false;
    }
    return ad || (wd && rules->access.kind == SDM_WRITE && (rules->access.by_user || state->wp));
}

/* 4.7: what describes "the access causing the page-fault exception". */
static uint32_t error_code_of(const struct sdm_rules *rules)
{
    const struct sdm_state *state = &rules->state;
    bool pae = state->mode != SDM_32; /* CR4.PAE */
    uint32_t code = 0;

    if (rules->access.kind == SDM_WRITE) {
        code |= 1u << 1; /* W/R */
    }
    if (rules->access.by_user) {
        code |= 1u << 2; /* U/S */
    }
    /* "(1) the access [...] was an instruction fetch; and (2) either (a) CR4.SMEP = 1; or (b) both
     * (i) CR4.PAE = 1 [...]; and (ii) IA32_EFER.NXE = 1." */
    if (rules->access.kind == SDM_FETCH && (state->smep || (pae && state->nxe))) {
        code |= 1u << 4; /* I/D */
    }
    return code;
}

void sdm_rules(struct sdm_rules *rules, const struct sdm_state *state,
               const struct sdm_access *access)
{
    static const unsigned tops[] = {2, 3, 4, 5};

    *rules = (struct sdm_rules){.state = *state, .access = *access, .top = tops[state->mode]};
    for (unsigned level = 1; level <= rules->top; level++) {
        rules->reserved[level][0] = reserved_bits(state, level, false);
        rules->reserved[level][1] = reserved_bits(state, level, true);
    }
    for (unsigned i = 0; i < 8; i++) {
        enum need need = need_of(rules, (i & 4) != 0);

        rules->permitted[i >> 2][i >> 1 & 1][i & 1] =
            is_permitted(need, (i & 2) != 0, (i & 1) != 0);
    }
    for (unsigned key = 0; key < 16; key++) {
        rules->key_forbids[key] = key_forbids(rules, key);
    }
    rules->error_code = error_code_of(rules);
}

/* Does the entry map a page? 4.3: a PDE with PS "if CR4.PSE = 1"; 4.4.2, 4.5: a PDE, a PDPTE with PS. */
static bool maps_page(const struct sdm_rules *rules, unsigned level, uint64_t entry)
{
    if (level == 1) {
        return true;
    }
    if ((entry & PS) == 0 || level > 3) {
        return false;
    }
    if (level == 3) {
        return rules->state.mode != SDM_PAE && rules->state.has_1g;
    }
    return rules->state.mode != SDM_32 || rules->state.pse;
}

/* "The final physical address is computed as follows". */
static uint64_t final_address(const struct sdm_rules *rules, unsigned level, uint64_t entry,
                              uint64_t linear)
{
    bool is_32 = rules->state.mode == SDM_32;
    unsigned low = level == 1 ? 12 : level == 2 ? (is_32 ? 22 : 21) : 30;
    uint64_t address = linear & ((UINT64_C(1) << low) - 1);

    for (unsigned bit = low; bit < (is_32 ? 32 : rules->state.maxphyaddr); bit++) {
        address |= entry & UINT64_C(1) << bit;
    }
    if (is_32 && level == 2) { /* 4.3: "Bits 39:32 are bits 20:13 of the PDE." */
        for (unsigned bit = 13; bit <= 20; bit++) {
            address |= (entry >> bit & 1) << (bit - 13 + 32);
        }
    }
    return address;
}

static void fault(const struct sdm_rules *rules, uint32_t cause, struct sdm_answer *answer)
{
    answer->is_fault = true;
    answer->error_code = rules->error_code | cause;
}

/*
 * 4.8: "Whenever the processor uses a paging-structure entry as part of linear-address translation, it
 * sets the accessed flag in that entry"; 4.3: an entry without P or with a reserved bit "is used neither
 * to reference another paging-structure entry nor to map a page"; 6.15: with a protection violation the
 * flag of the entries above the page's "is set when the fault occurs", that of the page's is
 * model-specific. Here it is not.
 */
void sdm_walk(const struct sdm_rules *rules, uint64_t linear,
              const uint64_t entries[SDM_LEVELS + 1], struct sdm_answer *answer)
{
    bool user_address = true;
    bool rw_in_all = true;
    bool xd_in_any = false;
    bool is_page = false;

    *answer = (struct sdm_answer){0};
    for (unsigned level = 1; level <= rules->top; level++) {
        answer->entries[level] = entries[level];
    }
    for (unsigned level = rules->top; !is_page; level--) {
        uint64_t entry = entries[level];
        bool is_pdpte_of_pae = level == 3 && rules->state.mode == SDM_PAE;

        answer->level = level;
        if ((entry & P) == 0) {
            fault(rules, 0, answer);
            return;
        }
        is_page = maps_page(rules, level, entry);
        if ((entry & rules->reserved[level][is_page]) != 0) {
            fault(rules, 1u << 0 | 1u << 3, answer); /* P, RSVD */
            return;
        }
        if (!is_pdpte_of_pae) { /* 4.4.1: it has none of these flags */
            user_address = user_address && (entry & US) != 0;
            rw_in_all = rw_in_all && (entry & RW) != 0;
            xd_in_any = xd_in_any || (entry & XD) != 0;
        }
        if (!is_page && !is_pdpte_of_pae) {
            answer->entries[level] |= A;
        }
        if (is_page) {
            bool by_key = user_address && rules->key_forbids[entry >> 59 & 15];

            answer->address = final_address(rules, level, entry, linear);
            if (by_key || !rules->permitted[user_address][rw_in_all][xd_in_any]) {
                fault(rules, 1u << 0 | (by_key ? 1u << 5 : 0), answer); /* P, PK */
                return;
            }
            answer->entries[level] |= A | (rules->access.kind == SDM_WRITE ? D : 0);
        }
    }
}
