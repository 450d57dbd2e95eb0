/*
 * soft_machine.h - what a script runs on: one VM with one vCPU, by KVM's interface. What differs between a real
 * /dev/kvm (soft_kvm.c) and guestmem's software KVM (soft_soft.c) is a table; the vCPU is run by soft_vcpu.c.
 *
 * Memory and what is printed are not the machine's business, but for the exits of a guest's access, which it reports
 * in order.
 */
#ifndef TOOL_SOFT_MACHINE_H
#define TOOL_SOFT_MACHINE_H

#include "soft_guest.h"
#include "soft_report.h"

#include <guestmem/types.h>

#include <linux/kvm.h>

struct script_machine_ops;

struct script_machine {
    const struct script_machine_ops *ops;
    void *opaque;             /* of the table's functions */
    struct kvm_cpuid2 *cpuid; /* all that is supported */
    struct kvm_run *run;      /* of the vCPU, while there is one */
    struct kvm_sregs sregs;   /* in which each access begins */
};

struct script_machine_ops {
    const char *name; /* of --accel */

    /*
     * What all VMs of a script share. Return: 0 or -errno, with a sentence in @diag: TOOL_NO_KVM
     * follows. close() after success only.
     */
    int (*open)(struct script_machine *machine, struct gm_diag *diag);
    void (*close)(struct script_machine *machine);

    /*
     * Make a VM without a slot, and its vCPU with `run`. Return: 0 or -errno, and @diag says what failed.
     * destroy() ends them, as far as they are there.
     */
    int (*create)(struct script_machine *machine, struct gm_diag *diag);
    void (*destroy)(struct script_machine *machine);

    /* Ioctls. Return: 0 or more, or -errno. */
    long (*system_ioctl)(struct script_machine *machine, unsigned long request, void *argument);
    long (*vm_ioctl)(struct script_machine *machine, unsigned long request, void *argument);
    long (*vcpu_ioctl)(struct script_machine *machine, unsigned long request, void *argument);

    /* Host memory is about to change behind the guest's back; has changed. Both NULL: the machine
     * finds out by itself. */
    void (*invalidate_begin)(struct script_machine *machine, gm_hva_t hva, uint64_t size_bytes);
    void (*invalidate_end)(struct script_machine *machine, gm_hva_t hva, uint64_t size_bytes);
};

extern const struct script_machine_ops script_kvm_ops;
extern const struct script_machine_ops script_soft_ops;

/* soft_vcpu.c. As open(), close(), create() of the table, and what is the same for all. */
int machine_open(struct script_machine *machine, const struct script_machine_ops *ops,
                 struct gm_diag *diag);
void machine_close(struct script_machine *machine);
int machine_create(struct script_machine *machine, struct gm_diag *diag);

/* Run the guest until its access has ended, and report how it went, in order. */
void machine_access(struct script_machine *machine, const struct script_access *access,
                    struct script_report *report);

#endif
