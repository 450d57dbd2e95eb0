/*
 * mmu/shadow_page.h - shadow pages: found, made, linked, emptied, freed. Used by the shadow_*.c alone; shadow.h
 * says what they are.
 */
#ifndef MMU_SHADOW_PAGE_H
#define MMU_SHADOW_PAGE_H

#include "mmu/mmu.h"
#include "mmu/shadow.h"
#include "mmu/take.h"

/* What a page is for, beside its frame: two pages of one frame differ in it. */
struct shadow_role {
    uint8_t level;    /* of its entries: 1 to 5, as EPT's */
    uint8_t space;    /* address space: SMM has its own */
    uint8_t format;   /* of shadow.formats; 0 if direct */
    uint8_t quadrant; /* of a 32-bit table: level 1, which half; level 2, which quarter */
    uint8_t
        rights;  /* PAGING_RIGHT_*: what entries above leave; direct: what the guest's leaf does */
    uint8_t key; /* direct: the protection key of the guest's leaf */
    bool is_direct;
    bool is_dirty; /* direct: the guest's leaf is dirty, so that writes may be mapped */
};

struct shadow_page {
    uint64_t *entries; /* a table page */
    struct gfn gfn;    /* that holds the guest's table; direct: the first that is mapped */
    struct shadow_role role;
    const uint8_t *
        guest_table; /* the guest's table in host memory, there as long as the page is; direct: NULL */
    struct entry_list parents;
    struct shadow_page *bucket_next; /* in the hash, the list of the invalid, or a stock */
    struct shadow_page *newer;
    struct shadow_page *older;
    atomic_uint root_count; /* of vCPUs' contexts. Grows under the lock, and falls any time */
    atomic_bool is_invalid; /* zapped, but a root still: relaxed, a flush follows */
    bool is_unsync;
    unsigned unsync_child_count; /* the bits that are set */
    uint64_t unsync_children[EPT_ENTRIES / 64];
    unsigned write_count;         /* by hand, since a fault last came by */
    uint64_t frames[EPT_ENTRIES]; /* the first of each leaf; of a direct page it is where it lies */
};

/*
 * A stretch of work under mmu's lock, and what has to be done before the lock is dropped. Takers have one inside
 * theirs; others begin and end with the lock.
 */
struct shadow_work {
    struct mmu *mmu;
    struct retired *retired;
    bool installers_are_out;
    bool lost[KCORE_SPACES]; /* an entry was dropped, or lost a right */
};

struct shadow_work shadow_work_begin(struct mmu *mmu, struct retired *retired);
/* Drops the lock, waits for a flush where pages have gone, and frees them. */
void shadow_work_end(struct shadow_work *work);

/* The same for a taker, who has the lock and drops it. @retired: NULL where only flags are taken. */
struct shadow_work shadow_work_of_taker(struct mmu_locked locked, struct retired *retired);
void shadow_work_of_taker_end(struct shadow_work *work);

/* What was lost is forgotten by all TLBs, and no write of a vCPU's is under way. */
void shadow_work_flush(struct shadow_work *work);

/* Stock up for one fault: pages, and a chunk for the link to each and for the leaf. Return: 0; -ENOMEM. Out of the
 * lock. */
#define SHADOW_CHUNKS (PAGING_LEVELS_MAX + 1)
int shadow_stock_fill(struct mmu_vcpu *vcpu);

enum shadow_get {
    SHADOW_GOT,
    SHADOW_NO_STOCK, /* fill it, and come again */
    SHADOW_NO_MEMORY,
};

/*
 * The page of a frame in a role, found or made. One that was found is brought in step, with all below it;
 * of one that is made, writes to the guest's table are caught from here on. @guest_table: of the frame,
 * unless direct.
 */
enum shadow_get shadow_page_get(struct shadow_work *work, struct mmu_vcpu *vcpu, struct gfn gfn,
                                const struct shadow_role *role, const uint8_t *guest_table,
                                struct shadow_page **page);

/* Does it stand for this frame, in this role? */
static inline bool shadow_page_is(const struct shadow_page *page, struct gfn gfn,
                                  const struct shadow_role *role)
{
    return page->gfn.value == gfn.value && memcmp(&page->role, role, sizeof(*role)) == 0;
}

/* Is it, or anything below it, out of step? */
static inline bool shadow_has_unsync(const struct shadow_page *page)
{
    return page->is_unsync || page->unsync_child_count != 0;
}

/* The first page that stands for a frame of a space; the next after it. NULL: none. */
struct shadow_page *shadow_page_first(const struct shadow *shadow, unsigned space, struct gfn gfn);
struct shadow_page *shadow_page_next(struct shadow_page *page);

