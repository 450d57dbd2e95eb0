/*
 * model/softmodel_puppet.h - a vCPU on a thread of its own that makes one access when it is told to, and
 * stops at a named point (base/point.h) if it is told that, too. So a test forces an order of events.
 * In builds without points none is ever reached: such tests are skipped.
 */
#ifndef MODEL_SOFTMODEL_PUPPET_H
#define MODEL_SOFTMODEL_PUPPET_H

#include <guestmem/soft.h>

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

/* Compare with 0, and exchange. */
#define PUPPET_EXCHANGE ((enum gm_mmu_access)(GM_MMU_FETCH + 1))

struct puppet_access {
    enum gm_mmu_access access; /* or PUPPET_EXCHANGE */
    uint64_t gpa;              /* or the linear address */
    uint64_t value;            /* stored; or, afterwards, loaded */
    enum gm_mmu_outcome outcome;
    int error;
};

struct puppet {
    struct gm_soft_vcpu *vcpu;
    struct gm_mmu *mmu;
    pthread_t thread;
    pthread_mutex_t lock; /* the rest */
    pthread_cond_t changed;
    struct puppet_access access;
    /* Accesses are, in a supervisor's view. Changed by the test, between them. */
    bool is_linear;
    bool is_asked; /* an access is under way */
    bool is_over;
    const char *stop_at; /* NULL: nowhere */
    bool is_stopped;
    bool may_go_on;
    unsigned passed; /* stops that it has gone on from */
};

/* Make a vCPU and its thread. One VM may have several. */
void puppet_init(struct puppet *puppet, struct gm_soft *soft, unsigned id);
/* It goes on first, if it has stopped. */
void puppet_fini(struct puppet *puppet);

/* The next time that its thread comes to the point, it stops there. Between accesses, or while stopped. */
void puppet_stop_at(struct puppet *puppet, const char *point);
/* Begin an access of 8 bytes. */
void puppet_begin(struct puppet *puppet, enum gm_mmu_access access, uint64_t gpa, uint64_t value);
/* It has come to the point and stopped. */
void puppet_wait_stopped(struct puppet *puppet);
void puppet_go_on(struct puppet *puppet);
/* The access has ended, and the vCPU left guest mode. */
struct puppet_access puppet_end(struct puppet *puppet);

/* Begin and end. */
struct puppet_access puppet_do(struct puppet *puppet, enum gm_mmu_access access, uint64_t gpa,
                               uint64_t value);

/* Points that other threads come to: @call is called there, with its name. NULL: nothing is. */
void puppet_watch_others(void (*call)(const char *point));

/* Are there points in this build? */
bool puppet_can_stop(void);

#endif
