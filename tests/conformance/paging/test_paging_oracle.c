/*
 * conformance/paging/test_paging_oracle.c - our walker against QEMU's processor: for each case the same
 * page or the same page fault, error code, CR2, and accessed and dirty flags.
 */
#include "cases.h"
#include "machine.h"
#include "tcg.h"

#include "model/require.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

char require_place[160];

#define EXIT_SKIPPED 77
#define MISMATCHES_SHOWN 20
#define CASES_PER_BOOT 20000u

_Static_assert(CASES_PER_BOOT <= MACHINE_CASES_MAX, "they fit into the image");

/* What should come of a case. */
struct expected {
    struct paging_answer answer;
    bool has_value;
    bool has_cr2;
};

/* What was compared, for the figures. */
struct tally {
    unsigned count;
    unsigned ok;
    unsigned level_pages[4]; /* those that were reached, by the level of their entry */
    unsigned absent;
    unsigned reserved;
    unsigned rights;
    unsigned key;
    unsigned mismatches;
    unsigned differences[TCG_DIFFERENCE_COUNT]; /* how often QEMU's processor was followed */
};

static struct machine machine;

static const char *const mode_names[] = {"none", "32-bit", "PAE", "4 levels", "5 levels"};

static unsigned entry_bytes_of(const struct cases *cases)
{
    return cases->mode == PAGING_32 ? 4 : 8;
}

/* As the guest program does it; *before is what was there. */
static void place_entries(const struct cases *cases, const struct paging_case *test,
                          uint64_t before[PAGING_LEVEL_COUNT])
{
    for (unsigned i = 0; i < PAGING_LEVEL_COUNT; i++) {
        if (test->places[i] != 0) {
            before[i] = machine_load(&machine, test->places[i], entry_bytes_of(cases));
            machine_store(&machine, test->places[i], entry_bytes_of(cases), test->entries[i]);
        }
    }
}

/* As if the case had never been. Two entries may have one place. */
static void put_back(const struct cases *cases, const struct paging_case *test,
                     const uint64_t before[PAGING_LEVEL_COUNT])
{
    for (unsigned i = PAGING_LEVEL_COUNT; i-- > 0;) {
        if (test->places[i] != 0) {
            machine_store(&machine, test->places[i], entry_bytes_of(cases), before[i]);
        }
    }
}

static void take_entries(const struct cases *cases, const struct paging_case *test,
                         struct paging_answer *answer)
{
    for (unsigned i = 0; i < PAGING_LEVEL_COUNT; i++) {
        answer->entries[i] = test->places[i] == 0
                                 ? 0
                                 : machine_load(&machine, test->places[i], entry_bytes_of(cases));
    }
}

static void clear_entries(const struct cases *cases, const struct paging_case *test)
{
    for (unsigned i = 0; i < PAGING_LEVEL_COUNT; i++) {
        if (test->places[i] != 0) {
            machine_store(&machine, test->places[i], entry_bytes_of(cases), 0);
        }
    }
}

static void make_question(const struct cases *cases, const struct paging_case *test,
                          struct tcg_question *question)
{
    struct paging *paging = &question->paging;
    struct paging_state state;

    cases_state(cases, test, &state);
    paging_compute(paging, &state);
    for (unsigned i = 0; cases->mode == PAGING_PAE && i < PAGING_PDPTE_COUNT; i++) {
        paging->pdptes[i] = machine_load(&machine, paging->root + 8ull * i, 8);
    }
    question->request = (struct guestwalk_request){test->linear, cases_access(test), 0};
}

/* Would the case touch only what it may? The entries are placed. */
static bool is_safe(const struct cases *cases, const struct paging_case *test,
                    const struct tcg_question *question)
{
    struct guestwalk walk;
    enum guestwalk_result result =
        guest_walk(&question->paging, &machine.memory, &question->request, &walk);

    for (unsigned level = question->paging.level_count; level >= 1 && level >= walk.depth;
         level--) {
        if (!cases_allow_entry(walk.entry_gpas[level])) {
            return false;
        }
    }
    return result == GUESTWALK_FAULT || cases_allow_access(cases, walk.gpa, test->kind);
}

/* What the access does to memory, and the value that it sees. */
static void access_memory(const struct cases *cases, const struct paging_case *test, uint64_t gpa,
                          struct expected *expected)
{
    if (cases_can_put_word(cases, gpa) && machine_load(&machine, gpa, 8) == 0) {
        machine_put(&machine, gpa, PAGING_WORD(gpa));
    }
    if (test->kind == PAGING_KIND_WRITE) {
        machine_store(&machine, gpa + 1, 4, test->written);
    }
    expected->has_value =
        machine_has(gpa) && (test->kind == PAGING_KIND_READ || test->kind == PAGING_KIND_FETCH);
    expected->answer.value = machine_load(&machine, gpa + 1, 4);
}

