/*
 * soft_vcpu.c - the vCPU of a script's machine: in 64-bit mode at ring 0, without interrupt controllers, on the page
 * tables and code of soft_guest.c.
 *
 * Each access sets the registers and runs to the hlt behind the access's instruction. Segments,
 * control registers and pending events are set anew after everything that may have changed them: a
 * jump, and an access that did not come to its hlt.
 */
#include "soft_machine.h"
#include "tool.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>

/* Intel SDM 3A, "Control Registers"; 4, "Model-Specific Registers" for EFER. */
#define CR0_PE_MP_ET_NE_WP_AM_PG 0x80050033u
#define CR4_PAE 0x20u
#define EFER_LME_LMA 0x500u
#define RFLAGS_RESERVED 0x2u

#define CPUID_ENTRIES 256u

/* What a jump led to may never end. It has this long, and is asked again in case the signal came
 * just before the guest was entered. */
#define JUMP_LIMIT_S 2
#define JUMP_INTERVAL_US 100000

static void on_alarm(int number)
{
    (void)number; /* its arrival ends KVM_RUN with EINTR */
}

static int fail(struct gm_diag *diag, const char *what, long error)
{
    snprintf(diag->text, sizeof(diag->text), "%s", what);
    return (int)error;
}

int machine_open(struct script_machine *machine, const struct script_machine_ops *ops,
                 struct gm_diag *diag)
{
    struct sigaction alarm_action = {.sa_handler = on_alarm}; /* no SA_RESTART */
    long error;

    *machine = (struct script_machine){.ops = ops};
    error = ops->open(machine, diag);
    if (error != 0) {
        return (int)error;
    }
    machine->cpuid =
        tool_alloc(sizeof(*machine->cpuid) + CPUID_ENTRIES * sizeof(struct kvm_cpuid_entry2));
    machine->cpuid->nent = CPUID_ENTRIES;
    error = ops->system_ioctl(machine, KVM_GET_SUPPORTED_CPUID, machine->cpuid);
    if (error != 0) {
        machine_close(machine);
        return fail(diag, "KVM_GET_SUPPORTED_CPUID", error);
    }
    sigaction(SIGALRM, &alarm_action, NULL);
    return 0;
}

void machine_close(struct script_machine *machine)
{
    machine->ops->close(machine);
    free(machine->cpuid);
}

/* 64-bit mode, flat segments, on the guest's own page tables; tables of interrupts are empty, so
 * that an exception shuts the machine down. */
static void set_mode(struct kvm_sregs *sregs)
{
    const struct kvm_segment code = {
        .limit = 0xffffffff, .selector = 8, .type = 11, .present = 1, .s = 1, .l = 1, .g = 1};
    const struct kvm_segment data = {
        .limit = 0xffffffff, .selector = 16, .type = 3, .present = 1, .s = 1, .db = 1, .g = 1};

    sregs->cr0 = CR0_PE_MP_ET_NE_WP_AM_PG;
    sregs->cr3 = SCRIPT_GUEST_GPA;
    sregs->cr4 = CR4_PAE;
    sregs->efer = EFER_LME_LMA;
    sregs->cs = code;
    sregs->ds = data;
    sregs->es = data;
    sregs->fs = data;
    sregs->gs = data;
    sregs->ss = data;
    sregs->gdt.limit = 0;
    sregs->idt.limit = 0;
}

int machine_create(struct script_machine *machine, struct gm_diag *diag)
{
    const struct script_machine_ops *ops = machine->ops;
    long error = ops->create(machine, diag);

    if (error != 0) {
        return (int)error;
    }
    error = ops->vcpu_ioctl(machine, KVM_SET_CPUID2, machine->cpuid);
    if (error != 0) {
        return fail(diag, "KVM_SET_CPUID2", error);
    }
    error = ops->vcpu_ioctl(machine, KVM_GET_SREGS, &machine->sregs);
    if (error != 0) {
        return fail(diag, "KVM_GET_SREGS", error);
    }
    set_mode(&machine->sregs);
    error = ops->vcpu_ioctl(machine, KVM_SET_SREGS, &machine->sregs);
    return error != 0 ? fail(diag, "KVM_SET_SREGS", error) : 0;
}

enum progress { GOES_ON, ENDED_AT_HLT, ENDED_OTHERWISE };

