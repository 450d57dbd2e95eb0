/*
 * soft/irqchip/lapic.c - what a local APIC accepts, and in which order it hands it to its processor.
 *
 * Source: SDM 3A, chapter "Advanced Programmable Interrupt Controller (APIC)": "Interrupt Acceptance for Fixed
 * Interrupts", "Task and Processor Priorities", "Logical Destination Mode".
 */
#include "soft/irqchip/lapic.h"

#include "soft/irqchip/chip.h"

#include <string.h>

#define VERSION (0x14u | 5u << 16) /* six entries in the LVT */
#define DFR_FLAT 0xfu
#define VECTOR_FIRST 16u
#define CLASS 0xf0u
#define BROADCAST 0xffu
#define BROADCAST_X2APIC UINT32_MAX
#define ICR_BUSY (1u << 12)
#define LVT_EXTINT (APIC_EXTINT << 8)
#define VECTOR_WORDS 8u

static const uint16_t LVT[] = {
    APIC_LVT_TIMER, APIC_LVT_THERMAL, APIC_LVT_COUNTERS,
    APIC_LVT_LINT0, APIC_LVT_LINT1,   APIC_LVT_ERROR,
};

void lapic_init_reset(struct lapic *lapic)
{
    uint32_t id = lapic_get(lapic, APIC_ID);

    memset(lapic->registers, 0, sizeof(lapic->registers));
    lapic_put(lapic, APIC_ID, id);
    lapic_put(lapic, APIC_VERSION, VERSION);
    lapic_put(lapic, APIC_DFR, UINT32_MAX);
    lapic_put(lapic, APIC_SVR, 0xff);
    for (unsigned i = 0; i < sizeof(LVT) / sizeof(LVT[0]); i++) {
        lapic_put(lapic, LVT[i], APIC_LVT_MASKED);
    }
    /* KVM's way: firmware that knows no APIC has the PICs at the bootstrap processor's LINT0. */
    if (lapic->role == IRQCHIP_BOOTSTRAP) {
        lapic_put(lapic, APIC_LVT_LINT0, LVT_EXTINT);
    }
    if (lapic_is_x2apic(lapic)) {
        lapic_derive_ids(lapic);
    }
    lapic->errors = 0;
    lapic->deadline_ns = IRQCHIP_NEVER;
    lapic->last_tick_ns = 0;
    lapic->tsc_deadline = 0;
    lapic->sipi_pending = false;
}

void lapic_power_up(struct lapic *lapic, unsigned vcpu, enum irqchip_role role)
{
    memset(lapic, 0, sizeof(*lapic));
    lapic->vcpu = vcpu;
    lapic->role = role;
    lapic->base = APIC_BASE_DEFAULT | APIC_BASE_ENABLE;
    lapic->base |= role == IRQCHIP_BOOTSTRAP ? APIC_BASE_BSP : 0;
    lapic_put(lapic, APIC_ID, vcpu << 24);
    lapic_init_reset(lapic);
}

bool lapic_is_present(const struct lapic *lapic)
{
    return (lapic->base & APIC_BASE_ENABLE) != 0;
}

bool lapic_is_enabled(const struct lapic *lapic)
{
    return lapic_is_present(lapic) && (lapic_get(lapic, APIC_SVR) & APIC_SVR_ENABLE) != 0;
}

/* ---- IRR, ISR, TMR: 256 bits each, 32 in a register ---- */

static uint32_t *vector_word(struct lapic *lapic, unsigned at, uint8_t vector)
{
    return &lapic->registers[(at + vector / 32 * 0x10) / 4];
}

static void vector_set(struct lapic *lapic, unsigned at, uint8_t vector, bool set)
{
    uint32_t *word = vector_word(lapic, at, vector);
    uint32_t bit = 1u << vector % 32;

    *word = set ? *word | bit : *word & ~bit;
}

/* The highest vector, or -1. */
static int vector_highest(const struct lapic *lapic, unsigned at)
{
    for (unsigned i = VECTOR_WORDS; i-- > 0;) {
        uint32_t word = lapic_get(lapic, at + i * 0x10);

        if (word != 0) {
            return (int)(i * 32 + 31 - (unsigned)__builtin_clz(word));
        }
    }
    return -1;
}

