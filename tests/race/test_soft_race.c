/*
 * race/test_soft_race.c - two vCPUs run all the time while another thread changes what lies under them:
 * slots in lists, logs, host memory, all of the tables.
 *
 * An instruction is some accesses between two boundaries. A vCPU that is told to begin one anew does.
 */
#include "model/random.h"
#include "model/require.h"
#include "model/softmodel_race.h"

#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <sys/mman.h>

#include <cmocka.h>

/* ---- lists: two slots exchange their places ---- */

#define SWAP_PAGES 8u
#define PLACE_X UINT64_C(0x100000)
#define PLACE_Y UINT64_C(0x40200000)
#define PLACE_ELSEWHERE UINT64_C(0x700000)
#define TAG_BYTE 64u /* where in each page its block's name is */
#define BLOCK_BYTES (SWAP_PAGES * (uint64_t)PAGE)

/* What is at X and what at Y are never the same; both blocks get each number, whichever is where. */
static enum gm_mmu_outcome swap_instruction(struct race_vcpu *vcpu)
{
    uint64_t x = PLACE_X + rnd_below(&vcpu->rnd, SWAP_PAGES) * PAGE;
    uint64_t y = PLACE_Y + rnd_below(&vcpu->rnd, SWAP_PAGES) * PAGE;
    uint64_t tag_x = 0;
    uint64_t tag_y = 0;
    enum gm_mmu_outcome outcome = gm_mmu_load(vcpu->mmu, x + TAG_BYTE, 8, &tag_x);

    if (outcome == GM_MMU_OK) {
        outcome = gm_mmu_load(vcpu->mmu, y + TAG_BYTE, 8, &tag_y);
    }
    if (outcome != GM_MMU_OK) {
        return outcome;
    }
    REQUIRE(tag_x + tag_y == 3, "half of a list: %" PRIu64 " at X, %" PRIu64 " at Y", tag_x, tag_y);
    outcome = gm_mmu_store(vcpu->mmu, PLACE_X + vcpu->index * 8, 8, vcpu->instructions);
    if (outcome == GM_MMU_OK) {
        outcome = gm_mmu_store(vcpu->mmu, PLACE_Y + vcpu->index * 8, 8, vcpu->instructions);
    }
    return outcome;
}

/* One exchange, by one of the ways that a list has. */
static void swap_once(struct race *race, struct rnd *rnd, bool *is_swapped)
{
    uint64_t places[2] = {*is_swapped ? PLACE_Y : PLACE_X, *is_swapped ? PLACE_X : PLACE_Y};
    struct gm_soft_slot one = {0, 0, places[0], BLOCK_BYTES, race->hva};
    struct gm_soft_slot other = {1, 0, places[1], BLOCK_BYTES, race->hva + BLOCK_BYTES};
    struct gm_soft_slot list[4] = {one, other, one, other};
    size_t count = 4;

    if (rnd_one_in(rnd, 2)) {
        list[0].size_bytes = 0;
        list[1].size_bytes = 0;
        list[2].gpa = places[1];
        list[3].gpa = places[0];
    } else {
        list[0].gpa = PLACE_ELSEWHERE;
        list[1].gpa = places[0];
        list[2].gpa = places[1];
        count = 3;
    }
    REQUIRE(gm_soft_set_slots(race->soft, list, count, NULL) == 0, "exchanging");
    *is_swapped = !*is_swapped;
}

/* A follower is told while vCPUs are held: none makes an instruction. */
static void on_change(void *opaque, const struct gm_soft_slot *slot)
{
    static unsigned calls; /* under the slots lock */
    struct race *race = opaque;
    uint64_t before[RACE_VCPUS];

    (void)slot;
    if (calls++ % 64 != 0) {
        return;
    }
    for (unsigned i = 0; i < RACE_VCPUS; i++) {
        before[i] = atomic_load(&race->vcpus[i].done);
    }
    race_pass_time();
    for (unsigned i = 0; i < RACE_VCPUS; i++) {
        REQUIRE(before[i] == atomic_load(&race->vcpus[i].done), "vCPU %u runs in a change", i);
    }
}

