/*
 * unit/test_soft_vcpu_debug.c - KVM_SET_GUEST_DEBUG of the software KVM: what comes out as KVM_EXIT_DEBUG, and what is kept from the
 * guest meanwhile. Expected values are those of Linux's api.rst and of the Intel SDM, volume 3B, 17.2.
 */
#include "run_rig.h"

static void single_step_comes_out_after_each_instruction(void **state)
{
    const struct kvm_guest_debug on = {.control = KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_SINGLESTEP};
    const struct kvm_guest_debug off = {0};
    const struct kvm_guest_debug refused = {.control = KVM_GUESTDBG_ENABLE | 1u << 30};
    struct rig rig = run_rig_new(NULL);

    (void)state;
    RUN_LOAD(&rig, "\x40\xeb\x01\x90\x40\xf4"); /* inc ax; jmp +1; nop; inc ax; hlt */
    assert_int_equal(gm_soft_vcpu_ioctl(rig.vcpu, KVM_SET_GUEST_DEBUG, (uintptr_t)&refused),
                     -EINVAL);
    assert_int_equal(gm_soft_vcpu_ioctl(rig.vcpu, KVM_SET_GUEST_DEBUG, (uintptr_t)&on), 0);
    assert_run_exits(&rig, KVM_EXIT_DEBUG);
    assert_int_equal(run_page(&rig)->debug.arch.exception, 1);
    assert_int_equal(run_page(&rig)->debug.arch.pc, RUN_CODE + 1);
    assert_int_equal(run_page(&rig)->debug.arch.dr6, 0xffff4ff0);
    assert_int_equal(run_page(&rig)->debug.arch.dr7, 0x400);
    assert_run_exits(&rig, KVM_EXIT_DEBUG);
    assert_int_equal(run_page(&rig)->debug.arch.pc, RUN_CODE + 4);
    assert_int_equal(gm_soft_vcpu_ioctl(rig.vcpu, KVM_SET_GUEST_DEBUG, (uintptr_t)&off), 0);
    assert_run_exits(&rig, KVM_EXIT_HLT);
    assert_int_equal(rig.vcpu->x86->gpr[X86_RAX], 2);
    rig_free(&rig);
}

static void breakpoint_of_the_vmm_comes_out_before_its_instruction(void **state)
{
    struct kvm_guest_debug on = {.control = KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_USE_HW_BP};
    const struct kvm_guest_debug off = {0};
    struct rig rig = run_rig_new(NULL);

    (void)state;
    on.arch.debugreg[2] = RUN_CODE + 1;
    on.arch.debugreg[7] = 0x620;
    RUN_LOAD(&rig, "\x40\x40\xf4"); /* inc ax; inc ax; hlt */
    assert_int_equal(gm_soft_vcpu_ioctl(rig.vcpu, KVM_SET_GUEST_DEBUG, (uintptr_t)&on), 0);
    assert_run_exits(&rig, KVM_EXIT_DEBUG);
    assert_int_equal(run_page(&rig)->debug.arch.exception, 1);
    assert_int_equal(run_page(&rig)->debug.arch.pc, RUN_CODE + 1);
    assert_int_equal(run_page(&rig)->debug.arch.dr6, 0xffff0ff4);
    assert_int_equal(run_page(&rig)->debug.arch.dr7, 0x620);
    assert_int_equal(rig.vcpu->x86->gpr[X86_RAX], 1);
    assert_int_equal(gm_soft_vcpu_ioctl(rig.vcpu, KVM_SET_GUEST_DEBUG, (uintptr_t)&off), 0);
    assert_run_exits(&rig, KVM_EXIT_HLT);
    assert_int_equal(rig.vcpu->x86->gpr[X86_RAX], 2);
    rig_free(&rig);
}

static void set_guest_debug(struct rig *rig, uint32_t control, uint64_t dr7)
{
    struct kvm_guest_debug debug = {.control = control};

    debug.arch.debugreg[7] = dr7;
    assert_int_equal(gm_soft_vcpu_ioctl(rig->vcpu, KVM_SET_GUEST_DEBUG, (uintptr_t)&debug), 0);
}

