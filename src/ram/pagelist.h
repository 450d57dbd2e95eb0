/*
 * ram/pagelist.h - a compact, ascending list of pages: what a harvest holds.
 *
 * An item is a word of 64 pages, or a stretch of neighbouring words with the same pages set, so that
 * a fully dirty block takes one item and a sparse one 24 bytes for each word that has a page.
 */
#ifndef RAM_PAGELIST_H
#define RAM_PAGELIST_H

#include <guestmem/types.h>

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Inside the list itself, so that a small harvest allocates no more; and in each chunk, 24 KiB. */
#define PAGELIST_FIRST_ITEMS 16u
#define PAGELIST_CHUNK_ITEMS 1000u

/* Words [word, word + count) of 64 pages, each with the pages @bits, which are not 0. */
struct page_words {
    uint64_t word;
    uint64_t count;
    uint64_t bits;
};

struct pagelist_chunk {
    struct pagelist_chunk *next;
    size_t used;
    size_t capacity;
    struct page_words *items;
};

/* How far pagelist_next() has come: the word that it is in, and its pages not yet returned. */
struct pagelist_cursor {
    const struct pagelist_chunk *chunk;
    size_t next_item;
    uint64_t word;
    uint64_t words_left; /* of the item, after this word */
    uint64_t item_bits;
    uint64_t bits;
};

struct pagelist {
    const struct gm_allocator *allocator; /* borrowed */
    uint64_t page_count;
    struct pagelist_chunk *last;
    struct pagelist_cursor cursor;
    struct pagelist_chunk first;
    struct page_words first_items[PAGELIST_FIRST_ITEMS];
};

void pagelist_init(struct pagelist *list, const struct gm_allocator *allocator);
void pagelist_fini(struct pagelist *list);

/* Make room for one more pagelist_append(). False: no memory, and nothing has changed. */
bool pagelist_reserve(struct pagelist *list);

/* Append the pages @bits (not 0) of @word, which comes after all words before it. Room is reserved. */
void pagelist_append(struct pagelist *list, uint64_t word, uint64_t bits);

/* The next run of neighbouring pages, as long as it goes; false at the end. */
bool pagelist_next(struct pagelist *list, uint64_t *first_page, uint64_t *last_page);

#endif
