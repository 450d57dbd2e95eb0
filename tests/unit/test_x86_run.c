/*
 * unit/test_x86_run.c - the software vCPU runs hand-written bytes: integer code, exits and how they are completed, faults
 * that restart, code that changes. Expected values are the Intel SDM's.
 */
#include "x86_rig.h"

#include "soft/soft.h"

static void word_set(struct x86_rig *rig, uint64_t gpa, uint64_t value)
{
    memcpy(rig->rig.memory + gpa, &value, 8);
}

static uint64_t word_get(const struct x86_rig *rig, uint64_t gpa)
{
    uint64_t value;

    memcpy(&value, rig->rig.memory + gpa, 8);
    return value;
}

static void addition_sets_all_flags(void **state)
{
    /* 0x7f + 1 in eight bits: OF, SF, AF. */
    struct x86_rig rig = x86_rig_new(64);

    (void)state;
    rig.cpu->gpr[X86_RAX] = 0x1234567f;
    assert_int_equal(X86_RIG_RUN(&rig, "\x04\x01\xf4"), X86_EXIT_HLT); /* add al,1 */
    assert_int_equal(rig.cpu->gpr[X86_RAX], 0x12345680);
    assert_int_equal(x86_get_rflags(rig.cpu) & 0x8d5, 0x890);
    assert_int_equal(rig.cpu->rip, X86_RIG_CODE + 3);
    assert_int_equal(rig.cpu->mp_state, X86_HALTED);
    assert_int_equal(rig.cpu->instructions, 2);
    x86_rig_free(&rig);
}

static void thirty_two_bits_clear_the_upper_half(void **state)
{
    struct x86_rig rig = x86_rig_new(64);

    (void)state;
    rig.cpu->gpr[X86_RAX] = UINT64_MAX;
    rig.cpu->gpr[X86_RBX] = UINT64_MAX;
    rig.cpu->gpr[X86_RCX] = UINT64_MAX;
    /* mov eax,1; mov bx,2; mov ch,3 */
    assert_int_equal(X86_RIG_RUN(&rig, "\xb8\x01\0\0\0\x66\xbb\x02\0\xb5\x03\xf4"), X86_EXIT_HLT);
    assert_int_equal(rig.cpu->gpr[X86_RAX], 1);
    assert_int_equal(rig.cpu->gpr[X86_RBX], UINT64_C(0xffffffffffff0002));
    assert_int_equal(rig.cpu->gpr[X86_RCX], UINT64_C(0xffffffffffff03ff));
    x86_rig_free(&rig);
}

static void loop_counts_down(void **state)
{
    struct x86_rig rig = x86_rig_new(64);

    (void)state;
    rig.cpu->gpr[X86_RCX] = 1000;
    rig.cpu->gpr[X86_RAX] = 0;
    /* 1: add rax,rcx; dec rcx; jnz 1b */
    assert_int_equal(X86_RIG_RUN(&rig, "\x48\x01\xc8\x48\xff\xc9\x75\xf8\xf4"), X86_EXIT_HLT);
    assert_int_equal(rig.cpu->gpr[X86_RAX], 500500);
    assert_int_equal(rig.cpu->instructions, 3001);
    x86_rig_free(&rig);
}

static void rip_relative_address_counts_from_the_next_instruction(void **state)
{
    struct x86_rig rig = x86_rig_new(64);

    (void)state;
    word_set(&rig, X86_RIG_DATA, UINT64_C(0x1122334455667788));
    /* nop; mov rax,[rip + DATA - next] */
    assert_int_equal(X86_RIG_RUN(&rig, "\x90\x48\x8b\x05\xf8\xff\0\0\xf4"), X86_EXIT_HLT);
    assert_int_equal(rig.cpu->gpr[X86_RAX], UINT64_C(0x1122334455667788));
    x86_rig_free(&rig);
}

static void call_pushes_and_ret_pops(void **state)
{
    struct x86_rig rig = x86_rig_new(64);

    (void)state;
    /* call +1; hlt; inc rax; ret */
    assert_int_equal(X86_RIG_RUN(&rig, "\xe8\x01\0\0\0\xf4\x48\xff\xc0\xc3"), X86_EXIT_HLT);
    assert_int_equal(rig.cpu->gpr[X86_RAX], 1);
    assert_int_equal(rig.cpu->gpr[X86_RSP], X86_RIG_STACK);
    assert_int_equal(word_get(&rig, X86_RIG_STACK - 8), X86_RIG_CODE + 5);
    x86_rig_free(&rig);
}

