/*
 * unit/test_soft_memfd.c - KVM_SET_USER_MEMORY_REGION2, guest memfds, attributes, and faulting in
 * advance. What is expected is in Linux's api.rst; no kernel here answers all of it.
 */
#include "soft_rig.h"

#include "base/rcu.h"
#include "model/faults.h"
#include "soft/soft.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#define FILE_BYTES (16u * PAGE)
#define PRIVATE KVM_MEMORY_ATTRIBUTE_PRIVATE

static long create_memfd(struct rig *rig, uint64_t size_bytes, uint64_t flags)
{
    const struct kvm_create_guest_memfd create = {.size = size_bytes, .flags = flags};

    return rig_call(rig, KVM_CREATE_GUEST_MEMFD, &create);
}

static int new_memfd(struct rig *rig)
{
    long fd = create_memfd(rig, FILE_BYTES, 0);

    assert_true(fd >= 0);
    return (int)fd;
}

static struct kvm_userspace_memory_region2 region_at(struct rig *rig, uint32_t slot, uint64_t gpa,
                                                     int fd, uint64_t offset)
{
    return (struct kvm_userspace_memory_region2){
        .slot = slot,
        .flags = KVM_MEM_GUEST_MEMFD,
        .guest_phys_addr = gpa,
        .memory_size = 4 * PAGE,
        .userspace_addr = (uintptr_t)rig->memory,
        .guest_memfd = (uint32_t)fd,
        .guest_memfd_offset = offset,
    };
}

static long set2(struct rig *rig, struct kvm_userspace_memory_region2 region)
{
    return rig_call(rig, KVM_SET_USER_MEMORY_REGION2, &region);
}

static long delete2(struct rig *rig, uint32_t slot)
{
    return set2(rig, (struct kvm_userspace_memory_region2){.slot = slot});
}

static long set_attributes(struct rig *rig, uint64_t gpa, uint64_t size_bytes, uint64_t attributes)
{
    const struct kvm_memory_attributes wanted = {
        .address = gpa, .size = size_bytes, .attributes = attributes};

    return rig_call(rig, KVM_SET_MEMORY_ATTRIBUTES, &wanted);
}

/* How often guest memfds are mapped in this process. */
static unsigned mapping_count(void)
{
    FILE *maps = fopen("/proc/self/maps", "re");
    unsigned count = 0;
    char line[512];

    assert_non_null(maps);
    while (fgets(line, sizeof(line), maps) != NULL) {
        count += strstr(line, "memfd:guest_memfd") != NULL;
    }
    fclose(maps);
    return count;
}

static void memfd_create_checks_size_and_flags(void **state)
{
    /* Whole pages, flags that are there (all of what they say holds without them); the file is the caller's, closes on exec and cannot be resized. */
    struct rig rig = rig_new_without_vcpu(NULL);
    struct stat status;
    int fd;

    (void)state;
    assert_int_equal(create_memfd(&rig, 0, 0), -EINVAL);
    assert_int_equal(create_memfd(&rig, PAGE + 1, 0), -EINVAL);
    assert_int_equal(create_memfd(&rig, 1ull << 63, 0), -EINVAL);
    assert_int_equal(create_memfd(&rig, PAGE, 1u << 2), -EINVAL);
    assert_int_equal(rig_call(&rig, KVM_CREATE_GUEST_MEMFD, NULL), -EFAULT);
    fd = new_memfd(&rig);
    assert_int_equal(fstat(fd, &status), 0);
    assert_int_equal(status.st_size, FILE_BYTES);
    assert_int_equal(fcntl(fd, F_GETFD), FD_CLOEXEC);
    assert_int_equal(ftruncate(fd, PAGE), -1);
    assert_int_equal(errno, EPERM);
    close(fd);
    rig_free(&rig);
}

