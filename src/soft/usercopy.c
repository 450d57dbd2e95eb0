/*
 * soft/usercopy.c - copying by process_vm_readv() and _writev() on ourselves: the kernel copies, so
 * it is the kernel that meets a bad address. A process may always do that to itself, without
 * privilege.
 */
#include "soft/usercopy.h"

#include <errno.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

typedef ssize_t vm_copy_fn(pid_t pid, const struct iovec *local, unsigned long local_count,
                           const struct iovec *remote, unsigned long remote_count,
                           unsigned long flags);

static int copy(vm_copy_fn *vm_copy, char *ours, uint64_t theirs, size_t size_bytes)
{
    pid_t self = getpid();

    /* One call moves less than 2 GiB. */
    while (size_bytes > 0) {
        struct iovec local = {.iov_base = ours, .iov_len = size_bytes};
        // NOLINTNEXTLINE(performance-no-int-to-ptr): an ioctl's argument, never dereferenced here
        struct iovec remote = {.iov_base = (void *)(uintptr_t)theirs, .iov_len = size_bytes};
        ssize_t moved = vm_copy(self, &local, 1, &remote, 1, 0);

        if (moved <= 0) {
            return moved == 0 ? -EFAULT : -errno;
        }
        ours += moved;
        theirs += (uint64_t)moved;
        size_bytes -= (size_t)moved;
    }
    return 0;
}

/* By the bare system call: ThreadSanitizer takes what the library's reads for a read by this thread. */
static ssize_t write_shared(pid_t pid, const struct iovec *local, unsigned long local_count,
                            const struct iovec *remote, unsigned long remote_count,
                            unsigned long flags)
{
    return syscall(SYS_process_vm_writev, pid, local, local_count, remote, remote_count, flags);
}

int usercopy_from(void *to, uint64_t from, size_t size_bytes)
{
    return copy(process_vm_readv, to, from, size_bytes);
}

int usercopy_to(uint64_t to, const void *from, size_t size_bytes)
{
    return copy(process_vm_writev, (char *)from, to, size_bytes); // only read, by writev
}

int usercopy_to_shared(uint64_t to, const void *from, size_t size_bytes)
{
    return copy(write_shared, (char *)from, to, size_bytes); // only read
}
