/*
 * unit/test_kcore_ring.c - dirty rings: what a vCPU pushes, when it has to stop, what a reset takes
 * back, and users who write whatever they like into the entries.
 */
#include "unit/arch.h"

#include "model/random.h"

#include <linux/kvm.h>
#include <sys/mman.h>

#define PAGE UINT64_C(4096)
#define HVA UINT64_C(0x7f0000000000)
#define LOG MEMSLOT_LOG
#define ENTRIES 1024u
#define RING_BYTES (ENTRIES * sizeof(struct kvm_dirty_gfn))
#define DIRTY KVM_DIRTY_GFN_F_DIRTY
#define RESET KVM_DIRTY_GFN_F_RESET

struct machine {
    struct arch *arch;
    struct kcore_vcpu vcpus[2];
    uint32_t requests[2];
};

/* Two vCPUs with rings of 1,024; slot 1 with 1,000 pages from frame 0x1000 on, logged. */
static struct machine *open_machine(void)
{
    static struct machine machine;

    machine.arch = arch_open();
    assert_int_equal(kcore_enable_rings(&machine.arch->core, RING_BYTES), 0);
    for (unsigned i = 0; i < 2; i++) {
        machine.requests[i] = 0;
        assert_int_equal(
            kcore_vcpu_init(&machine.vcpus[i], &machine.arch->core, i, &machine.requests[i]), 0);
    }
    assert_int_equal(arch_set(machine.arch, 1, LOG, 0x1000 * PAGE, 1000 * PAGE, HVA), 0);
    (void)arch_said(machine.arch);
    return &machine;
}

/* Of a page of a ring, whether anything is mapped there. */
static bool is_mapped(void *page)
{
    unsigned char in_core;

    return mincore(page, PAGE, &in_core) == 0;
}

static void close_machine(struct machine *machine)
{
    void *entries[] = {machine->vcpus[0].ring.entries, machine->vcpus[1].ring.entries};

    assert_true(is_mapped(entries[0]) && is_mapped(entries[1]));
    kcore_vcpu_fini(&machine->vcpus[0]);
    kcore_vcpu_fini(&machine->vcpus[1]);
    assert_false(is_mapped(entries[0]) || is_mapped(entries[1]));
    arch_close(machine->arch);
}

static void write_page(struct machine *machine, unsigned vcpu, uint64_t page)
{
    assert_true(kcore_mark_dirty(&machine->arch->core, &machine->vcpus[vcpu],
                                 arch_find(machine->arch, 0, 0x1000 + page),
                                 (struct gfn){0x1000 + page}));
}

/* What a user does: take the entry at a position, and mark it so. */
static void expect_entry(struct machine *machine, unsigned vcpu, uint32_t position, uint64_t page)
{
    struct kvm_dirty_gfn *entry = &machine->vcpus[vcpu].ring.entries[position % ENTRIES];

    assert_int_equal(entry->flags, DIRTY);
    assert_int_equal(entry->slot, 1);
    assert_int_equal(entry->offset, page);
    entry->flags = DIRTY | RESET;
}

static void ring_sizes_are_checked_as_the_kernel_does(void **state)
{
    /* 0, no power of two, below the reserve, too many; twice; after a vCPU. */
    struct arch *arch = arch_open();
    struct kcore_vcpu vcpu;
    uint32_t requests = 0;

    (void)state;
    assert_int_equal(kcore_reset_rings(&arch->core), -EINVAL);
    assert_int_equal(kcore_enable_ring_bitmap(&arch->core), -EINVAL);
    assert_int_equal(kcore_enable_rings(&arch->core, 0), -EINVAL);
    assert_int_equal(kcore_enable_rings(&arch->core, RING_BYTES + 16), -EINVAL);
    assert_int_equal(kcore_enable_rings(&arch->core, 8192), -EINVAL);
    assert_int_equal(kcore_enable_rings(&arch->core, UINT64_C(2) << 20), -E2BIG);
    assert_int_equal(kcore_enable_rings(&arch->core, UINT64_C(32) << 20), -E2BIG);
    assert_int_equal(kcore_enable_rings(&arch->core, UINT64_C(1) << 20), 0);
    assert_int_equal(kcore_enable_rings(&arch->core, UINT64_C(1) << 20), -EINVAL);
    assert_int_equal(kcore_vcpu_init(&vcpu, &arch->core, 0, &requests), 0);
    assert_int_equal(vcpu.ring.entry_count, 65536);
    kcore_vcpu_fini(&vcpu);
    arch_close(arch);

    arch = arch_open();
    assert_int_equal(kcore_vcpu_init(&vcpu, &arch->core, 0, &requests), 0);
    assert_null(vcpu.ring.entries);
    assert_false(ring_is_soft_full(&vcpu.ring));
    kcore_vcpu_fini(&vcpu);
    assert_int_equal(kcore_enable_rings(&arch->core, UINT64_C(1) << 20), -EINVAL);
    arch_close(arch);
}

