/*
 * model/random.h - random numbers for tests: a seed that is printed, and taken from GM_SEED to run
 * the same test again. Or bytes in place of chance: a fuzzer's input (fuzz/).
 */
#ifndef MODEL_RANDOM_H
#define MODEL_RANDOM_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

struct rnd {
    uint64_t state;
};

/* All random numbers are taken from here while something is left: one in the whole program, with one thread that uses it. */
struct rnd_input {
    const uint8_t *at, *end;
};
__attribute__((weak)) struct rnd_input rnd_input;

/* So many bytes, at most 8, the lowest first; fewer at the end. */
static inline uint64_t rnd_take(unsigned byte_count)
{
    uint64_t value = 0;

    for (unsigned i = 0; i < byte_count && rnd_input.at != rnd_input.end; i++) {
        value |= (uint64_t)*rnd_input.at++ << (8 * i);
    }
    return value;
}

/* Splitmix64: any seed will do. */
static inline uint64_t rnd_next(struct rnd *rnd)
{
    uint64_t mixed;

    if (rnd_input.at != rnd_input.end) {
        return rnd_take(8);
    }
    mixed = (rnd->state += 0x9e3779b97f4a7c15ull);
    mixed = (mixed ^ (mixed >> 30)) * 0xbf58476d1ce4e5b9ull;
    mixed = (mixed ^ (mixed >> 27)) * 0x94d049bb133111ebull;
    return mixed ^ (mixed >> 31);
}

/* From 0 to @end - 1; @end is not 0. */
static inline uint64_t rnd_below(struct rnd *rnd, uint64_t end)
{
    if (rnd_input.at != rnd_input.end) { /* no more bytes than it takes */
        return rnd_take(end <= 0x100 ? 1 : end <= 0x10000 ? 2 : end <= 0x100000000 ? 4 : 8) % end;
    }
    return rnd_next(rnd) % end;
}

/* True once in @n times. */
static inline bool rnd_one_in(struct rnd *rnd, uint64_t n)
{
    return rnd_below(rnd, n) == 0;
}

/* GM_SEED, or the time; printed. */
static inline uint64_t rnd_seed(const char *test)
{
    const char *given = getenv("GM_SEED");
    uint64_t seed = given != NULL ? strtoull(given, NULL, 0) : (uint64_t)time(NULL);

    printf("%s: GM_SEED=%llu\n", test, (unsigned long long)seed);
    fflush(stdout);
    return seed;
}

/* A number from the environment, or @otherwise. */
static inline uint64_t rnd_setting(const char *name, uint64_t otherwise)
{
    const char *given = getenv(name);

    return given != NULL ? strtoull(given, NULL, 0) : otherwise;
}

#endif
