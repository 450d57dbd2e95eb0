/*
 * soft/irqchip/pit.c - 8254: control words, latches, and what a counter holds after some time in each mode.
 *
 * Of the data sheet's letter, a new count for a counter that counts holds at once in modes 2 and 3 too, not from the
 * next period on: as in KVM, whose state has no place for two counts.
 * Source: Intel 8254 data sheet; port 0x61: IBM's technical reference of the PC AT, KVM_CREATE_PIT2 in api.rst.
 */
#include "soft/irqchip/pit.h"

#include "soft/irqchip/irqchip.h"

#include <string.h>

#define NS_PER_S UINT64_C(1000000000)
#define PORT_COUNTER_0 0x40u
#define PORT_CONTROL 0x43u
#define PORT_61 0x61u

#define COUNT_MAX_BINARY 0x10000u
#define COUNT_MAX_BCD 10000u

#define CONTROL_BCD 0x01u
#define READ_BACK 3u
#define READ_BACK_NO_COUNT 0x20u
#define READ_BACK_NO_STATUS 0x10u
#define STATUS_OUT 0x80u
#define STATUS_NULL_COUNT 0x40u

/* How a count is read and written, and what of it comes next: KVM's numbers. */
enum rw {
    RW_LATCH = 0,
    RW_LOW = 1,
    RW_HIGH = 2,
    RW_WORD_LOW = 3,
    RW_WORD_HIGH = 4,
};

#define PORT_61_GATE 0x01u
#define PORT_61_SPEAKER 0x02u
#define PORT_61_REFRESH 0x10u
#define PORT_61_OUT 0x20u
#define REFRESH_NS 15085u /* 18 clocks */

/* Modes 6 and 7 are 2 and 3; what is no mode at all (KVM's 0xff after reset) does not count. */
static unsigned mode_of(const struct pit_counter *counter)
{
    unsigned mode = counter->state.mode;

    if (mode > 7) {
        return 0;
    }
    return mode > 5 ? mode - 4 : mode;
}

static uint32_t modulus_of(const struct pit_counter *counter)
{
    return counter->state.bcd != 0 ? COUNT_MAX_BCD : COUNT_MAX_BINARY;
}

/* The count as it is counted from, 1 to 0x10000, whatever was set. */
static uint32_t count_of(const struct pit_counter *counter)
{
    uint32_t count = counter->state.count;

    return count == 0 || count > modulus_of(counter) ? modulus_of(counter) : count;
}

static bool has_mode(const struct pit_counter *counter)
{
    return counter->state.mode <= 7;
}

static bool is_periodic(const struct pit_counter *counter)
{
    return mode_of(counter) == 2 || mode_of(counter) == 3;
}

/* a * b / c; 128 bits in between. */
static uint64_t scale(uint64_t a, uint64_t b, uint64_t c)
{
    return (uint64_t)((unsigned __int128)a * b / c);
}

/* Clocks that were counted since the count was loaded. */
static uint64_t clocks_of(const struct pit_counter *counter, uint64_t now_ns)
{
    uint64_t loaded_ns = (uint64_t)counter->state.count_load_time;
    uint64_t until_ns = now_ns;

    if (counter->state.gate == 0 && mode_of(counter) != 1 && mode_of(counter) != 5) {
        until_ns = counter->stopped_ns;
    }
    return until_ns <= loaded_ns ? 0 : scale(until_ns - loaded_ns, PIT_HZ, NS_PER_S);
}

/* The time of that many clocks after the load, rounded up: by then they are over. */
static uint64_t time_of(const struct pit_counter *counter, uint64_t clocks)
{
    unsigned __int128 ns = (unsigned __int128)clocks * NS_PER_S + PIT_HZ - 1;
    unsigned __int128 at = ns / PIT_HZ + (uint64_t)counter->state.count_load_time;

    return at < IRQCHIP_NEVER ? (uint64_t)at : IRQCHIP_NEVER;
}

