/*
 * inject/test_failures.c - what a VM can be asked, with each call of the library's failed once: the error is said, nothing has changed,
 * no page that the guest wrote is forgotten, nothing is left behind, and the same call succeeds afterwards.
 */
#include "inject/inject.h"
#include "kvm/guest.h"

#include <guestmem/kvm_abi.h>

#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define PAGE 0x1000u
#define CLIENT 3u
#define OTHER_GPA 0x100000u
#define OTHER_BYTES (16 * PAGE)
#define RESIZED_MAX (64 * PAGE)
#define TEXT_BYTES 8192
#define CALLS_MAX 2000 /* of one kind in one step: more is a step that does not end */

struct world {
    struct guest guest;
    struct gm_region *other;  /* RAM beside the guest's, not attached at first */
    struct gm_region *window; /* MMIO in the midst of the guest's RAM, not enabled at first */
    struct gm_ram *resized;
    int eventfd;
    uint8_t written[GUEST_RAM_BYTES /
                    PAGE]; /* by the guest, while the log was on, since the last harvest */
    bool is_logged;
    /* What steps make. */
    struct gm_vcpu *vcpu;
    unsigned vcpu_id;
    struct gm_vm *vm;
    struct gm_ram *ram;
    struct gm_region *region;
    enum gm_ram_kind ram_kind;
    int guest_memfd;
};

struct step {
    const char *name;
    int (*act)(struct world *world);
    int (*back)(struct world *world); /* NULL: the same again */
};

static uint64_t failures[INJECT_KINDS];

/* ---- what can be seen ---- */

static unsigned count_entries(const char *folder)
{
    DIR *entries = opendir(folder);
    unsigned count = 0;

    assert_non_null(entries);
    while (readdir(entries) != NULL) {
        count++;
    }
    closedir(entries);
    return count;
}

/* Mappings that have a file: memfds, shared memory, KVM's areas. */
static unsigned count_mapped_files(void)
{
    FILE *maps = fopen("/proc/self/maps", "re");
    char line[512];
    unsigned count = 0;

    assert_non_null(maps);
    while (fgets(line, sizeof(line), maps) != NULL) {
        count += strstr(line, "memfd:") != NULL || strstr(line, "/dev/zero") != NULL ||
                 strstr(line, "kvm") != NULL;
    }
    fclose(maps);
    return count;
}

static uint64_t sum_of(const uint8_t *bytes, size_t count)
{
    uint64_t sum = 0;

    for (size_t i = 0; i < count; i++) {
        sum = sum * 31 + bytes[i];
    }
    return sum;
}

static size_t view_text(struct gm_space *space, char *text, size_t size)
{
    struct gm_view *view = gm_view_get(space);
    struct gm_section section;
    size_t at = 0;

    for (size_t i = 0; gm_view_at(view, i, &section); i++) {
        at += (size_t)snprintf(text + at, size - at, "%" PRIx64 "-%s+%" PRIx64 "%s%x ", section.gpa,
                               gm_region_name(section.region), section.offset,
                               (section.flags & GM_SECTION_READONLY) != 0 ? "r" : "",
                               section.log_mask);
    }
    gm_view_put(view);
    return at;
}

static void look(struct world *world, char text[static TEXT_BYTES])
{
    struct guest *guest = &world->guest;
    size_t at;

    guest_slots_text(guest->vm, text);
    at = strlen(text);
    at += (size_t)snprintf(text + at, TEXT_BYTES - at, "| ");
    at += view_text(gm_vm_memory(guest->vm), text + at, TEXT_BYTES - at);
    snprintf(text + at, TEXT_BYTES - at,
             "| ram %" PRIx64 " other %" PRIx64 " resized %" PRIx64 " files %u descriptors %u "
             "threads %u%s",
             sum_of(guest_bytes(guest->ram), GUEST_RAM_BYTES),
             sum_of(guest_bytes(world->other), OTHER_BYTES), gm_ram_size(world->resized),
             count_mapped_files(), count_entries("/proc/self/fd"), count_entries("/proc/self/task"),
             gm_map_is_broken(gm_vm_map(guest->vm)) ? " broken" : "");
}

