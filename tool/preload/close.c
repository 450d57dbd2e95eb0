/*
 * preload/close.c - closing descriptors, by whatever call. One that is hidden from the program stays open, and does not exist
 * to it.
 */
#include "preload/exports.h"
#include "preload/kernel.h"
#include "preload/object.h"
#include "preload/trace.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/close_range.h>
#include <sched.h>
#include <sys/syscall.h>
#include <unistd.h>

/* What the program must not know of. */
static bool is_hidden(int fd)
{
    return trace_has(fd) || object_is_probe(fd);
}

int preload_close(int fd)
{
    struct closing closing;
    uint64_t mask;
    int rc;

    if (trace_has(fd)) {
        errno = EBADF;
        return -1;
    }
    if (!object_any() || descriptor_inode(fd) == 0) {
        return next.close(fd);
    }
    if (object_is_probe(fd)) {
        errno = EBADF;
        return -1;
    }
    /* The kernel's own, as the C library's is a point where a thread may be cancelled. */
    mask = signals_block();
    closing_begin(&closing, fd);
    rc = (int)kernel_call(SYS_close, fd);
    closing_end(&closing, rc);
    signals_restore(mask);
    if (rc < 0) {
        errno = -rc;
        return -1;
    }
    return 0;
}

/* The descriptors of this process in a range, in any order, without memory from the C library. */
typedef void each_fd_fn(int fd, void *opaque);

static unsigned number_of(const char *name)
{
    unsigned number = 0;

    for (; *name >= '0' && *name <= '9'; name++) {
        number = number * 10 + (unsigned)(*name - '0');
    }
    return *name == '\0' ? number : UINT32_MAX;
}

static bool for_each_fd(unsigned first, unsigned last, each_fd_fn *each, void *opaque)
{
    struct entry {
        uint64_t inode;
        int64_t offset;
        unsigned short size_bytes;
        unsigned char type;
        char name[];
    };
    _Alignas(8) char bytes[4096];
    int folder =
        (int)kernel_call(SYS_openat, AT_FDCWD, "/proc/self/fd", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    long size_bytes;

    if (folder < 0) {
        return false;
    }
    while ((size_bytes = kernel_call(SYS_getdents64, folder, bytes, sizeof(bytes))) > 0) {
        for (long at = 0; at < size_bytes;) {
            const struct entry *entry = (const struct entry *)(const void *)(bytes + at);
            unsigned fd = number_of(entry->name);

            if (fd >= first && fd <= last && (int)fd != folder && entry->name[0] != '.') {
                each((int)fd, opaque);
            }
            at += entry->size_bytes;
        }
    }
    kernel_call(SYS_close, folder);
    return true;
}

/* All at once, by the kernel, but for those that are hidden: the lowest of them above @first. */
struct hidden_search {
    unsigned lowest;
};

static void find_hidden(int fd, void *opaque)
{
    struct hidden_search *search = opaque;

    if ((unsigned)fd < search->lowest && is_hidden(fd)) {
        search->lowest = (unsigned)fd;
    }
}

static void close_if_kvm(int fd, void *opaque)
{
    (void)opaque;
    if (descriptor_inode(fd) != 0 && !is_hidden(fd)) {
        (void)preload_close(fd);
    }
}

static int close_between_hidden(unsigned first, unsigned last)
{
    struct hidden_search search;
    int rc = 0;

    do {
        search.lowest = UINT32_MAX;
        for_each_fd(first, last, find_hidden, &search);
        if (search.lowest == UINT32_MAX) {
            return next.close_range(first, last, 0);
        }
        if (search.lowest > first) {
            rc = next.close_range(first, search.lowest - 1, 0);
        }
        first = search.lowest + 1;
    } while (rc == 0 && first <= last);
    return rc;
}

int preload_close_range(unsigned first, unsigned last, int flags)
{
    if (first > last || (flags & ~CLOSE_RANGE_UNSHARE) != 0 || (!object_any() && !trace_is_on())) {
        return next.close_range(first, last, flags);
    }
    if (flags != 0) {
        long rc = kernel_call(SYS_unshare, CLONE_FILES);

        if (rc < 0) {
            errno = (int)-rc;
            return -1;
        }
    }
    for_each_fd(first, last, close_if_kvm, NULL);
    return close_between_hidden(first, last);
}

void closefrom(int first)
{
    (void)preload_close_range(first > 0 ? (unsigned)first : 0, UINT32_MAX, 0);
}

/* ---- what else closes: a duplicate that takes a number ---- */

struct replacement {
    int from;
    int to;
    int flags;
    bool is_dup2;
};

static int replace(struct replacement wanted)
{
    return wanted.is_dup2 ? next.dup2(wanted.from, wanted.to)
                          : next.dup3(wanted.from, wanted.to, wanted.flags);
}

static int duplicate(struct replacement wanted)
{
    struct closing closing;
    uint64_t mask;
    int error;
    int rc;

    if (trace_has(wanted.to)) {
        trace_move();
    }
    if (wanted.from == wanted.to || !object_any() || descriptor_inode(wanted.to) == 0) {
        return replace(wanted);
    }
    mask = signals_block();
    closing_begin(&closing, wanted.to);
    rc = replace(wanted);
    error = errno;
    closing_end(&closing, rc);
    signals_restore(mask);
    errno = error;
    return rc;
}

int preload_dup2(int from, int to)
{
    return duplicate((struct replacement){from, to, 0, true});
}

int preload_dup3(int from, int to, int flags)
{
    return duplicate((struct replacement){from, to, flags, false});
}

EXPORT(close);
EXPORT(close_range);
EXPORT(dup2);
EXPORT(dup3);
