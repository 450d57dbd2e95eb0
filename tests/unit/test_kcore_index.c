/*
 * unit/test_kcore_index.c - the persistent index against a sorted array: after each draft of random
 * changes the same answers to every question, and the version before still what it was.
 */
#include "base/check.h"
#include "kcore/index.h"
#include "model/faults.h"
#include "model/random.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define ENTRIES_MAX 4096
#define KEY_END 20000 /* firsts are below: small, so that there are many ties and overlaps */

/* The model: entries in order of (first, id). */
struct array {
    struct index_entry entries[ENTRIES_MAX];
    size_t count;
};

struct bench {
    struct faults faults;
    struct gm_allocator allocator;
    struct index_pool pool; /* keeps nothing, so that each node is an allocation that can fail */
    struct rnd rnd;
    struct array now;
    struct array draft;
    const struct index_node *root;
    uint64_t operations;
};

static int compare(const struct index_entry *a, uint64_t first, uint32_t id)
{
    if (a->first != first) {
        return a->first < first ? -1 : 1;
    }
    return a->id < id ? -1 : a->id > id;
}

/* How many entries are below (@first, @id). */
static size_t array_place(const struct array *array, uint64_t first, uint32_t id)
{
    size_t place = 0;

    while (place < array->count && compare(&array->entries[place], first, id) < 0) {
        place++;
    }
    return place;
}

static void array_insert(struct array *array, size_t place, struct index_entry entry)
{
    memmove(&array->entries[place + 1], &array->entries[place],
            (array->count - place) * sizeof(entry));
    array->entries[place] = entry;
    array->count++;
}

static void array_remove(struct array *array, size_t place)
{
    array->count--;
    memmove(&array->entries[place], &array->entries[place + 1],
            (array->count - place) * sizeof(array->entries[0]));
}

struct walk {
    const struct array *array;
    size_t next;
    uint64_t first;
    uint64_t last;
};

static bool entries_are_equal(const struct index_entry *a, const struct index_entry *b)
{
    return a->first == b->first && a->last == b->last && a->id == b->id && a->value == b->value;
}

/* The next entry of the model that meets the walk's range has to be this one. */
static void expect_next(void *opaque, const struct index_entry *entry)
{
    struct walk *walk = opaque;

    while (walk->next < walk->array->count &&
           (walk->array->entries[walk->next].last < walk->first ||
            walk->array->entries[walk->next].first > walk->last)) {
        walk->next++;
    }
    assert_true(walk->next < walk->array->count);
    assert_true(entries_are_equal(entry, &walk->array->entries[walk->next]));
    walk->next++;
}

static void check_visit(const struct index_node *root, const struct array *array, uint64_t first,
                        uint64_t last)
{
    struct walk walk = {array, 0, first, last};

    index_visit(root, first, last, expect_next, &walk);
    for (; walk.next < array->count; walk.next++) {
        assert_true(array->entries[walk.next].last < first ||
                    array->entries[walk.next].first > last);
    }
}

static void check_point(const struct index_node *root, const struct array *array, uint64_t point)
{
    struct index_entry entry;
    size_t above = array_place(array, point + 1, 0);
    size_t from = array_place(array, point, 0);
    const void *found = index_find(root, point);

    assert_int_equal(index_floor(root, point, &entry), above > 0);
    if (above > 0) {
        const struct index_entry *floor = &array->entries[above - 1];

        assert_true(entries_are_equal(&entry, floor));
        assert_ptr_equal(found, floor->last >= point ? floor->value : NULL);
    } else {
        assert_null(found);
    }
    assert_int_equal(index_ceiling(root, point, &entry), from < array->count);
    if (from < array->count) {
        assert_true(entries_are_equal(&entry, &array->entries[from]));
    }
}

static void check_tree(struct bench *bench, const struct index_node *root,
                       const struct array *array)
{
    uint64_t first = rnd_below(&bench->rnd, KEY_END);

#ifdef GM_AUDIT_ON
    assert_int_equal(index_audit(root), array->count);
#endif
    check_visit(root, array, 0, UINT64_MAX);
    check_visit(root, array, first, first + rnd_below(&bench->rnd, 100));
    for (int i = 0; i < 4; i++) {
        check_point(root, array, rnd_below(&bench->rnd, KEY_END + 100));
    }
    check_point(root, array, 0);
}

static int insert_at_random(struct bench *bench, struct index_edit *edit, uint64_t at)
{
    struct index_entry entry = {.first = at, .id = (uint32_t)rnd_below(&bench->rnd, 4)};
    size_t place = array_place(&bench->draft, entry.first, entry.id);
    int rc;

    entry.last = entry.first + rnd_below(&bench->rnd, rnd_one_in(&bench->rnd, 8) ? 5000 : 10);
    entry.value = (const void *)(uintptr_t)(rnd_next(&bench->rnd) | 1);
    if (bench->draft.count == ENTRIES_MAX ||
        (place < bench->draft.count &&
         compare(&bench->draft.entries[place], entry.first, entry.id) == 0)) {
        return 0;
    }
    rc = index_insert(edit, &entry);
    if (rc == 0) {
        array_insert(&bench->draft, place, entry);
    }
    return rc;
}

