/*
 * unit/test_irqchip_lapic.c - local APICs by SDM 3A: priorities, service, messages between processors, the timer in its
 * modes, errors, state.
 */
#include "unit/irq_rig.h"

#include <pthread.h>

#define TPR (APIC + 0x80)
#define PPR (APIC + 0xa0)
#define EOI (APIC + 0xb0)
#define ICR (APIC + 0x300)
#define ICR2 (APIC + 0x310)
#define TIMER (APIC + 0x320)
#define INITIAL (APIC + 0x380)
#define CURRENT (APIC + 0x390)
#define DIVIDE (APIC + 0x3e0)
#define BY_1 0xbu
#define PERIODIC (1u << 17)
#define DEADLINE (2u << 17)

static struct irq_rig *open_apics(unsigned vcpus)
{
    struct irq_rig *rig = rig_open(vcpus);

    for (unsigned i = 0; i < vcpus; i++) {
        apic_enable(rig, i, (uint8_t)(1u << (i % 8)));
    }
    return rig;
}

static void ipi(struct irq_rig *rig, unsigned from, uint8_t to, uint32_t command)
{
    mmio_out(rig, from, ICR2, (uint32_t)to << 24);
    mmio_out(rig, from, ICR, command);
}

static void self(struct irq_rig *rig, uint8_t vector)
{
    mmio_out(rig, 0, ICR, 0x40000u | vector);
}

static void lapic_at_reset_is_as_the_manual_says(void **state)
{
    /* SDM "Local APIC State After Power-Up or Reset"; LINT0 of the bootstrap processor as in KVM. */
    struct irq_rig *rig = rig_open(2);

    (void)state;
    assert_int_equal(mmio_in(rig, 1, APIC + 0x20), 1u << 24);
    assert_int_equal(mmio_in(rig, 1, APIC + 0x30), 0x50014);
    assert_int_equal(mmio_in(rig, 1, APIC + 0xe0), 0xffffffff);
    assert_int_equal(mmio_in(rig, 1, APIC + 0xf0), 0xff);
    assert_int_equal(mmio_in(rig, 1, TIMER), 0x10000);
    assert_int_equal(mmio_in(rig, 1, APIC + 0x350), 0x10000);
    assert_int_equal(mmio_in(rig, 0, APIC + 0x350), 0x700);
    assert_int_equal(mmio_in(rig, 0, TPR), 0);
    assert_int_equal(irqchip_apic_base(rig->chip, 0), APIC | 0x900);
    assert_int_equal(irqchip_apic_base(rig->chip, 1), APIC | 0x800);
    rig_close(rig);
}

static void lapic_higher_vectors_come_first_and_nest(void **state)
{
    /* A class in service holds back its own class and lower ones; EOI ends the highest. */
    struct irq_rig *rig = open_apics(1);

    (void)state;
    self(rig, 0x41);
    self(rig, 0x55);
    self(rig, 0x4f);
    assert_int_equal(take(rig, 0), 0x55);
    assert_int_equal(mmio_in(rig, 0, PPR), 0x50);
    self(rig, 0x5f);
    assert_false(pending(rig, 0));
    self(rig, 0x60);
    assert_int_equal(take(rig, 0), 0x60);
    mmio_out(rig, 0, EOI, 0);
    assert_int_equal(mmio_in(rig, 0, PPR), 0x50);
    mmio_out(rig, 0, EOI, 0);
    assert_int_equal(take(rig, 0), 0x5f);
    mmio_out(rig, 0, EOI, 0);
    assert_int_equal(take(rig, 0), 0x4f);
    mmio_out(rig, 0, EOI, 0);
    assert_int_equal(take(rig, 0), 0x41);
    mmio_out(rig, 0, EOI, 0);
    mmio_out(rig, 0, EOI, 0); /* nothing is in service */
    assert_int_equal(take(rig, 0), -1);
    rig_close(rig);
}

