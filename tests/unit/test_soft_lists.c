/*
 * unit/test_soft_lists.c - lists of slot changes: all or none, and for a vCPU at one boundary;
 * finding slots by guest and host address; those who follow them.
 */
#include "soft_rig.h"

#include "model/require.h"
#include "model/faults.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

static struct gm_soft_slot slot_at(struct rig *rig, uint32_t slot, uint64_t gpa, uint64_t offset)
{
    return (struct gm_soft_slot){
        .slot = slot,
        .gpa = gpa,
        .size_bytes = PAGE,
        .hva = (uintptr_t)rig->memory + offset,
    };
}

static struct gm_soft_slot no_slot(uint32_t slot)
{
    return (struct gm_soft_slot){.slot = slot};
}

static void list_is_checked_change_by_change(void **state)
{
    /* Each change after those before it: two slots change places, which one by one they cannot. */
    struct rig rig = rig_new(NULL);
    const struct gm_soft_slot begin[] = {slot_at(&rig, 0, 0, 0), slot_at(&rig, 1, PAGE, PAGE)};
    const struct gm_soft_slot swap[] = {no_slot(0), slot_at(&rig, 1, 0, PAGE),
                                        slot_at(&rig, 0, PAGE, 0)};
    size_t failed = 77;

    (void)state;
    *rig_word(&rig, 0) = 10;
    *rig_word(&rig, PAGE) = 20;
    assert_int_equal(gm_soft_set_slots(rig.soft, begin, 2, &failed), 0);
    assert_int_equal(rig_load(&rig, 0), 10);
    assert_int_equal(gm_soft_set_slots(rig.soft, &swap[1], 2, &failed), -EEXIST);
    assert_int_equal(failed, 0);
    assert_int_equal(gm_soft_set_slots(rig.soft, swap, 3, NULL), 0);
    assert_int_equal(rig_load(&rig, 0), 20);
    assert_int_equal(rig_load(&rig, PAGE), 10);
    assert_int_equal(gm_soft_set_slots(rig.soft, NULL, 0, &failed), 0);
    rig_free(&rig);
}

static void list_with_one_bad_change_changes_nothing(void **state)
{
    /* The last of many is wrong in each way that there is; the others had been right. */
    struct rig rig = rig_new(NULL);
    struct gm_soft_slot list[20];
    struct gm_soft_slot bad[5];
    struct gm_soft_slot found;

    (void)state;
    assert_int_equal(rig_set(&rig, 100, 0, 100 * PAGE, PAGE, 0), 0);
    for (unsigned i = 0; i < 20; i++) {
        list[i] = slot_at(&rig, i, i * PAGE, i * PAGE);
    }
    for (unsigned i = 0; i < 5; i++) {
        bad[i] = slot_at(&rig, 19, 19 * PAGE, 0);
    }
    bad[0].flags = KVM_MEM_GUEST_MEMFD; /* no file can be named here */
    bad[1].flags = 1u << 16;
    bad[2].gpa = 0x10;
    bad[3].gpa = 100 * PAGE;
    bad[4].gpa = 18 * PAGE;
    for (unsigned i = 0; i < 5; i++) {
        size_t failed = 0;

        list[19] = bad[i];
        assert_int_equal(gm_soft_set_slots(rig.soft, list, 20, &failed), i < 3 ? -EINVAL : -EEXIST);
        assert_int_equal(failed, 19);
        assert_false(gm_soft_find(rig.soft, 0, 0, &found));
        assert_true(gm_soft_find(rig.soft, 0, 100 * PAGE, &found));
    }
    rig_free(&rig);
}