static int remove_or_replace(struct bench *bench, struct index_edit *edit, bool is_remove)
{
    size_t place = (size_t)rnd_below(&bench->rnd, bench->draft.count);
    struct index_entry *entry = &bench->draft.entries[place];
    const void *value = (const void *)(uintptr_t)(rnd_next(&bench->rnd) | 1);
    int rc;

    if (!is_remove) {
        rc = index_replace(edit, entry->first, entry->id, value);
        if (rc == 0) {
            entry->value = value;
        }
        return rc;
    }
    rc = index_remove(edit, entry->first, entry->id);
    if (rc == 0) {
        array_remove(&bench->draft, place);
    }
    return rc;
}

/* One draft of up to 40 changes. @growth: of 8, how many are inserts. */
static void run_draft(struct bench *bench, unsigned growth, bool ascends)
{
    unsigned changes = 1 + (unsigned)rnd_below(&bench->rnd, rnd_one_in(&bench->rnd, 4) ? 40 : 3);
    uint64_t at = rnd_below(&bench->rnd, KEY_END);
    const struct index_node *before = bench->root;
    struct index_node *replaced;
    struct index_edit edit;
    int rc = 0;

    bench->draft = bench->now;
    faults_arm(&bench->faults, rnd_one_in(&bench->rnd, 16) ? 1 + rnd_below(&bench->rnd, 12) : 0);
    index_edit_begin(&edit, &bench->pool, bench->root);
    for (unsigned i = 0; i < changes && rc == 0; i++) {
        bench->operations++;
        if (bench->draft.count == 0 || rnd_below(&bench->rnd, 8) < growth) {
            rc = insert_at_random(bench, &edit, ascends ? at++ : rnd_below(&bench->rnd, KEY_END));
        } else {
            rc = remove_or_replace(bench, &edit, rnd_below(&bench->rnd, 4) != 0);
        }
    }
    assert_int_equal(rc, faults_disarm(&bench->faults) ? -ENOMEM : 0);
    if (rc != 0 || rnd_one_in(&bench->rnd, 16)) {
        index_edit_abort(&edit);
        check_tree(bench, bench->root, &bench->now);
        return;
    }
    check_visit(edit.root, &bench->draft, 0, UINT64_MAX);
    replaced = index_edit_commit(&edit);
    bench->root = edit.root;
    check_tree(bench, before, &bench->now); /* readers of the version before see nothing of this */
    check_tree(bench, bench->root, &bench->draft);
    index_free_nodes(&bench->pool, replaced);
    bench->now = bench->draft;
}

static void index_random_operations_agree_with_the_array(void **state)
{
    /* 100,000 operations that grow and shrink the tree through all its depths, with failing memory. */
    static struct bench bench;
    uint64_t wanted = rnd_setting("GM_OPERATIONS", 100000);

    (void)state;
    bench.rnd.state = rnd_seed("index");
    bench.allocator = faults_allocator(&bench.faults);
    index_pool_init(&bench.pool, &bench.allocator);
    bench.pool.keep_max = 0;
    while (bench.operations < wanted) {
        bool grows = bench.now.count < 64 || (bench.operations / 8000) % 2 == 0;

        run_draft(&bench, grows ? 6 : 2, rnd_one_in(&bench.rnd, 10));
    }
    index_free_tree(&bench.pool, bench.root);
    assert_int_equal(faults_live(&bench.faults), 0);
}

static struct index_pool pool_without_stock(const struct gm_allocator *allocator)
{
    struct index_pool pool;

    index_pool_init(&pool, allocator);
    pool.keep_max = 0;
    return pool;
}

static void index_empty_has_nothing(void **state)
{
    /* No root: no answer to anything, and nothing to free. */
    const struct array none = {.count = 0};
    struct faults faults = {0};
    struct gm_allocator allocator = faults_allocator(&faults);
    struct index_pool pool = pool_without_stock(&allocator);

    (void)state;
    check_point(NULL, &none, 0);
    check_point(NULL, &none, UINT64_MAX - 1);
    check_visit(NULL, &none, 0, UINT64_MAX);
    index_free_tree(&pool, NULL);
    index_free_nodes(&pool, NULL);
}

