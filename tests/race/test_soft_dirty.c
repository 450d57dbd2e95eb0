/*
 * race/test_soft_dirty.c - harvests of dirty logs beside two vCPUs that write all the time, in each kind of
 * log. The harvester copies what it is told of, after it was told, into a shadow. At the end the
 * shadow is the memory, word by word: no page that was written was not reported.
 */
#include "model/random.h"
#include "model/require.h"
#include "model/softmodel_race.h"

#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define PAGES 1024u /* two leaves of 2 MiB */
#define HOT 40u     /* pages that are written, so that they meet */
#define BYTES (PAGES * (uint64_t)PAGE)
#define PLACE UINT64_C(0x40000000)
#define OTHER_PLACE UINT64_C(0x80400000)
#define RING_ENTRIES 1024u
#define MANUAL 1u
#define MANUAL_ALL_SET 3u

struct kind {
    enum gm_soft_log log;
    bool eager_split;
    bool has_rings;
    uint64_t manual;
    uint64_t page_bytes; /* what the host's pages claim to be */
};

static const struct kind *kind; /* of the test under way */

struct harvester {
    struct race *race;
    struct rnd rnd;
    uint64_t place; /* where the slot is */
    uint64_t shadow[PAGES][RACE_VCPUS];
    uint64_t reported;
    struct kvm_dirty_gfn *rings[RACE_VCPUS];
    uint32_t next[RACE_VCPUS];
};

static uint64_t page_bytes(void *opaque, gm_hva_t hva, uint64_t size_bytes)
{
    (void)opaque;
    (void)hva;
    (void)size_bytes;
    return kind->page_bytes;
}

/* ---- vCPUs ---- */

/* Scattered over both leaves. */
static uint64_t hot_page(struct rnd *rnd)
{
    return rnd_below(rnd, HOT) * 53 % PAGES;
}

/* Count in its own word of some page, wherever the slot is just now; or only look. */
static enum gm_mmu_outcome write_instruction(struct race_vcpu *vcpu)
{
    uint64_t place = rnd_one_in(&vcpu->rnd, 3) ? OTHER_PLACE : PLACE;
    uint64_t gpa = place + hot_page(&vcpu->rnd) * PAGE + vcpu->index * 8;
    uint64_t value = 0;
    uint64_t found;
    enum gm_mmu_outcome outcome = gm_mmu_load(vcpu->mmu, gpa, 8, &value);

    if (outcome == GM_MMU_OK && rnd_one_in(&vcpu->rnd, 2)) {
        outcome = gm_mmu_store(vcpu->mmu, gpa, 8, value + 1);
    } else if (outcome == GM_MMU_OK && rnd_one_in(&vcpu->rnd, 2)) {
        found = value;
        outcome = gm_mmu_cmpxchg(vcpu->mmu, gpa, 8, &found, value + 1);
        REQUIRE(outcome != GM_MMU_OK || found == value, "somebody else wrote the vCPU's word");
    }
    /* The slot is at the other place: nothing was written. */
    return outcome == GM_MMU_MMIO ? gm_mmu_enter(vcpu->mmu) : outcome;
}

/* ---- the harvester ---- */

static void copy_page(struct harvester *harvester, uint64_t page)
{
    for (unsigned i = 0; i < RACE_VCPUS; i++) {
        harvester->shadow[page][i] = race_load(race_word(harvester->race, page, i));
    }
    harvester->reported++;
}

static void harvest_bitmap(struct harvester *harvester)
{
    static uint64_t bitmap[PAGES / 64];
    struct kvm_dirty_log get = {.slot = 0, .dirty_bitmap = bitmap};
    struct kvm_clear_dirty_log clear = {.slot = 0, .num_pages = PAGES, .dirty_bitmap = bitmap};
    struct gm_soft *soft = harvester->race->soft;

    REQUIRE(gm_soft_vm_ioctl(soft, KVM_GET_DIRTY_LOG, (unsigned long)&get) == 0, "get");
    if (kind->manual != 0) {
        REQUIRE(gm_soft_vm_ioctl(soft, KVM_CLEAR_DIRTY_LOG, (unsigned long)&clear) == 0, "clear");
    }
    for (uint64_t page = 0; page < PAGES; page++) {
        if ((bitmap[page / 64] >> page % 64 & 1) != 0) {
            copy_page(harvester, page);
        }
    }
}

