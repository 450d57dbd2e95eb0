/*
 * soft/hooks.c - what the interpreter asks of a software VM: MSRs, each of the part that has it, and CR8.
 */
#include "soft/soft.h"

#define MSR_PLATFORM_INFO 0xceu
#define PLATFORM_CPUID_FAULT (UINT64_C(1) << 31) /* which is not there */

static enum x86_msr_result read_platform_info(const struct gm_soft_vcpu *vcpu, uint32_t number,
                                              uint64_t *value)
{
    if (number != MSR_PLATFORM_INFO) {
        return X86_MSR_UNKNOWN;
    }
    *value = vcpu->platform_info;
    return X86_MSR_DONE;
}

static enum x86_msr_result write_platform_info(struct gm_soft_vcpu *vcpu, uint32_t number,
                                               uint64_t value, enum x86_msr_writer writer)
{
    if (number != MSR_PLATFORM_INFO) {
        return X86_MSR_UNKNOWN;
    }
    if (writer == X86_MSR_GUEST || (value & PLATFORM_CPUID_FAULT) != 0) {
        return X86_MSR_REFUSED;
    }
    vcpu->platform_info = value;
    return X86_MSR_DONE;
}

static enum x86_msr_result read_msr(void *opaque, uint32_t number, uint64_t *value)
{
    struct gm_soft_vcpu *vcpu = opaque;
    enum x86_msr_result result = chips_read_msr(vcpu, number, value);

    result = result != X86_MSR_UNKNOWN ? result : clock_read_msr(vcpu, number, value);
    result = result != X86_MSR_UNKNOWN ? result : mce_read_msr(&vcpu->mce, number, value);
    return result != X86_MSR_UNKNOWN ? result : read_platform_info(vcpu, number, value);
}

static enum x86_msr_result write_msr(void *opaque, uint32_t number, uint64_t value,
                                     enum x86_msr_writer writer)
{
    struct gm_soft_vcpu *vcpu = opaque;
    enum x86_msr_result result = chips_write_msr(vcpu, number, value, writer);

    result = result != X86_MSR_UNKNOWN ? result : clock_write_msr(vcpu, number, value, writer);
    result = result != X86_MSR_UNKNOWN ? result : mce_write_msr(&vcpu->mce, number, value, writer);
    return result != X86_MSR_UNKNOWN ? result : write_platform_info(vcpu, number, value, writer);
}

/* x2APIC's cannot be filtered, as api.rst has it. A guest that MSR_PLATFORM_INFO is hidden from takes it for one that there is not. */
static bool allows_msr(void *opaque, uint32_t number, bool is_write)
{
    struct gm_soft_vcpu *vcpu = opaque;

    return (chips_is_x2apic_msr(number) ||
            msr_filter_allows(&vcpu->soft->msr_filter, number, is_write)) &&
           (number != MSR_PLATFORM_INFO || !atomic_load(&vcpu->soft->hides_platform_info));
}

static bool asks_msr(void *opaque, enum x86_msr_result result)
{
    const struct gm_soft_vcpu *vcpu = opaque;

    return msr_filter_asks(&vcpu->soft->msr_filter, result);
}

static uint64_t read_cr8(void *opaque)
{
    return chips_cr8(opaque);
}

static void write_cr8(void *opaque, uint64_t value)
{
    chips_set_cr8(opaque, value);
}

struct x86_hooks soft_hooks(struct gm_soft_vcpu *vcpu)
{
    return (struct x86_hooks){.read_msr = read_msr,
                              .write_msr = write_msr,
                              .allows_msr = allows_msr,
                              .asks_msr = asks_msr,
                              .read_cr8 = read_cr8,
                              .write_cr8 = write_cr8,
                              .opaque = vcpu};
}
