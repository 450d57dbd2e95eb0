/*
 * mmu/paging.h - how a guest's processor translates linear addresses, as data: its mode, the shape and
 * reserved bits of each level, and which rights each kind of access needs. Computed once when control
 * registers change; the walker (guestwalk.h) has no mode of its own.
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
    uint64_t cr4;  /* PSE, PAE, LA57, SMEP, SMAP, PKE, PGE, PCIDE */
    uint64_t efer; /* LMA, NXE */
    uint32_t pkru;
    uint8_t maxphyaddr; /* physical-address width: 32 to 52 */
    bool has_1g_pages;
    bool has_pse36; /* 4 MiB pages above 4 GiB: PAT bits 13 to 20 are address bits 32 to 39 */
};

/* How an access is made: what the walker checks rights against. */
enum paging_access_flags {
    PAGING_WRITE = 1u << 0,
    PAGING_FETCH = 1u << 1,
    PAGING_USER = 1u << 2, /* CPL 3, and not an implicit supervisor access */
    PAGING_AC = 1u << 3,   /* EFLAGS.AC is set, and the access is explicit: SMAP does not apply */
    PAGING_ACCESS_KINDS = 1u << 4,
};

/* A page-fault error code's bits (SDM 3A 4.7), which are also an index into `allowed`, less P. */
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
#define PAGING_NO_EXECUTE (UINT64_C(1) << 63)

#define PAGING_LEVELS_MAX 5u

/* One level, 1 for the tables whose entries map 4 KiB pages. */
struct paging_level {
    uint8_t shift;      /* of the index in the linear address */
    uint8_t index_bits; /* 10, 9, or 2 for PAE's PDPTEs */
    bool may_be_large;  /* PAGING_LARGE makes a leaf */
    /* Bits that must be 0: of an entry that leads to a table, or maps 4 KiB; of a large leaf. */
    uint64_t reserved;
    uint64_t reserved_large;
};

struct paging {
    enum paging_mode mode;
    uint8_t level_count;
    uint8_t entry_bytes;   /* 4 or 8 */
    bool has_flags_at_top; /* false for PAE: PDPTEs have no accessed flag and no rights */
    struct paging_level levels[PAGING_LEVELS_MAX + 1]; /* by level; [0] is unused */
    uint64_t root;                                     /* physical address of the top table */
    uint64_t pdptes[4];    /* PAE: loaded at the write of CR3, not re-read */
    uint64_t address_mask; /* of an 8-byte entry's address bits: MAXPHYADDR */
    bool pse36;
    bool keys;          /* CR4.PKE, in long mode */
    bool write_protect; /* CR0.WP */
    uint32_t pkru;
    uint8_t linear_bits; /* 32, 48, 57: canonical above that */
    /*
     * Rights of a page (bit 0 writable, 1 for user, 2 executable; together 0 to 7) that an access of
     * these PAGING_ flags may have: bit N of allowed[flags] is set if rights N do. Keys come on top.
     */
    uint8_t allowed[PAGING_ACCESS_KINDS];
};

#define PAGING_RIGHT_WRITE (1u << 0)
#define PAGING_RIGHT_USER (1u << 1)
#define PAGING_RIGHT_EXECUTE (1u << 2)

/* Fill in everything but the PDPTEs. Any register value is taken. */
void paging_compute(struct paging *paging, const struct paging_state *state);

/* Are these PDPTEs what CR3 may be written with? (#GP otherwise.) */
bool paging_pdptes_are_valid(const struct paging *paging, const uint64_t pdptes[4]);

/* Is the linear address canonical? Otherwise the access is #GP or #SS, never a page fault. */
bool paging_is_canonical(const struct paging *paging, uint64_t linear);

#endif
