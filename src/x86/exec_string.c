/*
 * x86/exec_string.c - MOVS and its like, with their repetitions. Each element is an instruction of its own as far as
 * faults and exits go: the counters are committed with it.
 */
#include "x86/exec.h"

#include "x86/mem.h"
#include "x86/port.h"

#define PAGE_BYTES 4096u
#define ELEMENTS_MAX 4096u /* between two boundaries */
/* Linux's emulator goes on with a string instruction's next element without asking the processor to try, but looks up
 * whenever the count is a multiple of this. */
#define EMULATED_ELEMENTS 0x400u

/* One of the two addresses; the destination's segment is always ES. */
static enum step source_linear(struct x86_vcpu *vcpu, const struct insn *insn, unsigned size,
                               uint64_t *linear)
{
    return mem_linear_of(vcpu, insn->seg, vcpu->gpr[X86_RSI] & insn->addr_mask, size, MEM_READ,
                         linear);
}

static unsigned destination_segment(const struct x86_vcpu *vcpu)
{
    return vcpu->mode == X86_MODE_64 ? SEG_FLAT : X86_ES;
}

static enum step destination_linear(struct x86_vcpu *vcpu, const struct insn *insn, unsigned size,
                                    enum mem_intent intent, uint64_t *linear)
{
    return mem_linear_of(vcpu, destination_segment(vcpu), vcpu->gpr[X86_RDI] & insn->addr_mask,
                         size, intent, linear);
}

static void advance(struct x86_vcpu *vcpu, const struct insn *insn, unsigned number, unsigned size)
{
    uint64_t step = (vcpu->rflags & X86_FLAG_DF) != 0 ? 0 - (uint64_t)size : size;

    gpr_write(vcpu, number, insn->address_size, vcpu->gpr[number] + step);
}

X86_INLINE enum step movs_one(struct x86_vcpu *vcpu, const struct insn *insn, unsigned size)
{
    uint64_t from, to, value;

    TRY(source_linear(vcpu, insn, size, &from));
    TRY(load_linear(vcpu, from, size, insn->seg, &value));
    TRY(destination_linear(vcpu, insn, size, MEM_WRITE, &to));
    TRY(store_linear(vcpu, to, size, destination_segment(vcpu), value));
    advance(vcpu, insn, X86_RSI, size);
    advance(vcpu, insn, X86_RDI, size);
    return STEP_NEXT;
}

X86_INLINE enum step stos_one(struct x86_vcpu *vcpu, const struct insn *insn, unsigned size)
{
    uint64_t to;

    TRY(destination_linear(vcpu, insn, size, MEM_WRITE, &to));
    TRY(store_linear(vcpu, to, size, destination_segment(vcpu), gpr_read(vcpu, X86_RAX, size)));
    advance(vcpu, insn, X86_RDI, size);
    return STEP_NEXT;
}

static enum step lods_one(struct x86_vcpu *vcpu, const struct insn *insn, unsigned size)
{
    uint64_t from, value;

    TRY(source_linear(vcpu, insn, size, &from));
    TRY(load_linear(vcpu, from, size, insn->seg, &value));
    gpr_write(vcpu, X86_RAX, size, value);
    advance(vcpu, insn, X86_RSI, size);
    return STEP_NEXT;
}

static enum step cmps_one(struct x86_vcpu *vcpu, const struct insn *insn, unsigned size)
{
    uint64_t from, to, a, b;

    TRY(source_linear(vcpu, insn, size, &from));
    TRY(load_linear(vcpu, from, size, insn->seg, &a));
    TRY(destination_linear(vcpu, insn, size, MEM_READ, &to));
    TRY(load_linear(vcpu, to, size, destination_segment(vcpu), &b));
    flags_of_sub(vcpu, a, b, a - b, size);
    advance(vcpu, insn, X86_RSI, size);
    advance(vcpu, insn, X86_RDI, size);
    return STEP_NEXT;
}

