/* guest/work/jump.h - setjmp and longjmp, without a C library. */
#ifndef GUEST_WORK_JUMP_H
#define GUEST_WORK_JUMP_H

#include <stdint.h>

struct jump {
    uint64_t words[8]; /* rbx, rbp, r12 to r15, rsp, rip */
};

/* Return: 0; then, each time that jump_to() comes here, its value. */
uint64_t jump_set(struct jump *jump) __attribute__((returns_twice));
_Noreturn void jump_to(const struct jump *jump, uint64_t value);

#endif
