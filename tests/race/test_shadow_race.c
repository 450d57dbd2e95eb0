/*
 * race/test_shadow_race.c - the host beside two vCPUs that share page tables which are shadowed (shadow_race.h): it logs,
 * deletes, invalidates, zaps, limits, tracks; and looks at all there is while they pause.
 */
#include "race/shadow_race.h"

#include "model/require.h"

#include "base/check.h"
#include "base/point.h"
#include "soft/soft.h"

#include <inttypes.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <sys/mman.h>

#include <cmocka.h>

/* ---- the host ---- */

#define LOGGED_SLOTS 2u
static const uint64_t logged_gpas[LOGGED_SLOTS] = {TABLES, COUNTED};
static const uint64_t logged_pages[LOGGED_SLOTS] = {TABLE_PAGES, COUNTED_PAGES};

struct host {
    struct race race;
    struct rnd rnd;
    bool is_logging;
    bool is_gone; /* slot 3 */
    bool is_tracking;
    uint64_t tracked;
    uint64_t copies[LOGGED_SLOTS][TABLE_PAGES][PAGE / 8];
    uint64_t harvested; /* pages */
    uint64_t done[8];
};

static uint64_t *word_at(struct host *host, uint64_t gpa)
{
    return (uint64_t *)(uintptr_t)(host->race.hva + gpa);
}

/* Exchanges that are not aligned move bytes under the lock, and no others do. */
static void copy_page(struct host *host, unsigned slot, uint64_t page)
{
    struct lock *lock = &host->race.soft->mmu.lock;
    const uint64_t *from = word_at(host, logged_gpas[slot] + page * PAGE);

    lock_take(lock);
    for (unsigned i = 0; i < PAGE / 8; i++) {
        host->copies[slot][page][i] = race_load(&from[i]);
    }
    lock_drop(lock);
}

static void harvest(struct host *host)
{
    for (unsigned slot = 0; slot < LOGGED_SLOTS; slot++) {
        uint64_t bitmap[TABLE_PAGES / 64] = {0};
        struct kvm_dirty_log get = {.slot = slot, .dirty_bitmap = bitmap};

        REQUIRE(gm_soft_vm_ioctl(host->race.soft, KVM_GET_DIRTY_LOG, (unsigned long)&get) == 0,
                "a harvest");
        for (uint64_t page = 0; page < logged_pages[slot]; page++) {
            if ((bitmap[page / 64] >> page % 64 & 1) != 0) {
                copy_page(host, slot, page);
                host->harvested++;
            }
        }
    }
}

static void set_logging(struct host *host, bool is_logging)
{
    for (uint32_t slot = 0; slot < LOGGED_SLOTS; slot++) {
        race_set_slot(&host->race, slot, is_logging ? KVM_MEM_LOG_DIRTY_PAGES : 0,
                      logged_gpas[slot], logged_pages[slot] * PAGE, logged_gpas[slot]);
        for (uint64_t page = 0; is_logging && page < logged_pages[slot]; page++) {
            copy_page(host, slot, page);
        }
    }
    host->is_logging = is_logging;
}

/* vCPUs are paused: what was written was reported. */
static void compare_copies(struct host *host)
{
    harvest(host);
    for (unsigned slot = 0; slot < LOGGED_SLOTS; slot++) {
        for (uint64_t page = 0; page < logged_pages[slot]; page++) {
            uint64_t gpa = logged_gpas[slot] + page * PAGE;
            const uint64_t *now = word_at(host, gpa);

            for (unsigned i = 0; i < PAGE / 8; i++) {
                REQUIRE(host->copies[slot][page][i] == now[i],
                        "gpa %#" PRIx64 ": %#" PRIx64 " was not reported", gpa + i * 8, now[i]);
            }
        }
    }
}

/* Pages that were written since the last flush after a clear are dirty; one whose flush is due does not count. */
static void check_dirty_flags(struct host *host)
{
    for (unsigned owner = 0; owner < RACE_VCPUS; owner++) {
        struct shootdown *shootdown = &guest.owners[owner].shootdown;
        bool is_due = atomic_load(&shootdown->asked) != atomic_load(&shootdown->done);

        for (unsigned entry = 0; entry < COUNTER_ENTRIES; entry++) {
            bool has_other = !is_due || shootdown->entry != COUNTERS + entry;
            bool wrote = guest.flushed[owner][owner].wrote[entry] ||
                         (has_other && guest.flushed[1 - owner][owner].wrote[entry]);
            uint64_t value = *word_at(host, entry_gpa(owner, COUNTERS + entry));

            REQUIRE(!wrote || (value & D) != 0, "entry %u of %u is clean: %#" PRIx64, entry, owner,
                    value);
        }
    }
}

