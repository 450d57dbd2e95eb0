/*
 * unit/test_shadow_host.c - shadow paging, the host's side: slots, logs, tracking, invalidation, ageing,
 * large pages, limits, and a second vCPU.
 */
#include "shadow_rig.h"

#include <errno.h>
#include <stdlib.h>

static uint64_t page_of_2m(void *opaque, gm_hva_t hva, uint64_t size_bytes)
{
    (void)opaque;
    (void)hva;
    (void)size_bytes;
    return 2 << 20;
}

/* 6 MiB of memory at GPA 1 GiB, aligned alike, as slot 1. */
#define BIG_BYTES ((uint64_t)6 << 20)
#define BIG_GPA (UINT64_C(1) << 30)

struct big {
    uint8_t *memory; /* aligned to 2 MiB */
    void *mapped;
};

static struct big big_new(struct rig *rig, uint32_t flags)
{
    struct big big;
    const struct kvm_userspace_memory_region region = {
        .slot = 1, .flags = flags, .guest_phys_addr = BIG_GPA, .memory_size = BIG_BYTES};
    struct kvm_userspace_memory_region set = region;

    big.mapped = mmap(NULL, BIG_BYTES + (2 << 20), PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    assert_true(big.mapped != MAP_FAILED);
    big.memory = (uint8_t *)(((uintptr_t)big.mapped + (2 << 20) - 1) & ~(uintptr_t)((2 << 20) - 1));
    set.userspace_addr = (uintptr_t)big.memory;
    assert_int_equal(rig_call(rig, KVM_SET_USER_MEMORY_REGION, &set), 0);
    return big;
}

static void big_log(struct rig *rig, const struct big *big, uint32_t flags)
{
    const struct kvm_userspace_memory_region set = {.slot = 1,
                                                    .flags = flags,
                                                    .guest_phys_addr = BIG_GPA,
                                                    .memory_size = BIG_BYTES,
                                                    .userspace_addr = (uintptr_t)big->memory};

    assert_int_equal(rig_call(rig, KVM_SET_USER_MEMORY_REGION, &set), 0);
    shadow_audit_rig(rig);
}

static void big_free(struct rig *rig, struct big *big)
{
    rig_free(rig);
    munmap(big->mapped, BIG_BYTES + (2 << 20));
}

/* The guest maps it at linear 1 GiB, by pages of 2 MiB. */
static struct rig rig_with_large_pages(const struct gm_soft_options *options)
{
    struct rig rig = shadow_rig_of(options);