/* The guest writes two pages, which each log and record must keep from here on. */
static void guest_writes(struct world *world)
{
    struct guest *guest = &world->guest;

    guest_program(guest);
    guest_emit_dirty_page(guest, 2);
    guest_emit_dirty_page(guest, 5);
    EMIT_HLT(guest);
    guest_run_to_hlt(guest);
    if (world->is_logged) {
        world->written[2] = world->written[5] = 1;
    }
}

/* A harvest, given back or not, has what was written. */
static int harvest(struct world *world, bool is_kept, uint8_t found[static GUEST_RAM_BYTES / PAGE])
{
    struct gm_harvest *harvested;
    uint64_t first;
    uint64_t last;
    int rc = gm_region_log_sync(world->guest.ram, 0, GUEST_RAM_BYTES);

    if (rc == 0) {
        rc = gm_harvest_begin(world->guest.ram_block, CLIENT, 0, GUEST_RAM_BYTES, &harvested);
    }
    if (rc != 0) {
        return rc;
    }
    memset(found, 0, GUEST_RAM_BYTES / PAGE);
    while (gm_harvest_next(harvested, &first, &last)) {
        for (uint64_t page = first; page <= last; page++) {
            found[page] = 1;
        }
    }
    if (is_kept) {
        gm_harvest_commit(harvested);
    } else {
        gm_harvest_abort(harvested);
    }
    return 0;
}

static void check_found(const struct world *world, const char *name, const uint8_t *found)
{
    for (unsigned page = 0; page < GUEST_RAM_BYTES / PAGE; page++) {
        if (world->written[page] != 0 && found[page] == 0) {
            fail_msg("%s: page %u was written, and is lost", name, page);
        }
    }
}

static void check_written(struct world *world, const char *name)
{
    uint8_t found[GUEST_RAM_BYTES / PAGE];

    assert_int_equal(harvest(world, false, found), 0);
    check_found(world, name, found);
}

/* ---- failing ---- */

/* As look(), after all that was deferred. */
static void look_settled(struct world *world, char text[static TEXT_BYTES])
{
    gm_map_quiesce(gm_vm_map(world->guest.vm));
    look(world, text);
}

/* What is to be seen is @expected, at once or when all that was deferred is done; up to @stop, or all of it. */
static void check_looks(struct world *world, const char *expected, const char *stop,
                        const char *what)
{
    static char seen[TEXT_BYTES];
    const char *end = stop != NULL ? strstr(expected, stop) : NULL;
    size_t length = end != NULL ? (size_t)(end - expected) : TEXT_BYTES;

    look(world, seen);
    if (strncmp(seen, expected, length) != 0) {
        look_settled(world, seen);
    }
    if (strncmp(seen, expected, length) != 0) {
        fail_msg("%s:\n  is       %s\n  expected %s", what, seen, expected);
    }
}

/*
 * @act with the first, second ... call of @kind failed; done afterwards. @done: what is then to be seen, but for what it takes of the
 * host: a call that failed may have another in its place.
 */
static void fail_each_call(struct world *world, const struct step *step, enum inject_kind kind,
                           const char *done)
{
    static char before[TEXT_BYTES];
    char what[128];

    guest_writes(world);
    look_settled(world, before);
    for (uint64_t nth = 1;; nth++) {
        uint64_t failed;
        int rc;

        assert_true(nth < CALLS_MAX);
        snprintf(what, sizeof(what), "%s, %s %" PRIu64, step->name, inject_kind_names[kind], nth);
        guest_writes(world);
        inject_arm(INJECT_BIT(kind), nth, nth);
        rc = step->act(world);
        failed = inject_disarm();
        check_written(world, what);
        if (rc == 0) { /* what failed was not needed */
            if (done != NULL) {
                check_looks(world, done, " files", what);
            }
            if (failed == 0) {
                return;
            }
            failures[kind]++;
            assert_int_equal(step->back != NULL ? step->back(world) : 0, 0);
            continue;
        }
        if (failed == 0 || rc > 0) {
            fail_msg("%s: %d, and nothing failed", what, rc);
        }
        failures[kind]++;
        check_looks(world, before, NULL, what);
    }
}

