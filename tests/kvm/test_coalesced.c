/*
 * tests/kvm/test_coalesced.c - coalesced ranges of a running guest: what its devices see, and when.
 */
#include "guest.h"

#include "model/random.h"
#include "vm/vm.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

#define RANGE_OFFSET 0x100u
#define RANGE_BYTES 0x100u
#define IN_RANGE (GUEST_MMIO + RANGE_OFFSET)
#define RING_ENTRIES 170u /* one of them stays free */
#define PLAIN (GUEST_MMIO + 0x800u)

/* The MMIO region's range, and the first four ports. */
static void coalesce(struct guest *guest)
{
    struct gm_txn *txn;

    assert_int_equal(gm_txn_begin(gm_vm_map(guest->vm), &txn), 0);
    assert_int_equal(gm_txn_add_coalesced(txn, guest->mmio, RANGE_OFFSET, RANGE_BYTES), 0);
    assert_int_equal(gm_txn_add_coalesced(txn, guest->ports, 0, 4), 0);
    assert_int_equal(gm_txn_commit(txn, NULL), 0);
}

static void store(struct guest *guest, unsigned address, uint8_t value)
{
    EMIT_MOV_AL(guest, value);
    EMIT_STORE_AL(guest, address);
}

static void out(struct guest *guest, unsigned port, uint8_t value)
{
    EMIT_MOV_DX(guest, port);
    EMIT_MOV_AL(guest, value);
    EMIT_OUT_AL(guest);
}

/* One after the other, "oOFFSET=VALUE " for each write, "r " for each read, of both recorders in their order. */
struct story {
    char text[512];
};

static void tell(void *opaque, const struct record *record)
{
    struct story *story = opaque;
    size_t used = strlen(story->text);

    if (record->is_write) {
        snprintf(story->text + used, sizeof(story->text) - used, "%llx=%llx ",
                 (unsigned long long)record->offset, (unsigned long long)record->value);
    } else {
        snprintf(story->text + used, sizeof(story->text) - used, "r%llx ",
                 (unsigned long long)record->offset);
    }
}

static void listen(struct guest *guest, struct story *story)
{
    guest->mmio_seen.on_access = tell;
    guest->mmio_seen.opaque = story;
    guest->ports_seen.on_access = tell;
    guest->ports_seen.opaque = story;
}

static struct gm_vcpu_stats stats_of(const struct guest *guest)
{
    struct gm_vcpu_stats stats;

    gm_vcpu_stats(guest->vcpu, &stats);
    return stats;
}

static void coalesced_writes_come_in_order_before_the_next_exit(void **state)
{
    /* Collected writes to memory and ports, between them and behind them some that are not: as the guest made them. */
    struct story story = {""};
    struct guest guest;

    (void)state;
    GUEST_NEEDS_KVM();
    guest_init(&guest, NULL);
    coalesce(&guest);
    listen(&guest, &story);
    store(&guest, IN_RANGE, 1);
    out(&guest, GUEST_PORT + 1, 2);
    store(&guest, IN_RANGE + 0xff, 3);
    store(&guest, PLAIN, 4);
    out(&guest, GUEST_PORT + 3, 5);
    EMIT_LOAD_AL(&guest, IN_RANGE + 1);
    store(&guest, IN_RANGE + 2, 6);
    out(&guest, GUEST_PORT + 4, 7);
    store(&guest, IN_RANGE + 3, 8);
    EMIT_HLT(&guest);
    guest_run_to_hlt(&guest);
    assert_string_equal(story.text, "100=1 1=2 1ff=3 800=4 3=5 r101 102=6 4=7 103=8 ");
    assert_int_equal(stats_of(&guest).mmio_writes, 1);
    assert_int_equal(stats_of(&guest).mmio_reads, 1);
    assert_int_equal(stats_of(&guest).port_writes, 1);
    guest_fini(&guest);
}

/* Counts writes, each of which has to be one more than the last. */
struct sequence {
    unsigned count;
    bool is_broken;
};

static void check_sequence(void *opaque, const struct record *record)
{
    struct sequence *sequence = opaque;

    sequence->count++;
    sequence->is_broken = sequence->is_broken || record->value != (sequence->count & 0xffff);
}

