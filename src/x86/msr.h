/*
 * x86/msr.h - model-specific registers.
 */
#ifndef X86_MSR_H
#define X86_MSR_H

#include "x86/insn.h"

/* RDMSR, WRMSR of a number. Return: STEP_FAULT, #GP: there is none, or the value is not allowed. */
enum step msr_read(struct x86_vcpu *vcpu, uint32_t number, uint64_t *value);
enum step msr_write(struct x86_vcpu *vcpu, uint32_t number, uint64_t value);

/* The guest's time-stamp counter. */
uint64_t msr_tsc(const struct x86_vcpu *vcpu);

#endif
