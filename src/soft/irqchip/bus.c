/*
 * soft/irqchip/bus.c - whom a message is for.
 *
 * Source: SDM 3A, "Determining IPI Destination", "Distribution Mechanism".
 */
#include "soft/irqchip/bus.h"

#include "soft/irqchip/chip.h"

/* Among equals of the lowest priority they take turns. */
static int send_to_lowest(struct turn *turn, const struct apic_message *message)
{
    struct irqchip *chip = turn->chip;
    struct lapic *lowest = NULL;

    for (unsigned step = 1; step <= IRQCHIP_VCPUS; step++) {
        struct lapic *lapic = chip->lapics[(chip->last_lowest + step) % IRQCHIP_VCPUS];

        if (lapic == NULL || !lapic_is_enabled(lapic) || !lapic_matches(chip, lapic, message)) {
            continue;
        }
        if (lowest == NULL || lapic_priority(lapic) < lapic_priority(lowest)) {
            lowest = lapic;
        }
    }
    if (lowest == NULL) {
        return 0;
    }
    chip->last_lowest = lowest->vcpu;
    return lapic_accept(turn, lowest, message) ? 1 : 0;
}

int bus_send(struct turn *turn, const struct apic_message *message)
{
    int count = 0;

    if (message->is_to_lowest || message->mode == APIC_LOWEST) {
        return send_to_lowest(turn, message);
    }
    for (unsigned i = 0; i < IRQCHIP_VCPUS; i++) {
        struct lapic *lapic = turn->chip->lapics[i];

        if (lapic != NULL && lapic_matches(turn->chip, lapic, message)) {
            count += lapic_accept(turn, lapic, message) ? 1 : 0;
        }
    }
    return count;
}

int bus_broadcast(struct turn *turn, const struct apic_message *message, const struct lapic *except)
{
    int count = 0;

    for (unsigned i = 0; i < IRQCHIP_VCPUS; i++) {
        struct lapic *lapic = turn->chip->lapics[i];

        if (lapic != NULL && lapic != except && lapic_is_present(lapic)) {
            count += lapic_accept(turn, lapic, message) ? 1 : 0;
        }
    }
    return count;
}
