/*
 * tests/kvm/test_hole.c - "no hole": two vCPUs read and write all their memory without pause (hole.h) while the map is edited.
 * Not one access to what is RAM before and after an edit comes out as MMIO, is lost, or finds something else; and no page
 * that was written while it was logged is missed.
 *
 *   test_hole [EDITS [kvm | soft]]        the latter: on one of them only
 */
#include "hole.h"

#include "model/random.h"
#include "model/require.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define EDITS_AT_ONCE_MAX 40u
#define MAX_SLOTS 20u /* so few that pieces have to be joined again */
#define LOG_CLIENT 2u
#define LOW_WINDOW 0x5000u
#define MMIO_BESIDE (HOLE_GPA + (HOLE_BESIDE + 32) * 4096u)

enum edit {
    EDIT_BAR_MOVE,   /* over RAM, or beside it */
    EDIT_BAR_TOGGLE, /* a device's memory decoding */
    EDIT_PAM_TOGGLE,
    EDIT_PAM_READONLY,
    EDIT_FLASH_READONLY,
    EDIT_HOTPLUG,
    EDIT_LOG,
    EDIT_REPLACE,     /* all pages by another region of the same memory */
    EDIT_REPLACE_LOW, /* ... and where the programs are */
    EDIT_LOW_WINDOW,  /* splits the memory where the programs are */
    EDIT_MMIO_MOVE,   /* beside RAM */
    EDIT_KINDS,
};

static const char *const edit_names[EDIT_KINDS] = {
    "BAR moves",      "BAR toggles", "shadow toggles",   "shadow read-only",     "flash read-only",
    "hotplug",        "log on/off",  "RAM replacements", "low RAM replacements", "low windows",
    "MMIO BAR moves",
};

static uint64_t edits_per_test = 2500;

struct editor {
    struct hole hole;
    struct rnd rnd;
    uint64_t counts[EDIT_KINDS];
    uint64_t commits;
    uint64_t harvests;
    uint64_t harvested;       /* pages */
    struct gm_region *ram[2]; /* of one block; one is enabled */
    struct gm_region *low[2];
    struct gm_region *bars[HOLE_BARS];
    struct gm_region *pams[HOLE_PAMS];
    struct gm_region *flash;
    struct gm_region *hot;
    struct gm_region *low_window;
    unsigned ram_shown, low_shown; /* which of the two */
    bool pam_is_readonly[HOLE_PAMS];
    bool flash_is_readonly;
    bool low_window_is_enabled;
    bool is_hot;                    /* plugged, */
    bool is_used;                   /* ... and the guest uses it */
    uint32_t hot_since[HOLE_VCPUS]; /* steps from this one on did */
    bool is_logged;
    bool log_has_changed;                    /* in the transaction under way */
    uint32_t copy[HOLE_WRITTEN][HOLE_VCPUS]; /* what harvests have said */
};

/* ---- the machine ---- */

static struct gm_region *make_region(struct editor *editor, const char *name, struct gm_ram *block,
                                     unsigned page_count, uint64_t gpa, int32_t priority,
                                     bool is_disabled)
{
    struct gm_region_options options = {
        .size = sizeof(options),
        .kind = GM_REGION_RAM,
        .name = name,
        .size_bytes = page_count * 4096u,
        .addr = gpa,
        .priority = priority,
        .disabled = is_disabled,
        .ram = block,
    };
    struct gm_vm *vm = editor->hole.guest.vm;
    struct gm_region *region;

    if (block == NULL) {
        REQUIRE(gm_ram_new_anon(options.size_bytes, NULL, &options.ram, NULL) == 0, "%s", name);
    }
    REQUIRE(gm_region_new_child(gm_vm_memory_root(vm), &options, &region, NULL) == 0, "%s", name);
    if (block == NULL) {
        gm_ram_put(options.ram);
    }
    return region;
}

