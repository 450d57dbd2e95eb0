/*
 * soak/edits.c - the committer: edits without pause. Most of them leave what the guest uses as it is, and come while it uses it; those
 * that show it other memory park its pages meanwhile.
 */
#include "soak.h"

#include <inttypes.h>
#include <string.h>

#define EDITS_AT_ONCE_MAX 6u
#define SHADOW_FIRST 8u
#define SHADOW_PAGES 8u
#define WINDOW_PAGES_MAX (FILE_STRIDE - 1)

enum edit {
    /* Pieces of a slot come and go beside the pages that the guest uses. */
    EDIT_WINDOW_TOGGLE,
    EDIT_WINDOW_MOVE,
    EDIT_WINDOW_SIZE,
    EDIT_MMIO_TOGGLE,
    EDIT_MMIO_MOVE,
    EDIT_REPLACE, /* by another region of the same memory */
    EDIT_READONLY,
    EDIT_OTHER_LOG, /* of a client that nobody asks */
    EDIT_LOG,       /* the harvester's */
    /* With parked pages. */
    EDIT_BAR_TOGGLE,
    EDIT_BAR_MOVE,
    EDIT_MOVE,
    EDIT_HOTPLUG,
    EDIT_SHADOW,
    EDIT_KINDS,
};
#define EDIT_PARKS_FIRST EDIT_BAR_TOGGLE

struct bar {
    bool is_enabled;
    unsigned page; /* where it begins among those of the group */
};

struct committer {
    struct soak *soak;
    struct rnd rnd;
    struct gm_region *window, *mmio;
    bool window_is_enabled, mmio_is_enabled;
    unsigned low_shown;
    struct gm_region *flash, *shadow;
    struct gm_ram *flash_block, *shadow_block;
    bool flash_is_readonly, shadow_is_enabled;
    struct soak_memory flash_memories[GROUP_PAGES], shadow_memories[SHADOW_PAGES];
    bool other_log[BLOCKS];
    struct bar bars[BARS];
    unsigned moved_place;
    /* What is plugged; NULL: nothing is. */
    struct gm_region *hot;
    struct gm_ram *hot_block;
    struct soak_memory hot_memories[GROUP_PAGES];
    unsigned hot_place;
    uint64_t hot_number;

    /* The transaction under way. */
    struct gm_txn *txn;
    unsigned parks; /* bits of edits */
    struct soak_block *logged;
    struct gm_region *unplugged;
    struct gm_ram *unplugged_block;
};

/* ---- edits that come while the guest uses all of it ---- */

static uint64_t window_gpa(struct committer *committer)
{
    uint64_t page = rnd_below(&committer->rnd, FILE_PAGES) * FILE_STRIDE + 1;

    return FILE_GPA + page * PAGE_BYTES;
}

static int edit_window_toggle(struct committer *committer)
{
    committer->window_is_enabled = !committer->window_is_enabled;
    return gm_txn_set_enabled(committer->txn, committer->window, committer->window_is_enabled);
}

static int edit_window_move(struct committer *committer)
{
    return gm_txn_set_addr(committer->txn, committer->window, window_gpa(committer));
}

static int edit_window_size(struct committer *committer)
{
    uint64_t page_count = 1 + rnd_below(&committer->rnd, WINDOW_PAGES_MAX);

    return gm_txn_set_size(committer->txn, committer->window, page_count * PAGE_BYTES);
}

static int edit_mmio_toggle(struct committer *committer)
{
    committer->mmio_is_enabled = !committer->mmio_is_enabled;
    return gm_txn_set_enabled(committer->txn, committer->mmio, committer->mmio_is_enabled);
}

static int edit_mmio_move(struct committer *committer)
{
    return gm_txn_set_addr(committer->txn, committer->mmio, window_gpa(committer));
}

static int replace(struct gm_txn *txn, struct gm_region *const pair[static 2], unsigned *shown)
{
    int rc = gm_txn_set_enabled(txn, pair[*shown], false);

    *shown = 1 - *shown;
    return rc | gm_txn_set_enabled(txn, pair[*shown], true);
}

