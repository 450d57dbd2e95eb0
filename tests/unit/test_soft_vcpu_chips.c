/*
 * unit/test_soft_vcpu_chips.c - interrupt chips in the software KVM: their ioctls' answers, interrupts that reach running and
 * halted vCPUs, timers. Errors are those of Linux's api.rst, programs follow the data sheets.
 */
#include "chips_rig.h"

#include <signal.h>

static void raise_line(struct actor *actor)
{
    assert_int_equal(set_line(actor->rig, 3, 1), 0);
}

/* A line, and then a kick. */
static void raise_line_and_kick(struct actor *actor)
{
    raise_line(actor);
    gm_mmu_kick(actor->rig->mmu);
}

static void chips_come_before_vcpus_and_once(void **state)
{
    struct rig rig = rig_new(NULL);
    const struct kvm_pit_config pit = {0};
    struct kvm_lapic_state lapic;
    struct gm_soft_vcpu *vcpu;

    (void)state;
    assert_int_equal(rig_call_number(&rig, KVM_CREATE_IRQCHIP, 0), -EINVAL);
    assert_int_equal(set_line(&rig, 1, 1), -ENXIO);
    assert_int_equal(rig_call(&rig, KVM_CREATE_PIT2, &pit), -ENOENT);
    assert_int_equal(rig_call_number(&rig, KVM_CREATE_PIT, 0), -ENOENT);
    assert_int_equal(gm_soft_vcpu_ioctl(rig.vcpu, KVM_GET_LAPIC, (uintptr_t)&lapic), -EINVAL);
    assert_int_equal(gm_soft_vcpu_ioctl(rig.vcpu, KVM_SET_LAPIC, 8), -EINVAL);
    rig_free(&rig);

    rig = chips_new();
    assert_int_equal(rig_call_number(&rig, KVM_CREATE_IRQCHIP, 0), -EEXIST);
    assert_int_equal(rig_call(&rig, KVM_CREATE_PIT2, &pit), -EEXIST);
    assert_int_equal(rig_call_number(&rig, KVM_CREATE_PIT, 0), -EEXIST);
    assert_int_equal(gm_soft_vcpu_new(rig.soft, 255, &vcpu), -EINVAL);
    assert_int_equal(gm_soft_vcpu_new(rig.soft, 254, &vcpu), 0);
    gm_soft_vcpu_free(vcpu);
    rig_free(&rig);
}

static void bad_addresses_are_efault(void **state)
{
    static const unsigned long requests[] = {
        KVM_CREATE_PIT2, KVM_IRQ_LINE, KVM_IRQ_LINE_STATUS, KVM_GET_IRQCHIP,     KVM_SET_IRQCHIP,
        KVM_GET_PIT2,    KVM_SET_PIT2, KVM_SIGNAL_MSI,      KVM_SET_GSI_ROUTING,
    };
    struct rig rig = chips_new();

    (void)state;
    for (unsigned i = 0; i < sizeof(requests) / sizeof(requests[0]); i++) {
        assert_int_equal(rig_call_number(&rig, requests[i], 8), -EFAULT);
    }
    assert_int_equal(gm_soft_vcpu_ioctl(rig.vcpu, KVM_GET_LAPIC, 8), -EFAULT);
    assert_int_equal(gm_soft_vcpu_ioctl(rig.vcpu, KVM_SET_LAPIC, 8), -EFAULT);
    rig_free(&rig);
}

