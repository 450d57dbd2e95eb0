/*
 * soft/irqchip/irqchip.h - the software KVM's interrupt chips, as this room shows them to others: two
 * 8259A, an 8254, an IOAPIC, and a local APIC for each vCPU, with the state and the errors of Linux's KVM.
 *
 * The room knows neither memory nor processors. Whoever runs vCPUs
 *   - asks it first about each access to a port or to MMIO: irqchip_port_read() and its like, which say
 *     whether the address is the chips';
 *   - looks at irqchip_vcpu_pending() between instructions, once `wake` was called for the vCPU or the
 *     time of irqchip_deadline_ns() has come, and takes what is there: irqchip_take_interrupt() and its like;
 *   - sleeps in HLT until irqchip_deadline_ns() or `wake`, whichever comes first.
 *
 * Nothing here runs by itself. Each call first brings the timers up to its own time: what has expired since
 * the last call happens then, and several ticks of one timer that were due are one.
 *
 * Context: any thread, any number at once, unless said otherwise. One lock (rank IRQ) is held for the length
 * of a call's arithmetic; neither callback is called under it. Nothing blocks otherwise or allocates, but for
 * making things. Whatever a guest writes is harmless.
 *
 * Source: Intel's data sheets of the 8259A, the 8254 and the 82093AA; SDM 3A, "Advanced Programmable
 * Interrupt Controller (APIC)"; for states, routes and errors Linux api.rst. Where KVM and a data sheet
 * differ, and a guest's state would show it, it is KVM's way, and said so at the place.
 */
#ifndef SOFT_IRQCHIP_IRQCHIP_H
#define SOFT_IRQCHIP_IRQCHIP_H

#include <guestmem/types.h>

#include <linux/kvm.h>

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct irqchip;

/* vCPUs have numbers below this, which are their APIC IDs: 0xff is everyone. */
#define IRQCHIP_VCPUS 255u
#define IRQCHIP_NEVER UINT64_MAX
/* A timer that expires more often than this is late. As KVM's min_timer_period_us. */
#define IRQCHIP_TICK_MIN_NS 200000u

struct irqchip_options {
    const struct gm_allocator *allocator; /* borrowed as long as the chips live; NULL: malloc */
    unsigned gpa_bits;                    /* of guests' addresses: of the APIC base; 0: 52 */
    uint32_t tsc_khz;                     /* of vCPUs, for the TSC deadline; 0: 1,000,000 */

    /*
     * The time in ns, which only rises. Called from any call's thread, before the lock is taken.
     */
    uint64_t (*now_ns)(void *opaque);

    /*
     * Something has become pending for a vCPU, or its deadline may be earlier than it was. Called from the
     * thread whose call was the reason, with no lock of this room held, so it may call the room and take any
     * lock that its caller allows. It may come for nothing, more than once, and after
     * irqchip_vcpu_remove() has returned: it knows the vCPU by its number.
     */
    void (*wake)(void *opaque, unsigned vcpu);

    /* A guest has ended an interrupt of a pin that GSI leads to: NULL, or called as `wake`, before the call returns. */
    void (*ended)(void *opaque, uint32_t gsi);
    void *opaque;
};

/*
 * Make the chips: PICs, IOAPIC and the default routes; no PIT yet, no vCPUs.
 * Return: 0; -EINVAL no clock, no wake; -ENOMEM; what pthread_mutex_init() says.
 */
int irqchip_new(const struct irqchip_options *options, struct irqchip **out);

/* No call is in progress, no vCPU is left. NULL is allowed. */
void irqchip_free(struct irqchip *chip);

enum irqchip_role {
    IRQCHIP_BOOTSTRAP, /* the processor that firmware begins on: there is one */
    IRQCHIP_APPLICATION,
};

/*
 * A local APIC comes or goes.
 * Return: 0; -EINVAL a number that no APIC has; -EEXIST it has one; -ENOMEM.
 */
int irqchip_vcpu_add(struct irqchip *chip, unsigned vcpu, enum irqchip_role role);
void irqchip_vcpu_remove(struct irqchip *chip, unsigned vcpu);

/* ---- the guest's accesses; a vCPU that has no APIC sees no APIC page ---- */

/*
 * Ports: 0x20, 0x21, 0xa0, 0xa1, 0x4d0, 0x4d1; with a PIT 0x40 to 0x43; with its speaker 0x61. The first byte's port
 * decides; an access of several bytes is one of consecutive ports, and those that are nobody's read as ones.
 * @size_bytes is 1, 2 or 4.
 * Return: whether it is the chips'; if not, nothing has happened.
 */
