/*
 * pc/clockwork.h - the thread beside the vCPU: it kicks the vCPU at regular times, so that the run
 * loop can look at the guest, and ends the run when its time is up or a signal asks for it.
 */
#ifndef TOOL_PC_CLOCKWORK_H
#define TOOL_PC_CLOCKWORK_H

#include "pc/board.h"

#include <pthread.h>
#include <signal.h>

struct clockwork {
    struct board *board;
    uint64_t end_ns; /* 0: no limit */
    sigset_t signals;
    pthread_t thread;
    _Atomic bool stop;
};

/*
 * Block SIGINT and SIGTERM in this thread, and so in those that it starts: to be called before
 * anything starts a thread, the library among them, or the signal would kill the process through
 * that thread. Until they are given their old effect back, they wait for a clockwork.
 */
void clockwork_block_signals(sigset_t *old_mask);
void clockwork_restore_signals(const sigset_t *old_mask);

/* Start, stop. Start returns 0 or -errno. The caller has blocked the signals. */
int clockwork_start(struct clockwork *clockwork, struct board *board, uint64_t limit_ns);
void clockwork_stop(struct clockwork *clockwork);

#endif
