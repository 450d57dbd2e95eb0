/* unit/test_log.c - the log hook: what it is told, and when it is not called. */
#include <guestmem/guestmem.h>

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#define PAGE 4096u

/* A map with one space of RAM, a backend that can be told to fail, and what the hook was told. */
struct rig {
    struct gm_map *map;
    struct gm_region *root;
    struct gm_space *space;
    struct gm_ram *block;
    struct gm_region *ram;
    struct gm_region *device; /* a page of MMIO over the RAM's second */
    struct gm_slots *slots;
    int create_rc; /* what create returns */
    int fetch_rc;
    long hold_ms;
    unsigned said;
    enum gm_log_level level;
    char text[GM_DIAG_TEXT_BYTES];
    int edit_rc;                   /* of an edit that the hook tries */
    struct gm_region *put_in_hold; /* dies while a commit holds the map's lock */
    unsigned released;
};

static void on_log(void *opaque, enum gm_log_level level, const char *text)
{
    struct rig *rig = opaque;

    rig->said++;
    rig->level = level;
    snprintf(rig->text, sizeof(rig->text), "%s", text);
    rig->edit_rc = gm_region_set_enabled(rig->ram, true, NULL);
}

static int on_create(void *opaque, const struct gm_slot *slot)
{
    (void)slot;
    return ((struct rig *)opaque)->create_rc;
}

static int on_destroy(void *opaque, const struct gm_slot *slot)
{
    (void)opaque;
    (void)slot;
    return 0;
}

static int on_flags(void *opaque, const struct gm_slot *slot, uint32_t flags)
{
    (void)opaque;
    (void)slot;
    (void)flags;
    return 0;
}

static int on_hold(void *opaque)
{
    struct rig *rig = opaque;
    const struct timespec time = {.tv_nsec = rig->hold_ms * 1000000};

    gm_region_put(rig->put_in_hold);
    rig->put_in_hold = NULL;
    nanosleep(&time, NULL); /* a vCPU that takes its time to leave */
    return 0;
}

static void on_release(void *opaque)
{
    (void)opaque;
}

static int on_fetch(void *opaque, const struct gm_slot *slot, uint64_t first_page,
                    uint64_t page_count, uint64_t *bitmap)
{
    (void)slot;
    (void)first_page;
    (void)page_count;
    (void)bitmap;
    return ((struct rig *)opaque)->fetch_rc;
}

/* A hold is slow from @slow_ms on, a release from @slow_release_ms on: NEVER where the machine's load must not be heard. */
#define NEVER 1000000u
static void set_up(struct rig *rig, uint32_t max_slots, uint32_t slow_ms, uint32_t slow_release_ms)
{
    static const struct gm_io_ops IO = {.size = sizeof(IO)};
    const struct gm_map_options map = {
        .size = sizeof(map),
        .log = {.log = on_log, .opaque = rig, .slow_release_ms = slow_release_ms}};
    const struct gm_backend_options options = {
        .size = sizeof(options),
        .max_slots = max_slots,
        .log = {.log = on_log, .opaque = rig, .slow_hold_ms = slow_ms},
    };
    const struct gm_backend_ops ops = {.size = sizeof(ops),
                                       .create = on_create,
                                       .destroy = on_destroy,
                                       .set_flags = on_flags,
                                       .hold = on_hold,
                                       .release = on_release,
                                       .log_fetch = on_fetch};
    const struct gm_region_options device = {.size = sizeof(device),
                                             .kind = GM_REGION_MMIO,
                                             .size_bytes = PAGE,
                                             .addr = PAGE,
                                             .priority = 1,
                                             .disabled = true,
                                             .io = &IO};

    memset(rig, 0, sizeof(*rig));
    assert_int_equal(gm_map_new(&map, &rig->map, NULL), 0);
    assert_int_equal(gm_region_new_container(rig->map, "root", GM_SIZE_2_64, &rig->root), 0);
    assert_int_equal(gm_space_new(rig->map, "space", rig->root, &rig->space, NULL), 0);
    assert_int_equal(gm_ram_new_anon(4 * PAGE, NULL, &rig->block, NULL), 0);
    assert_int_equal(gm_region_new_ram(rig->map, "ram", rig->block, &rig->ram), 0);
    assert_int_equal(gm_region_new(rig->map, &device, &rig->device, NULL), 0);
    assert_int_equal(gm_region_add(rig->root, rig->ram, NULL), 0);
    assert_int_equal(gm_region_add(rig->root, rig->device, NULL), 0);
    assert_int_equal(gm_slots_attach(rig->space, &options, &ops, rig, &rig->slots, NULL), 0);
}

static void tear_down(struct rig *rig)
{
    assert_int_equal(gm_slots_detach(rig->slots, NULL), 0);
    gm_region_put(rig->device);
    gm_region_put(rig->ram);
    gm_region_put(rig->root);
    gm_map_free(rig->map);
    gm_map_quiesce(NULL);
    gm_ram_put(rig->block);
}

static void log_says_nothing_while_all_is_well(void **state)
{
    struct rig rig;

    (void)state;
    set_up(&rig, 0, NEVER, NEVER);
    for (int i = 0; i < 4; i++) {
        assert_int_equal(gm_region_set_enabled(rig.device, i % 2 == 0, NULL), 0);
    }
    /* An edit that fails and is undone has a diag; it is nothing for the log. */
    rig.create_rc = 0;
    assert_int_equal(gm_region_add(rig.root, rig.ram, NULL), -EBUSY);
    tear_down(&rig);
    assert_int_equal(rig.said, 0);
}