static bool out_of(const struct pit_counter *counter, uint64_t now_ns)
{
    uint32_t count = count_of(counter);
    uint64_t clocks;

    if (!has_mode(counter)) {
        return false;
    }
    if (counter->is_empty || counter->is_untriggered) {
        return mode_of(counter) != 0;
    }
    if (is_periodic(counter) && counter->state.gate == 0) {
        return true;
    }
    clocks = clocks_of(counter, now_ns);
    switch (mode_of(counter)) {
    case 0:
    case 1:
        return clocks >= count;
    case 2:
        return clocks % count != count - 1;
    case 3:
        return clocks % count < (count + 1) / 2;
    default:
        return clocks != count;
    }
}

/* What is counted down, as a binary number below the modulus. */
static uint32_t value_of(const struct pit_counter *counter, uint64_t now_ns)
{
    uint32_t modulus = modulus_of(counter);
    uint32_t count = count_of(counter);
    uint64_t clocks;
    uint32_t place;

    if (counter->is_empty || counter->is_untriggered) {
        return count % modulus;
    }
    clocks = clocks_of(counter, now_ns);
    switch (mode_of(counter)) {
    case 2:
        return (uint32_t)(count - clocks % count) % modulus;
    case 3:
        /* Down by two, twice a period; an odd count is one less and stays at 0 for a clock while OUT is high. */
        place = (uint32_t)(clocks % count);
        if (place >= (count + 1) / 2) {
            place -= (count + 1) / 2;
        }
        return ((count & ~1u) - 2 * place) % modulus;
    default:
        return (uint32_t)((count + modulus - clocks % modulus) % modulus);
    }
}

static uint16_t encode(const struct pit_counter *counter, uint32_t value)
{
    if (counter->state.bcd == 0) {
        return (uint16_t)value;
    }
    return (uint16_t)(value / 1000 % 10 << 12 | value / 100 % 10 << 8 | value / 10 % 10 << 4 |
                      value % 10);
}

/* Nibbles that are no digits count for what they are. */
static uint32_t decode(const struct pit_counter *counter, uint16_t value)
{
    if (counter->state.bcd == 0) {
        return value;
    }
    return (value >> 12) * 1000u + (value >> 8 & 15) * 100u + (value >> 4 & 15) * 10u +
           (value & 15);
}

/* When OUT of counter 0 rises next after @now_ns; its gate is always high. */
static uint64_t next_edge(const struct pit *pit, uint64_t now_ns)
{
    const struct pit_counter *counter = &pit->counters[0];
    uint64_t count = count_of(counter);
    uint64_t edge_ns = IRQCHIP_NEVER;

    if ((pit->flags & KVM_PIT_FLAGS_HPET_LEGACY) != 0 || !has_mode(counter) || counter->is_empty ||
        counter->is_untriggered) {
        return IRQCHIP_NEVER;
    }
    if (is_periodic(counter)) {
        edge_ns = time_of(counter, (clocks_of(counter, now_ns) / count + 1) * count);
    } else if (clocks_of(counter, now_ns) < count) {
        edge_ns = time_of(counter, mode_of(counter) < 4 ? count : count + 1);
    }
    return edge_ns;
}

static void load(struct pit *pit, unsigned index, uint32_t count, uint64_t now_ns)
{
    struct pit_counter *counter = &pit->counters[index];
    unsigned mode = mode_of(counter);

    counter->state.count = count == 0 ? modulus_of(counter) : count;
    counter->state.count_load_time = (int64_t)now_ns;
    counter->stopped_ns = now_ns;
    counter->is_empty = false;
    counter->is_untriggered = mode == 1 || mode == 5;
    if (index == 0) {
        pit->edge_ns = next_edge(pit, now_ns);
    }
}

void pit_reset(struct pit *pit, bool has_port61, uint64_t now_ns)
{
    memset(pit, 0, sizeof(*pit));
    pit->has_port61 = has_port61;
    for (unsigned i = 0; i < PIT_COUNTERS; i++) {
        pit->counters[i].state.mode = 0xff;
        pit->counters[i].state.gate = i != 2;
        load(pit, i, 0, now_ns);
    }
}

bool pit_owns(const struct pit *pit, uint16_t port)
{
    return (port & ~3u) == PORT_COUNTER_0 || (port == PORT_61 && pit->has_port61);
}

