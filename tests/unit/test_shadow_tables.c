/*
 * unit/test_shadow_tables.c - shadow paging, the guest's side: its edits of tables, seen and unseen, flushes, modes,
 * tables used twice. The host's side is in test_shadow_host.c. "SDM" is Intel's, volume 3A.
 */
#include "shadow_rig.h"

static void shadow_pages_are_made_as_they_are_used(void **state)
{
    /* One for each table on the way, and a leaf for each page. */
    struct rig rig = shadow_rig();

    (void)state;
    assert_int_equal(shadow_stats(&rig).shadow_pages, 0);
    assert_int_equal(load(&rig, 0x2000), WORD(2));
    assert_int_equal(shadow_stats(&rig).shadow_pages, 4);
    assert_int_equal(shadow_stats(&rig).shadow_leaves, 1);
    assert_int_equal(load(&rig, 0x3000), WORD(3));
    assert_int_equal(shadow_stats(&rig).shadow_pages, 4);
    assert_int_equal(shadow_stats(&rig).shadow_leaves, 2);
    rig_free(&rig);
}

static void shadow_access_sets_the_guests_flags(void **state)
{
    /* Accessed on the way and at the leaf; dirty by a write alone, even after a read has mapped it (4.8). */
    struct rig rig = shadow_rig();

    (void)state;
    (void)load(&rig, 0x2000);
    assert_int_equal(get(&rig, PML4) & (A | D), A);
    assert_int_equal(get(&rig, PDPT) & (A | D), A);
    assert_int_equal(get(&rig, PD) & (A | D), A);
    assert_int_equal(get(&rig, PT + 2 * 8) & (A | D), A);
    store(&rig, 0x2008, 7);
    assert_int_equal(get(&rig, PT + 2 * 8) & (A | D), A | D);
    assert_int_equal(get(&rig, DATA + 0x2008), 7);
    rig_free(&rig);
}

static void shadow_edit_of_each_level_is_seen_after_its_flush(void **state)
{
    /* By a physical store, which is made by hand: INVLPG is enough, and needed where the TLB has it. */
    static const uint64_t entries[] = {PT, PD, PDPT, PML4};

    (void)state;
    for (unsigned i = 0; i < sizeof(entries) / sizeof(entries[0]); i++) {
        struct rig rig = shadow_rig();
        uint64_t entry;

        assert_int_equal(load(&rig, 0), WORD(0));
        entry = get(&rig, entries[i]);
        put(&rig, entries[i], 0);
        invlpg(&rig, 0x10);
        load_faults(&rig, 0, 0);
        put(&rig, entries[i], entry);
        assert_int_equal(load(&rig, 0), WORD(0));
        assert_int_equal(shadow_stats(&rig).shadow_writes, 2);
        rig_free(&rig);
    }
}

static void shadow_edit_to_another_table_is_followed(void **state)
{
    /* The directory leads to another page table. */
    struct rig rig = shadow_rig();

    (void)state;
    *rig_word(&rig, 0x8000) = (DATA + 5 * PAGE) | P | W;
    assert_int_equal(load(&rig, 0), WORD(0));
    put(&rig, PD, 0x8000 | P | W);
    invlpg(&rig, 0);
    assert_int_equal(load(&rig, 0), WORD(5));
    put(&rig, PD, PT | P | W);
    invlpg(&rig, 0);
    assert_int_equal(load(&rig, 0), WORD(0));
    rig_free(&rig);
}

