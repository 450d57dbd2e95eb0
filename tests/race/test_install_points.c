/*
 * race/test_install_points.c - the orders of two vCPUs that hand a table's write protection on to its entries, or install a right
 * there, forced one by one: the rows of the table in mmu/install.c. `puppet` is its A, `other` its B. After each, both pages are
 * in the log's next harvest, and so are the writes after it; mmu_audit() has the lines' bits (I-33).
 *
 *   hand-on-begins   the lines with rights are known
 *   line-protected   a line's rights are taken; its bit is set
 *   line-bit-taken   ... and is not; the entries were not looked at again
 *   right-installed  an entry has its right; its line's bit was not touched
 */
#include "race/test_soft_points.h"

#include <linux/kvm.h>

static struct puppet other;

/* In two lines of a table, of which A's comes first, so that nothing that A installs has the other line's bit set. */
#define PAGE_A 0u
#define PAGE_B TABLE_LINE_ENTRIES
#define BOTH (1u << PAGE_A | 1u << PAGE_B)

/* The two pages, of those that are in the log, which is cleared. */
static unsigned harvest(void)
{
    static uint64_t bitmap[LARGE_BYTES / PAGE / 64];
    struct kvm_dirty_log get = {.slot = 0, .dirty_bitmap = bitmap};

    REQUIRE(gm_soft_vm_ioctl(race.soft, KVM_GET_DIRTY_LOG, (unsigned long)&get) == 0, "get");
    return (unsigned)bitmap[0];
}

static void writes(struct puppet *of, unsigned page)
{
    assert_int_equal(puppet_do(of, GM_MMU_WRITE, PLACE + page * PAGE, 1).outcome, GM_MMU_OK);
}

/* Both pages have rights, below an entry that has none: nothing is dirty. */
static int set_up_protected(void **state)
{
    (void)set_up(state);
    puppet_init(&other, race.soft, 1);
    set_flags(LOG);
    writes(&puppet, PAGE_A);
    writes(&puppet, PAGE_B);
    REQUIRE(harvest() == BOTH, "both are written");
    REQUIRE(harvest() == 0, "nothing is dirty");
    return 0;
}

static int tear_down_protected(void **state)
{
    puppet_fini(&other);
    return tear_down(state);
}

static void begin_a_until(const char *point)
{
    begin_until(point, GM_MMU_WRITE, PLACE + PAGE_A * PAGE);
}

static void begin_b_until(const char *point)
{
    puppet_stop_at(&other, point);
    puppet_begin(&other, GM_MMU_WRITE, PLACE + PAGE_B * PAGE, 0x77);
    puppet_wait_stopped(&other);
}

static void a_goes_on_until(const char *point)
{
    puppet_stop_at(&puppet, point);
    puppet_go_on(&puppet);
    puppet_wait_stopped(&puppet);
}

static void a_ends(void)
{
    assert_int_equal(finish().outcome, GM_MMU_OK);
}

static void b_ends(void)
{
    puppet_go_on(&other);
    assert_int_equal(puppet_end(&other).outcome, GM_MMU_OK);
}

static void b_goes_on_until(const char *point)
{
    puppet_stop_at(&other, point);
    puppet_go_on(&other);
    puppet_wait_stopped(&other);
}

/* Whoever hands on first after a harvest: the other page's write is noticed, too. */
static void assert_writes_are_logged(void)
{
    assert_int_equal(harvest(), BOTH);
    writes(&puppet, PAGE_A);
    writes(&other, PAGE_B);
    assert_int_equal(harvest(), BOTH);
    writes(&other, PAGE_B);
    writes(&puppet, PAGE_A);
    assert_int_equal(harvest(), BOTH);
}

static void right_given_again_before_the_bit_is_taken_has_its_bit(void **state)
{
    /* 1: A takes the bit that B has set, and looks again. */
    (void)state;
    begin_a_until("line-protected");
    a_goes_on_until("line-protected");
    writes(&other, PAGE_B);
    a_ends();
    assert_writes_are_logged();
}

static void right_given_again_whose_bit_is_set_after_it_was_taken_has_its_bit(void **state)
{
    /* 2: A takes the bit between B's right and B's bit. */
    (void)state;
    begin_a_until("line-protected");
    a_goes_on_until("line-protected");
    begin_b_until("right-installed");
    a_goes_on_until("line-bit-taken");
    b_ends();
    a_ends();
    assert_writes_are_logged();
}

static void right_given_before_the_line_is_protected_is_taken_and_faulted_again(void **state)
{
    /* 3: A protects what B has just given; B's processor has not used it yet. */
    uint64_t fixed;
    struct gm_soft_stats stats;

    (void)state;
    begin_a_until("hand-on-begins");
    begin_b_until("right-installed");
    a_goes_on_until("line-protected");
    a_goes_on_until("line-protected");
    gm_soft_stats(race.soft, &stats);
    fixed = stats.faults_fixed;
    b_ends();
    gm_soft_stats(race.soft, &stats);
    assert_int_equal(stats.faults_fixed, fixed + 2);
    a_ends();
    assert_writes_are_logged();
}

static void hand_on_that_finds_no_bit_left_gives_the_tables_entry_its_right(void **state)
{
    /* 4: B has taken the last bit, and is not through. */
    (void)state;
    if (!puppet_can_stop()) {
        skip();
    }
    begin_b_until("line-bit-taken");
    b_goes_on_until("line-bit-taken");
    writes(&puppet, PAGE_A);
    b_ends();
    assert_writes_are_logged();
}

static void hand_on_that_comes_late_takes_a_right_that_came_since(void **state)
{
    /* 5: A is through, and has written; B still knows of a line to protect. */
    (void)state;
    if (!puppet_can_stop()) {
        skip();
    }
    begin_b_until("hand-on-begins");
    writes(&puppet, PAGE_A);
    b_ends();
    writes(&puppet, PAGE_A);
    assert_writes_are_logged();
}

#define ORDER(test) cmocka_unit_test_setup_teardown(test, set_up_protected, tear_down_protected)

int main(void)
{
    const struct CMUnitTest tests[] = {
        ORDER(right_given_again_before_the_bit_is_taken_has_its_bit),
        ORDER(right_given_again_whose_bit_is_set_after_it_was_taken_has_its_bit),
        ORDER(right_given_before_the_line_is_protected_is_taken_and_faulted_again),
        ORDER(hand_on_that_finds_no_bit_left_gives_the_tables_entry_its_right),
        ORDER(hand_on_that_comes_late_takes_a_right_that_came_since),
    };

    return cmocka_run_group_tests_name("install_points", tests, NULL, NULL);
}
