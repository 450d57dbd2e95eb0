/* unit/test_soft_open.c - opening and closing software VMs and vCPUs; options; capabilities. */
#include "soft_rig.h"

#include "base/rcu.h"
#include "model/faults.h"

#include <errno.h>

static void open_bad_option_is_einval_with_a_sentence(void **state)
{
    /* Each option has a range; the sentence names what is out of it, and nothing is made. */
    const struct gm_soft_options bad[] = {
        {.size = sizeof(bad[0]) - 1},
        {.size = sizeof(bad[0]), .gpa_bits = 35},
        {.size = sizeof(bad[0]), .gpa_bits = 53},
        {.size = sizeof(bad[0]), .ept_levels = 3},
        {.size = sizeof(bad[0]), .ept_levels = 6},
        {.size = sizeof(bad[0]), .ept_levels = 4, .gpa_bits = 49},
        {.size = sizeof(bad[0]), .log = (enum gm_soft_log)2},
        {.size = sizeof(bad[0]), .memory_type = 2},
        {.size = sizeof(bad[0]), .memory_type = 7},
    };

    (void)state;
    for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        struct gm_soft *soft = (struct gm_soft *)&bad[i];
        struct gm_diag diag = {0};

        assert_int_equal(gm_soft_open(&bad[i], &soft, &diag), -EINVAL);
        assert_ptr_equal(soft, &bad[i]);
        assert_int_equal(diag.code, -EINVAL);
        assert_true(diag.text[0] != '\0');
        assert_int_equal(gm_soft_open(&bad[i], &soft, NULL), -EINVAL);
    }
}

static void open_each_kind_of_vm_works(void **state)
{
    /* Both numbers of levels, both ways of logging, each memory type, the narrowest addresses. */
    const struct gm_soft_options good[] = {
        {.size = sizeof(good[0])},
        {.size = sizeof(good[0]), .gpa_bits = 36},
        {.size = sizeof(good[0]), .gpa_bits = 48, .ept_levels = 5},
        {.size = sizeof(good[0]), .ept_levels = 4},
        {.size = sizeof(good[0]), .log = GM_SOFT_LOG_BUFFER, .eager_split = true},
        {.size = sizeof(good[0]), .memory_type = 1},
        {.size = sizeof(good[0]), .memory_type = 4, .intel_private_slots = true},
    };

    (void)state;
    for (unsigned i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
        struct rig rig = rig_new(&good[i]);

        *rig_word(&rig, 0) = 0x1122334455667788;
        assert_int_equal(rig_set(&rig, 0, 0, PAGE, PAGE, 0), 0);
        assert_int_equal(rig_load(&rig, PAGE), 0x1122334455667788);
        rig_free(&rig);
    }
}

static void open_with_few_bits_takes_no_slot_beyond(void **state)
{
    /* A slot ends at or below 2^gpa_bits; 4 levels mean 48 bits. */
    const struct gm_soft_options narrow = {.size = sizeof(narrow), .gpa_bits = 40};
    const struct gm_soft_options shallow = {.size = sizeof(shallow), .ept_levels = 4};
    struct rig rig = rig_new(&narrow);

    (void)state;
    assert_int_equal(rig_set(&rig, 0, 0, 1ull << 40, PAGE, 0), -EINVAL);
    assert_int_equal(rig_set(&rig, 0, 0, (1ull << 40) - 2 * PAGE, 3 * PAGE, 0), -EINVAL);
    assert_int_equal(rig_set(&rig, 0, 0, (1ull << 40) - PAGE, PAGE, 0), 0);
    rig_free(&rig);
    rig = rig_new(&shallow);
    assert_int_equal(rig_set(&rig, 0, 0, (1ull << 48) - PAGE, PAGE, 0), 0);
    assert_int_equal(rig_set(&rig, 1, 0, 1ull << 48, PAGE, 0), -EINVAL);
    rig_free(&rig);
}

static void close_with_a_vcpu_is_ebusy(void **state)
{
    /* Nothing has changed then: the vCPU goes on. */
    struct rig rig = rig_new(NULL);

    (void)state;
    assert_int_equal(gm_soft_close(rig.soft), -EBUSY);
    assert_int_equal(rig_set(&rig, 0, 0, 0, PAGE, 0), 0);
    rig_store(&rig, 8, 5);
    assert_int_equal(*rig_word(&rig, 8), 5);
    rig_free(&rig);
    assert_int_equal(gm_soft_close(NULL), 0);
    gm_soft_vcpu_free(NULL);
}