static void shadow_table_that_is_written_through_itself_goes_unsync(void **state)
{
    /* A store to a page table through a mapping: seen by nobody, until INVLPG of what it changed. */
    struct rig rig = shadow_rig();

    (void)state;
    assert_int_equal(load(&rig, 0), WORD(0));
    assert_int_equal(load(&rig, 0x1000), WORD(1));
    store(&rig, TABLES + PT, (DATA + 7 * PAGE) | P | W | U);
    store(&rig, TABLES + PT + 8, (DATA + 8 * PAGE) | P | W | U);
    assert_int_equal(shadow_stats(&rig).shadow_unsync, 1);
    assert_int_equal(shadow_stats(&rig).shadow_writes, 0);
    invlpg(&rig, 0);
    assert_int_equal(load(&rig, 0), WORD(7));
    assert_int_equal(shadow_stats(&rig).shadow_unsync, 1);
    invlpg(&rig, 0x1000);
    assert_int_equal(load(&rig, 0x1000), WORD(8));
    rig_free(&rig);
}

static void shadow_table_that_is_unsync_is_brought_in_step_by_cr3(void **state)
{
    /* And writes are seen again after that: the next one makes it unsync anew. */
    struct rig rig = shadow_rig();
    const struct gm_mmu_paging paging = long_mode();

    (void)state;
    assert_int_equal(load(&rig, 0), WORD(0));
    for (unsigned page = 7; page < 10; page++) {
        store(&rig, TABLES + PT, (DATA + page * PAGE) | P | W | U);
        assert_int_equal(shadow_stats(&rig).shadow_unsync, 1);
        set_paging(&rig, &paging);
        assert_int_equal(load(&rig, 0), WORD(page));
        assert_int_equal(shadow_stats(&rig).shadow_unsync, 0);
    }
    assert_int_equal(shadow_stats(&rig).shadow_syncs, 3);
    rig_free(&rig);
}

static void shadow_sync_keeps_what_did_not_change(void **state)
{
    /* Of two leaves of an unsync table the one that was edited goes. */
    struct rig rig = shadow_rig();
    const struct gm_mmu_paging paging = long_mode();
    uint64_t leaves;

    (void)state;
    (void)load(&rig, 0);
    (void)load(&rig, 0x1000);
    store(&rig, TABLES + PT, (DATA + 7 * PAGE) | P | W | U);
    leaves = shadow_stats(&rig).shadow_leaves;
    set_paging(&rig, &paging);
    (void)load(&rig, TABLES); /* new: its own leaf */
    assert_int_equal(shadow_stats(&rig).shadow_leaves, leaves - 1 + 1);
    rig_free(&rig);
}

/* An edit of a page table's entry 0 that is not seen, then a flush: what does an access come to? */
struct edit {
    uint64_t after;
    bool is_write;
    enum gm_mmu_view view;
    uint32_t error_code; /* 0: no fault */
};

static void shadow_sync_heeds_each_bit(void **state)
{
    /* Rights that were taken, flags that were cleared, reserved bits, another frame. */
    static const struct edit edits[] = {
        {0, false, GM_MMU_SUPERVISOR, 0x100},
        {DATA | P | U | A | D, true, GM_MMU_SUPERVISOR, 0x3},
        {DATA | P | W | A | D, false, GM_MMU_USER, 0x5},
        {DATA | P | W | U | A | D | UINT64_C(1) << 51, false, GM_MMU_USER, 0xd},
        {DATA | P | W | U | A | D, true, GM_MMU_USER, 0},
        {DATA | P | W | U, true, GM_MMU_USER, 0},
        {DATA | W | U | A | D, false, GM_MMU_SUPERVISOR, 0x100},
        {DATA | P | W | U | D, false, GM_MMU_USER, 0},
        {(DATA + 3 * PAGE) | P | W | U | A | D, true, GM_MMU_USER, 0},
    };
    struct gm_mmu_paging paging = long_mode();

    (void)state;
    paging.maxphyaddr = 40;
    for (unsigned i = 0; i < 2 * sizeof(edits) / sizeof(edits[0]); i++) {
        const struct edit *edit = &edits[i / 2];
        struct rig rig = shadow_rig();
        enum gm_mmu_outcome outcome;
        uint64_t value = 0;

        set_paging(&rig, &paging);
        assert_int_equal(store_as(&rig, 0, GM_MMU_USER, 5), GM_MMU_OK);
        store(&rig, TABLES + PT, edit->after);
        assert_int_equal(shadow_stats(&rig).shadow_unsync, 1);
        if (i % 2 == 0) {
            set_paging(&rig, &paging);
        } else {
            invlpg(&rig, 0);
        }
        outcome = edit->is_write ? store_as(&rig, 0, edit->view, 6)
                                 : load_as(&rig, 0, edit->view, &value);
        if (edit->error_code == 0) {
            assert_int_equal(outcome, GM_MMU_OK);
            assert_int_equal(get(&rig, PT), edit->after | A | D);
        } else {
            expect_fault(&rig, outcome, 0, edit->error_code & 0xff);
        }
        rig_free(&rig);
    }
}

