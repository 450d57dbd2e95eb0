/* kcore/dirtylog.c - the bitmap of a slot, and reading and clearing it. */
#include "kcore/dirtylog.h"

#include "base/alloc.h"
#include "kcore/change.h"
#include "kcore/vcpu.h"

#include <errno.h>
#include <string.h>

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

static uint64_t *words_new(const struct gm_allocator *allocator, uint64_t word_count)
{
    return mem_zalloc(allocator, (size_t)word_count * sizeof(uint64_t));
}

struct dirtylog *dirtylog_new(const struct gm_allocator *allocator, uint64_t page_count,
                              bool all_set)
{
    struct dirtylog *log = mem_zalloc(allocator, sizeof(*log));
    uint64_t *words;

    if (log == NULL) {
        return NULL;
    }
    log->page_count = page_count;
    log->word_count = words_for(page_count);
    words = words_new(allocator, log->word_count);
    if (words == NULL) {
        mem_free(allocator, log);
        return NULL;
    }
    for (uint64_t i = 0; i < log->word_count && all_set; i++) {
        words[i] = valid_bits(log, i);
    }
    atomic_init(&log->refs, 1);
    atomic_init(&log->is_dirty, all_set);
    atomic_init(&log->words, words);
    return log;
}

void dirtylog_free(const struct gm_allocator *allocator, struct dirtylog *log)
{
    /* Acquire-release: the last one sees what the others did. */
    if (log == NULL || atomic_fetch_sub_explicit(&log->refs, 1, memory_order_acq_rel) > 1) {
        return;
    }
    mem_free(allocator, atomic_load_explicit(&log->words, memory_order_relaxed));
    mem_free(allocator, log->spare);
    mem_free(allocator, log);
}

/*
 * Who marks may find the bit and leave it at that: a harvest that takes it does so while nobody marks, and
 * protects the page before it lets anybody in again.
 */
