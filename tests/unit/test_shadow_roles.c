/*
 * unit/test_shadow_roles.c - shadow paging: what tells shadow pages of one frame apart, which of them a vCPU begins
 * with, and what else of an edit than a frame and rights has to be brought in step.
 */
#include "shadow_rig.h"

#define CR4_PGE 0x80u
#define CR4_PKE 0x400000u
#define GLOBAL 0x100u
#define KEY(key) ((uint64_t)(key) << 59)
#define PKRU_DENIES(key) (1u << 2 * (key))

/* Linear 4 MiB on: what one more entry of the directory leads to. */
#define THIRD (2 * TABLES)
#define FOURTH (3 * TABLES)

static void load_as_user_faults(struct rig *rig, uint64_t linear, uint32_t error_code)
{
    uint64_t value = 0;

    expect_fault(rig, load_as(rig, linear, GM_MMU_USER, &value), linear, error_code);
}

static void load_as_user_works(struct rig *rig, uint64_t linear)
{
    uint64_t value = 0;

    assert_int_equal(load_as(rig, linear, GM_MMU_USER, &value), GM_MMU_OK);
}

static void shadow_keys_are_checked_and_brought_in_step(void **state)
{
    /* PKRU decides at each access (SDM 4.6.2); an edit of the key alone counts after its flush. */
    struct rig rig = shadow_rig();
    struct gm_mmu_paging paging = long_mode();

    (void)state;
    paging.cr4 |= CR4_PKE;
    set_paging(&rig, &paging);
    map_page(&rig, 0, DATA, P | W | U | KEY(1));
    load_as_user_works(&rig, 0);
    paging.pkru = PKRU_DENIES(1);
    set_paging(&rig, &paging);
    load_as_user_faults(&rig, 0, 0x25);
    paging.pkru = PKRU_DENIES(2);
    set_paging(&rig, &paging);
    for (unsigned i = 0; i < 2; i++) {
        load_as_user_works(&rig, 0);
        store(&rig, TABLES + PT, DATA | P | W | U | A | D | KEY(2));
        assert_int_equal(shadow_stats(&rig).shadow_unsync, 1);
        if (i == 0) {
            invlpg(&rig, 0);
        } else {
            set_paging(&rig, &paging);
        }
        load_as_user_faults(&rig, 0, 0x25);
        store(&rig, TABLES + PT, DATA | P | W | U | A | D | KEY(1));
        invlpg(&rig, 0);
    }
    rig_free(&rig);
}

static void shadow_large_pages_of_two_keys_have_two_direct_pages(void **state)
{
    /* The same memory by two entries: one key is allowed, the other not. */
    struct rig rig = shadow_rig();
    struct gm_mmu_paging paging = long_mode();

    (void)state;
    paging.cr4 |= CR4_PKE;
    *rig_word(&rig, PD + 16) = 0 | P | W | U | LARGE | KEY(1);
    *rig_word(&rig, PD + 24) = 0 | P | W | U | LARGE | KEY(2);
    set_paging(&rig, &paging);
    load_as_user_works(&rig, THIRD + DATA);
    load_as_user_works(&rig, FOURTH + DATA);
    load_as_user_works(&rig, THIRD + DATA);
    paging.pkru = PKRU_DENIES(2);
    set_paging(&rig, &paging);
    for (unsigned i = 0; i < 2; i++) {
        load_as_user_faults(&rig, FOURTH + DATA, 0x25);
        load_as_user_works(&rig, THIRD + DATA);
    }
    rig_free(&rig);
}

static void shadow_table_within_a_large_page_is_no_direct_page(void **state)
{
    /* Frame 0 is a page table, and the first that a large page maps: of one level, and of the same rights. */
    (void)state;
    for (unsigned i = 0; i < 2; i++) {
        struct rig rig = shadow_rig();

        *rig_word(&rig, 0) = (DATA + 5 * PAGE) | P | W | U;
        *rig_word(&rig, PD + 16) = 0 | P | W | U | LARGE;
        *rig_word(&rig, PD + 24) = 0 | P | W | U;
        for (unsigned j = 0; j < 2; j++) {
            if (i == j) {
                assert_int_equal(load(&rig, THIRD + DATA), WORD(0));
            } else {
                assert_int_equal(load(&rig, FOURTH), WORD(5));
            }
        }
        rig_free(&rig);
    }
}

