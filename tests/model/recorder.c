/* model/recorder.c - the book-keeping hypervisor. */
#include "model/recorder.h"

#include "model/require.h"

#include <string.h>

#define SLOTS_MAX 4096u

/* What was asked for, in the order in which a commit has to. */
enum step_kind { COALESCED_DEL, SLOT, COALESCED_ADD };

struct step {
    enum step_kind kind;
    struct gm_coalesced coalesced;
};

struct recorder {
    struct twin *twin;
    struct gm_slots *handle;
    int space;
    struct gm_slot slots[SLOTS_MAX]; /* by number; empty: size 0 */
    uint32_t end;                    /* above all numbers in use */
    struct model_run *runs;          /* as of the last check */
    size_t run_count;
    struct gm_slot *destroyed; /* since the last check */
    bool *destroyed_held;
    size_t destroyed_count;
    size_t destroyed_capacity;
    struct gm_coalesced *coalesced; /* ascending */
    size_t coalesced_count;
    size_t coalesced_capacity;
    struct model_shown *shown; /* coalesced ranges as of the last check */
    size_t shown_count;
    struct step *steps; /* since the last check */
    size_t step_count;
    size_t step_capacity;
    bool is_held;
    unsigned fail_nth;
    int fail_with;
    bool has_failed;
    uint64_t operations;
};

/* ---- the operations ---- */

static void note_step(struct recorder *recorder, enum step_kind kind, struct gm_coalesced coalesced)
{
    if (recorder->step_count == recorder->step_capacity) {
        recorder->step_capacity = recorder->step_capacity * 2 + 32;
        recorder->steps =
            realloc(recorder->steps, recorder->step_capacity * sizeof(*recorder->steps));
    }
    recorder->steps[recorder->step_count++] = (struct step){kind, coalesced};
}

static void note_slot(struct recorder *recorder)
{
    note_step(recorder, SLOT, (struct gm_coalesced){0, 0});
}

/* Counts one; true if it is the one that is to fail. */
static bool fails(struct recorder *recorder)
{
    recorder->operations++;
    if (recorder->fail_nth == 0 || --recorder->fail_nth > 0) {
        return false;
    }
    recorder->has_failed = true;
    return true;
}

static bool overlap(const struct gm_slot *a, const struct gm_slot *b)
{
    return a->gpa <= b->gpa + (b->size_bytes - 1) && b->gpa <= a->gpa + (a->size_bytes - 1);
}

static void check_new(const struct recorder *recorder, const struct gm_slot *slot)
{
    uint64_t at = gm_region_ram_offset(slot->region) + slot->offset;
    const uint8_t *block = gm_ram_hva(gm_region_ram(slot->region));
    uint32_t i;

    REQUIRE(slot->number < SLOTS_MAX && recorder->slots[slot->number].size_bytes == 0,
            "slot number %u is in use or too large", slot->number);
    REQUIRE(slot->size_bytes > 0 && (slot->gpa | slot->size_bytes | at) % 4096 == 0,
            "slot %u is not whole pages", slot->number);
    REQUIRE(slot->hva == (block != NULL ? (const void *)(block + at) : NULL),
            "slot %u has another host address than its region", slot->number);
    for (i = 0; i < recorder->end; i++) {
        REQUIRE(recorder->slots[i].size_bytes == 0 || !overlap(&recorder->slots[i], slot),
                "slot %u overlaps slot %u", slot->number, i);
    }
}

static int on_create(void *opaque, const struct gm_slot *slot)
{
    struct recorder *recorder = opaque;

    check_new(recorder, slot);
    if (fails(recorder)) {
        return recorder->fail_with;
    }
    note_slot(recorder);
    recorder->slots[slot->number] = *slot;
    recorder->end = recorder->end > slot->number ? recorder->end : slot->number + 1;
    return 0;
}

static void require_same(const struct recorder *recorder, const struct gm_slot *slot)
{
    const struct gm_slot *mine = &recorder->slots[slot->number];

    REQUIRE(slot->number < SLOTS_MAX && mine->size_bytes == slot->size_bytes &&
                mine->gpa == slot->gpa && mine->hva == slot->hva && mine->flags == slot->flags,
            "slot %u is not as it was created", slot->number);
}

