/*
 * conformance/x86/native.c - the way into a state, through one instruction, and out again.
 *
 * The instruction is followed by a jump to native_leave. Where it branches to there is INT3, and every other exception
 * becomes a signal as well; the handler takes the registers from the signal's frame and returns to native_resume.
 * Single-stepping would do for everything, but a hypervisor makes it ten times slower than all other signals.
 */
#include "native.h"

#include "model/require.h"

#include <asm/prctl.h>
#include <assert.h>
#include <cpuid.h>
#include <errno.h>
#include <signal.h>
#include <stddef.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

/* Where enter.S finds it without a register. In the low 2 GiB, out of reach of a case. */
#define CONTROL 0x70000000

#define PAGE_BYTES 4096u
#define INT3 0xcc
#define VECTOR_BP 3
#define VECTOR_PF 14
#define ERROR_PRESENT 1u
#define SIGNAL_STACK_BYTES 0x10000

/* As FNSAVE has it. */
struct x87 {
    uint32_t fcw, fsw, ftw, pointers[4];
    uint8_t st[8][10];
};

/* enter.S knows these offsets. */
struct control {
    uint64_t gpr[16];      /* 0 */
    uint64_t rflags;       /* 128 */
    uint64_t rip;          /* 136 */
    uint64_t leave;        /* 144: where the jump behind the instruction leads to */
    uint64_t host_rsp;     /* 152 */
    uint32_t mxcsr;        /* 160 */
    uint32_t padding;      /* 164 */
    uint64_t padding2;     /* 168 */
    union x86_xmm xmm[16]; /* 176 */
    uint32_t host_mxcsr;   /* 432 */
    uint16_t host_fcw;     /* 436 */
    struct x87 x87;        /* 440 */
    /* Of the handler. */
    volatile sig_atomic_t is_running;
    int vector;
    uint32_t error_code;
    uint64_t cr2;
};

static_assert(offsetof(struct control, rflags) == 128, "as enter.S has it");
static_assert(offsetof(struct control, host_rsp) == 152, "as enter.S has it");
static_assert(offsetof(struct control, mxcsr) == 160, "as enter.S has it");
static_assert(offsetof(struct control, xmm) == 176, "as enter.S has it");
static_assert(offsetof(struct control, host_mxcsr) == 432, "as enter.S has it");
static_assert(offsetof(struct control, host_fcw) == 436, "as enter.S has it");
static_assert(offsetof(struct control, x87) == 440, "as enter.S has it");
static_assert(sizeof(struct x87) == 108, "as FNSAVE has it");

/* enter.S. The latter two are places. */
void native_enter(void);
extern const char native_leave[], native_resume[];

static struct control *control(void)
{
    return (struct control *)(uintptr_t)CONTROL;
}

uint8_t *native_data(void)
{
    return (uint8_t *)(uintptr_t)CASE_DATA;
}

static uint8_t *code_at(uint64_t address)
{
    return (uint8_t *)(uintptr_t)address;
}

/* In the order of instructions' numbers. */
static const int frame_gpr[16] = {REG_RAX, REG_RCX, REG_RDX, REG_RBX, REG_RSP, REG_RBP,
                                  REG_RSI, REG_RDI, REG_R8,  REG_R9,  REG_R10, REG_R11,
                                  REG_R12, REG_R13, REG_R14, REG_R15};

/* Tags are by register: two bits each, both set if it is empty. */
static uint32_t whole_tags(uint32_t abridged)
{
    uint32_t tags = 0;

    for (unsigned i = 0; i < 8; i++) {
        tags |= (abridged >> i & 1) == 0 ? 3u << (2 * i) : 0;
    }
    return tags;
}

static uint16_t abridged_tags(uint32_t tags)
{
    uint16_t abridged = 0;

    for (unsigned i = 0; i < 8; i++) {
        abridged |= (uint16_t)(((tags >> (2 * i) & 3) != 3) << i);
    }
    return abridged;
}

static void load_x87(struct control *now, const struct case_state *state)
{
    now->x87 = (struct x87){.fcw = 0xffff0000 | state->fcw,
                            .fsw = 0xffff0000 | state->fsw,
                            .ftw = 0xffff0000 | whole_tags(state->ftw)};
    memcpy(now->x87.st, state->st, sizeof(state->st));
}

static void keep_x87(const struct control *now, struct case_state *state)
{
    state->fcw = (uint16_t)now->x87.fcw;
    state->fsw = (uint16_t)now->x87.fsw;
    state->ftw = abridged_tags(now->x87.ftw);
    memcpy(state->st, now->x87.st, sizeof(state->st));
}

