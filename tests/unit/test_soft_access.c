/*
 * unit/test_soft_access.c - a vCPU's way to memory as users have it: guest mode, loads and stores
 * of each size, MMIO piece by piece, cmpxchg, kicks, and what the VM does to it from outside.
 */
#include "soft_rig.h"

#include "model/require.h"

#include <errno.h>
#include <limits.h>
#include <pthread.h>
#include <stdatomic.h>

static void access_of_each_size_reaches_the_bytes(void **state)
{
    /* Little-endian, aligned or not, across pages and slots. */
    const uint64_t pattern = 0x8877665544332211;
    struct rig rig = rig_new(NULL);

    (void)state;
    assert_int_equal(rig_set(&rig, 0, 0, 0, 2 * PAGE, 0), 0);
    assert_int_equal(rig_set(&rig, 1, 0, 2 * PAGE, PAGE, 8 * PAGE), 0);
    assert_int_equal(gm_mmu_enter(rig.mmu), GM_MMU_OK);
    for (unsigned size = 1; size <= 8; size *= 2) {
        const uint64_t mask = size == 8 ? UINT64_MAX : (1ull << size * 8) - 1;

        for (uint64_t gpa = PAGE - 8; gpa < PAGE + 8; gpa++) {
            uint64_t value = 0;

            assert_int_equal(gm_mmu_store(rig.mmu, gpa, size, pattern), GM_MMU_OK);
            assert_memory_equal(rig.memory + gpa, &pattern, size);
            assert_int_equal(gm_mmu_load(rig.mmu, gpa, size, &value), GM_MMU_OK);
            assert_int_equal(value, pattern & mask);
        }
    }
    assert_int_equal(gm_mmu_store(rig.mmu, 2 * PAGE - 2, 8, pattern), GM_MMU_OK);
    gm_mmu_leave(rig.mmu);
    assert_memory_equal(rig.memory + 2 * PAGE - 2, &pattern, 2);
    assert_memory_equal(rig.memory + 8 * PAGE, (const uint8_t *)&pattern + 2, 6);
    rig_free(&rig);
}

static void mmio_comes_out_piece_by_piece(void **state)
{
    /* A hole over two pages is two pieces; what is answered comes together as one value. */
    struct rig rig = rig_new(NULL);
    struct gm_mmu_exit *exit = gm_mmu_exit(rig.mmu);
    uint64_t value = 0;

    (void)state;
    assert_int_equal(rig_load_as(&rig, 3 * PAGE - 3, 8, &value), GM_MMU_MMIO);
    assert_int_equal(exit->outcome, GM_MMU_MMIO);
    assert_int_equal(exit->access, GM_MMU_READ);
    assert_int_equal(exit->gpa, 3 * PAGE - 3);
    assert_int_equal(exit->size_bytes, 3);
    memcpy(exit->data, "abc", 3);
    assert_int_equal(gm_mmu_resume(rig.mmu, &value), GM_MMU_MMIO);
    assert_int_equal(exit->gpa, 3 * PAGE);
    assert_int_equal(exit->size_bytes, 5);
    memcpy(exit->data, "defgh", 5);
    assert_int_equal(gm_mmu_resume(rig.mmu, &value), GM_MMU_OK);
    gm_mmu_leave(rig.mmu);
    assert_memory_equal(&value, "abcdefgh", 8);
    assert_int_equal(gm_mmu_resume(rig.mmu, &value), GM_MMU_ERROR);
    assert_int_equal(exit->error, -EINVAL);
    rig_free(&rig);
}

static void mmio_write_beside_memory_stores_the_memory(void **state)
{
    /* Read-only memory is written as MMIO; the writable part of the same store is memory. */
    struct rig rig = rig_new(NULL);
    struct gm_mmu_exit *exit = gm_mmu_exit(rig.mmu);

    (void)state;
    assert_int_equal(rig_set(&rig, 0, 0, 0, PAGE, 0), 0);
    assert_int_equal(rig_set(&rig, 1, KVM_MEM_READONLY, PAGE, PAGE, PAGE), 0);
    assert_int_equal(rig_store_as(&rig, PAGE - 4, 8, 0x8877665544332211), GM_MMU_MMIO);
    assert_int_equal(exit->access, GM_MMU_WRITE);
    assert_int_equal(exit->gpa, PAGE);
    assert_int_equal(exit->size_bytes, 4);
    assert_memory_equal(exit->data, "\x55\x66\x77\x88", 4);
    assert_int_equal(gm_mmu_resume(rig.mmu, NULL), GM_MMU_OK);
    gm_mmu_leave(rig.mmu);
    assert_memory_equal(rig.memory + PAGE - 4, "\x11\x22\x33\x44\0\0\0\0", 8);
    assert_int_equal(rig_load(&rig, PAGE), 0);
    rig_free(&rig);
}