static void state_is_given_and_taken(void **state)
{
    struct kvm_irqchip chip = {.chip_id = KVM_IRQCHIP_PIC_MASTER};
    struct kvm_irq_level line = {.irq = 3, .level = 1};
    struct kvm_lapic_state lapic = {{0}};
    struct kvm_pit_state2 pit;
    struct rig rig = chips_new();
    uint32_t tpr = 0x50;

    (void)state;
    assert_int_equal(rig_call(&rig, KVM_IRQ_LINE_STATUS, &line), 0);
    assert_int_equal(rig_call(&rig, KVM_GET_IRQCHIP, &chip), 0);
    assert_int_equal(chip.chip.pic.irr & 8, 8);
    chip.chip.pic.irq_base = 0x70;
    assert_int_equal(rig_call(&rig, KVM_SET_IRQCHIP, &chip), 0);
    memset(&chip.chip, 0, sizeof(chip.chip));
    assert_int_equal(rig_call(&rig, KVM_GET_IRQCHIP, &chip), 0);
    assert_int_equal(chip.chip.pic.irq_base, 0x70);
    chip.chip_id = 3;
    assert_int_equal(rig_call(&rig, KVM_GET_IRQCHIP, &chip), -EINVAL);
    assert_int_equal(rig_call(&rig, KVM_GET_PIT2, &pit), 0);
    assert_int_equal(rig_call(&rig, KVM_SET_PIT2, &pit), 0);
    assert_int_equal(gm_soft_vcpu_ioctl(rig.vcpu, KVM_GET_LAPIC, (uintptr_t)&lapic), 0);
    memcpy(lapic.regs + 0x80, &tpr, 4);
    assert_int_equal(gm_soft_vcpu_ioctl(rig.vcpu, KVM_SET_LAPIC, (uintptr_t)&lapic), 0);
    run_page(&rig)->cr8 = 0xffff; /* with chips it is only said, not asked */
    run_page(&rig)->immediate_exit = 1;
    assert_int_equal(run(&rig), -EINTR);
    assert_int_equal(run_page(&rig)->cr8, 5);
    assert_int_equal(run_page(&rig)->apic_base, 0xfee00900);
    assert_int_equal(run_page(&rig)->ready_for_interrupt_injection, 1);
    rig_free(&rig);
}

static void requests_that_chips_change(void **state)
{
    /* KVM_INTERRUPT is for those without; each state of a processor is taken with a local APIC alone. */
    static const uint32_t states[] = {KVM_MP_STATE_HALTED, KVM_MP_STATE_INIT_RECEIVED,
                                      KVM_MP_STATE_UNINITIALIZED, KVM_MP_STATE_RUNNABLE};
    const struct kvm_interrupt interrupt = {.irq = 0x30};
    struct rig rig = chips_new();
    struct kvm_mp_state mp = {.mp_state = KVM_MP_STATE_SIPI_RECEIVED};
    struct kvm_sregs sregs;

    (void)state;
    assert_int_equal(gm_soft_vcpu_ioctl(rig.vcpu, KVM_INTERRUPT, (uintptr_t)&interrupt), -ENXIO);
    assert_int_equal(gm_soft_vcpu_ioctl(rig.vcpu, KVM_SET_MP_STATE, (uintptr_t)&mp), -EINVAL);
    for (unsigned i = 0; i < 4; i++) {
        mp.mp_state = states[i];
        assert_int_equal(gm_soft_vcpu_ioctl(rig.vcpu, KVM_SET_MP_STATE, (uintptr_t)&mp), 0);
        mp.mp_state = UINT32_MAX;
        assert_int_equal(gm_soft_vcpu_ioctl(rig.vcpu, KVM_GET_MP_STATE, (uintptr_t)&mp), 0);
        assert_int_equal(mp.mp_state, states[i]);
    }
    assert_int_equal(gm_soft_vcpu_ioctl(rig.vcpu, KVM_GET_SREGS, (uintptr_t)&sregs), 0);
    sregs.cr8 = 6;
    sregs.apic_base = 0xfed00900;
    assert_int_equal(gm_soft_vcpu_ioctl(rig.vcpu, KVM_SET_SREGS, (uintptr_t)&sregs), 0);
    assert_int_equal(irqchip_cr8(rig.vcpu->irqchip, 0), 6);
    assert_int_equal(irqchip_apic_base(rig.vcpu->irqchip, 0), 0xfed00900);
    sregs.apic_base = UINT64_MAX;
    assert_int_equal(gm_soft_vcpu_ioctl(rig.vcpu, KVM_SET_SREGS, (uintptr_t)&sregs), -EINVAL);
    rig_free(&rig);
}

static void user_wakes_a_halted_guest_by_its_state(void **state)
{
    /* Halted with interrupts off and one pending; the user switches them on. */
    struct rig rig = chips_new();
    struct program program = {0};
    struct actor actor;

    (void)state;
    emit_pics(&program);
    EMIT(&program, 0xfa, 0xf4);
    set_handler_of(&rig, 0x23);
    start(&rig, &program);
    actor_start(&actor, &rig, raise_line_and_kick);
    assert_int_equal(run(&rig), -EINTR);
    actor_join(&actor);
    x86_set_rflags(rig.vcpu->x86, 0x202);
    assert_done(&rig, 0x23);
    rig_free(&rig);
}