static void division_by_zero_names_its_vector(void **state)
{
    /* #DE by gate 0: the frame has the dividing instruction's address and RF. */
    struct x86_rig rig = x86_rig_new(64);

    (void)state;
    word_set(&rig, X86_RIG_IDT, UINT64_C(0x00018e0000081000)); /* 1000 past the code */
    memcpy(rig.rig.memory + 0x11000, "\xf4", 1);
    assert_int_equal(X86_RIG_RUN(&rig, "\x90\x31\xc9\xf7\xf1\xf4"), X86_EXIT_HLT); /* div ecx */
    assert_int_equal(rig.cpu->rip, 0x11001);
    assert_int_equal(rig.cpu->gpr[X86_RSP], X86_RIG_STACK - 40);
    assert_int_equal(word_get(&rig, X86_RIG_STACK - 40), X86_RIG_CODE + 3);
    assert_int_equal(word_get(&rig, X86_RIG_STACK - 32), 8);
    assert_int_equal(word_get(&rig, X86_RIG_STACK - 24) & 0x10000, 0x10000);
    assert_int_equal(word_get(&rig, X86_RIG_STACK - 16), X86_RIG_STACK);
    assert_int_equal(word_get(&rig, X86_RIG_STACK - 8), 16);
    x86_rig_free(&rig);
}

static void fault_without_gates_shuts_down(void **state)
{
    struct x86_rig rig = x86_rig_new(64);

    (void)state;
    assert_int_equal(X86_RIG_RUN(&rig, "\x0f\x0b"), X86_EXIT_SHUTDOWN);
    x86_rig_free(&rig);
}

static void table_outside_of_memory_is_a_page_fault(void **state)
{
    /* A directory entry that leads to a table where no slot is: as KVM has it, the page behind it is not present. */
    struct x86_rig rig = x86_rig_new(64);

    (void)state;
    /* mov rbx,[rsp]; mov rcx,cr2; hlt */
    memcpy(rig.rig.memory + 0x11000, "\x48\x8b\x1c\x24\x0f\x20\xd1\xf4", 8);
    word_set(&rig, X86_RIG_IDT + 14 * 16, UINT64_C(0x00018e0000081000));
    x86_rig_put(&rig, X86_RIG_PD + 16, 0x40000007);
    /* mov byte [400008],1 */
    assert_int_equal(X86_RIG_RUN(&rig, "\xc6\x04\x25\x08\x00\x40\x00\x01"), X86_EXIT_HLT);
    assert_int_equal(rig.cpu->gpr[X86_RBX], 2); /* a write */
    assert_int_equal(rig.cpu->gpr[X86_RCX], 0x400008);
    x86_rig_free(&rig);
    /* With all of its code, tables and stack there: a triple fault. */
    rig = x86_rig_new(64);
    x86_rig_put(&rig, X86_RIG_PD, 0x40000007);
    assert_int_equal(X86_RIG_RUN(&rig, "\xc6\x04\x25\x08\x00\x40\x00\x01"), X86_EXIT_SHUTDOWN);
    x86_rig_free(&rig);
}

static void page_fault_restarts_after_iret(void **state)
{
    /* #PF at 4 MiB, where nothing is mapped: the handler maps it, drops the error code and returns. */
    static const char code[] = "\x48\xa3\x00\x00\x40\0\0\0\0\0\xf4"; /* mov [400000],rax; hlt */
    /* mov rbx,[rsp]; mov rcx,cr2; mov qword [3010],87; add rsp,8; iretq */
    static const char handler[] =
        "\x48\x8b\x1c\x24\x0f\x20\xd1\x48\xc7\x04\x25\x10\x30\0\0\x87\0\0\0"
        "\x48\x83\xc4\x08\x48\xcf";
    struct x86_rig rig = x86_rig_new(64);

    (void)state;
    word_set(&rig, X86_RIG_IDT + 14 * 16, UINT64_C(0x00018e0000081000));
    memcpy(rig.rig.memory + 0x11000, handler, sizeof(handler) - 1);
    rig.cpu->gpr[X86_RAX] = 0x4242;
    assert_int_equal(X86_RIG_RUN(&rig, code), X86_EXIT_HLT);
    assert_int_equal(rig.cpu->gpr[X86_RBX], 2);
    assert_int_equal(rig.cpu->gpr[X86_RCX], 0x400000);
    assert_int_equal(rig.cpu->cr2, 0x400000);
    assert_int_equal(word_get(&rig, 0), 0x4242);
    assert_int_equal(rig.cpu->gpr[X86_RSP], X86_RIG_STACK);
    x86_rig_free(&rig);
}

