/*
 * bench/soft.c - what the software KVM costs: slots, first touches, TLB hits, bytes of tables.
 *
 *     bench-soft [--tables]     --tables maps 1 TiB with 4 KiB leaves as well: a minute, and 3 GiB of memory
 *
 * Each figure is the median of several runs, alternating with its peer where it has one: the host's own
 * minor fault on a memfd page that is there, and the slot ioctls of /dev/kvm where it opens.
 */
#include "measure.h"

#include <guestmem/soft_ioctl.h>

#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#define RUNS 9
#define PAGE 4096ull
#define TOUCH_PAGES 16384ull /* 64 MiB */
#define MIB (1ull << 20)
#define GIB (1ull << 30)

/* Slots: N of them are there, one more is made, given flags, moved and deleted. */

struct slot_peer {
    struct gm_soft *soft; /* or, if NULL: */
    int vm_fd;
};

static void set_slot(struct slot_peer *peer, struct gm_soft_slot slot)
{
    struct kvm_userspace_memory_region region = {
        .slot = slot.slot,
        .flags = slot.flags,
        .guest_phys_addr = slot.gpa,
        .memory_size = slot.size_bytes,
        .userspace_addr = slot.hva,
    };

    if (peer->soft != NULL) {
        errno = -gm_soft_set_slots(peer->soft, &slot, 1, NULL);
        need(errno == 0, "slot");
    } else {
        need(ioctl(peer->vm_fd, KVM_SET_USER_MEMORY_REGION, &region) == 0, "slot of /dev/kvm");
    }
}

enum slot_step { CREATE, FLAGS, MOVE, DELETE, STEPS };

/* Medians; and means, in which the waits for running vCPUs weigh what they cost. */
static void time_slots(struct slot_peer *peer, uint32_t number, uint64_t hva, double out[STEPS],
                       double means[STEPS])
{
    struct gm_soft_slot slot = {.slot = number, .gpa = 64 * GIB, .size_bytes = PAGE, .hva = hva};
    double samples[STEPS][1001];

    for (int run = 0; run < 1001; run++) {
        double before = now_ns();
        double after;

        for (int step = CREATE; step < STEPS; step++) {
            slot.flags = step == FLAGS ? KVM_MEM_LOG_DIRTY_PAGES : slot.flags;
            slot.gpa = step == MOVE ? 65 * GIB : slot.gpa;
            slot.size_bytes = step == DELETE ? 0 : PAGE;
            set_slot(peer, slot);
            after = now_ns();
            samples[step][run] = after - before;
            before = after;
        }
        slot =
            (struct gm_soft_slot){.slot = number, .gpa = 64 * GIB, .size_bytes = PAGE, .hva = hva};
    }
    for (int step = CREATE; step < STEPS; step++) {
        means[step] = mean(samples[step], 1001);
        out[step] = median(samples[step], 1001);
    }
}

/* A vCPU that runs: stores to its own page, a boundary after each. */
struct runner {
    pthread_t thread;
    struct gm_soft_vcpu *vcpu;
    uint64_t gpa;
    uint64_t turns; /* atomic */
    bool stop;
};

static void *run_vcpu(void *argument)
{
    struct runner *runner = argument;
    struct gm_mmu *mmu = gm_soft_vcpu_mmu(runner->vcpu);
    enum gm_mmu_outcome outcome = gm_mmu_enter(mmu);

    while (outcome == GM_MMU_OK && !__atomic_load_n(&runner->stop, __ATOMIC_RELAXED)) {
        outcome = gm_mmu_store(mmu, runner->gpa, 8, runner->turns);
        __atomic_store_n(&runner->turns, runner->turns + 1, __ATOMIC_RELAXED);
        if (outcome == GM_MMU_RESTART) {
            outcome = gm_mmu_enter(mmu);
        } else if (outcome == GM_MMU_OK && gm_mmu_is_wanted(mmu)) {
            outcome = gm_mmu_boundary(mmu);
        }
    }
    gm_mmu_leave(mmu);
    need(outcome == GM_MMU_OK, "vCPU");
    return NULL;
}

