/*
 * x86/exec_far.c - far jumps, calls and returns, IRET, SYSCALL and SYSENTER. Call gates and tasks are not there.
 */
#include "x86/exec.h"

#include "x86/event.h"
#include "x86/mem.h"
#include "x86/seg.h"

#define EFER_SCE 1u

/* Where a far transfer goes. */
struct target {
    struct descriptor descriptor;
    struct x86_segment code;
    uint64_t rip;
    unsigned level;
};

static bool is_in_code(const struct x86_vcpu *vcpu, const struct target *target)
{
    if (is_long_mode(vcpu) && target->code.l) {
        return is_canonical(vcpu, target->rip);
    }
    return target->rip <= target->code.limit;
}

/* The last check: only what is loaded has been accessed. */
static enum step accept_target(struct x86_vcpu *vcpu, struct target *target)
{
    return is_in_code(vcpu, target) ? seg_mark_accessed(vcpu, &target->descriptor)
                                    : step_raise_code(vcpu, X86_GP, 0);
}

/* JMP and CALL to a code segment, at the present level. */
static enum step read_code(struct x86_vcpu *vcpu, uint16_t selector, struct target *target)
{
    struct descriptor *descriptor = &target->descriptor;
    unsigned dpl;

    if ((selector & ~3u) == 0) {
        return step_raise_code(vcpu, X86_GP, 0);
    }
    TRY(seg_read_descriptor(vcpu, selector, X86_GP, descriptor));
    dpl = descriptor_dpl(descriptor);
    if (descriptor_is_system(descriptor)) {
        unsigned type = descriptor_type(descriptor);
        bool is_known = type == SYS_CALL_GATE ||
                        (!is_long_mode(vcpu) && (type == SYS_TSS || type == SYS_TASK_GATE ||
                                                 type == SYS_TSS16 || type == SYS_CALL_GATE16));

        return is_known ? step_exit(vcpu, X86_EXIT_EMULATION)
                        : raise_selector(vcpu, X86_GP, selector);
    }
    if (!descriptor_is_code(descriptor) || !seg_is_code_valid(vcpu, descriptor) ||
        (descriptor_is_conforming(descriptor) ? dpl > vcpu->cpl
                                              : (selector & 3u) > vcpu->cpl || dpl != vcpu->cpl)) {
        return raise_selector(vcpu, X86_GP, selector);
    }
    if (!descriptor_is_present(descriptor)) {
        return raise_selector(vcpu, X86_NP, selector);
    }
    seg_unpack(descriptor, selector, &target->code);
    target->code.type |= 1; /* accessed */
    target->level = vcpu->cpl;
    return accept_target(vcpu, target);
}

/* The pointer: in the instruction, or in memory. */
static enum step read_pointer(struct x86_vcpu *vcpu, const struct insn *insn, uint16_t *selector,
                              uint64_t *rip)
{
    uint64_t offset = mem_offset(vcpu, insn);
    uint64_t linear, value;

    if (operand_kind(insn, 0) == KIND_IMM) {
        *selector = insn->selector;
        *rip = zero_extend(insn->imm, insn->size);
        return STEP_NEXT;
    }
    TRY(mem_linear_of(vcpu, insn->seg, offset, insn->size, MEM_READ, &linear));
    TRY(load_linear(vcpu, linear, insn->size, insn->seg, rip));
    offset = (offset + insn->size) & insn->addr_mask;
    TRY(mem_linear_of(vcpu, insn->seg, offset, 2, MEM_READ, &linear));
    TRY(load_linear(vcpu, linear, 2, insn->seg, &value));
    *selector = (uint16_t)value;
    return STEP_NEXT;
}

/* JMP, CALL. */
static enum step transfer(struct x86_vcpu *vcpu, const struct insn *insn)
{
    struct seg_frame frame = seg_frame_now(vcpu);
    struct target target;
    uint16_t selector;

