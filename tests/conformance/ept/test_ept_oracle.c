/*
 * conformance/ept/test_ept_oracle.c - our EPT tables, walked by emulated processors: at each address
 * they find the page that our own walk finds, and refuse what it refuses, for the same reason.
 *
 * Bochs walks the tables as they are: VMX with EPT, 4 levels, guest addresses of 40 bits. QEMU's SVM
 * walks them translated into AMD's format, which has no execute-only pages and no memory types, but 5
 * levels and 51 bits.
 */
#include "ask.h"
#include "dump.h"
#include "filler.h"

#include "mmu/walk.h"

#include "model/require.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

char require_place[160];

#define QUERIES_PER_ROUND 2000u

#define EXIT_SKIPPED 77

/* Exit qualification of a violation: Intel SDM 3C, "Exit Qualification for EPT Violations". */
#define QUALIFICATION_MASK 0x1bfu
#define QUALIFICATION_RIGHTS_SHIFT 3u
#define QUALIFICATION_LINEAR 0x180u /* there is a linear address, and it was its translation */

/* EXITINFO1 of a nested page fault: AMD APM 2, "Nested versus Guest Page Faults". */
#define NPF_MASK 0x30000001full
#define NPF_PRESENT 0x1u
#define NPF_WRITE 0x2u
#define NPF_USER 0x4u
#define NPF_RESERVED 0x8u
#define NPF_FETCH 0x10u
#define NPF_FINAL 0x100000000ull
#define NPT_ACCESSED 0x20u
#define NPT_PRESENT 0x1u
#define NPT_RESERVED (UINT64_C(1) << 51)

/* What our own walk says to a query. */
struct said {
    enum walk_result result;
    uint64_t host;  /* WALK_OK */
    uint64_t entry; /* the leaf as dumped, or what was in its place */
    uint64_t
        ways; /* bits that all entries on the way to it have, and it: a table may be protected as a whole */
};

/* What was compared, for the figures. */
struct tally {
    unsigned count;
    unsigned ok;
    unsigned violations;
    unsigned mmio;
    unsigned tracked;
    unsigned stale;
    unsigned execute_only;
    unsigned table_count;
    unsigned page_count[EPT_LEAF_LEVEL_MAX + 1];
};

static unsigned answered_count; /* of emulators */

static enum gm_mmu_access access_of(const struct oracle_query *query)
{
    return query->kind == ORACLE_WRITE   ? GM_MMU_WRITE
           : query->kind == ORACLE_FETCH ? GM_MMU_FETCH
                                         : GM_MMU_READ;
}

/* Let our walk answer all queries, one after the other: flags that one sets, the next finds set. */
static void walk_all(struct filler *filler, const struct dump *dump,
                     const struct oracle_query *queries, struct said *said)
{
    struct mmu_vcpu *vcpu = filler_vcpu(filler);

    REQUIRE(gm_mmu_enter(&vcpu->face) == GM_MMU_OK, "entering");
    for (unsigned i = 0; i < QUERIES_PER_ROUND; i++) {
        size_t indices[EPT_LEVELS_MAX];
        struct walk walk = {0};
        unsigned levels = dump_walk(dump, queries[i].gpa, indices);

        said[i].result = mmu_walk(vcpu, queries[i].gpa, access_of(&queries[i]), &walk);
        said[i].host = (uintptr_t)walk.host;
        said[i].entry = dump->words[indices[levels - 1]];
        said[i].ways = UINT64_MAX;
        for (unsigned level = 0; level < levels; level++) {
            said[i].ways &= dump->words[indices[level]];
        }
    }
    gm_mmu_leave(&vcpu->face);
}

/* In EPT's format: how Intel's processor has to answer. */
static struct oracle_answer expect_ept(const struct oracle_query *query, const struct said *said)
{
    static const uint64_t rights[] = {EPT_READ, EPT_WRITE, EPT_EXECUTE};
    struct oracle_answer answer = {.address = query->gpa};

    if (said->result == WALK_MMIO || entry_is_mmio(said->entry)) {
        /* Of older slots, too: that is for KVM to find out, the processor has no generations. */
        answer.outcome = ORACLE_MISCONFIGURATION;
    } else {
        answer.outcome = ORACLE_VIOLATION;
        answer.detail = rights[query->kind] | QUALIFICATION_LINEAR |
                        (said->ways & EPT_RIGHTS) << QUALIFICATION_RIGHTS_SHIFT;
    }
    return answer;
}

