/*
 * tests/kvm/test_run.c - vCPUs in threads: kicks, the gate, edits while a guest runs. Threads wait for
 * each other by what they count, never by time.
 */
#include "guest.h"

#include "vm/vm.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <unistd.h>

#define SHADOW_GPA 0x6000u

/* A thread that runs a vCPU until it is told to end, and counts why gm_vcpu_run() returned. */
struct runner {
    pthread_t thread;
    struct gm_vcpu *vcpu;
    atomic_uint interrupted;
    atomic_uint others;
    atomic_bool end;
};

static void *run_loop(void *opaque)
{
    struct runner *runner = opaque;

    while (!atomic_load(&runner->end)) {
        int rc = gm_vcpu_run(runner->vcpu);

        atomic_fetch_add(rc == -EINTR ? &runner->interrupted : &runner->others, 1);
        if (rc != -EINTR) {
            break;
        }
    }
    return NULL;
}

static void runner_start(struct runner *runner, struct gm_vcpu *vcpu)
{
    memset(runner, 0, sizeof(*runner));
    runner->vcpu = vcpu;
    assert_int_equal(pthread_create(&runner->thread, NULL, run_loop, runner), 0);
}

static void runner_stop(struct runner *runner)
{
    atomic_store(&runner->end, true);
    gm_vcpu_kick(runner->vcpu);
    assert_int_equal(pthread_join(runner->thread, NULL), 0);
    assert_int_equal(runner->others, 0);
}

/* A device that kicks the vCPU whose access it answers. */
static void kick_back(void *opaque, const struct record *record)
{
    (void)record;
    gm_vcpu_kick(opaque);
}

static uint64_t rip_of(struct gm_vcpu *vcpu)
{
    struct kvm_regs regs;

    assert_int_equal(gm_vcpu_ioctl(vcpu, KVM_GET_REGS, (uintptr_t)&regs), 0);
    return regs.rip;
}

static void kick_before_run_returns_at_once(void **state)
{
    /* The kick is kept for the next call, and for one call only; the guest does not get on. */
    struct guest guest;

    (void)state;
    GUEST_NEEDS_KVM();
    guest_init(&guest, NULL);
    EMIT_HLT(&guest);
    gm_vcpu_kick(guest.vcpu);
    gm_vcpu_kick(guest.vcpu);
    assert_int_equal(gm_vcpu_run(guest.vcpu), -EINTR);
    assert_int_equal(rip_of(guest.vcpu), GUEST_CODE);
    guest_run_to_hlt(&guest);
    guest_fini(&guest);
}

static void kick_ends_a_spinning_guest(void **state)
{
    /* Two hundred times: each kick that comes after the last return ends one more run. */
    struct runner runner;
    struct guest guest;

    (void)state;
    GUEST_NEEDS_KVM();
    guest_init(&guest, NULL);
    EMIT_SPIN(&guest);
    runner_start(&runner, guest.vcpu);
    for (unsigned i = 1; i <= 200; i++) {
        gm_vcpu_kick(guest.vcpu);
        while (atomic_load(&runner.interrupted) < i && atomic_load(&runner.others) == 0) {
            sched_yield();
        }
        assert_int_equal(runner.others, 0);
        if (i % 10 == 0) {
            guest_wait_spinning(&guest);
        }
    }
    runner_stop(&runner);
    guest_fini(&guest);
}

static void check_kick_from_a_callback(bool has_immediate_exit)
{
    struct kvm_regs regs;
    struct guest guest;

    guest_init(&guest, NULL);
    guest.vcpu->has_immediate_exit &= has_immediate_exit;
    EMIT_MOV_DX(&guest, GUEST_PORT);
    EMIT_IN_AL(&guest);
    EMIT_HLT(&guest);
    guest.ports_seen.next_value = 0x5c;
    guest.ports_seen.on_access = kick_back;
    guest.ports_seen.opaque = guest.vcpu;
    assert_int_equal(gm_vcpu_run(guest.vcpu), -EINTR);
    assert_int_equal(gm_vcpu_ioctl(guest.vcpu, KVM_GET_REGS, (uintptr_t)&regs), 0);
    assert_int_equal(regs.rip, GUEST_CODE + 4);
    assert_int_equal(regs.rax & 0xff, 0x5c);
    assert_int_equal(guest.ports_seen.count, 1);
    guest_run_to_hlt(&guest);
    guest_fini(&guest);
}

static void kick_from_a_callback_ends_after_the_instruction(void **state)
{
    /* IN is complete when the run ends: AL has the answer, RIP is behind it. */
    (void)state;
    GUEST_NEEDS_KVM();
    check_kick_from_a_callback(true);
}

