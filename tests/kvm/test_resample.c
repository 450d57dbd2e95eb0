/*
 * tests/kvm/test_resample.c - an irqfd that resamples, of a running guest: its line stays up until the handler's EOI, which takes it
 * down and signals the device, which raises it again if it still wants to.
 *
 * Source: Linux api.rst, KVM_IRQFD, KVM_IRQFD_FLAG_RESAMPLE; the chip is Intel's 8259A.
 */
#include "guest.h"

#include <errno.h>
#include <poll.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define PIN 3u
#define VECTOR (0x20u + PIN)
#define HANDLER 0x2000u
#define READY_PORT (GUEST_PORT + 0u)
#define TAKEN_PORT (GUEST_PORT + 1u)
#define RAISES 50u
#define DEADLINE_MS 60000 /* only a broken test waits for it */

struct rig {
    struct guest guest;
    int trigger;
    int resample;
    atomic_uint ready;
    atomic_uint taken;   /* interrupts */
    atomic_uint ran_off; /* the resample eventfd was signalled before the EOI */
};

/* On the vCPU's thread: what the guest says. The handler says it before its EOI. */
static void hear(void *opaque, const struct record *record)
{
    struct rig *rig = opaque;
    uint64_t count;

    if (record->offset == TAKEN_PORT - GUEST_PORT) {
        if (read(rig->resample, &count, sizeof(count)) == sizeof(count)) {
            atomic_fetch_add(&rig->ran_off, 1);
        }
        atomic_fetch_add(&rig->taken, 1);
    } else {
        atomic_fetch_add(&rig->ready, 1);
    }
}

static void emit_out(struct guest *guest, unsigned port, uint8_t value)
{
    EMIT(guest, 0xb0, value, 0xe6, LO(port)); /* mov al, value; out port, al */
}

static void emit_program(struct guest *guest)
{
    uint8_t *ram = gm_ram_hva(guest->ram_block);

    guest_program(guest);
    EMIT(guest, 0xbc, 0x00, 0x30); /* mov sp, 0x3000 */
    emit_out(guest, 0x20, 0x11);   /* ICW1: ICW4 comes, edges */
    emit_out(guest, 0x21, 0x20);   /* ICW2: vectors from 0x20 on */
    emit_out(guest, 0x21, 0x04);
    emit_out(guest, 0x21, 0x01); /* ICW4: an EOI has to be said */
    emit_out(guest, 0x21, 0x00);
    emit_out(guest, READY_PORT, 1);
    EMIT(guest, 0xfb); /* sti */
    EMIT_SPIN(guest);
    guest->code = ram + HANDLER;
    EMIT(guest, 0x50); /* push ax */
    emit_out(guest, TAKEN_PORT, 1);
    emit_out(guest, 0x20, 0x20);   /* EOI */
    EMIT(guest, 0x58, 0xcf);       /* pop ax; iret */
    ram[4 * VECTOR] = LO(HANDLER); /* the interrupt table is at 0 */
    ram[4 * VECTOR + 1] = HI(HANDLER);
}

static void rig_open(struct rig *rig)
{
    const struct gm_vm_options options = {.size = sizeof(options), .accel = guest_accel};
    struct kvm_irqfd irqfd = {.gsi = PIN, .flags = KVM_IRQFD_FLAG_RESAMPLE};
    struct gm_vm *vm;

    memset(rig, 0, sizeof(*rig));
    rig->trigger = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    rig->resample = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    assert_true(rig->trigger >= 0 && rig->resample >= 0);
    assert_int_equal(gm_vm_open(&options, &vm, NULL), 0);
    assert_int_equal(gm_vm_ioctl(vm, KVM_CREATE_IRQCHIP, 0), 0);
    guest_init_in(&rig->guest, vm);
    assert_int_equal(gm_vcpu_new(vm, 0, &rig->guest.vcpu, NULL), 0);
    rig->guest.ports_seen.on_access = hear;
    rig->guest.ports_seen.opaque = rig;
    irqfd.fd = (uint32_t)rig->trigger;
    irqfd.resamplefd = (uint32_t)rig->resample;
    assert_int_equal(gm_vm_ioctl(vm, KVM_IRQFD, (unsigned long)(uintptr_t)&irqfd), 0);
    emit_program(&rig->guest);
    guest_start(&rig->guest);
}

static void rig_close(struct rig *rig)
{
    guest_stop(&rig->guest);
    guest_fini(&rig->guest);
    close(rig->trigger);
    close(rig->resample);
}

static void raise(const struct rig *rig)
{
    const uint64_t one = 1;

    assert_int_equal(write(rig->trigger, &one, sizeof(one)), sizeof(one));
}

/* Wait for the EOI's signal, and take it. Return: how many there were. */
static uint64_t wait_resampled(const struct rig *rig)
{
    struct pollfd poller = {.fd = rig->resample, .events = POLLIN};
    uint64_t count = 0;

    assert_int_equal(poll(&poller, 1, DEADLINE_MS), 1);
    assert_int_equal(read(rig->resample, &count, sizeof(count)), sizeof(count));
    return count;
}

static unsigned lines_up(const struct rig *rig)
{
    struct kvm_irqchip chip = {.chip_id = KVM_IRQCHIP_IOAPIC};

    assert_int_equal(gm_vm_ioctl(rig->guest.vm, KVM_GET_IRQCHIP, (unsigned long)(uintptr_t)&chip),
                     0);
    return chip.chip.ioapic.irr;
}

static void eoi_takes_the_line_down_and_signals_the_device(void **state)
{
    /* One interrupt for each time that the device says so, and one signal for each EOI, after the handler has begun. */
    struct rig rig;

    (void)state;
    GUEST_NEEDS_KVM();
    rig_open(&rig);
    guest_wait_spinning(&rig.guest);
    for (unsigned i = 1; i <= 5; i++) {
        raise(&rig);
        assert_int_equal(wait_resampled(&rig), 1);
        assert_int_equal(atomic_load(&rig.taken), i);
        assert_int_equal(lines_up(&rig) & 1u << PIN, 0);
        guest_wait_spinning(
            &rig.guest); /* the handler has returned, and nothing interrupts again */
        guest_wait_spinning(&rig.guest);
        assert_int_equal(atomic_load(&rig.taken), i);
    }
    assert_int_equal(atomic_load(&rig.ready), 1);
    assert_int_equal(atomic_load(&rig.ran_off), 0);
    rig_close(&rig);
}

static void device_that_still_wants_raises_its_line_again(void **state)
{
    /* As a device does on the signal, while the guest is still in its handler: no interrupt is lost, each has its own EOI. */
    struct rig rig;

    (void)state;
    GUEST_NEEDS_KVM();
    rig_open(&rig);
    guest_wait_spinning(&rig.guest);
    raise(&rig);
    for (unsigned i = 0; i < RAISES; i++) {
        assert_int_equal(wait_resampled(&rig), 1);
        raise(&rig);
    }
    assert_int_equal(wait_resampled(&rig), 1);
    assert_int_equal(atomic_load(&rig.taken), RAISES + 1);
    assert_int_equal(atomic_load(&rig.ran_off), 0);
    rig_close(&rig);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(eoi_takes_the_line_down_and_signals_the_device),
        cmocka_unit_test(device_that_still_wants_raises_its_line_again),
    };

    return GUEST_RUN_ON_BOTH(tests);
}
