/*
 * unit/test_plan.c - the planner on small situations with a known answer: the operations are
 * compared as text. The random test against a model is prop/test_plan_model.c.
 */
#include "slots/plan.h"

#include <errno.h>
#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define RO GM_SLOT_READONLY
#define LOG GM_SLOT_LOG

/* ---- a set, a plan and its text ---- */

/* Fails the allocation that finds left == 0, once. */
struct failing {
    int left;
    int alive;
};

static void *failing_alloc(void *opaque, size_t size_bytes)
{
    struct failing *failing = opaque;

    if (failing->left == 0) {
        failing->left = -1;
        return NULL;
    }
    failing->left -= failing->left > 0;
    failing->alive++;
    return malloc(size_bytes);
}

static void failing_free(void *opaque, void *memory)
{
    struct failing *failing = opaque;

    failing->alive--;
    free(memory);
}

struct bench {
    struct failing failing;
    struct gm_allocator allocator;
    struct plan_memory memory;
    struct slot_set set;
    struct plan_limits limits;
    struct gm_diag diag;
    char text[4096];
};

static void bench_init(struct bench *bench, uint32_t max_slots)
{
    memset(bench, 0, sizeof(*bench));
    bench->failing.left = -1;
    bench->allocator = (struct gm_allocator){failing_alloc, failing_free, &bench->failing};
    bench->memory = (struct plan_memory){&bench->allocator, &bench->allocator};
    bench->limits.page_bytes = 4096;
    assert_int_equal(slot_set_init(&bench->set, max_slots, &bench->allocator), 0);
}

static void bench_fini(struct bench *bench)
{
    while (bench->set.first != NULL) {
        struct slot *slot = bench->set.first;

        slot_set_remove(&bench->set, slot);
        mem_free(&bench->allocator, slot);
    }
    slot_set_fini(&bench->set, &bench->allocator);
    assert_int_equal(bench->failing.alive, 0);
}

/*
 * A section of block @ram (0: none); the offset in the block is given, that in the region the same.
 */
static struct plan_section section(uint64_t start, uint64_t end, unsigned ram, uint64_t offset,
                                   uint32_t flags)
{
    return (struct plan_section){
        .span = {(pos_t)start, (pos_t)end},
        .ram = (struct gm_ram *)(uintptr_t)ram,
        .ram_offset = offset,
        .region = (struct gm_region *)(uintptr_t)ram,
        .region_offset = offset,
        .hva = ram != 0 ? (uint8_t *)(uintptr_t)(ram * 0x100000000ull + offset) : NULL,
        .flags = flags,
    };
}

__attribute__((format(printf, 2, 3))) static void note(struct bench *bench, const char *format, ...)
{
    size_t used = strlen(bench->text);
    va_list arguments;

    va_start(arguments, format);
    vsnprintf(bench->text + used, sizeof(bench->text) - used, format, arguments);
    va_end(arguments);
}

static const char *flag_text(uint32_t flags)
{
    static const char *const TEXTS[] = {"-", "l", "o", "lo"};

    return TEXTS[flags];
}

/* Write the operations down, and carry them out on the set. */
static void carry_out(struct bench *bench, struct plan *plan)
{
    note(bench, "%s", plan->needs_hold ? "hold; " : "");
    for (size_t i = 0; i < plan->op_count; i++) {
        struct slot *slot = plan->ops[i].slot;

        switch (plan->ops[i].kind) {
        case PLAN_DESTROY:
            note(bench, "delete%s %u; ", plan->ops[i].untouched ? "!" : "", slot->shown.number);
            slot_set_remove(&bench->set, slot);
            mem_free(&bench->allocator, slot);
            break;
        case PLAN_SET_FLAGS:
            slot->shown.flags = plan->ops[i].new_flags;
            note(bench, "flags %u %s; ", slot->shown.number, flag_text(slot->shown.flags));
            break;
        case PLAN_CREATE:
            note(bench, "create %u %" PRIx64 "+%" PRIx64 " %s; ", slot->shown.number,
                 slot->shown.gpa, slot->shown.size_bytes, flag_text(slot->shown.flags));
            slot_set_insert(&bench->set, slot);
            plan->ops[i].slot = NULL;
            break;
        }
    }
}