/* There and back. false: this KVM does not do it. */
static bool can_do(struct world *world, const struct step *step)
{
    if (step->act(world) != 0) {
        print_message("%s: not here\n", step->name);
        return false;
    }
    assert_int_equal(step->back != NULL ? step->back(world) : 0, 0);
    return true;
}

static void fail_step(struct world *world, const struct step *step)
{
    static char begin[TEXT_BYTES];
    static char done[TEXT_BYTES];
    const struct step inverse = {step->name, step->back, step->act};

    guest_writes(world);
    if (!can_do(world,
                step)) { /* the first time is not like others: a slot that was split stays so */
        return;
    }
    look_settled(world, begin);
    assert_int_equal(step->act(world), 0);
    look_settled(world, done);
    assert_int_equal(step->back != NULL ? step->back(world) : 0, 0);
    for (unsigned kind = 0; kind < INJECT_KINDS; kind++) {
        if (kind != INJECT_UNMAP) {
            fail_each_call(world, step, kind, done);
        }
        if (kind != INJECT_UNMAP && step->back != NULL) {
            fail_each_call(world, &inverse, kind, begin);
        }
    }
    check_looks(world, begin, NULL, step->name);
    /* What the host does not unmap stays, and nothing else does. */
    fail_each_call(world, step, INJECT_UNMAP, NULL);
    if (step->back != NULL) {
        fail_each_call(world, &inverse, INJECT_UNMAP, NULL);
    }
}

/* ---- steps ---- */

static int add_ram(struct world *world)
{
    return gm_region_add(gm_vm_memory_root(world->guest.vm), world->other, NULL);
}

static int del_ram(struct world *world)
{
    return gm_region_del(gm_vm_memory_root(world->guest.vm), world->other, NULL);
}

static int window_on(struct world *world)
{
    return gm_region_set_enabled(world->window, true, NULL);
}

static int window_off(struct world *world)
{
    return gm_region_set_enabled(world->window, false, NULL);
}

static int move_window(struct world *world, uint64_t gpa)
{
    return gm_region_set_addr(world->window, gpa, NULL);
}

static int window_up(struct world *world)
{
    return move_window(world, 0x6000);
}

static int window_down(struct world *world)
{
    return move_window(world, 0x4000);
}

/* Commit, or give up if an edit could not be written down. */
static int end_txn(struct gm_txn *txn, int rc)
{
    if (rc != 0) {
        gm_txn_abort(txn);
        return rc;
    }
    return gm_txn_commit(txn, NULL);
}

static int set_readonly(struct world *world, bool readonly)
{
    struct gm_txn *txn;
    int rc = gm_txn_begin(gm_vm_map(world->guest.vm), &txn);

    return rc != 0 ? rc : end_txn(txn, gm_txn_set_readonly(txn, world->other, readonly));
}

static int readonly_on(struct world *world)
{
    return set_readonly(world, true);
}

static int readonly_off(struct world *world)
{
    return set_readonly(world, false);
}

static int other_log_on(struct world *world)
{
    return gm_region_set_log(world->other, CLIENT, true, NULL);
}

static int other_log_off(struct world *world)
{
    return gm_region_set_log(world->other, CLIENT, false, NULL);
}

static int ram_log_off(struct world *world)
{
    int rc = gm_region_set_log(world->guest.ram, CLIENT, false, NULL);

    world->is_logged = rc != 0;
    return rc;
}

static int ram_log_on(struct world *world)
{
    int rc = gm_region_set_log(world->guest.ram, CLIENT, true, NULL);

    world->is_logged = rc == 0;
    return rc;
}

