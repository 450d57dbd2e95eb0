/* show_parts.c - sizes, kinds, views and slots as `guestmem show` prints them. */
#include "show.h"

#include "json.h"
#include "table.h"
#include "tool.h"

#include <inttypes.h>
#include <stdlib.h>

const char *show_size(gm_size_t size_bytes, char text[SHOW_SIZE_BYTES])
{
    static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
    unsigned unit = 0;
    unsigned hundredths;
    unsigned whole;
    const char *about;

    while (unit < 6 && size_bytes >> (10 * (unit + 1)) != 0) {
        unit++;
    }
    hundredths = (unsigned)((size_bytes * 100) >> (10 * unit));
    about = (gm_size_t)hundredths << (10 * unit) != size_bytes * 100 ? "~" : "";
    whole = hundredths / 100;
    if (*about == '\0' && hundredths % 100 == 0) {
        snprintf(text, SHOW_SIZE_BYTES, "%u %s", whole, units[unit]);
    } else {
        snprintf(text, SHOW_SIZE_BYTES, "%s%u.%02u %s", about, whole, hundredths % 100,
                 units[unit]);
    }
    return text;
}

const char *show_kind(const struct gm_region *region)
{
    bool is_readonly = (mapfile_region_of(region)->flags & MAPFILE_READONLY) != 0;

    switch (gm_region_kind(region)) {
    case GM_REGION_CONTAINER:
        return "container";
    case GM_REGION_RAM:
        return is_readonly ? "rom" : "ram";
    case GM_REGION_ROM:
        return "rom";
    case GM_REGION_ROM_DEVICE:
        return "rom-device";
    case GM_REGION_RAM_DEVICE:
        return "ram-device";
    case GM_REGION_MMIO:
        return "i/o";
    case GM_REGION_RESERVATION:
        return "reservation";
    case GM_REGION_ALIAS:
        return "alias";
    case GM_REGION_IOMMU:
        return "iommu";
    }
    return "unknown";
}

/* ---- a view ---- */

static const char *section_flags(const struct gm_section *section)
{
    static const char *const words[2][2][2] = {
        {{"", "romd"}, {"nv", "nv romd"}},
        {{"ro", "ro romd"}, {"ro nv", "ro nv romd"}},
    };
    /* The mode matters for ROM devices alone. */
    bool is_romd = (section->flags & GM_SECTION_ROMD) != 0 &&
                   gm_region_kind(section->region) == GM_REGION_ROM_DEVICE;

    return words[(section->flags & GM_SECTION_READONLY) != 0]
                [(section->flags & GM_SECTION_NONVOLATILE) != 0][is_romd];
}

void show_view(const struct gm_view *view)
{
    static const struct table_column columns[] = {
        {"first", TABLE_RIGHT}, {"last", TABLE_RIGHT},  {"size", TABLE_RIGHT},
        {"kind", TABLE_LEFT},   {"flags", TABLE_LEFT},  {"id", TABLE_RIGHT},
        {"from", TABLE_RIGHT},  {"region", TABLE_LEFT},
    };
    struct gm_section section;
    char size[SHOW_SIZE_BYTES];
    struct table table;
    size_t i;

    table_init(&table, columns, sizeof(columns) / sizeof(columns[0]));
    for (i = 0; gm_view_at(view, i, &section); i++) {
        table_add(&table, "%" PRIx64, section.gpa);
        table_add(&table, "%" PRIx64, section.last);
        table_add(&table, "%s", show_size(gm_section_size(&section), size));
        table_add(&table, "%s", show_kind(section.region));
        table_add(&table, "%s", section_flags(&section));
        table_add(&table, "%" PRIu32, mapfile_region_of(section.region)->id);
        table_add(&table, "%" PRIx64, section.offset);
        table_add(&table, "%s", gm_region_name(section.region));
    }
    table_print(&table);
}

/* ---- slots ---- */

/* A backend that takes everything: the plan is what is wanted, not its application. */
static int accept_slot(void *opaque, const struct gm_slot *slot)
{
    (void)opaque;
    (void)slot;
    return 0;
}

static int accept_flags(void *opaque, const struct gm_slot *slot, uint32_t new_flags)
{
    (void)opaque;
    (void)slot;
    (void)new_flags;
    return 0;
}

static int accept_hold(void *opaque)
{
    (void)opaque;
    return 0;
}

static void accept_release(void *opaque)
{
    (void)opaque;
}

static const struct gm_backend_ops accept_ops = {
    .size = sizeof(accept_ops),
    .create = accept_slot,
    .destroy = accept_slot,
    .set_flags = accept_flags,
    .hold = accept_hold,
    .release = accept_release,
};

