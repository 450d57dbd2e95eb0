/*
 * race/test_readers.c - two threads read and write while a third edits the map.
 *
 * The layout has no holes: below everything lies memory; over it a shadow window comes and goes, a BAR
 * moves, and devices are made, attached, removed and dropped. The editor writes down each map before it
 * commits it; an access that began after commit A and ended before commit B + 1 has to be what one of the maps
 * A to B says, all of its bytes by the same map.
 *
 *   editor:  maps[k] = ...;  begun = k (release);  commit;  done = k (release)
 *   reader:  A = done (acquire);  access;  B = begun (acquire)
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

#define PAGE 4096u
#define MEMORY_BYTES (512u * 1024)
#define SHADOW_START (64u * 1024)
#define SHADOW_BYTES (64u * 1024)
#define ROAM_START (256u * 1024) /* where BAR and devices are */
#define BAR_BYTES (16u * 1024)
#define DEVICE_BYTES 1536u
#define READERS 2u
#define WORDS_MAX 8u
#define NOWHERE UINT32_MAX

/* What one commit shows. */
struct map_state {
    uint32_t bar;    /* its address; NOWHERE: disabled */
    uint32_t device; /* its address; NOWHERE: none is attached */
    uint32_t device_id;
    bool shadow;
};

enum source { MEMORY = 1, SHADOW, BAR, DEVICE };

#define ALIVE 0xa11fe0a11fe0a11full

struct device {
    uint64_t alive;
    uint32_t id;
    enum source kind;
    atomic_uint accesses;
};

static struct {
    struct gm_map *map;
    struct gm_space *space;
    struct gm_region *root;
    struct gm_region *memory;
    struct gm_region *shadow_ram;
    struct gm_region *shadow; /* the window: an alias of it */
    struct gm_region *bar;
    struct gm_ram *memory_block;
    struct gm_ram *shadow_block;
    struct map_state *maps;
    uint64_t commits;
    atomic_uint_fast64_t begun;
    atomic_uint_fast64_t done;
    atomic_bool over;
    atomic_uint made;
    atomic_uint released;
} arena;

/* ---- values: who, where, and a checksum of both ---- */

static uint32_t checksum(uint32_t value)
{
    value = (value ^ 0x5bd1e995u) * 0x9e3779b1u;
    return value ^ value >> 15;
}

/* From @kind, its device @id (20 bits are kept) or a counter, at @offset (20 bits) in it. */
static uint64_t value_of(enum source kind, uint32_t id, uint32_t offset)
{
    uint32_t high = (uint32_t)kind << 29 | (id & 0x3ff) << 19 | (offset & 0x7ffff);

    return (uint64_t)high << 32 | checksum(high);
}

static bool is_whole(uint64_t value)
{
    return (uint32_t)value == checksum((uint32_t)(value >> 32));
}

/* ---- devices ---- */

static enum gm_access device_read(void *opaque, uint64_t offset, unsigned size_bytes,
                                  uint64_t *value, struct gm_attrs attrs)
{
    struct device *device = opaque;

    (void)attrs;
    REQUIRE(device->alive == ALIVE, "a device was read after its release");
    REQUIRE(size_bytes == 8, "a read of %u bytes", size_bytes);
    atomic_fetch_add_explicit(&device->accesses, 1, memory_order_relaxed);
    *value = value_of(device->kind, device->id, (uint32_t)offset);
    return GM_ACCESS_OK;
}

static enum gm_access device_write(void *opaque, uint64_t offset, unsigned size_bytes,
                                   uint64_t value, struct gm_attrs attrs)
{
    struct device *device = opaque;

    (void)offset;
    (void)attrs;
    REQUIRE(device->alive == ALIVE, "a device was written after its release");
    REQUIRE(size_bytes == 8 && is_whole(value), "a write of %u bytes, or torn", size_bytes);
    atomic_fetch_add_explicit(&device->accesses, 1, memory_order_relaxed);
    return GM_ACCESS_OK;
}

static void device_release(void *opaque)
{
    struct device *device = opaque;

    REQUIRE(device->alive == ALIVE, "released twice");
    memset(device, 0xdd, sizeof(*device));
    free(device);
    atomic_fetch_add_explicit(&arena.released, 1, memory_order_relaxed);
}

