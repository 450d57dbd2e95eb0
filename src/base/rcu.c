/* base/rcu.c - deferring work past a grace period. */
#include "base/rcu.h"

#include "base/fork.h"
#include "base/rcu_start.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
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

/* Deferred calls are made by liburcu's thread. It makes that one at the first of them, and ends the process if it cannot. */
static atomic_bool is_started;

static void *do_nothing(void *opaque)
{
    return opaque;
}

/* Can there be one more thread? */
static int try_thread(void)
{
    pthread_t thread;
    int rc = -pthread_create(&thread, NULL, do_nothing, NULL);

    if (rc == 0) {
        pthread_join(thread, NULL);
    }
    return rc;
}

int rcu_start(void)
{
    sigset_t all;
    sigset_t mask;
    int rc;

    if (atomic_load_explicit(&is_started, memory_order_relaxed)) {
        return 0;
    }
    sigfillset(&all); /* signals are the program's, on its own threads */
    pthread_sigmask(SIG_SETMASK, &all, &mask);
    rc = try_thread();
    if (rc == 0) {
        (void)urcu_bp_get_default_call_rcu_data(); /* makes it, once */
        /* Relaxed, as the load: who does not see it asks liburcu again, which has a lock. */
        atomic_store_explicit(&is_started, true, memory_order_relaxed);
    }
    pthread_sigmask(SIG_SETMASK, &mask, NULL);
    return rc == 0 ? 0 : -ENOMEM;
}

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
