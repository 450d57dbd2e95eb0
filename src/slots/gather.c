/*
 * slots/gather.c - prepare: from what a commit tells to a plan, and all that carrying it out needs.
 */
#include "base/check.h"
#include "base/diag.h"
#include "ram/private.h"
#include "ram/watch.h"
#include "slots/slots.h"

#include <errno.h>

/* Changes of one commit that are planned on the stack. */
#define FEW_CHANGES 4u

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

    /* No hypervisor has private memory that is read-only: then the shared memory is all of a slot. */
    bool is_private = !is_readonly && ram_has_guest_memfd(gm_region_ram(section->region));

    return (is_readonly ? GM_SLOT_READONLY : 0) | (section->log_mask != 0 ? GM_SLOT_LOG : 0) |
           (is_private ? GM_SLOT_GUEST_MEMFD : 0);
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
        case GM_CHANGE_COALESCED_DEL:
        case GM_CHANGE_COALESCED_ADD:
            break;
        }
    }
    return sorted;
}

static int make_plan(struct gm_slots *slots, const struct gm_change *changes, size_t count,
                     struct gm_diag *diag)
{
    struct plan_section few[2 * FEW_CHANGES];
    struct plan_section *sections = few;
    struct plan_changes sorted;
    struct plan_input input = {&slots->set, &sorted, &slots->limits};
    int rc;

    if (count > FEW_CHANGES) {
        sections = mem_alloc(slots->plan_memory.scratch, 2 * count * sizeof(*sections));
    }
    if (sections == NULL) {
        return diag_set(diag, GM_DIAG_NO_MEMORY, -ENOMEM, "no memory for a plan of slots");
    }
    sorted = sort_changes(changes, count, sections, sections + count);
    rc = plan_init(&slots->plan, &input, &slots->plan_memory, diag);
    if (sections != few) {
        mem_free(slots->plan_memory.scratch, sections);
    }
    return rc;
}

/* Those of an io plan from @first to @end become ours. */
static void add_io_steps(struct gm_slots *slots, const struct io_plan *io, size_t first, size_t end)
{
    for (size_t i = first; i < end; i++) {
        slots->steps[slots->step_count] = (struct step){.kind = STEP_IO, .io = io->steps[i]};
        slots->step_count++;
    }
}

/* Removals come before vCPUs are held: a write exits meanwhile, and the old view, which is still there, answers it. */
static int add_slot_steps(struct gm_slots *slots, struct gm_diag *diag)
{
    const struct plan *plan = &slots->plan;

    for (size_t i = 0; i < plan->op_count; i++) {
        const struct plan_op *op = &plan->ops[i];

        slots->steps[slots->step_count] = (struct step){.kind = STEP_SLOT, .op = op};
        slots->step_count++;
        if (((op->slot->shown.flags | op->new_flags) & GM_SLOT_LOG) != 0 &&
            slots_reserve_log(slots, op->slot) != 0) {
            return diag_set(diag, GM_DIAG_NO_MEMORY, -ENOMEM,
                            "no memory for the dirty log of slot %u", op->slot->shown.number);
        }
    }
    return 0;
}

/* ---- discards of the memory that a slot maps ---- */

static void on_invalidate_begin(void *opaque, void *hva, uint64_t size_bytes)
{
    const struct gm_slots *slots = opaque;

    slots->ops.invalidate_begin(slots->opaque, hva, size_bytes);
}

static void on_invalidate_end(void *opaque, void *hva, uint64_t size_bytes)
{
    const struct gm_slots *slots = opaque;

    slots->ops.invalidate_end(slots->opaque, hva, size_bytes);
}

/*
 * Watch the blocks of slots that the plan creates, before they are; unwatch_creates() follows a
 * failure, too.
 */
