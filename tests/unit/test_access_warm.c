/*
 * unit/test_access_warm.c - the short ways through a view's index against the long ones: two machines that are alike, of which one
 * is committed to before every access, so that its view never has an index.
 */
#include "unit/echo.h"
#include "unit/machine.h"

#include <string.h>

#define BYTES 4096u
#define LOOKUPS 200u /* more than make a view warm */
#define SPAN 320u    /* of the layout */
#define LENGTH_MAX 80u

struct twin {
    struct machine machine;
    struct gm_ram *ram;
    struct gm_ram *rom;
    struct gm_region *far; /* comes and goes, out of the way */
    struct echo echo;
    bool shown;
};

static void add_rom_device(struct twin *twin, uint64_t addr, uint64_t offset, bool no_romd)
{
    add_region(&twin->machine, addr,
               (struct gm_region_options){.kind = GM_REGION_ROM_DEVICE,
                                          .size_bytes = 16,
                                          .ram = twin->rom,
                                          .ram_offset = offset,
                                          .no_romd = no_romd,
                                          .io = &echo_ops,
                                          .opaque = &twin->echo});
}

/* Short ranges, side by side and apart: RAM, ROM, callbacks, devices with memory, holes, no memory; nothing is at the address that they end at. */
static void set_up(struct twin *twin)
{
    static const uint64_t sizes[] = {1, 2, 3, 5, 7, 8, 9, 15, 40};
    uint64_t at = 3;
    uint64_t in_ram = 100;

    *twin = (struct twin){.machine = machine_new(), .ram = new_ram(BYTES), .rom = new_ram(BYTES)};
    for (unsigned i = 0; i < BYTES; i++) {
        ((uint8_t *)gm_ram_hva(twin->ram))[i] = (uint8_t)(i * 5 + 1);
        ((uint8_t *)gm_ram_hva(twin->rom))[i] = (uint8_t)(i * 3 + 2);
    }
    for (unsigned i = 0; i < 9; i++) {
        add_memory(&twin->machine, GM_REGION_RAM, at, sizes[i], twin->ram, in_ram);
        at += sizes[i] + i % 3;
        in_ram += 64;
    }
    add_memory(&twin->machine, GM_REGION_ROM, at, 20, twin->rom, 8);
    add_mmio(&twin->machine, at + 20, 24, &echo_ops, &twin->echo);
    add_memory(&twin->machine, GM_REGION_RAM, at + 44, 100, twin->ram, 1000);
    add_rom_device(twin, at + 144, 600, false);
    add_rom_device(twin, at + 161, 700, true);
    add_memory(&twin->machine, GM_REGION_RAM_DEVICE, at + 177, 16, twin->ram, 2000);
    twin->far =
        add_region(&twin->machine, 1ull << 40,
                   (struct gm_region_options){.kind = GM_REGION_RESERVATION, .size_bytes = 1});
    twin->shown = true;
    assert_int_equal(gm_ram_dirty_begin(twin->ram, 0), 0);
}

static void tear_down(struct twin *twin)
{
    machine_free(&twin->machine);
    gm_ram_put(twin->ram);
    gm_ram_put(twin->rom);
}

static void warm(struct twin *twin)
{
    uint64_t value;

    for (unsigned i = 0; i < LOOKUPS; i++) {
        (void)gm_load(twin->machine.space, 3, 1, GM_ORDER_LITTLE, &value, no_attrs);
    }
}

static void cool(struct twin *twin)
{
    twin->shown = !twin->shown;
    assert_int_equal(gm_region_set_enabled(twin->far, twin->shown, NULL), 0);
}

static uint64_t dirty_pages(struct twin *twin)
{
    struct gm_harvest *harvest;
    uint64_t count;

    assert_int_equal(gm_harvest_begin(twin->ram, 0, 0, BYTES, &harvest), 0);
    count = gm_harvest_page_count(harvest);
    gm_harvest_commit(harvest);
    return count;
}