static void routes_are_checked_and_followed(void **state)
{
    /* struct kvm_irq_routing: its entries have no number in C. */
    struct {
        uint32_t count;
        uint32_t flags;
        struct kvm_irq_routing_entry entries[1];
    } routes = {
        .count = 1,
        .flags = 1,
        .entries = {{.gsi = 50,
                     .type = KVM_IRQ_ROUTING_MSI,
                     .u.msi = {.address_lo = 0xfee00000, .data = 0x45}}},
    };
    struct rig rig = chips_new();
    struct program program = {0};

    (void)state;
    assert_int_equal(rig_call(&rig, KVM_SET_GSI_ROUTING, &routes), -EINVAL);
    routes.flags = 0;
    routes.count = 4097;
    assert_int_equal(rig_call(&rig, KVM_SET_GSI_ROUTING, &routes), -EINVAL);
    routes.count = 1;
    assert_int_equal(rig_call(&rig, KVM_SET_GSI_ROUTING, &routes), 0);
    emit_apic(&program);
    EMIT(&program, 0xfb, 0xb0, 1, 0xe6, DONE_PORT, 0xeb, 0xfe); /* sti; tell; jmp $ */
    set_handler_of(&rig, 0x45);
    start(&rig, &program);
    assert_done(&rig, 1);
    assert_int_equal(set_line(&rig, 50, 1), 0);
    assert_done(&rig, 0x45);
    rig_free(&rig);
}

static void line_interrupts_a_running_guest(void **state)
{
    /* The program comes to its loop with interrupts on, then the line rises: before or during KVM_RUN is all the same. */
    struct rig rig = chips_new();
    struct program program = {0};

    (void)state;
    emit_pics(&program);
    EMIT(&program, 0xfb, 0xb0, 1, 0xe6, DONE_PORT, 0xeb, 0xfe); /* sti; tell; jmp $ */
    set_handler_of(&rig, 0x23);
    start(&rig, &program);
    assert_done(&rig, 1);
    assert_int_equal(set_line(&rig, 3, 1), 0);
    assert_done(&rig, 0x23);
    rig_free(&rig);
}

static void interrupt_waits_for_its_window(void **state)
{
    /* Pending with interrupts off; taken behind STI's shadow. */
    struct rig rig = chips_new();
    struct program program = {0};

    (void)state;
    emit_pics(&program);
    EMIT(&program, 0xb0, 1, 0xe6, DONE_PORT); /* tell */
    EMIT(&program, 0xfb, 0x43, 0x43);         /* sti; inc bx; inc bx */
    EMIT(&program, 0xeb, 0xfe);
    set_handler_of(&rig, 0x23);
    start(&rig, &program);
    assert_done(&rig, 1);
    assert_int_equal(set_line(&rig, 3, 1), 0);
    assert_done(&rig, 0x23);
    assert_int_equal(rig.vcpu->x86->gpr[X86_RBX], 1);
    rig_free(&rig);
}

static void interrupt_waits_while_the_vmm_blocks_interrupts(void **state)
{
    /* KVM_GUESTDBG_BLOCKIRQ: steps go on past STI; without it the interrupt comes before the next instruction. */
    struct kvm_guest_debug debug = {.control = KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_SINGLESTEP |
                                               KVM_GUESTDBG_BLOCKIRQ};
    const uint8_t code[] = {0xfb, 0x40, 0x40, 0x40, 0xf4}; /* sti; inc ax three times; hlt */
    const uint32_t enabled = 0x1ff, vector_40 = 1;
    struct rig rig = chips_new();
    struct kvm_lapic_state lapic;

    (void)state;
    set_handler_of(&rig, 0x40);
    assert_int_equal(gm_soft_vcpu_ioctl(rig.vcpu, KVM_GET_LAPIC, (uintptr_t)&lapic), 0);
    memcpy(lapic.regs + 0xf0, &enabled, 4);
    memcpy(lapic.regs + 0x220, &vector_40, 4);
    assert_int_equal(gm_soft_vcpu_ioctl(rig.vcpu, KVM_SET_LAPIC, (uintptr_t)&lapic), 0);
    run_load(&rig, rig.vcpu, code, sizeof(code));
    assert_int_equal(gm_soft_vcpu_ioctl(rig.vcpu, KVM_SET_GUEST_DEBUG, (uintptr_t)&debug), 0);
    for (unsigned step = 1; step <= 3; step++) {
        assert_run_exits(&rig, KVM_EXIT_DEBUG);
        assert_int_equal(run_page(&rig)->debug.arch.pc, RUN_CODE + step);
    }
    debug.control = KVM_GUESTDBG_ENABLE;
    assert_int_equal(gm_soft_vcpu_ioctl(rig.vcpu, KVM_SET_GUEST_DEBUG, (uintptr_t)&debug), 0);
    assert_done(&rig, 0x40);
    assert_int_equal(rig.vcpu->x86->rip, 0x2000 + 0x40 * 8 + 2); /* the handler's OUT */
    rig_free(&rig);
}

