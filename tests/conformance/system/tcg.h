/*
 * conformance/system/tcg.h - where QEMU's processor is not as the manual has it, or the manual leaves it open. Some of
 * it can be seen in the answer, and is forgiven there; after some of it nothing is as it would be, and cases that come
 * to it are not sent. Each is counted; whatever else differs fails the test.
 */
#ifndef CONFORMANCE_SYSTEM_TCG_H
#define CONFORMANCE_SYSTEM_TCG_H

#include "vcpu.h"

enum tcg_difference {
    /* Forgiven. */
    TCG_RESUME_FLAG,
    TCG_EXTERNAL_BIT,
    TCG_GATE_CODE,
    TCG_SYSENTER_D,
    TCG_PDPTE_ACCESSED,
    TCG_SYSCALL_FLAGS,
    TCG_MODIFY_CODE,
    TCG_LAR_LIMIT,
    TCG_CODE_ACCESSED,
    TCG_DROPPED_BASE,
    TCG_NULL_KEPT,
    TCG_BREAKPOINT_BITS,
    TCG_DESCRIPTOR_CR2,
    /* Not sent. */
    TCG_LIMITS,
    TCG_SYSCALL_LEGACY,
    TCG_EFER,
    TCG_IRET_VIRTUAL,
    TCG_CR_ORDER,
    TCG_CR_RESERVED,
    TCG_CANONICAL,
    TCG_INT1,
    TCG_FAR_POINTER,
    TCG_VIRTUAL_INTERRUPT,
    TCG_VIRTUAL_GATE,
    TCG_IST_STACK,
    TCG_LTR_NULL,
    TCG_SYSENTER_NULL,
    TCG_PDPTE_CHECK,
    TCG_RDPMC,
    TCG_DR_RESERVED,
    TCG_MSR_CANONICAL,
    TCG_NULL_STACK,
    TCG_CR0_CHECK,
    TCG_PUSH_SEGMENT,
    TCG_LOCK,
    TCG_STI_TRAP,
    TCG_BRANCH_16,
    TCG_FAR_STACK,
    TCG_STRAY,
    TCG_EMMS,
    TCG_POPA,
    TCG_BOTH_SIZES,
    TCG_DEBUG_GD,
    TCG_MSR_UNKNOWN,
    TCG_MSR_TYPES,
    TCG_SYSENTER_WIDTH,
    TCG_STACK_CANONICAL,
    TCG_CALL_ORDER,
    TCG_CR0_RESERVED,
    TCG_BREAKPOINT_READ,
    TCG_SYSCALL_PUSHED,
    TCG_SSE_ORDER,
    TCG_WRAP,
    TCG_SYSEXIT_HALVES,
    TCG_LSS_SHADOW,
    TCG_ENTER_END,
    TCG_PREFIX_BASE,
    TCG_GROUPS,
    TCG_TABLE_CANONICAL,
    TCG_MSR_AUX,
    TCG_ROOT_OUTSIDE,
    TCG_DIFFERENCE_COUNT,
};

extern const char *const tcg_reasons[TCG_DIFFERENCE_COUNT];

/* Are they equal, but for what is known? @plain: the arena without a case. */
bool tcg_agrees(const uint8_t plain[SYSTEM_ARENA_BYTES], const struct system_case *test,
                const struct system_answer *expected, const struct system_answer *got,
                uint64_t counts[TCG_DIFFERENCE_COUNT]);

/* Will QEMU's processor do the next instruction otherwise, with all that follows? *what says why. */
bool tcg_differs(const struct vcpu *vcpu, enum tcg_difference *what);

#endif
