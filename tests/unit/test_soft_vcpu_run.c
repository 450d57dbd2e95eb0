/*
 * unit/test_soft_vcpu_run.c - KVM_RUN of the software KVM: each exit with what kvm_run says of it, how it is completed, what
 * ends it from outside. Expected values are those of Linux's api.rst.
 */
#include "run_rig.h"

#include "base/point.h"

#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <unistd.h>

static uint8_t *port_data(const struct rig *rig)
{
    return (uint8_t *)run_page(rig) + run_page(rig)->io.data_offset;
}

static void out_comes_out_with_its_data(void **state)
{
    struct rig rig = run_rig_new(NULL);

    (void)state;
    RUN_LOAD(
        &rig,
        "\xba\x34\x12\x66\xb8\x44\x33\x22\x11\x66\xef\xf4"); /* mov dx; mov eax; out dx,eax; hlt */
    assert_run_exits(&rig, KVM_EXIT_IO);
    assert_int_equal(run_page(&rig)->io.direction, KVM_EXIT_IO_OUT);
    assert_int_equal(run_page(&rig)->io.size, 4);
    assert_int_equal(run_page(&rig)->io.port, 0x1234);
    assert_int_equal(run_page(&rig)->io.count, 1);
    assert_int_equal(run_page(&rig)->io.data_offset, 4096);
    assert_memory_equal(port_data(&rig), "\x44\x33\x22\x11", 4);
    assert_run_exits(&rig, KVM_EXIT_HLT);
    assert_int_equal(rig.vcpu->x86->rip, RUN_CODE + 12);
    rig_free(&rig);
}

static void in_is_completed_by_the_next_run(void **state)
{
    struct rig rig = run_rig_new(NULL);

    (void)state;
    RUN_LOAD(&rig, "\xe4\x60\xf4"); /* in al,0x60; hlt */
    assert_run_exits(&rig, KVM_EXIT_IO);
    assert_int_equal(run_page(&rig)->io.direction, KVM_EXIT_IO_IN);
    assert_int_equal(run_page(&rig)->io.size, 1);
    *port_data(&rig) = 0x5a;
    assert_run_exits(&rig, KVM_EXIT_HLT);
    assert_int_equal(rig.vcpu->x86->gpr[X86_RAX] & 0xff, 0x5a);
    rig_free(&rig);
}

static void mmio_comes_out_and_is_completed(void **state)
{
    struct rig rig = run_rig_new(NULL);

    (void)state;
    /* mov ebx,0x100004; mov dword [ebx],0x11223344; mov eax,[ebx]; hlt */
    RUN_LOAD(&rig, "\x66\xbb\x04\x00\x10\x00\x67\x66\xc7\x03\x44\x33\x22\x11\x67\x66\x8b\x03\xf4");
    assert_run_exits(&rig, KVM_EXIT_MMIO);
    assert_int_equal(run_page(&rig)->mmio.phys_addr, 0x100004);
    assert_int_equal(run_page(&rig)->mmio.len, 4);
    assert_int_equal(run_page(&rig)->mmio.is_write, 1);
    assert_memory_equal(run_page(&rig)->mmio.data, "\x44\x33\x22\x11", 4);
    assert_run_exits(&rig, KVM_EXIT_MMIO);
    assert_int_equal(run_page(&rig)->mmio.is_write, 0);
    memcpy(run_page(&rig)->mmio.data, "\x78\x56\x34\x12", 4);
    assert_run_exits(&rig, KVM_EXIT_HLT);
    assert_int_equal(rig.vcpu->x86->gpr[X86_RAX], 0x12345678);
    rig_free(&rig);
}

static void mmio_answer_outlives_a_translation(void **state)
{
    /* KVM_TRANSLATE walks tables between an exit and its answer. */
    struct kvm_translation translation = {.linear_address = RUN_CODE};
    struct rig rig = run_rig_new(NULL);

    (void)state;
    RUN_LOAD(&rig, "\x67\xa0\x00\x00\x10\x00\xf4"); /* mov al,[0x100000] */
    assert_run_exits(&rig, KVM_EXIT_MMIO);
    run_page(&rig)->mmio.data[0] = 0x77;
    assert_int_equal(
        gm_soft_vcpu_ioctl(rig.vcpu, KVM_TRANSLATE, (unsigned long)(uintptr_t)&translation), 0);
    assert_int_equal(translation.physical_address, RUN_CODE);
    assert_run_exits(&rig, KVM_EXIT_HLT);
    assert_int_equal(rig.vcpu->x86->gpr[X86_RAX] & 0xff, 0x77);
    rig_free(&rig);
}

