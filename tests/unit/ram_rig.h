/*
 * unit/ram_rig.h - blocks of every kind for tests: what makes them, and how much host memory each
 * one holds, as the kernel counts it.
 *
 * Huge pages: who may write nr_hugepages reserves some for the test, and gives them back; others
 * skip, with a count.
 */
#ifndef UNIT_RAM_RIG_H
#define UNIT_RAM_RIG_H

#include <guestmem/guestmem.h>

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#define PAGE ((uint64_t)4096)
#define MIB ((uint64_t)1 << 20)
#define HUGE (2 * MIB)
#define FILE_BYTE 0x66 /* what the rig's files are full of */

/* ---- kinds ---- */

enum rig_kind {
    RIG_ANON,
    RIG_SHARED,
    RIG_MEMFD,
    RIG_HUGETLB,
    RIG_FILE_SHARED,
    RIG_FILE_PRIVATE,
    RIG_FILE_READONLY, /* private, of a descriptor for reading */
    RIG_CALLER_PRIVATE,
    RIG_CALLER_SHARED,
    RIG_KINDS, /* those above have memory */
    RIG_UNBACKED = RIG_KINDS,
};

static inline bool rig_is_file(enum rig_kind kind)
{
    return kind >= RIG_FILE_SHARED && kind <= RIG_FILE_READONLY;
}

static inline bool rig_is_caller(enum rig_kind kind)
{
    return kind == RIG_CALLER_PRIVATE || kind == RIG_CALLER_SHARED;
}

/* A new file full of FILE_BYTE without a name. */
static inline int rig_file(uint64_t size_bytes, int mode)
{
    char name[] = "/tmp/guestmem-test-XXXXXX";
    int fd = mkstemp(name);
    int again;
    uint8_t bytes[4096];

    assert_true(fd >= 0);
    memset(bytes, FILE_BYTE, sizeof(bytes));
    for (uint64_t at = 0; at < size_bytes; at += sizeof(bytes)) {
        size_t count = size_bytes - at < sizeof(bytes) ? (size_t)(size_bytes - at) : sizeof(bytes);

        assert_int_equal(write(fd, bytes, count), count);
    }
    again = open(name, mode | O_CLOEXEC);
    assert_true(again >= 0);
    assert_int_equal(unlink(name), 0);
    close(fd);
    return again;
}

static inline void rig_unmap(void *opaque, void *memory, uint64_t size_bytes)
{
    unsigned *count = opaque;

    assert_int_equal(munmap(memory, size_bytes), 0);
    if (count != NULL) {
        ++*count;
    }
}

static inline void *rig_map(uint64_t size_bytes, int flags)
{
    void *memory = mmap(NULL, size_bytes, PROT_READ | PROT_WRITE, flags | MAP_ANONYMOUS, -1, 0);

    assert_true(memory != MAP_FAILED);
    return memory;
}

/*
 * The options of a kind. A file's descriptor is the test's to close; the caller's memory goes
 * with the block.
 */
static inline struct gm_ram_options rig_options(enum rig_kind kind, uint64_t size_bytes)
{
    static const enum gm_ram_kind KINDS[] = {
        [RIG_ANON] = GM_RAM_ANON,
        [RIG_SHARED] = GM_RAM_SHARED,
        [RIG_MEMFD] = GM_RAM_MEMFD,
        [RIG_HUGETLB] = GM_RAM_HUGETLB,
        [RIG_FILE_SHARED] = GM_RAM_FILE,
        [RIG_FILE_PRIVATE] = GM_RAM_FILE,
        [RIG_FILE_READONLY] = GM_RAM_FILE,
        [RIG_CALLER_PRIVATE] = GM_RAM_CALLER,
        [RIG_CALLER_SHARED] = GM_RAM_CALLER,
        [RIG_UNBACKED] = GM_RAM_UNBACKED,
    };
    struct gm_ram_options options = {
        .size = sizeof(options),
        .kind = KINDS[kind],
        .size_bytes = size_bytes,
        .fd = -1,
    };

    if (kind == RIG_MEMFD || kind == RIG_HUGETLB) {
        options.name = "test";
    }
    if (rig_is_file(kind)) {
        options.fd = rig_file(size_bytes, kind == RIG_FILE_READONLY ? O_RDONLY : O_RDWR);
        options.flags = kind != RIG_FILE_SHARED ? GM_RAM_PRIVATE : 0;
    }
    if (rig_is_caller(kind)) {
        options.memory = rig_map(size_bytes, kind == RIG_CALLER_SHARED ? MAP_SHARED : MAP_PRIVATE);
        options.release = rig_unmap;
    }
    return options;
}

static inline struct gm_ram *rig_make(const struct gm_ram_options *options)
{
    struct gm_ram *ram = NULL;
    struct gm_diag diag = {0};
    int rc = gm_ram_new(options, &ram, &diag);

    if (rc != 0) {
        fail_msg("no block of kind %d: %d %s", (int)options->kind, rc, diag.text);
    }
    if (options->fd >= 0) {
        close(options->fd);
    }
    return ram;
}

static inline struct gm_ram *rig_new(enum rig_kind kind, uint64_t size_bytes)
{
    struct gm_ram_options options = rig_options(kind, size_bytes);

    return rig_make(&options);
}

