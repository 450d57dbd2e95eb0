/*
 * bench/measure.h - what benchmarks share: the clock, medians, host memory that is there, a software VM. What fails ends
 * the program.
 */
#ifndef BENCH_MEASURE_H
#define BENCH_MEASURE_H

#include <guestmem/soft.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

static inline double now_ns(void)
{
    struct timespec time;

    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec * 1e9 + (double)time.tv_nsec;
}

static inline void need(bool condition, const char *what)
{
    if (!condition) {
        fprintf(stderr, "bench: %s: %s\n", what, strerror(errno));
        exit(1);
    }
}

static inline int compare(const void *a, const void *b)
{
    double x = *(const double *)a;
    double y = *(const double *)b;

    return (x > y) - (x < y);
}

static inline double median(double *values, int count)
{
    qsort(values, (size_t)count, sizeof(*values), compare);
    return values[count / 2];
}

static inline double mean(const double *values, int count)
{
    double sum = 0;

    for (int i = 0; i < count; i++) {
        sum += values[i];
    }
    return sum / count;
}

static inline void *host_memory(uint64_t size_bytes)
{
    int fd = memfd_create("bench", MFD_CLOEXEC);
    void *memory;

    need(fd != -1 && ftruncate(fd, (off_t)size_bytes) == 0, "memfd");
    memory = mmap(NULL, size_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    need(memory != MAP_FAILED, "mmap");
    need(madvise(memory, size_bytes, MADV_POPULATE_WRITE) == 0, "populate");
    close(fd);
    return memory;
}

static inline struct gm_soft *open_vm(const struct gm_soft_options *options)
{
    struct gm_soft *soft;
    struct gm_diag diag;

    if (gm_soft_open(options, &soft, &diag) != 0) {
        fprintf(stderr, "bench: %s\n", diag.text);
        exit(1);
    }
    return soft;
}

#endif
