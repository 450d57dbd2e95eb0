/* race/test_cache_race.c - caches that are used inline, and readers, while commits take what they show away. */
#include "base/check.h"

#include <guestmem/guestmem.h>

#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

#define PAGE 4096u
#define ROUNDS 300u
#define PATIENCE 2000u /* turns that another thread is given to do what it must not */

static const struct gm_attrs no_attrs;

/* A block that may be resized, all of it shown at 0. */
struct rig {
    struct gm_map *map;
    struct gm_ram *ram;
    struct gm_region *root;
    struct gm_region *region;
    struct gm_space *space;
    struct gm_cache cache; /* of the last page */
    atomic_bool is_inside;
    atomic_bool may_leave;
    atomic_bool is_done;
};

static void set_up(struct rig *rig, uint64_t size_bytes)
{
    struct gm_ram_options options = {
        .size = sizeof(options),
        .kind = GM_RAM_ANON,
        .size_bytes = size_bytes,
        .max_size_bytes = size_bytes,
    };

    GM_ASSERT(gm_map_new(NULL, &rig->map, NULL) == 0);
    GM_ASSERT(gm_ram_new(&options, &rig->ram, NULL) == 0);
    GM_ASSERT(gm_region_new_container(rig->map, "root", GM_SIZE_2_64, &rig->root) == 0);
    GM_ASSERT(gm_region_new_ram(rig->map, "ram", rig->ram, &rig->region) == 0);
    GM_ASSERT(gm_region_add(rig->root, rig->region, NULL) == 0);
    GM_ASSERT(gm_space_new(rig->map, "memory", rig->root, &rig->space, NULL) == 0);
    GM_ASSERT(gm_cache_init(&rig->cache, rig->space, size_bytes - PAGE, PAGE, true, no_attrs) == 0);
}

static void set_size(struct rig *rig, uint64_t size_bytes)
{
    struct gm_txn *txn;

    GM_ASSERT(gm_txn_begin(rig->map, &txn) == 0);
    GM_ASSERT(gm_txn_set_size(txn, rig->region, size_bytes) == 0);
    GM_ASSERT(gm_txn_commit(txn, NULL) == 0);
}

static void tear_down(struct rig *rig)
{
    gm_cache_fini(&rig->cache);
    GM_ASSERT(gm_space_free(rig->space, NULL) == 0);
    gm_region_put(rig->region);
    gm_region_put(rig->root);
    gm_map_quiesce(rig->map);
    gm_map_free(rig->map);
    gm_ram_put(rig->ram);
}

/* Inside an inline use until it is told to leave, when the memory is still there. */
static void *stay_inside(void *argument)
{
    struct rig *rig = argument;
    struct gm_cache *cache = &rig->cache;

    GM_ASSERT(gm_cache_store(cache, 0, 8, GM_ORDER_LITTLE, 1) == GM_ACCESS_OK);
    GM_ASSERT(gm_cache_enter(cache, 0, 8, cache->store_offsets));
    atomic_store(&rig->is_inside, true);
    while (!atomic_load(&rig->may_leave)) {
        sched_yield();
    }
    gm_host_store(cache->memory, 2, 8);
    GM_ASSERT(gm_host_load(cache->memory, 8) == 2);
    gm_cache_leave(cache->inside);
    return NULL;
}

static void *shrink(void *argument)
{
    struct rig *rig = argument;

    set_size(rig, PAGE);
    GM_ASSERT(gm_ram_resize(rig->ram, PAGE, NULL) == 0);
    atomic_store(&rig->is_done, true);
    return NULL;
}

static void *quiesce(void *argument)
{
    struct rig *rig = argument;

    gm_map_quiesce(rig->map);
    atomic_store(&rig->is_done, true);
    return NULL;
}

/* What @body does waits for who is inside. */
static void wait_for_inside(void *(*body)(void *argument))
{
    struct rig rig = {0};
    pthread_t reader;
    pthread_t other;

    set_up(&rig, 4 * PAGE);
    GM_ASSERT(pthread_create(&reader, NULL, stay_inside, &rig) == 0);
    while (!atomic_load(&rig.is_inside)) {
        sched_yield();
    }
    GM_ASSERT(pthread_create(&other, NULL, body, &rig) == 0);
    for (unsigned i = 0; i < PATIENCE; i++) {
        GM_ASSERT(!atomic_load(&rig.is_done));
        sched_yield();
    }
    atomic_store(&rig.may_leave, true);
    GM_ASSERT(pthread_join(reader, NULL) == 0);
    GM_ASSERT(pthread_join(other, NULL) == 0);
    tear_down(&rig);
}

static void cache_memory_stays_while_it_is_used_inline(void **state)
{
    (void)state;
    wait_for_inside(shrink);
}

static void cache_use_is_waited_for_by_quiesce(void **state)
{
    (void)state;
    wait_for_inside(quiesce);
}

