/* model/softmodel_log.c - dirty logs: harvests of bitmaps and of rings, compared page by page. */
#include "model/softmodel_run.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#define SENTINEL UINT64_C(0x5e5e5e5e5e5e5e5e)
/* The most words of a slot's bitmap, and some behind. */
#define WORDS_MAX ((HOST_1G + HOST_2M) / HOST_4K / 64 + 8)

static uint64_t bitmap[WORDS_MAX];

/* ---- bitmaps ---- */

static uint32_t choose_number(struct softrun *run)
{
    static const uint32_t odd[] = {32764, 0xffff, 2u << 16, 1u << 31, 77};

    if (rnd_one_in(&run->rnd, 30)) {
        return odd[rnd_below(&run->rnd, 5)];
    }
    for (unsigned i = 0; i < 8; i++) {
        const struct softmodel_slot *slot =
            &run->model.slots[rnd_below(&run->rnd, SOFTRUN_IDS * 2 + 3)];

        if (slot->is_used && slot->dirty != NULL) {
            return slot->id | (uint32_t)slot->space << 16;
        }
    }
    return (uint32_t)rnd_below(&run->rnd, SOFTRUN_IDS);
}

static uint64_t words_of(const struct softmodel_slot *slot)
{
    return (slot->page_count + 63) / 64;
}

/* What was harvested is what the model has: no page less, no page more. */
static void check_bitmap(struct softrun *run, const struct softmodel_slot *slot)
{
    uint64_t word_count = words_of(slot);

    for (uint64_t i = 0; i < word_count; i++) {
        uint64_t missing = slot->dirty[i] & ~bitmap[i];
        uint64_t wrong = bitmap[i] & ~(slot->dirty[i] | slot->maybe[i]);

        REQUIRE(missing == 0, "slot %#x: page %" PRIu64 " was written, but is not in the log",
                slot->id | (unsigned)slot->space << 16,
                i * 64 + (unsigned)__builtin_ctzll(missing));
        REQUIRE(wrong == 0, "slot %#x: page %" PRIu64 " was not written, but is in the log",
                slot->id | (unsigned)slot->space << 16, i * 64 + (unsigned)__builtin_ctzll(wrong));
        run->counts->dirty_pages += (unsigned)__builtin_popcountll(bitmap[i]);
    }
    REQUIRE(bitmap[word_count] == SENTINEL, "words past the slot's were written");
}

static void clean_all(struct softmodel_slot *slot)
{
    memset(slot->dirty, 0, words_of(slot) * sizeof(*slot->dirty));
    memset(slot->maybe, 0, words_of(slot) * sizeof(*slot->maybe));
}

static void get_log(struct softrun *run)
{
    uint32_t number = choose_number(run);
    bool is_bad = rnd_one_in(&run->rnd, 8);
    struct kvm_dirty_log log = {.slot = number,
                                .dirty_bitmap = is_bad ? (void *)(uintptr_t)run->host->nowhere
                                                       : (void *)bitmap};
    int wanted = softmodel_log_errno(&run->model, number);
    struct softmodel_slot *slot = softmodel_by_number(&run->model, number);
    long result;

    for (uint64_t i = 0; i < WORDS_MAX; i++) {
        bitmap[i] = SENTINEL;
    }
    result = gm_soft_vm_ioctl(run->soft, KVM_GET_DIRTY_LOG, (unsigned long)&log);
    if (result == -ENOMEM && run->faults.has_failed) {
        run->counts->no_memory++;
        return;
    }
    TRACE(run, "get %#x: %ld\n", number, result);
    wanted = wanted == 0 && is_bad ? -EFAULT : wanted;
    REQUIRE(result == wanted, "KVM_GET_DIRTY_LOG of %#x: %ld, not %d", number, result, wanted);
    if (result != 0 || run->model.has_rings) {
        return;
    }
    run->counts->harvests++;
    check_bitmap(run, slot);
    if (run->model.manual == 0) {
        clean_all(slot);
    }
}

static void choose_clear(struct softrun *run, const struct softmodel_slot *slot,
                         struct kvm_clear_dirty_log *log)
{
    uint64_t pages = slot != NULL ? slot->page_count : 640;

