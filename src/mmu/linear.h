/*
 * mmu/linear.h - a vCPU's linear addresses: its paging modes, the address spaces of the guest that it knows, and the
 * walk of the guest's tables.
 *
 * A context is one of the guest's address spaces, named by CR3. The present one and a few before it are
 * kept: each with a TLB tag for each view (supervisor, supervisor with AC, user), since rights differ
 * between them, and with its root where tables are shadowed (shadow.h). With PCIDs a guest comes back to
 * one without a flush. Takers' flushes name physical frames, which linear entries do not know: all
 * contexts get new tags.
 */
#ifndef MMU_LINEAR_H
#define MMU_LINEAR_H

#include "mmu/guestwalk.h"
#include "mmu/paging.h"
#include "mmu/shadow.h"

#include <guestmem/mmu.h>

#define LINEAR_CONTEXTS 4u
#define LINEAR_VIEWS 3u
#define LINEAR_RACES_MAX 256u /* of a walk in guest mode, with who writes the guest's tables */
#define LINEAR_REFUSED_MAX 16u

struct linear_context {
    bool is_used;
    bool has_tags; /* and what the TLB has for them counts */
    uint64_t cr3;  /* less bit 63 */
    unsigned tags[LINEAR_VIEWS];
    struct shadow_root root;
};

/* One for each enum paging_mode: what registers mean is computed once for a mode, until they change in it. */
#define LINEAR_MODES (PAGING_5 + 1)
struct linear_mode {
    bool is_made;
    struct gm_mmu_paging registers; /* of the present, or of when it was left */
    struct paging paging;
};

struct linear {
    struct linear_mode modes[LINEAR_MODES];
    enum paging_mode mode;       /* the present */
    const struct paging *paging; /* of it */
    struct linear_context contexts[LINEAR_CONTEXTS];
    unsigned current; /* of contexts */
    unsigned newest;  /* was put in last */
    /* Within this range of linear addresses lie all large pages of which the TLB has parts; first > last: none. */
    uint64_t large_first;
    uint64_t large_last;
    /* The last tables of the guest's that were met in read-only memory, as of these slots: they are read without
     * the right to write that EPT's dirty flags want. More than two walks can meet. */
    uint64_t refused_gpas[LINEAR_REFUSED_MAX];
    unsigned refused_count; /* ever, since the slots changed */
    uint64_t refused_generation;
};

/* How far an access, or a step of it, is. */
enum settled {
    SETTLED,
    SETTLE_AGAIN, /* guest mode was left and begun again: all parts anew */
    ENDED,        /* out of guest mode, vcpu->exit says why */
};

struct mmu_vcpu;
struct access_part;

/* Before the TLB is made: no paging. The first context is the present one. */
void linear_init(struct linear *linear);

/* The space is another: no context is known there. */
void linear_forget(struct mmu_vcpu *vcpu);

/* Walk the guest's tables to the part's gpa, for the access under way: its address is canonical. */
enum settled linear_walk(struct mmu_vcpu *vcpu, struct access_part *part, struct guestwalk *walk);

/* The same for any address. *rights: EPT_*, that the guest's tables give the access's view. */
enum settled linear_translate(struct mmu_vcpu *vcpu, struct access_part *part, unsigned *rights);

/* What a view may do with a page of the guest's: EPT_ rights. @rights: PAGING_RIGHT_*, with its key. */
unsigned linear_rights(const struct paging *paging, enum gm_mmu_view view, unsigned rights,
                       unsigned key);

/* An access of a view, as PAGING_ flags. */
unsigned linear_access_flags(enum gm_mmu_access kind, enum gm_mmu_view view);

#endif
