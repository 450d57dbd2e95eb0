/*
 * mmu/access.c - loads, stores and fetches that the TLB could not serve alone.
 *
 * An access is settled before any byte of it moves. A fault on the way leaves guest mode, so everything
 * may be different after it, and all parts are settled anew: what an access sees of the map is of one
 * moment, between two boundaries.
 */
#include "mmu/access.h"

#include "kcore/dirtylog.h"
#include "mmu/fault.h"
#include "mmu/guest.h"
#include "mmu/shadow_fault.h"
#include "mmu/tlb.h"
#include "mmu/walk.h"

#include <errno.h>

static void cut_into_parts(struct access *access, uint64_t address)
{
    unsigned offset = 0;

    access->part_count = 0;
    access->is_waiting = false;
    while (offset < access->size_bytes) {
        struct access_part *part = &access->parts[access->part_count];
        uint64_t left_in_page = PAGE_BYTES_4K - (address + offset) % PAGE_BYTES_4K;
        unsigned left = access->size_bytes - offset;

        part->linear = address + offset;
        part->gpa = address + offset;
        part->offset = offset;
        part->size_bytes = left < left_in_page ? left : (unsigned)left_in_page;
        part->refused_generation = 0;
        part->is_by_hand = false;
        offset += part->size_bytes;
        access->part_count++;
    }
}

void mmu_access_begin(struct mmu_vcpu *vcpu, enum gm_mmu_access kind, uint64_t gpa,
                      unsigned size_bytes)
{
    vcpu->access.kind = kind;
    vcpu->access.is_linear = false;
    vcpu->access.needs_gpas = false;
    vcpu->access.size_bytes = size_bytes;
    cut_into_parts(&vcpu->access, gpa);
}

void mmu_access_begin_linear(struct mmu_vcpu *vcpu, enum gm_mmu_access kind, enum gm_mmu_view view,
                             uint64_t linear, unsigned size_bytes)
{
    vcpu->access.kind = kind;
    vcpu->access.is_linear = true;
    vcpu->access.needs_gpas = false;
    vcpu->access.view = view;
    vcpu->access.size_bytes = size_bytes;
    cut_into_parts(&vcpu->access, linear);
}

/* Say why the access does not come to its end. Guest mode has been left. */
static enum gm_mmu_outcome set_exit(struct mmu_vcpu *vcpu, enum gm_mmu_outcome outcome,
                                    uint64_t gpa, unsigned size_bytes)
{
    vcpu->exit.outcome = outcome;
    vcpu->exit.access = vcpu->access.kind;
    vcpu->exit.gpa = gpa;
    vcpu->exit.size_bytes = size_bytes;
    return outcome;
}

enum gm_mmu_outcome mmu_access_fail(struct mmu_vcpu *vcpu, int error)
{
    gm_mmu_leave(&vcpu->face);
    vcpu->exit.error = error;
    return set_exit(vcpu, GM_MMU_ERROR, 0, 0);
}

enum settled mmu_access_end(struct mmu_vcpu *vcpu, enum gm_mmu_outcome outcome,
                            const struct access_part *part)
{
    gm_mmu_leave(&vcpu->face);
    vcpu->exit.linear = part->linear;
    (void)set_exit(vcpu, outcome, part->gpa, part->size_bytes);
    return ENDED;
}

enum settled mmu_access_come_again(struct mmu_vcpu *vcpu, const struct access_part *part)
{
    vcpu->exit.outcome = guest_reason_to_stay(vcpu);
    if (vcpu->exit.outcome != GM_MMU_OK) {
        return ENDED;
    }
    return guest_enter_again(vcpu) ? SETTLE_AGAIN : mmu_access_end(vcpu, GM_MMU_RESTART, part);
}

/* Has an earlier access of the instruction, or part of this one, come out as MMIO? Then KVM's emulator makes the
 * access, for which all that is no usable memory is MMIO; before, the processor's own fault on bad memory ends it. */
static bool is_emulated(const struct mmu_vcpu *vcpu, const struct access_part *part)
{
    const struct access *access = &vcpu->access;

    return vcpu->face.is_emulated ||
           (part == &access->parts[1] && access->parts[0].kind == PART_MMIO);
}

