/*
 * vm/run.c - the run loop.
 *
 * A vCPU is at the gate for exactly the time of KVM_RUN: exits are answered outside, so that an edit made
 * from a device's callback finds its own vCPU out of guest mode.
 *
 * KVM completes the instruction of an MMIO or port exit at the next KVM_RUN. A kick therefore does not
 * end the loop by itself: it makes the next KVM_RUN return before it enters the guest, and the loop
 * ends there, with the registers as after whole instructions.
 */
#include "vm/vm.h"

#include <errno.h>
#include <linux/kvm.h>
#include <sys/ioctl.h>

#define GO_ON 1

/* Make the next KVM_RUN return -EINTR as soon as the last exit's instruction is complete. */
static bool arm_immediate_exit(struct gm_vcpu *vcpu)
{
    if (vcpu->vm->backend.features.immediate_exit) {
        /* Relaxed: read by this thread's KVM_RUN. Atomic, as a caller's kick may set it as well. */
        __atomic_store_n(&vcpu->run->immediate_exit, 1, __ATOMIC_RELAXED);
        return true;
    }
    if (vcpu->own_signal) {
        kick_send(&vcpu->kick); /* blocked in this thread: pending until KVM_RUN */
        return true;
    }
    return false;
}

/*
 * KVM_RUN, at the gate. Return: 0 an exit; -errno. *by_gate: an -EINTR may be the gate's kick.
 */
static int enter_guest(struct gm_vcpu *vcpu, bool *by_gate)
{
    struct gate *gate = &vcpu->vm->backend.gate;
    int rc;

    gate_enter(gate, &vcpu->at_gate);
    /* Sequentially consistent; pairs with the store in gm_vcpu_kick(): what is not seen here comes
     * with a kick that KVM_RUN notices. */
    if (atomic_load(&vcpu->stop) && !arm_immediate_exit(vcpu)) {
        rc = -EINTR;
    } else {
        rc = ioctl(vcpu->fd, KVM_RUN, NULL) == -1 ? -errno : 0;
    }
    /* Relaxed: the gate opens only after this vCPU has left, so while its kick is the cause this
     * is true. */
    *by_gate = atomic_load_explicit(&gate->held, memory_order_relaxed);
    gate_leave(gate, &vcpu->at_gate);
    vcpu_count(&vcpu->counts.runs);
    return rc;
}

/* After -EINTR: whose was it? Return: GO_ON the gate's; -EINTR gm_vcpu_kick()'s, or another signal. */
static int interrupted(struct gm_vcpu *vcpu, bool by_gate)
{
    bool kicked = vcpu->own_signal && kick_take(&vcpu->kick);

    vcpu_count(&vcpu->counts.interrupted);
    if (vcpu->vm->backend.features.immediate_exit) {
        /* A caller's kick may have set it, too. With a full barrier: if it is set again, with a
         * reason, either our store comes before or the reason is seen below. */
        __atomic_store_n(&vcpu->run->immediate_exit, 0, __ATOMIC_SEQ_CST);
    }
    if (atomic_exchange(&vcpu->stop, false)) {
        return -EINTR;
    }
    return kicked || by_gate ? GO_ON : -EINTR;
}

static int run_once(struct gm_vcpu *vcpu)
{
    bool by_gate;
    int rc = enter_guest(vcpu, &by_gate);

    if (rc == -EINTR) {
        return interrupted(vcpu, by_gate);
    }
    if (rc != 0) {
        return rc;
    }
    return gm_vcpu_handle_exit(vcpu, vcpu->run, NULL) == 1 ? GO_ON : 0;
}

int gm_vcpu_run(struct gm_vcpu *vcpu)
{
    int rc = vcpu_bind(vcpu);

    if (rc != 0) {
        return rc;
    }
    do {
        rc = run_once(vcpu);
    } while (rc == GO_ON);
    vcpu_unbind(vcpu);
    return rc;
}
