/*
 * x86/x86.h - a software vCPU: an interpreter of x86 code in real, protected and 64-bit mode whose every fetch,
 * load and store goes through guestmem/mmu.h.
 *
 *     struct x86_vcpu *vcpu;
 *
 *     x86_vcpu_new(gm_soft_vcpu_mmu(...), allocator, &vcpu);   // as after RESET
 *     vcpu->... = ...;                                          // registers are plain fields
 *     x86_state_changed(vcpu);                                  // after changing any from outside
 *     while ((exit = x86_run(vcpu, UINT64_MAX)) == X86_EXIT_IO) {
 *         answer vcpu->io;
 *     }
 *
 * Fields are as KVM's structures have them (struct kvm_regs, kvm_sregs, kvm_fpu, kvm_vcpu_events, kvm_debugregs),
 * so that those are copies. An exit changes nothing of the instruction that made it but what is said at each; IO and
 * MMIO are completed by the next x86_run().
 *
 * The vCPU's thread alone uses it; gm_mmu_kick() makes x86_run() return X86_EXIT_INTR, from any thread.
 */
#ifndef X86_X86_H
#define X86_X86_H

#include <guestmem/mmu.h>

/* Numbers of registers, as in instructions. */
enum {
    X86_RAX,
    X86_RCX,
    X86_RDX,
    X86_RBX,
    X86_RSP,
    X86_RBP,
    X86_RSI,
    X86_RDI,
    X86_R8,
    X86_R15 = 15,
    X86_GPR_BLOCK, /* private: rip of the block under way, for RIP-relative addresses */
    X86_GPR_ZERO,  /* private: 0, where an address has no base or no index */
    X86_GPR_SLOTS,
};

enum x86_segment_number {
    X86_ES,
    X86_CS,
    X86_SS,
    X86_DS,
    X86_FS,
    X86_GS,
    X86_SEGMENTS,
};

/* A segment register with its hidden part, as struct kvm_segment. */
struct x86_segment {
    uint64_t base;
    uint32_t limit; /* in bytes, granularity applied */
    uint16_t selector;
    uint8_t type; /* the descriptor's four bits (Intel SDM 3A, 3.4.5.1 and 3.5) */
    uint8_t present, dpl, db, s, l, g, avl;
    uint8_t unusable; /* loaded with a null selector */
    /* Private, by x86_state_changed(): which offsets may be used, and how. */
    uint8_t can_read, can_write;
    uint64_t first, last;
};

/* GDTR, IDTR. */
struct x86_table {
    uint64_t base;
    uint16_t limit;
};

union x86_xmm {
    uint8_t u8[16];
    uint16_t u16[8];
    uint32_t u32[4];
    uint64_t u64[2];
    int32_t i32[4];
    float f32[4];
    double f64[2];
};

/* x87: kept, saved and restored; its instructions are not there, but FNINIT and what is said in exec_fpu.c. */
struct x86_fpu {
    uint8_t st[8][16]; /* as FXSAVE has them */
    uint16_t fcw, fsw;
    uint8_t ftw; /* abridged */
    uint16_t last_opcode;
    uint64_t last_ip, last_dp;
};

struct x86_cpuid_entry {
    uint32_t function, index;
    bool is_indexed; /* @index counts: KVM_CPUID_FLAG_SIGNIFCANT_INDEX */
    uint32_t eax, ebx, ecx, edx;
};

/* MSRs that are kept but mean nothing to the interpreter beyond their value. */
struct x86_msrs {
    uint64_t efer, star, lstar, cstar, syscall_mask, kernel_gs_base;
    uint64_t sysenter_cs, sysenter_esp, sysenter_eip;
    uint64_t apic_base, pat, misc_enable, mtrr_def_type, tsc_aux;
    uint64_t mtrr_fixed[11], mtrr_variable[16];
    uint64_t tsc_offset; /* the guest's time-stamp counter less the host's */
};

