/*
 * preload/syscall.c - syscall(): programs that have no function for a call, or want none, come by here. Those that the library
 * has a function for go there.
 */
#include "preload/exports.h"
#include "preload/kernel.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdbool.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/shm.h>
#include <sys/syscall.h>
#include <unistd.h>

// NOLINTBEGIN(performance-no-int-to-ptr): arguments are words, whatever they stand for

static bool on_files(long number, const long *a, long *result)
{
    switch (number) {
    case SYS_open:
        *result = preload_open((const char *)a[0], (int)a[1], (mode_t)a[2]);
        return true;
    case SYS_openat:
        *result = preload_openat((int)a[0], (const char *)a[1], (int)a[2], (mode_t)a[3]);
        return true;
    case SYS_access:
        *result = preload_access((const char *)a[0], (int)a[1]);
        return true;
    case SYS_close:
        *result = preload_close((int)a[0]);
        return true;
    case SYS_close_range:
        *result = preload_close_range((unsigned)a[0], (unsigned)a[1], (int)a[2]);
        return true;
    case SYS_dup2:
        *result = preload_dup2((int)a[0], (int)a[1]);
        return true;
    case SYS_dup3:
        *result = preload_dup3((int)a[0], (int)a[1], (int)a[2]);
        return true;
    case SYS_ioctl:
        *result = preload_ioctl((int)a[0], (unsigned long)a[1], a[2]);
        return true;
    case SYS_read:
        *result = preload_read((int)a[0], (void *)a[1], (size_t)a[2]);
        return true;
    case SYS_write:
        *result = preload_write((int)a[0], (const void *)a[1], (size_t)a[2]);
        return true;
    case SYS_fork:
        *result = preload_fork();
        return true;
    default:
        return false;
    }
}

static bool on_memory(long number, const long *a, long *result)
{
    switch (number) {
    case SYS_mmap:
        *result =
            (long)preload_mmap((void *)a[0], (size_t)a[1], (int)a[2], (int)a[3], (int)a[4], a[5]);
        return true;
    case SYS_munmap:
        *result = preload_munmap((void *)a[0], (size_t)a[1]);
        return true;
    case SYS_mprotect:
        *result = preload_mprotect((void *)a[0], (size_t)a[1], (int)a[2]);
        return true;
    case SYS_pkey_mprotect:
        *result = preload_pkey_mprotect((void *)a[0], (size_t)a[1], (int)a[2], (int)a[3]);
        return true;
    case SYS_mremap:
        *result =
            (long)preload_mremap((void *)a[0], (size_t)a[1], (size_t)a[2], (int)a[3], (void *)a[4]);
        return true;
    case SYS_madvise:
        *result = preload_madvise((void *)a[0], (size_t)a[1], (int)a[2]);
        return true;
    case SYS_ftruncate:
        *result = preload_ftruncate((int)a[0], a[1]);
        return true;
    case SYS_shmdt:
        *result = preload_shmdt((const void *)a[0]);
        return true;
    default:
        return false;
    }
}

// NOLINTEND(performance-no-int-to-ptr)

/* Six words are passed on, however few were given: the kernel does not look at what it has no use for. */
__attribute__((no_sanitize("address"))) long syscall(long number, ...)
{
    long a[6];
    long result;
    va_list list;

    va_start(list, number);
    for (int i = 0; i < 6; i++) {
        a[i] = va_arg(list, long);
    }
    va_end(list);
    if (on_files(number, a, &result) || on_memory(number, a, &result)) {
        return result;
    }
    return next.syscall(number, a[0], a[1], a[2], a[3], a[4], a[5]);
}
