/*
 * x86/decode.c - from bytes to struct insn, by Zydis; which handler runs it is the table's in decode_table.c.
 */
#include "x86/decode.h"

#include "x86/decode_table.h"

static enum step run_undefined(struct x86_vcpu *vcpu, const struct insn *insn)
{
    (void)insn;
    return step_raise(vcpu, X86_UD);
}

static enum step run_too_long(struct x86_vcpu *vcpu, const struct insn *insn)
{
    (void)insn;
    return step_raise_code(vcpu, X86_GP, 0);
}

static enum step run_absent(struct x86_vcpu *vcpu, const struct insn *insn)
{
    (void)insn;
    return step_exit(vcpu, X86_EXIT_EMULATION);
}

/* AVX, which is undefined until its state is switched on: CR4.OSXSAVE, XCR0. */
static enum step run_absent_vector(struct x86_vcpu *vcpu, const struct insn *insn)
{
    bool is_on = (vcpu->cr4 & (UINT64_C(1) << 18)) != 0 && (vcpu->xcr0 & 4) != 0;

    (void)insn;
    return is_on ? step_exit(vcpu, X86_EXIT_EMULATION) : step_raise(vcpu, X86_UD);
}

/* The encodings that newer processors took from the hints' and from prefixed older ones. */
#define DECODER(mode, width)                                                                       \
    {                                                                                              \
        .machine_mode = ZYDIS_MACHINE_MODE_##mode, .stack_width = ZYDIS_STACK_WIDTH_##width,       \
        .decoder_mode = {[ZYDIS_DECODER_MODE_CET] = ZYAN_TRUE,                                     \
                         [ZYDIS_DECODER_MODE_LZCNT] = ZYAN_TRUE,                                   \
                         [ZYDIS_DECODER_MODE_TZCNT] = ZYAN_TRUE},                                  \
    }

static const ZydisDecoder *decoder_of(enum x86_mode mode)
{
    static const ZydisDecoder decoders[] = {
        [X86_MODE_16] = DECODER(LEGACY_16, 16),
        [X86_MODE_32] = DECODER(LEGACY_32, 32),
        [X86_MODE_64] = DECODER(LONG_64, 64),
    };

    return &decoders[mode];
}

/* The place of a general register in vcpu->gpr; of others the number. Return: false: it is of no kind we have. */
static bool fill_register(struct insn *insn, unsigned number, ZydisRegister reg)
{
    switch (ZydisRegisterGetClass(reg)) {
    case ZYDIS_REGCLASS_GPR8:
        if (reg >= ZYDIS_REGISTER_AH && reg <= ZYDIS_REGISTER_BH) {
            insn->reg[number] = (uint8_t)((reg - ZYDIS_REGISTER_AH) * 8 + 1);
        } else if (reg < ZYDIS_REGISTER_AH) {
            insn->reg[number] = (uint8_t)((reg - ZYDIS_REGISTER_AL) * 8);
        } else {
            insn->reg[number] = (uint8_t)((reg - ZYDIS_REGISTER_SPL + 4) * 8);
        }
        return true;
    case ZYDIS_REGCLASS_GPR16:
    case ZYDIS_REGCLASS_GPR32:
    case ZYDIS_REGCLASS_GPR64:
        insn->reg[number] = (uint8_t)(ZydisRegisterGetId(reg) * 8);
        return true;
    case ZYDIS_REGCLASS_SEGMENT:
        insn->reg[number] = (uint8_t)(reg - ZYDIS_REGISTER_ES);
        return true;
    case ZYDIS_REGCLASS_X87:
    case ZYDIS_REGCLASS_MMX:
    case ZYDIS_REGCLASS_XMM:
    case ZYDIS_REGCLASS_CONTROL:
    case ZYDIS_REGCLASS_DEBUG:
        insn->reg[number] = (uint8_t)ZydisRegisterGetId(reg);
        return true;
    default:
        return false;
    }
}

