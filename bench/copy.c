/*
 * bench/copy.c - copies out of and into RAM, beside memcpy; and a cached translation, beside a plain load.
 *
 *     read/BYTES, write/BYTES   to one buffer, from random places of 4 MiB (of 8 MiB for a mebibyte)
 *     memcpy/BYTES              the same copies of bytes by memcpy
 *     cache-load, cache-store   8 bytes at random places of a ring of 4 KiB
 *     raw-load, raw-store       the same by a pointer
 */
#include "board.h"

#define MEMORY_BYTES 0x800000ull
#define RING_BYTES 4096u
#define COPY_MAX 0x100000u

static const struct gm_attrs nobody;

struct memory {
    struct gm_space *space;
    struct gm_cache cache;
    uint8_t *hva;
    uint8_t *buffer;
    uint64_t size_bytes; /* of a copy */
    uint64_t places[ADDRESSES];
    uint64_t ring[ADDRESSES];
};

static struct memory *memory_new(void)
{
    static struct memory memory;
    struct gm_map *map;
    struct gm_ram *ram;
    struct gm_region *region;
    uint64_t state = 1;

    need(gm_map_new(NULL, &map, NULL) == 0, "map");
    need(gm_ram_new_anon(MEMORY_BYTES, NULL, &ram, NULL) == 0, "RAM");
    need(gm_region_new_ram(map, "ram", ram, &region) == 0, "region");
    need(gm_space_new(map, "memory", region, &memory.space, NULL) == 0, "space");
    need(gm_cache_init(&memory.cache, memory.space, 0x10000, RING_BYTES, true, nobody) == 0,
         "cache");
    memory.hva = gm_ram_hva(ram);
    memory.buffer = host_memory(COPY_MAX);
    memset(memory.hva, 0, MEMORY_BYTES);
    memset(memory.buffer, 1, COPY_MAX);
    for (unsigned i = 0; i < ADDRESSES; i++) {
        memory.places[i] = random_next(&state) % (MEMORY_BYTES / 2) & ~UINT64_C(63);
        memory.ring[i] = random_next(&state) % (RING_BYTES / 8) * 8;
    }
    return &memory;
}

static void read_pieces(void *context, uint64_t count)
{
    struct memory *memory = context;

    for (uint64_t i = 0; i < count; i++) {
        need(gm_read(memory->space, memory->places[i % ADDRESSES], memory->buffer,
                     memory->size_bytes, nobody) == GM_ACCESS_OK,
             "read");
        keep(memory->buffer[0]);
    }
}

static void write_pieces(void *context, uint64_t count)
{
    struct memory *memory = context;

    for (uint64_t i = 0; i < count; i++) {
        keep(i);
        need(gm_write(memory->space, memory->places[i % ADDRESSES], memory->buffer,
                      memory->size_bytes, nobody) == GM_ACCESS_OK,
             "write");
    }
}

static void copy_out(void *context, uint64_t count)
{
    struct memory *memory = context;

    for (uint64_t i = 0; i < count; i++) {
        memcpy(memory->buffer, memory->hva + memory->places[i % ADDRESSES], memory->size_bytes);
        keep(memory->buffer[0]);
    }
}

static void copy_in(void *context, uint64_t count)
{
    struct memory *memory = context;

    for (uint64_t i = 0; i < count; i++) {
        keep(i);
        memcpy(memory->hva + memory->places[i % ADDRESSES], memory->buffer, memory->size_bytes);
    }
}

static void cache_load(void *context, uint64_t count)
{
    struct memory *memory = context;
    uint64_t value = 0;

    for (uint64_t i = 0; i < count; i++) {
        need(gm_cache_load(&memory->cache, memory->ring[i % ADDRESSES], 8, GM_ORDER_LITTLE,
                           &value) == GM_ACCESS_OK,
             "load");
        keep(value);
    }
}

static void cache_store(void *context, uint64_t count)
{
    struct memory *memory = context;

    for (uint64_t i = 0; i < count; i++) {
        need(gm_cache_store(&memory->cache, memory->ring[i % ADDRESSES], 8, GM_ORDER_LITTLE, i) ==
                 GM_ACCESS_OK,
             "store");
    }
}

static void raw_load(void *context, uint64_t count)
{
    struct memory *memory = context;
    uint8_t *ring = memory->hva + 0x10000;

    for (uint64_t i = 0; i < count; i++) {
        keep(*(volatile uint64_t *)(void *)(ring + memory->ring[i % ADDRESSES]));
    }
}

static void raw_store(void *context, uint64_t count)
{
    struct memory *memory = context;
    uint8_t *ring = memory->hva + 0x10000;

    for (uint64_t i = 0; i < count; i++) {
        *(volatile uint64_t *)(void *)(ring + memory->ring[i % ADDRESSES]) = i;
    }
}

static void (*const bodies[])(void *context, uint64_t count) = {
    read_pieces, write_pieces, copy_out, copy_in, cache_load, cache_store, raw_load, raw_store,
};
static const char *const names[] = {
    "read/%u",    "write/%u",    "memcpy-out/%u", "memcpy-in/%u",
    "cache-load", "cache-store", "raw-load",      "raw-store",
};
#define COPIES 4

static double time_body(uint64_t size_bytes, uint64_t body)
{
    static struct memory *memory;

    memory = memory != NULL ? memory : memory_new();
    memory->size_bytes = size_bytes;
    return time_loop(bodies[body], memory, size_bytes > 4096 ? 16 : 8 * ADDRESSES);
}

int main(int argc, char **argv)
{
    static const uint64_t sizes[] = {64, 4096, COPY_MAX};

    for (size_t body = 0; body < sizeof(bodies) / sizeof(bodies[0]); body++) {
        for (size_t i = 0; i < (body < COPIES ? 3 : 1); i++) {
            add_case(names[body], time_body, sizes[i], body);
        }
    }
    return serve_cases(argc, argv);
}