static int plan_text(struct bench *bench, const struct plan_section *gone, size_t gone_count,
                     const struct plan_section *shown, size_t shown_count)
{
    struct plan_changes changes = {gone, gone_count, shown, shown_count};
    struct plan_input input = {&bench->set, &changes, &bench->limits};
    struct plan plan;
    int rc;

    bench->text[0] = '\0';
    rc = plan_init(&plan, &input, &bench->memory, &bench->diag);
    if (rc == 0) {
        carry_out(bench, &plan);
        plan_fini(&plan, &bench->memory);
    }
    return rc;
}

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

static void expect(struct bench *bench, const struct plan_section *gone, size_t gone_count,
                   const struct plan_section *shown, size_t shown_count, const char *text)
{
    assert_int_equal(plan_text(bench, gone, gone_count, shown, shown_count), 0);
    assert_string_equal(bench->text, text);
}

/* ---- what becomes a slot ---- */

static void plan_first_map_creates_each_section(void **state)
{
    /* RAM, a ROM and a device in one map: two slots, the device none. */
    const struct plan_section shown[] = {
        section(0, 0xa0000, 1, 0, 0),
        section(0xa0000, 0xc0000, 0, 0, 0),
        section(0xc0000, 0x100000, 2, 0, RO),
    };
    struct bench bench;

    (void)state;
    bench_init(&bench, 8);
    expect(&bench, NULL, 0, shown, 3, "create 0 0+a0000 -; create 1 c0000+40000 o; ");
    bench_fini(&bench);
}

static void plan_unaligned_ends_are_trimmed(void **state)
{
    /* Of [0x800, 0x3800) the pages 1 and 2 are whole; less than a page gives no slot. */
    const struct plan_section shown[] = {
        section(0x800, 0x3800, 1, 0x800, 0),
        section(0x3800, 0x4900, 1, 0x9800, 0),
    };
    struct bench bench;

    (void)state;
    bench_init(&bench, 8);
    expect(&bench, NULL, 0, shown, 2, "create 0 1000+2000 -; ");
    bench_fini(&bench);
}

static void plan_misaligned_memory_is_no_slot(void **state)
{
    /* Guest and block addresses that differ within the page cannot be mapped. */
    const struct plan_section shown[] = {section(0x1000, 0x9000, 1, 0x200, 0)};
    struct bench bench;

    (void)state;
    bench_init(&bench, 8);
    expect(&bench, NULL, 0, shown, 1, "");
    bench_fini(&bench);
}

static void plan_large_pages_trim_to_them(void **state)
{
    /* Pages of 64 KiB: guest, block and host address have to agree in their low 16 bits. */
    struct plan_section shown[] = {
        section(0x8000, 0x38000, 1, 0x8000, 0),
        section(0x40000, 0x60000, 1, 0x41000, 0),
        section(0x60000, 0x80000, 1, 0x60000, 0),
    };
    struct bench bench;

    (void)state;
    bench_init(&bench, 8);
    bench.limits.page_bytes = 0x10000;
    shown[2].hva += 0x1000;
    expect(&bench, NULL, 0, shown, 3, "create 0 10000+20000 -; ");
    bench_fini(&bench);
}

static void plan_without_readonly_leaves_roms_out(void **state)
{
    /* A hypervisor without read-only slots: ROM has none until it is made writable. */
    const struct plan_section rom = section(0, 0x2000, 1, 0, RO);
    const struct plan_section ram = section(0, 0x2000, 1, 0, 0);
    struct bench bench;

    (void)state;
    bench_init(&bench, 8);
    bench.limits.no_readonly = true;
    expect(&bench, NULL, 0, &rom, 1, "");
    expect(&bench, &rom, 1, &ram, 1, "create 0 0+2000 -; ");
    expect(&bench, &ram, 1, &rom, 1, "delete 0; ");
    bench_fini(&bench);
}