    log->first_page = rnd_below(&run->rnd, pages / 64 + 1) * 64;
    log->num_pages = (uint32_t)(pages - (log->first_page < pages ? log->first_page : 0));
    if (rnd_one_in(&run->rnd, 2)) {
        log->num_pages = (uint32_t)rnd_below(&run->rnd, log->num_pages / 64 + 1) * 64;
    }
    if (rnd_one_in(&run->rnd, 10)) {
        log->num_pages += (uint32_t)rnd_below(&run->rnd, 66);
    }
    if (rnd_one_in(&run->rnd, 15)) {
        log->first_page += rnd_below(&run->rnd, 65);
    }
    for (uint64_t i = 0; i < WORDS_MAX; i++) {
        bitmap[i] = rnd_one_in(&run->rnd, 2) ? UINT64_MAX : rnd_next(&run->rnd);
    }
}

static void clear_log(struct softrun *run)
{
    uint32_t number = choose_number(run);
    struct softmodel_slot *slot = softmodel_by_number(&run->model, number);
    struct kvm_clear_dirty_log log = {.slot = number, .dirty_bitmap = bitmap};
    long result;
    int wanted;

    choose_clear(run, slot, &log);
    wanted = softmodel_clear_errno(&run->model, number, log.first_page, log.num_pages);
    result = gm_soft_vm_ioctl(run->soft, KVM_CLEAR_DIRTY_LOG, (unsigned long)&log);
    TRACE(run, "clear %#x, %u pages from %" PRIu64 ": %ld\n", number, log.num_pages,
          (uint64_t)log.first_page, result);
    if (result == -ENOMEM && run->faults.has_failed) {
        run->counts->no_memory++;
        return;
    }
    REQUIRE(result == wanted, "KVM_CLEAR_DIRTY_LOG of %#x, %u pages from %" PRIu64 ": %ld, not %d",
            number, log.num_pages, (uint64_t)log.first_page, result, wanted);
    for (uint64_t i = 0; result == 0 && !run->model.has_rings && i < log.num_pages; i++) {
        if (softmodel_bit(bitmap, i)) {
            softmodel_cleaned(slot, log.first_page + i);
        }
    }
}

/* ---- rings ---- */

/* A harvested entry is of a page that was written. */
static void check_entry(struct softrun *run, const struct kvm_dirty_gfn *entry)
{
    struct softmodel_slot *slot = softmodel_by_number(&run->model, entry->slot);
    bool is_known =
        slot != NULL && entry->offset < slot->page_count &&
        (softmodel_bit(slot->dirty, entry->offset) || softmodel_bit(slot->maybe, entry->offset));

    REQUIRE(is_known || run->rings_are_lax,
            "slot %#x: page %" PRIu64 " was not written, but is in a ring", entry->slot,
            (uint64_t)entry->offset);
}

#define COLLECT_MAX 4096u

struct collected {
    struct kvm_dirty_gfn *entries[COLLECT_MAX]; /* in the rings */
    unsigned count;
};

/* Take at most @limit entries of a ring, in order. */
static void collect(struct softrun *run, struct softrun_ring *ring, unsigned limit,
                    struct collected *collected)
{
    for (unsigned i = 0; i < limit; i++) {
        struct kvm_dirty_gfn *entry = &ring->entries[ring->next % ring->entry_count];
        uint32_t flags = __atomic_load_n(&entry->flags, __ATOMIC_ACQUIRE);

        if ((flags & KVM_DIRTY_GFN_F_DIRTY) == 0 || (flags & KVM_DIRTY_GFN_F_RESET) != 0) {
            return;
        }
        check_entry(run, entry);
        REQUIRE(collected->count < COLLECT_MAX, "more entries than the rings have room for");
        collected->entries[collected->count++] = entry;
        __atomic_store_n(&entry->flags, KVM_DIRTY_GFN_F_RESET, __ATOMIC_RELEASE);
        ring->next++;
    }
}

