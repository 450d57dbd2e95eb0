/*
 * model/softmodel_run.h - a software VM that random operations are made on, and its model beside it.
 *
 * All on one thread, the VM's two vCPUs in turn. Each life of a VM has options of its own: levels, kind
 * of log, rings, limits so small that reclaim and the wrap of generations happen all the time.
 */
#ifndef MODEL_SOFTMODEL_RUN_H
#define MODEL_SOFTMODEL_RUN_H

#include "model/faults.h"
#include "model/random.h"
#include "model/require.h"
#include "model/softmodel.h"
#include "model/softmodel_check.h"
#include "model/softmodel_host.h"

#include <guestmem/soft.h>
#include <guestmem/soft_ioctl.h>

#define SOFTRUN_IDS 10u /* slots of each space, so that they often meet */
#define SOFTRUN_CLUSTERS 8u

/* Bytes that a tracker was told of. */
struct softrun_written {
    uint64_t gpa;
    uint32_t size_bytes;
};

struct softrun_ring {
    struct kvm_dirty_gfn *entries;
    uint32_t entry_count;
    uint32_t next; /* that is not harvested */
};

struct softrun_counts {
    uint64_t operations;
    uint64_t accesses;
    uint64_t memory; /* accesses that reached memory alone */
    uint64_t mmio;   /* pieces */
    uint64_t denied;
    uint64_t errors;
    uint64_t slot_changes;
    uint64_t slot_errors;
    uint64_t harvests;
    uint64_t dirty_pages; /* in harvests */
    uint64_t ring_full;
    uint64_t invalidations;
    uint64_t no_memory; /* calls that an allocation failed in */
    uint64_t tracked_writes;
    uint64_t private_accesses;
    uint64_t wraps;
    uint64_t splits;
    uint64_t collapses;
    uint64_t reclaimed;
    uint64_t leaves[4];
    uint64_t tlb_entries;
};

struct softrun {
    struct rnd rnd;
    uint64_t seed;
    struct softhost *host;
    struct faults faults;
    struct gm_soft *soft;
    struct softmodel model;
    struct softcheck check; /* has the vCPUs */
    struct gm_soft_options options;
    uint64_t clusters[SOFTRUN_CLUSTERS]; /* guest addresses around which small slots are */
    unsigned generation_bits;
    int memfd; /* a guest memfd; -1: none */

    const struct softmodel_slot *aim; /* accesses are stores to it; NULL: any, anywhere */
    uint64_t rest_until; /* the second vCPU rests, and misses much, until this operation */

    struct softrun_ring rings[SOFTCHECK_VCPUS];
    /* The rings may have entries of slots that are not there, or not logged, any more; or twice. */
    bool rings_are_lax;

    struct softrun_written written[8];
    unsigned written_count;

    struct gm_soft_follower *follower;
    struct gm_soft_slot followed[SOFTMODEL_SLOTS];
    unsigned followed_count;

    bool is_traced; /* GM_SOFT_TRACE=1: each operation is a line on stderr */
    struct softrun_counts *counts;
};

#define TRACE(run, ...) ((run)->is_traced ? (void)fprintf(stderr, __VA_ARGS__) : (void)0)

/* The kinds of operations; each makes one, random, with its comparisons. softmodel_access.c, _slots.c,
 * _log.c, _memory.c. */
void softrun_access(struct softrun *run);
void softrun_burst(struct softrun *run); /* many, as to fill rings and TLBs */
void softrun_change_slots(struct softrun *run);
void softrun_set_memfd_slot(struct softrun *run);
void softrun_harvest(struct softrun *run);
void softrun_set_log_cap(struct softrun *run);
void softrun_invalidate(struct softrun *run);
void softrun_set_attributes(struct softrun *run);
void softrun_track(struct softrun *run);
void softrun_age(struct softrun *run);
void softrun_prefault(struct softrun *run);
void softrun_limit_pages(struct softrun *run);

/* One of the vCPUs that do not rest. */
struct softcheck_vcpu *softrun_vcpu(struct softrun *run);
/* A place to look at or access: mostly in a slot of the space, and where contents are. */
uint64_t softrun_random_gpa(struct softrun *run, unsigned space);
/* The tracker's callback; its opaque is the run. */
void softrun_on_written(void *opaque, gm_gpa_t gpa, uint32_t size_bytes);
/* Harvest all rings and reset them. */
void softrun_empty_rings(struct softrun *run);
/* Changes of slots as lines on stderr. */
void softrun_print_changes(const struct gm_soft_slot *list, size_t count);
/* Compare all that the follower knows with the model. */
void softrun_check_followed(struct softrun *run);

/*
 * The whole: at least @operation_count operations, in as many VMs as it takes. Prints what was done;
 * stops the program where something differs from the model.
 */
void softrun_all(uint64_t seed, uint64_t operation_count);

#endif
