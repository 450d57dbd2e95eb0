/*
 * unit/test_soft_log.c - dirty logs through the ioctls: what is in them, when it is cleared, and
 * that a bitmap which cannot be given away loses nothing; rings.
 */
#include "soft_rig.h"

#include "model/require.h"
#include "model/faults.h"

#include <guestmem/kvm_abi.h>

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <unistd.h>

#define LOG_PAGES 200u
#define LOG_WORDS 4u

struct log_words {
    uint64_t words[LOG_WORDS];
};

static void set_bit(struct log_words *log, unsigned page)
{
    log->words[page / 64] |= 1ull << (page % 64);
}

static void dirty(struct rig *rig, struct log_words *expected, unsigned page)
{
    rig_store(rig, page * PAGE + 8, page);
    set_bit(expected, page);
}

static void expect_log(struct rig *rig, const struct log_words *expected)
{
    struct log_words log = {{0}};

    assert_int_equal(rig_get_log(rig, 0, log.words), 0);
    assert_memory_equal(log.words, expected->words, sizeof(log.words));
}

static struct rig logged_rig(uint64_t manual, enum gm_soft_log way)
{
    const struct gm_soft_options options = {.size = sizeof(options), .log = way};
    struct rig rig = rig_new(&options);

    assert_int_equal(rig_enable(&rig, KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2, manual), 0);
    assert_int_equal(rig_set(&rig, 0, KVM_MEM_LOG_DIRTY_PAGES, 0, LOG_PAGES * PAGE, 0), 0);
    return rig;
}

static void log_get_clears_what_it_gives(void **state)
{
    /* Without manual protection: pages that were written once, and again after each harvest. */
    const struct log_words nothing = {{0}};

    (void)state;
    for (int way = GM_SOFT_LOG_PROTECT; way <= GM_SOFT_LOG_BUFFER; way++) {
        struct rig rig = logged_rig(0, (enum gm_soft_log)way);

        expect_log(&rig, &nothing);
        for (unsigned round = 0; round < 3; round++) {
            struct log_words expected = {{0}};

            dirty(&rig, &expected, round);
            dirty(&rig, &expected, 64);
            dirty(&rig, &expected, 199);
            (void)rig_load(&rig, 100 * PAGE); /* reads mark nothing */
            expect_log(&rig, &expected);
            expect_log(&rig, &nothing);
        }
        rig_free(&rig);
    }
}

static void log_clear_by_hand_clears_the_bits_given(void **state)
{
    /* With manual protection getting clears nothing, and clearing just what the bitmap says. */
    (void)state;
    for (int way = GM_SOFT_LOG_PROTECT; way <= GM_SOFT_LOG_BUFFER; way++) {
        struct rig rig = logged_rig(1, (enum gm_soft_log)way);
        struct log_words expected = {{0}};
        const uint64_t third_word = 1ull << 2;
        struct kvm_clear_dirty_log clear = {
            .slot = 0, .first_page = 128, .num_pages = 64, .dirty_bitmap = (void *)&third_word};

        dirty(&rig, &expected, 3);
        dirty(&rig, &expected, 130);
        dirty(&rig, &expected, 131);
        expect_log(&rig, &expected);
        expect_log(&rig, &expected);
        assert_int_equal(rig_call(&rig, KVM_CLEAR_DIRTY_LOG, &clear), 0);
        expected.words[2] &= ~third_word;
        expect_log(&rig, &expected);
        dirty(&rig, &expected, 130);
        expect_log(&rig, &expected);
        rig_free(&rig);
    }
}

static void log_get_into_bad_memory_loses_nothing(void **state)
{
    /* A bitmap that lies half, or all, in memory that is not there: -EFAULT, and the pages are
     * dirty still. */
    uint8_t *two_pages =
        mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    (void)state;
    assert_true(two_pages != MAP_FAILED);
    assert_int_equal(mprotect(two_pages + PAGE, PAGE, PROT_READ), 0);
    for (unsigned manual = 0; manual <= 1; manual++) {
        struct rig rig = logged_rig(manual, GM_SOFT_LOG_PROTECT);
        struct log_words expected = {{0}};

        dirty(&rig, &expected, 0);
        dirty(&rig, &expected, 199);
        assert_int_equal(rig_get_log(&rig, 0, two_pages + PAGE), -EFAULT);
        assert_int_equal(rig_get_log(&rig, 0, two_pages + PAGE - 8), -EFAULT);
        assert_int_equal(rig_get_log(&rig, 0, NULL), -EFAULT);
        assert_int_equal(rig_get_log(&rig, 0, (void *)0xffff888000000000), -EFAULT);
        dirty(&rig, &expected, 70);
        expect_log(&rig, &expected);
        rig_free(&rig);
    }
    munmap(two_pages, 2 * PAGE);
}

