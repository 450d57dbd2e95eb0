/* model/guestmodel_edit.c - the random guest's page tables: what entries it makes, and how it writes them. */
#include "model/guestmodel_run.h"
#include "model/require.h"

#include <inttypes.h>
#include <string.h>

#define HIGH_TABLES 4u

unsigned guestrun_home(const struct guest_vcpu *vcpu, unsigned page)
{
    unsigned levels = vcpu->top != 0 ? vcpu->top : 2;

    if (page >= 1 && page < GUESTRUN_TABLES) {
        return 1 + (page - 1) % levels;
    }
    if (page >= GUEST_LOW_PAGES && page < GUEST_LOW_PAGES + HIGH_TABLES) {
        return 1 + (page - GUEST_LOW_PAGES) % 2;
    }
    return 0;
}

static unsigned random_table(struct guestrun *run)
{
    return rnd_one_in(&run->rnd, 6) ? GUEST_LOW_PAGES + (unsigned)rnd_below(&run->rnd, HIGH_TABLES)
                                    : 1 + (unsigned)rnd_below(&run->rnd, GUESTRUN_TABLES - 1);
}

static unsigned random_page_of(struct guestrun *run, const struct guest_vcpu *vcpu, unsigned home)
{
    for (unsigned i = 0; i < 64; i++) {
        unsigned page = home == 0 || rnd_one_in(&run->rnd, 8)
                            ? (unsigned)rnd_below(&run->rnd, GUEST_PAGES)
                            : random_table(run);

        if (guestrun_home(vcpu, page) == home) {
            return page;
        }
    }
    return 1;
}

/* What an entry of that level leads to. */
static uint64_t random_frame(struct guestrun *run, const struct guest_vcpu *vcpu, unsigned level)
{
    uint64_t kind = rnd_below(&run->rnd, 100);
    static const uint64_t nowhere[] = {0x48000, 0x280000, 0x700000, UINT64_C(5) << 32};

    if (kind < 86) {
        unsigned home = level - 1;

        if (level == 1 && rnd_one_in(&run->rnd, 3)) {
            home = 1 + (unsigned)rnd_below(&run->rnd, vcpu->top != 0 ? vcpu->top : 2);
        }
        return guest_memory_gpa((uint64_t)random_page_of(run, vcpu, home) * GUEST_PAGE);
    }
    if (kind < 95) {
        return guest_memory_gpa((uint64_t)random_table(run) * GUEST_PAGE);
    }
    if (kind < 98) {
        return guest_memory_gpa(rnd_below(&run->rnd, GUEST_PAGES) * GUEST_PAGE);
    }
    return nowhere[rnd_below(&run->rnd, 4)];
}

static bool percent(struct guestrun *run, unsigned chance)
{
    return rnd_below(&run->rnd, 100) < chance;
}

static uint64_t large_frame(struct guestrun *run, const struct guest_vcpu *vcpu, unsigned level)
{
    unsigned shift = guest_shift(vcpu, level);

    return shift == 21 ? rnd_below(&run->rnd, 8) % 3 << shift
                       : (uint64_t)rnd_one_in(&run->rnd, 8) << shift;
}

static uint64_t entry_of_pdpt(struct guestrun *run, const struct guest_vcpu *vcpu)
{
    uint64_t entry = random_frame(run, vcpu, 3) | (percent(run, 98) ? GUEST_P : 0);

    return percent(run, 4) ? entry | UINT64_C(2) << rnd_below(&run->rnd, 62) : entry;
}

uint64_t guestrun_entry(struct guestrun *run, const struct guest_vcpu *vcpu, unsigned level)
{
    bool is_small = vcpu->entry_bytes == 4;
    bool has_xd = (vcpu->registers.efer & GUEST_EFER_NXE) != 0;
    uint64_t entry = random_frame(run, vcpu, level);

    if (!is_small && vcpu->top == 3 && level == 3) {
        return entry_of_pdpt(run, vcpu);
    }
    if ((level == 2 || (level == 3 && vcpu->registers.has_1g_pages)) && percent(run, 14)) {
        entry = large_frame(run, vcpu, level) | GUEST_PS;
    }
    entry |= percent(run, 97) ? GUEST_P : 0;
    entry |= percent(run, level > 1 ? 96 : 84) ? GUEST_RW : 0;
    entry |= percent(run, level > 1 ? 96 : 84) ? GUEST_US : 0;
    entry |= percent(run, 40) ? GUEST_A : 0;
    entry |= percent(run, 40) ? GUEST_D : 0;
    entry |= percent(run, 15) ? GUEST_G : 0;
    entry |= (rnd_next(&run->rnd) & 3) << 3; /* PWT, PCD */
    if (!is_small) {
        entry |= has_xd && percent(run, level > 1 ? 2 : 12) ? GUEST_XD : 0;
        entry |= rnd_below(&run->rnd, 4) == 0 ? rnd_below(&run->rnd, 16) << 59 : 0;
    }
    if (percent(run, 1)) {
        entry |= UINT64_C(1) << rnd_below(&run->rnd, 64); /* perhaps reserved */
    }
    return is_small ? entry & UINT32_MAX : entry;
}

