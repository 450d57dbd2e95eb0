/*
 * bench/mmio.c - an access that a region's callback answers, among N ranges, in one thread or two.
 *
 *     load/THREADS/N, store/THREADS/N    4 bytes of random registers of random regions
 */
#include "board.h"
#include "threads.h"

#define REGISTERS_BYTES 0x1000ull

static const struct gm_attrs nobody;

struct devices {
    struct gm_space *space;
    uint64_t addresses[ADDRESSES];
};

static struct devices *devices_new(uint64_t count)
{
    struct devices *devices = calloc(1, sizeof(*devices));
    uint64_t state = 1;
    struct gm_map *map = NULL;
    struct gm_region *root;
    struct gm_txn *txn;

    need(devices != NULL && gm_map_new(NULL, &map, NULL) == 0, "map");
    root = new_region(
        map, (struct gm_region_options){.kind = GM_REGION_CONTAINER, .size_bytes = GM_SIZE_2_64});
    need(gm_space_new(map, "memory", root, &devices->space, NULL) == 0, "space");
    need(gm_txn_begin(map, &txn) == 0, "transaction");
    for (uint64_t i = 0; i < count; i++) {
        struct gm_region *region =
            new_region(map, (struct gm_region_options){.kind = GM_REGION_MMIO,
                                                       .size_bytes = REGISTERS_BYTES,
                                                       .addr = i * RANGE_STRIDE,
                                                       .io = &bar_io});

        need(gm_txn_add(txn, root, region) == 0, "add");
    }
    need(gm_txn_commit(txn, NULL) == 0, "commit");
    for (unsigned i = 0; i < ADDRESSES; i++) {
        uint64_t range = random_next(&state) % count;

        devices->addresses[i] =
            range * RANGE_STRIDE + random_next(&state) % (REGISTERS_BYTES / 4) * 4;
    }
    return devices;
}

static void load(void *context, uint64_t count)
{
    struct devices *devices = context;
    uint64_t value = 0;

    for (uint64_t i = 0; i < count; i++) {
        need(gm_load(devices->space, devices->addresses[i % ADDRESSES], 4, GM_ORDER_LITTLE, &value,
                     nobody) == GM_ACCESS_OK,
             "load");
        keep(value);
    }
}

static void store(void *context, uint64_t count)
{
    struct devices *devices = context;

    for (uint64_t i = 0; i < count; i++) {
        need(gm_store(devices->space, devices->addresses[i % ADDRESSES], 4, GM_ORDER_LITTLE, i,
                      nobody) == GM_ACCESS_OK,
             "store");
    }
}

static struct devices *devices_of(uint64_t count)
{
    static struct devices *boards[BOARD_COUNTS];

    for (size_t i = 0; i < BOARD_COUNTS; i++) {
        if (board_counts[i] == count) {
            boards[i] = boards[i] != NULL ? boards[i] : devices_new(count);
            return boards[i];
        }
    }
    return NULL;
}

static double time_load(uint64_t count, uint64_t threads)
{
    return time_threads((unsigned)threads, load, devices_of(count), 4 * ADDRESSES);
}

static double time_store(uint64_t count, uint64_t threads)
{
    return time_threads((unsigned)threads, store, devices_of(count), 4 * ADDRESSES);
}

int main(int argc, char **argv)
{
    for (size_t i = 0; i < BOARD_COUNTS; i++) {
        add_case("load/1/%u", time_load, board_counts[i], 1);
        add_case("load/2/%u", time_load, board_counts[i], 2);
        add_case("store/1/%u", time_store, board_counts[i], 1);
        add_case("store/2/%u", time_store, board_counts[i], 2);
    }
    return serve_cases(argc, argv);
}
