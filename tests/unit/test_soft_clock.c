/*
 * unit/test_soft_clock.c - time-stamp counters of a VM's vCPUs, and kvmclock: by the rules of Linux's documents (msr.rst, api.rst),
 * and those that its selftest tsc_msrs_test holds a kernel to.
 */
#include "vcpu_face.h"

#include <time.h>

#define SECOND UINT64_C(1000000000)
#define MSR_TSC 0x10u
#define MSR_TSC_ADJUST 0x3bu
#define MSR_WALL_CLOCK 0x4b564d00u
#define MSR_SYSTEM_TIME 0x4b564d01u
#define PAGE_GPA 0x5000u
#define STOPPED 2u

/* As msr.rst has it. */
struct time_page {
    uint32_t version, pad;
    uint64_t tsc, ns;
    uint32_t multiplier;
    int8_t shift;
    uint8_t flags, pad2[2];
};

static struct face clock_face(void)
{
    struct face face = face_soft();

    assert_int_equal(rig_set(&face.rig, 0, KVM_MEM_LOG_DIRTY_PAGES, 0, RIG_BYTES, 0), 0);
    return face;
}

/* Run real-mode code at 0x1000, to its HLT, with a 32-bit number of an MSR and a value. */
static void run_with(struct face *face, const void *code, size_t count, uint32_t msr,
                     uint64_t value)
{
    struct kvm_regs regs = {
        .rip = 0x1000, .rflags = 2, .rcx = msr, .rax = (uint32_t)value, .rdx = value >> 32};
    struct kvm_sregs sregs;

    memcpy(face->rig.memory + 0x1000, code, count);
    assert_int_equal(face_ask(face, KVM_GET_SREGS, &sregs), 0);
    sregs.cs.base = 0;
    sregs.cs.selector = 0;
    assert_int_equal(face_ask(face, KVM_SET_SREGS, &sregs), 0);
    assert_int_equal(face_ask(face, KVM_SET_REGS, &regs), 0);
    assert_int_equal(face_ask(face, KVM_RUN, NULL), 0);
    assert_int_equal(gm_soft_vcpu_run_page(face->rig.vcpu)->exit_reason, KVM_EXIT_HLT);
}

static void guest_writes_msr(struct face *face, uint32_t msr, uint64_t value)
{
    run_with(face, "\x0f\x30\xf4", 3, msr, value); /* wrmsr; hlt */
}

/* The counter goes on meanwhile, but not for half a second. */
static void assert_about(uint64_t value, uint64_t expected)
{
    assert_in_range(value - expected + SECOND / 2, SECOND / 2, SECOND);
}

static void counters_begin_at_zero_and_agree(void **state)
{
    struct face face = clock_face();
    struct face other = face;

    (void)state;
    assert_about(face_get_msr(&face, MSR_TSC), 0);
    assert_int_equal(face_set_msr(&face, MSR_TSC, 100 * SECOND), 1);
    assert_int_equal(gm_soft_vcpu_new(face.rig.soft, 1, &other.rig.vcpu), 0);
    assert_about(face_get_msr(&other, MSR_TSC), 100 * SECOND);
    gm_soft_vcpu_free(other.rig.vcpu);
    face_close(&face);
}

static void counters_set_within_a_second_are_the_same(void **state)
{
    /* A VMM that restores vCPUs one after the other gives each what was saved. */
    struct face face = clock_face();
    struct face other = face;
    uint64_t first, second;

    (void)state;
    assert_int_equal(gm_soft_vcpu_new(face.rig.soft, 1, &other.rig.vcpu), 0);
    assert_int_equal(face_set_msr(&face, MSR_TSC, 500 * SECOND), 1);
    assert_int_equal(face_set_msr(&other, MSR_TSC, 500 * SECOND - SECOND / 2), 1);
    first = face_get_msr(&face, MSR_TSC);
    second = face_get_msr(&other, MSR_TSC);
    assert_about(second, 500 * SECOND);
    assert_true(second >= first);
    assert_int_equal(face_set_msr(&other, MSR_TSC, 0), 1); /* as for one that is new */
    assert_true(face_get_msr(&other, MSR_TSC) >= second);
    assert_int_equal(face_set_msr(&other, MSR_TSC, 503 * SECOND), 1);
    assert_about(face_get_msr(&other, MSR_TSC), 503 * SECOND);
    assert_about(face_get_msr(&face, MSR_TSC), 500 * SECOND);
    gm_soft_vcpu_free(other.rig.vcpu);
    face_close(&face);
}

