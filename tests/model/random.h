/*
 * model/random.h - random numbers for tests: a seed that is printed, and taken from GM_SEED to run
 * the same test again.
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

/* Splitmix64: any seed will do. */
static inline uint64_t rnd_next(struct rnd *rnd)
{
    uint64_t mixed = (rnd->state += 0x9e3779b97f4a7c15ull);

    mixed = (mixed ^ (mixed >> 30)) * 0xbf58476d1ce4e5b9ull;
    mixed = (mixed ^ (mixed >> 27)) * 0x94d049bb133111ebull;
    return mixed ^ (mixed >> 31);
}

/* From 0 to @end - 1; @end is not 0. */
static inline uint64_t rnd_below(struct rnd *rnd, uint64_t end)
{
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
