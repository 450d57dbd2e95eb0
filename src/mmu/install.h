/*
 * mmu/install.h - putting an entry into the tables, as one installer among many.
 */
#ifndef MMU_INSTALL_H
#define MMU_INSTALL_H

#include "mmu/mmu.h"

enum install_result {
    INSTALL_DONE,        /* an entry is new or has more rights */
    INSTALL_SPURIOUS,    /* it was there */
    INSTALL_NEEDS_TABLE, /* the vCPU's stock of table pages is empty */
};

/* A leaf for a page of a slot. */
struct leaf {
    struct gfn gfn;
    unsigned level; /* at most; lower where a table is in the way */
    uint64_t entry; /* with its rights and flags, for the 4 KiB page of gfn: as if at level 1 */
};

/*
 * Make sure that the leaf, with at least its rights, is in the tree. A larger leaf in its place gets
 * the rights, or is split if it is above @leaf->level.
 * Context: installer of the vCPU.
 */
enum install_result install_leaf(struct mmu_vcpu *vcpu, const struct leaf *leaf);

/* The frame is no slot's, as of the slots of @generation (mmu_generation()). */
enum install_result install_mmio(struct mmu_vcpu *vcpu, struct gfn gfn, uint64_t generation);

/*
 * The entries of a table that maps what a large leaf of @level does. The table's entry has all rights: if it
 * comes to where a leaf with EPT_WRITE was, all of its own have that, too.
 * Context: @entries is not linked yet.
 */
void split_into(uint64_t *entries, uint64_t leaf, unsigned level);

#endif