static void list_without_memory_changes_nothing(void **state)
{
    /* Each allocation of a long list fails once; huge counts do not overflow. */
    struct faults faults = {0};
    const struct gm_allocator allocator = faults_allocator(&faults);
    const struct gm_soft_options options = {.size = sizeof(options), .allocator = &allocator};
    struct rig rig = rig_new(&options);
    struct gm_soft_slot list[12];
    struct gm_soft_slot found;
    unsigned failures = 0;
    size_t failed;

    (void)state;
    assert_int_equal(rig_set(&rig, 0, 0, 0, PAGE, 0), 0);
    assert_int_equal(gm_soft_set_slots(rig.soft, list, SIZE_MAX, &failed), -ENOMEM);
    list[0] = no_slot(0);
    for (unsigned i = 1; i < 12; i++) {
        list[i] = slot_at(&rig, i, (i - 1) * PAGE, i * PAGE);
        list[i].flags = KVM_MEM_LOG_DIRTY_PAGES;
    }
    for (;; failures++) {
        int rc;

        faults_arm(&faults, failures + 1);
        rc = gm_soft_set_slots(rig.soft, list, 12, &failed);
        if (rc == 0) {
            break;
        }
        assert_int_equal(rc, -ENOMEM);
        assert_true(gm_soft_find(rig.soft, 0, 0, &found) && found.slot == 0);
        assert_false(gm_soft_find(rig.soft, 0, PAGE, &found));
        rig_store(&rig, 0, failures);
    }
    faults_disarm(&faults);
    assert_true(failures > 20);
    assert_true(gm_soft_find(rig.soft, 0, 0, &found) && found.slot == 1);
    rig_free(&rig);
    assert_int_equal(faults_live(&faults), 0);
}

static void find_tells_slots_by_both_addresses(void **state)
{
    /* First and last byte, just outside, other spaces; of several slots the lowest. */
    struct rig rig = rig_new(NULL);
    uint64_t host = (uintptr_t)rig.memory;
    struct gm_soft_slot found = {0};
    uint64_t gpa = 0;

    (void)state;
    assert_int_equal(rig_set(&rig, 3, KVM_MEM_LOG_DIRTY_PAGES, 0x10000, 2 * PAGE, 4 * PAGE), 0);
    assert_int_equal(rig_set(&rig, 0x10004, KVM_MEM_READONLY, 0x40000, PAGE, 5 * PAGE), 0);
    assert_false(gm_soft_find(rig.soft, 0, 0xffff, &found));
    assert_true(gm_soft_find(rig.soft, 0, 0x10000, &found));
    assert_true(gm_soft_find(rig.soft, 0, 0x11fff, &found));
    assert_int_equal(found.slot, 3);
    assert_int_equal(found.flags, KVM_MEM_LOG_DIRTY_PAGES);
    assert_int_equal(found.gpa, 0x10000);
    assert_int_equal(found.size_bytes, 2 * PAGE);
    assert_int_equal(found.hva, host + 4 * PAGE);
    assert_false(gm_soft_find(rig.soft, 0, 0x12000, &found));
    assert_false(gm_soft_find(rig.soft, 1, 0x10000, &found));
    assert_true(gm_soft_find(rig.soft, 1, 0x40123, &found));
    assert_int_equal(found.slot, 0x10004);
    assert_false(gm_soft_find(rig.soft, 2, 0x40123, &found));
    assert_false(gm_soft_find(rig.soft, 0, UINT64_MAX, &found));

    assert_true(gm_soft_find_hva(rig.soft, 0, host + 5 * PAGE + 0x123, &gpa));
    assert_int_equal(gpa, 0x11123);
    assert_true(gm_soft_find_hva(rig.soft, 1, host + 5 * PAGE + 0x123, &gpa));
    assert_int_equal(gpa, 0x40123);
    assert_false(gm_soft_find_hva(rig.soft, 0, host + 4 * PAGE - 1, &gpa));
    assert_false(gm_soft_find_hva(rig.soft, 0, host + 6 * PAGE, &gpa));
    assert_false(gm_soft_find_hva(rig.soft, 2, host + 4 * PAGE, &gpa));
    assert_int_equal(rig_set(&rig, 9, 0, 0x1000, PAGE, 5 * PAGE), 0);
    assert_true(gm_soft_find_hva(rig.soft, 0, host + 5 * PAGE, &gpa));
    assert_int_equal(gpa, 0x1000);
    rig_free(&rig);
}

