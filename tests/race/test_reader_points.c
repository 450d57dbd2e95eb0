/*
 * race/test_reader_points.c - the orders of readers, commits and regions' ends, forced one by one: rows R1 to R5 and G1 to G3 of
 * docs/locking.md, and row 2 of base/readers.h. (Row 1 is in race/test_cache_race.c.)
 *
 *   cell-loaded     a reader, in a section, knows the space's cell, and not its view
 *   view-loaded     ... and the view, and has looked at nothing in it
 *   grave-laid      a region has lost its last reference and is in the graveyard; nobody was looked for to bury it
 *   bury-looked     who may bury has found nothing (more), or the lock taken
 *   map-unlocked    the map's lock is dropped, the graveyard was not looked at
 *   readers-waited  a commit has seen every inline reader outside
 */
#include "model/actor.h"
#include "unit/machine.h"

#include "base/check.h"

#include <sched.h>
#include <stdatomic.h>

#define PAGE 4096u
#define DEVICE 0x100000u
#define OLD_WORD UINT64_C(0x1111111111111111)
#define NEW_WORD UINT64_C(0x2222222222222222)

static struct machine machine;
static struct actor reader;
static struct actor editor;

/* A region's end. */
struct end {
    struct gm_region *region; /* the test's reference */
    atomic_uint count;
    pthread_t thread; /* that it came on; pairs with count */
};

static void on_release(void *opaque)
{
    struct end *end = opaque;

    end->thread = pthread_self();
    atomic_fetch_add(&end->count, 1);
}

static struct end memories[2]; /* the first says OLD_WORD and is shown at 0, the second NEW_WORD */
static struct end device;

static enum gm_access on_write(void *opaque, uint64_t offset, unsigned size_bytes, uint64_t value,
                               struct gm_attrs attrs)
{
    (void)opaque;
    (void)offset;
    (void)size_bytes;
    (void)value;
    (void)attrs;
    actor_point("in the callback");
    return GM_ACCESS_OK;
}

static const struct gm_io_ops io = {.size = sizeof(io), .write = on_write};

static void make(struct end *end, struct gm_region_options options)
{
    atomic_store(&end->count, 0);
    options.size = sizeof(options);
    options.opaque = end;
    options.release = on_release;
    assert_int_equal(gm_region_new(machine.map, &options, &end->region, NULL), 0);
}

static int set_up(void **state)
{
    (void)state;
    machine = machine_new();
    for (unsigned i = 0; i < 2; i++) {
        struct gm_ram *ram = new_ram(PAGE);

        *(uint64_t *)gm_ram_hva(ram) = i == 0 ? OLD_WORD : NEW_WORD;
        make(&memories[i],
             (struct gm_region_options){.kind = GM_REGION_RAM, .size_bytes = PAGE, .ram = ram});
        gm_ram_put(ram);
    }
    make(&device, (struct gm_region_options){
                      .kind = GM_REGION_MMIO, .size_bytes = PAGE, .addr = DEVICE, .io = &io});
    assert_int_equal(gm_region_add(machine.root, memories[0].region, NULL), 0);
    return 0;
}

static void give_up(struct end *end)
{
    gm_region_put(end->region);
    end->region = NULL;
}

static int tear_down(void **state)
{
    (void)state;
    actors_end();
    give_up(&memories[0]);
    give_up(&memories[1]);
    give_up(&device);
    machine_free(&machine);
    return 0;
}

static void show_device(void)
{
    assert_int_equal(gm_region_add(machine.root, device.region, NULL), 0);
}

/* The second memory takes the first one's place, in one commit. */
static void swap_memory(void *unused)
{
    struct gm_txn *txn;

    (void)unused;
    GM_ASSERT(gm_txn_begin(machine.map, &txn) == 0);
    GM_ASSERT(gm_txn_del(txn, machine.root, memories[0].region) == 0);
    GM_ASSERT(gm_txn_add(txn, machine.root, memories[1].region) == 0);
    GM_ASSERT(gm_txn_commit(txn, NULL) == 0);
}

static uint64_t loaded;

static void load_word(void *unused)
{
    (void)unused;
    GM_ASSERT(gm_read(machine.space, 0, &loaded, 8, no_attrs) == GM_ACCESS_OK);
}

static void assert_loads_the_new_word(void)
{
    load_word(NULL);
    assert_int_equal(loaded, NEW_WORD);
}

/* However many turns others get, the region does not end. */
static void assert_lives_on(struct end *end)
{
    for (int i = 0; i < 40; i++) {
        sched_yield();
        assert_int_equal(atomic_load(&end->count), 0);
    }
}

/* ---- R1 to R5: a reader and a commit ---- */

