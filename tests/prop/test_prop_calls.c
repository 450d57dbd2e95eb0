/*
 * prop/test_prop_calls.c - each public call that allocates, with each of its allocations failing once;
 * and a map whose undo has failed.
 */
#include "model/faults.h"

#include <guestmem/guestmem.h>

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#define PAGE ((uint64_t)4096)

/* A map with a bit of everything, and what the calls under test make. */
struct place {
    struct faults faults;
    struct gm_allocator allocator;
    struct gm_map *map;
    struct gm_ram *ram;
    struct gm_region *root;
    struct gm_region *memory;
    struct gm_region *window;
    struct gm_space *space;

    struct gm_map *other_map;
    struct gm_region *made;
    struct gm_space *other_space;
    struct gm_listener *listener;
    struct gm_slots *slots;
    struct gm_txn *txn;
};

static const struct gm_listener_ops quiet = {.size = sizeof(quiet)};

static void place_begin(struct place *place)
{
    struct gm_map_options options = {.size = sizeof(options), .allocator = &place->allocator};
    struct gm_region_options memory = {
        .size = sizeof(memory), .kind = GM_REGION_RAM, .name = "memory", .size_bytes = 16 * PAGE};

    memset(place, 0, sizeof(*place));
    place->allocator = faults_allocator(&place->faults);
    assert_int_equal(gm_map_new(&options, &place->map, NULL), 0);
    assert_int_equal(gm_ram_new_anon(16 * PAGE, &place->allocator, &place->ram, NULL), 0);
    memory.ram = place->ram;
    assert_int_equal(gm_region_new(place->map, &memory, &place->memory, NULL), 0);
    assert_int_equal(gm_region_new_container(place->map, "root", GM_SIZE_2_64, &place->root), 0);
    assert_int_equal(gm_region_new_alias(place->map, "window", place->memory, 4 * PAGE, 2 * PAGE,
                                         &place->window),
                     0);
    assert_int_equal(gm_region_add(place->root, place->memory, NULL), 0);
    assert_int_equal(gm_space_new(place->map, "space", place->root, &place->space, NULL), 0);
}

static int64_t settled_live(struct place *place)
{
    gm_map_quiesce(place->map);
    return faults_live(&place->faults);
}

static void place_end(struct place *place)
{
    int i;

    gm_region_put(place->root);
    gm_region_put(place->memory);
    gm_region_put(place->window);
    gm_map_quiesce(place->map);
    gm_map_free(place->map);
    gm_ram_put(place->ram);
    for (i = 0; i < 4; i++) {
        gm_map_quiesce(NULL);
    }
    assert_int_equal(faults_live(&place->faults), 0);
}

/* ---- the calls, and how their success is taken back ---- */

static int call_map_new(struct place *place)
{
    struct gm_map_options options = {.size = sizeof(options), .allocator = &place->allocator};

    return gm_map_new(&options, &place->other_map, NULL);
}

static void back_map_new(struct place *place)
{
    gm_map_free(place->other_map);
}

static int call_ram_new(struct place *place)
{
    struct gm_ram *ram;
    int result = gm_ram_new_anon(PAGE, &place->allocator, &ram, NULL);

    if (result == 0) {
        gm_ram_put(ram);
    }
    return result;
}

static int call_region_new(struct place *place)
{
    struct gm_region_options options = {.size = sizeof(options),
                                        .kind = GM_REGION_RAM,
                                        .name = "another",
                                        .size_bytes = PAGE,
                                        .ram = place->ram};

    return gm_region_new(place->map, &options, &place->made, NULL);
}

static void back_region_new(struct place *place)
{
    gm_region_put(place->made);
}

static int call_region_new_child(struct place *place)
{
    struct gm_region_options options = {.size = sizeof(options),
                                        .kind = GM_REGION_RAM,
                                        .name = "another",
                                        .size_bytes = PAGE,
                                        .addr = 64 * PAGE,
                                        .disabled = true, /* so no view changes */
                                        .ram = place->ram};

    return gm_region_new_child(place->root, &options, &place->made, NULL);
}

