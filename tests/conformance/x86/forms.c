/* conformance/x86/forms.c - the forms that the interpreter runs and that ring 3 in 64-bit mode may try. */
#include "forms.h"

#define F(name_, opcode_, ...)                                                                     \
    {                                                                                              \
        .name = (name_), .opcode = (opcode_), __VA_ARGS__                                          \
    }
#define RM .encoding = ENCODING_RM
#define EXT(digit_) .encoding = ENCODING_RM_EXT, .digit = (digit_)
#define OREG .encoding = ENCODING_OREG
#define SZ(sizes_) .sizes = SIZE_##sizes_
#define I(immediate_) .immediate = IMMEDIATE_##immediate_
#define U(undefined_) .undefined = UNDEFINED_##undefined_
#define S(special_) .special = SPECIAL_##special_
#define FL(flags_) .flags = (flags_)
#define G(group_) .group = GROUP_##group_
#define NEEDS(feature_) .feature = FEATURE_##feature_
#define P(mandatory_) .mandatory = 0x##mandatory_

/* The byte form, and the wide one behind it. */
#define BOTH(name, opcode, ...)                                                                    \
    F(name, opcode, SZ(8), __VA_ARGS__), F(name, (opcode) + 1, SZ(WIDE), __VA_ARGS__)

#define ALU(name, number, undefined_, lock)                                                        \
    BOTH(name, (number)*8, RM, U(undefined_), FL(lock), G(ALU)),                                   \
        BOTH(name, (number)*8 + 2, RM, U(undefined_), G(ALU)),                                     \
        BOTH(name, (number)*8 + 4, I(OPERAND), U(undefined_), G(ALU)),                             \
        BOTH(name, 0x80, EXT(number), I(OPERAND), U(undefined_), FL(lock), G(ALU)),                \
        F(name, 0x83, SZ(WIDE), EXT(number), I(8), U(undefined_), FL(lock), G(ALU))

#define SHIFT(name, digit_, undefined_)                                                            \
    BOTH(name, 0xc0, EXT(digit_), I(8), U(undefined_), G(SHIFT)),                                  \
        BOTH(name, 0xd0, EXT(digit_), U(undefined_), G(SHIFT)),                                    \
        BOTH(name, 0xd2, EXT(digit_), U(undefined_), G(SHIFT))

#define DOUBLE_SHIFT(name, opcode)                                                                 \
    F(name, opcode, RM, SZ(WIDE), I(8), U(DOUBLE_SHIFT), G(SHIFT)),                                \
        F(name, (opcode) + 1, RM, SZ(WIDE), U(DOUBLE_SHIFT), G(SHIFT))

#define BIT(name, opcode, digit_, lock)                                                            \
    F(name, opcode, RM, SZ(WIDE), U(BIT), S(BIT), FL(lock), G(BIT)),                               \
        F(name, 0x0fba, EXT(digit_), SZ(WIDE), I(8), U(BIT), FL(lock), G(BIT))

#define CONDITION(name, code)                                                                      \
    F("j" name, 0x70 + (code), .encoding = ENCODING_REL8, S(BRANCH), G(CONDITION)),                \
        F("j" name, 0x0f80 + (code), .encoding = ENCODING_REL32, S(BRANCH), G(CONDITION)),         \
        F("set" name, 0x0f90 + (code), EXT(0), SZ(8), G(CONDITION)),                               \
        F("cmov" name, 0x0f40 + (code), RM, SZ(WIDE), G(CONDITION))

#define STRING(name, opcode) BOTH(name, opcode, S(STRING), FL(FORM_REPEAT), G(STRING))

#define VEX(name, opcode, mandatory_, ...)                                                         \
    F(name, opcode, P(mandatory_), .encoding = ENCODING_VEX, SZ(32_64), G(BIT), __VA_ARGS__)
#define VEX_EXT(name, digit_)                                                                      \
    F(name, 0x2f3, .encoding = ENCODING_VEX_EXT, .digit = (digit_), SZ(32_64), U(LOGIC), G(BIT),   \
      NEEDS(BMI1))

#define FORBIDDEN(name, opcode, ...) F(name, opcode, G(FORBIDDEN), FL(FORM_RARE), __VA_ARGS__)

