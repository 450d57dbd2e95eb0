/* kcore/dirtylog.c - the bitmap of a slot, and reading and clearing it. */
#include "kcore/dirtylog.h"

#include "base/alloc.h"
#include "kcore/change.h"
#include "kcore/vcpu.h"

#include <errno.h>

#define WORD_PAGES 64u

static uint64_t words_for(uint64_t page_count)
{
    return page_count / WORD_PAGES + (page_count % WORD_PAGES != 0 ? 1 : 0);
}

/* The bits of @word that stand for pages. */
static uint64_t valid_bits(const struct dirtylog *log, uint64_t word)
{
    uint64_t tail_bits = log->page_count % WORD_PAGES;

    return word + 1 == log->word_count && tail_bits != 0 ? (UINT64_C(1) << tail_bits) - 1
                                                         : UINT64_MAX;
}

struct dirtylog *dirtylog_new(const struct gm_allocator *allocator, uint64_t page_count,
                              bool all_set)
{
    uint64_t word_count = words_for(page_count);
    struct dirtylog *log =
        mem_alloc(allocator, sizeof(*log) + (size_t)word_count * sizeof(log->words[0]));

    if (log == NULL) {
        return NULL;
    }
    log->page_count = page_count;
    log->word_count = word_count;
    for (uint64_t i = 0; i < word_count; i++) {
        atomic_init(&log->words[i], all_set ? valid_bits(log, i) : 0);
    }
    return log;
}

void dirtylog_free(const struct gm_allocator *allocator, struct dirtylog *log)
{
    mem_free(allocator, log);
}

/*
 * The load may find the bit and leave it at that: a harvest that clears it later looks at the page's
 * entry after that, and finds it writable, as the entry became so before this load. All four accesses
 * are sequentially consistent; the load pairs with the exchange in take_word() and the and in
 * clear_word().
 */
static void set_bit(struct dirtylog *log, uint64_t page)
{
    atomic_uint_fast64_t *word = &log->words[page / WORD_PAGES];
    uint64_t bit = UINT64_C(1) << (page % WORD_PAGES);

    if ((atomic_load(word) & bit) == 0) {
        atomic_fetch_or(word, bit);
    }
}

bool kcore_mark_dirty(struct kcore *core, struct kcore_vcpu *vcpu, const struct memslot *slot,
                      struct gfn gfn)
{
    uint64_t page = memslot_page_of(slot, gfn);

    (void)core;
    if ((slot->flags & MEMSLOT_LOG) == 0) {
        return true;
    }
    if (vcpu != NULL && vcpu->ring.entries != NULL) {
        return ring_push(&vcpu->ring, (uint32_t)slot->space << 16 | slot->id, page);
    }
    if (slot->log != NULL) {
        set_bit(slot->log, page);
    }
    return true;
}

/*
 * The slot whose log is asked for. Private slots have no number that could be asked for. The order of
 * checks is Linux's.
 */
static int find_logged(const struct kcore *core, uint32_t slot, const struct memslot **found)
{
    if (!kcore_has_bitmaps(core)) {
        return -ENXIO;
    }
    if (change_space(slot) >= core->spaces || change_id(slot) >= MEMSLOT_USER_IDS) {
        return -EINVAL;
    }
    *found = kcore_slot_by_id(core, slot);
    return *found != NULL && (*found)->log != NULL ? 0 : -ENOENT;
}

/* Bring in what vCPUs have in their buffers. Under the slots lock. */
static void drain(struct kcore *core)
{
    if (!core->log_is_immediate && core->arch_ops->log_drain != NULL) {
        kcore_hold(core);
        core->arch_ops->log_drain(core->arch);
        kcore_release(core);
    }
}

/* Take a word's bits, before its pages are protected: a write in between marks its page again. */
static uint64_t take_word(struct kcore *core, const struct memslot *slot, uint64_t word)
{
    uint64_t mask;

    if (atomic_load_explicit(&slot->log->words[word], memory_order_relaxed) == 0) {
        return 0;
    }
    /* Sequentially consistent; pairs with the load and the or in set_bit(). */
    mask = atomic_exchange(&slot->log->words[word], 0);
    core->arch_ops->log_protect(core->arch, slot, word * WORD_PAGES, mask);
    return mask;
}