static void back_region_new_child(struct place *place)
{
    assert_int_equal(gm_region_del(place->root, place->made, NULL), 0);
    gm_region_put(place->made);
}

static int call_space_new(struct place *place)
{
    return gm_space_new(place->map, "other", place->memory, &place->other_space, NULL);
}

static void back_space_new(struct place *place)
{
    assert_int_equal(gm_space_free(place->other_space, NULL), 0);
}

/* The space is made beforehand, and its end is what may fail. */
static int call_space_free(struct place *place)
{
    return gm_space_free(place->other_space, NULL);
}

static void before_space_free(struct place *place)
{
    assert_int_equal(call_space_new(place), 0);
}

static int call_listener_register(struct place *place)
{
    return gm_listener_register(place->map, NULL, 3, &quiet, place, &place->listener, NULL);
}

static void back_listener_register(struct place *place)
{
    assert_int_equal(gm_listener_unregister(place->listener, NULL), 0);
}

static void before_listener_unregister(struct place *place)
{
    assert_int_equal(call_listener_register(place), 0);
}

static int call_listener_unregister(struct place *place)
{
    return gm_listener_unregister(place->listener, NULL);
}

static int slot_call(void *opaque, const struct gm_slot *slot)
{
    (void)opaque;
    (void)slot;
    return 0;
}

static int slot_flags(void *opaque, const struct gm_slot *slot, uint32_t new_flags)
{
    (void)opaque;
    (void)slot;
    (void)new_flags;
    return 0;
}

static int call_slots_attach(struct place *place)
{
    struct gm_backend_options options = {.size = sizeof(options), .allocator = &place->allocator};
    struct gm_backend_ops ops = {
        .size = sizeof(ops), .create = slot_call, .destroy = slot_call, .set_flags = slot_flags};

    return gm_slots_attach(place->space, &options, &ops, place, &place->slots, NULL);
}

static void back_slots_attach(struct place *place)
{
    assert_int_equal(gm_slots_detach(place->slots, NULL), 0);
}

static void before_slots_detach(struct place *place)
{
    assert_int_equal(call_slots_attach(place), 0);
}

static int call_slots_detach(struct place *place)
{
    return gm_slots_detach(place->slots, NULL);
}

/* Recording: whatever fails, the transaction can be ended, and nothing has happened. */
static int record_all(struct place *place, unsigned *depth)
{
    struct gm_eventfd eventfd = {.offset = 8, .size_bytes = 4, .fd = 0};
    struct gm_txn *txn = place->txn;
    int result = 0;
    int i;

    for (i = 0; i < 20 && result == 0; i++) {
        result = gm_txn_nest(txn);
        *depth += result == 0;
        result = result == 0 ? gm_txn_set_addr(txn, place->memory, (uint64_t)i * PAGE) : result;
    }
    result = result == 0 ? gm_txn_add(txn, place->root, place->window) : result;
    result = result == 0 ? gm_txn_set_log(txn, place->memory, 2, true) : result;
    result = result == 0 ? gm_txn_add_eventfd(txn, place->memory, &eventfd) : result;
    return result == 0 ? gm_txn_set_root(txn, place->space, place->memory) : result;
}

static int call_recording(struct place *place)
{
    unsigned depth = 0;
    int result = gm_txn_begin(place->map, &place->txn);

    if (result != 0) {
        return result;
    }
    result = record_all(place, &depth);
    assert_int_equal(gm_txn_diag(place->txn)->code, result);
    for (; depth > 0; depth--) {
        gm_txn_abort(place->txn);
    }
    gm_txn_abort(place->txn);
    return result;
}

static int call_cache_init(struct place *place)
{
    struct gm_cache cache;
    int result = gm_cache_init(&cache, place->space, PAGE, PAGE, true, (struct gm_attrs){0});

    if (result == 0) {
        gm_cache_fini(&cache);
    }
    return result;
}

