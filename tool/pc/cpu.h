/*
 * pc/cpu.h - the machine's processor on either KVM, with the interrupt controllers and the timer that
 * KVM provides, and the loop that runs it to the end.
 */
#ifndef TOOL_PC_CPU_H
#define TOOL_PC_CPU_H

#include "pc/board.h"

/* How long a guest has to be idle before the run ends. */
#define CPU_IDLE_END_MS 1000

/* Make what KVM provides: PICs, IOAPIC, local APIC, PIT. Before cpu_new(). 0 or -errno. */
int cpu_chips_new(struct gm_vm *vm, struct gm_diag *diag);

/* Make the one vCPU; it stands at its reset vector. 0 or -errno. */
int cpu_new(struct gm_vm *vm, struct gm_vcpu **vcpu, struct gm_diag *diag);

/*
 * Run until board_ended(). Someone has to kick the vCPU every now and then: at each kick the loop
 * looks whether the guest is still doing anything.
 */
void cpu_run(struct board *board);

#endif