static void *use_it(void *argument)
{
    struct rig *rig = argument;
    uint64_t value;

    while (!atomic_load(&rig->is_done)) {
        (void)gm_cache_store(&rig->cache, 8, 8, GM_ORDER_LITTLE, 5);
        (void)gm_cache_load(&rig->cache, 8, 8, GM_ORDER_LITTLE, &value);
    }
    return NULL;
}

static void cache_beside_shrinking_and_growing_never_faults(void **state)
{
    /* The memory that goes is not accessible; a use of it would end the program. */
    struct rig rig = {0};
    pthread_t reader;

    (void)state;
    set_up(&rig, 2 * PAGE);
    GM_ASSERT(pthread_create(&reader, NULL, use_it, &rig) == 0);
    for (unsigned i = 0; i < ROUNDS; i++) {
        set_size(&rig, PAGE);
        GM_ASSERT(gm_ram_resize(rig.ram, PAGE, NULL) == 0);
        GM_ASSERT(gm_ram_resize(rig.ram, 2 * PAGE, NULL) == 0);
        set_size(&rig, 2 * PAGE);
    }
    atomic_store(&rig.is_done, true);
    GM_ASSERT(pthread_join(reader, NULL) == 0);
    tear_down(&rig);
}

/* Two blocks take turns at 0; the editor says what was committed before and after. */
struct turns {
    struct gm_space *space;
    struct gm_cache cache;
    atomic_uint begun; /* commits; odd: the second block is, or comes to be, shown */
    atomic_uint done;
};

static void *follow(void *argument)
{
    struct turns *turns = argument;
    struct gm_reader reader;
    unsigned done;

    gm_reader_init(&reader, turns->space);
    do {
        struct gm_section section;
        unsigned begun;
        uint64_t value;
        uint64_t seen;

        done = atomic_load(&turns->done);
        GM_ASSERT(gm_cache_load(&turns->cache, 0, 8, GM_ORDER_LITTLE, &value) == GM_ACCESS_OK);
        GM_ASSERT(gm_view_find(gm_reader_view(&reader), 0, &section));
        seen = *(const uint64_t *)section.hva;
        begun = atomic_load(&turns->begun);
        GM_ASSERT(begun > done || (value == done % 2 && seen == done % 2));
    } while (done < ROUNDS);
    gm_reader_fini(&reader);
    return NULL;
}

static void cache_and_reader_never_show_what_an_ended_commit_replaced(void **state)
{
    struct gm_ram *rams[2];
    struct gm_region *above = NULL;
    struct turns turns = {0};
    struct gm_region *root;
    struct gm_map *map;
    pthread_t reader;

    (void)state;
    GM_ASSERT(gm_map_new(NULL, &map, NULL) == 0);
    GM_ASSERT(gm_region_new_container(map, "root", GM_SIZE_2_64, &root) == 0);
    for (unsigned i = 0; i < 2; i++) {
        struct gm_region *region;

        GM_ASSERT(gm_ram_new_anon(PAGE, NULL, &rams[i], NULL) == 0);
        *(uint64_t *)gm_ram_hva(rams[i]) = i; /* the turn that shows it */
        GM_ASSERT(gm_region_new_ram(map, "ram", rams[i], &region) == 0);
        GM_ASSERT(gm_region_set_enabled(region, i == 0, NULL) == 0);
        GM_ASSERT(gm_region_add(root, region, NULL) == 0); /* the later one in front */
        above = region;
        gm_region_put(region);
    }
    GM_ASSERT(gm_space_new(map, "memory", root, &turns.space, NULL) == 0);
    GM_ASSERT(gm_cache_init(&turns.cache, turns.space, 0, PAGE, false, no_attrs) == 0);
    GM_ASSERT(pthread_create(&reader, NULL, follow, &turns) == 0);
    for (unsigned i = 1; i <= ROUNDS; i++) {
        atomic_store(&turns.begun, i);
        GM_ASSERT(gm_region_set_enabled(above, i % 2 == 1, NULL) == 0);
        atomic_store(&turns.done, i);
        sched_yield();
    }
    GM_ASSERT(pthread_join(reader, NULL) == 0);
    gm_cache_fini(&turns.cache);
    GM_ASSERT(gm_space_free(turns.space, NULL) == 0);
    gm_region_put(root);
    gm_map_quiesce(map);
    gm_map_free(map);
    gm_ram_put(rams[0]);
    gm_ram_put(rams[1]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(cache_memory_stays_while_it_is_used_inline),
        cmocka_unit_test(cache_use_is_waited_for_by_quiesce),
        cmocka_unit_test(cache_beside_shrinking_and_growing_never_faults),
        cmocka_unit_test(cache_and_reader_never_show_what_an_ended_commit_replaced),
    };

    return cmocka_run_group_tests_name("cache_race", tests, NULL, NULL);
}
