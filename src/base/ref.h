/* base/ref.h - a reference count that starts at one and never comes back from zero. */
#ifndef BASE_REF_H
#define BASE_REF_H

#include "base/check.h"

#include <stdatomic.h>
#include <stdbool.h>

struct ref {
    atomic_uint count;
};

static inline void ref_init(struct ref *ref)
{
    atomic_init(&ref->count, 1);
}

static inline void ref_get(struct ref *ref)
{
    unsigned before = atomic_fetch_add_explicit(&ref->count, 1, memory_order_relaxed);

    GM_ASSERT(before != 0 && before < 0x80000000u);
}

/* Release, then acquire by the last: who sees true sees all that other holders did. */
static inline bool ref_put(struct ref *ref)
{
    unsigned before = atomic_fetch_sub_explicit(&ref->count, 1, memory_order_acq_rel);

    GM_ASSERT(before != 0);
    return before == 1;
}

#endif
