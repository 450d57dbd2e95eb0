/*
 * slots/plan.c - the planner. Four passes over what the commit touches, each ascending: what is
 * mentioned and wanted (windows, pieces), what becomes of each slot there (entries), what is then
 * still missing (fragments, runs), and the numbered operations.
 */
#include "slots/plan.h"

#include "base/check.h"
#include "base/diag.h"
#include "slots/draft.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

static int add_window(struct draft *draft, struct span span)
{
    struct span *last = draft->windows.items;

    if (span_is_empty(span)) {
        return 0;
    }
    if (draft->windows.count > 0) {
        last += draft->windows.count - 1;
        if (span.start <= last->end) {
            last->end = pos_max(last->end, span.end);
            return 0;
        }
    }
    last = draft_append(draft, &draft->windows, sizeof(*last));
    if (last == NULL) {
        return -ENOMEM;
    }
    *last = span;
    return 0;
}

/* The union of all that is mentioned: two ascending lists, merged. */
static int collect_windows(struct draft *draft, const struct plan_changes *changes)
{
    size_t gone = 0;
    size_t shown = 0;
    int rc = 0;

    while (rc == 0 && (gone < changes->gone_count || shown < changes->shown_count)) {
        bool take_gone = shown == changes->shown_count ||
                         (gone < changes->gone_count &&
                          changes->gone[gone].span.start <= changes->shown[shown].span.start);

        rc = add_window(draft, take_gone ? changes->gone[gone].span : changes->shown[shown].span);
        gone += take_gone ? 1 : 0;
        shown += take_gone ? 0 : 1;
    }
    return rc;
}

static bool is_eligible(const struct plan_section *section, const struct plan_limits *limits)
{
    uint64_t start = (uint64_t)section->span.start;
    uint64_t within_page = limits->page_bytes - 1;

    if (section->ram == NULL || ((section->flags & GM_SLOT_READONLY) != 0 && limits->no_readonly)) {
        return false;
    }
    if (((start - section->ram_offset) & within_page) != 0) {
        return false;
    }
    return section->hva == NULL || ((start - hva_of(section->hva).value) & within_page) == 0;
}

static int collect_pieces(struct draft *draft, const struct plan_changes *changes,
                          struct gm_diag *diag)
{
    const struct plan_limits *limits = draft->limits;

    for (size_t i = 0; i < changes->shown_count; i++) {
        const struct plan_section *section = &changes->shown[i];
        struct span pages = span_whole_pages(section->span, limits->page_bytes);
        struct plan_section *piece;

        if (!is_eligible(section, limits) || span_is_empty(pages)) {
            continue;
        }
        if (section->hva == NULL && limits->needs_hva) {
            return diag_set(diag, GM_DIAG_SLOTS_UNBACKED, -EINVAL,
                            "the RAM at %" PRIx64 " has no host memory, which the hypervisor needs",
                            (uint64_t)section->span.start);
        }
        if ((section->flags & GM_SLOT_GUEST_MEMFD) != 0 && !limits->takes_guest_memfd) {
            return diag_set(diag, GM_DIAG_SLOTS_GUEST_MEMFD, -EOPNOTSUPP,
                            "the RAM at %" PRIx64 " has a guest memfd, and this hypervisor takes "
                            "none (KVM_CAP_GUEST_MEMFD, KVM_CAP_USER_MEMORY2)",
                            (uint64_t)section->span.start);
        }
        piece = draft_append(draft, &draft->pieces, sizeof(*piece));
        if (piece == NULL) {
            return -ENOMEM;
        }
        *piece = section_clip(section, pages);
    }
    return 0;
}

/* Each slot that a window meets, once. */
static int collect_entries(struct draft *draft)
{
    const struct span *windows = draft->windows.items;
    struct draft_entry *entry = NULL;

    for (size_t i = 0; i < draft->windows.count; i++) {
        struct slot *slot = slot_set_first_ending_after(draft->set, windows[i].start);

        for (; slot != NULL && slot_span(slot).start < windows[i].end; slot = slot->next) {
            if (entry != NULL && entry->slot == slot) {
                continue;
            }
            entry = draft_append(draft, &draft->entries, sizeof(*entry));
            if (entry == NULL) {
                return -ENOMEM;
            }
            *entry = (struct draft_entry){.slot = slot};
        }
    }
    return 0;
}

