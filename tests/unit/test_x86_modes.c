/*
 * unit/test_x86_modes.c - the software vCPU's modes and rings: protected mode with levels, far returns, virtual-8086 mode,
 * traps, double faults, PAE, and real mode with code and data in one page. Layouts are the Intel SDM's, volume 3A.
 */
#include "x86_rig.h"

#include <pthread.h>

enum {
    TSS = 0x6000,
    HANDLER = 0x11000,
    RING0_STACK = 0x70000,
};

static uint32_t word_at(const struct x86_rig *rig, uint64_t gpa)
{
    uint32_t value;

    memcpy(&value, rig->rig.memory + gpa, 4);
    return value;
}

static void code_at(struct x86_rig *rig, uint64_t gpa, const char *bytes, size_t count)
{
    memcpy(rig->rig.memory + gpa, bytes, count);
}

/* A gate of 32 bits to HANDLER, for everyone. */
static void set_gate(struct x86_rig *rig, unsigned vector)
{
    x86_rig_put(rig, X86_RIG_IDT + vector * 8, UINT64_C(0x0001ee0000081000));
}

/* 32-bit mode with segments of both rings, and a TSS for the stack of ring 0. */
static struct x86_rig rig_with_rings(void)
{
    struct x86_rig rig = x86_rig_new(32);

    x86_rig_put(&rig, X86_RIG_GDT + 0x18, UINT64_C(0x00cffb000000ffff)); /* code, ring 3 */
    x86_rig_put(&rig, X86_RIG_GDT + 0x20, UINT64_C(0x00cff3000000ffff)); /* data, ring 3 */
    x86_rig_put(&rig, TSS + 4, RING0_STACK | UINT64_C(0x10) << 32);
    rig.cpu->tr = (struct x86_segment){.base = TSS, .limit = 0x67, .type = 11, .present = 1};
    x86_state_changed(rig.cpu);
    return rig;
}

static void enter_ring3(struct x86_rig *rig)
{
    for (unsigned i = 0; i < X86_SEGMENTS; i++) {
        rig->cpu->segment[i] = x86_rig_segment(i == X86_CS ? 0x1b : 0x23, i == X86_CS, 32);
    }
    x86_state_changed(rig->cpu);
}

static void interrupt_from_ring3_switches_stacks_and_iret_goes_back(void **state)
{
    struct x86_rig rig = rig_with_rings();

    (void)state;
    enter_ring3(&rig);
    set_gate(&rig, 0x40);
    set_gate(&rig, 13);
    code_at(&rig, HANDLER, "\x8c\xcb\x85\xdb\x75\x01\xf4\x43\x83\x3c\x24\x00\x74\x01\xcf\xf4", 16);
    /* handler: mov ebx,cs; (always) inc ebx; cmp [esp],0: an error code ends it; iret */
    assert_int_equal(X86_RIG_RUN(&rig, "\xcd\x40\x8c\xc9\xf4"), X86_EXIT_HLT);
    assert_int_equal(rig.cpu->gpr[X86_RBX], 9);    /* ring 0's code */
    assert_int_equal(rig.cpu->gpr[X86_RCX], 0x1b); /* and back in ring 3 */
    assert_int_equal(rig.cpu->gpr[X86_RSP], RING0_STACK - 24);
    assert_int_equal(word_at(&rig, RING0_STACK - 24), 0); /* #GP of HLT in ring 3 */
    assert_int_equal(word_at(&rig, RING0_STACK - 20), X86_RIG_CODE + 4);
    assert_int_equal(word_at(&rig, RING0_STACK - 8), X86_RIG_STACK);
    assert_int_equal(word_at(&rig, RING0_STACK - 4), 0x23);
    x86_rig_free(&rig);
}

static void far_return_to_ring3_drops_inner_segments(void **state)
{
    /* push 23; push 50000; push 1b; push 12000; retf: DS of ring 0 cannot stay. */
    struct x86_rig rig = rig_with_rings();

    (void)state;
    set_gate(&rig, 13);
    code_at(&rig, 0x12000, "\x8c\xd9\xf4", 3); /* mov ecx,ds; hlt */
    code_at(&rig, HANDLER, "\xf4", 1);
    assert_int_equal(X86_RIG_RUN(&rig, "\x6a\x23\x68\0\0\x05\0\x6a\x1b\x68\0\x20\x01\0\xcb"),
                     X86_EXIT_HLT);
    assert_int_equal(rig.cpu->gpr[X86_RCX], 0);
    assert_int_equal(word_at(&rig, RING0_STACK - 20), 0x12002);
    assert_int_equal(word_at(&rig, RING0_STACK - 8), 0x50000);
    x86_rig_free(&rig);
}

