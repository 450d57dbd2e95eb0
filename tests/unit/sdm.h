/*
 * unit/sdm.h - x86 paging as Intel SDM 3A, chapter 4, has it in words: its lists and tables as rows of
 * tables, sentence by sentence. Slow, and knowing nothing of src/mmu.
 */
#ifndef UNIT_SDM_H
#define UNIT_SDM_H

#include <stdbool.h>
#include <stdint.h>

enum sdm_mode { SDM_32, SDM_PAE, SDM_4_LEVEL, SDM_5_LEVEL };

struct sdm_state {
    enum sdm_mode mode;
    bool wp;                   /* CR0 */
    bool pse, smep, smap, pke; /* CR4 */
    bool nxe;                  /* IA32_EFER */
    uint32_t pkru;
    unsigned maxphyaddr;
    bool has_pse36, has_1g; /* CPUID */
};

enum sdm_kind { SDM_READ, SDM_WRITE, SDM_FETCH };

struct sdm_access {
    enum sdm_kind kind;
    bool by_user; /* a user-mode access: CPL 3, and not implicit */
    bool is_implicit;
    bool ac; /* EFLAGS.AC */
};

/* Levels: 1 PTE, 2 PDE, 3 PDPTE, 4 PML4E, 5 PML5E. */
#define SDM_LEVELS 5

/* What the tables say for one state and one access. */
struct sdm_rules {
    struct sdm_state state;
    struct sdm_access access;
    unsigned top;
    uint64_t reserved[SDM_LEVELS + 1][2]; /* by level, and whether the entry maps a page */
    bool permitted[2][2][2]; /* user-mode address; R/W is 1 in all entries; XD is 1 in any */
    bool key_forbids[16];    /* of user-mode addresses */
    uint32_t error_code;     /* but for P, RSVD and PK */
};

struct sdm_answer {
    bool is_fault;
    uint32_t error_code;
    uint64_t address;
    unsigned level;                   /* where it ended */
    uint64_t entries[SDM_LEVELS + 1]; /* with flags as they are then */
};

void sdm_rules(struct sdm_rules *rules, const struct sdm_state *state,
               const struct sdm_access *access);

/* One access to @linear, whose translation uses these entries, by level. */
void sdm_walk(const struct sdm_rules *rules, uint64_t linear,
              const uint64_t entries[SDM_LEVELS + 1], struct sdm_answer *answer);

#endif
