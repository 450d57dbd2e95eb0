/*
 * unit/test_irqchip_pit.c - the 8254 by its data sheet: what each mode counts and puts out after some clocks, latches,
 * read-back, BCD, the gate of counter 2, and interrupts at the times that they are due.
 */
#include "unit/irq_rig.h"

#define HZ UINT64_C(1193182)

/* The first nanosecond at which so many clocks are over. */
static uint64_t clocks_ns(uint64_t clocks)
{
    return (clocks * 1000 * MS + HZ - 1) / HZ;
}

static void program(struct irq_rig *rig, unsigned counter, unsigned mode, uint16_t count)
{
    port_out(rig, 0x43, (uint8_t)(counter << 6 | 0x30 | mode << 1));
    port_out(rig, (uint16_t)(0x40 + counter), (uint8_t)count);
    port_out(rig, (uint16_t)(0x40 + counter), (uint8_t)(count >> 8));
}

static uint16_t read_word(struct irq_rig *rig, unsigned counter)
{
    uint16_t port = (uint16_t)(0x40 + counter);
    uint16_t low = port_in(rig, port);

    return (uint16_t)(low | port_in(rig, port) << 8);
}

static uint16_t latched(struct irq_rig *rig, unsigned counter)
{
    port_out(rig, 0x43, (uint8_t)(counter << 6));
    return read_word(rig, counter);
}

static uint8_t status(struct irq_rig *rig, unsigned counter)
{
    port_out(rig, 0x43, (uint8_t)(0xe0 | 2u << counter));
    return port_in(rig, (uint16_t)(0x40 + counter));
}

static bool out(struct irq_rig *rig, unsigned counter)
{
    return (status(rig, counter) & 0x80) != 0;
}

/* At @clocks after @start_ns the counter says @value and OUT is @level. */
static void expect_at(struct irq_rig *rig, uint64_t start_ns, unsigned counter, uint64_t clocks,
                      uint16_t value, bool level)
{
    rig->now_ns = start_ns + clocks_ns(clocks);
    assert_int_equal(latched(rig, counter), value);
    assert_int_equal(out(rig, counter), level);
}

static void pit_mode_0_rises_at_its_end_and_counts_on(void **state)
{
    /* OUT is low from the control word on. */
    struct irq_rig *rig = rig_open(1);
    uint64_t start_ns = rig->now_ns;

    (void)state;
    program(rig, 0, 0, 1000);
    expect_at(rig, start_ns, 0, 0, 1000, false);
    expect_at(rig, start_ns, 0, 1, 999, false);
    expect_at(rig, start_ns, 0, 999, 1, false);
    expect_at(rig, start_ns, 0, 1000, 0, true);
    expect_at(rig, start_ns, 0, 1001, 0xffff, true);
    expect_at(rig, start_ns, 0, 1000 + 65536, 0, true);
    program(rig, 0, 0, 0); /* 65536 */
    start_ns = rig->now_ns;
    expect_at(rig, start_ns, 0, 65535, 1, false);
    expect_at(rig, start_ns, 0, 65536, 0, true);
    rig_close(rig);
}

static void pit_mode_1_waits_for_its_gate(void **state)
{
    /* One shot of counter 2, whose gate is port 0x61's bit 0; a new trigger starts it anew. */
    struct irq_rig *rig = rig_open(1);
    uint64_t start_ns;

    (void)state;
    port_out(rig, 0x61, 0);
    program(rig, 2, 1, 100);
    rig->now_ns += MS;
    assert_true(out(rig, 2));
    port_out(rig, 0x61, 1);
    start_ns = rig->now_ns;
    expect_at(rig, start_ns, 2, 0, 100, false);
    expect_at(rig, start_ns, 2, 60, 40, false);
    port_out(rig, 0x61, 0);
    port_out(rig, 0x61, 1);
    start_ns = rig->now_ns;
    expect_at(rig, start_ns, 2, 99, 1, false);
    expect_at(rig, start_ns, 2, 100, 0, true);
    rig_close(rig);
}