/* All that was written has to be among what was collected. */
static void check_nothing_lost(const struct softrun *run)
{
    for (unsigned i = 0; i < SOFTMODEL_SLOTS; i++) {
        const struct softmodel_slot *slot = &run->model.slots[i];

        for (uint64_t word = 0; slot->dirty != NULL && word < words_of(slot); word++) {
            REQUIRE(slot->dirty[word] == 0,
                    "slot %#x: page %" PRIu64 " was written, but is in no ring",
                    slot->id | (unsigned)slot->space << 16,
                    word * 64 + (unsigned)__builtin_ctzll(slot->dirty[word]));
        }
    }
}

/* What is collected becomes clean, if it was all; after a part, an entry may come once more. */
static void note_collected(struct softrun *run, const struct collected *collected, bool is_all)
{
    for (unsigned i = 0; i < collected->count; i++) {
        const struct kvm_dirty_gfn *entry = collected->entries[i];
        struct softmodel_slot *slot = softmodel_by_number(&run->model, entry->slot);

        if (slot == NULL || slot->dirty == NULL || entry->offset >= slot->page_count) {
            continue; /* of a slot that has gone */
        }
        softmodel_cleaned(slot, entry->offset);
        if (!is_all) {
            slot->maybe[entry->offset / 64] |= UINT64_C(1) << (entry->offset % 64);
        }
    }
}

static void forget_maybe(struct softrun *run)
{
    for (unsigned i = 0; i < SOFTMODEL_SLOTS; i++) {
        struct softmodel_slot *slot = &run->model.slots[i];

        if (slot->dirty != NULL) {
            memset(slot->maybe, 0, words_of(slot) * sizeof(*slot->maybe));
        }
    }
}

static void harvest_rings(struct softrun *run, bool is_all)
{
    static struct collected collected;
    unsigned limit = is_all ? UINT32_MAX : (unsigned)rnd_below(&run->rnd, 20);
    long result;

    collected.count = 0;
    for (unsigned i = 0; i < SOFTCHECK_VCPUS; i++) {
        collect(run, &run->rings[i], limit, &collected);
    }
    TRACE(run, "%u entries of rings, %s\n", collected.count, is_all ? "all" : "some");
    run->counts->harvests++;
    run->counts->dirty_pages += collected.count;
    note_collected(run, &collected, is_all);
    if (is_all) {
        check_nothing_lost(run);
    }
    result = gm_soft_vm_ioctl(run->soft, KVM_RESET_DIRTY_RINGS, 0);
    REQUIRE(result == (long)collected.count, "KVM_RESET_DIRTY_RINGS: %ld of %u entries", result,
            collected.count);
    if (is_all) {
        forget_maybe(run);
        run->rings_are_lax = false;
    }
}

void softrun_empty_rings(struct softrun *run)
{
    harvest_rings(run, true);
}

/* ---- the operations ---- */

void softrun_harvest(struct softrun *run)
{
    if (run->model.has_rings && !rnd_one_in(&run->rnd, 4)) {
        harvest_rings(run, !rnd_one_in(&run->rnd, 3));
    } else if (rnd_one_in(&run->rnd, 2)) {
        get_log(run);
    } else {
        clear_log(run);
    }
}

void softrun_set_log_cap(struct softrun *run)
{
    static const uint64_t values[] = {0, 0, 1, 1, 3, 3, 2, 4};
    struct kvm_enable_cap cap = {.cap = KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2,
                                 .flags = rnd_one_in(&run->rnd, 10)};
    bool is_good;
    long result;

    cap.args[0] = values[rnd_below(&run->rnd, 8)];
    TRACE(run, "manual %" PRIu64 "\n", (uint64_t)cap.args[0]);
    is_good = cap.flags == 0 && (cap.args[0] < 2 || cap.args[0] == 3);
    result = gm_soft_vm_ioctl(run->soft, KVM_ENABLE_CAP, (unsigned long)&cap);
    REQUIRE(result == (is_good ? 0 : -EINVAL), "KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2 %" PRIu64 ": %ld",
            (uint64_t)cap.args[0], result);
    if (is_good) {
        run->model.manual = cap.args[0];
    }
}
