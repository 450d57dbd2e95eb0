/*
 * soft/irqchip/ioapic.c - 82093AA: registers, pins, and messages to local APICs.
 *
 * Source: Intel 82093AA data sheet. As KVM, it has version 0x11 without an EOI register, and all pins are active
 * high: polarity is how a line is wired.
 */
#include "soft/irqchip/ioapic.h"

#include "soft/irqchip/bus.h"
#include "soft/irqchip/chip.h"

#include <string.h>

#define OFFSET_SELECT 0x00u
#define OFFSET_WINDOW 0x10u

#define REGISTER_ID 0u
#define REGISTER_VERSION 1u
#define REGISTER_ARBITRATION 2u
#define REGISTER_ENTRIES 0x10u
#define VERSION (0x11u | (KVM_IOAPIC_NUM_PINS - 1u) << 16)
#define ID_SHIFT 24u
#define ID_MASK 0xfu

#define ENTRY_MASKED (UINT64_C(1) << 16)
#define ENTRY_LEVEL (UINT64_C(1) << 15)
#define ENTRY_REMOTE_IRR (UINT64_C(1) << 14)
#define ENTRY_STATUS (UINT64_C(1) << 12)
#define ENTRY_READ_ONLY (ENTRY_REMOTE_IRR | ENTRY_STATUS)
#define MODE_LAST_OF_FIXED 1u

void ioapic_reset(struct ioapic *ioapic)
{
    memset(ioapic, 0, sizeof(*ioapic));
    ioapic->state.base_address = IOAPIC_BASE;
    for (unsigned i = 0; i < KVM_IOAPIC_NUM_PINS; i++) {
        ioapic->state.redirtbl[i].bits = ENTRY_MASKED;
    }
}

static struct apic_message message_of(uint64_t entry)
{
    return (struct apic_message){
        .vector = (uint8_t)entry,
        .mode = entry >> 8 & 7,
        .is_logical = (entry >> 11 & 1) != 0,
        .is_level = (entry & ENTRY_LEVEL) != 0,
        .destination = (uint8_t)(entry >> 56),
    };
}

/* A pin is high: send its message, unless its entry forbids it. Return: as irqchip_set_line(). */
static int send(struct turn *turn, unsigned pin)
{
    struct ioapic *ioapic = &turn->chip->ioapic;
    __u64 *entry = &ioapic->state.redirtbl[pin].bits;
    struct apic_message message = message_of(*entry);
    int count;

    if ((*entry & ENTRY_MASKED) != 0) {
        return -1;
    }
    if (message.is_level && (*entry & ENTRY_REMOTE_IRR) != 0) {
        return -1;
    }
    /* The PICs reach processors by LINT0, as far as this machine goes. */
    count = message.mode == APIC_EXTINT ? -1 : bus_send(turn, &message);
    if (!message.is_level) {
        ioapic->delivered |= 1u << pin;
    } else if (count > 0 && message.mode <= MODE_LAST_OF_FIXED) {
        *entry |= ENTRY_REMOTE_IRR;
    }
    return count;
}

int ioapic_set_pin(struct turn *turn, unsigned pin, bool level)
{
    struct ioapic *ioapic = &turn->chip->ioapic;
    uint32_t bit = 1u << pin;
    bool is_level = (ioapic->state.redirtbl[pin].bits & ENTRY_LEVEL) != 0;
    bool was_high = (ioapic->state.irr & bit) != 0;

    if (!level) {
        ioapic->state.irr &= ~bit;
        return 1;
    }
    ioapic->state.irr |= bit;
    if (!is_level) {
        ioapic->delivered &= ~bit;
        if (was_high) {
            return 0;
        }
    }
    return send(turn, pin);
}

