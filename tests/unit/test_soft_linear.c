/*
 * unit/test_soft_linear.c - accesses by linear address: the guest's tables in a software VM's memory, rights by
 * view, page faults, contexts, and what happens to tables in unusual places. The walker by itself is in
 * test_guestwalk.c. Numbers of entries' bits are Intel SDM 3A, 4.5.
 */
#include "soft_rig.h"

#include "base/point.h"
#include "model/require.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>

#define P 0x1u
#define W 0x2u
#define U 0x4u
#define A 0x20u
#define D 0x40u
#define NX (UINT64_C(1) << 63)

#define CR0_PAGING 0x80010001u /* PG, WP, PE */
#define CR4_PAE 0x20u
#define CR4_PCIDE 0x20000u
#define CR4_SMEP 0x100000u
#define CR4_SMAP 0x200000u
#define CR4_PKE 0x400000u
#define EFER_LONG 0xd00u /* LME, LMA, NXE */

/* Tables of 4 levels lie in the first pages: PML4, PDPT, PD, PT. Linear 0 to 2 MiB goes through them. */
enum { PML4 = 0x1000, PDPT = 0x2000, PD = 0x3000, PT = 0x4000, DATA = 0x10000 };

static void put(struct rig *rig, uint64_t gpa, uint64_t value)
{
    memcpy(rig->memory + gpa, &value, sizeof(value));
}

static uint64_t get(const struct rig *rig, uint64_t gpa)
{
    uint64_t value;

    memcpy(&value, rig->memory + gpa, sizeof(value));
    return value;
}

/* The linear page of that number maps the page at @gpa. */
static void map_page(struct rig *rig, unsigned page, uint64_t gpa, uint64_t flags)
{
    put(rig, PT + page * 8, gpa | flags);
}

static struct gm_mmu_paging long_mode(void)
{
    return (struct gm_mmu_paging){
        .cr0 = CR0_PAGING, .cr3 = PML4, .cr4 = CR4_PAE, .efer = EFER_LONG, .has_1g_pages = true};
}

static void set_paging(struct rig *rig, const struct gm_mmu_paging *paging)
{
    assert_int_equal(gm_mmu_enter(rig->mmu), GM_MMU_OK);
    assert_int_equal(gm_mmu_set_paging(rig->mmu, paging), GM_MMU_OK);
    gm_mmu_leave(rig->mmu);
}

static struct rig rig_with_tables(const struct gm_soft_options *options)
{
    struct rig rig = rig_new(options);
    const struct gm_mmu_paging paging = long_mode();

    assert_int_equal(rig_set(&rig, 0, 0, 0, RIG_BYTES, 0), 0);
    put(&rig, PML4, PDPT | P | W | U);
    put(&rig, PDPT, PD | P | W | U);
    put(&rig, PD, PT | P | W | U);
    for (unsigned page = 0; page < 8; page++) {
        map_page(&rig, page, DATA + page * PAGE, P | W | U);
        put(&rig, DATA + page * PAGE, 0x1111111111111111u * (page + 1));
    }
    set_paging(&rig, &paging);
    return rig;
}

static enum gm_mmu_outcome load(struct rig *rig, uint64_t linear, enum gm_mmu_view view,
                                uint64_t *value)
{
    enum gm_mmu_outcome outcome = gm_mmu_enter(rig->mmu);

    assert_int_equal(outcome, GM_MMU_OK);
    outcome = gm_mmu_load_linear(rig->mmu, linear, 8, view, value);
    gm_mmu_leave(rig->mmu);
    return outcome;
}

static enum gm_mmu_outcome store(struct rig *rig, uint64_t linear, enum gm_mmu_view view,
                                 uint64_t value)
{
    enum gm_mmu_outcome outcome = gm_mmu_enter(rig->mmu);

    assert_int_equal(outcome, GM_MMU_OK);
    outcome = gm_mmu_store_linear(rig->mmu, linear, 8, view, value);
    gm_mmu_leave(rig->mmu);
    return outcome;
}

static enum gm_mmu_outcome fetch(struct rig *rig, uint64_t linear, enum gm_mmu_view view)
{
    enum gm_mmu_outcome outcome = gm_mmu_enter(rig->mmu);
    uint8_t bytes[4];

