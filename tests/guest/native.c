/* guest/native.c - the workloads on the host's own processor, with what they need of it. Built without sanitizers. */
#include "guest/native.h"

#include "guest/work/work.h"

#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static void *heap;
static uint8_t *code;
static struct {
    uint8_t *page;
    int file; /* two pages that are mapped in turn */
    unsigned turn;
} replaceable;

static struct pair pair;
static unsigned pair_number;

_Noreturn void env_fail(const char *what)
{
    fprintf(stderr, "native: %s\n", what);
    abort();
}

static void *map(size_t bytes, int protection)
{
    void *memory = mmap(NULL, bytes, protection, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    work_require(memory != MAP_FAILED, "mmap");
    return memory;
}

void *env_heap(void)
{
    return heap;
}

uint8_t *env_code(void)
{
    return code;
}

void env_yield(void)
{
    sched_yield();
}

void *env_replaceable(void)
{
    return replaceable.page;
}

void env_replace(void *page, uint64_t value)
{
    uint64_t words[GUEST_PAGE / sizeof(uint64_t)];
    off_t offset = (off_t)(GUEST_PAGE * (replaceable.turn++ % 2));

    for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
        words[i] = value;
    }
    work_require(pwrite(replaceable.file, words, sizeof(words), offset) == sizeof(words) &&
                     mmap(page, GUEST_PAGE, PROT_READ, MAP_SHARED | MAP_FIXED, replaceable.file,
                          offset) == page,
                 "mmap of the next page");
}

static void *run_second(void *unused)
{
    (void)unused;
    pairs[pair_number](&pair, 1);
    return NULL;
}

static uint64_t run_pair(unsigned number, uint64_t rounds)
{
    pthread_t thread;

    memset(&pair, 0, sizeof(pair));
    pair_number = number;
    pair.rounds = rounds;
    pair.code = code;
    pair.page = replaceable.page;
    env_replace(replaceable.page, 0);
    work_require(pthread_create(&thread, NULL, run_second, NULL) == 0, "pthread_create");
    pairs[number](&pair, 0);
    pthread_join(thread, NULL);
    return fold(pair.sums[0], pair.sums[1]);
}

void native_results(uint64_t rounds, uint64_t *results)
{
    heap = map(USER_HEAP_BYTES, PROT_READ | PROT_WRITE);
    code = map(USER_CODE_BYTES, PROT_READ | PROT_WRITE | PROT_EXEC);
    replaceable.file = memfd_create("pages", MFD_CLOEXEC);
    work_require(ftruncate(replaceable.file, 2 * GUEST_PAGE) == 0, "memfd_create");
    replaceable.page = map(GUEST_PAGE, PROT_READ);
    for (unsigned i = 0; i < WORK_SINGLES; i++) {
        heap_init();
        results[RESULT_SINGLE + i] = singles[i](rounds);
    }
    for (unsigned i = 0; i < WORK_PAIRS; i++) {
        results[RESULT_PAIR + i] = run_pair(i, rounds);
    }
    munmap(replaceable.page, GUEST_PAGE);
    close(replaceable.file);
    munmap(code, USER_CODE_BYTES);
    munmap(heap, USER_HEAP_BYTES);
}
