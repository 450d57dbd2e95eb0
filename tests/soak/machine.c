/* soak/machine.c - the machine of the soak: its blocks and regions, vCPUs, and what host and guest know of each page. */
#include "soak.h"

#include <errno.h>
#include <inttypes.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include <linux/kvm.h>
#include <urcu-bp.h>

#define WAIT_SECONDS_MAX 120
#define RCU_DEPTH 4u /* what is freed after a grace period may free after another */
#define CPUID_ENTRIES 256u
#define PRESENT_WRITABLE 0x3u
#define LARGE_PAGE 0x80u

extern const uint8_t soak_program[];
extern const uint8_t soak_program_end[];

/* ---- words that host and guest share ---- */

uint64_t soak_load(const uint64_t *word)
{
    return __atomic_load_n(word, __ATOMIC_SEQ_CST);
}

void soak_store(uint64_t *word, uint64_t value)
{
    __atomic_store_n(word, value, __ATOMIC_SEQ_CST);
}

uint64_t *soak_word(const struct soak_memory *memory, unsigned vcpu)
{
    return (uint64_t *)(void *)memory->bytes + vcpu;
}

static uint8_t *low_bytes(const struct soak *soak)
{
    return gm_ram_hva(soak->low_block);
}

uint64_t *soak_own(const struct soak *soak, unsigned vcpu, unsigned offset)
{
    return (uint64_t *)(void *)(low_bytes(soak) + SOAK_OWN * (1 + vcpu) + offset);
}

uint64_t *soak_expect(const struct soak *soak, unsigned vcpu, unsigned page)
{
    return soak_own(soak, vcpu, SOAK_OWN_EXPECT) + page;
}

uint64_t soak_done(const struct soak *soak, unsigned vcpu)
{
    return soak_load(soak_own(soak, vcpu, SOAK_OWN_DONE));
}

void soak_set_place(struct soak *soak, unsigned page, uint64_t gpa)
{
    soak_store((uint64_t *)(void *)(low_bytes(soak) + SOAK_PLACES) + page, gpa | PRESENT_WRITABLE);
}

static uint8_t *parked(const struct soak *soak, unsigned page)
{
    return low_bytes(soak) + SOAK_PARKED + page;
}

/* Two steps after a store to memory that the vCPU reads in each, it has read it. */
static void wait_for_steps(const struct soak *soak)
{
    time_t end = time(NULL) + WAIT_SECONDS_MAX;
    uint64_t before[SOAK_VCPUS];

    for (unsigned i = 0; i < SOAK_VCPUS; i++) {
        before[i] = soak_done(soak, i);
    }
    for (unsigned i = 0; i < SOAK_VCPUS; i++) {
        while (soak_done(soak, i) - before[i] < 2 * SOAK_STEP) {
            REQUIRE(time(NULL) < end, "vCPU %u does not get on from step %" PRIu64, i,
                    soak_done(soak, i) / SOAK_STEP);
            sched_yield();
        }
    }
}

void soak_park(struct soak *soak, unsigned first, unsigned count)
{
    for (unsigned page = first; page - first < count; page++) {
        __atomic_add_fetch(parked(soak, page), 1, __ATOMIC_SEQ_CST);
    }
    wait_for_steps(soak);
    atomic_fetch_add(&soak->parkings, 1);
}

void soak_unpark(struct soak *soak, unsigned first, unsigned count)
{
    for (unsigned page = first; page - first < count; page++) {
        __atomic_sub_fetch(parked(soak, page), 1, __ATOMIC_SEQ_CST);
    }
}

void soak_check(struct soak *soak, unsigned page)
{
    const struct soak_memory *memory = soak->shown[page];

    pthread_mutex_lock(&soak->host);
    for (unsigned i = 0; memory != NULL && i < SOAK_VCPUS; i++) {
        uint64_t found = soak_load(soak_word(memory, i));
        uint64_t expect = soak_load(soak_expect(soak, i, page));

        REQUIRE(found == expect,
                "page %u has %#" PRIx64 " of vCPU %u, which stored %#" PRIx64 " there", page, found,
                i, expect);
        atomic_fetch_add(&soak->compared_words, 1);
    }
    pthread_mutex_unlock(&soak->host);
}

