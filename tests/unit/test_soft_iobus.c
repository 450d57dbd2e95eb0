/*
 * unit/test_soft_iobus.c - KVM_IOEVENTFD, KVM_REGISTER_COALESCED_MMIO and KVM_IRQFD: the same questions to the software KVM and, where it
 * opens, to /dev/kvm. What is expected is written here; both have to say it.
 */
#include <guestmem/soft_ioctl.h>

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

/* A VM of either kind. */
struct side {
    struct gm_soft *soft; /* NULL: fd */
    int system;
    int fd;
};

static long ask(const struct side *side, unsigned long request, const void *argument)
{
    int rc;

    if (side->soft != NULL) {
        return gm_soft_vm_ioctl(side->soft, request, (unsigned long)argument);
    }
    rc = ioctl(side->fd, request, argument);
    return rc == -1 ? -errno : rc;
}

static struct side soft_side(void)
{
    struct side side = {.system = -1, .fd = -1};

    assert_int_equal(gm_soft_open(NULL, &side.soft, NULL), 0);
    return side;
}

/* Return: is there one? */
static bool kvm_side(struct side *side)
{
    *side = (struct side){.system = open("/dev/kvm", O_RDWR | O_CLOEXEC)};
    if (side->system == -1) {
        return false;
    }
    side->fd = ioctl(side->system, KVM_CREATE_VM, 0);
    assert_true(side->fd >= 0);
    return true;
}

static void side_end(struct side *side)
{
    if (side->soft != NULL) {
        assert_int_equal(gm_soft_close(side->soft), 0);
    } else {
        close(side->fd);
        close(side->system);
    }
}

/* Descriptors that steps name: A, B are eventfds, A2 is A again. */
enum { A, A2, B, NO_EVENTFD, NO_FILE, FDS };

struct fds {
    int fd[FDS];
};

static struct fds fds_new(void)
{
    struct fds fds;

    fds.fd[A] = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    fds.fd[A2] = dup(fds.fd[A]);
    fds.fd[B] = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    fds.fd[NO_EVENTFD] = open("/dev/null", O_RDWR | O_CLOEXEC);
    fds.fd[NO_FILE] = 100000;
    return fds;
}

static void fds_end(struct fds *fds)
{
    for (unsigned i = A; i <= NO_EVENTFD; i++) {
        close(fds->fd[i]);
    }
}

/* ---- ioeventfds ---- */

#define MATCH KVM_IOEVENTFD_FLAG_DATAMATCH
#define PIO KVM_IOEVENTFD_FLAG_PIO
#define DEL KVM_IOEVENTFD_FLAG_DEASSIGN
#define CCW KVM_IOEVENTFD_FLAG_VIRTIO_CCW_NOTIFY