static void make_written(struct editor *editor)
{
    struct hole *hole = &editor->hole;

    REQUIRE(gm_ram_new_anon(HOLE_PAGES * 4096u, NULL, &hole->block, NULL) == 0, "block");
    for (unsigned i = 0; i < 2; i++) {
        editor->ram[i] = make_region(editor, i == 0 ? "ram0" : "ram1", hole->block, HOLE_PAGES,
                                     HOLE_GPA, 0, i == 1);
    }
    editor->low[0] = hole->guest.ram;
    editor->low[1] =
        make_region(editor, "low1", hole->guest.ram_block, GUEST_RAM_BYTES / 4096u, 0, 0, true);
    for (unsigned page = 0; page < HOLE_WRITTEN; page++) {
        hole->base[page].bytes = guest_bytes(editor->ram[0]) + page * 4096u;
    }
    for (unsigned bar = 0; bar < HOLE_BARS; bar++) {
        unsigned first = HOLE_BESIDE + 8 * bar;

        editor->bars[bar] =
            make_region(editor, bar == 0 ? "bar0" : "bar1", NULL, hole_bar_pages(bar),
                        HOLE_GPA + first * 4096u, 2 + (int32_t)bar, true);
        hole->layout.bars[bar].page = first;
        for (unsigned page = 0; page < hole_bar_pages(bar); page++) {
            hole->bars[bar][page].bytes = guest_bytes(editor->bars[bar]) + page * 4096u;
        }
    }
}

static void make_read(struct editor *editor)
{
    uint8_t *bytes = guest_bytes(editor->ram[0]);

    for (unsigned page = HOLE_PAM_FIRST; page < HOLE_FLASH_FIRST; page++) {
        hole_fill(bytes + page * 4096u, hole_constant(page, false));
    }
    for (unsigned i = 0; i < HOLE_PAMS; i++) {
        unsigned first = HOLE_PAM_FIRST + i * HOLE_PAM_PAGES;

        editor->pams[i] =
            make_region(editor, "pam", NULL, HOLE_PAM_PAGES, HOLE_GPA + first * 4096u, 1, true);
        for (unsigned page = 0; page < HOLE_PAM_PAGES; page++) {
            hole_fill(guest_bytes(editor->pams[i]) + page * 4096u,
                      hole_constant(first + page, true));
        }
    }
    editor->flash = make_region(editor, "flash", NULL, HOLE_HOT_FIRST - HOLE_FLASH_FIRST,
                                HOLE_GPA + HOLE_FLASH_FIRST * 4096u, 1, false);
    for (unsigned page = HOLE_FLASH_FIRST; page < HOLE_HOT_FIRST; page++) {
        hole_fill(guest_bytes(editor->flash) + (page - HOLE_FLASH_FIRST) * 4096u,
                  hole_constant(page, false));
    }
}

static void open_machine(struct editor *editor)
{
    const struct gm_vm_options options = {
        .size = sizeof(options), .accel = guest_accel, .max_slots = MAX_SLOTS};
    struct gm_diag diag = {0};
    struct gm_vm *vm;

    REQUIRE(gm_vm_open(&options, &vm, &diag) == 0, "%s", diag.text);
    guest_init_in(&editor->hole.guest, vm);
    make_written(editor);
    make_read(editor);
    editor->hot = make_region(editor, "hot", NULL, HOLE_PAGES - HOLE_HOT_FIRST,
                              HOLE_GPA + HOLE_PAGES * 4096u, 0, false);
    REQUIRE(gm_region_del(gm_vm_memory_root(vm), editor->hot, NULL) == 0, "del");
    editor->low_window = make_region(editor, "low window", NULL, 1, LOW_WINDOW, 1, true);
    REQUIRE(gm_region_set_addr(editor->hole.guest.mmio, MMIO_BESIDE, NULL) == 0, "set_addr");
    editor->hole.next = editor->hole.layout;
    hole_start(&editor->hole);
}

static void close_machine(struct editor *editor)
{
    gm_region_put(editor->ram[0]);
    gm_region_put(editor->ram[1]);
    gm_region_put(editor->low[1]);
    for (unsigned i = 0; i < HOLE_BARS; i++) {
        gm_region_put(editor->bars[i]);
    }
    for (unsigned i = 0; i < HOLE_PAMS; i++) {
        gm_region_put(editor->pams[i]);
    }
    gm_region_put(editor->flash);
    gm_region_put(editor->hot);
    gm_region_put(editor->low_window);
    gm_ram_put(editor->hole.block);
    guest_fini(&editor->hole.guest);
}

/* ---- logging ---- */

static void copy_page(struct editor *editor, unsigned page)
{
    for (unsigned i = 0; i < HOLE_VCPUS; i++) {
        const uint32_t *word = (const uint32_t *)(void *)editor->hole.base[page].bytes + 2 * i;

        editor->copy[page][i] = __atomic_load_n(word, __ATOMIC_RELAXED);
    }
}