static int edit_replace(struct committer *committer)
{
    struct soak *soak = committer->soak;
    uint64_t number = rnd_below(&committer->rnd, BLOCK_WINDOWED + 2);

    if (number > BLOCK_WINDOWED) {
        return replace(committer->txn, soak->low, &committer->low_shown);
    }
    return replace(committer->txn, soak->blocks[number].regions, &soak->blocks[number].shown);
}

static int edit_readonly(struct committer *committer)
{
    committer->flash_is_readonly = !committer->flash_is_readonly;
    return gm_txn_set_readonly(committer->txn, committer->flash, committer->flash_is_readonly);
}

static int set_log(struct committer *committer, const struct soak_block *block, unsigned client,
                   bool on)
{
    int rc = 0;

    for (unsigned i = 0; i < 2 && block->regions[i] != NULL; i++) {
        rc |= gm_txn_set_log(committer->txn, block->regions[i], client, on);
    }
    return rc;
}

static int edit_other_log(struct committer *committer)
{
    uint64_t number = rnd_below(&committer->rnd, BLOCKS);
    bool *is_on = &committer->other_log[number];

    *is_on = !*is_on;
    return set_log(committer, &committer->soak->blocks[number], OTHER_CLIENT, *is_on);
}

/* The block's log was held, and harvested, before the transaction began. */
static int edit_log(struct committer *committer)
{
    struct soak_block *block = committer->logged;

    return set_log(committer, block, HARVEST_CLIENT, !block->is_logged);
}

/* ---- those that show other memory ---- */

static unsigned bar_pages(unsigned bar)
{
    return bar == 0 ? BAR_PAGES_MAX / 2 : BAR_PAGES_MAX;
}

static int edit_bar_toggle(struct committer *committer)
{
    unsigned number = (unsigned)rnd_below(&committer->rnd, BARS);
    struct bar *bar = &committer->bars[number];

    bar->is_enabled = !bar->is_enabled;
    return gm_txn_set_enabled(
        committer->txn, committer->soak->blocks[BLOCK_BAR0 + number].regions[0], bar->is_enabled);
}

static int edit_bar_move(struct committer *committer)
{
    unsigned number = (unsigned)rnd_below(&committer->rnd, BARS);
    struct bar *bar = &committer->bars[number];

    bar->page = (unsigned)rnd_below(&committer->rnd, GROUP_PAGES - bar_pages(number) + 1);
    return gm_txn_set_addr(committer->txn, committer->soak->blocks[BLOCK_BAR0 + number].regions[0],
                           WINDOWED_GPA + bar->page * (uint64_t)PAGE_BYTES);
}

/* One at which there is nothing. */
static unsigned free_place(struct committer *committer)
{
    unsigned place;

    do {
        place = (unsigned)rnd_below(&committer->rnd, PLACE_COUNT);
    } while (place == committer->moved_place ||
             (committer->hot != NULL && place == committer->hot_place));
    return place;
}

static int edit_move(struct committer *committer)
{
    committer->moved_place = free_place(committer);
    return gm_txn_set_addr(committer->txn, committer->soak->blocks[BLOCK_MOVED].regions[0],
                           PLACE_GPA(committer->moved_place));
}

static int unplug(struct committer *committer)
{
    committer->unplugged = committer->hot;
    committer->unplugged_block = committer->hot_block;
    committer->hot = NULL;
    return gm_txn_del(committer->txn, gm_vm_memory_root(committer->soak->vm), committer->unplugged);
}

