/* soft/chips.c - a VM's interrupt chips: making them, waking vCPUs, and what of a vCPU's registers is theirs. */
#include "soft/chips.h"
#include "base/clock.h"

#include "soft/run.h"
#include "soft/soft.h"
#include "x86/msr.h"

#include <errno.h>

#define MSR_APIC_BASE 0x1bu
#define MSR_TSC_DEADLINE 0x6e0u
#define APIC_BASE_BSP UINT64_C(0x100)

int chips_init(struct chips *chips)
{
    atomic_init(&chips->irqchip, NULL);
    chips->x2apic_api = 0;
    return lock_init(&chips->lock, LOCK_RANK_LEAF);
}

void chips_fini(struct chips *chips)
{
    irqchip_free(atomic_load_explicit(&chips->irqchip, memory_order_relaxed));
    lock_fini(&chips->lock);
}

struct irqchip *chips_of(struct gm_soft *soft)
{
    return atomic_load_explicit(&soft->chips.irqchip, memory_order_acquire);
}

static uint64_t now_ns(void *opaque)
{
    (void)opaque;
    return clock_now_ns();
}

/* The chips' callback. The lock keeps the vCPU from going meanwhile. */
static void wake(void *opaque, unsigned number)
{
    struct gm_soft *soft = opaque;
    struct gm_soft_vcpu *vcpu;

    lock_take(&soft->chips.lock);
    vcpu = soft->chips.vcpus[number];
    if (vcpu != NULL) {
        kcore_vcpu_request(&vcpu->mmu.base, KCORE_REQUEST_EVENT);
    }
    lock_drop(&soft->chips.lock);
}

static void ended(void *opaque, uint32_t gsi)
{
    struct gm_soft *soft = opaque;

    irqfd_ended(&soft->irqfds, gsi);
}

int chips_create(struct gm_soft *soft)
{
    const struct irqchip_options options = {
        .allocator = &soft->allocator,
        .gpa_bits = soft->core.gpa_bits,
        .now_ns = now_ns,
        .wake = wake,
        .ended = ended,
        .opaque = soft,
    };
    struct irqchip *irqchip;
    int rc;

    lock_take(&soft->lock);
    rc = irqchip_check_create(chips_of(soft), soft_had_vcpus(soft));
    if (rc == 0) {
        rc = irqchip_new(&options, &irqchip);
    }
    if (rc == 0) {
        irqchip_use_x2apic_api(irqchip, soft->chips.x2apic_api);
        atomic_store_explicit(&soft->chips.irqchip, irqchip, memory_order_release);
    }
    lock_drop(&soft->lock);
    return rc;
}

int chips_use_x2apic_api(struct gm_soft *soft, uint64_t flags)
{
    struct irqchip *irqchip;

    if ((flags & ~(uint64_t)CHIPS_X2APIC_API) != 0) {
        return -EINVAL;
    }
    lock_take(&soft->lock);
    soft->chips.x2apic_api |= (unsigned)flags;
    irqchip = chips_of(soft);
    if (irqchip != NULL) {
        irqchip_use_x2apic_api(irqchip, soft->chips.x2apic_api);
    }
    lock_drop(&soft->lock);
    return 0;
}

static void set_place(struct gm_soft_vcpu *vcpu, struct gm_soft_vcpu *value)
{
    struct chips *chips = &vcpu->soft->chips;

    lock_take(&chips->lock);
    chips->vcpus[vcpu->id] = value;
    lock_drop(&chips->lock);
}

bool chips_is_x2apic_msr(uint32_t number)
{
    return number >= IRQCHIP_X2APIC_FIRST && number <= IRQCHIP_X2APIC_LAST;
}