static int on_destroy(void *opaque, const struct gm_slot *slot)
{
    struct recorder *recorder = opaque;

    require_same(recorder, slot);
    if (fails(recorder)) {
        return recorder->fail_with;
    }
    note_slot(recorder);
    if (recorder->destroyed_count == recorder->destroyed_capacity) {
        recorder->destroyed_capacity = recorder->destroyed_capacity * 2 + 32;
        recorder->destroyed = realloc(recorder->destroyed,
                                      recorder->destroyed_capacity * sizeof(*recorder->destroyed));
        recorder->destroyed_held =
            realloc(recorder->destroyed_held, recorder->destroyed_capacity * sizeof(bool));
    }
    recorder->destroyed[recorder->destroyed_count] = *slot;
    recorder->destroyed_held[recorder->destroyed_count] = recorder->is_held;
    recorder->destroyed_count++;
    memset(&recorder->slots[slot->number], 0, sizeof(*slot));
    return 0;
}

static int on_set_flags(void *opaque, const struct gm_slot *slot, uint32_t new_flags)
{
    struct recorder *recorder = opaque;

    require_same(recorder, slot);
    REQUIRE((slot->flags ^ new_flags) == GM_SLOT_LOG, "flags %x to %x", slot->flags, new_flags);
    if (fails(recorder)) {
        return recorder->fail_with;
    }
    note_slot(recorder);
    recorder->slots[slot->number].flags = new_flags;
    return 0;
}

static int on_hold(void *opaque)
{
    struct recorder *recorder = opaque;

    REQUIRE(!recorder->is_held, "held twice");
    if (fails(recorder)) {
        return recorder->fail_with;
    }
    note_slot(recorder);
    recorder->is_held = true;
    return 0;
}

static void on_release(void *opaque)
{
    struct recorder *recorder = opaque;

    REQUIRE(recorder->is_held, "released and not held");
    recorder->is_held = false;
}

static int on_log_fetch(void *opaque, const struct gm_slot *slot, uint64_t first_page,
                        uint64_t page_count, uint64_t *bitmap)
{
    struct recorder *recorder = opaque;

    (void)bitmap;
    require_same(recorder, slot);
    REQUIRE((slot->flags & GM_SLOT_LOG) != 0, "slot %u has no log", slot->number);
    REQUIRE(page_count > 0 && first_page + page_count <= slot->size_bytes / 4096,
            "pages outside of slot %u", slot->number);
    if (!fails(recorder)) {
        return 0;
    }
    recorder->has_failed = false; /* no reason to fail the commit: all pages count as dirty */
    return recorder->fail_with;
}

/* The place of the first coalesced range that ends at @address or behind it. */
static size_t place_of(const struct recorder *recorder, uint64_t address)
{
    size_t at = 0;

    while (at < recorder->coalesced_count && recorder->coalesced[at].last < address) {
        at++;
    }
    return at;
}

static int on_coalesced_add(void *opaque, uint64_t address, uint64_t last)
{
    struct recorder *recorder = opaque;
    size_t at = place_of(recorder, address);
    struct gm_coalesced *place;

    REQUIRE(address <= last &&
                (at == recorder->coalesced_count || recorder->coalesced[at].gpa > last),
            "coalesced [%llx, %llx] is empty, or over another one", (unsigned long long)address,
            (unsigned long long)last);
    if (fails(recorder)) {
        return recorder->fail_with;
    }
    note_step(recorder, COALESCED_ADD, (struct gm_coalesced){address, last});
    if (recorder->coalesced_count == recorder->coalesced_capacity) {
        recorder->coalesced_capacity = recorder->coalesced_capacity * 2 + 8;
        recorder->coalesced = realloc(recorder->coalesced,
                                      recorder->coalesced_capacity * sizeof(*recorder->coalesced));
    }
    place = &recorder->coalesced[at];
    memmove(place + 1, place, (recorder->coalesced_count - at) * sizeof(*place));
    *place = (struct gm_coalesced){address, last};
    recorder->coalesced_count++;
    return 0;
}

static int on_coalesced_del(void *opaque, uint64_t address, uint64_t last)
{
    struct recorder *recorder = opaque;
    size_t at = place_of(recorder, address);
    struct gm_coalesced *found = &recorder->coalesced[at];

    REQUIRE(at < recorder->coalesced_count && found->gpa == address && found->last == last,
            "coalesced [%llx, %llx] is not as it was added", (unsigned long long)address,
            (unsigned long long)last);
    if (fails(recorder)) {
        return recorder->fail_with;
    }
    note_step(recorder, COALESCED_DEL, *found);
    memmove(found, found + 1, (recorder->coalesced_count - at - 1) * sizeof(*found));
    recorder->coalesced_count--;
    return 0;
}

