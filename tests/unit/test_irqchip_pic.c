/*
 * unit/test_irqchip_pic.c - the two 8259A, by their data sheet: priorities and their rotation, ends of interrupt,
 * masks, edges and levels, cascading, polls, spurious interrupts.
 */
#include "unit/irq_rig.h"

#define EOI 0x20
#define ICW4_8086 0x01
#define ICW4_AUTO_EOI 0x03

static struct irq_rig *open_pics(void)
{
    struct irq_rig *rig = rig_open(1);

    pics_init(rig, ICW4_8086);
    return rig;
}

static uint8_t read_isr(struct irq_rig *rig, uint16_t port)
{
    port_out(rig, port, 0x0b);
    return port_in(rig, port);
}

static uint8_t read_irr(struct irq_rig *rig, uint16_t port)
{
    port_out(rig, port, 0x0a);
    return port_in(rig, port);
}

static void pic_lower_lines_come_first_and_nest(void **state)
{
    /* IR0 has the highest priority; what is in service holds back its own and lower ones. */
    struct irq_rig *rig = open_pics();

    (void)state;
    pulse(rig, 5);
    pulse(rig, 3);
    assert_int_equal(read_irr(rig, 0x20), 0x28);
    assert_int_equal(take(rig, 0), 0x23);
    assert_int_equal(read_isr(rig, 0x20), 0x08);
    assert_false(pending(rig, 0));
    pulse(rig, 1);
    assert_int_equal(take(rig, 0), 0x21);
    assert_int_equal(read_isr(rig, 0x20), 0x0a);
    port_out(rig, 0x20, EOI);
    assert_int_equal(read_isr(rig, 0x20), 0x08);
    assert_false(pending(rig, 0));
    port_out(rig, 0x20, EOI);
    assert_int_equal(take(rig, 0), 0x25);
    rig_close(rig);
}

static void pic_specific_eoi_ends_that_line(void **state)
{
    /* OCW2 011: the line that it names, not the highest. */
    struct irq_rig *rig = open_pics();

    (void)state;
    pulse(rig, 4);
    assert_int_equal(take(rig, 0), 0x24);
    pulse(rig, 1);
    assert_int_equal(take(rig, 0), 0x21);
    port_out(rig, 0x20, 0x64);
    assert_int_equal(read_isr(rig, 0x20), 0x02);
    rig_close(rig);
}

static void pic_rotation_makes_the_served_line_the_last(void **state)
{
    /* OCW2 101 and 111 rotate at the end of service, 110 at once, 100 at automatic ends. */
    struct irq_rig *rig = open_pics();

    (void)state;
    pulse(rig, 3);
    assert_int_equal(take(rig, 0), 0x23);
    port_out(rig, 0x20, 0xa0);
    pulse(rig, 3);
    pulse(rig, 5);
    assert_int_equal(take(rig, 0), 0x25); /* now 4, 5, 6, 7, 0, ... 3 */
    port_out(rig, 0x20, 0xe5);
    pulse(rig, 6);
    pulse(rig, 4);
    assert_int_equal(take(rig, 0), 0x26);
    port_out(rig, 0x20, EOI);
    port_out(rig, 0x20, 0xc7); /* 7 is the last: 0 is the first again */
    assert_int_equal(take(rig, 0), 0x23);
    port_out(rig, 0x20, EOI);
    assert_int_equal(take(rig, 0), 0x24);
    rig_close(rig);
}

static void pic_automatic_eoi_leaves_nothing_in_service(void **state)
{
    /* ICW4's AEOI; with rotation the line that was served is the last. */
    struct irq_rig *rig = rig_open(1);

    (void)state;
    pics_init(rig, ICW4_AUTO_EOI);
    pulse(rig, 1);
    assert_int_equal(take(rig, 0), 0x21);
    assert_int_equal(read_isr(rig, 0x20), 0);
    port_out(rig, 0x20, 0x80);
    pulse(rig, 1);
    assert_int_equal(take(rig, 0), 0x21);
    pulse(rig, 1);
    pulse(rig, 6);
    assert_int_equal(take(rig, 0), 0x26);
    assert_int_equal(take(rig, 0), 0x21);
    rig_close(rig);
}

static void pic_mask_holds_back_and_keeps_requests(void **state)
{
    /* OCW1; the request comes through once the mask is gone. */
    struct irq_rig *rig = open_pics();

    (void)state;
    port_out(rig, 0x21, 0x10);
    assert_int_equal(irqchip_set_line(rig->chip, 4, true), -1);
    line(rig, 4, false);
    assert_false(pending(rig, 0));
    assert_int_equal(port_in(rig, 0x21), 0x10);
    port_out(rig, 0x21, 0);
    assert_int_equal(take(rig, 0), 0x24);
    rig_close(rig);
}

