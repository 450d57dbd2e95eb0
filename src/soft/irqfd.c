/* soft/irqfd.c - eventfds whose signals are interrupts. Source: Linux api.rst, KVM_IRQFD. */
#include "soft/irqfd.h"

#include "base/fork.h"
#include "soft/irqchip/irqchip.h"

#include <errno.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/uio.h>
#include <unistd.h>

#define EVENTS_AT_ONCE 16
#define KEY_STOP 0u

int irqfds_init(struct irqfds *irqfds, const struct gm_allocator *allocator)
{
    irqfds->allocator = *allocator;
    irqfds->epoll_fd = -1;
    irqfds->stop_fd = -1;
    irqfds->next_key = KEY_STOP + 1;
    return lock_init(&irqfds->lock, LOCK_RANK_IRQFD);
}

/* ---- the thread ---- */

/* Under the lock. NULL: it has gone since. */
static const struct irqfd *find_key(const struct irqfds *irqfds, uint64_t key)
{
    for (size_t i = 0; i < irqfds->count; i++) {
        if (irqfds->items[i].key == key) {
            return &irqfds->items[i];
        }
    }
    return NULL;
}

/* Take the count. Somebody else may have: then there is nothing, and it must not be waited for. */
static bool take_count(int fd)
{
    uint64_t count;
    struct iovec bytes = {.iov_base = &count, .iov_len = sizeof(count)};

    return preadv2(fd, &bytes, 1, -1, RWF_NOWAIT) == (ssize_t)sizeof(count);
}

/* Under the lock. */
static void interrupt(struct irqfds *irqfds, const struct irqfd *irqfd)
{
    if (!take_count(irqfd->event.fd)) {
        return;
    }
    if (irqfd->resamples) {
        (void)irqchip_resample_line(irqfds->chip, irqfd->gsi, true);
    } else {
        (void)irqchip_set_line(irqfds->chip, irqfd->gsi, true);
        (void)irqchip_set_line(irqfds->chip, irqfd->gsi, false);
    }
}

static void *wait_for_signals(void *opaque)
{
    struct irqfds *irqfds = opaque;
    struct epoll_event events[EVENTS_AT_ONCE];

    for (;;) {
        int count = epoll_wait(irqfds->epoll_fd, events, EVENTS_AT_ONCE, -1);

        for (int i = 0; i < count; i++) {
            const struct irqfd *irqfd;

            if (events[i].data.u64 == KEY_STOP) {
                return NULL;
            }
            lock_take(&irqfds->lock);
            irqfd = find_key(irqfds, events[i].data.u64);
            if (irqfd != NULL) {
                interrupt(irqfds, irqfd);
            }
            lock_drop(&irqfds->lock);
        }
    }
}

/* Signals are the program's, on its own threads. */
static int make_thread(struct irqfds *irqfds)
{
    sigset_t all;
    sigset_t mask;
    int rc;

    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &mask);
    rc = -pthread_create(&irqfds->thread, NULL, wait_for_signals, irqfds);
    pthread_sigmask(SIG_SETMASK, &mask, NULL);
    return rc;
}

static int watch(const struct irqfds *irqfds, int fd, uint64_t key)
{
    /* Each signal is an event, as each calls the kernel: also of one that counts down by ones. */
    struct epoll_event event = {.events = EPOLLIN | EPOLLET, .data.u64 = key};

    return epoll_ctl(irqfds->epoll_fd, EPOLL_CTL_ADD, fd, &event) == 0 ? 0 : -errno;
}

/* Under the lock. */
static int start(struct irqfds *irqfds)
{
    int rc;

    if (irqfds->epoll_fd != -1) {
        return 0;
    }
    irqfds->stop_fd = eventfd(0, EFD_CLOEXEC);
    if (irqfds->stop_fd == -1) {
        return -errno;
    }
    irqfds->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    if (irqfds->epoll_fd == -1) {
        rc = -errno;
        goto out_stop;
    }
    rc = watch(irqfds, irqfds->stop_fd, KEY_STOP);
    if (rc == 0) {
        rc = make_thread(irqfds);
    }
    if (rc == 0) {
        return 0;
    }
    close(irqfds->epoll_fd);
    irqfds->epoll_fd = -1;
out_stop:
    close(irqfds->stop_fd);
    irqfds->stop_fd = -1;
    return rc;
}

/* ---- those that there are ---- */

static void drop_events(struct irqfd *irqfd)
{
    hostevent_drop(&irqfd->event);
    if (irqfd->resamples) {
        hostevent_drop(&irqfd->resample);
    }
}

static void end_thread(const struct irqfds *irqfds)
{
    const uint64_t one = 1;

    (void)!write(irqfds->stop_fd, &one, sizeof(one));
    pthread_join(irqfds->thread, NULL);
}

