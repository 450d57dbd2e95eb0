/* mapbuild.c - the records of a map file made into regions, a tree and address spaces. */
#include "mapfile.h"

#include "tool.h"

#include <stdlib.h>

/* ---- devices that nobody wrote: they take every access, read as zero, forget writes ---- */

static enum gm_access device_read(void *opaque, uint64_t offset, unsigned size_bytes,
                                  uint64_t *value, struct gm_attrs attrs)
{
    (void)opaque;
    (void)offset;
    (void)size_bytes;
    (void)attrs;
    *value = 0;
    return GM_ACCESS_OK;
}

static enum gm_access device_write(void *opaque, uint64_t offset, unsigned size_bytes,
                                   uint64_t value, struct gm_attrs attrs)
{
    (void)opaque;
    (void)offset;
    (void)size_bytes;
    (void)value;
    (void)attrs;
    return GM_ACCESS_OK;
}

static const struct gm_io_ops device_ops = {
    .size = sizeof(device_ops),
    .read = device_read,
    .write = device_write,
    .valid = {1, 8, true},
    .implemented = {1, 8, true},
};

/* The file does not say where an IOMMU leads to: nowhere. */
static void iommu_translate(void *opaque, const struct gm_iommu_request *request,
                            struct gm_iommu_entry *entry)
{
    (void)opaque;
    (void)request;
    *entry = (struct gm_iommu_entry){.page_mask = UINT64_MAX};
}

static const struct gm_iommu_ops iommu_ops = {
    .size = sizeof(iommu_ops),
    .translate = iommu_translate,
};

/* ---- regions ---- */

static enum gm_region_kind kind_of(const struct mapfile_region *record)
{
    if (record->target != NULL) {
        return GM_REGION_ALIAS;
    }
    if ((record->flags & MAPFILE_TERMINATES) == 0) {
        return GM_REGION_CONTAINER; /* whatever it has, it does not show it */
    }
    if ((record->flags & MAPFILE_IOMMU) != 0) {
        return GM_REGION_IOMMU;
    }
    if ((record->flags & MAPFILE_ROM_DEVICE) != 0) {
        return GM_REGION_ROM_DEVICE;
    }
    if ((record->flags & MAPFILE_RAM_DEVICE) != 0) {
        return GM_REGION_RAM_DEVICE;
    }
    if ((record->flags & MAPFILE_RAM) != 0) {
        return GM_REGION_RAM; /* also if read-only: that can be set and unset */
    }
    return GM_REGION_MMIO;
}

/* A block has one byte at least, and 2^63 at most: no more can be recorded as dirty. */
static uint64_t block_bytes(const struct mapfile_region *record)
{
    gm_size_t most = GM_SIZE_2_64 / 2;

    if (record->largest_size == 0) {
        return 1;
    }
    return (uint64_t)(record->largest_size < most ? record->largest_size : most);
}

/* What only some kinds have. */
static int fill_kind(struct mapfile_region *record, const struct gm_allocator *allocator,
                     struct gm_region_options *options, struct gm_diag *diag)
{
    int result = 0;

    switch (options->kind) {
    case GM_REGION_ALIAS:
        options->target = record->target->region;
        options->target_offset = record->target_offset;
        return 0;
    case GM_REGION_IOMMU:
        options->iommu = &iommu_ops;
        return 0;
    case GM_REGION_MMIO:
        options->io = &device_ops;
        return 0;
    case GM_REGION_CONTAINER:
        return 0;
    case GM_REGION_ROM_DEVICE:
        options->io = &device_ops;
        break;
    default:
        break;
    }
    result = gm_ram_new_unbacked(block_bytes(record), allocator, &record->ram, diag);
    options->ram = record->ram;
    return result;
}

