/*
 * pc/serial.c - the first serial port. It sends at once, never receives, and raises no interrupt: a
 * guest that polls it, as firmware does, finds it always ready.
 * Source: National Semiconductor PC16550D datasheet, 8 (registers).
 */
#include "pc/devices.h"

#define SERIAL_PORT 0x3f8
#define SERIAL_PORT_COUNT 8

enum {
    REG_DATA = 0,
    REG_INTERRUPT_ENABLE = 1,
    REG_INTERRUPT_ID = 2, /* read; the FIFO control when written */
    REG_LINE_CONTROL = 3,
    REG_MODEM_CONTROL = 4,
    REG_LINE_STATUS = 5,
    REG_MODEM_STATUS = 6,
    REG_SCRATCH = 7,
};

#define INTERRUPT_TRANSMITTER_EMPTY 0x02u
#define ID_NONE 0x01u
#define ID_TRANSMITTER_EMPTY 0x02u
#define ID_FIFO 0xc0u
#define LINE_CONTROL_DIVISOR 0x80u
#define LINE_STATUS_READY 0x60u  /* holding register and transmitter empty */
#define MODEM_STATUS_READY 0xb0u /* carrier, data set ready, clear to send */
#define MODEM_CONTROL_LOOP 0x10u

static uint8_t interrupt_id(const struct serial *serial)
{
    uint8_t id = serial->fifo ? ID_FIFO : 0;

    if ((serial->interrupt_enable & INTERRUPT_TRANSMITTER_EMPTY) != 0) {
        return id | ID_TRANSMITTER_EMPTY;
    }
    return id | ID_NONE;
}

static uint8_t serial_read(void *opaque, unsigned offset)
{
    const struct serial *serial = opaque;
    bool divisor = (serial->line_control & LINE_CONTROL_DIVISOR) != 0;

    switch (offset) {
    case REG_DATA:
        return divisor ? serial->divisor[0] : 0;
    case REG_INTERRUPT_ENABLE:
        return divisor ? serial->divisor[1] : serial->interrupt_enable;
    case REG_INTERRUPT_ID:
        return interrupt_id(serial);
    case REG_LINE_CONTROL:
        return serial->line_control;
    case REG_MODEM_CONTROL:
        return serial->modem_control;
    case REG_LINE_STATUS:
        return LINE_STATUS_READY;
    case REG_MODEM_STATUS:
        return MODEM_STATUS_READY;
    default:
        return serial->scratch;
    }
}

static void serial_write(void *opaque, unsigned offset, uint8_t byte)
{
    struct serial *serial = opaque;
    bool divisor = (serial->line_control & LINE_CONTROL_DIVISOR) != 0;

    if (offset <= REG_INTERRUPT_ENABLE && divisor) {
        serial->divisor[offset] = byte;
    } else if (offset == REG_DATA) {
        /* In loop mode the byte comes back to the receiver, which this port does not have. */
        if ((serial->modem_control & MODEM_CONTROL_LOOP) == 0) {
            console_put(serial->board->console, byte);
        }
    } else if (offset == REG_INTERRUPT_ENABLE) {
        serial->interrupt_enable = byte & 0x0f;
    } else if (offset == REG_INTERRUPT_ID) {
        serial->fifo = (byte & 1) != 0;
    } else if (offset == REG_LINE_CONTROL) {
        serial->line_control = byte;
    } else if (offset == REG_MODEM_CONTROL) {
        serial->modem_control = byte & 0x1f;
    } else if (offset == REG_SCRATCH) {
        serial->scratch = byte;
    }
}

int serial_init(struct serial *serial, struct board *board)
{
    serial->board = board;
    serial->ports = (struct byte_ports){
        .name = "serial",
        .port = SERIAL_PORT,
        .count = SERIAL_PORT_COUNT,
        .read = serial_read,
        .write = serial_write,
        .opaque = serial,
    };
    return byte_ports_add(board, &serial->ports);
}