    assert_int_equal(outcome, GM_MMU_OK);
    outcome = gm_mmu_fetch_linear(rig->mmu, linear, sizeof(bytes), view, bytes);
    gm_mmu_leave(rig->mmu);
    return outcome;
}

static void expect_fault(struct rig *rig, enum gm_mmu_outcome outcome, uint64_t linear,
                         uint32_t error_code)
{
    assert_int_equal(outcome, GM_MMU_PAGE_FAULT);
    assert_int_equal(gm_mmu_exit(rig->mmu)->linear, linear);
    assert_int_equal(gm_mmu_exit(rig->mmu)->error_code, error_code);
}

static void linear_without_paging_is_physical(void **state)
{
    /* A new vCPU has no paging. */
    struct rig rig = rig_new(NULL);
    uint64_t value = 0;

    (void)state;
    assert_int_equal(rig_set(&rig, 0, 0, 0, RIG_BYTES, 0), 0);
    put(&rig, 0x5008, 42);
    assert_int_equal(load(&rig, 0x5008, GM_MMU_USER, &value), GM_MMU_OK);
    assert_int_equal(value, 42);
    assert_int_equal(load(&rig, RIG_BYTES, GM_MMU_USER, &value), GM_MMU_MMIO);
    assert_int_equal(gm_mmu_exit(rig.mmu)->gpa, RIG_BYTES);
    rig_free(&rig);
}

static void linear_access_sets_the_flags_of_its_walk(void **state)
{
    /* Accessed on the way and at the leaf; dirty by a write alone (SDM 3A 4.8). */
    struct rig rig = rig_with_tables(NULL);
    uint64_t value = 0;

    (void)state;
    assert_int_equal(load(&rig, 0x2000, GM_MMU_SUPERVISOR, &value), GM_MMU_OK);
    assert_int_equal(value, 0x3333333333333333u);
    assert_int_equal(get(&rig, PML4) & (A | D), A);
    assert_int_equal(get(&rig, PD) & (A | D), A);
    assert_int_equal(get(&rig, PT + 2 * 8) & (A | D), A);
    assert_int_equal(store(&rig, 0x2008, GM_MMU_SUPERVISOR, 7), GM_MMU_OK);
    assert_int_equal(get(&rig, PT + 2 * 8) & (A | D), A | D);
    assert_int_equal(get(&rig, DATA + 0x2008), 7);
    rig_free(&rig);
}

static void linear_access_across_pages_goes_to_both(void **state)
{
    /* Neighbours in linear addresses are none in physical ones; a fault in the second page stores nothing. */
    struct rig rig = rig_with_tables(NULL);
    uint64_t value = 0;

    (void)state;
    map_page(&rig, 1, DATA + 5 * PAGE, P | W | U);
    assert_int_equal(store(&rig, 0xffc, GM_MMU_USER, 0x8877665544332211u), GM_MMU_OK);
    assert_int_equal(get(&rig, DATA + 0xff8) >> 32, 0x44332211);
    assert_int_equal(get(&rig, DATA + 5 * PAGE) & UINT32_MAX, 0x88776655);
    assert_int_equal(load(&rig, 0xffc, GM_MMU_USER, &value), GM_MMU_OK);
    assert_int_equal(value, 0x8877665544332211u);
    map_page(&rig, 3, 0, 0);
    expect_fault(&rig, store(&rig, 0x2ffc, GM_MMU_USER, 1), 0x3000, 0x6);
    assert_int_equal(get(&rig, DATA + 0x2ff8), 0);
    rig_free(&rig);
}

