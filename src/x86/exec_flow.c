/*
 * x86/exec_flow.c - near jumps, calls and returns, conditions, loops, software interrupts.
 */
#include "x86/exec.h"

#include "x86/mem.h"

/* May a jump go to this offset in the code segment? Past its limit, or not canonical: #GP. */
X86_INLINE bool is_target(const struct x86_vcpu *vcpu, uint64_t target)
{
    return vcpu->mode == X86_MODE_64 ? is_canonical(vcpu, target)
                                     : target <= vcpu->segment[X86_CS].limit;
}

X86_INLINE enum step jump(struct x86_vcpu *vcpu, const struct insn *insn, uint64_t target)
{
    target = zero_extend(target, insn->size) & vcpu->code_mask;
    if (__builtin_expect(!is_target(vcpu, target), 0)) {
        return step_raise_code(vcpu, X86_GP, 0);
    }
    vcpu->rip = target;
    return STEP_JUMP;
}

X86_INLINE enum step jump_relative(struct x86_vcpu *vcpu, const struct insn *insn)
{
    uint64_t target = vcpu->gpr[X86_GPR_BLOCK] + insn->next + insn->imm;

    if (__builtin_expect(vcpu->mode == X86_MODE_64, 1)) {
        vcpu->rip = target;
        return STEP_JUMP;
    }
    return jump(vcpu, insn, target);
}

#define CONDITION_HANDLERS(code)                                                                   \
    static enum step jump_if_##code(struct x86_vcpu *vcpu, const struct insn *insn)                \
    {                                                                                              \
        return flags_condition(vcpu, code) ? jump_relative(vcpu, insn) : STEP_NEXT;                \
    }                                                                                              \
    static enum step move_if_##code(struct x86_vcpu *vcpu, const struct insn *insn)                \
    {                                                                                              \
        return move_if(vcpu, insn, flags_condition(vcpu, code));                                   \
    }                                                                                              \
    static enum step set_if_##code(struct x86_vcpu *vcpu, const struct insn *insn)                 \
    {                                                                                              \
        return operand_write(vcpu, insn, 0, 1, flags_condition(vcpu, code));                       \
    }

/* The source is read, and 32 bits clear the upper half, whatever the condition. */
X86_INLINE enum step move_if(struct x86_vcpu *vcpu, const struct insn *insn, bool holds)
{
    uint64_t value;

    TRY(operand_read(vcpu, insn, 1, insn->size, &value));
    if (!holds) {
        value = reg_read(vcpu, insn->reg[0], insn->size);
    }
    reg_write(vcpu, insn->reg[0], insn->size, value);
    return STEP_NEXT;
}

CONDITION_HANDLERS(0)
CONDITION_HANDLERS(1)
CONDITION_HANDLERS(2)
CONDITION_HANDLERS(3)
CONDITION_HANDLERS(4)
CONDITION_HANDLERS(5)
CONDITION_HANDLERS(6)
CONDITION_HANDLERS(7)
CONDITION_HANDLERS(8)
CONDITION_HANDLERS(9)
CONDITION_HANDLERS(10)
CONDITION_HANDLERS(11)
CONDITION_HANDLERS(12)
CONDITION_HANDLERS(13)
CONDITION_HANDLERS(14)
CONDITION_HANDLERS(15)

#define CONDITION_ROW(name)                                                                        \
    {                                                                                              \
        name##_0, name##_1, name##_2, name##_3, name##_4, name##_5, name##_6, name##_7, name##_8,  \
            name##_9, name##_10, name##_11, name##_12, name##_13, name##_14, name##_15             \
    }

insn_fn *exec_condition(struct insn *insn)
{
    static insn_fn *const table[3][16] = {
        [CONDITION_JUMP] = CONDITION_ROW(jump_if),
        [CONDITION_SET] = CONDITION_ROW(set_if),
        [CONDITION_MOVE] = CONDITION_ROW(move_if),
    };

    return table[insn->sub >> 4][insn->sub & 15];
}

static enum step jmp_relative(struct x86_vcpu *vcpu, const struct insn *insn)
{
    return jump_relative(vcpu, insn);
}

static enum step jmp_indirect(struct x86_vcpu *vcpu, const struct insn *insn)
{
    uint64_t target;

    TRY(operand_read(vcpu, insn, 0, insn->size, &target));
    return jump(vcpu, insn, target);
}

/* Push the return address, and jump: the jump's fault comes first. */
X86_INLINE enum step call(struct x86_vcpu *vcpu, const struct insn *insn, uint64_t target)
{
    uint64_t sp = vcpu->gpr[X86_RSP];

    target = zero_extend(target, insn->size) & vcpu->code_mask;
    if (__builtin_expect(!is_target(vcpu, target), 0)) {
        return step_raise_code(vcpu, X86_GP, 0);
    }
    TRY(stack_push(vcpu, insn->size, insn_next_rip(vcpu, insn), &sp));
    vcpu->gpr[X86_RSP] = sp;
    vcpu->rip = target;
    return STEP_JUMP;
}

static enum step call_relative(struct x86_vcpu *vcpu, const struct insn *insn)
{
    return call(vcpu, insn, vcpu->gpr[X86_GPR_BLOCK] + insn->next + insn->imm);
}

static enum step call_indirect(struct x86_vcpu *vcpu, const struct insn *insn)
{
    uint64_t target;

