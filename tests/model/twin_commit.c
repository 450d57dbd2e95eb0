/* model/twin_commit.c - committing on both sides, and comparing what came of it. */
#include "model/twin.h"

#include "model/recorder.h"
#include "model/require.h"
#include "model/watch.h"

#include <errno.h>
#include <string.h>

/* ---- what the model shows ---- */

const struct model_view *twin_view_of(const struct twin *twin, const struct picture *picture,
                                      int space)
{
    (void)twin;
    return &picture->views[picture->of_space[space]];
}

/* What went wrong with the views to come. */
struct verdict {
    bool loops;
    bool too_big;   /* for certain: ranges or depth */
    bool maybe_big; /* before neighbours merge */
    bool heavy;
};

static void judge(struct twin *twin, struct model_index *index, int root, struct model_view *view,
                  struct verdict *verdict)
{
    uint32_t max_ranges = twin->options.max_ranges;

    if (model_render(index, root, view) != 0) {
        verdict->loops = verdict->loops || index->loops;
        verdict->too_big = verdict->too_big || index->too_deep;
        verdict->maybe_big =
            verdict->maybe_big || max_ranges != 0; /* which of the two comes first? */
        verdict->heavy = index->steps > index->steps_max;
    } else if (max_ranges != 0) {
        verdict->too_big = verdict->too_big || view->count > max_ranges;
        verdict->maybe_big = verdict->maybe_big || view->painted_count > max_ranges;
    }
}

static void paint(struct twin *twin, struct model *model, struct picture *picture,
                  struct verdict *verdict)
{
    struct model_index index;
    int space;
    int at;

    *verdict = (struct verdict){0};
    model_index_init(&index, model, twin->options.steps_max);
    picture->count = 0;
    for (space = 0; space < MODEL_SPACES_MAX && !verdict->heavy; space++) {
        int root = MODEL_NONE;

        picture->of_space[space] = MODEL_NONE;
        if (!model->spaces[space].exists) {
            continue;
        }
        if (model_resolve(&index, model->spaces[space].root, &root) != 0) {
            verdict->loops = true;
            continue;
        }
        for (at = 0; at < picture->count && picture->roots[at] != root; at++) {
        }
        picture->of_space[space] = at;
        if (at == picture->count) {
            picture->roots[at] = root;
            picture->count++;
            judge(twin, &index, root, &picture->views[at], verdict);
        }
    }
    twin->deep_count += index.alias_depth >= 5;
    model_index_fini(&index);
}

/* ---- comparing ---- */

static void compare_section(const struct twin *twin, const struct model_range *range,
                            const struct gm_section *section, const char *where)
{
    const struct model_region *region = &twin->model.regions[range->region];
    const uint8_t *block = region->ram != MODEL_NONE ? gm_ram_hva(twin->rams[region->ram]) : NULL;

    REQUIRE(section->gpa == range->start && section->last == range->last &&
                section->region == twin->regions[range->region] &&
                section->offset == range->offset && section->flags == range->flags &&
                section->log_mask == range->log_mask,
            "%s: [%llx, %llx] %s+%llx flags %x log %x, not [%llx, %llx] r%d+%llx flags %x log %x",
            where, (unsigned long long)section->gpa, (unsigned long long)section->last,
            gm_region_name(section->region), (unsigned long long)section->offset, section->flags,
            section->log_mask, (unsigned long long)range->start, (unsigned long long)range->last,
            range->region, (unsigned long long)range->offset, range->flags, range->log_mask);
    REQUIRE(section->hva ==
                (block != NULL ? (void *)(block + region->ram_offset + range->offset) : NULL),
            "%s: host address at %llx", where, (unsigned long long)section->gpa);
}

static void compare_lookup(struct twin *twin, const struct gm_view *view,
                           const struct model_view *expected)
{
    struct gm_section section;
    const struct model_range *range;
    size_t at;

    if (expected->count == 0) {
        REQUIRE(!gm_view_find(view, rnd_next(&twin->rnd), &section), "an empty view");
        return;
    }
    at = (size_t)rnd_below(&twin->rnd, expected->count);
    range = &expected->ranges[at];
    REQUIRE(gm_view_find(view, range->start, &section), "first byte");
    compare_section(twin, range, &section, "first byte");
    REQUIRE(gm_view_find(view, range->last, &section), "last byte");
    compare_section(twin, range, &section, "last byte");
    if (range->last != UINT64_MAX &&
        (at + 1 == expected->count || expected->ranges[at + 1].start != range->last + 1)) {
        REQUIRE(!gm_view_find(view, range->last + 1, &section), "behind the range");
    }
    if (range->start != 0 && (at == 0 || expected->ranges[at - 1].last != range->start - 1)) {
        REQUIRE(!gm_view_find(view, range->start - 1, &section), "before the range");
    }
}

