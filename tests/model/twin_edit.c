/* model/twin_edit.c - random edits, recorded on both sides. */
#include "model/twin.h"

#include "model/require.h"

#include <string.h>

static int any_region(struct twin *twin)
{
    return (int)rnd_below(&twin->rnd, (uint64_t)twin->options.region_count);
}

/* A region that @fits, if a few tries find one. */
static int find_region(struct twin *twin, bool (*fits)(const struct model_region *region))
{
    int tries;

    for (tries = 0; tries < 200; tries++) {
        int index = any_region(twin);

        if (fits(&twin->model.regions[index])) {
            return index;
        }
    }
    return MODEL_NONE;
}

static bool is_alone(const struct model_region *region)
{
    return region->parent == MODEL_NONE;
}

static bool is_attached(const struct model_region *region)
{
    return region->parent != MODEL_NONE;
}

static bool is_container(const struct model_region *region)
{
    return region->kind == GM_REGION_CONTAINER;
}

static bool takes_children(const struct model_region *region)
{
    return region->kind != GM_REGION_ALIAS;
}

static bool is_alias(const struct model_region *region)
{
    return region->kind == GM_REGION_ALIAS;
}

static bool is_rom_device(const struct model_region *region)
{
    return region->kind == GM_REGION_ROM_DEVICE;
}

static bool has_ram(const struct model_region *region)
{
    return region->ram != MODEL_NONE;
}

static bool has_callbacks(const struct model_region *region)
{
    return region->kind == GM_REGION_MMIO || region->kind == GM_REGION_ROM_DEVICE;
}

static bool has_coalesced(const struct model_region *region)
{
    return region->coalesced_count > 0;
}

static bool is_any(const struct model_region *region)
{
    return region->exists;
}

/* Mostly within what @size bytes hold. */
static uint64_t some_addr_within(struct twin *twin, int of, gm_size_t size)
{
    uint64_t addr = twin_random_addr(twin);

    if (rnd_one_in(&twin->rnd, 8)) { /* a little further */
        addr = twin->model.regions[of].addr + rnd_below(&twin->rnd, 9) - 4;
    }
    return size > 0 && !rnd_one_in(&twin->rnd, 5) ? (uint64_t)(addr % size) : addr;
}

/* Where a region's addr, or an alias's offset, is looked at from. */
static uint64_t some_place(struct twin *twin, const struct model_edit *edit)
{
    const struct model_region *regions = twin->model.regions;
    const struct model_region *region = &regions[edit->region];
    int within = edit->kind == MODEL_ALIAS_OFFSET ? region->target : region->parent;
    uint64_t addr = within != MODEL_NONE
                        ? some_addr_within(twin, edit->region, regions[within].size)
                        : twin_random_addr(twin);

    if (twin->options.address_bits > 16 && rnd_one_in(&twin->rnd, 2)) {
        addr &= ~(uint64_t)4095;
    }
    return addr;
}

static void some_eventfd(struct twin *twin, int of, struct gm_eventfd *eventfd)
{
    static const uint32_t sizes[] = {0, 1, 2, 4, 8};
    uint64_t size = (uint64_t)twin->model.regions[of].size;

    memset(eventfd, 0, sizeof(*eventfd));
    eventfd->size_bytes = sizes[rnd_below(&twin->rnd, 5)];
    eventfd->offset = rnd_below(&twin->rnd, size > 8 ? size - 7 : size + 1);
    eventfd->match = eventfd->size_bytes != 0 && rnd_one_in(&twin->rnd, 2);
    eventfd->value = eventfd->match ? rnd_below(&twin->rnd, 3) : 0;
    eventfd->fd = (int)rnd_below(&twin->rnd, 2); /* any that is open: nothing signals it */
}

static bool choose_eventfd(struct twin *twin, struct model_edit *edit)
{
    const struct model_region *region;

    edit->region = find_region(twin, is_any);
    if (edit->region == MODEL_NONE) {
        return false;
    }
    region = &twin->model.regions[edit->region];
    if (!model_terminates(region)) {
        return false;
    }
    if (region->eventfd_count > MODEL_EVENTFDS_MAX - 2 || twin->eventfds_added == 2 ||
        rnd_one_in(&twin->rnd, 3)) {
        edit->kind = MODEL_EVENTFD_DEL;
        if (region->eventfd_count > 0) {
            edit->eventfd = region->eventfds[rnd_below(&twin->rnd, region->eventfd_count)];
            return true;
        }
    } else {
        edit->kind = MODEL_EVENTFD_ADD;
        twin->eventfds_added++;
    }
    some_eventfd(twin, edit->region, &edit->eventfd);
    return region->size >= 8 ? edit->kind == MODEL_EVENTFD_ADD : rnd_one_in(&twin->rnd, 8);
}

