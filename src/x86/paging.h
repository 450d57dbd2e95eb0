/*
 * x86/paging.h - telling the mmu of control registers.
 */
#ifndef X86_PAGING_H
#define X86_PAGING_H

#include "x86/insn.h"

/*
 * Tell it of these instead of those that are in the vCPU; the caller commits them afterwards.
 * Return: STEP_NEXT; STEP_FAULT: PDPTEs are not valid, #GP; STEP_OUTCOME.
 */
enum step paging_set(struct x86_vcpu *vcpu, uint64_t cr0, uint64_t cr3, uint64_t cr4, uint64_t efer,
                     uint32_t pkru);

/* Tell it of those that are in the vCPU. Return: as above. */
enum step paging_tell(struct x86_vcpu *vcpu);

#endif
