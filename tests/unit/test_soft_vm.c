/* unit/test_soft_vm.c - gm_vm_open() on the software KVM: by choice, or without a /dev/kvm. */
#include "base/rcu.h"
#include "model/faults.h"

#include <guestmem/guestmem.h>
#include <guestmem/soft_ioctl.h>

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <cmocka.h>

#define PAGE ((uint64_t)4096)

/* RAM of 16 pages at 0. */
static struct gm_region *add_ram(struct gm_vm *vm)
{
    struct gm_region *ram;
    struct gm_ram *block;

    assert_int_equal(gm_ram_new_anon(16 * PAGE, NULL, &block, NULL), 0);
    assert_int_equal(gm_region_new_ram(gm_vm_map(vm), "ram", block, &ram), 0);
    assert_int_equal(gm_region_add(gm_vm_memory_root(vm), ram, NULL), 0);
    gm_ram_put(block);
    return ram;
}

static void expect_software(struct gm_vm *vm)
{
    assert_non_null(gm_vm_soft(vm));
    assert_int_equal(gm_vm_fd(vm), -1);
    assert_int_equal(gm_vm_system_fd(vm), -1);
}

static void vm_on_soft_runs_accesses_on_its_map(void **state)
{
    /* The five lines of a VM on /dev/kvm, with a vCPU of the software KVM. */
    const struct gm_vm_options options = {.size = sizeof(options), .accel = GM_ACCEL_SOFT};
    struct gm_soft_vcpu *vcpu;
    struct gm_region *ram;
    struct gm_mmu *mmu;
    struct gm_vm *vm;
    uint64_t value = 0;

    (void)state;
    assert_int_equal(gm_vm_open(&options, &vm, NULL), 0);
    expect_software(vm);
    ram = add_ram(vm);
    assert_int_equal(gm_slots_list(gm_vm_slots(vm), NULL, 0), 1);
    assert_int_equal(gm_soft_vcpu_new(gm_vm_soft(vm), 0, &vcpu), 0);
    memset(gm_soft_vcpu_run_page(vcpu), 0xff, gm_soft_system_ioctl(KVM_GET_VCPU_MMAP_SIZE, 0));
    mmu = gm_soft_vcpu_mmu(vcpu);
    assert_int_equal(gm_mmu_enter(mmu), GM_MMU_OK);
    assert_int_equal(gm_mmu_store(mmu, 5 * PAGE, 8, 42), GM_MMU_OK);
    gm_mmu_leave(mmu);
    memcpy(&value, (uint8_t *)gm_ram_hva(gm_region_ram(ram)) + 5 * PAGE, 8);
    assert_int_equal(value, 42);
    assert_int_equal(gm_region_set_enabled(ram, false, NULL), 0);
    assert_int_equal(gm_mmu_enter(mmu), GM_MMU_OK);
    assert_int_equal(gm_mmu_load(mmu, 5 * PAGE, 8, &value), GM_MMU_MMIO);
    assert_int_equal(gm_vm_close(vm, NULL), -EBUSY); /* a vCPU is left, and all goes on */
    assert_int_equal(gm_region_set_enabled(ram, true, NULL), 0);
    assert_int_equal(gm_mmu_enter(mmu), GM_MMU_OK);
    assert_int_equal(gm_mmu_load(mmu, 5 * PAGE, 8, &value), GM_MMU_OK);
    gm_mmu_leave(mmu);
    assert_int_equal(value, 42);
    gm_soft_vcpu_free(vcpu);
    gm_region_put(ram);
    assert_int_equal(gm_vm_close(vm, NULL), 0);
}

static void vm_on_soft_has_vcpus_without_descriptors(void **state)
{
    /* They are the VM's, and go with it; one of gm_soft_vcpu_new() beside them is not. */
    const struct gm_vm_options options = {.size = sizeof(options), .accel = GM_ACCEL_SOFT};
    struct gm_vcpu *vcpu = NULL;
    struct gm_vcpu *other = NULL;
    struct gm_soft_vcpu *apart;
    struct gm_diag diag = {0};
    struct gm_vm *vm;

    (void)state;
    assert_int_equal(gm_vm_open(&options, &vm, NULL), 0);
    assert_int_equal(gm_vcpu_attach(vm, 0, (struct kvm_run *)&diag, NULL, NULL, &vcpu, &diag),
                     -EOPNOTSUPP);
    assert_non_null(strstr(diag.text, "gm_vcpu_new"));
    assert_null(vcpu);
    assert_int_equal(gm_vcpu_new(vm, 3, &vcpu, &diag), 0);
    assert_int_equal(gm_vcpu_fd(vcpu), -1);
    assert_ptr_equal(gm_vcpu_kvm_run(vcpu), gm_soft_vcpu_run_page(gm_vcpu_soft(vcpu)));
    assert_int_equal(gm_vcpu_new(vm, 3, &other, &diag), -EEXIST);
    assert_int_equal(gm_vcpu_new(vm, 4096, &other, &diag), -EINVAL);
    assert_int_equal(gm_vm_system_ioctl(vm, KVM_GET_API_VERSION, 0), KVM_API_VERSION);
    assert_int_equal(gm_vm_ioctl(vm, KVM_CHECK_EXTENSION, KVM_CAP_USER_MEMORY), 1);
    assert_int_equal(gm_vm_ioctl(vm, KVM_RUN, 0), -ENOTTY);
    assert_int_equal(gm_vcpu_ioctl(vcpu, KVM_RUN, 1), -EINVAL);
    assert_int_equal(gm_soft_vcpu_new(gm_vm_soft(vm), 4, &apart), 0);
    assert_int_equal(gm_vm_close(vm, NULL), -EBUSY);
    gm_soft_vcpu_free(apart);
    assert_int_equal(gm_vm_close(vm, NULL), 0);
}

