/*
 * prop/test_plan_model.c - the planner against a slow model: a small space as a table of pages, on
 * which a random view is edited again and again. After each edit the plan is carried out on the
 * table, one operation at a time, and each rule of slots/plan.h is worked out anew, page by page.
 */
#include "slots/plan.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#define PAGE 4096u
#define PAGES 48u
#define MAX_SECTIONS (PAGES * 4)
#define MAX_SLOTS 64u

static uint64_t random_state;

static uint64_t random_below(uint64_t bound)
{
    uint64_t mixed;

    random_state += 0x9e3779b97f4a7c15u;
    mixed = (random_state ^ (random_state >> 30)) * 0xbf58476d1ce4e5b9u;
    mixed = (mixed ^ (mixed >> 27)) * 0x94d049bb133111ebu;
    return (mixed ^ (mixed >> 31)) % bound;
}

static void random_seed(void)
{
    const char *given = getenv("GM_SEED");

    random_state = given != NULL ? strtoull(given, NULL, 0) : (uint64_t)time(NULL);
    print_message("GM_SEED=%llu\n", (unsigned long long)random_state);
}

/* A view's section; the n-th section ever made has id n, so that "the same section" can be told. */
struct section {
    uint64_t start;
    uint64_t end;
    unsigned ram; /* 0: MMIO */
    uint64_t ram_offset;
    uint32_t flags;
    uint64_t id;
};

/* What a page is wanted to be, or is. */
struct page {
    unsigned ram; /* 0: no slot */
    uint64_t ram_offset;
    uint32_t flags;
    uint64_t id;       /* of the section, for what is wanted */
    struct slot *slot; /* for what is */
};

struct world {
    struct section sections[MAX_SECTIONS];
    size_t section_count;
    uint64_t next_id;
    struct section before[MAX_SECTIONS];
    size_t before_count;

    struct page wanted[PAGES];
    struct page is[PAGES];
    struct slot_set set;
    struct plan_limits limits;

    struct plan_section gone[MAX_SECTIONS];
    struct plan_section shown[MAX_SECTIONS];
    struct plan_changes changes;
    uint64_t base; /* where the pages lie: also just below 2^64 */
    unsigned join_chance;
};

static struct gm_ram *ram_pointer(unsigned ram)
{
    return (struct gm_ram *)(uintptr_t)(ram * 0x1000u);
}

static unsigned ram_of(const struct gm_ram *ram)
{
    return (unsigned)((uintptr_t)ram / 0x1000u);
}

/* ---- views ---- */

static bool same_content(const struct section *a, const struct section *b)
{
    return a->start == b->start && a->end == b->end && a->ram == b->ram &&
           (a->ram == 0 || a->ram_offset == b->ram_offset) &&
           (a->flags & GM_SLOT_READONLY) == (b->flags & GM_SLOT_READONLY);
}

static bool merges(const struct section *a, const struct section *b)
{
    return a->end == b->start && a->ram != 0 && a->ram == b->ram && a->flags == b->flags &&
           a->ram_offset + (a->end - a->start) == b->ram_offset;
}

static void push(struct world *world, struct section section, bool may_merge)
{
    struct section *last = &world->sections[world->section_count];

    if (section.start >= section.end) {
        return;
    }
    if (may_merge && world->section_count > 0 && merges(last - 1, &section)) {
        last[-1].end = section.end;
        last[-1].id = world->next_id++;
        return;
    }
    *last = section;
    world->section_count++;
}

static struct section cut(struct section section, uint64_t start, uint64_t end)
{
    struct section piece = section;

    piece.start = section.start > start ? section.start : start;
    piece.end = section.end < end ? section.end : end;
    piece.ram_offset += piece.start - section.start;
    return piece;
}

