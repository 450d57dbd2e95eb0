/*
 * kvm/test_irqchip.c - the software KVM's interrupt chips beside those of /dev/kvm: the same lines, states and port
 * accesses, in random order, give the same states, statuses, values and vectors.
 *
 * Lines and states go by ioctls. Port accesses are made by a real-mode guest, whose program is written for each round;
 * it also takes interrupts, in windows, and its handlers note their vectors. Times are not compared.
 * Left out is what KVM does not do as the data sheet says: special mask mode, and polls, which leave nothing in service.
 */
#include "unit/irq_rig.h"

#include "model/random.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#define MEMORY_BYTES 0x20000u
#define CODE 0x10000u    /* a segment of its own, at its offset 0 */
#define HANDLERS 0x1000u /* 16 bytes each */
#define RESULTS 0x4000u  /* bytes that were read */
#define VECTORS 0x8000u  /* vectors that were taken */
#define RESULTS_MAX 0x3fffu
#define END_PORT 0x3f0u
#define WINDOW_PORT 0x3f2u
#define WINDOW_EXITS 24u
#define RTC_GSI 8u
#define SKIP 77

struct real {
    int system;
    int vm;
    int vcpu;
    uint8_t *memory;
    struct kvm_run *run;
};

/* The program of a round, and what our own chips gave meanwhile. */
struct round {
    size_t code_bytes;
    uint8_t results[RESULTS_MAX];
    size_t result_count;
    uint8_t vectors[RESULTS_MAX];
    size_t vector_count;
};

static void require(bool holds, const char *what)
{
    if (!holds) {
        perror(what);
        abort();
    }
}

/* Handler i: mov byte [bp], i; inc bp; iret. DS is 0; BP is the place, by SS, which is 0, too. */
static void write_handlers(uint8_t *memory)
{
    for (unsigned i = 0; i < 256; i++) {
        const uint8_t handler[] = {0xc6, 0x46, 0x00, (uint8_t)i, 0x45, 0xcf};
        uint16_t *entry = (uint16_t *)(void *)(memory + 4 * (size_t)i);

        memcpy(memory + HANDLERS + 16 * (size_t)i, handler, sizeof(handler));
        entry[0] = (uint16_t)(HANDLERS + 16 * i);
        entry[1] = 0;
    }
}

