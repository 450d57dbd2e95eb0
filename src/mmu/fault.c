/*
 * mmu/fault.c - handling a violation.
 *
 * In two phases. First, with nothing held: the slot, and its host page is made present, which may take
 * long. Then, as an installer, that nothing has changed since, and the entry:
 *
 *   slots      the version is still the one that was looked in
 *   notifier   no invalidation of the page has begun or ended (kcore/notifier.h)
 *   rights     attributes and tracking are read here: who changes them is a taker afterwards
 *
 * A page that becomes writable in a logged slot is marked after its entry is (kcore/dirtylog.h).
 */
#include "mmu/fault.h"

#include "base/point.h"
#include "kcore/attributes.h"
#include "mmu/guest.h"
#include "mmu/host.h"
#include "mmu/install.h"
#include "mmu/large.h"
#include "mmu/reclaim.h"

#include <errno.h>
#include <sched.h>

static bool attributes_forbid(uint64_t attributes, enum gm_mmu_access access)
{
    switch (access) {
    case GM_MMU_READ:
        return (attributes & ATTRIBUTE_NO_READ) != 0;
    case GM_MMU_WRITE:
        return (attributes & ATTRIBUTE_NO_WRITE) != 0;
    default:
        return (attributes & ATTRIBUTE_NO_EXECUTE) != 0;
    }
}

bool fault_page_hva(const struct memslot *slot, struct gfn gfn, uint64_t attributes,
                    struct hva *hva)
{
    if ((attributes & ATTRIBUTE_PRIVATE) == 0) {
        *hva = memslot_hva(slot, gfn);
        return true;
    }
    hva->value = slot->private_hva.value + (memslot_page_of(slot, gfn) << PAGE_SHIFT_4K);
    return slot->private_hva.value != 0;
}

/*
 * Look everything up, in a read section. FAULT_FIXED: go on.
 */
static enum fault_result look_up(struct mmu_vcpu *vcpu, struct fault *fault,
                                 struct resolved *resolved)
{
    struct kcore *core = vcpu->mmu->core;
    const struct memslots *slots;
    const struct memslot *slot;

    resolved->token = notifier_token(&core->notifier);
    slots = kcore_slots(core, vcpu->space);
    slot = memslots_find(slots, fault->gfn);
    resolved->slots = slots;
    resolved->slot = slot;
    resolved->generation = slots->generation;
    fault->generation = slots->generation;
    if (slot == NULL) {
        return FAULT_FIXED;
    }
    if ((slot->flags & MEMSLOT_INVALID) != 0) {
        return FAULT_RETRY;
    }
    fault->attributes = kcore_attributes(core, fault->gfn);
    resolved->attributes = fault->attributes;
    if (attributes_forbid(fault->attributes, fault->access) ||
        !fault_page_hva(slot, fault->gfn, fault->attributes, &resolved->hva)) {
        return FAULT_DENIED;
    }
    if (fault->access == GM_MMU_WRITE && (slot->flags & MEMSLOT_READONLY) != 0) {
        return FAULT_REFUSED;
    }
    resolved->level = (fault->attributes & ATTRIBUTE_PRIVATE) != 0
                          ? 1
                          : slot_leaf_level(vcpu->mmu, slot, fault->gfn);
    resolved->backing_level = slot_backing_level(slot);
    resolved->host_kind = slot_host_kind(slot);
    resolved->slot_hva = slot->hva;
    resolved->slot_bytes = slot->page_count << PAGE_SHIFT_4K;
    return FAULT_FIXED;
}

/*
 * Make the host's page present, and find out its size. A leaf is not larger than that page, so one
 * page's presence is the whole leaf's.
 */
static int populate(struct mmu_vcpu *vcpu, const struct fault *fault, struct resolved *resolved)
{
    struct mmu *mmu = vcpu->mmu;
    int rc;

    if (resolved->level > 1) {
        if (resolved->backing_level == 0) {
            resolved->backing_level =
                slot_ask_backing(mmu, resolved->slot_hva, resolved->slot_bytes);
        }
        resolved->level =
            resolved->level < resolved->backing_level ? resolved->level : resolved->backing_level;
    }
    if (ahead_has(vcpu, fault, resolved)) {
        return 0;
    }
    rc = host_populate(resolved->hva, PAGE_BYTES_4K, fault->access == GM_MMU_WRITE);
    if (rc == 0) {
        ahead_go(vcpu, fault, resolved);
    }
    return rc;
}

uint64_t fault_leaf(const struct mmu *mmu, const struct resolved *resolved, uint64_t write)
{
    uint64_t rights = write;

    rights |= (resolved->attributes & ATTRIBUTE_NO_READ) == 0 ? EPT_READ : 0;
    rights |= (resolved->attributes & ATTRIBUTE_NO_EXECUTE) == 0 ? EPT_EXECUTE : 0;
    return resolved->hva.value | rights | EPT_IGNORE_PAT |
           (uint64_t)mmu->memory_type << EPT_TYPE_SHIFT;
}

unsigned fault_leaf_level(struct mmu *mmu, const struct fault *fault,
                          const struct resolved *resolved)
{
    unsigned allowed = resolved->level > 1 ? slot_leaf_level(mmu, resolved->slot, fault->gfn) : 1;

    return resolved->level < allowed ? resolved->level : allowed;
}

