/* unit/test_children.c - the treap of a region's children against an array that is searched from end to end. */
#include "model/random.h"
#include "region/region.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

#define CHILDREN 400u

/* The children and which of them are in. */
struct family {
    struct children children;
    struct gm_region *regions;
    bool in[CHILDREN];
    unsigned visits[CHILDREN];
    unsigned count;
};

static void family_begin(struct family *family)
{
    *family = (struct family){.regions = calloc(CHILDREN, sizeof(struct gm_region))};
    assert_non_null(family->regions);
}

static void family_end(struct family *family)
{
    free(family->regions);
}

static void put_in(struct family *family, unsigned i)
{
    family->regions[i].as_child.added = family->children.next_added++;
    children_insert(&family->children, &family->regions[i]);
    family->in[i] = true;
    family->count++;
}

static void take_out(struct family *family, unsigned i)
{
    children_remove(&family->children, &family->regions[i]);
    family->in[i] = false;
    family->count--;
}

static bool note_visit(void *opaque, struct gm_region *child)
{
    struct family *family = opaque;

    family->visits[child - family->regions]++;
    return true;
}

static bool refuse(void *opaque, struct gm_region *child)
{
    unsigned *left = opaque;

    (void)child;
    return --*left > 0;
}

/* Addresses and sizes of every scale, many of them equal, some empty, some that end at 2^64 and beyond. */
static void place_child(struct rnd *rnd, struct gm_region *region)
{
    unsigned bits = (unsigned)rnd_below(rnd, 64);

    region->addr = rnd_next(rnd) >> bits;
    region->size = rnd_one_in(rnd, 6) ? 0 : (pos_t)(rnd_next(rnd) >> rnd_below(rnd, 64));
    if (rnd_one_in(rnd, 20)) {
        region->size = POS_2_64;
    }
    if (rnd_one_in(rnd, 3)) {
        region->addr &= 0xf;
        region->size &= 0xf;
    }
}

/* @span is not empty: nobody asks for nothing. */
static void require_visits(struct family *family, struct span span)
{
    unsigned i;

    if (span_is_empty(span)) {
        return;
    }
    for (i = 0; i < CHILDREN; i++) {
        family->visits[i] = 0;
    }
    assert_true(children_visit(&family->children, span, note_visit, family));
    for (i = 0; i < CHILDREN; i++) {
        const struct gm_region *region = &family->regions[i];
        struct span extent = span_of(region->addr, region->size);
        bool meets = family->in[i] && !span_is_empty(extent) && extent.start < span.end &&
                     span.start < extent.end;

        assert_int_equal(family->visits[i], meets ? 1 : 0);
    }
}

static void require_all(struct family *family)
{
    unsigned i;

    for (i = 0; i < CHILDREN; i++) {
        family->visits[i] = 0;
    }
    assert_true(children_visit_all(&family->children, note_visit, family));
    for (i = 0; i < CHILDREN; i++) {
        assert_int_equal(family->visits[i], family->in[i] ? 1 : 0);
    }
    assert_int_equal(family->children.count, family->count);
}

static void children_edited_at_random_are_found_where_they_are(void **state)
{
    /* After each of many random changes, every query answers as looking at all children does. */
    struct rnd rnd = {rnd_seed("children")};
    struct family family;
    unsigned step;

    (void)state;
    family_begin(&family);
    for (step = 0; step < 4000; step++) {
        unsigned i = (unsigned)rnd_below(&rnd, CHILDREN);
        struct gm_region query;

        if (family.in[i]) {
            take_out(&family, i);
        } else {
            place_child(&rnd, &family.regions[i]);
            put_in(&family, i);
        }
        if (step % 8 == 0) {
            children_audit(&family.children);
            place_child(&rnd, &query);
            require_visits(&family, span_of(query.addr, query.size));
            require_visits(&family, span_of(family.regions[i].addr, 1));
            require_visits(&family, (struct span){-5, (pos_t)query.addr});
            require_all(&family);
        }
    }
    family_end(&family);
}

static unsigned depth_of(const struct gm_region *node)
{
    unsigned left;
    unsigned right;

    if (node == NULL) {
        return 0;
    }
    left = depth_of(node->as_child.left);
    right = depth_of(node->as_child.right);
    return 1 + (left > right ? left : right);
}

static void children_added_in_order_stay_shallow(void **state)
{
    /* Ascending addresses, the usual order: depth stays within a few times the logarithm. */
    struct family family;
    unsigned i;

    (void)state;
    family_begin(&family);
    for (i = 0; i < CHILDREN; i++) {
        family.regions[i].addr = i;
        family.regions[i].size = 1;
        put_in(&family, i);
    }
    assert_true(depth_of(family.children.top) <= 30);
    family_end(&family);
}

static void visit_that_is_refused_stops_at_once(void **state)
{
    /* A visitor that returns false is not called again, and the walk says so. */
    struct family family;
    unsigned left = 3;
    unsigned i;

    (void)state;
    family_begin(&family);
    for (i = 0; i < 20; i++) {
        family.regions[i].addr = i;
        family.regions[i].size = 5;
        put_in(&family, i);
    }
    assert_false(children_visit(&family.children, span_of(0, 100), refuse, &left));
    assert_int_equal(left, 0);
    left = 4;
    assert_false(children_visit_all(&family.children, refuse, &left));
    assert_int_equal(left, 0);
    family_end(&family);
}

static void sibling_of_higher_priority_wins_then_the_later_one(void **state)
{
    /* The rule of guestmem/region.h. */
    struct gm_region early = {.priority = 1, .as_child.added = 5};
    struct gm_region late = {.priority = 1, .as_child.added = 6};
    struct gm_region low = {.priority = -7, .as_child.added = 9};

    (void)state;
    assert_true(child_wins(&late, &early));
    assert_false(child_wins(&early, &late));
    assert_true(child_wins(&early, &low));
    assert_false(child_wins(&low, &late));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(children_edited_at_random_are_found_where_they_are),
        cmocka_unit_test(children_added_in_order_stay_shallow),
        cmocka_unit_test(visit_that_is_refused_stops_at_once),
        cmocka_unit_test(sibling_of_higher_priority_wins_then_the_later_one),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
