/*
 * unit/test_soft_attach.c - a map over the software KVM: what a vCPU reaches is what the map shows,
 * and what it writes is in the blocks' records, whatever is edited meanwhile, and whatever fails.
 */
#include "machine.h"

#include "model/require.h"
#include "base/rcu.h"
#include "model/faults.h"

#include <guestmem/soft_ioctl.h>

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stddef.h>
#include <string.h>

#define PAGE ((uint64_t)4096)
#define SPACE_PAGES 96u
#define WINDOWS 3u
#define CLIENT 2u

/*
 * RAM of 64 pages at 0, three windows of RAM above it, of which the third is read-only, and a
 * device: all overlap each other where edits put them.
 */
struct board {
    struct faults faults;
    struct gm_allocator allocator;
    struct machine machine;
    struct gm_soft *soft;
    struct gm_soft_vcpu *vcpu;
    struct gm_mmu *mmu;
    struct gm_slots *slots;
    struct gm_ram *block;
    struct gm_region *ram;
    struct gm_ram *window_blocks[WINDOWS];
    struct gm_region *windows[WINDOWS];
    struct gm_region *device;
};

static enum gm_access device_read(void *opaque, uint64_t offset, unsigned size_bytes,
                                  uint64_t *value, struct gm_attrs attrs)
{
    (void)opaque;
    (void)offset;
    (void)size_bytes;
    (void)attrs;
    *value = 0xdd;
    return GM_ACCESS_OK;
}

static const struct gm_io_ops device_ops = {.size = sizeof(device_ops), .read = device_read};

static void board_init(struct board *board, struct gm_soft_options options)
{
    memset(board, 0, sizeof(*board));
    board->allocator = faults_allocator(&board->faults);
    options.size = sizeof(options);
    options.allocator = &board->allocator;
    board->machine = machine_new_with(&(struct gm_map_options){
        .size = sizeof(struct gm_map_options), .allocator = &board->allocator});
    board->block = new_ram(64 * PAGE);
    board->ram = add_memory(&board->machine, GM_REGION_RAM, 0, 64 * PAGE, board->block, 0);
    for (unsigned i = 0; i < WINDOWS; i++) {
        board->window_blocks[i] = new_ram(8 * PAGE);
        board->windows[i] = add_region(&board->machine, (8 + 12 * i) * PAGE,
                                       (struct gm_region_options){
                                           .kind = GM_REGION_RAM,
                                           .size_bytes = 8 * PAGE,
                                           .ram = board->window_blocks[i],
                                           .priority = (int32_t)i + 1,
                                           .readonly = i == 2,
                                       });
        memset(gm_ram_hva(board->window_blocks[i]), 0x11 * (int)(i + 1), 8 * PAGE);
    }
    board->device = add_region(
        &board->machine, 40 * PAGE,
        (struct gm_region_options){
            .kind = GM_REGION_MMIO, .size_bytes = 2 * PAGE, .io = &device_ops, .priority = 2});
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
    gm_ram_put(board->block);
    for (unsigned i = 0; i < WINDOWS; i++) {
        gm_ram_put(board->window_blocks[i]);
    }
    rcu_drain();
    assert_int_equal(faults_live(&board->faults), 0);
}

static struct gm_txn *edit(struct board *board)
{
    struct gm_txn *txn;

    assert_int_equal(gm_txn_begin(board->machine.map, &txn), 0);
    return txn;
}

static void commit(struct gm_txn *txn)
{
    assert_int_equal(gm_txn_commit(txn, NULL), 0);
}

/* Is the page memory in the view, and may it be written? */
static bool is_memory(const struct gm_view *view, uint64_t gpa, bool *writable)
{
    struct gm_section section;

    if (!gm_view_find(view, gpa, &section) || section.hva == NULL) {
        return false;
    }
    *writable = (section.flags & GM_SECTION_READONLY) == 0;
    return true;
}