static void shadow_dirty_flag_of_a_large_page_is_set_again(void **state)
{
    /* The direct page for when it is dirty is there, and has leaves for writing. */
    struct rig rig = shadow_rig();
    uint64_t clean = 0 | P | W | U | LARGE | A;

    (void)state;
    *rig_word(&rig, PD + 16) = clean;
    store(&rig, THIRD + DATA, 1);
    assert_int_equal(get(&rig, PD + 16), clean | D);
    put(&rig, PD + 16, clean);
    invlpg(&rig, THIRD + DATA);
    assert_int_equal(load(&rig, THIRD + DATA), 1);
    assert_int_equal(get(&rig, PD + 16), clean);
    store(&rig, THIRD + DATA, 2);
    assert_int_equal(get(&rig, PD + 16), clean | D);
    rig_free(&rig);
}

static void shadow_page_of_another_frame_or_right_takes_the_leafs_place(void **state)
{
    /* The guest makes its entry wider, and lets it lead elsewhere, without a flush: a fault finds what it says now. */
    struct rig rig = shadow_rig();

    (void)state;
    map_page(&rig, 0, DATA, P | W);
    assert_int_equal(load(&rig, 0), WORD(0));
    store(&rig, TABLES + PT, DATA | P | W | U);
    load_as_user_works(&rig, 0);
    store(&rig, TABLES + PT, (DATA + 3 * PAGE) | P | W | U);
    store(&rig, 0, 1);
    assert_int_equal(get(&rig, DATA + 3 * PAGE), 1);
    assert_int_equal(load(&rig, 0), 1);
    rig_free(&rig);
}

static void shadow_flag_of_no_execute_is_of_its_mode(void **state)
{
    /* Bit 63 is a right with NXE, and reserved without (4.5): under one CR3. */
    struct rig rig = shadow_rig();
    struct gm_mmu_paging paging = long_mode();

    (void)state;
    map_page(&rig, 1, DATA, P | W | U | NX);
    for (unsigned i = 0; i < 3; i++) {
        paging.efer = EFER_LONG;
        set_paging(&rig, &paging);
        assert_int_equal(load(&rig, 0x1000), WORD(0));
        paging.efer = 0x500; /* LMA, LME */
        set_paging(&rig, &paging);
        load_faults(&rig, 0x1000, 0x9);
        assert_int_equal(load(&rig, 0x2000), WORD(2));
    }
    rig_free(&rig);
}

static void shadow_formats_run_out_and_begin_anew(void **state)
{
    /* Of 84 ways to read an entry 64 are kept. Those without NXE come last: they take the first ones' numbers. */
    struct rig rig = shadow_rig();

    (void)state;
    map_page(&rig, 1, DATA, P | W | U | NX);
    for (unsigned i = 0; i < 84; i++) {
        struct gm_mmu_paging paging = long_mode();

        paging.maxphyaddr = (uint8_t)(32 + i % 21);
        paging.has_1g_pages = i / 21 % 2 == 0;
        paging.efer = i / 42 == 0 ? EFER_LONG : 0x500;
        set_paging(&rig, &paging);
        assert_int_equal(load(&rig, 0x2000), WORD(2));
        if (i / 42 == 0) {
            assert_int_equal(load(&rig, 0x1000), WORD(0));
        } else {
            load_faults(&rig, 0x1000, 0x9);
        }
        assert_true(shadow_stats(&rig).shadow_pages <= 64 * 4);
    }
    rig_free(&rig);
}

/* A second address space at 0x8000: linear 0 leads to a page of its own, TABLES to the guest's first memory. */
static void fill_second_tables(struct rig *rig)
{
    *rig_word(rig, 0x8000) = 0x9000 | P | W | U;
    *rig_word(rig, 0x9000) = 0xa000 | P | W | U;
    *rig_word(rig, 0xa000) = 0xb000 | P | W | U;
    *rig_word(rig, 0xa000 + 8) = PT_OF_TABLES | P | W | U;
    *rig_word(rig, 0xb000) = (DATA + 9 * PAGE) | P | W | U;
}

static void edit_first_tables_from_second(struct rig *rig, uint64_t flags)
{
    struct gm_mmu_paging paging = long_mode();

    fill_second_tables(rig);
    paging.cr4 |= CR4_PCIDE | CR4_PGE;
    paging.cr3 = PML4 | 1;
    set_paging(rig, &paging);
    map_page(rig, 0, DATA, P | W | U | flags);
    assert_int_equal(load(rig, 0), WORD(0));
    paging.cr3 = 0x8000 | 2;
    set_paging(rig, &paging);
    store(rig, TABLES + PT, (DATA + 4 * PAGE) | P | W | U | flags);
    assert_int_equal(shadow_stats(rig).shadow_unsync, 1);
}