static void linear_rights_are_those_of_the_view(void **state)
{
    /* The same page for a supervisor, one with AC, and a user; filled into the TLB by either. */
    struct rig rig = rig_with_tables(NULL);
    struct gm_mmu_paging paging = long_mode();
    uint64_t value = 0;

    (void)state;
    map_page(&rig, 1, DATA, P | W);      /* supervisor's */
    map_page(&rig, 2, DATA, P | U | NX); /* read-only, for users, no code */
    paging.cr4 |= CR4_SMEP | CR4_SMAP;
    set_paging(&rig, &paging);
    assert_int_equal(store(&rig, 0x1000, GM_MMU_SUPERVISOR, 1), GM_MMU_OK);
    expect_fault(&rig, load(&rig, 0x1000, GM_MMU_USER, &value), 0x1000, 0x5);
    assert_int_equal(load(&rig, 0x2000, GM_MMU_USER, &value), GM_MMU_OK);
    expect_fault(&rig, store(&rig, 0x2000, GM_MMU_USER, 1), 0x2000, 0x7);
    assert_int_equal(load(&rig, 0x2000, GM_MMU_USER, &value), GM_MMU_OK);
    expect_fault(&rig, fetch(&rig, 0x2000, GM_MMU_USER), 0x2000, 0x15);
    expect_fault(&rig, load(&rig, 0x2000, GM_MMU_SUPERVISOR, &value), 0x2000, 0x1); /* SMAP */
    assert_int_equal(load(&rig, 0x2000, GM_MMU_SUPERVISOR_AC, &value), GM_MMU_OK);
    expect_fault(&rig, fetch(&rig, 0x0, GM_MMU_SUPERVISOR), 0, 0x11); /* SMEP */
    assert_int_equal(fetch(&rig, 0x0, GM_MMU_USER), GM_MMU_OK);
    rig_free(&rig);
}

static void linear_address_that_is_not_canonical_is_refused(void **state)
{
    /* Bits 47 to 63 differ: no page fault (SDM 1, 3.3.7.1). */
    struct rig rig = rig_with_tables(NULL);
    uint64_t value = 0;

    (void)state;
    assert_int_equal(load(&rig, UINT64_C(1) << 47, GM_MMU_USER, &value), GM_MMU_PROTECTION);
    expect_fault(&rig, load(&rig, UINT64_MAX << 47, GM_MMU_USER, &value), UINT64_MAX << 47, 0x4);
    rig_free(&rig);
}

static void linear_translation_lasts_until_it_is_invalidated(void **state)
{
    /* INVLPG, or a write of CR3, and not before: what guests rely on, and what they must expect. */
    struct rig rig = rig_with_tables(NULL);
    struct gm_mmu_paging paging = long_mode();
    uint64_t value = 0;

    (void)state;
    assert_int_equal(load(&rig, 0, GM_MMU_USER, &value), GM_MMU_OK);
    map_page(&rig, 0, DATA + PAGE, P | W | U);
    assert_int_equal(load(&rig, 0, GM_MMU_USER, &value), GM_MMU_OK);
    assert_int_equal(value, 0x1111111111111111u);
    gm_mmu_invlpg(rig.mmu, 0x123);
    assert_int_equal(load(&rig, 0, GM_MMU_USER, &value), GM_MMU_OK);
    assert_int_equal(value, 0x2222222222222222u);
    map_page(&rig, 0, DATA + 2 * PAGE, P | W | U);
    set_paging(&rig, &paging);
    assert_int_equal(load(&rig, 0, GM_MMU_USER, &value), GM_MMU_OK);
    assert_int_equal(value, 0x3333333333333333u);
    rig_free(&rig);
}

static void linear_invlpg_forgets_what_only_fetches_may_use(void **state)
{
    /* A protection key denies data, and so the TLB has the page for fetches alone. */
    struct rig rig = rig_with_tables(NULL);
    struct gm_mmu_paging paging = long_mode();
    uint64_t bytes = 0;
    uint64_t value;

    (void)state;
    paging.cr4 |= CR4_PKE;
    paging.pkru = 1u << 2; /* AD of key 1 */
    map_page(&rig, 0, DATA | UINT64_C(1) << 59, P | W | U);
    set_paging(&rig, &paging);
    for (unsigned page = 0; page < 3; page++) {
        map_page(&rig, 0, (DATA + page * PAGE) | UINT64_C(1) << 59, P | W | U);
        gm_mmu_invlpg(rig.mmu, 0);
        assert_int_equal(gm_mmu_enter(rig.mmu), GM_MMU_OK);
        assert_int_equal(gm_mmu_fetch_linear(rig.mmu, 0, 8, GM_MMU_USER, &bytes), GM_MMU_OK);
        gm_mmu_leave(rig.mmu);
        assert_int_equal(bytes, 0x1111111111111111u * (page + 1));
    }
    expect_fault(&rig, load(&rig, 0, GM_MMU_USER, &value), 0, 0x25); /* a key's, user, present */
    rig_free(&rig);
}

