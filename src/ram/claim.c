/* ram/claim.c - how much of a block those who show it need. */
#include "ram/claim.h"

#include <errno.h>

static void insert(struct gm_ram *ram, struct ram_claim *claim)
{
    claim->next = ram->claims;
    claim->prev = &ram->claims;
    if (claim->next != NULL) {
        claim->next->prev = &claim->next;
    }
    ram->claims = claim;
}

static void remove_from(struct ram_claim *claim)
{
    *claim->prev = claim->next;
    if (claim->next != NULL) {
        claim->next->prev = claim->prev;
    }
    claim->prev = NULL;
}

int ram_claim_raise(struct gm_ram *ram, struct ram_claim *claim, uint64_t end)
{
    int rc = 0;

    if (!ram->is_resizable) {
        return end <= ram->max_size ? 0 : -EINVAL;
    }
    lock_take(&ram->size_lock);
    if (end > ram_size(ram)) {
        rc = -EINVAL;
    } else if (end > claim->end) {
        claim->end = end;
        if (claim->prev == NULL) {
            insert(ram, claim);
        }
    }
    lock_drop(&ram->size_lock);
    return rc;
}

void ram_claim_lower(struct gm_ram *ram, struct ram_claim *claim, uint64_t end)
{
    if (!ram->is_resizable) {
        return;
    }
    lock_take(&ram->size_lock);
    if (end < claim->end) {
        claim->end = end;
    }
    if (claim->end == 0 && claim->prev != NULL) {
        remove_from(claim);
    }
    lock_drop(&ram->size_lock);
}

uint64_t ram_claimed(const struct gm_ram *ram)
{
    uint64_t end = 0;

    for (const struct ram_claim *claim = ram->claims; claim != NULL; claim = claim->next) {
        end = claim->end > end ? claim->end : end;
    }
    return end;
}
