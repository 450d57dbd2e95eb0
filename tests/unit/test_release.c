/* unit/test_release.c - regions end once, and not before the last who can reach them lets go. */
#include "unit/picture.h"

#include <errno.h>
#include <stdlib.h>

/* A region's device: how often it was released, and what its release does beside. */
struct device {
    unsigned releases;
    struct gm_region *drops; /* on release */
    struct gm_map *edits;    /* on release: a commit of nothing */
};

static void on_release(void *opaque)
{
    struct device *device = opaque;
    struct gm_txn *txn;

    device->releases++;
    gm_region_put(device->drops);
    if (device->edits != NULL) {
        assert_int_equal(gm_txn_begin(device->edits, &txn), 0);
        assert_int_equal(gm_txn_commit(txn, NULL), 0);
    }
}

static struct gm_map *new_map(void)
{
    struct gm_map *map;

    assert_int_equal(gm_map_new(NULL, &map, NULL), 0);
    return map;
}

static struct gm_region *new_region(struct gm_map *map, struct device *device,
                                    enum gm_region_kind kind, struct gm_region *target)
{
    *device = (struct device){0};
    return picture_region(map, (struct gm_region_options){.kind = kind,
                                                          .name = "region",
                                                          .size_bytes = 0x1000,
                                                          .target = target,
                                                          .opaque = device,
                                                          .release = on_release});
}

static void region_that_is_put_is_released_once(void **state)
{
    /* By its owner alone: at once, without a quiesce. */
    struct gm_map *map = new_map();
    struct device device;
    struct gm_region *region = new_region(map, &device, GM_REGION_MMIO, NULL);

    (void)state;
    gm_region_get(region);
    gm_region_put(region);
    assert_int_equal(device.releases, 0);
    gm_region_put(region);
    assert_int_equal(device.releases, 1);
    gm_map_free(map);
    assert_int_equal(device.releases, 1);
}

static void child_lives_on_with_its_parent(void **state)
{
    /* The owner lets go; parent and child go when the parent's owner does. */
    struct gm_map *map = new_map();
    struct device parent;
    struct device child;
    struct gm_region *outer = new_region(map, &parent, GM_REGION_CONTAINER, NULL);
    struct gm_region *inner = new_region(map, &child, GM_REGION_MMIO, NULL);

    (void)state;
    assert_int_equal(gm_region_add(outer, inner, NULL), 0);
    gm_region_put(inner);
    assert_int_equal(child.releases, 0);
    gm_region_put(outer);
    assert_int_equal(parent.releases, 1);
    assert_int_equal(child.releases, 1);
    gm_map_free(map);
}

static void child_that_its_owner_keeps_outlives_its_parent(void **state)
{
    /* It has no parent then, and can be added elsewhere. */
    struct gm_map *map = new_map();
    struct device parent;
    struct device child;
    struct gm_region *outer = new_region(map, &parent, GM_REGION_CONTAINER, NULL);
    struct gm_region *other = new_region(map, &parent, GM_REGION_CONTAINER, NULL);
    struct gm_region *inner = new_region(map, &child, GM_REGION_MMIO, NULL);
    struct gm_region_state region;

    (void)state;
    assert_int_equal(gm_region_add(outer, inner, NULL), 0);
    gm_region_put(outer);
    assert_int_equal(child.releases, 0);
    gm_region_state(inner, &region);
    assert_null(region.parent);
    assert_int_equal(gm_region_add(other, inner, NULL), 0);
    gm_region_put(other);
    gm_region_put(inner);
    assert_int_equal(child.releases, 1);
    gm_map_free(map);
}

static void target_lives_as_long_as_its_alias(void **state)
{
    /* An alias of an alias of it, too. */
    struct gm_map *map = new_map();
    struct device devices[3];
    struct gm_region *ram = new_region(map, &devices[0], GM_REGION_RAM, NULL);
    struct gm_region *alias = new_region(map, &devices[1], GM_REGION_ALIAS, ram);
    struct gm_region *again = new_region(map, &devices[2], GM_REGION_ALIAS, alias);

    (void)state;
    gm_region_put(ram);
    gm_region_put(alias);
    assert_int_equal(devices[0].releases + devices[1].releases, 0);
    gm_region_put(again);
    assert_int_equal(devices[0].releases + devices[1].releases + devices[2].releases, 3);
    gm_map_free(map);
}

