/*
 * unit/test_irqchip_x2apic.c - local APICs in x2APIC mode by SDM 3A, "Extended XAPIC (x2APIC)": modes, registers as MSRs,
 * destinations of 32 bits, states. Where KVM has its own way, answers are those of Linux 6.1 and 6.18.
 */
#include "unit/irq_rig.h"

#define ENABLED UINT64_C(0x800)
#define X2APIC UINT64_C(0xc00)
#define ID 0x802u
#define TPR 0x808u
#define EOI 0x80bu
#define LDR 0x80du
#define SVR 0x80fu
#define ESR 0x828u
#define ICR 0x830u
#define SELF_IPI 0x83fu
#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

static bool rdmsr(struct irq_rig *rig, unsigned vcpu, uint32_t number, uint64_t *value)
{
    return irqchip_read_x2apic(rig->chip, vcpu, number, value);
}

static bool wrmsr(struct irq_rig *rig, unsigned vcpu, uint32_t number, uint64_t value)
{
    return irqchip_write_x2apic(rig->chip, vcpu, number, value);
}

static uint64_t value_of(struct irq_rig *rig, unsigned vcpu, uint32_t number)
{
    uint64_t value = 0;

    assert_true(rdmsr(rig, vcpu, number, &value));
    return value;
}

static int set_mode(struct irq_rig *rig, unsigned vcpu, uint64_t mode)
{
    return irqchip_set_apic_base(rig->chip, vcpu, APIC | mode | (vcpu == 0 ? 0x100 : 0));
}

/* All in x2APIC mode, and enabled by software. */
static struct irq_rig *open_x2apics(unsigned vcpus)
{
    struct irq_rig *rig = rig_open(vcpus);

    for (unsigned i = 0; i < vcpus; i++) {
        assert_int_equal(set_mode(rig, i, X2APIC), 0);
        assert_true(wrmsr(rig, i, SVR, 0x1ff));
    }
    return rig;
}

/* Who has been sent the vector, in bits; they end it. */
static uint32_t who_took(struct irq_rig *rig, uint8_t vector)
{
    uint32_t takers = 0;

    for (unsigned i = 0; i < 32; i++) {
        int taken = take(rig, i);

        assert_true(taken == -1 || taken == vector);
        if (taken >= 0) {
            takers |= 1u << i;
            assert_true(wrmsr(rig, i, EOI, 0));
        }
    }
    return takers;
}

static uint32_t sent(struct irq_rig *rig, uint32_t destination, uint32_t command)
{
    assert_true(wrmsr(rig, 1, ICR, (uint64_t)destination << 32 | command));
    return who_took(rig, (uint8_t)command);
}

static void x2apic_ids_follow_the_mode(void **state)
{
    /* The logical ID is the cluster, and a bit of 16; with xAPIC mode the other ID comes back. */
    struct irq_rig *rig = rig_open(18);
    uint64_t value;

    (void)state;
    mmio_out(rig, 17, APIC + 0x20, 9u << 24);
    assert_false(rdmsr(rig, 17, ID, &value));
    assert_false(wrmsr(rig, 17, TPR, 0));
    assert_int_equal(set_mode(rig, 17, X2APIC), 0);
    assert_int_equal(value_of(rig, 17, ID), 17);
    assert_int_equal(value_of(rig, 17, LDR), 0x10002);
    assert_int_equal(set_mode(rig, 17, 0x400), -EINVAL); /* no such mode */
    assert_int_equal(irqchip_apic_base(rig->chip, 17), APIC | X2APIC);
    assert_int_equal(set_mode(rig, 17, 0), 0);
    assert_false(rdmsr(rig, 17, ID, &value));
    assert_int_equal(set_mode(rig, 17, ENABLED), 0);
    assert_int_equal(mmio_in(rig, 17, APIC + 0x20), 17u << 24);
    assert_false(rdmsr(rig, 17, ID, &value));
    assert_false(rdmsr(rig, 100, ID, &value)); /* there is no such vCPU */
    assert_false(wrmsr(rig, 100, TPR, 0));
    rig_close(rig);
}

