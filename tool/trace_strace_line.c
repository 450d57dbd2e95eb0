/* trace_strace_line.c - taking one line of strace's output apart. */
#include "trace_strace.h"

#include <string.h>

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static struct word skip_blanks(struct word word)
{
    while (word.length > 0 && (*word.text == ' ' || *word.text == '\t')) {
        word = (struct word){word.text + 1, word.length - 1};
    }
    while (word.length > 0 && word.text[word.length - 1] == ' ') {
        word.length--;
    }
    return word;
}

static struct word from(struct word word, size_t count)
{
    return (struct word){word.text + count, word.length - count};
}

static bool starts(struct word word, const char *prefix)
{
    size_t length = strlen(prefix);

    return word.length >= length && memcmp(word.text, prefix, length) == 0;
}

static bool ends(struct word word, const char *suffix)
{
    size_t length = strlen(suffix);

    return word.length >= length && memcmp(word.text + word.length - length, suffix, length) == 0;
}

/* How long a <...> is that the word begins with, nested ones included; 0 if it does not end. */
static size_t angle_length(struct word word)
{
    size_t depth = 0;
    size_t i;

    for (i = 0; i < word.length; i++) {
        depth += word.text[i] == '<';
        depth -= word.text[i] == '>';
        if (depth == 0) {
            return i + 1;
        }
    }
    return 0;
}

/* ---- what stands before a call ---- */

static bool parse_tid(struct word word, uint32_t *tid)
{
    uint64_t wide;

    /* Linux' largest number of a thread is 2^22; larger ones are times in whole seconds. */
    if (!trace_number(word, &wide) || wide == 0 || wide > 1u << 22) {
        return false;
    }
    *tid = (uint32_t)wide;
    return true;
}

/* `N ` or `N<name> `, or either in `[pid ...]`. Return: what stands after it. */
static struct word take_tid(struct word word, struct strace_line *line)
{
    struct word rest = starts(word, "[pid ") ? skip_blanks(from(word, 5)) : word;
    struct word number = rest;
    bool is_bracketed = rest.text != word.text;

    number.length = 0;
    while (number.length < rest.length && is_digit(rest.text[number.length])) {
        number.length++;
    }
    rest = from(rest, number.length);
    if (starts(rest, "<")) {
        rest = from(rest, angle_length(rest));
    }
    if (rest.length == 0 || *rest.text != (is_bracketed ? ']' : ' ') ||
        !parse_tid(number, &line->tid)) {
        return word;
    }
    return skip_blanks(from(rest, is_bracketed));
}

/* HH:MM:SS[.FRACTION] */
static bool parse_day(struct word word, uint64_t *us)
{
    uint64_t total = 0;
    int part;

    for (part = 0; part < 3; part++) {
        struct word text = part < 2 ? trace_split(&word, ':') : word;
        uint64_t value;

        if (text.length < 2 || text.length > 12 || (part < 2 && text.length != 2) ||
            !trace_seconds(text, &value) || value >= (part > 0 ? 61u : 25u) * 1000000u) {
            return false;
        }
        total = total * 60 + value;
    }
    *us = total;
    return true;
}

static bool parse_time(struct word word, struct strace_line *line)
{
    bool has_fraction = memchr(word.text, '.', word.length) != NULL;

    if (memchr(word.text, ':', word.length) != NULL) {
        line->clock = STRACE_DAY;
        line->is_coarse = !has_fraction;
        return parse_day(word, &line->time_us);
    }
    if (!trace_seconds(word, &line->time_us) || line->time_us > UINT64_MAX / 4) {
        return false;
    }
    /* Strace's epoch is 1970, so that its times have nine digits before the point, since 1973. */
    line->clock = line->time_us >= 100000000ull * 1000000 ? STRACE_EPOCH : STRACE_RELATIVE;
    line->is_coarse = !has_fraction;
    return line->clock == STRACE_EPOCH || has_fraction;
}

/* A time, `(+ SECONDS)` after it, and what -i and -n show in brackets. */
static struct word take_time(struct word word, struct strace_line *line)
{
    struct word rest = word;
    struct word first = trace_split(&rest, ' ');

    if (first.length > 0 && is_digit(*first.text) && parse_time(first, line)) {
        word = skip_blanks(rest);
    } else {
        line->clock = STRACE_NO_CLOCK;
    }
    if (starts(word, "(+")) {
        rest = word;
        trace_split(&rest, ')');
        word = skip_blanks(rest);
    }
    while (starts(word, "[")) {
        rest = word;
        trace_split(&rest, ']');
        word = skip_blanks(rest);
    }
    return word;
}

/* ---- a call and its result ---- */

static struct word take_name(struct word *rest)
{
    struct word name = *rest;

    name.length = 0;
    while (name.length < rest->length) {
        char c = rest->text[name.length];

        if (!(c >= 'a' && c <= 'z') && !is_digit(c) && c != '_') {
            break;
        }
        name.length++;
    }
    *rest = from(*rest, name.length);
    return name;
}

