/* conformance/system/tcg.c - what is known of QEMU's processor, and what of it an answer shows. */
#include "tcg.h"

#include "arena.h"

#define FLAG_ONE 0x2u
#define FLAG_RF 0x10000u
#define FLAGS_NEVER 0xffc08028u
#define FLAGS_STATUS UINT64_C(0xcd5) /* and DF */
#define SEGMENT_PRESENT 0x80u
#define SEGMENT_DPL 0x60u
#define DR6_BREAKPOINTS UINT64_C(15)
#define DR7_GD UINT64_C(0x2000)
#define SEGMENT_ACCESSED 1u
#define SEGMENT_L 0x2000u
#define SEGMENT_D 0x4000u
#define TSS_BUSY 2u
#define EFER_LMA UINT64_C(0x400)
#define DESCRIPTOR_IS_CODE 0x1800u
#define DESCRIPTOR_ACCESSED 0x100u
#define DESCRIPTOR_ACCESS 5u /* its byte of the type */
#define LAR_RESULT UINT32_C(0xffff00)
#define LAR_LIMIT UINT64_C(0xf0000)
#define ERROR_IDT 2u
#define PF_WRITE 2u

const char *const tcg_reasons[TCG_DIFFERENCE_COUNT] = {
    [TCG_RESUME_FLAG] = "the flags that a fault pushes lack RF (SDM 3B, 17.3.1.1)",
    [TCG_EXTERNAL_BIT] = "error codes of faults during delivery lack EXT (SDM 3A, 6.13)",
    [TCG_GATE_CODE] =
        "error codes of gates in long mode count 16 bytes a gate, not 8 (SDM 3A, 6.13)",
    [TCG_SYSENTER_D] = "SYSENTER in long mode sets CS.D beside CS.L (SDM 2B, SYSENTER)",
    [TCG_PDPTE_ACCESSED] = "PDPTEs of PAE get an accessed flag in memory (SDM 3A, 4.4.1)",
    [TCG_SYSCALL_FLAGS] =
        "SYSCALL clears the arithmetic flags, whatever IA32_FMASK says (SDM 2B, SYSCALL)",
    [TCG_MODIFY_CODE] = "the page fault of an instruction that reads, then writes, is a read's "
                        "(SDM 3A, 4.7)",
    [TCG_LAR_LIMIT] = "LAR clears bits 19 to 16, which are undefined (SDM 2A, LAR)",
    [TCG_CODE_ACCESSED] =
        "loading CS does not set the descriptor's accessed flag (SDM 3A, 3.4.5.1)",
    [TCG_DROPPED_BASE] =
        "FS and GS that a return outwards makes null keep their bases (not in the SDM)",
    [TCG_NULL_KEPT] =
        "null selectors of FS and GS keep their RPL at returns outwards (SDM 2A, IRET)",
    [TCG_BREAKPOINT_BITS] =
        "DR6 says which breakpoints were met, though none is switched on (SDM 3B, 17.2.3: may be)",
    [TCG_LIMITS] = "limits and types of segments are not checked by loads, stores and jumps (SDM "
                   "3A, 5.3, 5.4); not sent",
    [TCG_SYSCALL_LEGACY] =
        "SYSCALL outside of 64-bit code works, as AMD has it (SDM 2B, SYSCALL: #UD); not sent",
    [TCG_EFER] =
        "EFER takes reserved bits, and LME while paging is on (SDM 3A, 2.2.1, 9.8.5); not sent",
    [TCG_IRET_VIRTUAL] =
        "IRET goes to virtual-8086 mode from any ring, and in long mode (SDM 2A, IRET); not sent",
    [TCG_CR_ORDER] = "outside of ring 0 some instructions are #GP before they are #UD: registers "
                     "that there are not, XSETBV without CR4.OSXSAVE (SDM "
                     "2B, MOV); not sent",
    [TCG_CR_RESERVED] =
        "reserved bits of CR3 and CR4 lose the machine (SDM 3A, 2.5: #GP); not sent",
    [TCG_CANONICAL] = "a near branch to an address that is not canonical faults after it, not "
                      "before (SDM 2, each: #GP); not sent",
    [TCG_INT1] = "INT1 is not there (SDM 2A, INT1); not sent",
    [TCG_FAR_POINTER] =
        "LSS, LFS and LGS with REX.W load 32 bits of offset, as AMD has it (SDM 2A, LDS); not sent",
    [TCG_VIRTUAL_INTERRUPT] = "IRET in ring 0 does not load VIF and VIP (SDM 2A, IRET); not sent",
    [TCG_VIRTUAL_GATE] =
        "gates lead from virtual-8086 mode to rings 1 and 2 (SDM 2A, INT: #GP); not sent",
    [TCG_IST_STACK] =
        "a stack by IST makes SS null without a change of rings (SDM 3A, 6.14.4); not sent",
    [TCG_LTR_NULL] = "LTR takes a null selector (SDM 2A, LTR: #GP); not sent",
    [TCG_SYSENTER_NULL] =
        "SYSENTER and SYSEXIT take a null selector that is not 0 (SDM 2B, SYSENTER: #GP); not sent",
    [TCG_PDPTE_CHECK] = "PDPTEs' reserved bits are found when they are used, not when they are "
                        "loaded (SDM 3A, 4.4.1); not sent",
    [TCG_RDPMC] = "RDPMC is not there (SDM 2B, RDPMC); not sent",
    [TCG_DR_RESERVED] = "reserved bits of DR6 and DR7 are kept (SDM 3B, 17.2); not sent",
    [TCG_NULL_STACK] = "returns in long mode take a null SS for 32-bit code, and of any RPL (SDM "
                       "2A, IRET: #GP); not sent",
    [TCG_CR0_CHECK] =
        "CR0 takes combinations that are #GP (SDM 2B, MOV to control registers); not sent",
    [TCG_PUSH_SEGMENT] = "PUSH of a segment register by 32 bits writes 4 bytes, as older "
                         "processors did (SDM 2B, PUSH); not sent",
    [TCG_STACK_CANONICAL] =
        "a stack address that is not canonical is #GP, not #SS (SDM 3A, 6.15); not sent",
    [TCG_DEBUG_GD] = "DR7.GD is not there (SDM 3B, 17.2.4); not sent",
    [TCG_MSR_UNKNOWN] =
        "MSRs that there are not are read as 0, and written (SDM 2B, RDMSR: #GP); not sent",
    [TCG_SYSENTER_WIDTH] = "IA32_SYSENTER_CS has 16 bits (SDM 4: 32); not sent",
    [TCG_STI_TRAP] =
        "the trap of a single step comes one instruction later after STI (SDM 3A, 6.8.3); not sent",
    [TCG_BRANCH_16] =
        "near branches in 64-bit code heed the prefix 66, as AMD has it (SDM 2A, CALL); not sent",
    [TCG_FAR_STACK] = "far calls and returns of ring 3 reach their stack as a supervisor does (SDM "
                      "3A, 4.6); not sent",
    [TCG_STRAY] = "what was pushed is run as code, RF and all; not sent",
    [TCG_EMMS] = "EMMS does not heed CR0.EM and CR0.TS (SDM 2A, EMMS); not sent",
    [TCG_POPA] = "PUSHA and POPA may fault at the other end, and then have done a part (SDM 2B, "
                 "PUSHA); not sent",
    [TCG_BOTH_SIZES] =
        "far transfers take a code segment with L and D (SDM 2A, JMP: #GP); not sent",
    [TCG_LOCK] = "LOCK is allowed with NOP (SDM 2A, LOCK: #UD); not sent",
    [TCG_CALL_ORDER] = "a far call pushes before it looks at the limit (SDM 2A, CALL); not sent",
    [TCG_MSR_TYPES] =
        "MTRRs and PAT take memory types that there are not, and reserved bits (SDM 3A, 11.11.2, "
        "11.12.2: #GP); not sent",
    [TCG_CR0_RESERVED] =
        "reserved bits of CR0 are kept, and read, not ignored (SDM 3A, 2.5); not sent",
    [TCG_SYSCALL_PUSHED] =
        "the arithmetic flags that SYSCALL has cleared are pushed, or used (SDM 2B, "
        "SYSCALL); not sent",
    [TCG_LSS_SHADOW] =
        "LSS holds traps and interrupts back, as MOV to SS does (SDM 3A, 6.8.3); not sent",
    [TCG_ENTER_END] =
        "ENTER does not look whether the new stack's end can be written (SDM 2A, ENTER); not sent",
    [TCG_DESCRIPTOR_CR2] = "the page fault of setting a descriptor's accessed flag names its upper "
                           "half, not its byte (not in the SDM)",
    [TCG_SSE_ORDER] =
        "SSE that is #UD by CR0.EM or CR4.OSFXSR is #NM by CR0.TS (SDM 3A, 2.5); not sent",
    [TCG_WRAP] = "16-bit code goes on at 0 behind FFFF, wherever its segment ends (not in the "
                 "SDM); not sent",
    [TCG_SYSEXIT_HALVES] =
        "SYSEXIT to 32-bit code keeps the upper half of RSP (SDM 2B, SYSEXIT); not sent",
    [TCG_PREFIX_BASE] =
        "64-bit code that names ES, CS, SS or DS uses its base (SDM 3A, 3.4.4); not sent",
    [TCG_GROUPS] = "C6, C7 and 8F of any /digit are those of /0 (SDM 2D, A.4: #UD); not sent",
    [TCG_TABLE_CANONICAL] =
        "LGDT and LIDT take a base that is not canonical (SDM 3A, 3.3.7.1: #GP); not sent",
    [TCG_MSR_AUX] = "IA32_TSC_AUX takes reserved bits, and loses them (SDM 4: #GP); not sent",
    [TCG_BREAKPOINT_READ] = "DR6 is read after a single step, which clears there what is said of "
                            "breakpoints (SDM 3B, 17.2.3: may be); not sent",
    [TCG_ROOT_OUTSIDE] = "page tables begin beyond the arena, in the test's own memory; not sent",
    [TCG_MSR_CANONICAL] =
        "MSRs take addresses that are not canonical (SDM 2B, WRMSR: #GP); not sent",
};

