/* guest/user/user.h - the guest's program: system calls, and its parts. */
#ifndef GUEST_USER_H
#define GUEST_USER_H

#include "guest/work/work.h"

#define FAILED UINT64_MAX

extern uint64_t user_way; /* by which it asks: FEATURE_SYSCALL, FEATURE_INT, 0 */

static inline uint64_t call4(uint64_t number, uint64_t a, uint64_t b, uint64_t c, uint64_t d)
{
    register uint64_t fourth __asm__("r10") = d;

    if (user_way == FEATURE_SYSCALL) {
        __asm__ volatile("syscall"
                         : "+a"(number)
                         : "D"(a), "S"(b), "d"(c), "r"(fourth)
                         : "rcx", "r11", "memory", "cc");
    } else if (user_way == FEATURE_INT) {
        __asm__ volatile("int %1"
                         : "+a"(number)
                         : "i"(GUEST_VECTOR_CALL), "D"(a), "S"(b), "d"(c), "r"(fourth)
                         : "memory");
    } else {
        __asm__ volatile("lea 1f(%%rip), %%rcx\n\t"
                         "jmp *%1\n"
                         "1:"
                         : "+a"(number)
                         : "r"(USER_CALL), "D"(a), "S"(b), "d"(c), "r"(fourth)
                         : "rcx", "memory");
    }
    return number;
}

static inline uint64_t call3(uint64_t number, uint64_t a, uint64_t b, uint64_t c)
{
    return call4(number, a, b, c, 0);
}

static inline uint64_t counter(unsigned which)
{
    return call3(SYSCALL_COUNTER, which, 0, 0);
}

static inline uint64_t wish(unsigned which)
{
    return call3(SYSCALL_BOARD, which, 0, 0);
}

_Noreturn void user_exit(uint64_t value);
/* @work in a process of its own, and what it exits with. */
uint64_t user_start(uint64_t cpu, uint64_t (*work)(uint64_t), uint64_t argument); /* its number */
uint64_t user_wait(uint64_t number);
/* The same, one after the other. */
uint64_t user_run(uint64_t cpu, uint64_t (*work)(uint64_t), uint64_t argument);

/* probes.c */
typedef uint64_t probe_fn(uint64_t unused);
extern probe_fn *const probes[WORK_PROBES];

#endif