static void ring_entries_come_in_order_and_go_back(void **state)
{
    /* Neighbours are protected together, forwards and backwards; then there is one flush. */
    static const uint64_t pages[] = {100, 101, 163, 99, 164, 500, 7};
    struct machine *machine = open_machine();
    uint64_t word;

    (void)state;
    for (size_t i = 0; i < 7; i++) {
        write_page(machine, 0, pages[i]);
    }
    assert_int_equal(kcore_reset_rings(&machine->arch->core), 0);
    assert_string_equal(arch_said(machine->arch), "");
    for (uint32_t i = 0; i < 7; i++) {
        expect_entry(machine, 0, i, pages[i]);
    }
    write_page(machine, 1, 3);
    assert_int_equal(kcore_reset_rings(&machine->arch->core), 7);
    /* 99 does not fit before 100 with 163 in: a batch of its own, and 164 is 65 pages from there. */
    assert_string_equal(arch_said(machine->arch),
                        "protect:0.1:100:8000000000000003 protect:0.1:99:1 protect:0.1:164:1 "
                        "protect:0.1:500:1 protect:0.1:7:1 tlb");
    expect_entry(machine, 1, 0, 3);
    assert_int_equal(kcore_reset_rings(&machine->arch->core), 1);
    assert_string_equal(arch_said(machine->arch), "protect:0.1:3:1 tlb");
    assert_int_equal(kcore_log_get(&machine->arch->core, 1, &word, 1), -ENXIO);
    assert_int_equal(kcore_log_clear(&machine->arch->core, 1, 1, 1, &word), -ENXIO);
    close_machine(machine);
}

static void ring_backwards_run_is_one_batch(void **state)
{
    /* A guest that writes downwards: 64 pages are one call. */
    struct machine *machine = open_machine();

    (void)state;
    for (uint32_t i = 0; i < 65; i++) {
        write_page(machine, 0, 200 - i);
        expect_entry(machine, 0, i, 200 - i);
    }
    assert_int_equal(kcore_reset_rings(&machine->arch->core), 65);
    assert_string_equal(arch_said(machine->arch),
                        "protect:0.1:137:ffffffffffffffff protect:0.1:136:1 tlb");
    close_machine(machine);
}

static void ring_reset_stops_at_the_first_that_is_not_marked(void **state)
{
    /* Users harvest in order; what comes after a gap waits. */
    struct machine *machine = open_machine();

    (void)state;
    for (uint32_t i = 0; i < 3; i++) {
        write_page(machine, 0, i);
    }
    expect_entry(machine, 0, 0, 0);
    expect_entry(machine, 0, 2, 2);
    assert_int_equal(kcore_reset_rings(&machine->arch->core), 1);
    expect_entry(machine, 0, 1, 1);
    assert_int_equal(kcore_reset_rings(&machine->arch->core), 2);
    close_machine(machine);
}

static void ring_soft_full_keeps_the_reserve(void **state)
{
    /* 1,024 less 576; then the rest can still be pushed, and then no more. */
    struct machine *machine = open_machine();
    struct ring *ring = &machine->vcpus[0].ring;
    uint32_t pushed = 0;

    (void)state;
    while (!ring_is_soft_full(ring)) {
        write_page(machine, 0, pushed % 1000);
        pushed++;
    }
    assert_int_equal(pushed, ENTRIES - RING_RESERVED_ENTRIES);
    for (; pushed < ENTRIES; pushed++) {
        write_page(machine, 0, pushed % 1000);
    }
    assert_false(kcore_mark_dirty(&machine->arch->core, &machine->vcpus[0],
                                  arch_find(machine->arch, 0, 0x1000), (struct gfn){0x1000}));
    for (uint32_t i = 0; i < ENTRIES; i++) {
        expect_entry(machine, 0, i, i % 1000);
    }
    assert_int_equal(kcore_reset_rings(&machine->arch->core), ENTRIES);
    assert_false(ring_is_soft_full(ring));
    write_page(machine, 0, 5);
    expect_entry(machine, 0, ENTRIES, 5);
    close_machine(machine);
}