/* ---- a vCPU beside a thread that changes slots ---- */

struct race {
    struct rig rig;
    atomic_bool is_over;
    atomic_uint rounds; /* that the vCPU made */
};

static void *swap_pages(void *opaque)
{
    struct race *race = opaque;
    struct rig *rig = &race->rig;
    const struct gm_soft_slot ways[2][4] = {
        {no_slot(0), no_slot(1), slot_at(rig, 0, 0, PAGE), slot_at(rig, 1, PAGE, 0)},
        {no_slot(0), no_slot(1), slot_at(rig, 0, 0, 0), slot_at(rig, 1, PAGE, PAGE)},
    };

    for (unsigned i = 0; i < 100; i++) {
        unsigned rounds;

        REQUIRE_TRUE(gm_soft_set_slots(rig->soft, ways[i % 2], 4, NULL) == 0);
        rounds = atomic_load(&race->rounds);
        while (atomic_load(&race->rounds) == rounds) { /* the vCPU is to see this */
            sched_yield();
        }
    }
    atomic_store(&race->is_over, true);
    return NULL;
}

/* Make it translate anew all the time, so that changes come between its loads. */
static void *zap_tables(void *opaque)
{
    struct race *race = opaque;

    while (!atomic_load(&race->is_over)) {
        gm_soft_zap_all(race->rig.soft);
    }
    return NULL;
}

/* An instruction of three loads. *both: what lies across the border, as the other two say, too. */
static enum gm_mmu_outcome load_both(struct gm_mmu *mmu, uint64_t *both)
{
    uint64_t low = 0;
    uint64_t high = 0;
    enum gm_mmu_outcome outcome = gm_mmu_load(mmu, 0, 4, &low);

    if (outcome == GM_MMU_OK) {
        outcome = gm_mmu_load(mmu, PAGE, 4, &high);
    }
    if (outcome == GM_MMU_OK) {
        outcome = gm_mmu_load(mmu, PAGE - 4, 8, both);
    }
    if (outcome == GM_MMU_OK) {
        assert_int_equal(*both, high << 32 | low);
    }
    return outcome;
}

static void list_is_seen_whole_at_one_boundary(void **state)
{
    /* Two pages change places all the time. Between two boundaries the vCPU sees both as they were,
     * or both as they are, and never a hole: by loads of each, and by one across their border. */
    struct race race = {.rig = rig_new(NULL)};
    struct gm_mmu *mmu = race.rig.mmu;
    bool seen[2] = {false, false};
    unsigned restarts = 0;
    pthread_t threads[2];

    (void)state;
    for (unsigned page = 0; page < 2; page++) {
        memset(race.rig.memory + page * PAGE, (int)page + 1, PAGE);
    }
    assert_int_equal(rig_set(&race.rig, 0, 0, 0, PAGE, 0), 0);
    assert_int_equal(rig_set(&race.rig, 1, 0, PAGE, PAGE, PAGE), 0);
    assert_int_equal(pthread_create(&threads[0], NULL, swap_pages, &race), 0);
    assert_int_equal(pthread_create(&threads[1], NULL, zap_tables, &race), 0);
    assert_int_equal(gm_mmu_enter(mmu), GM_MMU_OK);
    while (!atomic_load(&race.is_over)) {
        uint64_t both = 0;
        enum gm_mmu_outcome outcome = load_both(mmu, &both);

        if (outcome == GM_MMU_RESTART) {
            assert_int_equal(gm_mmu_enter(mmu), GM_MMU_OK);
            restarts++;
            continue;
        }
        assert_int_equal(outcome, GM_MMU_OK);
        assert_true(both == 0x0202020201010101 || both == 0x0101010102020202);
        seen[(both & 0xff) - 1] = true;
        atomic_fetch_add(&race.rounds, 1);
        assert_int_equal(gm_mmu_boundary(mmu), GM_MMU_OK);
    }
    gm_mmu_leave(mmu);
    pthread_join(threads[0], NULL);
    pthread_join(threads[1], NULL);
    assert_true(seen[0] && seen[1]);
    print_message("%u rounds, %u restarts\n", atomic_load(&race.rounds), restarts);
    rig_free(&race.rig);
}