/* All of it, whatever its size; a part, often at an end or right behind another one; rarely too far. */
static void some_coalesced(struct twin *twin, const struct model_region *region,
                           struct model_coalesced *coalesced)
{
    struct rnd *rnd = &twin->rnd;
    uint64_t most = region->size > UINT64_MAX ? UINT64_MAX : (uint64_t)region->size;

    *coalesced = (struct model_coalesced){0, GM_COALESCED_WHOLE};
    if (most == 0 || rnd_one_in(rnd, 5)) {
        return;
    }
    coalesced->offset = rnd_one_in(rnd, 4) ? 0 : rnd_below(rnd, most);
    if (region->coalesced_count > 0 && rnd_one_in(rnd, 4)) {
        const struct model_coalesced *other =
            &region->coalesced[rnd_below(rnd, region->coalesced_count)];
        gm_size_t behind = other->offset + other->size;

        coalesced->offset = behind < most ? (uint64_t)behind : coalesced->offset;
    }
    coalesced->size = rnd_one_in(rnd, 4) ? region->size - coalesced->offset
                                         : 1 + rnd_below(rnd, most - coalesced->offset);
    if (coalesced->size < GM_SIZE_2_64 && rnd_one_in(rnd, 24)) {
        coalesced->size++;
    }
}

static bool choose_coalesced_add(struct twin *twin, struct model_edit *edit)
{
    const struct model_region *region;
    unsigned tries;

    edit->kind = MODEL_COALESCED_ADD;
    edit->region = find_region(twin, has_callbacks);
    if (edit->region == MODEL_NONE || twin->coalesced_added == 2) {
        return false;
    }
    region = &twin->model.regions[edit->region];
    if (region->coalesced_count > MODEL_COALESCED_MAX - 2) {
        return false;
    }
    for (tries = 0; tries < 8; tries++) {
        some_coalesced(twin, region, &edit->coalesced);
        if (!model_meets_coalesced(region, &edit->coalesced) || rnd_one_in(&twin->rnd, 100)) {
            twin->coalesced_added++;
            return true;
        }
    }
    return false;
}

static bool choose_coalesced_del(struct twin *twin, struct model_edit *edit)
{
    const struct model_region *region;

    edit->kind = MODEL_COALESCED_DEL;
    edit->region = find_region(twin, has_coalesced);
    if (edit->region == MODEL_NONE) {
        return false;
    }
    region = &twin->model.regions[edit->region];
    if (rnd_one_in(&twin->rnd, 16)) { /* hardly one that is there */
        some_coalesced(twin, region, &edit->coalesced);
    } else {
        edit->coalesced = region->coalesced[rnd_below(&twin->rnd, region->coalesced_count)];
    }
    return true;
}

static bool choose_coalesced(struct twin *twin, struct model_edit *edit)
{
    return rnd_one_in(&twin->rnd, 3) ? choose_coalesced_del(twin, edit)
                                     : choose_coalesced_add(twin, edit);
}

static bool choose_add(struct twin *twin, struct model_edit *edit)
{
    edit->kind = MODEL_ADD;
    edit->region = find_region(twin, rnd_one_in(&twin->rnd, 40) ? is_any : is_alone);
    edit->parent = find_region(twin, rnd_one_in(&twin->rnd, 4) ? takes_children : is_container);
    if (rnd_one_in(&twin->rnd, 3) ||
        (edit->region != MODEL_NONE && edit->parent != MODEL_NONE &&
         twin->model.regions[edit->region].addr >= twin->model.regions[edit->parent].size &&
         !rnd_one_in(&twin->rnd, 5))) {
        edit->parent = (int)rnd_below(&twin->rnd, TWIN_ROOTS); /* keep much of it in sight */
    }
    return edit->region != MODEL_NONE && edit->parent != MODEL_NONE &&
           (edit->region >= TWIN_ROOTS || rnd_one_in(&twin->rnd, 50));
}