static void shadow_table_at_two_levels_is_never_unsync(void **state)
{
    /* The page table is a directory elsewhere: its entries there must not be missed. */
    struct rig rig = shadow_rig();

    (void)state;
    /* Linear 1 GiB on: the PT as a directory, whose first entry leads to DATA as a page table. */
    put(&rig, PDPT + 8, PT | P | W | U);
    put(&rig, DATA, (DATA + 2 * PAGE) | P | W | U);
    assert_int_equal(load(&rig, 0x1000), WORD(1));
    assert_int_equal(load(&rig, UINT64_C(1) << 30), WORD(2));
    store(&rig, TABLES + PT + 8, (DATA + 3 * PAGE) | P | W | U);
    assert_int_equal(shadow_stats(&rig).shadow_unsync, 0);
    assert_true(shadow_stats(&rig).shadow_writes > 0);
    invlpg(&rig, 0x1000);
    assert_int_equal(load(&rig, 0x1000), WORD(3));
    rig_free(&rig);
}

static void shadow_unsync_table_is_brought_in_step_where_it_becomes_a_directory(void **state)
{
    /* It was unsync as a page table; as a directory its writes must be seen from the start. */
    struct rig rig = shadow_rig();

    (void)state;
    *rig_word(&rig, DATA) = (DATA + 2 * PAGE) | P | W | U;
    *rig_word(&rig, DATA + 4 * PAGE) = (DATA + 6 * PAGE) | P | W | U;
    assert_int_equal(load(&rig, 0x1000), WORD(1));
    store(&rig, TABLES + PT + 8, (DATA + 3 * PAGE) | P | W | U);
    assert_int_equal(shadow_stats(&rig).shadow_unsync, 1);
    put(&rig, PDPT + 8, PT | P | W | U);
    assert_int_equal(load(&rig, UINT64_C(1) << 30), WORD(2));
    store(&rig, TABLES + PT, (DATA + 4 * PAGE) | P | W | U);
    invlpg(&rig, UINT64_C(1) << 30);
    assert_int_equal(load(&rig, UINT64_C(1) << 30), WORD(6));
    rig_free(&rig);
}

static void shadow_unsync_table_is_brought_in_step_where_it_is_linked(void **state)
{
    /* A second directory comes to it, after a flush that did not pass by it. */
    struct rig rig = shadow_rig();
    struct gm_mmu_paging paging = long_mode();

    (void)state;
    memcpy(rig.memory + 0x8000, rig.memory + PML4, PAGE);
    memcpy(rig.memory + 0x9000, rig.memory + PDPT, PAGE);
    memcpy(rig.memory + 0xa000, rig.memory + PD, PAGE);
    *rig_word(&rig, 0x8000) = 0x9000 | P | W | U;
    *rig_word(&rig, 0x9000) = 0xa000 | P | W | U;
    *rig_word(&rig, 0xa000) = 0;
    assert_int_equal(load(&rig, 0), WORD(0));
    assert_int_equal(load(&rig, 0x1000), WORD(1));
    paging.cr3 = 0x8000;
    set_paging(&rig, &paging);
    store(&rig, TABLES + PT, (DATA + 7 * PAGE) | P | W | U);
    store(&rig, TABLES + PT + 8, (DATA + 8 * PAGE) | P | W | U);
    assert_int_equal(shadow_stats(&rig).shadow_unsync, 1);
    set_paging(&rig, &paging); /* not below this root */
    put(&rig, 0xa000, PT | P | W | U);
    assert_int_equal(load(&rig, 0),
                     WORD(7)); /* links it; the next one needs no fault to find a leaf */
    assert_int_equal(load(&rig, 0x1000), WORD(8));
    rig_free(&rig);
}