static void report_mmio(struct kvm_run *run, struct script_report *report)
{
    if (run->mmio.is_write) {
        report_mmio_write(report, run->mmio.phys_addr, run->mmio.data, run->mmio.len);
    } else {
        report_mmio_read(report, run->mmio.phys_addr, run->mmio.data, run->mmio.len);
    }
}

static void report_end_at_hlt(struct script_machine *machine, const struct script_access *access)
{
    struct kvm_regs regs;
    long error;

    if (access->kind != ACCESS_LOAD) {
        report_hlt();
        return;
    }
    error = machine->ops->vcpu_ioctl(machine, KVM_GET_REGS, &regs);
    if (error == 0) {
        report_value(regs.rax, access->size_bytes);
    } else {
        report_error((int)error);
    }
}

/* Enter the guest once. */
static enum progress run_once(struct script_machine *machine, const struct script_access *access,
                              struct script_report *report)
{
    struct kvm_run *run = machine->run;
    long error = machine->ops->vcpu_ioctl(machine, KVM_RUN, NULL);

    if (error != 0) {
        if ((error == -EINTR && access->kind != ACCESS_JUMP) || error == -EAGAIN) {
            return GOES_ON;
        }
        report_error((int)error);
        return ENDED_OTHERWISE;
    }
    switch (run->exit_reason) {
    case KVM_EXIT_HLT:
        report_end_at_hlt(machine, access);
        return ENDED_AT_HLT;
    case KVM_EXIT_MMIO:
        report_mmio(run, report);
        return GOES_ON;
    case KVM_EXIT_IO:
        report_port(report);
        return GOES_ON;
    case KVM_EXIT_INTERNAL_ERROR:
        report_internal_error(run->internal.suberror);
        return ENDED_OTHERWISE;
    case KVM_EXIT_SHUTDOWN:
        report_shutdown();
        return ENDED_OTHERWISE;
    default:
        report_other(run->exit_reason);
        return ENDED_OTHERWISE;
    }
}

/* An answer that the vCPU has not taken yet must not reach the next access. A string instruction
 * would go on with its next byte: it is told that this one was the last. */
static void finish_pending(struct script_machine *machine)
{
    struct kvm_regs regs;

    if (machine->ops->vcpu_ioctl(machine, KVM_GET_REGS, &regs) == 0) {
        regs.rcx = 1;
        (void)machine->ops->vcpu_ioctl(machine, KVM_SET_REGS, &regs);
    }
    machine->run->immediate_exit = 1;
    (void)machine->ops->vcpu_ioctl(machine, KVM_RUN, NULL);
    machine->run->immediate_exit = 0;
}

static void set_alarm(long seconds, long interval_us)
{
    const struct itimerval timer = {.it_value = {seconds, 0}, .it_interval = {0, interval_us}};

    setitimer(ITIMER_REAL, &timer, NULL);
}

static void reset_state(struct script_machine *machine)
{
    struct kvm_vcpu_events events = {0};

    (void)machine->ops->vcpu_ioctl(machine, KVM_SET_SREGS, &machine->sregs);
    (void)machine->ops->vcpu_ioctl(machine, KVM_SET_VCPU_EVENTS, &events);
}

void machine_access(struct script_machine *machine, const struct script_access *access,
                    struct script_report *report)
{
    struct kvm_regs regs = {
        .rip = script_guest_rip(access),
        .rdi = access->gva,
        .rsi = access->source_gva,
        .rsp = SCRIPT_STACK_GVA,
        .rflags = RFLAGS_RESERVED,
    };
    enum progress progress = GOES_ON;
    long error;

    *(access->kind == ACCESS_MOVE ? &regs.rcx : &regs.rax) = access->value;
    error = machine->ops->vcpu_ioctl(machine, KVM_SET_REGS, &regs);
    if (error != 0) {
        report_error((int)error);
        return;
    }
    if (access->kind == ACCESS_JUMP) {
        set_alarm(JUMP_LIMIT_S, JUMP_INTERVAL_US);
    }
    while (progress == GOES_ON && !report_is_full(report)) {
        progress = run_once(machine, access, report);
    }
    if (access->kind == ACCESS_JUMP) {
        set_alarm(0, 0);
    }
    if (progress == GOES_ON) {
        finish_pending(machine);
    }
    if (progress != ENDED_AT_HLT || access->kind == ACCESS_JUMP) {
        reset_state(machine);
    }
}
