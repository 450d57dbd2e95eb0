/* soak/samples.c - what the soak takes, over time: the second half of it may not be above the first. */
#include "soak.h"

#include "soft/soft.h"

#include <dirent.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define SAMPLE_MS 250u
/* Of a quarter of the time, but at most so much, nothing is compared: pages are touched for the first time, mappings split. */
#define WARM_UP_SECONDS_MAX 60
#define PROGRESS_SAMPLES 20u /* between two lines on a terminal */
#define STUCK_SAMPLES 480u   /* without a step, a commit, a harvest or an invalidation */

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define IS_SANITIZED true
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define IS_SANITIZED true
#endif
#endif
#ifndef IS_SANITIZED
#define IS_SANITIZED false
#endif

enum measure {
    MEASURE_RSS,
    MEASURE_BYTES,
    MEASURE_COUNT,
    MEASURE_TABLES,
    MEASURE_SHADOWS,
    MEASURE_RETIRED,
    MEASURE_FILES,
    MEASURE_MAPPINGS,
    MEASURE_THREADS,
    MEASURES,
};

/*
 * By how much the largest of the second half may exceed the largest of the first, and the mean the mean. What is allocated goes up and down with
 * what is plugged, logged and waiting to be freed, so a mean says more than a peak; and a machine under load is still warming up when 20 s
 * are over. A sanitizer keeps what is freed, so there RSS is not compared.
 */
static const struct {
    const char *name;
    uint64_t peak_more;
    uint64_t mean_more;
} measures[MEASURES] = {
    [MEASURE_RSS] = {"RSS, KiB", 4096, 1024},
    [MEASURE_BYTES] = {"allocated bytes", 512 << 10, 256 << 10},
    [MEASURE_COUNT] = {"allocations", 2000, 1000},
    [MEASURE_TABLES] = {"table pages", 64, 32},
    [MEASURE_SHADOWS] = {"shadow pages", 64, 32},
    [MEASURE_RETIRED] = {"retired versions", 64, 32},
    [MEASURE_FILES] = {"descriptors", 4, 2},
    [MEASURE_MAPPINGS] = {"mappings", 128, 128},
    [MEASURE_THREADS] = {"threads", 0, 0},
};

struct half {
    uint64_t samples;
    uint64_t peak[MEASURES];
    uint64_t sum[MEASURES];
};

/* ---- one sample ---- */

static uint64_t count_lines(const char *path)
{
    FILE *file = fopen(path, "r");
    uint64_t count = 0;
    int byte;

    REQUIRE(file != NULL, "%s", path);
    while ((byte = getc_unlocked(file)) != EOF) {
        count += byte == '\n';
    }
    fclose(file);
    return count;
}

/* Without the folder's own descriptor. */
static uint64_t count_entries(const char *path)
{
    DIR *folder = opendir(path);
    uint64_t count = 0;

    REQUIRE(folder != NULL, "%s", path);
    for (struct dirent *entry = readdir(folder); entry != NULL; entry = readdir(folder)) {
        count += entry->d_name[0] != '.';
    }
    closedir(folder);
    return count;
}

static uint64_t resident_kib(void)
{
    FILE *file = fopen("/proc/self/statm", "r");
    unsigned long long all;
    unsigned long long resident;

    REQUIRE(file != NULL && fscanf(file, "%llu %llu", &all, &resident) == 2, "statm");
    fclose(file);
    return resident * ((uint64_t)sysconf(_SC_PAGESIZE) / 1024);
}

static void take_sample(struct soak *soak, uint64_t sample[static MEASURES])
{
    memset(sample, 0, MEASURES * sizeof(sample[0]));
    sample[MEASURE_RSS] = resident_kib();
    sample[MEASURE_BYTES] = (uint64_t)atomic_load(&soak->use.bytes);
    sample[MEASURE_COUNT] = (uint64_t)atomic_load(&soak->use.count);
    sample[MEASURE_FILES] = count_entries("/proc/self/fd") - 1;
    sample[MEASURE_MAPPINGS] = count_lines("/proc/self/maps");
    sample[MEASURE_THREADS] = count_entries("/proc/self/task");
    if (soak->soft != NULL) {
        struct gm_soft_stats stats;

        gm_soft_stats(soak->soft, &stats);
        sample[MEASURE_TABLES] = stats.table_pages;
        sample[MEASURE_SHADOWS] = stats.shadow_pages;
        sample[MEASURE_RETIRED] = atomic_load(&soak->soft->core.dead_count);
    }
}

static void add_sample(struct half *half, const uint64_t sample[static MEASURES])
{
    half->samples++;
    for (unsigned i = 0; i < MEASURES; i++) {
        half->sum[i] += sample[i];
        half->peak[i] = sample[i] > half->peak[i] ? sample[i] : half->peak[i];
    }
}

/* ---- all of them ---- */