/* Everything at once, so that what failed late takes much back. */
static int change_all(struct world *world, bool on)
{
    const struct gm_eventfd eventfd = {0x10, 4, false, 0, world->eventfd};
    const struct gm_eventfd port = {0x8, 1, true, 7, world->eventfd};
    struct guest *guest = &world->guest;
    struct gm_region *root = gm_vm_memory_root(guest->vm);
    struct gm_txn *txn;
    int rc = gm_txn_begin(gm_vm_map(guest->vm), &txn);

    if (rc != 0) {
        return rc;
    }
    rc = gm_txn_set_enabled(txn, world->window, on);
    rc = rc != 0 ? rc : (on ? gm_txn_add : gm_txn_del)(txn, root, world->other);
    rc = rc != 0 ? rc : (on ? gm_txn_add_eventfd : gm_txn_del_eventfd)(txn, guest->mmio, &eventfd);
    rc = rc != 0 ? rc : (on ? gm_txn_add_eventfd : gm_txn_del_eventfd)(txn, guest->ports, &port);
    rc = rc != 0
             ? rc
             : (on ? gm_txn_add_coalesced : gm_txn_del_coalesced)(txn, guest->mmio, 0x100, 0x100);
    rc = rc != 0 ? rc : (on ? gm_txn_add_coalesced : gm_txn_del_coalesced)(txn, guest->ports, 0, 4);
    return end_txn(txn, rc);
}

static int all_on(struct world *world)
{
    return change_all(world, true);
}

static int all_off(struct world *world)
{
    return change_all(world, false);
}

static int harvest_commit(struct world *world)
{
    uint8_t found[GUEST_RAM_BYTES / PAGE];
    int rc = harvest(world, true, found);

    if (rc == 0) {
        check_found(world, "harvest", found);
        memset(world->written, 0, sizeof(world->written));
    }
    return rc;
}

static int resize_up(struct world *world)
{
    return gm_ram_resize(world->resized, RESIZED_MAX, NULL);
}

static int resize_down(struct world *world)
{
    return gm_ram_resize(world->resized, OTHER_BYTES, NULL);
}

static int discard(struct world *world)
{
    return gm_ram_discard(gm_region_ram(world->other), PAGE, 2 * PAGE, NULL);
}

static int preallocate(struct world *world)
{
    const struct gm_ram_prealloc_options options = {.size = sizeof(options), .thread_count = 3};

    return gm_ram_prealloc(gm_region_ram(world->other), &options, NULL);
}

static int vcpu_new(struct world *world)
{
    world
        ->vcpu_id++; /* Linux gives a number once in a VM's life, also where what came after failed */
    return gm_vcpu_new(world->guest.vm, world->vcpu_id, &world->vcpu, NULL);
}

static int vcpu_free(struct world *world)
{
    gm_vcpu_free(world->vcpu);
    return 0;
}

static int vm_open_as(struct world *world, uint32_t ring_entries)
{
    const struct gm_vm_options options = {
        .size = sizeof(options), .accel = guest_accel, .dirty_ring_entries = ring_entries};

    return gm_vm_open(&options, &world->vm, NULL);
}

static int vm_open(struct world *world)
{
    return vm_open_as(world, 0);
}

static int vm_open_ring(struct world *world)
{
    return vm_open_as(world, 1024);
}

static int vm_close(struct world *world)
{
    return gm_vm_close(world->vm, NULL);
}

static int ram_new(struct world *world)
{
    const struct gm_ram_options options = {
        .size = sizeof(options),
        .kind = world->ram_kind,
        .size_bytes = OTHER_BYTES,
        .max_size_bytes = world->ram_kind == GM_RAM_FILE ? 0 : RESIZED_MAX,
        .advice = GM_RAM_ADVICE_NO_DUMP,
        .name = world->ram_kind == GM_RAM_MEMFD ? "failing" : NULL,
        .fd = world->ram_kind == GM_RAM_FILE ? gm_ram_fd(world->resized) : 0,
    };

    return gm_ram_new(&options, &world->ram, NULL);
}

static int ram_put(struct world *world)
{
    gm_ram_put(world->ram);
    return 0;
}

static int region_new(struct world *world)
{
    return gm_region_new_ram(gm_vm_map(world->guest.vm), "new", world->resized, &world->region);
}

static int region_put(struct world *world)
{
    gm_region_put(world->region);
    return 0;
}

static int guest_memfd_new(struct world *world)
{
    return gm_vm_guest_memfd(world->guest.vm, OTHER_BYTES, 0, &world->guest_memfd, NULL);
}

static int guest_memfd_close(struct world *world)
{
    return close(world->guest_memfd);
}

