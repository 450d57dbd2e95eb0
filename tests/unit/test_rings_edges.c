/*
 * unit/test_rings_edges.c - dirty rings of several vCPUs that come and go, slots with high numbers, and memory that runs out.
 */
#include "machine.h"

#include "model/faults.h"
#include "slots/rings.h"

#include <errno.h>
#include <linux/kvm.h>
#include <string.h>

#define ENTRIES 64u
#define PAGES 8u
#define CLIENT 2u

struct rig {
    struct machine machine;
    struct gm_ram *ram;
    struct gm_slot slot;
    struct faults faults;
    struct gm_allocator allocator;
    struct dirty_rings rings;
    struct dirty_ring ring[3];
    struct kvm_dirty_gfn entries[3][ENTRIES];
};

static int reset(void *opaque)
{
    struct rig *rig = opaque;
    int count = 0;

    for (unsigned i = 0; i < 3 * ENTRIES; i++) {
        struct kvm_dirty_gfn *entry = &rig->entries[i / ENTRIES][i % ENTRIES];

        if ((entry->flags & KVM_DIRTY_GFN_F_RESET) != 0) {
            entry->flags = 0;
            count++;
        }
    }
    return count;
}

static void rig_init(struct rig *rig)
{
    memset(rig, 0, sizeof(*rig));
    rig->machine = machine_new();
    rig->ram = new_ram(PAGES * 4096u);
    rig->slot = (struct gm_slot){
        .number = 1,
        .flags = GM_SLOT_LOG,
        .size_bytes = PAGES * 4096u,
        .region = add_memory(&rig->machine, GM_REGION_RAM, 0, PAGES * 4096u, rig->ram, 0),
    };
    assert_int_equal(gm_ram_dirty_begin(rig->ram, CLIENT), 0);
    rig->allocator = faults_allocator(&rig->faults);
    assert_int_equal(rings_init(&rig->rings, ENTRIES, &rig->allocator, reset, rig), 0);
}

static void rig_fini(struct rig *rig)
{
    rings_fini(&rig->rings);
    assert_int_equal(faults_live(&rig->faults), 0);
    gm_ram_put(rig->ram);
    machine_free(&rig->machine);
}

static uint64_t harvest_count(struct rig *rig)
{
    struct gm_harvest *harvest;
    uint64_t count;

    assert_int_equal(gm_harvest_begin(rig->ram, CLIENT, 0, gm_ram_size(rig->ram), &harvest), 0);
    count = gm_harvest_page_count(harvest);
    gm_harvest_commit(harvest);
    return count;
}

static void vcpus_leave_in_any_order_and_leave_nothing_behind(void **state)
{
    /* Of three the first that came goes first, then the last: what each one's ring has then is in the record, once. */
    static const unsigned ORDER[] = {0, 2, 1};
    struct rig rig;

    (void)state;
    rig_init(&rig);
    assert_int_equal(rings_before_change(&rig.rings, 0, &rig.slot, GM_SLOT_LOG), 0);
    for (unsigned i = 0; i < 3; i++) {
        rings_add(&rig.rings, &rig.ring[i], rig.entries[i], NULL);
    }
    for (unsigned i = 0; i < 3; i++) {
        rig.entries[ORDER[i]][0] =
            (struct kvm_dirty_gfn){.flags = KVM_DIRTY_GFN_F_DIRTY, .slot = 1, .offset = i};
        rings_remove(&rig.rings, &rig.ring[ORDER[i]]);
        assert_int_equal(harvest_count(&rig), 1);
        rings_remove(&rig.rings, &rig.ring[ORDER[i]]); /* twice is once */
        assert_int_equal(harvest_count(&rig), 0);
    }
    rig_fini(&rig);
}

static void slot_with_a_high_number_is_known_beside_those_before(void **state)
{
    /* The table grows; without memory the change is refused, and the slots that were known still are. */
    struct gm_slot high;
    struct rig rig;

    (void)state;
    rig_init(&rig);
    rings_add(&rig.rings, &rig.ring[0], rig.entries[0], NULL);
    assert_int_equal(rings_before_change(&rig.rings, 0, &rig.slot, GM_SLOT_LOG), 0);
    high = rig.slot;
    high.number = 1000;
    faults_arm(&rig.faults, 1);
    assert_int_equal(rings_before_change(&rig.rings, 0, &high, GM_SLOT_LOG), -ENOMEM);
    assert_true(faults_disarm(&rig.faults));
    for (unsigned i = 0; i < 3; i++) {
        uint64_t bitmap[1] = {0};
        struct gm_slot *slot = i == 1 ? &high : &rig.slot;

        if (i == 1) {
            assert_int_equal(rings_before_change(&rig.rings, 0, &high, GM_SLOT_LOG), 0);
        }
        rig.entries[0][i] = (struct kvm_dirty_gfn){
            .flags = KVM_DIRTY_GFN_F_DIRTY, .slot = slot->number, .offset = 2 + i};
        rings_fetch(&rig.rings, slot, bitmap);
        assert_int_equal(bitmap[0], 0);
        assert_int_equal(harvest_count(&rig), 1);
    }
    rings_remove(&rig.rings, &rig.ring[0]);
    rig_fini(&rig);
}

static void rings_without_memory_are_not_made(void **state)
{
    struct faults faults = {0};
    const struct gm_allocator allocator = faults_allocator(&faults);
    struct dirty_rings rings;

    (void)state;
    faults_arm(&faults, 1);
    assert_int_equal(rings_init(&rings, ENTRIES, &allocator, reset, NULL), -ENOMEM);
    rings_fini(&rings); /* nothing to do */
    assert_int_equal(faults_live(&faults), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(vcpus_leave_in_any_order_and_leave_nothing_behind),
        cmocka_unit_test(slot_with_a_high_number_is_known_beside_those_before),
        cmocka_unit_test(rings_without_memory_are_not_made),
    };

    return cmocka_run_group_tests_name("rings_edges", tests, NULL, NULL);
}
