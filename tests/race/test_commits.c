/*
 * race/test_commits.c - two editors, a listener that comes and goes, spaces that come and go, and a thread
 * that only takes and drops references: all on one map.
 *
 * Each editor has addresses of its own and knows what they show after each of its commits. The
 * listener rebuilds the whole view from what it is told, and forgets it when it leaves.
 */
#include "model/random.h"
#include "model/require.h"

#include <guestmem/guestmem.h>

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define EDITORS 2u
#define DEVICES 12u /* of each editor */
#define STRIDE 0x1000u
#define DEVICE_BYTES 0x800u
#define EDITOR_BYTES (STRIDE * DEVICES)
#define RANGES_MAX (EDITORS * DEVICES)

struct editor {
    struct rnd rnd;
    unsigned number;
    struct gm_region *shelf;            /* a container of its own */
    struct gm_region *devices[DEVICES]; /* NULL: none is attached */
};

static struct {
    struct gm_map *map;
    struct gm_region *root;
    struct gm_space *space;
    struct editor editors[EDITORS];
    uint64_t commits; /* of each editor */
    atomic_uint at_work;
    atomic_uint made;
    atomic_uint released;
    atomic_uint replays;
} arena;

/* ---- devices ---- */

static enum gm_access device_read(void *opaque, uint64_t offset, unsigned size_bytes,
                                  uint64_t *value, struct gm_attrs attrs)
{
    (void)offset;
    (void)size_bytes;
    (void)attrs;
    *value = *(const uint64_t *)opaque;
    return GM_ACCESS_OK;
}

static enum gm_access device_write(void *opaque, uint64_t offset, unsigned size_bytes,
                                   uint64_t value, struct gm_attrs attrs)
{
    (void)opaque;
    (void)offset;
    (void)size_bytes;
    (void)value;
    (void)attrs;
    return GM_ACCESS_OK;
}

static void device_release(void *opaque)
{
    free(opaque);
    atomic_fetch_add_explicit(&arena.released, 1, memory_order_relaxed);
}

static const struct gm_io_ops device_ops = {.size = sizeof(device_ops),
                                            .read = device_read,
                                            .write = device_write,
                                            .valid = {8, 8, false},
                                            .implemented = {8, 8, false}};

static struct gm_region *new_device(uint64_t mark, uint64_t addr)
{
    uint64_t *device = malloc(sizeof(*device));
    struct gm_region_options options = {.size = sizeof(options),
                                        .kind = GM_REGION_MMIO,
                                        .name = "device",
                                        .size_bytes = DEVICE_BYTES,
                                        .addr = addr,
                                        .io = &device_ops,
                                        .opaque = device,
                                        .release = device_release};
    struct gm_region *region;

    *device = mark;
    REQUIRE(gm_region_new(arena.map, &options, &region, NULL) == 0, "a device");
    atomic_fetch_add_explicit(&arena.made, 1, memory_order_relaxed);
    return region;
}

/* ---- editors ---- */

/* What its own addresses answer has to be what it put there, whatever the other editor does. */
static void check_own(const struct editor *editor)
{
    struct gm_attrs attrs = {0};
    unsigned i;

    for (i = 0; i < DEVICES; i++) {
        uint64_t gpa = editor->number * EDITOR_BYTES + i * STRIDE;
        uint64_t value = 0;
        enum gm_access outcome = gm_load(arena.space, gpa + 8, 8, GM_ORDER_LITTLE, &value, attrs);

        REQUIRE(outcome == (editor->devices[i] != NULL ? GM_ACCESS_OK : GM_ACCESS_DECODE),
                "device %u of editor %u: outcome %d", i, editor->number, outcome);
        REQUIRE(outcome != GM_ACCESS_OK ||
                    value == *(uint64_t *)gm_region_opaque(editor->devices[i]),
                "device %u of editor %u answers for another", i, editor->number);
    }
}

