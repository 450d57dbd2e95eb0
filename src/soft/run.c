/*
 * soft/run.c - KVM_RUN: what comes before the guest, its turns, and what is said of it afterwards.
 *
 * The interpreter runs in slices of RUN_SLICE instructions. Between two the clock is read, and when RUN_LOOK_NS have passed
 * signals are looked for: so these cost under 1% of the time, and a signal waits half a millisecond at most, unless
 * instructions take a microsecond each.
 *
 * Source: Linux api.rst, KVM_RUN.
 */
#include "soft/run.h"
#include "base/clock.h"

#include "soft/events.h"
#include "soft/ioctl.h"
#include "soft/usercopy.h"

#include <errno.h>
#include <stddef.h>

#define RUN_SLICE 8192u
#define RUN_LOOK_NS 200000u

#define CR0_PE UINT64_C(1)
#define CR0_NW (UINT64_C(1) << 29)
#define CR0_CD (UINT64_C(1) << 30)
#define CR0_PG (UINT64_C(1) << 31)
#define CR4_PAE UINT64_C(0x20)
#define EFER_LME UINT64_C(0x100)
#define EFER_LMA UINT64_C(0x400)
#define RFLAGS_IF UINT64_C(0x200)
#define CR8_MAX 15u
#define MSR_APIC_BASE 0x1bu

static long interrupted(struct gm_soft_vcpu *vcpu)
{
    vcpu->was_signalled = true;
    return run_exit(vcpu, X86_EXIT_INTR);
}

/* States that KVM_SET_SREGS and a guest cannot come to alike: what VMX and SVM both refuse to enter. */
static bool is_possible(const struct x86_vcpu *cpu)
{
    const struct x86_segment *cs = &cpu->segment[X86_CS];
    bool is_paging = (cpu->cr0 & CR0_PG) != 0;
    bool is_long = is_paging && (cpu->msr.efer & EFER_LME) != 0;

    return (!is_paging || (cpu->cr0 & CR0_PE) != 0) &&
           ((cpu->cr0 & CR0_NW) == 0 || (cpu->cr0 & CR0_CD) != 0) &&
           is_long == ((cpu->msr.efer & EFER_LMA) != 0) &&
           (!is_long || ((cpu->cr4 & CR4_PAE) != 0 && !(cs->l != 0 && cs->db != 0)));
}

/* A kick, or the chips or the clock have something. */
static long take_requests(struct gm_soft_vcpu *vcpu)
{
    unsigned taken = vcpu->mmu.taken;

    vcpu->mmu.taken = 0;
    if ((taken & KCORE_REQUEST_KICK) != 0) {
        return run_exit(vcpu, X86_EXIT_INTR);
    }
    if ((taken & KCORE_REQUEST_EVENT) != 0) {
        clock_tell(vcpu);
        if (vcpu->irqchip != NULL) {
            events_take(vcpu);
        }
    }
    return RUN_ON;
}

static void look_at_timers(struct gm_soft_vcpu *vcpu, uint64_t now_ns)
{
    if (vcpu->irqchip != NULL && now_ns >= vcpu->deadline_ns) {
        events_take(vcpu);
    }
}

/* Between two slices. */
static long look(struct gm_soft_vcpu *vcpu)
{
    uint64_t now_ns = clock_now_ns();

    look_at_timers(vcpu, now_ns);
    if (now_ns - vcpu->looked_ns < RUN_LOOK_NS) {
        return RUN_ON;
    }
    vcpu->looked_ns = now_ns;
    return signals_are_pending(&vcpu->signals) ? interrupted(vcpu) : RUN_ON;
}

/* There may be nothing to run: then until something comes. */
static long wait_for_events(struct gm_soft_vcpu *vcpu)
{
    events_take(vcpu);
    if (events_can_run(vcpu)) {
        return RUN_ON;
    }
    sleep_until(vcpu, vcpu->deadline_ns);
    return signals_are_pending(&vcpu->signals) ? interrupted(vcpu) : take_requests(vcpu);
}

/* An exit of the interpreter's. What is the chips', an eventfd's or a zone's is done here. */
static long settle(struct gm_soft_vcpu *vcpu, enum x86_exit exit)
{
    while (events_answer(vcpu, exit)) {
        vcpu->asked_rip = run_linear_rip(vcpu->x86); /* a full ring leaves it unfinished */
        exit = x86_finish(vcpu->x86);
    }
    if (vcpu->irqchip != NULL) {
        if (exit == X86_EXIT_HLT) {
            return RUN_ON;
        }
        if (exit == X86_EXIT_IRQ_WINDOW) {
            events_take(vcpu);
            return RUN_ON;
        }
    }
    return exit == X86_EXIT_INTR ? take_requests(vcpu) : run_exit(vcpu, exit);
}

