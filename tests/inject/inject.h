/*
 * inject/inject.h - calls of the library that fail when a test wants them to.
 *
 * Test programs are linked with the library's own objects, in which the names of the functions below are replaced by inject_NAME
 * (tests/inject/symbols): so the library's calls come here, and those of tests, cmocka and liburcu do not. What does not fail
 * is passed on. Tests' own allocators ask by inject_fails(INJECT_ALLOC).
 *
 * | kind          | calls                                                                    | errno          |
 * | ------------- | ------------------------------------------------------------------------ | -------------- |
 * | INJECT_ALLOC   | malloc, calloc, and allocators of tests (model/injects.h)                 | ENOMEM         |
 * | INJECT_MAP     | mmap, mremap                                                             | ENOMEM         |
 * | INJECT_UNMAP   | munmap                                                                   | ENOMEM         |
 * | INJECT_ADVISE  | madvise                                                                  | ENOMEM, EAGAIN |
 * | INJECT_IOCTL   | ioctl                                                                    | ENOMEM         |
 * | INJECT_INTR    | ioctl, once more: a signal came                                          | EINTR          |
 * | INJECT_FD      | open, eventfd, signalfd, epoll_create1, memfd_create, fcntl(F_DUPFD...)  | EMFILE         |
 * | INJECT_FILE    | ftruncate, fallocate, fcntl(F_ADD_SEALS), epoll_ctl(EPOLL_CTL_ADD)       | ENOSPC, EPERM  |
 * | INJECT_THREAD  | pthread_create                                                           | EAGAIN         |
 * | INJECT_LOCK    | pthread_mutex_init, pthread_cond_init, pthread_condattr_init             | ENOMEM         |
 */
#ifndef INJECT_INJECT_H
#define INJECT_INJECT_H

#include <stdbool.h>
#include <stdint.h>

enum inject_kind {
    INJECT_ALLOC,
    INJECT_MAP,
    INJECT_UNMAP,
    INJECT_ADVISE,
    INJECT_IOCTL,
    INJECT_INTR,
    INJECT_FD,
    INJECT_FILE,
    INJECT_THREAD,
    INJECT_LOCK,
    INJECT_KINDS,
};

#define INJECT_BIT(kind) (1u << (kind))
/* Every kind that is a failure: an interrupted call is to be made again. */
#define INJECT_FAILURES ((INJECT_BIT(INJECT_KINDS) - 1) & ~INJECT_BIT(INJECT_INTR))

extern const char *const inject_kind_names[INJECT_KINDS];

/* Whether the call that is about to be made is to fail. Counts it. */
bool inject_fails(enum inject_kind kind);

/* Count calls of @kinds from now on, in all threads; the @nth (1: the next) fails, and up to @last after it. 0: none. */
void inject_arm(unsigned kinds, uint64_t nth, uint64_t last);

/* Nothing fails, and nothing is counted, any more. Return: how many have failed since inject_arm(). */
uint64_t inject_disarm(void);

/* Calls of the kinds that inject_arm() named, and those that failed, since then. */
uint64_t inject_calls(void);
uint64_t inject_failed(void);

/* What the library has mapped and not unmapped, ever since the process began. Memory that it shows in the place of other memory
 * (MAP_FIXED) adds nothing: it is right for whoever maps and unmaps wholes. */
long long inject_mapped_bytes(void);

/* A test has failed by an assertion of its own, of whatever thread. Ends the process where it is swept (sweep.c). */
void inject_test_failed(void);

/* Told of each call that counts, with its number. NULL: nobody. */
extern void (*inject_on_call)(enum inject_kind kind, uint64_t number);

#endif