static void compare_view(struct twin *twin, int space, const struct gm_view *view)
{
    const struct model_view *expected = twin_view_of(twin, &twin->picture, space);
    int root = twin->picture.roots[twin->picture.of_space[space]];
    struct gm_section section;
    size_t i;

    REQUIRE(gm_view_root(view) == (root != MODEL_NONE ? twin->regions[root] : NULL),
            "space %d is shown from another root than r%d", space, root);
    for (i = 0; i < expected->count; i++) {
        char where[64];

        snprintf(where, sizeof(where), "space %d range %zu", space, i);
        REQUIRE(gm_view_at(view, i, &section), "%s is missing", where);
        compare_section(twin, &expected->ranges[i], &section, where);
    }
    REQUIRE(gm_view_count(view) == expected->count, "space %d: %zu ranges, not %zu", space,
            gm_view_count(view), expected->count);
    compare_lookup(twin, view, expected);
    twin->view_count++;
    twin->range_count += expected->count;
    twin->range_max = twin->range_max > expected->count ? twin->range_max : expected->count;
}

static void compare_state(const struct twin *twin, int index)
{
    const struct model_region *region = &twin->model.regions[index];
    struct gm_region_state state;
    uint32_t log_mask = region->ram != MODEL_NONE ? region->log_mask | twin->model.log_all_mask : 0;

    gm_region_state(twin->regions[index], &state);
    REQUIRE(state.size == region->size && state.addr == region->addr &&
                state.priority == region->priority && state.enabled == region->enabled &&
                state.readonly == region->readonly && state.nonvolatile == region->nonvolatile &&
                state.romd == region->romd && state.log_mask == log_mask &&
                state.parent ==
                    (region->parent != MODEL_NONE ? twin->regions[region->parent] : NULL),
            "the state of region %d: %llx+%llx priority %d enabled %d readonly %d nonvolatile %d "
            "romd %d log %x",
            index, (unsigned long long)state.addr, (unsigned long long)state.size, state.priority,
            state.enabled, state.readonly, state.nonvolatile, state.romd, state.log_mask);
}

/* Equal roots share a view, and only they; what did not change keeps its view. */
static void compare_spaces(struct twin *twin)
{
    struct gm_view *views[MODEL_SPACES_MAX] = {NULL};
    const int *of_space = twin->picture.of_space;
    int a;
    int b;

    for (a = 0; a < MODEL_SPACES_MAX; a++) {
        if (twin->spaces[a] == NULL) {
            continue;
        }
        views[a] = gm_view_get(twin->spaces[a]);
        for (b = 0; b < a && (views[b] == NULL || of_space[b] != of_space[a]); b++) {
            REQUIRE(views[b] != views[a], "spaces %d and %d share a view", a, b);
        }
        if (b < a) {
            REQUIRE(views[b] == views[a], "spaces %d and %d do not share a view", a, b);
        } else {
            compare_view(twin, a, views[a]);
        }
    }
    for (a = 0; a < MODEL_SPACES_MAX; a++) {
        gm_view_put(twin->held[a]);
        twin->held[a] = views[a];
    }
}

void twin_compare(struct twin *twin)
{
    struct verdict verdict;

    paint(twin, &twin->model, &twin->picture, &verdict);
    REQUIRE(!verdict.loops && !verdict.too_big && !verdict.heavy, "the model itself fails");
    compare_spaces(twin);
}

/* ---- committing ---- */

static void require_unchanged(struct twin *twin)
{
    int space;

    for (space = 0; space < MODEL_SPACES_MAX; space++) {
        if (twin->spaces[space] != NULL) {
            struct gm_view *view = gm_view_get(twin->spaces[space]);

            REQUIRE(view == twin->held[space], "space %d has another view", space);
            gm_view_put(view);
        }
    }
}