/* Put a new section, or a hole, over [start, end). */
static void paint(struct world *world, uint64_t start, uint64_t end, struct section *new_section)
{
    bool may_merge = random_below(4) != 0; /* not all that could merge do: unmergeable regions */
    size_t i;

    memcpy(world->before, world->sections, sizeof(world->before));
    world->before_count = world->section_count;
    world->section_count = 0;
    for (i = 0; i < world->before_count && world->before[i].start < start; i++) {
        struct section left = cut(world->before[i], 0, start);

        if (left.end != world->before[i].end) {
            left.id = world->next_id++;
        }
        push(world, left, false);
    }
    if (new_section != NULL) {
        push(world, *new_section, may_merge);
    }
    for (i = 0; i < world->before_count; i++) {
        struct section right = world->before[i];

        if (right.end <= end) {
            continue;
        }
        right = cut(right, end, UINT64_MAX);
        if (right.start != world->before[i].start) {
            right.id = world->next_id++;
        }
        push(world, right, may_merge && right.start == end);
    }
}

static uint64_t random_border(void)
{
    uint64_t page = random_below(PAGES + 1) * PAGE;

    return random_below(8) == 0 && page < PAGES * PAGE ? page + random_below(PAGE) : page;
}

static void random_edit(struct world *world)
{
    uint64_t a = random_border();
    uint64_t b = random_border();
    uint64_t start = a < b ? a : b;
    uint64_t end = a < b ? b : a;
    struct section section = {.start = start, .end = end, .id = world->next_id++};
    uint64_t what = random_below(10);

    if (what >= 3 && world->section_count > 0 && random_below(2) == 0) {
        /* Other flags for a whole section: romd, readonly, log. */
        section = world->sections[random_below(world->section_count)];
        if (random_below(3) == 0) {
            section = cut(section, start, end > start ? end : section.end);
        }
        section.flags ^= random_below(3) == 0 ? GM_SLOT_READONLY : GM_SLOT_LOG;
        section.flags = section.ram != 0 ? section.flags : 0;
        section.id = world->next_id++;
        if (section.start >= section.end) {
            return;
        }
    } else if (what == 0) {
        paint(world, start, end, NULL);
        return;
    } else if (what >= 2) {
        section.ram = 1 + (unsigned)random_below(2);
        section.ram_offset = start + (1u << 20) + (random_below(6) == 0 ? PAGE : 0) +
                             (random_below(16) == 0 ? 512 : 0);
        section.flags = (random_below(5) == 0 ? GM_SLOT_READONLY : 0) |
                        (random_below(5) == 0 ? GM_SLOT_LOG : 0);
    }
    paint(world, section.start, section.end, &section);
}

static struct plan_section planned(const struct world *world, const struct section *section)
{
    pos_t base = (pos_t)world->base;

    return (struct plan_section){
        .span = {base + (pos_t)section->start, base + (pos_t)section->end},
        .ram = section->ram != 0 ? ram_pointer(section->ram) : NULL,
        .ram_offset = section->ram_offset,
        .region = (struct gm_region *)ram_pointer(section->ram),
        .region_offset = section->ram_offset,
        .hva = (uint8_t *)(uintptr_t)(section->ram_offset + ((uint64_t)section->ram << 32)),
        .flags = section->flags,
    };
}

/* What a listener is told: what is gone, what is new or logs differently, and some of the rest. */
static void diff(struct world *world)
{
    size_t i;
    size_t j;

    world->changes = (struct plan_changes){.gone = world->gone, .shown = world->shown};
    for (i = 0; i < world->before_count; i++) {
        for (j = 0; j < world->section_count; j++) {
            if (same_content(&world->before[i], &world->sections[j])) {
                break;
            }
        }
        if (j == world->section_count) {
            world->gone[world->changes.gone_count++] = planned(world, &world->before[i]);
        }
    }
    for (i = 0; i < world->section_count; i++) {
        bool is_known = false;

        for (j = 0; j < world->before_count; j++) {
            is_known = is_known || (same_content(&world->before[j], &world->sections[i]) &&
                                    world->before[j].flags == world->sections[i].flags);
        }
        if (!is_known || random_below(4) == 0) {
            world->shown[world->changes.shown_count++] = planned(world, &world->sections[i]);
        }
    }
}

/* ---- what is wanted ---- */

