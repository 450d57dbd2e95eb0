/*
 * soft/vcpu_events.c - what a vCPU is about to take, and whether it runs: KVM_GET_VCPU_EVENTS, KVM_SET_VCPU_EVENTS, KVM_INTERRUPT,
 * KVM_NMI, KVM_GET_MP_STATE, KVM_SET_MP_STATE.
 *
 * INT n and its like that have not been delivered yet are not told, as in Linux: rip is still that of the instruction,
 * which does it again.
 * Source: Linux api.rst at each request; what is refused was asked of Linux 6.1 and 6.18.
 */
#include "soft/ioctl.h"
#include "soft/soft.h"
#include "soft/usercopy.h"

#include <errno.h>
#include <string.h>

#define VECTOR_NMI 2u
#define VECTOR_BP 3u
#define VECTOR_OF 4u
#define EXCEPTIONS 32u
#define INTERRUPTS 256u

#define FLAGS_GIVEN                                                                                \
    (KVM_VCPUEVENT_VALID_NMI_PENDING | KVM_VCPUEVENT_VALID_SHADOW | KVM_VCPUEVENT_VALID_SMM)
#define FLAGS_TAKEN (FLAGS_GIVEN | KVM_VCPUEVENT_VALID_SIPI_VECTOR)

static uint8_t shadow_of(const struct x86_vcpu *cpu)
{
    if (!cpu->is_shadowed) {
        return 0;
    }
    return cpu->is_ss_shadow ? KVM_X86_SHADOW_INT_MOV_SS : KVM_X86_SHADOW_INT_STI;
}

long ioctl_get_events(struct gm_soft_vcpu *vcpu, uint64_t argument)
{
    const struct x86_vcpu *cpu = vcpu->x86;
    int interrupt = x86_waiting_interrupt(cpu);
    struct kvm_vcpu_events events = {.flags = FLAGS_GIVEN};

    if (cpu->event.kind == X86_EVENT_EXCEPTION) {
        events.exception.injected =
            cpu->event.vector != VECTOR_BP && cpu->event.vector != VECTOR_OF;
        events.exception.nr = cpu->event.vector;
        events.exception.has_error_code = cpu->event.has_error_code;
        events.exception.error_code = cpu->event.error_code;
    }
    events.interrupt.injected = interrupt >= 0;
    events.interrupt.nr = interrupt >= 0 ? (uint8_t)interrupt : 0;
    events.interrupt.shadow = shadow_of(cpu);
    events.nmi.injected = cpu->event.kind == X86_EVENT_NMI;
    events.nmi.pending = cpu->is_nmi_pending;
    events.nmi.masked = cpu->is_nmi_blocked;
    return usercopy_to(argument, &events, sizeof(events));
}

/* Neither SMM nor payloads nor triple faults can be set. */
static bool is_valid(const struct kvm_vcpu_events *events)
{
    bool is_smi = events->smi.smm != 0 || events->smi.pending != 0 ||
                  events->smi.smm_inside_nmi != 0 || events->smi.latched_init != 0;

    return (events->flags & ~(uint32_t)FLAGS_TAKEN) == 0 &&
           ((events->flags & KVM_VCPUEVENT_VALID_SMM) == 0 || !is_smi) &&
           (events->exception.injected == 0 ||
            (events->exception.nr < EXCEPTIONS && events->exception.nr != VECTOR_NMI));
}

/* The one that is delivered first. An interrupt that is not, waits behind it. */
static struct x86_event first_event(const struct kvm_vcpu_events *events)
{
    if (events->exception.injected != 0) {
        return (struct x86_event){
            .kind = X86_EVENT_EXCEPTION,
            .vector = events->exception.nr,
            .has_error_code = events->exception.has_error_code != 0,
            .error_code = events->exception.has_error_code != 0 ? events->exception.error_code : 0,
        };
    }
    if (events->nmi.injected != 0) {
        return (struct x86_event){.kind = X86_EVENT_NMI, .vector = VECTOR_NMI};
    }
    if (events->interrupt.injected != 0) {
        return (struct x86_event){.kind = events->interrupt.soft != 0 ? X86_EVENT_SOFTWARE
                                                                      : X86_EVENT_INTERRUPT,
                                  .vector = events->interrupt.nr};
    }
    return (struct x86_event){0};
}