static int watch_creates(struct gm_slots *slots, struct gm_diag *diag)
{
    static const struct ram_watch_ops OPS = {on_invalidate_begin, on_invalidate_end};

    for (size_t i = 0; i < slots->plan.op_count; i++) {
        const struct plan_op *op = &slots->plan.ops[i];

        if (op->kind != PLAN_CREATE || slots->ops.invalidate_begin == NULL ||
            op->slot->shown.hva == NULL) {
            continue;
        }
        op->slot->watch = ram_watch_get(op->slot->ram, &OPS, slots);
        if (op->slot->watch == NULL) {
            return diag_set(diag, GM_DIAG_NO_MEMORY, -ENOMEM,
                            "no memory for the watch of a RAM block");
        }
    }
    return 0;
}

/*
 * For those that were not created after all. Their regions are still referenced, or the commit
 * is under way.
 */
static void unwatch_creates(struct gm_slots *slots)
{
    for (size_t i = 0; i < slots->plan.op_count; i++) {
        const struct plan_op *op = &slots->plan.ops[i];

        if (op->kind == PLAN_CREATE && op->slot != NULL) {
            ram_watch_put(op->slot->watch);
        }
    }
}

/* The plan's operations with the eventfds' and coalesced ranges' around them. Room is there. */
static int add_all_steps(struct gm_slots *slots, const struct gm_change *changes, size_t count,
                         size_t io_room, struct gm_diag *diag)
{
    struct io_plan io = {0};
    int rc;

    io.steps = mem_alloc(slots->plan_memory.scratch, io_room * sizeof(*io.steps));
    if (io.steps == NULL) {
        return diag_set(diag, GM_DIAG_NO_MEMORY, -ENOMEM, "no memory for a plan of slots");
    }
    io_plan_fill(&io, &slots->ops, changes, count);
    add_io_steps(slots, &io, 0, io.del_count);
    rc = add_slot_steps(slots, diag);
    add_io_steps(slots, &io, io.del_count, io.count);
    mem_free(slots->plan_memory.scratch, io.steps);
    return rc;
}

/* The calls in order, and room for the logs that they drain. */
static int make_steps(struct gm_slots *slots, const struct gm_change *changes, size_t count,
                      struct gm_diag *diag)
{
    size_t io_room = io_plan_room(&slots->ops, changes, count);

    slots->step_count = 0;
    slots->steps_done = 0;
    slots->steps = mem_alloc(slots->plan_memory.scratch,
                             (slots->plan.op_count + io_room + 1) * sizeof(*slots->steps));
    if (slots->steps == NULL) {
        return diag_set(diag, GM_DIAG_NO_MEMORY, -ENOMEM, "no memory for a plan of slots");
    }
    return io_room == 0 ? add_slot_steps(slots, diag)
                        : add_all_steps(slots, changes, count, io_room, diag);
}

int slots_prepare(void *opaque, struct gm_space *space, const struct gm_change *changes,
                  size_t count, struct gm_diag *diag)
{
    struct gm_slots *slots = opaque;
    int rc;

    (void)space;
    GM_ASSERT(!slots->is_pending);
    if (slots->is_broken && !slots->is_detaching) {
        return diag_set(diag, GM_DIAG_SLOTS_UNKNOWN, -EIO,
                        "the hypervisor's slots are in an unknown state");
    }
    rc = make_plan(slots, changes, count, diag);
    if (rc != 0) {
        return rc;
    }
    rc = make_steps(slots, changes, count, diag);
    if (rc == 0) {
        rc = watch_creates(slots, diag);
    }
    if (rc != 0) {
        unwatch_creates(slots);
        plan_fini(&slots->plan, &slots->plan_memory);
        mem_free(slots->plan_memory.scratch, slots->steps);
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
    unwatch_creates(slots);
    for (size_t i = 0; i < slots->plan.op_count; i++) {
        if (slots->plan.ops[i].kind == PLAN_CREATE && slots->plan.ops[i].slot != NULL) {
            gm_region_put(slots->plan.ops[i].slot->shown.region);
        }
    }
    for (size_t i = 0; i < slots->plan.rebind_count; i++) {
        gm_region_put(slots->plan.rebinds[i].region);
    }
    plan_fini(&slots->plan, &slots->plan_memory);
    mem_free(slots->plan_memory.scratch, slots->steps);
    slots->steps = NULL;
    slots->step_count = 0;
    slots->is_pending = false;
}
