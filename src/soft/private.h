/*
 * soft/private.h - slots that a VM makes for itself, as Linux does on Intel's processors: the TSS,
 * the identity-mapping page table, the page that stands for the local APIC. On AMD's there are
 * none, and their addresses are only checked. docs/decisions/0007-private-slots.md says what we
 * chose.
 */
#ifndef SOFT_PRIVATE_H
#define SOFT_PRIVATE_H

#include <stdbool.h>
#include <stdint.h>

struct gm_soft;

enum private_slot {
    PRIVATE_TSS, /* MEMSLOT_USER_IDS + 0, and so on */
    PRIVATE_IDENTITY,
    PRIVATE_APIC,
    PRIVATE_COUNT,
};

struct private_slots {
    bool are_made;               /* as on Intel */
    void *memory[PRIVATE_COUNT]; /* ours, as long as the VM lives; NULL: there is no such slot */
};

/* The slots have gone. */
void private_slots_fini(struct private_slots *slots);

/*
 * KVM_SET_TSS_ADDR: three pages at @gpa, below 4 GiB; called again, they move.
 * Context: takes the VM's lock; waits for vCPUs.
 * Return: 0; -EINVAL past 4 GiB less three pages; where slots are made also: -EINVAL not aligned,
 * -EEXIST a user slot is there, -ENOMEM.
 */
int private_set_tss(struct gm_soft *soft, uint64_t gpa);

/* KVM_SET_IDENTITY_MAP_ADDR, one page; @gpa 0: Linux's default. Errors as above; -EINVAL there has
 * been a vCPU. The caller has the VM's lock. */
int private_set_identity(struct gm_soft *soft, uint64_t gpa);

/* Before a vCPU is made: its local APIC's page. Errors as above. The caller has the VM's lock. */
int private_make_apic(struct gm_soft *soft);

#endif