static enum x86_msr_result ask_to_leave(void *opaque, uint32_t number, uint64_t *value)
{
    struct gm_soft_vcpu *vcpu = opaque;

    (void)number;
    *value = 0;
    kcore_vcpu_request(&vcpu->mmu.base, KCORE_REQUEST_LEAVE);
    return X86_MSR_DONE;
}

static void page_fault_is_delivered_when_vcpus_were_held_meanwhile(void **state)
{
    /* Within one block: rdmsr, whose hook asks the vCPU to leave guest mode; mov [400000],rax, which faults there. */
    struct x86_rig rig = x86_rig_new(64);

    (void)state;
    word_set(&rig, X86_RIG_IDT + 14 * 16, UINT64_C(0x00018e0000081000));
    memcpy(rig.rig.memory + 0x11000, "\xf4", 1);
    rig.cpu->hooks = (struct x86_hooks){.read_msr = ask_to_leave, .opaque = rig.rig.vcpu};
    rig.cpu->gpr[X86_RCX] = 0x12345;
    assert_int_equal(X86_RIG_RUN(&rig, "\x0f\x32\x48\xa3\0\0\x40\0\0\0\0\0\xf4"), X86_EXIT_HLT);
    assert_int_equal(rig.cpu->rip, 0x11001);
    assert_int_equal(rig.cpu->cr2, 0x400000);
    assert_int_equal(word_get(&rig, X86_RIG_STACK - 40), X86_RIG_CODE + 2);
    x86_rig_free(&rig);
}

static void port_read_is_completed_by_the_next_run(void **state)
{
    struct x86_rig rig = x86_rig_new(64);

    (void)state;
    rig.cpu->gpr[X86_RAX] = UINT64_MAX;
    /* in al,0x71; out 0x80,al */
    assert_int_equal(X86_RIG_RUN(&rig, "\xe4\x71\xe6\x80\xf4"), X86_EXIT_IO);
    assert_true(rig.cpu->io.is_in);
    assert_int_equal(rig.cpu->io.port, 0x71);
    assert_int_equal(rig.cpu->io.size_bytes, 1);
    assert_int_equal(rig.cpu->rip, X86_RIG_CODE);
    rig.cpu->io.data = 0x5a;
    assert_int_equal(x86_run(rig.cpu, UINT64_MAX), X86_EXIT_IO);
    assert_int_equal(rig.cpu->gpr[X86_RAX], UINT64_C(0xffffffffffffff5a));
    assert_false(rig.cpu->io.is_in);
    assert_int_equal(rig.cpu->io.port, 0x80);
    assert_int_equal(rig.cpu->io.data, 0x5a);
    assert_int_equal(x86_run(rig.cpu, UINT64_MAX), X86_EXIT_HLT);
    assert_int_equal(rig.cpu->instructions, 3);
    x86_rig_free(&rig);
}