static void set_gate(struct pit_counter *counter, bool gate, uint64_t now_ns)
{
    bool was = counter->state.gate != 0;

    counter->state.gate = gate;
    if (was == gate) {
        return;
    }
    if (!gate) {
        counter->stopped_ns = now_ns;
        return;
    }
    switch (mode_of(counter)) {
    case 0:
    case 4: /* goes on where it stopped */
        counter->state.count_load_time += (int64_t)(now_ns - counter->stopped_ns);
        break;
    default: /* a trigger */
        counter->state.count_load_time = (int64_t)now_ns;
        counter->is_untriggered = counter->is_empty;
        break;
    }
}

static void latch_count(struct pit_counter *counter, uint64_t now_ns)
{
    if (counter->state.count_latched == 0) {
        counter->state.latched_count = encode(counter, value_of(counter, now_ns));
        counter->state.count_latched = counter->state.rw_mode;
    }
}

static void latch_status(struct pit_counter *counter, uint64_t now_ns)
{
    if (counter->state.status_latched == 0) {
        counter->state.status =
            (uint8_t)((out_of(counter, now_ns) ? STATUS_OUT : 0) |
                      (counter->is_empty ? STATUS_NULL_COUNT : 0) |
                      (counter->state.rw_mode & 3u) << 4 | (counter->state.mode & 7u) << 1 |
                      (counter->state.bcd & 1u));
        counter->state.status_latched = 1;
    }
}

static void write_read_back(struct pit *pit, uint8_t value, uint64_t now_ns)
{
    for (unsigned i = 0; i < PIT_COUNTERS; i++) {
        if ((value >> (i + 1) & 1) == 0) {
            continue;
        }
        if ((value & READ_BACK_NO_COUNT) == 0) {
            latch_count(&pit->counters[i], now_ns);
        }
        if ((value & READ_BACK_NO_STATUS) == 0) {
            latch_status(&pit->counters[i], now_ns);
        }
    }
}

static void write_control(struct pit *pit, uint8_t value, uint64_t now_ns)
{
    unsigned index = value >> 6;
    unsigned rw = value >> 4 & 3;
    struct pit_counter *counter;

    if (index == READ_BACK) {
        write_read_back(pit, value, now_ns);
        return;
    }
    counter = &pit->counters[index];
    if (rw == RW_LATCH) {
        latch_count(counter, now_ns);
        return;
    }
    counter->state.rw_mode = (uint8_t)rw;
    counter->state.read_state = (uint8_t)rw;
    counter->state.write_state = (uint8_t)rw;
    counter->state.mode = value >> 1 & 7;
    counter->state.bcd = value & CONTROL_BCD;
    counter->state.count_latched = 0;
    counter->state.status_latched = 0;
    counter->is_empty = true;
    if (index == 0) {
        pit->edge_ns = IRQCHIP_NEVER;
    }
}

static void write_counter(struct pit *pit, unsigned index, uint8_t value, uint64_t now_ns)
{
    struct pit_counter *counter = &pit->counters[index];
    uint16_t word = value;

    switch ((enum rw)counter->state.write_state) {
    case RW_LOW:
        break;
    case RW_HIGH:
        word = (uint16_t)(value << 8);
        break;
    case RW_WORD_LOW:
        counter->state.write_latch = value;
        counter->state.write_state = RW_WORD_HIGH;
        if (mode_of(counter) == 0) {
            counter->is_empty = true; /* the first byte stops it */
            pit->edge_ns = index == 0 ? IRQCHIP_NEVER : pit->edge_ns;
        }
        return;
    case RW_WORD_HIGH:
        word = (uint16_t)(counter->state.write_latch | value << 8);
        counter->state.write_state = RW_WORD_LOW;
        break;
    default: /* no control word came yet */
        return;
    }
    load(pit, index, decode(counter, word), now_ns);
}

