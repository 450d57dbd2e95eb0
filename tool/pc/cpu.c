/*
 * pc/cpu.c - the machine's processor.
 *
 * KVM's interrupt controllers are used, so that a halted guest waits inside KVM_RUN. Whether
 * it waits for ever is found out by looking at it from time to time, see guest_is_idle().
 */
#include "pc/cpu.h"

#include "pc/clock.h"

#include <errno.h>
#include <linux/kvm.h>
#include <stdlib.h>
#include <string.h>

#define CPUID_ENTRIES_MAX 256
#define RFLAGS_INTERRUPTS 0x200u

static int fail(struct gm_diag *diag, const char *what, long err)
{
    diag->code = (int)err;
    snprintf(diag->text, sizeof(diag->text), "%s: %s", what, strerror((int)-err));
    return (int)err;
}

int cpu_chips_new(struct gm_vm *vm, struct gm_diag *diag)
{
    /* Port 0x61, by which firmware times itself against the PIT, comes with the speaker. */
    struct kvm_pit_config pit = {.flags = KVM_PIT_SPEAKER_DUMMY};
    uint64_t identity_gpa = PC_KVM_PAGES_GPA;
    long rc = gm_vm_ioctl(vm, KVM_SET_IDENTITY_MAP_ADDR, (uintptr_t)&identity_gpa);

    if (rc < 0) {
        return fail(diag, "KVM_SET_IDENTITY_MAP_ADDR", rc);
    }
    rc = gm_vm_ioctl(vm, KVM_SET_TSS_ADDR, PC_KVM_PAGES_GPA + 0x1000);
    if (rc < 0) {
        return fail(diag, "KVM_SET_TSS_ADDR", rc);
    }
    rc = gm_vm_ioctl(vm, KVM_CREATE_IRQCHIP, 0);
    if (rc < 0) {
        return fail(diag, "KVM provides no interrupt controllers (KVM_CREATE_IRQCHIP)", rc);
    }
    rc = gm_vm_ioctl(vm, KVM_CREATE_PIT2, (uintptr_t)&pit);
    return rc < 0 ? fail(diag, "KVM provides no timer (KVM_CREATE_PIT2)", rc) : 0;
}

/* The host's answers name the host's own processor; this machine has one, with APIC id 0. */
static void cpuid_adapt(struct kvm_cpuid2 *cpuid)
{
    uint32_t i;

    for (i = 0; i < cpuid->nent; i++) {
        struct kvm_cpuid_entry2 *entry = &cpuid->entries[i];

        if (entry->function == 1) {
            entry->ebx = (entry->ebx & 0xff00) | 1u << 16;
        } else if (entry->function == 0xb || entry->function == 0x1f) {
            entry->edx = 0;
        }
    }
}

/* Give the vCPU everything that KVM supports here. */
static int cpuid_set(struct gm_vm *vm, struct gm_vcpu *vcpu, struct gm_diag *diag)
{
    struct kvm_cpuid2 *cpuid =
        calloc(1, sizeof(*cpuid) + CPUID_ENTRIES_MAX * sizeof(cpuid->entries[0]));
    long rc;

    if (cpuid == NULL) {
        return -ENOMEM;
    }
    cpuid->nent = CPUID_ENTRIES_MAX;
    rc = gm_vm_system_ioctl(vm, KVM_GET_SUPPORTED_CPUID, (uintptr_t)cpuid);
    if (rc < 0) {
        rc = fail(diag, "KVM_GET_SUPPORTED_CPUID", rc);
    } else {
        cpuid_adapt(cpuid);
        rc = gm_vcpu_ioctl(vcpu, KVM_SET_CPUID2, (uintptr_t)cpuid);
        rc = rc < 0 ? fail(diag, "KVM_SET_CPUID2", rc) : 0;
    }
    free(cpuid);
    return (int)rc;
}

