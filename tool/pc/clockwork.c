/*
 * pc/clockwork.c - time and signals. The signals are blocked everywhere and waited for here, so
 * that no handler has to be installed and none can run in the middle of a device.
 */
#include "pc/clockwork.h"

#include "pc/clock.h"

#include <unistd.h>

#define TICK_NS (50 * CLOCK_NS_PER_MS)
#define EXIT_STATUS_INTERRUPTED 130

static sigset_t end_signals(void)
{
    sigset_t signals;

    sigemptyset(&signals);
    sigaddset(&signals, SIGINT);
    sigaddset(&signals, SIGTERM);
    return signals;
}

void clockwork_block_signals(sigset_t *old_mask)
{
    sigset_t signals = end_signals();

    pthread_sigmask(SIG_BLOCK, &signals, old_mask);
}

void clockwork_restore_signals(const sigset_t *old_mask)
{
    pthread_sigmask(SIG_SETMASK, old_mask, NULL);
}

/* Until when to wait for a signal: the next tick, or the end of the run if that comes first. */
static struct timespec wait_time(const struct clockwork *clockwork)
{
    struct timespec wait = {.tv_nsec = TICK_NS};

    if (clockwork->end_ns != 0) {
        uint64_t now_ns = clock_now_ns();
        uint64_t left_ns = clockwork->end_ns > now_ns ? clockwork->end_ns - now_ns : 0;

        if (left_ns < TICK_NS) {
            wait.tv_nsec = (long)left_ns;
        }
    }
    return wait;
}

static void *clockwork_main(void *opaque)
{
    struct clockwork *clockwork = opaque;
    bool asked = false;

    for (;;) {
        struct timespec wait = wait_time(clockwork);
        int signal_number = sigtimedwait(&clockwork->signals, NULL, &wait);

        /* Acquire; pairs with the release in clockwork_stop(). */
        if (atomic_load_explicit(&clockwork->stop, memory_order_acquire)) {
            return NULL;
        }
        if (signal_number > 0) {
            /* Asked twice: the vCPU's thread hangs, on a pipe that nobody reads for instance. */
            if (asked) {
                _exit(EXIT_STATUS_INTERRUPTED);
            }
            asked = true;
            board_end(clockwork->board, PC_INTERRUPTED, 0);
        } else if (clockwork->end_ns != 0 && clock_now_ns() >= clockwork->end_ns) {
            board_end(clockwork->board, PC_TIME_UP, 0);
        } else {
            gm_vcpu_kick(clockwork->board->vcpu);
        }
    }
}

int clockwork_start(struct clockwork *clockwork, struct board *board, uint64_t limit_ns)
{
    clockwork->board = board;
    clockwork->end_ns = limit_ns == 0 ? 0 : clock_now_ns() + limit_ns;
    atomic_init(&clockwork->stop, false);
    clockwork->signals = end_signals();
    return -pthread_create(&clockwork->thread, NULL, clockwork_main, clockwork);
}

void clockwork_stop(struct clockwork *clockwork)
{
    /* Release; pairs with the acquire in clockwork_main(). */
    atomic_store_explicit(&clockwork->stop, true, memory_order_release);
    pthread_kill(clockwork->thread,
                 SIGTERM); /* wakes it from its wait; it is blocked, so no more */
    pthread_join(clockwork->thread, NULL);
}
