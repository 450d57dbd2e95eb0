/*
 * mmu/reclaim.h - table pages for a vCPU's faults, within the VM's limit.
 */
#ifndef MMU_RECLAIM_H
#define MMU_RECLAIM_H

#include "mmu/mmu.h"

/*
 * Fill the vCPU's stock of table pages. If linked pages have come to the limit, tables that were not
 * used lately are taken out first; what they mapped is faulted in again. The limit may be exceeded by
 * one stock for each vCPU.
 * Context: out of guest mode, no locks. Return: 0; -ENOMEM.
 */
int reclaim_make_room(struct mmu_vcpu *vcpu);

/* Take out tables until at most @page_count are linked, or only roots and what leads to leaves that
 * cannot be less. */
void reclaim_down_to(struct mmu *mmu, uint64_t page_count);

#endif
