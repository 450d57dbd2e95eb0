/*
 * x86/exec_sse.c - SSE and SSE2: moves, shuffles, conversions from and to general registers, comparisons.
 */
#include "x86/exec.h"

#include "x86/sse.h"
#include "x86/sse_ops.h"

/* MOVAPS and its like, MOVUPS and its like. */
static enum step move_whole(struct x86_vcpu *vcpu, const struct insn *insn)
{
    bool is_aligned = insn->sub == SSE_MOVE_ALIGNED;
    union x86_xmm value;

    TRY(sse_check(vcpu));
    if (insn->form == FORM_MR) {
        return sse_store(vcpu, insn, is_aligned, &vcpu->xmm[insn->reg[1]]);
    }
    if (insn->form == FORM_RR) {
        vcpu->xmm[insn->reg[0]] = vcpu->xmm[insn->reg[1]];
        return STEP_NEXT;
    }
    TRY(sse_load(vcpu, insn, is_aligned, &value));
    vcpu->xmm[insn->reg[0]] = value;
    return STEP_NEXT;
}

/* MOVSS, MOVSD: from memory the rest is cleared, from a register it stays. */
static enum step move_scalar(struct x86_vcpu *vcpu, const struct insn *insn)
{
    unsigned size = insn->sub == SSE_MOVE_SS ? 4 : 8;
    union x86_xmm *target = &vcpu->xmm[insn->reg[0]];
    uint64_t value;

    TRY(sse_check(vcpu));
    switch (insn->form) {
    case FORM_MR:
        return mem_store(vcpu, insn, size, zero_extend(vcpu->xmm[insn->reg[1]].u64[0], size));
    case FORM_RR:
        memcpy(target, &vcpu->xmm[insn->reg[1]], size);
        return STEP_NEXT;
    default:
        TRY(mem_load(vcpu, insn, size, &value));
        *target = (union x86_xmm){.u64 = {value, 0}};
        return STEP_NEXT;
    }
}

/*
 * MOVD and MOVQ between xmm and a general register or memory; MOVQ between xmm registers. Which operand is the xmm one
 * the decoder says in insn->selector: 1 the first, 2 the second, 3 both.
 */
static enum step move_general(struct x86_vcpu *vcpu, const struct insn *insn)
{
    unsigned size = insn->sub == SSE_MOVE_D ? 4 : 8;
    uint64_t value;

    TRY(sse_check(vcpu));
    if (insn->selector == 2) {
        value = zero_extend(vcpu->xmm[insn->reg[1]].u64[0], size);
        return operand_write(vcpu, insn, 0, size, value);
    }
    if (insn->selector == 3) {
        value = vcpu->xmm[insn->reg[1]].u64[0];
    } else {
        TRY(operand_read(vcpu, insn, 1, size, &value));
    }
    vcpu->xmm[insn->reg[0]] = (union x86_xmm){.u64 = {value, 0}};
    return STEP_NEXT;
}

/* MOVLPS, MOVHPS and their like: one half, from or to memory. */
static enum step move_half(struct x86_vcpu *vcpu, const struct insn *insn)
{
    unsigned half = insn->sub == SSE_MOVE_HIGH;
    uint64_t value;

    TRY(sse_check(vcpu));
    if (insn->form == FORM_MR) {
        return mem_store(vcpu, insn, 8, vcpu->xmm[insn->reg[1]].u64[half]);
    }
    TRY(mem_load(vcpu, insn, 8, &value));
    vcpu->xmm[insn->reg[0]].u64[half] = value;
    return STEP_NEXT;
}

/* MOVHLPS, MOVLHPS. */
static enum step move_across(struct x86_vcpu *vcpu, const struct insn *insn)
{
    unsigned from = insn->sub == SSE_MOVE_HIGH_TO_LOW;

    TRY(sse_check(vcpu));
    vcpu->xmm[insn->reg[0]].u64[1 - from] = vcpu->xmm[insn->reg[1]].u64[from];
    return STEP_NEXT;
}

/* MOVMSKPS, MOVMSKPD, PMOVMSKB: the elements' highest bits. */
static enum step mask(struct x86_vcpu *vcpu, const struct insn *insn)
{
    const union x86_xmm *source = &vcpu->xmm[insn->reg[1]];
    unsigned width = insn->sub == SSE_MASK_BYTES ? 1 : insn->sub == SSE_MASK_PS ? 4 : 8;
    uint32_t bits = 0;

    TRY(sse_check(vcpu));
    for (unsigned i = 0; i < 16 / width; i++) {
        bits |= (uint32_t)(source->u8[i * width + width - 1] >> 7) << i;
    }
    reg_write(vcpu, insn->reg[0], 4, bits);
    return STEP_NEXT;
}

/* Words of a shuffle, by two bits each. */
static enum step shuffle(struct x86_vcpu *vcpu, const struct insn *insn)
{
    union x86_xmm *target = &vcpu->xmm[insn->reg[0]];
    union x86_xmm source, result;
    unsigned order = (uint8_t)insn->imm;

    TRY(sse_check(vcpu));
    TRY(sse_source(vcpu, insn, 16, &source));
    result = source;
    for (unsigned i = 0; i < 4; i++) {
        unsigned from = order >> (2 * i) & 3;

        switch (insn->sub) {
        case SSE_SHUFFLE_D:
            result.u32[i] = source.u32[from];
            break;
        case SSE_SHUFFLE_LW:
            result.u16[i] = source.u16[from];
            break;
        case SSE_SHUFFLE_HW:
            result.u16[4 + i] = source.u16[4 + from];
            break;
        default:
            result.u32[i] = i < 2 ? target->u32[from] : source.u32[from];
            break;
        }
    }
    *target = result;
    return STEP_NEXT;
}

