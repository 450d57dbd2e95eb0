/*
 * model/recorder.h - a hypervisor that only keeps books: a backend whose slots have to be exactly the
 * page-aligned RAM of a space's view, whose coalesced ranges what shows of them there, and which is strict about what it
 * is asked to do.
 */
#ifndef MODEL_RECORDER_H
#define MODEL_RECORDER_H

#include "model/twin.h"

struct recorder;

/* Attach to a space. The twin keeps it. */
struct recorder *recorder_new(struct twin *twin, int space, const struct gm_allocator *allocator);
void recorder_free(struct recorder *recorder);

/* The @nth operation from here on (1: the next) fails once with @error. */
void recorder_fail(struct recorder *recorder, unsigned nth, int error);
bool recorder_disarm(struct recorder *recorder);

/* After a commit: slots and coalesced ranges are what the model's view comes to; what was taken away had to be. */
void recorder_check(struct recorder *recorder, bool succeeded);

/* Operations so far, of all kinds. */
uint64_t recorder_operations(const struct recorder *recorder);

struct gm_slots *recorder_slots(struct recorder *recorder);

#endif
