/* soft/hostevent.c - eventfds that a user has given. */
#include "soft/hostevent.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define INFO_BYTES 1024u
#define ID_KEY "eventfd-id:"

/* The text of a descriptor's fdinfo, or what there is room for. */
static int read_info(int fd, char text[INFO_BYTES])
{
    char path[48];
    ssize_t size_bytes;
    int info;

    snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", fd);
    info = open(path, O_RDONLY | O_CLOEXEC);
    if (info == -1) {
        return errno == ENOENT ? -EOPNOTSUPP : -errno;
    }
    size_bytes = read(info, text, INFO_BYTES - 1);
    close(info);
    if (size_bytes < 0) {
        return -EOPNOTSUPP;
    }
    text[size_bytes] = '\0';
    return 0;
}

int hostevent_identify(int fd, uint64_t *id)
{
    char text[INFO_BYTES];
    const char *line;
    int rc;

    if (fcntl(fd, F_GETFD) == -1) {
        return -EBADF;
    }
    rc = read_info(fd, text);
    if (rc != 0) {
        return rc;
    }
    line = strstr(text, ID_KEY);
    if (line == NULL) {
        return -EINVAL;
    }
    *id = strtoull(line + strlen(ID_KEY), NULL, 10);
    return 0;
}

int hostevent_take(struct hostevent *event, int fd)
{
    int rc = hostevent_identify(fd, &event->id);

    if (rc != 0) {
        return rc;
    }
    event->fd = fcntl(fd, F_DUPFD_CLOEXEC, 0);
    return event->fd == -1 ? -errno : 0;
}

void hostevent_drop(struct hostevent *event)
{
    close(event->fd);
}

void hostevent_signal(const struct hostevent *event)
{
    const uint64_t one = 1;

    while (write(event->fd, &one, sizeof(one)) == -1 && errno == EINTR) {
    }
}
