/*
 * unit/test_soft_discard.c - the software KVM under a map whose blocks are discarded: its tables
 * lose what led to the pages, and nothing else, and get it back at the next touch.
 */
#include "machine.h"
#include "ram_rig.h"

#include <guestmem/soft.h>

#define BYTES (4 * HUGE)

struct board {
    struct machine machine;
    struct gm_soft *soft;
    struct gm_soft_vcpu *vcpu;
    struct gm_mmu *mmu;
    struct gm_slots *slots;
    struct gm_ram *ram;
};

static void board_init(struct board *board, enum rig_kind kind)
{
    const struct gm_soft_options options = {.size = sizeof(options)};

    board->machine = machine_new();
    board->ram = rig_new(kind, BYTES);
    assert_int_equal(gm_ram_size(board->ram), BYTES);
    add_memory(&board->machine, GM_REGION_RAM, 0, BYTES, board->ram, 0);
    assert_int_equal(gm_soft_open(&options, &board->soft, NULL), 0);
    assert_int_equal(gm_soft_attach(board->soft, board->machine.space, 0, &board->slots, NULL), 0);
    assert_int_equal(gm_soft_vcpu_new(board->soft, 0, &board->vcpu), 0);
    board->mmu = gm_soft_vcpu_mmu(board->vcpu);
}

static void board_fini(struct board *board)
{
    gm_soft_vcpu_free(board->vcpu);
    assert_int_equal(gm_slots_detach(board->slots, NULL), 0);
    assert_int_equal(gm_soft_close(board->soft), 0);
    machine_free(&board->machine);
    gm_ram_put(board->ram);
}

static void store(struct board *board, uint64_t gpa, uint64_t value)
{
    assert_int_equal(gm_mmu_enter(board->mmu), GM_MMU_OK);
    assert_int_equal(gm_mmu_store(board->mmu, gpa, 8, value), GM_MMU_OK);
    gm_mmu_leave(board->mmu);
}

static uint64_t load(struct board *board, uint64_t gpa)
{
    uint64_t value = 1;

    assert_int_equal(gm_mmu_enter(board->mmu), GM_MMU_OK);
    assert_int_equal(gm_mmu_load(board->mmu, gpa, 8, &value), GM_MMU_OK);
    gm_mmu_leave(board->mmu);
    return value;
}

static struct gm_soft_stats stats_of(struct board *board)
{
    struct gm_soft_stats stats;

    gm_soft_stats(board->soft, &stats);
    return stats;
}

/* Leaves of the size that the block's pages have. */
static uint64_t leaves(struct board *board)
{
    struct gm_soft_stats stats = stats_of(board);

    return gm_ram_page_bytes(board->ram) == HUGE ? stats.pages_2m : stats.pages_4k;
}

static void discard_takes_away_just_the_leaves_of_its_pages(void **state)
{
    /* Of each kind; a leaf is as large as the backing's page, so none is larger than what goes. */
    (void)state;
    for (enum rig_kind kind = 0; kind < RIG_KINDS; kind++) {
        struct board board;
        uint64_t page_bytes;
        uint64_t faults;

        if (rig_lacks(kind, BYTES / HUGE)) {
            continue;
        }
        board_init(&board, kind);
        page_bytes = gm_ram_page_bytes(board.ram);
        for (uint64_t i = 0; i < 4; i++) {
            store(&board, i * page_bytes, 0x100 + i);
        }
        assert_int_equal(leaves(&board), 4);
        assert_int_equal(gm_ram_discard(board.ram, page_bytes, 2 * page_bytes, NULL), 0);
        assert_int_equal(leaves(&board), 2);
        faults = stats_of(&board).faults;
        assert_int_equal(load(&board, 0), 0x100);
        assert_int_equal(load(&board, 3 * page_bytes), 0x103);
        assert_int_equal(stats_of(&board).faults, faults);
        assert_int_equal(load(&board, page_bytes),
                         rig_fresh_byte(kind, true) * UINT64_C(0x0101010101010101));
        assert_true(stats_of(&board).faults > faults);
        store(&board, page_bytes, 0x200);
        assert_int_equal(load(&board, page_bytes), 0x200);
        assert_int_equal(leaves(&board), 3);
        board_fini(&board);
    }
    rig_give_huge_back();
}

static void discard_of_huge_pages_that_ran_out_is_an_error_of_the_access(void **state)
{
    /* Where the processor's own access would be SIGBUS, a software vCPU's comes out as an error, if its leaf went. */
    struct board board;
    struct gm_ram *other;
    uint64_t value;

    (void)state;
    RIG_NEEDS_HUGE(BYTES / HUGE);
    board_init(&board, RIG_HUGETLB);
    store(&board, HUGE, 7);
    assert_int_equal(gm_ram_discard(board.ram, HUGE, HUGE, NULL), 0);
    other = rig_new(RIG_HUGETLB, HUGE);
    assert_int_equal(gm_mmu_enter(board.mmu), GM_MMU_OK);
    assert_int_equal(gm_mmu_load(board.mmu, HUGE, 8, &value), GM_MMU_ERROR);
    gm_ram_put(other);
    assert_int_equal(load(&board, HUGE), 0);
    board_fini(&board);
    rig_give_huge_back();
}

static void prealloc_is_no_news_to_the_tables(void **state)
{
    /* Pages become present; what leads to those that are there stays. */
    struct board board;
    struct gm_soft_stats before;

    (void)state;
    board_init(&board, RIG_ANON);
    store(&board, PAGE, 5);
    before = stats_of(&board);
    assert_int_equal(gm_ram_prealloc(board.ram, NULL, NULL), 0);
    assert_int_equal(load(&board, PAGE), 5);
    assert_int_equal(stats_of(&board).faults, before.faults);
    assert_int_equal(stats_of(&board).flushes, before.flushes);
    board_fini(&board);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(discard_takes_away_just_the_leaves_of_its_pages),
        cmocka_unit_test(discard_of_huge_pages_that_ran_out_is_an_error_of_the_access),
        cmocka_unit_test(prealloc_is_no_news_to_the_tables),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
