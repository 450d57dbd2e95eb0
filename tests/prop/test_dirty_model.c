/*
 * prop/test_dirty_model.c - random operations on the dirty record, against a model of plain arrays: one
 * bool for each page and client, and the pages that each open harvest holds.
 */
#include "base/rcu.h"
#include "model/random.h"
#include "ram/ram.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define PAGE ((uint64_t)GM_DIRTY_PAGE_BYTES)

static struct rnd rnd;

static uint64_t random_below(uint64_t end)
{
    return rnd_below(&rnd, end);
}

static struct gm_ram *new_block(uint64_t page_count)
{
    struct gm_ram *ram;

    assert_int_equal(gm_ram_new_unbacked(page_count * PAGE, NULL, &ram, NULL), 0);
    return ram;
}

/* ---- a hypervisor's bitmaps ---- */

#define MERGE_PAGES 1000u
#define MERGE_WORDS 5u

/* Merge a random bitmap at @shift, and compare what is dirty then with what a loop over pages says. */
static void compare_merge(struct gm_ram *ram, uint64_t shift)
{
    uint64_t page_count = random_below(MERGE_WORDS * 64 + 1);
    struct gm_harvest *harvest;
    bool expected[MERGE_PAGES] = {false};
    bool found[MERGE_PAGES] = {false};
    uint64_t bitmap[MERGE_WORDS];
    uint64_t first;
    uint64_t last;

    for (unsigned i = 0; i < MERGE_WORDS; i++) {
        bitmap[i] = random_below(3) == 0 ? 0 : random_below(UINT64_MAX);
    }
    ram_dirty_merge(ram, shift * PAGE, bitmap, page_count, 1);
    for (uint64_t n = 0; n < page_count && shift + n < MERGE_PAGES; n++) {
        expected[shift + n] = (bitmap[n / 64] >> (n % 64) & 1) != 0;
    }
    assert_int_equal(gm_harvest_begin(ram, 0, 0, gm_ram_size(ram), &harvest), 0);
    while (gm_harvest_next(harvest, &first, &last)) {
        for (uint64_t page = first; page <= last; page++) {
            assert_in_range(page, 0, MERGE_PAGES - 1);
            found[page] = true;
        }
    }
    gm_harvest_commit(harvest);
    assert_memory_equal(found, expected, sizeof(found));
}

static void merge_with_any_shift_marks_the_same_pages(void **state)
{
    /* A slot may begin at any page of a block, and its bitmap end at any bit. */
    struct gm_ram *ram = new_block(MERGE_PAGES);

    (void)state;
    assert_int_equal(gm_ram_dirty_begin(ram, 0), 0);
    for (uint64_t shift = 0; shift < MERGE_PAGES + 2; shift++) {
        compare_merge(ram, shift);
    }
    gm_ram_put(ram);
}

/* ---- everything ---- */

#define OPEN_MAX 4u

struct model {
    uint64_t page_count;
    unsigned begins[GM_DIRTY_CLIENTS];
    unsigned recording[GM_DIRTY_CLIENTS]; /* counts up with each first begin */
    bool *dirty[GM_DIRTY_CLIENTS];
    struct {
        struct gm_harvest *harvest;
        unsigned client;
        unsigned recording;
        bool *held;
    } open[OPEN_MAX];
};

static void model_init(struct model *model, uint64_t page_count)
{
    memset(model, 0, sizeof(*model));
    model->page_count = page_count;
    for (unsigned client = 0; client < GM_DIRTY_CLIENTS; client++) {
        model->dirty[client] = calloc(page_count, sizeof(bool));
    }
    for (unsigned i = 0; i < OPEN_MAX; i++) {
        model->open[i].held = calloc(page_count, sizeof(bool));
    }
}

static void model_fini(struct model *model)
{
    for (unsigned client = 0; client < GM_DIRTY_CLIENTS; client++) {
        free(model->dirty[client]);
    }
    for (unsigned i = 0; i < OPEN_MAX; i++) {
        free(model->open[i].held);
    }
}

