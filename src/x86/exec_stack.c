/*
 * x86/exec_stack.c - PUSH, POP and their like.
 */
#include "x86/exec.h"

#include "x86/mem.h"

X86_INLINE enum step push_reg(struct x86_vcpu *vcpu, const struct insn *insn, unsigned size)
{
    uint64_t sp = vcpu->gpr[X86_RSP];

    TRY(stack_push(vcpu, size, reg_read(vcpu, insn->reg[0], size), &sp));
    vcpu->gpr[X86_RSP] = sp;
    return STEP_NEXT;
}

X86_INLINE enum step pop_reg(struct x86_vcpu *vcpu, const struct insn *insn, unsigned size)
{
    uint64_t sp = vcpu->gpr[X86_RSP];
    uint64_t value;

    TRY(stack_pop(vcpu, size, &value, &sp));
    vcpu->gpr[X86_RSP] = sp;
    reg_write(vcpu, insn->reg[0], size, value);
    return STEP_NEXT;
}

INSN_WIDE_SIZES(push_reg)
INSN_WIDE_SIZES(pop_reg)

static enum step push(struct x86_vcpu *vcpu, const struct insn *insn)
{
    uint64_t sp = vcpu->gpr[X86_RSP];
    uint64_t value;

    TRY(operand_read(vcpu, insn, 0, insn->size, &value));
    TRY(stack_push(vcpu, insn->size, value, &sp));
    vcpu->gpr[X86_RSP] = sp;
    return STEP_NEXT;
}

/* To memory: an address by RSP counts from the popped one (Intel SDM 2, POP). */
static enum step pop_mem(struct x86_vcpu *vcpu, const struct insn *insn)
{
    uint64_t before = vcpu->gpr[X86_RSP];
    uint64_t sp = before;
    uint64_t value;
    enum step step;

    TRY(stack_pop(vcpu, insn->size, &value, &sp));
    vcpu->gpr[X86_RSP] = sp;
    step = mem_store(vcpu, insn, insn->size, value);
    if (step != STEP_NEXT) {
        vcpu->gpr[X86_RSP] = before;
    }
    return step;
}

/* Virtual-8086 mode: privileged below IOPL 3. */
static bool is_virtual_below_iopl(const struct x86_vcpu *vcpu)
{
    return (vcpu->rflags & X86_FLAG_VM) != 0 && (vcpu->rflags & X86_FLAG_IOPL) != X86_FLAG_IOPL;
}

static enum step pushf(struct x86_vcpu *vcpu, const struct insn *insn)
{
    uint64_t sp = vcpu->gpr[X86_RSP];
    uint64_t flags = x86_get_rflags(vcpu) & ~(X86_FLAG_RF | X86_FLAG_VM);

    if (is_virtual_below_iopl(vcpu)) {
        return (vcpu->cr4 & 1) != 0 ? step_exit(vcpu, X86_EXIT_EMULATION)
                                    : step_raise_code(vcpu, X86_GP, 0);
    }
    TRY(stack_push(vcpu, insn->size, flags, &sp));
    vcpu->gpr[X86_RSP] = sp;
    return STEP_NEXT;
}

static enum step popf(struct x86_vcpu *vcpu, const struct insn *insn)
{
    uint64_t sp = vcpu->gpr[X86_RSP];
    uint64_t writable =
        X86_FLAGS_ARITHMETIC | X86_FLAG_TF | X86_FLAG_DF | X86_FLAG_NT | X86_FLAG_AC | X86_FLAG_ID;
    unsigned iopl = (unsigned)(vcpu->rflags & X86_FLAG_IOPL) >> 12;
    uint64_t value;

    if (is_virtual_below_iopl(vcpu)) {
        return (vcpu->cr4 & 1) != 0 ? step_exit(vcpu, X86_EXIT_EMULATION)
                                    : step_raise_code(vcpu, X86_GP, 0);
    }
    TRY(stack_pop(vcpu, insn->size, &value, &sp));
    writable |= vcpu->cpl <= iopl ? X86_FLAG_IF : 0;
    writable |= vcpu->cpl == 0 ? X86_FLAG_IOPL : 0;
    writable = zero_extend(writable, insn->size);
    value = (value & writable) | (x86_get_rflags(vcpu) & ~(writable | X86_FLAG_RF));
    if (insn->size == 2) {
        value |= vcpu->rflags & X86_FLAG_RF;
    }
    vcpu->gpr[X86_RSP] = sp;
    x86_set_rflags(vcpu, value);
    return STEP_NEXT;
}

