/*
 * pc/byteports.h - ports that take one byte at a time, which are most of a PC's. A wider access is
 * one access to each of its ports, as on the ISA bus.
 */
#ifndef TOOL_PC_BYTEPORTS_H
#define TOOL_PC_BYTEPORTS_H

#include "pc/board.h"

/* A group of them; part of the device that answers them. */
struct byte_ports {
    const char *name;
    uint16_t port;
    uint16_t count;
    /* @offset is from the first port, and below @count. */
    uint8_t (*read)(void *opaque, unsigned offset);
    void (*write)(void *opaque, unsigned offset, uint8_t byte);
    void *opaque;
};

/* Add them to the port space; @ports has to live as long as the board. Return: 0 or -errno. */
int byte_ports_add(struct board *board, struct byte_ports *ports);

#endif