static void want_pages(struct world *world)
{
    memset(world->wanted, 0, sizeof(world->wanted));
    for (uint64_t page = 0; page < PAGES; page++) {
        for (size_t i = 0; i < world->section_count; i++) {
            const struct section *section = &world->sections[i];
            bool is_within = section->start <= page * PAGE && section->end >= (page + 1) * PAGE;

            if (!is_within || section->ram == 0 ||
                (section->start - section->ram_offset) % PAGE != 0 ||
                (world->limits.no_readonly && (section->flags & GM_SLOT_READONLY) != 0)) {
                continue;
            }
            world->wanted[page] = (struct page){
                .ram = section->ram,
                .ram_offset = section->ram_offset + (page * PAGE - section->start),
                .flags = section->flags,
                .id = section->id,
            };
        }
    }
}

static bool same_memory(const struct page *a, const struct page *b)
{
    return a->ram != 0 && a->ram == b->ram && a->ram_offset == b->ram_offset;
}

static bool same_but_log(const struct page *a, const struct page *b)
{
    return same_memory(a, b) && (a->flags & GM_SLOT_READONLY) == (b->flags & GM_SLOT_READONLY);
}

/* Does page @b continue page @a before it, in memory and flags? */
static bool continues(const struct page *a, const struct page *b)
{
    return a->ram != 0 && a->ram == b->ram && a->ram_offset + PAGE == b->ram_offset &&
           a->flags == b->flags;
}

static void slot_pages(const struct world *world, const struct slot *slot, unsigned *first,
                       unsigned *end)
{
    *first = (unsigned)((slot->shown.gpa - world->base) / PAGE);
    *end = *first + (unsigned)(slot->shown.size_bytes / PAGE);
}

enum fate { KEPT, REFLAGGED, DESTROYED };

/* What has to become of a slot if numbers suffice. */
static enum fate fate_of(const struct world *world, const struct slot *slot)
{
    unsigned first;
    unsigned end;
    unsigned relogged = 0;

    slot_pages(world, slot, &first, &end);
    for (unsigned page = first; page < end; page++) {
        if (!same_but_log(&world->is[page], &world->wanted[page])) {
            return DESTROYED;
        }
        relogged += world->is[page].flags != world->wanted[page].flags;
    }
    return relogged == 0 ? KEPT : relogged == end - first ? REFLAGGED : DESTROYED;
}

/* ---- the outcome without joins: the slots that are kept, and the creates, in order ---- */

struct item {
    unsigned first;
    unsigned end;
    bool is_create;
};

static bool needs_create(const struct world *world, unsigned page)
{
    const struct slot *slot = world->is[page].slot;

    return world->wanted[page].ram != 0 && (slot == NULL || fate_of(world, slot) == DESTROYED);
}

/* In no_join mode: does any page of [first, border) have the same memory in a slot that goes? */
static bool had_slot(const struct world *world, unsigned first, unsigned border)
{
    for (unsigned page = first; page < border; page++) {
        if (same_memory(&world->is[page], &world->wanted[page])) {
            return true;
        }
    }
    return false;
}

static size_t model_items(const struct world *world, struct item *items)
{
    size_t count = 0;

    for (unsigned page = 0; page < PAGES; page++) {
        struct item *last = &items[count - 1];
        const struct page *is = &world->is[page];

        if (needs_create(world, page)) {
            bool same_origin = page > 0 && (world->wanted[page - 1].id == world->wanted[page].id ||
                                            (is->slot != NULL && is[-1].slot == is->slot));

            if (count > 0 && last->is_create && last->end == page && same_origin &&
                continues(&world->wanted[page - 1], &world->wanted[page])) {
                bool begins = is->slot != NULL && is[-1].slot != is->slot &&
                              same_memory(is, &world->wanted[page]);

                if (!(world->limits.no_join && begins && had_slot(world, last->first, page))) {
                    last->end = page + 1;
                    continue;
                }
            }
            items[count] = (struct item){page, page + 1, true};
            count++;
        } else if (is->slot != NULL && fate_of(world, is->slot) != DESTROYED) {
            items[count] = (struct item){page, 0, false};
            slot_pages(world, is->slot, &items[count].first, &items[count].end);
            page = items[count].end - 1;
            count++;
        }
    }
    return count;
}

