/*
 * unit/test_irqchip_ioapic.c - the 82093AA by its data sheet, its way to local APICs, routes, and the requests of the
 * ioctl face with their errors.
 */
#include "unit/irq_rig.h"

#define MASKED (UINT64_C(1) << 16)
#define LEVEL (UINT64_C(1) << 15)
#define REMOTE_IRR (UINT64_C(1) << 14)
#define LOGICAL (UINT64_C(1) << 11)
#define TO(apic) ((uint64_t)(apic) << 56)

static struct irq_rig *open_apics(unsigned vcpus)
{
    struct irq_rig *rig = rig_open(vcpus);

    for (unsigned i = 0; i < vcpus; i++) {
        apic_enable(rig, i, (uint8_t)(1u << i));
        mmio_out(rig, i, APIC + 0x350, 0x10000);
    }
    return rig;
}

static void ioapic_registers_are_what_they_say(void **state)
{
    /* ID of four bits, version 0x11 with 24 entries, entries masked; read-only bits; nothing beyond. */
    struct irq_rig *rig = open_apics(1);
    uint32_t value;

    (void)state;
    assert_int_equal(ioapic_in(rig, 1), 0x170011);
    ioapic_out(rig, 0, 0xffffffff);
    assert_int_equal(ioapic_in(rig, 0), 0x0f000000);
    assert_int_equal(ioapic_in(rig, 0x10), 0x10000);
    ioapic_out(rig, 0x10, 0x1d0ff);
    assert_int_equal(ioapic_in(rig, 0x10), 0x180ff);
    ioapic_out(rig, 0x11, 0x05000000);
    assert_int_equal(ioapic_in(rig, 0x11), 0x05000000);
    ioapic_out(rig, 0xf0, 1);
    (void)ioapic_in(rig, 0xf0);
    assert_int_equal(mmio_in(rig, 0, IOAPIC + 0x20), 0);
    assert_false(irqchip_mmio_read(rig->chip, 0, IOAPIC + 0x100, 4, &value));
    assert_false(irqchip_mmio_read(rig->chip, 0, IOAPIC + 0xfe, 4, &value));
    rig_close(rig);
}

static void ioapic_edge_is_sent_once(void **state)
{
    /* Nothing while masked, and nothing after; status as KVM_IRQ_LINE_STATUS. */
    struct irq_rig *rig = open_apics(1);

    (void)state;
    assert_int_equal(irqchip_set_line(rig->chip, 20, true), -1);
    line(rig, 20, false);
    ioapic_entry(rig, 20, 0x41);
    assert_false(pending(rig, 0));
    assert_int_equal(irqchip_set_line(rig->chip, 20, true), 1);
    assert_int_equal(irqchip_set_line(rig->chip, 20, true), 0);
    assert_int_equal(take(rig, 0), 0x41);
    mmio_out(rig, 0, APIC + 0xb0, 0);
    assert_false(pending(rig, 0));
    assert_int_equal(irqchip_set_line(rig->chip, 20, false), 1);
    assert_int_equal(irqchip_set_line(rig->chip, 20, true), 1);
    assert_int_equal(take(rig, 0), 0x41);
    rig_close(rig);
}

static void ioapic_level_comes_again_until_it_is_low(void **state)
{
    /* Remote IRR from acceptance to EOI; then, if the line is still high, again. */
    struct irq_rig *rig = open_apics(1);

    (void)state;
    ioapic_entry(rig, 21, 0x51 | LEVEL | MASKED);
    line(rig, 21, true);
    assert_false(pending(rig, 0));
    ioapic_out(rig, 0x10 + 2 * 21, 0x51 | LEVEL);
    assert_int_equal(ioapic_in(rig, 0x10 + 2 * 21), 0x51 | LEVEL | REMOTE_IRR);
    assert_int_equal(take(rig, 0), 0x51);
    assert_int_equal(mmio_in(rig, 0, APIC + 0x180 + 0x20), 1u << 17); /* TMR */
    assert_int_equal(irqchip_set_line(rig->chip, 21, true), -1);
    mmio_out(rig, 0, APIC + 0xb0, 0);
    assert_int_equal(take(rig, 0), 0x51);
    line(rig, 21, false);
    assert_int_equal(ioapic_in(rig, 0x10 + 2 * 21), 0x51 | LEVEL | REMOTE_IRR);
    mmio_out(rig, 0, APIC + 0xb0, 0);
    assert_int_equal(ioapic_in(rig, 0x10 + 2 * 21), 0x51 | LEVEL);
    assert_false(pending(rig, 0));
    rig_close(rig);
}

