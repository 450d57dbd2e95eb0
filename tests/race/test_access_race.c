/*
 * race/test_access_race.c - accesses of two threads beside a third one that edits the map without
 * pause.
 *
 * Whatever is committed: a number in RAM is never torn, an access of several bytes is answered by
 * one view, a device that is called is alive until it has returned, a store to memory that stays is
 * not lost, and what was released is not reached any more. Run it under ThreadSanitizer too.
 */
#include "model/random.h"

#include <guestmem/guestmem.h>

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define EDITS 100000u
#define READERS 2u
#define PAGE 0x1000u

#define PLAIN_GPA 0x10000u  /* a page for each reader that is always there */
#define WINDOW_GPA 0x40000u /* shows one of two blocks */
#define DEVICE_GPA 0x80000u /* a device that is replaced again and again */

#define PATTERN_A 0xa5a5a5a5a5a5a5a5u
#define PATTERN_B 0x5b5b5b5b5b5b5b5bu
#define DEVICE_ALIVE 0x600df00du

static const struct gm_attrs no_attrs;

struct world {
    struct gm_map *map;
    struct gm_space *space;
    struct gm_region *root;
    struct gm_ram *plain;
    struct gm_ram *window_a;
    struct gm_ram *window_b;
    struct gm_region *cover; /* of WINDOW_GPA, by window_b; toggled */
    struct gm_region *device;
    atomic_bool done;
    atomic_uint failures; /* bit N: the check of that number failed */
    atomic_uint devices_alive;
};

enum check {
    CHECK_TORN,
    CHECK_TWO_VIEWS,
    CHECK_DEAD_DEVICE,
    CHECK_DEVICE_VALUE,
    CHECK_OUTCOME,
    CHECK_LOST,
    CHECK_MAPPING,
    CHECK_HVA,
};

static void check(struct world *world, bool holds, enum check what)
{
    if (!holds) {
        atomic_fetch_or(&world->failures, 1u << what);
    }
}

/* ---- the device ---- */

struct device {
    struct world *world;
    atomic_uint state; /* DEVICE_ALIVE until its release */
    atomic_uint calls;
};

static enum gm_access device_read(void *opaque, uint64_t offset, unsigned size_bytes,
                                  uint64_t *value, struct gm_attrs attrs)
{
    struct device *device = opaque;

    (void)offset;
    (void)size_bytes;
    (void)attrs;
    check(device->world, atomic_load(&device->state) == DEVICE_ALIVE, CHECK_DEAD_DEVICE);
    atomic_fetch_add(&device->calls, 1);
    *value = 0xd00d;
    check(device->world, atomic_load(&device->state) == DEVICE_ALIVE, CHECK_DEAD_DEVICE);
    return GM_ACCESS_OK;
}

static void device_release(void *opaque)
{
    struct device *device = opaque;

    check(device->world, atomic_exchange(&device->state, 0xdead) == DEVICE_ALIVE,
          CHECK_DEAD_DEVICE);
    atomic_fetch_sub(&device->world->devices_alive, 1);
    free(device);
}

static struct gm_region *device_new(struct world *world)
{
    static const struct gm_io_ops ops = {.size = sizeof(ops), .read = device_read};
    struct device *device = calloc(1, sizeof(*device));
    struct gm_region_options options = {
        .size = sizeof(options),
        .kind = GM_REGION_MMIO,
        .size_bytes = 0x100,
        .addr = DEVICE_GPA,
        .io = &ops,
        .opaque = device,
        .release = device_release,
    };
    struct gm_region *region;

    device->world = world;
    atomic_init(&device->state, DEVICE_ALIVE);
    atomic_fetch_add(&world->devices_alive, 1);
    assert_int_equal(gm_region_new(world->map, &options, &region, NULL), 0);
    return region;
}

/* ---- readers ---- */

static bool is_pattern(uint64_t value)
{
    return value == PATTERN_A || value == PATTERN_B;
}

static void read_window(struct world *world, struct gm_cache *cache)
{
    uint64_t words[8];
    uint64_t value;

    check(world, gm_load(world->space, WINDOW_GPA + 8, 8, GM_ORDER_LITTLE, &value, no_attrs) == 0,
          CHECK_OUTCOME);
    check(world, is_pattern(value), CHECK_TORN);
    /* The window is two ranges of the same block each, so this crosses ranges in both maps. */
    check(world, gm_read(world->space, WINDOW_GPA + PAGE - 32, words, 64, no_attrs) == 0,
          CHECK_OUTCOME);
    for (unsigned i = 0; i < 8; i++) {
        check(world, is_pattern(words[i]), CHECK_TORN);
        check(world, words[i] == words[0], CHECK_TWO_VIEWS);
    }
    check(world, gm_cache_load(cache, 16, 8, GM_ORDER_LITTLE, &value) == 0, CHECK_OUTCOME);
    check(world, is_pattern(value), CHECK_TORN);
}