static void require_alike(struct twin *warm, struct twin *cold)
{
    assert_memory_equal(gm_ram_hva(warm->ram), gm_ram_hva(cold->ram), BYTES);
    assert_memory_equal(gm_ram_hva(warm->rom), gm_ram_hva(cold->rom), BYTES);
    assert_int_equal(dirty_pages(warm), dirty_pages(cold));
    assert_int_equal(warm->echo.reads, cold->echo.reads);
    assert_int_equal(warm->echo.writes, cold->echo.writes);
    assert_int_equal(warm->echo.last_offset, cold->echo.last_offset);
    assert_int_equal(warm->echo.last_value, cold->echo.last_value);
}

static void numbers_of_a_warm_view_are_those_of_a_cold_one(void **state)
{
    /* Each address, size and order; what is stored shows in memory and record. */
    struct twin hot;
    struct twin cold;

    (void)state;
    set_up(&hot);
    set_up(&cold);
    warm(&hot);
    for (uint64_t gpa = 0; gpa < SPAN; gpa++) {
        for (unsigned size = 1; size <= 8; size++) {
            enum gm_order order = (gpa + size) % 2 == 0 ? GM_ORDER_BIG : GM_ORDER_LITTLE;
            uint64_t number = gpa * 0x0123456789abcdef + size;
            uint64_t expected = 1;
            uint64_t value = 2;
            enum gm_access result;

            cool(&cold);
            result = gm_load(cold.machine.space, gpa, size, order, &expected, no_attrs);
            assert_int_equal(gm_load(hot.machine.space, gpa, size, order, &value, no_attrs),
                             result);
            assert_int_equal(value, expected);
            cool(&cold);
            result = gm_store(cold.machine.space, gpa, size, order, number, no_attrs);
            assert_int_equal(gm_store(hot.machine.space, gpa, size, order, number, no_attrs),
                             result);
            require_alike(&hot, &cold);
        }
    }
    tear_down(&hot);
    tear_down(&cold);
}

static void copies_of_a_warm_view_are_those_of_a_cold_one(void **state)
{
    /* Lengths around those that are copied without a call; and mapping as much. */
    struct twin hot;
    struct twin cold;

    (void)state;
    set_up(&hot);
    set_up(&cold);
    warm(&hot);
    for (uint64_t gpa = 0; gpa < SPAN; gpa++) {
        for (uint64_t size = 1; size <= LENGTH_MAX; size += size < 20 ? 1 : 5) {
            uint8_t expected[LENGTH_MAX];
            uint8_t data[LENGTH_MAX];
            struct gm_mapping mappings[2];
            uint64_t sizes[2] = {size, size};
            enum gm_access result;
            int rc;

            memset(expected, 1, sizeof(expected));
            memset(data, 1, sizeof(data));
            cool(&cold);
            result = gm_read(cold.machine.space, gpa, expected, size, no_attrs);
            assert_int_equal(gm_read(hot.machine.space, gpa, data, size, no_attrs), result);
            assert_memory_equal(data, expected, sizeof(data));
            memset(data, (int)(gpa + size), sizeof(data));
            cool(&cold);
            result = gm_write(cold.machine.space, gpa, data, size, no_attrs);
            assert_int_equal(gm_write(hot.machine.space, gpa, data, size, no_attrs), result);
            require_alike(&hot, &cold);
            cool(&cold);
            rc = gm_map_range(cold.machine.space, gpa, &sizes[0], true, no_attrs, &mappings[0]);
            assert_int_equal(
                gm_map_range(hot.machine.space, gpa, &sizes[1], true, no_attrs, &mappings[1]), rc);
            if (rc == 0) {
                assert_int_equal(sizes[0], sizes[1]);
                memset(mappings[0].data, (int)gpa, sizes[0]);
                memset(mappings[1].data, (int)gpa, sizes[1]);
                assert_int_equal(gm_unmap(&mappings[0], size / 2),
                                 gm_unmap(&mappings[1], size / 2));
                require_alike(&hot, &cold);
            }
        }
    }
    tear_down(&hot);
    tear_down(&cold);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(numbers_of_a_warm_view_are_those_of_a_cold_one),
        cmocka_unit_test(copies_of_a_warm_view_are_those_of_a_cold_one),
    };

    return cmocka_run_group_tests_name("access_warm", tests, NULL, NULL);
}