static void ring_positions_go_on_past_2_to_the_32(void **state)
{
    /* They are counted modulo 2^32. */
    struct machine *machine = open_machine();
    struct ring *ring = &machine->vcpus[0].ring;

    (void)state;
    atomic_store(&ring->dirty, UINT32_MAX - 1);
    atomic_store(&ring->reset, UINT32_MAX - 1);
    for (uint32_t i = 0; i < 4; i++) {
        write_page(machine, 0, i);
        expect_entry(machine, 0, UINT32_MAX - 1 + i, i);
    }
    assert_int_equal(kcore_reset_rings(&machine->arch->core), 4);
    assert_int_equal(atomic_load(&ring->reset), 2);
    close_machine(machine);
}

static void ring_hostile_entries_are_passed_over(void **state)
{
    /* Slots and pages that are not there, or wrap; marks on entries that were never pushed. */
    static const struct kvm_dirty_gfn hostile[] = {
        {RESET, 1, 1000},
        {RESET, 1, UINT64_MAX},
        {RESET, 1, UINT64_MAX - 1},
        {RESET, 2, 0},
        {RESET, 0x10001, 0},
        {RESET, 0xffff0001, 0},
        {RESET, 32764, 0},
        {RESET, 0xffff, 0},
        {RESET, UINT32_MAX, UINT64_MAX},
        {RESET, 1, UINT64_C(1) << 63},
        {RESET | 0xff00, 1, 999},
        {RESET, 1, 1000},
        {RESET, 1, 1001},
    };
    const uint32_t count = sizeof(hostile) / sizeof(hostile[0]);
    struct machine *machine = open_machine();
    struct kvm_dirty_gfn *entries = machine->vcpus[0].ring.entries;

    (void)state;
    for (uint32_t i = 0; i < count; i++) {
        write_page(machine, 0, 0);
    }
    for (uint32_t i = 0; i < ENTRIES; i++) {
        entries[i] = i < count ? hostile[i] : (struct kvm_dirty_gfn){RESET, 1, 0};
    }
    assert_int_equal(kcore_reset_rings(&machine->arch->core), (int)count);
    /* 999 with 1000 and 1001, which are cut off. */
    assert_string_equal(arch_said(machine->arch), "protect:0.1:999:1 tlb");
    assert_int_equal(kcore_reset_rings(&machine->arch->core), 0);
    close_machine(machine);
}

static void ring_random_entries_do_no_harm(void **state)
{
    /* Any bytes at all, many times over; the fake mmu checks that each page it is given exists. */
    struct machine *machine = open_machine();
    struct rnd rnd = {rnd_seed("ring")};

    (void)state;
    machine->arch->is_silent = true;
    for (unsigned round = 0; round < 2000; round++) {
        struct ring *ring = &machine->vcpus[round % 2].ring;
        unsigned pushes = (unsigned)rnd_below(&rnd, 64);

        for (unsigned i = 0; i < pushes && !ring_is_soft_full(ring); i++) {
            write_page(machine, round % 2, rnd_below(&rnd, 1000));
        }
        for (unsigned i = 0; i < 64; i++) {
            struct kvm_dirty_gfn *entry = &ring->entries[rnd_below(&rnd, ENTRIES)];

            entry->flags |= rnd_one_in(&rnd, 2) ? RESET : (uint32_t)rnd_next(&rnd);
            entry->slot = rnd_one_in(&rnd, 2) ? 1 : (uint32_t)rnd_next(&rnd);
            entry->offset = rnd_one_in(&rnd, 2) ? rnd_below(&rnd, 1100) : rnd_next(&rnd);
        }
        assert_true(kcore_reset_rings(&machine->arch->core) >= 0);
    }
    close_machine(machine);
}

