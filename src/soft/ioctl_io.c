/* soft/ioctl_io.c - the VM's requests for eventfds and coalesced zones. Source: Linux api.rst at each. */
#include "soft/ioctl.h"
#include "soft/soft.h"
#include "soft/usercopy.h"

#include <errno.h>

static long ioeventfd(struct gm_soft *soft, uint64_t argument)
{
    struct kvm_ioeventfd request;
    int rc = usercopy_from(&request, argument, sizeof(request));

    return rc != 0 ? rc : iobus_eventfd(&soft->iobuses, &request);
}

static long irqfd(struct gm_soft *soft, uint64_t argument)
{
    struct kvm_irqfd request;
    int rc = usercopy_from(&request, argument, sizeof(request));

    return rc != 0 ? rc : irqfd_set(&soft->irqfds, chips_of(soft), &request);
}

static long zone(struct gm_soft *soft, uint64_t argument,
                 int (*call)(struct iobuses *buses, const struct kvm_coalesced_mmio_zone *zone))
{
    struct kvm_coalesced_mmio_zone request;
    int rc = usercopy_from(&request, argument, sizeof(request));

    return rc != 0 ? rc : call(&soft->iobuses, &request);
}

long ioctl_vm_io(struct gm_soft *soft, unsigned long request, uint64_t argument)
{
    switch (request) {
    case KVM_IOEVENTFD:
        return ioeventfd(soft, argument);
    case KVM_IRQFD:
        return irqfd(soft, argument);
    case KVM_REGISTER_COALESCED_MMIO:
        return zone(soft, argument, iobus_add_zone);
    case KVM_UNREGISTER_COALESCED_MMIO:
        return zone(soft, argument, iobus_remove_zones);
    default:
        return -ENOTTY;
    }
}