static void pit_mode_2_is_low_for_the_last_clock(void **state)
{
    /* From N down to 1, and again; modes 2 and 6 are the same. */
    struct irq_rig *rig = rig_open(1);

    (void)state;
    for (unsigned mode = 2; mode <= 6; mode += 4) {
        uint64_t start_ns = rig->now_ns;

        program(rig, 0, mode, 10);
        expect_at(rig, start_ns, 0, 0, 10, true);
        expect_at(rig, start_ns, 0, 8, 2, true);
        expect_at(rig, start_ns, 0, 9, 1, false);
        expect_at(rig, start_ns, 0, 10, 10, true);
        expect_at(rig, start_ns, 0, 1000019, 1, false);
    }
    rig_close(rig);
}

static void pit_mode_3_is_a_square(void **state)
{
    /* By two, twice a period. An odd count is high for a clock longer, at 0. */
    struct irq_rig *rig = rig_open(1);
    uint64_t start_ns = rig->now_ns;

    (void)state;
    program(rig, 0, 3, 8);
    expect_at(rig, start_ns, 0, 0, 8, true);
    expect_at(rig, start_ns, 0, 3, 2, true);
    expect_at(rig, start_ns, 0, 4, 8, false);
    expect_at(rig, start_ns, 0, 7, 2, false);
    expect_at(rig, start_ns, 0, 8, 8, true);
    start_ns = rig->now_ns;
    program(rig, 0, 3, 5);
    expect_at(rig, start_ns, 0, 0, 4, true);
    expect_at(rig, start_ns, 0, 1, 2, true);
    expect_at(rig, start_ns, 0, 2, 0, true);
    expect_at(rig, start_ns, 0, 3, 4, false);
    expect_at(rig, start_ns, 0, 4, 2, false);
    expect_at(rig, start_ns, 0, 5, 4, true);
    rig_close(rig);
}

static void pit_modes_4_and_5_strobe(void **state)
{
    /* OUT is low for the one clock at 0: after the count, or after the gate's rise. */
    struct irq_rig *rig = rig_open(1);
    uint64_t start_ns = rig->now_ns;

    (void)state;
    program(rig, 0, 4, 20);
    expect_at(rig, start_ns, 0, 19, 1, true);
    expect_at(rig, start_ns, 0, 20, 0, false);
    expect_at(rig, start_ns, 0, 21, 0xffff, true);
    port_out(rig, 0x61, 0);
    program(rig, 2, 5, 20);
    rig->now_ns += MS;
    assert_true(out(rig, 2));
    port_out(rig, 0x61, 1);
    start_ns = rig->now_ns;
    expect_at(rig, start_ns, 2, 19, 1, true);
    expect_at(rig, start_ns, 2, 20, 0, false);
    expect_at(rig, start_ns, 2, 21, 0xffff, true);
    rig_close(rig);
}

static void pit_gate_of_counter_2_holds_and_restarts(void **state)
{
    /* Mode 0 stops and goes on; mode 2 is high, and reloads at the rise. Bit 5 of port 0x61 is OUT. */
    struct irq_rig *rig = rig_open(1);
    uint64_t start_ns;

    (void)state;
    port_out(rig, 0x61, 0);
    program(rig, 2, 0, 1000);
    rig->now_ns += 10 * MS;
    assert_int_equal(latched(rig, 2), 1000);
    assert_int_equal(port_in(rig, 0x61) & 0x23, 0);
    port_out(rig, 0x61, 3);
    start_ns = rig->now_ns;
    expect_at(rig, start_ns, 2, 400, 600, false);
    port_out(rig, 0x61, 0);
    rig->now_ns += 5 * MS;
    assert_int_equal(latched(rig, 2), 600);
    port_out(rig, 0x61, 3);
    start_ns = rig->now_ns;
    rig->now_ns = start_ns + clocks_ns(599);
    assert_int_equal(port_in(rig, 0x61) & 0x23, 0x03);
    rig->now_ns = start_ns + clocks_ns(601);
    assert_int_equal(port_in(rig, 0x61) & 0x23, 0x23);
    program(rig, 2, 2, 10);
    rig->now_ns += clocks_ns(9);
    assert_false(out(rig, 2));
    port_out(rig, 0x61, 0);
    assert_true(out(rig, 2));
    port_out(rig, 0x61, 1);
    expect_at(rig, rig->now_ns, 2, 0, 10, true);
    rig_close(rig);
}