static void bad_host_memory_is_efault(void **state)
{
    /* No signal: an outcome, with nothing stored. */
    struct rig rig = rig_new(NULL);
    uint64_t value;

    (void)state;
    assert_int_equal(mprotect(rig.memory + PAGE, PAGE, PROT_NONE), 0);
    assert_int_equal(rig_set(&rig, 0, 0, 0, 4 * PAGE, 0), 0);
    assert_int_equal(rig_load_as(&rig, PAGE, 4, &value), GM_MMU_ERROR);
    assert_int_equal(gm_mmu_exit(rig.mmu)->error, -EFAULT);
    assert_int_equal(rig_store_as(&rig, PAGE - 4, 8, UINT64_MAX), GM_MMU_ERROR);
    assert_int_equal(*rig_word(&rig, PAGE - 8), 0);
    assert_int_equal(mprotect(rig.memory + PAGE, PAGE, PROT_READ | PROT_WRITE), 0);
    rig_store(&rig, PAGE - 4, UINT64_MAX);
    rig_free(&rig);
}

static void fetch_from_nowhere_cannot_be_resumed(void **state)
{
    /* Instructions come from memory, also read-only; from elsewhere none can be made up. */
    struct rig rig = rig_new(NULL);
    uint8_t bytes[16] = {0};

    (void)state;
    assert_int_equal(rig_set(&rig, 0, KVM_MEM_READONLY, 0, 2 * PAGE, 0), 0);
    memcpy(rig.memory + PAGE - 8, "0123456789abcdef", 16);
    assert_int_equal(gm_mmu_enter(rig.mmu), GM_MMU_OK);
    assert_int_equal(gm_mmu_fetch(rig.mmu, PAGE - 8, 16, bytes), GM_MMU_OK);
    assert_memory_equal(bytes, "0123456789abcdef", 16);
    assert_int_equal(gm_mmu_fetch(rig.mmu, 2 * PAGE - 4, 8, bytes), GM_MMU_MMIO);
    assert_int_equal(gm_mmu_exit(rig.mmu)->access, GM_MMU_FETCH);
    assert_int_equal(gm_mmu_resume(rig.mmu, NULL), GM_MMU_ERROR);
    rig_free(&rig);
}

static void cmpxchg_exchanges_what_was_expected(void **state)
{
    /* Of each size, across pages too; a mismatch stores nothing and says what was there. */
    struct rig rig = rig_new(NULL);

    (void)state;
    assert_int_equal(rig_set(&rig, 0, 0, 0, 4 * PAGE, 0), 0);
    assert_int_equal(gm_mmu_enter(rig.mmu), GM_MMU_OK);
    for (unsigned size = 1; size <= 8; size *= 2) {
        for (uint64_t gpa = PAGE - size; gpa <= PAGE; gpa += size == 1 ? 1 : size / 2) {
            uint64_t expected = 0;
            uint64_t value = 0;

            assert_int_equal(gm_mmu_cmpxchg(rig.mmu, gpa, size, &expected, 7), GM_MMU_OK);
            assert_int_equal(expected, 0);
            expected = 5;
            assert_int_equal(gm_mmu_cmpxchg(rig.mmu, gpa, size, &expected, 9), GM_MMU_OK);
            assert_int_equal(expected, 7);
            assert_int_equal(gm_mmu_cmpxchg(rig.mmu, gpa, size, &expected, 0), GM_MMU_OK);
            assert_int_equal(gm_mmu_load(rig.mmu, gpa, size, &value), GM_MMU_OK);
            assert_int_equal(value, 0);
        }
    }
    gm_mmu_leave(rig.mmu);
    rig_free(&rig);
}

static void kick_brings_the_vcpu_out_once(void **state)
{
    /* Also one that is not inside: its next enter tells it. */
    struct rig rig = rig_new(NULL);

    (void)state;
    gm_mmu_kick(rig.mmu);
    gm_mmu_kick(rig.mmu);
    assert_true(gm_mmu_is_wanted(rig.mmu));
    assert_int_equal(gm_mmu_enter(rig.mmu), GM_MMU_KICKED);
    assert_int_equal(gm_mmu_enter(rig.mmu), GM_MMU_OK);
    assert_false(gm_mmu_is_wanted(rig.mmu));
    gm_mmu_kick(rig.mmu);
    assert_true(gm_mmu_is_wanted(rig.mmu));
    assert_int_equal(gm_mmu_boundary(rig.mmu), GM_MMU_KICKED);
    assert_int_equal(gm_mmu_enter(rig.mmu), GM_MMU_OK);
    assert_int_equal(gm_mmu_boundary(rig.mmu), GM_MMU_OK);
    gm_mmu_leave(rig.mmu);
    rig_free(&rig);
}

