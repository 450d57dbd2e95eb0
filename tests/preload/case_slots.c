/*
 * preload/case_slots.c - the errno of KVM_SET_USER_MEMORY_REGION and of the dirty logs' calls, row by row as real KVM answered
 * (Linux 6.1 with AMD's nested paging off, and kvm_pvm of 6.18, both asked on 2026-11-22).
 */
#include "cases.h"

#include <fcntl.h>

#define PAGES(count) ((uint64_t)(count)*PAGE)
#define BIT(number) (UINT64_C(1) << (number))
#define LOG KVM_MEM_LOG_DIRTY_PAGES
#define READONLY KVM_MEM_READONLY
#define KERNEL_HVA UINT64_C(0xffff800000000000)
#define COUNT(array) (sizeof(array) / sizeof((array)[0]))
#define MEMORY_BYTES PAGES(256)

/* A VM without slots or vCPUs, and some memory. */
struct slots {
    int system, vm;
    uint64_t memory;
};

static struct slots slots_new(void)
{
    struct slots slots = {.system = open("/dev/kvm", O_RDWR | O_CLOEXEC)};
    void *memory =
        mmap(NULL, MEMORY_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    CHECK(slots.system >= 0);
    slots.vm = ioctl(slots.system, KVM_CREATE_VM, 0);
    CHECK(slots.vm >= 0);
    CHECK(memory != MAP_FAILED);
    slots.memory = (uintptr_t)memory;
    return slots;
}

static void slots_free(const struct slots *slots)
{
    CHECK(close(slots->vm) == 0);
    CHECK(close(slots->system) == 0);
    CHECK(munmap((void *)slots->memory, MEMORY_BYTES) == 0);
}

/* One call. Its HVA is an offset in the memory, but for those of no memory at all. */
enum hva {
    OFFSET,
    ABSOLUTE,
};

struct set {
    const char *name;
    uint32_t slot, flags;
    uint64_t gpa, size_bytes, hva;
    enum hva of;
    int error;
};

static int set_region(const struct slots *slots, const struct set *set)
{
    const struct kvm_userspace_memory_region region = {
        .slot = set->slot,
        .flags = set->flags,
        .guest_phys_addr = set->gpa,
        .memory_size = set->size_bytes,
        .userspace_addr = set->of == ABSOLUTE ? set->hva : slots->memory + set->hva,
    };

    return ioctl(slots->vm, KVM_SET_USER_MEMORY_REGION, &region);
}

static void expect_sets(const struct slots *slots, const struct set *sets, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        int rc, error;

        errno = 0;
        rc = set_region(slots, &sets[i]);
        error = rc == -1 ? errno : 0;
        if (error != sets[i].error) {
            fprintf(stderr, "%s: %s, not %s\n", sets[i].name, strerror(error),
                    strerror(sets[i].error));
            exit(1);
        }
    }
}

static void regions_are_refused_as_by_kvm(void)
{
    static const struct set sets[] = {
        {"size", 0, 0, 0, 4097, 0, OFFSET, EINVAL},
        {"gpa", 0, 0, 1, PAGE, 0, OFFSET, EINVAL},
        {"hva", 0, 0, 0, PAGE, 1, OFFSET, EINVAL},
        {"kernel's hva", 0, 0, 0, PAGE, KERNEL_HVA, ABSOLUTE, EINVAL},
        {"hva that wraps", 0, 0, 0, PAGES(2), 0 - PAGES(1), ABSOLUTE, EINVAL},
        {"gpa that wraps", 0, 0, 0 - PAGES(1), PAGES(2), 0, OFFSET, EINVAL},
        {"gpa of 2^52", 0, 0, BIT(52), PAGE, 0, OFFSET, EINVAL},
        {"size of 2^43", 0, 0, 0, BIT(43), 0, OFFSET, EINVAL},
        {"slot 32764", 32764, 0, 0, PAGE, 0, OFFSET, EINVAL},
        {"slot 32767", 32767, 0, 0, PAGE, 0, OFFSET, EINVAL},
        {"slot 0xffff", 0xffff, 0, 0, PAGE, 0, OFFSET, EINVAL},
        {"slot 0x20000", 0x20000, 0, 0, PAGE, 0, OFFSET, EINVAL},
        {"flag 2", 0, BIT(2), 0, PAGE, 0, OFFSET, EINVAL},
        {"flag 3", 0, BIT(3), 0, PAGE, 0, OFFSET, EINVAL},
        {"flag 16", 0, BIT(16), 0, PAGE, 0, OFFSET, EINVAL},
        {"flag 31", 0, BIT(31), 0, PAGE, 0, OFFSET, EINVAL},
        {"delete of none", 7, 0, 0, 0, 0, OFFSET, EINVAL},
    };
    struct slots slots = slots_new();

    expect_sets(&slots, sets, COUNT(sets));
    CHECK_FAILS(ioctl(slots.vm, KVM_SET_USER_MEMORY_REGION, NULL), EFAULT);
    slots_free(&slots);
}