/* What a null selector leaves behind in the hidden part cannot be seen; base of FS and GS can. */
static void forget_hidden(struct system_segment *segment, unsigned number, bool is_long)
{
    bool may_be_null = number == SYSTEM_LDT || (number != SYSTEM_TR && is_long);

    if ((segment->attributes & SEGMENT_PRESENT) == 0 ||
        (may_be_null && (segment->selector & 0xfffc) == 0)) {
        segment->limit = 0;
        segment->base = number == SYSTEM_FS || number == SYSTEM_GS ? segment->base : 0;
        segment->attributes &= number == SYSTEM_SS ? SEGMENT_DPL : 0;
    }
}

static void forget_invisible(struct system_state *state)
{
    for (unsigned i = 0; i < SYSTEM_SEGMENTS; i++) {
        forget_hidden(&state->segment[i], i, (state->efer & EFER_LMA) != 0);
    }
    state->segment[SYSTEM_TR].attributes |= TSS_BUSY; /* see give_segment() of the guest program */
    state->cr2 = (uint32_t)state->cr2;                /* all that the guest program can read */
    for (unsigned i = 0; i < 4; i++) {
        state->dr[i] = (uint32_t)state->dr[i];
    }
}

/* The word that holds an offset, at the end of a case. */
static uint32_t word_at(const struct system_case *test, const struct system_answer *answer,
                        const uint8_t plain[SYSTEM_ARENA_BYTES], uint32_t offset)
{
    uint32_t value;

    memcpy(&value, plain + offset, 4);
    for (uint32_t i = 0; i < test->patch_count; i++) {
        value = test->patches[i].offset == offset ? test->patches[i].value : value;
    }
    for (uint32_t i = 0; i < answer->change_count && i < SYSTEM_CHANGES_MAX; i++) {
        value = answer->changes[i].offset == offset ? answer->changes[i].value : value;
    }
    return value;
}

