/*
 * trace_map.h - a sorted array of pointers by a key of two numbers: slots by address space and
 * address, descriptors by process and number.
 */
#ifndef TOOL_TRACE_MAP_H
#define TOOL_TRACE_MAP_H

#include <stddef.h>
#include <stdint.h>

struct trace_map_entry {
    uint64_t high;
    uint64_t low;
    void *item;
};

/* All zeros is an empty one. Items are the caller's. */
struct trace_map {
    struct trace_map_entry *entries;
    size_t count;
    size_t capacity;
};

/* The place of the first entry that is not below a key. */
size_t trace_map_place(const struct trace_map *map, uint64_t high, uint64_t low);

/* The item with just this key, or NULL. */
void *trace_map_find(const struct trace_map *map, uint64_t high, uint64_t low);

/* Set a key's item. Return: the one that it replaces, or NULL. */
void *trace_map_set(struct trace_map *map, uint64_t high, uint64_t low, void *item);

void trace_map_remove_at(struct trace_map *map, size_t place);
/* Return: the item that had the key, or NULL. */
void *trace_map_remove(struct trace_map *map, uint64_t high, uint64_t low);

/* Free the array, and, if @free_item is not NULL, each item by it. */
void trace_map_fini(struct trace_map *map, void (*free_item)(void *));

#endif
