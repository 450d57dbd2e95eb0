/* guest/kernel/syscall.c - what processes ask for. */
#include "guest/kernel/kernel.h"

#define FAILED UINT64_MAX
#define SYSCALL_BYTES 2 /* and INT 0x80 as well */

static u64 fork_process(struct frame *frame)
{
    struct thread *parent = this_cpu()->current;
    struct thread *child = thread_new(space_fork(parent->space), (u32)(frame->rdi % board->cpus));

    COUNT(FORK);
    if ((board->features & FEATURE_SSE) != 0) {
        __asm__ volatile("fxsave64 %0" : "=m"(child->fpu));
    }
    child->frame = *frame;
    child->frame.rax = 0;
    child->handler = parent->handler;
    return thread_number(child);
}

static u64 new_thread(struct frame *frame)
{
    struct space *space = this_cpu()->space;
    struct thread *thread = thread_new(space, (u32)(frame->r10 % board->cpus));

    space->threads++;
    thread->frame.rip = frame->rdi;
    thread->frame.rsp = frame->rsi;
    thread->frame.rdi = frame->rdx;
    return thread_number(thread);
}

/* Until it has ended, the instruction is made again and again. */
static u64 wait(struct frame *frame)
{
    struct thread *other = thread_find(frame->rdi);

    if (other == NULL) {
        return FAILED;
    }
    if (other->state != THREAD_ENDED) {
        this_cpu()->current->waits_for = (u32)frame->rdi;
        frame->rip = frame->vector == VECTOR_PF ? USER_CALL : frame->rip - SYSCALL_BYTES;
        return frame->rax;
    }
    if (!user_store(frame->rsi, other->exit_value)) {
        return FAILED;
    }
    other->state = THREAD_FREE;
    return 0;
}

static u64 map(const struct frame *frame)
{
    const struct region region = {frame->rdi, frame->rdi + frame->rsi, (u32)frame->rdx,
                                  GUEST_IMAGE};

    return space_add(this_cpu()->space, &region) ? 0 : FAILED;
}

static u64 wish(u64 what)
{
    switch (what) {
    case BOARD_CPUS:
        return board->cpus;
    case BOARD_FEATURES:
        return board->features;
    case BOARD_ROUNDS:
        return board->rounds;
    case BOARD_REPEATS:
        return board->repeats;
    default:
        return FAILED;
    }
}

static u64 answer(struct frame *frame)
{
    struct space *space = this_cpu()->space;
    u64 start = frame->rdi, last = frame->rdi + frame->rsi;

    switch (frame->rax) {
    case SYSCALL_FORK:
        return fork_process(frame);
    case SYSCALL_THREAD:
        return new_thread(frame);
    case SYSCALL_WAIT:
        return wait(frame);
    case SYSCALL_YIELD:
        return 0;
    case SYSCALL_MAP:
        return map(frame);
    case SYSCALL_UNMAP:
        return space_remove(space, start, last) ? 0 : FAILED;
    case SYSCALL_PROTECT:
        return space_protect(space, start, last, (u32)frame->rdx) ? 0 : FAILED;
    case SYSCALL_REPLACE:
        return space_replace(space, start, frame->rsi) ? 0 : FAILED;
    case SYSCALL_HANDLER:
        this_cpu()->current->handler = start;
        return 0;
    case SYSCALL_COUNTER:
        return start < COUNTERS ? board->counters[start] : FAILED;
    case SYSCALL_REPORT:
        if (start < RESULTS) {
            board->results[start] = frame->rsi;
        }
        return start < RESULTS ? 0 : FAILED;
    case SYSCALL_BOARD:
        return wish(start);
    default:
        return FAILED;
    }
}

struct frame *syscall_from_user(struct frame *frame)
{
    u64 number = frame->rax;

    kernel_lock();
    COUNT(SYSCALL);
    if (number == SYSCALL_EXIT) {
        thread_exit(frame->rdi);
        return thread_schedule();
    }
    frame->rax = answer(frame);
    if (number == SYSCALL_YIELD || this_cpu()->current->waits_for != 0) {
        return thread_schedule();
    }
    kernel_unlock();
    return frame;
}