/* A word of which the stack's alignment moves the bits: is it but this one, in any byte, that theirs lacks? */
static bool lacks(uint32_t ours, uint32_t theirs, uint32_t bit)
{
    uint32_t differing = ours ^ theirs;

    return (differing & ours) == differing && (differing == bit || differing == bit << 8 ||
                                               differing == bit << 16 || differing == bit << 24);
}

/* A word that was pushed, or a descriptor: which difference explains it? */
static enum tcg_difference explain_word(uint32_t offset, uint32_t ours, uint32_t theirs)
{
    if (ours != theirs && lacks(ours, theirs, FLAG_RF >> 16)) {
        return (ours ^ theirs) == FLAG_RF && (theirs & (FLAG_ONE | FLAGS_NEVER)) == FLAG_ONE
                   ? TCG_RESUME_FLAG
                   : TCG_EXTERNAL_BIT;
    }
    if (ours != theirs && lacks(ours, theirs, PF_WRITE)) {
        return TCG_MODIFY_CODE;
    }
    if ((ours ^ theirs) == DESCRIPTOR_ACCESSED && offset >= ARENA_GDT &&
        offset < ARENA_LDT + ARENA_LDT_LIMIT &&
        (theirs & DESCRIPTOR_IS_CODE) == DESCRIPTOR_IS_CODE) {
        return TCG_CODE_ACCESSED;
    }
    if ((ours ^ theirs) == LAR_LIMIT && (ours & ~LAR_RESULT) == 0) {
        return TCG_LAR_LIMIT;
    }
    if ((ours & ERROR_IDT) != 0 && (ours >> 3) * 16 + ERROR_IDT == theirs) {
        return TCG_GATE_CODE;
    }
    return TCG_DIFFERENCE_COUNT;
}

