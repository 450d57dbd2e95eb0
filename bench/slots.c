/*
 * bench/slots.c - the software KVM's slots, beside the ioctl of /dev/kvm: N - 1 are there, one more is made, given flags,
 * moved and deleted.
 *
 *     STEP/N        STEP is create, flags, move or delete; no vCPU runs
 *     STEP-run/N    two vCPUs run, and have to be held
 *     STEP-kvm/N    the ioctl
 */
#include "measure.h"

#include <guestmem/soft_ioctl.h>

#include <fcntl.h>
#include <linux/kvm.h>
#include <pthread.h>
#include <sys/ioctl.h>

#define ROUNDS 201
#define PAGE 4096ull
#define GIB (1ull << 30)
#define MEMORY_BYTES (16ull << 20)
#define VCPUS 2

enum step { CREATE, FLAGS, MOVE, DELETE, STEPS };
enum kind { IDLE, RUNNING, KVM };

struct board {
    struct gm_soft *soft; /* or, if NULL: */
    int vm_fd;
    uint32_t count;
    uint64_t hva;
};

static void set_slot(struct board *board, struct gm_soft_slot slot)
{
    struct kvm_userspace_memory_region region = {
        .slot = slot.slot,
        .flags = slot.flags,
        .guest_phys_addr = slot.gpa,
        .memory_size = slot.size_bytes,
        .userspace_addr = slot.hva,
    };

    if (board->soft != NULL) {
        errno = -gm_soft_set_slots(board->soft, &slot, 1, NULL);
        need(errno == 0, "slot");
    } else {
        need(ioctl(board->vm_fd, KVM_SET_USER_MEMORY_REGION, &region) == 0, "slot of /dev/kvm");
    }
}

/* Return: NULL without a /dev/kvm. */
static struct board *board_new(uint32_t count, bool is_kvm)
{
    struct board *board = calloc(1, sizeof(*board));
    int kvm_fd = -1;

    need(board != NULL, "memory");
    if (is_kvm) {
        kvm_fd = open("/dev/kvm", O_RDWR | O_CLOEXEC);
        board->vm_fd = kvm_fd < 0 ? -1 : ioctl(kvm_fd, KVM_CREATE_VM, 0);
        if (board->vm_fd < 0) {
            free(board);
            return NULL;
        }
        close(kvm_fd);
    } else {
        board->soft = open_vm(NULL);
    }
    board->count = count;
    board->hva = (uintptr_t)host_memory(MEMORY_BYTES);
    for (uint32_t i = 0; i + 1 < count; i++) {
        set_slot(board, (struct gm_soft_slot){.slot = i,
                                              .gpa = i * 2 * PAGE,
                                              .size_bytes = PAGE,
                                              .hva = board->hva + i % 4096 * PAGE});
    }
    return board;
}

/* One is kept, the last: 32,764 slots are much to hold four times. */
static struct board *board_of(uint32_t count, bool is_kvm)
{
    static struct board *boards[2];
    struct board **board = &boards[is_kvm];

    if (*board != NULL && (*board)->count != count) {
        if ((*board)->soft != NULL) {
            need(gm_soft_close((*board)->soft) == 0, "close");
        } else {
            close((*board)->vm_fd);
        }
        munmap((void *)(uintptr_t)(*board)->hva, MEMORY_BYTES);
        free(*board);
        *board = NULL;
    }
    *board = *board != NULL ? *board : board_new(count, is_kvm);
    return *board;
}

static double time_step(struct board *board, enum step timed)
{
    static double samples[ROUNDS];

    for (int round = 0; round < ROUNDS; round++) {
        struct gm_soft_slot slot = {
            .slot = board->count - 1, .gpa = 64 * GIB, .size_bytes = PAGE, .hva = board->hva};

        for (int step = CREATE; step < STEPS; step++) {
            double before;

            slot.flags = step == FLAGS ? KVM_MEM_LOG_DIRTY_PAGES : slot.flags;
            slot.gpa = step == MOVE ? 65 * GIB : slot.gpa;
            slot.size_bytes = step == DELETE ? 0 : PAGE;
            before = now_ns();
            set_slot(board, slot);
            if (step == (int)timed) {
                samples[round] = now_ns() - before;
            }
        }
    }
    return median(samples, ROUNDS);
}

/* A vCPU that runs: stores to its own page, a boundary after each. */
struct runner {
    pthread_t thread;
    struct gm_soft_vcpu *vcpu;
    uint64_t gpa;
    uint64_t turns; /* atomic */
    bool stop;      /* atomic */
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

static void start_vcpus(struct board *board, struct runner runners[VCPUS])
{
    for (unsigned i = 0; i < VCPUS; i++) {
        runners[i].gpa = i * 2 * PAGE;
        need(gm_soft_vcpu_new(board->soft, i, &runners[i].vcpu) == 0, "vCPU");
        need(pthread_create(&runners[i].thread, NULL, run_vcpu, &runners[i]) == 0, "thread");
        while (__atomic_load_n(&runners[i].turns, __ATOMIC_RELAXED) < 1000) {
            usleep(100);
        }
    }
}

static void stop_vcpus(struct runner runners[VCPUS])
{
    for (unsigned i = 0; i < VCPUS; i++) {
        __atomic_store_n(&runners[i].stop, true, __ATOMIC_RELAXED);
        pthread_join(runners[i].thread, NULL);
        gm_soft_vcpu_free(runners[i].vcpu);
    }
}

/* @what: the step, and from bit 8 on the kind. */
static double time_slots(uint64_t count, uint64_t what)
{
    enum kind kind = (enum kind)(what >> 8);
    struct board *board = board_of((uint32_t)count, kind == KVM);
    struct runner runners[VCPUS] = {{0}};
    double ns;

    if (board == NULL) {
        return BENCH_ABSENT;
    }
    if (kind == RUNNING) {
        start_vcpus(board, runners);
    }
    ns = time_step(board, (enum step)(what & 0xff));
    if (kind == RUNNING) {
        stop_vcpus(runners);
    }
    return ns;
}

int main(int argc, char **argv)
{
    static const uint64_t counts[] = {8, 512, 16000, 32764};
    static const char *const steps[STEPS] = {"create", "flags", "move", "delete"};
    static const char *const kinds[] = {"", "-run", "-kvm"};
    char name[48];

    for (size_t i = 0; i < sizeof(counts) / sizeof(counts[0]); i++) {
        for (uint64_t kind = IDLE; kind <= KVM; kind++) {
            for (uint64_t step = CREATE; step < STEPS; step++) {
                snprintf(name, sizeof(name), "%s%s/%%u", steps[step], kinds[kind]);
                add_case(name, time_slots, counts[i], kind << 8 | step);
            }
        }
    }
    return serve_cases(argc, argv);
}
