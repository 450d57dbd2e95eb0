/*
 * unit/test_x86_debug.c - the breakpoints of DR0 to DR3: what meets them, what DR6 and the pushed flags say, and the
 * VMM's own. Expected values are the Intel SDM's (3B, 17.2, 17.3.1).
 */
#include "x86_rig.h"

enum {
    HANDLER = 0x11000,
};

/* 64-bit code whose #DB ends at HANDLER; breakpoint 1 is at an address, of a kind (0 execution, 1 writes, 2 ports, 3
 * accesses) and length as DR7 has it. */
static struct x86_rig rig_with_breakpoint(uint64_t address, unsigned kind, unsigned length)
{
    struct x86_rig rig = x86_rig_new(64);

    x86_rig_put(&rig, X86_RIG_IDT + 16, UINT64_C(0x00018e0000081000));
    rig.rig.memory[HANDLER] = 0xf4;
    rig.cpu->dr[1] = address;
    rig.cpu->dr[7] = 0x404 | (uint64_t)(kind | length << 2) << 20;
    x86_state_changed(rig.cpu);
    return rig;
}

static uint64_t pushed(const struct x86_rig *rig, unsigned index)
{
    uint64_t value;

    memcpy(&value, rig->rig.memory + rig->cpu->gpr[X86_RSP] + 8 * index, sizeof(value));
    return value;
}

/* It ended in #DB's handler: the pushed rip. */
static uint64_t trapped_at(const struct x86_rig *rig, uint64_t dr6_low)
{
    assert_int_equal(rig->cpu->rip, HANDLER + 1);
    assert_int_equal(rig->cpu->dr[6] & 0xe00f, dr6_low);
    return pushed(rig, 0) - X86_RIG_CODE;
}

static void execution_breakpoint_is_a_fault_that_rf_passes(void **state)
{
    /* Before the instruction, without RF in what is pushed; with RF set, once not. */
    struct x86_rig rig = rig_with_breakpoint(X86_RIG_CODE + 2, 0, 0);

    (void)state;
    /* inc eax; inc eax; hlt */
    assert_int_equal(X86_RIG_RUN(&rig, "\xff\xc0\xff\xc0\xf4"), X86_EXIT_HLT);
    assert_int_equal(trapped_at(&rig, 2), 2);
    assert_int_equal(rig.cpu->gpr[X86_RAX], 1);
    assert_int_equal(pushed(&rig, 2) & 0x10000, 0);
    /* The handler returns with RF: or qword [rsp+10],10000; iretq. Then the loop meets it again. */
    memcpy(rig.rig.memory + HANDLER, "\x48\x81\x4c\x24\x10\0\0\x01\0\x48\xcf", 11);
    rig.cpu->mp_state = X86_RUNNABLE;
    rig.cpu->gpr[X86_RAX] = 0;
    rig.cpu->gpr[X86_RCX] = 3;
    /* nop; nop; inc eax; loop -4; hlt */
    assert_int_equal(X86_RIG_RUN(&rig, "\x90\x90\xff\xc0\xe2\xfc\xf4"), X86_EXIT_HLT);
    assert_int_equal(rig.cpu->rip, X86_RIG_CODE + 7);
    assert_int_equal(rig.cpu->gpr[X86_RAX], 3);
    assert_int_equal(rig.cpu->rflags & 0x10000, 0);
    x86_rig_free(&rig);
}

static void data_breakpoint_traps_after_the_access(void **state)
{
    /* Each code is followed by HLT, and the trap is behind the first instruction; or HLT is reached. */
    static const struct {
        const char *code;
        uint8_t size, kind, length;
        bool is_met;
    } cases[] = {
        {"\xc6\x03\x01", 3, 1, 0, true},              /* mov byte [rbx],1 */
        {"\x8a\x03\x90", 2, 1, 0, false},             /* mov al,[rbx]: not of writes */
        {"\x8a\x03\x90", 2, 3, 0, true},              /* ... of accesses */
        {"\x88\x43\x03", 3, 1, 3, true},              /* mov [rbx+3],al: the last of four bytes */
        {"\x88\x43\x04", 3, 1, 3, false},             /* ... behind them */
        {"\x48\x89\x43\xf9", 4, 1, 0, true},          /* mov [rbx-7],rax: with its last byte */
        {"\x48\x89\x43\xf8", 4, 1, 0, false},         /* ... before it */
        {"\x48\x89\x43\x07", 4, 1, 2, true},          /* the last of eight bytes */
        {"\xff\x03", 2, 1, 0, true},                  /* inc dword [rbx] */
        {"\xf0\x0f\xc1\x03", 4, 1, 0, true},          /* lock xadd [rbx],eax */
        {"\x48\x0f\xc7\x4b\xf0\x90", 5, 1, 0, false}, /* cmpxchg16b [rbx-10] */
        {"\x48\x0f\xc7\x0b\x90", 4, 1, 0, true},      /* cmpxchg16b [rbx] */
        {"\x0f\x11\x43\xf8", 4, 1, 0, true},          /* movups [rbx-8],xmm0 */
        {"\xff\x33", 2, 3, 0, true},                  /* push qword [rbx] */
        {"\xe4\x20\x90", 2, 2, 0, false},             /* in al,20: DR1 is no port */
    };

    (void)state;
    for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct x86_rig rig =
            rig_with_breakpoint(X86_RIG_DATA + 0x40, cases[i].kind, cases[i].length);
        uint8_t code[16] = {0};

        memcpy(code, cases[i].code, cases[i].size);
        code[cases[i].size] = 0xf4;
        rig.cpu->gpr[X86_RBX] = X86_RIG_DATA + 0x40;
        rig.cpu->io.data = 0;
        if (x86_rig_run(&rig, code, sizeof(code)) == X86_EXIT_IO) {
            assert_int_equal(x86_run(rig.cpu, 10), X86_EXIT_HLT);
        }
        if (cases[i].is_met) {
            assert_int_equal(trapped_at(&rig, 2), cases[i].size);
        } else {
            assert_int_equal(rig.cpu->rip, X86_RIG_CODE + cases[i].size + 1);
            assert_int_equal(rig.cpu->dr[6] & 15, 0);
        }
        x86_rig_free(&rig);
    }
}

