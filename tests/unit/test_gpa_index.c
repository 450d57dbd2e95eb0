/* unit/test_gpa_index.c - the index of a view against the view's own search, in layouts of every kind. */
#include "model/faults.h"
#include "model/random.h"
#include "region/region.h"
#include "view/view.h"

#include "unit/picture.h"

#define RANGES_MAX 700u

struct bench {
    struct faults faults;
    struct gm_map *map;
    struct gm_region *region;
};

static int bench_begin(void **state)
{
    static struct bench bench;
    struct gm_map_options options = {.size = sizeof(options)};
    struct gm_allocator allocator;

    bench = (struct bench){0};
    allocator = faults_allocator(&bench.faults);
    options.allocator = &allocator;
    assert_int_equal(gm_map_new(&options, &bench.map, NULL), 0);
    bench.region = picture_region(
        bench.map, (struct gm_region_options){
                       .kind = GM_REGION_MMIO, .name = "r", .size_bytes = GM_SIZE_2_64});
    *state = &bench;
    return 0;
}

static int bench_end(void **state)
{
    struct bench *bench = *state;

    gm_region_put(bench->region);
    gm_map_free(bench->map);
    return 0;
}

/* ---- layouts: the gap before range @i, and its size ---- */

enum layout {
    LAYOUT_EVEN,     /* RAM of equal sizes at equal distances */
    LAYOUT_PACKED,   /* one behind the other, any size */
    LAYOUT_SCATTER,  /* gaps and sizes of any magnitude; from here on an index may be too flat */
    LAYOUT_CLUSTERS, /* a dozen small ones, then a hole of gigabytes: a PC */
    LAYOUT_STEEP,    /* each twice as far as the one before: the deepest */
    LAYOUT_COUNT,
};

static uint64_t any_magnitude(struct rnd *rnd, unsigned bits)
{
    return 1 + (rnd_next(rnd) >> (63 - rnd_below(rnd, bits)));
}

static void place(enum layout layout, struct rnd *rnd, size_t i, uint64_t *gap, uint64_t *size)
{
    switch (layout) {
    case LAYOUT_EVEN:
        *gap = i == 0 ? 0 : 1 << 20;
        *size = 1 << 20;
        break;
    case LAYOUT_PACKED:
        *gap = 0;
        *size = any_magnitude(rnd, 20);
        break;
    case LAYOUT_SCATTER:
        *gap = any_magnitude(rnd, 40);
        *size = any_magnitude(rnd, 40);
        break;
    case LAYOUT_CLUSTERS:
        *gap = rnd_below(rnd, 12) == 0 ? any_magnitude(rnd, 45) : rnd_below(rnd, 2) * 4096;
        *size = 4096 * any_magnitude(rnd, 4);
        break;
    default:
        *gap = i < 62 ? (uint64_t)1 << i : 1;
        *size = 1;
        break;
    }
}

/* Up to @count ranges, as many as fit. The regions' offsets keep neighbours apart. */
static struct gm_view *make_view(struct bench *bench, enum layout layout, struct rnd *rnd,
                                 size_t count)
{
    struct view_builder builder;
    struct gm_view *view;
    uint64_t at = 0;
    size_t i;

    view_build_begin(&builder, bench->map, NULL);
    for (i = 0; i < count; i++) {
        struct range range = {.region = bench->region, .offset = i << 50};
        uint64_t size;
        uint64_t gap;

        place(layout, rnd, i, &gap, &size);
        if (gap > UINT64_MAX - at || size > UINT64_MAX - (at + gap)) {
            break;
        }
        range.gpa = at + gap;
        range.last = range.gpa + size - 1;
        at = range.last + 1;
        view_build_add(&builder, &range);
    }
    view = view_build_end(&builder, NULL);
    assert_non_null(view);
    return view;
}

/* An index takes over once. */
static void warm(struct gm_view *view)
{
    view_get(view);
    view_warm(view);
    assert_false(view_is_cold(view));
}

/* Return: 1 if the index did not know a range that is there. */
static unsigned require_at(const struct gm_view *view, uint64_t gpa)
{
    uint64_t hole_last = 0;
    const struct range *wanted = view_search(view, gpa, &hole_last);
    const struct range *found = view_find(view, gpa);

    if (found == NULL) {
        return wanted != NULL;
    }
    assert_non_null(wanted);
    assert_memory_equal(found, wanted, sizeof(*found));
    return 0;
}

/* Return: how often the index did not know. */
static unsigned require_everywhere(const struct gm_view *view, struct rnd *rnd)
{
    unsigned unknown = 0;
    size_t i;

    for (i = 0; i < view->range_count; i++) {
        const struct range *range = view_range(view, i);

        unknown += require_at(view, range->gpa);
        unknown += require_at(view, range->last);
        unknown += require_at(view, range->gpa - 1); /* wraps at 0 */
        unknown += require_at(view, range->last + 1);
        unknown +=
            require_at(view, range->gpa + (range->last - range->gpa) / (1 + rnd_below(rnd, 9)));
        unknown += require_at(view, rnd_next(rnd) >> rnd_below(rnd, 64));
    }
    return unknown;
}

