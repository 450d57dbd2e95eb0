/* unit/test_diag.c - what failed calls say: ids, their names, and what listeners of one's own say. */
#include "base/diag.h"

#include <guestmem/guestmem.h>

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

static void diag_ids_have_their_numbers_and_names(void **state)
{
    /* Some of the table, by heart: what programs were compiled with does not change. */
    (void)state;
    assert_int_equal(GM_DIAG_NO_MEMORY, 1);
    assert_int_equal(GM_DIAG_REGION_BEYOND_RAM, 27);
    assert_int_equal(GM_DIAG_EDIT_HAS_PARENT, 41);
    assert_int_equal(GM_DIAG_SLOTS_EXHAUSTED, 60);
    assert_int_equal(GM_DIAG_KVM_MISSING, 80);
    assert_string_equal(gm_diag_id_name(GM_DIAG_SLOTS_EXHAUSTED), "slots-exhausted");
    assert_string_equal(gm_diag_id_name(1), "no-memory");
    assert_string_equal(gm_diag_id_name(GM_DIAG_NONE), "unknown");
    assert_string_equal(gm_diag_id_name(-1), "unknown");
    assert_string_equal(gm_diag_id_name(GM_DIAG_CALLERS), "unknown");
}

static void diag_without_a_place_still_gives_the_code(void **state)
{
    struct gm_diag diag = {0};

    (void)state;
    assert_int_equal(diag_set(NULL, GM_DIAG_NO_MEMORY, -ENOMEM, "no memory"), -ENOMEM);
    assert_int_equal(diag_set(&diag, GM_DIAG_NO_MEMORY, -ENOMEM, "%0300d", 1), -ENOMEM);
    assert_int_equal(strlen(diag.text), GM_DIAG_TEXT_BYTES - 1);
}

/* A map with one space, whose root is an empty container. */
struct rig {
    struct gm_map *map;
    struct gm_region *root;
    struct gm_space *space;
};

static void set_up(struct rig *rig)
{
    const struct gm_map_options options = {.size = sizeof(options), .max_view_ranges = 2};

    assert_int_equal(gm_map_new(&options, &rig->map, NULL), 0);
    assert_int_equal(gm_region_new_container(rig->map, "root", 0x100000, &rig->root), 0);
    assert_int_equal(gm_space_new(rig->map, "space", rig->root, &rig->space, NULL), 0);
}

static void tear_down(struct rig *rig)
{
    gm_region_put(rig->root);
    gm_map_free(rig->map);
    gm_map_quiesce(NULL);
}

static struct gm_region *new_device(struct rig *rig, uint64_t addr)
{
    static const struct gm_io_ops IO = {.size = sizeof(IO)};
    const struct gm_region_options options = {.size = sizeof(options),
                                              .kind = GM_REGION_MMIO,
                                              .name = "device",
                                              .size_bytes = 0x100,
                                              .addr = addr,
                                              .io = &IO};
    struct gm_region *device;

    assert_int_equal(gm_region_new(rig->map, &options, &device, NULL), 0);
    return device;
}

