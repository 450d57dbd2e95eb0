/* unit/test_slots_discard.c - a backend is told of discards of the blocks that it maps, and of no others. */
#include "unit/hypervisor.h"
#include "unit/machine.h"

#include "base/rcu.h"
#include "model/faults.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>

/* ---- a machine whose hypervisor writes down what goes ---- */

struct rig {
    struct machine machine;
    struct hypervisor hypervisor; /* first of what the backend's calls get */
    struct faults faults;
    struct gm_allocator allocator;
    struct gm_backend_ops ops;
    struct gm_slots *slots;
    struct gm_ram *ram;
    uint8_t *bytes;
};

static struct rig *rig_of(void *opaque)
{
    return (struct rig *)(void *)((char *)opaque - offsetof(struct rig, hypervisor));
}

static unsigned long long offset_of(const struct rig *rig, const void *hva)
{
    return (unsigned long long)((const uint8_t *)hva - rig->bytes);
}

/* With the first byte: what goes is still there before, and is not after. */
static void on_begin(void *opaque, void *hva, uint64_t size_bytes)
{
    struct rig *rig = rig_of(opaque);

    note(&rig->hypervisor, "begin %llx+%" PRIx64 " %x; ", offset_of(rig, hva), size_bytes,
         *(uint8_t *)hva);
}

static void on_end(void *opaque, void *hva, uint64_t size_bytes)
{
    struct rig *rig = rig_of(opaque);

    note(&rig->hypervisor, "end %llx+%" PRIx64 " %x; ", offset_of(rig, hva), size_bytes,
         *(uint8_t *)hva);
}

static void rig_init(struct rig *rig)
{
    struct gm_ram_options options;

    memset(rig, 0, sizeof(*rig));
    rig->allocator = faults_allocator(&rig->faults);
    rig->ops = hypervisor_ops;
    rig->ops.invalidate_begin = on_begin;
    rig->ops.invalidate_end = on_end;
    rig->machine = machine_new();
    options = (struct gm_ram_options){
        .size = sizeof(options),
        .allocator = &rig->allocator,
        .kind = GM_RAM_ANON,
        .size_bytes = 16 * PAGE,
        .max_size_bytes = 16 * PAGE,
    };
    assert_int_equal(gm_ram_new(&options, &rig->ram, NULL), 0);
    rig->bytes = gm_ram_hva(rig->ram);
    memset(rig->bytes, 0x5a, 16 * PAGE);
}

static int rig_attach(struct rig *rig)
{
    return gm_slots_attach(rig->machine.space, NULL, &rig->ops, &rig->hypervisor, &rig->slots,
                           NULL);
}

static void rig_fini(struct rig *rig)
{
    machine_free(&rig->machine);
    rcu_drain();
    gm_ram_put(rig->ram);
    assert_int_equal(faults_live(&rig->faults), 0);
}

static void expect(struct rig *rig, const char *text)
{
    assert_string_equal(rig->hypervisor.text, text);
    rig->hypervisor.text[0] = '\0';
}

static void discard(struct rig *rig, uint64_t page, uint64_t page_count)
{
    assert_int_equal(gm_ram_discard(rig->ram, page * PAGE, page_count * PAGE, NULL), 0);
}

/* ---- tests ---- */

static void discard_is_told_around_the_freeing_once(void **state)
{
    /* However many slots the block has, and wherever they are. */
    struct rig rig;

    (void)state;
    rig_init(&rig);
    add_memory(&rig.machine, GM_REGION_RAM, 0, 4 * PAGE, rig.ram, 0);
    add_memory(&rig.machine, GM_REGION_RAM, 0x100000, 4 * PAGE, rig.ram, 0);
    add_memory(&rig.machine, GM_REGION_ROM, 0x200000, 4 * PAGE, rig.ram, 8 * PAGE);
    assert_int_equal(rig_attach(&rig), 0);
    rig.hypervisor.text[0] = '\0';
    discard(&rig, 2, 3);
    expect(&rig, "begin 2000+3000 5a; end 2000+3000 0; ");
    discard(&rig, 15, 1); /* no slot is there, but one may come meanwhile */
    expect(&rig, "begin f000+1000 5a; end f000+1000 0; ");
    assert_int_equal(gm_ram_discard(rig.ram, 0, 100, NULL), -EINVAL);
    discard(&rig, 3, 0);
    gm_ram_discard_disable(rig.ram);
    assert_int_equal(gm_ram_discard(rig.ram, 0, PAGE, NULL), -EBUSY);
    assert_int_equal(gm_ram_discard_enable(rig.ram), 0);
    expect(&rig, "");
    assert_int_equal(gm_slots_detach(rig.slots, NULL), 0);
    rig_fini(&rig);
}

