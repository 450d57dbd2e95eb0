/* preload/kvm.h - the ioctls of KVM's descriptors, answered by the software KVM. */
#ifndef PRELOAD_KVM_H
#define PRELOAD_KVM_H

#include <stdbool.h>
#include <stdint.h>

/* Return: true and @result, 0 or more or -errno, if the descriptor is one of KVM's. */
bool kvm_ioctl(int fd, unsigned request, uint64_t argument, long *result);

/* What KVM's descriptors say to a request that is none of KVM's, and that no file has. Return: the errno; 0 not one of KVM's. */
int kvm_foreign_request_errno(int fd);

#endif
