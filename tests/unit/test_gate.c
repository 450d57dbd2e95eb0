/*
 * unit/test_gate.c - the run gate, situation by situation. Nothing here waits for time to pass:
 * what must have happened before is asserted afterwards. The races are in race/test_gate_race.c.
 */
#include "base/check.h"
#include "base/gate.h"

#include <setjmp.h>
#include <stdarg.h>
#include <sched.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

/*
 * A vCPU whose guest runs until it is kicked. Threads use GM_ASSERT: cmocka's are for its own
 * thread.
 */
struct vcpu {
    struct gate *gate;
    struct gate_vcpu at_gate;
    atomic_int kicks;
    int deaf_kicks; /* so many kicks come before the guest has really begun */
    atomic_bool is_inside;
    bool has_left; /* written inside, read by the holder */
};

static void on_kick(void *opaque)
{
    struct vcpu *vcpu = opaque;

    atomic_fetch_add(&vcpu->kicks, 1);
}

static void vcpu_init(struct vcpu *vcpu, struct gate *gate)
{
    *vcpu = (struct vcpu){.gate = gate};
    gate_add(gate, &vcpu->at_gate, on_kick, vcpu);
}

static void *run_until_kicked(void *argument)
{
    struct vcpu *vcpu = argument;

    gate_enter(vcpu->gate, &vcpu->at_gate);
    atomic_store(&vcpu->is_inside, true);
    while (atomic_load(&vcpu->kicks) <= vcpu->deaf_kicks) {
    }
    vcpu->has_left = true;
    gate_leave(vcpu->gate, &vcpu->at_gate);
    return NULL;
}

static pthread_t start_inside(struct vcpu *vcpu)
{
    pthread_t thread;

    assert_int_equal(pthread_create(&thread, NULL, run_until_kicked, vcpu), 0);
    while (!atomic_load(&vcpu->is_inside)) {
    }
    return thread;
}

static void gate_without_vcpus_holds_at_once(void **state)
{
    /* Nobody to wait for: hold and release, again and again. */
    struct gate gate;

    (void)state;
    assert_int_equal(gate_init(&gate), 0);
    for (int i = 0; i < 3; i++) {
        gate_hold(&gate);
        gate_release(&gate);
    }
    gate_fini(&gate);
}

static void gate_vcpu_outside_is_not_kicked(void **state)
{
    /* A vCPU in its exit's callback does not hinder a hold, not even one of its own thread. */
    struct gate gate;
    struct vcpu vcpu;

    (void)state;
    assert_int_equal(gate_init(&gate), 0);
    vcpu_init(&vcpu, &gate);
    gate_enter(&gate, &vcpu.at_gate);
    gate_leave(&gate, &vcpu.at_gate);
    gate_hold(&gate);
    gate_release(&gate);
    assert_int_equal(atomic_load(&vcpu.kicks), 0);
    gate_enter(&gate, &vcpu.at_gate);
    gate_leave(&gate, &vcpu.at_gate);
    gate_remove(&gate, &vcpu.at_gate);
    gate_fini(&gate);
}

static void gate_hold_kicks_and_waits(void **state)
{
    /* Two vCPUs in guest mode: when hold returns, both have been kicked and have left. */
    struct gate gate;
    struct vcpu vcpus[2];
    pthread_t threads[2];

    (void)state;
    assert_int_equal(gate_init(&gate), 0);
    for (int i = 0; i < 2; i++) {
        vcpu_init(&vcpus[i], &gate);
        threads[i] = start_inside(&vcpus[i]);
    }
    gate_hold(&gate);
    for (int i = 0; i < 2; i++) {
        assert_true(atomic_load(&vcpus[i].kicks) >= 1);
        assert_true(vcpus[i].has_left);
    }
    gate_release(&gate);
    for (int i = 0; i < 2; i++) {
        pthread_join(threads[i], NULL);
        gate_remove(&gate, &vcpus[i].at_gate);
    }
    gate_fini(&gate);
}

static void gate_missed_kick_comes_again(void **state)
{
    /* The first three kicks are lost, as when they come before the guest has begun. */
    struct gate gate;
    struct vcpu vcpu;
    pthread_t thread;

    (void)state;
    assert_int_equal(gate_init(&gate), 0);
    vcpu_init(&vcpu, &gate);
    vcpu.deaf_kicks = 3;
    thread = start_inside(&vcpu);
    gate_hold(&gate);
    assert_true(atomic_load(&vcpu.kicks) >= 4);
    assert_true(vcpu.has_left);
    gate_release(&gate);
    pthread_join(thread, NULL);
    gate_remove(&gate, &vcpu.at_gate);
    gate_fini(&gate);
}