void fault_note_backing(const struct mmu *mmu, const struct resolved *resolved)
{
    if (notifier_is_active(&mmu->core->notifier)) {
        return;
    }
    if (resolved->backing_level != 0) {
        slot_remember_backing(resolved->slot, resolved->backing_level);
    }
    if (resolved->host_kind != HOST_KIND_UNKNOWN) {
        slot_remember_host_kind(resolved->slot, resolved->host_kind);
    }
}

static enum install_result install_page(struct mmu_vcpu *vcpu, struct fault *fault,
                                        const struct resolved *resolved)
{
    struct mmu *mmu = vcpu->mmu;
    const struct memslot *slot = resolved->slot;
    struct leaf leaf = {.gfn = fault->gfn, .level = fault_leaf_level(mmu, fault, resolved)};
    enum install_result result;
    uint64_t write = 0;

    if (fault->access == GM_MMU_WRITE) {
        write = slot_is_tracked(slot, fault->gfn) ? EPT_TRACKED : EPT_WRITE;
    }
    GM_POINT("fault-chose-rights");
    fault_note_backing(mmu, resolved);
    leaf.entry = fault_leaf(mmu, resolved, write);
    fault->level = leaf.level;
    result = install_leaf(vcpu, &leaf);
    if (result != INSTALL_NEEDS_TABLE && write == EPT_WRITE && !mmu->log_buffer &&
        (slot->flags & MEMSLOT_LOG) != 0) {
        guest_mark_written(vcpu, slot, fault->gfn);
    }
    return result;
}

bool fault_is_stale(const struct mmu_vcpu *vcpu, const struct fault *fault,
                    const struct resolved *resolved)
{
    struct kcore *core = vcpu->mmu->core;
    struct hva leaf_hva;
    uint64_t leaf_bytes;

    /* The pointer may be another version's by now; generations tell. */
    if (kcore_slots(core, vcpu->space) != resolved->slots ||
        resolved->slots->generation != resolved->generation) {
        return true;
    }
    if (resolved->slot == NULL) {
        return false;
    }
    leaf_bytes = level_bytes(resolved->level);
    leaf_hva.value = align_down(resolved->hva.value, leaf_bytes);
    return notifier_retry(&core->notifier, resolved->token, leaf_hva, leaf_bytes) ||
           kcore_attributes(core, fault->gfn) != resolved->attributes;
}

/* The second phase. *needs_table: fill the stock, and come again. */
static enum fault_result install(struct mmu_vcpu *vcpu, struct fault *fault,
                                 const struct resolved *resolved, bool *needs_table)
{
    enum install_result result = INSTALL_SPURIOUS;
    uint64_t generation;
    bool stale;

    gate_enter(&vcpu->mmu->installers, &vcpu->installer);
    rcu_enter();
    GM_POINT("fault-installing");
    /* Before the question: what comes after it must make the entry an old one. */
    generation = mmu_generation(vcpu->mmu);
    stale = fault_is_stale(vcpu, fault, resolved);
    GM_POINT("fault-checked");
    if (!stale) {
        result = resolved->slot == NULL ? install_mmio(vcpu, fault->gfn, generation)
                                        : install_page(vcpu, fault, resolved);
    }
    rcu_leave();
    gate_leave(&vcpu->mmu->installers, &vcpu->installer);
    GM_POINT("fault-installed");
    *needs_table = result == INSTALL_NEEDS_TABLE;
    if (stale) {
        return FAULT_RETRY;
    }
    count_up(result == INSTALL_SPURIOUS ? &vcpu->counts.faults_spurious
                                        : &vcpu->counts.faults_fixed,
             *needs_table ? 0 : 1);
    return FAULT_FIXED;
}

static enum fault_result fail(struct fault *fault, int error)
{
    fault->error = error;
    return FAULT_ERROR;
}

/* There is no host memory: for good, or is it being taken away, or put there, right now? */
static enum fault_result judge_error(struct mmu_vcpu *vcpu, struct fault *fault,
                                     const struct resolved *resolved, int error)
{
    struct notifier *notifier = &vcpu->mmu->core->notifier;

    return notifier_retry(notifier, resolved->token, resolved->hva, PAGE_BYTES_4K)
               ? FAULT_RETRY
               : fail(fault, error);
}

enum fault_result fault_resolve(struct mmu_vcpu *vcpu, struct fault *fault,
                                struct resolved *resolved)
{
    enum fault_result result;

    rcu_enter();
    result = look_up(vcpu, fault, resolved);
    rcu_leave();
    if (result == FAULT_FIXED && resolved->slot != NULL) {
        int rc = populate(vcpu, fault, resolved);

        result = rc == 0 ? FAULT_FIXED : judge_error(vcpu, fault, resolved, rc);
    }
    return result;
}

enum fault_result fault_handle(struct mmu_vcpu *vcpu, struct fault *fault)
{
    struct resolved resolved = {0};
    enum fault_result result;
    bool needs_table;

    count_up(&vcpu->counts.faults, 1);
    result = fault_resolve(vcpu, fault, &resolved);
    GM_POINT("fault-resolved");
    while (result == FAULT_FIXED) {
        int rc;

        result = install(vcpu, fault, &resolved, &needs_table);
        if (result != FAULT_FIXED || !needs_table) {
            break;
        }
        rc = reclaim_make_room(vcpu);
        result = rc != 0 ? fail(fault, rc) : FAULT_FIXED;
    }
    if (result == FAULT_RETRY) {
        count_up(&vcpu->counts.faults_retried, 1);
        sched_yield(); /* whoever changes what this needs may want this core */
    }
    return result;
}