static int call_map_range(struct place *place)
{
    struct gm_mapping mapping;
    uint64_t size_bytes = 64;
    int result =
        gm_map_range(place->space, PAGE, &size_bytes, true, (struct gm_attrs){0}, &mapping);

    if (result == 0) {
        assert_int_equal(gm_unmap(&mapping, 0), GM_ACCESS_OK);
    }
    return result;
}

/* ---- each of them, with each allocation failing ---- */

struct call {
    const char *name;
    void (*before)(struct place *place);
    int (*run)(struct place *place);
    void (*back)(struct place *place);
};

static const struct call calls[] = {
    {"gm_map_new", NULL, call_map_new, back_map_new},
    {"gm_ram_new_anon", NULL, call_ram_new, NULL},
    {"gm_region_new", NULL, call_region_new, back_region_new},
    {"gm_region_new_child", NULL, call_region_new_child, back_region_new_child},
    {"gm_space_new", NULL, call_space_new, back_space_new},
    {"gm_space_free", before_space_free, call_space_free, NULL},
    {"gm_listener_register", NULL, call_listener_register, back_listener_register},
    {"gm_listener_unregister", before_listener_unregister, call_listener_unregister, NULL},
    {"gm_slots_attach", NULL, call_slots_attach, back_slots_attach},
    {"gm_slots_detach", before_slots_detach, call_slots_detach, NULL},
    {"gm_txn_*", NULL, call_recording, NULL},
    {"gm_cache_init", NULL, call_cache_init, NULL},
    {"gm_map_range", NULL, call_map_range, NULL},
};

static void try_call(struct place *place, const struct call *call)
{
    struct gm_view *view = gm_view_get(place->space);
    int64_t first_live = settled_live(place);
    uint64_t nth = 0;
    int64_t live;
    int result;

    if (call->before != NULL) {
        call->before(place);
    }
    live = settled_live(place);
    do {
        struct gm_view *now;

        nth++;
        faults_arm(&place->faults, nth);
        result = call->run(place);
        if (!faults_disarm(&place->faults) && result != 0) {
            fail_msg("%s returned %d, and nothing had failed", call->name, result);
        }
        if (result != 0 && result != -ENOMEM) {
            fail_msg("%s returned %d without memory", call->name, result);
        }
        if (result != 0 && settled_live(place) != live) {
            fail_msg("%s left %lld allocations behind", call->name,
                     (long long)(settled_live(place) - live));
        }
        now = gm_view_get(place->space);
        assert_ptr_equal(now, view);
        gm_view_put(now);
    } while (result != 0);
    printf("%s: %llu allocations failed\n", call->name, (unsigned long long)nth - 1);
    if (call->back != NULL) {
        call->back(place);
    }
    gm_view_put(view);
    if (settled_live(place) != first_live) {
        fail_msg("%s and its inverse left %lld allocations behind", call->name,
                 (long long)(settled_live(place) - first_live));
    }
}

static void call_with_a_failing_allocation_returns_enomem(void **state)
{
    /* Each public call that allocates returns -ENOMEM, leaks nothing, and works afterwards. */
    static struct place place;
    size_t i;

    (void)state;
    place_begin(&place);
    /* The hub's arrays grow once and are kept. */
    assert_int_equal(call_listener_register(&place), 0);
    back_listener_register(&place);
    for (i = 0; i < sizeof(calls) / sizeof(calls[0]); i++) {
        try_call(&place, &calls[i]);
    }
    assert_int_equal(gm_space_free(place.space, NULL), 0);
    place_end(&place);
}

/* ---- an undo that fails ---- */

struct stubborn {
    unsigned fail_creates; /* from the nth on: 0 never */
    unsigned creates;
    bool destroys_fail;
    unsigned in_use;
};

static int stubborn_create(void *opaque, const struct gm_slot *slot)
{
    struct stubborn *stubborn = opaque;

    (void)slot;
    stubborn->creates++;
    if (stubborn->fail_creates != 0 && stubborn->creates >= stubborn->fail_creates) {
        return -EADDRNOTAVAIL;
    }
    stubborn->in_use++;
    return 0;
}