/* Make each word of theirs that a difference explains ours. */
static void forgive_words(const uint8_t plain[SYSTEM_ARENA_BYTES], const struct system_case *test,
                          const struct system_answer *ours, struct system_answer *theirs,
                          unsigned found[TCG_DIFFERENCE_COUNT])
{
    struct system_answer forgiven = {.end = theirs->end, .state = theirs->state};
    uint32_t next = 0;

    for (uint32_t i = 0; i < ours->change_count; i++) {
        uint32_t offset = ours->changes[i].offset;
        uint32_t value = word_at(test, theirs, plain, offset);
        enum tcg_difference what = explain_word(offset, ours->changes[i].value, value);

        if (next < theirs->change_count && theirs->changes[next].offset < offset) {
            return; /* one that ours has not: nothing is forgiven */
        }
        next += next < theirs->change_count && theirs->changes[next].offset == offset;
        found[what < TCG_DIFFERENCE_COUNT ? what : 0] |= what < TCG_DIFFERENCE_COUNT;
        value = what < TCG_DIFFERENCE_COUNT ? ours->changes[i].value : value;
        forgiven.changes[forgiven.change_count++] = (struct system_word){offset, value};
    }
    if (next == theirs->change_count) {
        *theirs = forgiven;
    }
}

/* A change that only they have, of this bit. */
static void forgive_accessed(const struct system_answer *ours, struct system_answer *theirs,
                             unsigned found[TCG_DIFFERENCE_COUNT])
{
    for (uint32_t i = 0; i < theirs->change_count && i < SYSTEM_CHANGES_MAX; i++) {
        bool is_ours =
            i < ours->change_count && ours->changes[i].offset == theirs->changes[i].offset;

        if (!is_ours && theirs->changes[i].offset == ARENA_PAE_PDPT &&
            theirs->changes[i].value == (ARENA_PD | 0x21)) {
            memmove(&theirs->changes[i], &theirs->changes[i + 1],
                    (SYSTEM_CHANGES_MAX - 1 - i) * sizeof(theirs->changes[0]));
            theirs->change_count--;
            found[TCG_PDPTE_ACCESSED] = 1;
            return;
        }
    }
}

