/*
 * unit/test_counts.c - what things cost, counted exactly: a toggle of one BAR in renders, slot operations and allocations,
 * by the number of devices; and the bytes of a region, a range, a slot and a leaf. Time is bench's. The numbers are
 * limits: who makes something cheaper lowers them.
 */
#include <guestmem/guestmem.h>
#include <guestmem/soft_ioctl.h>

#include <linux/kvm.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include <cmocka.h>

#define PAGE 4096ull
#define GIB 0x40000000ull
#define BAR_BYTES 0x10000ull
#define BAR_STRIDE 0x100000ull
#define HOLE_START 0xc0000000ull

/* Measured on x86-64; bytes with a tenth of room. */
#define VISITS_MAX 3
#define ALLOCATIONS_MAX 2 /* a view and a leaf */
#define REGION_BYTES_MAX 440
#define RANGE_BYTES_MAX 80
#define SLOT_BYTES_MAX 126

/* ---- an allocator that counts ---- */

struct tally {
    uint64_t allocations;
    uint64_t live_bytes; /* as asked for, without malloc()'s own */
};

#define HEADER_BYTES 16 /* keeps what malloc() aligns aligned */

static void *tally_alloc(void *opaque, size_t size_bytes)
{
    struct tally *tally = opaque;
    size_t *memory = malloc(size_bytes + HEADER_BYTES);

    assert_non_null(memory);
    *memory = size_bytes;
    __atomic_add_fetch(&tally->allocations, 1, __ATOMIC_RELAXED);
    __atomic_add_fetch(&tally->live_bytes, size_bytes, __ATOMIC_RELAXED);
    return (uint8_t *)memory + HEADER_BYTES;
}

/* Also from liburcu's thread. */
static void tally_free(void *opaque, void *memory)
{
    struct tally *tally = opaque;
    size_t *start = (void *)((uint8_t *)memory - HEADER_BYTES);

    __atomic_sub_fetch(&tally->live_bytes, *start, __ATOMIC_RELAXED);
    free(start);
}

static uint64_t live_bytes(struct tally *tally)
{
    gm_map_quiesce(NULL);
    return __atomic_load_n(&tally->live_bytes, __ATOMIC_RELAXED);
}

/* ---- a recording hypervisor ---- */

struct recorder {
    uint64_t calls;
    uint64_t holds;
};

static int record_slot(void *opaque, const struct gm_slot *slot)
{
    struct recorder *recorder = opaque;

    (void)slot;
    recorder->calls++;
    return 0;
}

static int record_flags(void *opaque, const struct gm_slot *slot, uint32_t new_flags)
{
    (void)new_flags;
    return record_slot(opaque, slot);
}

static int record_hold(void *opaque)
{
    struct recorder *recorder = opaque;

    recorder->holds++;
    return 0;
}

static void record_release(void *opaque)
{
    (void)opaque;
}

static const struct gm_backend_ops recording = {.size = sizeof(recording),
                                                .create = record_slot,
                                                .destroy = record_slot,
                                                .set_flags = record_flags,
                                                .hold = record_hold,
                                                .release = record_release};

/* ---- a PC with N devices, each a bus master ---- */

struct machine {
    struct tally tally;
    struct gm_allocator allocator;
    struct recorder recorder;
    struct gm_map *map;
    struct gm_region *root;
    struct gm_region *hole;
    struct gm_region *first_bar;
    struct gm_space *space;
    struct gm_slots *slots;
};

static struct gm_region *new_region(struct machine *machine, struct gm_region_options options)
{
    struct gm_region *region;

    options.size = sizeof(options);
    assert_int_equal(gm_region_new(machine->map, &options, &region, NULL), 0);
    return region;
}

/* The tree holds them from here on. */
static void attach(struct gm_region *parent, struct gm_region *child)
{
    assert_int_equal(gm_region_add(parent, child, NULL), 0);
    gm_region_put(child);
}

static void attach_ram(struct machine *machine, struct gm_region *parent, uint64_t addr,
                       uint64_t size_bytes, struct gm_region **region)
{
    struct gm_ram *ram;

    assert_int_equal(gm_ram_new_unbacked(size_bytes, NULL, &ram, NULL), 0);
    *region = new_region(
        machine, (struct gm_region_options){
                     .kind = GM_REGION_RAM, .size_bytes = size_bytes, .addr = addr, .ram = ram});
    attach(parent, *region);
    gm_ram_put(ram);
}

static void add_device(struct machine *machine, unsigned i)
{
    struct gm_region *bar;
    struct gm_region *master;
    struct gm_space *space;

    attach_ram(machine, machine->hole, i * BAR_STRIDE, BAR_BYTES, &bar);
    machine->first_bar = i == 0 ? bar : machine->first_bar;
    master = new_region(machine, (struct gm_region_options){.kind = GM_REGION_CONTAINER,
                                                            .size_bytes = GM_SIZE_2_64});
    attach(master, new_region(machine, (struct gm_region_options){.kind = GM_REGION_ALIAS,
                                                                  .size_bytes = GM_SIZE_2_64,
                                                                  .target = machine->root}));
    assert_int_equal(gm_space_new(machine->map, "device", master, &space, NULL), 0);
    gm_region_put(master);
}

