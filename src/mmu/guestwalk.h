/*
 * mmu/guestwalk.h - walking a guest's page tables: the one walker for all modes.
 *
 * Each entry is read once. It is present, or the walk ends; then it has no reserved bit, or the walk ends.
 * Rights gather on the way down, and are checked at the leaf alone. Flags are set by compare-and-swap in
 * guest memory, in the order in which processors set them: the accessed flag of an entry that leads to a
 * table before the next one is read, those of the leaf when all checks are done. So a walk that
 * faults has set the accessed flags above the entry that ended it, and no others (docs/paging.md has the
 * sources). An entry that changed meanwhile begins the walk anew.
 *
 * Source: Intel SDM 3A, 4.6 "Access Rights", 4.7 "Page-Fault Exceptions", 4.8 "Accessed and Dirty Flags".
 */
#ifndef MMU_GUESTWALK_H
#define MMU_GUESTWALK_H

#include "mmu/paging.h"

/*
 * Where tables lie. Physical addresses are the guest's: through EPT, or through slots. Both may leave guest
 * mode and come again; then they return GUESTMEM_AGAIN and the walk begins anew. They are asked for
 * addresses that the guest made up, anywhere below 2^52, but never for more than the entry's bytes.
 */
enum guestmem_result {
    GUESTMEM_OK,
    GUESTMEM_AGAIN,
    GUESTMEM_STOP, /* it cannot be: the caller knows why */
};
struct guestmem {
    /* Load an entry of 4 or 8 bytes, aligned. */
    enum guestmem_result (*load)(void *opaque, uint64_t gpa, unsigned size_bytes, uint64_t *value);
    /*
     * Replace it if it still is @expected; AGAIN if it is not. Tables that cannot be written may stay
     * as they are, with OK: flags that nobody can set do not stop a walk.
     */
    enum guestmem_result (*replace)(void *opaque, uint64_t gpa, unsigned size_bytes,
                                    uint64_t expected, uint64_t value);
    void *opaque;
};

enum guestwalk_flags {
    /* Without it guest memory is not written: KVM_TRANSLATE, explaining. */
    GUESTWALK_SET_FLAGS = 1u << 0,
};

struct guestwalk_request {
    uint64_t linear; /* canonical (paging_is_canonical()) */
    unsigned access; /* PAGING_ flags */
    unsigned flags;  /* GUESTWALK_ */
};

enum guestwalk_result {
    GUESTWALK_OK,
    GUESTWALK_FAULT, /* walk->error_code; CR2 is the linear address */
    GUESTWALK_STOP,  /* guestmem said so, at walk->entry_gpas[walk->depth] */
};

struct guestwalk {
    /*
     * Where it leads. With OK, and with a fault that is for want of rights: P is set in its error code,
     * and RSVD is not.
     */
    uint64_t gpa;        /* of the byte */
    unsigned level;      /* of the leaf; 0 without paging */
    unsigned page_shift; /* 12, 21, 22, 30 */
    unsigned rights;     /* PAGING_RIGHT_*, of all entries together */
    unsigned key;        /* protection key, if there are any */
    bool is_global;

    /* OK: the leaf's dirty flag is set, so that writes need not walk again. */
    bool is_dirty;

    uint32_t error_code; /* FAULT */

    /*
     * What was met: for who explains it, or shadows it. Levels level_count down to `depth` were come to;
     * all were read, but the last with STOP. With flags as they are now.
     */
    unsigned depth;
    uint64_t entries[PAGING_LEVELS_MAX + 1];
    uint64_t entry_gpas[PAGING_LEVELS_MAX + 1];  /* of PAE's top level: where its entry came from */
    uint8_t table_rights[PAGING_LEVELS_MAX + 1]; /* what entries above a level leave its table */
};

/* Translate for one access. *walk is written as a whole. */
enum guestwalk_result guest_walk(const struct paging *paging, const struct guestmem *memory,
                                 const struct guestwalk_request *request, struct guestwalk *walk);

#endif