/* Does @section show, where the two meet, the memory that @slot maps there? */
static bool shows_same_memory(const struct plan_section *section, const struct slot *slot)
{
    uint64_t start = (uint64_t)section->span.start;

    return section->ram == slot->ram &&
           start - section->ram_offset == slot->shown.gpa - slot->ram_offset;
}

static int note_rebind(struct draft *draft, struct slot *slot, const struct plan_section *piece)
{
    struct plan_rebind *rebind;
    struct plan_section at_slot;

    if (piece->region == slot->shown.region) {
        return 0;
    }
    rebind = draft_append(draft, &draft->rebinds, sizeof(*rebind));
    if (rebind == NULL) {
        return -ENOMEM;
    }
    at_slot = section_clip(piece, span_meet(piece->span, slot_span(slot)));
    *rebind = (struct plan_rebind){slot, at_slot.region, at_slot.region_offset};
    return 0;
}

/* How many bytes of a slot are what. */
struct tally {
    pos_t mentioned;
    pos_t wanted;   /* mentioned, and some memory is wanted there */
    pos_t same;     /* ... the same, with the same flags but for the log's */
    pos_t relogged; /* ... but another log flag */
};

static void set_verdict(struct draft *draft, struct draft_entry *entry, const struct tally *tally)
{
    pos_t size = span_size(slot_span(entry->slot));
    bool is_whole = tally->same == tally->mentioned;

    entry->new_flags = entry->slot->shown.flags;
    if (is_whole && tally->relogged == 0) {
        entry->verdict = VERDICT_KEEP;
    } else if (is_whole && tally->relogged == size) {
        entry->verdict = VERDICT_SET_FLAGS;
        entry->new_flags ^= GM_SLOT_LOG;
    } else {
        entry->verdict = VERDICT_DESTROY;
        entry->is_covered = tally->wanted > 0 || tally->mentioned < size;
        entry->is_untouched = tally->same > 0 || tally->mentioned < size;
        draft->destroy_count++;
    }
}

/* What becomes of each slot. Windows, pieces and entries all ascend, so cursors only go forward. */
static int judge_entries(struct draft *draft)
{
    const struct span *windows = draft->windows.items;
    const struct plan_section *pieces = draft->pieces.items;
    struct draft_entry *entries = draft->entries.items;
    size_t window = 0;
    size_t piece = 0;

    for (size_t i = 0; i < draft->entries.count; i++) {
        struct slot *slot = entries[i].slot;
        struct span span = slot_span(slot);
        const struct plan_section *first = NULL;
        struct tally tally = {0};

        for (; windows[window].end <= span.start; window++) {
        }
        for (size_t w = window; w < draft->windows.count && windows[w].start < span.end; w++) {
            tally.mentioned += span_size(span_meet(windows[w], span));
        }
        for (; piece < draft->pieces.count && pieces[piece].span.end <= span.start; piece++) {
        }
        for (size_t p = piece; p < draft->pieces.count && pieces[p].span.start < span.end; p++) {
            pos_t size = span_size(span_meet(pieces[p].span, span));
            uint32_t changed = pieces[p].flags ^ slot->shown.flags;
            bool is_same = shows_same_memory(&pieces[p], slot) && (changed & ~GM_SLOT_LOG) == 0;

            tally.wanted += size;
            tally.same += is_same ? size : 0;
            tally.relogged += is_same && (changed & GM_SLOT_LOG) != 0 ? size : 0;
            first = pieces[p].span.start <= span.start ? &pieces[p] : first;
        }
        set_verdict(draft, &entries[i], &tally);
        if (entries[i].verdict != VERDICT_DESTROY && first != NULL &&
            note_rebind(draft, slot, first) != 0) {
            return -ENOMEM;
        }
    }
    return 0;
}

/* Cut where slots must not cross, and add. */
static int add_fragment(struct draft *draft, const struct plan_section *section, struct span span,
                        const void *origin)
{
    pos_t unit = draft_border_unit(draft->limits);

    while (!span_is_empty(span)) {
        struct span part = {span.start, pos_min(span.end, (span.start / unit + 1) * unit)};
        struct draft_run *fragment = draft_append(draft, &draft->fragments, sizeof(*fragment));

        if (fragment == NULL) {
            return -ENOMEM;
        }
        fragment->section = section_clip(section, part);
        fragment->origin = origin;
        fragment->had_slot = false;
        span.start = part.end;
    }
    return 0;
}