/* Deletes and creates if items i and i + 1 become one wherever bit i of @links is set. */
static unsigned ops_of_links(const struct item *items, size_t count, uint64_t links)
{
    unsigned ops = 0;
    size_t first = 0;

    for (size_t i = 0; i < count; i++) {
        bool is_group = i > first || (links >> i & 1) != 0;

        ops += is_group && !items[i].is_create; /* delete */
        if ((links >> i & 1) == 0) {
            ops += is_group || items[i].is_create; /* create */
            first = i + 1;
        }
    }
    return ops;
}

/* The fewest deletes and creates that bring the items down to @max; all ways are tried. */
static unsigned cheapest_join(const struct world *world, const struct item *items, size_t count,
                              size_t max, uint64_t linkable)
{
    unsigned best = UINT32_MAX;

    (void)world;
    for (uint64_t links = linkable;; links = (links - 1) & linkable) {
        unsigned ops = ops_of_links(items, count, links);

        if (count - (size_t)__builtin_popcountll(links) <= max && ops < best) {
            best = ops;
        }
        if (links == 0) {
            return best;
        }
    }
}

static uint64_t linkable_items(const struct world *world, const struct item *items, size_t count)
{
    uint64_t linkable = 0;

    for (size_t i = 0; i + 1 < count; i++) {
        if (items[i].end == items[i + 1].first &&
            continues(&world->wanted[items[i].end - 1], &world->wanted[items[i + 1].first])) {
            linkable |= 1ull << i;
        }
    }
    return linkable;
}

/* ---- carrying out ---- */

/* Is there memory afterwards at an address of the slot; or, if asked for, unchanged memory? */
static bool stays_memory(const struct world *world, const struct slot *slot, bool unchanged)
{
    unsigned first;
    unsigned end;

    slot_pages(world, slot, &first, &end);
    for (unsigned page = first; page < end; page++) {
        if (unchanged ? same_but_log(&world->is[page], &world->wanted[page])
                      : world->wanted[page].ram != 0) {
            return true;
        }
    }
    return false;
}

static void set_pages(struct world *world, struct slot *slot, struct slot *is_now)
{
    unsigned first;
    unsigned end;

    slot_pages(world, slot, &first, &end);
    for (unsigned page = first; page < end; page++) {
        assert_true(world->is[page].slot == (is_now == NULL ? slot : NULL));
        world->is[page] = (struct page){0};
        if (is_now != NULL) {
            world->is[page] = (struct page){
                .ram = ram_of(slot->ram),
                .ram_offset = slot->ram_offset + (uint64_t)(page - first) * PAGE,
                .flags = slot->shown.flags,
                .slot = slot,
            };
            assert_true(slot->shown.region == (struct gm_region *)slot->ram);
            assert_int_equal(slot->shown.offset, slot->ram_offset);
            assert_int_equal((uintptr_t)slot->shown.hva,
                             slot->ram_offset + ((uint64_t)ram_of(slot->ram) << 32));
        }
    }
}

static uint32_t lowest_free_number(const struct world *world)
{
    for (uint32_t number = 0; number < MAX_SLOTS; number++) {
        bool is_used = false;

        for (unsigned page = 0; page < PAGES; page++) {
            is_used = is_used || (world->is[page].slot != NULL &&
                                  world->is[page].slot->shown.number == number);
        }
        if (!is_used) {
            return number;
        }
    }
    return MAX_SLOTS;
}

