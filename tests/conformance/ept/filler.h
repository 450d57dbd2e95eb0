/*
 * conformance/ept/filler.h - a software VM whose tables a random guest has filled: slots of each kind,
 * attributes, tracked frames, logs, and touches of all sorts.
 */
#ifndef CONFORMANCE_EPT_FILLER_H
#define CONFORMANCE_EPT_FILLER_H

#include "mmu/mmu.h"

#include "model/random.h"

#include <guestmem/soft.h>

#define FILLER_SLOTS 16u
#define FILLER_TOUCHES 1200u
#define FILLER_TRACKED 12u

struct filler_options {
    unsigned levels;
    unsigned gpa_bits;
    bool execute_only; /* pages may be that */
    bool large_1g;     /* leaves may be that */
    bool stale_mmio; /* slots change after the last touch, so that MMIO entries are of older ones */
};

struct filler {
    struct filler_options options;
    struct rnd *rnd;
    uint8_t *memory; /* FILLER_MEMORY_BYTES, aligned to 1 GiB */
    void *reserved;  /* of which memory is a part */
    size_t reserved_bytes;
    struct gm_soft *soft;
    struct gm_soft_vcpu *vcpu;
    struct gm_soft_slot slots[FILLER_SLOTS];
    unsigned slot_count;
    uint64_t window_gpa; /* nothing is, or was touched, in the GiB from here on */
    gm_gpa_t touched[FILLER_TOUCHES];
    gm_gpa_t tracked[FILLER_TRACKED];
};

/* Failures end the program. */
void filler_init(struct filler *filler, struct rnd *rnd, const struct filler_options *options);
void filler_fini(struct filler *filler);

struct mmu *filler_mmu(struct filler *filler);
struct mmu_vcpu *filler_vcpu(struct filler *filler);

/* An address to ask for, a multiple of 8: mostly near what was touched. */
gm_gpa_t filler_pick(struct filler *filler);

#endif