static void edit_one(struct editor *editor, struct gm_txn *txn, unsigned i, uint64_t mark)
{
    if (editor->devices[i] != NULL) {
        REQUIRE(gm_txn_del(txn, editor->shelf, editor->devices[i]) == 0, "recording");
        gm_region_put(editor->devices[i]);
        editor->devices[i] = NULL;
    } else {
        editor->devices[i] = new_device(mark, i * STRIDE);
        REQUIRE(gm_txn_add(txn, editor->shelf, editor->devices[i]) == 0, "recording");
    }
}

static void *editor_main(void *opaque)
{
    struct editor *editor = opaque;
    uint64_t k;

    for (k = 0; k < arena.commits; k++) {
        unsigned first = (unsigned)rnd_below(&editor->rnd, DEVICES);
        unsigned second = (unsigned)rnd_below(&editor->rnd, DEVICES);
        struct gm_txn *txn;

        REQUIRE(gm_txn_begin(arena.map, &txn) == 0, "beginning");
        edit_one(editor, txn, first, k);
        if (second != first && rnd_one_in(&editor->rnd, 2)) {
            edit_one(editor, txn, second, k);
        }
        REQUIRE(gm_txn_commit(txn, NULL) == 0, "committing");
        if (k % 8 == 0) {
            check_own(editor);
        }
    }
    check_own(editor);
    atomic_fetch_sub_explicit(&arena.at_work, 1, memory_order_release);
    return NULL;
}

/* ---- a listener that comes and goes ---- */

struct mirror {
    struct gm_section sections[RANGES_MAX];
    size_t count;
    bool open;
};

static void mirror_begin(void *opaque)
{
    struct mirror *mirror = opaque;

    REQUIRE(!mirror->open, "begun twice");
    mirror->open = true;
}

static void mirror_commit(void *opaque)
{
    struct mirror *mirror = opaque;

    REQUIRE(mirror->open, "ended and not begun");
    mirror->open = false;
}

static size_t mirror_find(const struct mirror *mirror, const struct gm_section *section)
{
    size_t at = 0;

    while (at < mirror->count && (mirror->sections[at].gpa != section->gpa ||
                                  mirror->sections[at].last != section->last ||
                                  mirror->sections[at].region != section->region)) {
        at++;
    }
    return at;
}

static void mirror_del(void *opaque, const struct gm_section *section)
{
    struct mirror *mirror = opaque;
    size_t at = mirror_find(mirror, section);

    REQUIRE(at < mirror->count, "what is removed is not there");
    mirror->sections[at] = mirror->sections[--mirror->count];
}

static void mirror_nop(void *opaque, const struct gm_section *section)
{
    struct mirror *mirror = opaque;

    REQUIRE(mirror_find(mirror, section) < mirror->count, "what stays is not there");
}

static void mirror_add(void *opaque, const struct gm_section *section)
{
    struct mirror *mirror = opaque;
    size_t i;

    for (i = 0; i < mirror->count; i++) {
        REQUIRE(section->last < mirror->sections[i].gpa || section->gpa > mirror->sections[i].last,
                "what is added is there");
    }
    REQUIRE(mirror->count < RANGES_MAX, "more ranges than devices");
    mirror->sections[mirror->count++] = *section;
}

static const struct gm_listener_ops mirror_ops = {.size = sizeof(mirror_ops),
                                                  .begin = mirror_begin,
                                                  .commit = mirror_commit,
                                                  .region_del = mirror_del,
                                                  .region_nop = mirror_nop,
                                                  .region_add = mirror_add};

static void *listener_main(void *opaque)
{
    static struct mirror mirror;
    struct gm_listener *listener;

    (void)opaque;
    while (atomic_load_explicit(&arena.at_work, memory_order_acquire) > 0) {
        mirror = (struct mirror){.count = 0};
        REQUIRE(gm_listener_register(arena.map, arena.space, 0, &mirror_ops, &mirror, &listener,
                                     NULL) == 0,
                "registering");
        REQUIRE(gm_listener_unregister(listener, NULL) == 0, "unregistering");
        REQUIRE(mirror.count == 0 && !mirror.open, "%zu ranges are left", mirror.count);
        atomic_fetch_add_explicit(&arena.replays, 1, memory_order_relaxed);
    }
    return NULL;
}

/* ---- spaces that come and go, snapshots that are kept for a while ---- */

