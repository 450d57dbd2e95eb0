/* unit/test_view.c - flat views against an array: building out of old and new ranges, and every lookup. */
#include "model/random.h"
#include "region/region.h"
#include "view/view.h"

#include "unit/picture.h"

#include <stdlib.h>

#define RANGES_MAX 600u
#define REGIONS 3u

/* What a view has to be. */
struct list {
    struct range items[RANGES_MAX];
    size_t count;
};

struct bench {
    struct gm_map *map;
    struct gm_region *regions[REGIONS];
};

static int bench_begin(void **state)
{
    static struct bench bench;
    unsigned i;

    assert_int_equal(gm_map_new(NULL, &bench.map, NULL), 0);
    for (i = 0; i < REGIONS; i++) {
        bench.regions[i] = picture_region(
            bench.map,
            (struct gm_region_options){.kind = GM_REGION_MMIO, .name = "r", .size_bytes = 0x1000});
    }
    *state = &bench;
    return 0;
}

static int bench_end(void **state)
{
    struct bench *bench = *state;
    unsigned i;

    for (i = 0; i < REGIONS; i++) {
        gm_region_put(bench->regions[i]);
    }
    gm_map_free(bench->map);
    return 0;
}

static void require_holes(const struct gm_view *view, const struct list *list, size_t i)
{
    uint64_t before = i > 0 ? list->items[i - 1].last : UINT64_MAX;
    uint64_t hole_last = 0;

    if (list->items[i].gpa != 0 && list->items[i].gpa - 1 != before) {
        assert_null(view_lookup(view, list->items[i].gpa - 1, &hole_last));
        assert_true(hole_last == list->items[i].gpa - 1);
        assert_null(view_lookup(view, i > 0 ? before + 1 : 0, &hole_last));
        assert_true(hole_last == list->items[i].gpa - 1);
    }
    if (i + 1 == list->count && list->items[i].last != UINT64_MAX) {
        assert_null(view_lookup(view, list->items[i].last + 1, &hole_last));
        assert_true(hole_last == UINT64_MAX);
        assert_null(view_lookup(view, UINT64_MAX, &hole_last));
        assert_int_equal(view_lower_bound(view, list->items[i].last + 1), list->count);
    }
}

/* Each range is where it should be, by index and by each of its ends. */
static void require_list(const struct gm_view *view, const struct list *list)
{
    uint64_t hole_last;
    size_t i;

    assert_int_equal(view->range_count, list->count);
    view_audit(view);
    for (i = 0; i < list->count; i++) {
        const struct range *wanted = &list->items[i];
        const struct range *range = view_range(view, i);

        assert_true(range_equals(range, wanted));
        assert_ptr_equal(view_lookup(view, wanted->gpa, &hole_last), range);
        assert_ptr_equal(view_lookup(view, wanted->last, &hole_last), range);
        assert_int_equal(view_lower_bound(view, wanted->gpa), i);
        assert_int_equal(view_lower_bound(view, wanted->last), i);
        if (wanted->last != UINT64_MAX) {
            assert_int_equal(view_lower_bound(view, wanted->last + 1), i + 1);
        }
        require_holes(view, list, i);
    }
}

/* Small enough leaves would cost every lookup and every commit: neighbours fit in no single one. */
static void require_full_leaves(const struct gm_view *view)
{
    uint32_t i;

    for (i = 0; i + 1 < view->leaf_count; i++) {
        assert_true(view->leaves[i]->count + view->leaves[i + 1]->count > VIEW_LEAF_RANGES);
    }
}

static struct range random_range(struct bench *bench, struct rnd *rnd, uint64_t *at)
{
    struct range range = {.region = bench->regions[rnd_below(rnd, REGIONS)],
                          .offset = rnd_below(rnd, 1000) * 2 + 100000 * rnd_below(rnd, 1000)};

    range.gpa = *at + rnd_below(rnd, 3) * rnd_below(rnd, 50);
    range.last = range.gpa + rnd_below(rnd, 40);
    *at = range.last + 1;
    return range;
}

