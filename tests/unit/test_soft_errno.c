/*
 * unit/test_soft_errno.c - what each ioctl of the software KVM answers to right and wrong
 * arguments. The answers are those that Linux 6.1 and 6.18 gave to the same calls (shared/LAB.md),
 * and api.rst's; where /dev/kvm opens, it is asked again.
 */
#include "soft_steps.h"

#include <errno.h>

#define KIB4 0x1000u
#define PAGES(count) ((uint64_t)(count)*KIB4)
#define LOGGED KVM_MEM_LOG_DIRTY_PAGES
#define RDONLY KVM_MEM_READONLY
#define KERNEL_HVA STEPS_KERNEL_HVA
#define LAST_USER_PAGE UINT64_C(0x7fffffffe000)
#define BIT(number) (UINT64_C(1) << (number))

static const struct script CREATING[] = {
    {"size unaligned", {SET(0, 0, 0, 0x1001, 0, -EINVAL), SET(0, 0, 0, 1, 0, -EINVAL)}},
    {"GPA unaligned", {SET(0, 0, 0x800, KIB4, 0, -EINVAL)}},
    {"HVA unaligned", {SET(0, 0, 0, KIB4, 0x10, -EINVAL)}},
    {"HVA of the kernel",
     {SET_AT(0, 0, 0, KIB4, KERNEL_HVA, -EINVAL),
      SET_AT(0, 0, 0, PAGES(4), LAST_USER_PAGE, -EINVAL)}},
    {"HVA wraps", {SET_AT(0, 0, 0, PAGES(2), UINT64_C(0xfffffffffffff000), -EINVAL)}},
    {"GPA wraps", {SET(0, 0, UINT64_C(0xfffffffffffff000), PAGES(2), 0, -EINVAL)}},
    {"GPA of 2^52 and more",
     {SET(0, 0, BIT(52), KIB4, 0, -EINVAL), SET(0, 0, BIT(63), KIB4, 0, -EINVAL)}},
    {"size of 2^43", {SET_AT(0, 0, 0, BIT(43), 0, -EINVAL)}},
    {"HVA 0, unmapped, twice",
     {SET_AT(0, 0, 0, KIB4, 0, 0), SET_AT(1, 0, KIB4, KIB4, 0x10000, 0),
      SET(2, 0, PAGES(2), KIB4, 0, 0), SET(3, 0, PAGES(3), KIB4, 0, 0)}},
    {"slot numbers",
     {SET(32763, 0, 0, KIB4, 0, 0), SET(32764, 0, PAGES(1), KIB4, 0, -EINVAL),
      SET(32767, 0, PAGES(1), KIB4, 0, -EINVAL), SET(0xffff, 0, PAGES(1), KIB4, 0, -EINVAL),
      SET(0x20000, 0, PAGES(1), KIB4, 0, -EINVAL)}},
    {"unknown flags",
     {SET(0, 1u << 2, 0, KIB4, 0, -EINVAL), SET(0, 1u << 3, 0, KIB4, 0, -EINVAL),
      SET(0, 1u << 16, 0, KIB4, 0, -EINVAL), SET(0, 1u << 31, 0, KIB4, 0, -EINVAL)}},
    {"logged, read-only, both, side by side",
     {SET(0, LOGGED, 0, KIB4, 0, 0), SET(1, RDONLY, KIB4, KIB4, KIB4, 0),
      SET(2, LOGGED | RDONLY, PAGES(2), KIB4, PAGES(2), 0)}},
    {"bad address of the argument",
     {CALL(STEP_ON_VM, KVM_SET_USER_MEMORY_REGION, 0, -EFAULT),
      CALL(STEP_ON_VM, KVM_SET_USER_MEMORY_REGION, KERNEL_HVA, -EFAULT)}},
    {"overlaps",
     {SET(0, 0, PAGES(2), PAGES(2), 0, 0), SET(1, 0, PAGES(1), PAGES(2), 0, -EEXIST),
      SET(1, 0, PAGES(3), PAGES(2), 0, -EEXIST), SET(1, 0, 0, PAGES(16), 0, -EEXIST),
      SET(1, 0, PAGES(3), KIB4, 0, -EEXIST), SET(1, 1u << 3, PAGES(3), KIB4, 0, -EINVAL),
      SET(32764, 0, PAGES(3), KIB4, 0, -EINVAL), SET(1, 0, PAGES(3), KIB4, 0x10, -EINVAL),
      SET(1, 0, PAGES(4), KIB4, 0, 0)}},
};

