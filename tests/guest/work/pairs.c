/*
 * guest/work/pairs.c - two threads on shared memory: locks by XCHG and by tickets, a lock-free stack by CMPXCHG16B, a
 * sequence lock around words, and around what is copied by 2 to 16 unaligned bytes, code that the other thread writes, and a
 * page that is replaced under a reader. However they interleave, the sums come out the same; what must never be seen fails.
 */
#include "guest/work/work.h"

#include <string.h>

#define RELAX_SPINS 64u

pair_fn *const pairs[WORK_PAIRS] = {
    [PAIR_SPINLOCK] = pair_spinlock, [PAIR_TICKET] = pair_ticket, [PAIR_STACK] = pair_stack,
    [PAIR_SEQLOCK] = pair_seqlock,   [PAIR_WIDE] = pair_wide,     [PAIR_CODE] = pair_code,
    [PAIR_REPLACE] = pair_replace,
};

void pair_relax(unsigned *count)
{
    __asm__ volatile("pause" : : : "memory");
    if (++*count % RELAX_SPINS == 0) {
        env_yield();
    }
}

void pair_barrier(struct pair *pair)
{
    uint32_t round = __atomic_load_n(&pair->barrier_round, __ATOMIC_ACQUIRE);
    unsigned spins = 0;

    if (__atomic_add_fetch(&pair->barrier_count, 1, __ATOMIC_ACQ_REL) == 2) {
        pair->barrier_count = 0;
        __atomic_store_n(&pair->barrier_round, round + 1, __ATOMIC_RELEASE);
    }
    while (__atomic_load_n(&pair->barrier_round, __ATOMIC_ACQUIRE) == round) {
        pair_relax(&spins);
    }
}

static uint32_t exchange(volatile uint32_t *word, uint32_t value)
{
    __asm__ volatile("xchgl %0, %1" : "+r"(value), "+m"(*word) : : "memory");
    return value;
}

/* Under the lock, in steps that would be seen: two words are the same, one counts. */
static void add_slowly(volatile uint64_t *words, uint64_t value)
{
    work_require(words[0] == words[1], "somebody else is in the lock");
    words[0] += value;
    words[2]++;
    words[1] += value;
}

void pair_spinlock(struct pair *pair, unsigned who)
{
    volatile uint32_t *lock = (volatile uint32_t *)pair->space;
    volatile uint64_t *words = pair->space + 64;

    for (uint64_t i = 0; i < pair->rounds * 300; i++) {
        unsigned spins = 0;

        while (exchange(lock, 1) != 0) {
            while (*lock != 0) {
                pair_relax(&spins);
            }
        }
        add_slowly(words, i * (who + 1));
        __atomic_store_n((uint32_t *)lock, 0, __ATOMIC_RELEASE);
    }
    pair_barrier(pair);
    pair->sums[who] = fold(words[0], words[2]);
}

void pair_ticket(struct pair *pair, unsigned who)
{
    uint32_t *next = (uint32_t *)pair->space;
    uint32_t *serving = (uint32_t *)(pair->space + 8);
    volatile uint64_t *words = pair->space + 64;

    for (uint64_t i = 0; i < pair->rounds * 200; i++) {
        uint32_t ticket = 1;
        unsigned spins = 0;

        __asm__ volatile("lock xaddl %0, %1" : "+r"(ticket), "+m"(*next) : : "memory", "cc");
        while (__atomic_load_n(serving, __ATOMIC_ACQUIRE) != ticket) {
            pair_relax(&spins);
        }
        add_slowly(words, i ^ who);
        __atomic_store_n(serving, ticket + 1, __ATOMIC_RELEASE);
    }
    pair_barrier(pair);
    pair->sums[who] = fold(words[0], words[2]);
}

struct top {
    struct item *first;
    uint64_t changes; /* else a first item that was taken and has come back would not be noticed */
} __attribute__((aligned(16)));

struct item {
    struct item *volatile next;
    uint64_t owner, value;
};

static bool exchange_top(struct top *top, struct top *expected, struct top desired)
{
    bool is_done;

    __asm__ volatile("lock cmpxchg16b %1\n\tsete %0"
                     : "=q"(is_done), "+m"(*top), "+a"(expected->first), "+d"(expected->changes)
                     : "b"(desired.first), "c"(desired.changes)
                     : "memory", "cc");
    return is_done;
}

static struct top read_top(struct top *top)
{
    struct top seen;

    /* In this order: a pair that never was fails to be exchanged. */
    seen.changes = __atomic_load_n(&top->changes, __ATOMIC_ACQUIRE);
    seen.first = __atomic_load_n(&top->first, __ATOMIC_ACQUIRE);
    return seen;
}