static enum step pusha(struct x86_vcpu *vcpu, const struct insn *insn)
{
    uint64_t sp = vcpu->gpr[X86_RSP];

    for (unsigned i = 0; i < 8; i++) {
        TRY(stack_push(vcpu, insn->size, vcpu->gpr[i], &sp));
    }
    vcpu->gpr[X86_RSP] = sp;
    return STEP_NEXT;
}

static enum step popa(struct x86_vcpu *vcpu, const struct insn *insn)
{
    uint64_t sp = vcpu->gpr[X86_RSP];
    uint64_t values[8];

    for (unsigned i = 8; i-- > 0;) {
        TRY(stack_pop(vcpu, insn->size, &values[i], &sp));
    }
    for (unsigned i = 0; i < 8; i++) {
        if (i != X86_RSP) {
            gpr_write(vcpu, i, insn->size, values[i]);
        }
    }
    vcpu->gpr[X86_RSP] = sp;
    return STEP_NEXT;
}

/* A stack pointer as wide as the stack is. */
static void write_stack_pointer(struct x86_vcpu *vcpu, unsigned number, uint64_t value)
{
    vcpu->gpr[number] = (vcpu->gpr[number] & ~vcpu->stack_mask) | (value & vcpu->stack_mask);
}

static enum step enter(struct x86_vcpu *vcpu, const struct insn *insn)
{
    unsigned bytes = (uint16_t)insn->imm;
    unsigned level = (uint8_t)insn->disp % 32;
    uint64_t sp = vcpu->gpr[X86_RSP];
    uint64_t frames = vcpu->gpr[X86_RBP];
    uint64_t frame, value, end;

    TRY(stack_push(vcpu, insn->size, vcpu->gpr[X86_RBP], &sp));
    frame = sp;
    for (unsigned i = 1; i < level; i++) {
        frames -= insn->size;
        end = frames;
        TRY(stack_pop(vcpu, insn->size, &value, &end));
        TRY(stack_push(vcpu, insn->size, value, &sp));
    }
    if (level > 0) {
        TRY(stack_push(vcpu, insn->size, frame, &sp));
    }
    sp -= bytes;
    end = sp; /* the new stack's end must be there to be written (Intel SDM 2, ENTER) */
    TRY(mem_linear_of(vcpu, vcpu->mode == X86_MODE_64 ? SEG_FLAT_STACK : X86_SS,
                      end & vcpu->stack_mask, 1, MEM_WRITE, &end));
    TRY(mem_probe_write(vcpu, end, 1, X86_SS));
    gpr_write(vcpu, X86_RBP, insn->size, frame);
    write_stack_pointer(vcpu, X86_RSP, sp);
    return STEP_NEXT;
}

static enum step leave(struct x86_vcpu *vcpu, const struct insn *insn)
{
    uint64_t sp =
        (vcpu->gpr[X86_RSP] & ~vcpu->stack_mask) | (vcpu->gpr[X86_RBP] & vcpu->stack_mask);
    uint64_t value;

    TRY(stack_pop(vcpu, insn->size, &value, &sp));
    vcpu->gpr[X86_RSP] = sp;
    gpr_write(vcpu, X86_RBP, insn->size, value);
    return STEP_NEXT;
}

insn_fn *exec_stack(struct insn *insn)
{
    static insn_fn *const pushes[] = INSN_WIDE_TABLE(push_reg);
    static insn_fn *const pops[] = INSN_WIDE_TABLE(pop_reg);

    switch (insn->sub) {
    case STACK_PUSH:
        return insn->form == FORM_R ? pushes[size_index(insn->size)] : push;
    case STACK_POP:
        return insn->form == FORM_R ? pops[size_index(insn->size)] : pop_mem;
    case STACK_PUSHF:
        return pushf;
    case STACK_POPF:
        return popf;
    case STACK_PUSHA:
        return pusha;
    case STACK_POPA:
        return popa;
    case STACK_ENTER:
        return enter;
    default:
        return leave;
    }
}
