/*
 * mmu/ahead.h - host pages made present before they are asked for, where a vCPU goes through memory in order: one
 * system call for many pages instead of one for each.
 *
 * Only pages that the host has already are taken: no hole of a file is filled, nothing is copied or allocated that
 * the guest has not touched. For writing, therefore, only where all of the slot is shared memory (memfd, /dev/shm): a
 * private mapping would copy pages, a file on a disk would have to be written back. What was found holds until slots
 * change or the next invalidation ends, as a leaf would that had been installed at that time.
 */
#ifndef MMU_AHEAD_H
#define MMU_AHEAD_H

#include <stdbool.h>
#include <stdint.h>

struct fault;
struct mmu_vcpu;
struct resolved;

/* What one vCPU knows; all zero at first. Its thread's own. */
struct ahead {
    uint64_t first; /* host addresses [first, end) were made present ... */
    uint64_t end;
    uint64_t token;      /* ... as of this state of the notifier ... */
    uint64_t generation; /* ... and these slots: what is in none may change without being told */
    bool for_writing;    /* ... and may be written */
    uint32_t
        pages; /* how many the last step would have taken: it doubles while faults go on at `end` */
};

#define AHEAD_PAGES_MAX 64u

/* Was the fault's page made present already? */
bool ahead_has(const struct mmu_vcpu *vcpu, const struct fault *fault,
               const struct resolved *resolved);

/* The fault's page has just been made present: see whether to go on behind it. May find out of what kind the slot's
 * memory is (resolved->host_kind). Context: as host_populate(). */
void ahead_go(struct mmu_vcpu *vcpu, const struct fault *fault, struct resolved *resolved);

#endif
