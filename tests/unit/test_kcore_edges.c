/*
 * unit/test_kcore_edges.c - the software KVM's core where it is rarely: a tree's last node with one entry, a root that cannot grow,
 * no address space for a ring, a follower behind another, words of a log that nobody asks for.
 */
#include "unit/arch.h"

#include "kcore/index.h"

#include <sys/resource.h>

#define MIB UINT64_C(0x100000)
#define HVA UINT64_C(0x7f0000000000)
#define LOG MEMSLOT_LOG
#define FANOUT ((uint64_t)INDEX_FANOUT)

/* ---- the index ---- */

/* Add the entries [@first, @end), in order; they lie side by side. */
static void add_entries(struct index_edit *edit, uint64_t first, uint64_t end)
{
    for (uint64_t i = first; i < end; i++) {
        struct index_entry entry = {i * 2, i * 2 + 1, 0, "x"};

        assert_int_equal(index_insert(edit, &entry), 0);
    }
}

/* The tree has just those entries. */
static void expect_entries(const struct index_node *root, uint64_t end)
{
    struct index_entry entry;

    for (uint64_t i = 0; i < end; i++) {
        assert_string_equal(index_find(root, i * 2 + 1), "x");
    }
    assert_null(index_find(root, end * 2));
    assert_true(index_floor(root, UINT64_MAX, &entry));
    assert_int_equal(entry.first, (end - 1) * 2);
#ifdef GM_AUDIT_ON
    assert_int_equal(index_audit(root), end);
#endif
}

static void index_entry_alone_in_the_last_nodes_goes_with_them(void **state)
{
    /*
     * Ascending entries fill their nodes, so one more than three full levels hold is alone in its leaf, which is alone in its
     * node. Without it both are gone, and the root above them.
     */
    const uint64_t full = FANOUT * FANOUT;
    struct faults faults = {0};
    const struct gm_allocator allocator = faults_allocator(&faults);
    struct index_pool pool;
    struct index_edit edit;
    struct index_node *replaced;

    (void)state;
    index_pool_init(&pool, &allocator);
    pool.keep_max = 0;
    index_edit_begin(&edit, &pool, NULL);
    add_entries(&edit, 0, full + 1);
    assert_int_equal(edit.root->level, 2);
    assert_null(index_edit_commit(&edit));

    index_edit_begin(&edit, &pool, edit.root);
    assert_int_equal(index_remove(&edit, full * 2, 0), 0);
    assert_int_equal(edit.root->level, 1);
    expect_entries(edit.root, full);
    replaced = index_edit_commit(&edit);
    index_free_nodes(&pool, replaced);
    index_free_tree(&pool, edit.root);
    index_pool_fini(&pool);
    assert_int_equal(faults_live(&faults), 0);
}

static void index_root_that_cannot_grow_leaves_the_tree_before(void **state)
{
    /* The entry that needs another level, with each of its allocations failing once; the last one is that of the root. */
    struct faults faults = {0};
    const struct gm_allocator allocator = faults_allocator(&faults);
    struct index_pool pool;
    struct index_edit edit;
    struct index_node *root;
    unsigned failures = 0;
    int64_t live;

    (void)state;
    index_pool_init(&pool, &allocator);
    pool.keep_max = 0;
    index_edit_begin(&edit, &pool, NULL);
    add_entries(&edit, 0, FANOUT);
    assert_null(index_edit_commit(&edit));
    root = edit.root;
    live = faults_live(&faults);
    for (;; failures++) {
        struct index_entry entry = {FANOUT * 2, FANOUT * 2 + 1, 0, "x"};
        int rc;

        index_edit_begin(&edit, &pool, root);
        faults_arm(&faults, failures + 1);
        rc = index_insert(&edit, &entry);
        if (!faults_disarm(&faults)) {
            assert_int_equal(rc, 0);
            expect_entries(edit.root, FANOUT + 1);
            break;
        }
        assert_int_equal(rc, -ENOMEM);
        index_edit_abort(&edit);
        assert_int_equal(faults_live(&faults), live);
        expect_entries(root, FANOUT);
    }
    assert_int_equal(failures, 3); /* the leaf's copy, its right half, the root */
    index_edit_abort(&edit);
    index_free_tree(&pool, root);
    index_pool_fini(&pool);
    assert_int_equal(faults_live(&faults), 0);
}

/* ---- the VM ---- */

