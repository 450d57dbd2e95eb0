/*
 * mmu/shadow.h - shadow paging: tables that lead from a guest's linear addresses to host memory at once, made
 * from the guest's own tables as they are used, and kept in step with them.
 *
 * The processor's side walks them without locks, in guest mode (shadow_walk.c); where it finds no right, the
 * guest's tables are walked as without shadows (linear.c), and KVM's side puts in what that found
 * (shadow_map.c). KVM's side, all under mmu's lock:
 *
 *   shadow page   stands for one page of a guest's table in one role: its level, the rights that the entries above
 *                 leave, how its entries are read (struct shadow_format), which half or quarter of a
 *                 32-bit table. Found by a hash of the table's frame. Or it is direct: it maps one large page
 *                 of a guest's in small leaves, where the slot or the host's pages do not allow a large one.
 *   entry         absent; leads to a shadow page, which lists it among its parents; or a leaf, which
 *                 the frame's slot lists in its reverse map
 *   in step       a guest's write to a table that is shadowed is seen: its slot has it as tracked, and nothing maps
 *                 it writable. The write is made by hand, then the entries that it changed are
 *                 dropped
 *   unsync        a table of the lowest level alone may be written unseen: its shadow pages are marked, and their
 *                 parents count them, up to the roots. It is brought in step when the guest flushes:
 *                 its writes are caught again, and what has changed is dropped
 *
 * What a guest may expect is what a TLB gives: an entry that was changed may be used until the guest flushes it.
 * What the host expects is stronger: an entry that was dropped or lost a right is forgotten by all TLBs
 * before the lock is dropped, if anything depends on it; at the latest before a page goes. So each such
 * change is appended to the flush log (linear translations alone), and mmu_flush() waits for whatever was
 * appended before.
 *
 * Invariants; shadow_audit() checks all but I-32:
 *   I-26  an entry leads to a shadow page if and only if it is among the page's parents
 *   I-27  a leaf is in the reverse map of its frame's slot, once, and nothing else is
 *   I-28  a page's bit for an entry is set if and only if the entry leads to a page that is unsync or has a bit
 *         set itself; the count is that of its bits
 *   I-29  a page can be found in the hash by its frame and role, and no other page there has both
 *   I-30  a slot has a frame as one that holds a table if and only if there are shadow pages of it; if one of them
 *         is in step, no leaf maps the frame writable
 *   I-31  a leaf has what the guest's entry gives, for each entry of a page that is in step
 *   I-32  a table page is freed after a flush that came after its last entry was dropped
 */
#ifndef MMU_SHADOW_H
#define MMU_SHADOW_H

#include "base/addr.h"
#include "kcore/memslot.h"
#include "mmu/entry_list.h"
#include "mmu/paging.h"

#include <guestmem/mmu.h>

#include <stdatomic.h>

struct mmu;
struct mmu_locked;
struct mmu_vcpu;
struct memslot;
struct range;
struct retired;
struct shadow_page;

/* Bits of a leaf beside those of EPT (entry.h), which say what the host allows: what the guest does, and its
 * protection key. EPT_WRITE: the guest's page is dirty, too. */
#define SHADOW_KEY_SHIFT 52u
#define SHADOW_KEY_MASK UINT64_C(0xf)
#define SHADOW_RIGHTS_SHIFT 58u
/* The level of the guest's entry less 1: the TLB has to know the page's size. */
#define SHADOW_LEVEL_SHIFT 61u
#define SHADOW_LEVEL_MASK 3u

/* How entries of a guest's tables are read; of struct paging. */
struct shadow_format {
    enum paging_mode mode;
    uint8_t entry_bytes;
    uint64_t address_mask;
    struct paging_level levels[PAGING_LEVELS_MAX + 1];
};
/* As many as a VM's vCPUs use at a time; when there are more, all shadow pages go. */
#define SHADOW_FORMATS_MAX 64u

#define SHADOW_BUCKETS 1024u /* a power of two */