static void lapic_tpr_holds_back_its_class(void **state)
{
    /* TPR by MMIO and CR8; PPR is the higher of TPR and what is in service. */
    struct irq_rig *rig = open_apics(1);

    (void)state;
    mmio_out(rig, 0, TPR, 0x4f);
    assert_int_equal(irqchip_cr8(rig->chip, 0), 4);
    self(rig, 0x4f);
    assert_false(pending(rig, 0));
    assert_int_equal(mmio_in(rig, 0, PPR), 0x4f);
    rig->woken[0] = 0;
    irqchip_set_cr8(rig->chip, 0, 3);
    assert_true(rig->woken[0] > 0);
    assert_int_equal(mmio_in(rig, 0, TPR), 0x30);
    assert_int_equal(take(rig, 0), 0x4f);
    assert_int_equal(mmio_in(rig, 0, PPR), 0x40);
    irqchip_set_cr8(rig->chip, 0, 15);
    self(rig, 0xff);
    assert_false(pending(rig, 0));
    rig_close(rig);
}

static void lapic_ipis_find_their_destinations(void **state)
{
    /* Physical, logical flat and cluster, everyone by number; the three shorthands. */
    struct irq_rig *rig = open_apics(4);

    (void)state;
    ipi(rig, 0, 2, 0x4041);
    assert_int_equal(take(rig, 2), 0x41);
    ipi(rig, 0, 0x0a, 0x4842);
    assert_int_equal(take(rig, 1), 0x42);
    assert_int_equal(take(rig, 3), 0x42);
    ipi(rig, 1, 0xff, 0x4053);
    ipi(rig, 1, 0, 0x44054);
    ipi(rig, 1, 0, 0x84065);
    ipi(rig, 1, 0, 0xc4076);
    for (unsigned i = 0; i < 4; i++) {
        assert_int_equal(take(rig, i), i == 1 ? 0x65 : 0x76);
        mmio_out(rig, i, EOI, 0);
        assert_int_equal(take(rig, i), i == 1 ? 0x54 : 0x65);
        mmio_out(rig, i, EOI, 0);
        assert_int_equal(take(rig, i), 0x53);
        mmio_out(rig, i, EOI, 0);
        mmio_out(rig, i, EOI, 0);
    }
    for (unsigned i = 0; i < 4; i++) {
        mmio_out(rig, i, APIC + 0xe0, 0);
        mmio_out(rig, i, APIC + 0xd0, (i / 2 << 4 | 1u << i % 2) << 24);
        mmio_out(rig, i, TPR, 0);
    }
    ipi(rig, 0, 0x13, 0x4887);
    assert_int_equal(take(rig, 0), -1);
    assert_int_equal(take(rig, 1), -1);
    assert_int_equal(take(rig, 2), 0x87);
    assert_int_equal(take(rig, 3), 0x87);
    ipi(rig, 0, 0x02, 0x4888);
    assert_int_equal(take(rig, 1), 0x88);
    rig_close(rig);
}

static void lapic_lowest_priority_is_given_in_turn(void **state)
{
    /* Among equals each once; TPR makes a difference; who is disabled by software takes none. */
    struct irq_rig *rig = open_apics(3);
    unsigned taken = 0;

    (void)state;
    for (unsigned i = 0; i < 3; i++) {
        ipi(rig, 0, 7, 0x4941);
        for (unsigned vcpu = 0; vcpu < 3; vcpu++) {
            if (take(rig, vcpu) == 0x41) {
                taken |= 1u << vcpu;
                mmio_out(rig, vcpu, EOI, 0);
            }
        }
    }
    assert_int_equal(taken, 7);
    mmio_out(rig, 0, TPR, 0x20);
    mmio_out(rig, 1, TPR, 0x10);
    mmio_out(rig, 2, APIC + 0xf0, 0xff);
    for (unsigned i = 0; i < 3; i++) {
        ipi(rig, 0, 7, 0x4941);
        assert_int_equal(take(rig, 1), 0x41);
        mmio_out(rig, 1, EOI, 0);
    }
    rig_close(rig);
}

