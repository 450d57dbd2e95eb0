/*
 * soft/run.h - KVM_RUN.
 *
 * The area at gm_soft_vcpu.run is shared with the user, who may write anything at any time. What is read from it is read
 * once, and what an exit has asked is remembered by the vCPU: the page only gives the answer's data.
 */
#ifndef SOFT_RUN_H
#define SOFT_RUN_H

#include "soft/soft.h"

#include <time.h>

/* What a function of KVM_RUN says: go on, or else its result: 0 an exit, or -errno. */
#define RUN_ON 1L

/* KVM_RUN. The caller has the vCPU's lock, and holds signals. Return: 0; -errno. */
long vcpu_run(struct gm_soft_vcpu *vcpu, uint64_t argument);

/* What of KVM_SET_GUEST_DEBUG there is; KVM_CAP_SET_GUEST_DEBUG2 says so. */
#define GUEST_DEBUG_KNOWN                                                                          \
    ((uint32_t)(KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_SINGLESTEP | KVM_GUESTDBG_USE_SW_BP |           \
                KVM_GUESTDBG_USE_HW_BP | KVM_GUESTDBG_INJECT_DB | KVM_GUESTDBG_INJECT_BP |         \
                KVM_GUESTDBG_BLOCKIRQ))

/*
 * KVM_SET_GUEST_DEBUG: single steps, breakpoints, exceptions of debuggers. Return: 0; -EFAULT; -EINVAL anything else is asked for;
 * -EBUSY an exception to inject, while another event waits.
 */
long vcpu_set_guest_debug(struct gm_soft_vcpu *vcpu, uint64_t argument);

/* The time of day. */
static inline uint64_t run_realtime_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_REALTIME, &now);
    return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

static inline uint64_t run_linear_rip(const struct x86_vcpu *cpu)
{
    return cpu->segment[X86_CS].base + cpu->rip;
}

/* run_exit.c: an exit of the interpreter's becomes one of KVM's, in the page. Return: as KVM_RUN. */
long run_exit(struct gm_soft_vcpu *vcpu, enum x86_exit exit);

/* KVM_EXIT_FAIL_ENTRY: its state is one that no processor runs. Return: 0. */
long run_exit_entry_failure(struct gm_soft_vcpu *vcpu);

/* The answer to what the last exit asked, if it did. */
void run_take_answer(struct gm_soft_vcpu *vcpu);

#endif
