/*
 * guest/user/probes.c - what the kernel has to do for a process, counted: each probe does something whose page faults
 * follow from what it does, and folds the kernel's counts with what it read. expect.c has the same from paper.
 */
#include "guest/user/user.h"

#include "guest/work/jump.h"

#include <string.h>

#define PAGES 24u
#define WORDS (GUEST_PAGE / 8)

static uint64_t *const area = (uint64_t *)USER_MAPPINGS;

static struct jump back;
static uint64_t fault[3];

static void on_fault(uint64_t vector, uint64_t error, uint64_t address)
{
    fault[0] = vector;
    fault[1] = error;
    fault[2] = address;
    jump_to(&back, 1);
}

static void map_area(uint64_t bytes, unsigned flags)
{
    work_require(call3(SYSCALL_MAP, USER_MAPPINGS, bytes, flags) == 0, "map");
}

static void unmap_area(uint64_t bytes)
{
    work_require(call3(SYSCALL_UNMAP, USER_MAPPINGS, bytes, 0) == 0, "unmap");
}

/* The kernel's counts since the last call, folded. Those of page faults alone. */
static uint64_t counts[COUNTERS];
static void begin_counts(void)
{
    for (unsigned i = 0; i < 2 * COUNTERS;
         i++) { /* the first writes to the array fault themselves */
        counts[i % COUNTERS] = counter(i % COUNTERS);
    }
}

static uint64_t fold_counts(uint64_t sum)
{
    for (unsigned i = 0; i <= COUNTER_TRAP; i++) {
        sum = fold(sum, counter(i) - counts[i]);
    }
    return sum;
}

/* What is done to an address. */
enum act { ACT_READ, ACT_WRITE, ACT_CALL, ACT_DIVIDE, ACT_UNDEFINED, ACT_BREAK, ACT_STI };

static void act(enum act act, uint64_t address)
{
    uint64_t value = 0;

    switch (act) {
    case ACT_READ:
        __asm__ volatile("mov (%1), %0" : "=r"(value) : "r"(address) : "memory");
        break;
    case ACT_WRITE:
        __asm__ volatile("mov %0, (%1)" : : "r"(value), "r"(address) : "memory");
        break;
    case ACT_CALL:
        __asm__ volatile("call *%0" : : "r"(address) : "memory", "rax");
        break;
    case ACT_DIVIDE:
        __asm__ volatile("div %0" : "+r"(value) : : "rax", "rdx", "cc");
        break;
    case ACT_UNDEFINED:
        __asm__ volatile("ud2");
        break;
    case ACT_BREAK:
        __asm__ volatile("int3");
        break;
    case ACT_STI:
        __asm__ volatile("sti");
        break;
    }
}

static uint64_t fold_act(uint64_t sum, enum act what, uint64_t address)
{
    memset(fault, 0, sizeof(fault));
    if (jump_set(&back) == 0) {
        act(what, address);
    }
    return fold(fold(fold(sum, fault[0]), fault[1]), fault[2]);
}

static uint64_t probe_faults(uint64_t unused)
{
    const uint64_t kernel = GUEST_KERNEL_BASE + GUEST_KERNEL;
    uint64_t sum = 0;

    (void)unused;
    call3(SYSCALL_HANDLER, (uint64_t)on_fault, 0, 0);
    map_area(2 * GUEST_PAGE, MAP_READ | MAP_WRITE);
    area[0] = 0xc3;
    (void)*(volatile uint64_t *)USER_IMAGE;
    sum = fold_act(sum, ACT_READ, 0x10);
    sum = fold_act(sum, ACT_WRITE, 0x1010);
    sum = fold_act(sum, ACT_CALL, 0x2010);
    sum = fold_act(sum, ACT_CALL, USER_MAPPINGS);
    sum = fold_act(sum, ACT_CALL, USER_MAPPINGS + GUEST_PAGE);
    sum = fold_act(sum, ACT_WRITE, USER_IMAGE);
    sum = fold_act(sum, ACT_READ, kernel);
    sum = fold_act(sum, ACT_WRITE, kernel);
    sum = fold_act(sum, ACT_CALL, kernel);
    sum = fold_act(sum, ACT_READ, 0xffffc00000000000);
    sum = fold_act(sum, ACT_READ, 0x0000800000000000);
    sum = fold_act(sum, ACT_DIVIDE, 0);
    sum = fold_act(sum, ACT_UNDEFINED, 0);
    sum = fold_act(sum, ACT_BREAK, 0);
    sum = fold_act(sum, ACT_STI, 0);
    call3(SYSCALL_PROTECT, USER_MAPPINGS, 2 * GUEST_PAGE, MAP_READ);
    sum = fold_act(sum, ACT_WRITE, USER_MAPPINGS + 8);
    sum = fold_act(sum, ACT_READ, USER_MAPPINGS + 8);
    unmap_area(2 * GUEST_PAGE);
    return fold_act(sum, ACT_READ, USER_MAPPINGS + 8);
}

