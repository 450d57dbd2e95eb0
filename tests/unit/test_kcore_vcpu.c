/*
 * unit/test_kcore_vcpu.c - vCPUs: ids, requests, and being held out of guest mode. Nothing here waits for
 * time to pass.
 */
#include "unit/arch.h"
#include "model/require.h"

#include <sched.h>

#define MIB UINT64_C(0x100000)
#define HVA UINT64_C(0x7f0000000000)

/* A vCPU whose guest looks at its requests at each instruction, and at which slots it sees. */
struct runner {
    struct kcore_vcpu vcpu;
    uint32_t requests;
    struct arch *arch;
    atomic_ullong instructions;
    atomic_bool is_over;
    pthread_t thread;
};

static void vcpu_ids_are_each_once(void **state)
{
    /* 0 to 4095. */
    struct arch *arch = arch_open();
    struct kcore_vcpu vcpus[3];
    uint32_t requests = 0;

    (void)state;
    assert_int_equal(kcore_vcpu_init(&vcpus[0], &arch->core, 4096, &requests), -EINVAL);
    assert_int_equal(arch->core.vcpu_count, 0);
    assert_int_equal(kcore_vcpu_init(&vcpus[0], &arch->core, 4095, &requests), 0);
    assert_int_equal(kcore_vcpu_init(&vcpus[1], &arch->core, 0, &requests), 0);
    assert_int_equal(kcore_vcpu_init(&vcpus[2], &arch->core, 0, &requests), -EEXIST);
    kcore_vcpu_fini(&vcpus[1]);
    assert_int_equal(kcore_vcpu_init(&vcpus[2], &arch->core, 0, &requests), 0);
    assert_int_equal(arch->core.vcpu_count, 3);
    kcore_vcpu_fini(&vcpus[0]);
    kcore_vcpu_fini(&vcpus[2]);
    assert_null(arch->core.vcpus);
    arch_close(arch);
}

static void vcpu_enter_clears_leave_and_nothing_else(void **state)
{
    /* A kick, and bits that others have put there, are for others to see. */
    struct arch *arch = arch_open();
    struct kcore_vcpu vcpu;
    uint32_t requests = 0;

    (void)state;
    assert_int_equal(kcore_vcpu_init(&vcpu, &arch->core, 0, &requests), 0);
    kcore_vcpu_request(&vcpu, KCORE_REQUEST_LEAVE);
    kcore_vcpu_request(&vcpu, KCORE_REQUEST_KICK);
    kcore_vcpu_request(&vcpu, 1u << 31);
    kcore_vcpu_enter(&vcpu);
    assert_int_equal(requests, KCORE_REQUEST_KICK | 1u << 31);
    assert_true(vcpu.in_guest);
    kcore_vcpu_leave(&vcpu);
    assert_false(vcpu.in_guest);
    kcore_vcpu_fini(&vcpu);
    arch_close(arch);
}

static void vcpu_hold_nests_and_adds_up(void **state)
{
    /* The gate opens with the last release; the statistic counts the times that it closed. */
    struct arch *arch = arch_open();

    (void)state;
    kcore_hold(&arch->core);
    kcore_hold(&arch->core);
    assert_true(atomic_load(&arch->core.gate.held));
    kcore_release(&arch->core);
    assert_true(atomic_load(&arch->core.gate.held));
    kcore_release(&arch->core);
    assert_false(atomic_load(&arch->core.gate.held));
    assert_int_equal(atomic_load(&arch->core.holds), 1);
    arch_close(arch);
}

static void vcpu_outside_does_not_hinder_a_change(void **state)
{
    /* In its exit's callback a vCPU may change slots itself, and is asked nothing. */
    struct arch *arch = arch_open();
    struct kcore_vcpu vcpu;
    uint32_t requests = 0;

    (void)state;
    assert_int_equal(kcore_vcpu_init(&vcpu, &arch->core, 0, &requests), 0);
    kcore_vcpu_enter(&vcpu);
    kcore_vcpu_leave(&vcpu);
    assert_int_equal(arch_set(arch, 1, 0, 0, MIB, HVA), 0);
    assert_int_equal(requests, 0);
    kcore_vcpu_fini(&vcpu);
    arch_close(arch);
}

/*
 * The guest: each instruction looks twice whether slots 1 and 2 are where they were together: one list
 * always moves both. Between the two looks nothing may have changed. Assertions of cmocka's are for
 * its own thread.
 */