/* Entries first, then the reset, which protects; the pages are copied after it. */
static void harvest_rings(struct harvester *harvester)
{
    static uint64_t pages[RACE_VCPUS * RING_ENTRIES];
    unsigned count = 0;

    for (unsigned i = 0; i < RACE_VCPUS; i++) {
        for (;;) {
            struct kvm_dirty_gfn *entry = &harvester->rings[i][harvester->next[i] % RING_ENTRIES];
            uint32_t flags = __atomic_load_n(&entry->flags, __ATOMIC_ACQUIRE);

            if (flags != KVM_DIRTY_GFN_F_DIRTY) {
                break;
            }
            REQUIRE(entry->slot == 0 && entry->offset < PAGES, "an entry of slot %u", entry->slot);
            pages[count++] = entry->offset;
            __atomic_store_n(&entry->flags, KVM_DIRTY_GFN_F_RESET, __ATOMIC_RELEASE);
            harvester->next[i]++;
        }
    }
    REQUIRE(gm_soft_vm_ioctl(harvester->race->soft, KVM_RESET_DIRTY_RINGS, 0) == (long)count,
            "resetting %u entries", count);
    race_note_reset(harvester->race);
    for (unsigned i = 0; i < count; i++) {
        copy_page(harvester, pages[i]);
    }
}

static void harvest(struct harvester *harvester)
{
    if (kind->has_rings) {
        harvest_rings(harvester);
    } else {
        harvest_bitmap(harvester);
    }
}

static void set_slot(struct harvester *harvester, uint32_t flags)
{
    race_set_slot(harvester->race, 0, flags, harvester->place, BYTES, 0);
}

/* The log ends, and vCPUs write unseen; it begins again, and from then on nothing is missed. Where it does
 * not begin with all pages set, what was written before is copied now. */
static void restart_log(struct harvester *harvester)
{
    set_slot(harvester, 0);
    race_pass_time();
    set_slot(harvester, KVM_MEM_LOG_DIRTY_PAGES);
    if (kind->manual == MANUAL_ALL_SET && !kind->has_rings) {
        return;
    }
    for (uint64_t page = 0; page < PAGES; page++) {
        copy_page(harvester, page);
    }
}

static void track_some(struct harvester *harvester)
{
    struct gm_soft *soft = harvester->race->soft;
    uint64_t gpa = harvester->place + hot_page(&harvester->rnd) * PAGE;

    REQUIRE(gm_soft_track(soft, 0, gpa) == 0, "tracking");
    race_pass_time();
    REQUIRE(gm_soft_untrack(soft, 0, gpa) == 0, "untracking");
}

static void set_attributes(struct harvester *harvester)
{
    struct kvm_memory_attributes set = {
        .address = PLACE + hot_page(&harvester->rnd) * PAGE,
        .size = 3 * PAGE,
        .attributes = rnd_one_in(&harvester->rnd, 2) ? GM_ATTRIBUTE_NO_EXECUTE : 0};

    REQUIRE(gm_soft_vm_ioctl(harvester->race->soft, KVM_SET_MEMORY_ATTRIBUTES,
                             (unsigned long)&set) == 0,
            "attributes");
}

/* What else may happen to a logged slot. */
static void disturb(struct harvester *harvester)
{
    struct race *race = harvester->race;
    uint64_t page = hot_page(&harvester->rnd);

    switch (rnd_below(&harvester->rnd, 7)) {
    case 0: /* now and then so often that rings become full */
        for (unsigned i = rnd_below(&harvester->rnd, 40) == 0 ? 0 : 14; i < 15; i++) {
            gm_soft_zap_all(race->soft);
            race_pass_time();
        }
        break;
    case 1:
        gm_soft_invalidate_begin(race->soft, race->hva + page * PAGE, 5 * PAGE);
        race_pass_time();
        gm_soft_invalidate_end(race->soft, race->hva + page * PAGE, 5 * PAGE);
        break;
    case 2: /* a move keeps the log */
        harvester->place = harvester->place == PLACE ? OTHER_PLACE : PLACE;
        set_slot(harvester, KVM_MEM_LOG_DIRTY_PAGES);
        break;
    case 3:
        restart_log(harvester);
        break;
    case 4:
        track_some(harvester);
        break;
    case 5:
        set_attributes(harvester);
        break;
    default:
        (void)gm_soft_age(race->soft, race->hva, BYTES);
        break;
    }
}