static int make_region(struct mapfile *mapfile, struct mapfile_region *record,
                       const struct gm_allocator *allocator)
{
    struct gm_diag diag = {0};
    struct gm_region_options options = {
        .size = sizeof(options),
        .kind = kind_of(record),
        .name = record->name,
        .size_bytes = record->size,
        .addr = record->addr,
        .priority = record->priority,
        .disabled = (record->flags & MAPFILE_ENABLED) == 0,
        .readonly = (record->flags & MAPFILE_READONLY) != 0,
        .nonvolatile = (record->flags & MAPFILE_NONVOLATILE) != 0,
        .no_romd = (record->flags & MAPFILE_ROMD) == 0,
        .opaque = record,
    };
    int result = fill_kind(record, allocator, &options, &diag);

    if (result == 0) {
        result = gm_region_new(mapfile->map, &options, &record->region, &diag);
    }
    if (result != 0) {
        return lines_error_at(mapfile->lines, record->line, "%s", diag.text);
    }
    return 0;
}

/*
 * A target has to be there before its alias. Chains of aliases end (mapfile_read() has seen to it):
 * walk to the chain's end, then make regions on the way back.
 */
static int make_chain(struct mapfile *mapfile, struct mapfile_region *first,
                      const struct gm_allocator *allocator)
{
    struct mapfile_region **chain = NULL;
    size_t capacity = 0;
    size_t count = 0;
    struct mapfile_region *at;
    int result = 0;

    for (at = first; at != NULL && at->region == NULL; at = at->target) {
        chain = tool_reserve(chain, &capacity, count + 1, sizeof(chain[0]));
        chain[count++] = at;
    }
    while (count > 0 && result == 0) {
        result = make_region(mapfile, chain[--count], allocator);
    }
    free(chain);
    return result;
}

/* ---- the tree and the spaces ---- */

static int refused(const struct mapfile *mapfile, unsigned long line, int error,
                   const struct gm_diag *diag)
{
    const char *text = diag->text[0] != '\0' ? diag->text : "the map is refused";

    return lines_error_at(mapfile->lines, line, "%s (%s)", text, tool_error_name(error));
}

static int make_tree(struct mapfile *mapfile)
{
    struct gm_diag diag = {0};
    unsigned long line = 0;
    struct gm_txn *txn;
    int result = gm_txn_begin(mapfile->map, &txn);
    size_t i;

    if (result != 0) {
        return refused(mapfile, line, result, &diag);
    }
    for (i = 0; i < mapfile->sub_count; i++) {
        const struct mapfile_sub *sub = &mapfile->subs[i];

        line = sub->line;
        result = gm_txn_add(txn, sub->parent->region, sub->child->region);
        if (result != 0) {
            gm_txn_abort(txn);
            return refused(mapfile, line, result, &diag);
        }
    }
    result = gm_txn_commit(txn, &diag);
    return result == 0 ? 0 : refused(mapfile, line, result, &diag);
}

static int make_spaces(struct mapfile *mapfile)
{
    size_t i;

    for (i = 0; i < mapfile->space_count; i++) {
        struct mapfile_space *space = &mapfile->spaces[i];
        struct gm_diag diag = {0};
        int result =
            gm_space_new(mapfile->map, space->name,
                         space->root != NULL ? space->root->region : NULL, &space->space, &diag);

        if (result != 0) {
            return refused(mapfile, space->line, result, &diag);
        }
    }
    return 0;
}

int mapfile_build(struct mapfile *mapfile, const struct gm_allocator *allocator)
{
    struct gm_map_options options = {.size = sizeof(options), .allocator = allocator};
    struct gm_diag diag = {0};
    size_t i;

    if (gm_map_new(&options, &mapfile->map, &diag) != 0) {
        tool_error("%s", diag.text);
        return -1;
    }
    for (i = 0; i < mapfile->region_count; i++) {
        if (make_chain(mapfile, &mapfile->regions[i], allocator) != 0) {
            return -1;
        }
    }
    if (make_tree(mapfile) != 0) {
        return -1;
    }
    return make_spaces(mapfile);
}