void show_slots_plan(struct show_slots *slots, struct gm_space *space)
{
    struct gm_backend_options options = {.size = sizeof(options)};
    struct gm_slots *handle;

    *slots = (struct show_slots){0};
    if (gm_slots_attach(space, &options, &accept_ops, NULL, &handle, &slots->diag) != 0) {
        return;
    }
    slots->count = gm_slots_list(handle, NULL, 0);
    slots->list = tool_alloc(slots->count * sizeof(slots->list[0]));
    gm_slots_list(handle, slots->list, slots->count);
    slots->diag.code = 0;
    if (gm_slots_detach(handle, &slots->diag) != 0) {
        slots->count = 0; /* what a slot names may have gone */
    }
}

void show_slots_free(struct show_slots *slots)
{
    free(slots->list);
}

void show_slots(const struct show_slots *slots)
{
    static const struct table_column columns[] = {
        {"slot", TABLE_RIGHT}, {"first", TABLE_RIGHT}, {"last", TABLE_RIGHT},
        {"size", TABLE_RIGHT}, {"flags", TABLE_LEFT},  {"id", TABLE_RIGHT},
        {"from", TABLE_RIGHT}, {"region", TABLE_LEFT},
    };
    char size[SHOW_SIZE_BYTES];
    struct table table;
    size_t i;

    table_init(&table, columns, sizeof(columns) / sizeof(columns[0]));
    for (i = 0; i < slots->count; i++) {
        const struct gm_slot *slot = &slots->list[i];

        table_add(&table, "%" PRIu32, slot->number);
        table_add(&table, "%" PRIx64, slot->gpa);
        table_add(&table, "%" PRIx64, slot->gpa + (slot->size_bytes - 1));
        table_add(&table, "%s", show_size(slot->size_bytes, size));
        table_add(&table, "%s", (slot->flags & GM_SLOT_READONLY) != 0 ? "ro" : "");
        table_add(&table, "%" PRIu32, mapfile_region_of(slot->region)->id);
        table_add(&table, "%" PRIx64, slot->offset);
        table_add(&table, "%s", gm_region_name(slot->region));
    }
    table_print(&table);
}

/* ---- JSON ---- */

struct json_object *show_slots_to_json(const struct show_slots *slots)
{
    struct json_object *list = json_new_array();
    size_t i;

    for (i = 0; i < slots->count; i++) {
        const struct gm_slot *slot = &slots->list[i];
        struct json_object *object = json_new_object();

        json_add(object, "number", json_new_number(slot->number));
        json_add(object, "start", json_new_hex(slot->gpa));
        json_add(object, "size", json_new_hex(slot->size_bytes));
        json_add(object, "log", json_new_bool((slot->flags & GM_SLOT_LOG) != 0));
        json_add(object, "readonly", json_new_bool((slot->flags & GM_SLOT_READONLY) != 0));
        json_add(object, "region", json_new_number(mapfile_region_of(slot->region)->id));
        json_add(object, "name", json_new_text(gm_region_name(slot->region)));
        json_add(object, "offset", json_new_hex(slot->offset));
        json_append(list, object);
    }
    return list;
}

static struct json_object *region_to_json(const struct mapfile_region *region)
{
    struct json_object *object = json_new_object();
    uint32_t flags = region->flags;

    json_add(object, "id", json_new_number(region->id));
    json_add(object, "name", json_new_text(region->name));
    json_add(object, "kind", json_new_text(show_kind(region->region)));
    json_add(object, "addr", json_new_hex(region->addr));
    json_add(object, "size", json_new_hex(region->size));
    json_add(object, "priority", json_new_signed(region->priority));
    json_add(object, "enabled", json_new_bool((flags & MAPFILE_ENABLED) != 0));
    json_add(object, "readonly", json_new_bool((flags & MAPFILE_READONLY) != 0));
    json_add(object, "nonvolatile", json_new_bool((flags & MAPFILE_NONVOLATILE) != 0));
    json_add(object, "romd", json_new_bool((flags & MAPFILE_ROMD) != 0));
    json_add(object, "parent", region->parent != NULL ? json_new_number(region->parent->id) : NULL);
    json_add(object, "target", region->target != NULL ? json_new_number(region->target->id) : NULL);
    json_add(object, "target_offset",
             region->target != NULL ? json_new_hex(region->target_offset) : NULL);
    return object;
}

struct json_object *show_regions_to_json(const struct mapfile *mapfile)
{
    struct json_object *list = json_new_array();
    size_t i;

    for (i = 0; i < mapfile->region_count; i++) {
        json_append(list, region_to_json(&mapfile->regions[i]));
    }
    return list;
}
