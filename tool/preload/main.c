/* preload/main.c - the library begins: after it is loaded, before the program's own constructors. And fork(). */
#include "preload/exports.h"
#include "preload/kernel.h"
#include "preload/memory.h"
#include "preload/trace.h"

#include <pthread.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>
#include <urcu/urcu-bp.h>

/* A child may make VMs of its own: liburcu's threads did not come along, and have to be made anew. */
static void before_fork(void)
{
    urcu_bp_call_rcu_before_fork();
    urcu_bp_before_fork();
}

static void after_fork_parent(void)
{
    urcu_bp_after_fork_parent();
    urcu_bp_call_rcu_after_fork_parent();
}

static void after_fork_child(void)
{
    urcu_bp_after_fork_child();
    urcu_bp_call_rcu_after_fork_child();
}

__attribute__((constructor(102))) static void begin(void)
{
    next_find();
    memory_find_liburcu();
    trace_open();
    pthread_atfork(before_fork, after_fork_parent, after_fork_child);
}

pid_t preload_fork(void)
{
    pid_t child = next.fork();

    if (child > 0) {
        trace_fork(child);
    }
    return child;
}

/* exit() runs what the trace has registered; these do not. */
void preload__exit(int code)
{
    trace_exit(code);
    kernel_call(SYS_exit_group, code);
    __builtin_unreachable();
}

EXPORT(fork);
EXPORT(_exit);
void _Exit(int code) __attribute__((alias("preload__exit")));
