/* mmu/shadow_walk.c - the processor's walk of the shadow tables: without locks, in guest mode, as of EPT (walk.c). */
#include "base/point.h"
#include "mmu/linear.h"
#include "mmu/shadow_page.h"
#include "mmu/tlb.h"
#include "mmu/walk.h"

/* What the view may do, by the guest's tables and by the host. */
static unsigned rights_of(const struct paging *paging, enum gm_mmu_view view, uint64_t leaf)
{
    unsigned rights = leaf >> SHADOW_RIGHTS_SHIFT & PAGING_RIGHTS_ALL;
    unsigned key = paging->keys ? leaf >> SHADOW_KEY_SHIFT & SHADOW_KEY_MASK : 0;

    return (unsigned)leaf & linear_rights(paging, view, rights, key);
}

/* The leaf, or what is in its place. *level: of it. */
static uint64_t *find_leaf(const struct mmu_vcpu *vcpu, uint64_t linear, unsigned *level)
{
    const struct shadow_page *root = shadow_root_page(vcpu, linear);
    struct gfn gfn = gfn_of(linear);
    uint64_t *table;

    if (root == NULL) {
        return NULL;
    }
    table = root->entries;
    *level = root->role.level;
    for (;;) {
        uint64_t *entry = &table[level_index(*level, gfn)];
        uint64_t value = entry_load(entry);

        if (!entry_is_table(*level, value)) {
            return entry;
        }
        table = entry_table(value);
        (*level)--;
    }
}

bool shadow_walk(struct mmu_vcpu *vcpu, uint64_t linear, enum gm_mmu_access kind,
                 enum gm_mmu_view view, uint8_t **host, unsigned *rights)
{
    const struct paging *paging = vcpu->linear.paging;

    for (;;) {
        unsigned level = 0;
        unsigned guest_level;
        uint64_t *entry = find_leaf(vcpu, linear, &level);
        uint64_t leaf = entry != NULL ? entry_load(entry) : 0;

        GM_POINT("shadow-leaf");
        if (!entry_is_leaf(level, leaf)) {
            return false;
        }
        *rights = rights_of(paging, view, leaf);
        if ((*rights & entry_right_of(kind)) == 0) {
            return false;
        }
        if ((leaf & EPT_ACCESSED) == 0 && !entry_replace(entry, &leaf, leaf | EPT_ACCESSED)) {
            continue;
        }
        guest_level = (leaf >> SHADOW_LEVEL_SHIFT & SHADOW_LEVEL_MASK) + 1;
        if (guest_level > 1) {
            tlb_note_large(vcpu, linear, paging->levels[guest_level].shift);
        }
        *host = (uint8_t *)(uintptr_t)(entry_hva(leaf).value + linear % level_bytes(level));
        return true;
    }
}