/* Whatever the guest had written before is in the copy afterwards. */
static void harvest(struct editor *editor)
{
    struct hole *hole = &editor->hole;
    struct gm_harvest *harvest;
    uint64_t first;
    uint64_t last;

    hole_account(hole);
    for (unsigned i = 0; i < 2; i++) {
        REQUIRE(gm_region_log_sync(editor->ram[i], 0, HOLE_PAGES * 4096u) == 0, "sync");
    }
    REQUIRE(gm_harvest_begin(hole->block, LOG_CLIENT, 0, HOLE_PAGES * 4096u, &harvest) == 0,
            "harvest");
    editor->harvests++;
    editor->harvested += gm_harvest_page_count(harvest);
    while (gm_harvest_next(harvest, &first, &last)) {
        for (uint64_t page = first; page <= last && page < HOLE_WRITTEN; page++) {
            copy_page(editor, (unsigned)page);
        }
    }
    gm_harvest_commit(harvest);
    for (unsigned page = 0; page < HOLE_WRITTEN; page++) {
        for (unsigned i = 0; i < HOLE_VCPUS; i++) {
            REQUIRE(!hole_is_after(hole->base[page].steps[i], editor->copy[page][i]),
                    "page %u, vCPU %u: step %" PRIu32 " was harvested, step %" PRIu32
                    " was written",
                    page, i, editor->copy[page][i], hole->base[page].steps[i]);
        }
    }
}

static int edit_log(struct editor *editor, struct gm_txn *txn)
{
    int rc = 0;

    if (editor->is_logged && !editor->log_has_changed) {
        harvest(editor);
    }
    editor->is_logged = !editor->is_logged;
    editor->log_has_changed = true;
    for (unsigned i = 0; i < 2; i++) {
        rc |= gm_txn_set_log(txn, editor->ram[i], LOG_CLIENT, editor->is_logged);
    }
    return rc;
}

/* The log has begun: what was written before is nobody's to report. */
static void log_after_commit(struct editor *editor)
{
    if (editor->log_has_changed && editor->is_logged) {
        for (unsigned page = 0; page < HOLE_WRITTEN; page++) {
            copy_page(editor, page);
        }
    }
    editor->log_has_changed = false;
    if (editor->is_logged && rnd_one_in(&editor->rnd, 2)) {
        harvest(editor);
    }
}

/* ---- RAM that comes and goes ---- */

static void use_hot(struct editor *editor)
{
    hole_use_hot(&editor->hole, true);
    /* Not before: nobody knows how long this thread sleeps between two lines. */
    for (unsigned i = 0; i < HOLE_VCPUS; i++) {
        editor->hot_since[i] = hole_done(&editor->hole, i) + 4;
    }
    editor->is_used = true;
}

/* The guest lets go of it; then it has all that the guest wrote there. */
static void leave_hot(struct editor *editor)
{
    uint32_t before[HOLE_VCPUS];

    for (unsigned i = 0; i < HOLE_VCPUS; i++) {
        before[i] = hole_done(&editor->hole, i);
    }
    hole_use_hot(&editor->hole, false);
    hole_wait(&editor->hole, 4);
    editor->is_used = false;
    for (unsigned page = HOLE_HOT_FIRST; page < HOLE_PAGES; page++) {
        const uint32_t *words =
            (const uint32_t *)(void *)(guest_bytes(editor->hot) + (page - HOLE_HOT_FIRST) * 4096u);

        for (unsigned i = 0; i < HOLE_VCPUS; i++) {
            uint32_t least = hole_last_step(before[i], page);

            REQUIRE(!hole_is_after(least, words[2 * i]) ||
                        hole_is_after(editor->hot_since[i], least),
                    "plugged page %u has step %" PRIu32 " of vCPU %u, not %" PRIu32, page,
                    words[2 * i], i, least);
        }
    }
}

static int edit_hotplug(struct editor *editor, struct gm_txn *txn)
{
    struct gm_region *root = gm_vm_memory_root(editor->hole.guest.vm);

    if (editor->is_used) {
        leave_hot(editor);
    }
    editor->is_hot = !editor->is_hot;
    return editor->is_hot ? gm_txn_add(txn, root, editor->hot) : gm_txn_del(txn, root, editor->hot);
}

