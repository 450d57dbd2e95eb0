/*
 * mmu/walk.c - the processor's walk of the EPT.
 *
 * Takers change entries meanwhile, but what a walk has read stays usable until the vCPU leaves guest
 * mode: they wait for that before memory or table pages go. Flags are set by compare-and-swap, so that a
 * walk never brings back what a taker took out: it begins anew instead.
 */
#include "mmu/walk.h"

#include "base/point.h"
#include "mmu/guest.h"

/* What the walk came by. */
struct path {
    uint64_t *entries[EPT_LEVELS_MAX];
    uint64_t values[EPT_LEVELS_MAX];
    unsigned count;
    unsigned level;  /* of the last */
    uint64_t rights; /* that all of them have */
};

/* Down to the leaf, or to what is in its place. */
static uint64_t descend(const struct mmu_vcpu *vcpu, struct gfn gfn, struct path *path)
{
    uint64_t *table = vcpu->root;
    unsigned level = vcpu->mmu->levels;

    path->count = 0;
    path->rights = EPT_RIGHTS;
    for (;;) {
        uint64_t *entry = &table[level_index(level, gfn)];
        uint64_t value = entry_load(entry);

        path->entries[path->count] = entry;
        path->values[path->count] = value;
        path->count++;
        path->level = level;
        path->rights &= value;
        if (!entry_is_table(level, value)) {
            return value;
        }
        GM_POINT("walk-table");
        table = entry_table(value);
        level--;
    }
}

/* Set flags in one entry of the path. False: it has changed. */
static bool add_flags(struct path *path, unsigned index, uint64_t flags)
{
    uint64_t value = path->values[index];

    if ((value & flags) == flags) {
        return true;
    }
    path->values[index] = value | flags;
    return entry_replace(path->entries[index], &value, value | flags);
}

static bool set_accessed(struct path *path)
{
    for (unsigned i = 0; i < path->count; i++) {
        if (!add_flags(path, i, EPT_ACCESSED)) {
            return false;
        }
    }
    return true;
}

/* The leaf becomes dirty; the frame is noted after that, so that none is that did not. */
static bool set_dirty(struct mmu_vcpu *vcpu, struct path *path, struct gfn gfn)
{
    if ((path->values[path->count - 1] & EPT_DIRTY) != 0) {
        return true;
    }
    GM_POINT("walk-dirties");
    if (!add_flags(path, path->count - 1, EPT_DIRTY)) {
        return false;
    }
    if (vcpu->log_buffer != NULL) {
        if (vcpu->log_count == MMU_LOG_ENTRIES) {
            guest_drain_log(vcpu);
        }
        vcpu->log_buffer[vcpu->log_count] = gfn.value;
        vcpu->log_count++;
    }
    return true;
}

/* The host address of @gpa's byte behind a leaf. */
static uint8_t *leaf_host(uint64_t leaf, unsigned level, uint64_t gpa)
{
    return (uint8_t *)(uintptr_t)(entry_hva(leaf).value + gpa % level_bytes(level));
}

enum walk_result mmu_walk(struct mmu_vcpu *vcpu, uint64_t gpa, enum gm_mmu_access access,
                          struct walk *walk)
{
    struct gfn gfn = gfn_of(gpa);
    struct path path;

    if (gpa >> level_shift(vcpu->mmu->levels + 1) != 0) {
        return WALK_MMIO; /* beyond what tables can say, and so beyond all slots */
    }
    for (;;) {
        uint64_t leaf = descend(vcpu, gfn, &path);
        bool is_write = access == GM_MMU_WRITE;
        bool is_tracked = is_write && (leaf & (EPT_TRACKED | EPT_READ)) == (EPT_TRACKED | EPT_READ);

        GM_POINT("walk-leaf");
        if (entry_is_mmio(leaf)) {
            return leaf == entry_of_mmio(vcpu->generation) ? WALK_MMIO : WALK_VIOLATION;
        }
        if ((path.rights & entry_right_of(access)) == 0 && !is_tracked) {
            return WALK_VIOLATION;
        }
        if (!set_accessed(&path) || (is_write && !is_tracked && !set_dirty(vcpu, &path, gfn))) {
            continue;
        }
        leaf = path.values[path.count - 1];
        walk->host = leaf_host(leaf, path.level, gpa);
        walk->rights = path.rights & ((leaf & EPT_DIRTY) != 0 ? EPT_RIGHTS : ~EPT_WRITE);
        return is_tracked ? WALK_TRACKED : WALK_OK;
    }
}
