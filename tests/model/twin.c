/* model/twin.c - making maps beside models: regions of all kinds, blocks, spaces. */
#include "model/twin.h"

#include "model/recorder.h"
#include "model/require.h"
#include "model/watch.h"

#include <errno.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

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

int twin_random_region(struct twin *twin)
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

    __atomic_add_fetch(&twin->released_count, 1, __ATOMIC_ACQ_REL);
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

static void iommu_translate(void *opaque, const struct gm_iommu_request *request,
                            struct gm_iommu_entry *entry)
{
    (void)opaque;
    (void)request;
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
    made->ram_is_endless = gm_ram_hva(twin->rams[made->ram]) == NULL && made->ram_offset == 0;
    if ((!made->ram_is_endless || rnd_one_in(rnd, 2)) &&
        made->size > (gm_size_t)made->ram_size - made->ram_offset) {
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
        made->target = twin_random_region(twin);
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

void twin_make_region(struct twin *twin, int index)
{
    struct model_region made;
    struct gm_region_options options = {.size = sizeof(options)};
    struct gm_diag diag;
    char name[24];
    int result;

    describe_region(twin, index, &made);
    snprintf(name, sizeof(name), "r%d", index);
    options.kind = made.kind;
    options.name = name;
    options.size_bytes = made.size;
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
    result = gm_region_new(twin->map, &options, &twin->regions[index], &diag);
    REQUIRE(result == 0, "making region %d: %s", index, diag.text);
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
                           : gm_ram_new_unbacked(size >> (i - 2), allocator, &twin->rams[i], NULL);

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
    twin->fds[0] = eventfd(0, EFD_CLOEXEC);
    twin->fds[1] = eventfd(0, EFD_CLOEXEC);
    model_init(&twin->model, options->region_count);
    model_init(&twin->next, options->region_count);
    twin->regions = calloc((size_t)options->region_count, sizeof(struct gm_region *));
    result = gm_map_new(&map_options, &twin->map, NULL);
    REQUIRE(result == 0, "a map: %d", result);
    make_rams(twin);
    for (index = 0; index < options->region_count; index++) {
        twin_make_region(twin, index);
    }
    for (i = 0; i < options->space_count; i++) {
        int root = i < TWIN_ROOTS ? (int)i : twin_random_region(twin);

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
    for (i = 0;
         i < 2000 && __atomic_load_n(&twin->released_count, __ATOMIC_ACQUIRE) < twin->made_count;
         i++) {
        gm_map_quiesce(NULL);
    }
    REQUIRE(twin->released_count == twin->made_count, "%llu of %llu regions were released",
            (unsigned long long)twin->released_count, (unsigned long long)twin->made_count);
    for (i = 0; i < TWIN_RAMS; i++) {
        gm_ram_put(twin->rams[i]);
    }
    close(twin->fds[0]);
    close(twin->fds[1]);
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