/* Numbers that no other memory has, so that old memory in its place is seen. */
static void fill_hot(struct committer *committer)
{
    for (unsigned page = 0; page < GROUP_PAGES; page++) {
        struct soak_memory *memory = &committer->hot_memories[page];

        *memory = (struct soak_memory){.bytes = (uint8_t *)gm_ram_hva(committer->hot_block) +
                                                page * (size_t)PAGE_BYTES,
                                       .shown_at = NOT_SHOWN};
        for (unsigned i = 0; i < SOAK_VCPUS; i++) {
            memory->expect[i] = UINT64_C(1) << 63 | committer->hot_number << 8 | page;
            soak_store(soak_word(memory, i), memory->expect[i]);
        }
    }
}

static int plug(struct committer *committer)
{
    static const enum gm_ram_kind kinds[] = {GM_RAM_ANON, GM_RAM_SHARED, GM_RAM_MEMFD};
    struct soak *soak = committer->soak;
    const enum gm_ram_kind kind = kinds[rnd_below(&committer->rnd, 3)];
    const struct gm_ram_options block = {
        .size = sizeof(block),
        .allocator = &soak->allocator,
        .kind = kind,
        .name = kind == GM_RAM_MEMFD ? "hot" : NULL,
        .size_bytes = GROUP_PAGES * PAGE_BYTES,
    };
    struct gm_region_options options = {
        .size = sizeof(options),
        .kind = GM_REGION_RAM,
        .name = "hot",
        .size_bytes = block.size_bytes,
    };
    struct gm_diag diag = {0};
    int rc;

    REQUIRE(gm_ram_new(&block, &committer->hot_block, &diag) == 0, "%s", diag.text);
    committer->hot_number++;
    fill_hot(committer);
    options.ram = committer->hot_block;
    options.addr = PLACE_GPA(free_place(committer));
    committer->hot_place =
        (unsigned)((options.addr - PLACE_GPA(0)) / (PLACE_GPA(1) - PLACE_GPA(0)));
    REQUIRE(gm_region_new(gm_vm_map(soak->vm), &options, &committer->hot, NULL) == 0, "hot");
    rc = gm_txn_add(committer->txn, gm_vm_memory_root(soak->vm), committer->hot);
    return rc | gm_txn_set_log(committer->txn, committer->hot, HOT_CLIENT, true);
}

static int edit_hotplug(struct committer *committer)
{
    return committer->hot != NULL ? unplug(committer) : plug(committer);
}

static int edit_shadow(struct committer *committer)
{
    committer->shadow_is_enabled = !committer->shadow_is_enabled;
    return gm_txn_set_enabled(committer->txn, committer->shadow, committer->shadow_is_enabled);
}

static int (*const edits[EDIT_KINDS])(struct committer *committer) = {
    [EDIT_WINDOW_TOGGLE] = edit_window_toggle,
    [EDIT_WINDOW_MOVE] = edit_window_move,
    [EDIT_WINDOW_SIZE] = edit_window_size,
    [EDIT_MMIO_TOGGLE] = edit_mmio_toggle,
    [EDIT_MMIO_MOVE] = edit_mmio_move,
    [EDIT_REPLACE] = edit_replace,
    [EDIT_READONLY] = edit_readonly,
    [EDIT_OTHER_LOG] = edit_other_log,
    [EDIT_LOG] = edit_log,
    [EDIT_BAR_TOGGLE] = edit_bar_toggle,
    [EDIT_BAR_MOVE] = edit_bar_move,
    [EDIT_MOVE] = edit_move,
    [EDIT_HOTPLUG] = edit_hotplug,
    [EDIT_SHADOW] = edit_shadow,
};

/* ---- before and after a transaction ---- */

static const struct {
    unsigned first;
    unsigned edits;
} groups[] = {
    {SOAK_WINDOWED, 1u << EDIT_BAR_TOGGLE | 1u << EDIT_BAR_MOVE},
    {SOAK_MOVED, 1u << EDIT_MOVE},
    {SOAK_HOT, 1u << EDIT_HOTPLUG},
    {SOAK_READ, 1u << EDIT_SHADOW},
};
#define GROUPS (sizeof(groups) / sizeof(groups[0]))