static void come_back_to_first_tables(struct rig *rig)
{
    struct gm_mmu_paging paging = long_mode();

    paging.cr4 |= CR4_PCIDE | CR4_PGE;
    paging.cr3 = PML4 | 1 | CR3_KEEP;
    set_paging(rig, &paging);
}

static void shadow_invlpg_of_a_global_page_reaches_tables_of_other_contexts(void **state)
{
    /* 4.10.4.1: whatever the PCID; the present context's tables do not lead there. */
    struct rig rig = shadow_rig();

    (void)state;
    edit_first_tables_from_second(&rig, GLOBAL);
    invlpg(&rig, 0);
    assert_int_equal(load(&rig, 0), WORD(9));
    come_back_to_first_tables(&rig);
    assert_int_equal(load(&rig, 0), WORD(4));
    rig_free(&rig);
}

static void shadow_change_of_mode_flushes_all_contexts(void **state)
{
    /* 4.10.4.1: a change of CR4.PGE is for all PCIDs. */
    struct rig rig = shadow_rig();
    struct gm_mmu_paging paging = long_mode();

    (void)state;
    edit_first_tables_from_second(&rig, 0);
    paging.cr4 |= CR4_PCIDE;
    paging.cr3 = 0x8000 | 2 | CR3_KEEP;
    set_paging(&rig, &paging);
    paging.cr3 = PML4 | 1 | CR3_KEEP;
    set_paging(&rig, &paging);
    assert_int_equal(load(&rig, 0), WORD(4));
    rig_free(&rig);
}

static void shadow_flush_of_all_is_one_of_tables(void **state)
{
    /* Of the present context, and of those that are kept. */
    struct rig rig = shadow_rig();

    (void)state;
    edit_first_tables_from_second(&rig, 0);
    gm_mmu_flush_all(rig.mmu);
    come_back_to_first_tables(&rig);
    assert_int_equal(load(&rig, 0), WORD(4));
    store(&rig, TABLES + PT, (DATA + 5 * PAGE) | P | W | U);
    gm_mmu_flush_all(rig.mmu);
    assert_int_equal(load(&rig, 0), WORD(5));
    rig_free(&rig);
}

static void shadow_unsync_table_may_lose_its_parent(void **state)
{
    /* What leads to it is cleared, and put back: it is in step by then. */
    struct rig rig = shadow_rig();

    (void)state;
    assert_int_equal(load(&rig, 0x1000), WORD(1));
    store(&rig, TABLES + PT + 8, (DATA + 3 * PAGE) | P | W | U);
    assert_int_equal(shadow_stats(&rig).shadow_unsync, 1);
    put(&rig, PD, 0);
    invlpg(&rig, 0x1000);
    load_faults(&rig, 0x1000, 0);
    put(&rig, PD, PT | P | W | U);
    (void)load(&rig, 0);
    assert_int_equal(shadow_stats(&rig).shadow_unsync, 0);
    assert_int_equal(load(&rig, 0x1000), WORD(3));
    rig_free(&rig);
}

static void shadow_page_that_is_used_and_written_stays(void **state)
{
    /* Writes count from the last fault that came by: a directory that is filled in step by step. */
    struct rig rig = shadow_rig();

    (void)state;
    (void)load(&rig, 0);
    for (unsigned i = 0; i < 12; i++) {
        put(&rig, PD + 0x400 + i * 8, PT | P | W | U);
        assert_int_equal(shadow_stats(&rig).shadow_pages, 4);
        (void)load(&rig, (128 + i) * TABLES);
    }
    assert_int_equal(shadow_stats(&rig).shadow_writes, 12);
    rig_free(&rig);
}

static void shadow_page_that_was_given_up_is_written_by_the_tlb(void **state)
{
    /* Nobody has to see its writes any more. */
    struct rig rig = shadow_rig();

    (void)state;
    (void)load(&rig, 0);
    put(&rig, PD + 16, 1);
    assert_null(gm_tlb_hit(rig.mmu, rig.mmu->tag, PD + 16, 8, GM_MMU_WRITE));
    for (unsigned i = 0; i < 6; i++) {
        rig_store(&rig, PD + 16, i);
    }
    assert_int_equal(shadow_stats(&rig).shadow_pages, 3);
    assert_non_null(gm_tlb_hit(rig.mmu, rig.mmu->tag, PD + 16, 8, GM_MMU_WRITE));
    rig_free(&rig);
}

