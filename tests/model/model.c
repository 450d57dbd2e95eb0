/* model/model.c - the model's tree and its edits. */
#include "model/model.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

void model_init(struct model *model, int region_count)
{
    memset(model, 0, sizeof(*model));
    model->regions = calloc((size_t)region_count, sizeof(*model->regions));
    model->region_count = region_count;
}

void model_fini(struct model *model)
{
    free(model->regions);
}

void model_copy(struct model *to, const struct model *from)
{
    struct model_region *regions = to->regions;

    *to = *from;
    to->regions = regions;
    memcpy(regions, from->regions, (size_t)from->region_count * sizeof(*regions));
}

bool model_terminates(const struct model_region *region)
{
    return region->kind != GM_REGION_CONTAINER && region->kind != GM_REGION_ALIAS;
}

static int apply_add(struct model *model, const struct model_edit *edit)
{
    struct model_region *child = &model->regions[edit->region];
    int up;

    if (child->parent != MODEL_NONE) {
        return -EBUSY;
    }
    for (up = edit->parent; up != MODEL_NONE; up = model->regions[up].parent) {
        if (up == edit->region) {
            return -ELOOP;
        }
    }
    child->parent = edit->parent;
    child->added = ++model->next_added;
    return 0;
}

static int apply_del(struct model *model, const struct model_edit *edit)
{
    struct model_region *child = &model->regions[edit->region];

    if (child->parent != edit->parent) {
        return -ENOENT;
    }
    child->parent = MODEL_NONE;
    return 0;
}

static int apply_size(struct model *model, const struct model_edit *edit)
{
    struct model_region *region = &model->regions[edit->region];

    if (region->ram != MODEL_NONE && !region->ram_is_endless &&
        edit->value > (gm_size_t)region->ram_size - region->ram_offset) {
        return -EINVAL;
    }
    region->size = edit->value;
    return 0;
}

static bool same_eventfd(const struct gm_eventfd *a, const struct gm_eventfd *b)
{
    return a->offset == b->offset && a->size_bytes == b->size_bytes && a->match == b->match &&
           a->value == b->value && a->fd == b->fd;
}

static int apply_eventfd(struct model *model, const struct model_edit *edit)
{
    struct model_region *region = &model->regions[edit->region];
    uint64_t size = edit->eventfd.size_bytes != 0 ? edit->eventfd.size_bytes : 1;
    unsigned i = 0;

    if (edit->kind == MODEL_EVENTFD_ADD && edit->eventfd.offset + (gm_size_t)size > region->size) {
        return -EINVAL;
    }
    while (i < region->eventfd_count && !same_eventfd(&region->eventfds[i], &edit->eventfd)) {
        i++;
    }
    if (edit->kind == MODEL_EVENTFD_ADD) {
        if (i < region->eventfd_count) {
            return -EEXIST;
        }
        if (region->eventfd_count == MODEL_EVENTFDS_MAX) {
            abort(); /* twin_edit() sees to it */
        }
        region->eventfds[region->eventfd_count++] = edit->eventfd;
        return 0;
    }
    if (i == region->eventfd_count) {
        return -ENOENT;
    }
    region->eventfds[i] = region->eventfds[--region->eventfd_count];
    return 0;
}

static bool is_whole(const struct model_coalesced *coalesced)
{
    return coalesced->offset == 0 && coalesced->size == GM_COALESCED_WHOLE;
}

bool model_meets_coalesced(const struct model_region *region,
                           const struct model_coalesced *coalesced)
{
    unsigned i;

    for (i = 0; i < region->coalesced_count; i++) {
        const struct model_coalesced *other = &region->coalesced[i];

        if (other->offset < coalesced->offset + coalesced->size &&
            coalesced->offset < other->offset + other->size) {
            return true;
        }
    }
    return false;
}

static int apply_coalesced_add(struct model_region *region, const struct model_coalesced *coalesced)
{
    if (!is_whole(coalesced) && coalesced->offset + coalesced->size > region->size) {
        return -EINVAL;
    }
    if (model_meets_coalesced(region, coalesced)) {
        return -EEXIST;
    }
    if (region->coalesced_count == MODEL_COALESCED_MAX) {
        abort(); /* twin_edit() sees to it */
    }
    region->coalesced[region->coalesced_count++] = *coalesced;
    return 0;
}

static int apply_coalesced_del(struct model_region *region, const struct model_coalesced *coalesced)
{
    unsigned i = 0;

    while (i < region->coalesced_count && (region->coalesced[i].offset != coalesced->offset ||
                                           region->coalesced[i].size != coalesced->size)) {
        i++;
    }
    if (i == region->coalesced_count) {
        return -ENOENT;
    }
    region->coalesced[i] = region->coalesced[--region->coalesced_count];
    return 0;
}

static void apply_mask(uint32_t *mask, const struct model_edit *edit)
{
    *mask = edit->on ? *mask | 1u << edit->client : *mask & ~(1u << edit->client);
}

int model_apply(struct model *model, const struct model_edit *edit)
{
    struct model_region *region = edit->region != MODEL_NONE ? &model->regions[edit->region] : NULL;

    switch (edit->kind) {
    case MODEL_ADD:
        return apply_add(model, edit);
    case MODEL_DEL:
        return apply_del(model, edit);
    case MODEL_SIZE:
        return apply_size(model, edit);
    case MODEL_EVENTFD_ADD:
    case MODEL_EVENTFD_DEL:
        return apply_eventfd(model, edit);
    case MODEL_COALESCED_ADD:
        return apply_coalesced_add(region, &edit->coalesced);
    case MODEL_COALESCED_DEL:
        return apply_coalesced_del(region, &edit->coalesced);
    case MODEL_ADDR:
        region->addr = (uint64_t)edit->value;
        break;
    case MODEL_PRIORITY:
        region->priority = edit->priority;
        break;
    case MODEL_ENABLED:
        region->enabled = edit->on;
        break;
    case MODEL_READONLY:
        region->readonly = edit->on;
        break;
    case MODEL_NONVOLATILE:
        region->nonvolatile = edit->on;
        break;
    case MODEL_ROMD:
        region->romd = edit->on;
        break;
    case MODEL_ALIAS_OFFSET:
        region->target_offset = (uint64_t)edit->value;
        break;
    case MODEL_LOG:
        apply_mask(&region->log_mask, edit);
        break;
    case MODEL_LOG_ALL:
        apply_mask(&model->log_all_mask, edit);
        break;
    case MODEL_ROOT:
        model->spaces[edit->space].root = edit->region;
        break;
    }
    return 0;
}
