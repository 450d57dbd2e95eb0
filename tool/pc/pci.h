/*
 * pc/pci.h - one PCI bus: configuration space by ports 0xcf8 and 0xcfc, and BARs, which are regions
 * that move, appear and vanish as the guest programs them.
 */
#ifndef TOOL_PC_PCI_H
#define TOOL_PC_PCI_H

#include "pc/board.h"

#define PCI_CONFIG_BYTES 256
#define PCI_BAR_COUNT 6
#define PCI_DEVICES_MAX 8

#define PCI_DEVFN(device, function) ((uint8_t)((device) << 3 | (function)))

/* Where things are in configuration space (PCI Local Bus Specification 3.0, section 6.1). */
#define PCI_COMMAND 0x04
#define PCI_COMMAND_PORTS 0x1u
#define PCI_COMMAND_MEMORY 0x2u
#define PCI_BAR0 0x10
#define PCI_INTERRUPT_LINE 0x3c

struct pci_identity {
    uint16_t vendor;
    uint16_t device;
    uint16_t subsystem_vendor;
    uint16_t subsystem;
    uint32_t class_code; /* 24 bits: class, subclass, interface */
    uint8_t revision;
    uint8_t header_type;
};

struct pci_bar {
    struct gm_region *region; /* NULL: the device has no such BAR */
    uint32_t size_bytes;
    uint32_t shown_at; /* 0: not shown */
};

struct pci_device {
    uint8_t devfn;
    uint8_t config[PCI_CONFIG_BYTES];
    uint8_t writable[PCI_CONFIG_BYTES]; /* a bit set: the guest may change that bit */
    struct pci_bar bars[PCI_BAR_COUNT];
    /* Called after the guest has written to the configuration space. NULL for none. */
    void (*written)(void *opaque);
    void *opaque;
};

struct pci_bus {
    struct board *board;
    uint32_t address; /* what was last written to 0xcf8 */
    struct pci_device *devices[PCI_DEVICES_MAX];
    unsigned device_count;
};

/* Make the bus's two ports. Return: 0 or -errno, here and below. */
int pci_bus_init(struct pci_bus *bus, struct board *board);

/* Fill in who the device is, and what every device lets the guest write. */
void pci_device_identify(struct pci_device *device, const struct pci_identity *identity);

/*
 * Give a device a memory BAR: a region of the board's PCI bus that shows once the guest has given
 * it an address and has set the command register's memory bit.
 * @options: kind, name, contents; its size is a power of two from 16 bytes to 2 GiB.
 */
int pci_device_add_bar(struct pci_device *device, unsigned index, struct board *board,
                       struct gm_region_options *options, bool prefetchable);

int pci_bus_plug(struct pci_bus *bus, uint8_t devfn, struct pci_device *device);

/* Little-endian fields of configuration space. */
uint32_t pci_config_get32(const struct pci_device *device, unsigned offset);
void pci_config_set16(struct pci_device *device, unsigned offset, uint16_t value);
void pci_config_set32(struct pci_device *device, unsigned offset, uint32_t value);

#endif
