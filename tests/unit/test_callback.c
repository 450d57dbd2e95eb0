/*
 * unit/test_callback.c - callbacks that change the map under the access that called them: each
 * access ends in the view in which it began, with everything alive that it still needs.
 */
#include "base/rcu.h"
#include "unit/echo.h"
#include "unit/machine.h"

#include <string.h>

#define PAGE 0x1000u

enum mover_action {
    MOVER_MOVES_ITSELF,
    MOVER_REMOVES_ITSELF,
    MOVER_COVERS_ITSELF_WITH_RAM,
    MOVER_FREES_ITS_SPACE,
};

struct mover {
    struct machine *machine;
    struct gm_region *region; /* borrowed from the tree */
    enum mover_action action;
    struct gm_ram *ram;
    struct gm_space *space;
    unsigned writes;
    uint64_t last_offset;
    unsigned released;
    unsigned released_in_callback;
};

static void mover_release(void *opaque)
{
    struct mover *mover = opaque;

    mover->released++;
}

static void mover_act(struct mover *mover)
{
    struct gm_txn *txn;

    switch (mover->action) {
    case MOVER_MOVES_ITSELF:
        assert_int_equal(gm_txn_begin(mover->machine->map, &txn), 0);
        assert_int_equal(gm_txn_set_addr(txn, mover->region, 0x9000), 0);
        assert_int_equal(gm_txn_commit(txn, NULL), 0);
        break;
    case MOVER_REMOVES_ITSELF:
        assert_int_equal(gm_region_del(mover->machine->root, mover->region, NULL), 0);
        break;
    case MOVER_COVERS_ITSELF_WITH_RAM:
        add_region(
            mover->machine, 0x4000,
            (struct gm_region_options){
                .kind = GM_REGION_RAM, .size_bytes = 0x100, .priority = 1, .ram = mover->ram});
        break;
    case MOVER_FREES_ITS_SPACE:
        assert_int_equal(gm_space_free(mover->space, NULL), 0);
        break;
    }
}

static enum gm_access mover_write(void *opaque, uint64_t offset, unsigned size_bytes,
                                  uint64_t value, struct gm_attrs attrs)
{
    struct mover *mover = opaque;

    (void)size_bytes;
    (void)value;
    (void)attrs;
    mover->writes++;
    mover->last_offset = offset;
    if (mover->writes == 1) {
        mover_act(mover);
        rcu_drain(); /* what the access does not hold is gone now */
    }
    mover->released_in_callback += mover->released;
    return GM_ACCESS_OK;
}

static const struct gm_io_ops mover_ops = {.size = sizeof(struct gm_io_ops), .write = mover_write};

static void mover_begin(struct mover *mover, struct machine *machine, enum mover_action action)
{
    *mover = (struct mover){.machine = machine, .action = action};
    *machine = machine_new();
    mover->region = add_region(machine, 0x4000,
                               (struct gm_region_options){.kind = GM_REGION_MMIO,
                                                          .size_bytes = 0x100,
                                                          .io = &mover_ops,
                                                          .opaque = mover,
                                                          .release = mover_release});
}

static void access_callback_that_moves_its_region_ends_in_the_map_it_began_in(void **state)
{
    /* The access sees one view from start to end; the next one sees the new map. */
    uint8_t data[64] = {0};
    struct machine machine;
    struct mover mover;

    (void)state;
    mover_begin(&mover, &machine, MOVER_MOVES_ITSELF);
    assert_int_equal(gm_write(machine.space, 0x4000, data, sizeof(data), no_attrs), 0);
    assert_int_equal(mover.writes, 16);
    assert_int_equal(gm_write(machine.space, 0x4000, data, 4, no_attrs), GM_ACCESS_DECODE);
    assert_int_equal(gm_write(machine.space, 0x9010, data, 4, no_attrs), 0);
    assert_int_equal(mover.last_offset, 0x10);
    machine_free(&machine);
}

static void access_callback_that_covers_its_region_ends_in_the_map_it_began_in(void **state)
{
    /*
     * RAM appears where the access is: the access goes on into the hole and the devices that were
     * there.
     */
    struct machine machine;
    struct mover mover;
    struct gm_ram *ram = new_ram(PAGE);
    struct echo echo = {0};
    uint8_t data[0x200];

    (void)state;
    mover_begin(&mover, &machine, MOVER_COVERS_ITSELF_WITH_RAM);
    mover.ram = ram;
    add_mmio(&machine, 0x4100, 0x100, &echo_ops, &echo);
    memset(data, 0x44, sizeof(data));
    assert_int_equal(gm_write(machine.space, 0x4000, data, sizeof(data), no_attrs), 0);
    assert_int_equal(mover.writes, 0x40);
    assert_int_equal(echo.writes, 0x40);
    assert_int_equal(((uint8_t *)gm_ram_hva(ram))[0], 0);
    assert_int_equal(gm_write(machine.space, 0x4000, data, sizeof(data), no_attrs), 0);
    assert_int_equal(((uint8_t *)gm_ram_hva(ram))[0], 0x44);
    assert_int_equal(mover.writes, 0x40);
    machine_free(&machine);
    gm_ram_put(ram);
}

static void access_callback_that_removes_its_region_is_released_after_it(void **state)
{
    /* As a number and as a long access: alive until the callback has returned, then gone. */
    (void)state;
    for (int is_long = 0; is_long < 2; is_long++) {
        uint8_t data[64] = {0};
        struct machine machine;
        struct mover mover;

        mover_begin(&mover, &machine, MOVER_REMOVES_ITSELF);
        if (is_long) {
            assert_int_equal(gm_write(machine.space, 0x4000, data, sizeof(data), no_attrs), 0);
        } else {
            assert_int_equal(gm_store(machine.space, 0x4000, 4, GM_ORDER_LITTLE, 1, no_attrs), 0);
        }
        assert_int_equal(mover.writes, is_long ? 16 : 1);
        gm_map_quiesce(machine.map);
        assert_int_equal(mover.released, 1);
        assert_int_equal(mover.released_in_callback, 0);
        assert_int_equal(gm_store(machine.space, 0x4000, 4, GM_ORDER_LITTLE, 1, no_attrs),
                         GM_ACCESS_DECODE);
        machine_free(&machine);
    }
}

static void access_callback_that_frees_the_space_ends_normally(void **state)
{
    /* The access under way goes on in the view that it has. */
    uint8_t data[64] = {0};
    struct machine machine;
    struct mover mover;

    (void)state;
    mover_begin(&mover, &machine, MOVER_FREES_ITS_SPACE);
    assert_int_equal(gm_space_new(machine.map, "dma", machine.root, &mover.space, NULL), 0);
    assert_int_equal(gm_write(mover.space, 0x4000, data, sizeof(data), no_attrs), 0);
    assert_int_equal(mover.writes, 16);
    mover.writes = 0;
    assert_int_equal(gm_space_new(machine.map, "dma", machine.root, &mover.space, NULL), 0);
    assert_int_equal(gm_store(mover.space, 0x40fe, 4, GM_ORDER_LITTLE, 1, no_attrs),
                     GM_ACCESS_DECODE);
    assert_int_equal(mover.writes, 1);
    machine_free(&machine);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(access_callback_that_moves_its_region_ends_in_the_map_it_began_in),
        cmocka_unit_test(access_callback_that_covers_its_region_ends_in_the_map_it_began_in),
        cmocka_unit_test(access_callback_that_removes_its_region_is_released_after_it),
        cmocka_unit_test(access_callback_that_frees_the_space_ends_normally),
    };

    return cmocka_run_group_tests_name("callback", tests, NULL, NULL);
}
