/*
 * x86/mmx.h - what MMX's instructions share: when they may run, and their registers, which are x87's. Each of them leaves
 * the stack's top at 0 and no register empty (Intel SDM 1, 9.5), once memory cannot fail any more.
 */
#ifndef X86_MMX_H
#define X86_MMX_H

#include "x86/mem.h"
#include "x86/mmx_ops.h"
#include "x86/sse.h"
#include "x86/x87.h"

/* #UD with CR0.EM, #NM with CR0.TS, #MF of x87's exceptions that are pending. */
enum step mmx_check(struct x86_vcpu *vcpu);

/* A register that is not changed leaves x87's state as it is until mmx_enter(). */
uint64_t mmx_read(struct x86_vcpu *vcpu, unsigned number);
void mmx_enter(struct x86_vcpu *vcpu);
void mmx_write(struct x86_vcpu *vcpu, unsigned number, uint64_t value);

/* The second operand: a register, @size bytes of memory, or, of a shift, the count. */
enum step mmx_source(struct x86_vcpu *vcpu, const struct insn *insn, unsigned size,
                     uint64_t *value);

#endif