static void port_of_ring3_goes_by_the_bitmap(void **state)
{
    struct x86_rig rig = rig_with_rings();

    (void)state;
    enter_ring3(&rig);
    set_gate(&rig, 13);
    code_at(&rig, HANDLER, "\xf4", 1);
    rig.cpu->tr.limit = 0x68 + 32;
    x86_rig_put(&rig, TSS + 100, UINT64_C(0x68) << 16);
    x86_rig_put(&rig, TSS + 0x68 + 0x10, 0x2); /* port 0x81 is forbidden */
    assert_int_equal(X86_RIG_RUN(&rig, "\xe6\x80\xe6\x81"), X86_EXIT_IO);
    assert_int_equal(rig.cpu->io.port, 0x80);
    assert_int_equal(x86_run(rig.cpu, UINT64_MAX), X86_EXIT_HLT);
    assert_int_equal(word_at(&rig, RING0_STACK - 20), X86_RIG_CODE + 2);
    x86_rig_free(&rig);
}

/* A load of four bytes at this address. Return: the vector of HANDLER's that was taken, or -1. */
static int load_with(struct x86_rig *rig, uint64_t address, uint64_t flags, uint64_t cr0)
{
    x86_set_rflags(rig->cpu, flags);
    rig->cpu->cr0 = 0x33 | cr0;
    x86_state_changed(rig->cpu);
    rig->cpu->mp_state = X86_RUNNABLE;
    rig->cpu->gpr[X86_RBX] = address;
    /* mov eax,[ebx]; ud2 */
    assert_int_equal(X86_RIG_RUN(rig, "\x8b\x03\x0f\x0b"), X86_EXIT_HLT);
    return rig->cpu->rip == HANDLER + 1 ? 6 : rig->cpu->rip == HANDLER + 2 ? 17 : -1;
}

static void alignment_is_checked_in_ring3_alone(void **state)
{
    enum { AC = 0x40000, AM = 0x40000 };
    struct x86_rig rig = rig_with_rings();

    (void)state;
    set_gate(&rig, 6);
    x86_rig_put(&rig, X86_RIG_IDT + 17 * 8, UINT64_C(0x0001ee0000081001));
    code_at(&rig, HANDLER, "\xf4\xf4", 2);
    assert_int_equal(load_with(&rig, X86_RIG_DATA + 2, AC, AM), 6); /* ring 0 */
    enter_ring3(&rig);
    assert_int_equal(load_with(&rig, X86_RIG_DATA + 2, AC, AM), 17);
    assert_int_equal(word_at(&rig, RING0_STACK - 24), 0); /* the error code */
    assert_int_equal(word_at(&rig, RING0_STACK - 20), X86_RIG_CODE);
    assert_int_equal(rig.cpu->cpl, 0); /* the handler reads what it likes, AC set or not */
    assert_int_equal(load_with(&rig, X86_RIG_DATA + 2, AC, AM), 6);
    enter_ring3(&rig);
    assert_int_equal(load_with(&rig, X86_RIG_DATA + 4, AC, AM), 6);
    enter_ring3(&rig);
    assert_int_equal(load_with(&rig, X86_RIG_DATA + 2, AC, 0), 6);
    enter_ring3(&rig);
    assert_int_equal(load_with(&rig, X86_RIG_DATA + 2, 0, AM), 6);
    x86_rig_free(&rig);
}

static void alignment_check_begins_with_popf(void **state)
{
    /* push 40002; popf; mov eax,[20001]: within one block of code that hit the TLB before. */
    struct x86_rig rig = rig_with_rings();

    (void)state;
    x86_rig_put(&rig, X86_RIG_IDT + 17 * 8, UINT64_C(0x0001ee0000081000));
    code_at(&rig, HANDLER, "\xf4", 1);
    rig.cpu->cr0 |= 0x40000;
    enter_ring3(&rig);
    assert_int_equal(X86_RIG_RUN(&rig, "\xa1\x01\0\x02\0\x68\x02\0\x04\0\x9d\xa1\x01\0\x02\0"),
                     X86_EXIT_HLT);
    assert_int_equal(rig.cpu->rip, HANDLER + 1);
    assert_int_equal(word_at(&rig, RING0_STACK - 20), X86_RIG_CODE + 11);
    x86_rig_free(&rig);
}