static void mmio_is_asked_anew_after_other_accesses(void **state)
{
    /* The vCPU's accesses by guestmem/mmu.h take the place of the one that waits for its answer. */
    struct rig rig = run_rig_new(NULL);
    uint64_t value;

    (void)state;
    RUN_LOAD(&rig, "\x67\xa0\x00\x00\x10\x00\xf4");
    assert_run_exits(&rig, KVM_EXIT_MMIO);
    run_page(&rig)->mmio.data[0] = 0x77;
    assert_int_equal(rig_load_as(&rig, 0x200ffd, 8, &value), GM_MMU_MMIO);
    assert_int_equal(rig_load_as(&rig, 0x3ffd, 8, &value), GM_MMU_OK);
    assert_run_exits(&rig, KVM_EXIT_MMIO);
    run_page(&rig)->mmio.data[0] = 0x77;
    assert_run_exits(&rig, KVM_EXIT_HLT);
    assert_int_equal(rig.vcpu->x86->gpr[X86_RAX] & 0xff, 0x77);
    rig_free(&rig);
}

static void answer_of_another_instruction_is_dropped(void **state)
{
    /* Who sets rip means that instruction, not the one that was under way. */
    struct rig rig = run_rig_new(NULL);

    (void)state;
    RUN_LOAD(&rig, "\xe4\x60\xf4\xe4\x60\xf4");
    assert_run_exits(&rig, KVM_EXIT_IO);
    *port_data(&rig) = 0x11;
    rig.vcpu->x86->rip = RUN_CODE + 3;
    assert_run_exits(&rig, KVM_EXIT_IO);
    *port_data(&rig) = 0x22;
    assert_run_exits(&rig, KVM_EXIT_HLT);
    assert_int_equal(rig.vcpu->x86->gpr[X86_RAX] & 0xff, 0x22);
    assert_int_equal(rig.vcpu->x86->rip, RUN_CODE + 6);
    rig_free(&rig);
}

static void page_written_by_the_user_changes_no_request(void **state)
{
    /* Between an exit and its completion: sizes, offsets and directions that were never asked for. */
    struct rig rig = run_rig_new(NULL);

    (void)state;
    RUN_LOAD(&rig, "\xe4\x60\x67\xa0\x00\x00\x10\x00\xf4"); /* in al,0x60; mov al,[0x100000]; hlt */
    assert_run_exits(&rig, KVM_EXIT_IO);
    memset(run_page(&rig), 0xff, sizeof(struct kvm_run));
    run_page(&rig)->immediate_exit = 0;
    run_page(&rig)->cr8 = 0;
    run_page(&rig)->kvm_valid_regs = run_page(&rig)->kvm_dirty_regs = 0;
    *((uint8_t *)run_page(&rig) + 4096) = 0x33;
    assert_run_exits(&rig, KVM_EXIT_MMIO);
    assert_int_equal(rig.vcpu->x86->gpr[X86_RAX] & 0xff, 0x33);
    memset(run_page(&rig), 0xee, sizeof(struct kvm_run));
    run_page(&rig)->immediate_exit = 0;
    run_page(&rig)->cr8 = 0;
    run_page(&rig)->kvm_valid_regs = run_page(&rig)->kvm_dirty_regs = 0;
    run_page(&rig)->request_interrupt_window = 0;
    assert_run_exits(&rig, KVM_EXIT_HLT);
    assert_int_equal(rig.vcpu->x86->gpr[X86_RAX] & 0xff, 0xee);
    rig_free(&rig);
}

