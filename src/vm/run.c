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

#define GO_ON 1

bool vcpu_arm_immediate_exit(struct gm_vcpu *vcpu)
{
    if (vcpu->has_immediate_exit) {
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

/* After -EINTR: whose was it? Return: GO_ON ours; -EINTR gm_vcpu_kick()'s, or another signal. */
static int interrupted(struct gm_vcpu *vcpu, bool is_ours)
{
    vcpu_count(&vcpu->counts.interrupted);
    if (vcpu->has_immediate_exit) {
        /* A caller's kick may have set it, too. With a full barrier: if it is set again, with a
         * reason, either our store comes before or the reason is seen below. */
        __atomic_store_n(&vcpu->run->immediate_exit, 0, __ATOMIC_SEQ_CST);
    }
    if (atomic_exchange(&vcpu->stop, false)) {
        return -EINTR;
    }
    return is_ours ? GO_ON : -EINTR;
}

static int run_once(struct gm_vcpu *vcpu)
{
    bool is_ours = false;
    int rc = vcpu->vm->accel->run(vcpu, &is_ours);

    vcpu_count(&vcpu->counts.runs);
    if (rc == -EINTR) {
        return interrupted(vcpu, is_ours);
    }
    if (rc == -EAGAIN) { /* it waited to be started, and something has come for it */
        return GO_ON;
    }
    if (rc != 0) {
        return rc;
    }
    return gm_vcpu_handle_exit(vcpu, vcpu->run, NULL) == 1 ? GO_ON : 0;
}

int gm_vcpu_run(struct gm_vcpu *vcpu)
{
    int rc = vm_in_parent(vcpu->vm, NULL);

    if (rc == 0) {
        rc = vcpu_bind(vcpu);
    }
    if (rc != 0) {
        return rc;
    }
    do {
        rc = run_once(vcpu);
    } while (rc == GO_ON);
    coalesced_flush(&vcpu->vm->coalesced); /* whatever it returns for */
    vcpu_unbind(vcpu);
    return rc;
}
