/*
 * pc/testdev.c - a PCI device that is there for its BARs: 4 KiB of registers, which exit to the
 * device, and 1 MiB of memory, which has a slot. The firmware places both in the PCI hole.
 */
#include "pc/devices.h"

#define REGISTERS_BYTES 0x1000u
#define MEMORY_BYTES 0x100000u
#define REG_NAME 0x0    /* reads as 'gmem' */
#define REG_SCRATCH 0x8 /* keeps what is written to it */
#define NAME 0x6d656d67u

static enum gm_access register_read(void *opaque, uint64_t offset, unsigned size_bytes,
                                    uint64_t *value, struct gm_attrs attrs)
{
    const struct testdev *device = opaque;

    (void)size_bytes;
    (void)attrs;
    *value = 0;
    if (offset == REG_NAME) {
        *value = NAME;
    } else if (offset == REG_SCRATCH) {
        *value = device->scratch;
    }
    return GM_ACCESS_OK;
}

static enum gm_access register_write(void *opaque, uint64_t offset, unsigned size_bytes,
                                     uint64_t value, struct gm_attrs attrs)
{
    struct testdev *device = opaque;

    (void)size_bytes;
    (void)attrs;
    if (offset == REG_SCRATCH) {
        device->scratch = (uint32_t)value;
    }
    return GM_ACCESS_OK;
}

static const struct gm_io_ops register_io = {
    .size = sizeof(register_io),
    .read = register_read,
    .write = register_write,
    .order = GM_ORDER_LITTLE,
    .valid = {.min_bytes = 4, .max_bytes = 8},
    .implemented = {.min_bytes = 4, .max_bytes = 4},
};

int testdev_init(struct testdev *device, struct pci_bus *bus)
{
    static const struct pci_identity identity = {
        .vendor = 0x1234, /* given to nobody; emulators use it */
        .device = 0x676d,
        .class_code = 0x058000, /* memory controller, other: no firmware has a driver for it */
    };
    struct gm_region_options registers = {
        .size = sizeof(registers),
        .kind = GM_REGION_MMIO,
        .name = "testdev-registers",
        .size_bytes = REGISTERS_BYTES,
        .io = &register_io,
        .opaque = device,
    };
    struct gm_region_options memory = {
        .size = sizeof(memory),
        .kind = GM_REGION_RAM,
        .name = "testdev-memory",
        .size_bytes = MEMORY_BYTES,
    };
    int err = gm_ram_new_anon(MEMORY_BYTES, NULL, &device->ram, &bus->board->diag);

    if (err != 0) {
        return err;
    }
    memory.ram = device->ram;
    pci_device_identify(&device->pci, &identity);
    err = pci_device_add_bar(&device->pci, 0, bus->board, &registers, false);
    if (err == 0) {
        err = pci_device_add_bar(&device->pci, 1, bus->board, &memory, true);
    }
    return err != 0 ? err : pci_bus_plug(bus, PCI_DEVFN(2, 0), &device->pci);
}

void testdev_fini(struct testdev *device)
{
    gm_ram_put(device->ram);
}