static void lapic_start_up_by_init_and_sipi(void **state)
{
    /* INIT resets all but the ID; a SIPI before it is dropped, one after it stays. NMI. De-assert is nothing. */
    struct irq_rig *rig = open_apics(2);

    (void)state;
    mmio_out(rig, 1, TPR, 0x50);
    mmio_out(rig, 1, APIC + 0x20, 5u << 24);
    ipi(rig, 0, 5, 0x4607);
    rig->woken[1] = 0;
    ipi(rig, 0, 5, 0xc500);
    assert_true(rig->woken[1] > 0);
    ipi(rig, 0, 5, 0x8500);
    assert_int_equal(irqchip_vcpu_pending(rig->chip, 1), IRQCHIP_INIT);
    ipi(rig, 0, 5, 0x4609);
    assert_int_equal(irqchip_vcpu_pending(rig->chip, 1), IRQCHIP_INIT | IRQCHIP_SIPI);
    assert_true(irqchip_take_init(rig->chip, 1));
    assert_false(irqchip_take_init(rig->chip, 1));
    assert_int_equal(mmio_in(rig, 1, TPR), 0);
    assert_int_equal(mmio_in(rig, 1, APIC + 0xf0), 0xff);
    assert_int_equal(mmio_in(rig, 1, APIC + 0x20), 5u << 24);
    assert_int_equal(irqchip_take_sipi(rig->chip, 1), 9);
    assert_int_equal(irqchip_take_sipi(rig->chip, 1), -1);
    ipi(rig, 0, 5, 0x4400);
    assert_int_equal(irqchip_vcpu_pending(rig->chip, 1), IRQCHIP_NMI);
    assert_true(irqchip_take_nmi(rig->chip, 1));
    irqchip_post_nmi(rig->chip, 0);
    assert_true(irqchip_take_nmi(rig->chip, 0));
    rig_close(rig);
}

static void lapic_disabled_by_software_takes_nothing_new(void **state)
{
    /* What was pending stays; LVTs are masked and stay so until it is enabled. */
    struct irq_rig *rig = open_apics(2);

    (void)state;
    mmio_out(rig, 0, TIMER, 0x31);
    self(rig, 0x41);
    mmio_out(rig, 0, APIC + 0xf0, 0xff);
    ipi(rig, 1, 0, 0x4055);
    assert_int_equal(mmio_in(rig, 0, TIMER), 0x10031);
    mmio_out(rig, 0, TIMER, 0x31);
    assert_int_equal(mmio_in(rig, 0, TIMER), 0x10031);
    assert_int_equal(take(rig, 0), 0x41);
    mmio_out(rig, 0, EOI, 0);
    assert_int_equal(take(rig, 0), -1);
    rig_close(rig);
}

static void lapic_base_moves_and_disables(void **state)
{
    /* IA32_APIC_BASE: the page follows, and is a hole while disabled; reserved bits are refused. */
    struct irq_rig *rig = open_apics(1);
    uint32_t value;

    (void)state;
    assert_int_equal(irqchip_set_apic_base(rig->chip, 0, APIC | 0x500), -EINVAL);
    assert_int_equal(irqchip_set_apic_base(rig->chip, 0, APIC | 0x801), -EINVAL);
    assert_int_equal(irqchip_set_apic_base(rig->chip, 0, UINT64_C(1) << 52), -EINVAL);
    assert_int_equal(irqchip_set_apic_base(rig->chip, 0, UINT64_C(0x12345000) | 0x900), 0);
    assert_false(irqchip_mmio_read(rig->chip, 0, APIC + 0x30, 4, &value));
    assert_int_equal(mmio_in(rig, 0, UINT64_C(0x12345030)), 0x50014);
    assert_int_equal(irqchip_set_apic_base(rig->chip, 0, UINT64_C(0x12345000)), 0);
    assert_int_equal(mmio_in(rig, 0, UINT64_C(0x12345030)), 0xffffffff);
    mmio_out(rig, 0, UINT64_C(0x12345080), 0x50);
    assert_int_equal(irqchip_cr8(rig->chip, 0), 0);
    rig_close(rig);
}