static void discard_is_told_while_the_block_has_slots(void **state)
{
    /* From the commit that shows it to the one that hides the last of it; to each backend. */
    struct rig rig;
    struct gm_region *low;
    struct gm_region *high;

    (void)state;
    rig_init(&rig);
    assert_int_equal(rig_attach(&rig), 0);
    discard(&rig, 0, 1);
    expect(&rig, "");
    low = add_memory(&rig.machine, GM_REGION_RAM, 0, 4 * PAGE, rig.ram, 0);
    high = add_memory(&rig.machine, GM_REGION_RAM, 0x100000, 4 * PAGE, rig.ram, 4 * PAGE);
    rig.hypervisor.text[0] = '\0';
    discard(&rig, 1, 1);
    expect(&rig, "begin 1000+1000 5a; end 1000+1000 0; ");
    assert_int_equal(gm_region_del(rig.machine.root, low, NULL), 0);
    rig.hypervisor.text[0] = '\0';
    discard(&rig, 2, 1);
    expect(&rig, "begin 2000+1000 5a; end 2000+1000 0; ");
    assert_int_equal(gm_region_del(rig.machine.root, high, NULL), 0);
    rig.hypervisor.text[0] = '\0';
    discard(&rig, 3, 1);
    expect(&rig, "");
    add_memory(&rig.machine, GM_REGION_RAM, 0, 4 * PAGE, rig.ram, 0);
    rig.hypervisor.text[0] = '\0';
    discard(&rig, 4, 1);
    expect(&rig, "begin 4000+1000 5a; end 4000+1000 0; ");
    assert_int_equal(gm_slots_detach(rig.slots, NULL), 0);
    rig.hypervisor.text[0] = '\0';
    discard(&rig, 5, 1);
    expect(&rig, "");
    rig_fini(&rig);
}

static void shrinking_is_told_as_a_discard(void **state)
{
    /* What goes with the end is gone for the hypervisor before; growing tells nothing. */
    struct rig rig;

    (void)state;
    rig_init(&rig);
    add_memory(&rig.machine, GM_REGION_RAM, 0, 4 * PAGE, rig.ram, 0);
    assert_int_equal(rig_attach(&rig), 0);
    rig.hypervisor.text[0] = '\0';
    assert_int_equal(gm_ram_resize(rig.ram, 3 * PAGE, NULL), -EBUSY);
    expect(&rig, "");
    assert_int_equal(gm_ram_resize(rig.ram, 4 * PAGE, NULL), 0);
    expect(&rig, "begin 4000+c000 5a; end 4000+c000 0; ");
    assert_int_equal(gm_ram_resize(rig.ram, 16 * PAGE, NULL), 0);
    expect(&rig, "");
    assert_int_equal(gm_slots_detach(rig.slots, NULL), 0);
    rig_fini(&rig);
}

static void failed_commits_leave_no_watch(void **state)
{
    /* Each allocation of the block's fails, and each call of the hypervisor: told as before, or as after. */
    struct rig rig;
    int rc = -1;

    (void)state;
    rig_init(&rig);
    assert_int_equal(rig_attach(&rig), 0);
    for (unsigned n = 1; rc != 0; n++) {
        struct gm_region *region;

        rig.hypervisor.calls = 0;
        rig.hypervisor.fail_at = n - 1; /* 1: the slot is not created */
        assert_int_equal(gm_region_new_ram(rig.machine.map, "ram", rig.ram, &region), 0);
        faults_arm(&rig.faults, n == 1 ? 1 : 0); /* first of all the watch itself */
        rc = gm_region_add(rig.machine.root, region, NULL);
        assert_int_equal(faults_disarm(&rig.faults), n == 1);
        assert_true(rc == 0 || rc == -ENOMEM);
        rig.hypervisor.fail_at = 0;
        gm_region_put(region);
        rig.hypervisor.text[0] = '\0';
        rig.bytes[0] = 0x5a;
        discard(&rig, 0, 1);
        expect(&rig, rc == 0 ? "begin 0+1000 5a; end 0+1000 0; " : "");
        assert_true(rc != 0 || n > 2);
    }
    assert_int_equal(gm_slots_detach(rig.slots, NULL), 0);
    rig_fini(&rig);
}