static void check_counts(struct host *host)
{
    for (uint64_t page = 0; page < COUNTED_PAGES; page++) {
        for (unsigned i = 0; i < RACE_VCPUS; i++) {
            uint64_t value = word_at(host, COUNTED + page * PAGE)[1 + i];

            REQUIRE(value == (page << 32 | guest.counts[i][page]), "counter %" PRIu64 ": %#" PRIx64,
                    page, value);
            memcpy(&value, (const uint8_t *)word_at(host, COUNTED + page * PAGE) + SPLIT(i),
                   sizeof(value));
            REQUIRE(value == guest.splits[i][page], "split counter %" PRIu64 ": %#" PRIx64, page,
                    value);
        }
    }
}

static void audit(struct host *host)
{
    struct kcore *core = &host->race.soft->core;

    kcore_hold(core);
    lock_take(&core->slots_lock);
    GM_AUDIT(mmu_audit(&host->race.soft->mmu));
    lock_drop(&core->slots_lock);
    kcore_release(core);
}

/* vCPUs do nothing: all that may be compared is. */
static void check_all(struct host *host)
{
    audit(host);
    check_counts(host);
    check_dirty_flags(host);
    if (host->is_logging) {
        compare_copies(host);
    }
}

static void pause_and_check(struct host *host)
{
    atomic_store(&guest.pause, true);
    while (atomic_load(&guest.paused) != RACE_VCPUS) {
        sched_yield();
    }
    check_all(host);
    atomic_store(&guest.pause, false);
    while (atomic_load(&guest.paused) != 0) {
        sched_yield();
    }
}

/* Nobody may touch the page meanwhile: who does stops the program. Then the table says something else. */
static void invalidate_table(struct host *host)
{
    unsigned index = (unsigned)rnd_below(&host->rnd, RACE_VCPUS);
    struct owner *owner = &guest.owners[index];
    unsigned next = atomic_load(&owner->host_done) + 1;
    uint64_t entry = gpa_of_number(next % NUMBERED_PAGES) | FLAGS;
    uint64_t hva = host->race.hva + PT(index);
    void *memory = (void *)(uintptr_t)hva;

    gm_soft_invalidate_begin(host->race.soft, hva, PAGE);
    atomic_store(&owner->host_begun, next);
    REQUIRE(mprotect(memory, PAGE, PROT_NONE) == 0, "mprotect");
    if (rnd_one_in(&host->rnd, 2)) {
        race_pass_time();
    }
    REQUIRE(mprotect(memory, PAGE, PROT_READ | PROT_WRITE) == 0, "mprotect");
    __atomic_store_n(word_at(host, entry_gpa(index, HOSTS)), entry, __ATOMIC_RELAXED);
    host->copies[0][PT(index) / PAGE][HOSTS] = entry; /* no vCPU wrote it */
    gm_soft_invalidate_end(host->race.soft, hva, PAGE);
    atomic_store(&owner->host_done, next);
}

/* Any other page, likewise, with the contents that it had. */
static void invalidate_any(struct host *host)
{
    static const uint64_t first[] = {TABLES + PAGE, COUNTED, STEADY};
    static const uint64_t pages[] = {10, COUNTED_PAGES, NUMBERED_PAGES};
    unsigned which = (unsigned)rnd_below(&host->rnd, 3);
    uint64_t hva = host->race.hva + first[which] + rnd_below(&host->rnd, pages[which]) * PAGE;
    void *memory = (void *)(uintptr_t)hva;

    gm_soft_invalidate_begin(host->race.soft, hva, PAGE);
    REQUIRE(mprotect(memory, PAGE, PROT_NONE) == 0, "mprotect");
    race_pass_time();
    REQUIRE(mprotect(memory, PAGE, PROT_READ | PROT_WRITE) == 0, "mprotect");
    gm_soft_invalidate_end(host->race.soft, hva, PAGE);
}