static void pit_latches_keep_until_read(void **state)
{
    /* A second latch is ignored; then the count is read as it is. The status comes before the count. */
    struct irq_rig *rig = rig_open(1);
    uint64_t start_ns = rig->now_ns;

    (void)state;
    program(rig, 0, 2, 0x1234);
    port_out(rig, 0x43, 0x00);
    rig->now_ns = start_ns + clocks_ns(0x34);
    port_out(rig, 0x43, 0x00);
    assert_int_equal(read_word(rig, 0), 0x1234);
    assert_int_equal(read_word(rig, 0), 0x1200);
    port_out(rig, 0x43, 0xc2); /* count and status of counter 0 */
    rig->now_ns = start_ns + clocks_ns(0x134);
    assert_int_equal(port_in(rig, 0x40), 0xb4); /* OUT; both bytes; mode 2 */
    assert_int_equal(read_word(rig, 0), 0x1200);
    rig_close(rig);
}

static void pit_bytes_alone_are_counts(void **state)
{
    /* Least, or most significant byte only: the other is 0. */
    struct irq_rig *rig = rig_open(1);

    (void)state;
    port_out(rig, 0x43, 0x14);
    port_out(rig, 0x40, 0x64);
    port_out(rig, 0x43, 0x00);
    assert_int_equal(port_in(rig, 0x40), 0x64);
    port_out(rig, 0x43, 0x64);
    port_out(rig, 0x41, 0x12);
    assert_int_equal(port_in(rig, 0x41), 0x12);
    rig->now_ns += clocks_ns(0x101);
    assert_int_equal(port_in(rig, 0x41), 0x10);
    rig_close(rig);
}

static void pit_null_count_until_the_count_is_there(void **state)
{
    /* The status's bit 6; mode 0 is low and stopped meanwhile. */
    struct irq_rig *rig = rig_open(1);

    (void)state;
    port_out(rig, 0x43, 0x30);
    assert_int_equal(status(rig, 0), 0x70);
    port_out(rig, 0x40, 10);
    assert_int_equal(status(rig, 0), 0x70);
    port_out(rig, 0x40, 0);
    assert_int_equal(status(rig, 0), 0x30);
    rig_close(rig);
}

static void pit_counts_in_bcd(void **state)
{
    /* 0 is 10,000. */
    struct irq_rig *rig = rig_open(1);
    uint64_t start_ns = rig->now_ns;

    (void)state;
    port_out(rig, 0x43, 0x31);
    port_out(rig, 0x40, 0x00);
    port_out(rig, 0x40, 0x10);
    expect_at(rig, start_ns, 0, 1, 0x0999, false);
    expect_at(rig, start_ns, 0, 1000, 0, true);
    expect_at(rig, start_ns, 0, 1001, 0x9999, true);
    start_ns = rig->now_ns;
    port_out(rig, 0x43, 0x31);
    port_out(rig, 0x40, 0);
    port_out(rig, 0x40, 0);
    expect_at(rig, start_ns, 0, 9999, 1, false);
    expect_at(rig, start_ns, 0, 10000, 0, true);
    rig_close(rig);
}