struct latecomer {
    struct vcpu *vcpu;
    bool was_released; /* written before the release, read inside */
};

static void *enter_late(void *argument)
{
    struct latecomer *late = argument;

    gate_enter(late->vcpu->gate, &late->vcpu->at_gate);
    GM_ASSERT(late->was_released);
    gate_leave(late->vcpu->gate, &late->vcpu->at_gate);
    return NULL;
}

static void gate_held_lets_nobody_in(void **state)
{
    /* Who comes while the gate is held is inside only after the release, whenever it came. */
    (void)state;
    for (int i = 0; i < 200; i++) {
        struct gate gate;
        struct vcpu vcpu;
        struct latecomer late = {.vcpu = &vcpu};
        pthread_t thread;

        assert_int_equal(gate_init(&gate), 0);
        vcpu_init(&vcpu, &gate);
        gate_hold(&gate);
        assert_int_equal(pthread_create(&thread, NULL, enter_late, &late), 0);
        if (i % 2 != 0) {
            sched_yield();
        }
        late.was_released = true;
        gate_release(&gate);
        pthread_join(thread, NULL);
        gate_remove(&gate, &vcpu.at_gate);
        gate_fini(&gate);
    }
}

static unsigned count_waiting(struct gate *gate)
{
    unsigned waiting;

    lock_take(&gate->lock);
    waiting = gate->waiting;
    lock_drop(&gate->lock);
    return waiting;
}

static void gate_held_again_and_again_lets_waiters_in(void **state)
{
    /* However fast a holder comes back, who waits has been inside after GATE_PASSES_MAX holds more. */
    (void)state;
    for (int i = 0; i < 20; i++) {
        struct gate gate;
        struct vcpu vcpu;
        pthread_t thread;

        assert_int_equal(gate_init(&gate), 0);
        vcpu_init(&vcpu, &gate);
        gate_hold(&gate);
        assert_int_equal(pthread_create(&thread, NULL, run_until_kicked, &vcpu), 0);
        while (count_waiting(&gate) == 0) {
            sched_yield();
        }
        for (unsigned hold = 0; hold <= GATE_PASSES_MAX; hold++) {
            gate_release(&gate);
            gate_hold(&gate);
        }
        assert_true(vcpu.has_left);
        gate_release(&gate);
        pthread_join(thread, NULL);
        gate_remove(&gate, &vcpu.at_gate);
        gate_fini(&gate);
    }
}

static void gate_removed_vcpu_is_not_kicked(void **state)
{
    /* From the middle, the end and the head of the list; the one that stays is still kicked. */
    struct gate gate;
    struct vcpu vcpus[4];
    pthread_t thread;

    (void)state;
    assert_int_equal(gate_init(&gate), 0);
    for (int i = 0; i < 4; i++) {
        vcpu_init(&vcpus[i], &gate);
    }
    gate_remove(&gate, &vcpus[1].at_gate);
    gate_remove(&gate, &vcpus[0].at_gate);
    gate_remove(&gate, &vcpus[3].at_gate);
    thread = start_inside(&vcpus[2]);
    gate_hold(&gate);
    gate_release(&gate);
    pthread_join(thread, NULL);
    assert_true(vcpus[2].has_left);
    assert_int_equal(atomic_load(&vcpus[0].kicks) + atomic_load(&vcpus[1].kicks) +
                         atomic_load(&vcpus[3].kicks),
                     0);
    gate_remove(&gate, &vcpus[2].at_gate);
    gate_fini(&gate);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(gate_without_vcpus_holds_at_once),
        cmocka_unit_test(gate_vcpu_outside_is_not_kicked),
        cmocka_unit_test(gate_hold_kicks_and_waits),
        cmocka_unit_test(gate_missed_kick_comes_again),
        cmocka_unit_test(gate_held_lets_nobody_in),
        cmocka_unit_test(gate_held_again_and_again_lets_waiters_in),
        cmocka_unit_test(gate_removed_vcpu_is_not_kicked),
    };

    return cmocka_run_group_tests_name("gate", tests, NULL, NULL);
}