bool irqchip_port_read(struct irqchip *chip, uint16_t port, unsigned size_bytes, uint32_t *value);
bool irqchip_port_write(struct irqchip *chip, uint16_t port, unsigned size_bytes, uint32_t value);

/*
 * MMIO: the vCPU's APIC page where its APIC base says (where its APIC is disabled or in x2APIC mode, reads are ones and
 * writes are dropped, as in KVM), and 256 bytes of the IOAPIC. Registers are 32 bits wide and
 * 16 bytes apart: reads within one give its bytes, other reads zeroes; APIC writes that are not just one
 * register are dropped. @size_bytes is 1 to 8.
 * Return: as above.
 */
bool irqchip_mmio_read(struct irqchip *chip, unsigned vcpu, uint64_t gpa, unsigned size_bytes,
                       void *data);
bool irqchip_mmio_write(struct irqchip *chip, unsigned vcpu, uint64_t gpa, unsigned size_bytes,
                        const void *data);

/* ---- a vCPU's registers that are the APIC's ---- */

/*
 * IA32_APIC_BASE. Without an APIC it reads 0. In x2APIC mode the APIC's registers are MSRs alone, and its ID is the
 * vCPU's number; an APIC that is enabled begins with that ID too. All else stays, as in KVM.
 * Set: -EINVAL no APIC; what raises #GP of any writer: reserved bits, x2APIC mode of an APIC that is disabled. Whether
 * the vCPU has that mode, and may go there from where it is, is for the caller.
 */
uint64_t irqchip_apic_base(struct irqchip *chip, unsigned vcpu);
int irqchip_set_apic_base(struct irqchip *chip, unsigned vcpu, uint64_t value);

/*
 * RDMSR and WRMSR of @number, IRQCHIP_X2APIC_FIRST to _LAST. A whole ICR is written at once. KVM's way: reserved bits of
 * the lower half are dropped, but of ICR, ESR and SELF_IPI, of which they are #GP as the SDM has it.
 * Return: false: #GP, and nothing has happened: no APIC, not in x2APIC mode, no such register, not for reading or
 * writing, a value that it cannot have.
 */
#define IRQCHIP_X2APIC_FIRST 0x800u
#define IRQCHIP_X2APIC_LAST 0x8ffu
bool irqchip_read_x2apic(struct irqchip *chip, unsigned vcpu, uint32_t number, uint64_t *value);
bool irqchip_write_x2apic(struct irqchip *chip, unsigned vcpu, uint32_t number, uint64_t value);

/*
 * KVM_CAP_X2APIC_API: from now on, for good. KVM_X2APIC_API_USE_32BIT_IDS: states have IDs of x2APIC mode as they are
 * instead of shifted by 24, and the upper half of MSIs' addresses counts. _DISABLE_BROADCAST_QUIRK: see
 * lapic_matches(). Users say so before the calls that it is about.
 */
void irqchip_use_x2apic_api(struct irqchip *chip, unsigned flags);

/* CR8: the upper half of TPR. Set takes the low four bits: that others raise #GP is for the caller. */
uint8_t irqchip_cr8(struct irqchip *chip, unsigned vcpu);
void irqchip_set_cr8(struct irqchip *chip, unsigned vcpu, uint8_t value);

/*
 * IA32_TSC_DEADLINE, for a vCPU whose TSC says @tsc_now. A deadline of 0 disarms; a timer that is in another
 * mode reads 0 and ignores writes. Who sets a vCPU's TSC writes the deadline again.
 */
uint64_t irqchip_tsc_deadline(struct irqchip *chip, unsigned vcpu);
void irqchip_set_tsc_deadline(struct irqchip *chip, unsigned vcpu, uint64_t deadline,
                              uint64_t tsc_now);

/* ---- what is pending for a vCPU ---- */

enum irqchip_event {
    IRQCHIP_INTERRUPT = 1 << 0, /* a maskable interrupt that TPR and service let through */
    IRQCHIP_NMI = 1 << 1,
    IRQCHIP_INIT = 1 << 2,
    IRQCHIP_SIPI = 1 << 3,
};

/* Bits of enum irqchip_event. */
unsigned irqchip_vcpu_pending(struct irqchip *chip, unsigned vcpu);

/*
 * Acknowledge: an interrupt of the PICs, where LINT0 lets it through, comes before one of the APIC's own.
 * Return: the vector; -1 none is pending any more.
 */
int irqchip_take_interrupt(struct irqchip *chip, unsigned vcpu);

/* Was one pending? It is not any more. */
bool irqchip_take_nmi(struct irqchip *chip, unsigned vcpu);

