/* model/twin.c - making maps beside models, and comparing the two. */
#include "model/twin.h"

#include <errno.h>
#include <string.h>

#include "model/recorder.h"
#include "model/require.h"
#include "model/watch.h"

char require_place[160] = "start";

/* ---- random numbers of the kinds that trees are made of ---- */

gm_size_t twin_random_size(struct twin *twin, enum gm_region_kind kind)
{
    struct rnd *rnd = &twin->rnd;
    unsigned most = twin->options.address_bits;
    gm_size_t all = (gm_size_t)1 << most;
    bool is_wide = kind == GM_REGION_CONTAINER || kind == GM_REGION_ALIAS;
    /* What has content covers a small part, or it would hide everything. */
    unsigned bits = most - (is_wide ? 0 : 3) - (unsigned)rnd_below(rnd, most > 16 ? 10 : most / 2);
    gm_size_t size = rnd_next(rnd) & (((gm_size_t)1 << bits) - 1);

    if (rnd_one_in(rnd, is_wide ? 3 : 50)) {
        return all;
    }
    switch (rnd_below(rnd, 8)) {
    case 0:
        return (gm_size_t)1 << bits;
    case 1:
        return 1 + rnd_below(rnd, 16);
    case 2:
    case 3:
        return most > 16 ? (size + 4095) / 4096 * 4096 : size;
    case 4:
        return rnd_one_in(rnd, 4) ? 0 : size;
    default:
        return size;
    }
}

uint64_t twin_random_addr(struct twin *twin)
{
    struct rnd *rnd = &twin->rnd;
    unsigned bits = twin->options.address_bits;
    uint64_t mask = bits == 64 ? UINT64_MAX : ((uint64_t)1 << bits) - 1;
    const struct model_region *other =
        &twin->model.regions[rnd_below(rnd, (uint64_t)twin->options.region_count)];

    switch (rnd_below(rnd, 10)) {
    case 0:
    case 1: /* right behind another */
        return other->addr + (uint64_t)other->size;
    case 2:
    case 3:
        return rnd_next(rnd) & mask & (bits > 16 ? ~(uint64_t)4095 : mask);
    case 4:
    case 5:
        return rnd_below(rnd, 16) * (mask / 16 + 1);
    case 6:
        return rnd_one_in(rnd, 3) ? 0 : other->addr;
    default:
        return rnd_next(rnd) & mask;
    }
}

static int random_region(struct twin *twin)
{
    int index;

    do {
        index = (int)rnd_below(&twin->rnd, (uint64_t)twin->options.region_count);
    } while (!twin->next.regions[index].exists);
    return index;
}

/* ---- regions ---- */

static void on_release(void *opaque)
{
    struct twin *twin = opaque;

    __atomic_add_fetch(&twin->released_count, 1, __ATOMIC_RELAXED);
}

static enum gm_access io_read(void *opaque, uint64_t offset, unsigned size_bytes, uint64_t *value,
                              struct gm_attrs attrs)
{
    (void)opaque;
    (void)offset;
    (void)size_bytes;
    (void)attrs;
    *value = 0;
    return GM_ACCESS_OK;
}

static enum gm_access io_write(void *opaque, uint64_t offset, unsigned size_bytes, uint64_t value,
                               struct gm_attrs attrs)
{
    (void)opaque;
    (void)offset;
    (void)size_bytes;
    (void)value;
    (void)attrs;
    return GM_ACCESS_OK;
}

static void iommu_translate(void *opaque, uint64_t offset, bool is_write, struct gm_attrs attrs,
                            struct gm_iommu_entry *entry)
{
    (void)opaque;
    (void)offset;
    (void)is_write;
    (void)attrs;
    entry->space = NULL;
}

static const struct gm_io_ops io_ops = {
    .size = sizeof(io_ops),
    .read = io_read,
    .write = io_write,
};

