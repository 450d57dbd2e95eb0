/*
 * ram/claim.h - how much of a block those who show it need: what it cannot be shrunk below.
 *
 * A region claims its extent before it can show more, and gives it up after no view shows it any
 * more. Blocks that are never resized keep no list.
 */
#ifndef RAM_CLAIM_H
#define RAM_CLAIM_H

#include "ram/ram.h"

struct ram_claim {
    uint64_t end; /* in the block; 0: nothing */
    struct ram_claim *next;
    struct ram_claim **prev; /* NULL: in no list */
};

/*
 * Claim all below @end as well; what was claimed stays.
 * Return: 0; -EINVAL the block ends before.
 */
int ram_claim_raise(struct gm_ram *ram, struct ram_claim *claim, uint64_t end);

/* Claim no more than what is below @end. */
void ram_claim_lower(struct gm_ram *ram, struct ram_claim *claim, uint64_t end);

/* How far a block is claimed. Under ram->size_lock. */
uint64_t ram_claimed(const struct gm_ram *ram);

#endif
