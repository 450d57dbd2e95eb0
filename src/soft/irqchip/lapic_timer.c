/*
 * soft/irqchip/lapic_timer.c - the local APIC's timer: counts, periods and deadlines; and its registers as a state.
 *
 * Source: SDM 3A, "APIC Timer"; "TSC-Deadline Mode".
 */
#include "soft/irqchip/chip.h"

#include <errno.h>
#include <string.h>

enum apic_timer_mode lapic_timer_mode(const struct lapic *lapic)
{
    return (enum apic_timer_mode)(lapic_get(lapic, APIC_LVT_TIMER) >> 17 & 3);
}

/* Nanoseconds a count: 1 to 128. */
static uint64_t divisor(const struct lapic *lapic)
{
    uint32_t value = lapic_get(lapic, APIC_TIMER_DIVIDE);
    unsigned power = (value & 3) | (value >> 1 & 4);

    return UINT64_C(1) << ((power + 1) % 8);
}

static uint64_t later(uint64_t now_ns, uint64_t by_ns)
{
    return by_ns < IRQCHIP_NEVER - now_ns ? now_ns + by_ns : IRQCHIP_NEVER;
}

uint32_t lapic_timer_current(const struct lapic *lapic, uint64_t now_ns)
{
    uint64_t left_ns;

    if (lapic_timer_mode(lapic) == APIC_TSC_DEADLINE || lapic->deadline_ns == IRQCHIP_NEVER ||
        lapic->deadline_ns <= now_ns) {
        return 0;
    }
    left_ns = lapic->deadline_ns - now_ns;
    return (uint32_t)((left_ns + divisor(lapic) - 1) / divisor(lapic));
}

/* With so many counts left. */
static void run(struct lapic *lapic, uint32_t count, uint64_t now_ns)
{
    lapic->deadline_ns =
        count == 0 ? IRQCHIP_NEVER : later(now_ns, (uint64_t)count * divisor(lapic));
}

void lapic_timer_start(struct lapic *lapic, uint32_t count, uint64_t now_ns)
{
    lapic_put(lapic, APIC_TIMER_INITIAL, count);
    run(lapic, count, now_ns);
}

void lapic_timer_divide(struct lapic *lapic, uint32_t value, uint64_t now_ns)
{
    uint32_t left = lapic_timer_current(lapic, now_ns);

    lapic_put(lapic, APIC_TIMER_DIVIDE, value & 0xb);
    if (left != 0) {
        run(lapic, left, now_ns);
    }
}

void lapic_timer_mode_changed(struct lapic *lapic, enum apic_timer_mode before)
{
    enum apic_timer_mode mode = lapic_timer_mode(lapic);

    if ((mode == APIC_TSC_DEADLINE) != (before == APIC_TSC_DEADLINE)) {
        lapic->deadline_ns = IRQCHIP_NEVER;
        lapic->tsc_deadline = 0;
        lapic_put(lapic, APIC_TIMER_INITIAL, 0);
    }
}

void lapic_timer_arm_tsc(struct lapic *lapic, uint64_t deadline, uint64_t tsc_now, uint32_t tsc_khz,
                         uint64_t now_ns)
{
    unsigned __int128 by_ns = 0;

    if (lapic_timer_mode(lapic) != APIC_TSC_DEADLINE) {
        return;
    }
    lapic->tsc_deadline = deadline;
    lapic->deadline_ns = IRQCHIP_NEVER;
    if (deadline == 0) {
        return;
    }
    if (deadline > tsc_now) {
        by_ns = ((unsigned __int128)(deadline - tsc_now) * 1000000 + tsc_khz - 1) / tsc_khz;
    }
    lapic->deadline_ns = later(now_ns, by_ns < IRQCHIP_NEVER ? (uint64_t)by_ns : IRQCHIP_NEVER);
}

