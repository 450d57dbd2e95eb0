/* base/gate.c - the run gate. The numbers of comments are those of the table in gate.h. */
#include "base/gate.h"

#include "base/check.h"
#include "base/point.h"

#include <errno.h>
#include <time.h>

#define NS_PER_SECOND 1000000000L

int gate_init(struct gate *gate)
{
    pthread_condattr_t monotonic;
    int rc;

    gate->vcpus = NULL;
    gate->waiting = 0;
    gate->passes = 0;
    atomic_init(&gate->held, false);
    rc = -pthread_condattr_init(&monotonic);
    if (rc != 0) {
        return rc;
    }
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    rc = lock_init(&gate->lock, LOCK_RANK_GATE);
    if (rc != 0) {
        goto out_attribute;
    }
    rc = -pthread_cond_init(&gate->opened, NULL);
    if (rc != 0) {
        goto out_lock;
    }
    rc = -pthread_cond_init(&gate->left, &monotonic);
    if (rc != 0) {
        goto out_opened;
    }
    rc = -pthread_cond_init(&gate->let_in, NULL);
    if (rc != 0) {
        goto out_left;
    }
    pthread_condattr_destroy(&monotonic);
    return 0;

out_left:
    pthread_cond_destroy(&gate->left);
out_opened:
    pthread_cond_destroy(&gate->opened);
out_lock:
    lock_fini(&gate->lock);
out_attribute:
    pthread_condattr_destroy(&monotonic);
    return rc;
}

void gate_fini(struct gate *gate)
{
    GM_ASSERT(gate->vcpus == NULL && !atomic_load(&gate->held));
    pthread_cond_destroy(&gate->let_in);
    pthread_cond_destroy(&gate->left);
    pthread_cond_destroy(&gate->opened);
    lock_fini(&gate->lock);
}

void gate_add(struct gate *gate, struct gate_vcpu *vcpu, void (*kick)(void *opaque), void *opaque)
{
    vcpu->kick = kick;
    vcpu->opaque = opaque;
    atomic_init(&vcpu->in_guest, false);
    lock_take(&gate->lock);
    vcpu->next = gate->vcpus;
    gate->vcpus = vcpu;
    lock_drop(&gate->lock);
}

void gate_remove(struct gate *gate, struct gate_vcpu *vcpu)
{
    struct gate_vcpu **link = &gate->vcpus;

    GM_ASSERT(!atomic_load(&vcpu->in_guest));
    lock_take(&gate->lock);
    while (*link != vcpu) {
        GM_ASSERT(*link != NULL);
        link = &(*link)->next;
    }
    *link = vcpu->next;
    lock_drop(&gate->lock);
}

/* Kick who is inside. Return: is anybody? Under the lock. */
static bool kick_all(struct gate *gate)
{
    bool any = false;

    for (struct gate_vcpu *vcpu = gate->vcpus; vcpu != NULL; vcpu = vcpu->next) {
        /* Sequentially consistent; pairs with the stores in gate_enter() and gate_leave(). */
        if (atomic_load(&vcpu->in_guest)) {
            vcpu->kick(vcpu->opaque);
            any = true;
        }
    }
    return any;
}

/* Sleep until a vCPU leaves or it is time to kick again. The mutex is free meanwhile. */
static void wait_for_leave(struct gate *gate)
{
    struct timespec until;

    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_nsec += GATE_KICK_NS;
    if (until.tv_nsec >= NS_PER_SECOND) {
        until.tv_nsec -= NS_PER_SECOND;
        until.tv_sec++;
    }
    pthread_cond_timedwait(&gate->left, &gate->lock.mutex, &until);
}

/* Those who were passed over too often go in before the gate is closed again. Under the lock. */
static void let_waiters_in(struct gate *gate)
{
    if (gate->passes < GATE_PASSES_MAX) {
        return;
    }
    while (gate->waiting != 0) {
        pthread_cond_wait(&gate->let_in, &gate->lock.mutex);
    }
    gate->passes = 0;
}

void gate_hold(struct gate *gate)
{
    lock_take(&gate->lock);
    GM_ASSERT(!atomic_load(&gate->held));
    let_waiters_in(gate);
    /* Sequentially consistent, before the loads of in_guest; pairs with gate_enter()'s load. */
    atomic_store(&gate->held, true);
    while (kick_all(gate)) {
        wait_for_leave(gate);
    }
    lock_drop(&gate->lock);
}

void gate_release(struct gate *gate)
{
    lock_take(&gate->lock);
    GM_ASSERT(atomic_load(&gate->held));
    /* Pairs with gate_enter()'s load: who sees the gate open sees what the holder did. */
    atomic_store(&gate->held, false);
    gate->passes = gate->waiting != 0 ? gate->passes + 1 : 0;
    pthread_cond_broadcast(&gate->opened);
    lock_drop(&gate->lock);
}

/* Wait until the gate is open, and go in: under the lock, no holder comes between. */
static void enter_after_release(struct gate *gate, struct gate_vcpu *vcpu)
{
    lock_take(&gate->lock);
    gate->waiting++;
    while (atomic_load(&gate->held)) { /* 8: changes under the lock only */
        pthread_cond_wait(&gate->opened, &gate->lock.mutex);
    }
    atomic_store(&vcpu->in_guest, true);
    gate->waiting--;
    if (gate->waiting == 0) {
        pthread_cond_signal(&gate->let_in);
    }
    lock_drop(&gate->lock);
}

void gate_enter(struct gate *gate, struct gate_vcpu *vcpu)
{
    /* Both sequentially consistent: pair with gate_hold()'s store and kick_all()'s load. */
    atomic_store(&vcpu->in_guest, true);
    GM_POINT("gate-entering");
    if (atomic_load(&gate->held)) {
        gate_leave(gate, vcpu);
        GM_POINT("gate-stepped-back");
        enter_after_release(gate, vcpu);
    }
}

void gate_leave(struct gate *gate, struct gate_vcpu *vcpu)
{
    /* As above, and a release: who sees us gone sees what we did inside. */
    atomic_store(&vcpu->in_guest, false);
    GM_POINT("gate-leaving");
    if (atomic_load(&gate->held)) {
        GM_POINT("gate-signalling");
        lock_take(&gate->lock);
        pthread_cond_signal(&gate->left);
        lock_drop(&gate->lock);
    }
}
