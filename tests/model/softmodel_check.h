/*
 * model/softmodel_check.h - the library's tables, TLBs and look-ups against the model's dictionary.
 */
#ifndef MODEL_SOFTMODEL_CHECK_H
#define MODEL_SOFTMODEL_CHECK_H

#include "model/softmodel.h"
#include "model/softmodel_host.h"

#include <guestmem/soft.h>

#define SOFTCHECK_VCPUS 2u

struct kcore;
struct mmu;

/* Host memory that nothing may lead to just now. */
struct softcheck_range {
    uint64_t hva;
    uint64_t size_bytes;
};

struct softcheck_vcpu {
    struct gm_soft_vcpu *vcpu;
    struct gm_mmu *mmu;
    unsigned space;
};

struct softcheck {
    struct gm_soft *soft;
    struct softmodel *model;
    struct softhost *host;
    bool is_audited; /* audits run as well, in builds that have them */
    bool log_buffer; /* writes are seen by dirty flags; else by protection */
    struct softcheck_vcpu vcpus[SOFTCHECK_VCPUS];
    struct softcheck_range forbidden[2];
    unsigned forbidden_count;

    /* What the look at the tables goes by, and finds. */
    unsigned space;          /* that is looked at */
    uint64_t leaves[4];      /* by level */
    uint64_t leaves_seen[4]; /* in all looks */
    uint64_t mmio_seen;      /* entries for MMIO */
    uint64_t tlb_seen;       /* usable TLB entries */
    /* This frame of this space has just been accessed: its leaf says so. */
    bool has_touched;
    bool has_written;
    unsigned touched_space;
    uint64_t touched_frame;
    /* Ageing: pages of leaves that map this range and have the accessed flag. */
    struct softcheck_range aged;
    uint64_t aged_pages;
};

/* All tables of all spaces; audits them in builds that can. */
void softcheck_tables(struct softcheck *check);

/* What a vCPU's TLB would let it do. Enters and leaves guest mode. */
void softcheck_tlb(struct softcheck *check, const struct softcheck_vcpu *vcpu);

/* gm_soft_find() and gm_soft_find_hva() of one place. */
void softcheck_find(struct softcheck *check, unsigned space, uint64_t gpa);

#endif
