/* unit/test_getters.c - what was given comes back, and the one-edit calls. */
#include "unit/machine.h"

#include <guestmem/guestmem.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <cmocka.h>

static void region_tells_what_it_was_made_with(void **state)
{
    /* Kind, name, opaque and state are those of the options. */
    struct machine machine = machine_new();
    int mine;
    struct gm_region_options options = {
        .size = sizeof(options),
        .kind = GM_REGION_CONTAINER,
        .name = "bus",
        .size_bytes = GM_SIZE_2_64,
        .addr = 0x1234,
        .priority = -7,
        .disabled = true,
        .opaque = &mine,
    };
    struct gm_region_state now;
    struct gm_region *region;

    (void)state;
    assert_int_equal(gm_region_new(machine.map, &options, &region, NULL), 0);
    assert_int_equal(gm_region_kind(region), GM_REGION_CONTAINER);
    assert_string_equal(gm_region_name(region), "bus");
    assert_ptr_equal(gm_region_opaque(region), &mine);
    assert_null(gm_region_ram(region));
    gm_region_state(region, &now);
    assert_true(now.size == GM_SIZE_2_64);
    assert_int_equal(now.addr, 0x1234);
    assert_int_equal(now.priority, -7);
    assert_false(now.enabled);
    assert_null(now.parent);
    gm_region_put(region);
    machine_free(&machine);
}

static void space_tells_name_index_and_map(void **state)
{
    /* Spaces are numbered in the order of making; a number is not used again. */
    struct machine machine = machine_new();
    struct gm_space *second;
    struct gm_space *third;

    (void)state;
    assert_string_equal(gm_space_name(machine.space), "memory");
    assert_int_equal(gm_space_index(machine.space), 0);
    assert_int_equal(gm_space_new(machine.map, NULL, NULL, &second, NULL), 0);
    assert_string_equal(gm_space_name(second), "");
    assert_int_equal(gm_space_index(second), 1);
    assert_int_equal(gm_space_free(second, NULL), 0);
    assert_int_equal(gm_space_new(machine.map, "dma", NULL, &third, NULL), 0);
    assert_int_equal(gm_space_index(third), 2);
    assert_ptr_equal(gm_space_map_of(third), machine.map);
    assert_int_equal(gm_space_free(third, NULL), 0);
    machine_free(&machine);
}

static void set_addr_moves_the_section(void **state)
{
    /* The one-edit call is a whole transaction; a section's size is that of its range. */
    struct machine machine = machine_new();
    struct gm_ram *ram = new_ram(0x3000);
    struct gm_region *region;
    struct gm_section section;
    struct gm_view *view;

    (void)state;
    assert_int_equal(gm_region_new_ram(machine.map, "ram", ram, &region), 0);
    assert_int_equal(gm_region_add(machine.root, region, NULL), 0);
    assert_int_equal(gm_region_set_addr(region, 0xfffffffffffff000, NULL), 0);
    view = gm_view_get(machine.space);
    assert_int_equal(gm_view_count(view), 1);
    assert_true(gm_view_at(view, 0, &section));
    assert_int_equal(section.gpa, 0xfffffffffffff000);
    assert_true(gm_section_size(&section) == 0x1000); /* the rest lies past 2^64 */
    gm_view_put(view);
    gm_region_put(region);
    gm_ram_put(ram);
    machine_free(&machine);
}

static void section_that_is_found_is_written_whole(void **state)
{
    /* By the search and, once the view is warm, by its index: whatever the caller's section held before. */
    struct machine machine = machine_new();
    struct gm_ram *ram = new_ram(0x3000);
    struct gm_region *region;
    struct gm_section expected;
    struct gm_section section;
    struct gm_view *view;

    (void)state;
    assert_int_equal(gm_region_new_ram(machine.map, "ram", ram, &region), 0);
    assert_int_equal(gm_region_add(machine.root, region, NULL), 0);
    view = gm_view_get(machine.space);
    assert_true(gm_view_at(view, 0, &expected));
    assert_null(expected.space);
    for (unsigned i = 0; i < 1000; i++) {
        memset(&section, 0xff, sizeof(section));
        assert_true(gm_view_find(view, 0x2fff, &section));
        assert_null(section.space);
        assert_int_equal(section.gpa, expected.gpa);
        assert_int_equal(section.last, expected.last);
        assert_ptr_equal(section.region, expected.region);
        assert_int_equal(section.offset, expected.offset);
        assert_ptr_equal(section.hva, expected.hva);
        assert_int_equal(section.flags, expected.flags);
        assert_int_equal(section.log_mask, expected.log_mask);
        assert_false(gm_view_find(view, 0x3000, &section));
    }
    gm_view_put(view);
    gm_region_put(region);
    gm_ram_put(ram);
    machine_free(&machine);
}

static void ranges_at_every_scale_are_found(void **state)
{
    /* One byte at each power of two: more of them lie together than the index has levels for, and the rest is left to the search. */
    struct machine machine = machine_new();
    const struct gm_io_ops ops = {.size = sizeof(ops)};
    struct gm_section section;
    struct gm_view *view;

    (void)state;
    for (unsigned bit = 0; bit < 64; bit++) {
        add_mmio(&machine, UINT64_C(1) << bit, 1, &ops, NULL);
    }
    view = gm_view_get(machine.space);
    for (unsigned i = 0; i < 64 * 100; i++) {
        uint64_t gpa = UINT64_C(1) << i % 64;

        assert_true(gm_view_find(view, gpa, &section));
        assert_int_equal(section.gpa, gpa);
        assert_int_equal(section.last, gpa);
        assert_int_equal(gm_view_find(view, gpa + 1, &section), gpa == 1); /* 2 is one, too */
    }
    gm_view_put(view);
    machine_free(&machine);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(region_tells_what_it_was_made_with),
        cmocka_unit_test(space_tells_name_index_and_map),
        cmocka_unit_test(set_addr_moves_the_section),
        cmocka_unit_test(section_that_is_found_is_written_whole),
        cmocka_unit_test(ranges_at_every_scale_are_found),
    };

    return cmocka_run_group_tests_name("getters", tests, NULL, NULL);
}
