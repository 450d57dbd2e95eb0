/*
 * guestmem/mmu.h - a software vCPU's way to memory: loads, stores, fetches and cmpxchg by guest
 * physical or linear address, through a TLB whose hit path is inlined here, the guest's page tables,
 * EPT tables, and the memory slots.
 *
 * A vCPU uses it in guest mode, between gm_mmu_enter() and gm_mmu_leave(), on one thread at a time. At
 * each instruction's boundary it looks whether somebody wants it out:
 *
 *     enum gm_mmu_outcome outcome = gm_mmu_enter(mmu);
 *
 *     while (outcome == GM_MMU_OK) {
 *         outcome = one_instruction(mmu);              // gm_mmu_load(), gm_mmu_store(), ...
 *         if (outcome == GM_MMU_RESTART) {
 *             outcome = gm_mmu_enter(mmu);             // and the same instruction again
 *         } else if (outcome == GM_MMU_OK && gm_mmu_is_wanted(mmu)) {
 *             outcome = gm_mmu_boundary(mmu);          // lets a change of slots pass
 *         }
 *     }
 *
 * Any outcome but GM_MMU_OK has left guest mode, and gm_mmu_exit() says why: nothing of the access
 * has happened, except as said at GM_MMU_MMIO. All accesses between two boundaries see one map; an
 * MMIO exit is a boundary, too, and so is the write of a tracked page. A change of slots waits until each vCPU is at a
 * boundary or out of guest mode, so a vCPU must not block between boundaries, and the thread that
 * changes slots must not be one in guest mode.
 *
 * Addresses are little-endian in memory, as x86 is. Accesses may cross pages and slots.
 */
#ifndef GUESTMEM_MMU_H
#define GUESTMEM_MMU_H

#include <guestmem/host.h>
#include <guestmem/types.h>