static int attributes_set(struct world *world)
{
    return gm_vm_set_attributes(world->guest.vm, 0x200000, 0x3000, KVM_MEMORY_ATTRIBUTE_PRIVATE,
                                NULL);
}

static int attributes_clear(struct world *world)
{
    return gm_vm_set_attributes(world->guest.vm, 0x200000, 0x3000, 0, NULL);
}

/* ---- the tests ---- */

static void world_begin(struct world *world, uint32_t ring_entries)
{
    const struct gm_vm_options vm = {.size = sizeof(vm), .dirty_ring_entries = ring_entries};
    const struct gm_ram_options ram = {.size = sizeof(ram),
                                       .kind = GM_RAM_MEMFD,
                                       .name = "resized",
                                       .size_bytes = OTHER_BYTES,
                                       .max_size_bytes = RESIZED_MAX};
    struct gm_region_options window = {.size = sizeof(window),
                                       .kind = GM_REGION_MMIO,
                                       .name = "window",
                                       .size_bytes = PAGE,
                                       .addr = 0x4000,
                                       .priority = 1,
                                       .disabled = true,
                                       .io = &recorder_ops,
                                       .opaque = &world->guest.mmio_seen};

    memset(world, 0, sizeof(*world));
    guest_init(&world->guest, &vm);
    world->other = guest_add_ram(&world->guest, "other", OTHER_GPA, OTHER_BYTES);
    memset(guest_bytes(world->other), 0x5a, OTHER_BYTES);
    assert_int_equal(del_ram(world), 0);
    assert_int_equal(gm_ram_new(&ram, &world->resized, NULL), 0);
    assert_int_equal(gm_region_new(gm_vm_map(world->guest.vm), &window, &world->window, NULL), 0);
    assert_int_equal(gm_region_add(gm_vm_memory_root(world->guest.vm), world->window, NULL), 0);
    world->eventfd = eventfd(0, EFD_CLOEXEC);
    /* A record of one's own: it does not end with the region's log, and what that one knew is in it. */
    assert_int_equal(gm_ram_dirty_begin(world->guest.ram_block, CLIENT), 0);
    assert_int_equal(ram_log_on(world), 0);
}

static void world_end(struct world *world)
{
    gm_region_put(world->other);
    gm_region_put(world->window);
    gm_ram_put(world->resized);
    guest_fini(&world->guest);
    close(world->eventfd);
}

static void fail_steps(const struct step *steps, size_t count, uint32_t ring_entries)
{
    struct world world;

    if (!guest_accel_opens()) {
        skip();
    }
    world_begin(&world, ring_entries);
    for (size_t i = 0; i < count; i++) {
        fail_step(&world, &steps[i]);
    }
    world_end(&world);
}

static const struct step COMMITS[] = {
    {"RAM added", add_ram, del_ram},
    {"RAM split by a window", window_on, window_off},
    {"a window that is not shown moved", window_up, window_down},
    {"a log, begun and ended", ram_log_off, ram_log_on},
    {"many edits", all_on, all_off},
    {"a harvest", harvest_commit, NULL},
};

static void failures_in_commits_change_nothing(void **state)
{
    /* Slots that come, go, are split and logged; eventfds; coalesced ranges; harvests; by logs. */
    (void)state;
    fail_steps(COMMITS, sizeof(COMMITS) / sizeof(COMMITS[0]), 0);
}

static void failures_in_commits_with_rings_change_nothing(void **state)
{
    /* The same, where what vCPUs write comes by rings. */
    (void)state;
    if (guest_accel != GM_ACCEL_SOFT) {
        skip(); /* the suite kvm asks whether there are any */
    }
    fail_steps(COMMITS, sizeof(COMMITS) / sizeof(COMMITS[0]), 1024);
}

static void failures_with_more_memory_change_nothing(void **state)
{
    /* What is done to memory that is shown: read-only, logged, moved windows, discarded, preallocated. */
    static const struct step shown[] = {
        {"read-only RAM", readonly_on, readonly_off},
        {"a log of other RAM", other_log_on, other_log_off},
        {"preallocation", preallocate, NULL},
        {"a discard", discard, NULL},
    };
    struct world world;

    (void)state;
    if (!guest_accel_opens()) {
        skip();
    }
    world_begin(&world, 0);
    assert_int_equal(add_ram(&world), 0);
    for (size_t i = 0; i < sizeof(shown) / sizeof(shown[0]); i++) {
        fail_step(&world, &shown[i]);
    }
    world_end(&world);
}