static enum step scas_one(struct x86_vcpu *vcpu, const struct insn *insn, unsigned size)
{
    uint64_t a = gpr_read(vcpu, X86_RAX, size);
    uint64_t to, b;

    TRY(destination_linear(vcpu, insn, size, MEM_READ, &to));
    TRY(load_linear(vcpu, to, size, destination_segment(vcpu), &b));
    flags_of_sub(vcpu, a, b, a - b, size);
    advance(vcpu, insn, X86_RDI, size);
    return STEP_NEXT;
}

/* How many elements may be read at once: those that are left, in the page. KVM's way: backwards from the page's beginning on. */
static uint32_t ahead_count(const struct x86_vcpu *vcpu, const struct insn *insn, unsigned size)
{
    uint32_t offset = (uint32_t)vcpu->gpr[X86_RDI] & (PAGE_BYTES - 1);
    uint64_t left = gpr_read(vcpu, X86_RCX, insn->address_size);
    uint64_t count =
        ((vcpu->rflags & X86_FLAG_DF) != 0 ? offset : PAGE_BYTES - offset) / (uint64_t)size;

    if ((insn->prefixes & (INSN_REPE | INSN_REPNE)) == 0 || (vcpu->rflags & X86_FLAG_TF) != 0) {
        return 1;
    }
    count = count < left ? count : left;
    count = count < vcpu->ahead_bytes_max / size ? count : vcpu->ahead_bytes_max / size;
    return count != 0 ? (uint32_t)count : 1;
}

/* An element has been stored; the next one may be there already. */
static void take_ahead(struct x86_vcpu *vcpu)
{
    unsigned next = vcpu->ahead_next + 1u;

    vcpu->ahead_next = (uint16_t)(next < vcpu->io.count ? next : 0);
}

/* Whether memory can be written is found out before the port is read. */
static enum step ins_one(struct x86_vcpu *vcpu, const struct insn *insn, unsigned size)
{
    uint16_t port = (uint16_t)vcpu->gpr[X86_RDX];
    uint64_t to, value;

    TRY(port_check(vcpu, port, size));
    TRY(destination_linear(vcpu, insn, size, MEM_WRITE, &to));
    TRY(mem_probe_write(vcpu, to, size, destination_segment(vcpu)));
    TRY(port_in_next(vcpu, port, size, ahead_count(vcpu, insn, size), &value));
    TRY(store_linear(vcpu, to, size, destination_segment(vcpu), value));
    take_ahead(vcpu);
    advance(vcpu, insn, X86_RDI, size);
    return STEP_NEXT;
}

static enum step outs_one(struct x86_vcpu *vcpu, const struct insn *insn, unsigned size)
{
    uint16_t port = (uint16_t)vcpu->gpr[X86_RDX];
    uint64_t from, value;

    TRY(port_check(vcpu, port, size));
    TRY(source_linear(vcpu, insn, size, &from));
    TRY(load_linear(vcpu, from, size, insn->seg, &value));
    TRY(port_out(vcpu, port, size, value));
    advance(vcpu, insn, X86_RSI, size);
    return STEP_NEXT;
}

/* These alone have flags, which may end a repetition. */
X86_INLINE bool compares(enum string_op op)
{
    return op == STRING_CMPS || op == STRING_SCAS;
}

X86_INLINE bool is_found(const struct x86_vcpu *vcpu, const struct insn *insn, enum string_op op)
{
    return compares(op) && flag_zf(vcpu) != ((insn->prefixes & INSN_REPE) != 0);
}

typedef enum step element_fn(struct x86_vcpu *vcpu, const struct insn *insn, unsigned size);