static void trap_waits_for_the_instruction_after_a_load_of_ss(void **state)
{
    /* mov ss,[rbx]; inc eax; hlt */
    struct x86_rig rig = rig_with_breakpoint(X86_RIG_DATA, 3, 0);

    (void)state;
    rig.cpu->gpr[X86_RBX] = X86_RIG_DATA;
    rig.rig.memory[X86_RIG_DATA] = 0x10;
    assert_int_equal(X86_RIG_RUN(&rig, "\x8e\x13\xff\xc0\xf4"), X86_EXIT_HLT);
    assert_int_equal(trapped_at(&rig, 2), 4);
    x86_rig_free(&rig);
}

static void repeated_store_stops_behind_its_element(void **state)
{
    /* rep stosb from 0x10 before: 17 are written, rip is still the instruction's; and RF lets the rest go on. */
    struct x86_rig rig = rig_with_breakpoint(X86_RIG_DATA + 0x10, 1, 0);

    (void)state;
    rig.cpu->gpr[X86_RDI] = X86_RIG_DATA;
    rig.cpu->gpr[X86_RCX] = 0x40;
    assert_int_equal(X86_RIG_RUN(&rig, "\xf3\xaa\xf4"), X86_EXIT_HLT);
    assert_int_equal(trapped_at(&rig, 2), 0);
    assert_int_equal(rig.cpu->gpr[X86_RCX], 0x40 - 0x11);
    x86_rig_free(&rig);
}

static void step_and_breakpoint_are_one_exception(void **state)
{
    struct x86_rig rig = rig_with_breakpoint(X86_RIG_DATA, 1, 0);

    (void)state;
    rig.cpu->dr[6] |= 0xd; /* of before */
    rig.cpu->gpr[X86_RBX] = X86_RIG_DATA;
    x86_set_rflags(rig.cpu, 0x102);
    assert_int_equal(X86_RIG_RUN(&rig, "\x88\x03\xf4"), X86_EXIT_HLT);
    assert_int_equal(trapped_at(&rig, 0x4002), 2);
    x86_rig_free(&rig);
}

static void port_breakpoint_needs_cr4_de(void **state)
{
    struct x86_rig rig = rig_with_breakpoint(0x61, 2, 0);

    (void)state;
    rig.cpu->cr4 |= 8;
    x86_state_changed(rig.cpu);
    assert_int_equal(X86_RIG_RUN(&rig, "\xe5\x60\xf4"), X86_EXIT_IO); /* in eax,60 */
    assert_int_equal(x86_run(rig.cpu, 10), X86_EXIT_HLT);
    assert_int_equal(trapped_at(&rig, 2), 2);
    x86_rig_free(&rig);
}

static void delivery_that_writes_there_traps_in_the_handler(void **state)
{
    /* INT 0x30 pushes over it: #DB before the first instruction of its handler at 0x12000. */
    struct x86_rig rig = rig_with_breakpoint(X86_RIG_STACK - 16, 1, 0);

    (void)state;
    x86_rig_put(&rig, X86_RIG_IDT + 16 * 0x30, UINT64_C(0x00018e0000082000));
    assert_int_equal(X86_RIG_RUN(&rig, "\xcd\x30"), X86_EXIT_HLT);
    assert_int_equal(trapped_at(&rig, 2), 0x2000);
    x86_rig_free(&rig);
}

