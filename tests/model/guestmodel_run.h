/*
 * model/guestmodel_run.h - a random guest on a software VM: it edits its page tables and uses them, while the
 * host does what hosts do; after each operation all of its memory is as the model permits.
 */
#ifndef MODEL_GUESTMODEL_RUN_H
#define MODEL_GUESTMODEL_RUN_H

#include "model/guestmodel.h"
#include "model/random.h"

#include <guestmem/soft.h>

#define GUESTRUN_LINES 24u
#define GUESTRUN_LINE_BYTES 256u
#define GUESTRUN_LINEARS 16u
#define GUESTRUN_PARTS 2u
#define GUESTRUN_FLAGS (2u * GUESTRUN_PARTS * SDM_LEVELS)
#define GUESTRUN_TABLES 25u /* pages 1 to 24, and the first four of slot 1, are tables */

struct guestrun_counts {
    uint64_t accesses;
    uint64_t stale; /* that no walk of the present tables explains */
    uint64_t fresh; /* that only a walk explains */
    uint64_t faults;
    uint64_t mmio;
    uint64_t lost;
    uint64_t edits;
    uint64_t linear_edits;
    uint64_t flags;
    uint64_t harvests;
    uint64_t told;
};

struct guestrun_vcpu {
    struct gm_soft_vcpu *vcpu;
    struct gm_mmu *mmu;
    struct guest_vcpu *model;
    unsigned id;
};

struct guestrun {
    struct rnd rnd;
    uint64_t operation;
    bool is_shadowed;
    /* The tables that the guest begins with; NULL: guestrun_fill(). */
    void (*fill)(struct guestrun *run, const struct guest_vcpu *vcpu);
    struct gm_soft *soft;
    struct guestrun_vcpu vcpus[GUEST_VCPUS];
    struct guestmodel model;

    uint8_t *host[GUEST_SLOTS][2]; /* each slot's memory is in one of two places */
    unsigned in_use[GUEST_SLOTS];
    bool is_logged[GUEST_SLOTS];
    bool must_be_dirty[GUEST_PAGES];
    bool may_be_dirty[GUEST_PAGES];
    bool is_tracked[GUEST_PAGES];
    bool is_told[GUEST_PAGES]; /* in this operation */

    uint64_t linears[GUESTRUN_LINEARS]; /* pages that are used often */
    uint64_t stamps;
    char lines[GUESTRUN_LINES][GUESTRUN_LINE_BYTES];
    uint64_t line_count;
    struct guestrun_counts *counts;
};

/* A line of the trace that is printed when something is wrong. */
void guestrun_note(struct guestrun *run, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* ---- guestmodel_memory.c: what an operation did to memory ---- */

struct guestrun_write {
    uint64_t offset;
    unsigned size_bytes;
    const uint8_t *bytes;
    bool
        is_certain; /* false: these bytes may have been stored elsewhere, where they were as well */
};

struct guestrun_flag {
    uint64_t word; /* offset of an aligned one */
    uint64_t mask;
    bool is_required;
};

struct guestrun_effect {
    unsigned write_count;
    struct guestrun_write writes[GUESTRUN_PARTS];
    unsigned flag_count;
    struct guestrun_flag flags[GUESTRUN_FLAGS];
};

const uint8_t *guestrun_host(const struct guestrun *run, uint64_t offset);
/* Those that a walk sets, in an effect. */
void guestrun_add_flags(struct guestrun_effect *effect, const struct guest_walk *walk,
                        const struct guest_vcpu *vcpu, bool is_required);
/* Does memory differ from the model's by just this? */
bool guestrun_is_effect(struct guestrun *run, const struct guestrun_effect *effect);
/* It does: the model's memory becomes the same. */
void guestrun_adopt(struct guestrun *run, const struct guestrun_effect *effect);
/* For a message: the first difference. */
void guestrun_print_difference(struct guestrun *run);
/* Nothing has changed. Audits, in builds that can. */
void guestrun_check(struct guestrun *run);

/* ---- guestmodel_access.c ---- */

struct guestrun_access {
    enum gm_mmu_access kind;
    bool is_linear;
    bool is_exchange; /* cmpxchg; kind is GM_MMU_WRITE */
    enum gm_mmu_view view;
    uint64_t address;
    unsigned size_bytes;
    uint8_t bytes[16]; /* to be written */
    uint64_t expected; /* by an exchange */
};

/* Make it, and compare with what the model permits. */
void guestrun_make(struct guestrun *run, struct guestrun_vcpu *vcpu,
                   const struct guestrun_access *access);
/* gm_mmu_explain(). */
void guestrun_explain(struct guestrun *run, struct guestrun_vcpu *vcpu);
/* A random one, in this linear page or by some physical address. */
void guestrun_access(struct guestrun *run, struct guestrun_vcpu *vcpu, uint64_t linear);

/* ---- guestmodel_edit.c ---- */

/* A page's level as a table, if it is used as it is meant to; 0: it holds data. */
unsigned guestrun_home(const struct guest_vcpu *vcpu, unsigned page);
uint64_t guestrun_entry(struct guestrun *run, const struct guest_vcpu *vcpu, unsigned level);
uint64_t guestrun_linear(struct guestrun *run, const struct guest_vcpu *vcpu);
/* A page of the linear addresses that are used often, or another one. */
uint64_t guestrun_some_linear(struct guestrun *run, const struct guest_vcpu *vcpu);
/* Tables of the vCPU's mode in all pages that are to hold some, before the guest begins. */
void guestrun_fill(struct guestrun *run, const struct guest_vcpu *vcpu);
/* An entry becomes another one, and is used, flushed, used, or some of it. */
void guestrun_edit(struct guestrun *run, struct guestrun_vcpu *vcpu);
/* The same, but from another root, and then back. */
void guestrun_visit(struct guestrun *run, struct guestrun_vcpu *vcpu);
void guestrun_invlpg(struct guestrun *run, struct guestrun_vcpu *vcpu, uint64_t linear);

/* ---- guestmodel_registers.c ---- */

/* Another root, with or without a flush; a bit of rights; another mode. */
void guestrun_switch_root(struct guestrun *run, struct guestrun_vcpu *vcpu);
void guestrun_change_rights(struct guestrun *run, struct guestrun_vcpu *vcpu);
void guestrun_change_mode(struct guestrun *run, struct guestrun_vcpu *vcpu);
/* A mode at random, in registers that nobody has set yet. */
void guestrun_random_mode(struct guestrun *run, struct gm_mmu_paging *registers);
void guestrun_set(struct guestrun *run, struct guestrun_vcpu *vcpu,
                  const struct gm_mmu_paging *registers);

/* ---- guestmodel_host.c ---- */

void guestrun_set_slot(struct guestrun *run, unsigned slot, bool is_there);
void guestrun_host_operation(struct guestrun *run);
void guestrun_on_written(void *opaque, gm_gpa_t gpa, uint32_t size_bytes);

/*
 * One VM: rnd, is_shadowed, fill, model.promises and counts are set, all else zero. Each operation is a random one, with all that
 * the model has to say to it.
 */
void guestrun_begin(struct guestrun *run);
void guestrun_operate(struct guestrun *run);
void guestrun_end(struct guestrun *run);

/* At least so many operations, in as many VMs as it takes. Stops the program where something is wrong. */
void guestrun_all(uint64_t seed, uint64_t operation_count, bool is_shadowed, unsigned promises);

#endif