static void reader_with_the_view_goes_on_with_it_after_the_commit(void **state)
{
    /* R1: and the view holds what it shows, which nobody else does any more. */
    (void)state;
    ACTORS_NEED_POINTS();
    show_device(); /* so that the cell is the root's, whatever is at 0 */
    actor_begin_until(&reader, load_word, NULL, "view-loaded", 1);
    swap_memory(NULL);
    assert_loads_the_new_word();
    give_up(&memories[0]);
    assert_lives_on(&memories[0]);
    actor_end(&reader);
    assert_int_equal(loaded, OLD_WORD);
    gm_map_quiesce(machine.map);
    assert_int_equal(atomic_load(&memories[0].count), 1);
}

static void reader_with_the_cell_finds_the_view_that_a_commit_publishes_there(void **state)
{
    /* R2 */
    (void)state;
    ACTORS_NEED_POINTS();
    show_device();
    actor_begin_until(&reader, load_word, NULL, "cell-loaded", 1);
    swap_memory(NULL);
    actor_end(&reader);
    assert_int_equal(loaded, NEW_WORD);
}

static void reader_with_the_cell_that_its_space_leaves_finds_its_last_view(void **state)
{
    /* R3: the space goes from the one memory's cell, of which nobody else is, to the other's. */
    (void)state;
    ACTORS_NEED_POINTS();
    actor_begin_until(&reader, load_word, NULL, "cell-loaded", 1);
    swap_memory(NULL);
    assert_loads_the_new_word();
    give_up(&memories[0]);
    assert_lives_on(&memories[0]);
    actor_end(&reader);
    assert_int_equal(loaded, OLD_WORD);
    gm_map_quiesce(machine.map);
    assert_int_equal(atomic_load(&memories[0].count), 1);
}

static struct gm_view *taken;

static void take_view(void *unused)
{
    (void)unused;
    taken = gm_view_get(machine.space);
}

static void reader_may_take_a_reference_on_a_view_that_was_replaced(void **state)
{
    /* R4: the reference is taken after the view was retired, and lasts. */
    struct gm_section section;

    (void)state;
    ACTORS_NEED_POINTS();
    show_device();
    actor_begin_until(&reader, take_view, NULL, "view-loaded", 1);
    swap_memory(NULL);
    give_up(&memories[0]);
    assert_lives_on(&memories[0]);
    actor_end(&reader);
    gm_map_quiesce(machine.map);
    assert_int_equal(atomic_load(&memories[0].count), 0);
    assert_true(gm_view_find(taken, 0, &section));
    assert_int_equal(*(const uint64_t *)section.hva, OLD_WORD);
    gm_view_put(taken);
    gm_map_quiesce(machine.map);
    assert_int_equal(atomic_load(&memories[0].count), 1);
}

static pthread_t writer_thread;

static void write_to_device(void *unused)
{
    (void)unused;
    writer_thread = pthread_self();
    GM_ASSERT(gm_store(machine.space, DEVICE, 4, GM_ORDER_LITTLE, 7, no_attrs) == GM_ACCESS_OK);
}

static void reader_in_a_callback_keeps_its_region_and_ends_it(void **state)
{
    /* R5: the region is deleted and given up meanwhile. Its end comes on the reader's thread. */
    (void)state;
    show_device();
    actor_begin_until(&reader, write_to_device, NULL, "in the callback", 1);
    assert_int_equal(gm_region_del(machine.root, device.region, NULL), 0);
    give_up(&device);
    gm_map_quiesce(machine.map); /* so that no view holds it */
    assert_int_equal(atomic_load(&device.count), 0);
    actor_end(&reader);
    assert_int_equal(atomic_load(&device.count), 1);
    assert_true(pthread_equal(device.thread, writer_thread));
}

/* ---- readers.h: a cache that is used inline ---- */

static void shrink_memory(void *unused)
{
    struct gm_txn *txn;

    (void)unused;
    GM_ASSERT(gm_txn_begin(machine.map, &txn) == 0);
    GM_ASSERT(gm_txn_set_size(txn, memories[0].region, 0) == 0);
    GM_ASSERT(gm_txn_commit(txn, NULL) == 0);
}

static void cache_used_after_the_owner_saw_nobody_inside_is_not_used_inline(void **state)
{
    /* Row 2: the commit, which has published, is about to give the memory up. */
    struct gm_cache cache;

    (void)state;
    ACTORS_NEED_POINTS();
    assert_int_equal(gm_cache_init(&cache, machine.space, 0, PAGE, true, no_attrs), 0);
    assert_int_equal(gm_cache_store(&cache, 0, 8, GM_ORDER_LITTLE, 1), GM_ACCESS_OK);
    assert_true(gm_cache_enter(&cache, 0, 8, cache.store_offsets));
    gm_cache_leave(cache.inside);
    actor_begin_until(&editor, shrink_memory, NULL, "readers-waited", 1);
    assert_false(gm_cache_enter(&cache, 0, 8, cache.store_offsets));
    assert_int_equal(gm_cache_store(&cache, 0, 8, GM_ORDER_LITTLE, 2), GM_ACCESS_DECODE);
    actor_end(&editor);
    gm_cache_fini(&cache);
}

