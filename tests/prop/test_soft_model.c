/*
 * prop/test_soft_model.c - random operations on a software VM, with the model's dictionary beside its tables
 * and its vCPUs' TLBs after each. A TLB entry is usable until the library flushes it, so a flush that
 * is missing shows at once. GM_SOFT_OPERATIONS sets how many; tests/long makes millions.
 */
#include "model/random.h"
#include "model/softmodel_run.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

static void soft_random_operations_agree_with_the_model(void **state)
{
    /* Each value loaded, outcome, errno, dirty page, table entry and TLB entry is what the model says. */
    (void)state;
    softrun_all(rnd_seed("soft_model"), rnd_setting("GM_SOFT_OPERATIONS", 100000));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(soft_random_operations_agree_with_the_model),
    };

    return cmocka_run_group_tests_name("soft_model", tests, NULL, NULL);
}