static void x2apic_window_is_a_hole(void **state)
{
    struct irq_rig *rig = open_x2apics(1);

    (void)state;
    assert_int_equal(mmio_in(rig, 0, APIC + 0x30), 0xffffffff);
    mmio_out(rig, 0, APIC + 0x80, 0x50);
    assert_int_equal(value_of(rig, 0, TPR), 0);
    rig_close(rig);
}

static void x2apic_registers_are_those_of_the_manual(void **state)
{
    /* SDM, "x2APIC Register Address Space": which can be read, which be written; upper halves are reserved. */
    static const struct {
        uint32_t first, last;
        bool is_read, is_written;
    } there[] = {
        {0x802, 0x803, true, false}, {0x808, 0x808, true, true},  {0x80a, 0x80a, true, false},
        {0x80b, 0x80b, false, true}, {0x80d, 0x80d, true, false}, {0x80f, 0x80f, true, true},
        {0x810, 0x827, true, false}, {0x828, 0x828, true, true},  {0x830, 0x830, true, true},
        {0x832, 0x838, true, true},  {0x839, 0x839, true, false}, {0x83e, 0x83e, true, true},
        {0x83f, 0x83f, false, true}};
    struct irq_rig *rig = open_x2apics(1);

    (void)state;
    for (uint32_t number = IRQCHIP_X2APIC_FIRST; number <= IRQCHIP_X2APIC_LAST; number++) {
        bool is_read = false, is_written = false;
        uint64_t value;

        for (size_t i = 0; i < COUNT(there); i++) {
            if (number >= there[i].first && number <= there[i].last) {
                is_read = there[i].is_read;
                is_written = there[i].is_written;
            }
        }
        assert_int_equal(rdmsr(rig, 0, number, &value), is_read);
        assert_int_equal(wrmsr(rig, 0, number, 0), is_written);
        assert_int_equal(wrmsr(rig, 0, number, UINT64_C(1) << 32), number == ICR);
    }
    rig_close(rig);
}

static void x2apic_reserved_bits_are_kvms(void **state)
{
    /* #GP of ICR, ESR and SELF_IPI; elsewhere they are dropped. */
    struct irq_rig *rig = open_x2apics(2);
    uint64_t taken = 0, kept = 0;

    (void)state;
    for (unsigned bit = 0; bit < 64; bit++) {
        uint64_t one = UINT64_C(1) << bit;

        if (wrmsr(rig, 0, ICR, one | 0xc0040)) { /* to all others */
            taken |= one;
            kept |= value_of(rig, 0, ICR) & one;
        }
        (void)irqchip_take_init(rig->chip, 1);
        assert_int_equal(wrmsr(rig, 0, ESR, one), false);
        assert_int_equal(wrmsr(rig, 0, SELF_IPI, one | 0x40), bit < 8);
    }
    assert_int_equal(taken, UINT64_C(0xffffffff000cdfff));
    assert_int_equal(kept, UINT64_C(0xffffffff000ccfff));
    assert_true(wrmsr(rig, 0, TPR, 0xffffffff));
    assert_int_equal(value_of(rig, 0, TPR), 0xff);
    assert_true(wrmsr(rig, 0, 0x83e, 0xffffffff));
    assert_int_equal(value_of(rig, 0, 0x83e), 0xb);
    rig_close(rig);
}

static void x2apic_ipis_find_their_destinations(void **state)
{
    struct irq_rig *rig = open_x2apics(18);

    (void)state;
    assert_int_equal(sent(rig, 17, 0x4041), 1u << 17);
    assert_int_equal(value_of(rig, 1, ICR), UINT64_C(17) << 32 | 0x4041);
    assert_int_equal(sent(rig, UINT32_MAX, 0x4041), 0x3ffff);
    assert_int_equal(sent(rig, 0xff, 0x4041), 0);
    assert_int_equal(sent(rig, 0x101, 0x4041), 0); /* not the ID 1 */
    assert_int_equal(sent(rig, 0xff, 0x4841), 0xff);
    assert_int_equal(sent(rig, 0x8001, 0x4841), 0x8001);
    assert_int_equal(sent(rig, 0x1ffff, 0x4841), 0x30000);
    assert_int_equal(sent(rig, 0x20003, 0x4841), 0);
    assert_int_equal(sent(rig, UINT32_MAX, 0x4841), 0x3ffff);
    assert_int_equal(sent(rig, 0, 0x40041), 2);
    assert_int_equal(sent(rig, 0, 0x80041), 0x3ffff);
    assert_int_equal(sent(rig, 0, 0xc0041), 0x3fffd);
    assert_int_equal(__builtin_popcount(sent(rig, 0xf0, 0x4941)), 1); /* the lowest of them */
    rig_close(rig);
}

