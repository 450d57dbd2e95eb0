/*
 * trace_commit.c - changes of slots: what each was, and which memory a commit took away and brought
 * back.
 */
#include "trace_commit.h"

#include "tool.h"

#include <linux/kvm.h>
#include <stdlib.h>

#define FLAGS_FIXED (~(uint32_t)KVM_MEM_LOG_DIRTY_PAGES)

/*
 * A thread that waits this long between two slot calls has ended one commit and begins another;
 * longer where the trace does not tell how much of that is the calls themselves.
 */
#define COMMIT_PAUSE_US 100000
#define COMMIT_PAUSE_UNSURE_US 1000000

/* One delete. It is kept while pieces of it may come back. */
struct trace_deletion {
    size_t user_count;
    uint64_t serial; /* of its event */
    uint64_t commit;
    struct trace_finding finding; /* as it will be if something comes back */
};

/* Memory that was deleted and has not been replaced since. */
struct piece {
    struct trace_range range;
    struct trace_deletion *deletion;
};

static void put_deletion(struct trace_deletion *deletion)
{
    if (--deletion->user_count == 0) {
        free(deletion);
    }
}

static void free_piece(void *item)
{
    struct piece *piece = item;

    put_deletion(piece->deletion);
    free(piece);
}

static void add_odd(struct trace_follow *follow, struct trace_vm *vm,
                    const struct trace_event *event, const char *why)
{
    struct trace_finding finding = trace_finding_of(follow, event, FINDING_ODD);

    finding.why = why;
    vm->counts.odd++;
    trace_finding_add(follow, &finding);
}

static void few_add(struct trace_few *few, uint32_t number)
{
    if (few->count < TRACE_FEW) {
        few->number[few->count] = number;
    }
    few->count++;
}

/* Which vCPUs have been in KVM_RUN since an event. */
static struct trace_few ran_since(const struct trace_vm *vm, uint64_t serial)
{
    struct trace_few few = {0};
    size_t i;

    for (i = 0; i < vm->vcpu_count; i++) {
        if (vm->vcpus[i].is_running || vm->vcpus[i].left > serial) {
            few_add(&few, vm->vcpus[i].number);
        }
    }
    return few;
}

/* ---- commits ---- */

static void tell_deletion(struct trace_follow *follow, struct trace_vm *vm,
                          const struct trace_finding *finding)
{
    struct trace_counts *counts = &vm->counts;

    counts->unchanged++;
    counts->unchanged_whole += finding->back_bytes - 1 == finding->last - finding->gpa;
    counts->unchanged_running += finding->ran.count > 0;
    counts->log_lost += finding->is_log_lost;
    counts->unchanged_bytes += finding->back_bytes;
    counts->gone_us_sum += finding->gone_us;
    counts->gone_us_max =
        finding->gone_us > counts->gone_us_max ? finding->gone_us : counts->gone_us_max;
    trace_finding_add(follow, finding);
}

enum which { ALL_DELETIONS, SETTLED_DELETIONS };

/* Tell what came back of the commit's deletes, and be done with them. */
static void tell_deletions(struct trace_follow *follow, struct trace_vm *vm, enum which which)
{
    struct trace_commit *commit = &vm->commit;
    size_t kept = 0;
    size_t i;

    for (i = 0; i < commit->deletion_count; i++) {
        struct trace_deletion *deletion = commit->deletions[i];

        if (which == SETTLED_DELETIONS && deletion->user_count > 1) {
            commit->deletions[kept++] = deletion; /* more of it can come back */
            continue;
        }
        if (deletion->finding.back_bytes > 0) {
            tell_deletion(follow, vm, &deletion->finding);
        }
        put_deletion(deletion);
    }
    commit->deletion_count = kept;
}

void trace_commit_end(struct trace_follow *follow, struct trace_vm *vm)
{
    struct trace_commit *commit = &vm->commit;

    if (!commit->is_open) {
        return;
    }
    tell_deletions(follow, vm, ALL_DELETIONS);
    trace_plan_commit(&vm->plan, &vm->by_gpa);
    vm->counts.commits += commit->changes > 0;
    commit->is_open = false;
}