    *rig_word(&rig, PDPT + 8) = 0x8000 | P | W | U;
    for (unsigned i = 0; i < 3; i++) {
        *rig_word(&rig, 0x8000 + i * 8) = (BIG_GPA + i * (2u << 20)) | P | W | U | LARGE;
    }
    return rig;
}

static void shadow_large_page_on_small_host_pages_has_a_direct_page(void **state)
{
    /* One table of small leaves for each large page; its dirty flag makes another. */
    const struct gm_soft_options options = {.size = sizeof(options), .shadow_paging = true};
    struct rig rig = rig_with_large_pages(&options);
    struct big big = big_new(&rig, 0);

    (void)state;
    assert_int_equal(load(&rig, BIG_GPA + 0x5000), 0);
    assert_int_equal(get(&rig, 0x8000) & (A | D), A);
    assert_int_equal(shadow_stats(&rig).shadow_pages, 4);
    store(&rig, BIG_GPA + 0x5000, 5);
    assert_int_equal(get(&rig, 0x8000) & (A | D), A | D);
    assert_int_equal(big.memory[0x5000], 5);
    assert_int_equal(load(&rig, BIG_GPA + 0x6000), 0);
    store(&rig, BIG_GPA + 0x6000, 6);
    assert_int_equal(load(&rig, BIG_GPA + 0x5000), 5);
    put(&rig, 0x8000, (BIG_GPA + (2u << 20)) | P | W | U | LARGE);
    invlpg(&rig, BIG_GPA + 0x5000);
    assert_int_equal(load(&rig, BIG_GPA + 0x5000), 0);
    big_free(&rig, &big);
}

static void shadow_large_page_on_large_host_pages_is_one_leaf(void **state)
{
    /* Until the slot is logged; and again when that ends. */
    const struct gm_soft_options options = {
        .size = sizeof(options), .shadow_paging = true, .page_bytes = page_of_2m};
    struct rig rig = rig_with_large_pages(&options);
    struct big big = big_new(&rig, 0);
    uint64_t bitmap[BIG_BYTES / PAGE / 64] = {0};

    (void)state;
    store(&rig, BIG_GPA + 0x5000, 5);
    assert_int_equal(shadow_stats(&rig).shadow_leaves, 1);
    assert_int_equal(shadow_stats(&rig).shadow_pages, 3);
    store(&rig, BIG_GPA + 0x6000, 5);
    assert_int_equal(shadow_stats(&rig).shadow_leaves, 1);
    big_log(&rig, &big, KVM_MEM_LOG_DIRTY_PAGES);
    store(&rig, BIG_GPA + 0x5000, 6);
    assert_int_equal(shadow_stats(&rig).shadow_pages, 4);
    assert_int_equal(rig_get_log(&rig, 1, bitmap), 0);
    assert_int_equal(bitmap[0], 1u << 5);
    big_log(&rig, &big, 0);
    assert_int_equal(load(&rig, BIG_GPA + 0x6000), 5);
    assert_int_equal(shadow_stats(&rig).shadow_leaves, 1);
    assert_int_equal(shadow_stats(&rig).shadow_pages, 3);
    assert_int_equal(shadow_stats(&rig).collapses, 1);
    big_free(&rig, &big);
}

static void shadow_entry_of_another_frame_with_the_same_memory_is_another_leaf(void **state)
{
    /* Two frames show one page of the host's, and only one of them is logged. The guest's entry goes over to that one, seen by
     * nobody, as a peer that shares the memory may write it; the next fault finds it. */
    enum { OTHER_GPA = 0x400000 };
    const struct gm_soft_options options = {.size = sizeof(options), .shadow_paging = true};
    struct rig rig = shadow_rig_of(&options);
    uint64_t bitmap = 0;

    (void)state;
    assert_int_equal(rig_set(&rig, 5, KVM_MEM_LOG_DIRTY_PAGES, OTHER_GPA, PAGE, DATA), 0);
    assert_int_equal(load(&rig, 0), WORD(0));
    *rig_word(&rig, PT) = OTHER_GPA | P | W | U | A;
    store(&rig, 0, 5);
    assert_int_equal(get(&rig, DATA), 5);
    assert_int_equal(rig_get_log(&rig, 5, &bitmap), 0);
    assert_int_equal(bitmap, 1);
    store(&rig, 0, 6);
    assert_int_equal(rig_get_log(&rig, 5, &bitmap), 0);
    assert_int_equal(bitmap, 1);
    rig_free(&rig);
}

static void shadow_leaves_behind_empty_stretches_are_found(void **state)
{
    /* Of 6 MiB only a page in the last 2 MiB is mapped, so that whole groups of the reverse map are passed over. */
    const struct gm_soft_options options = {.size = sizeof(options), .shadow_paging = true};
    struct rig rig = rig_with_large_pages(&options);
    struct big big = big_new(&rig, 0);
    uint64_t bitmap[BIG_BYTES / PAGE / 64] = {0};
    const uint64_t page = (4u << 20) / PAGE + 5;

    (void)state;
    store(&rig, BIG_GPA + page * PAGE, 5);
    big_log(&rig, &big, KVM_MEM_LOG_DIRTY_PAGES);
    store(&rig, BIG_GPA + page * PAGE, 6);
    assert_int_equal(rig_get_log(&rig, 1, bitmap), 0);
    assert_int_equal(bitmap[page / 64], UINT64_C(1) << page % 64);
    store(&rig, BIG_GPA + page * PAGE, 7);
    assert_int_equal(rig_get_log(&rig, 1, bitmap), 0);
    assert_int_equal(bitmap[page / 64], UINT64_C(1) << page % 64);
    assert_int_equal(gm_soft_age(rig.soft, (uintptr_t)big.memory, BIG_BYTES), 1);
    big_free(&rig, &big);
}

static void shadow_small_guest_pages_on_a_large_slot_have_small_leaves(void **state)
{
    /* The host's page is large, the guest's is not: a leaf is as small as the guest's. */
    const struct gm_soft_options options = {
        .size = sizeof(options), .shadow_paging = true, .page_bytes = page_of_2m};
    struct rig rig = rig_with_large_pages(&options);
    struct big big = big_new(&rig, 0);

    (void)state;
    map_page(&rig, 0, BIG_GPA + 0x7000, P | W);
    store(&rig, 0, 7);
    assert_int_equal(big.memory[0x7000], 7);
    assert_int_equal(load(&rig, BIG_GPA + 0x7000), 7);
    assert_int_equal(load(&rig, 0x1000), WORD(1));
    big_free(&rig, &big);
}

static void shadow_table_in_large_memory_splits_it(void **state)
{
    /* A large leaf must not hide writes to a table that comes to lie below it. */
    const struct gm_soft_options options = {
        .size = sizeof(options), .shadow_paging = true, .page_bytes = page_of_2m};
    struct rig rig = rig_with_large_pages(&options);
    struct big big = big_new(&rig, 0);

    (void)state;
    store(&rig, BIG_GPA + 0x3000, (DATA + 2 * PAGE) | P | W);
    assert_int_equal(shadow_stats(&rig).shadow_leaves, 1);
    put(&rig, PD + 16, (BIG_GPA + 0x3000) | P | W);
    assert_int_equal(load(&rig, 2 * TABLES), WORD(2));
    store(&rig, BIG_GPA + 0x3000, (DATA + 4 * PAGE) | P | W);
    assert_int_equal(shadow_stats(&rig).shadow_unsync, 1);
    invlpg(&rig, 2 * TABLES);
    assert_int_equal(load(&rig, 2 * TABLES), WORD(4));
    big_free(&rig, &big);
}

static void shadow_large_page_beyond_its_slot_is_mapped_where_memory_is(void **state)
{
    /* A guest's page of 2 MiB over a slot of 1 MiB: small leaves, and MMIO behind. */
    struct rig rig = shadow_rig();
    uint64_t value = 0;

    (void)state;
    *rig_word(&rig, PD + 16) = 0 | P | W | U | LARGE;
    assert_int_equal(load(&rig, 2 * TABLES + DATA), WORD(0));
    assert_int_equal(load_as(&rig, 2 * TABLES + RIG_BYTES, GM_MMU_USER, &value), GM_MMU_MMIO);
    assert_int_equal(gm_mmu_exit(rig.mmu)->gpa, RIG_BYTES);
    rig_free(&rig);
}

static void shadow_writes_are_logged(void **state)
{
    /* Data by their leaves, tables where their flags are set; each harvest protects again. */
    for (int log = GM_SOFT_LOG_PROTECT; log <= GM_SOFT_LOG_BUFFER; log++) {
        const struct gm_soft_options options = {
            .size = sizeof(options), .shadow_paging = true, .log = (enum gm_soft_log)log};
        struct rig rig = shadow_rig_of(&options);
        uint64_t bitmap[RIG_BYTES / PAGE / 64] = {0};

        store(&rig, 0x2000, 1);
        assert_int_equal(rig_set(&rig, 0, KVM_MEM_LOG_DIRTY_PAGES, 0, RIG_BYTES, 0), 0);
        shadow_audit_rig(&rig);
        (void)load(&rig, 0x2000);
        assert_int_equal(rig_get_log(&rig, 0, bitmap), 0);
        assert_int_equal(bitmap[0], 0);
        for (unsigned i = 0; i < 3; i++) {
            store(&rig, 0x2000, i);
            assert_int_equal(rig_get_log(&rig, 0, bitmap), 0);
            assert_int_equal(bitmap[0], 1u << (DATA / PAGE + 2));
        }
        store(&rig, 0x3000, 1);
        assert_int_equal(rig_get_log(&rig, 0, bitmap), 0);
        assert_int_equal(bitmap[0], 1u << PT / PAGE | 1u << (DATA / PAGE + 3));
        store(&rig, TABLES + PT, 0);
        assert_int_equal(rig_get_log(&rig, 0, bitmap), 0);
        assert_true((bitmap[0] & 1u << PT / PAGE) != 0);
        store(&rig, TABLES + PT, 0);
        assert_int_equal(rig_get_log(&rig, 0, bitmap), 0);
        assert_int_equal(bitmap[0], 1u << PT / PAGE);
        rig_free(&rig);
    }
    (void)state;
}

static void shadow_ends_with_its_slot(void **state)
{
    /* Leaves of the memory that goes, and pages for tables that lie in it. */
    struct rig rig = shadow_rig();
    uint64_t value = 0;

    (void)state;
    assert_int_equal(rig_set(&rig, 1, 0, 1 << 20, 2 * PAGE, 0x20000), 0);
    *rig_word(&rig, 0x21000) = (DATA + 6 * PAGE) | P | W;
    map_page(&rig, 0, 1 << 20, P | W | U);
    put(&rig, PD + 16, ((1 << 20) + PAGE) | P | W);
    store(&rig, 0, 1);
    assert_int_equal(load(&rig, 2 * TABLES), WORD(6));
    assert_int_equal(rig_set(&rig, 1, 0, 1 << 20, 0, 0), 0);
    shadow_audit_rig(&rig);
    assert_int_equal(load_as(&rig, 0, GM_MMU_USER, &value), GM_MMU_MMIO);
    assert_int_equal(load_as(&rig, 2 * TABLES, GM_MMU_SUPERVISOR, &value), GM_MMU_TABLE_LOST);
    assert_int_equal(rig_set(&rig, 1, 0, 1 << 20, 2 * PAGE, 0x20000), 0);
    assert_int_equal(load(&rig, 0), 1);
    assert_int_equal(load(&rig, 2 * TABLES), WORD(6));
    rig_free(&rig);
}

static void shadow_root_may_go_while_it_is_used(void **state)
{
    /* The slot of the root, moved away and back; all tables dropped; none of them is used after that. */
    struct rig rig = shadow_rig();
    uint64_t value = 0;

    (void)state;
    assert_int_equal(load(&rig, 0), WORD(0));
    assert_int_equal(rig_set(&rig, 0, 0, 16 << 20, RIG_BYTES, 0), 0);
    shadow_audit_rig(&rig);
    assert_int_equal(load_as(&rig, 0, GM_MMU_SUPERVISOR, &value), GM_MMU_TABLE_LOST);
    assert_int_equal(rig_set(&rig, 0, 0, 0, RIG_BYTES, 0), 0);
    assert_int_equal(load(&rig, 0), WORD(0));
    gm_soft_zap_all(rig.soft);
    shadow_audit_rig(&rig);
    assert_int_equal(shadow_stats(&rig).shadow_leaves, 0);
    assert_int_equal(load(&rig, 0), WORD(0));
    assert_int_equal(shadow_stats(&rig).shadow_pages, 4);
    rig_free(&rig);
}

static void shadow_invalidation_reaches_leaves_and_tables(void **state)
{
    /* Other memory comes behind a data page, and behind a table. */
    struct rig rig = shadow_rig();

    (void)state;
    assert_int_equal(load(&rig, 0), WORD(0));
    gm_soft_invalidate_begin(rig.soft, (uintptr_t)rig.memory + DATA, PAGE);
    shadow_audit_rig(&rig);
    *rig_word(&rig, DATA) = 77;
    assert_int_equal(shadow_stats(&rig).shadow_leaves, 0);
    gm_soft_invalidate_end(rig.soft, (uintptr_t)rig.memory + DATA, PAGE);
    assert_int_equal(load(&rig, 0), 77);
    gm_soft_invalidate_begin(rig.soft, (uintptr_t)rig.memory + PT, PAGE);
    shadow_audit_rig(&rig);
    *rig_word(&rig, PT) = (DATA + PAGE) | P | W;
    gm_soft_invalidate_end(rig.soft, (uintptr_t)rig.memory + PT, PAGE);
    assert_int_equal(load(&rig, 0), WORD(1));
    rig_free(&rig);
}

static void shadow_accessed_pages_are_counted_once(void **state)
{
    struct rig rig = shadow_rig();

    (void)state;
    assert_int_equal(load(&rig, 0), WORD(0));
    assert_int_equal(load(&rig, 0x1000), WORD(1));
    assert_int_equal(gm_soft_age(rig.soft, (uintptr_t)rig.memory + DATA, 4 * PAGE), 2);
    shadow_audit_rig(&rig);
    assert_int_equal(gm_soft_age(rig.soft, (uintptr_t)rig.memory + DATA, 4 * PAGE), 0);
    assert_int_equal(load(&rig, 0x1000), WORD(1));
    assert_int_equal(gm_soft_age(rig.soft, (uintptr_t)rig.memory + DATA, 4 * PAGE), 1);
    rig_free(&rig);
}

static void shadow_tracked_pages_are_told_of(void **state)
{
    /* Of data, of a table that was unsync, of a table's flag: and never of what only shadows track. */
    struct rig rig = shadow_rig();
    struct told told = {0};

    (void)state;
    gm_soft_set_tracker(rig.soft, rig_on_written, &told);
    store(&rig, 0x1000, 1);
    store(&rig, TABLES + PT + 64, 0);
    put(&rig, PD + 64, 0);
    assert_int_equal(told.count, 0);
    assert_int_equal(shadow_stats(&rig).shadow_unsync, 1);
    assert_int_equal(gm_soft_track(rig.soft, 0, DATA + PAGE), 0);
    assert_int_equal(gm_soft_track(rig.soft, 0, PT), 0);
    shadow_audit_rig(&rig);
    store(&rig, 0x1008, 1);
    assert_int_equal(told.count, 1);
    assert_int_equal(told.gpa, DATA + PAGE + 8);
    store(&rig, TABLES + PT + 64, 0);
    assert_int_equal(told.count, 2);
    assert_int_equal(told.gpa, PT + 64);
    (void)load(&rig, 0x4000);
    assert_int_equal(told.count, 3);
    assert_int_equal(told.gpa, PT + 32);
    assert_int_equal(gm_soft_untrack(rig.soft, 0, PT), 0);
    assert_int_equal(gm_soft_untrack(rig.soft, 0, PT), -ENOENT);
    assert_int_equal(gm_soft_untrack(rig.soft, 0, DATA + PAGE), 0);
    shadow_audit_rig(&rig);
    store(&rig, 0x1008, 2);
    store(&rig, TABLES + PT + 64, 0);
    assert_int_equal(told.count, 3);
    rig_free(&rig);
}

static void shadow_read_only_memory_is_mapped_and_refuses(void **state)
{
    /* Writes come out as MMIO; tables there are walked, though nobody sets their flags. */
    struct rig rig = shadow_rig();
    struct gm_mmu_paging paging = long_mode();

    (void)state;
    memcpy(rig.memory + 0x20000, rig.memory + PML4, 4 * PAGE);
    *rig_word(&rig, 0x20000) = (2 << 20) + PAGE + (P | W | U);
    *rig_word(&rig, 0x21000) = (2 << 20) + 2 * PAGE + (P | W | U);
    *rig_word(&rig, 0x22000) = (2 << 20) + 3 * PAGE + (P | W | U);
    *rig_word(&rig, 0x23000) = (2 << 20) | P | W | U;
    assert_int_equal(rig_set(&rig, 1, KVM_MEM_READONLY, 2 << 20, 4 * PAGE, 0x20000), 0);
    paging.cr3 = 2 << 20;
    set_paging(&rig, &paging);
    store(&rig, 0x2000, 9);
    assert_int_equal(load(&rig, 0x2000), 9);
    assert_int_equal(get(&rig, 0x23000 + 2 * 8) & (A | D), 0);
    assert_int_equal(load(&rig, 0), get(&rig, 0x20000));
    assert_int_equal(store_as(&rig, 0, GM_MMU_USER, 1), GM_MMU_MMIO);
    assert_int_equal(gm_mmu_exit(rig.mmu)->gpa, 2 << 20);
    rig_free(&rig);
}

static void shadow_limit_takes_the_oldest(void **state)
{
    /* 512 tables of one page each, under a limit of 64: none is lost for good. */
    const struct gm_soft_options options = {.size = sizeof(options), .shadow_paging = true};
    struct rig rig = rig_with_large_pages(&options);
    struct big big = big_new(&rig, 0);

    (void)state;
    assert_int_equal(rig_call_number(&rig, KVM_SET_NR_MMU_PAGES, 64), 0);
    for (unsigned i = 2; i < 200; i++) {
        *rig_word(&rig, PD + i * 8) = (BIG_GPA + i * PAGE) | P | W;
        memcpy(big.memory + i * PAGE, rig.memory + PT, PAGE);
    }
    for (unsigned round = 0; round < 2; round++) {
        for (unsigned i = 2; i < 200; i++) {
            assert_int_equal(load(&rig, i * TABLES + 0x3000), WORD(3));
            assert_true(shadow_stats(&rig).table_pages <= 64);
        }
    }
    assert_true(shadow_stats(&rig).reclaimed > 300);
    big_free(&rig, &big);
}

static void shadow_roots_are_no_tables_to_reclaim(void **state)
{
    /* Those of PAE are of the level of EPT's directories, which go as soon as so many are needed. */
    struct rig rig = shadow_rig();
    const struct gm_mmu_paging paging = {.cr0 = CR0_PAGING, .cr3 = 0x6000, .cr4 = CR4_PAE};

    (void)state;
    *rig_word(&rig, 0x6000) = PD | P;
    set_paging(&rig, &paging);
    assert_int_equal(load(&rig, 0), WORD(0));
    for (uint32_t i = 1; i <= 100; i++) {
        assert_int_equal(rig_set(&rig, i, 0, (uint64_t)i << 39, PAGE, DATA), 0);
        assert_int_equal(rig_load(&rig, (uint64_t)i << 39), WORD(0));
    }
    assert_true(shadow_stats(&rig).table_pages > 300);
    assert_int_equal(rig_call_number(&rig, KVM_SET_NR_MMU_PAGES, 64), 0);
    for (uint64_t i = 1; i <= 100; i++) {
        shadow_audit_rig(&rig);
        /* What the vCPU had in stock was below the limit before. */
        assert_true(shadow_stats(&rig).table_pages <= 64 + TABLES_CACHE_MAX);
        assert_int_equal(shadow_stats(&rig).shadow_pages, 1);
        assert_int_equal(rig_load(&rig, i << 39), WORD(0));
    }
    assert_int_equal(load(&rig, 0x1000), WORD(1));
    rig_free(&rig);
}

static void shadow_second_vcpu_sees_edits_after_its_own_flush(void **state)
{
    /* One pages through a table that the other makes unsync; each has its own TLB and roots. */
    struct rig rig = shadow_rig();
    struct rig other = shadow_other(&rig);
    const struct gm_mmu_paging paging = long_mode();

    (void)state;
    assert_int_equal(load(&rig, 0), WORD(0));
    assert_int_equal(load(&other, 0), WORD(0));
    assert_int_equal(shadow_stats(&rig).shadow_pages, 4);
    store(&other, TABLES + PT, (DATA + 3 * PAGE) | P | W);
    invlpg(&other, 0);
    assert_int_equal(load(&other, 0), WORD(3));
    invlpg(&rig, 0);
    assert_int_equal(load(&rig, 0), WORD(3));
    /* The first brings it in step; the other's store must be caught, though its TLB has the right. */
    store(&other, TABLES + PT + 8, (DATA + 4 * PAGE) | P | W);
    set_paging(&rig, &paging);
    assert_int_equal(load(&rig, 0x1000), WORD(4));
    assert_int_equal(shadow_stats(&rig).shadow_unsync, 0);
    store(&other, TABLES + PT + 8, (DATA + 5 * PAGE) | P | W);
    assert_int_equal(shadow_stats(&rig).shadow_unsync, 1);
    invlpg(&rig, 0x1000);
    assert_int_equal(load(&rig, 0x1000), WORD(5));
    gm_soft_vcpu_free(other.vcpu);
    rig_free(&rig);
}

static void shadow_write_right_of_another_vcpu_goes_where_a_table_comes(void **state)
{
    /* A page that one vCPU writes by its TLB becomes a table by the other's walk. */
    struct rig rig = shadow_rig();
    struct rig other = shadow_other(&rig);

    (void)state;
    store(&other, 0x5000, (DATA + 2 * PAGE) | P | W);
    put(&rig, PD + 16, (DATA + 5 * PAGE) | P | W);
    assert_int_equal(load(&rig, 2 * TABLES), WORD(2));
    store(&other, 0x5000, (DATA + 3 * PAGE) | P | W);
    invlpg(&rig, 2 * TABLES);
    assert_int_equal(load(&rig, 2 * TABLES), WORD(3));
    gm_soft_vcpu_free(other.vcpu);
    rig_free(&rig);
}

static void shadow_spaces_have_tables_of_their_own(void **state)
{
    /* SMM sees other memory behind the same addresses: tables, and what they lead to. */
    struct rig rig = shadow_rig();

    (void)state;
    memcpy(rig.memory + 0x80000, rig.memory, 0x20000);
    *rig_word(&rig, 0x80000 + DATA) = 77;
    assert_int_equal(rig_set(&rig, 1u << 16, 0, 0, 0x20000, 0x80000), 0);
    assert_int_equal(load(&rig, 0), WORD(0));
    assert_int_equal(gm_soft_vcpu_set_space(rig.vcpu, 1), 0);
    assert_int_equal(load(&rig, 0), 77);
    assert_int_equal(shadow_stats(&rig).shadow_pages, 8);
    map_page(&rig, 0, DATA + PAGE, P | W);
    invlpg(&rig, 0);
    assert_int_equal(load(&rig, 0), WORD(1));
    assert_int_equal(gm_soft_vcpu_set_space(rig.vcpu, 0), 0);
    shadow_audit_rig(&rig);
    assert_int_equal(load(&rig, 0), WORD(0));
    rig_free(&rig);
}

/* An allocator that fails from a given call on. */
struct budget {
    unsigned left;
};

static void *budget_alloc(void *opaque, size_t size_bytes)
{
    struct budget *budget = opaque;

    if (budget->left == 0) {
        return NULL;
    }
    budget->left--;
    return malloc(size_bytes);
}

static void budget_free(void *opaque, void *memory)
{
    (void)opaque;
    free(memory);
}

static void shadow_without_memory_fails_and_changes_nothing(void **state)
{
    /* Each allocation of a first access fails once: -ENOMEM, and with memory again it works. */
    unsigned failed = 0;

    (void)state;
    for (unsigned n = 0; n < 40; n++) {
        struct budget budget = {UINT32_MAX};
        const struct gm_allocator allocator = {budget_alloc, budget_free, &budget};
        const struct gm_soft_options options = {
            .size = sizeof(options), .shadow_paging = true, .allocator = &allocator};
        struct rig rig = shadow_rig_of(&options);
        uint64_t value = 0;
        enum gm_mmu_outcome outcome;

        budget.left = n;
        outcome = load_as(&rig, 0, GM_MMU_SUPERVISOR, &value);
        if (outcome != GM_MMU_OK) {
            assert_int_equal(outcome, GM_MMU_ERROR);
            assert_int_equal(gm_mmu_exit(rig.mmu)->error, -ENOMEM);
            failed++;
        }
        budget.left = UINT32_MAX;
        assert_int_equal(load(&rig, 0), WORD(0));
        rig_free(&rig);
    }
    assert_in_range(failed, 8, 39);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(shadow_large_page_on_small_host_pages_has_a_direct_page),
        cmocka_unit_test(shadow_large_page_on_large_host_pages_is_one_leaf),
        cmocka_unit_test(shadow_leaves_behind_empty_stretches_are_found),
        cmocka_unit_test(shadow_small_guest_pages_on_a_large_slot_have_small_leaves),
        cmocka_unit_test(shadow_entry_of_another_frame_with_the_same_memory_is_another_leaf),
        cmocka_unit_test(shadow_table_in_large_memory_splits_it),
        cmocka_unit_test(shadow_large_page_beyond_its_slot_is_mapped_where_memory_is),
        cmocka_unit_test(shadow_writes_are_logged),
        cmocka_unit_test(shadow_ends_with_its_slot),
        cmocka_unit_test(shadow_root_may_go_while_it_is_used),
        cmocka_unit_test(shadow_invalidation_reaches_leaves_and_tables),
        cmocka_unit_test(shadow_accessed_pages_are_counted_once),
        cmocka_unit_test(shadow_tracked_pages_are_told_of),
        cmocka_unit_test(shadow_read_only_memory_is_mapped_and_refuses),
        cmocka_unit_test(shadow_limit_takes_the_oldest),
        cmocka_unit_test(shadow_roots_are_no_tables_to_reclaim),
        cmocka_unit_test(shadow_second_vcpu_sees_edits_after_its_own_flush),
        cmocka_unit_test(shadow_write_right_of_another_vcpu_goes_where_a_table_comes),
        cmocka_unit_test(shadow_spaces_have_tables_of_their_own),
        cmocka_unit_test(shadow_without_memory_fails_and_changes_nothing),
    };

    return cmocka_run_group_tests_name("shadow_host", tests, NULL, NULL);
}
