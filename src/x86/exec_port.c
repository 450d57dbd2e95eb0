/*
 * x86/exec_port.c - IN and OUT.
 */
#include "x86/exec.h"

#include "x86/breakpoint.h"
#include "x86/mem.h"
#include "x86/port.h"
#include "x86/seg.h"

enum step port_check(struct x86_vcpu *vcpu, uint16_t port, unsigned size)
{
    bool is_virtual = (vcpu->rflags & X86_FLAG_VM) != 0;
    unsigned iopl = (unsigned)(vcpu->rflags & X86_FLAG_IOPL) >> 12;
    uint32_t mask = ((1u << size) - 1) << (port & 7);
    uint64_t base, bits;

    if (!is_protected(vcpu) || (!is_virtual && vcpu->cpl <= iopl)) {
        return STEP_NEXT;
    }
    if ((vcpu->tr.type & ~2u) != SYS_TSS || vcpu->tr.limit < 103) {
        return step_raise_code(vcpu, X86_GP, 0);
    }
    TRY(mem_load_system(vcpu, vcpu->tr.base + 102, 2, &base));
    if (base + port / 8 + 1 > vcpu->tr.limit) { /* two bytes are read */
        return step_raise_code(vcpu, X86_GP, 0);
    }
    TRY(mem_load_system(vcpu, vcpu->tr.base + base + port / 8, 2, &bits));
    return (bits & mask) == 0 ? STEP_NEXT : step_raise_code(vcpu, X86_GP, 0);
}

static enum step leave_for_port(struct x86_vcpu *vcpu, enum x86_answer_kind kind, uint16_t port,
                                unsigned size, uint64_t value, uint32_t count)
{
    TRY(answer_expect(vcpu, kind, port, size));
    vcpu->io = (struct x86_io){
        .port = port,
        .size_bytes = (uint8_t)size,
        .is_in = kind == X86_ANSWER_IN,
        .count = count,
        .data = (uint32_t)value,
    };
    return step_exit(vcpu, X86_EXIT_IO);
}

static void note_port(struct x86_vcpu *vcpu, uint16_t port, unsigned size)
{
    if (vcpu->has_breakpoints) {
        breakpoint_note_port(vcpu, port, size);
    }
}

enum step port_in(struct x86_vcpu *vcpu, uint16_t port, unsigned size, uint64_t *value)
{
    const struct x86_answer *answer = answer_find(vcpu, X86_ANSWER_IN, port, size);

    note_port(vcpu, port, size);
    if (answer == NULL) {
        return leave_for_port(vcpu, X86_ANSWER_IN, port, size, 0, 1);
    }
    *value = zero_extend(answer->value, size);
    return STEP_NEXT;
}

enum step port_in_next(struct x86_vcpu *vcpu, uint16_t port, unsigned size, uint32_t count,
                       uint64_t *value)
{
    const struct x86_answer *answer = answer_find(vcpu, X86_ANSWER_IN, port, size);

    if (answer != NULL) {
        *value = zero_extend(answer->value, size);
        return STEP_NEXT;
    }
    if (is_ahead(vcpu) && vcpu->io.port == port && vcpu->io.size_bytes == size) {
        *value = 0;
        memcpy(value, vcpu->ahead + vcpu->ahead_next * size, size);
        return STEP_NEXT;
    }
    return leave_for_port(vcpu, X86_ANSWER_IN, port, size, 0, count);
}

enum step port_out(struct x86_vcpu *vcpu, uint16_t port, unsigned size, uint64_t value)
{
    note_port(vcpu, port, size);
    if (answer_find(vcpu, X86_ANSWER_OUT, port, size) != NULL) {
        return STEP_NEXT;
    }
    return leave_for_port(vcpu, X86_ANSWER_OUT, port, size, value, 1);
}

static unsigned accumulator_size(const struct insn *insn, unsigned number)
{
    return number == 0 ? insn->size : insn->size1;
}

static enum step in(struct x86_vcpu *vcpu, const struct insn *insn)
{
    unsigned size = accumulator_size(insn, 0);
    uint64_t port, value;

    TRY(operand_read(vcpu, insn, 1, operand_kind(insn, 1) == KIND_IMM ? 1 : 2, &port));
    TRY(port_check(vcpu, (uint16_t)port, size));
    TRY(port_in(vcpu, (uint16_t)port, size, &value));
    gpr_write(vcpu, X86_RAX, size, value);
    return STEP_NEXT;
}

static enum step out(struct x86_vcpu *vcpu, const struct insn *insn)
{
    unsigned size = accumulator_size(insn, 1);
    uint64_t port;

    TRY(operand_read(vcpu, insn, 0, operand_kind(insn, 0) == KIND_IMM ? 1 : 2, &port));
    TRY(port_check(vcpu, (uint16_t)port, size));
    TRY(port_out(vcpu, (uint16_t)port, size, gpr_read(vcpu, X86_RAX, size)));
    return STEP_NEXT;
}

insn_fn *exec_port(struct insn *insn)
{
    return insn->sub == PORT_IN ? in : out;
}
