/* soft/backend_io.c - a map's eventfds and coalesced ranges on the software KVM's buses. */
#include "soft/backend_io.h"

#include <errno.h>

/* A zone's size has 32 bits. A larger range, which no device has, is not coalesced: its writes exit. */
#define ZONE_BYTES_MAX UINT32_MAX

static struct gm_soft *soft_of(void *opaque)
{
    const struct soft_face *face = opaque;

    return face->soft;
}

static int eventfd_set(struct gm_soft *soft, const struct gm_eventfd *eventfd, uint32_t flags)
{
    const struct kvm_ioeventfd request = {
        .addr = eventfd->offset,
        .len = eventfd->size_bytes,
        .fd = eventfd->fd,
        .datamatch = eventfd->match ? eventfd->value : 0,
        .flags = flags | (eventfd->match ? KVM_IOEVENTFD_FLAG_DATAMATCH : 0),
    };

    return iobus_eventfd(&soft->iobuses, &request);
}

static int memory_eventfd_add(void *opaque, uint64_t address, uint32_t size_bytes, bool match,
                              uint64_t value, int fd)
{
    return eventfd_set(soft_of(opaque), &(struct gm_eventfd){address, size_bytes, match, value, fd},
                       0);
}

static int memory_eventfd_del(void *opaque, uint64_t address, uint32_t size_bytes, bool match,
                              uint64_t value, int fd)
{
    return eventfd_set(soft_of(opaque), &(struct gm_eventfd){address, size_bytes, match, value, fd},
                       KVM_IOEVENTFD_FLAG_DEASSIGN);
}

static int port_eventfd_add(void *opaque, uint64_t address, uint32_t size_bytes, bool match,
                            uint64_t value, int fd)
{
    return eventfd_set(soft_of(opaque), &(struct gm_eventfd){address, size_bytes, match, value, fd},
                       KVM_IOEVENTFD_FLAG_PIO);
}

static int port_eventfd_del(void *opaque, uint64_t address, uint32_t size_bytes, bool match,
                            uint64_t value, int fd)
{
    return eventfd_set(soft_of(opaque), &(struct gm_eventfd){address, size_bytes, match, value, fd},
                       KVM_IOEVENTFD_FLAG_PIO | KVM_IOEVENTFD_FLAG_DEASSIGN);
}

static int coalesced_set(struct gm_soft *soft, const struct gm_coalesced *range, bool is_port,
                         bool adds)
{
    const struct coalesced_hooks *hooks = &soft->coalesced;
    struct kvm_coalesced_mmio_zone zone = {
        .addr = range->gpa,
        .size = (uint32_t)(range->last - range->gpa + 1),
        .pio = is_port ? 1 : 0,
    };
    int rc;

    if (range->last - range->gpa >= ZONE_BYTES_MAX) {
        return 0;
    }
    rc = hooks->reserve(hooks->opaque);
    if (rc != 0) {
        return rc;
    }
    if (adds) {
        return iobus_add_zone(&soft->iobuses, &zone);
    }
    rc = iobus_remove_zones(&soft->iobuses, &zone);
    if (rc == 0) {
        hooks->removed(hooks->opaque, is_port, range);
    }
    return rc;
}

static int memory_coalesced_add(void *opaque, uint64_t address, uint64_t last)
{
    return coalesced_set(soft_of(opaque), &(struct gm_coalesced){address, last}, false, true);
}

static int memory_coalesced_del(void *opaque, uint64_t address, uint64_t last)
{
    return coalesced_set(soft_of(opaque), &(struct gm_coalesced){address, last}, false, false);
}

static int port_coalesced_add(void *opaque, uint64_t address, uint64_t last)
{
    return coalesced_set(soft_of(opaque), &(struct gm_coalesced){address, last}, true, true);
}

static int port_coalesced_del(void *opaque, uint64_t address, uint64_t last)
{
    return coalesced_set(soft_of(opaque), &(struct gm_coalesced){address, last}, true, false);
}

void soft_memory_io_ops(const struct gm_soft *soft, struct gm_backend_ops *ops)
{
    ops->eventfd_add = memory_eventfd_add;
    ops->eventfd_del = memory_eventfd_del;
    if (soft->coalesced.reserve != NULL) {
        ops->coalesced_add = memory_coalesced_add;
        ops->coalesced_del = memory_coalesced_del;
    }
}

struct gm_backend_ops soft_port_ops(const struct gm_soft *soft)
{
    struct gm_backend_ops ops = {
        .size = sizeof(ops),
        .eventfd_add = port_eventfd_add,
        .eventfd_del = port_eventfd_del,
    };

    if (soft->coalesced.reserve != NULL) {
        ops.coalesced_add = port_coalesced_add;
        ops.coalesced_del = port_coalesced_del;
    }
    return ops;
}
