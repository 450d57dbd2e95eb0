/*
 * pc/console.h - where the firmware's messages go, byte by byte, from its debug port and its serial
 * port alike.
 */
#ifndef TOOL_PC_CONSOLE_H
#define TOOL_PC_CONSOLE_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

struct console {
    FILE *out; /* borrowed */
    uint64_t said_bytes;
    bool in_line; /* something has been written since the last newline */
};

void console_put(struct console *console, uint8_t byte);

/* Show what is there of an unfinished line. */
void console_flush(struct console *console);

/* End an unfinished line, so that what is printed next begins one. */
void console_finish(struct console *console);

#endif
