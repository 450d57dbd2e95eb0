/* soft/mce.c - machine checks. */
#include "soft/mce.h"

#include "soft/soft.h"
#include "soft/usercopy.h"

#include <errno.h>
#include <string.h>

enum {
    MSR_MCG_CAP = 0x179,
    MSR_MCG_STATUS = 0x17a,
    MSR_MCG_CTL = 0x17b,
    MSR_MC0_CTL = 0x400,
};

enum bank_register {
    BANK_CTL,
    BANK_STATUS,
    BANK_ADDR,
    BANK_MISC,
};

#define CAP_COUNT UINT64_C(0xff)
#define CAP_CTL_P (UINT64_C(1) << 8)
#define CAP_EXT_COUNT UINT64_C(0xff0000)
#define CAP_SER_P (UINT64_C(1) << 24) /* recovery in software is reported */
#define CAP_SUPPORTED (CAP_CTL_P | CAP_SER_P)
#define MCG_STATUS_MCIP UINT64_C(4)
#define STATUS_VAL (UINT64_C(1) << 63)
#define STATUS_OVER (UINT64_C(1) << 62)
#define STATUS_UC (UINT64_C(1) << 61)
#define CR4_MCE UINT64_C(0x40)
#define VECTOR_MC 18u

void mce_init(struct mce *mce)
{
    *mce = (struct mce){.cap = MCE_BANKS};
}

static unsigned bank_count(const struct mce *mce)
{
    return (unsigned)(mce->cap & CAP_COUNT);
}

/* NULL: no bank's. */
static uint64_t *bank_place(struct mce *mce, uint32_t number)
{
    if (number < MSR_MC0_CTL || number - MSR_MC0_CTL >= 4 * bank_count(mce)) {
        return NULL;
    }
    return &mce->banks[(number - MSR_MC0_CTL) / 4][(number - MSR_MC0_CTL) % 4];
}

enum x86_msr_result mce_read_msr(const struct mce *mce, uint32_t number, uint64_t *value)
{
    const uint64_t *place = bank_place((struct mce *)(uintptr_t)mce, number);

    place = number == MSR_MCG_CAP      ? &mce->cap
            : number == MSR_MCG_STATUS ? &mce->status
            : number == MSR_MCG_CTL    ? &mce->ctl
                                       : place;
    if (place == NULL) {
        return X86_MSR_UNKNOWN;
    }
    *value = *place;
    return X86_MSR_DONE;
}

/* Controls are all on or all off; bit 10 of a bank's is one that Linux's guests leave out. A status is cleared, and no more. */
static bool may_write_bank(uint32_t number, uint64_t value, enum x86_msr_writer writer)
{
    switch ((number - MSR_MC0_CTL) % 4) {
    case BANK_CTL:
        return value == 0 || (value | UINT64_C(1) << 10) == UINT64_MAX;
    case BANK_STATUS:
        return value == 0 || writer == X86_MSR_HOST;
    default:
        return true;
    }
}

static enum x86_msr_result write_place(uint64_t *place, uint64_t value, bool is_allowed)
{
    if (!is_allowed) {
        return X86_MSR_REFUSED;
    }
    *place = value;
    return X86_MSR_DONE;
}

enum x86_msr_result mce_write_msr(struct mce *mce, uint32_t number, uint64_t value,
                                  enum x86_msr_writer writer)
{
    uint64_t *place = bank_place(mce, number);

    if (place != NULL) {
        return write_place(place, value, may_write_bank(number, value, writer));
    }
    switch (number) {
    case MSR_MCG_CAP:
        return X86_MSR_REFUSED;
    case MSR_MCG_STATUS:
        return write_place(&mce->status, value, true);
    case MSR_MCG_CTL:
        return write_place(&mce->ctl, value,
                           ((mce->cap & CAP_CTL_P) != 0 || writer == X86_MSR_HOST) &&
                               (value == 0 || value == UINT64_MAX));
    default:
        return X86_MSR_UNKNOWN;
    }
}

long ioctl_get_mce_cap(uint64_t argument)
{
    const uint64_t cap = CAP_SUPPORTED;

    return usercopy_to(argument, &cap, sizeof(cap));
}

long ioctl_setup_mce(struct gm_soft_vcpu *vcpu, uint64_t argument)
{
    struct mce *mce = &vcpu->mce;
    uint64_t cap;
    int rc = usercopy_from(&cap, argument, sizeof(cap));

    if (rc != 0) {
        return rc;
    }
    if ((cap & CAP_COUNT) == 0 || (cap & CAP_COUNT) > MCE_BANKS ||
        (cap & ~(CAP_SUPPORTED | CAP_COUNT | CAP_EXT_COUNT)) != 0) {
        return -EINVAL;
    }
    mce->cap = cap;
    mce->ctl = (cap & CAP_CTL_P) != 0 ? UINT64_MAX : mce->ctl;
    for (unsigned i = 0; i < bank_count(mce); i++) {
        mce->banks[i][BANK_CTL] = UINT64_MAX;
    }
    return 0;
}

/* An interrupt that was to be delivered next waits behind it. */
static void raise_machine_check(struct x86_vcpu *cpu)
{
    if (cpu->is_delivering) {
        x86_begin_anew(cpu);
    }
    if (cpu->event.kind == X86_EVENT_INTERRUPT) {
        cpu->is_interrupt_queued = true;
        cpu->queued_vector = cpu->event.vector;
    }
    cpu->event = (struct x86_event){.kind = X86_EVENT_EXCEPTION, .vector = VECTOR_MC};
}

static void report(uint64_t *bank, const struct kvm_x86_mce *given)
{
    bank[BANK_STATUS] = given->status | (bank[BANK_STATUS] & STATUS_VAL ? STATUS_OVER : 0);
    bank[BANK_ADDR] = given->addr;
    bank[BANK_MISC] = given->misc;
}

/* One that cannot be corrected, of a bank that is on. A guest that is handling one, or handles none, shuts down. */
static void inject(struct gm_soft_vcpu *vcpu, uint64_t *bank, const struct kvm_x86_mce *given)
{
    struct mce *mce = &vcpu->mce;

    if ((mce->status & MCG_STATUS_MCIP) != 0 || (vcpu->x86->cr4 & CR4_MCE) == 0) {
        vcpu->is_shut_down = true;
        return;
    }
    report(bank, given);
    mce->status = given->mcg_status;
    raise_machine_check(vcpu->x86);
}

long ioctl_set_mce(struct gm_soft_vcpu *vcpu, uint64_t argument)
{
    struct mce *mce = &vcpu->mce;
    struct kvm_x86_mce given;
    uint64_t *bank;
    int rc = usercopy_from(&given, argument, sizeof(given));

    if (rc != 0) {
        return rc;
    }
    if (given.bank >= bank_count(mce) || (given.status & STATUS_VAL) == 0) {
        return -EINVAL;
    }
    bank = mce->banks[given.bank];
    if ((given.status & STATUS_UC) != 0) {
        bool is_on =
            ((mce->cap & CAP_CTL_P) == 0 || mce->ctl == UINT64_MAX) && bank[BANK_CTL] == UINT64_MAX;

        if (is_on) {
            inject(vcpu, bank, &given);
        }
    } else if ((bank[BANK_STATUS] & STATUS_VAL) == 0 || (bank[BANK_STATUS] & STATUS_UC) == 0) {
        report(bank, &given);
    } else {
        bank[BANK_STATUS] |= STATUS_OVER;
    }
    return 0;
}
