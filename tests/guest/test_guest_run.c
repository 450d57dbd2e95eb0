/*
 * guest/test_guest_run.c - a compiled guest with a kernel of its own comes to what the same sources come to on the
 * host's processor, and its kernel handles the faults that follow from what its processes do.
 */
#include "guest/expect.h"
#include "guest/machine.h"
#include "guest/native.h"
#include "guest/work/work.h"

#include <inttypes.h>
#include <setjmp.h>
#include <stdatomic.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#define ALL_FEATURES (FEATURE_SSE | FEATURE_SYSCALL | FEATURE_PCID | FEATURE_SMEP | FEATURE_SMAP)

static uint64_t expected[RESULTS];

static int make_expected(void **state)
{
    (void)state;
    native_results(GUEST_ROUNDS, expected);
    expect_probes(expected);
    return 0;
}

static struct machine_options options_for(bool is_shadow, uint64_t cpus, uint64_t features)
{
    return (struct machine_options){
        .soft = {.size = sizeof(struct gm_soft_options), .shadow_paging = is_shadow},
        .cpus = cpus,
        .features = features,
        .rounds = GUEST_ROUNDS,
        .repeats = 1,
        .kernel = GUEST_KERNEL_FILE,
        .image = (features & FEATURE_SSE) != 0 ? GUEST_IMAGE_FILE : GUEST_INTEGER_IMAGE_FILE,
    };
}

static void check_end(const struct machine *machine)
{
    const struct guest_board *board = machine_board(machine);
    const bool has_sse = (machine->options.features & FEATURE_SSE) != 0;

    for (unsigned i = 0; i < machine->options.cpus; i++) {
        if (machine->cpus[i].end != 0) {
            fail_msg("vCPU %u has not come to its end: %s", i, machine->text);
        }
    }
    for (unsigned i = 0; i < RESULTS; i++) {
        bool is_there = has_sse || i != RESULT_SINGLE + WORK_MATRIX;

        if (board->results[i] != (is_there ? expected[i] : 0)) {
            fail_msg("result %u is %016" PRIx64 ", not %016" PRIx64, i, board->results[i],
                     expected[i]);
        }
    }
    assert_int_equal(board->frames_lost, 0);
    assert_true(board->counters[COUNTER_FORK] > WORK_PROBES + WORK_PAIRS);
}

/* With GM_VERBOSE. */
static void report(const struct machine *machine)
{
    const struct machine_options *options = &machine->options;

    for (unsigned i = 0; i < options->cpus && getenv("GM_VERBOSE") != NULL; i++) {
        const struct machine_cpu *cpu = &machine->cpus[i];
        uint64_t count = options->is_kvm ? 0 : machine_instructions(cpu);

        print_message(
            "vCPU %u of %u, %s, features %x: %.2f s, %.1f million instructions, %.1f a second\n", i,
            (unsigned)options->cpus,
            options->is_kvm               ? "/dev/kvm"
            : options->soft.shadow_paging ? "shadow"
                                          : "nested",
            (unsigned)options->features, cpu->seconds, (double)count / 1e6,
            (double)count / 1e6 / cpu->seconds);
    }
}

static void run(const struct machine_options *options)
{
    struct machine machine;

    machine_open(&machine, options);
    machine_start(&machine);
    machine_wait(&machine);
    check_end(&machine);
    report(&machine);
    machine_close(&machine);
}

static void guest_on_nested_paging_computes_as_the_host(void **state)
{
    struct machine_options one = options_for(false, 1, ALL_FEATURES);
    struct machine_options two = options_for(false, 2, FEATURE_SSE | FEATURE_INT);

    (void)state;
    run(&one);
    run(&two);
}

static void guest_on_shadow_paging_computes_as_the_host(void **state)
{
    struct machine_options one = options_for(true, 1, FEATURE_SSE);
    struct machine_options two = options_for(true, 2, ALL_FEATURES);

    (void)state;
    run(&one);
    run(&two);
}

