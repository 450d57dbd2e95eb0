/* inject/inject.c - the calls that tests/inject/symbols puts in the place of the system's. */
#include "inject/inject.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/signalfd.h>
#include <unistd.h>

const char *const inject_kind_names[INJECT_KINDS] = {
    [INJECT_ALLOC] = "alloc",   [INJECT_MAP] = "map",     [INJECT_UNMAP] = "unmap",
    [INJECT_ADVISE] = "advise", [INJECT_IOCTL] = "ioctl", [INJECT_INTR] = "intr",
    [INJECT_FD] = "fd",         [INJECT_FILE] = "file",   [INJECT_THREAD] = "thread",
    [INJECT_LOCK] = "lock",
};

void (*inject_on_call)(enum inject_kind kind, uint64_t number);

static atomic_uint armed_kinds;
static atomic_ullong calls;
static atomic_ullong failed;
static uint64_t first_to_fail; /* written while nothing is armed */
static uint64_t last_to_fail;

bool inject_fails(enum inject_kind kind)
{
    uint64_t number;

    /* Acquire; pairs with the release in inject_arm(). */
    if ((atomic_load_explicit(&armed_kinds, memory_order_acquire) & INJECT_BIT(kind)) == 0) {
        return false;
    }
    number = atomic_fetch_add(&calls, 1) + 1;
    if (inject_on_call != NULL) {
        inject_on_call(kind, number);
    }
    if (number < first_to_fail || number > last_to_fail) {
        return false;
    }
    atomic_fetch_add(&failed, 1);
    return true;
}

void inject_arm(unsigned kinds, uint64_t nth, uint64_t last)
{
    atomic_store(&calls, 0);
    atomic_store(&failed, 0);
    first_to_fail = nth != 0 ? nth : UINT64_MAX;
    last_to_fail = last;
    atomic_store_explicit(&armed_kinds, kinds, memory_order_release);
}

uint64_t inject_disarm(void)
{
    atomic_store(&armed_kinds, 0);
    return atomic_load(&failed);
}

uint64_t inject_calls(void)
{
    return atomic_load(&calls);
}

uint64_t inject_failed(void)
{
    return atomic_load(&failed);
}

/* The call fails by errno. */
static bool refused(enum inject_kind kind, int error)
{
    if (!inject_fails(kind)) {
        return false;
    }
    errno = error;
    return true;
}

/* ---- what the library calls instead ---- */

void *inject_malloc(size_t size_bytes);
void *inject_calloc(size_t count, size_t size_bytes);
void *inject_mmap(void *at, size_t size_bytes, int rights, int flags, int fd, off_t offset);
void *inject_mremap(void *old, size_t old_bytes, size_t new_bytes, int flags, ...);
int inject_munmap(void *start, size_t size_bytes);
int inject_madvise(void *start, size_t size_bytes, int advice);
int inject_ioctl(int fd, unsigned long request, ...);
int inject_open(const char *path, int flags, ...);
int inject_eventfd(unsigned count, int flags);
int inject_signalfd(int fd, const sigset_t *mask, int flags);
int inject_epoll_create1(int flags);
int inject_epoll_ctl(int epoll_fd, int operation, int fd, struct epoll_event *event);
int inject_memfd_create(const char *name, unsigned flags);
int inject_fcntl(int fd, int command, ...);
int inject_ftruncate(int fd, off_t size_bytes);
int inject_fallocate(int fd, int mode, off_t offset, off_t size_bytes);
int inject_pthread_create(pthread_t *thread, const pthread_attr_t *attributes,
                          void *(*main)(void *opaque), void *opaque);
int inject_pthread_mutex_init(pthread_mutex_t *mutex, const pthread_mutexattr_t *attributes);
int inject_pthread_cond_init(pthread_cond_t *condition, const pthread_condattr_t *attributes);
int inject_pthread_condattr_init(pthread_condattr_t *attributes);

void *inject_malloc(size_t size_bytes)
{
    return refused(INJECT_ALLOC, ENOMEM) ? NULL : malloc(size_bytes);
}

void *inject_calloc(size_t count, size_t size_bytes)
{
    return refused(INJECT_ALLOC, ENOMEM) ? NULL : calloc(count, size_bytes);
}

static atomic_llong mapped_bytes;

/* In place of what is mapped there already nothing is added. */
static void *note_mapped(void *start, long long size_bytes, bool is_in_place)
{
    if (start != MAP_FAILED && !is_in_place) {
        atomic_fetch_add(&mapped_bytes, size_bytes);
    }
    return start;
}

long long inject_mapped_bytes(void)
{
    return atomic_load(&mapped_bytes);
}

