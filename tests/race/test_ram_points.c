/*
 * race/test_ram_points.c - the orders of who shows or maps a block's memory and who takes it away, forced one by one: rows Z1 to
 * Z5 of docs/locking.md, and those of ram/watch.h.
 *
 *   view-loaded    a reader, in a section, knows its view, and has looked at nothing in it
 *   ram-shrinking  the block's size is the smaller one; nothing was waited for
 *   ram-growing    the memory is there; the size is the old one
 *   discard-freed  the pages are gone; no watch was told the end
 */
#include "model/actor.h"
#include "unit/machine.h"

#include "base/check.h"
#include "ram/watch.h"

#include <errno.h>
#include <string.h>

#define PAGE 4096u
#define SMALL_PAGES 4u
#define LARGE_PAGES 8u
#define SMALL_BYTES (UINT64_C(4096) * SMALL_PAGES)
#define LARGE_BYTES (UINT64_C(4096) * LARGE_PAGES)
#define LAST_WORD (LARGE_BYTES - 8)
#define WORD UINT64_C(0x1111111111111111)

static struct machine machine;
static struct gm_ram *ram;
static struct gm_region *region; /* at 0; the tree's */
static struct actor editor;
static struct actor resizer;
static struct actor other;

static void open_with(uint64_t ram_bytes, uint64_t region_bytes)
{
    const struct gm_ram_options options = {.size = sizeof(options),
                                           .kind = GM_RAM_ANON,
                                           .size_bytes = ram_bytes,
                                           .max_size_bytes = LARGE_BYTES};

    machine = machine_new();
    assert_int_equal(gm_ram_new(&options, &ram, NULL), 0);
    region = add_memory(&machine, GM_REGION_RAM, 0, region_bytes, ram, 0);
}

static int set_up_large(void **state)
{
    (void)state;
    open_with(LARGE_BYTES, LARGE_BYTES);
    *(uint64_t *)((uint8_t *)gm_ram_hva(ram) + LAST_WORD) = WORD;
    return 0;
}

static int set_up_free(void **state)
{
    (void)state;
    open_with(LARGE_BYTES, SMALL_BYTES);
    return 0;
}

static int set_up_small(void **state)
{
    (void)state;
    open_with(SMALL_BYTES, SMALL_BYTES);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    actors_end();
    machine_free(&machine);
    gm_ram_put(ram);
    return 0;
}

/* ---- Z1 to Z5: a resize ---- */

static int size_region(uint64_t size_bytes)
{
    struct gm_txn *txn;

    GM_ASSERT(gm_txn_begin(machine.map, &txn) == 0);
    GM_ASSERT(gm_txn_set_size(txn, region, size_bytes) == 0);
    return gm_txn_commit(txn, NULL);
}

static int prepare_answer; /* the listener's, to a commit that has applied its edits */

static int on_prepare(void *opaque, struct gm_space *space, const struct gm_change *changes,
                      size_t count, struct gm_diag *diag)
{
    (void)opaque;
    (void)space;
    (void)changes;
    (void)count;
    (void)diag;
    actor_point("preparing");
    return prepare_answer;
}

/* What a commit did, with a stop in its middle: the tree is edited, no view is published. */
struct sizing {
    uint64_t size_bytes;
    int answer;
};

static void size_with_a_stop(void *opaque)
{
    const struct gm_listener_ops ops = {.size = sizeof(ops), .prepare = on_prepare};
    struct sizing *sizing = opaque;
    struct gm_listener *listener;

    prepare_answer = 0;
    GM_ASSERT(gm_listener_register(machine.map, machine.space, 0, &ops, NULL, &listener, NULL) ==
              0);
    actor_point("listening");
    prepare_answer = sizing->answer;
    GM_ASSERT(size_region(sizing->size_bytes) == sizing->answer);
    prepare_answer = 0;
    GM_ASSERT(gm_listener_unregister(listener, NULL) == 0);
}

