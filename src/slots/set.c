/* slots/set.c - the slots in use: a treap threaded by a list, and the bitmap of their numbers. */
#include "slots/set.h"

#include "base/check.h"

#include <errno.h>
#include <stdlib.h>

#define WORD_BITS 64u

static uint32_t words_for(uint32_t bits)
{
    return (bits + WORD_BITS - 1) / WORD_BITS;
}

int slot_set_init(struct slot_set *set, uint32_t max_slots, const struct gm_allocator *allocator)
{
    uint32_t words = words_for(max_slots);
    uint32_t summary_words = words_for(words);
    uint64_t *memory;

    GM_ASSERT(max_slots > 0 && max_slots <= GM_SLOT_NUMBERS_MAX);
    memory = mem_zalloc(allocator, ((size_t)words + summary_words) * sizeof(*memory));
    if (memory == NULL) {
        return -ENOMEM;
    }
    *set = (struct slot_set){
        .max_slots = max_slots,
        .random = (uint64_t)(uintptr_t)memory | 1,
        .used = memory,
        .full_words = memory + words,
        .word_count = words,
    };
    if (max_slots % WORD_BITS != 0) {
        set->used[words - 1] = ~0ull << (max_slots % WORD_BITS);
    }
    return 0;
}

void slot_set_fini(struct slot_set *set, const struct gm_allocator *allocator)
{
    mem_free(allocator, set->used);
    set->used = NULL;
}

/* Marsaglia's xorshift: enough to keep the treap balanced whatever order slots come in. */
static uint64_t next_random(struct slot_set *set)
{
    set->random ^= set->random << 13;
    set->random ^= set->random >> 7;
    set->random ^= set->random << 17;
    return set->random;
}

static void number_take(struct slot_set *set, uint32_t number)
{
    uint32_t word = number / WORD_BITS;
    uint64_t bit = 1ull << (number % WORD_BITS);

    GM_ASSERT(number < set->max_slots && (set->used[word] & bit) == 0);
    set->used[word] |= bit;
    if (set->used[word] == ~0ull) {
        set->full_words[word / WORD_BITS] |= 1ull << (word % WORD_BITS);
    }
}

static void number_give(struct slot_set *set, uint32_t number)
{
    uint32_t word = number / WORD_BITS;
    uint64_t bit = 1ull << (number % WORD_BITS);

    GM_ASSERT(number < set->max_slots && (set->used[word] & bit) != 0);
    set->used[word] &= ~bit;
    set->full_words[word / WORD_BITS] &= ~(1ull << (word % WORD_BITS));
}

/* The lowest clear bit of @words from @from on; @count * 64 or more if there is none. */
static uint32_t first_clear(const uint64_t *words, uint32_t count, uint32_t from)
{
    uint32_t word = from / WORD_BITS;
    uint64_t below = (1ull << (from % WORD_BITS)) - 1;

    for (; word < count; word++) {
        uint64_t taken = words[word] | below;

        if (taken != ~0ull) {
            return word * WORD_BITS + (uint32_t)__builtin_ctzll(~taken);
        }
        below = 0;
    }
    return count * WORD_BITS;
}

uint32_t slot_set_free_number(const struct slot_set *set, uint32_t from)
{
    uint32_t word = from / WORD_BITS;
    uint32_t number;

    if (from >= set->max_slots) {
        return SLOT_NUMBER_NONE;
    }
    number = first_clear(set->used, word + 1, from);
    if (number / WORD_BITS > word) {
        word = first_clear(set->full_words, words_for(set->word_count), word + 1);
        if (word >= set->word_count) {
            return SLOT_NUMBER_NONE;
        }
        number = first_clear(set->used, word + 1, word * WORD_BITS);
    }
    return number < set->max_slots ? number : SLOT_NUMBER_NONE;
}

struct slot *slot_set_first_ending_after(const struct slot_set *set, pos_t position)
{
    struct slot *node = set->root;
    struct slot *best = NULL;

    while (node != NULL) {
        if (slot_span(node).end > position) {
            best = node;
            node = node->left;
        } else {
            node = node->right;
        }
    }
    return best;
}

/* Put @slot between the slot that starts before it and that one's successor. */
static void thread_in(struct slot_set *set, struct slot *slot)
{
    struct slot *node = set->root;
    struct slot *before = NULL;

    while (node != NULL) {
        if (node->shown.gpa < slot->shown.gpa) {
            before = node;
            node = node->right;
        } else {
            node = node->left;
        }
    }
    slot->previous = before;
    slot->next = before != NULL ? before->next : set->first;
    if (slot->next != NULL) {
        slot->next->previous = slot;
    }
    if (before != NULL) {
        before->next = slot;
    } else {
        set->first = slot;
    }
}

