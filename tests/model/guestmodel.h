/*
 * model/guestmodel.h - a guest with page tables of its own, slow and obvious: its memory as bytes with
 * every value that an entry ever had, a walk out of the manual's tables, and, for each vCPU, when what
 * it may have cached was flushed last.
 *
 * What a processor may still hold is not kept but computed: each way down the tables by values that the
 * entries had at some moment since the flush that covers the linear page, each level by itself, since
 * upper entries may be cached apart from lower ones.
 *
 * Source: Intel SDM 3A, chapter 4, "Paging"; 4.10 "Caching Translation Information". Nothing here is taken
 * from the library.
 */
#ifndef MODEL_GUESTMODEL_H
#define MODEL_GUESTMODEL_H

#include "unit/sdm.h"

#include <guestmem/mmu.h>

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define GUEST_PAGE 4096u
#define GUEST_SLOTS 2u
#define GUEST_LOW_PAGES 64u                /* slot 0, from address 0 on */
#define GUEST_PAGES 96u                    /* slot 1 has the rest, */
#define GUEST_HIGH_GPA (UINT64_C(2) << 20) /* from here on */
#define GUEST_BYTES ((size_t)GUEST_PAGES * GUEST_PAGE)
#define GUEST_WORDS (GUEST_BYTES / 8)
#define GUEST_NOWHERE UINT64_MAX

#define GUEST_P (UINT64_C(1) << 0)
#define GUEST_RW (UINT64_C(1) << 1)
#define GUEST_US (UINT64_C(1) << 2)
#define GUEST_A (UINT64_C(1) << 5)
#define GUEST_D (UINT64_C(1) << 6)
#define GUEST_PS (UINT64_C(1) << 7)
#define GUEST_G (UINT64_C(1) << 8)
#define GUEST_XD (UINT64_C(1) << 63)

#define GUEST_CR0_WP (UINT64_C(1) << 16)
#define GUEST_CR0_PG (UINT64_C(1) << 31)
#define GUEST_CR3_KEEP (UINT64_C(1) << 63)
#define GUEST_CR4_PSE (UINT64_C(1) << 4)
#define GUEST_CR4_PAE (UINT64_C(1) << 5)
#define GUEST_CR4_PGE (UINT64_C(1) << 7)
#define GUEST_CR4_LA57 (UINT64_C(1) << 12)
#define GUEST_CR4_PCIDE (UINT64_C(1) << 17)
#define GUEST_CR4_SMEP (UINT64_C(1) << 20)
#define GUEST_CR4_SMAP (UINT64_C(1) << 21)
#define GUEST_CR4_PKE (UINT64_C(1) << 22)
#define GUEST_EFER_LMA (UINT64_C(1) << 10)
#define GUEST_EFER_NXE (UINT64_C(1) << 11)

/* ---- memory ---- */

/* The values of an aligned word, each from its time on. */
struct guest_history {
    unsigned count;
    unsigned capacity;
    struct {
        uint64_t since;
        uint64_t value;
    } values[];
};

struct guest_memory {
    uint8_t bytes[GUEST_BYTES];
    struct guest_history *histories[GUEST_WORDS]; /* NULL: always as it is now */
    bool is_there[GUEST_SLOTS];
    uint64_t now; /* grows with each write and flush */
};

void guest_memory_fini(struct guest_memory *memory);
/* Where in bytes[] an address is; GUEST_NOWHERE: in no slot, also of those that are gone for now. */
uint64_t guest_memory_offset(const struct guest_memory *memory, uint64_t gpa);
/* The same though the slot may be gone. */
uint64_t guest_memory_place(uint64_t gpa);
uint64_t guest_memory_gpa(uint64_t offset);
uint64_t guest_memory_load(const struct guest_memory *memory, uint64_t offset, unsigned size_bytes);
/* The aligned word gets a value, for all to see; or it had it for a moment only. */
void guest_memory_set_word(struct guest_memory *memory, uint64_t offset, uint64_t value);
void guest_memory_had_word(struct guest_memory *memory, uint64_t offset, uint64_t value);

/* Values of an entry that was there at @since or later: call until it returns false; @cursor begins as 0.
 * *end: until when it was there, UINT64_MAX for the present value. */
bool guest_memory_value(const struct guest_memory *memory, uint64_t offset, unsigned size_bytes,
                        uint64_t since, unsigned *cursor, uint64_t *value, uint64_t *end);

/* ---- vCPUs ---- */

#define GUEST_VCPUS 2u
#define GUEST_ROOTS 64u
#define GUEST_FLUSHES 512u
#define GUEST_PCIDS 128u
#define GUEST_VIEWS 3u
#define GUEST_KINDS 3u

