/*
 * pc/reportjson.c - the report as one JSON object.
 */
#include "pc/report.h"

#include "json.h"

static struct json_object *ranges_to_json(const struct gm_view *view)
{
    struct json_object *ranges = json_new_array();
    struct gm_section section;
    size_t i;

    for (i = 0; gm_view_at(view, i, &section); i++) {
        struct json_object *range = json_new_object();

        json_add(range, "start", json_new_hex(section.gpa));
        json_add(range, "size", json_new_hex(gm_section_size(&section)));
        json_add(range, "kind", json_new_text(report_kind_name(&section)));
        json_add(range, "name", json_new_text(gm_region_name(section.region)));
        json_add(range, "offset", json_new_hex(section.offset));
        json_add(range, "readonly", json_new_bool((section.flags & GM_SECTION_READONLY) != 0));
        json_append(ranges, range);
    }
    return ranges;
}

static struct json_object *slots_to_json(const struct report *report)
{
    struct json_object *slots = json_new_array();
    size_t i;

    for (i = 0; i < report->slot_count; i++) {
        const struct gm_slot *slot = &report->slot[i];
        struct json_object *object = json_new_object();

        json_add(object, "number", json_new_number(slot->number));
        json_add(object, "start", json_new_hex(slot->gpa));
        json_add(object, "size", json_new_hex(slot->size_bytes));
        json_add(object, "log", json_new_bool((slot->flags & GM_SLOT_LOG) != 0));
        json_add(object, "readonly", json_new_bool((slot->flags & GM_SLOT_READONLY) != 0));
        json_add(object, "name", json_new_text(gm_region_name(slot->region)));
        json_add(object, "offset", json_new_hex(slot->offset));
        json_append(slots, object);
    }
    return slots;
}

static struct json_object *commits_to_json(const struct report *report)
{
    struct json_object *commits = json_new_object();

    json_add(commits, "total", json_new_number(report->map.commits));
    json_add(commits, "failed", json_new_number(report->map.failed_commits));
    json_add(commits, "building", json_new_number(report->result.built.commits));
    return commits;
}

static struct json_object *slot_changes_to_json(const struct report *report)
{
    const struct gm_slots_stats *slots = &report->slots;
    const struct gm_slots_stats *built = &report->result.built_slots;
    struct json_object *changes = json_new_object();

    json_add(changes, "create", json_new_number(slots->creates));
    json_add(changes, "delete", json_new_number(slots->destroys));
    json_add(changes, "flags", json_new_number(slots->flag_changes));
    json_add(changes, "untouched", json_new_number(slots->untouched_destroys));
    json_add(changes, "building",
             json_new_number(built->creates + built->destroys + built->flag_changes));
    json_add(changes, "holds", json_new_number(slots->holds));
    json_add(changes, "hold_ns", json_new_number(slots->hold_ns));
    json_add(changes, "max_hold_ns", json_new_number(slots->max_hold_ns));
    return changes;
}

static struct json_object *exits_to_json(const struct gm_vcpu_stats *exits)
{
    struct json_object *object = json_new_object();

    json_add(object, "port_reads", json_new_number(exits->port_reads));
    json_add(object, "port_writes", json_new_number(exits->port_writes));
    json_add(object, "mmio_reads", json_new_number(exits->mmio_reads));
    json_add(object, "mmio_writes", json_new_number(exits->mmio_writes));
    json_add(object, "interrupted", json_new_number(exits->interrupted));
    json_add(object, "other", json_new_number(exits->other));
    json_add(object, "unmapped", json_new_number(exits->unmapped));
    return object;
}

int report_print_json(const struct report *report)
{
    const struct pc_result *result = &report->result;
    struct json_object *root = json_new_object();

    json_add(root, "end", json_new_text(report_end_name(result->end)));
    json_add(root, "exit_value",
             result->end == PC_EXIT_PORT ? json_new_number(result->value) : NULL);
    json_add(root, "reason", report->reason[0] != '\0' ? json_new_text(report->reason) : NULL);
    json_add(root, "accel", json_new_text(report->is_soft ? "soft" : "kvm"));
    json_add(root, "run_ns", json_new_number(result->run_ns));
    json_add(root, "memory", json_new_hex(result->memory_bytes));
    json_add(root, "ranges", ranges_to_json(report->view));
    json_add(root, "slots", slots_to_json(report));
    json_add(root, "commits", commits_to_json(report));
    json_add(root, "slot_changes", slot_changes_to_json(report));
    json_add(root, "exits", exits_to_json(&result->exits));
    json_add(root, "dirty_pages",
             report->dirty_error == 0 ? json_new_number(report->dirty_pages) : NULL);
    return json_print(root);
}
