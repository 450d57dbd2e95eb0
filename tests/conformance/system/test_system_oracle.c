/*
 * conformance/system/test_system_oracle.c - the interpreter against QEMU's processor: random programs of system
 * instructions in all modes end equal in registers, segments, tables, MSRs and memory.
 *
 *     GM_SYSTEM_CASE     the first, of GM_SEED
 *     GM_SYSTEM_CASES    how many; 1 with GM_SYSTEM_CASE
 *     GM_SYSTEM_SHOWN    how many that differ are printed; 10
 */
#include "cases.h"
#include "machine.h"
#include "show.h"
#include "tcg.h"
#include "vcpu.h"

#include "model/require.h"

char require_place[160];

#define EXIT_SKIPPED 77
#define STRAY_MAX 3u
#define CASES_PER_BOOT 20000u

_Static_assert(CASES_PER_BOOT <= SYSTEM_CASES_MAX, "they fit into the image");

/* What is known of a case beside what the image has. */
struct note {
    uint64_t number;
    enum maker_mode mode;
};

struct run {
    struct machine machine;
    struct vcpu vcpu;
    struct maker maker;
    uint8_t plain[SYSTEM_ARENA_BYTES];
    uint64_t seed, shown_max, next_number;
    struct system_answer *expected; /* CASES_PER_BOOT of them */
    struct note *notes;
    uint64_t count, mismatch_count, shutdown_count;
    uint64_t discarded[VCPU_END_COUNT];
    uint64_t mode_counts[MODE_COUNT];
    uint64_t vector_counts[256]; /* by the handler that a case ends in */
    uint64_t differences[TCG_DIFFERENCE_COUNT];
};

/* NMIs do not wait in two cases on end: the guest program could not tell them apart. */
static bool follows_nmi(const struct system_case *test, uint32_t at)
{
    return test->pending == SYSTEM_PENDING_NMI && at > 0 && test[-1].pending == SYSTEM_PENDING_NMI;
}

/* A walk stops where QEMU's processor is known to go another way. */
struct look {
    bool is_known;
    unsigned stray_count; /* instructions on end that are neither the program nor a handler */
    enum tcg_difference what;
};

static bool is_code(const struct x86_vcpu *cpu)
{
    uint64_t linear = cpu->segment[X86_CS].base + cpu->rip;

    return linear >= ARENA_CODE && linear < ARENA_STACKS;
}

static bool look(void *opaque, const struct vcpu *vcpu)
{
    struct look *look = opaque;

    look->is_known = tcg_differs(vcpu, &look->what);
    look->stray_count = is_code(vcpu->cpu) ? 0 : look->stray_count + 1;
    if (!look->is_known && look->stray_count > STRAY_MAX) {
        look->is_known = true;
        look->what = TCG_STRAY;
    }
    return !look->is_known;
}

static bool can_send(struct run *run, const struct system_case *test,
                     const struct system_answer *expected)
{
    struct look known = {0};

    vcpu_walk(&run->vcpu, test, look, &known, expected);
    run->differences[known.what] += known.is_known;
    return !known.is_known;
}

/* One case that can be run. Its number says all of it. */
static void make_case(struct run *run, uint32_t at)
{
    struct system_case *test = &machine_cases(&run->machine)[at];
    enum vcpu_end end;

    for (;;) {
        struct rnd rnd = {run->seed + run->next_number * UINT64_C(0xd1342543de82ef95)};

        run->notes[at].number = run->next_number++;
        run->maker.rnd = &rnd;
        run->maker.test = test;
        if (!case_make(&run->maker, run->plain) || follows_nmi(test, at)) {
            continue;
        }
        snprintf(require_place, sizeof(require_place), "GM_SEED=%llu GM_SYSTEM_CASE=%llu",
                 (unsigned long long)run->seed, (unsigned long long)run->notes[at].number);
        end = case_run(&run->vcpu, run->plain, test, &run->expected[at]);
        if (end != VCPU_END_ANSWER) {
            run->discarded[end]++;
        } else if (can_send(run, test, &run->expected[at])) {
            run->notes[at].mode = run->maker.mode;
            return;
        }
    }
}

