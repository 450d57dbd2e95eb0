/*
 * soft/irqchip/irqchip.c - making the chips, the lock and the time, and the guest's accesses.
 */
#include "soft/irqchip/irqchip.h"

#include "base/addr.h"
#include "base/check.h"
#include "soft/irqchip/chip.h"

#include <errno.h>
#include <string.h>

#define GPA_BITS_DEFAULT 52u
#define TSC_KHZ_DEFAULT 1000000u
#define TIMER_GSI 0u
#define APIC_BASE_FLAGS (APIC_BASE_BSP | APIC_BASE_X2APIC | APIC_BASE_ENABLE)
#define REGISTER_STEP 16u
#define REGISTER_BYTES 4u

int irqchip_new(const struct irqchip_options *options, struct irqchip **out)
{
    const struct gm_allocator *allocator = mem_allocator_or_default(options->allocator);
    struct irqchip *chip;
    int rc;

    if (options->now_ns == NULL || options->wake == NULL) {
        return -EINVAL;
    }
    chip = mem_zalloc(allocator, sizeof(*chip));
    if (chip == NULL) {
        return -ENOMEM;
    }
    chip->options = *options;
    chip->allocator = *allocator;
    atomic_init(&chip->x2apic_api, 0);
    if (options->gpa_bits == 0 || options->gpa_bits > GPA_BITS_DEFAULT) {
        chip->options.gpa_bits = GPA_BITS_DEFAULT;
    }
    if (options->tsc_khz == 0) {
        chip->options.tsc_khz = TSC_KHZ_DEFAULT;
    }
    pic_reset(&chip->pics);
    ioapic_reset(&chip->ioapic);
    rc = routes_set_default(chip);
    if (rc == 0) {
        rc = lock_init(&chip->lock, LOCK_RANK_IRQ);
    }
    if (rc != 0) {
        mem_free(allocator, chip->routes);
        mem_free(allocator, chip);
        return rc;
    }
    *out = chip;
    return 0;
}

void irqchip_free(struct irqchip *chip)
{
    struct gm_allocator allocator;

    if (chip == NULL) {
        return;
    }
    for (unsigned i = 0; i < IRQCHIP_VCPUS; i++) {
        GM_ASSERT(chip->lapics[i] == NULL);
    }
    lock_fini(&chip->lock);
    allocator = chip->allocator;
    mem_free(&allocator, chip->routes);
    mem_free(&allocator, chip);
}

/* ---- turns ---- */

static void expire(struct turn *turn)
{
    struct irqchip *chip = turn->chip;

    if (chip->has_pit && pit_expire(&chip->pit, turn->now_ns)) {
        (void)routes_set_line(turn, TIMER_GSI, true);
        (void)routes_set_line(turn, TIMER_GSI, false);
    }
    for (unsigned i = 0; i < IRQCHIP_VCPUS; i++) {
        if (chip->lapics[i] != NULL) {
            lapic_timer_expire(turn, chip->lapics[i]);
        }
    }
}

/* Calls come in with times in another order than the lock lets them in: it does not go back. */
void turn_begin(struct turn *turn, struct irqchip *chip)
{
    uint64_t now_ns = chip->options.now_ns(chip->options.opaque);

    *turn = (struct turn){.chip = chip};
    lock_take(&chip->lock);
    if (now_ns > chip->now_ns) {
        chip->now_ns = now_ns;
    }
    turn->now_ns = chip->now_ns;
    expire(turn);
}

void turn_end(struct turn *turn)
{
    struct irqchip *chip = turn->chip;
    bool pic_out = pic_output(&chip->pics);

    for (unsigned i = 0; pic_out && !chip->pic_out && i < IRQCHIP_VCPUS; i++) {
        if (chip->lapics[i] != NULL) {
            lapic_pic_rises(turn, chip->lapics[i]);
        }
    }
    chip->pic_out = pic_out;
    lock_drop(&chip->lock);
    for (unsigned i = 0; i < IRQCHIP_VCPUS; i++) {
        if ((turn->wake[i / 64] >> (i % 64) & 1) != 0) {
            chip->options.wake(chip->options.opaque, i);
        }
    }
    for (unsigned i = 0; i < turn->ended_count && chip->options.ended != NULL; i++) {
        chip->options.ended(chip->options.opaque, turn->ended[i]);
    }
}