static void mmio_of_one_instruction_is_answered_access_by_access(void **state)
{
    /* add [rbx],rax on memory that is not there: a read, then a write of the sum. */
    struct x86_rig rig = x86_rig_new(64);
    struct gm_mmu_exit *exit = gm_mmu_exit(rig.rig.mmu);
    uint64_t value = 40;

    (void)state;
    rig.cpu->gpr[X86_RAX] = 2;
    rig.cpu->gpr[X86_RBX] = 0x180000; /* past the slot */
    assert_int_equal(X86_RIG_RUN(&rig, "\x48\x01\x03\xf4"), X86_EXIT_MMIO);
    assert_int_equal(exit->access, GM_MMU_READ);
    assert_int_equal(exit->gpa, 0x180000);
    assert_int_equal(exit->size_bytes, 8);
    memcpy(exit->data, &value, 8);
    assert_int_equal(x86_run(rig.cpu, UINT64_MAX), X86_EXIT_MMIO);
    assert_int_equal(exit->access, GM_MMU_WRITE);
    memcpy(&value, exit->data, 8);
    assert_int_equal(value, 42);
    assert_int_equal(x86_run(rig.cpu, UINT64_MAX), X86_EXIT_HLT);
    assert_int_equal(rig.cpu->instructions, 2);
    x86_rig_free(&rig);
}

static void strings_repeat_through_mmio(void **state)
{
    /* rep movsb of three bytes to memory that is not there: three exits, counters right at each. */
    struct x86_rig rig = x86_rig_new(64);
    struct gm_mmu_exit *exit = gm_mmu_exit(rig.rig.mmu);

    (void)state;
    memcpy(rig.rig.memory + X86_RIG_DATA, "abc", 3);
    rig.cpu->gpr[X86_RSI] = X86_RIG_DATA;
    rig.cpu->gpr[X86_RDI] = 0x180000;
    rig.cpu->gpr[X86_RCX] = 3;
    assert_int_equal(X86_RIG_RUN(&rig, "\xf3\xa4\xf4"), X86_EXIT_MMIO);
    for (unsigned i = 0; i < 3; i++) {
        assert_int_equal(exit->gpa, 0x180000 + i);
        assert_int_equal(exit->data[0], "abc"[i]);
        assert_int_equal(rig.cpu->gpr[X86_RCX], 3 - i);
        assert_int_equal(x86_run(rig.cpu, UINT64_MAX), i < 2 ? X86_EXIT_MMIO : X86_EXIT_HLT);
    }
    assert_int_equal(rig.cpu->gpr[X86_RCX], 0);
    x86_rig_free(&rig);
}

static void code_that_it_writes_itself_is_executed(void **state)
{
    /* mov byte [rip+1],0x42 changes the immediate of the next instruction but one: mov al,0. */
    struct x86_rig rig = x86_rig_new(64);

    (void)state;
    for (unsigned i = 0; i < 2; i++) {
        rig.cpu->mp_state = X86_RUNNABLE;
        rig.cpu->gpr[X86_RAX] = 0;
        assert_int_equal(X86_RIG_RUN(&rig, "\xc6\x05\x01\0\0\0\x42\xb0\x00\xf4"), X86_EXIT_HLT);
        assert_int_equal(rig.cpu->gpr[X86_RAX], 0x42);
    }
    x86_rig_free(&rig);
}

static void code_that_the_host_writes_is_executed(void **state)
{
    struct x86_rig rig = x86_rig_new(64);

    (void)state;
    assert_int_equal(X86_RIG_RUN(&rig, "\xb0\x01\xf4"), X86_EXIT_HLT);
    assert_int_equal(rig.cpu->gpr[X86_RAX] & 0xff, 1);
    rig.cpu->mp_state = X86_RUNNABLE;
    assert_int_equal(X86_RIG_RUN(&rig, "\xb0\x02\xf4"), X86_EXIT_HLT);
    assert_int_equal(rig.cpu->gpr[X86_RAX] & 0xff, 2);
    x86_rig_free(&rig);
}

static void undecodable_code_is_decoded_again_after_any_change(void **state)
{
    /* 66 0f 04 is no instruction; of its bytes the last one is changed, and then it is: 66 0f 1f, a NOP. */
    struct x86_rig rig = x86_rig_new(64);

    (void)state;
    word_set(&rig, X86_RIG_IDT + 6 * 16, UINT64_C(0x00018e0000081000));
    rig.rig.memory[0x11000] = 0xf4;
    for (unsigned i = 0; i < 2; i++) {
        rig.cpu->gpr[X86_RSP] = X86_RIG_STACK;
        assert_int_equal(X86_RIG_RUN(&rig, "\x66\x0f\x04\xc0\xf4"), X86_EXIT_HLT);
        assert_int_equal(rig.cpu->rip, 0x11001);
        rig.cpu->mp_state = X86_RUNNABLE;
    }
    assert_int_equal(X86_RIG_RUN(&rig, "\x66\x0f\x1f\xc0\xf4"), X86_EXIT_HLT);
    assert_int_equal(rig.cpu->rip, X86_RIG_CODE + 5);
    x86_rig_free(&rig);
}

