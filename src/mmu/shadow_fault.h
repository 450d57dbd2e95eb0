/*
 * mmu/shadow_fault.h - a linear access by shadow tables: the processor's walk, and what KVM does where it finds no
 * right.
 */
#ifndef MMU_SHADOW_FAULT_H
#define MMU_SHADOW_FAULT_H

#include "mmu/mmu.h"

/*
 * Settle a part of the access under way, which is linear, with paging on. Its physical address is only
 * known where the part is no plain memory. Context: guest mode.
 */
enum settled shadow_settle(struct mmu_vcpu *vcpu, struct access_part *part);

#endif