static const struct gm_soft_follower_ops follower_ops = {
    .size = sizeof(follower_ops), .created = on_change, .removing = on_change};

static void soft_list_of_slots_is_seen_whole_by_each_instruction(void **state)
{
    /* No vCPU sees one block in two places, or a place without a block, while lists exchange them. */
    struct rnd rnd = {rnd_seed("soft_race")};
    uint64_t rounds = rnd_setting("GM_ROUNDS", 30000);
    struct gm_soft_follower *follower;
    struct race race;
    bool is_swapped = false;

    (void)state;
    race_open(&race, NULL, 2 * BLOCK_BYTES);
    for (uint64_t page = 0; page < 2 * SWAP_PAGES; page++) {
        race_word(&race, page, TAG_BYTE / 8)[0] = 1 + page / SWAP_PAGES;
    }
    race_set_slot(&race, 0, 0, PLACE_X, BLOCK_BYTES, 0);
    race_set_slot(&race, 1, 0, PLACE_Y, BLOCK_BYTES, BLOCK_BYTES);
    assert_int_equal(gm_soft_follow(race.soft, &follower_ops, &race, &follower), 0);
    race_start(&race, &rnd, swap_instruction);
    for (uint64_t round = 0; round < rounds || !race_has_run(&race, 2000); round++) {
        swap_once(&race, &rnd, &is_swapped);
        if (rnd_one_in(&rnd, 3)) {
            gm_soft_zap_all(race.soft);
        }
    }
    race_stop(&race);
    gm_soft_unfollow(follower);
    for (unsigned i = 0; i < RACE_VCPUS; i++) {
        assert_int_equal(*race_word(&race, 0, i), *race_word(&race, SWAP_PAGES, i));
    }
    race_close(&race);
}

/* ---- host memory that comes and goes ---- */

#define HOST_PAGES 24u
#define HOST_GPA UINT64_C(0x1fc000)

/* Each page has a word for each vCPU: the page's number, and how often the vCPU has counted there.
 * Only that vCPU writes it, so it knows what it must find, wherever the page has got to. */
static enum gm_mmu_outcome host_instruction(struct race_vcpu *vcpu)
{
    uint64_t gpa = HOST_GPA + rnd_below(&vcpu->rnd, HOST_PAGES) * PAGE + vcpu->index * 8;
    uint64_t seen = 0;
    uint64_t found;
    enum gm_mmu_outcome outcome = gm_mmu_load(vcpu->mmu, gpa, 8, &seen);

    if (outcome != GM_MMU_OK) {
        return outcome;
    }
    REQUIRE(seen >> 32 < HOST_PAGES && (uint32_t)seen == vcpu->known[seen >> 32],
            "page %" PRIu64 ": counted to %u, not to %u", seen >> 32, (uint32_t)seen,
            vcpu->known[seen >> 32]);
    if (rnd_one_in(&vcpu->rnd, 2)) {
        return GM_MMU_OK;
    }
    found = seen;
    outcome = gm_mmu_cmpxchg(vcpu->mmu, gpa, 8, &found, seen + 1);
    if (outcome != GM_MMU_OK) {
        return outcome;
    }
    if (found == seen) {
        vcpu->known[seen >> 32]++;
    } else {
        REQUIRE((uint32_t)found == vcpu->known[found >> 32], "page %" PRIu64 " after an exchange",
                found >> 32);
    }
    return GM_MMU_OK;
}

static void move_page(uint64_t from, uint64_t to)
{
    REQUIRE(mremap((void *)(uintptr_t)from, PAGE, PAGE,
                   MREMAP_MAYMOVE | MREMAP_FIXED | MREMAP_DONTUNMAP,
                   (void *)(uintptr_t)to) == (void *)(uintptr_t)to,
            "mremap");
}

