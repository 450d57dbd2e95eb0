/*
 * mmu/guestwalk.c - the one walker for all modes of x86 paging.
 *
 * Sources are sections of Intel SDM 3A, chapter 4.
 */
#include "mmu/guestwalk.h"

#define PAGE_SHIFT 12u
#define PDPTE_BYTES 8u

/* Of a 4 MiB page: bits 13 to 20 of the entry are bits 32 to 39 of the address (4.3). */
#define PSE36_SHIFT 13u
#define PSE36_MASK 0xffu
#define PSE36_ADDRESS_SHIFT 32u

enum attempt_result {
    ATTEMPT_OK,
    ATTEMPT_FAULT,
    ATTEMPT_STOP,
    ATTEMPT_AGAIN,
};

/* One way down, from the top. */
struct attempt {
    const struct paging *paging;
    const struct guestmem *memory;
    const struct guestwalk_request *request;
    struct guestwalk *walk;
};

static enum attempt_result result_of(enum guestmem_result result)
{
    switch (result) {
    case GUESTMEM_OK:
        return ATTEMPT_OK;
    case GUESTMEM_AGAIN:
        return ATTEMPT_AGAIN;
    default:
        return ATTEMPT_STOP;
    }
}

static enum attempt_result fault(const struct attempt *attempt, uint32_t cause)
{
    attempt->walk->error_code = attempt->paging->errors[attempt->request->access] | cause;
    return ATTEMPT_FAULT;
}

/* PDPTEs of PAE are in the processor, and have neither rights nor an accessed flag. */
static bool level_has_flags(const struct paging *paging, unsigned level)
{
    return level != paging->level_count || paging->has_flags_at_top;
}

static enum attempt_result load_entry(const struct attempt *attempt, unsigned level,
                                      uint64_t table_gpa)
{
    const struct paging *paging = attempt->paging;
    const struct paging_level *shape = &paging->levels[level];
    struct guestwalk *walk = attempt->walk;
    uint64_t index = attempt->request->linear >> shape->shift & ((1u << shape->index_bits) - 1);

    walk->depth = level;
    if (!level_has_flags(paging, level)) {
        walk->entry_gpas[level] = table_gpa + index * PDPTE_BYTES;
        walk->entries[level] = paging->pdptes[index];
        return ATTEMPT_OK;
    }
    walk->entry_gpas[level] = table_gpa + index * paging->entry_bytes;
    return result_of(attempt->memory->load(attempt->memory->opaque, walk->entry_gpas[level],
                                           paging->entry_bytes, &walk->entries[level]));
}

/* 4.8: sticky flags, so an entry that has them is not written. */
static enum attempt_result set_flags(const struct attempt *attempt, unsigned level, uint64_t flags)
{
    struct guestwalk *walk = attempt->walk;
    uint64_t entry = walk->entries[level];
    enum guestmem_result result;

    if ((attempt->request->flags & GUESTWALK_SET_FLAGS) == 0 || (entry & flags) == flags) {
        return ATTEMPT_OK;
    }
    result = attempt->memory->replace(attempt->memory->opaque, walk->entry_gpas[level],
                                      attempt->paging->entry_bytes, entry, entry | flags);
    if (result == GUESTMEM_OK) {
        walk->entries[level] = entry | flags;
    }
    return result_of(result);
}

/* The address of the byte. Bits that no address has, and those below the page, are reserved or PAT. */
static uint64_t leaf_gpa(const struct paging *paging, unsigned level, uint64_t entry,
                         uint64_t linear)
{
    uint64_t offset_mask = (UINT64_C(1) << paging->levels[level].shift) - 1;
    uint64_t frame = entry & paging->address_mask & ~offset_mask;

    if (paging->entry_bytes == 4 && level > 1) {
        frame |= (entry >> PSE36_SHIFT & PSE36_MASK) << PSE36_ADDRESS_SHIFT;
    }
    return frame | (linear & offset_mask);
}

/* All entries are there and well formed: check the rights, then set the leaf's flags. */
static enum attempt_result arrive(const struct attempt *attempt, unsigned rights)
{
    const struct guestwalk_request *request = attempt->request;
    const struct paging *paging = attempt->paging;
    struct guestwalk *walk = attempt->walk;
    unsigned level = walk->depth;
    uint64_t entry = walk->entries[level];
    uint64_t flags = PAGING_ACCESSED;
    enum attempt_result result;

    walk->gpa = leaf_gpa(paging, level, entry, request->linear);
    walk->level = level;
    walk->page_shift = paging->levels[level].shift;
    walk->rights = rights;
    walk->key = paging->keys ? entry >> PAGING_KEY_SHIFT & PAGING_KEY_MASK : 0;
    walk->is_global = paging->global_pages && (entry & PAGING_GLOBAL) != 0;
    walk->error_code = paging_refusal(paging, request->access, rights, walk->key);
    if (walk->error_code != 0) {
        return ATTEMPT_FAULT;
    }
    if ((request->access & (PAGING_WRITE | PAGING_FETCH)) == PAGING_WRITE) {
        flags |= PAGING_DIRTY;
    }
    result = set_flags(attempt, level, flags);
    walk->is_dirty = (walk->entries[level] & PAGING_DIRTY) != 0;
    return result;
}

static enum attempt_result descend(const struct attempt *attempt)
{
    const struct paging *paging = attempt->paging;
    struct guestwalk *walk = attempt->walk;
    uint64_t table_gpa = paging->root;
    unsigned rights = PAGING_RIGHTS_ALL;

    for (unsigned level = paging->level_count;; level--) {
        const struct paging_level *shape = &paging->levels[level];
        enum attempt_result result = load_entry(attempt, level, table_gpa);
        uint64_t entry = walk->entries[level];
        bool is_leaf;

        walk->table_rights[level] = (uint8_t)rights;
        if (result != ATTEMPT_OK) {
            return result;
        }
        if ((entry & PAGING_PRESENT) == 0) {
            return fault(attempt, 0);
        }
        is_leaf = paging_is_leaf(paging, level, entry);
        if ((entry & (is_leaf ? shape->reserved_leaf : shape->reserved)) != 0) {
            return fault(attempt, PAGING_ERROR_PRESENT | PAGING_ERROR_RESERVED);
        }
        if (level_has_flags(paging, level)) {
            rights &= paging_entry_rights(entry);
        }
        if (is_leaf) {
            return arrive(attempt, rights);
        }
        if (level_has_flags(paging, level)) {
            result = set_flags(attempt, level, PAGING_ACCESSED);
        }
        if (result != ATTEMPT_OK) {
            return result;
        }
        table_gpa = entry & paging->address_mask;
    }
}

enum guestwalk_result guest_walk(const struct paging *paging, const struct guestmem *memory,
                                 const struct guestwalk_request *request, struct guestwalk *walk)
{
    const struct attempt attempt = {paging, memory, request, walk};
    enum attempt_result result;

    if (paging->mode == PAGING_NONE) {
        *walk = (struct guestwalk){
            .gpa = request->linear & UINT32_MAX,
            .page_shift = PAGE_SHIFT,
            .rights = PAGING_RIGHTS_ALL,
            .is_dirty = true,
        };
        return GUESTWALK_OK;
    }
    do {
        *walk = (struct guestwalk){0};
        result = descend(&attempt);
    } while (result == ATTEMPT_AGAIN); /* somebody else got on, as with any compare-and-swap */
    switch (result) {
    case ATTEMPT_OK:
        return GUESTWALK_OK;
    case ATTEMPT_FAULT:
        return GUESTWALK_FAULT;
    default:
        return GUESTWALK_STOP;
    }
}