int cpu_new(struct gm_vm *vm, struct gm_vcpu **vcpu, struct gm_diag *diag)
{
    int err = gm_vcpu_new(vm, 0, vcpu, diag);

    if (err == 0) {
        err = cpuid_set(vm, *vcpu, diag);
        if (err != 0) {
            gm_vcpu_free(*vcpu);
            *vcpu = NULL;
        }
    }
    return err;
}

/* What the loop remembers from one look at the guest to the next. */
struct watch {
    uint64_t said_bytes; /* how much the guest had said at the last look */
    uint64_t since_ns;   /* when it was first seen halted; 0: it was not, at the last look */
};

/*
 * A guest is idle if it is halted each time that we look, and has said nothing in between. Firmware
 * that waits for a key, or for nothing at all, is woken by the timer 18 times a second, reads a
 * port or two and halts again; firmware at work is hardly ever seen halted, and never so often.
 * Return: true once it has been so for CPU_IDLE_END_MS.
 */
static bool guest_is_idle(struct watch *watch, const struct console *console)
{
    bool quiet = console->said_bytes == watch->said_bytes;
    uint64_t now_ns = clock_now_ns();

    watch->said_bytes = console->said_bytes;
    if (!quiet || watch->since_ns == 0) {
        watch->since_ns = now_ns;
        return false;
    }
    return now_ns - watch->since_ns >= CPU_IDLE_END_MS * CLOCK_NS_PER_MS;
}

/* Look at the guest after a kick. */
static void guest_look(struct watch *watch, struct board *board)
{
    struct kvm_mp_state state;
    struct kvm_regs regs;

    console_flush(board->console);
    if (gm_vcpu_ioctl(board->vcpu, KVM_GET_MP_STATE, (uintptr_t)&state) != 0 ||
        state.mp_state != KVM_MP_STATE_HALTED) {
        watch->since_ns = 0;
        return;
    }
    if (gm_vcpu_ioctl(board->vcpu, KVM_GET_REGS, (uintptr_t)&regs) == 0 &&
        (regs.rflags & RFLAGS_INTERRUPTS) == 0) {
        board_end(board, PC_HALTED, 0);
    } else if (guest_is_idle(watch, board->console)) {
        board_end(board, PC_IDLE, 0);
    }
}

/* An exit that regions do not settle. None of them can be gone on from. */
static void other_exit(struct board *board, const struct kvm_run *run)
{
    struct kvm_regs regs = {0};

    if (run->exit_reason == KVM_EXIT_HLT) {
        board_end(board, PC_HALTED, 0);
        return;
    }
    (void)gm_vcpu_ioctl(board->vcpu, KVM_GET_REGS, (uintptr_t)&regs);
    board->diag.code = -EIO;
    switch (run->exit_reason) {
    case KVM_EXIT_SHUTDOWN:
        snprintf(board->diag.text, sizeof(board->diag.text), "triple fault at rip %llx", regs.rip);
        break;
    case KVM_EXIT_INTERNAL_ERROR:
        snprintf(board->diag.text, sizeof(board->diag.text),
                 "KVM gave up on an instruction at rip %llx (KVM_EXIT_INTERNAL_ERROR, suberror %u)",
                 regs.rip, run->internal.suberror);
        break;
    default:
        snprintf(board->diag.text, sizeof(board->diag.text), "exit %u of KVM at rip %llx",
                 run->exit_reason, regs.rip);
        break;
    }
    board_end(board, PC_CRASHED, 0);
}

void cpu_run(struct board *board)
{
    struct watch watch = {0};

    while (board_ended(board, NULL) == PC_RUNNING) {
        int err = gm_vcpu_run(board->vcpu);

        if (err == -EINTR) {
            guest_look(&watch, board);
        } else if (err != 0) {
            board->diag.code = err;
            snprintf(board->diag.text, sizeof(board->diag.text), "KVM_RUN: %s", strerror(-err));
            board_end(board, PC_FAILED, 0);
        } else if (board_ended(board, NULL) == PC_RUNNING) {
            other_exit(board, gm_vcpu_kvm_run(board->vcpu));
        }
    }
}