static void plan_unbacked_ram_is_refused_where_memory_is_needed(void **state)
{
    /* -EINVAL and a sentence with the address; a hypervisor that needs none takes it. */
    struct plan_section shown = section(0x5000, 0x7000, 1, 0, 0);
    struct bench bench;

    (void)state;
    bench_init(&bench, 8);
    shown.hva = NULL;
    bench.limits.needs_hva = true;
    assert_int_equal(plan_text(&bench, NULL, 0, &shown, 1), -EINVAL);
    assert_non_null(strstr(bench.diag.text, "5000"));
    bench.limits.needs_hva = false;
    expect(&bench, NULL, 0, &shown, 1, "create 0 5000+2000 -; ");
    bench_fini(&bench);
}

static void plan_end_of_space_is_reached(void **state)
{
    /* The last page below 2^64, and a section as large as the space that has no RAM. */
    struct plan_section shown[] = {section(0, 0, 0, 0, 0), section(0, 0, 1, 0, 0)};
    struct bench bench;

    (void)state;
    bench_init(&bench, 8);
    shown[0].span = (struct span){0, POS_2_64 - 0x2000};
    shown[1].span = (struct span){POS_2_64 - 0x2000, POS_2_64};
    expect(&bench, NULL, 0, shown, 2, "create 0 ffffffffffffe000+2000 -; ");
    expect(&bench, &shown[1], 1, NULL, 0, "delete 0; ");
    bench_fini(&bench);
}

/* ---- what changes ---- */

static void plan_window_toggled_again_touches_only_itself(void **state)
{
    /* Shadow RAM: the first split deletes what stays; from then on only the window moves. */
    const struct plan_section whole = section(0, 0x100000, 1, 0, 0);
    const struct plan_section split[] = {
        section(0, 0xc0000, 1, 0, 0),
        section(0xc0000, 0xe0000, 2, 0, RO),
        section(0xe0000, 0x100000, 1, 0xe0000, 0),
    };
    struct bench bench;

    (void)state;
    bench_init(&bench, 8);
    expect(&bench, NULL, 0, &whole, 1, "create 0 0+100000 -; ");
    expect(&bench, &whole, 1, split, 3,
           "hold; delete! 0; create 0 0+c0000 -; create 1 c0000+20000 o; create 2 e0000+20000 -; ");
    for (int i = 0; i < 3; i++) {
        expect(&bench, split, 3, &whole, 1, "hold; delete 1; create 1 c0000+20000 -; ");
        expect(&bench, &whole, 1, split, 3, "hold; delete 1; create 1 c0000+20000 o; ");
    }
    bench_fini(&bench);
}

static void plan_unmentioned_part_of_a_slot_stays(void **state)
{
    /* Two sections in one slot; the commit mentions only one. The other's memory is made again. */
    const struct plan_section whole = section(0, 0x4000, 1, 0, 0);
    const struct plan_section halves[] = {
        section(0, 0x2000, 1, 0, 0),
        section(0x2000, 0x4000, 1, 0x2000, 0),
    };
    struct bench bench;

    (void)state;
    bench_init(&bench, 8);
    expect(&bench, NULL, 0, &whole, 1, "create 0 0+4000 -; ");
    expect(&bench, &whole, 1, halves, 2, "");
    expect(&bench, &halves[0], 1, NULL, 0, "hold; delete! 0; create 0 2000+2000 -; ");
    bench_fini(&bench);
}

static void plan_log_of_a_whole_slot_is_one_flag_change(void **state)
{
    /* Logging on: no hold. Logging off: the log is drained, so vCPUs are held. */
    const struct plan_section off = section(0, 0x4000, 1, 0, 0);
    const struct plan_section on = section(0, 0x4000, 1, 0, LOG);
    struct bench bench;

    (void)state;
    bench_init(&bench, 8);
    expect(&bench, NULL, 0, &off, 1, "create 0 0+4000 -; ");
    expect(&bench, NULL, 0, &on, 1, "flags 0 l; ");
    expect(&bench, NULL, 0, &on, 1, "");
    expect(&bench, NULL, 0, &off, 1, "hold; flags 0 -; ");
    bench_fini(&bench);
}