static void shadow_tables_that_map_themselves_work(void **state)
{
    /* The last entry of the PML4 leads to it: tables of each level are data there, and the last level's are the
     * PML4's own entries. */
    struct rig rig = shadow_rig();
    uint64_t self = UINT64_MAX << 39;
    uint64_t pt_entry = self; /* of linear 0, at the bottom of all */

    (void)state;
    put(&rig, PML4 + 511 * 8, PML4 | P | W);
    assert_int_equal(load(&rig, 0), WORD(0));
    assert_int_equal(load(&rig, pt_entry) & ~(uint64_t)(A | D), DATA | P | W | U);
    store(&rig, pt_entry, (DATA + 4 * PAGE) | P | W | U);
    invlpg(&rig, 0);
    assert_int_equal(load(&rig, 0), WORD(4));
    /* The PML4 through itself. */
    store(&rig, UINT64_MAX - 0xfff + 8, PDPT | P | W);
    assert_int_equal(load(&rig, UINT64_C(1) << 39), WORD(4));
    store(&rig, UINT64_MAX - 0xfff + 8, 0);
    invlpg(&rig, UINT64_C(1) << 39);
    load_faults(&rig, UINT64_C(1) << 39, 0);
    rig_free(&rig);
}

static void shadow_rights_above_make_different_pages(void **state)
{
    /* One page table by two directory entries, of which one is read-only. */
    struct rig rig = shadow_rig();

    (void)state;
    put(&rig, PD + 2 * 8, PT | P);
    store(&rig, 0x1000, 1);
    assert_int_equal(load(&rig, 2 * TABLES + 0x1000), 1);
    expect_fault(&rig, store_as(&rig, 2 * TABLES + 0x1000, GM_MMU_SUPERVISOR, 2),
                 2 * TABLES + 0x1000, 0x3);
    assert_int_equal(shadow_stats(&rig).shadow_pages, 5);
    store(&rig, 0x1000, 3);
    assert_int_equal(load(&rig, 2 * TABLES + 0x1000), 3);
    rig_free(&rig);
}

static void shadow_rights_are_those_of_the_view(void **state)
{
    /* The same leaf for a supervisor with and without AC, a user, and WP. */
    struct rig rig = shadow_rig();
    struct gm_mmu_paging paging = long_mode();
    uint64_t value = 0;

    (void)state;
    map_page(&rig, 1, DATA, P | W);
    map_page(&rig, 2, DATA, P | U | NX);
    paging.cr4 |= CR4_SMEP | CR4_SMAP;
    set_paging(&rig, &paging);
    store(&rig, 0x1000, 1);
    expect_fault(&rig, load_as(&rig, 0x1000, GM_MMU_USER, &value), 0x1000, 0x5);
    assert_int_equal(load_as(&rig, 0x2000, GM_MMU_USER, &value), GM_MMU_OK);
    expect_fault(&rig, store_as(&rig, 0x2000, GM_MMU_USER, 1), 0x2000, 0x7);
    load_faults(&rig, 0x2000, 0x1);
    assert_int_equal(load_as(&rig, 0x2000, GM_MMU_SUPERVISOR_AC, &value), GM_MMU_OK);
    expect_fault(&rig, store_as(&rig, 0x2000, GM_MMU_SUPERVISOR_AC, 1), 0x2000, 0x3);
    paging.cr0 &= ~0x10000u; /* WP */
    set_paging(&rig, &paging);
    assert_int_equal(store_as(&rig, 0x2000, GM_MMU_SUPERVISOR_AC, 2), GM_MMU_OK);
    assert_int_equal(get(&rig, DATA), 2);
    expect_fault(&rig, store_as(&rig, 0x2000, GM_MMU_USER, 1), 0x2000, 0x7);
    rig_free(&rig);
}