static void set_bit(struct dirtylog *log, uint64_t page)
{
    /* Acquire; pairs with the exchange in take_all(). */
    uint64_t *words = atomic_load_explicit(&log->words, memory_order_acquire);
    uint64_t *word = &words[page / WORD_PAGES];
    uint64_t bit = UINT64_C(1) << (page % WORD_PAGES);

    if ((__atomic_load_n(word, __ATOMIC_RELAXED) & bit) == 0) {
        __atomic_fetch_or(word, bit, __ATOMIC_RELEASE);
    }
    /* Of a bit that was there already, too: who set it may not have come to this yet. */
    if (!atomic_load_explicit(&log->is_dirty, memory_order_relaxed)) {
        atomic_store_explicit(&log->is_dirty, true, memory_order_release);
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

/* From here to harvest_end() nobody marks, nor gets the right to write. Under the slots lock. */
static void harvest_begin(struct kcore *core)
{
    kcore_hold(core);
    core->arch_ops->log_begin(core->arch);
}

/* @changed: pages were protected. The flush costs no hold: this one is it. */
static void harvest_end(struct kcore *core, bool changed)
{
    core->arch_ops->log_end(core->arch);
    if (changed) {
        core->arch_ops->tlb_flush(core->arch);
    }
    kcore_release(core);
}

/*
 * All bits become the loan's, and others take their place: the spare words as a whole, or, while words of the log
 * are lent, their contents. While nobody marks, plain accesses do. Under the slots lock.
 */
static void exchange_words(struct dirtylog *log, struct dirtylog_loan *loan)
{
    uint64_t *words = atomic_load_explicit(&log->words, memory_order_relaxed);

    if (atomic_load_explicit(&log->refs, memory_order_acquire) == 1) {
        /* Release; pairs with the acquire in set_bit(). */
        atomic_store_explicit(&log->words, log->spare, memory_order_release);
        loan->taken = words;
    } else {
        loan->taken = log->spare;
        for (uint64_t i = 0; i < log->word_count; i++) {
            loan->taken[i] = __atomic_load_n(&words[i], __ATOMIC_RELAXED);
            __atomic_store_n(&words[i], 0, __ATOMIC_RELAXED);
        }
    }
    log->spare = NULL;
    atomic_store_explicit(&log->is_dirty, false, memory_order_relaxed);
}

/* Under the slots lock. Return: 0; -ENOMEM. */
static int take_all(struct kcore *core, const struct memslot *slot, struct dirtylog_loan *loan)
{
    struct dirtylog *log = slot->log;

    if (log->spare == NULL) {
        log->spare = words_new(&core->allocator, log->word_count);
    }
    if (log->spare == NULL) {
        return -ENOMEM;
    }
    harvest_begin(core);
    exchange_words(log, loan);
    core->arch_ops->log_protect_words(core->arch, slot, 0, loan->taken, log->word_count);
    harvest_end(core, true);
    return 0;
}

/* Under the slots lock. */
static int lend(struct kcore *core, const struct memslot *slot, struct dirtylog_loan *loan)
{
    struct dirtylog *log = slot->log;
    int rc = 0;

    *loan = (struct dirtylog_loan){.log = log, .word_count = log->word_count};
    drain(core);
    /* Acquire; pairs with the release in set_bit(). Of a clean log there is nothing to take. */
    if (!core->manual_protect && atomic_load_explicit(&log->is_dirty, memory_order_acquire)) {
        rc = take_all(core, slot, loan);
    }
    loan->words =
        loan->taken != NULL ? loan->taken : atomic_load_explicit(&log->words, memory_order_relaxed);
    return rc;
}

int kcore_log_lend(struct kcore *core, uint32_t slot, struct dirtylog_loan *loan)
{
    const struct memslot *found = NULL;
    int rc;

    lock_take(&core->slots_lock);
    rc = find_logged(core, slot, &found);
    if (rc == 0) {
        rc = lend(core, found, loan);
    }
    if (rc == 0) {
        atomic_fetch_add_explicit(&loan->log->refs, 1, memory_order_relaxed);
    }
    lock_drop(&core->slots_lock);
    return rc;
}

/* Bits that were taken and not read. Under the slots lock. */
static void put_back(struct dirtylog *log, const uint64_t *taken)
{
    uint64_t *words = atomic_load_explicit(&log->words, memory_order_relaxed);

    for (uint64_t i = 0; i < log->word_count; i++) {
        if (taken[i] != 0) {
            __atomic_fetch_or(&words[i], taken[i], __ATOMIC_RELEASE);
        }
    }
    atomic_store_explicit(&log->is_dirty, true, memory_order_release);
}

void kcore_log_return(struct kcore *core, const struct dirtylog_loan *loan, bool is_read)
{
    struct dirtylog *log = loan->log;

    if (loan->taken != NULL && !is_read) {
        lock_take(&core->slots_lock);
        put_back(log, loan->taken);
        lock_drop(&core->slots_lock);
    }
    if (loan->taken != NULL) {
        memset(loan->taken, 0, log->word_count * sizeof(loan->taken[0]));
    }
    lock_take(&core->slots_lock);
    if (log->spare == NULL) {
        log->spare = loan->taken;
    } else {
        mem_free(&core->allocator, loan->taken);
    }
    dirtylog_free(&core->allocator, log);
    lock_drop(&core->slots_lock);
}

int kcore_log_get(struct kcore *core, uint32_t slot, uint64_t *bitmap, uint64_t bitmap_words)
{
    struct dirtylog_loan loan;
    int rc = kcore_log_lend(core, slot, &loan);

    if (rc != 0) {
        return rc;
    }
    rc = loan.word_count <= bitmap_words ? 0 : -EINVAL;
    for (uint64_t i = 0; i < loan.word_count && rc == 0; i++) {
        bitmap[i] = __atomic_load_n(&loan.words[i], __ATOMIC_ACQUIRE);
    }
    kcore_log_return(core, &loan, rc == 0);
    return rc;
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

/* Words that are cleared while vCPUs wait: those of 1 GiB. */
#define CLEAR_WORDS 4096u
/* ... and that are looked at together: those of 2 MiB, which one table maps where the slot is so aligned. */
#define BLOCK_WORDS 8u

/* A part of a log as it is cleared. */
struct clear {
    struct kcore *core;
    const struct memslot *slot;
    const uint64_t *bitmap; /* of the words from @first on */
    uint64_t first;
    /* Words of which all that is dirty is cleared, not protected yet. Empty: the second is 0. */
    uint64_t run_first;
    uint64_t run_end;
    bool changed;
};

static void protect_run(struct clear *clear)
{
    if (clear->run_end != 0) {
        clear->core->arch_ops->log_protect_words(
            clear->core->arch, clear->slot, clear->run_first * WORD_PAGES,
            &clear->bitmap[clear->run_first - clear->first], clear->run_end - clear->run_first);
    }
    clear->run_end = 0;
}

/* Clear words [word, end), of one block. While nobody marks, plain accesses do. */
static void clear_block(struct clear *clear, uint64_t word, uint64_t end)
{
    uint64_t *words = atomic_load_explicit(&clear->slot->log->words, memory_order_relaxed);
    uint64_t taken[BLOCK_WORDS];
    uint64_t any = 0;
    uint64_t left = 0;

    for (uint64_t i = word; i < end; i++) {
        uint64_t dirty = __atomic_load_n(&words[i], __ATOMIC_RELAXED);
        uint64_t mask = dirty & clear->bitmap[i - clear->first];

        taken[i - word] = mask;
        any |= mask;
        left |= dirty ^ mask;
        if (mask != 0) {
            __atomic_store_n(&words[i], dirty ^ mask, __ATOMIC_RELAXED);
        }
    }
    clear->changed |= any != 0;
    if (left != 0) {
        protect_run(clear);
        for (uint64_t i = word; i < end; i++) {
            if (taken[i - word] != 0) {
                clear->core->arch_ops->log_protect(clear->core->arch, clear->slot, i * WORD_PAGES,
                                                   taken[i - word]);
            }
        }
    } else if (any != 0) {
        clear->run_first = clear->run_end != 0 ? clear->run_first : word;
        clear->run_end = end;
    }
}

static bool any_set(const uint64_t *words, uint64_t count)
{
    uint64_t any = 0;

    for (uint64_t i = 0; i < count; i++) {
        any |= words[i];
    }
    return any != 0;
}

/* Under the slots lock. */
static void clear_words(struct clear *clear, uint64_t word_count)
{
    uint64_t end = clear->first + word_count;

    for (uint64_t at = clear->first; at < end; at += CLEAR_WORDS) {
        uint64_t stop = end - at < CLEAR_WORDS ? end : at + CLEAR_WORDS;

        if (!any_set(&clear->bitmap[at - clear->first], stop - at)) {
            continue;
        }
        clear->changed = false;
        harvest_begin(clear->core);
        for (uint64_t word = at, next; word < stop; word = next) {
            next = align_down(word, BLOCK_WORDS) + BLOCK_WORDS;
            next = next < stop ? next : stop;
            clear_block(clear, word, next);
        }
        protect_run(clear);
        harvest_end(clear->core, clear->changed);
    }
}

int kcore_log_clear(struct kcore *core, uint32_t slot, uint64_t first_page, uint64_t page_count,
                    const uint64_t *bitmap)
{
    const struct memslot *found = NULL;
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
        struct clear clear = {
            .core = core, .slot = found, .bitmap = bitmap, .first = first_page / WORD_PAGES};

        drain(core);
        /* Acquire; pairs with the release in set_bit(). */
        if (atomic_load_explicit(&found->log->is_dirty, memory_order_acquire)) {
            clear_words(&clear, words_for(page_count));
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