static bool choose_del(struct twin *twin, struct model_edit *edit)
{
    edit->kind = MODEL_DEL;
    edit->region = find_region(twin, rnd_one_in(&twin->rnd, 40) ? is_any : is_attached);
    if (edit->region == MODEL_NONE) {
        return false;
    }
    edit->parent = twin->model.regions[edit->region].parent;
    if (edit->parent == MODEL_NONE || rnd_one_in(&twin->rnd, 40)) {
        edit->parent = find_region(twin, takes_children);
    }
    return edit->parent != MODEL_NONE;
}

/* An alias put into its own target where it looks: a cycle that does not shift. */
static bool choose_loop(struct twin *twin, struct model_edit *edit)
{
    edit->kind = MODEL_ADDR;
    edit->region = find_region(twin, is_alias);
    if (edit->region == MODEL_NONE) {
        return false;
    }
    edit->value = twin->model.regions[edit->region].target_offset;
    if (twin->model.regions[edit->region].parent == MODEL_NONE) {
        edit->kind = MODEL_ADD;
        edit->parent = twin->model.regions[edit->region].target;
        return takes_children(&twin->model.regions[edit->parent]);
    }
    return true;
}

/* Attributes: which kind, of which regions, how often in a hundred. */
static bool choose_attribute(struct twin *twin, struct model_edit *edit)
{
    static const struct {
        enum model_edit_kind kind;
        bool (*fits)(const struct model_region *region);
        unsigned weight;
    } choices[] = {
        {MODEL_ADDR, is_any, 24},       {MODEL_SIZE, is_any, 12},
        {MODEL_PRIORITY, is_any, 10},   {MODEL_ENABLED, is_any, 20},
        {MODEL_READONLY, is_any, 6},    {MODEL_NONVOLATILE, is_any, 6},
        {MODEL_ROMD, is_rom_device, 7}, {MODEL_ALIAS_OFFSET, is_alias, 9},
        {MODEL_LOG, has_ram, 6},
    };
    uint64_t at = rnd_below(&twin->rnd, 100);
    unsigned i;

    for (i = 0; at >= choices[i].weight; i++) {
        at -= choices[i].weight;
    }
    edit->kind = choices[i].kind;
    edit->region = find_region(twin, choices[i].fits);
    if (edit->region < TWIN_ROOTS && !rnd_one_in(&twin->rnd, 10)) {
        edit->region = find_region(twin, choices[i].fits); /* the roots stay mostly as they are */
    }
    edit->on = rnd_one_in(&twin->rnd, 2);
    if (edit->kind == MODEL_ENABLED && !edit->on && !rnd_one_in(&twin->rnd, 3)) {
        edit->on = true;
    }
    if (edit->kind == MODEL_ENABLED && edit->region < TWIN_ROOTS) {
        edit->on = edit->on || !rnd_one_in(&twin->rnd, 8);
    }
    edit->client = (unsigned)rnd_below(&twin->rnd, 3);
    edit->priority = (int32_t)rnd_below(&twin->rnd, 5) - 2;
    if (edit->region == MODEL_NONE) {
        return false;
    }
    edit->value = edit->kind == MODEL_SIZE
                      ? twin_random_size(twin, twin->model.regions[edit->region].kind)
                      : (gm_size_t)some_place(twin, edit);
    if (edit->kind == MODEL_ADDR && edit->region < TWIN_ROOTS) {
        edit->value = rnd_one_in(&twin->rnd, 4) ? edit->value : 0;
    }
    return true;
}

static bool choose_root(struct twin *twin, struct model_edit *edit)
{
    edit->kind = MODEL_ROOT;
    edit->space = (int)rnd_below(&twin->rnd, MODEL_SPACES_MAX);
    edit->region = rnd_one_in(&twin->rnd, 12)  ? MODEL_NONE
                   : rnd_one_in(&twin->rnd, 8) ? any_region(twin)
                                               : (int)rnd_below(&twin->rnd, TWIN_ROOTS);
    return twin->spaces[edit->space] != NULL;
}