static const struct {
    uint64_t address;
    uint32_t size_bytes;
    unsigned fd;
    uint32_t flags;
    uint64_t value;
    int expected;
} EVENTFDS[] = {
    /* One that takes the same writes is there, whosever it is. */
    {0xd0000000, 4, A, 0, 0, 0},
    {0xd0000000, 4, A, 0, 0, -EEXIST},
    {0xd0000000, 4, B, 0, 0, -EEXIST},
    {0xd0000000, 2, A, 0, 0, 0},
    {0xd0000000, 0, A, 0, 0, -EEXIST},
    {0xd0000000, 4, A, MATCH, 7, -EEXIST},
    {0xd0000000, 1, A, MATCH, 7, 0},
    {0xd0000000, 1, B, MATCH, 7, -EEXIST},
    {0xd0000000, 1, B, MATCH, 8, 0},
    {0xd0000000, 1, B, 0, 0, -EEXIST},
    {0xd0000000, 4, A, PIO, 0, 0},
    {0xd0000000, 4, A, CCW, 0, 0},
    /* Of any size. */
    {0xd0001000, 0, A, 0, 0, 0},
    {0xd0001000, 4, A, 0, 0, -EEXIST},
    {0xd0001000, 0, B, 0, 0, -EEXIST},
    {0xd0001000, 0, A, MATCH, 0, -EINVAL},
    /* What cannot be, in the order in which it is looked at. */
    {0xd0002000, 3, NO_FILE, 0, 0, -EINVAL},
    {0xd0002000, 16, A, 0, 0, -EINVAL},
    {UINT64_MAX, 4, A, 0, 0, -EINVAL},
    {UINT64_MAX - 3, 4, A, 0, 0, -EINVAL},
    {UINT64_MAX - 4, 4, A, 0, 0, 0},
    {0xd0002000, 4, NO_FILE, 0, 0, -EBADF},
    {0xd0002000, 4, NO_EVENTFD, 0, 0, -EINVAL},
    {0xd0002000, 4, A, 0x20, 0, -EINVAL},
    {0xd0002000, 4, A, 0x10, 0, 0},
    {0xd0002000, 4, A, 0x80000000, 0, -EINVAL},
    /* Removal: by the eventfd, not by its number; nothing is checked before. */
    {0xd0003000, 3, A, DEL, 0, -ENOENT},
    {UINT64_MAX, 4, A, DEL, 0, -ENOENT},
    {0xd0000000, 4, NO_FILE, DEL, 0, -EBADF},
    {0xd0000000, 4, NO_EVENTFD, DEL, 0, -EINVAL},
    {0xd0000000, 4, B, DEL, 0, -ENOENT},
    {0xd0000000, 4, A2, DEL | 0x40, 0, 0},
    {0xd0000000, 4, A, DEL, 0, -ENOENT},
    {0xd0000000, 1, A, DEL, 7, -ENOENT},
    {0xd0000000, 1, A, DEL | MATCH, 8, -ENOENT},
    {0xd0000000, 1, A, DEL | MATCH, 7, 0},
    {0xd0001000, 0, A, DEL | MATCH, 0, -ENOENT},
    {0xd0001000, 8, A, DEL, 0, -ENOENT},
    {0xd0001000, 0, A, DEL, 5, 0},
    {0xd0000000, 4, A, DEL | CCW, 0, 0},
    {0xd0000000, 4, A, DEL | PIO | CCW, 0, 0},
    /* A value that a write of the size cannot have is one of its own. */
    {0x200, 4, A, PIO | MATCH, 5, 0},
    {0x200, 4, A, PIO | MATCH, 0x100000005, 0},
    {0x200, 4, A, PIO, 0, -EEXIST},
    {0x200, 4, A, PIO | MATCH | DEL, 0x100000005, 0},
    {0x20000, 1, A, PIO, 0, 0},
};

static void ask_for_eventfds(const struct side *side)
{
    struct fds fds = fds_new();

    for (size_t i = 0; i < sizeof(EVENTFDS) / sizeof(EVENTFDS[0]); i++) {
        const struct kvm_ioeventfd request = {
            .addr = EVENTFDS[i].address,
            .len = EVENTFDS[i].size_bytes,
            .fd = fds.fd[EVENTFDS[i].fd],
            .flags = EVENTFDS[i].flags,
            .datamatch = EVENTFDS[i].value,
        };
        long answer = ask(side, KVM_IOEVENTFD, &request);

        if (answer != EVENTFDS[i].expected) {
            fail_msg("step %zu: %ld, not %d", i, answer, EVENTFDS[i].expected);
        }
    }
    assert_int_equal(ask(side, KVM_IOEVENTFD, (void *)8), -EFAULT);
    fds_end(&fds);
}

/* ---- zones ---- */

static const struct {
    bool removes;
    uint64_t address;
    uint32_t size_bytes;
    uint32_t pio;
    int expected;
} ZONES[] = {
    {false, 0xe0000000, 0x1000, 0, 0}, {false, 0xe0000000, 0x1000, 0, 0},
    {false, 0xe0000000, 0, 0, 0},      {false, 0xe0000800, 0x1000, 0, 0},
    {false, UINT64_MAX - 3, 16, 0, 0}, {false, 0x100, 16, 1, 0},
    {false, 0x100, 16, 2, -EINVAL},    {true, 0x100, 16, 2, -EINVAL},
    {true, 0xf0000000, 16, 0, 0},      {true, 0xe0000000, 16, 0, 0},
    {true, 0x100, 16, 1, 0},           {false, 0x100000, 16, 1, 0},
    {false, 0x100, UINT32_MAX, 0, 0},
};

