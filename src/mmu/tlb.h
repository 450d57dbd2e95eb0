/*
 * mmu/tlb.h - filling and emptying a vCPU's TLB; looking it up is inlined in <guestmem/mmu.h>.
 *
 * Entries are tagged: a tag for each space of physical addresses, and one for each context and view of
 * linear ones (linear.h). To forget what a tag stands for the vCPU takes a new one in its place, and only
 * when tags run out all entries are cleared. All on the vCPU's thread.
 */
#ifndef MMU_TLB_H
#define MMU_TLB_H

#include "mmu/mmu.h"

#define TLB_TAGS GM_TLB_NO_TAG /* 0 to 4093; the all-ones word is GM_TLB_NONE */

int tlb_init(struct mmu_vcpu *vcpu);
void tlb_fini(struct mmu_vcpu *vcpu);

/* The page of @address is at @host, with these EPT rights: EPT_WRITE only where nobody needs to see the
 * write. @tag: of the physical space, or of a view. */
void tlb_fill(struct mmu_vcpu *vcpu, uint64_t tag, uint64_t address, const void *host,
              uint64_t rights);

/* An entry of a linear address comes from a guest's page of that size, above 4 KiB: INVLPG of any part of it forgets
 * all parts (Intel SDM 3A, 4.10.2.3). */
void tlb_note_large(struct mmu_vcpu *vcpu, uint64_t linear, unsigned page_shift);

void tlb_flush_space(struct mmu_vcpu *vcpu, unsigned space);
void tlb_flush_page(struct mmu_vcpu *vcpu, unsigned space, struct gfn gfn);

/* Linear addresses: forget a page, in all views and contexts, since it may be global; the present context; all of
 * them. */
void tlb_flush_linear_page(struct mmu_vcpu *vcpu, uint64_t linear);
void tlb_flush_context(struct mmu_vcpu *vcpu);
void tlb_flush_linear(struct mmu_vcpu *vcpu);

/* The space or the context is another now: its tags are the ones to look up. */
void tlb_publish_tags(struct mmu_vcpu *vcpu);

/* Forget what takers have appended to the VM's flush log. As guest mode begins. */
void tlb_replay(struct mmu_vcpu *vcpu);

#endif