void soak_show(struct soak *soak, unsigned page, struct soak_memory *memory)
{
    struct soak_memory *before = soak->shown[page];

    if (before == memory) {
        return;
    }
    soak_check(soak, page);
    pthread_mutex_lock(&soak->model);
    for (unsigned i = 0; i < SOAK_VCPUS; i++) {
        if (before != NULL) {
            before->expect[i] = soak_load(soak_expect(soak, i, page));
        }
        if (memory != NULL) {
            soak_store(soak_expect(soak, i, page), memory->expect[i]);
        }
    }
    if (before != NULL) {
        before->shown_at = NOT_SHOWN;
    }
    if (memory != NULL) {
        memory->shown_at = page;
    }
    soak->shown[page] = memory;
    pthread_mutex_unlock(&soak->model);
}

/* ---- what the guest says ---- */

/* A vCPU has loaded something else than what it had stored. */
static enum gm_access on_mismatch(void *opaque, uint64_t offset, unsigned size_bytes,
                                  uint64_t value, struct gm_attrs attrs)
{
    const struct soak *soak = opaque;
    unsigned vcpu = (unsigned)(offset / 8);

    (void)size_bytes;
    (void)attrs;
    REQUIRE(vcpu < SOAK_VCPUS, "the guest has lost its way");
    REQUIRE(false, "vCPU %u, step %" PRIu64 ": %#" PRIx64 " at page %" PRIu64 ", not %#" PRIx64,
            vcpu, soak_done(soak, vcpu) / SOAK_STEP + 1,
            soak_load(soak_own(soak, vcpu, SOAK_OWN_FOUND)), value,
            soak_load(soak_own(soak, vcpu, SOAK_OWN_WANTED)));
    return GM_ACCESS_OK;
}

static enum gm_access on_read(void *opaque, uint64_t offset, unsigned size_bytes, uint64_t *value,
                              struct gm_attrs attrs)
{
    (void)opaque;
    (void)offset;
    (void)size_bytes;
    (void)attrs;
    *value = 0;
    return GM_ACCESS_DECODE;
}

static const struct gm_io_ops port_ops = {
    .size = sizeof(port_ops),
    .read = on_read,
    .write = on_mismatch,
};

void soak_check_exits(const struct soak *soak)
{
    for (unsigned i = 0; i < SOAK_VCPUS; i++) {
        struct gm_vcpu_stats stats;

        gm_vcpu_stats(soak->vcpus[i], &stats);
        REQUIRE(stats.mmio_reads + stats.mmio_writes + stats.unmapped == 0,
                "vCPU %u: %" PRIu64 " reads and %" PRIu64 " writes came out as MMIO, %" PRIu64
                " unmapped",
                i, stats.mmio_reads, stats.mmio_writes, stats.unmapped);
    }
}

/* ---- memory ---- */

/* An allocator that knows how much it has handed out: the size stands before what it returns. */
#define HEADER_BYTES 64u /* keeps the alignment that anybody asks for */

static void *counting_alloc(void *opaque, size_t size_bytes)
{
    struct soak_memory_use *use = opaque;
    uint8_t *memory = malloc(size_bytes + HEADER_BYTES);

    if (memory == NULL) {
        return NULL;
    }
    memcpy(memory, &size_bytes, sizeof(size_bytes));
    atomic_fetch_add(&use->bytes, (long long)size_bytes);
    atomic_fetch_add(&use->count, 1);
    return memory + HEADER_BYTES;
}

static void counting_free(void *opaque, void *memory)
{
    struct soak_memory_use *use = opaque;
    size_t size_bytes;

    if (memory == NULL) {
        return;
    }
    memcpy(&size_bytes, (uint8_t *)memory - HEADER_BYTES, sizeof(size_bytes));
    atomic_fetch_sub(&use->bytes, (long long)size_bytes);
    atomic_fetch_sub(&use->count, 1);
    free((uint8_t *)memory - HEADER_BYTES);
}

static struct gm_ram *make_anon(struct soak *soak, uint32_t page_count)
{
    struct gm_ram *ram;

    REQUIRE(gm_ram_new_anon(page_count * (uint64_t)PAGE_BYTES, &soak->allocator, &ram, NULL) == 0,
            "block");
    return ram;
}

/* Pages of a file, mapped one by one later on: the second half of the file is for those that take others' place. */
static struct gm_ram *make_file(struct soak *soak, uint32_t page_count)
{
    struct gm_ram_options options = {
        .size = sizeof(options),
        .allocator = &soak->allocator,
        .kind = GM_RAM_CALLER,
        .size_bytes = page_count * (uint64_t)PAGE_BYTES,
    };
    struct gm_ram *ram;

