/*
 * conformance/x86/forms.h - instruction forms as data: how each is encoded, what the manual leaves undefined of it, and
 * what its operands have to be like so that it can be run.
 */
#ifndef CONFORMANCE_X86_FORMS_H
#define CONFORMANCE_X86_FORMS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum form_group {
    GROUP_ALU,
    GROUP_MOVE,
    GROUP_SHIFT,
    GROUP_MULDIV,
    GROUP_BIT,
    GROUP_FLAG,
    GROUP_CONDITION,
    GROUP_FLOW,
    GROUP_STACK,
    GROUP_STRING,
    GROUP_ATOMIC,
    GROUP_SEGMENT,
    GROUP_FPU,
    GROUP_X87,
    GROUP_FORBIDDEN, /* in ring 3 */
    GROUP_SSE_MOVE,
    GROUP_SSE_INT,
    GROUP_SSE_FLOAT,
    GROUP_SSE_CONVERT,
    GROUP_MMX,
    GROUP_COUNT,
};

enum form_encoding {
    ENCODING_NONE,
    ENCODING_RM,     /* ModRM: any register, register or memory */
    ENCODING_RM_EXT, /* ModRM: the opcode's digit, register or memory */
    ENCODING_OREG,   /* register in the opcode's low three bits */
    ENCODING_OFFSET, /* MOV's absolute address */
    ENCODING_REL8,
    ENCODING_REL32,
    ENCODING_VEX, /* ModRM, and a register in VEX.vvvv */
    ENCODING_VEX_EXT,
};

/* Operand sizes. None: the instruction has but one. */
enum {
    SIZE_8 = 1,
    SIZE_16 = 2,
    SIZE_32 = 4,
    SIZE_64 = 8,
    SIZE_WIDE = SIZE_16 | SIZE_32 | SIZE_64,
    SIZE_16_32 = SIZE_16 | SIZE_32,
    SIZE_32_64 = SIZE_32 | SIZE_64,
    SIZE_16_64 = SIZE_16 | SIZE_64,
};

enum form_immediate {
    IMMEDIATE_NONE,
    IMMEDIATE_8,
    IMMEDIATE_16,
    IMMEDIATE_OPERAND, /* of the operand's size, 32 bits at most */
    IMMEDIATE_WHOLE,   /* of the operand's size */
    IMMEDIATE_ENTER,   /* 16 and 8 bits */
};

/* form->flags */
enum {
    FORM_MEMORY_ONLY = 1,
    FORM_REGISTER_ONLY = 2,
    FORM_LOCK = 4,        /* allowed with a memory destination */
    FORM_ALIGNED = 8,     /* memory operand to 16 bytes */
    FORM_DEFAULT_64 = 16, /* 64 bits without REX.W */
    FORM_REPEAT = 32,
    FORM_VECTOR = 64,   /* no 66 or 67 on top */
    FORM_RARE = 128,    /* faults always: costs a signal */
    FORM_NO_LOCK = 256, /* what LOCK does to it is not tried */
};

/* What is undefined (Intel SDM 2, of each instruction: "Flags Affected"). */
enum form_undefined {
    UNDEFINED_NONE,
    UNDEFINED_AF,
    UNDEFINED_MUL,          /* SF ZF AF PF */
    UNDEFINED_DIV,          /* all six */
    UNDEFINED_SHIFT,        /* by the count: AF, OF, CF */
    UNDEFINED_ROTATE,       /* by the count: OF */
    UNDEFINED_DOUBLE_SHIFT, /* by the count: everything */
    UNDEFINED_BIT,          /* OF SF AF PF */
    UNDEFINED_SCAN,         /* all but ZF; the register, of 0 */
    UNDEFINED_COUNT,        /* OF SF PF AF */
    UNDEFINED_LOGIC,        /* AF PF */
    UNDEFINED_EXTRACT,      /* AF SF PF */
};

/* Operands that are not just random. */
enum form_special {
    SPECIAL_NONE,
    SPECIAL_STACK,         /* RSP leads to memory */
    SPECIAL_POP_FLAGS,     /* no TF in them */
    SPECIAL_RETURN,        /* to where a return is caught */
    SPECIAL_ENTER,         /* RBP, too */
    SPECIAL_BRANCH,        /* relative, to where it is caught */
    SPECIAL_LOOP,          /* RCX is often small */
    SPECIAL_INDIRECT,      /* a branch by register or memory */
    SPECIAL_INDIRECT_CALL, /* and RSP leads to memory */
    SPECIAL_STRING,        /* RSI and RDI lead to memory */
    SPECIAL_BIT,           /* by a register: how far from the operand is limited */
    SPECIAL_TABLE,         /* RBX leads to memory */
    SPECIAL_DIVIDE,        /* often without overflow */
    SPECIAL_COMPARE,       /* the accumulator is often equal to the destination */
    SPECIAL_COMPARE_PAIR,
    SPECIAL_MXCSR, /* often without reserved bits */
    SPECIAL_FXRSTOR,
    SPECIAL_LENGTHS, /* RAX and RDX are often small */
    SPECIAL_XSAVE,
    SPECIAL_XRSTOR,
    SPECIAL_SELECTOR,  /* one that means the same on the host */
    SPECIAL_INTERRUPT, /* vectors that no process may call */
};

enum form_feature {
    FEATURE_BASE,
    FEATURE_POPCNT,
    FEATURE_LZCNT,
    FEATURE_BMI1,
    FEATURE_BMI2,
    FEATURE_MOVBE,
    FEATURE_FSGSBASE,
    FEATURE_ADX,
    FEATURE_CLFLUSH,
    FEATURE_SSE3,
    FEATURE_SSE4, /* and SSE3, SSSE3 */
    FEATURE_XSAVE,
    FEATURE_XSAVEOPT,
    FEATURE_COUNT,
};

struct form {
    const char *name;
    uint32_t opcode;   /* 0f.., 0f38.. with their escapes; of VEX: map << 8 | opcode */
    uint8_t mandatory; /* 66, f2, f3, or 0 */
    uint8_t digit;
    uint8_t encoding, sizes, immediate, undefined, special, feature, group;
    uint16_t flags;
};

extern const struct form forms[];
extern const size_t forms_count;

const char *form_group_name(enum form_group group);

#endif