static void pit_interrupts_when_out_0_rises(void **state)
{
    /* At N clocks in mode 0, each N in modes 2 and 3; the deadline says so, not a nanosecond early. */
    struct irq_rig *rig = rig_open(1);
    uint64_t start_ns;

    (void)state;
    pics_init(rig, 1);
    assert_int_equal(irqchip_deadline_ns(rig->chip, 0), IRQCHIP_NEVER);
    for (unsigned mode = 0; mode <= 3; mode++) {
        if (mode == 1) {
            continue;
        }
        start_ns = rig->now_ns;
        rig->woken[0] = 0;
        program(rig, 0, mode, 11932);
        assert_true(rig->woken[0] > 0); /* its deadline came nearer */
        for (unsigned tick = 1; tick <= (mode == 0 ? 1 : 3); tick++) {
            assert_int_equal(irqchip_deadline_ns(rig->chip, 0), start_ns + clocks_ns(tick * 11932));
            rig->now_ns = start_ns + clocks_ns(tick * 11932) - 1;
            assert_false(pending(rig, 0));
            rig->now_ns++;
            assert_int_equal(take(rig, 0), 0x20);
            port_out(rig, 0x20, 0x20);
        }
    }
    program(rig, 0, 0, 100);
    rig->now_ns += 100 * MS;
    assert_int_equal(take(rig, 0), 0x20);
    port_out(rig, 0x20, 0x20);
    assert_int_equal(irqchip_deadline_ns(rig->chip, 0), IRQCHIP_NEVER);
    rig_close(rig);
}

static void pit_missed_ticks_are_one(void **state)
{
    /* Nor does a counter that is too fast ask for attention all the time. */
    struct irq_rig *rig = rig_open(1);

    (void)state;
    pics_init(rig, 1);
    program(rig, 0, 2, 2);
    rig->now_ns += 50 * MS;
    assert_int_equal(take(rig, 0), 0x20);
    port_out(rig, 0x20, 0x20);
    assert_false(pending(rig, 0));
    assert_int_equal(irqchip_deadline_ns(rig->chip, 0), rig->now_ns + IRQCHIP_TICK_MIN_NS);
    rig_close(rig);
}

static void pit_state_goes_out_and_in(void **state)
{
    /* KVM_GET_PIT2 and KVM_SET_PIT2; what is set counts from then on. Nonsense is harmless. */
    struct irq_rig *rig = rig_open(1);
    struct kvm_pit_state2 pit;

    (void)state;
    program(rig, 0, 2, 0x1000);
    port_out(rig, 0x61, 3);
    assert_int_equal(irqchip_ioctl_get_pit(rig->chip, &pit), 0);
    assert_int_equal(pit.channels[0].count, 0x1000);
    assert_int_equal(pit.channels[0].mode, 2);
    assert_int_equal(pit.channels[0].rw_mode, 3);
    assert_int_equal(pit.channels[0].count_load_time, rig->now_ns);
    assert_int_equal(pit.channels[2].gate, 1);
    assert_int_equal(pit.flags, KVM_PIT_FLAGS_SPEAKER_DATA_ON);
    rig->now_ns += 7 * MS;
    assert_int_equal(irqchip_ioctl_set_pit(rig->chip, &pit), 0);
    assert_int_equal(latched(rig, 0), 0x1000);
    for (unsigned byte = 0; byte < 256; byte++) {
        memset(&pit, (int)byte, sizeof(pit));
        pit.flags = 0;
        assert_int_equal(irqchip_ioctl_set_pit(rig->chip, &pit), 0);
        rig->now_ns += MS;
        for (uint16_t port = 0x40; port < 0x44; port++) {
            (void)port_in(rig, port);
            port_out(rig, port, (uint8_t)byte);
        }
        (void)port_in(rig, 0x61);
        (void)pending(rig, 0);
    }
    rig_close(rig);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pit_mode_0_rises_at_its_end_and_counts_on),
        cmocka_unit_test(pit_mode_1_waits_for_its_gate),
        cmocka_unit_test(pit_mode_2_is_low_for_the_last_clock),
        cmocka_unit_test(pit_mode_3_is_a_square),
        cmocka_unit_test(pit_modes_4_and_5_strobe),
        cmocka_unit_test(pit_gate_of_counter_2_holds_and_restarts),
        cmocka_unit_test(pit_latches_keep_until_read),
        cmocka_unit_test(pit_bytes_alone_are_counts),
        cmocka_unit_test(pit_null_count_until_the_count_is_there),
        cmocka_unit_test(pit_counts_in_bcd),
        cmocka_unit_test(pit_interrupts_when_out_0_rises),
        cmocka_unit_test(pit_missed_ticks_are_one),
        cmocka_unit_test(pit_state_goes_out_and_in),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