static void kick_without_immediate_exit_ends_after_the_instruction(void **state)
{
    /* The same on a kernel from before KVM_CAP_IMMEDIATE_EXIT: by a pending signal. */
    (void)state;
    GUEST_NEEDS_DEV_KVM();
    check_kick_from_a_callback(false);
}

static bool is_pending(int signal_number)
{
    sigset_t pending;

    sigpending(&pending);
    return sigismember(&pending, signal_number) == 1;
}

static void kick_sent_to_a_bound_thread_is_taken_off(void **state)
{
    /* One signal for any number of sends, none outside of bind and unbind, none left behind. */
    struct guest guest;
    struct kick *kick;

    (void)state;
    GUEST_NEEDS_DEV_KVM();
    guest_init(&guest, NULL);
    kick = &guest.vcpu->kick;
    kick_send(kick);
    assert_false(is_pending(SIGRTMIN));
    assert_int_equal(kick_bind(kick), 0);
    kick_send(kick);
    kick_send(kick);
    assert_true(is_pending(SIGRTMIN));
    assert_true(kick_take(kick));
    assert_false(is_pending(SIGRTMIN));
    assert_false(kick_take(kick));
    kick_send(kick);
    assert_true(is_pending(SIGRTMIN));
    kick_unbind(kick);
    assert_false(is_pending(SIGRTMIN));
    kick_send(kick);
    assert_false(is_pending(SIGRTMIN));
    guest_fini(&guest);
}

static struct gm_vcpu *handler_vcpu;

static void kick_in_handler(int signal_number)
{
    (void)signal_number;
    gm_vcpu_kick(handler_vcpu);
}

static void do_nothing(int signal_number)
{
    (void)signal_number;
}

static void set_handler(int signal_number, void (*handler)(int))
{
    struct sigaction action = {.sa_handler = handler};

    assert_int_equal(sigaction(signal_number, &action, NULL), 0);
}

static void kick_from_a_signal_handler_ends_the_run(void **state)
{
    /* As a program does that is ended by Ctrl-C: the handler may run in any thread. */
    struct runner runner;
    struct guest guest;

    (void)state;
    GUEST_NEEDS_KVM();
    guest_init(&guest, NULL);
    EMIT_SPIN(&guest);
    handler_vcpu = guest.vcpu;
    set_handler(SIGUSR1, kick_in_handler);
    runner_start(&runner, guest.vcpu);
    guest_wait_spinning(&guest);
    raise(SIGUSR1);
    while (atomic_load(&runner.interrupted) < 1) {
        sched_yield();
    }
    guest_wait_spinning(&guest);
    pthread_kill(runner.thread, SIGUSR1);
    while (atomic_load(&runner.interrupted) < 2) {
        sched_yield();
    }
    runner_stop(&runner);
    set_handler(SIGUSR1, SIG_DFL);
    guest_fini(&guest);
}

static void other_signal_ends_the_run(void **state)
{
    /* A signal of the caller's own that interrupts KVM_RUN is the caller's business. */
    struct runner runner;
    struct guest guest;

    (void)state;
    GUEST_NEEDS_KVM();
    guest_init(&guest, NULL);
    EMIT_SPIN(&guest);
    set_handler(SIGUSR2, do_nothing);
    runner_start(&runner, guest.vcpu);
    while (atomic_load(&runner.interrupted) < 5) {
        guest_wait_spinning(&guest); /* it is inside, most of the time; else the signal is lost */
        pthread_kill(runner.thread, SIGUSR2);
    }
    runner_stop(&runner);
    set_handler(SIGUSR2, SIG_DFL);
    guest_fini(&guest);
}

static void run_leaves_no_signal_behind(void **state)
{
    /* After the last run nothing is pending in the thread, and the signal has no handler. */
    struct sigaction action;
    struct runner runner;
    struct guest guest;

    (void)state;
    GUEST_NEEDS_KVM();
    guest_init(&guest, NULL);
    EMIT_MOV_DX(&guest, GUEST_PORT);
    EMIT_OUT_AL(&guest);
    EMIT_HLT(&guest);
    guest.ports_seen.on_access = kick_back;
    guest.ports_seen.opaque = guest.vcpu;
    assert_int_equal(gm_vcpu_run(guest.vcpu), -EINTR);
    gm_vcpu_kick(guest.vcpu);
    assert_int_equal(gm_vcpu_run(guest.vcpu), -EINTR);
    assert_false(is_pending(SIGRTMIN));
    assert_int_equal(sigaction(SIGRTMIN, NULL, &action), 0);
    assert_true(action.sa_handler == SIG_DFL);
    guest_program(&guest);
    EMIT_SPIN(&guest);
    runner_start(&runner, guest.vcpu); /* another thread than before */
    guest_wait_spinning(&guest);
    runner_stop(&runner);
    guest_fini(&guest);
}