#ifdef GM_AUDIT_ON /* the point is there */
/* Who writes the guest's tables all the time, just between the walk's load of an entry and its exchange. */
static struct {
    struct rig *rig;
    uint64_t writes;
    uint64_t kick_at; /* so many; 0: never */
    atomic_bool ends;
} peer;

static void write_entry(const char *point)
{
    if (strcmp(point, "guest-entry-read") != 0 || atomic_load(&peer.ends)) {
        return;
    }
    *(uint64_t *)(void *)(peer.rig->memory + PT) ^= UINT64_C(1)
                                                    << 9; /* a bit that processors ignore */
    peer.writes++;
    if (peer.writes == peer.kick_at) {
        gm_mmu_kick(peer.rig->mmu);
    }
}

static struct rig rig_with_peer(uint64_t kick_at)
{
    struct rig rig = rig_with_tables(NULL);

    peer.writes = 0;
    peer.kick_at = kick_at;
    atomic_store(&peer.ends, false);
    return rig;
}

static void linear_walk_whose_entry_is_always_replaced_is_kicked(void **state)
{
    /* It never gets on, but comes out; and gets on when it is let. */
    struct rig rig = rig_with_peer(100000);
    uint64_t value = 0;

    (void)state;
    peer.rig = &rig;
    atomic_store(&point_hook, write_entry);
    assert_int_equal(load(&rig, 0, GM_MMU_USER, &value), GM_MMU_KICKED);
    assert_in_range(peer.writes, 100000, 102000);
    atomic_store(&peer.ends, true);
    assert_int_equal(load(&rig, 0, GM_MMU_USER, &value), GM_MMU_OK);
    assert_int_equal(value, 0x1111111111111111u);
    atomic_store(&point_hook, NULL);
    rig_free(&rig);
}

static void *add_slot(void *opaque)
{
    REQUIRE_TRUE(rig_set(opaque, 1, 0, RIG_BYTES, PAGE, 0) == 0);
    atomic_store(&peer.ends, true);
    return NULL;
}

static void linear_walk_whose_entry_is_always_replaced_holds_nobody_up(void **state)
{
    /* A change of slots waits for the vCPU to leave guest mode; the writer only ends when it is done. */
    struct rig rig = rig_with_peer(0);
    uint64_t value = 0;
    pthread_t thread;

    (void)state;
    peer.rig = &rig;
    atomic_store(&point_hook, write_entry);
    assert_int_equal(pthread_create(&thread, NULL, add_slot, &rig), 0);
    while (!atomic_load(&peer.ends)) {
        enum gm_mmu_outcome outcome = load(&rig, 0, GM_MMU_USER, &value);

        assert_true(outcome == GM_MMU_OK || outcome == GM_MMU_RESTART);
    }
    assert_int_equal(pthread_join(thread, NULL), 0);
    atomic_store(&point_hook, NULL);
    rig_free(&rig);
}
#endif

static void linear_contexts_with_pcids_are_kept_when_asked(void **state)
{
    /* CR3's bit 63 (SDM 3A 4.10.4.1): back to the old address space, whose translations are still there. */
    struct rig rig = rig_with_tables(NULL);
    struct gm_mmu_paging paging = long_mode();
    uint64_t value = 0;

    (void)state;
    put(&rig, 0x8000, PDPT | P | W | U); /* a second root, the same below */
    paging.cr4 |= CR4_PCIDE;
    paging.cr3 = PML4 | 1;
    set_paging(&rig, &paging);
    assert_int_equal(load(&rig, 0, GM_MMU_USER, &value), GM_MMU_OK);
    map_page(&rig, 0, DATA + PAGE, P | W | U);
    paging.cr3 = 0x8000 | 2 | UINT64_C(1) << 63;
    set_paging(&rig, &paging);
    assert_int_equal(load(&rig, 0x1000, GM_MMU_USER, &value),
                     GM_MMU_OK); /* another entry's place */
    assert_int_equal(value, 0x2222222222222222u);
    paging.cr3 = PML4 | 1 | UINT64_C(1) << 63;
    set_paging(&rig, &paging);
    assert_int_equal(load(&rig, 0, GM_MMU_USER, &value), GM_MMU_OK);
    assert_int_equal(value, 0x1111111111111111u);
    paging.cr3 = PML4 | 1;
    set_paging(&rig, &paging);
    assert_int_equal(load(&rig, 0, GM_MMU_USER, &value), GM_MMU_OK);
    assert_int_equal(value, 0x2222222222222222u);
    rig_free(&rig);
}

