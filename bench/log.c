/*
 * bench/log.c - the software KVM's dirty log: a slot of 4 GiB read and cleared, beside a plain pass over its bitmap; logging
 * switched on and off where memory is mapped by large leaves.
 *
 *     get/EVERY, clear/EVERY   KVM_GET_DIRTY_LOG, then KVM_CLEAR_DIRTY_LOG (manual protection); one page in EVERY is dirty
 *     get-auto/EVERY           KVM_GET_DIRTY_LOG that clears by itself
 *     pass                     the bitmap of that slot copied word by word, and cleared
 *     kvm-get                  KVM_GET_DIRTY_LOG of a clean slot of 4 GiB on /dev/kvm
 *     on/GIB, off/GIB          KVM_MEM_LOG_DIRTY_PAGES of a slot of GIB, all mapped by 2 MiB leaves
 */
#include "measure.h"

#include <guestmem/soft_ioctl.h>

#include <fcntl.h>
#include <linux/kvm.h>
#include <sys/ioctl.h>

#define PAGE 4096ull
#define MIB (1ull << 20)
#define GIB (1ull << 30)
#define LOG_BYTES (4 * GIB)
#define LOG_PAGES (LOG_BYTES / PAGE)
#define LOG_WORDS (LOG_PAGES / 64)
#define FILE_BYTES (64 * MIB)
#define TURNS 5

