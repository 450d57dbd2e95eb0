/*
 * guest/work/work.h - the workloads: compiled into the guest's program, and natively into the host's, and both must come
 * to the same numbers. What they need of where they run is declared here: user/ has it for the guest, native.c for the
 * host.
 */
#ifndef GUEST_WORK_H
#define GUEST_WORK_H

#include "guest/abi.h"

#include <stdbool.h>
#include <stddef.h>

/* Where it runs. */
void *env_heap(void);        /* USER_HEAP_BYTES of zeros */
uint8_t *env_code(void);     /* USER_CODE_BYTES, writable and executable; its own */
void env_yield(void);        /* let others run */
void *env_replaceable(void); /* a page for env_replace() */
void env_replace(void *page, uint64_t value); /* by another one, all of whose words are the value */
_Noreturn void env_fail(const char *what);    /* a workload has seen what cannot be */

/* heap.c: an allocator over env_heap(). Context: one thread. */
void heap_init(void);
void *heap_new(size_t bytes); /* not cleared */
void heap_free(void *block);

/* One thread. Return: a checksum of what was computed. */
typedef uint64_t single_fn(uint64_t rounds);
extern single_fn *const singles[WORK_SINGLES];
single_fn work_sort, work_sha256, work_lz, work_tree, work_match, work_jit, work_jump, work_matrix;

/* Two threads that share a struct pair, which begins as zeros. @who: 0, 1. The checksum is in pair->sums at the end. */
struct pair {
    uint64_t rounds;
    uint64_t sums[2];
    uint32_t barrier_count, barrier_round;
    uint8_t *code;
    void *page;
    uint64_t space[4096] __attribute__((aligned(4096))); /* of the workload's own */
};
typedef void pair_fn(struct pair *pair, unsigned who);
extern pair_fn *const pairs[WORK_PAIRS];
pair_fn pair_spinlock, pair_ticket, pair_stack, pair_seqlock, pair_wide, pair_code, pair_replace;
/* Until both have come. */
void pair_barrier(struct pair *pair);
/* In a loop that waits for the other one. */
void pair_relax(unsigned *count);

static inline uint64_t random_next(uint64_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

static inline uint64_t fold(uint64_t sum, uint64_t value)
{
    sum = (sum ^ value) * 0x9e3779b97f4a7c15ul;
    return sum ^ sum >> 29;
}

static inline void work_require(bool is_true, const char *what)
{
    if (!is_true) {
        env_fail(what);
    }
}

#endif
