/*
 * unit/test_soft_vcpu_ap.c - several processors of the software KVM: waiting to be started, INIT and SIPI, interrupts from one to
 * another. Source: Intel SDM 3A, 9.4 "Multiple-Processor (MP) Initialization".
 */
#include "chips_rig.h"

#define AP_CODE 0x9000
#define COUNTER 0x3000

struct second {
    struct gm_soft_vcpu *vcpu;
    pthread_t thread;
    long rc;
    unsigned again; /* times that KVM_RUN said -EAGAIN */
};

static void *run_second(void *opaque)
{
    struct second *second = opaque;

    do {
        second->rc = gm_soft_vcpu_ioctl(second->vcpu, KVM_RUN, 0);
        second->again += second->rc == -EAGAIN;
    } while (second->rc == -EAGAIN);
    return NULL;
}

static void second_start(struct second *second, struct rig *rig, unsigned id)
{
    *second = (struct second){0};
    assert_int_equal(gm_soft_vcpu_new(rig->soft, id, &second->vcpu), 0);
    assert_int_equal(second->vcpu->x86->mp_state, X86_UNINITIALIZED);
    assert_int_equal(pthread_create(&second->thread, NULL, run_second, second), 0);
}

static void second_join(struct second *second)
{
    assert_int_equal(pthread_join(second->thread, NULL), 0);
}

static void processor_that_nobody_starts_waits(void **state)
{
    /* A kick and immediate_exit end it. SIPI without INIT is for nobody. */
    const struct kvm_msi sipi = {.address_lo = 0xfee01000, .data = 0x609};
    struct rig rig = chips_new();
    struct second second;

    (void)state;
    second_start(&second, &rig, 1);
    wait_asleep(second.vcpu);
    assert_true(rig_call(&rig, KVM_SIGNAL_MSI, &sipi) >= 0);
    gm_mmu_kick(gm_soft_vcpu_mmu(second.vcpu));
    second_join(&second);
    assert_int_equal(second.rc, -EINTR);
    assert_int_equal(second.vcpu->x86->mp_state, X86_UNINITIALIZED);
    gm_soft_vcpu_run_page(second.vcpu)->immediate_exit = 1;
    assert_int_equal(gm_soft_vcpu_ioctl(second.vcpu, KVM_RUN, 0), -EINTR);
    gm_soft_vcpu_free(second.vcpu);
    rig_free(&rig);
}

static void init_and_sipi_start_a_processor(void **state)
{
    /* As firmware does it: by the ICR. The other runs its page's code, tells, and sends an IPI back. */
    struct rig rig = chips_new();
    struct program program = {0};
    struct program other = {0};
    struct second second;

    (void)state;
    emit_apic(&program);
    emit_store(&program, 0xfee00310, 1u << 24);
    emit_store(&program, 0xfee00300, 0x4500);                 /* INIT, assert */
    emit_store(&program, 0xfee00300, 0x4600 | AP_CODE >> 12); /* SIPI */
    EMIT(&program, 0xfb, 0xf4);
    EMIT(&other, 0x2e, 0xc6, 0x06, 0x00, 0x0f, 0x77); /* mov byte cs:[0xf00],0x77 */
    EMIT(&other, 0xb0, 7, 0xe6, DONE_PORT);
    memcpy(rig.memory + AP_CODE, other.bytes, other.count);
    set_handler_of(&rig, 0x61);
    start(&rig, &program);
    second_start(&second, &rig, 1);
    wait_asleep(second.vcpu);
    {
        const struct kvm_msi ipi = {.address_lo = 0xfee00000, .data = 0x61};
        struct actor actor;

        actor_start(&actor, &rig, kick);
        assert_int_equal(run(&rig), -EINTR);
        actor_join(&actor);
        second_join(&second);
        assert_int_equal(second.rc, 0);
        assert_in_range(second.again, 1, 2);
        assert_int_equal(gm_soft_vcpu_run_page(second.vcpu)->exit_reason, KVM_EXIT_IO);
        assert_int_equal(rig.memory[AP_CODE + 0xf00], 0x77);
        assert_int_equal(second.vcpu->x86->segment[X86_CS].selector, AP_CODE >> 4);
        assert_int_equal(rig_call(&rig, KVM_SIGNAL_MSI, &ipi), 1);
    }
    assert_done(&rig, 0x61);
    gm_soft_vcpu_free(second.vcpu);
    rig_free(&rig);
}