static void adjustment_is_the_guests_alone(void **state)
{
    struct face face = clock_face();

    (void)state;
    guest_writes_msr(&face, MSR_TSC, 10 * SECOND);
    assert_about(face_get_msr(&face, MSR_TSC), 10 * SECOND);
    /* ... less what it said before. */
    assert_about(face_get_msr(&face, MSR_TSC_ADJUST) + SECOND / 4, 10 * SECOND);
    guest_writes_msr(&face, MSR_TSC_ADJUST, 20 * SECOND);
    assert_about(face_get_msr(&face, MSR_TSC), 20 * SECOND);
    assert_int_equal(face_set_msr(&face, MSR_TSC, 80 * SECOND), 1);
    assert_int_equal(face_get_msr(&face, MSR_TSC_ADJUST), 20 * SECOND);
    assert_int_equal(face_set_msr(&face, MSR_TSC_ADJUST, 7), 1);
    assert_int_equal(face_get_msr(&face, MSR_TSC_ADJUST), 7);
    assert_about(face_get_msr(&face, MSR_TSC), 80 * SECOND);
    guest_writes_msr(&face, MSR_TSC_ADJUST, 7 + SECOND * 30);
    assert_about(face_get_msr(&face, MSR_TSC), 110 * SECOND);
    face_close(&face);
}

static const struct time_page *page_of(const struct face *face)
{
    return (const void *)(face->rig.memory + PAGE_GPA);
}

/* What a guest computes, for a counter that says @tsc. */
static uint64_t guest_ns(const struct time_page *page, uint64_t tsc)
{
    return page->ns +
           (uint64_t)(((unsigned __int128)(tsc - page->tsc) << page->shift) * page->multiplier >>
                      32);
}

static uint64_t clock_of(struct face *face)
{
    struct kvm_clock_data data = {0};

    assert_int_equal(rig_call(&face->rig, KVM_GET_CLOCK, &data), 0);
    assert_int_equal(data.flags, KVM_CLOCK_TSC_STABLE | KVM_CLOCK_REALTIME | KVM_CLOCK_HOST_TSC);
    return data.clock;
}

static void guest_computes_the_clock_from_its_counter(void **state)
{
    struct face face = clock_face();
    struct kvm_clock_data data = {.clock = 1000 * SECOND};
    uint64_t before, tsc, dirty[RIG_BYTES / PAGE / 64];

    (void)state;
    guest_writes_msr(&face, MSR_TSC, 33 * SECOND);
    guest_writes_msr(&face, MSR_SYSTEM_TIME, PAGE_GPA | 1);
    assert_int_equal(face_get_msr(&face, 0x12), PAGE_GPA | 1); /* by its older number */
    assert_int_equal(page_of(&face)->version % 2, 0);
    assert_int_equal(page_of(&face)->flags, 1);
    before = clock_of(&face);
    tsc = face_get_msr(&face, MSR_TSC);
    assert_in_range(guest_ns(page_of(&face), tsc), before, clock_of(&face));
    assert_int_equal(rig_get_log(&face.rig, 0, dirty), 0);
    assert_int_equal(dirty[0] >> PAGE_GPA / PAGE & 1, 1);
    /* It is set: the page is at the next run, and of that vCPU's counter. */
    assert_int_equal(rig_call(&face.rig, KVM_SET_CLOCK, &data), 0);
    run_with(&face, "\xf4", 1, 0, 0);
    tsc = face_get_msr(&face, MSR_TSC);
    assert_about(guest_ns(page_of(&face), tsc), 1000 * SECOND);
    assert_int_equal(face_set_msr(&face, MSR_TSC, 9000 * SECOND), 1);
    run_with(&face, "\xf4", 1, 0, 0);
    assert_about(page_of(&face)->tsc, 9000 * SECOND);
    assert_about(page_of(&face)->ns, 1000 * SECOND);
    face_close(&face);
}