static void diag_tells_failures_of_one_errno_apart(void **state)
{
    /* -EINVAL, -ELOOP and -E2BIG come from many causes: the id says which it was. */
    struct gm_region_options options = {.size = sizeof(options), .kind = GM_REGION_MMIO};
    struct gm_diag diag = {0};
    struct gm_region *devices[3];
    struct gm_region *region;
    struct rig rig;

    (void)state;
    set_up(&rig);
    assert_int_equal(gm_region_new(rig.map, &options, &region, &diag), -EINVAL);
    assert_int_equal(diag.id, GM_DIAG_REGION_CALLBACKS);
    options.kind = (enum gm_region_kind)99;
    assert_int_equal(gm_region_new(rig.map, &options, &region, &diag), -EINVAL);
    assert_int_equal(diag.id, GM_DIAG_REGION_KIND);
    options.kind = GM_REGION_RAM;
    assert_int_equal(gm_region_new(rig.map, &options, &region, &diag), -EINVAL);
    assert_int_equal(diag.id, GM_DIAG_REGION_MEMORY);

    for (int i = 0; i < 3; i++) {
        devices[i] = new_device(&rig, 0x1000u * (unsigned)i);
    }
    assert_int_equal(gm_region_add(rig.root, devices[0], &diag), 0);
    assert_int_equal(gm_region_add(rig.root, devices[0], &diag), -EBUSY);
    assert_int_equal(diag.id, GM_DIAG_EDIT_HAS_PARENT);
    assert_int_equal(gm_region_del(rig.root, devices[1], &diag), -ENOENT);
    assert_int_equal(diag.id, GM_DIAG_EDIT_NOT_THERE);
    assert_int_equal(gm_region_add(rig.root, rig.root, &diag), -ELOOP);
    assert_int_equal(diag.id, GM_DIAG_EDIT_LOOP);
    assert_int_equal(gm_region_add(rig.root, devices[1], &diag), 0);
    assert_int_equal(gm_region_add(rig.root, devices[2], &diag), -E2BIG);
    assert_int_equal(diag.id, GM_DIAG_VIEW_TOO_BIG);
    assert_int_equal(diag.code, -E2BIG);
    for (int i = 0; i < 3; i++) {
        gm_region_put(devices[i]);
    }
    tear_down(&rig);
}

/* A listener of one's own that says as much as it is told to. */
struct refusal {
    bool in_apply;
    bool refuses;
    const char *text;
    int id;
};

static int refuse(const struct refusal *refusal, struct gm_diag *diag)
{
    if (!refusal->refuses) {
        return 0;
    }
    if (refusal->text != NULL) {
        strcpy(diag->text, refusal->text);
    }
    diag->id = refusal->id;
    return -EPERM;
}

static int on_prepare(void *opaque, struct gm_space *space, const struct gm_change *changes,
                      size_t count, struct gm_diag *diag)
{
    const struct refusal *refusal = opaque;

    (void)space;
    (void)changes;
    (void)count;
    return refusal->in_apply ? 0 : refuse(refusal, diag);
}

static int on_apply(void *opaque, struct gm_diag *diag)
{
    const struct refusal *refusal = opaque;

    return refusal->in_apply ? refuse(refusal, diag) : 0;
}

static void diag_of_a_listener_reaches_who_commits(void **state)
{
    /* Its own words and id; its words with our id; or ours, if it says nothing. Without a diag, too. */
    static const struct gm_listener_ops OPS = {
        .size = sizeof(OPS), .prepare = on_prepare, .apply = on_apply};
    static const struct refusal CASES[] = {
        {.text = "no room at the inn", .id = GM_DIAG_CALLERS + 7},
        {.text = "no room at the inn", .id = GM_DIAG_NONE},
        {.text = NULL},
    };
    struct refusal refusal = {0};
    struct gm_listener *listener;
    struct gm_region *device;
    struct rig rig;

    (void)state;
    set_up(&rig);
    device = new_device(&rig, 0);
    assert_int_equal(gm_listener_register(rig.map, rig.space, 0, &OPS, &refusal, &listener, NULL),
                     0);
    for (size_t i = 0; i < 6; i++) {
        struct gm_diag diag = {.code = 1, .text = "of an earlier call"};

        refusal = CASES[i % 3];
        refusal.in_apply = i >= 3;
        refusal.refuses = true;
        assert_int_equal(gm_region_add(rig.root, device, &diag), -EPERM);
        assert_int_equal(diag.code, -EPERM);
        assert_int_equal(diag.id, i % 3 == 0 ? GM_DIAG_CALLERS + 7 : GM_DIAG_LISTENER_REFUSED);
        assert_non_null(
            strstr(diag.text, i % 3 == 2 ? "a listener refused" : "no room at the inn"));
        assert_int_equal(gm_region_add(rig.root, device, NULL), -EPERM);
    }
    refusal.refuses = false;
    assert_int_equal(gm_listener_unregister(listener, NULL), 0);
    gm_region_put(device);
    tear_down(&rig);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(diag_ids_have_their_numbers_and_names),
        cmocka_unit_test(diag_without_a_place_still_gives_the_code),
        cmocka_unit_test(diag_tells_failures_of_one_errno_apart),
        cmocka_unit_test(diag_of_a_listener_reaches_who_commits),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