    TRY(read_pointer(vcpu, insn, &selector, &target.rip));
    if (has_descriptors(vcpu)) {
        TRY(read_code(vcpu, selector, &target));
    } else if (target.rip > vcpu->segment[X86_CS].limit) {
        return step_raise_code(vcpu, X86_GP, 0);
    }
    if (insn->sub == FAR_CALL) {
        TRY(seg_frame_push(vcpu, &frame, insn->size, vcpu->segment[X86_CS].selector));
        TRY(seg_frame_push(vcpu, &frame, insn->size, insn_next_rip(vcpu, insn)));
        vcpu->gpr[X86_RSP] = seg_frame_sp(vcpu, &frame);
    }
    if (has_descriptors(vcpu)) {
        seg_commit_code(vcpu, &target.code, target.level);
    } else {
        seg_load_real(vcpu, X86_CS, selector);
    }
    vcpu->rip = target.rip;
    return STEP_JUMP;
}

/* The code segment that RETF and IRET go back to: at its RPL, which is not more privileged. It is accepted after the
 * stack (Intel SDM 2, IRET). */
static enum step read_return(struct x86_vcpu *vcpu, uint16_t selector, struct target *target)
{
    struct descriptor *descriptor = &target->descriptor;
    unsigned rpl = selector & 3u;
    unsigned dpl;

    if ((selector & ~3u) == 0) {
        return step_raise_code(vcpu, X86_GP, 0);
    }
    TRY(seg_read_descriptor(vcpu, selector, X86_GP, descriptor));
    dpl = descriptor_dpl(descriptor);
    if (!descriptor_is_code(descriptor) || !seg_is_code_valid(vcpu, descriptor) ||
        rpl < vcpu->cpl || (descriptor_is_conforming(descriptor) ? dpl > rpl : dpl != rpl)) {
        return raise_selector(vcpu, X86_GP, selector);
    }
    if (!descriptor_is_present(descriptor)) {
        return raise_selector(vcpu, X86_NP, selector);
    }
    seg_unpack(descriptor, selector, &target->code);
    target->code.type |= 1; /* accessed */
    target->level = rpl;
    return STEP_NEXT;
}

/* The stack that is returned to. Null is one for 64-bit code of levels 0 to 2. */
static enum step read_return_stack(struct x86_vcpu *vcpu, uint16_t selector,
                                   const struct target *target, struct x86_segment *stack)
{
    bool to_64 = is_long_mode(vcpu) && target->code.l;

    if ((selector & ~3u) == 0 && to_64 && target->level != 3 && (selector & 3u) == target->level) {
        *stack = seg_null_stack(target->level);
        return STEP_NEXT;
    }
    return seg_prepare_stack(vcpu, selector, target->level, X86_GP, stack);
}

/* To the target and its stack. */
static void commit_return(struct x86_vcpu *vcpu, const struct target *target,
                          const struct x86_segment *stack, uint64_t sp)
{
    bool is_outer = target->level > vcpu->cpl;

    seg_commit_stack(vcpu, stack);
    seg_commit_code(vcpu, &target->code, target->level);
    vcpu->gpr[X86_RSP] = (vcpu->gpr[X86_RSP] & ~vcpu->stack_mask) | (sp & vcpu->stack_mask);
    vcpu->rip = target->rip;
    if (is_outer) {
        seg_drop_inner(vcpu);
    }
}

static enum step far_return_real(struct x86_vcpu *vcpu, const struct insn *insn)
{
    struct seg_frame frame = seg_frame_now(vcpu);
    uint64_t rip, selector;

    TRY(seg_frame_pop(vcpu, &frame, insn->size, &rip));
    TRY(seg_frame_pop(vcpu, &frame, insn->size, &selector));
    if (rip > vcpu->segment[X86_CS].limit) {
        return step_raise_code(vcpu, X86_GP, 0);
    }
    frame.sp += insn->form == FORM_I ? (uint16_t)insn->imm : 0;
    vcpu->gpr[X86_RSP] = seg_frame_sp(vcpu, &frame);
    seg_load_real(vcpu, X86_CS, (uint16_t)selector);
    vcpu->rip = rip;
    return STEP_JUMP;
}

static enum step far_return(struct x86_vcpu *vcpu, const struct insn *insn)
{
    uint64_t skipped = insn->form == FORM_I ? (uint16_t)insn->imm : 0;
    struct seg_frame frame = seg_frame_now(vcpu);
    struct x86_segment stack = vcpu->segment[X86_SS];
    struct target target;
    uint64_t selector, sp, ss;