static void linear_translation_ends_with_its_slot(void **state)
{
    /* A change of slots reaches linear translations as well, though no guest invalidates them. */
    struct rig rig = rig_with_tables(NULL);
    uint64_t value = 0;

    (void)state;
    assert_int_equal(rig_set(&rig, 1, 0, 1 << 20, PAGE, DATA), 0);
    map_page(&rig, 0, 1 << 20, P | W | U);
    assert_int_equal(load(&rig, 0, GM_MMU_USER, &value), GM_MMU_OK);
    assert_int_equal(rig_set(&rig, 1, 0, 1 << 20, 0, 0), 0);
    assert_int_equal(load(&rig, 0, GM_MMU_USER, &value), GM_MMU_MMIO);
    assert_int_equal(gm_mmu_exit(rig.mmu)->gpa, 1 << 20);
    assert_int_equal(rig_set(&rig, 1, 0, 1 << 20, PAGE, DATA + PAGE), 0);
    assert_int_equal(load(&rig, 0, GM_MMU_USER, &value), GM_MMU_OK);
    assert_int_equal(value, 0x2222222222222222u);
    rig_free(&rig);
}

static void linear_write_is_logged_with_its_tables(void **state)
{
    /* Reads of tables count as writes where EPT has dirty flags (SDM 3C 29.3.5); data pages by stores. */
    for (int log = GM_SOFT_LOG_PROTECT; log <= GM_SOFT_LOG_BUFFER; log++) {
        const struct gm_soft_options options = {.size = sizeof(options),
                                                .log = (enum gm_soft_log)log};
        struct rig rig = rig_with_tables(&options);
        uint64_t bitmap[RIG_BYTES / PAGE / 64] = {0};
        uint64_t value = 0;

        assert_int_equal(rig_set(&rig, 0, KVM_MEM_LOG_DIRTY_PAGES, 0, RIG_BYTES, 0), 0);
        assert_int_equal(load(&rig, 0x2000, GM_MMU_USER, &value), GM_MMU_OK);
        assert_int_equal(rig_get_log(&rig, 0, bitmap), 0);
        assert_int_equal(bitmap[0], 0x1e); /* the four tables */
        assert_int_equal(store(&rig, 0x2000, GM_MMU_USER, 1), GM_MMU_OK);
        assert_int_equal(rig_get_log(&rig, 0, bitmap), 0);
        assert_int_equal(bitmap[0], 0x1e | 1u << (DATA / PAGE + 2));
        rig_free(&rig);
    }
    (void)state;
}

static void linear_tables_in_read_only_memory_are_walked(void **state)
{
    /* A firmware's tables in ROM: their flags cannot be set, and need not be. */
    struct rig rig = rig_with_tables(NULL);
    struct gm_mmu_paging paging = long_mode();
    uint64_t value = 0;

    (void)state;
    memcpy(rig.memory + 0x20000, rig.memory + PML4, 4 * PAGE);
    put(&rig, 0x20000, (2 << 20) + PAGE + (P | W | U));
    put(&rig, 0x21000, (2 << 20) + 2 * PAGE + (P | W | U));
    put(&rig, 0x22000, (2 << 20) + 3 * PAGE + (P | W | U));
    assert_int_equal(rig_set(&rig, 1, KVM_MEM_READONLY, 2 << 20, 4 * PAGE, 0x20000), 0);
    paging.cr3 = 2 << 20;
    set_paging(&rig, &paging);
    assert_int_equal(store(&rig, 0x2000, GM_MMU_USER, 9), GM_MMU_OK);
    assert_int_equal(load(&rig, 0x2000, GM_MMU_USER, &value), GM_MMU_OK);
    assert_int_equal(value, 9);
    assert_int_equal(get(&rig, 0x23000 + 2 * 8) & (A | D), 0);
    rig_free(&rig);
}

