/*
 * mmu/access.h - an access by guest physical address: its parts, and how each page answers.
 */
#ifndef MMU_ACCESS_H
#define MMU_ACCESS_H

#include "mmu/mmu.h"

/* Cut an access into its pages' parts. It becomes the one under way. */
void mmu_access_begin(struct mmu_vcpu *vcpu, enum gm_mmu_access kind, uint64_t gpa,
                      unsigned size_bytes);

/* The same by linear address. */
void mmu_access_begin_linear(struct mmu_vcpu *vcpu, enum gm_mmu_access kind, enum gm_mmu_view view,
                             uint64_t linear, unsigned size_bytes);

/*
 * Find out how all pages answer, by TLB, tables and faults.
 * Return: GM_MMU_OK: all parts are settled, at one moment, and guest mode has lasted since. Others: out of
 * guest mode; nothing has happened.
 */
enum gm_mmu_outcome mmu_access_settle(struct mmu_vcpu *vcpu);

bool mmu_access_has(const struct access *access, enum part_kind kind);

/* The write of one part, of a tracked page, has been made: it is marked, in guest mode or as the taker; its
 * tracker told, out of guest mode, with no locks. */
void mmu_access_mark_part(struct mmu_vcpu *vcpu, const struct access_part *part);
void mmu_access_tell_part(struct mmu_vcpu *vcpu, const struct access_part *part);

/* Compare and exchange 1, 2, 4 or 8 aligned bytes of host memory. *expected gets what was there. */
void mmu_exchange_aligned(void *host, unsigned size_bytes, uint64_t *expected, uint64_t desired);

/* The write under way is about to be made. Followed by mmu_access_tell_trackers(). */
void mmu_access_begin_tracked(struct mmu_vcpu *vcpu);

/* The write under way has been made: pages that are tracked are marked. In guest mode, or as the taker. */
void mmu_access_mark_tracked(struct mmu_vcpu *vcpu);

/* ... and their trackers told. Out of guest mode, no locks. */
void mmu_access_tell_trackers(struct mmu_vcpu *vcpu);

/* Settled, a write, its bytes in place: do it. Return: as gm_mmu_store(). */
enum gm_mmu_outcome mmu_access_write(struct mmu_vcpu *vcpu);

/*
 * Find out how the page of part->gpa answers to one kind of access: of the access under way, or of an entry of the
 * guest's tables. SETTLED: part->kind and, for memory, part->host; *rights, may be NULL, of the EPT's leaf.
 */
enum settled mmu_access_settle_page(struct mmu_vcpu *vcpu, struct access_part *part,
                                    enum gm_mmu_access kind, uint64_t *rights);

/* Leave guest mode, and say why. Return: ENDED. */
enum settled mmu_access_end(struct mmu_vcpu *vcpu, enum gm_mmu_outcome outcome,
                            const struct access_part *part);

/* Guest mode was left: let those on who wait for the vCPU, or kick it, and try all parts anew. */
enum settled mmu_access_come_again(struct mmu_vcpu *vcpu, const struct access_part *part);

/* Leave guest mode with an error. Return: GM_MMU_ERROR. */
enum gm_mmu_outcome mmu_access_fail(struct mmu_vcpu *vcpu, int error);

#endif
