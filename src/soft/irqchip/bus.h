/*
 * soft/irqchip/bus.h - messages between APICs: from pins, devices and processors to those whom they are for.
 */
#ifndef SOFT_IRQCHIP_BUS_H
#define SOFT_IRQCHIP_BUS_H

#include <stdbool.h>
#include <stdint.h>

struct turn;
struct lapic;

/* Delivery modes: SDM 3A, "Interrupt Command Register (ICR)". */
enum apic_mode {
    APIC_FIXED = 0,
    APIC_LOWEST = 1,
    APIC_SMI = 2,
    APIC_NMI = 4,
    APIC_INIT = 5,
    APIC_STARTUP = 6,
    APIC_EXTINT = 7,
};

struct apic_message {
    uint8_t vector;
    uint8_t mode;         /* 0 to 7 */
    uint32_t destination; /* 8 bits, but from an x2APIC or of devices that are told 32-bit IDs */
    bool is_logical;
    bool is_level;
    bool is_to_lowest; /* to one of those it is for, of the lowest priority */
    bool is_ipi;       /* a processor's */
};

/* Return: how many took it. */
int bus_send(struct turn *turn, const struct apic_message *message);

/* To everyone but @except, or to all if that is NULL. */
int bus_broadcast(struct turn *turn, const struct apic_message *message,
                  const struct lapic *except);

#endif
