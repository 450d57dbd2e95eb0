/*
 * x86/exec_mmx.c - MMX: the host's own instruction of the same name computes, on copies; moves, and what takes an
 * element or an immediate. The registers are x87's, by number and not by the stack's order (Intel SDM 1, 9.2).
 */
#include "x86/exec.h"

#include "x86/mmx.h"

/* The host's MMX registers are x87's as well: none is in use between calls. */
#define MMX_HOST(upper, lower, bytes)                                                              \
    static uint64_t host_##lower(uint64_t a, uint64_t b)                                           \
    {                                                                                              \
        __asm__("movq %0, %%mm0\n\tmovq %1, %%mm1\n\t" #lower                                      \
                " %%mm1, %%mm0\n\tmovq %%mm0, %0\n\temms"                                          \
                : "+m"(a)                                                                          \
                : "m"(b)                                                                           \
                : "mm0", "mm1");                                                                   \
        return a;                                                                                  \
    }
MMX_OPS(MMX_HOST)

struct packed {
    uint64_t (*run)(uint64_t a, uint64_t b);
    unsigned bytes; /* of memory */
};

static const struct packed *packed_of(enum mmx_op op)
{
#define MMX_PACKED(upper, lower, bytes) [MMX_##upper] = {host_##lower, (bytes)},
    static const struct packed table[MMX_PACKED_COUNT] = {MMX_OPS(MMX_PACKED)};
#undef MMX_PACKED

    return &table[op];
}

enum step mmx_check(struct x86_vcpu *vcpu)
{
    if ((vcpu->cr0 & 4) != 0) { /* EM */
        return step_raise(vcpu, X86_UD);
    }
    TRY(x87_check(vcpu));
    return x87_check_pending(vcpu);
}

static uint8_t *register_of(struct x86_vcpu *vcpu, unsigned number)
{
    unsigned top = vcpu->fpu.fsw >> X87_TOP_SHIFT & 7;

    return vcpu->fpu.st[(number - top) & 7];
}

uint64_t mmx_read(struct x86_vcpu *vcpu, unsigned number)
{
    uint64_t value;

    memcpy(&value, register_of(vcpu, number), sizeof(value));
    return value;
}

void mmx_enter(struct x86_vcpu *vcpu)
{
    x87_set_top(&vcpu->fpu, 0);
    vcpu->fpu.ftw = UINT8_MAX;
}

void mmx_write(struct x86_vcpu *vcpu, unsigned number, uint64_t value)
{
    mmx_enter(vcpu);
    memcpy(vcpu->fpu.st[number], &value, sizeof(value));
    memset(vcpu->fpu.st[number] + sizeof(value), 0xff, 2);
}

enum step mmx_source(struct x86_vcpu *vcpu, const struct insn *insn, unsigned size, uint64_t *value)
{
    switch (operand_kind(insn, 1)) {
    case KIND_REG:
        *value = mmx_read(vcpu, insn->reg[1]);
        return STEP_NEXT;
    case KIND_IMM:
        *value = (uint8_t)insn->imm;
        return STEP_NEXT;
    default:
        return mem_load(vcpu, insn, size, value);
    }
}

static enum step run_packed(struct x86_vcpu *vcpu, const struct insn *insn)
{
    const struct packed *packed = packed_of((enum mmx_op)insn->sub);
    uint64_t b;

    TRY(mmx_check(vcpu));
    TRY(mmx_source(vcpu, insn, packed->bytes, &b));
    mmx_write(vcpu, insn->reg[0], packed->run(mmx_read(vcpu, insn->reg[0]), b));
    return STEP_NEXT;
}

/* MOVD, and MOVQ by REX.W, between mm and a general register or memory; MOVQ between mm registers; MOVNTQ. Which operands
 * are mm ones the decoder says in insn->selector: 1 the first, 2 the second, 3 both. */
static enum step move(struct x86_vcpu *vcpu, const struct insn *insn)
{
    unsigned size = insn->sub == MMX_MOVD ? 4 : 8;
    uint64_t value;

    TRY(mmx_check(vcpu));
    if (insn->selector == 2) {
        value = zero_extend(mmx_read(vcpu, insn->reg[1]), size);
        TRY(operand_write(vcpu, insn, 0, size, value));
        mmx_enter(vcpu);
        return STEP_NEXT;
    }
    if (insn->selector == 3) {
        value = mmx_read(vcpu, insn->reg[1]);
    } else {
        TRY(operand_read(vcpu, insn, 1, size, &value));
    }
    mmx_write(vcpu, insn->reg[0], value);
    return STEP_NEXT;
}

