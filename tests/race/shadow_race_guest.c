/* race/shadow_race_guest.c - what the vCPUs do, and what they must find: see shadow_race.h. */
#include "race/shadow_race.h"

#include "model/require.h"

#include <inttypes.h>
#include <sched.h>

struct guest guest;

/* ---- accesses ---- */

/* A load; what comes out as something else than memory, but may, goes on in guest mode. */
struct loaded {
    enum gm_mmu_outcome outcome; /* of the whole: not GM_MMU_OK, then the instruction ends */
    unsigned number;             /* NOT_PRESENT: a page fault */
    bool is_nothing;             /* no slot is there */
};

static struct loaded load_number(struct race_vcpu *vcpu, uint64_t linear)
{
    unsigned fleeting = atomic_load(&guest.fleeting);
    struct loaded loaded = {0};
    uint64_t value = 0;

    loaded.outcome = gm_mmu_load_linear(vcpu->mmu, linear, 8, GM_MMU_SUPERVISOR, &value);
    loaded.number = (unsigned)value;
    if (loaded.outcome == GM_MMU_PAGE_FAULT) {
        loaded.number = NOT_PRESENT;
        loaded.outcome = gm_mmu_enter(vcpu->mmu);
    } else if (loaded.outcome == GM_MMU_MMIO) {
        loaded.is_nothing = true;
        REQUIRE(fleeting % 2 != 0 || atomic_load(&guest.fleeting) != fleeting,
                "vCPU %u: nothing at %#" PRIx64 ", where a slot is", vcpu->index, linear);
        loaded.outcome = gm_mmu_enter(vcpu->mmu);
    }
    return loaded;
}

static bool is_right(const struct loaded *loaded, unsigned number)
{
    return loaded->is_nothing ? is_fleeting(number) : loaded->number == number;
}

static struct gm_mmu_paging registers_of(const struct race_vcpu *vcpu)
{
    return (struct gm_mmu_paging){
        .cr0 = 0x80010001, .cr3 = PML4(vcpu->index), .cr4 = 0x20, .efer = 0xd00};
}

static enum gm_mmu_outcome reload_cr3(struct race_vcpu *vcpu)
{
    const struct gm_mmu_paging registers = registers_of(vcpu);

    return gm_mmu_set_paging(vcpu->mmu, &registers);
}

/* In one of the ways that a guest has. None leaves guest mode. */
static void flush(struct race_vcpu *vcpu, uint64_t linear)
{
    switch (rnd_below(&vcpu->rnd, 8)) {
    case 0:
        REQUIRE(reload_cr3(vcpu) == GM_MMU_OK, "CR3");
        break;
    case 1:
        gm_mmu_flush_all(vcpu->mmu);
        break;
    default:
        gm_mmu_invlpg(vcpu->mmu, linear);
        break;
    }
}

/* Store an entry of 8 bytes: unseen by the mapping of tables, by hand, or by an exchange. */
static enum gm_mmu_outcome edit(struct race_vcpu *vcpu, uint64_t gpa, uint64_t value)
{
    enum gm_mmu_outcome outcome;
    uint64_t seen = 0;
    uint64_t expected;

    switch (rnd_below(&vcpu->rnd, 4)) {
    case 0:
        return gm_mmu_store(vcpu->mmu, gpa, 8, value);
    case 1:
        /* Others set flags meanwhile: until nobody does. */
        outcome = gm_mmu_load(vcpu->mmu, gpa, 8, &seen);
        do {
            expected = seen;
            if (outcome == GM_MMU_OK) {
                outcome = gm_mmu_cmpxchg_linear(vcpu->mmu, LINEAR_TABLES + gpa, 8,
                                                GM_MMU_SUPERVISOR, &seen, value);
            }
        } while (outcome == GM_MMU_OK && seen != expected);
        return outcome;
    default:
        return gm_mmu_store_linear(vcpu->mmu, LINEAR_TABLES + gpa, 8, GM_MMU_SUPERVISOR, value);
    }
}

static unsigned random_number(struct rnd *rnd)
{
    return rnd_one_in(rnd, 8) ? NOT_PRESENT : (unsigned)rnd_below(rnd, 2 * NUMBERED_PAGES);
}

/* ---- mine ---- */

static enum gm_mmu_outcome edit_mine(struct race_vcpu *vcpu)
{
    struct owner *owner = &guest.owners[vcpu->index];
    unsigned entry = (unsigned)rnd_below(&vcpu->rnd, MINE_ENTRIES);
    unsigned number = random_number(&vcpu->rnd);
    enum gm_mmu_outcome outcome =
        edit(vcpu, entry_gpa(vcpu->index, MINE + entry), entry_of(number));