static void forgive_registers(const struct system_answer *ours, struct system_answer *theirs,
                              unsigned found[TCG_DIFFERENCE_COUNT])
{
    struct system_segment *code = &theirs->state.segment[SYSTEM_CS];
    uint64_t flags = ours->state.rflags ^ theirs->state.rflags;
    uint64_t syscall_end = ARENA_HANDLERS + ARENA_HANDLER_BYTES * 0x60 + 2;

    if ((ours->state.dr6 | DR6_BREAKPOINTS) == (theirs->state.dr6 | DR6_BREAKPOINTS) &&
        ours->state.dr6 != theirs->state.dr6) {
        theirs->state.dr6 = ours->state.dr6;
        found[TCG_BREAKPOINT_BITS] = 1;
    }
    if ((ours->state.dr7 ^ theirs->state.dr7) == DR7_GD && (ours->state.dr7 & DR7_GD) == 0) {
        theirs->state.dr7 = ours->state.dr7;
        found[TCG_DEBUG_GD] = 1;
    }
    if ((code->attributes ^ ours->state.segment[SYSTEM_CS].attributes) == SEGMENT_ACCESSED) {
        code->attributes |= SEGMENT_ACCESSED;
        found[TCG_CODE_ACCESSED] = 1;
    }
    if ((code->attributes ^ ours->state.segment[SYSTEM_CS].attributes) == SEGMENT_D &&
        (code->attributes & SEGMENT_L) != 0) {
        code->attributes &= (uint16_t)~SEGMENT_D;
        found[TCG_SYSENTER_D] = 1;
    }
    for (unsigned i = SYSTEM_FS; i <= SYSTEM_GS; i++) {
        const struct system_segment *dropped = &ours->state.segment[i];
        struct system_segment *kept = &theirs->state.segment[i];

        if (dropped->selector == 0 && kept->selector < 4 && kept->selector != 0) {
            kept->selector = 0;
            found[TCG_NULL_KEPT] = 1;
        }
        if ((dropped->attributes | dropped->selector | kept->selector) == 0 &&
            kept->attributes != 0) {
            *kept = *dropped;
            found[TCG_NULL_KEPT] = 1;
        }
        if ((dropped->attributes | kept->attributes | dropped->selector | kept->selector) == 0 &&
            dropped->base == 0 && kept->base != 0) {
            kept->base = 0;
            found[TCG_DROPPED_BASE] = 1;
        }
    }
    if (ours->state.cr2 == theirs->state.cr2 + 1 && (ours->state.cr2 & 7) == DESCRIPTOR_ACCESS) {
        theirs->state.cr2 = ours->state.cr2;
        found[TCG_DESCRIPTOR_CR2] = 1;
    }
    if ((ours->state.gpr[3] ^ theirs->state.gpr[3]) == LAR_LIMIT) {
        theirs->state.gpr[3] = ours->state.gpr[3];
        found[TCG_LAR_LIMIT] = 1;
    }
    if (flags != 0 && (flags & ~FLAGS_STATUS) == 0 && (theirs->state.rflags & FLAGS_STATUS) == 0 &&
        theirs->state.rip == syscall_end) {
        theirs->state.rflags = ours->state.rflags;
        found[TCG_SYSCALL_FLAGS] = 1;
    }
}

static bool is_equal(const struct system_answer *expected, const struct system_answer *got)
{
    return expected->end == got->end && expected->change_count == got->change_count &&
           memcmp(expected->changes, got->changes,
                  expected->change_count * sizeof(expected->changes[0])) == 0 &&
           memcmp(&expected->state, &got->state, sizeof(expected->state)) == 0;
}

bool tcg_agrees(const uint8_t plain[SYSTEM_ARENA_BYTES], const struct system_case *test,
                const struct system_answer *expected, const struct system_answer *got,
                uint64_t counts[TCG_DIFFERENCE_COUNT])
{
    struct system_answer ours = *expected;
    struct system_answer theirs = *got;
    unsigned found[TCG_DIFFERENCE_COUNT] = {0};

    forget_invisible(&ours.state);
    forget_invisible(&theirs.state);
    forgive_accessed(&ours, &theirs, found);
    forgive_words(plain, test, &ours, &theirs, found);
    forgive_registers(&ours, &theirs, found);
    if (ours.end == SYSTEM_END_SHUTDOWN) { /* the state is lost */
        theirs.state = ours.state;
    }
    if (!is_equal(&ours, &theirs)) {
        return false;
    }
    for (unsigned i = 0; i < TCG_DIFFERENCE_COUNT; i++) {
        counts[i] += found[i];
    }
    return true;
}
