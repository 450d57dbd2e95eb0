/*
 * x86/event.h - exceptions and interrupts: their delivery through IVT and IDT.
 */
#ifndef X86_EVENT_H
#define X86_EVENT_H

#include "x86/insn.h"

/*
 * Deliver vcpu->event. A fault on the way becomes the event: as it is, as a double fault, or the end.
 * Return: STEP_NEXT: delivered. STEP_FAULT: vcpu->event is another now: deliver that. STEP_OUTCOME, and
 * STEP_EXIT with X86_EXIT_SHUTDOWN: vcpu->event is as it was.
 */
enum step event_deliver(struct x86_vcpu *vcpu);

/* What DR6 says of a debug exception (Intel SDM 3B, 17.2.3): these bits, and no other breakpoint. */
void event_note_debug(struct x86_vcpu *vcpu, uint64_t bits);
/* ... which is a trap: it follows the present instruction. */
void event_trap_debug(struct x86_vcpu *vcpu, uint64_t bits);
/* The trap of a single step. */
void event_trap_step(struct x86_vcpu *vcpu);

#endif
