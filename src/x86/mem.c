/*
 * x86/mem.c - an instruction's accesses that do not hit the TLB: faults, MMIO and its answers, pages crossed.
 */
#include "x86/mem.h"

#include "x86/breakpoint.h"

#define PF_WRITE 2u

enum step mem_segment(struct x86_vcpu *vcpu, unsigned seg, uint64_t offset, unsigned size,
                      enum mem_intent intent, uint64_t *linear)
{
    const struct x86_segment *segment = &vcpu->segment[seg];

    if (vcpu->mode == X86_MODE_64) { /* FS, GS: no limits */
        *linear = segment->base + offset;
        return STEP_NEXT;
    }
    if (!(intent == MEM_READ ? segment->can_read : segment->can_write) || offset < segment->first ||
        offset > segment->last || segment->last - offset < size - 1) {
        return step_raise_code(vcpu, seg == X86_SS ? X86_SS_FAULT : X86_GP, 0);
    }
    *linear = (uint32_t)(segment->base + offset);
    return STEP_NEXT;
}

static bool is_stack(unsigned seg)
{
    return seg == X86_SS || seg == SEG_FLAT_STACK;
}

enum step mem_outcome(struct x86_vcpu *vcpu, enum gm_mmu_outcome outcome, unsigned seg,
                      enum mem_intent intent)
{
    const struct gm_mmu_exit *exit;

    if (outcome == GM_MMU_OK) {
        return STEP_NEXT;
    }
    exit = gm_mmu_exit(vcpu->mmu);
    vcpu->outcome = outcome;
    vcpu->is_out = true;
    switch (outcome) {
    case GM_MMU_PAGE_FAULT:
    case GM_MMU_TABLE_LOST: /* as KVM has it */
        vcpu->cr2 = exit->linear;
        return step_raise_code(vcpu, X86_PF,
                               exit->error_code | (intent == MEM_MODIFY ? PF_WRITE : 0));
    case GM_MMU_PROTECTION:
        return step_raise_code(vcpu, is_stack(seg) ? X86_SS_FAULT : X86_GP, 0);
    default:
        return STEP_OUTCOME;
    }
}

struct x86_answer *answer_find(struct x86_vcpu *vcpu, enum x86_answer_kind kind, uint64_t address,
                               unsigned size)
{
    struct x86_answer *answer = &vcpu->answers[vcpu->answer_next];

    if (vcpu->answer_next >= vcpu->answer_count || answer->kind != kind ||
        answer->address != address || answer->size_bytes != size) {
        return NULL;
    }
    vcpu->answer_next++;
    return answer;
}

enum step answer_expect(struct x86_vcpu *vcpu, enum x86_answer_kind kind, uint64_t address,
                        unsigned size)
{
    if (vcpu->answer_next >= X86_ANSWERS_MAX) {
        return step_exit(vcpu, X86_EXIT_EMULATION);
    }
    vcpu->answer_count = vcpu->answer_next;
    vcpu->answers[vcpu->answer_count] =
        (struct x86_answer){.kind = kind, .size_bytes = (uint8_t)size, .address = address};
    vcpu->is_access_pending = true;
    return STEP_NEXT;
}

static enum step leave_for_answer(struct x86_vcpu *vcpu, enum x86_answer_kind kind, uint64_t linear,
                                  unsigned size)
{
    TRY(answer_expect(vcpu, kind, linear, size));
    vcpu->outcome = GM_MMU_MMIO;
    return STEP_OUTCOME;
}

/*
 * #AC, where alignment is checked: of what a program accesses, not of what the processor reads for it (Intel SDM 3A,
 * 6.15, "Interrupt 17"). Operands of 1, 2, 4 and 8 bytes lie at multiples of their size. An address that is not canonical
 * comes first; a page fault, as AMD's processors have it, later.
 */
