/*
 * x86/exec_x87.c - x87's arithmetic, comparisons, loads and stores: the host's processor executes the very instruction,
 * on the guest's state. Results, flags and rounding are the host's, transcendental ones as well.
 */
#include "x86/exec.h"

#include "x86/mem.h"
#include "x86/x87.h"

/* x87.S. Return: RFLAGS, for FCOMI and its like; @flags: for FCMOV and its like. */
__attribute__((visibility("hidden"))) uint64_t x87_run(struct x87_image *image, void *operand,
                                                       uint64_t flags, const void *stub);
__attribute__((visibility("hidden"))) extern const uint8_t x87_stubs[];

#define STUB_BYTES 4u
#define STUBS_OF_MEMORY 64u
#define EXCEPTIONS_THAT_STORE_NOTHING 0x19u /* IE, OE, UE */

/* Bytes of the memory operand, by opcode and ModRM's reg: loaded, or, negative, stored. 0: not there, or elsewhere. */
static const int8_t operand_bytes[8][8] = {
    {4, 4, 4, 4, 4, 4, 4, 4},       /* D8: float */
    {4, 0, -4, -4, 0, 0, 0, 0},     /* D9: FLD, FST, FSTP of float */
    {4, 4, 4, 4, 4, 4, 4, 4},       /* DA: int */
    {4, -4, -4, -4, 0, 10, 0, -10}, /* DB: FILD, FISTTP, FIST, FISTP; FLD, FSTP of 80 bits */
    {8, 8, 8, 8, 8, 8, 8, 8},       /* DC: double */
    {8, -8, -8, -8, 0, 0, 0, 0},    /* DD: FLD, FISTTP, FST, FSTP */
    {2, 2, 2, 2, 2, 2, 2, 2},       /* DE: short */
    {2, -2, -2, -2, 10, 8, -10, -8} /* DF: FILD, FISTTP, FIST, FISTP; FBLD, FILD; FBSTP, FISTP */
};

static unsigned opcode_of(const struct insn *insn)
{
    return insn->selector >> 8 & 7;
}

static int bytes_of(const struct insn *insn)
{
    return operand_bytes[opcode_of(insn)][insn->selector >> 3 & 7];
}

static const void *stub_of(const struct insn *insn, bool is_memory)
{
    unsigned modrm = insn->selector & 0xff;
    unsigned number = is_memory ? opcode_of(insn) * 8 + (modrm >> 3 & 7)
                                : STUBS_OF_MEMORY + opcode_of(insn) * 64 + (modrm & 63);

    return x87_stubs + number * STUB_BYTES;
}

static enum step begin(struct x86_vcpu *vcpu)
{
    TRY(x87_check(vcpu));
    return x87_check_pending(vcpu);
}

static void note_instruction(struct x86_vcpu *vcpu, const struct insn *insn)
{
    vcpu->fpu.last_ip = insn_rip(vcpu, insn);
    vcpu->fpu.last_opcode = insn->selector & 0x7ff;
}

/* Registers alone. */
static enum step run_registers(struct x86_vcpu *vcpu, const struct insn *insn)
{
    uint64_t flags = flags_arithmetic(vcpu);
    struct x87_image image;
    uint64_t after;

    TRY(begin(vcpu));
    x87_to_image(&vcpu->fpu, &image);
    after = x87_run(&image, NULL, flags | X86_FLAG_ONE, stub_of(insn, false));
    x87_from_image(&vcpu->fpu, &image);
    note_instruction(vcpu, insn);
    if (((after ^ flags) & X86_FLAGS_ARITHMETIC) != 0) { /* only these instructions change any */
        flags_set_arithmetic(vcpu, after & X86_FLAGS_ARITHMETIC);
    }
    return STEP_NEXT;
}

static enum step load_operand(struct x86_vcpu *vcpu, const struct insn *insn, unsigned size,
                              uint8_t bytes[16])
{
    unsigned first = size < 8 ? size : 8;
    uint64_t linear, value;

    TRY(mem_linear(vcpu, insn, size, MEM_READ, &linear));
    TRY(load_linear(vcpu, linear, first, insn->seg, &value));
    memcpy(bytes, &value, 8);
    if (size > 8) {
        TRY(load_linear(vcpu, linear + 8, 2, insn->seg, &value));
        memcpy(bytes + 8, &value, 8);
    }
    return STEP_NEXT;
}

static enum step run_load(struct x86_vcpu *vcpu, const struct insn *insn)
{
    struct x87_image image;
    uint8_t bytes[16];

    TRY(begin(vcpu));
    TRY(load_operand(vcpu, insn, (unsigned)bytes_of(insn), bytes));
    x87_to_image(&vcpu->fpu, &image);
    x87_run(&image, bytes, X86_FLAG_ONE, stub_of(insn, true));
    x87_from_image(&vcpu->fpu, &image);
    note_instruction(vcpu, insn);
    vcpu->fpu.last_dp = mem_offset(vcpu, insn);
    return STEP_NEXT;
}

static enum step store_operand(struct x86_vcpu *vcpu, const struct insn *insn, unsigned size,
                               const uint8_t bytes[16], bool is_stored)
{
    unsigned first = size < 8 ? size : 8;
    uint64_t linear, value;

    TRY(mem_linear(vcpu, insn, size, MEM_WRITE, &linear));
    if (size > 8 || !is_stored) {
        TRY(mem_check_store(vcpu, linear, size, insn->seg));
    }
    if (!is_stored) {
        return STEP_NEXT;
    }
    memcpy(&value, bytes, 8);
    TRY(store_linear(vcpu, linear, first, insn->seg, value));
    if (size == first) {
        return STEP_NEXT;
    }
    memcpy(&value, bytes + 8, 8);
    return store_linear(vcpu, linear + 8, size - 8, insn->seg, value);
}

/* The state changes only once the operand is stored. Where an exception that is not masked forbids that, memory must be
   there all the same. */
static enum step run_store(struct x86_vcpu *vcpu, const struct insn *insn)
{
    struct x87_image image;
    uint8_t bytes[16] = {0};
    bool is_stored;

    TRY(begin(vcpu));
    x87_to_image(&vcpu->fpu, &image);
    x87_run(&image, bytes, X86_FLAG_ONE, stub_of(insn, true));
    is_stored = (image.fsw & ~image.fcw & EXCEPTIONS_THAT_STORE_NOTHING) == 0;
    TRY(store_operand(vcpu, insn, (unsigned)-bytes_of(insn), bytes, is_stored));
    x87_from_image(&vcpu->fpu, &image);
    note_instruction(vcpu, insn);
    vcpu->fpu.last_dp = mem_offset(vcpu, insn);
    return STEP_NEXT;
}

insn_fn *exec_x87(struct insn *insn)
{
    if ((insn->selector & 0xc0) == 0xc0) {
        return run_registers;
    }
    if (bytes_of(insn) == 0) {
        return NULL;
    }
    return bytes_of(insn) > 0 ? run_load : run_store;
}
