/*
 * guestmem/soft.h - the software KVM: Linux's KVM as a library that needs no kernel module, no privilege and no
 * hardware. Slots, dirty logs and rings, EPT tables, vCPUs with a TLB and an interpreter, interrupt chips.
 *
 * Three ways to use it: as the hypervisor under a map (gm_vm_open() with GM_ACCEL_SOFT, or
 * gm_soft_attach()); by KVM's own ioctls (guestmem/soft_ioctl.h); and for emulators, as their MMU:
 * slots by gm_soft_set_slots(), accesses by guestmem/mmu.h.
 *
 * fork(): as guestmem/vm.h says: in a child slots, vCPUs and ioctls are -EIO, and closing frees the child's copy.
 *
 * Threads: calls on one VM may come from any thread at once, but for those that say otherwise.
 */
#ifndef GUESTMEM_SOFT_H
#define GUESTMEM_SOFT_H

#include <guestmem/backend.h>
#include <guestmem/mmu.h>
#include <guestmem/types.h>

#ifdef __cplusplus
extern "C" {
#endif

struct kvm_run;

struct gm_soft;
struct gm_soft_vcpu;

/* How a write to a logged slot is noticed: by write-protected entries, or by dirty flags and a
 * buffer for each vCPU (as Intel's page-modification logging). */
enum gm_soft_log {
    GM_SOFT_LOG_PROTECT,
    GM_SOFT_LOG_BUFFER,
};

struct gm_soft_options {
    size_t size;                          /* sizeof(struct gm_soft_options) */
    const struct gm_allocator *allocator; /* copied; NULL for malloc */
    /* Guest physical addresses have 36 to 52 bits; 0: 52, or 48 with ept_levels 4. */
    unsigned gpa_bits;
    unsigned ept_levels; /* 4 (up to 48 bits) or 5; 0: what gpa_bits takes */
    enum gm_soft_log log;
    bool eager_split; /* split large leaves when logging begins, not at the first write */
    /* Guests' own page tables are shadowed, instead of walked through EPT at each miss. A write to one that is not by
     * a vCPU is not noticed, as with KVM. */
    bool shadow_paging;
    /* KVM_SET_TSS_ADDR, KVM_SET_IDENTITY_MAP_ADDR and the first vCPU make slots, as on Intel: user
     * slots over them are EEXIST. Default: as on AMD, they make none. */
    bool intel_private_slots;
    uint8_t memory_type; /* EPT's, of RAM (Intel SDM 3C, "Memory Types"); 0: 6, write-back */
    /* Size of the host pages that back all of [hva, hva + size_bytes), a slot: leaves are never
     * larger. Pages of that size are there, or not, as a whole: one 4 KiB of each is touched. Asked
     * once for a slot, and again after an invalidation; it must not call the VM.
     * NULL: what /proc/self/smaps says: 2 MiB or 1 GiB for hugetlb memory, else 4 KiB. */
    uint64_t (*page_bytes)(void *opaque, gm_hva_t hva, uint64_t size_bytes);
    void *opaque;
};

/*
 * Make a VM.
 * Return: 0; -EINVAL options; -E2BIG (types.h); -ENOMEM; -EOPNOTSUPP this kernel lacks MADV_POPULATE_WRITE (5.14).
 */
GM_MUST_CHECK int gm_soft_open(const struct gm_soft_options *options, struct gm_soft **soft,
                               struct gm_diag *diag);

/* End it. Context: no other call is in progress; a map is detached. Return: 0; -EBUSY vCPUs are
 * left. NULL is allowed. */
GM_MUST_CHECK int gm_soft_close(struct gm_soft *soft);

/* One change of slots, as struct kvm_userspace_memory_region2 says it. */
struct gm_soft_slot {
    uint32_t slot;  /* bits 0 to 15 the id, 16 to 31 the address space */
    uint32_t flags; /* KVM_MEM_LOG_DIRTY_PAGES, KVM_MEM_READONLY */
    gm_gpa_t gpa;
    uint64_t size_bytes; /* 0 deletes */
    gm_hva_t hva;
};

/*
 * Change slots: all or none. Each change is checked as KVM_SET_USER_MEMORY_REGION would after those
 * before it. Each vCPU moves from the old map to the new one at one instruction's boundary, and
 * before the call returns all have.
 * @failed: out, may be NULL: which change could not be.
 * Context: waits for vCPUs in guest mode to come to a boundary; not from one that is in guest mode.
 * Return: 0; -EINVAL, -EEXIST, -ENOMEM as the ioctl (docs/software-kvm.md has the table).
 */
GM_MUST_CHECK int gm_soft_set_slots(struct gm_soft *soft, const struct gm_soft_slot *slots,
                                    size_t count, size_t *failed);

/*
 * Guest frames to slots, host addresses to guest ones: of several slots that map a host address,
 * the lowest. Any thread, lock-free.
 * Return: true and the slot with its present flags; false if there is none, or it is being deleted
 * or moved.
 */
bool gm_soft_find(struct gm_soft *soft, unsigned space, gm_gpa_t gpa, struct gm_soft_slot *slot);
bool gm_soft_find_hva(struct gm_soft *soft, unsigned space, gm_hva_t hva, gm_gpa_t *gpa);

/*
 * Who wants to know of slots: an IOMMU that maps what is created, and unmaps before a delete or
 * move goes on. Called on the thread that changes slots, with its lock held and vCPUs held out; may
 * not change slots. Slots that the VM made for itself (intel_private_slots) are told, too: their
 * ids are 32764 and above.
 */
struct gm_soft_follower_ops {
    size_t size; /* sizeof(struct gm_soft_follower_ops) */
    void (*created)(void *opaque, const struct gm_soft_slot *slot);
    void (*removing)(void *opaque, const struct gm_soft_slot *slot);
    void (*flags_changed)(void *opaque, const struct gm_soft_slot *slot); /* may be NULL */
};

/*
 * Begin, end following: tells what is there as created, as removing. @ops is copied. Unfollow
 * before the VM is closed; NULL is allowed.
 * Context: any thread, but not from a callback.
 * Return: 0; -EINVAL, -E2BIG the size of @ops; -EINVAL an operation is missing; -ENOMEM.
 */
struct gm_soft_follower;
GM_MUST_CHECK int gm_soft_follow(struct gm_soft *soft, const struct gm_soft_follower_ops *ops,
                                 void *opaque, struct gm_soft_follower **follower);
void gm_soft_unfollow(struct gm_soft_follower *follower);

/*
 * Write tracking: after each write by a vCPU to a tracked page @written is called, on the vCPU's
 * thread, with the bytes in place, out of guest mode. Pages are tracked by frame and counted: track
 * twice, untrack twice. Tracking ends with the slot: as it is deleted, moved or replaced.
 * Context: waits for vCPUs to flush. Return: 0; -EINVAL space, or no slot there; -ENOMEM; untrack:
 * -ENOENT it is not tracked.
 */
typedef void gm_soft_written_fn(void *opaque, gm_gpa_t gpa, uint32_t size_bytes);
void gm_soft_set_tracker(struct gm_soft *soft, gm_soft_written_fn *written, void *opaque);
GM_MUST_CHECK int gm_soft_track(struct gm_soft *soft, unsigned space, gm_gpa_t gpa);
GM_MUST_CHECK int gm_soft_untrack(struct gm_soft *soft, unsigned space, gm_gpa_t gpa);

/*
 * Host memory that goes away or changes its protection: begin before, end after. In between no vCPU
 * reaches it: an access waits for the end.
 * Context: not from a vCPU in guest mode; waits for vCPUs to flush.
 * Return: whether a slot maps some of it. If not, the end is due all the same.
 */
bool gm_soft_invalidate_begin(struct gm_soft *soft, gm_hva_t hva, uint64_t size_bytes);
void gm_soft_invalidate_end(struct gm_soft *soft, gm_hva_t hva, uint64_t size_bytes);

/*
 * Was a page of the host range read or written by a vCPU since the last call? Clears the accessed
 * flags. Return: pages that were (a large leaf counts as its pages).
 */
uint64_t gm_soft_age(struct gm_soft *soft, gm_hva_t hva, uint64_t size_bytes);

/* Forget all of the tables at once; vCPUs begin with empty ones. Cheap: by root generation. */
void gm_soft_zap_all(struct gm_soft *soft);

/*
 * A vCPU: it runs by KVM_RUN (guestmem/soft_ioctl.h); or an emulator uses its memory access, guestmem/mmu.h, on one thread at a
 * time.
 * @id: 0 to 4095, each once; with interrupt chips 0 to 254.
 * Return: 0; -EINVAL id; -EEXIST the id is taken, or (intel_private_slots) a user slot is where the
 * first vCPU's APIC page belongs; -ENOMEM; with interrupt chips -EMFILE, -ENFILE: it takes two descriptors.
 */
GM_MUST_CHECK int gm_soft_vcpu_new(struct gm_soft *soft, unsigned id, struct gm_soft_vcpu **vcpu);
/* Context: not in guest mode. NULL is allowed. */
void gm_soft_vcpu_free(struct gm_soft_vcpu *vcpu);
/* Its way to memory. Borrowed until it is freed. */
struct gm_mmu *gm_soft_vcpu_mmu(struct gm_soft_vcpu *vcpu);
/* What KVM_RUN shares with its user: KVM_GET_VCPU_MMAP_SIZE bytes. Borrowed until it is freed. */
struct kvm_run *gm_soft_vcpu_run_page(struct gm_soft_vcpu *vcpu);
/*
 * Put its kvm_run area and its dirty ring into a file, as KVM has them in a vCPU's descriptor: the area at
 * the beginning, the ring from page KVM_DIRTY_LOG_PAGE_OFFSET on. What was in the area stays, and so do the addresses
 * of both. For those who hand the file to others, to be mapped there.
 * @fd: of an empty file that is open for reading and writing; grows to what is needed. It may be closed
 * afterwards.
 * Context: before the vCPU has run, and with nobody else at its area and ring.
 * Return: 0; -EINVAL the file is not empty; -errno of fstat(), ftruncate(), pwrite() and mmap(): the vCPU is as it
 * was, but for what may be in the file.
 */
GM_MUST_CHECK int gm_soft_vcpu_share(struct gm_soft_vcpu *vcpu, int fd);
/*
 * Show the VM's ring of coalesced writes at @page, in place of what is mapped there: as KVM has it in the page
 * KVM_COALESCED_MMIO_PAGE_OFFSET of each vCPU's mapping. In the areas of vCPUs it is there already; this is for other mappings of a file that
 * gm_soft_vcpu_share() has filled.
 * @page: page-aligned; the mapping is the caller's.
 * Context: any thread. Return: 0; -ENOMEM.
 */
GM_MUST_CHECK int gm_soft_show_coalesced(struct gm_soft *soft, void *page);
/* In which address space it is: 0, or 1 for SMM. Context: the vCPU's thread, out of guest mode.
 * Return: 0; -EINVAL. */
GM_MUST_CHECK int gm_soft_vcpu_set_space(struct gm_soft_vcpu *vcpu, unsigned space);
/* Its dirty ring, of struct kvm_dirty_gfn; NULL without. Borrowed until it is freed. */
void *gm_soft_vcpu_ring(struct gm_soft_vcpu *vcpu, uint32_t *entry_count);

struct gm_soft_stats {
    uint64_t slots;       /* in all address spaces */
    uint64_t generation;  /* of the slots */
    uint64_t table_pages; /* in use */
    uint64_t
        table_pages_max; /* the limit (KVM_SET_NR_MMU_PAGES); until it is set 2^18: 1 GiB of tables */
    uint64_t pages_4k;   /* leaves present, by size */
    uint64_t pages_2m;
    uint64_t pages_1g;
    uint64_t faults;          /* EPT violations and misconfigurations handled, all kinds */
    uint64_t faults_fixed;    /* ... that installed or changed an entry */
    uint64_t faults_spurious; /* ... that found it as it should be */
    uint64_t faults_retried;  /* ... that met a change and began anew */
    uint64_t mmio;            /* accesses that came out as MMIO */
    uint64_t flushes;         /* of all vCPUs' TLBs, whole or in part */
    uint64_t splits;
    uint64_t collapses;
    uint64_t reclaimed; /* table pages taken back by the limit */
    uint64_t holds;     /* times that vCPUs were kept out of guest mode */
    /* With shadow_paging: */
    uint64_t shadow_pages;  /* table pages that stand for guests' tables; of table_pages */
    uint64_t shadow_unsync; /* ... that are written unseen, until the guest flushes */
    uint64_t shadow_leaves; /* leaves of theirs, of any size */
    uint64_t shadow_syncs;  /* pages brought in step */
    uint64_t shadow_writes; /* to guests' tables, made by hand */
};
/* Context: any thread; counts of running vCPUs may be a moment old. */
void gm_soft_stats(struct gm_soft *soft, struct gm_soft_stats *stats);

/*
 * Make a software VM the hypervisor of a map's space: gm_slots_attach() with its backend. Detach
 * with gm_slots_detach(). Manual dirty-log protection is switched on, whatever it was before; the
 * VM's slots are the map's from here on: change none by other calls. So are its dirty rings, if it has some
 * by then: harvest none, and when a vCPU comes out because its ring is full, call gm_soft_vcpu_empty_ring().
 * @max_slots: use fewer than 32764; 0: all. Errors as there.
 */
GM_MUST_CHECK int gm_soft_attach(struct gm_soft *soft, struct gm_space *space, uint32_t max_slots,
                                 struct gm_slots **slots, struct gm_diag *diag);

/*
 * KVM_EXIT_DIRTY_RING_FULL, or GM_MMU_RING_FULL: bring what is in the vCPU's ring into the records of the
 * blocks. gm_vcpu_run() does it by itself.
 * Context: the vCPU's thread, out of guest mode.
 * Return: true: go on; false: no map is attached that harvests it: it is the user's.
 */
GM_MUST_CHECK bool gm_soft_vcpu_empty_ring(struct gm_soft_vcpu *vcpu);

#ifdef __cplusplus
}
#endif

#endif
