/*
 * pc/i8042.c - the keyboard controller, with a keyboard that answers and is never typed on, and the
 * fast A20 gate. It raises no interrupt: firmware polls while it sets the keyboard up.
 *
 * The A20 line is always open, and reads so: KVM has no way to close it.
 * Source: Intel UPI-41AH/42AH keyboard controller application; IBM PS/2 Technical Reference,
 * keyboard.
 */
#include "pc/devices.h"

#define DATA_PORT 0x60
#define STATUS_PORT 0x64
#define PORT92 0x92

#define STATUS_OUTPUT_FULL 0x01u
#define STATUS_SYSTEM 0x04u
#define STATUS_UNLOCKED 0x10u

enum {
    COMMAND_READ_MODE = 0x20,
    COMMAND_WRITE_MODE = 0x60,
    COMMAND_DISABLE_MOUSE = 0xa7,
    COMMAND_TEST_MOUSE = 0xa9,
    COMMAND_TEST = 0xaa,
    COMMAND_TEST_KEYBOARD = 0xab,
    COMMAND_READ_OUTPUT = 0xd0,
    COMMAND_WRITE_OUTPUT = 0xd1,
    COMMAND_TO_MOUSE = 0xd4,
    COMMAND_RESET = 0xfe,
};
#define TEST_PASSED 0x55
#define OUTPUT_A20 0x02u
#define OUTPUT_NO_RESET 0x01u

enum {
    KEYBOARD_IDENTIFY = 0xf2,
    KEYBOARD_RESET = 0xff,
    KEYBOARD_ACK = 0xfa,
    KEYBOARD_TEST_PASSED = 0xaa,
};

#define PORT92_RESET 0x01u
#define PORT92_A20 0x02u

static void answer(struct i8042 *keyboard, uint8_t byte)
{
    /* A guest that never reads loses what does not fit, as it would on the chip. */
    if (keyboard->count < I8042_QUEUE_BYTES) {
        keyboard->queue[(keyboard->first + keyboard->count++) % I8042_QUEUE_BYTES] = byte;
    }
}

static uint8_t answer_take(struct i8042 *keyboard)
{
    uint8_t byte = keyboard->queue[keyboard->first];

    /* An empty buffer gives its last byte again. */
    if (keyboard->count > 0) {
        keyboard->first = (keyboard->first + 1) % I8042_QUEUE_BYTES;
        keyboard->count--;
    }
    return byte;
}

static void controller_command(struct i8042 *keyboard, uint8_t command)
{
    keyboard->pending = 0;
    switch (command) {
    case COMMAND_READ_MODE:
        answer(keyboard, keyboard->mode);
        break;
    case COMMAND_TEST:
        answer(keyboard, TEST_PASSED);
        break;
    case COMMAND_TEST_KEYBOARD:
    case COMMAND_TEST_MOUSE:
        answer(keyboard, 0);
        break;
    case COMMAND_READ_OUTPUT:
        answer(keyboard, OUTPUT_A20 | OUTPUT_NO_RESET);
        break;
    case COMMAND_WRITE_MODE:
    case COMMAND_WRITE_OUTPUT:
    case COMMAND_TO_MOUSE:
        keyboard->pending = command;
        break;
    case COMMAND_RESET:
        board_end(keyboard->board, PC_RESET, 0);
        break;
    default:
        break;
    }
}

static void keyboard_command(struct i8042 *keyboard, uint8_t command)
{
    answer(keyboard, KEYBOARD_ACK);
    if (command == KEYBOARD_RESET) {
        answer(keyboard, KEYBOARD_TEST_PASSED);
    } else if (command == KEYBOARD_IDENTIFY) {
        answer(keyboard, 0xab); /* a keyboard with 101 keys */
        answer(keyboard, 0x83);
    }
}

static void data_write(struct i8042 *keyboard, uint8_t byte)
{
    uint8_t pending = keyboard->pending;

    keyboard->pending = 0;
    if (pending == COMMAND_WRITE_MODE) {
        keyboard->mode = byte;
    } else if (pending == COMMAND_WRITE_OUTPUT) {
        if ((byte & OUTPUT_NO_RESET) == 0) {
            board_end(keyboard->board, PC_RESET, 0);
        }
    } else if (pending == 0) {
        keyboard_command(keyboard, byte);
    }
    /* What is meant for a mouse finds none. */
}

static uint8_t data_port_read(void *opaque, unsigned offset)
{
    (void)offset;
    return answer_take(opaque);
}

static void data_port_write(void *opaque, unsigned offset, uint8_t byte)
{
    (void)offset;
    data_write(opaque, byte);
}

static uint8_t status_port_read(void *opaque, unsigned offset)
{
    const struct i8042 *keyboard = opaque;

    (void)offset;
    return STATUS_SYSTEM | STATUS_UNLOCKED | (keyboard->count > 0 ? STATUS_OUTPUT_FULL : 0);
}

static void status_port_write(void *opaque, unsigned offset, uint8_t byte)
{
    (void)offset;
    controller_command(opaque, byte);
}

static uint8_t port92_read(void *opaque, unsigned offset)
{
    (void)opaque;
    (void)offset;
    return PORT92_A20;
}

static void port92_write(void *opaque, unsigned offset, uint8_t byte)
{
    struct i8042 *keyboard = opaque;

    (void)offset;
    if ((byte & PORT92_RESET) != 0) {
        board_end(keyboard->board, PC_RESET, 0);
    }
}

int i8042_init(struct i8042 *keyboard, struct board *board)
{
    int err;

    keyboard->board = board;
    keyboard->data_port = (struct byte_ports){
        "i8042-data", DATA_PORT, 1, data_port_read, data_port_write, keyboard,
    };
    keyboard->status_port = (struct byte_ports){
        "i8042-status", STATUS_PORT, 1, status_port_read, status_port_write, keyboard,
    };
    keyboard->port92 = (struct byte_ports){
        "port92", PORT92, 1, port92_read, port92_write, keyboard,
    };
    err = byte_ports_add(board, &keyboard->data_port);
    if (err == 0) {
        err = byte_ports_add(board, &keyboard->status_port);
    }
    return err != 0 ? err : byte_ports_add(board, &keyboard->port92);
}
