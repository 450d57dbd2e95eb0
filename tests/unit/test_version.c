/* unit/test_version.c - the library says which version it is. */
#include <guestmem/version.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

static void version_of_library_and_headers_agree(void **state)
{
    /* Both come from this tree, as text and as numbers. */
    char text[32];

    (void)state;
    snprintf(text, sizeof(text), "%d.%d.%d", GM_VERSION_MAJOR, GM_VERSION_MINOR, GM_VERSION_PATCH);
    assert_string_equal(GM_VERSION, text);
    assert_string_equal(gm_version(), text);
    assert_int_equal(gm_version_number(), GM_VERSION_NUMBER);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(version_of_library_and_headers_agree),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