static void clock_that_is_off_is_not_written(void **state)
{
    struct face face = clock_face();
    const struct kvm_clock_data data = {.clock = 5};

    (void)state;
    guest_writes_msr(&face, MSR_SYSTEM_TIME, PAGE_GPA);
    assert_int_equal(page_of(&face)->version, 0);
    guest_writes_msr(&face, MSR_SYSTEM_TIME, UINT64_C(0xf00000000001)); /* no memory */
    assert_int_equal(rig_call(&face.rig, KVM_SET_CLOCK, &data), 0);
    run_with(&face, "\xf4", 1, 0, 0);
    assert_int_equal(page_of(&face)->version, 0);
    face_close(&face);
}

static void stopped_guest_is_told_until_it_has_seen_it(void **state)
{
    struct face face = clock_face();
    struct time_page *page = (void *)(face.rig.memory + PAGE_GPA);

    (void)state;
    assert_int_equal(face_ask(&face, KVM_KVMCLOCK_CTRL, NULL), -EINVAL);
    guest_writes_msr(&face, MSR_SYSTEM_TIME, PAGE_GPA | 1);
    assert_int_equal(face_ask(&face, KVM_KVMCLOCK_CTRL, NULL), 0);
    run_with(&face, "\xf4", 1, 0, 0);
    assert_int_equal(page->flags, 1 | STOPPED);
    guest_writes_msr(&face, MSR_SYSTEM_TIME, PAGE_GPA | 1);
    assert_int_equal(page->flags, 1 | STOPPED);
    page->flags = 1;
    guest_writes_msr(&face, MSR_SYSTEM_TIME, PAGE_GPA | 1);
    assert_int_equal(page->flags, 1);
    face_close(&face);
}

static void wall_clock_and_kvmclock_are_the_time_of_day(void **state)
{
    struct face face = clock_face();
    const uint32_t *words = (const void *)(face.rig.memory + PAGE_GPA);
    struct timespec now;

    (void)state;
    guest_writes_msr(&face, MSR_WALL_CLOCK, PAGE_GPA);
    clock_gettime(CLOCK_REALTIME, &now);
    assert_int_equal(words[0] % 2, 0);
    assert_int_not_equal(words[0], 0);
    assert_about(words[1] * SECOND + words[2] + clock_of(&face) - SECOND / 4,
                 (uint64_t)now.tv_sec * SECOND + (uint64_t)now.tv_nsec - SECOND / 4);
    face_close(&face);
}

static void clock_that_is_set_with_a_time_of_day_has_gone_on_since(void **state)
{
    struct face face = clock_face();
    struct kvm_clock_data data = {.clock = 40 * SECOND, .flags = KVM_CLOCK_REALTIME};
    struct timespec now;

    (void)state;
    clock_gettime(CLOCK_REALTIME, &now);
    data.realtime = ((uint64_t)now.tv_sec - 60) * SECOND + (uint64_t)now.tv_nsec;
    assert_int_equal(rig_call(&face.rig, KVM_SET_CLOCK, &data), 0);
    assert_about(clock_of(&face), 100 * SECOND);
    data.realtime += 120 * SECOND; /* is to come: nothing is taken away */
    assert_int_equal(rig_call(&face.rig, KVM_SET_CLOCK, &data), 0);
    assert_about(clock_of(&face), 40 * SECOND);
    data.flags = 1;
    assert_int_equal(rig_call(&face.rig, KVM_SET_CLOCK, &data), -EINVAL);
    assert_int_equal(rig_call(&face.rig, KVM_SET_CLOCK, (void *)8), -EFAULT);
    assert_int_equal(rig_call(&face.rig, KVM_GET_CLOCK, (void *)8), -EFAULT);
    face_close(&face);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(counters_begin_at_zero_and_agree),
        cmocka_unit_test(counters_set_within_a_second_are_the_same),
        cmocka_unit_test(adjustment_is_the_guests_alone),
        cmocka_unit_test(guest_computes_the_clock_from_its_counter),
        cmocka_unit_test(clock_that_is_off_is_not_written),
        cmocka_unit_test(stopped_guest_is_told_until_it_has_seen_it),
        cmocka_unit_test(wall_clock_and_kvmclock_are_the_time_of_day),
        cmocka_unit_test(clock_that_is_set_with_a_time_of_day_has_gone_on_since),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