static long run_turn(struct gm_soft_vcpu *vcpu)
{
    if (vcpu->irqchip != NULL && !events_can_run(vcpu)) {
        return wait_for_events(vcpu);
    }
    return settle(vcpu, x86_run(vcpu->x86, RUN_SLICE));
}

/* An application processor that nobody has started. Linux lets the user call again when something has come for it. */
static long wait_for_init(struct gm_soft_vcpu *vcpu)
{
    long rc = take_requests(vcpu);

    while (rc == RUN_ON && vcpu->x86->mp_state == X86_UNINITIALIZED) {
        rc = wait_for_events(vcpu);
    }
    return rc == RUN_ON ? -EAGAIN : rc;
}

/* The guest runs until something ends KVM_RUN. */
static long run_guest(struct gm_soft_vcpu *vcpu)
{
    long rc;

    vcpu->looked_ns = clock_now_ns();
    /* Only a mask of its own lets one in that the thread's mask has kept. */
    if (vcpu->signals.has_mask && signals_are_pending(&vcpu->signals)) {
        return interrupted(vcpu);
    }
    if (vcpu->x86->mp_state == X86_UNINITIALIZED) {
        return wait_for_init(vcpu);
    }
    if (vcpu->is_shut_down) {
        vcpu->is_shut_down = false;
        return run_exit(vcpu, X86_EXIT_SHUTDOWN);
    }
    if (!is_possible(vcpu->x86)) {
        return run_exit_entry_failure(vcpu);
    }
    clock_tell(vcpu);
    look_at_timers(vcpu, vcpu->looked_ns);
    rc = take_requests(vcpu);
    while (rc == RUN_ON) {
        rc = run_turn(vcpu);
        if (rc == RUN_ON) {
            rc = look(vcpu);
        }
        /* What came while an exit that the chips answered was being finished: the guest is not left for it. */
        if (rc == RUN_ON) {
            rc = take_requests(vcpu);
        }
    }
    return rc;
}

/* Complete what the last exit left unfinished. A user who has set rip means another instruction. */
static long finish(struct gm_soft_vcpu *vcpu)
{
    struct x86_vcpu *cpu = vcpu->x86;
    enum x86_exit exit;

    run_take_answer(vcpu);
    if (!x86_is_unfinished(cpu)) {
        return RUN_ON;
    }
    if (run_linear_rip(cpu) == vcpu->asked_rip) {
        exit = x86_finish(cpu);
        /* The user has made other accesses with the vCPU, by guestmem/mmu.h: ours is no longer under way. */
        if (exit != X86_EXIT_ERROR || cpu->error != -EINVAL) {
            return settle(vcpu, exit);
        }
    }
    x86_begin_anew(cpu);
    return RUN_ON;
}

/* Registers in the page (KVM_CAP_SYNC_REGS), each with the request that has the same structure. */
static const struct {
    uint64_t bit;
    size_t offset;
    long (*get)(struct gm_soft_vcpu *vcpu, uint64_t argument);
    long (*set)(struct gm_soft_vcpu *vcpu, uint64_t argument);
} synced[] = {
    {KVM_SYNC_X86_REGS, offsetof(struct kvm_run, s.regs.regs), ioctl_get_regs, ioctl_set_regs},
    {KVM_SYNC_X86_SREGS, offsetof(struct kvm_run, s.regs.sregs), ioctl_get_sregs, ioctl_set_sregs},
    {KVM_SYNC_X86_EVENTS, offsetof(struct kvm_run, s.regs.events), ioctl_get_events,
     ioctl_set_events},
};

#define SYNCED_COUNT (sizeof(synced) / sizeof(synced[0]))

static uint64_t synced_address(const struct gm_soft_vcpu *vcpu, size_t i)
{
    return (uintptr_t)vcpu->run + synced[i].offset;
}

/* Those that the user has changed. Return: 0; -EINVAL. */
static long take_registers(struct gm_soft_vcpu *vcpu, uint64_t dirty)
{
    struct kvm_run *run = vcpu->run;

    for (size_t i = 0; i < SYNCED_COUNT; i++) {
        if ((dirty & synced[i].bit) != 0) {
            long rc = synced[i].set(vcpu, synced_address(vcpu, i));

            if (rc != 0) {
                return rc;
            }
            run->kvm_dirty_regs &= ~synced[i].bit;
        }
    }
    return 0;
}

/* Those that the user wants to be told. */
static void give_registers(struct gm_soft_vcpu *vcpu, uint64_t valid)
{
    for (size_t i = 0; i < SYNCED_COUNT; i++) {
        if ((valid & synced[i].bit) != 0) {
            (void)synced[i].get(vcpu, synced_address(vcpu, i));
        }
    }
}

