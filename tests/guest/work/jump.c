/*
 * guest/work/jump.c - control that does not return: setjmp and longjmp out of deep recursion, which lets the stack grow,
 * and coroutines on stacks of their own.
 */
#include "guest/work/jump.h"

#include "guest/work/work.h"

__asm__(".text\n"
        ".globl jump_set\n"
        ".type jump_set, @function\n"
        "jump_set:\n\t"
        "mov %rbx, (%rdi)\n\t"
        "mov %rbp, 8(%rdi)\n\t"
        "mov %r12, 16(%rdi)\n\t"
        "mov %r13, 24(%rdi)\n\t"
        "mov %r14, 32(%rdi)\n\t"
        "mov %r15, 40(%rdi)\n\t"
        "lea 8(%rsp), %rdx\n\t"
        "mov %rdx, 48(%rdi)\n\t"
        "mov (%rsp), %rdx\n\t"
        "mov %rdx, 56(%rdi)\n\t"
        "xor %eax, %eax\n\t"
        "ret\n"
        ".globl jump_to\n"
        ".type jump_to, @function\n"
        "jump_to:\n\t"
        "mov %rsi, %rax\n\t"
        "mov (%rdi), %rbx\n\t"
        "mov 8(%rdi), %rbp\n\t"
        "mov 16(%rdi), %r12\n\t"
        "mov 24(%rdi), %r13\n\t"
        "mov 32(%rdi), %r14\n\t"
        "mov 40(%rdi), %r15\n\t"
        "mov 48(%rdi), %rsp\n\t"
        "jmp *56(%rdi)\n");

#define ROUTINES 4u
#define ROUTINE_STACK 8192u

static struct {
    struct jump main, routines[ROUTINES];
    uint64_t values[ROUTINES];
    unsigned present;
    bool is_started[ROUTINES];
} routine;

static struct jump target;
static volatile bool is_target_set;

static __attribute__((noinline)) uint64_t descend(uint64_t depth, uint64_t sum)
{
    volatile uint64_t room[20];

    room[depth % 20] = sum;
    if (depth == 0 && is_target_set) {
        jump_to(&target, (fold(sum, 1) & 0xffffff) | 1);
    }
    if (depth == 0) {
        return 0;
    }
    sum = descend(depth - 1, fold(room[depth % 20], depth));
    return sum + room[depth % 20];
}

static __attribute__((noinline)) uint64_t catch (uint64_t depth, uint64_t sum)
{
    uint64_t value;

    is_target_set = true;
    value = jump_set(&target);
    if (value == 0) {
        descend(depth, sum);
        env_fail("what should have jumped has returned");
    }
    return value;
}

/* Each lets the next one go on, and adds to its own value. */
static _Noreturn void routine_run(void)
{
    unsigned me = routine.present;

    for (uint64_t step = 1;; step++) {
        routine.values[me] = fold(routine.values[me], step + me);
        if (jump_set(&routine.routines[me]) == 0) {
            jump_to(&routine.main, 1);
        }
    }
}

static void routine_step(unsigned number, char *stack)
{
    routine.present = number;
    if (jump_set(&routine.main) != 0) {
        return;
    }
    if (routine.is_started[number]) {
        jump_to(&routine.routines[number], 1);
    }
    routine.is_started[number] = true;
    __asm__ volatile("mov %0, %%rsp\n\tcall *%1\n\tud2"
                     :
                     : "r"(stack + ROUTINE_STACK), "r"(routine_run)
                     : "memory");
    __builtin_unreachable();
}

uint64_t work_jump(uint64_t rounds)
{
    char *stacks = heap_new(ROUTINES * ROUTINE_STACK);
    uint64_t state = 7, sum = 0;

    for (unsigned i = 0; i < ROUTINES; i++) {
        routine.is_started[i] = false;
        routine.values[i] = i;
    }
    rounds *= 8;
    while (rounds-- > 0) {
        unsigned number = (unsigned)(random_next(&state) % ROUTINES);

        sum = fold(sum, catch (random_next(&state) % 1000, sum));
        routine_step(number, stacks + number * ROUTINE_STACK);
        sum = fold(sum, routine.values[number]);
    }
    heap_free(stacks);
    return sum;
}