static void debug_exception_on_a_watched_stack_is_delivered_once(void **state)
{
    /* By IST, so that each delivery writes to the same place: none after it. The write of the instruction was met. */
    struct x86_rig rig = rig_with_breakpoint(0x70000 - 8, 1, 0);

    (void)state;
    x86_rig_put(&rig, X86_RIG_IDT + 16, UINT64_C(0x00018e0100081000));
    x86_rig_put(&rig, 0x6024, 0x70000); /* TSS: IST 1 */
    rig.cpu->tr = (struct x86_segment){.base = 0x6000, .limit = 0x67, .type = 11, .present = 1};
    rig.cpu->gpr[X86_RBX] = 0x70000 - 8;
    assert_int_equal(X86_RIG_RUN(&rig, "\x88\x03\xf4"), X86_EXIT_HLT); /* mov [rbx],al */
    assert_int_equal(trapped_at(&rig, 2), 2);
    x86_rig_free(&rig);
}

static void guest_switches_them_on_and_off(void **state)
{
    /* mov eax,20000; mov dr0,rax; mov eax,10001; mov dr7,rax; mov [20000],al; hlt */
    struct x86_rig rig = rig_with_breakpoint(0, 0, 0);

    (void)state;
    rig.cpu->dr[7] = 0x400;
    x86_state_changed(rig.cpu);
    assert_int_equal(X86_RIG_RUN(&rig, "\xb8\0\0\x02\0\x0f\x23\xc0\xb8\x01\0\x01\0\x0f\x23\xf8"
                                       "\x88\x04\x25\0\0\x02\0\xf4"),
                     X86_EXIT_HLT);
    assert_int_equal(trapped_at(&rig, 1), 0x17);
    assert_true(rig.cpu->has_breakpoints);
    rig.cpu->mp_state = X86_RUNNABLE;
    /* xor eax,eax; mov dr7,rax; mov [20000],al; hlt */
    assert_int_equal(X86_RIG_RUN(&rig, "\x31\xc0\x0f\x23\xf8\x88\x04\x25\0\0\x02\0\xf4"),
                     X86_EXIT_HLT);
    assert_int_equal(rig.cpu->rip, X86_RIG_CODE + 0xd);
    assert_false(rig.cpu->has_breakpoints);
    x86_rig_free(&rig);
}

static void breakpoints_of_the_vmm_come_out(void **state)
{
    /* In place of the guest's: before an instruction, and behind a store. */
    struct x86_rig rig = rig_with_breakpoint(X86_RIG_CODE, 0, 0);

    (void)state;
    rig.cpu->uses_host_dr = true;
    rig.cpu->host_dr[0] = X86_RIG_CODE + 2;
    rig.cpu->host_dr[3] = X86_RIG_DATA;
    rig.cpu->host_dr[7] = 0x400 | 0x81 | UINT64_C(1) << 28;
    x86_state_changed(rig.cpu);
    rig.cpu->gpr[X86_RBX] = X86_RIG_DATA;
    /* inc eax; mov [rbx],al; hlt */
    assert_int_equal(X86_RIG_RUN(&rig, "\xff\xc0\x88\x03\xf4"), X86_EXIT_DEBUG);
    assert_int_equal(rig.cpu->rip, X86_RIG_CODE + 2);
    assert_int_equal(rig.cpu->exit_dr6, 1);
    assert_int_equal(x86_run(rig.cpu, 100), X86_EXIT_DEBUG); /* it is still there */
    assert_int_equal(rig.cpu->rip, X86_RIG_CODE + 2);
    rig.cpu->host_dr[7] &= ~UINT64_C(3);
    assert_int_equal(x86_run(rig.cpu, 100), X86_EXIT_DEBUG);
    assert_int_equal(rig.cpu->rip, X86_RIG_CODE + 4);
    assert_int_equal(rig.cpu->exit_dr6, 8);
    assert_int_equal(rig.rig.memory[X86_RIG_DATA], 1);
    assert_int_equal(x86_run(rig.cpu, 100), X86_EXIT_HLT);
    assert_int_equal(rig.cpu->dr[6], 0xffff0ff0);
    x86_rig_free(&rig);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(execution_breakpoint_is_a_fault_that_rf_passes),
        cmocka_unit_test(data_breakpoint_traps_after_the_access),
        cmocka_unit_test(trap_waits_for_the_instruction_after_a_load_of_ss),
        cmocka_unit_test(repeated_store_stops_behind_its_element),
        cmocka_unit_test(step_and_breakpoint_are_one_exception),
        cmocka_unit_test(port_breakpoint_needs_cr4_de),
        cmocka_unit_test(delivery_that_writes_there_traps_in_the_handler),
        cmocka_unit_test(debug_exception_on_a_watched_stack_is_delivered_once),
        cmocka_unit_test(guest_switches_them_on_and_off),
        cmocka_unit_test(breakpoints_of_the_vmm_come_out),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