static void linear_tables_without_memory_are_lost(void **state)
{
    /* CR3 points to where no slot is. */
    struct rig rig = rig_with_tables(NULL);
    struct gm_mmu_paging paging = long_mode();
    uint64_t value = 0;

    (void)state;
    paging.cr3 = 1 << 30;
    set_paging(&rig, &paging);
    assert_int_equal(load(&rig, 0x2000, GM_MMU_USER, &value), GM_MMU_TABLE_LOST);
    assert_int_equal(gm_mmu_exit(rig.mmu)->outcome, GM_MMU_TABLE_LOST);
    assert_int_equal(gm_mmu_exit(rig.mmu)->gpa, 1 << 30);
    assert_int_equal(gm_mmu_exit(rig.mmu)->linear, 0x2000);
    assert_int_equal(gm_mmu_exit(rig.mmu)->error_code,
                     0x4); /* for who makes it a page fault, as KVM */
    rig_free(&rig);
}

static void linear_flags_in_a_tracked_table_are_told(void **state)
{
    /* The processor's own write of a flag is a write. */
    struct rig rig = rig_with_tables(NULL);
    struct told told = {0};
    uint64_t value = 0;

    (void)state;
    gm_soft_set_tracker(rig.soft, rig_on_written, &told);
    assert_int_equal(gm_soft_track(rig.soft, 0, PT), 0);
    assert_int_equal(load(&rig, 0x2000, GM_MMU_USER, &value), GM_MMU_OK);
    assert_int_equal(told.count, 1);
    assert_int_equal(told.gpa, PT + 2 * 8);
    assert_int_equal(load(&rig, 0x2008, GM_MMU_USER, &value), GM_MMU_OK);
    assert_int_equal(told.count, 1);
    rig_free(&rig);
}

static void linear_pdptes_are_loaded_and_checked(void **state)
{
    /* PAE: at the write of CR3, and not again (SDM 3A 4.4.1); reserved bits are #GP and change nothing. */
    struct rig rig = rig_with_tables(NULL);
    struct gm_mmu_paging paging = {.cr0 = CR0_PAGING, .cr3 = 0x6000, .cr4 = CR4_PAE};
    struct gm_mmu_paging seen;
    uint64_t value = 0;

    (void)state;
    put(&rig, 0x6000, PD | P);
    set_paging(&rig, &paging);
    put(&rig, 0x6000, 0);
    assert_int_equal(load(&rig, 0x2000, GM_MMU_USER, &value), GM_MMU_OK);
    assert_int_equal(value, 0x3333333333333333u);
    put(&rig, 0x6000, PD | P | W);
    paging.cr3 = 0x6000;
    assert_int_equal(gm_mmu_enter(rig.mmu), GM_MMU_OK);
    assert_int_equal(gm_mmu_set_paging(rig.mmu, &paging), GM_MMU_PROTECTION);
    gm_mmu_get_paging(rig.mmu, &seen);
    assert_int_equal(seen.cr3, 0x6000);
    assert_int_equal(load(&rig, 0x2000, GM_MMU_USER, &value), GM_MMU_OK);
    paging.cr3 = 1 << 30;
    assert_int_equal(gm_mmu_enter(rig.mmu), GM_MMU_OK);
    assert_int_equal(gm_mmu_set_paging(rig.mmu, &paging), GM_MMU_TABLE_LOST);
    assert_int_equal(gm_mmu_exit(rig.mmu)->outcome, GM_MMU_TABLE_LOST);
    rig_free(&rig);
}

static void linear_pdptes_can_be_given_and_got(void **state)
{
    /* They count instead of memory's, which has none, are checked as those, and only PAE has them. */
    struct rig rig = rig_with_tables(NULL);
    uint64_t given[4] = {PD | P};
    struct gm_mmu_paging paging = {
        .cr0 = CR0_PAGING, .cr3 = 0x6000, .cr4 = CR4_PAE, .pdptes = given};
    struct gm_mmu_paging seen;
    uint64_t got[4] = {1, 2, 3, 4};
    uint64_t value = 0;

    (void)state;
    put(&rig, 0x6000, 0);
    assert_false(gm_mmu_get_pdptes(rig.mmu, got));
    assert_int_equal(got[3], 0);
    set_paging(&rig, &paging);
    given[0] = 0;
    assert_int_equal(load(&rig, 0x2000, GM_MMU_USER, &value), GM_MMU_OK);
    assert_int_equal(value, 0x3333333333333333u);
    assert_true(gm_mmu_get_pdptes(rig.mmu, got));
    assert_int_equal(got[0], PD | P);
    gm_mmu_get_paging(rig.mmu, &seen);
    assert_null(seen.pdptes);
    given[0] = PD | P | W;
    assert_int_equal(gm_mmu_enter(rig.mmu), GM_MMU_OK);
    assert_int_equal(gm_mmu_set_paging(rig.mmu, &paging), GM_MMU_PROTECTION);
    assert_true(gm_mmu_get_pdptes(rig.mmu, got));
    assert_int_equal(got[0], PD | P);
    rig_free(&rig);
}

