/* soft/events.c - what the interrupt chips have for a vCPU. */
#include "soft/events.h"

#include <string.h>

#define CR0_ET UINT64_C(0x10)
#define CR0_CACHES UINT64_C(0x60000000) /* CD, NW */
#define APIC_BASE_BSP UINT64_C(0x100)

/* Intel SDM 3A, table 10-1: what INIT leaves alone. */
static void init(struct x86_vcpu *cpu)
{
    struct x86_msrs msr = cpu->msr;
    struct x86_fpu fpu = cpu->fpu;
    union x86_xmm xmm[16];
    uint32_t mxcsr = cpu->mxcsr;
    uint64_t caches = cpu->cr0 & CR0_CACHES;
    uint64_t xcr0 = cpu->xcr0;
    uint32_t pkru = cpu->pkru;

    memcpy(xmm, cpu->xmm, sizeof(xmm));
    x86_vcpu_reset(cpu);
    memcpy(cpu->xmm, xmm, sizeof(xmm));
    msr.efer = 0;
    cpu->msr = msr;
    cpu->fpu = fpu;
    cpu->mxcsr = mxcsr;
    cpu->cr0 = CR0_ET | caches;
    cpu->xcr0 = xcr0;
    cpu->pkru = pkru;
    x86_state_changed(cpu);
}

/* The bootstrap processor begins anew; the others wait. */
static void take_init(struct gm_soft_vcpu *vcpu)
{
    if (irqchip_take_init(vcpu->irqchip, vcpu->id)) {
        init(vcpu->x86);
        vcpu->asked = ASKED_NOTHING;
        if ((irqchip_apic_base(vcpu->irqchip, vcpu->id) & APIC_BASE_BSP) == 0) {
            vcpu->x86->mp_state = X86_WAIT_FOR_SIPI;
        }
    }
}

static void take_sipi(struct gm_soft_vcpu *vcpu)
{
    struct x86_vcpu *cpu = vcpu->x86;
    int vector = irqchip_take_sipi(vcpu->irqchip, vcpu->id);

    if (vector >= 0 && cpu->mp_state == X86_WAIT_FOR_SIPI) {
        cpu->segment[X86_CS].selector = (uint16_t)(vector << 8);
        cpu->segment[X86_CS].base = (uint64_t)vector << 12;
        cpu->rip = 0;
        cpu->mp_state = X86_RUNNABLE;
        x86_state_changed(cpu);
    }
}

static bool is_started(const struct x86_vcpu *cpu)
{
    return cpu->mp_state == X86_RUNNABLE || cpu->mp_state == X86_HALTED;
}

/* While the VMM holds interrupts back a window is no reason to look: KVM_SET_GUEST_DEBUG, which ends that, is one. */
static void take_interrupt(struct gm_soft_vcpu *vcpu)
{
    int vector;

    if (vcpu->x86->holds_events) {
        return;
    }
    if (!x86_can_interrupt(vcpu->x86)) {
        vcpu->x86->request_irq_window = true;
        return;
    }
    vector = irqchip_take_interrupt(vcpu->irqchip, vcpu->id);
    if (vector >= 0) {
        x86_interrupt(vcpu->x86, (uint8_t)vector);
        /* There may be another behind it. */
        vcpu->x86->request_irq_window =
            (irqchip_vcpu_pending(vcpu->irqchip, vcpu->id) & IRQCHIP_INTERRUPT) != 0;
    }
}

void events_take(struct gm_soft_vcpu *vcpu)
{
    unsigned pending = irqchip_vcpu_pending(vcpu->irqchip, vcpu->id);

    vcpu->x86->request_irq_window = false;
    if ((pending & IRQCHIP_INIT) != 0) {
        take_init(vcpu);
    }
    if ((pending & IRQCHIP_SIPI) != 0) {
        take_sipi(vcpu);
    }
    if (is_started(vcpu->x86)) {
        if ((pending & IRQCHIP_NMI) != 0 && irqchip_take_nmi(vcpu->irqchip, vcpu->id)) {
            x86_nmi(vcpu->x86);
        }
        if ((pending & IRQCHIP_INTERRUPT) != 0) {
            take_interrupt(vcpu);
        }
    }
    vcpu->deadline_ns = irqchip_deadline_ns(vcpu->irqchip, vcpu->id);
}

bool events_can_run(const struct gm_soft_vcpu *vcpu)
{
    const struct x86_vcpu *cpu = vcpu->x86;

    return cpu->mp_state == X86_RUNNABLE ||
           (cpu->mp_state == X86_HALTED &&
            (cpu->event.kind != X86_EVENT_NONE || x86_waiting_interrupt(cpu) >= 0 ||
             (cpu->is_nmi_pending && !cpu->is_nmi_blocked)));
}

/* All that are read ahead. */
static bool read_port(struct gm_soft_vcpu *vcpu, struct x86_io *io)
{
    uint32_t value;

    for (uint32_t i = 0; i < io->count; i++) {
        if (!irqchip_port_read(vcpu->irqchip, io->port, io->size_bytes, &value)) {
            return false;
        }
        memcpy(vcpu->x86->ahead + (size_t)i * io->size_bytes, &value, io->size_bytes);
        io->data = i == 0 ? value : io->data;
    }
    return true;
}

static bool chips_answer_port(struct gm_soft_vcpu *vcpu)
{
    struct x86_io *io = &vcpu->x86->io;

    return io->is_in ? read_port(vcpu, io)
                     : irqchip_port_write(vcpu->irqchip, io->port, io->size_bytes, io->data);
}

static bool chips_answer_mmio(struct gm_soft_vcpu *vcpu)
{
    struct gm_mmu_exit *access = gm_mmu_exit(&vcpu->mmu.face);

    return access->access == GM_MMU_WRITE ? irqchip_mmio_write(vcpu->irqchip, vcpu->id, access->gpa,
                                                               access->size_bytes, access->data)
                                          : irqchip_mmio_read(vcpu->irqchip, vcpu->id, access->gpa,
                                                              access->size_bytes, access->data);
}

static bool answer_port(struct gm_soft_vcpu *vcpu)
{
    const struct x86_io *io = &vcpu->x86->io;

    return (vcpu->irqchip != NULL && chips_answer_port(vcpu)) ||
           (!io->is_in &&
            iobus_write(&vcpu->soft->iobuses, IOBUS_PORTS, io->port, io->size_bytes, &io->data));
}

static bool answer_mmio(struct gm_soft_vcpu *vcpu)
{
    const struct gm_mmu_exit *access = gm_mmu_exit(&vcpu->mmu.face);

    return (vcpu->irqchip != NULL && chips_answer_mmio(vcpu)) ||
           (access->access == GM_MMU_WRITE &&
            iobus_write(&vcpu->soft->iobuses, IOBUS_MMIO, access->gpa, access->size_bytes,
                        access->data));
}

bool events_answer(struct gm_soft_vcpu *vcpu, enum x86_exit exit)
{
    return exit == X86_EXIT_IO     ? answer_port(vcpu)
           : exit == X86_EXIT_MMIO ? answer_mmio(vcpu)
                                   : false;
}