    if (!has_descriptors(vcpu)) {
        return far_return_real(vcpu, insn);
    }
    TRY(seg_frame_pop(vcpu, &frame, insn->size, &target.rip));
    TRY(seg_frame_pop(vcpu, &frame, insn->size, &selector));
    TRY(read_return(vcpu, (uint16_t)selector, &target));
    frame.sp += skipped;
    sp = frame.sp;
    if (target.level > vcpu->cpl) {
        TRY(seg_frame_pop(vcpu, &frame, insn->size, &sp));
        TRY(seg_frame_pop(vcpu, &frame, insn->size, &ss));
        TRY(read_return_stack(vcpu, (uint16_t)ss, &target, &stack));
        sp += skipped;
    }
    TRY(accept_target(vcpu, &target));
    commit_return(vcpu, &target, &stack, sp);
    return STEP_JUMP;
}

/* What IRET may change of the flags. VIF and VIP: ring 0 of protected mode alone. */
static void load_flags(struct x86_vcpu *vcpu, uint64_t flags, unsigned size, unsigned old_cpl)
{
    uint64_t writable = X86_FLAGS_ARITHMETIC | X86_FLAG_TF | X86_FLAG_DF | X86_FLAG_NT |
                        X86_FLAG_RF | X86_FLAG_AC | X86_FLAG_ID;
    unsigned iopl = (unsigned)(vcpu->rflags & X86_FLAG_IOPL) >> 12;

    writable |= old_cpl <= iopl ? X86_FLAG_IF : 0;
    writable |= old_cpl == 0 ? X86_FLAG_IOPL : 0;
    writable |= old_cpl == 0 && is_protected(vcpu) ? X86_FLAG_VIF | X86_FLAG_VIP : 0;
    writable = zero_extend(writable, size);
    x86_set_rflags(vcpu, (flags & writable) | (x86_get_rflags(vcpu) & ~writable));
}

static enum step iret_real(struct x86_vcpu *vcpu, const struct insn *insn)
{
    struct seg_frame frame = seg_frame_now(vcpu);
    bool is_virtual = (vcpu->rflags & X86_FLAG_VM) != 0;
    uint64_t rip, selector, flags;

    if (is_virtual && (vcpu->rflags & X86_FLAG_IOPL) != X86_FLAG_IOPL) {
        return (vcpu->cr4 & 1) != 0 ? step_exit(vcpu, X86_EXIT_EMULATION)
                                    : step_raise_code(vcpu, X86_GP, 0);
    }
    TRY(seg_frame_pop(vcpu, &frame, insn->size, &rip));
    TRY(seg_frame_pop(vcpu, &frame, insn->size, &selector));
    TRY(seg_frame_pop(vcpu, &frame, insn->size, &flags));
    if (rip > vcpu->segment[X86_CS].limit) {
        return step_raise_code(vcpu, X86_GP, 0);
    }
    vcpu->gpr[X86_RSP] = seg_frame_sp(vcpu, &frame);
    load_flags(vcpu, flags, insn->size, is_virtual ? 3 : 0);
    seg_load_real(vcpu, X86_CS, (uint16_t)selector);
    vcpu->rip = rip;
    vcpu->is_nmi_blocked = false;
    return STEP_JUMP;
}

/* To virtual-8086 mode: all segments come from the stack. */
static enum step iret_to_virtual(struct x86_vcpu *vcpu, struct seg_frame *frame, uint64_t rip,
                                 uint64_t selector, uint64_t flags)
{
    static const enum x86_segment_number numbers[] = {X86_ES, X86_DS, X86_FS, X86_GS};
    uint64_t sp, ss;
    uint64_t data[4];

    TRY(seg_frame_pop(vcpu, frame, 4, &sp));
    TRY(seg_frame_pop(vcpu, frame, 4, &ss));
    for (unsigned i = 0; i < 4; i++) {
        TRY(seg_frame_pop(vcpu, frame, 4, &data[i]));
    }
    x86_set_rflags(vcpu, flags);
    seg_load_real(vcpu, X86_CS, (uint16_t)selector);
    seg_load_real(vcpu, X86_SS, (uint16_t)ss);
    for (unsigned i = 0; i < 4; i++) {
        seg_load_real(vcpu, numbers[i], (uint16_t)data[i]);
    }
    vcpu->gpr[X86_RSP] = (uint32_t)sp;
    vcpu->rip = (uint16_t)rip;
    vcpu->is_nmi_blocked = false;
    return STEP_JUMP;
}

