/* lines.c - lines of a text file, and the fields on them. */
#include "lines.h"

#include "tool.h"

#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

static bool is_blank(char c)
{
    return c == ' ' || c == '\t';
}

int lines_open(struct lines *lines, const char *path)
{
    *lines = (struct lines){.path = path};
    if (strcmp(path, "-") == 0) {
        lines->path = "stdin";
        lines->file = stdin;
        return 0;
    }
    lines->file = fopen(path, "re");
    if (lines->file == NULL) {
        tool_error("cannot open %s: %s", path, strerror(errno));
        return -1;
    }
    return 0;
}

void lines_close(struct lines *lines)
{
    if (lines->file != NULL && lines->file != stdin) {
        fclose(lines->file);
    }
    free(lines->buffer);
}

/* Cut off the end of line and the blanks around what remains. */
static void trim(struct lines *lines, size_t length)
{
    char *text = lines->buffer;

    if (length > 0 && text[length - 1] == '\n') {
        length--;
    }
    while (length > 0 && is_blank(text[length - 1])) {
        length--;
    }
    text[length] = '\0';
    while (is_blank(*text)) {
        text++;
    }
    lines->text = text;
    lines->next = text;
}

int lines_next_or_comment(struct lines *lines)
{
    ssize_t length;

    while ((length = getline(&lines->buffer, &lines->capacity, lines->file)) >= 0) {
        lines->number++;
        if (memchr(lines->buffer, '\0', (size_t)length) != NULL) {
            return lines_error(lines, "a zero byte: this is not a text file");
        }
        lines->is_cut = lines->buffer[length - 1] != '\n';
        trim(lines, (size_t)length);
        if (*lines->text != '\0') {
            return 1;
        }
    }
    if (ferror(lines->file)) {
        tool_error("cannot read %s: %s", lines->path, strerror(errno));
        return -1;
    }
    return 0;
}

int lines_next(struct lines *lines)
{
    int result;

    do {
        result = lines_next_or_comment(lines);
    } while (result == 1 && *lines->text == '#');
    return result;
}

static int error_at(const struct lines *lines, unsigned long number, const char *format,
                    va_list arguments)
{
    char text[400];
    char *c;

    vsnprintf(text, sizeof(text), format, arguments);
    for (c = text; *c != '\0'; c++) {
        if ((unsigned char)*c < ' ' || *c == 0x7f) {
            *c = '?'; /* the file's bytes do not get to steer the terminal */
        }
    }
    fprintf(stderr, "%s:%lu: %s\n", lines->path, number, text);
    return -1;
}

int lines_error(const struct lines *lines, const char *format, ...)
{
    va_list arguments;

    va_start(arguments, format);
    error_at(lines, lines->number, format, arguments);
    va_end(arguments);
    return -1;
}

int lines_error_at(const struct lines *lines, unsigned long number, const char *format, ...)
{
    va_list arguments;

    va_start(arguments, format);
    error_at(lines, number, format, arguments);
    va_end(arguments);
    return -1;
}

bool word_is(struct word word, const char *text)
{
    return strlen(text) == word.length && memcmp(word.text, text, word.length) == 0;
}

bool has_more(const struct lines *lines)
{
    return *lines->next != '\0';
}

int take_word(struct lines *lines, const char *what, struct word *word)
{
    const char *end = lines->next;

    if (!has_more(lines)) {
        return lines_error(lines, "%s is missing", what);
    }
    while (*end != '\0' && !is_blank(*end)) {
        end++;
    }
    *word = (struct word){lines->next, (size_t)(end - lines->next)};
    while (is_blank(*end)) {
        end++;
    }
    lines->next = end;
    return 0;
}

/* A word in a message: not so long that it hides the rest. */
static int shown(struct word word)
{
    return word.length < 60 ? (int)word.length : 60;
}

static int digit_of(char c)
{
    if (c >= '0' && c <= '9') {
        return c - '0';
    }
    if (c >= 'a' && c <= 'f') {
        return c - 'a' + 10;
    }
    return c >= 'A' && c <= 'F' ? c - 'A' + 10 : 16;
}

enum number { NUMBER_GOOD, NUMBER_NONE, NUMBER_TOO_LARGE };

static enum number parse(struct word word, unsigned base, gm_size_t max, gm_size_t *value)
{
    bool is_too_large = false;
    size_t i;

    *value = 0;
    for (i = 0; i < word.length; i++) {
        unsigned digit = (unsigned)digit_of(word.text[i]);

        if (digit >= base) {
            return NUMBER_NONE;
        }
        /* max is at most 2^64: this product fits in 128 bits as long as it has not been passed. */
        if (!is_too_large) {
            *value = *value * base + digit;
            is_too_large = *value > max;
        }
    }
    if (word.length == 0) {
        return NUMBER_NONE;
    }
    return is_too_large ? NUMBER_TOO_LARGE : NUMBER_GOOD;
}

int take_hex(struct lines *lines, const char *what, gm_size_t max, gm_size_t *value)
{
    struct word word;

    if (take_word(lines, what, &word) != 0) {
        return -1;
    }
    switch (parse(word, 16, max, value)) {
    case NUMBER_GOOD:
        return 0;
    case NUMBER_NONE:
        return lines_error(lines, "%s '%.*s' is not a hexadecimal number without prefix", what,
                           shown(word), word.text);
    default:
        return lines_error(lines, "%s %.*s is too large", what, shown(word), word.text);
    }
}

int take_hex64(struct lines *lines, const char *what, uint64_t *value)
{
    gm_size_t wide;
    int result = take_hex(lines, what, UINT64_MAX, &wide);

    *value = (uint64_t)wide;
    return result;
}

int take_decimal(struct lines *lines, const char *what, uint32_t *value)
{
    struct word word;
    gm_size_t wide;

    if (take_word(lines, what, &word) != 0) {
        return -1;
    }
    switch (parse(word, 10, UINT32_MAX, &wide)) {
    case NUMBER_GOOD:
        *value = (uint32_t)wide;
        return 0;
    case NUMBER_NONE:
        return lines_error(lines, "%s '%.*s' is not a decimal number", what, shown(word),
                           word.text);
    default:
        return lines_error(lines, "%s %.*s is too large", what, shown(word), word.text);
    }
}

int take_signed(struct lines *lines, const char *what, unsigned base, int32_t *value)
{
    struct word word;
    struct word digits;
    bool is_negative;
    gm_size_t wide;

    if (take_word(lines, what, &word) != 0) {
        return -1;
    }
    is_negative = word.text[0] == '-';
    digits = (struct word){word.text + is_negative, word.length - is_negative};
    switch (parse(digits, base, (gm_size_t)INT32_MAX + is_negative, &wide)) {
    case NUMBER_GOOD:
        *value = (int32_t)(is_negative ? -(int64_t)wide : (int64_t)wide);
        return 0;
    case NUMBER_NONE:
        return lines_error(lines, "%s '%.*s' is not a %s number", what, shown(word), word.text,
                           base == 10 ? "decimal" : "hexadecimal");
    default:
        return lines_error(lines, "%s %.*s does not fit in 32 bits", what, shown(word), word.text);
    }
}

char *take_rest(struct lines *lines)
{
    char *rest = tool_strndup(lines->next, strlen(lines->next));

    lines->next += strlen(lines->next);
    return rest;
}

int take_end(struct lines *lines)
{
    if (has_more(lines)) {
        return lines_error(lines, "'%.60s' is one field too many", lines->next);
    }
    return 0;
}
