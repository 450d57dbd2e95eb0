/*
 * pc/debugports.c - the port of the firmware's messages, and the port that ends the run.
 */
#include "pc/devices.h"

#define MESSAGE_PORT 0x402
#define MESSAGE_PORT_READS_AS 0xe9 /* how SeaBIOS finds out that somebody listens */
#define EXIT_PORT 0xf4

static uint8_t message_read(void *opaque, unsigned offset)
{
    (void)opaque;
    (void)offset;
    return MESSAGE_PORT_READS_AS;
}

static void message_write(void *opaque, unsigned offset, uint8_t byte)
{
    struct debug_ports *debug = opaque;

    (void)offset;
    console_put(debug->board->console, byte);
}

static enum gm_access exit_read(void *opaque, uint64_t offset, unsigned size_bytes, uint64_t *value,
                                struct gm_attrs attrs)
{
    (void)opaque;
    (void)offset;
    (void)size_bytes;
    (void)attrs;
    *value = 0;
    return GM_ACCESS_OK;
}

static enum gm_access exit_write(void *opaque, uint64_t offset, unsigned size_bytes, uint64_t value,
                                 struct gm_attrs attrs)
{
    struct debug_ports *debug = opaque;

    (void)offset;
    (void)size_bytes;
    (void)attrs;
    board_end(debug->board, PC_EXIT_PORT, (uint32_t)value);
    return GM_ACCESS_OK;
}

static const struct gm_io_ops exit_io = {
    .size = sizeof(exit_io),
    .read = exit_read,
    .write = exit_write,
    .order = GM_ORDER_LITTLE,
    .valid = {.min_bytes = 1, .max_bytes = 4},
    .implemented = {.min_bytes = 1, .max_bytes = 4},
};

int debug_ports_init(struct debug_ports *debug, struct board *board)
{
    const struct board_ports exit_port = {
        .name = "debug-exit",
        .port = EXIT_PORT,
        .count = 4,
        .io = &exit_io,
        .opaque = debug,
    };
    int err;

    debug->board = board;
    debug->message = (struct byte_ports){
        .name = "debug-console",
        .port = MESSAGE_PORT,
        .count = 1,
        .read = message_read,
        .write = message_write,
        .opaque = debug,
    };
    err = byte_ports_add(board, &debug->message);
    return err != 0 ? err : board_add_ports(board, &exit_port);
}
