/*
 * unit/test_x86_x87.c - x87 in programs of several instructions, its pending exceptions, and its state in memory in all
 * formats. Expected values are the Intel SDM's, volume 1, chapter 8. Single instructions: tests/conformance/x86.
 */
#include "x86_rig.h"

enum {
    HANDLER = 0x11000,
    AREA = X86_RIG_DATA,
};

static uint32_t word_at(const struct x86_rig *rig, uint64_t gpa)
{
    uint32_t value;

    memcpy(&value, rig->rig.memory + gpa, 4);
    return value;
}

static uint16_t half_at(const struct x86_rig *rig, uint64_t gpa)
{
    return (uint16_t)word_at(rig, gpa);
}

static void sum_of_an_array_is_exact(void **state)
{
    /* fldz; 1: fadd qword [rbx]; add rbx,8; dec ecx; jnz 1b; fstp tbyte [rdx] */
    static const double values[] = {1, 0x1p-60, 0.5, 1e10};
    struct x86_rig rig = x86_rig_new(64);
    long double sum;

    (void)state;
    memcpy(rig.rig.memory + X86_RIG_DATA, values, sizeof(values));
    rig.cpu->gpr[X86_RBX] = X86_RIG_DATA;
    rig.cpu->gpr[X86_RCX] = 4;
    rig.cpu->gpr[X86_RDX] = X86_RIG_DATA + 0x100;
    assert_int_equal(X86_RIG_RUN(&rig, "\xdb\xe3\xd9\xee\xdc\x03\x48\x83\xc3\x08\xff\xc9\x75\xf6"
                                       "\xdb\x3a\xf4"),
                     X86_EXIT_HLT);
    memcpy(&sum, rig.rig.memory + X86_RIG_DATA + 0x100, 10);
    assert_true(sum == 1.0L + 0x1p-60L + 0.5L + 1e10L);
    assert_int_equal(rig.cpu->fpu.ftw, 0);
    x86_rig_free(&rig);
}

static void comparison_sets_the_flags(void **state)
{
    /* fninit; fldpi; fld1; fcomip st,st1: 1 is less than pi. fcmovb st,st0 and seta al see them. */
    struct x86_rig rig = x86_rig_new(64);

    (void)state;
    assert_int_equal(
        X86_RIG_RUN(&rig, "\xdb\xe3\xd9\xeb\xd9\xe8\xdf\xf1\x0f\x97\xc0\x0f\x92\xc3\xf4"),
        X86_EXIT_HLT);
    assert_int_equal(rig.cpu->gpr[X86_RAX] & 1, 0);
    assert_int_equal(rig.cpu->gpr[X86_RBX] & 1, 1);
    x86_rig_free(&rig);
}

/* fninit; fldcw [AREA], zero divide not masked; fld1; fldz; fdivp; then what is given, from CODE + 15 on. */
static enum x86_exit run_pending(struct x86_rig *rig, const char *code, size_t count)
{
    static const char prologue[] = "\xdb\xe3\xd9\x2c\x25\0\0\x02\0\xd9\xe8\xd9\xee\xde\xf9";
    uint8_t bytes[64];

    x86_rig_put(rig, AREA, 0x37b);
    memcpy(bytes, prologue, sizeof(prologue) - 1);
    memcpy(bytes + sizeof(prologue) - 1, code, count);
    return x86_rig_run(rig, bytes, sizeof(prologue) - 1 + count);
}