/* Of each piece, what no kept slot holds. A kept slot lies within what is wanted (P-1). */
static int fragment_pieces(struct draft *draft)
{
    const struct draft_entry *entries = draft->entries.items;
    const struct plan_section *pieces = draft->pieces.items;
    size_t entry = 0;
    int rc = 0;

    for (size_t i = 0; rc == 0 && i < draft->pieces.count; i++) {
        struct span rest = pieces[i].span;

        for (; entry < draft->entries.count && slot_span(entries[entry].slot).end <= rest.start;
             entry++) {
        }
        for (size_t e = entry; rc == 0 && e < draft->entries.count; e++) {
            struct span span = slot_span(entries[e].slot);

            if (span.start >= rest.end) {
                break;
            }
            if (entries[e].verdict != VERDICT_DESTROY) {
                rc = add_fragment(draft, &pieces[i], (struct span){rest.start, span.start},
                                  &pieces[i]);
                rest.start = span.end;
            }
        }
        if (rc == 0) {
            rc = add_fragment(draft, &pieces[i], rest, &pieces[i]);
        }
    }
    return rc;
}

/* Of each deleted slot, what no window mentions: it stays as it is. */
static int fragment_remains(struct draft *draft)
{
    const struct draft_entry *entries = draft->entries.items;
    const struct span *windows = draft->windows.items;
    size_t window = 0;
    int rc = 0;

    for (size_t i = 0; rc == 0 && i < draft->entries.count; i++) {
        struct plan_section section = section_of_slot(entries[i].slot);
        struct span rest = section.span;

        for (; windows[window].end <= rest.start; window++) {
        }
        if (entries[i].verdict != VERDICT_DESTROY) {
            continue;
        }
        for (size_t w = window; rc == 0 && w < draft->windows.count; w++) {
            if (windows[w].start >= rest.end) {
                break;
            }
            rc = add_fragment(draft, &section, (struct span){rest.start, windows[w].start},
                              entries[i].slot);
            rest.start = windows[w].end;
        }
        if (rc == 0) {
            rc = add_fragment(draft, &section, rest, entries[i].slot);
        }
    }
    return rc;
}

/*
 * May a slot be created across the border between a run and the fragment after it? Within a
 * section, or where a slot was before. @before: the deleted slot that held memory on both sides, if
 * one did.
 */
static bool may_extend(const struct draft_run *run, const struct draft_run *fragment,
                       const struct slot *before, const struct plan_limits *limits)
{
    return section_continues(&run->section, &fragment->section, limits) &&
           (run->origin == fragment->origin || before != NULL);
}

/*
 * Fragments, ascending, into the longest runs. A hypervisor that cannot join must not be given in
 * one slot what was in two: there, fragments begin at the latest where such a slot begins.
 */
static int build_runs(struct draft *draft)
{
    const struct draft_entry *entries = draft->entries.items;
    const struct draft_run *fragments = draft->fragments.items;
    struct draft_run *run = NULL;
    size_t entry = 0;

    for (size_t i = 0; i < draft->fragments.count; i++) {
        const struct draft_run *fragment = &fragments[i];
        pos_t border = fragment->section.span.start;
        const struct slot *before = NULL;
        bool begins_slot = false;

        for (; entry < draft->entries.count && slot_span(entries[entry].slot).end <= border;
             entry++) {
        }
        if (entry < draft->entries.count && entries[entry].verdict == VERDICT_DESTROY) {
            pos_t start = slot_span(entries[entry].slot).start;

            before = start < border ? entries[entry].slot : NULL;
            begins_slot = start == border;
        }
        if (run != NULL && may_extend(run, fragment, before, draft->limits) &&
            !(draft->limits->no_join && begins_slot && run->had_slot)) {
            run->section.span.end = fragment->section.span.end;
            run->origin = fragment->origin;
            run->had_slot = run->had_slot || fragment->had_slot;
            continue;
        }
        run = draft_append(draft, &draft->runs, sizeof(*run));
        if (run == NULL) {
            return -ENOMEM;
        }
        *run = *fragment;
    }
    return 0;
}

/*
 * For no_join: cut fragments where a deleted slot of the same memory begins, and note who was in
 * one.
 */
