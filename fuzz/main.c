/*
 * fuzz/main.c - without libFuzzer: run the inputs that are named, files or folders of them, and as many more out of
 * random numbers.
 *
 *     fuzz-NAME [--random COUNT] [--write FOLDER] [PATH...]    GM_SEED the first seed
 *
 * --write keeps the random ones. An input that takes more than HANG_S of processor time fails.
 *
 * FUZZ_ONE is the target, as in fuzz.h; FUZZ_MAKE what makes an input for it out of a seed.
 */
#include "fuzz.h"

#include "model/random.h"
#include "model/require.h"

#include <dirent.h>
#include <signal.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <unistd.h>

#define INPUT_MAX 4096u
#define HANG_S 20

static unsigned long file_count;

static void on_hang(int signal)
{
    (void)signal;
    (void)!write(STDERR_FILENO, require_place, strlen(require_place));
    (void)!write(STDERR_FILENO, ": does not end\n", 15);
    abort();
}

/* Of processor time: others may be busy. 0: no more. */
static void watch(time_t seconds)
{
    const struct itimerval timer = {.it_value = {.tv_sec = seconds}};

    signal(SIGPROF, on_hang);
    setitimer(ITIMER_PROF, &timer, NULL);
}

static void run(const uint8_t *data, size_t size)
{
    /* Its own block, so that a sanitizer sees what reads past it. */
    uint8_t *copy = malloc(size + 1);

    REQUIRE(copy != NULL, "out of memory");
    memcpy(copy, data, size);
    watch(HANG_S);
    (void)FUZZ_ONE(copy, size);
    watch(0);
    free(copy);
}

static void run_file(const char *path)
{
    uint8_t data[INPUT_MAX];
    FILE *file = fopen(path, "rb");
    size_t size;

    REQUIRE(file != NULL, "%s", path);
    size = fread(data, 1, sizeof(data), file);
    fclose(file);
    snprintf(require_place, sizeof(require_place), "%.150s", path);
    run(data, size);
    file_count++;
}

static void run_path(const char *path)
{
    struct stat status;
    struct dirent *entry;
    char name[512];
    DIR *folder;

    REQUIRE(stat(path, &status) == 0, "%s", path);
    if (!S_ISDIR(status.st_mode)) {
        run_file(path);
        return;
    }
    folder = opendir(path);
    REQUIRE(folder != NULL, "%s", path);
    while ((entry = readdir(folder)) != NULL) {
        if (entry->d_name[0] != '.') {
            snprintf(name, sizeof(name), "%.200s/%.255s", path, entry->d_name);
            run_file(name);
        }
    }
    closedir(folder);
}

static void write_file(const char *folder, uint64_t seed, const uint8_t *data, size_t size)
{
    char name[512];
    FILE *file;

    snprintf(name, sizeof(name), "%.400s/%llu", folder, (unsigned long long)seed);
    file = fopen(name, "wb");
    REQUIRE(file != NULL && fwrite(data, 1, size, file) == size && fclose(file) == 0, "%s", name);
}

static void run_random(uint64_t count, const char *folder)
{
    uint64_t seed = rnd_seed("fuzz");
    uint8_t data[INPUT_MAX];

    for (uint64_t i = 0; i < count; i++) {
        size_t size = FUZZ_MAKE(data, sizeof(data), seed + i);

        snprintf(require_place, sizeof(require_place), "GM_SEED=%llu",
                 (unsigned long long)(seed + i));
        if (folder != NULL) {
            write_file(folder, seed + i, data, size);
        }
        run(data, size);
    }
    printf("%llu random inputs\n", (unsigned long long)count);
}

int main(int argc, char **argv)
{
    const char *folder = NULL;
    uint64_t count = 0;

    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--random") == 0 && i + 1 < argc) {
            count = strtoull(argv[++i], NULL, 0);
        } else if (strcmp(argv[i], "--write") == 0 && i + 1 < argc) {
            folder = argv[++i];
        } else {
            run_path(argv[i]);
        }
    }
    printf("%lu inputs of files\n", file_count);
    if (count > 0) {
        run_random(count, folder);
    }
    return 0;
}
