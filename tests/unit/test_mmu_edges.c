/*
 * unit/test_mmu_edges.c - the software KVM's tables at their edges: calls outside of guest mode, pages that cannot be mapped
 * ahead, and generations that come round.
 */
#include "soft_rig.h"

#include "kcore/attributes.h"
#include "mmu/mmu.h"
#include "soft/soft.h"

#include <errno.h>

/* Each call that accesses memory, with a size, at a page of its own: an access that hits the TLB is inlined, and asks nothing. */
static enum gm_mmu_outcome access_by(struct rig *rig, unsigned call, unsigned size_bytes)
{
    const uint64_t at = call * PAGE;
    uint64_t value = 0;
    uint8_t bytes[64];

    switch (call) {
    case 0:
        return gm_mmu_load(rig->mmu, at, size_bytes, &value);
    case 1:
        return gm_mmu_store(rig->mmu, at, size_bytes, 1);
    case 2:
        return gm_mmu_load_linear(rig->mmu, at, size_bytes, GM_MMU_SUPERVISOR, &value);
    case 3:
        return gm_mmu_store_linear(rig->mmu, at, size_bytes, GM_MMU_SUPERVISOR, 1);
    case 4:
        return gm_mmu_fetch(rig->mmu, at, size_bytes, bytes);
    case 5:
        return gm_mmu_cmpxchg(rig->mmu, at, size_bytes, &value, 1);
    default:
        return gm_mmu_cmpxchg_linear(rig->mmu, at, size_bytes, GM_MMU_SUPERVISOR, &value, 1);
    }
}
#define CALLS 7u
#define FETCH 4u

static void expect_refused(struct rig *rig, enum gm_mmu_outcome outcome)
{
    assert_int_equal(outcome, GM_MMU_ERROR);
    assert_int_equal(gm_mmu_exit(rig->mmu)->error, -EINVAL);
}

static void access_of_no_word_or_outside_of_guest_mode_is_refused(void **state)
{
    /* Nothing is stored, and the same call succeeds in guest mode. */
    static const unsigned SIZES[] = {0, 3, 9, 16};
    struct rig rig = rig_new(NULL);
    const struct gm_mmu_paging paging = {0};
    struct gm_mmu_translation translation;

    (void)state;
    assert_int_equal(rig_set(&rig, 0, 0, 0, RIG_BYTES, 0), 0);
    for (unsigned call = 0; call < CALLS; call++) {
        expect_refused(&rig, access_by(&rig, call, 8));
        for (unsigned i = 0; call != FETCH && i < sizeof(SIZES) / sizeof(SIZES[0]); i++) {
            assert_int_equal(gm_mmu_enter(rig.mmu), GM_MMU_OK);
            expect_refused(&rig, access_by(&rig, call, SIZES[i])); /* and leaves guest mode */
        }
        assert_int_equal(*rig_word(&rig, call * PAGE), 0);
        assert_int_equal(gm_mmu_enter(rig.mmu), GM_MMU_OK);
        assert_int_equal(access_by(&rig, call, 8), GM_MMU_OK);
        gm_mmu_leave(rig.mmu);
    }
    expect_refused(&rig, gm_mmu_set_paging(rig.mmu, &paging));
    expect_refused(&rig, gm_mmu_explain(rig.mmu, 0, GM_MMU_READ, GM_MMU_SUPERVISOR, &translation));
    assert_int_equal(translation.outcome, GM_MMU_ERROR);
    rig_free(&rig);
}

/* ---- KVM_PRE_FAULT_MEMORY ---- */

static int prefault(struct rig *rig, uint64_t *gpa, uint64_t *size_bytes)
{
    return mmu_prefault(mmu_vcpu_of(rig->mmu), gpa, size_bytes);
}

