/*
 * mmu/mmu.h - the software KVM's tables: EPT shared by a VM's vCPUs, and each vCPU's TLB.
 *
 * Beside EPT there may be shadow tables for the guest's own page tables (shadow.h), under the same rules.
 *
 * Two sides. The processor's: in guest mode a vCPU translates by its TLB, or walks the tables without
 * locks, sets accessed and dirty flags, and fills its TLB (walk.c, access.c). KVM's: where the walk
 * finds no right, the vCPU leaves guest mode and its fault is handled (fault.c); others take entries
 * away (zap.c, protect.c, large.c, reclaim.c).
 *
 * Who may change tables:
 *   installers  vCPUs that handle faults: many at once, each entry by compare-and-swap, between
 *               gate_enter() and gate_leave() at `installers`. They only add: an absent entry gets a
 *               table or a leaf, a leaf gets rights, a large leaf becomes a table of equal leaves.
 *   takers      hold `lock`, and the installers' gate closed (struct mmu_locked). They alone take
 *               rights or entries away. Processors go on walking meanwhile.
 * So an installer checks for a retry (notifier, slots' generation) and installs with no taker between.
 *
 * A taker's change counts once it has flushed: mmu_flush() holds all vCPUs out of guest mode for a
 * moment; each drops its stale translations when it comes in again. Table pages that were taken out
 * are freed after that and a grace period.
 */
#ifndef MMU_MMU_H
#define MMU_MMU_H

#include "base/gate.h"
#include "base/lock.h"
#include "kcore/kcore.h"
#include "kcore/vcpu.h"
#include "mmu/ahead.h"
#include "mmu/entry.h"
#include "mmu/flush.h"
#include "mmu/linear.h"
#include "mmu/tables.h"

#include <guestmem/mmu.h>

#include <stdatomic.h>

struct mmu_options {
    const struct gm_allocator *allocator;
    unsigned levels; /* 4 or 5 */
    uint8_t memory_type;
    bool log_buffer;
    bool eager_split;
    bool shadow_paging;
    uint64_t (*page_bytes)(void *opaque, uint64_t hva,
                           uint64_t size_bytes); /* NULL: ask the host */
    void *opaque;
};

/*
 * Counts. A vCPU's are written by its thread alone, the VM's by takers under the lock; read by any:
 * relaxed, each number for itself. Those of vCPUs that end are added to the VM's.
 */
struct mmu_counts {
    atomic_ullong faults;
    atomic_ullong faults_fixed;
    atomic_ullong faults_spurious;
    atomic_ullong faults_retried;
    atomic_ullong mmio;
    atomic_ullong flushes; /* the VM's alone, and by any thread */
    atomic_ullong splits;
    atomic_ullong collapses;
    atomic_ullong reclaimed;
    /* Leaves that came, less those that went, by level; only the sum over all is not negative. */
    atomic_ullong leaves[EPT_LEAF_LEVEL_MAX + 1];
};

/* One writer needs no locked instruction. */
static inline void count_up(atomic_ullong *counter, unsigned long long by)
{
    unsigned long long now = atomic_load_explicit(counter, memory_order_relaxed);

    atomic_store_explicit(counter, now + by, memory_order_relaxed);
}

typedef void mmu_written_fn(void *opaque, uint64_t gpa, uint32_t size_bytes);

struct mmu {
    struct gm_allocator allocator;
    struct kcore *core;
    unsigned levels;
    uint8_t memory_type;
    bool log_buffer;
    bool eager_split;
    uint64_t (*page_bytes)(void *opaque, uint64_t hva, uint64_t size_bytes);
    void *opaque;

    struct lock lock;       /* rank MMU: takers */
    struct gate installers; /* faults that install; its "guest mode" is installing */
    struct tables tables;   /* table pages: arenas, limit */
    /* The root of each address space. Changed by takers with vCPUs held; vCPUs load it at enter. */
    _Atomic(uint64_t *) roots[KCORE_SPACES];
    atomic_ullong root_generation; /* grows when roots are dropped for new ones */
    struct flush_log flush_log;
    struct shadow
        shadow; /* tables for guests' linear addresses, if they are not walked through EPT */

    _Atomic(mmu_written_fn *) written; /* write tracking; stored before the first track */
    void *written_opaque;