static void coalesced_writes_beyond_the_ring_lose_none(void **state)
{
    /* 1,000 words to one register: a ring is full after 169, one write exits, and all come in order. */
    struct sequence sequence = {0};
    struct guest guest;

    (void)state;
    GUEST_NEEDS_KVM();
    guest_init(&guest, NULL);
    coalesce(&guest);
    guest.mmio_seen.on_access = check_sequence;
    guest.mmio_seen.opaque = &sequence;
    /* mov cx, 1000; xor ax, ax; again: inc ax; mov [IN_RANGE], ax; loop again */
    EMIT(&guest, 0xb9, LO(1000), HI(1000), 0x31, 0xc0, 0x40, 0xa3, LO(IN_RANGE), HI(IN_RANGE), 0xe2,
         0xfa);
    EMIT_HLT(&guest);
    guest_run_to_hlt(&guest);
    assert_int_equal(sequence.count, 1000);
    assert_false(sequence.is_broken);
    assert_int_equal(stats_of(&guest).mmio_writes, 1000 / 170);
    guest_fini(&guest);
}

/* The guest has made three writes to the range, and spins. */
static void write_and_spin(struct guest *guest)
{
    store(guest, IN_RANGE, 1);
    store(guest, IN_RANGE + 1, 2);
    store(guest, IN_RANGE + 2, 3);
    EMIT_SPIN(guest);
    guest_start(guest);
    guest_wait_spinning(guest);
}

static void coalesced_writes_are_seen_by_a_reader_of_their_region(void **state)
{
    /* They wait while the guest spins; an access to their region, by anyone, comes after them; a flush of nothing is one. */
    struct story story = {""};
    uint64_t value = 0;
    struct guest guest;

    (void)state;
    GUEST_NEEDS_KVM();
    guest_init(&guest, NULL);
    coalesce(&guest);
    listen(&guest, &story);
    write_and_spin(&guest);
    assert_string_equal(story.text, "");
    assert_int_equal(
        gm_load(gm_vm_memory(guest.vm), PLAIN, 1, GM_ORDER_LITTLE, &value, (struct gm_attrs){0}),
        GM_ACCESS_OK);
    assert_string_equal(story.text, "100=1 101=2 102=3 r800 ");
    gm_vm_flush_coalesced(guest.vm);
    assert_string_equal(story.text, "100=1 101=2 102=3 r800 ");
    guest_stop(&guest);
    guest_fini(&guest);
}

/* Another region with a recorder, attached nowhere. */
static struct gm_region *other_region(struct guest *guest, struct recorder *recorder, uint64_t addr,
                                      bool flushes)
{
    const struct gm_region_options options = {
        .size = sizeof(options),
        .kind = GM_REGION_MMIO,
        .name = "other",
        .size_bytes = 0x1000,
        .addr = addr,
        .priority = 1,
        .io = &recorder_ops,
        .opaque = recorder,
        .flush_coalesced = flushes,
    };
    struct gm_region *region;

    assert_int_equal(gm_region_new(gm_vm_map(guest->vm), &options, &region, NULL), 0);
    return region;
}

static void coalesced_writes_are_seen_by_a_region_that_asks(void **state)
{
    /* A region without ranges does not wait for others' writes, unless it has asked to. */
    struct story story = {""};
    struct recorder seen[2] = {{.on_access = tell, .opaque = &story},
                               {.on_access = tell, .opaque = &story}};
    struct gm_region *regions[2];
    struct guest guest;
    uint64_t value;

    (void)state;
    GUEST_NEEDS_KVM();
    guest_init(&guest, NULL);
    coalesce(&guest);
    listen(&guest, &story);
    for (unsigned i = 0; i < 2; i++) {
        regions[i] = other_region(&guest, &seen[i], 0x10000 + 0x1000 * i, i == 1);
        assert_int_equal(gm_region_add(gm_vm_memory_root(guest.vm), regions[i], NULL), 0);
    }
    write_and_spin(&guest);
    for (unsigned i = 0; i < 2; i++) {
        assert_int_equal(gm_load(gm_vm_memory(guest.vm), 0x10000 + 0x1001 * i, 1, GM_ORDER_LITTLE,
                                 &value, (struct gm_attrs){0}),
                         GM_ACCESS_OK);
    }
    assert_string_equal(story.text, "r0 100=1 101=2 102=3 r1 ");
    guest_stop(&guest);
    gm_region_put(regions[0]);
    gm_region_put(regions[1]);
    guest_fini(&guest);
}

struct nest {
    struct guest *guest;
    unsigned depth;
};

