/* long/test_long_edits.c - the random edits that tests/prop takes a sample of: a million. */
#include "model/edits.h"
#include "model/random.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

static void map_edited_a_million_times_equals_the_model(void **state)
{
    /* After each commit of random edits, views, sharing, events and slots are the model's. */
    (void)state;
    edits_run(rnd_seed("long_edits"), rnd_setting("GM_EDITS", 1000000));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(map_edited_a_million_times_equals_the_model),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