/* New ranges for the gap between two that are kept; their addresses were made room for. */
static size_t fill_gap(struct bench *bench, struct rnd *rnd, struct list *to, uint64_t start,
                       uint64_t end, size_t wanted)
{
    uint64_t at = start;
    size_t added = 0;

    while (added < wanted && to->count < RANGES_MAX) {
        struct range range = random_range(bench, rnd, &at);

        if (at > end || at < start ||
            (to->count > 0 && range_merges(&to->items[to->count - 1], &range))) {
            break;
        }
        to->items[to->count++] = range;
        added++;
    }
    return added;
}

/* One commit's worth: keep some ranges, drop some, add some, in one to three places. */
static struct gm_view *rebuild(struct bench *bench, struct rnd *rnd, struct gm_view *old,
                               struct list *list)
{
    static struct list next;
    struct view_builder builder;
    size_t kept = 0;
    unsigned windows = 1 + (unsigned)rnd_below(rnd, 3);

    next.count = 0;
    view_build_begin(&builder, bench->map, old);
    for (; windows > 0; windows--) {
        size_t first = kept + rnd_below(rnd, list->count - kept + 1);
        size_t end = first + rnd_below(rnd, list->count - first + 1) / (1 + rnd_below(rnd, 12));
        uint64_t from;
        size_t i;

        view_build_keep(&builder, kept, first);
        for (i = kept; i < first; i++) {
            next.items[next.count++] = list->items[i];
        }
        from = next.count > 0 ? next.items[next.count - 1].last + 1 : 0;
        i = next.count;
        fill_gap(bench, rnd, &next, from, end < list->count ? list->items[end].gpa : UINT64_MAX,
                 rnd_below(rnd, 40));
        for (; i < next.count; i++) {
            view_build_add(&builder, &next.items[i]);
        }
        kept = end;
    }
    if (next.count + (list->count - kept) > RANGES_MAX) {
        kept = list->count;
    }
    view_build_keep(&builder, kept, list->count);
    for (; kept < list->count; kept++) {
        next.items[next.count++] = list->items[kept];
    }
    *list = next;
    return view_build_end(&builder, bench->regions[0]);
}

static void view_rebuilt_at_random_equals_an_array(void **state)
{
    /* Hundreds of times: what was kept and added is there, wherever the borders of leaves lie. */
    struct bench *bench = *state;
    struct rnd rnd = {rnd_seed("view")};
    static struct list list;
    struct view_builder builder;
    struct gm_view *view;
    unsigned step;

    list.count = 0;
    view_build_begin(&builder, bench->map, NULL);
    view = view_build_end(&builder, NULL);
    for (step = 0; step < 400; step++) {
        struct gm_view *next = rebuild(bench, &rnd, view, &list);

        assert_non_null(next);
        view_put(view);
        view = next;
        require_list(view, &list);
        require_full_leaves(view);
        if (list.count > RANGES_MAX / 2) {
            list.count = 0;
            view_put(view);
            view_build_begin(&builder, bench->map, NULL);
            view = view_build_end(&builder, NULL);
        }
    }
    view_put(view);
}

static void view_without_ranges_is_one_hole(void **state)
{
    /* No leaves; any address is in a hole up to the end. */
    struct bench *bench = *state;
    struct view_builder builder;
    struct gm_view *view;
    uint64_t hole_last = 0;

    view_build_begin(&builder, bench->map, NULL);
    view = view_build_end(&builder, NULL);
    assert_non_null(view);
    assert_null(view_lookup(view, 0, &hole_last));
    assert_true(hole_last == UINT64_MAX);
    assert_null(view_lookup(view, UINT64_MAX, &hole_last));
    assert_int_equal(view_lower_bound(view, 5), 0);
    assert_int_equal(view->leaf_count, 0);
    view_put(view);
}

