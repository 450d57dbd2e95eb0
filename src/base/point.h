/*
 * base/point.h - named points in lockless code, at which a test may stop a thread to force an order
 * of events. In builds without -Daudit=true they are nothing.
 */
#ifndef BASE_POINT_H
#define BASE_POINT_H

#ifdef GM_AUDIT_ON
/* Called with the point's name where it is set; before threads are made, for tests only. */
extern void (*point_hook)(const char *name);
#define GM_POINT(name) (point_hook != NULL ? point_hook(name) : (void)0)
#else
#define GM_POINT(name) ((void)0)
#endif

#endif
