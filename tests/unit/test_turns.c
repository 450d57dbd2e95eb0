/*
 * unit/test_turns.c - how long a turn of KVM_RUN takes, in which nothing but slow instructions are executed: a signal, or what a timer
 * has to say, waits so long. What is printed is the processor's time, of the longest of some turns.
 */
#include "x86_rig.h"

#include "model/random.h"

#include <time.h>

#define BUDGET 8192u /* RUN_SLICE of soft/run.c */
#define TURNS 8u
/* Far above what is printed in a plain build: of a machine that is busy, and of sanitizers. */
#define TURN_MS_MAX 400.0

struct guest {
    const char *name;
    const char *code; /* goes round for ever */
    size_t size;
    uint64_t handler; /* of #UD, #PF and INT 0x80: 0 for none */
};

#define GUEST(name, code, ...)                                                                     \
    {                                                                                              \
        name, code, sizeof(code) - 1, __VA_ARGS__                                                  \
    }

#define HANDLER UINT64_C(0x11000)
/* A gibibyte that nobody has touched, and what maps it. */
#define MORE_GPA (UINT64_C(4) << 30)
#define MORE_BYTES (UINT64_C(1) << 30)
#define MORE_PD UINT64_C(0x6000)
#define TABLES_MAX 100u

static const struct guest GUESTS[] = {
    GUEST("additions", "\x48\xff\xc0\xeb\xfb", 0),
    /* mov rax,cr3; mov cr3,rax; mov rax,[rbx] */
    GUEST("address spaces", "\x0f\x20\xd8\x0f\x22\xd8\x48\x8b\x03\xeb\xf5", 0),
    /* invlpg [rbx]; mov [rbx],rax */
    GUEST("invalidations", "\x0f\x01\x3b\x48\x89\x03\xeb\xf8", 0),
    /* invlpg [rbx]; invlpg [rbx+0xffc]; mov [rbx+0xffc],rax */
    GUEST("pages crossed", "\x0f\x01\x3b\x0f\x01\xbb\xfc\x0f\0\0\x48\x89\x83\xfc\x0f\0\0\xeb\xed",
          0),
    /* ud2, whose handler returns to it */
    GUEST("faults", "\x0f\x0b", HANDLER),
    /* mov rax,[0x40000000000]: nothing is there, and the handler returns */
    GUEST("page faults", "\x48\xb9\0\0\0\0\0\x04\0\0\x48\x8b\x01", HANDLER),
    /* int 0x80 */
    GUEST("system calls", "\xcd\x80\xeb\xfc", HANDLER),
    /* inc byte [rip+1]; mov al,0: the second is another one each time */
    GUEST("code that changes", "\xfe\x05\x01\0\0\0\xb0\0\xeb\xf6", 0),
    /* fxsave [rdi]; fxrstor [rdi] */
    GUEST("states saved", "\x48\x0f\xae\x07\x48\x0f\xae\x0f\xeb\xf6", 0),
    /* fninit; fldpi; fbstp [rdi] */
    GUEST("decimals", "\xdb\xe3\xd9\xeb\xdf\x37\xeb\xf8", 0),
    /* mov ecx,4000; mov esi,0x20000; mov edi,0x20008; rep movsb */
    GUEST("strings", "\xb9\xa0\x0f\0\0\xbe\0\0\2\0\xbf\x08\0\2\0\xf3\xa4\xeb\xed", 0),
    /* xor eax,eax; cpuid */
    GUEST("CPUID", "\x31\xc0\x0f\xa2\xeb\xfa", 0),
    /* mov ecx,0x10; rdmsr */
    GUEST("MSRs", "\xb9\x10\0\0\0\x0f\x32\xeb\xf7", 0),
    /* xor eax,eax; mov ds,eax; mov al,0x10; mov ds,eax */
    GUEST("segments", "\x31\xc0\x8e\xd8\xb0\x10\x8e\xd8\xeb\xf6", 0),
    /* mov rax,[rsi]; add rsi,0x1000; btr rsi,30 */
    GUEST("new pages", "\x48\x8b\x06\x48\x81\xc6\0\x10\0\0\x48\x0f\xba\xf6\x1e\xeb\xef", 0),
    /* mov rax,[rsi]; add rsi,0x201000; btr rsi,30: each by a table that was taken back */
    GUEST("new tables", "\x48\x8b\x06\x48\x81\xc6\0\x10\x20\0\x48\x0f\xba\xf6\x1e\xeb\xef", 0),
};