static void halted_guest_is_woken_by_a_line(void **state)
{
    /* And sti; hlt misses none that was there before. */
    struct rig rig = chips_new();
    struct program program = {0};
    struct actor actor;

    (void)state;
    emit_pics(&program);
    EMIT(&program, 0xb0, 1, 0xe6, DONE_PORT);     /* tell */
    EMIT(&program, 0xfb, 0xf4, 0xfa, 0xfb, 0xf4); /* sti; hlt; cli; sti; hlt */
    set_handler_of(&rig, 0x23);
    set_handler_of(&rig, 0x24);
    start(&rig, &program);
    assert_done(&rig, 1);
    actor_start(&actor, &rig, raise_line);
    assert_done(&rig, 0x23);
    actor_join(&actor);
    rig_free(&rig);

    rig = chips_new();
    set_handler_of(&rig, 0x23);
    start(&rig, &program);
    assert_done(&rig, 1);
    assert_int_equal(set_line(&rig, 3, 1), 0);
    assert_done(&rig, 0x23);
    rig_free(&rig);
}

static void halted_guest_is_woken_by_its_timer(void **state)
{
    struct rig rig = chips_new();
    struct program program = {0};

    (void)state;
    emit_apic(&program);
    emit_store(&program, 0xfee003e0, 0xb);     /* by 1 */
    emit_store(&program, 0xfee00320, 0x41);    /* one shot */
    emit_store(&program, 0xfee00380, 2000000); /* 2 ms */
    EMIT(&program, 0xfb, 0xf4);
    set_handler_of(&rig, 0x41);
    start(&rig, &program);
    assert_done(&rig, 0x41);
    rig_free(&rig);
}

static void timer_interrupts_a_spinning_guest(void **state)
{
    struct rig rig = chips_new();
    struct program program = {0};

    (void)state;
    emit_apic(&program);
    emit_store(&program, 0xfee003e0, 0xb);
    emit_store(&program, 0xfee00320, 0x41);
    emit_store(&program, 0xfee00380, 2000000);
    EMIT(&program, 0xfb, 0xeb, 0xfe);
    set_handler_of(&rig, 0x41);
    start(&rig, &program);
    assert_done(&rig, 0x41);
    rig_free(&rig);
}

static void tsc_deadline_is_the_guests_clock(void **state)
{
    /* A deadline a millisecond from now by RDTSC; the register reads 0 when it has passed. */
    struct rig rig = chips_new();
    struct program program = {0};
    struct actor actor;

    (void)state;
    emit_apic(&program);
    emit_store(&program, 0xfee00320, 0x40042);
    EMIT(&program, 0x0f, 0x31);                               /* rdtsc */
    EMIT(&program, 0x66, 0x05, 0x40, 0x42, 0x0f, 0x00);       /* add eax,1000000 */
    EMIT(&program, 0x66, 0x83, 0xd2, 0x00);                   /* adc edx,0 */
    EMIT(&program, 0x66, 0xb9, 0xe0, 0x06, 0x00, 0x00);       /* mov ecx,0x6e0 */
    EMIT(&program, 0x0f, 0x30, 0xfb, 0xf4);                   /* wrmsr; sti; hlt */
    EMIT(&program, 0x0f, 0x32, 0x66, 0x09, 0xd0, 0xfa, 0xf4); /* rdmsr; or eax,edx; cli; hlt */
    set_handler_of(&rig, 0x42);
    start(&rig, &program);
    assert_done(&rig, 0x42);
    actor_start(&actor, &rig, kick);
    assert_int_equal(run(&rig), -EINTR);
    actor_join(&actor);
    assert_int_equal(rig.vcpu->x86->gpr[X86_RAX], 0);
    rig_free(&rig);
}