static void store_entry(struct rig *rig, uint64_t linear, uint32_t entry)
{
    assert_int_equal(gm_mmu_enter(rig->mmu), GM_MMU_OK);
    assert_int_equal(gm_mmu_store_linear(rig->mmu, linear, 4, GM_MMU_SUPERVISOR, entry), GM_MMU_OK);
    gm_mmu_leave(rig->mmu);
    shadow_audit_rig(rig);
}

static void shadow_32_bit_edits_hit_their_own_half(void **state)
{
    /* A table of 1024 entries is two pages; a page of 4 MiB two entries: by hand, and unsync. */
    struct rig rig = shadow_rig();
    struct gm_mmu_paging paging = {.cr0 = CR0_PAGING, .cr3 = 0x8000, .cr4 = CR4_PSE};
    uint32_t *pd = (uint32_t *)(void *)(rig.memory + 0x8000);
    uint32_t *pt = (uint32_t *)(void *)(rig.memory + 0x9000);
    uint32_t big = UINT32_C(2) << 20;

    (void)state;
    memset(pd, 0, 2 * PAGE);
    pd[0] = 0x9000 | P | W | U;
    pd[1] = 0 | P | W | LARGE;
    pt[0] = (DATA + 1 * PAGE) | P | W | U;
    pt[0x200] = (DATA + 3 * PAGE) | P | W | U;
    pt[1] = pt[0x201] = (DATA + 8 * PAGE) | P | W | U;
    /* The second half of the 4 MiB page is memory, too. */
    assert_int_equal(rig_set(&rig, 1, 0, 2 << 20, 0x20000, 0), 0);
    set_paging(&rig, &paging);
    assert_int_equal(load(&rig, 0), WORD(1));
    assert_int_equal(load(&rig, 0x200000), WORD(3));
    assert_int_equal(load(&rig, 0x400000 + big + DATA), WORD(0));
    assert_int_equal(load(&rig, 0x1000), WORD(8));
    assert_int_equal(load(&rig, 0x201000), WORD(8));
    for (unsigned i = 0; i < 2; i++) {
        store_entry(&rig, 0x400000 + 0x9000 + 0x200 * 4 * i, (DATA + 6 * PAGE) | P | W | U | A);
        set_paging(&rig, &paging);
        assert_int_equal(load(&rig, 0), WORD(6));
        assert_int_equal(load(&rig, 0x200000), WORD(i == 0 ? 3 : 6));
    }
    /* The other half's entry of the same number says what this one did. */
    store_entry(&rig, 0x400000 + 0x9000 + 0x201 * 4, (DATA + 7 * PAGE) | P | W | U | A);
    set_paging(&rig, &paging);
    assert_int_equal(load(&rig, 0x201000), WORD(7));
    assert_int_equal(load(&rig, 0x1000), WORD(8));
    assert_int_equal(rig_store_as(&rig, 0x8000 + 4, 4, 0), GM_MMU_OK);
    shadow_audit_rig(&rig);
    invlpg(&rig, 0x400000 + big + DATA);
    load_faults(&rig, 0x400000 + big + DATA, 0);
    rig_free(&rig);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(shadow_keys_are_checked_and_brought_in_step),
        cmocka_unit_test(shadow_large_pages_of_two_keys_have_two_direct_pages),
        cmocka_unit_test(shadow_table_within_a_large_page_is_no_direct_page),
        cmocka_unit_test(shadow_dirty_flag_of_a_large_page_is_set_again),
        cmocka_unit_test(shadow_page_of_another_frame_or_right_takes_the_leafs_place),
        cmocka_unit_test(shadow_flag_of_no_execute_is_of_its_mode),
        cmocka_unit_test(shadow_formats_run_out_and_begin_anew),
        cmocka_unit_test(shadow_invlpg_of_a_global_page_reaches_tables_of_other_contexts),
        cmocka_unit_test(shadow_change_of_mode_flushes_all_contexts),
        cmocka_unit_test(shadow_flush_of_all_is_one_of_tables),
        cmocka_unit_test(shadow_unsync_table_may_lose_its_parent),
        cmocka_unit_test(shadow_page_that_is_used_and_written_stays),
        cmocka_unit_test(shadow_page_that_was_given_up_is_written_by_the_tlb),
        cmocka_unit_test(shadow_32_bit_edits_hit_their_own_half),
    };

    return cmocka_run_group_tests_name("shadow_roles", tests, NULL, NULL);
}
