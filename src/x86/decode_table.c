/*
 * x86/decode_table.c - mnemonics to groups of handlers.
 */
#include "x86/decode_table.h"

#include "x86/mmx_ops.h"
#include "x86/sse_ops.h"

#define M(name) [ZYDIS_MNEMONIC_##name]
#define END DECODE_ENDS
#define WIDTH DECODE_WIDTH

#define CONDITION(name, code)                                                                      \
    M(J##name) = {exec_condition, (code) | CONDITION_JUMP << 4, WIDTH},                            \
    M(SET##name) = {exec_condition, (code) | CONDITION_SET << 4, 0},                               \
    M(CMOV##name) = {exec_condition, (code) | CONDITION_MOVE << 4, 0}

#define STRING(name, op)                                                                           \
    M(name##B) = {exec_string, (op), 0}, M(name##W) = {exec_string, (op) | 1 << 4, 0},             \
    M(name##D) = {exec_string, (op) | 2 << 4, 0}
#define STRING_WIDE(name, op) STRING(name, op), M(name##Q) = {exec_string, (op) | 3 << 4, 0}

#define SSE4_RULE(upper, opcode, bytes) M(upper) = {exec_sse4, SSE4_##upper, WIDTH},
#define SSE_RULE(upper, lower, kind) M(upper) = {exec_sse_packed, SSE_##upper, 0},

static const struct decode_rule rules[ZYDIS_MNEMONIC_MAX_VALUE + 1] = {
    M(ADD) = {exec_alu, ALU_ADD, 0},
    M(OR) = {exec_alu, ALU_OR, 0},
    M(ADC) = {exec_alu, ALU_ADC, 0},
    M(SBB) = {exec_alu, ALU_SBB, 0},
    M(AND) = {exec_alu, ALU_AND, 0},
    M(SUB) = {exec_alu, ALU_SUB, 0},
    M(XOR) = {exec_alu, ALU_XOR, 0},
    M(CMP) = {exec_alu, ALU_CMP, 0},
    M(TEST) = {exec_alu, ALU_TEST, 0},
    M(INC) = {exec_unary, UNARY_INC, 0},
    M(DEC) = {exec_unary, UNARY_DEC, 0},
    M(NEG) = {exec_unary, UNARY_NEG, 0},
    M(NOT) = {exec_unary, UNARY_NOT, 0},

    M(MOV) = {exec_mov, MOV_PLAIN, 0},
    M(MOVZX) = {exec_mov, MOV_ZERO, 0},
    M(MOVSX) = {exec_mov, MOV_SIGN, 0},
    M(MOVSXD) = {exec_mov, MOV_SIGN, 0},
    M(LEA) = {exec_mov, MOV_ADDRESS, 0},
    M(BSWAP) = {exec_mov, MOV_SWAP, 0},
    M(MOVBE) = {exec_mov, MOV_BIG, 0},
    M(CBW) = {exec_mov, MOV_WIDEN, WIDTH},
    M(CWDE) = {exec_mov, MOV_WIDEN, WIDTH},
    M(CDQE) = {exec_mov, MOV_WIDEN, WIDTH},
    M(CWD) = {exec_mov, MOV_SPREAD, WIDTH},
    M(CDQ) = {exec_mov, MOV_SPREAD, WIDTH},
    M(CQO) = {exec_mov, MOV_SPREAD, WIDTH},
    M(XLAT) = {exec_mov, MOV_TABLE, 0},
    M(NOP) = {exec_mov, MOV_NOTHING, 0},
    M(PAUSE) = {exec_mov, MOV_NOTHING, 0},
    M(ENDBR32) = {exec_mov, MOV_NOTHING, 0},
    M(ENDBR64) = {exec_mov, MOV_NOTHING, 0},
    M(PREFETCH) = {exec_mov, MOV_NOTHING, 0},
    M(PREFETCHW) = {exec_mov, MOV_NOTHING, 0},
    M(PREFETCHNTA) = {exec_mov, MOV_NOTHING, 0},
    M(PREFETCHT0) = {exec_mov, MOV_NOTHING, 0},
    M(PREFETCHT1) = {exec_mov, MOV_NOTHING, 0},
    M(PREFETCHT2) = {exec_mov, MOV_NOTHING, 0},
    M(MFENCE) = {exec_mov, MOV_FENCE, 0},
    M(SFENCE) = {exec_mov, MOV_FENCE, 0},
    M(LFENCE) = {exec_mov, MOV_FENCE, 0},
    M(CLFLUSH) = {exec_mov, MOV_FLUSH, 0},
    M(CLFLUSHOPT) = {exec_mov, MOV_FLUSH, 0},
    M(CLWB) = {exec_mov, MOV_FLUSH, 0},
    M(MOVNTI) = {exec_mov, MOV_NONTEMPORAL, 0},

    M(ROL) = {exec_shift, SHIFT_ROL, 0},
    M(ROR) = {exec_shift, SHIFT_ROR, 0},
    M(RCL) = {exec_shift, SHIFT_RCL, 0},
    M(RCR) = {exec_shift, SHIFT_RCR, 0},
    M(SHL) = {exec_shift, SHIFT_SHL, 0},
    M(SHR) = {exec_shift, SHIFT_SHR, 0},
    M(SAR) = {exec_shift, SHIFT_SAR, 0},
    M(SHLD) = {exec_double_shift, 0, 0},
    M(SHRD) = {exec_double_shift, 1, 0},
    M(MUL) = {exec_muldiv, MULDIV_MUL, 0},
    M(IMUL) = {exec_muldiv, MULDIV_IMUL, 0},
    M(DIV) = {exec_muldiv, MULDIV_DIV, 0},
    M(IDIV) = {exec_muldiv, MULDIV_IDIV, 0},

    CONDITION(O, 0),
    CONDITION(NO, 1),
    CONDITION(B, 2),
    CONDITION(NB, 3),
    CONDITION(Z, 4),
    CONDITION(NZ, 5),
    CONDITION(BE, 6),
    CONDITION(NBE, 7),
    CONDITION(S, 8),
    CONDITION(NS, 9),
    CONDITION(P, 10),
    CONDITION(NP, 11),
    CONDITION(L, 12),
    CONDITION(NL, 13),
    CONDITION(LE, 14),
    CONDITION(NLE, 15),
    M(JMP) = {exec_flow, FLOW_JMP, END | WIDTH},
    M(CALL) = {exec_flow, FLOW_CALL, END | WIDTH},
    M(RET) = {exec_flow, FLOW_RET, END | WIDTH},
    M(LOOP) = {exec_flow, FLOW_LOOP, END | WIDTH},
    M(LOOPE) = {exec_flow, FLOW_LOOPE, END | WIDTH},
    M(LOOPNE) = {exec_flow, FLOW_LOOPNE, END | WIDTH},
    M(JCXZ) = {exec_flow, FLOW_JCXZ, END | WIDTH},
    M(JECXZ) = {exec_flow, FLOW_JCXZ, END | WIDTH},
    M(JRCXZ) = {exec_flow, FLOW_JCXZ, END | WIDTH},
    M(INT) = {exec_flow, FLOW_INT, END},
    M(INT3) = {exec_flow, FLOW_INT3, END},
    M(INT1) = {exec_flow, FLOW_INT1, END},
    M(INTO) = {exec_flow, FLOW_INTO, END},
    M(BOUND) = {exec_flow, FLOW_BOUND, 0},
    M(UD0) = {exec_flow, FLOW_UD, END},
    M(UD1) = {exec_flow, FLOW_UD, END},
    M(UD2) = {exec_flow, FLOW_UD, END},
    /* Without CR4.VMXE, which cannot be set. VMCALL is a guest's word to its hypervisor: it comes out. */
    M(VMXON) = {exec_flow, FLOW_UD, END},
    M(VMCLEAR) = {exec_flow, FLOW_UD, END},
    M(VMPTRLD) = {exec_flow, FLOW_UD, END},
    M(VMPTRST) = {exec_flow, FLOW_UD, END},
    M(VMREAD) = {exec_flow, FLOW_UD, END},
    M(VMWRITE) = {exec_flow, FLOW_UD, END},
    M(VMLAUNCH) = {exec_flow, FLOW_UD, END},
    M(VMRESUME) = {exec_flow, FLOW_UD, END},
    M(VMXOFF) = {exec_flow, FLOW_UD, END},

    M(PUSH) = {exec_stack, STACK_PUSH, WIDTH},
    M(POP) = {exec_stack, STACK_POP, WIDTH},
    M(PUSHF) = {exec_stack, STACK_PUSHF, WIDTH},
    M(PUSHFD) = {exec_stack, STACK_PUSHF, WIDTH},
    M(PUSHFQ) = {exec_stack, STACK_PUSHF, WIDTH},
    M(POPF) = {exec_stack, STACK_POPF, END | WIDTH},
    M(POPFD) = {exec_stack, STACK_POPF, END | WIDTH},
    M(POPFQ) = {exec_stack, STACK_POPF, END | WIDTH},
    M(PUSHA) = {exec_stack, STACK_PUSHA, WIDTH},
    M(PUSHAD) = {exec_stack, STACK_PUSHA, WIDTH},
    M(POPA) = {exec_stack, STACK_POPA, WIDTH},
    M(POPAD) = {exec_stack, STACK_POPA, WIDTH},
    M(ENTER) = {exec_stack, STACK_ENTER, WIDTH},
    M(LEAVE) = {exec_stack, STACK_LEAVE, WIDTH},

    STRING_WIDE(MOVS, STRING_MOVS),
    STRING_WIDE(STOS, STRING_STOS),
    STRING_WIDE(LODS, STRING_LODS),
    STRING_WIDE(CMPS, STRING_CMPS),
    STRING_WIDE(SCAS, STRING_SCAS),
    STRING(INS, STRING_INS),
    STRING(OUTS, STRING_OUTS),

    M(BT) = {exec_bit, BIT_BT, 0},
    M(BTS) = {exec_bit, BIT_BTS, 0},
    M(BTR) = {exec_bit, BIT_BTR, 0},
    M(BTC) = {exec_bit, BIT_BTC, 0},
    M(BSF) = {exec_bit, BIT_BSF, 0},
    M(BSR) = {exec_bit, BIT_BSR, 0},
    M(TZCNT) = {exec_bit, BIT_TZCNT, 0},
    M(LZCNT) = {exec_bit, BIT_LZCNT, 0},
    M(POPCNT) = {exec_bit, BIT_POPCNT, 0},
    M(ANDN) = {exec_bit, BIT_ANDN, 0},
    M(BLSI) = {exec_bit, BIT_BLSI, 0},
    M(BLSR) = {exec_bit, BIT_BLSR, 0},
    M(BLSMSK) = {exec_bit, BIT_BLSMSK, 0},
    M(BEXTR) = {exec_bit, BIT_BEXTR, 0},
    M(BZHI) = {exec_bit, BIT_BZHI, 0},
    M(SHLX) = {exec_bit, BIT_SHLX, 0},
    M(SHRX) = {exec_bit, BIT_SHRX, 0},
    M(SARX) = {exec_bit, BIT_SARX, 0},
    M(RORX) = {exec_bit, BIT_RORX, 0},
    M(MULX) = {exec_bit, BIT_MULX, 0},
    M(PDEP) = {exec_bit, BIT_PDEP, 0},
    M(PEXT) = {exec_bit, BIT_PEXT, 0},
    M(ADCX) = {exec_bit, BIT_ADCX, 0},
    M(ADOX) = {exec_bit, BIT_ADOX, 0},

    M(DAA) = {exec_bcd, BCD_DAA, 0},
    M(DAS) = {exec_bcd, BCD_DAS, 0},
    M(AAA) = {exec_bcd, BCD_AAA, 0},
    M(AAS) = {exec_bcd, BCD_AAS, 0},
    M(AAM) = {exec_bcd, BCD_AAM, 0},
    M(AAD) = {exec_bcd, BCD_AAD, 0},
    M(SALC) = {exec_bcd, BCD_SALC, 0},

    M(CLC) = {exec_flag, FLAG_CLC, 0},
    M(STC) = {exec_flag, FLAG_STC, 0},
    M(CMC) = {exec_flag, FLAG_CMC, 0},
    M(CLD) = {exec_flag, FLAG_CLD, 0},
    M(STD) = {exec_flag, FLAG_STD, 0},
    M(LAHF) = {exec_flag, FLAG_LAHF, 0},
    M(SAHF) = {exec_flag, FLAG_SAHF, 0},
    M(CLI) = {exec_flag, FLAG_CLI, END},
    M(STI) = {exec_flag, FLAG_STI, END},
    M(CLAC) = {exec_flag, FLAG_CLAC, END},
    M(STAC) = {exec_flag, FLAG_STAC, END},

    M(XCHG) = {exec_atomic, ATOMIC_XCHG, 0},
    M(XADD) = {exec_atomic, ATOMIC_XADD, 0},
    M(CMPXCHG) = {exec_atomic, ATOMIC_CMPXCHG, 0},
    M(CMPXCHG8B) = {exec_atomic, ATOMIC_CMPXCHG8B, 0},
    M(CMPXCHG16B) = {exec_atomic, ATOMIC_CMPXCHG16B, 0},

    M(IRET) = {exec_far, FAR_IRET, END | WIDTH},
    M(IRETD) = {exec_far, FAR_IRET, END | WIDTH},
    M(IRETQ) = {exec_far, FAR_IRET, END | WIDTH},
    M(SYSCALL) = {exec_far, FAR_SYSCALL, END},
    M(SYSRET) = {exec_far, FAR_SYSRET, END | WIDTH},
    M(SYSENTER) = {exec_far, FAR_SYSENTER, END},
    M(SYSEXIT) = {exec_far, FAR_SYSEXIT, END | WIDTH},

    M(LDS) = {exec_segment, SEGMENT_LOAD_FAR, END},
    M(LES) = {exec_segment, SEGMENT_LOAD_FAR, END},
    M(LFS) = {exec_segment, SEGMENT_LOAD_FAR, END},
    M(LGS) = {exec_segment, SEGMENT_LOAD_FAR, END},
    M(LSS) = {exec_segment, SEGMENT_LOAD_FAR, END},
    M(LAR) = {exec_segment, SEGMENT_LAR, 0},
    M(LSL) = {exec_segment, SEGMENT_LSL, 0},
    M(VERR) = {exec_segment, SEGMENT_VERR, 0},
    M(VERW) = {exec_segment, SEGMENT_VERW, 0},
    M(ARPL) = {exec_segment, SEGMENT_ARPL, 0},
    M(SLDT) = {exec_segment, SEGMENT_SLDT, 0},
    M(STR) = {exec_segment, SEGMENT_STR, 0},
    M(LLDT) = {exec_segment, SEGMENT_LLDT, END},
    M(LTR) = {exec_segment, SEGMENT_LTR, END},
    M(SGDT) = {exec_segment, SEGMENT_SGDT, WIDTH},
    M(SIDT) = {exec_segment, SEGMENT_SIDT, WIDTH},
    M(LGDT) = {exec_segment, SEGMENT_LGDT, END | WIDTH},
    M(LIDT) = {exec_segment, SEGMENT_LIDT, END | WIDTH},
    M(SWAPGS) = {exec_segment, SEGMENT_SWAPGS, END},
    M(RDFSBASE) = {exec_segment, SEGMENT_RDBASE, 0},
    M(RDGSBASE) = {exec_segment, SEGMENT_RDBASE, 0},
    M(WRFSBASE) = {exec_segment, SEGMENT_WRBASE, END},
    M(WRGSBASE) = {exec_segment, SEGMENT_WRBASE, END},

    M(HLT) = {exec_system, SYSTEM_HLT, END},
    M(CPUID) = {exec_system, SYSTEM_CPUID, 0},
    M(RDMSR) = {exec_system, SYSTEM_RDMSR, 0},
    M(WRMSR) = {exec_system, SYSTEM_WRMSR, END},
    M(RDTSC) = {exec_system, SYSTEM_RDTSC, 0},
    M(RDTSCP) = {exec_system, SYSTEM_RDTSCP, 0},
    M(RDPMC) = {exec_system, SYSTEM_RDPMC, 0},
    M(CLTS) = {exec_system, SYSTEM_CLTS, END},
    M(SMSW) = {exec_system, SYSTEM_SMSW, 0},
    M(LMSW) = {exec_system, SYSTEM_LMSW, END},
    M(INVLPG) = {exec_system, SYSTEM_INVLPG, END},
    M(INVD) = {exec_system, SYSTEM_INVD, 0},
    M(WBINVD) = {exec_system, SYSTEM_INVD, 0},
    M(XGETBV) = {exec_system, SYSTEM_XGETBV, 0},
    M(XSETBV) = {exec_system, SYSTEM_XSETBV, END},
    M(RDPKRU) = {exec_system, SYSTEM_RDPKRU, 0},
    M(WRPKRU) = {exec_system, SYSTEM_WRPKRU, END},
    M(IN) = {exec_port, PORT_IN, 0},
    M(OUT) = {exec_port, PORT_OUT, 0},

    M(FXSAVE) = {exec_fpu, FPU_FXSAVE, WIDTH},
    M(FXSAVE64) = {exec_fpu, FPU_FXSAVE, WIDTH},
    M(FXRSTOR) = {exec_fpu, FPU_FXRSTOR, WIDTH},
    M(FXRSTOR64) = {exec_fpu, FPU_FXRSTOR, WIDTH},
    M(XSAVE) = {exec_xsave, FPU_XSAVE, WIDTH},
    M(XSAVE64) = {exec_xsave, FPU_XSAVE, WIDTH},
    M(XSAVEOPT) = {exec_xsave, FPU_XSAVEOPT, WIDTH},
    M(XSAVEOPT64) = {exec_xsave, FPU_XSAVEOPT, WIDTH},
    M(XRSTOR) = {exec_xsave, FPU_XRSTOR, WIDTH},
    M(XRSTOR64) = {exec_xsave, FPU_XRSTOR, WIDTH},
    M(LDMXCSR) = {exec_fpu, FPU_LDMXCSR, 0},
    M(STMXCSR) = {exec_fpu, FPU_STMXCSR, 0},
    M(FNINIT) = {exec_x87_state, FPU_FNINIT, 0},
    M(FNCLEX) = {exec_x87_state, FPU_FNCLEX, 0},
    M(FNSTCW) = {exec_x87_state, FPU_FNSTCW, 0},
    M(FLDCW) = {exec_x87_state, FPU_FLDCW, 0},
    M(FNSTSW) = {exec_x87_state, FPU_FNSTSW, 0},
    M(FWAIT) = {exec_x87_state, FPU_FWAIT, 0},
    M(FNSTENV) = {exec_x87_state, FPU_FNSTENV, WIDTH},
    M(FLDENV) = {exec_x87_state, FPU_FLDENV, WIDTH},
    M(FNSAVE) = {exec_x87_state, FPU_FNSAVE, WIDTH},
    M(FRSTOR) = {exec_x87_state, FPU_FRSTOR, WIDTH},
    M(EMMS) = {exec_fpu, FPU_EMMS, 0},

    M(PTEST) = {exec_sse4, SSE4_PTEST, 0},
    M(CRC32) = {exec_sse4, SSE4_CRC32, 0},
    SSE_IMMEDIATE_OPS(SSE4_RULE) SSE_OPS(SSE_RULE) SSE_MOVES(SSE_RULE_OF_MOVE)
        M(INVALID) = {NULL, 0, 0},
};

static ZydisRegisterClass class_of(const ZydisDecodedInstruction *decoded,
                                   const ZydisDecodedOperand *operands, unsigned number)
{
    if (number >= decoded->operand_count_visible ||
        operands[number].type != ZYDIS_OPERAND_TYPE_REGISTER) {
        return ZYDIS_REGCLASS_INVALID;
    }
    return ZydisRegisterGetClass(operands[number].reg.value);
}

/* MMX, by its registers: the mnemonics are SSE's as well. insn->selector: which operands are mm ones. */
static bool find_mmx(const ZydisDecodedInstruction *decoded, const ZydisDecodedOperand *operands,
                     struct insn *insn, struct decode_rule *rule)
{
#define MMX_RULE(upper, ...)                                                                       \
    case ZYDIS_MNEMONIC_##upper:                                                                   \
        *rule = (struct decode_rule){exec_mmx, MMX_##upper, 0};                                    \
        break;
    insn->selector = class_of(decoded, operands, 0) == ZYDIS_REGCLASS_MMX;
    insn->selector |= class_of(decoded, operands, 1) == ZYDIS_REGCLASS_MMX ? 2 : 0;
    if (insn->selector == 0 && decoded->mnemonic != ZYDIS_MNEMONIC_CVTPI2PS &&
        decoded->mnemonic != ZYDIS_MNEMONIC_CVTPI2PD) {
        return false;
    }
    switch (decoded->mnemonic) {
        MMX_OPS(MMX_RULE)
        MMX_OTHER_OPS(MMX_RULE)
    default:
        *rule = (struct decode_rule){NULL, 0, 0};
        break;
    }
#undef MMX_RULE
    return true;
}

/* MOV of special registers: which one is special. 0: neither. */
static uint16_t special_operand(const ZydisDecodedInstruction *decoded,
                                const ZydisDecodedOperand *operands, ZydisRegisterClass wanted)
{
    if (class_of(decoded, operands, 0) == wanted) {
        return SPECIAL_FIRST;
    }
    return class_of(decoded, operands, 1) == wanted ? SPECIAL_SECOND : 0;
}

static struct decode_rule find_move(const ZydisDecodedInstruction *decoded,
                                    const ZydisDecodedOperand *operands, struct insn *insn)
{
    insn->selector = special_operand(decoded, operands, ZYDIS_REGCLASS_SEGMENT);
    if (insn->selector != 0) {
        return (struct decode_rule){exec_segment, SEGMENT_MOV,
                                    insn->selector == SPECIAL_FIRST ? END : 0};
    }
    insn->selector = special_operand(decoded, operands, ZYDIS_REGCLASS_CONTROL);
    if (insn->selector == 0) {
        insn->selector = special_operand(decoded, operands, ZYDIS_REGCLASS_DEBUG);
        insn->selector |= insn->selector != 0 ? SPECIAL_DEBUG : 0;
    }
    if (insn->selector != 0) {
        return (struct decode_rule){exec_system, SYSTEM_MOV, END};
    }
    return rules[ZYDIS_MNEMONIC_MOV];
}

/* JMP, CALL, RET that are far. */
static struct decode_rule find_far(ZydisMnemonic mnemonic)
{
    enum far_op op = mnemonic == ZYDIS_MNEMONIC_JMP    ? FAR_JMP
                     : mnemonic == ZYDIS_MNEMONIC_CALL ? FAR_CALL
                                                       : FAR_RET;

    return (struct decode_rule){exec_far, (uint8_t)op, END | WIDTH};
}

/* The segment of LDS and its like, RDFSBASE and its like. */
static uint8_t segment_named(ZydisMnemonic mnemonic)
{
    switch (mnemonic) {
    case ZYDIS_MNEMONIC_LES:
        return X86_ES;
    case ZYDIS_MNEMONIC_LSS:
        return X86_SS;
    case ZYDIS_MNEMONIC_LDS:
        return X86_DS;
    case ZYDIS_MNEMONIC_LFS:
    case ZYDIS_MNEMONIC_RDFSBASE:
    case ZYDIS_MNEMONIC_WRFSBASE:
        return X86_FS;
    default:
        return X86_GS;
    }
}

/* D8 to DF, but for what controls it. */
static bool is_x87_arithmetic(const ZydisDecodedInstruction *decoded)
{
    return decoded->opcode_map == ZYDIS_OPCODE_MAP_DEFAULT &&
           decoded->encoding == ZYDIS_INSTRUCTION_ENCODING_LEGACY &&
           (decoded->opcode & 0xf8) == 0xd8 && rules[decoded->mnemonic].select == NULL;
}

static uint8_t modrm_of(const ZydisDecodedInstruction *decoded)
{
    return (uint8_t)(decoded->raw.modrm.mod << 6 | decoded->raw.modrm.reg << 3 |
                     decoded->raw.modrm.rm);
}

struct decode_rule decode_find_rule(const ZydisDecodedInstruction *decoded,
                                    const ZydisDecodedOperand *operands, struct insn *insn)
{
    struct decode_rule mmx;

    if (find_mmx(decoded, operands, insn, &mmx)) {
        return mmx;
    }
    insn->selector = 0;
    insn->reg[2] = segment_named(decoded->mnemonic);
    if (is_x87_arithmetic(decoded)) {
        insn->selector = (uint16_t)((decoded->opcode & 7) << 8 | modrm_of(decoded));
        return (struct decode_rule){exec_x87, 0, 0};
    }
    switch (decoded->mnemonic) {
    case ZYDIS_MNEMONIC_MOV:
        return find_move(decoded, operands, insn);
    case ZYDIS_MNEMONIC_MOVSD: /* the string's, or SSE's */
        if (decoded->opcode_map == ZYDIS_OPCODE_MAP_DEFAULT) {
            return rules[ZYDIS_MNEMONIC_MOVSD];
        }
        return (struct decode_rule){exec_sse, SSE_MOVE_SD, 0};
    case ZYDIS_MNEMONIC_MOVD: /* to or from which xmm register */
    case ZYDIS_MNEMONIC_MOVQ:
        insn->selector = class_of(decoded, operands, 0) == ZYDIS_REGCLASS_XMM;
        insn->selector |= class_of(decoded, operands, 1) == ZYDIS_REGCLASS_XMM ? 2 : 0;
        break;
    case ZYDIS_MNEMONIC_CMPSD:
        if (decoded->opcode_map == ZYDIS_OPCODE_MAP_DEFAULT) {
            return rules[ZYDIS_MNEMONIC_CMPSD];
        }
        return (struct decode_rule){exec_sse, SSE_COMPARE_SD, 0};
    case ZYDIS_MNEMONIC_PUSH:
    case ZYDIS_MNEMONIC_POP:
        if (class_of(decoded, operands, 0) == ZYDIS_REGCLASS_SEGMENT) {
            bool is_pop = decoded->mnemonic == ZYDIS_MNEMONIC_POP;

            return (struct decode_rule){exec_segment, is_pop ? SEGMENT_POP : SEGMENT_PUSH,
                                        is_pop ? END | WIDTH : WIDTH};
        }
        break;
    case ZYDIS_MNEMONIC_JMP:
    case ZYDIS_MNEMONIC_CALL:
    case ZYDIS_MNEMONIC_RET:
        if (decoded->meta.branch_type == ZYDIS_BRANCH_TYPE_FAR) {
            return find_far(decoded->mnemonic);
        }
        break;
    default:
        break;
    }
    return rules[decoded->mnemonic];
}
