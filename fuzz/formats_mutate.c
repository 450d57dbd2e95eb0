/* fuzz/formats_mutate.c - under clang's libFuzzer: lines and numbers are exchanged as a whole, beside what it does by itself. */
#include "fuzz.h"

#include "model/random.h"

#include <stdio.h>
#include <string.h>

/* libFuzzer's interface (LLVM, FuzzerInterface.h). */
size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max_size, unsigned seed);
size_t LLVMFuzzerMutate(uint8_t *data, size_t size, size_t max_size);

struct text {
    uint8_t *bytes;
    size_t size, max;
    struct rnd rnd;
};

/* [*from, *end) becomes @with. */
static void replace(struct text *text, size_t from, size_t end, const void *with, size_t count)
{
    if (text->size - (end - from) + count > text->max) {
        return;
    }
    memmove(text->bytes + from + count, text->bytes + end, text->size - end);
    memcpy(text->bytes + from, with, count);
    text->size = text->size - (end - from) + count;
}

/* A line, with its end. The first byte of an input is none. */
static void some_line(struct text *text, size_t *from, size_t *end)
{
    size_t at = 1 + rnd_below(&text->rnd, text->size - 1);

    for (*from = at; *from > 1 && text->bytes[*from - 1] != '\n'; (*from)--) {
    }
    for (*end = at; *end < text->size && text->bytes[*end] != '\n'; (*end)++) {
    }
    *end += *end < text->size;
}

static bool is_word(uint8_t byte)
{
    return (byte >= '0' && byte <= '9') || (byte >= 'a' && byte <= 'z') ||
           (byte >= 'A' && byte <= 'Z') || byte == '_';
}

static void some_word(struct text *text, size_t *from, size_t *end)
{
    size_t at = 1 + rnd_below(&text->rnd, text->size - 1);

    for (; at < text->size && !is_word(text->bytes[at]); at++) {
    }
    for (*from = at; *from > 1 && is_word(text->bytes[*from - 1]); (*from)--) {
    }
    for (*end = at; *end < text->size && is_word(text->bytes[*end]); (*end)++) {
    }
}

static void copy_line(struct text *text)
{
    uint8_t line[256];
    size_t from, end, at, end_of_at, count;

    some_line(text, &from, &end);
    some_line(text, &at, &end_of_at);
    count = end - from < sizeof(line) ? end - from : sizeof(line);
    memcpy(line, text->bytes + from, count);
    replace(text, at, rnd_one_in(&text->rnd, 3) ? end_of_at : at, line, count);
}

static void drop_line(struct text *text)
{
    size_t from, end;

    some_line(text, &from, &end);
    replace(text, from, end, "", 0);
}

static void copy_word(struct text *text)
{
    uint8_t word[64];
    size_t from, end, at, end_of_at, count;

    some_word(text, &from, &end);
    some_word(text, &at, &end_of_at);
    count = end - from < sizeof(word) ? end - from : sizeof(word);
    memcpy(word, text->bytes + from, count);
    replace(text, at, end_of_at, word, count);
}

static void change_number(struct text *text)
{
    static const char *const numbers[] = {"0",
                                          "1",
                                          "2",
                                          "3",
                                          "8",
                                          "10",
                                          "1000",
                                          "fff",
                                          "1001",
                                          "2000",
                                          "40000",
                                          "ffffffff",
                                          "100000000",
                                          "7fffffff",
                                          "80000000",
                                          "ffffffffffffffff",
                                          "fffffffffffff000",
                                          "10000000000000000",
                                          "0x1000",
                                          "0xffffffffffffffff",
                                          "18446744073709551615",
                                          "4294967295"};
    const char *number = numbers[rnd_below(&text->rnd, sizeof(numbers) / sizeof(numbers[0]))];
    size_t from, end;

    some_word(text, &from, &end);
    replace(text, from, end, number, strlen(number));
}

size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max_size, unsigned seed)
{
    struct text text = {.bytes = data, .size = size, .max = max_size, .rnd = {seed}};

    if (size < 3 || rnd_one_in(&text.rnd, 3)) {
        return LLVMFuzzerMutate(data, size, max_size);
    }
    for (unsigned i = 0; i <= rnd_below(&text.rnd, 3) && text.size >= 3; i++) {
        switch (rnd_below(&text.rnd, 4)) {
        case 0:
            copy_line(&text);
            break;
        case 1:
            drop_line(&text);
            break;
        case 2:
            copy_word(&text);
            break;
        default:
            change_number(&text);
            break;
        }
    }
    return text.size;
}
