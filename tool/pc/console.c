/*
 * pc/console.c - the firmware's messages on their way to the person who runs it.
 */
#include "pc/console.h"

/*
 * A guest is not trusted with the terminal: what could move its cursor or change its state is shown
 * as text. Carriage returns are dropped: a line ends with its newline.
 */
void console_put(struct console *console, uint8_t byte)
{
    console->said_bytes++;
    if (byte == '\n') {
        putc('\n', console->out);
        fflush(console->out);
        console->in_line = false;
        return;
    }
    if (byte == '\r') {
        return;
    }
    if ((byte >= 0x20 && byte < 0x7f) || byte == '\t') {
        putc(byte, console->out);
    } else {
        fprintf(console->out, "\\x%02x", byte);
    }
    console->in_line = true;
}

void console_flush(struct console *console)
{
    if (console->in_line) {
        fflush(console->out);
    }
}

void console_finish(struct console *console)
{
    if (console->in_line) {
        console_put(console, '\n');
    }
}
