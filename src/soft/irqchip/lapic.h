/*
 * soft/irqchip/lapic.h - a vCPU's local APIC. Its registers are kept as KVM gives them out: 32 bits, 16 bytes apart.
 *
 * In x2APIC mode (lapic_x2apic.c) these are MSRs: the ID has 32 bits, and ICR is both its halves at once.
 *
 * Its timer is a deadline: the current count follows from it. The APIC's bus runs at 1 GHz, as KVM's.
 */
#ifndef SOFT_IRQCHIP_LAPIC_H
#define SOFT_IRQCHIP_LAPIC_H

#include "soft/irqchip/irqchip.h"

#include "soft/irqchip/bus.h"

#include <linux/kvm.h>
#include <stdbool.h>
#include <stdint.h>

#define APIC_BASE_DEFAULT 0xfee00000u
#define APIC_BASE_BSP (1u << 8)
#define APIC_BASE_X2APIC (1u << 10)
#define APIC_BASE_ENABLE (1u << 11)
#define APIC_PAGE_BYTES 0x1000u

/* Registers, by their place in the page. */
enum apic_register {
    APIC_ID = 0x20,
    APIC_VERSION = 0x30,
    APIC_TPR = 0x80,
    APIC_APR = 0x90,
    APIC_PPR = 0xa0,
    APIC_EOI = 0xb0,
    APIC_LDR = 0xd0,
    APIC_DFR = 0xe0,
    APIC_SVR = 0xf0,
    APIC_ISR = 0x100,
    APIC_TMR = 0x180,
    APIC_IRR = 0x200,
    APIC_ESR = 0x280,
    APIC_ICR_LOW = 0x300,
    APIC_ICR_HIGH = 0x310,
    APIC_LVT_TIMER = 0x320,
    APIC_LVT_THERMAL = 0x330,
    APIC_LVT_COUNTERS = 0x340,
    APIC_LVT_LINT0 = 0x350,
    APIC_LVT_LINT1 = 0x360,
    APIC_LVT_ERROR = 0x370,
    APIC_TIMER_INITIAL = 0x380,
    APIC_TIMER_CURRENT = 0x390,
    APIC_TIMER_DIVIDE = 0x3e0,
    APIC_SELF_IPI = 0x3f0, /* x2APIC mode only */
};

#define APIC_LVT_MASKED (1u << 16)
#define APIC_SVR_ENABLE (1u << 8)

enum apic_timer_mode {
    APIC_ONE_SHOT = 0,
    APIC_PERIODIC = 1,
    APIC_TSC_DEADLINE = 2,
};

struct lapic {
    unsigned vcpu;
    enum irqchip_role role;
    uint32_t registers[KVM_APIC_REG_SIZE / 4];
    uint64_t base;         /* IA32_APIC_BASE */
    uint32_t errors;       /* that a write to ESR will show */
    uint64_t deadline_ns;  /* the timer's; IRQCHIP_NEVER: it does not run */
    uint64_t last_tick_ns; /* when it was last seen to have expired */
    uint64_t tsc_deadline;
    bool nmi_pending;
    bool init_pending;
    bool sipi_pending;
    uint8_t sipi_vector;
};

void lapic_power_up(struct lapic *lapic, unsigned vcpu, enum irqchip_role role);

/* As after INIT: all but the ID and the base. */
void lapic_init_reset(struct lapic *lapic);

static inline uint32_t lapic_get(const struct lapic *lapic, unsigned at)
{
    return lapic->registers[at / 4];
}

static inline void lapic_put(struct lapic *lapic, unsigned at, uint32_t value)
{
    lapic->registers[at / 4] = value;
}

/* By IA32_APIC_BASE; and by the spurious vector's register too. Present ones may be in x2APIC mode. */
bool lapic_is_present(const struct lapic *lapic);
bool lapic_is_enabled(const struct lapic *lapic);

