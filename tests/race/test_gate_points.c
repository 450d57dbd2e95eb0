/*
 * race/test_gate_points.c - the orders of a vCPU and a holder at the run gate, forced one by one: the rows of the table in
 * base/gate.h. Rows 4 and 7 cannot be; race/test_gate_race.c tries to make them.
 *
 *   gate-entering      in_guest is set, held was not looked at
 *   gate-stepped-back  held was seen as it came in; it is out again, and has not begun to wait
 *   gate-leaving       in_guest is cleared, held was not looked at
 *   gate-signalling    held was seen as it left; the lock is not taken
 */
#include "model/actor.h"

#include "base/check.h"
#include "base/gate.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

/* What vCPU and holder write for each other is not atomic: the gate orders it. */
static struct gate gate;
static struct gate_vcpu at_gate;
static atomic_uint kicks;
static bool was_inside;   /* the vCPU's, read by the holder */
static bool was_released; /* the holder's, read by the vCPU */
static struct actor vcpu;
static struct actor holder;

static void on_kick(void *opaque)
{
    (void)opaque;
    atomic_fetch_add(&kicks, 1);
    actor_point("kicking");
}

static int set_up(void **state)
{
    (void)state;
    GM_ASSERT(gate_init(&gate) == 0);
    gate_add(&gate, &at_gate, on_kick, NULL);
    atomic_store(&kicks, 0);
    was_inside = false;
    was_released = false;
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    actors_end();
    gate_remove(&gate, &at_gate);
    gate_fini(&gate);
    return 0;
}

/* @opaque: not NULL where it can only come in after the release. */
static void run(void *opaque)
{
    gate_enter(&gate, &at_gate);
    GM_ASSERT(opaque == NULL || was_released);
    actor_point("inside");
    was_inside = true;
    gate_leave(&gate, &at_gate);
}

static bool after_release = true;

/* @opaque: not NULL where the vCPU has been inside before the hold returns. */
static void hold(void *opaque)
{
    gate_hold(&gate);
    GM_ASSERT(opaque == NULL || was_inside);
    actor_point("held");
    was_released = true;
    gate_release(&gate);
}

static bool after_run = true;

static void gate_hold_of_a_vcpu_inside_kicks_and_waits_for_it(void **state)
{
    /* 1 */
    (void)state;
    actor_begin_until(&vcpu, run, NULL, "inside", 1);
    actor_begin(&holder, hold, &after_run, "held", 1);
    while (atomic_load(&kicks) == 0) {
    }
    assert_true(actor_stays_waiting(&holder));
    actor_end(&vcpu);
    actor_wait_stopped(&holder);
    actor_end(&holder);
}

static void gate_entered_as_the_hold_begins_is_stepped_back_from(void **state)
{
    /* 2: both see the other. */
    (void)state;
    ACTORS_NEED_POINTS();
    actor_begin_until(&vcpu, run, &after_release, "gate-entering", 1);
    actor_begin(&holder, hold, NULL, "held", 1);
    while (atomic_load(&kicks) == 0) {
    }
    assert_true(actor_stays_waiting(&holder));
    actor_go_on_until(&vcpu, "gate-stepped-back");
    actor_wait_stopped(&holder);
    actor_go_on(&vcpu, "inside");
    assert_true(actor_stays_waiting(&vcpu));
    actor_end(&holder);
    actor_wait_stopped(&vcpu);
    actor_end(&vcpu);
}

static void gate_entered_late_waits_for_the_release(void **state)
{
    /* 3: the holder never sees it. */
    (void)state;
    actor_begin_until(&holder, hold, NULL, "held", 1);
    actor_begin(&vcpu, run, &after_release, "inside", 1);
    assert_true(actor_stays_waiting(&vcpu));
    assert_int_equal(atomic_load(&kicks), 0);
    actor_end(&holder);
    actor_wait_stopped(&vcpu);
    actor_end(&vcpu);
}

static void gate_left_before_the_hold_wakes_nobody(void **state)
{
    /* 5: and when held is looked at only after the hold, nobody waits for what it signals. */
    (void)state;
    actor_begin(&vcpu, run, NULL, NULL, 1);
    actor_end(&vcpu);
    actor_begin_until(&holder, hold, &after_run, "held", 1);
    actor_end(&holder);
    ACTORS_NEED_POINTS();
    actor_begin_until(&vcpu, run, NULL, "gate-leaving", 1);
    actor_begin_until(&holder, hold, &after_run, "held", 1);
    assert_int_equal(atomic_load(&kicks), 0);
    actor_end(&vcpu);
    actor_end(&holder);
}

static void gate_left_as_the_holder_looks_wakes_it_once_it_waits(void **state)
{
    /* 6: the holder, which has the lock, has seen the vCPU inside and does not wait yet. */
    (void)state;
    ACTORS_NEED_POINTS();
    actor_begin_until(&vcpu, run, NULL, "inside", 1);
    actor_begin_until(&holder, hold, &after_run, "kicking", 1);
    actor_go_on_until(&vcpu, "gate-signalling");
    actor_go_on(&vcpu, NULL);
    assert_true(actor_stays_waiting(&vcpu));
    actor_go_on_until(&holder, "held");
    actor_end(&vcpu);
    actor_end(&holder);
}

static void gate_released_before_who_stepped_back_waits_lets_it_in(void **state)
{
    /* 8: nobody was waiting as the release came, and nobody will wake it. */
    (void)state;
    ACTORS_NEED_POINTS();
    actor_begin_until(&holder, hold, NULL, "held", 1);
    actor_begin_until(&vcpu, run, &after_release, "gate-stepped-back", 1);
    actor_end(&holder);
    actor_go_on_until(&vcpu, "inside");
    actor_end(&vcpu);
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
        ORDER(gate_hold_of_a_vcpu_inside_kicks_and_waits_for_it),
        ORDER(gate_entered_as_the_hold_begins_is_stepped_back_from),
        ORDER(gate_entered_late_waits_for_the_release),
        ORDER(gate_left_before_the_hold_wakes_nobody),
        ORDER(gate_left_as_the_holder_looks_wakes_it_once_it_waits),
        ORDER(gate_released_before_who_stepped_back_waits_lets_it_in),
    };

    return cmocka_run_group_tests_name("gate_points", tests, prepare, NULL);
}
