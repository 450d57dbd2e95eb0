/*
 * mmu/tlb.h - filling and emptying a vCPU's TLB; looking it up is inlined in <guestmem/mmu.h>.
 *
 * Entries are tagged, with one tag for each address space; to forget a space's entries the vCPU takes
 * a new tag for it, and only when tags run out all entries are cleared. All on the vCPU's thread.
 */
#ifndef MMU_TLB_H
#define MMU_TLB_H

#include "mmu/mmu.h"

#define TLB_TAGS 4095u /* 0 to 4094: the all-ones word is GM_TLB_NONE */

int tlb_init(struct mmu_vcpu *vcpu);
void tlb_fini(struct mmu_vcpu *vcpu);

/* The page of @gpa is at @host, with these EPT rights: EPT_WRITE only where nobody needs to see the
 * write. For the vCPU's present space. */
void tlb_fill(struct mmu_vcpu *vcpu, uint64_t gpa, const void *host, uint64_t rights);

void tlb_flush_space(struct mmu_vcpu *vcpu, unsigned space);
void tlb_flush_page(struct mmu_vcpu *vcpu, unsigned space, struct gfn gfn);

/* Forget what takers have appended to the VM's flush log. As guest mode begins. */
void tlb_replay(struct mmu_vcpu *vcpu);

#endif
