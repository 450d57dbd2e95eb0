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

/* x87. Its pointers are offsets: selectors are not kept (CPUID.(7,0):EBX[13] says so). */
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
    uint64_t apic_base, pat, misc_enable, mtrr_def_type, tsc_aux, power_ctl;
    uint64_t mtrr_fixed[11], mtrr_variable[16];
    uint64_t microcode;  /* IA32_BIOS_SIGN_ID */
    uint64_t tsc_offset; /* the guest's time-stamp counter less the host's */
    uint64_t tsc_adjust; /* what of it is the guest's doing: IA32_TSC_ADJUST */
};

/* Bits that are there: SCE, LME, LMA, NXE; of CR0 all. */
#define X86_EFER_KNOWN UINT64_C(0xd01)
#define X86_CR0_KNOWN UINT64_C(0xe005003f)
/* DR6: a single step. */
#define X86_DR6_BS UINT64_C(0x4000)

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
    X86_WAIT_FOR_SIPI, /* after INIT */
    X86_UNINITIALIZED, /* before it: an application processor after RESET */
};

enum x86_exit {
    X86_EXIT_BUDGET, /* as many instructions, and elements of strings, as were allowed */
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
    X86_EXIT_DEBUG, /* the VMM's: exit_vector 1: a step, a breakpoint of host_dr or its DR7.GD: exit_dr6; 3: takes_int3 */
    X86_EXIT_MSR,   /* vcpu->msr_access, for which hooks.asks_msr() was true */
};

/*
 * X86_EXIT_IO. Strings' elements come out one by one, but for those of REP INS where the VMM has set ahead_bytes_max: as many as
 * are left, up to the page's end. It puts all of them into `ahead`, and the first into data.
 */
#define X86_AHEAD_BYTES 1024u
struct x86_io {
    uint16_t port;
    uint8_t size_bytes; /* 1, 2, 4 */
    bool is_in;
    uint32_t count; /* 1, or what is read ahead */
    uint32_t data;  /* written; or, filled in by the answer, read */
};

/* Accesses of the present instruction that the VMM has answered; it is run again, and finds them here. */
#define X86_ANSWERS_MAX 64
enum x86_answer_kind {
    X86_ANSWER_LOAD,
    X86_ANSWER_STORE,
    X86_ANSWER_IN,
    X86_ANSWER_OUT,
    X86_ANSWER_MSR, /* by number */
};
struct x86_answer {
    enum x86_answer_kind kind;
    uint8_t size_bytes;
    uint64_t address; /* linear, or a port */
    uint64_t value;
};

struct x86_vcpu;

enum x86_msr_result {
    X86_MSR_UNKNOWN, /* there is none of that number */
    X86_MSR_REFUSED, /* not with that value, or not by that writer */
    X86_MSR_DENIED,  /* not to this guest: hooks.allows_msr() */
    X86_MSR_DONE,
};

/* X86_EXIT_MSR: a guest's RDMSR or WRMSR that has come to nothing. The answer is a value, or that it is refused: #GP. */
struct x86_msr_access {
    uint32_t number;
    bool is_write;
    bool is_refused;            /* the answer */
    enum x86_msr_result result; /* why it comes out */
    uint64_t value;             /* written; or, filled in by the answer, read */
};

/* RDMSR, WRMSR; or x86_get_msr(), x86_set_msr(), which may do what a guest may not. */
enum x86_msr_writer {
    X86_MSR_GUEST,
    X86_MSR_HOST,
};

/*
 * What is the caller's: MSRs beside those of struct x86_msrs, or instead of them, but for EFER. They are asked
 * first; what is X86_MSR_UNKNOWN to them, or NULL, is the vCPU's own. Whatever is not X86_MSR_DONE is #GP, or comes out.
 */