static void index_ends_of_numbers_are_found(void **state)
{
    /* Ranges at 0 and at 2^64 - 1, and one that is everything. */
    struct faults faults = {0};
    struct gm_allocator allocator = faults_allocator(&faults);
    struct index_pool pool = pool_without_stock(&allocator);
    const struct index_entry entries[] = {
        {0, 0, 1, "zero"}, {0, UINT64_MAX, 2, "all"}, {UINT64_MAX, UINT64_MAX, 0, "last"}};
    struct array array = {.count = 3};
    struct index_entry entry;
    struct index_edit edit;

    (void)state;
    index_edit_begin(&edit, &pool, NULL);
    for (size_t i = 0; i < 3; i++) {
        assert_int_equal(index_insert(&edit, &entries[2 - i]), 0);
        array.entries[i] = entries[i];
    }
    assert_null(index_edit_commit(&edit));
    check_visit(edit.root, &array, 0, 0);
    check_visit(edit.root, &array, 1, 1);
    check_visit(edit.root, &array, UINT64_MAX, UINT64_MAX);
    assert_true(index_floor(edit.root, UINT64_MAX, &entry) && entry.first == UINT64_MAX);
    assert_true(index_ceiling(edit.root, UINT64_MAX, &entry) && entry.first == UINT64_MAX);
    assert_string_equal(index_find(edit.root, UINT64_MAX), "last");
    assert_string_equal(index_find(edit.root, UINT64_MAX - 1), "all");
    index_free_tree(&pool, edit.root);
    assert_int_equal(faults.live, 0);
}

static void index_ascending_entries_fill_their_nodes(void **state)
{
    /* 32,768 entries that come in order take 2,048 leaves, and no more than four levels. */
    struct faults faults = {0};
    struct gm_allocator allocator = faults_allocator(&faults);
    struct index_pool pool = pool_without_stock(&allocator);
    struct index_edit edit;

    (void)state;
    index_edit_begin(&edit, &pool, NULL);
    for (uint64_t i = 0; i < 32768; i++) {
        struct index_entry entry = {i * 2, i * 2 + 1, 0, "x"};

        assert_int_equal(index_insert(&edit, &entry), 0);
    }
    assert_null(index_edit_commit(&edit));
    assert_int_equal(edit.root->level, 3);
    assert_int_equal(faults.live, 2048 + 128 + 8 + 1);
    index_free_tree(&pool, edit.root);
    assert_int_equal(faults.live, 0);
}

static void index_one_change_copies_one_way(void **state)
{
    /* In a tree of 32,768 a replaced value costs as many nodes as the tree has levels. */
    struct faults faults = {0};
    struct gm_allocator allocator = faults_allocator(&faults);
    struct index_pool pool = pool_without_stock(&allocator);
    struct index_node *replaced;
    struct index_edit edit;

    (void)state;
    index_edit_begin(&edit, &pool, NULL);
    for (uint64_t i = 0; i < 32768; i++) {
        struct index_entry entry = {i, i, 0, "x"};

        assert_int_equal(index_insert(&edit, &entry), 0);
    }
    assert_null(index_edit_commit(&edit));
    index_edit_begin(&edit, &pool, edit.root);
    faults.allocations = 0;
    assert_int_equal(index_replace(&edit, 12345, 0, "y"), 0);
    assert_int_equal(index_replace(&edit, 12345, 0, "z"), 0);
    assert_int_equal(faults.allocations, 4);
    replaced = index_edit_commit(&edit);
    index_free_nodes(&pool, replaced);
    assert_string_equal(index_find(edit.root, 12345), "z");
    index_free_tree(&pool, edit.root);
    assert_int_equal(faults.live, 0);
}

static void index_pool_keeps_nodes_for_the_next_change(void **state)
{
    /* What a change replaced serves the next one, and no more than the limit is kept. */
    struct faults faults = {0};
    struct gm_allocator allocator = faults_allocator(&faults);
    const struct index_node *root = NULL;
    struct index_pool pool;
    struct index_edit edit;

    (void)state;
    index_pool_init(&pool, &allocator);
    pool.keep_max = 10;
    for (uint64_t i = 0; i < 1000; i++) {
        struct index_entry entry = {i, i, 0, "x"};

        index_edit_begin(&edit, &pool, root);
        assert_int_equal(index_insert(&edit, &entry), 0);
        index_free_nodes(&pool, index_edit_commit(&edit));
        root = edit.root;
    }
    faults.allocations = 0;
    for (uint64_t i = 0; i < 1000; i++) {
        index_edit_begin(&edit, &pool, root);
        assert_int_equal(index_replace(&edit, i, 0, "y"), 0);
        index_free_nodes(&pool, index_edit_commit(&edit));
        root = edit.root;
    }
    assert_true(faults.allocations <= 3);
    index_edit_begin(&edit, &pool, root);
    for (uint64_t i = 0; i < 1000; i++) {
        assert_int_equal(index_replace(&edit, i, 0, "z"), 0);
    }
    index_free_nodes(&pool, index_edit_commit(&edit));
    assert_true(atomic_load(&pool.kept) <= 10);
    index_free_tree(&pool, edit.root);
    assert_true(faults.live <= 10);
    index_pool_fini(&pool);
    assert_int_equal(faults.live, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(index_random_operations_agree_with_the_array),
        cmocka_unit_test(index_empty_has_nothing),
        cmocka_unit_test(index_ends_of_numbers_are_found),
        cmocka_unit_test(index_ascending_entries_fill_their_nodes),
        cmocka_unit_test(index_one_change_copies_one_way),
        cmocka_unit_test(index_pool_keeps_nodes_for_the_next_change),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
