/*
 * bench/fault.c - a software vCPU's way to memory: first touches beside the host's own minor fault, TLB hits and walks.
 *
 *     touch/THREADS   4 KiB at first touch, the host's page being there; in each thread
 *     host/THREADS    the host's minor fault on a page of a memfd that is there
 *     hit, raw              a load through the TLB, of each of 256 pages; the same loads by a pointer
 *     hit-chase, raw-chase  ... each address from the load before
 *     walk            a load whose TLB entry is gone, through EPT of 5 levels
 */
#include "measure.h"

#include <pthread.h>

#define PAGE 4096ull
#define TOUCH_PAGES 16384ull /* 64 MiB */
#define MIB (1ull << 20)
#define THREADS_MAX 2

/* ---- first touches ---- */

/* Short beside a scheduler's slice, like time_loop()'s batches. */
#define CHUNK_PAGES 128ull
#define CHUNKS (TOUCH_PAGES / CHUNK_PAGES)

struct toucher {
    pthread_t thread;
    pthread_barrier_t *start;
    struct gm_soft_vcpu *vcpu; /* NULL: the host itself */
    volatile uint8_t *host;
    uint64_t first; /* page */
    uint64_t chunks;
    double samples[CHUNKS];
};

static void touch_chunk(struct toucher *toucher, struct gm_mmu *mmu, uint64_t first)
{
    for (uint64_t page = first; page < first + CHUNK_PAGES; page++) {
        if (mmu == NULL) {
            toucher->host[page * PAGE] = 1;
        } else {
            need(gm_mmu_store(mmu, page * PAGE, 8, page) == GM_MMU_OK, "touch");
        }
    }
}

static void *touch(void *argument)
{
    struct toucher *toucher = argument;
    struct gm_mmu *mmu = toucher->vcpu != NULL ? gm_soft_vcpu_mmu(toucher->vcpu) : NULL;

    pthread_barrier_wait(toucher->start);
    need(mmu == NULL || gm_mmu_enter(mmu) == GM_MMU_OK, "enter");
    for (uint64_t i = 0; i < toucher->chunks; i++) {
        double before = now_ns();

        touch_chunk(toucher, mmu, toucher->first + i * CHUNK_PAGES);
        toucher->samples[i] = (now_ns() - before) / CHUNK_PAGES;
    }
    if (mmu != NULL) {
        gm_mmu_leave(mmu);
    }
    return NULL;
}

/* Return: nanoseconds a page in each thread: the same as with one, if they do not disturb each other. */
static double time_touches(struct toucher *touchers, unsigned threads)
{
    pthread_barrier_t start;
    double sum = 0;

    need(pthread_barrier_init(&start, NULL, threads) == 0, "barrier");
    for (unsigned i = 0; i < threads; i++) {
        touchers[i].start = &start;
        touchers[i].first = i * TOUCH_PAGES / threads;
        touchers[i].chunks = CHUNKS / threads;
        need(pthread_create(&touchers[i].thread, NULL, touch, &touchers[i]) == 0, "thread");
    }
    for (unsigned i = 0; i < threads; i++) {
        pthread_join(touchers[i].thread, NULL);
        sum += median(touchers[i].samples, (int)touchers[i].chunks);
    }
    pthread_barrier_destroy(&start);
    return sum / threads;
}

static double touch_ours(unsigned threads)
{
    static struct toucher touchers[THREADS_MAX];
    static void *memory;
    struct gm_soft *soft = open_vm(NULL);
    struct gm_soft_slot slot = {.size_bytes = TOUCH_PAGES * PAGE};
    double ns;

    memory = memory != NULL ? memory : host_memory(TOUCH_PAGES * PAGE);
    slot.hva = (uintptr_t)memory;
    need(gm_soft_set_slots(soft, &slot, 1, NULL) == 0, "slot");
    for (unsigned i = 0; i < threads; i++) {
        need(gm_soft_vcpu_new(soft, i, &touchers[i].vcpu) == 0, "vCPU");
    }
    ns = time_touches(touchers, threads);
    for (unsigned i = 0; i < threads; i++) {
        gm_soft_vcpu_free(touchers[i].vcpu);
    }
    need(gm_soft_close(soft) == 0, "close");
    return ns;
}