/* A view that a commit did not change is the same one. */
static void require_kept(struct twin *twin, const struct model_edit *edits, size_t count)
{
    struct picture *old = &twin->next_picture; /* they have been swapped */
    int space;
    size_t i;

    for (i = 0; i < count; i++) {
        if (edits[i].kind == MODEL_EVENTFD_ADD || edits[i].kind == MODEL_EVENTFD_DEL ||
            edits[i].kind == MODEL_COALESCED_ADD || edits[i].kind == MODEL_COALESCED_DEL) {
            return; /* part of a view, but not of the model's */
        }
    }
    for (space = 0; space < MODEL_SPACES_MAX; space++) {
        if (twin->spaces[space] != NULL &&
            old->roots[old->of_space[space]] ==
                twin->picture.roots[twin->picture.of_space[space]] &&
            model_views_equal(twin_view_of(twin, old, space),
                              twin_view_of(twin, &twin->picture, space))) {
            struct gm_view *view = gm_view_get(twin->spaces[space]);

            REQUIRE(view == twin->held[space], "space %d: an equal view was made anew", space);
            gm_view_put(view);
        }
    }
}

static void check_watches(struct twin *twin, bool succeeded)
{
    size_t i;

    watch_check_order(twin, succeeded);
    for (i = 0; i < twin->watch_count; i++) {
        watch_check(twin->watches[i], succeeded);
    }
    for (i = 0; i < twin->recorder_count; i++) {
        recorder_check(twin->recorders[i], succeeded);
    }
}

static void accept(struct twin *twin, const struct model_edit *edits, size_t count)
{
    struct picture picture = twin->picture;
    size_t i;

    twin->picture = twin->next_picture;
    twin->next_picture = picture;
    model_copy(&twin->model, &twin->next);
    require_kept(twin, edits, count);
    compare_spaces(twin);
    check_watches(twin, true);
    for (i = 0; i < count; i++) {
        if (edits[i].region != MODEL_NONE) {
            compare_state(twin, edits[i].region);
        }
    }
}

static void reject(struct twin *twin, const struct model_edit *edits, size_t count)
{
    size_t i;

    model_copy(&twin->next, &twin->model);
    twin->failed_count++;
    require_unchanged(twin);
    check_watches(twin, false);
    for (i = 0; i < count; i++) {
        if (edits[i].region != MODEL_NONE) {
            compare_state(twin, edits[i].region);
        }
    }
}

bool twin_would_commit(struct twin *twin, const struct model_edit *edits, size_t count)
{
    struct verdict verdict = {0};
    bool fails = false;
    size_t i;

    model_copy(&twin->next, &twin->model);
    for (i = 0; i < count && !fails; i++) {
        fails = model_apply(&twin->next, &edits[i]) != 0;
    }
    if (!fails) {
        paint(twin, &twin->next, &twin->next_picture, &verdict);
    }
    model_copy(&twin->next, &twin->model);
    return !fails && !verdict.loops && !verdict.too_big && !verdict.maybe_big && !verdict.heavy;
}

int twin_commit(struct twin *twin, struct gm_txn *txn, const struct model_edit *edits, size_t count,
                int may_fail)
{
    struct verdict verdict = {0};
    struct gm_diag diag = {0};
    int expected = 0;
    int result;
    size_t i;

    twin->eventfds_added = 0;
    twin->coalesced_added = 0;
    model_copy(&twin->next, &twin->model);
    for (i = 0; i < count && expected == 0; i++) {
        expected = model_apply(&twin->next, &edits[i]);
    }
    if (expected == 0) {
        paint(twin, &twin->next, &twin->next_picture, &verdict);
    }
    if (verdict.heavy) {
        gm_txn_abort(txn);
        model_copy(&twin->next, &twin->model);
        twin->heavy_count++;
        return 1;
    }
    watch_reset_order(twin);
    result = gm_txn_commit(txn, &diag);
    twin->commit_count++;
    twin->edit_count += count;
    if (expected != 0) {
        REQUIRE(result == expected, "commit returned %d, not %d (%s)", result, expected, diag.text);
    } else if (verdict.loops || verdict.too_big) {
        REQUIRE((result == -ELOOP && verdict.loops) ||
                    (result == -E2BIG && (verdict.too_big || verdict.maybe_big)),
                "commit returned %d; loops %d, too big %d", result, verdict.loops, verdict.too_big);
    } else {
        REQUIRE(result == 0 || (result == -E2BIG && verdict.maybe_big) ||
                    (may_fail != 0 && result == may_fail),
                "commit returned %d (%s)", result, diag.text);
    }
    REQUIRE(result == 0 ? diag.code == 0 : diag.code == result, "diag %d for %d", diag.code,
            result);
    if (result == 0) {
        accept(twin, edits, count);
    } else {
        reject(twin, edits, count);
    }
    return result;
}

