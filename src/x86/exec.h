/*
 * x86/exec.h - the groups of instructions: each picks the handler of an instruction whose operands are filled in.
 */
#ifndef X86_EXEC_H
#define X86_EXEC_H

#include "x86/insn.h"

/* Return: the handler, or NULL: this form is not there. insn->sub is set already; the rest may be adjusted. */
typedef insn_fn *insn_select_fn(struct insn *insn);

insn_select_fn exec_alu;          /* sub: enum alu_op */
insn_select_fn exec_unary;        /* sub: enum unary_op */
insn_select_fn exec_mov;          /* sub: enum mov_op */
insn_select_fn exec_shift;        /* sub: enum shift_op */
insn_select_fn exec_double_shift; /* sub: 0 SHLD, 1 SHRD */
insn_select_fn exec_muldiv;       /* sub: enum muldiv_op */
insn_select_fn exec_condition;    /* sub: condition, and enum condition_op << 4 */
insn_select_fn exec_flow;         /* sub: enum flow_op */
insn_select_fn exec_stack;        /* sub: enum stack_op */
insn_select_fn exec_string;       /* sub: enum string_op, and log2 of the element size << 4 */
insn_select_fn exec_bit;          /* sub: enum bit_op */
insn_select_fn exec_bcd;          /* sub: enum bcd_op */
insn_select_fn exec_flag;         /* sub: enum flag_op */
insn_select_fn exec_atomic;       /* sub: enum atomic_op */
insn_select_fn exec_far;          /* sub: enum far_op */
insn_select_fn exec_segment;      /* sub: enum segment_op */
insn_select_fn exec_system;       /* sub: enum system_op */
insn_select_fn exec_port;         /* sub: enum port_op */
insn_select_fn exec_sse;          /* sub: enum sse_move_op */
insn_select_fn exec_sse_packed;   /* sub: enum sse_op */
insn_select_fn exec_sse4;         /* sub: enum sse4_op */
insn_select_fn exec_mmx;          /* sub: enum mmx_op */
insn_select_fn exec_fpu;          /* sub: enum fpu_op */

insn_select_fn exec_x87;       /* insn->selector: the opcode's low three bits, and ModRM */
insn_select_fn exec_xsave;     /* sub: enum fpu_op */
insn_select_fn exec_x87_state; /* sub: enum fpu_op */

/* What exec_sse() leaves to exec_sse_scalar.c, exec_mmx() to exec_mmx_convert.c. */
insn_fn *exec_sse_scalar(const struct insn *insn);
insn_fn *exec_mmx_convert(const struct insn *insn);

enum alu_op {
    ALU_ADD,
    ALU_OR,
    ALU_ADC,
    ALU_SBB,
    ALU_AND,
    ALU_SUB,
    ALU_XOR,
    ALU_CMP,
    ALU_TEST,
    ALU_COUNT,
};

enum unary_op {
    UNARY_INC,
    UNARY_DEC,
    UNARY_NEG,
    UNARY_NOT,
    UNARY_COUNT,
};

enum mov_op {
    MOV_PLAIN,
    MOV_ZERO,    /* MOVZX */
    MOV_SIGN,    /* MOVSX, MOVSXD */
    MOV_ADDRESS, /* LEA */
    MOV_SWAP,    /* BSWAP */
    MOV_BIG,     /* MOVBE */
    MOV_WIDEN,   /* CBW, CWDE, CDQE */
    MOV_SPREAD,  /* CWD, CDQ, CQO */
    MOV_TABLE,   /* XLAT */
    MOV_NOTHING, /* NOP and hints */
    MOV_FENCE,
    MOV_FLUSH,       /* CLFLUSH */
    MOV_NONTEMPORAL, /* MOVNTI */
};

enum shift_op {
    SHIFT_ROL,
    SHIFT_ROR,
    SHIFT_RCL,
    SHIFT_RCR,
    SHIFT_SHL,
    SHIFT_SHR,
    SHIFT_SAR,
    SHIFT_COUNT,
};

enum muldiv_op {
    MULDIV_MUL,
    MULDIV_IMUL,
    MULDIV_DIV,
    MULDIV_IDIV,
};

enum condition_op {
    CONDITION_JUMP,
    CONDITION_SET,
    CONDITION_MOVE,
};