/* A second mapping of a memfd whose pages are there, and this process's tables are not. */
static double touch_host(unsigned threads)
{
    static struct toucher touchers[THREADS_MAX];
    static int fd = -1;
    uint8_t *memory;
    double ns;

    if (fd == -1) {
        fd = memfd_create("touch", MFD_CLOEXEC);
        need(fd != -1 && ftruncate(fd, TOUCH_PAGES * PAGE) == 0, "memfd");
        memory = mmap(NULL, TOUCH_PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        need(memory != MAP_FAILED, "mmap");
        memset(memory, 1, TOUCH_PAGES * PAGE);
        munmap(memory, TOUCH_PAGES * PAGE);
    }
    memory = mmap(NULL, TOUCH_PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    need(memory != MAP_FAILED, "mmap");
    for (unsigned i = 0; i < threads; i++) {
        touchers[i].host = memory;
    }
    ns = time_touches(touchers, threads);
    munmap(memory, TOUCH_PAGES * PAGE);
    return ns;
}

static double time_touch(uint64_t threads, uint64_t is_host)
{
    return is_host ? touch_host((unsigned)threads) : touch_ours((unsigned)threads);
}

/* ---- hits ---- */

struct vcpu {
    struct gm_mmu *mmu;
    uint8_t *memory;
};

static uint64_t hit_address(uint64_t i)
{
    return i * (PAGE + 64 + 8) % MIB;
}

static void hit(void *context, uint64_t count)
{
    struct vcpu *vcpu = context;
    uint64_t value = 0;

    for (uint64_t i = 0; i < count; i++) {
        need(gm_mmu_load(vcpu->mmu, hit_address(i), 8, &value) == GM_MMU_OK, "load");
        keep(value);
    }
}

static void raw(void *context, uint64_t count)
{
    struct vcpu *vcpu = context;

    for (uint64_t i = 0; i < count; i++) {
        keep(*(volatile uint64_t *)(void *)(vcpu->memory + hit_address(i)));
    }
}

static void hit_chase(void *context, uint64_t count)
{
    struct vcpu *vcpu = context;
    uint64_t value = 0;

    for (uint64_t i = 0; i < count; i++) {
        need(gm_mmu_load(vcpu->mmu, hit_address(i + value), 8, &value) == GM_MMU_OK, "load");
    }
    keep(value);
}

static void raw_chase(void *context, uint64_t count)
{
    struct vcpu *vcpu = context;
    uint64_t value = 0;

    for (uint64_t i = 0; i < count; i++) {
        value = *(volatile uint64_t *)(void *)(vcpu->memory + hit_address(i + value));
    }
    keep(value);
}

static void walk(void *context, uint64_t count)
{
    struct vcpu *vcpu = context;
    uint64_t value = 0;

    for (uint64_t i = 0; i < count; i++) {
        gm_mmu_flush_page(vcpu->mmu, 0);
        need(gm_mmu_load(vcpu->mmu, 0, 8, &value) == GM_MMU_OK, "load");
    }
    keep(value);
}

static double time_body(uint64_t body, uint64_t count)
{
    static void (*const bodies[])(void *context, uint64_t count) = {hit, raw, hit_chase, raw_chase,
                                                                    walk};
    static struct vcpu vcpu;

    if (vcpu.mmu == NULL) {
        struct gm_soft *soft = open_vm(NULL);
        struct gm_soft_slot slot = {.size_bytes = MIB};
        struct gm_soft_vcpu *made;

        vcpu.memory = host_memory(MIB); /* zeros */
        slot.hva = (uintptr_t)vcpu.memory;
        need(gm_soft_set_slots(soft, &slot, 1, NULL) == 0, "slot");
        need(gm_soft_vcpu_new(soft, 0, &made) == 0, "vCPU");
        vcpu.mmu = gm_soft_vcpu_mmu(made);
        need(gm_mmu_enter(vcpu.mmu) == GM_MMU_OK, "enter");
    }
    return time_loop(bodies[body], &vcpu, count);
}

int main(int argc, char **argv)
{
    for (uint64_t threads = 1; threads <= THREADS_MAX; threads++) {
        add_case("touch/%u", time_touch, threads, false);
        add_case("host/%u", time_touch, threads, true);
    }
    add_case("hit", time_body, 0, 20000);
    add_case("raw", time_body, 1, 20000);
    add_case("hit-chase", time_body, 2, 20000);
    add_case("raw-chase", time_body, 3, 20000);
    add_case("walk", time_body, 4, 5000);
    return serve_cases(argc, argv);
}