/* Each page as the vCPU finds it, against what the space shows. */
static void expect_equal(struct board *board, uint64_t stamp)
{
    struct gm_view *view = gm_view_get(board->machine.space);

    for (uint64_t gpa = 0x20; gpa < SPACE_PAGES * PAGE; gpa += PAGE) {
        enum gm_mmu_outcome outcome = gm_mmu_enter(board->mmu);
        bool writable = false;
        bool memory = is_memory(view, gpa, &writable);
        uint64_t shown = 0;
        uint64_t found = 0;

        assert_int_equal(outcome, GM_MMU_OK);
        outcome = gm_mmu_load(board->mmu, gpa, 8, &found);
        assert_int_equal(outcome, memory ? GM_MMU_OK : GM_MMU_MMIO);
        if (memory) {
            assert_int_equal(
                gm_load(board->machine.space, gpa, 8, GM_ORDER_LITTLE, &shown, no_attrs),
                GM_ACCESS_OK);
            assert_int_equal(found, shown);
            outcome = gm_mmu_store(board->mmu, gpa, 8, stamp + gpa);
            assert_int_equal(outcome, writable ? GM_MMU_OK : GM_MMU_MMIO);
            assert_int_equal(
                gm_load(board->machine.space, gpa, 8, GM_ORDER_LITTLE, &shown, no_attrs),
                GM_ACCESS_OK);
            assert_int_equal(shown, writable ? stamp + gpa : found);
        }
        gm_mmu_leave(board->mmu);
    }
    gm_view_put(view);
}

static void attached_map_edited_at_random_is_what_the_vcpu_sees(void **state)
{
    /* Windows come, go, move and become read-only; the device too. After each commit all pages. */
    struct board board;
    struct gm_slots_stats stats;

    (void)state;
    random_begin("attached_map_edited_at_random_is_what_the_vcpu_sees");
    board_init(&board, (struct gm_soft_options){.log = GM_SOFT_LOG_PROTECT});
    for (unsigned i = 0; i < 150; i++) {
        struct gm_region *region =
            random_below(4) == 0 ? board.device : board.windows[random_below(WINDOWS)];
        struct gm_txn *txn = edit(&board);

        switch (random_below(4)) {
        case 0:
            assert_int_equal(gm_txn_set_enabled(txn, region, random_below(3) != 0), 0);
            break;
        case 1:
            assert_int_equal(gm_txn_set_readonly(txn, board.windows[random_below(WINDOWS)],
                                                 random_below(2) != 0),
                             0);
            break;
        default:
            assert_int_equal(gm_txn_set_addr(txn, region, random_below(80) * PAGE), 0);
            break;
        }
        if (random_below(5) == 0) {
            assert_int_equal(gm_txn_set_log(txn, board.ram, CLIENT, random_below(2) != 0), 0);
        }
        commit(txn);
        expect_equal(&board, i << 20);
    }
    gm_slots_stats(board.slots, &stats);
    assert_true(stats.creates > 50 && stats.destroys > 50 && stats.holds > 0);
    board_fini(&board);
}

/* Harvest, and say which pages of the first 64 were dirty. */
static uint64_t harvest(struct board *board)
{
    struct gm_harvest *harvest;
    uint64_t pages = 0;
    uint64_t first;
    uint64_t last;

    assert_int_equal(gm_region_log_sync(board->ram, 0, 64 * PAGE), 0);
    assert_int_equal(gm_harvest_begin(board->block, CLIENT, 0, 64 * PAGE, &harvest), 0);
    while (gm_harvest_next(harvest, &first, &last)) {
        for (; first <= last; first++) {
            pages |= 1ull << first;
        }
    }
    gm_harvest_commit(harvest);
    return pages;
}

static void set_log(struct board *board, bool on)
{
    struct gm_txn *txn = edit(board);

    assert_int_equal(gm_txn_set_log(txn, board->ram, CLIENT, on), 0);
    commit(txn);
}

