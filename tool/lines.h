/*
 * lines.h - reading the tool's text formats: a line is a word, then fields, then maybe a name.
 *
 * Fields are separated by blanks. Empty lines, and lines that begin with #, are passed over, the
 * latter unless they are asked for.
 * Whoever finds something wrong says so with lines_error() and returns what that returns, -1.
 */
#ifndef TOOL_LINES_H
#define TOOL_LINES_H

#include <guestmem/types.h>

#include <stdbool.h>
#include <stdio.h>

struct lines {
    FILE *file;
    const char *path;     /* borrowed; as it stands in messages */
    unsigned long number; /* of the current line, from 1 */
    bool is_cut;          /* the current line is the last, and does not end with a newline */
    char *text;           /* the current line, without blanks around it */
    const char *next;     /* what of it has not been taken yet */
    char *buffer;
    size_t capacity;
};

/* A field of the current line; not terminated. */
struct word {
    const char *text;
    size_t length;
};

/* Open a file; "-" is stdin. Return: 0; -1 the user has been told why not. Close it after both. */
int lines_open(struct lines *lines, const char *path);
void lines_close(struct lines *lines);

/* Go to the next line with something on it. Return: 1; 0 at the end; -1 it cannot be read. */
int lines_next(struct lines *lines);
/* The same, but a line that begins with # is one, too. */
int lines_next_or_comment(struct lines *lines);

/* `FILE:LINE: ...` on stderr. Return: -1. */
int lines_error(const struct lines *lines, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
/* The same about an earlier line. */
int lines_error_at(const struct lines *lines, unsigned long number, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

bool word_is(struct word word, const char *text);

/* Take the line's next field. @what: how the formats call it. Return: 0; -1 there is none. */
int take_word(struct lines *lines, const char *what, struct word *word);

/* Take a number: hexadecimal without prefix and at most @max; decimal; with a sign, to
 * base 10 or 16. */
int take_hex(struct lines *lines, const char *what, gm_size_t max, gm_size_t *value);
int take_hex64(struct lines *lines, const char *what, uint64_t *value);
int take_decimal(struct lines *lines, const char *what, uint32_t *value);
int take_signed(struct lines *lines, const char *what, unsigned base, int32_t *value);

/* Take all that is left, blanks in it included; may be empty. The caller frees it. */
char *take_rest(struct lines *lines);

/* Is anything left? take_end() says so if there is. */
bool has_more(const struct lines *lines);
int take_end(struct lines *lines);

#endif
