/* mmu/host.c - the host's memory behind a slot. */
#include "mmu/host.h"

#include "base/lines.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

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
    struct lines lines;
    char line[256];

    lines_open(&lines, "/proc/self/smaps");
    while (lines_next(&lines, line, sizeof(line)) && take_line(&backing, line)) {
    }
    lines_close(&lines);
    return backing.next < backing.end || backing.page_kib < 4 ? PAGE_BYTES_4K
                                                              : backing.page_kib << 10;
}

unsigned host_present_pages(struct hva hva, unsigned page_count)
{
    unsigned char present[HOST_PRESENT_MAX];
    int saved_errno = errno;
    unsigned count = 0;

    // NOLINTNEXTLINE(performance-no-int-to-ptr): the address may be anyone's
    if (mincore((void *)(uintptr_t)hva.value, (size_t)page_count << PAGE_SHIFT_4K, present) == 0) {
        while (count < page_count && (present[count] & 1) != 0) {
            count++;
        }
    }
    errno = saved_errno;
    return count;
}

/* A line of /proc/self/maps: "start-end rw-s offset device inode path". */
static bool is_of_shared_memory(const char *line)
{
    static const char *const paths[] = {"/memfd:", "/dev/shm/", "/dev/zero (deleted)"};
    const char *rights = strchr(line, ' ');
    const char *path = strchr(line, '/');

    if (rights == NULL || path == NULL || strncmp(rights, " rw", 3) != 0 || rights[4] != 's') {
        return false;
    }
    for (size_t i = 0; i < sizeof(paths) / sizeof(paths[0]); i++) {
        if (strncmp(path, paths[i], strlen(paths[i])) == 0) {
            return true;
        }
    }
    return false;
}

bool host_is_shared_memory(struct hva hva, uint64_t size_bytes)
{
    uint64_t next = hva.value; /* the range is such memory up to here */
    uint64_t range_end = hva.value + size_bytes;
    struct lines lines;
    char line[256];

    lines_open(&lines, "/proc/self/maps");
    while (next < range_end && lines_next(&lines, line, sizeof(line))) {
        uint64_t start;
        uint64_t end;

        if (!is_mapping(line, &start, &end) || end <= next) {
            continue;
        }
        if (start > next || !is_of_shared_memory(line)) {
            break;
        }
        next = end;
    }
    lines_close(&lines);
    return next >= range_end;
}