/* The first third is written, the second read, the last read and then written. */
static uint64_t probe_demand(uint64_t unused)
{
    uint64_t sum = 0;

    (void)unused;
    map_area(PAGES * GUEST_PAGE, MAP_READ | MAP_WRITE);
    begin_counts();
    for (uint64_t i = 0; i < PAGES; i++) {
        if (i < PAGES / 3) {
            area[i * WORDS + i] = i + 1;
        }
        sum += ((volatile uint64_t *)area)[i * WORDS + i];
        if (i >= 2 * PAGES / 3) {
            area[i * WORDS + i] = i + 1;
            sum += ((volatile uint64_t *)area)[i * WORDS + i];
        }
    }
    return fold_counts(sum);
}

static uint64_t sum_pages(uint64_t pages)
{
    uint64_t sum = 0;

    for (uint64_t i = 0; i < pages; i++) {
        sum += ((volatile uint64_t *)area)[i * WORDS];
    }
    return sum;
}

/* A child of the child, too: each writes half of what it got. */
static uint64_t fork_child(uint64_t pages)
{
    uint64_t sum = 0;

    for (uint64_t i = 0; i < pages; i++) {
        area[i * WORDS] += 1000;
    }
    if (pages > 1) {
        sum = user_run(0, fork_child, pages / 2);
    }
    return fold(sum, sum_pages(PAGES));
}

/* Of the counts only those of the area: the stack is forked as well, and how often that is written is the compiler's. */
static uint64_t probe_fork(uint64_t unused)
{
    uint64_t sum, copies, reuses;

    (void)unused;
    map_area(PAGES * GUEST_PAGE, MAP_READ | MAP_WRITE);
    for (uint64_t i = 0; i < PAGES; i++) {
        area[i * WORDS] = i;
    }
    sum = user_run(0, fork_child, PAGES / 2);
    sum = fold(sum, sum_pages(PAGES));
    copies = counter(COUNTER_COPY);
    reuses = counter(COUNTER_REUSE);
    for (uint64_t i = 0; i < PAGES; i++) {
        area[i * WORDS] += 7; /* its children are gone: it is alone again */
    }
    sum = fold(sum, counter(COUNTER_COPY) - copies);
    sum = fold(sum, counter(COUNTER_REUSE) - reuses);
    return fold(sum, sum_pages(PAGES));
}

/* Far down at once, and then page by page back. */
static uint64_t probe_stack(uint64_t unused)
{
    uint64_t here = (uint64_t)__builtin_frame_address(0) & ~(GUEST_PAGE - 1);
    uint64_t sum = 0;

    (void)unused;
    call3(SYSCALL_HANDLER, (uint64_t)on_fault, 0, 0);
    begin_counts();
    for (uint64_t i = PAGES; i > 0; i--) {
        *(volatile uint64_t *)(here - i * GUEST_PAGE) = i;
    }
    for (uint64_t i = PAGES; i > 0; i--) {
        sum = fold(sum, *(volatile uint64_t *)(here - i * GUEST_PAGE));
    }
    sum = fold_counts(sum);
    return fold_act(sum, ACT_READ, USER_STACK_END - USER_STACK_BYTES - 8);
}

static uint64_t large_child(uint64_t place)
{
    uint64_t splits = counter(COUNTER_SPLIT);

    area[place * WORDS] = 5;
    return fold(sum_pages(1024), counter(COUNTER_SPLIT) - splits);
}