/* An entry made a little different: how guests mostly edit. */
static uint64_t mutate(struct guestrun *run, const struct guest_vcpu *vcpu, unsigned level,
                       uint64_t entry)
{
    static const uint64_t bits[] = {GUEST_P,  GUEST_RW, GUEST_US, GUEST_A,  GUEST_D,
                                    GUEST_PS, GUEST_G,  GUEST_US, GUEST_RW, GUEST_P};
    uint64_t frame_mask = UINT64_C(0x000ffffffffff000);
    uint64_t kind = rnd_below(&run->rnd, 100);

    if ((entry & GUEST_P) == 0 && percent(run, 85)) {
        entry = guestrun_entry(run, vcpu, level);
    } else if (kind < 30) {
        entry = (entry & ~frame_mask) | (random_frame(run, vcpu, level) & frame_mask);
    } else if (kind < 60) {
        entry ^= bits[rnd_below(&run->rnd, 10)];
    } else if (kind < 70) {
        entry &= ~(GUEST_A | GUEST_D);
    } else if (kind < 73) {
        entry = 0;
    } else {
        entry = guestrun_entry(run, vcpu, level);
    }
    return vcpu->entry_bytes == 4 ? entry & UINT32_MAX : entry;
}

/* ---- linear addresses ---- */

static uint64_t random_index(struct guestrun *run, unsigned bits, unsigned level)
{
    uint64_t last = (UINT64_C(1) << bits) - 1;
    uint64_t pick = rnd_below(&run->rnd, 8);

    if (level == 1) {
        return pick < 6 ? pick : last - (pick - 6);
    }
    return (pick < 5 ? 0 : pick < 6 ? 1 : pick < 7 ? 2 : last) & last;
}

uint64_t guestrun_linear(struct guestrun *run, const struct guest_vcpu *vcpu)
{
    uint64_t linear = 0;

    if (vcpu->top == 0) {
        return rnd_below(&run->rnd, GUEST_LOW_PAGES) * GUEST_PAGE;
    }
    for (unsigned level = vcpu->top; level > 0; level--) {
        linear |= random_index(run, guest_index_bits(vcpu, level), level)
                  << guest_shift(vcpu, level);
    }
    if (vcpu->top >= 4 && !rnd_one_in(&run->rnd, 50)) {
        unsigned unused = vcpu->top == 5 ? 64 - 57 : 64 - 48;

        linear = (uint64_t)((int64_t)(linear << unused) >> unused);
    }
    return linear;
}

uint64_t guestrun_some_linear(struct guestrun *run, const struct guest_vcpu *vcpu)
{
    uint64_t *often = &run->linears[rnd_below(&run->rnd, GUESTRUN_LINEARS)];

    struct guest_walk walk;

    guest_walk_now(&run->model, vcpu, GM_MMU_READ, GM_MMU_SUPERVISOR_AC, *often, &walk);
    if (rnd_one_in(&run->rnd, 40) || (walk.outcome != GM_MMU_OK && percent(run, 15)) ||
        (!guest_is_canonical(vcpu, *often) && percent(run, 80))) {
        *often = guestrun_linear(run, vcpu);
    }
    if (rnd_one_in(&run->rnd, 4)) {
        /* A neighbour: by the same tables, and in the same large page if it is one. */
        return (*often & ~(((UINT64_C(1) << guest_index_bits(vcpu, 1)) - 1) << 12)) |
               random_index(run, guest_index_bits(vcpu, 1), 1) << 12;
    }
    return rnd_one_in(&run->rnd, 20) ? guestrun_linear(run, vcpu) : *often;
}

static void put(struct guestrun *run, const struct guest_vcpu *vcpu, unsigned page, unsigned index)
{
    unsigned home = guestrun_home(vcpu, page);
    uint64_t entry = guestrun_entry(run, vcpu, home);
    uint64_t offset = (uint64_t)page * GUEST_PAGE + (uint64_t)index * vcpu->entry_bytes;

    memcpy(run->model.memory.bytes + offset, &entry, vcpu->entry_bytes);
}

