/*
 * tests/kvm/hole.h - a guest that reads and writes all its memory without pause, and a model that knows each word of it.
 *
 * Each vCPU counts steps. Step S is of page S modulo HOLE_PAGES:
 *
 *   0 - 7     RAM, always      a store of S to the vCPU's own word of the page, and a load, which is to be S
 *   8 - 31    RAM, and under windows of other RAM (BARs): likewise, whichever shows
 *   32 - 47   RAM, under windows that are RAM or ROM (PAM): a load, which is to be what the host says is shown
 *   48 - 55   flash, read-only or not: likewise
 *   56 - 63   RAM that is plugged and unplugged while it is in use, else RAM: as 0 - 7
 *
 * and ends by storing S to the vCPU's own word "done". A load that finds anything else is told to the host, which knows if an edit came
 * just then. Whenever what is shown has changed and vCPUs are still held, the host compares all memory: each word is the last step
 * that wrote there while that memory was shown.
 */
#ifndef TESTS_KVM_HOLE_H
#define TESTS_KVM_HOLE_H

#include "pages.h"

#include <guestmem/listener.h>

#include <pthread.h>
#include <stdatomic.h>

#define HOLE_PAGES 64u
#define HOLE_GPA 0x100000u
#define HOLE_VCPUS 2u
#define HOLE_WRITTEN 32u  /* pages that the model knows word by word */
#define HOLE_BAR_FIRST 8u /* where windows may lie: to HOLE_WRITTEN */
#define HOLE_PAM_FIRST 32u
#define HOLE_FLASH_FIRST 48u
#define HOLE_HOT_FIRST 56u
#define HOLE_BARS 2u
#define HOLE_BAR_PAGES_MAX 4u
#define HOLE_PAMS 4u
#define HOLE_PAM_PAGES 4u
#define HOLE_BESIDE 96u /* pages from here on are nobody's: BARs may lie there, too */

/* A page that the guest writes: its memory, and what is in it. */
struct hole_memory {
    uint8_t *bytes;
    uint32_t steps[HOLE_VCPUS];
};

/* What the map shows to the guest's loads and stores. */
struct hole_layout {
    struct {
        bool is_enabled;
        unsigned page; /* where it begins */
    } bars[HOLE_BARS];
    bool pam_is_enabled[HOLE_PAMS];
};

struct hole_vcpu {
    struct hole *hole;
    struct gm_vcpu *vcpu;
    pthread_t thread;
    uint32_t accounted; /* steps up to here are in the model */
    /* Loads of this step may give these, since the map changed in its midst; under the mutex. */
    uint32_t legal_step;
    unsigned legal_count;
    uint32_t legal[HOLE_BARS * HOLE_BAR_PAGES_MAX + 4];
};

struct hole {
    struct guest guest;
    struct gm_ram *block; /* of all pages */
    struct hole_memory base[HOLE_WRITTEN];
    struct hole_memory bars[HOLE_BARS][HOLE_BAR_PAGES_MAX];
    struct hole_layout layout; /* what is shown */
    struct hole_layout next;   /* ... after the commit under way */
    bool is_staged;            /* which changes what is shown, so that vCPUs have to be held */
    uint64_t checks;           /* ... how often that was */
    struct gm_region *mismatch;
    struct gm_listener *listener;
    struct hole_vcpu vcpus[HOLE_VCPUS];
    pthread_mutex_t mutex;
    atomic_bool end;
    atomic_ullong explained; /* loads that met an edit */
};

/* Steps are counted modulo 2^32, which a fast processor takes seconds for; those that are compared are not as far apart. */
#define HOLE_FIRST_STEP 0xffff0000u
static inline bool hole_is_after(uint32_t step, uint32_t other)
{
    return (int32_t)(step - other) > 0;
}

/* Pages of a BAR. */
static inline unsigned hole_bar_pages(unsigned bar)
{
    return bar == 0 ? 2 : HOLE_BAR_PAGES_MAX;
}

/* @hole has its guest, block and memories: write the programs, listen to the map, and run the vCPUs. */
void hole_start(struct hole *hole);
/* They end, and all memory is compared. */
void hole_stop(struct hole *hole);

/* The steps that a vCPU has done. */
uint32_t hole_done(const struct hole *hole, unsigned vcpu);
/* Wait until each vCPU has done so many more. */
void hole_wait(const struct hole *hole, uint32_t steps);
/* The last step of a page that does not come after @step. */
uint32_t hole_last_step(uint32_t step, unsigned page);

/* Not one access came out as MMIO. */
void hole_check_exits(const struct hole *hole);

/* Bring the steps that are done into the model. Between commits: vCPUs may run. */
void hole_account(struct hole *hole);

/* Does the next layout show something else to the guest than the present one? */
bool hole_shows_change(struct hole *hole);

/* From now on the guest uses pages that were plugged; or not any more, once it has done three more steps. */
void hole_use_hot(struct hole *hole, bool used);

/* The constants of pages that are only read. */
uint32_t hole_constant(unsigned page, bool is_window);
void hole_fill(uint8_t *bytes, uint32_t constant);

#endif