static void lapic_timer_one_shot_and_periodic(void **state)
{
    /* 1 ns a count at divide by 1; the current count goes down; the deadline is exact. */
    struct irq_rig *rig = open_apics(1);
    uint64_t start_ns = rig->now_ns;

    (void)state;
    mmio_out(rig, 0, TIMER, 0x31);
    mmio_out(rig, 0, DIVIDE, BY_1);
    mmio_out(rig, 0, INITIAL, 1000000);
    rig->now_ns = start_ns + 400000;
    assert_int_equal(mmio_in(rig, 0, CURRENT), 600000);
    assert_int_equal(irqchip_deadline_ns(rig->chip, 0), start_ns + 1000000);
    rig->now_ns = start_ns + 999999;
    assert_false(pending(rig, 0));
    rig->now_ns = start_ns + 1000000;
    rig->woken[0] = 0;
    assert_int_equal(take(rig, 0), 0x31);
    assert_true(rig->woken[0] > 0);
    mmio_out(rig, 0, EOI, 0);
    assert_int_equal(mmio_in(rig, 0, CURRENT), 0);
    assert_int_equal(irqchip_deadline_ns(rig->chip, 0), IRQCHIP_NEVER);

    mmio_out(rig, 0, TIMER, 0x32 | PERIODIC);
    mmio_out(rig, 0, DIVIDE, 3); /* by 16 */
    start_ns = rig->now_ns;
    mmio_out(rig, 0, INITIAL, 1000000);
    for (unsigned tick = 1; tick <= 3; tick++) {
        assert_int_equal(irqchip_deadline_ns(rig->chip, 0), start_ns + tick * 16 * MS);
        rig->now_ns = start_ns + tick * 16 * MS;
        assert_int_equal(take(rig, 0), 0x32);
        mmio_out(rig, 0, EOI, 0);
    }
    rig->now_ns = start_ns + 100 * MS; /* three ticks are one, and it stays in step */
    assert_int_equal(take(rig, 0), 0x32);
    mmio_out(rig, 0, EOI, 0);
    assert_false(pending(rig, 0));
    assert_int_equal(mmio_in(rig, 0, CURRENT), 750000);
    mmio_out(rig, 0, INITIAL, 0);
    assert_int_equal(irqchip_deadline_ns(rig->chip, 0), IRQCHIP_NEVER);
    rig_close(rig);
}

static void lapic_timer_divides_by_each_power(void **state)
{
    /* SDM "Divide Configuration Register": 0 to 3 and 8 to 11 are 2, 4, 8, 16, 32, 64, 128, 1. */
    static const uint32_t CODES[8] = {0xb, 0, 1, 2, 3, 8, 9, 10};
    struct irq_rig *rig = open_apics(1);

    (void)state;
    mmio_out(rig, 0, TIMER, 0x31);
    for (unsigned power = 0; power < 8; power++) {
        mmio_out(rig, 0, DIVIDE, CODES[power]);
        mmio_out(rig, 0, INITIAL, 1000000);
        assert_int_equal(irqchip_deadline_ns(rig->chip, 0), rig->now_ns + (MS << power));
    }
    mmio_out(rig, 0, DIVIDE, BY_1); /* what is left is counted faster */
    assert_int_equal(irqchip_deadline_ns(rig->chip, 0), rig->now_ns + MS);
    rig_close(rig);
}

static void lapic_timer_masked_expires_in_silence(void **state)
{
    /* Its deadline is nobody's business. */
    struct irq_rig *rig = open_apics(1);

    (void)state;
    mmio_out(rig, 0, TIMER, 0x10031);
    mmio_out(rig, 0, DIVIDE, BY_1);
    mmio_out(rig, 0, INITIAL, 1000);
    assert_int_equal(irqchip_deadline_ns(rig->chip, 0), IRQCHIP_NEVER);
    rig->now_ns += 2000;
    assert_int_equal(mmio_in(rig, 0, CURRENT), 0);
    mmio_out(rig, 0, TIMER, 0x31);
    assert_false(pending(rig, 0));
    rig_close(rig);
}