static void plan_log_of_a_part_splits(void **state)
{
    /* One section of two in a slot begins to log. */
    const struct plan_section whole = section(0, 0x4000, 1, 0, 0);
    const struct plan_section halves[] = {
        section(0, 0x2000, 1, 0, 0),
        section(0x2000, 0x4000, 1, 0x2000, LOG),
    };
    struct bench bench;

    (void)state;
    bench_init(&bench, 8);
    expect(&bench, NULL, 0, &whole, 1, "create 0 0+4000 -; ");
    expect(&bench, &whole, 1, halves, 2,
           "hold; delete! 0; create 0 0+2000 -; create 1 2000+2000 l; ");
    bench_fini(&bench);
}

static void plan_gone_memory_needs_a_hold_only_if_logged(void **state)
{
    /* Nobody can miss what is not shown any more, but its log has to be drained. */
    const struct plan_section plain = section(0, 0x4000, 1, 0, 0);
    const struct plan_section logged = section(0, 0x4000, 1, 0, LOG);
    struct bench bench;

    (void)state;
    bench_init(&bench, 8);
    expect(&bench, NULL, 0, &plain, 1, "create 0 0+4000 -; ");
    expect(&bench, &plain, 1, NULL, 0, "delete 0; ");
    expect(&bench, NULL, 0, &logged, 1, "create 0 0+4000 l; ");
    expect(&bench, &logged, 1, NULL, 0, "hold; delete 0; ");
    bench_fini(&bench);
}

static void plan_readonly_change_holds(void **state)
{
    /* A slot cannot become read-only: it is made again, and its memory is visible throughout. */
    const struct plan_section writable = section(0, 0x4000, 1, 0, 0);
    const struct plan_section readonly = section(0, 0x4000, 1, 0, RO);
    struct bench bench;

    (void)state;
    bench_init(&bench, 8);
    expect(&bench, NULL, 0, &writable, 1, "create 0 0+4000 -; ");
    expect(&bench, &writable, 1, &readonly, 1, "hold; delete 0; create 0 0+4000 o; ");
    bench_fini(&bench);
}

static void plan_moved_memory_is_deleted_and_created(void **state)
{
    /* A BAR moves: its neighbours are not touched, and its number is used again. */
    const struct plan_section low = section(0, 0x4000, 1, 0, 0);
    const struct plan_section bar = section(0x10000, 0x12000, 2, 0, 0);
    const struct plan_section moved = section(0x20000, 0x22000, 2, 0, 0);
    const struct plan_section first[] = {low, bar};
    struct bench bench;

    (void)state;
    bench_init(&bench, 8);
    expect(&bench, NULL, 0, first, 2, "create 0 0+4000 -; create 1 10000+2000 -; ");
    expect(&bench, &bar, 1, &moved, 1, "delete 1; create 1 20000+2000 -; ");
    bench_fini(&bench);
}

static void plan_other_region_of_the_same_memory_is_rebound(void **state)
{
    /* The hypervisor has nothing to do, but the slot must hold the region that is shown now. */
    const struct plan_section before = section(0, 0x4000, 1, 0, 0);
    struct plan_section after = before;
    struct plan_changes changes = {&before, 1, &after, 1};
    struct bench bench;
    struct plan_input input = {&bench.set, &changes, &bench.limits};
    struct plan plan;

    (void)state;
    bench_init(&bench, 8);
    expect(&bench, NULL, 0, &before, 1, "create 0 0+4000 -; ");
    after.region = (struct gm_region *)(uintptr_t)7;
    after.region_offset = 0x9000;
    assert_int_equal(plan_init(&plan, &input, &bench.memory, NULL), 0);
    assert_int_equal(plan.op_count, 0);
    assert_int_equal(plan.rebind_count, 1);
    assert_ptr_equal(plan.rebinds[0].slot, bench.set.first);
    assert_ptr_equal(plan.rebinds[0].region, after.region);
    assert_int_equal(plan.rebinds[0].region_offset, 0x9000);
    plan_fini(&plan, &bench.memory);
    bench_fini(&bench);
}

/* ---- limits ---- */