/* ---- edits ---- */

static int edit_bar_move(struct editor *editor, struct gm_txn *txn)
{
    unsigned bar = (unsigned)rnd_below(&editor->rnd, HOLE_BARS);
    unsigned count = hole_bar_pages(bar);
    unsigned page =
        rnd_one_in(&editor->rnd, 4)
            ? HOLE_BESIDE + (unsigned)rnd_below(&editor->rnd, 24)
            : HOLE_BAR_FIRST +
                  (unsigned)rnd_below(&editor->rnd, HOLE_WRITTEN - HOLE_BAR_FIRST - count + 1);

    editor->hole.next.bars[bar].page = page;
    return gm_txn_set_addr(txn, editor->bars[bar], HOLE_GPA + page * 4096u);
}

static int edit_bar_toggle(struct editor *editor, struct gm_txn *txn)
{
    unsigned bar = (unsigned)rnd_below(&editor->rnd, HOLE_BARS);
    bool *is_enabled = &editor->hole.next.bars[bar].is_enabled;

    *is_enabled = !*is_enabled;
    return gm_txn_set_enabled(txn, editor->bars[bar], *is_enabled);
}

static int edit_pam_toggle(struct editor *editor, struct gm_txn *txn)
{
    unsigned pam = (unsigned)rnd_below(&editor->rnd, HOLE_PAMS);
    bool *is_enabled = &editor->hole.next.pam_is_enabled[pam];

    *is_enabled = !*is_enabled;
    return gm_txn_set_enabled(txn, editor->pams[pam], *is_enabled);
}

static int edit_pam_readonly(struct editor *editor, struct gm_txn *txn)
{
    unsigned pam = (unsigned)rnd_below(&editor->rnd, HOLE_PAMS);
    bool *is_readonly = &editor->pam_is_readonly[pam];

    *is_readonly = !*is_readonly;
    return gm_txn_set_readonly(txn, editor->pams[pam], *is_readonly);
}

static int edit_flash_readonly(struct editor *editor, struct gm_txn *txn)
{
    editor->flash_is_readonly = !editor->flash_is_readonly;
    return gm_txn_set_readonly(txn, editor->flash, editor->flash_is_readonly);
}

static int replace(struct gm_txn *txn, struct gm_region *const pair[static 2], unsigned *shown)
{
    int rc = gm_txn_set_enabled(txn, pair[*shown], false);

    *shown = 1 - *shown;
    return rc | gm_txn_set_enabled(txn, pair[*shown], true);
}

static int edit_replace(struct editor *editor, struct gm_txn *txn)
{
    return replace(txn, editor->ram, &editor->ram_shown);
}

static int edit_replace_low(struct editor *editor, struct gm_txn *txn)
{
    return replace(txn, editor->low, &editor->low_shown);
}

static int edit_low_window(struct editor *editor, struct gm_txn *txn)
{
    editor->low_window_is_enabled = !editor->low_window_is_enabled;
    return gm_txn_set_enabled(txn, editor->low_window, editor->low_window_is_enabled);
}

static int edit_mmio_move(struct editor *editor, struct gm_txn *txn)
{
    uint64_t gpa = MMIO_BESIDE + rnd_below(&editor->rnd, 32) * 4096u;

    return gm_txn_set_addr(txn, editor->hole.guest.mmio, gpa);
}

static int (*const edits[EDIT_KINDS])(struct editor *editor, struct gm_txn *txn) = {
    [EDIT_BAR_MOVE] = edit_bar_move,
    [EDIT_BAR_TOGGLE] = edit_bar_toggle,
    [EDIT_PAM_TOGGLE] = edit_pam_toggle,
    [EDIT_PAM_READONLY] = edit_pam_readonly,
    [EDIT_FLASH_READONLY] = edit_flash_readonly,
    [EDIT_HOTPLUG] = edit_hotplug,
    [EDIT_LOG] = edit_log,
    [EDIT_REPLACE] = edit_replace,
    [EDIT_REPLACE_LOW] = edit_replace_low,
    [EDIT_LOW_WINDOW] = edit_low_window,
    [EDIT_MMIO_MOVE] = edit_mmio_move,
};