/* Entered with AC and DF as the instruction left them, and MXCSR. */
static void on_signal(int number, siginfo_t *info, void *context)
{
    greg_t *gregs = ((ucontext_t *)context)->uc_mcontext.gregs;
    const struct _libc_fpstate *fpu = ((ucontext_t *)context)->uc_mcontext.fpregs;
    struct control *now = control();

    __builtin_ia32_writeeflags_u64(2);
    (void)info;
    if (!now->is_running) {
        signal(number, SIG_DFL); /* our own: comes again */
        return;
    }
    now->is_running = 0;
    for (unsigned i = 0; i < 16; i++) {
        now->gpr[i] = (uint64_t)gregs[frame_gpr[i]];
    }
    now->rip = (uint64_t)gregs[REG_RIP];
    now->rflags = (uint64_t)gregs[REG_EFL];
    now->vector = (int)gregs[REG_TRAPNO];
    now->error_code = (uint32_t)gregs[REG_ERR];
    now->cr2 = (uint64_t)gregs[REG_CR2];
    now->mxcsr = fpu->mxcsr;
    now->x87.fcw = fpu->cwd;
    now->x87.fsw = fpu->swd;
    now->x87.ftw = whole_tags(fpu->ftw);
    for (unsigned i = 0; i < 8; i++) {
        memcpy(now->x87.st[i], &fpu->_st[i], sizeof(now->x87.st[i]));
    }
    memcpy(now->xmm, fpu->_xmm, sizeof(now->xmm));
    gregs[REG_RIP] = (greg_t)(uintptr_t)native_resume;
    gregs[REG_RSP] = (greg_t)now->host_rsp;
    gregs[REG_EFL] = 2;
}

static void catch_signals(void)
{
    static const int numbers[] = {SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGTRAP};
    struct sigaction action = {.sa_sigaction = on_signal, .sa_flags = SA_SIGINFO | SA_ONSTACK};
    static uint8_t bytes[SIGNAL_STACK_BYTES];
    stack_t stack = {.ss_sp = bytes, .ss_size = sizeof(bytes)};

    REQUIRE(sigaltstack(&stack, NULL) == 0, "sigaltstack: %s", strerror(errno));
    for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++) {
        REQUIRE(sigaction(numbers[i], &action, NULL) == 0, "sigaction: %s", strerror(errno));
    }
}

static void map(uint64_t address, size_t byte_count, int protection)
{
    void *wanted = (void *)(uintptr_t)address;
    void *got = mmap(wanted, byte_count, protection,
                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);

    REQUIRE(got == wanted, "mmap at %p: %s", wanted, strerror(errno));
}

static void set_gs_base(void)
{
    REQUIRE(syscall(SYS_arch_prctl, ARCH_SET_GS, CASE_GS_BASE) == 0, "ARCH_SET_GS: %s",
            strerror(errno));
}

struct case_features native_features(void)
{
    struct case_features features = {.has = {[FEATURE_BASE] = true}};
    unsigned eax, ebx = 0, ecx = 0, edx = 0;
    uint64_t hwcap2 = getauxval(AT_HWCAP2);

    __get_cpuid(1, &eax, &ebx, &ecx, &edx);
    features.has[FEATURE_POPCNT] = (ecx & bit_POPCNT) != 0;
    features.has[FEATURE_SSE3] = (ecx & bit_SSE3) != 0;
    features.has[FEATURE_SSE4] = (ecx & (bit_SSE3 | bit_SSSE3 | bit_SSE4_1 | bit_SSE4_2)) ==
                                 (bit_SSE3 | bit_SSSE3 | bit_SSE4_1 | bit_SSE4_2);
    features.has[FEATURE_XSAVE] = (ecx & bit_OSXSAVE) != 0;
    features.has[FEATURE_MOVBE] = (ecx & bit_MOVBE) != 0;
    features.has[FEATURE_CLFLUSH] = (edx & (1u << 19)) != 0;
    ecx = 0;
    __get_cpuid(0x80000001, &eax, &ebx, &ecx, &edx);
    features.has[FEATURE_LZCNT] = (ecx & bit_LZCNT) != 0;
    eax = 0;
    __get_cpuid_count(13, 1, &eax, &ebx, &ecx, &edx);
    features.has[FEATURE_XSAVEOPT] = features.has[FEATURE_XSAVE] && (eax & bit_XSAVEOPT) != 0;
    ebx = 0;
    __get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx);
    features.has[FEATURE_BMI1] = (ebx & bit_BMI) != 0;
    features.has[FEATURE_ADX] = (ebx & bit_ADX) != 0;
    features.has[FEATURE_BMI2] = (ebx & bit_BMI2) != 0;
    features.has[FEATURE_FSGSBASE] = (hwcap2 & 2) != 0; /* HWCAP2_FSGSBASE */
    __get_cpuid(0, &eax, &ebx, &ecx, &edx);
    features.is_compare_undone = ebx == signature_INTEL_ebx;
    return features;
}