static const struct gm_iommu_ops iommu_ops = {
    .size = sizeof(iommu_ops),
    .translate = iommu_translate,
};

static enum gm_region_kind random_kind(struct twin *twin, int index)
{
    static const enum gm_region_kind kinds[] = {
        GM_REGION_CONTAINER,  GM_REGION_CONTAINER,  GM_REGION_CONTAINER,   GM_REGION_CONTAINER,
        GM_REGION_RAM,        GM_REGION_RAM,        GM_REGION_RAM,         GM_REGION_ROM,
        GM_REGION_ROM_DEVICE, GM_REGION_RAM_DEVICE, GM_REGION_MMIO,        GM_REGION_MMIO,
        GM_REGION_IOMMU,      GM_REGION_ALIAS,      GM_REGION_RESERVATION, GM_REGION_ALIAS,
        GM_REGION_ALIAS,      GM_REGION_ALIAS,
    };

    if (index < TWIN_ROOTS) {
        return GM_REGION_CONTAINER;
    }
    return kinds[rnd_below(&twin->rnd, sizeof(kinds) / sizeof(kinds[0]))];
}

/* A piece of a random block. */
static void choose_ram(struct twin *twin, struct model_region *made)
{
    struct rnd *rnd = &twin->rnd;

    if (twin->options.address_bits > 16 && !rnd_one_in(rnd, 3)) { /* something for slots */
        made->addr &= ~(uint64_t)4095;
        made->size = (made->size + 4095) / 4096 * 4096;
    }
    made->ram = (int)rnd_below(rnd, TWIN_RAMS);
    made->ram_size = gm_ram_size(twin->rams[made->ram]);
    if (rnd_one_in(rnd, 2)) {
        made->ram_offset = rnd_below(rnd, made->ram_size / 4096) * 4096;
    } else if (rnd_one_in(rnd, 4)) {
        made->ram_offset = rnd_below(rnd, made->ram_size);
    }
    if (made->size > (gm_size_t)made->ram_size - made->ram_offset) {
        made->size = made->ram_size - made->ram_offset;
    }
}

static void describe_region(struct twin *twin, int index, struct model_region *made)
{
    struct rnd *rnd = &twin->rnd;

    *made = (struct model_region){
        .exists = true,
        .kind = random_kind(twin, index),
        .addr = index < TWIN_ROOTS && !rnd_one_in(rnd, 8) ? 0 : twin_random_addr(twin),
        .priority = (int32_t)rnd_below(rnd, 5) - 2,
        .enabled = index < TWIN_ROOTS || !rnd_one_in(rnd, 10),
        .readonly = rnd_one_in(rnd, 12),
        .nonvolatile = rnd_one_in(rnd, 12),
        .unmergeable = rnd_one_in(rnd, 10),
        .romd = true,
        .ram = MODEL_NONE,
        .target = MODEL_NONE,
        .parent = MODEL_NONE,
    };
    made->size = twin_random_size(twin, made->kind);
    switch (made->kind) {
    case GM_REGION_ROM:
        made->readonly = true;
        choose_ram(twin, made);
        break;
    case GM_REGION_ROM_DEVICE:
        made->romd = !rnd_one_in(rnd, 3);
        choose_ram(twin, made);
        break;
    case GM_REGION_RAM:
    case GM_REGION_RAM_DEVICE:
        choose_ram(twin, made);
        break;
    case GM_REGION_ALIAS:
        made->target = random_region(twin);
        made->target_offset = rnd_one_in(rnd, 3) ? 0 : twin_random_addr(twin);
        if (twin->next.regions[made->target].size > 0 && !rnd_one_in(rnd, 5)) {
            made->target_offset %= twin->next.regions[made->target].size;
        }
        if (rnd_one_in(rnd, 4)) {
            made->size = twin->next.regions[made->target].size;
        }
        break;
    case GM_REGION_CONTAINER:
        if (index < TWIN_ROOTS) {
            made->size = (gm_size_t)1 << twin->options.address_bits;
        }
        break;
    default:
        break;
    }
}