static void count_case(struct tally *tally, enum guestwalk_result result,
                       const struct guestwalk *walk)
{
    uint32_t error_code = walk->error_code;

    tally->count++;
    if (result == GUESTWALK_OK) {
        tally->ok++;
        tally->level_pages[walk->level]++;
    } else if ((error_code & PAGING_ERROR_PRESENT) == 0) {
        tally->absent++;
    } else if ((error_code & PAGING_ERROR_RESERVED) != 0) {
        tally->reserved++;
    } else if ((error_code & PAGING_ERROR_KEY) != 0) {
        tally->key++;
    } else {
        tally->rights++;
    }
}

/* One case that may be run: its entries are in the model's memory, and *question is what TCG answers. */
static void make_case(const struct cases *cases, struct paging_case *test,
                      struct tcg_question *question, struct tally *tally)
{
    for (;;) {
        unsigned differences[TCG_DIFFERENCE_COUNT] = {0};
        uint64_t before[PAGING_LEVEL_COUNT] = {0};

        cases_make(cases, test);
        place_entries(cases, test, before);
        make_question(cases, test, question);
        tcg_ask(cases, test, &machine, question, differences);
        if (is_safe(cases, test, question)) {
            for (unsigned i = 0; i < TCG_DIFFERENCE_COUNT; i++) {
                tally->differences[i] += differences[i];
            }
            return;
        }
        put_back(cases, test, before);
    }
}

/* Run a case on the model. */
static void expect_case(const struct cases *cases, const struct paging_case *test,
                        struct tcg_question *question, struct expected *expected,
                        struct tally *tally)
{
    bool has_offset = test->kind == PAGING_KIND_READ || test->kind == PAGING_KIND_WRITE;
    struct guestwalk walk;
    enum guestwalk_result result;

    question->request.flags = GUESTWALK_SET_FLAGS;
    result = guest_walk(&question->paging, &machine.memory, &question->request, &walk);
    count_case(tally, result, &walk);
    tcg_answer(question, &machine, &walk, tally->differences);
    *expected = (struct expected){.answer.vector = PAGING_VECTOR_DONE};
    if (result == GUESTWALK_OK) {
        access_memory(cases, test, walk.gpa, expected);
    } else {
        REQUIRE(result == GUESTWALK_FAULT, "result %d", result);
        expected->answer.vector = PAGING_VECTOR_FAULT;
        expected->answer.error_code = walk.error_code;
        expected->answer.cr2 = test->linear + (has_offset ? 1 : 0);
        expected->has_cr2 = true;
    }
    take_entries(cases, test, &expected->answer);
    clear_entries(cases, test);
}

static void show(const struct cases *cases, uint32_t number, const struct expected *expected)
{
    static const char *const kinds[] = {"read", "write", "fetch", "implicit read"};
    const struct paging_case *test = &machine_cases(&machine)[number];
    const struct paging_answer *got = &machine_answers(&machine)[number];
    const struct paging_answer *want = &expected->answer;

    fprintf(stderr,
            "[%s] case %u, %s: %s at %#llx, ring %u, AC %u, CR0 %#x, CR3 %#llx, CR4 %#llx, "
            "EFER %#x, PKRU %#x\n",
            require_place, number, mode_names[cases->mode], kinds[test->kind],
            (unsigned long long)test->linear, test->ring, test->ac, test->cr0,
            (unsigned long long)test->cr3, (unsigned long long)test->cr4, test->efer, test->pkru);
    for (unsigned i = PAGING_LEVEL_COUNT; i-- > 0;) {
        if (test->places[i] != 0) {
            fprintf(stderr, "  level %u at %#llx: %#llx, then expected %#llx, got %#llx\n", i + 1,
                    (unsigned long long)test->places[i], (unsigned long long)test->entries[i],
                    (unsigned long long)want->entries[i], (unsigned long long)got->entries[i]);
        }
    }
    fprintf(stderr,
            "  expected vector %u, error code %#x, CR2 %#llx, value %#llx\n"
            "  got      vector %u, error code %#x, CR2 %#llx, value %#llx\n",
            want->vector, want->error_code, (unsigned long long)want->cr2,
            (unsigned long long)want->value, got->vector, got->error_code,
            (unsigned long long)got->cr2, (unsigned long long)got->value);
}

/* RSVD only comes with P (SDM 4.7), so nothing is lost by adding it. */
static uint32_t with_present(uint32_t error_code)
{
    return error_code | ((error_code & PAGING_ERROR_RESERVED) != 0 ? PAGING_ERROR_PRESENT : 0);
}

static bool is_as_expected(const struct paging_answer *got, const struct expected *expected)
{
    const struct paging_answer *want = &expected->answer;

    return got->vector == want->vector && with_present(got->error_code) == want->error_code &&
           (!expected->has_cr2 || got->cr2 == want->cr2) &&
           (!expected->has_value || got->value == want->value) &&
           memcmp(got->entries, want->entries, sizeof(got->entries)) == 0;
}

