/*
 * soft/events.h - what the interrupt chips have for a vCPU, taken in KVM_RUN; its accesses to them; and its sleep while there is
 * nothing for it to do. Of a VM with chips.
 */
#ifndef SOFT_EVENTS_H
#define SOFT_EVENTS_H

#include "soft/soft.h"

/*
 * Take what is there, as far as the vCPU can: INIT, SIPI, an NMI, an interrupt, which is delivered before the next instruction. An
 * interrupt that it cannot have yet makes it come out (X86_EXIT_IRQ_WINDOW) as soon as it can.
 */
void events_take(struct gm_soft_vcpu *vcpu);

/* Is there an instruction, or an event's delivery, to run? Else it waits. */
bool events_can_run(const struct gm_soft_vcpu *vcpu);

/* The port or MMIO access that the interpreter came out with: is it the chips', an eventfd's or a zone's? Then it is done. */
bool events_answer(struct gm_soft_vcpu *vcpu, enum x86_exit exit);

#endif