static void shadow_dirty_flag_that_is_cleared_is_set_again(void **state)
{
    /* By hand, and unsync: after the flush the next write sets it. */
    struct rig rig = shadow_rig();

    (void)state;
    store(&rig, 0x1000, 1);
    put(&rig, PT + 8, (DATA + PAGE) | P | W | U | A);
    invlpg(&rig, 0x1000);
    store(&rig, 0x1000, 2);
    assert_int_equal(get(&rig, PT + 8) & D, D);
    store(&rig, TABLES + PT + 8, (DATA + PAGE) | P | W | U | A);
    invlpg(&rig, 0x1000);
    assert_int_equal(load(&rig, 0x1000), 2);
    assert_int_equal(get(&rig, PT + 8) & D, 0);
    store(&rig, 0x1000, 3);
    assert_int_equal(get(&rig, PT + 8) & D, D);
    rig_free(&rig);
}

static void shadow_contexts_come_back_with_their_tables(void **state)
{
    /* Two processes: switching needs no fault, and edits meanwhile are brought in step. */
    struct rig rig = shadow_rig();
    struct gm_mmu_paging paging = long_mode();
    uint64_t faults;

    (void)state;
    memcpy(rig.memory + 0x8000, rig.memory + PML4, 4 * PAGE);
    *rig_word(&rig, 0x8000) = 0x9000 | P | W | U;
    *rig_word(&rig, 0x9000) = 0xa000 | P | W | U;
    *rig_word(&rig, 0xa000) = 0xb000 | P | W | U;
    *rig_word(&rig, 0xb000) = (DATA + 9 * PAGE) | P | W | U;
    assert_int_equal(load(&rig, 0), WORD(0));
    paging.cr3 = 0x8000;
    set_paging(&rig, &paging);
    assert_int_equal(load(&rig, 0), WORD(9));
    store(&rig, TABLES + PT, (DATA + 8 * PAGE) | P | W | U);
    faults = shadow_stats(&rig).faults;
    paging.cr3 = PML4;
    set_paging(&rig, &paging);
    paging.cr3 = 0x8000;
    set_paging(&rig, &paging);
    assert_int_equal(load(&rig, 0), WORD(9));
    assert_int_equal(shadow_stats(&rig).faults, faults);
    paging.cr3 = PML4;
    set_paging(&rig, &paging);
    assert_int_equal(load(&rig, 0), WORD(8));
    rig_free(&rig);
}

static void shadow_contexts_with_pcids_are_flushed_by_invlpg_of_global_pages(void **state)
{
    /* A global page's translations go in all contexts (4.10.4.1); kept ones come back without a flush. */
    struct rig rig = shadow_rig();
    struct gm_mmu_paging paging = long_mode();

    (void)state;
    *rig_word(&rig, 0x8000) = PDPT | P | W | U;
    paging.cr4 |= CR4_PCIDE | 0x80;
    paging.cr3 = PML4 | 1;
    set_paging(&rig, &paging);
    map_page(&rig, 0, DATA, P | W | U | 0x100);
    assert_int_equal(load(&rig, 0), WORD(0));
    paging.cr3 = 0x8000 | 2 | CR3_KEEP;
    set_paging(&rig, &paging);
    assert_int_equal(load(&rig, 0), WORD(0));
    store(&rig, TABLES + PT, (DATA + 4 * PAGE) | P | W | U | 0x100);
    invlpg(&rig, 0);
    assert_int_equal(load(&rig, 0), WORD(4));
    paging.cr3 = PML4 | 1 | CR3_KEEP;
    set_paging(&rig, &paging);
    assert_int_equal(load(&rig, 0), WORD(4));
    rig_free(&rig);
}