/* MOVQ2DQ, MOVDQ2Q. */
static enum step move_across(struct x86_vcpu *vcpu, const struct insn *insn)
{
    TRY(sse_check(vcpu));
    TRY(x87_check_pending(vcpu));
    if (insn->sub == MMX_MOVDQ2Q) {
        mmx_write(vcpu, insn->reg[0], vcpu->xmm[insn->reg[1]].u64[0]);
        return STEP_NEXT;
    }
    vcpu->xmm[insn->reg[0]] = (union x86_xmm){.u64 = {mmx_read(vcpu, insn->reg[1]), 0}};
    mmx_enter(vcpu);
    return STEP_NEXT;
}

/* To DS:RDI, or another segment's, the bytes whose mask's highest bit is set. All must be there to be written. */
static enum step move_masked(struct x86_vcpu *vcpu, const struct insn *insn)
{
    uint64_t offset = vcpu->gpr[X86_RDI] & insn->addr_mask;
    uint64_t value, mask, linear;

    TRY(mmx_check(vcpu));
    value = mmx_read(vcpu, insn->reg[0]);
    mask = mmx_read(vcpu, insn->reg[1]) & UINT64_C(0x8080808080808080);
    TRY(mem_linear_of(vcpu, insn->seg, offset, 8, MEM_WRITE, &linear));
    TRY(mem_check_store(vcpu, linear, 8, insn->seg));
    for (unsigned i = 0; i < 8; i++) {
        if ((mask >> (8 * i + 7) & 1) != 0) {
            TRY(store_linear(vcpu, linear + i, 1, insn->seg, value >> (8 * i) & 0xff));
        }
    }
    mmx_enter(vcpu);
    return STEP_NEXT;
}

/* PMOVMSKB, PEXTRW: into a general register. */
static enum step extract(struct x86_vcpu *vcpu, const struct insn *insn)
{
    uint64_t source, result = 0;

    TRY(mmx_check(vcpu));
    source = mmx_read(vcpu, insn->reg[1]);
    if (insn->sub == MMX_PEXTRW) {
        result = source >> (16 * (insn->imm & 3)) & 0xffff;
    } else {
        for (unsigned i = 0; i < 8; i++) {
            result |= (source >> (8 * i + 7) & 1) << i;
        }
    }
    mmx_enter(vcpu);
    reg_write(vcpu, insn->reg[0], 4, result);
    return STEP_NEXT;
}

static enum step insert(struct x86_vcpu *vcpu, const struct insn *insn)
{
    unsigned shift = 16 * (insn->imm & 3);
    uint64_t word, kept;

    TRY(mmx_check(vcpu));
    TRY(operand_read(vcpu, insn, 1, 2, &word));
    kept = mmx_read(vcpu, insn->reg[0]) & ~(UINT64_C(0xffff) << shift);
    mmx_write(vcpu, insn->reg[0], kept | word << shift);
    return STEP_NEXT;
}

static enum step shuffle(struct x86_vcpu *vcpu, const struct insn *insn)
{
    uint64_t source, result = 0;

    TRY(mmx_check(vcpu));
    TRY(mmx_source(vcpu, insn, 8, &source));
    for (unsigned i = 0; i < 4; i++) {
        unsigned from = insn->imm >> (2 * i) & 3;

        result |= (source >> (16 * from) & 0xffff) << (16 * i);
    }
    mmx_write(vcpu, insn->reg[0], result);
    return STEP_NEXT;
}

/* PALIGNR: eight bytes out of both, from a byte on; behind them are zeros. */
static enum step align(struct x86_vcpu *vcpu, const struct insn *insn)
{
    unsigned shift = (uint8_t)insn->imm;
    uint8_t bytes[24] = {0};
    uint64_t low, high, result = 0;

    TRY(mmx_check(vcpu));
    TRY(mmx_source(vcpu, insn, 8, &low));
    high = mmx_read(vcpu, insn->reg[0]);
    memcpy(bytes, &low, 8);
    memcpy(bytes + 8, &high, 8);
    if (shift < 16) {
        memcpy(&result, bytes + shift, 8);
    }
    mmx_write(vcpu, insn->reg[0], result);
    return STEP_NEXT;
}

insn_fn *exec_mmx(struct insn *insn)
{
    if (insn->sub < MMX_PACKED_COUNT) {
        return insn->sub < MMX_LATER || x86_has_sse4() ? run_packed : NULL;
    }
    switch (insn->sub) {
    case MMX_MOVD:
    case MMX_MOVQ:
    case MMX_MOVNTQ:
        return move;
    case MMX_MOVQ2DQ:
    case MMX_MOVDQ2Q:
        return move_across;
    case MMX_MASKMOVQ:
        return move_masked;
    case MMX_PMOVMSKB:
    case MMX_PEXTRW:
        return extract;
    case MMX_PINSRW:
        return insert;
    case MMX_PSHUFW:
        return shuffle;
    case MMX_PALIGNR:
        return align;
    default:
        return exec_mmx_convert(insn);
    }
}
