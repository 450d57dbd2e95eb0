/*
 * soft_machine.h - what a script runs on: a table of operations, and its two implementations, a
 * real /dev/kvm (soft_kvm.c) and guestmem's software KVM (soft_soft.c).
 *
 * The machine has one VM with one vCPU. Its memory and what is printed are not its business, but
 * for the exits of a guest's access, which it reports in order.
 */
#ifndef TOOL_SOFT_MACHINE_H
#define TOOL_SOFT_MACHINE_H

#include "soft_guest.h"
#include "soft_report.h"

#include <guestmem/types.h>

struct script_machine;

struct script_machine_ops {
    const char *name; /* of --accel */

    /*
     * What all VMs of a script share. Return: 0 or -errno, with a sentence in @diag: TOOL_NO_KVM
     * follows. close() after success only.
     */
    int (*open)(struct script_machine **machine, struct gm_diag *diag);
    void (*close)(struct script_machine *machine);

    /*
     * End the VM that there is, if any; and make a new one, without a slot, and its vCPU: two
     * calls, so that memory can be put in order in between. create(): 0 or -errno; @diag says what
     * failed.
     */
    void (*destroy)(struct script_machine *machine);
    int (*create)(struct script_machine *machine, struct gm_diag *diag);

    /* An ioctl of the VM. Return: 0 or more, or -errno. */
    long (*vm_ioctl)(struct script_machine *machine, unsigned long request, void *argument);

    /* Run the guest until its access has ended, and report how it went, in order. */
    void (*access)(struct script_machine *machine, const struct script_access *access,
                   struct script_report *report);

    /* Host memory is about to change behind the guest's back; has changed. Both NULL: the machine
     * finds out by itself. */
    void (*invalidate_begin)(struct script_machine *machine, gm_hva_t hva, uint64_t size_bytes);
    void (*invalidate_end)(struct script_machine *machine, gm_hva_t hva, uint64_t size_bytes);
};

extern const struct script_machine_ops script_kvm_ops;
extern const struct script_machine_ops script_soft_ops;

#endif
