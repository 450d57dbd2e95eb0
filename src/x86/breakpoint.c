/* x86/breakpoint.c - what meets a breakpoint, and what comes of it. */
#include "x86/breakpoint.h"

#include "x86/event.h"

#define CR4_DE UINT64_C(8)
#define DR7_ENABLED UINT64_C(0xff)

enum break_kind {
    BREAK_EXECUTE,
    BREAK_WRITE,
    BREAK_PORT,
    BREAK_ACCESS,
};

const uint64_t *breakpoint_registers(const struct x86_vcpu *vcpu)
{
    return vcpu->uses_host_dr ? vcpu->host_dr : vcpu->dr;
}

bool breakpoint_is_any(const struct x86_vcpu *vcpu)
{
    return (breakpoint_registers(vcpu)[7] & DR7_ENABLED) != 0;
}

static bool is_enabled(const uint64_t *dr, unsigned number)
{
    return (dr[7] >> (2 * number) & 3) != 0;
}

static enum break_kind kind_of(const uint64_t *dr, unsigned number)
{
    return (enum break_kind)(dr[7] >> (16 + 4 * number) & 3);
}

/* In both is a byte. */
static bool overlaps(const uint64_t *dr, unsigned number, uint64_t first, unsigned size)
{
    static const uint8_t lengths[] = {1, 2, 8, 4};
    uint64_t length = lengths[dr[7] >> (18 + 4 * number) & 3];
    uint64_t start = dr[number] & ~(length - 1);

    return first - start < length || start - first < size;
}

enum step breakpoint_before(struct x86_vcpu *vcpu)
{
    const uint64_t *dr = breakpoint_registers(vcpu);
    uint64_t linear =
        vcpu->mode == X86_MODE_64 ? vcpu->rip : (uint32_t)(vcpu->segment[X86_CS].base + vcpu->rip);
    uint64_t met = 0;

    if ((vcpu->rflags & X86_FLAG_RF) != 0 || vcpu->is_ss_shadow || vcpu->answer_count != 0) {
        return STEP_NEXT;
    }
    for (unsigned i = 0; i < 4; i++) {
        bool is_met = is_enabled(dr, i) && kind_of(dr, i) == BREAK_EXECUTE && dr[i] == linear;

        met |= (uint64_t)is_met << i;
    }
    if (met == 0) {
        return STEP_NEXT;
    }
    if (vcpu->uses_host_dr) {
        return step_debug(vcpu, X86_DB, met);
    }
    event_note_debug(vcpu, met);
    return step_raise(vcpu, X86_DB);
}

void breakpoint_note_memory(struct x86_vcpu *vcpu, uint64_t linear, unsigned size, bool is_write)
{
    const uint64_t *dr = breakpoint_registers(vcpu);

    for (unsigned i = 0; i < 4; i++) {
        bool is_kind =
            kind_of(dr, i) == BREAK_ACCESS || (kind_of(dr, i) == BREAK_WRITE && is_write);

        if (is_enabled(dr, i) && is_kind && overlaps(dr, i, linear, size)) {
            vcpu->met |= UINT64_C(1) << i;
        }
    }
}

/* Without CR4.DE there are none. */
void breakpoint_note_port(struct x86_vcpu *vcpu, uint16_t port, unsigned size)
{
    const uint64_t *dr = breakpoint_registers(vcpu);

    for (unsigned i = 0; (vcpu->cr4 & CR4_DE) != 0 && i < 4; i++) {
        if (is_enabled(dr, i) && kind_of(dr, i) == BREAK_PORT && overlaps(dr, i, port, size)) {
            vcpu->met |= UINT64_C(1) << i;
        }
    }
}

enum step breakpoint_after(struct x86_vcpu *vcpu)
{
    uint64_t met = vcpu->met;

    if (met == 0 || vcpu->is_ss_shadow) { /* after a load of SS it waits for the next instruction */
        return STEP_NEXT;
    }
    vcpu->met = 0;
    if (vcpu->uses_host_dr) {
        return step_debug(vcpu, X86_DB, met | (vcpu->guest_debug_step ? X86_DR6_BS : 0));
    }
    event_trap_debug(vcpu, met);
    return STEP_NEXT;
}
