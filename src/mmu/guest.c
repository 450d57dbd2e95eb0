/* mmu/guest.c - going into guest mode and out of it; kicks; the log buffer. */
#include "mmu/guest.h"

#include "base/check.h"
#include "kcore/dirtylog.h"
#include "mmu/tlb.h"

/* At the next boundary the user is told. */
static void leave_if_ring_is_full(struct mmu_vcpu *vcpu)
{
    if (ring_is_soft_full(&vcpu->base.ring)) {
        kcore_vcpu_request(&vcpu->base, KCORE_REQUEST_LEAVE);
    }
}

void guest_mark_written(struct mmu_vcpu *vcpu, const struct memslot *slot, struct gfn gfn)
{
    bool marked = kcore_mark_dirty(vcpu->mmu->core, &vcpu->base, slot, gfn);

    GM_ASSERT(marked); /* an access begins only if the ring has room for its pages */
    leave_if_ring_is_full(vcpu);
}

void guest_drain_log(struct mmu_vcpu *vcpu)
{
    const struct memslots *slots;

    rcu_enter();
    slots = kcore_slots(vcpu->mmu->core, vcpu->space);
    for (uint32_t i = 0; i < vcpu->log_count; i++) {
        struct gfn gfn = {vcpu->log_buffer[i]};
        const struct memslot *slot = memslots_find(slots, gfn);

        if (slot != NULL && (slot->flags & MEMSLOT_LOG) != 0) {
            guest_mark_written(vcpu, slot, gfn);
        }
    }
    rcu_leave();
    vcpu->log_count = 0;
}

void guest_load_tables(struct mmu_vcpu *vcpu)
{
    struct mmu *mmu = vcpu->mmu;

    vcpu->root = atomic_load_explicit(&mmu->roots[vcpu->space], memory_order_acquire);
    vcpu->generation = mmu_generation(mmu);
    vcpu->space_generation = kcore_slots(mmu->core, vcpu->space)->generation;
}

void guest_enter(struct mmu_vcpu *vcpu)
{
    kcore_vcpu_enter(&vcpu->base);
    /* Slots change only while vCPUs are held: what is loaded holds until guest mode ends. */
    guest_load_tables(vcpu);
    if (flush_is_due(&vcpu->mmu->flush_log, vcpu->flush_done)) {
        tlb_replay(vcpu);
    }
    /* A fault may have filled it, and what it asked for was taken off as we came in. */
    leave_if_ring_is_full(vcpu);
}

void guest_enter_at_boundary(struct mmu_vcpu *vcpu)
{
    guest_enter(vcpu);
    vcpu->boundary_generation = mmu_newest_generation(vcpu->mmu);
}

bool guest_enter_again(struct mmu_vcpu *vcpu)
{
    guest_enter(vcpu);
    if (vcpu->boundary_generation == mmu_newest_generation(vcpu->mmu)) {
        return true;
    }
    guest_leave(vcpu);
    return false;
}

void guest_leave(struct mmu_vcpu *vcpu)
{
    if (vcpu->log_count != 0) {
        guest_drain_log(vcpu);
    }
    kcore_vcpu_leave(&vcpu->base);
}

bool guest_take_requests(struct mmu_vcpu *vcpu)
{
    const uint32_t which = KCORE_REQUEST_KICK | KCORE_REQUEST_EVENT;
    uint32_t requests = __atomic_fetch_and(&vcpu->face.requests, ~which, __ATOMIC_SEQ_CST) & which;

    vcpu->taken |= requests;
    return requests != 0;
}

enum gm_mmu_outcome guest_reason_to_stay(struct mmu_vcpu *vcpu)
{
    if (guest_take_requests(vcpu)) {
        return GM_MMU_KICKED;
    }
    if (ring_is_soft_full(&vcpu->base.ring)) {
        return GM_MMU_RING_FULL;
    }
    return GM_MMU_OK;
}

enum gm_mmu_outcome gm_mmu_enter(struct gm_mmu *mmu)
{
    struct mmu_vcpu *vcpu = mmu_vcpu_of(mmu);

    GM_ASSERT(!vcpu->base.in_guest);
    vcpu->exit.outcome = guest_reason_to_stay(vcpu);
    if (vcpu->exit.outcome == GM_MMU_OK) {
        guest_enter_at_boundary(vcpu);
    }
    return vcpu->exit.outcome;
}

void gm_mmu_leave(struct gm_mmu *mmu)
{
    struct mmu_vcpu *vcpu = mmu_vcpu_of(mmu);

    if (vcpu->base.in_guest) {
        guest_leave(vcpu);
    }
}

enum gm_mmu_outcome gm_mmu_boundary(struct gm_mmu *mmu)
{
    gm_mmu_leave(mmu);
    return gm_mmu_enter(mmu);
}

void gm_mmu_kick(struct gm_mmu *mmu)
{
    kcore_vcpu_request(&mmu_vcpu_of(mmu)->base, KCORE_REQUEST_KICK);
}

struct gm_mmu_exit *gm_mmu_exit(struct gm_mmu *mmu)
{
    return &mmu_vcpu_of(mmu)->exit;
}

void gm_mmu_flush_page(struct gm_mmu *mmu, gm_gpa_t gpa)
{
    struct mmu_vcpu *vcpu = mmu_vcpu_of(mmu);

    tlb_flush_page(vcpu, vcpu->space, gfn_of(gpa));
}