/* A slot call goes on with the open commit, or begins one. */
void trace_commit_call(struct trace_follow *follow, struct trace_vm *vm,
                       const struct trace_event *event)
{
    struct trace_commit *commit = &vm->commit;
    bool is_exact = follow->trace->has_took && !follow->trace->is_coarse;
    uint64_t pause = is_exact ? COMMIT_PAUSE_US : COMMIT_PAUSE_UNSURE_US;

    if (commit->is_open &&
        (commit->tid != event->tid || vm->plan.damage.count > TRACE_DEPARTED_MAX ||
         (commit->has_time && event->has_time && event->begin_us > commit->last_us &&
          event->begin_us - commit->last_us > pause))) {
        trace_commit_end(follow, vm);
    }
    if (!commit->is_open) {
        commit->is_open = true;
        commit->tid = event->tid;
        commit->serial++;
        commit->changes = 0;
        commit->has_fetched = false;
    }
    commit->has_time = event->has_time;
    commit->last_us = event->end_us;
}

/* ---- slots ---- */

struct trace_slot *trace_slot_of(const struct trace_vm *vm, uint32_t as, uint32_t number)
{
    return trace_map_find(&vm->by_number, as, number);
}

static void end_life(struct trace_follow *follow, const struct trace_vm *vm,
                     const struct trace_slot *slot, uint64_t end_us, unsigned long end_line)
{
    if (follow->life_count == TRACE_LIVES_MAX) {
        follow->lives_left_out++;
        return;
    }
    follow->lives = tool_reserve(follow->lives, &follow->life_capacity, follow->life_count + 1,
                                 sizeof(follow->lives[0]));
    follow->lives[follow->life_count++] = (struct trace_life){
        .vm = vm->index,
        .range = slot->range,
        .number = slot->number,
        .begin_line = slot->line,
        .end_line = end_line,
        .begin_us = slot->time_us,
        .end_us = end_us,
    };
}

/* The slot is no longer there. It is still the caller's. */
static void unlink_slot(struct trace_follow *follow, struct trace_vm *vm, struct trace_slot *slot,
                        const struct trace_event *event)
{
    trace_plan_damage(&vm->plan, &slot->range);
    trace_map_remove(&vm->by_number, slot->range.as, slot->number);
    trace_map_remove(&vm->by_gpa, slot->range.as, slot->range.gpa);
    end_life(follow, vm, slot, event->end_us, follow->trace->lines.number);
}

static void link_slot(struct trace_vm *vm, struct trace_slot *slot)
{
    trace_plan_damage(&vm->plan, &slot->range);
    trace_map_set(&vm->by_number, slot->range.as, slot->number, slot);
    trace_map_set(&vm->by_gpa, slot->range.as, slot->range.gpa, slot);
    if (vm->by_gpa.count > vm->counts.slots_max) {
        vm->counts.slots_max = vm->by_gpa.count;
    }
}

/* Does the slot's log go unread? What it says since the last fetch is lost, if its memory stays. */
static bool is_log_lost(const struct trace_vm *vm, const struct trace_slot *slot)
{
    return (slot->range.flags & KVM_MEM_LOG_DIRTY_PAGES) != 0 && !vm->commit.has_fetched &&
           slot->log_commit != vm->commit.serial && vm->counts.rings_reset == 0;
}

