/*
 * soft/clock.h - a VM's time: its vCPUs' time-stamp counters, and kvmclock, the nanoseconds that a guest is told of.
 *
 * A counter is CLOCK_MONOTONIC in nanoseconds, which is the host's counter here, and an offset. kvmclock is the same with another
 * offset; guests compute it from their counter by what is in a page of theirs. That page is written by the vCPU it belongs to, at a
 * boundary.
 *
 * Source: Linux Documentation/virt/kvm/x86/msr.rst (MSR_KVM_SYSTEM_TIME_NEW, MSR_KVM_WALL_CLOCK_NEW), api.rst (KVM_GET_CLOCK,
 * KVM_SET_CLOCK, KVM_KVMCLOCK_CTRL).
 */
#ifndef SOFT_CLOCK_H
#define SOFT_CLOCK_H

#include "base/lock.h"
#include "x86/x86.h"

#include <stdatomic.h>

struct gm_soft;
struct gm_soft_vcpu;

struct vm_clock {
    atomic_uint
        generation;      /* rises when kvmclock has been set: what guests have been told is old */
    struct lock lock;    /* rank LEAF: all below */
    uint64_t offset_ns;  /* kvmclock less CLOCK_MONOTONIC */
    uint64_t wall_clock; /* MSR_KVM_WALL_CLOCK */
    bool has_tsc;        /* there has been a vCPU */
    uint64_t tsc_offset; /* of the vCPU whose counter was set last */
};

/* With the vCPU's lock. */
struct vcpu_clock {
    uint64_t system_time; /* MSR_KVM_SYSTEM_TIME: a GPA, and in bit 0 whether it is on */
    bool is_stale;        /* the page is */
    bool is_wall_asked;   /* the guest has asked for the time of day */
    bool was_stopped;     /* KVM_KVMCLOCK_CTRL: to be told */
    unsigned generation;  /* that the page is of */
};

/* Return: 0; -errno of a mutex. */
int clock_init(struct vm_clock *clock);
void clock_fini(struct vm_clock *clock);

/* A vCPU's counter begins: as those of the vCPUs that are there, the first one's at 0. */
void clock_add_vcpu(struct gm_soft_vcpu *vcpu);

/* The MSRs of this room, and the counter's where the writer is the host. X86_MSR_UNKNOWN: none of these. */
enum x86_msr_result clock_read_msr(struct gm_soft_vcpu *vcpu, uint32_t number, uint64_t *value);
enum x86_msr_result clock_write_msr(struct gm_soft_vcpu *vcpu, uint32_t number, uint64_t value,
                                    enum x86_msr_writer writer);

/* In KVM_RUN, at a boundary, out of guest mode: tell the guest what it does not know yet. */
void clock_tell(struct gm_soft_vcpu *vcpu);

/* KVM_GET_CLOCK, KVM_SET_CLOCK, KVM_KVMCLOCK_CTRL. */
long ioctl_get_clock(struct gm_soft *soft, uint64_t argument);
long ioctl_set_clock(struct gm_soft *soft, uint64_t argument);
long ioctl_kvmclock_ctrl(struct gm_soft_vcpu *vcpu, uint64_t argument);

#endif