static void model_mark(struct model *model, uint64_t page, uint32_t mask)
{
    for (unsigned client = 0; client < GM_DIRTY_CLIENTS; client++) {
        if (page < model->page_count && model->begins[client] > 0 && (mask >> client & 1) != 0) {
            model->dirty[client][page] = true;
        }
    }
}

/* A random stretch of bytes: often short, sometimes as long as the block and beyond it. */
static void random_stretch(const struct model *model, uint64_t *offset, uint64_t *size_bytes)
{
    uint64_t pages = random_below(4) == 0 ? model->page_count : 1 + random_below(300);

    *offset = random_below(model->page_count * PAGE);
    *size_bytes = random_below(2) == 0 ? 1 + random_below(9) : 1 + random_below(pages * PAGE);
}

static void do_mark(struct model *model, struct gm_ram *ram)
{
    uint32_t mask = (uint32_t)random_below(256);
    uint64_t size_bytes;
    uint64_t offset;

    random_stretch(model, &offset, &size_bytes);
    gm_ram_dirty_mark(ram, offset, size_bytes, mask);
    for (uint64_t page = offset / PAGE; page <= (offset + size_bytes - 1) / PAGE; page++) {
        model_mark(model, page, mask);
    }
}

static void do_merge(struct model *model, struct gm_ram *ram)
{
    uint32_t mask = (uint32_t)random_below(256);
    uint64_t first_page = random_below(model->page_count + 2);
    uint64_t page_count = random_below(640);
    uint64_t bitmap[10];

    for (int i = 0; i < 10; i++) {
        bitmap[i] = random_below(UINT64_MAX) & random_below(UINT64_MAX) & random_below(UINT64_MAX);
    }
    ram_dirty_merge(ram, first_page * PAGE, bitmap, page_count, mask);
    for (uint64_t n = 0; n < page_count; n++) {
        if (bitmap[n / 64] >> (n % 64) & 1) {
            model_mark(model, first_page + n, mask);
        }
    }
}

static void do_begin(struct model *model, struct gm_ram *ram, unsigned client)
{
    assert_int_equal(gm_ram_dirty_begin(ram, client), 0);
    if (model->begins[client] == 0) {
        memset(model->dirty[client], 0, model->page_count * sizeof(bool));
        model->recording[client]++;
    }
    model->begins[client]++;
}

static void do_end(struct model *model, struct gm_ram *ram, unsigned client)
{
    bool begun = model->begins[client] > 0;

    assert_int_equal(gm_ram_dirty_end(ram, client), begun ? 0 : -ENOENT);
    model->begins[client] -= begun;
}

/* Move what the model says is dirty in the range, and compare with what the harvest says. */
static void compare_harvest(struct model *model, unsigned slot, uint64_t offset,
                            uint64_t size_bytes)
{
    bool *dirty = model->dirty[model->open[slot].client];
    struct gm_harvest *harvest = model->open[slot].harvest;
    uint64_t count = 0;
    uint64_t first = 0;
    uint64_t last = 0;
    bool more = gm_harvest_next(harvest, &first, &last);

    memset(model->open[slot].held, 0, model->page_count * sizeof(bool));
    for (uint64_t page = offset / PAGE; page <= (offset + size_bytes - 1) / PAGE; page++) {
        bool in_run = more && page >= first && page <= last;

        assert_int_equal(in_run, dirty[page]);
        model->open[slot].held[page] = dirty[page];
        count += dirty[page];
        dirty[page] = false;
        if (more && page == last) {
            more = gm_harvest_next(harvest, &first, &last);
            assert_true(!more || first > page + 1); /* runs are as long as they can be */
        }
    }
    assert_false(more);
    assert_int_equal(gm_harvest_page_count(harvest), count);
}