static uint8_t segment_of(ZydisRegister segment, enum x86_mode mode)
{
    if (mode != X86_MODE_64 || segment == ZYDIS_REGISTER_FS || segment == ZYDIS_REGISTER_GS) {
        return (uint8_t)(segment - ZYDIS_REGISTER_ES);
    }
    return segment == ZYDIS_REGISTER_SS ? SEG_FLAT_STACK : SEG_FLAT;
}

static bool fill_memory(struct insn *insn, const ZydisDecodedOperandMem *memory, enum x86_mode mode)
{
    if (memory->type != ZYDIS_MEMOP_TYPE_MEM && memory->type != ZYDIS_MEMOP_TYPE_AGEN) {
        return false;
    }
    insn->disp = (uint64_t)memory->disp.value;
    insn->base = X86_GPR_ZERO;
    insn->index = X86_GPR_ZERO;
    insn->scale = 0;
    if (memory->base == ZYDIS_REGISTER_RIP || memory->base == ZYDIS_REGISTER_EIP) {
        insn->base = X86_GPR_BLOCK;
        insn->disp += insn->next;
    } else if (memory->base != ZYDIS_REGISTER_NONE) {
        insn->base = (uint8_t)ZydisRegisterGetId(memory->base);
    }
    if (memory->index != ZYDIS_REGISTER_NONE) {
        insn->index = (uint8_t)ZydisRegisterGetId(memory->index);
        insn->scale = (uint8_t)__builtin_ctz(memory->scale);
    }
    insn->seg =
        memory->type == ZYDIS_MEMOP_TYPE_AGEN ? SEG_FLAT : segment_of(memory->segment, mode);
    return true;
}

/* Return: the kind, or -1: of no kind we have. */
static int fill_operand(struct insn *insn, unsigned number, const ZydisDecodedOperand *operand,
                        enum x86_mode mode)
{
    switch (operand->type) {
    case ZYDIS_OPERAND_TYPE_REGISTER:
        return fill_register(insn, number, operand->reg.value) ? KIND_REG : -1;
    case ZYDIS_OPERAND_TYPE_MEMORY:
        return fill_memory(insn, &operand->mem, mode) ? KIND_MEM : -1;
    case ZYDIS_OPERAND_TYPE_IMMEDIATE:
        if (number > 0 && ((insn->form >> (2 * (number - 1))) & 3) == KIND_IMM) {
            insn->disp = operand->imm.value.u; /* ENTER's second */
        } else {
            insn->imm = operand->imm.value.u;
        }
        return KIND_IMM;
    case ZYDIS_OPERAND_TYPE_POINTER:
        insn->imm = operand->ptr.offset;
        insn->selector = operand->ptr.segment;
        return KIND_IMM;
    default:
        return -1;
    }
}

static bool fill_operands(struct insn *insn, const ZydisDecodedInstruction *decoded,
                          const ZydisDecodedOperand *operands, enum x86_mode mode)
{
    insn->form = FORM_NONE;
    insn->size = (uint8_t)(decoded->operand_width / 8);
    for (unsigned i = 0; i < decoded->operand_count_visible; i++) {
        int kind = i < 3 ? fill_operand(insn, i, &operands[i], mode) : -1;

        if (kind < 0) {
            return false;
        }
        insn->form |= (uint8_t)((unsigned)kind << (2 * i));
    }
    if (decoded->operand_count_visible > 0 && operands[0].type != ZYDIS_OPERAND_TYPE_IMMEDIATE) {
        insn->size = (uint8_t)(operands[0].size / 8);
    }
    if (decoded->operand_count_visible > 1) {
        insn->size1 = (uint8_t)(operands[1].size / 8);
    }
    return true;
}

static void fill_prefixes(struct insn *insn, const ZydisDecodedInstruction *decoded)
{
    insn->prefixes = 0;
    for (unsigned i = 0; i < decoded->raw.prefix_count; i++) {
        switch (decoded->raw.prefixes[i].value) {
        case 0xf0:
            insn->prefixes |= INSN_LOCK;
            break;
        case 0xf2:
            insn->prefixes = (insn->prefixes & INSN_LOCK) | INSN_REPNE;
            break;
        case 0xf3:
            insn->prefixes = (insn->prefixes & INSN_LOCK) | INSN_REPE;
            break;
        default:
            break;
        }
    }
}

