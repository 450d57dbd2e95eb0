/*
 * unit/test_kcore_notifier.c - host memory that goes away: what is unmapped, and which faults begin
 * anew. The interleavings have the numbers of the table in kcore/notifier.h.
 */
#include "unit/arch.h"

#include "kcore/change.h"
#include "model/require.h"

#define MIB UINT64_C(0x100000)
#define HVA UINT64_C(0x7f0000000000)

/* A fault that looks for its page now. */
struct fault {
    uint64_t token;
    uint64_t hva;
    uint64_t size_bytes;
};

static struct fault fault_begins(struct arch *arch, uint64_t hva)
{
    return (struct fault){notifier_token(&arch->core.notifier), hva, 4096};
}

static bool must_retry(struct arch *arch, struct fault fault)
{
    return notifier_retry(&arch->core.notifier, fault.token, (struct hva){fault.hva},
                          fault.size_bytes);
}

static bool start(struct arch *arch, uint64_t hva, uint64_t size_bytes)
{
    return notifier_start(&arch->core, (struct hva){hva}, size_bytes);
}

static void end(struct arch *arch, uint64_t hva, uint64_t size_bytes)
{
    notifier_end(&arch->core, (struct hva){hva}, size_bytes);
}

static struct arch *open_two(void)
{
    struct arch *arch = arch_open();

    assert_int_equal(arch_set(arch, 1, 0, 0, MIB, HVA), 0);
    assert_int_equal(arch_set(arch, 0x10002, 0, 4 * MIB, MIB, HVA + MIB / 2), 0);
    (void)arch_said(arch);
    return arch;
}

static void notifier_start_unmaps_in_both_spaces_and_flushes_once(void **state)
{
    /* The pages that meet the range, and one flush if anything was mapped. */
    struct arch *arch = open_two();

    (void)state;
    start(arch, HVA + 0x1800, 0x1000);
    assert_string_equal(arch_said(arch), "unmap:0.1:1+2 tlb");
    start(arch, HVA + MIB - 1, 1);
    assert_string_equal(arch_said(arch), "unmap:0.1:ff+1 unmap:1.2:47f+1 tlb");
    arch->is_mapped = false;
    assert_true(start(arch, HVA, MIB));
    assert_string_equal(arch_said(arch), "unmap:0.1:0+100 unmap:1.2:400+80");
    assert_false(start(arch, HVA + 8 * MIB, MIB));
    start(arch, HVA, 0);
    assert_string_equal(arch_said(arch), "");
    start(arch, 0, UINT64_MAX);
    assert_string_equal(arch_said(arch), "unmap:0.1:0+100 unmap:1.2:400+100");
    for (int i = 0; i < 6; i++) {
        end(arch, HVA, MIB);
    }
    assert_false(notifier_is_active(&arch->core.notifier));
    arch_close(arch);
}

/* Row 1: while start unmaps, it has counted, so a fault that asks now is told. */
static struct fault asked_in_start;

static void ask_in_unmap(struct arch *arch)
{
    assert_true(must_retry(arch, asked_in_start));
    asked_in_start.size_bytes = 0;
}

static void notifier_fault_during_start_begins_anew(void **state)
{
    /* 1: what was installed before is unmapped by start; from the unmapping on, faults are told. */
    struct arch *arch = open_two();

    (void)state;
    asked_in_start = fault_begins(arch, HVA);
    assert_false(must_retry(arch, asked_in_start));
    arch->on_unmap = ask_in_unmap;
    start(arch, HVA, MIB);
    assert_int_equal(asked_in_start.size_bytes, 0); /* it was asked */
    end(arch, HVA, MIB);
    arch_close(arch);
}

static void notifier_fault_before_start_begins_anew(void **state)
{
    /* 2: the page was found before; the range is active when the fault asks. */
    struct arch *arch = open_two();
    struct fault within = fault_begins(arch, HVA + 0x3000);
    struct fault beside = fault_begins(arch, HVA + 8 * MIB);
    struct fault large = {within.token, HVA - MIB, 2 * MIB};

    (void)state;
    start(arch, HVA, 0x4000);
    assert_true(must_retry(arch, within));
    assert_true(must_retry(arch, large));
    assert_false(must_retry(arch, beside));
    assert_true(must_retry(arch, fault_begins(arch, HVA + 0x3000))); /* nor one that begins now */
    assert_false(must_retry(arch, fault_begins(arch, HVA + 0x4000)));
    end(arch, HVA, 0x4000);
    arch_close(arch);
}

static void notifier_fault_across_start_and_end_begins_anew(void **state)
{
    /* 3: all of it passed between finding the page and asking; so must faults elsewhere, for simplicity. */
    struct arch *arch = open_two();
    struct fault fault = fault_begins(arch, HVA);

    (void)state;
    start(arch, HVA, 0x1000);
    end(arch, HVA, 0x1000);
    assert_true(must_retry(arch, fault));
    assert_false(must_retry(arch, fault_begins(arch, HVA)));
    arch_close(arch);
}