static void vcpu_id_taken_or_too_large_is_refused(void **state)
{
    /* Ids are 0 to 4095, each once at a time. */
    struct rig rig = rig_new(NULL);
    struct gm_soft_vcpu *other = NULL;

    (void)state;
    assert_int_equal(gm_soft_vcpu_new(rig.soft, 0, &other), -EEXIST);
    assert_int_equal(gm_soft_vcpu_new(rig.soft, 4096, &other), -EINVAL);
    assert_int_equal(gm_soft_vcpu_new(rig.soft, UINT32_MAX, &other), -EINVAL);
    assert_null(other);
    assert_int_equal(gm_soft_vcpu_new(rig.soft, 4095, &other), 0);
    gm_soft_vcpu_free(other);
    assert_int_equal(gm_soft_vcpu_new(rig.soft, 4095, &other), 0);
    gm_soft_vcpu_free(other);
    rig_free(&rig);
}

static void open_and_vcpu_without_memory_leave_nothing(void **state)
{
    /* Each allocation fails once: -ENOMEM, nothing leaks, and at last it works. */
    struct faults faults = {0};
    const struct gm_allocator allocator = faults_allocator(&faults);
    const struct gm_soft_options options = {
        .size = sizeof(options), .allocator = &allocator, .log = GM_SOFT_LOG_BUFFER};
    struct gm_soft_vcpu *vcpu = NULL;
    struct gm_soft *soft = NULL;
    unsigned failures = 0;
    struct gm_diag diag;
    int64_t live;
    int rc;

    (void)state;
    for (;; failures++) {
        faults_arm(&faults, failures + 1);
        rc = gm_soft_open(&options, &soft, &diag);
        if (rc == 0) {
            break;
        }
        assert_int_equal(rc, -ENOMEM);
        assert_int_equal(diag.code, -ENOMEM);
        assert_int_equal(faults_live(&faults), 0);
    }
    assert_true(failures >= 4);
    live = faults_live(&faults);
    for (failures = 0;; failures++) {
        faults_arm(&faults, failures + 1);
        rc = gm_soft_vcpu_new(soft, 0, &vcpu);
        if (rc == 0) {
            break;
        }
        assert_int_equal(rc, -ENOMEM);
        assert_null(vcpu);
        assert_int_equal(faults_live(&faults), live);
    }
    assert_true(failures >= 2);
    faults_disarm(&faults);
    gm_soft_vcpu_free(vcpu);
    assert_int_equal(gm_soft_close(soft), 0);
    rcu_drain();
    assert_int_equal(faults_live(&faults), 0);
}

static void stats_of_a_new_vm_are_zeroes(void **state)
{
    /* A slot, a touched page and an MMIO access are then counted. */
    struct rig rig = rig_new(NULL);
    struct gm_soft_stats before;
    struct gm_soft_stats after;
    uint64_t value;

    (void)state;
    gm_soft_stats(rig.soft, &before);
    assert_int_equal(before.slots, 0);
    assert_int_equal(before.pages_4k + before.pages_2m + before.pages_1g, 0);
    assert_int_equal(before.faults, 0);
    assert_true(before.table_pages_max >= 64);
    assert_int_equal(rig_set(&rig, 0, 0, 0, 8 * PAGE, 0), 0);
    assert_int_equal(rig_set(&rig, 0x10003, 0, 0, PAGE, 0), 0);
    rig_store(&rig, 0x10, 1);
    assert_int_equal(rig_load_as(&rig, 1 << 20, 4, &value), GM_MMU_MMIO);
    gm_soft_stats(rig.soft, &after);
    assert_int_equal(after.slots, 2);
    assert_true(after.generation > before.generation);
    assert_int_equal(after.pages_4k, 1);
    assert_int_equal(after.mmio, 1);
    assert_true(after.faults >= 2 && after.faults_fixed >= 1);
    assert_true(after.table_pages > before.table_pages);
    assert_true(after.holds > before.holds);
    rig_free(&rig);
}