static int stubborn_destroy(void *opaque, const struct gm_slot *slot)
{
    struct stubborn *stubborn = opaque;

    (void)slot;
    if (stubborn->destroys_fail) {
        return -EADDRINUSE;
    }
    stubborn->in_use--;
    return 0;
}

static void require_broken(struct place *place)
{
    struct gm_diag diag = {0};

    assert_true(gm_map_is_broken(place->map));
    assert_int_equal(gm_region_set_enabled(place->memory, false, &diag), -EIO);
    assert_int_equal(diag.code, -EIO);
    assert_int_equal(gm_space_new(place->map, "late", NULL, &place->other_space, NULL), -EIO);
    assert_int_equal(
        gm_listener_register(place->map, NULL, 0, &quiet, place, &place->listener, NULL), -EIO);
}

static void commit_whose_undo_fails_breaks_the_map(void **state)
{
    /* A second slot cannot be created, and the first cannot be deleted again: -EIO for good. */
    static struct place place;
    struct stubborn stubborn = {0};
    struct gm_backend_ops ops = {.size = sizeof(ops),
                                 .create = stubborn_create,
                                 .destroy = stubborn_destroy,
                                 .set_flags = slot_flags};
    struct gm_view *view;
    struct gm_view *now;
    struct gm_region_state region;
    struct gm_txn *txn;

    (void)state;
    place_begin(&place);
    assert_int_equal(gm_slots_attach(place.space, NULL, &ops, &stubborn, &place.slots, NULL), 0);
    view = gm_view_get(place.space);
    stubborn.fail_creates = 3;
    stubborn.destroys_fail = true;
    assert_int_equal(gm_txn_begin(place.map, &txn), 0);
    assert_int_equal(gm_txn_set_addr(txn, place.window, 64 * PAGE), 0);
    assert_int_equal(gm_txn_add(txn, place.root, place.window), 0);
    assert_int_equal(call_region_new(&place), 0);
    assert_int_equal(gm_txn_set_addr(txn, place.made, 128 * PAGE), 0);
    assert_int_equal(gm_txn_add(txn, place.root, place.made), 0);
    assert_int_equal(gm_txn_commit(txn, NULL), -EIO);
    now = gm_view_get(place.space);
    assert_ptr_equal(now, view);
    gm_region_state(place.made, &region);
    assert_null(region.parent);
    assert_int_equal(region.addr, 0);
    require_broken(&place);
    gm_view_put(now);
    gm_view_put(view);
    back_region_new(&place);
    stubborn.destroys_fail = false;
    assert_int_equal(gm_slots_detach(place.slots, NULL), 0);
    place_end(&place);
}

static int failing_apply(void *opaque, struct gm_diag *diag)
{
    unsigned *calls_made = opaque;

    (void)diag;
    return ++*calls_made > 1 ? -EADDRNOTAVAIL : 0;
}

static int failing_undo(void *opaque)
{
    (void)opaque;
    return -EADDRINUSE;
}

static void listener_whose_undo_fails_breaks_the_map(void **state)
{
    /* The same with a listener: the map says so, and can still be given up. */
    static struct place place;
    struct gm_listener_ops ops = {
        .size = sizeof(ops), .apply = failing_apply, .undo = failing_undo};
    unsigned applies = 0;

    (void)state;
    place_begin(&place);
    assert_int_equal(
        gm_listener_register(place.map, place.space, 0, &ops, &applies, &place.listener, NULL), 0);
    assert_false(gm_map_is_broken(place.map));
    assert_int_equal(gm_region_set_enabled(place.memory, false, NULL), -EIO);
    require_broken(&place);
    place_end(&place);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(call_with_a_failing_allocation_returns_enomem),
        cmocka_unit_test(commit_whose_undo_fails_breaks_the_map),
        cmocka_unit_test(listener_whose_undo_fails_breaks_the_map),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
