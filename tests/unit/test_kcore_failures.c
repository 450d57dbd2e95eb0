/*
 * unit/test_kcore_failures.c - each allocation of each call fails once: the call says so, nothing has
 * changed, nothing is lost, and the same call succeeds afterwards.
 */
#include "unit/arch.h"

#define MIB UINT64_C(0x100000)
#define HVA UINT64_C(0x7f0000000000)
#define LOG MEMSLOT_LOG

#define SET(id, with, at, size)                                                                    \
    {                                                                                              \
        .slot = (id), .flags = (with), .gpa = (at), .size_bytes = (size), .hva = HVA               \
    }
#define DELETE(id) SET(id, 0, 0, 0)

/* What can be seen of a VM. */
struct state {
    uint64_t generations[2];
    const struct memslots *slots[2];
    const struct memslot *by_id[64];
    uint64_t attributes[32];
    unsigned long long holds;
    int live;
};

static struct state state_of(struct arch *arch)
{
    struct state state = {.holds = atomic_load(&arch->core.holds),
                          .live = atomic_load(&arch->live)};

    for (unsigned i = 0; i < 2; i++) {
        state.slots[i] = kcore_slots(&arch->core, i);
        state.generations[i] = state.slots[i]->generation;
    }
    for (uint32_t i = 0; i < 64; i++) {
        state.by_id[i] = kcore_slot_by_id(&arch->core, i);
        state.attributes[i / 2] = kcore_attributes(&arch->core, (struct gfn){i / 2});
    }
    return state;
}

/* Enough slots for trees of two levels. */
static struct arch *open_forty(void)
{
    struct arch *arch = arch_open();

    arch->is_silent = true;
    arch->core.index_pool.keep_max = 0;
    for (uint32_t id = 0; id < 40; id++) {
        assert_int_equal(arch_set(arch, id, id % 2 == 0 ? LOG : 0, id * 2 * MIB, MIB, HVA), 0);
    }
    assert_int_equal(kcore_set_attributes(&arch->core, 0, 0x5000, ATTRIBUTE_NO_WRITE), 0);
    rcu_domain_drain(arch->core.deferred);
    return arch;
}

/* Do @call, with the first, second ... allocation failing, until none does. */
static void fail_each(int (*call)(struct arch *arch), unsigned at_least)
{
    struct arch *arch = open_forty();
    unsigned failures = 0;

    for (;; failures++) {
        struct state before = state_of(arch);
        struct state after;
        int64_t live = faults_live(&arch->faults);
        int rc;

        faults_arm(&arch->faults, failures + 1);
        rc = call(arch);
        if (!faults_disarm(&arch->faults)) {
            assert_int_equal(rc, 0);
            break;
        }
        assert_int_equal(rc, -ENOMEM);
        after = state_of(arch);
        assert_memory_equal(&before, &after, sizeof(before));
        assert_int_equal(faults_live(&arch->faults), live);
#ifdef GM_AUDIT_ON
        kcore_audit(&arch->core);
#endif
    }
    assert_true(failures >= at_least);
    arch_close(arch);
}

static int create(struct arch *arch)
{
    return arch_set(arch, 50, LOG, 100 * MIB, MIB, HVA);
}

static int delete (struct arch *arch)
{
    return arch_set(arch, 7, 0, 0, 0, 0);
}

static int move(struct arch *arch)
{
    return arch_set(arch, 8, LOG, 100 * MIB, MIB, HVA);
}

static int log_on(struct arch *arch)
{
    return arch_set(arch, 9, LOG, 18 * MIB, MIB, HVA);
}

static int private_memory(struct arch *arch)
{
    struct memslot_change change = SET(50, MEMSLOT_GUEST_MEMFD, 100 * MIB, MIB);

    change.private_hva = HVA + MIB;
    return kcore_apply(&arch->core, &change, 1, NULL);
}

static int list(struct arch *arch)
{
    const struct memslot_change changes[] = {
        DELETE(1),
        SET(2, 0, 4 * MIB, MIB),
        SET(2, LOG, 4 * MIB, MIB),        /* off and on: nothing */
        SET(50, LOG, 200 * MIB, 4 * MIB), /* comes and goes */
        DELETE(50),
        SET(3, LOG, 300 * MIB, MIB),
        SET(3, LOG, 2 * MIB, MIB), /* where 1 was */
        DELETE(4),
        SET(4, LOG, 8 * MIB, MIB), /* anew */
        SET(0x10001, LOG, 0, MIB),
        SET(5, 0, 400 * MIB, MIB),
        SET(5, LOG, 10 * MIB, MIB), /* away, and back with a log */
    };
    size_t failed = 99;
    int rc = kcore_apply(&arch->core, changes, sizeof(changes) / sizeof(changes[0]), &failed);

    assert_true((rc == 0) == (failed == 99));
    return rc;
}

static int attributes(struct arch *arch)
{
    return kcore_set_attributes(&arch->core, 0x2000, 0x1000,
                                ATTRIBUTE_NO_WRITE | ATTRIBUTE_NO_EXECUTE);
}

static int no_attributes(struct arch *arch)
{
    return kcore_set_attributes(&arch->core, 0, 0x5000, 0);
}

static void kcore_each_allocation_of_a_change_may_fail(void **state)
{
    /* Single changes of each kind, and a list with all that a list can come to. */
    (void)state;
    fail_each(create, 8);
    fail_each(delete, 6);
    fail_each(move, 8);
    fail_each(log_on, 7);
    fail_each(private_memory, 7);
    fail_each(list, 30);
}

static void kcore_each_allocation_of_attributes_may_fail(void **state)
{
    /* A range that is cut into three, and one that goes as it is. */
    (void)state;
    fail_each(attributes, 2);
    fail_each(no_attributes, 2);
}

static void kcore_each_allocation_of_init_may_fail(void **state)
{
    /* Until a VM comes to be. */
    struct arch arch;
    struct kcore_options options;
    unsigned failures = 0;

    (void)state;
    for (;; failures++) {
        options = arch_options(&arch);
        faults_arm(&arch.faults, failures + 1);
        if (kcore_init(&arch.core, &options) == 0) {
            break;
        }
        assert_true(faults_disarm(&arch.faults));
        assert_int_equal(faults_live(&arch.faults), 0);
    }
    assert_false(faults_disarm(&arch.faults));
    assert_int_equal(failures, 4);
    arch_close(&arch);
}

static void kcore_list_without_end_is_refused(void **state)
{
    /* A count that no memory could hold is no memory, and not a crash. */
    struct memslot_change change = SET(1, 0, 0, MIB);
    struct arch *arch = arch_open();
    size_t failed = 99;

    (void)state;
    assert_int_equal(kcore_apply(&arch->core, &change, SIZE_MAX, &failed), -ENOMEM);
    assert_int_equal(failed, 0);
    arch_close(arch);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(kcore_each_allocation_of_a_change_may_fail),
        cmocka_unit_test(kcore_each_allocation_of_attributes_may_fail),
        cmocka_unit_test(kcore_each_allocation_of_init_may_fail),
        cmocka_unit_test(kcore_list_without_end_is_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