static void log_bits_beyond_the_slot_are_left_alone(void **state)
{
    /* Whole words are written, as Linux does, and no byte after them. */
    struct rig rig = logged_rig(3, GM_SOFT_LOG_PROTECT);
    uint64_t guarded[LOG_WORDS + 1] = {0};
    const uint64_t expected[LOG_WORDS + 1] = {UINT64_MAX, UINT64_MAX, UINT64_MAX, 0xff,
                                              0xabcdabcdabcdabcd};

    (void)state;
    guarded[LOG_WORDS] = 0xabcdabcdabcdabcd;
    assert_int_equal(rig_get_log(&rig, 0, guarded), 0);
    assert_memory_equal(guarded, expected, sizeof(expected));
    rig_free(&rig);
}

static void log_calls_without_memory_are_enomem_and_lose_nothing(void **state)
{
    /* Each allocation of a get and of a clear fails once. */
    struct faults faults = {0};
    const struct gm_allocator allocator = faults_allocator(&faults);
    const struct gm_soft_options options = {.size = sizeof(options), .allocator = &allocator};
    struct rig rig = rig_new(&options);
    struct log_words expected = {{0}};
    struct log_words log = {{0}};
    struct kvm_clear_dirty_log clear = {.num_pages = LOG_PAGES, .dirty_bitmap = log.words};
    unsigned failures;

    (void)state;
    assert_int_equal(rig_set(&rig, 0, KVM_MEM_LOG_DIRTY_PAGES, 0, LOG_PAGES * PAGE, 0), 0);
    dirty(&rig, &expected, 5);
    for (failures = 0;; failures++) {
        long rc;

        faults_arm(&faults, failures + 1);
        rc = rig_get_log(&rig, 0, log.words);
        if (rc == 0) {
            break;
        }
        assert_int_equal(rc, -ENOMEM);
    }
    assert_true(failures > 0);
    assert_memory_equal(log.words, expected.words, sizeof(log.words));
    dirty(&rig, &expected, 6);
    set_bit(&log, 6);
    for (failures = 0;; failures++) {
        long rc;

        faults_arm(&faults, failures + 1);
        rc = rig_call(&rig, KVM_CLEAR_DIRTY_LOG, &clear);
        if (rc == 0) {
            break;
        }
        assert_int_equal(rc, -ENOMEM);
    }
    assert_true(failures > 0);
    faults_disarm(&faults);
    memset(&expected, 0, sizeof(expected));
    expect_log(&rig, &expected);
    rig_free(&rig);
    assert_int_equal(faults_live(&faults), 0);
}

static void log_clear_of_more_than_there_is_takes_no_memory(void **state)
{
    /* Four billion pages would be half a GiB of bitmap. */
    struct faults faults = {0};
    const struct gm_allocator allocator = faults_allocator(&faults);
    const struct gm_soft_options options = {.size = sizeof(options), .allocator = &allocator};
    struct rig rig = rig_new(&options);
    struct log_words log = {{0}};
    const struct kvm_clear_dirty_log clear = {.num_pages = UINT32_MAX, .dirty_bitmap = log.words};
    uint64_t allocations;

    (void)state;
    assert_int_equal(rig_set(&rig, 0, KVM_MEM_LOG_DIRTY_PAGES, 0, LOG_PAGES * PAGE, 0), 0);
    allocations = faults.allocations;
    assert_int_equal(rig_call(&rig, KVM_CLEAR_DIRTY_LOG, &clear), -EINVAL);
    assert_int_equal(faults.allocations, allocations);
    rig_free(&rig);
}

/* A vCPU that goes on, boundary after boundary, without coming out. */
struct goer {
    struct gm_mmu *mmu;
    atomic_bool has_written;
    atomic_bool is_over;
};