void slot_set_insert(struct slot_set *set, struct slot *slot)
{
    struct slot **link = &set->root;
    struct slot **left = &slot->left;
    struct slot **right = &slot->right;
    struct slot *node;

    number_take(set, slot->shown.number);
    thread_in(set, slot);
    slot->heat = next_random(set);
    while (*link != NULL && (*link)->heat >= slot->heat) {
        link = slot->shown.gpa < (*link)->shown.gpa ? &(*link)->left : &(*link)->right;
    }
    /* The subtree that was here is split by the new slot's address into what is left and right of
     * it. */
    node = *link;
    *link = slot;
    while (node != NULL) {
        if (node->shown.gpa < slot->shown.gpa) {
            *left = node;
            left = &node->right;
            node = node->right;
        } else {
            *right = node;
            right = &node->left;
            node = node->left;
        }
    }
    *left = NULL;
    *right = NULL;
    set->count++;
}

void slot_set_remove(struct slot_set *set, struct slot *slot)
{
    struct slot **link = &set->root;
    struct slot *left = slot->left;
    struct slot *right = slot->right;

    while (*link != slot) {
        GM_ASSERT(*link != NULL);
        link = slot->shown.gpa < (*link)->shown.gpa ? &(*link)->left : &(*link)->right;
    }
    while (left != NULL && right != NULL) {
        if (left->heat > right->heat) {
            *link = left;
            link = &left->right;
            left = left->right;
        } else {
            *link = right;
            link = &right->left;
            right = right->left;
        }
    }
    *link = left != NULL ? left : right;
    if (slot->next != NULL) {
        slot->next->previous = slot->previous;
    }
    if (slot->previous != NULL) {
        slot->previous->next = slot->next;
    } else {
        set->first = slot->next;
    }
    number_give(set, slot->shown.number);
    set->count--;
}

/* The number of the slot that has @rank slots with lower numbers; rank < count. */
static uint32_t number_of_rank(const struct slot_set *set, size_t rank)
{
    uint32_t word = 0;
    uint64_t bits;

    while (rank >= (size_t)__builtin_popcountll(set->used[word])) {
        rank -= (size_t)__builtin_popcountll(set->used[word]);
        word++;
    }
    for (bits = set->used[word]; rank > 0; rank--) {
        bits &= bits - 1;
    }
    return word * WORD_BITS + (uint32_t)__builtin_ctzll(bits);
}

static int compare_numbers(const void *a, const void *b)
{
    uint32_t left = ((const struct gm_slot *)a)->number;
    uint32_t right = ((const struct gm_slot *)b)->number;

    return left < right ? -1 : left > right;
}

size_t slot_set_list(const struct slot_set *set, struct gm_slot *out, size_t max)
{
    size_t wanted = max < set->count ? max : set->count;
    size_t copied = 0;
    uint32_t last_number;

    if (wanted == 0) {
        return set->count;
    }
    last_number = number_of_rank(set, wanted - 1);
    for (const struct slot *slot = set->first; slot != NULL; slot = slot->next) {
        if (slot->shown.number <= last_number) {
            out[copied] = slot->shown;
            copied++;
        }
    }
    qsort(out, copied, sizeof(*out), compare_numbers);
    return set->count;
}

void slot_set_audit(const struct slot_set *set)
{
    const struct slot *previous = NULL;
    uint32_t count = 0;
    uint32_t numbers = 0;

    for (const struct slot *slot = set->first; slot != NULL; slot = slot->next) {
        uint32_t number = slot->shown.number;

        GM_ASSERT(slot->shown.size_bytes != 0 && slot->previous == previous);
        GM_ASSERT(previous == NULL || slot_span(previous).end <= slot_span(slot).start);
        GM_ASSERT(number < set->max_slots);
        GM_ASSERT((set->used[number / WORD_BITS] >> (number % WORD_BITS) & 1) != 0);
        GM_ASSERT(slot_set_first_ending_after(set, slot->shown.gpa) == slot);
        previous = slot;
        count++;
    }
    GM_ASSERT(count == set->count);
    for (uint32_t word = 0; word < set->word_count; word++) {
        bool is_full = (set->full_words[word / WORD_BITS] >> (word % WORD_BITS) & 1) != 0;

        numbers += (uint32_t)__builtin_popcountll(set->used[word]);
        GM_ASSERT(is_full == (set->used[word] == ~0ull));
    }
    GM_ASSERT(numbers == set->count + set->word_count * WORD_BITS - set->max_slots);
}
