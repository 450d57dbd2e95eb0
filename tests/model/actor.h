/*
 * model/actor.h - a thread that does what a test tells it, and stops at a named point (base/point.h) until the test lets
 * it go on. Two of them, or one and the test's own thread, are led through one order of events.
 *
 * Nothing sleeps: who waits does so for what the other has done. Calls of the library that ought to wait are given some
 * turns of the processor in which they could go wrong.
 *
 * What actors do must not use cmocka's assertions, which are for the test's own thread.
 */
#ifndef MODEL_ACTOR_H
#define MODEL_ACTOR_H

#include <pthread.h>
#include <stdbool.h>

struct actor {
    void (*act)(void *opaque);
    void *opaque;
    pthread_t thread;
    pthread_mutex_t lock; /* the rest */
    pthread_cond_t changed;
    const char *stop_at; /* NULL: nowhere */
    unsigned to_pass;    /* so often it goes past that point before */
    bool is_stopped;
    bool may_go_on;
    bool is_over;       /* it has done it all */
    struct actor *next; /* the test's own thread: those that have begun */
};

/* Before the library is used, once. */
void actors_prepare(void);
/* Has the library points in this build? The tests' own, actor_point(), are there always. */
bool actors_have_points(void);

/* Begin. It will stop the @nth time, from 1 on, that it comes to @point; NULL: nowhere. */
void actor_begin(struct actor *actor, void (*act)(void *opaque), void *opaque, const char *point,
                 unsigned nth);
/* It has come there. */
void actor_wait_stopped(struct actor *actor);
/* Begin, and come there. */
void actor_begin_until(struct actor *actor, void (*act)(void *opaque), void *opaque,
                       const char *point, unsigned nth);
/* From where it has stopped on; NULL: to the end, which is not waited for. */
void actor_go_on(struct actor *actor, const char *point);
void actor_go_on_until(struct actor *actor, const char *point);
/* To the end, from wherever it is; the actor may begin again. */
void actor_end(struct actor *actor);
/* All that have begun: first of all in a tear-down, for a test that has failed half-way. */
void actors_end(void);

bool actor_is_over(struct actor *actor);
/* It waits for something: however many turns it gets, it does not come to its end, or to where it should stop. */
bool actor_stays_waiting(struct actor *actor);

/* A point of the test's own: in a callback, say. */
void actor_point(const char *name);

#define ACTORS_NEED_POINTS()                                                                       \
    do {                                                                                           \
        if (!actors_have_points()) {                                                               \
            skip();                                                                                \
        }                                                                                          \
    } while (0)

#endif
