/* vm/kick.c - making a thread leave KVM_RUN. */
#include "vm/kick.h"

#include "kvm/kvm.h"

#include <errno.h>
#include <linux/kvm.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

/* The kernel's signal set: signal N is bit N - 1. The first bytes of the C library's set are the same. */
static uint64_t mask_of(const sigset_t *set)
{
    uint64_t mask;

    memcpy(&mask, set, sizeof(mask));
    return mask;
}

static uint64_t signal_bit(int signal_number)
{
    return (uint64_t)1 << (signal_number - 1);
}

static int set_guest_mask(const struct kick *kick, uint64_t mask)
{
    /* struct kvm_signal_mask, whose set is an array of bytes without a length. */
    struct {
        uint32_t length_bytes;
        uint8_t set[sizeof(mask)];
    } request = {.length_bytes = sizeof(mask)};

    memcpy(request.set, &mask, sizeof(mask));
    return kvm_ioctl(kick->vcpu_fd, KVM_SET_SIGNAL_MASK, &request);
}

int kick_init(struct kick *kick, int signal_number, int vcpu_fd)
{
    sigset_t now;

    kick->signal = signal_number;
    kick->vcpu_fd = vcpu_fd;
    atomic_init(&kick->thread, 0);
    atomic_init(&kick->senders, 0);
    atomic_init(&kick->sent, false);
    pthread_sigmask(SIG_BLOCK, NULL, &now);
    kick->guest_mask = mask_of(&now) & ~signal_bit(signal_number);
    return set_guest_mask(kick, kick->guest_mask);
}

void kick_fini(struct kick *kick)
{
    (void)kvm_ioctl(kick->vcpu_fd, KVM_SET_SIGNAL_MASK, NULL);
}

int kick_bind(struct kick *kick)
{
    sigset_t ours;
    sigset_t before;
    uint64_t guest_mask;

    sigemptyset(&ours);
    sigaddset(&ours, kick->signal);
    pthread_sigmask(SIG_BLOCK, &ours, &before);
    guest_mask = mask_of(&before) & ~signal_bit(kick->signal);
    /* Another thread than last time, or it has changed its mask since. */
    if (guest_mask != kick->guest_mask) {
        int rc = set_guest_mask(kick, guest_mask);

        if (rc < 0) {
            return rc;
        }
        kick->guest_mask = guest_mask;
    }
    /* Sequentially consistent; pairs with the load in kick_send(): who comes too early to see the
     * thread has stored its reason before the thread looks for reasons. */
    atomic_store(&kick->thread, gettid());
    return 0;
}

/* Take the signal off the calling thread, in which it is blocked. */
static bool take_pending(const struct kick *kick)
{
    const struct timespec no_time = {0};
    sigset_t ours;
    bool taken = false;
    int got;

    sigemptyset(&ours);
    sigaddset(&ours, kick->signal);
    do {
        got = sigtimedwait(&ours, NULL, &no_time);
        taken = taken || got == kick->signal;
    } while (got == kick->signal || (got == -1 && errno == EINTR));
    return taken;
}

bool kick_take(struct kick *kick)
{
    bool taken = take_pending(kick);

    /* Sequentially consistent; pairs with the exchange in kick_send() (K-3). Only after the signal
     * was taken: else one sent in between would leave `sent` true with nothing pending. */
    atomic_exchange(&kick->sent, false);
    return taken;
}

void kick_unbind(struct kick *kick)
{
    const struct timespec moment = {.tv_nsec = 20000};

    /* Sequentially consistent, as the load below and both in kick_send(): a sender that is not
     * counted here finds no thread. */
    atomic_store(&kick->thread, 0);
    while (atomic_load(&kick->senders) != 0) {
        /* A few instructions of another thread. It may have a lower priority: let it run. */
        nanosleep(&moment, NULL);
    }
    if (atomic_load(&kick->sent)) {
        (void)kick_take(kick);
    }
}

void kick_send(struct kick *kick)
{
    int saved_errno = errno;
    int thread;

    atomic_fetch_add(&kick->senders, 1);
    thread = atomic_load(&kick->thread);
    if (thread != 0 && !atomic_exchange(&kick->sent, true) &&
        tgkill(getpid(), thread, kick->signal) != 0) {
        /* The user's limit of queued signals is reached (RLIMIT_SIGPENDING): the next one who kicks
         * tries again, and a hold of the gate kicks until the vCPU has left. */
        atomic_store(&kick->sent, false);
    }
    atomic_fetch_sub(&kick->senders, 1);
    errno = saved_errno;
}