static void index_finds_what_the_search_finds(void **state)
{
    struct bench *bench = *state;
    struct rnd rnd = {rnd_seed(__func__)};
    unsigned layout;
    unsigned round;

    for (layout = 0; layout < LAYOUT_COUNT; layout++) {
        for (round = 0; round < 60; round++) {
            size_t count = 1 + rnd_below(&rnd, round % 2 == 0 ? 20 : RANGES_MAX);
            struct gm_view *view = make_view(bench, layout, &rnd, count);
            unsigned unknown;

            warm(view);
            unknown = require_everywhere(view, &rnd);
            /* Only what lies deeper than the limit may be left to the search. */
            assert_true(unknown == 0 || layout >= LAYOUT_SCATTER);
            view_put(view);
        }
    }
}

static void index_of_all_addresses(void **state)
{
    struct bench *bench = *state;
    struct rnd rnd = {rnd_seed(__func__)};
    struct range all = {.region = bench->region, .gpa = 0, .last = UINT64_MAX};
    struct range halves[] = {
        {.region = bench->region, .gpa = 0, .last = UINT64_MAX / 2},
        {.region = bench->region, .gpa = UINT64_MAX / 2 + 1, .last = UINT64_MAX},
    };
    struct view_builder builder;
    struct gm_view *view;

    view_build_begin(&builder, bench->map, NULL);
    view_build_add(&builder, &all);
    view = view_build_end(&builder, NULL);
    warm(view);
    assert_int_equal(require_everywhere(view, &rnd), 0);
    view_put(view);

    view_build_begin(&builder, bench->map, NULL);
    view_build_add(&builder, &halves[0]);
    view_build_add(&builder, &halves[1]);
    view = view_build_end(&builder, NULL);
    warm(view);
    assert_int_equal(require_everywhere(view, &rnd), 0);
    view_put(view);
}

/* Evenly laid out RAM takes one step, and no more memory than a bucket or two a range. */
static void even_layout_is_one_stretch(void **state)
{
    struct bench *bench = *state;
    struct rnd rnd = {rnd_seed(__func__)};
    struct gm_view *view = make_view(bench, LAYOUT_EVEN, &rnd, 500);
    const struct gpa_index *index;
    uint32_t i;

    warm(view);
    index = atomic_load(&view->gpa_index);
    assert_in_range(index->root.bucket_count, 500, 1011);
    for (i = 0; i < index->root.bucket_count; i++) {
        assert_int_not_equal(index->root.buckets[i].low, GPA_BUCKET_DEEPER);
    }
    view_put(view);
}

static void view_becomes_warm_by_lookups(void **state)
{
    struct bench *bench = *state;
    struct rnd rnd = {rnd_seed(__func__)};
    struct gm_view *view = make_view(bench, LAYOUT_EVEN, &rnd, 8);
    struct gm_section section;
    unsigned i;

    for (i = 0; i < 1000 && view_is_cold(view); i++) {
        assert_true(gm_view_find(view, 0, &section));
        assert_false(gm_view_find(view, 1 << 20, &section));
    }
    assert_in_range(i, 10, 100);
    assert_true(gm_view_find(view, 0, &section));
    assert_int_equal(section.last, (1 << 20) - 1);
    view_put(view);
}

static void view_without_memory_for_an_index_stays_cold(void **state)
{
    struct bench *bench = *state;
    struct rnd rnd = {rnd_seed(__func__)};
    struct gm_view *view = make_view(bench, LAYOUT_CLUSTERS, &rnd, 300);
    unsigned fail_at;

    for (fail_at = 1; view_is_cold(view); fail_at++) {
        assert_true(fail_at < 100);
        faults_arm(&bench->faults, fail_at);
        view_get(view);
        view_warm(view);
        assert_int_equal(faults_disarm(&bench->faults), view_is_cold(view));
        assert_int_equal(require_everywhere(view, &rnd) != 0, view_is_cold(view));
    }
    assert_true(fail_at > 3);
    view_put(view);
}

#define BENCH_TEST(test) cmocka_unit_test_setup_teardown(test, bench_begin, bench_end)

int main(void)
{
    const struct CMUnitTest tests[] = {
        BENCH_TEST(index_finds_what_the_search_finds),
        BENCH_TEST(index_of_all_addresses),
        BENCH_TEST(even_layout_is_one_stretch),
        BENCH_TEST(view_becomes_warm_by_lookups),
        BENCH_TEST(view_without_memory_for_an_index_stays_cold),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