static void region2_without_a_memfd_is_as_region(void **state)
{
    /* The older call's errors and effects; what the padding holds does not matter. */
    struct rig rig = rig_new(NULL);
    struct kvm_userspace_memory_region2 region = region_at(&rig, 0, 0, -1, 5);

    (void)state;
    memset(region.pad2, 0xff, sizeof(region.pad2));
    region.pad1 = 7;
    region.flags = KVM_MEM_LOG_DIRTY_PAGES;
    assert_int_equal(set2(&rig, region), 0);
    region.memory_size += PAGE;
    assert_int_equal(set2(&rig, region), -EINVAL);
    region.slot = 1;
    assert_int_equal(set2(&rig, region), -EEXIST);
    region.flags = 1u << 3;
    assert_int_equal(set2(&rig, region), -EINVAL);
    assert_int_equal(rig_call(&rig, KVM_SET_USER_MEMORY_REGION2, NULL), -EFAULT);
    assert_int_equal(rig_set(&rig, 1, KVM_MEM_GUEST_MEMFD, 1 << 20, PAGE, 0), -EINVAL);
    rig_store(&rig, 8, 77);
    assert_int_equal(*rig_word(&rig, 8), 77);
    assert_int_equal(delete2(&rig, 0), 0);
    assert_int_equal(delete2(&rig, 0), -EINVAL);
    rig_free(&rig);
}

static void bind_bad_file_or_range_is_refused(void **state)
{
    /* Each thing that can be wrong with the file; the slot can be made all the same later. */
    struct rig rig = rig_new_without_vcpu(NULL);
    struct rig other = rig_new_without_vcpu(NULL);
    int plain = memfd_create("plain", MFD_CLOEXEC);
    int theirs = new_memfd(&other);
    int fd = new_memfd(&rig);
    struct kvm_userspace_memory_region2 region = region_at(&rig, 0, 0, fd, 0);

    (void)state;
    assert_int_equal(ftruncate(plain, FILE_BYTES), 0);
    assert_int_equal(set2(&rig, region_at(&rig, 0, 0, -1, 0)), -EBADF);
    assert_int_equal(set2(&rig, region_at(&rig, 0, 0, 1000000, 0)), -EBADF);
    assert_int_equal(set2(&rig, region_at(&rig, 0, 0, plain, 0)), -EINVAL);
    assert_int_equal(set2(&rig, region_at(&rig, 0, 0, theirs, 0)), -EINVAL);
    assert_int_equal(set2(&rig, region_at(&rig, 0, 0, fd, 0x800)), -EINVAL);
    assert_int_equal(set2(&rig, region_at(&rig, 0, 0, fd, FILE_BYTES - 3 * PAGE)), -EINVAL);
    assert_int_equal(set2(&rig, region_at(&rig, 0, 0, fd, FILE_BYTES)), -EINVAL);
    assert_int_equal(set2(&rig, region_at(&rig, 0, 0, fd, 0xfffffffffffff000)), -EINVAL);
    region.flags |= KVM_MEM_LOG_DIRTY_PAGES;
    assert_int_equal(set2(&rig, region), -EINVAL);
    region.flags = KVM_MEM_GUEST_MEMFD | KVM_MEM_READONLY;
    assert_int_equal(set2(&rig, region), -EINVAL);
    assert_int_equal(mapping_count(), 0);
    assert_int_equal(set2(&rig, region_at(&rig, 0, 0, fd, FILE_BYTES - 4 * PAGE)), 0);
    assert_int_equal(mapping_count(), 1);
    close(plain);
    close(theirs);
    close(fd);
    rig_free(&other);
    rig_free(&rig);
    assert_int_equal(mapping_count(), 0);
}