/* As Linux has them. */
static void clear_segments(void)
{
    __asm__ volatile("mov %w0, %%ds\n\tmov %w0, %%es" : : "r"(0));
}

void native_init(const uint8_t data[CASE_DATA_BYTES])
{
    map(CONTROL, PAGE_BYTES, PROT_READ | PROT_WRITE);
    map(CASE_DATA, CASE_DATA_BYTES, PROT_READ | PROT_WRITE);
    map(CASE_CODE, CASE_CODE_BYTES, PROT_READ | PROT_WRITE | PROT_EXEC);
    memcpy(native_data(), data, CASE_DATA_BYTES);
    REQUIRE(mprotect(native_data() + CASE_WRITABLE_BYTES, CASE_DATA_BYTES - CASE_WRITABLE_BYTES,
                     PROT_READ) == 0,
            "mprotect: %s", strerror(errno));
    memset(code_at(CASE_CODE), INT3, CASE_CODE_BYTES);
    control()->leave = (uintptr_t)native_leave;
    set_gs_base();
    catch_signals();
}

/* The instruction and the jump behind it, where there is room. */
static void put_code(const struct test_case *test)
{
    static const uint8_t jump[CASE_CATCH_BYTES] = {0xff, 0x24, 0x25, 0x90, 0x00, 0x00, 0x70};
    uint8_t *code = code_at(test->before.rip);

    memcpy(code, test->bytes, test->mapped);
    if (CASE_CODE_END - test->before.rip >= test->length + CASE_CATCH_BYTES) {
        memcpy(code + test->length, jump, CASE_CATCH_BYTES);
    }
}

/* BTS and its like can reach all of it. */
static void remove_code(const struct test_case *test)
{
    uint64_t room = CASE_CODE_END - test->before.rip;
    uint64_t used = test->length + CASE_CATCH_BYTES;

    if (test->form->special == SPECIAL_BIT) {
        memset(code_at(CASE_CODE), INT3, CASE_CODE_BYTES);
        return;
    }
    memset(code_at(test->before.rip), INT3, used < room ? used : room);
}

/* Branches have arrived: at an INT3, or where nothing may be executed. */
static void settle_branch(const struct test_case *test, struct case_outcome *outcome)
{
    struct case_state *state = &outcome->state;

    if (outcome->vector == VECTOR_BP && test->form->opcode != INT3) {
        state->rip--;
        outcome->vector = -1;
    } else if (outcome->vector == VECTOR_PF && state->rip == outcome->cr2 &&
               state->rip != test->before.rip) {
        outcome->vector = -1;
    } else if (outcome->vector == VECTOR_PF && outcome->cr2 >> 63 != 0) {
        outcome->error_code &= ~ERROR_PRESENT; /* Linux hides what it has there */
    }
}

/* FXSAVE, and XSAVE with SSE's state, store which of MXCSR's bits the host has. */
static bool stores_mxcsr_mask(const struct test_case *test)
{
    bool is_fxsave =
        test->form->group == GROUP_FPU && test->form->opcode == 0x0fae && test->form->digit == 0;

    return is_fxsave ||
           (test->form->special == SPECIAL_XSAVE && (test->before.gpr[X86_RAX] & 2) != 0);
}

static void settle_mxcsr_mask(const struct test_case *test, const struct case_outcome *outcome)
{
    uint8_t *place;
    uint32_t mask;

    if (stores_mxcsr_mask(test) && outcome->vector < 0) {
        place = native_data() + (test->target + 28 - CASE_DATA);
        memcpy(&mask, place, sizeof(mask));
        mask &= ~CASE_MXCSR_MM;
        memcpy(place, &mask, sizeof(mask));
    }
}

void native_run(const struct test_case *test, struct case_outcome *outcome)
{
    struct control *now = control();
    struct case_state *state = &outcome->state;

    put_code(test);
    memcpy(now->gpr, test->before.gpr, sizeof(now->gpr));
    memcpy(now->xmm, test->before.xmm, sizeof(now->xmm));
    now->rip = test->before.rip;
    now->rflags = test->before.rflags;
    now->mxcsr = test->before.mxcsr;
    load_x87(now, &test->before);
    now->vector = -1;
    now->is_running = 1;
    native_enter();
    memcpy(state->gpr, now->gpr, sizeof(now->gpr));
    memcpy(state->xmm, now->xmm, sizeof(now->xmm));
    state->rip = now->is_running ? test->before.rip + test->length : now->rip;
    now->is_running = 0;
    state->rflags = now->rflags;
    state->mxcsr = now->mxcsr;
    keep_x87(now, state);
    *outcome = (struct case_outcome){
        .state = *state, .vector = now->vector, .error_code = now->error_code, .cr2 = now->cr2};
    remove_code(test);
    clear_segments();
    settle_branch(test, outcome);
    settle_mxcsr_mask(test, outcome);
}