static void begin(struct machine *machine, unsigned devices)
{
    struct gm_map_options options = {.size = sizeof(options), .allocator = &machine->allocator};
    const struct gm_backend_options backend = {.size = sizeof(backend),
                                               .allocator = &machine->allocator};
    struct gm_region *ram;

    memset(machine, 0, sizeof(*machine));
    machine->allocator = (struct gm_allocator){tally_alloc, tally_free, &machine->tally};
    assert_int_equal(gm_map_new(&options, &machine->map, NULL), 0);
    machine->root = new_region(machine, (struct gm_region_options){.kind = GM_REGION_CONTAINER,
                                                                   .size_bytes = GM_SIZE_2_64});
    machine->hole = new_region(machine, (struct gm_region_options){.kind = GM_REGION_CONTAINER,
                                                                   .size_bytes = GIB,
                                                                   .addr = HOLE_START});
    attach_ram(machine, machine->root, 0, HOLE_START, &ram);
    attach_ram(machine, machine->root, HOLE_START + GIB, GIB, &ram);
    attach(machine->root, machine->hole);
    assert_int_equal(gm_space_new(machine->map, "memory", machine->root, &machine->space, NULL), 0);
    for (unsigned i = 0; i < devices; i++) {
        add_device(machine, i);
    }
    assert_int_equal(gm_slots_attach(machine->space, &backend, &recording, &machine->recorder,
                                     &machine->slots, NULL),
                     0);
}

static void end(struct machine *machine)
{
    assert_int_equal(gm_slots_detach(machine->slots, NULL), 0);
    gm_region_put(machine->root);
    gm_map_free(machine->map);
    assert_int_equal(live_bytes(&machine->tally), 0);
}

/* ---- a toggle ---- */

struct cost {
    uint64_t slot_calls;
    uint64_t holds;
    uint64_t views;
    uint64_t ranges;
    uint64_t visits;
    uint64_t allocations;
};

static struct cost cost_now(const struct machine *machine)
{
    struct gm_map_stats stats;

    gm_map_stats(machine->map, &stats);
    return (struct cost){machine->recorder.calls, machine->recorder.holds,
                         stats.rendered_views,    stats.rendered_ranges,
                         stats.visited_regions,   machine->tally.allocations};
}

static struct cost toggle(struct machine *machine, bool enabled)
{
    struct cost before = cost_now(machine);
    struct cost after;

    assert_int_equal(gm_region_set_enabled(machine->first_bar, enabled, NULL), 0);
    after = cost_now(machine);
    return (struct cost){
        after.slot_calls - before.slot_calls, after.holds - before.holds,
        after.views - before.views,           after.ranges - before.ranges,
        after.visits - before.visits,         after.allocations - before.allocations};
}

static void counts_toggle_is_one_slot_call_and_one_render_with_any_number_of_devices(void **state)
{
    /* A BAR of RAM goes and comes: one ioctl, one view, its own range, and a bounded number of allocations. */
    static const unsigned devices[] = {1, 8, 30, 100, 200, 500};
    static struct machine machine;

    (void)state;
    for (size_t i = 0; i < sizeof(devices) / sizeof(devices[0]); i++) {
        begin(&machine, devices[i]);
        for (int turn = 0; turn < 4; turn++) {
            bool enabled = turn % 2 != 0;
            struct cost cost = toggle(&machine, enabled);

            printf("%3u devices, %s: views %llu ranges %llu visits %llu allocations %llu\n",
                   devices[i], enabled ? "on " : "off", (unsigned long long)cost.views,
                   (unsigned long long)cost.ranges, (unsigned long long)cost.visits,
                   (unsigned long long)cost.allocations);
            assert_int_equal(cost.slot_calls, 1);
            assert_int_equal(cost.holds, 0);
            assert_int_equal(cost.views, 1);
            assert_int_equal(cost.ranges, enabled ? 1 : 0);
            assert_true(cost.visits <= VISITS_MAX);
#ifndef GM_AUDIT_ON /* which render once more */
            assert_true(cost.allocations <= ALLOCATIONS_MAX);
#endif
        }
        end(&machine);
    }
}

/* ---- bytes ---- */

#define MANY 4096ull