uint8_t lapic_priority(const struct lapic *lapic)
{
    uint8_t task = (uint8_t)lapic_get(lapic, APIC_TPR);
    int serving = vector_highest(lapic, APIC_ISR);

    return serving >= 0 && (serving & (int)CLASS) > (int)(task & CLASS) ? (uint8_t)serving & CLASS
                                                                        : task;
}

int lapic_due(const struct lapic *lapic)
{
    int vector = vector_highest(lapic, APIC_IRR);

    if (!lapic_is_present(lapic) || vector < 0 ||
        (vector & (int)CLASS) <= (int)(lapic_priority(lapic) & CLASS)) {
        return -1;
    }
    return vector;
}

int lapic_take(struct lapic *lapic)
{
    int vector = lapic_due(lapic);

    if (vector >= 0) {
        vector_set(lapic, APIC_IRR, (uint8_t)vector, false);
        vector_set(lapic, APIC_ISR, (uint8_t)vector, true);
    }
    return vector;
}

static void end_of_interrupt(struct turn *turn, struct lapic *lapic)
{
    int vector = vector_highest(lapic, APIC_ISR);

    if (vector < 0) {
        return;
    }
    vector_set(lapic, APIC_ISR, (uint8_t)vector, false);
    if ((*vector_word(lapic, APIC_TMR, (uint8_t)vector) >> vector % 32 & 1) != 0) {
        ioapic_end_of_interrupt(turn, (uint8_t)vector);
    }
    turn_wake(turn, lapic->vcpu);
}

/* ---- messages ---- */

/*
 * KVM's way, which guests without remapping of interrupts need: 0xff of a device or pin, who know 8 bits, is everyone
 * in x2APIC mode as well, unless KVM_X2APIC_API_DISABLE_BROADCAST_QUIRK says otherwise.
 */
static uint32_t broadcast_of(const struct irqchip *chip, const struct lapic *lapic,
                             const struct apic_message *message)
{
    bool is_exact =
        message->is_ipi || irqchip_has_x2apic_api(chip, KVM_X2APIC_API_DISABLE_BROADCAST_QUIRK);

    return lapic_is_x2apic(lapic) && is_exact ? BROADCAST_X2APIC : BROADCAST;
}

static bool matches_x2apic(const struct lapic *lapic, const struct apic_message *message)
{
    uint32_t to = message->destination;
    uint32_t mine = lapic_get(lapic, message->is_logical ? APIC_LDR : APIC_ID);

    if (!message->is_logical) {
        return to == mine;
    }
    return to >> 16 == mine >> 16 && (to & mine & 0xffff) != 0;
}

bool lapic_matches(const struct irqchip *chip, const struct lapic *lapic,
                   const struct apic_message *message)
{
    uint32_t to = message->destination;
    uint32_t mine = lapic_get(lapic, APIC_LDR) >> 24;

    if (!lapic_is_present(lapic)) {
        return false;
    }
    if (to == broadcast_of(chip, lapic, message)) {
        return true;
    }
    if (lapic_is_x2apic(lapic)) {
        return matches_x2apic(lapic, message);
    }
    if (!message->is_logical) {
        return to == lapic_get(lapic, APIC_ID) >> 24;
    }
    if (lapic_get(lapic, APIC_DFR) >> 28 == DFR_FLAT) {
        return (to & mine) != 0;
    }
    return to >> 4 == mine >> 4 && (to & mine & 0xf) != 0;
}

static bool accept_vector(struct turn *turn, struct lapic *lapic, uint8_t vector, bool is_level)
{
    if (!lapic_is_enabled(lapic)) {
        return false;
    }
    if (vector < VECTOR_FIRST) {
        lapic_error(turn, lapic, APIC_ERROR_RECEIVE_VECTOR);
        return false;
    }
    vector_set(lapic, APIC_TMR, vector, is_level);
    vector_set(lapic, APIC_IRR, vector, true);
    return true;
}