static uint64_t steps(const struct soak *soak)
{
    uint64_t sum = 0;

    for (unsigned i = 0; i < SOAK_VCPUS; i++) {
        sum += soak_done(soak, i) / SOAK_STEP;
    }
    return sum;
}

static void show_progress(struct soak *soak, double seconds, const uint64_t sample[static MEASURES])
{
    fprintf(stderr,
            "soak %s: %.0f s, %.1f million steps, %llu commits, %llu harvests, %llu invalidations, "
            "RSS %" PRIu64 " KiB\n",
            soak->mode->name, seconds, (double)steps(soak) / 1e6, atomic_load(&soak->commits),
            atomic_load(&soak->harvests), atomic_load(&soak->invalidations), sample[MEASURE_RSS]);
}

/* Each of the four does something in any two minutes. */
static void require_progress(struct soak *soak, uint64_t sample_number)
{
    static const char *const names[] = {"steps", "commits", "harvests", "invalidations"};
    static uint64_t before[4];
    static uint64_t since[4];
    const uint64_t now[4] = {steps(soak), atomic_load(&soak->commits), atomic_load(&soak->harvests),
                             atomic_load(&soak->invalidations)};

    for (unsigned i = 0; i < 4; i++) {
        if (sample_number == 0 || now[i] != before[i]) {
            before[i] = now[i];
            since[i] = sample_number;
        }
        REQUIRE(sample_number - since[i] < STUCK_SAMPLES, "no more %s after %" PRIu64, names[i],
                now[i]);
    }
}

static void compare(const struct half halves[static 2])
{
    bool has_grown = false;

    printf("%-18s %12s %12s %12s %12s\n", "", "1st: mean", "peak", "2nd: mean", "peak");
    for (unsigned i = 0; i < MEASURES; i++) {
        uint64_t first = halves[0].sum[i] / halves[0].samples;
        uint64_t second = halves[1].sum[i] / halves[1].samples;
        bool is_more = second > first + measures[i].mean_more ||
                       halves[1].peak[i] > halves[0].peak[i] + measures[i].peak_more;

        is_more &= i != MEASURE_RSS || !IS_SANITIZED;
        has_grown |= is_more;
        printf("%-18s %12" PRIu64 " %12" PRIu64 " %12" PRIu64 " %12" PRIu64 "%s\n",
               measures[i].name, first, halves[0].peak[i], second, halves[1].peak[i],
               is_more ? "  grows" : "");
    }
    fflush(stdout);
    REQUIRE(!has_grown, "what is marked grows without bound");
}

static double seconds_since(const struct timespec *start)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)(now.tv_sec - start->tv_sec) + (double)(now.tv_nsec - start->tv_nsec) / 1e9;
}

static void report(struct soak *soak, double seconds)
{
    struct gm_slots_stats slots;

    gm_slots_stats(gm_vm_slots(soak->vm), &slots);
    printf("%s, %.0f s: %.1f million steps, %llu commits of %llu edits (slots: %" PRIu64
           " created, %" PRIu64 " deleted, %" PRIu64 " flags), vCPUs held %" PRIu64
           " times, %.1f s\n",
           soak->mode->name, seconds, (double)steps(soak) / 1e6, atomic_load(&soak->commits),
           atomic_load(&soak->edits), slots.creates, slots.destroys, slots.flag_changes,
           slots.holds, (double)slots.hold_ns / 1e9);
    printf(
        "%llu harvests of %llu pages, %llu invalidations, %llu pages replaced, %llu times parked, "
        "%llu words compared\n",
        atomic_load(&soak->harvests), atomic_load(&soak->harvested_pages),
        atomic_load(&soak->invalidations), atomic_load(&soak->replaced_pages),
        atomic_load(&soak->parkings), atomic_load(&soak->compared_words));
    fflush(stdout);
}

void soak_watch(struct soak *soak, unsigned seconds)
{
    const struct timespec pause = {.tv_nsec = SAMPLE_MS * 1000000L};
    struct half halves[2] = {{0}};
    double warm_up = seconds / 4.0 < WARM_UP_SECONDS_MAX ? seconds / 4.0 : WARM_UP_SECONDS_MAX;
    struct timespec start;
    uint64_t number = 0;
    double passed;

    clock_gettime(CLOCK_MONOTONIC, &start);
    while ((passed = seconds_since(&start)) < seconds) {
        uint64_t sample[MEASURES];

        nanosleep(&pause, NULL);
        take_sample(soak, sample);
        if (passed >= warm_up) {
            add_sample(&halves[passed - warm_up >= (seconds - warm_up) / 2], sample);
        }
        require_progress(soak, number);
        if (++number % PROGRESS_SAMPLES == 0 && isatty(STDERR_FILENO)) {
            show_progress(soak, passed, sample);
        }
    }
    report(soak, seconds_since(&start));
    REQUIRE(halves[0].samples > 0 && halves[1].samples > 0, "too short");
    compare(halves);
}