static void push(struct top *top, struct item *item)
{
    struct top seen = read_top(top);
    unsigned spins = 0;

    for (item->next = seen.first; !exchange_top(top, &seen, (struct top){item, seen.changes + 1});
         item->next = seen.first) {
        pair_relax(&spins);
    }
}

static struct item *pop(struct top *top)
{
    struct top seen = read_top(top);
    unsigned spins = 0;

    while (seen.first != NULL) {
        if (exchange_top(top, &seen, (struct top){seen.first->next, seen.changes + 1})) {
            return seen.first;
        }
        pair_relax(&spins);
    }
    return NULL;
}

/* Each takes items and puts them back with more in them: none is lost, none is in two hands. */
void pair_stack(struct pair *pair, unsigned who)
{
    struct top *top = (struct top *)pair->space;
    struct item *items = (struct item *)(pair->space + 64);
    const unsigned count = 16;
    uint64_t total = 0, number = 0;

    for (unsigned i = who; i < count; i += 2) {
        items[i].value = i;
        push(top, &items[i]);
    }
    pair_barrier(pair);
    for (uint64_t i = 0; i < pair->rounds * 200; i++) {
        struct item *first = pop(top), *second = pop(top);

        work_require(first != NULL && second != NULL && first != second, "items are missing");
        work_require(__atomic_exchange_n(&first->owner, who + 1, __ATOMIC_RELAXED) == 0 &&
                         __atomic_exchange_n(&second->owner, who + 1, __ATOMIC_RELAXED) == 0,
                     "an item is in two hands");
        first->value += i;
        second->value += 1;
        first->owner = second->owner = 0;
        push(top, first);
        push(top, second);
    }
    pair_barrier(pair);
    for (struct item *item = top->first; item != NULL; item = item->next) {
        total += item->value;
        number++;
    }
    pair->sums[who] = fold(fold(total, number), top->changes);
}

/* Thread 0 writes, thread 1 reads what was consistent. */
void pair_seqlock(struct pair *pair, unsigned who)
{
    uint32_t *sequence = (uint32_t *)pair->space;
    volatile uint64_t *words = pair->space + 512 - 2; /* over a page's border */
    const uint64_t last = pair->rounds * 300;
    unsigned spins = 0;

    for (uint64_t i = 1; who == 0 && i <= last; i++) {
        __atomic_store_n(sequence, *sequence + 1, __ATOMIC_RELAXED);
        __atomic_thread_fence(__ATOMIC_RELEASE);
        for (unsigned j = 0; j < 4; j++) {
            words[j] = i * (j + 1);
        }
        __atomic_store_n(sequence, *sequence + 1, __ATOMIC_RELEASE);
    }
    for (uint64_t seen = 0; who == 1 && seen < last;) {
        uint32_t before = __atomic_load_n(sequence, __ATOMIC_ACQUIRE);
        uint64_t copy[4];

        for (unsigned j = 0; j < 4; j++) {
            copy[j] = words[j];
        }
        __atomic_thread_fence(__ATOMIC_ACQUIRE);
        if ((before & 1) != 0 || __atomic_load_n(sequence, __ATOMIC_RELAXED) != before) {
            pair_relax(&spins);
            continue;
        }
        work_require(copy[0] >= seen, "time goes backwards");
        for (unsigned j = 1; j < 4; j++) {
            work_require(copy[j] == copy[0] * (j + 1), "half of a write");
        }
        seen = copy[0];
        if (seen < last) {
            pair_relax(&spins);
        }
    }
    pair_barrier(pair);
    pair->sums[who] = fold(words[3], *sequence);
}

static void copy16(uint8_t *to, const uint8_t *from)
{
#ifdef GUEST_HAS_SSE
    __asm__ volatile("movups (%1), %%xmm0\n\tmovups %%xmm0, (%0)"
                     :
                     : "r"(to), "r"(from)
                     : "xmm0", "memory");
#else
    for (unsigned i = 0; i < 16; i++) {
        ((volatile uint8_t *)to)[i] = from[i];
    }
#endif
}

#define COPY(type, to, from)                                                                       \
    do {                                                                                           \
        type value_;                                                                               \
                                                                                                   \
        __asm__ volatile("mov (%1), %0" : "=r"(value_) : "r"(from) : "memory");                    \
        __asm__ volatile("mov %0, (%1)" : : "r"(value_), "r"(to) : "memory");                      \
    } while (0)

/* By one load and one store of that many bytes, wherever they lie. */
static void copy_at_once(uint8_t *to, const uint8_t *from, unsigned count)
{
    switch (count) {
    case 2:
        COPY(uint16_t, to, from);
        break;
    case 4:
        COPY(uint32_t, to, from);
        break;
    case 8:
        COPY(uint64_t, to, from);
        break;
    default:
        copy16(to, from);
        break;
    }
}

