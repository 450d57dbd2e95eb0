/*
 * pc/pci.c - the PCI bus. Configuration mechanism 1 and memory BARs, each BAR change a transaction.
 * Source: PCI Local Bus Specification 3.0, sections 3.2.2.3.2 (0xcf8, 0xcfc), 6.1 and 6.2.5.
 */
#include "pc/pci.h"

#include <errno.h>

#define CONFIG_PORTS 0xcf8
#define CONFIG_PORT_COUNT 8
#define CONFIG_DATA 4   /* offset of the data register */
#define RESET_CONTROL 1 /* offset of PIIX3's reset control register, a byte of its own */
#define RESET_CPU 0x04  /* its bit that starts a reset when it is set */
#define ADDRESS_ENABLE 0x80000000u
#define ADDRESS_WRITABLE 0x80fffffcu
#define BAR_PREFETCHABLE 0x8u
#define BAR_FLAGS 0xfu

uint32_t pci_config_get32(const struct pci_device *device, unsigned offset)
{
    const uint8_t *field = &device->config[offset];

    return field[0] | (uint32_t)field[1] << 8 | (uint32_t)field[2] << 16 | (uint32_t)field[3] << 24;
}

void pci_config_set16(struct pci_device *device, unsigned offset, uint16_t value)
{
    device->config[offset] = (uint8_t)value;
    device->config[offset + 1] = (uint8_t)(value >> 8);
}

void pci_config_set32(struct pci_device *device, unsigned offset, uint32_t value)
{
    pci_config_set16(device, offset, (uint16_t)value);
    pci_config_set16(device, offset + 2, (uint16_t)(value >> 16));
}

void pci_device_identify(struct pci_device *device, const struct pci_identity *identity)
{
    pci_config_set16(device, 0x00, identity->vendor);
    pci_config_set16(device, 0x02, identity->device);
    pci_config_set32(device, 0x08, identity->class_code << 8 | identity->revision);
    device->config[0x0e] = identity->header_type;
    pci_config_set16(device, 0x2c, identity->subsystem_vendor);
    pci_config_set16(device, 0x2e, identity->subsystem);
    device->writable[PCI_INTERRUPT_LINE] = 0xff;
}

int pci_device_add_bar(struct pci_device *device, unsigned index, struct board *board,
                       struct gm_region_options *options, bool prefetchable)
{
    unsigned offset = PCI_BAR0 + 4 * index;
    uint32_t mask = ~((uint32_t)options->size_bytes - 1) & ~BAR_FLAGS;
    unsigned i;

    /* A guest learns a BAR's size from the bits that it cannot set. */
    for (i = 0; i < 4; i++) {
        device->writable[offset + i] = (uint8_t)(mask >> (8 * i));
    }
    device->config[offset] = prefetchable ? BAR_PREFETCHABLE : 0;
    device->writable[PCI_COMMAND] |= PCI_COMMAND_MEMORY;
    device->bars[index].size_bytes = (uint32_t)options->size_bytes;
    options->disabled = true;
    return board_add_region(board, board->pci, options, &device->bars[index].region);
}

int pci_bus_plug(struct pci_bus *bus, uint8_t devfn, struct pci_device *device)
{
    if (bus->device_count == PCI_DEVICES_MAX) {
        return -E2BIG;
    }
    device->devfn = devfn;
    bus->devices[bus->device_count++] = device;
    return 0;
}

/* The address that the guest has given to a BAR, or 0 if it is not to show. */
static uint32_t bar_wanted(const struct pci_device *device, unsigned index)
{
    uint32_t base = pci_config_get32(device, PCI_BAR0 + 4 * index) & ~BAR_FLAGS;

    if ((device->config[PCI_COMMAND] & PCI_COMMAND_MEMORY) == 0) {
        return 0;
    }
    /* All ones are written to learn the size, even while the device decodes: never an address. */
    if (base > UINT32_MAX - device->bars[index].size_bytes) {
        return 0;
    }
    return base;
}

static int bar_edit(struct gm_txn *txn, const struct pci_bar *bar, uint32_t wanted)
{
    int err = 0;

    if (wanted != 0) {
        err = gm_txn_set_addr(txn, bar->region, wanted);
    }
    if (err == 0 && (wanted == 0) != (bar->shown_at == 0)) {
        err = gm_txn_set_enabled(txn, bar->region, wanted != 0);
    }
    return err;
}

