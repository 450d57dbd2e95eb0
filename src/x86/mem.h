/*
 * x86/mem.h - an instruction's way to memory: effective addresses, segments, and the TLB's hits inlined.
 *
 * What cannot be done returns a step: a fault, or an outcome to come out with; nothing of the access has happened
 * then. Handlers change registers only after their last access. An access that is MMIO comes out, is answered, and
 * is found among vcpu->answers when the instruction is run again; MMIO never hits the TLB, so hits need not look there.
 */
#ifndef X86_MEM_H
#define X86_MEM_H

#include "x86/insn.h"

enum mem_intent {
    MEM_READ,
    MEM_WRITE,
    MEM_MODIFY, /* a read that a write follows: its faults are a write's */
};

/* A memory operand that is modified. */
struct mem_rmw {
    void *host; /* NULL: by the slow way */
    uint64_t linear;
    uint64_t old;
    bool is_mmio; /* it was answered: so is the write */
};

/* Check and translate by a segment that is not flat. */
enum step mem_segment(struct x86_vcpu *vcpu, unsigned seg, uint64_t offset, unsigned size,
                      enum mem_intent intent, uint64_t *linear);
/* An access of the program's, or of its stack, that does not come by what follows: for breakpoints. */
void mem_note(struct x86_vcpu *vcpu, uint64_t linear, unsigned size, bool is_write);
/* Misses. @seg: for #SS. */
enum step mem_load_slow(struct x86_vcpu *vcpu, uint64_t linear, unsigned size, unsigned seg,
                        enum mem_intent intent, uint64_t *value);
enum step mem_store_slow(struct x86_vcpu *vcpu, uint64_t linear, unsigned size, unsigned seg,
                         uint64_t value);
/* By another view than that of the instruction's data. */
enum step mem_load_as(struct x86_vcpu *vcpu, uint64_t linear, unsigned size, unsigned seg,
                      enum mem_intent intent, enum gm_mmu_view view, uint64_t *value);
enum step mem_store_as(struct x86_vcpu *vcpu, uint64_t linear, unsigned size, unsigned seg,
                       enum gm_mmu_view view, uint64_t value);
/* Of the system: as a supervisor, whatever the CPL: descriptor tables, interrupt stacks. */
enum step mem_load_system(struct x86_vcpu *vcpu, uint64_t linear, unsigned size, uint64_t *value);
enum step mem_store_system(struct x86_vcpu *vcpu, uint64_t linear, unsigned size, uint64_t value);
/* Can @size bytes be written, as far as the guest's tables go? A fault is raised. */
enum step mem_probe_write(struct x86_vcpu *vcpu, uint64_t linear, unsigned size, unsigned seg);
/* ... and its alignment: all that a store of it would raise. */
enum step mem_check_store(struct x86_vcpu *vcpu, uint64_t linear, unsigned size, unsigned seg);
/* An outcome other than GM_MMU_OK as a step. */
enum step mem_outcome(struct x86_vcpu *vcpu, enum gm_mmu_outcome outcome, unsigned seg,
                      enum mem_intent intent);
/* 16 bytes. */
enum step mem_load16_slow(struct x86_vcpu *vcpu, uint64_t linear, unsigned seg, uint64_t value[2]);
enum step mem_store16_slow(struct x86_vcpu *vcpu, uint64_t linear, unsigned seg,
                           const uint64_t value[2]);

/* The answer to the present instruction's next access that leaves, if it was given. NULL: it leaves. */
struct x86_answer *answer_find(struct x86_vcpu *vcpu, enum x86_answer_kind kind, uint64_t address,
                               unsigned size);
/* It leaves: remember what is asked. Return: STEP_NEXT; STEP_EXIT too many. */
enum step answer_expect(struct x86_vcpu *vcpu, enum x86_answer_kind kind, uint64_t address,
                        unsigned size);

X86_INLINE uint64_t mem_offset(const struct x86_vcpu *vcpu, const struct insn *insn)
{
    return (vcpu->gpr[insn->base] + (vcpu->gpr[insn->index] << insn->scale) + insn->disp) &
           insn->addr_mask;
}

X86_INLINE enum step mem_linear_of(struct x86_vcpu *vcpu, unsigned seg, uint64_t offset,
                                   unsigned size, enum mem_intent intent, uint64_t *linear)
{
    if (__builtin_expect(seg >= SEG_FLAT, 1)) {
        *linear = offset;
        return STEP_NEXT;
    }
    return mem_segment(vcpu, seg, offset, size, intent, linear);
}

