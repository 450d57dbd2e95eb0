/*
 * mmu/paging.h - how a guest's processor translates linear addresses, as data: its mode, the shape and
 * reserved bits of each level, and which rights each kind of access needs. Computed once when control
 * registers change; the walker (guestwalk.h) has no mode of its own. docs/paging.md has it as tables.
 *
 * Source: Intel SDM 3A, chapter 4 "Paging"; AMD APM 2, chapter 5.
 */
#ifndef MMU_PAGING_H
#define MMU_PAGING_H

#include <stdbool.h>
#include <stdint.h>

enum paging_mode {
    PAGING_NONE, /* CR0.PG = 0: linear addresses are physical ones */
    PAGING_32,   /* 2 levels of 4-byte entries */
    PAGING_PAE,  /* 4 PDPTEs in the processor, then 2 levels of 8-byte entries */
    PAGING_4,    /* 4 levels */
    PAGING_5,    /* 5 levels */
};

/* What decides. Architectural registers, and what CPUID says the processor has. */
struct paging_state {
    uint64_t cr0; /* PG, WP */
    uint64_t cr3;
    uint64_t cr4;  /* PSE, PAE, PGE, LA57, SMEP, SMAP, PKE */
    uint64_t efer; /* LMA, NXE */
    uint32_t pkru;
    uint8_t maxphyaddr; /* physical-address width: 32 to 52, and taken as the nearest of these */
    bool has_1g_pages;
    bool has_pse36;      /* 4 MiB pages above 4 GiB: PAT bits 13 to 20 are address bits 32 to 39 */
    bool reserves_bit_8; /* AMD: in entries of levels 4 and 5 it must be 0; Intel ignores it */
};

/* How an access is made: what the walker checks rights against. */
enum paging_access_flags {
    PAGING_WRITE = 1u << 0,
    PAGING_FETCH = 1u << 1, /* no data access: PAGING_WRITE says nothing then */
    PAGING_USER = 1u << 2,  /* CPL 3, and not an implicit supervisor access */
    PAGING_AC = 1u << 3,    /* EFLAGS.AC is set, and the access is explicit: SMAP does not apply */
    PAGING_ACCESS_KINDS = 1u << 4,
};

/* A page-fault error code's bits (SDM 3A 4.7). */
#define PAGING_ERROR_PRESENT (1u << 0)
#define PAGING_ERROR_WRITE (1u << 1)
#define PAGING_ERROR_USER (1u << 2)
#define PAGING_ERROR_RESERVED (1u << 3)
#define PAGING_ERROR_FETCH (1u << 4)
#define PAGING_ERROR_KEY (1u << 5)

/* Bits of entries. */
#define PAGING_PRESENT (UINT64_C(1) << 0)
#define PAGING_WRITABLE (UINT64_C(1) << 1)
#define PAGING_FOR_USER (UINT64_C(1) << 2)
#define PAGING_ACCESSED (UINT64_C(1) << 5)
#define PAGING_DIRTY (UINT64_C(1) << 6)
#define PAGING_LARGE (UINT64_C(1) << 7)
#define PAGING_GLOBAL (UINT64_C(1) << 8)
#define PAGING_KEY_SHIFT 59u
#define PAGING_KEY_MASK 0xfu
#define PAGING_NO_EXECUTE (UINT64_C(1) << 63)

#define PAGING_LEVELS_MAX 5u
#define PAGING_PDPTE_COUNT 4u

/* One level, 1 for the tables whose entries map 4 KiB pages. */
struct paging_level {
    uint8_t shift;      /* of the index in the linear address */
    uint8_t index_bits; /* 10, 9, or 2 for PAE's PDPTEs */
    bool may_be_large;  /* PAGING_LARGE makes a leaf */
    /* Bits that must be 0: of an entry that leads to a table; of one that maps a page. */
    uint64_t reserved;
    uint64_t reserved_leaf;
};

struct paging {
    enum paging_mode mode;
    uint8_t level_count;
    uint8_t entry_bytes;   /* 4 or 8 */
    uint8_t linear_bits;   /* 32, 48, 57: canonical above that */
    bool has_flags_at_top; /* false for PAE: PDPTEs have no accessed flag and no rights */
    struct paging_level levels[PAGING_LEVELS_MAX + 1]; /* by level; [0] is unused */
    uint64_t root;                                     /* physical address of the top table */
    uint64_t pdptes[PAGING_PDPTE_COUNT]; /* PAE: loaded at the write of CR3, not re-read */
    uint64_t address_mask;               /* an entry's bits that are an address: up to MAXPHYADDR */
    bool global_pages;                   /* CR4.PGE */
    bool keys;                           /* CR4.PKE, in long mode */
    bool write_protect;                  /* CR0.WP */
    uint32_t pkru; /* may be stored when it changes: nothing else is computed from it */
    /*
     * Rights of a page (PAGING_RIGHT_*, together 0 to 7) that an access of these PAGING_ flags may
     * have: bit N of allowed[flags] is set if rights N do. Keys come on top.
     */
    uint8_t allowed[PAGING_ACCESS_KINDS];
    /* What each access puts into an error code, whatever the cause is: W/R, U/S, I/D. */
    uint8_t errors[PAGING_ACCESS_KINDS];
};

#define PAGING_RIGHT_WRITE (1u << 0)
#define PAGING_RIGHT_USER (1u << 1)
#define PAGING_RIGHT_EXECUTE (1u << 2)
#define PAGING_RIGHTS_ALL 7u

/* Fill in everything but the PDPTEs. Any register value is taken. */
void paging_compute(struct paging *paging, const struct paging_state *state);

/* The mode that registers select: nothing else decides it. */
enum paging_mode paging_mode_of(const struct paging_state *state);

/* Only CR3 and PKRU are others than what was computed. */
void paging_set_root(struct paging *paging, const struct paging_state *state);

/* Are these PDPTEs what CR3 may be written with? (#GP otherwise.) */
bool paging_pdptes_are_valid(const struct paging *paging,
                             const uint64_t pdptes[PAGING_PDPTE_COUNT]);

/* Is the linear address canonical? Otherwise the access is #GP or #SS, never a page fault. */
bool paging_is_canonical(const struct paging *paging, uint64_t linear);

/*
 * May an access of PAGING_ flags be made to a page of these rights and this key? 0, or the error code
 * of its page fault. A TLB asks this of what it holds; the walker, of the leaf.
 */
uint32_t paging_refusal(const struct paging *paging, unsigned access, unsigned rights,
                        unsigned key);

/* The rights that one entry leaves. Those of a page are what all entries on the way there leave. */
static inline unsigned paging_entry_rights(uint64_t entry)
{
    return ((entry & PAGING_WRITABLE) != 0 ? PAGING_RIGHT_WRITE : 0) |
           ((entry & PAGING_FOR_USER) != 0 ? PAGING_RIGHT_USER : 0) |
           ((entry & PAGING_NO_EXECUTE) == 0 ? PAGING_RIGHT_EXECUTE : 0);
}

/* Does the entry of this level map a page, and lead to no table? It is present. */
static inline bool paging_is_leaf(const struct paging *paging, unsigned level, uint64_t entry)
{
    return level == 1 || (paging->levels[level].may_be_large && (entry & PAGING_LARGE) != 0);
}

#endif