static void long_instruction_is_fetched_before_it_is_refused(void **state)
{
    /* Sixteen prefixes: #GP; if the page ends before the fifteenth, #PF of the next one comes first. */
    struct x86_rig rig = x86_rig_new(64);

    (void)state;
    word_set(&rig, X86_RIG_IDT + 13 * 16, UINT64_C(0x00018e0000081000));
    word_set(&rig, X86_RIG_IDT + 14 * 16, UINT64_C(0x00018e0000081004));
    memset(rig.rig.memory + 0x11000, 0xf4, 8);
    word_set(&rig, X86_RIG_PD + 8, 0x6000 | 7); /* 4 KiB at 200000, and nothing behind */
    word_set(&rig, 0x6000, 0x30000 | 7);
    memset(rig.rig.memory + 0x30000, 0x3e, PAGE);
    rig.cpu->rip = 0x200000;
    assert_int_equal(x86_run(rig.cpu, UINT64_MAX), X86_EXIT_HLT);
    assert_int_equal(rig.cpu->rip, 0x11001);
    rig.cpu->rip = 0x201000 - 14;
    rig.cpu->mp_state = X86_RUNNABLE;
    assert_int_equal(x86_run(rig.cpu, UINT64_MAX), X86_EXIT_HLT);
    assert_int_equal(rig.cpu->rip, 0x11005);
    assert_int_equal(rig.cpu->cr2, 0x201000);
    x86_rig_free(&rig);
}

static void lock_of_an_instruction_that_has_none_is_undefined(void **state)
{
    /* lock verw [20000]; lock add eax,1; lock mov [20000],eax */
    static const char codes[][4] = {"\xf0\x0f\x00\x2b", "\xf0\x83\xc0\x01", "\xf0\x89\x03\x90"};

    (void)state;
    for (unsigned i = 0; i < 3; i++) {
        struct x86_rig rig = x86_rig_new(64);

        word_set(&rig, X86_RIG_IDT + 6 * 16, UINT64_C(0x00018e0000081000));
        rig.rig.memory[0x11000] = 0xf4;
        rig.cpu->gpr[X86_RBX] = X86_RIG_DATA;
        assert_int_equal(x86_rig_run(&rig, codes[i], 4), X86_EXIT_HLT);
        assert_int_equal(rig.cpu->rip, 0x11001);
        x86_rig_free(&rig);
    }
}

static void instruction_that_is_not_there_comes_out_with_its_bytes(void **state)
{
    struct x86_rig rig = x86_rig_new(64);

    (void)state;
    assert_int_equal(X86_RIG_RUN(&rig, "\x90\x0f\x01\xc1\xf4"), X86_EXIT_EMULATION); /* vmcall */
    assert_int_equal(rig.cpu->rip, X86_RIG_CODE + 1);
    assert_true(rig.cpu->byte_count >= 3);
    assert_memory_equal(rig.cpu->bytes, "\x0f\x01\xc1", 3);
    x86_rig_free(&rig);
}

static void instruction_across_pages_is_fetched_from_both(void **state)
{
    struct x86_rig rig = x86_rig_new(64);

    (void)state;
    memcpy(rig.rig.memory + X86_RIG_CODE + 0xffd, "\xb8\x78\x56\x34\x12\xf4", 6);
    rig.cpu->rip = X86_RIG_CODE + 0xffd;
    assert_int_equal(x86_run(rig.cpu, UINT64_MAX), X86_EXIT_HLT);
    assert_int_equal(rig.cpu->gpr[X86_RAX], 0x12345678);
    x86_rig_free(&rig);
}

