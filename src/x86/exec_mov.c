/*
 * x86/exec_mov.c - MOV, its widening kinds, LEA, BSWAP, MOVBE, CBW and CWD, XLAT, NOP.
 */
#include "x86/exec.h"

#include "x86/mem.h"

X86_INLINE enum step mov_rr(struct x86_vcpu *vcpu, const struct insn *insn, unsigned size)
{
    reg_write(vcpu, insn->reg[0], size, reg_read(vcpu, insn->reg[1], size));
    return STEP_NEXT;
}

X86_INLINE enum step mov_ri(struct x86_vcpu *vcpu, const struct insn *insn, unsigned size)
{
    reg_write(vcpu, insn->reg[0], size, insn->imm);
    return STEP_NEXT;
}

X86_INLINE enum step mov_rm(struct x86_vcpu *vcpu, const struct insn *insn, unsigned size)
{
    uint64_t value;

    TRY(mem_load(vcpu, insn, size, &value));
    reg_write(vcpu, insn->reg[0], size, value);
    return STEP_NEXT;
}

X86_INLINE enum step mov_mr(struct x86_vcpu *vcpu, const struct insn *insn, unsigned size)
{
    return mem_store(vcpu, insn, size, reg_read(vcpu, insn->reg[1], size));
}

X86_INLINE enum step mov_mi(struct x86_vcpu *vcpu, const struct insn *insn, unsigned size)
{
    return mem_store(vcpu, insn, size, insn->imm);
}

INSN_SIZES(mov_rr)
INSN_SIZES(mov_ri)
INSN_SIZES(mov_rm)
INSN_SIZES(mov_mr)
INSN_SIZES(mov_mi)

/* MOVZX, MOVSX: @from bytes, to insn->size. */
X86_INLINE enum step widen(struct x86_vcpu *vcpu, const struct insn *insn, unsigned from,
                           bool is_signed)
{
    uint64_t value;

    TRY(operand_read(vcpu, insn, 1, from, &value));
    reg_write(vcpu, insn->reg[0], insn->size, is_signed ? sign_extend(value, from) : value);
    return STEP_NEXT;
}

X86_INLINE enum step movzx(struct x86_vcpu *vcpu, const struct insn *insn, unsigned from)
{
    return widen(vcpu, insn, from, false);
}

X86_INLINE enum step movsx(struct x86_vcpu *vcpu, const struct insn *insn, unsigned from)
{
    return widen(vcpu, insn, from, true);
}

INSN_SIZES(movzx)
INSN_SIZES(movsx)

X86_INLINE enum step lea(struct x86_vcpu *vcpu, const struct insn *insn, unsigned size)
{
    reg_write(vcpu, insn->reg[0], size, mem_offset(vcpu, insn));
    return STEP_NEXT;
}

INSN_WIDE_SIZES(lea)

static uint64_t swap_bytes(uint64_t value, unsigned size)
{
    return __builtin_bswap64(value) >> (64 - 8 * size);
}

/* Of 16 bits the result is undefined; processors clear them. */
static enum step bswap(struct x86_vcpu *vcpu, const struct insn *insn)
{
    uint64_t value = reg_read(vcpu, insn->reg[0], insn->size);

    reg_write(vcpu, insn->reg[0], insn->size, insn->size == 2 ? 0 : swap_bytes(value, insn->size));
    return STEP_NEXT;
}

static enum step movbe(struct x86_vcpu *vcpu, const struct insn *insn)
{
    uint64_t value;

    TRY(operand_read(vcpu, insn, 1, insn->size, &value));
    return operand_write(vcpu, insn, 0, insn->size, swap_bytes(value, insn->size));
}

/* CBW, CWDE, CDQE. */
static enum step widen_accumulator(struct x86_vcpu *vcpu, const struct insn *insn)
{
    unsigned half = insn->size / 2;

    gpr_write(vcpu, X86_RAX, insn->size, sign_extend(vcpu->gpr[X86_RAX], half));
    return STEP_NEXT;
}

/* CWD, CDQ, CQO. */
static enum step spread_sign(struct x86_vcpu *vcpu, const struct insn *insn)
{
    uint64_t value = sign_extend(vcpu->gpr[X86_RAX], insn->size);

    gpr_write(vcpu, X86_RDX, insn->size, (int64_t)value < 0 ? UINT64_MAX : 0);
    return STEP_NEXT;
}

static enum step xlat(struct x86_vcpu *vcpu, const struct insn *insn)
{
    uint64_t offset = (vcpu->gpr[X86_RBX] + (uint8_t)vcpu->gpr[X86_RAX]) & insn->addr_mask;
    uint64_t linear, value;

    TRY(mem_linear_of(vcpu, insn->seg, offset, 1, MEM_READ, &linear));
    TRY(load_linear(vcpu, linear, 1, insn->seg, &value));
    gpr_write(vcpu, X86_RAX, 1, value);
    return STEP_NEXT;
}

static enum step nop(struct x86_vcpu *vcpu, const struct insn *insn)
{
    (void)vcpu;
    (void)insn;
    return STEP_NEXT;
}

static enum step fence(struct x86_vcpu *vcpu, const struct insn *insn)
{
    (void)vcpu;
    (void)insn;
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    return STEP_NEXT;
}

/* CLFLUSH and its like: faults as a read does; there is no cache to flush. */
static enum step flush(struct x86_vcpu *vcpu, const struct insn *insn)
{
    uint64_t value;

    return mem_load(vcpu, insn, 1, &value);
}

static insn_fn *select_plain(const struct insn *insn)
{
    static insn_fn *const rr[] = INSN_TABLE(mov_rr);
    static insn_fn *const ri[] = INSN_TABLE(mov_ri);
    static insn_fn *const rm[] = INSN_TABLE(mov_rm);
    static insn_fn *const mr[] = INSN_TABLE(mov_mr);
    static insn_fn *const mi[] = INSN_TABLE(mov_mi);
    unsigned index = size_index(insn->size);

    switch (insn->form) {
    case FORM_RR:
        return rr[index];
    case FORM_RI:
        return ri[index];
    case FORM_RM:
        return rm[index];
    case FORM_MR:
        return mr[index];
    case FORM_MI:
        return mi[index];
    default:
        return NULL;
    }
}

insn_fn *exec_mov(struct insn *insn)
{
    static insn_fn *const zero[] = INSN_TABLE(movzx);
    static insn_fn *const sign[] = INSN_TABLE(movsx);
    static insn_fn *const address[] = INSN_WIDE_TABLE(lea);

    switch (insn->sub) {
    case MOV_PLAIN:
    case MOV_NONTEMPORAL:
        return select_plain(insn);
    case MOV_ZERO:
        return zero[size_index(insn->size1)];
    case MOV_SIGN:
        return sign[size_index(insn->size1)];
    case MOV_ADDRESS:
        return address[size_index(insn->size)];
    case MOV_SWAP:
        return bswap;
    case MOV_BIG:
        return movbe;
    case MOV_WIDEN:
        return widen_accumulator;
    case MOV_SPREAD:
        return spread_sign;
    case MOV_TABLE:
        return xlat;
    case MOV_FENCE:
        return fence;
    case MOV_FLUSH:
        return flush;
    default:
        return nop;
    }
}