    if (outcome == GM_MMU_OK) {
        owner->mine[entry] = number;
        guest.edits[vcpu->index]++;
        flush(vcpu, LINEAR_OF(vcpu->index, MINE + entry));
    }
    return outcome;
}

static enum gm_mmu_outcome read_mine(struct race_vcpu *vcpu)
{
    const struct owner *owner = &guest.owners[vcpu->index];
    unsigned entry = (unsigned)rnd_below(&vcpu->rnd, MINE_ENTRIES);
    struct loaded loaded = load_number(vcpu, LINEAR_OF(vcpu->index, MINE + entry));

    REQUIRE((loaded.outcome != GM_MMU_OK && loaded.number == 0) ||
                is_right(&loaded, owner->mine[entry]),
            "vCPU %u, own entry %u: %u, not %u", vcpu->index, entry, loaded.number,
            owner->mine[entry]);
    return loaded.outcome;
}

/* ---- ours ---- */

static bool may_ask(const struct race_vcpu *vcpu)
{
    struct shootdown *shootdown = &guest.owners[vcpu->index].shootdown;

    return atomic_load(&shootdown->done) == atomic_load(&shootdown->asked);
}

static void ask(struct race_vcpu *vcpu, unsigned entry, unsigned number)
{
    struct shootdown *shootdown = &guest.owners[vcpu->index].shootdown;

    shootdown->entry = entry;
    shootdown->number = number;
    atomic_fetch_add(&shootdown->asked, 1);
}

/* The vCPU has flushed the entry: what it says counts from here on. */
static void note_flushed(struct race_vcpu *vcpu, unsigned owner, unsigned entry, unsigned number)
{
    struct flushed *flushed = &guest.flushed[vcpu->index][owner];

    if (entry >= COUNTERS) {
        flushed->wrote[entry - COUNTERS] = false;
    } else {
        flushed->ours[entry - OURS] = number;
    }
}

static void serve(struct race_vcpu *vcpu)
{
    unsigned owner = 1 - vcpu->index;
    struct shootdown *shootdown = &guest.owners[owner].shootdown;
    unsigned asked = atomic_load(&shootdown->asked);

    if (asked != atomic_load(&shootdown->done)) {
        flush(vcpu, LINEAR_OF(owner, shootdown->entry));
        note_flushed(vcpu, owner, shootdown->entry, shootdown->number);
        atomic_store(&shootdown->done, asked);
    }
}

static enum gm_mmu_outcome edit_ours(struct race_vcpu *vcpu)
{
    struct owner *owner = &guest.owners[vcpu->index];
    unsigned entry = (unsigned)rnd_below(&vcpu->rnd, OURS_ENTRIES);
    unsigned number = random_number(&vcpu->rnd);
    unsigned before = guest.flushed[vcpu->index][vcpu->index].ours[entry];
    enum gm_mmu_outcome outcome;

    if (!may_ask(vcpu)) {
        return GM_MMU_OK;
    }
    atomic_store(&owner->intended[entry], number);
    outcome = edit(vcpu, entry_gpa(vcpu->index, OURS + entry), entry_of(number));
    if (outcome != GM_MMU_OK) {
        atomic_store(&owner->intended[entry], before); /* not written */
        return outcome;
    }
    flush(vcpu, LINEAR_OF(vcpu->index, OURS + entry));
    note_flushed(vcpu, vcpu->index, OURS + entry, number);
    ask(vcpu, OURS + entry, number);
    return GM_MMU_OK;
}

/* What was flushed, or an edit that was not yet. */
static enum gm_mmu_outcome read_ours(struct race_vcpu *vcpu)
{
    unsigned owner = (unsigned)rnd_below(&vcpu->rnd, RACE_VCPUS);
    unsigned entry = (unsigned)rnd_below(&vcpu->rnd, OURS_ENTRIES);
    unsigned known = guest.flushed[vcpu->index][owner].ours[entry];
    struct loaded loaded = load_number(vcpu, LINEAR_OF(owner, OURS + entry));
    unsigned intended = atomic_load(&guest.owners[owner].intended[entry]);

    REQUIRE((loaded.outcome != GM_MMU_OK && loaded.number == 0) || is_right(&loaded, known) ||
                is_right(&loaded, intended),
            "vCPU %u, entry %u of %u: %u, not %u or %u", vcpu->index, entry, owner, loaded.number,
            known, intended);
    return loaded.outcome;
}

