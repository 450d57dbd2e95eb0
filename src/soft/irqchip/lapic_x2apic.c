/*
 * soft/irqchip/lapic_x2apic.c - a local APIC's modes, and its registers as MSRs in x2APIC mode.
 *
 * Source: SDM 3A, "Extended XAPIC (x2APIC)". Which bits are refused was asked of Linux 6.1 and 6.18
 * (tests/unit/test_soft_x2apic.c).
 */
#include "soft/irqchip/chip.h"

#define CLUSTER_SIZE 16u
#define ICR_KNOWN UINT64_C(0xffffffff000cdfff)
#define SELF_IPI_KNOWN UINT64_C(0xff)
#define SHORTHAND_SELF (1u << 18)
#define ICR_ASSERT (1u << 14)

/* SDM "Deriving Logical x2APIC ID from the Local x2APIC ID". */
void lapic_derive_ids(struct lapic *lapic)
{
    uint32_t id = lapic->vcpu;

    lapic_put(lapic, APIC_ID, id);
    lapic_put(lapic, APIC_LDR, id / CLUSTER_SIZE << 16 | 1u << id % CLUSTER_SIZE);
}

void lapic_set_base(struct lapic *lapic, uint64_t value)
{
    uint64_t before = lapic->base;
    uint64_t modes = APIC_BASE_ENABLE | APIC_BASE_X2APIC;

    lapic->base = value;
    if (((before ^ value) & modes) == 0 || !lapic_is_present(lapic)) {
        return;
    }
    if (lapic_is_x2apic(lapic)) {
        lapic_derive_ids(lapic);
    } else {
        lapic_put(lapic, APIC_ID, lapic->vcpu << 24);
    }
}

static unsigned register_of(uint32_t number)
{
    return (number - IRQCHIP_X2APIC_FIRST) << 4;
}

static bool is_lvt(unsigned at)
{
    return at >= APIC_LVT_TIMER && at <= APIC_LVT_ERROR;
}

static bool is_readable(unsigned at)
{
    switch (at) {
    case APIC_ID:
    case APIC_VERSION:
    case APIC_TPR:
    case APIC_PPR:
    case APIC_LDR:
    case APIC_SVR:
    case APIC_ESR:
    case APIC_ICR_LOW:
    case APIC_TIMER_INITIAL:
    case APIC_TIMER_CURRENT:
    case APIC_TIMER_DIVIDE:
        return true;
    default:
        return (at >= APIC_ISR && at < APIC_ESR) || is_lvt(at);
    }
}

/* The bits that a register takes without #GP; those that it has not got are dropped. 0: none can be written. */
static uint64_t bits_taken(unsigned at)
{
    switch (at) {
    case APIC_TPR:
    case APIC_EOI:
    case APIC_SVR:
    case APIC_TIMER_INITIAL:
    case APIC_TIMER_DIVIDE:
        return UINT32_MAX;
    case APIC_ICR_LOW:
        return ICR_KNOWN;
    case APIC_SELF_IPI:
        return SELF_IPI_KNOWN;
    default:
        return is_lvt(at) ? UINT32_MAX : 0;
    }
}

bool lapic_read_msr(struct turn *turn, struct lapic *lapic, uint32_t number, uint64_t *value)
{
    unsigned at = register_of(number);

    if (!lapic_is_x2apic(lapic) || !is_readable(at)) {
        return false;
    }
    *value = lapic_read(turn, lapic, at);
    if (at == APIC_ICR_LOW) {
        *value |= (uint64_t)lapic_get(lapic, APIC_ICR_HIGH) << 32;
    }
    return true;
}

bool lapic_write_msr(struct turn *turn, struct lapic *lapic, uint32_t number, uint64_t value)
{
    unsigned at = register_of(number);
    bool is_writable = bits_taken(at) != 0 || at == APIC_ESR; /* that takes 0 alone */

    if (!lapic_is_x2apic(lapic) || !is_writable || (value & ~bits_taken(at)) != 0) {
        return false;
    }
    switch (at) {
    case APIC_ICR_LOW:
        lapic_put(lapic, APIC_ICR_HIGH, (uint32_t)(value >> 32));
        lapic_command(turn, lapic, (uint32_t)value, (uint32_t)(value >> 32));
        break;
    case APIC_SELF_IPI:
        lapic_send(turn, lapic, SHORTHAND_SELF | ICR_ASSERT | (uint8_t)value, 0);
        break;
    default:
        lapic_write(turn, lapic, at, (uint32_t)value);
        break;
    }
    return true;
}