/* A vCPU that looks again at each tick must get on between them, however fast its guest would have them. */
static uint64_t due_ns(const struct lapic *lapic)
{
    uint64_t soonest_ns = later(lapic->last_tick_ns, IRQCHIP_TICK_MIN_NS);

    if (lapic_timer_mode(lapic) == APIC_PERIODIC && lapic->last_tick_ns != 0 &&
        lapic->deadline_ns < soonest_ns) {
        return soonest_ns;
    }
    return lapic->deadline_ns;
}

void lapic_timer_expire(struct turn *turn, struct lapic *lapic)
{
    uint64_t period_ns = lapic_get(lapic, APIC_TIMER_INITIAL) * divisor(lapic);

    if (turn->now_ns < due_ns(lapic) || lapic->deadline_ns == IRQCHIP_NEVER) {
        return;
    }
    lapic->last_tick_ns = turn->now_ns;
    if (lapic_timer_mode(lapic) == APIC_PERIODIC && period_ns != 0) {
        uint64_t missed = (turn->now_ns - lapic->deadline_ns) / period_ns;

        lapic->deadline_ns = later(lapic->deadline_ns, (missed + 1) * period_ns);
    } else {
        lapic->deadline_ns = IRQCHIP_NEVER;
        lapic->tsc_deadline = 0;
    }
    lapic_local(turn, lapic, APIC_LVT_TIMER);
}

/* A masked timer needs no attention: it can be seen later that it has expired. */
uint64_t lapic_timer_deadline(const struct lapic *lapic)
{
    bool is_masked = (lapic_get(lapic, APIC_LVT_TIMER) & APIC_LVT_MASKED) != 0;

    return is_masked ? IRQCHIP_NEVER : due_ns(lapic);
}

/* The ID's place in a state: 8 bits as in xAPIC mode, or all 32. */
static unsigned id_shift(const struct turn *turn, const struct lapic *lapic)
{
    return lapic_is_x2apic(lapic) &&
                   !irqchip_has_x2apic_api(turn->chip, KVM_X2APIC_API_USE_32BIT_IDS)
               ? 24
               : 0;
}

void lapic_get_state(const struct turn *turn, const struct lapic *lapic,
                     struct kvm_lapic_state *state)
{
    struct lapic copy = *lapic;

    lapic_put(&copy, APIC_ID, lapic_get(lapic, APIC_ID) << id_shift(turn, lapic));
    lapic_put(&copy, APIC_PPR, lapic_priority(lapic));
    lapic_put(&copy, APIC_TIMER_CURRENT, lapic_timer_current(lapic, turn->now_ns));
    memcpy(state->regs, copy.registers, sizeof(state->regs));
}

/* Bytes from outside become registers that a guest could have written, where something hangs on it. */
int lapic_set_state(struct turn *turn, struct lapic *lapic, const struct kvm_lapic_state *state)
{
    uint32_t version = lapic_get(lapic, APIC_VERSION);
    uint32_t left;
    uint32_t id;

    memcpy(&id, state->regs + APIC_ID, sizeof(id));
    if (lapic_is_x2apic(lapic) && id_shift(turn, lapic) == 0 && id != lapic->vcpu) {
        return -EINVAL;
    }
    memcpy(lapic->registers, state->regs, sizeof(lapic->registers));
    lapic_put(lapic, APIC_VERSION, version);
    if (lapic_is_x2apic(lapic)) {
        lapic_derive_ids(lapic);
    }
    lapic->errors = 0;
    lapic->tsc_deadline = 0;
    left = lapic_get(lapic, APIC_TIMER_CURRENT);
    if (left == 0 && lapic_timer_mode(lapic) == APIC_PERIODIC) {
        left = lapic_get(lapic, APIC_TIMER_INITIAL);
    }
    if (lapic_timer_mode(lapic) == APIC_TSC_DEADLINE) {
        left = 0;
    }
    run(lapic, left, turn->now_ns);
    turn_wake(turn, lapic->vcpu);
    return 0;
}