void turn_wake_all(struct turn *turn)
{
    for (unsigned i = 0; i < IRQCHIP_VCPUS; i++) {
        if (turn->chip->lapics[i] != NULL) {
            turn_wake(turn, i);
        }
    }
}

/* ---- vCPUs ---- */

int irqchip_vcpu_add(struct irqchip *chip, unsigned vcpu, enum irqchip_role role)
{
    struct lapic *lapic;
    struct turn turn;
    bool is_new;

    if (vcpu >= IRQCHIP_VCPUS) {
        return -EINVAL;
    }
    lapic = mem_alloc(&chip->allocator, sizeof(*lapic));
    if (lapic == NULL) {
        return -ENOMEM;
    }
    lapic_power_up(lapic, vcpu, role);
    turn_begin(&turn, chip);
    is_new = chip->lapics[vcpu] == NULL;
    if (is_new) {
        chip->lapics[vcpu] = lapic;
    }
    turn_end(&turn);
    if (!is_new) {
        mem_free(&chip->allocator, lapic);
        return -EEXIST;
    }
    return 0;
}

void irqchip_vcpu_remove(struct irqchip *chip, unsigned vcpu)
{
    struct lapic *lapic;
    struct turn turn;

    turn_begin(&turn, chip);
    lapic = chip_lapic(chip, vcpu);
    if (lapic != NULL) {
        chip->lapics[vcpu] = NULL;
    }
    turn_end(&turn);
    mem_free(&chip->allocator, lapic);
}

void irqchip_use_x2apic_api(struct irqchip *chip, unsigned flags)
{
    atomic_fetch_or_explicit(&chip->x2apic_api, flags, memory_order_relaxed);
}

/* ---- ports ---- */

static bool port_is_mine(const struct irqchip *chip, uint16_t port)
{
    return pic_owns(port) || (chip->has_pit && pit_owns(&chip->pit, port));
}

static uint8_t read_byte(struct turn *turn, uint16_t port)
{
    struct irqchip *chip = turn->chip;

    if (!port_is_mine(chip, port)) {
        return 0xff;
    }
    return pic_owns(port) ? pic_read(&chip->pics, port) : pit_read(&chip->pit, port, turn->now_ns);
}

static void write_byte(struct turn *turn, uint16_t port, uint8_t value)
{
    struct irqchip *chip = turn->chip;

    if (!port_is_mine(chip, port)) {
        return;
    }
    if (pic_owns(port)) {
        uint16_t before = pic_in_service(&chip->pics);
        uint16_t ended;

        pic_write(&chip->pics, port, value);
        ended = before & (uint16_t)~pic_in_service(&chip->pics);
        for (unsigned pin = 0; pin < PIC_PINS; pin++) {
            if ((ended >> pin & 1) != 0) {
                routes_end(turn, pin);
            }
        }
    } else {
        uint64_t edge_ns = chip->pit.edge_ns;

        pit_write(&chip->pit, port, value, turn->now_ns);
        if (chip->pit.edge_ns < edge_ns) {
            turn_wake_all(turn);
        }
    }
}

/* Could it be the chips', if there were a PIT? So that other ports cost no lock. */
static bool port_may_be_mine(uint16_t port)
{
    return pic_owns(port) || (port & ~3u) == 0x40 || port == 0x61;
}

bool irqchip_port_read(struct irqchip *chip, uint16_t port, unsigned size_bytes, uint32_t *value)
{
    struct turn turn;
    bool mine;

    if (!port_may_be_mine(port)) {
        return false;
    }
    turn_begin(&turn, chip);
    mine = port_is_mine(chip, port);
    if (mine) {
        *value = 0;
        for (unsigned i = 0; i < size_bytes && i < sizeof(*value); i++) {
            *value |= (uint32_t)read_byte(&turn, (uint16_t)(port + i)) << (8 * i);
        }
    }
    turn_end(&turn);
    return mine;
}