/* In NPT's format. QEMU 7.2 leaves the present bit clear when it reports a reserved one. */
static struct oracle_answer expect_npt(const struct oracle_query *query, const struct said *said)
{
    static const uint64_t accesses[] = {0, NPF_WRITE, NPF_FETCH};
    struct oracle_answer answer = {
        .outcome = ORACLE_NESTED_FAULT,
        .detail = NPF_FINAL | NPF_USER | accesses[query->kind],
        .address = query->gpa,
    };

    if ((said->entry & NPT_RESERVED) != 0) {
        answer.detail |= NPF_RESERVED;
    } else {
        answer.detail |= (said->entry & NPT_PRESENT) != 0 ? NPF_PRESENT : 0;
    }
    REQUIRE(said->result != WALK_MMIO || (answer.detail & NPF_RESERVED) != 0,
            "our walk found MMIO at %#llx, where the tables say %#llx",
            (unsigned long long)query->gpa, (unsigned long long)said->entry);
    return answer;
}

static void compare_answer(const struct dump *dump, const struct oracle_query *query,
                           const struct said *said, const struct oracle_answer *got)
{
    bool is_ept = dump->format == ORACLE_FORMAT_EPT;
    struct oracle_answer want = {0};
    bool equal;

    if (said->result == WALK_OK) {
        equal = got->outcome == ORACLE_OK && dump_is_host(dump, got->address, said->host);
    } else {
        uint64_t mask = is_ept ? QUALIFICATION_MASK : NPF_MASK;

        want = is_ept ? expect_ept(query, said) : expect_npt(query, said);
        equal = got->outcome == want.outcome && got->address == want.address &&
                (got->detail & mask) == want.detail;
    }
    REQUIRE(
        equal,
        "kind %llu of %#llx: our walk %d, host %#llx, entry %#llx; expected %s %#llx %#llx; the "
        "emulator %s %#llx %#llx",
        (unsigned long long)query->kind, (unsigned long long)query->gpa, (int)said->result,
        (unsigned long long)said->host, (unsigned long long)said->entry,
        ask_outcome_name(want.outcome), (unsigned long long)want.detail,
        (unsigned long long)want.address, ask_outcome_name(got->outcome),
        (unsigned long long)got->detail, (unsigned long long)got->address);
}

/*
 * Which accessed flags may differ: AMD lets an access that ends in a violation set them on its way, and
 * QEMU does; ours are set by a tracked write, which the processor's walk refuses.
 */
static bool *open_flags(const struct dump *dump, const struct oracle_query *queries,
                        const struct said *said)
{
    bool *open = calloc(dump->table_count * EPT_ENTRIES, sizeof(open[0]));

    REQUIRE(open != NULL, "out of memory");
    for (unsigned i = 0; i < QUERIES_PER_ROUND; i++) {
        bool refused = said[i].result != WALK_OK && dump->format == ORACLE_FORMAT_NPT;
        size_t indices[EPT_LEVELS_MAX];

        if (refused || said[i].result == WALK_TRACKED) {
            for (unsigned level = dump_walk(dump, queries[i].gpa, indices); level > 0; level--) {
                open[indices[level - 1]] = true;
            }
        }
    }
    return open;
}

/* All entries, with the flags that both walks have set. */
static void compare_entries(struct dump *dump, const bool *open, uint64_t window_gpa,
                            const uint64_t *got)
{
    uint64_t accessed = dump->format == ORACLE_FORMAT_EPT ? EPT_ACCESSED : NPT_ACCESSED;
    uint64_t *ours = dump_again(dump);
    size_t indices[EPT_LEVELS_MAX];
    unsigned above = dump_walk(dump, window_gpa, indices) - 1;

    for (unsigned i = 0; i < above; i++) {
        ours[indices[i]] |= accessed; /* by the guest program's own accesses */
    }
    for (size_t i = 0; i < dump->table_count * EPT_ENTRIES; i++) {
        uint64_t differs = got[i] ^ ours[i];

        REQUIRE(differs == 0 || (differs == accessed && open[i]),
                "table %zu entry %zu: ours %#llx, the emulator's %#llx", i / EPT_ENTRIES,
                i % EPT_ENTRIES, (unsigned long long)ours[i], (unsigned long long)got[i]);
    }
    free(ours);
}

static void count_answer(struct tally *tally, const struct dump *dump, const struct said *said)
{
    bool is_ept = dump->format == ORACLE_FORMAT_EPT;

    tally->count++;
    tally->ok += said->result == WALK_OK;
    tally->violations += said->result == WALK_VIOLATION;
    tally->mmio += said->result == WALK_MMIO;
    tally->tracked += said->result == WALK_TRACKED;
    tally->stale += is_ept && said->result == WALK_VIOLATION && entry_is_mmio(said->entry);
    tally->execute_only += is_ept && (said->entry & EPT_RIGHTS) == EPT_EXECUTE;
}