static void call_device(struct world *world)
{
    uint64_t value;
    enum gm_access outcome =
        gm_load(world->space, DEVICE_GPA + 4, 4, GM_ORDER_LITTLE, &value, no_attrs);
    uint8_t bytes[16];

    check(world,
          outcome == GM_ACCESS_OK ? value == 0xd00d : outcome == GM_ACCESS_DECODE && value == 0,
          CHECK_DEVICE_VALUE);
    outcome = gm_read(world->space, DEVICE_GPA, bytes, sizeof(bytes), no_attrs);
    check(world, outcome == GM_ACCESS_OK || outcome == GM_ACCESS_DECODE, CHECK_OUTCOME);
    /* One view: all of it is there, or nothing is. */
    check(world, bytes[0] == bytes[12] && (outcome == GM_ACCESS_OK) == (bytes[0] == 0x0d),
          CHECK_TWO_VIEWS);
}

static void map_window(struct world *world)
{
    uint64_t size = PAGE;
    struct gm_mapping mapping;
    struct gm_section section;
    gm_gpa_t gpa;

    if (gm_map_range(world->space, WINDOW_GPA, &size, false, no_attrs, &mapping) != 0) {
        check(world, false, CHECK_MAPPING);
        return;
    }
    check(world, is_pattern(__atomic_load_n((uint64_t *)mapping.data, __ATOMIC_RELAXED)),
          CHECK_MAPPING);
    if (gm_hva_find(world->space, mapping.data, &gpa, &section) == 0) {
        check(world, gpa == WINDOW_GPA, CHECK_HVA);
        gm_region_put(section.region);
    }
    gm_unmap(&mapping, 0);
}

struct reader {
    pthread_t thread;
    struct world *world;
    uint64_t gpa; /* of its page */
    uint64_t stores;
};

static void *reader_run(void *opaque)
{
    struct reader *reader = opaque;
    struct world *world = reader->world;
    struct gm_cache cache;

    check(world, gm_cache_init(&cache, world->space, WINDOW_GPA, PAGE, false, no_attrs) == 0,
          CHECK_OUTCOME);
    while (!atomic_load(&world->done)) {
        uint64_t value = reader->stores;

        check(world,
              gm_cmpxchg(world->space, reader->gpa, 8, GM_ORDER_LITTLE, &value, value + 1,
                         no_attrs) == 0,
              CHECK_OUTCOME);
        check(world, value == reader->stores, CHECK_LOST);
        reader->stores++;
        check(world,
              gm_store(world->space, reader->gpa + 8, 8, GM_ORDER_BIG, reader->stores, no_attrs) ==
                  0,
              CHECK_OUTCOME);
        read_window(world, &cache);
        call_device(world);
        map_window(world);
    }
    gm_cache_fini(&cache);
    return NULL;
}

/* ---- the editor ---- */

static void replace_device(struct world *world)
{
    struct gm_region *next = device_new(world);
    struct gm_txn *txn;

    assert_int_equal(gm_txn_begin(world->map, &txn), 0);
    if (world->device != NULL) {
        assert_int_equal(gm_txn_del(txn, world->root, world->device), 0);
    }
    assert_int_equal(gm_txn_add(txn, world->root, next), 0);
    assert_int_equal(gm_txn_commit(txn, NULL), 0);
    gm_region_put(world->device);
    world->device = next;
}

static void edit(struct world *world, struct rnd *rnd)
{
    struct gm_txn *txn;

    switch (rnd_below(rnd, 4)) {
    case 0:
        replace_device(world);
        break;
    case 1:
        assert_int_equal(gm_txn_begin(world->map, &txn), 0);
        assert_int_equal(gm_txn_set_addr(txn, world->device, DEVICE_GPA + rnd_below(rnd, 2) * PAGE),
                         0);
        assert_int_equal(gm_txn_commit(txn, NULL), 0);
        break;
    default:
        assert_int_equal(gm_region_set_enabled(world->cover, rnd_below(rnd, 2) != 0, NULL), 0);
        break;
    }
}