static void note_removing(void *opaque, const struct memslot *slot)
{
    unsigned *told = opaque;

    (void)slot;
    (*told)++;
}

static void followers_leave_in_any_order(void **state)
{
    /* The second one leaves, is told of what it leaves behind, and the first is still told; then that one does. */
    struct arch *arch = arch_open();
    unsigned told[2] = {0, 0};
    struct kcore_follower followers[2] = {
        {.removing = note_removing, .opaque = &told[0]},
        {.removing = note_removing, .opaque = &told[1]},
    };

    (void)state;
    assert_int_equal(arch_set(arch, 1, 0, 0, MIB, HVA), 0);
    assert_int_equal(arch_set(arch, 2, 0, MIB, MIB, HVA), 0);
    kcore_follow(&arch->core, &followers[0]);
    kcore_follow(&arch->core, &followers[1]);
    kcore_unfollow(&arch->core, &followers[1]);
    assert_int_equal(told[0], 0);
    assert_int_equal(told[1], 2);
    assert_int_equal(arch_set(arch, 2, 0, 0, 0, 0), 0);
    assert_int_equal(told[0], 1);
    assert_int_equal(told[1], 2);
    kcore_unfollow(&arch->core, &followers[0]);
    assert_int_equal(told[0], 2);
    arch_close(arch);
}

static void vcpu_without_address_space_for_its_ring_is_not_made(void **state)
{
    /* -ENOMEM, and the id is free: the same call succeeds when there is room again. */
    struct arch *arch = arch_open();
    struct rlimit before;
    struct rlimit none;
    struct kcore_vcpu vcpu;
    uint32_t requests = 0;
    int rc;

    (void)state;
    assert_int_equal(kcore_enable_rings(&arch->core, MIB), 0);
    assert_int_equal(getrlimit(RLIMIT_AS, &before), 0);
    none = (struct rlimit){.rlim_cur = 0, .rlim_max = before.rlim_max};
    assert_int_equal(setrlimit(RLIMIT_AS, &none), 0);
    rc = kcore_vcpu_init(&vcpu, &arch->core, 0, &requests);
    assert_int_equal(setrlimit(RLIMIT_AS, &before), 0);
    assert_int_equal(rc, -ENOMEM);
    assert_int_equal(arch->core.vcpu_count, 0);
    assert_int_equal(kcore_vcpu_init(&vcpu, &arch->core, 0, &requests), 0);
    kcore_vcpu_fini(&vcpu);
    arch_close(arch);
}

static void log_clear_holds_nobody_for_words_without_a_bit(void **state)
{
    /* A bitmap that asks for one page far behind the first: only the stretch that has it is harvested. */
    static uint64_t bitmap[2 * 4096]; /* words: twice what one hold is for */
    struct arch *arch = arch_open();
    const uint64_t page_count = sizeof(bitmap) * 8;
    const uint64_t page = page_count - 5;
    unsigned long long holds;

    (void)state;
    assert_int_equal(arch_set(arch, 1, LOG, 0, page_count * 4096, HVA), 0);
    rcu_enter();
    assert_true(kcore_mark_dirty(&arch->core, NULL, arch_find(arch, 0, 0), (struct gfn){3}));
    assert_true(kcore_mark_dirty(&arch->core, NULL, arch_find(arch, 0, 0), (struct gfn){page}));
    rcu_leave();
    arch->is_silent = true; /* whole logs are long */
    holds = atomic_load(&arch->core.holds);

    bitmap[page / 64] = UINT64_C(1) << (page % 64);
    assert_int_equal(kcore_log_clear(&arch->core, 1, 0, page_count, bitmap), 0);
    assert_int_equal(atomic_load(&arch->core.holds), holds + 1);

    /* What was not asked for is still dirty. */
    memset(bitmap, 0, sizeof(bitmap));
    assert_int_equal(kcore_log_get(&arch->core, 1, bitmap, page_count / 64), 0);
    assert_int_equal(bitmap[0], 1 << 3);
    assert_int_equal(bitmap[page / 64], 0);
    arch_close(arch);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(index_entry_alone_in_the_last_nodes_goes_with_them),
        cmocka_unit_test(index_root_that_cannot_grow_leaves_the_tree_before),
        cmocka_unit_test(followers_leave_in_any_order),
        cmocka_unit_test(vcpu_without_address_space_for_its_ring_is_not_made),
        cmocka_unit_test(log_clear_holds_nobody_for_words_without_a_bit),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
