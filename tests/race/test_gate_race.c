/*
 * race/test_gate_race.c - vCPUs that go in and out of guest mode while a holder holds the gate.
 * What they share is not atomic: ThreadSanitizer finds it if the gate orders less than it promises.
 */
#include "base/check.h"
#include "base/gate.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#define VCPUS 3
#define HOLDS 2000
#define RUNS 3000
#define LITMUS_HOLDS 40000

struct machine {
    struct gate gate;
    uint64_t slots;            /* written by the holder, read in guest mode */
    uint64_t dirtied[VCPUS];   /* written in guest mode, read by the holder */
    atomic_uint_fast64_t runs; /* all vCPUs': relaxed, only to see that they run */
    atomic_bool is_over;
};

struct vcpu {
    struct machine *machine;
    unsigned index;
    struct gate_vcpu at_gate;
    atomic_bool kicked;
};

static void on_kick(void *opaque)
{
    struct vcpu *vcpu = opaque;

    atomic_store(&vcpu->kicked, true);
}

/* One KVM_RUN: short, or until it is kicked; leaves when the test ends. */
static void run_guest(struct vcpu *vcpu, uint64_t turn)
{
    struct machine *machine = vcpu->machine;

    GM_ASSERT(machine->slots % 2 == 0);
    machine->dirtied[vcpu->index]++;
    if (turn % 4 == 0) {
        while (!atomic_load(&vcpu->kicked) && !atomic_load(&machine->is_over)) {
        }
    }
    GM_ASSERT(machine->slots % 2 == 0);
    atomic_store(&vcpu->kicked, false);
}

static void *vcpu_thread(void *argument)
{
    struct vcpu *vcpu = argument;
    struct machine *machine = vcpu->machine;

    gate_add(&machine->gate, &vcpu->at_gate, on_kick, vcpu);
    for (uint64_t turn = 0; !atomic_load(&machine->is_over); turn++) {
        if (turn % 64 == 63) { /* hot-plug: go and come again */
            gate_remove(&machine->gate, &vcpu->at_gate);
            gate_add(&machine->gate, &vcpu->at_gate, on_kick, vcpu);
        }
        gate_enter(&machine->gate, &vcpu->at_gate);
        run_guest(vcpu, turn);
        gate_leave(&machine->gate, &vcpu->at_gate);
        atomic_fetch_add_explicit(&machine->runs, 1, memory_order_relaxed);
    }
    gate_remove(&machine->gate, &vcpu->at_gate);
    return NULL;
}

static void gate_holds_and_runs_exclude_each_other(void **state)
{
    /* Slots are odd only while they are being changed: no guest ever sees that. */
    static struct machine machine;
    static struct vcpu vcpus[VCPUS];
    pthread_t threads[VCPUS];
    uint64_t seen[VCPUS] = {0};

    (void)state;
    assert_int_equal(gate_init(&machine.gate), 0);
    for (unsigned i = 0; i < VCPUS; i++) {
        vcpus[i] = (struct vcpu){.machine = &machine, .index = i};
        assert_int_equal(pthread_create(&threads[i], NULL, vcpu_thread, &vcpus[i]), 0);
    }
    /* Enough of both, however the threads are scheduled. */
    for (unsigned hold = 0; hold < HOLDS || atomic_load(&machine.runs) < RUNS; hold++) {
        gate_hold(&machine.gate);
        machine.slots++;
        for (unsigned i = 0; i < VCPUS; i++) {
            assert_true(machine.dirtied[i] >= seen[i]);
            seen[i] = machine.dirtied[i];
        }
        machine.slots++;
        gate_release(&machine.gate);
    }
    atomic_store(&machine.is_over, true);
    for (unsigned i = 0; i < VCPUS; i++) {
        pthread_join(threads[i], NULL);
    }
    gate_fini(&machine.gate);
}

/*
 * The handshake by itself: row 4 of gate.h's table. The window is a store that is still on its way
 * when the load after it has been done, so it takes many short runs, and holds that last long
 * enough to be seen.
 */
struct litmus {
    struct gate gate;
    struct gate_vcpu at_gate;
    atomic_bool is_held; /* relaxed: the gate alone must keep the guest from seeing it set */
    atomic_bool is_over;
};

static void no_kick(void *opaque)
{
    (void)opaque;
}

static void *litmus_thread(void *argument)
{
    struct litmus *litmus = argument;

    while (!atomic_load_explicit(&litmus->is_over, memory_order_relaxed)) {
        gate_enter(&litmus->gate, &litmus->at_gate);
        for (int i = 0; i < 50; i++) {
            GM_ASSERT(!atomic_load_explicit(&litmus->is_held, memory_order_relaxed));
        }
        gate_leave(&litmus->gate, &litmus->at_gate);
    }
    return NULL;
}

static void gate_entering_late_never_meets_a_hold(void **state)
{
    /* A guest that runs for some nanoseconds at a time is never inside while the gate is held. */
    static struct litmus litmus;
    pthread_t thread;

    (void)state;
    assert_int_equal(gate_init(&litmus.gate), 0);
    gate_add(&litmus.gate, &litmus.at_gate, no_kick, NULL);
    assert_int_equal(pthread_create(&thread, NULL, litmus_thread, &litmus), 0);
    for (int hold = 0; hold < LITMUS_HOLDS; hold++) {
        gate_hold(&litmus.gate);
        atomic_store_explicit(&litmus.is_held, true, memory_order_relaxed);
        for (int i = 0; i < 200; i++) {
            atomic_signal_fence(memory_order_seq_cst); /* time passes */
        }
        atomic_store_explicit(&litmus.is_held, false, memory_order_relaxed);
        gate_release(&litmus.gate);
        for (volatile int i = hold % 300; i > 0; i--) {
        }
    }
    atomic_store(&litmus.is_over, true);
    pthread_join(thread, NULL);
    gate_remove(&litmus.gate, &litmus.at_gate);
    gate_fini(&litmus.gate);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(gate_entering_late_never_meets_a_hold),
        cmocka_unit_test(gate_holds_and_runs_exclude_each_other),
    };

    return cmocka_run_group_tests_name("gate_race", tests, NULL, NULL);
}
