/*
 * tests/kvm/pages.h - a guest that writes many pages: 8 MiB of logged RAM at 1 MiB, and the small machine of guest.h beside it,
 * whose data segment reaches all of it.
 */
#ifndef TESTS_KVM_PAGES_H
#define TESTS_KVM_PAGES_H

#include "guest.h"

#define PAGES_COUNT 2048u
#define PAGES_GPA 0x100000u

struct pages {
    struct guest guest;
    struct gm_ram *ram;
    struct gm_region *region;
};

/* Ways in which a write comes to be known. */
enum pages_log {
    PAGES_LOG_PLAIN,
    PAGES_LOG_MANUAL,
    PAGES_LOG_RING,
    PAGES_LOG_BUFFER_AND_RING, /* of the software KVM: vCPUs buffer what they push, as with Intel's PML */
};
#define PAGES_RING_ENTRIES 1024u

/* May return false: /dev/kvm has no rings here. The region is not logged yet. */
bool pages_init(struct pages *pages, enum pages_log log);
void pages_fini(struct pages *pages);

/* Let the guest of a VM that was made otherwise have the pages. */
void pages_add(struct pages *pages);
/* The vCPU's data segment ends at 4 GiB. */
void pages_reset_vcpu(struct gm_vcpu *vcpu);

/*
 * The guest's program: write the number of the write, counting on from 1 (EBX), to the begin of a page, and go
 * on by 37 pages, modulo all of them. @count writes and then HLT; 0: for ever.
 */
void pages_program(struct pages *pages, uint32_t count);

#endif
