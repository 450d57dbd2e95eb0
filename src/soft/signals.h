/*
 * soft/signals.h - signals while KVM_RUN is under way. In the kernel it ends with -EINTR where a signal is pending that its
 * mask lets in, and the handler runs when the kernel has been left. Here instructions are interpreted in user mode, where a
 * handler would run in the middle of one. So all signals are blocked but those that a fault raises, and looked at.
 *
 *   - whose disposition is to be ignored do not count: while they are blocked the kernel keeps them all the same
 *   - when the thread's mask is restored, handlers run, before KVM_RUN returns. A signal that only KVM_SET_SIGNAL_MASK
 *     let in stays pending, as in Linux
 *
 * The C library's own signals, by which it cancels a thread or has it change its user, are blocked as the others are: these
 * calls are the kernel's.
 */
#ifndef SOFT_SIGNALS_H
#define SOFT_SIGNALS_H

#include <signal.h>
#include <stdbool.h>
#include <stdint.h>

/* Sets as the kernel has them: signal N is bit N - 1. */
struct signals {
    bool has_mask; /* KVM_SET_SIGNAL_MASK */
    uint64_t mask; /* what is blocked in KVM_RUN then */

    uint64_t watched; /* while they are held: would come through KVM_RUN's mask */
};

/*
 * The calling thread's, begin and end: it gets back the mask that begin returned. Three system calls together. A signal before the
 * begin or after the end may cancel the thread: so locks are taken and dropped in between.
 */
uint64_t signals_hold(void);
void signals_release(uint64_t mask);

/* While they are held, with the thread's own @mask: which of them the vCPU's KVM_RUN looks for. */
void signals_watch(struct signals *signals, uint64_t mask);

/* While they are held: is one pending that ends KVM_RUN? One system call, and another for each that is pending. */
bool signals_are_pending(const struct signals *signals);

/* While they are held: which of those that are pending would come through, but are ignored. */
uint64_t signals_ignored(const struct signals *signals);

/* KVM_SET_SIGNAL_MASK. Return: 0; -EFAULT; -EINVAL the set's length is not 8. */
long signals_set_mask(struct signals *signals, uint64_t argument);

#endif