/* The page that an entry is of. */
struct shadow_page *shadow_page_of(const uint64_t *entry);
static inline unsigned shadow_index_of(const uint64_t *entry)
{
    return (unsigned)((uintptr_t)entry % PAGE_BYTES_4K / sizeof(*entry));
}

/* The page that an entry leads to; NULL: it leads to none. */
struct shadow_page *shadow_child(const struct shadow_page *page, unsigned index);

/* The first frame that a leaf maps. */
struct gfn shadow_frame(const struct shadow_page *page, unsigned index);

/* Make an absent entry lead to a page. The stock has a chunk. */
void shadow_link(struct shadow_page *page, unsigned index, struct shadow_page *child,
                 struct chunk_stock *stock);

/* Put in a leaf where nothing is. Return: 0; -ENOMEM. The stock has a chunk. */
int shadow_add_leaf(struct shadow_work *work, struct shadow_page *page, unsigned index,
                    struct gfn first, uint64_t leaf, struct chunk_stock *stock);

/* Clear an entry, whatever it is. */
void shadow_drop(struct shadow_work *work, struct shadow_page *page, unsigned index);

/* Take flags away from a leaf. Return: those that it had. */
uint64_t shadow_take_flags(struct shadow_work *work, uint64_t *entry, uint64_t flags);

/* Empty a page, unlink it and free it: a root when its vCPUs have given it up. */
void shadow_zap(struct shadow_work *work, struct shadow_page *page);

/* It is unsync, or not any more: its parents are told. */
void shadow_set_unsync(struct shadow_work *work, struct shadow_page *page, bool is_unsync);

/* The slot of a frame; NULL: none. In a read section. */
const struct memslot *shadow_slot(const struct mmu *mmu, unsigned space, struct gfn gfn);

/*
 * Bringing in step (shadow_sync.c).
 */

/* No leaf maps the frame writable any more. */
void shadow_protect_frame(struct shadow_work *work, unsigned space, struct gfn gfn);

/* The tables of a frame may be written unseen: only of the lowest level. False: they must not. */
bool shadow_make_unsync(struct shadow_work *work, unsigned space, struct gfn gfn);

/* Bring the page, and all below it, in step with the guest's tables. */
void shadow_sync_tree(struct shadow_work *work, struct shadow_page *page);

/* Bring one leaf in step, of a page of level 1 that stands for a guest's table. */
void shadow_sync_entry(struct shadow_work *work, struct shadow_page *page, unsigned index);

/*
 * A vCPU's roots (shadow_root.c).
 */

/* The page that the walk of @linear begins with, in the present context; NULL: none is there. In guest
 * mode, or under the lock. */
struct shadow_page *shadow_root_page(const struct mmu_vcpu *vcpu, uint64_t linear);

/* Has the guest flushed, or a taker dropped, what the present root says? In guest mode. */
bool shadow_root_is_due(const struct mmu_vcpu *vcpu);

/* Make it usable. Out of guest mode, no locks. */
void shadow_root_refresh(struct mmu_vcpu *vcpu);

/* The root page for @linear, found or made. Under the lock. */
enum shadow_get shadow_root_get(struct shadow_work *work, struct mmu_vcpu *vcpu, uint64_t linear,
                                const uint8_t *guest_table, struct shadow_page **page);

/*
 * Installing (shadow_map.c).
 */
struct guestwalk;
struct fault;
struct resolved;
enum shadow_map_result {
    SHADOW_MAP_DONE,
    SHADOW_MAP_RETRY,   /* something has changed since the walk */
    SHADOW_MAP_BY_HAND, /* a write that somebody has to see */
    SHADOW_MAP_NO_STOCK,
    SHADOW_MAP_NO_MEMORY,
};

/* Put in what leads to the page of @linear, as the guest's tables and the slots have it. Out of guest
 * mode, no locks. */
struct shadow_request {
    uint64_t linear;
    const struct guestwalk *walk; /* of the guest's tables */
    uint64_t token;               /* of the notifier, from before it */
    struct fault *fault;          /* of its frame */
    const struct resolved *resolved;
};
enum shadow_map_result shadow_map(struct mmu_vcpu *vcpu, const struct shadow_request *request);

/*
 * The processor's walk (shadow_walk.c). True: there, with the right; its accessed flag is set. *rights:
 * of the view, for the TLB.
 */
bool shadow_walk(struct mmu_vcpu *vcpu, uint64_t linear, enum gm_mmu_access kind,
                 enum gm_mmu_view view, uint8_t **host, unsigned *rights);

#endif
