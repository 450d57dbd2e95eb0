/*
 * race/test_coalesced_points.c - the orders of flushers of coalesced writes, their callbacks and commits, forced one by one: rows W1
 * to W9 of docs/locking.md. The test is the hypervisor that fills the ring; what a vCPU writes to a range that is gone it
 * writes as a guest.
 *
 * The test's points:
 *
 *   in 1, in 2         a callback has the write of this value
 *   preparing          a commit has the map's lock
 *
 * The library's:
 *
 *   coalesced-peeking  a flusher has the ring's address, and has read nothing there
 *   vcpu-unlinked      a vCPU that ends is in no list; the ring is its area's still
 */
#include "kvm/guest.h"

#include "model/actor.h"
#include "model/require.h"
#include "vm/vm.h"

#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define RING_ENTRIES 170u
#define RANGE_OFFSET 0x100u
#define RANGE_BYTES 0x100u
#define IN_RANGE (GUEST_MMIO + RANGE_OFFSET)
#define ASKING 0x10000u /* a region that asks for coalesced writes to come first */

static struct guest guest;
static struct actor a;
static struct actor b;
/* One callback at a time, whoever it is (C-2): so what it does is not atomic. */
static char story[64];                   /* the values, in their order */
static unsigned done;                    /* callbacks that have returned */
static void (*in_callback)(unsigned of); /* what else a callback does */

static const char *const POINTS[] = {"in 0", "in 1", "in 2", "in 3"};

static void on_access(void *opaque, const struct record *record)
{
    size_t used = strlen(story);

    (void)opaque;
    if (!record->is_write) {
        return;
    }
    snprintf(story + used, sizeof(story) - used, "%u ", (unsigned)record->value);
    actor_point(POINTS[record->value]);
    if (in_callback != NULL) {
        in_callback((unsigned)record->value);
    }
    done++;
}

static struct gm_txn *edit(void)
{
    struct gm_txn *txn;

    REQUIRE(gm_txn_begin(gm_vm_map(guest.vm), &txn) == 0, "a transaction");
    return txn;
}

static int set_up(void **state)
{
    struct gm_txn *txn;

    (void)state;
    guest_accel = GM_ACCEL_SOFT;
    guest_init(&guest, NULL);
    guest.mmio_seen.on_access = on_access;
    txn = edit();
    REQUIRE(gm_txn_add_coalesced(txn, guest.mmio, RANGE_OFFSET, RANGE_BYTES) == 0, "a range");
    REQUIRE(gm_txn_commit(txn, NULL) == 0, "a range");
    memset(story, 0, sizeof(story));
    done = 0;
    in_callback = NULL;
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    actors_end();
    guest_fini(&guest);
    return 0;
}

/* The hypervisor adds a write. */
static void push(struct kvm_coalesced_mmio_ring *ring, uint8_t value)
{
    uint32_t last = __atomic_load_n(&ring->last, __ATOMIC_RELAXED);

    ring->coalesced_mmio[last] =
        (struct kvm_coalesced_mmio){.phys_addr = IN_RANGE, .len = 1, .data = {value}};
    __atomic_store_n(&ring->last, (last + 1) % RING_ENTRIES, __ATOMIC_RELEASE);
}

static struct kvm_coalesced_mmio_ring *ring_now(void)
{
    return guest.vm->coalesced.ring; /* it changes in one test alone, and not beside this */
}

static void push_two(void)
{
    push(ring_now(), 1);
    push(ring_now(), 2);
}

/* @opaque: how many callbacks must have returned when the flush has; NULL: it is not said. */
static void flush(void *opaque)
{
    const unsigned *expected = opaque;

    gm_vm_flush_coalesced(guest.vm);
    REQUIRE(expected == NULL || done >= *expected, "%u have been dispatched", done);
}

static unsigned one = 1;
static unsigned two = 2;

static void remove_range(void *unused)
{
    struct gm_txn *txn = edit();

    (void)unused;
    REQUIRE(gm_txn_del_coalesced(txn, guest.mmio, RANGE_OFFSET, RANGE_BYTES) == 0, "an edit");
    REQUIRE(gm_txn_commit(txn, NULL) == 0, "a commit");
}