#define SSE(group_, name, mandatory_, opcode, flags_, ...)                                         \
    F(name, opcode, P(mandatory_), RM, G(SSE_##group_), FL((flags_) | FORM_VECTOR), __VA_ARGS__)
#define SSE_I(name, opcode) SSE(INT, name, 66, opcode, FORM_ALIGNED, .immediate = 0)
#define SSE_SHIFT(name, opcode, digit_)                                                            \
    F(name, opcode, P(66), EXT(digit_), I(8), G(SSE_INT), FL(FORM_REGISTER_ONLY | FORM_VECTOR))
#define SSE_F4(name, opcode)                                                                       \
    SSE(FLOAT, name "ps", 00, opcode, FORM_ALIGNED, .immediate = 0),                               \
        SSE(FLOAT, name "pd", 66, opcode, FORM_ALIGNED, .immediate = 0),                           \
        SSE(FLOAT, name "ss", f3, opcode, 0, .immediate = 0),                                      \
        SSE(FLOAT, name "sd", f2, opcode, 0, .immediate = 0)
#define SSE_F2(name, opcode)                                                                       \
    SSE(INT, name "ps", 00, opcode, FORM_ALIGNED, .immediate = 0),                                 \
        SSE(INT, name "pd", 66, opcode, FORM_ALIGNED, .immediate = 0)
#define SSE_M(name, mandatory_, opcode, flags_)                                                    \
    SSE(MOVE, name, mandatory_, opcode, flags_, .digit = 0)
#define SSE_C(name, mandatory_, opcode, flags_)                                                    \
    SSE(CONVERT, name, mandatory_, opcode, flags_, .digit = 0)
#define SSE_SIZED(name, mandatory_, opcode) SSE(CONVERT, name, mandatory_, opcode, 0, SZ(32_64))

const struct form forms[] = {
    ALU("add", 0, NONE, FORM_LOCK),
    ALU("or", 1, AF, FORM_LOCK),
    ALU("adc", 2, NONE, FORM_LOCK),
    ALU("sbb", 3, NONE, FORM_LOCK),
    ALU("and", 4, AF, FORM_LOCK),
    ALU("sub", 5, NONE, FORM_LOCK),
    ALU("xor", 6, AF, FORM_LOCK),
    ALU("cmp", 7, NONE, 0),
    F("adcx", 0x0f38f6, P(66), RM, SZ(32_64), G(ALU), NEEDS(ADX)),
    F("adox", 0x0f38f6, P(f3), RM, SZ(32_64), G(ALU), NEEDS(ADX)),
    BOTH("test", 0x84, RM, U(AF), G(ALU)),
    BOTH("test", 0xa8, I(OPERAND), U(AF), G(ALU)),
    BOTH("test", 0xf6, EXT(0), I(OPERAND), U(AF), G(ALU)),
    BOTH("test", 0xf6, EXT(1), I(OPERAND), U(AF), G(ALU)),
    BOTH("inc", 0xfe, EXT(0), FL(FORM_LOCK), G(ALU)),
    BOTH("dec", 0xfe, EXT(1), FL(FORM_LOCK), G(ALU)),
    BOTH("not", 0xf6, EXT(2), FL(FORM_LOCK), G(ALU)),
    BOTH("neg", 0xf6, EXT(3), FL(FORM_LOCK), G(ALU)),

    BOTH("mov", 0x88, RM, G(MOVE)),
    BOTH("mov", 0x8a, RM, G(MOVE)),
    BOTH("mov", 0xa0, .encoding = ENCODING_OFFSET, G(MOVE)),
    BOTH("mov", 0xa2, .encoding = ENCODING_OFFSET, G(MOVE)),
    F("mov", 0xb0, OREG, SZ(8), I(OPERAND), G(MOVE)),
    F("mov", 0xb8, OREG, SZ(WIDE), I(WHOLE), G(MOVE)),
    BOTH("mov", 0xc6, EXT(0), I(OPERAND), G(MOVE)),
    F("movzx", 0x0fb6, RM, SZ(WIDE), G(MOVE)),
    F("movzx", 0x0fb7, RM, SZ(WIDE), G(MOVE)),
    F("movsx", 0x0fbe, RM, SZ(WIDE), G(MOVE)),
    F("movsx", 0x0fbf, RM, SZ(WIDE), G(MOVE)),
    F("movsxd", 0x63, RM, SZ(32_64), G(MOVE)),
    F("lea", 0x8d, RM, SZ(WIDE), FL(FORM_MEMORY_ONLY), G(MOVE)),
    F("bswap", 0x0fc8, OREG, SZ(32_64), G(MOVE)),
    F("movbe", 0x0f38f0, RM, SZ(WIDE), FL(FORM_MEMORY_ONLY), G(MOVE), NEEDS(MOVBE)),
    F("movbe", 0x0f38f1, RM, SZ(WIDE), FL(FORM_MEMORY_ONLY), G(MOVE), NEEDS(MOVBE)),
    F("cbw", 0x98, SZ(WIDE), G(MOVE)),
    F("cwd", 0x99, SZ(WIDE), G(MOVE)),
    F("xlat", 0xd7, S(TABLE), G(MOVE)),
    F("nop", 0x90, SZ(WIDE), G(MOVE)),
    F("pause", 0x90, P(f3), G(MOVE)),
    F("nop", 0x0f1f, EXT(0), SZ(WIDE), G(MOVE)),
    F("endbr64", 0x0f1e, P(f3), EXT(7), FL(FORM_REGISTER_ONLY), G(MOVE)),
    F("prefetchnta", 0x0f18, EXT(0), FL(FORM_MEMORY_ONLY), G(MOVE)),
    F("prefetcht0", 0x0f18, EXT(1), FL(FORM_MEMORY_ONLY), G(MOVE)),
    F("prefetchw", 0x0f0d, EXT(1), FL(FORM_MEMORY_ONLY), G(MOVE)),
    F("lfence", 0x0fae, EXT(5), FL(FORM_REGISTER_ONLY | FORM_VECTOR), G(MOVE)),
    F("mfence", 0x0fae, EXT(6), FL(FORM_REGISTER_ONLY | FORM_VECTOR), G(MOVE)),
    F("sfence", 0x0fae, EXT(7), FL(FORM_REGISTER_ONLY | FORM_VECTOR), G(MOVE)),
    F("clflush", 0x0fae, EXT(7), FL(FORM_MEMORY_ONLY | FORM_VECTOR), G(MOVE), NEEDS(CLFLUSH)),
    F("movnti", 0x0fc3, RM, SZ(32_64), FL(FORM_MEMORY_ONLY | FORM_VECTOR), G(MOVE)),

    SHIFT("rol", 0, ROTATE),
    SHIFT("ror", 1, ROTATE),
    SHIFT("rcl", 2, ROTATE),
    SHIFT("rcr", 3, ROTATE),
    SHIFT("shl", 4, SHIFT),
    SHIFT("shr", 5, SHIFT),
    SHIFT("shl", 6, SHIFT),
    SHIFT("sar", 7, SHIFT),
    DOUBLE_SHIFT("shld", 0x0fa4),
    DOUBLE_SHIFT("shrd", 0x0fac),
    BOTH("mul", 0xf6, EXT(4), U(MUL), G(MULDIV)),
    BOTH("imul", 0xf6, EXT(5), U(MUL), G(MULDIV)),
    BOTH("div", 0xf6, EXT(6), U(DIV), S(DIVIDE), G(MULDIV)),
    BOTH("idiv", 0xf6, EXT(7), U(DIV), S(DIVIDE), G(MULDIV)),
    F("imul", 0x0faf, RM, SZ(WIDE), U(MUL), G(MULDIV)),
    F("imul", 0x69, RM, SZ(WIDE), I(OPERAND), U(MUL), G(MULDIV)),
    F("imul", 0x6b, RM, SZ(WIDE), I(8), U(MUL), G(MULDIV)),

    BIT("bt", 0x0fa3, 4, 0),
    BIT("bts", 0x0fab, 5, FORM_LOCK),
    BIT("btr", 0x0fb3, 6, FORM_LOCK),
    BIT("btc", 0x0fbb, 7, FORM_LOCK),
    F("bsf", 0x0fbc, RM, SZ(WIDE), U(SCAN), G(BIT)),
    F("bsr", 0x0fbd, RM, SZ(WIDE), U(SCAN), G(BIT)),
    F("popcnt", 0x0fb8, P(f3), RM, SZ(WIDE), G(BIT), NEEDS(POPCNT)),
    F("tzcnt", 0x0fbc, P(f3), RM, SZ(WIDE), U(COUNT), G(BIT), NEEDS(BMI1)),
    F("lzcnt", 0x0fbd, P(f3), RM, SZ(WIDE), U(COUNT), G(BIT), NEEDS(LZCNT)),
    VEX("andn", 0x2f2, 00, U(LOGIC), NEEDS(BMI1)),
    VEX("bextr", 0x2f7, 00, U(EXTRACT), NEEDS(BMI1)),
    VEX_EXT("blsr", 1),
    VEX_EXT("blsmsk", 2),
    VEX_EXT("blsi", 3),
    VEX("bzhi", 0x2f5, 00, U(LOGIC), NEEDS(BMI2)),
    VEX("shlx", 0x2f7, 66, NEEDS(BMI2)),
    VEX("sarx", 0x2f7, f3, NEEDS(BMI2)),
    VEX("shrx", 0x2f7, f2, NEEDS(BMI2)),
    VEX("mulx", 0x2f6, f2, NEEDS(BMI2)),
    VEX("pdep", 0x2f5, f2, NEEDS(BMI2)),
    VEX("pext", 0x2f5, f3, NEEDS(BMI2)),
    F("rorx", 0x3f0, P(f2), .encoding = ENCODING_VEX, .digit = 8, SZ(32_64), I(8), G(BIT),
      NEEDS(BMI2)),

    F("clc", 0xf8, G(FLAG)),
    F("stc", 0xf9, G(FLAG)),
    F("cmc", 0xf5, G(FLAG)),
    F("cld", 0xfc, G(FLAG)),
    F("std", 0xfd, G(FLAG)),
    F("lahf", 0x9f, G(FLAG)),
    F("sahf", 0x9e, G(FLAG)),

    CONDITION("o", 0),
    CONDITION("no", 1),
    CONDITION("b", 2),
    CONDITION("nb", 3),
    CONDITION("z", 4),
    CONDITION("nz", 5),
    CONDITION("be", 6),
    CONDITION("nbe", 7),
    CONDITION("s", 8),
    CONDITION("ns", 9),
    CONDITION("p", 10),
    CONDITION("np", 11),
    CONDITION("l", 12),
    CONDITION("nl", 13),
    CONDITION("le", 14),
    CONDITION("nle", 15),

    F("jmp", 0xeb, .encoding = ENCODING_REL8, S(BRANCH), G(FLOW)),
    F("jmp", 0xe9, .encoding = ENCODING_REL32, S(BRANCH), G(FLOW)),
    F("call", 0xe8, .encoding = ENCODING_REL32, S(BRANCH), G(FLOW)),
    F("loopne", 0xe0, .encoding = ENCODING_REL8, S(LOOP), G(FLOW)),
    F("loope", 0xe1, .encoding = ENCODING_REL8, S(LOOP), G(FLOW)),
    F("loop", 0xe2, .encoding = ENCODING_REL8, S(LOOP), G(FLOW)),
    F("jrcxz", 0xe3, .encoding = ENCODING_REL8, S(LOOP), G(FLOW)),
    F("jmp", 0xff, EXT(4), SZ(64), S(INDIRECT), FL(FORM_DEFAULT_64), G(FLOW)),
    F("call", 0xff, EXT(2), SZ(64), S(INDIRECT_CALL), FL(FORM_DEFAULT_64), G(FLOW)),
    F("ret", 0xc3, S(RETURN), G(FLOW)),
    F("ret", 0xc2, I(16), S(RETURN), G(FLOW)),
    F("int3", 0xcc, FL(FORM_RARE), G(FLOW)),
    F("int", 0xcd, I(8), S(INTERRUPT), FL(FORM_RARE), G(FLOW)),
    F("ud2", 0x0f0b, FL(FORM_RARE), G(FLOW)),
    F("ud1", 0x0fb9, RM, FL(FORM_RARE), G(FLOW)),

    F("push", 0x50, OREG, SZ(16_64), S(STACK), FL(FORM_DEFAULT_64), G(STACK)),
    F("pop", 0x58, OREG, SZ(16_64), S(STACK), FL(FORM_DEFAULT_64), G(STACK)),
    F("push", 0xff, EXT(6), SZ(16_64), S(STACK), FL(FORM_DEFAULT_64), G(STACK)),
    F("pop", 0x8f, EXT(0), SZ(16_64), S(STACK), FL(FORM_DEFAULT_64), G(STACK)),
    F("push", 0x68, SZ(16_64), I(OPERAND), S(STACK), FL(FORM_DEFAULT_64), G(STACK)),
    F("push", 0x6a, SZ(16_64), I(8), S(STACK), FL(FORM_DEFAULT_64), G(STACK)),
    F("pushf", 0x9c, SZ(16_64), S(STACK), FL(FORM_DEFAULT_64), G(STACK)),
    F("popf", 0x9d, SZ(16_64), S(POP_FLAGS), FL(FORM_DEFAULT_64), G(STACK)),
    F("enter", 0xc8, SZ(16_64), I(ENTER), S(ENTER), FL(FORM_DEFAULT_64), G(STACK)),
    F("leave", 0xc9, SZ(16_64), S(ENTER), FL(FORM_DEFAULT_64), G(STACK)),

    STRING("movs", 0xa4),
    STRING("cmps", 0xa6),
    STRING("stos", 0xaa),
    STRING("lods", 0xac),
    STRING("scas", 0xae),

    BOTH("xchg", 0x86, RM, FL(FORM_LOCK), G(ATOMIC)),
    F("xchg", 0x90, OREG, SZ(WIDE), G(ATOMIC)),
    BOTH("xadd", 0x0fc0, RM, FL(FORM_LOCK), G(ATOMIC)),
    BOTH("cmpxchg", 0x0fb0, RM, S(COMPARE), FL(FORM_LOCK), G(ATOMIC)),
    F("cmpxchg8b", 0x0fc7, EXT(1), SZ(32), S(COMPARE_PAIR), FL(FORM_LOCK | FORM_MEMORY_ONLY),
      G(ATOMIC)),
    F("cmpxchg16b", 0x0fc7, EXT(1), SZ(64), S(COMPARE_PAIR),
      FL(FORM_LOCK | FORM_MEMORY_ONLY | FORM_ALIGNED), G(ATOMIC)),

    F("mov", 0x8c, EXT(0), SZ(WIDE), G(SEGMENT)),
    F("mov", 0x8c, EXT(1), SZ(WIDE), G(SEGMENT)),
    F("mov", 0x8c, EXT(2), SZ(WIDE), G(SEGMENT)),
    F("mov", 0x8c, EXT(3), SZ(WIDE), G(SEGMENT)),
    F("mov", 0x8c, EXT(4), SZ(WIDE), G(SEGMENT)),
    F("mov", 0x8c, EXT(5), SZ(WIDE), G(SEGMENT)),
    F("mov", 0x8e, EXT(0), SZ(WIDE), S(SELECTOR), G(SEGMENT)),
    F("mov", 0x8e, EXT(1), SZ(WIDE), S(SELECTOR), G(SEGMENT)),
    F("mov", 0x8e, EXT(3), SZ(WIDE), S(SELECTOR), G(SEGMENT)),
    F("push", 0x0fa0, SZ(16_64), S(STACK), FL(FORM_DEFAULT_64), G(SEGMENT)),
    F("push", 0x0fa8, SZ(16_64), S(STACK), FL(FORM_DEFAULT_64), G(SEGMENT)),
    F("lar", 0x0f02, RM, SZ(WIDE), S(SELECTOR), G(SEGMENT)),
    F("lsl", 0x0f03, RM, SZ(WIDE), S(SELECTOR), G(SEGMENT)),
    F("verr", 0x0f00, EXT(4), S(SELECTOR), G(SEGMENT)),
    F("verw", 0x0f00, EXT(5), S(SELECTOR), G(SEGMENT)),
    F("rdgsbase", 0x0fae, P(f3), EXT(1), SZ(32_64), FL(FORM_REGISTER_ONLY), G(SEGMENT),
      NEEDS(FSGSBASE)),

    F("ldmxcsr", 0x0fae, EXT(2), S(MXCSR), FL(FORM_MEMORY_ONLY | FORM_VECTOR), G(FPU)),
    F("stmxcsr", 0x0fae, EXT(3), FL(FORM_MEMORY_ONLY | FORM_VECTOR), G(FPU)),
    F("fxsave", 0x0fae, EXT(0), SZ(32_64), FL(FORM_MEMORY_ONLY | FORM_VECTOR | FORM_ALIGNED),
      G(FPU)),
    F("fxrstor", 0x0fae, EXT(1), SZ(32_64), S(FXRSTOR),
      FL(FORM_MEMORY_ONLY | FORM_VECTOR | FORM_ALIGNED), G(FPU)),
    F("fninit", 0xdbe3, G(FPU)),
    F("fnclex", 0xdbe2, G(FPU)),
    F("fnstcw", 0xd9, EXT(7), FL(FORM_MEMORY_ONLY | FORM_VECTOR), G(FPU)),
    F("fldcw", 0xd9, EXT(5), FL(FORM_MEMORY_ONLY | FORM_VECTOR), G(FPU)),
    F("fnstsw", 0xdd, EXT(7), FL(FORM_MEMORY_ONLY | FORM_VECTOR), G(FPU)),
    F("fnstsw", 0xdfe0, G(FPU)),
    F("fwait", 0x9b, G(FPU)),
    F("emms", 0x0f77, FL(FORM_VECTOR), G(FPU)),

    FORBIDDEN("hlt", 0xf4, .digit = 0),
    FORBIDDEN("cli", 0xfa, .digit = 0),
    FORBIDDEN("sti", 0xfb, .digit = 0),
    FORBIDDEN("in", 0xe4, I(8)),
    FORBIDDEN("in", 0xec, .digit = 0),
    FORBIDDEN("in", 0xed, SZ(WIDE)),
    FORBIDDEN("out", 0xe7, SZ(WIDE), I(8)),
    FORBIDDEN("out", 0xee, .digit = 0),
    FORBIDDEN("ins", 0x6c, S(STRING)),
    FORBIDDEN("outs", 0x6f, S(STRING)),
    FORBIDDEN("clts", 0x0f06, .digit = 0),
    FORBIDDEN("wbinvd", 0x0f09, .digit = 0),
    FORBIDDEN("rdmsr", 0x0f32, .digit = 0),
    FORBIDDEN("wrmsr", 0x0f30, .digit = 0),
    FORBIDDEN("mov", 0x0f20, EXT(0)),
    FORBIDDEN("mov", 0x0f22, EXT(3)),
    FORBIDDEN("mov", 0x0f21, EXT(7)),
    F("lgdt", 0x0f01, EXT(2), G(FORBIDDEN), FL(FORM_RARE | FORM_MEMORY_ONLY)),
    F("lidt", 0x0f01, EXT(3), G(FORBIDDEN), FL(FORM_RARE | FORM_MEMORY_ONLY)),
    FORBIDDEN("lmsw", 0x0f01, EXT(6)),
    FORBIDDEN("lldt", 0x0f00, EXT(2)),
    FORBIDDEN("ltr", 0x0f00, EXT(3)),
    FORBIDDEN("swapgs", 0x0f01f8, .digit = 0),
    FORBIDDEN("stac", 0x0f01cb, .digit = 0),
    FORBIDDEN("sysret", 0x0f07, .digit = 0),
    FORBIDDEN("aaa", 0x37, .digit = 0),
    FORBIDDEN("pusha", 0x60, .digit = 0),
    FORBIDDEN("into", 0xce, .digit = 0),
    FORBIDDEN("push", 0x06, .digit = 0),
    FORBIDDEN("salc", 0xd6, .digit = 0),

    SSE_M("movaps", 00, 0x0f28, FORM_ALIGNED),
    SSE_M("movaps", 00, 0x0f29, FORM_ALIGNED),
    SSE_M("movapd", 66, 0x0f28, FORM_ALIGNED),
    SSE_M("movapd", 66, 0x0f29, FORM_ALIGNED),
    SSE_M("movdqa", 66, 0x0f6f, FORM_ALIGNED),
    SSE_M("movdqa", 66, 0x0f7f, FORM_ALIGNED),
    SSE_M("movups", 00, 0x0f10, 0),
    SSE_M("movups", 00, 0x0f11, 0),
    SSE_M("movupd", 66, 0x0f10, 0),
    SSE_M("movupd", 66, 0x0f11, 0),
    SSE_M("movss", f3, 0x0f10, 0),
    SSE_M("movss", f3, 0x0f11, 0),
    SSE_M("movsd", f2, 0x0f10, 0),
    SSE_M("movsd", f2, 0x0f11, 0),
    SSE_M("movdqu", f3, 0x0f6f, 0),
    SSE_M("movdqu", f3, 0x0f7f, 0),
    SSE_M("movntps", 00, 0x0f2b, FORM_ALIGNED | FORM_MEMORY_ONLY),
    SSE_M("movntpd", 66, 0x0f2b, FORM_ALIGNED | FORM_MEMORY_ONLY),
    SSE_M("movntdq", 66, 0x0fe7, FORM_ALIGNED | FORM_MEMORY_ONLY),
    SSE_M("movlps", 00, 0x0f12, 0), /* or MOVHLPS */
    SSE_M("movlps", 00, 0x0f13, FORM_MEMORY_ONLY),
    SSE_M("movlpd", 66, 0x0f12, FORM_MEMORY_ONLY),
    SSE_M("movlpd", 66, 0x0f13, FORM_MEMORY_ONLY),
    SSE_M("movhps", 00, 0x0f16, 0), /* or MOVLHPS */
    SSE_M("movhps", 00, 0x0f17, FORM_MEMORY_ONLY),
    SSE_M("movhpd", 66, 0x0f16, FORM_MEMORY_ONLY),
    SSE_M("movhpd", 66, 0x0f17, FORM_MEMORY_ONLY),
    SSE(MOVE, "movd", 66, 0x0f6e, 0, SZ(32_64)),
    SSE(MOVE, "movd", 66, 0x0f7e, 0, SZ(32_64)),
    SSE_M("movq", f3, 0x0f7e, 0),
    SSE_M("movq", 66, 0x0fd6, 0),
    SSE_M("movmskps", 00, 0x0f50, FORM_REGISTER_ONLY),
    SSE_M("movmskpd", 66, 0x0f50, FORM_REGISTER_ONLY),
    SSE_M("pmovmskb", 66, 0x0fd7, FORM_REGISTER_ONLY),
    SSE(MOVE, "pinsrw", 66, 0x0fc4, 0, I(8)),
    SSE(MOVE, "pextrw", 66, 0x0fc5, FORM_REGISTER_ONLY, I(8)),
    SSE(MOVE, "pshufd", 66, 0x0f70, FORM_ALIGNED, I(8)),
    SSE(MOVE, "pshuflw", f2, 0x0f70, FORM_ALIGNED, I(8)),
    SSE(MOVE, "pshufhw", f3, 0x0f70, FORM_ALIGNED, I(8)),
    SSE(MOVE, "shufps", 00, 0x0fc6, FORM_ALIGNED, I(8)),
    SSE(MOVE, "shufpd", 66, 0x0fc6, FORM_ALIGNED, I(8)),

    SSE_I("paddb", 0x0ffc),
    SSE_I("paddw", 0x0ffd),
    SSE_I("paddd", 0x0ffe),
    SSE_I("paddq", 0x0fd4),
    SSE_I("psubb", 0x0ff8),
    SSE_I("psubw", 0x0ff9),
    SSE_I("psubd", 0x0ffa),
    SSE_I("psubq", 0x0ffb),
    SSE_I("paddsb", 0x0fec),
    SSE_I("paddsw", 0x0fed),
    SSE_I("paddusb", 0x0fdc),
    SSE_I("paddusw", 0x0fdd),
    SSE_I("psubsb", 0x0fe8),
    SSE_I("psubsw", 0x0fe9),
    SSE_I("psubusb", 0x0fd8),
    SSE_I("psubusw", 0x0fd9),
    SSE_I("pmullw", 0x0fd5),
    SSE_I("pmulhw", 0x0fe5),
    SSE_I("pmulhuw", 0x0fe4),
    SSE_I("pmuludq", 0x0ff4),
    SSE_I("pmaddwd", 0x0ff5),
    SSE_I("psadbw", 0x0ff6),
    SSE_I("pavgb", 0x0fe0),
    SSE_I("pavgw", 0x0fe3),
    SSE_I("pminub", 0x0fda),
    SSE_I("pminsw", 0x0fea),
    SSE_I("pmaxub", 0x0fde),
    SSE_I("pmaxsw", 0x0fee),
    SSE_I("pand", 0x0fdb),
    SSE_I("pandn", 0x0fdf),
    SSE_I("por", 0x0feb),
    SSE_I("pxor", 0x0fef),
    SSE_I("pcmpeqb", 0x0f74),
    SSE_I("pcmpeqw", 0x0f75),
    SSE_I("pcmpeqd", 0x0f76),
    SSE_I("pcmpgtb", 0x0f64),
    SSE_I("pcmpgtw", 0x0f65),
    SSE_I("pcmpgtd", 0x0f66),
    SSE_I("punpcklbw", 0x0f60),
    SSE_I("punpcklwd", 0x0f61),
    SSE_I("punpckldq", 0x0f62),
    SSE_I("punpcklqdq", 0x0f6c),
    SSE_I("punpckhbw", 0x0f68),
    SSE_I("punpckhwd", 0x0f69),
    SSE_I("punpckhdq", 0x0f6a),
    SSE_I("punpckhqdq", 0x0f6d),
    SSE_I("packsswb", 0x0f63),
    SSE_I("packssdw", 0x0f6b),
    SSE_I("packuswb", 0x0f67),
    SSE_I("psllw", 0x0ff1),
    SSE_I("pslld", 0x0ff2),
    SSE_I("psllq", 0x0ff3),
    SSE_I("psrlw", 0x0fd1),
    SSE_I("psrld", 0x0fd2),
    SSE_I("psrlq", 0x0fd3),
    SSE_I("psraw", 0x0fe1),
    SSE_I("psrad", 0x0fe2),
    SSE_SHIFT("psrlw", 0x0f71, 2),
    SSE_SHIFT("psraw", 0x0f71, 4),
    SSE_SHIFT("psllw", 0x0f71, 6),
    SSE_SHIFT("psrld", 0x0f72, 2),
    SSE_SHIFT("psrad", 0x0f72, 4),
    SSE_SHIFT("pslld", 0x0f72, 6),
    SSE_SHIFT("psrlq", 0x0f73, 2),
    SSE_SHIFT("psrldq", 0x0f73, 3),
    SSE_SHIFT("psllq", 0x0f73, 6),
    SSE_SHIFT("pslldq", 0x0f73, 7),
    SSE_F2("and", 0x0f54),
    SSE_F2("andn", 0x0f55),
    SSE_F2("or", 0x0f56),
    SSE_F2("xor", 0x0f57),
    SSE_F2("unpckl", 0x0f14),
    SSE_F2("unpckh", 0x0f15),

    SSE_F4("add", 0x0f58),
    SSE_F4("mul", 0x0f59),
    SSE_F4("sub", 0x0f5c),
    SSE_F4("min", 0x0f5d),
    SSE_F4("div", 0x0f5e),
    SSE_F4("max", 0x0f5f),
    SSE_F4("sqrt", 0x0f51),
    SSE(FLOAT, "rcpps", 00, 0x0f53, FORM_ALIGNED, I(NONE)),
    SSE(FLOAT, "rcpss", f3, 0x0f53, 0, I(NONE)),
    SSE(FLOAT, "rsqrtps", 00, 0x0f52, FORM_ALIGNED, I(NONE)),
    SSE(FLOAT, "rsqrtss", f3, 0x0f52, 0, I(NONE)),
    SSE(FLOAT, "cmpps", 00, 0x0fc2, FORM_ALIGNED, I(8)),
    SSE(FLOAT, "cmppd", 66, 0x0fc2, FORM_ALIGNED, I(8)),
    SSE(FLOAT, "cmpss", f3, 0x0fc2, 0, I(8)),
    SSE(FLOAT, "cmpsd", f2, 0x0fc2, 0, I(8)),
    SSE(FLOAT, "comiss", 00, 0x0f2f, 0, I(NONE)),
    SSE(FLOAT, "comisd", 66, 0x0f2f, 0, I(NONE)),
    SSE(FLOAT, "ucomiss", 00, 0x0f2e, 0, I(NONE)),
    SSE(FLOAT, "ucomisd", 66, 0x0f2e, 0, I(NONE)),

    SSE_C("cvtdq2ps", 00, 0x0f5b, FORM_ALIGNED),
    SSE_C("cvtps2dq", 66, 0x0f5b, FORM_ALIGNED),
    SSE_C("cvttps2dq", f3, 0x0f5b, FORM_ALIGNED),
    SSE_C("cvtps2pd", 00, 0x0f5a, 0),
    SSE_C("cvtpd2ps", 66, 0x0f5a, FORM_ALIGNED),
    SSE_C("cvtss2sd", f3, 0x0f5a, 0),
    SSE_C("cvtsd2ss", f2, 0x0f5a, 0),
    SSE_C("cvtdq2pd", f3, 0x0fe6, 0),
    SSE_C("cvtpd2dq", f2, 0x0fe6, FORM_ALIGNED),
    SSE_C("cvttpd2dq", 66, 0x0fe6, FORM_ALIGNED),
    SSE_SIZED("cvtsi2ss", f3, 0x0f2a),
    SSE_SIZED("cvtsi2sd", f2, 0x0f2a),
    SSE_SIZED("cvttss2si", f3, 0x0f2c),
    SSE_SIZED("cvttsd2si", f2, 0x0f2c),
    SSE_SIZED("cvtss2si", f3, 0x0f2d),
    SSE_SIZED("cvtsd2si", f2, 0x0f2d),
};

const size_t forms_count = sizeof(forms) / sizeof(forms[0]);

const char *form_group_name(enum form_group group)
{
    static const char *const names[GROUP_COUNT] = {
        "alu",       "move",      "shift",    "muldiv",  "bit",       "flag",
        "condition", "flow",      "stack",    "string",  "atomic",    "segment",
        "fpu",       "forbidden", "sse_move", "sse_int", "sse_float", "sse_convert",
    };

    return names[group];
}
