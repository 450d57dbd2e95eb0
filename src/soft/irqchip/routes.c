/*
 * soft/irqchip/routes.c - where GSIs lead, and what an MSI says.
 *
 * Source: Linux api.rst, KVM_SET_GSI_ROUTING, KVM_SIGNAL_MSI; SDM 3A, "Message Signalled Interrupts".
 */
#include "soft/irqchip/chip.h"

#include <errno.h>
#include <string.h>

#define PIC_LINES 8u
#define DEFAULT_GSIS 24u
#define DEFAULT_ROUTES (DEFAULT_GSIS + 2 * PIC_LINES)

static void use_routes(struct irqchip *chip, struct gsi_route *routes, size_t count)
{
    mem_free(&chip->allocator, chip->routes);
    chip->routes = routes;
    chip->route_count = count;
}

int routes_set_default(struct irqchip *chip)
{
    struct gsi_route *routes = mem_zalloc(&chip->allocator, DEFAULT_ROUTES * sizeof(*routes));
    size_t count = 0;

    if (routes == NULL) {
        return -ENOMEM;
    }
    for (uint32_t gsi = 0; gsi < DEFAULT_GSIS; gsi++) {
        if (gsi < 2 * PIC_LINES) {
            routes[count++] = (struct gsi_route){.gsi = gsi,
                                                 .chip = gsi < PIC_LINES ? KVM_IRQCHIP_PIC_MASTER
                                                                         : KVM_IRQCHIP_PIC_SLAVE,
                                                 .pin = gsi % PIC_LINES};
        }
        routes[count++] = (struct gsi_route){.gsi = gsi, .chip = KVM_IRQCHIP_IOAPIC, .pin = gsi};
    }
    use_routes(chip, routes, count);
    return 0;
}

/* Addresses' upper half has the upper 24 bits of an ID, and nothing else, for users of 32-bit IDs; else it does not count. */
static bool is_address_valid(const struct irqchip *chip, uint64_t address)
{
    return !irqchip_has_x2apic_api(chip, KVM_X2APIC_API_USE_32BIT_IDS) ||
           (address >> 32 & 0xff) == 0;
}

static uint32_t destination_of(const struct irqchip *chip, uint64_t address)
{
    uint32_t low = (uint8_t)(address >> 12);

    return irqchip_has_x2apic_api(chip, KVM_X2APIC_API_USE_32BIT_IDS)
               ? low | ((uint32_t)(address >> 32) & 0xffffff00)
               : low;
}

int routes_send_msi(struct turn *turn, uint64_t address, uint32_t data)
{
    bool is_logical = (address >> 2 & 1) != 0;
    const struct apic_message message = {
        .vector = (uint8_t)data,
        .mode = data >> 8 & 7,
        .destination = destination_of(turn->chip, address),
        .is_logical = is_logical,
        .is_level = (data >> 15 & 1) != 0,
        .is_to_lowest = is_logical && (address >> 3 & 1) != 0,
    };

    return is_address_valid(turn->chip, address) ? bus_send(turn, &message) : -EINVAL;
}

/* Below PINS, or PINS: a message. */
static unsigned pin_of(const struct gsi_route *route)
{
    switch (route->chip) {
    case KVM_IRQCHIP_PIC_MASTER:
        return route->pin;
    case KVM_IRQCHIP_PIC_SLAVE:
        return PIC_LINES + route->pin;
    case KVM_IRQCHIP_IOAPIC:
        return PIC_PINS + route->pin;
    default:
        return PINS;
    }
}

/* A message is sent by a rise, and nothing by a fall. */
static int follow(struct turn *turn, const struct gsi_route *route, enum pin_source source,
                  bool level)
{
    struct irqchip *chip = turn->chip;
    unsigned pin = pin_of(route);
    bool is_high;

    if (pin == PINS) {
        return level ? routes_send_msi(turn, route->address, route->data) : -1;
    }
    chip->sources[pin] =
        (uint8_t)(level ? chip->sources[pin] | source : chip->sources[pin] & ~source);
    is_high = chip->sources[pin] != 0;
    return pin < PIC_PINS ? pic_set_line(&chip->pics, pin, is_high)
                          : ioapic_set_pin(turn, pin - PIC_PINS, is_high);
}

int routes_set_line(struct turn *turn, uint32_t gsi, bool level)
{
    return routes_set_source(turn, gsi, SOURCE_LINE, level);
}