static void coalesced_flush_waits_for_another_ones_callbacks(void **state)
{
    /* W1: of all writes that were pending as it began. */
    (void)state;
    push_two();
    actor_begin_until(&a, flush, &two, "in 1", 1);
    actor_begin(&b, flush, &two, NULL, 1);
    assert_true(actor_stays_waiting(&b));
    actor_go_on_until(&a, "in 2");
    assert_true(actor_stays_waiting(&b));
    assert_string_equal(story, "1 2 ");
    actor_end(&a);
    actor_end(&b);
    assert_string_equal(story, "1 2 ");
}

static void coalesced_flush_takes_over_where_another_one_ends(void **state)
{
    /* W2: the first came when there was one write, the second when there were two. */
    (void)state;
    push(ring_now(), 1);
    actor_begin_until(&a, flush, &one, "in 1", 1);
    push(ring_now(), 2);
    actor_begin(&b, flush, &two, "in 2", 1);
    assert_true(actor_stays_waiting(&b));
    actor_end(&a);
    actor_wait_stopped(&b);
    assert_string_equal(story, "1 2 ");
    actor_end(&b);
}

static void flush_in_the_first(unsigned of)
{
    if (of == 1) {
        flush(NULL);
        REQUIRE(done == 0 && strcmp(story, "1 ") == 0, "%s", story);
    }
}

static void coalesced_flush_in_a_callback_returns_at_once(void **state)
{
    /* W3: also where another thread waits for that callback. */
    (void)state;
    in_callback = flush_in_the_first;
    push_two();
    actor_begin_until(&a, flush, &two, "in 1", 1);
    actor_begin(&b, flush, &two, NULL, 1);
    assert_true(actor_stays_waiting(&b));
    actor_end(&a);
    actor_end(&b);
    assert_string_equal(story, "1 2 ");
}

static void remove_in_the_first(unsigned of)
{
    if (of == 1) {
        remove_range(NULL);
        REQUIRE(strcmp(story, "1 ") == 0, "a commit dispatches nothing: %s", story);
    }
}

static void coalesced_callback_may_remove_its_range(void **state)
{
    /* W4: while another thread waits for it. */
    (void)state;
    in_callback = remove_in_the_first;
    push_two();
    actor_begin_until(&a, flush, &two, "in 1", 1);
    actor_begin(&b, flush, &two, NULL, 1);
    assert_true(actor_stays_waiting(&b));
    actor_end(&a);
    actor_end(&b);
    assert_string_equal(story, "1 2 ");
}

static void coalesced_range_removed_in_a_callback_keeps_flushers_targets(void **state)
{
    /* W5: the commit waits for no callback; what was pending is in the queue, for the region as it was. */
    (void)state;
    push_two();
    actor_begin_until(&a, flush, &two, "in 1", 1);
    actor_begin(&b, flush, &two, NULL, 1);
    assert_true(actor_stays_waiting(&b));
    remove_range(NULL);
    assert_int_equal(ring_now()->first, ring_now()->last);
    assert_string_equal(story, "1 ");
    assert_true(actor_stays_waiting(&b));
    actor_end(&a);
    actor_end(&b);
    assert_string_equal(story, "1 2 ");
}

static void coalesced_writes_come_before_the_exit_of_a_range_that_is_gone(void **state)
{
    /* W6: the guest writes again after the range was unregistered. */
    (void)state;
    push_two();
    remove_range(NULL);
    EMIT_MOV_AL(&guest, 3);
    EMIT_STORE_AL(&guest, IN_RANGE);
    EMIT_HLT(&guest);
    assert_string_equal(story, "");
    guest_run_to_hlt(&guest);
    assert_string_equal(story, "1 2 3 ");
}

static enum gm_access read_nothing(void *opaque, uint64_t offset, unsigned size_bytes,
                                   uint64_t *value, struct gm_attrs attrs)
{
    (void)opaque;
    (void)offset;
    (void)size_bytes;
    (void)attrs;
    *value = 0;
    return GM_ACCESS_OK;
}

static void add_asking(void)
{
    const struct gm_io_ops io = {.size = sizeof(io), .read = read_nothing};
    const struct gm_region_options asking = {.size = sizeof(asking),
                                             .kind = GM_REGION_MMIO,
                                             .size_bytes = 0x1000,
                                             .addr = ASKING,
                                             .io = &io,
                                             .flush_coalesced = true};
    struct gm_region *region;

    assert_int_equal(gm_region_new_child(gm_vm_memory_root(guest.vm), &asking, &region, NULL), 0);
    gm_region_put(region);
}

