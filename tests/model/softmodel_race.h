/*
 * model/softmodel_race.h - a software VM with two vCPUs that run on threads of their own, for tests that
 * change what lies under them meanwhile.
 */
#ifndef MODEL_SOFTMODEL_RACE_H
#define MODEL_SOFTMODEL_RACE_H

#include "model/random.h"

#include <guestmem/soft.h>
#include <guestmem/soft_ioctl.h>

#include <pthread.h>
#include <stdatomic.h>

#define PAGE 4096u
#define RACE_VCPUS 2u
#define RACE_KNOWN 128u

struct race;

struct race_vcpu {
    struct race *race;
    unsigned index;
    struct gm_soft_vcpu *vcpu;
    struct gm_mmu *mmu;
    pthread_t thread;
    struct rnd rnd;
    bool is_cut;               /* an instruction is to be begun anew */
    uint64_t instructions;     /* the one that is made; the vCPU's own */
    atomic_uint_fast64_t done; /* for others: relaxed, only to see that it runs */
    uint64_t begun_anew;
    uint64_t rings_full;
    uint64_t guesses[4];
    uint32_t known[RACE_KNOWN]; /* what a test's instructions know */
};

/* One instruction, in guest mode. Return: what the access that did not end said. */
typedef enum gm_mmu_outcome race_instruction_fn(struct race_vcpu *vcpu);

struct race {
    struct gm_soft *soft;
    uint64_t hva; /* the host memory */
    uint64_t size_bytes;
    struct race_vcpu vcpus[RACE_VCPUS];
    race_instruction_fn *instruction;
    atomic_bool is_over;
    /* vCPUs with a full ring wait for a reset. */
    pthread_mutex_t lock;
    pthread_cond_t was_reset;
    uint64_t resets;
};

/* A VM and host memory, aligned to 2 MiB. Options may be NULL. Rings, if any, are to be enabled with
 * race_enable() before race_start(). */
void race_open(struct race *race, const struct gm_soft_options *options, uint64_t size_bytes);
void race_enable(struct race *race, unsigned cap, uint64_t argument);
void race_set_slot(struct race *race, uint32_t slot, uint32_t flags, uint64_t gpa,
                   uint64_t size_bytes, uint64_t offset);

/* Make vCPUs, and let them run. */
void race_start(struct race *race, struct rnd *rnd, race_instruction_fn *instruction);
/* Have they all made so many instructions? */
bool race_has_run(struct race *race, uint64_t instructions);
/* Rings have been reset. */
void race_note_reset(struct race *race);
/* Both have ended, out of guest mode; tables are audited in builds that can. */
void race_stop(struct race *race);
void race_close(struct race *race);

/* Some time, in which others may run. */
void race_pass_time(void);

static inline uint64_t *race_word(const struct race *race, uint64_t page, unsigned word)
{
    return (uint64_t *)(uintptr_t)(race->hva + page * PAGE + word * 8);
}

/* vCPUs may be writing it. */
static inline uint64_t race_load(const uint64_t *word)
{
    return __atomic_load_n(word, __ATOMIC_RELAXED);
}

#endif
