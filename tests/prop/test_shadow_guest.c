/*
 * prop/test_shadow_guest.c - a random guest that edits its page tables as it uses them, once walked through EPT and
 * once shadowed: what each access reaches, each page fault, accessed and dirty flags are as the architecture
 * permits, stale translations until a flush among it. GM_SHADOW_OPERATIONS sets how many operations.
 *
 * GM_SHADOW_PROMISES says which of the architecture's finer promises (enum guest_promise) are asked for: 15 for all.
 */
#include "model/guestmodel_run.h"
#include "model/random.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

/* Those that are kept today; GUEST_PROMISE_ALL once INVLPG and page faults forget all that they should. */
#define PROMISES_KEPT GUEST_PROMISE_ALL

static uint64_t seed;

static void run(bool is_shadowed)
{
    guestrun_all(seed, rnd_setting("GM_SHADOW_OPERATIONS", 40000), is_shadowed,
                 (unsigned)rnd_setting("GM_SHADOW_PROMISES", PROMISES_KEPT));
}

static void guest_with_nested_paging_sees_what_is_permitted(void **state)
{
    /* Its tables are walked at each miss of the TLB. */
    (void)state;
    run(false);
}

static void guest_with_shadow_paging_sees_what_is_permitted(void **state)
{
    /* The same guest, operation by operation. */
    (void)state;
    run(true);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(guest_with_nested_paging_sees_what_is_permitted),
        cmocka_unit_test(guest_with_shadow_paging_sees_what_is_permitted),
    };

    seed = rnd_seed("shadow_guest");
    return cmocka_run_group_tests_name("shadow_guest", tests, NULL, NULL);
}
