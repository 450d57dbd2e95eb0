/*
 * unit/test_shadow_orders.c - shadow paging while something changes: between the walk of the guest's tables and the
 * mapping of what it found, and while another vCPU is in guest mode. The callback that asks for the size of
 * host pages comes in the middle of a fault, with no locks held; the point "shadow-mapping" after it.
 */
#include "shadow_rig.h"

#include "base/point.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>

/*
 * What happens during a fault. 4 MiB of memory at GPA 1 GiB, as slot 1; the guest maps it at linear 1 GiB by pages of
 * 2 MiB, of a directory at 0x8000. The first access there asks how large host pages are.
 */
#define BIG_BYTES ((uint64_t)4 << 20)
#define BIG_GPA (UINT64_C(1) << 30)
#define BIG_DIRECTORY 0x8000u

struct meanwhile {
    struct rig rig;
    uint8_t *memory; /* aligned to 2 MiB */
    void *mapped;
    uint64_t answer; /* how large host pages are */
    void (*happens)(struct meanwhile *meanwhile);
};

static uint64_t on_page_bytes(void *opaque, gm_hva_t hva, uint64_t size_bytes)
{
    struct meanwhile *meanwhile = opaque;
    void (*happens)(struct meanwhile *) = meanwhile->happens;

    (void)hva;
    (void)size_bytes;
    meanwhile->happens = NULL;
    if (happens != NULL) {
        happens(meanwhile);
    }
    return meanwhile->answer;
}

static long set_big(struct meanwhile *meanwhile, uint64_t size_bytes)
{
    const struct kvm_userspace_memory_region region = {.slot = 1,
                                                       .guest_phys_addr = BIG_GPA,
                                                       .memory_size = size_bytes,
                                                       .userspace_addr =
                                                           (uintptr_t)meanwhile->memory};

    return rig_call(&meanwhile->rig, KVM_SET_USER_MEMORY_REGION, &region);
}