static void bind_error_of_the_slot_comes_before_that_of_the_file(void **state)
{
    /* As Linux, which opens the file last: overlaps and changes are told first. */
    struct rig rig = rig_new_without_vcpu(NULL);
    int fd = new_memfd(&rig);
    struct kvm_userspace_memory_region2 bad = region_at(&rig, 1, PAGE, -1, 0);

    (void)state;
    assert_int_equal(set2(&rig, region_at(&rig, 0, 0, fd, 0)), 0);
    assert_int_equal(set2(&rig, bad), -EEXIST);
    bad.slot = 0;
    assert_int_equal(set2(&rig, bad), -EINVAL);
    bad.slot = 1;
    bad.guest_phys_addr = 0x800;
    assert_int_equal(set2(&rig, bad), -EINVAL);
    bad.guest_phys_addr = 1 << 20;
    assert_int_equal(set2(&rig, bad), -EBADF);
    bad.memory_size = 0; /* deletes, and looks at no file */
    assert_int_equal(set2(&rig, bad), -EINVAL);
    bad.slot = 0;
    assert_int_equal(set2(&rig, bad), 0);
    close(fd);
    rig_free(&rig);
}

static void bind_part_that_is_bound_is_eexist_until_its_slot_goes(void **state)
{
    /* Any overlap is refused; what lies beside it is not; after the delete it is free at once. */
    struct rig rig = rig_new_without_vcpu(NULL);
    int fd = new_memfd(&rig);
    int again = dup(fd);

    (void)state;
    assert_int_equal(set2(&rig, region_at(&rig, 0, 0, fd, 4 * PAGE)), 0);
    assert_int_equal(set2(&rig, region_at(&rig, 1, 1 << 20, fd, 4 * PAGE)), -EEXIST);
    assert_int_equal(set2(&rig, region_at(&rig, 1, 1 << 20, fd, PAGE)), -EEXIST);
    assert_int_equal(set2(&rig, region_at(&rig, 1, 1 << 20, again, 7 * PAGE)), -EEXIST);
    assert_int_equal(set2(&rig, region_at(&rig, 1, 1 << 20, fd, 0)), 0);
    assert_int_equal(set2(&rig, region_at(&rig, 2, 2 << 20, again, 8 * PAGE)), 0);
    for (unsigned i = 0; i < 3; i++) {
        assert_int_equal(delete2(&rig, 0), 0);
        assert_int_equal(set2(&rig, region_at(&rig, 0, 0, fd, 4 * PAGE)), 0);
    }
    /* A slot with private memory cannot change, not even to the same. */
    assert_int_equal(set2(&rig, region_at(&rig, 0, 0, fd, 4 * PAGE)), -EINVAL);
    assert_int_equal(set2(&rig, region_at(&rig, 0, 3 << 20, fd, 12 * PAGE)), -EINVAL);
    assert_int_equal(rig_set(&rig, 0, 0, 0, 4 * PAGE, 0), -EINVAL);
    rcu_domain_drain(rig.soft->core.deferred);
    assert_int_equal(mapping_count(), 3);
    close(fd);
    close(again);
    rig_free(&rig);
    assert_int_equal(mapping_count(), 0);
}