/* The walk found no right: KVM's side. */
static enum settled handle_violation(struct mmu_vcpu *vcpu, struct access_part *part,
                                     enum gm_mmu_access kind)
{
    struct fault fault = {.gfn = gfn_of(part->gpa), .access = kind};

    guest_leave(vcpu);
    switch (fault_handle(vcpu, &fault)) {
    case FAULT_FIXED:
        break;
    case FAULT_RETRY:
        return mmu_access_come_again(vcpu, part); /* perhaps for long */
    case FAULT_REFUSED:
        part->refused_generation = fault.generation;
        break;
    case FAULT_DENIED:
        vcpu->exit.attributes = fault.attributes;
        return mmu_access_end(vcpu, GM_MMU_DENIED, part);
    case FAULT_ERROR:
        if (fault.error == -EFAULT && is_emulated(vcpu, part)) {
            part->refused_generation = fault.generation;
            break;
        }
        vcpu->exit.error = fault.error;
        return mmu_access_end(vcpu, GM_MMU_ERROR, part);
    }
    return guest_enter_again(vcpu) ? SETTLE_AGAIN : mmu_access_end(vcpu, GM_MMU_RESTART, part);
}

enum settled mmu_access_settle_page(struct mmu_vcpu *vcpu, struct access_part *part,
                                    enum gm_mmu_access kind, uint64_t *rights)
{
    struct walk walk;

    part->kind = PART_MEMORY;
    if (part->refused_generation != 0 && part->refused_generation == vcpu->space_generation) {
        part->kind = PART_MMIO;
        return SETTLED;
    }
    switch (mmu_walk(vcpu, part->gpa, kind, &walk)) {
    case WALK_OK:
        break;
    case WALK_TRACKED:
        part->kind = PART_TRACKED;
        break;
    case WALK_MMIO:
        part->kind = PART_MMIO;
        return SETTLED;
    case WALK_VIOLATION:
        return handle_violation(vcpu, part, kind);
    }
    part->host = walk.host;
    *rights = walk.rights;
    return SETTLED;
}

static enum settled settle_part(struct mmu_vcpu *vcpu, struct access_part *part)
{
    const struct access *access = &vcpu->access;
    uint64_t tag = access->is_linear ? vcpu->face.view_tags[access->view] : vcpu->face.tag;
    uint64_t address = access->is_linear ? part->linear : part->gpa;
    unsigned view_rights = EPT_RIGHTS;
    enum settled settled = SETTLED;
    uint64_t rights = 0;

    part->host = gm_tlb_hit(&vcpu->face, tag, address, part->size_bytes, access->kind);
    if (part->host != NULL && !(access->is_linear && access->needs_gpas)) {
        part->kind = PART_MEMORY;
        return SETTLED;
    }
    if (access->is_linear && vcpu->mmu->shadow.is_on && !access->needs_gpas &&
        vcpu->linear.mode != PAGING_NONE) {
        return shadow_settle(vcpu, part);
    }
    if (access->is_linear) {
        settled = linear_translate(vcpu, part, &view_rights);
    }
    if (settled == SETTLED) {
        settled = mmu_access_settle_page(vcpu, part, access->kind, &rights);
    }
    if (settled == SETTLED && part->kind != PART_MMIO) {
        tlb_fill(vcpu, tag, address, part->host, rights & view_rights);
    }
    return settled;
}

/* Pages that one access can make dirty: its own, and the tables that it is translated by. */
#define DIRTIED_MAX (ACCESS_PARTS_MAX * (1 + PAGING_LEVELS_MAX))

enum gm_mmu_outcome mmu_access_settle(struct mmu_vcpu *vcpu)
{
    struct access *access = &vcpu->access;
    unsigned count = 0;

    while (count < access->part_count) {
        /* Before anything becomes dirty that the ring could not take. It comes to this only without
         * boundaries: at those the ring is full while much is left. */
        if (!ring_has_room(&vcpu->base.ring, vcpu->log_count + DIRTIED_MAX)) {
            gm_mmu_leave(&vcpu->face);
            return set_exit(vcpu, GM_MMU_RING_FULL, access->parts[0].gpa, access->size_bytes);
        }
        switch (settle_part(vcpu, &access->parts[count])) {
        case SETTLED:
            count++;
            break;
        case SETTLE_AGAIN:
            count = 0;
            break;
        case ENDED:
            return vcpu->exit.outcome;
        }
    }
    return GM_MMU_OK;
}