static void write_page(struct board *board, uint64_t page)
{
    assert_int_equal(gm_mmu_enter(board->mmu), GM_MMU_OK);
    assert_int_equal(gm_mmu_store(board->mmu, page * PAGE, 8, page), GM_MMU_OK);
    gm_mmu_leave(board->mmu);
}

static void attached_vcpus_writes_are_in_the_record(void **state)
{
    /* Each write is harvested once; those before a window hid the page, or the log ended, too. */
    const enum gm_soft_log ways[] = {GM_SOFT_LOG_PROTECT, GM_SOFT_LOG_BUFFER};

    (void)state;
    for (unsigned i = 0; i < 2; i++) {
        struct board board;

        board_init(&board, (struct gm_soft_options){.log = ways[i]});
        write_page(&board, 1);
        set_log(&board, true);
        assert_int_equal(harvest(&board), 0);
        write_page(&board, 1);
        write_page(&board, 63);
        assert_int_equal(harvest(&board), 1ull << 1 | 1ull << 63);
        assert_int_equal(harvest(&board), 0);
        write_page(&board, 1);
        write_page(&board, 2);
        assert_int_equal(gm_region_set_addr(board.windows[1], 0, NULL), 0);
        write_page(&board, 1); /* the window's */
        assert_int_equal(harvest(&board), 1ull << 1 | 1ull << 2);
        write_page(&board, 50);
        assert_int_equal(gm_ram_dirty_begin(board.block, CLIENT), 0);
        set_log(&board, false);
        write_page(&board, 51);
        assert_int_equal(harvest(&board), 1ull << 50);
        assert_int_equal(gm_ram_dirty_end(board.block, CLIENT), 0);
        board_fini(&board);
    }
}

static void attached_sync_finds_what_was_written_through_another_region(void **state)
{
    /* A region that shows the same memory took its place: the slot stays, and what was written before is still in its log. */
    struct board board;
    struct gm_region *other;
    struct gm_txn *txn;

    (void)state;
    board_init(&board, (struct gm_soft_options){0});
    other = add_memory(&board.machine, GM_REGION_RAM, 0, 64 * PAGE, board.block, 0);
    txn = edit(&board);
    assert_int_equal(gm_txn_set_enabled(txn, other, false), 0);
    assert_int_equal(gm_txn_set_log(txn, board.ram, CLIENT, true), 0);
    assert_int_equal(gm_txn_set_log(txn, other, CLIENT, true), 0);
    commit(txn);
    write_page(&board, 1);
    write_page(&board, 63);
    txn = edit(&board);
    assert_int_equal(gm_txn_set_enabled(txn, board.ram, false), 0);
    assert_int_equal(gm_txn_set_enabled(txn, other, true), 0);
    commit(txn);
    assert_int_equal(harvest(&board), 1ull << 1 | 1ull << 63);
    board_fini(&board);
}

/* ---- beside a running vCPU ---- */

struct runner {
    struct board board;
    atomic_bool is_over;
    uint64_t last_written;
};

static void *toggle_window(void *opaque)
{
    struct runner *runner = opaque;
    struct board *board = &runner->board;

    for (unsigned i = 0; i < 200; i++) {
        int rc = gm_region_set_enabled(board->windows[0], i % 2 != 0, NULL);

        REQUIRE_TRUE(rc == 0);
    }
    atomic_store(&runner->is_over, true);
    return NULL;
}

/* An instruction: looks under the window, and adds one beside it. Its last act is the store. */
static enum gm_mmu_outcome count_up(struct gm_mmu *mmu, uint64_t *count)
{
    uint64_t value = 0;
    enum gm_mmu_outcome outcome = gm_mmu_load(mmu, 9 * PAGE, 4, &value);

    if (outcome == GM_MMU_OK) {
        assert_true(value == 0x99999999 || value == 0x11111111);
        outcome = gm_mmu_load(mmu, 3 * PAGE, 8, &value);
    }
    if (outcome == GM_MMU_OK) {
        assert_int_equal(value, *count);
        outcome = gm_mmu_store(mmu, 3 * PAGE, 8, *count + 1);
    }
    *count += outcome == GM_MMU_OK;
    return outcome;
}