/* Much address space over little memory: one file, mapped again and again. Pages are there, but in no table. */
static uint8_t *wide_memory(uint64_t size_bytes)
{
    int fd = memfd_create("wide", MFD_CLOEXEC);
    uint8_t *area =
        mmap(NULL, size_bytes + GIB, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    uint8_t *memory = (uint8_t *)(((uintptr_t)area + GIB - 1) & ~(GIB - 1));

    need(fd != -1 && ftruncate(fd, (off_t)FILE_BYTES) == 0 && area != MAP_FAILED, "memory");
    for (uint64_t at = 0; at < size_bytes; at += FILE_BYTES) {
        need(mmap(memory + at, FILE_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd, 0) !=
                 MAP_FAILED,
             "mmap");
    }
    close(fd);
    return memory;
}

/* ---- get and clear ---- */

struct logged {
    struct gm_soft *soft;
    struct gm_mmu *mmu;
    uint64_t *bitmap;
};

static struct logged logged_new(bool manual)
{
    struct logged logged = {.soft = open_vm(NULL), .bitmap = calloc(LOG_WORDS, 8)};
    struct kvm_enable_cap cap = {.cap = KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2, .args[0] = 1};
    struct gm_soft_slot slot = {.flags = KVM_MEM_LOG_DIRTY_PAGES,
                                .size_bytes = LOG_BYTES,
                                .hva = (uintptr_t)wide_memory(LOG_BYTES)};
    struct gm_soft_vcpu *vcpu;

    need(!manual || gm_soft_vm_ioctl(logged.soft, KVM_ENABLE_CAP, (uintptr_t)&cap) == 0, "cap");
    need(logged.bitmap != NULL && gm_soft_set_slots(logged.soft, &slot, 1, NULL) == 0, "slot");
    need(gm_soft_vcpu_new(logged.soft, 0, &vcpu) == 0, "vCPU");
    logged.mmu = gm_soft_vcpu_mmu(vcpu);
    return logged;
}

static void dirty(struct logged *logged, uint64_t every)
{
    enum gm_mmu_outcome outcome = gm_mmu_enter(logged->mmu);

    for (uint64_t page = 0; every != 0 && page < LOG_PAGES && outcome == GM_MMU_OK; page += every) {
        outcome = gm_mmu_store(logged->mmu, page * PAGE, 8, page);
    }
    need(outcome == GM_MMU_OK, "store");
    gm_mmu_leave(logged->mmu);
}

static uint64_t count_ones(const uint64_t *bitmap)
{
    uint64_t count = 0;

    for (uint64_t i = 0; i < LOG_WORDS; i++) {
        count += (uint64_t)__builtin_popcountll(bitmap[i]);
    }
    return count;
}

enum what { GET, CLEAR, GET_AUTO };

static double time_log(uint64_t every, uint64_t what)
{
    static struct logged both[2];
    struct logged *logged = &both[what == GET_AUTO];
    struct kvm_dirty_log get = {0};
    struct kvm_clear_dirty_log clear = {.num_pages = LOG_PAGES};
    double samples[TURNS];
    int turns = every == 0 || every > 10 ? TURNS : 1; /* a million faults before each */

    if (logged->soft == NULL) {
        *logged = logged_new(what != GET_AUTO);
    }
    get.dirty_bitmap = clear.dirty_bitmap = logged->bitmap;
    for (int i = 0; i < turns; i++) {
        double begin, middle;

        dirty(logged, every);
        begin = now_ns();
        need(gm_soft_vm_ioctl(logged->soft, KVM_GET_DIRTY_LOG, (uintptr_t)&get) == 0, "get");
        middle = now_ns();
        samples[i] = middle - begin;
        need(count_ones(logged->bitmap) == (every == 0 ? 0 : (LOG_PAGES + every - 1) / every),
             "dirty pages");
        if (what != GET_AUTO) {
            begin = now_ns();
            need(gm_soft_vm_ioctl(logged->soft, KVM_CLEAR_DIRTY_LOG, (uintptr_t)&clear) == 0,
                 "clear");
            samples[i] = what == CLEAR ? now_ns() - begin : samples[i];
        }
    }
    return median(samples, turns);
}

/* What any KVM_GET_DIRTY_LOG has to do: give each word, and leave 0. */
static void pass(void *context, uint64_t count)
{
    uint64_t *bitmaps = context;

    for (uint64_t i = 0; i < count; i++) {
        for (uint64_t word = 0; word < LOG_WORDS; word++) {
            bitmaps[LOG_WORDS + word] = bitmaps[word];
            bitmaps[word] = 0;
        }
        keep(bitmaps[LOG_WORDS]);
    }
}

static double time_pass(uint64_t a, uint64_t b)
{
    static uint64_t *bitmaps;

    (void)a;
    (void)b;
    bitmaps = bitmaps != NULL ? bitmaps : host_memory(2 * LOG_WORDS * 8);
    return time_loop(pass, bitmaps, 10);
}

static double time_kvm_get(uint64_t a, uint64_t b)
{
    static int vm_fd;
    static uint64_t bitmap[LOG_WORDS];
    struct kvm_dirty_log get = {.dirty_bitmap = bitmap};
    double samples[TURNS];

    (void)a;
    (void)b;
    if (vm_fd == 0) {
        int kvm_fd = open("/dev/kvm", O_RDWR | O_CLOEXEC);
        struct kvm_userspace_memory_region region = {.flags = KVM_MEM_LOG_DIRTY_PAGES,
                                                     .memory_size = LOG_BYTES};

        vm_fd = kvm_fd < 0 ? -1 : ioctl(kvm_fd, KVM_CREATE_VM, 0);
        if (vm_fd >= 0) {
            region.userspace_addr = (uintptr_t)wide_memory(LOG_BYTES);
            need(ioctl(vm_fd, KVM_SET_USER_MEMORY_REGION, &region) == 0, "slot of /dev/kvm");
        }
    }
    for (int i = 0; vm_fd >= 0 && i < TURNS; i++) {
        double before = now_ns();

        need(ioctl(vm_fd, KVM_GET_DIRTY_LOG, &get) == 0, "get of /dev/kvm");
        samples[i] = now_ns() - before;
    }
    return vm_fd < 0 ? BENCH_ABSENT : median(samples, TURNS);
}

/* ---- on and off ---- */

static uint64_t claim_2m(void *opaque, gm_hva_t hva, uint64_t size_bytes)
{
    (void)opaque;
    (void)hva;
    (void)size_bytes;
    return 2 * MIB;
}

struct large {
    struct gm_soft *soft;
    struct gm_soft_vcpu *vcpu;
    struct gm_soft_slot slot;
};

static struct large large_new(uint64_t gib)
{
    const struct gm_soft_options options = {.size = sizeof(options), .page_bytes = claim_2m};
    struct large large = {
        .soft = open_vm(&options),
        .slot = {.size_bytes = gib * GIB, .hva = (uintptr_t)wide_memory(gib * GIB)}};

    need(gm_soft_set_slots(large.soft, &large.slot, 1, NULL) == 0, "slot");
    need(gm_soft_vcpu_new(large.soft, 0, &large.vcpu) == 0, "vCPU");
    return large;
}

/* All of it is mapped large before each turn. */
static double time_switch(uint64_t gib, uint64_t off)
{
    static struct large small, big;
    struct large *large = gib == 1 ? &small : &big;
    struct kvm_pre_fault_memory prefault;
    double samples[TURNS];

    if (large->soft == NULL) {
        *large = large_new(gib);
    }
    for (int i = 0; i < TURNS; i++) {
        struct gm_soft_slot logged = large->slot;
        struct gm_soft_stats stats;
        double begin, middle;

        prefault = (struct kvm_pre_fault_memory){.size = gib * GIB};
        errno = -(int)gm_soft_vcpu_ioctl(large->vcpu, KVM_PRE_FAULT_MEMORY, (uintptr_t)&prefault);
        need(errno == 0, "prefault");
        gm_soft_stats(large->soft, &stats);
        need(stats.pages_2m == gib * 512, "large leaves");
        logged.flags = KVM_MEM_LOG_DIRTY_PAGES;
        begin = now_ns();
        need(gm_soft_set_slots(large->soft, &logged, 1, NULL) == 0, "log on");
        middle = now_ns();
        need(gm_soft_set_slots(large->soft, &large->slot, 1, NULL) == 0, "log off");
        samples[i] = off ? now_ns() - middle : middle - begin;
    }
    return median(samples, TURNS);
}

int main(int argc, char **argv)
{
    static const uint64_t parts[] = {0, 1000, 10, 1};

    for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++) {
        add_case("get/%u", time_log, parts[i], GET);
        add_case("clear/%u", time_log, parts[i], CLEAR);
        add_case("get-auto/%u", time_log, parts[i], GET_AUTO);
    }
    add_case("pass", time_pass, 0, 0);
    add_case("kvm-get", time_kvm_get, 0, 0);
    add_case("on/%u", time_switch, 1, false);
    add_case("on/%u", time_switch, 64, false);
    add_case("off/%u", time_switch, 1, true);
    add_case("off/%u", time_switch, 64, true);
    return serve_cases(argc, argv);
}
