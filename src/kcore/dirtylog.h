/*
 * kcore/dirtylog.h - which pages of a slot were written: a bitmap a slot, or a ring a vCPU.
 *
 * No dirty page is lost: a write is marked after its entry has become writable and before the guest's
 * write can be seen to be over; a harvest takes bits before it protects, and returns after each vCPU
 * has flushed. So a write that was not in a harvest finds its page protected, or its mark still to be
 * taken. The four orders of those steps are in docs/locking-software.md.
 */
#ifndef KCORE_DIRTYLOG_H
#define KCORE_DIRTYLOG_H

#include "kcore/kcore.h"

#include <stdatomic.h>

struct dirtylog {
    uint64_t page_count;
    uint64_t word_count;
    atomic_uint_fast64_t words[];
};

/* All pages clean, or with @all_set dirty (none past the end). NULL: no memory. */
struct dirtylog *dirtylog_new(const struct gm_allocator *allocator, uint64_t page_count,
                              bool all_set);
void dirtylog_free(const struct gm_allocator *allocator, struct dirtylog *log);

/*
 * A page of @slot was written by @vcpu (NULL: by no vCPU), which has it mapped writable by now.
 * Into the vCPU's ring if the VM has rings, else, and without a vCPU, into the slot's bitmap. A slot that
 * is not logged is left alone.
 * Context: any thread with @slot from a read section; lock-free. @vcpu: on its thread, or held.
 * Return: false: the vCPU's ring is full to the last entry, and the page was not marked.
 */
bool kcore_mark_dirty(struct kcore *core, struct kcore_vcpu *vcpu, const struct memslot *slot,
                      struct gfn gfn);

/*
 * KVM_GET_DIRTY_LOG: copy the slot's bits into @bitmap, which has @bitmap_words, at least
 * (page_count + 63) / 64; words past the slot's are left alone. Without manual protection the bits
 * are cleared and their pages protected, and no vCPU writes through an old translation on return.
 * Context: takes the slots lock; waits for vCPUs to flush.
 * Return: 0; -EINVAL id, space or too few words; -ENOENT no such slot, or not logged; -ENXIO the VM
 * has rings without bitmaps.
 */
int kcore_log_get(struct kcore *core, uint32_t slot, uint64_t *bitmap, uint64_t bitmap_words);

/* Undo a kcore_log_get() whose bits could not be given away: they are dirty again. Bits of a slot that
 * has gone meanwhile go with it. */
void kcore_log_put_back(struct kcore *core, uint32_t slot, const uint64_t *bitmap,
                        uint64_t bitmap_words);

/* The pages of a slot, for the buffer of a log; errors as kcore_log_get(). */
int kcore_log_page_count(struct kcore *core, uint32_t slot, uint64_t *page_count);

/*
 * KVM_CLEAR_DIRTY_LOG: of the pages [first_page, first_page + page_count) those whose bit in @bitmap
 * (bit 0 is first_page) is set become clean, and are protected again.
 * Return: 0; -EINVAL id, space, or a range that is not whole words of 64 within the slot, its tail
 * aside; -ENOENT; -ENXIO.
 */
int kcore_log_clear(struct kcore *core, uint32_t slot, uint64_t first_page, uint64_t page_count,
                    const uint64_t *bitmap);

/* KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2. Return: 0; -EINVAL @flags other than 0, 1, 3. */
int kcore_set_manual_protect(struct kcore *core, uint64_t flags);

#endif