X86_INLINE enum step mem_linear(struct x86_vcpu *vcpu, const struct insn *insn, unsigned size,
                                enum mem_intent intent, uint64_t *linear)
{
    return mem_linear_of(vcpu, insn->seg, mem_offset(vcpu, insn), size, intent, linear);
}

/* The host's address; NULL: not in the TLB. */
X86_INLINE void *mem_hit(const struct x86_vcpu *vcpu, uint64_t linear, unsigned size,
                         enum gm_mmu_access access)
{
    return gm_tlb_hit(vcpu->mmu, *vcpu->data_tag, linear, size, access);
}

/* ... of an access whose alignment is not checked, or has been. */
X86_INLINE void *mem_hit_any(const struct x86_vcpu *vcpu, uint64_t linear, unsigned size,
                             enum gm_mmu_access access)
{
    return gm_tlb_hit(vcpu->mmu, vcpu->mmu->view_tags[vcpu->data_view], linear, size, access);
}

/* A store has been made: if into the page of the block under way, the block ends with this instruction. */
X86_INLINE void mem_note_store(struct x86_vcpu *vcpu, const void *host)
{
    if (__builtin_expect((uintptr_t)host - vcpu->code_page < 4096, 0)) {
        vcpu->block_end = NULL;
    }
}

X86_INLINE enum step load_linear(struct x86_vcpu *vcpu, uint64_t linear, unsigned size,
                                 unsigned seg, uint64_t *value)
{
    const void *host = mem_hit(vcpu, linear, size, GM_MMU_READ);

    if (__builtin_expect(host == NULL, 0)) {
        return mem_load_slow(vcpu, linear, size, seg, MEM_READ, value);
    }
    *value = gm_host_load(host, size);
    return STEP_NEXT;
}

X86_INLINE enum step store_linear(struct x86_vcpu *vcpu, uint64_t linear, unsigned size,
                                  unsigned seg, uint64_t value)
{
    void *host = mem_hit(vcpu, linear, size, GM_MMU_WRITE);

    if (__builtin_expect(host == NULL, 0)) {
        return mem_store_slow(vcpu, linear, size, seg, value);
    }
    gm_host_store(host, value, size);
    mem_note_store(vcpu, host);
    return STEP_NEXT;
}

/* The instruction's memory operand. */
X86_INLINE enum step mem_load(struct x86_vcpu *vcpu, const struct insn *insn, unsigned size,
                              uint64_t *value)
{
    uint64_t linear;

    TRY(mem_linear(vcpu, insn, size, MEM_READ, &linear));
    return load_linear(vcpu, linear, size, insn->seg, value);
}

X86_INLINE enum step mem_store(struct x86_vcpu *vcpu, const struct insn *insn, unsigned size,
                               uint64_t value)
{
    uint64_t linear;

    TRY(mem_linear(vcpu, insn, size, MEM_WRITE, &linear));
    return store_linear(vcpu, linear, size, insn->seg, value);
}

enum step rmw_begin_slow(struct x86_vcpu *vcpu, const struct insn *insn, unsigned size,
                         struct mem_rmw *rmw);
/* Return: STEP_NEXT with *is_done false: it has changed meanwhile, rmw->old is what is there now. */
enum step rmw_end_slow(struct x86_vcpu *vcpu, const struct insn *insn, unsigned size,
                       struct mem_rmw *rmw, uint64_t value, bool *is_done);
bool rmw_exchange(void *host, unsigned size, uint64_t *old, uint64_t value);

/*
 * Read, modify, write:
 *
 *     TRY(rmw_begin(vcpu, insn, size, &rmw));
 *     do {
 *         value = ... rmw.old ...;
 *         TRY(rmw_end(vcpu, insn, size, &rmw, value, &is_done));
 *     } while (!is_done);
 *
 * With LOCK the exchange is atomic for all threads of the host.
 */
X86_INLINE enum step rmw_begin(struct x86_vcpu *vcpu, const struct insn *insn, unsigned size,
                               struct mem_rmw *rmw)
{
    TRY(mem_linear(vcpu, insn, size, MEM_MODIFY, &rmw->linear));
    rmw->is_mmio = false;
    rmw->host = mem_hit(vcpu, rmw->linear, size, GM_MMU_WRITE);
    if (__builtin_expect(rmw->host == NULL, 0)) {
        return rmw_begin_slow(vcpu, insn, size, rmw);
    }
    if (__builtin_expect((insn->prefixes & INSN_LOCK) != 0, 0) &&
        ((uintptr_t)rmw->host & (size - 1)) != 0) {
        rmw->host = NULL;
        return rmw_begin_slow(vcpu, insn, size, rmw);
    }
    rmw->old = gm_host_load(rmw->host, size);
    return STEP_NEXT;
}

