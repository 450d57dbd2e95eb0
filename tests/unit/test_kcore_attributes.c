/*
 * unit/test_kcore_attributes.c - attributes of guest frames: errors, what mmu is told, and random ranges
 * against one byte a frame.
 */
#include "unit/arch.h"

#include "model/random.h"

#define PAGE UINT64_C(4096)
#define NO_READ ATTRIBUTE_NO_READ
#define NO_WRITE ATTRIBUTE_NO_WRITE
#define NO_EXECUTE ATTRIBUTE_NO_EXECUTE

static int set(struct arch *arch, uint64_t frame, uint64_t page_count, uint64_t attributes)
{
    return kcore_set_attributes(&arch->core, frame * PAGE, page_count * PAGE, attributes);
}

static uint64_t get(struct arch *arch, uint64_t frame)
{
    return kcore_attributes(&arch->core, (struct gfn){frame});
}

static bool is_same(struct arch *arch, uint64_t frame, uint64_t page_count)
{
    return kcore_attributes_same(&arch->core, (struct gfn){frame}, page_count);
}

static void attributes_bad_arguments_are_refused(void **state)
{
    /* Alignment, no size, a range past the last frame or past 2^64, unknown bits, readable by nobody. */
    struct arch *arch = arch_open();
    const uint64_t end = UINT64_C(1) << 52;

    (void)state;
    assert_int_equal(kcore_set_attributes(&arch->core, 1, PAGE, NO_WRITE), -EINVAL);
    assert_int_equal(kcore_set_attributes(&arch->core, 0, 1, NO_WRITE), -EINVAL);
    assert_int_equal(kcore_set_attributes(&arch->core, 0, 0, NO_WRITE), -EINVAL);
    assert_int_equal(kcore_set_attributes(&arch->core, end, PAGE, NO_WRITE), -EINVAL);
    assert_int_equal(kcore_set_attributes(&arch->core, end - PAGE, 2 * PAGE, NO_WRITE), -EINVAL);
    assert_int_equal(kcore_set_attributes(&arch->core, UINT64_MAX - 4095, 2 * PAGE, NO_WRITE),
                     -EINVAL);
    assert_int_equal(kcore_set_attributes(&arch->core, 0, PAGE, 16), -EINVAL);
    assert_int_equal(kcore_set_attributes(&arch->core, 0, PAGE, UINT64_C(1) << 63), -EINVAL);
    assert_int_equal(kcore_set_attributes(&arch->core, 0, PAGE, NO_READ), -EINVAL);
    assert_int_equal(kcore_set_attributes(&arch->core, 0, PAGE, NO_READ | NO_EXECUTE), -EINVAL);
    assert_string_equal(arch_said(arch), "");
    assert_int_equal(kcore_set_attributes(&arch->core, end - PAGE, PAGE, NO_READ | NO_WRITE), 0);
    assert_int_equal(get(arch, end / PAGE - 1), NO_READ | NO_WRITE);
    assert_int_equal(kcore_set_attributes(&arch->core, 0, end, ATTRIBUTES_ALL), 0);
    assert_true(is_same(arch, 0, end / PAGE));
    assert_int_equal(kcore_set_attributes(&arch->core, 0, end, 0), 0);
    assert_int_equal(get(arch, 0), 0);
    arch_close(arch);
}

static void attributes_change_is_told_in_both_spaces(void **state)
{
    /* With vCPUs held, and then a flush; faults that are under way begin anew. */
    struct arch *arch = arch_open();
    uint64_t token = notifier_token(&arch->core.notifier);

    (void)state;
    assert_int_equal(set(arch, 0x10, 0x20, NO_WRITE), 0);
    assert_string_equal(arch_said(arch), "attributes:0:10+20 attributes:1:10+20 tlb");
    assert_true(notifier_retry(&arch->core.notifier, token, (struct hva){0}, PAGE));
    assert_int_equal(atomic_load(&arch->core.holds), 1);
    arch_close(arch);
}

static void attributes_set_again_do_nothing(void **state)
{
    /* Where all frames have them already: nobody is held, nobody is told. */
    struct arch *arch = arch_open();

    (void)state;
    assert_int_equal(set(arch, 0x10, 0x20, 0), 0);
    assert_int_equal(set(arch, 0x10, 0x20, NO_WRITE), 0);
    (void)arch_said(arch);
    assert_int_equal(set(arch, 0x10, 0x20, NO_WRITE), 0);
    assert_int_equal(set(arch, 0x18, 1, NO_WRITE), 0);
    assert_int_equal(set(arch, 0x30, 0x100, 0), 0);
    assert_string_equal(arch_said(arch), "");
    assert_int_equal(atomic_load(&arch->core.holds), 1);
    arch_close(arch);
}

