/*
 * soft_kvm.c - a script on a real /dev/kvm: one vCPU in 64-bit mode at ring 0, without interrupt
 * controllers, on the page tables and code of soft_guest.c.
 *
 * Each access sets the registers and runs to the hlt behind the access's instruction. Segments,
 * control registers and pending events are set anew after everything that may have changed them: a
 * jump, and an access that did not come to its hlt.
 */
#include "soft_machine.h"
#include "tool.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <unistd.h>

/* Intel SDM 3A, "Control Registers"; 4, "Model-Specific Registers" for EFER. */
#define CR0_PE_MP_ET_NE_WP_AM_PG 0x80050033u
#define CR4_PAE 0x20u
#define EFER_LME_LMA 0x500u
#define RFLAGS_RESERVED 0x2u

#define CPUID_ENTRIES 256u
#define DIAG_FORMAT "%.180s"

/* What a jump led to may never end. It has this long, and is asked again in case the signal came
 * just before the guest was entered. */
#define JUMP_LIMIT_S 2
#define JUMP_INTERVAL_US 100000

struct script_machine {
    int kvm_fd;
    int vm_fd;   /* -1: there is none */
    int vcpu_fd; /* -1: there is none */
    struct kvm_run *run;
    size_t run_bytes;
    struct kvm_cpuid2 *cpuid;
    struct kvm_sregs sregs; /* in which each access begins */
};

static void on_alarm(int number)
{
    (void)number; /* its arrival ends KVM_RUN with EINTR */
}

static int fail(struct gm_diag *diag, const char *what)
{
    int error = errno;

    snprintf(diag->text, sizeof(diag->text), DIAG_FORMAT, what);
    return -error;
}

static void kvm_close(struct script_machine *machine)
{
    close(machine->kvm_fd);
    free(machine->cpuid);
    free(machine);
}

static int kvm_open(struct script_machine **opened, struct gm_diag *diag)
{
    struct sigaction alarm_action = {.sa_handler = on_alarm}; /* no SA_RESTART */
    struct script_machine *machine;
    int fd = open("/dev/kvm", O_RDWR | O_CLOEXEC);

    if (fd == -1) {
        int error = errno;

        snprintf(
            diag->text, sizeof(diag->text),
            "/dev/kvm does not open: %s. Without --accel kvm the script runs on the software KVM",
            strerror(error));
        return -error;
    }
    machine = tool_alloc(sizeof(*machine));
    machine->kvm_fd = fd;
    machine->vm_fd = -1;
    machine->vcpu_fd = -1;
    machine->run_bytes = (size_t)ioctl(fd, KVM_GET_VCPU_MMAP_SIZE, 0);
    machine->cpuid =
        tool_alloc(sizeof(*machine->cpuid) + CPUID_ENTRIES * sizeof(struct kvm_cpuid_entry2));
    machine->cpuid->nent = CPUID_ENTRIES;
    if (ioctl(fd, KVM_GET_SUPPORTED_CPUID, machine->cpuid) != 0) {
        int error = fail(diag, "KVM_GET_SUPPORTED_CPUID");

        kvm_close(machine);
        return error;
    }
    sigaction(SIGALRM, &alarm_action, NULL);
    *opened = machine;
    return 0;
}

static void kvm_destroy(struct script_machine *machine)
{
    if (machine->run != NULL) {
        munmap(machine->run, machine->run_bytes);
        machine->run = NULL;
    }
    if (machine->vcpu_fd != -1) {
        close(machine->vcpu_fd);
        machine->vcpu_fd = -1;
    }
    if (machine->vm_fd != -1) {
        close(machine->vm_fd);
        machine->vm_fd = -1;
    }
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

static int kvm_create(struct script_machine *machine, struct gm_diag *diag)
{
    machine->vm_fd = ioctl(machine->kvm_fd, KVM_CREATE_VM, 0);
    if (machine->vm_fd == -1) {
        return fail(diag, "KVM_CREATE_VM");
    }
    machine->vcpu_fd = ioctl(machine->vm_fd, KVM_CREATE_VCPU, 0);
    if (machine->vcpu_fd == -1) {
        return fail(diag, "KVM_CREATE_VCPU");
    }
    machine->run =
        mmap(NULL, machine->run_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, machine->vcpu_fd, 0);
    if (machine->run == MAP_FAILED) {
        machine->run = NULL;
        return fail(diag, "mmap of a vCPU");
    }
    if (ioctl(machine->vcpu_fd, KVM_SET_CPUID2, machine->cpuid) != 0) {
        return fail(diag, "KVM_SET_CPUID2");
    }
    if (ioctl(machine->vcpu_fd, KVM_GET_SREGS, &machine->sregs) != 0) {
        return fail(diag, "KVM_GET_SREGS");
    }
    set_mode(&machine->sregs);
    if (ioctl(machine->vcpu_fd, KVM_SET_SREGS, &machine->sregs) != 0) {
        return fail(diag, "KVM_SET_SREGS");
    }
    return 0;
}

static long kvm_vm_ioctl(struct script_machine *machine, unsigned long request, void *argument)
{
    int result = ioctl(machine->vm_fd, request, argument);

    return result >= 0 ? result : -errno;
}

/* ---- accesses ---- */

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

    if (access->kind != ACCESS_LOAD) {
        report_hlt();
    } else if (ioctl(machine->vcpu_fd, KVM_GET_REGS, &regs) == 0) {
        report_value(regs.rax, access->size_bytes);
    } else {
        report_error(-errno);
    }
}

/* Enter the guest once. */
static enum progress run_once(struct script_machine *machine, const struct script_access *access,
                              struct script_report *report)
{
    struct kvm_run *run = machine->run;

    if (ioctl(machine->vcpu_fd, KVM_RUN, 0) != 0) {
        if ((errno == EINTR && access->kind != ACCESS_JUMP) || errno == EAGAIN) {
            return GOES_ON;
        }
        report_error(-errno);
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

    if (ioctl(machine->vcpu_fd, KVM_GET_REGS, &regs) == 0) {
        regs.rcx = 1;
        ioctl(machine->vcpu_fd, KVM_SET_REGS, &regs);
    }
    machine->run->immediate_exit = 1;
    ioctl(machine->vcpu_fd, KVM_RUN, 0);
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

    ioctl(machine->vcpu_fd, KVM_SET_SREGS, &machine->sregs);
    ioctl(machine->vcpu_fd, KVM_SET_VCPU_EVENTS, &events);
}

static void kvm_access(struct script_machine *machine, const struct script_access *access,
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

    *(access->kind == ACCESS_MOVE ? &regs.rcx : &regs.rax) = access->value;
    if (ioctl(machine->vcpu_fd, KVM_SET_REGS, &regs) != 0) {
        report_error(-errno);
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

const struct script_machine_ops script_kvm_ops = {
    .name = "kvm",
    .open = kvm_open,
    .close = kvm_close,
    .destroy = kvm_destroy,
    .create = kvm_create,
    .vm_ioctl = kvm_vm_ioctl,
    .access = kvm_access,
};