static void exception_comes_at_the_next_instruction_that_waits(void **state)
{
    struct x86_rig rig = x86_rig_new(64);

    (void)state;
    x86_rig_put(&rig, X86_RIG_IDT + 16 * 16, UINT64_C(0x00018e0000081000));
    rig.rig.memory[HANDLER] = 0xf4;
    /* fnstsw ax does not wait; fwait does */
    assert_int_equal(run_pending(&rig, "\xdf\xe0\x9b\xf4", 4), X86_EXIT_HLT);
    assert_int_equal(rig.cpu->rip, HANDLER + 1);
    assert_int_equal(rig.cpu->gpr[X86_RAX] & 0x80ff, 0x8084); /* busy, ES, ZE */
    assert_int_equal(word_at(&rig, X86_RIG_STACK - 40), X86_RIG_CODE + 17);
    rig.cpu->mp_state = X86_RUNNABLE;
    assert_int_equal(run_pending(&rig, "\xd9\xe8\xf4", 3), X86_EXIT_HLT); /* fld1 */
    assert_int_equal(rig.cpu->rip, HANDLER + 1);
    rig.cpu->mp_state = X86_RUNNABLE;
    assert_int_equal(run_pending(&rig, "\xdb\xe2\xd9\xe8\xf4", 5), X86_EXIT_HLT); /* fnclex; fld1 */
    assert_int_equal(rig.cpu->rip, X86_RIG_CODE + 20);
    x86_rig_free(&rig);
}

static void exception_without_ne_comes_out(void **state)
{
    /* It would come as interrupt 13 by way of the chips: not there. */
    struct x86_rig rig = x86_rig_new(64);

    (void)state;
    rig.cpu->cr0 &= ~UINT64_C(0x20);
    x86_state_changed(rig.cpu);
    assert_int_equal(run_pending(&rig, "\x9b\xf4", 2), X86_EXIT_EMULATION);
    assert_int_equal(rig.cpu->rip, X86_RIG_CODE + 15);
    x86_rig_free(&rig);
}

static void control_word_unmasks_what_is_pending(void **state)
{
    /* fninit; fld1; fldz; fdivp: masked. fldcw lets it through: the next one is #MF. */
    struct x86_rig rig = x86_rig_new(64);

    (void)state;
    x86_rig_put(&rig, X86_RIG_IDT + 16 * 16, UINT64_C(0x00018e0000081000));
    rig.rig.memory[HANDLER] = 0xf4;
    x86_rig_put(&rig, AREA, 0x37b);
    assert_int_equal(
        X86_RIG_RUN(&rig, "\xdb\xe3\xd9\xe8\xd9\xee\xde\xf9\xd9\x2c\x25\0\0\x02\0\xd9\xe8\xf4"),
        X86_EXIT_HLT);
    assert_int_equal(rig.cpu->rip, HANDLER + 1);
    assert_int_equal(word_at(&rig, X86_RIG_STACK - 40), X86_RIG_CODE + 15);
    x86_rig_free(&rig);
}

static void task_switched_flag_is_not_available(void **state)
{
    struct x86_rig rig = x86_rig_new(64);

    (void)state;
    x86_rig_put(&rig, X86_RIG_IDT + 7 * 16, UINT64_C(0x00018e0000081000));
    rig.rig.memory[HANDLER] = 0xf4;
    rig.cpu->cr0 |= 8;
    x86_state_changed(rig.cpu);
    assert_int_equal(X86_RIG_RUN(&rig, "\xd9\xe8\xf4"), X86_EXIT_HLT);
    assert_int_equal(rig.cpu->rip, HANDLER + 1);
    x86_rig_free(&rig);
}

static void environment_of_protected_mode_has_28_bytes(void **state)
{
    /* fninit; fld1; fld dword [20100]; fnstenv [20000] */
    struct x86_rig rig = x86_rig_new(32);

    (void)state;
    x86_rig_put(&rig, AREA + 28, 0x55);
    assert_int_equal(
        X86_RIG_RUN(&rig, "\xdb\xe3\xd9\xe8\xd9\x05\0\x01\x02\0\xd9\x35\0\0\x02\0\xf4"),
        X86_EXIT_HLT);
    assert_int_equal(word_at(&rig, AREA), 0xffff037f);
    assert_int_equal(word_at(&rig, AREA + 4), 0xffff3000);        /* two registers */
    assert_int_equal(word_at(&rig, AREA + 8), 0xffff1fff);        /* one of them is 0 */
    assert_int_equal(word_at(&rig, AREA + 12), X86_RIG_CODE + 4); /* FLD */
    assert_int_equal(word_at(&rig, AREA + 16) >> 16, 0x105);      /* D9 05 */
    assert_int_equal(word_at(&rig, AREA + 20), AREA + 0x100);
    assert_int_equal(word_at(&rig, AREA + 28), 0x55);
    x86_rig_free(&rig);
}

