/*
 * unit/soft_rig.h - a software VM for tests: some memory, one vCPU, and one-line helpers.
 * Everything that fails fails the test.
 */
#ifndef UNIT_SOFT_RIG_H
#define UNIT_SOFT_RIG_H

#include <guestmem/soft_ioctl.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>

#include <cmocka.h>

#define PAGE 4096u
#define RIG_BYTES (256u * PAGE)

struct rig {
    struct gm_soft *soft;
    struct gm_soft_vcpu *vcpu;
    struct gm_mmu *mmu;
    uint8_t *memory;
};

static inline struct rig rig_new_without_vcpu(const struct gm_soft_options *options)
{
    struct rig rig = {0};

    assert_int_equal(gm_soft_open(options, &rig.soft, NULL), 0);
    rig.memory = mmap(NULL, RIG_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    assert_true(rig.memory != MAP_FAILED);
    return rig;
}

static inline void rig_add_vcpu(struct rig *rig)
{
    assert_int_equal(gm_soft_vcpu_new(rig->soft, 0, &rig->vcpu), 0);
    rig->mmu = gm_soft_vcpu_mmu(rig->vcpu);
}

static inline struct rig rig_new(const struct gm_soft_options *options)
{
    struct rig rig = rig_new_without_vcpu(options);

    rig_add_vcpu(&rig);
    return rig;
}

static inline void rig_free(struct rig *rig)
{
    gm_soft_vcpu_free(rig->vcpu);
    assert_int_equal(gm_soft_close(rig->soft), 0);
    munmap(rig->memory, RIG_BYTES);
}

static inline long rig_call(struct rig *rig, unsigned long request, const void *argument)
{
    return gm_soft_vm_ioctl(rig->soft, request, (unsigned long)argument);
}

static inline long rig_call_number(struct rig *rig, unsigned long request, uint64_t argument)
{
    return gm_soft_vm_ioctl(rig->soft, request, argument);
}

/* KVM_SET_USER_MEMORY_REGION, of memory at an offset. */
static inline long rig_set(struct rig *rig, uint32_t slot, uint32_t flags, uint64_t gpa,
                           uint64_t size_bytes, uint64_t offset)
{
    const struct kvm_userspace_memory_region region = {
        .slot = slot,
        .flags = flags,
        .guest_phys_addr = gpa,
        .memory_size = size_bytes,
        .userspace_addr = (uintptr_t)rig->memory + offset,
    };

    return rig_call(rig, KVM_SET_USER_MEMORY_REGION, &region);
}

static inline long rig_enable(struct rig *rig, uint32_t cap, uint64_t argument)
{
    const struct kvm_enable_cap enable = {.cap = cap, .args = {argument}};

    return rig_call(rig, KVM_ENABLE_CAP, &enable);
}

static inline long rig_get_log(struct rig *rig, uint32_t slot, void *bitmap)
{
    const struct kvm_dirty_log log = {.slot = slot, .dirty_bitmap = bitmap};

    return rig_call(rig, KVM_GET_DIRTY_LOG, &log);
}

/* A load or store in guest mode of its own; leaves guest mode where it did not leave by itself. */
static inline enum gm_mmu_outcome rig_load_as(struct rig *rig, uint64_t gpa, unsigned size_bytes,
                                              uint64_t *value)
{
    enum gm_mmu_outcome outcome = gm_mmu_enter(rig->mmu);

    if (outcome == GM_MMU_OK) {
        outcome = gm_mmu_load(rig->mmu, gpa, size_bytes, value);
    }
    if (outcome == GM_MMU_OK) {
        gm_mmu_leave(rig->mmu);
    }
    return outcome;
}

static inline enum gm_mmu_outcome rig_store_as(struct rig *rig, uint64_t gpa, unsigned size_bytes,
                                               uint64_t value)
{
    enum gm_mmu_outcome outcome = gm_mmu_enter(rig->mmu);

    if (outcome == GM_MMU_OK) {
        outcome = gm_mmu_store(rig->mmu, gpa, size_bytes, value);
    }
    if (outcome == GM_MMU_OK) {
        gm_mmu_leave(rig->mmu);
    }
    return outcome;
}

static inline uint64_t rig_load(struct rig *rig, uint64_t gpa)
{
    uint64_t value = 0;

    assert_int_equal(rig_load_as(rig, gpa, 8, &value), GM_MMU_OK);
    return value;
}

static inline void rig_store(struct rig *rig, uint64_t gpa, uint64_t value)
{
    assert_int_equal(rig_store_as(rig, gpa, 8, value), GM_MMU_OK);
}

/* The word of the host's memory at an offset. */
static inline uint64_t *rig_word(struct rig *rig, uint64_t offset)
{
    return (uint64_t *)(void *)(rig->memory + offset);
}

/* A tracker that remembers: each write has to be of a word. */
struct told {
    unsigned count;
    uint64_t gpa;
};

static inline void rig_on_written(void *opaque, gm_gpa_t gpa, uint32_t size_bytes)
{
    struct told *told = opaque;

    assert_int_equal(size_bytes, 8);
    told->count++;
    told->gpa = gpa;
}

#endif
