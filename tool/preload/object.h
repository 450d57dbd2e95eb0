/*
 * preload/object.h - VMs and vCPUs as the program has them: behind descriptors.
 *
 * Each is a real descriptor, of a memfd of its own, so that duplicating, closing, passing, polling and inheriting it
 * is the kernel's work, and no table of numbers can be wrong: a descriptor is known by its inode. A vCPU's file
 * is its kvm_run area and dirty ring, so that it can be mapped.
 *
 * When does the last one go? The descriptor that the program is given has a shared flock(), which belongs to what
 * Linux calls an open file description: it is held by whatever duplicates and mappings there are, in this process and its
 * children. Before one is closed the file is opened once more (the probe), and if after that the probe can be locked
 * exclusively, nobody has it any more. While somebody has, the probe is kept, and asked again later.
 *
 * | object | is kept by                                      |
 * | ------ | ----------------------------------------------- |
 * | VM     | its descriptors; its vCPUs'; calls in progress  |
 * | vCPU   | its VM, even when it has no descriptor any more |
 *
 * All that the program may do in a signal handler - finding out that a descriptor is none of ours - takes no lock. What changes
 * objects runs with all signals blocked, as a system call does.
 *
 * A child of fork() has all of it, and uses none: to KVM it is another process than the VM's. It may make VMs of its own.
 */
#ifndef PRELOAD_OBJECT_H
#define PRELOAD_OBJECT_H

#include "preload/descriptor.h"

#include <guestmem/soft.h>

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

enum object_kind {
    OBJECT_VM,
    OBJECT_VCPU,
};

/* Its memory is never given back, only used for another of its kind, so it may be looked at when it has gone. */
struct object {
    atomic_ulong inode;
    atomic_uint references; /* 0: none, and not to be revived */
    atomic_bool is_open;    /* one reference is the descriptors' and mappings' */
    atomic_int probe;       /* -1: none */
    enum object_kind kind;
    unsigned number;     /* the how-manieth VM of this process; the vCPU's id */
    unsigned generation; /* of the process (object_generation()) */
    pid_t pid;           /* who made it: vfork()'s child is another, with the same memory */
    struct gm_soft *soft;
    struct gm_soft_vcpu *vcpu;  /* of a vCPU */
    pthread_mutex_t slots_lock; /* of a VM: its slots change in the order of the trace's lines */
    struct object *vm;          /* of a vCPU; a reference */
    struct trace_slots *trace_slots;  /* of a VM, with a trace */
    struct object *_Atomic following; /* in the list of all of its kind; never changes */
    struct object *retired;           /* of a VM: its vCPUs that nobody has a descriptor of */
    struct object *next;              /* of those; of what is free */
};

/* Signals, all of them, as the kernel has them: kept away from what a system call would keep them from. */
uint64_t signals_block(void);
void signals_restore(uint64_t mask);

/* An object, not to be found yet. Signals are blocked. Return: NULL no memory. */
struct object *object_new(enum object_kind kind);
/* Its fields are set: from here on it is found. Return: 0; -ENOMEM too many. */
int object_publish(struct object *object, const struct descriptor *descriptor);
/* It was not published. */
void object_abandon(struct object *object);

/* Whose descriptor is it? Return: NULL, or the object with a reference, which may be of another process. Async-signal-safe. */
struct object *object_of(int fd);
void object_get(struct object *object); /* of who has one */
void object_put(struct object *object);
/* Is it this process's own? To all others its ioctls are -EIO. */
bool object_is_ours(const struct object *object);

/* Are there any? If not, there is nothing to find. */
bool object_any(void);

/* Those of this process, one after the other; each has a reference for the caller, who gives it back after asking for the
 * next. */
struct object *object_first(enum object_kind kind);
struct object *object_after(struct object *object);

/*
 * A descriptor is about to be closed: what to look at after. Then look.
 * Context: signals are blocked.
 */
struct closing {
    struct object *object; /* NULL: none of ours */
    int fd;
    int probe;
};
void closing_begin(struct closing *closing, int fd);
/* @rc: of the call that closes it. */
void closing_end(struct closing *closing, int rc);
/* A mapping or another process may have been the last that kept something. */
void closing_look_again(void);

/* Is it a probe, which the program must not know of? */
bool object_is_probe(int fd);

#endif