static void bench_slots(uint32_t count, int vcpus, int kvm_fd)
{
    static const char *const names[STEPS] = {"create", "flags", "move", "delete"};
    uint8_t *memory = host_memory(16 * MIB);
    struct slot_peer soft = {.soft = open_vm(NULL)};
    struct slot_peer kvm = {.vm_fd = kvm_fd < 0 ? -1 : ioctl(kvm_fd, KVM_CREATE_VM, 0)};
    struct runner runners[2] = {{0}};
    double ours[STEPS];
    double theirs[STEPS] = {0};
    double means[STEPS];
    double ignored[STEPS];

    for (uint32_t i = 0; i + 1 < count; i++) {
        struct gm_soft_slot slot = {.slot = i,
                                    .gpa = i * 2 * PAGE,
                                    .size_bytes = PAGE,
                                    .hva = (uintptr_t)memory + i % 4096 * PAGE};

        set_slot(&soft, slot);
        if (kvm.vm_fd >= 0) {
            set_slot(&kvm, slot);
        }
    }
    for (int i = 0; i < vcpus; i++) {
        runners[i].gpa = (uint64_t)i * 2 * PAGE;
        need(gm_soft_vcpu_new(soft.soft, (unsigned)i, &runners[i].vcpu) == 0, "vcpu");
        need(pthread_create(&runners[i].thread, NULL, run_vcpu, &runners[i]) == 0, "thread");
        while (__atomic_load_n(&runners[i].turns, __ATOMIC_RELAXED) < 1000) {
            usleep(100);
        }
    }
    time_slots(&soft, count - 1, (uintptr_t)memory, ours, means);
    for (int i = 0; i < vcpus; i++) {
        __atomic_store_n(&runners[i].stop, true, __ATOMIC_RELAXED);
        pthread_join(runners[i].thread, NULL);
        gm_soft_vcpu_free(runners[i].vcpu);
    }
    if (kvm.vm_fd >= 0 && vcpus == 0) {
        time_slots(&kvm, count - 1, (uintptr_t)memory, theirs, ignored);
    }
    for (int step = CREATE; step < STEPS; step++) {
        printf("slot %-6s  %5u slots, %d vCPUs running  %8.0f ns, mean %8.0f ns", names[step],
               count, vcpus, ours[step], means[step]);
        if (theirs[step] > 0) {
            printf("   /dev/kvm %8.0f ns", theirs[step]);
        }
        printf("\n");
    }
    if (kvm.vm_fd >= 0) {
        close(kvm.vm_fd);
    }
    need(gm_soft_close(soft.soft) == 0, "close");
    munmap(memory, 16 * MIB);
}

/* First touches: each page once, from 1 or 2 threads. */
struct toucher {
    pthread_t thread;
    struct gm_soft_vcpu *vcpu; /* NULL: the host itself */
    volatile uint8_t *host;
    uint64_t first;
    uint64_t end;
};

static void *touch(void *argument)
{
    struct toucher *toucher = argument;
    struct gm_mmu *mmu;
    enum gm_mmu_outcome outcome;

    if (toucher->vcpu == NULL) {
        for (uint64_t page = toucher->first; page < toucher->end; page++) {
            toucher->host[page * PAGE] = 1;
        }
        return NULL;
    }
    mmu = gm_soft_vcpu_mmu(toucher->vcpu);
    outcome = gm_mmu_enter(mmu);
    for (uint64_t page = toucher->first; page < toucher->end && outcome == GM_MMU_OK; page++) {
        outcome = gm_mmu_store(mmu, page * PAGE, 8, page);
    }
    gm_mmu_leave(mmu);
    need(outcome == GM_MMU_OK, "touch");
    return NULL;
}