static void begin_sizing(struct sizing *sizing)
{
    actor_begin_until(&editor, size_with_a_stop, sizing, "listening", 1);
    actor_go_on_until(&editor, "preparing");
}

static void resize(void *opaque)
{
    const uint64_t *size_bytes = opaque;

    GM_ASSERT(gm_ram_resize(ram, *size_bytes, NULL) == 0);
}

static uint64_t small_bytes = SMALL_BYTES;
static uint64_t large_bytes = LARGE_BYTES;

static void assert_last_word_is_memory(void)
{
    uint64_t value = 0;

    assert_int_equal(gm_store(machine.space, LAST_WORD, 8, GM_ORDER_LITTLE, 7, no_attrs),
                     GM_ACCESS_OK);
    assert_int_equal(gm_load(machine.space, LAST_WORD, 8, GM_ORDER_LITTLE, &value, no_attrs),
                     GM_ACCESS_OK);
    assert_int_equal(value, 7);
}

static void resize_in_a_commit_that_has_claimed_more_is_busy(void **state)
{
    /* Z1: nothing shows the claimed part yet. */
    struct sizing sizing = {.size_bytes = LARGE_BYTES};

    (void)state;
    begin_sizing(&sizing);
    assert_int_equal(gm_ram_resize(ram, SMALL_BYTES, NULL), -EBUSY);
    actor_end(&editor);
    assert_last_word_is_memory();
}

static void resize_that_has_stored_the_size_lets_nobody_claim_more(void **state)
{
    /* Z2: the memory is there still. */
    (void)state;
    ACTORS_NEED_POINTS();
    actor_begin_until(&resizer, resize, &small_bytes, "ram-shrinking", 1);
    assert_int_equal(size_region(LARGE_BYTES), -EINVAL);
    actor_end(&resizer);
    assert_int_equal(size_region(LARGE_BYTES), -EINVAL);
}

static uint64_t loaded;

static void load_last_word(void *unused)
{
    (void)unused;
    GM_ASSERT(gm_read(machine.space, LAST_WORD, &loaded, 8, no_attrs) == GM_ACCESS_OK);
}

static void resize_waits_for_a_reader_of_the_view_that_showed_more(void **state)
{
    /* Z3: the commit does not, and gives the claim back. */
    (void)state;
    ACTORS_NEED_POINTS();
    actor_begin_until(&other, load_last_word, NULL, "view-loaded", 1);
    assert_int_equal(size_region(SMALL_BYTES), 0);
    actor_begin_until(&resizer, resize, &small_bytes, "ram-shrinking", 1);
    actor_go_on(&resizer, NULL);
    assert_true(actor_stays_waiting(&resizer));
    actor_end(&other);
    assert_int_equal(loaded, WORD);
    actor_end(&resizer);
    assert_int_equal(gm_read(machine.space, LAST_WORD, &loaded, 8, no_attrs), GM_ACCESS_DECODE);
}

static void resize_beside_a_commit_that_shrinks_and_fails_is_busy(void **state)
{
    /* Z4: the tree shows less for a moment, and then the old extent again. */
    struct sizing sizing = {.size_bytes = SMALL_BYTES, .answer = -EIO};

    (void)state;
    begin_sizing(&sizing);
    assert_int_equal(gm_ram_resize(ram, SMALL_BYTES, NULL), -EBUSY);
    actor_end(&editor);
    assert_int_equal(gm_ram_resize(ram, SMALL_BYTES, NULL), -EBUSY);
    assert_last_word_is_memory();
}

static void resize_that_grows_stores_the_size_after_the_memory_is_there(void **state)
{
    /* Z5: before the size is seen, more cannot be claimed; the memory behind it can be used by whoever sees it. */
    uint8_t *hva = gm_ram_hva(ram);

    (void)state;
    ACTORS_NEED_POINTS();
    actor_begin_until(&resizer, resize, &large_bytes, "ram-growing", 1);
    assert_int_equal(gm_ram_size(ram), SMALL_BYTES);
    assert_int_equal(size_region(LARGE_BYTES), -EINVAL);
    hva[LAST_WORD] = 1;
    actor_end(&resizer);
    assert_int_equal(size_region(LARGE_BYTES), 0);
    assert_last_word_is_memory();
}