static void *write_and_go_on(void *opaque)
{
    struct goer *goer = opaque;
    enum gm_mmu_outcome outcome = gm_mmu_enter(goer->mmu);

    REQUIRE_TRUE(outcome == GM_MMU_OK);
    outcome = gm_mmu_store(goer->mmu, 77 * PAGE, 8, 1);
    REQUIRE_TRUE(outcome == GM_MMU_OK);
    atomic_store(&goer->has_written, true);
    while (!atomic_load(&goer->is_over)) {
        if (gm_mmu_is_wanted(goer->mmu)) {
            outcome = gm_mmu_boundary(goer->mmu);
            REQUIRE_TRUE(outcome == GM_MMU_OK);
        }
    }
    gm_mmu_leave(goer->mmu);
    return NULL;
}

static void log_get_has_what_a_running_vcpu_has_written(void **state)
{
    /* The vCPU is in guest mode still, with the page perhaps in a buffer of its own. */
    (void)state;
    for (int way = GM_SOFT_LOG_PROTECT; way <= GM_SOFT_LOG_BUFFER; way++) {
        struct rig rig = logged_rig(0, (enum gm_soft_log)way);
        struct goer goer = {.mmu = rig.mmu};
        struct log_words expected = {{0}};
        pthread_t thread;

        set_bit(&expected, 77);
        assert_int_equal(pthread_create(&thread, NULL, write_and_go_on, &goer), 0);
        while (!atomic_load(&goer.has_written)) {
        }
        expect_log(&rig, &expected);
        atomic_store(&goer.is_over, true);
        pthread_join(thread, NULL);
        rig_free(&rig);
    }
}

static struct kvm_dirty_gfn *ring_of(struct rig *rig, uint32_t entry_count)
{
    uint32_t count = 0;
    struct kvm_dirty_gfn *ring = gm_soft_vcpu_ring(rig->vcpu, &count);

    assert_int_equal(count, entry_count);
    return ring;
}

static void ring_takes_each_page_once_until_reset(void **state)
{
    /* Pages in the order of their first writes; a reset gives back what was marked, and no more. */
    struct rig rig = rig_new_without_vcpu(NULL);
    struct kvm_dirty_gfn *ring;

    (void)state;
    assert_int_equal(rig_enable(&rig, KVM_CAP_DIRTY_LOG_RING_ACQ_REL, 1024 * sizeof(*ring)), 0);
    assert_int_equal(rig_set(&rig, 7, KVM_MEM_LOG_DIRTY_PAGES, 0, LOG_PAGES * PAGE, 0), 0);
    rig_add_vcpu(&rig);
    ring = ring_of(&rig, 1024);
    rig_store(&rig, 9 * PAGE, 1);
    rig_store(&rig, 4 * PAGE, 1);
    rig_store(&rig, 9 * PAGE, 2);
    assert_int_equal(ring[0].flags, KVM_DIRTY_GFN_F_DIRTY);
    assert_int_equal(ring[0].slot, 7);
    assert_int_equal(ring[0].offset, 9);
    assert_int_equal(ring[1].offset, 4);
    assert_int_equal(ring[2].flags, 0);
    assert_int_equal(rig_call_number(&rig, KVM_RESET_DIRTY_RINGS, 0), 0);
    __atomic_store_n(&ring[0].flags, KVM_DIRTY_GFN_F_RESET, __ATOMIC_RELEASE);
    assert_int_equal(rig_call_number(&rig, KVM_RESET_DIRTY_RINGS, 0), 1);
    rig_store(&rig, 4 * PAGE, 3);
    rig_store(&rig, 9 * PAGE, 3);
    assert_int_equal(ring[2].flags, KVM_DIRTY_GFN_F_DIRTY);
    assert_int_equal(ring[2].offset, 9);
    assert_int_equal(ring[3].flags, 0);
    rig_free(&rig);
}