static bool choose_any(struct twin *twin, struct model_edit *edit)
{
    uint64_t at = rnd_below(&twin->rnd, 200);

    *edit = (struct model_edit){.region = MODEL_NONE, .parent = MODEL_NONE};
    if (at < 58) {
        return choose_add(twin, edit);
    }
    if (at < 72) {
        return choose_del(twin, edit);
    }
    if (at < 75) {
        return choose_root(twin, edit);
    }
    if (at < 81) {
        return choose_eventfd(twin, edit);
    }
    if (at < 82) {
        *edit = (struct model_edit){.kind = MODEL_LOG_ALL,
                                    .region = MODEL_NONE,
                                    .client = 2 + (unsigned)rnd_below(&twin->rnd, 3),
                                    .on = rnd_one_in(&twin->rnd, 2)};
        return true;
    }
    if (at < 84) {
        return choose_loop(twin, edit);
    }
    if (at < 195) {
        return choose_attribute(twin, edit);
    }
    return choose_coalesced(twin, edit);
}

static bool choose(struct twin *twin, struct model_edit *edit)
{
    return choose_any(twin, edit) &&
           !(twin->options.huge_blocks && (edit->kind == MODEL_LOG || edit->kind == MODEL_LOG_ALL));
}

static int record(struct twin *twin, struct gm_txn *txn, const struct model_edit *edit)
{
    struct gm_region *region = edit->region != MODEL_NONE ? twin->regions[edit->region] : NULL;

    switch (edit->kind) {
    case MODEL_ADD:
        return gm_txn_add(txn, twin->regions[edit->parent], region);
    case MODEL_DEL:
        return gm_txn_del(txn, twin->regions[edit->parent], region);
    case MODEL_ADDR:
        return gm_txn_set_addr(txn, region, (uint64_t)edit->value);
    case MODEL_SIZE:
        return gm_txn_set_size(txn, region, edit->value);
    case MODEL_PRIORITY:
        return gm_txn_set_priority(txn, region, edit->priority);
    case MODEL_ENABLED:
        return gm_txn_set_enabled(txn, region, edit->on);
    case MODEL_READONLY:
        return gm_txn_set_readonly(txn, region, edit->on);
    case MODEL_NONVOLATILE:
        return gm_txn_set_nonvolatile(txn, region, edit->on);
    case MODEL_ROMD:
        return gm_txn_set_romd(txn, region, edit->on);
    case MODEL_ALIAS_OFFSET:
        return gm_txn_set_alias_offset(txn, region, (uint64_t)edit->value);
    case MODEL_LOG:
        return gm_txn_set_log(txn, region, edit->client, edit->on);
    case MODEL_LOG_ALL:
        return gm_txn_set_log_all(txn, edit->client, edit->on);
    case MODEL_EVENTFD_ADD:
        return gm_txn_add_eventfd(txn, region, &edit->eventfd);
    case MODEL_EVENTFD_DEL:
        return gm_txn_del_eventfd(txn, region, &edit->eventfd);
    case MODEL_COALESCED_ADD:
        return gm_txn_add_coalesced(txn, region, edit->coalesced.offset, edit->coalesced.size);
    case MODEL_COALESCED_DEL:
        return gm_txn_del_coalesced(txn, region, edit->coalesced.offset, edit->coalesced.size);
    case MODEL_ROOT:
        return gm_txn_set_root(txn, twin->spaces[edit->space], region);
    }
    return -1;
}

void twin_record(struct twin *twin, struct gm_txn *txn, const struct model_edit *edit)
{
    int result = record(twin, txn, edit);

    REQUIRE(result == 0, "recording an edit of kind %d: %d", (int)edit->kind, result);
}

void twin_coalesce(struct twin *twin)
{
    int i;

    for (i = 0; i < twin->options.region_count / 4; i++) {
        struct model_edit edit = {.region = MODEL_NONE, .parent = MODEL_NONE};
        struct gm_txn *txn;

        if (choose_coalesced_add(twin, &edit)) {
            REQUIRE(gm_txn_begin(twin->map, &txn) == 0, "beginning");
            twin_record(twin, txn, &edit);
            twin_commit(twin, txn, &edit, 1, 0);
        }
    }
}

bool twin_edit(struct twin *twin, struct gm_txn *txn, struct model_edit *edit)
{
    if (!choose(twin, edit)) {
        return false;
    }
    twin_record(twin, txn, edit);
    return true;
}
