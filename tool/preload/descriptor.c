/* preload/descriptor.c - memfds that stand for KVM's files. */
#include "preload/descriptor.h"

#include "preload/kernel.h"

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

/* Anyone may open it anew, so that a process that has dropped privileges still can. */
#define MODE 0666

static atomic_ulong device; /* of all memfds; 0: none was made */

static int status_of(int fd, struct stat *status)
{
    return (int)kernel_call(SYS_fstat, fd, status);
}

/* "/proc/self/fd/N", without stdio. */
#define PATH_BYTES 32
static const char *path_of(int fd, char path[PATH_BYTES])
{
    char *end = path + PATH_BYTES;
    unsigned number = (unsigned)fd;
    static const char folder[] = "/proc/self/fd/";

    *--end = '\0';
    do {
        *--end = (char)('0' + number % 10);
        number /= 10;
    } while (number != 0);
    end -= sizeof(folder) - 1;
    memcpy(end, folder, sizeof(folder) - 1);
    return end;
}

int descriptor_probe(int fd)
{
    char path[PATH_BYTES];

    return open(path_of(fd, path), O_RDONLY | O_CLOEXEC);
}

int descriptor_hide(int fd)
{
    struct rlimit limit = {.rlim_cur = 0};
    long hidden;

    /* Far up, but where the kernel's table does not become large for it. */
    kernel_call(SYS_prlimit64, 0, RLIMIT_NOFILE, NULL, &limit);
    hidden = kernel_call(SYS_fcntl, fd, F_DUPFD_CLOEXEC,
                         limit.rlim_cur > 8192 ? 4096 : (int)(limit.rlim_cur / 2));
    if (hidden < 0) {
        return fd;
    }
    close(fd);
    return (int)hidden;
}

/* Return: the descriptor, under the number of @fd, of the file opened anew; @inner is another of the old one. -1: none. */
static int open_anew(int fd, int flags)
{
    char path[PATH_BYTES];

    return open(path_of(fd, path), flags);
}

static int make(const char *name, struct stat *status)
{
    int fd = (int)kernel_call(SYS_memfd_create, name, MFD_CLOEXEC | MFD_ALLOW_SEALING);
    int rc;

    if (fd < 0) {
        return fd;
    }
    rc = (int)kernel_call(SYS_fchmod, fd, MODE);
    if (rc == 0) {
        rc = status_of(fd, status);
    }
    if (rc != 0) {
        close(fd);
        return rc;
    }
    atomic_store(&device, status->st_dev);
    return fd;
}

/* The program gets the lowest number, so the file that was opened anew takes the first one's. */
static void put_apart(struct descriptor *descriptor, int flags)
{
    int anew = open_anew(descriptor->fd, flags);
    int inner;

    descriptor->inner = descriptor->fd;
    if (anew < 0) {
        return;
    }
    inner = (int)kernel_call(SYS_fcntl, descriptor->fd, F_DUPFD_CLOEXEC, 0);
    if (inner >= 0) {
        descriptor->inner = inner;
        kernel_call(SYS_dup3, anew, descriptor->fd, flags & O_CLOEXEC);
    }
    close(anew);
}

int descriptor_new(struct descriptor *descriptor, const char *name)
{
    struct stat status;
    int fd = make(name, &status);

    if (fd < 0) {
        return fd;
    }
    descriptor->fd = fd;
    descriptor->inode = status.st_ino;
    put_apart(descriptor, O_RDWR | O_CLOEXEC);
    if (descriptor->inner != fd) {
        flock(fd, LOCK_SH | LOCK_NB);
    }
    return 0;
}

void descriptor_finish(struct descriptor *descriptor)
{
    kernel_call(SYS_fcntl, descriptor->inner, F_ADD_SEALS,
                F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL);
    kernel_call(SYS_lseek, descriptor->fd, 0, SEEK_END);
    if (descriptor->inner != descriptor->fd) {
        close(descriptor->inner);
    }
}

void descriptor_abandon(struct descriptor *descriptor)
{
    if (descriptor->inner != descriptor->fd) {
        close(descriptor->inner);
    }
    close(descriptor->fd);
}

int descriptor_new_system(int flags)
{
    struct stat status;
    struct descriptor descriptor = {.fd = make("kvm", &status)};

    if (descriptor.fd < 0) {
        return descriptor.fd;
    }
    put_apart(&descriptor, flags & (O_ACCMODE | O_CLOEXEC | O_NONBLOCK));
    if (descriptor.inner == descriptor.fd && (flags & O_CLOEXEC) == 0) {
        kernel_call(SYS_fcntl, descriptor.fd, F_SETFD, 0);
    }
    descriptor_finish(&descriptor);
    return descriptor.fd;
}

static bool may_be(int fd, struct stat *status)
{
    return status_of(fd, status) == 0 && status->st_mode == (S_IFREG | MODE) &&
           status->st_nlink == 0;
}

bool descriptor_may_be(int fd)
{
    struct stat status;

    return may_be(fd, &status);
}

unsigned long descriptor_inode(int fd)
{
    struct stat status;

    return may_be(fd, &status) && status.st_dev == atomic_load(&device) ? status.st_ino : 0;
}

enum descriptor_kind descriptor_kind(int fd)
{
    static const char prefix[] = "/memfd:kvm";
    char path[PATH_BYTES];
    struct stat status;
    char name[64];
    long length;

    if (!may_be(fd, &status)) {
        return DESCRIPTOR_OTHER;
    }
    length = kernel_call(SYS_readlink, path_of(fd, path), name, sizeof(name) - 1);
    if (length < (long)sizeof(prefix) - 1 || memcmp(name, prefix, sizeof(prefix) - 1) != 0) {
        return DESCRIPTOR_OTHER;
    }
    name[length] = '\0';
    if (strcmp(name + sizeof(prefix) - 1, " (deleted)") == 0) {
        return DESCRIPTOR_SYSTEM;
    }
    return strncmp(name + sizeof(prefix) - 1, "-v", 2) == 0 ? DESCRIPTOR_FOREIGN : DESCRIPTOR_OTHER;
}
