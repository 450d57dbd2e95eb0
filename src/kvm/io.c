/*
 * kvm/io.c - eventfds and coalesced ranges of one VM on /dev/kvm, in memory and among ports.
 *
 * Source: Linux api.rst, KVM_IOEVENTFD, KVM_REGISTER_COALESCED_MMIO.
 */
#include "kvm/io.h"

#include <errno.h>
#include <linux/kvm.h>

/* A zone's size has 32 bits: a larger range is several zones, each this large but for the last. */
#define ZONE_BYTES_MAX (UINT64_C(1) << 31)

static struct kvm_backend *backend_of(void *opaque)
{
    const struct kvm_face *face = opaque;

    return face->backend;
}

static int eventfd_set(const struct kvm_backend *backend, const struct gm_eventfd *eventfd,
                       uint32_t flags)
{
    struct kvm_ioeventfd request = {
        .addr = eventfd->offset,
        .len = eventfd->size_bytes,
        .fd = eventfd->fd,
        .datamatch = eventfd->match ? eventfd->value : 0,
        .flags = flags | (eventfd->match ? KVM_IOEVENTFD_FLAG_DATAMATCH : 0),
    };

    if (eventfd->size_bytes == 0 && !backend->features.eventfds_any_size) {
        return -EOPNOTSUPP;
    }
    return kvm_ioctl(backend->vm_fd, KVM_IOEVENTFD, &request);
}

static int memory_eventfd_add(void *opaque, uint64_t address, uint32_t size_bytes, bool match,
                              uint64_t value, int fd)
{
    return eventfd_set(backend_of(opaque),
                       &(struct gm_eventfd){address, size_bytes, match, value, fd}, 0);
}

static int memory_eventfd_del(void *opaque, uint64_t address, uint32_t size_bytes, bool match,
                              uint64_t value, int fd)
{
    return eventfd_set(backend_of(opaque),
                       &(struct gm_eventfd){address, size_bytes, match, value, fd},
                       KVM_IOEVENTFD_FLAG_DEASSIGN);
}

static int port_eventfd_add(void *opaque, uint64_t address, uint32_t size_bytes, bool match,
                            uint64_t value, int fd)
{
    return eventfd_set(backend_of(opaque),
                       &(struct gm_eventfd){address, size_bytes, match, value, fd},
                       KVM_IOEVENTFD_FLAG_PIO);
}

static int port_eventfd_del(void *opaque, uint64_t address, uint32_t size_bytes, bool match,
                            uint64_t value, int fd)
{
    return eventfd_set(backend_of(opaque),
                       &(struct gm_eventfd){address, size_bytes, match, value, fd},
                       KVM_IOEVENTFD_FLAG_PIO | KVM_IOEVENTFD_FLAG_DEASSIGN);
}

static int zone_set(const struct kvm_backend *backend, unsigned long request, uint64_t address,
                    uint64_t size_bytes, bool is_port)
{
    struct kvm_coalesced_mmio_zone zone = {
        .addr = address,
        .size = (uint32_t)size_bytes,
        .pio = is_port ? 1 : 0,
    };

    return kvm_ioctl(backend->vm_fd, request, &zone);
}

/* The zones of [address, last], up to the first that fails. *done: in bytes. */
static int zones_set(const struct kvm_backend *backend, unsigned long request, bool is_port,
                     const struct gm_coalesced *range, uint64_t *done)
{
    uint64_t beyond_first = range->last - range->gpa;
    int rc = 0;

    for (*done = 0; rc == 0 && *done <= beyond_first;) {
        uint64_t rest = beyond_first - *done;
        uint64_t size_bytes = rest < ZONE_BYTES_MAX ? rest + 1 : ZONE_BYTES_MAX;

        rc = zone_set(backend, request, range->gpa + *done, size_bytes, is_port);
        if (rc == 0) {
            *done += size_bytes;
            if (*done == 0) { /* 2^64 */
                break;
            }
        }
    }
    return rc;
}

static int coalesced_set(struct kvm_backend *backend, const struct gm_coalesced *range,
                         bool is_port, bool adds)
{
    unsigned long request = adds ? KVM_REGISTER_COALESCED_MMIO : KVM_UNREGISTER_COALESCED_MMIO;
    unsigned long inverse = adds ? KVM_UNREGISTER_COALESCED_MMIO : KVM_REGISTER_COALESCED_MMIO;
    const struct coalesced_hooks *hooks = &backend->coalesced;
    uint64_t done = 0;
    uint64_t undone;
    int rc = hooks->reserve(hooks->opaque);

    if (rc != 0) {
        return rc;
    }
    rc = zones_set(backend, request, is_port, range, &done);
    if (rc != 0 && done != 0) {
        (void)zones_set(backend, inverse, is_port,
                        &(struct gm_coalesced){range->gpa, range->gpa + (done - 1)}, &undone);
    }
    if (rc == 0 && !adds) {
        hooks->removed(hooks->opaque, is_port, range);
    }
    return rc;
}

static int memory_coalesced_add(void *opaque, uint64_t address, uint64_t last)
{
    return coalesced_set(backend_of(opaque), &(struct gm_coalesced){address, last}, false, true);
}

static int memory_coalesced_del(void *opaque, uint64_t address, uint64_t last)
{
    return coalesced_set(backend_of(opaque), &(struct gm_coalesced){address, last}, false, false);
}

static int port_coalesced_add(void *opaque, uint64_t address, uint64_t last)
{
    return coalesced_set(backend_of(opaque), &(struct gm_coalesced){address, last}, true, true);
}

static int port_coalesced_del(void *opaque, uint64_t address, uint64_t last)
{
    return coalesced_set(backend_of(opaque), &(struct gm_coalesced){address, last}, true, false);
}

void kvm_memory_io_ops(const struct kvm_backend *backend, struct gm_backend_ops *ops)
{
    if (backend->features.eventfds) {
        ops->eventfd_add = memory_eventfd_add;
        ops->eventfd_del = memory_eventfd_del;
    }
    if (backend->features.coalesced_page != 0 && backend->coalesced.reserve != NULL) {
        ops->coalesced_add = memory_coalesced_add;
        ops->coalesced_del = memory_coalesced_del;
    }
}

struct gm_backend_ops kvm_port_ops(const struct kvm_backend *backend)
{
    struct gm_backend_ops ops = {.size = sizeof(ops)};

    if (backend->features.eventfds) {
        ops.eventfd_add = port_eventfd_add;
        ops.eventfd_del = port_eventfd_del;
    }
    if (backend->features.coalesced_ports && backend->coalesced.reserve != NULL) {
        ops.coalesced_add = port_coalesced_add;
        ops.coalesced_del = port_coalesced_del;
    }
    return ops;
}