static void begin(struct harvester *harvester, struct race *race, race_instruction_fn *instruction)
{
    struct gm_soft_options options = {.size = sizeof(options),
                                      .log = kind->log,
                                      .eager_split = kind->eager_split,
                                      .page_bytes = page_bytes};

    memset(harvester, 0, sizeof(*harvester));
    harvester->race = race;
    harvester->place = PLACE;
    harvester->rnd.state = rnd_seed("soft_dirty");
    race_open(race, &options, BYTES);
    if (kind->has_rings) {
        race_enable(race, KVM_CAP_DIRTY_LOG_RING_ACQ_REL,
                    RING_ENTRIES * sizeof(struct kvm_dirty_gfn));
    }
    race_enable(race, KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2, kind->manual);
    set_slot(harvester, KVM_MEM_LOG_DIRTY_PAGES);
    race_start(race, &harvester->rnd, instruction);
    for (unsigned i = 0; i < RACE_VCPUS && kind->has_rings; i++) {
        uint32_t entry_count;

        harvester->rings[i] = gm_soft_vcpu_ring(race->vcpus[i].vcpu, &entry_count);
        REQUIRE(entry_count == RING_ENTRIES, "a ring of %u", entry_count);
    }
}

/* vCPUs write, the harvester harvests; in the end nothing is missing. */
static void run_kind(const struct kind *which)
{
    static struct harvester harvester;
    static struct race race;
    uint64_t rounds = rnd_setting("GM_ROUNDS", 10000);
    uint64_t written = 0;

    kind = which;
    begin(&harvester, &race, write_instruction);
    for (uint64_t round = 0; round < rounds || !race_has_run(&race, 2000); round++) {
        harvest(&harvester);
        if (rnd_one_in(&harvester.rnd, 3)) {
            disturb(&harvester);
        }
    }
    race_stop(&race);
    harvest(&harvester);
    for (uint64_t page = 0; page < PAGES; page++) {
        for (unsigned i = 0; i < RACE_VCPUS; i++) {
            uint64_t word = *race_word(&race, page, i);

            written += word;
            REQUIRE(harvester.shadow[page][i] == word,
                    "page %" PRIu64 ", word %u: %" PRIu64 " in the shadow, %" PRIu64 " in memory",
                    page, i, harvester.shadow[page][i], word);
        }
    }
    printf("%" PRIu64 " writes, %" PRIu64 " pages reported\n", written, harvester.reported);
    assert_true(written > 0 && harvester.reported > 0);
    race_close(&race);
}

/* ---- a harvest, and what was written before it ---- */

static atomic_uint_fast64_t asked; /* the round that is to be written, */
static atomic_uint_fast64_t written[RACE_VCPUS];

/* Write one page in each round, and say so; then only look at another, in guest mode all the time. */
static enum gm_mmu_outcome answer_instruction(struct race_vcpu *vcpu)
{
    uint64_t round = atomic_load(&asked);
    uint64_t value;
    enum gm_mmu_outcome outcome;

    if (atomic_load(&written[vcpu->index]) == round) {
        race_pass_time();
        return gm_mmu_load(vcpu->mmu, PLACE + vcpu->index * 8, 8, &value);
    }
    outcome = gm_mmu_store(vcpu->mmu, PLACE + (1 + vcpu->index + round % 9 * 2) * PAGE, 8, round);
    if (outcome == GM_MMU_OK) {
        atomic_store(&written[vcpu->index], round);
    }
    return outcome;
}