static const struct gm_io_ops device_ops = {
    .size = sizeof(device_ops),
    .read = device_read,
    .write = device_write,
    .valid = {8, 8, false},
    .implemented = {8, 8, false},
};

static struct gm_region *new_device(enum source kind, uint32_t id, uint32_t addr, uint32_t size)
{
    struct device *device = calloc(1, sizeof(*device));
    struct gm_region_options options = {.size = sizeof(options),
                                        .kind = GM_REGION_MMIO,
                                        .name = kind == BAR ? "bar" : "device",
                                        .size_bytes = size,
                                        .addr = addr,
                                        .priority = kind == BAR ? 1 : 2,
                                        .io = &device_ops,
                                        .opaque = device,
                                        .release = device_release};
    struct gm_region *region;

    device->alive = ALIVE;
    device->id = id;
    device->kind = kind;
    REQUIRE(gm_region_new(arena.map, &options, &region, NULL) == 0, "a device");
    atomic_fetch_add_explicit(&arena.made, 1, memory_order_relaxed);
    return region;
}

/* ---- who answers, by a map ---- */

static bool holds(uint32_t start, uint32_t size, uint32_t at)
{
    return start != NOWHERE && at >= start && at - start < size;
}

static enum source source_at(const struct map_state *map, uint32_t at, uint32_t *offset)
{
    if (holds(map->device, DEVICE_BYTES, at)) {
        *offset = at - map->device;
        return DEVICE;
    }
    if (holds(map->bar, BAR_BYTES, at)) {
        *offset = at - map->bar;
        return BAR;
    }
    if (map->shadow && holds(SHADOW_START, SHADOW_BYTES, at)) {
        *offset = at - SHADOW_START;
        return SHADOW;
    }
    *offset = at;
    return MEMORY;
}

/* ---- readers ---- */

/*
 * Pages take turns. 0: nobody writes; 1, 2: reader 0 or 1 stores single words, which the other loads; 3: of
 * one reader alone, which writes many words at a time. Of its own pages a reader knows what it stored
 * last, if it is sure where that went.
 */
struct reader {
    struct rnd rnd;
    uint32_t number;
    uint64_t known[2][MEMORY_BYTES / 8]; /* of memory, of shadow; 0: not sure */
    uint32_t counter;
    uint64_t reads;
    uint64_t writes;
    uint64_t devices;  /* reads that a device or BAR answered */
    uint64_t overlaps; /* accesses that a commit ran beside */
};

static bool is_mine(const struct reader *reader, uint32_t at)
{
    uint32_t page = at / PAGE;

    return page % 4 == 1 + reader->number ||
           (page % 4 == 3 && page / 4 % READERS == reader->number);
}

static bool explains_word(const struct reader *reader, const struct map_state *map, uint32_t at,
                          uint64_t value)
{
    uint32_t offset;
    enum source source = source_at(map, at, &offset);
    uint64_t known;

    if (source == BAR || source == DEVICE) {
        return value == value_of(source, source == BAR ? 0 : map->device_id, offset);
    }
    known = reader->known[source - MEMORY][offset / 8];
    if (is_mine(reader, at) && known != 0) {
        return value == known;
    }
    /* As it was at first, or what a reader stored. */
    return value == value_of(source, 0, offset) ||
           (at / PAGE % 4 != 0 && is_whole(value) && value >> 61 == 0);
}

static bool explains(const struct reader *reader, const struct map_state *map, uint32_t at,
                     const uint64_t *words, unsigned count)
{
    unsigned i;

    for (i = 0; i < count && explains_word(reader, map, at + 8 * i, words[i]); i++) {
    }
    return i == count;
}