void guestrun_fill(struct guestrun *run, const struct guest_vcpu *vcpu)
{
    unsigned count = GUEST_PAGE / vcpu->entry_bytes;

    for (unsigned page = 0; page < GUEST_PAGES; page++) {
        if (guestrun_home(vcpu, page) == 0) {
            continue;
        }
        memset(run->model.memory.bytes + (uint64_t)page * GUEST_PAGE, 0, GUEST_PAGE);
        for (unsigned index = 0; index < 8; index++) {
            put(run, vcpu, page, index);
        }
        put(run, vcpu, page, count - 1);
        put(run, vcpu, page, count - 2);
    }
}

/* ---- edits ---- */

/* A linear page that leads to this one, for a supervisor to write. */
static bool find_linear(struct guestrun *run, const struct guest_vcpu *vcpu, uint64_t gpa,
                        uint64_t *linear)
{
    for (unsigned i = 0; i < GUESTRUN_LINEARS; i++) {
        uint64_t page = run->linears[i] / GUEST_PAGE * GUEST_PAGE;
        struct guest_walk walk;

        guest_walk_now(&run->model, vcpu, GM_MMU_WRITE, GM_MMU_SUPERVISOR_AC, page, &walk);
        if (walk.outcome == GM_MMU_OK && walk.gpa == gpa / GUEST_PAGE * GUEST_PAGE) {
            *linear = page + gpa % GUEST_PAGE;
            return true;
        }
    }
    return false;
}

/* A linear page that leads to a table, if there is one that is used often. */
static bool find_mapped_table(struct guestrun *run, const struct guest_vcpu *vcpu, uint64_t *gpa)
{
    unsigned first = (unsigned)rnd_below(&run->rnd, GUESTRUN_LINEARS);

    for (unsigned i = 0; i < GUESTRUN_LINEARS; i++) {
        struct guest_walk walk;
        uint64_t place;

        guest_walk_now(&run->model, vcpu, GM_MMU_WRITE, GM_MMU_SUPERVISOR_AC,
                       run->linears[(first + i) % GUESTRUN_LINEARS], &walk);
        place = guest_memory_place(walk.gpa);
        if (walk.outcome == GM_MMU_OK && place != GUEST_NOWHERE &&
            guestrun_home(vcpu, (unsigned)(place / GUEST_PAGE)) != 0) {
            *gpa = walk.gpa / GUEST_PAGE * GUEST_PAGE;
            return true;
        }
    }
    return false;
}

/* Which entry: of a walk that is made often, or any. Its level if it is used as it is meant to. */
static uint64_t choose_entry(struct guestrun *run, const struct guest_vcpu *vcpu, uint64_t linear,
                             unsigned *level)
{
    unsigned bits = vcpu->entry_bytes == 4 ? 10 : 9;
    struct guest_walk walk;
    uint64_t table;

    guest_walk_now(&run->model, vcpu, GM_MMU_READ, GM_MMU_SUPERVISOR_AC, linear, &walk);
    if (walk.count != 0 && percent(run, 70)) {
        unsigned step =
            walk.count - 1 - (unsigned)(rnd_below(&run->rnd, walk.count) * rnd_below(&run->rnd, 2));

        *level = vcpu->top - step;
        if (walk.steps[step].gpa != GUEST_NOWHERE) {
            return walk.steps[step].gpa;
        }
    }
    if (!percent(run, 50) || !find_mapped_table(run, vcpu, &table)) {
        table = guest_memory_gpa((uint64_t)random_table(run) * GUEST_PAGE);
    }
    *level = guestrun_home(vcpu, (unsigned)(guest_memory_place(table) / GUEST_PAGE));
    *level = *level != 0 ? *level : 1;
    return table + random_index(run, bits, 1) * vcpu->entry_bytes;
}

/* Part of the entry, or more than it: what is around stays as it is. */
static void reshape(struct guestrun *run, struct guestrun_access *access, uint64_t *gpa)
{
    uint64_t place = guest_memory_place(*gpa);
    uint64_t start = place & ~UINT64_C(15);
    unsigned size = 1u << rnd_below(&run->rnd, 4);
    uint8_t around[24];
    unsigned at = (unsigned)(place - start) + (unsigned)rnd_below(&run->rnd, access->size_bytes);

    if (start + sizeof(around) > GUEST_BYTES || start % GUEST_PAGE > GUEST_PAGE - sizeof(around)) {
        return;
    }
    if (size > 1 && percent(run, 70)) {
        at &= ~(size - 1);
    }
    memcpy(around, run->model.memory.bytes + start, sizeof(around));
    memcpy(around + (place - start), access->bytes, access->size_bytes);
    if (at + size > sizeof(around)) {
        return;
    }
    memcpy(access->bytes, around + at, size);
    *gpa = guest_memory_gpa(start + at);
    access->size_bytes = size;
}