static uint8_t read_latched(struct pit_counter *counter)
{
    uint16_t word = counter->state.latched_count;

    switch ((enum rw)counter->state.count_latched) {
    case RW_HIGH:
    case RW_WORD_HIGH:
        counter->state.count_latched = 0;
        return (uint8_t)(word >> 8);
    case RW_WORD_LOW:
        counter->state.count_latched = RW_WORD_HIGH;
        return (uint8_t)word;
    default:
        counter->state.count_latched = 0;
        return (uint8_t)word;
    }
}

static uint8_t read_counter(struct pit_counter *counter, uint64_t now_ns)
{
    uint16_t word;

    if (counter->state.status_latched != 0) {
        counter->state.status_latched = 0;
        return counter->state.status;
    }
    if (counter->state.count_latched != 0) {
        return read_latched(counter);
    }
    word = encode(counter, value_of(counter, now_ns));
    switch ((enum rw)counter->state.read_state) {
    case RW_HIGH:
        return (uint8_t)(word >> 8);
    case RW_WORD_LOW:
        counter->state.read_state = RW_WORD_HIGH;
        return (uint8_t)word;
    case RW_WORD_HIGH:
        counter->state.read_state = RW_WORD_LOW;
        return (uint8_t)(word >> 8);
    default:
        return (uint8_t)word;
    }
}

static uint8_t read_port61(const struct pit *pit, uint64_t now_ns)
{
    const struct pit_counter *speaker = &pit->counters[2];
    unsigned value = speaker->state.gate != 0 ? PORT_61_GATE : 0;

    if ((pit->flags & KVM_PIT_FLAGS_SPEAKER_DATA_ON) != 0) {
        value |= PORT_61_SPEAKER;
    }
    if (out_of(speaker, now_ns)) {
        value |= PORT_61_OUT;
    }
    return (uint8_t)(value | (now_ns / REFRESH_NS % 2 != 0 ? PORT_61_REFRESH : 0));
}

uint8_t pit_read(struct pit *pit, uint16_t port, uint64_t now_ns)
{
    if (port == PORT_61) {
        return read_port61(pit, now_ns);
    }
    return port == PORT_CONTROL ? 0 : read_counter(&pit->counters[port & 3], now_ns);
}

void pit_write(struct pit *pit, uint16_t port, uint8_t value, uint64_t now_ns)
{
    if (port == PORT_61) {
        pit->flags &= ~KVM_PIT_FLAGS_SPEAKER_DATA_ON;
        if ((value & PORT_61_SPEAKER) != 0) {
            pit->flags |= KVM_PIT_FLAGS_SPEAKER_DATA_ON;
        }
        set_gate(&pit->counters[2], (value & PORT_61_GATE) != 0, now_ns);
    } else if (port == PORT_CONTROL) {
        write_control(pit, value, now_ns);
    } else {
        write_counter(pit, port & 3, value, now_ns);
    }
}

bool pit_expire(struct pit *pit, uint64_t now_ns)
{
    if (now_ns < pit_deadline(pit)) {
        return false;
    }
    pit->edge_ns = next_edge(pit, now_ns);
    pit->last_edge_ns = now_ns;
    return true;
}

uint64_t pit_deadline(const struct pit *pit)
{
    uint64_t soonest_ns = pit->last_edge_ns + IRQCHIP_TICK_MIN_NS;

    return pit->edge_ns > soonest_ns ? pit->edge_ns : soonest_ns;
}

void pit_get(const struct pit *pit, struct kvm_pit_state2 *state)
{
    memset(state, 0, sizeof(*state));
    for (unsigned i = 0; i < PIT_COUNTERS; i++) {
        state->channels[i] = pit->counters[i].state;
    }
    state->flags = pit->flags;
}

/* A counter whose state says that it waits for a trigger is not to be told from one that had it: it had. */
void pit_set(struct pit *pit, const struct kvm_pit_state2 *state, uint64_t now_ns)
{
    pit->flags = state->flags;
    for (unsigned i = 0; i < PIT_COUNTERS; i++) {
        pit->counters[i].state = state->channels[i];
        pit->counters[i].state.gate = i < 2 || state->channels[i].gate != 0;
        load(pit, i, state->channels[i].count, now_ns);
        pit->counters[i].is_untriggered = pit->counters[i].is_untriggered && i < 2;
    }
}
