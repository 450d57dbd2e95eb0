/*
 * unit/test_soft_processors.c - which vCPU is the bootstrap processor, which ids there are, and what guests see of the platform: by
 * Linux's api.rst, KVM_SET_BOOT_CPU_ID, KVM_CAP_MAX_VCPU_ID, KVM_CAP_MSR_PLATFORM_INFO.
 */
#include "vcpu_face.h"

#define MSR_APIC_BASE 0x1bu
#define MSR_PLATFORM_INFO 0xceu
#define BSP UINT64_C(0x100)
#define CODE 0x1000u
#define HANDLER 0x8000u /* of #GP */

enum chips {
    WITH_CHIPS,
    WITHOUT_CHIPS,
};

static struct face boot_face(enum chips chips, unsigned boot)
{
    struct face face = {.rig = rig_new_without_vcpu(NULL)};

    if (chips == WITH_CHIPS) {
        assert_int_equal(rig_call(&face.rig, KVM_CREATE_IRQCHIP, NULL), 0);
    }
    assert_int_equal(rig_call_number(&face.rig, KVM_SET_BOOT_CPU_ID, boot), 0);
    return face;
}

/* Return: of a new vCPU: its APIC base's flag, and its mp_state. */
static bool is_bootstrap(struct face *face, unsigned id, uint32_t *mp_state)
{
    struct kvm_mp_state state;
    bool is;

    assert_int_equal(gm_soft_vcpu_new(face->rig.soft, id, &face->rig.vcpu), 0);
    is = (face_get_msr(face, MSR_APIC_BASE) & BSP) != 0;
    assert_int_equal(face_ask(face, KVM_GET_MP_STATE, &state), 0);
    *mp_state = state.mp_state;
    assert_int_equal(rig_call_number(&face->rig, KVM_SET_BOOT_CPU_ID, 0), -EBUSY);
    gm_soft_vcpu_free(face->rig.vcpu);
    face->rig.vcpu = NULL;
    return is;
}

static void bootstrap_processor_is_the_one_that_was_chosen(void **state)
{
    (void)state;
    for (unsigned boot = 0; boot < 3; boot++) {
        struct face with = boot_face(WITH_CHIPS, boot), without = boot_face(WITHOUT_CHIPS, boot);

        for (unsigned id = 0; id < 3; id++) {
            uint32_t mp_state;

            assert_int_equal(is_bootstrap(&with, id, &mp_state), id == boot);
            assert_int_equal(mp_state,
                             id == boot ? KVM_MP_STATE_RUNNABLE : KVM_MP_STATE_UNINITIALIZED);
            assert_int_equal(is_bootstrap(&without, id, &mp_state), id == boot);
            assert_int_equal(mp_state, KVM_MP_STATE_RUNNABLE);
        }
        rig_free(&with.rig);
        rig_free(&without.rig);
    }
}

static void ids_are_below_the_limit_that_was_set(void **state)
{
    struct rig rig = rig_new_without_vcpu(NULL);
    long ids = rig_call_number(&rig, KVM_CHECK_EXTENSION, KVM_CAP_MAX_VCPU_ID);

    (void)state;
    assert_int_equal(rig_enable(&rig, KVM_CAP_MAX_VCPU_ID, (uint64_t)ids + 1), -EINVAL);
    assert_int_equal(rig_enable(&rig, KVM_CAP_MAX_VCPU_ID, 0), 0);
    assert_int_equal(rig_enable(&rig, KVM_CAP_MAX_VCPU_ID, 7), 0);
    assert_int_equal(rig_enable(&rig, KVM_CAP_MAX_VCPU_ID, 8), -EINVAL);
    assert_int_equal(rig_enable(&rig, KVM_CAP_MAX_VCPU_ID, 7), 0);
    assert_int_equal(gm_soft_vcpu_new(rig.soft, 7, &rig.vcpu), -EINVAL);
    assert_int_equal(gm_soft_vcpu_new(rig.soft, 6, &rig.vcpu), 0);
    rig_free(&rig);
}

/* RDMSR, or WRMSR, in real mode. Return: is it #GP? */
static bool is_refused(struct face *face, const char code[4], uint64_t *value)
{
    struct kvm_regs regs = {.rip = CODE, .rsp = 0x7000, .rflags = 2, .rcx = MSR_PLATFORM_INFO};
    struct kvm_sregs sregs;

    memcpy(face->rig.memory + CODE, code, 3);
    memcpy(face->rig.memory + 13 * 4, "\x00\x80\x00\x00", 4);
    face->rig.memory[HANDLER] = 0xf4;
    assert_int_equal(face_ask(face, KVM_GET_SREGS, &sregs), 0);
    sregs.cs.base = sregs.cs.selector = 0;
    assert_int_equal(face_ask(face, KVM_SET_SREGS, &sregs), 0);
    assert_int_equal(face_ask(face, KVM_SET_REGS, &regs), 0);
    assert_int_equal(face_ask(face, KVM_RUN, NULL), 0);
    assert_int_equal(face_ask(face, KVM_GET_REGS, &regs), 0);
    *value = regs.rdx << 32 | regs.rax;
    assert_int_equal(gm_soft_vcpu_run_page(face->rig.vcpu)->exit_reason, KVM_EXIT_HLT);
    return regs.rip == HANDLER + 1;
}

static void platform_is_what_the_user_says_unless_it_is_hidden(void **state)
{
    struct face face = face_soft();
    const char *read = "\x0f\x32\xf4", *write = "\x0f\x30\xf4";
    uint64_t value;

    (void)state;
    assert_int_equal(rig_set(&face.rig, 0, 0, 0, RIG_BYTES, 0), 0);
    assert_int_equal(face_set_msr(&face, MSR_PLATFORM_INFO, 0x12340000ff00), 1);
    assert_int_equal(face_set_msr(&face, MSR_PLATFORM_INFO, UINT64_C(1) << 31), 0);
    assert_false(is_refused(&face, read, &value));
    assert_int_equal(value, 0x12340000ff00);
    assert_true(is_refused(&face, write, &value));
    assert_int_equal(rig_enable(&face.rig, KVM_CAP_MSR_PLATFORM_INFO, 0), 0);
    assert_true(is_refused(&face, read, &value));
    assert_int_equal(face_get_msr(&face, MSR_PLATFORM_INFO), 0x12340000ff00);
    assert_int_equal(rig_enable(&face.rig, KVM_CAP_MSR_PLATFORM_INFO, 1), 0);
    assert_false(is_refused(&face, read, &value));
    face_close(&face);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bootstrap_processor_is_the_one_that_was_chosen),
        cmocka_unit_test(ids_are_below_the_limit_that_was_set),
        cmocka_unit_test(platform_is_what_the_user_says_unless_it_is_hidden),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
