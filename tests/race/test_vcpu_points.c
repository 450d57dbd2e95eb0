/*
 * race/test_vcpu_points.c - the orders of a vCPU of the software KVM that goes into guest mode or to sleep, and who wants it out or
 * awake, forced one by one: the rows of the tables in kcore/vcpu.c and soft/sleep.h. Row 3 of the latter cannot be.
 *
 *   vcpu-cleared     LEAVE is cleared, the gate was not come to
 *   gate-entering    in_guest is set, held was not looked at
 *   request-made     a request is stored, is_asleep was not looked at
 *   request-waking   ... and was set; the eventfd was not written to
 *   sleep-announced  is_asleep is set, no request was looked for
 *   sleep-begins     ... or found; it is about to wait
 */
#include "model/actor.h"
#include "model/require.h"

#include "soft/sleep.h"
#include "soft/soft.h"

#include <guestmem/soft_ioctl.h>

#include <linux/kvm.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

static struct gm_soft *soft;
static struct gm_soft_vcpu *vcpu;
static struct kcore_vcpu *base;
static struct actor runner;
static struct actor holder;

static int set_up(void **state)
{
    const struct gm_soft_options options = {.size = sizeof(options)};

    (void)state;
    REQUIRE(gm_soft_open(&options, &soft, NULL) == 0, "a VM");
    REQUIRE(gm_soft_vm_ioctl(soft, KVM_CREATE_IRQCHIP, 0) == 0, "chips: vCPUs sleep");
    REQUIRE(gm_soft_vcpu_new(soft, 0, &vcpu) == 0, "a vCPU");
    base = &vcpu->mmu.base;
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    actors_end();
    gm_soft_vcpu_free(vcpu);
    REQUIRE(gm_soft_close(soft) == 0, "closing");
    return 0;
}

/* ---- kcore/vcpu.c: guest mode ---- */

static bool is_asked_to_leave(void)
{
    return (__atomic_load_n(base->requests, __ATOMIC_RELAXED) & KCORE_REQUEST_LEAVE) != 0;
}

static void wait_until_asked_to_leave(void)
{
    while (!is_asked_to_leave()) {
        sched_yield();
    }
}

static void run(void *unused)
{
    (void)unused;
    kcore_vcpu_enter(base);
    actor_point("inside");
    kcore_vcpu_leave(base);
}

static void hold(void *unused)
{
    (void)unused;
    kcore_hold(&soft->core);
    actor_point("held");
    kcore_release(&soft->core);
}

static void vcpu_inside_is_asked_to_leave(void **state)
{
    /* 1: after the clear; also where a request from before it was cleared. */
    (void)state;
    kcore_vcpu_request(base, KCORE_REQUEST_LEAVE);
    actor_begin_until(&runner, run, NULL, "inside", 1);
    assert_false(is_asked_to_leave());
    actor_begin(&holder, hold, NULL, "held", 1);
    wait_until_asked_to_leave();
    assert_true(actor_stays_waiting(&holder));
    actor_end(&runner);
    actor_wait_stopped(&holder);
    actor_end(&holder);
}

static void vcpu_that_steps_back_comes_out_once_more_than_it_must(void **state)
{
    /* 2: LEAVE stays. */
    (void)state;
    ACTORS_NEED_POINTS();
    actor_begin_until(&runner, run, NULL, "gate-entering", 1);
    actor_begin(&holder, hold, NULL, "held", 1);
    wait_until_asked_to_leave();
    assert_true(actor_stays_waiting(&holder));
    actor_go_on(&runner, "inside");
    actor_wait_stopped(&holder);
    assert_true(actor_stays_waiting(&runner));
    actor_end(&holder);
    actor_wait_stopped(&runner);
    assert_true(is_asked_to_leave());
    actor_end(&runner);
}

static void vcpu_that_is_not_seen_inside_is_not_asked_and_waits(void **state)
{
    /* 3 */
    (void)state;
    ACTORS_NEED_POINTS();
    actor_begin_until(&runner, run, NULL, "vcpu-cleared", 1);
    actor_begin_until(&holder, hold, NULL, "held", 1);
    actor_go_on(&runner, "inside");
    assert_true(actor_stays_waiting(&runner));
    actor_end(&holder);
    actor_wait_stopped(&runner);
    assert_false(is_asked_to_leave());
    actor_end(&runner);
}

/* ---- soft/sleep.h ---- */

static struct actor sleeper;
static struct actor requester;

/* Without an end of its own. */
static void sleep_on(void *unused)
{
    (void)unused;
    sleep_until(vcpu, UINT64_MAX);
}

static void request(void *unused)
{
    (void)unused;
    kcore_vcpu_request(base, KCORE_REQUEST_KICK);
}

static void sleeper_that_found_no_request_is_woken(void **state)
{
    /* 1: before it waits, and while it does. */
    (void)state;
    ACTORS_NEED_POINTS();
    for (unsigned i = 0; i < 2; i++) {
        actor_begin_until(&sleeper, sleep_on, NULL, "sleep-begins", 1);
        if (i == 1) {
            actor_go_on(&sleeper, NULL);
            assert_true(actor_stays_waiting(&sleeper));
        }
        request(NULL);
        actor_end(&sleeper);
    }
}

static void sleeper_that_finds_a_request_does_not_wait(void **state)
{
    /* 2: nobody has written to the eventfd, and nobody will before it is over. */
    (void)state;
    ACTORS_NEED_POINTS();
    actor_begin_until(&requester, request, NULL, "request-made", 1);
    actor_begin(&sleeper, sleep_on, NULL, NULL, 1);
    actor_end(&sleeper);
    actor_end(&requester);
}

static void sleeper_woken_late_ends_its_next_sleep_for_nothing(void **state)
{
    /* 4: and the one after that is a sleep again. */
    (void)state;
    ACTORS_NEED_POINTS();
    actor_begin_until(&sleeper, sleep_on, NULL, "sleep-announced", 1);
    actor_begin_until(&requester, request, NULL, "request-waking", 1);
    actor_end(&sleeper);
    actor_end(&requester);
    sleep_on(NULL);
    actor_begin(&sleeper, sleep_on, NULL, NULL, 1);
    assert_true(actor_stays_waiting(&sleeper));
    request(NULL);
    actor_end(&sleeper);
}

static int prepare(void **state)
{
    (void)state;
    actors_prepare();
    return 0;
}

#define ORDER(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        ORDER(vcpu_inside_is_asked_to_leave),
        ORDER(vcpu_that_steps_back_comes_out_once_more_than_it_must),
        ORDER(vcpu_that_is_not_seen_inside_is_not_asked_and_waits),
        ORDER(sleeper_that_found_no_request_is_woken),
        ORDER(sleeper_that_finds_a_request_does_not_wait),
        ORDER(sleeper_woken_late_ends_its_next_sleep_for_nothing),
    };

    return cmocka_run_group_tests_name("vcpu_points", tests, prepare, NULL);
}
