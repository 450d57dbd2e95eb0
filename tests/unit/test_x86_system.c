/*
 * unit/test_x86_system.c - system instructions and events where the software vCPU was once wrong. Found by
 * tests/conformance/system and fuzz/; what is expected is the Intel SDM's.
 */
#include "x86_rig.h"

enum {
    TSS = 0x6000,
    HANDLER = 0x11000,
    RING0_STACK = 0x70000,
};

static void clac_and_stac_are_there_without_cr4_smap(void **state)
{
    /* SDM 2A, CLAC: #UD where CPUID has no SMAP, or in rings 1 to 3; CR4 and the mode do not count. */
    static const struct x86_cpuid_entry lacking = {.function = 7, .ebx = 0};
    struct x86_rig rig = x86_rig_new(16);

    (void)state;
    assert_int_equal(X86_RIG_RUN(&rig, "\x0f\x01\xcb\xf4"), X86_EXIT_HLT); /* stac; hlt */
    assert_int_equal(rig.cpu->rip, 4);
    assert_int_equal(x86_get_rflags(rig.cpu) & 0x40000, 0x40000);
    rig.cpu->cpuid = &lacking;
    rig.cpu->cpuid_count = 1;
    rig.cpu->mp_state = X86_RUNNABLE;
    x86_rig_put(&rig, 6 * 4, HANDLER >> 4 << 16); /* of #UD */
    rig.rig.memory[HANDLER] = 0xf4;
    assert_int_equal(X86_RIG_RUN(&rig, "\x0f\x01\xca\xf4"), X86_EXIT_HLT);
    assert_int_equal(rig.cpu->segment[X86_CS].selector, HANDLER >> 4);
    x86_rig_free(&rig);
}

static void return_outwards_makes_null_selectors_zero(void **state)
{
    /* SDM 2A, IRET, RETURN-TO-OUTER-PRIVILEGE-LEVEL: a null selector, whatever its RPL, becomes 0. */
    struct x86_rig rig = x86_rig_new(32);

    (void)state;
    x86_rig_put(&rig, X86_RIG_GDT + 0x18, UINT64_C(0x00cffb000000ffff)); /* code, ring 3 */
    x86_rig_put(&rig, X86_RIG_GDT + 0x20, UINT64_C(0x00cff3000000ffff)); /* data, ring 3 */
    x86_rig_put(&rig, X86_RIG_IDT + 13 * 8, UINT64_C(0x0001ee0000081000));
    x86_rig_put(&rig, TSS + 4, RING0_STACK | UINT64_C(0x10) << 32);
    rig.cpu->tr = (struct x86_segment){.base = TSS, .limit = 0x67, .type = 11, .present = 1};
    memcpy(rig.rig.memory + 0x12000, "\x8c\xe1\xf4", 3); /* mov ecx,fs; hlt: #GP */
    rig.rig.memory[HANDLER] = 0xf4;
    /* mov eax,3; mov fs,ax; push 23; push 50000; push 1b; push 12000; retf */
    assert_int_equal(
        X86_RIG_RUN(&rig, "\xb8\x03\0\0\0\x8e\xe0\x6a\x23\x68\0\0\x05\0\x6a\x1b\x68\0\x20\x01"
                          "\0\xcb"),
        X86_EXIT_HLT);
    assert_int_equal(rig.cpu->gpr[X86_RCX], 0);
    x86_rig_free(&rig);
}

static void iret_in_real_mode_leaves_vif_and_vip(void **state)
{
    /* SDM 2A, IRET: EFLAGS = (popped AND 257FD5) OR (EFLAGS AND 1A0000). */
    struct x86_rig rig = x86_rig_new(16);

    (void)state;
    /* push 1c0202 (dword); push cs (dword); push 20 (dword); iretd; ... 20: hlt */
    rig.rig.memory[X86_RIG_CODE + 0x20] = 0xf4;
    assert_int_equal(
        X86_RIG_RUN(&rig, "\x66\x68\x02\x02\x1c\0\x66\x68\0\x10\0\0\x66\x6a\x20\x66\xcf"),
        X86_EXIT_HLT);
    assert_int_equal(rig.cpu->rip, 0x21);
    assert_int_equal(x86_get_rflags(rig.cpu), 0x40202);
    x86_rig_free(&rig);
}

static void budget_ends_a_handler_that_faults_by_itself(void **state)
{
    /* #UD leads to UD2, for ever: no instruction is ever completed. */
    struct x86_rig rig = x86_rig_new(16);

    (void)state;
    x86_rig_put(&rig, 6 * 4, X86_RIG_CODE >> 4 << 16);
    memcpy(rig.rig.memory + X86_RIG_CODE, "\x0f\x0b", 2);
    assert_int_equal(x86_run(rig.cpu, 100), X86_EXIT_BUDGET);
    assert_int_equal(rig.cpu->rip, 0);
    assert_int_equal(rig.cpu->gpr[X86_RSP], 0x8000 - 6 * 100);
    x86_rig_free(&rig);
}

/* Ring 3's code at X86_RIG_CODE, SYSCALL's target at HANDLER, and #DB's handler, a HLT, at 0x12000. */
static struct x86_rig rig_with_system_calls(uint64_t syscall_mask)
{
    struct x86_rig rig = x86_rig_new(64);

    x86_rig_put(&rig, X86_RIG_IDT + 1 * 16, UINT64_C(0x00018e0000082000));
    rig.rig.memory[0x12000] = 0xf4;
    x86_rig_put(&rig, TSS + 4, RING0_STACK);
    rig.cpu->tr = (struct x86_segment){.base = TSS, .limit = 0x67, .type = 11, .present = 1};
    rig.cpu->msr.star = UINT64_C(0x0013000800000000);
    rig.cpu->msr.lstar = HANDLER;
    rig.cpu->msr.syscall_mask = syscall_mask;
    return rig;
}

