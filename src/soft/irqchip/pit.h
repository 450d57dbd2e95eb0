/*
 * soft/irqchip/pit.h - the 8254 of a PC, and port 0x61: three counters whose values follow from the time.
 *
 * A counter's state is kept as KVM gives it out, and beside it what KVM has no place for. A counter counts from the
 * write of its count's last byte, not from the clock pulse after it.
 */
#ifndef SOFT_IRQCHIP_PIT_H
#define SOFT_IRQCHIP_PIT_H

#include <linux/kvm.h>
#include <stdbool.h>
#include <stdint.h>

#define PIT_HZ 1193182u
#define PIT_COUNTERS 3u

struct pit_counter {
    struct kvm_pit_channel_state state;
    bool is_empty;       /* a mode, or half a count, was written, and its count is yet to come */
    bool is_untriggered; /* modes 1 and 5: the gate has not risen since the count came */
    uint64_t stopped_ns; /* when the gate went low, while it is */
};

struct pit {
    struct pit_counter counters[PIT_COUNTERS];
    uint32_t flags; /* KVM_PIT_FLAGS_* */
    bool has_port61;
    uint64_t edge_ns;      /* when OUT 0 rises next; IRQCHIP_NEVER */
    uint64_t last_edge_ns; /* when it was last seen to have risen */
};

void pit_reset(struct pit *pit, bool has_port61, uint64_t now_ns);

bool pit_owns(const struct pit *pit, uint16_t port);
uint8_t pit_read(struct pit *pit, uint16_t port, uint64_t now_ns);
void pit_write(struct pit *pit, uint16_t port, uint8_t value, uint64_t now_ns);

/* Has OUT 0 risen since the last call? */
bool pit_expire(struct pit *pit, uint64_t now_ns);

/* When to call that next, at the latest. */
uint64_t pit_deadline(const struct pit *pit);

void pit_get(const struct pit *pit, struct kvm_pit_state2 *state);
void pit_set(struct pit *pit, const struct kvm_pit_state2 *state, uint64_t now_ns);

#endif