static void counts_bytes_of_regions_ranges_and_slots_are_within_limits(void **state)
{
    /* 4,096 pages of RAM, read-only in turn, so that each is a range and a slot of its own. */
    static struct machine machine;
    const struct gm_backend_options backend = {.size = sizeof(backend),
                                               .allocator = &machine.allocator};
    struct gm_space *space;
    struct gm_slots *slots;
    struct gm_region *root;
    struct gm_ram *ram;
    struct gm_txn *txn;
    uint64_t start, regions, ranges, all;

    (void)state;
    begin(&machine, 1);
    assert_int_equal(gm_ram_new_unbacked(MANY * PAGE, NULL, &ram, NULL), 0);
    root = new_region(&machine, (struct gm_region_options){.kind = GM_REGION_CONTAINER,
                                                           .size_bytes = GM_SIZE_2_64});
    start = live_bytes(&machine.tally);
    assert_int_equal(gm_txn_begin(machine.map, &txn), 0);
    for (uint64_t i = 0; i < MANY; i++) {
        struct gm_region *region =
            new_region(&machine, (struct gm_region_options){.kind = GM_REGION_RAM,
                                                            .size_bytes = PAGE,
                                                            .addr = i * PAGE,
                                                            .ram = ram,
                                                            .ram_offset = i * PAGE,
                                                            .readonly = i % 2 != 0});

        assert_int_equal(gm_txn_add(txn, root, region), 0);
        gm_region_put(region);
    }
    assert_int_equal(gm_txn_commit(txn, NULL), 0);
    regions = live_bytes(&machine.tally);
    assert_int_equal(gm_space_new(machine.map, "many", root, &space, NULL), 0);
    ranges = live_bytes(&machine.tally);
    machine.recorder.calls = 0;
    assert_int_equal(gm_slots_attach(space, &backend, &recording, &machine.recorder, &slots, NULL),
                     0);
    assert_int_equal(machine.recorder.calls, MANY);
    all = live_bytes(&machine.tally);
    printf("bytes: region %.1f, range %.1f, slot %.1f\n", (double)(regions - start) / MANY,
           (double)(ranges - regions) / MANY, (double)(all - ranges) / MANY);
    assert_true(regions - start <= REGION_BYTES_MAX * MANY);
    assert_true(ranges - regions <= RANGE_BYTES_MAX * MANY);
    assert_true(all - ranges <= SLOT_BYTES_MAX * MANY);
    assert_int_equal(gm_slots_detach(slots, NULL), 0);
    gm_ram_put(ram);
    gm_region_put(root);
    end(&machine);
}

static uint64_t claim_2m(void *opaque, gm_hva_t hva, uint64_t size_bytes)
{
    (void)opaque;
    (void)hva;
    (void)size_bytes;
    return 0x200000;
}

/* 64 GiB of large leaves, or 256 MiB of small ones. The way down has five levels. */
static void require_least_tables(bool large)
{
    const struct gm_soft_options options = {.size = sizeof(options),
                                            .page_bytes = large ? claim_2m : NULL};
    uint64_t count = large ? 64 : 1; /* of slots, over the same GiB of the host's */
    uint64_t mapped_bytes = large ? count * GIB : GIB / 4;
    uint64_t leaf_bytes = large ? 0x200000 : PAGE;
    uint8_t *memory = mmap(NULL, 2 * GIB, PROT_READ | PROT_WRITE,
                           MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    struct kvm_pre_fault_memory prefault = {.size = mapped_bytes};
    struct gm_soft_stats stats;
    struct gm_soft *soft;
    struct gm_soft_vcpu *vcpu;
    uint64_t leaves;

    assert_ptr_not_equal(memory, MAP_FAILED);
    assert_int_equal(gm_soft_open(&options, &soft, NULL), 0);
    for (uint32_t i = 0; i < count; i++) {
        struct gm_soft_slot slot = {.slot = i,
                                    .gpa = i * GIB,
                                    .size_bytes = GIB,
                                    .hva = ((uintptr_t)memory + GIB - 1) & ~(GIB - 1)};

        assert_int_equal(gm_soft_set_slots(soft, &slot, 1, NULL), 0);
    }
    assert_int_equal(gm_soft_vcpu_new(soft, 0, &vcpu), 0);
    assert_int_equal(gm_soft_vcpu_ioctl(vcpu, KVM_PRE_FAULT_MEMORY, (uintptr_t)&prefault), 0);
    gm_soft_stats(soft, &stats);
    leaves = large ? stats.pages_2m : stats.pages_4k;
    assert_int_equal(leaves, mapped_bytes / leaf_bytes);
    /* A table for every 512 leaves, one of each level above, which holds all of it, and the root of the second
     * address space. */
    assert_int_equal(stats.table_pages, leaves / 512 + (large ? 3 : 4) + 1);
    gm_soft_vcpu_free(vcpu);
    assert_int_equal(gm_soft_close(soft), 0);
    munmap(memory, 2 * GIB);
}

static void counts_tables_are_the_least_that_the_leaves_take(void **state)
{
    /* No table page is there that the format does not need. */
    (void)state;
    require_least_tables(true);
    require_least_tables(false);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(counts_toggle_is_one_slot_call_and_one_render_with_any_number_of_devices),
        cmocka_unit_test(counts_bytes_of_regions_ranges_and_slots_are_within_limits),
        cmocka_unit_test(counts_tables_are_the_least_that_the_leaves_take),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
