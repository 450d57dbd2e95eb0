/*
 * unit/irq_rig.h - interrupt chips for tests: a clock that tests turn, and who was woken.
 */
#ifndef UNIT_IRQ_RIG_H
#define UNIT_IRQ_RIG_H

#include "soft/irqchip/irqchip.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#define APIC UINT64_C(0xfee00000)
#define IOAPIC UINT64_C(0xfec00000)
#define MS UINT64_C(1000000)

struct irq_rig {
    struct irqchip *chip;
    uint64_t now_ns;
    atomic_uint woken[IRQCHIP_VCPUS];
    uint32_t ended_gsi; /* the last, and how many there were */
    unsigned ended;
};

static inline uint64_t rig_now(void *opaque)
{
    return ((struct irq_rig *)opaque)->now_ns;
}

/* That it may call the room is part of the contract: it would hang if the lock were held. */
static inline void rig_wake(void *opaque, unsigned vcpu)
{
    struct irq_rig *rig = opaque;

    rig->woken[vcpu]++;
    (void)irqchip_apic_base(rig->chip, vcpu);
}

static inline void rig_ended(void *opaque, uint32_t gsi)
{
    struct irq_rig *rig = opaque;

    rig->ended++;
    rig->ended_gsi = gsi;
    (void)irqchip_apic_base(rig->chip, 0);
}

/* vCPUs 0 to @vcpus - 1; a PIT with a speaker. */
static inline struct irq_rig *rig_open(unsigned vcpus)
{
    static struct irq_rig rig;
    const struct irqchip_options options = {
        .now_ns = rig_now, .wake = rig_wake, .ended = rig_ended, .opaque = &rig};
    const struct kvm_pit_config pit = {.flags = KVM_PIT_SPEAKER_DUMMY};

    memset(&rig, 0, sizeof(rig));
    rig.now_ns = 1000 * MS;
    assert_int_equal(irqchip_new(&options, &rig.chip), 0);
    for (unsigned i = 0; i < vcpus; i++) {
        assert_int_equal(
            irqchip_vcpu_add(rig.chip, i, i == 0 ? IRQCHIP_BOOTSTRAP : IRQCHIP_APPLICATION), 0);
    }
    assert_int_equal(irqchip_ioctl_create_pit(rig.chip, &pit), 0);
    return &rig;
}

static inline void rig_close(struct irq_rig *rig)
{
    for (unsigned i = 0; i < IRQCHIP_VCPUS; i++) {
        irqchip_vcpu_remove(rig->chip, i);
    }
    irqchip_free(rig->chip);
}

static inline void port_out(struct irq_rig *rig, uint16_t port, uint8_t value)
{
    assert_true(irqchip_port_write(rig->chip, port, 1, value));
}

static inline uint8_t port_in(struct irq_rig *rig, uint16_t port)
{
    uint32_t value = 0;

    assert_true(irqchip_port_read(rig->chip, port, 1, &value));
    return (uint8_t)value;
}

static inline void mmio_out(struct irq_rig *rig, unsigned vcpu, uint64_t gpa, uint32_t value)
{
    assert_true(irqchip_mmio_write(rig->chip, vcpu, gpa, 4, &value));
}

static inline uint32_t mmio_in(struct irq_rig *rig, unsigned vcpu, uint64_t gpa)
{
    uint32_t value = 0;

    assert_true(irqchip_mmio_read(rig->chip, vcpu, gpa, 4, &value));
    return value;
}

static inline void line(struct irq_rig *rig, unsigned gsi, bool level)
{
    (void)irqchip_set_line(rig->chip, gsi, level);
}

static inline void pulse(struct irq_rig *rig, unsigned gsi)
{
    line(rig, gsi, true);
    line(rig, gsi, false);
}

static inline int take(struct irq_rig *rig, unsigned vcpu)
{
    return irqchip_take_interrupt(rig->chip, vcpu);
}

static inline bool pending(struct irq_rig *rig, unsigned vcpu)
{
    return (irqchip_vcpu_pending(rig->chip, vcpu) & IRQCHIP_INTERRUPT) != 0;
}

/* As a PC's BIOS: vectors 0x20 and 0x28 on, @icw4; nothing is masked. */
static inline void pics_init(struct irq_rig *rig, uint8_t icw4)
{
    port_out(rig, 0x20, 0x11);
    port_out(rig, 0x21, 0x20);
    port_out(rig, 0x21, 0x04);
    port_out(rig, 0x21, icw4);
    port_out(rig, 0xa0, 0x11);
    port_out(rig, 0xa1, 0x28);
    port_out(rig, 0xa1, 0x02);
    port_out(rig, 0xa1, icw4);
    port_out(rig, 0x21, 0);
    port_out(rig, 0xa1, 0);
}

/* Enable an APIC by its SVR, with flat logical ID @ldr. */
static inline void apic_enable(struct irq_rig *rig, unsigned vcpu, uint8_t ldr)
{
    mmio_out(rig, vcpu, APIC + 0xf0, 0x1ff);
    mmio_out(rig, vcpu, APIC + 0xd0, (uint32_t)ldr << 24);
}

static inline void ioapic_out(struct irq_rig *rig, unsigned index, uint32_t value)
{
    mmio_out(rig, 0, IOAPIC, index);
    mmio_out(rig, 0, IOAPIC + 0x10, value);
}

static inline uint32_t ioapic_in(struct irq_rig *rig, unsigned index)
{
    mmio_out(rig, 0, IOAPIC, index);
    return mmio_in(rig, 0, IOAPIC + 0x10);
}

static inline void ioapic_entry(struct irq_rig *rig, unsigned pin, uint64_t entry)
{
    ioapic_out(rig, 0x11 + 2 * pin, (uint32_t)(entry >> 32));
    ioapic_out(rig, 0x10 + 2 * pin, (uint32_t)entry);
}

#endif
