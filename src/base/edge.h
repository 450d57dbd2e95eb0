/*
 * base/edge.h - telling a race detector (ThreadSanitizer) of an order that it cannot see, because somebody else makes it: the
 * kernel, or a library that it was not built into. What came before a release of @address comes before what follows an
 * acquire of it. Elsewhere these are nothing.
 */
#ifndef BASE_EDGE_H
#define BASE_EDGE_H

#if defined(__SANITIZE_THREAD__)
#define EDGE_TSAN 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define EDGE_TSAN 1
#endif
#endif

#ifdef EDGE_TSAN
void __tsan_acquire(void *address);
void __tsan_release(void *address);
#define EDGE_RELEASE(address) __tsan_release(address)
#define EDGE_ACQUIRE(address) __tsan_acquire(address)
#else
#define EDGE_RELEASE(address) ((void)(address))
#define EDGE_ACQUIRE(address) ((void)(address))
#endif

#endif