static void flush_of_the_vcpus_own_forgets_and_finds_again(void **state)
{
    /* Nothing that can be seen changes. */
    struct rig rig = rig_new(NULL);
    uint64_t value = 0;

    (void)state;
    assert_int_equal(rig_set(&rig, 0, 0, 0, 4 * PAGE, 0), 0);
    *rig_word(&rig, PAGE) = 6;
    assert_int_equal(gm_mmu_enter(rig.mmu), GM_MMU_OK);
    assert_int_equal(gm_mmu_load(rig.mmu, PAGE, 8, &value), GM_MMU_OK);
    assert_non_null(gm_tlb_hit(rig.mmu, rig.mmu->tag, PAGE, 8, GM_MMU_READ));
    gm_mmu_flush_page(rig.mmu, PAGE);
    assert_null(gm_tlb_hit(rig.mmu, rig.mmu->tag, PAGE, 8, GM_MMU_READ));
    assert_int_equal(gm_mmu_load(rig.mmu, PAGE, 8, &value), GM_MMU_OK);
    gm_mmu_flush_all(rig.mmu);
    assert_null(gm_tlb_hit(rig.mmu, rig.mmu->tag, PAGE, 8, GM_MMU_READ));
    assert_int_equal(gm_mmu_load(rig.mmu, PAGE, 8, &value), GM_MMU_OK);
    gm_mmu_leave(rig.mmu);
    assert_int_equal(value, 6);
    rig_free(&rig);
}

static void misses_by_name_do_what_hits_do(void **state)
{
    /* The functions behind the inlined hit path. */
    struct rig rig = rig_new(NULL);
    uint64_t value = 0;

    (void)state;
    assert_int_equal(rig_set(&rig, 0, 0, 0, PAGE, 0), 0);
    assert_int_equal(gm_mmu_enter(rig.mmu), GM_MMU_OK);
    for (unsigned i = 0; i < 3; i++) {
        assert_int_equal(gm_mmu_store_slow(rig.mmu, 16, 4, 11 + i), GM_MMU_OK);
        assert_int_equal(gm_mmu_load_slow(rig.mmu, 16, 4, &value), GM_MMU_OK);
        assert_int_equal(value, 11 + i);
    }
    gm_mmu_leave(rig.mmu);
    rig_free(&rig);
}

static void space_of_a_vcpu_chooses_its_slots(void **state)
{
    /* Space 1 is another map; there is no third. */
    struct rig rig = rig_new(NULL);

    (void)state;
    *rig_word(&rig, 0) = 1;
    *rig_word(&rig, PAGE) = 2;
    assert_int_equal(rig_set(&rig, 0, 0, 0, PAGE, 0), 0);
    assert_int_equal(rig_set(&rig, 0x10000, 0, 0, PAGE, PAGE), 0);
    for (unsigned i = 0; i < 4; i++) {
        assert_int_equal(gm_soft_vcpu_set_space(rig.vcpu, i % 2), 0);
        assert_int_equal(rig_load(&rig, 0), i % 2 + 1);
    }
    assert_int_equal(gm_soft_vcpu_set_space(rig.vcpu, 2), -EINVAL);
    assert_int_equal(rig_load(&rig, 0), 2);
    rig_free(&rig);
}

/* ---- from outside ---- */

struct writes {
    unsigned count;
    uint64_t gpa;
    uint32_t size_bytes;
    uint64_t in_place; /* the word that was there when we were told */
    struct rig *rig;
};

static void on_written(void *opaque, gm_gpa_t gpa, uint32_t size_bytes)
{
    struct writes *writes = opaque;

    writes->count++;
    writes->gpa = gpa;
    writes->size_bytes = size_bytes;
    writes->in_place = *rig_word(writes->rig, 2 * PAGE);
}