bool irqchip_port_write(struct irqchip *chip, uint16_t port, unsigned size_bytes, uint32_t value)
{
    struct turn turn;
    bool mine;

    if (!port_may_be_mine(port)) {
        return false;
    }
    turn_begin(&turn, chip);
    mine = port_is_mine(chip, port);
    for (unsigned i = 0; mine && i < size_bytes && i < sizeof(value); i++) {
        write_byte(&turn, (uint16_t)(port + i), (uint8_t)(value >> (8 * i)));
    }
    turn_end(&turn);
    return mine;
}

/* ---- MMIO ---- */

/* Whose an address is, and where in it. */
struct mmio_target {
    struct lapic *lapic; /* or else the IOAPIC, if it is the chips' */
    bool is_mine;
    bool is_hole; /* where the APIC's registers would be, if it had them there */
    unsigned offset;
};

static struct mmio_target target_of(const struct irqchip *chip, unsigned vcpu, uint64_t gpa,
                                    uint64_t size_bytes)
{
    struct lapic *lapic = chip_lapic(chip, vcpu);
    uint64_t ioapic_gpa = chip->ioapic.state.base_address;
    struct mmio_target target = {0};

    if (lapic != NULL) {
        uint64_t page_gpa = align_down(lapic->base, APIC_PAGE_BYTES);

        if (range_holds(page_gpa, APIC_PAGE_BYTES, gpa, size_bytes)) {
            target.is_mine = true;
            target.is_hole = !lapic_is_present(lapic) || lapic_is_x2apic(lapic);
            target.lapic = lapic;
            target.offset = (unsigned)(gpa - page_gpa);
            return target;
        }
    }
    if (range_holds(ioapic_gpa, IOAPIC_BYTES, gpa, size_bytes)) {
        target.is_mine = true;
        target.offset = (unsigned)(gpa - ioapic_gpa);
    }
    return target;
}

static uint32_t read_register(struct turn *turn, const struct mmio_target *target, unsigned at)
{
    return target->lapic != NULL ? lapic_read(turn, target->lapic, at)
                                 : ioapic_read(&turn->chip->ioapic, at);
}

bool irqchip_mmio_read(struct irqchip *chip, unsigned vcpu, uint64_t gpa, unsigned size_bytes,
                       void *data)
{
    struct mmio_target target;
    struct turn turn;

    turn_begin(&turn, chip);
    target = target_of(chip, vcpu, gpa, size_bytes);
    if (target.is_hole) {
        memset(data, 0xff, size_bytes);
    } else if (target.is_mine) {
        unsigned byte = target.offset % REGISTER_STEP;

        memset(data, 0, size_bytes);
        if (range_holds(0, REGISTER_BYTES, byte, 1)) {
            uint32_t value = read_register(&turn, &target, target.offset - byte) >> (8 * byte);
            uint64_t here = bytes_until(byte, REGISTER_BYTES - 1, size_bytes);

            memcpy(data, &value, (size_t)here);
        }
    }
    turn_end(&turn);
    return target.is_mine;
}

/* A shorter write to the IOAPIC is one of its low bytes: so KVM has it, for what selects a register. */
static void write_register(struct turn *turn, const struct mmio_target *target, uint32_t value,
                           unsigned size_bytes)
{
    if (target->offset % REGISTER_STEP != 0) {
        return;
    }
    if (target->lapic == NULL) {
        ioapic_write(turn, target->offset, value);
    } else if (size_bytes == REGISTER_BYTES) {
        lapic_write(turn, target->lapic, target->offset, value);
    }
}

bool irqchip_mmio_write(struct irqchip *chip, unsigned vcpu, uint64_t gpa, unsigned size_bytes,
                        const void *data)
{
    struct mmio_target target;
    struct turn turn;
    uint32_t value = 0;

    memcpy(&value, data, size_bytes < sizeof(value) ? size_bytes : sizeof(value));
    turn_begin(&turn, chip);
    target = target_of(chip, vcpu, gpa, size_bytes);
    if (target.is_mine && !target.is_hole) {
        write_register(&turn, &target, value, size_bytes);
    }
    turn_end(&turn);
    return target.is_mine;
}