/* Read the same register again, from its own callback, as deep as may be; there let the writes come. */
static void go_deeper(void *opaque, const struct record *record)
{
    struct nest *nest = opaque;
    uint64_t value;

    (void)record;
    nest->depth++;
    if (nest->depth < GM_IO_DEPTH_MAX) {
        assert_int_equal(gm_load(gm_vm_memory(nest->guest->vm), 0x10000, 1, GM_ORDER_LITTLE, &value,
                                 (struct gm_attrs){0}),
                         GM_ACCESS_OK);
    } else {
        gm_vm_flush_coalesced(nest->guest->vm);
    }
}

static void coalesced_writes_are_made_up_for_at_any_depth(void **state)
{
    /* Under so many callbacks that no other would be called: they were taken long before. */
    struct story story = {""};
    struct guest guest;
    struct nest nest = {.guest = &guest};
    struct recorder seen = {.on_access = go_deeper, .opaque = &nest};
    struct gm_region *region;
    uint64_t value;

    (void)state;
    GUEST_NEEDS_KVM();
    guest_init(&guest, NULL);
    coalesce(&guest);
    listen(&guest, &story);
    region = other_region(&guest, &seen, 0x10000, false);
    assert_int_equal(gm_region_add(gm_vm_memory_root(guest.vm), region, NULL), 0);
    write_and_spin(&guest);
    assert_int_equal(
        gm_load(gm_vm_memory(guest.vm), 0x10000, 1, GM_ORDER_LITTLE, &value, (struct gm_attrs){0}),
        GM_ACCESS_OK);
    assert_int_equal(nest.depth, GM_IO_DEPTH_MAX);
    assert_string_equal(story.text, "100=1 101=2 102=3 ");
    guest_stop(&guest);
    gm_region_put(region);
    guest_fini(&guest);
}

static void coalesced_writes_go_to_the_region_that_they_were_made_to(void **state)
{
    /* Its range goes while they are pending, and another region with a range has come to its address. */
    struct recorder seen = {0};
    struct gm_region *other;
    struct gm_txn *txn;
    struct guest guest;

    (void)state;
    GUEST_NEEDS_KVM();
    guest_init(&guest, NULL);
    coalesce(&guest);
    other = other_region(&guest, &seen, GUEST_MMIO, false);
    write_and_spin(&guest);
    assert_int_equal(guest.mmio_seen.count, 0);
    assert_int_equal(gm_txn_begin(gm_vm_map(guest.vm), &txn), 0);
    assert_int_equal(gm_txn_add_coalesced(txn, other, 0, GM_COALESCED_WHOLE), 0);
    assert_int_equal(gm_txn_add(txn, gm_vm_memory_root(guest.vm), other), 0);
    assert_int_equal(gm_txn_del(txn, gm_vm_memory_root(guest.vm), guest.mmio), 0);
    assert_int_equal(gm_txn_commit(txn, NULL), 0);
    assert_int_equal(guest.mmio_seen.count, 0); /* a commit calls no callback */
    gm_vm_flush_coalesced(guest.vm);
    assert_int_equal(guest.mmio_seen.count, 3);
    for (unsigned i = 0; i < 3; i++) {
        assert_int_equal(guest.mmio_seen.items[i].offset, RANGE_OFFSET + i);
        assert_int_equal(guest.mmio_seen.items[i].value, i + 1);
    }
    assert_int_equal(seen.count, 0);
    guest_stop(&guest);
    guest_program(&guest);
    store(&guest, IN_RANGE, 9);
    EMIT_HLT(&guest);
    guest_run_to_hlt(&guest);
    assert_int_equal(guest.mmio_seen.count, 3);
    assert_int_equal(seen.count, 1);
    gm_region_put(other);
    guest_fini(&guest);
}

static void remove_own_range(void *opaque, const struct record *record)
{
    struct guest *guest = opaque;
    struct gm_txn *txn;

    if (record->value == 1) {
        assert_int_equal(gm_txn_begin(gm_vm_map(guest->vm), &txn), 0);
        assert_int_equal(gm_txn_del_coalesced(txn, guest->mmio, RANGE_OFFSET, RANGE_BYTES), 0);
        assert_int_equal(gm_txn_commit(txn, NULL), 0);
        gm_vm_flush_coalesced(guest->vm); /* from inside: nothing */
        assert_int_equal(guest->mmio_seen.count, 1);
    }
}

