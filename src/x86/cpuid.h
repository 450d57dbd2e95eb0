/*
 * x86/cpuid.h - the guest's CPUID: what the instruction says, and what follows from it for registers.
 */
#ifndef X86_CPUID_H
#define X86_CPUID_H

#include "x86/x86.h"

enum cpuid_register {
    CPUID_EAX,
    CPUID_EBX,
    CPUID_ECX,
    CPUID_EDX,
};

/* The leaf that the VMM has set. Return: false and zeros: there is none. */
bool cpuid_find(const struct x86_vcpu *vcpu, uint32_t function, uint32_t index,
                struct x86_cpuid_entry *entry);

/* What the instruction answers. */
void cpuid_answer(const struct x86_vcpu *vcpu, uint32_t function, uint32_t index,
                  struct x86_cpuid_entry *entry);

/* Does CPUID promise the feature? A vCPU that was given no CPUID at all may use everything that is there. */
bool cpuid_allows(const struct x86_vcpu *vcpu, uint32_t function, enum cpuid_register reg,
                  unsigned bit);

#endif