static void run_after_the_thread_blocked_a_signal_lets_it_wait(void **state)
{
    /* KVM_RUN has the thread's mask of now, not that of the first run. */
    struct guest guest;
    sigset_t blocked;

    (void)state;
    GUEST_NEEDS_KVM();
    guest_init(&guest, NULL);
    EMIT_HLT(&guest);
    guest_run_to_hlt(&guest);
    sigemptyset(&blocked);
    sigaddset(&blocked, SIGUSR2);
    set_handler(SIGUSR2, do_nothing);
    pthread_sigmask(SIG_BLOCK, &blocked, NULL);
    pthread_kill(pthread_self(), SIGUSR2);
    guest_reset(guest.vcpu);
    guest_run_to_hlt(&guest);
    assert_true(is_pending(SIGUSR2));
    pthread_sigmask(SIG_UNBLOCK, &blocked, NULL);
    assert_false(is_pending(SIGUSR2));
    set_handler(SIGUSR2, SIG_DFL);
    guest_fini(&guest);
}

/* Toggles the window over the guest's RAM, from inside the guest's own OUT. */
static void toggle_window(void *opaque, const struct record *record)
{
    guest_set_enabled(opaque, record->value != 0);
}

static void edit_in_the_vcpus_own_exit_does_not_wait_for_itself(void **state)
{
    /* A port write moves memory in and out under the guest; the next instruction sees it. */
    struct gm_slots_stats slots;
    struct gm_region *window;
    struct guest guest;

    (void)state;
    GUEST_NEEDS_KVM();
    guest_init(&guest, NULL);
    window = guest_add_ram(&guest, "window", SHADOW_GPA, 0x1000);
    guest_set_enabled(window, false);
    guest_bytes(guest.ram)[SHADOW_GPA] = 0x11;
    guest_bytes(window)[0] = 0x22;
    guest.ports_seen.on_access = toggle_window;
    guest.ports_seen.opaque = window;
    EMIT_MOV_DX(&guest, GUEST_PORT);
    for (unsigned i = 0; i < 4; i++) {
        EMIT_MOV_AL(&guest, (i + 1) % 2);
        EMIT_OUT_AL(&guest);
        EMIT_LOAD_AL(&guest, SHADOW_GPA);
        EMIT_STORE_AL(&guest, 0x2000 + i);
    }
    EMIT_HLT(&guest);
    guest_run_to_hlt(&guest);
    assert_memory_equal(guest_bytes(guest.ram) + 0x2000, "\x22\x11\x22\x11", 4);
    gm_slots_stats(gm_vm_slots(guest.vm), &slots);
    assert_true(slots.holds > 0);
    gm_region_put(window);
    guest_fini(&guest);
}

static void edit_while_the_guest_spins_is_not_seen_half_done(void **state)
{
    /* Making memory read-only and back deletes its slot: a guest that reads it all the time must
     * never find it gone, which would be an MMIO exit. */
    struct gm_slots_stats before;
    struct gm_slots_stats after;
    struct gm_vcpu_stats stats;
    struct gm_region *region;
    struct runner runner;
    struct guest guest;

    (void)state;
    GUEST_NEEDS_KVM();
    guest_init(&guest, NULL);
    region = guest_add_ram(&guest, "region", SHADOW_GPA, 0x1000);
    EMIT_LOAD_AL(&guest, SHADOW_GPA);
    EMIT(&guest, 0xff, 0x06, LO(GUEST_COUNTER), HI(GUEST_COUNTER)); /* inc word [counter] */
    EMIT(&guest, 0xeb, 0xf7);                                       /* to the load */
    gm_slots_stats(gm_vm_slots(guest.vm), &before);
    runner_start(&runner, guest.vcpu);
    for (unsigned i = 0; i < 200; i++) {
        guest_set_readonly(guest.vm, region, i % 2 == 0);
        if (i % 8 == 0) {
            guest_wait_spinning(&guest);
        }
    }
    runner_stop(&runner);
    assert_int_equal(runner.interrupted, 1);
    gm_vcpu_stats(guest.vcpu, &stats);
    assert_int_equal(stats.mmio_reads + stats.mmio_writes + stats.unmapped, 0);
    gm_slots_stats(gm_vm_slots(guest.vm), &after);
    assert_int_equal(after.holds - before.holds, 200);
    gm_region_put(region);
    guest_fini(&guest);
}