/* Remember what was deleted, in case it comes back. */
static void depart(struct trace_follow *follow, struct trace_vm *vm,
                   const struct trace_event *event, const struct trace_slot *slot)
{
    struct trace_commit *commit = &vm->commit;
    struct trace_deletion *deletion = tool_alloc(sizeof(*deletion));
    struct piece *piece = tool_alloc(sizeof(*piece));

    deletion->finding = trace_finding_of(follow, event, FINDING_UNCHANGED);
    trace_finding_about(&deletion->finding, slot);
    deletion->finding.is_log_lost = is_log_lost(vm, slot);
    deletion->serial = follow->serial;
    deletion->commit = commit->serial;
    deletion->user_count = 2;
    commit->deletions = tool_reserve(commit->deletions, &commit->deletion_capacity,
                                     commit->deletion_count + 1, sizeof(commit->deletions[0]));
    commit->deletions[commit->deletion_count++] = deletion;
    *piece = (struct piece){slot->range, deletion};
    if (vm->departed.count >= TRACE_DEPARTED_MAX) {
        trace_map_fini(&vm->departed, free_piece);
    }
    if (commit->deletion_count >= 2 * TRACE_DEPARTED_MAX) {
        tell_deletions(follow, vm, SETTLED_DELETIONS);
    }
    trace_map_set(&vm->departed, slot->range.as, slot->range.gpa, piece);
}

/* A part of a deletion is there again: at once, or after a commit that went without it. */
static void come_back(struct trace_follow *follow, struct trace_vm *vm,
                      const struct trace_event *event, struct trace_deletion *deletion,
                      uint64_t size_bytes)
{
    bool is_at_once = deletion->commit == vm->commit.serial;
    struct trace_finding later = deletion->finding;
    struct trace_finding *finding = is_at_once ? &deletion->finding : &later;

    if (!is_at_once) {
        later.kind = FINDING_RETURNED;
        later.back_bytes = 0;
        later.back.count = 0;
    }
    finding->back_bytes += size_bytes;
    finding->back_line = follow->trace->lines.number;
    finding->ran = ran_since(vm, deletion->serial);
    few_add(&finding->back, event->slot);
    if (event->has_time && event->end_us > finding->time_us) {
        finding->gone_us = event->end_us - finding->time_us;
    }
    if (!is_at_once) {
        vm->counts.returned++;
        trace_finding_add(follow, &later);
    }
}

/* Cut the part [@gpa, @last] out of the piece at a place of @departed. */
static void cut_piece(struct trace_map *departed, size_t place, uint64_t gpa, uint64_t last)
{
    struct piece *piece = departed->entries[place].item;
    struct trace_range range = piece->range;

    if (range.last > last) {
        struct piece *rest = tool_alloc(sizeof(*rest));

        *rest = *piece;
        rest->range.gpa = last + 1;
        rest->range.hva += last + 1 - range.gpa;
        rest->deletion->user_count++;
        trace_map_set(departed, range.as, rest->range.gpa, rest);
    }
    if (range.gpa < gpa) {
        piece->range.last = gpa - 1;
    } else {
        trace_map_remove_at(departed, place);
        free_piece(piece);
    }
}

/* What a new slot brings back, and what it replaces. */
static void meet_departed(struct trace_follow *follow, struct trace_vm *vm,
                          const struct trace_event *event, const struct trace_slot *slot)
{
    const struct trace_range *range = &slot->range;
    struct trace_range *old;
    uint64_t next = range->gpa;

    while ((old = trace_ranges_at(&vm->departed, trace_ranges_from(&vm->departed, range->as, next),
                                  range->as, range->last)) != NULL) {
        struct trace_deletion *deletion = ((struct piece *)(void *)old)->deletion;
        uint64_t first = old->gpa > range->gpa ? old->gpa : range->gpa;
        uint64_t last = old->last < range->last ? old->last : range->last;

        if (!trace_range_differs(old, range)) {
            deletion->finding.is_merged |= first != range->gpa || last != range->last;
            come_back(follow, vm, event, deletion, last - first + 1);
        }
        cut_piece(&vm->departed, trace_ranges_from(&vm->departed, range->as, next), first, last);
        if (last == range->last) {
            break;
        }
        next = last + 1;
    }
}

static void delete_slot(struct trace_follow *follow, struct trace_vm *vm,
                        const struct trace_event *event, struct trace_slot *slot)
{
    unlink_slot(follow, vm, slot, event);
    depart(follow, vm, event, slot);
    vm->counts.deleted++;
    free(slot);
}