static enum step check_alignment(struct x86_vcpu *vcpu, uint64_t linear, unsigned size,
                                 enum gm_mmu_view view)
{
    bool is_checked = vcpu->checks_alignment && view == vcpu->data_view;

    return is_checked && linear % size != 0 && is_canonical(vcpu, linear)
               ? step_raise_code(vcpu, X86_AC, 0)
               : STEP_NEXT;
}

enum step mem_load_as(struct x86_vcpu *vcpu, uint64_t linear, unsigned size, unsigned seg,
                      enum mem_intent intent, enum gm_mmu_view view, uint64_t *value)
{
    const struct x86_answer *answer = answer_find(vcpu, X86_ANSWER_LOAD, linear, size);
    enum gm_mmu_outcome outcome;

    TRY(check_alignment(vcpu, linear, size, view));
    if (answer != NULL) {
        *value = answer->value;
        return STEP_NEXT;
    }
    outcome = gm_mmu_load_linear(vcpu->mmu, linear, size, view, value);
    if (outcome == GM_MMU_MMIO) {
        return leave_for_answer(vcpu, X86_ANSWER_LOAD, linear, size);
    }
    return mem_outcome(vcpu, outcome, seg, intent);
}

enum step mem_store_as(struct x86_vcpu *vcpu, uint64_t linear, unsigned size, unsigned seg,
                       enum gm_mmu_view view, uint64_t value)
{
    enum gm_mmu_outcome outcome;

    TRY(check_alignment(vcpu, linear, size, view));
    if (answer_find(vcpu, X86_ANSWER_STORE, linear, size) != NULL) {
        return STEP_NEXT;
    }
    vcpu->block_end = NULL; /* which page it is of is not known here */
    outcome = gm_mmu_store_linear(vcpu->mmu, linear, size, view, value);
    if (outcome == GM_MMU_MMIO) {
        return leave_for_answer(vcpu, X86_ANSWER_STORE, linear, size);
    }
    return mem_outcome(vcpu, outcome, seg, MEM_WRITE);
}

void mem_note(struct x86_vcpu *vcpu, uint64_t linear, unsigned size, bool is_write)
{
    if (vcpu->has_breakpoints) {
        breakpoint_note_memory(vcpu, linear, size, is_write);
    }
}

enum step mem_load_slow(struct x86_vcpu *vcpu, uint64_t linear, unsigned size, unsigned seg,
                        enum mem_intent intent, uint64_t *value)
{
    mem_note(vcpu, linear, size, intent == MEM_MODIFY);
    return mem_load_as(vcpu, linear, size, seg, intent, vcpu->data_view, value);
}

enum step mem_store_slow(struct x86_vcpu *vcpu, uint64_t linear, unsigned size, unsigned seg,
                         uint64_t value)
{
    mem_note(vcpu, linear, size, true);
    return mem_store_as(vcpu, linear, size, seg, vcpu->data_view, value);
}

enum step mem_load_system(struct x86_vcpu *vcpu, uint64_t linear, unsigned size, uint64_t *value)
{
    return mem_load_as(vcpu, linear, size, X86_DS, MEM_READ, GM_MMU_SUPERVISOR, value);
}

enum step mem_store_system(struct x86_vcpu *vcpu, uint64_t linear, unsigned size, uint64_t value)
{
    return mem_store_as(vcpu, linear, size, X86_DS, GM_MMU_SUPERVISOR, value);
}

enum step mem_probe_write(struct x86_vcpu *vcpu, uint64_t linear, unsigned size, unsigned seg)
{
    uint64_t places[2] = {linear, linear + size - 1};