static void bad_arguments_are_refused(void **state)
{
    struct rig rig = run_rig_new(NULL);

    (void)state;
    RUN_LOAD(&rig, "\xf4");
    assert_int_equal(gm_soft_vcpu_ioctl(rig.vcpu, KVM_RUN, 1), -EINVAL);
    run_page(&rig)->cr8 = 16;
    assert_int_equal(run(&rig), -EINVAL);
    run_page(&rig)->cr8 = 0;
    run_page(&rig)->kvm_valid_regs = UINT64_C(1) << 3;
    assert_int_equal(run(&rig), -EINVAL);
    run_page(&rig)->kvm_valid_regs = 0;
    assert_run_exits(&rig, KVM_EXIT_HLT);
    rig_free(&rig);
}

static void registers_go_by_the_page(void **state)
{
    /* Dirty ones are set before the guest runs and are clean then; valid ones are told after it. */
    struct rig rig = run_rig_new(NULL);
    struct kvm_sync_regs *regs;

    (void)state;
    RUN_LOAD(&rig, "\x43\xf4"); /* inc bx; hlt */
    regs = &run_page(&rig)->s.regs;
    run_page(&rig)->kvm_valid_regs = KVM_SYNC_X86_VALID_FIELDS;
    assert_run_exits(&rig, KVM_EXIT_HLT);
    assert_int_equal(regs->regs.rip, RUN_CODE + 2);
    assert_int_equal(regs->regs.rbx, 1);
    assert_int_equal(regs->sregs.cr0, 0x60000010);
    regs->regs.rip = RUN_CODE;
    regs->regs.rbx = 0x41;
    regs->sregs.cr2 = 0x5555;
    run_page(&rig)->kvm_dirty_regs = KVM_SYNC_X86_REGS | KVM_SYNC_X86_SREGS | KVM_SYNC_X86_EVENTS;
    assert_run_exits(&rig, KVM_EXIT_HLT);
    assert_int_equal(run_page(&rig)->kvm_dirty_regs, 0);
    assert_int_equal(regs->regs.rbx, 0x42);
    assert_int_equal(rig.vcpu->x86->cr2, 0x5555);
    regs->sregs.cr4 = UINT64_MAX;
    run_page(&rig)->kvm_dirty_regs = KVM_SYNC_X86_SREGS;
    assert_int_equal(run(&rig), -EINVAL);
    run_page(&rig)->kvm_valid_regs = 0;
    run_page(&rig)->kvm_dirty_regs = 0;
    regs->regs.rip = 0;
    rig.vcpu->x86->rip = RUN_CODE;
    assert_run_exits(&rig, KVM_EXIT_HLT);
    assert_int_equal(regs->regs.rip, 0); /* not asked for */
    rig_free(&rig);
}

static void halt_is_the_users_and_the_next_run_goes_on(void **state)
{
    struct rig rig = run_rig_new(NULL);

    (void)state;
    RUN_LOAD(&rig, "\xf4\xfb\xf4"); /* hlt; sti; hlt */
    assert_run_exits(&rig, KVM_EXIT_HLT);
    assert_int_equal(run_page(&rig)->if_flag, 0);
    assert_int_equal(run_page(&rig)->ready_for_interrupt_injection, 0);
    assert_int_equal(rig.vcpu->x86->rip, RUN_CODE + 1);
    assert_run_exits(&rig, KVM_EXIT_HLT);
    assert_int_equal(rig.vcpu->x86->rip, RUN_CODE + 3);
    assert_int_equal(run_page(&rig)->if_flag, 1);
    assert_int_equal(run_page(&rig)->ready_for_interrupt_injection, 1);
    assert_int_equal(run_page(&rig)->apic_base, 0xfee00900);
    rig_free(&rig);
}

static void cr8_is_the_pages(void **state)
{
    struct rig rig = run_rig_new(NULL);

    (void)state;
    RUN_LOAD(&rig, "\xf4");
    run_page(&rig)->cr8 = 7;
    assert_run_exits(&rig, KVM_EXIT_HLT);
    assert_int_equal(rig.vcpu->x86->cr8, 7);
    assert_int_equal(run_page(&rig)->cr8, 7);
    rig_free(&rig);
}

