/*
 * mmu/entry_list.h - which entries lead to something: those that lead to a shadow page (its parents), and
 * those that map a guest frame (its reverse map, rmap).
 *
 * Most lists have one entry, which is held inline; more lie in chunks. In no order.
 */
#ifndef MMU_ENTRY_LIST_H
#define MMU_ENTRY_LIST_H

#include <guestmem/types.h>

#include <stdbool.h>
#include <stdint.h>

#define ENTRY_CHUNK_MAX 14u

/* 128 bytes. Only the first chunk of a list may have room, and none is empty. */
struct entry_chunk {
    struct entry_chunk *next;
    uint64_t count;
    uint64_t *entries[ENTRY_CHUNK_MAX];
};

/* Zeroed: empty. */
struct entry_list {
    uintptr_t word; /* the one entry; or a chunk, with bit 0 set */
};

/* Chunks for lists that grow while a lock is held. */
struct chunk_stock {
    struct entry_chunk *first;
    unsigned count;
};

/* Stock up to @count chunks. Return: 0; -ENOMEM. */
int chunk_stock_fill(struct chunk_stock *stock, const struct gm_allocator *allocator,
                     unsigned count);
void chunk_stock_drain(struct chunk_stock *stock, const struct gm_allocator *allocator);

static inline bool entry_list_is_empty(const struct entry_list *list)
{
    return list->word == 0;
}

/* Add an entry that is not in it. The stock has a chunk. */
void entry_list_add(struct entry_list *list, uint64_t *entry, struct chunk_stock *stock);

/* Remove an entry that is in it. */
void entry_list_remove(struct entry_list *list, uint64_t *entry,
                       const struct gm_allocator *allocator);

/* Any entry of it; NULL: it is empty. */
uint64_t *entry_list_any(const struct entry_list *list);

/* Each entry once; the list must not change meanwhile. */
struct entry_cursor {
    uint64_t *one;
    const struct entry_chunk *chunk;
    uint64_t index;
};
struct entry_cursor entry_list_begin(const struct entry_list *list);
/* NULL: that was the last. */
uint64_t *entry_cursor_next(struct entry_cursor *cursor);

#endif