static void shadow_many_invlpgs_are_a_flush(void **state)
{
    /* More than are kept one by one. */
    struct rig rig = shadow_rig();

    (void)state;
    for (unsigned page = 0; page < 12; page++) {
        assert_int_equal(load(&rig, page * PAGE), WORD(page));
    }
    for (unsigned page = 0; page < 12; page++) {
        store(&rig, TABLES + PT + page * 8, (DATA + (15 - page) * PAGE) | P | W | U);
    }
    for (unsigned page = 0; page < 12; page++) {
        invlpg(&rig, page * PAGE);
    }
    for (unsigned page = 0; page < 12; page++) {
        assert_int_equal(load(&rig, page * PAGE), WORD(15 - page));
    }
    rig_free(&rig);
}

static void shadow_32_bit_tables_have_halves_and_quarters(void **state)
{
    /* Entries of 4 bytes: a directory is four pages, a table two; a 4 MiB page two of 2 MiB. */
    struct rig rig = shadow_rig();
    struct gm_mmu_paging paging = {.cr0 = CR0_PAGING, .cr3 = 0x8000, .cr4 = CR4_PSE};
    uint32_t *pd = (uint32_t *)(void *)(rig.memory + 0x8000);
    uint32_t *pt = (uint32_t *)(void *)(rig.memory + 0x9000);

    (void)state;
    memset(pd, 0, 2 * PAGE);
    pd[0] = pd[0x1ff] = pd[0x2c3] = 0x9000 | P | W | U;
    pd[1] = 0 | P | W | LARGE;
    pt[0] = (DATA + PAGE) | P | W | U;
    pt[0x3ff] = (DATA + 2 * PAGE) | P | W | U;
    pt[0x200] = (DATA + 3 * PAGE) | P | W | U;
    set_paging(&rig, &paging);
    assert_int_equal(load(&rig, 0), WORD(1));
    assert_int_equal(load(&rig, 0x3ff000), WORD(2));
    assert_int_equal(load(&rig, 0x1ff * 0x400000u + 0x200000), WORD(3));
    assert_int_equal(load(&rig, 0x2c3 * 0x400000u), WORD(1));
    assert_int_equal(load(&rig, 0x400000 + DATA + 5 * PAGE), WORD(5));
    assert_int_equal(shadow_stats(&rig).shadow_pages, 3 + 2 + 1); /* quarters, halves, direct */
    /* Each edit hits its own. */
    assert_int_equal(rig_store_as(&rig, 0x9000 + 0x200 * 4, 4, (DATA + 4 * PAGE) | P | W | U),
                     GM_MMU_OK);
    invlpg(&rig, 0x1ff * 0x400000u + 0x200000);
    assert_int_equal(load(&rig, 0x1ff * 0x400000u + 0x200000), WORD(4));
    assert_int_equal(load(&rig, 0), WORD(1));
    assert_int_equal(rig_store_as(&rig, 0x8000 + 0x2c3 * 4, 4, 0), GM_MMU_OK);
    invlpg(&rig, 0x2c3 * 0x400000u);
    load_faults(&rig, 0x2c3 * 0x400000u, 0);
    assert_int_equal(rig_store_as(&rig, 0x8000 + 4, 4, 0), GM_MMU_OK);
    invlpg(&rig, 0x400000 + DATA + 5 * PAGE);
    load_faults(&rig, 0x400000 + DATA + 5 * PAGE, 0);
    /* And unsync: the upper half, through the large page. */
    assert_int_equal(rig_store_as(&rig, 0x8000 + 4, 4, 0 | P | W | LARGE), GM_MMU_OK);
    assert_int_equal(gm_mmu_enter(rig.mmu), GM_MMU_OK);
    assert_int_equal(gm_mmu_store_linear(rig.mmu, 0x400000 + 0x9000 + 0x200 * 4, 4,
                                         GM_MMU_SUPERVISOR, (DATA + 6 * PAGE) | P | W | U),
                     GM_MMU_OK);
    gm_mmu_leave(rig.mmu);
    assert_int_equal(shadow_stats(&rig).shadow_unsync, 2);
    invlpg(&rig, 0x1ff * 0x400000u + 0x200000);
    assert_int_equal(load(&rig, 0x1ff * 0x400000u + 0x200000), WORD(6));
    rig_free(&rig);
}