static void backends_have_both_calls_or_neither(void **state)
{
    /* And with neither, as /dev/kvm's, discards cost no watch. */
    struct rig rig;
    int64_t live;

    (void)state;
    rig_init(&rig);
    rig.ops.invalidate_end = NULL;
    assert_int_equal(rig_attach(&rig), -EINVAL);
    rig.ops.invalidate_end = on_end;
    rig.ops.invalidate_begin = NULL;
    assert_int_equal(rig_attach(&rig), -EINVAL);
    rig.ops.invalidate_end = NULL;
    live = faults_live(&rig.faults);
    assert_int_equal(rig_attach(&rig), 0);
    add_memory(&rig.machine, GM_REGION_RAM, 0, 4 * PAGE, rig.ram, 0);
    assert_int_equal(faults_live(&rig.faults), live);
    rig.hypervisor.text[0] = '\0';
    discard(&rig, 0, 16);
    expect(&rig, "");
    assert_int_equal(gm_slots_detach(rig.slots, NULL), 0);
    rig_fini(&rig);
}

/* ---- a commit that comes while a discard is under way ---- */

struct meeting {
    struct rig rig;
    struct gm_region *low;
    pthread_t thread;
    atomic_bool has_begun; /* the discard */
    atomic_bool has_tried; /* the commit's thread is about to commit */
    atomic_bool is_committed;
    bool was_committed; /* before the discard ended */
};

static struct meeting meeting;

static void meet_begin(void *opaque, void *hva, uint64_t size_bytes)
{
    on_begin(opaque, hva, size_bytes);
    atomic_store(&meeting.has_begun, true);
    while (!atomic_load(&meeting.has_tried)) {
        sched_yield();
    }
    for (unsigned i = 0; i < 1000; i++) {
        sched_yield();
    }
}

static void meet_end(void *opaque, void *hva, uint64_t size_bytes)
{
    meeting.was_committed = atomic_load(&meeting.is_committed);
    on_end(opaque, hva, size_bytes);
}

static void *delete_while_discarding(void *unused)
{
    while (!atomic_load(&meeting.has_begun)) {
        sched_yield();
    }
    atomic_store(&meeting.has_tried, true);
    assert_int_equal(gm_region_del(meeting.rig.machine.root, meeting.low, NULL), 0);
    atomic_store(&meeting.is_committed, true);
    return unused;
}

static void commit_that_deletes_the_slot_waits_for_the_discards_end(void **state)
{
    /* So that each begin has its end, and none comes after the delete has returned (watch.h, 3). */
    struct rig *rig = &meeting.rig;

    (void)state;
    memset(&meeting, 0, sizeof(meeting));
    rig_init(rig);
    rig->ops.invalidate_begin = meet_begin;
    rig->ops.invalidate_end = meet_end;
    meeting.low = add_memory(&rig->machine, GM_REGION_RAM, 0, 4 * PAGE, rig->ram, 0);
    assert_int_equal(rig_attach(rig), 0);
    assert_int_equal(pthread_create(&meeting.thread, NULL, delete_while_discarding, NULL), 0);
    discard(rig, 0, 1);
    assert_int_equal(pthread_join(meeting.thread, NULL), 0);
    assert_false(meeting.was_committed);
    assert_non_null(strstr(rig->hypervisor.text, "begin 0+1000 5a; "));
    assert_non_null(strstr(rig->hypervisor.text, "end 0+1000 0; "));
    assert_int_equal(gm_slots_detach(rig->slots, NULL), 0);
    rig_fini(rig);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(discard_is_told_around_the_freeing_once),
        cmocka_unit_test(discard_is_told_while_the_block_has_slots),
        cmocka_unit_test(shrinking_is_told_as_a_discard),
        cmocka_unit_test(failed_commits_leave_no_watch),
        cmocka_unit_test(backends_have_both_calls_or_neither),
        cmocka_unit_test(commit_that_deletes_the_slot_waits_for_the_discards_end),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
