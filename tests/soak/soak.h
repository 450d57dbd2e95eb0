/*
 * soak/soak.h - the soak: two vCPUs (layout.h) run for minutes beside a committer, who edits the map (edits.c), a harvester, who copies what
 * is dirty (harvest.c), and a notifier, who changes host memory under the guest (notify.c), while it is looked at how much memory
 * all this takes (samples.c).
 *
 *   no lost dirty page     what the guest had stored before a harvest is in the harvester's copy after it; in the end the copy is the memory
 *   no stale translation   each load of the guest gives what it stored last, wherever the page, its slot or its host memory has got to;
 *                          host memory that is being taken away is without rights, or not there, so that who touches it stops the test;
 *                          no access comes out as MMIO
 *   no unbounded memory    the second half of the time takes no more than the first did, by stated bounds
 *
 * Locks, in this order: a block's log; `host`; `model`. Nobody parks pages while it holds `host`, or between begin and end of an
 * invalidation: a vCPU that waits for that end does not go on.
 */
#ifndef TESTS_SOAK_SOAK_H
#define TESTS_SOAK_SOAK_H

#include "layout.h"

#include "model/random.h"
#include "model/require.h"

#include <guestmem/guestmem.h>
#include <guestmem/soft.h>

#include <pthread.h>
#include <stdatomic.h>

#define PAGE_BYTES 4096u
#define FILE_PAGES 96u
#define GROUP_PAGES 32u /* of the other groups */
#define FILE_STRIDE                                                                                \
    4u /* pages of memory for each page that is used; windows come and go between them */
#define BARS 2u
#define BAR_PAGES_MAX 8u
#define HARVEST_CLIENT 2u
#define OTHER_CLIENT 0u /* nobody harvests it */
#define HOT_CLIENT 1u
#define NOT_SHOWN UINT32_MAX

/* Where guest-physical memory is. */
#define FILE_GPA UINT64_C(0x40000000)
#define ANON_GPA UINT64_C(0x180000)
#define WINDOWED_GPA UINT64_C(0x100000)
#define READ_GPA UINT64_C(0x140000)
#define PLACE_COUNT 8u /* of these, the moving and the hot region have one each */
#define PLACE_GPA(place) (UINT64_C(0x10000000) + (place)*UINT64_C(0x40000))
#define MMIO_GPA UINT64_C(0x20000000)

/* What is under the machine. */
struct soak_mode {
    const char *name;
    enum gm_accel accel;
    bool shadow_paging;
    enum gm_soft_log log;
    uint32_t ring_entries;
};

/* A page of host memory that the guest may use, and what is in it while it is not shown. */
struct soak_memory {
    uint8_t *bytes;
    uint64_t expect[SOAK_VCPUS];
    uint32_t
        shown_at; /* the guest's page, whose `expect` is the guest's; or NOT_SHOWN. Under `model` */
};

/* A block that is harvested. */
struct soak_block {
    const char *name;
    struct gm_ram *ram;
    struct gm_region *regions[2]; /* that show it, in turn; or one */
    unsigned shown;
    uint32_t page_count;
    struct soak_memory *memories;
    uint64_t (*copy)[SOAK_VCPUS]; /* what harvests have said; under `log` */
    pthread_mutex_t log;
    bool is_logged; /* for HARVEST_CLIENT; under `log` */
};

enum soak_block_number {
    BLOCK_FILE,
    BLOCK_ANON,
    BLOCK_WINDOWED,
    BLOCK_BAR0,
    BLOCK_BAR1,
    BLOCK_MOVED,
    BLOCKS,
};

/* What an allocator has handed out. */
struct soak_memory_use {
    atomic_llong bytes;
    atomic_llong count;
};

struct soak {
    const struct soak_mode *mode;
    struct gm_vm *vm;
    struct gm_soft *soft; /* NULL on /dev/kvm */
    struct gm_allocator allocator;
    struct soak_memory_use use;
    struct gm_vcpu *vcpus[SOAK_VCPUS];

    struct gm_ram *low_block;
    struct gm_region *low[2];
    struct soak_block blocks[BLOCKS];
    struct soak_memory *shown[SOAK_PAGES];
    int file; /* of BLOCK_FILE: two pages for each of its pages */
    struct gm_region *port;

    pthread_mutex_t host;  /* host memory is as it should be: not taken away just now */
    pthread_mutex_t model; /* who shows what */
    atomic_bool end;       /* committer, harvester and notifier */
    atomic_bool vcpu_end;

    /* Progress. */
    atomic_ullong commits, edits, parkings;
    atomic_ullong harvests, harvested_pages, compared_words;
    atomic_ullong invalidations, replaced_pages;
    uint64_t seed;
};

/* ---- machine.c ---- */

/* Open the VM with all blocks and regions, nothing running. */
void soak_open(struct soak *soak, const struct soak_mode *mode);
void soak_run_vcpus(struct soak *soak, pthread_t threads[static SOAK_VCPUS]);
void soak_stop_vcpus(struct soak *soak, const pthread_t threads[static SOAK_VCPUS]);
/* All that is left of the library's memory afterwards is a fault. */
void soak_close(struct soak *soak);

/* A region that is added to the memory's root. */
struct gm_region *soak_region(struct soak *soak, const char *name, struct gm_ram *block,
                              uint64_t gpa, int32_t priority, bool is_disabled);

uint64_t soak_load(const uint64_t *word);
void soak_store(uint64_t *word, uint64_t value);
uint64_t *soak_word(const struct soak_memory *memory, unsigned vcpu);
uint64_t *soak_own(const struct soak *soak, unsigned vcpu, unsigned offset);
uint64_t *soak_expect(const struct soak *soak, unsigned vcpu, unsigned page);
uint64_t soak_done(const struct soak *soak, unsigned vcpu);
/* From the next step of each vCPU on the page is there. */
void soak_set_place(struct soak *soak, unsigned page, uint64_t gpa);

/* When this returns, no vCPU uses the pages, nor will before they are taken off. Any number may park a page. */
void soak_park(struct soak *soak, unsigned first, unsigned count);
void soak_unpark(struct soak *soak, unsigned first, unsigned count);

/* Each word of a parked page is what was stored there last. */
void soak_check(struct soak *soak, unsigned page);
/* The page is parked: from now on it shows this memory, of which the guest expects what it left there. NULL: nothing. */
void soak_show(struct soak *soak, unsigned page, struct soak_memory *memory);

/* Not one access came out as MMIO. */
void soak_check_exits(const struct soak *soak);

/* ---- the threads ---- */

void *soak_committer(void *opaque);
void *soak_harvester(void *opaque);
void *soak_notifier(void *opaque);

/* The block's log is held. What is in it now is in the copy. */
void soak_copy_all(struct soak *soak, struct soak_block *block);
/* Its log is held: harvest, if it is logged, and compare. */
void soak_harvest(struct soak *soak, struct soak_block *block);
/* All has ended: the copies are the memory. */
void soak_check_copies(struct soak *soak);

/* ---- samples.c ---- */

/* Let it run for so long, looking at what it takes; in the end nothing may have grown. */
void soak_watch(struct soak *soak, unsigned seconds);

#endif
