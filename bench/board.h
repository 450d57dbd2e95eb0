/*
 * bench/board.h - the machines that benchmarks measure on: N blocks of RAM with holes between them, and random addresses in
 * these; or a PC's memory with N devices, each with a BAR and an address space of its own as a bus master.
 */
#ifndef BENCH_BOARD_H
#define BENCH_BOARD_H

#include "measure.h"

#include <guestmem/guestmem.h>

static const uint64_t board_counts[] = {1, 8, 64, 500};
#define BOARD_COUNTS (sizeof(board_counts) / sizeof(board_counts[0]))

static inline struct gm_region *new_region(struct gm_map *map, struct gm_region_options options)
{
    struct gm_region *region;

    options.size = sizeof(options);
    errno = -gm_region_new(map, &options, &region, NULL);
    need(errno == 0, "region");
    return region;
}

static inline void add_region(struct gm_region *parent, struct gm_region *child)
{
    errno = -gm_region_add(parent, child, NULL);
    need(errno == 0, "add");
}

/* ---- N ranges of RAM ---- */

/* As in the peers: blocks of 64 KiB, a megabyte apart; addresses are of 8 bytes in a block's first half KiB, so that
 * even those of 500 blocks stay in the caches. */
#define RANGE_BYTES 0x10000ull
#define RANGE_STRIDE 0x100000ull
#define RANGE_HOT_BYTES 512u
#define ADDRESSES 1024u /* a power of two */

struct ranges {
    uint64_t count;
    struct gm_map *map;
    struct gm_region *root;
    struct gm_space *space;
    struct gm_view *view;
    struct gm_ram **rams;
    uint64_t addresses[ADDRESSES];
};

static inline void fill_addresses(uint64_t addresses[ADDRESSES], uint64_t count)
{
    uint64_t state = 1;

    for (unsigned i = 0; i < ADDRESSES; i++) {
        uint64_t range = random_next(&state) % count;

        addresses[i] = range * RANGE_STRIDE + random_next(&state) % (RANGE_HOT_BYTES / 8) * 8;
    }
}

static inline struct ranges *ranges_new(uint64_t count)
{
    struct ranges *ranges = calloc(1, sizeof(*ranges));
    struct gm_txn *txn;

    need(ranges != NULL, "memory");
    ranges->count = count;
    ranges->rams = calloc(count, sizeof(struct gm_ram *));
    need(ranges->rams != NULL && gm_map_new(NULL, &ranges->map, NULL) == 0, "map");
    ranges->root = new_region(ranges->map, (struct gm_region_options){.kind = GM_REGION_CONTAINER,
                                                                      .size_bytes = GM_SIZE_2_64});
    need(gm_space_new(ranges->map, "memory", ranges->root, &ranges->space, NULL) == 0, "space");
    need(gm_txn_begin(ranges->map, &txn) == 0, "transaction");
    for (uint64_t i = 0; i < count; i++) {
        struct gm_region *region;

        need(gm_ram_new_anon(RANGE_BYTES, NULL, &ranges->rams[i], NULL) == 0, "RAM");
        memset(gm_ram_hva(ranges->rams[i]), 0, RANGE_BYTES);
        region = new_region(ranges->map, (struct gm_region_options){.kind = GM_REGION_RAM,
                                                                    .size_bytes = RANGE_BYTES,
                                                                    .addr = i * RANGE_STRIDE,
                                                                    .ram = ranges->rams[i]});
        need(gm_txn_add(txn, ranges->root, region) == 0, "add");
        gm_region_put(region);
    }
    need(gm_txn_commit(txn, NULL) == 0, "commit");
    ranges->view = gm_view_get(ranges->space);
    need(gm_view_count(ranges->view) == count, "ranges");
    fill_addresses(ranges->addresses, count);
    return ranges;
}

/* The one board of that many ranges; made at its first use. */
static inline struct ranges *ranges_of(uint64_t count)
{
    static struct ranges *boards[BOARD_COUNTS];

    for (size_t i = 0; i < BOARD_COUNTS; i++) {
        if (board_counts[i] == count) {
            boards[i] = boards[i] != NULL ? boards[i] : ranges_new(count);
            return boards[i];
        }
    }
    need(false, "count of ranges");
    return NULL;
}