static void regions_are_taken_as_by_kvm(void)
{
    static const struct set sets[] = {
        {"hva 0", 0, 0, 0, PAGE, 0, ABSOLUTE, 0},
        {"hva of no memory", 1, 0, PAGES(1), PAGE, 0x10000, ABSOLUTE, 0},
        {"log", 2, LOG, PAGES(2), PAGE, 0, OFFSET, 0},
        {"one hva twice", 3, READONLY, PAGES(3), PAGE, 0, OFFSET, 0},
        {"log and read-only", 4, LOG | READONLY, PAGES(4), PAGE, PAGES(1), OFFSET, 0},
        {"the last slot", 32763, 0, PAGES(5), PAGE, 0, OFFSET, 0},
        {"over the APIC", 5, 0, 0xfee00000, PAGE, 0, OFFSET, 0},
        {"over the TSS", 6, 0, 0xfeffd000, PAGES(3), 0, OFFSET, 0},
        {"over the identity map", 7, 0, 0xfeffc000, PAGE, 0, OFFSET, 0},
        {"the same again", 2, LOG, PAGES(2), PAGE, 0, OFFSET, 0},
    };
    struct slots slots = slots_new();

    expect_sets(&slots, sets, COUNT(sets));
    slots_free(&slots);
}

static void overlaps_are_looked_for_last(void)
{
    static const struct set sets[] = {
        {"slot 0", 0, 0, PAGES(10), PAGES(10), 0, OFFSET, 0},
        {"its first page", 1, 0, PAGES(5), PAGES(6), 0, OFFSET, EEXIST},
        {"its last page", 1, 0, PAGES(19), PAGES(6), 0, OFFSET, EEXIST},
        {"within it", 1, 0, PAGES(12), PAGES(1), 0, OFFSET, EEXIST},
        {"around it", 1, 0, PAGES(1), PAGES(99), 0, OFFSET, EEXIST},
        {"and flags", 1, BIT(31), PAGES(12), PAGES(1), 0, OFFSET, EINVAL},
        {"and the slot", 32764, 0, PAGES(12), PAGES(1), 0, OFFSET, EINVAL},
        {"and the hva", 1, 0, PAGES(12), PAGES(1), KERNEL_HVA, ABSOLUTE, EINVAL},
        {"before it", 1, 0, PAGES(5), PAGES(5), 0, OFFSET, 0},
        {"behind it", 2, 0, PAGES(20), PAGES(5), 0, OFFSET, 0},
        {"move onto another", 1, 0, PAGES(20), PAGES(5), 0, OFFSET, EEXIST},
        {"which is where it was", 3, 0, PAGES(5), PAGES(1), 0, OFFSET, EEXIST},
    };
    struct slots slots = slots_new();

    expect_sets(&slots, sets, COUNT(sets));
    slots_free(&slots);
}