static void do_harvest(struct model *model, struct gm_ram *ram, unsigned client, unsigned slot)
{
    struct gm_harvest *harvest = NULL;
    uint64_t size_bytes;
    uint64_t offset;
    int result;

    random_stretch(model, &offset, &size_bytes);
    if (random_below(4) == 0) {
        offset = 0;
        size_bytes = model->page_count * PAGE;
    }
    if (size_bytes > model->page_count * PAGE - offset) {
        size_bytes = model->page_count * PAGE - offset;
    }
    result = gm_harvest_begin(ram, client, offset, size_bytes, &harvest);
    if (model->begins[client] == 0) {
        assert_int_equal(result, -ENOENT);
        return;
    }
    assert_int_equal(result, 0);
    model->open[slot].harvest = harvest;
    model->open[slot].client = client;
    model->open[slot].recording = model->recording[client];
    compare_harvest(model, slot, offset, size_bytes);
}

static void do_close(struct model *model, unsigned slot)
{
    unsigned client = model->open[slot].client;

    if (random_below(2) == 0) {
        gm_harvest_commit(model->open[slot].harvest);
    } else {
        gm_harvest_abort(model->open[slot].harvest);
        for (uint64_t page = 0; page < model->page_count; page++) {
            if (model->open[slot].recording == model->recording[client]) {
                model->dirty[client][page] |= model->open[slot].held[page];
            }
        }
    }
    model->open[slot].harvest = NULL;
}

static void do_anything(struct model *model, struct gm_ram *ram)
{
    unsigned client = (unsigned)random_below(GM_DIRTY_CLIENTS);
    unsigned slot = (unsigned)random_below(OPEN_MAX);
    uint64_t choice = random_below(20);

    if (choice < 8) {
        do_mark(model, ram);
    } else if (choice < 11) {
        do_merge(model, ram);
    } else if (choice < 13) {
        do_begin(model, ram, client);
    } else if (choice < 14) {
        do_end(model, ram, client);
    } else if (model->open[slot].harvest == NULL) {
        do_harvest(model, ram, client, slot);
    } else {
        do_close(model, slot);
    }
}

static void compare_random(uint64_t page_count, unsigned steps)
{
    struct gm_ram *ram = new_block(page_count);
    struct model model;

    model_init(&model, page_count);
    for (unsigned step = 0; step < steps; step++) {
        do_anything(&model, ram);
        for (unsigned client = 0; step % 64 == 0 && client < GM_DIRTY_CLIENTS; client++) {
            const struct pageset *set = atomic_load(&ram->dirty.sets[client]);

            if (set != NULL) {
                pageset_audit(set);
            }
        }
    }
    for (unsigned slot = 0; slot < OPEN_MAX; slot++) {
        if (model.open[slot].harvest != NULL) {
            do_close(&model, slot);
        }
    }
    model_fini(&model);
    gm_ram_put(ram);
}

static void dirty_random_operations_agree_with_the_model(void **state)
{
    /* Sizes around the borders of words and of levels; the largest has three levels. */
    static const uint64_t page_counts[] = {1, 63, 64, 65, 4095, 4096, 4097, 12345};

    (void)state;
    for (size_t i = 0; i < sizeof(page_counts) / sizeof(page_counts[0]); i++) {
        compare_random(page_counts[i], 3000);
    }
    compare_random(64 * 64 * 64 + 65, 300);
    compare_random(3 * 64 * 64 * 64, 150); /* its bits are mapped, not allocated */
}

static int begin_group(void **state)
{
    (void)state;
    rnd.state = rnd_seed("dirty_model");
    return 0;
}

/* What was deferred is freed before leaks are looked for. */
static int end_group(void **state)
{
    (void)state;
    rcu_drain();
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(merge_with_any_shift_marks_the_same_pages),
        cmocka_unit_test(dirty_random_operations_agree_with_the_model),
    };

    return cmocka_run_group_tests(tests, begin_group, end_group);
}
