/* soft/ioctl_chips.c - the requests that are the interrupt chips'. Source: Linux api.rst at each. */
#include "base/alloc.h"
#include "soft/chips.h"
#include "soft/ioctl.h"
#include "soft/soft.h"
#include "soft/usercopy.h"

#include <errno.h>
#include <stddef.h>

static long create_pit(struct gm_soft *soft, uint64_t argument)
{
    struct kvm_pit_config config;
    int rc = usercopy_from(&config, argument, sizeof(config));

    return rc != 0 ? rc : irqchip_ioctl_create_pit(chips_of(soft), &config);
}

/* The older one, with port 0x61. */
static long create_pit_with_speaker(struct gm_soft *soft)
{
    const struct kvm_pit_config config = {.flags = KVM_PIT_SPEAKER_DUMMY};

    return irqchip_ioctl_create_pit(chips_of(soft), &config);
}

static long set_line(struct gm_soft *soft, uint64_t argument, bool wants_status)
{
    struct kvm_irq_level line;
    int rc = usercopy_from(&line, argument, sizeof(line));

    if (rc == 0) {
        rc = irqchip_ioctl_line(chips_of(soft), &line);
    }
    return rc == 0 && wants_status ? usercopy_to(argument, &line, sizeof(line)) : rc;
}

static long get_chip(struct gm_soft *soft, uint64_t argument)
{
    struct kvm_irqchip state;
    int rc = usercopy_from(&state, argument, sizeof(state));

    if (rc == 0) {
        rc = irqchip_ioctl_get(chips_of(soft), &state);
    }
    return rc != 0 ? rc : usercopy_to(argument, &state, sizeof(state));
}

static long set_chip(struct gm_soft *soft, uint64_t argument)
{
    struct kvm_irqchip state;
    int rc = usercopy_from(&state, argument, sizeof(state));

    return rc != 0 ? rc : irqchip_ioctl_set(chips_of(soft), &state);
}

static long get_pit(struct gm_soft *soft, uint64_t argument)
{
    struct kvm_pit_state2 state = {0};
    int rc = irqchip_ioctl_get_pit(chips_of(soft), &state);

    return rc != 0 ? rc : usercopy_to(argument, &state, sizeof(state));
}

static long set_pit(struct gm_soft *soft, uint64_t argument)
{
    struct kvm_pit_state2 state;
    int rc = usercopy_from(&state, argument, sizeof(state));

    return rc != 0 ? rc : irqchip_ioctl_set_pit(chips_of(soft), &state);
}

static long signal_msi(struct gm_soft *soft, uint64_t argument)
{
    struct kvm_msi msi;
    int rc = usercopy_from(&msi, argument, sizeof(msi));

    return rc != 0 ? rc : irqchip_ioctl_msi(chips_of(soft), &msi);
}

static long set_routing(struct gm_soft *soft, uint64_t argument)
{
    struct kvm_irq_routing_entry *entries = NULL;
    struct kvm_irq_routing header;
    size_t size_bytes;
    long rc = usercopy_from(&header, argument, sizeof(header));

    if (rc != 0) {
        return rc;
    }
    if (header.nr > IRQCHIP_ROUTES_MAX || header.flags != 0 || chips_of(soft) == NULL) {
        return -EINVAL;
    }
    size_bytes = header.nr * sizeof(*entries);
    if (size_bytes != 0) {
        entries = mem_alloc(&soft->allocator, size_bytes);
        if (entries == NULL) {
            return -ENOMEM;
        }
        rc = usercopy_from(entries, argument + offsetof(struct kvm_irq_routing, entries),
                           size_bytes);
    }
    if (rc == 0) {
        rc = irqchip_ioctl_routing(chips_of(soft), &header, entries);
    }
    mem_free(&soft->allocator, entries);
    return rc;
}

long ioctl_vm_chips(struct gm_soft *soft, unsigned long request, uint64_t argument)
{
    switch (request) {
    case KVM_CREATE_IRQCHIP:
        return chips_create(soft);
    case KVM_CREATE_PIT:
        return create_pit_with_speaker(soft);
    case KVM_CREATE_PIT2:
        return create_pit(soft, argument);
    case KVM_IRQ_LINE:
        return set_line(soft, argument, false);
    case KVM_IRQ_LINE_STATUS:
        return set_line(soft, argument, true);
    case KVM_GET_IRQCHIP:
        return get_chip(soft, argument);
    case KVM_SET_IRQCHIP:
        return set_chip(soft, argument);
    case KVM_GET_PIT2:
        return get_pit(soft, argument);
    case KVM_SET_PIT2:
        return set_pit(soft, argument);
    case KVM_SIGNAL_MSI:
        return signal_msi(soft, argument);
    case KVM_SET_GSI_ROUTING:
        return set_routing(soft, argument);
    default:
        return -ENOTTY;
    }
}

/* Of the page where Linux keeps TPR for a guest whose code the user has patched. There is none: it can be put away, not set. */
long ioctl_set_vapic(struct gm_soft_vcpu *vcpu, uint64_t argument)
{
    struct kvm_vapic_addr vapic;
    int rc;

    if (vcpu->irqchip == NULL) {
        return -EINVAL;
    }
    rc = usercopy_from(&vapic, argument, sizeof(vapic));
    return rc == 0 && vapic.vapic_addr != 0 ? -EINVAL : rc;
}

long ioctl_get_lapic(struct gm_soft_vcpu *vcpu, uint64_t argument)
{
    struct kvm_lapic_state state;
    int rc = irqchip_ioctl_get_lapic(vcpu->irqchip, vcpu->id, &state);

    return rc != 0 ? rc : usercopy_to(argument, &state, sizeof(state));
}

long ioctl_set_lapic(struct gm_soft_vcpu *vcpu, uint64_t argument)
{
    struct kvm_lapic_state state;
    int rc;

    if (vcpu->irqchip == NULL) {
        return -EINVAL;
    }
    rc = usercopy_from(&state, argument, sizeof(state));
    return rc != 0 ? rc : irqchip_ioctl_set_lapic(vcpu->irqchip, vcpu->id, &state);
}
