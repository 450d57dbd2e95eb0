/* soft/private.c - slots that a VM makes for itself, in memory of its own. */
#include "soft/private.h"

#include "soft/soft.h"

#include <errno.h>
#include <sys/mman.h>

#define TSS_PAGES 3u
/* The last address for three pages below 4 GiB (Linux api.rst, KVM_SET_TSS_ADDR). */
#define TSS_GPA_MAX UINT64_C(0xffffd000)
/* Where Linux puts the table when it is not told (api.rst, KVM_SET_IDENTITY_MAP_ADDR). */
#define IDENTITY_GPA_DEFAULT UINT64_C(0xfffbc000)
#define APIC_GPA UINT64_C(0xfee00000)

static uint64_t slot_bytes(enum private_slot which)
{
    return which == PRIVATE_TSS ? TSS_PAGES * PAGE_BYTES_4K : PAGE_BYTES_4K;
}

void private_slots_fini(struct private_slots *slots)
{
    for (unsigned i = 0; i < PRIVATE_COUNT; i++) {
        if (slots->memory[i] != NULL) {
            munmap(slots->memory[i], slot_bytes((enum private_slot)i));
        }
    }
}

/*
 * Make, or move, a slot in all address spaces at once: inside and outside of SMM the guest sees the
 * same page. The memory stays where it is, so what the guest keeps there moves along.
 */
static int put_slot(struct gm_soft *soft, enum private_slot which, uint64_t gpa)
{
    void *memory = soft->private_slots.memory[which];
    struct memslot_change changes[KCORE_SPACES];
    int rc;

    if (memory == NULL) {
        memory = mmap(NULL, slot_bytes(which), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
                      -1, 0);
        if (memory == MAP_FAILED) {
            return -ENOMEM;
        }
    }
    for (unsigned space = 0; space < KCORE_SPACES; space++) {
        changes[space] = (struct memslot_change){
            .slot = (MEMSLOT_USER_IDS + which) | space << 16,
            .gpa = gpa,
            .size_bytes = slot_bytes(which),
            .hva = hva_of(memory).value,
        };
    }
    rc = kcore_apply_private(&soft->core, changes, KCORE_SPACES);
    if (rc == 0) {
        soft->private_slots.memory[which] = memory;
    } else if (soft->private_slots.memory[which] == NULL) {
        munmap(memory, slot_bytes(which));
    }
    return rc;
}

int private_set_tss(struct gm_soft *soft, uint64_t gpa)
{
    int rc = 0;

    if (gpa > TSS_GPA_MAX) {
        return -EINVAL;
    }
    lock_take(&soft->lock);
    if (soft->private_slots.are_made) {
        rc = put_slot(soft, PRIVATE_TSS, gpa);
    }
    lock_drop(&soft->lock);
    return rc;
}

int private_set_identity(struct gm_soft *soft, uint64_t gpa)
{
    if (!soft->private_slots.are_made) {
        return 0;
    }
    return put_slot(soft, PRIVATE_IDENTITY, gpa != 0 ? gpa : IDENTITY_GPA_DEFAULT);
}

int private_make_apic(struct gm_soft *soft)
{
    if (!soft->private_slots.are_made || soft->private_slots.memory[PRIVATE_APIC] != NULL) {
        return 0;
    }
    return put_slot(soft, PRIVATE_APIC, APIC_GPA);
}