static void notifier_fault_between_start_and_end_begins_anew(void **state)
{
    /* 4: the token is from after the start, the page from before the memory went. */
    struct arch *arch = open_two();
    struct fault fault;

    (void)state;
    start(arch, HVA, 0x1000);
    fault = fault_begins(arch, HVA);
    end(arch, HVA, 0x1000);
    assert_true(must_retry(arch, fault));
    arch_close(arch);
}

static void notifier_ranges_that_overlap_in_time_are_joined(void **state)
{
    /* Until the last has ended the range holds all that are active, and what lies between. */
    struct arch *arch = open_two();

    (void)state;
    start(arch, HVA + 0x8000, 0x1000);
    start(arch, HVA + 0x2000, 0x1000);
    assert_true(must_retry(arch, fault_begins(arch, HVA + 0x5000)));
    end(arch, HVA + 0x8000, 0x1000);
    assert_true(must_retry(arch, fault_begins(arch, HVA + 0x2000)));
    assert_false(must_retry(arch, fault_begins(arch, HVA + 0x9000)));
    end(arch, HVA + 0x2000, 0x1000);
    start(arch, HVA + 0x4000, 0x1000);
    assert_false(must_retry(arch, fault_begins(arch, HVA + 0x2000)));
    assert_true(must_retry(arch, fault_begins(arch, HVA + 0x4000)));
    end(arch, HVA + 0x4000, 0x1000);
    arch_close(arch);
}

static void notifier_end_too_many_does_no_harm(void **state)
{
    /* The mistake of a caller: faults begin anew once more, and that is all. */
    struct arch *arch = open_two();

    (void)state;
    end(arch, HVA, 0x1000);
    start(arch, HVA, 0x1000);
    assert_true(must_retry(arch, fault_begins(arch, HVA)));
    end(arch, HVA, 0x1000);
    assert_false(must_retry(arch, fault_begins(arch, HVA)));
    arch_close(arch);
}

/* A thread that unmaps and maps again; the faults of the main thread check what they were promised. */
struct race {
    struct arch *arch;
    atomic_ullong epoch;   /* of the host page at HVA: grows while it is between start and end */
    atomic_ullong mapped;  /* what the table has: the epoch that was found, 0 for nothing */
    pthread_mutex_t taker; /* as mmu's lock and gate: installing and taking exclude each other */
    atomic_bool is_over;
};

static struct race *racing;

static void take_mapping(struct arch *arch)
{
    (void)arch;
    pthread_mutex_lock(&racing->taker);
    atomic_store(&racing->mapped, 0);
    pthread_mutex_unlock(&racing->taker);
}

static void *unmap_again_and_again(void *opaque)
{
    struct race *race = opaque;

    for (int i = 0; i < 20000; i++) {
        start(race->arch, HVA, 0x1000);
        /* No table leads to the old page any more, and none will again. */
        REQUIRE_TRUE(atomic_load(&race->mapped) == 0);
        atomic_fetch_add(&race->epoch, 1);
        REQUIRE_TRUE(atomic_load(&race->mapped) == 0);
        end(race->arch, HVA, 0x1000);
    }
    atomic_store(&race->is_over, true);
    return NULL;
}

static void notifier_page_that_has_gone_is_never_mapped(void **state)
{
    /* 20,000 invalidations beside a thread that faults all the time. */
    struct race race = {.arch = open_two()};
    uint64_t installed = 0;
    pthread_t thread;

    (void)state;
    atomic_init(&race.epoch, 1);
    pthread_mutex_init(&race.taker, NULL);
    racing = &race;
    race.arch->is_silent = true;
    race.arch->on_unmap = take_mapping;
    assert_int_equal(pthread_create(&thread, NULL, unmap_again_and_again, &race), 0);
    while (!atomic_load(&race.is_over)) {
        struct fault fault = fault_begins(race.arch, HVA);
        uint64_t page = atomic_load(&race.epoch);

        pthread_mutex_lock(&race.taker);
        if (!must_retry(race.arch, fault)) {
            assert_int_equal(atomic_load(&race.epoch), page);
            atomic_store(&race.mapped, page);
            installed++;
        }
        pthread_mutex_unlock(&race.taker);
    }
    pthread_join(thread, NULL);
    pthread_mutex_destroy(&race.taker);
    assert_false(must_retry(race.arch, fault_begins(race.arch, HVA)));
    print_message("%llu faults were fixed\n", (unsigned long long)installed);
    arch_close(race.arch);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(notifier_start_unmaps_in_both_spaces_and_flushes_once),
        cmocka_unit_test(notifier_fault_during_start_begins_anew),
        cmocka_unit_test(notifier_fault_before_start_begins_anew),
        cmocka_unit_test(notifier_fault_across_start_and_end_begins_anew),
        cmocka_unit_test(notifier_fault_between_start_and_end_begins_anew),
        cmocka_unit_test(notifier_ranges_that_overlap_in_time_are_joined),
        cmocka_unit_test(notifier_end_too_many_does_no_harm),
        cmocka_unit_test(notifier_page_that_has_gone_is_never_mapped),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