/* @count pages of one block, each a slot of its own, from @page on. Numbers as they come. */
static void add_pages(struct bench *bench, unsigned page, unsigned count)
{
    for (unsigned i = page; i < page + count; i++) {
        const struct plan_section one =
            section(i * 0x1000ull, (i + 1) * 0x1000ull, 1, i * 0x1000ull, 0);

        assert_int_equal(plan_text(bench, NULL, 0, &one, 1), 0);
    }
}

static void plan_full_keeps_what_else_is_rebound(void **state)
{
    /* Three pages are joined to make room; a fourth slot, which stays, is another region's from now on. */
    const struct plan_section lone = section(0x30000, 0x31000, 1, 0x30000, 0);
    const struct plan_section more = section(0x100000, 0x101000, 2, 0, 0);
    struct plan_section shown[] = {lone, more};
    struct plan_changes changes = {&lone, 1, shown, 2};
    struct bench bench;
    struct plan_input input = {&bench.set, &changes, &bench.limits};
    struct plan plan;

    (void)state;
    bench_init(&bench, 4);
    add_pages(&bench, 0, 3);
    add_pages(&bench, 0x30, 1);
    shown[0].region = (struct gm_region *)(uintptr_t)7;
    assert_int_equal(plan_init(&plan, &input, &bench.memory, NULL), 0);
    assert_int_equal(plan.rebind_count, 1);
    assert_int_equal(plan.rebinds[0].slot->shown.gpa, 0x30000);
    assert_ptr_equal(plan.rebinds[0].region, shown[0].region);
    bench.text[0] = '\0';
    carry_out(&bench, &plan);
    assert_string_equal(bench.text, "hold; delete! 0; delete! 1; create 0 0+2000 -; "
                                    "create 1 100000+1000 -; ");
    plan_fini(&plan, &bench.memory);
    bench_fini(&bench);
}

static void plan_full_joins_the_largest_group(void **state)
{
    /* Groups of 2, 4 and 3 pages and a lone one: two more slots are cheapest from the group of
     * four. */
    const struct plan_section more[] = {
        section(0x100000, 0x101000, 2, 0, 0),
        section(0x200000, 0x201000, 2, 0, 0),
    };
    struct bench bench;

    (void)state;
    bench_init(&bench, 10);
    add_pages(&bench, 0, 2);
    add_pages(&bench, 10, 4);
    add_pages(&bench, 20, 3);
    add_pages(&bench, 30, 1);
    expect(&bench, NULL, 0, more, 2,
           "hold; delete! 2; delete! 3; delete! 4; create 2 a000+3000 -; create 3 100000+1000 -; "
           "create 4 200000+1000 -; ");
    bench_fini(&bench);
}

static void plan_full_extends_a_create_first(void **state)
{
    /* A new piece beside a kept one: one delete is enough. */
    const struct plan_section more = section(0x2000, 0x3000, 1, 0x2000, 0);
    struct bench bench;

    (void)state;
    bench_init(&bench, 4);
    add_pages(&bench, 0, 2);
    add_pages(&bench, 10, 2);
    expect(&bench, NULL, 0, &more, 1, "hold; delete! 1; create 1 1000+2000 -; ");
    bench_fini(&bench);
}

static void plan_full_says_how_many_are_missing(void **state)
{
    /* Nothing can be joined, or must not be: -ENOSPC, with the two numbers, and nothing changed. */
    const struct plan_section far = section(0x100000, 0x101000, 2, 0, 0);
    const struct plan_section apart = section(0x5000, 0x6000, 2, 0, 0);
    struct bench bench;

    (void)state;
    bench_init(&bench, 2);
    add_pages(&bench, 0, 1);
    expect(&bench, NULL, 0, &apart, 1, "create 1 5000+1000 -; ");
    assert_int_equal(plan_text(&bench, NULL, 0, &far, 1), -ENOSPC);
    assert_int_equal(bench.diag.code, -ENOSPC);
    assert_string_equal(bench.diag.text, "the map needs 3 memory slots and the hypervisor has 2");
    assert_int_equal(bench.set.count, 2);
    bench_fini(&bench);

    bench_init(&bench, 2);
    add_pages(&bench, 0, 2);
    bench.limits.no_join = true;
    assert_int_equal(plan_text(&bench, NULL, 0, &far, 1), -ENOSPC);
    bench.limits.no_join = false;
    bench.limits.no_destroy = true;
    assert_int_equal(plan_text(&bench, NULL, 0, &far, 1), -ENOSPC);
    bench_fini(&bench);
}