    TRY(operand_read(vcpu, insn, 0, insn->size, &target));
    return call(vcpu, insn, target);
}

static enum step ret(struct x86_vcpu *vcpu, const struct insn *insn)
{
    uint64_t sp = vcpu->gpr[X86_RSP];
    uint64_t target;
    enum step step;

    TRY(stack_pop(vcpu, insn->size, &target, &sp));
    step = jump(vcpu, insn, target);
    if (step != STEP_JUMP) {
        return step;
    }
    if (insn->form == FORM_I) {
        sp = (sp & ~vcpu->stack_mask) | ((sp + (uint16_t)insn->imm) & vcpu->stack_mask);
    }
    vcpu->gpr[X86_RSP] = sp;
    return STEP_JUMP;
}

/* LOOP, LOOPE, LOOPNE: the counter is as wide as addresses. */
static enum step loop(struct x86_vcpu *vcpu, const struct insn *insn)
{
    uint64_t count = (gpr_read(vcpu, X86_RCX, insn->address_size) - 1) & insn->addr_mask;
    bool goes_on = count != 0;
    enum step step = STEP_NEXT;

    goes_on = goes_on && (insn->sub != FLOW_LOOPE || flag_zf(vcpu));
    goes_on = goes_on && (insn->sub != FLOW_LOOPNE || !flag_zf(vcpu));
    if (goes_on) {
        step = jump(vcpu, insn, vcpu->gpr[X86_GPR_BLOCK] + insn->next + insn->imm);
    }
    if (step == STEP_NEXT || step == STEP_JUMP) {
        gpr_write(vcpu, X86_RCX, insn->address_size, count);
    }
    return step;
}

static enum step jump_if_no_count(struct x86_vcpu *vcpu, const struct insn *insn)
{
    if (gpr_read(vcpu, X86_RCX, insn->address_size) != 0) {
        return STEP_NEXT;
    }
    return jump_relative(vcpu, insn);
}

static enum step software_interrupt(struct x86_vcpu *vcpu, const struct insn *insn, uint8_t vector,
                                    bool is_privileged)
{
    vcpu->event = (struct x86_event){
        .kind = X86_EVENT_SOFTWARE,
        .vector = vector,
        .length = (uint8_t)(insn->next - insn->offset),
        .is_privileged = is_privileged,
    };
    return STEP_SOFTWARE;
}

static enum step interrupt(struct x86_vcpu *vcpu, const struct insn *insn)
{
    bool is_virtual = (vcpu->rflags & X86_FLAG_VM) != 0;

    if (insn->sub == FLOW_INT && is_virtual && (vcpu->rflags & X86_FLAG_IOPL) != X86_FLAG_IOPL) {
        if ((vcpu->cr4 & 1) != 0) {
            return step_exit(vcpu, X86_EXIT_EMULATION); /* CR4.VME's redirection is not there */
        }
        return step_raise_code(vcpu, X86_GP, 0);
    }
    switch (insn->sub) {
    case FLOW_INT:
        return software_interrupt(vcpu, insn, (uint8_t)insn->imm, false);
    case FLOW_INT3:
        if (vcpu->takes_int3) {
            return step_debug(vcpu, X86_BP, 0);
        }
        return software_interrupt(vcpu, insn, X86_BP, false);
    case FLOW_INT1:
        return software_interrupt(vcpu, insn, X86_DB, true);
    default:
        return flag_of(vcpu) ? software_interrupt(vcpu, insn, X86_OF, false) : STEP_NEXT;
    }
}

static enum step bound(struct x86_vcpu *vcpu, const struct insn *insn)
{
    unsigned size = insn->size;
    uint64_t offset = mem_offset(vcpu, insn);
    uint64_t linear, lower, upper;
    int64_t index = (int64_t)sign_extend(reg_read(vcpu, insn->reg[0], size), size);

    TRY(mem_linear_of(vcpu, insn->seg, offset, size, MEM_READ, &linear));
    TRY(load_linear(vcpu, linear, size, insn->seg, &lower));
    offset = (offset + size) & insn->addr_mask;
    TRY(mem_linear_of(vcpu, insn->seg, offset, size, MEM_READ, &linear));
    TRY(load_linear(vcpu, linear, size, insn->seg, &upper));
    if (index < (int64_t)sign_extend(lower, size) || index > (int64_t)sign_extend(upper, size)) {
        return step_raise(vcpu, X86_BR);
    }
    return STEP_NEXT;
}

static enum step undefined(struct x86_vcpu *vcpu, const struct insn *insn)
{
    (void)insn;
    return step_raise(vcpu, X86_UD);
}

insn_fn *exec_flow(struct insn *insn)
{
    bool is_relative = insn->form == FORM_I;

    switch (insn->sub) {
    case FLOW_JMP:
        return is_relative ? jmp_relative : jmp_indirect;
    case FLOW_CALL:
        return is_relative ? call_relative : call_indirect;
    case FLOW_RET:
        return ret;
    case FLOW_LOOP:
    case FLOW_LOOPE:
    case FLOW_LOOPNE:
        return loop;
    case FLOW_JCXZ:
        return jump_if_no_count;
    case FLOW_BOUND:
        return bound;
    case FLOW_UD:
        return undefined;
    default:
        return interrupt;
    }
}