/* Lists of its own slots, over and over; others do the same with theirs. */
static void *churn(void *opaque)
{
    struct race *race = opaque;
    static atomic_uint next;
    unsigned mine = atomic_fetch_add(&next, 1) % 4 * 8;
    struct gm_soft_slot make[8];
    struct gm_soft_slot unmake[8];

    for (unsigned i = 0; i < 8; i++) {
        make[i] = slot_at(&race->rig, mine + i, (mine + i) * PAGE, (mine + i) * PAGE);
        unmake[i] = no_slot(mine + i);
    }
    for (unsigned i = 0; i < 100; i++) {
        struct gm_soft_slot found;

        REQUIRE_TRUE(gm_soft_set_slots(race->rig.soft, make, 8, NULL) == 0);
        REQUIRE_TRUE(gm_soft_find(race->rig.soft, 0, (mine + 7) * PAGE, &found));
        REQUIRE_TRUE(found.slot == mine + 7);
        REQUIRE_TRUE(gm_soft_set_slots(race->rig.soft, unmake, 8, NULL) == 0);
        REQUIRE_TRUE(!gm_soft_find(race->rig.soft, 0, mine * PAGE, &found));
    }
    return NULL;
}

static void lists_from_many_threads_do_not_mix(void **state)
{
    /* Each thread finds its own slots as it left them. */
    struct race race = {.rig = rig_new(NULL)};
    struct gm_soft_stats stats;
    pthread_t threads[4];

    (void)state;
    for (unsigned i = 0; i < 4; i++) {
        assert_int_equal(pthread_create(&threads[i], NULL, churn, &race), 0);
    }
    for (unsigned i = 0; i < 4; i++) {
        pthread_join(threads[i], NULL);
    }
    gm_soft_stats(race.rig.soft, &stats);
    assert_int_equal(stats.slots, 0);
    rig_free(&race.rig);
}

/* ---- followers ---- */

struct diary {
    char text[1024];
};

static void write_down(struct diary *diary, char what, const struct gm_soft_slot *slot)
{
    size_t used = strlen(diary->text);

    snprintf(diary->text + used, sizeof(diary->text) - used, "%c%x@%llx+%llx/%x ", what, slot->slot,
             (unsigned long long)slot->gpa, (unsigned long long)slot->size_bytes, slot->flags);
}

static void on_created(void *opaque, const struct gm_soft_slot *slot)
{
    write_down(opaque, 'c', slot);
}

static void on_removing(void *opaque, const struct gm_soft_slot *slot)
{
    write_down(opaque, 'r', slot);
}

static void on_flags(void *opaque, const struct gm_soft_slot *slot)
{
    write_down(opaque, 'f', slot);
}

static const struct gm_soft_follower_ops all_ops = {
    .size = sizeof(all_ops),
    .created = on_created,
    .removing = on_removing,
    .flags_changed = on_flags,
};

static void expect(struct diary *diary, const char *text)
{
    assert_string_equal(diary->text, text);
    diary->text[0] = '\0';
}