static void *space_main(void *opaque)
{
    struct gm_view *kept[4] = {NULL};
    struct gm_space *space;
    unsigned k = 0;
    unsigned i;

    (void)opaque;
    while (atomic_load_explicit(&arena.at_work, memory_order_acquire) > 0) {
        struct gm_section section;
        uint64_t next = 0;

        REQUIRE(gm_space_new(arena.map, "passing", arena.root, &space, NULL) == 0, "a space");
        gm_view_put(kept[k % 4]);
        kept[k % 4] = gm_view_get(space);
        REQUIRE(gm_space_free(space, NULL) == 0, "the end of a space");
        for (i = 0; gm_view_at(kept[k % 4], i, &section); i++) {
            REQUIRE(section.gpa >= next && section.last - section.gpa + 1 == DEVICE_BYTES,
                    "a range of other size");
            gm_region_get(section.region);
            gm_region_put(section.region);
            next = section.last + 1;
        }
        k++;
    }
    for (i = 0; i < 4; i++) {
        gm_view_put(kept[i]);
    }
    return NULL;
}

/* ---- the arena ---- */

static void open_arena(struct rnd *rnd)
{
    unsigned i;

    memset(&arena, 0, sizeof(arena));
    arena.commits = rnd_setting("GM_COMMITS", 20000);
    atomic_store(&arena.at_work, EDITORS);
    REQUIRE(gm_map_new(NULL, &arena.map, NULL) == 0, "a map");
    REQUIRE(gm_region_new_container(arena.map, "root", GM_SIZE_2_64, &arena.root) == 0, "a root");
    for (i = 0; i < EDITORS; i++) {
        struct gm_region_options options = {.size = sizeof(options),
                                            .kind = GM_REGION_CONTAINER,
                                            .name = "shelf",
                                            .size_bytes = EDITOR_BYTES,
                                            .addr = i * EDITOR_BYTES};

        arena.editors[i].rnd.state = rnd_next(rnd);
        arena.editors[i].number = i;
        REQUIRE(gm_region_new(arena.map, &options, &arena.editors[i].shelf, NULL) == 0, "a shelf");
        REQUIRE(gm_region_add(arena.root, arena.editors[i].shelf, NULL) == 0, "adding");
    }
    REQUIRE(gm_space_new(arena.map, "space", arena.root, &arena.space, NULL) == 0, "a space");
}

static void close_arena(void)
{
    unsigned i;
    unsigned j;

    REQUIRE(gm_space_free(arena.space, NULL) == 0, "the end of the space");
    for (i = 0; i < EDITORS; i++) {
        for (j = 0; j < DEVICES; j++) {
            gm_region_put(arena.editors[i].devices[j]);
        }
        gm_region_put(arena.editors[i].shelf);
    }
    gm_region_put(arena.root);
    gm_map_quiesce(arena.map);
    REQUIRE(atomic_load(&arena.released) == atomic_load(&arena.made), "%u of %u devices released",
            atomic_load(&arena.released), atomic_load(&arena.made));
    gm_map_free(arena.map);
}

static void commits_of_two_editors_are_all_seen(void **state)
{
    /* Nobody's commit is lost or seen half, and every device is released in the end. */
    struct rnd rnd = {rnd_seed("race_commits")};
    pthread_t threads[EDITORS + 2];
    unsigned i;

    (void)state;
    open_arena(&rnd);
    for (i = 0; i < EDITORS; i++) {
        REQUIRE(pthread_create(&threads[i], NULL, editor_main, &arena.editors[i]) == 0, "a thread");
    }
    REQUIRE(pthread_create(&threads[EDITORS], NULL, listener_main, NULL) == 0, "a thread");
    REQUIRE(pthread_create(&threads[EDITORS + 1], NULL, space_main, NULL) == 0, "a thread");
    for (i = 0; i < EDITORS + 2; i++) {
        pthread_join(threads[i], NULL);
    }
    printf("%u devices, %u replays\n", atomic_load(&arena.made), atomic_load(&arena.replays));
    close_arena();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(commits_of_two_editors_are_all_seen),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
