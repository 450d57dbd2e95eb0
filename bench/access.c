/*
 * bench/access.c - lookups and accesses at random addresses in 1, 8, 64 and 500 ranges of RAM (board.h).
 *
 *     find/N, chase/N     a lookup in a view: throughput; each address depending on the lookup before
 *     load/N, store/N     8 bytes
 *     load-chase/N        8 bytes, each address depending on the load before
 *     map/N               map and unmap 4 KiB for direct use
 *     read64/N, write64/N 64 bytes
 */
#include "board.h"

static const struct gm_attrs nobody;

static void find(void *context, uint64_t count)
{
    struct ranges *ranges = context;
    struct gm_section section;

    for (uint64_t i = 0; i < count; i++) {
        need(gm_view_find(ranges->view, ranges->addresses[i % ADDRESSES], &section), "find");
        keep(section.gpa);
    }
}

static void find_chase(void *context, uint64_t count)
{
    struct ranges *ranges = context;
    struct gm_section section;
    uint64_t at = 0;

    for (uint64_t i = 0; i < count; i++) {
        need(gm_view_find(ranges->view, ranges->addresses[at % ADDRESSES], &section), "find");
        at += 1 + (section.gpa & 1); /* which is always 0 */
    }
    keep(at);
}

static void load(void *context, uint64_t count)
{
    struct ranges *ranges = context;
    uint64_t value = 0;

    for (uint64_t i = 0; i < count; i++) {
        need(gm_load(ranges->space, ranges->addresses[i % ADDRESSES], 8, GM_ORDER_LITTLE, &value,
                     nobody) == GM_ACCESS_OK,
             "load");
        keep(value);
    }
}

static void load_chase(void *context, uint64_t count)
{
    struct ranges *ranges = context;
    uint64_t value = 0;
    uint64_t at = 0;

    for (uint64_t i = 0; i < count; i++) {
        need(gm_load(ranges->space, ranges->addresses[at % ADDRESSES], 8, GM_ORDER_LITTLE, &value,
                     nobody) == GM_ACCESS_OK,
             "load");
        at += 1 + (value & 1); /* which stores below keep 0 */
    }
    keep(at);
}

static void store(void *context, uint64_t count)
{
    struct ranges *ranges = context;

    for (uint64_t i = 0; i < count; i++) {
        need(gm_store(ranges->space, ranges->addresses[i % ADDRESSES], 8, GM_ORDER_LITTLE, i * 2,
                      nobody) == GM_ACCESS_OK,
             "store");
    }
}

static void map(void *context, uint64_t count)
{
    struct ranges *ranges = context;
    struct gm_mapping mapping;

    for (uint64_t i = 0; i < count; i++) {
        uint64_t size_bytes = 4096;

        need(gm_map_range(ranges->space, ranges->addresses[i % ADDRESSES] & ~UINT64_C(4095),
                          &size_bytes, false, nobody, &mapping) == 0,
             "map");
        keep((uintptr_t)mapping.data);
        need(gm_unmap(&mapping, 0) == GM_ACCESS_OK, "unmap");
    }
}

static void read64(void *context, uint64_t count)
{
    struct ranges *ranges = context;
    uint8_t data[64];

    for (uint64_t i = 0; i < count; i++) {
        need(gm_read(ranges->space, ranges->addresses[i % ADDRESSES] & ~UINT64_C(63), data, 64,
                     nobody) == GM_ACCESS_OK,
             "read");
        keep((uintptr_t)data);
    }
}

static void write64(void *context, uint64_t count)
{
    struct ranges *ranges = context;
    uint8_t data[64] = {0};

    for (uint64_t i = 0; i < count; i++) {
        keep((uintptr_t)data);
        need(gm_write(ranges->space, ranges->addresses[i % ADDRESSES] & ~UINT64_C(63), data, 64,
                      nobody) == GM_ACCESS_OK,
             "write");
    }
}

static void (*const bodies[])(void *context, uint64_t count) = {
    find, find_chase, load, load_chase, store, map, read64, write64,
};
static const char *const names[] = {
    "find/%u",  "chase/%u", "load/%u",   "load-chase/%u",
    "store/%u", "map/%u",   "read64/%u", "write64/%u",
};

static double time_body(uint64_t count, uint64_t body)
{
    return time_loop(bodies[body], ranges_of(count), 8 * ADDRESSES);
}

int main(int argc, char **argv)
{
    for (size_t body = 0; body < sizeof(bodies) / sizeof(bodies[0]); body++) {
        for (size_t i = 0; i < BOARD_COUNTS; i++) {
            add_case(names[body], time_body, board_counts[i], body);
        }
    }
    return serve_cases(argc, argv);
}