static void plan_full_reuses_numbers_of_the_same_plan(void **state)
{
    /* Every number is taken, and the plan replaces two slots by two others. */
    const struct plan_section gone[] = {
        section(0, 0x1000, 1, 0, 0),
        section(0x1000, 0x2000, 1, 0x1000, 0),
    };
    const struct plan_section shown[] = {
        section(0, 0x1000, 2, 0, 0),
        section(0x5000, 0x6000, 2, 0x5000, 0),
    };
    struct bench bench;

    (void)state;
    bench_init(&bench, 2);
    add_pages(&bench, 0, 2);
    expect(&bench, gone, 2, shown, 2,
           "hold; delete 0; delete 1; create 0 0+1000 -; create 1 5000+1000 -; ");
    bench_fini(&bench);
}

static void plan_without_destroy_refuses_deletes(void **state)
{
    /* -EOPNOTSUPP and which slot; what only adds or changes flags is planned. */
    const struct plan_section page = section(0, 0x1000, 1, 0, 0);
    const struct plan_section logged = section(0, 0x1000, 1, 0, LOG);
    struct bench bench;

    (void)state;
    bench_init(&bench, 4);
    bench.limits.no_destroy = true;
    expect(&bench, NULL, 0, &page, 1, "create 0 0+1000 -; ");
    expect(&bench, NULL, 0, &logged, 1, "flags 0 l; ");
    assert_int_equal(plan_text(&bench, &logged, 1, NULL, 0), -EOPNOTSUPP);
    assert_non_null(strstr(bench.diag.text, "slot 0 at 0+1000"));
    bench_fini(&bench);
}

static void plan_failing_allocation_leaks_nothing(void **state)
{
    /* Each allocation of a plan that also joins fails once; the set is what it was. */
    const struct plan_section gone = section(0xa000, 0xb000, 1, 0xa000, 0);
    const struct plan_section shown[] = {
        section(0xb000, 0xc000, 1, 0xb000, LOG),
        section(0x100000, 0x101000, 2, 0, 0),
        section(0x200000, 0x201000, 2, 0, 0),
        section(0x300000, 0x301000, 2, 0, 0),
    };
    struct bench bench;
    int rc = -ENOMEM;
    int alive;

    (void)state;
    bench_init(&bench, 8);
    add_pages(&bench, 0, 4);
    add_pages(&bench, 10, 3);
    alive = bench.failing.alive;
    for (int n = 0; rc == -ENOMEM; n++) {
        assert_true(n < 100);
        bench.failing.left = n;
        rc = plan_text(&bench, &gone, 1, shown, 4);
        if (rc == -ENOMEM) {
            assert_int_equal(bench.failing.alive, alive);
            assert_int_equal(bench.diag.code, -ENOMEM);
            slot_set_audit(&bench.set);
        }
    }
    bench.failing.left = -1;
    assert_int_equal(rc, 0);
    assert_non_null(strstr(bench.text, "hold; "));
    bench_fini(&bench);
}

/* ---- the set ---- */

static struct slot *new_slot(struct bench *bench, uint32_t number, uint64_t page)
{
    struct slot *slot = mem_zalloc(&bench->allocator, sizeof(*slot));

    slot->shown.number = number;
    slot->shown.gpa = page * 4096;
    slot->shown.size_bytes = 4096;
    return slot;
}