static void int3_of_the_vmm_comes_out_at_its_address(void **state)
{
    struct rig rig = run_rig_new(NULL);

    (void)state;
    RUN_LOAD(&rig, "\x40\xcc\x40\xf4"); /* inc ax; int3; inc ax; hlt */
    set_guest_debug(&rig, KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_USE_SW_BP, 0);
    for (unsigned i = 0; i < 2; i++) { /* it is still there */
        assert_run_exits(&rig, KVM_EXIT_DEBUG);
        assert_int_equal(run_page(&rig)->debug.arch.exception, 3);
        assert_int_equal(run_page(&rig)->debug.arch.pc, RUN_CODE + 1);
        assert_int_equal(rig.vcpu->x86->gpr[X86_RAX], 1);
    }
    rig.vcpu->x86->rip++;
    assert_run_exits(&rig, KVM_EXIT_HLT);
    assert_int_equal(rig.vcpu->x86->gpr[X86_RAX], 2);
    rig_free(&rig);
}

static void debug_registers_guarded_by_the_vmm_come_out(void **state)
{
    struct rig rig = run_rig_new(NULL);

    (void)state;
    RUN_LOAD(&rig, "\x0f\x21\xc0\xf4"); /* mov eax,dr0; hlt */
    set_guest_debug(&rig, KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_USE_HW_BP, 0x2400);
    assert_run_exits(&rig, KVM_EXIT_DEBUG);
    assert_int_equal(run_page(&rig)->debug.arch.exception, 1);
    assert_int_equal(run_page(&rig)->debug.arch.pc, RUN_CODE);
    assert_int_equal(run_page(&rig)->debug.arch.dr6, 0xffff2ff0);
    set_guest_debug(&rig, 0, 0);
    assert_run_exits(&rig, KVM_EXIT_HLT);
    rig_free(&rig);
}

static void nmi_waits_while_the_vmm_blocks_interrupts(void **state)
{
    struct rig rig = run_rig_new(NULL);

    (void)state;
    RUN_LOAD(&rig, "\x40\x40\xf4"); /* inc ax; inc ax; hlt */
    set_guest_debug(&rig, KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_SINGLESTEP | KVM_GUESTDBG_BLOCKIRQ, 0);
    assert_int_equal(gm_soft_vcpu_ioctl(rig.vcpu, KVM_NMI, 0), 0);
    assert_run_exits(&rig, KVM_EXIT_DEBUG);
    assert_int_equal(run_page(&rig)->debug.arch.pc, RUN_CODE + 1);
    assert_true(rig.vcpu->x86->is_nmi_pending);
    set_guest_debug(&rig, KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_SINGLESTEP, 0);
    (void)run(&rig);
    assert_false(rig.vcpu->x86->is_nmi_pending);
    rig_free(&rig);
}

static void exception_that_the_vmm_injects_is_delivered(void **state)
{
    /* #BP by its vector in the IVT; a second one has to wait. */
    const struct kvm_guest_debug inject = {.control = KVM_GUESTDBG_INJECT_BP};
    const uint16_t handler[2] = {RUN_CODE + 2, 0};
    struct rig rig = run_rig_new(NULL);

    (void)state;
    RUN_LOAD(&rig, "\xf4\x90\x40\xf4"); /* hlt; nop; inc ax; hlt */
    memcpy(rig.memory + 3 * sizeof(handler), handler, sizeof(handler));
    assert_int_equal(gm_soft_vcpu_ioctl(rig.vcpu, KVM_SET_GUEST_DEBUG, (uintptr_t)&inject), 0);
    assert_int_equal(gm_soft_vcpu_ioctl(rig.vcpu, KVM_SET_GUEST_DEBUG, (uintptr_t)&inject), -EBUSY);
    assert_run_exits(&rig, KVM_EXIT_HLT);
    assert_int_equal(rig.vcpu->x86->gpr[X86_RAX], 1);
    rig_free(&rig);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(single_step_comes_out_after_each_instruction),
        cmocka_unit_test(breakpoint_of_the_vmm_comes_out_before_its_instruction),
        cmocka_unit_test(int3_of_the_vmm_comes_out_at_its_address),
        cmocka_unit_test(debug_registers_guarded_by_the_vmm_come_out),
        cmocka_unit_test(nmi_waits_while_the_vmm_blocks_interrupts),
        cmocka_unit_test(exception_that_the_vmm_injects_is_delivered),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