    soak->file = memfd_create("soak", MFD_CLOEXEC);
    REQUIRE(soak->file >= 0 && ftruncate(soak->file, 2 * (off_t)options.size_bytes) == 0, "file");
    options.memory =
        mmap(NULL, options.size_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, soak->file, 0);
    REQUIRE(options.memory != MAP_FAILED, "mmap");
    REQUIRE(gm_ram_new(&options, &ram, NULL) == 0, "block");
    return ram;
}

struct gm_region *soak_region(struct soak *soak, const char *name, struct gm_ram *block,
                              uint64_t gpa, int32_t priority, bool is_disabled)
{
    struct gm_region_options options = {
        .size = sizeof(options),
        .kind = GM_REGION_RAM,
        .name = name,
        .size_bytes = gm_ram_size(block),
        .addr = gpa,
        .priority = priority,
        .disabled = is_disabled,
        .ram = block,
    };
    struct gm_region *region;

    REQUIRE(gm_region_new_child(gm_vm_memory_root(soak->vm), &options, &region, NULL) == 0, "%s",
            name);
    return region;
}

static void make_block(struct soak *soak, enum soak_block_number number, const char *name,
                       struct gm_ram *ram, uint64_t gpa)
{
    struct soak_block *block = &soak->blocks[number];
    bool is_bar = number == BLOCK_BAR0 || number == BLOCK_BAR1;
    unsigned regions = is_bar || number == BLOCK_MOVED ? 1 : 2;

    block->name = name;
    block->ram = ram;
    block->page_count = (uint32_t)(gm_ram_size(ram) / PAGE_BYTES);
    block->memories = calloc(block->page_count, sizeof(block->memories[0]));
    block->copy = calloc(block->page_count, sizeof(block->copy[0]));
    REQUIRE(block->memories != NULL && block->copy != NULL, "memory");
    for (uint32_t page = 0; page < block->page_count; page++) {
        block->memories[page].bytes = (uint8_t *)gm_ram_hva(ram) + page * (size_t)PAGE_BYTES;
        block->memories[page].shown_at = NOT_SHOWN;
    }
    for (unsigned i = 0; i < regions; i++) {
        block->regions[i] =
            soak_region(soak, name, ram, gpa, is_bar ? 2 + (int32_t)(number - BLOCK_BAR0) : 0,
                        is_bar || i == 1);
    }
    REQUIRE(pthread_mutex_init(&block->log, NULL) == 0, "mutex");
}

static void show_group(struct soak *soak, enum soak_block_number number, unsigned first,
                       unsigned count, uint64_t gpa)
{
    unsigned stride = number == BLOCK_FILE ? FILE_STRIDE : 1;

    for (unsigned i = 0; i < count; i++) {
        soak_show(soak, first + i, &soak->blocks[number].memories[i * stride]);
        soak_set_place(soak, first + i, gpa + i * (uint64_t)stride * PAGE_BYTES);
    }
}

static void make_low(struct soak *soak)
{
    uint8_t *bytes;

    soak->low_block = make_anon(soak, SOAK_LOW_BYTES / PAGE_BYTES);
    soak->low[0] = soak_region(soak, "low0", soak->low_block, 0, 0, false);
    soak->low[1] = soak_region(soak, "low1", soak->low_block, 0, 0, true);
    bytes = low_bytes(soak);
    memcpy(bytes + SOAK_CODE, soak_program, (size_t)(soak_program_end - soak_program));
    memset(bytes + SOAK_PARKED, 1, SOAK_PAGES); /* until there is something */
    for (unsigned i = 0; i < SOAK_VCPUS; i++) {
        uint64_t own = SOAK_OWN * (1 + (uint64_t)i);

        *soak_own(soak, i, SOAK_OWN_PML4) = (own + SOAK_OWN_PDPT) | PRESENT_WRITABLE;
        *soak_own(soak, i, SOAK_OWN_PDPT) = (own + SOAK_OWN_PD) | PRESENT_WRITABLE;
        soak_own(soak, i, SOAK_OWN_PD)[0] = PRESENT_WRITABLE | LARGE_PAGE;
        soak_own(soak, i, SOAK_OWN_PD)[SOAK_LINEAR >> 21] = (own + SOAK_OWN_PT) | PRESENT_WRITABLE;
    }
}

/* ---- vCPUs ---- */