static inline bool lapic_is_x2apic(const struct lapic *lapic)
{
    return (lapic->base & APIC_BASE_X2APIC) != 0;
}

/* Is a message for it? PPR, as a vector. */
bool lapic_matches(const struct irqchip *chip, const struct lapic *lapic,
                   const struct apic_message *message);
uint8_t lapic_priority(const struct lapic *lapic);

/* Return: whether it is taken, pending or made so. */
bool lapic_accept(struct turn *turn, struct lapic *lapic, const struct apic_message *message);

/* The vector that is due, or -1. Taking it begins its service. */
int lapic_due(const struct lapic *lapic);
int lapic_take(struct lapic *lapic);

/* Does LINT0 let the PICs through? Their output has risen: deliver by LINT0's other modes. */
bool lapic_wants_pic(const struct lapic *lapic);
void lapic_pic_rises(struct turn *turn, struct lapic *lapic);

uint32_t lapic_read(struct turn *turn, struct lapic *lapic, unsigned at);
void lapic_write(struct turn *turn, struct lapic *lapic, unsigned at, uint32_t value);
/* A message of the processor's own: as the lower half of ICR has it, to @destination; and by writing that half. */
void lapic_send(struct turn *turn, struct lapic *lapic, uint32_t command, uint32_t destination);
void lapic_command(struct turn *turn, struct lapic *lapic, uint32_t command, uint32_t destination);
void lapic_set_tpr(struct turn *turn, struct lapic *lapic, uint8_t value);

/* SDM 3A, "Error Status Register". */
enum apic_error {
    APIC_ERROR_SEND_VECTOR = 1 << 5,
    APIC_ERROR_RECEIVE_VECTOR = 1 << 6,
    APIC_ERROR_REGISTER = 1 << 7,
};
void lapic_error(struct turn *turn, struct lapic *lapic, enum apic_error error);

/* A local interrupt by its LVT entry at @at, of a mode that has a vector or is NMI. */
void lapic_local(struct turn *turn, struct lapic *lapic, unsigned at);

/* ---- lapic_timer.c ---- */

enum apic_timer_mode lapic_timer_mode(const struct lapic *lapic);
uint32_t lapic_timer_current(const struct lapic *lapic, uint64_t now_ns);
void lapic_timer_start(struct lapic *lapic, uint32_t count, uint64_t now_ns);
void lapic_timer_divide(struct lapic *lapic, uint32_t value, uint64_t now_ns);

/* The LVT's mode was written; it was @before. */
void lapic_timer_mode_changed(struct lapic *lapic, enum apic_timer_mode before);
void lapic_timer_arm_tsc(struct lapic *lapic, uint64_t deadline, uint64_t tsc_now, uint32_t tsc_khz,
                         uint64_t now_ns);

/* Its time has come, if it has. When to ask that next. */
void lapic_timer_expire(struct turn *turn, struct lapic *lapic);
uint64_t lapic_timer_deadline(const struct lapic *lapic);

/* ---- lapic_x2apic.c ---- */

/* IA32_APIC_BASE becomes @value, which is of a mode that there is. */
void lapic_set_base(struct lapic *lapic, uint64_t value);

/* The ID and the logical ID of x2APIC mode, which nobody writes. */
void lapic_derive_ids(struct lapic *lapic);

/* A register by its MSR. Return: false: #GP, and nothing has happened. */
bool lapic_read_msr(struct turn *turn, struct lapic *lapic, uint32_t number, uint64_t *value);
bool lapic_write_msr(struct turn *turn, struct lapic *lapic, uint32_t number, uint64_t value);

/* ---- state; the ID of x2APIC mode as the chips' users want it ---- */

void lapic_get_state(const struct turn *turn, const struct lapic *lapic,
                     struct kvm_lapic_state *state);
/* Return: 0; -EINVAL another ID than the APIC has in x2APIC mode, by users of 32-bit IDs. */
int lapic_set_state(struct turn *turn, struct lapic *lapic, const struct kvm_lapic_state *state);

#endif