static uint64_t thread_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

/* An interrupt gate to the handler, which is an IRETQ; a page fault's drops its error code. */
static void put_gate(struct x86_rig *rig, unsigned vector, uint64_t handler)
{
    x86_rig_put(rig, X86_RIG_IDT + vector * 16,
                (handler & 0xffff) | UINT64_C(8) << 16 | UINT64_C(0x8e00) << 32 |
                    (handler >> 16 & 0xffff) << 48);
    x86_rig_put(rig, X86_RIG_IDT + vector * 16 + 8, 0);
}

static struct x86_rig rig_for(const struct guest *guest, bool is_shadow)
{
    const struct gm_soft_options options = {.size = sizeof(options), .shadow_paging = is_shadow};
    struct x86_rig rig = x86_rig_new_with(&options, 64);

    memcpy(rig.rig.memory + X86_RIG_CODE, guest->code, guest->size);
    memcpy(rig.rig.memory + HANDLER, "\x48\xcf\x48\x83\xc4\x08\x48\xcf", 8);
    put_gate(&rig, 6, HANDLER);
    put_gate(&rig, 14, HANDLER + 2); /* add rsp,8; iretq */
    put_gate(&rig, 0x80, HANDLER);
    rig.cpu->gpr[X86_RBX] = X86_RIG_DATA;
    rig.cpu->gpr[X86_RDI] = X86_RIG_DATA + 0x1000;
    return rig;
}

static uint8_t *add_memory(struct x86_rig *rig)
{
    uint8_t *memory = mmap(NULL, MORE_BYTES, PROT_READ | PROT_WRITE,
                           MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

    assert_true(memory != MAP_FAILED);
    (void)madvise(memory, MORE_BYTES, MADV_NOHUGEPAGE);
    assert_int_equal(
        rig_set(&rig->rig, 1, 0, MORE_GPA, MORE_BYTES, (uint64_t)(memory - rig->rig.memory)), 0);
    x86_rig_put(rig, X86_RIG_PDPT + 4 * 8, MORE_PD | 7);
    for (uint64_t i = 0; i < 512; i++) {
        x86_rig_put(rig, MORE_PD + i * 8, (MORE_GPA + (i << 21)) | 0x87);
    }
    assert_int_equal(rig_call_number(&rig->rig, KVM_SET_NR_MMU_PAGES, TABLES_MAX), 0);
    rig->cpu->gpr[X86_RSI] = MORE_GPA;
    return memory;
}

static double longest_turn_ms(const struct guest *guest, bool is_shadow)
{
    struct x86_rig rig = rig_for(guest, is_shadow);
    uint8_t *memory = add_memory(&rig);
    uint64_t longest = 0;

    for (unsigned i = 0; i < TURNS; i++) {
        uint64_t begin = thread_ns();

        assert_int_equal(x86_run(rig.cpu, BUDGET), X86_EXIT_BUDGET);
        longest = thread_ns() - begin > longest ? thread_ns() - begin : longest;
    }
    x86_rig_free(&rig);
    munmap(memory, MORE_BYTES);
    return (double)longest / 1e6;
}

static void turn_of_slow_instructions_is_bounded(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(GUESTS) / sizeof(GUESTS[0]); i++) {
        double nested = longest_turn_ms(&GUESTS[i], false);
        double shadow = longest_turn_ms(&GUESTS[i], true);

        print_message("%-18s nested %7.3f ms, shadow %7.3f ms\n", GUESTS[i].name, nested, shadow);
        assert_true(nested < TURN_MS_MAX && shadow < TURN_MS_MAX);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(turn_of_slow_instructions_is_bounded),
    };

    return cmocka_run_group_tests_name("turns", tests, NULL, NULL);
}