/* Two pages exchange their places in host memory; both are being invalidated. */
static void exchange_pages(struct race *race, uint64_t one, uint64_t other)
{
    uint64_t spare = race->hva + HOST_PAGES * PAGE;

    if (one != other) {
        move_page(race->hva + one * PAGE, spare);
        move_page(race->hva + other * PAGE, race->hva + one * PAGE);
        move_page(spare, race->hva + other * PAGE);
    }
}

/* For a while nobody may touch the page: who does stops the program, or is seen. */
static void guard_page(struct race *race, uint64_t page)
{
    uint64_t before[RACE_VCPUS];
    void *start = (void *)(uintptr_t)(race->hva + page * PAGE);

    for (unsigned i = 0; i < RACE_VCPUS; i++) {
        before[i] = race_load(race_word(race, page, i));
    }
    REQUIRE(mprotect(start, PAGE, PROT_NONE) == 0, "mprotect");
    race_pass_time();
    REQUIRE(mprotect(start, PAGE, PROT_READ | PROT_WRITE) == 0, "mprotect");
    race_pass_time();
    for (unsigned i = 0; i < RACE_VCPUS; i++) {
        REQUIRE(before[i] == race_load(race_word(race, page, i)),
                "page %" PRIu64 " was written while it was being invalidated", page);
    }
}

static void host_once(struct race *race, struct rnd *rnd)
{
    uint64_t one = rnd_below(rnd, HOST_PAGES);
    uint64_t other = rnd_below(rnd, HOST_PAGES);

    gm_soft_invalidate_begin(race->soft, race->hva + one * PAGE, PAGE);
    gm_soft_invalidate_begin(race->soft, race->hva + other * PAGE, PAGE);
    if (rnd_one_in(rnd, 2)) {
        exchange_pages(race, one, other);
    } else {
        guard_page(race, one);
    }
    gm_soft_invalidate_end(race->soft, race->hva + other * PAGE, PAGE);
    gm_soft_invalidate_end(race->soft, race->hva + one * PAGE, PAGE);
}

static void soft_memory_being_invalidated_is_reached_by_no_vcpu(void **state)
{
    /* Between begin and end pages are moved and protected; no count is lost, and nobody faults. */
    struct rnd rnd = {rnd_seed("soft_race")};
    uint64_t rounds = rnd_setting("GM_ROUNDS", 30000);
    struct race race;

    (void)state;
    race_open(&race, NULL, (HOST_PAGES + 1) * (uint64_t)PAGE);
    for (uint64_t page = 0; page < HOST_PAGES; page++) {
        for (unsigned i = 0; i < RACE_VCPUS; i++) {
            *race_word(&race, page, i) = page << 32;
        }
    }
    race_set_slot(&race, 0, 0, HOST_GPA, HOST_PAGES * (uint64_t)PAGE, 0);
    race_start(&race, &rnd, host_instruction);
    for (uint64_t round = 0; round < rounds || !race_has_run(&race, 2000); round++) {
        host_once(&race, &rnd);
    }
    race_stop(&race);
    for (uint64_t page = 0; page < HOST_PAGES; page++) {
        for (unsigned i = 0; i < RACE_VCPUS; i++) {
            uint64_t word = *race_word(&race, page, i);

            assert_int_equal((uint32_t)word, race.vcpus[i].known[word >> 32]);
        }
    }
    race_close(&race);
}

/* ---- exchanges that a processor locks the bus for ---- */

#define SPLIT_GPA UINT64_C(0x5000)
#define SPLIT_WORDS 3u
/* Two counters of 4 bytes, one of each vCPU, side by side, and together not aligned. */
#define COUNTERS_GPA (SPLIT_GPA + PAGE + 204)

/* One that crosses pages, one that is not aligned, one that is. */
static const uint64_t split_places[SPLIT_WORDS] = {PAGE - 3, PAGE + 101, 2 * PAGE - 8};

/* Each exchange that succeeds counts one further. */
static enum gm_mmu_outcome exchange_word(struct race_vcpu *vcpu, uint64_t word)
{
    uint64_t found = vcpu->guesses[word];
    enum gm_mmu_outcome outcome =
        gm_mmu_cmpxchg(vcpu->mmu, SPLIT_GPA + split_places[word], 8, &found, found + 1);