/* What the first pass over the operations finds, before any is carried out. */
static void check_ops(const struct world *world, const struct plan *plan)
{
    bool needs_hold = false;
    unsigned reflagged = 0;
    unsigned must_be_reflagged = 0;

    for (size_t i = 0; i < plan->op_count; i++) {
        const struct plan_op *op = &plan->ops[i];
        bool is_logged = (op->slot->shown.flags & GM_SLOT_LOG) != 0;

        if (i > 0) {
            assert_true(plan->ops[i - 1].kind <= op->kind);
            assert_true(plan->ops[i - 1].kind < op->kind ||
                        plan->ops[i - 1].slot->shown.gpa < op->slot->shown.gpa);
        }
        if (op->kind == PLAN_DESTROY) {
            assert_true(plan->joins > 0 || fate_of(world, op->slot) == DESTROYED);
            assert_int_equal(op->untouched, stays_memory(world, op->slot, true));
            needs_hold = needs_hold || is_logged || stays_memory(world, op->slot, false);
        } else if (op->kind == PLAN_SET_FLAGS) {
            assert_int_equal(fate_of(world, op->slot), REFLAGGED);
            assert_int_equal(op->new_flags, op->slot->shown.flags ^ GM_SLOT_LOG);
            needs_hold = needs_hold || is_logged;
            reflagged++;
        }
    }
    assert_int_equal(plan->needs_hold, needs_hold);
    for (struct slot *slot = world->set.first; slot != NULL; slot = slot->next) {
        must_be_reflagged += fate_of(world, slot) == REFLAGGED;
    }
    assert_true(plan->joins > 0 || reflagged == must_be_reflagged);
}

static void carry_out(struct world *world, struct plan *plan)
{
    for (size_t i = 0; i < plan->op_count; i++) {
        struct plan_op *op = &plan->ops[i];
        unsigned first;
        unsigned end;

        switch (op->kind) {
        case PLAN_DESTROY:
            set_pages(world, op->slot, NULL);
            slot_set_remove(&world->set, op->slot);
            free(op->slot);
            break;
        case PLAN_SET_FLAGS:
            op->slot->shown.flags = op->new_flags;
            slot_pages(world, op->slot, &first, &end);
            for (unsigned page = first; page < end; page++) {
                world->is[page].flags = op->new_flags;
            }
            break;
        case PLAN_CREATE:
            assert_int_equal(op->slot->shown.number, lowest_free_number(world));
            assert_true(world->set.count < world->set.max_slots);
            set_pages(world, op->slot, op->slot);
            slot_set_insert(&world->set, op->slot);
            op->slot = NULL;
            break;
        }
    }
    slot_set_audit(&world->set);
}

static void check_outcome(const struct world *world)
{
    for (unsigned page = 0; page < PAGES; page++) {
        const struct page *is = &world->is[page];
        const struct page *wanted = &world->wanted[page];

        assert_int_equal(is->ram, wanted->ram);
        if (wanted->ram != 0) {
            assert_int_equal(is->ram_offset, wanted->ram_offset);
            assert_int_equal(is->flags, wanted->flags);
        }
    }
}

static size_t count_ops(const struct plan *plan, enum plan_op_kind kind)
{
    size_t count = 0;

    for (size_t i = 0; i < plan->op_count; i++) {
        count += plan->ops[i].kind == kind;
    }
    return count;
}

/* ---- the tests ---- */

static void world_init(struct world *world, uint32_t max_slots, uint64_t base)
{
    memset(world, 0, sizeof(*world));
    world->limits.page_bytes = PAGE;
    world->base = base;
    world->next_id = 1;
    assert_int_equal(slot_set_init(&world->set, max_slots, &mem_default_allocator), 0);
}

static void world_fini(struct world *world)
{
    while (world->set.first != NULL) {
        struct slot *slot = world->set.first;

        slot_set_remove(&world->set, slot);
        free(slot);
    }
    slot_set_fini(&world->set, &mem_default_allocator);
}

/* The world before an edit, to go back to when the plan is refused. */
static void take_back_edit(struct world *world)
{
    memcpy(world->sections, world->before, sizeof(world->before));
    world->section_count = world->before_count;
}