static void view_of_all_addresses_has_no_hole(void **state)
{
    /* The first and the last address of 2^64, and the border between two ranges in the middle. */
    struct bench *bench = *state;
    struct range low = {.gpa = 0, .last = UINT64_MAX / 2, .region = bench->regions[0]};
    struct range high = {
        .gpa = UINT64_MAX / 2 + 1, .last = UINT64_MAX, .region = bench->regions[1]};
    struct view_builder builder;
    struct gm_view *view;
    uint64_t hole_last;

    view_build_begin(&builder, bench->map, NULL);
    view_build_add(&builder, &low);
    view_build_add(&builder, &high);
    view = view_build_end(&builder, NULL);
    assert_ptr_equal(view_lookup(view, 0, &hole_last)->region, bench->regions[0]);
    assert_ptr_equal(view_lookup(view, UINT64_MAX / 2, &hole_last)->region, bench->regions[0]);
    assert_ptr_equal(view_lookup(view, UINT64_MAX / 2 + 1, &hole_last)->region, bench->regions[1]);
    assert_ptr_equal(view_lookup(view, UINT64_MAX, &hole_last)->region, bench->regions[1]);
    view_put(view);
}

static void leaves_that_are_kept_whole_are_shared(void **state)
{
    /* One range replaced among 160: all leaves but one or two are the old view's. */
    struct bench *bench = *state;
    struct view_builder builder;
    struct gm_view *old;
    struct gm_view *new;
    uint32_t shared = 0;
    uint32_t i;
    uint32_t j;
    struct range range = {.region = bench->regions[0]};

    view_build_begin(&builder, bench->map, NULL);
    for (i = 0; i < 160; i++) {
        range.gpa = 100 * i;
        range.last = range.gpa + 9;
        view_build_add(&builder, &range);
    }
    old = view_build_end(&builder, NULL);
    view_build_begin(&builder, bench->map, old);
    view_build_keep(&builder, 0, 80);
    range.gpa = 8001;
    range.last = 8004;
    view_build_add(&builder, &range);
    view_build_keep(&builder, 81, 160);
    new = view_build_end(&builder, NULL);
    assert_int_equal(new->range_count, 160);
    for (i = 0; i < new->leaf_count; i++) {
        for (j = 0; j < old->leaf_count; j++) {
            shared += new->leaves[i] == old->leaves[j];
        }
    }
    assert_true(shared + 2 >= new->leaf_count);
    view_put(old);
    view_put(new);
}

static void ranges_merge_where_all_but_the_place_is_equal(void **state)
{
    /* One difference at a time keeps two neighbours apart. */
    struct bench *bench = *state;
    struct range a = {.gpa = 0x100, .last = 0x1ff, .region = bench->regions[0], .offset = 0x40};
    const struct range b = {
        .gpa = 0x200, .last = 0x2ff, .region = bench->regions[0], .offset = 0x140};
    struct range c = b;

    assert_true(range_merges(&a, &c));
    c.region = bench->regions[1];
    assert_false(range_merges(&a, &c));
    c = b;
    c.offset++;
    assert_false(range_merges(&a, &c));
    c = b;
    c.flags = GM_SECTION_READONLY;
    assert_false(range_merges(&a, &c));
    c = b;
    c.log_mask = 1;
    assert_false(range_merges(&a, &c));
    c = b;
    c.gpa++;
    assert_false(range_merges(&a, &c));
    c = b;
    c.flags = GM_SECTION_UNMERGEABLE;
    a.flags = GM_SECTION_UNMERGEABLE;
    assert_false(range_merges(&a, &c));
    a = (struct range){.gpa = 0x100, .last = UINT64_MAX, .region = bench->regions[0]};
    c = (struct range){
        .gpa = 0, .last = 5, .region = bench->regions[0], .offset = UINT64_MAX - 0xff};
    assert_false(range_merges(&a, &c));
}

#define BENCH_TEST(test) cmocka_unit_test_setup_teardown(test, bench_begin, bench_end)

int main(void)
{
    const struct CMUnitTest tests[] = {
        BENCH_TEST(view_rebuilt_at_random_equals_an_array),
        BENCH_TEST(view_without_ranges_is_one_hole),
        BENCH_TEST(view_of_all_addresses_has_no_hole),
        BENCH_TEST(leaves_that_are_kept_whole_are_shared),
        BENCH_TEST(ranges_merge_where_all_but_the_place_is_equal),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