static void ask_for_zones(const struct side *side)
{
    struct kvm_coalesced_mmio_zone zone = {.addr = 0x10000000, .size = 16};
    struct kvm_ioeventfd eventfd_request = {.addr = 0x20000000, .len = 4};
    struct fds fds = fds_new();
    unsigned count = 0;

    for (size_t i = 0; i < sizeof(ZONES) / sizeof(ZONES[0]); i++) {
        const struct kvm_coalesced_mmio_zone request = {
            .addr = ZONES[i].address, .size = ZONES[i].size_bytes, .pio = ZONES[i].pio};
        long answer = ask(
            side, ZONES[i].removes ? KVM_UNREGISTER_COALESCED_MMIO : KVM_REGISTER_COALESCED_MMIO,
            &request);

        if (answer != ZONES[i].expected) {
            fail_msg("step %zu: %ld, not %d", i, answer, ZONES[i].expected);
        }
    }
    /* Left: two of the range 0xe0000000 in part, one that wraps, one of nearly 4 GiB. Then a bus is full, for all. */
    while (ask(side, KVM_REGISTER_COALESCED_MMIO, &zone) == 0) {
        zone.addr += 16;
        count++;
    }
    assert_in_range(count, 990, 999);
    assert_int_equal(ask(side, KVM_REGISTER_COALESCED_MMIO, &zone), -ENOSPC);
    eventfd_request.fd = fds.fd[A];
    assert_int_equal(ask(side, KVM_IOEVENTFD, &eventfd_request), -ENOSPC);
    eventfd_request.flags = PIO;
    eventfd_request.addr = 0x300;
    assert_int_equal(ask(side, KVM_IOEVENTFD, &eventfd_request), 0);
    assert_int_equal(ask(side, KVM_REGISTER_COALESCED_MMIO, (void *)8), -EFAULT);
    assert_int_equal(ask(side, KVM_UNREGISTER_COALESCED_MMIO, (void *)8), -EFAULT);
    fds_end(&fds);
}

/* ---- irqfds ---- */

#define NONE FDS
#define RESAMPLE KVM_IRQFD_FLAG_RESAMPLE
#define STOP KVM_IRQFD_FLAG_DEASSIGN

static const struct {
    unsigned fd;
    uint32_t gsi;
    uint32_t flags;
    unsigned resample;
    int bare; /* without chips */
    int expected;
} IRQFDS[] = {
    {A, 5, 0, NONE, -EINVAL, 0},
    {A, 5, 0, NONE, -EINVAL, -EBUSY},
    {A2, 6, 0, NONE, -EINVAL, -EBUSY},
    {A, 6, STOP, NONE, 0, 0},
    {A, 5, 0, NONE, -EINVAL, -EBUSY},
    {A2, 5, STOP, NONE, 0, 0},
    {A, 100000, 0, NONE, -EINVAL, 0},
    {A, 100000, STOP, NONE, 0, 0},
    {NO_EVENTFD, 5, 0, NONE, -EINVAL, -EINVAL},
    {NO_FILE, 5, 0, NONE, -EINVAL, -EBADF},
    {NO_FILE, 5, 4, NONE, -EINVAL, -EINVAL},
    {NO_FILE, 5, STOP, NONE, -EBADF, -EBADF},
    {NO_EVENTFD, 5, STOP, NONE, -EINVAL, -EINVAL},
    {A, 5, RESAMPLE, NO_FILE, -EINVAL, -EBADF},
    {A, 5, RESAMPLE, NO_EVENTFD, -EINVAL, -EINVAL},
    {NO_FILE, 5, RESAMPLE, B, -EINVAL, -EBADF},
    {A, 5, RESAMPLE, B, -EINVAL, 0},
    {A, 5, 0, NONE, -EINVAL, -EBUSY},
    {B, 5, RESAMPLE, B, -EINVAL, 0},
    {B, 5, RESAMPLE | STOP, NO_FILE, 0, 0},
    {A, 5, STOP, NONE, 0, 0},
};