static void linear_cmpxchg_crosses_pages(void **state)
{
    /* Two pages that are no neighbours, exchanged as one. */
    struct rig rig = rig_with_tables(NULL);
    uint64_t expected = 0;

    (void)state;
    map_page(&rig, 1, DATA + 6 * PAGE, P | W | U);
    put(&rig, DATA + 0xff8, 0);
    put(&rig, DATA + 6 * PAGE, 0);
    assert_int_equal(gm_mmu_enter(rig.mmu), GM_MMU_OK);
    assert_int_equal(
        gm_mmu_cmpxchg_linear(rig.mmu, 0xffc, 8, GM_MMU_USER, &expected, 0x8877665544332211u),
        GM_MMU_OK);
    assert_int_equal(expected, 0);
    assert_int_equal(gm_mmu_cmpxchg_linear(rig.mmu, 0xffc, 8, GM_MMU_USER, &expected, 1),
                     GM_MMU_OK);
    assert_true(expected == 0x8877665544332211u);
    gm_mmu_leave(rig.mmu);
    assert_int_equal(get(&rig, DATA + 6 * PAGE), 0x88776655);
    rig_free(&rig);
}

static void explain_reads_without_a_trace(void **state)
{
    /* Each level's entry, the page, its rights, or the fault; no flag is set, no page becomes dirty. */
    struct rig rig = rig_with_tables(NULL);
    struct kvm_translation ioctl = {.linear_address = 0x2123};
    struct gm_mmu_translation translation;

    (void)state;
    map_page(&rig, 3, DATA, P | NX);
    assert_int_equal(gm_mmu_enter(rig.mmu), GM_MMU_OK);
    assert_int_equal(gm_mmu_explain(rig.mmu, 0x3010, GM_MMU_READ, GM_MMU_SUPERVISOR, &translation),
                     GM_MMU_OK);
    assert_int_equal(translation.gpa, DATA + 0x10);
    assert_int_equal(translation.page_bytes, PAGE);
    assert_false(translation.is_writable || translation.is_for_user || translation.is_executable);
    assert_int_equal(translation.level_count, 4);
    assert_int_equal(translation.depth, 4);
    assert_int_equal(translation.entry_gpas[0], PML4);
    assert_int_equal(translation.entry_gpas[3], PT + 3 * 8);
    assert_true(translation.entries[3] == (DATA | P | NX));
    assert_int_equal(gm_mmu_explain(rig.mmu, 0x3010, GM_MMU_WRITE, GM_MMU_SUPERVISOR, &translation),
                     GM_MMU_PAGE_FAULT);
    assert_int_equal(translation.error_code, 0x3);
    assert_int_equal(
        gm_mmu_explain(rig.mmu, 0x200000, GM_MMU_READ, GM_MMU_SUPERVISOR, &translation),
        GM_MMU_PAGE_FAULT);
    assert_int_equal(translation.depth, 3);
    gm_mmu_leave(rig.mmu);
    assert_int_equal(get(&rig, PML4) & A, 0);
    assert_int_equal(gm_soft_vcpu_ioctl(rig.vcpu, KVM_TRANSLATE, (uintptr_t)&ioctl), 0);
    assert_int_equal(ioctl.physical_address, DATA + 0x2123);
    assert_int_equal(ioctl.valid, 1);
    ioctl.linear_address = 0x200000;
    assert_int_equal(gm_soft_vcpu_ioctl(rig.vcpu, KVM_TRANSLATE, (uintptr_t)&ioctl), 0);
    assert_int_equal(ioctl.valid, 0);
    assert_int_equal(gm_soft_vcpu_ioctl(rig.vcpu, KVM_TRANSLATE, 8), -EFAULT);
    assert_int_equal(get(&rig, PML4) & A, 0);
    rig_free(&rig);
}