static void interrupt_window_opens_when_interrupts_are(void **state)
{
    /* Behind the shadow of STI. */
    struct rig rig = run_rig_new(NULL);

    (void)state;
    RUN_LOAD(&rig, "\x90\xfb\x90\x90\xf4"); /* nop; sti; nop; nop; hlt */
    run_page(&rig)->request_interrupt_window = 1;
    assert_run_exits(&rig, KVM_EXIT_IRQ_WINDOW_OPEN);
    assert_int_equal(rig.vcpu->x86->rip, RUN_CODE + 3);
    assert_int_equal(run_page(&rig)->ready_for_interrupt_injection, 1);
    run_page(&rig)->request_interrupt_window = 0;
    assert_run_exits(&rig, KVM_EXIT_HLT);
    rig_free(&rig);
}

static void triple_fault_is_a_shutdown(void **state)
{
    struct rig rig = run_rig_new(NULL);

    (void)state;
    rig.vcpu->x86->idt.limit = 0;
    RUN_LOAD(&rig, "\x0f\x0b"); /* ud2, no IVT */
    assert_run_exits(&rig, KVM_EXIT_SHUTDOWN);
    rig_free(&rig);
}

static void instruction_that_is_not_there_is_told_with_its_bytes(void **state)
{
    static const uint8_t bytes[] = {0x0f, 0x01, 0xc1, 0x90}; /* vmcall */
    struct rig rig = run_rig_new(NULL);

    (void)state;
    run_load(&rig, rig.vcpu, bytes, sizeof(bytes));
    assert_run_exits(&rig, KVM_EXIT_INTERNAL_ERROR);
    assert_int_equal(run_page(&rig)->internal.suberror, KVM_INTERNAL_ERROR_EMULATION);
    assert_int_equal(run_page(&rig)->emulation_failure.flags,
                     KVM_INTERNAL_ERROR_EMULATION_FLAG_INSTRUCTION_BYTES);
    assert_int_equal(run_page(&rig)->emulation_failure.ndata, 3);
    assert_in_range(run_page(&rig)->emulation_failure.insn_size, 2, 15);
    assert_memory_equal(run_page(&rig)->emulation_failure.insn_bytes, bytes, sizeof(bytes));
    rig_free(&rig);
}

static void code_outside_of_memory_has_no_bytes(void **state)
{
    struct rig rig = run_rig_new(NULL);

    (void)state;
    RUN_LOAD(&rig, "\x90");
    rig.vcpu->x86->rip = 0x200000;
    assert_run_exits(&rig, KVM_EXIT_INTERNAL_ERROR);
    assert_int_equal(run_page(&rig)->emulation_failure.flags, 0);
    assert_int_equal(run_page(&rig)->emulation_failure.ndata, 1);
    rig_free(&rig);
}

static void state_that_no_processor_enters_fails_the_entry(void **state)
{
    struct rig rig = run_rig_new(NULL);

    (void)state;
    RUN_LOAD(&rig, "\xf4");
    rig.vcpu->x86->cr0 = 0x80000010; /* paging without protection */
    x86_state_changed(rig.vcpu->x86);
    assert_run_exits(&rig, KVM_EXIT_FAIL_ENTRY);
    assert_int_equal(run_page(&rig)->fail_entry.hardware_entry_failure_reason, 0x80000021);
    rig.vcpu->x86->cr0 = 0x10;
    x86_state_changed(rig.vcpu->x86);
    assert_run_exits(&rig, KVM_EXIT_HLT);
    rig_free(&rig);
}

static void memory_that_the_attributes_deny_is_a_memory_fault(void **state)
{
    const struct kvm_memory_attributes attributes = {
        .address = 0x3000, .size = 0x1000, .attributes = KVM_MEMORY_ATTRIBUTE_PRIVATE};
    struct gm_run_memory_fault fault;
    struct rig rig = run_rig_new(NULL);

    (void)state;
    assert_int_equal(rig_call(&rig, KVM_SET_MEMORY_ATTRIBUTES, &attributes), 0);
    RUN_LOAD(&rig, "\xa0\x45\x31\xf4"); /* mov al,[0x3145] */
    assert_int_equal(run(&rig), -EFAULT);
    assert_int_equal(run_page(&rig)->exit_reason, KVM_EXIT_MEMORY_FAULT);
    memcpy(&fault, &run_page(&rig)->hw, sizeof(fault));
    assert_int_equal(fault.flags, KVM_MEMORY_EXIT_FLAG_PRIVATE);
    assert_int_equal(fault.gpa, 0x3000);
    assert_int_equal(fault.size, 0x1000);
    rig_free(&rig);
}