static void region_in_a_snapshot_lives_until_it_is_put(void **state)
{
    /* Removed, dropped and out of every later view: the snapshot still shows it. */
    struct gm_map *map = new_map();
    struct gm_region *root;
    struct gm_space *space;
    struct gm_view *view;
    struct gm_section section;
    struct device device;
    struct gm_region *region = new_region(map, &device, GM_REGION_MMIO, NULL);

    (void)state;
    assert_int_equal(gm_region_new_container(map, "root", 0x10000, &root), 0);
    assert_int_equal(gm_region_add(root, region, NULL), 0);
    assert_int_equal(gm_space_new(map, "space", root, &space, NULL), 0);
    view = gm_view_get(space);
    assert_int_equal(gm_region_del(root, region, NULL), 0);
    gm_region_put(region);
    gm_map_quiesce(map);
    assert_int_equal(device.releases, 0);
    assert_true(gm_view_find(view, 0x10, &section));
    assert_string_equal(gm_region_name(section.region), "region");
    gm_view_put(view);
    assert_int_equal(device.releases, 1);
    gm_region_put(root);
    gm_map_free(map);
}

static void root_of_a_space_lives_as_long_as_the_space(void **state)
{
    /* The owner let go long ago; freeing the space releases it. */
    struct gm_map *map = new_map();
    struct gm_space *space;
    struct device device;
    struct gm_region *root = new_region(map, &device, GM_REGION_MMIO, NULL);

    (void)state;
    assert_int_equal(gm_space_new(map, "space", root, &space, NULL), 0);
    gm_region_put(root);
    gm_map_quiesce(map);
    assert_int_equal(device.releases, 0);
    require_picture(space, "0-fff region+0");
    assert_int_equal(gm_space_free(space, NULL), 0);
    gm_map_quiesce(map);
    assert_int_equal(device.releases, 1);
    gm_map_free(map);
}

static void transaction_holds_what_it_names(void **state)
{
    /* Recorded, then dropped by its owner: it lives until the transaction has ended. */
    struct gm_map *map = new_map();
    struct device device;
    struct gm_region *region = new_region(map, &device, GM_REGION_MMIO, NULL);
    struct gm_txn *txn;

    (void)state;
    assert_int_equal(gm_txn_begin(map, &txn), 0);
    assert_int_equal(gm_txn_set_enabled(txn, region, false), 0);
    gm_region_put(region);
    assert_int_equal(device.releases, 0);
    gm_txn_abort(txn);
    assert_int_equal(device.releases, 1);
    gm_map_free(map);
}

static void alias_cycle_goes_with_its_map(void **state)
{
    /* Regions that hold each other in a circle, which nobody else holds: the map frees them, and only it can. */
    struct gm_map *map = new_map();
    struct device box;
    struct device alias;
    struct gm_region *outer = new_region(map, &box, GM_REGION_CONTAINER, NULL);
    struct gm_region *inner = new_region(map, &alias, GM_REGION_ALIAS, outer);
    struct gm_space *space;

    (void)state;
    assert_int_equal(gm_space_new(map, "space", NULL, &space, NULL), 0);
    assert_int_equal(gm_region_add(outer, inner, NULL), 0);
    gm_region_put(inner);
    gm_region_put(outer);
    gm_map_quiesce(map);
    assert_int_equal(box.releases + alias.releases, 0);
    gm_map_free(map);
    assert_int_equal(box.releases, 1);
    assert_int_equal(alias.releases, 1);
}

static void alias_cycle_that_was_shown_goes_with_its_map(void **state)
{
    /* The same with a space that shows it, shifted, and with other aliases across. */
    struct gm_map *map = new_map();
    struct gm_region *root;
    struct gm_space *space;
    struct device devices[3];
    struct gm_region *box = new_region(map, &devices[0], GM_REGION_CONTAINER, NULL);
    struct gm_region *ram = new_region(map, &devices[1], GM_REGION_RAM, NULL);
    struct gm_region *again = new_region(map, &devices[2], GM_REGION_ALIAS, box);
    struct gm_txn *txn;
    unsigned i;

    (void)state;
    assert_int_equal(gm_region_new_container(map, "root", 0x10000, &root), 0);
    assert_int_equal(gm_txn_begin(map, &txn), 0);
    assert_int_equal(gm_txn_set_size(txn, box, 0x4000), 0);
    assert_int_equal(gm_txn_set_size(txn, again, 0x3000), 0);
    assert_int_equal(gm_txn_set_addr(txn, again, 0x1000), 0);
    assert_int_equal(gm_txn_add(txn, box, ram), 0);
    assert_int_equal(gm_txn_add(txn, box, again), 0);
    assert_int_equal(gm_txn_add(txn, root, box), 0);
    assert_int_equal(gm_txn_commit(txn, NULL), 0);
    assert_int_equal(gm_space_new(map, "space", root, &space, NULL), 0);
    require_picture(space, "0-fff region+0, 1000-1fff region+0, 2000-2fff region+0, "
                           "3000-3fff region+0");
    gm_region_put(ram);
    gm_region_put(again);
    gm_region_put(box);
    gm_region_put(root);
    gm_map_free(map);
    map = new_map();
    gm_map_quiesce(map); /* the views of the other map go, too */
    gm_map_free(map);
    for (i = 0; i < 3; i++) {
        assert_int_equal(devices[i].releases, 1);
    }
}