/* ---- counters ---- */

/* One further, by a store or an exchange; by the shared table or by its alias in the own directory. */
static enum gm_mmu_outcome count(struct race_vcpu *vcpu)
{
    bool is_either = rnd_one_in(&vcpu->rnd, 4);
    unsigned owner =
        is_either ? guest.either[vcpu->index] : (unsigned)rnd_below(&vcpu->rnd, RACE_VCPUS);
    unsigned entry = (unsigned)rnd_below(&vcpu->rnd, COUNTER_ENTRIES);
    unsigned page = owner * COUNTER_ENTRIES + entry;
    uint64_t linear =
        is_either ? LINEAR_EITHER + (COUNTERS + entry) * PAGE : LINEAR_OF(owner, COUNTERS + entry);
    uint32_t *known = &guest.counts[vcpu->index][page];
    uint64_t seen = 0;
    enum gm_mmu_outcome outcome;

    outcome =
        gm_mmu_load_linear(vcpu->mmu, linear + ALIGNED(vcpu->index), 8, GM_MMU_SUPERVISOR, &seen);
    if (outcome != GM_MMU_OK) {
        return outcome;
    }
    REQUIRE(seen == ((uint64_t)page << 32 | *known), "vCPU %u, counter %u: %#" PRIx64 ", not %u",
            vcpu->index, page, seen, *known);
    linear += ALIGNED(vcpu->index);
    if (rnd_one_in(&vcpu->rnd, 2)) {
        outcome = gm_mmu_store_linear(vcpu->mmu, linear, 8, GM_MMU_SUPERVISOR, seen + 1);
    } else {
        uint64_t found = seen;

        outcome = gm_mmu_cmpxchg_linear(vcpu->mmu, linear, 8, GM_MMU_SUPERVISOR, &found, seen + 1);
        REQUIRE(outcome != GM_MMU_OK || found == seen, "an exchange with nobody");
    }
    if (outcome == GM_MMU_OK) {
        (*known)++;
        /* By the alias it is another translation, which shootdowns do not flush. */
        if (!is_either) {
            guest.flushed[vcpu->index][owner].wrote[entry] = true;
        }
    }
    return outcome;
}

/* A counter that is not aligned goes on by an exchange with all vCPUs held: which walks the guest's tables, not the
 * shadow ones. */
static enum gm_mmu_outcome count_split(struct race_vcpu *vcpu)
{
    unsigned owner = (unsigned)rnd_below(&vcpu->rnd, RACE_VCPUS);
    unsigned entry = (unsigned)rnd_below(&vcpu->rnd, COUNTER_ENTRIES);
    uint64_t linear = LINEAR_OF(owner, COUNTERS + entry) + SPLIT(vcpu->index);
    uint32_t *known = &guest.splits[vcpu->index][owner * COUNTER_ENTRIES + entry];
    uint64_t found = *known;
    enum gm_mmu_outcome outcome = gm_mmu_cmpxchg_linear(vcpu->mmu, linear, 8, GM_MMU_SUPERVISOR,
                                                        &found, *known + UINT64_C(1));

    if (outcome == GM_MMU_OK) {
        REQUIRE(found == *known, "vCPU %u, split counter: %" PRIu64 ", not %u", vcpu->index, found,
                *known);
        (*known)++;
        guest.flushed[vcpu->index][owner].wrote[entry] = true;
    }
    return outcome;
}

/* The owner alone clears flags: what it wrote since is dirty. */
static enum gm_mmu_outcome check_dirty(struct race_vcpu *vcpu)
{
    unsigned entry = (unsigned)rnd_below(&vcpu->rnd, COUNTER_ENTRIES);
    uint64_t value = 0;
    enum gm_mmu_outcome outcome =
        gm_mmu_load(vcpu->mmu, entry_gpa(vcpu->index, COUNTERS + entry), 8, &value);

    REQUIRE(outcome != GM_MMU_OK || !guest.flushed[vcpu->index][vcpu->index].wrote[entry] ||
                (value & D) != 0,
            "vCPU %u, counter %u is clean", vcpu->index, entry);
    return outcome;
}

static enum gm_mmu_outcome clear_dirty(struct race_vcpu *vcpu)
{
    unsigned entry = (unsigned)rnd_below(&vcpu->rnd, COUNTER_ENTRIES);
    uint64_t page = COUNTED + (vcpu->index * COUNTER_ENTRIES + entry) * (uint64_t)PAGE;
    enum gm_mmu_outcome outcome;