/* One machine. */
static void run_boot(const struct cases *cases, uint32_t case_count, struct tally *tally)
{
    struct paging_image image = {
        .is_long = cases->mode >= PAGING_4,
        .is_la57 = cases->mode == PAGING_5,
        .entry_bytes = entry_bytes_of(cases),
        .case_count = case_count,
    };
    struct expected *expected = calloc(case_count, sizeof(*expected));

    REQUIRE(expected != NULL, "out of memory");
    machine_reset(&machine, &image);
    cases_put_tables(cases, &machine);
    for (uint32_t i = 0; i < case_count; i++) {
        struct paging_case *test = &machine_cases(&machine)[i];
        struct tcg_question question;

        make_case(cases, test, &question, tally);
        expect_case(cases, test, &question, &expected[i], tally);
    }
    machine_boot(&machine, cases->physical_bits);
    for (uint32_t i = 0; i < case_count; i++) {
        const struct paging_answer *got = &machine_answers(&machine)[i];

        if (!is_as_expected(got, &expected[i]) && tally->mismatches++ < MISMATCHES_SHOWN) {
            show(cases, i, &expected[i]);
        }
        tally->differences[TCG_RESERVED_ABSENT] += got->error_code != with_present(got->error_code);
    }
    free(expected);
    REQUIRE(tally->mismatches == 0, "%u of %u cases differ", tally->mismatches, tally->count);
    machine_compare(&machine);
}

static void run_mode(enum paging_mode mode, uint64_t case_count)
{
    static const unsigned widths[] = {40, 36, 46, 52};
    uint64_t seed = rnd_seed(mode_names[mode]);
    struct rnd rnd = {seed};
    struct tally tally = {0};

    case_count = rnd_setting("GM_PAGING_CASES", case_count);
    for (unsigned boot = 0; tally.count < case_count; boot++) {
        const struct cases cases = {mode, widths[boot % 4], &rnd};
        uint64_t left = case_count - tally.count;

        snprintf(require_place, sizeof(require_place), "GM_SEED=%llu %s, boot %u of %u bits",
                 (unsigned long long)seed, mode_names[mode], boot, cases.physical_bits);
        run_boot(&cases, left < CASES_PER_BOOT ? (uint32_t)left : CASES_PER_BOOT, &tally);
    }
    printf("%s: %u cases agree: %u pages (%u of 4 KiB, %u of 2 or 4 MiB, %u of 1 GiB); faults: %u "
           "absent, %u reserved bits, %u rights, %u keys\n",
           mode_names[mode], tally.count, tally.ok, tally.level_pages[1], tally.level_pages[2],
           tally.level_pages[3], tally.absent, tally.reserved, tally.rights, tally.key);
    for (unsigned i = 0; i < TCG_DIFFERENCE_COUNT; i++) {
        if (tally.differences[i] != 0) {
            printf("  in %u: %s\n", tally.differences[i], tcg_reasons[i]);
        }
    }
}

static void paging_off_accesses_agree_with_qemu(void **state)
{
    /* Linear addresses are physical ones, whatever CR4 and the ring are. */
    (void)state;
    run_mode(PAGING_NONE, 4000);
}

static void paging_of_32_bits_walks_agree_with_qemu(void **state)
{
    /* With and without PSE; 4 MiB pages below and above 4 GiB. */
    (void)state;
    run_mode(PAGING_32, 200000);
}

static void paging_pae_walks_agree_with_qemu(void **state)
{
    /* PDPTEs, tables and pages below and above 4 GiB. */
    (void)state;
    run_mode(PAGING_PAE, 200000);
}

static void paging_of_4_levels_walks_agree_with_qemu(void **state)
{
    /* Pages of three sizes, protection keys. */
    (void)state;
    run_mode(PAGING_4, 300000);
}

static void paging_of_5_levels_walks_agree_with_qemu(void **state)
{
    /* The same, with CR4.LA57. */
    (void)state;
    run_mode(PAGING_5, 300000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(paging_off_accesses_agree_with_qemu),
        cmocka_unit_test(paging_of_32_bits_walks_agree_with_qemu),
        cmocka_unit_test(paging_pae_walks_agree_with_qemu),
        cmocka_unit_test(paging_of_4_levels_walks_agree_with_qemu),
        cmocka_unit_test(paging_of_5_levels_walks_agree_with_qemu),
    };
    int failed_count;

    if (machine_open(&machine) == MACHINE_MISSING) {
        machine_close(&machine);
        return EXIT_SKIPPED;
    }
    failed_count = cmocka_run_group_tests(tests, NULL, NULL);
    machine_close(&machine);
    return failed_count;
}
