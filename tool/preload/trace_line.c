/* preload/trace_line.c - putting a line of a trace together. */
#include "preload/trace_line.h"

#include <errno.h>
#include <string.h>

/* Room for " = 18446744073709551615\n" is always kept. */
#define TAIL_BYTES 32u

static void append(struct trace_line *line, const char *text, size_t length, size_t keep_bytes)
{
    if (length <= sizeof(line->text) - keep_bytes - line->length) {
        memcpy(line->text + line->length, text, length);
        line->length += length;
    }
}

void line_text(struct trace_line *line, const char *text)
{
    append(line, text, strlen(text), TAIL_BYTES);
}

/* Digits at the end of @digits. Return: where they begin. */
#define DIGITS_BYTES 24u
static const char *spell(char digits[DIGITS_BYTES], uint64_t number, unsigned base)
{
    char *at = digits + DIGITS_BYTES - 1;

    *at = '\0';
    do {
        *--at = "0123456789abcdef"[number % base];
        number /= base;
    } while (number != 0);
    return at;
}

void line_decimal(struct trace_line *line, uint64_t number)
{
    char digits[DIGITS_BYTES];

    line_text(line, spell(digits, number, 10));
}

void line_hex(struct trace_line *line, uint64_t number)
{
    char digits[DIGITS_BYTES];

    line_text(line, "0x");
    line_text(line, spell(digits, number, 16));
}

void line_seconds(struct trace_line *line, uint64_t ns)
{
    char digits[DIGITS_BYTES];

    line_decimal(line, ns / 1000000000);
    line_text(line, ".");
    /* A million more, so that zeroes at the front are there; without its own digit. */
    line_text(line, spell(digits, 1000000 + ns / 1000 % 1000000, 10) + 1);
}

static void line_key(struct trace_line *line, const char *key)
{
    line_text(line, " ");
    line_text(line, key);
    line_text(line, "=");
}

void line_key_decimal(struct trace_line *line, const char *key, uint64_t number)
{
    line_key(line, key);
    line_decimal(line, number);
}

void line_key_hex(struct trace_line *line, const char *key, uint64_t number)
{
    line_key(line, key);
    line_hex(line, number);
}

void line_key_text(struct trace_line *line, const char *key, const char *text)
{
    char spelled[1024];
    size_t length = 0;

    for (; *text != '\0' && length < sizeof(spelled) - 4; text++) {
        unsigned char byte = (unsigned char)*text;

        if (byte > ' ' && byte != 0x7f && byte != '\\') {
            spelled[length++] = (char)byte;
        } else {
            spelled[length++] = '\\';
            spelled[length++] = 'x';
            spelled[length++] = "0123456789abcdef"[byte >> 4];
            spelled[length++] = "0123456789abcdef"[byte & 15];
        }
    }
    line_key(line, key);
    append(line, spelled, length, TAIL_BYTES);
}

void line_result(struct trace_line *line, long result)
{
    const char *error = result < 0 ? strerrorname_np((int)-result) : NULL;
    char digits[DIGITS_BYTES];
    const char *number = spell(digits, (uint64_t)(result < 0 ? -result : result), 10);
    const char *word = error != NULL ? error : number;

    append(line, " = ", 3, 0);
    append(line, word, strlen(word), 0);
    append(line, "\n", 1, 0);
}