static void log_says_that_vcpus_were_held_for_long(void **state)
{
    struct rig rig;

    (void)state;
    set_up(&rig, 0, 20, NEVER);
    rig.hold_ms = 20;
    assert_int_equal(gm_region_set_enabled(rig.device, true, NULL), 0); /* splits the slot */
    assert_int_equal(rig.said, 1);
    assert_int_equal(rig.level, GM_LOG_WARNING);
    assert_non_null(strstr(rig.text, "held out of guest mode for "));
    assert_int_equal(rig.edit_rc, -EDEADLK); /* under the commit lock, and nothing hung */
    tear_down(&rig);
}

static void on_region_release(void *opaque)
{
    ((struct rig *)opaque)->released++;
}

static void log_says_that_a_region_was_released_late(void **state)
{
    /* It died while a commit was under way, and had to wait for its end. */
    struct rig rig;
    struct gm_region_options options = {.size = sizeof(options),
                                        .kind = GM_REGION_RESERVATION,
                                        .name = "card",
                                        .size_bytes = PAGE,
                                        .opaque = &rig,
                                        .release = on_region_release};

    (void)state;
    set_up(&rig, 0, NEVER, 20);
    assert_int_equal(gm_region_new(rig.map, &options, &rig.put_in_hold, NULL), 0);
    rig.hold_ms = 20;
    assert_int_equal(gm_region_set_enabled(rig.device, true, NULL), 0); /* splits the slot */
    assert_int_equal(rig.said, 1);
    assert_int_equal(rig.level, GM_LOG_WARNING);
    assert_non_null(strstr(rig.text, "region 'card' is released "));
    assert_int_equal(rig.edit_rc, -EDEADLK);
    assert_int_equal(rig.released, 1);
    tear_down(&rig);
}

static void log_says_that_slots_were_joined(void **state)
{
    struct gm_region *more;
    struct rig rig;

    (void)state;
    set_up(&rig, 3, NEVER, NEVER);
    assert_int_equal(gm_region_set_enabled(rig.device, true, NULL), 0);
    assert_int_equal(gm_region_set_enabled(rig.device, false, NULL), 0); /* three pieces stay */
    assert_int_equal(rig.said, 0);
    assert_int_equal(gm_region_new_alias(rig.map, "more", rig.ram, 0, PAGE, &more), 0);
    assert_int_equal(gm_region_set_addr(more, 0x100000, NULL), 0);
    assert_int_equal(gm_region_add(rig.root, more, NULL), 0);
    assert_int_equal(rig.said, 1);
    assert_int_equal(rig.level, GM_LOG_WARNING);
    assert_non_null(strstr(rig.text, "slot numbers ran out"));
    gm_region_put(more);
    tear_down(&rig);
}

static void log_says_that_a_dirty_log_could_not_be_read(void **state)
{
    struct gm_txn *txn;
    struct rig rig;

    (void)state;
    set_up(&rig, 0, NEVER, NEVER);
    assert_int_equal(gm_txn_begin(rig.map, &txn), 0);
    assert_int_equal(gm_txn_set_log(txn, rig.ram, 0, true), 0);
    assert_int_equal(gm_txn_commit(txn, NULL), 0);
    rig.fetch_rc = -EFAULT;
    assert_int_equal(gm_region_log_sync(rig.ram, 0, PAGE), -EIO);
    assert_int_equal(rig.said, 1);
    assert_int_equal(rig.level, GM_LOG_WARNING);
    assert_non_null(strstr(rig.text, "could not be read: Bad address; the sync fails"));
    rig.said = 0;
    rig.fetch_rc = -EIO;
    assert_int_equal(gm_region_set_enabled(rig.ram, false, NULL), 0);
    assert_int_equal(rig.said, 1);
    assert_non_null(strstr(rig.text, "all of its pages count as written"));
    rig.fetch_rc = 0;
    tear_down(&rig);
}

static void log_says_what_broke_the_map(void **state)
{
    /* The slot is split: its delete succeeds, all creates fail, the inverse too. */
    struct gm_diag diag = {0};
    struct rig rig;

    (void)state;
    set_up(&rig, 0, NEVER, NEVER);
    rig.create_rc = -ENOMEM;
    assert_int_equal(gm_region_set_enabled(rig.device, true, &diag), -EIO);
    assert_int_equal(diag.id, GM_DIAG_UNDO_FAILED);
    assert_int_equal(rig.said, 2); /* which call, then what that means */
    assert_int_equal(rig.level, GM_LOG_ERROR);
    assert_non_null(strstr(rig.text, "the map is broken"));
    assert_true(gm_map_is_broken(rig.map));
    rig.create_rc = 0;
    tear_down(&rig);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(log_says_nothing_while_all_is_well),
        cmocka_unit_test(log_says_that_vcpus_were_held_for_long),
        cmocka_unit_test(log_says_that_a_region_was_released_late),
        cmocka_unit_test(log_says_that_slots_were_joined),
        cmocka_unit_test(log_says_that_a_dirty_log_could_not_be_read),
        cmocka_unit_test(log_says_what_broke_the_map),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