static void shadow_pae_roots_are_the_pdptes(void **state)
{
    /* Each leads to a directory; they change with CR3 alone. */
    struct rig rig = shadow_rig();
    struct gm_mmu_paging paging = {.cr0 = CR0_PAGING, .cr3 = 0x6000, .cr4 = CR4_PAE};

    (void)state;
    *rig_word(&rig, 0x6000) = PD | P;
    *rig_word(&rig, 0x6000 + 3 * 8) = 0xa000 | P;
    *rig_word(&rig, 0xa000) = 0xb000 | P | W;
    *rig_word(&rig, 0xb000) = (DATA + 9 * PAGE) | P | W;
    set_paging(&rig, &paging);
    assert_int_equal(load(&rig, 0x2000), WORD(2));
    assert_int_equal(load(&rig, 0xc0000000u), WORD(9));
    assert_int_equal(shadow_stats(&rig).shadow_pages, 4);
    put(&rig, 0x6000, 0xa000 | P);
    invlpg(&rig, 0);
    assert_int_equal(load(&rig, 0), WORD(0));
    set_paging(&rig, &paging);
    assert_int_equal(load(&rig, 0), WORD(9));
    rig_free(&rig);
}

static void shadow_five_levels_are_walked(void **state)
{
    struct rig rig = shadow_rig();
    struct gm_mmu_paging paging = long_mode();
    uint64_t high = UINT64_C(1) << 48;

    (void)state;
    *rig_word(&rig, 0x8008) = PML4 | P | W | U;
    paging.cr3 = 0x8000;
    paging.cr4 |= 0x1000; /* LA57 */
    set_paging(&rig, &paging);
    assert_int_equal(load(&rig, high + 0x2000), WORD(2));
    assert_int_equal(shadow_stats(&rig).shadow_pages, 5);
    load_faults(&rig, 0x2000, 0);
    rig_free(&rig);
}

static void shadow_modes_take_turns(void **state)
{
    /* Off, PAE, 4 levels over the same tables, and back: each has its own pages, and its own rules. */
    struct rig rig = shadow_rig();
    const struct gm_mmu_paging modes[] = {
        {0},
        long_mode(),
        {.cr0 = CR0_PAGING, .cr3 = 0x6000, .cr4 = CR4_PAE},
    };

    (void)state;
    *rig_word(&rig, 0x6000) = PD | P;
    for (unsigned i = 0; i < 12; i++) {
        set_paging(&rig, &modes[i % 3]);
        assert_int_equal(load(&rig, i % 3 == 0 ? DATA + 0x2000 : 0x2000), WORD(2));
    }
    rig_free(&rig);
}

static void shadow_page_that_is_written_and_written_is_given_up(void **state)
{
    /* A directory becomes data: after a few writes they are made by hand no more. */
    struct rig rig = shadow_rig();
    uint64_t writes;

    (void)state;
    assert_int_equal(load(&rig, 0), WORD(0));
    for (unsigned i = 0; i < 10; i++) {
        put(&rig, PD + 16 + i * 8, i);
    }
    writes = shadow_stats(&rig).shadow_writes;
    assert_true(writes < 10);
    put(&rig, PD + 0x100, 1);
    assert_int_equal(shadow_stats(&rig).shadow_writes, writes);
    assert_int_equal(load(&rig, 0), WORD(0));
    rig_free(&rig);
}

