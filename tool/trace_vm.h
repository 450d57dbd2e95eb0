/*
 * trace_vm.h - following a trace: the slots of each VM, and what happened to them that somebody who
 * looks at a VMM's memory wants to know.
 *
 * Slot calls that one thread makes in a row, without running the guest in between, are a commit: the
 * way of a VMM from one memory map to the next. Memory that a commit deletes and creates again where
 * it was, with the same host memory and as writable as before, did not change: for a moment the guest
 * had no memory there for nothing. What each commit would have been with guestmem's planner is
 * worked out beside (trace_plan.h).
 *
 * Kept are live slots, what was deleted lately, and findings up to a limit; the counts go on.
 */
#ifndef TOOL_TRACE_VM_H
#define TOOL_TRACE_VM_H

#include "trace.h"
#include "trace_plan.h"

#define TRACE_FINDINGS_MAX 10000
#define TRACE_LIVES_MAX 10000
#define TRACE_DEPARTED_MAX 65536   /* of each VM */
#define TRACE_KEPT_SLOTS_MAX 65536 /* of VMs that are closed */
#define TRACE_ERRORS 16
#define TRACE_FEW 4 /* so many slots or vCPUs are named, the others counted */

enum trace_finding_kind {
    FINDING_UNCHANGED, /* deleted and made again at once */
    FINDING_RETURNED,  /* made again later as it was: the guest may have asked for it */
    FINDING_MOVED,
    FINDING_FLAGS,
    FINDING_FAILED,
    FINDING_NOTIFIED, /* host memory changed under a slot */
    FINDING_ODD,      /* KVM would not have allowed it: the trace does not have everything */
    FINDING_UNSUPPORTED,
    FINDING_KINDS,
};

/* Numbers of slots or vCPUs: the first few, and how many there are. */
struct trace_few {
    uint32_t number[TRACE_FEW];
    uint32_t count;
};

struct trace_finding {
    enum trace_finding_kind kind;
    uint32_t vm; /* TRACE_NONE: of no VM */
    unsigned long line;
    bool has_time;
    uint64_t time_us;
    uint32_t as;
    uint32_t slot;
    uint32_t flags;
    uint64_t gpa;
    uint64_t last; /* inclusive */
    uint64_t hva;
    uint64_t back_bytes;     /* UNCHANGED, RETURNED: how much of it came back */
    uint64_t gone_us;        /* the same: how long it was gone, at most */
    unsigned long back_line; /* the same: where the last of it came back */
    struct trace_few back;   /* the same: in which slots */
    struct trace_few ran;    /* the same: vCPUs that were in KVM_RUN meanwhile */
    bool is_merged;     /* UNCHANGED: a slot that brought some of it back brought more than it */
    bool is_log_lost;   /* the same: it was logged, and the commit had not fetched its log */
    uint32_t old_flags; /* FLAGS */
    uint64_t old_gpa;   /* MOVED */
    const char *error;  /* FAILED */
    const char *why;    /* ODD; static */
    uint32_t other;     /* FAILED with EEXIST: the slot that was there; else TRACE_NONE */
    char text[48];      /* FAILED, UNSUPPORTED: the call; NOTIFIED: by what */
};

struct trace_slot {
    struct trace_range range;
    uint32_t number;
    unsigned long line; /* of its creation */
    bool has_time;
    uint64_t time_us;
    uint64_t log_count; /* KVM_GET_DIRTY_LOG */
    uint64_t dirty_count;
    uint64_t log_last_us;
    uint64_t log_commit; /* the commit in which its log was fetched last */
};

/* A slot from its creation to its end; for --timeline. */
struct trace_life {
    uint32_t vm;
    struct trace_range range;
    uint32_t number;
    unsigned long begin_line;
    unsigned long end_line; /* 0: it lives */
    uint64_t begin_us;
    uint64_t end_us;
};

struct trace_error_count {
    const char *error;
    uint64_t count;
};

struct trace_counts {
    uint64_t calls; /* KVM_SET_USER_MEMORY_REGION */
    uint64_t created;
    uint64_t deleted;
    uint64_t moved;
    uint64_t flags;
    uint64_t log_on;
    uint64_t log_off;
    uint64_t same; /* nothing was to change */
    uint64_t failed;
    uint64_t failed_logs;       /* of these: KVM_GET_DIRTY_LOG */
    uint64_t unknown;           /* no result in the trace */
    uint64_t commits;           /* with at least one change */
    uint64_t unchanged;         /* deletes that took away memory that came back at once */
    uint64_t unchanged_whole;   /* ... all of it */
    uint64_t unchanged_running; /* ... while a vCPU was in KVM_RUN */
    uint64_t unchanged_bytes;
    uint64_t gone_us_max;
    uint64_t gone_us_sum;
    uint64_t returned;
    uint64_t log_lost;
    uint64_t log_gets;
    uint64_t log_clears;
    uint64_t dirty;
    uint64_t rings_reset;
    uint64_t rings_entries;
    uint64_t notified;
    uint64_t odd;
    uint64_t unsupported;
    uint64_t runs;
    uint64_t slots_max;
};

struct trace_vcpu {
    uint32_t number;
    bool is_running;
    uint64_t left; /* the event at which it was in KVM_RUN last; 0: never */
};

struct trace_deletion;

struct trace_commit {
    bool is_open;
    uint32_t tid;
    uint64_t serial; /* of the commit */
    uint64_t last_us;
    bool has_time;
    uint64_t changes;
    bool has_fetched; /* the log of some slot; which, the trace does not say */
    struct trace_deletion **deletions;
    size_t deletion_count;
    size_t deletion_capacity;
};

struct trace_vm {
    uint32_t index;
    uint32_t pid;
    uint32_t fd;
    bool is_created; /* in this trace */
    bool is_closed;
    unsigned long line;         /* where it appears first */
    struct trace_map by_number; /* as, number -> struct trace_slot */
    struct trace_map by_gpa;    /* as, gpa -> the same */
    struct trace_map departed;  /* as, gpa -> struct piece: deleted lately, disjoint */
    struct trace_vcpu *vcpus;
    size_t vcpu_count;
    size_t vcpu_capacity;
    struct trace_commit commit;
    struct trace_plan plan;
    struct trace_counts counts;
    struct trace_error_count errors[TRACE_ERRORS];
    size_t live_at_close;
    uint64_t log_gap_us_min; /* between two fetches of one slot's log */
    uint64_t log_gap_us_max;
    uint64_t log_gap_us_sum;
    uint64_t log_gaps;
};

struct trace_follow {
    const struct trace *trace; /* borrowed */
    struct trace_vm **vms;
    struct trace_map open; /* process, index -> struct trace_vm: those that are not closed */
    size_t vm_count;
    size_t vm_capacity;
    size_t kept_slots;
    uint64_t serial; /* of the event at hand */
    struct trace_finding *findings;
    size_t finding_count;
    size_t finding_capacity;
    uint64_t findings_left_out;
    struct trace_life *lives;
    size_t life_count;
    size_t life_capacity;
    uint64_t lives_left_out;
    bool has_time;
    uint64_t last_us;
    uint64_t events;
    bool has_runs;
};

void trace_follow_init(struct trace_follow *follow, const struct trace *trace);
void trace_follow_event(struct trace_follow *follow, const struct trace_event *event);
/* The trace is over. */
void trace_follow_end(struct trace_follow *follow);
void trace_follow_fini(struct trace_follow *follow);

#endif