static void tracked_page_tells_of_each_write(void **state)
{
    /* Counted: tracked twice it is told until untracked twice. Other pages, and reads, are not. */
    struct rig rig = rig_new(NULL);
    struct writes writes = {.rig = &rig};

    (void)state;
    gm_soft_set_tracker(rig.soft, on_written, &writes);
    assert_int_equal(rig_set(&rig, 0, 0, 0, 4 * PAGE, 0), 0);
    rig_store(&rig, 2 * PAGE, 1);
    assert_int_equal(gm_soft_untrack(rig.soft, 0, 2 * PAGE), -ENOENT);
    assert_int_equal(gm_soft_track(rig.soft, 2, 0), -EINVAL);
    assert_int_equal(gm_soft_track(rig.soft, 2, 0), -EINVAL);
    assert_int_equal(gm_soft_untrack(rig.soft, UINT_MAX, 0), -EINVAL);
    assert_int_equal(gm_soft_track(rig.soft, 0, 2 * PAGE + 5), 0);
    assert_int_equal(gm_soft_track(rig.soft, 0, 2 * PAGE), 0);
    rig_store(&rig, 2 * PAGE, 0x55);
    assert_int_equal(writes.count, 1);
    assert_int_equal(writes.gpa, 2 * PAGE);
    assert_int_equal(writes.size_bytes, 8);
    assert_int_equal(writes.in_place, 0x55);
    rig_store(&rig, 3 * PAGE, 1);
    assert_int_equal(rig_load(&rig, 2 * PAGE), 0x55);
    assert_int_equal(writes.count, 1);
    assert_int_equal(gm_soft_untrack(rig.soft, 0, 2 * PAGE), 0);
    rig_store(&rig, 2 * PAGE, 0x66);
    assert_int_equal(writes.count, 2);
    assert_int_equal(gm_soft_untrack(rig.soft, 0, 2 * PAGE), 0);
    rig_store(&rig, 2 * PAGE, 0x77);
    assert_int_equal(writes.count, 2);
    assert_int_equal(*rig_word(&rig, 2 * PAGE), 0x77);
    rig_free(&rig);
}

static void invalidated_memory_is_looked_up_anew(void **state)
{
    /* Other memory at the same address: what the vCPU reads afterwards is that. */
    struct rig rig = rig_new(NULL);
    uint64_t host = (uintptr_t)rig.memory;
    struct gm_soft_stats stats;

    (void)state;
    assert_int_equal(rig_set(&rig, 0, 0, 0, 8 * PAGE, 0), 0);
    for (unsigned page = 0; page < 8; page++) {
        rig_store(&rig, page * PAGE, 9);
    }
    gm_soft_invalidate_begin(rig.soft, host + 2 * PAGE, 2 * PAGE);
    gm_soft_stats(rig.soft, &stats);
    assert_int_equal(stats.pages_4k, 6);
    assert_int_equal(madvise(rig.memory + 2 * PAGE, 2 * PAGE, MADV_DONTNEED), 0);
    gm_soft_invalidate_end(rig.soft, host + 2 * PAGE, 2 * PAGE);
    for (unsigned page = 0; page < 8; page++) {
        assert_int_equal(rig_load(&rig, page * PAGE), page == 2 || page == 3 ? 0 : 9);
    }
    rig_free(&rig);
}

static void age_counts_pages_touched_since(void **state)
{
    /* Each page once, until it is touched again. */
    struct rig rig = rig_new(NULL);
    uint64_t host = (uintptr_t)rig.memory;

    (void)state;
    assert_int_equal(rig_set(&rig, 0, 0, 0, 8 * PAGE, 0), 0);
    for (unsigned page = 0; page < 5; page++) {
        rig_store(&rig, page * PAGE, 9);
    }
    assert_int_equal(gm_soft_age(rig.soft, host, 3 * PAGE), 3);
    assert_int_equal(gm_soft_age(rig.soft, host, 8 * PAGE), 2);
    assert_int_equal(gm_soft_age(rig.soft, host, 8 * PAGE), 0);
    (void)rig_load(&rig, PAGE);
    assert_int_equal(gm_soft_age(rig.soft, host, 8 * PAGE), 1);
    rig_free(&rig);
}

static void zap_all_begins_with_empty_tables(void **state)
{
    /* Contents stay; the tables are filled again by what is touched. */
    struct rig rig = rig_new(NULL);
    struct gm_soft_stats stats;

    (void)state;
    assert_int_equal(rig_set(&rig, 0, 0, 0, 8 * PAGE, 0), 0);
    for (unsigned page = 0; page < 8; page++) {
        rig_store(&rig, page * PAGE, page);
    }
    gm_soft_zap_all(rig.soft);
    gm_soft_stats(rig.soft, &stats);
    assert_int_equal(stats.pages_4k, 0);
    assert_int_equal(rig_load(&rig, 5 * PAGE), 5);
    gm_soft_stats(rig.soft, &stats);
    assert_int_equal(stats.pages_4k, 1);
    rig_free(&rig);
}