static void set_cpuid(struct soak *soak, struct gm_vcpu *vcpu)
{
    struct kvm_cpuid2 *cpuid =
        calloc(1, sizeof(*cpuid) + CPUID_ENTRIES * sizeof(cpuid->entries[0]));

    REQUIRE(cpuid != NULL, "memory");
    cpuid->nent = CPUID_ENTRIES;
    REQUIRE(gm_vm_system_ioctl(soak->vm, KVM_GET_SUPPORTED_CPUID, (uintptr_t)cpuid) == 0, "CPUID");
    REQUIRE(gm_vcpu_ioctl(vcpu, KVM_SET_CPUID2, (uintptr_t)cpuid) == 0, "CPUID");
    free(cpuid);
}

static void make_vcpu(struct soak *soak, unsigned index)
{
    struct kvm_segment data = {
        .limit = UINT32_MAX, .type = 3, .present = 1, .s = 1, .db = 1, .g = 1, .selector = 0x10};
    struct kvm_segment code = {
        .limit = UINT32_MAX, .type = 11, .present = 1, .s = 1, .l = 1, .g = 1, .selector = 0x8};
    struct kvm_regs regs = {.rip = SOAK_CODE,
                            .rflags = 2,
                            .r15 = SOAK_OWN * (1 + (uint64_t)index),
                            .r13 = sizeof(uint64_t) * index};
    struct kvm_sregs sregs;
    struct gm_vcpu *vcpu;

    REQUIRE(gm_vcpu_new(soak->vm, index, &vcpu, NULL) == 0, "vCPU %u", index);
    soak->vcpus[index] = vcpu;
    set_cpuid(soak, vcpu);
    REQUIRE(gm_vcpu_ioctl(vcpu, KVM_GET_SREGS, (uintptr_t)&sregs) == 0, "get");
    sregs.cs = code;
    sregs.ds = sregs.es = sregs.fs = sregs.gs = sregs.ss = data;
    sregs.cr0 = 0x80010033; /* PG, WP, NE, ET, MP, PE */
    sregs.cr3 = regs.r15 + SOAK_OWN_PML4;
    sregs.cr4 = 0x20;   /* PAE */
    sregs.efer = 0x500; /* LMA, LME */
    REQUIRE(gm_vcpu_ioctl(vcpu, KVM_SET_SREGS, (uintptr_t)&sregs) == 0, "set");
    REQUIRE(gm_vcpu_ioctl(vcpu, KVM_SET_REGS, (uintptr_t)&regs) == 0, "set");
}

struct vcpu_thread {
    struct soak *soak;
    struct gm_vcpu *vcpu;
};

static void *vcpu_thread(void *opaque)
{
    struct vcpu_thread *self = opaque;
    const struct kvm_run *run = gm_vcpu_kvm_run(self->vcpu);

    while (!atomic_load(&self->soak->vcpu_end)) {
        int rc = gm_vcpu_run(self->vcpu);

        REQUIRE(rc == -EINTR, "gm_vcpu_run: %d, exit %u", rc, run->exit_reason);
    }
    free(self);
    return NULL;
}

void soak_run_vcpus(struct soak *soak, pthread_t threads[static SOAK_VCPUS])
{
    for (unsigned i = 0; i < SOAK_VCPUS; i++) {
        struct vcpu_thread *self = malloc(sizeof(*self));

        REQUIRE(self != NULL, "memory");
        *self = (struct vcpu_thread){soak, soak->vcpus[i]};
        REQUIRE(pthread_create(&threads[i], NULL, vcpu_thread, self) == 0, "thread");
    }
}

void soak_stop_vcpus(struct soak *soak, const pthread_t threads[static SOAK_VCPUS])
{
    atomic_store(&soak->vcpu_end, true);
    for (unsigned i = 0; i < SOAK_VCPUS; i++) {
        gm_vcpu_kick(soak->vcpus[i]);
        REQUIRE(pthread_join(threads[i], NULL) == 0, "join");
    }
}

/* ---- all of it ---- */