static void pit_ticks_through_the_pics(void **state)
{
    struct rig rig = chips_new();
    struct program program = {0};

    (void)state;
    emit_pics(&program);
    emit_out(&program, 0x21, 0x00);
    emit_out(&program, 0x43, 0x34); /* counter 0, rate generator */
    emit_out(&program, 0x40, 0xa9); /* 1193: about 1 ms */
    emit_out(&program, 0x40, 0x04);
    EMIT(&program, 0xfb, 0xf4, 0xeb, 0xfd); /* l: hlt; jmp l */
    set_handler_of(&rig, 0x20);
    start(&rig, &program);
    assert_done(&rig, 0x20);
    rig_free(&rig);
}

static atomic_int handled;

static void on_signal(int number)
{
    (void)number;
    atomic_fetch_add(&handled, 1);
}

static void send_signals(struct actor *actor)
{
    pthread_kill(actor->target, SIGUSR2); /* ignored */
    pthread_kill(actor->target, SIGCHLD); /* by default */
    wait_asleep(actor->rig->vcpu);
    pthread_kill(actor->target, SIGUSR1);
}

static void halted_guest_is_left_for_a_signal(void **state)
{
    struct sigaction action = {.sa_handler = on_signal};
    struct rig rig = chips_new();
    struct actor actor;

    (void)state;
    sigaction(SIGUSR1, &action, NULL);
    action.sa_handler = SIG_IGN;
    sigaction(SIGUSR2, &action, NULL);
    atomic_store(&handled, 0);
    RUN_LOAD(&rig, "\xf4");
    actor_start(&actor, &rig, send_signals);
    assert_int_equal(run(&rig), -EINTR);
    assert_int_equal(run_page(&rig)->exit_reason, KVM_EXIT_INTR);
    actor_join(&actor);
    assert_int_equal(handled, 1);
    assert_int_equal(rig.vcpu->x86->mp_state, X86_HALTED);
    assert_int_equal(rig.vcpu->x86->rip, RUN_CODE + 1);
    rig_free(&rig);
}

static void halted_guest_is_left_for_a_kick(void **state)
{
    struct rig rig = chips_new();
    struct actor actor;

    (void)state;
    RUN_LOAD(&rig, "\xf4");
    for (unsigned i = 0; i < 200; i++) {
        actor_start(&actor, &rig, kick);
        assert_int_equal(run(&rig), -EINTR);
        actor_join(&actor);
    }
    rig_free(&rig);
}

static void send_nmi(struct actor *actor)
{
    const struct kvm_msi msi = {.address_lo = 0xfee00000, .data = 0x400};

    assert_int_equal(rig_call(actor->rig, KVM_SIGNAL_MSI, &msi), 1);
}

static void halted_guest_is_woken_by_an_nmi(void **state)
{
    /* With interrupts off. */
    struct rig rig = chips_new();
    struct actor actor;

    (void)state;
    RUN_LOAD(&rig, "\xfa\xf4");
    set_handler_of(&rig, 2);
    actor_start(&actor, &rig, send_nmi);
    assert_done(&rig, 2);
    actor_join(&actor);
    rig_free(&rig);
}

