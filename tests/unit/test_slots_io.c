/*
 * unit/test_slots_io.c - how many calls of a hypervisor an edit's eventfds and coalesced ranges come to. Each removal is a
 * millisecond on /dev/kvm (docs/kvm-eventfds.md), so the counts are exact.
 */
#include "unit/hypervisor.h"

struct rig {
    struct hypervisor hypervisor;
    struct gm_map *map;
    struct gm_region *root;
    struct gm_region *bar; /* at 0x10000 */
    struct gm_region *over;
    struct gm_space *space;
    struct gm_slots *slots;
};

static const struct gm_io_ops NO_CALLBACKS = {.size = sizeof(NO_CALLBACKS)};

static struct gm_region *add_mmio(struct rig *rig, uint64_t addr, gm_size_t size, int32_t priority)
{
    const struct gm_region_options options = {
        .size = sizeof(options),
        .kind = GM_REGION_MMIO,
        .size_bytes = size,
        .addr = addr,
        .priority = priority,
        .io = &NO_CALLBACKS,
    };
    struct gm_region *region;

    assert_int_equal(gm_region_new(rig->map, &options, &region, NULL), 0);
    assert_int_equal(gm_region_add(rig->root, region, NULL), 0);
    return region;
}

/* A BAR with eventfds at 0, 4 and 0x808 and a coalesced range of 0x100 to 0x1ff. */
static void rig_init(struct rig *rig)
{
    static const uint64_t OFFSETS[] = {0x808, 4, 0};
    struct gm_txn *txn;

    memset(rig, 0, sizeof(*rig));
    assert_int_equal(gm_map_new(NULL, &rig->map, NULL), 0);
    assert_int_equal(gm_region_new_container(rig->map, "root", GM_SIZE_2_64, &rig->root), 0);
    assert_int_equal(gm_space_new(rig->map, "space", rig->root, &rig->space, NULL), 0);
    rig->bar = add_mmio(rig, 0x10000, 0x1000, 0);
    rig->over = add_mmio(rig, 0x10800, 0x100, 1);
    assert_int_equal(gm_region_set_enabled(rig->over, false, NULL), 0);
    assert_int_equal(gm_txn_begin(rig->map, &txn), 0);
    for (unsigned i = 0; i < 3; i++) {
        const struct gm_eventfd eventfd = {.offset = OFFSETS[i], .size_bytes = 4, .fd = 1};

        assert_int_equal(gm_txn_add_eventfd(txn, rig->bar, &eventfd), 0);
    }
    assert_int_equal(gm_txn_add_coalesced(txn, rig->bar, 0x100, 0x100), 0);
    assert_int_equal(gm_txn_commit(txn, NULL), 0);
    assert_int_equal(
        gm_slots_attach(rig->space, NULL, &hypervisor_ops, &rig->hypervisor, &rig->slots, NULL), 0);
}

static void expect(struct rig *rig, const char *text)
{
    assert_string_equal(rig->hypervisor.text, text);
    rig->hypervisor.text[0] = '\0';
}

static void rig_fini(struct rig *rig)
{
    assert_int_equal(gm_slots_detach(rig->slots, NULL), 0);
    gm_region_put(rig->bar);
    gm_region_put(rig->over);
    gm_region_put(rig->root);
    gm_map_free(rig->map);
}

static void io_that_comes_out_the_same_is_not_mentioned(void **state)
{
    /* A region that hides a part: only what is hidden goes. A BAR that moves: all. One that moves there and back: nothing. */
    struct gm_txn *txn;
    struct rig rig;

    (void)state;
    rig_init(&rig);
    expect(&rig, "eventfd+ 10000; eventfd+ 10004; coalesced+ 10100-101ff; eventfd+ 10808; ");
    assert_int_equal(gm_region_set_enabled(rig.over, true, NULL), 0);
    expect(&rig, "eventfd- 10808; ");
    assert_int_equal(gm_region_set_enabled(rig.over, false, NULL), 0);
    expect(&rig, "eventfd+ 10808; ");
    assert_int_equal(gm_region_set_addr(rig.bar, 0x20000, NULL), 0);
    expect(&rig, "eventfd- 10000; eventfd- 10004; coalesced- 10100-101ff; eventfd- 10808; "
                 "eventfd+ 20000; eventfd+ 20004; coalesced+ 20100-201ff; eventfd+ 20808; ");
    assert_int_equal(gm_txn_begin(rig.map, &txn), 0);
    assert_int_equal(gm_txn_set_addr(txn, rig.bar, 0x10000), 0);
    assert_int_equal(gm_txn_set_addr(txn, rig.bar, 0x20000), 0);
    assert_int_equal(gm_txn_commit(txn, NULL), 0);
    expect(&rig, "");
    /* Read-only: another range, the same registers. */
    assert_int_equal(gm_txn_begin(rig.map, &txn), 0);
    assert_int_equal(gm_txn_set_readonly(txn, rig.bar, true), 0);
    assert_int_equal(gm_txn_commit(txn, NULL), 0);
    expect(&rig, "");
    rig_fini(&rig);
}

static void coalesced_range_of_another_region_is_another(void **state)
{
    /* At the same addresses: what was written to the one must not reach the other, so it is removed. */
    struct gm_region *other;
    struct gm_txn *txn;
    struct rig rig;

    (void)state;
    rig_init(&rig);
    other = add_mmio(&rig, 0x10000, 0x1000, -1);
    rig.hypervisor.text[0] = '\0';
    assert_int_equal(gm_txn_begin(rig.map, &txn), 0);
    assert_int_equal(gm_txn_add_coalesced(txn, other, 0x100, 0x100), 0);
    assert_int_equal(gm_txn_del(txn, rig.root, rig.bar), 0);
    assert_int_equal(gm_txn_commit(txn, NULL), 0);
    expect(&rig, "eventfd- 10000; eventfd- 10004; coalesced- 10100-101ff; eventfd- 10808; "
                 "coalesced+ 10100-101ff; ");
    gm_region_put(other);
    rig_fini(&rig);
}

static void io_call_that_fails_is_taken_back(void **state)
{
    /* Each call of a commit once: those before it are undone, in reverse, and the map is as it was. */
    struct rig rig;
    unsigned nth = 0;

    (void)state;
    rig_init(&rig);
    do {
        nth++;
        rig.hypervisor.calls = 0;
        rig.hypervisor.fail_at = nth;
        rig.hypervisor.text[0] = '\0';
    } while (gm_region_set_addr(rig.bar, 0x20000, NULL) != 0);
    assert_int_equal(nth, 9);
    assert_false(gm_map_is_broken(rig.map));
    expect(&rig, "eventfd- 10000; eventfd- 10004; coalesced- 10100-101ff; eventfd- 10808; "
                 "eventfd+ 20000; eventfd+ 20004; coalesced+ 20100-201ff; eventfd+ 20808; ");
    rig.hypervisor.fail_at = 0;
    rig_fini(&rig);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(io_that_comes_out_the_same_is_not_mentioned),
        cmocka_unit_test(coalesced_range_of_another_region_is_another),
        cmocka_unit_test(io_call_that_fails_is_taken_back),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