static void meanwhile_begin(struct meanwhile *meanwhile, void (*happens)(struct meanwhile *))
{
    const struct gm_soft_options options = {.size = sizeof(options),
                                            .shadow_paging = true,
                                            .page_bytes = on_page_bytes,
                                            .opaque = meanwhile};

    *meanwhile = (struct meanwhile){.answer = 2 << 20};
    meanwhile->rig = shadow_rig_of(&options);
    meanwhile->mapped = mmap(NULL, BIG_BYTES + (2 << 20), PROT_READ | PROT_WRITE,
                             MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    assert_true(meanwhile->mapped != MAP_FAILED);
    meanwhile->memory =
        (uint8_t *)(((uintptr_t)meanwhile->mapped + (2 << 20) - 1) & ~(uintptr_t)((2 << 20) - 1));
    assert_int_equal(set_big(meanwhile, BIG_BYTES), 0);
    *rig_word(&meanwhile->rig, PDPT + 8) = BIG_DIRECTORY | P | W | U;
    *rig_word(&meanwhile->rig, BIG_DIRECTORY) = BIG_GPA | P | W | U | LARGE;
    /* All of the way is shadowed, but for the page. */
    *rig_word(&meanwhile->rig, BIG_DIRECTORY + 511 * 8) = 0 | P | W | U | LARGE;
    (void)load(&meanwhile->rig, BIG_GPA + 511 * TABLES);
    meanwhile->happens = happens;
}

static void meanwhile_end(struct meanwhile *meanwhile)
{
    assert_true(meanwhile->happens == NULL);
    rig_free(&meanwhile->rig);
    munmap(meanwhile->mapped, BIG_BYTES + (2 << 20));
}

static void delete_slot(struct meanwhile *meanwhile)
{
    assert_int_equal(set_big(meanwhile, 0), 0);
}

static void shadow_fault_before_delete_comes_out_as_mmio(void **state)
{
    /* Once the instruction has begun anew, as after any change of slots. */
    struct meanwhile meanwhile;
    uint64_t value = 0;

    (void)state;
    meanwhile_begin(&meanwhile, delete_slot);
    assert_int_equal(load_as(&meanwhile.rig, BIG_GPA, GM_MMU_USER, &value), GM_MMU_RESTART);
    assert_int_equal(load_as(&meanwhile.rig, BIG_GPA, GM_MMU_USER, &value), GM_MMU_MMIO);
    assert_int_equal(gm_mmu_exit(meanwhile.rig.mmu)->gpa, BIG_GPA);
    meanwhile_end(&meanwhile);
}

static void invalidate_page(struct meanwhile *meanwhile)
{
    gm_soft_invalidate_begin(meanwhile->rig.soft, (uintptr_t)meanwhile->memory, PAGE);
    gm_mmu_kick(meanwhile->rig.mmu);
}

static void shadow_fault_waits_for_the_end_of_an_invalidation(void **state)
{
    /* A kick gets the vCPU out meanwhile. */
    struct meanwhile meanwhile;
    uint64_t value = 0;

    (void)state;
    meanwhile_begin(&meanwhile, invalidate_page);
    assert_int_equal(load_as(&meanwhile.rig, BIG_GPA + 8, GM_MMU_USER, &value), GM_MMU_KICKED);
    meanwhile.memory[8] = 3;
    gm_soft_invalidate_end(meanwhile.rig.soft, (uintptr_t)meanwhile.memory, PAGE);
    assert_int_equal(load(&meanwhile.rig, BIG_GPA + 8), 3);
    meanwhile_end(&meanwhile);
}

static void invalidate_directory(struct meanwhile *meanwhile)
{
    gm_soft_invalidate_begin(meanwhile->rig.soft, (uintptr_t)meanwhile->rig.memory + BIG_DIRECTORY,
                             PAGE);
    gm_mmu_kick(meanwhile->rig.mmu);
}

static void shadow_fault_waits_for_the_end_of_a_tables_invalidation(void **state)
{
    /* What stands for the table keeps its host address. */
    struct meanwhile meanwhile;
    uint64_t value = 0;

    (void)state;
    meanwhile_begin(&meanwhile, invalidate_directory);
    meanwhile.memory[(2 << 20) + 8] = 4;
    assert_int_equal(load_as(&meanwhile.rig, BIG_GPA + 8, GM_MMU_USER, &value), GM_MMU_KICKED);
    *rig_word(&meanwhile.rig, BIG_DIRECTORY) = (BIG_GPA + (2u << 20)) | P | W | LARGE;
    gm_soft_invalidate_end(meanwhile.rig.soft, (uintptr_t)meanwhile.rig.memory + BIG_DIRECTORY,
                           PAGE);
    assert_int_equal(load(&meanwhile.rig, BIG_GPA + 8), 4);
    meanwhile_end(&meanwhile);
}

static void zap_all(struct meanwhile *meanwhile)
{
    gm_soft_zap_all(meanwhile->rig.soft);
}

static void shadow_fault_whose_root_goes_begins_at_another(void **state)
{
    struct meanwhile meanwhile;

    (void)state;
    meanwhile_begin(&meanwhile, zap_all);
    assert_int_equal(load(&meanwhile.rig, BIG_GPA), 0);
    assert_int_equal(shadow_stats(&meanwhile.rig).shadow_pages, 3);
    assert_int_equal(shadow_stats(&meanwhile.rig).shadow_leaves, 1);
    meanwhile_end(&meanwhile);
}

static void track_within(struct meanwhile *meanwhile)
{
    assert_int_equal(gm_soft_track(meanwhile->rig.soft, 0, BIG_GPA + 0x3000), 0);
}

static void shadow_fault_of_a_large_page_before_tracking_within_it_maps_small_ones(void **state)
{
    struct meanwhile meanwhile;

    (void)state;
    meanwhile_begin(&meanwhile, track_within);
    store(&meanwhile.rig, BIG_GPA, 6);
    assert_int_equal(meanwhile.memory[0], 6);
    assert_int_equal(shadow_stats(&meanwhile.rig).shadow_pages, 5); /* two of them direct */
    assert_int_equal(gm_soft_untrack(meanwhile.rig.soft, 0, BIG_GPA + 0x3000), 0);
    meanwhile_end(&meanwhile);
}

/*
 * Tables that are edited after they were walked: a store of another vCPU, which could not be seen yet.
 */
#ifdef GM_AUDIT_ON
static struct {
    struct rig *rig;
    uint64_t gpa;
    uint64_t value;
} edit;

static void on_point(const char *name)
{
    if (edit.rig != NULL && strcmp(name, "shadow-mapping") == 0) {
        *rig_word(edit.rig, edit.gpa) = edit.value;
        edit.rig = NULL;
    }
}
#endif

static void shadow_entries_are_read_again_once_writes_are_seen(void **state)
{
    /* One entry of each level leads elsewhere by then; or has lost the flag that the walk set. */
#ifdef GM_AUDIT_ON
    static const struct {
        uint64_t gpa;
        uint64_t value;
        unsigned page;
    } edits[] = {
        {PML4, 0x9000 | P | W | U, 5}, {PDPT, 0xa000 | P | W | U, 5},
        {PD, 0x8000 | P | W | U, 5},   {PT, (DATA + 5 * PAGE) | P | W | U, 5},
        {PT, DATA | P | W | U, 0},     {PD, PT | P | W | U, 0},
    };

    for (unsigned i = 0; i < sizeof(edits) / sizeof(edits[0]); i++) {
        struct rig rig = shadow_rig();

        *rig_word(&rig, 0x9000) = 0xa000 | P | W | U;
        *rig_word(&rig, 0xa000) = 0x8000 | P | W | U;
        *rig_word(&rig, 0x8000) = (DATA + 5 * PAGE) | P | W | U;
        edit.gpa = edits[i].gpa;
        edit.value = edits[i].value;
        edit.rig = &rig;
        point_hook = on_point;
        assert_int_equal(load(&rig, 0), WORD(edits[i].page));
        point_hook = NULL;
        assert_true(edit.rig == NULL);
        assert_int_equal(get(&rig, edits[i].gpa), edits[i].value | A);
        rig_free(&rig);
    }
    (void)state;
#else
    (void)state;
    skip(); /* it has no points */
#endif
}

/*
 * Another vCPU that is in guest mode, with translations in its TLB, until it is asked to leave: whoever took a right
 * of it, or frees tables that it may be in, has to wait for that.
 */
struct other {
    struct rig rig;
    uint64_t linear; /* it stores there, through its TLB from then on */
    uint64_t value;
    pthread_t thread;
    atomic_bool is_in;
    atomic_bool is_over; /* whoever had to wait did not */
    bool was_asked;
    enum gm_mmu_outcome outcome;
};

static void *stay_in_guest_mode(void *opaque)
{
    struct other *other = opaque;
    struct gm_mmu *mmu = other->rig.mmu;

    other->outcome = gm_mmu_enter(mmu);
    if (other->outcome == GM_MMU_OK) {
        other->outcome =
            gm_mmu_store_linear(mmu, other->linear, 8, GM_MMU_SUPERVISOR, other->value);
    }
    atomic_store(&other->is_in, true);
    while (!gm_mmu_is_wanted(mmu) && !atomic_load(&other->is_over)) {
        sched_yield();
    }
    other->was_asked = !atomic_load(&other->is_over);
    gm_mmu_leave(mmu);
    return NULL;
}

static void other_begin(struct other *other, struct rig *rig, uint64_t linear, uint64_t value)
{
    const struct gm_mmu_paging paging = long_mode();

    *other = (struct other){.rig = *rig, .linear = linear, .value = value};
    assert_int_equal(gm_soft_vcpu_new(rig->soft, 1, &other->rig.vcpu), 0);
    other->rig.mmu = gm_soft_vcpu_mmu(other->rig.vcpu);
    set_paging(&other->rig, &paging);
    store(&other->rig, linear, value); /* it needs no fault later */
    assert_int_equal(pthread_create(&other->thread, NULL, stay_in_guest_mode, other), 0);
    while (!atomic_load(&other->is_in)) {
        sched_yield();
    }
}

static void other_end(struct other *other)
{
    atomic_store(&other->is_over, true);
    pthread_join(other->thread, NULL);
    assert_int_equal(other->outcome, GM_MMU_OK);
    assert_true(other->was_asked);
    gm_soft_vcpu_free(other->rig.vcpu);
}

/* Without the audits of load(), which hold vCPUs. */
static void load_alone(struct rig *rig, uint64_t linear, uint64_t expected)
{
    uint64_t value = 0;

    assert_int_equal(gm_mmu_enter(rig->mmu), GM_MMU_OK);
    assert_int_equal(gm_mmu_load_linear(rig->mmu, linear, 8, GM_MMU_SUPERVISOR, &value), GM_MMU_OK);
    gm_mmu_leave(rig->mmu);
    assert_int_equal(value, expected);
}

static void shadow_table_waits_for_those_who_may_write_it(void **state)
{
    /* A page that another vCPU writes becomes a table: it is read when no write can be under way. */
    struct rig rig = shadow_rig();
    struct other other;

    (void)state;
    put(&rig, PD + 16, (DATA + 5 * PAGE) | P | W);
    (void)load(&rig, 0);
    other_begin(&other, &rig, 0x5000, (DATA + 2 * PAGE) | P | W);
    load_alone(&rig, 2 * TABLES, WORD(2));
    other_end(&other);
    rig_free(&rig);
}

static void shadow_sync_waits_for_those_who_may_write_the_table(void **state)
{
    /* An unsync table is brought in step. */
    struct rig rig = shadow_rig();
    struct gm_mmu_paging paging = long_mode();
    struct other other;

    (void)state;
    (void)load(&rig, 0);
    other_begin(&other, &rig, TABLES + PT, (DATA + 7 * PAGE) | P | W | U);
    assert_int_equal(shadow_stats(&rig).shadow_unsync, 1);
    assert_int_equal(gm_mmu_enter(rig.mmu), GM_MMU_OK);
    assert_int_equal(gm_mmu_set_paging(rig.mmu, &paging), GM_MMU_OK);
    gm_mmu_leave(rig.mmu);
    load_alone(&rig, 0, WORD(7));
    other_end(&other);
    assert_int_equal(shadow_stats(&rig).shadow_unsync, 0);
    rig_free(&rig);
}

static void shadow_page_is_freed_when_nobody_walks_it(void **state)
{
    /* A directory that is written and written is given up, with the other vCPU in guest mode. */
    struct rig rig = shadow_rig();
    struct other other;
    uint64_t pages;

    (void)state;
    (void)load(&rig, 0);
    rig_store(&rig, PD + 24, 0); /* its page is there to be written */
    other_begin(&other, &rig, 0x5000, 1);
    pages = shadow_stats(&rig).shadow_pages;
    for (unsigned i = 0; i < 5; i++) {
        rig_store(&rig, PD + 24, i);
    }
    assert_int_equal(shadow_stats(&rig).shadow_pages, pages - 1);
    other_end(&other);
    rig_free(&rig);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(shadow_fault_before_delete_comes_out_as_mmio),
        cmocka_unit_test(shadow_fault_waits_for_the_end_of_an_invalidation),
        cmocka_unit_test(shadow_fault_waits_for_the_end_of_a_tables_invalidation),
        cmocka_unit_test(shadow_fault_whose_root_goes_begins_at_another),
        cmocka_unit_test(shadow_fault_of_a_large_page_before_tracking_within_it_maps_small_ones),
        cmocka_unit_test(shadow_entries_are_read_again_once_writes_are_seen),
        cmocka_unit_test(shadow_table_waits_for_those_who_may_write_it),
        cmocka_unit_test(shadow_sync_waits_for_those_who_may_write_the_table),
        cmocka_unit_test(shadow_page_is_freed_when_nobody_walks_it),
    };

    return cmocka_run_group_tests_name("shadow_orders", tests, NULL, NULL);
}
