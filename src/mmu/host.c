/* mmu/host.c - the host's memory behind a slot. */
#include "mmu/host.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#ifndef MADV_POPULATE_READ
#define MADV_POPULATE_READ 22
#define MADV_POPULATE_WRITE 23
#endif

#define HUGE_PAGE_MAX_KIB (1u << 20) /* 1 GiB: the largest leaf */

bool host_can_populate(void)
{
    /* Of no bytes: only the advice itself is checked. */
    return madvise(NULL, 0, MADV_POPULATE_WRITE) == 0;
}

int host_populate(struct hva hva, uint64_t size_bytes, bool for_writing)
{
    int advice = for_writing ? MADV_POPULATE_WRITE : MADV_POPULATE_READ;
    int saved_errno = errno;
    int rc;

    do {
        // NOLINTNEXTLINE(performance-no-int-to-ptr): the address may be anyone's
        rc = madvise((void *)(uintptr_t)hva.value, size_bytes, advice) == 0 ? 0 : -errno;
    } while (rc == -EINTR || rc == -EAGAIN);
    errno = saved_errno;
    /* ENOMEM is "not mapped"; no memory for the kernel itself ends as EFAULT, too. EINVAL is a
     * mapping without the right. */
    return rc == 0 || rc == -EHWPOISON ? rc : -EFAULT;
}

/* Reading a text in lines, from a descriptor, through memory on the stack. */
struct text {
    int fd;
    size_t used;
    size_t filled;
    char buffer[2048];
};

/* The next line without its end; a longer one is cut. False at the end. */
static bool next_line(struct text *text, char *line, size_t size)
{
    size_t length = 0;

    for (;;) {
        char c;

        if (text->used == text->filled) {
            ssize_t got = read(text->fd, text->buffer, sizeof(text->buffer));

            if (got == -1 && errno == EINTR) {
                continue;
            }
            if (got <= 0) {
                return false;
            }
            text->used = 0;
            text->filled = (size_t)got;
        }
        c = text->buffer[text->used++];
        if (c == '\n') {
            line[length] = '\0';
            return true;
        }
        if (length < size - 1) {
            line[length++] = c;
        }
    }
}

/* What the mappings of a range have in common. */
struct backing {
    uint64_t next; /* the range is covered up to here */
    uint64_t end;
    uint64_t page_kib; /* the smallest so far */
    bool is_within;    /* the mapping being read meets the range */
};

/* A line that begins a mapping: its range. False: it is another line. */
static bool is_mapping(const char *line, uint64_t *start, uint64_t *end)
{
    char *dash;
    char *space;

    *start = strtoull(line, &dash, 16);
    if (dash == line || *dash != '-') {
        return false;
    }
    *end = strtoull(dash + 1, &space, 16);
    return *space == ' ';
}

/* Take one line in. False: no more is needed. */
static bool take_line(struct backing *backing, const char *line)
{
    static const char page_size[] = "KernelPageSize:";
    uint64_t start;
    uint64_t end;

    if (is_mapping(line, &start, &end)) {
        if (backing->next >= backing->end) {
            return false;
        }
        if (start > backing->next) {
            backing->page_kib = 0; /* a hole */
            return false;
        }
        backing->is_within = end > backing->next;
        if (backing->is_within) {
            backing->next = end;
        }
    } else if (backing->is_within && strncmp(line, page_size, sizeof(page_size) - 1) == 0) {
        uint64_t kib = strtoull(line + sizeof(page_size) - 1, NULL, 10);

        backing->page_kib = kib < backing->page_kib ? kib : backing->page_kib;
    }
    return true;
}

uint64_t host_page_bytes(struct hva hva, uint64_t size_bytes)
{
    struct backing backing = {
        .next = hva.value,
        .end = hva.value + size_bytes,
        .page_kib = HUGE_PAGE_MAX_KIB,
    };
    int saved_errno = errno;
    struct text text = {.fd = open("/proc/self/smaps", O_RDONLY | O_CLOEXEC)};
    char line[256];

    if (text.fd != -1) {
        while (next_line(&text, line, sizeof(line)) && take_line(&backing, line)) {
        }
        close(text.fd);
    }
    errno = saved_errno;
    return backing.next < backing.end || backing.page_kib < 4 ? PAGE_BYTES_4K
                                                              : backing.page_kib << 10;
}