static double time_touches(struct toucher *touchers, unsigned threads)
{
    double before = now_ns();

    for (unsigned i = 0; i < threads; i++) {
        touchers[i].first = i * TOUCH_PAGES / threads;
        touchers[i].end = (i + 1) * TOUCH_PAGES / threads;
        need(pthread_create(&touchers[i].thread, NULL, touch, &touchers[i]) == 0, "thread");
    }
    for (unsigned i = 0; i < threads; i++) {
        pthread_join(touchers[i].thread, NULL);
    }
    return (now_ns() - before) / (double)TOUCH_PAGES;
}

/* The host's: a second mapping of a memfd whose pages are there, and this process's tables are not. */
static double time_host_touches(unsigned threads)
{
    struct toucher touchers[2] = {{0}};
    int fd = memfd_create("touch", MFD_CLOEXEC);
    uint8_t *memory;
    double ns;

    need(fd != -1 && ftruncate(fd, TOUCH_PAGES * PAGE) == 0, "memfd");
    memory = mmap(NULL, TOUCH_PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    need(memory != MAP_FAILED, "mmap");
    memset(memory, 1, TOUCH_PAGES * PAGE);
    munmap(memory, TOUCH_PAGES * PAGE);
    memory = mmap(NULL, TOUCH_PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    need(memory != MAP_FAILED, "mmap");
    close(fd);
    for (unsigned i = 0; i < threads; i++) {
        touchers[i].host = memory;
    }
    ns = time_touches(touchers, threads);
    munmap(memory, TOUCH_PAGES * PAGE);
    return ns;
}

static void bench_touches(unsigned threads)
{
    void *memory = host_memory(TOUCH_PAGES * PAGE);
    double ours[RUNS];
    double host[RUNS];

    for (int run = 0; run < RUNS; run++) {
        struct gm_soft *soft = open_vm(NULL);
        struct gm_soft_slot slot = {.size_bytes = TOUCH_PAGES * PAGE, .hva = (uintptr_t)memory};
        struct toucher touchers[2] = {{0}};

        need(gm_soft_set_slots(soft, &slot, 1, NULL) == 0, "slot");
        for (unsigned i = 0; i < threads; i++) {
            need(gm_soft_vcpu_new(soft, i, &touchers[i].vcpu) == 0, "vcpu");
        }
        ours[run] = time_touches(touchers, threads);
        host[run] = time_host_touches(threads);
        for (unsigned i = 0; i < threads; i++) {
            gm_soft_vcpu_free(touchers[i].vcpu);
        }
        need(gm_soft_close(soft) == 0, "close");
    }
    printf("first touch of 4 KiB, %u thread%s   %7.0f ns a page   host's minor fault %7.0f ns\n",
           threads, threads == 1 ? " " : "s", median(ours, RUNS), median(host, RUNS));
    munmap(memory, TOUCH_PAGES * PAGE);
}

/* TLB hits, each load's address from the one before; and the same from host memory. */
static void bench_hit(void)
{
    enum { LOADS = 20000000 };
    uint64_t *memory = host_memory(MIB);
    struct gm_soft *soft = open_vm(NULL);
    struct gm_soft_slot slot = {.size_bytes = MIB, .hva = (uintptr_t)memory};
    struct gm_soft_vcpu *vcpu;
    struct gm_mmu *mmu;
    double ours[RUNS];
    double raw[RUNS];
    double miss[RUNS];

    memset(memory, 0, MIB);
    need(gm_soft_set_slots(soft, &slot, 1, NULL) == 0, "slot");
    need(gm_soft_vcpu_new(soft, 0, &vcpu) == 0, "vcpu");
    mmu = gm_soft_vcpu_mmu(vcpu);
    need(gm_mmu_enter(mmu) == GM_MMU_OK, "enter");
    for (int run = 0; run < RUNS; run++) {
        uint64_t value = 0;
        uint64_t at = 0;
        double before = now_ns();

        for (int i = 0; i < LOADS; i++) {
            need(gm_mmu_load(mmu, (at + value) % MIB, 8, &value) == GM_MMU_OK, "load");
            at += 4104;
        }
        ours[run] = (now_ns() - before) / LOADS;
        at = 0;
        before = now_ns();
        for (int i = 0; i < LOADS; i++) {
            value = *(volatile uint64_t *)((uint8_t *)memory + (at + value) % MIB);
            at += 4104;
        }
        raw[run] = (now_ns() - before) / LOADS;
        before = now_ns();
        for (int i = 0; i < LOADS / 100; i++) {
            gm_mmu_flush_page(mmu, 0);
            need(gm_mmu_load(mmu, 0, 8, &value) == GM_MMU_OK, "load");
        }
        miss[run] = (now_ns() - before) / (LOADS / 100);
    }
    printf("load through the TLB, a hit        %7.2f ns          raw load %7.2f ns\n",
           median(ours, RUNS), median(raw, RUNS));
    printf("load through the EPT, 5 levels     %7.1f ns\n", median(miss, RUNS));
    gm_mmu_leave(mmu);
    gm_soft_vcpu_free(vcpu);
    need(gm_soft_close(soft) == 0, "close");
    munmap(memory, MIB);
}

static uint64_t claim_2m(void *opaque, gm_hva_t hva, uint64_t size_bytes)
{
    (void)opaque;
    (void)hva;
    (void)size_bytes;
    return 2 * MIB;
}

/* 1 TiB of guest memory: 1024 slots over the same GiB of the host's. */
static void bench_tables(bool large)
{
    const struct gm_soft_options options = {.size = sizeof(options),
                                            .page_bytes = large ? claim_2m : NULL};
    uint64_t size = GIB;
    uint8_t *memory = mmap(NULL, 2 * size, PROT_READ | PROT_WRITE,
                           MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    struct gm_soft *soft = open_vm(&options);
    struct kvm_pre_fault_memory prefault = {.size = 1024 * GIB};
    struct gm_soft_vcpu *vcpu;
    struct gm_soft_stats stats;
    uint64_t leaves;
    double before;
    uint64_t hva;

    need(memory != MAP_FAILED, "mmap");
    hva = ((uintptr_t)memory + size - 1) & ~(size - 1);
    for (uint32_t i = 0; i < 1024; i++) {
        struct gm_soft_slot slot = {.slot = i, .gpa = i * GIB, .size_bytes = GIB, .hva = hva};

        need(gm_soft_set_slots(soft, &slot, 1, NULL) == 0, "slot");
    }
    need(gm_soft_vcpu_new(soft, 0, &vcpu) == 0, "vcpu");
    before = now_ns();
    errno = -(int)gm_soft_vcpu_ioctl(vcpu, KVM_PRE_FAULT_MEMORY, (uintptr_t)&prefault);
    need(errno == 0, "KVM_PRE_FAULT_MEMORY");
    gm_soft_stats(soft, &stats);
    leaves = large ? stats.pages_2m : stats.pages_4k;
    printf("1 TiB in %s leaves   %10llu leaves   %8.1f MiB of tables   %.3f bytes a leaf   %.0f ns "
           "each\n",
           large ? "2 MiB" : "4 KiB", (unsigned long long)leaves,
           (double)stats.table_pages * PAGE / MIB,
           (double)stats.table_pages * PAGE / (double)leaves, (now_ns() - before) / (double)leaves);
    gm_soft_vcpu_free(vcpu);
    need(gm_soft_close(soft) == 0, "close");
    munmap(memory, 2 * size);
}

int main(int argc, char **argv)
{
    static const uint32_t counts[] = {8, 512, 32764};
    bool with_tables = argc > 1 && strcmp(argv[1], "--tables") == 0;
    int kvm_fd = open("/dev/kvm", O_RDWR | O_CLOEXEC);

    if (argc > 1 && !with_tables) {
        fprintf(stderr, "Usage: bench-soft [--tables]\n");
        return 2;
    }
    for (size_t i = 0; i < sizeof(counts) / sizeof(counts[0]); i++) {
        bench_slots(counts[i], 0, kvm_fd);
        bench_slots(counts[i], 2, -1);
    }
    bench_touches(1);
    bench_touches(2);
    bench_hit();
    bench_tables(true);
    if (with_tables) {
        bench_tables(false);
    }
    return 0;
}
