/*
 * base/lines.h - reading what the kernel tells as text (/proc, /sys) line by line, through memory
 * on the stack: no allocation, errno stays.
 */
#ifndef BASE_LINES_H
#define BASE_LINES_H

#include <stdbool.h>
#include <stddef.h>

struct lines {
    int fd; /* -1: there is no such file, and no line */
    size_t used;
    size_t filled;
    char buffer[2048];
};

void lines_open(struct lines *lines, const char *path);
void lines_close(struct lines *lines);

/* The next line without its end; a longer one is cut. False at the end. */
bool lines_next(struct lines *lines, char *line, size_t size);

#endif