static void delete_or_create(struct host *host)
{
    host->is_gone = !host->is_gone;
    if (host->is_gone) {
        atomic_fetch_add(&guest.fleeting, 1);
    }
    race_set_slot(&host->race, 3, 0, FLEETING, host->is_gone ? 0 : NUMBERED_PAGES * PAGE, FLEETING);
    if (!host->is_gone) {
        atomic_fetch_add(&guest.fleeting, 1);
    }
}

static void track_or_untrack(struct host *host)
{
    if (host->is_tracking) {
        REQUIRE(gm_soft_untrack(host->race.soft, 0, host->tracked) == 0, "untracking");
    } else {
        host->tracked = rnd_one_in(&host->rnd, 2)
                            ? PAGE * (1 + rnd_below(&host->rnd, 10))
                            : COUNTED + rnd_below(&host->rnd, COUNTED_PAGES) * PAGE;
        REQUIRE(gm_soft_track(host->race.soft, 0, host->tracked) == 0, "tracking");
    }
    host->is_tracking = !host->is_tracking;
}

static void log_or_harvest(struct host *host)
{
    if (!host->is_logging) {
        set_logging(host, true);
    } else if (rnd_one_in(&host->rnd, 16)) {
        set_logging(host, false);
    } else {
        harvest(host);
    }
}

static void host_once(struct host *host)
{
    struct gm_soft *soft = host->race.soft;
    unsigned which = (unsigned)rnd_below(&host->rnd, 8);

    host->done[which]++;
    switch (which) {
    case 0:
        log_or_harvest(host);
        break;
    case 1:
        delete_or_create(host);
        break;
    case 2:
        if (rnd_one_in(&host->rnd, 4)) {
            gm_soft_zap_all(soft);
        }
        break;
    case 3:
        invalidate_table(host);
        break;
    case 4:
        invalidate_any(host);
        break;
    case 5:
        (void)gm_soft_age(soft, host->race.hva + rnd_below(&host->rnd, 2) * COUNTED, COUNTED);
        break;
    case 6:
        REQUIRE(gm_soft_vm_ioctl(soft, KVM_SET_NR_MMU_PAGES, 64 + rnd_below(&host->rnd, 100)) == 0,
                "a limit");
        break;
    default:
        track_or_untrack(host);
        break;
    }
    for (uint64_t i = rnd_below(&host->rnd, 8); i > 0; i--) {
        race_pass_time();
    }
}

/* ---- the test ---- */

static void fill_entries_of(struct host *host, unsigned owner)
{
    uint64_t *table = word_at(host, PT(owner));

    for (unsigned i = 0; i < MINE_ENTRIES; i++) {
        guest.owners[owner].mine[i] = i;
        table[MINE + i] = entry_of(i);
    }
    for (unsigned i = 0; i < OURS_ENTRIES; i++) {
        atomic_store(&guest.owners[owner].intended[i], i);
        guest.flushed[0][owner].ours[i] = i;
        guest.flushed[1][owner].ours[i] = i;
        table[OURS + i] = entry_of(i);
    }
    for (unsigned i = 0; i < COUNTER_ENTRIES; i++) {
        table[COUNTERS + i] = (COUNTED + (owner * COUNTER_ENTRIES + i) * PAGE) | FLAGS;
    }
    table[HOSTS] = entry_of(0);
}

static void fill_tables_of(struct host *host, unsigned vcpu)
{
    uint64_t *directory = word_at(host, PD(vcpu));

    *word_at(host, PML4(vcpu)) = PDPT(vcpu) | FLAGS;
    word_at(host, PDPT(vcpu))[0] = PD(vcpu) | FLAGS;
    word_at(host, PDPT(vcpu))[1] = PD_SPARSE | FLAGS;
    directory[0] = PT(0) | FLAGS;
    directory[1] = PT(1) | FLAGS;
    directory[2] = PT_OF_TABLES | FLAGS;
    directory[3] = STEADY | FLAGS | LARGE;
    directory[4] = PT(0) | FLAGS;
}