/* ---- a PC with N devices ---- */

static inline enum gm_access bar_read(void *opaque, uint64_t offset, unsigned size_bytes,
                                      uint64_t *value, struct gm_attrs attrs)
{
    (void)opaque;
    (void)size_bytes;
    (void)attrs;
    *value = offset;
    return GM_ACCESS_OK;
}

static inline enum gm_access bar_write(void *opaque, uint64_t offset, unsigned size_bytes,
                                       uint64_t value, struct gm_attrs attrs)
{
    (void)opaque;
    (void)offset;
    (void)size_bytes;
    (void)value;
    (void)attrs;
    return GM_ACCESS_OK;
}

static const struct gm_io_ops bar_io = {.size = sizeof(bar_io),
                                        .read = bar_read,
                                        .write = bar_write,
                                        .valid = {.min_bytes = 1, .max_bytes = 8},
                                        .implemented = {.min_bytes = 1, .max_bytes = 8}};

#define PC_MIB 0x100000ull
#define PC_HOLE_START 0xc0000000ull
#define PC_HOLE_END 0x100000000ull
#define PC_BAR_STRIDE 0x100000ull

struct pc_options {
    struct gm_map *map;
    struct gm_region *root; /* of the memory space */
    uint64_t devices;
    uint64_t per_bridge; /* devices behind each bridge */
    struct gm_ram *bar;  /* what the BARs show; NULL: callbacks of 128 KiB */
};

/*
 * RAM below and above the hole; PCI memory over the hole; in it a window for each bridge, an alias of the bus behind it, on
 * which the BARs are. Each device has an address space whose root holds an alias of the root.
 * Return: device 0's BAR, enabled.
 */
static inline struct gm_region *pc_build(const struct pc_options *options)
{
    struct gm_region *hole = new_region(
        options->map, (struct gm_region_options){.kind = GM_REGION_CONTAINER,
                                                 .size_bytes = PC_HOLE_END - PC_HOLE_START,
                                                 .addr = PC_HOLE_START});
    struct gm_region *bus = NULL;
    struct gm_region *first = NULL;

    add_region(options->root, hole);
    for (uint64_t i = 0; i < options->devices; i++) {
        struct gm_region *bar = new_region(
            options->map,
            (struct gm_region_options){
                .kind = options->bar != NULL ? GM_REGION_RAM : GM_REGION_MMIO,
                .size_bytes = options->bar != NULL ? (gm_size_t)gm_ram_size(options->bar) : 0x20000,
                .addr = i * PC_BAR_STRIDE,
                .ram = options->bar,
                .io = options->bar != NULL ? NULL : &bar_io});
        struct gm_region *master =
            new_region(options->map, (struct gm_region_options){.kind = GM_REGION_CONTAINER,
                                                                .size_bytes = GM_SIZE_2_64});
        struct gm_region *alias =
            new_region(options->map, (struct gm_region_options){.kind = GM_REGION_ALIAS,
                                                                .size_bytes = GM_SIZE_2_64,
                                                                .target = options->root});
        struct gm_space *space;

        if (i % options->per_bridge == 0) {
            uint64_t start = i * PC_BAR_STRIDE;

            bus = new_region(options->map, (struct gm_region_options){.kind = GM_REGION_CONTAINER,
                                                                      .size_bytes = GM_SIZE_2_64});
            add_region(hole, new_region(options->map,
                                        (struct gm_region_options){
                                            .kind = GM_REGION_ALIAS,
                                            .size_bytes = options->per_bridge * PC_BAR_STRIDE,
                                            .addr = start,
                                            .target = bus,
                                            .target_offset = start}));
        }
        add_region(bus, bar);
        add_region(master, alias);
        need(gm_space_new(options->map, "bus master", master, &space, NULL) == 0, "space");
        first = first != NULL ? first : bar;
    }
    return first;
}

#endif
