/*
 * base/rcu_domain.c - deferred calls of one owner.
 *
 * Items go through two lists. A kick is a call of liburcu's, on its way while any item is there; each time
 * it comes, a grace period has passed since it was sent:
 *
 *   fresh     deferred since the last kick was sent, or just before
 *   waiting   were fresh when the last kick came: when the next one comes, a whole grace period lies behind
 *             them, and they are called
 */
#include "base/rcu.h"

#include "base/check.h"
#include "base/fork.h"
#include "base/lock.h"
#include "base/rcu_start.h"
#include "base/ref.h"

#include <stdlib.h>
#include <urcu/call-rcu.h>

struct rcu_domain {
    struct ref ref;   /* the owner's, and one of a kick on its way */
    struct lock lock; /* rank LEAF: what follows */
    struct rcu_head kick;
    bool is_kicked;
    bool is_calling; /* liburcu's thread makes calls right now */
    pthread_cond_t called;
    struct rcu_item *fresh;
    struct rcu_item *waiting;
};

struct rcu_domain *rcu_domain_new(void)
{
    struct rcu_domain *domain = rcu_start() == 0 ? calloc(1, sizeof(*domain)) : NULL;

    if (domain == NULL) {
        return NULL;
    }
    ref_init(&domain->ref);
    if (lock_init(&domain->lock, LOCK_RANK_LEAF) != 0) {
        free(domain);
        return NULL;
    }
    if (pthread_cond_init(&domain->called, NULL) != 0) {
        lock_fini(&domain->lock);
        free(domain);
        return NULL;
    }
    return domain;
}

static void put(struct rcu_domain *domain)
{
    if (ref_put(&domain->ref)) {
        pthread_cond_destroy(&domain->called);
        lock_fini(&domain->lock);
        free(domain);
    }
}

static void call_list(struct rcu_item *item)
{
    RCU_ACQUIRE(); /* pairs with the releases of sections, and of rcu_domain_defer() */
    while (item != NULL) {
        struct rcu_item *next = item->next;

        item->reclaim(item);
        item = next;
    }
    RCU_RELEASE();
}

static void on_kick(struct rcu_head *head)
{
    struct rcu_domain *domain = rcu_owner(head, struct rcu_domain, kick);
    struct rcu_item *list;

    RCU_ACQUIRE(); /* pairs with the release before the kick was sent */
    lock_take(&domain->lock);
    list = domain->waiting;
    domain->waiting = domain->fresh;
    domain->fresh = NULL;
    domain->is_kicked = domain->waiting != NULL;
    domain->is_calling = true;
    if (domain->is_kicked) {
        ref_get(&domain->ref);
        RCU_RELEASE();
        urcu_bp_call_rcu(&domain->kick, on_kick);
    }
    lock_drop(&domain->lock);
    call_list(list);
    lock_take(&domain->lock);
    domain->is_calling = false;
    pthread_cond_broadcast(&domain->called);
    lock_drop(&domain->lock);
    put(domain);
}

void rcu_domain_defer(struct rcu_domain *domain, struct rcu_item *item,
                      void (*reclaim)(struct rcu_item *item))
{
    item->reclaim = reclaim;
    RCU_RELEASE();
    lock_take(&domain->lock);
    item->next = domain->fresh;
    domain->fresh = item;
    if (!domain->is_kicked && !alone_now()) { /* alone, the end of the domain makes the calls */
        domain->is_kicked = true;
        ref_get(&domain->ref);
        urcu_bp_call_rcu(&domain->kick, on_kick);
    }
    lock_drop(&domain->lock);
}

void rcu_domain_drain(struct rcu_domain *domain)
{
    struct rcu_item *fresh;
    struct rcu_item *waiting;

    lock_take(&domain->lock);
    while (domain->is_calling && !alone_now()) {
        pthread_cond_wait(&domain->called, &domain->lock.mutex);
    }
    fresh = domain->fresh;
    waiting = domain->waiting;
    domain->fresh = NULL;
    domain->waiting = NULL;
    lock_drop(&domain->lock);
    if (fresh != NULL || waiting != NULL) {
        if (!alone_now()) {
            urcu_bp_synchronize_rcu();
        }
        call_list(fresh);
        call_list(waiting);
    }
}

void rcu_domain_free(struct rcu_domain *domain)
{
    if (domain != NULL) {
        lock_take(&domain->lock); /* a kick may still be on its way */
        GM_ASSERT(domain->fresh == NULL && domain->waiting == NULL);
        lock_drop(&domain->lock);
        put(domain);
    }
}