void routes_end(struct turn *turn, unsigned pin)
{
    const struct irqchip *chip = turn->chip;
    size_t i = 0;

    while (i < chip->route_count && pin_of(&chip->routes[i]) != pin) {
        i++;
    }
    if (i == chip->route_count || turn->ended_count == PINS) {
        return;
    }
    turn->ended[turn->ended_count] = chip->routes[i].gsi;
    turn->ended_count++;
    /* Nothing else may set the line again: what it is to a chip need not be what drives it, once state was set. */
    if ((chip->sources[pin] & SOURCE_RESAMPLE) != 0) {
        (void)routes_set_source(turn, chip->routes[i].gsi, SOURCE_RESAMPLE, false);
    }
}

int routes_set_source(struct turn *turn, uint32_t gsi, enum pin_source source, bool level)
{
    struct irqchip *chip = turn->chip;
    int status = -1;

    for (size_t i = 0; i < chip->route_count; i++) {
        if (chip->routes[i].gsi == gsi) {
            int one = follow(turn, &chip->routes[i], source, level);

            if (one >= 0) {
                status = one + (status < 0 ? 0 : status);
            }
        }
    }
    return status;
}

/* Return: 0; -EINVAL it is none that there can be. */
static int route_of(const struct irqchip *chip, const struct kvm_irq_routing_entry *entry,
                    struct gsi_route *route)
{
    *route = (struct gsi_route){.gsi = entry->gsi};
    if (entry->gsi >= IRQCHIP_ROUTES_MAX) {
        return -EINVAL;
    }
    switch (entry->type) {
    case KVM_IRQ_ROUTING_IRQCHIP:
        route->chip = entry->u.irqchip.irqchip;
        route->pin = entry->u.irqchip.pin;
        if (entry->flags != 0 || route->chip >= KVM_NR_IRQCHIPS ||
            route->pin >= (route->chip == KVM_IRQCHIP_IOAPIC ? KVM_IOAPIC_NUM_PINS : PIC_LINES)) {
            return -EINVAL;
        }
        return 0;
    case KVM_IRQ_ROUTING_MSI:
        route->chip = ROUTE_MSI;
        route->address = (uint64_t)entry->u.msi.address_hi << 32 | entry->u.msi.address_lo;
        route->data = entry->u.msi.data;
        return (entry->flags & ~KVM_MSI_VALID_DEVID) != 0 || !is_address_valid(chip, route->address)
                   ? -EINVAL
                   : 0;
    default:
        return -EINVAL;
    }
}

/* Chips that a GSI leads to so far, in bits: it may have each of them once, or one message. */
static int add_chip(uint8_t *chips, const struct gsi_route *route)
{
    uint8_t bit = (uint8_t)(1u << route->chip);
    uint8_t message = 1u << ROUTE_MSI;
    uint8_t *of_gsi = &chips[route->gsi];

    if ((*of_gsi & bit) != 0 || (*of_gsi != 0 && ((*of_gsi | bit) & message) != 0)) {
        return -EINVAL;
    }
    *of_gsi |= bit;
    return 0;
}

static int build(const struct irqchip *chip, struct gsi_route *routes, uint8_t *chips,
                 const struct kvm_irq_routing_entry *entries, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        int rc = route_of(chip, &entries[i], &routes[i]);

        if (rc == 0) {
            rc = add_chip(chips, &routes[i]);
        }
        if (rc != 0) {
            return rc;
        }
    }
    return 0;
}

int irqchip_ioctl_routing(struct irqchip *chip, const struct kvm_irq_routing *header,
                          const struct kvm_irq_routing_entry *entries)
{
    struct gsi_route *routes;
    uint8_t *chips;
    struct turn turn;
    int rc = -ENOMEM;

    if (chip == NULL || header->nr > IRQCHIP_ROUTES_MAX || header->flags != 0) {
        return -EINVAL;
    }
    /* One more than needed: an allocator may have nothing to give for nothing. */
    routes = mem_zalloc(&chip->allocator, (header->nr + 1) * sizeof(*routes));
    chips = mem_zalloc(&chip->allocator, IRQCHIP_ROUTES_MAX);
    if (routes != NULL && chips != NULL) {
        rc = build(chip, routes, chips, entries, header->nr);
    }
    mem_free(&chip->allocator, chips);
    if (rc != 0) {
        mem_free(&chip->allocator, routes);
        return rc;
    }
    turn_begin(&turn, chip);
    use_routes(chip, routes, header->nr);
    turn_end(&turn);
    return 0;
}
