/*
 * mmu/access.h - an access by guest physical address: its parts, and how each page answers.
 */
#ifndef MMU_ACCESS_H
#define MMU_ACCESS_H

#include "mmu/mmu.h"

/* Cut an access into its pages' parts. It becomes the one under way. */
void mmu_access_begin(struct mmu_vcpu *vcpu, enum gm_mmu_access kind, uint64_t gpa,
                      unsigned size_bytes);

/*
 * Find out how all pages answer, by TLB, tables and faults.
 * Return: GM_MMU_OK: all parts are settled, at one moment, and guest mode has lasted since. Others: out of
 * guest mode; nothing has happened.
 */
enum gm_mmu_outcome mmu_access_settle(struct mmu_vcpu *vcpu);

bool mmu_access_has(const struct access *access, enum part_kind kind);

/* The write under way has been made: pages that are tracked are marked. In guest mode, or as the taker. */
void mmu_access_mark_tracked(struct mmu_vcpu *vcpu);

/* ... and their trackers told. Out of guest mode, no locks. */
void mmu_access_tell_trackers(struct mmu_vcpu *vcpu);

/* Settled, a write, its bytes in place: do it. Return: as gm_mmu_store(). */
enum gm_mmu_outcome mmu_access_write(struct mmu_vcpu *vcpu);

/* Slots have changed since the instruction began. Return: GM_MMU_RESTART. */
enum gm_mmu_outcome mmu_access_restart(struct mmu_vcpu *vcpu, const struct access_part *part);

/* Leave guest mode with an error. Return: GM_MMU_ERROR. */
enum gm_mmu_outcome mmu_access_fail(struct mmu_vcpu *vcpu, int error);

#endif