static void interrupt_waits_for_the_window(void **state)
{
    /* sti; nop; nop; hlt, with an interrupt wanted: the window opens after the first nop. */
    struct x86_rig rig = x86_rig_new(64);

    (void)state;
    word_set(&rig, X86_RIG_IDT + 0x30 * 16, UINT64_C(0x00018e0000081000));
    memcpy(rig.rig.memory + 0x11000, "\xff\xc0\x48\xcf", 4); /* inc eax; iretq */
    rig.cpu->request_irq_window = true;
    assert_false(x86_can_interrupt(rig.cpu));
    assert_int_equal(X86_RIG_RUN(&rig, "\xfb\x90\x90\xf4"), X86_EXIT_IRQ_WINDOW);
    assert_int_equal(rig.cpu->rip, X86_RIG_CODE + 2);
    x86_interrupt(rig.cpu, 0x30);
    rig.cpu->request_irq_window = false;
    assert_int_equal(x86_run(rig.cpu, UINT64_MAX), X86_EXIT_HLT);
    assert_int_equal(rig.cpu->gpr[X86_RAX], 1);
    assert_int_equal(rig.cpu->rip, X86_RIG_CODE + 4);
    x86_rig_free(&rig);
}

static void debug_step_runs_one_instruction(void **state)
{
    struct x86_rig rig = x86_rig_new(64);

    (void)state;
    rig.cpu->guest_debug_step = true;
    assert_int_equal(X86_RIG_RUN(&rig, "\xff\xc0\xff\xc0\xf4"), X86_EXIT_DEBUG);
    assert_int_equal(rig.cpu->gpr[X86_RAX], 1);
    assert_int_equal(rig.cpu->rip, X86_RIG_CODE + 2);
    x86_rig_free(&rig);
}

static void kick_brings_it_out(void **state)
{
    struct x86_rig rig = x86_rig_new(64);

    (void)state;
    gm_mmu_kick(rig.rig.mmu);
    assert_int_equal(X86_RIG_RUN(&rig, "\xeb\xfe"), X86_EXIT_INTR); /* jmp . */
    assert_int_equal(x86_run(rig.cpu, 100), X86_EXIT_BUDGET);
    x86_rig_free(&rig);
}

static void locked_instruction_works_on_any_alignment(void **state)
{
    struct x86_rig rig = x86_rig_new(64);

    (void)state;
    for (unsigned i = 0; i < 2; i++) {
        uint64_t at = i == 0 ? X86_RIG_DATA : X86_RIG_DATA + 0xffd;

        word_set(&rig, at, 40);
        rig.cpu->mp_state = X86_RUNNABLE;
        rig.cpu->gpr[X86_RAX] = 2;
        rig.cpu->gpr[X86_RBX] = at;
        /* lock xadd [rbx],rax */
        assert_int_equal(X86_RIG_RUN(&rig, "\xf0\x48\x0f\xc1\x03\xf4"), X86_EXIT_HLT);
        assert_int_equal(rig.cpu->gpr[X86_RAX], 40);
        assert_int_equal(word_get(&rig, at), 42);
    }
    x86_rig_free(&rig);
}

static void scalar_doubles_are_computed(void **state)
{
    struct x86_rig rig = x86_rig_new(64);

    (void)state;
    rig.cpu->gpr[X86_RAX] = 3;
    /* cvtsi2sd xmm0,rax; sqrtsd xmm1,xmm0; mulsd xmm1,xmm1; cvtsd2si rbx,xmm1; ucomisd xmm0,xmm0 */
    assert_int_equal(X86_RIG_RUN(&rig, "\xf2\x48\x0f\x2a\xc0\xf2\x0f\x51\xc8\xf2\x0f\x59\xc9"
                                       "\xf2\x48\x0f\x2d\xd9\x66\x0f\x2e\xc0\xf4"),
                     X86_EXIT_HLT);
    assert_int_equal(rig.cpu->gpr[X86_RBX], 3);
    assert_true(rig.cpu->xmm[0].f64[0] == 3.0);
    assert_int_equal(rig.cpu->mxcsr, 0x1fa0); /* inexact */
    assert_int_equal(x86_get_rflags(rig.cpu) & 0x8d5, 0x40);
    x86_rig_free(&rig);
}