static void run_instruction(struct runner *runner)
{
    struct arch *arch = runner->arch;
    const struct memslots *slots = kcore_slots(&arch->core, 0);
    const struct memslot *at_zero = memslots_find(slots, (struct gfn){0});
    const struct memslot *at_two = memslots_find(slots, (struct gfn){0x200});

    REQUIRE_TRUE(at_zero != NULL && at_two != NULL);
    REQUIRE_TRUE((at_zero->flags & MEMSLOT_INVALID) == 0 && (at_two->flags & MEMSLOT_INVALID) == 0);
    REQUIRE_TRUE(at_zero->id + at_two->id == 3);
    REQUIRE_TRUE(kcore_slots(&arch->core, 0) == slots);
    atomic_fetch_add(&runner->instructions, 1);
}

static void *run_guest(void *opaque)
{
    struct runner *runner = opaque;

    while (!atomic_load(&runner->is_over)) {
        kcore_vcpu_enter(&runner->vcpu);
        while (__atomic_load_n(&runner->requests, __ATOMIC_RELAXED) == 0) {
            run_instruction(runner);
        }
        kcore_vcpu_leave(&runner->vcpu);
        __atomic_fetch_and(&runner->requests, ~(uint32_t)KCORE_REQUEST_KICK, __ATOMIC_ACQ_REL);
    }
    return NULL;
}

static void start_runners(struct arch *arch, struct runner runners[2])
{
    for (unsigned i = 0; i < 2; i++) {
        runners[i] = (struct runner){.arch = arch};
        assert_int_equal(kcore_vcpu_init(&runners[i].vcpu, &arch->core, i, &runners[i].requests),
                         0);
        assert_int_equal(pthread_create(&runners[i].thread, NULL, run_guest, &runners[i]), 0);
    }
    for (unsigned i = 0; i < 2; i++) {
        while (atomic_load(&runners[i].instructions) == 0) {
            sched_yield();
        }
    }
}

static void stop_runners(struct runner runners[2])
{
    for (unsigned i = 0; i < 2; i++) {
        atomic_store(&runners[i].is_over, true);
        kcore_vcpu_request(&runners[i].vcpu, KCORE_REQUEST_KICK);
        pthread_join(runners[i].thread, NULL);
        kcore_vcpu_fini(&runners[i].vcpu);
    }
}

static void vcpus_see_lists_as_one_step_between_instructions(void **state)
{
    /* Two vCPUs run while two slots change places 300 times. */
    struct arch *arch = arch_open();
    struct runner runners[2];

    (void)state;
    arch->is_silent = true;
    assert_int_equal(arch_set(arch, 1, 0, 0, MIB, HVA), 0);
    assert_int_equal(arch_set(arch, 2, 0, 2 * MIB, MIB, HVA), 0);
    start_runners(arch, runners);
    for (unsigned i = 0; i < 300; i++) {
        uint64_t there = i % 2 == 0 ? 2 * MIB : 0;
        const struct memslot_change list[] = {
            {.slot = 1, .gpa = 16 * MIB, .size_bytes = MIB, .hva = HVA},
            {.slot = 2, .gpa = 2 * MIB - there, .size_bytes = MIB, .hva = HVA},
            {.slot = 1, .gpa = there, .size_bytes = MIB, .hva = HVA},
        };

        assert_int_equal(kcore_apply(&arch->core, list, 3, NULL), 0);
    }
    stop_runners(runners);
    arch_close(arch);
}

static void vcpus_held_by_several_threads_wait_for_all(void **state)
{
    /* While this thread holds, nobody runs an instruction, whatever other holds come and go. */
    struct arch *arch = arch_open();
    struct runner runners[2];

    (void)state;
    arch->is_silent = true;
    assert_int_equal(arch_set(arch, 1, 0, 0, MIB, HVA), 0);
    assert_int_equal(arch_set(arch, 2, 0, 2 * MIB, MIB, HVA), 0);
    start_runners(arch, runners);
    for (unsigned i = 0; i < 100; i++) {
        unsigned long long before[2];

        kcore_hold(&arch->core);
        before[0] = atomic_load(&runners[0].instructions);
        before[1] = atomic_load(&runners[1].instructions);
        kcore_hold(&arch->core);
        kcore_release(&arch->core);
        sched_yield();
        assert_int_equal(atomic_load(&runners[0].instructions), before[0]);
        assert_int_equal(atomic_load(&runners[1].instructions), before[1]);
        kcore_release(&arch->core);
    }
    stop_runners(runners);
    arch_close(arch);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(vcpu_ids_are_each_once),
        cmocka_unit_test(vcpu_enter_clears_leave_and_nothing_else),
        cmocka_unit_test(vcpu_hold_nests_and_adds_up),
        cmocka_unit_test(vcpu_outside_does_not_hinder_a_change),
        cmocka_unit_test(vcpus_see_lists_as_one_step_between_instructions),
        cmocka_unit_test(vcpus_held_by_several_threads_wait_for_all),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