static const struct script CHANGING[] = {
    {"the same again keeps the log",
     {CAP(KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2, 0, 3, 0), SET(0, LOGGED, 0, PAGES(2), 0, 0),
      LOG(0, 3, 0), SET(0, LOGGED, 0, PAGES(2), 0, 0), LOG(0, 3, 0)}},
    {"size, HVA, read-only",
     {SET(0, 0, 0, PAGES(2), 0, 0), SET(0, 0, 0, PAGES(3), 0, -EINVAL),
      SET(0, 0, 0, KIB4, 0, -EINVAL), SET(0, 0, 0, PAGES(2), KIB4, -EINVAL),
      SET(0, RDONLY, 0, PAGES(2), 0, -EINVAL), SET(0, RDONLY, PAGES(8), PAGES(2), 0, -EINVAL)}},
    {"read-only off",
     {SET(0, RDONLY, 0, KIB4, 0, 0), SET(0, 0, 0, KIB4, 0, -EINVAL),
      SET(0, LOGGED | RDONLY, 0, KIB4, 0, 0)}},
    {"logging, moving",
     {SET(0, 0, 0, PAGES(2), 0, 0), SET(0, LOGGED, 0, PAGES(2), 0, 0), LOG(0, 0, 0),
      SET(0, 0, 0, PAGES(2), 0, 0), LOG(0, STEP_ANY, -ENOENT), SET(0, 0, PAGES(8), PAGES(2), 0, 0),
      SET(0, 0, PAGES(9), PAGES(2), 0, 0), SET(0, LOGGED, PAGES(4), PAGES(2), 0, 0), LOG(0, 0, 0)}},
    {"onto another",
     {SET(0, 0, 0, PAGES(2), 0, 0), SET(1, 0, PAGES(4), PAGES(2), 0, 0),
      SET(0, 0, PAGES(5), PAGES(2), 0, -EEXIST), SET(2, 0, PAGES(1), KIB4, 0, -EEXIST),
      SET(0, 0, PAGES(2), PAGES(2), 0, 0), SET(2, 0, PAGES(1), KIB4, 0, 0)}},
    {"a second address space",
     {{.object = STEP_ON_VM,
       .request = KVM_SET_USER_MEMORY_REGION,
       .kind = STEP_REGION,
       .flags = STEP_SOFT_ONLY, /* kvm_pvm has one */
       .region = {.slot = 0x10000, .memory_size = KIB4}},
      SET(0, 0, 0, KIB4, 0, 0)}},
};

static const struct script DELETING[] = {
    {"absent, twice",
     {DELETE(0, -EINVAL), SET(0, 0, 0, KIB4, 0, 0), DELETE(0, 0), DELETE(0, -EINVAL)}},
    {"with a bad rest",
     {SET(0, 0, 0, KIB4, 0, 0), SET(0, 0, 0x800, 0, 0, -EINVAL), SET(0, 0, 0, 0, 8, -EINVAL),
      SET_AT(0, 0, 0, 0, KERNEL_HVA, -EINVAL), SET(0, 1u << 3, 0, 0, 0, -EINVAL),
      SET(32764, 0, 0, 0, 0, -EINVAL), DELETE(0, 0)}},
    {"with another GPA, HVA",
     {SET(0, 0, 0, KIB4, 0, 0), SET(0, 0, PAGES(7), 0, PAGES(3), 0), SET(0, 0, 0, KIB4, 0, 0),
      SET_AT(0, 0, BIT(63), 0, 0, 0)}},
    {"as read-only", {SET(0, 0, 0, KIB4, 0, 0), SET(0, RDONLY, 0, 0, 0, 0)}},
    {"makes room", {SET(0, 0, 0, PAGES(4), 0, 0), DELETE(0, 0), SET(1, 0, KIB4, KIB4, 0, 0)}},
};