/* Store it, by a physical address or a linear one. */
static void write_entry(struct guestrun *run, struct guestrun_vcpu *vcpu, uint64_t gpa,
                        uint64_t entry)
{
    struct guestrun_access access = {
        .kind = GM_MMU_WRITE, .view = GM_MMU_SUPERVISOR_AC, .size_bytes = vcpu->model->entry_bytes};

    memcpy(access.bytes, &entry, sizeof(entry));
    if (percent(run, 15)) {
        reshape(run, &access, &gpa);
    }
    access.address = gpa;
    access.is_linear = percent(run, 60) && find_linear(run, vcpu->model, gpa, &access.address);
    access.is_exchange = percent(run, 20);
    if (access.is_exchange) {
        access.expected =
            guest_memory_load(&run->model.memory, guest_memory_place(gpa), access.size_bytes);
        access.expected ^= percent(run, 20) ? GUEST_A : 0;
    }
    run->counts->edits++;
    run->counts->linear_edits += access.is_linear;
    guestrun_make(run, vcpu, &access);
}

void guestrun_invlpg(struct guestrun *run, struct guestrun_vcpu *vcpu, uint64_t linear)
{
    guestrun_note(run, "vcpu %u: INVLPG %#" PRIx64, vcpu->id, linear);
    REQUIRE(gm_mmu_enter(vcpu->mmu) == GM_MMU_OK, "cannot enter");
    gm_mmu_invlpg(vcpu->mmu, linear);
    gm_mmu_leave(vcpu->mmu);
    guest_vcpu_flush(&run->model, vcpu->model, linear, false);
}

static struct guestrun_vcpu *either(struct guestrun *run)
{
    return &run->vcpus[rnd_below(&run->rnd, GUEST_VCPUS)];
}

/* The entry becomes another one. */
static void edit_entry(struct guestrun *run, struct guestrun_vcpu *vcpu, uint64_t gpa,
                       unsigned level)
{
    uint64_t place = guest_memory_place(gpa);
    uint64_t entry;

    if (place != GUEST_NOWHERE) {
        entry = guest_memory_load(&run->model.memory, place, vcpu->model->entry_bytes);
        write_entry(run, vcpu, gpa, mutate(run, vcpu->model, level, entry));
    }
}

void guestrun_edit(struct guestrun *run, struct guestrun_vcpu *vcpu)
{
    uint64_t linear = guestrun_some_linear(run, vcpu->model);
    unsigned level = 1;
    uint64_t gpa = choose_entry(run, vcpu->model, linear, &level);

    if (percent(run, 40)) {
        guestrun_access(run, either(run), linear);
    }
    edit_entry(run, vcpu, gpa, level);
    if (percent(run, 30)) {
        guestrun_access(run, either(run), linear);
    }
    for (unsigned i = 0; i < GUEST_VCPUS; i++) {
        if (percent(run, 50)) {
            guestrun_invlpg(run, &run->vcpus[i], linear ^ rnd_below(&run->rnd, GUEST_PAGE));
        }
    }
    if (percent(run, 50)) {
        guestrun_access(run, either(run), linear);
    }
}

void guestrun_visit(struct guestrun *run, struct guestrun_vcpu *vcpu)
{
    struct gm_mmu_paging home = vcpu->model->registers;
    uint64_t linear = guestrun_some_linear(run, vcpu->model);
    unsigned level = 1;
    uint64_t gpa = choose_entry(run, vcpu->model, linear, &level);

    guestrun_access(run, vcpu, linear);
    guestrun_switch_root(run, vcpu);
    guestrun_access(run, vcpu, linear);
    edit_entry(run, percent(run, 70) ? vcpu : either(run), gpa, level);
    if (percent(run, 70)) {
        guestrun_invlpg(run, vcpu, linear);
    }
    if (vcpu->model->root_count < GUEST_ROOTS - 1 &&
        guest_is_same_mode(&vcpu->model->registers, &home)) {
        if ((home.cr4 & GUEST_CR4_PCIDE) != 0 && percent(run, 80)) {
            home.cr3 |= GUEST_CR3_KEEP;
        }
        guestrun_set(run, vcpu, &home);
    }
    guestrun_access(run, vcpu, linear);
}
