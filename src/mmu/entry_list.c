/* mmu/entry_list.c - lists of entries: one inline, then chunks. */
#include "mmu/entry_list.h"

#include "base/alloc.h"
#include "base/check.h"

#include <errno.h>

#define IS_CHUNK ((uintptr_t)1)

_Static_assert(sizeof(struct entry_chunk) == 128, "two cache lines");

static struct entry_chunk *chunk_of(const struct entry_list *list)
{
    return (list->word & IS_CHUNK) != 0 ? (struct entry_chunk *)(list->word & ~IS_CHUNK) : NULL;
}

static void set_chunk(struct entry_list *list, struct entry_chunk *chunk)
{
    list->word = chunk != NULL ? (uintptr_t)chunk | IS_CHUNK : 0;
}

int chunk_stock_fill(struct chunk_stock *stock, const struct gm_allocator *allocator,
                     unsigned count)
{
    while (stock->count < count) {
        struct entry_chunk *chunk = mem_alloc(allocator, sizeof(*chunk));

        if (chunk == NULL) {
            return -ENOMEM;
        }
        chunk->next = stock->first;
        stock->first = chunk;
        stock->count++;
    }
    return 0;
}

void chunk_stock_drain(struct chunk_stock *stock, const struct gm_allocator *allocator)
{
    while (stock->first != NULL) {
        struct entry_chunk *chunk = stock->first;

        stock->first = chunk->next;
        mem_free(allocator, chunk);
    }
    stock->count = 0;
}

/* A chunk in front of @next. */
static struct entry_chunk *take_chunk(struct chunk_stock *stock, struct entry_chunk *next)
{
    struct entry_chunk *chunk = stock->first;

    GM_ASSERT(chunk != NULL);
    stock->first = chunk->next;
    stock->count--;
    chunk->next = next;
    chunk->count = 0;
    return chunk;
}

static void push(struct entry_chunk *chunk, uint64_t *entry)
{
    chunk->entries[chunk->count] = entry;
    chunk->count++;
}

void entry_list_add(struct entry_list *list, uint64_t *entry, struct chunk_stock *stock)
{
    struct entry_chunk *chunk = chunk_of(list);

    if (list->word == 0) {
        list->word = (uintptr_t)entry;
        return;
    }
    if (chunk == NULL) {
        chunk = take_chunk(stock, NULL);
        push(chunk, (uint64_t *)list->word);
        set_chunk(list, chunk);
    } else if (chunk->count == ENTRY_CHUNK_MAX) {
        chunk = take_chunk(stock, chunk);
        set_chunk(list, chunk);
    }
    push(chunk, entry);
}

/* Where the entry is. */
static uint64_t **find(struct entry_chunk *chunk, const uint64_t *entry)
{
    for (; chunk != NULL; chunk = chunk->next) {
        for (uint64_t i = 0; i < chunk->count; i++) {
            if (chunk->entries[i] == entry) {
                return &chunk->entries[i];
            }
        }
    }
    return NULL;
}

void entry_list_remove(struct entry_list *list, uint64_t *entry,
                       const struct gm_allocator *allocator)
{
    struct entry_chunk *first = chunk_of(list);
    uint64_t **place;

    if (first == NULL) {
        GM_ASSERT(list->word == (uintptr_t)entry);
        list->word = 0;
        return;
    }
    place = find(first, entry);
    GM_ASSERT(place != NULL);
    /* The last of the first chunk takes its place. */
    first->count--;
    *place = first->entries[first->count];
    if (first->count == 0) {
        set_chunk(list, first->next);
        mem_free(allocator, first);
    }
}

uint64_t *entry_list_any(const struct entry_list *list)
{
    const struct entry_chunk *chunk = chunk_of(list);

    return chunk != NULL ? chunk->entries[chunk->count - 1] : (uint64_t *)list->word;
}

struct entry_cursor entry_list_begin(const struct entry_list *list)
{
    const struct entry_chunk *chunk = chunk_of(list);

    return (struct entry_cursor){.one = chunk == NULL ? (uint64_t *)list->word : NULL,
                                 .chunk = chunk};
}

uint64_t *entry_cursor_next(struct entry_cursor *cursor)
{
    uint64_t *entry = cursor->one;

    cursor->one = NULL;
    if (cursor->chunk != NULL) {
        entry = cursor->chunk->entries[cursor->index];
        cursor->index++;
        if (cursor->index == cursor->chunk->count) {
            cursor->chunk = cursor->chunk->next;
            cursor->index = 0;
        }
    }
    return entry;
}