static void ioapic_level_that_resamples_falls_at_its_end(void **state)
{
    /* It interrupts once, and is reported; held by the other wire as well, it comes again. */
    struct irq_rig *rig = open_apics(1);

    (void)state;
    ioapic_entry(rig, 21, 0x51 | LEVEL);
    assert_int_equal(irqchip_resample_line(rig->chip, 21, true), 1);
    assert_int_equal(take(rig, 0), 0x51);
    assert_int_equal(rig->ended, 0);
    mmio_out(rig, 0, APIC + 0xb0, 0);
    assert_int_equal(rig->ended, 1);
    assert_int_equal(rig->ended_gsi, 21);
    assert_false(pending(rig, 0));
    assert_int_equal(irqchip_resample_line(rig->chip, 21, true), 1);
    line(rig, 21, true);
    assert_int_equal(take(rig, 0), 0x51);
    mmio_out(rig, 0, APIC + 0xb0, 0);
    assert_int_equal(rig->ended, 2);
    assert_int_equal(take(rig, 0), 0x51);
    line(rig, 21, false);
    mmio_out(rig, 0, APIC + 0xb0, 0);
    assert_false(pending(rig, 0));
    rig_close(rig);
}

static void ioapic_entry_by_edge_has_no_remote_irr(void **state)
{
    /* To edge and back is how Linux clears a stuck one. */
    struct irq_rig *rig = open_apics(1);

    (void)state;
    ioapic_entry(rig, 21, 0x51 | LEVEL);
    line(rig, 21, true);
    line(rig, 21, false);
    ioapic_out(rig, 0x10 + 2 * 21, 0x51 | MASKED);
    ioapic_out(rig, 0x10 + 2 * 21, 0x51 | LEVEL);
    assert_int_equal(ioapic_in(rig, 0x10 + 2 * 21), 0x51 | LEVEL);
    rig_close(rig);
}

static void ioapic_sends_to_whom_the_entry_says(void **state)
{
    /* Physical, everyone, flat logical, lowest priority, NMI. */
    struct irq_rig *rig = open_apics(3);

    (void)state;
    ioapic_entry(rig, 22, 0x61 | TO(2));
    pulse(rig, 22);
    assert_int_equal(take(rig, 0), -1);
    assert_int_equal(take(rig, 1), -1);
    assert_int_equal(take(rig, 2), 0x61);
    ioapic_entry(rig, 22, 0x71 | TO(0xff));
    assert_int_equal(irqchip_set_line(rig->chip, 22, true), 3);
    line(rig, 22, false);
    for (unsigned i = 0; i < 3; i++) {
        assert_int_equal(take(rig, i), 0x71);
        mmio_out(rig, i, APIC + 0xb0, 0);
    }
    ioapic_entry(rig, 22, 0x81 | LOGICAL | TO(3));
    assert_int_equal(irqchip_set_line(rig->chip, 22, true), 2);
    line(rig, 22, false);
    assert_int_equal(take(rig, 0), 0x81);
    assert_int_equal(take(rig, 1), 0x81);
    mmio_out(rig, 0, APIC + 0xb0, 0);
    ioapic_entry(rig, 22, 0x91 | 0x100 | LOGICAL | TO(7)); /* 1 and 2 have something in service */
    pulse(rig, 22);
    assert_int_equal(take(rig, 0), 0x91);
    ioapic_entry(rig, 22, 0x400 | TO(1));
    pulse(rig, 22);
    assert_true(irqchip_take_nmi(rig->chip, 1));
    ioapic_entry(rig, 22, 0x91 | TO(9));
    assert_int_equal(irqchip_set_line(rig->chip, 22, true), 0);
    rig_close(rig);
}

static void routes_lead_to_both_chips(void **state)
{
    /* GSI 4 is IR4 and pin 4, GSI 0 is IR0 and pin 0, as in KVM; there is nothing from 24 on. */
    struct irq_rig *rig = open_apics(1);

    (void)state;
    pics_init(rig, 1);
    ioapic_entry(rig, 0, 0x42);
    ioapic_entry(rig, 4, 0x44);
    assert_int_equal(irqchip_set_line(rig->chip, 4, true), 2);
    line(rig, 0, true);
    assert_int_equal(take(rig, 0), 0x44);
    mmio_out(rig, 0, APIC + 0xb0, 0);
    assert_int_equal(take(rig, 0), 0x42);
    port_out(rig, 0x20, 0x0a);
    assert_int_equal(port_in(rig, 0x20), 0x11);
    assert_int_equal(irqchip_set_line(rig->chip, 24, true), -1);
    assert_int_equal(irqchip_set_line(rig->chip, UINT32_MAX, true), -1);
    rig_close(rig);
}

static struct kvm_irq_routing_entry to_pin(uint32_t gsi, uint32_t chip, uint32_t pin)
{
    struct kvm_irq_routing_entry entry = {.gsi = gsi, .type = KVM_IRQ_ROUTING_IRQCHIP};

