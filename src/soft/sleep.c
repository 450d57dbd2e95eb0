/* soft/sleep.c - a vCPU that waits in KVM_RUN. */
#include "soft/sleep.h"
#include "base/clock.h"
#include "base/point.h"

#include "mmu/guest.h"
#include "soft/run.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>
#include <sys/syscall.h>
#include <unistd.h>

#define NS_PER_SECOND UINT64_C(1000000000)

static sigset_t set_of(uint64_t bits)
{
    sigset_t set;

    sigemptyset(&set);
    memcpy(&set, &bits, sizeof(bits));
    return set;
}

int sleep_init(struct sleep *sleep)
{
    const sigset_t none = set_of(0);
    int rc;

    sleep->signal_set = 0;
    sleep->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (sleep->wake_fd == -1) {
        return -errno;
    }
    sleep->signal_fd = signalfd(-1, &none, SFD_CLOEXEC | SFD_NONBLOCK);
    if (sleep->signal_fd == -1) {
        rc = -errno;
        close(sleep->wake_fd);
        return rc;
    }
    return 0;
}

void sleep_fini(struct sleep *sleep)
{
    close(sleep->signal_fd);
    close(sleep->wake_fd);
}

/* Signals to be told of: those that end KVM_RUN. */
static void watch_signals(struct sleep *sleep, const struct signals *signals)
{
    uint64_t wanted = signals->watched & ~signals_ignored(signals);

    if (wanted != sleep->signal_set) {
        const sigset_t set = set_of(wanted);

        (void)signalfd(sleep->signal_fd, &set, 0);
        sleep->signal_set = wanted;
    }
}

static void wait_for_something(struct sleep *sleep, uint64_t deadline_ns)
{
    struct pollfd fds[] = {{.fd = sleep->wake_fd, .events = POLLIN},
                           {.fd = sleep->signal_fd, .events = POLLIN}};
    struct timespec left;
    const struct timespec *timeout = NULL;

    if (deadline_ns != UINT64_MAX) {
        uint64_t now = clock_now_ns();
        uint64_t left_ns = deadline_ns > now ? deadline_ns - now : 0;

        left.tv_sec = (time_t)(left_ns / NS_PER_SECOND);
        left.tv_nsec = (long)(left_ns % NS_PER_SECOND);
        timeout = &left;
    }
    /* Not the C library's call, at which a thread may be cancelled. */
    (void)syscall(SYS_ppoll, fds, 2, timeout, NULL, 0);
}

void sleep_until(struct gm_soft_vcpu *vcpu, uint64_t deadline_ns)
{
    struct kcore_vcpu *base = &vcpu->mmu.base;
    uint64_t count;

    atomic_store(&base->is_asleep, true);
    GM_POINT("sleep-announced");
    if (!guest_take_requests(&vcpu->mmu)) {
        watch_signals(&vcpu->sleep, &vcpu->signals);
        GM_POINT("sleep-begins");
        wait_for_something(&vcpu->sleep, deadline_ns);
    }
    atomic_store(&base->is_asleep, false);
    (void)syscall(SYS_read, vcpu->sleep.wake_fd, &count, sizeof(count));
    (void)guest_take_requests(&vcpu->mmu);
}
