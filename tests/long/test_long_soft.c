/* long/test_long_soft.c - the random operations that tests/prop takes a sample of: a million. */
#include "model/random.h"
#include "model/softmodel_run.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

static void soft_a_million_random_operations_agree_with_the_model(void **state)
{
    /* Each value loaded, outcome, errno, dirty page, table entry and TLB entry is what the model says. */
    (void)state;
    softrun_all(rnd_seed("long_soft"), rnd_setting("GM_SOFT_OPERATIONS", 1000000));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(soft_a_million_random_operations_agree_with_the_model),
    };

    return cmocka_run_group_tests_name("long_soft", tests, NULL, NULL);
}
