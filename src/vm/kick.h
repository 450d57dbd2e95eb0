/*
 * vm/kick.h - making a thread leave KVM_RUN: by a signal that it lets in only there.
 *
 * The signal is blocked in the vCPU's thread and unblocked, by KVM_SET_SIGNAL_MASK, for the time that
 * KVM_RUN takes. So it has no handler, cannot arrive too early (it stays pending, and the next
 * KVM_RUN returns -EINTR at once), and is taken off afterwards without being delivered.
 *
 *   K-1  a signal is sent to a thread only between its kick_bind() and kick_unbind(): unbinding waits
 *        for senders that have read the thread's id
 *   K-2  `sent` is true only while a signal is pending, is being sent, or has been taken and the
 *        thread is about to look at its reasons. So one signal is queued, however often it is sent
 *   K-3  who sends has stored the reason before; the thread looks for reasons after it has cleared
 *        `sent`. A sender that found it true is therefore noticed all the same
 */
#ifndef VM_KICK_H
#define VM_KICK_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

struct kick {
    int signal;
    int vcpu_fd;
    atomic_int thread;   /* its id while bound, or 0 */
    atomic_uint senders; /* that may have read `thread` */
    atomic_bool sent;
    uint64_t guest_mask; /* what KVM_RUN has blocked; the bound thread's */
};

/*
 * Return: 0; errno of KVM_SET_SIGNAL_MASK. Context: the vCPU is not running. Until the first bind
 * KVM_RUN lets in what the calling thread does, and the signal.
 */
int kick_init(struct kick *kick, int signal, int vcpu_fd);

/* Give the vCPU's signal mask back to its owner. */
void kick_fini(struct kick *kick);

/*
 * From now on the calling thread is the one that is kicked. Its signal mask, as it is now, holds in
 * KVM_RUN as well, but for the signal.
 * Return: 0; errno of KVM_SET_SIGNAL_MASK, then it is not bound.
 */
int kick_bind(struct kick *kick);

/* The end of that: no signal is pending, none will come. The signal stays blocked. */
void kick_unbind(struct kick *kick);

/* After -EINTR: take the signal off. Return: was there one? Look at the reasons after this. */
bool kick_take(struct kick *kick);

/* Send, if a thread is bound. Any thread; async-signal-safe. */
void kick_send(struct kick *kick);

#endif