static void environment_of_16_bits_has_14_bytes(void **state)
{
    /* With an operand size prefix: fninit; fld1; fnstenv [20000] */
    struct x86_rig rig = x86_rig_new(32);

    (void)state;
    x86_rig_put(&rig, AREA + 14, 0x55);
    assert_int_equal(X86_RIG_RUN(&rig, "\xdb\xe3\xd9\xe8\x66\xd9\x35\0\0\x02\0\xf4"), X86_EXIT_HLT);
    assert_int_equal(half_at(&rig, AREA), 0x37f);
    assert_int_equal(half_at(&rig, AREA + 2), 0x3800);
    assert_int_equal(half_at(&rig, AREA + 4), 0x3fff);
    assert_int_equal(half_at(&rig, AREA + 6), (X86_RIG_CODE + 2) & 0xffff);
    assert_int_equal(half_at(&rig, AREA + 14), 0x55);
    x86_rig_free(&rig);
}

static void state_of_real_mode_has_linear_addresses(void **state)
{
    /* fninit; fld1; fnsave [2000], in a segment at 10000; the second with 32-bit operands; frstor takes it back. */
    struct x86_rig rig = x86_rig_new(16);

    (void)state;
    rig.cpu->segment[X86_DS].base = AREA;
    x86_state_changed(rig.cpu);
    assert_int_equal(X86_RIG_RUN(&rig, "\xdb\xe3\xd9\xe8\xdd\x36\0\x00\xd9\xe8\x66\xdd\x36\0\x01"
                                       "\xdd\x26\0\x00\xf4"),
                     X86_EXIT_HLT);
    assert_int_equal(half_at(&rig, AREA + 6), 2);
    assert_int_equal(half_at(&rig, AREA + 8), 0x11e8);      /* bits 16 to 19 of 10002, and D9 E8 */
    assert_int_equal(half_at(&rig, AREA + 14 + 8), 0x3fff); /* 1.0's exponent */
    assert_int_equal(word_at(&rig, AREA + 0x100 + 12), 0xffff0008);
    assert_int_equal(word_at(&rig, AREA + 0x100 + 16), 0x11e8);
    assert_int_equal(half_at(&rig, AREA + 0x100 + 28 + 8), 0x3fff);
    assert_int_equal(rig.cpu->fpu.ftw, 0x80);
    assert_int_equal(rig.cpu->fpu.fsw, 0x3800);
    assert_int_equal(rig.cpu->fpu.last_ip, 2);
    assert_int_equal(rig.cpu->fpu.last_opcode, 0x1e8);
    x86_rig_free(&rig);
}

static void store_to_mmio_pops_once(void **state)
{
    /* fninit; fld1; fstp tbyte [180000]: two pieces, and then the register is gone. */
    struct x86_rig rig = x86_rig_new(64);
    struct gm_mmu_exit *exit = gm_mmu_exit(rig.rig.mmu);

    (void)state;
    assert_int_equal(X86_RIG_RUN(&rig, "\xdb\xe3\xd9\xe8\xdb\x3c\x25\0\0\x18\0\xf4"),
                     X86_EXIT_MMIO);
    assert_int_equal(exit->size_bytes, 8);
    assert_int_equal(exit->data[7], 0x80);
    assert_int_equal(rig.cpu->fpu.ftw, 0x80);
    assert_int_equal(x86_run(rig.cpu, UINT64_MAX), X86_EXIT_MMIO);
    assert_int_equal(exit->gpa, 0x180008);
    assert_int_equal(exit->size_bytes, 2);
    assert_int_equal(exit->data[1], 0x3f);
    assert_int_equal(x86_run(rig.cpu, UINT64_MAX), X86_EXIT_HLT);
    assert_int_equal(rig.cpu->fpu.ftw, 0);
    x86_rig_free(&rig);
}