static void pic_special_mask_lets_lower_lines_through(void **state)
{
    /* In special mask mode a masked line in service holds back nobody else. */
    struct irq_rig *rig = open_pics();

    (void)state;
    pulse(rig, 1);
    assert_int_equal(take(rig, 0), 0x21);
    pulse(rig, 6);
    port_out(rig, 0x21, 0x02);
    assert_false(pending(rig, 0));
    port_out(rig, 0x20, 0x68);
    assert_int_equal(take(rig, 0), 0x26);
    port_out(rig, 0x20, 0x48);
    rig_close(rig);
}

static void pic_edge_asks_once_and_level_asks_on(void **state)
{
    /* ELCR 0x4d0: line 5 by level. The lines of the timer, keyboard and cascade cannot be. */
    struct irq_rig *rig = open_pics();

    (void)state;
    port_out(rig, 0x4d0, 0xff);
    assert_int_equal(port_in(rig, 0x4d0), 0xf8);
    port_out(rig, 0x4d1, 0xff);
    assert_int_equal(port_in(rig, 0x4d1), 0xde);
    port_out(rig, 0x4d0, 0x20);
    line(rig, 4, true);
    assert_int_equal(take(rig, 0), 0x24);
    port_out(rig, 0x20, EOI);
    assert_false(pending(rig, 0));
    line(rig, 5, true);
    assert_int_equal(take(rig, 0), 0x25);
    port_out(rig, 0x20, EOI);
    assert_int_equal(take(rig, 0), 0x25);
    line(rig, 5, false);
    port_out(rig, 0x20, EOI);
    assert_false(pending(rig, 0));
    rig_close(rig);
}

static void pic_level_that_goes_is_a_spurious_irq7(void **state)
{
    /* It asked, and does not when it is acknowledged: IR7's vector, and nothing is in service. */
    struct irq_rig *rig = open_pics();
    int vector;

    (void)state;
    port_out(rig, 0x4d1, 0x02);
    line(rig, 9, true);
    assert_true(pending(rig, 0));
    line(rig, 9, false);
    vector = take(rig, 0);
    assert_int_equal(vector, 0x2f); /* the second chip's: it had the first one's IR2 pulled */
    assert_int_equal(read_isr(rig, 0xa0), 0);
    assert_int_equal(read_isr(rig, 0x20), 0x04);
    rig_close(rig);
}

static void pic_second_chip_comes_by_ir2(void **state)
{
    /* Vectors of the second; both are in service; between IR1 and IR3 in priority. */
    struct irq_rig *rig = open_pics();

    (void)state;
    pulse(rig, 3);
    pulse(rig, 14);
    pulse(rig, 12);
    assert_int_equal(take(rig, 0), 0x2c);
    assert_int_equal(read_isr(rig, 0xa0), 0x10);
    assert_int_equal(read_isr(rig, 0x20), 0x04);
    assert_false(pending(rig, 0));
    port_out(rig, 0xa0, EOI);
    port_out(rig, 0x20, EOI);
    assert_int_equal(take(rig, 0), 0x2e);
    port_out(rig, 0xa0, EOI);
    port_out(rig, 0x20, EOI);
    assert_int_equal(take(rig, 0), 0x23);
    rig_close(rig);
}

static void pic_special_nesting_lets_the_second_chip_interrupt_itself(void **state)
{
    /* ICW4's SFNM in the first: a higher line of the second comes though IR2 is in service. */
    struct irq_rig *rig = rig_open(1);

    (void)state;
    pics_init(rig, 0x11);
    pulse(rig, 13);
    assert_int_equal(take(rig, 0), 0x2d);
    pulse(rig, 10);
    assert_int_equal(take(rig, 0), 0x2a);
    pics_init(rig, ICW4_8086);
    rig_close(rig);
}

static void pic_poll_acknowledges(void **state)
{
    /* OCW3's P: the next read says the line, which is then in service. */
    struct irq_rig *rig = open_pics();

    (void)state;
    pulse(rig, 6);
    port_out(rig, 0x20, 0x0c);
    assert_int_equal(port_in(rig, 0x20), 0x86);
    assert_int_equal(read_isr(rig, 0x20), 0x40);
    port_out(rig, 0x20, 0x0c);
    assert_int_equal(port_in(rig, 0x20) & 0x80, 0);
    rig_close(rig);
}

static void pic_initialisation_forgets_edges_and_masks(void **state)
{
    /* ICW1: IMR clear, edges gone, IR7 the last, IRR to be read; three words without ICW4. */
    struct irq_rig *rig = open_pics();

    (void)state;
    port_out(rig, 0x21, 0xff);
    pulse(rig, 3);
    port_out(rig, 0x20, 0xc3);
    port_out(rig, 0x20, 0x0b);
    port_out(rig, 0x20, 0x10);
    port_out(rig, 0x21, 0x47);
    port_out(rig, 0x21, 0x04);
    assert_int_equal(port_in(rig, 0x21), 0);
    assert_int_equal(port_in(rig, 0x20), 0);
    port_out(rig, 0x21, 0xfe);
    assert_int_equal(port_in(rig, 0x21), 0xfe);
    pulse(rig, 0);
    assert_int_equal(take(rig, 0), 0x40);
    rig_close(rig);
}

