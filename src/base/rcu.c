/* base/rcu.c - deferring work past a grace period. */
#include "base/rcu.h"

#include "base/fork.h"

#include <urcu/call-rcu.h>

#ifdef EDGE_TSAN
char rcu_edge;

/* The hand-over inside liburcu's barrier is by its own fences, which ThreadSanitizer cannot see. */
const char *__tsan_default_suppressions(void);
const char *__tsan_default_suppressions(void)
{
    return "race:urcu_bp_barrier\n";
}
#endif

static void run_item(struct rcu_head *head)
{
    struct rcu_item *item = rcu_owner(head, struct rcu_item, head);

    RCU_ACQUIRE();
    item->reclaim(item);
    RCU_RELEASE(); /* pairs with the acquire in rcu_drain() */
}

void rcu_defer(struct rcu_item *item, void (*reclaim)(struct rcu_item *item))
{
    if (alone_now()) {
        reclaim(item); /* no reader is left, and no thread of liburcu's */
        return;
    }
    item->reclaim = reclaim;
    RCU_RELEASE();
    urcu_bp_call_rcu(&item->head, run_item);
}

void rcu_wait(void)
{
    urcu_bp_synchronize_rcu();
    RCU_ACQUIRE(); /* pairs with the release in rcu_leave() */
}

void rcu_drain(void)
{
    if (alone_now()) {
        return;
    }
    urcu_bp_barrier();
    RCU_ACQUIRE();
}