static void xrstor_initializes_what_the_header_has_not(void **state)
{
    /* fninit; fld1; xsave [20000] of both states; then of a header with SSE's alone, xrstor. */
    struct x86_rig rig = x86_rig_new(64);

    (void)state;
    rig.cpu->cr4 |= 0x40000;
    rig.cpu->xcr0 = 3;
    x86_state_changed(rig.cpu);
    rig.cpu->gpr[X86_RAX] = 7; /* AVX's is not switched on */
    rig.cpu->gpr[X86_RDX] = 0;
    rig.cpu->xmm[15].u64[1] = 0x1234;
    rig.cpu->mxcsr = 0x1fa0;
    assert_int_equal(X86_RIG_RUN(&rig, "\xdb\xe3\xd9\xe8\x0f\xae\x24\x25\0\0\x02\0\xf4"),
                     X86_EXIT_HLT);
    assert_int_equal(word_at(&rig, AREA + 512), 3);
    assert_int_equal(word_at(&rig, AREA + 24), 0x1fa0);
    assert_int_equal(half_at(&rig, AREA + 32 + 8), 0x3fff);
    assert_int_equal(word_at(&rig, AREA + 160 + 15 * 16 + 8), 0x1234);
    x86_rig_put(&rig, AREA + 512, 2);
    rig.cpu->xmm[15].u64[1] = 0;
    rig.cpu->mxcsr = 0x1f80;
    rig.cpu->mp_state = X86_RUNNABLE;
    assert_int_equal(X86_RIG_RUN(&rig, "\x0f\xae\x2c\x25\0\0\x02\0\xf4"), X86_EXIT_HLT);
    assert_int_equal(rig.cpu->xmm[15].u64[1], 0x1234);
    assert_int_equal(rig.cpu->mxcsr, 0x1fa0);
    assert_int_equal(rig.cpu->fpu.ftw, 0);
    assert_int_equal(rig.cpu->fpu.fcw, 0x37f);
    x86_rig_free(&rig);
}

static void xsave_is_undefined_until_it_is_switched_on(void **state)
{
    struct x86_rig rig = x86_rig_new(64);

    (void)state;
    x86_rig_put(&rig, X86_RIG_IDT + 6 * 16, UINT64_C(0x00018e0000081000));
    rig.rig.memory[HANDLER] = 0xf4;
    assert_int_equal(X86_RIG_RUN(&rig, "\x0f\xae\x24\x25\0\0\x02\0\xf4"), X86_EXIT_HLT);
    assert_int_equal(rig.cpu->rip, HANDLER + 1);
    x86_rig_free(&rig);
}

static void hosts_control_word_stays(void **state)
{
    /* The guest computes with single precision, the host goes on with what it had. */
    struct x86_rig rig = x86_rig_new(64);
    uint16_t before, after;

    (void)state;
    __asm__ volatile("fnstcw %0" : "=m"(before));
    x86_rig_put(&rig, AREA, 0x07f);
    assert_int_equal(X86_RIG_RUN(&rig, "\xdb\xe3\xd9\x2c\x25\0\0\x02\0\xd9\xe8\xd8\xc0\xf4"),
                     X86_EXIT_HLT);
    __asm__ volatile("fnstcw %0" : "=m"(after));
    assert_int_equal(rig.cpu->fpu.fcw, 0x7f);
    assert_int_equal(after, before);
    x86_rig_free(&rig);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sum_of_an_array_is_exact),
        cmocka_unit_test(comparison_sets_the_flags),
        cmocka_unit_test(exception_comes_at_the_next_instruction_that_waits),
        cmocka_unit_test(exception_without_ne_comes_out),
        cmocka_unit_test(control_word_unmasks_what_is_pending),
        cmocka_unit_test(task_switched_flag_is_not_available),
        cmocka_unit_test(environment_of_protected_mode_has_28_bytes),
        cmocka_unit_test(environment_of_16_bits_has_14_bytes),
        cmocka_unit_test(state_of_real_mode_has_linear_addresses),
        cmocka_unit_test(store_to_mmio_pops_once),
        cmocka_unit_test(xrstor_initializes_what_the_header_has_not),
        cmocka_unit_test(xsave_is_undefined_until_it_is_switched_on),
        cmocka_unit_test(hosts_control_word_stays),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