static const struct gm_backend_ops recorder_ops = {
    .size = sizeof(recorder_ops),
    .create = on_create,
    .destroy = on_destroy,
    .set_flags = on_set_flags,
    .hold = on_hold,
    .release = on_release,
    .log_fetch = on_log_fetch,
    .coalesced_add = on_coalesced_add,
    .coalesced_del = on_coalesced_del,
};

/* ---- checking ---- */

static int compare_slots(const void *a, const void *b)
{
    const struct gm_slot *left = a;
    const struct gm_slot *right = b;

    return left->gpa < right->gpa ? -1 : left->gpa > right->gpa;
}

/* The slots as runs, ascending. */
static size_t runs_of_slots(const struct recorder *recorder, struct model_run *runs)
{
    struct gm_slot *sorted = malloc((recorder->end + 1) * sizeof(*sorted));
    size_t slot_count = 0;
    size_t count = 0;
    size_t i;

    for (i = 0; i < recorder->end; i++) {
        if (recorder->slots[i].size_bytes != 0) {
            sorted[slot_count++] = recorder->slots[i];
        }
    }
    qsort(sorted, slot_count, sizeof(*sorted), compare_slots);
    for (i = 0; i < slot_count; i++) {
        const struct gm_slot *slot = &sorted[i];
        struct model_run run = {slot->gpa, slot->size_bytes,
                                twin_ram_index(recorder->twin, gm_region_ram(slot->region)),
                                gm_region_ram_offset(slot->region) + slot->offset, slot->flags};

        count = model_run_append(runs, count, run);
    }
    free(sorted);
    return count;
}

/* The part of @runs within [gpa, gpa + size). */
static size_t cut_runs(const struct model_run *runs, size_t count, const struct gm_slot *slot,
                       struct model_run *cut)
{
    gm_size_t slot_end = (gm_size_t)slot->gpa + slot->size_bytes;
    size_t found = 0;
    size_t i;

    for (i = 0; i < count; i++) {
        struct model_run run = runs[i];
        gm_size_t end = run.gpa + run.size;

        if (end <= slot->gpa || run.gpa >= slot_end) {
            continue;
        }
        if (run.gpa < slot->gpa) {
            run.ram_offset += slot->gpa - run.gpa;
            run.gpa = slot->gpa;
        }
        end = end < slot_end ? end : slot_end;
        run.size = end - run.gpa;
        run.flags &= ~GM_SLOT_LOG;
        found = model_run_append(cut, found, run);
    }
    return found;
}

/* Pages of @slot that are mapped alike before and after. */
static bool shares_pages(const struct model_run *a, const struct model_run *b)
{
    gm_size_t start = a->gpa > b->gpa ? a->gpa : b->gpa;
    gm_size_t end = a->gpa + a->size < b->gpa + b->size ? a->gpa + a->size : b->gpa + b->size;

    return start < end && a->ram == b->ram && a->flags == b->flags &&
           a->ram_offset - a->gpa == b->ram_offset - b->gpa;
}

/* Is only a part of the slot's memory logged from now on? Then the slot has to be split. */
static bool is_logged_in_part(const struct model_run *after, size_t count,
                              const struct gm_slot *slot)
{
    gm_size_t slot_end = (gm_size_t)slot->gpa + slot->size_bytes;
    bool has[2] = {false, false};
    size_t i;

    for (i = 0; i < count; i++) {
        if (after[i].gpa < slot_end && after[i].gpa + after[i].size > slot->gpa) {
            has[(after[i].flags & GM_SLOT_LOG) != 0] = true;
        }
    }
    return has[0] && has[1];
}

static void check_destroyed(const struct recorder *recorder, const struct model_run *after,
                            size_t after_count, size_t which)
{
    const struct gm_slot *slot = &recorder->destroyed[which];
    struct model_run *old = malloc((recorder->run_count + 1) * sizeof(*old));
    struct model_run *new = malloc((after_count + 1) * sizeof(*new));
    size_t old_count = cut_runs(recorder->runs, recorder->run_count, slot, old);
    size_t new_count = cut_runs(after, after_count, slot, new);
    bool same = old_count == new_count;
    bool stays = false;
    size_t i;
    size_t j;

    for (i = 0; i < old_count; i++) {
        for (j = 0; j < new_count; j++) {
            stays = stays || shares_pages(&old[i], &new[j]);
        }
        same = same && memcmp(&old[i].size, &new[i].size, sizeof(old[i].size)) == 0 &&
               shares_pages(&old[i], &new[i]);
    }
    REQUIRE(!same || is_logged_in_part(after, after_count, slot),
            "slot %u was destroyed, and all of it is still there", slot->number);
    REQUIRE(!stays || recorder->destroyed_held[which],
            "slot %u was destroyed without holding vCPUs, and some of it is still there",
            slot->number);
    free(old);
    free(new);
}

