/*
 * x86/run.c - x86_run(): boundaries, events, blocks, and exits.
 */
#include "x86/x86.h"

#include "x86/blocks.h"
#include "x86/breakpoint.h"
#include "x86/event.h"
#include "x86/mem.h"
#include "x86/paging.h"

#include "base/check.h"

#include <errno.h>

#define FETCH_MAX 15u
#define PAGE_BYTES 4096u

static enum x86_exit exit_of(struct x86_vcpu *vcpu, enum gm_mmu_outcome outcome)
{
    switch (outcome) {
    case GM_MMU_MMIO:
        return X86_EXIT_MMIO;
    case GM_MMU_DENIED:
        return X86_EXIT_DENIED;
    case GM_MMU_RING_FULL:
        return X86_EXIT_RING_FULL;
    case GM_MMU_KICKED:
        return X86_EXIT_INTR;
    case GM_MMU_ERROR:
        vcpu->error = gm_mmu_exit(vcpu->mmu)->error;
        return X86_EXIT_ERROR;
    default:
        vcpu->error = -EFAULT; /* all others have become the guest's faults */
        return X86_EXIT_ERROR;
    }
}

static enum step as_outcome(struct x86_vcpu *vcpu, enum gm_mmu_outcome outcome)
{
    vcpu->outcome = outcome;
    return outcome == GM_MMU_OK ? STEP_NEXT : STEP_OUTCOME;
}

/* Enter guest mode; what the last exit asked has been answered. */
static enum step begin(struct x86_vcpu *vcpu)
{
    struct x86_answer *answer = &vcpu->answers[vcpu->answer_count];

    if (!vcpu->is_access_pending) {
        return as_outcome(vcpu, gm_mmu_enter(vcpu->mmu));
    }
    if (answer->kind == X86_ANSWER_LOAD || answer->kind == X86_ANSWER_STORE) {
        TRY(as_outcome(vcpu, gm_mmu_resume(vcpu->mmu, &answer->value)));
    } else {
        TRY(as_outcome(vcpu, gm_mmu_enter(vcpu->mmu)));
        answer->value = answer->kind == X86_ANSWER_MSR ? vcpu->msr_access.value : vcpu->io.data;
    }
    vcpu->is_access_pending = false;
    vcpu->answer_count++;
    /* With what was read KVM's emulator goes on; what was written was its last. */
    vcpu->mmu->is_emulated = answer->kind == X86_ANSWER_LOAD || answer->kind == X86_ANSWER_IN;
    return STEP_NEXT;
}

/* Something has been completed: its answers are of no use any more. */
static void forget_answers(struct x86_vcpu *vcpu)
{
    vcpu->answer_count = vcpu->answer_next = 0;
    vcpu->mmu->is_emulated = false;
}

static enum step deliver(struct x86_vcpu *vcpu)
{
    bool is_debug = vcpu->event.vector == X86_DB;
    enum step step;

    if (vcpu->is_out) { /* a page fault has left guest mode */
        vcpu->is_out = false;
        TRY(as_outcome(vcpu, gm_mmu_enter(vcpu->mmu)));
    }
    vcpu->answer_next = 0;
    vcpu->met = 0;
    step = event_deliver(vcpu);
    vcpu->is_delivering = step == STEP_OUTCOME;
    if (step != STEP_OUTCOME) {
        forget_answers(vcpu);
    }
    if (step == STEP_NEXT) {
        vcpu->mp_state = X86_RUNNABLE;
        vcpu->is_comparing = false; /* the handler returns to it as if it began */
        /* #DB that writes to a breakpoint, on a stack by IST, would be followed by another for ever. */
        vcpu->met = is_debug ? 0 : vcpu->met;
        TRY(breakpoint_after(vcpu));
    }
    return step == STEP_FAULT ? STEP_NEXT : step;
}

/* Run the block's instructions, or one. Return: STEP_NEXT: on; rip is that of the next instruction. */
static enum step run_block(struct x86_vcpu *vcpu, const struct block *block, unsigned count)
{
    const struct insn *first = block->insns;
    const struct insn *insn = first;
    enum step step;

    vcpu->gpr[X86_GPR_BLOCK] = vcpu->rip;
    vcpu->block_end = first + count;
    do {
        step = insn->run(vcpu, insn);
        if (step != STEP_NEXT) {
            break;
        }
        insn++;
    } while ((const void *)insn < vcpu->block_end);
    vcpu->instructions += (uint64_t)(insn - first);
    switch (step) {
    case STEP_NEXT:
        vcpu->rip = insn_next_rip(vcpu, insn - 1);
        return STEP_NEXT;
    case STEP_JUMP:
        vcpu->instructions++;
        return STEP_NEXT;
    case STEP_LATE:
        vcpu->instructions++;
        vcpu->rip = insn_next_rip(vcpu, insn);
        return STEP_EXIT;
    case STEP_AGAIN:
        vcpu->instructions++;
        vcpu->is_repeating = true;
        vcpu->rip = insn_rip(vcpu, insn);
        return STEP_NEXT;
    default:
        vcpu->rip = insn_rip(vcpu, insn);
        return step;
    }
}

