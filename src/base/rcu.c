/* base/rcu.c - deferring work past a grace period. */
#include "base/rcu.h"

#include <urcu/call-rcu.h>

#ifdef RCU_TSAN
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
    item->reclaim = reclaim;
    RCU_RELEASE();
    urcu_bp_call_rcu(&item->head, run_item);
}

void rcu_drain(void)
{
    urcu_bp_barrier();
    RCU_ACQUIRE();
}