struct editor {
    struct gm_vm *vm;
    struct gm_region *region;
};

static void *edit_a_hundred_times(void *opaque)
{
    struct editor *editor = opaque;

    for (unsigned i = 0; i < 100; i++) {
        guest_set_readonly(editor->vm, editor->region, i % 2 == 0);
    }
    return NULL;
}

static void kicks_and_holds_at_once_are_told_apart(void **state)
{
    /* Every kick of ours ends a run, whatever the gate's kicks do in between; none of those does. */
    struct editor editor;
    struct runner runner;
    struct guest guest;
    pthread_t thread;

    (void)state;
    GUEST_NEEDS_KVM();
    guest_init(&guest, NULL);
    editor.vm = guest.vm;
    editor.region = guest_add_ram(&guest, "region", SHADOW_GPA, 0x1000);
    EMIT_SPIN(&guest);
    runner_start(&runner, guest.vcpu);
    assert_int_equal(pthread_create(&thread, NULL, edit_a_hundred_times, &editor), 0);
    for (unsigned i = 1; i <= 100; i++) {
        gm_vcpu_kick(guest.vcpu);
        while (atomic_load(&runner.interrupted) < i && atomic_load(&runner.others) == 0) {
            sched_yield();
        }
        assert_int_equal(runner.others, 0);
    }
    assert_int_equal(pthread_join(thread, NULL), 0);
    guest_wait_spinning(&guest);
    assert_int_equal(runner.interrupted, 100);
    runner_stop(&runner);
    gm_region_put(editor.region);
    guest_fini(&guest);
}

static void two_vms_at_once_do_not_touch_each_other(void **state)
{
    /* Same addresses, same program, two machines, two threads. */
    struct guest guests[2];
    struct runner runners[2];

    (void)state;
    GUEST_NEEDS_KVM();
    for (unsigned i = 0; i < 2; i++) {
        guest_init(&guests[i], NULL);
        guest_bytes(guests[i].ram)[0x2000] = (uint8_t)(0x40 + i);
        EMIT_LOAD_AL(&guests[i], 0x2000);
        EMIT_STORE_AL(&guests[i], GUEST_MMIO);
        EMIT_SPIN(&guests[i]);
        runner_start(&runners[i], guests[i].vcpu);
    }
    for (unsigned i = 0; i < 2; i++) {
        guest_wait_spinning(&guests[i]);
    }
    runner_stop(&runners[0]);
    guest_wait_spinning(&guests[1]);
    guest_fini(&guests[0]);
    guest_wait_spinning(&guests[1]);
    runner_stop(&runners[1]);
    assert_int_equal(guests[1].mmio_seen.count, 1);
    assert_int_equal(guests[1].mmio_seen.items[0].value, 0x41);
    guest_fini(&guests[1]);
}

static void close_while_a_vcpu_runs_is_refused(void **state)
{
    /* -EBUSY, and the VM goes on as if nothing had been asked. */
    struct gm_diag diag = {0};
    struct runner runner;
    struct guest guest;

    (void)state;
    GUEST_NEEDS_KVM();
    guest_init(&guest, NULL);
    EMIT_SPIN(&guest);
    runner_start(&runner, guest.vcpu);
    guest_wait_spinning(&guest);
    assert_int_equal(gm_vm_close(guest.vm, &diag), -EBUSY);
    assert_int_equal(diag.code, -EBUSY);
    guest_wait_spinning(&guest);
    runner_stop(&runner);
    guest_fini(&guest);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(kick_before_run_returns_at_once),
        cmocka_unit_test(kick_ends_a_spinning_guest),
        cmocka_unit_test(kick_from_a_callback_ends_after_the_instruction),
        cmocka_unit_test(kick_without_immediate_exit_ends_after_the_instruction),
        cmocka_unit_test(kick_sent_to_a_bound_thread_is_taken_off),
        cmocka_unit_test(kick_from_a_signal_handler_ends_the_run),
        cmocka_unit_test(other_signal_ends_the_run),
        cmocka_unit_test(run_leaves_no_signal_behind),
        cmocka_unit_test(run_after_the_thread_blocked_a_signal_lets_it_wait),
        cmocka_unit_test(edit_in_the_vcpus_own_exit_does_not_wait_for_itself),
        cmocka_unit_test(edit_while_the_guest_spins_is_not_seen_half_done),
        cmocka_unit_test(kicks_and_holds_at_once_are_told_apart),
        cmocka_unit_test(two_vms_at_once_do_not_touch_each_other),
        cmocka_unit_test(close_while_a_vcpu_runs_is_refused),
    };

    return GUEST_RUN_ON_BOTH(tests);
}