/* Without chips the base is the vCPU's own, and there is no deadline. */
enum x86_msr_result chips_read_msr(struct gm_soft_vcpu *vcpu, uint32_t number, uint64_t *value)
{
    if (number == MSR_TSC_DEADLINE) {
        *value = vcpu->irqchip != NULL ? irqchip_tsc_deadline(vcpu->irqchip, vcpu->id) : 0;
        return X86_MSR_DONE;
    }
    if (number == MSR_APIC_BASE && vcpu->irqchip != NULL) {
        *value = irqchip_apic_base(vcpu->irqchip, vcpu->id);
        return X86_MSR_DONE;
    }
    if (chips_is_x2apic_msr(number)) {
        return vcpu->irqchip != NULL && irqchip_read_x2apic(vcpu->irqchip, vcpu->id, number, value)
                   ? X86_MSR_DONE
                   : X86_MSR_REFUSED;
    }
    return X86_MSR_UNKNOWN;
}

/* CPUID follows the vCPU's own copy. */
static enum x86_msr_result write_apic_base(struct gm_soft_vcpu *vcpu, uint64_t value,
                                           enum x86_msr_writer writer)
{
    uint64_t before = irqchip_apic_base(vcpu->irqchip, vcpu->id);

    if (!msr_may_set_apic_base(vcpu->x86, before, value, writer) ||
        irqchip_set_apic_base(vcpu->irqchip, vcpu->id, value) != 0) {
        return X86_MSR_REFUSED;
    }
    vcpu->x86->msr.apic_base = value;
    return X86_MSR_DONE;
}

enum x86_msr_result chips_write_msr(struct gm_soft_vcpu *vcpu, uint32_t number, uint64_t value,
                                    enum x86_msr_writer writer)
{
    if (number == MSR_TSC_DEADLINE) {
        if (vcpu->irqchip != NULL) {
            irqchip_set_tsc_deadline(vcpu->irqchip, vcpu->id, value, msr_tsc(vcpu->x86));
        }
        return X86_MSR_DONE;
    }
    if (number == MSR_APIC_BASE && vcpu->irqchip != NULL) {
        return write_apic_base(vcpu, value, writer);
    }
    if (chips_is_x2apic_msr(number)) {
        return vcpu->irqchip != NULL && irqchip_write_x2apic(vcpu->irqchip, vcpu->id, number, value)
                   ? X86_MSR_DONE
                   : X86_MSR_REFUSED;
    }
    return X86_MSR_UNKNOWN;
}

int chips_add_vcpu(struct gm_soft_vcpu *vcpu)
{
    struct irqchip *irqchip = chips_of(vcpu->soft);
    bool is_boot = vcpu->id == vcpu->soft->boot_vcpu;
    int rc;

    if (!is_boot) {
        vcpu->x86->msr.apic_base &= ~APIC_BASE_BSP;
    }
    if (irqchip == NULL) {
        return 0;
    }
    rc = sleep_init(&vcpu->sleep);
    if (rc != 0) {
        return rc;
    }
    rc = irqchip_vcpu_add(irqchip, vcpu->id, is_boot ? IRQCHIP_BOOTSTRAP : IRQCHIP_APPLICATION);
    if (rc != 0) {
        sleep_fini(&vcpu->sleep);
        return rc;
    }
    vcpu->irqchip = irqchip;
    vcpu->x86->mp_state = is_boot ? X86_RUNNABLE : X86_UNINITIALIZED;
    vcpu->mmu.base.wake_fd = vcpu->sleep.wake_fd;
    set_place(vcpu, vcpu);
    return 0;
}

void chips_remove_vcpu(struct gm_soft_vcpu *vcpu)
{
    if (vcpu->irqchip != NULL) {
        set_place(vcpu, NULL);
        irqchip_vcpu_remove(vcpu->irqchip, vcpu->id);
        sleep_fini(&vcpu->sleep);
    }
}

uint64_t chips_cr8(const struct gm_soft_vcpu *vcpu)
{
    return vcpu->irqchip != NULL ? irqchip_cr8(vcpu->irqchip, vcpu->id) : vcpu->x86->cr8;
}

void chips_set_cr8(struct gm_soft_vcpu *vcpu, uint64_t value)
{
    vcpu->x86->cr8 = value;
    if (vcpu->irqchip != NULL) {
        irqchip_set_cr8(vcpu->irqchip, vcpu->id, (uint8_t)value);
    }
}
