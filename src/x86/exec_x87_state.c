/*
 * x86/exec_x87_state.c - x87's control and status words, and its state as a whole in memory: FNSTENV, FLDENV, FNSAVE,
 * FRSTOR (Intel SDM 1, 8.1.10).
 */
#include "x86/exec.h"

#include "x86/mem.h"
#include "x86/sse_ops.h"
#include "x86/x87.h"

#define ENVIRONMENT_BYTES 28u
#define ENVIRONMENT_BYTES_16 14u
#define REGISTERS_BYTES 80u
#define IMAGE_BYTES_MAX (ENVIRONMENT_BYTES + REGISTERS_BYTES)

static enum step fninit(struct x86_vcpu *vcpu, const struct insn *insn)
{
    (void)insn;
    TRY(x87_check(vcpu));
    x87_reset(&vcpu->fpu);
    return STEP_NEXT;
}

/* FNCLEX: exceptions and busy. */
static enum step fnclex(struct x86_vcpu *vcpu, const struct insn *insn)
{
    (void)insn;
    TRY(x87_check(vcpu));
    vcpu->fpu.fsw &= 0x7f00;
    return STEP_NEXT;
}

/* FNSTCW, FNSTSW. */
static enum step store_word(struct x86_vcpu *vcpu, const struct insn *insn)
{
    uint16_t word = insn->sub == FPU_FNSTCW ? vcpu->fpu.fcw : vcpu->fpu.fsw;

    TRY(x87_check(vcpu));
    return operand_write(vcpu, insn, 0, 2, word);
}

/* Exceptions that are not masked any more are pending from now on. */
static enum step fldcw(struct x86_vcpu *vcpu, const struct insn *insn)
{
    uint64_t value;

    TRY(x87_check(vcpu));
    TRY(x87_check_pending(vcpu));
    TRY(mem_load(vcpu, insn, 2, &value));
    vcpu->fpu.fcw = (uint16_t)((value & 0x1f3f) | 0x40);
    x87_derive(&vcpu->fpu);
    return STEP_NEXT;
}

/* FWAIT: CR0.MP and TS together. */
static enum step fwait(struct x86_vcpu *vcpu, const struct insn *insn)
{
    (void)insn;
    if ((vcpu->cr0 & 0xa) == 0xa) {
        return step_raise(vcpu, X86_NM);
    }
    return x87_check_pending(vcpu);
}

/* Real and virtual-8086 mode have linear addresses in the environment, and the opcode between. */
static bool is_real_format(const struct x86_vcpu *vcpu)
{
    return !has_descriptors(vcpu);
}

static uint32_t linear_of(const struct x86_vcpu *vcpu, enum x86_segment_number segment,
                          uint32_t offset)
{
    return (uint32_t)vcpu->segment[segment].base + offset;
}

/* The environment of @size bytes, 14 or 28. Selectors are not kept: CPUID.(7,0):EBX[13]. */
static void write_environment(const struct x86_vcpu *vcpu, const struct x87_image *image,
                              unsigned size, uint8_t *bytes)
{
    uint32_t ip = linear_of(vcpu, X86_CS, image->ip), dp = linear_of(vcpu, X86_DS, image->dp);
    uint32_t words[7] = {0xffff0000 | image->fcw,
                         0xffff0000 | image->fsw,
                         0xffff0000 | image->ftw,
                         image->ip,
                         (uint32_t)image->opcode << 16,
                         image->dp,
                         0xffff0000};

    if (is_real_format(vcpu)) {
        words[3] = 0xffff0000 | (ip & 0xffff);
        words[4] = (ip >> 16) << 12 | image->opcode;
        words[5] = 0xffff0000 | (dp & 0xffff);
        words[6] = (dp >> 16) << 12;
    } else if (size == ENVIRONMENT_BYTES_16) {
        words[4] = 0;
    }
    for (unsigned i = 0; i < 7; i++) {
        memcpy(bytes + i * (size / 7), &words[i], size / 7);
    }
}

