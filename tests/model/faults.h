/*
 * model/faults.h - an allocator that counts what lives, and fails once where it is told to.
 */
#ifndef MODEL_FAULTS_H
#define MODEL_FAULTS_H

#include "inject/inject.h"

#include <guestmem/types.h>

#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>

struct faults {
    uint64_t fail_at; /* 1: the next allocation; 0: none */
    bool has_failed;
    int64_t live;
    uint64_t allocations;
};

static inline void *faults_alloc(void *opaque, size_t size_bytes)
{
    struct faults *faults = opaque;

    if (inject_fails(INJECT_ALLOC)) {
        return NULL;
    }
    if (faults->fail_at != 0) { /* armed by one thread, and it alone allocates then */
        faults->fail_at--;
        if (faults->fail_at == 0) {
            faults->has_failed = true;
            return NULL;
        }
    }
    __atomic_add_fetch(&faults->live, 1, __ATOMIC_ACQ_REL);
    __atomic_add_fetch(&faults->allocations, 1, __ATOMIC_ACQ_REL);
    return malloc(size_bytes);
}

/* Also from liburcu's thread. */
static inline void faults_free(void *opaque, void *memory)
{
    struct faults *faults = opaque;

    __atomic_sub_fetch(&faults->live, 1, __ATOMIC_ACQ_REL);
    free(memory);
}

static inline struct gm_allocator faults_allocator(struct faults *faults)
{
    return (struct gm_allocator){faults_alloc, faults_free, faults};
}

static inline void faults_arm(struct faults *faults, uint64_t nth)
{
    faults->fail_at = nth;
    faults->has_failed = false;
}

/* True if an allocation has failed since it was armed. */
static inline bool faults_disarm(struct faults *faults)
{
    faults->fail_at = 0;
    return faults->has_failed;
}

static inline int64_t faults_live(const struct faults *faults)
{
    return __atomic_load_n(&faults->live, __ATOMIC_ACQUIRE);
}

#endif
