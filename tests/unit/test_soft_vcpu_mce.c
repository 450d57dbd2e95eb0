/*
 * unit/test_soft_vcpu_mce.c - machine checks that the user injects: by Linux's api.rst (KVM_X86_SET_MCE) and Intel SDM 3B, 16.3.
 */
#include "vcpu_face.h"

#define MCG_CAP 0x179u
#define MCG_STATUS 0x17au
#define MCG_CTL 0x17bu
#define BANK(number, field) (0x400u + 4 * (number) + (field))
#define CTL 0u
#define STATUS 1u
#define ADDR 2u
#define BIT(number) (UINT64_C(1) << (number))
#define VAL BIT(63)
#define OVER BIT(62)
#define UNCORRECTED BIT(61)
#define CTL_P BIT(8)

static struct face mce_face(uint64_t cap)
{
    struct face face = face_soft();

    assert_int_equal(rig_set(&face.rig, 0, 0, 0, RIG_BYTES, 0), 0);
    assert_int_equal(face_ask(&face, KVM_X86_SETUP_MCE, &cap), 0);
    return face;
}

/* Real-mode code at 0x1000; a #MC goes to 0x2000. */
static void run_at(struct face *face, const void *code, size_t count, uint64_t cr4)
{
    struct kvm_regs regs = {.rip = 0x1000, .rsp = 0x8000, .rflags = 2};
    struct kvm_sregs sregs;

    memcpy(face->rig.memory + 0x1000, code, count);
    memcpy(face->rig.memory + 0x2000, "\xf4", 1);
    memcpy(face->rig.memory + 18 * 4, "\x00\x20\x00\x00", 4);
    assert_int_equal(face_ask(face, KVM_GET_SREGS, &sregs), 0);
    sregs.cs.base = sregs.cs.selector = 0;
    sregs.cr4 = cr4;
    assert_int_equal(face_ask(face, KVM_SET_SREGS, &sregs), 0);
    assert_int_equal(face_ask(face, KVM_SET_REGS, &regs), 0);
}

static uint32_t run_on(struct face *face, uint64_t *rip)
{
    struct kvm_regs regs;

    assert_int_equal(face_ask(face, KVM_RUN, NULL), 0);
    assert_int_equal(face_ask(face, KVM_GET_REGS, &regs), 0);
    *rip = regs.rip;
    return gm_soft_vcpu_run_page(face->rig.vcpu)->exit_reason;
}

static void what_is_there_can_be_set_up(void **state)
{
    struct face face = face_soft();
    uint64_t supported = 0, cap;

    (void)state;
    assert_int_equal(face_system(&face, KVM_X86_GET_MCE_CAP_SUPPORTED, &supported), 0);
    assert_int_equal(supported, CTL_P | BIT(24));
    assert_int_equal(face_system(&face, KVM_CHECK_EXTENSION, (void *)KVM_CAP_MCE), 32);
    assert_int_equal(face_get_msr(&face, MCG_CAP), 32);
    cap = supported | 10;
    assert_int_equal(face_ask(&face, KVM_X86_SETUP_MCE, &cap), 0);
    assert_int_equal(face_get_msr(&face, MCG_CAP), cap);
    assert_int_equal(face_get_msr(&face, MCG_CTL), UINT64_MAX);
    assert_int_equal(face_get_msr(&face, BANK(9, CTL)), UINT64_MAX);
    assert_int_equal(face_set_msr(&face, BANK(10, CTL), 0), 0);
    cap = supported;
    assert_int_equal(face_ask(&face, KVM_X86_SETUP_MCE, &cap), -EINVAL);
    cap = supported | 33;
    assert_int_equal(face_ask(&face, KVM_X86_SETUP_MCE, &cap), -EINVAL);
    cap = supported | 10 | BIT(10); /* interrupts for corrected ones */
    assert_int_equal(face_ask(&face, KVM_X86_SETUP_MCE, &cap), -EINVAL);
    assert_int_equal(face_ask(&face, KVM_X86_SETUP_MCE, (void *)8), -EFAULT);
    assert_int_equal(face_ask(&face, KVM_X86_SET_MCE, (void *)8), -EFAULT);
    face_close(&face);
}

static void controls_are_all_or_nothing(void **state)
{
    struct face face = mce_face(CTL_P | 4);

    (void)state;
    assert_int_equal(face_set_msr(&face, MCG_CTL, 1), 0);
    assert_int_equal(face_set_msr(&face, MCG_CTL, 0), 1);
    assert_int_equal(face_set_msr(&face, BANK(1, CTL), 1), 0);
    assert_int_equal(face_set_msr(&face, BANK(1, CTL), ~BIT(10)), 1);
    assert_int_equal(face_set_msr(&face, BANK(1, STATUS), VAL), 1); /* a guest may not */
    assert_int_equal(face_set_msr(&face, MCG_CAP, 4), 0);
    face_close(&face);
}

