/*
 * preload/open.c - opening, and asking for, /dev/kvm.
 *
 * open() and its like ask the kernel first: only it knows whether a name is good, and where it leads. What it opens is looked
 * at by its device number; what it cannot open, by its name.
 */
#include "preload/descriptor.h"
#include "preload/exports.h"
#include "preload/kernel.h"
#include "preload/path.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <sys/syscall.h>
#include <unistd.h>

/* What the kernel says if /dev/kvm is not there, not the user's, or without a driver. */
static bool is_no_device(int error)
{
    return error == ENOENT || error == EACCES || error == EPERM || error == ENODEV ||
           error == ENXIO || error == ENOTDIR;
}

/* @fd: what the next open() said. */
static int opened(int fd, int directory, const char *path, int flags)
{
    int error = errno;
    int system;

    if (fd >= 0 ? (flags & O_PATH) != 0 || !path_is_kvm_device(fd)
                : path == NULL || !is_no_device(error) || (flags & O_PATH) != 0 ||
                      !path_is_kvm(directory, path)) {
        errno = error;
        return fd;
    }
    if ((flags & O_DIRECTORY) != 0) { /* the kernel has opened none such */
        errno = ENOTDIR;
        return -1;
    }
    if (fd >= 0) {
        kernel_call(SYS_close, fd);
    }
    system = descriptor_new_system(flags);
    errno = system < 0 ? -system : error;
    return system < 0 ? -1 : system;
}

/* The mode is there if the flags say so; passing on a word of no meaning does no harm. */
#define READ_MODE(after)                                                                           \
    mode_t mode;                                                                                   \
    va_list list;                                                                                  \
                                                                                                   \
    va_start(list, after);                                                                         \
    mode = (mode_t)va_arg(list, unsigned);                                                         \
    va_end(list)

int preload_open(const char *path, int flags, ...)
{
    READ_MODE(flags);
    return opened(next.open(path, flags, mode), AT_FDCWD, path, flags);
}

int preload_openat(int directory, const char *path, int flags, ...)
{
    READ_MODE(flags);
    return opened(next.openat(directory, path, flags, mode), directory, path, flags);
}

/* Of programs that are built with _FORTIFY_SOURCE, for flags that make no file. */
int __open_2(const char *path, int flags)
{
    return preload_open(path, flags);
}

int __openat_2(int directory, const char *path, int flags)
{
    return preload_openat(directory, path, flags);
}

int open64(const char *path, int flags, ...) __attribute__((alias("preload_open")));
int openat64(int directory, const char *path, int flags, ...)
    __attribute__((alias("preload_openat")));
int __open64_2(const char *path, int flags) __attribute__((alias("__open_2")));
int __openat64_2(int directory, const char *path, int flags) __attribute__((alias("__openat_2")));

/* Programs ask before they open. To us anyone may read and write it, and nobody execute. */
static int accessed(int rc, int directory, const char *path, int mode)
{
    if (rc == 0 || path == NULL || !is_no_device(errno) || !path_is_kvm(directory, path)) {
        return rc;
    }
    if ((mode & X_OK) != 0) {
        errno = EACCES;
        return -1;
    }
    return 0;
}

int preload_access(const char *path, int mode)
{
    return accessed(next.access(path, mode), AT_FDCWD, path, mode);
}

int faccessat(int directory, const char *path, int mode, int flags)
{
    return accessed(next.faccessat(directory, path, mode, flags), directory, path, mode);
}

EXPORT(open);
EXPORT(openat);
EXPORT(access);
