/*
 * mmu/guest.h - going into guest mode and out of it.
 */
#ifndef MMU_GUEST_H
#define MMU_GUEST_H

#include "mmu/mmu.h"

/* Guest mode begins at a boundary: as guest_enter(), and whatever map is there is the one to see. */
void guest_enter_at_boundary(struct mmu_vcpu *vcpu);

/* Guest mode goes on within an instruction: false if the map has changed since its beginning; then guest
 * mode is left. */
bool guest_enter_again(struct mmu_vcpu *vcpu);

/* Guest mode begins: waits while vCPUs are held, then takes in what changed. What the vCPU is asked for
 * stays for the next boundary. */
void guest_enter(struct mmu_vcpu *vcpu);

/* Move what the vCPU is asked for, kicks and events, to vcpu->taken. Return: was there anything? */
bool guest_take_requests(struct mmu_vcpu *vcpu);

/* Why a vCPU may not go in now: a kick, which is taken, or a full ring; GM_MMU_OK: it may. */
enum gm_mmu_outcome guest_reason_to_stay(struct mmu_vcpu *vcpu);

/* What guest mode begins with, but for its TLB. */
void guest_load_tables(struct mmu_vcpu *vcpu);

/* Guest mode ends: what the log buffer has is in the log before. */
void guest_leave(struct mmu_vcpu *vcpu);

/* Bring the log buffer's frames into the log. In guest mode: who holds vCPUs finds it empty. */
void guest_drain_log(struct mmu_vcpu *vcpu);

/* A vCPU wrote a page of a slot that may be logged, in an entry that is writable by now, or by hand.
 * In a read section; in guest mode, as an installer, or as the taker. */
void guest_mark_written(struct mmu_vcpu *vcpu, const struct memslot *slot, struct gfn gfn);

#endif