static void set_all_numbers_fill_and_empty(void **state)
{
    /* KVM's 32,764 slots, at scattered addresses; each next free number is the lowest. */
    const uint32_t count = 32764;
    struct gm_slot *listed = calloc(count, sizeof(*listed));
    struct bench bench;

    (void)state;
    bench_init(&bench, count);
    for (uint32_t i = 0; i < count; i++) {
        assert_int_equal(slot_set_free_number(&bench.set, 0), i);
        slot_set_insert(&bench.set, new_slot(&bench, i, i * 40503ull % 65536));
    }
    slot_set_audit(&bench.set);
    assert_int_equal(slot_set_free_number(&bench.set, 0), SLOT_NUMBER_NONE);
    assert_int_equal(slot_set_list(&bench.set, listed, 100), count);
    for (uint32_t i = 0; i < 100; i++) {
        assert_int_equal(listed[i].number, i);
    }
    assert_int_equal(slot_set_list(&bench.set, NULL, 0), count);
    for (struct slot *slot = bench.set.first, *next; slot != NULL; slot = next) {
        next = slot->next;
        if (slot->shown.number % 64 == 63 || slot->shown.number >= 20000) {
            slot_set_remove(&bench.set, slot);
            mem_free(&bench.allocator, slot);
        }
    }
    slot_set_audit(&bench.set);
    assert_int_equal(slot_set_free_number(&bench.set, 0), 63);
    assert_int_equal(slot_set_free_number(&bench.set, 64), 127);
    assert_int_equal(slot_set_free_number(&bench.set, 19970), 20000);
    assert_int_equal(slot_set_list(&bench.set, listed, count), bench.set.count);
    assert_int_equal(listed[63].number, 64);
    assert_int_equal(listed[bench.set.count - 1].number, 19999);
    free(listed);
    bench_fini(&bench);
}

static void set_numbers_end_at_the_limit(void **state)
{
    /* Limits beside and at a word's border: the number after the last is none. */
    static const uint32_t LIMITS[] = {1, 63, 64, 65, 4096, 4097};

    (void)state;
    for (size_t i = 0; i < COUNT(LIMITS); i++) {
        struct bench bench;

        bench_init(&bench, LIMITS[i]);
        for (uint32_t number = 0; number < LIMITS[i]; number++) {
            slot_set_insert(&bench.set, new_slot(&bench, number, number));
        }
        slot_set_audit(&bench.set);
        assert_int_equal(slot_set_free_number(&bench.set, 0), SLOT_NUMBER_NONE);
        assert_int_equal(slot_set_free_number(&bench.set, LIMITS[i]), SLOT_NUMBER_NONE);
        assert_null(slot_set_first_ending_after(&bench.set, (pos_t)LIMITS[i] * 4096));
        assert_ptr_equal(slot_set_first_ending_after(&bench.set, 4095), bench.set.first);
        bench_fini(&bench);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(plan_first_map_creates_each_section),
        cmocka_unit_test(plan_unaligned_ends_are_trimmed),
        cmocka_unit_test(plan_misaligned_memory_is_no_slot),
        cmocka_unit_test(plan_large_pages_trim_to_them),
        cmocka_unit_test(plan_without_readonly_leaves_roms_out),
        cmocka_unit_test(plan_unbacked_ram_is_refused_where_memory_is_needed),
        cmocka_unit_test(plan_end_of_space_is_reached),
        cmocka_unit_test(plan_window_toggled_again_touches_only_itself),
        cmocka_unit_test(plan_unmentioned_part_of_a_slot_stays),
        cmocka_unit_test(plan_log_of_a_whole_slot_is_one_flag_change),
        cmocka_unit_test(plan_log_of_a_part_splits),
        cmocka_unit_test(plan_gone_memory_needs_a_hold_only_if_logged),
        cmocka_unit_test(plan_readonly_change_holds),
        cmocka_unit_test(plan_moved_memory_is_deleted_and_created),
        cmocka_unit_test(plan_other_region_of_the_same_memory_is_rebound),
        cmocka_unit_test(plan_full_joins_the_largest_group),
        cmocka_unit_test(plan_full_keeps_what_else_is_rebound),
        cmocka_unit_test(plan_full_extends_a_create_first),
        cmocka_unit_test(plan_full_says_how_many_are_missing),
        cmocka_unit_test(plan_full_reuses_numbers_of_the_same_plan),
        cmocka_unit_test(plan_without_destroy_refuses_deletes),
        cmocka_unit_test(plan_failing_allocation_leaks_nothing),
        cmocka_unit_test(set_all_numbers_fill_and_empty),
        cmocka_unit_test(set_numbers_end_at_the_limit),
    };

    return cmocka_run_group_tests_name("plan", tests, NULL, NULL);
}
