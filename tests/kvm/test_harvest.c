/*
 * tests/kvm/test_harvest.c - no consumer misses a page: a guest and a thread of the host write pages with the number of the
 * write, two consumers harvest at their own pace and copy what they are given, and one of them aborts every third harvest.
 * Whenever the writers stop, a last harvest has to make each consumer's copy equal to the memory.
 *
 *   test_harvest [ROUNDS [kvm]]        the latter: on /dev/kvm only
 */
#include "pages.h"

#include "model/random.h"
#include "vm/vm.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#define HARVESTS 6u /* of each consumer, in a round beside the writers */
#define CONSUMERS 2u
/* A round usually takes a tenth of one; on an emulated machine beside others far more. */
#define ROUND_SECONDS_MAX 120

/* Who writes where in a page: words of 32 bits, at these offsets. */
enum place {
    PLACE_GUEST,
    PLACE_ACCESS, /* gm_write() */
    PLACE_MAP,    /* gm_map() */
    PLACE_MARK,   /* a store, and then gm_ram_dirty_mark() */
    PLACES,
};

static unsigned rounds = 5;

struct rig;
struct consumer {
    struct rig *rig;
    unsigned client;
    unsigned number; /* of harvests so far */
    unsigned pace;
    bool aborts;
    uint32_t copy[PAGES_COUNT][PLACES];
};

struct rig {
    struct pages pages;
    atomic_bool stop;         /* the writers */
    atomic_uint busy;         /* consumers that have not harvested often enough in this round */
    atomic_ullong host_count; /* pages that the host has written */
    uint32_t next_value;
    struct rnd rnd;
    struct consumer consumers[CONSUMERS];
};

static uint32_t *word_of(const struct rig *rig, unsigned page, enum place place)
{
    return (uint32_t *)(void *)(guest_bytes(rig->pages.region) + page * 4096u) + place;
}

static uint32_t load(const struct rig *rig, unsigned page, enum place place)
{
    return __atomic_load_n(word_of(rig, page, place), __ATOMIC_RELAXED);
}

static void write_mapped(struct rig *rig, uint64_t gpa, uint32_t value)
{
    uint64_t size_bytes = sizeof(value);
    struct gm_mapping mapping;

    assert_int_equal(gm_map_range(gm_vm_memory(rig->pages.guest.vm), gpa, &size_bytes, true,
                                  (struct gm_attrs){0}, &mapping),
                     0);
    assert_int_equal(size_bytes, sizeof(value));
    __atomic_store_n((uint32_t *)mapping.data, value, __ATOMIC_RELAXED);
    assert_int_equal(gm_unmap(&mapping, sizeof(value)), GM_ACCESS_OK);
}

static void host_writes_once(struct rig *rig)
{
    unsigned page = (unsigned)rnd_below(&rig->rnd, PAGES_COUNT);
    enum place place = PLACE_ACCESS + (unsigned)rnd_below(&rig->rnd, PLACES - PLACE_ACCESS);
    uint64_t offset = page * 4096u + place * sizeof(uint32_t);
    uint32_t value = ++rig->next_value;

    switch (place) {
    case PLACE_ACCESS:
        assert_int_equal(gm_write(gm_vm_memory(rig->pages.guest.vm), PAGES_GPA + offset, &value,
                                  sizeof(value), (struct gm_attrs){0}),
                         GM_ACCESS_OK);
        break;
    case PLACE_MAP:
        write_mapped(rig, PAGES_GPA + offset, value);
        break;
    default:
        __atomic_store_n(word_of(rig, page, place), value, __ATOMIC_RELAXED);
        gm_ram_dirty_mark(rig->pages.ram, offset, sizeof(value), ~0u);
        break;
    }
}

static void *host_thread(void *opaque)
{
    struct rig *rig = opaque;

    while (!atomic_load(&rig->stop)) {
        host_writes_once(rig);
        atomic_fetch_add_explicit(&rig->host_count, 1, memory_order_relaxed);
    }
    return NULL;
}