static void answer_rounds(struct harvester *harvester)
{
    for (uint64_t round = 1; round <= 300; round++) {
        atomic_store(&asked, round);
        for (unsigned i = 0; i < RACE_VCPUS; i++) {
            while (atomic_load(&written[i]) != round) {
                race_pass_time();
            }
        }
        harvest(harvester);
        for (unsigned i = 0; i < RACE_VCPUS; i++) {
            REQUIRE(harvester->shadow[1 + i + round % 9 * 2][0] == round,
                    "round %" PRIu64 ": what vCPU %u had written is not in the harvest", round, i);
        }
    }
}

/* Whatever a vCPU has written before a harvest is called is in that harvest, not in a later one. */
static void run_answers(const struct kind *which)
{
    static struct harvester harvester;
    static struct race race;

    kind = which;
    atomic_store(&asked, 0);
    for (unsigned i = 0; i < RACE_VCPUS; i++) {
        atomic_store(&written[i], 0);
    }
    begin(&harvester, &race, answer_instruction);
    answer_rounds(&harvester);
    race_stop(&race);
    race_close(&race);
}

#define SMALL UINT64_C(4096)
#define LARGE (UINT64_C(1) << 21)

static void soft_log_by_protection_loses_no_page(void **state)
{
    /* Write-protected entries; get clears. Large leaves are split by the first write. */
    (void)state;
    run_kind(&(struct kind){GM_SOFT_LOG_PROTECT, false, false, 0, LARGE});
}

static void soft_log_by_protection_cleared_by_hand_loses_no_page(void **state)
{
    /* Get, then clear, of what get said. */
    (void)state;
    run_kind(&(struct kind){GM_SOFT_LOG_PROTECT, true, false, MANUAL, LARGE});
}

static void soft_log_by_protection_with_all_pages_set_loses_no_page(void **state)
{
    /* No page is protected before it is cleared for the first time. */
    (void)state;
    run_kind(&(struct kind){GM_SOFT_LOG_PROTECT, false, false, MANUAL_ALL_SET, LARGE});
}

static void soft_log_by_buffers_loses_no_page(void **state)
{
    /* Dirty flags, and a buffer for each vCPU. */
    (void)state;
    run_kind(&(struct kind){GM_SOFT_LOG_BUFFER, false, false, 0, LARGE});
}

static void soft_log_by_buffers_with_all_pages_set_loses_no_page(void **state)
{
    /* The same, cleared by hand. */
    (void)state;
    run_kind(&(struct kind){GM_SOFT_LOG_BUFFER, true, false, MANUAL_ALL_SET, LARGE});
}

static void soft_log_in_rings_loses_no_page(void **state)
{
    /* Rings that vCPUs fill while they are reset. */
    (void)state;
    run_kind(&(struct kind){GM_SOFT_LOG_PROTECT, true, true, 0, SMALL});
}

static void soft_log_in_rings_by_buffers_loses_no_page(void **state)
{
    /* Buffers that are emptied into rings. */
    (void)state;
    run_kind(&(struct kind){GM_SOFT_LOG_BUFFER, false, true, MANUAL_ALL_SET, LARGE});
}

static void soft_harvest_has_all_that_was_written_before_it(void **state)
{
    /* By protection and by buffers: a vCPU that stays in guest mode has its buffer emptied. */
    (void)state;
    run_answers(&(struct kind){GM_SOFT_LOG_PROTECT, false, false, 0, LARGE});
    run_answers(&(struct kind){GM_SOFT_LOG_BUFFER, false, false, 0, LARGE});
    run_answers(&(struct kind){GM_SOFT_LOG_BUFFER, true, false, MANUAL, SMALL});
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(soft_log_by_protection_loses_no_page),
        cmocka_unit_test(soft_log_by_protection_cleared_by_hand_loses_no_page),
        cmocka_unit_test(soft_log_by_protection_with_all_pages_set_loses_no_page),
        cmocka_unit_test(soft_log_by_buffers_loses_no_page),
        cmocka_unit_test(soft_log_by_buffers_with_all_pages_set_loses_no_page),
        cmocka_unit_test(soft_log_in_rings_loses_no_page),
        cmocka_unit_test(soft_log_in_rings_by_buffers_loses_no_page),
        cmocka_unit_test(soft_harvest_has_all_that_was_written_before_it),
    };

    return cmocka_run_group_tests_name("soft_dirty", tests, NULL, NULL);
}