static void coalesced_write_may_remove_its_range(void **state)
{
    /* From its callback, while others of the range are pending: they come after it, in order, once. */
    struct guest guest;

    (void)state;
    GUEST_NEEDS_KVM();
    guest_init(&guest, NULL);
    coalesce(&guest);
    guest.mmio_seen.on_access = remove_own_range;
    guest.mmio_seen.opaque = &guest;
    store(&guest, IN_RANGE, 1);
    store(&guest, IN_RANGE + 1, 2);
    store(&guest, IN_RANGE + 2, 3);
    store(&guest, PLAIN, 4);
    store(&guest, IN_RANGE + 3, 5);
    EMIT_HLT(&guest);
    guest_run_to_hlt(&guest);
    assert_int_equal(guest.mmio_seen.count, 5);
    for (unsigned i = 0; i < 5; i++) {
        assert_int_equal(guest.mmio_seen.items[i].value, i + 1);
    }
    assert_int_equal(stats_of(&guest).mmio_writes, 2);
    guest_fini(&guest);
}

static void coalesced_writes_outlive_their_vcpu(void **state)
{
    /* Another vCPU's area has the same ring; the last one's end dispatches what is left. */
    struct gm_vcpu *second;
    struct guest guest;

    (void)state;
    GUEST_NEEDS_KVM();
    guest_init(&guest, NULL);
    coalesce(&guest);
    assert_int_equal(gm_vcpu_new(guest.vm, 1, &second, NULL), 0);
    write_and_spin(&guest);
    gm_vcpu_free(second);
    assert_int_equal(guest.mmio_seen.count, 3);
    guest_stop(&guest);
    guest_program(&guest);
    write_and_spin(&guest);
    assert_int_equal(guest.mmio_seen.count, 3);
    guest_stop(&guest);
    assert_int_equal(guest.mmio_seen.count, 6);
    guest_fini(&guest);
}

struct drainer {
    struct guest *guest;
    atomic_bool *stop;
};

static void *drain(void *opaque)
{
    const struct drainer *drainer = opaque;

    while (!atomic_load(drainer->stop)) {
        gm_vm_flush_coalesced(drainer->guest->vm);
        sched_yield();
    }
    return NULL;
}

static void *toggle(void *opaque)
{
    const struct drainer *drainer = opaque;

    for (bool is_there = true; !atomic_load(drainer->stop) || !is_there; is_there = !is_there) {
        struct gm_txn *txn;

        assert_int_equal(gm_txn_begin(gm_vm_map(drainer->guest->vm), &txn), 0);
        assert_int_equal(
            is_there ? gm_txn_del_coalesced(txn, drainer->guest->mmio, RANGE_OFFSET, RANGE_BYTES)
                     : gm_txn_add_coalesced(txn, drainer->guest->mmio, RANGE_OFFSET, RANGE_BYTES),
            0);
        assert_int_equal(gm_txn_commit(txn, NULL), 0);
    }
    return NULL;
}

static void coalesced_writes_that_many_drain_come_once_and_in_order(void **state)
{
    /* 20,000 words, two threads that flush, and one that takes the range away and puts it back. */
    struct sequence sequence = {0};
    atomic_bool stop = false;
    pthread_t threads[3];
    struct guest guest;
    struct drainer drainer = {&guest, &stop};

    (void)state;
    GUEST_NEEDS_KVM();
    guest_init(&guest, NULL);
    coalesce(&guest);
    guest.mmio_seen.on_access = check_sequence;
    guest.mmio_seen.opaque = &sequence;
    EMIT(&guest, 0xb9, LO(20000), HI(20000), 0x31, 0xc0, 0x40, 0xa3, LO(IN_RANGE), HI(IN_RANGE),
         0xe2, 0xfa);
    EMIT_HLT(&guest);
    for (unsigned i = 0; i < 3; i++) {
        assert_int_equal(pthread_create(&threads[i], NULL, i < 2 ? drain : toggle, &drainer), 0);
    }
    guest_run_to_hlt(&guest);
    assert_int_equal(sequence.count, 20000);
    assert_false(sequence.is_broken);
    atomic_store(&stop, true);
    for (unsigned i = 0; i < 3; i++) {
        assert_int_equal(pthread_join(threads[i], NULL), 0);
    }
    guest_fini(&guest);
}

static void count_log(void *opaque, enum gm_log_level level, const char *text)
{
    assert_int_equal(level, GM_LOG_ERROR);
    assert_non_null(strstr(text, "ring of coalesced writes"));
    (*(unsigned *)opaque)++;
}