static void virtual_8086_mode_comes_and_goes(void **state)
{
    /* IRET with VM, IOPL 3: INT 40 comes back to ring 0 with the segments on its stack. */
    struct x86_rig rig = rig_with_rings();
    static const char code[] = "\x6a\x05\x6a\x05\x6a\x05\x6a\x05" /* gs fs ds es */
                               "\x68\0\x30\0\0\x68\0\x80\0\0"     /* ss 3000, esp 8000 */
                               "\x68\x02\x30\x02\0"               /* flags: VM, IOPL 3 */
                               "\x68\0\x20\0\0\x6a\x10\xcf";      /* cs 2000, eip 10; iret */

    (void)state;
    set_gate(&rig, 0x40);
    code_at(&rig, 0x20010, "\x8c\xc8\x50\xcd\x40", 5); /* mov ax,cs; push ax; int 40 */
    code_at(&rig, HANDLER, "\xf4", 1);
    assert_int_equal(X86_RIG_RUN(&rig, code), X86_EXIT_HLT);
    assert_int_equal(rig.cpu->gpr[X86_RAX] & 0xffff, 0x2000);
    assert_int_equal(word_at(&rig, 0x30000 + 0x7ffe) & 0xffff, 0x2000);
    assert_int_equal(rig.cpu->gpr[X86_RSP], RING0_STACK - 36);
    assert_int_equal(word_at(&rig, RING0_STACK - 36), 0x15);
    assert_int_equal(word_at(&rig, RING0_STACK - 28) & 0x20000, 0x20000);
    assert_int_equal(word_at(&rig, RING0_STACK - 20), 0x3000);
    assert_int_equal(word_at(&rig, RING0_STACK - 12), 5);
    assert_int_equal(rig.cpu->rflags & 0x20000, 0);
    x86_rig_free(&rig);
}

static void trap_flag_traps_after_the_next_instruction(void **state)
{
    struct x86_rig rig = rig_with_rings();

    (void)state;
    set_gate(&rig, 1);
    code_at(&rig, HANDLER, "\xf4", 1);
    /* push 102; popf; inc eax; inc eax */
    assert_int_equal(X86_RIG_RUN(&rig, "\x68\x02\x01\0\0\x9d\x40\x40\xf4"), X86_EXIT_HLT);
    assert_int_equal(rig.cpu->gpr[X86_RAX], 1);
    assert_int_equal(rig.cpu->dr[6] & 0x4000, 0x4000);
    assert_int_equal(word_at(&rig, X86_RIG_STACK - 12), X86_RIG_CODE + 7);
    x86_rig_free(&rig);
}

static void fault_in_delivery_is_a_double_fault(void **state)
{
    /* #DE finds no gate (#GP), and that is contributory: #DF, whose gate is there. */
    struct x86_rig rig = rig_with_rings();

    (void)state;
    set_gate(&rig, 8);
    code_at(&rig, HANDLER, "\xf4", 1);
    assert_int_equal(X86_RIG_RUN(&rig, "\x31\xc9\xf7\xf1"), X86_EXIT_HLT);
    assert_int_equal(word_at(&rig, X86_RIG_STACK - 16), 0);
    assert_int_equal(word_at(&rig, X86_RIG_STACK - 12), X86_RIG_CODE + 2);
    x86_rig_free(&rig);
}

static void nmi_blocks_others_until_iret(void **state)
{
    struct x86_rig rig = rig_with_rings();

    (void)state;
    set_gate(&rig, 2);
    code_at(&rig, HANDLER, "\x40\xf4\xcf", 3); /* inc eax; hlt; iret */
    x86_nmi(rig.cpu);
    assert_int_equal(X86_RIG_RUN(&rig, "\x90\xf4"), X86_EXIT_HLT);
    assert_int_equal(rig.cpu->rip, HANDLER + 2);
    x86_nmi(rig.cpu);
    rig.cpu->mp_state = X86_RUNNABLE;
    assert_int_equal(x86_run(rig.cpu, UINT64_MAX), X86_EXIT_HLT); /* the second one's, after IRET */
    assert_int_equal(rig.cpu->gpr[X86_RAX], 2);
    assert_int_equal(rig.cpu->rip, HANDLER + 2);
    x86_rig_free(&rig);
}

static void pae_paging_loads_its_four_entries(void **state)
{
    /* A 2 MiB page at 40000000 by the second PDPTE. */
    struct x86_rig rig = rig_with_rings();

    (void)state;
    x86_rig_put(&rig, 0x7000, 0x8001);
    x86_rig_put(&rig, 0x7008, 0x9001);
    x86_rig_put(&rig, 0x8000, 0x83);
    x86_rig_put(&rig, 0x9000, 0x83);
    x86_rig_put(&rig, X86_RIG_DATA, 0x55667788);
    /* mov eax,20; mov cr4,eax; mov eax,7000; mov cr3,eax; mov eax,80000033; mov cr0,eax; mov eax,[40020000] */
    assert_int_equal(X86_RIG_RUN(&rig, "\xb8\x20\0\0\0\x0f\x22\xe0\xb8\0\x70\0\0\x0f\x22\xd8"
                                       "\xb8\x33\0\0\x80\x0f\x22\xc0\xa1\0\0\x02\x40\xf4"),
                     X86_EXIT_HLT);
    assert_int_equal(rig.cpu->gpr[X86_RAX], 0x55667788);
    x86_rig_free(&rig);
}