    if (outcome == GM_MMU_OK) {
        bool is_exchanged = found == vcpu->guesses[word];

        vcpu->known[word] += is_exchanged;
        vcpu->guesses[word] = found + is_exchanged;
    }
    return outcome;
}

/* The own counter goes on by a plain store, or by an exchange of both: which must not bring back
 * what the other's was before its store. */
static enum gm_mmu_outcome count_on(struct race_vcpu *vcpu)
{
    unsigned shift = 32 * vcpu->index;
    uint64_t counters[2] = {0};
    uint64_t seen;
    uint64_t found;
    enum gm_mmu_outcome outcome = gm_mmu_load(vcpu->mmu, COUNTERS_GPA, 4, &counters[0]);

    if (outcome == GM_MMU_OK) {
        outcome = gm_mmu_load(vcpu->mmu, COUNTERS_GPA + 4, 4, &counters[1]);
    }
    if (outcome != GM_MMU_OK) {
        return outcome;
    }
    REQUIRE(counters[vcpu->index] == vcpu->known[SPLIT_WORDS], "a counter went back");
    if (rnd_one_in(&vcpu->rnd, 2)) {
        outcome =
            gm_mmu_store(vcpu->mmu, COUNTERS_GPA + vcpu->index * 4, 4, counters[vcpu->index] + 1);
        vcpu->known[SPLIT_WORDS] += outcome == GM_MMU_OK;
        return outcome;
    }
    seen = counters[0] | counters[1] << 32;
    found = seen;
    outcome = gm_mmu_cmpxchg(vcpu->mmu, COUNTERS_GPA, 8, &found, seen + (UINT64_C(1) << shift));
    vcpu->known[SPLIT_WORDS] += outcome == GM_MMU_OK && found == seen;
    return outcome;
}

static enum gm_mmu_outcome split_instruction(struct race_vcpu *vcpu)
{
    uint64_t word = rnd_below(&vcpu->rnd, SPLIT_WORDS + 2);

    return word < SPLIT_WORDS ? exchange_word(vcpu, word) : count_on(vcpu);
}

static void soft_unaligned_exchanges_by_two_vcpus_lose_no_count(void **state)
{
    /* They exclude each other, while pages are tracked, logged and taken away. */
    struct rnd rnd = {rnd_seed("soft_race")};
    struct race race;
    uint8_t *memory;

    (void)state;
    race_open(&race, NULL, 2 * (uint64_t)PAGE);
    race_set_slot(&race, 0, 0, SPLIT_GPA, 2 * PAGE, 0);
    race_start(&race, &rnd, split_instruction);
    while (!race_has_run(&race, 4 * rnd_setting("GM_ROUNDS", 30000))) {
        for (unsigned i = 0; i < 30; i++) {
            race_pass_time(); /* exchanges and stores beside each other, mostly */
        }
        race_set_slot(&race, 0, (uint32_t)rnd_below(&rnd, 2), SPLIT_GPA, 2 * PAGE, 0);
        gm_soft_zap_all(race.soft);
        assert_int_equal(gm_soft_track(race.soft, 0, SPLIT_GPA + PAGE), 0);
        race_pass_time();
        assert_int_equal(gm_soft_untrack(race.soft, 0, SPLIT_GPA + PAGE), 0);
    }
    race_stop(&race);
    memory = (uint8_t *)race_word(&race, 0, 0);
    for (unsigned word = 0; word < SPLIT_WORDS; word++) {
        uint64_t count;

        memcpy(&count, memory + split_places[word], sizeof(count));
        assert_int_equal(count, race.vcpus[0].known[word] + race.vcpus[1].known[word]);
    }
    race_close(&race);
}

/* ---- tables that come and go ---- */

#define SPARSE_SLOTS 96u
#define SPARSE_STEP (UINT64_C(1) << 30) /* tables of three levels for each slot */