/* What compilers make without vectors; with GM_VERBOSE also how fast that is. */
static void guest_of_integers_computes_as_the_host(void **state)
{
    struct machine_options options = options_for(false, 1, ALL_FEATURES & ~FEATURE_SSE);

    (void)state;
    run(&options);
}

/*
 * What a host does beside a running guest. It migrates it: memory is copied, and what is dirty is copied again, to the end;
 * meanwhile stretches of the memory are mapped anew. Or it moves the guest's slots between two mappings, as a whole.
 */
struct meddler {
    struct machine *machine;
    pthread_t thread;
    uint64_t *mirror; /* NULL: slots move */
    uint64_t pages_copied, rounds;
    atomic_bool is_over;
};

/* Not under TSan: what is copied while it changes is copied again. */
__attribute__((no_sanitize("thread"))) static void copy_page(volatile uint64_t *to,
                                                             const volatile uint64_t *from)
{
    for (unsigned i = 0; i < GUEST_PAGE / sizeof(*to); i++) {
        to[i] = from[i];
    }
}

static void copy_dirty(struct meddler *meddler, unsigned slot)
{
    uint64_t bits[MACHINE_SLOT_BYTES / GUEST_PAGE / 64];
    struct kvm_dirty_log log = {.slot = slot, .dirty_bitmap = bits};
    const uint64_t *memory = (const uint64_t *)meddler->machine->memory[0];
    const size_t words = GUEST_PAGE / sizeof(uint64_t);
    const size_t first = slot * MACHINE_SLOT_BYTES / GUEST_PAGE;

    assert_int_equal(machine_ioctl(meddler->machine, KVM_GET_DIRTY_LOG, &log), 0);
    for (size_t i = 0; i < MACHINE_SLOT_BYTES / GUEST_PAGE; i++) {
        if ((bits[i / 64] >> i % 64 & 1) != 0) {
            copy_page(meddler->mirror + (first + i) * words, memory + (first + i) * words);
            meddler->pages_copied++;
        }
    }
}

/* As when the host swaps, or compacts: other host page tables, the same memory. */
static void map_anew(struct machine *machine, uint64_t *state)
{
    const uint64_t pages = random_next(state) % 64 + 1;
    const uint64_t page = random_next(state) % (GUEST_RAM_BYTES / GUEST_PAGE - pages);
    uint8_t *start = machine->memory[0] + page * GUEST_PAGE;

    gm_soft_invalidate_begin(machine->soft, (uintptr_t)start, pages * GUEST_PAGE);
    assert_ptr_equal(mmap(start, pages * GUEST_PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED,
                          machine->file, (off_t)(page * GUEST_PAGE)),
                     start);
    gm_soft_invalidate_end(machine->soft, (uintptr_t)start, pages * GUEST_PAGE);
}

/* A slot is deleted and made again elsewhere, with other flags: no vCPU is to see that it was not there. */
static void move_slot(struct machine *machine, uint64_t *state)
{
    const uint64_t bits = random_next(state);
    const uint32_t number = bits % MACHINE_SLOTS;
    const uint64_t gpa = number * MACHINE_SLOT_BYTES;
    const struct gm_soft_slot slots[] = {
        {.slot = number},
        {.slot = number,
         .flags = (bits >> 8 & 1) != 0 ? KVM_MEM_LOG_DIRTY_PAGES : 0,
         .gpa = gpa,
         .size_bytes = MACHINE_SLOT_BYTES,
         .hva = (uintptr_t)machine->memory[bits >> 9 & 1] + gpa},
    };

    assert_int_equal(gm_soft_set_slots(machine->soft, slots, 2, NULL), 0);
}

