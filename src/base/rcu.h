/*
 * base/rcu.h - read-copy-update: liburcu's bulletproof flavour behind a dozen lines, so that its
 * registration rules (none) and ThreadSanitizer's needs live in one place.
 *
 *  - Between rcu_enter() and rcu_leave() nothing that was reachable by rcu_load() is freed. Sections
 *    nest, never block, and must not call out: no callback of a user's runs inside one.
 *  - rcu_store() publishes: what was written before it is seen through rcu_load().
 *  - rcu_defer() calls back after all sections that were open have ended, on liburcu's own thread.
 *    It does not wait and cannot fail.
 *
 * liburcu's fences are invisible to ThreadSanitizer; the annotations say the one edge that callers
 * rely on: leaving a section happens before the callback that follows it, and that callback before
 * the end of an rcu_drain() that waits for it.
 */
#ifndef BASE_RCU_H
#define BASE_RCU_H

#include "base/edge.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>

/* liburcu inlines the two ends of a read section for who asks so (docs/decisions/0013): 1.8 ns instead of 20. */
#ifndef RCU_OUT_OF_LINE
#define _LGPL_SOURCE
#endif
#include <urcu/urcu-bp.h>

#ifdef EDGE_TSAN
extern char rcu_edge; /* stands for "every section that had begun has ended" */
#define RCU_RELEASE() EDGE_RELEASE(&rcu_edge)
#define RCU_ACQUIRE() EDGE_ACQUIRE(&rcu_edge)
#else
#define RCU_RELEASE() ((void)0)
#define RCU_ACQUIRE() ((void)0)
#endif

/* Embedded in what is freed by rcu_defer() or rcu_domain_defer(). */
struct rcu_item {
    struct rcu_head head;
    void (*reclaim)(struct rcu_item *item);
    struct rcu_item *next; /* in a domain */
};

/* The object of @type that @item is the @member of. */
#define rcu_owner(item, type, member) ((type *)(void *)((char *)(item)-offsetof(type, member)))

static inline void rcu_enter(void)
{
    urcu_bp_read_lock();
}

static inline void rcu_leave(void)
{
    RCU_RELEASE();
    urcu_bp_read_unlock();
}

/*
 * The same in fewer instructions, for the hottest paths: what is found on entering is kept for leaving. false: in a thread's first section,
 * in a nested one, and without membarrier; rcu_enter() then. A section that rcu_try() opened may be left by rcu_leave() instead.
 */
struct rcu_section {
    unsigned long *count; /* the thread's, which liburcu's grace periods look at */
    unsigned long after;  /* what it is to be outside */
};

static inline bool rcu_try(struct rcu_section *section)
{
#ifdef RCU_OUT_OF_LINE
    (void)section;
    return false;
#else
    struct urcu_bp_reader *reader = URCU_TLS(urcu_bp_reader);
    unsigned long inside;

    if (__builtin_expect(reader == NULL, 0) ||
        __builtin_expect((CMM_LOAD_SHARED(reader->ctr) & URCU_BP_GP_CTR_NEST_MASK) != 0, 0) ||
        __builtin_expect(urcu_bp_has_sys_membarrier == 0, 0)) {
        return false;
    }
    inside = CMM_LOAD_SHARED(urcu_bp_gp.ctr);
    _CMM_STORE_SHARED(reader->ctr, inside);
    cmm_barrier();
    *section = (struct rcu_section){&reader->ctr, inside - URCU_BP_GP_COUNT};
    return true;
#endif
}

static inline void rcu_end(struct rcu_section section)
{
#ifdef RCU_OUT_OF_LINE
    (void)section;
#else
    cmm_barrier();
    _CMM_STORE_SHARED(*section.count, section.after);
    cmm_barrier();
#endif
}

/* Acquire load; pairs with rcu_store()'s release. @pointer is the address of an _Atomic pointer. */
#define rcu_load(pointer) atomic_load_explicit((pointer), memory_order_acquire)
#define rcu_store(pointer, value) atomic_store_explicit((pointer), (value), memory_order_release)

/* Call @reclaim(@item) once every section open now has ended. */
void rcu_defer(struct rcu_item *item, void (*reclaim)(struct rcu_item *item));

/* Wait until every section that is open now has ended; not for deferred calls. Not inside a section. */
void rcu_wait(void);

/* Wait until every deferred call so far has returned. Not from inside one, nor inside a section. Slow: liburcu's
 * thread collects calls for 10 ms before it begins. */
void rcu_drain(void);

/*
 * Deferred calls of one owner, who can wait for just these, and fast: the end of a domain makes the calls that
 * are left by itself, after a grace period of its own.
 */
struct rcu_domain;

/* Return: NULL no memory. Not of the owner's allocator, since its last bytes go after the owner. */
struct rcu_domain *rcu_domain_new(void);

/* As rcu_defer(). Its calls are made by liburcu's thread, or by who ends the domain. */
void rcu_domain_defer(struct rcu_domain *domain, struct rcu_item *item,
                      void (*reclaim)(struct rcu_item *item));

/* All that was deferred has been called. Not from inside a deferred call, nor inside a section. */
void rcu_domain_drain(struct rcu_domain *domain);

/* Drained, and nothing is deferred any more. NULL is allowed. */
void rcu_domain_free(struct rcu_domain *domain);

#endif