static void vm_auto_without_a_device_is_software(void **state)
{
    /* No such file, and a device that no driver answers for; any other trouble is an error. */
    struct gm_vm_options options = {
        .size = sizeof(options), .accel = GM_ACCEL_AUTO, .device = "/dev/no-such-kvm"};
    char node[] = "/tmp/guestmem-test-XXXXXX";
    struct gm_diag diag = {.code = 1};
    struct gm_vm *vm;

    (void)state;
    assert_int_equal(gm_vm_open(&options, &vm, &diag), 0);
    assert_int_equal(diag.code, 1); /* nothing failed */
    expect_software(vm);
    assert_int_equal(gm_vm_close(vm, NULL), 0);
    options.device = "/dev/null";
    assert_int_equal(gm_vm_open(&options, &vm, &diag), -EOPNOTSUPP);
    assert_non_null(strstr(diag.text, "/dev/null is not KVM"));
    options.accel = GM_ACCEL_KVM;
    options.device = "/dev/no-such-kvm";
    assert_int_equal(gm_vm_open(&options, &vm, &diag), -ENOENT);
    assert_non_null(strstr(diag.text, "/dev/no-such-kvm"));
    /* A node that leads nowhere takes privilege to make. */
    assert_non_null(mkdtemp(node));
    assert_int_equal(chdir(node), 0);
    if (mknod("kvm", S_IFCHR | 0600, makedev(511, 255)) == 0) {
        options.accel = GM_ACCEL_AUTO;
        options.device = "kvm";
        assert_int_equal(gm_vm_open(&options, &vm, NULL), 0);
        expect_software(vm);
        assert_int_equal(gm_vm_close(vm, NULL), 0);
        assert_int_equal(unlink("kvm"), 0);
    }
    assert_int_equal(chdir("/"), 0);
    assert_int_equal(rmdir(node), 0);
}

static void vm_auto_with_a_device_is_on_it(void **state)
{
    /* Where /dev/kvm opens. */
    const struct gm_vm_options options = {.size = sizeof(options), .accel = GM_ACCEL_AUTO};
    struct gm_vm *vm;

    (void)state;
    if (access("/dev/kvm", R_OK | W_OK) != 0) {
        skip();
    }
    assert_int_equal(gm_vm_open(&options, &vm, NULL), 0);
    assert_null(gm_vm_soft(vm));
    assert_true(gm_vm_fd(vm) >= 0);
    assert_int_equal(gm_vm_close(vm, NULL), 0);
}

static void vm_options_of_the_soft_kvm_are_taken_or_refused(void **state)
{
    /* Its options are handed on; an accel that is none, or cannot be attached to, is refused. */
    struct gm_soft_options soft = {.size = sizeof(soft), .gpa_bits = 36};
    struct gm_vm_options options = {.size = sizeof(options),
                                    .accel = GM_ACCEL_SOFT,
                                    .soft = &soft,
                                    .max_slots = 1,
                                    .no_manual_protect = true};
    struct gm_diag diag = {0};
    struct gm_region *ram;
    struct gm_vm *vm;

    (void)state;
    assert_int_equal(gm_vm_open(&options, &vm, NULL), 0);
    ram = add_ram(vm);
    assert_int_equal(gm_region_set_addr(ram, 1ull << 36, &diag), -EINVAL);
    assert_int_equal(gm_region_set_addr(ram, (1ull << 36) - 16 * PAGE, NULL), 0);
    gm_region_put(ram);
    assert_int_equal(gm_vm_close(vm, NULL), 0);
    soft.gpa_bits = 20;
    assert_int_equal(gm_vm_open(&options, &vm, &diag), -EINVAL);
    assert_non_null(strstr(diag.text, "20 bits"));
    options.accel = (enum gm_accel)3;
    assert_int_equal(gm_vm_open(&options, &vm, &diag), -EINVAL);
    options.accel = GM_ACCEL_SOFT;
    assert_int_equal(gm_vm_attach(0, 0, &options, &vm, &diag), -EINVAL);
    assert_non_null(strstr(diag.text, "accel"));
}