    if (!may_ask(vcpu)) {
        return GM_MMU_OK;
    }
    outcome = edit(vcpu, entry_gpa(vcpu->index, COUNTERS + entry), page | FLAGS);
    if (outcome == GM_MMU_OK) {
        flush(vcpu, LINEAR_OF(vcpu->index, COUNTERS + entry));
        note_flushed(vcpu, vcpu->index, COUNTERS + entry, 0);
        ask(vcpu, COUNTERS + entry, 0);
    }
    return outcome;
}

/* ---- others ---- */

/* The host's entry: an edit that ended before the load began, or a later one that has begun. */
static enum gm_mmu_outcome read_hosts(struct race_vcpu *vcpu)
{
    unsigned index = (unsigned)rnd_below(&vcpu->rnd, RACE_VCPUS);
    struct owner *owner = &guest.owners[index];
    unsigned first = atomic_load(&owner->host_done);
    struct loaded loaded = load_number(vcpu, LINEAR_OF(index, HOSTS));
    unsigned last = atomic_load(&owner->host_begun);

    if (loaded.outcome == GM_MMU_OK && last - first < NUMBERED_PAGES) {
        REQUIRE((loaded.number + NUMBERED_PAGES - first % NUMBERED_PAGES) % NUMBERED_PAGES <=
                    last - first,
                "the host's entry of %u: %u, not of edits %u to %u", index, loaded.number, first,
                last);
    }
    return loaded.outcome;
}

static enum gm_mmu_outcome edit_directory(struct race_vcpu *vcpu)
{
    unsigned owner = (unsigned)rnd_below(&vcpu->rnd, RACE_VCPUS);
    enum gm_mmu_outcome outcome = edit(vcpu, PD(vcpu->index) + 4 * 8, PT(owner) | FLAGS);

    if (outcome == GM_MMU_OK) {
        guest.either[vcpu->index] = owner;
        /* All of the 2 MiB: no single page is enough. */
        return reload_cr3(vcpu);
    }
    return outcome;
}

static enum gm_mmu_outcome read_number(struct race_vcpu *vcpu, uint64_t linear, unsigned number)
{
    struct loaded loaded = load_number(vcpu, linear);

    REQUIRE(loaded.outcome != GM_MMU_OK || is_right(&loaded, number),
            "vCPU %u, page %u at %#" PRIx64 ": %u", vcpu->index, number, linear, loaded.number);
    return loaded.outcome;
}

static enum gm_mmu_outcome read_large(struct race_vcpu *vcpu)
{
    unsigned number = (unsigned)rnd_below(&vcpu->rnd, 2 * NUMBERED_PAGES);

    return read_number(vcpu, LINEAR_LARGE + number * (uint64_t)PAGE, number);
}

static enum gm_mmu_outcome read_sparse(struct race_vcpu *vcpu)
{
    unsigned table = (unsigned)rnd_below(&vcpu->rnd, SPARSE_TABLES);

    return read_number(vcpu, LINEAR_SPARSE + table * UINT64_C(0x200000), table % NUMBERED_PAGES);
}

/* Out of guest mode, between two instructions, until the host has looked. */
static enum gm_mmu_outcome pause(struct race_vcpu *vcpu)
{
    gm_mmu_leave(vcpu->mmu);
    atomic_fetch_add(&guest.paused, 1);
    while (atomic_load(&guest.pause)) {
        sched_yield();
    }
    atomic_fetch_sub(&guest.paused, 1);
    return gm_mmu_enter(vcpu->mmu);
}

typedef enum gm_mmu_outcome step_fn(struct race_vcpu *vcpu);
static step_fn *const steps[] = {
    edit_mine,  read_mine,   read_mine,   read_mine,   edit_ours,   edit_ours,
    read_ours,  read_ours,   read_ours,   count,       count,       count,
    count,      count_split, check_dirty, clear_dirty, clear_dirty, edit_directory,
    read_hosts, read_hosts,  read_large,  read_sparse, read_sparse,
};

enum gm_mmu_outcome shadow_instruction(struct race_vcpu *vcpu)
{
    if (!guest.has_paging[vcpu->index]) {
        enum gm_mmu_outcome outcome = reload_cr3(vcpu);

        guest.has_paging[vcpu->index] = outcome == GM_MMU_OK;
        return outcome;
    }
    if (atomic_load(&guest.pause)) {
        return pause(vcpu);
    }
    serve(vcpu);
    return steps[rnd_below(&vcpu->rnd, sizeof(steps) / sizeof(steps[0]))](vcpu);
}