/* Two blocks: a child's write splits one, a hole and a change of rights the other. */
static uint64_t probe_large(uint64_t unused)
{
    uint64_t sum, splits = counter(COUNTER_SPLIT), blocks = counter(COUNTER_LARGE);

    (void)unused;
    call3(SYSCALL_HANDLER, (uint64_t)on_fault, 0, 0);
    map_area(2 * GUEST_BLOCK, MAP_READ | MAP_WRITE | MAP_LARGE);
    for (uint64_t i = 0; i < 1024; i++) {
        area[i * WORDS] = i;
    }
    sum = fold(counter(COUNTER_SPLIT) - splits, counter(COUNTER_LARGE) - blocks);
    sum = fold(sum, user_run(0, large_child, 100));
    sum = fold(sum, sum_pages(1024));
    splits = counter(COUNTER_SPLIT);
    area[700 * WORDS] += 3; /* it shares none with its child any more, but does not know that */
    call3(SYSCALL_UNMAP, USER_MAPPINGS + 200 * GUEST_PAGE, 2 * GUEST_PAGE, 0);
    sum = fold(sum, counter(COUNTER_SPLIT) - splits);
    sum = fold_act(sum, ACT_READ, USER_MAPPINGS + 200 * GUEST_PAGE);
    sum = fold_act(sum, ACT_WRITE, USER_MAPPINGS + 202 * GUEST_PAGE - 8);
    sum = fold(sum, sum_pages(200));
    call3(SYSCALL_PROTECT, USER_MAPPINGS + 202 * GUEST_PAGE, 2 * GUEST_BLOCK - 202 * GUEST_PAGE,
          MAP_READ);
    sum = fold_act(sum, ACT_WRITE, USER_MAPPINGS + 700 * GUEST_PAGE);
    return fold(sum, area[700 * WORDS]);
}

/* Two pages of the image that are the program's data. */
static volatile uint64_t data[2 * WORDS] __attribute__((aligned(4096))) = {11, [WORDS] = 12};

/* The image's first pages once more, privately: read, written, and read by a child. */
static uint64_t file_child(uint64_t unused)
{
    (void)unused;
    return fold(area[0], area[1] == ((uint64_t *)USER_IMAGE)[1]);
}

static uint64_t probe_file(uint64_t unused)
{
    uint64_t sum;

    (void)unused;
    map_area(3 * GUEST_PAGE, MAP_READ | MAP_WRITE | MAP_FILE);
    begin_counts();
    sum = memcmp(area, (void *)USER_IMAGE, 64) == 0; /* mapped, and then written: copied */
    area[0] = 4;
    area[WORDS] = 5; /* copied at once */
    data[1] = data[0];
    data[WORDS + 1] = 13;
    sum = fold_counts(fold(sum, area[WORDS] + data[1] + data[WORDS]));
    sum = fold(sum, user_run(0, file_child, 0));
    return fold(sum, area[0] != ((uint64_t *)USER_IMAGE)[0]);
}

static uint64_t return_it(uint64_t value)
{
    return value;
}

/* Rights go and come back; the handler's way, and the kernel's own store into what it has to copy. */
static uint64_t probe_protect(uint64_t unused)
{
    uint64_t sum = 0, child;

    (void)unused;
    call3(SYSCALL_HANDLER, (uint64_t)on_fault, 0, 0);
    map_area(PAGES * GUEST_PAGE, MAP_READ | MAP_WRITE);
    for (uint64_t i = 0; i < PAGES; i++) {
        area[i * WORDS] = i;
    }
    for (uint64_t round = 0; round < 3; round++) {
        call3(SYSCALL_PROTECT, USER_MAPPINGS, PAGES * GUEST_PAGE, MAP_READ);
        for (uint64_t i = round; i < PAGES; i += 5) {
            sum = fold_act(sum, ACT_WRITE, USER_MAPPINGS + i * GUEST_PAGE);
            sum = fold(sum, area[i * WORDS]);
        }
        call3(SYSCALL_PROTECT, USER_MAPPINGS, PAGES * GUEST_PAGE, MAP_READ | MAP_WRITE);
        for (uint64_t i = round; i < PAGES; i += 3) {
            area[i * WORDS] += round;
        }
    }
    child = user_start(0, return_it, 77);
    begin_counts();
    work_require(call3(SYSCALL_WAIT, child, USER_MAPPINGS, 0) == 0, "wait");
    sum = fold(sum, counter(COUNTER_KERNEL) - counts[COUNTER_KERNEL]);
    return fold(fold(sum, area[0]), call3(SYSCALL_WAIT, child, USER_MAPPINGS, 0));
}

probe_fn *const probes[WORK_PROBES] = {
    [PROBE_FAULTS] = probe_faults,   [PROBE_DEMAND] = probe_demand, [PROBE_FORK] = probe_fork,
    [PROBE_STACK] = probe_stack,     [PROBE_LARGE] = probe_large,   [PROBE_FILE] = probe_file,
    [PROBE_PROTECT] = probe_protect,
};
