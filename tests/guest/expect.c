/*
 * guest/expect.c - what the probes of user/probes.c have to come to: which faults, with which error codes (Intel SDM 3A,
 * 4.7), and how many of which kind the kernel has to handle, from what each does.
 */
#include "guest/expect.h"

#include "guest/work/work.h"

#define PAGES 24u

enum { P = 1, W = 2, U = 4, I = 16 };
enum { DE = 0, BP = 3, UD = 6, GP = 13, PF = 14 };

struct seen {
    uint64_t vector, error, address;
};

static uint64_t fold_seen(uint64_t sum, struct seen seen)
{
    return fold(fold(fold(sum, seen.vector), seen.error), seen.address);
}

/* Counts by COUNTER_ZERO to COUNTER_TRAP. */
static uint64_t fold_counts(uint64_t sum, const uint64_t counts[COUNTERS])
{
    for (unsigned i = 0; i <= COUNTER_TRAP; i++) {
        sum = fold(sum, counts[i]);
    }
    return sum;
}

static uint64_t faults(void)
{
    const uint64_t kernel = GUEST_KERNEL_BASE + GUEST_KERNEL;
    const struct seen all[] = {
        {PF, U, 0x10},
        {PF, U | W, 0x1010},
        {PF, U | I, 0x2010},
        {PF, P | U | I, USER_MAPPINGS},
        {PF, U | I, USER_MAPPINGS + GUEST_PAGE},
        {PF, P | U | W, USER_IMAGE},
        {PF, P | U, kernel},
        {PF, P | U | W, kernel},
        {PF, P | U | I, kernel},
        {PF, U, 0xffffc00000000000},
        {GP, 0, 0}, /* not canonical */
        {DE, 0, 0},
        {UD, 0, 0},
        {BP, 0, 0},
        {GP, 0, 0}, /* STI */
        {PF, P | U | W, USER_MAPPINGS + 8},
        {0, 0, 0}, /* a read of what may be read */
        {PF, U, USER_MAPPINGS + 8},
    };
    uint64_t sum = 0;

    for (unsigned i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
        sum = fold_seen(sum, all[i]);
    }
    return sum;
}

static uint64_t demand(void)
{
    uint64_t sum = 0;

    for (uint64_t i = 0; i < PAGES; i++) {
        sum += i < PAGES / 3 || i >= 2 * PAGES / 3 ? i + 1 : 0;
    }
    return fold_counts(sum, (uint64_t[COUNTERS]){[COUNTER_ZERO] = 2 * PAGES / 3,
                                                 [COUNTER_ANONYMOUS] = PAGES / 3,
                                                 [COUNTER_COPY] = PAGES / 3});
}

static uint64_t fork_child(uint64_t pages, uint64_t words_sum)
{
    uint64_t sum = 0;

    words_sum += pages * 1000;
    if (pages > 1) {
        sum = fork_child(pages / 2, words_sum);
    }
    return fold(sum, words_sum);
}

static uint64_t forks(void)
{
    const uint64_t words_sum = PAGES * (PAGES - 1) / 2;
    uint64_t sum = fold(fork_child(PAGES / 2, words_sum), words_sum);

    sum = fold(sum, 0);     /* copies: all children have ended */
    sum = fold(sum, PAGES); /* pages that became writable again */
    return fold(sum, words_sum + 7 * PAGES);
}

static uint64_t stack(void)
{
    uint64_t sum = 0;

    for (uint64_t i = PAGES; i > 0; i--) {
        sum = fold(sum, i);
    }
    sum = fold_counts(sum,
                      (uint64_t[COUNTERS]){[COUNTER_ANONYMOUS] = PAGES, [COUNTER_GROWTH] = PAGES});
    return fold_seen(sum, (struct seen){PF, U, USER_STACK_END - USER_STACK_BYTES - 8});
}

static uint64_t large(void)
{
    const uint64_t words_sum = 1024 * 1023 / 2;
    uint64_t sum = fold(0, 2);

    sum = fold(sum, fold(words_sum - 100 + 5, 1));
    sum = fold(sum, words_sum);
    sum = fold(sum, 2);
    sum = fold_seen(sum, (struct seen){PF, U, USER_MAPPINGS + 200 * GUEST_PAGE});
    sum = fold_seen(sum, (struct seen){PF, U | W, USER_MAPPINGS + 202 * GUEST_PAGE - 8});
    sum = fold(sum, 200 * 199 / 2);
    sum = fold_seen(sum, (struct seen){PF, P | U | W, USER_MAPPINGS + 700 * GUEST_PAGE});
    return fold(sum, 703);
}

static uint64_t file(void)
{
    uint64_t sum = fold_counts(fold(1, 5 + 11 + 12),
                               (uint64_t[COUNTERS]){[COUNTER_FILE] = 2, [COUNTER_COPY] = 4});

    sum = fold(sum, fold(4, 1));
    return fold(sum, 1);
}

static uint64_t protect(void)
{
    uint64_t words[PAGES], sum = 0;

    for (uint64_t i = 0; i < PAGES; i++) {
        words[i] = i;
    }
    for (uint64_t round = 0; round < 3; round++) {
        for (uint64_t i = round; i < PAGES; i += 5) {
            sum = fold_seen(sum, (struct seen){PF, P | U | W, USER_MAPPINGS + i * GUEST_PAGE});
            sum = fold(sum, words[i]);
        }
        for (uint64_t i = round; i < PAGES; i += 3) {
            words[i] += round;
        }
    }
    sum = fold(sum, 1);                     /* the kernel's own fault */
    return fold(fold(sum, 77), UINT64_MAX); /* what the child ended with; it is gone */
}

void expect_probes(uint64_t *results)
{
    uint64_t *probes = results + RESULT_PROBE;

    probes[PROBE_FAULTS] = faults();
    probes[PROBE_DEMAND] = demand();
    probes[PROBE_FORK] = forks();
    probes[PROBE_STACK] = stack();
    probes[PROBE_LARGE] = large();
    probes[PROBE_FILE] = file();
    probes[PROBE_PROTECT] = protect();
}