static const struct script LOGGING[] = {
    {"absent, unlogged",
     {LOG(0, STEP_ANY, -ENOENT), CLEAR(0, 0, 64, -ENOENT), SET(0, 0, 0, PAGES(100), 0, 0),
      LOG(0, STEP_ANY, -ENOENT), CLEAR(0, 0, 64, -ENOENT), CLEAR(0, 1, 64, -EINVAL)}},
    {"bad slot numbers",
     {LOG(32764, STEP_ANY, -EINVAL), CLEAR(32764, 0, 64, -EINVAL), LOG(0x20000, STEP_ANY, -EINVAL),
      CLEAR(0x20000, 0, 64, -EINVAL)}},
    {"bad address of the argument",
     {CALL(STEP_ON_VM, KVM_GET_DIRTY_LOG, 0, -EFAULT),
      CALL(STEP_ON_VM, KVM_CLEAR_DIRTY_LOG, 0, -EFAULT)}},
    {"what can be cleared",
     {SET(0, LOGGED, 0, PAGES(100), 0, 0), CLEAR(0, 0, 100, 0), CLEAR(0, 0, 64, 0),
      CLEAR(0, 64, 36, 0), CLEAR(0, 0, 0, 0), CLEAR(0, 64, 0, 0)}},
    {"what cannot",
     {SET(0, LOGGED, 0, PAGES(100), 0, 0), CLEAR(0, 1, 64, -EINVAL), CLEAR(0, 0, 63, -EINVAL),
      CLEAR(0, 64, 35, -EINVAL), CLEAR(0, 0, 128, -EINVAL), CLEAR(0, 64, 64, -EINVAL),
      CLEAR(0, 128, 0, -EINVAL), CLEAR(0, BIT(63), 64, -EINVAL), CLEAR(0, 0, UINT32_MAX, -EINVAL)}},
    {"bad address of the bitmap, the last that is looked at",
     {BAD_LOG(0, -ENOENT), BAD_CLEAR(0, 0, 64, -ENOENT), BAD_CLEAR(0, 1, 64, -EINVAL),
      SET(0, LOGGED, 0, PAGES(100), 0, 0), BAD_LOG(0, -EFAULT), BAD_CLEAR(0, 0, 100, -EFAULT),
      BAD_CLEAR(0, 0, 63, -EINVAL), BAD_CLEAR(0, 0, 0, 0), BAD_LOG(32764, -EINVAL)}},
    {"all set at first",
     {CAP(KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2, 0, 3, 0), SET(0, LOGGED, 0, PAGES(5), 0, 0),
      LOG(0, 0x1f, 0), SET(1, LOGGED | RDONLY, PAGES(8), PAGES(3), 0, 0), LOG(1, 7, 0),
      SET(2, 0, PAGES(16), PAGES(2), 0, 0), SET(2, LOGGED, PAGES(16), PAGES(2), 0, 0), LOG(2, 3, 0),
      SET(2, LOGGED, PAGES(32), PAGES(2), 0, 0), LOG(2, 3, 0)}},
};

static const struct script ENABLING[] = {
    {"manual protection",
     {CAP(KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2, 0, 0, 0),
      CAP(KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2, 0, 1, 0),
      CAP(KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2, 0, 3, 0),
      CAP(KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2, 0, 2, -EINVAL),
      CAP(KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2, 0, 4, -EINVAL),
      CAP(KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2, 1, 1, -EINVAL),
      CAP(KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2, 0, 0, 0)}},
    {"bad address, no capability",
     {CALL(STEP_ON_VM, KVM_ENABLE_CAP, 8, -EFAULT), CAP(0xffff, 0, 0, -EINVAL),
      CAP(KVM_CAP_NR_MEMSLOTS, 0, 1, -EINVAL)}},
    {"rings: sizes",
     {CALL(STEP_ON_VM, KVM_RESET_DIRTY_RINGS, 0, -EINVAL),
      CAP(KVM_CAP_DIRTY_LOG_RING, 0, 0, -EINVAL),
      CAP(KVM_CAP_DIRTY_LOG_RING, 0, 3 * 16384, -EINVAL),
      CAP(KVM_CAP_DIRTY_LOG_RING, 0, 16, -EINVAL), CAP(KVM_CAP_DIRTY_LOG_RING, 0, BIT(32), -EINVAL),
      CAP(KVM_CAP_DIRTY_LOG_RING, 0, 16u << 21, -E2BIG),
      CAP(KVM_CAP_DIRTY_LOG_RING_ACQ_REL, 0, 16u << 21, -E2BIG),
      CAP(KVM_CAP_DIRTY_LOG_RING, 0, 65536, 0), CAP(KVM_CAP_DIRTY_LOG_RING, 0, 65536, -EINVAL),
      CAP(KVM_CAP_DIRTY_LOG_RING_ACQ_REL, 0, 65536, -EINVAL),
      CALL(STEP_ON_VM, KVM_RESET_DIRTY_RINGS, 0, 0)}},
    {"rings: no bitmaps",
     {CAP(KVM_CAP_DIRTY_LOG_RING_ACQ_REL, 0, 65536, 0), SET(0, LOGGED, 0, PAGES(64), 0, 0),
      LOG(0, STEP_ANY, -ENXIO), CLEAR(0, 0, 64, -ENXIO), LOG(5, STEP_ANY, -ENXIO),
      CLEAR(32764, 1, 64, -ENXIO)}},
    {"rings: after a vCPU", {NEW_VCPU(0, 0), CAP(KVM_CAP_DIRTY_LOG_RING, 0, 65536, -EINVAL)}},
};

