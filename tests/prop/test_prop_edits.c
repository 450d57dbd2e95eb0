/* prop/test_prop_edits.c - a sample of the random edits that tests/long makes a million of. */
#include "model/edits.h"
#include "model/random.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

static void map_edited_at_random_equals_the_model(void **state)
{
    /* After each commit of random edits, views, sharing, events and slots are the model's. */
    (void)state;
    edits_run(rnd_seed("prop_edits"), rnd_setting("GM_EDITS", 20000));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(map_edited_at_random_equals_the_model),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