X86_INLINE enum step rmw_end(struct x86_vcpu *vcpu, const struct insn *insn, unsigned size,
                             struct mem_rmw *rmw, uint64_t value, bool *is_done)
{
    if (__builtin_expect(rmw->host == NULL, 0)) {
        return rmw_end_slow(vcpu, insn, size, rmw, value, is_done);
    }
    *is_done = true;
    if (__builtin_expect((insn->prefixes & INSN_LOCK) != 0, 0)) {
        *is_done = rmw_exchange(rmw->host, size, &rmw->old, value);
    } else {
        gm_host_store(rmw->host, value, size);
    }
    mem_note_store(vcpu, rmw->host);
    return STEP_NEXT;
}

/* An operand that is a register, memory or immediate, by its number in the form. For handlers that are not hot. */
X86_INLINE unsigned operand_kind(const struct insn *insn, unsigned number)
{
    return (insn->form >> (2 * number)) & 3;
}

X86_INLINE enum step operand_read(struct x86_vcpu *vcpu, const struct insn *insn, unsigned number,
                                  unsigned size, uint64_t *value)
{
    switch (operand_kind(insn, number)) {
    case KIND_REG:
        *value = reg_read(vcpu, insn->reg[number], size);
        return STEP_NEXT;
    case KIND_MEM:
        return mem_load(vcpu, insn, size, value);
    default:
        *value = zero_extend(insn->imm, size);
        return STEP_NEXT;
    }
}

X86_INLINE enum step operand_write(struct x86_vcpu *vcpu, const struct insn *insn, unsigned number,
                                   unsigned size, uint64_t value)
{
    if (operand_kind(insn, number) == KIND_MEM) {
        return mem_store(vcpu, insn, size, value);
    }
    reg_write(vcpu, insn->reg[number], size, value);
    return STEP_NEXT;
}

/* The first operand is modified: as struct mem_rmw, or a register. */
X86_INLINE enum step operand_begin(struct x86_vcpu *vcpu, const struct insn *insn, unsigned size,
                                   struct mem_rmw *rmw)
{
    if (operand_kind(insn, 0) == KIND_MEM) {
        return rmw_begin(vcpu, insn, size, rmw);
    }
    rmw->old = reg_read(vcpu, insn->reg[0], size);
    return STEP_NEXT;
}

X86_INLINE enum step operand_end(struct x86_vcpu *vcpu, const struct insn *insn, unsigned size,
                                 struct mem_rmw *rmw, uint64_t value, bool *is_done)
{
    if (operand_kind(insn, 0) == KIND_MEM) {
        return rmw_end(vcpu, insn, size, rmw, value, is_done);
    }
    reg_write(vcpu, insn->reg[0], size, value);
    *is_done = true;
    return STEP_NEXT;
}

/* The stack: @sp is a copy of RSP, which the caller commits. */
X86_INLINE enum step stack_push(struct x86_vcpu *vcpu, unsigned size, uint64_t value, uint64_t *sp)
{
    uint64_t offset = (*sp - size) & vcpu->stack_mask;
    unsigned seg = vcpu->mode == X86_MODE_64 ? SEG_FLAT_STACK : X86_SS;
    uint64_t linear;

    TRY(mem_linear_of(vcpu, seg, offset, size, MEM_WRITE, &linear));
    TRY(store_linear(vcpu, linear, size, seg, value));
    *sp = (*sp & ~vcpu->stack_mask) | offset;
    return STEP_NEXT;
}

X86_INLINE enum step stack_pop(struct x86_vcpu *vcpu, unsigned size, uint64_t *value, uint64_t *sp)
{
    uint64_t offset = *sp & vcpu->stack_mask;
    unsigned seg = vcpu->mode == X86_MODE_64 ? SEG_FLAT_STACK : X86_SS;
    uint64_t linear;

    TRY(mem_linear_of(vcpu, seg, offset, size, MEM_READ, &linear));
    TRY(load_linear(vcpu, linear, size, seg, value));
    *sp = (*sp & ~vcpu->stack_mask) | ((offset + size) & vcpu->stack_mask);
    return STEP_NEXT;
}

#endif
