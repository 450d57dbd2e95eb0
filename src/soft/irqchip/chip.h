/*
 * soft/irqchip/chip.h - the chips together, inside of the room; the lock, and what it is to hold it.
 */
#ifndef SOFT_IRQCHIP_CHIP_H
#define SOFT_IRQCHIP_CHIP_H

#include "base/alloc.h"
#include "base/lock.h"
#include "soft/irqchip/ioapic.h"
#include "soft/irqchip/irqchip.h"
#include "soft/irqchip/lapic.h"
#include "soft/irqchip/pic.h"
#include "soft/irqchip/pit.h"

#include <stdatomic.h>

#define WAKE_WORDS ((IRQCHIP_VCPUS + 63u) / 64u)
#define ROUTES_PER_GSI 3u /* one for each chip */

/* Where a GSI leads: a pin of a chip, or a message. */
struct gsi_route {
    uint32_t gsi;
    uint32_t chip; /* KVM_IRQCHIP_*, or ROUTE_MSI */
    uint32_t pin;  /* of the chip */
    uint32_t data;
    uint64_t address;
};

#define ROUTE_MSI KVM_NR_IRQCHIPS

/* What drives a pin: it is high while any of these does. */
enum pin_source {
    SOURCE_LINE = 1 << 0,     /* irqchip_set_line(), the PIT */
    SOURCE_RESAMPLE = 1 << 1, /* irqchip_resample_line() */
};
#define PIC_PINS 16u
#define PINS (PIC_PINS + KVM_IOAPIC_NUM_PINS) /* of the PICs, of the IOAPIC */

struct irqchip {
    struct irqchip_options options;
    struct gm_allocator allocator;

    atomic_uint
        x2apic_api; /* KVM_X2APIC_API_*; relaxed: users say it before the calls that it is about */

    struct lock lock; /* rank IRQ: all below */
    uint64_t now_ns;  /* the latest that a call came with */
    struct pic_pair pics;
    struct ioapic ioapic;
    struct pit pit;
    bool has_pit;
    bool pic_out; /* the PICs' output as LINT0 last saw it */
    struct lapic *lapics[IRQCHIP_VCPUS];
    unsigned last_lowest; /* who was last given a lowest-priority interrupt among equals */
    struct gsi_route *routes;
    size_t route_count;
    uint8_t sources[PINS]; /* enum pin_source */
};

/*
 * A call that holds the lock, with the time it came at, and whom to wake when it is over. Functions that take
 * one need the lock.
 */
struct turn {
    struct irqchip *chip;
    uint64_t now_ns;
    uint64_t wake[WAKE_WORDS];
    uint32_t ended[PINS]; /* GSIs whose interrupts have ended */
    unsigned ended_count;
};

/* Take the lock, and let happen what timers have due. */
void turn_begin(struct turn *turn, struct irqchip *chip);

/* Look at the PICs' output, drop the lock, wake. */
void turn_end(struct turn *turn);

static inline void turn_wake(struct turn *turn, unsigned vcpu)
{
    turn->wake[vcpu / 64] |= UINT64_C(1) << (vcpu % 64);
}

/* A vCPU's APIC, or NULL. */
static inline struct lapic *chip_lapic(const struct irqchip *chip, unsigned vcpu)
{
    return vcpu < IRQCHIP_VCPUS ? chip->lapics[vcpu] : NULL;
}

static inline bool irqchip_has_x2apic_api(const struct irqchip *chip, unsigned flag)
{
    return (atomic_load_explicit(&chip->x2apic_api, memory_order_relaxed) & flag) != 0;
}

/* Everyone's deadline may have come nearer. */
void turn_wake_all(struct turn *turn);

/* routes.c */
int routes_set_default(struct irqchip *chip);
int routes_set_line(struct turn *turn, uint32_t gsi, bool level);
int routes_set_source(struct turn *turn, uint32_t gsi, enum pin_source source, bool level);
/* The guest has ended a pin's interrupt: who resamples drives it no more. A pin is below PINS. */
void routes_end(struct turn *turn, unsigned pin);
int routes_send_msi(struct turn *turn, uint64_t address, uint32_t data);

#endif
