/*
 * bench/dirty.c - the dirty record: stores that are recorded, marks, harvests.
 *
 *     logged-store/N      8 bytes at a random address of N ranges, one client recording
 *     logged-threads/T    the same in T threads at once, in 8 ranges
 *     mark                1 MiB of a block of 1 GiB
 *     harvest/GIB/EVERY   of a block of GIB with one page in EVERY dirty (0: none), all runs read
 */
#include "board.h"
#include "threads.h"

#define CLIENT 0u
#define GIB 0x40000000ull
#define HARVESTS 5

static const struct gm_attrs nobody;

static void store(void *context, uint64_t count)
{
    struct ranges *ranges = context;

    for (uint64_t i = 0; i < count; i++) {
        need(gm_store(ranges->space, ranges->addresses[i % ADDRESSES], 8, GM_ORDER_LITTLE, i * 2,
                      nobody) == GM_ACCESS_OK,
             "store");
    }
}

static double time_store(uint64_t count, uint64_t threads)
{
    struct ranges *ranges = ranges_of(count);
    double ns;

    for (uint64_t i = 0; i < count; i++) {
        need(gm_ram_dirty_begin(ranges->rams[i], CLIENT) == 0, "begin");
    }
    ns = threads == 1 ? time_loop(store, ranges, 8 * ADDRESSES)
                      : time_threads((unsigned)threads, store, ranges, 4 * ADDRESSES);
    for (uint64_t i = 0; i < count; i++) {
        need(gm_ram_dirty_end(ranges->rams[i], CLIENT) == 0, "end");
    }
    return ns;
}

static double time_threads_store(uint64_t threads, uint64_t count)
{
    return time_store(count, threads);
}

static void mark(void *context, uint64_t count)
{
    for (uint64_t i = 0; i < count; i++) {
        gm_ram_dirty_mark(context, i % 64 * PC_MIB, PC_MIB, 1u << CLIENT);
    }
}

static struct gm_ram *record_new(uint64_t size_bytes)
{
    struct gm_ram *ram;

    need(gm_ram_new_unbacked(size_bytes, NULL, &ram, NULL) == 0, "RAM");
    need(gm_ram_dirty_begin(ram, CLIENT) == 0, "begin");
    return ram;
}

static double time_mark(uint64_t a, uint64_t b)
{
    static struct gm_ram *ram;

    (void)a;
    (void)b;
    ram = ram != NULL ? ram : record_new(GIB);
    return time_loop(mark, ram, 1000);
}

static double time_harvest(uint64_t gib, uint64_t every)
{
    struct gm_ram *ram = record_new(gib * GIB);
    uint64_t pages = gib * GIB / GM_DIRTY_PAGE_BYTES;
    double samples[HARVESTS];

    for (int i = 0; i < HARVESTS; i++) {
        struct gm_harvest *harvest;
        uint64_t first, last, found = 0;
        double before;

        if (every == 1) {
            gm_ram_dirty_mark(ram, 0, gib * GIB, 1u << CLIENT);
        }
        for (uint64_t page = 0; every > 1 && page < pages; page += every) {
            gm_ram_dirty_mark(ram, page * GM_DIRTY_PAGE_BYTES, 1, 1u << CLIENT);
        }
        before = now_ns();
        need(gm_harvest_begin(ram, CLIENT, 0, gib * GIB, &harvest) == 0, "harvest");
        while (gm_harvest_next(harvest, &first, &last)) {
            found += last - first + 1;
        }
        gm_harvest_commit(harvest);
        samples[i] = now_ns() - before;
        need(found == (every == 0 ? 0 : (pages + every - 1) / every), "pages");
    }
    gm_ram_put(ram);
    return median(samples, HARVESTS);
}

int main(int argc, char **argv)
{
    static const uint64_t sizes[] = {1, 64};

    for (size_t i = 0; i < BOARD_COUNTS; i++) {
        add_case("logged-store/%u", time_store, board_counts[i], 1);
    }
    add_case("logged-threads/%u", time_threads_store, 1, 8);
    add_case("logged-threads/%u", time_threads_store, 2, 8);
    add_case("mark", time_mark, 0, 0);
    for (size_t i = 0; i < 2; i++) {
        add_case("harvest/%u/0", time_harvest, sizes[i], 0);
        add_case("harvest/%u/1000", time_harvest, sizes[i], 1000);
        add_case("harvest/%u/10", time_harvest, sizes[i], 10);
        add_case("harvest/%u/1", time_harvest, sizes[i], 1);
    }
    return serve_cases(argc, argv);
}
