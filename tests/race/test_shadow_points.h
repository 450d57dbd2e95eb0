/*
 * race/test_shadow_points.h - what the tests of forced orders at shadow tables share: a VM that shadows, a guest's
 * tables, and a second vCPU beside that of test_soft_points.h. Rows S1 and so on are those of
 * docs/locking-software.md, "Shadow tables".
 *
 *   shadow-resolved    a fault: the guest's tables were walked, slot and host page are known; nothing is locked
 *   shadow-mapping     the fault has the lock, and has read nothing again
 *   shadow-leaf        the processor, in guest mode, has read a leaf, and has not filled its TLB
 *   shadow-write-made  a write by hand is made; its vCPU is out of guest mode and has not the lock
 *   shadow-syncing     under the lock: unsync tables are protected and flushed for, and were not read yet
 */
#ifndef RACE_TEST_SHADOW_POINTS_H
#define RACE_TEST_SHADOW_POINTS_H

#include "race/test_soft_points.h"

#include <linux/kvm.h>

/*
 * Slot 0 has data, slot 1 the guest's tables. Linear 0 on is mapped by PT: page N to DATA + N pages, which says
 * WORD(N). TABLES maps slot 1, through a table of its own. The other root has an own PML4, PDPT and PD.
 */
enum {
    PML4 = 0x1000,
    PDPT = 0x2000,
    PD = 0x3000,
    PT = 0x4000,
    PT_OF_TABLES = 0x5000,
    OTHER_PML4 = 0x6000,
    OTHER_PDPT = 0x7000,
    OTHER_PD = 0x8000,
    DATA = 0x10000,
    SLOT_BYTES = 0x10000
};
#define TABLES UINT64_C(0x200000)
#define SPARE LARGE_BYTES /* of host memory: data of other words */
#define WORD(page) (0x1111111111111111u * ((page) + 1))
#define SPARE_WORD(page) (~WORD(page))
#define FLAGS 0x7u /* present, writable, user */
#define ACCESSED 0x20u
#define DIRTY 0x40u

/* `puppet` goes by linear addresses and one root; `other` by physical ones, unless a test says so, and it has
 * the other root. */
static struct puppet other;

static inline uint64_t *memory_word(uint64_t gpa)
{
    return (uint64_t *)(uintptr_t)(race.hva + gpa);
}

/* As vCPUs may be writing. */
static inline uint64_t memory(uint64_t gpa)
{
    return __atomic_load_n(memory_word(gpa), __ATOMIC_SEQ_CST);
}

static inline uint64_t page_of(unsigned page)
{
    return (DATA + page * PAGE) | FLAGS;
}

static inline void fill_tables(void)
{
    *memory_word(PML4) = PDPT | FLAGS;
    *memory_word(PDPT) = PD | FLAGS;
    *memory_word(PD) = PT | FLAGS;
    *memory_word(PD + 8) = PT_OF_TABLES | FLAGS;
    *memory_word(OTHER_PML4) = OTHER_PDPT | FLAGS;
    *memory_word(OTHER_PDPT) = OTHER_PD | FLAGS;
    *memory_word(OTHER_PD) = PT | FLAGS;
    *memory_word(OTHER_PD + 8) = PT_OF_TABLES | FLAGS;
    for (unsigned page = 0; page < SLOT_BYTES / PAGE; page++) {
        *memory_word(PT + page * 8) = page_of(page);
        *memory_word(PT_OF_TABLES + page * 8) = page * PAGE | FLAGS;
        *memory_word(DATA + page * PAGE) = WORD(page);
        *memory_word(SPARE + page * PAGE) = SPARE_WORD(page);
    }
}

/* The puppet does nothing just now: its registers are set, or written again, which flushes. */
static inline void set_root(struct puppet *of, uint64_t root)
{
    const struct gm_mmu_paging paging = {
        .cr0 = 0x80010001, .cr3 = root, .cr4 = 0x20, .efer = 0xd00};

    REQUIRE(gm_mmu_enter(of->mmu) == GM_MMU_OK, "entering");
    REQUIRE(gm_mmu_set_paging(of->mmu, &paging) == GM_MMU_OK, "paging");
    gm_mmu_leave(of->mmu);
}

static inline void set_data_slot(uint32_t flags, uint64_t size_bytes, uint64_t offset)
{
    race_set_slot(&race, 0, flags, DATA, size_bytes, offset);
}

static inline int set_up_shadow(void **state)
{
    (void)state;
    options = (struct gm_soft_options){
        .size = sizeof(options), .shadow_paging = true, .page_bytes = page_bytes};
    claimed_bytes = PAGE;
    race_open(&race, &options, MEMORY_BYTES);
    fill_tables();
    set_data_slot(0, SLOT_BYTES, DATA);
    race_set_slot(&race, 1, 0, 0, SLOT_BYTES, 0);
    puppet_init(&puppet, race.soft, 0);
    puppet_init(&other, race.soft, 1);
    set_root(&puppet, PML4);
    set_root(&other, OTHER_PML4);
    puppet.is_linear = true;
    return 0;
}

static inline int tear_down_shadow(void **state)
{
    puppet_fini(&other);
    return tear_down(state);
}

/* Not while anybody has the lock. */
static inline struct gm_soft_stats stats(void)
{
    struct gm_soft_stats now;

    gm_soft_stats(race.soft, &now);
    return now;
}

static inline void other_begin_until(const char *point, enum gm_mmu_access access, uint64_t address,
                                     uint64_t value)
{
    puppet_stop_at(&other, point);
    puppet_begin(&other, access, address, value);
    puppet_wait_stopped(&other);
}

static inline struct puppet_access other_finish(void)
{
    puppet_go_on(&other);
    return puppet_end(&other);
}

static inline void other_stores(uint64_t address, uint64_t value)
{
    assert_int_equal(puppet_do(&other, GM_MMU_WRITE, address, value).outcome, GM_MMU_OK);
}

/* The other vCPU writes to slot 1 by its mapping, so that tables of the lowest level go unsync. */
static inline void other_stores_unseen(uint64_t gpa, uint64_t value)
{
    other.is_linear = true;
    other_stores(TABLES + gpa, value);
    other.is_linear = false;
}

static inline void stores(uint64_t linear, uint64_t value)
{
    assert_int_equal(puppet_do(&puppet, GM_MMU_WRITE, linear, value).outcome, GM_MMU_OK);
}

#define POINT_TEST(test) cmocka_unit_test_setup_teardown(test, set_up_shadow, tear_down_shadow)

#endif
