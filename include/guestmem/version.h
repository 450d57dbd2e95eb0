/*
 * guestmem/version.h - the version of the headers a program was compiled with, and of the library
 * it runs with. They differ where the library was replaced after the program was built.
 */
#ifndef GUESTMEM_VERSION_H
#define GUESTMEM_VERSION_H

#ifdef __cplusplus
extern "C" {
#endif

/* The build fails where these and the version in meson.build differ. */
#define GM_VERSION_MAJOR 0
#define GM_VERSION_MINOR 1
#define GM_VERSION_PATCH 0
#define GM_VERSION "0.1.0"

/* Grows with every release, for comparisons: 1.2.3 is 0x010203. */
#define GM_VERSION_NUMBER ((GM_VERSION_MAJOR << 16) | (GM_VERSION_MINOR << 8) | GM_VERSION_PATCH)

/*
 * The running library's GM_VERSION and GM_VERSION_NUMBER.
 * Context: any thread, no locks needed.
 * Return: a static string, never NULL; the number.
 */
const char *gm_version(void);
unsigned gm_version_number(void);

#ifdef __cplusplus
}
#endif

#endif
