/* preload/kernel.c - system calls without a C library in between, and the functions that come after ours. */
#include "preload/kernel.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <sys/syscall.h>

long kernel_call_words(long number, const long *arguments)
{
    register long r10 __asm__("r10") = arguments[3];
    register long r8 __asm__("r8") = arguments[4];
    register long r9 __asm__("r9") = arguments[5];
    long result;

    __asm__ volatile("syscall"
                     : "=a"(result)
                     : "a"(number), "D"(arguments[0]), "S"(arguments[1]), "d"(arguments[2]),
                       "r"(r10), "r"(r8), "r"(r9)
                     : "rcx", "r11", "memory");
    return result;
}

/* As the C library gives it to its callers. */
static long settle(long result)
{
    if (result < 0 && result >= -4095) {
        errno = (int)-result;
        return -1;
    }
    return result;
}

/* ---- by the names that the linker binds to; declared here, as no header has them ---- */

long __wrap_syscall(long number, ...);
int __wrap_open(const char *path, int flags, ...);
int __wrap_openat(int directory, const char *path, int flags, ...);
int __wrap_close(int fd);
int __wrap_close_range(unsigned first, unsigned last, int flags);
int __wrap_dup2(int from, int to);
int __wrap_dup3(int from, int to, int flags);
int __wrap_ioctl(int fd, unsigned long request, ...);
ssize_t __wrap_read(int fd, void *bytes, size_t size_bytes);
ssize_t __wrap_write(int fd, const void *bytes, size_t size_bytes);
int __wrap_ftruncate(int fd, off_t size_bytes);
void *__wrap_mmap(void *at, size_t size_bytes, int protection, int flags, int fd, off_t offset);
/* What a file built with _FILE_OFFSET_BITS=64 calls them. */
int __wrap_open64(const char *path, int flags, ...) __attribute__((alias("__wrap_open")));
int __wrap_openat64(int directory, const char *path, int flags, ...)
    __attribute__((alias("__wrap_openat")));
int __wrap_ftruncate64(int fd, off_t size_bytes) __attribute__((alias("__wrap_ftruncate")));
void *__wrap_mmap64(void *at, size_t size_bytes, int protection, int flags, int fd, off_t offset)
    __attribute__((alias("__wrap_mmap")));
int __wrap_munmap(void *at, size_t size_bytes);
int __wrap_mprotect(void *at, size_t size_bytes, int protection);
void *__wrap_mremap(void *at, size_t old_bytes, size_t new_bytes, int flags, ...);
int __wrap_madvise(void *at, size_t size_bytes, int advice);
int __wrap_pkey_mprotect(void *at, size_t size_bytes, int protection, int key);
int __wrap_shmdt(const void *at);
pid_t __wrap_fork(void);
int __wrap_access(const char *path, int mode);
int __wrap_faccessat(int directory, const char *path, int mode, int flags);

/* Six words are read, however few were given: the kernel does not look at what it has no use for. */
__attribute__((no_sanitize("address"))) long __wrap_syscall(long number, ...)
{
    long arguments[6];
    va_list list;

    va_start(list, number);
    for (int i = 0; i < 6; i++) {
        arguments[i] = va_arg(list, long);
    }
    va_end(list);
    return settle(kernel_call_words(number, arguments));
}

/* What may be there, or not: of no meaning then. */
#define READ_WORD(after)                                                                           \
    long word;                                                                                     \
    va_list list;                                                                                  \
                                                                                                   \
    va_start(list, after);                                                                         \
    word = va_arg(list, long);                                                                     \
    va_end(list)

int __wrap_open(const char *path, int flags, ...)
{
    READ_WORD(flags);
    return (int)settle(kernel_call(SYS_openat, AT_FDCWD, path, flags, word));
}

int __wrap_openat(int directory, const char *path, int flags, ...)
{
    READ_WORD(flags);
    return (int)settle(kernel_call(SYS_openat, directory, path, flags, word));
}

int __wrap_close(int fd)
{
    return (int)settle(kernel_call(SYS_close, fd));
}

int __wrap_close_range(unsigned first, unsigned last, int flags)
{
    return (int)settle(kernel_call(SYS_close_range, first, last, flags));
}

int __wrap_dup2(int from, int to)
{
    return (int)settle(kernel_call(SYS_dup2, from, to));
}

int __wrap_dup3(int from, int to, int flags)
{
    return (int)settle(kernel_call(SYS_dup3, from, to, flags));
}

int __wrap_ioctl(int fd, unsigned long request, ...)
{
    READ_WORD(request);
    return (int)settle(kernel_call(SYS_ioctl, fd, request, word));
}