static enum step iret(struct x86_vcpu *vcpu, const struct insn *insn)
{
    struct seg_frame frame = seg_frame_now(vcpu);
    struct x86_segment stack = vcpu->segment[X86_SS];
    unsigned cpl = vcpu->cpl;
    struct target target;
    uint64_t selector, flags, sp, ss;

    if (!has_descriptors(vcpu)) {
        return iret_real(vcpu, insn);
    }
    if ((vcpu->rflags & X86_FLAG_NT) != 0) {
        return is_long_mode(vcpu) ? step_raise_code(vcpu, X86_GP, 0)
                                  : step_exit(vcpu, X86_EXIT_EMULATION);
    }
    TRY(seg_frame_pop(vcpu, &frame, insn->size, &target.rip));
    TRY(seg_frame_pop(vcpu, &frame, insn->size, &selector));
    TRY(seg_frame_pop(vcpu, &frame, insn->size, &flags));
    if ((flags & X86_FLAG_VM) != 0 && cpl == 0 && insn->size == 4 && !is_long_mode(vcpu)) {
        return iret_to_virtual(vcpu, &frame, target.rip, selector, flags);
    }
    TRY(read_return(vcpu, (uint16_t)selector, &target));
    sp = frame.sp;
    if (target.level > cpl || vcpu->mode == X86_MODE_64) {
        TRY(seg_frame_pop(vcpu, &frame, insn->size, &sp));
        TRY(seg_frame_pop(vcpu, &frame, insn->size, &ss));
        TRY(read_return_stack(vcpu, (uint16_t)ss, &target, &stack));
    }
    TRY(accept_target(vcpu, &target));
    load_flags(vcpu, flags, insn->size, cpl);
    commit_return(vcpu, &target, &stack, sp);
    vcpu->is_nmi_blocked = false;
    return STEP_JUMP;
}

/* The flat segments of SYSCALL and its like. */
static struct x86_segment flat_code(uint16_t selector, unsigned level, bool is_64)
{
    return (struct x86_segment){.limit = UINT32_MAX,
                                .selector = selector,
                                .type = 11,
                                .present = 1,
                                .dpl = (uint8_t)level,
                                .db = !is_64,
                                .s = 1,
                                .l = is_64,
                                .g = 1};
}

static struct x86_segment flat_stack(uint16_t selector, unsigned level)
{
    struct x86_segment segment = flat_code(selector, level, false);

    segment.type = 3;
    return segment;
}

static void commit_flat(struct x86_vcpu *vcpu, uint16_t cs, uint16_t ss, unsigned level, bool is_64)
{
    struct x86_segment code = flat_code(cs, level, is_64);
    struct x86_segment stack = flat_stack((uint16_t)((ss & ~3u) | level), level);

    seg_commit_stack(vcpu, &stack);
    seg_commit_code(vcpu, &code, level);
}

/* SYSCALL and SYSRET are followed by the trap of a single step if they leave TF set, whatever it was before. */
static void step_by_new_flags(struct x86_vcpu *vcpu)
{
    vcpu->is_stepped = false;
    if ((vcpu->rflags & X86_FLAG_TF) != 0) {
        event_trap_step(vcpu);
    }
}

static enum step syscall(struct x86_vcpu *vcpu, const struct insn *insn)
{
    uint16_t selector = (uint16_t)(vcpu->msr.star >> 32);
    bool is_64 = vcpu->mode == X86_MODE_64;

