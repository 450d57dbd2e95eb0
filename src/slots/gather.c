/*
 * slots/gather.c - prepare: from what a commit tells to a plan, and all that carrying it out needs.
 */
#include "base/check.h"
#include "base/diag.h"
#include "slots/slots.h"

#include <errno.h>

static bool is_mappable(const struct gm_section *section)
{
    switch (gm_region_kind(section->region)) {
    case GM_REGION_RAM:
    case GM_REGION_ROM:
    case GM_REGION_RAM_DEVICE:
        return true;
    case GM_REGION_ROM_DEVICE:
        return (section->flags & GM_SECTION_ROMD) != 0;
    default:
        return false;
    }
}

static uint32_t slot_flags(const struct gm_section *section)
{
    enum gm_region_kind kind = gm_region_kind(section->region);
    bool is_readonly = (section->flags & GM_SECTION_READONLY) != 0 || kind == GM_REGION_ROM_DEVICE;

    return (is_readonly ? GM_SLOT_READONLY : 0) | (section->log_mask != 0 ? GM_SLOT_LOG : 0);
}

static struct plan_section plan_section_of(const struct gm_section *section)
{
    struct plan_section planned = {.span = {section->gpa, (pos_t)section->last + 1}};

    if (is_mappable(section)) {
        planned.ram = gm_region_ram(section->region);
        planned.ram_offset = gm_region_ram_offset(section->region) + section->offset;
        planned.region = section->region;
        planned.region_offset = section->offset;
        planned.hva = section->hva;
        planned.flags = slot_flags(section);
    }
    return planned;
}

/*
 * A change of log clients comes after its section was told, or alone: the new mask is what counts.
 */
static void note_log(struct plan_changes *changes, struct plan_section *shown,
                     const struct gm_change *change)
{
    struct plan_section section = plan_section_of(&change->section);
    struct plan_section *last = shown + changes->shown_count - 1;

    section.flags &= ~GM_SLOT_LOG;
    section.flags |= change->new_mask != 0 && section.ram != NULL ? GM_SLOT_LOG : 0;
    if (changes->shown_count > 0 && last->span.start == section.span.start) {
        *last = section;
        return;
    }
    shown[changes->shown_count] = section;
    changes->shown_count++;
}

/* Sort the changes into the planner's two lists. Each array has room for all of them. */
static struct plan_changes sort_changes(const struct gm_change *changes, size_t count,
                                        struct plan_section *gone, struct plan_section *shown)
{
    struct plan_changes sorted = {.gone = gone, .shown = shown};

    for (size_t i = 0; i < count; i++) {
        switch (changes[i].kind) {
        case GM_CHANGE_DEL:
            gone[sorted.gone_count] = plan_section_of(&changes[i].section);
            sorted.gone_count++;
            break;
        case GM_CHANGE_NOP:
        case GM_CHANGE_ADD:
            shown[sorted.shown_count] = plan_section_of(&changes[i].section);
            sorted.shown_count++;
            break;
        case GM_CHANGE_LOG_START:
        case GM_CHANGE_LOG_STOP:
            note_log(&sorted, shown, &changes[i]);
            break;
        case GM_CHANGE_EVENTFD_DEL:
        case GM_CHANGE_EVENTFD_ADD:
            break;
        }
    }
    return sorted;
}

static int make_plan(struct gm_slots *slots, const struct gm_change *changes, size_t count,
                     struct gm_diag *diag)
{
    struct plan_section *sections =
        mem_alloc(&slots->allocator, (2 * count + 1) * sizeof(*sections));
    struct plan_changes sorted;
    struct plan_input input = {&slots->set, &sorted, &slots->limits};
    int rc;

    if (sections == NULL) {
        return diag_set(diag, -ENOMEM, "no memory for a plan of slots");
    }
    sorted = sort_changes(changes, count, sections, sections + count);
    rc = plan_init(&slots->plan, &input, &slots->allocator, diag);
    mem_free(&slots->allocator, sections);
    return rc;
}

