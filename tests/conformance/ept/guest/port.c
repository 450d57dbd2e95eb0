/* conformance/ept/guest/port.c - the stream to the host: a printer, whose paper is the host's file. */
#include "guest.h"

/* The first parallel port: both Bochs and QEMU print to a file at once, whatever time it is. */
#define PRINTER_DATA 0x378
#define PRINTER_CONTROL 0x37a
#define CONTROL_READY 0x0c /* initialised and selected */
#define CONTROL_STROBE 0x0d

/* Bochs powers off when it reads "Shutdown" here; run.py puts QEMU's debug exit at the same port. */
#define POWER_PORT 0x8900

void port_send(const void *bytes, size_t count)
{
    const uint8_t *next = bytes;

    out8(PRINTER_CONTROL, CONTROL_READY);
    while (count-- != 0) {
        out8(PRINTER_DATA, *next++);
        out8(PRINTER_CONTROL, CONTROL_STROBE);
        out8(PRINTER_CONTROL, CONTROL_READY);
    }
}

void port_power_off(void)
{
    for (const char *next = "Shutdown"; *next != '\0'; next++) {
        out8(POWER_PORT, (uint8_t)*next);
    }
}
