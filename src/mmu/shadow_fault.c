/* mmu/shadow_fault.c - a linear access by shadow tables. */
#include "mmu/shadow_fault.h"

#include "base/point.h"
#include "mmu/access.h"
#include "mmu/fault.h"
#include "mmu/guest.h"
#include "mmu/guestwalk.h"
#include "mmu/reclaim.h"
#include "mmu/shadow_page.h"
#include "mmu/tlb.h"

#include <errno.h>
#include <sched.h>

/* In guest mode again, after something was done outside. */
static enum settled go_on(struct mmu_vcpu *vcpu, const struct access_part *part)
{
    return guest_enter_again(vcpu) ? SETTLE_AGAIN : mmu_access_end(vcpu, GM_MMU_RESTART, part);
}

/* Something changes meanwhile, perhaps for long: let a kick through. */
static enum settled try_again(struct mmu_vcpu *vcpu, const struct access_part *part)
{
    count_up(&vcpu->counts.faults_retried, 1);
    sched_yield();
    vcpu->exit.outcome = guest_reason_to_stay(vcpu);
    return vcpu->exit.outcome == GM_MMU_OK ? go_on(vcpu, part) : ENDED;
}

static enum shadow_map_result map_stocked(struct mmu_vcpu *vcpu,
                                          const struct shadow_request *request)
{
    for (;;) {
        enum shadow_map_result result = shadow_map(vcpu, request);

        if (result != SHADOW_MAP_NO_STOCK) {
            return result;
        }
        if (reclaim_make_room(vcpu) != 0 || shadow_stock_fill(vcpu) != 0) {
            return SHADOW_MAP_NO_MEMORY;
        }
    }
}

/*
 * Find the page that the guest's tables lead to, and map it. What is no plain memory, or must not be touched, is
 * left to the access by physical address, which knows how to say so.
 */
static enum shadow_map_result resolve_and_map(struct mmu_vcpu *vcpu, struct shadow_request *request)
{
    struct resolved resolved = {0};

    request->resolved = &resolved;
    switch (fault_resolve(vcpu, request->fault, &resolved)) {
    case FAULT_FIXED:
        break;
    case FAULT_RETRY:
        return SHADOW_MAP_RETRY;
    default:
        return SHADOW_MAP_BY_HAND;
    }
    GM_POINT("shadow-resolved");
    if (resolved.generation != vcpu->space_generation) {
        return SHADOW_MAP_RETRY;
    }
    return resolved.slot != NULL ? map_stocked(vcpu, request) : SHADOW_MAP_BY_HAND;
}

/* KVM's side. Leaves guest mode. */
static enum settled handle_fault(struct mmu_vcpu *vcpu, struct access_part *part,
                                 const struct guestwalk *walk, uint64_t token)
{
    struct fault fault = {.gfn = gfn_of(part->gpa), .access = vcpu->access.kind};
    struct shadow_request request = {
        .linear = part->linear, .walk = walk, .token = token, .fault = &fault};

    guest_leave(vcpu);
    count_up(&vcpu->counts.faults, 1);
    switch (resolve_and_map(vcpu, &request)) {
    case SHADOW_MAP_DONE:
        count_up(&vcpu->counts.faults_fixed, 1);
        return go_on(vcpu, part);
    case SHADOW_MAP_BY_HAND:
        part->is_by_hand = true;
        part->by_hand = fault.gfn;
        return go_on(vcpu, part);
    case SHADOW_MAP_NO_MEMORY:
        vcpu->exit.error = -ENOMEM;
        return mmu_access_end(vcpu, GM_MMU_ERROR, part);
    default:
        return try_again(vcpu, part);
    }
}

enum settled shadow_settle(struct mmu_vcpu *vcpu, struct access_part *part)
{
    const struct access *access = &vcpu->access;
    uint64_t token = notifier_token(&vcpu->mmu->core->notifier);
    unsigned view_rights;
    enum settled settled;
    struct guestwalk walk;
    uint64_t rights = 0;

    if (!paging_is_canonical(vcpu->linear.paging, part->linear)) {
        return mmu_access_end(vcpu, GM_MMU_PROTECTION, part);
    }
    if (shadow_root_is_due(vcpu)) {
        guest_leave(vcpu);
        shadow_root_refresh(vcpu);
        return go_on(vcpu, part);
    }
    if (shadow_walk(vcpu, part->linear, access->kind, access->view, &part->host, &view_rights)) {
        part->kind = PART_MEMORY;
        tlb_fill(vcpu, vcpu->face.view_tags[access->view], part->linear, part->host, view_rights);
        return SETTLED;
    }
    settled = linear_walk(vcpu, part, &walk);
    if (settled != SETTLED) {
        return settled;
    }
    if (part->is_by_hand && part->by_hand.value == gfn_of(part->gpa).value) {
        return mmu_access_settle_page(vcpu, part, access->kind, &rights);
    }
    return handle_fault(vcpu, part, &walk, token);
}