/* What no Linux on x86 answers. */
static const struct script ENABLING_SOFT[] = {
    {"rings with bitmaps",
     {CAP(KVM_CAP_DIRTY_LOG_RING_WITH_BITMAP, 0, 0, -EINVAL),
      CAP(KVM_CAP_DIRTY_LOG_RING_ACQ_REL, 0, 65536, 0),
      CAP(KVM_CAP_DIRTY_LOG_RING_WITH_BITMAP, 1, 0, -EINVAL),
      CAP(KVM_CAP_DIRTY_LOG_RING_WITH_BITMAP, 0, 0, 0), SET(0, LOGGED, 0, PAGES(4), 0, 0),
      LOG(0, 0, 0)}},
    /* Linux takes 4 KiB where the processor has no log buffer. */
    {"rings too small for the entries kept free",
     {CAP(KVM_CAP_DIRTY_LOG_RING, 0, 8192, -EINVAL), CAP(KVM_CAP_DIRTY_LOG_RING, 0, 16384, 0)}},
    {"rings with bitmaps: after a slot that is not logged",
     {CAP(KVM_CAP_DIRTY_LOG_RING_ACQ_REL, 0, 65536, 0), SET(0, 0, 0, PAGES(4), 0, 0),
      CAP(KVM_CAP_DIRTY_LOG_RING_WITH_BITMAP, 0, 0, -EINVAL)}},
    {"rings with bitmaps: after a slot",
     {CAP(KVM_CAP_DIRTY_LOG_RING_ACQ_REL, 0, 65536, 0), SET(0, LOGGED, 0, PAGES(4), 0, 0),
      CAP(KVM_CAP_DIRTY_LOG_RING_WITH_BITMAP, 0, 0, -EINVAL)}},
};

static const struct script ADDRESSES[] = {
    {"TSS",
     {CALL(STEP_ON_VM, KVM_SET_TSS_ADDR, 0xffffd000, 0),
      CALL(STEP_ON_VM, KVM_SET_TSS_ADDR, 0xffffd001, -EINVAL),
      CALL(STEP_ON_VM, KVM_SET_TSS_ADDR, BIT(32), -EINVAL)}},
    {"identity map",
     {CALL(STEP_ON_VM, KVM_SET_IDENTITY_MAP_ADDR, 0, -EFAULT),
      CALL_AT(STEP_ON_VM, KVM_SET_IDENTITY_MAP_ADDR, 0xfffbc000, 0),
      CALL_AT(STEP_ON_VM, KVM_SET_IDENTITY_MAP_ADDR, 0, 0), NEW_VCPU(0, 0),
      CALL_AT(STEP_ON_VM, KVM_SET_IDENTITY_MAP_ADDR, 0xfffbc000, -EINVAL),
      CALL(STEP_ON_VM, KVM_SET_IDENTITY_MAP_ADDR, 0, -EINVAL)}},
    {"user slots over them",
     {CALL(STEP_ON_VM, KVM_SET_TSS_ADDR, 0xfffbd000, 0),
      CALL_AT(STEP_ON_VM, KVM_SET_IDENTITY_MAP_ADDR, 0xfffbc000, 0),
      SET(0, 0, 0xfffbd000, PAGES(3), 0, 0), SET(1, 0, 0xfffbc000, KIB4, 0, 0), NEW_VCPU(0, 0),
      SET(2, 0, 0xfee00000, KIB4, 0, 0)}},
    {"table pages",
     {CALL(STEP_ON_VM, KVM_SET_NR_MMU_PAGES, 63, -EINVAL),
      CALL(STEP_ON_VM, KVM_SET_NR_MMU_PAGES, 0, -EINVAL),
      CALL(STEP_ON_VM, KVM_SET_NR_MMU_PAGES, 64, 0),
      CALL(STEP_ON_VM, KVM_SET_NR_MMU_PAGES, 4096, 0)}},
};