/* Pages that show nothing are parked all the time. */
static void park_all(struct committer *committer)
{
    for (unsigned i = 0; i < GROUPS; i++) {
        if ((groups[i].edits & committer->parks) != 0 &&
            (groups[i].first != SOAK_HOT || committer->hot != NULL)) {
            soak_park(committer->soak, groups[i].first, GROUP_PAGES);
        }
    }
}

static void unpark_all(struct committer *committer)
{
    for (unsigned i = 0; i < GROUPS; i++) {
        if ((groups[i].edits & committer->parks) != 0 &&
            (groups[i].first != SOAK_HOT || committer->hot != NULL)) {
            soak_unpark(committer->soak, groups[i].first, GROUP_PAGES);
        }
    }
}

/* What is unplugged is parked: just now all that was written since it was plugged is dirty. */
static void check_hot_log(struct committer *committer)
{
    struct soak *soak = committer->soak;
    bool is_dirty[GROUP_PAGES] = {false};
    struct gm_harvest *harvest;
    uint64_t first;
    uint64_t last;

    REQUIRE(gm_region_log_sync(committer->hot, 0, GROUP_PAGES * PAGE_BYTES) == 0, "sync");
    REQUIRE(gm_harvest_begin(committer->hot_block, HOT_CLIENT, 0, GROUP_PAGES * PAGE_BYTES,
                             &harvest) == 0,
            "harvest");
    atomic_fetch_add(&soak->harvested_pages, gm_harvest_page_count(harvest));
    while (gm_harvest_next(harvest, &first, &last)) {
        memset(&is_dirty[first], true, last - first + 1);
    }
    gm_harvest_commit(harvest);
    atomic_fetch_add(&soak->harvests, 1);
    for (unsigned page = 0; page < GROUP_PAGES; page++) {
        const struct soak_memory *memory = &committer->hot_memories[page];

        for (unsigned i = 0; i < SOAK_VCPUS; i++) {
            REQUIRE(is_dirty[page] ||
                        soak_load(soak_expect(soak, i, SOAK_HOT + page)) == memory->expect[i],
                    "plugged page %u was written by vCPU %u, and is not dirty", page, i);
        }
    }
}

/* The BAR with the higher number, else the next, else RAM. */
static struct soak_memory *windowed_memory(struct committer *committer, unsigned page)
{
    struct soak_block *blocks = committer->soak->blocks;

    for (unsigned number = BARS; number-- > 0;) {
        const struct bar *bar = &committer->bars[number];

        if (bar->is_enabled && page >= bar->page && page - bar->page < bar_pages(number)) {
            return &blocks[BLOCK_BAR0 + number].memories[page - bar->page];
        }
    }
    return &blocks[BLOCK_WINDOWED].memories[page];
}

/* No memory is shown twice in between. */
static void show_windowed(struct committer *committer)
{
    struct soak *soak = committer->soak;

    for (unsigned page = 0; page < GROUP_PAGES; page++) {
        if (soak->shown[SOAK_WINDOWED + page] != windowed_memory(committer, page)) {
            soak_show(soak, SOAK_WINDOWED + page, NULL);
        }
    }
    for (unsigned page = 0; page < GROUP_PAGES; page++) {
        soak_show(soak, SOAK_WINDOWED + page, windowed_memory(committer, page));
    }
}

static void show_read(struct committer *committer)
{
    for (unsigned page = 0; page < GROUP_PAGES; page++) {
        bool is_shadowed = committer->shadow_is_enabled && page >= SHADOW_FIRST &&
                           page - SHADOW_FIRST < SHADOW_PAGES;

        soak_show(committer->soak, SOAK_READ + page,
                  is_shadowed ? &committer->shadow_memories[page - SHADOW_FIRST]
                              : &committer->flash_memories[page]);
    }
}