static void *vcpu_thread(void *opaque)
{
    struct rig *rig = opaque;

    while (!atomic_load(&rig->stop)) {
        assert_int_equal(gm_vcpu_run(rig->pages.guest.vcpu), -EINTR);
    }
    return NULL;
}

/* Sync and harvest; copy what was harvested and commit, or look at nothing and abort. */
static void consume(struct consumer *consumer, bool aborts)
{
    struct rig *rig = consumer->rig;
    struct gm_harvest *harvest;
    uint64_t first;
    uint64_t last;

    assert_int_equal(gm_region_log_sync(rig->pages.region, 0, PAGES_COUNT * 4096u), 0);
    assert_int_equal(
        gm_harvest_begin(rig->pages.ram, consumer->client, 0, PAGES_COUNT * 4096u, &harvest), 0);
    if (aborts) {
        gm_harvest_abort(harvest);
        return;
    }
    while (gm_harvest_next(harvest, &first, &last)) {
        for (uint64_t page = first; page <= last; page++) {
            for (unsigned place = 0; place < PLACES; place++) {
                consumer->copy[page][place] = load(rig, (unsigned)page, place);
            }
        }
    }
    gm_harvest_commit(harvest);
}

/* A consumer's own pace: so many pages are written by the host between two of its harvests. */
static void wait_for_writes(struct consumer *consumer)
{
    unsigned long long before = atomic_load(&consumer->rig->host_count);

    while (atomic_load(&consumer->rig->host_count) - before < consumer->pace &&
           !atomic_load(&consumer->rig->stop)) {
        sched_yield();
    }
}

static void *consumer_thread(void *opaque)
{
    struct consumer *consumer = opaque;
    unsigned goal = consumer->number + HARVESTS;

    while (!atomic_load(&consumer->rig->stop)) {
        consumer->number++;
        consume(consumer, consumer->aborts && consumer->number % 3 == 0);
        if (consumer->number == goal) {
            atomic_fetch_sub(&consumer->rig->busy, 1);
        }
        wait_for_writes(consumer);
    }
    return NULL;
}

static void expect_copy_is_exact(struct consumer *consumer, unsigned round)
{
    consume(consumer, false);
    for (unsigned page = 0; page < PAGES_COUNT; page++) {
        for (unsigned place = 0; place < PLACES; place++) {
            if (consumer->copy[page][place] != load(consumer->rig, page, place)) {
                fail_msg("round %u: client %u missed page %u: it has %u of writer %u, not %u",
                         round, consumer->client, page, consumer->copy[page][place], place,
                         load(consumer->rig, page, place));
            }
        }
    }
}

/* Each has harvested, the host has written, and the guest has come round. */
static bool all_were_busy(const struct rig *rig, unsigned long long host_before,
                          uint32_t guest_before)
{
    return atomic_load(&rig->busy) == 0 && atomic_load(&rig->host_count) - host_before >= 100 &&
           load(rig, 0, PLACE_GUEST) != guest_before;
}

/* Return: false: it took too long. */
static bool one_round(struct rig *rig, unsigned round)
{
    time_t end = time(NULL) + ROUND_SECONDS_MAX;
    unsigned long long host_before = atomic_load(&rig->host_count);
    uint32_t guest_before = load(rig, 0, PLACE_GUEST);
    pthread_t threads[2 + CONSUMERS];

    atomic_store(&rig->stop, false);
    atomic_store(&rig->busy, CONSUMERS);
    assert_int_equal(pthread_create(&threads[0], NULL, vcpu_thread, rig), 0);
    assert_int_equal(pthread_create(&threads[1], NULL, host_thread, rig), 0);
    for (unsigned i = 0; i < CONSUMERS; i++) {
        assert_int_equal(pthread_create(&threads[2 + i], NULL, consumer_thread, &rig->consumers[i]),
                         0);
    }
    while (!all_were_busy(rig, host_before, guest_before) && time(NULL) < end) {
        sched_yield();
    }
    atomic_store(&rig->stop, true);
    gm_vcpu_kick(rig->pages.guest.vcpu);
    for (unsigned i = 0; i < 2 + CONSUMERS; i++) {
        assert_int_equal(pthread_join(threads[i], NULL), 0);
    }
    for (unsigned i = 0; i < CONSUMERS; i++) {
        expect_copy_is_exact(&rig->consumers[i], round);
    }
    return all_were_busy(rig, host_before, guest_before);
}

