/* ram/pagelist.c - a compact, ascending list of pages. */
#include "ram/pagelist.h"

#include "base/alloc.h"
#include "base/check.h"

#define WORD_PAGES 64u
#define ALL_PAGES (~(uint64_t)0)

void pagelist_init(struct pagelist *list, const struct gm_allocator *allocator)
{
    list->allocator = allocator;
    list->page_count = 0;
    list->first.next = NULL;
    list->first.used = 0;
    list->first.capacity = PAGELIST_FIRST_ITEMS;
    list->first.items = list->first_items;
    list->last = &list->first;
    list->cursor = (struct pagelist_cursor){.chunk = &list->first};
}

void pagelist_fini(struct pagelist *list)
{
    struct pagelist_chunk *chunk = list->first.next;

    while (chunk != NULL) {
        struct pagelist_chunk *next = chunk->next;

        mem_free(list->allocator, chunk);
        chunk = next;
    }
}

bool pagelist_reserve(struct pagelist *list)
{
    size_t items_bytes = PAGELIST_CHUNK_ITEMS * sizeof(struct page_words);
    struct pagelist_chunk *chunk;

    if (list->last->used < list->last->capacity) {
        return true;
    }
    chunk = mem_alloc(list->allocator, sizeof(*chunk) + items_bytes);
    if (chunk == NULL) {
        return false;
    }
    chunk->next = NULL;
    chunk->used = 0;
    chunk->capacity = PAGELIST_CHUNK_ITEMS;
    chunk->items = (struct page_words *)(chunk + 1);
    list->last->next = chunk;
    list->last = chunk;
    return true;
}

void pagelist_append(struct pagelist *list, uint64_t word, uint64_t bits)
{
    struct pagelist_chunk *chunk = list->last;
    struct page_words *item = chunk->used > 0 ? &chunk->items[chunk->used - 1] : NULL;

    list->page_count += (uint64_t)__builtin_popcountll(bits);
    if (item != NULL && item->word + item->count == word && item->bits == bits) {
        item->count++;
        return;
    }
    GM_ASSERT(bits != 0 && chunk->used < chunk->capacity);
    chunk->items[chunk->used] = (struct page_words){.word = word, .count = 1, .bits = bits};
    chunk->used++;
}

/* Go to the next word of the list; its pages are then all in cursor->bits. */
static bool step(struct pagelist_cursor *cursor)
{
    const struct page_words *item;

    if (cursor->words_left > 0) {
        cursor->word++;
        cursor->words_left--;
        cursor->bits = cursor->item_bits;
        return true;
    }
    if (cursor->next_item == cursor->chunk->used) {
        /* Room that was reserved last may have gone unused: another harvest took the pages first. */
        if (cursor->chunk->next == NULL || cursor->chunk->next->used == 0) {
            return false;
        }
        cursor->chunk = cursor->chunk->next;
        cursor->next_item = 0;
    }
    item = &cursor->chunk->items[cursor->next_item];
    cursor->next_item++;
    cursor->word = item->word;
    cursor->words_left = item->count - 1;
    cursor->item_bits = item->bits;
    cursor->bits = item->bits;
    return true;
}

/* Take the run of pages that begins at page @start of the current word; returns the page after it. */
static uint64_t take_run(struct pagelist_cursor *cursor, unsigned start)
{
    uint64_t beyond = ~(cursor->bits >> start);
    unsigned length = beyond != 0 ? (unsigned)__builtin_ctzll(beyond) : WORD_PAGES;
    unsigned end = start + length;

    cursor->bits = end < WORD_PAGES ? cursor->bits & (ALL_PAGES << end) : 0;
    if (cursor->item_bits == ALL_PAGES) { /* the rest of such a stretch needs no loop */
        cursor->word += cursor->words_left;
        cursor->words_left = 0;
        end = WORD_PAGES;
    }
    return cursor->word * WORD_PAGES + end;
}

bool pagelist_next(struct pagelist *list, uint64_t *first_page, uint64_t *last_page)
{
    struct pagelist_cursor *cursor = &list->cursor;
    uint64_t end;
    unsigned start;

    if (cursor->bits == 0 && !step(cursor)) {
        return false;
    }
    start = (unsigned)__builtin_ctzll(cursor->bits);
    *first_page = cursor->word * WORD_PAGES + start;
    end = take_run(cursor, start);
    while (end == (cursor->word + 1) * WORD_PAGES) {
        if (!step(cursor) || cursor->word * WORD_PAGES != end || (cursor->bits & 1) == 0) {
            break;
        }
        end = take_run(cursor, 0);
    }
    *last_page = end - 1;
    return true;
}