static void make_region(struct twin *twin, int index)
{
    struct model_region made;
    struct gm_region_options options = {.size_of_options = sizeof(options)};
    char name[24];
    int result;

    describe_region(twin, index, &made);
    snprintf(name, sizeof(name), "r%d", index);
    options.kind = made.kind;
    options.name = name;
    options.size = made.size;
    options.addr = made.addr;
    options.priority = made.priority;
    options.disabled = !made.enabled;
    options.readonly = made.readonly;
    options.nonvolatile = made.nonvolatile;
    options.unmergeable = made.unmergeable;
    options.no_romd = !made.romd;
    options.opaque = twin;
    options.release = on_release;
    if (made.ram != MODEL_NONE) {
        options.ram = twin->rams[made.ram];
        options.ram_offset = made.ram_offset;
    }
    if (made.target != MODEL_NONE) {
        options.target = twin->regions[made.target];
        options.target_offset = made.target_offset;
    }
    if (made.kind == GM_REGION_MMIO || made.kind == GM_REGION_ROM_DEVICE) {
        options.io = &io_ops;
    }
    if (made.kind == GM_REGION_IOMMU) {
        options.iommu = &iommu_ops;
    }
    result = gm_region_new(twin->map, &options, &twin->regions[index], NULL);
    REQUIRE(result == 0, "making region %d: %d", index, result);
    twin->made_count++;
    twin->model.regions[index] = made;
    twin->next.regions[index] = made;
}

static void make_rams(struct twin *twin)
{
    const struct gm_allocator *allocator = twin->options.allocator;
    unsigned i;

    for (i = 0; i < TWIN_RAMS; i++) {
        unsigned bits = twin->options.address_bits;
        unsigned most = twin->options.huge_blocks ? 63 : 31;
        uint64_t size = (uint64_t)1 << (bits > most ? most : bits < 14 ? 14 : bits);
        int result = i < 2 ? gm_ram_new_anon(65536, allocator, &twin->rams[i], NULL)
                           : gm_ram_new_unbacked(size >> (i - 2), allocator, &twin->rams[i],
                                                     NULL);

        REQUIRE(result == 0, "a block: %d", result);
    }
}

void twin_init(struct twin *twin, uint64_t seed, const struct twin_options *options)
{
    struct gm_map_options map_options = {.size = sizeof(map_options),
                                         .allocator = options->allocator,
                                         .max_view_ranges = options->max_ranges};
    unsigned i;
    int index;
    int result;

    *twin = (struct twin){.rnd = {seed}, .options = *options};
    model_init(&twin->model, options->region_count);
    model_init(&twin->next, options->region_count);
    twin->regions = calloc((size_t)options->region_count, sizeof(struct gm_region *));
    result = gm_map_new(&map_options, &twin->map, NULL);
    REQUIRE(result == 0, "a map: %d", result);
    make_rams(twin);
    for (index = 0; index < options->region_count; index++) {
        make_region(twin, index);
    }
    for (i = 0; i < options->space_count; i++) {
        int root = i < TWIN_ROOTS ? (int)i : random_region(twin);

        result = gm_space_new(twin->map, "space", twin->regions[root], &twin->spaces[i], NULL);
        REQUIRE(result == 0, "a space: %d", result);
        twin->model.spaces[i] = (struct model_space){true, root};
        twin->next.spaces[i] = twin->model.spaces[i];
    }
    twin_compare(twin);
}