void *inject_mmap(void *at, size_t size_bytes, int rights, int flags, int fd, off_t offset)
{
    return refused(INJECT_MAP, ENOMEM)
               ? MAP_FAILED
               : note_mapped(mmap(at, size_bytes, rights, flags, fd, offset), (long long)size_bytes,
                             (flags & MAP_FIXED) != 0);
}

void *inject_mremap(void *old, size_t old_bytes, size_t new_bytes, int flags, ...)
{
    void *at = NULL;
    va_list rest;

    if ((flags & MREMAP_FIXED) != 0) {
        va_start(rest, flags);
        at = va_arg(rest, void *);
        va_end(rest);
    }
    return refused(INJECT_MAP, ENOMEM) ? MAP_FAILED
                                       : note_mapped(mremap(old, old_bytes, new_bytes, flags, at),
                                                     (long long)new_bytes - (long long)old_bytes,
                                                     (flags & MREMAP_FIXED) != 0);
}

int inject_munmap(void *start, size_t size_bytes)
{
    int rc = refused(INJECT_UNMAP, ENOMEM) ? -1 : munmap(start, size_bytes);

    atomic_fetch_sub(&mapped_bytes, rc == 0 ? (long long)size_bytes : 0);
    return rc;
}

int inject_madvise(void *start, size_t size_bytes, int advice)
{
    bool populates = advice == MADV_POPULATE_READ || advice == MADV_POPULATE_WRITE;

    return refused(INJECT_ADVISE, populates ? ENOMEM : EAGAIN) ? -1
                                                               : madvise(start, size_bytes, advice);
}

int inject_ioctl(int fd, unsigned long request, ...)
{
    va_list rest;
    void *argument;

    va_start(rest, request);
    argument = va_arg(rest, void *);
    va_end(rest);
    return refused(INJECT_INTR, EINTR) || refused(INJECT_IOCTL, ENOMEM)
               ? -1
               : ioctl(fd, request, argument);
}

int inject_open(const char *path, int flags, ...)
{
    return refused(INJECT_FD, EMFILE) ? -1 : open(path, flags); /* the library makes no files */
}

int inject_eventfd(unsigned count, int flags)
{
    return refused(INJECT_FD, EMFILE) ? -1 : eventfd(count, flags);
}

int inject_signalfd(int fd, const sigset_t *mask, int flags)
{
    return fd == -1 && refused(INJECT_FD, EMFILE) ? -1 : signalfd(fd, mask, flags);
}

int inject_epoll_create1(int flags)
{
    return refused(INJECT_FD, EMFILE) ? -1 : epoll_create1(flags);
}

int inject_epoll_ctl(int epoll_fd, int operation, int fd, struct epoll_event *event)
{
    return operation == EPOLL_CTL_ADD && refused(INJECT_FILE, ENOSPC)
               ? -1
               : epoll_ctl(epoll_fd, operation, fd, event);
}

int inject_memfd_create(const char *name, unsigned flags)
{
    return refused(INJECT_FD, EMFILE) ? -1 : memfd_create(name, flags);
}

int inject_fcntl(int fd, int command, ...)
{
    va_list rest;
    long argument;

    va_start(rest, command);
    argument = va_arg(rest, long);
    va_end(rest);
    if ((command == F_DUPFD || command == F_DUPFD_CLOEXEC) && refused(INJECT_FD, EMFILE)) {
        return -1;
    }
    return command == F_ADD_SEALS && refused(INJECT_FILE, EPERM) ? -1
                                                                 : fcntl(fd, command, argument);
}

int inject_ftruncate(int fd, off_t size_bytes)
{
    return refused(INJECT_FILE, ENOSPC) ? -1 : ftruncate(fd, size_bytes);
}

int inject_fallocate(int fd, int mode, off_t offset, off_t size_bytes)
{
    return refused(INJECT_FILE, ENOSPC) ? -1 : fallocate(fd, mode, offset, size_bytes);
}

int inject_pthread_create(pthread_t *thread, const pthread_attr_t *attributes,
                          void *(*main)(void *opaque), void *opaque)
{
    return inject_fails(INJECT_THREAD) ? EAGAIN : pthread_create(thread, attributes, main, opaque);
}

int inject_pthread_mutex_init(pthread_mutex_t *mutex, const pthread_mutexattr_t *attributes)
{
    return inject_fails(INJECT_LOCK) ? ENOMEM : pthread_mutex_init(mutex, attributes);
}

int inject_pthread_cond_init(pthread_cond_t *condition, const pthread_condattr_t *attributes)
{
    return inject_fails(INJECT_LOCK) ? ENOMEM : pthread_cond_init(condition, attributes);
}

int inject_pthread_condattr_init(pthread_condattr_t *attributes)
{
    return inject_fails(INJECT_LOCK) ? ENOMEM : pthread_condattr_init(attributes);
}