static void one_edit(struct world *world)
{
    const struct plan_memory memory = {&mem_default_allocator, &mem_default_allocator};
    struct plan_input input = {&world->set, &world->changes, &world->limits};
    struct item items[PAGES];
    struct plan plan;
    struct gm_diag diag = {0};
    unsigned destroyed = 0;
    unsigned created = 0;
    uint64_t linkable;
    size_t needed;
    size_t count;
    int rc;

    memcpy(world->before, world->sections, sizeof(world->before));
    world->before_count = world->section_count;
    random_edit(world);
    diff(world);
    want_pages(world);
    count = model_items(world, items);
    linkable = linkable_items(world, items, count);
    needed = world->limits.no_join ? count : count - (size_t)__builtin_popcountll(linkable);
    for (struct slot *slot = world->set.first; slot != NULL; slot = slot->next) {
        destroyed += fate_of(world, slot) == DESTROYED;
    }
    for (size_t i = 0; i < count; i++) {
        created += items[i].is_create;
    }

    rc = plan_init(&plan, &input, &memory, &diag);
    if (needed > world->set.max_slots) {
        assert_int_equal(rc, -ENOSPC);
        assert_int_equal(diag.code, -ENOSPC);
        take_back_edit(world);
        return;
    }
    assert_int_equal(rc, 0);
    check_ops(world, &plan);
    if (count <= world->set.max_slots) {
        assert_int_equal(plan.joins, 0);
        assert_int_equal(count_ops(&plan, PLAN_DESTROY), destroyed);
        assert_int_equal(count_ops(&plan, PLAN_CREATE), created);
    } else {
        assert_true(plan.joins > 0);
        if (__builtin_popcountll(linkable) <= 12) {
            assert_int_equal(
                count_ops(&plan, PLAN_DESTROY) + count_ops(&plan, PLAN_CREATE),
                destroyed + cheapest_join(world, items, count, world->set.max_slots, linkable));
        }
    }
    carry_out(world, &plan);
    plan_fini(&plan, &memory);
    check_outcome(world);
    assert_true(world->set.count <= world->set.max_slots);
}

static unsigned edits(void)
{
    const char *given = getenv("GM_EDITS");

    return given != NULL ? (unsigned)strtoul(given, NULL, 0) : 20000;
}

static void plan_random_edits_follow_model(void **state)
{
    /* With numbers to spare, each plan has exactly the operations that the rules call for. */
    struct world world;

    (void)state;
    world_init(&world, MAX_SLOTS, 1u << 20);
    for (unsigned i = 0; i < edits(); i++) {
        one_edit(&world);
    }
    world_fini(&world);
}

static void plan_at_end_of_space_follows_model(void **state)
{
    /* The same with pages that end at 2^64, and a hypervisor without read-only slots. */
    struct world world;

    (void)state;
    world_init(&world, MAX_SLOTS, 0 - (uint64_t)PAGES * PAGE);
    world.limits.no_readonly = true;
    for (unsigned i = 0; i < edits() / 4; i++) {
        one_edit(&world);
    }
    world_fini(&world);
}

static void plan_few_numbers_joins_with_fewest_ops(void **state)
{
    /* Where numbers are short the plan joins, as cheaply as any choice of links, or is refused. */
    struct world world;

    (void)state;
    for (unsigned round = 0; round < edits() / 200; round++) {
        world_init(&world, 1 + (uint32_t)random_below(10), 1u << 20);
        for (unsigned i = 0; i < 100; i++) {
            one_edit(&world);
        }
        world_fini(&world);
    }
}

static void plan_no_join_never_joins(void **state)
{
    /* Memory that lay in two slots never comes to lie in one; else the plan is refused. */
    struct world world;

    (void)state;
    for (unsigned round = 0; round < edits() / 400; round++) {
        world_init(&world, random_below(2) == 0 ? MAX_SLOTS : 8, 1u << 20);
        world.limits.no_join = true;
        for (unsigned i = 0; i < 100; i++) {
            one_edit(&world);
        }
        world_fini(&world);
    }
}

static int setup(void **state)
{
    (void)state;
    random_seed();
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(plan_random_edits_follow_model),
        cmocka_unit_test(plan_at_end_of_space_follows_model),
        cmocka_unit_test(plan_few_numbers_joins_with_fewest_ops),
        cmocka_unit_test(plan_no_join_never_joins),
    };

    return cmocka_run_group_tests_name("plan_model", tests, setup, NULL);
}