static void open_vm(struct soak *soak)
{
    const struct gm_soft_options soft = {
        .size = sizeof(soft),
        .allocator = &soak->allocator,
        .log = soak->mode->log,
        .shadow_paging = soak->mode->shadow_paging,
    };
    const struct gm_map_options map = {.size = sizeof(map), .allocator = &soak->allocator};
    const struct gm_vm_options options = {
        .size = sizeof(options),
        .map = &map,
        .accel = soak->mode->accel,
        .soft = soak->mode->accel == GM_ACCEL_SOFT ? &soft : NULL,
        .dirty_ring_entries = soak->mode->ring_entries,
    };
    struct gm_diag diag = {0};

    REQUIRE(gm_vm_open(&options, &soak->vm, &diag) == 0, "%s", diag.text);
    soak->soft = gm_vm_soft(soak->vm);
}

void soak_open(struct soak *soak, const struct soak_mode *mode)
{
    memset(soak, 0, sizeof(*soak));
    soak->mode = mode;
    soak->allocator = (struct gm_allocator){counting_alloc, counting_free, &soak->use};
    soak->seed = rnd_seed("soak");
    REQUIRE(pthread_mutex_init(&soak->host, NULL) == 0, "mutex");
    REQUIRE(pthread_mutex_init(&soak->model, NULL) == 0, "mutex");
    open_vm(soak);
    make_low(soak);
    make_block(soak, BLOCK_FILE, "file", make_file(soak, FILE_STRIDE * FILE_PAGES), FILE_GPA);
    make_block(soak, BLOCK_ANON, "anon", make_anon(soak, GROUP_PAGES), ANON_GPA);
    make_block(soak, BLOCK_WINDOWED, "windowed", make_anon(soak, GROUP_PAGES), WINDOWED_GPA);
    make_block(soak, BLOCK_BAR0, "bar0", make_anon(soak, BAR_PAGES_MAX / 2), WINDOWED_GPA);
    make_block(soak, BLOCK_BAR1, "bar1", make_anon(soak, BAR_PAGES_MAX), WINDOWED_GPA);
    make_block(soak, BLOCK_MOVED, "moved", make_anon(soak, GROUP_PAGES), PLACE_GPA(0));
    show_group(soak, BLOCK_FILE, SOAK_FILE, FILE_PAGES, FILE_GPA);
    show_group(soak, BLOCK_ANON, SOAK_ANON, GROUP_PAGES, ANON_GPA);
    show_group(soak, BLOCK_WINDOWED, SOAK_WINDOWED, GROUP_PAGES, WINDOWED_GPA);
    show_group(soak, BLOCK_MOVED, SOAK_MOVED, GROUP_PAGES, PLACE_GPA(0));
    REQUIRE(gm_region_new_mmio(gm_vm_map(soak->vm), "mismatch", 8 * SOAK_VCPUS, &port_ops, soak,
                               &soak->port) == 0,
            "port");
    REQUIRE(gm_region_set_addr(soak->port, SOAK_PORT, NULL) == 0, "port");
    REQUIRE(gm_region_add(gm_vm_ports_root(soak->vm), soak->port, NULL) == 0, "port");
    for (unsigned i = 0; i < SOAK_VCPUS; i++) {
        make_vcpu(soak, i);
    }
    for (unsigned page = SOAK_FILE; page < SOAK_HOT; page++) {
        *parked(soak, page) = 0;
    }
}

static void free_block(struct soak_block *block)
{
    for (unsigned i = 0; i < 2 && block->regions[i] != NULL; i++) {
        gm_region_put(block->regions[i]);
    }
    gm_ram_put(block->ram);
    free(block->memories);
    free(block->copy);
    pthread_mutex_destroy(&block->log);
}

void soak_close(struct soak *soak)
{
    uint64_t file_bytes = gm_ram_size(soak->blocks[BLOCK_FILE].ram);
    void *file = gm_ram_hva(soak->blocks[BLOCK_FILE].ram);

    for (unsigned i = 0; i < BLOCKS; i++) {
        free_block(&soak->blocks[i]);
    }
    gm_region_put(soak->low[0]);
    gm_region_put(soak->low[1]);
    gm_region_put(soak->port);
    gm_ram_put(soak->low_block);
    REQUIRE(gm_vm_close(soak->vm, NULL) == 0, "close");
    for (unsigned i = 0; i < RCU_DEPTH; i++) {
        rcu_barrier();
    }
    REQUIRE(munmap(file, file_bytes) == 0 && close(soak->file) == 0, "file");
    REQUIRE(atomic_load(&soak->use.count) == 0, "%lld allocations of %lld bytes are left",
            atomic_load(&soak->use.count), atomic_load(&soak->use.bytes));
    pthread_mutex_destroy(&soak->host);
    pthread_mutex_destroy(&soak->model);
}