static void slot_without_host_memory_is_efault(void **state)
{
    struct rig rig = run_rig_new(NULL);

    (void)state;
    RUN_LOAD(&rig, "\xa0\x00\x30\xf4");
    assert_int_equal(mprotect(rig.memory + 0x3000, PAGE, PROT_NONE), 0);
    assert_int_equal(run(&rig), -EFAULT);
    assert_int_equal(mprotect(rig.memory + 0x3000, PAGE, PROT_READ | PROT_WRITE), 0);
    assert_run_exits(&rig, KVM_EXIT_HLT);
    rig_free(&rig);
}

static void after_an_mmio_read_lost_memory_is_mmio(void **state)
{
    struct rig rig = run_rig_new(NULL);
    struct kvm_run *page = run_page(&rig);

    (void)state;
    /* mov esi,0x100000; mov edi,0x3000; mov cx,2; rep movsb; mov al,[0x3000]; hlt */
    RUN_LOAD(
        &rig,
        "\x66\xbe\x00\x00\x10\x00\x66\xbf\x00\x30\x00\x00\xb9\x02\x00\x67\xf3\xa4\xa0\x00\x30\xf4");
    assert_int_equal(mprotect(rig.memory + 0x3000, PAGE, PROT_NONE), 0);
    for (unsigned i = 0; i < 2; i++) {
        assert_run_exits(&rig, KVM_EXIT_MMIO);
        assert_int_equal(page->mmio.is_write, 0);
        assert_int_equal(page->mmio.phys_addr, 0x100000 + i);
        page->mmio.data[0] = (uint8_t)(0x40 + i);
        assert_run_exits(&rig, KVM_EXIT_MMIO);
        assert_int_equal(page->mmio.is_write, 1);
        assert_int_equal(page->mmio.phys_addr, 0x3000 + i);
        assert_int_equal(page->mmio.data[0], 0x40 + i);
    }
    assert_int_equal(run(&rig), -EFAULT); /* another instruction */
    assert_int_equal(mprotect(rig.memory + 0x3000, PAGE, PROT_READ | PROT_WRITE), 0);
    assert_run_exits(&rig, KVM_EXIT_HLT);
    rig_free(&rig);
}

static void full_ring_comes_out_until_it_is_reset(void **state)
{
    struct rig rig = rig_new_without_vcpu(NULL);
    struct kvm_dirty_gfn *ring;
    uint32_t entries = 0;

    (void)state;
    assert_int_equal(rig_enable(&rig, KVM_CAP_DIRTY_LOG_RING_ACQ_REL, 16384), 0);
    rig_add_vcpu(&rig);
    for (uint32_t i = 0; i < 8; i++) { /* one MiB, in many places */
        assert_int_equal(
            rig_set(&rig, i, KVM_MEM_LOG_DIRTY_PAGES, (uint64_t)i * RIG_BYTES, RIG_BYTES, 0), 0);
    }
    /* l: mov edi,0x10000; m: mov [edi],al; add edi,0x1000; cmp edi,0x800000; jb m; jmp l */
    RUN_LOAD(&rig, "\x66\xbf\x00\x00\x01\x00\x67\x88\x47\x10\x66\x81\xc7\x00\x10\x00\x00"
                   "\x66\x81\xff\x00\x00\x80\x00\x72\xec\xeb\xe4");
    ring = gm_soft_vcpu_ring(rig.vcpu, &entries);
    for (unsigned exits = 0; exits < 3; exits++) {
        assert_run_exits(&rig, KVM_EXIT_DIRTY_RING_FULL);
        assert_run_exits(&rig, KVM_EXIT_DIRTY_RING_FULL);
        for (unsigned at = 0; at < entries; at++) {
            ring[at].flags |= ring[at].flags == KVM_DIRTY_GFN_F_DIRTY ? KVM_DIRTY_GFN_F_RESET : 0;
        }
        assert_true(rig_call_number(&rig, KVM_RESET_DIRTY_RINGS, 0) > 0);
    }
    rig_free(&rig);
}

