/*
 * soft/sleep.h - a vCPU that has halted, or waits to be started, sleeps in KVM_RUN until somebody requests something of it, a
 * signal comes that ends KVM_RUN, or a time comes.
 *
 * It waits by ppoll() for two descriptors: an eventfd that kcore_vcpu_request() writes to, and a signalfd, which tells of
 * signals that are blocked and leaves them pending.
 *
 * No wake-up is lost. A sleeper stores is_asleep and then looks at its requests; who requests stores the request and then looks
 * at is_asleep; all four are sequentially consistent:
 *
 * | # | sleeper                        | requester               | outcome                                  |
 * | - | ------------------------------ | ----------------------- | ---------------------------------------- |
 * | 1 | is_asleep = 1; no request      | request; is_asleep is 1 | The eventfd is written to before or while |
 * |   | ppoll()                        | writes                  | it waits: it is readable until it is read. |
 * | 2 | is_asleep = 1; a request       | request                 | Does not wait.                           |
 * | 3 | is_asleep = 1; no request      | request; is_asleep is 0 | Impossible: both loads would precede     |
 * |   |                                |                         | both stores.                             |
 * | 4 | wakes; is_asleep = 0; reads    | is_asleep was 1; writes | The next sleep ends at once, for nothing. |
 *
 * tests/race/test_vcpu_points.c forces the rows that can be.
 *
 * What a chip has for the vCPU it has before it requests, so who has seen the request finds it. A signal that is pending before
 * ppoll() makes the signalfd readable; one that comes later wakes it.
 */
#ifndef SOFT_SLEEP_H
#define SOFT_SLEEP_H

#include <stdint.h>

struct gm_soft_vcpu;

struct sleep {
    int wake_fd;   /* the eventfd */
    int signal_fd; /* of `signal_set` */
    uint64_t signal_set;
};

/* Return: 0; -EMFILE, -ENFILE, -ENOMEM. */
int sleep_init(struct sleep *sleep);
void sleep_fini(struct sleep *sleep);

/*
 * Until @deadline_ns of CLOCK_MONOTONIC, a request (which is taken: mmu.taken), or a signal.
 * Context: signals are held.
 */
void sleep_until(struct gm_soft_vcpu *vcpu, uint64_t deadline_ns);

#endif