/* A VM's. Under mmu's lock, but for what is atomic. */
struct shadow {
    bool is_on; /* set as the VM is made */
    struct shadow_page *buckets[SHADOW_BUCKETS];
    struct shadow_page *newest; /* of all that can be found; by when they were last looked up */
    struct shadow_page *oldest;
    struct shadow_page *invalid; /* zapped, but roots of vCPUs still */
    struct shadow_format formats[SHADOW_FORMATS_MAX];
    unsigned format_count;
    atomic_ullong generation; /* grows when all roots become obsolete; relaxed: a flush follows */
    atomic_uint writers;      /* vCPUs that are making a write by hand; sequentially consistent */
    /* Statistics; relaxed. */
    atomic_ullong page_count;
    atomic_ullong unsync_count;
    atomic_ullong leaf_count;
    atomic_ullong syncs;  /* pages brought in step */
    atomic_ullong writes; /* to tables in step, by hand */
};

/*
 * A vCPU's root for one of its contexts (linear.h). Modes of 4 and 5 levels have one page. 32-bit and PAE
 * paging begin with the entry for 1 GiB in the vCPU, as PAE's own do, and have a page for each of four.
 */
#define SHADOW_ROOTS 4u
struct shadow_root {
    struct shadow_page *pages[SHADOW_ROOTS]; /* each is counted as a root; NULL: not used yet */
    unsigned long long generation;
    bool needs_sync; /* the guest has flushed */
};

/* Single pages that the guest flushed, to be brought in step before the tables are used. */
#define SHADOW_INVLPGS 8u
struct shadow_vcpu {
    /* Stocks for one fault: a page for each level, two lists' chunks for each. */
    struct shadow_page *pages;
    unsigned page_count;
    struct chunk_stock chunks;
    uint64_t invlpgs[SHADOW_INVLPGS];
    unsigned invlpg_count;
};

void shadow_init(struct shadow *shadow, bool is_on);
/* All pages go. No vCPU is left. */
void shadow_fini(struct mmu *mmu);
void shadow_vcpu_fini(struct mmu_vcpu *vcpu);

/* The guest flushed a page; one of its contexts, or all that are kept. Its TLB has been flushed. */
void shadow_note_invlpg(struct mmu_vcpu *vcpu, uint64_t linear);
void shadow_note_flush(struct shadow_root *root);

/* The vCPU gives up a root. Any time on its thread: pages that nobody needs are freed by the next who has
 * the lock. */
void shadow_root_put(struct shadow_root *root);

/*
 * A write by hand is about to be made; after it, forget what tables said there; it is done. Who flushes after seeing what
 * was written waits for its end: shadow_root_refresh().
 */
static inline void shadow_begin_write(struct shadow *shadow)
{
    atomic_fetch_add(&shadow->writers, 1);
}

static inline void shadow_end_write(struct shadow *shadow)
{
    atomic_fetch_sub(&shadow->writers, 1);
}

/* Out of guest mode, no locks. */
void shadow_written(struct mmu *mmu, unsigned space, uint64_t gpa, uint32_t size_bytes);

/*
 * What takers do (take.h), to the shadow leaves of a range of frames, and to pages that stand for these frames. The
 * slots lock keeps the slots. The caller flushes, and then frees what was retired.
 */
void shadow_unmap(struct mmu_locked locked, struct range range, struct retired *retired);
void shadow_protect(struct mmu_locked locked, struct range range);
/* Return: pages of leaves that were accessed, and whose memory meets the host range. */
uint64_t shadow_age(struct mmu_locked locked, struct range range, struct hva hva,
                    uint64_t size_bytes);
/* Large pages of guests that are mapped by small leaves may be mapped large now. */
void shadow_collapse(struct mmu_locked locked, const struct memslot *slot, struct retired *retired);
/* All roots are obsolete, and all pages go. */
void shadow_zap_all(struct mmu_locked locked, struct retired *retired);
/* The oldest pages go until at most @page_count table pages of the VM are linked. Return: how many went. */
uint64_t shadow_reclaim(struct mmu_locked locked, uint64_t page_count, struct retired *retired);

#ifdef GM_AUDIT_ON
/* Return: table pages of shadow pages. Under mmu's lock and the slots lock, vCPUs held. */
uint64_t shadow_audit(struct mmu *mmu);
#endif

#endif