enum x86_event_kind {
    X86_EVENT_NONE,
    X86_EVENT_EXCEPTION, /* a fault: rip is the instruction's, or a trap: rip is the next one's */
    X86_EVENT_INTERRUPT, /* from outside */
    X86_EVENT_NMI,
    X86_EVENT_SOFTWARE, /* INT n, INT3, INTO, INT1: rip is the instruction's own */
};

/* An exception or interrupt that is to be delivered before the next instruction. */
struct x86_event {
    enum x86_event_kind kind;
    uint8_t vector;
    uint8_t length; /* SOFTWARE: of the instruction */
    bool has_error_code;
    bool is_privileged; /* SOFTWARE: INT1, whose gate's DPL does not count */
    uint32_t error_code;
};

enum x86_mp_state {
    X86_RUNNABLE,
    X86_HALTED,
    X86_WAIT_FOR_SIPI,
};

enum x86_exit {
    X86_EXIT_BUDGET, /* as many instructions as were allowed */
    X86_EXIT_INTR,   /* gm_mmu_kick() */
    X86_EXIT_IO,     /* vcpu->io */
    X86_EXIT_MMIO,   /* gm_mmu_exit(): answer it; x86_run() resumes it */
    X86_EXIT_HLT, /* rip is behind it; mp_state X86_HALTED: no instruction runs until an event comes */
    X86_EXIT_SHUTDOWN, /* triple fault */
    X86_EXIT_EMULATION, /* an instruction that is not there: vcpu->bytes; KVM_INTERNAL_ERROR_EMULATION */
    X86_EXIT_IRQ_WINDOW, /* request_irq_window is set, and x86_can_interrupt() */
    X86_EXIT_RING_FULL,  /* GM_MMU_RING_FULL */
    X86_EXIT_DENIED,     /* GM_MMU_DENIED: gm_mmu_exit(); KVM_EXIT_MEMORY_FAULT */
    X86_EXIT_ERROR,      /* GM_MMU_ERROR: vcpu->error, as KVM_RUN would return it */
    X86_EXIT_DEBUG,      /* guest_debug_step: one instruction was run */
};

/* X86_EXIT_IO. One element: strings come out one by one. */
struct x86_io {
    uint16_t port;
    uint8_t size_bytes; /* 1, 2, 4 */
    bool is_in;
    uint32_t count; /* 1 */
    uint32_t data;  /* written; or, filled in by the answer, read */
};

/* Accesses of the present instruction that the VMM has answered; it is run again, and finds them here. */
#define X86_ANSWERS_MAX 64
enum x86_answer_kind {
    X86_ANSWER_LOAD,
    X86_ANSWER_STORE,
    X86_ANSWER_IN,
    X86_ANSWER_OUT,
};
struct x86_answer {
    enum x86_answer_kind kind;
    uint8_t size_bytes;
    uint64_t address; /* linear, or a port */
    uint64_t value;
};

struct x86_vcpu;

/* What is the caller's: MSRs that are not in struct x86_msrs. May be NULL: #GP. Return: known? */
struct x86_hooks {
    bool (*read_msr)(void *opaque, uint32_t number, uint64_t *value);
    bool (*write_msr)(void *opaque, uint32_t number, uint64_t value);
    void *opaque;
};

struct x86_blocks;

struct x86_vcpu {
    uint64_t gpr[X86_GPR_SLOTS];
    uint64_t rip;
    /* Without CF, PF, AF, ZF, SF, OF, which are in zero, sign and carries: x86_get_rflags(). */
    uint64_t rflags;
    /* Private, x86/flags.h: the arithmetic flags, as they come out of an instruction. */
    uint64_t flag_zero, flag_sign, flag_carries;