bool lapic_accept(struct turn *turn, struct lapic *lapic, const struct apic_message *message)
{
    switch ((enum apic_mode)message->mode) {
    case APIC_FIXED:
    case APIC_LOWEST:
        if (!accept_vector(turn, lapic, message->vector, message->is_level)) {
            return false;
        }
        break;
    case APIC_NMI:
        lapic->nmi_pending = true;
        break;
    case APIC_INIT:
        lapic->init_pending = true;
        lapic->sipi_pending = false;
        break;
    case APIC_STARTUP:
        lapic->sipi_pending = true;
        lapic->sipi_vector = message->vector;
        break;
    default: /* SMI: there is no system management mode. ExtINT: by LINT0 only. */
        return false;
    }
    turn_wake(turn, lapic->vcpu);
    return true;
}

void lapic_local(struct turn *turn, struct lapic *lapic, unsigned at)
{
    uint32_t entry = lapic_get(lapic, at);
    const struct apic_message message = {.vector = (uint8_t)entry, .mode = entry >> 8 & 7};

    if ((entry & APIC_LVT_MASKED) == 0 &&
        (message.mode == APIC_FIXED || message.mode == APIC_NMI)) {
        (void)lapic_accept(turn, lapic, &message);
    }
}

/* An error's own interrupt may have a vector that is an error, but it is noted once only. */
void lapic_error(struct turn *turn, struct lapic *lapic, enum apic_error error)
{
    bool is_new = (lapic->errors & error) == 0;

    lapic->errors |= error;
    if (is_new) {
        lapic_local(turn, lapic, APIC_LVT_ERROR);
    }
}

bool lapic_wants_pic(const struct lapic *lapic)
{
    uint32_t entry = lapic_get(lapic, APIC_LVT_LINT0);

    return !lapic_is_present(lapic) ||
           ((entry & APIC_LVT_MASKED) == 0 && (entry >> 8 & 7) == APIC_EXTINT);
}

void lapic_pic_rises(struct turn *turn, struct lapic *lapic)
{
    if (lapic_wants_pic(lapic)) {
        turn_wake(turn, lapic->vcpu);
    } else {
        lapic_local(turn, lapic, APIC_LVT_LINT0);
    }
}

/* ---- registers ---- */

/* What of an LVT entry can be written, by its place; timer: two bits of mode. */
static uint32_t lvt_mask(unsigned at)
{
    switch (at) {
    case APIC_LVT_TIMER:
        return 0x700ff;
    case APIC_LVT_THERMAL:
    case APIC_LVT_COUNTERS:
        return 0x107ff;
    case APIC_LVT_LINT0:
    case APIC_LVT_LINT1:
        return 0x1a7ff;
    case APIC_LVT_ERROR:
        return 0x100ff;
    default:
        return 0;
    }
}

static void write_lvt(struct turn *turn, struct lapic *lapic, unsigned at, uint32_t value)
{
    enum apic_timer_mode before = lapic_timer_mode(lapic);

    value &= lvt_mask(at);
    if ((lapic_get(lapic, APIC_SVR) & APIC_SVR_ENABLE) == 0) {
        value |= APIC_LVT_MASKED;
    }
    lapic_put(lapic, at, value);
    if (at == APIC_LVT_TIMER) {
        lapic_timer_mode_changed(lapic, before);
    }
    turn_wake(turn, lapic->vcpu);
}

static void write_svr(struct lapic *lapic, uint32_t value)
{
    lapic_put(lapic, APIC_SVR, value & 0x3ff);
    if ((value & APIC_SVR_ENABLE) == 0) {
        for (unsigned i = 0; i < sizeof(LVT) / sizeof(LVT[0]); i++) {
            lapic_put(lapic, LVT[i], lapic_get(lapic, LVT[i]) | APIC_LVT_MASKED);
        }
    }
}