/* The segment of what is not written as an operand: strings' source, XLAT's table, and the target of MASKMOVQ. */
static void fill_hidden_segment(struct insn *insn, const ZydisDecodedInstruction *decoded,
                                const ZydisDecodedOperand *operands, enum x86_mode mode)
{
    for (unsigned i = decoded->operand_count_visible; i < decoded->operand_count; i++) {
        const ZydisDecodedOperandMem *memory = &operands[i].mem;
        int base =
            operands[i].type == ZYDIS_OPERAND_TYPE_MEMORY ? ZydisRegisterGetId(memory->base) : -1;

        if (base == X86_RSI || base == X86_RBX ||
            (base == X86_RDI && (decoded->mnemonic == ZYDIS_MNEMONIC_MASKMOVQ ||
                                 decoded->mnemonic == ZYDIS_MNEMONIC_MASKMOVDQU))) {
            insn->seg = segment_of(memory->segment, mode);
        }
    }
}

/* An instruction without a handler. */
static void become(struct insn *insn, insn_fn *run)
{
    insn->run = run;
    insn->ends = true;
}

static void choose(struct insn *insn, const ZydisDecodedInstruction *decoded,
                   const ZydisDecodedOperand *operands, enum x86_mode mode)
{
    struct decode_rule rule = decode_find_rule(decoded, operands, insn);
    insn_fn *run = NULL;

    if (rule.select != NULL && fill_operands(insn, decoded, operands, mode)) {
        insn->sub = rule.sub;
        insn->ends = (rule.flags & DECODE_ENDS) != 0;
        if ((rule.flags & DECODE_WIDTH) != 0) {
            insn->size = (uint8_t)(decoded->operand_width / 8);
        }
        run = rule.select(insn);
    }
    if (run != NULL) {
        insn->run = run;
    } else if (decoded->encoding == ZYDIS_INSTRUCTION_ENCODING_LEGACY) {
        become(insn, run_absent);
    } else {
        become(insn, run_absent_vector);
    }
}

enum decoded decode(const uint8_t *bytes, unsigned byte_count, enum x86_mode mode,
                    struct insn *insn)
{
    ZydisDecodedInstruction decoded;
    ZydisDecodedOperand operands[ZYDIS_MAX_OPERAND_COUNT];
    ZyanStatus status =
        ZydisDecoderDecodeFull(decoder_of(mode), bytes, byte_count, &decoded, operands);

    /* Too long as well: a page fault comes first (SDM 3A, table 6-8). */
    if ((status == ZYDIS_STATUS_NO_MORE_DATA || status == ZYDIS_STATUS_INSTRUCTION_TOO_LONG) &&
        byte_count < 15) {
        return DECODED_SHORT;
    }
    if (!ZYAN_SUCCESS(status)) {
        /* All that was looked at: other bytes there make another instruction. */
        insn->next = (uint8_t)(insn->offset + (byte_count < 15 ? byte_count : 15));
        become(insn,
               status == ZYDIS_STATUS_INSTRUCTION_TOO_LONG || status == ZYDIS_STATUS_NO_MORE_DATA
                   ? run_too_long
                   : run_undefined);
        return DECODED;
    }
    insn->next = (uint8_t)(insn->offset + decoded.length);
    insn->address_size = (uint8_t)(decoded.address_width / 8);
    insn->addr_mask = zero_extend(UINT64_MAX, insn->address_size);
    insn->base = insn->index = X86_GPR_ZERO;
    insn->seg = mode == X86_MODE_64 ? SEG_FLAT : X86_DS;
    fill_prefixes(insn, &decoded);
    fill_hidden_segment(insn, &decoded, operands, mode);
    choose(insn, &decoded, operands, mode);
    return DECODED;
}