static void slots_change_as_kvm_lets_them(void)
{
    static const struct set sets[] = {
        {"slot 0", 0, 0, PAGES(10), PAGES(4), 0, OFFSET, 0},
        {"grow", 0, 0, PAGES(10), PAGES(5), 0, OFFSET, EINVAL},
        {"shrink", 0, 0, PAGES(10), PAGES(3), 0, OFFSET, EINVAL},
        {"another hva", 0, 0, PAGES(10), PAGES(4), PAGES(1), OFFSET, EINVAL},
        {"read-only", 0, READONLY, PAGES(10), PAGES(4), 0, OFFSET, EINVAL},
        {"read-only and a move", 0, READONLY, PAGES(20), PAGES(4), 0, OFFSET, EINVAL},
        {"log on", 0, LOG, PAGES(10), PAGES(4), 0, OFFSET, 0},
        {"log off", 0, 0, PAGES(10), PAGES(4), 0, OFFSET, 0},
        {"move", 0, 0, PAGES(20), PAGES(4), 0, OFFSET, 0},
        {"move onto itself", 0, 0, PAGES(21), PAGES(4), 0, OFFSET, 0},
        {"move and log", 0, LOG, PAGES(30), PAGES(4), 0, OFFSET, 0},
        {"delete, gpa", 0, 0, 1, 0, 0, OFFSET, EINVAL},
        {"delete, hva", 0, 0, 0, 0, 1, OFFSET, EINVAL},
        {"delete, kernel's hva", 0, 0, 0, 0, KERNEL_HVA, ABSOLUTE, EINVAL},
        {"delete, flags", 0, BIT(31), 0, 0, 0, OFFSET, EINVAL},
        {"delete, elsewhere", 0, 0, BIT(63), 0, PAGES(9), OFFSET, 0},
        {"delete twice", 0, 0, 0, 0, 0, OFFSET, EINVAL},
        {"another", 0, 0, 0, PAGE, 0, OFFSET, 0},
        {"delete, read-only", 0, READONLY, 0, 0, 0, OFFSET, 0},
    };
    struct slots slots = slots_new();

    expect_sets(&slots, sets, COUNT(sets));
    slots_free(&slots);
}

static int get_log(const struct slots *slots, uint32_t slot, void *bitmap)
{
    struct kvm_dirty_log log = {.slot = slot, .dirty_bitmap = bitmap};

    return ioctl(slots->vm, KVM_GET_DIRTY_LOG, &log);
}

static int clear_log(const struct slots *slots, uint32_t slot, uint64_t first, uint32_t count,
                     void *bitmap)
{
    struct kvm_clear_dirty_log log = {
        .slot = slot, .first_page = first, .num_pages = count, .dirty_bitmap = bitmap};

    return ioctl(slots->vm, KVM_CLEAR_DIRTY_LOG, &log);
}

/* Slot 0: 200 pages with a log; slot 1: one without. */
static struct slots logs_new(void)
{
    static const struct set sets[] = {
        {"slot 0", 0, LOG, 0, PAGES(200), 0, OFFSET, 0},
        {"slot 1", 1, 0, PAGES(300), PAGE, 0, OFFSET, 0},
    };
    struct slots slots = slots_new();

    expect_sets(&slots, sets, COUNT(sets));
    return slots;
}

static void logs_are_refused_as_by_kvm(void)
{
    struct slots slots = logs_new();
    uint64_t bitmap[4] = {0};

    CHECK(get_log(&slots, 0, bitmap) == 0);
    CHECK_FAILS(get_log(&slots, 2, bitmap), ENOENT);
    CHECK_FAILS(get_log(&slots, 1, bitmap), ENOENT);
    CHECK_FAILS(clear_log(&slots, 2, 0, 64, bitmap), ENOENT);
    CHECK_FAILS(clear_log(&slots, 1, 0, 1, bitmap), ENOENT);
    CHECK_FAILS(get_log(&slots, 32764, bitmap), EINVAL);
    CHECK_FAILS(get_log(&slots, 0x20000, bitmap), EINVAL);
    CHECK_FAILS(clear_log(&slots, 32764, 0, 64, bitmap), EINVAL);
    CHECK_FAILS(clear_log(&slots, 0x20000, 0, 64, bitmap), EINVAL);
    CHECK_FAILS(get_log(&slots, 0, NULL), EFAULT);
    CHECK_FAILS(clear_log(&slots, 0, 0, 64, NULL), EFAULT);
    CHECK(clear_log(&slots, 0, 0, 64, bitmap) == 0); /* without the capability */
    CHECK(clear_log(&slots, 0, 0, 0, bitmap) == 0);
    CHECK(clear_log(&slots, 0, 128, 72, bitmap) == 0); /* to the end */
    CHECK_FAILS(clear_log(&slots, 0, 1, 63, bitmap), EINVAL);
    CHECK_FAILS(clear_log(&slots, 0, 0, 63, bitmap), EINVAL);
    CHECK_FAILS(clear_log(&slots, 0, 128, 128, bitmap), EINVAL);
    CHECK_FAILS(clear_log(&slots, 0, 256, 64, bitmap), EINVAL);
    slots_free(&slots);
}