static void read_some(struct reader *reader, uint32_t at, unsigned count)
{
    struct gm_attrs attrs = {0};
    uint64_t words[WORDS_MAX];
    uint64_t first = atomic_load_explicit(&arena.done, memory_order_acquire);
    uint64_t last;
    uint64_t k;
    enum gm_access outcome;

    outcome = count == 1 ? gm_load(arena.space, at, 8, GM_ORDER_LITTLE, &words[0], attrs)
                         : gm_read(arena.space, at, words, 8 * count, attrs);
    last = atomic_load_explicit(&arena.begun, memory_order_acquire);
    REQUIRE(outcome == GM_ACCESS_OK, "reading %u words at %x: outcome %d", count, at, outcome);
    for (k = first; k <= last && !explains(reader, &arena.maps[k], at, words, count); k++) {
    }
    REQUIRE(k <= last, "%u words at %x, the first %llx: no map from %llu to %llu says so", count,
            at, (unsigned long long)words[0], (unsigned long long)first, (unsigned long long)last);
    reader->reads++;
    reader->devices += words[0] >> 61 >= BAR;
    reader->overlaps += first != last;
}

/* Which memory got what was stored at @at, if maps @first to @last agree on it; else it is not known any more. */
static void note_stored(struct reader *reader, uint32_t at, uint64_t value, uint64_t first,
                        uint64_t last)
{
    uint32_t offset;
    enum source source = source_at(&arena.maps[first], at, &offset);
    bool agree = true;
    uint64_t k;

    for (k = first + 1; k <= last; k++) {
        agree = agree && source_at(&arena.maps[k], at, &offset) == source;
    }
    for (k = first; k <= last; k++) {
        source = source_at(&arena.maps[k], at, &offset);
        if (source == MEMORY || source == SHADOW) {
            reader->known[source - MEMORY][offset / 8] = agree ? value : 0;
        }
    }
}

/* To pages of its own. */
static void write_some(struct reader *reader, uint32_t at, unsigned count)
{
    struct gm_attrs attrs = {0};
    uint64_t words[WORDS_MAX];
    uint64_t first;
    uint64_t last;
    enum gm_access outcome;
    unsigned i;

    for (i = 0; i < count; i++) {
        uint32_t high = reader->counter++ & 0x1fffffffu;

        words[i] = (uint64_t)high << 32 | checksum(high);
    }
    first = atomic_load_explicit(&arena.done, memory_order_acquire);
    outcome = count == 1 ? gm_store(arena.space, at, 8, GM_ORDER_LITTLE, words[0], attrs)
                         : gm_write(arena.space, at, words, 8 * count, attrs);
    last = atomic_load_explicit(&arena.begun, memory_order_acquire);
    REQUIRE(outcome == GM_ACCESS_OK, "writing at %x: outcome %d", at, outcome);
    for (i = 0; i < count; i++) {
        note_stored(reader, at + 8 * i, words[i], first, last);
    }
    reader->writes++;
    reader->overlaps += first != last;
}

/* A snapshot: all of it is there, whatever the editor does meanwhile. */
static void look_around(void)
{
    struct gm_view *view = gm_view_get(arena.space);
    struct gm_section section;
    uint64_t next = 0;
    size_t i;

    for (i = 0; gm_view_at(view, i, &section); i++) {
        REQUIRE(section.gpa == next, "a hole at %llx", (unsigned long long)next);
        REQUIRE(gm_region_name(section.region)[0] != '\0', "a region without a name");
        next = section.last + 1;
    }
    REQUIRE(next == MEMORY_BYTES, "the map ends at %llx", (unsigned long long)next);
    gm_view_put(view);
}

/* An access of some page, as its turn allows. */
static void access_some(struct reader *reader)
{
    uint32_t page = (uint32_t)rnd_below(&reader->rnd, MEMORY_BYTES / PAGE);
    uint32_t at = page * PAGE + (uint32_t)rnd_below(&reader->rnd, PAGE / 8 - WORDS_MAX) * 8;
    unsigned count = 1 + (unsigned)rnd_below(&reader->rnd, WORDS_MAX);

    if (page % 4 == 1 || page % 4 == 2) {
        count = 1;
    } else if (page % 4 == 3 && !is_mine(reader, at)) {
        return;
    }
    if (is_mine(reader, at) && rnd_one_in(&reader->rnd, 2)) {
        write_some(reader, at, count);
    } else {
        read_some(reader, at, count);
    }
}

