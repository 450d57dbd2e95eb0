/* guest/user/main.c - the program: probes of the kernel, then each workload in a process, over both processors. */
#include "guest/user/user.h"

#define THREAD_STACK_BYTES 0x8000u

_Noreturn void user_main(void);
_Noreturn void user_thread(uint64_t argument);
extern char start_thread[], text_end[];

uint64_t user_way;

static struct pair pair;
static unsigned pair_number;

void *env_heap(void)
{
    return (void *)USER_HEAP;
}

uint8_t *env_code(void)
{
    return (uint8_t *)USER_CODE;
}

void env_yield(void)
{
    call3(SYSCALL_YIELD, 0, 0, 0);
}

void *env_replaceable(void)
{
    uint64_t *page = (uint64_t *)USER_MAPPINGS;

    work_require(call3(SYSCALL_MAP, USER_MAPPINGS, GUEST_PAGE, MAP_READ | MAP_WRITE) == 0, "map");
    *page = 0;
    return page;
}

void env_replace(void *page, uint64_t value)
{
    work_require(call3(SYSCALL_REPLACE, (uint64_t)page, value, 0) == 0, "replace");
}

/* What it says is in R15 when the kernel panics; the exception is what ends the machine. */
_Noreturn void env_fail(const char *what)
{
    call3(SYSCALL_HANDLER, 0, 0, 0);
    __asm__ volatile("mov %0, %%r15\n\tud2" : : "r"(what));
    __builtin_unreachable();
}

_Noreturn void user_exit(uint64_t value)
{
    call3(SYSCALL_EXIT, value, 0, 0);
    __builtin_unreachable();
}

uint64_t user_start(uint64_t cpu, uint64_t (*work)(uint64_t), uint64_t argument)
{
    uint64_t number = call3(SYSCALL_FORK, cpu, 0, 0);

    if (number == 0) {
        user_exit(work(argument));
    }
    return number;
}

uint64_t user_wait(uint64_t number)
{
    uint64_t value;

    work_require(call3(SYSCALL_WAIT, number, (uint64_t)&value, 0) == 0, "wait");
    return value;
}

uint64_t user_run(uint64_t cpu, uint64_t (*work)(uint64_t), uint64_t argument)
{
    return user_wait(user_start(cpu, work, argument));
}

static uint64_t run_single(uint64_t number)
{
    heap_init();
    return singles[number](wish(BOARD_ROUNDS));
}

void user_thread(uint64_t argument)
{
    pairs[pair_number](&pair, (unsigned)argument);
    user_exit(0);
}

static uint64_t run_pair(uint64_t number)
{
    uint64_t stack, thread;

    heap_init();
    pair_number = (unsigned)number;
    pair.rounds = wish(BOARD_ROUNDS);
    pair.code = env_code();
    pair.page = number == PAIR_REPLACE ? env_replaceable() : NULL;
    stack = (uint64_t)heap_new(THREAD_STACK_BYTES) + THREAD_STACK_BYTES - 64;
    thread = call4(SYSCALL_THREAD, (uint64_t)start_thread, stack & ~15ul, 1, 1);
    pairs[number](&pair, 0);
    user_wait(thread);
    return fold(pair.sums[0], pair.sums[1]);
}

static void run_all(uint64_t single_count)
{
    uint64_t numbers[WORK_SINGLES];

    for (unsigned i = 0; i < single_count; i++) {
        numbers[i] = user_start(i, run_single, i);
    }
    for (unsigned i = 0; i < single_count; i++) {
        call3(SYSCALL_REPORT, RESULT_SINGLE + i, user_wait(numbers[i]), 0);
    }
    for (unsigned i = 0; i < WORK_PAIRS; i++) {
        call3(SYSCALL_REPORT, RESULT_PAIR + i, user_run(0, run_pair, i), 0);
    }
}

/* All of the text is mapped, so that what probes count is theirs alone. */
static void touch_text(void)
{
    for (uint64_t page = USER_IMAGE; page < (uint64_t)text_end; page += GUEST_PAGE) {
        (void)*(volatile uint64_t *)page;
    }
}

void user_main(void)
{
    uint64_t features = wish(BOARD_FEATURES);

    user_way = (features & FEATURE_SYSCALL) != 0 ? FEATURE_SYSCALL : features & FEATURE_INT;
    touch_text();
    for (unsigned i = 0; i < WORK_PROBES; i++) {
        call3(SYSCALL_REPORT, RESULT_PROBE + i, user_run(0, probes[i], 0), 0);
    }
    for (uint64_t i = 0; i < wish(BOARD_REPEATS); i++) {
        run_all((features & FEATURE_SSE) != 0 ? WORK_SINGLES : WORK_MATRIX);
    }
    user_exit(0);
}