    entry.u.irqchip.irqchip = chip;
    entry.u.irqchip.pin = pin;
    return entry;
}

static int set_routes(struct irq_rig *rig, const struct kvm_irq_routing_entry *entries,
                      uint32_t count)
{
    const struct kvm_irq_routing header = {.nr = count};

    return irqchip_ioctl_routing(rig->chip, &header, entries);
}

static void routes_are_replaced_or_refused_as_a_whole(void **state)
{
    /* Each kind of mistake leaves the old ones; a list that holds replaces them. */
    struct irq_rig *rig = open_apics(1);
    struct kvm_irq_routing_entry entries[2];
    struct kvm_irq_routing header = {.nr = 1, .flags = 1};

    (void)state;
    ioapic_entry(rig, 5, 0x45);
    entries[0] = to_pin(100, KVM_IRQCHIP_IOAPIC, 5);
    assert_int_equal(irqchip_ioctl_routing(rig->chip, &header, entries), -EINVAL);
    assert_int_equal(set_routes(rig, entries, IRQCHIP_ROUTES_MAX + 1), -EINVAL);
    entries[1] = to_pin(IRQCHIP_ROUTES_MAX, KVM_IRQCHIP_IOAPIC, 5);
    assert_int_equal(set_routes(rig, entries, 2), -EINVAL);
    entries[1] = to_pin(101, KVM_IRQCHIP_IOAPIC, 24);
    assert_int_equal(set_routes(rig, entries, 2), -EINVAL);
    entries[1] = to_pin(101, KVM_IRQCHIP_PIC_SLAVE, 8);
    assert_int_equal(set_routes(rig, entries, 2), -EINVAL);
    entries[1] = to_pin(101, KVM_NR_IRQCHIPS, 0);
    assert_int_equal(set_routes(rig, entries, 2), -EINVAL);
    entries[1] = to_pin(100, KVM_IRQCHIP_IOAPIC, 6);
    assert_int_equal(set_routes(rig, entries, 2), -EINVAL);
    entries[1] = to_pin(101, KVM_IRQCHIP_IOAPIC, 6);
    entries[1].type = KVM_IRQ_ROUTING_S390_ADAPTER;
    assert_int_equal(set_routes(rig, entries, 2), -EINVAL);
    entries[1].type = KVM_IRQ_ROUTING_MSI;
    entries[1].gsi = 100;
    assert_int_equal(set_routes(rig, entries, 2), -EINVAL);
    assert_int_equal(irqchip_set_line(rig->chip, 100, true), -1);
    assert_int_equal(irqchip_set_line(rig->chip, 5, false), 2);
    entries[1].gsi = 101;
    entries[1].u.msi.address_lo = 0xfee00000;
    entries[1].u.msi.data = 0x66;
    assert_int_equal(set_routes(rig, entries, 2), 0);
    assert_int_equal(irqchip_set_line(rig->chip, 5, true), -1);
    assert_int_equal(irqchip_set_line(rig->chip, 100, true), 1);
    assert_int_equal(irqchip_set_line(rig->chip, 101, true), 1);
    assert_int_equal(irqchip_set_line(rig->chip, 101, false), -1);
    assert_int_equal(take(rig, 0), 0x66);
    mmio_out(rig, 0, APIC + 0xb0, 0);
    assert_int_equal(take(rig, 0), 0x45);
    assert_int_equal(set_routes(rig, entries, 0), 0);
    assert_int_equal(irqchip_set_line(rig->chip, 100, true), -1);
    rig_close(rig);
}

static void msi_says_vector_and_destination(void **state)
{
    /* Physical, logical, to the lowest of several; the level kind sets TMR; flags are refused. */
    struct irq_rig *rig = open_apics(2);
    struct kvm_msi msi = {.address_lo = 0xfee01000, .data = 0x77};

    (void)state;
    assert_int_equal(irqchip_ioctl_msi(rig->chip, &msi), 1);
    assert_int_equal(take(rig, 1), 0x77);
    assert_int_equal(irqchip_msi(rig->chip, 0xfee0300c, 0x78), 1);
    assert_int_equal(take(rig, 0), 0x78);
    assert_int_equal(irqchip_msi(rig->chip, 0xfee03004, 0x89), 2);
    assert_int_equal(irqchip_msi(rig->chip, 0xfee07000, 0x79), 0);
    assert_int_equal(irqchip_msi(rig->chip, 0xfee01000, 0xc099), 1);
    assert_int_equal(mmio_in(rig, 1, APIC + 0x180 + 0x40), 1u << 25);
    msi.flags = 1;
    assert_int_equal(irqchip_ioctl_msi(rig->chip, &msi), -EINVAL);
    rig_close(rig);
}

