/*
 * x86/port.h - I/O ports: the right to use them, and the exits.
 */
#ifndef X86_PORT_H
#define X86_PORT_H

#include "x86/insn.h"

/* May the guest's program use the port: by IOPL or by the TSS's bitmap? #GP if not. */
enum step port_check(struct x86_vcpu *vcpu, uint16_t port, unsigned size);

/* Read, write it: comes out with X86_EXIT_IO, and is complete when the instruction is run again. */
enum step port_in(struct x86_vcpu *vcpu, uint16_t port, unsigned size, uint64_t *value);
/* One of @count elements, of which the next ones may be read ahead: then they are there the next time. */
enum step port_in_next(struct x86_vcpu *vcpu, uint16_t port, unsigned size, uint32_t count,
                       uint64_t *value);
enum step port_out(struct x86_vcpu *vcpu, uint16_t port, unsigned size, uint64_t value);

#endif
