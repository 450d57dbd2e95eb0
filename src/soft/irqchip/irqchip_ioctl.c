/*
 * soft/irqchip/irqchip_ioctl.c - KVM's requests for the chips, on structures that were copied.
 *
 * Source: Linux api.rst at each request.
 */
#include "soft/irqchip/chip.h"

#include <errno.h>
#include <string.h>

int irqchip_check_create(const struct irqchip *chip, bool has_vcpus)
{
    if (chip != NULL) {
        return -EEXIST;
    }
    return has_vcpus ? -EINVAL : 0;
}

int irqchip_ioctl_line(struct irqchip *chip, struct kvm_irq_level *line)
{
    if (chip == NULL) {
        return -ENXIO;
    }
    line->status = irqchip_set_line(chip, line->irq, line->level != 0);
    return 0;
}

int irqchip_ioctl_create_pit(struct irqchip *chip, const struct kvm_pit_config *config)
{
    struct turn turn;
    int rc = -EEXIST;

    if (chip == NULL) {
        return -ENOENT;
    }
    turn_begin(&turn, chip);
    if (!chip->has_pit) {
        pit_reset(&chip->pit, (config->flags & KVM_PIT_SPEAKER_DUMMY) != 0, turn.now_ns);
        chip->has_pit = true;
        rc = 0;
    }
    turn_end(&turn);
    return rc;
}

static int get(const struct irqchip *chip, struct kvm_irqchip *state)
{
    switch (state->chip_id) {
    case KVM_IRQCHIP_PIC_MASTER:
    case KVM_IRQCHIP_PIC_SLAVE:
        state->chip.pic = chip->pics.chips[state->chip_id];
        return 0;
    case KVM_IRQCHIP_IOAPIC:
        ioapic_get(&chip->ioapic, &state->chip.ioapic);
        return 0;
    default:
        return -EINVAL;
    }
}

int irqchip_ioctl_get(struct irqchip *chip, struct kvm_irqchip *state)
{
    struct turn turn;
    int rc;

    if (chip == NULL) {
        return -ENXIO;
    }
    turn_begin(&turn, chip);
    rc = get(chip, state);
    turn_end(&turn);
    return rc;
}

static int set(struct turn *turn, const struct kvm_irqchip *state)
{
    struct pic_pair *pics = &turn->chip->pics;

    switch (state->chip_id) {
    case KVM_IRQCHIP_PIC_MASTER:
    case KVM_IRQCHIP_PIC_SLAVE:
        pics->chips[state->chip_id] = state->chip.pic;
        pic_settle(pics);
        return 0;
    case KVM_IRQCHIP_IOAPIC:
        ioapic_set(turn, &state->chip.ioapic);
        return 0;
    default:
        return -EINVAL;
    }
}

int irqchip_ioctl_set(struct irqchip *chip, const struct kvm_irqchip *state)
{
    struct turn turn;
    int rc;

    if (chip == NULL) {
        return -ENXIO;
    }
    turn_begin(&turn, chip);
    rc = set(&turn, state);
    turn_end(&turn);
    return rc;
}

int irqchip_ioctl_get_pit(struct irqchip *chip, struct kvm_pit_state2 *state)
{
    struct turn turn;
    int rc = -ENXIO;

    if (chip == NULL) {
        return -ENXIO;
    }
    turn_begin(&turn, chip);
    if (chip->has_pit) {
        pit_get(&chip->pit, state);
        rc = 0;
    }
    turn_end(&turn);
    return rc;
}

int irqchip_ioctl_set_pit(struct irqchip *chip, const struct kvm_pit_state2 *state)
{
    struct turn turn;
    int rc = -ENXIO;

    if (chip == NULL) {
        return -ENXIO;
    }
    turn_begin(&turn, chip);
    if (chip->has_pit) {
        pit_set(&chip->pit, state, turn.now_ns);
        turn_wake_all(&turn);
        rc = 0;
    }
    turn_end(&turn);
    return rc;
}

int irqchip_ioctl_get_lapic(struct irqchip *chip, unsigned vcpu, struct kvm_lapic_state *state)
{
    const struct lapic *lapic;
    struct turn turn;

    if (chip == NULL) {
        return -EINVAL;
    }
    turn_begin(&turn, chip);
    lapic = chip_lapic(chip, vcpu);
    if (lapic != NULL) {
        lapic_get_state(&turn, lapic, state);
    }
    turn_end(&turn);
    return lapic != NULL ? 0 : -EINVAL;
}

int irqchip_ioctl_set_lapic(struct irqchip *chip, unsigned vcpu,
                            const struct kvm_lapic_state *state)
{
    struct lapic *lapic;
    struct turn turn;
    int rc = -EINVAL;

    if (chip == NULL) {
        return -EINVAL;
    }
    turn_begin(&turn, chip);
    lapic = chip_lapic(chip, vcpu);
    if (lapic != NULL) {
        rc = lapic_set_state(&turn, lapic, state);
    }
    turn_end(&turn);
    return rc;
}

int irqchip_ioctl_msi(struct irqchip *chip, const struct kvm_msi *msi)
{
    if (chip == NULL || msi->flags != 0) {
        return -EINVAL;
    }
    return irqchip_msi(chip, (uint64_t)msi->address_hi << 32 | msi->address_lo, msi->data);
}
