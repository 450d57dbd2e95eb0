/*
 * bench/measure.h - what benchmarks share: the clock, medians, random addresses, host memory that is there, a software VM;
 * and how bench/run talks to them. What fails ends the program.
 *
 * A benchmark is a program with named cases. `PROGRAM --list` prints the names; `PROGRAM NAME...` measures by hand;
 * without arguments it reads a name a line, and answers each with one number, or "absent". So bench/run has ours
 * and the peers measured in turn, whatever language they are in, each with its state set up and warm.
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

/* ---- a loop, timed in batches ---- */

/*
 * @body does its work @count times. Batches are to be short beside a scheduler's slice, some 100 us, so that most of them
 * are whole; the median is one of those. One batch before them warms up.
 * Return: nanoseconds for each time.
 */
#define BENCH_BATCHES 15
#define BENCH_BATCHES_MAX 255

static inline double time_batches(void (*body)(void *context, uint64_t count), void *context,
                                  uint64_t count, int batches)
{
    double samples[BENCH_BATCHES_MAX];

    body(context, count);
    for (int i = 0; i < batches; i++) {
        double before = now_ns();

        body(context, count);
        samples[i] = (now_ns() - before) / (double)count;
    }
    return median(samples, batches);
}

static inline double time_loop(void (*body)(void *context, uint64_t count), void *context,
                               uint64_t count)
{
    return time_batches(body, context, count, BENCH_BATCHES);
}

/* The value is used, and memory may have changed, as far as the compiler knows. */
static inline void keep(uint64_t value)
{
    __asm__ volatile("" : : "r"(value) : "memory");
}

/* A fixed sequence, the same in every peer program: a 64-bit LCG's high half (Knuth's MMIX constants). */
static inline uint32_t random_next(uint64_t *state)
{
    *state = *state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(*state >> 32);
}

/* ---- cases ---- */

#define BENCH_CASES_MAX 128
#define BENCH_ABSENT (-1e300) /* what it needs is not on this machine */

typedef double measure_fn(uint64_t a, uint64_t b);

struct bench_case {
    char name[48];
    measure_fn *measure;
    uint64_t a;
    uint64_t b;
};

static struct bench_case bench_cases[BENCH_CASES_MAX];
static int bench_case_count;

/* Add a case; @name may hold one %u, for @a. */
static inline void add_case(const char *name, measure_fn *measure, uint64_t a, uint64_t b)
{
    struct bench_case *added = &bench_cases[bench_case_count++];
    const char *number = strstr(name, "%u");

    need(bench_case_count < BENCH_CASES_MAX, "cases");
    *added = (struct bench_case){.measure = measure, .a = a, .b = b};
    if (number != NULL) {
        snprintf(added->name, sizeof(added->name), "%.*s%llu%s", (int)(number - name), name,
                 (unsigned long long)a, number + 2);
    } else {
        snprintf(added->name, sizeof(added->name), "%s", name);
    }
}

static inline void answer_case(const char *name)
{
    for (int i = 0; i < bench_case_count; i++) {
        if (strcmp(bench_cases[i].name, name) == 0) {
            double value = bench_cases[i].measure(bench_cases[i].a, bench_cases[i].b);

            if (value <= BENCH_ABSENT) {
                printf("absent\n");
            } else {
                printf("%.6g\n", value);
            }
            fflush(stdout);
            return;
        }
    }
    fprintf(stderr, "bench: no case %s\n", name);
    exit(2);
}

/* Return: what main() returns. */
static inline int serve_cases(int argc, char **argv)
{
    char line[64];

    if (argc == 2 && strcmp(argv[1], "--list") == 0) {
        for (int i = 0; i < bench_case_count; i++) {
            printf("%s\n", bench_cases[i].name);
        }
        return 0;
    }
    for (int i = 1; i < argc; i++) {
        printf("%s ", argv[i]);
        answer_case(argv[i]);
    }
    while (argc == 1 && fgets(line, sizeof(line), stdin) != NULL) {
        line[strcspn(line, "\n")] = '\0';
        answer_case(line);
    }
    return 0;
}

#endif