static void x2apic_self_ipi_leaves_the_icr(void **state)
{
    struct irq_rig *rig = open_x2apics(2);

    (void)state;
    assert_int_equal(sent(rig, 0, 0x4041), 1);
    assert_true(wrmsr(rig, 1, SELF_IPI, 0x52));
    assert_int_equal(who_took(rig, 0x52), 2);
    assert_int_equal(value_of(rig, 1, ICR), 0x4041);
    assert_true(wrmsr(rig, 1, SELF_IPI, 5)); /* an illegal vector */
    assert_true(wrmsr(rig, 1, ESR, 0));
    assert_int_equal(value_of(rig, 1, ESR), 0x20);
    rig_close(rig);
}

static uint32_t msi(struct irq_rig *rig, uint32_t low, uint32_t high)
{
    int count = irqchip_msi(rig->chip, (uint64_t)high << 32 | 0xfee00000 | low, 0x61);
    uint32_t takers = who_took(rig, 0x61);

    assert_true(count == -EINVAL || count == __builtin_popcount(takers));
    return count == -EINVAL ? UINT32_MAX : takers;
}

static void x2apic_messages_have_8_bits_unless_told(void **state)
{
    /* The upper half of the address counts with 32-bit IDs alone; 0xff is everyone until that is switched off. */
    struct irq_rig *rig = open_x2apics(18);
    const struct kvm_irq_routing header = {.nr = 1};
    const struct kvm_irq_routing_entry route = {
        .gsi = 50,
        .type = KVM_IRQ_ROUTING_MSI,
        .u.msi = {.address_lo = 0xfee11000, .address_hi = 0x55, .data = 0x61}};

    (void)state;
    assert_int_equal(msi(rig, 0x11000, 0x155), 1u << 17);
    assert_int_equal(msi(rig, 0xff000, 0xffffff00), 0x3ffff);
    assert_int_equal(msi(rig, 0xff004, 0), 0x3ffff);
    assert_int_equal(msi(rig, 0x03004, 0), 3);
    ioapic_entry(rig, 20, UINT64_C(0xff) << 56 | 0x61);
    pulse(rig, 20); /* a pin that leads to no PIC */
    assert_int_equal(who_took(rig, 0x61), 0x3ffff);
    assert_int_equal(irqchip_ioctl_routing(rig->chip, &header, &route), 0);
    assert_int_equal(irqchip_set_line(rig->chip, 50, true), 1);
    assert_int_equal(who_took(rig, 0x61), 1u << 17);

    irqchip_use_x2apic_api(rig->chip, KVM_X2APIC_API_USE_32BIT_IDS);
    assert_int_equal(msi(rig, 0x11000, 0), 1u << 17);
    assert_int_equal(msi(rig, 0x11000, 0x100), 0);
    assert_int_equal(msi(rig, 0xff000, 0xffffff00), 0);
    assert_int_equal(msi(rig, 0xff000, 0), 0x3ffff);
    assert_int_equal(msi(rig, 0x11000, 0x155), UINT32_MAX);
    assert_int_equal(irqchip_ioctl_routing(rig->chip, &header, &route), -EINVAL);
    assert_int_equal(irqchip_set_line(rig->chip, 50, true), -1);
    assert_int_equal(who_took(rig, 0x61), 0);

    irqchip_use_x2apic_api(rig->chip, KVM_X2APIC_API_DISABLE_BROADCAST_QUIRK);
    assert_int_equal(msi(rig, 0xff000, 0xffffff00), 0x3ffff);
    assert_int_equal(msi(rig, 0xff000, 0), 0);
    assert_int_equal(msi(rig, 0xff004, 0), 0xff);
    rig_close(rig);
}