static void *meddle(void *opaque)
{
    struct meddler *meddler = opaque;
    uint64_t state = 1;

    for (; !atomic_load_explicit(&meddler->is_over, memory_order_relaxed); meddler->rounds++) {
        if (meddler->mirror == NULL) {
            move_slot(meddler->machine, &state);
        } else {
            copy_dirty(meddler, meddler->rounds % MACHINE_SLOTS);
            map_anew(meddler->machine, &state);
        }
        (void)gm_soft_age(meddler->machine->soft, (uintptr_t)meddler->machine->memory[0],
                          GUEST_RAM_BYTES);
        usleep(200);
    }
    return NULL;
}

static void run_meddled(bool is_shadow, bool is_migrated, enum gm_soft_log log)
{
    struct machine_options options = options_for(is_shadow, 2, ALL_FEATURES);
    struct meddler meddler = {0};
    struct machine machine;

    options.soft.log = log;
    options.slot_flags = KVM_MEM_LOG_DIRTY_PAGES;
    machine_open(&machine, &options);
    meddler.machine = &machine;
    if (is_migrated) {
        meddler.mirror = malloc(GUEST_RAM_BYTES);
        assert_non_null(meddler.mirror);
        memcpy(meddler.mirror, machine.memory[0], GUEST_RAM_BYTES);
    }
    machine_start(&machine);
    assert_int_equal(pthread_create(&meddler.thread, NULL, meddle, &meddler), 0);
    machine_wait(&machine);
    atomic_store(&meddler.is_over, true);
    assert_int_equal(pthread_join(meddler.thread, NULL), 0);
    check_end(&machine);
    if (is_migrated) {
        for (unsigned i = 0; i < MACHINE_SLOTS; i++) {
            copy_dirty(&meddler, i);
        }
        assert_memory_equal(meddler.mirror, machine.memory[0], GUEST_RAM_BYTES);
        assert_in_range(meddler.pages_copied, 1000, UINT64_MAX);
        free(meddler.mirror);
    }
    if (getenv("GM_VERBOSE") != NULL) {
        print_message("beside it: %" PRIu64 " rounds, %" PRIu64 " pages copied\n", meddler.rounds,
                      meddler.pages_copied);
    }
    machine_close(&machine);
}

static void guest_that_is_migrated_leaves_the_same_memory(void **state)
{
    (void)state;
    run_meddled(false, true, GM_SOFT_LOG_PROTECT);
    run_meddled(false, true, GM_SOFT_LOG_BUFFER);
    run_meddled(true, true, GM_SOFT_LOG_PROTECT);
}

static void guest_whose_slots_move_computes_as_the_host(void **state)
{
    (void)state;
    run_meddled(false, false, GM_SOFT_LOG_PROTECT);
    run_meddled(true, false, GM_SOFT_LOG_PROTECT);
}

/* Unless the second argument says more: the integer workloads, by what every hypervisor has. */
static uint64_t kvm_features;

static void guest_on_the_kernels_kvm_computes_as_the_host(void **state)
{
    (void)state;
    if (!machine_kvm_opens()) {
        skip();
    }
    for (uint64_t cpus = 1; cpus <= GUEST_KVM_CPUS; cpus++) {
        struct machine_options options = options_for(false, cpus, kvm_features);

        options.is_kvm = true;
        run(&options);
    }
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(guest_on_nested_paging_computes_as_the_host),
        cmocka_unit_test(guest_on_shadow_paging_computes_as_the_host),
        cmocka_unit_test(guest_of_integers_computes_as_the_host),
        cmocka_unit_test(guest_that_is_migrated_leaves_the_same_memory),
        cmocka_unit_test(guest_whose_slots_move_computes_as_the_host),
        cmocka_unit_test(guest_on_the_kernels_kvm_computes_as_the_host),
    };

    if (argc > 1) {
        cmocka_set_test_filter(argv[1]);
    }
    if (argc > 2) {
        kvm_features = strtoull(argv[2], NULL, 0);
    }
    return cmocka_run_group_tests(tests, make_expected, NULL);
}