/* As pair_seqlock(), but what is passed is copied while it is written, aligned and not, within a page and over its end. */
void pair_wide(struct pair *pair, unsigned who)
{
    static const struct {
        uint16_t at, count;
    } pieces[] = {{128, 16}, {257, 16}, {4096 - 5, 16}, {513, 8}, {603, 4}, {701, 2}};
    const unsigned piece_count = sizeof(pieces) / sizeof(pieces[0]);
    uint32_t *sequence = (uint32_t *)pair->space;
    uint8_t *bytes = (uint8_t *)pair->space;
    const uint32_t last = (uint32_t)pair->rounds * 100;
    unsigned spins = 0;

    for (uint32_t i = 1; who == 0 && i <= last; i++) {
        uint8_t now[16];

        memset(now, (int)(i & 0xff), sizeof(now));
        __atomic_store_n(sequence, 2 * i - 1, __ATOMIC_RELAXED);
        __atomic_thread_fence(__ATOMIC_RELEASE);
        for (unsigned j = 0; j < piece_count; j++) {
            copy_at_once(bytes + pieces[j].at, now, pieces[j].count);
        }
        __atomic_store_n(sequence, 2 * i, __ATOMIC_RELEASE);
    }
    for (uint32_t seen = 0; who == 1 && seen < 2 * last;) {
        uint32_t before = __atomic_load_n(sequence, __ATOMIC_ACQUIRE);
        uint8_t copy[6][16];

        for (unsigned j = 0; j < piece_count; j++) {
            copy_at_once(copy[j], bytes + pieces[j].at, pieces[j].count);
        }
        __atomic_thread_fence(__ATOMIC_ACQUIRE);
        if (before % 2 != 0 || __atomic_load_n(sequence, __ATOMIC_RELAXED) != before) {
            pair_relax(&spins);
            continue;
        }
        for (unsigned j = 0; j < piece_count; j++) {
            for (unsigned k = 0; k < pieces[j].count; k++) {
                work_require(copy[j][k] == (uint8_t)(before / 2), "a byte of another write");
            }
        }
        seen = before;
        if (seen < 2 * last) {
            pair_relax(&spins);
        }
    }
    pair_barrier(pair);
    pair->sums[who] = fold(*sequence, bytes[257]);
}

static void serialise(void)
{
    uint32_t leaf = 0, index = 0, ebx, edx;

    __asm__ volatile("cpuid" : "+a"(leaf), "+c"(index), "=b"(ebx), "=d"(edx) : : "memory");
}

/* mov eax, number; so many nops; add eax, 1; ret. */
static void write_code(uint8_t *code, uint32_t number, unsigned nops)
{
    *code++ = 0xb8;
    memcpy(code, &number, sizeof(number));
    memset(code + 4, 0x90, nops);
    memcpy(code + 4 + nops, "\x83\xc0\x01\xc3", 4);
}

/* Thread 0 writes code that thread 1 executes, as Intel SDM 3A, 9.1.3 wants it: each waits for the other, and who
 * executes serialises before. */
void pair_code(struct pair *pair, unsigned who)
{
    uint32_t *turn = (uint32_t *)pair->space;
    const uint32_t last = (uint32_t)pair->rounds * 40;
    uint64_t sum = 0;
    uint32_t (*function)(void);
    unsigned spins = 0;

    memcpy(&function, &pair->code, sizeof(function));
    for (uint32_t i = 0; i < last; i++) {
        while (__atomic_load_n(turn, __ATOMIC_ACQUIRE) != 2 * i + who) {
            pair_relax(&spins);
        }
        if (who == 0) {
            write_code(pair->code, i * 2654435761u, i % 23);
        } else {
            uint32_t value;

            serialise();
            value = function();
            work_require(value == i * 2654435761u + 1, "older code was executed");
            sum = fold(sum, value);
        }
        __atomic_store_n(turn, 2 * i + who + 1, __ATOMIC_RELEASE);
    }
    pair->sums[who] = fold(sum, who);
}

/* Thread 0 replaces the page by one that holds a greater number, and then says so: thread 1 never sees less. */
void pair_replace(struct pair *pair, unsigned who)
{
    uint64_t *said = pair->space;
    const volatile uint64_t *page = pair->page;
    const uint64_t last = pair->rounds * 30;
    unsigned spins = 0;

    for (uint64_t i = 1; who == 0 && i <= last; i++) {
        env_replace(pair->page, i);
        __atomic_store_n(said, i, __ATOMIC_RELEASE);
    }
    for (uint64_t seen = 0; who == 1 && seen < last;) {
        uint64_t value;

        seen = __atomic_load_n(said, __ATOMIC_ACQUIRE);
        value = page[seen % 512];
        work_require(value >= seen && value <= last, "a page that is gone was read");
        pair_relax(&spins);
    }
    pair_barrier(pair);
    pair->sums[who] = fold(page[17], last);
}