static struct gm_region *add_ram(struct world *world, struct gm_region *parent, uint64_t addr,
                                 struct gm_ram *ram, uint64_t ram_offset)
{
    struct gm_region_options options = {
        .size = sizeof(options),
        .kind = GM_REGION_RAM,
        .size_bytes = PAGE,
        .addr = addr,
        .ram = ram,
        .ram_offset = ram_offset,
        .unmergeable = true,
    };
    struct gm_region *region;

    assert_int_equal(gm_region_new(world->map, &options, &region, NULL), 0);
    assert_int_equal(gm_region_add(parent, region, NULL), 0);
    gm_region_put(region);
    return region;
}

static struct gm_ram *patterned(uint64_t pattern)
{
    struct gm_ram *ram;

    assert_int_equal(gm_ram_new_anon(2 * PAGE, NULL, &ram, NULL), 0);
    for (unsigned i = 0; i < 2 * PAGE / 8; i++) {
        ((uint64_t *)gm_ram_hva(ram))[i] = pattern;
    }
    return ram;
}

static void world_begin(struct world *world)
{
    struct gm_region_options cover = {.size = sizeof(cover),
                                      .kind = GM_REGION_CONTAINER,
                                      .size_bytes = 2 * PAGE,
                                      .addr = WINDOW_GPA,
                                      .priority = 1};

    *world = (struct world){0};
    assert_int_equal(gm_map_new(NULL, &world->map, NULL), 0);
    assert_int_equal(gm_region_new_container(world->map, "root", GM_SIZE_2_64, &world->root), 0);
    assert_int_equal(gm_space_new(world->map, "memory", world->root, &world->space, NULL), 0);
    assert_int_equal(gm_ram_new_anon(READERS * PAGE, NULL, &world->plain, NULL), 0);
    world->window_a = patterned(PATTERN_A);
    world->window_b = patterned(PATTERN_B);
    for (unsigned i = 0; i < READERS; i++) {
        add_ram(world, world->root, PLAIN_GPA + i * PAGE, world->plain, i * PAGE);
    }
    assert_int_equal(gm_region_new(world->map, &cover, &world->cover, NULL), 0);
    for (unsigned i = 0; i < 2; i++) {
        add_ram(world, world->root, WINDOW_GPA + i * PAGE, world->window_a, i * PAGE);
        add_ram(world, world->cover, i * PAGE, world->window_b, i * PAGE);
    }
    assert_int_equal(gm_region_add(world->root, world->cover, NULL), 0);
    replace_device(world);
}

static void world_end(struct world *world)
{
    assert_int_equal(gm_region_del(world->root, world->device, NULL), 0);
    gm_region_put(world->device);
    gm_map_quiesce(world->map);
    assert_int_equal(atomic_load(&world->devices_alive), 0);
    gm_region_put(world->cover);
    assert_int_equal(gm_space_free(world->space, NULL), 0);
    gm_region_put(world->root);
    gm_map_free(world->map);
    gm_ram_put(world->plain);
    gm_ram_put(world->window_a);
    gm_ram_put(world->window_b);
}

static void access_beside_100000_edits_is_never_torn_lost_or_dead(void **state)
{
    /* Two readers that use every kind of access, and an editor. */
    struct rnd rnd = {rnd_seed("access_race")};
    struct reader readers[READERS] = {{0}};
    struct world world;

    (void)state;
    world_begin(&world);
    for (unsigned i = 0; i < READERS; i++) {
        readers[i] = (struct reader){.world = &world, .gpa = PLAIN_GPA + i * PAGE};
        assert_int_equal(pthread_create(&readers[i].thread, NULL, reader_run, &readers[i]), 0);
    }
    for (unsigned i = 0; i < EDITS; i++) {
        edit(&world, &rnd);
    }
    atomic_store(&world.done, true);
    for (unsigned i = 0; i < READERS; i++) {
        uint64_t swapped;
        uint64_t stored;

        assert_int_equal(pthread_join(readers[i].thread, NULL), 0);
        assert_int_equal(
            gm_load(world.space, readers[i].gpa, 8, GM_ORDER_LITTLE, &swapped, no_attrs), 0);
        assert_int_equal(
            gm_load(world.space, readers[i].gpa + 8, 8, GM_ORDER_BIG, &stored, no_attrs), 0);
        assert_int_equal(swapped, readers[i].stores);
        assert_int_equal(stored, readers[i].stores);
        assert_true(readers[i].stores > 0);
    }
    assert_int_equal(atomic_load(&world.failures), 0);
    world_end(&world);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(access_beside_100000_edits_is_never_torn_lost_or_dead),
    };

    return cmocka_run_group_tests_name("access_race", tests, NULL, NULL);
}