static void guest_clears_a_status_and_sets_none(void **state)
{
    struct face face = mce_face(CTL_P | 4);
    static const char clear[] = "\x66\xb9\x01\x04\0\0\x66\x31\xc0\x66\x31\xd2\x0f\x30\xf4";
    static const char set[] = "\x66\xb9\x01\x04\0\0\x66\x31\xd2\x66\x83\xc8\x01\x0f\x30\xf4";
    uint64_t rip;

    (void)state;
    assert_int_equal(face_set_msr(&face, BANK(0, STATUS), VAL), 1);
    run_at(&face, clear, sizeof(clear), 0);
    assert_int_equal(run_on(&face, &rip), KVM_EXIT_HLT);
    assert_int_equal(face_get_msr(&face, BANK(0, STATUS)), 0);
    memcpy(face.rig.memory + 13 * 4, "\x00\x30\x00\x00", 4); /* #GP */
    face.rig.memory[0x3000] = 0xf4;
    run_at(&face, set, sizeof(set), 0);
    assert_int_equal(run_on(&face, &rip), KVM_EXIT_HLT);
    assert_int_equal(rip, 0x3001);
    face_close(&face);
}

static void corrected_error_is_kept_by_its_bank(void **state)
{
    struct face face = mce_face(CTL_P | 4);
    struct kvm_x86_mce error = {.status = VAL | 5, .addr = 0x1234, .misc = 9, .bank = 2};
    uint64_t rip;

    (void)state;
    assert_int_equal(face_ask(&face, KVM_X86_SET_MCE, &error), 0);
    assert_int_equal(face_get_msr(&face, BANK(2, STATUS)), VAL | 5);
    assert_int_equal(face_get_msr(&face, BANK(2, ADDR)), 0x1234);
    assert_int_equal(face_ask(&face, KVM_X86_SET_MCE, &error), 0);
    assert_int_equal(face_get_msr(&face, BANK(2, STATUS)), VAL | OVER | 5);
    run_at(&face, "\xf4", 1, 0x40);
    assert_int_equal(run_on(&face, &rip), KVM_EXIT_HLT);
    assert_int_equal(rip, 0x1001); /* nothing is raised */
    error.bank = 4;
    assert_int_equal(face_ask(&face, KVM_X86_SET_MCE, &error), -EINVAL);
    error.bank = 0;
    error.status = 5;
    assert_int_equal(face_ask(&face, KVM_X86_SET_MCE, &error), -EINVAL);
    face_close(&face);
}

static void uncorrected_error_is_raised(void **state)
{
    struct face face = mce_face(CTL_P | 4);
    struct kvm_x86_mce error = {.status = VAL | UNCORRECTED, .mcg_status = 5, .bank = 1};
    const struct kvm_interrupt interrupt = {.irq = 0x20};
    uint64_t rip;

    (void)state;
    run_at(&face, "\x90\xf4", 2, 0x40);
    assert_int_equal(face_ask(&face, KVM_INTERRUPT, &interrupt), 0);
    memcpy(face.rig.memory + 0x20 * 4, "\x00\x30\x00\x00", 4);
    face.rig.memory[0x3000] = 0xf4;
    assert_int_equal(face_ask(&face, KVM_X86_SET_MCE, &error), 0);
    assert_int_equal(run_on(&face, &rip), KVM_EXIT_HLT);
    assert_int_equal(face_get_msr(&face, MCG_STATUS), 5);
    assert_true(rip == 0x3001 ||
                rip == 0x2001); /* the interrupt is not lost: it comes at once, or after */
    /* A second one, while MCIP is set, is the end. */
    assert_int_equal(face_ask(&face, KVM_X86_SET_MCE, &error), 0);
    assert_int_equal(run_on(&face, &rip), KVM_EXIT_SHUTDOWN);
    assert_int_equal(face_set_msr(&face, MCG_STATUS, 0), 1);
    run_at(&face, "\xf4", 1, 0); /* CR4.MCE is off */
    assert_int_equal(face_ask(&face, KVM_X86_SET_MCE, &error), 0);
    assert_int_equal(run_on(&face, &rip), KVM_EXIT_SHUTDOWN);
    /* A bank that is off reports none. */
    assert_int_equal(face_set_msr(&face, BANK(1, CTL), 0), 1);
    assert_int_equal(face_ask(&face, KVM_X86_SET_MCE, &error), 0);
    run_at(&face, "\xf4", 1, 0x40);
    assert_int_equal(run_on(&face, &rip), KVM_EXIT_HLT);
    assert_int_equal(rip, 0x1001);
    face_close(&face);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_there_can_be_set_up),
        cmocka_unit_test(controls_are_all_or_nothing),
        cmocka_unit_test(guest_clears_a_status_and_sets_none),
        cmocka_unit_test(corrected_error_is_kept_by_its_bank),
        cmocka_unit_test(uncorrected_error_is_raised),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