ssize_t __wrap_read(int fd, void *bytes, size_t size_bytes)
{
    return settle(kernel_call(SYS_read, fd, bytes, size_bytes));
}

ssize_t __wrap_write(int fd, const void *bytes, size_t size_bytes)
{
    return settle(kernel_call(SYS_write, fd, bytes, size_bytes));
}

int __wrap_ftruncate(int fd, off_t size_bytes)
{
    return (int)settle(kernel_call(SYS_ftruncate, fd, size_bytes));
}

void *__wrap_mmap(void *at, size_t size_bytes, int protection, int flags, int fd, off_t offset)
{
    // NOLINTNEXTLINE(performance-no-int-to-ptr): what the kernel answers
    return (void *)settle(kernel_call(SYS_mmap, at, size_bytes, protection, flags, fd, offset));
}

int __wrap_munmap(void *at, size_t size_bytes)
{
    return (int)settle(kernel_call(SYS_munmap, at, size_bytes));
}

int __wrap_mprotect(void *at, size_t size_bytes, int protection)
{
    return (int)settle(kernel_call(SYS_mprotect, at, size_bytes, protection));
}

void *__wrap_mremap(void *at, size_t old_bytes, size_t new_bytes, int flags, ...)
{
    READ_WORD(flags);
    // NOLINTNEXTLINE(performance-no-int-to-ptr): what the kernel answers
    return (void *)settle(kernel_call(SYS_mremap, at, old_bytes, new_bytes, flags, word));
}

int __wrap_madvise(void *at, size_t size_bytes, int advice)
{
    return (int)settle(kernel_call(SYS_madvise, at, size_bytes, advice));
}

int __wrap_pkey_mprotect(void *at, size_t size_bytes, int protection, int key)
{
    return (int)settle(kernel_call(SYS_pkey_mprotect, at, size_bytes, protection, key));
}

int __wrap_shmdt(const void *at)
{
    return (int)settle(kernel_call(SYS_shmdt, at));
}

int __wrap_access(const char *path, int mode)
{
    return (int)settle(kernel_call(SYS_access, path, mode));
}

pid_t __wrap_fork(void)
{
    return (pid_t)settle(kernel_call(SYS_fork));
}

/* With flags it takes the C library, on kernels that lack faccessat2(); before the constructor that may fail. */
int __wrap_faccessat(int directory, const char *path, int mode, int flags)
{
    return (int)settle(kernel_call(SYS_faccessat2, directory, path, mode, flags));
}

/* ---- the next ones ---- */

struct next next = {
    .open = __wrap_open,
    .openat = __wrap_openat,
    .close = __wrap_close,
    .close_range = __wrap_close_range,
    .dup2 = __wrap_dup2,
    .dup3 = __wrap_dup3,
    .ioctl = __wrap_ioctl,
    .read = __wrap_read,
    .write = __wrap_write,
    .ftruncate = __wrap_ftruncate,
    .mmap = __wrap_mmap,
    .munmap = __wrap_munmap,
    .mprotect = __wrap_mprotect,
    .mremap = __wrap_mremap,
    .pkey_mprotect = __wrap_pkey_mprotect,
    .madvise = __wrap_madvise,
    .shmdt = __wrap_shmdt,
    .access = __wrap_access,
    .faccessat = __wrap_faccessat,
    .fork = __wrap_fork,
    .syscall = __wrap_syscall,
};

/* A function pointer from dlsym()'s object pointer, as POSIX has it. One that is missing stays the kernel's. */
static void find(const char *name, void *function)
{
    void *found = dlsym(RTLD_NEXT, name);

    if (found != NULL) {
        *(void **)function = found;
    }
}

void next_find(void)
{
    find("open", &next.open);
    find("openat", &next.openat);
    find("close", &next.close);
    find("close_range", &next.close_range);
    find("dup2", &next.dup2);
    find("dup3", &next.dup3);
    find("ioctl", &next.ioctl);
    find("read", &next.read);
    find("write", &next.write);
    find("ftruncate", &next.ftruncate);
    find("mmap", &next.mmap);
    find("munmap", &next.munmap);
    find("mprotect", &next.mprotect);
    find("mremap", &next.mremap);
    find("pkey_mprotect", &next.pkey_mprotect);
    find("madvise", &next.madvise);
    find("shmdt", &next.shmdt);
    find("access", &next.access);
    find("faccessat", &next.faccessat);
    find("fork", &next.fork);
    find("syscall", &next.syscall);
}
