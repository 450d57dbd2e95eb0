/*
 * base/fork.h - whose memory is this: the process's that made a thing, or a copy in a child of fork()?
 *
 * A mark is a page of its own that the kernel wipes in each copy (MADV_WIPEONFORK, Linux 4.14), however the copy came about:
 * one load tells. docs/decisions/0014 has what else there was to choose from.
 *
 * In a copy only the thread that forked is left. While it takes down what is the parent's (between alone_begin() and
 * alone_end()), locks that threads of the parent held are nobody's and are taken from them, and nothing waits for readers.
 */
#ifndef BASE_FORK_H
#define BASE_FORK_H

#include <stdbool.h>

struct fork_mark {
    unsigned char *page;
};

/* Return: 0; -ENOMEM; -EOPNOTSUPP this kernel does not wipe pages. */
int fork_mark_init(struct fork_mark *mark);
void fork_mark_fini(struct fork_mark *mark);

/* Is what has this mark a copy of a parent's? Any thread; one load. */
static inline bool fork_mark_is_copy(const struct fork_mark *mark)
{
    return __atomic_load_n(mark->page, __ATOMIC_RELAXED) == 0;
}

/* Nests. */
void alone_begin(void);
void alone_end(void);
bool alone_now(void);

#endif
