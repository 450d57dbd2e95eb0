/* soft/signals.c - signals while KVM_RUN is under way. */
#include "soft/signals.h"

#include "base/rcu.h"
#include "soft/usercopy.h"

#include <errno.h>
#include <linux/kvm.h>
#include <stddef.h>
#include <sys/syscall.h>
#include <unistd.h>

static uint64_t bit_of(int number)
{
    return UINT64_C(1) << (number - 1);
}

/* A fault of ours raises them at once, blocked or not. */
static const int synchronous[] = {SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGTRAP};

/* The C library's call leaves its own two signals alone: a thread that is cancelled would end within an instruction. */
static uint64_t set_thread_mask(uint64_t mask)
{
    uint64_t before = 0;

    (void)syscall(SYS_rt_sigprocmask, SIG_SETMASK, &mask, &before, sizeof(mask));
    return before;
}

static uint64_t held(void)
{
    uint64_t ours = UINT64_MAX;

    for (unsigned i = 0; i < sizeof(synchronous) / sizeof(synchronous[0]); i++) {
        ours &= ~bit_of(synchronous[i]);
    }
    return ours;
}

uint64_t signals_hold(void)
{
    uint64_t before = set_thread_mask(held());

    /* liburcu registers the thread at its first section, under a lock, and then restores its mask by the C library's call, which
     * lets a cancellation in. */
    rcu_enter();
    rcu_leave();
    (void)set_thread_mask(held());
    return before;
}

void signals_watch(struct signals *signals, uint64_t mask)
{
    signals->watched = held() & ~(signals->has_mask ? signals->mask : mask);
}

void signals_release(uint64_t mask)
{
    (void)set_thread_mask(mask);
}

static bool is_ignored(int number)
{
    struct sigaction action;

    if (sigaction(number, NULL, &action) != 0) {
        return false;
    }
    if (action.sa_handler == SIG_DFL) {
        return number == SIGCHLD || number == SIGURG || number == SIGWINCH || number == SIGCONT;
    }
    return action.sa_handler == SIG_IGN;
}

static uint64_t pending_of(const struct signals *signals)
{
    uint64_t pending = 0;

    (void)syscall(SYS_rt_sigpending, &pending, sizeof(pending));
    return pending & signals->watched;
}

static uint64_t ignored_of(uint64_t pending)
{
    uint64_t ignored = 0;

    while (pending != 0) {
        int number = __builtin_ctzll(pending) + 1;

        ignored |= is_ignored(number) ? bit_of(number) : 0;
        pending &= pending - 1;
    }
    return ignored;
}

bool signals_are_pending(const struct signals *signals)
{
    uint64_t pending = pending_of(signals);

    return pending != 0 && pending != ignored_of(pending);
}

uint64_t signals_ignored(const struct signals *signals)
{
    return ignored_of(pending_of(signals));
}

long signals_set_mask(struct signals *signals, uint64_t argument)
{
    struct kvm_signal_mask head;
    uint64_t mask;
    int rc;

    if (argument == 0) {
        signals->has_mask = false;
        return 0;
    }
    rc = usercopy_from(&head, argument, sizeof(head));
    if (rc != 0) {
        return rc;
    }
    if (head.len != sizeof(mask)) {
        return -EINVAL;
    }
    rc = usercopy_from(&mask, argument + offsetof(struct kvm_signal_mask, sigset), sizeof(mask));
    if (rc == 0) {
        signals->has_mask = true;
        signals->mask = mask;
    }
    return rc;
}