static void attached_map_edited_beside_a_vcpu_hides_nothing_else(void **state)
{
    /* Under the window the vCPU reads the window or what is below it; beside it, always the same;
     * and what it writes there is still there in the end. */
    struct runner runner = {.is_over = false};
    struct board *board = &runner.board;
    pthread_t thread;
    uint64_t count = 0;

    (void)state;
    board_init(board, (struct gm_soft_options){.log = GM_SOFT_LOG_PROTECT});
    memset((uint8_t *)gm_ram_hva(board->block) + 8 * PAGE, 0x99, 8 * PAGE);
    set_log(board, true);
    assert_int_equal(pthread_create(&thread, NULL, toggle_window, &runner), 0);
    assert_int_equal(gm_mmu_enter(board->mmu), GM_MMU_OK);
    while (!atomic_load(&runner.is_over) || count == 0) { /* it may be late */
        enum gm_mmu_outcome outcome = count_up(board->mmu, &count);

        assert_true(outcome == GM_MMU_OK || outcome == GM_MMU_RESTART);
        outcome = outcome == GM_MMU_OK ? gm_mmu_boundary(board->mmu) : gm_mmu_enter(board->mmu);
        assert_int_equal(outcome, GM_MMU_OK);
    }
    gm_mmu_leave(board->mmu);
    pthread_join(thread, NULL);
    assert_memory_equal((uint8_t *)gm_ram_hva(board->block) + 3 * PAGE, &count, sizeof(count));
    assert_true((harvest(board) & 1ull << 3) != 0);
    board_fini(board);
}

/* ---- failures ---- */

static void attached_commit_without_memory_changes_nothing(void **state)
{
    /* Each allocation of a commit, in the map and in the VM, fails once: slots, contents and
     * records are as before, and the map is not broken. */
    struct board board;
    unsigned failures = 0;

    (void)state;
    board_init(&board, (struct gm_soft_options){.log = GM_SOFT_LOG_PROTECT});
    set_log(&board, true);
    for (;; failures++) {
        struct gm_slot before[32];
        struct gm_slot after[32];
        struct gm_txn *txn;
        size_t count = gm_slots_list(board.slots, before, 32);
        int rc;

        write_page(&board, 5);
        txn = edit(&board);
        faults_arm(&board.faults, failures + 1);
        rc = gm_txn_set_addr(txn, board.windows[0], 30 * PAGE);
        rc = rc != 0 ? rc : gm_txn_set_readonly(txn, board.windows[1], true);
        rc = rc != 0 ? rc : gm_txn_set_log(txn, board.windows[1], CLIENT, true);
        if (rc != 0) {
            gm_txn_abort(txn);
        } else {
            rc = gm_txn_commit(txn, NULL);
        }
        faults_disarm(&board.faults);
        if (rc == 0) { /* in builds with audits it may be one of theirs that fails */
            break;
        }
        assert_int_equal(rc, -ENOMEM);
        assert_false(gm_map_is_broken(board.machine.map));
        assert_int_equal(gm_slots_list(board.slots, after, 32), count);
        for (size_t i = 0; i < count; i++) {
            assert_memory_equal(&after[i], &before[i], sizeof(before[i]));
        }
        assert_true((harvest(&board) & 1ull << 5) != 0);
        expect_equal(&board, failures);
        (void)harvest(&board);
    }
    assert_true(failures > 20);
    expect_equal(&board, 1);
    board_fini(&board);
}