    if ((vcpu->msr.efer & EFER_SCE) == 0 || !is_long_mode(vcpu) || !is_64) {
        return step_raise(vcpu, X86_UD); /* as on Intel: 64-bit mode only */
    }
    vcpu->gpr[X86_RCX] = insn_next_rip(vcpu, insn);
    vcpu->gpr[X86_R8 + 3] = x86_get_rflags(vcpu) & ~X86_FLAG_RF;
    x86_set_rflags(vcpu, x86_get_rflags(vcpu) & ~(vcpu->msr.syscall_mask | X86_FLAG_RF));
    commit_flat(vcpu, selector & 0xfffc, (uint16_t)(selector + 8), 0, true);
    vcpu->rip = vcpu->msr.lstar;
    step_by_new_flags(vcpu);
    return STEP_JUMP;
}

static enum step sysret(struct x86_vcpu *vcpu, const struct insn *insn)
{
    uint16_t selector = (uint16_t)(vcpu->msr.star >> 48);
    bool is_64 = insn->size == 8;

    if ((vcpu->msr.efer & EFER_SCE) == 0 || vcpu->mode != X86_MODE_64) {
        return step_raise(vcpu, X86_UD);
    }
    if (vcpu->cpl != 0 || (is_64 && !is_canonical(vcpu, vcpu->gpr[X86_RCX]))) {
        return step_raise_code(vcpu, X86_GP, 0);
    }
    x86_set_rflags(vcpu, vcpu->gpr[X86_R8 + 3] & 0x3c7fd7);
    vcpu->rip = is_64 ? vcpu->gpr[X86_RCX] : (uint32_t)vcpu->gpr[X86_RCX];
    commit_flat(vcpu, (uint16_t)(selector + (is_64 ? 16 : 0)), (uint16_t)(selector + 8), 3, is_64);
    step_by_new_flags(vcpu);
    return STEP_JUMP;
}

static enum step sysenter(struct x86_vcpu *vcpu, const struct insn *insn)
{
    uint16_t selector = (uint16_t)vcpu->msr.sysenter_cs;
    bool is_long = is_long_mode(vcpu);

    (void)insn;
    if (!is_protected(vcpu) || (selector & ~3u) == 0) {
        return step_raise_code(vcpu, X86_GP, 0);
    }
    vcpu->rflags &= ~(X86_FLAG_VM | X86_FLAG_IF | X86_FLAG_RF);
    commit_flat(vcpu, selector & 0xfffc, (uint16_t)(selector + 8), 0, is_long);
    vcpu->gpr[X86_RSP] = is_long ? vcpu->msr.sysenter_esp : (uint32_t)vcpu->msr.sysenter_esp;
    vcpu->rip = is_long ? vcpu->msr.sysenter_eip : (uint32_t)vcpu->msr.sysenter_eip;
    return STEP_JUMP;
}

static enum step sysexit(struct x86_vcpu *vcpu, const struct insn *insn)
{
    uint16_t selector = (uint16_t)vcpu->msr.sysenter_cs;
    bool is_64 = insn->size == 8;
    uint64_t rip = vcpu->gpr[X86_RDX];
    uint64_t sp = vcpu->gpr[X86_RCX];

    if (!has_descriptors(vcpu) || (selector & ~3u) == 0 || vcpu->cpl != 0 ||
        (is_64 && (!is_canonical(vcpu, rip) || !is_canonical(vcpu, sp)))) {
        return step_raise_code(vcpu, X86_GP, 0);
    }
    vcpu->gpr[X86_RSP] = is_64 ? sp : (uint32_t)sp;
    vcpu->rip = is_64 ? rip : (uint32_t)rip;
    selector = (uint16_t)(selector + (is_64 ? 32 : 16));
    commit_flat(vcpu, selector, (uint16_t)(selector + 8), 3, is_64);
    return STEP_JUMP;
}

insn_fn *exec_far(struct insn *insn)
{
    switch (insn->sub) {
    case FAR_JMP:
    case FAR_CALL:
        return transfer;
    case FAR_RET:
        return far_return;
    case FAR_IRET:
        return iret;
    case FAR_SYSCALL:
        return syscall;
    case FAR_SYSRET:
        return sysret;
    case FAR_SYSENTER:
        return sysenter;
    default:
        return sysexit;
    }
}