bool mmu_access_has(const struct access *access, enum part_kind kind)
{
    for (unsigned i = 0; i < access->part_count; i++) {
        if (access->parts[i].kind == kind) {
            return true;
        }
    }
    return false;
}

void mmu_access_mark_part(struct mmu_vcpu *vcpu, const struct access_part *part)
{
    struct gfn gfn = gfn_of(part->gpa);
    const struct memslot *slot;

    rcu_enter();
    slot = memslots_find(kcore_slots(vcpu->mmu->core, vcpu->space), gfn);
    if (slot != NULL && (slot->flags & MEMSLOT_LOG) != 0) {
        guest_mark_written(vcpu, slot, gfn);
    }
    rcu_leave();
}

void mmu_access_tell_part(struct mmu_vcpu *vcpu, const struct access_part *part)
{
    /* Acquire; pairs with the release in mmu_set_tracker(). */
    struct mmu *mmu = vcpu->mmu;
    mmu_written_fn *written = atomic_load_explicit(&mmu->written, memory_order_acquire);

    if (written != NULL && mmu_is_tracked(mmu, vcpu->space, gfn_of(part->gpa))) {
        written(mmu->written_opaque, part->gpa, part->size_bytes);
    }
}

void mmu_access_mark_tracked(struct mmu_vcpu *vcpu)
{
    const struct access *access = &vcpu->access;

    for (unsigned i = 0; i < access->part_count; i++) {
        if (access->parts[i].kind == PART_TRACKED) {
            mmu_access_mark_part(vcpu, &access->parts[i]);
        }
    }
}

/* Shadow tables come first: who flushes waits for them, and users' functions may take their time. */
void mmu_access_tell_trackers(struct mmu_vcpu *vcpu)
{
    const struct access *access = &vcpu->access;
    struct mmu *mmu = vcpu->mmu;

    if (!mmu_access_has(access, PART_TRACKED)) {
        return;
    }
    for (unsigned i = 0; i < access->part_count && mmu->shadow.is_on; i++) {
        const struct access_part *part = &access->parts[i];

        if (part->kind == PART_TRACKED) {
            shadow_written(mmu, vcpu->space, part->gpa, part->size_bytes);
        }
    }
    shadow_end_write(&mmu->shadow);
    for (unsigned i = 0; i < access->part_count; i++) {
        if (access->parts[i].kind == PART_TRACKED) {
            mmu_access_tell_part(vcpu, &access->parts[i]);
        }
    }
}

void mmu_access_begin_tracked(struct mmu_vcpu *vcpu)
{
    if (mmu_access_has(&vcpu->access, PART_TRACKED)) {
        shadow_begin_write(&vcpu->mmu->shadow);
    }
}

/* The next MMIO part from @from on becomes the exit. False: there is none. */
static bool wait_for_mmio(struct mmu_vcpu *vcpu, unsigned from)
{
    struct access *access = &vcpu->access;

    for (unsigned i = from; i < access->part_count; i++) {
        const struct access_part *part = &access->parts[i];

        if (part->kind == PART_MMIO) {
            access->is_waiting = access->kind != GM_MMU_FETCH;
            access->waiting_part = i;
            memset(vcpu->exit.data, 0, sizeof(vcpu->exit.data));
            if (access->kind == GM_MMU_WRITE) {
                memcpy(vcpu->exit.data, access->bytes + part->offset, part->size_bytes);
            }
            count_up(&vcpu->counts.mmio, 1);
            (void)set_exit(vcpu, GM_MMU_MMIO, part->gpa, part->size_bytes);
            return true;
        }
    }
    access->is_waiting = false;
    return false;
}