static void pic_reaches_those_whose_lint0_lets_it(void **state)
{
    /* ExtINT in LINT0: the bootstrap processor at reset; masked, nobody; without an APIC, always. */
    struct irq_rig *rig = rig_open(2);

    (void)state;
    pics_init(rig, ICW4_8086);
    pulse(rig, 1);
    assert_true(pending(rig, 0));
    assert_true(rig->woken[0] > 0);
    assert_false(pending(rig, 1));
    mmio_out(rig, 0, APIC + 0xf0, 0x1ff);
    mmio_out(rig, 0, APIC + 0x350, 0x10700);
    assert_false(pending(rig, 0));
    assert_int_equal(take(rig, 0), -1);
    assert_int_equal(irqchip_set_apic_base(rig->chip, 0, APIC | 0x100), 0);
    assert_int_equal(take(rig, 0), 0x21);
    rig_close(rig);
}

static void pic_lint0_can_be_an_interrupt_of_its_own(void **state)
{
    /* LINT0 as fixed, and as NMI: the output's rise is that. */
    struct irq_rig *rig = open_pics();

    (void)state;
    mmio_out(rig, 0, APIC + 0xf0, 0x1ff);
    mmio_out(rig, 0, APIC + 0x350, 0x55);
    pulse(rig, 1);
    assert_int_equal(take(rig, 0), 0x55);
    assert_int_equal(take(rig, 0), -1);
    port_out(rig, 0x20, 0x0c);
    assert_int_equal(port_in(rig, 0x20), 0x81);
    port_out(rig, 0x20, EOI);
    mmio_out(rig, 0, APIC + 0x350, 0x400);
    pulse(rig, 1);
    assert_true(irqchip_take_nmi(rig->chip, 0));
    assert_false(irqchip_take_nmi(rig->chip, 0));
    rig_close(rig);
}

static void pic_states_of_any_bytes_are_harmless(void **state)
{
    /* KVM_SET_IRQCHIP takes all of them, and gives them back. */
    struct irq_rig *rig = open_pics();

    (void)state;
    for (unsigned byte = 0; byte < 256; byte++) {
        struct kvm_irqchip in = {.chip_id = byte & 1};
        struct kvm_irqchip out = {.chip_id = byte & 1};
        struct kvm_irqchip idle = {.chip_id = KVM_IRQCHIP_PIC_SLAVE}; /* does not pull IR2 */

        assert_int_equal(irqchip_ioctl_set(rig->chip, &idle), 0);
        memset(&in.chip.pic, (int)byte, sizeof(in.chip.pic));
        in.chip.pic.irr = 0;
        assert_int_equal(irqchip_ioctl_set(rig->chip, &in), 0);
        assert_int_equal(irqchip_ioctl_get(rig->chip, &out), 0);
        assert_memory_equal(&in.chip.pic, &out.chip.pic, sizeof(in.chip.pic));
        for (unsigned gsi = 0; gsi < 16; gsi++) {
            pulse(rig, gsi);
            (void)take(rig, 0);
        }
        for (uint16_t port = 0; port < 2; port++) {
            port_out(rig, 0x20 + port, (uint8_t)byte);
            (void)port_in(rig, 0xa0 + port);
        }
    }
    rig_close(rig);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pic_lower_lines_come_first_and_nest),
        cmocka_unit_test(pic_specific_eoi_ends_that_line),
        cmocka_unit_test(pic_rotation_makes_the_served_line_the_last),
        cmocka_unit_test(pic_automatic_eoi_leaves_nothing_in_service),
        cmocka_unit_test(pic_mask_holds_back_and_keeps_requests),
        cmocka_unit_test(pic_special_mask_lets_lower_lines_through),
        cmocka_unit_test(pic_edge_asks_once_and_level_asks_on),
        cmocka_unit_test(pic_level_that_goes_is_a_spurious_irq7),
        cmocka_unit_test(pic_second_chip_comes_by_ir2),
        cmocka_unit_test(pic_special_nesting_lets_the_second_chip_interrupt_itself),
        cmocka_unit_test(pic_poll_acknowledges),
        cmocka_unit_test(pic_initialisation_forgets_edges_and_masks),
        cmocka_unit_test(pic_reaches_those_whose_lint0_lets_it),
        cmocka_unit_test(pic_lint0_can_be_an_interrupt_of_its_own),
        cmocka_unit_test(pic_states_of_any_bytes_are_harmless),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