static void unreal_mode_keeps_its_limits(void **state)
{
    /* DS was loaded in protected mode with 4 GiB: real mode reaches past 64 KiB with it. */
    struct x86_rig rig = x86_rig_new(16);

    (void)state;
    x86_rig_put(&rig, 0x90000, 0x1234);
    /* mov eax,cr0; or al,1; mov cr0,eax; mov bx,10; mov ds,bx; and al,fe; mov cr0,eax;
     * xor bx,bx; mov ds,bx; mov ecx,90000; mov dx,[ecx] */
    assert_int_equal(X86_RIG_RUN(&rig,
                                 "\x66\x0f\x20\xc0\x0c\x01\x0f\x22\xc0\xbb\x10\0\x8e\xdb\x24\xfe"
                                 "\x0f\x22\xc0\x31\xdb\x8e\xdb\x66\xb9\0\0\x09\0\x67\x8b\x11\xf4"),
                     X86_EXIT_HLT);
    assert_int_equal(rig.cpu->gpr[X86_RDX] & 0xffff, 0x1234);
    x86_rig_free(&rig);
}

static void real_mode_counts_in_its_own_code_page(void **state)
{
    /* The counter lies beside the code: each store ends a block, and nothing is decoded twice for it. */
    struct x86_rig rig = x86_rig_new(16);

    (void)state;
    rig.cpu->gpr[X86_RCX] = 50000;
    /* 1: inc word cs:[80]; loop 1b; hlt */
    assert_int_equal(X86_RIG_RUN(&rig, "\x2e\xff\x06\x80\0\xe2\xf9\xf4"), X86_EXIT_HLT);
    assert_int_equal(word_at(&rig, X86_RIG_CODE + 0x80) & 0xffff, 50000);
    x86_rig_free(&rig);
}

static void *run_to_halt(void *argument)
{
    struct x86_vcpu *cpu = argument;

    return x86_run(cpu, UINT64_MAX) == X86_EXIT_HLT ? cpu : NULL;
}

static void locked_additions_of_two_vcpus_are_all_there(void **state)
{
    /* 1: lock inc dword [20000]; lock add dword [20ffe across pages],1; loop */
    static const char code[] =
        "\xf0\xff\x04\x25\0\0\x02\0\xf0\x83\x04\x25\xfe\x0f\x02\0\x01\xe2\xed\xf4";
    struct x86_rig rig = x86_rig_new(64);
    struct x86_rig other = {.rig = rig.rig};
    struct gm_soft_vcpu *vcpu;
    pthread_t thread;
    void *result;

    (void)state;
    assert_int_equal(gm_soft_vcpu_new(rig.rig.soft, 1, &vcpu), 0);
    assert_int_equal(x86_vcpu_new(gm_soft_vcpu_mmu(vcpu), NULL, &other.cpu), 0);
    x86_rig_set_mode(&other, 64);
    rig.cpu->gpr[X86_RCX] = other.cpu->gpr[X86_RCX] = 20000;
    code_at(&rig, X86_RIG_CODE, code, sizeof(code) - 1);
    assert_int_equal(pthread_create(&thread, NULL, run_to_halt, other.cpu), 0);
    assert_ptr_equal(run_to_halt(rig.cpu), rig.cpu);
    assert_int_equal(pthread_join(thread, &result), 0);
    assert_ptr_equal(result, other.cpu);
    assert_int_equal(word_at(&rig, 0x20000), 40000);
    assert_int_equal(word_at(&rig, 0x20ffe), 40000);
    x86_vcpu_free(other.cpu);
    gm_soft_vcpu_free(vcpu);
    x86_rig_free(&rig);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(interrupt_from_ring3_switches_stacks_and_iret_goes_back),
        cmocka_unit_test(far_return_to_ring3_drops_inner_segments),
        cmocka_unit_test(port_of_ring3_goes_by_the_bitmap),
        cmocka_unit_test(alignment_is_checked_in_ring3_alone),
        cmocka_unit_test(alignment_check_begins_with_popf),
        cmocka_unit_test(virtual_8086_mode_comes_and_goes),
        cmocka_unit_test(trap_flag_traps_after_the_next_instruction),
        cmocka_unit_test(fault_in_delivery_is_a_double_fault),
        cmocka_unit_test(nmi_blocks_others_until_iret),
        cmocka_unit_test(pae_paging_loads_its_four_entries),
        cmocka_unit_test(unreal_mode_keeps_its_limits),
        cmocka_unit_test(real_mode_counts_in_its_own_code_page),
        cmocka_unit_test(locked_additions_of_two_vcpus_are_all_there),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
