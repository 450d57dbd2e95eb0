/*
 * pc/devices.h - the devices of the small PC that are a few ports each. Every one is initialised
 * once, while the machine is built; each function returns 0 or -errno.
 */
#ifndef TOOL_PC_DEVICES_H
#define TOOL_PC_DEVICES_H

#include "pc/board.h"
#include "pc/byteports.h"
#include "pc/pci.h"

/* Port 0x402, on which SeaBIOS tells what it does; and port 0xf4, which ends the run. */
struct debug_ports {
    struct board *board;
    struct byte_ports message;
};
int debug_ports_init(struct debug_ports *debug, struct board *board);

/* Ports 0x3f8-0x3ff: a 16550 that only ever sends. */
struct serial {
    struct board *board;
    struct byte_ports ports;
    uint8_t divisor[2];
    uint8_t interrupt_enable;
    uint8_t line_control;
    uint8_t modem_control;
    uint8_t scratch;
    bool fifo;
};
int serial_init(struct serial *serial, struct board *board);

/*
 * Ports 0x70 and 0x71: the battery-backed bytes, the size of RAM among them, and the time of day.
 */
#define CMOS_BYTES 128
struct cmos {
    struct byte_ports ports;
    uint8_t index;
    uint8_t bytes[CMOS_BYTES];
};
int cmos_init(struct cmos *cmos, struct board *board);

/* Ports 0x510 and 0x511: named pieces of data from the machine for the firmware. */
#define FWCFG_ITEMS_MAX 16
#define FWCFG_NAME_BYTES 56
struct fwcfg_item {
    uint16_t key;
    uint32_t size_bytes;
    void *data; /* owned */
};
struct fwcfg {
    struct fwcfg_item items[FWCFG_ITEMS_MAX];
    unsigned item_count;
    unsigned file_count;
    uint16_t selected;
    uint32_t offset;
};
int fwcfg_init(struct fwcfg *fwcfg, struct board *board);
void fwcfg_fini(struct fwcfg *fwcfg);

/*
 * Ports 0x60 and 0x64: the keyboard controller with a keyboard on which nobody types; and port
 * 0x92.
 */
#define I8042_QUEUE_BYTES 8
struct i8042 {
    struct board *board;
    struct byte_ports data_port;
    struct byte_ports status_port;
    struct byte_ports port92;
    uint8_t queue[I8042_QUEUE_BYTES]; /* answers for the guest */
    unsigned first;
    unsigned count;
    uint8_t pending; /* a command whose data byte comes next; 0 for none */
    uint8_t mode;
};
int i8042_init(struct i8042 *keyboard, struct board *board);

/* A PCI device, 00:02.0, with a BAR of registers and a BAR of memory, so that there are BARs. */
struct testdev {
    struct pci_device pci;
    struct gm_ram *ram;
    uint32_t scratch;
};
int testdev_init(struct testdev *device, struct pci_bus *bus);
void testdev_fini(struct testdev *device);

#endif