/* Bring all BARs of a device to where its registers say, in one transaction, if any has to move. */
static void bars_update(struct pci_bus *bus, struct pci_device *device)
{
    struct gm_txn *txn = NULL;
    unsigned i;
    int err = 0;

    for (i = 0; i < PCI_BAR_COUNT && err == 0; i++) {
        struct pci_bar *bar = &device->bars[i];
        uint32_t wanted;

        if (bar->region == NULL) {
            continue;
        }
        wanted = bar_wanted(device, i);
        if (wanted == bar->shown_at) {
            continue;
        }
        if (txn == NULL) {
            err = gm_txn_begin(bus->board->map, &txn);
        }
        if (err == 0) {
            err = bar_edit(txn, bar, wanted);
            bar->shown_at = wanted;
        }
    }
    if (txn != NULL || err != 0) {
        board_commit(bus->board, txn, err);
    }
}

/* The device that the address register selects; NULL if there is none. */
static struct pci_device *device_selected(const struct pci_bus *bus)
{
    unsigned number = bus->address >> 16 & 0xff;
    unsigned devfn = bus->address >> 8 & 0xff;
    unsigned i;

    if ((bus->address & ADDRESS_ENABLE) == 0 || number != 0) {
        return NULL;
    }
    for (i = 0; i < bus->device_count; i++) {
        if (bus->devices[i]->devfn == devfn) {
            return bus->devices[i];
        }
    }
    return NULL;
}

static enum gm_access pci_read(void *opaque, uint64_t offset, unsigned size_bytes, uint64_t *value,
                               struct gm_attrs attrs)
{
    const struct pci_bus *bus = opaque;
    const struct pci_device *device = device_selected(bus);
    unsigned first = (bus->address & 0xfc) + (unsigned)(offset & 3);
    unsigned i;

    (void)attrs;
    *value = UINT64_MAX;
    if (offset < CONFIG_DATA) {
        if (offset == 0 && size_bytes == 4) {
            *value = bus->address;
        }
        return GM_ACCESS_OK;
    }
    /* No device drives the bus: all ones, which is how a guest finds out that nobody is there. */
    if (device != NULL) {
        *value = 0;
        for (i = 0; i < size_bytes && first + i < PCI_CONFIG_BYTES; i++) {
            *value |= (uint64_t)device->config[first + i] << (8 * i);
        }
    }
    return GM_ACCESS_OK;
}

static void config_write(struct pci_bus *bus, struct pci_device *device, unsigned first,
                         unsigned size_bytes, uint64_t value)
{
    unsigned i;

    for (i = 0; i < size_bytes && first + i < PCI_CONFIG_BYTES; i++) {
        uint8_t mask = device->writable[first + i];
        uint8_t byte = (uint8_t)(value >> (8 * i));

        device->config[first + i] = (uint8_t)((device->config[first + i] & ~mask) | (byte & mask));
    }
    bars_update(bus, device);
    if (device->written != NULL) {
        device->written(device->opaque);
    }
}

static enum gm_access pci_write(void *opaque, uint64_t offset, unsigned size_bytes, uint64_t value,
                                struct gm_attrs attrs)
{
    struct pci_bus *bus = opaque;
    struct pci_device *device = device_selected(bus);

    (void)attrs;
    if (offset >= CONFIG_DATA) {
        if (device != NULL) {
            config_write(bus, device, (bus->address & 0xfc) + (unsigned)(offset & 3), size_bytes,
                         value);
        }
    } else if (offset == 0 && size_bytes == 4) {
        bus->address = (uint32_t)value & ADDRESS_WRITABLE;
    } else if (offset == RESET_CONTROL && size_bytes == 1 && (value & RESET_CPU) != 0) {
        board_end(bus->board, PC_RESET, 0);
    }
    return GM_ACCESS_OK;
}

/* The address register takes whole double words; a byte at 0xcf9 is PIIX3's reset control. */
static const struct gm_io_ops pci_io = {
    .size = sizeof(pci_io),
    .read = pci_read,
    .write = pci_write,
    .order = GM_ORDER_LITTLE,
    .valid = {.min_bytes = 1, .max_bytes = 4},
    .implemented = {.min_bytes = 1, .max_bytes = 4},
};

int pci_bus_init(struct pci_bus *bus, struct board *board)
{
    bus->board = board;
    return board_add_ports(board, &(struct board_ports){
                                      .name = "pci-config",
                                      .port = CONFIG_PORTS,
                                      .count = CONFIG_PORT_COUNT,
                                      .io = &pci_io,
                                      .opaque = bus,
                                  });
}
