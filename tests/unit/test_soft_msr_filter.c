/*
 * unit/test_soft_msr_filter.c - guests' MSRs that are filtered, and those that the user answers: by Linux's api.rst,
 * KVM_X86_SET_MSR_FILTER and KVM_CAP_X86_USER_SPACE_MSR.
 */
#include "vcpu_face.h"

#define MSR_STAR 0xc0000081u
#define MSR_PAT 0x277u
#define MSR_EFER 0xc0000080u
#define MSR_NONE 0x4f4f4f4fu
#define CODE 0x1000u
#define BEYOND 0x8000u /* where #GP is handled */
#define ALL (KVM_MSR_EXIT_REASON_INVAL | KVM_MSR_EXIT_REASON_UNKNOWN | KVM_MSR_EXIT_REASON_FILTER)

static const char rdmsr_hlt[] = "\x0f\x32\xf4", wrmsr_hlt[] = "\x0f\x30\xf4";

static struct face filter_face(uint64_t reasons)
{
    struct face face = face_soft();

    assert_int_equal(rig_set(&face.rig, 0, 0, 0, RIG_BYTES, 0), 0);
    assert_int_equal(rig_enable(&face.rig, KVM_CAP_X86_USER_SPACE_MSR, reasons), 0);
    memcpy(face.rig.memory + 13 * 4, "\x00\x80\x00\x00", 4);
    face.rig.memory[BEYOND] = 0xf4;
    return face;
}

/* One range of one MSR, which it denies. */
static long deny(struct face *face, uint32_t number, uint32_t kinds, uint32_t flags)
{
    uint64_t none = 0;
    const struct kvm_msr_filter filter = {
        .flags = flags,
        .ranges = {{.flags = kinds, .nmsrs = 1, .base = number, .bitmap = (uint8_t *)&none}}};

    return rig_call(&face->rig, KVM_X86_SET_MSR_FILTER, &filter);
}

static void begin(struct face *face, const void *code, uint32_t number, uint64_t value)
{
    struct kvm_regs regs = {.rip = CODE,
                            .rsp = 0x7000,
                            .rflags = 2,
                            .rcx = number,
                            .rax = (uint32_t)value,
                            .rdx = value >> 32};
    struct kvm_sregs sregs;

    memcpy(face->rig.memory + CODE, code, 3);
    assert_int_equal(face_ask(face, KVM_GET_SREGS, &sregs), 0);
    sregs.cs.base = sregs.cs.selector = 0;
    assert_int_equal(face_ask(face, KVM_SET_SREGS, &sregs), 0);
    assert_int_equal(face_ask(face, KVM_SET_REGS, &regs), 0);
}

static uint32_t go_on(struct face *face)
{
    assert_int_equal(face_ask(face, KVM_RUN, NULL), 0);
    return gm_soft_vcpu_run_page(face->rig.vcpu)->exit_reason;
}

static struct kvm_regs regs_of(struct face *face)
{
    struct kvm_regs regs = {0};

    assert_int_equal(face_ask(face, KVM_GET_REGS, &regs), 0);
    return regs;
}

static void expect_exit(struct face *face, uint32_t exit, uint32_t number, uint32_t reason)
{
    const struct kvm_run *run = gm_soft_vcpu_run_page(face->rig.vcpu);

    assert_int_equal(go_on(face), exit);
    assert_int_equal(run->msr.index, number);
    assert_int_equal(run->msr.reason, reason);
    assert_int_equal(run->msr.error, 0);
    assert_int_equal(regs_of(face).rip, CODE); /* nothing is complete yet */
}

static void expect_fault(struct face *face)
{
    assert_int_equal(go_on(face), KVM_EXIT_HLT);
    assert_int_equal(regs_of(face).rip, BEYOND + 1);
}