static void stats_count_faults_and_mmio_and_outlive_their_vcpu(void **state)
{
    /* Eight pages and a hole, each met for the first time, and then again; what a vCPU has counted stays when it goes. */
    struct rig rig = rig_new(NULL);
    struct gm_soft_stats before;
    struct gm_soft_stats after;
    uint64_t value;

    (void)state;
    assert_int_equal(rig_set(&rig, 0, 0, 0, 8 * PAGE, 0), 0);
    for (unsigned round = 0; round < 2; round++) {
        for (unsigned page = 0; page < 8; page++) {
            rig_store(&rig, page * PAGE, 9);
        }
        assert_int_equal(rig_load_as(&rig, 8 * PAGE, 8, &value), GM_MMU_MMIO);
    }
    gm_soft_stats(rig.soft, &before);
    assert_int_equal(before.mmio, 2);
    assert_int_equal(before.faults, 9);
    assert_int_equal(before.faults_fixed, 9);
    assert_int_equal(before.faults_spurious, 0);
    assert_int_equal(before.pages_4k, 8);
    gm_soft_vcpu_free(rig.vcpu);
    rig_add_vcpu(&rig);
    gm_soft_stats(rig.soft, &after);
    assert_int_equal(after.mmio, before.mmio);
    assert_int_equal(after.faults, before.faults);
    assert_int_equal(after.faults_fixed, before.faults_fixed);
    assert_int_equal(after.pages_4k, before.pages_4k);
    rig_free(&rig);
}

/* ---- two vCPUs ---- */

struct adder {
    struct gm_mmu *mmu;
    uint64_t gpa;
};

#define ADDS 2000u

static void *add_ones(void *opaque)
{
    const struct adder *adder = opaque;
    enum gm_mmu_outcome outcome = gm_mmu_enter(adder->mmu);

    REQUIRE_TRUE(outcome == GM_MMU_OK);
    for (unsigned i = 0; i < ADDS; i++) {
        uint64_t seen = 0;
        uint64_t expected;

        do {
            expected = seen;
            outcome = gm_mmu_cmpxchg(adder->mmu, adder->gpa, 8, &seen, expected + 1);
            REQUIRE_TRUE(outcome == GM_MMU_OK);
        } while (seen != expected);
        outcome = gm_mmu_boundary(adder->mmu);
        REQUIRE_TRUE(outcome == GM_MMU_OK);
    }
    gm_mmu_leave(adder->mmu);
    return NULL;
}

static void cmpxchg_of_two_vcpus_loses_no_addition(void **state)
{
    /* Aligned, and across two pages. */
    const uint64_t places[] = {0x100, PAGE - 3};
    struct rig rig = rig_new(NULL);
    struct gm_soft_vcpu *other;

    (void)state;
    assert_int_equal(gm_soft_vcpu_new(rig.soft, 1, &other), 0);
    assert_int_equal(rig_set(&rig, 0, 0, 0, 4 * PAGE, 0), 0);
    for (unsigned i = 0; i < 2; i++) {
        struct adder adders[] = {{rig.mmu, places[i]}, {gm_soft_vcpu_mmu(other), places[i]}};
        pthread_t threads[2];

        for (unsigned j = 0; j < 2; j++) {
            assert_int_equal(pthread_create(&threads[j], NULL, add_ones, &adders[j]), 0);
        }
        for (unsigned j = 0; j < 2; j++) {
            pthread_join(threads[j], NULL);
        }
        assert_int_equal(rig_load(&rig, places[i]), 2 * ADDS);
    }
    gm_soft_vcpu_free(other);
    rig_free(&rig);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(access_of_each_size_reaches_the_bytes),
        cmocka_unit_test(mmio_comes_out_piece_by_piece),
        cmocka_unit_test(mmio_write_beside_memory_stores_the_memory),
        cmocka_unit_test(bad_host_memory_is_efault),
        cmocka_unit_test(fetch_from_nowhere_cannot_be_resumed),
        cmocka_unit_test(cmpxchg_exchanges_what_was_expected),
        cmocka_unit_test(kick_brings_the_vcpu_out_once),
        cmocka_unit_test(flush_of_the_vcpus_own_forgets_and_finds_again),
        cmocka_unit_test(misses_by_name_do_what_hits_do),
        cmocka_unit_test(space_of_a_vcpu_chooses_its_slots),
        cmocka_unit_test(tracked_page_tells_of_each_write),
        cmocka_unit_test(invalidated_memory_is_looked_up_anew),
        cmocka_unit_test(age_counts_pages_touched_since),
        cmocka_unit_test(zap_all_begins_with_empty_tables),
        cmocka_unit_test(stats_count_faults_and_mmio_and_outlive_their_vcpu),
        cmocka_unit_test(cmpxchg_of_two_vcpus_loses_no_addition),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
