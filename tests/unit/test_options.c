/* unit/test_options.c - structures of callers that are older or newer than the library. */
#include "base/options.h"

#include <guestmem/guestmem.h>
#include <guestmem/soft.h>

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

struct sample {
    size_t size;
    uint32_t first;
    uint8_t second; /* the first version ended here, with 3 bytes of padding */
    uint64_t third;
};
static const struct options_kind SAMPLE = OPTIONS_KIND(sample, second);

static void options_of_each_version_are_taken(void **state)
{
    /* What an older caller lacks is zero; what a newer one says in zeroes asks for nothing. */
    struct {
        struct sample known;
        uint64_t surplus[2];
    } theirs = {.known = {.first = 1, .second = 2, .third = 3}};
    struct sample ours;

    (void)state;
    theirs.known.size = sizeof(struct sample);
    assert_int_equal(options_take(&SAMPLE, &ours, &theirs, NULL), 0);
    assert_memory_equal(&ours, &theirs.known, sizeof(ours));

    theirs.known.size = offsetof(struct sample, third);
    assert_int_equal(options_take(&SAMPLE, &ours, &theirs, NULL), 0);
    assert_int_equal(ours.size, sizeof(struct sample));
    assert_int_equal(ours.second, 2);
    assert_int_equal(ours.third, 0);

    theirs.known.size = sizeof(theirs);
    assert_int_equal(options_take(&SAMPLE, &ours, &theirs, NULL), 0);
    assert_int_equal(ours.third, 3);

    assert_int_equal(options_take(&SAMPLE, &ours, NULL, NULL), 0);
    assert_int_equal(ours.size, sizeof(struct sample));
    assert_int_equal(ours.first | ours.second | ours.third, 0);
}

static void options_of_no_version_are_refused(void **state)
{
    /* Too short, too long, or with something in what is not known: each says so, and takes nothing. */
    struct {
        struct sample known;
        uint64_t surplus[2];
    } theirs = {.surplus = {0, 1}};
    struct sample ours = {.first = 7};
    struct gm_diag diag = {0};

    (void)state;
    theirs.known.size = offsetof(struct sample, third) - 1;
    assert_int_equal(options_take(&SAMPLE, &ours, &theirs, &diag), -EINVAL);
    assert_non_null(strstr(diag.text, "sample"));
    theirs.known.size = sizeof(theirs);
    assert_int_equal(options_take(&SAMPLE, &ours, &theirs, &diag), -E2BIG);
    assert_int_equal(diag.code, -E2BIG);
    theirs.known.size = sizeof(theirs) - 8; /* what is not zero lies behind it */
    assert_int_equal(options_take(&SAMPLE, &ours, &theirs, NULL), 0);
    ours.first = 7;
    theirs.known.size = SIZE_MAX;
    assert_int_equal(options_take(&SAMPLE, &ours, &theirs, NULL), -E2BIG);
    assert_int_equal(ours.first, 7);
}

/* A call with a structure of each kind, which lies at @given. Undoes what it made. */
typedef int call_fn(struct gm_map *map, void *given);

static int call_map(struct gm_map *map, void *given)
{
    struct gm_map *made;
    int rc = gm_map_new(given, &made, NULL);

    (void)map;
    if (rc == 0) {
        gm_map_free(made);
    }
    return rc;
}

static int call_vm(struct gm_map *map, void *given)
{
    struct gm_vm *vm;
    int rc;

    (void)map;
    ((struct gm_vm_options *)given)->accel = GM_ACCEL_SOFT;
    rc = gm_vm_open(given, &vm, NULL);
    return rc == 0 ? gm_vm_close(vm, NULL) : rc;
}

static int call_vm_map(struct gm_map *map, void *given)
{
    const struct gm_vm_options options = {
        .size = sizeof(options), .map = given, .accel = GM_ACCEL_SOFT};
    struct gm_vm *vm;
    int rc = gm_vm_open(&options, &vm, NULL);

    (void)map;
    return rc == 0 ? gm_vm_close(vm, NULL) : rc;
}

static int call_soft(struct gm_map *map, void *given)
{
    struct gm_soft *soft;
    int rc = gm_soft_open(given, &soft, NULL);

    (void)map;
    return rc == 0 ? gm_soft_close(soft) : rc;
}

static int region_new(struct gm_map *map, const struct gm_region_options *options)
{
    struct gm_region *region;
    int rc = gm_region_new(map, options, &region, NULL);

    if (rc == 0) {
        gm_region_put(region);
    }
    return rc;
}

static int call_region(struct gm_map *map, void *given)
{
    ((struct gm_region_options *)given)->kind = GM_REGION_CONTAINER;
    return region_new(map, given);
}

