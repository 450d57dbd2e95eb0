/* guest/work/lz.c - a text is packed by earlier occurrences of its parts (LZ77), and unpacked to the same again. */
#include "guest/work/work.h"

#include <string.h>

#define TEXT_BYTES 20000u
#define HASHES 4096u
#define MATCH_MIN 4u
#define MATCH_MAX 130u

static void make_text(uint8_t *text, uint64_t *state)
{
    static const char *const words[] = {
        "region ", "view ", "slot ",  "page ", "table ", "entry ",   "of ",     "the ", "a ",
        "vCPU ",   "and ",  "fault ", "is ",   "dirty ", "guest's ", "memory ", ", ",   ".\n"};
    size_t at = 0;

    while (at < TEXT_BYTES) {
        const char *word = words[random_next(state) % (sizeof(words) / sizeof(words[0]))];

        for (; *word != '\0' && at < TEXT_BYTES; word++) {
            text[at++] = (uint8_t)*word;
        }
    }
}

static uint32_t hash_at(const uint8_t *text)
{
    uint32_t word;

    memcpy(&word, text, sizeof(word));
    return word * 2654435761u >> 20;
}

static size_t match_length(const uint8_t *a, const uint8_t *b, const uint8_t *end)
{
    size_t count = 0;

    while (count < MATCH_MAX && b + count < end && a[count] == b[count]) {
        count++;
    }
    return count;
}

/* Bytes below 128: so many and one more as they are; others: a length, and how far back. */
static size_t pack(const uint8_t *text, size_t count, uint8_t *packed, int32_t *heads)
{
    size_t at = 0, plain = 0, out = 0;

    for (size_t i = 0; i < HASHES; i++) {
        heads[i] = -1;
    }
    while (at < count) {
        size_t length = 0, back = 0;

        if (at + MATCH_MIN <= count) {
            int32_t *head = &heads[hash_at(text + at)];

            if (*head >= 0 && at - (size_t)*head < 65536) {
                back = at - (size_t)*head;
                length = match_length(text + *head, text + at, text + count);
            }
            *head = (int32_t)at;
        }
        if (length >= MATCH_MIN) {
            packed[out++] = (uint8_t)(128 + (length - MATCH_MIN));
            packed[out++] = (uint8_t)back;
            packed[out++] = (uint8_t)(back >> 8);
            at += length;
            plain = 0;
        } else {
            if (plain == 0 || plain == 128) {
                packed[out++] = 0;
                plain = 0;
            } else {
                packed[out - plain - 1]++;
            }
            packed[out++] = text[at++];
            plain++;
        }
    }
    return out;
}

static size_t unpack(const uint8_t *packed, size_t count, uint8_t *text)
{
    size_t at = 0, out = 0;

    while (at < count) {
        size_t length = packed[at++];

        if (length < 128) {
            memcpy(text + out, packed + at, length + 1);
            at += length + 1;
            out += length + 1;
        } else {
            size_t back = packed[at] | (size_t)packed[at + 1] << 8;

            at += 2;
            for (length = length - 128 + MATCH_MIN; length > 0; length--, out++) {
                text[out] = text[out - back];
            }
        }
    }
    return out;
}

uint64_t work_lz(uint64_t rounds)
{
    uint8_t *text = heap_new(TEXT_BYTES), *again = heap_new(TEXT_BYTES);
    uint8_t *packed = heap_new(2 * TEXT_BYTES);
    int32_t *heads = heap_new(HASHES * sizeof(*heads));
    uint64_t state = 99, sum = 0;

    while (rounds-- > 0) {
        size_t count;

        make_text(text, &state);
        count = pack(text, TEXT_BYTES, packed, heads);
        work_require(unpack(packed, count, again) == TEXT_BYTES &&
                         memcmp(text, again, TEXT_BYTES) == 0,
                     "what was unpacked is not what was packed");
        sum = fold(sum, count);
        for (size_t i = 0; i < count; i += 5) {
            sum = fold(sum, packed[i]);
        }
    }
    heap_free(heads);
    heap_free(packed);
    heap_free(again);
    heap_free(text);
    return sum;
}