void twin_grow(struct twin *twin)
{
    int region = TWIN_ROOTS;

    while (region < twin->options.region_count) {
        struct model_edit edits[4];
        struct gm_txn *txn;
        size_t count = 0;

        REQUIRE(gm_txn_begin(twin->map, &txn) == 0, "beginning");
        for (; region < twin->options.region_count && count < 4; region++) {
            int parent = (int)rnd_below(&twin->rnd,
                                        rnd_one_in(&twin->rnd, 2) ? TWIN_ROOTS : (unsigned)region);

            if (twin->model.regions[region].addr >= twin->model.regions[parent].size) {
                parent = (int)rnd_below(&twin->rnd, TWIN_ROOTS);
            }
            if (twin->model.regions[parent].kind != GM_REGION_ALIAS) {
                edits[count] =
                    (struct model_edit){.kind = MODEL_ADD, .region = region, .parent = parent};
                twin_record(twin, txn, &edits[count]);
                count++;
            }
        }
        twin_commit(twin, txn, edits, count, 0);
    }
}

/* ---- regions and spaces that come and go ---- */

static bool is_needed(const struct twin *twin, int index)
{
    int i;

    if (twin->model.regions[index].parent != MODEL_NONE) {
        return true;
    }
    for (i = 0; i < MODEL_SPACES_MAX; i++) {
        if (twin->model.spaces[i].exists && twin->model.spaces[i].root == index) {
            return true;
        }
    }
    for (i = 0; i < twin->options.region_count; i++) {
        if (twin->model.regions[i].exists && twin->model.regions[i].target == index) {
            return true;
        }
    }
    return false;
}

void twin_replace_region(struct twin *twin)
{
    uint64_t released = __atomic_load_n(&twin->released_count, __ATOMIC_RELAXED);
    int index = twin_random_region(twin);
    int i;

    if (index < TWIN_ROOTS || is_needed(twin, index)) {
        return;
    }
    gm_region_put(twin->regions[index]);
    twin->regions[index] = NULL;
    gm_map_quiesce(twin->map); /* older views may have shown it */
    REQUIRE(__atomic_load_n(&twin->released_count, __ATOMIC_RELAXED) == released + 1,
            "region %d was not released", index);
    for (i = 0; i < twin->options.region_count; i++) {
        if (twin->model.regions[i].parent == index) {
            twin->model.regions[i].parent = MODEL_NONE;
        }
    }
    model_copy(&twin->next, &twin->model);
    twin->next.regions[index].exists = false; /* no alias of itself */
    twin_make_region(twin, index);
    compare_state(twin, index);
}

static void end_space(struct twin *twin, int space)
{
    struct gm_diag diag;
    int result = gm_space_free(twin->spaces[space], &diag);

    REQUIRE(result == 0, "freeing a space: %d", result);
    twin->spaces[space] = NULL;
    twin->model.spaces[space].exists = false;
}

static void begin_space(struct twin *twin, int space)
{
    struct verdict verdict;
    int root = rnd_one_in(&twin->rnd, 8) ? MODEL_NONE : twin_random_region(twin);
    struct gm_region *region = root != MODEL_NONE ? twin->regions[root] : NULL;
    int result;

    twin->next.spaces[space] = (struct model_space){true, root};
    paint(twin, &twin->next, &twin->next_picture, &verdict);
    if (verdict.heavy) {
        return;
    }
    result = gm_space_new(twin->map, "another", region, &twin->spaces[space], NULL);
    REQUIRE(result == 0
                ? !verdict.loops && !verdict.too_big
                : (verdict.loops && result == -ELOOP) || (verdict.maybe_big && result == -E2BIG) ||
                      (verdict.too_big && result == -E2BIG),
            "making a space: %d", result);
    if (result == 0) {
        twin->model.spaces[space] = twin->next.spaces[space];
    } else {
        twin->spaces[space] = NULL;
    }
}

void twin_change_spaces(struct twin *twin)
{
    /* The first ones stay: listeners and slots hang from them. */
    int space = (int)twin->options.space_count +
                (int)rnd_below(&twin->rnd, MODEL_SPACES_MAX - twin->options.space_count);

    watch_reset_order(twin);
    if (twin->spaces[space] != NULL) {
        end_space(twin, space);
    } else {
        begin_space(twin, space);
    }
    model_copy(&twin->next, &twin->model);
    twin_compare(twin);
    check_watches(twin, true);
}