static void add_eventfd_steps(struct gm_slots *slots, const struct gm_change *changes, size_t count,
                              enum gm_change_kind kind)
{
    bool is_add = kind == GM_CHANGE_EVENTFD_ADD;

    if (slots->ops.eventfd_add == NULL) {
        return;
    }
    for (size_t i = 0; i < count; i++) {
        if (changes[i].kind == kind) {
            slots->steps[slots->step_count] = (struct step){
                .kind = is_add ? STEP_EVENTFD_ADD : STEP_EVENTFD_DEL,
                .eventfd = changes[i].eventfd,
            };
            slots->step_count++;
        }
    }
}

/* The calls in order, and room for the logs that they drain. */
static int make_steps(struct gm_slots *slots, const struct gm_change *changes, size_t count,
                      struct gm_diag *diag)
{
    const struct plan *plan = &slots->plan;

    slots->step_count = 0;
    slots->steps_done = 0;
    slots->steps =
        mem_alloc(&slots->allocator, (plan->op_count + count + 1) * sizeof(*slots->steps));
    if (slots->steps == NULL) {
        return diag_set(diag, -ENOMEM, "no memory for a plan of slots");
    }
    add_eventfd_steps(slots, changes, count, GM_CHANGE_EVENTFD_DEL);
    for (size_t i = 0; i < plan->op_count; i++) {
        const struct plan_op *op = &plan->ops[i];

        slots->steps[slots->step_count] = (struct step){.kind = STEP_SLOT, .op = op};
        slots->step_count++;
        if (((op->slot->shown.flags | op->new_flags) & GM_SLOT_LOG) != 0 &&
            slots_reserve_log(slots, op->slot) != 0) {
            return diag_set(diag, -ENOMEM, "no memory for the dirty log of slot %u",
                            op->slot->shown.number);
        }
    }
    add_eventfd_steps(slots, changes, count, GM_CHANGE_EVENTFD_ADD);
    return 0;
}

int slots_prepare(void *opaque, struct gm_space *space, const struct gm_change *changes,
                  size_t count, struct gm_diag *diag)
{
    struct gm_slots *slots = opaque;
    int rc;

    (void)space;
    GM_ASSERT(!slots->is_pending);
    if (slots->is_broken && !slots->is_detaching) {
        return diag_set(diag, -EIO, "the hypervisor's slots are in an unknown state");
    }
    rc = make_plan(slots, changes, count, diag);
    if (rc != 0) {
        return rc;
    }
    rc = make_steps(slots, changes, count, diag);
    if (rc != 0) {
        plan_fini(&slots->plan, &slots->allocator);
        mem_free(&slots->allocator, slots->steps);
        return rc;
    }
    for (size_t i = 0; i < slots->plan.op_count; i++) {
        if (slots->plan.ops[i].kind == PLAN_CREATE) {
            gm_region_get(slots->plan.ops[i].slot->shown.region);
        }
    }
    for (size_t i = 0; i < slots->plan.rebind_count; i++) {
        gm_region_get(slots->plan.rebinds[i].region);
    }
    slots->is_pending = true;
    return 0;
}

void slots_drop_plan(struct gm_slots *slots)
{
    if (!slots->is_pending) {
        return;
    }
    for (size_t i = 0; i < slots->plan.op_count; i++) {
        if (slots->plan.ops[i].kind == PLAN_CREATE && slots->plan.ops[i].slot != NULL) {
            gm_region_put(slots->plan.ops[i].slot->shown.region);
        }
    }
    for (size_t i = 0; i < slots->plan.rebind_count; i++) {
        gm_region_put(slots->plan.rebinds[i].region);
    }
    plan_fini(&slots->plan, &slots->allocator);
    mem_free(&slots->allocator, slots->steps);
    slots->steps = NULL;
    slots->step_count = 0;
    slots->is_pending = false;
}