/* The last `)`, blanks, `= `: a result has none in it. Return: the place of the ), or -1. */
static ptrdiff_t find_result(struct word word)
{
    size_t i;

    for (i = word.length; i-- > 1;) {
        size_t before = i;

        if (word.text[i] != '=' || i + 1 >= word.length || word.text[i + 1] != ' ' ||
            word.text[i - 1] != ' ') {
            continue;
        }
        while (before > 0 && word.text[before - 1] == ' ') {
            before--;
        }
        if (before > 0 && word.text[before - 1] == ')') {
            return (ptrdiff_t)before - 1;
        }
    }
    return -1;
}

static void take_took(struct word *word, struct strace_line *line)
{
    size_t i = word->length;

    if (!ends(*word, ">")) {
        return;
    }
    while (i > 0 && word->text[i - 1] != '<') {
        i--;
    }
    if (i > 0 &&
        trace_seconds((struct word){word->text + i, word->length - i - 1}, &line->took_us)) {
        line->has_took = true;
        *word = skip_blanks((struct word){word->text, i - 1});
    }
}

static bool parse_result(struct word word, struct strace_line *line)
{
    struct word rest;
    struct word first;

    take_took(&word, line);
    rest = word;
    first = trace_split(&rest, ' ');
    line->result = TRACE_UNKNOWN;
    if (starts(first, "?")) {
        return true; /* the process ended, or the call is begun again after a signal */
    }
    if (starts(first, "-")) {
        line->error = trace_errno_name(trace_split(&rest, ' '));
        line->result = TRACE_ERROR;
        return line->error != NULL;
    }
    line->result = TRACE_SUCCESS;
    rest = first;
    first = trace_split(&rest, '<'); /* what -y shows of a descriptor */
    return trace_number(first, &line->value);
}

/* What follows `NAME(` or `<... NAME resumed>`. */
static void parse_call(struct word rest, struct strace_line *line, enum strace_kind whole)
{
    static const char unfinished[] = "<unfinished ...>";
    ptrdiff_t close = find_result(rest);

    if (close >= 0) {
        const char *equals = memchr(rest.text + close, '=', rest.length - (size_t)close);
        size_t at = (size_t)(equals - rest.text);

        line->arguments = skip_blanks((struct word){rest.text, (size_t)close});
        if (ends(line->arguments, unfinished)) { /* and never resumed */
            line->arguments.length -= strlen(unfinished);
        }
        line->kind = parse_result(skip_blanks(from(rest, at + 1)), line) ? whole : STRACE_FOREIGN;
    } else if (whole == STRACE_CALL && ends(rest, unfinished)) {
        rest.length -= strlen(unfinished);
        line->arguments = skip_blanks(rest);
        line->result = TRACE_UNKNOWN;
        line->kind = STRACE_BEGIN;
    }
}

static void parse_resumed(struct word word, struct strace_line *line)
{
    line->name = take_name(&word);
    word = skip_blanks(word);
    if (line->name.length > 0 && starts(word, "resumed>")) {
        parse_call(from(word, 8), line, STRACE_END);
    }
}

void strace_line_parse(const char *text, struct strace_line *line)
{
    struct word word = {text, strlen(text)};

    *line = (struct strace_line){.kind = STRACE_FOREIGN};
    if (starts(word, "strace: ")) {
        line->kind = STRACE_NOTE;
        return;
    }
    word = take_time(take_tid(word, line), line);
    if (starts(word, "--- ") && ends(word, " ---")) {
        line->kind = STRACE_NOTE;
    } else if (starts(word, "+++ ") && ends(word, " +++")) {
        line->kind =
            starts(word, "+++ exited") || starts(word, "+++ killed") ? STRACE_EXITED : STRACE_NOTE;
    } else if (starts(word, "<... ")) {
        parse_resumed(from(word, 5), line);
    } else {
        line->name = take_name(&word);
        if (line->name.length > 0 && starts(word, "(")) {
            parse_call(from(word, 1), line, STRACE_CALL);
        }
    }
}

/* ---- arguments ---- */

/* The place after a string that begins at @at. */
static size_t skip_string(struct word word, size_t at)
{
    for (at++; at < word.length && word.text[at] != '"'; at++) {
        at += word.text[at] == '\\';
    }
    return at;
}

struct word strace_argument(struct word *rest)
{
    struct word whole;
    size_t depth = 0;
    size_t i;

    for (i = 0; i < rest->length; i++) {
        char c = rest->text[i];

        if (c == ',' && depth == 0) {
            struct word first = skip_blanks((struct word){rest->text, i});

            *rest = skip_blanks(from(*rest, i + 1));
            return first;
        }
        if (c == '"') {
            i = skip_string(*rest, i);
        } else if (c == '(' || c == '[' || c == '{' || c == '<') {
            depth++;
        } else if (c == ')' || c == ']' || c == '}' || c == '>') {
            depth -= depth > 0;
        }
    }
    whole = skip_blanks(*rest);
    *rest = (struct word){rest->text + rest->length, 0};
    return whole;
}

bool strace_descriptor(struct word word, struct strace_descriptor *descriptor)
{
    struct word rest = word;
    struct word number = trace_split(&rest, '<');
    uint64_t wide;

    if (!trace_number(number, &wide) || wide > INT32_MAX) {
        return false;
    }
    descriptor->fd = (uint32_t)wide;
    descriptor->path = (struct word){rest.text, rest.length > 0 ? rest.length - 1 : 0};
    return true;
}