static uint32_t register_in(const struct kvm_lapic_state *state, unsigned at)
{
    uint32_t value;

    memcpy(&value, state->regs + at, sizeof(value));
    return value;
}

static void put_register(struct kvm_lapic_state *state, unsigned at, uint32_t value)
{
    memcpy(state->regs + at, &value, sizeof(value));
}

static void x2apic_state_goes_out_and_in(void **state)
{
    /* Both IDs stay what they are; the ID's place is that of xAPIC mode unless the user knows 32 bits. */
    struct irq_rig *rig = open_x2apics(18);
    struct kvm_lapic_state lapic;

    (void)state;
    assert_int_equal(sent(rig, 3, 0x4041), 8);
    assert_int_equal(irqchip_ioctl_get_lapic(rig->chip, 1, &lapic), 0);
    assert_int_equal(register_in(&lapic, 0x20), 1u << 24);
    assert_int_equal(register_in(&lapic, 0x300), 0x4041);
    assert_int_equal(register_in(&lapic, 0x310), 3);
    put_register(&lapic, 0x20, 5u << 24);
    put_register(&lapic, 0xd0, 0x77);
    put_register(&lapic, 0x310, 4);
    assert_int_equal(irqchip_ioctl_set_lapic(rig->chip, 1, &lapic), 0);
    assert_int_equal(value_of(rig, 1, ID), 1);
    assert_int_equal(value_of(rig, 1, LDR), 2);
    assert_int_equal(value_of(rig, 1, ICR), UINT64_C(4) << 32 | 0x4041);

    irqchip_use_x2apic_api(rig->chip, KVM_X2APIC_API_USE_32BIT_IDS);
    assert_int_equal(irqchip_ioctl_get_lapic(rig->chip, 17, &lapic), 0);
    assert_int_equal(register_in(&lapic, 0x20), 17);
    put_register(&lapic, 0x80, 0x30);
    assert_int_equal(irqchip_ioctl_set_lapic(rig->chip, 17, &lapic), 0);
    put_register(&lapic, 0x20, 17u << 24);
    put_register(&lapic, 0x80, 0x40);
    assert_int_equal(irqchip_ioctl_set_lapic(rig->chip, 17, &lapic), -EINVAL);
    assert_int_equal(value_of(rig, 17, TPR), 0x30);
    rig_close(rig);
}

static void x2apic_init_keeps_mode_and_ids(void **state)
{
    struct irq_rig *rig = open_x2apics(18);

    (void)state;
    assert_true(wrmsr(rig, 17, TPR, 0x50));
    assert_int_equal(sent(rig, 17, 0x4500), 0);
    assert_int_equal(sent(rig, 17, 0x4609), 0);
    assert_true(irqchip_take_init(rig->chip, 17));
    assert_int_equal(irqchip_take_sipi(rig->chip, 17), 9);
    assert_int_equal(irqchip_apic_base(rig->chip, 17), APIC | X2APIC);
    assert_int_equal(value_of(rig, 17, ID), 17);
    assert_int_equal(value_of(rig, 17, LDR), 0x10002);
    assert_int_equal(value_of(rig, 17, TPR), 0);
    rig_close(rig);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(x2apic_ids_follow_the_mode),
        cmocka_unit_test(x2apic_window_is_a_hole),
        cmocka_unit_test(x2apic_registers_are_those_of_the_manual),
        cmocka_unit_test(x2apic_reserved_bits_are_kvms),
        cmocka_unit_test(x2apic_ipis_find_their_destinations),
        cmocka_unit_test(x2apic_self_ipi_leaves_the_icr),
        cmocka_unit_test(x2apic_messages_have_8_bits_unless_told),
        cmocka_unit_test(x2apic_state_goes_out_and_in),
        cmocka_unit_test(x2apic_init_keeps_mode_and_ids),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