struct x86_hooks {
    enum x86_msr_result (*read_msr)(void *opaque, uint32_t number, uint64_t *value);
    enum x86_msr_result (*write_msr)(void *opaque, uint32_t number, uint64_t value,
                                     enum x86_msr_writer writer);
    /* Of a guest's access: may it be tried? NULL: yes. And if it is not X86_MSR_DONE, does it come out? NULL: no. */
    bool (*allows_msr)(void *opaque, uint32_t number, bool is_write);
    bool (*asks_msr)(void *opaque, enum x86_msr_result result);
    /* CR8; NULL: vcpu->cr8. A value is at most 15. */
    uint64_t (*read_cr8)(void *opaque);
    void (*write_cr8)(void *opaque, uint64_t value);
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
    /* The tag that they look up. While alignment is checked or a breakpoint is on, none: all take the slow way. */
    const uint64_t *data_tag;
    bool checks_alignment; /* CPL 3, CR0.AM, EFLAGS.AC */
    bool has_breakpoints;  /* one is switched on */
    uint8_t fetch_view;
    bool has_sse;         /* CR4.OSFXSR, not CR0.EM */
    bool is_paging_stale; /* the mmu does not know yet of cr0, cr3, cr4, efer */

    struct x86_segment segment[X86_SEGMENTS], ldt, tr;
    struct x86_table gdt, idt;
    uint64_t cr0, cr2, cr3, cr4, cr8, xcr0;
    /* PAE: PDPTEs that count when the mmu is told next, instead of those in memory. */
    uint64_t pdptes[4];
    bool has_pdptes;
    uint32_t pkru;
    uint64_t dr[8]; /* 4 and 5 are not used */
    struct x86_msrs msr;
    union x86_xmm xmm[16];
    uint32_t mxcsr;
    struct x86_fpu fpu;

    struct x86_event event;
    bool is_interrupt_queued; /* x86_interrupt(): it becomes the event once none is waiting */
    uint8_t queued_vector;
    bool is_nmi_pending, is_nmi_blocked;
    bool is_shadowed; /* by STI, MOV SS, POP SS: no interrupt before the next instruction is done */
    bool is_ss_shadow; /* ... of the latter kind, which holds #DB and NMI back as well */
    enum x86_mp_state mp_state;
    bool request_irq_window;
    bool guest_debug_step;
    bool takes_int3;   /* INT3 comes out, with RIP at it, instead of raising #BP */
    bool holds_events; /* no NMI is delivered; the VMM gives no interrupts */
    /* The VMM's breakpoints, DR0 to 3 and 7, in place of the guest's. */
    bool uses_host_dr;
    uint64_t host_dr[8];

    const struct x86_cpuid_entry *cpuid; /* borrowed */
    size_t cpuid_count;
    struct x86_hooks hooks;

    struct x86_io io;
    uint16_t ahead_bytes_max;       /* the VMM's: 0, or X86_AHEAD_BYTES at most */
    uint8_t ahead[X86_AHEAD_BYTES]; /* io.count elements */
    uint16_t ahead_next;            /* private: 0: none is left; the first is an answer */
    struct x86_msr_access msr_access;
    uint8_t bytes[15]; /* EMULATION: as many as could be fetched */
    uint8_t byte_count;
    int error;
    uint8_t exit_vector;   /* DEBUG */
    uint64_t exit_dr6;     /* DEBUG by 1: the breakpoints that were met; BS: a step; BD: DR7.GD */
    uint64_t instructions; /* that were completed, since it was made */
    uint64_t elements;     /* of repeated string instructions, likewise: of the budget, too */