static void lapic_timer_by_tsc_deadline(void **state)
{
    /* At 1 GHz; 0 disarms; one in the past is now; other modes ignore it, and their count is ignored in this. */
    struct irq_rig *rig = open_apics(1);

    (void)state;
    irqchip_set_tsc_deadline(rig->chip, 0, 5000, 0);
    assert_int_equal(irqchip_tsc_deadline(rig->chip, 0), 0);
    mmio_out(rig, 0, TIMER, 0x31 | DEADLINE);
    mmio_out(rig, 0, INITIAL, 100);
    assert_int_equal(irqchip_deadline_ns(rig->chip, 0), IRQCHIP_NEVER);
    irqchip_set_tsc_deadline(rig->chip, 0, 7000000, 2000000);
    assert_int_equal(irqchip_tsc_deadline(rig->chip, 0), 7000000);
    assert_int_equal(irqchip_deadline_ns(rig->chip, 0), rig->now_ns + 5 * MS);
    rig->now_ns += 5 * MS - 1;
    assert_false(pending(rig, 0));
    rig->now_ns++;
    assert_int_equal(take(rig, 0), 0x31);
    assert_int_equal(irqchip_tsc_deadline(rig->chip, 0), 0);
    mmio_out(rig, 0, EOI, 0);
    irqchip_set_tsc_deadline(rig->chip, 0, 1, 2);
    assert_int_equal(take(rig, 0), 0x31);
    mmio_out(rig, 0, EOI, 0);
    irqchip_set_tsc_deadline(rig->chip, 0, UINT64_MAX, 0);
    irqchip_set_tsc_deadline(rig->chip, 0, 0, 0);
    assert_int_equal(irqchip_deadline_ns(rig->chip, 0), IRQCHIP_NEVER);
    irqchip_set_tsc_deadline(rig->chip, 0, 500, 0);
    mmio_out(rig, 0, TIMER, 0x31);
    assert_int_equal(irqchip_deadline_ns(rig->chip, 0), IRQCHIP_NEVER);
    rig_close(rig);
}

static void lapic_errors_are_noted_and_told(void **state)
{
    /* Illegal vectors sent and received, illegal registers; ESR shows them after a write. */
    struct irq_rig *rig = open_apics(2);

    (void)state;
    mmio_out(rig, 0, APIC + 0x370, 0x3e);
    self(rig, 5);
    assert_int_equal(take(rig, 0), 0x3e);
    mmio_out(rig, 0, EOI, 0);
    assert_int_equal(mmio_in(rig, 0, APIC + 0x280), 0);
    mmio_out(rig, 0, APIC + 0x280, 0);
    assert_int_equal(mmio_in(rig, 0, APIC + 0x280), 0x20);
    assert_int_equal(irqchip_msi(rig->chip, 0xfee00000, 3), 0);
    assert_int_equal(mmio_in(rig, 0, APIC + 0x40), 0);
    mmio_out(rig, 0, APIC + 0x3f0, 1);
    mmio_out(rig, 0, APIC + 0x280, 0);
    assert_int_equal(mmio_in(rig, 0, APIC + 0x280), 0xc0);
    mmio_out(rig, 0, APIC + 0x370,
             0x05); /* an error's own vector is illegal: no more than an error */
    self(rig, 5);
    rig_close(rig);
}

static void lapic_accesses_of_other_sizes(void **state)
{
    /* Reads within a register give its bytes, beyond it zeroes; other writes than one register's are dropped. */
    struct irq_rig *rig = open_apics(1);
    uint64_t value = 0;
    uint8_t byte = 0xff;

    (void)state;
    assert_true(irqchip_mmio_read(rig->chip, 0, APIC + 0x32, 1, &byte));
    assert_int_equal(byte, 0x05);
    assert_true(irqchip_mmio_read(rig->chip, 0, APIC + 0x30, 8, &value));
    assert_int_equal(value, 0x50014);
    assert_true(irqchip_mmio_read(rig->chip, 0, APIC + 0x36, 1, &byte));
    assert_int_equal(byte, 0);
    value = UINT64_MAX;
    assert_true(irqchip_mmio_write(rig->chip, 0, TPR, 8, &value));
    assert_true(irqchip_mmio_write(rig->chip, 0, TPR, 1, &value));
    assert_true(irqchip_mmio_write(rig->chip, 0, TPR + 4, 4, &value));
    assert_int_equal(mmio_in(rig, 0, TPR), 0);
    for (unsigned at = 0; at < 0x1000; at += 4) {
        (void)mmio_in(rig, 0, APIC + at);
        mmio_out(rig, 0, APIC + at, 0xffffffff);
    }
    rig_close(rig);
}