static void failures_in_making_leave_nothing(void **state)
{
    /* VMs, vCPUs, regions, files of private memory, attributes, sizes; and memory of each kind. */
    static const struct step made[] = {
        {"a vCPU", vcpu_new, vcpu_free},
        {"a VM", vm_open, vm_close},
        {"a VM with rings", vm_open_ring, vm_close},
        {"a region", region_new, region_put},
        {"a size", resize_up, resize_down},
        {"a guest memfd", guest_memfd_new, guest_memfd_close},
        {"attributes", attributes_set, attributes_clear},
    };
    static const struct step memory = {"RAM", ram_new, ram_put};
    static const enum gm_ram_kind kinds[] = {GM_RAM_ANON, GM_RAM_SHARED, GM_RAM_MEMFD, GM_RAM_FILE};
    struct world world;

    (void)state;
    if (!guest_accel_opens()) {
        skip();
    }
    world_begin(&world, 0);
    for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
        world.ram_kind = kinds[i];
        fail_step(&world, &memory);
    }
    for (size_t i = 0; i < sizeof(made) / sizeof(made[0]); i++) {
        fail_step(&world, &made[i]);
    }
    world_end(&world);
}

/* From the nth ioctl, or allocation of the software KVM, on all fail: what was done cannot be undone either. */
static void failed_undo_breaks_the_map(void **state)
{
    /* Then it takes no more, says so, and can be closed. */
    unsigned broken = 0;

    (void)state;
    if (!guest_accel_opens()) {
        skip();
    }
    for (uint64_t nth = 1; nth < CALLS_MAX; nth++) {
        enum inject_kind kind = guest_accel == GM_ACCEL_KVM ? INJECT_IOCTL : INJECT_ALLOC;
        struct world world;
        uint64_t failed;
        int rc;

        world_begin(&world, 0);
        inject_arm(INJECT_BIT(kind), nth, UINT64_MAX);
        rc = all_on(&world);
        failed = inject_disarm();
        if (gm_map_is_broken(gm_vm_map(world.guest.vm))) {
            struct gm_diag diag = {0};

            broken++;
            assert_int_equal(rc, -EIO);
            assert_int_equal(gm_region_set_enabled(world.window, true, &diag), -EIO);
            assert_int_equal(diag.id, GM_DIAG_MAP_BROKEN);
        } else {
            assert_true(rc == 0 || failed != 0);
            assert_int_equal(rc == 0 ? all_off(&world) : all_on(&world), 0);
        }
        world_end(&world);
        if (failed == 0) {
            break;
        }
    }
    print_message("%u undos failed\n", broken);
}

static int say_counts(void **state)
{
    (void)state;
    for (unsigned kind = 0; kind < INJECT_KINDS; kind++) {
        print_message("%s %llu ", inject_kind_names[kind], (unsigned long long)failures[kind]);
        failures[kind] = 0;
    }
    print_message("failed\n");
    return 0;
}

/* With an argument, kvm or soft, there only. */
int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(failures_in_commits_change_nothing),
        cmocka_unit_test(failures_in_commits_with_rings_change_nothing),
        cmocka_unit_test(failures_with_more_memory_change_nothing),
        cmocka_unit_test(failures_in_making_leave_nothing),
        cmocka_unit_test(failed_undo_breaks_the_map),
    };
    const char *where = argc > 1 ? argv[1] : "";
    int failed_count = 0;

    if (strcmp(where, "soft") != 0) {
        failed_count += cmocka_run_group_tests_name("on /dev/kvm", tests, NULL, say_counts);
    }
    if (strcmp(where, "kvm") == 0) {
        return guest_exit_code(failed_count);
    }
    guest_accel = GM_ACCEL_SOFT;
    failed_count += cmocka_run_group_tests_name("on the software KVM", tests, NULL, say_counts);
    return failed_count != 0 ? 1 : 0;
}
