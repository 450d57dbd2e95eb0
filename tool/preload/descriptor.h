/*
 * preload/descriptor.h - the descriptors of /dev/kvm, VMs and vCPUs: memfds by Linux's names for them ("kvm-vm").
 *
 * The file is opened twice: the program has the one, with a shared flock() on it, which goes when its last duplicate and
 * mapping has gone; the library maps the other, and closes it. That takes /proc. Without it there is no lock, and
 * what is behind the descriptor stays until the process ends.
 */
#ifndef PRELOAD_DESCRIPTOR_H
#define PRELOAD_DESCRIPTOR_H

#include <stdbool.h>

struct descriptor {
    int fd;    /* the program's */
    int inner; /* for what the library maps; the same number without /proc */
    unsigned long inode;
};

/* Close-on-exec, as KVM's. The file is empty. Return: 0; -errno of memfd_create() and so on. */
int descriptor_new(struct descriptor *descriptor, const char *name);
/* The file is complete: it has its size for good, and a read is at its end. Closes the inner descriptor. */
void descriptor_finish(struct descriptor *descriptor);
void descriptor_abandon(struct descriptor *descriptor);

/* /dev/kvm's. Nothing is behind it; it is known by its name, in any process. @flags: of open(). Return: it; -errno. */
int descriptor_new_system(int flags);

/* Might it be one of the above? Async-signal-safe, as all below. */
bool descriptor_may_be(int fd);

/* If it might, and of this process: its inode's number. Return: 0 it cannot be. */
unsigned long descriptor_inode(int fd);

/* What one is that has no object here. FOREIGN: of a VM or vCPU of another process. */
enum descriptor_kind {
    DESCRIPTOR_OTHER,
    DESCRIPTOR_SYSTEM,
    DESCRIPTOR_FOREIGN,
};
enum descriptor_kind descriptor_kind(int fd);

/* Another one of the same file, with no lock. Return: -1 there is none to be had. */
int descriptor_probe(int fd);

/* Out of the way of numbers that the program may expect to get. Return: the new number, or @fd. */
int descriptor_hide(int fd);

#endif