static void take_all(struct kcore *core, const struct memslot *slot, uint64_t *bitmap)
{
    bool any = false;

    for (uint64_t i = 0; i < slot->log->word_count; i++) {
        bitmap[i] = take_word(core, slot, i);
        any = any || bitmap[i] != 0;
    }
    if (any) {
        core->arch_ops->tlb_flush(core->arch);
    }
}

/* Manual protection: bits stay, and pages as they are, until they are cleared. */
static void copy_all(const struct memslot *slot, uint64_t *bitmap)
{
    for (uint64_t i = 0; i < slot->log->word_count; i++) {
        bitmap[i] = atomic_load_explicit(&slot->log->words[i], memory_order_acquire);
    }
}

int kcore_log_get(struct kcore *core, uint32_t slot, uint64_t *bitmap, uint64_t bitmap_words)
{
    const struct memslot *found = NULL;
    int rc;

    lock_take(&core->slots_lock);
    rc = find_logged(core, slot, &found);
    if (rc == 0 && bitmap_words < found->log->word_count) {
        rc = -EINVAL;
    }
    if (rc == 0) {
        drain(core);
        if (core->manual_protect) {
            copy_all(found, bitmap);
        } else {
            take_all(core, found, bitmap);
        }
    }
    lock_drop(&core->slots_lock);
    return rc;
}

void kcore_log_put_back(struct kcore *core, uint32_t slot, const uint64_t *bitmap,
                        uint64_t bitmap_words)
{
    const struct memslot *found = NULL;

    lock_take(&core->slots_lock);
    if (!core->manual_protect && find_logged(core, slot, &found) == 0) {
        for (uint64_t i = 0; i < found->log->word_count && i < bitmap_words; i++) {
            uint64_t mask = bitmap[i] & valid_bits(found->log, i);

            if (mask != 0) {
                atomic_fetch_or(&found->log->words[i], mask);
            }
        }
    }
    lock_drop(&core->slots_lock);
}

int kcore_log_page_count(struct kcore *core, uint32_t slot, uint64_t *page_count)
{
    const struct memslot *found = NULL;
    int rc;

    lock_take(&core->slots_lock);
    rc = find_logged(core, slot, &found);
    if (rc == 0) {
        *page_count = found->page_count;
    }
    lock_drop(&core->slots_lock);
    return rc;
}

/* Is a part of a log whole words, its tail aside? */
static bool is_clearable(const struct memslot *slot, uint64_t first_page, uint64_t page_count)
{
    if (!range_holds(0, slot->page_count, first_page, page_count)) {
        return false;
    }
    return page_count % WORD_PAGES == 0 || first_page + page_count == slot->page_count;
}

/* Clear of a word what is dirty and in @mask. Return: did that change anything? */
static bool clear_word(struct kcore *core, const struct memslot *slot, uint64_t word, uint64_t mask)
{
    if (mask == 0) {
        return false;
    }
    /* Sequentially consistent; pairs with the load and the or in set_bit(). */
    mask &= atomic_fetch_and(&slot->log->words[word], ~mask);
    if (mask == 0) {
        return false;
    }
    core->arch_ops->log_protect(core->arch, slot, word * WORD_PAGES, mask);
    return true;
}

int kcore_log_clear(struct kcore *core, uint32_t slot, uint64_t first_page, uint64_t page_count,
                    const uint64_t *bitmap)
{
    const struct memslot *found = NULL;
    bool any = false;
    int rc;

    lock_take(&core->slots_lock);
    rc = find_logged(core, slot, &found);
    if (rc != -ENXIO && first_page % WORD_PAGES != 0) {
        rc = -EINVAL; /* Linux looks at this before it looks for the slot */
    }
    if (rc == 0 && !is_clearable(found, first_page, page_count)) {
        rc = -EINVAL;
    }
    if (rc == 0) {
        drain(core);
        for (uint64_t i = 0; i < words_for(page_count); i++) {
            any |= clear_word(core, found, first_page / WORD_PAGES + i, bitmap[i]);
        }
        if (any) {
            core->arch_ops->tlb_flush(core->arch);
        }
    }
    lock_drop(&core->slots_lock);
    return rc;
}

int kcore_set_manual_protect(struct kcore *core, uint64_t flags)
{
    if (flags != 0 && flags != 1 && flags != 3) {
        return -EINVAL;
    }
    lock_take(&core->slots_lock);
    core->manual_protect = flags != 0;
    core->initially_all_set = flags == 3;
    lock_drop(&core->slots_lock);
    return 0;
}
