/*
 * soft/irqchip/ioapic.h - the 82093AA: 24 pins, each with a redirection entry. Its state is kept as KVM gives it out.
 */
#ifndef SOFT_IRQCHIP_IOAPIC_H
#define SOFT_IRQCHIP_IOAPIC_H

#include <linux/kvm.h>
#include <stdbool.h>
#include <stdint.h>

#define IOAPIC_BASE 0xfec00000u
#define IOAPIC_BYTES 0x100u

struct turn;

struct ioapic {
    struct kvm_ioapic_state state; /* `irr`: pins that are high */
    uint32_t delivered;            /* of these, edges that were: KVM does not give them out */
};

void ioapic_reset(struct ioapic *ioapic);

/* @offset is below IOAPIC_BYTES. A register's 32 bits, by the address of its first byte; else 0, nothing. */
uint32_t ioapic_read(const struct ioapic *ioapic, unsigned offset);
void ioapic_write(struct turn *turn, unsigned offset, uint32_t value);

/* @pin is below 24. Return: as irqchip_set_line(). */
int ioapic_set_pin(struct turn *turn, unsigned pin, bool level);

/* A local APIC ended the service of a vector that came by level. */
void ioapic_end_of_interrupt(struct turn *turn, uint8_t vector);

void ioapic_get(const struct ioapic *ioapic, struct kvm_ioapic_state *state);
void ioapic_set(struct turn *turn, const struct kvm_ioapic_state *state);

#endif
