/*
 * pc/byteports.c - ports that take one byte at a time.
 */
#include "pc/byteports.h"

static enum gm_access byte_read(void *opaque, uint64_t offset, unsigned size_bytes, uint64_t *value,
                                struct gm_attrs attrs)
{
    const struct byte_ports *ports = opaque;

    (void)size_bytes;
    (void)attrs;
    /* A wide access may reach past the group: there, nobody drives the bus. */
    *value = offset < ports->count ? ports->read(ports->opaque, (unsigned)offset) : UINT8_MAX;
    return GM_ACCESS_OK;
}

static enum gm_access byte_write(void *opaque, uint64_t offset, unsigned size_bytes, uint64_t value,
                                 struct gm_attrs attrs)
{
    const struct byte_ports *ports = opaque;

    (void)size_bytes;
    (void)attrs;
    if (offset < ports->count) {
        ports->write(ports->opaque, (unsigned)offset, (uint8_t)value);
    }
    return GM_ACCESS_OK;
}

static const struct gm_io_ops byte_io = {
    .size = sizeof(byte_io),
    .read = byte_read,
    .write = byte_write,
    .order = GM_ORDER_LITTLE,
    .valid = {.min_bytes = 1, .max_bytes = 4, .unaligned = true},
    .implemented = {.min_bytes = 1, .max_bytes = 1},
};

int byte_ports_add(struct board *board, struct byte_ports *ports)
{
    return board_add_ports(board, &(struct board_ports){
                                      .name = ports->name,
                                      .port = ports->port,
                                      .count = ports->count,
                                      .io = &byte_io,
                                      .opaque = ports,
                                  });
}