static const struct script OBJECTS[] = {
    {"the system",
     {CALL(STEP_ON_SYSTEM, KVM_GET_API_VERSION, 0, KVM_API_VERSION),
      CALL(STEP_ON_SYSTEM, KVM_GET_API_VERSION, 1, -EINVAL),
      CALL(STEP_ON_SYSTEM, KVM_GET_VCPU_MMAP_SIZE, 1, -EINVAL),
      CALL(STEP_ON_SYSTEM, KVM_SET_USER_MEMORY_REGION, 0, -EINVAL),
      CALL(STEP_ON_SYSTEM, KVM_GET_DIRTY_LOG, 0, -EINVAL),
      CALL(STEP_ON_SYSTEM, KVM_RUN, 0, -EINVAL), CALL(STEP_ON_SYSTEM, 0xae7f, 0, -EINVAL),
      CALL(STEP_ON_SYSTEM, 1, 0, -EINVAL)}},
    {"a VM",
     {CALL(STEP_ON_VM, KVM_RUN, 0, -ENOTTY), CALL(STEP_ON_VM, KVM_GET_API_VERSION, 0, -ENOTTY),
      CALL(STEP_ON_VM, KVM_GET_VCPU_MMAP_SIZE, 0, -ENOTTY),
      CALL(STEP_ON_VM, KVM_PRE_FAULT_MEMORY, 0, -ENOTTY), CALL(STEP_ON_VM, 1, 0, -ENOTTY)}},
    {"a vCPU",
     {NEW_VCPU(0, 0), CALL(STEP_ON_VCPU, KVM_SET_USER_MEMORY_REGION, 0, -EINVAL),
      CALL(STEP_ON_VCPU, KVM_GET_DIRTY_LOG, 0, -EINVAL),
      CALL(STEP_ON_VCPU, KVM_CHECK_EXTENSION, 0, -EINVAL),
      CALL(STEP_ON_VCPU, KVM_GET_API_VERSION, 0, -EINVAL), CALL(STEP_ON_VCPU, 1, 0, -EINVAL)}},
    {"ids of vCPUs",
     {NEW_VCPU(0, 0), NEW_VCPU(0, -EEXIST), NEW_VCPU(3, 0), NEW_VCPU(0x10000, -EINVAL)}},
};

static void soft_create_answers_as_linux(void **state)
{
    /* Alignment, ranges, numbers, flags, overlaps; and which of two errors comes first. */
    (void)state;
    scripts_run_soft(CREATING, COUNT(CREATING));
}

static void soft_change_answers_as_linux(void **state)
{
    /* A slot may move, and begin or end to be logged; nothing else of it may change. */
    (void)state;
    scripts_run_soft(CHANGING, COUNT(CHANGING));
}

static void soft_delete_answers_as_linux(void **state)
{
    /* Size 0 deletes, whatever the address; but what it says is checked. */
    (void)state;
    scripts_run_soft(DELETING, COUNT(DELETING));
}

static void soft_log_answers_as_linux(void **state)
{
    /* Getting and clearing logs: numbers, ranges, absent slots. */
    (void)state;
    scripts_run_soft(LOGGING, COUNT(LOGGING));
}

static void soft_enable_answers_as_linux(void **state)
{
    /* Manual protection and rings: which arguments, when, and how often. */
    (void)state;
    scripts_run_soft(ENABLING, COUNT(ENABLING));
    scripts_run_soft(ENABLING_SOFT, COUNT(ENABLING_SOFT));
}

static void soft_addresses_answer_as_linux(void **state)
{
    /* The addresses that matter on Intel are checked, and on AMD do nothing else. */
    (void)state;
    scripts_run_soft(ADDRESSES, COUNT(ADDRESSES));
}

static void soft_wrong_object_answers_as_linux(void **state)
{
    /* Each object has its own requests, and its own way of not knowing one. */
    (void)state;
    scripts_run_soft(OBJECTS, COUNT(OBJECTS));
}

static void real_kvm_answers_what_is_expected_here(void **state)
{
    /* Expectations are no opinion: the kernel of this machine is asked, if it has a KVM. */
    (void)state;
    if (!scripts_run_real(CREATING, COUNT(CREATING))) {
        skip();
    }
    scripts_run_real(CHANGING, COUNT(CHANGING));
    scripts_run_real(DELETING, COUNT(DELETING));
    scripts_run_real(LOGGING, COUNT(LOGGING));
    scripts_run_real(ENABLING, COUNT(ENABLING));
    scripts_run_real(ADDRESSES, COUNT(ADDRESSES));
    scripts_run_real(OBJECTS, COUNT(OBJECTS));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(soft_create_answers_as_linux),
        cmocka_unit_test(soft_change_answers_as_linux),
        cmocka_unit_test(soft_delete_answers_as_linux),
        cmocka_unit_test(soft_log_answers_as_linux),
        cmocka_unit_test(soft_enable_answers_as_linux),
        cmocka_unit_test(soft_addresses_answer_as_linux),
        cmocka_unit_test(soft_wrong_object_answers_as_linux),
        cmocka_unit_test(real_kvm_answers_what_is_expected_here),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
