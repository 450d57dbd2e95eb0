/*
 * The library's own version, compiled in.
 */
#include <guestmem/version.h>

const char *gm_version(void)
{
    return GM_VERSION;
}

unsigned gm_version_number(void)
{
    return GM_VERSION_NUMBER;
}
