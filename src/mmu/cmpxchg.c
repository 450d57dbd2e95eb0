/*
 * mmu/cmpxchg.c - compare and exchange: by the host's own where the operand is aligned, else with all
 * vCPUs held, as a processor locks the bus.
 */
#include "mmu/access.h"
#include "mmu/guest.h"
#include "mmu/walk.h"

#include <errno.h>

void mmu_exchange_aligned(void *host, unsigned size_bytes, uint64_t *expected, uint64_t desired)
{
    uint8_t byte = (uint8_t)*expected;
    uint16_t half = (uint16_t)*expected;
    uint32_t word = (uint32_t)*expected;

    switch (size_bytes) {
    case 1:
        (void)__atomic_compare_exchange_n((uint8_t *)host, &byte, (uint8_t)desired, false,
                                          __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
        *expected = byte;
        break;
    case 2:
        (void)__atomic_compare_exchange_n((uint16_t *)host, &half, (uint16_t)desired, false,
                                          __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
        *expected = half;
        break;
    case 4:
        (void)__atomic_compare_exchange_n((uint32_t *)host, &word, (uint32_t)desired, false,
                                          __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
        *expected = word;
        break;
    default:
        (void)__atomic_compare_exchange_n((uint64_t *)host, expected, desired, false,
                                          __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
        break;
    }
}

/* The parts' host addresses once more, with vCPUs held, as the taker. False: a part is not there any
 * more. */
static bool walk_held(struct mmu_vcpu *vcpu)
{
    struct access *access = &vcpu->access;

    guest_load_tables(vcpu);
    for (unsigned i = 0; i < access->part_count; i++) {
        struct access_part *part = &access->parts[i];
        struct walk walk;
        enum walk_result result = mmu_walk(vcpu, part->gpa, GM_MMU_WRITE, &walk);

        if (result != WALK_OK && result != WALK_TRACKED) {
            return false;
        }
        part->kind = result == WALK_OK ? PART_MEMORY : PART_TRACKED;
        part->host = walk.host;
    }
    return true;
}

/* Compare and exchange bytes that no vCPU touches meanwhile. */
static void exchange_parts(const struct access *access, uint64_t *expected, uint64_t desired)
{
    uint64_t value = 0;
    uint64_t mask =
        access->size_bytes == 8 ? UINT64_MAX : (UINT64_C(1) << (8 * access->size_bytes)) - 1;

    for (unsigned i = 0; i < access->part_count; i++) {
        gm_host_read((uint8_t *)&value + access->parts[i].offset, access->parts[i].host,
                     access->parts[i].size_bytes);
    }
    if (value == (*expected & mask)) {
        for (unsigned i = 0; i < access->part_count; i++) {
            gm_host_write(access->parts[i].host, (uint8_t *)&desired + access->parts[i].offset,
                          access->parts[i].size_bytes);
        }
    }
    *expected = value;
}

/*
 * With all vCPUs held, and as the taker: vCPUs that hold each other out do this one after the other, and
 * no page goes meanwhile. False: one had gone before. Leaves guest mode.
 */
static bool exchange_held(struct mmu_vcpu *vcpu, uint64_t *expected, uint64_t desired)
{
    struct mmu *mmu = vcpu->mmu;
    struct mmu_locked locked;
    bool done;

    guest_leave(vcpu);
    kcore_hold(mmu->core);
    locked = mmu_lock(mmu);
    done = walk_held(vcpu);
    if (done) {
        mmu_access_begin_tracked(vcpu);
        exchange_parts(&vcpu->access, expected, desired);
        mmu_access_mark_tracked(vcpu);
    }
    mmu_unlock(locked);
    kcore_release(mmu->core);
    return done;
}

/* The access that has begun, a write of @desired. */
static enum gm_mmu_outcome exchange(struct mmu_vcpu *vcpu, uint64_t *expected, uint64_t desired)
{
    struct access *access = &vcpu->access;
    bool is_aligned = (access->parts[0].linear & (access->size_bytes - 1)) == 0;
    enum gm_mmu_outcome outcome;

    memcpy(access->bytes, &desired, sizeof(desired));
    access->needs_gpas = !is_aligned;
    for (;;) {
        outcome = mmu_access_settle(vcpu);
        if (outcome != GM_MMU_OK) {
            return outcome;
        }
        if (mmu_access_has(access, PART_MMIO)) {
            return mmu_access_write(vcpu);
        }
        if (is_aligned) {
            break;
        }
        if (exchange_held(vcpu, expected, desired)) {
            mmu_access_tell_trackers(vcpu);
            guest_enter_at_boundary(vcpu);
            return GM_MMU_OK;
        }
        if (!guest_enter_again(vcpu)) {
            (void)mmu_access_end(vcpu, GM_MMU_RESTART, access->parts);
            return GM_MMU_RESTART;
        }
    }
    mmu_access_begin_tracked(vcpu);
    mmu_exchange_aligned(access->parts[0].host, access->size_bytes, expected, desired);
    if (access->parts[0].kind == PART_TRACKED) {
        mmu_access_mark_tracked(vcpu);
        guest_leave(vcpu);
        mmu_access_tell_trackers(vcpu);
        guest_enter_at_boundary(vcpu);
    }
    return GM_MMU_OK;
}

static bool is_word(const struct mmu_vcpu *vcpu, unsigned size_bytes)
{
    return size_bytes != 0 && size_bytes <= 8 && (size_bytes & (size_bytes - 1)) == 0 &&
           vcpu->base.in_guest;
}

enum gm_mmu_outcome gm_mmu_cmpxchg(struct gm_mmu *mmu, gm_gpa_t gpa, unsigned size_bytes,
                                   uint64_t *expected, uint64_t desired)
{
    struct mmu_vcpu *vcpu = mmu_vcpu_of(mmu);

    if (!is_word(vcpu, size_bytes)) {
        return mmu_access_fail(vcpu, -EINVAL);
    }
    mmu_access_begin(vcpu, GM_MMU_WRITE, gpa, size_bytes);
    return exchange(vcpu, expected, desired);
}

enum gm_mmu_outcome gm_mmu_cmpxchg_linear(struct gm_mmu *mmu, uint64_t linear, unsigned size_bytes,
                                          enum gm_mmu_view view, uint64_t *expected,
                                          uint64_t desired)
{
    struct mmu_vcpu *vcpu = mmu_vcpu_of(mmu);

    if (!is_word(vcpu, size_bytes)) {
        return mmu_access_fail(vcpu, -EINVAL);
    }
    mmu_access_begin_linear(vcpu, GM_MMU_WRITE, view, linear, size_bytes);
    return exchange(vcpu, expected, desired);
}