static void fill_memory(struct host *host)
{
    for (unsigned i = 0; i < RACE_VCPUS; i++) {
        fill_tables_of(host, i);
        fill_entries_of(host, i);
    }
    for (unsigned i = 0; i < 32; i++) {
        word_at(host, PT_OF_TABLES)[i] = i * PAGE | FLAGS;
    }
    for (unsigned i = 0; i < SPARSE_TABLES; i++) {
        word_at(host, PD_SPARSE)[i] = (SPARSE + i) * PAGE | FLAGS;
        word_at(host, (SPARSE + i) * PAGE)[0] = entry_of(i % NUMBERED_PAGES);
    }
    for (unsigned i = 0; i < 2 * NUMBERED_PAGES; i++) {
        *word_at(host, gpa_of_number(i)) = i;
    }
    for (uint64_t page = 0; page < COUNTED_PAGES; page++) {
        for (unsigned i = 0; i < RACE_VCPUS; i++) {
            word_at(host, COUNTED + page * PAGE)[1 + i] = page << 32;
        }
    }
}

static struct host host;

static void open_host(enum gm_soft_log log)
{
    const struct gm_soft_options options = {
        .size = sizeof(options), .shadow_paging = true, .log = log};
    struct race *race = &host.race;

    memset(&host, 0, sizeof(host));
    memset(&guest, 0, sizeof(guest));
    race_open(race, &options, MEMORY_BYTES);
    fill_memory(&host);
    race_set_slot(race, 0, 0, TABLES, TABLE_PAGES * (uint64_t)PAGE, TABLES);
    race_set_slot(race, 1, 0, COUNTED, COUNTED_PAGES * (uint64_t)PAGE, COUNTED);
    race_set_slot(race, 2, 0, STEADY, NUMBERED_PAGES * (uint64_t)PAGE, STEADY);
    race_set_slot(race, 3, 0, FLEETING, NUMBERED_PAGES * (uint64_t)PAGE, FLEETING);
}

static void print_statistics(void)
{
    struct gm_soft_stats stats;

    gm_soft_stats(host.race.soft, &stats);
    printf("edits %" PRIu64 ", by hand %" PRIu64 ", syncs %" PRIu64 ", faults %" PRIu64
           ", retried %" PRIu64 ", reclaimed %" PRIu64 ", harvested %" PRIu64 "\n",
           guest.edits[0] + guest.edits[1], stats.shadow_writes, stats.shadow_syncs, stats.faults,
           stats.faults_retried, stats.reclaimed, host.harvested);
}

#ifdef GM_AUDIT_ON
/* Where others may come between, they do more often than chance has it. Any thread. */
static void give_way_at_times(const char *name)
{
    static _Thread_local unsigned passed;

    (void)name;
    passed++;
    if (passed % 61 == 0) {
        race_pass_time();
    }
}
#endif

static void run_shadow_race(enum gm_soft_log log)
{
    uint64_t rounds = rnd_setting("GM_ROUNDS", 3000);

    open_host(log);
#ifdef GM_AUDIT_ON
    point_hook = give_way_at_times;
#endif
    host.rnd.state = rnd_seed("shadow_race");
    race_start(&host.race, &host.rnd, shadow_instruction);
    for (uint64_t round = 0; round < rounds / 10 || !race_has_run(&host.race, rounds * 10);
         round++) {
        host_once(&host);
        if (rnd_one_in(&host.rnd, 64)) {
            pause_and_check(&host);
        }
    }
    race_stop(&host.race);
    check_all(&host);
    print_statistics();
    race_close(&host.race);
}

static void shadow_tables_shared_by_two_vcpus_say_what_was_flushed(void **state)
{
    /* Writes are noticed by protection. */
    (void)state;
    run_shadow_race(GM_SOFT_LOG_PROTECT);
}

static void shadow_tables_shared_by_two_vcpus_say_what_was_flushed_with_buffers(void **state)
{
    /* Writes by physical addresses are noticed by dirty flags. */
    (void)state;
    run_shadow_race(GM_SOFT_LOG_BUFFER);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(shadow_tables_shared_by_two_vcpus_say_what_was_flushed),
        cmocka_unit_test(shadow_tables_shared_by_two_vcpus_say_what_was_flushed_with_buffers),
    };

    return cmocka_run_group_tests_name("shadow_race", tests, NULL, NULL);
}