/* Where a repetition stops for anything but its end, what is done is done: the next run goes on from there. */
X86_INLINE enum step repeat_some(struct x86_vcpu *vcpu, const struct insn *insn, enum string_op op,
                                 element_fn *one, unsigned size)
{
    for (unsigned i = 0; i < ELEMENTS_MAX; i++) {
        uint64_t count = gpr_read(vcpu, X86_RCX, insn->address_size);

        if (count == 0) {
            return STEP_NEXT;
        }
        TRY(one(vcpu, insn, size));
        count--;
        gpr_write(vcpu, X86_RCX, insn->address_size, count);
        if (count == 0 || is_found(vcpu, insn, op)) {
            vcpu->ahead_next = 0; /* or the VMM has set the counter */
            return STEP_NEXT;
        }
        if (op == STRING_INS && is_ahead(vcpu)) {
            vcpu->answer_count = vcpu->answer_next = 0; /* they were the element's */
            continue;
        }
        /* Answers are for one element; code may have been written; a trap comes after each. */
        if (vcpu->answer_next != 0 || vcpu->mmu->is_emulated || vcpu->block_end == NULL ||
            (vcpu->rflags & X86_FLAG_TF) != 0 || vcpu->met != 0) {
            if (count % EMULATED_ELEMENTS == 0) {
                vcpu->mmu->is_emulated = false;
            }
            return STEP_AGAIN;
        }
    }
    return STEP_AGAIN;
}

/* A fault leaves the flags that were there before the first element (SDM 2, REP). */
X86_INLINE enum step repeat_comparing(struct x86_vcpu *vcpu, const struct insn *insn,
                                      enum string_op op, element_fn *one, unsigned size)
{
    enum step step;

    if (!vcpu->is_comparing) {
        vcpu->is_comparing = true;
        vcpu->compare_flags = flags_arithmetic(vcpu);
    }
    step = repeat_some(vcpu, insn, op, one, size);
    if (step == STEP_FAULT) {
        flags_set_arithmetic(vcpu, vcpu->compare_flags);
    }
    if (step == STEP_FAULT || step == STEP_NEXT) {
        vcpu->is_comparing = false;
    }
    return step;
}

X86_INLINE enum step repeat(struct x86_vcpu *vcpu, const struct insn *insn, enum string_op op,
                            element_fn *one, unsigned size)
{
    uint64_t count;
    enum step step;

    if ((insn->prefixes & (INSN_REPE | INSN_REPNE)) == 0) {
        return one(vcpu, insn, size);
    }
    count = gpr_read(vcpu, X86_RCX, insn->address_size);
    step = compares(op) ? repeat_comparing(vcpu, insn, op, one, size)
                        : repeat_some(vcpu, insn, op, one, size);
    vcpu->elements += count - gpr_read(vcpu, X86_RCX, insn->address_size);
    return step;
}

#define STRING_FORMS(name, op)                                                                     \
    X86_INLINE enum step name(struct x86_vcpu *vcpu, const struct insn *insn, unsigned size)       \
    {                                                                                              \
        return repeat(vcpu, insn, op, name##_one, size);                                           \
    }                                                                                              \
    INSN_SIZES(name)

STRING_FORMS(movs, STRING_MOVS)
STRING_FORMS(stos, STRING_STOS)
STRING_FORMS(lods, STRING_LODS)
STRING_FORMS(cmps, STRING_CMPS)
STRING_FORMS(scas, STRING_SCAS)
STRING_FORMS(ins, STRING_INS)
STRING_FORMS(outs, STRING_OUTS)

insn_fn *exec_string(struct insn *insn)
{
    static insn_fn *const table[STRING_COUNT][4] = {
        [STRING_MOVS] = INSN_TABLE(movs), [STRING_STOS] = INSN_TABLE(stos),
        [STRING_LODS] = INSN_TABLE(lods), [STRING_CMPS] = INSN_TABLE(cmps),
        [STRING_SCAS] = INSN_TABLE(scas), [STRING_INS] = INSN_TABLE(ins),
        [STRING_OUTS] = INSN_TABLE(outs),
    };
    unsigned op = insn->sub & 15;

    return table[op][insn->sub >> 4];
}
