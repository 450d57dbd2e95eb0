/*
 * unit/shadow_rig.h - a software VM that shadows its guest's tables, with a guest of 4 levels and one-line helpers.
 * The guest edits its tables by stores of its vCPU, since no others are noticed. After each step all shadow tables
 * are audited, in builds that have audits.
 */
#ifndef UNIT_SHADOW_RIG_H
#define UNIT_SHADOW_RIG_H

#include "soft_rig.h"

#include "base/check.h"
#include "mmu/mmu.h"
#include "soft/soft.h"

#define P 0x1u
#define W 0x2u
#define U 0x4u
#define A 0x20u
#define D 0x40u
#define LARGE 0x80u
#define NX (UINT64_C(1) << 63)
#define CR3_KEEP (UINT64_C(1) << 63)

#define CR0_PAGING 0x80010001u /* PG, WP, PE */
#define CR4_PSE 0x10u
#define CR4_PAE 0x20u
#define CR4_PCIDE 0x20000u
#define CR4_SMEP 0x100000u
#define CR4_SMAP 0x200000u
#define EFER_LONG 0xd00u /* LME, LMA, NXE */

/* Linear 0 to 2 MiB goes through these; page N of it maps DATA + N pages, which says N + 1 times
 * 0x11..11. TABLES maps the guest's first 2 MiB to a linear address of its own, with a table that is no
 * other's. */
enum {
    PML4 = 0x1000,
    PDPT = 0x2000,
    PD = 0x3000,
    PT = 0x4000,
    PT_OF_TABLES = 0x5000,
    DATA = 0x10000
};
#define TABLES UINT64_C(0x200000)
#define WORD(page) (0x1111111111111111u * ((page) + 1))

static inline void shadow_audit_rig(struct rig *rig)
{
    struct kcore *core = &rig->soft->core;

    kcore_hold(core);
    lock_take(&core->slots_lock);
    GM_AUDIT(mmu_audit(&rig->soft->mmu));
    lock_drop(&core->slots_lock);
    kcore_release(core);
}

static inline struct gm_soft_stats shadow_stats(struct rig *rig)
{
    struct gm_soft_stats stats;

    gm_soft_stats(rig->soft, &stats);
    return stats;
}

/* The guest's store, by physical address. */
static inline void put(struct rig *rig, uint64_t gpa, uint64_t value)
{
    rig_store(rig, gpa, value);
    shadow_audit_rig(rig);
}

/* What memory says, seen by nobody. */
static inline uint64_t get(struct rig *rig, uint64_t gpa)
{
    return *rig_word(rig, gpa);
}

static inline void map_page(struct rig *rig, unsigned page, uint64_t gpa, uint64_t flags)
{
    put(rig, PT + page * 8, gpa | flags);
}

static inline struct gm_mmu_paging long_mode(void)
{
    return (struct gm_mmu_paging){
        .cr0 = CR0_PAGING, .cr3 = PML4, .cr4 = CR4_PAE, .efer = EFER_LONG, .has_1g_pages = true};
}

static inline void set_paging(struct rig *rig, const struct gm_mmu_paging *paging)
{
    assert_int_equal(gm_mmu_enter(rig->mmu), GM_MMU_OK);
    assert_int_equal(gm_mmu_set_paging(rig->mmu, paging), GM_MMU_OK);
    gm_mmu_leave(rig->mmu);
    shadow_audit_rig(rig);
}

static inline void invlpg(struct rig *rig, uint64_t linear)
{
    gm_mmu_invlpg(rig->mmu, linear);
}

static inline enum gm_mmu_outcome load_as(struct rig *rig, uint64_t linear, enum gm_mmu_view view,
                                          uint64_t *value)
{
    enum gm_mmu_outcome outcome = gm_mmu_enter(rig->mmu);

    assert_int_equal(outcome, GM_MMU_OK);
    outcome = gm_mmu_load_linear(rig->mmu, linear, 8, view, value);
    gm_mmu_leave(rig->mmu);
    shadow_audit_rig(rig);
    return outcome;
}

static inline enum gm_mmu_outcome store_as(struct rig *rig, uint64_t linear, enum gm_mmu_view view,
                                           uint64_t value)
{
    enum gm_mmu_outcome outcome = gm_mmu_enter(rig->mmu);

    assert_int_equal(outcome, GM_MMU_OK);
    outcome = gm_mmu_store_linear(rig->mmu, linear, 8, view, value);
    gm_mmu_leave(rig->mmu);
    shadow_audit_rig(rig);
    return outcome;
}

static inline uint64_t load(struct rig *rig, uint64_t linear)
{
    uint64_t value = 0;

    assert_int_equal(load_as(rig, linear, GM_MMU_SUPERVISOR, &value), GM_MMU_OK);
    return value;
}

static inline void store(struct rig *rig, uint64_t linear, uint64_t value)
{
    assert_int_equal(store_as(rig, linear, GM_MMU_SUPERVISOR, value), GM_MMU_OK);
}

static inline void expect_fault(struct rig *rig, enum gm_mmu_outcome outcome, uint64_t linear,
                                uint32_t error_code)
{
    assert_int_equal(outcome, GM_MMU_PAGE_FAULT);
    assert_int_equal(gm_mmu_exit(rig->mmu)->linear, linear);
    assert_int_equal(gm_mmu_exit(rig->mmu)->error_code, error_code);
}

static inline void load_faults(struct rig *rig, uint64_t linear, uint32_t error_code)
{
    uint64_t value = 0;

    expect_fault(rig, load_as(rig, linear, GM_MMU_SUPERVISOR, &value), linear, error_code);
}

/* The tables, in memory that nobody shadows yet. */
static inline void fill_tables(struct rig *rig)
{
    *rig_word(rig, PML4) = PDPT | P | W | U;
    *rig_word(rig, PDPT) = PD | P | W | U;
    *rig_word(rig, PD) = PT | P | W | U;
    *rig_word(rig, PD + 8) = PT_OF_TABLES | P | W | U;
    for (unsigned page = 0; page < 16; page++) {
        *rig_word(rig, PT + page * 8) = (DATA + page * PAGE) | P | W | U;
        *rig_word(rig, DATA + page * PAGE) = WORD(page);
        *rig_word(rig, PT_OF_TABLES + page * 8) = page * PAGE | P | W;
    }
}

static inline struct rig shadow_rig_of(const struct gm_soft_options *options)
{
    struct rig rig = rig_new(options);
    const struct gm_mmu_paging paging = long_mode();

    assert_int_equal(rig_set(&rig, 0, 0, 0, RIG_BYTES, 0), 0);
    fill_tables(&rig);
    set_paging(&rig, &paging);
    return rig;
}

static inline struct rig shadow_rig(void)
{
    const struct gm_soft_options options = {.size = sizeof(options), .shadow_paging = true};

    return shadow_rig_of(&options);
}

/* A second vCPU of the rig's VM, with the same registers; its own to free. */
static inline struct rig shadow_other(const struct rig *rig)
{
    struct rig other = *rig;
    const struct gm_mmu_paging paging = long_mode();

    assert_int_equal(gm_soft_vcpu_new(rig->soft, 1, &other.vcpu), 0);
    other.mmu = gm_soft_vcpu_mmu(other.vcpu);
    set_paging(&other, &paging);
    return other;
}

#endif