static void read_environment(const struct x86_vcpu *vcpu, struct x87_image *image, unsigned size,
                             const uint8_t *bytes)
{
    uint32_t words[7] = {0};

    for (unsigned i = 0; i < 7; i++) {
        memcpy(&words[i], bytes + i * (size / 7), size / 7);
    }
    image->fcw = (uint16_t)words[0];
    image->fsw = (uint16_t)words[1];
    image->ftw = (uint16_t)words[2];
    image->ip = words[3];
    image->dp = words[5];
    image->opcode = words[4] >> 16 & 0x7ff;
    if (is_real_format(vcpu)) {
        image->ip = ((words[3] & 0xffff) | (words[4] >> 12) << 16) - linear_of(vcpu, X86_CS, 0);
        image->dp = ((words[5] & 0xffff) | (words[6] >> 12) << 16) - linear_of(vcpu, X86_DS, 0);
        image->opcode = words[4] & 0x7ff;
    }
}

/* By operands that are checked for alignment as the area is: to 4 bytes, or 2. */
static enum step move_area(struct x86_vcpu *vcpu, const struct insn *insn, unsigned size,
                           uint8_t *bytes, bool is_write)
{
    unsigned piece = insn->size == 2 ? 2 : 4;
    uint64_t linear, value;

    TRY(mem_linear(vcpu, insn, size, is_write ? MEM_WRITE : MEM_READ, &linear));
    if (is_write) {
        TRY(mem_probe_write(vcpu, linear, size, insn->seg));
    }
    for (unsigned i = 0; i < size; i += piece) {
        value = 0;
        piece = size - i < piece ? size - i : piece;
        memcpy(&value, bytes + i, piece);
        if (is_write) {
            TRY(store_linear(vcpu, linear + i, piece, insn->seg, value));
        } else {
            TRY(load_linear(vcpu, linear + i, piece, insn->seg, &value));
            memcpy(bytes + i, &value, piece);
        }
    }
    return STEP_NEXT;
}

static unsigned environment_bytes(const struct insn *insn)
{
    return insn->size == 2 ? ENVIRONMENT_BYTES_16 : ENVIRONMENT_BYTES;
}

/* FNSTENV masks all exceptions, FNSAVE leaves all as FNINIT does. */
static enum step store_state(struct x86_vcpu *vcpu, const struct insn *insn)
{
    bool is_whole = insn->sub == FPU_FNSAVE;
    unsigned size = environment_bytes(insn);
    uint8_t bytes[IMAGE_BYTES_MAX];
    struct x87_image image;

    TRY(x87_check(vcpu));
    x87_to_image(&vcpu->fpu, &image);
    write_environment(vcpu, &image, size, bytes);
    memcpy(bytes + size, image.st, REGISTERS_BYTES);
    TRY(move_area(vcpu, insn, size + (is_whole ? REGISTERS_BYTES : 0), bytes, true));
    if (is_whole) {
        x87_reset(&vcpu->fpu);
    } else {
        vcpu->fpu.fcw |= X87_EXCEPTIONS;
        x87_derive(&vcpu->fpu);
    }
    return STEP_NEXT;
}

static enum step load_state(struct x86_vcpu *vcpu, const struct insn *insn)
{
    bool is_whole = insn->sub == FPU_FRSTOR;
    unsigned size = environment_bytes(insn);
    uint8_t bytes[IMAGE_BYTES_MAX] = {0};
    struct x87_image image;

    TRY(x87_check(vcpu));
    TRY(x87_check_pending(vcpu));
    TRY(move_area(vcpu, insn, size + (is_whole ? REGISTERS_BYTES : 0), bytes, false));
    x87_to_image(&vcpu->fpu, &image);
    read_environment(vcpu, &image, size, bytes);
    if (is_whole) {
        memcpy(image.st, bytes + size, REGISTERS_BYTES);
    } else {
        x87_set_top(&vcpu->fpu, image.fsw >> X87_TOP_SHIFT & 7);
        for (unsigned i = 0; i < 8; i++) {
            memcpy(image.st[i], vcpu->fpu.st[i], sizeof(image.st[i]));
        }
    }
    x87_from_image(&vcpu->fpu, &image);
    vcpu->fpu.last_ip = image.ip;
    vcpu->fpu.last_dp = image.dp;
    vcpu->fpu.last_opcode = image.opcode;
    return STEP_NEXT;
}

insn_fn *exec_x87_state(struct insn *insn)
{
    switch (insn->sub) {
    case FPU_FNINIT:
        return fninit;
    case FPU_FNCLEX:
        return fnclex;
    case FPU_FNSTCW:
    case FPU_FNSTSW:
        return store_word;
    case FPU_FLDCW:
        return fldcw;
    case FPU_FWAIT:
        return fwait;
    case FPU_FNSTENV:
    case FPU_FNSAVE:
        return store_state;
    default:
        return load_state;
    }
}