static void init_resets_the_bootstrap_processor(void **state)
{
    /* It begins anew where RESET begins; MSRs and the local APIC's base stay. */
    const struct kvm_msi init = {.address_lo = 0xfee00000, .data = 0x500};
    struct rig rig = chips_new();

    (void)state;
    RUN_LOAD(&rig, "\xeb\xfe");
    rig.vcpu->x86->msr.star = 0x1234;
    rig.vcpu->x86->xmm[3].u64[0] = 99;
    assert_int_equal(rig_call(&rig, KVM_SIGNAL_MSI, &init), 1);
    assert_run_exits(&rig, KVM_EXIT_INTERNAL_ERROR); /* there is no memory at the reset vector */
    assert_int_equal(rig.vcpu->x86->segment[X86_CS].base, 0xffff0000);
    assert_int_equal(rig.vcpu->x86->rip, 0xfff0);
    assert_int_equal(rig.vcpu->x86->msr.star, 0x1234);
    assert_int_equal(rig.vcpu->x86->xmm[3].u64[0], 99);
    rig_free(&rig);
}

/* Each vCPU halts, is woken by the other's IPI, counts, and wakes the other. */
static void processors_wake_each_other(void **state)
{
    struct rig rig = chips_new();
    struct gm_soft_vcpu *other;
    struct second seconds[2];
    const unsigned rounds = 2000;

    (void)state;
    assert_int_equal(gm_soft_vcpu_new(rig.soft, 1, &other), 0);
    for (unsigned i = 0; i < 2; i++) {
        struct gm_soft_vcpu *vcpu = i == 0 ? rig.vcpu : other;
        uint16_t entry[] = {(uint16_t)(0xa000 + i * 0x100), 0};
        uint16_t counter = (uint16_t)(COUNTER + i * 8);
        struct program handler = {0};
        struct program program = {0};

        /* inc word [counter]; eoi; ICR to the other; iret */
        EMIT(&handler, 0xff, 0x06, (uint8_t)counter, (uint8_t)(counter >> 8));
        emit_store(&handler, 0xfee000b0, 0);
        emit_store(&handler, 0xfee00310, (1u - i) << 24);
        emit_store(&handler, 0xfee00300, 0x4000 | (0x51 - i));
        EMIT(&handler, 0xcf);
        memcpy(rig.memory + 0xa000 + i * 0x100, handler.bytes, handler.count);
        memcpy(rig.memory + (0x50 + i) * 4, entry, sizeof(entry));
        emit_apic(&program);
        /* l: sti; hlt; cli; cmp word [counter],rounds; jb l; out */
        EMIT(&program, 0xfb, 0xf4, 0xfa, 0x81, 0x3e, (uint8_t)counter, (uint8_t)(counter >> 8),
             rounds & 0xff, rounds >> 8, 0x72, 0xf5, 0xb0, 9, 0xe6, DONE_PORT);
        run_load(&rig, vcpu, program.bytes, program.count);
        memcpy(rig.memory + RUN_CODE + 0x200 * (i + 1), program.bytes, program.count);
        vcpu->x86->rip = RUN_CODE + 0x200 * (i + 1);
        vcpu->x86->gpr[X86_RSP] = RUN_STACK - 0x400 * i;
        vcpu->x86->mp_state = X86_RUNNABLE;
    }
    seconds[0] = (struct second){.vcpu = rig.vcpu};
    seconds[1] = (struct second){.vcpu = other};
    for (unsigned i = 0; i < 2; i++) {
        assert_int_equal(pthread_create(&seconds[i].thread, NULL, run_second, &seconds[i]), 0);
    }
    wait_asleep(rig.vcpu);
    wait_asleep(other);
    {
        const struct kvm_msi first = {.address_lo = 0xfee00000, .data = 0x50};

        assert_int_equal(rig_call(&rig, KVM_SIGNAL_MSI, &first), 1);
    }
    for (unsigned i = 0; i < 2; i++) {
        second_join(&seconds[i]);
        assert_int_equal(seconds[i].rc, 0);
        assert_int_equal(gm_soft_vcpu_run_page(seconds[i].vcpu)->exit_reason, KVM_EXIT_IO);
        /* The other's last may come before CLI. */
        assert_in_range(*rig_word(&rig, COUNTER + i * 8), rounds, rounds + 1);
    }
    gm_soft_vcpu_free(other);
    rig_free(&rig);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(processor_that_nobody_starts_waits),
        cmocka_unit_test(init_and_sipi_start_a_processor),
        cmocka_unit_test(init_resets_the_bootstrap_processor),
        cmocka_unit_test(processors_wake_each_other),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