static void shadow_accesses_of_any_kind_edit_tables(void **state)
{
    /* Across an entry's and a page's end, by compare and exchange, aligned or not: what it changed is dropped. */
    struct rig rig = shadow_rig();
    uint64_t expected;

    (void)state;
    assert_int_equal(load(&rig, 0), WORD(0));
    assert_int_equal(load(&rig, 0x1000), WORD(1));
    /* Both entries lose their present bit, by a store across them. */
    assert_int_equal(rig_store_as(&rig, PT + 7, 2, 0), GM_MMU_OK);
    shadow_audit_rig(&rig);
    invlpg(&rig, 0x1000);
    load_faults(&rig, 0x1000, 0);
    put(&rig, PT + 8, (DATA + 4 * PAGE) | P | W);
    assert_int_equal(load(&rig, 0x1000), WORD(4));
    expected = get(&rig, PT + 8);
    assert_int_equal(gm_mmu_enter(rig.mmu), GM_MMU_OK);
    assert_int_equal(gm_mmu_cmpxchg(rig.mmu, PT + 8, 8, &expected, (DATA + 5 * PAGE) | P | W),
                     GM_MMU_OK);
    gm_mmu_leave(rig.mmu);
    shadow_audit_rig(&rig);
    invlpg(&rig, 0x1000);
    assert_int_equal(load(&rig, 0x1000), WORD(5));
    expected = get(&rig, PT + 8) >> 8 | get(&rig, PT + 16) << 56;
    assert_int_equal(gm_mmu_enter(rig.mmu), GM_MMU_OK);
    assert_int_equal(gm_mmu_cmpxchg_linear(rig.mmu, TABLES + PT + 9, 8, GM_MMU_SUPERVISOR,
                                           &expected, (DATA + 6 * PAGE) >> 8),
                     GM_MMU_OK);
    gm_mmu_leave(rig.mmu);
    shadow_audit_rig(&rig);
    invlpg(&rig, 0x1000);
    assert_int_equal(load(&rig, 0x1000), WORD(6));
    rig_free(&rig);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(shadow_pages_are_made_as_they_are_used),
        cmocka_unit_test(shadow_access_sets_the_guests_flags),
        cmocka_unit_test(shadow_edit_of_each_level_is_seen_after_its_flush),
        cmocka_unit_test(shadow_edit_to_another_table_is_followed),
        cmocka_unit_test(shadow_table_that_is_written_through_itself_goes_unsync),
        cmocka_unit_test(shadow_table_that_is_unsync_is_brought_in_step_by_cr3),
        cmocka_unit_test(shadow_sync_keeps_what_did_not_change),
        cmocka_unit_test(shadow_sync_heeds_each_bit),
        cmocka_unit_test(shadow_table_at_two_levels_is_never_unsync),
        cmocka_unit_test(shadow_unsync_table_is_brought_in_step_where_it_becomes_a_directory),
        cmocka_unit_test(shadow_unsync_table_is_brought_in_step_where_it_is_linked),
        cmocka_unit_test(shadow_tables_that_map_themselves_work),
        cmocka_unit_test(shadow_rights_above_make_different_pages),
        cmocka_unit_test(shadow_rights_are_those_of_the_view),
        cmocka_unit_test(shadow_dirty_flag_that_is_cleared_is_set_again),
        cmocka_unit_test(shadow_contexts_come_back_with_their_tables),
        cmocka_unit_test(shadow_contexts_with_pcids_are_flushed_by_invlpg_of_global_pages),
        cmocka_unit_test(shadow_many_invlpgs_are_a_flush),
        cmocka_unit_test(shadow_32_bit_tables_have_halves_and_quarters),
        cmocka_unit_test(shadow_pae_roots_are_the_pdptes),
        cmocka_unit_test(shadow_five_levels_are_walked),
        cmocka_unit_test(shadow_modes_take_turns),
        cmocka_unit_test(shadow_page_that_is_written_and_written_is_given_up),
        cmocka_unit_test(shadow_accesses_of_any_kind_edit_tables),
    };

    return cmocka_run_group_tests_name("shadow_tables", tests, NULL, NULL);
}