/* What the user says by the page. Return: 0; -EINVAL. */
static long take_page(struct gm_soft_vcpu *vcpu, uint64_t valid)
{
    const struct kvm_run *run = vcpu->run;
    uint64_t dirty = __atomic_load_n(&run->kvm_dirty_regs, __ATOMIC_RELAXED);
    uint64_t cr8 = __atomic_load_n(&run->cr8, __ATOMIC_RELAXED);
    struct x86_vcpu *cpu = vcpu->x86;
    long rc;

    if (((valid | dirty) & ~(uint64_t)KVM_SYNC_X86_VALID_FIELDS) != 0) {
        return -EINVAL;
    }
    rc = take_registers(vcpu, dirty);
    if (rc != 0 || vcpu->irqchip != NULL) {
        return rc;
    }
    if (cr8 > CR8_MAX) {
        return -EINVAL;
    }
    cpu->cr8 = cr8;
    cpu->request_irq_window =
        __atomic_load_n(&run->request_interrupt_window, __ATOMIC_RELAXED) != 0;
    return 0;
}

/* What the user is told by the page, whatever has happened. */
static void fill_page(struct gm_soft_vcpu *vcpu)
{
    struct x86_vcpu *cpu = vcpu->x86;
    struct kvm_run *run = vcpu->run;
    uint64_t apic_base = 0;

    (void)x86_get_msr(cpu, MSR_APIC_BASE, &apic_base);
    run->if_flag = (cpu->rflags & RFLAGS_IF) != 0;
    run->cr8 = chips_cr8(vcpu);
    run->apic_base = apic_base;
    run->ready_for_interrupt_injection = vcpu->irqchip != NULL || x86_can_interrupt(cpu);
}

static long run(struct gm_soft_vcpu *vcpu)
{
    bool is_immediate = __atomic_load_n(&vcpu->run->immediate_exit, __ATOMIC_RELAXED) != 0;
    uint64_t valid = __atomic_load_n(&vcpu->run->kvm_valid_regs, __ATOMIC_RELAXED);
    long rc = take_page(vcpu, valid);

    vcpu->run->flags = vcpu->mmu.space != 0 ? KVM_RUN_X86_SMM : 0;
    if (rc == 0) {
        rc = finish(vcpu);
    }
    if (rc == RUN_ON) {
        rc = is_immediate ? -EINTR : run_guest(vcpu);
    }
    give_registers(vcpu, valid);
    fill_page(vcpu);
    return rc;
}

long vcpu_run(struct gm_soft_vcpu *vcpu, uint64_t argument)
{
    if (argument != 0) {
        return -EINVAL;
    }
    vcpu->was_signalled = false;
    return run(vcpu);
}

#define DEBUG_VECTOR 1u
#define BREAKPOINT_VECTOR 3u

long vcpu_set_guest_debug(struct gm_soft_vcpu *vcpu, uint64_t argument)
{
    struct x86_vcpu *cpu = vcpu->x86;
    struct kvm_guest_debug debug;
    bool is_enabled;
    int rc = usercopy_from(&debug, argument, sizeof(debug));

    if (rc != 0) {
        return rc;
    }
    if ((debug.control & ~GUEST_DEBUG_KNOWN) != 0) {
        return -EINVAL;
    }
    if ((debug.control & (KVM_GUESTDBG_INJECT_DB | KVM_GUESTDBG_INJECT_BP)) != 0) {
        if (cpu->event.kind != X86_EVENT_NONE) {
            return -EBUSY;
        }
        cpu->event = (struct x86_event){
            .kind = X86_EVENT_EXCEPTION,
            .vector =
                (debug.control & KVM_GUESTDBG_INJECT_DB) != 0 ? DEBUG_VECTOR : BREAKPOINT_VECTOR,
        };
    }
    is_enabled = (debug.control & KVM_GUESTDBG_ENABLE) != 0;
    cpu->guest_debug_step = is_enabled && (debug.control & KVM_GUESTDBG_SINGLESTEP) != 0;
    cpu->takes_int3 = is_enabled && (debug.control & KVM_GUESTDBG_USE_SW_BP) != 0;
    cpu->holds_events = is_enabled && (debug.control & KVM_GUESTDBG_BLOCKIRQ) != 0;
    cpu->uses_host_dr = is_enabled && (debug.control & KVM_GUESTDBG_USE_HW_BP) != 0;
    for (unsigned i = 0; i < 8; i++) {
        cpu->host_dr[i] = debug.arch.debugreg[i];
    }
    x86_state_changed(cpu);
    kcore_vcpu_request(&vcpu->mmu.base, KCORE_REQUEST_EVENT); /* what was held back may come now */
    return 0;
}
