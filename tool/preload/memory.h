/*
 * preload/memory.h - the program changes its memory, which may be a guest's: the kernel's mmu notifier, from outside.
 *
 * A change is bracketed by gm_soft_invalidate_begin() and _end() of each VM. What is not seen: what the C library does to
 * memory by itself (free() of a large block, the stacks of its threads), and system calls that do not go through it.
 */
#ifndef PRELOAD_MEMORY_H
#define PRELOAD_MEMORY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The change itself. Its result is the caller's matter, in @opaque; errno is kept. */
typedef void memory_change_fn(void *opaque);

/* @by: the call's name. @caller: from where it came; liburcu's own calls are passed through, as the software KVM may wait for
 * liburcu. */
void memory_change(const char *by, uintptr_t hva, size_t size_bytes, memory_change_fn *change,
                   void *opaque);

/* The constructor's: where liburcu is. */
void memory_find_liburcu(void);
bool memory_is_liburcu(const void *caller);

/* May a descriptor be mapped like that? As KVM has it. Return: 0, or the errno; 0 also for descriptors that are not KVM's. */
int memory_map_errno(int fd, int protection, int flags, size_t size_bytes, uint64_t offset);
/* A mapping that was made: the page of the coalesced ring, if it is a vCPU's and has it, becomes the VM's. Return: 0, or
 * the errno. */
int memory_map_ring(int fd, void *at, size_t size_bytes, uint64_t offset);

#endif