static void unknown_msr_is_what_the_user_says(void **state)
{
    struct face face = filter_face(ALL);
    struct kvm_run *run = gm_soft_vcpu_run_page(face.rig.vcpu);

    (void)state;
    begin(&face, rdmsr_hlt, MSR_NONE, 0);
    expect_exit(&face, KVM_EXIT_X86_RDMSR, MSR_NONE, KVM_MSR_EXIT_REASON_UNKNOWN);
    run->msr.data = 0x1122334455667788;
    assert_int_equal(go_on(&face), KVM_EXIT_HLT);
    assert_int_equal(regs_of(&face).rax, 0x55667788);
    assert_int_equal(regs_of(&face).rdx, 0x11223344);
    assert_int_equal(regs_of(&face).rip, CODE + 3);
    begin(&face, rdmsr_hlt, MSR_NONE, 0);
    expect_exit(&face, KVM_EXIT_X86_RDMSR, MSR_NONE, KVM_MSR_EXIT_REASON_UNKNOWN);
    run->msr.error = 1;
    expect_fault(&face);
    begin(&face, wrmsr_hlt, MSR_NONE, 0x0102030405060708);
    expect_exit(&face, KVM_EXIT_X86_WRMSR, MSR_NONE, KVM_MSR_EXIT_REASON_UNKNOWN);
    assert_int_equal(run->msr.data, 0x0102030405060708);
    assert_int_equal(go_on(&face), KVM_EXIT_HLT);
    assert_int_equal(regs_of(&face).rip, CODE + 3);
    begin(&face, wrmsr_hlt, MSR_NONE, 1);
    expect_exit(&face, KVM_EXIT_X86_WRMSR, MSR_NONE, KVM_MSR_EXIT_REASON_UNKNOWN);
    run->msr.error = 1;
    expect_fault(&face);
    face_close(&face);
}

static void value_that_is_refused_comes_out(void **state)
{
    struct face face = filter_face(KVM_MSR_EXIT_REASON_INVAL);

    (void)state;
    begin(&face, wrmsr_hlt, MSR_PAT, 2);
    expect_exit(&face, KVM_EXIT_X86_WRMSR, MSR_PAT, KVM_MSR_EXIT_REASON_INVAL);
    assert_int_equal(go_on(&face), KVM_EXIT_HLT);
    assert_int_equal(face_get_msr(&face, MSR_PAT), UINT64_C(0x0007040600070406));
    begin(&face, wrmsr_hlt, MSR_EFER, UINT64_C(1) << 40);
    expect_exit(&face, KVM_EXIT_X86_WRMSR, MSR_EFER, KVM_MSR_EXIT_REASON_INVAL);
    assert_int_equal(go_on(&face), KVM_EXIT_HLT);
    begin(&face, rdmsr_hlt, MSR_NONE, 0); /* of which the user did not ask to be told */
    expect_fault(&face);
    face_close(&face);
}

static void msr_that_is_denied_is_a_fault_or_comes_out(void **state)
{
    struct face face = filter_face(0);

    (void)state;
    assert_int_equal(deny(&face, MSR_STAR, KVM_MSR_FILTER_READ, 0), 0);
    begin(&face, wrmsr_hlt, MSR_STAR, 77); /* writing it is not denied */
    assert_int_equal(go_on(&face), KVM_EXIT_HLT);
    assert_int_equal(regs_of(&face).rip, CODE + 3);
    assert_int_equal(face_get_msr(&face, MSR_STAR), 77); /* nor is the user filtered */
    begin(&face, rdmsr_hlt, MSR_STAR, 0);
    expect_fault(&face);
    assert_int_equal(rig_enable(&face.rig, KVM_CAP_X86_USER_SPACE_MSR, KVM_MSR_EXIT_REASON_FILTER),
                     0);
    begin(&face, rdmsr_hlt, MSR_STAR, 0);
    expect_exit(&face, KVM_EXIT_X86_RDMSR, MSR_STAR, KVM_MSR_EXIT_REASON_FILTER);
    gm_soft_vcpu_run_page(face.rig.vcpu)->msr.data = 5;
    assert_int_equal(go_on(&face), KVM_EXIT_HLT);
    assert_int_equal(regs_of(&face).rax, 5);
    assert_int_equal(deny(&face, MSR_STAR, KVM_MSR_FILTER_WRITE, 0), 0);
    begin(&face, wrmsr_hlt, MSR_STAR, 78);
    expect_exit(&face, KVM_EXIT_X86_WRMSR, MSR_STAR, KVM_MSR_EXIT_REASON_FILTER);
    assert_int_equal(go_on(&face), KVM_EXIT_HLT);
    assert_int_equal(face_get_msr(&face, MSR_STAR), 77);
    face_close(&face);
}