/* ---- registers ---- */

uint64_t irqchip_apic_base(struct irqchip *chip, unsigned vcpu)
{
    struct lapic *lapic;
    struct turn turn;
    uint64_t value = 0;

    turn_begin(&turn, chip);
    lapic = chip_lapic(chip, vcpu);
    if (lapic != NULL) {
        value = lapic->base;
    }
    turn_end(&turn);
    return value;
}

int irqchip_set_apic_base(struct irqchip *chip, unsigned vcpu, uint64_t value)
{
    bool is_no_mode = (value & (APIC_BASE_X2APIC | APIC_BASE_ENABLE)) == APIC_BASE_X2APIC;
    uint64_t addresses = align_down((UINT64_C(1) << chip->options.gpa_bits) - 1, APIC_PAGE_BYTES);
    struct lapic *lapic;
    struct turn turn;
    int rc = -EINVAL;

    turn_begin(&turn, chip);
    lapic = chip_lapic(chip, vcpu);
    if (lapic != NULL && !is_no_mode && (value & ~(addresses | APIC_BASE_FLAGS)) == 0) {
        lapic_set_base(lapic, value);
        turn_wake(&turn, vcpu);
        rc = 0;
    }
    turn_end(&turn);
    return rc;
}

bool irqchip_read_x2apic(struct irqchip *chip, unsigned vcpu, uint32_t number, uint64_t *value)
{
    struct lapic *lapic;
    struct turn turn;
    bool is_there;

    turn_begin(&turn, chip);
    lapic = chip_lapic(chip, vcpu);
    is_there = lapic != NULL && lapic_read_msr(&turn, lapic, number, value);
    turn_end(&turn);
    return is_there;
}

bool irqchip_write_x2apic(struct irqchip *chip, unsigned vcpu, uint32_t number, uint64_t value)
{
    struct lapic *lapic;
    struct turn turn;
    bool is_done;

    turn_begin(&turn, chip);
    lapic = chip_lapic(chip, vcpu);
    is_done = lapic != NULL && lapic_write_msr(&turn, lapic, number, value);
    turn_end(&turn);
    return is_done;
}

uint8_t irqchip_cr8(struct irqchip *chip, unsigned vcpu)
{
    struct lapic *lapic;
    struct turn turn;
    uint8_t value = 0;

    turn_begin(&turn, chip);
    lapic = chip_lapic(chip, vcpu);
    if (lapic != NULL) {
        value = lapic_get(lapic, APIC_TPR) >> 4 & 15;
    }
    turn_end(&turn);
    return value;
}

void irqchip_set_cr8(struct irqchip *chip, unsigned vcpu, uint8_t value)
{
    struct lapic *lapic;
    struct turn turn;

    turn_begin(&turn, chip);
    lapic = chip_lapic(chip, vcpu);
    if (lapic != NULL) {
        lapic_set_tpr(&turn, lapic, (uint8_t)(value << 4));
    }
    turn_end(&turn);
}

uint64_t irqchip_tsc_deadline(struct irqchip *chip, unsigned vcpu)
{
    struct lapic *lapic;
    struct turn turn;
    uint64_t value = 0;

    turn_begin(&turn, chip);
    lapic = chip_lapic(chip, vcpu);
    if (lapic != NULL && lapic_timer_mode(lapic) == APIC_TSC_DEADLINE) {
        value = lapic->tsc_deadline;
    }
    turn_end(&turn);
    return value;
}

void irqchip_set_tsc_deadline(struct irqchip *chip, unsigned vcpu, uint64_t deadline,
                              uint64_t tsc_now)
{
    struct lapic *lapic;
    struct turn turn;

    turn_begin(&turn, chip);
    lapic = chip_lapic(chip, vcpu);
    if (lapic != NULL) {
        lapic_timer_arm_tsc(lapic, deadline, tsc_now, chip->options.tsc_khz, turn.now_ns);
        lapic_timer_expire(&turn, lapic);
        turn_wake(&turn, vcpu);
    }
    turn_end(&turn);
}