/* Copy between the access and those of its parts that are memory. */
static void move_memory(struct access *access)
{
    for (unsigned i = 0; i < access->part_count; i++) {
        const struct access_part *part = &access->parts[i];

        if (part->kind == PART_MMIO) {
            continue;
        }
        if (access->kind == GM_MMU_WRITE) {
            gm_host_write(part->host, access->bytes + part->offset, part->size_bytes);
        } else {
            gm_host_read(access->bytes + part->offset, part->host, part->size_bytes);
        }
    }
}

enum gm_mmu_outcome mmu_access_write(struct mmu_vcpu *vcpu)
{
    struct access *access = &vcpu->access;

    mmu_access_begin_tracked(vcpu);
    if (access->part_count == 1 && access->parts[0].kind != PART_MMIO) {
        uint64_t value;

        memcpy(&value, access->bytes, sizeof(value));
        gm_host_store(access->parts[0].host, value, access->size_bytes);
    } else {
        move_memory(access);
    }
    if (!mmu_access_has(access, PART_TRACKED) && !mmu_access_has(access, PART_MMIO)) {
        return GM_MMU_OK;
    }
    mmu_access_mark_tracked(vcpu);
    guest_leave(vcpu);
    mmu_access_tell_trackers(vcpu);
    if (wait_for_mmio(vcpu, 0)) {
        return GM_MMU_MMIO;
    }
    guest_enter_at_boundary(vcpu);
    return GM_MMU_OK;
}

static bool is_word(unsigned size_bytes)
{
    return size_bytes == 1 || size_bytes == 2 || size_bytes == 4 || size_bytes == 8;
}

/* Settled, a read: do it. */
static enum gm_mmu_outcome access_read(struct mmu_vcpu *vcpu)
{
    struct access *access = &vcpu->access;

    if (access->part_count == 1 && access->parts[0].kind != PART_MMIO &&
        is_word(access->size_bytes)) {
        uint64_t value = gm_host_load(access->parts[0].host, access->size_bytes);

        memcpy(access->bytes, &value, sizeof(value));
        return GM_MMU_OK;
    }
    move_memory(access);
    if (mmu_access_has(access, PART_MMIO)) {
        guest_leave(vcpu);
        (void)wait_for_mmio(vcpu, 0);
        return GM_MMU_MMIO;
    }
    return GM_MMU_OK;
}

static uint64_t word_of(const struct access *access)
{
    uint64_t value = 0;

    memcpy(&value, access->bytes, access->size_bytes);
    return value;
}

/* The access that has begun, a load. */
static enum gm_mmu_outcome load(struct mmu_vcpu *vcpu, uint64_t *value)
{
    const struct access *access = &vcpu->access;
    enum gm_mmu_outcome outcome = mmu_access_settle(vcpu);

    if (outcome != GM_MMU_OK) {
        return outcome;
    }
    if (access->part_count == 1 && access->parts[0].kind == PART_MEMORY) {
        *value = gm_host_load(access->parts[0].host, access->size_bytes);
        return GM_MMU_OK;
    }
    outcome = access_read(vcpu);
    if (outcome == GM_MMU_OK) {
        *value = word_of(access);
    }
    return outcome;
}

/* A store. */
static enum gm_mmu_outcome store(struct mmu_vcpu *vcpu, uint64_t value)
{
    enum gm_mmu_outcome outcome;

    memcpy(vcpu->access.bytes, &value, sizeof(value));
    outcome = mmu_access_settle(vcpu);
    return outcome == GM_MMU_OK ? mmu_access_write(vcpu) : outcome;
}

/* A fetch. */
static enum gm_mmu_outcome fetch(struct mmu_vcpu *vcpu, void *bytes)
{
    enum gm_mmu_outcome outcome = mmu_access_settle(vcpu);

    if (outcome == GM_MMU_OK) {
        outcome = access_read(vcpu);
    }
    if (outcome == GM_MMU_OK) {
        memcpy(bytes, vcpu->access.bytes, vcpu->access.size_bytes);
    }
    return outcome;
}

enum gm_mmu_outcome gm_mmu_load_slow(struct gm_mmu *mmu, gm_gpa_t gpa, unsigned size_bytes,
                                     uint64_t *value)
{
    struct mmu_vcpu *vcpu = mmu_vcpu_of(mmu);

    if (!is_word(size_bytes) || !vcpu->base.in_guest) {
        return mmu_access_fail(vcpu, -EINVAL);
    }
    mmu_access_begin(vcpu, GM_MMU_READ, gpa, size_bytes);
    return load(vcpu, value);
}