static void check_listing(struct recorder *recorder)
{
    struct gm_slot *listed = malloc(SLOTS_MAX * sizeof(*listed));
    size_t count = gm_slots_list(recorder->handle, listed, SLOTS_MAX);
    size_t mine = 0;
    size_t i;

    for (i = 0; i < recorder->end; i++) {
        mine += recorder->slots[i].size_bytes != 0;
    }
    REQUIRE(count == mine, "%zu slots are listed, not %zu", count, mine);
    for (i = 0; i < count; i++) {
        require_same(recorder, &listed[i]);
        REQUIRE(i == 0 || listed[i].number > listed[i - 1].number, "not by number");
    }
    free(listed);
}

/* Ranges to remove, slots, ranges to add: each once, the ranges by ascending address. */
static void check_steps(const struct recorder *recorder)
{
    size_t i;

    for (i = 1; i < recorder->step_count; i++) {
        const struct step *step = &recorder->steps[i];

        REQUIRE(step[-1].kind <= step->kind, "step %zu of kind %d comes after one of kind %d", i,
                (int)step->kind, (int)step[-1].kind);
        REQUIRE(step->kind == SLOT || step[-1].kind != step->kind ||
                    step[-1].coalesced.gpa < step->coalesced.gpa,
                "coalesced ranges do not ascend");
    }
}

/* Removing one that stays where it is, of the same part of the same region, costs a grace period for nothing. */
static void check_removed(const struct recorder *recorder, const struct gm_coalesced *removed,
                          const struct model_shown *after, size_t after_count)
{
    const struct model_shown *old = recorder->shown;
    size_t i;

    for (i = 0; i < recorder->shown_count && old[i].gpa != removed->gpa; i++) {
    }
    REQUIRE(i < recorder->shown_count, "what is removed did not show before");
    old += i;
    for (i = 0; i < after_count; i++) {
        REQUIRE(after[i].gpa != old->gpa || after[i].last != old->last ||
                    after[i].region != old->region || after[i].offset != old->offset,
                "coalesced [%llx, %llx] was removed, and is there as it was",
                (unsigned long long)old->gpa, (unsigned long long)old->last);
    }
}

static bool was_removed(const struct recorder *recorder, const struct model_shown *shown)
{
    size_t i;

    for (i = 0; i < recorder->step_count; i++) {
        const struct step *step = &recorder->steps[i];

        if (step->kind == COALESCED_DEL && step->coalesced.gpa == shown->gpa) {
            return true;
        }
    }
    return false;
}

/* What shows another region's, or another place of it, has to be removed first: it ends the old one's writes. */
static void check_replaced(const struct recorder *recorder, const struct model_shown *after,
                           size_t after_count)
{
    size_t before = 0;
    size_t i;

    for (i = 0; i < after_count; i++) {
        const struct model_shown *shown = &after[i];
        const struct model_shown *old;

        while (before < recorder->shown_count && recorder->shown[before].gpa < shown->gpa) {
            before++;
        }
        if (before == recorder->shown_count) {
            return;
        }
        old = &recorder->shown[before];
        REQUIRE(old->gpa != shown->gpa ||
                    (old->region == shown->region && old->offset == shown->offset) ||
                    was_removed(recorder, old),
                "coalesced [%llx, %llx] is another region's, and was not removed",
                (unsigned long long)old->gpa, (unsigned long long)old->last);
    }
}

static void check_coalesced(struct recorder *recorder, const struct model_view *view,
                            bool succeeded)
{
    struct model_shown *shown = malloc((view->count * MODEL_COALESCED_MAX + 1) * sizeof(*shown));
    size_t count = model_show_coalesced(&recorder->twin->model, view, shown);
    size_t i;

    REQUIRE(recorder->coalesced_count == count, "%zu coalesced ranges, not %zu",
            recorder->coalesced_count, count);
    for (i = 0; i < count; i++) {
        REQUIRE(recorder->coalesced[i].gpa == shown[i].gpa &&
                    recorder->coalesced[i].last == shown[i].last,
                "coalesced [%llx, %llx], not [%llx, %llx]",
                (unsigned long long)recorder->coalesced[i].gpa,
                (unsigned long long)recorder->coalesced[i].last, (unsigned long long)shown[i].gpa,
                (unsigned long long)shown[i].last);
    }
    if (succeeded) {
        check_steps(recorder);
        check_replaced(recorder, shown, count);
        for (i = 0; i < recorder->step_count; i++) {
            if (recorder->steps[i].kind == COALESCED_DEL) {
                check_removed(recorder, &recorder->steps[i].coalesced, shown, count);
            }
        }
    }
    recorder->step_count = 0;
    free(recorder->shown);
    recorder->shown = shown;
    recorder->shown_count = count;
}