/* ---- ram/watch.h: a discard, and who maps the memory ---- */

/* What a watch was told: "b" or "e", and whether the page still says WORD. */
struct told {
    char text[16];
};

static void tell(struct told *told, const char *what, const void *hva)
{
    strcat(told->text, what);
    strcat(told->text, *(const uint64_t *)hva == WORD ? "1 " : "0 ");
}

static void on_begin(void *opaque, void *hva, uint64_t size_bytes)
{
    GM_ASSERT(size_bytes == PAGE);
    tell(opaque, "b", hva);
}

static void on_end(void *opaque, void *hva, uint64_t size_bytes)
{
    GM_ASSERT(size_bytes == PAGE);
    tell(opaque, "e", hva);
}

static const struct ram_watch_ops watch_ops = {.begin = on_begin, .end = on_end};
static struct told told;
static struct ram_watch *watch;

static void get_watch(void *unused)
{
    (void)unused;
    watch = ram_watch_get(ram, &watch_ops, &told);
    GM_ASSERT(watch != NULL);
}

static void put_watch(void *unused)
{
    (void)unused;
    ram_watch_put(watch);
}

static void discard(void *unused)
{
    (void)unused;
    GM_ASSERT(gm_ram_discard(ram, 0, PAGE, NULL) == 0);
}

static void fill(void)
{
    told = (struct told){""};
    *(uint64_t *)gm_ram_hva(ram) = WORD;
}

static void watch_got_before_the_discard_is_told(void **state)
{
    /* Row 1: before the pages go, and after. */
    (void)state;
    fill();
    get_watch(NULL);
    discard(NULL);
    assert_string_equal(told.text, "b1 e0 ");
    put_watch(NULL);
}

static void watch_got_in_a_discard_waits_and_is_told_nothing(void **state)
{
    /* Row 2: no end without a beginning. What it maps then is the new page. */
    (void)state;
    ACTORS_NEED_POINTS();
    fill();
    actor_begin_until(&other, discard, NULL, "discard-freed", 1);
    actor_begin(&editor, get_watch, NULL, NULL, 1);
    assert_true(actor_stays_waiting(&editor));
    actor_end(&other);
    actor_end(&editor);
    assert_string_equal(told.text, "");
    put_watch(NULL);
}

static void watch_put_in_a_discard_waits_and_is_told_the_end(void **state)
{
    /* Row 3: and nothing after it. */
    (void)state;
    ACTORS_NEED_POINTS();
    fill();
    get_watch(NULL);
    actor_begin_until(&other, discard, NULL, "discard-freed", 1);
    actor_begin(&editor, put_watch, NULL, NULL, 1);
    assert_true(actor_stays_waiting(&editor));
    actor_end(&other);
    actor_end(&editor);
    assert_string_equal(told.text, "b1 e0 ");
    discard(NULL);
    assert_string_equal(told.text, "b1 e0 ");
}

static int prepare(void **state)
{
    (void)state;
    actors_prepare();
    return 0;
}

#define ORDER(test, set_up) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        ORDER(resize_in_a_commit_that_has_claimed_more_is_busy, set_up_free),
        ORDER(resize_that_has_stored_the_size_lets_nobody_claim_more, set_up_free),
        ORDER(resize_waits_for_a_reader_of_the_view_that_showed_more, set_up_large),
        ORDER(resize_beside_a_commit_that_shrinks_and_fails_is_busy, set_up_large),
        ORDER(resize_that_grows_stores_the_size_after_the_memory_is_there, set_up_small),
        ORDER(watch_got_before_the_discard_is_told, set_up_small),
        ORDER(watch_got_in_a_discard_waits_and_is_told_nothing, set_up_small),
        ORDER(watch_put_in_a_discard_waits_and_is_told_the_end, set_up_small),
    };

    return cmocka_run_group_tests_name("ram_points", tests, prepare, NULL);
}
