/*
 * race/test_soft_points.h - what the tests of forced orders share: a VM with a slot of 2 MiB, a vCPU that stops
 * at named points (base/point.h), and a thread for calls that wait for it.
 *
 *   fault-resolved    slot and host page are known, nothing is installed
 *   fault-installing  as an installer, before it asks whether that still holds
 *   slots-flushed     a change of slots has unmapped what goes, and not published what comes
 *   walk-leaf         the processor has read a leaf, and has not filled its TLB
 */
#ifndef RACE_TEST_SOFT_POINTS_H
#define RACE_TEST_SOFT_POINTS_H

#include "model/require.h"
#include "model/softmodel_puppet.h"
#include "model/softmodel_race.h"

#include "base/check.h"
#include "soft/soft.h"

#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#define PLACE UINT64_C(0x40000000)
#define LARGE_BYTES (UINT64_C(1) << 21)
#define MEMORY_BYTES (2 * LARGE_BYTES)
#define LOG ((uint32_t)KVM_MEM_LOG_DIRTY_PAGES)
#define READONLY ((uint32_t)KVM_MEM_READONLY)

/* A VM with a slot of 2 MiB, one puppet, and another 2 MiB of memory. */
static struct race race;
static struct puppet puppet;
static struct gm_soft_options options;
static uint64_t claimed_bytes; /* what memory claims as its page size */

static inline uint64_t page_bytes(void *opaque, gm_hva_t hva, uint64_t size_bytes)
{
    (void)opaque;
    (void)hva;
    (void)size_bytes;
    return claimed_bytes;
}

static inline void open_with(enum gm_soft_log log, uint64_t claim, uint32_t ring_entries)
{
    options =
        (struct gm_soft_options){.size = sizeof(options), .log = log, .page_bytes = page_bytes};
    claimed_bytes = claim;
    race_open(&race, &options, MEMORY_BYTES);
    for (uint64_t page = 0; page < MEMORY_BYTES / PAGE; page += 16) {
        *race_word(&race, page, 0) = 0x1000 + page;
    }
    if (ring_entries != 0) {
        race_enable(&race, KVM_CAP_DIRTY_LOG_RING_ACQ_REL,
                    ring_entries * sizeof(struct kvm_dirty_gfn));
    }
    race_set_slot(&race, 0, 0, PLACE, LARGE_BYTES, 0);
    puppet_init(&puppet, race.soft, 0);
}

static inline int set_up(void **state)
{
    (void)state;
    open_with(GM_SOFT_LOG_PROTECT, PAGE, 0);
    return 0;
}

static inline int set_up_large(void **state)
{
    (void)state;
    open_with(GM_SOFT_LOG_PROTECT, LARGE_BYTES, 0);
    return 0;
}

static inline int set_up_buffer(void **state)
{
    (void)state;
    open_with(GM_SOFT_LOG_BUFFER, PAGE, 0);
    return 0;
}

static inline int set_up_rings(void **state)
{
    (void)state;
    open_with(GM_SOFT_LOG_PROTECT, PAGE, 1024);
    return 0;
}

static inline int tear_down(void **state)
{
    (void)state;
    while (notifier_is_active(&race.soft->core.notifier)) { /* of a test that failed */
        gm_soft_invalidate_end(race.soft, race.hva, PAGE);
    }
    puppet_fini(&puppet);
    kcore_hold(&race.soft->core);
    lock_take(&race.soft->core.slots_lock);
    GM_AUDIT(mmu_audit(&race.soft->mmu));
    lock_drop(&race.soft->core.slots_lock);
    kcore_release(&race.soft->core);
    race_close(&race);
    return 0;
}

/* An access that has come to the point and stopped there. */
static inline void begin_until(const char *point, enum gm_mmu_access access, uint64_t gpa)
{
    if (!puppet_can_stop()) {
        skip();
    }
    puppet_stop_at(&puppet, point);
    puppet_begin(&puppet, access, gpa, 0x77);
    puppet_wait_stopped(&puppet);
}

static inline struct puppet_access finish(void)
{
    puppet_go_on(&puppet);
    return puppet_end(&puppet);
}