static void ask_for_irqfds_of(const struct side *side, bool has_chips)
{
    struct fds fds = fds_new();

    for (size_t i = 0; i < sizeof(IRQFDS) / sizeof(IRQFDS[0]); i++) {
        const struct kvm_irqfd request = {
            .fd = (uint32_t)fds.fd[IRQFDS[i].fd],
            .gsi = IRQFDS[i].gsi,
            .flags = IRQFDS[i].flags,
            .resamplefd = IRQFDS[i].resample != NONE ? (uint32_t)fds.fd[IRQFDS[i].resample] : 0,
        };
        long expected = has_chips ? IRQFDS[i].expected : IRQFDS[i].bare;
        long answer = ask(side, KVM_IRQFD, &request);

        if (answer != expected) {
            fail_msg("step %zu, %s: %ld, not %ld", i, has_chips ? "chips" : "no chips", answer,
                     expected);
        }
    }
    assert_int_equal(ask(side, KVM_IRQFD, (void *)8), -EFAULT);
    fds_end(&fds);
}

static void ask_for_irqfds(const struct side *side)
{
    ask_for_irqfds_of(side, false);
    assert_int_equal(ask(side, KVM_CREATE_IRQCHIP, NULL), 0);
    ask_for_irqfds_of(side, true);
}

/* The IOAPIC's or a PIC's state. */
static struct kvm_irqchip chip_of(const struct side *side, uint32_t id)
{
    struct kvm_irqchip chip = {.chip_id = id};

    assert_int_equal(ask(side, KVM_GET_IRQCHIP, &chip), 0);
    return chip;
}

static void wait_for(const struct side *side, unsigned pic_irr)
{
    while (chip_of(side, KVM_IRQCHIP_PIC_MASTER).chip.pic.irr != pic_irr) {
        usleep(100);
    }
}

/* A signal is an edge at the PIC's pin; of one that resamples, and of KVM_IRQ_LINE, a level that stays. */
static void let_eventfds_interrupt(const struct side *side)
{
    struct fds fds = fds_new();
    struct kvm_irqfd request = {.fd = (uint32_t)fds.fd[A], .gsi = 5};
    struct kvm_irq_level line = {.irq = 3, .level = 1};
    const uint64_t one = 1;
    uint64_t count;

    assert_int_equal(ask(side, KVM_CREATE_IRQCHIP, NULL), 0);
    assert_int_equal(write(fds.fd[B], &one, sizeof(one)), sizeof(one));
    assert_int_equal(ask(side, KVM_IRQFD, &request), 0);
    assert_int_equal(write(fds.fd[A2], &one, sizeof(one)), sizeof(one));
    wait_for(side, 1 << 5);
    assert_int_equal(chip_of(side, KVM_IRQCHIP_IOAPIC).chip.ioapic.irr, 0);
    assert_int_equal(read(fds.fd[A], &count, sizeof(count)), -1); /* it was taken */
    /* One that is signalled already interrupts as it comes. */
    request = (struct kvm_irqfd){.fd = (uint32_t)fds.fd[B], .gsi = 6};
    assert_int_equal(ask(side, KVM_IRQFD, &request), 0);
    wait_for(side, 3 << 5);
    request.flags = STOP;
    assert_int_equal(ask(side, KVM_IRQFD, &request), 0);
    /* A level that two wires hold: it falls with the second. */
    request = (struct kvm_irqfd){
        .fd = (uint32_t)fds.fd[B], .gsi = 3, .flags = RESAMPLE, .resamplefd = (uint32_t)fds.fd[A]};
    assert_int_equal(ask(side, KVM_IRQFD, &request), 0);
    assert_int_equal(write(fds.fd[B], &one, sizeof(one)), sizeof(one));
    wait_for(side, 3 << 5 | 1 << 3);
    assert_int_equal(chip_of(side, KVM_IRQCHIP_IOAPIC).chip.ioapic.irr, 1 << 3);
    assert_int_equal(ask(side, KVM_IRQ_LINE, &line), 0);
    line.level = 0;
    assert_int_equal(ask(side, KVM_IRQ_LINE, &line), 0);
    assert_int_equal(chip_of(side, KVM_IRQCHIP_IOAPIC).chip.ioapic.irr, 1 << 3);
    request.flags = STOP;
    assert_int_equal(ask(side, KVM_IRQFD, &request), 0);
    assert_int_equal(chip_of(side, KVM_IRQCHIP_IOAPIC).chip.ioapic.irr, 0);
    fds_end(&fds);
}

