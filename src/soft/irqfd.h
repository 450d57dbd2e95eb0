/*
 * soft/irqfd.h - KVM_IRQFD: eventfds whose signals are interrupts.
 *
 * Where the kernel is called by the eventfd, we have a thread that sleeps until one of them is signalled. It is made with the
 * first, takes no signals, and ends with the VM. One that is signalled already when it comes interrupts at once; unlike Linux, its
 * count is then read.
 *
 * A resampling one keeps its GSI's line high until the guest ends the interrupt: then the line is low, and the other eventfd
 * is signalled, so that whoever has the device may look whether it still asks.
 */
#ifndef SOFT_IRQFD_H
#define SOFT_IRQFD_H

#include "base/alloc.h"
#include "base/lock.h"
#include "soft/hostevent.h"

#include <linux/kvm.h>
#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>

struct irqchip;

struct irqfd {
    uint64_t key; /* never used again: what the thread has heard of may be gone */
    uint32_t gsi;
    bool resamples;
    struct hostevent event;
    struct hostevent resample; /* of one that resamples */
};

struct irqfds {
    struct gm_allocator allocator;
    struct lock lock; /* rank IRQFD: all below; an interrupt is sent under it, so none comes late */
    struct irqchip *chip;
    struct irqfd *items;
    size_t count;
    size_t capacity;
    uint64_t next_key;
    int epoll_fd; /* -1: there is no thread */
    int stop_fd;
    pthread_t thread;
};

/* Return: 0; -errno of a mutex. */
int irqfds_init(struct irqfds *irqfds, const struct gm_allocator *allocator);
/* The thread ends. The chips are still there. */
void irqfds_fini(struct irqfds *irqfds);

/*
 * KVM_IRQFD, with the VM's chips, or NULL. Return: 0, also for what is not there to remove; -EINVAL flags, no chips, no
 * eventfd; -EBADF; -EBUSY the eventfd interrupts already; -ENOMEM, -EMFILE, -EAGAIN: no thread can be made.
 */
int irqfd_set(struct irqfds *irqfds, struct irqchip *chip, const struct kvm_irqfd *request);

/* The guest has ended an interrupt of the GSI. The chips' callback. */
void irqfd_ended(struct irqfds *irqfds, uint32_t gsi);

#endif