static void attach_what_the_soft_kvm_cannot_take_is_refused(void **state)
{
    /* Memory that is not there; too few slots. */
    struct machine machine = machine_new();
    struct gm_slots *slots = NULL;
    struct gm_soft *soft;
    struct gm_ram *unbacked;
    struct gm_region *region;
    struct gm_diag diag = {0};

    (void)state;
    assert_int_equal(gm_soft_open(NULL, &soft, NULL), 0);
    assert_int_equal(gm_ram_new_unbacked(PAGE, NULL, &unbacked, NULL), 0);
    region = add_memory(&machine, GM_REGION_RAM, 0, PAGE, unbacked, 0);
    assert_int_equal(gm_soft_attach(soft, machine.space, 0, &slots, &diag), -EINVAL);
    assert_int_equal(gm_region_del(machine.root, region, NULL), 0);
    assert_null(slots);
    assert_int_equal(gm_soft_attach(soft, machine.space, 1, &slots, NULL), 0);
    {
        struct gm_ram *ram = new_ram(3 * PAGE);

        (void)add_memory(&machine, GM_REGION_RAM, 0, PAGE, ram, 0);
        assert_int_equal(gm_region_new_ram(machine.map, "second", ram, &region), 0);
        gm_ram_put(ram);
    }
    {
        struct gm_txn *txn;

        assert_int_equal(gm_txn_begin(machine.map, &txn), 0);
        assert_int_equal(gm_txn_set_addr(txn, region, 16 * PAGE), 0);
        assert_int_equal(gm_txn_add(txn, machine.root, region), 0);
        assert_int_equal(gm_txn_commit(txn, &diag), -ENOSPC);
    }
    gm_region_put(region);
    assert_int_equal(gm_slots_detach(slots, NULL), 0);
    assert_int_equal(gm_soft_close(soft), 0);
    gm_ram_put(unbacked);
    machine_free(&machine);
}

static void attached_vm_that_gets_rings_later_loses_no_page(void **state)
{
    /* The log cannot be read then: syncing says so, and an edit marks all it may have missed. */
    const struct kvm_enable_cap rings = {.cap = KVM_CAP_DIRTY_LOG_RING, .args = {65536}};
    struct machine machine = machine_new();
    struct gm_ram *block = new_ram(4 * PAGE);
    struct gm_region *ram = add_memory(&machine, GM_REGION_RAM, 0, 4 * PAGE, block, 0);
    struct gm_harvest *harvest;
    struct gm_slots *slots;
    struct gm_soft *soft;
    struct gm_txn *txn;

    (void)state;
    assert_int_equal(gm_soft_open(NULL, &soft, NULL), 0);
    assert_int_equal(gm_soft_attach(soft, machine.space, 0, &slots, NULL), 0);
    assert_int_equal(gm_soft_vm_ioctl(soft, KVM_ENABLE_CAP, (unsigned long)&rings), 0);
    assert_int_equal(gm_txn_begin(machine.map, &txn), 0);
    assert_int_equal(gm_txn_set_log(txn, ram, CLIENT, true), 0);
    assert_int_equal(gm_txn_commit(txn, NULL), 0);
    assert_int_equal(gm_region_log_sync(ram, 0, 4 * PAGE), -EIO);
    assert_int_equal(gm_region_set_addr(ram, 8 * PAGE, NULL), 0);
    assert_int_equal(gm_harvest_begin(block, CLIENT, 0, 4 * PAGE, &harvest), 0);
    assert_int_equal(gm_harvest_page_count(harvest), 4);
    gm_harvest_commit(harvest);
    assert_int_equal(gm_slots_detach(slots, NULL), 0);
    assert_int_equal(gm_soft_close(soft), 0);
    gm_ram_put(block);
    machine_free(&machine);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(attached_map_edited_at_random_is_what_the_vcpu_sees),
        cmocka_unit_test(attached_vcpus_writes_are_in_the_record),
        cmocka_unit_test(attached_sync_finds_what_was_written_through_another_region),
        cmocka_unit_test(attached_map_edited_beside_a_vcpu_hides_nothing_else),
        cmocka_unit_test(attached_commit_without_memory_changes_nothing),
        cmocka_unit_test(attach_what_the_soft_kvm_cannot_take_is_refused),
        cmocka_unit_test(attached_vm_that_gets_rings_later_loses_no_page),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