void recorder_check(struct recorder *recorder, bool succeeded)
{
    const struct twin *twin = recorder->twin;
    const struct model_view *view = twin_view_of(twin, &twin->picture, recorder->space);
    struct model_run *wanted = malloc((view->count + 1) * sizeof(*wanted));
    struct model_run *runs = malloc((recorder->end + 1) * sizeof(*runs));
    size_t wanted_count = model_runs(&twin->model, view, wanted);
    size_t run_count = runs_of_slots(recorder, runs);
    size_t i;

    REQUIRE(!recorder->is_held, "vCPUs are still held");
    for (i = 0; i < wanted_count && i < run_count; i++) {
        REQUIRE(runs[i].gpa == wanted[i].gpa && runs[i].size == wanted[i].size &&
                    runs[i].ram == wanted[i].ram && runs[i].ram_offset == wanted[i].ram_offset &&
                    runs[i].flags == wanted[i].flags,
                "run %zu of slots is %llx+%llx block %d+%llx flags %x, not %llx+%llx %d+%llx %x", i,
                (unsigned long long)runs[i].gpa, (unsigned long long)runs[i].size, runs[i].ram,
                (unsigned long long)runs[i].ram_offset, runs[i].flags,
                (unsigned long long)wanted[i].gpa, (unsigned long long)wanted[i].size,
                wanted[i].ram, (unsigned long long)wanted[i].ram_offset, wanted[i].flags);
    }
    REQUIRE(run_count == wanted_count, "%zu runs of slots, not %zu", run_count, wanted_count);
    for (i = 0; succeeded && i < recorder->destroyed_count; i++) {
        check_destroyed(recorder, runs, run_count, i);
    }
    check_coalesced(recorder, view, succeeded);
    if (recorder->handle != NULL) {
        check_listing(recorder);
    }
    recorder->destroyed_count = 0;
    free(wanted);
    free(recorder->runs);
    recorder->runs = runs;
    recorder->run_count = run_count;
}

/* ---- life ---- */

struct recorder *recorder_new(struct twin *twin, int space, const struct gm_allocator *allocator)
{
    struct gm_backend_options options = {
        .size = sizeof(options), .max_slots = SLOTS_MAX, .allocator = allocator};
    struct recorder *recorder = calloc(1, sizeof(*recorder));
    int result;

    recorder->twin = twin;
    recorder->space = space;
    result = gm_slots_attach(twin->spaces[space], &options, &recorder_ops, recorder,
                             &recorder->handle, NULL);
    REQUIRE(result == 0, "attaching slots: %d", result);
    recorder_check(recorder, true);
    twin->recorders =
        realloc(twin->recorders, (twin->recorder_count + 1) * sizeof(struct recorder *));
    twin->recorders[twin->recorder_count++] = recorder;
    return recorder;
}

void recorder_free(struct recorder *recorder)
{
    struct twin *twin = recorder->twin;
    int result = gm_slots_detach(recorder->handle, NULL);
    size_t at = 0;
    uint32_t i;

    REQUIRE(result == 0, "detaching slots: %d", result);
    for (i = 0; i < recorder->end; i++) {
        REQUIRE(recorder->slots[i].size_bytes == 0, "slot %u is left", i);
    }
    REQUIRE(recorder->coalesced_count == 0, "%zu coalesced ranges are left",
            recorder->coalesced_count);
    while (twin->recorders[at] != recorder) {
        at++;
    }
    twin->recorders[at] = twin->recorders[--twin->recorder_count];
    if (twin->recorder_count == 0) {
        free(twin->recorders);
        twin->recorders = NULL;
    }
    free(recorder->runs);
    free(recorder->destroyed);
    free(recorder->destroyed_held);
    free(recorder->coalesced);
    free(recorder->shown);
    free(recorder->steps);
    free(recorder);
}

void recorder_fail(struct recorder *recorder, unsigned nth, int error)
{
    recorder->fail_nth = nth;
    recorder->fail_with = error;
    recorder->has_failed = false;
}

bool recorder_disarm(struct recorder *recorder)
{
    recorder->fail_nth = 0;
    return recorder->has_failed;
}

uint64_t recorder_operations(const struct recorder *recorder)
{
    return recorder->operations;
}

struct gm_slots *recorder_slots(struct recorder *recorder)
{
    return recorder->handle;
}
