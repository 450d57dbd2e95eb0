/* base/lines.c - reading a text in lines. */
#include "base/lines.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

void lines_open(struct lines *lines, const char *path)
{
    int saved_errno = errno;

    lines->fd = open(path, O_RDONLY | O_CLOEXEC);
    lines->used = 0;
    lines->filled = 0;
    errno = saved_errno;
}

void lines_close(struct lines *lines)
{
    if (lines->fd >= 0) {
        close(lines->fd);
    }
}

/* Fill the buffer anew. False at the end, or where it cannot be read. */
static bool fill(struct lines *lines)
{
    int saved_errno = errno;
    ssize_t got;

    do {
        got = lines->fd >= 0 ? read(lines->fd, lines->buffer, sizeof(lines->buffer)) : 0;
    } while (got < 0 && errno == EINTR);
    errno = saved_errno;
    lines->used = 0;
    lines->filled = got > 0 ? (size_t)got : 0;
    return got > 0;
}

bool lines_next(struct lines *lines, char *line, size_t size)
{
    size_t length = 0;

    for (;;) {
        char c;

        if (lines->used == lines->filled && !fill(lines)) {
            return false;
        }
        c = lines->buffer[lines->used++];
        if (c == '\n') {
            line[length] = '\0';
            return true;
        }
        if (length < size - 1) {
            line[length++] = c;
        }
    }
}