/* As above. The APIC is then as after INIT: reset but for its ID and base, and no SIPI is pending. */
bool irqchip_take_init(struct irqchip *chip, unsigned vcpu);

/*
 * Return: the vector, whose page the vCPU starts in; -1 none. A vCPU that does not wait for one takes it too,
 * and goes on.
 */
int irqchip_take_sipi(struct irqchip *chip, unsigned vcpu);

/* An NMI from elsewhere: KVM_NMI. */
void irqchip_post_nmi(struct irqchip *chip, unsigned vcpu);

/*
 * When the vCPU should call again at the latest, in ns of the clock, or IRQCHIP_NEVER: its timer's or the PIT's
 * next tick. A time in the past says now.
 */
uint64_t irqchip_deadline_ns(struct irqchip *chip, unsigned vcpu);

/* ---- devices ---- */

/*
 * Set a GSI's line. By default 0 to 15 lead to the PICs and the IOAPIC, 16 to 23 to the IOAPIC, to the pins of their
 * numbers: that the PC's timer is at the IOAPIC's pin 2 is for a VMM to say by routes, as with KVM.
 * Return: as the status of KVM_IRQ_LINE_STATUS: more than 0 for how many it was delivered to, 0 it was pending
 * already or nobody took it, -1 it was ignored or masked.
 */
int irqchip_set_line(struct irqchip *chip, uint32_t gsi, bool level);

/*
 * The same for another wire of the line, which is high while any of them is: it falls by itself when the guest ends the interrupt
 * at one of the pins that the GSI leads to, before the chips look at the line again.
 */
int irqchip_resample_line(struct irqchip *chip, uint32_t gsi, bool level);

/* A message-signalled interrupt. Return: how many took it. */
int irqchip_msi(struct irqchip *chip, uint64_t address, uint32_t data);

/* ---- requests of the ioctl face: structures are the caller's copies ---- */

/*
 * @chip is NULL where the VM has none. Return: 0, or as each says; all of them as Linux.
 */

/* KVM_CREATE_IRQCHIP, before it is made: -EEXIST there is one; -EINVAL there are vCPUs. */
int irqchip_check_create(const struct irqchip *chip, bool has_vcpus);

/* KVM_IRQ_LINE and _STATUS: -ENXIO. The status is put in place of the number. */
int irqchip_ioctl_line(struct irqchip *chip, struct kvm_irq_level *line);

/* KVM_CREATE_PIT2: -EEXIST there is one; -ENOENT no chips. */
int irqchip_ioctl_create_pit(struct irqchip *chip, const struct kvm_pit_config *config);

/* KVM_GET_IRQCHIP, KVM_SET_IRQCHIP by `chip_id`: -ENXIO; -EINVAL an unknown one. */
int irqchip_ioctl_get(struct irqchip *chip, struct kvm_irqchip *state);
int irqchip_ioctl_set(struct irqchip *chip, const struct kvm_irqchip *state);

/* KVM_GET_PIT2, KVM_SET_PIT2: -ENXIO. Counters that are set begin to count at once, as in KVM. */
int irqchip_ioctl_get_pit(struct irqchip *chip, struct kvm_pit_state2 *state);
int irqchip_ioctl_set_pit(struct irqchip *chip, const struct kvm_pit_state2 *state);

/*
 * KVM_GET_LAPIC, KVM_SET_LAPIC: -EINVAL no chips, no such vCPU; in x2APIC mode, with KVM_X2APIC_API_USE_32BIT_IDS, an ID
 * that is not its. Without that it is passed over, as in KVM; the logical ID is in any case.
 */
int irqchip_ioctl_get_lapic(struct irqchip *chip, unsigned vcpu, struct kvm_lapic_state *state);
int irqchip_ioctl_set_lapic(struct irqchip *chip, unsigned vcpu,
                            const struct kvm_lapic_state *state);

/* KVM_SIGNAL_MSI: -EINVAL no chips, flags. Else what irqchip_msi() returns. */
int irqchip_ioctl_msi(struct irqchip *chip, const struct kvm_msi *msi);

/*
 * KVM_SET_GSI_ROUTING, header and its @header->nr entries: -EINVAL no chips, flags, more entries or a higher GSI than
 * 4,096 allow, a type other than irqchip and MSI, a chip or pin that there is not, two of a GSI that are not
 * for different chips; -ENOMEM. On error the old routes hold.
 */
int irqchip_ioctl_routing(struct irqchip *chip, const struct kvm_irq_routing *header,
                          const struct kvm_irq_routing_entry *entries);

#define IRQCHIP_ROUTES_MAX 4096u

#endif
