/*
 * race/test_signals.c - a storm of signals, whose handler kicks, on a thread that makes all calls: nothing fails by -EINTR but
 * gm_vcpu_run(). On the software KVM, and on /dev/kvm where there is one.
 */
#include <guestmem/guestmem.h>
#include <guestmem/soft.h>

#include <errno.h>
#include <linux/kvm.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#define PAGE 4096u
#define RESET_PAGE 0xfffff000u
#define STORM_MS 700
#define PAUSE_NS 3000

static _Atomic(struct gm_vcpu *) kicked;
static atomic_uint handled;

static void on_signal(int number)
{
    struct gm_vcpu *vcpu = kicked;

    (void)number;
    atomic_fetch_add(&handled, 1);
    if (vcpu != NULL) {
        gm_vcpu_kick(vcpu);
    }
}

struct storm {
    pthread_t target;
    pthread_t thread;
    atomic_bool stops;
};

static void *send_signals(void *opaque)
{
    struct storm *storm = opaque;
    const struct timespec pause = {.tv_nsec = PAUSE_NS};

    while (!storm->stops) {
        pthread_kill(storm->target, SIGUSR1);
        nanosleep(&pause, NULL);
    }
    return NULL;
}

static uint64_t now_ms(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

/* Every kind of call on one VM: none is interrupted. Return: how often the run was. */
static unsigned use_vm(struct gm_vm *vm, struct gm_ram *block, struct gm_region *ram)
{
    unsigned interrupted = 0;
    struct gm_vcpu *vcpu;
    struct kvm_regs regs;
    struct gm_txn *txn;

    assert_int_equal(gm_region_set_addr(ram, RESET_PAGE, NULL), 0);
    assert_int_equal(gm_region_add(gm_vm_memory_root(vm), ram, NULL), 0);
    assert_int_equal(gm_vcpu_new(vm, 0, &vcpu, NULL), 0);
    assert_true(gm_vm_ioctl(vm, KVM_CHECK_EXTENSION, KVM_CAP_USER_MEMORY) > 0);
    assert_int_equal(gm_ram_dirty_begin(block, 0), 0);
    assert_int_equal(gm_txn_begin(gm_vm_map(vm), &txn), 0);
    assert_int_equal(gm_txn_set_log(txn, ram, 0, true), 0);
    assert_int_equal(gm_txn_commit(txn, NULL), 0);
    kicked = vcpu;
    for (int i = 0; i < 50; i++) {
        int rc;

        /* In circles, until the storm's next signal kicks. */
        rc = gm_vcpu_run(vcpu);
        assert_int_equal(rc, -EINTR);
        interrupted++;
        assert_int_equal(gm_region_log_sync(ram, 0, PAGE), 0);
        assert_int_equal(gm_vcpu_ioctl(vcpu, KVM_GET_REGS, (unsigned long)&regs), 0);
        assert_int_equal(regs.rip, 0xfff0);
        assert_int_equal(gm_region_set_enabled(ram, false, NULL), 0);
        assert_int_equal(gm_region_set_enabled(ram, true, NULL), 0);
    }
    kicked = NULL;
    assert_int_equal(gm_ram_dirty_end(block, 0), 0);
    gm_vcpu_free(vcpu);
    return interrupted;
}

static void storm_over(enum gm_accel accel)
{
    const struct gm_vm_options options = {.size = sizeof(options), .accel = accel};
    struct sigaction action = {.sa_handler = on_signal}; /* no SA_RESTART */
    struct storm storm = {.target = pthread_self()};
    struct sigaction before;
    uint64_t end_ms;
    unsigned interrupted = 0;

    handled = 0;
    assert_int_equal(sigaction(SIGUSR1, &action, &before), 0);
    assert_int_equal(pthread_create(&storm.thread, NULL, send_signals, &storm), 0);
    end_ms = now_ms() + STORM_MS;
    do {
        struct gm_region *ram;
        struct gm_ram *block;
        struct gm_vm *vm;

        assert_int_equal(gm_vm_open(&options, &vm, NULL), 0);
        assert_int_equal(gm_ram_new_memfd("storm", PAGE, NULL, &block, NULL), 0);
        memcpy((char *)gm_ram_hva(block) + 0xff0, "\xeb\xfe", 2); /* jmp to itself */
        assert_int_equal(gm_region_new_ram(gm_vm_map(vm), "ram", block, &ram), 0);
        interrupted += use_vm(vm, block, ram);
        assert_int_equal(gm_vm_close(vm, NULL), 0);
        gm_region_put(ram);
        gm_ram_put(block);
    } while (now_ms() < end_ms);
    storm.stops = true;
    pthread_join(storm.thread, NULL);
    assert_int_equal(sigaction(SIGUSR1, &before, NULL), 0);
    gm_map_quiesce(NULL);
    assert_true(handled > 0 && interrupted >= 50);
}

static void signals_interrupt_nothing_but_run(void **state)
{
    (void)state;
    storm_over(GM_ACCEL_SOFT);
}

static void signals_interrupt_nothing_of_kvm_but_run(void **state)
{
    (void)state;
    if (access("/dev/kvm", R_OK | W_OK) != 0) {
        skip();
    }
    storm_over(GM_ACCEL_KVM);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(signals_interrupt_nothing_but_run),
        cmocka_unit_test(signals_interrupt_nothing_of_kvm_but_run),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