#ifdef __cplusplus
extern "C" {
#endif

enum gm_mmu_outcome {
    GM_MMU_OK = 0,
    /* No memory answers there, or it is read-only and was to be written. Answer what gm_mmu_exit()
     * describes, a piece within one page, and call gm_mmu_resume(): as KVM_EXIT_MMIO and KVM_RUN. */
    GM_MMU_MMIO,
    GM_MMU_DENIED, /* the page's attributes forbid it: as KVM_EXIT_MEMORY_FAULT */
    GM_MMU_ERROR,  /* exit->error: -EFAULT no host memory behind the slot; -ENOMEM */
    /* Slots have changed since the last boundary: begin the instruction anew, from gm_mmu_enter() on.
     * Hardware does the same after a fault. */
    GM_MMU_RESTART,
    /* The dirty ring must be harvested first: as KVM_EXIT_DIRTY_RING_FULL. At a boundary; only where a vCPU
     * dirties hundreds of pages without one, of an access, whose instruction is then to be begun anew. */
    GM_MMU_RING_FULL,
    GM_MMU_KICKED, /* gm_mmu_kick() */
    /* Linear addresses only. The guest's own page fault: exit->error_code, and exit->linear for CR2. */
    GM_MMU_PAGE_FAULT,
    /* A linear address that is not canonical, or PDPTEs with reserved bits: #GP (or #SS). */
    GM_MMU_PROTECTION,
    /* The entry at exit->gpa of the guest's page tables is not in memory that can be read. KVM makes it a page fault
     * of a page that is not present: linear and error_code are that fault's. */
    GM_MMU_TABLE_LOST,
};

enum gm_mmu_access {
    GM_MMU_READ,
    GM_MMU_WRITE,
    GM_MMU_FETCH,
};

/* An access that did not come to its end. */
struct gm_mmu_exit {
    enum gm_mmu_outcome outcome;
    enum gm_mmu_access access;
    gm_gpa_t gpa;
    uint32_t size_bytes; /* MMIO: 1 to 8, within one page */
    uint8_t data[8];     /* MMIO: what is written, or, filled in by the answer, what is read */
    gm_gpa_t linear;     /* of an access by linear address: of its piece */
    uint32_t error_code; /* PAGE_FAULT: as the processor pushes it */
    int error;           /* ERROR: a negative errno */
    uint64_t attributes; /* DENIED: GM_ATTRIBUTE_* of the page */
};

/*
 * One translation. Each word is the page's address with the TLB's tag in its low bits where that kind
 * of access may use the entry, and GM_TLB_NONE where it may not.
 */
struct gm_tlb_entry {
    uint64_t load;
    uint64_t store;
    uint64_t fetch;
    uint64_t addend; /* host address less guest address */
};

#define GM_TLB_ENTRIES 1024u
#define GM_TLB_NONE UINT64_MAX
#define GM_TLB_NO_TAG 4094u /* no entry has it: looked up with it, nothing hits */
#define GM_MMU_PAGE_MASK (~(uint64_t)4095)

/* The part of a vCPU that the inlined hit path needs. Made by gm_soft_vcpu_new(); read-only for users. */
struct gm_mmu {
    struct gm_tlb_entry *tlb; /* GM_TLB_ENTRIES of them */
    uint64_t tag;          /* 0 to 4093: of physical addresses; a flush of them takes a new one */
    uint64_t view_tags[3]; /* of linear addresses, by enum gm_mmu_view */
    uint32_t requests;     /* atomic; not 0: somebody wants the vCPU at a boundary */
    /* The one field that is the user's: an MMIO read of the instruction under way was answered. Linux's emulator
     * then goes on with the instruction, to which host memory that cannot be reached is MMIO, not -EFAULT. */
    bool is_emulated;
};

/*
 * Begin guest mode; end it. Enter waits while slots are changed.
 * Return: GM_MMU_OK; GM_MMU_RING_FULL; GM_MMU_KICKED (once for each time that it was kicked, or several
 * times together).
 */
GM_MUST_CHECK enum gm_mmu_outcome gm_mmu_enter(struct gm_mmu *mmu);
void gm_mmu_leave(struct gm_mmu *mmu);

/* At an instruction's boundary: is there a reason for gm_mmu_boundary()? */
static inline bool gm_mmu_is_wanted(const struct gm_mmu *mmu)
{
    return __atomic_load_n(&mmu->requests, __ATOMIC_RELAXED) != 0;
}

/* Leave and enter. Return: as gm_mmu_enter(). */
GM_MUST_CHECK enum gm_mmu_outcome gm_mmu_boundary(struct gm_mmu *mmu);

/* Make the vCPU come out with GM_MMU_KICKED at its next boundary, or KVM_RUN with -EINTR, from its sleep as well. Any thread;
 * async-signal-safe. */
void gm_mmu_kick(struct gm_mmu *mmu);

/* Of the last outcome that was not OK. Borrowed until the next access. The caller fills in `data`
 * where an MMIO read is answered. */
struct gm_mmu_exit *gm_mmu_exit(struct gm_mmu *mmu);

/*
 * After GM_MMU_MMIO: go on with the access, in guest mode again. Its next piece may be MMIO as well.
 * @value: as of the gm_mmu_load() that came out so; otherwise unused, may be NULL.
 * Return: GM_MMU_OK; GM_MMU_MMIO the next piece; GM_MMU_ERROR with -EINVAL: there was none to go on with.
 */
GM_MUST_CHECK enum gm_mmu_outcome gm_mmu_resume(struct gm_mmu *mmu, uint64_t *value);

/* The entry's host address for an access that stays within its page, or NULL. Hot: two loads, a
 * compare and an add; an access that crosses the page's end compares as another page. */
static inline void *gm_tlb_hit(const struct gm_mmu *mmu, uint64_t tag, uint64_t address,
                               unsigned size_bytes, enum gm_mmu_access access)
{
    const struct gm_tlb_entry *entry = &mmu->tlb[(address >> 12) % GM_TLB_ENTRIES];
    uint64_t key = ((address + (size_bytes - 1)) & GM_MMU_PAGE_MASK) | tag;
    uint64_t held = access == GM_MMU_READ    ? entry->load
                    : access == GM_MMU_WRITE ? entry->store
                                             : entry->fetch;

    return __builtin_expect(held == key, 1) ? (void *)(uintptr_t)(address + entry->addend) : NULL;
}

/* Misses. */
GM_MUST_CHECK enum gm_mmu_outcome gm_mmu_load_slow(struct gm_mmu *mmu, gm_gpa_t gpa,
                                                   unsigned size_bytes, uint64_t *value);
GM_MUST_CHECK enum gm_mmu_outcome gm_mmu_store_slow(struct gm_mmu *mmu, gm_gpa_t gpa,
                                                    unsigned size_bytes, uint64_t value);

/*
 * Load, store 1, 2, 4 or 8 bytes. Nothing is stored unless all pages can be: but where a part is MMIO,
 * the parts that are memory are stored first, as KVM does.
 * Context: guest mode; the vCPU's thread.
 */
GM_MUST_CHECK static inline enum gm_mmu_outcome gm_mmu_load(struct gm_mmu *mmu, gm_gpa_t gpa,
                                                            unsigned size_bytes, uint64_t *value)
{
    const void *host = gm_tlb_hit(mmu, mmu->tag, gpa, size_bytes, GM_MMU_READ);

    if (host == NULL) {
        return gm_mmu_load_slow(mmu, gpa, size_bytes, value);
    }
    *value = gm_host_load(host, size_bytes);
    return GM_MMU_OK;
}

GM_MUST_CHECK static inline enum gm_mmu_outcome gm_mmu_store(struct gm_mmu *mmu, gm_gpa_t gpa,
                                                             unsigned size_bytes, uint64_t value)
{
    void *host = gm_tlb_hit(mmu, mmu->tag, gpa, size_bytes, GM_MMU_WRITE);

    if (host == NULL) {
        return gm_mmu_store_slow(mmu, gpa, size_bytes, value);
    }
    gm_host_store(host, value, size_bytes);
    return GM_MMU_OK;
}

/*
 * Fetch @size_bytes (1 to 16) of an instruction. Memory that is not there comes out as GM_MMU_MMIO with
 * access GM_MMU_FETCH: processors execute nothing from there, and there is nothing to resume.
 */
GM_MUST_CHECK enum gm_mmu_outcome gm_mmu_fetch(struct gm_mmu *mmu, gm_gpa_t gpa,
                                               unsigned size_bytes, void *bytes);

/*
 * Compare and exchange 1, 2, 4 or 8 bytes, atomically for all vCPUs also where they cross pages or are
 * not aligned. *expected gets what was there: the exchange was made if that is what it was before.
 * Where a part is MMIO or read-only memory, @desired is stored instead, as KVM does: GM_MMU_MMIO.
 */
GM_MUST_CHECK enum gm_mmu_outcome gm_mmu_cmpxchg(struct gm_mmu *mmu, gm_gpa_t gpa,
                                                 unsigned size_bytes, uint64_t *expected,
                                                 uint64_t desired);

/*
 * Linear addresses: what CR0, CR3, CR4, EFER, PKRU and CPUID say of paging. A vCPU begins with all zero: no
 * paging, linear addresses are physical ones.
 */
struct gm_mmu_paging {
    uint64_t cr0;  /* PG, WP */
    uint64_t cr3;  /* bit 63: with PCIDs, keep the translations of this one */
    uint64_t cr4;  /* PSE, PAE, PGE, LA57, PCIDE, SMEP, SMAP, PKE */
    uint64_t efer; /* LMA, NXE */
    uint32_t pkru;
    uint8_t maxphyaddr; /* 32 to 52; 0: 52 */
    bool has_1g_pages;
    bool has_pse36;
    const uint64_t
        *pdptes; /* PAE: four, instead of those in memory; borrowed for the call; or NULL */
};

/*
 * Set them, as MOV to CR3 and its like do: translations that must not outlive the change are forgotten;
 * with PAE paging the PDPTEs are loaded, and checked.
 * Context: the vCPU's thread, in guest mode, where it stays after GM_MMU_OK.
 * Return: GM_MMU_OK; otherwise nothing has changed: GM_MMU_PROTECTION the PDPTEs are not valid;
 * GM_MMU_TABLE_LOST, GM_MMU_ERROR, GM_MMU_RESTART, GM_MMU_KICKED reading them.
 */
GM_MUST_CHECK enum gm_mmu_outcome gm_mmu_set_paging(struct gm_mmu *mmu,
                                                    const struct gm_mmu_paging *paging);
void gm_mmu_get_paging(struct gm_mmu *mmu, struct gm_mmu_paging *paging);
/* The PDPTEs that count: those of the last write of CR3, whatever memory has by now. Context: the vCPU's thread.
 * Return: false and zeros: paging is not PAE. */
bool gm_mmu_get_pdptes(struct gm_mmu *mmu, uint64_t pdptes[4]);

/* Who makes a linear access: a supervisor; one with EFLAGS.AC set, whose explicit accesses SMAP lets
 * pass; a user (CPL 3). */
enum gm_mmu_view {
    GM_MMU_SUPERVISOR,
    GM_MMU_SUPERVISOR_AC,
    GM_MMU_USER,
};

/* As gm_mmu_load(), gm_mmu_store(), gm_mmu_fetch(), gm_mmu_cmpxchg(), by linear address; all of GM_MMU_*
 * may come out. An access that faults
 * has set the accessed flags above the entry at which it ended. */
GM_MUST_CHECK enum gm_mmu_outcome gm_mmu_load_linear_slow(struct gm_mmu *mmu, uint64_t linear,
                                                          unsigned size_bytes,
                                                          enum gm_mmu_view view, uint64_t *value);
GM_MUST_CHECK enum gm_mmu_outcome gm_mmu_store_linear_slow(struct gm_mmu *mmu, uint64_t linear,
                                                           unsigned size_bytes,
                                                           enum gm_mmu_view view, uint64_t value);
GM_MUST_CHECK enum gm_mmu_outcome gm_mmu_fetch_linear(struct gm_mmu *mmu, uint64_t linear,
                                                      unsigned size_bytes, enum gm_mmu_view view,
                                                      void *bytes);
GM_MUST_CHECK enum gm_mmu_outcome gm_mmu_cmpxchg_linear(struct gm_mmu *mmu, uint64_t linear,
                                                        unsigned size_bytes, enum gm_mmu_view view,
                                                        uint64_t *expected, uint64_t desired);

GM_MUST_CHECK static inline enum gm_mmu_outcome
gm_mmu_load_linear(struct gm_mmu *mmu, uint64_t linear, unsigned size_bytes, enum gm_mmu_view view,
                   uint64_t *value)
{
    const void *host = gm_tlb_hit(mmu, mmu->view_tags[view], linear, size_bytes, GM_MMU_READ);

    if (host == NULL) {
        return gm_mmu_load_linear_slow(mmu, linear, size_bytes, view, value);
    }
    *value = gm_host_load(host, size_bytes);
    return GM_MMU_OK;
}

GM_MUST_CHECK static inline enum gm_mmu_outcome
gm_mmu_store_linear(struct gm_mmu *mmu, uint64_t linear, unsigned size_bytes, enum gm_mmu_view view,
                    uint64_t value)
{
    void *host = gm_tlb_hit(mmu, mmu->view_tags[view], linear, size_bytes, GM_MMU_WRITE);

    if (host == NULL) {
        return gm_mmu_store_linear_slow(mmu, linear, size_bytes, view, value);
    }
    gm_host_store(host, value, size_bytes);
    return GM_MMU_OK;
}

/* INVLPG: forget the page's translations in the present context. Context: the vCPU's thread. */
void gm_mmu_invlpg(struct gm_mmu *mmu, uint64_t linear);

/*
 * How a linear address translates, without any effect on the guest: its tables are read, no flag is set.
 */
#define GM_MMU_LEVELS_MAX 5
struct gm_mmu_translation {
    enum gm_mmu_outcome outcome; /* GM_MMU_OK, or why not */
    gm_gpa_t gpa;                /* of the byte */
    uint64_t page_bytes;         /* of the guest's page */
    uint32_t error_code;         /* PAGE_FAULT */
    bool is_writable;            /* by the tables alone: no WP, SMAP, keys */
    bool is_for_user;
    bool is_executable;
    unsigned level_count; /* of the mode: 0 without paging */
    unsigned depth;       /* entries that were read: those of levels level_count down */
    uint64_t entries[GM_MMU_LEVELS_MAX]; /* the top level's first */
    gm_gpa_t entry_gpas[GM_MMU_LEVELS_MAX];
};
/* Context: guest mode; left unless translation->outcome is GM_MMU_OK, GM_MMU_PAGE_FAULT or
 * GM_MMU_PROTECTION. Return: translation->outcome. */
enum gm_mmu_outcome gm_mmu_explain(struct gm_mmu *mmu, uint64_t linear, enum gm_mmu_access access,
                                   enum gm_mmu_view view, struct gm_mmu_translation *translation);

/* Translations that this vCPU has cached are forgotten: of one physical page, or all. Context: its thread. */
void gm_mmu_flush_page(struct gm_mmu *mmu, gm_gpa_t gpa);
void gm_mmu_flush_all(struct gm_mmu *mmu);

#ifdef __cplusplus
}
#endif

#endif