void lapic_send(struct turn *turn, struct lapic *lapic, uint32_t command, uint32_t destination)
{
    const struct apic_message message = {
        .vector = (uint8_t)command,
        .mode = command >> 8 & 7,
        .is_logical = (command >> 11 & 1) != 0,
        .is_level = (command >> 15 & 1) != 0,
        .destination = destination,
        .is_ipi = true,
    };
    bool is_assert = (command >> 14 & 1) != 0;

    if (message.mode == APIC_INIT && message.is_level && !is_assert) {
        return; /* INIT level de-assert, which processors ignore */
    }
    if (message.mode <= APIC_LOWEST && message.vector < VECTOR_FIRST) {
        lapic_error(turn, lapic, APIC_ERROR_SEND_VECTOR);
        return;
    }
    switch (command >> 18 & 3) {
    case 0:
        (void)bus_send(turn, &message);
        break;
    case 1:
        (void)lapic_accept(turn, lapic, &message);
        break;
    case 2:
        (void)bus_broadcast(turn, &message, NULL);
        break;
    default:
        (void)bus_broadcast(turn, &message, lapic);
        break;
    }
}

/* It is never seen under way. Reserved bits stay, as in KVM. */
void lapic_command(struct turn *turn, struct lapic *lapic, uint32_t command, uint32_t destination)
{
    lapic_put(lapic, APIC_ICR_LOW, command & ~ICR_BUSY);
    lapic_send(turn, lapic, command, destination);
}

void lapic_set_tpr(struct turn *turn, struct lapic *lapic, uint8_t value)
{
    lapic_put(lapic, APIC_TPR, value);
    turn_wake(turn, lapic->vcpu);
}

static void write_esr(struct lapic *lapic)
{
    lapic_put(lapic, APIC_ESR, lapic->errors);
    lapic->errors = 0;
}

/* The timer's registers. Return: whether @at is one of them. */
static bool write_timer(struct turn *turn, struct lapic *lapic, unsigned at, uint32_t value)
{
    if (at == APIC_TIMER_INITIAL) {
        if (lapic_timer_mode(lapic) != APIC_TSC_DEADLINE) {
            lapic_timer_start(lapic, value, turn->now_ns);
        }
    } else if (at == APIC_TIMER_DIVIDE) {
        lapic_timer_divide(lapic, value, turn->now_ns);
    } else {
        return false;
    }
    turn_wake(turn, lapic->vcpu);
    return true;
}

static bool is_readable(unsigned at)
{
    return at <= APIC_TIMER_DIVIDE && at >= APIC_ID &&
           (at <= APIC_VERSION || (at >= APIC_TPR && at <= APIC_ESR) ||
            (at >= APIC_ICR_LOW && at <= APIC_TIMER_CURRENT) || at == APIC_TIMER_DIVIDE);
}

uint32_t lapic_read(struct turn *turn, struct lapic *lapic, unsigned at)
{
    if (!is_readable(at)) {
        lapic_error(turn, lapic, APIC_ERROR_REGISTER);
        return 0;
    }
    switch (at) {
    case APIC_APR:
    case APIC_EOI:
        return 0;
    case APIC_PPR:
        return lapic_priority(lapic);
    case APIC_TIMER_CURRENT:
        return lapic_timer_current(lapic, turn->now_ns);
    default:
        return lapic_get(lapic, at);
    }
}

void lapic_write(struct turn *turn, struct lapic *lapic, unsigned at, uint32_t value)
{
    switch (at) {
    case APIC_ID:
        lapic_put(lapic, APIC_ID, value & 0xff000000);
        return;
    case APIC_TPR:
        lapic_set_tpr(turn, lapic, (uint8_t)value);
        return;
    case APIC_EOI:
        end_of_interrupt(turn, lapic);
        return;
    case APIC_LDR:
        lapic_put(lapic, APIC_LDR, value & 0xff000000);
        return;
    case APIC_DFR:
        lapic_put(lapic, APIC_DFR, value | 0x0fffffff);
        return;
    case APIC_SVR:
        write_svr(lapic, value);
        return;
    case APIC_ESR:
        write_esr(lapic);
        return;
    case APIC_ICR_LOW:
        lapic_command(turn, lapic, value, lapic_get(lapic, APIC_ICR_HIGH) >> 24);
        return;
    case APIC_ICR_HIGH:
        lapic_put(lapic, APIC_ICR_HIGH, value & 0xff000000);
        return;
    default:
        break;
    }
    if (lvt_mask(at) != 0) {
        write_lvt(turn, lapic, at, value);
    } else if (!write_timer(turn, lapic, at, value) && !is_readable(at)) {
        lapic_error(turn, lapic, APIC_ERROR_REGISTER);
    }
}
