/*
 * soft/usercopy.h - memory behind an ioctl's argument, copied so that a bad address is -EFAULT and
 * no signal: what copy_from_user() and copy_to_user() are for Linux's KVM.
 */
#ifndef SOFT_USERCOPY_H
#define SOFT_USERCOPY_H

#include <stddef.h>
#include <stdint.h>

/*
 * Context: any thread; may block where a page of the user's does (userfaultfd), so under no lock.
 * Return: 0; -EFAULT the user's bytes cannot all be read, written: some may have been; what
 * process_vm_readv() says where a sandbox forbids it (-EPERM, -ENOSYS).
 */
int usercopy_from(void *to, uint64_t from, size_t size_bytes);
int usercopy_to(uint64_t to, const void *from, size_t size_bytes);

/* The same of memory that other threads change meanwhile: each word is given as it was at some moment. */
int usercopy_to_shared(uint64_t to, const void *from, size_t size_bytes);

#endif