static void follower_is_told_each_change(void **state)
{
    /* What is there at first, each kind of change, and at last what is left. */
    struct rig rig = rig_new(NULL);
    struct diary diary = {""};
    struct gm_soft_follower *follower;

    (void)state;
    assert_int_equal(rig_set(&rig, 1, 0, 0x10000, PAGE, 0), 0);
    assert_int_equal(gm_soft_follow(rig.soft, &all_ops, &diary, &follower), 0);
    expect(&diary, "c1@10000+1000/0 ");
    assert_int_equal(rig_set(&rig, 0x10002, KVM_MEM_READONLY, 0, 2 * PAGE, 0), 0);
    expect(&diary, "c10002@0+2000/2 ");
    assert_int_equal(rig_set(&rig, 1, KVM_MEM_LOG_DIRTY_PAGES, 0x10000, PAGE, 0), 0);
    expect(&diary, "f1@10000+1000/1 ");
    assert_int_equal(rig_set(&rig, 1, KVM_MEM_LOG_DIRTY_PAGES, 0x20000, PAGE, 0), 0);
    expect(&diary, "r1@10000+1000/1 c1@20000+1000/1 ");
    assert_int_equal(rig_set(&rig, 3, 0, 0x20000, PAGE, 0), -EEXIST);
    expect(&diary, "");
    assert_int_equal(rig_set(&rig, 1, 0, 0, 0, 0), 0);
    expect(&diary, "r1@20000+1000/1 ");
    gm_soft_unfollow(follower);
    expect(&diary, "r10002@0+2000/2 ");
    assert_int_equal(rig_set(&rig, 1, 0, 0x10000, PAGE, 0), 0);
    expect(&diary, "");
    gm_soft_unfollow(NULL);
    rig_free(&rig);
}

static void follower_without_flags_or_with_bad_ops(void **state)
{
    /* Flags need not be followed; the rest must be. */
    struct rig rig = rig_new(NULL);
    struct diary diary = {""};
    struct gm_soft_follower *follower = NULL;
    struct gm_soft_follower_ops ops = all_ops;

    (void)state;
    assert_int_equal(gm_soft_follow(rig.soft, NULL, &diary, &follower), -EINVAL);
    ops.size--;
    assert_int_equal(gm_soft_follow(rig.soft, &ops, &diary, &follower), -EINVAL);
    ops = all_ops;
    ops.created = NULL;
    assert_int_equal(gm_soft_follow(rig.soft, &ops, &diary, &follower), -EINVAL);
    ops = all_ops;
    ops.removing = NULL;
    assert_int_equal(gm_soft_follow(rig.soft, &ops, &diary, &follower), -EINVAL);
    assert_null(follower);
    ops = all_ops;
    ops.flags_changed = NULL;
    assert_int_equal(gm_soft_follow(rig.soft, &ops, &diary, &follower), 0);
    assert_int_equal(rig_set(&rig, 1, 0, 0, PAGE, 0), 0);
    assert_int_equal(rig_set(&rig, 1, KVM_MEM_LOG_DIRTY_PAGES, 0, PAGE, 0), 0);
    expect(&diary, "c1@0+1000/0 ");
    gm_soft_unfollow(follower);
    rig_free(&rig);
}

static void follower_without_memory_is_enomem(void **state)
{
    /* And is told nothing. */
    struct faults faults = {0};
    const struct gm_allocator allocator = faults_allocator(&faults);
    const struct gm_soft_options options = {.size = sizeof(options), .allocator = &allocator};
    struct rig rig = rig_new(&options);
    struct gm_soft_follower *follower;
    struct diary diary = {""};

    (void)state;
    assert_int_equal(rig_set(&rig, 1, 0, 0, PAGE, 0), 0);
    faults_arm(&faults, 1);
    assert_int_equal(gm_soft_follow(rig.soft, &all_ops, &diary, &follower), -ENOMEM);
    faults_disarm(&faults);
    expect(&diary, "");
    rig_free(&rig);
    assert_int_equal(faults_live(&faults), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(list_is_checked_change_by_change),
        cmocka_unit_test(list_with_one_bad_change_changes_nothing),
        cmocka_unit_test(list_without_memory_changes_nothing),
        cmocka_unit_test(find_tells_slots_by_both_addresses),
        cmocka_unit_test(list_is_seen_whole_at_one_boundary),
        cmocka_unit_test(lists_from_many_threads_do_not_mix),
        cmocka_unit_test(follower_is_told_each_change),
        cmocka_unit_test(follower_without_flags_or_with_bad_ops),
        cmocka_unit_test(follower_without_memory_is_enomem),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
