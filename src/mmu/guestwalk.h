/*
 * mmu/guestwalk.h - walking a guest's page tables: the one walker for all modes.
 *
 * Rights gather on the way down; they are checked at the leaf alone, as processors do. Accessed and dirty
 * flags are set by compare-and-swap in guest memory, from the top down, after all checks, as a walk
 * that faults sets none (SDM 3A 4.8 permits either; TCG and hardware set accessed flags of the entries
 * that were used, see the table in docs/paging.md). An entry that changed meanwhile begins the walk anew.
 *
 * Source: Intel SDM 3A, 4.6 "Access Rights", 4.7 "Page-Fault Exceptions", 4.8 "Accessed and Dirty Flags".
 */
#ifndef MMU_GUESTWALK_H
#define MMU_GUESTWALK_H

#include "mmu/paging.h"

/*
 * Where tables lie. Physical addresses are the guest's: through EPT, or through slots. Both may leave guest
 * mode and come again; then they return GUESTMEM_AGAIN and the walk begins anew.
 */
enum guestmem_result {
    GUESTMEM_OK,
    GUESTMEM_AGAIN,
    GUESTMEM_STOP, /* it cannot be: the caller knows why */
};
struct guestmem {
    /* Load an entry of 4 or 8 bytes, aligned. */
    enum guestmem_result (*load)(void *opaque, uint64_t gpa, unsigned size_bytes, uint64_t *value);
    /* Replace it if it still is *expected, which otherwise gets what is there: then AGAIN. */
    enum guestmem_result (*replace)(void *opaque, uint64_t gpa, unsigned size_bytes,
                                    uint64_t expected, uint64_t value);
    void *opaque;
};

enum guestwalk_result {
    GUESTWALK_OK,
    GUESTWALK_FAULT, /* walk->error_code; CR2 is the linear address */
    GUESTWALK_STOP,  /* guestmem said so, at walk->table_gpa */
};

struct guestwalk {
    uint64_t gpa;        /* of the byte */
    unsigned level;      /* of the leaf */
    unsigned page_shift; /* 12, 21, 22, 30 */
    unsigned rights;     /* PAGING_RIGHT_*, of all entries together */
    unsigned key;        /* protection key, if there are any */
    bool is_dirty;       /* the leaf's dirty flag is set: writes need not walk again */
    bool is_global;
    uint32_t error_code;
    /* What was met, for who explains it: entries by level, and where they lie. */
    unsigned depth; /* levels level_count down to this were read */
    uint64_t entries[PAGING_LEVELS_MAX + 1];
    uint64_t entry_gpas[PAGING_LEVELS_MAX + 1];
    uint64_t table_gpa; /* STOP: of the entry */
};

enum guestwalk_flags {
    GUESTWALK_SET_FLAGS =
        1u << 0, /* without, guest memory is not written (KVM_TRANSLATE, explaining) */
};

/*
 * Translate @linear for an access of PAGING_ flags. A canonical address (paging_is_canonical()).
 */
enum guestwalk_result guest_walk(const struct paging *paging, const struct guestmem *memory,
                                 uint64_t linear, unsigned access, unsigned flags,
                                 struct guestwalk *walk);

#endif