/* One transaction. Return: the edits in it. */
static uint64_t commit_some(struct editor *editor)
{
    struct hole *hole = &editor->hole;
    /* Mostly few. */
    uint64_t count = 1 + rnd_below(&editor->rnd, 1 + rnd_below(&editor->rnd, EDITS_AT_ONCE_MAX));
    struct gm_diag diag = {0};
    struct gm_txn *txn;

    REQUIRE(gm_txn_begin(gm_vm_map(hole->guest.vm), &txn) == 0, "begin");
    for (uint64_t i = 0; i < count; i++) {
        enum edit edit = (enum edit)rnd_below(&editor->rnd, EDIT_KINDS);

        REQUIRE(edits[edit](editor, txn) == 0, "%s", edit_names[edit]);
        editor->counts[edit]++;
    }
    hole->is_staged = hole_shows_change(hole);
    REQUIRE(gm_txn_commit(txn, &diag) == 0, "%s", diag.text);
    REQUIRE(!hole->is_staged, "what is shown changes, and no listener hears of it");
    hole->layout = hole->next;
    hole_check_exits(hole);
    editor->commits++;
    if (editor->is_hot && !editor->is_used) {
        use_hot(editor);
    }
    log_after_commit(editor);
    return count;
}

static void report(const struct editor *editor, uint64_t seconds)
{
    const struct hole *hole = &editor->hole;
    struct gm_slots_stats slots;

    gm_slots_stats(gm_vm_slots(hole->guest.vm), &slots);
    for (unsigned i = 0; i < EDIT_KINDS; i++) {
        printf("%s%s %" PRIu64, i == 0 ? "" : ", ", edit_names[i], editor->counts[i]);
    }
    printf("\n%" PRIu64 " commits in %" PRIu64 " s; slots: %" PRIu64 " created, %" PRIu64
           " deleted, %" PRIu64 " flags, %" PRIu64 " joined\n",
           editor->commits, seconds, slots.creates, slots.destroys, slots.flag_changes,
           slots.joins);
    printf("the gate was held %" PRIu64 " times, %.1f us each, %.1f ms at most, %.2f s in all\n",
           slots.holds, (double)slots.hold_ns / (double)slots.holds / 1e3,
           (double)slots.max_hold_ns / 1e6, (double)slots.hold_ns / 1e9);
    printf("steps of the guest: %" PRIu32 " and %" PRIu32 "; all memory compared %" PRIu64
           " times; %llu loads met an edit; %" PRIu64 " pages in %" PRIu64 " harvests\n",
           hole_done(hole, 0) - HOLE_FIRST_STEP, hole_done(hole, 1) - HOLE_FIRST_STEP, hole->checks,
           (unsigned long long)atomic_load(&hole->explained), editor->harvested, editor->harvests);
    fflush(stdout);
    REQUIRE(hole->checks > edits_per_test / 40 && slots.holds >= hole->checks - 1,
            "hardly anything was tested");
    REQUIRE(slots.joins > 0 || edits_per_test < 2000, "no slots were joined again");
}

static void guest_finds_no_hole_while_its_map_is_edited(void **state)
{
    /* Each load gives what was stored, each store is where it belongs, each written page is in a harvest. */
    struct editor *editor;
    time_t began = time(NULL);

    (void)state;
    GUEST_NEEDS_KVM();
    editor = calloc(1, sizeof(*editor));
    REQUIRE(editor != NULL, "memory");
    editor->rnd.state = rnd_seed("hole");
    open_machine(editor);
    hole_wait(&editor->hole, HOLE_PAGES);
    for (uint64_t edit = 0; edit < edits_per_test;) {
        snprintf(require_place, sizeof(require_place), "edit %" PRIu64, edit);
        edit += commit_some(editor);
        if (editor->commits % 16 == 0) {
            hole_wait(&editor->hole, HOLE_PAGES);
        }
    }
    hole_stop(&editor->hole);
    report(editor, (uint64_t)(time(NULL) - began));
    close_machine(editor);
    free(editor);
}

int main(int argument_count, char **arguments)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(guest_finds_no_hole_while_its_map_is_edited),
    };

    if (argument_count > 1) {
        edits_per_test = strtoull(arguments[1], NULL, 10);
    }
    if (argument_count > 2) {
        guest_accel = strcmp(arguments[2], "soft") == 0 ? GM_ACCEL_SOFT : GM_ACCEL_KVM;
        return guest_exit_code(cmocka_run_group_tests(tests, NULL, NULL));
    }
    return GUEST_RUN_ON_BOTH(tests);
}