static void prefault_ends_before_the_first_page_that_cannot_be_mapped(void **state)
{
    /* A page without rights, one that the host lacks, one of no slot: what is before is mapped, and what is left is said. */
    struct rig rig = rig_new(NULL);
    uint64_t gpa = 0;
    uint64_t size_bytes = 8 * PAGE;

    (void)state;
    assert_int_equal(rig_set(&rig, 0, 0, 0, 8 * PAGE, 0), 0);
    assert_int_equal(kcore_set_attributes(&rig.soft->core, 2 * PAGE, PAGE,
                                          ATTRIBUTE_NO_READ | ATTRIBUTE_NO_WRITE),
                     0);
    assert_int_equal(munmap(rig.memory + 5 * PAGE, PAGE), 0);
    assert_int_equal(prefault(&rig, &gpa, &size_bytes), -EFAULT);
    assert_int_equal(gpa, 2 * PAGE);
    assert_int_equal(size_bytes, 6 * PAGE);

    gpa = 3 * PAGE;
    size_bytes = 5 * PAGE;
    assert_int_equal(prefault(&rig, &gpa, &size_bytes), -EFAULT);
    assert_int_equal(gpa, 5 * PAGE);
    assert_int_equal(size_bytes, 3 * PAGE);

    gpa = 6 * PAGE;
    size_bytes = 4 * PAGE;
    assert_int_equal(prefault(&rig, &gpa, &size_bytes), -ENOENT);
    assert_int_equal(gpa, 8 * PAGE);
    assert_int_equal(size_bytes, 2 * PAGE);
    rig_free(&rig);
}

static void prefault_stops_for_who_wants_the_vcpu(void **state)
{
    /* After each page: -EINTR, unless that was the last. */
    struct rig rig = rig_new(NULL);
    uint32_t *requests = &mmu_vcpu_of(rig.mmu)->face.requests;
    uint64_t gpa = 0;
    uint64_t size_bytes = 2 * PAGE;

    (void)state;
    assert_int_equal(rig_set(&rig, 0, 0, 0, 8 * PAGE, 0), 0);
    __atomic_fetch_or(requests, KCORE_REQUEST_KICK, __ATOMIC_RELAXED);
    assert_int_equal(prefault(&rig, &gpa, &size_bytes), -EINTR);
    assert_int_equal(gpa, PAGE);
    assert_int_equal(size_bytes, PAGE);
    assert_int_equal(prefault(&rig, &gpa, &size_bytes), 0);
    assert_int_equal(gpa, 2 * PAGE);
    assert_int_equal(size_bytes, 0);
    __atomic_fetch_and(requests, ~(uint32_t)KCORE_REQUEST_KICK, __ATOMIC_RELAXED);
    rig_free(&rig);
}

/* ---- generations ---- */

static void mmio_entry_of_a_generation_that_comes_round_is_gone(void **state)
{
    /*
     * An address is known as MMIO in generation g. As many changes later as a generation's bits can count, one of which has put
     * memory there, the generation looks as g did: the load has to find the memory.
     */
    struct rig rig = rig_new(NULL);
    struct kcore *core = &rig.soft->core;
    const uint64_t mask = (UINT64_C(1) << core->generation_bits) - 1;
    const uint64_t there = 64 * PAGE;
    uint64_t generation;
    uint64_t value;

    (void)state;
    assert_int_equal(rig_set(&rig, 0, 0, 0, PAGE, 0), 0);
    assert_int_equal(rig_set(&rig, 1, 0, PAGE, PAGE, PAGE), 0);
    assert_int_equal(rig_set(&rig, 2, 0, 2 * PAGE, PAGE, PAGE), 0);
    assert_int_equal(rig_load_as(&rig, there, 8, &value), GM_MMU_MMIO);
    generation = core->generation & mask;
    assert_true(generation > 2 && generation < 100);

    core->generation = mask; /* as if so many changes had been: the next one begins from 0 */
    assert_int_equal(rig_set(&rig, 3, 0, there, PAGE, 2 * PAGE), 0);
    assert_int_equal(core->generation & mask, 0);
    while ((core->generation & mask) != generation) {
        bool is_logged = (core->generation & 1) == 0;

        assert_int_equal(
            rig_set(&rig, 2, is_logged ? KVM_MEM_LOG_DIRTY_PAGES : 0, 2 * PAGE, PAGE, PAGE), 0);
    }
    *rig_word(&rig, 2 * PAGE) = 0x1234;
    assert_int_equal(rig_load(&rig, there), 0x1234);
    rig_free(&rig);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(access_of_no_word_or_outside_of_guest_mode_is_refused),
        cmocka_unit_test(prefault_ends_before_the_first_page_that_cannot_be_mapped),
        cmocka_unit_test(prefault_stops_for_who_wants_the_vcpu),
        cmocka_unit_test(mmio_entry_of_a_generation_that_comes_round_is_gone),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
