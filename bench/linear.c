/*
 * bench/linear.c - what a guest's page tables cost: walked through EPT, and shadowed.
 *
 *     ept-CASE, shadow-CASE
 *
 * Both VMs do the same. The guest has 4 levels of 4 KiB pages over
 * 64 MiB; its tables lie behind that memory, and are mapped at linear addresses of their own.
 */
#include "measure.h"

#define PAGE 4096ull
#define DATA_PAGES 16384ull
#define ENTRIES 512ull
#define TABLE_ENTRY 7u /* present, writable, for users */

/* Guest-physical: the data, then one set of tables for each of two processes. */
#define TABLES (DATA_PAGES * PAGE)
#define PT_PAGES (DATA_PAGES / ENTRIES)
#define SET_PAGES (3 + PT_PAGES + 1)
#define SIZE_BYTES (TABLES + 2 * SET_PAGES * PAGE)
/* Linear: the data from 0 on; a process's own set of tables from here on, by one table more. */
#define TABLES_LINEAR (PT_PAGES * ENTRIES * PAGE)

struct guest {
    struct gm_soft *soft;
    struct gm_soft_vcpu *vcpu;
    struct gm_mmu *mmu;
    uint8_t *memory;
};

static uint64_t set_gpa(unsigned process)
{
    return TABLES + process * SET_PAGES * PAGE;
}

static void put(struct guest *guest, uint64_t gpa, uint64_t value)
{
    memcpy(guest->memory + gpa, &value, sizeof(value));
}

/* PML4, PDPT, PD, page tables, and the table that maps all these. */
static void make_tables(struct guest *guest, unsigned process)
{
    uint64_t set = set_gpa(process);
    uint64_t pts = set + 3 * PAGE;

    put(guest, set, (set + PAGE) | TABLE_ENTRY);
    put(guest, set + PAGE, (set + 2 * PAGE) | TABLE_ENTRY);
    for (uint64_t i = 0; i <= PT_PAGES; i++) {
        put(guest, set + 2 * PAGE + i * 8, (pts + i * PAGE) | TABLE_ENTRY);
    }
    for (uint64_t i = 0; i < DATA_PAGES; i++) {
        put(guest, pts + i * 8, i * PAGE | TABLE_ENTRY);
    }
    for (uint64_t i = 0; i < SET_PAGES; i++) {
        put(guest, pts + PT_PAGES * PAGE + i * 8, (set + i * PAGE) | TABLE_ENTRY);
    }
}

static void set_cr3(struct guest *guest, uint64_t cr3)
{
    const struct gm_mmu_paging paging = {
        .cr0 = 0x80010001, .cr3 = cr3, .cr4 = 0x20020, .efer = 0xd00};

    need(gm_mmu_set_paging(guest->mmu, &paging) == GM_MMU_OK, "CR3");
}

static struct guest guest_new(bool shadow_paging)
{
    const struct gm_soft_options options = {.size = sizeof(options),
                                            .shadow_paging = shadow_paging};
    struct guest guest = {.soft = open_vm(&options), .memory = host_memory(SIZE_BYTES)};
    struct gm_soft_slot slot = {.size_bytes = SIZE_BYTES, .hva = (uintptr_t)guest.memory};

    need(gm_soft_set_slots(guest.soft, &slot, 1, NULL) == 0, "slot");
    need(gm_soft_vcpu_new(guest.soft, 0, &guest.vcpu) == 0, "vCPU");
    guest.mmu = gm_soft_vcpu_mmu(guest.vcpu);
    make_tables(&guest, 0);
    make_tables(&guest, 1);
    need(gm_mmu_enter(guest.mmu) == GM_MMU_OK, "guest mode");
    set_cr3(&guest, set_gpa(0));
    return guest;
}

static uint64_t load(struct guest *guest, uint64_t linear)
{
    uint64_t value = 0;

    need(gm_mmu_load_linear(guest->mmu, linear, 8, GM_MMU_SUPERVISOR, &value) == GM_MMU_OK, "load");
    return value;
}

static void store(struct guest *guest, uint64_t linear, uint64_t value)
{
    need(gm_mmu_store_linear(guest->mmu, linear, 8, GM_MMU_SUPERVISOR, value) == GM_MMU_OK,
         "store");
}

/* Twice as many pages as the TLB has entries, in turn: each has forgotten the one before. Each in a cache line of its
 * own, so that the walk is seen, and not the memory. */
#define WALK_PAGES 2048ull
#define WALK_ROUNDS 15

static uint64_t walk_address(uint64_t number)
{
    uint64_t page = number % WALK_PAGES;

    return page * PAGE + page * 64 % PAGE;
}

static double time_walk(struct guest *guest)
{
    double samples[WALK_ROUNDS];

    for (int round = 0; round < WALK_ROUNDS; round++) {
        double before = now_ns();

        for (uint64_t i = 0; i < WALK_PAGES; i++) {
            (void)load(guest, walk_address(i));
        }
        samples[round] = (now_ns() - before) / WALK_PAGES;
    }
    return median(samples, WALK_ROUNDS);
}

/* The same loads without any translation: what memory alone takes. */
static double time_plain(struct guest *guest)
{
    double samples[WALK_ROUNDS];

    for (int round = 0; round < WALK_ROUNDS; round++) {
        double before = now_ns();

        for (uint64_t i = 0; i < WALK_PAGES; i++) {
            (void)*(volatile uint64_t *)(void *)(guest->memory + walk_address(i));
        }
        samples[round] = (now_ns() - before) / WALK_PAGES;
    }
    return median(samples, WALK_ROUNDS);
}