/* From where no memory is nothing is executed. */
static enum step fetch(struct x86_vcpu *vcpu, uint64_t linear, unsigned count, uint8_t *bytes)
{
    enum gm_mmu_outcome outcome =
        gm_mmu_fetch_linear(vcpu->mmu, linear, count, vcpu->fetch_view, bytes);

    if (outcome == GM_MMU_MMIO) {
        vcpu->is_out = true;
        return step_exit(vcpu, X86_EXIT_EMULATION);
    }
    return mem_outcome(vcpu, outcome, X86_CS, MEM_READ);
}

/* Decode the one instruction at rip, page by page as it may be fetched. NULL: *step. */
static const struct block *fetch_single(struct x86_vcpu *vcpu, uint64_t linear, enum step *step)
{
    uint8_t bytes[FETCH_MAX];
    unsigned count = PAGE_BYTES - (unsigned)(linear & (PAGE_BYTES - 1));
    const struct block *block;

    count = count < FETCH_MAX ? count : FETCH_MAX;
    *step = fetch(vcpu, linear, count, bytes);
    if (*step != STEP_NEXT) {
        return NULL;
    }
    block = blocks_single(vcpu->blocks, bytes, count, vcpu->mode);
    if (block == NULL && count < FETCH_MAX) {
        *step = fetch(vcpu, linear + count, FETCH_MAX - count, bytes + count);
        if (*step != STEP_NEXT) {
            return NULL;
        }
        block = blocks_single(vcpu->blocks, bytes, FETCH_MAX, vcpu->mode);
    }
    GM_ASSERT(block != NULL);
    return block;
}

/* The block at rip. NULL: *step. */
static const struct block *find_block(struct x86_vcpu *vcpu, enum step *step)
{
    const struct x86_segment *cs = &vcpu->segment[X86_CS];
    bool is_64 = vcpu->mode == X86_MODE_64;
    uint64_t linear = is_64 ? vcpu->rip : (uint32_t)(cs->base + vcpu->rip);
    const struct block *block = NULL;
    const uint8_t *host;

    *step = STEP_NEXT;
    if (!is_64 && vcpu->rip > cs->limit) {
        *step = step_raise_code(vcpu, X86_GP, 0);
        return NULL;
    }
    host = gm_tlb_hit(vcpu->mmu, vcpu->mmu->view_tags[vcpu->fetch_view], linear, 1, GM_MMU_FETCH);
    if (host == NULL) {
        uint8_t byte;

        *step = fetch(vcpu, linear, 1, &byte);
        if (*step != STEP_NEXT) {
            return NULL;
        }
        host =
            gm_tlb_hit(vcpu->mmu, vcpu->mmu->view_tags[vcpu->fetch_view], linear, 1, GM_MMU_FETCH);
    }
    vcpu->code_page = (uintptr_t)host & GM_MMU_PAGE_MASK;
    if (host != NULL) {
        block = blocks_find(vcpu->blocks, host, vcpu->mode);
    }
    if (block == NULL || (!is_64 && cs->limit - vcpu->rip < block->byte_count - 1u)) {
        block = fetch_single(vcpu, linear, step);
        if (block != NULL && !is_64 && cs->limit - vcpu->rip < block->byte_count - 1u) {
            *step = step_raise_code(vcpu, X86_GP, 0);
            return NULL;
        }
    }
    return block;
}

/* The bytes of an instruction that is not there. In guest mode. */
static void note_bytes(struct x86_vcpu *vcpu)
{
    const struct x86_segment *cs = &vcpu->segment[X86_CS];
    uint64_t linear = vcpu->mode == X86_MODE_64 ? vcpu->rip : (uint32_t)(cs->base + vcpu->rip);
    unsigned count = PAGE_BYTES - (unsigned)(linear & (PAGE_BYTES - 1));

    count = count < FETCH_MAX ? count : FETCH_MAX;
    vcpu->byte_count = 0;
    if (vcpu->is_out) {
        return;
    }
    if (gm_mmu_fetch_linear(vcpu->mmu, linear, count, vcpu->fetch_view, vcpu->bytes) == GM_MMU_OK) {
        vcpu->byte_count = (uint8_t)count;
    } else {
        vcpu->is_out = true;
    }
}

