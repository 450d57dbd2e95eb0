/* trace_map.c - a sorted array of pointers by a key of two numbers. */
#include "trace_map.h"

#include "tool.h"

#include <stdlib.h>
#include <string.h>

size_t trace_map_place(const struct trace_map *map, uint64_t high, uint64_t low)
{
    size_t first = 0;
    size_t end = map->count;

    while (first < end) {
        size_t middle = first + (end - first) / 2;
        const struct trace_map_entry *entry = &map->entries[middle];

        if (entry->high < high || (entry->high == high && entry->low < low)) {
            first = middle + 1;
        } else {
            end = middle;
        }
    }
    return first;
}

static struct trace_map_entry *entry_of(const struct trace_map *map, uint64_t high, uint64_t low)
{
    size_t place = trace_map_place(map, high, low);

    if (place == map->count || map->entries[place].high != high || map->entries[place].low != low) {
        return NULL;
    }
    return &map->entries[place];
}

void *trace_map_find(const struct trace_map *map, uint64_t high, uint64_t low)
{
    const struct trace_map_entry *entry = entry_of(map, high, low);

    return entry != NULL ? entry->item : NULL;
}

void *trace_map_set(struct trace_map *map, uint64_t high, uint64_t low, void *item)
{
    struct trace_map_entry *entry = entry_of(map, high, low);
    void *old = NULL;

    if (entry != NULL) {
        old = entry->item;
    } else {
        size_t place = trace_map_place(map, high, low);

        map->entries =
            tool_reserve(map->entries, &map->capacity, map->count + 1, sizeof(map->entries[0]));
        entry = &map->entries[place];
        memmove(entry + 1, entry, (map->count - place) * sizeof(*entry));
        map->count++;
    }
    *entry = (struct trace_map_entry){high, low, item};
    return old;
}

void trace_map_remove_at(struct trace_map *map, size_t place)
{
    map->count--;
    memmove(&map->entries[place], &map->entries[place + 1],
            (map->count - place) * sizeof(map->entries[0]));
}

void *trace_map_remove(struct trace_map *map, uint64_t high, uint64_t low)
{
    struct trace_map_entry *entry = entry_of(map, high, low);
    void *item = NULL;

    if (entry != NULL) {
        item = entry->item;
        trace_map_remove_at(map, (size_t)(entry - map->entries));
    }
    return item;
}

void trace_map_fini(struct trace_map *map, void (*free_item)(void *))
{
    size_t i;

    for (i = 0; i < map->count && free_item != NULL; i++) {
        free_item(map->entries[i].item);
    }
    free(map->entries);
    *map = (struct trace_map){0};
}
