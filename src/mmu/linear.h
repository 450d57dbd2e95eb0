/*
 * mmu/linear.h - a vCPU's linear addresses: its paging mode, the address spaces of the guest that its TLB
 * knows, and the walk of the guest's tables through EPT.
 *
 * A context is one of the guest's address spaces, named by CR3. Each has a TLB tag for each view
 * (supervisor, supervisor with AC, user), since rights differ between them. The present one and a few
 * before it are kept; with PCIDs a guest comes back to them without a flush. Takers' flushes name physical
 * frames, which linear entries do not know: they forget all contexts.
 */
#ifndef MMU_LINEAR_H
#define MMU_LINEAR_H

#include "mmu/guestwalk.h"
#include "mmu/paging.h"

#include <guestmem/mmu.h>

#define LINEAR_CONTEXTS 4u
#define LINEAR_VIEWS 3u
#define LINEAR_REFUSED_MAX 16u

struct linear_context {
    bool is_kept;
    uint64_t cr3; /* less bit 63 */
    unsigned tags[LINEAR_VIEWS];
};

struct linear {
    struct gm_mmu_paging registers; /* as they were set */
    struct paging paging;
    struct linear_context contexts[LINEAR_CONTEXTS];
    unsigned current; /* of contexts */
    unsigned newest;  /* was put in last */
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

/* Translate a part's linear address into its gpa, for the access under way. *rights: EPT_*, that the guest's
 * tables give the access's view. */
enum settled linear_translate(struct mmu_vcpu *vcpu, struct access_part *part, unsigned *rights);

#endif
