/*
 * x86/exec_atomic.c - XCHG, XADD, CMPXCHG and its wide kinds.
 */
#include "x86/exec.h"

#include "x86/mem.h"

static enum step xchg_regs(struct x86_vcpu *vcpu, const struct insn *insn)
{
    uint64_t a = reg_read(vcpu, insn->reg[0], insn->size);
    uint64_t b = reg_read(vcpu, insn->reg[1], insn->size);

    reg_write(vcpu, insn->reg[0], insn->size, b);
    reg_write(vcpu, insn->reg[1], insn->size, a);
    return STEP_NEXT;
}

static enum step xchg_mem(struct x86_vcpu *vcpu, const struct insn *insn)
{
    unsigned reg = insn->reg[operand_kind(insn, 0) == KIND_MEM ? 1 : 0];
    struct mem_rmw rmw;
    uint64_t old;
    bool is_done;

    TRY(rmw_begin(vcpu, insn, insn->size, &rmw));
    do {
        old = rmw.old;
        TRY(rmw_end(vcpu, insn, insn->size, &rmw, reg_read(vcpu, reg, insn->size), &is_done));
    } while (!is_done);
    reg_write(vcpu, reg, insn->size, old);
    return STEP_NEXT;
}

/* The sum is written last: XADD of a register with itself leaves it there. */
static enum step xadd(struct x86_vcpu *vcpu, const struct insn *insn)
{
    unsigned size = insn->size;
    uint64_t b = reg_read(vcpu, insn->reg[1], size);
    struct mem_rmw rmw;
    uint64_t a;
    bool is_done;

    TRY(operand_begin(vcpu, insn, size, &rmw));
    if (operand_kind(insn, 0) == KIND_REG) {
        a = rmw.old;
        reg_write(vcpu, insn->reg[1], size, a);
        reg_write(vcpu, insn->reg[0], size, a + b);
    } else {
        do {
            a = rmw.old;
            TRY(rmw_end(vcpu, insn, size, &rmw, a + b, &is_done));
        } while (!is_done);
        reg_write(vcpu, insn->reg[1], size, a);
    }
    flags_of_add(vcpu, a, b, a + b, size);
    return STEP_NEXT;
}

/* Memory is written in any case: with what was there, if it differs. */
static enum step cmpxchg(struct x86_vcpu *vcpu, const struct insn *insn)
{
    unsigned size = insn->size;
    uint64_t expected = gpr_read(vcpu, X86_RAX, size);
    uint64_t desired = reg_read(vcpu, insn->reg[1], size);
    struct mem_rmw rmw;
    uint64_t old;
    bool is_done;

    TRY(operand_begin(vcpu, insn, size, &rmw));
    do {
        old = rmw.old;
        if (operand_kind(insn, 0) == KIND_REG && old != expected) {
            break;
        }
        TRY(operand_end(vcpu, insn, size, &rmw, old == expected ? desired : old, &is_done));
    } while (!is_done);
    if (old != expected) {
        gpr_write(vcpu, X86_RAX, size, old);
    }
    flags_of_sub(vcpu, expected, old, expected - old, size);
    return STEP_NEXT;
}

static void set_zero_flag(struct x86_vcpu *vcpu, bool is_set)
{
    uint64_t flags = flags_arithmetic(vcpu) & ~X86_FLAG_ZF;

    flags_set_arithmetic(vcpu, flags | (is_set ? X86_FLAG_ZF : 0));
}

static enum step cmpxchg8b(struct x86_vcpu *vcpu, const struct insn *insn)
{
    uint64_t expected = gpr_read(vcpu, X86_RDX, 4) << 32 | gpr_read(vcpu, X86_RAX, 4);
    uint64_t desired = gpr_read(vcpu, X86_RCX, 4) << 32 | gpr_read(vcpu, X86_RBX, 4);
    struct mem_rmw rmw;
    uint64_t old;
    bool is_done;

    TRY(rmw_begin(vcpu, insn, 8, &rmw));
    do {
        old = rmw.old;
        TRY(rmw_end(vcpu, insn, 8, &rmw, old == expected ? desired : old, &is_done));
    } while (!is_done);
    if (old != expected) {
        gpr_write(vcpu, X86_RAX, 4, old);
        gpr_write(vcpu, X86_RDX, 4, old >> 32);
    }
    set_zero_flag(vcpu, old == expected);
    return STEP_NEXT;
}

/* The host's own. */
static bool exchange16(void *host, uint64_t expected[2], const uint64_t desired[2])
{
    bool is_equal;

    __asm__ volatile("lock cmpxchg16b %1"
                     : "=@ccz"(is_equal), "+m"(*(uint8_t(*)[16])host), "+a"(expected[0]),
                       "+d"(expected[1])
                     : "b"(desired[0]), "c"(desired[1])
                     : "memory");
    return is_equal;
}

/* Make the TLB know the page for writing: by an exchange of what is there with itself. */
static enum step make_hit(struct x86_vcpu *vcpu, uint64_t linear, unsigned seg, void **host)
{
    uint64_t value;

    *host = mem_hit_any(vcpu, linear, 16, GM_MMU_WRITE);
    if (*host != NULL) {
        return STEP_NEXT;
    }
    TRY(mem_load_slow(vcpu, linear, 8, seg, MEM_MODIFY, &value));
    if (vcpu->answer_next != 0) {
        return step_exit(vcpu, X86_EXIT_EMULATION); /* MMIO takes no 16 bytes at once */
    }
    TRY(mem_probe_write(vcpu, linear, 16, seg));
    TRY(mem_outcome(vcpu,
                    gm_mmu_cmpxchg_linear(vcpu->mmu, linear, 8, vcpu->data_view, &value, value),
                    seg, MEM_MODIFY));
    *host = mem_hit_any(vcpu, linear, 16, GM_MMU_WRITE);
    return *host != NULL ? STEP_NEXT : step_exit(vcpu, X86_EXIT_EMULATION);
}

static enum step cmpxchg16b(struct x86_vcpu *vcpu, const struct insn *insn)
{
    uint64_t expected[2] = {vcpu->gpr[X86_RAX], vcpu->gpr[X86_RDX]};
    const uint64_t desired[2] = {vcpu->gpr[X86_RBX], vcpu->gpr[X86_RCX]};
    uint64_t linear;
    void *host;
    bool is_equal;

    TRY(mem_linear(vcpu, insn, 16, MEM_MODIFY, &linear));
    if (linear % 16 != 0) {
        return step_raise_code(vcpu, X86_GP, 0);
    }
    mem_note(vcpu, linear, 16, true);
    TRY(make_hit(vcpu, linear, insn->seg, &host));
    is_equal = exchange16(host, expected, desired);
    mem_note_store(vcpu, host);
    if (!is_equal) {
        vcpu->gpr[X86_RAX] = expected[0];
        vcpu->gpr[X86_RDX] = expected[1];
    }
    set_zero_flag(vcpu, is_equal);
    return STEP_NEXT;
}

insn_fn *exec_atomic(struct insn *insn)
{
    switch (insn->sub) {
    case ATOMIC_XCHG:
        if (insn->form == FORM_RR) {
            return xchg_regs;
        }
        insn->prefixes |= INSN_LOCK; /* always, with memory */
        return xchg_mem;
    case ATOMIC_XADD:
        return xadd;
    case ATOMIC_CMPXCHG:
        return cmpxchg;
    case ATOMIC_CMPXCHG8B:
        return cmpxchg8b;
    default:
        return cmpxchg16b;
    }
}