    for (unsigned i = 0; i < 2; i++) {
        struct gm_mmu_translation translation;
        enum gm_mmu_outcome outcome;

        if (mem_hit_any(vcpu, places[i], 1, GM_MMU_WRITE) != NULL) {
            continue;
        }
        outcome = gm_mmu_explain(vcpu->mmu, places[i], GM_MMU_WRITE, vcpu->data_view, &translation);
        if (outcome == GM_MMU_PAGE_FAULT) {
            vcpu->cr2 = i == 0 ? linear : places[i] & GM_MMU_PAGE_MASK;
            return step_raise_code(vcpu, X86_PF, translation.error_code);
        }
        if (outcome == GM_MMU_PROTECTION) {
            return step_raise_code(vcpu, is_stack(seg) ? X86_SS_FAULT : X86_GP, 0);
        }
        TRY(mem_outcome(vcpu, outcome, seg, MEM_WRITE));
    }
    return STEP_NEXT;
}

enum step mem_check_store(struct x86_vcpu *vcpu, uint64_t linear, unsigned size, unsigned seg)
{
    TRY(check_alignment(vcpu, linear, size < 8 ? size : 8, vcpu->data_view));
    return mem_probe_write(vcpu, linear, size, seg);
}

enum step mem_load16_slow(struct x86_vcpu *vcpu, uint64_t linear, unsigned seg, uint64_t value[2])
{
    TRY(mem_load_slow(vcpu, linear, 8, seg, MEM_READ, &value[0]));
    return mem_load_slow(vcpu, linear + 8, 8, seg, MEM_READ, &value[1]);
}

/* The upper half must not fault once the lower one is stored. */
enum step mem_store16_slow(struct x86_vcpu *vcpu, uint64_t linear, unsigned seg,
                           const uint64_t value[2])
{
    TRY(mem_check_store(vcpu, linear, 16, seg));
    TRY(mem_store_slow(vcpu, linear, 8, seg, value[0]));
    return mem_store_slow(vcpu, linear + 8, 8, seg, value[1]);
}

enum step rmw_begin_slow(struct x86_vcpu *vcpu, const struct insn *insn, unsigned size,
                         struct mem_rmw *rmw)
{
    unsigned answers = vcpu->answer_next;

    TRY(mem_load_slow(vcpu, rmw->linear, size, insn->seg, MEM_MODIFY, &rmw->old));
    rmw->is_mmio = vcpu->answer_next != answers;
    return STEP_NEXT;
}

enum step rmw_end_slow(struct x86_vcpu *vcpu, const struct insn *insn, unsigned size,
                       struct mem_rmw *rmw, uint64_t value, bool *is_done)
{
    uint64_t seen = rmw->old;
    enum gm_mmu_outcome outcome;

    *is_done = true;
    if (rmw->is_mmio || (insn->prefixes & INSN_LOCK) == 0) {
        return mem_store_slow(vcpu, rmw->linear, size, insn->seg, value);
    }
    if (answer_find(vcpu, X86_ANSWER_STORE, rmw->linear, size) != NULL) {
        return STEP_NEXT;
    }
    vcpu->block_end = NULL;
    outcome = gm_mmu_cmpxchg_linear(vcpu->mmu, rmw->linear, size, vcpu->data_view, &seen, value);
    if (outcome == GM_MMU_MMIO) {
        return leave_for_answer(vcpu, X86_ANSWER_STORE, rmw->linear, size);
    }
    *is_done = seen == rmw->old;
    rmw->old = seen;
    return mem_outcome(vcpu, outcome, insn->seg, MEM_MODIFY);
}

#define EXCHANGE(bits)                                                                             \
    {                                                                                              \
        uint##bits##_t expected = (uint##bits##_t) * old;                                          \
        bool is_done =                                                                             \
            __atomic_compare_exchange_n((uint##bits##_t *)host, &expected, (uint##bits##_t)value,  \
                                        false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);                \
                                                                                                   \
        *old = expected;                                                                           \
        return is_done;                                                                            \
    }

bool rmw_exchange(void *host, unsigned size, uint64_t *old, uint64_t value)
{
    switch (size) {
    case 1:
        EXCHANGE(8)
    case 2:
        EXCHANGE(16)
    case 4:
        EXCHANGE(32)
    default:
        EXCHANGE(64)
    }
}