static void ioctls_without_chips_have_kvms_errors(void **state)
{
    /* And what is there twice, or has an unknown number. */
    struct irq_rig *rig = open_apics(1);
    struct kvm_irqchip chip = {.chip_id = 3};
    struct kvm_irq_level level = {.irq = 3, .level = 1};
    struct kvm_pit_config config = {0};
    struct kvm_irq_routing routing = {0};
    struct kvm_lapic_state lapic;
    struct kvm_pit_state2 pit;
    struct kvm_msi msi = {0};

    (void)state;
    assert_int_equal(irqchip_check_create(NULL, false), 0);
    assert_int_equal(irqchip_check_create(NULL, true), -EINVAL);
    assert_int_equal(irqchip_check_create(rig->chip, true), -EEXIST);
    assert_int_equal(irqchip_ioctl_line(NULL, &level), -ENXIO);
    assert_int_equal(irqchip_ioctl_line(rig->chip, &level), 0);
    assert_int_equal(level.status, 1);
    assert_int_equal(irqchip_ioctl_create_pit(NULL, &config), -ENOENT);
    assert_int_equal(irqchip_ioctl_create_pit(rig->chip, &config), -EEXIST);
    assert_int_equal(irqchip_ioctl_get(NULL, &chip), -ENXIO);
    assert_int_equal(irqchip_ioctl_set(NULL, &chip), -ENXIO);
    assert_int_equal(irqchip_ioctl_get(rig->chip, &chip), -EINVAL);
    assert_int_equal(irqchip_ioctl_set(rig->chip, &chip), -EINVAL);
    assert_int_equal(irqchip_ioctl_get_pit(NULL, &pit), -ENXIO);
    assert_int_equal(irqchip_ioctl_set_pit(NULL, &pit), -ENXIO);
    assert_int_equal(irqchip_ioctl_get_lapic(NULL, 0, &lapic), -EINVAL);
    assert_int_equal(irqchip_ioctl_get_lapic(rig->chip, 1, &lapic), -EINVAL);
    assert_int_equal(irqchip_ioctl_set_lapic(rig->chip, IRQCHIP_VCPUS, &lapic), -EINVAL);
    assert_int_equal(irqchip_ioctl_msi(NULL, &msi), -EINVAL);
    assert_int_equal(irqchip_ioctl_routing(NULL, &routing, NULL), -EINVAL);
    assert_int_equal(irqchip_vcpu_add(rig->chip, 0, IRQCHIP_BOOTSTRAP), -EEXIST);
    assert_int_equal(irqchip_vcpu_add(rig->chip, IRQCHIP_VCPUS, IRQCHIP_APPLICATION), -EINVAL);
    rig_close(rig);
}

static void accesses_of_others_are_not_ours(void **state)
{
    /* Without a PIT its ports are not, either. Several bytes are consecutive ports. */
    struct irq_rig *rig = rig_open(1);
    struct irq_rig *without = rig;
    const struct irqchip_options options = {.now_ns = rig_now, .wake = rig_wake, .opaque = without};
    struct irqchip *bare;
    uint32_t value;

    (void)state;
    assert_int_equal(irqchip_new(&options, &bare), 0);
    assert_false(irqchip_port_read(bare, 0x40, 1, &value));
    assert_false(irqchip_port_write(bare, 0x61, 1, 0));
    assert_true(irqchip_port_read(bare, 0x21, 1, &value));
    assert_false(irqchip_port_read(bare, 0x1f, 2, &value));
    assert_false(irqchip_port_read(bare, 0x22, 1, &value));
    assert_false(irqchip_port_read(bare, 0x80, 1, &value));
    irqchip_free(bare);
    pics_init(rig, 1);
    assert_true(irqchip_port_write(rig->chip, 0x20, 2, 0x5a0a));
    assert_true(irqchip_port_read(rig->chip, 0x20, 4, &value));
    assert_int_equal(value, 0xffff5a00);
    assert_false(irqchip_mmio_read(rig->chip, 0, 0x1000, 4, &value));
    assert_false(irqchip_mmio_read(rig->chip, 9, APIC, 4, &value));
    irqchip_free(NULL);
    rig_close(rig);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ioapic_registers_are_what_they_say),
        cmocka_unit_test(ioapic_edge_is_sent_once),
        cmocka_unit_test(ioapic_level_comes_again_until_it_is_low),
        cmocka_unit_test(ioapic_level_that_resamples_falls_at_its_end),
        cmocka_unit_test(ioapic_entry_by_edge_has_no_remote_irr),
        cmocka_unit_test(ioapic_sends_to_whom_the_entry_says),
        cmocka_unit_test(routes_lead_to_both_chips),
        cmocka_unit_test(routes_are_replaced_or_refused_as_a_whole),
        cmocka_unit_test(msi_says_vector_and_destination),
        cmocka_unit_test(ioctls_without_chips_have_kvms_errors),
        cmocka_unit_test(accesses_of_others_are_not_ours),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