/* What the trace lets a new slot overlap has gone unseen. */
static void clear_place(struct trace_follow *follow, struct trace_vm *vm,
                        const struct trace_event *event, const struct trace_range *range)
{
    struct trace_range *other;

    while (
        (other = trace_ranges_at(&vm->by_gpa, trace_ranges_from(&vm->by_gpa, range->as, range->gpa),
                                 range->as, range->last)) != NULL) {
        struct trace_slot *slot = (struct trace_slot *)(void *)other;

        add_odd(follow, vm, event, "overlaps a slot whose end is not in the trace");
        unlink_slot(follow, vm, slot, event);
        free(slot);
    }
}

static void create_slot(struct trace_follow *follow, struct trace_vm *vm,
                        const struct trace_event *event, const struct trace_range *range)
{
    struct trace_slot *slot;

    clear_place(follow, vm, event, range);
    slot = tool_alloc(sizeof(*slot));
    *slot = (struct trace_slot){
        .range = *range,
        .number = event->slot,
        .line = follow->trace->lines.number,
        .has_time = event->has_time,
        .time_us = event->end_us,
    };
    link_slot(vm, slot);
    vm->counts.created++;
    meet_departed(follow, vm, event, slot);
}

static void move_slot(struct trace_follow *follow, struct trace_vm *vm,
                      const struct trace_event *event, struct trace_slot *slot,
                      const struct trace_range *range)
{
    struct trace_finding finding = trace_finding_of(follow, event, FINDING_MOVED);

    finding.old_gpa = slot->range.gpa;
    trace_finding_add(follow, &finding);
    unlink_slot(follow, vm, slot, event);
    clear_place(follow, vm, event, range);
    slot->range = *range;
    slot->line = follow->trace->lines.number;
    slot->time_us = event->end_us;
    link_slot(vm, slot);
    meet_departed(follow, vm, event, slot);
    vm->counts.moved++;
}

static void set_flags(struct trace_follow *follow, struct trace_vm *vm,
                      const struct trace_event *event, struct trace_slot *slot,
                      const struct trace_range *range)
{
    struct trace_finding finding = trace_finding_of(follow, event, FINDING_FLAGS);

    finding.old_flags = slot->range.flags;
    trace_finding_add(follow, &finding);
    if ((range->flags & KVM_MEM_LOG_DIRTY_PAGES) != 0) {
        vm->counts.log_on++;
    } else {
        vm->counts.log_off++;
    }
    slot->range.flags = range->flags;
    trace_plan_damage(&vm->plan, range);
    vm->counts.flags++;
}

/* KVM has done it: what it was. */
void trace_commit_change(struct trace_follow *follow, struct trace_vm *vm,
                         const struct trace_event *event)
{
    struct trace_slot *slot = trace_slot_of(vm, event->as, event->slot);
    struct trace_range range = {event->as, event->flags, event->gpa, 0, event->hva};

    if (event->size_bytes == 0) {
        if (slot == NULL) {
            add_odd(follow, vm, event, "deletes a slot whose creation is not in the trace");
        } else {
            delete_slot(follow, vm, event, slot);
        }
        return;
    }
    range.last = trace_finding_of(follow, event, FINDING_ODD).last;
    if (slot == NULL) {
        create_slot(follow, vm, event, &range);
    } else if (slot->range.last - slot->range.gpa != event->size_bytes - 1 ||
               slot->range.hva != event->hva ||
               ((slot->range.flags ^ event->flags) & FLAGS_FIXED) != 0) {
        add_odd(follow, vm, event, "is another slot of a number whose end is not in the trace");
        unlink_slot(follow, vm, slot, event);
        free(slot);
        create_slot(follow, vm, event, &range);
    } else if (slot->range.gpa != event->gpa) {
        move_slot(follow, vm, event, slot, &range);
    } else if (slot->range.flags != event->flags) {
        set_flags(follow, vm, event, slot, &range);
    } else {
        vm->counts.same++;
    }
}

void trace_commit_forget(struct trace_vm *vm)
{
    trace_map_fini(&vm->departed, free_piece);
    trace_plan_fini(&vm->plan);
}