/* ---- G1 to G3: the graveyard ---- */

static void on_begin(void *opaque)
{
    (void)opaque;
    actor_point("committing");
}

static pthread_t editor_thread;

/* A commit that has the map's lock at "committing". */
static void commit(void *unused)
{
    const struct gm_listener_ops ops = {.size = sizeof(ops), .begin = on_begin};
    struct gm_listener *listener;

    editor_thread = pthread_self();
    GM_ASSERT(gm_listener_register(machine.map, machine.space, 0, &ops, NULL, &listener, NULL) ==
              0);
    actor_point("listening");
    swap_memory(unused);
    GM_ASSERT(gm_listener_unregister(listener, NULL) == 0);
}

static void begin_commit(void)
{
    actor_begin_until(&editor, commit, NULL, "listening", 1);
    actor_go_on_until(&editor, "committing");
}

static pthread_t putter_thread;

static void put_device(void *unused)
{
    (void)unused;
    putter_thread = pthread_self();
    gm_region_put(device.region);
    device.region = NULL;
}

static void assert_ended_on(pthread_t thread)
{
    assert_int_equal(atomic_load(&device.count), 1);
    assert_true(pthread_equal(device.thread, thread));
}

static void region_put_while_the_lock_is_held_is_buried_by_its_holder(void **state)
{
    /* G1: who puts does not wait. */
    (void)state;
    begin_commit();
    actor_begin(&reader, put_device, NULL, NULL, 1);
    actor_end(&reader);
    assert_int_equal(atomic_load(&device.count), 0);
    if (actors_have_points()) { /* else the holder has it buried by some later unlock */
        actor_go_on_until(&editor, "map-unlocked");
        assert_int_equal(atomic_load(&device.count), 0);
        actor_go_on_until(&editor, "bury-looked");
        assert_ended_on(editor_thread);
    }
    actor_end(&editor);
    assert_ended_on(editor_thread);
}

static void region_put_after_the_holder_has_looked_is_buried_by_who_puts(void **state)
{
    /* G2 */
    (void)state;
    ACTORS_NEED_POINTS();
    begin_commit();
    actor_go_on_until(&editor, "map-unlocked");
    actor_go_on_until(&editor, "bury-looked");
    actor_begin(&reader, put_device, NULL, NULL, 1);
    actor_end(&reader);
    assert_ended_on(putter_thread);
    actor_end(&editor);
}

static void region_put_that_found_the_lock_taken_is_found_after_the_drop(void **state)
{
    /* G3: the try came before the drop, and so the push before the look. */
    (void)state;
    ACTORS_NEED_POINTS();
    begin_commit();
    actor_begin_until(&reader, put_device, NULL, "grave-laid", 1);
    actor_go_on_until(&reader, "bury-looked");
    actor_go_on_until(&editor, "map-unlocked");
    assert_int_equal(atomic_load(&device.count), 0);
    actor_go_on_until(&editor, "bury-looked");
    assert_ended_on(editor_thread);
    actor_end(&reader);
    actor_end(&editor);
}

static void region_put_between_the_drop_and_the_look_is_buried_once(void **state)
{
    /* G3: both find it possible; one has it, whichever looks first. */
    (void)state;
    ACTORS_NEED_POINTS();
    for (unsigned i = 0; i < 2; i++) {
        begin_commit();
        actor_begin_until(&reader, put_device, NULL, "grave-laid", 1);
        actor_go_on_until(&editor, "map-unlocked");
        actor_go_on_until(i == 0 ? &reader : &editor, "bury-looked");
        assert_ended_on(i == 0 ? putter_thread : editor_thread);
        actor_go_on_until(i == 0 ? &editor : &reader, "bury-looked");
        assert_int_equal(atomic_load(&device.count), 1);
        actor_end(&editor);
        actor_end(&reader);
        if (i == 0) {
            (void)tear_down(state);
            (void)set_up(state);
        }
    }
}

static int prepare(void **state)
{
    (void)state;
    actors_prepare();
    return 0;
}

#define ORDER(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        ORDER(reader_with_the_view_goes_on_with_it_after_the_commit),
        ORDER(reader_with_the_cell_finds_the_view_that_a_commit_publishes_there),
        ORDER(reader_with_the_cell_that_its_space_leaves_finds_its_last_view),
        ORDER(reader_may_take_a_reference_on_a_view_that_was_replaced),
        ORDER(reader_in_a_callback_keeps_its_region_and_ends_it),
        ORDER(cache_used_after_the_owner_saw_nobody_inside_is_not_used_inline),
        ORDER(region_put_while_the_lock_is_held_is_buried_by_its_holder),
        ORDER(region_put_after_the_holder_has_looked_is_buried_by_who_puts),
        ORDER(region_put_that_found_the_lock_taken_is_found_after_the_drop),
        ORDER(region_put_between_the_drop_and_the_look_is_buried_once),
    };

    return cmocka_run_group_tests_name("reader_points", tests, prepare, NULL);
}