static void private_pages_lie_in_the_memfd(void **state)
{
    /* Made private, a page's bytes are the file's; made shared again, they are the user's. */
    struct rig rig = rig_new(NULL);
    int fd = new_memfd(&rig);
    uint64_t *file = mmap(NULL, FILE_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    const uint64_t word = PAGE / sizeof(*file);

    (void)state;
    assert_true(file != MAP_FAILED);
    assert_int_equal(set2(&rig, region_at(&rig, 0, 0, fd, 8 * PAGE)), 0);
    rig_store(&rig, PAGE, 1);
    assert_int_equal(set_attributes(&rig, PAGE, PAGE, PRIVATE), 0);
    assert_int_equal(rig_load(&rig, PAGE), 0);
    rig_store(&rig, PAGE, 2);
    assert_int_equal(file[9 * word], 2);
    assert_int_equal(*rig_word(&rig, PAGE), 1);
    rig_store(&rig, 2 * PAGE, 3);
    assert_int_equal(*rig_word(&rig, 2 * PAGE), 3);
    file[9 * word] = 4;
    close(fd);
    munmap(file, FILE_BYTES);
    assert_int_equal(rig_load(&rig, PAGE), 4); /* the slot keeps the memory */
    assert_int_equal(set_attributes(&rig, PAGE, PAGE, 0), 0);
    assert_int_equal(rig_load(&rig, PAGE), 1);
    rig_free(&rig);
}

static void private_page_without_a_memfd_is_denied(void **state)
{
    /* An exit that says which attributes the page has, as KVM_EXIT_MEMORY_FAULT. */
    struct rig rig = rig_new(NULL);
    uint64_t value;

    (void)state;
    assert_int_equal(rig_set(&rig, 0, 0, 0, 4 * PAGE, 0), 0);
    assert_int_equal(set_attributes(&rig, PAGE, PAGE, PRIVATE), 0);
    assert_int_equal(rig_load_as(&rig, PAGE + 8, 4, &value), GM_MMU_DENIED);
    assert_int_equal(gm_mmu_exit(rig.mmu)->gpa & ~0xfffull, PAGE);
    assert_int_equal(gm_mmu_exit(rig.mmu)->attributes, PRIVATE);
    assert_int_equal(rig_load_as(&rig, 0, 4, &value), GM_MMU_OK);
    rig_free(&rig);
}

static void attributes_are_checked(void **state)
{
    /* Alignment, range, unknown bits and flags; rights that EPT cannot say. */
    const struct kvm_memory_attributes flagged = {.size = PAGE, .flags = 1};
    struct rig rig = rig_new(NULL);
    uint64_t value;

    (void)state;
    assert_int_equal(rig_call(&rig, KVM_SET_MEMORY_ATTRIBUTES, NULL), -EFAULT);
    assert_int_equal(rig_call(&rig, KVM_SET_MEMORY_ATTRIBUTES, &flagged), -EINVAL);
    assert_int_equal(set_attributes(&rig, 0, 0, PRIVATE), -EINVAL);
    assert_int_equal(set_attributes(&rig, 0x10, PAGE, PRIVATE), -EINVAL);
    assert_int_equal(set_attributes(&rig, 0, PAGE + 1, PRIVATE), -EINVAL);
    assert_int_equal(set_attributes(&rig, 0xfffffffffffff000, 2 * PAGE, PRIVATE), -EINVAL);
    assert_int_equal(set_attributes(&rig, 0, PAGE, 1ull << 4), -EINVAL);
    assert_int_equal(set_attributes(&rig, 0, PAGE, GM_ATTRIBUTE_NO_READ), -EINVAL);
    assert_int_equal(rig_set(&rig, 0, 0, 0, 4 * PAGE, 0), 0);
    assert_int_equal(set_attributes(&rig, 0, PAGE, GM_ATTRIBUTE_NO_WRITE), 0);
    assert_int_equal(rig_load_as(&rig, 0, 8, &value), GM_MMU_OK);
    assert_int_equal(rig_store_as(&rig, 0, 8, 1), GM_MMU_DENIED);
    assert_int_equal(gm_mmu_exit(rig.mmu)->attributes, GM_ATTRIBUTE_NO_WRITE);
    rig_free(&rig);
}

static long pre_fault(struct rig *rig, struct kvm_pre_fault_memory *range)
{
    return gm_soft_vcpu_ioctl(rig->vcpu, KVM_PRE_FAULT_MEMORY, (unsigned long)range);
}

static void pre_fault_maps_and_says_what_is_left(void **state)
{
    /* Progress is written back and counts as success; none is the error's. */
    struct rig rig = rig_new(NULL);
    struct kvm_pre_fault_memory range = {.gpa = 0, .size = 6 * PAGE};
    struct gm_soft_stats stats;

    (void)state;
    assert_int_equal(rig_set(&rig, 0, 0, 0, 4 * PAGE, 0), 0);
    assert_int_equal(pre_fault(&rig, &range), 0);
    assert_int_equal(range.gpa, 4 * PAGE);
    assert_int_equal(range.size, 2 * PAGE);
    gm_soft_stats(rig.soft, &stats);
    assert_int_equal(stats.pages_4k, 4);
    assert_int_equal(pre_fault(&rig, &range), -ENOENT);
    assert_int_equal(range.size, 2 * PAGE);
    range = (struct kvm_pre_fault_memory){.gpa = PAGE, .size = 3 * PAGE};
    assert_int_equal(pre_fault(&rig, &range), 0);
    assert_int_equal(range.size, 0);
    rig_free(&rig);
}

static void pre_fault_bad_range_is_einval(void **state)
{
    /* Flags, alignment, size, wrap; a structure that cannot be read, or not be written back. */
    const struct kvm_pre_fault_memory bad[] = {
        {.size = PAGE, .flags = 1},
        {.gpa = 1, .size = PAGE},
        {.size = PAGE + 8},
        {.size = 0},
        {.gpa = 0xfffffffffffff000, .size = 2 * PAGE},
    };
    struct rig rig = rig_new(NULL);
    struct kvm_pre_fault_memory *read_only;

    (void)state;
    assert_int_equal(rig_set(&rig, 0, 0, 0, 4 * PAGE, 0), 0);
    for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        struct kvm_pre_fault_memory range = bad[i];

        assert_int_equal(pre_fault(&rig, &range), -EINVAL);
        assert_memory_equal(&range, &bad[i], sizeof(range));
    }
    assert_int_equal(pre_fault(&rig, NULL), -EFAULT);
    read_only = mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    assert_true(read_only != MAP_FAILED);
    assert_int_equal(pre_fault(&rig, read_only), -EFAULT);
    munmap(read_only, PAGE);
    rig_free(&rig);
}