static void extensions_are_those_of_the_soft_kvm(void **state)
{
    /* The values of Linux on x86; what is not there is 0; the system and a VM say the same. */
    const struct {
        uint64_t number;
        long value;
    } expected[] = {
        {KVM_CAP_USER_MEMORY, 1},
        {KVM_CAP_USER_MEMORY2, 1},
        {KVM_CAP_DESTROY_MEMORY_REGION_WORKS, 1},
        {KVM_CAP_JOIN_MEMORY_REGIONS_WORKS, 1},
        {KVM_CAP_NR_MEMSLOTS, 32764},
        {KVM_CAP_MULTI_ADDRESS_SPACE, 2},
        {KVM_CAP_READONLY_MEM, 1},
        {KVM_CAP_SYNC_MMU, 1},
        {KVM_CAP_MMU_SHADOW_CACHE_CONTROL, 1},
        {KVM_CAP_SET_TSS_ADDR, 1},
        {KVM_CAP_SET_IDENTITY_MAP_ADDR, 1},
        {KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2, 3},
        {KVM_CAP_DIRTY_LOG_RING, 65536 * 16},
        {KVM_CAP_DIRTY_LOG_RING_ACQ_REL, 65536 * 16},
        {KVM_CAP_DIRTY_LOG_RING_WITH_BITMAP, 1},
        {KVM_CAP_MEMORY_ATTRIBUTES, 0xf},
        {KVM_CAP_MEMORY_FAULT_INFO, 1},
        {KVM_CAP_GUEST_MEMFD, 1},
        {KVM_CAP_PRE_FAULT_MEMORY, 1},
        {KVM_CAP_CHECK_EXTENSION_VM, 1},
        {KVM_CAP_ENABLE_CAP_VM, 1},
        {KVM_CAP_MAX_VCPUS, 4096},
        {KVM_CAP_MAX_VCPU_ID, 4096},
        {KVM_CAP_IRQCHIP, 1},
        {KVM_CAP_IRQFD, 1},
        {KVM_CAP_IRQFD_RESAMPLE, 1},
        {KVM_CAP_IOEVENTFD, 1},
        {KVM_CAP_IOEVENTFD_NO_LENGTH, 1},
        {KVM_CAP_IOEVENTFD_ANY_LENGTH, 1},
        {KVM_CAP_COALESCED_MMIO, 2},
        {KVM_CAP_COALESCED_PIO, 1},
        {KVM_CAP_NESTED_STATE, 0},
        {100000, 0},
        {UINT64_MAX, 0},
        {(1ull << 32) + KVM_CAP_USER_MEMORY, 0},
    };
    struct rig rig = rig_new_without_vcpu(NULL);

    (void)state;
    for (unsigned i = 0; i < sizeof(expected) / sizeof(expected[0]); i++) {
        long value = gm_soft_system_ioctl(KVM_CHECK_EXTENSION, expected[i].number);

        assert_int_equal(value, expected[i].value);
        assert_int_equal(rig_call_number(&rig, KVM_CHECK_EXTENSION, expected[i].number), value);
    }
    assert_in_range(gm_soft_system_ioctl(KVM_CHECK_EXTENSION, KVM_CAP_NR_VCPUS), 1, 4096);
    assert_int_equal(gm_soft_system_ioctl(KVM_GET_VCPU_MMAP_SIZE, 0), 3 * PAGE);
    rig_free(&rig);
}

static void page_limit_is_what_was_set(void **state)
{
    /* KVM_GET_NR_MMU_PAGES gives back what KVM_SET_NR_MMU_PAGES took. */
    struct rig rig = rig_new_without_vcpu(NULL);

    (void)state;
    assert_true(rig_call_number(&rig, KVM_GET_NR_MMU_PAGES, 0) >= 64);
    assert_int_equal(rig_call_number(&rig, KVM_SET_NR_MMU_PAGES, 100), 0);
    assert_int_equal(rig_call_number(&rig, KVM_GET_NR_MMU_PAGES, 0), 100);
    assert_int_equal(rig_call_number(&rig, KVM_SET_NR_MMU_PAGES, 63), -EINVAL);
    assert_int_equal(rig_call_number(&rig, KVM_GET_NR_MMU_PAGES, 0), 100);
    rig_free(&rig);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(open_bad_option_is_einval_with_a_sentence),
        cmocka_unit_test(open_each_kind_of_vm_works),
        cmocka_unit_test(open_with_few_bits_takes_no_slot_beyond),
        cmocka_unit_test(close_with_a_vcpu_is_ebusy),
        cmocka_unit_test(vcpu_id_taken_or_too_large_is_refused),
        cmocka_unit_test(open_and_vcpu_without_memory_leave_nothing),
        cmocka_unit_test(stats_of_a_new_vm_are_zeroes),
        cmocka_unit_test(extensions_are_those_of_the_soft_kvm),
        cmocka_unit_test(page_limit_is_what_was_set),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