static bool is_same(const struct x86_event *a, const struct x86_event *b)
{
    return a->kind == b->kind && a->vector == b->vector && a->has_error_code == b->has_error_code &&
           a->error_code == b->error_code;
}

static void set_event(struct x86_vcpu *cpu, const struct kvm_vcpu_events *events)
{
    struct x86_event event = first_event(events);

    if (cpu->is_delivering && !is_same(&event, &cpu->event)) {
        x86_begin_anew(cpu);
    }
    cpu->event = event;
    cpu->is_interrupt_queued = events->interrupt.injected != 0 && event.kind != X86_EVENT_NONE &&
                               event.kind != X86_EVENT_INTERRUPT &&
                               event.kind != X86_EVENT_SOFTWARE;
    cpu->queued_vector = events->interrupt.nr;
}

long ioctl_set_events(struct gm_soft_vcpu *vcpu, uint64_t argument)
{
    struct x86_vcpu *cpu = vcpu->x86;
    struct kvm_vcpu_events events;
    int rc = usercopy_from(&events, argument, sizeof(events));

    if (rc != 0) {
        return rc;
    }
    if (!is_valid(&events)) {
        return -EINVAL;
    }
    set_event(cpu, &events);
    if ((events.flags & KVM_VCPUEVENT_VALID_SHADOW) != 0) {
        cpu->is_shadowed = events.interrupt.shadow != 0;
        cpu->is_ss_shadow = (events.interrupt.shadow & KVM_X86_SHADOW_INT_MOV_SS) != 0;
    }
    if ((events.flags & KVM_VCPUEVENT_VALID_NMI_PENDING) != 0) {
        cpu->is_nmi_pending = events.nmi.pending != 0;
    }
    /* An NMI waits behind an exception as one that is pending. */
    cpu->is_nmi_pending =
        cpu->is_nmi_pending || (events.nmi.injected != 0 && cpu->event.kind != X86_EVENT_NMI);
    cpu->is_nmi_blocked = events.nmi.masked != 0;
    return 0;
}

long ioctl_interrupt(struct gm_soft_vcpu *vcpu, uint64_t argument)
{
    struct kvm_interrupt interrupt;
    int rc = usercopy_from(&interrupt, argument, sizeof(interrupt));

    if (rc != 0) {
        return rc;
    }
    if (interrupt.irq >= INTERRUPTS) {
        return -EINVAL;
    }
    if (vcpu->irqchip != NULL) { /* which has interrupts of its own */
        return -ENXIO;
    }
    x86_interrupt(vcpu->x86, (uint8_t)interrupt.irq);
    return 0;
}

/* Linux passes over the argument. */
long ioctl_nmi(struct gm_soft_vcpu *vcpu, uint64_t argument)
{
    (void)argument;
    x86_nmi(vcpu->x86);
    return 0;
}

static const uint32_t mp_states[] = {
    [X86_RUNNABLE] = KVM_MP_STATE_RUNNABLE,
    [X86_HALTED] = KVM_MP_STATE_HALTED,
    [X86_WAIT_FOR_SIPI] = KVM_MP_STATE_INIT_RECEIVED,
    [X86_UNINITIALIZED] = KVM_MP_STATE_UNINITIALIZED,
};

long ioctl_get_mp_state(struct gm_soft_vcpu *vcpu, uint64_t argument)
{
    struct kvm_mp_state state = {.mp_state = mp_states[vcpu->x86->mp_state]};

    return usercopy_to(argument, &state, sizeof(state));
}

/* All but RUNNABLE need a local APIC. SIPI_RECEIVED, which Linux no longer gives, is not taken either. */
long ioctl_set_mp_state(struct gm_soft_vcpu *vcpu, uint64_t argument)
{
    struct kvm_mp_state state;
    int rc = usercopy_from(&state, argument, sizeof(state));

    if (rc != 0) {
        return rc;
    }
    for (unsigned i = 0; i < sizeof(mp_states) / sizeof(mp_states[0]); i++) {
        if (state.mp_state == mp_states[i] && (vcpu->irqchip != NULL || i == X86_RUNNABLE)) {
            vcpu->x86->mp_state = (enum x86_mp_state)i;
            return 0;
        }
    }
    return -EINVAL;
}