    /* Private: the run under way. */
    struct gm_mmu *mmu;
    const void *block_end; /* instruction at which the block ends; NULL: after the present one */
    uintptr_t code_page;   /* host page of the block under way */
    uint64_t stack_mask;
    uint64_t code_mask; /* of rip */
    uint8_t mode;       /* enum x86_mode */
    uint8_t cpl;
    uint8_t data_view; /* enum gm_mmu_view of explicit data accesses */
    uint8_t fetch_view;
    bool has_sse;         /* CR4.OSFXSR, not CR0.EM */
    bool is_paging_stale; /* the mmu does not know yet of cr0, cr3, cr4, efer */

    struct x86_segment segment[X86_SEGMENTS], ldt, tr;
    struct x86_table gdt, idt;
    uint64_t cr0, cr2, cr3, cr4, cr8, xcr0;
    uint32_t pkru;
    uint64_t dr[8]; /* 4 and 5 are not used */
    struct x86_msrs msr;
    union x86_xmm xmm[16];
    uint32_t mxcsr;
    struct x86_fpu fpu;

    struct x86_event event;
    bool is_nmi_pending, is_nmi_blocked;
    bool is_shadowed; /* by STI, MOV SS, POP SS: no interrupt before the next instruction is done */
    bool is_ss_shadow; /* ... of the latter kind, which holds #DB and NMI back as well */
    enum x86_mp_state mp_state;
    bool request_irq_window;
    bool guest_debug_step;

    const struct x86_cpuid_entry *cpuid; /* borrowed */
    size_t cpuid_count;
    struct x86_hooks hooks;

    struct x86_io io;
    uint8_t bytes[15]; /* EMULATION: as many as could be fetched */
    uint8_t byte_count;
    int error;
    uint64_t instructions; /* that were completed, since it was made */

    /* Private: what the present instruction has come to. */
    struct x86_event fault;      /* STEP_FAULT */
    enum gm_mmu_outcome outcome; /* STEP_OUTCOME: guest mode has been left */
    enum x86_exit exit;          /* STEP_EXIT */
    struct x86_answer answers[X86_ANSWERS_MAX];
    uint8_t answer_count, answer_next;
    bool is_out;            /* of guest mode: a page fault left it */
    bool is_access_pending; /* answers[answer_count] is being answered */
    struct x86_blocks *blocks;
    struct gm_allocator allocator;
};

/*
 * Make a vCPU in the state after RESET (Intel SDM 3A, 10.1.1): real mode, about to run from f000:fff0.
 * @mmu: borrowed; its linear side is the vCPU's from here on.
 * Return: 0; -ENOMEM.
 */
GM_MUST_CHECK int x86_vcpu_new(struct gm_mmu *mmu, const struct gm_allocator *allocator,
                               struct x86_vcpu **vcpu);
/* Context: not in x86_run(). NULL is allowed. */
void x86_vcpu_free(struct x86_vcpu *vcpu);
/* INIT (keeps caches' and FPU's state and most MSRs), or RESET. */
void x86_vcpu_reset(struct x86_vcpu *vcpu);

/* Registers, segments or control registers have been changed from outside: what is derived from them is
 * made anew. */
void x86_state_changed(struct x86_vcpu *vcpu);

/* RFLAGS as a whole; set needs no x86_state_changed(). */
uint64_t x86_get_rflags(const struct x86_vcpu *vcpu);
void x86_set_rflags(struct x86_vcpu *vcpu, uint64_t rflags);

/*
 * Run until an exit.
 * @budget: instructions at most, about: it is looked at between blocks.
 * Context: the vCPU's thread, out of guest mode, where it is again afterwards.
 */
enum x86_exit x86_run(struct x86_vcpu *vcpu, uint64_t budget);

/* May an interrupt be delivered before the next instruction: IF, no shadow, no event waiting? */
bool x86_can_interrupt(const struct x86_vcpu *vcpu);
/* Deliver one before the next instruction; x86_can_interrupt() holds. As KVM_INTERRUPT. */
void x86_interrupt(struct x86_vcpu *vcpu, uint8_t vector);
void x86_nmi(struct x86_vcpu *vcpu);

#endif
