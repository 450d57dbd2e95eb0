/*
 * kcore/dirtylog.h - which pages of a slot were written: a bitmap a slot, or a ring a vCPU.
 *
 * No dirty page is lost: a write is marked after its entry has become writable and before the guest's
 * write can be seen to be over; a harvest takes bits and protects their pages while nobody can do either, and
 * returns after each vCPU has flushed. So a write that was not in a harvest finds its page protected, or its
 * mark still to be taken. The four orders of those steps are in docs/locking-software.md.
 */
#ifndef KCORE_DIRTYLOG_H
#define KCORE_DIRTYLOG_H

#include "kcore/kcore.h"

#include <stdatomic.h>

struct dirtylog {
    uint64_t page_count;
    uint64_t word_count;
    atomic_uint refs; /* the slot's, and that of each loan */
    /* May any bit be set? Set after the bit by who marks, cleared by who takes all, while nobody marks. */
    atomic_bool is_dirty;
    /* Bits, by __atomic builtins. A harvest that takes all puts others in their place, while nobody marks. */
    _Atomic(uint64_t *) words;
    uint64_t *spare; /* all zero, for the next one; or NULL. Under the slots lock */
};

/* All pages clean, or with @all_set dirty (none past the end). NULL: no memory. */
struct dirtylog *dirtylog_new(const struct gm_allocator *allocator, uint64_t page_count,
                              bool all_set);
/* The slot's reference goes. */
void dirtylog_free(const struct gm_allocator *allocator, struct dirtylog *log);

/* 64 pages' bits, as of now. */
static inline uint64_t dirtylog_word(const struct dirtylog *log, uint64_t word)
{
    /* Acquire both; pair with the exchange in take_all(), and with who set the bits. */
    const uint64_t *words = atomic_load_explicit(&log->words, memory_order_acquire);

    return __atomic_load_n(&words[word], __ATOMIC_ACQUIRE);
}

/*
 * A page of @slot was written by @vcpu (NULL: by no vCPU), which has it mapped writable by now.
 * Into the vCPU's ring if the VM has rings, else, and without a vCPU, into the slot's bitmap. A slot that
 * is not logged is left alone.
 * Context: with @slot from a read section; lock-free. @vcpu: on its thread, in guest mode or so that
 * kcore_arch_ops.log_begin() waits for it; or held.
 * Return: false: the vCPU's ring is full to the last entry, and the page was not marked.
 */
bool kcore_mark_dirty(struct kcore *core, struct kcore_vcpu *vcpu, const struct memslot *slot,
                      struct gfn gfn);

/* A log's bits while they are given to their reader. */
struct dirtylog_loan {
    struct dirtylog *log;
    const uint64_t *words;
    uint64_t word_count;
    uint64_t *taken; /* they are none of the log's any more; else it goes on changing them */
};

/*
 * KVM_GET_DIRTY_LOG: lend out the slot's bits, (page_count + 63) / 64 words. With manual protection they stay.
 * Else they are taken, and clean; their pages are protected, and no vCPU writes through an old translation on
 * return.
 * Context: takes the slots lock, which the borrower needs not have; waits for vCPUs to flush.
 * Return: 0: kcore_log_return() it; -EINVAL id or space; -ENOENT no such slot, or not logged; -ENXIO the VM
 * has rings without bitmaps; -ENOMEM.
 */
int kcore_log_lend(struct kcore *core, uint32_t slot, struct dirtylog_loan *loan);
/* @is_read: else they could not be given away, and are dirty again, unless the slot has gone meanwhile. */
void kcore_log_return(struct kcore *core, const struct dirtylog_loan *loan, bool is_read);

/* The same in one, into @bitmap, which has @bitmap_words; words past the slot's are left alone. -EINVAL:
 * too few words, too. */
int kcore_log_get(struct kcore *core, uint32_t slot, uint64_t *bitmap, uint64_t bitmap_words);

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