/* Some kernels' rings lose entries where they are full, and then hardly let the guest go on: no page is missed, but time is. */
static bool kernel_has_lost_entries(const struct rig *rig)
{
    struct gm_vm *vm = rig->pages.guest.vm;

    return gm_vm_soft(vm) == NULL && rings_are_lost(&vm->backend.rings);
}

static void harvest_under_writes(enum pages_log log)
{
    struct rig *rig = calloc(1, sizeof(*rig));
    struct gm_vcpu_stats stats;
    bool is_going_on = true;
    bool is_lost;

    assert_non_null(rig);
    rig->rnd.state = rnd_seed("harvest");
    if (!pages_init(&rig->pages, log)) {
        free(rig);
        skip();
    }
    for (unsigned i = 0; i < CONSUMERS; i++) {
        rig->consumers[i] =
            (struct consumer){.rig = rig, .client = 2 * i, .pace = 200 + 300 * i, .aborts = i == 1};
        guest_set_log(rig->pages.guest.vm, rig->pages.region, 2 * i, true);
    }
    pages_program(&rig->pages, 0);
    for (unsigned round = 0; is_going_on && round < rounds; round++) {
        is_going_on = one_round(rig, round);
    }
    is_lost = kernel_has_lost_entries(rig);
    gm_vcpu_stats(rig->pages.guest.vcpu, &stats);
    printf("%u rounds: %u and %u harvests, %llu writes of the host, %u of the guest, %llu full "
           "rings\n",
           rounds, rig->consumers[0].number, rig->consumers[1].number,
           (unsigned long long)atomic_load(&rig->host_count), load(rig, 0, PLACE_GUEST),
           (unsigned long long)stats.rings_full);
    pages_fini(&rig->pages);
    free(rig);
    if (!is_going_on && is_lost) {
        skip();
    }
    assert_true(is_going_on);
}

static void harvest_by_log_misses_no_page(void **state)
{
    /* KVM_GET_DIRTY_LOG reads and clears. */
    (void)state;
    GUEST_NEEDS_KVM();
    harvest_under_writes(PAGES_LOG_PLAIN);
}

static void harvest_by_log_with_manual_protect_misses_no_page(void **state)
{
    /* Reading and clearing are two calls, and writes come between. */
    (void)state;
    GUEST_NEEDS_KVM();
    harvest_under_writes(PAGES_LOG_MANUAL);
}

static void harvest_by_ring_misses_no_page(void **state)
{
    /* The vCPU empties its ring by itself, beside the consumers. */
    (void)state;
    GUEST_NEEDS_KVM();
    harvest_under_writes(PAGES_LOG_RING);
}

static void harvest_by_buffer_and_ring_misses_no_page(void **state)
{
    /* What a vCPU has buffered comes into its ring when it is held. */
    (void)state;
    harvest_under_writes(PAGES_LOG_BUFFER_AND_RING);
}

int main(int argument_count, char **arguments)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(harvest_by_log_misses_no_page),
        cmocka_unit_test(harvest_by_log_with_manual_protect_misses_no_page),
        cmocka_unit_test(harvest_by_ring_misses_no_page),
    };
    const struct CMUnitTest soft_tests[] = {
        cmocka_unit_test(harvest_by_buffer_and_ring_misses_no_page),
    };

    if (argument_count > 1) {
        rounds = (unsigned)strtoul(arguments[1], NULL, 10);
    }
    if (argument_count > 2) {
        return guest_exit_code(cmocka_run_group_tests(tests, NULL, NULL));
    }
    return GUEST_RUN_ON_BOTH(tests) ||
           cmocka_run_group_tests_name("of the software KVM alone", soft_tests, NULL, NULL) != 0;
}