static void release_callback_may_drop_and_edit(void **state)
{
    /* No lock is held in it: it drops another region, whose release commits. */
    struct gm_map *map = new_map();
    struct device first;
    struct device second;
    struct gm_region *region = new_region(map, &first, GM_REGION_MMIO, NULL);

    (void)state;
    first.drops = new_region(map, &second, GM_REGION_MMIO, NULL);
    second.edits = map;
    gm_region_put(region);
    assert_int_equal(first.releases, 1);
    assert_int_equal(second.releases, 1);
    gm_map_free(map);
}

struct dropper {
    struct gm_region *region;
    struct device *device;
    unsigned seen;
};

static void drop_in_commit(void *opaque)
{
    struct dropper *dropper = opaque;

    gm_region_put(dropper->region);
    dropper->region = NULL;
    dropper->seen = dropper->device->releases; /* the lock is held: it has to wait */
}

static void region_put_from_inside_a_listener_is_released_after_it(void **state)
{
    /* Its release needs the lock that the commit holds, and must not run under it. */
    static const struct gm_listener_ops ops = {.size = sizeof(ops), .commit = drop_in_commit};
    struct gm_map *map = new_map();
    struct dropper dropper;
    struct device device;
    struct gm_region *root;
    struct gm_space *space;
    struct gm_listener *listener;

    (void)state;
    dropper.region = new_region(map, &device, GM_REGION_MMIO, NULL);
    dropper.device = &device;
    dropper.seen = 5;
    device.edits = map;
    root = picture_region(
        map, (struct gm_region_options){.kind = GM_REGION_MMIO, .name = "root", .size_bytes = 1});
    assert_int_equal(gm_space_new(map, "space", root, &space, NULL), 0);
    assert_int_equal(gm_listener_register(map, space, 0, &ops, &dropper, &listener, NULL), 0);
    assert_int_equal(dropper.seen, 0);
    assert_int_equal(device.releases, 1);
    gm_region_put(root);
    gm_map_free(map);
}

static void block_lives_as_long_as_a_region_of_it(void **state)
{
    /* The owner of the block drops it first; a region, then a snapshot, keeps its memory. */
    struct gm_map *map = new_map();
    struct gm_region *region;
    struct gm_space *space;
    struct gm_view *view;
    struct gm_section section;
    struct gm_ram *ram;

    (void)state;
    assert_int_equal(gm_ram_new_anon(0x1000, NULL, &ram, NULL), 0);
    assert_int_equal(gm_region_new_ram(map, "ram", ram, &region), 0);
    gm_ram_put(ram);
    assert_int_equal(gm_space_new(map, "space", region, &space, NULL), 0);
    gm_region_put(region);
    view = gm_view_get(space);
    gm_map_free(map);
    assert_true(gm_view_at(view, 0, &section));
    memset(section.hva, 0x5a, 0x1000);
    gm_view_put(view);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(region_that_is_put_is_released_once),
        cmocka_unit_test(child_lives_on_with_its_parent),
        cmocka_unit_test(child_that_its_owner_keeps_outlives_its_parent),
        cmocka_unit_test(target_lives_as_long_as_its_alias),
        cmocka_unit_test(region_in_a_snapshot_lives_until_it_is_put),
        cmocka_unit_test(root_of_a_space_lives_as_long_as_the_space),
        cmocka_unit_test(transaction_holds_what_it_names),
        cmocka_unit_test(alias_cycle_goes_with_its_map),
        cmocka_unit_test(alias_cycle_that_was_shown_goes_with_its_map),
        cmocka_unit_test(release_callback_may_drop_and_edit),
        cmocka_unit_test(region_put_from_inside_a_listener_is_released_after_it),
        cmocka_unit_test(block_lives_as_long_as_a_region_of_it),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