/* What a block that was written nowhere reads as, or a page that was discarded. */
static inline uint8_t rig_fresh_byte(enum rig_kind kind, bool was_discarded)
{
    return rig_is_file(kind) && !(kind == RIG_FILE_SHARED && was_discarded) ? FILE_BYTE : 0;
}

/* ---- huge pages ---- */

#define RIG_NR_HUGE "/proc/sys/vm/nr_hugepages"
#define RIG_FREE_HUGE "/sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages"

static inline long rig_read_number(const char *path)
{
    FILE *file = fopen(path, "re");
    long number = -1;

    if (file != NULL) {
        if (fscanf(file, "%ld", &number) != 1) {
            number = -1;
        }
        fclose(file);
    }
    return number;
}

static inline bool rig_write_number(const char *path, long number)
{
    FILE *file = fopen(path, "we");
    bool is_written = file != NULL && fprintf(file, "%ld", number) > 0;

    return file != NULL && fclose(file) == 0 && is_written;
}

#define RIG_HUGE_LOCK "/tmp/guestmem-test-huge" /* one test at a time counts them */

static long rig_huge_before = -1; /* what nr_hugepages was; -1: it is as it was */
static int rig_huge_lock = -1;

static inline void rig_give_huge_back(void)
{
    if (rig_huge_before >= 0) {
        (void)rig_write_number(RIG_NR_HUGE, rig_huge_before);
        rig_huge_before = -1;
        close(rig_huge_lock);
    }
}

/* Exactly @count free huge pages of 2 MiB, or false: the host does not let us have them. */
static inline bool rig_reserve_huge(long count)
{
    long total;
    long free_count;

    if (access(RIG_NR_HUGE, W_OK) != 0 || rig_read_number(RIG_FREE_HUGE) < 0) {
        return false;
    }
    if (rig_huge_before < 0) {
        rig_huge_lock = open(RIG_HUGE_LOCK, O_CREAT | O_RDWR | O_CLOEXEC, 0600);
        if (rig_huge_lock < 0 || flock(rig_huge_lock, LOCK_EX) != 0) {
            return false;
        }
        rig_huge_before = rig_read_number(RIG_NR_HUGE);
        atexit(rig_give_huge_back);
    }
    total = rig_read_number(RIG_NR_HUGE);
    free_count = rig_read_number(RIG_FREE_HUGE);
    return rig_write_number(RIG_NR_HUGE, total + count - free_count) &&
           rig_read_number(RIG_FREE_HUGE) == count;
}

/* In a test that needs @count: skips without. */
#define RIG_NEEDS_HUGE(count)                                                                      \
    do {                                                                                           \
        if (!rig_reserve_huge(count)) {                                                            \
            print_message("skipped: no %d huge pages to reserve\n", (int)(count));                 \
            skip();                                                                                \
        }                                                                                          \
    } while (0)

/* Whether a loop over kinds leaves this one out. */
static inline bool rig_lacks(enum rig_kind kind, long huge_count)
{
    return kind == RIG_HUGETLB && !rig_reserve_huge(huge_count);
}

/* ---- how much memory is held ---- */

/* Pages of the range that this process has for itself. */
static inline uint64_t rig_private_pages(const void *start, uint64_t size_bytes)
{
    int fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
    uint64_t count = 0;

    assert_true(fd >= 0);
    for (uint64_t i = 0; i < size_bytes / PAGE; i++) {
        off_t at = (off_t)(((uintptr_t)start / PAGE + i) * 8);
        uint64_t entry;

        assert_int_equal(pread(fd, &entry, sizeof(entry), at), sizeof(entry));
        /* present or swapped, and no page of a file's or of shared memory */
        count += (entry >> 62) != 0 && (entry >> 61 & 1) == 0;
    }
    close(fd);
    return count;
}

/* Pages of shared memory that are in memory, whoever maps them. */
static inline uint64_t rig_shared_pages(void *start, uint64_t size_bytes)
{
    uint64_t pages = size_bytes / PAGE;
    unsigned char *resident = malloc(pages);
    uint64_t count = 0;

    assert_non_null(resident);
    assert_int_equal(mincore(start, size_bytes, resident), 0);
    for (uint64_t i = 0; i < pages; i++) {
        count += resident[i] & 1;
    }
    free(resident);
    return count;
}

/* Pages that a file has. */
static inline uint64_t rig_file_pages(int fd)
{
    struct stat status;

    assert_int_equal(fstat(fd, &status), 0);
    return (uint64_t)status.st_blocks * 512 / PAGE;
}

/* Pages of 4 KiB that the block holds. */
static inline uint64_t rig_held_pages(enum rig_kind kind, struct gm_ram *ram)
{
    switch (kind) {
    case RIG_SHARED:
    case RIG_CALLER_SHARED:
        return rig_shared_pages(gm_ram_hva(ram), gm_ram_size(ram));
    case RIG_MEMFD:
    case RIG_HUGETLB:
    case RIG_FILE_SHARED:
        return rig_file_pages(gm_ram_fd(ram));
    default:
        return rig_private_pages(gm_ram_hva(ram), gm_ram_size(ram));
    }
}

static inline void assert_bytes(const void *start, uint64_t size_bytes, uint8_t value)
{
    const uint8_t *bytes = start;

    for (uint64_t i = 0; i < size_bytes; i++) {
        if (bytes[i] != value) {
            fail_msg("byte 0x%llx is 0x%x, not 0x%x", (unsigned long long)i, bytes[i], value);
        }
    }
}

#endif