/* The log of the one slot, as the VM has it. */
static uint64_t get_log(struct gm_vm *vm)
{
    uint64_t bitmap = 0;
    struct kvm_dirty_log log = {.dirty_bitmap = &bitmap};

    assert_int_equal(gm_soft_vm_ioctl(gm_vm_soft(vm), KVM_GET_DIRTY_LOG, (unsigned long)&log), 0);
    return bitmap;
}

static void vm_on_soft_without_manual_protection_logs_as_well(void **state)
{
    /* Harvests come to the same in both ways of clearing logs; only what is asked beside differs. */
    for (unsigned i = 0; i < 2; i++) {
        const struct gm_vm_options options = {
            .size = sizeof(options), .accel = GM_ACCEL_SOFT, .no_manual_protect = i != 0};
        struct gm_harvest *harvest;
        struct gm_soft_vcpu *vcpu;
        struct gm_region *ram;
        struct gm_txn *txn;
        struct gm_mmu *mmu;
        struct gm_vm *vm;

        (void)state;
        assert_int_equal(gm_vm_open(&options, &vm, NULL), 0);
        ram = add_ram(vm);
        assert_int_equal(gm_soft_vcpu_new(gm_vm_soft(vm), 0, &vcpu), 0);
        mmu = gm_soft_vcpu_mmu(vcpu);
        assert_int_equal(gm_txn_begin(gm_vm_map(vm), &txn), 0);
        assert_int_equal(gm_txn_set_log(txn, ram, 0, true), 0);
        assert_int_equal(gm_txn_commit(txn, NULL), 0);
        for (unsigned round = 0; round < 3; round++) {
            assert_int_equal(gm_mmu_enter(mmu), GM_MMU_OK);
            assert_int_equal(gm_mmu_store(mmu, 3 * PAGE, 4, round), GM_MMU_OK);
            assert_int_equal(gm_mmu_store(mmu, round * PAGE, 4, round), GM_MMU_OK);
            gm_mmu_leave(mmu);
            assert_int_equal(gm_region_log_sync(ram, 3 * PAGE, PAGE), 0);
            assert_int_equal(gm_harvest_begin(gm_region_ram(ram), 0, 0, 16 * PAGE, &harvest), 0);
            /* Pages beside those asked for may be reported, each again until they are cleared. */
            assert_in_range(gm_harvest_page_count(harvest), 2, 4);
            gm_harvest_commit(harvest);
        }
        assert_int_equal(gm_mmu_enter(mmu), GM_MMU_OK);
        assert_int_equal(gm_mmu_store(mmu, 9 * PAGE, 4, 1), GM_MMU_OK);
        gm_mmu_leave(mmu);
        assert_true((get_log(vm) & 1u << 9) != 0);
        assert_int_equal((get_log(vm) & 1u << 9) != 0, !options.no_manual_protect);
        gm_soft_vcpu_free(vcpu);
        gm_region_put(ram);
        assert_int_equal(gm_vm_close(vm, NULL), 0);
    }
}

static void vm_on_soft_without_memory_leaves_nothing(void **state)
{
    /* Each allocation fails once: -ENOMEM, nothing leaks, and at last it works. */
    struct faults faults = {0};
    const struct gm_allocator allocator = faults_allocator(&faults);
    const struct gm_map_options map = {.size = sizeof(map), .allocator = &allocator};
    const struct gm_vm_options options = {
        .size = sizeof(options), .map = &map, .accel = GM_ACCEL_SOFT};
    unsigned failures = 0;
    struct gm_diag diag;
    struct gm_vm *vm;

    (void)state;
    for (;; failures++) {
        int rc;

        faults_arm(&faults, failures + 1);
        rc = gm_vm_open(&options, &vm, &diag);
        if (rc == 0) {
            break;
        }
        assert_int_equal(rc, -ENOMEM);
        assert_int_equal(diag.code, -ENOMEM);
        rcu_drain();
        assert_int_equal(faults_live(&faults), 0);
    }
    faults_disarm(&faults);
    assert_true(failures > 8);
    assert_int_equal(gm_vm_close(vm, NULL), 0);
    rcu_drain();
    assert_int_equal(faults_live(&faults), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(vm_on_soft_runs_accesses_on_its_map),
        cmocka_unit_test(vm_on_soft_has_vcpus_without_descriptors),
        cmocka_unit_test(vm_auto_without_a_device_is_software),
        cmocka_unit_test(vm_auto_with_a_device_is_on_it),
        cmocka_unit_test(vm_options_of_the_soft_kvm_are_taken_or_refused),
        cmocka_unit_test(vm_on_soft_without_manual_protection_logs_as_well),
        cmocka_unit_test(vm_on_soft_without_memory_leaves_nothing),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