static enum step shuffle_pd(struct x86_vcpu *vcpu, const struct insn *insn)
{
    union x86_xmm *target = &vcpu->xmm[insn->reg[0]];
    union x86_xmm source;

    TRY(sse_check(vcpu));
    TRY(sse_source(vcpu, insn, 16, &source));
    *target = (union x86_xmm){.u64 = {target->u64[insn->imm & 1], source.u64[insn->imm >> 1 & 1]}};
    return STEP_NEXT;
}

/* PSLLDQ, PSRLDQ. */
static enum step shift_bytes(struct x86_vcpu *vcpu, const struct insn *insn)
{
    union x86_xmm *target = &vcpu->xmm[insn->reg[0]];
    unsigned count = (uint8_t)insn->imm < 16 ? (uint8_t)insn->imm : 16;
    union x86_xmm result = {.u64 = {0, 0}};

    TRY(sse_check(vcpu));
    if (insn->sub == SSE_BYTES_LEFT) {
        memcpy(result.u8 + count, target->u8, 16 - count);
    } else {
        memcpy(result.u8, target->u8 + count, 16 - count);
    }
    *target = result;
    return STEP_NEXT;
}

/* MASKMOVDQU: to DS:RDI, or another segment's, the bytes whose mask's highest bit is set. All must be there to be
 * written; alignment does not count. */
static enum step move_masked(struct x86_vcpu *vcpu, const struct insn *insn)
{
    const union x86_xmm *value = &vcpu->xmm[insn->reg[0]];
    const union x86_xmm *mask = &vcpu->xmm[insn->reg[1]];
    uint64_t offset = vcpu->gpr[X86_RDI] & insn->addr_mask;
    uint64_t linear;

    TRY(sse_check(vcpu));
    TRY(mem_linear_of(vcpu, insn->seg, offset, 16, MEM_WRITE, &linear));
    TRY(mem_probe_write(vcpu, linear, 16, insn->seg));
    for (unsigned i = 0; i < 16; i++) {
        if ((mask->u8[i] & 0x80) != 0) {
            TRY(store_linear(vcpu, linear + i, 1, insn->seg, value->u8[i]));
        }
    }
    return STEP_NEXT;
}

/* PINSRW, PEXTRW and their like: the element's bytes. */
static unsigned element_bytes(const struct insn *insn)
{
    switch (insn->sub) {
    case SSE_INSERT_B:
    case SSE_EXTRACT_B:
        return 1;
    case SSE_INSERT_W:
    case SSE_EXTRACT_W:
        return 2;
    case SSE_INSERT_D:
    case SSE_EXTRACT_D:
        return 4;
    default:
        return 8;
    }
}

static uint8_t *element_of(union x86_xmm *value, const struct insn *insn)
{
    unsigned size = element_bytes(insn);

    return value->u8 + (insn->imm & (16 / size - 1)) * size;
}

static enum step insert(struct x86_vcpu *vcpu, const struct insn *insn)
{
    unsigned size = element_bytes(insn);
    uint64_t value;

    TRY(sse_check(vcpu));
    TRY(operand_read(vcpu, insn, 1, size, &value));
    memcpy(element_of(&vcpu->xmm[insn->reg[0]], insn), &value, size);
    return STEP_NEXT;
}

/* A register's upper half is cleared. */
static enum step extract(struct x86_vcpu *vcpu, const struct insn *insn)
{
    unsigned size = element_bytes(insn);
    uint64_t value = 0;

    TRY(sse_check(vcpu));
    memcpy(&value, element_of(&vcpu->xmm[insn->reg[1]], insn), size);
    if (operand_kind(insn, 0) == KIND_MEM) {
        return mem_store(vcpu, insn, size, value);
    }
    reg_write(vcpu, insn->reg[0], 8, value);
    return STEP_NEXT;
}

insn_fn *exec_sse(struct insn *insn)
{
    switch (insn->sub) {
    case SSE_MOVE_ALIGNED:
    case SSE_MOVE_UNALIGNED:
        return move_whole;
    case SSE_MOVE_SS:
    case SSE_MOVE_SD:
        return move_scalar;
    case SSE_MOVE_D:
    case SSE_MOVE_Q:
        return move_general;
    case SSE_MOVE_LOW:
    case SSE_MOVE_HIGH:
        return move_half;
    case SSE_MOVE_HIGH_TO_LOW:
    case SSE_MOVE_LOW_TO_HIGH:
        return move_across;
    case SSE_MOVE_MASKED:
        return move_masked;
    case SSE_MASK_PS:
    case SSE_MASK_PD:
    case SSE_MASK_BYTES:
        return mask;
    case SSE_SHUFFLE_D:
    case SSE_SHUFFLE_LW:
    case SSE_SHUFFLE_HW:
    case SSE_SHUFFLE_PS:
        return shuffle;
    case SSE_SHUFFLE_PD:
        return shuffle_pd;
    case SSE_BYTES_LEFT:
    case SSE_BYTES_RIGHT:
        return shift_bytes;
    case SSE_INSERT_B:
    case SSE_INSERT_W:
    case SSE_INSERT_D:
    case SSE_INSERT_Q:
        return insert;
    case SSE_EXTRACT_B:
    case SSE_EXTRACT_W:
    case SSE_EXTRACT_D:
    case SSE_EXTRACT_Q:
        return extract;
    default:
        return exec_sse_scalar(insn);
    }
}
