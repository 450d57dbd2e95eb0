/*
 * x86/breakpoint.h - the breakpoints of DR0 to DR3 (Intel SDM 3B, 17.2 and 17.3.1): the guest's, or, instead of them,
 * the VMM's. While one is switched on each instruction is run by itself, and none of its accesses hits the TLB.
 *
 * Accesses that the processor makes for itself (descriptor tables, the TSS) meet none.
 */
#ifndef X86_BREAKPOINT_H
#define X86_BREAKPOINT_H

#include "x86/insn.h"

/* The debug registers that count: the guest's, or the VMM's. */
const uint64_t *breakpoint_registers(const struct x86_vcpu *vcpu);

/* Is one switched on in them? */
bool breakpoint_is_any(const struct x86_vcpu *vcpu);

/* Before the instruction at rip. STEP_FAULT: #DB. STEP_EXIT: it is the VMM's. STEP_NEXT: go on. */
enum step breakpoint_before(struct x86_vcpu *vcpu);

/* The present instruction has accessed memory, or a port: what it meets is in vcpu->met from here on. */
void breakpoint_note_memory(struct x86_vcpu *vcpu, uint64_t linear, unsigned size, bool is_write);
void breakpoint_note_port(struct x86_vcpu *vcpu, uint16_t port, unsigned size);

/* An instruction, or a delivery, is complete. STEP_NEXT: #DB is waiting, if one was met; STEP_EXIT: the VMM's was. */
enum step breakpoint_after(struct x86_vcpu *vcpu);

#endif