static void real_mode_adds_segment_and_offset(void **state)
{
    struct x86_rig rig = x86_rig_new(16);

    (void)state;
    /* mov ax,2000; mov ds,ax; mov [0x10],ax; push ax; pop bx; int 0x21 -> 0x3000:0x0000 hlt */
    word_set(&rig, 0x21 * 4, 0x30000000);
    rig.rig.memory[0x30000] = 0xf4;
    assert_int_equal(X86_RIG_RUN(&rig, "\xb8\x00\x20\x8e\xd8\xa3\x10\x00\x50\x5b\xcd\x21"),
                     X86_EXIT_HLT);
    assert_int_equal(rig.rig.memory[0x20011], 0x20);
    assert_int_equal(rig.cpu->gpr[X86_RBX], 0x2000);
    assert_int_equal(rig.cpu->segment[X86_CS].selector, 0x3000);
    assert_int_equal(rig.cpu->rip, 1);
    assert_int_equal(rig.cpu->gpr[X86_RSP], 0x8000 - 6);
    assert_int_equal(rig.rig.memory[0x8000 - 6], 12);
    x86_rig_free(&rig);
}

static void real_mode_becomes_64_bit_mode(void **state)
{
    /* The way of every boot loader: protected mode, PAE, LME, paging, a far jump. */
    static const char code[] = "\x66\x0f\x20\xc0"            /* mov eax,cr0 */
                               "\x0c\x01"                    /* or al,1 */
                               "\x0f\x22\xc0"                /* mov cr0,eax */
                               "\x66\xb8\x20\x06\0\0"        /* mov eax,620 */
                               "\x0f\x22\xe0"                /* mov cr4,eax */
                               "\x66\xb8\x00\x10\0\0"        /* mov eax,1000 */
                               "\x0f\x22\xd8"                /* mov cr3,eax */
                               "\x66\xb9\x80\0\0\xc0"        /* mov ecx,c0000080 */
                               "\x66\x31\xd2"                /* xor edx,edx */
                               "\x66\xb8\x00\x01\0\0"        /* mov eax,100 */
                               "\x0f\x30"                    /* wrmsr */
                               "\x66\x0f\x20\xc0"            /* mov eax,cr0 */
                               "\x66\x0d\0\0\0\x80"          /* or eax,80000000 */
                               "\x0f\x22\xc0"                /* mov cr0,eax */
                               "\x66\xea\0\x10\x01\0\x08\0"; /* jmp 8:11000 */
    struct x86_rig rig = x86_rig_new(16);

    (void)state;
    word_set(&rig, X86_RIG_GDT + 8, UINT64_C(0x00af9b000000ffff));
    /* mov rax,1122334455667788; hlt */
    memcpy(rig.rig.memory + 0x11000, "\x48\xb8\x88\x77\x66\x55\x44\x33\x22\x11\xf4", 11);
    assert_int_equal(X86_RIG_RUN(&rig, code), X86_EXIT_HLT);
    assert_int_equal(rig.cpu->gpr[X86_RAX], UINT64_C(0x1122334455667788));
    assert_int_equal(rig.cpu->msr.efer, 0x500);
    x86_rig_free(&rig);
}

static void system_call_goes_and_returns(void **state)
{
    /* From ring 3 to ring 0 and back: sysret lands behind syscall; hlt in ring 3 is #GP. */
    struct x86_rig rig = x86_rig_new(64);

    (void)state;
    word_set(&rig, X86_RIG_IDT + 13 * 16, UINT64_C(0x00018e0000081000));
    memcpy(rig.rig.memory + 0x11000, "\xf4", 1);
    memcpy(rig.rig.memory + 0x12000, "\xb3\x07\x48\x0f\x07", 5); /* mov bl,7; sysretq */
    x86_rig_put(&rig, 0x6004, 0x70000);                          /* TSS: RSP0 */
    rig.cpu->tr = (struct x86_segment){.base = 0x6000, .limit = 0x67, .type = 11, .present = 1};
    rig.cpu->msr.star = UINT64_C(0x0013000800000000);
    rig.cpu->msr.lstar = 0x12000;
    rig.cpu->msr.syscall_mask = 0x200;
    rig.cpu->segment[X86_CS] = x86_rig_segment(0x23, true, 64);
    rig.cpu->segment[X86_SS] = x86_rig_segment(0x1b, false, 32);
    x86_state_changed(rig.cpu);
    assert_int_equal(rig.cpu->cpl, 3);
    assert_int_equal(X86_RIG_RUN(&rig, "\x0f\x05\xf4"), X86_EXIT_HLT);
    assert_int_equal(rig.cpu->gpr[X86_RBX] & 0xff, 7);
    assert_int_equal(rig.cpu->gpr[X86_RCX], X86_RIG_CODE + 2);
    assert_int_equal(rig.cpu->gpr[X86_RSP], 0x70000 - 48);
    assert_int_equal(word_get(&rig, 0x70000 - 48), 0);
    assert_int_equal(word_get(&rig, 0x70000 - 40), X86_RIG_CODE + 2);
    assert_int_equal(word_get(&rig, 0x70000 - 32), 0x23);
    assert_int_equal(word_get(&rig, 0x70000 - 8), 0x1b);
    assert_int_equal(rig.cpu->cpl, 0);
    x86_rig_free(&rig);
}

