/*
 * x86/msr.h - model-specific registers.
 */
#ifndef X86_MSR_H
#define X86_MSR_H

#include "x86/insn.h"

/* RDMSR, WRMSR of a number. Return: STEP_FAULT, #GP: there is none, or the value is not allowed. */
enum step msr_read(struct x86_vcpu *vcpu, uint32_t number, uint64_t *value);
enum step msr_write(struct x86_vcpu *vcpu, uint32_t number, uint64_t value);

/*
 * May IA32_APIC_BASE, which is @before, become @value? Not with reserved bits, which x2APIC mode is without its feature, or with x2APIC
 * mode of a disabled APIC. A guest may go between modes as SDM 3A has it ("x2APIC State Transitions"); who restores a
 * state may go anywhere.
 */
bool msr_may_set_apic_base(const struct x86_vcpu *vcpu, uint64_t before, uint64_t value,
                           enum x86_msr_writer writer);

/* The guest's time-stamp counter. */
uint64_t msr_tsc(const struct x86_vcpu *vcpu);

#endif