static void cr8_is_the_apics(void **state)
{
    /* 64-bit code: an interrupt waits while CR8 keeps it back, and comes as CR8 falls. */
    static const uint8_t code[] = {
        0xb8, 0x0f, 0,    0,    0,               /* mov eax,15 */
        0x44, 0x0f, 0x22, 0xc0,                  /* mov cr8,rax */
        0xfb, 0xb0, 1,    0xe6, DONE_PORT,       /* sti; tell */
        0x44, 0x0f, 0x20, 0xc3,                  /* mov rbx,cr8 */
        0xff, 0xc1,                              /* inc ecx */
        0x31, 0xc0, 0x44, 0x0f, 0x22,      0xc0, /* xor eax,eax; mov cr8,rax */
        0xeb, 0xfe,
    };
    static const uint8_t handler[] = {0xb0, 0x55, 0xe6, DONE_PORT, 0xf4};
    const struct kvm_msi msi = {.address_lo = 0xfee00000, .data = 0x55};
    struct kvm_lapic_state lapic;
    uint32_t svr = 0x1ff;
    struct rig rig = chips_new();
    struct x86_vcpu *cpu = rig.vcpu->x86;

    (void)state;
    *rig_word(&rig, 0x4000) = 0x5007;
    *rig_word(&rig, 0x5000) = 0x6007;
    *rig_word(&rig, 0x6000) = 0x87;
    *rig_word(&rig, 0x7008) = UINT64_C(0x00af9b000000ffff);
    *rig_word(&rig, 0x2000 + 0x550) = 0x8e0000083800; /* interrupt gate: 8:3800 */
    memcpy(rig.memory + 0x3800, handler, sizeof(handler));
    run_load(&rig, rig.vcpu, code, sizeof(code));
    cpu->segment[X86_CS].l = 1;
    cpu->segment[X86_CS].g = 1;
    cpu->segment[X86_CS].type = 11;
    cpu->segment[X86_CS].selector = 8;
    cpu->cr0 = 0x80000031;
    cpu->cr3 = 0x4000;
    cpu->cr4 = 0x20;
    cpu->msr.efer = 0x500;
    cpu->gdt = (struct x86_table){0x7000, 0xff};
    cpu->idt = (struct x86_table){0x2000, 0xfff};
    x86_state_changed(cpu);
    assert_int_equal(gm_soft_vcpu_ioctl(rig.vcpu, KVM_GET_LAPIC, (uintptr_t)&lapic), 0);
    memcpy(lapic.regs + 0xf0, &svr, 4);
    assert_int_equal(gm_soft_vcpu_ioctl(rig.vcpu, KVM_SET_LAPIC, (uintptr_t)&lapic), 0);
    assert_done(&rig, 1);
    assert_int_equal(run_page(&rig)->cr8, 15);
    assert_int_equal(rig_call(&rig, KVM_SIGNAL_MSI, &msi), 1);
    assert_done(&rig, 0x55);
    assert_int_equal(cpu->gpr[X86_RBX], 15);
    assert_int_equal(cpu->gpr[X86_RCX], 1);
    assert_int_equal(run_page(&rig)->cr8, 0);
    rig_free(&rig);
}

static void vcpus_go_while_chips_have_something_for_them(void **state)
{
    /* Timers run, lines are up, interrupts pending: they end with the vCPU. */
    struct rig rig = chips_new();
    struct program program = {0};

    (void)state;
    emit_apic(&program);
    emit_store(&program, 0xfee003e0, 0xb);
    emit_store(&program, 0xfee00320, 0x20041); /* periodic */
    emit_store(&program, 0xfee00380, 1000);
    EMIT(&program, 0xb0, 1, 0xe6, DONE_PORT);
    start(&rig, &program);
    assert_done(&rig, 1);
    gm_soft_vcpu_free(rig.vcpu);
    assert_int_equal(set_line(&rig, 3, 1), 0);
    rig.vcpu = NULL;
    rig_add_vcpu(&rig);
    assert_int_equal(set_line(&rig, 3, 0), 0);
    rig_free(&rig);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(chips_come_before_vcpus_and_once),
        cmocka_unit_test(bad_addresses_are_efault),
        cmocka_unit_test(state_is_given_and_taken),
        cmocka_unit_test(requests_that_chips_change),
        cmocka_unit_test(user_wakes_a_halted_guest_by_its_state),
        cmocka_unit_test(routes_are_checked_and_followed),
        cmocka_unit_test(line_interrupts_a_running_guest),
        cmocka_unit_test(interrupt_waits_for_its_window),
        cmocka_unit_test(interrupt_waits_while_the_vmm_blocks_interrupts),
        cmocka_unit_test(halted_guest_is_woken_by_a_line),
        cmocka_unit_test(halted_guest_is_woken_by_its_timer),
        cmocka_unit_test(timer_interrupts_a_spinning_guest),
        cmocka_unit_test(tsc_deadline_is_the_guests_clock),
        cmocka_unit_test(pit_ticks_through_the_pics),
        cmocka_unit_test(halted_guest_is_left_for_a_signal),
        cmocka_unit_test(halted_guest_is_left_for_a_kick),
        cmocka_unit_test(halted_guest_is_woken_by_an_nmi),
        cmocka_unit_test(cr8_is_the_apics),
        cmocka_unit_test(vcpus_go_while_chips_have_something_for_them),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