static void *reader_main(void *opaque)
{
    struct reader *reader = opaque;

    while (!atomic_load_explicit(&arena.over, memory_order_acquire)) {
        access_some(reader);
        if (rnd_one_in(&reader->rnd, 64)) {
            look_around();
        }
    }
    return NULL;
}

/* ---- the editor ---- */

struct editor {
    struct rnd rnd;
    struct map_state now;
    struct gm_region *device; /* that is attached */
    uint32_t next_id;
};

/* Not on a page's or a word's border alone: any multiple of 8. */
static uint32_t roam(struct rnd *rnd, uint32_t size)
{
    return ROAM_START + (uint32_t)rnd_below(rnd, (MEMORY_BYTES - ROAM_START - size) / 8) * 8;
}

static void edit_bar(struct editor *editor, struct gm_txn *txn)
{
    bool shows = editor->now.bar == NOWHERE || !rnd_one_in(&editor->rnd, 4);
    int result = gm_txn_set_enabled(txn, arena.bar, shows);

    editor->now.bar = shows ? roam(&editor->rnd, BAR_BYTES) : NOWHERE;
    if (shows && result == 0) {
        result = gm_txn_set_addr(txn, arena.bar, editor->now.bar);
    }
    REQUIRE(result == 0, "recording");
}

static void edit_shadow(struct editor *editor, struct gm_txn *txn)
{
    editor->now.shadow = !editor->now.shadow;
    REQUIRE(gm_txn_set_enabled(txn, arena.shadow, editor->now.shadow) == 0, "recording");
}

/* The device goes, or another comes; its owner keeps nothing of it. */
static void edit_device(struct editor *editor, struct gm_txn *txn)
{
    if (editor->device != NULL) {
        REQUIRE(gm_txn_del(txn, arena.root, editor->device) == 0, "recording");
        gm_region_put(editor->device);
        editor->device = NULL;
        editor->now.device = NOWHERE;
    }
    if (!rnd_one_in(&editor->rnd, 3)) {
        editor->now.device = roam(&editor->rnd, DEVICE_BYTES);
        editor->now.device_id = editor->next_id++ & 0x3ff;
        editor->device =
            new_device(DEVICE, editor->now.device_id, editor->now.device, DEVICE_BYTES);
        REQUIRE(gm_txn_add(txn, arena.root, editor->device) == 0, "recording");
    }
}

static void edit_once(struct editor *editor, uint64_t k)
{
    struct gm_txn *txn;

    REQUIRE(gm_txn_begin(arena.map, &txn) == 0, "beginning");
    if (rnd_one_in(&editor->rnd, 2)) {
        edit_bar(editor, txn);
    }
    if (rnd_one_in(&editor->rnd, 3)) {
        edit_shadow(editor, txn);
    }
    if (rnd_one_in(&editor->rnd, 2)) {
        edit_device(editor, txn);
    }
    arena.maps[k] = editor->now;
    /* release: pairs with the acquire loads of the readers, as does the next one */
    atomic_store_explicit(&arena.begun, k, memory_order_release);
    REQUIRE(gm_txn_commit(txn, NULL) == 0, "commit %llu", (unsigned long long)k);
    atomic_store_explicit(&arena.done, k, memory_order_release);
}

/* ---- the arena ---- */

static struct gm_region *new_memory(const char *name, struct gm_ram *block)
{
    struct gm_region *region;

    REQUIRE(gm_region_new_ram(arena.map, name, block, &region) == 0, "memory");
    return region;
}

static struct gm_ram *new_block(enum source kind, uint32_t size)
{
    struct gm_ram *block;
    uint64_t *words;
    uint32_t at;

    REQUIRE(gm_ram_new_anon(size, NULL, &block, NULL) == 0, "a block");
    words = gm_ram_hva(block);
    for (at = 0; at < size; at += 8) {
        words[at / 8] = value_of(kind, 0, at);
    }
    return block;
}

