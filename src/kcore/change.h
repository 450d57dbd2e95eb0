/*
 * kcore/change.h - one change of a slot, checked: by itself, and against the slot that is there.
 *
 * The order of the checks is Linux's, as tests have asked a real kernel for it: flags; alignment of
 * size, guest and host address; a host range outside of user space; space and id; a guest range that
 * wraps; too many pages; then, against the slot, what may not change; overlaps and the rest are the
 * draft's (draft.h).
 *
 * Source: Linux api.rst, KVM_SET_USER_MEMORY_REGION, KVM_SET_USER_MEMORY_REGION2.
 */
#ifndef KCORE_CHANGE_H
#define KCORE_CHANGE_H

#include "kcore/kcore.h"

/* Who wants the change: which ids it may name. */
enum change_origin {
    CHANGE_BY_USER,
    CHANGE_PRIVATE,
};

/* Where user space ends: Linux on x86 with 4-level tables, whose last page is not for users. */
#define CHANGE_HVA_END UINT64_C(0x7ffffffff000)

static inline unsigned change_space(uint32_t slot)
{
    return slot >> 16;
}

static inline uint32_t change_id(uint32_t slot)
{
    return slot & 0xffff;
}

/* What is wrong with the change whatever the slots are. Return: 0; -EINVAL. */
int change_check(const struct kcore *core, const struct memslot_change *change,
                 enum change_origin origin);

/*
 * What a change that passed is to the slot that is there now (NULL: none): CREATE, DELETE, MOVE,
 * FLAGS, or SAME.
 * Return: 0; -EINVAL there is nothing to delete, or size, host address, READONLY or private memory would
 * change.
 */
int change_effect(const struct memslot *current, const struct memslot_change *change,
                  enum memslot_effect *effect);

#endif