/* One instruction at a time: where something has to be done before or after it. */
static bool is_single(const struct x86_vcpu *vcpu)
{
    return vcpu->answer_count != 0 || vcpu->mmu->is_emulated || vcpu->is_shadowed ||
           vcpu->guest_debug_step || vcpu->has_breakpoints ||
           (vcpu->rflags & (X86_FLAG_TF | X86_FLAG_RF)) != 0;
}

/* What a fault leaves behind is the event to be delivered. */
static enum step after_step(struct x86_vcpu *vcpu, enum step step)
{
    switch (step) {
    case STEP_FAULT:
        vcpu->event = vcpu->fault;
        vcpu->ahead_next = 0;
        forget_answers(vcpu);
        return STEP_NEXT;
    case STEP_SOFTWARE:
        forget_answers(vcpu);
        return STEP_NEXT;
    case STEP_OUTCOME:
        return step;
    default:
        return step;
    }
}

static enum step run_single(struct x86_vcpu *vcpu, const struct block *block)
{
    bool was_shadowed = vcpu->is_shadowed;
    bool was_ss = vcpu->is_ss_shadow;
    uint64_t resume = vcpu->rflags & X86_FLAG_RF;
    uint64_t done = vcpu->instructions;
    uint64_t rip = vcpu->rip;
    bool is_emulated;
    enum step step;

    vcpu->is_stepped = (vcpu->rflags & X86_FLAG_TF) != 0;
    vcpu->is_shadowed = vcpu->is_ss_shadow = false;
    vcpu->answer_next = 0;
    vcpu->met = was_ss ? vcpu->met : 0;
    vcpu->is_repeating = false;
    vcpu->rflags &= ~X86_FLAG_RF; /* IRET may set it anew */
    step = run_block(vcpu, block, 1);
    vcpu->rflags |= vcpu->instructions == done || vcpu->is_repeating ? resume : 0;
    if (vcpu->instructions == done) { /* not complete */
        vcpu->is_shadowed = step == STEP_OUTCOME && was_shadowed;
        vcpu->is_ss_shadow = step == STEP_OUTCOME && was_ss;
        return step;
    }
    is_emulated =
        vcpu->mmu->is_emulated && vcpu->rip == rip; /* a string instruction's next element */
    forget_answers(vcpu);
    vcpu->mmu->is_emulated = is_emulated;
    if (vcpu->is_stepped && !vcpu->is_ss_shadow) {
        event_trap_step(vcpu);
    }
    TRY(breakpoint_after(vcpu));
    if (step == STEP_NEXT && vcpu->guest_debug_step) {
        return step_debug(vcpu, X86_DB, X86_DR6_BS);
    }
    return step;
}

/* Up to the next boundary. */
static enum step run_some(struct x86_vcpu *vcpu)
{
    const struct block *block = NULL;
    enum step step = vcpu->has_breakpoints ? breakpoint_before(vcpu) : STEP_NEXT;

    if (step == STEP_NEXT) {
        block = find_block(vcpu, &step);
    }
    if (block == NULL) {
        return after_step(vcpu, step);
    }
    if (__builtin_expect(is_single(vcpu), 0)) {
        step = run_single(vcpu, block);
    } else {
        step = run_block(vcpu, block, block->insn_count);
    }
    return step == STEP_NEXT ? STEP_NEXT : after_step(vcpu, step);
}

static bool is_event_waiting(const struct x86_vcpu *vcpu)
{
    return vcpu->event.kind != X86_EVENT_NONE || vcpu->is_interrupt_queued ||
           vcpu->is_nmi_pending || vcpu->mp_state != X86_RUNNABLE || vcpu->request_irq_window ||
           vcpu->is_paging_stale;
}

/* What has waited becomes the event. An instruction that has answers is in the midst of what it does. */
static bool find_event(struct x86_vcpu *vcpu)
{
    if (vcpu->event.kind != X86_EVENT_NONE) {
        return true;
    }
    if (vcpu->answer_count != 0 || is_ahead(vcpu)) {
        return false;
    }
    if (vcpu->is_interrupt_queued) {
        vcpu->event =
            (struct x86_event){.kind = X86_EVENT_INTERRUPT, .vector = vcpu->queued_vector};
        vcpu->is_interrupt_queued = false;
        return true;
    }
    if (vcpu->is_nmi_pending && !vcpu->is_nmi_blocked && !vcpu->is_ss_shadow &&
        !vcpu->holds_events) {
        vcpu->event = (struct x86_event){.kind = X86_EVENT_NMI, .vector = X86_NMI};
        vcpu->is_nmi_pending = false;
        return true;
    }
    return false;
}