/* What a PCID's translations began with. */
struct guest_root {
    unsigned pcid;
    uint64_t gpa;
    uint64_t pdptes[4]; /* PAE */
    uint64_t end;       /* until when CR3 held it; UINT64_MAX: it does */
};

/* INVLPG, or a page fault, which forgets its page likewise. */
struct guest_flush {
    uint64_t time;
    uint64_t linear;
    unsigned pcid;
    bool is_fault; /* does not reach other PCIDs' global translations */
};

struct guest_vcpu {
    struct gm_mmu_paging registers;
    bool is_paging;
    unsigned top; /* level; 0 without paging */
    unsigned entry_bytes;
    unsigned pcid;
    unsigned address_bits; /* MAXPHYADDR */
    struct sdm_rules rules[GUEST_KINDS][GUEST_VIEWS];
    struct guest_root roots[GUEST_ROOTS]; /* since all was flushed; the last set is [current] */
    unsigned root_count;
    unsigned current;
    uint64_t all_flushed;
    uint64_t pcid_flushed[GUEST_PCIDS];
    struct guest_flush flushes[GUEST_FLUSHES]; /* the newest of them, round */
    uint64_t flush_count;
};

/* Which of the architecture's promises are asked for. */
enum guest_promise {
    GUEST_PROMISE_LARGE = 1u << 0,  /* INVLPG forgets all of a large page */
    GUEST_PROMISE_GLOBAL = 1u << 1, /* INVLPG forgets global translations of other PCIDs */
    GUEST_PROMISE_FAULT = 1u << 2,  /* a page fault forgets its page */
    GUEST_PROMISE_PCID =
        1u << 3, /* a PCID's flushes are for all roots that it had; else it has one */
    GUEST_PROMISE_ALL = 15u,
};

struct guestmodel {
    struct guest_memory memory;
    struct guest_vcpu vcpus[GUEST_VCPUS];
    unsigned promises;
};

/* Registers are written, with all that this flushes. PAE: @pdptes are what memory has. */
void guest_vcpu_set(struct guestmodel *model, struct guest_vcpu *vcpu,
                    const struct gm_mmu_paging *registers);
/* What the top-level table's address is; PAE: of the PDPTEs. */
uint64_t guest_root_gpa(const struct gm_mmu_paging *registers);
/* May CR3 be written with these? GM_MMU_OK, GM_MMU_PROTECTION, GM_MMU_TABLE_LOST. */
enum gm_mmu_outcome guest_judge_registers(const struct guestmodel *model,
                                          const struct gm_mmu_paging *registers);
void guest_vcpu_flush(struct guestmodel *model, struct guest_vcpu *vcpu, uint64_t linear,
                      bool is_fault);
/* Do these registers read tables in the same way, and flush nothing but by CR3? */
bool guest_is_same_mode(const struct gm_mmu_paging *a, const struct gm_mmu_paging *b);
bool guest_is_pae(const struct gm_mmu_paging *registers);
/* Index bits of a level, and where they begin in the linear address. */
unsigned guest_index_bits(const struct guest_vcpu *vcpu, unsigned level);
unsigned guest_shift(const struct guest_vcpu *vcpu, unsigned level);
bool guest_is_canonical(const struct guest_vcpu *vcpu, uint64_t linear);

/* ---- walks ---- */

struct guest_step {
    uint64_t gpa;
    uint64_t value;
    uint64_t flags; /* A, D: that the walk sets */
};

/* By what is in memory at present. */
struct guest_walk {
    enum gm_mmu_outcome outcome; /* GM_MMU_OK, PAGE_FAULT, TABLE_LOST, PROTECTION */
    uint64_t gpa;                /* OK: of the byte; TABLE_LOST: of the entry */
    uint32_t error_code;
    uint64_t page_bytes;
    unsigned count;
    struct guest_step steps[SDM_LEVELS]; /* that lie in memory, from the top */
};

void guest_walk_now(const struct guestmodel *model, const struct guest_vcpu *vcpu,
                    enum gm_mmu_access kind, enum gm_mmu_view view, uint64_t linear,
                    struct guest_walk *walk);

#define GUEST_CANDIDATES 256u

/* Where a cached translation may lead, for this access: that of the byte; each once. */
struct guest_candidates {
    unsigned count;
    uint64_t gpas[GUEST_CANDIDATES];
};

void guest_walk_cached(const struct guestmodel *model, const struct guest_vcpu *vcpu,
                       enum gm_mmu_access kind, enum gm_mmu_view view, uint64_t linear,
                       struct guest_candidates *candidates);

#endif