static int cut_fragments_at_slots(struct draft *draft)
{
    const struct draft_entry *entries = draft->entries.items;
    size_t count = draft->fragments.count;
    size_t entry = 0;

    for (size_t i = 0; i < count; i++) {
        struct draft_run *fragment = (struct draft_run *)draft->fragments.items + i;
        struct draft_run whole = *fragment;
        struct span rest = whole.section.span;

        for (; entry < draft->entries.count && slot_span(entries[entry].slot).end <= rest.start;
             entry++) {
        }
        for (size_t e = entry; e < draft->entries.count; e++) {
            struct span span = slot_span(entries[e].slot);

            if (span.start >= rest.end) {
                break;
            }
            if (entries[e].verdict != VERDICT_DESTROY ||
                !shows_same_memory(&whole.section, entries[e].slot)) {
                continue;
            }
            if (span.start > rest.start) {
                fragment->section.span.end = span.start;
                rest.start = span.start;
                if (add_fragment(draft, &whole.section, rest, whole.origin) != 0) {
                    return -ENOMEM;
                }
                fragment = (struct draft_run *)draft->fragments.items + draft->fragments.count - 1;
            }
            fragment->had_slot = true;
        }
    }
    return 0;
}

static void sort_fragments(struct draft *draft)
{
    if (draft->fragments.count > 1) {
        qsort(draft->fragments.items, draft->fragments.count, sizeof(struct draft_run),
              draft_compare_runs);
    }
}

static int collect_runs(struct draft *draft)
{
    int rc = fragment_pieces(draft);

    if (rc == 0) {
        rc = fragment_remains(draft);
    }
    if (rc != 0) {
        return rc;
    }
    sort_fragments(draft);
    if (draft->limits->no_join) {
        rc = cut_fragments_at_slots(draft);
        if (rc != 0) {
            return rc;
        }
        sort_fragments(draft);
    }
    return build_runs(draft);
}

static int check_limits(struct draft *draft, struct gm_diag *diag)
{
    const struct draft_entry *entries = draft->entries.items;

    for (size_t i = 0; draft->limits->no_destroy && i < draft->entries.count; i++) {
        if (entries[i].verdict == VERDICT_DESTROY) {
            const struct gm_slot *slot = &entries[i].slot->shown;

            return diag_set(diag, GM_DIAG_SLOTS_NO_DESTROY, -EOPNOTSUPP,
                            "slot %" PRIu32 " at %" PRIx64 "+%" PRIx64
                            " would have to be deleted, which this hypervisor cannot do",
                            slot->number, slot->gpa, slot->size_bytes);
        }
    }
    return draft_slot_count(draft) > draft->set->max_slots ? draft_join(draft, diag) : 0;
}

/* Numbers that are free, ascending: those of deleted slots among those that nobody has. */
struct number_cursor {
    const struct slot_set *set;
    uint32_t *freed; /* ascending */
    size_t freed_count;
    size_t next_freed;
    uint32_t next_unused; /* SLOT_NUMBER_NONE: there are none */
};

static uint32_t take_number(struct number_cursor *cursor)
{
    uint32_t freed = cursor->next_freed < cursor->freed_count ? cursor->freed[cursor->next_freed]
                                                              : SLOT_NUMBER_NONE;
    uint32_t unused = cursor->next_unused;

    if (freed < unused) {
        cursor->next_freed++;
        return freed;
    }
    GM_ASSERT(unused != SLOT_NUMBER_NONE);
    cursor->next_unused = slot_set_free_number(cursor->set, unused + 1);
    return unused;
}

static int compare_numbers(const void *a, const void *b)
{
    uint32_t left = *(const uint32_t *)a;
    uint32_t right = *(const uint32_t *)b;

    return left < right ? -1 : left > right;
}

/* Does the operation take a log from a logged slot? Then it has to be drained first. */
static bool ends_log(const struct draft_entry *entry)
{
    return (entry->slot->shown.flags & GM_SLOT_LOG) != 0 &&
           (entry->verdict == VERDICT_DESTROY || (entry->new_flags & GM_SLOT_LOG) == 0);
}

static void emit_entries(struct plan *plan, const struct draft *draft, enum verdict verdict,
                         struct number_cursor *numbers)
{
    const struct draft_entry *entries = draft->entries.items;