/* Its page's number, or, of some slots, nothing. */
static enum gm_mmu_outcome sparse_instruction(struct race_vcpu *vcpu)
{
    uint64_t slot = rnd_below(&vcpu->rnd, SPARSE_SLOTS);
    uint64_t gpa = slot * SPARSE_STEP + vcpu->index * 8;
    uint64_t seen = 0;
    enum gm_mmu_outcome outcome = gm_mmu_load(vcpu->mmu, gpa, 8, &seen);

    if (outcome == GM_MMU_OK) {
        REQUIRE(seen >> 32 == slot && (uint32_t)seen == vcpu->known[slot],
                "slot %" PRIu64 ": %#" PRIx64, slot, seen);
        outcome = gm_mmu_store(vcpu->mmu, gpa, 8, seen + 1);
        vcpu->known[slot] += outcome == GM_MMU_OK;
    }
    if (outcome == GM_MMU_MMIO && slot % 4 == 3) {
        outcome = gm_mmu_enter(vcpu->mmu);
    }
    return outcome;
}

static void sparse_once(struct race *race, struct rnd *rnd, bool *is_there)
{
    uint64_t slot = rnd_below(rnd, SPARSE_SLOTS / 4) * 4 + 3;

    switch (rnd_below(rnd, 6)) {
    case 0:
    case 1:
        gm_soft_zap_all(race->soft);
        break;
    case 2:
        REQUIRE(gm_soft_vm_ioctl(race->soft, KVM_SET_NR_MMU_PAGES, 64 + rnd_below(rnd, 64)) == 0,
                "a limit");
        break;
    case 3:
        (void)gm_soft_age(race->soft, race->hva, SPARSE_SLOTS * (uint64_t)PAGE);
        break;
    default:
        race_set_slot(race, (uint32_t)slot, 0, slot * SPARSE_STEP, is_there[slot] ? 0 : PAGE,
                      slot * PAGE);
        is_there[slot] = !is_there[slot];
        break;
    }
}

static void soft_tables_taken_away_all_the_time_come_back_right(void **state)
{
    /* A limit of 64 table pages, zap-all, deletes: each value is its slot's, each store arrives. */
    struct rnd rnd = {rnd_seed("soft_race")};
    uint64_t rounds = rnd_setting("GM_ROUNDS", 30000);
    bool is_there[SPARSE_SLOTS];
    struct race race;

    (void)state;
    race_open(&race, NULL, SPARSE_SLOTS * (uint64_t)PAGE);
    for (uint32_t slot = 0; slot < SPARSE_SLOTS; slot++) {
        for (unsigned i = 0; i < RACE_VCPUS; i++) {
            *race_word(&race, slot, i) = (uint64_t)slot << 32;
        }
        race_set_slot(&race, slot, 0, slot * SPARSE_STEP, PAGE, slot * (uint64_t)PAGE);
        is_there[slot] = true;
    }
    assert_int_equal(gm_soft_vm_ioctl(race.soft, KVM_SET_NR_MMU_PAGES, 64), 0);
    race_start(&race, &rnd, sparse_instruction);
    for (uint64_t round = 0; round < rounds || !race_has_run(&race, 2000); round++) {
        sparse_once(&race, &rnd, is_there);
    }
    race_stop(&race);
    for (uint64_t slot = 0; slot < SPARSE_SLOTS; slot++) {
        for (unsigned i = 0; i < RACE_VCPUS; i++) {
            assert_int_equal((uint32_t)*race_word(&race, slot, i), race.vcpus[i].known[slot]);
        }
    }
    race_close(&race);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(soft_list_of_slots_is_seen_whole_by_each_instruction),
        cmocka_unit_test(soft_memory_being_invalidated_is_reached_by_no_vcpu),
        cmocka_unit_test(soft_unaligned_exchanges_by_two_vcpus_lose_no_count),
        cmocka_unit_test(soft_tables_taken_away_all_the_time_come_back_right),
    };

    return cmocka_run_group_tests_name("soft_race", tests, NULL, NULL);
}