void twin_fini(struct twin *twin)
{
    unsigned i;
    int index;

    for (i = 0; i < MODEL_SPACES_MAX; i++) {
        gm_view_put(twin->held[i]);
        model_view_fini(&twin->picture.views[i]);
        model_view_fini(&twin->next_picture.views[i]);
    }
    for (index = 0; index < twin->options.region_count; index++) {
        gm_region_put(twin->regions[index]);
    }
    gm_map_quiesce(twin->map);
    gm_map_free(twin->map);
    for (i = 0; i < 2000 && __atomic_load_n(&twin->released_count, __ATOMIC_RELAXED) <
                                twin->made_count;
         i++) {
        struct gm_map *other; /* any map drains liburcu's queue */

        REQUIRE(gm_map_new(NULL, &other, NULL) == 0, "a map");
        gm_map_quiesce(other);
        gm_map_free(other);
    }
    REQUIRE(twin->released_count == twin->made_count, "%llu of %llu regions were released",
            (unsigned long long)twin->released_count, (unsigned long long)twin->made_count);
    for (i = 0; i < TWIN_RAMS; i++) {
        gm_ram_put(twin->rams[i]);
    }
    model_fini(&twin->model);
    model_fini(&twin->next);
    free(twin->regions);
}

int twin_region_index(const struct twin *twin, const struct gm_region *region)
{
    int index = region != NULL ? atoi(gm_region_name(region) + 1) : MODEL_NONE;

    return index != MODEL_NONE && twin->regions[index] == region ? index : MODEL_NONE;
}

int twin_ram_index(const struct twin *twin, const struct gm_ram *ram)
{
    int index = TWIN_RAMS - 1;

    while (index >= 0 && twin->rams[index] != ram) {
        index--;
    }
    return index;
}

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
    bool too_big;     /* for certain: ranges or depth */
    bool maybe_big;   /* before neighbours merge */
    bool heavy;
};

static void judge(struct twin *twin, struct model_index *index, int root,
                  struct model_view *view, struct verdict *verdict)
{
    uint32_t max_ranges = twin->options.max_ranges;

    if (model_render(index, root, view) != 0) {
        verdict->loops = verdict->loops || index->loops;
        verdict->too_big = verdict->too_big || index->too_deep;
        verdict->maybe_big = verdict->maybe_big || max_ranges != 0; /* which of the two comes first? */
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
    model_index_fini(&index);
}

/* ---- comparing ---- */

static void compare_section(const struct twin *twin, const struct model_range *range,
                            const struct gm_section *section, const char *where)
{
    const struct model_region *region = &twin->model.regions[range->region];
    const uint8_t *block =
        region->ram != MODEL_NONE ? gm_ram_hva(twin->rams[region->ram]) : NULL;

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
    uint32_t log_mask =
        region->ram != MODEL_NONE ? region->log_mask | twin->model.log_all_mask : 0;

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
        if (edits[i].kind == MODEL_EVENTFD_ADD || edits[i].kind == MODEL_EVENTFD_DEL) {
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

int twin_commit(struct twin *twin, struct gm_txn *txn, const struct model_edit *edits,
                size_t count, int may_fail)
{
    struct verdict verdict = {0};
    struct gm_diag diag = {0};
    int expected = 0;
    int result;
    size_t i;

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
                "commit returned %d; loops %d, too big %d", result, verdict.loops,
                verdict.too_big);
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
                edits[count] = (struct model_edit){
                    .kind = MODEL_ADD, .region = region, .parent = parent};
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
    int index = random_region(twin);
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
    make_region(twin, index);
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
    int root = rnd_one_in(&twin->rnd, 8) ? MODEL_NONE : random_region(twin);
    struct gm_region *region = root != MODEL_NONE ? twin->regions[root] : NULL;
    int result;

    twin->next.spaces[space] = (struct model_space){true, root};
    paint(twin, &twin->next, &twin->next_picture, &verdict);
    if (verdict.heavy) {
        return;
    }
    result = gm_space_new(twin->map, "another", region, &twin->spaces[space], NULL);
    REQUIRE(result == 0 ? !verdict.loops && !verdict.too_big
                        : (verdict.loops && result == -ELOOP) ||
                              (verdict.maybe_big && result == -E2BIG) ||
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