static void show_places(struct committer *committer)
{
    struct soak *soak = committer->soak;

    for (unsigned page = 0; page < GROUP_PAGES; page++) {
        if ((committer->parks & 1u << EDIT_MOVE) != 0) {
            soak_check(soak, SOAK_MOVED + page);
            soak_set_place(soak, SOAK_MOVED + page,
                           PLACE_GPA(committer->moved_place) + page * (uint64_t)PAGE_BYTES);
        }
        if ((committer->parks & 1u << EDIT_HOTPLUG) != 0 && committer->hot != NULL) {
            soak_show(soak, SOAK_HOT + page, &committer->hot_memories[page]);
            soak_set_place(soak, SOAK_HOT + page,
                           PLACE_GPA(committer->hot_place) + page * (uint64_t)PAGE_BYTES);
        }
    }
}

static void show_all(struct committer *committer)
{
    if ((committer->parks & (1u << EDIT_BAR_TOGGLE | 1u << EDIT_BAR_MOVE)) != 0) {
        show_windowed(committer);
    }
    if ((committer->parks & 1u << EDIT_SHADOW) != 0) {
        show_read(committer);
    }
    show_places(committer);
}

/* No log is lost between two states of it: what was written before it began is nobody's to report. */
static void end_log(struct committer *committer)
{
    struct soak_block *block = committer->logged;

    if (block == NULL) {
        return;
    }
    block->is_logged = !block->is_logged;
    if (block->is_logged) {
        soak_copy_all(committer->soak, block);
    }
    pthread_mutex_unlock(&block->log);
    committer->logged = NULL;
}

static void free_unplugged(struct committer *committer)
{
    if (committer->unplugged != NULL) {
        gm_region_put(committer->unplugged);
        gm_ram_put(committer->unplugged_block);
        committer->unplugged = NULL;
    }
}

/* ---- transactions ---- */

/* One in three parks pages. Logging and hot-plugging are once in a transaction. */
static unsigned choose(struct committer *committer, enum edit kinds[static EDITS_AT_ONCE_MAX])
{
    unsigned count = 1 + (unsigned)rnd_below(&committer->rnd, EDITS_AT_ONCE_MAX);
    bool may_park = rnd_one_in(&committer->rnd, 3);
    unsigned chosen = 0;

    committer->parks = 0;
    for (unsigned i = 0; i < count; i++) {
        enum edit kind =
            (enum edit)rnd_below(&committer->rnd, may_park ? EDIT_KINDS : EDIT_PARKS_FIRST);
        unsigned bit = 1u << kind;

        if ((bit & (1u << EDIT_LOG | 1u << EDIT_HOTPLUG) & chosen) == 0) {
            kinds[i] = kind;
            chosen |= bit;
        } else {
            kinds[i] = EDIT_WINDOW_MOVE;
        }
    }
    committer->parks = chosen & ~((1u << EDIT_PARKS_FIRST) - 1);
    if ((chosen & 1u << EDIT_LOG) != 0) {
        committer->logged = &committer->soak->blocks[rnd_below(&committer->rnd, BLOCKS)];
        pthread_mutex_lock(&committer->logged->log);
        soak_harvest(committer->soak, committer->logged);
    }
    return count;
}

static void commit_some(struct committer *committer)
{
    struct soak *soak = committer->soak;
    enum edit kinds[EDITS_AT_ONCE_MAX];
    unsigned count = choose(committer, kinds);
    struct gm_diag diag = {0};

    park_all(committer);
    if ((committer->parks & 1u << EDIT_HOTPLUG) != 0 && committer->hot != NULL) {
        check_hot_log(committer);
        for (unsigned page = SOAK_HOT; page < SOAK_HOT + GROUP_PAGES; page++) {
            soak_show(soak, page, NULL);
        }
    }
    REQUIRE(gm_txn_begin(gm_vm_map(soak->vm), &committer->txn) == 0, "begin");
    for (unsigned i = 0; i < count; i++) {
        REQUIRE(edits[kinds[i]](committer) == 0, "edit %u", kinds[i]);
    }
    REQUIRE(gm_txn_commit(committer->txn, &diag) == 0, "%s", diag.text);
    free_unplugged(committer);
    show_all(committer);
    end_log(committer);
    unpark_all(committer);
    soak_check_exits(soak);
    atomic_fetch_add(&soak->commits, 1);
    atomic_fetch_add(&soak->edits, count);
}