static void immediate_exit_comes_after_the_completion(void **state)
{
    /* IN is complete, and nothing behind it has run; also where a kick has come. */
    struct rig rig = run_rig_new(NULL);

    (void)state;
    RUN_LOAD(&rig, "\xe4\x60\x43\xf4"); /* in al,0x60; inc bx; hlt */
    assert_run_exits(&rig, KVM_EXIT_IO);
    *port_data(&rig) = 0x5a;
    run_page(&rig)->immediate_exit = 1;
    gm_mmu_kick(rig.mmu);
    assert_int_equal(run(&rig), -EINTR);
    assert_int_equal(rig.vcpu->x86->rip, RUN_CODE + 2);
    assert_int_equal(rig.vcpu->x86->gpr[X86_RAX] & 0xff, 0x5a);
    assert_int_equal(run(&rig), -EINTR);
    assert_int_equal(rig.vcpu->x86->rip, RUN_CODE + 2);
    run_page(&rig)->immediate_exit = 0;
    assert_int_equal(run(&rig), -EINTR); /* the kick */
    assert_int_equal(run_page(&rig)->exit_reason, KVM_EXIT_INTR);
    assert_int_equal(rig.vcpu->x86->rip, RUN_CODE + 2);
    assert_run_exits(&rig, KVM_EXIT_HLT);
    rig_free(&rig);
}

static void completion_asks_for_the_next_piece(void **state)
{
    /* Four bytes over a page's end in MMIO: two exits, even with immediate_exit. */
    struct rig rig = run_rig_new(NULL);

    (void)state;
    RUN_LOAD(&rig, "\x67\x66\xa1\xfe\x0f\x10\x00\xf4"); /* mov eax,[0x100ffe] */
    assert_run_exits(&rig, KVM_EXIT_MMIO);
    assert_int_equal(run_page(&rig)->mmio.phys_addr, 0x100ffe);
    assert_int_equal(run_page(&rig)->mmio.len, 2);
    memcpy(run_page(&rig)->mmio.data, "\x11\x22", 2);
    run_page(&rig)->immediate_exit = 1;
    assert_run_exits(&rig, KVM_EXIT_MMIO);
    assert_int_equal(run_page(&rig)->mmio.phys_addr, 0x101000);
    memcpy(run_page(&rig)->mmio.data, "\x33\x44", 2);
    assert_int_equal(run(&rig), -EINTR);
    assert_int_equal(rig.vcpu->x86->gpr[X86_RAX], 0x44332211);
    rig_free(&rig);
}

/* ---- signals ---- */

static atomic_int handled;

static void on_signal(int number)
{
    (void)number;
    atomic_fetch_add(&handled, 1);
}

static void set_handler(int number, void (*handler)(int))
{
    struct sigaction action = {.sa_handler = handler, .sa_flags = SA_RESTART};

    assert_int_equal(sigaction(number, &action, NULL), 0);
}

static bool is_pending(int number)
{
    sigset_t pending;

    sigpending(&pending);
    return sigismember(&pending, number) == 1;
}

/* Waits until the guest of the rig counts at 0x3000, then sends signals to its thread. */
struct sender {
    struct rig *rig;
    pthread_t target;
    int numbers[3];
};

static void *send_signals(void *opaque)
{
    struct sender *sender = opaque;
    const uint16_t *counter = (const uint16_t *)(void *)(sender->rig->memory + 0x3000);

    for (unsigned i = 0; i < 3 && sender->numbers[i] != 0; i++) {
        uint16_t before = __atomic_load_n(counter, __ATOMIC_RELAXED);

        while (__atomic_load_n(counter, __ATOMIC_RELAXED) == before) {
            sched_yield();
        }
        pthread_kill(sender->target, sender->numbers[i]);
    }
    return NULL;
}

/* l: inc word [0x3000]; jmp l */
#define COUNT_FOREVER "\xff\x06\x00\x30\xeb\xfa"

static long run_and_send(struct rig *rig, int first, int second, int third)
{
    struct sender sender = {rig, pthread_self(), {first, second, third}};
    pthread_t thread;
    long rc;

    assert_int_equal(pthread_create(&thread, NULL, send_signals, &sender), 0);
    rc = run(rig);
    assert_int_equal(pthread_join(thread, NULL), 0);
    return rc;
}