static enum step refresh_paging(struct x86_vcpu *vcpu)
{
    if (vcpu->is_paging_stale) {
        TRY(paging_tell(vcpu));
    }
    return STEP_NEXT;
}

/* What comes before the next instruction. STEP_NEXT: it does now. */
static enum step before_instruction(struct x86_vcpu *vcpu)
{
    TRY(refresh_paging(vcpu));
    while (find_event(vcpu)) {
        TRY(deliver(vcpu));
    }
    if (vcpu->request_irq_window && x86_can_interrupt(vcpu)) {
        return step_exit(vcpu, X86_EXIT_IRQ_WINDOW);
    }
    if (vcpu->mp_state != X86_RUNNABLE) {
        return step_exit(vcpu, X86_EXIT_HLT);
    }
    return STEP_NEXT;
}

static enum step run_to_exit(struct x86_vcpu *vcpu, uint64_t end)
{
    /* A handler may fault by itself, for ever, and one string instruction take as long as thousands of others: of the budget, too. */
    uint64_t fault_count = 0;
    uint64_t first_element = vcpu->elements;

    for (;;) {
        uint64_t done = vcpu->instructions;

        if (__builtin_expect(gm_mmu_is_wanted(vcpu->mmu), 0)) {
            vcpu->is_out = false; /* or it is, by a page fault: the boundary enters again */
            TRY(as_outcome(vcpu, gm_mmu_boundary(vcpu->mmu)));
        }
        if (__builtin_expect(is_event_waiting(vcpu), 0)) {
            TRY(before_instruction(vcpu));
        }
        if (__builtin_expect(
                done >= end || end - done <= fault_count + (vcpu->elements - first_element), 0)) {
            return step_exit(vcpu, X86_EXIT_BUDGET);
        }
        TRY(run_some(vcpu));
        fault_count += vcpu->instructions == done;
    }
}

static bool prepare(struct x86_vcpu *vcpu)
{
    if (vcpu->blocks == NULL) {
        vcpu->blocks = blocks_new(&vcpu->allocator);
    }
    vcpu->error = -ENOMEM;
    return vcpu->blocks != NULL;
}

/* Out of guest mode, in whichever way it ended. */
static enum x86_exit leave(struct x86_vcpu *vcpu, enum step step)
{
    if (step == STEP_OUTCOME) {
        return exit_of(vcpu, vcpu->outcome);
    }
    if (step == STEP_FAULT) { /* PDPTEs that the VMM set */
        vcpu->exit = X86_EXIT_ERROR;
        vcpu->error = -EINVAL;
    }
    if (vcpu->exit == X86_EXIT_EMULATION) {
        note_bytes(vcpu);
    }
    if (!vcpu->is_out) {
        gm_mmu_leave(vcpu->mmu);
    }
    return vcpu->exit;
}

enum x86_exit x86_run(struct x86_vcpu *vcpu, uint64_t budget)
{
    uint64_t end = vcpu->instructions + budget;
    enum step step;

    if (end < budget) {
        end = UINT64_MAX;
    }
    if (!prepare(vcpu)) {
        return X86_EXIT_ERROR;
    }
    do {
        vcpu->is_out = false;
        step = begin(vcpu);
        if (step == STEP_NEXT) {
            step = run_to_exit(vcpu, end);
        }
    } while (step == STEP_OUTCOME && vcpu->outcome == GM_MMU_RESTART);
    return leave(vcpu, step);
}

static enum step finish(struct x86_vcpu *vcpu)
{
    TRY(begin(vcpu));
    TRY(refresh_paging(vcpu));
    TRY(vcpu->is_delivering ? deliver(vcpu) : run_some(vcpu));
    return step_exit(vcpu, X86_EXIT_BUDGET);
}

enum x86_exit x86_finish(struct x86_vcpu *vcpu)
{
    enum step step;

    if (!prepare(vcpu)) {
        return X86_EXIT_ERROR;
    }
    do {
        vcpu->is_out = false;
        step = finish(vcpu);
    } while (step == STEP_OUTCOME &&
             (vcpu->outcome == GM_MMU_RESTART || vcpu->outcome == GM_MMU_KICKED));
    return leave(vcpu, step);
}

bool x86_has_run(const struct x86_vcpu *vcpu)
{
    return vcpu->blocks != NULL;
}

bool x86_is_unfinished(const struct x86_vcpu *vcpu)
{
    return vcpu->is_access_pending || vcpu->answer_count != 0 || is_ahead(vcpu);
}

void x86_begin_anew(struct x86_vcpu *vcpu)
{
    vcpu->is_access_pending = vcpu->is_delivering = false;
    vcpu->ahead_next = 0;
    forget_answers(vcpu);
}