static void limit_of_a_segment_is_checked(void **state)
{
    /* 32-bit code, DS of 64 KiB: the last word is there, one byte further is #GP with code 0. */
    struct x86_rig rig = x86_rig_new(32);

    (void)state;
    word_set(&rig, X86_RIG_IDT + 13 * 8, UINT64_C(0x00018e0000081000));
    memcpy(rig.rig.memory + 0x11000, "\xf4", 1);
    rig.cpu->segment[X86_DS] = x86_rig_segment(16, false, 16);
    rig.cpu->segment[X86_DS].db = 1;
    x86_state_changed(rig.cpu);
    /* mov eax,[fffc]; mov eax,[fffd] */
    assert_int_equal(X86_RIG_RUN(&rig, "\xa1\xfc\xff\0\0\xa1\xfd\xff\0\0\xf4"), X86_EXIT_HLT);
    assert_int_equal(rig.cpu->rip, 0x11001);
    assert_int_equal(rig.cpu->gpr[X86_RSP], X86_RIG_STACK - 16);
    assert_int_equal((uint32_t)word_get(&rig, X86_RIG_STACK - 16), 0);
    assert_int_equal((uint32_t)word_get(&rig, X86_RIG_STACK - 12), X86_RIG_CODE + 5);
    x86_rig_free(&rig);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(addition_sets_all_flags),
        cmocka_unit_test(thirty_two_bits_clear_the_upper_half),
        cmocka_unit_test(loop_counts_down),
        cmocka_unit_test(rip_relative_address_counts_from_the_next_instruction),
        cmocka_unit_test(call_pushes_and_ret_pops),
        cmocka_unit_test(division_by_zero_names_its_vector),
        cmocka_unit_test(fault_without_gates_shuts_down),
        cmocka_unit_test(table_outside_of_memory_is_a_page_fault),
        cmocka_unit_test(page_fault_restarts_after_iret),
        cmocka_unit_test(page_fault_is_delivered_when_vcpus_were_held_meanwhile),
        cmocka_unit_test(port_read_is_completed_by_the_next_run),
        cmocka_unit_test(mmio_of_one_instruction_is_answered_access_by_access),
        cmocka_unit_test(strings_repeat_through_mmio),
        cmocka_unit_test(code_that_it_writes_itself_is_executed),
        cmocka_unit_test(code_that_the_host_writes_is_executed),
        cmocka_unit_test(undecodable_code_is_decoded_again_after_any_change),
        cmocka_unit_test(long_instruction_is_fetched_before_it_is_refused),
        cmocka_unit_test(lock_of_an_instruction_that_has_none_is_undefined),
        cmocka_unit_test(instruction_that_is_not_there_comes_out_with_its_bytes),
        cmocka_unit_test(instruction_across_pages_is_fetched_from_both),
        cmocka_unit_test(interrupt_waits_for_the_window),
        cmocka_unit_test(debug_step_runs_one_instruction),
        cmocka_unit_test(kick_brings_it_out),
        cmocka_unit_test(locked_instruction_works_on_any_alignment),
        cmocka_unit_test(scalar_doubles_are_computed),
        cmocka_unit_test(real_mode_adds_segment_and_offset),
        cmocka_unit_test(real_mode_becomes_64_bit_mode),
        cmocka_unit_test(system_call_goes_and_returns),
        cmocka_unit_test(limit_of_a_segment_is_checked),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