/* ---- beginning and end ---- */

static void make_read(struct committer *committer)
{
    struct soak *soak = committer->soak;

    REQUIRE(gm_ram_new_anon(GROUP_PAGES * PAGE_BYTES, &soak->allocator, &committer->flash_block,
                            NULL) == 0 &&
                gm_ram_new_anon(SHADOW_PAGES * PAGE_BYTES, &soak->allocator,
                                &committer->shadow_block, NULL) == 0,
            "blocks");
    for (unsigned page = 0; page < GROUP_PAGES + SHADOW_PAGES; page++) {
        bool is_flash = page < GROUP_PAGES;
        unsigned number = is_flash ? page : page - GROUP_PAGES;
        struct soak_memory *memory =
            is_flash ? &committer->flash_memories[number] : &committer->shadow_memories[number];

        memory->bytes =
            (uint8_t *)gm_ram_hva(is_flash ? committer->flash_block : committer->shadow_block) +
            number * (size_t)PAGE_BYTES;
        memory->shown_at = NOT_SHOWN;
        for (unsigned i = 0; i < SOAK_VCPUS; i++) {
            memory->expect[i] = UINT64_C(0xf000) + page * SOAK_VCPUS + i;
            soak_store(soak_word(memory, i), memory->expect[i]);
        }
    }
    committer->flash = soak_region(soak, "flash", committer->flash_block, READ_GPA, 0, false);
    committer->shadow = soak_region(soak, "shadow", committer->shadow_block,
                                    READ_GPA + SHADOW_FIRST * (uint64_t)PAGE_BYTES, 1, true);
    for (unsigned page = 0; page < GROUP_PAGES; page++) {
        soak_set_place(soak, SOAK_READ + page, READ_GPA + page * (uint64_t)PAGE_BYTES);
    }
    show_read(committer);
    soak_unpark(soak, SOAK_READ, GROUP_PAGES);
}

static void begin(struct committer *committer, struct soak *soak)
{
    static const struct gm_io_ops none = {.size = sizeof(none)};
    struct gm_ram *block;

    committer->soak = soak;
    committer->rnd.state = soak->seed;
    make_read(committer);
    REQUIRE(gm_ram_new_anon(WINDOW_PAGES_MAX * PAGE_BYTES, &soak->allocator, &block, NULL) == 0,
            "block");
    committer->window = soak_region(soak, "window", block, window_gpa(committer), 1, true);
    gm_ram_put(block);
    REQUIRE(gm_region_new_mmio(gm_vm_map(soak->vm), "mmio", PAGE_BYTES, &none, NULL,
                               &committer->mmio) == 0,
            "mmio");
    REQUIRE(gm_region_set_enabled(committer->mmio, false, NULL) == 0 &&
                gm_region_set_addr(committer->mmio, MMIO_GPA, NULL) == 0 &&
                gm_region_add(gm_vm_memory_root(soak->vm), committer->mmio, NULL) == 0,
            "mmio");
}

static void end(struct committer *committer)
{
    if (committer->hot != NULL) {
        gm_region_put(committer->hot);
        gm_ram_put(committer->hot_block);
    }
    gm_region_put(committer->window);
    gm_region_put(committer->mmio);
    gm_region_put(committer->flash);
    gm_region_put(committer->shadow);
    gm_ram_put(committer->flash_block);
    gm_ram_put(committer->shadow_block);
}

void *soak_committer(void *opaque)
{
    static struct committer committer;
    struct soak *soak = opaque;

    memset(&committer, 0, sizeof(committer));
    begin(&committer, soak);
    while (!atomic_load(&soak->end)) {
        commit_some(&committer);
    }
    end(&committer);
    return NULL;
}
