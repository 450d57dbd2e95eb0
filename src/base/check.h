/*
 * base/check.h - assertions about our own code. Never for what a guest, file, peer or caller sent.
 *
 * GM_ASSERT is always on: going on after one of our own bugs could cost a guest its memory. GM_AUDIT
 * runs a check of a whole structure, in builds with -Daudit=true only.
 */
#ifndef BASE_CHECK_H
#define BASE_CHECK_H

#define GM_ASSERT(condition)                                                                       \
    do {                                                                                           \
        if (__builtin_expect(!(condition), 0)) {                                                   \
            __builtin_trap();                                                                      \
        }                                                                                          \
    } while (0)

#ifdef GM_AUDIT_ON
#define GM_AUDIT(call) call
#else
#define GM_AUDIT(call) ((void)0)
#endif

#endif