    for (size_t i = 0; i < draft->entries.count; i++) {
        const struct draft_entry *entry = &entries[i];

        if (entry->verdict != verdict) {
            continue;
        }
        plan->ops[plan->op_count] = (struct plan_op){
            .kind = verdict == VERDICT_DESTROY ? PLAN_DESTROY : PLAN_SET_FLAGS,
            .slot = entry->slot,
            .new_flags = entry->new_flags,
            .untouched = entry->is_untouched,
        };
        plan->op_count++;
        plan->needs_hold = plan->needs_hold || entry->is_covered || ends_log(entry);
        if (verdict == VERDICT_DESTROY) {
            numbers->freed[numbers->freed_count] = entry->slot->shown.number;
            numbers->freed_count++;
        }
    }
}

static int emit_creates(struct plan *plan, const struct draft *draft, struct number_cursor *numbers,
                        const struct gm_allocator *allocator)
{
    const struct draft_run *runs = draft->runs.items;

    for (size_t i = 0; i < draft->runs.count; i++) {
        const struct plan_section *section = &runs[i].section;
        struct slot *slot = mem_zalloc(allocator, sizeof(*slot));

        if (slot == NULL) {
            return -ENOMEM;
        }
        slot->shown = (struct gm_slot){
            .number = take_number(numbers),
            .flags = section->flags,
            .gpa = (gm_gpa_t)section->span.start,
            .size_bytes = (uint64_t)span_size(section->span),
            .hva = section->hva,
            .region = section->region,
            .offset = section->region_offset,
        };
        slot->ram = section->ram;
        slot->ram_offset = section->ram_offset;
        plan->ops[plan->op_count] = (struct plan_op){.kind = PLAN_CREATE, .slot = slot};
        plan->op_count++;
    }
    return 0;
}

static int emit(struct plan *plan, struct draft *draft, const struct plan_memory *memory)
{
    size_t most_ops = draft->entries.count + draft->runs.count;
    struct number_cursor numbers = {
        .set = draft->set,
        .next_unused = slot_set_free_number(draft->set, 0),
    };

    plan->rebinds = draft->rebinds.items;
    plan->rebind_count = draft->rebinds.count;
    draft->rebinds.items = NULL;
    plan->joins = draft->joins;
    /* The numbers, which are needed for the moment only, lie behind the operations. */
    plan->ops = mem_alloc(draft->allocator, (most_ops + 1) * sizeof(*plan->ops) +
                                                draft->destroy_count * sizeof(*numbers.freed));
    if (plan->ops == NULL) {
        return -ENOMEM;
    }
    numbers.freed = (uint32_t *)(plan->ops + most_ops);
    emit_entries(plan, draft, VERDICT_DESTROY, &numbers);
    emit_entries(plan, draft, VERDICT_SET_FLAGS, &numbers);
    if (numbers.freed_count > 1) {
        qsort(numbers.freed, numbers.freed_count, sizeof(*numbers.freed), compare_numbers);
    }
    return emit_creates(plan, draft, &numbers, memory->slots);
}

int plan_init(struct plan *plan, const struct plan_input *input, const struct plan_memory *memory,
              struct gm_diag *diag)
{
    struct draft draft;
    int rc;

    draft_begin(&draft, input->set, input->limits, memory->scratch);
    rc = collect_windows(&draft, input->changes);
    *plan = (struct plan){0};
    if (rc == 0) {
        rc = collect_pieces(&draft, input->changes, diag);
    }
    if (rc == 0) {
        rc = collect_entries(&draft);
    }
    if (rc == 0) {
        rc = judge_entries(&draft);
    }
    if (rc == 0) {
        rc = collect_runs(&draft);
    }
    if (rc == 0) {
        rc = check_limits(&draft, diag);
    }
    if (rc == 0) {
        rc = emit(plan, &draft, memory);
    }
    draft_end(&draft);
    if (rc != 0) {
        plan_fini(plan, memory);
    }
    return rc == -ENOMEM ? diag_set(diag, GM_DIAG_NO_MEMORY, rc, "no memory for a plan of slots")
                         : rc;
}

void plan_fini(struct plan *plan, const struct plan_memory *memory)
{
    for (size_t i = 0; i < plan->op_count; i++) {
        if (plan->ops[i].kind == PLAN_CREATE) {
            mem_free(memory->slots, plan->ops[i].slot);
        }
    }
    mem_free(memory->scratch, plan->ops);
    mem_free(memory->scratch, plan->rebinds);
    *plan = (struct plan){0};
}
