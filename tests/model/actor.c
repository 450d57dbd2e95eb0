/* model/actor.c - threads that are led through an order of events: see actor.h. */
#include "model/actor.h"
#include "model/require.h"

#include "base/point.h"

#include <sched.h>
#include <string.h>

/* Turns in which a thread that ought to wait could go on. */
#define TURNS 40

/* Whose thread this is. */
static _Thread_local struct actor *self;
static struct actor *begun;

/* Under the lock. */
static void stop(struct actor *actor)
{
    actor->stop_at = NULL;
    actor->is_stopped = true;
    actor->may_go_on = false;
    pthread_cond_broadcast(&actor->changed);
    while (!actor->may_go_on) {
        pthread_cond_wait(&actor->changed, &actor->lock);
    }
}

void actor_point(const char *name)
{
    struct actor *actor = self;

    if (actor == NULL) {
        return;
    }
    pthread_mutex_lock(&actor->lock);
    if (actor->stop_at != NULL && strcmp(actor->stop_at, name) == 0) {
        if (actor->to_pass > 0) {
            actor->to_pass--;
        } else {
            stop(actor);
        }
    }
    pthread_mutex_unlock(&actor->lock);
}

void actors_prepare(void)
{
#ifdef GM_AUDIT_ON
    point_hook = actor_point;
#endif
}

bool actors_have_points(void)
{
#ifdef GM_AUDIT_ON
    return true;
#else
    return false;
#endif
}

static void *actor_main(void *opaque)
{
    struct actor *actor = opaque;

    self = actor;
    actor->act(actor->opaque);
    pthread_mutex_lock(&actor->lock);
    actor->is_over = true;
    pthread_cond_broadcast(&actor->changed);
    pthread_mutex_unlock(&actor->lock);
    return NULL;
}

void actor_begin(struct actor *actor, void (*act)(void *opaque), void *opaque, const char *point,
                 unsigned nth)
{
    *actor = (struct actor){.act = act, .opaque = opaque, .stop_at = point, .to_pass = nth - 1};
    pthread_mutex_init(&actor->lock, NULL);
    pthread_cond_init(&actor->changed, NULL);
    actor->next = begun;
    begun = actor;
    REQUIRE(pthread_create(&actor->thread, NULL, actor_main, actor) == 0, "a thread");
}

void actor_wait_stopped(struct actor *actor)
{
    pthread_mutex_lock(&actor->lock);
    while (!actor->is_stopped) {
        REQUIRE(!actor->is_over, "it is over, and the point was never reached");
        pthread_cond_wait(&actor->changed, &actor->lock);
    }
    pthread_mutex_unlock(&actor->lock);
}

void actor_begin_until(struct actor *actor, void (*act)(void *opaque), void *opaque,
                       const char *point, unsigned nth)
{
    actor_begin(actor, act, opaque, point, nth);
    actor_wait_stopped(actor);
}

/* Under the lock. */
static void let_go(struct actor *actor, const char *point)
{
    actor->stop_at = point;
    actor->to_pass = 0;
    actor->is_stopped = false;
    actor->may_go_on = true;
    pthread_cond_broadcast(&actor->changed);
}

void actor_go_on(struct actor *actor, const char *point)
{
    pthread_mutex_lock(&actor->lock);
    REQUIRE(actor->is_stopped, "it has not stopped");
    let_go(actor, point);
    pthread_mutex_unlock(&actor->lock);
}

void actor_go_on_until(struct actor *actor, const char *point)
{
    actor_go_on(actor, point);
    actor_wait_stopped(actor);
}

static void end_now(struct actor *actor)
{
    pthread_mutex_lock(&actor->lock);
    let_go(actor, NULL);
    pthread_mutex_unlock(&actor->lock);
}

static void wait_for_end(struct actor *actor)
{
    struct actor **link = &begun;

    REQUIRE(pthread_join(actor->thread, NULL) == 0, "its end");
    pthread_cond_destroy(&actor->changed);
    pthread_mutex_destroy(&actor->lock);
    while (*link != actor) {
        link = &(*link)->next;
    }
    *link = actor->next;
}

void actor_end(struct actor *actor)
{
    end_now(actor);
    wait_for_end(actor);
}

/* All go on before one is waited for: they may be waiting for each other. */
void actors_end(void)
{
    for (struct actor *actor = begun; actor != NULL; actor = actor->next) {
        end_now(actor);
    }
    while (begun != NULL) {
        wait_for_end(begun);
    }
}

bool actor_is_over(struct actor *actor)
{
    bool is_over;

    pthread_mutex_lock(&actor->lock);
    is_over = actor->is_over;
    pthread_mutex_unlock(&actor->lock);
    return is_over;
}

bool actor_stays_waiting(struct actor *actor)
{
    bool waits = true;

    for (int i = 0; i < TURNS && waits; i++) {
        sched_yield();
        pthread_mutex_lock(&actor->lock);
        waits = !actor->is_over && !actor->is_stopped;
        pthread_mutex_unlock(&actor->lock);
    }
    return waits;
}