static void count_case(struct run *run, uint32_t at)
{
    const struct system_answer *expected = &run->expected[at];
    uint64_t vector = (expected->state.rip - ARENA_HANDLERS) / ARENA_HANDLER_BYTES;

    run->count++;
    run->mode_counts[run->notes[at].mode]++;
    if (expected->end == SYSTEM_END_SHUTDOWN) {
        run->shutdown_count++;
    } else if (vector < 256) {
        run->vector_counts[vector]++;
    }
}

static void compare_case(struct run *run, uint32_t at)
{
    const struct system_case *test = &machine_cases(&run->machine)[at];
    const struct system_answer *got = &machine_answers(&run->machine)[at];

    count_case(run, at);
    if (tcg_agrees(run->plain, test, &run->expected[at], got, run->differences)) {
        return;
    }
    if (run->mismatch_count++ < run->shown_max) {
        printf("GM_SEED=%llu GM_SYSTEM_CASE=%llu, %s\n", (unsigned long long)run->seed,
               (unsigned long long)run->notes[at].number, case_mode_names[run->notes[at].mode]);
        show_case(run->plain, test, &run->expected[at], got);
    }
}

static void run_boot(struct run *run, uint32_t case_count)
{
    for (uint32_t i = 0; i < case_count; i++) {
        make_case(run, i);
    }
    machine_boot(&run->machine, run->plain, case_count);
    for (uint32_t i = 0; i < case_count; i++) {
        compare_case(run, i);
    }
}

static void print_counts(const struct run *run)
{
    printf("%llu cases, %llu triple faults; by mode:", (unsigned long long)run->count,
           (unsigned long long)run->shutdown_count);
    for (unsigned i = 0; i < MODE_COUNT; i++) {
        printf(" %s %llu%s", case_mode_names[i], (unsigned long long)run->mode_counts[i],
               i + 1 < MODE_COUNT ? "," : "\n");
    }
    printf("the last exception:");
    for (unsigned i = 0; i < 32; i++) {
        if (run->vector_counts[i] != 0) {
            printf(" %u: %llu", i, (unsigned long long)run->vector_counts[i]);
        }
    }
    printf("\nnot run: %llu of instructions that are not there, %llu beyond the arena, %llu "
           "endless, %llu unclear\n",
           (unsigned long long)run->discarded[VCPU_END_ABSENT],
           (unsigned long long)run->discarded[VCPU_END_OUTSIDE],
           (unsigned long long)run->discarded[VCPU_END_ENDLESS],
           (unsigned long long)run->discarded[VCPU_END_UNCLEAR]);
    for (unsigned i = 0; i < TCG_DIFFERENCE_COUNT; i++) {
        if (run->differences[i] != 0) {
            printf("  in %llu: %s\n", (unsigned long long)run->differences[i], tcg_reasons[i]);
        }
    }
}

static void run_all(struct run *run, uint64_t case_count)
{
    while (run->count < case_count) {
        uint64_t left = case_count - run->count;

        run_boot(run, left < CASES_PER_BOOT ? (uint32_t)left : CASES_PER_BOOT);
    }
    print_counts(run);
}

static void system_programs_agree_with_qemu(void **state)
{
    /* SYSTEM_ORACLE_CASES of them, in all modes. */
    struct run *run = *state;

    run->next_number = rnd_setting("GM_SYSTEM_CASE", 0);
    run_all(run, rnd_setting("GM_SYSTEM_CASES",
                             getenv("GM_SYSTEM_CASE") != NULL ? 1 : SYSTEM_ORACLE_CASES));
    assert_int_equal(run->mismatch_count, 0);
}

int main(void)
{
    static struct run run;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_prestate(system_programs_agree_with_qemu, &run),
    };
    int failed_count;

    if (!machine_open(&run.machine)) {
        return EXIT_SKIPPED;
    }
    run.seed = rnd_seed("system_oracle");
    run.shown_max = rnd_setting("GM_SYSTEM_SHOWN", 10);
    run.expected = calloc(CASES_PER_BOOT, sizeof(*run.expected));
    run.notes = calloc(CASES_PER_BOOT, sizeof(*run.notes));
    REQUIRE(run.expected != NULL && run.notes != NULL, "out of memory");
    arena_make(run.plain);
    vcpu_open(&run.vcpu);
    failed_count = cmocka_run_group_tests(tests, NULL, NULL);
    vcpu_close(&run.vcpu);
    machine_close(&run.machine);
    free(run.expected);
    free(run.notes);
    return failed_count;
}
