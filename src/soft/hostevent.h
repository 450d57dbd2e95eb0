/*
 * soft/hostevent.h - eventfds that a user has given: a descriptor of our own, and which eventfd it is.
 *
 * Linux knows an eventfd by its context, whatever descriptor it is named by. We know it by the number that
 * /proc/self/fdinfo says ("eventfd-id", since Linux 5.2), which also tells what is none.
 */
#ifndef SOFT_HOSTEVENT_H
#define SOFT_HOSTEVENT_H

#include <stdint.h>

struct hostevent {
    int fd; /* ours */
    uint64_t id;
};

/* Which one is it? Return: 0; -EBADF no descriptor; -EINVAL no eventfd; -EOPNOTSUPP there is no /proc. */
int hostevent_identify(int fd, uint64_t *id);

/* Keep it. Return: as above; -EMFILE. */
int hostevent_take(struct hostevent *event, int fd);
void hostevent_drop(struct hostevent *event);

/* Signal it, as the kernel does: one more. */
void hostevent_signal(const struct hostevent *event);

#endif