static void coalesced_ring_of_garbage_loses_what_was_pending_alone(void **state)
{
    /* Indices out of range, in either place: the writes in the ring are gone, the next ones arrive, and the hook hears of it once. */
    static const uint32_t GARBAGE[][2] = {
        {RING_ENTRIES, 3}, {0, RING_ENTRIES}, {5000, 0}, {UINT32_MAX, UINT32_MAX}};
    unsigned told = 0;
    const struct gm_map_options map = {.size = sizeof(map),
                                       .log = {count_log, &told, 60000, 60000}};
    const struct gm_vm_options options = {.size = sizeof(options), .map = &map};
    struct kvm_coalesced_mmio_ring *ring;
    struct guest guest;

    (void)state;
    GUEST_NEEDS_KVM();
    guest_init(&guest, &options);
    coalesce(&guest);
    for (unsigned i = 0; i < sizeof(GARBAGE) / sizeof(GARBAGE[0]); i++) {
        struct story story = {""};

        listen(&guest, &story);
        guest_program(&guest);
        guest_reset(guest.vcpu);
        write_and_spin(&guest);
        ring = guest.vm->coalesced.ring;
        __atomic_store_n(&ring->first, GARBAGE[i][0], __ATOMIC_RELAXED);
        __atomic_store_n(&ring->last, GARBAGE[i][1], __ATOMIC_RELAXED);
        guest_stop(&guest);
        assert_string_equal(story.text, "");
        assert_int_equal(told, 1);
        guest_program(&guest);
        guest_reset(guest.vcpu);
        store(&guest, IN_RANGE, 4);
        store(&guest, IN_RANGE, 5);
        EMIT_HLT(&guest);
        guest_run_to_hlt(&guest);
        assert_string_equal(story.text, "100=4 100=5 ");
    }
    guest_fini(&guest);
    assert_int_equal(told, 1);
}

static void coalesced_entries_of_garbage_are_harmless(void **state)
{
    /* A full ring of random bytes: what has no size is dropped, the rest is some guest's writes. Later ones arrive. */
    struct rnd random = {rnd_seed("garbage in a coalesced ring")};
    struct story story = {""};
    struct kvm_coalesced_mmio_ring *ring;
    struct guest guest;

    (void)state;
    GUEST_NEEDS_KVM();
    guest_init(&guest, NULL);
    coalesce(&guest);
    ring = guest.vm->coalesced.ring;
    for (unsigned round = 0; round < 20; round++) {
        for (unsigned i = 0; i < RING_ENTRIES; i++) {
            ring->coalesced_mmio[i] = (struct kvm_coalesced_mmio){
                .phys_addr = rnd_one_in(&random, 2) ? rnd_next(&random) : IN_RANGE,
                .len = rnd_one_in(&random, 2) ? (uint32_t)rnd_next(&random)
                                              : (uint32_t)rnd_below(&random, 10),
                .pio = (uint32_t)rnd_below(&random, 3),
            };
        }
        __atomic_store_n(&ring->first, (ring->last + 1) % RING_ENTRIES, __ATOMIC_RELEASE);
        gm_vm_flush_coalesced(guest.vm);
        assert_int_equal(ring->first, ring->last);
        guest.mmio_seen.count = 0; /* it has room for 64 */
        guest.ports_seen.count = 0;
    }
    listen(&guest, &story);
    store(&guest, IN_RANGE, 4);
    EMIT_HLT(&guest);
    guest_run_to_hlt(&guest);
    assert_string_equal(story.text, "100=4 ");
    guest_fini(&guest);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(coalesced_writes_come_in_order_before_the_next_exit),
        cmocka_unit_test(coalesced_writes_beyond_the_ring_lose_none),
        cmocka_unit_test(coalesced_writes_are_seen_by_a_reader_of_their_region),
        cmocka_unit_test(coalesced_writes_are_seen_by_a_region_that_asks),
        cmocka_unit_test(coalesced_writes_are_made_up_for_at_any_depth),
        cmocka_unit_test(coalesced_writes_go_to_the_region_that_they_were_made_to),
        cmocka_unit_test(coalesced_write_may_remove_its_range),
        cmocka_unit_test(coalesced_writes_outlive_their_vcpu),
        cmocka_unit_test(coalesced_writes_that_many_drain_come_once_and_in_order),
        cmocka_unit_test(coalesced_ring_of_garbage_loses_what_was_pending_alone),
        cmocka_unit_test(coalesced_entries_of_garbage_are_harmless),
    };

    return GUEST_RUN_ON_BOTH(tests);
}
