/* ram/pageset.c - one client's dirty pages, in levels. */
#include "ram/pageset.h"

#include "base/alloc.h"
#include "base/check.h"
#include "base/rcu_start.h"
#include "base/unmap.h"

#include <errno.h>
#include <sys/mman.h>

#define WORD_SHIFT PAGESET_WORD_SHIFT

/* The bits of @word among bits [first, end) of a level. */
static inline uint64_t word_mask(uint64_t word, uint64_t first, uint64_t end)
{
    uint64_t word_first = word << WORD_SHIFT;
    uint64_t word_end = word_first + PAGESET_WORD_PAGES;
    uint64_t from = first > word_first ? first : word_first;
    uint64_t to = end < word_end ? end : word_end;

    if (from >= to) {
        return 0;
    }
    return (~(uint64_t)0 >> (PAGESET_WORD_PAGES - (to - from))) << (from - word_first);
}

static uint64_t word_count_of(uint64_t bit_count)
{
    return (bit_count + PAGESET_WORD_PAGES - 1) >> WORD_SHIFT;
}

static bool storage_new(struct pageset *set)
{
    if (set->storage_bytes < PAGESET_MAPPED_BYTES) {
        set->storage = mem_zalloc(&set->allocator, set->storage_bytes);
        return set->storage != NULL;
    }
    set->storage = mmap(NULL, set->storage_bytes, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (set->storage == MAP_FAILED) {
        return false;
    }
    /* A first mark zeroes 4 KiB, not 2 MiB. Advice only: what it returns does not matter. */
    (void)madvise(set->storage, set->storage_bytes, MADV_NOHUGEPAGE);
    return true;
}

static void storage_free(struct pageset *set)
{
    if (set->storage_bytes < PAGESET_MAPPED_BYTES) {
        mem_free(&set->allocator, set->storage);
    } else {
        host_unmap(set->storage, set->storage_bytes);
    }
}

struct pageset *pageset_new(uint64_t page_count, const struct gm_allocator *allocator)
{
    struct pageset *set = rcu_start() == 0 ? mem_zalloc(allocator, sizeof(*set)) : NULL;
    uint64_t word_counts[PAGESET_LEVELS];
    uint64_t total = 0;
    _Atomic(uint64_t) *words;

    if (set == NULL) {
        return NULL;
    }
    ref_init(&set->refs);
    set->page_count = page_count;
    set->allocator = *allocator;
    for (uint64_t count = word_count_of(page_count);; count = word_count_of(count)) {
        GM_ASSERT(set->level_count < PAGESET_LEVELS);
        word_counts[set->level_count] = count;
        set->level_count++;
        total += count;
        if (count <= PAGESET_TOP_WORDS) {
            break;
        }
    }
    if (total > SIZE_MAX / sizeof(uint64_t)) {
        mem_free(allocator, set);
        return NULL;
    }
    set->storage_bytes = (size_t)total * sizeof(uint64_t);
    if (!storage_new(set)) {
        mem_free(allocator, set);
        return NULL;
    }
    words = set->storage;
    for (unsigned level = 0; level < set->level_count; level++) {
        set->levels[level] = words;
        words += word_counts[level];
    }
    return set;
}

void pageset_free(struct pageset *set)
{
    struct gm_allocator allocator;

    if (set == NULL) {
        return;
    }
    allocator = set->allocator;
    storage_free(set);
    mem_free(&allocator, set);
}

static void reclaim_set(struct rcu_item *item)
{
    struct pageset *set = rcu_owner(item, struct pageset, reclaim);

    if (set->storage_bytes < PAGESET_MAPPED_BYTES) { /* an audit of terabytes would take too long */
        GM_AUDIT(pageset_audit(set));
    }
    pageset_free(set);
}

void pageset_put(struct pageset *set)
{
    if (ref_put(&set->refs)) {
        rcu_defer(&set->reclaim, reclaim_set);
    }
}

/* Returns those of @bits that were set. */
static inline uint64_t clear_bits(_Atomic(uint64_t) *word, uint64_t bits)
{
    if (bits == ~(uint64_t)0) {          /* one instruction on x86, where the other is a loop */
        return atomic_exchange(word, 0); /* pairs with pageset_or() */
    }
    return atomic_fetch_and(word, ~bits) & bits; /* pairs with pageset_or() */
}

/* Set bits [first, last] of @level and then what stands for them in the levels above. */
static void mark_from(struct pageset *set, unsigned level, uint64_t first, uint64_t last)
{
    for (; level < set->level_count; level++) {
        uint64_t last_word = last >> WORD_SHIFT;

        for (uint64_t word = first >> WORD_SHIFT; word <= last_word; word++) {
            pageset_or(&set->levels[level][word], word_mask(word, first, last + 1));
        }
        GM_POINT("mark-level");
        first >>= WORD_SHIFT;
        last >>= WORD_SHIFT;
    }
}

void pageset_mark(struct pageset *set, uint64_t first_page, uint64_t last_page)
{
    mark_from(set, 0, first_page, last_page);
}

void pageset_mark_word(struct pageset *set, uint64_t word, uint64_t bits)
{
    pageset_or(&set->levels[0][word], bits);
    mark_from(set, 1, word, word);
}

struct take {
    struct pageset *set;
    struct pagelist *list;
    uint64_t first_page;
    uint64_t last_page;
    uint64_t end_page; /* last_page + 1, or beyond all pages if the set ends there */
};

/* Move the pages of one word that are in range. */
static int take_pages(struct take *take, uint64_t word)
{
    uint64_t wanted = word_mask(word, take->first_page, take->last_page + 1);
    uint64_t taken;

    /* Acquire: pairs with pageset_or(). A page marked after this load is marked after the take began. */
    if ((atomic_load(&take->set->levels[0][word]) & wanted) == 0) {
        return 0;
    }
    if (!pagelist_reserve(take->list)) {
        return -ENOMEM;
    }
    taken = clear_bits(&take->set->levels[0][word], wanted);
    GM_POINT("take-pages");
    if (taken != 0) { /* or another take was faster */
        pagelist_append(take->list, word, taken);
    }
    return 0;
}

/*
 * Go down from the bits of one word of a summary level. Bits that lie wholly within the range are
 * cleared first; when the take fails they are set again. The depth is the number of levels.
 */
static int take_below(struct take *take, unsigned level, uint64_t word)
{
    _Atomic(uint64_t) *summary = &take->set->levels[level][word];
    unsigned shift = WORD_SHIFT * level;
    uint64_t first_offset = take->first_page & (((uint64_t)1 << shift) - 1);
    uint64_t whole_first = (take->first_page >> shift) + (first_offset != 0);
    uint64_t whole = word_mask(word, whole_first, take->end_page >> shift);
    uint64_t touched = word_mask(word, take->first_page >> shift, (take->last_page >> shift) + 1);
    uint64_t found = atomic_load(summary) & touched; /* pairs with pageset_or() */
    uint64_t cleared = (found & whole) != 0 ? clear_bits(summary, whole) : 0;
    uint64_t nodes = cleared | (found & ~whole);

    GM_POINT("take-summary");
    while (nodes != 0) {
        uint64_t node = (word << WORD_SHIFT) + (uint64_t)__builtin_ctzll(nodes);
        int result = level == 1 ? take_pages(take, node) : take_below(take, level - 1, node);

        if (result != 0) {
            pageset_or(summary, cleared);
            return result;
        }
        nodes &= nodes - 1;
    }
    return 0;
}

int pageset_take(struct pageset *set, uint64_t first_page, uint64_t last_page,
                 struct pagelist *list)
{
    struct take take = {.set = set,
                        .list = list,
                        .first_page = first_page,
                        .last_page = last_page,
                        .end_page = last_page + 1};
    unsigned top = set->level_count - 1;
    uint64_t top_shift = WORD_SHIFT * (top + 1);

    if (take.end_page == set->page_count) {
        take.end_page = (uint64_t)1 << 62; /* the last summary bits stand for less than others */
    }
    for (uint64_t word = first_page >> top_shift; word <= last_page >> top_shift; word++) {
        int result = top == 0 ? take_pages(&take, word) : take_below(&take, top, word);

        if (result != 0) {
            return result;
        }
    }
    return 0;
}

void pageset_give_back(struct pageset *set, const struct pagelist *list)
{
    for (const struct pagelist_chunk *chunk = &list->first; chunk != NULL; chunk = chunk->next) {
        for (size_t i = 0; i < chunk->used; i++) {
            const struct page_words *item = &chunk->items[i];

            for (uint64_t n = 0; n < item->count; n++) {
                pageset_mark_word(set, item->word + n, item->bits);
            }
        }
    }
}

void pageset_audit(const struct pageset *set)
{
    uint64_t bit_count = set->page_count;

    for (unsigned level = 0; level < set->level_count; level++) {
        uint64_t word_count = word_count_of(bit_count);

        for (uint64_t word = 0; word < word_count; word++) {
            uint64_t bits = atomic_load(&set->levels[level][word]);
            uint64_t above = ~(uint64_t)0;

            if (level + 1 < set->level_count) {
                above = atomic_load(&set->levels[level + 1][word >> WORD_SHIFT]);
            }
            GM_ASSERT((bits & ~word_mask(word, 0, bit_count)) == 0);
            GM_ASSERT(bits == 0 || (above >> (word % PAGESET_WORD_PAGES) & 1) != 0);
        }
        bit_count = word_count;
    }
}
