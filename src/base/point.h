/*
 * base/point.h - named points in lockless code, at which a test may stop a thread to force an order
 * of events. In builds without -Daudit=true they are nothing.
 */
#ifndef BASE_POINT_H
#define BASE_POINT_H

#ifdef GM_AUDIT_ON
#include <stdatomic.h>
#include <stddef.h>

/* Called with the point's name where it is set, for tests only. */
extern void (*_Atomic point_hook)(const char *name);

/* Relaxed: other threads may be at points when a test sets the hook, and a point orders nothing. */
static inline void point_reach(const char *name)
{
    void (*hook)(const char *name) = atomic_load_explicit(&point_hook, memory_order_relaxed);

    if (hook != NULL) {
        hook(name);
    }
}
#define GM_POINT(name) point_reach(name)
#else
#define GM_POINT(name) ((void)0)
#endif

#endif