/* One VM, one image. False: the emulator is not installed. */
static bool ask_round(struct filler *filler, enum oracle_format format, struct tally *tally)
{
    static struct oracle_query queries[QUERIES_PER_ROUND];
    static struct said said[QUERIES_PER_ROUND];
    struct ask_result result;
    struct dump dump;
    bool answered;

    dump_take(&dump, filler_mmu(filler), 0, format);
    for (unsigned i = 0; i < QUERIES_PER_ROUND; i++) {
        queries[i].gpa = filler_pick(filler);
        queries[i].kind = rnd_below(filler->rnd, 3);
    }
    answered = ask(&dump, filler->window_gpa, queries, QUERIES_PER_ROUND, &result);
    if (answered) {
        bool *open;

        walk_all(filler, &dump, queries, said);
        for (unsigned i = 0; i < QUERIES_PER_ROUND; i++) {
            compare_answer(&dump, &queries[i], &said[i], &result.answers[i]);
            count_answer(tally, &dump, &said[i]);
        }
        open = open_flags(&dump, queries, said);
        compare_entries(&dump, open, filler->window_gpa, result.words);
        free(open);
        ask_drop(&result);
        tally->table_count += (unsigned)dump.table_count;
        for (unsigned level = 1; level <= EPT_LEAF_LEVEL_MAX; level++) {
            tally->page_count[level] += (unsigned)dump.level_page_count[level];
        }
    }
    dump_drop(&dump);
    return answered;
}

/* Which shape of VM each round of an emulator has. */
struct emulator {
    const char *name;
    enum oracle_format format;
    bool execute_only;
    unsigned shape_count;
    struct {
        unsigned levels;
        unsigned gpa_bits;
    } shapes[2];
};

static const struct emulator bochs = {"bochs", ORACLE_FORMAT_EPT, true, 1, {{4, 40}}};
static const struct emulator qemu = {"qemu", ORACLE_FORMAT_NPT, false, 2, {{4, 48}, {5, 51}}};

static void ask_emulator(const struct emulator *emulator)
{
    uint64_t seed = rnd_seed(emulator->name);
    struct rnd rnd = {seed};
    uint64_t query_count = rnd_setting("GM_EPT_QUERIES", 10000);
    struct tally tally = {0};
    struct filler *filler = calloc(1, sizeof(*filler));

    REQUIRE(filler != NULL, "out of memory");
    for (unsigned round = 0; tally.count < query_count; round++) {
        const struct filler_options options = {
            .levels = emulator->shapes[round % emulator->shape_count].levels,
            .gpa_bits = emulator->shapes[round % emulator->shape_count].gpa_bits,
            .execute_only = emulator->execute_only,
            .large_1g = round / 2 % 2 == 0,
            .stale_mmio = round % 3 == 2,
        };
        bool answered;

        snprintf(require_place, sizeof(require_place), "GM_SEED=%llu %s round %u",
                 (unsigned long long)seed, emulator->name, round);
        filler_init(filler, &rnd, &options);
        answered = ask_round(filler, emulator->format, &tally);
        filler_fini(filler);
        if (!answered) {
            free(filler);
            skip();
        }
    }
    free(filler);
    answered_count++;
    printf("%s: %u addresses agree: %u pages, %u violations (%u of older MMIO), %u MMIO, %u "
           "tracked; %u "
           "met an execute-only page; %u tables, %u + %u + %u pages of 4 KiB, 2 MiB, 1 GiB\n",
           emulator->name, tally.count, tally.ok, tally.violations, tally.stale, tally.mmio,
           tally.tracked, tally.execute_only, tally.table_count, tally.page_count[1],
           tally.page_count[2], tally.page_count[3]);
}

static void ept_tables_walked_by_bochs_answer_as_to_us(void **state)
{
    /* VMX with EPT: pages, violations and their reasons, misconfigurations, accessed and dirty flags. */
    (void)state;
    ask_emulator(&bochs);
}

static void ept_tables_walked_by_qemu_answer_as_to_us(void **state)
{
    /* SVM with nested paging, 4 and 5 levels. */
    (void)state;
    ask_emulator(&qemu);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ept_tables_walked_by_bochs_answer_as_to_us),
        cmocka_unit_test(ept_tables_walked_by_qemu_answer_as_to_us),
    };
    int failed_count = cmocka_run_group_tests(tests, NULL, NULL);

    return failed_count != 0 ? 1 : answered_count == 0 ? EXIT_SKIPPED : 0;
}