static void bind_without_memory_leaves_nothing(void **state)
{
    /* Each allocation of making a file and of binding it fails once. */
    struct faults faults = {0};
    const struct gm_allocator allocator = faults_allocator(&faults);
    const struct gm_soft_options options = {.size = sizeof(options), .allocator = &allocator};
    struct rig rig = rig_new_without_vcpu(&options);
    unsigned failures = 0;
    long fd;
    long rc;

    (void)state;
    faults_arm(&faults, 1);
    assert_int_equal(create_memfd(&rig, FILE_BYTES, 0), -ENOMEM);
    faults_disarm(&faults);
    fd = new_memfd(&rig);
    for (;; failures++) {
        faults_arm(&faults, failures + 1);
        rc = set2(&rig, region_at(&rig, 0, 0, (int)fd, 0));
        if (rc == 0) {
            break;
        }
        assert_int_equal(rc, -ENOMEM);
        assert_int_equal(mapping_count(), 0);
    }
    assert_true(failures > 3);
    faults_disarm(&faults);
    assert_int_equal(mapping_count(), 1);
    close((int)fd);
    rig_free(&rig);
    assert_int_equal(faults_live(&faults), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(memfd_create_checks_size_and_flags),
        cmocka_unit_test(region2_without_a_memfd_is_as_region),
        cmocka_unit_test(bind_bad_file_or_range_is_refused),
        cmocka_unit_test(bind_error_of_the_slot_comes_before_that_of_the_file),
        cmocka_unit_test(bind_part_that_is_bound_is_eexist_until_its_slot_goes),
        cmocka_unit_test(private_pages_lie_in_the_memfd),
        cmocka_unit_test(private_page_without_a_memfd_is_denied),
        cmocka_unit_test(attributes_are_checked),
        cmocka_unit_test(pre_fault_maps_and_says_what_is_left),
        cmocka_unit_test(pre_fault_bad_range_is_einval),
        cmocka_unit_test(bind_without_memory_leaves_nothing),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