enum flow_op {
    FLOW_JMP,
    FLOW_CALL,
    FLOW_RET,
    FLOW_LOOP,
    FLOW_LOOPE,
    FLOW_LOOPNE,
    FLOW_JCXZ,
    FLOW_INT,
    FLOW_INT3,
    FLOW_INT1,
    FLOW_INTO,
    FLOW_BOUND,
    FLOW_UD,
};

enum stack_op {
    STACK_PUSH,
    STACK_POP,
    STACK_PUSHF,
    STACK_POPF,
    STACK_PUSHA,
    STACK_POPA,
    STACK_ENTER,
    STACK_LEAVE,
};

enum string_op {
    STRING_MOVS,
    STRING_STOS,
    STRING_LODS,
    STRING_CMPS,
    STRING_SCAS,
    STRING_INS,
    STRING_OUTS,
    STRING_COUNT,
};

enum bit_op {
    BIT_BT,
    BIT_BTS,
    BIT_BTR,
    BIT_BTC,
    BIT_BSF,
    BIT_BSR,
    BIT_TZCNT,
    BIT_LZCNT,
    BIT_POPCNT,
    BIT_ANDN,
    BIT_BLSI,
    BIT_BLSR,
    BIT_BLSMSK,
    BIT_BEXTR,
    BIT_BZHI,
    BIT_SHLX,
    BIT_SHRX,
    BIT_SARX,
    BIT_RORX,
    BIT_MULX,
    BIT_PDEP,
    BIT_PEXT,
    BIT_ADCX,
    BIT_ADOX,
};

enum bcd_op {
    BCD_DAA,
    BCD_DAS,
    BCD_AAA,
    BCD_AAS,
    BCD_AAM,
    BCD_AAD,
    BCD_SALC,
};

enum flag_op {
    FLAG_CLC,
    FLAG_STC,
    FLAG_CMC,
    FLAG_CLD,
    FLAG_STD,
    FLAG_LAHF,
    FLAG_SAHF,
    FLAG_CLI,
    FLAG_STI,
    FLAG_CLAC,
    FLAG_STAC,
};

enum atomic_op {
    ATOMIC_XCHG,
    ATOMIC_XADD,
    ATOMIC_CMPXCHG,
    ATOMIC_CMPXCHG8B,
    ATOMIC_CMPXCHG16B,
};

enum far_op {
    FAR_JMP,
    FAR_CALL,
    FAR_RET,
    FAR_IRET,
    FAR_SYSCALL,
    FAR_SYSRET,
    FAR_SYSENTER,
    FAR_SYSEXIT,
};

enum segment_op {
    SEGMENT_MOV,
    SEGMENT_PUSH,
    SEGMENT_POP,
    SEGMENT_LOAD_FAR, /* LDS and its like; the segment is in reg[2] */
    SEGMENT_LAR,
    SEGMENT_LSL,
    SEGMENT_VERR,
    SEGMENT_VERW,
    SEGMENT_ARPL,
    SEGMENT_SLDT,
    SEGMENT_STR,
    SEGMENT_LLDT,
    SEGMENT_LTR,
    SEGMENT_SGDT,
    SEGMENT_SIDT,
    SEGMENT_LGDT,
    SEGMENT_LIDT,
    SEGMENT_SWAPGS,
    SEGMENT_RDBASE, /* RDFSBASE, RDGSBASE; the segment is in reg[2] */
    SEGMENT_WRBASE,
};

enum system_op {
    SYSTEM_HLT,
    SYSTEM_CPUID,
    SYSTEM_RDMSR,
    SYSTEM_WRMSR,
    SYSTEM_RDTSC,
    SYSTEM_RDTSCP,
    SYSTEM_RDPMC,
    SYSTEM_MOV, /* control and debug registers */
    SYSTEM_CLTS,
    SYSTEM_SMSW,
    SYSTEM_LMSW,
    SYSTEM_INVLPG,
    SYSTEM_INVD,
    SYSTEM_XGETBV,
    SYSTEM_XSETBV,
    SYSTEM_RDPKRU,
    SYSTEM_WRPKRU,
};

enum port_op {
    PORT_IN,
    PORT_OUT,
};

#endif
