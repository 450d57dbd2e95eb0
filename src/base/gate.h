/*
 * base/gate.h - the run gate: keeps vCPUs out of guest mode while memory that stays visible has to
 * be unmapped for a moment. Backends own one; vCPUs are registered with it together with a kick
 * function.
 *
 * gate_hold() waits until no vCPU is in guest mode: between gate_enter() and gate_leave(). A vCPU
 * that is in the callback of its exit is not, so an edit made from there cannot wait for itself.
 *
 * Entering and leaving take no lock while the gate is open. Each side stores its own flag and then
 * loads the other's, all sequentially consistent (Dekker's handshake), so at least one sees the
 * other:
 *
 * | # | vCPU                        | holder                       | outcome                      |
 * | - | --------------------------- | ---------------------------- | ---------------------------- |
 * | 1 | in_guest = 1; held is 0     | held = 1; in_guest is 1      | It was in before: the holder |
 * |   | goes in                     | kicks, waits                 | waits for it.                |
 * | 2 | in_guest = 1; held is 1     | held = 1; in_guest is 1      | Both see: the vCPU goes      |
 * |   | steps back, signals, waits  | kicks for nothing, waits     | back, the holder is woken.   |
 * | 3 | in_guest = 1; held is 1     | held = 1; in_guest is 0      | It comes too late and waits  |
 * |   | steps back, waits           | goes on                      | for the release.             |
 * | 4 | in_guest = 1; held is 0     | held = 1; in_guest is 0      | Impossible: both loads would |
 * |   |                             |                              | precede both stores.         |
 * | 5 | in_guest = 0; held is 0     | held = 1; in_guest is 0      | It left in time: nobody has  |
 * |   |                             |                              | to be woken.                 |
 * | 6 | in_guest = 0; held is 1     | in_guest was 1; waits        | The holder looks and sleeps  |
 * |   | lock, signal, unlock        |                              | under one lock: no signal    |
 * |   |                             |                              | comes between.               |
 * | 7 | in_guest = 0; held is 0     | held = 1; in_guest is 1      | Impossible, as 4: no vCPU    |
 * |   |                             |                              | leaves without waking.       |
 * | 8 | steps back, sees held       | held = 0, wakes, both        | The vCPU looks at held again |
 * |   | lock, waits while held      | under the lock               | under the lock.              |
 *
 * tests/race/test_gate_points.c forces the rows that can be.
 *
 * Who waits for the release goes in under the lock. A holder that comes back without pause would find
 * the gate free before a waiter wakes, time and again: after GATE_PASSES_MAX holds that passed a waiter, the
 * next one lets all who wait in first.
 *
 * A kick can miss: it may come before its target has really begun to run the guest. So the holder
 * kicks again every GATE_KICK_NS until the vCPU has left.
 */
#ifndef BASE_GATE_H
#define BASE_GATE_H

#include "base/lock.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#define GATE_KICK_NS 1000000
#define GATE_PASSES_MAX 16u

/* A vCPU's place at the gate; embedded in the vCPU. */
struct gate_vcpu {
    void (*kick)(void *opaque);
    void *opaque;
    atomic_bool in_guest;
    struct gate_vcpu *next; /* under the gate's lock */
};

struct gate {
    struct lock lock;      /* protects the list, sleeping and waking; rank GATE */
    pthread_cond_t opened; /* broadcast at release */
    pthread_cond_t left;   /* signalled by a vCPU that leaves while the gate is held */
    pthread_cond_t let_in; /* signalled by the last waiter that goes in */
    atomic_bool held;      /* changes under the lock, read without it */
    unsigned waiting;      /* vCPUs that wait for the release; under the lock */
    unsigned passes;       /* holds in a row that ended with somebody waiting; under the lock */
    struct gate_vcpu *vcpus;
};

/* Return: 0, or -errno of a mutex or condition (-ENOMEM, -EAGAIN). */
int gate_init(struct gate *gate);

/* No vCPU is registered and nobody holds it. */
void gate_fini(struct gate *gate);

/*
 * Register a vCPU. @kick makes its thread leave guest mode soon. It is called with the gate's lock
 * held, from the holder's thread, maybe often and maybe when the vCPU has left already: it must
 * neither block nor call the gate.
 */
void gate_add(struct gate *gate, struct gate_vcpu *vcpu, void (*kick)(void *opaque), void *opaque);

/* Unregister. The vCPU is not in guest mode. Its kick is not called any more once this returns. */
void gate_remove(struct gate *gate, struct gate_vcpu *vcpu);

/*
 * Close the gate: kick every vCPU in guest mode until it has left. Returns when none is inside;
 * none gets in before gate_release(). What vCPUs did inside happens before the return. The caller
 * holds the map's lock, so holds do not nest, and is not itself between enter and leave.
 */
void gate_hold(struct gate *gate);
void gate_release(struct gate *gate);

/*
 * The vCPU's thread, around KVM_RUN: one store and one load while the gate is open. Enter blocks
 * while it is held; what the holder did happens before its return.
 */
void gate_enter(struct gate *gate, struct gate_vcpu *vcpu);
void gate_leave(struct gate *gate, struct gate_vcpu *vcpu);

#endif