static void syscall_that_clears_tf_is_not_followed_by_a_trap(void **state)
{
    /* TF counts as SYSCALL leaves it, so that a kernel can keep #DB off the program's stack by IA32_FMASK. */
    struct x86_rig rig = rig_with_system_calls(0x100);

    (void)state;
    rig.rig.memory[HANDLER] = 0xf4;
    x86_set_rflags(rig.cpu, 0x102);
    assert_int_equal(X86_RIG_RUN(&rig, "\x0f\x05"), X86_EXIT_HLT); /* syscall */
    assert_int_equal(rig.cpu->rip, HANDLER + 1);
    assert_int_equal(rig.cpu->gpr[11], 0x102);
    x86_rig_free(&rig);
    rig = rig_with_system_calls(0);
    rig.rig.memory[HANDLER] = 0xf4;
    x86_set_rflags(rig.cpu, 0x102);
    assert_int_equal(X86_RIG_RUN(&rig, "\x0f\x05"), X86_EXIT_HLT);
    assert_int_equal(rig.cpu->rip, 0x12001);
    x86_rig_free(&rig);
}

static void sysret_that_sets_tf_is_followed_by_a_trap(void **state)
{
    /* Unlike after IRET and POPF, not one more instruction is done (as Linux's entry code says of processors). */
    struct x86_rig rig = rig_with_system_calls(0);
    uint64_t pushed;

    (void)state;
    rig.rig.memory[0x13000] = 0x90;
    rig.cpu->gpr[X86_RCX] = 0x13000;
    rig.cpu->gpr[11] = 0x102;
    assert_int_equal(X86_RIG_RUN(&rig, "\x48\x0f\x07"), X86_EXIT_HLT); /* sysretq */
    assert_int_equal(rig.cpu->rip, 0x12001);
    assert_int_equal(rig.cpu->dr[6] & 0x4000, 0x4000);
    memcpy(&pushed, rig.rig.memory + RING0_STACK - 40, 8);
    assert_int_equal(pushed, 0x13000);
    x86_rig_free(&rig);
}

/* 32-bit code of ring 0 whose #GP ends at HANDLER; code of ring 3, 4 KiB, not accessed, is 1b, data of ring 3 is 23. */
static struct x86_rig rig_with_outer_ring(void)
{
    struct x86_rig rig = x86_rig_new(32);

    x86_rig_put(&rig, X86_RIG_GDT + 0x18, UINT64_C(0x0040fa0000000fff));
    x86_rig_put(&rig, X86_RIG_GDT + 0x20, UINT64_C(0x00cff3000000ffff));
    x86_rig_put(&rig, X86_RIG_IDT + 13 * 8, UINT64_C(0x00018e0000081000));
    rig.rig.memory[HANDLER] = 0xf4;
    return rig;
}

/* Of #GP, at HANDLER. */
static uint32_t error_code(const struct x86_rig *rig)
{
    uint32_t code;

    assert_int_equal(rig->cpu->rip, HANDLER + 1);
    memcpy(&code, rig->rig.memory + rig->cpu->gpr[X86_RSP], sizeof(code));
    return code;
}

static void return_outwards_looks_at_the_stack_before_the_limit(void **state)
{
    /* SDM 2A, IRET, and 2B, RET, RETURN-TO-OUTER-PRIVILEGE-LEVEL; descriptors that were not loaded were not accessed. */
    struct x86_rig rig = rig_with_outer_ring();
    uint8_t access;

    (void)state;
    /* push 10; push 50000; push 2; push 1b; push 1000; iret */
    assert_int_equal(X86_RIG_RUN(&rig, "\x6a\x10\x68\0\0\x05\0\x6a\x02\x6a\x1b\x68\0\x10\0\0\xcf"),
                     X86_EXIT_HLT);
    assert_int_equal(error_code(&rig), 0x10);
    rig.cpu->mp_state = X86_RUNNABLE;
    /* push 10; push 50000; push 1b; push 1000; retf */
    assert_int_equal(X86_RIG_RUN(&rig, "\x6a\x10\x68\0\0\x05\0\x6a\x1b\x68\0\x10\0\0\xcb"),
                     X86_EXIT_HLT);
    assert_int_equal(error_code(&rig), 0x10);
    rig.cpu->mp_state = X86_RUNNABLE;
    /* push 23; push 50000; push 2; push 1b; push 1000; iret: one past the limit */
    assert_int_equal(X86_RIG_RUN(&rig, "\x6a\x23\x68\0\0\x05\0\x6a\x02\x6a\x1b\x68\0\x10\0\0\xcf"),
                     X86_EXIT_HLT);
    assert_int_equal(error_code(&rig), 0);
    access = rig.rig.memory[X86_RIG_GDT + 0x1d];
    assert_int_equal(access, 0xfa);
    x86_rig_free(&rig);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(clac_and_stac_are_there_without_cr4_smap),
        cmocka_unit_test(return_outwards_makes_null_selectors_zero),
        cmocka_unit_test(budget_ends_a_handler_that_faults_by_itself),
        cmocka_unit_test(iret_in_real_mode_leaves_vif_and_vip),
        cmocka_unit_test(syscall_that_clears_tf_is_not_followed_by_a_trap),
        cmocka_unit_test(sysret_that_sets_tf_is_followed_by_a_trap),
        cmocka_unit_test(return_outwards_looks_at_the_stack_before_the_limit),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