void irqfds_fini(struct irqfds *irqfds)
{
    if (irqfds->epoll_fd != -1) {
        /* In a copy of the process there is no thread, and what the descriptors lead to is the parent's. */
        if (!alone_now()) {
            end_thread(irqfds);
        }
        for (size_t i = 0; i < irqfds->count; i++) {
            drop_events(&irqfds->items[i]);
        }
        close(irqfds->epoll_fd);
        close(irqfds->stop_fd);
    }
    mem_free(&irqfds->allocator, irqfds->items);
    lock_fini(&irqfds->lock);
}

static int take_events(struct irqfd *irqfd, const struct kvm_irqfd *request)
{
    int rc = hostevent_take(&irqfd->event, (int)request->fd);

    if (rc == 0 && irqfd->resamples) {
        rc = hostevent_take(&irqfd->resample, (int)request->resamplefd);
        if (rc != 0) {
            hostevent_drop(&irqfd->event);
        }
    }
    return rc;
}

/* Under the lock. */
static int insert(struct irqfds *irqfds, const struct irqfd *irqfd)
{
    struct irqfd *items;
    int rc;

    for (size_t i = 0; i < irqfds->count; i++) {
        if (irqfds->items[i].event.id == irqfd->event.id) {
            return -EBUSY;
        }
    }
    items = mem_reserve(&irqfds->allocator, irqfds->items, &irqfds->capacity, irqfds->count + 1,
                        sizeof(*items));
    if (items == NULL) {
        return -ENOMEM;
    }
    irqfds->items = items;
    rc = start(irqfds);
    if (rc == 0) {
        rc = watch(irqfds, irqfd->event.fd, irqfds->next_key);
    }
    if (rc == 0) {
        items[irqfds->count] = *irqfd;
        items[irqfds->count].key = irqfds->next_key;
        irqfds->count++;
        irqfds->next_key++;
    }
    return rc;
}

static int assign(struct irqfds *irqfds, struct irqchip *chip, const struct kvm_irqfd *request)
{
    struct irqfd irqfd = {
        .gsi = request->gsi,
        .resamples = (request->flags & KVM_IRQFD_FLAG_RESAMPLE) != 0,
    };
    int rc = chip != NULL ? take_events(&irqfd, request) : -EINVAL;

    if (rc != 0) {
        return rc;
    }
    lock_take(&irqfds->lock);
    irqfds->chip = chip;
    rc = insert(irqfds, &irqfd);
    if (rc != 0) {
        drop_events(&irqfd);
    }
    lock_drop(&irqfds->lock);
    return rc;
}

static bool any_resamples(const struct irqfds *irqfds, uint32_t gsi)
{
    for (size_t i = 0; i < irqfds->count; i++) {
        if (irqfds->items[i].resamples && irqfds->items[i].gsi == gsi) {
            return true;
        }
    }
    return false;
}

static int deassign(struct irqfds *irqfds, const struct kvm_irqfd *request)
{
    bool resampled;
    size_t kept = 0;
    uint64_t id;
    int rc = hostevent_identify((int)request->fd, &id);

    if (rc != 0) {
        return rc;
    }
    lock_take(&irqfds->lock);
    resampled = any_resamples(irqfds, request->gsi);
    for (size_t i = 0; i < irqfds->count; i++) {
        struct irqfd *irqfd = &irqfds->items[i];

        if (irqfd->event.id == id && irqfd->gsi == request->gsi) {
            (void)epoll_ctl(irqfds->epoll_fd, EPOLL_CTL_DEL, irqfd->event.fd, NULL);
            drop_events(irqfd);
        } else {
            irqfds->items[kept] = *irqfd;
            kept++;
        }
    }
    irqfds->count = kept;
    if (resampled && !any_resamples(irqfds, request->gsi)) {
        (void)irqchip_resample_line(irqfds->chip, request->gsi, false);
    }
    lock_drop(&irqfds->lock);
    return 0;
}

int irqfd_set(struct irqfds *irqfds, struct irqchip *chip, const struct kvm_irqfd *request)
{
    if ((request->flags & ~(uint32_t)(KVM_IRQFD_FLAG_DEASSIGN | KVM_IRQFD_FLAG_RESAMPLE)) != 0) {
        return -EINVAL;
    }
    return (request->flags & KVM_IRQFD_FLAG_DEASSIGN) != 0 ? deassign(irqfds, request)
                                                           : assign(irqfds, chip, request);
}

void irqfd_ended(struct irqfds *irqfds, uint32_t gsi)
{
    lock_take(&irqfds->lock);
    for (size_t i = 0; i < irqfds->count; i++) {
        if (irqfds->items[i].resamples && irqfds->items[i].gsi == gsi) {
            hostevent_signal(&irqfds->items[i].resample);
        }
    }
    lock_drop(&irqfds->lock);
}