static void ranges_are_asked_in_their_order(void **state)
{
    struct face face = filter_face(0);
    uint64_t some = 4, none = 0; /* of bits, 1 lets pass */
    struct kvm_msr_filter filter = {
        .flags = KVM_MSR_FILTER_DEFAULT_DENY,
        .ranges = {{.flags = 1, .nmsrs = 3, .base = MSR_STAR - 2, .bitmap = (uint8_t *)&some},
                   {.flags = 1, .nmsrs = 64, .base = MSR_STAR - 2, .bitmap = (uint8_t *)&none}}};

    (void)state;
    assert_int_equal(rig_call(&face.rig, KVM_X86_SET_MSR_FILTER, &filter), 0);
    begin(&face, rdmsr_hlt, MSR_STAR, 0);
    assert_int_equal(go_on(&face), KVM_EXIT_HLT);
    assert_int_equal(regs_of(&face).rip, CODE + 3);
    begin(&face, rdmsr_hlt, MSR_STAR + 1, 0); /* the second's */
    expect_fault(&face);
    begin(&face, rdmsr_hlt, MSR_PAT, 0); /* nobody's */
    expect_fault(&face);
    filter = (struct kvm_msr_filter){0};
    assert_int_equal(rig_call(&face.rig, KVM_X86_SET_MSR_FILTER, &filter), 0);
    begin(&face, rdmsr_hlt, MSR_PAT, 0);
    assert_int_equal(go_on(&face), KVM_EXIT_HLT);
    assert_int_equal(regs_of(&face).rip, CODE + 3);
    face_close(&face);
}

static void filter_that_is_refused_changes_nothing(void **state)
{
    struct face face = filter_face(0);
    uint64_t none = 0;
    struct kvm_msr_filter filter = {
        .ranges = {{.flags = 3, .nmsrs = 8, .base = MSR_STAR, .bitmap = (uint8_t *)&none}}};

    (void)state;
    assert_int_equal(deny(&face, MSR_STAR, KVM_MSR_FILTER_READ, 0), 0);
    assert_int_equal(deny(&face, MSR_PAT, 4, 0), -EINVAL);
    assert_int_equal(deny(&face, MSR_PAT, 1, 2), -EINVAL);
    filter.ranges[1].nmsrs = KVM_MSR_FILTER_MAX_BITMAP_SIZE * 8 + 1;
    assert_int_equal(rig_call(&face.rig, KVM_X86_SET_MSR_FILTER, &filter), -EINVAL);
    filter.ranges[1].nmsrs = 1;
    filter.ranges[1].bitmap = (uint8_t *)8;
    assert_int_equal(rig_call(&face.rig, KVM_X86_SET_MSR_FILTER, &filter), -EFAULT);
    assert_int_equal(rig_call(&face.rig, KVM_X86_SET_MSR_FILTER, (void *)8), -EFAULT);
    filter = (struct kvm_msr_filter){.flags = KVM_MSR_FILTER_DEFAULT_DENY}; /* all of them */
    assert_int_equal(rig_call(&face.rig, KVM_X86_SET_MSR_FILTER, &filter), -EINVAL);
    assert_int_equal(rig_enable(&face.rig, KVM_CAP_X86_USER_SPACE_MSR, 8), -EINVAL);
    begin(&face, rdmsr_hlt, MSR_PAT, 0);
    assert_int_equal(go_on(&face), KVM_EXIT_HLT);
    begin(&face, rdmsr_hlt, MSR_STAR, 0);
    expect_fault(&face);
    face_close(&face);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(unknown_msr_is_what_the_user_says),
        cmocka_unit_test(value_that_is_refused_comes_out),
        cmocka_unit_test(msr_that_is_denied_is_a_fault_or_comes_out),
        cmocka_unit_test(ranges_are_asked_in_their_order),
        cmocka_unit_test(filter_that_is_refused_changes_nothing),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