void ioapic_end_of_interrupt(struct turn *turn, uint8_t vector)
{
    struct ioapic *ioapic = &turn->chip->ioapic;

    for (unsigned pin = 0; pin < KVM_IOAPIC_NUM_PINS; pin++) {
        __u64 *entry = &ioapic->state.redirtbl[pin].bits;

        if ((uint8_t)*entry != vector || (*entry & ENTRY_LEVEL) == 0) {
            continue;
        }
        *entry &= ~ENTRY_REMOTE_IRR;
        routes_end(turn, PIC_PINS + pin);
        if ((ioapic->state.irr >> pin & 1) != 0 && (*entry & ENTRY_REMOTE_IRR) == 0) {
            (void)send(turn, pin);
        }
    }
}

static uint32_t read_window(const struct ioapic *ioapic)
{
    uint32_t index = ioapic->state.ioregsel;
    unsigned pin = (index - REGISTER_ENTRIES) / 2;

    switch (index) {
    case REGISTER_VERSION:
        return VERSION;
    case REGISTER_ID:
    case REGISTER_ARBITRATION:
        return (ioapic->state.id & ID_MASK) << ID_SHIFT;
    default:
        if (index < REGISTER_ENTRIES || pin >= KVM_IOAPIC_NUM_PINS) {
            return UINT32_MAX;
        }
        return (uint32_t)(ioapic->state.redirtbl[pin].bits >> (index % 2 * 32));
    }
}

static void write_entry(struct turn *turn, unsigned pin, unsigned shift, uint32_t value)
{
    struct ioapic *ioapic = &turn->chip->ioapic;
    __u64 *entry = &ioapic->state.redirtbl[pin].bits;
    uint64_t writable = (UINT64_C(0xffffffff) << shift) & ~ENTRY_READ_ONLY;

    *entry = (*entry & ~writable) | ((uint64_t)value << shift & writable);
    if ((*entry & ENTRY_LEVEL) == 0) {
        *entry &= ~ENTRY_REMOTE_IRR;
    } else if ((ioapic->state.irr >> pin & 1) != 0) {
        (void)send(turn, pin); /* a level that waited; an edge on a masked pin is lost */
    }
}

static void write_window(struct turn *turn, uint32_t value)
{
    struct kvm_ioapic_state *state = &turn->chip->ioapic.state;
    uint32_t index = state->ioregsel;
    unsigned pin = (index - REGISTER_ENTRIES) / 2;

    if (index == REGISTER_ID) {
        state->id = value >> ID_SHIFT & ID_MASK;
    } else if (index >= REGISTER_ENTRIES && pin < KVM_IOAPIC_NUM_PINS) {
        write_entry(turn, pin, index % 2 * 32, value);
    }
}

uint32_t ioapic_read(const struct ioapic *ioapic, unsigned offset)
{
    switch (offset) {
    case OFFSET_SELECT:
        return ioapic->state.ioregsel;
    case OFFSET_WINDOW:
        return read_window(ioapic);
    default:
        return 0;
    }
}

void ioapic_write(struct turn *turn, unsigned offset, uint32_t value)
{
    if (offset == OFFSET_SELECT) {
        turn->chip->ioapic.state.ioregsel = value & 0xff;
    } else if (offset == OFFSET_WINDOW) {
        write_window(turn, value);
    }
}

void ioapic_get(const struct ioapic *ioapic, struct kvm_ioapic_state *state)
{
    *state = ioapic->state;
    state->irr &= ~ioapic->delivered;
}

/* Pins that the state says are high rise now, as in KVM: what they ask for is sent. */
void ioapic_set(struct turn *turn, const struct kvm_ioapic_state *state)
{
    struct ioapic *ioapic = &turn->chip->ioapic;

    ioapic->state = *state;
    ioapic->state.irr = 0;
    ioapic->delivered = 0;
    for (unsigned pin = 0; pin < KVM_IOAPIC_NUM_PINS; pin++) {
        if ((state->irr >> pin & 1) != 0) {
            (void)ioapic_set_pin(turn, pin, true);
        }
    }
}