static void ring_reset_of_a_slot_that_changed_protects_nothing(void **state)
{
    /* It is no longer logged, is shorter, or has gone. */
    struct machine *machine = open_machine();

    (void)state;
    for (uint32_t i = 0; i < 3; i++) {
        write_page(machine, 0, 10 * i);
    }
    expect_entry(machine, 0, 0, 0);
    assert_int_equal(arch_set(machine->arch, 1, 0, 0x1000 * PAGE, 1000 * PAGE, HVA), 0);
    (void)arch_said(machine->arch);
    assert_int_equal(kcore_reset_rings(&machine->arch->core), 1);
    assert_string_equal(arch_said(machine->arch), "tlb");
    expect_entry(machine, 0, 1, 10);
    assert_int_equal(arch_set(machine->arch, 1, 0, 0, 0, 0), 0);
    assert_int_equal(arch_set(machine->arch, 1, LOG, 0, 5 * PAGE, HVA), 0);
    (void)arch_said(machine->arch);
    assert_int_equal(kcore_reset_rings(&machine->arch->core), 1);
    assert_string_equal(arch_said(machine->arch), "tlb");
    expect_entry(machine, 0, 2, 20);
    assert_int_equal(arch_set(machine->arch, 1, 0, 0, 0, 0), 0);
    (void)arch_said(machine->arch);
    assert_int_equal(kcore_reset_rings(&machine->arch->core), 1);
    assert_string_equal(arch_said(machine->arch), "tlb");
    close_machine(machine);
}

static void ring_with_bitmap_logs_what_no_vcpu_wrote(void **state)
{
    /* A device's write goes to the bitmap, a vCPU's to its ring; it must be chosen before slots are. */
    struct arch *arch = arch_open();
    struct kcore_vcpu vcpu;
    uint32_t requests = 0;
    uint64_t words[1];
    const struct memslot *slot;

    (void)state;
    assert_int_equal(kcore_enable_rings(&arch->core, RING_BYTES), 0);
    assert_int_equal(arch_set(arch, 1, 0, 0, 10 * PAGE, HVA), 0);
    assert_int_equal(kcore_enable_ring_bitmap(&arch->core), -EINVAL);
    assert_int_equal(arch_set(arch, 1, LOG, 0, 10 * PAGE, HVA), 0);
    assert_null(arch_find(arch, 0, 0)->log);
    assert_true(kcore_mark_dirty(&arch->core, NULL, arch_find(arch, 0, 0), (struct gfn){0}));
    assert_int_equal(arch_set(arch, 1, 0, 0, 0, 0), 0);
    assert_int_equal(kcore_enable_ring_bitmap(&arch->core), 0);
    assert_int_equal(kcore_vcpu_init(&vcpu, &arch->core, 0, &requests), 0);
    assert_int_equal(arch_set(arch, 1, LOG, 0, 10 * PAGE, HVA), 0);
    slot = arch_find(arch, 0, 0);
    assert_true(kcore_mark_dirty(&arch->core, NULL, slot, (struct gfn){1}));
    assert_true(kcore_mark_dirty(&arch->core, &vcpu, slot, (struct gfn){2}));
    assert_int_equal(kcore_log_get(&arch->core, 1, words, 1), 0);
    assert_int_equal(words[0], 2);
    assert_int_equal(vcpu.ring.entries[0].offset, 2);
    kcore_vcpu_fini(&vcpu);
    arch_close(arch);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ring_sizes_are_checked_as_the_kernel_does),
        cmocka_unit_test(ring_entries_come_in_order_and_go_back),
        cmocka_unit_test(ring_backwards_run_is_one_batch),
        cmocka_unit_test(ring_reset_stops_at_the_first_that_is_not_marked),
        cmocka_unit_test(ring_soft_full_keeps_the_reserve),
        cmocka_unit_test(ring_positions_go_on_past_2_to_the_32),
        cmocka_unit_test(ring_hostile_entries_are_passed_over),
        cmocka_unit_test(ring_random_entries_do_no_harm),
        cmocka_unit_test(ring_reset_of_a_slot_that_changed_protects_nothing),
        cmocka_unit_test(ring_with_bitmap_logs_what_no_vcpu_wrote),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