/* ---- either side ---- */

static void on_soft(void (*questions)(const struct side *side))
{
    struct side side = soft_side();

    questions(&side);
    side_end(&side);
}

static void on_kvm(void (*questions)(const struct side *side))
{
    struct side side;

    if (!kvm_side(&side)) {
        skip();
    }
    questions(&side);
    side_end(&side);
}

static void eventfds_are_answered_as_by_linux(void **state)
{
    /* Each step of the list. */
    (void)state;
    on_soft(ask_for_eventfds);
}

static void eventfds_are_answered_so_by_linux(void **state)
{
    /* The same list. */
    (void)state;
    on_kvm(ask_for_eventfds);
}

static void zones_are_answered_as_by_linux(void **state)
{
    /* Each step of the list, and the limit of a bus. */
    (void)state;
    on_soft(ask_for_zones);
}

static void zones_are_answered_so_by_linux(void **state)
{
    /* The same. */
    (void)state;
    on_kvm(ask_for_zones);
}

static void irqfds_are_answered_as_by_linux(void **state)
{
    /* Each step of the list, without chips and with them. */
    (void)state;
    on_soft(ask_for_irqfds);
}

static void irqfds_are_answered_so_by_linux(void **state)
{
    /* The same. */
    (void)state;
    on_kvm(ask_for_irqfds);
}

static void irqfds_interrupt_as_in_linux(void **state)
{
    /* By edges, and by a level that resamples. */
    (void)state;
    on_soft(let_eventfds_interrupt);
}

static void irqfds_interrupt_so_in_linux(void **state)
{
    /* The same. */
    (void)state;
    on_kvm(let_eventfds_interrupt);
}

static void ring_is_shown_at_any_page(void **state)
{
    /* What is stored in a vCPU's area is there as well, and the other way round. */
    struct side side = soft_side();
    struct kvm_coalesced_mmio_ring *shown =
        mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    struct kvm_coalesced_mmio_ring *ring;
    struct gm_soft_vcpu *vcpu;

    (void)state;
    assert_ptr_not_equal(shown, MAP_FAILED);
    assert_int_equal(gm_soft_vcpu_new(side.soft, 0, &vcpu), 0);
    ring = (void *)((uint8_t *)gm_soft_vcpu_run_page(vcpu) + KVM_COALESCED_MMIO_PAGE_OFFSET * 4096);
    assert_int_equal(gm_soft_show_coalesced(side.soft, shown), 0);
    ring->last = 7;
    assert_int_equal(shown->last, 7);
    shown->first = 7;
    assert_int_equal(ring->first, 7);
    gm_soft_vcpu_free(vcpu);
    side_end(&side);
    munmap(shown, 4096);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(eventfds_are_answered_as_by_linux),
        cmocka_unit_test(eventfds_are_answered_so_by_linux),
        cmocka_unit_test(zones_are_answered_as_by_linux),
        cmocka_unit_test(zones_are_answered_so_by_linux),
        cmocka_unit_test(irqfds_are_answered_as_by_linux),
        cmocka_unit_test(irqfds_are_answered_so_by_linux),
        cmocka_unit_test(irqfds_interrupt_as_in_linux),
        cmocka_unit_test(irqfds_interrupt_so_in_linux),
        cmocka_unit_test(ring_is_shown_at_any_page),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
