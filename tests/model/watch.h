/*
 * model/watch.h - a listener that believes nothing but what it is told: from the events alone it
 * rebuilds what its spaces show, and checks each event against what it knows and was promised.
 */
#ifndef MODEL_WATCH_H
#define MODEL_WATCH_H

#include "model/twin.h"

struct watch;

/*
 * Register on a space (by number, or NONE for all). The twin keeps it.
 */
struct watch *watch_new(struct twin *twin, int space, int32_t priority);

/* Unregister: it has to be told all that it knows as dels. */
void watch_free(struct watch *watch);

/* The next prepare, or apply, fails once with @error. */
void watch_fail(struct watch *watch, int error, bool in_apply);
/* Forget what was asked for by watch_fail(); true if it has failed since. */
bool watch_disarm(struct watch *watch);

/* What it built has to be what the twin's model shows; and no transaction may be open. */
void watch_check(struct watch *watch, bool succeeded);

/* The order in which several listeners are called: forget it, check it. */
void watch_reset_order(struct twin *twin);
void watch_check_order(struct twin *twin, bool succeeded);

#endif