    /* Private: what the present instruction has come to. */
    struct x86_event fault;      /* STEP_FAULT */
    enum gm_mmu_outcome outcome; /* STEP_OUTCOME: guest mode has been left */
    enum x86_exit exit;          /* STEP_EXIT */
    struct x86_answer answers[X86_ANSWERS_MAX];
    uint8_t answer_count, answer_next;
    /* REP CMPS or SCAS under way, across boundaries and exits: its faults restore these flags. */
    bool is_comparing;
    uint64_t compare_flags;
    bool is_stepped;   /* EFLAGS.TF: a trap follows the present instruction */
    bool is_repeating; /* a string instruction that is not at its end */
    uint64_t
        met; /* breakpoints that it has met, as in DR6; after a load of SS also those of the last */
    bool is_out;               /* of guest mode: a page fault left it */
    bool is_access_pending;    /* answers[answer_count] is being answered */
    bool is_delivering;        /* ... for the delivery of vcpu->event, not for an instruction */
    struct x86_blocks *blocks; /* NULL before the first run: it is large, and not all vCPUs run */
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

/*
 * The mmu is told of control registers that have been changed from outside at the next x86_run(); or here, where
 * gm_mmu_explain() is to see them before. Nothing else runs. Where it cannot be done (PDPTEs that are not valid, not in
 * memory, or in memory that is being changed; an access waits for its answer) it is left to x86_run().
 * Context: in guest mode; out of it afterwards. Return: whether the mmu knows the registers.
 */
bool x86_sync_paging(struct x86_vcpu *vcpu);

/* What MOV to the register refuses in every mode: reserved bits and combinations; of CR4 also bits without their
 * feature in CPUID. A vCPU that was given no CPUID may use everything that is there. */
bool x86_is_cr0_valid(uint64_t cr0);
bool x86_is_cr4_valid(const struct x86_vcpu *vcpu, uint64_t cr4);
/* ... and XSETBV. The states of x87 and SSE alone are there. */
bool x86_is_xcr0_valid(uint64_t xcr0);
/* The width of physical addresses by CPUID, or 52. */
unsigned x86_maxphyaddr(const struct x86_vcpu *vcpu);

/* RFLAGS as a whole; set needs no x86_state_changed(). */
uint64_t x86_get_rflags(const struct x86_vcpu *vcpu);
void x86_set_rflags(struct x86_vcpu *vcpu, uint64_t rflags);

/*
 * MSRs, by way of the hooks as well. The VMM may set what RDMSR and WRMSR would refuse because of the order of things:
 * EFER.LME while paging is on (LMA stays as it is: that is a segment and control register's matter), addresses that
 * are canonical by CR4.LA57 alone, the microcode's revision.
 */
enum x86_msr_result x86_get_msr(struct x86_vcpu *vcpu, uint32_t number, uint64_t *value);
enum x86_msr_result x86_set_msr(struct x86_vcpu *vcpu, uint32_t number, uint64_t value);

/*
 * Run until an exit.
 * @budget: instructions and faults at most, about: it is looked at between blocks.
 * Context: the vCPU's thread, out of guest mode, where it is again afterwards.
 */
enum x86_exit x86_run(struct x86_vcpu *vcpu, uint64_t budget);

/*
 * Finish what the last exit interrupted, an instruction or the delivery of an event, with its answer. Kicks do not end it,
 * and are used up.
 * Context: as x86_run(); x86_is_unfinished().
 * Return: X86_EXIT_BUDGET: it is complete, or has ended in a fault that is delivered next; else the exit that it makes.
 */
enum x86_exit x86_finish(struct x86_vcpu *vcpu);

/* Has it run, ever? */
bool x86_has_run(const struct x86_vcpu *vcpu);
/* Is there something to finish? */
bool x86_is_unfinished(const struct x86_vcpu *vcpu);
/* Leave it unfinished: it begins anew, and asks anew. */
void x86_begin_anew(struct x86_vcpu *vcpu);

/* SSE3, SSSE3, SSE4.1 and SSE4.2 are executed by the host: does it have them all? CPUID must not promise them without. */
bool x86_has_sse4(void);

/* May an interrupt be delivered before the next instruction: IF, no shadow, no event waiting? */
bool x86_can_interrupt(const struct x86_vcpu *vcpu);
/* Deliver one before the next instruction, as KVM_INTERRUPT: also where x86_can_interrupt() does not hold, but an instruction
 * that waits for an answer is completed before, an event that is waiting comes first, and one of
 * these takes the place of another. */
void x86_interrupt(struct x86_vcpu *vcpu, uint8_t vector);
/* ... which is waiting as event or behind it. Return: the vector; -1: none. */
int x86_waiting_interrupt(const struct x86_vcpu *vcpu);
void x86_nmi(struct x86_vcpu *vcpu);

#endif