static void lapic_state_goes_out_and_in(void **state)
{
    /* KVM_GET_LAPIC and KVM_SET_LAPIC: a timer goes on where it was; any bytes are harmless. */
    struct irq_rig *rig = open_apics(2);
    struct kvm_lapic_state out;
    struct kvm_lapic_state again;
    uint32_t current;

    (void)state;
    mmio_out(rig, 0, TPR, 0x20);
    mmio_out(rig, 0, TIMER, 0x31 | PERIODIC);
    mmio_out(rig, 0, DIVIDE, BY_1);
    mmio_out(rig, 0, INITIAL, 1000000);
    self(rig, 0x41);
    rig->now_ns += 300000;
    assert_int_equal(irqchip_ioctl_get_lapic(rig->chip, 0, &out), 0);
    memcpy(&current, &out.regs[0x390], 4);
    assert_int_equal(current, 700000);
    assert_int_equal(irqchip_ioctl_set_lapic(rig->chip, 1, &out), 0);
    assert_int_equal(irqchip_ioctl_get_lapic(rig->chip, 1, &again), 0);
    assert_memory_equal(&out, &again, sizeof(out));
    assert_int_equal(irqchip_deadline_ns(rig->chip, 1), rig->now_ns + 700000);
    assert_int_equal(take(rig, 1), 0x41);
    for (unsigned byte = 0; byte < 256; byte++) {
        memset(&out, (int)byte, sizeof(out));
        assert_int_equal(irqchip_ioctl_set_lapic(rig->chip, 0, &out), 0);
        rig->now_ns += MS;
        (void)take(rig, 0);
        mmio_out(rig, 0, EOI, 0);
        mmio_out(rig, 0, ICR, 0x84000 | byte);
        (void)irqchip_deadline_ns(rig->chip, 0);
    }
    rig_close(rig);
}

/* A device's thread beside a vCPU's. */
static void *raise_lines(void *opaque)
{
    struct irq_rig *rig = opaque;

    for (unsigned i = 0; i < 20000; i++) {
        (void)irqchip_msi(rig->chip, 0xfee00000, 0x40 + i % 64);
        pulse(rig, i % 24);
    }
    return NULL;
}

static void lapic_two_threads_at_once(void **state)
{
    /* The last message is never lost, whatever the other thread takes meanwhile. */
    struct irq_rig *rig = open_apics(1);
    pthread_t thread;

    (void)state;
    pics_init(rig, 3);
    assert_int_equal(pthread_create(&thread, NULL, raise_lines, rig), 0);
    for (unsigned i = 0; i < 20000; i++) {
        if (take(rig, 0) >= 0x40) {
            mmio_out(rig, 0, EOI, 0);
        }
    }
    pthread_join(thread, NULL);
    (void)irqchip_msi(rig->chip, 0xfee00000, 0xf0);
    port_out(rig, 0x21, 0xff);
    assert_int_equal(take(rig, 0), 0xf0);
    rig_close(rig);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lapic_at_reset_is_as_the_manual_says),
        cmocka_unit_test(lapic_higher_vectors_come_first_and_nest),
        cmocka_unit_test(lapic_tpr_holds_back_its_class),
        cmocka_unit_test(lapic_ipis_find_their_destinations),
        cmocka_unit_test(lapic_lowest_priority_is_given_in_turn),
        cmocka_unit_test(lapic_start_up_by_init_and_sipi),
        cmocka_unit_test(lapic_disabled_by_software_takes_nothing_new),
        cmocka_unit_test(lapic_base_moves_and_disables),
        cmocka_unit_test(lapic_timer_one_shot_and_periodic),
        cmocka_unit_test(lapic_timer_divides_by_each_power),
        cmocka_unit_test(lapic_timer_masked_expires_in_silence),
        cmocka_unit_test(lapic_timer_by_tsc_deadline),
        cmocka_unit_test(lapic_errors_are_noted_and_told),
        cmocka_unit_test(lapic_accesses_of_other_sizes),
        cmocka_unit_test(lapic_state_goes_out_and_in),
        cmocka_unit_test(lapic_two_threads_at_once),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