static inline void assert_loads(struct puppet_access access, uint64_t value)
{
    assert_int_equal(access.outcome, GM_MMU_OK);
    assert_int_equal(access.value, value);
}

/* An access that nobody disturbs any more gives what it should, too: nothing wrong is left behind. */
static inline void assert_loads_now(uint64_t gpa, uint64_t value)
{
    assert_loads(puppet_do(&puppet, GM_MMU_READ, gpa, 0), value);
}

static inline void set_flags(uint32_t flags)
{
    race_set_slot(&race, 0, flags, PLACE, LARGE_BYTES, 0);
}

static inline void set_attributes(uint64_t attributes)
{
    struct kvm_memory_attributes set = {.address = PLACE, .size = PAGE, .attributes = attributes};

    REQUIRE(gm_soft_vm_ioctl(race.soft, KVM_SET_MEMORY_ATTRIBUTES, (unsigned long)&set) == 0,
            "attributes");
}

/* Is the page of slot 0 in its log? The log is cleared. */
static inline bool is_reported(uint64_t page)
{
    static uint64_t bitmap[LARGE_BYTES / PAGE / 64];
    struct kvm_dirty_log get = {.slot = 0, .dirty_bitmap = bitmap};

    REQUIRE(gm_soft_vm_ioctl(race.soft, KVM_GET_DIRTY_LOG, (unsigned long)&get) == 0, "get");
    return (bitmap[page / 64] >> page % 64 & 1) != 0;
}

/* ---- leaves that lead to a range ---- */

struct range_count {
    uint64_t hva;
    uint64_t size_bytes;
    unsigned leaves;
};

static inline void count_leaf(void *opaque, unsigned level, struct gfn first, const uint64_t *table,
                              uint64_t entry)
{
    struct range_count *range = opaque;
    uint64_t hva = entry & UINT64_C(0x000ffffffffff000);
    uint64_t bytes = level == 1 ? PAGE : LARGE_BYTES;
    bool is_leaf = level == 1 || (entry & 0x80) != 0;

    (void)first;
    (void)table;
    if (is_leaf && hva < range->hva + range->size_bytes && range->hva < hva + bytes) {
        range->leaves++;
    }
}

static inline unsigned leaves_of(uint64_t hva, uint64_t size_bytes)
{
    struct range_count range = {hva, size_bytes, 0};

    kcore_hold(&race.soft->core);
    lock_take(&race.soft->core.slots_lock);
    mmu_visit(&race.soft->mmu, 0, count_leaf, &range);
    lock_drop(&race.soft->core.slots_lock);
    kcore_release(&race.soft->core);
    return range.leaves;
}

/* ---- a thread for calls that wait for the stopped vCPU ---- */

struct waiter {
    pthread_t thread;
    void (*call)(void);
    atomic_bool is_done;
};

static inline void *waiter_main(void *opaque)
{
    struct waiter *waiter = opaque;

    waiter->call();
    atomic_store(&waiter->is_done, true);
    return NULL;
}

static inline void waiter_start(struct waiter *waiter, void (*call)(void))
{
    waiter->call = call;
    atomic_init(&waiter->is_done, false);
    REQUIRE(pthread_create(&waiter->thread, NULL, waiter_main, waiter) == 0, "a thread");
}

/* The call has closed the gate, and waits there: it must not go on before the vCPU does. */
static inline void assert_waits(struct waiter *waiter, struct gate *gate)
{
    while (!atomic_load(&gate->held) && !atomic_load(&waiter->is_done)) {
        sched_yield();
    }
    for (int i = 0; i < 20; i++) {
        race_pass_time();
        assert_true(atomic_load(&gate->held));
    }
    assert_false(atomic_load(&waiter->is_done));
}

static inline void zap_all(void)
{
    gm_soft_zap_all(race.soft);
}

static inline void invalidate_first_page(void)
{
    gm_soft_invalidate_begin(race.soft, race.hva, PAGE);
}

static inline void end_invalidation_of_first_page(void)
{
    gm_soft_invalidate_end(race.soft, race.hva, PAGE);
}

#endif