static void signal_ends_the_run_after_its_handler(void **state)
{
    struct rig rig = run_rig_new(NULL);

    (void)state;
    set_handler(SIGUSR1, on_signal);
    atomic_store(&handled, 0);
    RUN_LOAD(&rig, COUNT_FOREVER);
    assert_int_equal(run_and_send(&rig, SIGUSR1, 0, 0), -EINTR);
    assert_int_equal(run_page(&rig)->exit_reason, KVM_EXIT_INTR);
    assert_int_equal(handled, 1);
    rig_free(&rig);
}

static void ignored_signals_do_not_end_it(void **state)
{
    /* SIGCHLD by default, SIGUSR2 by the program: what ends it is SIGUSR1. */
    struct rig rig = run_rig_new(NULL);

    (void)state;
    set_handler(SIGUSR1, on_signal);
    set_handler(SIGUSR2, SIG_IGN);
    atomic_store(&handled, 0);
    RUN_LOAD(&rig, COUNT_FOREVER);
    assert_int_equal(run_and_send(&rig, SIGCHLD, SIGUSR2, SIGUSR1), -EINTR);
    assert_int_equal(handled, 1);
    assert_false(is_pending(SIGCHLD));
    assert_false(is_pending(SIGUSR2));
    rig_free(&rig);
}

static void block(int number, int how)
{
    sigset_t set;

    sigemptyset(&set);
    sigaddset(&set, number);
    assert_int_equal(pthread_sigmask(how, &set, NULL), 0);
}

static long set_mask(struct rig *rig, uint32_t length, uint64_t mask)
{
    struct {
        uint32_t length;
        uint8_t set[8];
    } request = {.length = length};

    memcpy(request.set, &mask, sizeof(mask));
    return gm_soft_vcpu_ioctl(rig->vcpu, KVM_SET_SIGNAL_MASK, (uintptr_t)&request);
}

static void mask_of_its_own_lets_a_blocked_signal_end_it(void **state)
{
    /* The signal stays pending: the thread has it blocked. Pending before, or coming. */
    struct rig rig = run_rig_new(NULL);

    (void)state;
    set_handler(SIGUSR1, on_signal);
    atomic_store(&handled, 0);
    block(SIGUSR1, SIG_BLOCK);
    assert_int_equal(set_mask(&rig, 4, 0), -EINVAL);
    assert_int_equal(gm_soft_vcpu_ioctl(rig.vcpu, KVM_SET_SIGNAL_MASK, 8), -EFAULT);
    assert_int_equal(set_mask(&rig, 8, 0), 0);
    RUN_LOAD(&rig, COUNT_FOREVER);
    assert_int_equal(run_and_send(&rig, SIGUSR1, 0, 0), -EINTR);
    assert_int_equal(handled, 0);
    assert_true(is_pending(SIGUSR1));
    *rig_word(&rig, 0x3000) = 0;
    rig.vcpu->x86->rip = RUN_CODE;
    assert_int_equal(run(&rig), -EINTR);
    assert_int_equal(*rig_word(&rig, 0x3000), 0); /* nothing of the guest has run */
    /* Without the mask it waits. */
    assert_int_equal(gm_soft_vcpu_ioctl(rig.vcpu, KVM_SET_SIGNAL_MASK, 0), 0);
    RUN_LOAD(&rig, "\xf4");
    assert_run_exits(&rig, KVM_EXIT_HLT);
    assert_int_equal(handled, 0);
    block(SIGUSR1, SIG_UNBLOCK);
    assert_int_equal(handled, 1);
    rig_free(&rig);
}

static void mask_of_its_own_keeps_a_signal_back(void **state)
{
    /* What it blocks does not end KVM_RUN; the handler runs when that is over. */
    const uint64_t usr1 = UINT64_C(1) << (SIGUSR1 - 1);
    struct rig rig = run_rig_new(NULL);

    (void)state;
    set_handler(SIGUSR1, on_signal);
    set_handler(SIGUSR2, on_signal);
    atomic_store(&handled, 0);
    assert_int_equal(set_mask(&rig, 8, usr1), 0);
    RUN_LOAD(&rig, COUNT_FOREVER);
    assert_int_equal(run_and_send(&rig, SIGUSR1, SIGUSR2, 0), -EINTR);
    assert_int_equal(handled, 2);
    rig_free(&rig);
}