static void linear_changes_of_mode_forget_everything(void **state)
{
    /* WP off: a supervisor may write what it could not, at once. */
    struct rig rig = rig_with_tables(NULL);
    struct gm_mmu_paging paging = long_mode();

    (void)state;
    map_page(&rig, 1, DATA, P);
    expect_fault(&rig, store(&rig, 0x1000, GM_MMU_SUPERVISOR, 1), 0x1000, 0x3);
    paging.cr0 &= ~0x10000u;
    set_paging(&rig, &paging);
    assert_int_equal(store(&rig, 0x1000, GM_MMU_SUPERVISOR, 1), GM_MMU_OK);
    paging.cr0 |= 0x10000u;
    set_paging(&rig, &paging);
    expect_fault(&rig, store(&rig, 0x1000, GM_MMU_SUPERVISOR, 1), 0x1000, 0x3);
    rig_free(&rig);
}

static void linear_tags_that_run_out_are_begun_anew(void **state)
{
    /* More changes of CR3 than there are tags: no translation of an old context comes back. */
    struct rig rig = rig_with_tables(NULL);
    struct gm_mmu_paging paging = long_mode();

    (void)state;
    for (unsigned i = 0; i < 5000; i++) {
        uint64_t value = 0;

        map_page(&rig, 0, DATA + (i % 7) * PAGE, P | W | U);
        set_paging(&rig, &paging);
        assert_int_equal(load(&rig, 0, GM_MMU_USER, &value), GM_MMU_OK);
        assert_true(value == 0x1111111111111111u * (i % 7 + 1));
    }
    rig_free(&rig);
}

static void linear_access_of_no_word_is_an_error(void **state)
{
    /* The caller's mistake: a size that no load has, or no guest mode. */
    struct rig rig = rig_with_tables(NULL);
    uint64_t value = 0;

    (void)state;
    assert_int_equal(gm_mmu_enter(rig.mmu), GM_MMU_OK);
    assert_int_equal(gm_mmu_load_linear_slow(rig.mmu, 0, 3, GM_MMU_USER, &value), GM_MMU_ERROR);
    assert_int_equal(gm_mmu_exit(rig.mmu)->error, -EINVAL);
    assert_int_equal(gm_mmu_store_linear_slow(rig.mmu, 0, 8, GM_MMU_USER, 1), GM_MMU_ERROR);
    assert_int_equal(gm_mmu_exit(rig.mmu)->error, -EINVAL);
    assert_true(get(&rig, DATA) == 0x1111111111111111u);
    rig_free(&rig);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(linear_without_paging_is_physical),
        cmocka_unit_test(linear_access_sets_the_flags_of_its_walk),
        cmocka_unit_test(linear_access_across_pages_goes_to_both),
        cmocka_unit_test(linear_rights_are_those_of_the_view),
        cmocka_unit_test(linear_address_that_is_not_canonical_is_refused),
        cmocka_unit_test(linear_translation_lasts_until_it_is_invalidated),
        cmocka_unit_test(linear_invlpg_forgets_what_only_fetches_may_use),
#ifdef GM_AUDIT_ON
        cmocka_unit_test(linear_walk_whose_entry_is_always_replaced_is_kicked),
        cmocka_unit_test(linear_walk_whose_entry_is_always_replaced_holds_nobody_up),
#endif
        cmocka_unit_test(linear_contexts_with_pcids_are_kept_when_asked),
        cmocka_unit_test(linear_translation_ends_with_its_slot),
        cmocka_unit_test(linear_write_is_logged_with_its_tables),
        cmocka_unit_test(linear_tables_in_read_only_memory_are_walked),
        cmocka_unit_test(linear_tables_without_memory_are_lost),
        cmocka_unit_test(linear_flags_in_a_tracked_table_are_told),
        cmocka_unit_test(linear_pdptes_are_loaded_and_checked),
        cmocka_unit_test(linear_pdptes_can_be_given_and_got),
        cmocka_unit_test(linear_cmpxchg_crosses_pages),
        cmocka_unit_test(explain_reads_without_a_trace),
        cmocka_unit_test(linear_changes_of_mode_forget_everything),
        cmocka_unit_test(linear_access_of_no_word_is_an_error),
        cmocka_unit_test(linear_tags_that_run_out_are_begun_anew),
    };

    return cmocka_run_group_tests_name("soft_linear", tests, NULL, NULL);
}