/* Return: false if /dev/kvm cannot be opened, or has no interrupt chips. */
static bool real_open(struct real *real)
{
    struct kvm_userspace_memory_region region = {.memory_size = MEMORY_BYTES};
    struct kvm_pit_config pit = {.flags = KVM_PIT_SPEAKER_DUMMY};
    uint64_t identity = 0xfffbc000;
    int run_bytes;

    real->system = open("/dev/kvm", O_RDWR | O_CLOEXEC);
    if (real->system < 0) {
        return false;
    }
    real->vm = ioctl(real->system, KVM_CREATE_VM, 0);
    if (real->vm < 0) {
        close(real->system);
        return false;
    }
    (void)ioctl(real->vm, KVM_SET_IDENTITY_MAP_ADDR, &identity);
    (void)ioctl(real->vm, KVM_SET_TSS_ADDR, 0xfffbd000);
    require(ioctl(real->vm, KVM_CREATE_IRQCHIP, 0) == 0, "KVM_CREATE_IRQCHIP");
    require(ioctl(real->vm, KVM_CREATE_PIT2, &pit) == 0, "KVM_CREATE_PIT2");
    real->memory =
        mmap(NULL, MEMORY_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    require(real->memory != MAP_FAILED, "mmap");
    region.userspace_addr = (uintptr_t)real->memory;
    require(ioctl(real->vm, KVM_SET_USER_MEMORY_REGION, &region) == 0, "slot");
    real->vcpu = ioctl(real->vm, KVM_CREATE_VCPU, 0);
    require(real->vcpu >= 0, "KVM_CREATE_VCPU");
    run_bytes = ioctl(real->system, KVM_GET_VCPU_MMAP_SIZE, 0);
    real->run = mmap(NULL, (size_t)run_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, real->vcpu, 0);
    require(real->run != MAP_FAILED, "kvm_run");
    write_handlers(real->memory);
    return true;
}

static void real_close(struct real *real)
{
    munmap(real->run, (size_t)ioctl(real->system, KVM_GET_VCPU_MMAP_SIZE, 0));
    munmap(real->memory, MEMORY_BYTES);
    close(real->vcpu);
    close(real->vm);
    close(real->system);
}

static void emit(struct real *real, struct round *round, const uint8_t *bytes, size_t count)
{
    memcpy(real->memory + CODE + round->code_bytes, bytes, count);
    round->code_bytes += count;
}

/* mov dx, port; mov al, value; out dx, al */
static void emit_out(struct real *real, struct round *round, uint16_t port, uint8_t value)
{
    const uint8_t code[] = {0xba, (uint8_t)port, (uint8_t)(port >> 8), 0xb0, value, 0xee};

    emit(real, round, code, sizeof(code));
}

/* mov dx, port; in al, dx; stosb */
static void emit_in(struct real *real, struct round *round, uint16_t port)
{
    const uint8_t code[] = {0xba, (uint8_t)port, (uint8_t)(port >> 8), 0xec, 0xaa};

    emit(real, round, code, sizeof(code));
}

/*
 * sti; mov dx, WINDOW_PORT; mov cx, WINDOW_EXITS; 1: out dx, al; loop 1b; cli. Each exit is a moment at which KVM
 * looks for what it can inject: a window of plain instructions is over before it opens, on some hosts.
 */
static void emit_window(struct real *real, struct round *round)
{
    const uint8_t code[] = {
        0xfb, 0xba, WINDOW_PORT & 0xff, WINDOW_PORT >> 8, 0xb9, WINDOW_EXITS, 0x00, 0xee, 0xe2,
        0xfd, 0xfa};

    emit(real, round, code, sizeof(code));
}

static void real_run(struct real *real, struct round *round)
{
    struct kvm_sregs sregs;
    struct kvm_regs regs = {.rflags = 2, .rdi = RESULTS, .rbp = VECTORS, .rsp = 0xfff0};

    emit_out(real, round, END_PORT, 0);
    require(ioctl(real->vcpu, KVM_GET_SREGS, &sregs) == 0, "KVM_GET_SREGS");
    sregs.ds.base = sregs.es.base = sregs.ss.base = 0;
    sregs.ds.selector = sregs.es.selector = sregs.ss.selector = 0;
    sregs.cs.base = CODE;
    sregs.cs.selector = CODE >> 4;
    require(ioctl(real->vcpu, KVM_SET_SREGS, &sregs) == 0, "KVM_SET_SREGS");
    require(ioctl(real->vcpu, KVM_SET_REGS, &regs) == 0, "KVM_SET_REGS");
    do {
        require(ioctl(real->vcpu, KVM_RUN, 0) == 0, "KVM_RUN");
    } while (real->run->exit_reason == KVM_EXIT_IO && real->run->io.port == WINDOW_PORT);
    require(real->run->exit_reason == KVM_EXIT_IO && real->run->io.port == END_PORT, "the end");
    /* The access is completed by another entry, which a pending signal ends at once. */
    real->run->immediate_exit = 1;
    (void)ioctl(real->vcpu, KVM_RUN, 0);
    real->run->immediate_exit = 0;
    require(ioctl(real->vcpu, KVM_GET_REGS, &regs) == 0, "KVM_GET_REGS");
    assert_int_equal(regs.rdi - RESULTS, round->result_count);
    assert_int_equal(regs.rbp - VECTORS, round->vector_count);
    assert_memory_equal(real->memory + RESULTS, round->results, round->result_count);
    assert_memory_equal(real->memory + VECTORS, round->vectors, round->vector_count);
}

static void both_out(struct real *real, struct irq_rig *rig, struct round *round, uint16_t port,
                     uint8_t value)
{
    emit_out(real, round, port, value);
    port_out(rig, port, value);
}

static void both_in(struct real *real, struct irq_rig *rig, struct round *round, uint16_t port)
{
    emit_in(real, round, port);
    round->results[round->result_count++] = port_in(rig, port);
}

static void both_window(struct real *real, struct irq_rig *rig, struct round *round)
{
    int vector;

    emit_window(real, round);
    while ((vector = take(rig, 0)) >= 0) {
        round->vectors[round->vector_count++] = (uint8_t)vector;
        assert_true(round->vector_count < 1000);
    }
}

static void expect_same_chip(struct real *real, struct irq_rig *rig, uint32_t id)
{
    struct kvm_irqchip theirs = {.chip_id = id};
    struct kvm_irqchip ours = {.chip_id = id};

    require(ioctl(real->vm, KVM_GET_IRQCHIP, &theirs) == 0, "KVM_GET_IRQCHIP");
    assert_int_equal(irqchip_ioctl_get(rig->chip, &ours), 0);
    if (id == KVM_IRQCHIP_IOAPIC) {
        assert_memory_equal(&ours.chip.ioapic, &theirs.chip.ioapic, sizeof(ours.chip.ioapic));
    } else {
        assert_memory_equal(&ours.chip.pic, &theirs.chip.pic, sizeof(ours.chip.pic));
    }
}

static void expect_same_chips(struct real *real, struct irq_rig *rig)
{
    for (uint32_t id = 0; id < KVM_NR_IRQCHIPS; id++) {
        expect_same_chip(real, rig, id);
    }
}

static void set_chip(struct real *real, struct irq_rig *rig, const struct kvm_irqchip *state)
{
    struct kvm_irqchip copy = *state;

    require(ioctl(real->vm, KVM_SET_IRQCHIP, &copy) == 0, "KVM_SET_IRQCHIP");
    assert_int_equal(irqchip_ioctl_set(rig->chip, state), 0);
}

static void set_line_of_both(struct real *real, struct irq_rig *rig, uint32_t gsi, bool level)
{
    struct kvm_irq_level theirs = {.irq = gsi, .level = level};
    struct kvm_irq_level ours = theirs;

    /* With a status asked for, KVM's IOAPIC passes over ticks of the RTC that are not acknowledged. */
    if (gsi == RTC_GSI) {
        require(ioctl(real->vm, KVM_IRQ_LINE, &theirs) == 0, "KVM_IRQ_LINE");
        assert_int_equal(irqchip_ioctl_line(rig->chip, &ours), 0);
        return;
    }
    require(ioctl(real->vm, KVM_IRQ_LINE_STATUS, &theirs) == 0, "KVM_IRQ_LINE_STATUS");
    assert_int_equal(irqchip_ioctl_line(rig->chip, &ours), 0);
    assert_int_equal(ours.status, theirs.status);
}

/* Both from the same APIC, enabled or not: the real one's state is set from ours. */
static void set_apic(struct real *real, struct irq_rig *rig, uint32_t svr)
{
    struct kvm_lapic_state state;

    assert_int_equal(irqchip_ioctl_get_lapic(rig->chip, 0, &state), 0);
    memcpy(&state.regs[0xf0], &svr, sizeof(svr));
    require(ioctl(real->vcpu, KVM_SET_LAPIC, &state) == 0, "KVM_SET_LAPIC");
    assert_int_equal(irqchip_ioctl_set_lapic(rig->chip, 0, &state), 0);
}

static struct kvm_irqchip random_pic(struct rnd *rnd, uint32_t id)
{
    struct kvm_irqchip state = {.chip_id = id};
    struct kvm_pic_state *pic = &state.chip.pic;

    pic->last_irr = (uint8_t)rnd_next(rnd) & 0xfb; /* no level at IR2 outlasts a pulse */
    pic->irr = (uint8_t)rnd_next(rnd);
    pic->imr = (uint8_t)rnd_next(rnd);
    pic->isr = (uint8_t)rnd_next(rnd) & (uint8_t)rnd_next(rnd);
    pic->priority_add = (uint8_t)rnd_below(rnd, 8);
    pic->irq_base = (uint8_t)(rnd_next(rnd) & 0xf8);
    pic->read_reg_select = (uint8_t)rnd_below(rnd, 2);
    pic->auto_eoi = rnd_one_in(rnd, 8);
    pic->rotate_on_auto_eoi = (uint8_t)rnd_below(rnd, 2);
    pic->special_fully_nested_mode = rnd_one_in(rnd, 4);
    pic->init4 = (uint8_t)rnd_below(rnd, 2);
    pic->elcr_mask = id == KVM_IRQCHIP_PIC_MASTER ? 0xf8 : 0xde;
    pic->elcr = (uint8_t)rnd_next(rnd) & pic->elcr_mask;
    return state;
}

/* Fixed, for APIC 0 or for nobody; vectors that are legal. */
static struct kvm_irqchip random_ioapic(struct rnd *rnd)
{
    struct kvm_irqchip state = {.chip_id = KVM_IRQCHIP_IOAPIC};
    struct kvm_ioapic_state *ioapic = &state.chip.ioapic;

    ioapic->base_address = IOAPIC;
    ioapic->ioregsel = (uint32_t)rnd_below(rnd, 0x40);
    ioapic->id = (uint32_t)rnd_below(rnd, 16);
    ioapic->irr = (uint32_t)(rnd_next(rnd) & rnd_next(rnd) & 0xffffff);
    for (unsigned pin = 0; pin < KVM_IOAPIC_NUM_PINS; pin++) {
        ioapic->redirtbl[pin].bits = (16 + rnd_below(rnd, 240)) | rnd_below(rnd, 2) << 15 |
                                     rnd_below(rnd, 2) << 16 | rnd_below(rnd, 2) << 13 |
                                     (uint64_t)(rnd_one_in(rnd, 4) ? 3 : 0) << 56;
    }
    return state;
}

struct pair {
    struct real real;
    struct irq_rig *rig;
    struct rnd rnd;
};

static void open_pair(struct pair *pair, const char *name)
{
    memset(pair, 0, sizeof(*pair));
    if (!real_open(&pair->real)) {
        printf("%s: 1 comparison skipped, /dev/kvm does not open\n", name);
        skip();
    }
    pair->rig = rig_open(1);
    pair->rnd.state = rnd_seed(name);
    set_apic(&pair->real, pair->rig, 0xff);
}

static void close_pair(struct pair *pair)
{
    rig_close(pair->rig);
    real_close(&pair->real);
}

static void lines_and_states_are_as_the_kernels(void **state)
{
    /* KVM_IRQ_LINE_STATUS and KVM_SET_IRQCHIP at random: equal statuses, equal states after each. */
    uint64_t steps = rnd_setting("GM_STEPS", 20000);
    struct pair pair;

    (void)state;
    open_pair(&pair, "lines_and_states");
    for (uint64_t step = 0; step < steps; step++) {
        if (rnd_one_in(&pair.rnd, 40)) {
            struct kvm_irqchip chip = random_pic(&pair.rnd, (uint32_t)rnd_below(&pair.rnd, 2));
            set_chip(&pair.real, pair.rig, &chip);
        } else if (rnd_one_in(&pair.rnd, 60)) {
            struct kvm_irqchip chip = random_ioapic(&pair.rnd);

            set_apic(&pair.real, pair.rig, rnd_one_in(&pair.rnd, 3) ? 0xff : 0x1ff);
            set_chip(&pair.real, pair.rig, &chip);
        } else {
            set_line_of_both(&pair.real, pair.rig, (uint32_t)rnd_below(&pair.rnd, 26),
                             rnd_below(&pair.rnd, 2) != 0);
        }
        expect_same_chips(&pair.real, pair.rig);
    }
    close_pair(&pair);
}

/* A word for a PIC's port; no special mask mode, no poll. */
static uint8_t random_command(struct rnd *rnd)
{
    uint8_t value = (uint8_t)rnd_next(rnd);

    if ((value & 0x10) != 0 && !rnd_one_in(rnd, 6)) {
        value &= 0xef;
    }
    if ((value & 0x18) == 0x08) {
        value &= 0x9b;
    }
    return value;
}

/*
 * The words that follow ICW1, down to a mask: before that KVM's output stands as it stood, which would show.
 */
static void finish_initialisation(struct pair *pair, struct round *round, uint16_t port,
                                  uint8_t icw1)
{
    for (unsigned words = (icw1 & 1) != 0 ? 4 : 3; words > 0; words--) {
        both_out(&pair->real, pair->rig, round, port + 1, (uint8_t)rnd_next(&pair->rnd));
    }
}

static void random_out(struct pair *pair, struct round *round, uint16_t port)
{
    uint8_t value = (port & 1) != 0 ? (uint8_t)rnd_next(&pair->rnd) : random_command(&pair->rnd);

    both_out(&pair->real, pair->rig, round, port, value);
    if ((port & 1) == 0 && (value & 0x10) != 0) {
        finish_initialisation(pair, round, port, value);
    }
}

static void random_access(struct pair *pair, struct round *round)
{
    static const uint16_t PORTS[] = {0x20, 0x21, 0xa0, 0xa1};
    uint16_t port = PORTS[rnd_below(&pair->rnd, 4)];

    switch (rnd_below(&pair->rnd, 8)) {
    case 0:
    case 1:
    case 2:
        both_in(&pair->real, pair->rig, round, port);
        break;
    case 3:
        both_in(&pair->real, pair->rig, round, (uint16_t)(0x4d0 + rnd_below(&pair->rnd, 2)));
        break;
    case 4:
        both_window(&pair->real, pair->rig, round);
        break;
    default:
        random_out(pair, round, port);
        break;
    }
}

static void port_accesses_and_vectors_are_as_the_kernels(void **state)
{
    /* A guest's words, polls and reads, between lines by edge; and the vectors that it takes. */
    uint64_t rounds = rnd_setting("GM_STEPS", 2000);
    static struct round round;
    struct pair pair;
    uint64_t taken = 0;

    (void)state;
    open_pair(&pair, "port_accesses");
    for (uint64_t i = 0; i < rounds; i++) {
        memset(&round, 0, sizeof(round));
        for (unsigned n = (unsigned)rnd_below(&pair.rnd, 6); n > 0; n--) {
            set_line_of_both(&pair.real, pair.rig, (uint32_t)rnd_below(&pair.rnd, 16),
                             rnd_below(&pair.rnd, 2) != 0);
        }
        for (unsigned n = (unsigned)rnd_below(&pair.rnd, 40); n > 0; n--) {
            random_access(&pair, &round);
        }
        real_run(&pair.real, &round);
        taken += round.vector_count;
        expect_same_chips(&pair.real, pair.rig);
    }
    printf("port_accesses: %llu interrupts\n", (unsigned long long)taken);
    assert_true(rounds < 1000 || taken > 100);
    close_pair(&pair);
}

static void pit_states_are_as_the_kernels(void **state)
{
    /* Control words, counts and latches of status: what KVM_GET_PIT2 shows of them. */
    uint64_t rounds = rnd_setting("GM_STEPS", 300);
    static struct round round;
    struct pair pair;

    (void)state;
    open_pair(&pair, "pit_states");
    for (uint64_t i = 0; i < rounds; i++) {
        struct kvm_pit_state2 theirs;
        struct kvm_pit_state2 ours;

        memset(&round, 0, sizeof(round));
        for (unsigned counter = 0; counter < 3; counter++) {
            uint8_t rw = (uint8_t)(1 + rnd_below(&pair.rnd, 3));

            both_out(&pair.real, pair.rig, &round, 0x43,
                     (uint8_t)(counter << 6 | rw << 4 | rnd_below(&pair.rnd, 6) << 1));
            for (unsigned n = 1 + (unsigned)rnd_below(&pair.rnd, 3); n > 0; n--) {
                both_out(&pair.real, pair.rig, &round, (uint16_t)(0x40 + counter),
                         (uint8_t)(0x80 | rnd_next(&pair.rnd)));
            }
        }
        both_out(&pair.real, pair.rig, &round, 0x61, (uint8_t)rnd_below(&pair.rnd, 4));
        real_run(&pair.real, &round);
        require(ioctl(pair.real.vm, KVM_GET_PIT2, &theirs) == 0, "KVM_GET_PIT2");
        assert_int_equal(irqchip_ioctl_get_pit(pair.rig->chip, &ours), 0);
        assert_int_equal(ours.flags, theirs.flags);
        for (unsigned counter = 0; counter < 3; counter++) {
            ours.channels[counter].count_load_time = theirs.channels[counter].count_load_time;
            assert_memory_equal(&ours.channels[counter], &theirs.channels[counter],
                                sizeof(ours.channels[counter]));
        }
    }
    close_pair(&pair);
}

static void errors_are_as_the_kernels(void **state)
{
    /* What is refused by /dev/kvm is refused by us, with the same errno. */
    struct kvm_irqchip chip = {.chip_id = KVM_NR_IRQCHIPS};
    struct kvm_pit_config config = {0};
    struct kvm_msi msi = {.flags = 2};
    struct pair pair;

    (void)state;
    open_pair(&pair, "errors");
    assert_int_equal(ioctl(pair.real.vm, KVM_CREATE_IRQCHIP, 0), -1);
    assert_int_equal(-errno, irqchip_check_create(pair.rig->chip, true));
    assert_int_equal(ioctl(pair.real.vm, KVM_CREATE_PIT2, &config), -1);
    assert_int_equal(-errno, irqchip_ioctl_create_pit(pair.rig->chip, &config));
    assert_int_equal(ioctl(pair.real.vm, KVM_GET_IRQCHIP, &chip), -1);
    assert_int_equal(-errno, irqchip_ioctl_get(pair.rig->chip, &chip));
    assert_int_equal(ioctl(pair.real.vm, KVM_SET_IRQCHIP, &chip), -1);
    assert_int_equal(-errno, irqchip_ioctl_set(pair.rig->chip, &chip));
    assert_int_equal(ioctl(pair.real.vm, KVM_SIGNAL_MSI, &msi), -1);
    assert_int_equal(-errno, irqchip_ioctl_msi(pair.rig->chip, &msi));
    close_pair(&pair);
}

static void errors_without_chips_are_as_the_kernels(void **state)
{
    /* A VM of /dev/kvm without any. */
    struct kvm_irqchip chip = {.chip_id = 0};
    struct kvm_irq_level level = {.irq = 1};
    struct kvm_pit_config config = {0};
    struct kvm_irq_routing routing = {0};
    struct kvm_pit_state2 pit;
    struct kvm_msi msi = {0};
    int system = open("/dev/kvm", O_RDWR | O_CLOEXEC);
    int vm = system < 0 ? -1 : ioctl(system, KVM_CREATE_VM, 0);

    (void)state;
    if (vm < 0) {
        skip();
    }
    assert_int_equal(ioctl(vm, KVM_IRQ_LINE, &level), -1);
    assert_int_equal(-errno, irqchip_ioctl_line(NULL, &level));
    assert_int_equal(ioctl(vm, KVM_CREATE_PIT2, &config), -1);
    assert_int_equal(-errno, irqchip_ioctl_create_pit(NULL, &config));
    assert_int_equal(ioctl(vm, KVM_GET_IRQCHIP, &chip), -1);
    assert_int_equal(-errno, irqchip_ioctl_get(NULL, &chip));
    assert_int_equal(ioctl(vm, KVM_SET_IRQCHIP, &chip), -1);
    assert_int_equal(-errno, irqchip_ioctl_set(NULL, &chip));
    assert_int_equal(ioctl(vm, KVM_GET_PIT2, &pit), -1);
    assert_int_equal(-errno, irqchip_ioctl_get_pit(NULL, &pit));
    memset(&pit, 0, sizeof(pit));
    assert_int_equal(ioctl(vm, KVM_SET_PIT2, &pit), -1);
    assert_int_equal(-errno, irqchip_ioctl_set_pit(NULL, &pit));
    assert_int_equal(ioctl(vm, KVM_SIGNAL_MSI, &msi), -1);
    assert_int_equal(-errno, irqchip_ioctl_msi(NULL, &msi));
    assert_int_equal(ioctl(vm, KVM_SET_GSI_ROUTING, &routing), -1);
    assert_int_equal(-errno, irqchip_ioctl_routing(NULL, &routing, NULL));
    close(vm);
    close(system);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lines_and_states_are_as_the_kernels),
        cmocka_unit_test(port_accesses_and_vectors_are_as_the_kernels),
        cmocka_unit_test(pit_states_are_as_the_kernels),
        cmocka_unit_test(errors_are_as_the_kernels),
        cmocka_unit_test(errors_without_chips_are_as_the_kernels),
    };

    if (access("/dev/kvm", R_OK | W_OK) != 0) {
        printf("irqchip: %zu comparisons skipped, /dev/kvm does not open\n",
               sizeof(tests) / sizeof(tests[0]));
        return SKIP;
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
