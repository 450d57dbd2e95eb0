/*
 * soft/irqchip/pending.c - what waits for a vCPU, and how it takes it; lines and messages of devices.
 */
#include "soft/irqchip/chip.h"

/* The vector-less side of an interrupt: is there one for this APIC? */
static bool has_interrupt(const struct irqchip *chip, const struct lapic *lapic)
{
    return (lapic_wants_pic(lapic) && pic_output(&chip->pics)) || lapic_due(lapic) >= 0;
}

unsigned irqchip_vcpu_pending(struct irqchip *chip, unsigned vcpu)
{
    const struct lapic *lapic;
    unsigned events = 0;
    struct turn turn;

    turn_begin(&turn, chip);
    lapic = chip_lapic(chip, vcpu);
    if (lapic != NULL) {
        events |= has_interrupt(chip, lapic) ? IRQCHIP_INTERRUPT : 0;
        events |= lapic->nmi_pending ? IRQCHIP_NMI : 0;
        events |= lapic->init_pending ? IRQCHIP_INIT : 0;
        events |= lapic->sipi_pending ? IRQCHIP_SIPI : 0;
    }
    turn_end(&turn);
    return events;
}

int irqchip_take_interrupt(struct irqchip *chip, unsigned vcpu)
{
    struct lapic *lapic;
    struct turn turn;
    int vector = -1;

    turn_begin(&turn, chip);
    lapic = chip_lapic(chip, vcpu);
    if (lapic != NULL && lapic_wants_pic(lapic) && pic_output(&chip->pics)) {
        vector = pic_acknowledge(&chip->pics);
        chip->pic_out = false; /* INT falls with the acknowledgement: what asks next is an edge */
    } else if (lapic != NULL) {
        vector = lapic_take(lapic);
    }
    turn_end(&turn);
    return vector;
}

bool irqchip_take_nmi(struct irqchip *chip, unsigned vcpu)
{
    struct lapic *lapic;
    struct turn turn;
    bool taken = false;

    turn_begin(&turn, chip);
    lapic = chip_lapic(chip, vcpu);
    if (lapic != NULL) {
        taken = lapic->nmi_pending;
        lapic->nmi_pending = false;
    }
    turn_end(&turn);
    return taken;
}

bool irqchip_take_init(struct irqchip *chip, unsigned vcpu)
{
    struct lapic *lapic;
    struct turn turn;
    bool taken = false;

    turn_begin(&turn, chip);
    lapic = chip_lapic(chip, vcpu);
    if (lapic != NULL && lapic->init_pending) {
        bool sipi_pending = lapic->sipi_pending; /* one that came after the INIT is for after it */

        taken = true;
        lapic->init_pending = false;
        lapic_init_reset(lapic);
        lapic->sipi_pending = sipi_pending;
    }
    turn_end(&turn);
    return taken;
}

int irqchip_take_sipi(struct irqchip *chip, unsigned vcpu)
{
    struct lapic *lapic;
    struct turn turn;
    int vector = -1;

    turn_begin(&turn, chip);
    lapic = chip_lapic(chip, vcpu);
    if (lapic != NULL && lapic->sipi_pending) {
        lapic->sipi_pending = false;
        vector = lapic->sipi_vector;
    }
    turn_end(&turn);
    return vector;
}

void irqchip_post_nmi(struct irqchip *chip, unsigned vcpu)
{
    const struct apic_message message = {.mode = APIC_NMI};
    struct lapic *lapic;
    struct turn turn;

    turn_begin(&turn, chip);
    lapic = chip_lapic(chip, vcpu);
    if (lapic != NULL) {
        (void)lapic_accept(&turn, lapic, &message);
    }
    turn_end(&turn);
}

uint64_t irqchip_deadline_ns(struct irqchip *chip, unsigned vcpu)
{
    const struct lapic *lapic;
    uint64_t deadline_ns = IRQCHIP_NEVER;
    struct turn turn;

    turn_begin(&turn, chip);
    lapic = chip_lapic(chip, vcpu);
    if (lapic != NULL) {
        deadline_ns = lapic_timer_deadline(lapic);
    }
    if (chip->has_pit && pit_deadline(&chip->pit) < deadline_ns) {
        deadline_ns = pit_deadline(&chip->pit);
    }
    turn_end(&turn);
    return deadline_ns;
}

int irqchip_set_line(struct irqchip *chip, uint32_t gsi, bool level)
{
    struct turn turn;
    int status;

    turn_begin(&turn, chip);
    status = routes_set_line(&turn, gsi, level);
    turn_end(&turn);
    return status;
}

int irqchip_resample_line(struct irqchip *chip, uint32_t gsi, bool level)
{
    struct turn turn;
    int status;

    turn_begin(&turn, chip);
    status = routes_set_source(&turn, gsi, SOURCE_RESAMPLE, level);
    turn_end(&turn);
    return status;
}

int irqchip_msi(struct irqchip *chip, uint64_t address, uint32_t data)
{
    struct turn turn;
    int count;

    turn_begin(&turn, chip);
    count = routes_send_msi(&turn, address, data);
    turn_end(&turn);
    return count;
}