    struct mmu_counts counts; /* under the lock */
};

/* Proof that the caller is the taker. Made by mmu_lock() only. */
struct mmu_locked {
    struct mmu *mmu;
};

/*
 * An access under way. It has one part for each page that it touches; a part is settled when it is
 * known what answers there.
 */
#define ACCESS_BYTES_MAX 16u
#define ACCESS_PARTS_MAX 2u
enum part_kind {
    PART_MEMORY,  /* at `host`, for as long as guest mode lasts */
    PART_TRACKED, /* memory, and somebody wants to know of the write */
    PART_MMIO,
};
struct access_part {
    uint64_t linear; /* of an access by linear address */
    uint64_t gpa;
    unsigned offset; /* in the access */
    unsigned size_bytes;
    enum part_kind kind;
    uint8_t *host;
    /* Read-only memory refused the write, as of these slots of the space; 0: it did not. */
    uint64_t refused_generation;
    /* Tables are shadowed, and this frame is none that shadow tables may map for this access: it goes by physical
     * address, as long as it is this one. */
    bool is_by_hand;
    struct gfn by_hand;
};
struct access {
    enum gm_mmu_access kind;
    bool is_linear;
    enum gm_mmu_view view; /* of a linear one */
    /* Parts' physical addresses are wanted, which a TLB hit of a linear address does not tell. */
    bool needs_gpas;
    unsigned size_bytes;
    unsigned part_count;
    bool is_waiting;       /* for gm_mmu_resume() ... */
    unsigned waiting_part; /* ... to answer this one */
    struct access_part parts[ACCESS_PARTS_MAX];
    uint8_t bytes[ACCESS_BYTES_MAX];
};

/* A vCPU. */
struct mmu_vcpu {
    struct gm_mmu face; /* first: users hold a pointer to it */
    struct kcore_vcpu base;
    struct mmu *mmu;
    struct gate_vcpu installer;
    struct tables_cache cache; /* table pages for its faults */
    struct ahead ahead;        /* host pages that its faults need not make present */
    unsigned space;
    /* Loaded when guest mode begins; they hold until it ends. */
    uint64_t *root;
    uint64_t generation;       /* of MMIO entries: mmu_generation() */
    uint64_t space_generation; /* of the slots in its own space */
    /* The slots' newest generation at the last boundary: an instruction sees no other. */
    uint64_t boundary_generation;
    uint64_t flush_done;         /* position in the VM's flush log */
    unsigned tags[KCORE_SPACES]; /* of its TLB, for each space's physical addresses */
    struct linear linear;
    struct shadow_vcpu shadow;
    unsigned tag_count;   /* handed out since all entries were cleared */
    uint32_t log_count;   /* of the log buffer: frames it made dirty, not yet reported */
    uint64_t *log_buffer; /* MMU_LOG_ENTRIES frames; NULL: writes are noticed by protection */
    struct access access; /* the one under way; gm_mmu_resume() goes on with it */
    struct gm_mmu_exit exit;
    unsigned
        taken; /* enum kcore_request: why it came out with GM_MMU_KICKED, until somebody clears them */
    struct mmu_counts counts;
    bool counts_are_summed; /* in the VM's, as the vCPU ends; under the lock */
};

/* The vCPU of a user's pointer. */
static inline struct mmu_vcpu *mmu_vcpu_of(struct gm_mmu *face)
{
    return (struct mmu_vcpu *)face;
}

static inline struct mmu_vcpu *mmu_vcpu_of_base(struct kcore_vcpu *base)
{
    return rcu_owner(base, struct mmu_vcpu, base);
}

/* The newest generation of the slots in any space. Context: as below. */
static inline uint64_t mmu_newest_generation(const struct mmu *mmu)
{
    uint64_t newest = 0;

    for (unsigned space = 0; space < mmu->core->spaces; space++) {
        uint64_t generation = kcore_slots(mmu->core, space)->generation;

        newest = generation > newest ? generation : newest;
    }
    return newest;
}

/*
 * What MMIO entries made now hold: the newest generation of the slots in any space, as many of its
 * bits as entries are given. Of any space, since generations come round: one space's may stay for so
 * long that it would look new again.
 * Context: a read section, the slots lock, or guest mode.
 */