static void kick_ends_the_run(void **state)
{
    struct rig rig = run_rig_new(NULL);

    (void)state;
    RUN_LOAD(&rig, "\xf4");
    gm_mmu_kick(rig.mmu);
    assert_int_equal(run(&rig), -EINTR);
    assert_int_equal(run_page(&rig)->exit_reason, KVM_EXIT_INTR);
    assert_int_equal(rig.vcpu->x86->rip, RUN_CODE);
    assert_run_exits(&rig, KVM_EXIT_HLT);
    rig_free(&rig);
}

#ifdef GM_AUDIT_ON
static struct rig *point_rig;

/* A fault of the guest's is being handled: slots change, once. */
static void change_slots_in_a_fault(const char *name)
{
    if (point_rig != NULL && strcmp(name, "fault-resolved") == 0) {
        struct rig *rig = point_rig;

        point_rig = NULL;
        assert_int_equal(rig_set(rig, 1, 0, 0x400000, PAGE, 0), 0);
    }
}
#endif

static void instruction_that_begins_anew_leaves_guest_mode(void **state)
{
    /* Slots change while its access faults. Its exit is one like any other. */
#ifdef GM_AUDIT_ON
    struct rig rig = run_rig_new(NULL);

    (void)state;
    RUN_LOAD(&rig, "\xa0\x00\x40\xe4\x60\xf4"); /* mov al,[0x4000]; in al,0x60; hlt */
    point_rig = &rig;
    point_hook = change_slots_in_a_fault;
    assert_run_exits(&rig, KVM_EXIT_IO);
    assert_null(point_rig);
    assert_run_exits(&rig, KVM_EXIT_HLT);
    point_hook = NULL;
    rig_free(&rig);
#else
    (void)state;
    skip(); /* there are no points to stop at */
#endif
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(out_comes_out_with_its_data),
        cmocka_unit_test(in_is_completed_by_the_next_run),
        cmocka_unit_test(mmio_comes_out_and_is_completed),
        cmocka_unit_test(mmio_answer_outlives_a_translation),
        cmocka_unit_test(mmio_is_asked_anew_after_other_accesses),
        cmocka_unit_test(answer_of_another_instruction_is_dropped),
        cmocka_unit_test(page_written_by_the_user_changes_no_request),
        cmocka_unit_test(bad_arguments_are_refused),
        cmocka_unit_test(registers_go_by_the_page),
        cmocka_unit_test(halt_is_the_users_and_the_next_run_goes_on),
        cmocka_unit_test(cr8_is_the_pages),
        cmocka_unit_test(interrupt_window_opens_when_interrupts_are),
        cmocka_unit_test(triple_fault_is_a_shutdown),
        cmocka_unit_test(instruction_that_is_not_there_is_told_with_its_bytes),
        cmocka_unit_test(code_outside_of_memory_has_no_bytes),
        cmocka_unit_test(state_that_no_processor_enters_fails_the_entry),
        cmocka_unit_test(memory_that_the_attributes_deny_is_a_memory_fault),
        cmocka_unit_test(slot_without_host_memory_is_efault),
        cmocka_unit_test(after_an_mmio_read_lost_memory_is_mmio),
        cmocka_unit_test(full_ring_comes_out_until_it_is_reset),
        cmocka_unit_test(immediate_exit_comes_after_the_completion),
        cmocka_unit_test(completion_asks_for_the_next_piece),
        cmocka_unit_test(signal_ends_the_run_after_its_handler),
        cmocka_unit_test(ignored_signals_do_not_end_it),
        cmocka_unit_test(mask_of_its_own_lets_a_blocked_signal_end_it),
        cmocka_unit_test(mask_of_its_own_keeps_a_signal_back),
        cmocka_unit_test(kick_ends_the_run),
        cmocka_unit_test(instruction_that_begins_anew_leaves_guest_mode),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