static void attributes_same_looks_at_whole_ranges(void **state)
{
    /* Within a range, within a hole, and across their borders. */
    struct arch *arch = arch_open();

    (void)state;
    assert_true(is_same(arch, 0, UINT64_C(1) << 40));
    assert_int_equal(set(arch, 0x10, 0x10, NO_WRITE), 0);
    assert_int_equal(set(arch, 0x20, 0x10, NO_EXECUTE), 0);
    assert_true(is_same(arch, 0x10, 0x10));
    assert_true(is_same(arch, 0x1f, 1));
    assert_true(is_same(arch, 0, 0x10));
    assert_true(is_same(arch, 0x30, UINT64_C(1) << 30));
    assert_true(is_same(arch, 0x1f, 0));
    assert_false(is_same(arch, 0x1f, 2));
    assert_false(is_same(arch, 0xf, 2));
    assert_false(is_same(arch, 0x2f, 2));
    assert_false(is_same(arch, 0, 0x100));
    arch_close(arch);
}

static void attributes_equal_neighbours_join(void **state)
{
    /* A range that is filled in piece by piece, from its ends, is one. */
    struct arch *arch = arch_open();
    const struct attributes *attributes;

    (void)state;
    assert_int_equal(set(arch, 0, 4, NO_WRITE), 0);
    assert_int_equal(set(arch, 8, 4, NO_WRITE), 0);
    assert_int_equal(set(arch, 12, 4, NO_EXECUTE), 0);
    assert_int_equal(set(arch, 4, 4, NO_WRITE), 0);
    attributes = rcu_load(&arch->core.attributes);
    assert_int_equal(attributes->ranges->count, 2);
    assert_int_equal(attributes->ranges->lasts[0], 11);
    assert_int_equal(set(arch, 12, 4, NO_WRITE), 0);
    attributes = rcu_load(&arch->core.attributes);
    assert_int_equal(attributes->ranges->count, 1);
    assert_int_equal(attributes->ranges->lasts[0], 15);
    arch_close(arch);
}

#define FRAMES 4096

static void attributes_random_ranges_agree_with_the_array(void **state)
{
    /* 4,000 ranges, long and short, on 4,096 frames; all frames compared now and then. */
    static uint8_t model[FRAMES];
    struct arch *arch = arch_open();
    struct rnd rnd = {rnd_seed("attributes")};

    (void)state;
    arch->is_silent = true;
    for (unsigned i = 0; i < 4000; i++) {
        uint64_t first = rnd_below(&rnd, FRAMES);
        uint64_t longest = rnd_one_in(&rnd, 20) ? FRAMES - first : 12;
        uint64_t count = 1 + rnd_below(&rnd, longest);
        uint64_t attributes = rnd_below(&rnd, 16);
        bool same = true;

        count = count <= FRAMES - first ? count : FRAMES - first;
        if ((attributes & NO_READ) != 0) {
            attributes |= NO_WRITE;
        }
        assert_int_equal(set(arch, first, count, attributes), 0);
        memset(model + first, (int)attributes, count);
        first = rnd_below(&rnd, FRAMES - 64);
        count = 1 + rnd_below(&rnd, rnd_one_in(&rnd, 2) ? 4 : 64);
        for (uint64_t j = 1; j < count; j++) {
            same = same && model[first + j] == model[first];
        }
        assert_int_equal(is_same(arch, first, count), same);
        for (uint64_t j = 0; j < FRAMES && i % 40 == 0; j++) {
            assert_int_equal(get(arch, j), model[j]);
        }
    }
    assert_int_equal(get(arch, FRAMES), 0);
    arch_close(arch);
}

static void attributes_of_every_other_page_stay_cheap(void **state)
{
    /* 20,000 ranges of a page: the last costs no more nodes than the tree has levels. */
    struct arch *arch = arch_open();
    uint64_t allocations;

    (void)state;
    arch->is_silent = true;
    arch->core.index_pool.keep_max = 0;
    for (uint64_t i = 0; i < 20000; i++) {
        assert_int_equal(set(arch, i * 2, 1, ATTRIBUTE_PRIVATE), 0);
    }
    allocations = arch->faults.allocations;
    assert_int_equal(set(arch, 20002, 1, NO_WRITE), 0);
    assert_true(arch->faults.allocations - allocations <= 1 + 2 * 4);
    assert_int_equal(get(arch, 20000), ATTRIBUTE_PRIVATE);
    assert_int_equal(get(arch, 20001), 0);
    assert_int_equal(get(arch, 20002), NO_WRITE);
    allocations = arch->faults.allocations;
    assert_int_equal(set(arch, 0, 40000, 0), 0); /* all of them go at once */
    assert_null(rcu_load(&arch->core.attributes)->ranges);
    arch_close(arch);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(attributes_bad_arguments_are_refused),
        cmocka_unit_test(attributes_change_is_told_in_both_spaces),
        cmocka_unit_test(attributes_set_again_do_nothing),
        cmocka_unit_test(attributes_same_looks_at_whole_ranges),
        cmocka_unit_test(attributes_equal_neighbours_join),
        cmocka_unit_test(attributes_random_ranges_agree_with_the_array),
        cmocka_unit_test(attributes_of_every_other_page_stay_cheap),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