static void ring_and_run_area_in_a_file_are_where_kvm_has_them(void **state)
{
    /* What the vCPU pushes is seen through the file, and its area is the same memory at the same address. */
    struct rig rig = rig_new_without_vcpu(NULL);
    const long run_bytes = gm_soft_system_ioctl(KVM_GET_VCPU_MMAP_SIZE, 0);
    int fd = memfd_create("vcpu", MFD_CLOEXEC);
    struct kvm_dirty_gfn entry;
    struct kvm_run *shared;
    struct kvm_run *run;

    (void)state;
    assert_int_equal(rig_enable(&rig, KVM_CAP_DIRTY_LOG_RING_ACQ_REL, 1024 * sizeof(entry)), 0);
    assert_int_equal(rig_set(&rig, 7, KVM_MEM_LOG_DIRTY_PAGES, 0, LOG_PAGES * PAGE, 0), 0);
    rig_add_vcpu(&rig);
    run = gm_soft_vcpu_run_page(rig.vcpu);
    run->request_interrupt_window = 1;
    assert_int_equal(gm_soft_vcpu_share(rig.vcpu, fd), 0);
    assert_int_equal(gm_soft_vcpu_share(rig.vcpu, fd), -EINVAL);
    assert_ptr_equal(gm_soft_vcpu_run_page(rig.vcpu), run);
    shared = mmap(NULL, (size_t)run_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    assert_ptr_not_equal(shared, MAP_FAILED);
    assert_int_equal(shared->request_interrupt_window, 1);
    shared->immediate_exit = 5;
    assert_int_equal(run->immediate_exit, 5);
    shared->immediate_exit = 0;
    rig_store(&rig, 9 * PAGE, 1);
    assert_int_equal(pread(fd, &entry, sizeof(entry), KVM_DIRTY_LOG_PAGE_OFFSET * PAGE),
                     sizeof(entry));
    assert_int_equal(entry.flags, KVM_DIRTY_GFN_F_DIRTY);
    assert_int_equal(entry.offset, 9);
    munmap(shared, (size_t)run_bytes);
    close(fd);
    rig_free(&rig);
}

static void run_area_in_a_file_that_will_not_do_stays_as_it_was(void **state)
{
    /* No descriptor, one that only reads, a file that is not empty. */
    struct rig rig = rig_new(NULL);
    struct kvm_run *run = gm_soft_vcpu_run_page(rig.vcpu);
    int reads = open("/dev/null", O_RDONLY | O_CLOEXEC);

    (void)state;
    run->request_interrupt_window = 3;
    assert_int_equal(gm_soft_vcpu_share(rig.vcpu, -1), -EBADF);
    assert_int_equal(gm_soft_vcpu_share(rig.vcpu, reads), -EINVAL); /* of ftruncate() */
    assert_int_equal(run->request_interrupt_window, 3);
    close(reads);
    rig_free(&rig);
}

static void ring_that_is_full_stops_the_vcpu(void **state)
{
    /* No entry is lost: the vCPU does not go in until the ring was reset. */
    const uint32_t entry_count = 1024;
    struct rig rig = rig_new_without_vcpu(NULL);
    struct kvm_dirty_gfn *ring;
    enum gm_mmu_outcome outcome = GM_MMU_OK;
    unsigned written = 0;

    (void)state;
    assert_int_equal(rig_enable(&rig, KVM_CAP_DIRTY_LOG_RING, entry_count * sizeof(*ring)), 0);
    assert_int_equal(rig_set(&rig, 0, KVM_MEM_LOG_DIRTY_PAGES, 0, RIG_BYTES, 0), 0);
    for (uint32_t copy = 1; copy < 5; copy++) {
        assert_int_equal(
            rig_set(&rig, copy, KVM_MEM_LOG_DIRTY_PAGES, (uint64_t)copy * RIG_BYTES, RIG_BYTES, 0),
            0);
    }
    rig_add_vcpu(&rig);
    ring = ring_of(&rig, entry_count);
    while (outcome == GM_MMU_OK && written < entry_count) {
        outcome = rig_store_as(&rig, (uint64_t)written * PAGE, 4, 1);
        written += outcome == GM_MMU_OK;
    }
    assert_int_equal(outcome, GM_MMU_RING_FULL);
    assert_int_equal(gm_mmu_exit(rig.mmu)->outcome, GM_MMU_RING_FULL);
    assert_true(written >= 256 && written < entry_count);
    assert_int_equal(rig_store_as(&rig, 0, 4, 1), GM_MMU_RING_FULL);
    for (unsigned i = 0; i < written; i++) {
        assert_int_equal(ring[i].flags, KVM_DIRTY_GFN_F_DIRTY);
        assert_int_equal(ring[i].slot, i * PAGE / RIG_BYTES);
        assert_int_equal(ring[i].offset, i % (RIG_BYTES / PAGE));
        __atomic_store_n(&ring[i].flags, KVM_DIRTY_GFN_F_RESET, __ATOMIC_RELEASE);
    }
    assert_int_equal(rig_call_number(&rig, KVM_RESET_DIRTY_RINGS, 0), written);
    rig_store(&rig, 0, 1);
    rig_free(&rig);
}

static void ring_of_a_vm_without_is_null(void **state)
{
    /* Nothing to map. */
    struct rig rig = rig_new(NULL);

    (void)state;
    assert_null(ring_of(&rig, 0));
    rig_free(&rig);
}

static uint64_t claim_2m(void *opaque, gm_hva_t hva, uint64_t size_bytes)
{
    (void)opaque;
    (void)hva;
    (void)size_bytes;
    return 2u << 20;
}

static void log_of_memory_mapped_large_has_each_first_write(void **state)
{
    /* A large leaf was written before logging began: the small ones that it is split into have not been. */
    const uint64_t large = 2u << 20;

    (void)state;
    for (int log = GM_SOFT_LOG_PROTECT; log <= GM_SOFT_LOG_BUFFER; log++) {
        const struct gm_soft_options options = {
            .size = sizeof(options), .log = (enum gm_soft_log)log, .page_bytes = claim_2m};
        struct rig rig = rig_new(&options);
        uint8_t *memory =
            mmap(NULL, 2 * large, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        struct gm_soft_slot slot = {.size_bytes = large};
        uint64_t bitmap[8] = {0};
        struct gm_soft_stats stats;

        assert_true(memory != MAP_FAILED);
        slot.hva = ((uintptr_t)memory + large - 1) & ~(large - 1);
        assert_int_equal(gm_soft_set_slots(rig.soft, &slot, 1, NULL), 0);
        assert_int_equal(rig_store_as(&rig, 5 * PAGE, 8, 1), GM_MMU_OK);
        gm_soft_stats(rig.soft, &stats);
        assert_int_equal(stats.pages_2m, 1);
        slot.flags = KVM_MEM_LOG_DIRTY_PAGES;
        assert_int_equal(gm_soft_set_slots(rig.soft, &slot, 1, NULL), 0);
        assert_int_equal(rig_store_as(&rig, 7 * PAGE, 8, 1), GM_MMU_OK);
        assert_int_equal(rig_store_as(&rig, 5 * PAGE, 8, 2), GM_MMU_OK);
        assert_int_equal(rig_get_log(&rig, 0, bitmap), 0);
        assert_int_equal(bitmap[0], 1u << 5 | 1u << 7);
        assert_int_equal(rig_store_as(&rig, 9 * PAGE, 8, 1), GM_MMU_OK);
        assert_int_equal(rig_get_log(&rig, 0, bitmap), 0);
        assert_int_equal(bitmap[0], 1u << 9);
        rig_free(&rig);
        munmap(memory, 2 * large);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(log_of_memory_mapped_large_has_each_first_write),
        cmocka_unit_test(log_get_clears_what_it_gives),
        cmocka_unit_test(log_clear_by_hand_clears_the_bits_given),
        cmocka_unit_test(log_get_into_bad_memory_loses_nothing),
        cmocka_unit_test(log_bits_beyond_the_slot_are_left_alone),
        cmocka_unit_test(log_calls_without_memory_are_enomem_and_lose_nothing),
        cmocka_unit_test(log_clear_of_more_than_there_is_takes_no_memory),
        cmocka_unit_test(log_get_has_what_a_running_vcpu_has_written),
        cmocka_unit_test(ring_takes_each_page_once_until_reset),
        cmocka_unit_test(ring_and_run_area_in_a_file_are_where_kvm_has_them),
        cmocka_unit_test(run_area_in_a_file_that_will_not_do_stays_as_it_was),
        cmocka_unit_test(ring_that_is_full_stops_the_vcpu),
        cmocka_unit_test(ring_of_a_vm_without_is_null),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