static int call_io(struct gm_map *map, void *given)
{
    const struct gm_region_options options = {
        .size = sizeof(options), .kind = GM_REGION_MMIO, .size_bytes = 1, .io = given};

    return region_new(map, &options);
}

static int call_iommu(struct gm_map *map, void *given)
{
    const struct gm_region_options options = {
        .size = sizeof(options), .kind = GM_REGION_IOMMU, .size_bytes = 1, .iommu = given};

    return region_new(map, &options);
}

static int call_listener(struct gm_map *map, void *given)
{
    struct gm_listener *listener;
    int rc = gm_listener_register(map, NULL, 0, given, NULL, &listener, NULL);

    return rc == 0 ? gm_listener_unregister(listener, NULL) : rc;
}

static int slot_op(void *opaque, const struct gm_slot *slot)
{
    (void)opaque;
    (void)slot;
    return 0;
}

static int slot_flags_op(void *opaque, const struct gm_slot *slot, uint32_t new_flags)
{
    (void)new_flags;
    return slot_op(opaque, slot);
}

static int attach(struct gm_map *map, const struct gm_backend_options *options,
                  const struct gm_backend_ops *ops)
{
    struct gm_space *space;
    struct gm_slots *slots;
    int rc = gm_space_new(map, "space", NULL, &space, NULL);

    assert_int_equal(rc, 0);
    rc = gm_slots_attach(space, options, ops, NULL, &slots, NULL);
    if (rc == 0) {
        rc = gm_slots_detach(slots, NULL);
    }
    assert_int_equal(gm_space_free(space, NULL), 0);
    return rc;
}

static int call_backend(struct gm_map *map, void *given)
{
    const struct gm_backend_ops ops = {
        .size = sizeof(ops), .create = slot_op, .destroy = slot_op, .set_flags = slot_flags_op};

    return attach(map, given, &ops);
}

static int call_backend_ops(struct gm_map *map, void *given)
{
    struct gm_backend_ops *ops = given;

    ops->create = slot_op;
    ops->destroy = slot_op;
    ops->set_flags = slot_flags_op;
    return attach(map, NULL, ops);
}

static void follower_op(void *opaque, const struct gm_soft_slot *slot)
{
    (void)opaque;
    (void)slot;
}

static int call_follower(struct gm_map *map, void *given)
{
    struct gm_soft_follower_ops *ops = given;
    struct gm_soft_follower *follower;
    struct gm_soft *soft;
    int rc;

    (void)map;
    ops->created = follower_op;
    ops->removing = follower_op;
    assert_int_equal(gm_soft_open(NULL, &soft, NULL), 0);
    rc = gm_soft_follow(soft, ops, NULL, &follower);
    if (rc == 0) {
        gm_soft_unfollow(follower);
    }
    assert_int_equal(gm_soft_close(soft), 0);
    return rc;
}

static const struct {
    size_t size_bytes;
    call_fn *call;
} CALLS[] = {
    {sizeof(struct gm_map_options), call_map},
    {sizeof(struct gm_vm_options), call_vm},
    {sizeof(struct gm_map_options), call_vm_map},
    {sizeof(struct gm_soft_options), call_soft},
    {sizeof(struct gm_region_options), call_region},
    {sizeof(struct gm_io_ops), call_io},
    {sizeof(struct gm_iommu_ops), call_iommu},
    {sizeof(struct gm_listener_ops), call_listener},
    {sizeof(struct gm_backend_options), call_backend},
    {sizeof(struct gm_backend_ops), call_backend_ops},
    {sizeof(struct gm_soft_follower_ops), call_follower},
};

static void options_of_every_call_may_grow(void **state)
{
    /* Each structure that has a size is taken as the first two tests say. */
    struct gm_map *map;

    (void)state;
    assert_int_equal(gm_map_new(NULL, &map, NULL), 0);
    for (size_t i = 0; i < sizeof(CALLS) / sizeof(CALLS[0]); i++) {
        const size_t own = CALLS[i].size_bytes;
        _Alignas(16) unsigned char given[1024] = {0};

        assert_true(own + 16 <= sizeof(given));
        memcpy(given, &own, sizeof(own));
        assert_int_equal(CALLS[i].call(map, given), 0);
        memcpy(given, &(size_t){own + 16}, sizeof(own));
        assert_int_equal(CALLS[i].call(map, given), 0);
        given[own + 15] = 1;
        assert_int_equal(CALLS[i].call(map, given), -E2BIG);
        memcpy(given, &(size_t){8}, sizeof(own));
        assert_int_equal(CALLS[i].call(map, given), -EINVAL);
    }
    gm_map_free(map);
    gm_map_quiesce(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(options_of_each_version_are_taken),
        cmocka_unit_test(options_of_no_version_are_refused),
        cmocka_unit_test(options_of_every_call_may_grow),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
