/*
 * preload/kernel.h - the functions that the library takes the place of: the next ones of that name, which are the C
 * library's or another preloaded library's, and the kernel's calls themselves.
 *
 * A call by its plain name in here (close(), ioctl()) is the kernel's: the linker binds it, and those of the software
 * KVM that is linked in, to the __wrap_ functions of kernel.c (ld's --wrap). So nothing in this library ever
 * comes back to what it exports.
 */
#ifndef PRELOAD_KERNEL_H
#define PRELOAD_KERNEL_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* For what the program asks that is none of ours. Until the constructor has run these are the kernel's. */
struct next {
    int (*open)(const char *path, int flags, ...);
    int (*openat)(int directory, const char *path, int flags, ...);
    int (*close)(int fd);
    int (*close_range)(unsigned first, unsigned last, int flags);
    int (*dup2)(int from, int to);
    int (*dup3)(int from, int to, int flags);
    int (*ioctl)(int fd, unsigned long request, ...);
    ssize_t (*read)(int fd, void *bytes, size_t size_bytes);
    ssize_t (*write)(int fd, const void *bytes, size_t size_bytes);
    int (*ftruncate)(int fd, off_t size_bytes);
    void *(*mmap)(void *at, size_t size_bytes, int protection, int flags, int fd, off_t offset);
    int (*munmap)(void *at, size_t size_bytes);
    int (*mprotect)(void *at, size_t size_bytes, int protection);
    void *(*mremap)(void *at, size_t old_bytes, size_t new_bytes, int flags, ...);
    int (*pkey_mprotect)(void *at, size_t size_bytes, int protection, int key);
    int (*madvise)(void *at, size_t size_bytes, int advice);
    int (*shmdt)(const void *at);
    int (*access)(const char *path, int mode);
    int (*faccessat)(int directory, const char *path, int mode, int flags);
    pid_t (*fork)(void);
    long (*syscall)(long number, ...);
};

extern struct next next;

/* Find the next ones. The constructor's; not async-signal-safe. */
void next_find(void);

/* A system call, of up to six words: its result, or -errno. Async-signal-safe. */
#define kernel_call(...) KERNEL_CALL_FILLED(__VA_ARGS__, 0, 0, 0, 0, 0, 0)
#define KERNEL_CALL_FILLED(number, a, b, c, d, e, f, ...)                                          \
    kernel_call_words(                                                                             \
        number, (const long[]){(long)(a), (long)(b), (long)(c), (long)(d), (long)(e), (long)(f)})
long kernel_call_words(long number, const long *arguments);

#endif