static void open_arena(uint64_t commits)
{
    struct gm_txn *txn;

    memset(&arena, 0, sizeof(arena));
    arena.commits = commits;
    arena.maps = calloc(commits + 1, sizeof(*arena.maps));
    arena.maps[0] = (struct map_state){NOWHERE, NOWHERE, 0, true};
    REQUIRE(gm_map_new(NULL, &arena.map, NULL) == 0, "a map");
    arena.memory_block = new_block(MEMORY, MEMORY_BYTES);
    arena.shadow_block = new_block(SHADOW, SHADOW_BYTES);
    arena.memory = new_memory("memory", arena.memory_block);
    arena.shadow_ram = new_memory("shadow", arena.shadow_block);
    arena.bar = new_device(BAR, 0, ROAM_START, BAR_BYTES);
    REQUIRE(gm_region_new_alias(arena.map, "window", arena.shadow_ram, 0, SHADOW_BYTES,
                                &arena.shadow) == 0,
            "an alias");
    REQUIRE(gm_region_new_container(arena.map, "root", GM_SIZE_2_64, &arena.root) == 0, "a root");
    REQUIRE(gm_txn_begin(arena.map, &txn) == 0, "beginning");
    REQUIRE(gm_txn_set_enabled(txn, arena.bar, false) == 0, "recording");
    REQUIRE(gm_txn_set_addr(txn, arena.shadow, SHADOW_START) == 0, "recording");
    REQUIRE(gm_txn_set_priority(txn, arena.memory, -1) == 0, "recording");
    REQUIRE(gm_txn_add(txn, arena.root, arena.memory) == 0, "recording");
    REQUIRE(gm_txn_add(txn, arena.root, arena.shadow) == 0, "recording");
    REQUIRE(gm_txn_add(txn, arena.root, arena.bar) == 0, "recording");
    REQUIRE(gm_txn_commit(txn, NULL) == 0, "commit");
    REQUIRE(gm_space_new(arena.map, "memory", arena.root, &arena.space, NULL) == 0, "a space");
}

static void close_arena(struct editor *editor)
{
    REQUIRE(gm_space_free(arena.space, NULL) == 0, "ending the space");
    gm_region_put(editor->device);
    gm_region_put(arena.bar);
    gm_region_put(arena.shadow);
    gm_region_put(arena.shadow_ram);
    gm_region_put(arena.memory);
    gm_region_put(arena.root);
    gm_map_quiesce(arena.map);
    REQUIRE(atomic_load(&arena.released) == atomic_load(&arena.made), "%u of %u devices released",
            atomic_load(&arena.released), atomic_load(&arena.made));
    gm_map_free(arena.map);
    gm_ram_put(arena.memory_block);
    gm_ram_put(arena.shadow_block);
    free(arena.maps);
}

static void readers_see_one_of_the_maps_while_it_is_edited(void **state)
{
    /* Nothing is lost, torn, or freed early while 100,000 commits run beside two readers. */
    static struct reader readers[READERS];
    struct editor editor = {.rnd = {rnd_seed("race_readers")}, .now = {NOWHERE, NOWHERE, 0, true}};
    pthread_t threads[READERS];
    uint32_t i;
    uint64_t k;

    (void)state;
    open_arena(rnd_setting("GM_COMMITS", 100000));
    for (i = 0; i < READERS; i++) {
        readers[i].rnd.state = rnd_next(&editor.rnd);
        readers[i].number = i;
        REQUIRE(pthread_create(&threads[i], NULL, reader_main, &readers[i]) == 0, "a thread");
    }
    for (k = 1; k <= arena.commits; k++) {
        edit_once(&editor, k);
    }
    atomic_store_explicit(&arena.over, true, memory_order_release);
    for (i = 0; i < READERS; i++) {
        pthread_join(threads[i], NULL);
        printf("reader %u: %llu reads, %llu of devices; %llu writes; %llu beside a commit\n", i,
               (unsigned long long)readers[i].reads, (unsigned long long)readers[i].devices,
               (unsigned long long)readers[i].writes, (unsigned long long)readers[i].overlaps);
        assert_true(readers[i].reads > 0 && readers[i].writes > 0 && readers[i].overlaps > 0);
    }
    close_arena(&editor);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(readers_see_one_of_the_maps_while_it_is_edited),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