static int enable(const struct slots *slots, uint32_t cap, uint32_t flags, uint64_t argument)
{
    struct kvm_enable_cap given = {.cap = cap, .flags = flags, .args = {argument}};

    return ioctl(slots->vm, KVM_ENABLE_CAP, &given);
}

static void manual_protection_is_enabled_as_by_kvm(void)
{
    const uint32_t cap = KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2;
    struct set log = {"log on", 1, LOG, PAGES(300), PAGE, 0, OFFSET, 0};
    struct slots slots = logs_new();
    uint64_t bitmap[4] = {0};

    CHECK_FAILS(enable(&slots, cap, 0, 2), EINVAL);
    CHECK_FAILS(enable(&slots, cap, 0, 4), EINVAL);
    CHECK_FAILS(enable(&slots, cap, 1, 1), EINVAL);
    CHECK(enable(&slots, cap, 0, 0) == 0);
    CHECK(enable(&slots, cap, 0, 1) == 0);
    CHECK(enable(&slots, cap, 0, 3) == 0);
    expect_sets(&slots, &log, 1);
    CHECK(get_log(&slots, 1, bitmap) == 0);
    CHECK(bitmap[0] == 1); /* all set, and nothing past the end */
    log.gpa = PAGES(400);
    expect_sets(&slots, &log, 1); /* a move keeps it */
    CHECK(get_log(&slots, 1, bitmap) == 0);
    CHECK(bitmap[0] == 1);
    slots_free(&slots);
}

static void rings_are_refused_as_by_kvm(void)
{
    const uint32_t cap = KVM_CAP_DIRTY_LOG_RING;
    struct slots slots = logs_new();
    struct slots other = slots_new();
    uint64_t bitmap[4];

    CHECK_FAILS(enable(&slots, cap, 0, 0), EINVAL);
    CHECK_FAILS(enable(&slots, cap, 0, 3 * 16384), EINVAL);
    CHECK_FAILS(enable(&slots, cap, 0, 16u << 21), E2BIG);
    CHECK(enable(&slots, cap, 0, 65536) == 0);
    CHECK_FAILS(enable(&slots, cap, 0, 65536), EINVAL);
    CHECK_FAILS(get_log(&slots, 0, bitmap), ENXIO);
    CHECK_FAILS(clear_log(&slots, 0, 0, 64, bitmap), ENXIO);
    CHECK(ioctl(other.vm, KVM_CREATE_VCPU, 0) >= 0);
    CHECK_FAILS(enable(&other, cap, 0, 65536), EINVAL);
    slots_free(&other);
    slots_free(&slots);
}

/* LAB: 0 of Linux 6.1 with two address spaces, which kvm_pvm has not. */
static void second_address_space_is_there(void)
{
    static const struct set sets[] = {
        {"slot 0", 0, LOG, 0, PAGES(4), 0, OFFSET, 0},
        {"slot 0 of the other space", 0x10000, 0, 0, PAGES(4), 0, OFFSET, 0},
    };
    struct slots slots = slots_new();
    uint64_t bitmap[1];

    expect_sets(&slots, sets, COUNT(sets));
    CHECK_FAILS(get_log(&slots, 0x10000, bitmap), ENOENT);
    slots_free(&slots);
}

const struct test_case slot_cases[] = {
    {"regions_are_refused_as_by_kvm", regions_are_refused_as_by_kvm, false},
    {"regions_are_taken_as_by_kvm", regions_are_taken_as_by_kvm, false},
    {"overlaps_are_looked_for_last", overlaps_are_looked_for_last, false},
    {"slots_change_as_kvm_lets_them", slots_change_as_kvm_lets_them, false},
    {"logs_are_refused_as_by_kvm", logs_are_refused_as_by_kvm, false},
    {"manual_protection_is_enabled_as_by_kvm", manual_protection_is_enabled_as_by_kvm, false},
    {"rings_are_refused_as_by_kvm", rings_are_refused_as_by_kvm, false},
    {"second_address_space_is_there", second_address_space_is_there, true},
    {NULL, NULL, false},
};