static inline uint64_t mmu_generation(const struct mmu *mmu)
{
    return mmu_newest_generation(mmu) % (UINT64_C(1) << mmu->core->generation_bits);
}

/*
 * The flags without which an entry's next write is seen: by its dirty flag, or by the want of a right. A large
 * leaf loses both: the small ones that it is split into begin with neither.
 */
static inline uint64_t mmu_write_flags(const struct mmu *mmu, unsigned level, uint64_t entry)
{
    if (entry_is_table(level, entry)) {
        return EPT_WRITE;
    }
    if (level > 1) {
        return EPT_WRITE | EPT_DIRTY;
    }
    return mmu->log_buffer ? EPT_DIRTY : EPT_WRITE;
}

#define MMU_LOG_ENTRIES 512u

extern const struct kcore_arch_ops mmu_arch_ops; /* their `arch` is the struct mmu */

/* @core: is initialised by the caller, with mmu_arch_ops and @mmu as its arch, before or after, but
 * before any other call. Return: 0; -EINVAL; -ENOMEM. */
int mmu_init(struct mmu *mmu, struct kcore *core, const struct mmu_options *options);
/* No vCPU is left; before kcore_fini(). */
void mmu_fini(struct mmu *mmu);

int mmu_vcpu_init(struct mmu_vcpu *vcpu, struct mmu *mmu, unsigned id);
void mmu_vcpu_fini(struct mmu_vcpu *vcpu);
/* Out of guest mode. -EINVAL: no such space. */
int mmu_vcpu_set_space(struct mmu_vcpu *vcpu, unsigned space);

/*
 * Map pages before they are touched (KVM_PRE_FAULT_MEMORY). *gpa and *size_bytes move on by what was
 * done. Out of guest mode.
 * Return: 0 all; -EINVAL alignment, size or range; -ENOENT no slot there; -EFAULT, -ENOMEM; -EINTR the
 * vCPU was kicked.
 */
int mmu_prefault(struct mmu_vcpu *vcpu, uint64_t *gpa, uint64_t *size_bytes);

/* Count and clear accessed flags of what maps the host range. Takes the slots lock. */
uint64_t mmu_age(struct mmu *mmu, struct hva hva, uint64_t size_bytes);

/* New, empty roots; the old tables are freed behind them. */
void mmu_zap_all(struct mmu *mmu);

/* KVM_SET_NR_MMU_PAGES: at least MMU_PAGES_MIN (-EINVAL). More in use than that are reclaimed now. */
#define MMU_PAGES_MIN 64u
/* Until it is set: 1 GiB of tables, which map 512 GiB by 4 KiB leaves. More is taken back and faulted in anew. */
#define MMU_PAGES_DEFAULT (1u << 18)
int mmu_set_page_limit(struct mmu *mmu, uint64_t page_count);

/* Of the VM and all vCPUs. Takes the lock. */
void mmu_sum_counts(struct mmu *mmu, struct mmu_counts *sum);

/* Write tracking of one frame, counted. Takes the slots lock.
 * Return: 0; -EINVAL space or frame; -ENOMEM; untrack: -ENOENT. */
void mmu_set_tracker(struct mmu *mmu, mmu_written_fn *written, void *opaque);
int mmu_track(struct mmu *mmu, unsigned space, struct gfn gfn);
int mmu_untrack(struct mmu *mmu, unsigned space, struct gfn gfn);
/* Any thread. */
bool mmu_is_tracked(struct mmu *mmu, unsigned space, struct gfn gfn);

struct mmu_locked mmu_lock(struct mmu *mmu);
void mmu_unlock(struct mmu_locked locked);

/*
 * For tests and dumps: each present or special entry of a space's tree, parents before children, by
 * address. A leaf's is without the rights that the tables above it do not give.
 * Context: the slots lock, and vCPUs held.
 */
typedef void mmu_visit_fn(void *opaque, unsigned level, struct gfn first, const uint64_t *table,
                          uint64_t entry);
void mmu_visit(struct mmu *mmu, unsigned space, mmu_visit_fn *visit, void *opaque);

#ifdef GM_AUDIT_ON
/* Rebuild what is counted, and compare: tables, leaves, disallow counts, that each leaf is of its slot
 * with no more rights than it may have, that protected pages are. Under the slots lock, vCPUs held. */
void mmu_audit(struct mmu *mmu);
#endif

#endif