static void load_asking(void *unused)
{
    uint64_t value;

    (void)unused;
    actor_point("preparing");
    REQUIRE(gm_load(gm_vm_memory(guest.vm), ASKING, 1, GM_ORDER_LITTLE, &value,
                    (struct gm_attrs){0}) == GM_ACCESS_OK,
            "an access to the region");
}

/* A commit whose listener accesses the region that flushes. */
static void commit_with_an_access(void *unused)
{
    const struct gm_listener_ops ops = {.size = sizeof(ops), .begin = load_asking};
    struct gm_listener *listener;

    REQUIRE(gm_listener_register(gm_vm_map(guest.vm), gm_vm_memory(guest.vm), 0, &ops, unused,
                                 &listener, NULL) == 0,
            "a listener");
    REQUIRE(gm_listener_unregister(listener, NULL) == 0, "its end");
}

static void coalesced_access_of_a_commit_waits_for_no_callback(void **state)
{
    /* W7: the callback waits for the commit to end. */
    (void)state;
    in_callback = remove_in_the_first;
    add_asking();
    push_two();
    actor_begin_until(&a, flush, &two, "in 1", 1);
    actor_begin_until(&b, commit_with_an_access, NULL, "preparing", 1);
    actor_go_on(&a, NULL);
    assert_true(actor_stays_waiting(&a)); /* in the callback's own commit */
    actor_end(&b);
    actor_end(&a);
    assert_string_equal(story, "1 2 ");
}

static void free_vcpu(void *opaque)
{
    gm_vcpu_free(opaque);
}

static void coalesced_ring_is_not_read_by_an_area_that_is_gone(void **state)
{
    /* W8: as on /dev/kvm, each vCPU has a mapping of its own of the one ring, and takes it with it. */
    struct kvm_coalesced_mmio_ring *areas[2];
    struct gm_vcpu *second;
    int fd = memfd_create("ring", MFD_CLOEXEC);

    (void)state;
    ACTORS_NEED_POINTS();
    assert_int_equal(ftruncate(fd, 4096), 0);
    for (unsigned i = 0; i < 2; i++) {
        areas[i] = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        assert_ptr_not_equal(areas[i], MAP_FAILED);
    }
    close(fd);
    assert_int_equal(gm_vcpu_new(guest.vm, 1, &second, NULL), 0);
    guest.vcpu->coalesced_ring = areas[0];
    second->coalesced_ring = areas[1];
    guest.vm->coalesced.ring = areas[1]; /* of the first in the list */
    actor_begin_until(&b, free_vcpu, second, "vcpu-unlinked", 1);
    push(areas[0], 1);
    actor_begin_until(&a, flush, &one, "coalesced-peeking", 1);
    actor_go_on(&b, NULL);
    assert_true(actor_stays_waiting(&b));
    actor_end(&a);
    actor_end(&b);
    assert_int_equal(munmap(areas[1], 4096), 0);
    push(areas[0], 2);
    flush(&two);
    assert_string_equal(story, "1 2 ");
    assert_int_equal(munmap(areas[0], 4096), 0);
    guest.vm->coalesced.ring = NULL; /* before its vCPU ends */
}

static void coalesced_write_after_the_flush_began_keeps_nobody(void **state)
{
    /* W9 */
    (void)state;
    push(ring_now(), 1);
    actor_begin_until(&a, flush, &one, "in 1", 1);
    push(ring_now(), 2);
    actor_end(&a);
    assert_string_equal(story, "1 ");
}

static int prepare(void **state)
{
    (void)state;
    actors_prepare();
    return 0;
}

#define ORDER(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        ORDER(coalesced_flush_waits_for_another_ones_callbacks),
        ORDER(coalesced_flush_takes_over_where_another_one_ends),
        ORDER(coalesced_flush_in_a_callback_returns_at_once),
        ORDER(coalesced_callback_may_remove_its_range),
        ORDER(coalesced_range_removed_in_a_callback_keeps_flushers_targets),
        ORDER(coalesced_writes_come_before_the_exit_of_a_range_that_is_gone),
        ORDER(coalesced_access_of_a_commit_waits_for_no_callback),
        ORDER(coalesced_ring_is_not_read_by_an_area_that_is_gone),
        ORDER(coalesced_write_after_the_flush_began_keeps_nobody),
    };

    return cmocka_run_group_tests_name("coalesced_points", tests, prepare, NULL);
}
