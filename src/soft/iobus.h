/*
 * soft/iobus.h - what answers guests' writes without an exit: ioeventfds, and zones of coalesced writes with their ring. Answers
 * are Linux's: docs/software-kvm.md has them.
 *
 * An eventfd comes before a zone. The ring is a page that all vCPUs' kvm_run areas show: its indices are shared with the
 * user, who may put anything there; such a ring counts as full.
 */
#ifndef SOFT_IOBUS_H
#define SOFT_IOBUS_H

#include "base/alloc.h"
#include "base/lock.h"
#include "soft/hostevent.h"

#include <linux/kvm.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>

/* As Linux: besides eventfds, on each bus. */
#define IOBUS_ZONES_MAX 1000u

enum iobus_kind {
    IOBUS_MMIO,
    IOBUS_PORTS,
    IOBUS_CCW, /* of s390: taken, and never written to */
    IOBUS_KINDS,
};

struct ioevent {
    uint64_t address;
    uint64_t value;
    uint32_t size_bytes; /* 0: any */
    bool match;
    struct hostevent event;
};

struct iobus {
    struct ioevent *events; /* ascending by address */
    size_t event_count;
    size_t event_capacity;
    struct kvm_coalesced_mmio_zone *zones;
    size_t zone_count;
    size_t zone_capacity;
};

struct iobuses {
    struct gm_allocator allocator;
    /* Something is, or was, on a bus. Release, pairs with the acquire in iobus_write(). */
    atomic_bool is_used;
    struct kvm_coalesced_mmio_ring *ring; /* a page, shared */
    int ring_fd;                          /* of the file that it lies in; -1: of none */

    struct lock
        lock; /* rank LEAF: all below, and the ring's `last`; a signal is sent under it, so none comes late */
    struct iobus buses[IOBUS_KINDS];
};

/* Return: 0; -ENOMEM; -errno of a mutex. */
int iobuses_init(struct iobuses *buses, const struct gm_allocator *allocator);
void iobuses_fini(struct iobuses *buses);

/* Have the ring shown at @page, too. Return: 0; -ENOMEM. */
int iobuses_show_ring(const struct iobuses *buses, void *page);

/*
 * KVM_IOEVENTFD. Return: 0; -EINVAL flags, a size, an address that wraps, a value for any size; -EBADF, -EINVAL no descriptor,
 * no eventfd; -EEXIST one that takes the same writes; -ENOENT none to remove; -ENOSPC; -ENOMEM, -EMFILE.
 */
int iobus_eventfd(struct iobuses *buses, const struct kvm_ioeventfd *request);

/* KVM_REGISTER_COALESCED_MMIO, _UNREGISTER_. Return: 0; -EINVAL a bus that there is not; -ENOSPC; -ENOMEM. */
int iobus_add_zone(struct iobuses *buses, const struct kvm_coalesced_mmio_zone *zone);
/* All that hold the zone's addresses. */
int iobus_remove_zones(struct iobuses *buses, const struct kvm_coalesced_mmio_zone *zone);

/* A guest's write of 1 to 8 bytes. Return: whether it is answered; else it has to exit. */
bool iobus_write(struct iobuses *buses, enum iobus_kind kind, uint64_t address, unsigned size_bytes,
                 const void *data);

#endif
