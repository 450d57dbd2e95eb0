/*
 * preload/ioctl.c - ioctl(), read() and write(): KVM's requests on KVM's descriptors. All else is the kernel's to answer, but
 * for what it says of files that stand for KVM's.
 */
#include "preload/descriptor.h"
#include "preload/exports.h"
#include "preload/kernel.h"
#include "preload/kvm.h"

#include <errno.h>
#include <linux/fs.h>
#include <linux/kvm.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <unistd.h>

/* Requests that the kernel answers for regular files, as those are that stand for KVM's. */
static bool is_of_regular_files(unsigned long request)
{
    return request == FIBMAP || request == FIONREAD || _IOC_TYPE(request) == 'X' ||
           _IOC_TYPE(request) == 'f';
}

/* KVM's descriptors have none of these, and say so in their own way. */
static int other_ioctl(int fd, unsigned long request, unsigned long argument)
{
    bool is_suspect = is_of_regular_files(request);
    int rc = is_suspect ? -1 : next.ioctl(fd, request, argument);

    if (is_suspect || (rc == -1 && errno == ENOTTY)) {
        int error = descriptor_may_be(fd) ? kvm_foreign_request_errno(fd) : 0;

        if (error != 0) {
            errno = error;
            return -1;
        }
    }
    return is_suspect ? next.ioctl(fd, request, argument) : rc;
}

/* The kernel has requests of 32 bits; some callers extend their sign. */
int preload_ioctl(int fd, unsigned long request, ...)
{
    unsigned long argument;
    long result;
    va_list list;

    va_start(list, request);
    argument = va_arg(list, unsigned long);
    va_end(list);
    if (_IOC_TYPE(request) != KVMIO) {
        return other_ioctl(fd, request, argument);
    }
    if (!kvm_ioctl(fd, (unsigned)request, argument, &result)) {
        return next.ioctl(fd, request, argument);
    }
    if (result < 0) {
        errno = (int)-result;
        return -1;
    }
    return (int)result;
}

/* KVM's files cannot be read or written; what stands for them is at its end, and sealed. */
static ssize_t invalid(void)
{
    errno = EINVAL;
    return -1;
}

ssize_t preload_read(int fd, void *bytes, size_t size_bytes)
{
    ssize_t done = next.read(fd, bytes, size_bytes);

    return done == 0 && descriptor_may_be(fd) && kvm_foreign_request_errno(fd) != 0 ? invalid()
                                                                                    : done;
}

ssize_t preload_write(int fd, const void *bytes, size_t size_bytes)
{
    ssize_t done = next.write(fd, bytes, size_bytes);

    return done == -1 && errno == EPERM && descriptor_may_be(fd) &&
                   kvm_foreign_request_errno(fd) != 0
               ? invalid()
               : done;
}

EXPORT(ioctl);
EXPORT(read);
EXPORT(write);