/* First touch, the guest's tables being there: what shadows make of their faults, or EPT of its own. */
#define TOUCH_CHUNK 128ull

static double time_touch(struct guest *guest)
{
    static double samples[DATA_PAGES / TOUCH_CHUNK];

    gm_mmu_leave(guest->mmu);
    gm_soft_zap_all(guest->soft);
    need(gm_mmu_enter(guest->mmu) == GM_MMU_OK, "guest mode");
    for (uint64_t first = 0; first < DATA_PAGES; first += TOUCH_CHUNK) {
        double before = now_ns();

        for (uint64_t i = first; i < first + TOUCH_CHUNK; i++) {
            (void)load(guest, i * PAGE);
        }
        samples[first / TOUCH_CHUNK] = (now_ns() - before) / TOUCH_CHUNK;
    }
    return median(samples, DATA_PAGES / TOUCH_CHUNK);
}

/* An entry of one table of process 0 is written through its own mapping. */
static uint64_t entry_linear(uint64_t table, uint64_t index)
{
    return TABLES_LINEAR + table * PAGE + index * 8;
}

#define EDITS 200

/* Writes of a directory's entry, each used again after it: a shadow makes them by hand. */
static double time_directory_write(struct guest *guest)
{
    uint64_t pt = set_gpa(0) + 3 * PAGE;
    double sum = 0;

    for (uint64_t i = 0; i < EDITS; i++) {
        uint64_t index = i % PT_PAGES;
        double before = now_ns();

        store(guest, entry_linear(2, index), (pt + index * PAGE) | TABLE_ENTRY);
        sum += now_ns() - before;
        gm_mmu_invlpg(guest->mmu, index * ENTRIES * PAGE);
        (void)load(guest, index * ENTRIES * PAGE);
    }
    return sum / EDITS;
}

/* The first write of a page table after a flush; or one of those that follow. */
static double time_table_write(struct guest *guest, bool is_first)
{
    double sum_first = 0;
    double sum_next = 0;

    for (uint64_t i = 0; i < EDITS; i++) {
        double before;

        set_cr3(guest, set_gpa(0));
        (void)load(guest, 0);
        (void)load(guest, entry_linear(3, 0));
        before = now_ns();
        store(guest, entry_linear(3, 8), 8 * PAGE | TABLE_ENTRY);
        sum_first += now_ns() - before;
        before = now_ns();
        for (uint64_t index = 9; index < 73; index++) {
            store(guest, entry_linear(3, index), index * PAGE | TABLE_ENTRY);
        }
        sum_next += (now_ns() - before) / 64;
    }
    return (is_first ? sum_first : sum_next) / EDITS;
}

static double time_first_write(struct guest *guest)
{
    return time_table_write(guest, true);
}

static double time_next_write(struct guest *guest)
{
    return time_table_write(guest, false);
}

/* A whole edit, as kernels make it: the entry, INVLPG, the access. */
static double time_edit(struct guest *guest)
{
    double before = now_ns();

    for (uint64_t i = 0; i < EDITS; i++) {
        uint64_t index = 100 + i % 64;

        store(guest, entry_linear(3, index), ((i + index) % DATA_PAGES * PAGE) | TABLE_ENTRY);
        gm_mmu_invlpg(guest->mmu, index * PAGE);
        (void)load(guest, index * PAGE);
    }
    return (now_ns() - before) / EDITS;
}

/* CR3 and one access, forth and back between two processes; @keep: with PCIDs, and bit 63. */
static double time_switch(struct guest *guest, bool keep)
{
    uint64_t flag = keep ? UINT64_C(1) << 63 : 0;
    double before = now_ns();

    for (uint64_t i = 0; i < EDITS; i++) {
        set_cr3(guest, set_gpa(1) | 1 | flag);
        (void)load(guest, 0x5000);
        set_cr3(guest, set_gpa(0) | flag);
        (void)load(guest, 0x5000);
    }
    return (now_ns() - before) / (2 * EDITS);
}

static double time_switch_fresh(struct guest *guest)
{
    return time_switch(guest, false);
}

static double time_switch_kept(struct guest *guest)
{
    return time_switch(guest, true);
}

static const struct {
    const char *name;
    double (*time)(struct guest *guest);
} rows[] = {
    {"touch", time_touch}, /* first touch of 4 KiB, in order */
    {"walk", time_walk},
    {"plain", time_plain},
    {"directory-write", time_directory_write},
    {"first-write", time_first_write},
    {"next-write", time_next_write},
    {"edit", time_edit},
    {"switch", time_switch_fresh},
    {"switch-kept", time_switch_kept}, /* with PCIDs */
};

static double time_row(uint64_t row, uint64_t shadow_paging)
{
    static struct guest guests[2];
    struct guest *guest = &guests[shadow_paging];
    double ns;

    if (guest->soft == NULL) {
        *guest = guest_new(shadow_paging);
        (void)time_touch(guest);
    }
    ns = rows[row].time(guest);
    set_cr3(guest, set_gpa(0));
    return ns;
}

int main(int argc, char **argv)
{
    char name[48];

    for (size_t row = 0; row < sizeof(rows) / sizeof(rows[0]); row++) {
        snprintf(name, sizeof(name), "ept-%s", rows[row].name);
        add_case(name, time_row, row, false);
        snprintf(name, sizeof(name), "shadow-%s", rows[row].name);
        add_case(name, time_row, row, true);
    }
    return serve_cases(argc, argv);
}