enum gm_mmu_outcome gm_mmu_load_linear_slow(struct gm_mmu *mmu, uint64_t linear,
                                            unsigned size_bytes, enum gm_mmu_view view,
                                            uint64_t *value)
{
    struct mmu_vcpu *vcpu = mmu_vcpu_of(mmu);

    if (!is_word(size_bytes) || !vcpu->base.in_guest) {
        return mmu_access_fail(vcpu, -EINVAL);
    }
    mmu_access_begin_linear(vcpu, GM_MMU_READ, view, linear, size_bytes);
    return load(vcpu, value);
}

enum gm_mmu_outcome gm_mmu_store_slow(struct gm_mmu *mmu, gm_gpa_t gpa, unsigned size_bytes,
                                      uint64_t value)
{
    struct mmu_vcpu *vcpu = mmu_vcpu_of(mmu);

    if (!is_word(size_bytes) || !vcpu->base.in_guest) {
        return mmu_access_fail(vcpu, -EINVAL);
    }
    mmu_access_begin(vcpu, GM_MMU_WRITE, gpa, size_bytes);
    return store(vcpu, value);
}

enum gm_mmu_outcome gm_mmu_store_linear_slow(struct gm_mmu *mmu, uint64_t linear,
                                             unsigned size_bytes, enum gm_mmu_view view,
                                             uint64_t value)
{
    struct mmu_vcpu *vcpu = mmu_vcpu_of(mmu);

    if (!is_word(size_bytes) || !vcpu->base.in_guest) {
        return mmu_access_fail(vcpu, -EINVAL);
    }
    mmu_access_begin_linear(vcpu, GM_MMU_WRITE, view, linear, size_bytes);
    return store(vcpu, value);
}

static bool is_fetch(const struct mmu_vcpu *vcpu, unsigned size_bytes)
{
    return size_bytes != 0 && size_bytes <= ACCESS_BYTES_MAX && vcpu->base.in_guest;
}

enum gm_mmu_outcome gm_mmu_fetch(struct gm_mmu *mmu, gm_gpa_t gpa, unsigned size_bytes, void *bytes)
{
    struct mmu_vcpu *vcpu = mmu_vcpu_of(mmu);

    if (!is_fetch(vcpu, size_bytes)) {
        return mmu_access_fail(vcpu, -EINVAL);
    }
    mmu_access_begin(vcpu, GM_MMU_FETCH, gpa, size_bytes);
    return fetch(vcpu, bytes);
}

enum gm_mmu_outcome gm_mmu_fetch_linear(struct gm_mmu *mmu, uint64_t linear, unsigned size_bytes,
                                        enum gm_mmu_view view, void *bytes)
{
    struct mmu_vcpu *vcpu = mmu_vcpu_of(mmu);

    if (!is_fetch(vcpu, size_bytes)) {
        return mmu_access_fail(vcpu, -EINVAL);
    }
    mmu_access_begin_linear(vcpu, GM_MMU_FETCH, view, linear, size_bytes);
    return fetch(vcpu, bytes);
}

enum gm_mmu_outcome gm_mmu_resume(struct gm_mmu *mmu, uint64_t *value)
{
    struct mmu_vcpu *vcpu = mmu_vcpu_of(mmu);
    struct access *access = &vcpu->access;
    const struct access_part *part;

    if (!access->is_waiting || vcpu->base.in_guest) {
        return mmu_access_fail(vcpu, -EINVAL);
    }
    part = &access->parts[access->waiting_part];
    if (access->kind == GM_MMU_READ) {
        memcpy(access->bytes + part->offset, vcpu->exit.data, part->size_bytes);
    }
    if (wait_for_mmio(vcpu, access->waiting_part + 1)) {
        return GM_MMU_MMIO;
    }
    if (access->kind == GM_MMU_READ && value != NULL) {
        *value = word_of(access);
    }
    guest_enter_at_boundary(vcpu);
    return GM_MMU_OK;
}
