/*
 * unit/test_commit_memory.c - commits that need more memory than is kept for them, and do not get it.
 */
#include "unit/picture.h"

#include "model/faults.h"

#include <errno.h>

static void count_log_start(void *opaque, const struct gm_section *section, uint32_t old_mask,
                            uint32_t new_mask)
{
    (void)section;
    (void)old_mask;
    (void)new_mask;
    *(unsigned *)opaque += 1;
}

/* And something comes, or goes, before them: so that a change of a log may be the first that the list has no room for. */
static int log_all(struct gm_map *map, struct gm_region *first, struct gm_region **regions,
                   unsigned count, bool on)
{
    struct gm_txn *txn;
    int rc = gm_txn_begin(map, &txn);

    if (rc != 0) {
        return rc;
    }
    rc = gm_txn_set_enabled(txn, first, on);
    for (unsigned i = 0; i < count && rc == 0; i++) {
        rc = gm_txn_set_log(txn, regions[i], 1, on);
    }
    if (rc != 0) {
        gm_txn_abort(txn);
        return rc;
    }
    return gm_txn_commit(txn, NULL);
}

static void logs_of_many_ranges_begin_as_a_whole_or_not_at_all(void **state)
{
    /* Nothing but log_start is to be told, of more ranges than a commit has fixed memory for: each allocation fails once. */
    enum { REGIONS = 300 };
    static struct gm_region *regions[REGIONS];
    struct faults faults = {0};
    const struct gm_allocator allocator = faults_allocator(&faults);
    const struct gm_map_options options = {.size = sizeof(options), .allocator = &allocator};
    const struct gm_listener_ops ops = {.size = sizeof(ops), .log_start = count_log_start};
    struct gm_listener *listener;
    struct gm_region *first;
    struct gm_region *root;
    struct gm_space *space;
    struct gm_map *map;
    unsigned told = 0;
    unsigned failures = 0;
    unsigned refusals = 0;

    (void)state;
    assert_int_equal(gm_map_new(&options, &map, NULL), 0);
    assert_int_equal(gm_region_new_container(map, "root", GM_SIZE_2_64, &root), 0);
    assert_int_equal(gm_space_new(map, "space", root, &space, NULL), 0);
    for (unsigned i = 0; i < REGIONS; i++) {
        regions[i] =
            picture_child(map, root,
                          (struct gm_region_options){.kind = GM_REGION_RAM,
                                                     .name = "ram",
                                                     .size_bytes = 0x1000,
                                                     .addr = 0x1000 + i * UINT64_C(0x2000)});
    }
    first = picture_child(
        map, root,
        (struct gm_region_options){
            .kind = GM_REGION_MMIO, .name = "first", .size_bytes = 0x1000, .disabled = true});
    assert_int_equal(gm_listener_register(map, space, 0, &ops, &told, &listener, NULL), 0);
    for (;; failures++) {
        int rc;

        faults_arm(&faults, failures + 1);
        rc = log_all(map, first, regions, REGIONS, true);
        assert_true(rc == 0 || rc == -ENOMEM);
        assert_int_equal(told, rc == 0 ? REGIONS : 0);
        if (!faults_disarm(&faults)) {
            assert_int_equal(rc, 0);
            break;
        }
        refusals += rc != 0;
        if (rc == 0) { /* it did without */
            assert_int_equal(log_all(map, first, regions, REGIONS, false), 0);
            told = 0;
        }
    }
    assert_true(refusals > 5);
    assert_int_equal(gm_listener_unregister(listener, NULL), 0);
    gm_region_put(root);
    gm_map_free(map);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(logs_of_many_ranges_begin_as_a_whole_or_not_at_all),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
