/*
 * guestmem/kvm_abi.h - what Linux's KVM interface has beyond the <linux/kvm.h> of Debian 12 (6.1),
 * for programs that use it with the software KVM. The structures and numbers are Linux's uAPI.
 *
 * Source: Linux api.rst: KVM_SET_USER_MEMORY_REGION2, KVM_CREATE_GUEST_MEMFD,
 * KVM_SET_MEMORY_ATTRIBUTES (6.8), KVM_PRE_FAULT_MEMORY (6.11), flags of guest memfds (6.18).
 */
#ifndef GUESTMEM_KVM_ABI_H
#define GUESTMEM_KVM_ABI_H

#include <linux/kvm.h>
#include <stdint.h>

/* A header that has these structures has all of these names, too. */
#ifndef KVM_SET_USER_MEMORY_REGION2
#define KVM_SET_USER_MEMORY_REGION2 _IOW(KVMIO, 0x49, struct kvm_userspace_memory_region2)
struct kvm_userspace_memory_region2 {
    uint32_t slot;
    uint32_t flags;
    uint64_t guest_phys_addr;
    uint64_t memory_size;
    uint64_t userspace_addr;
    uint64_t guest_memfd_offset;
    uint32_t guest_memfd;
    uint32_t pad1;
    uint64_t pad2[14];
};
#define KVM_MEM_GUEST_MEMFD (1UL << 2)
#define KVM_CAP_USER_MEMORY2 231
#define KVM_CAP_MEMORY_FAULT_INFO 232
#define KVM_CAP_MEMORY_ATTRIBUTES 233
#define KVM_CAP_GUEST_MEMFD 234
#define KVM_CAP_VM_TYPES 235
#define KVM_EXIT_MEMORY_FAULT 39
#define KVM_MEMORY_EXIT_FLAG_PRIVATE (1ULL << 3)
#define KVM_SET_MEMORY_ATTRIBUTES _IOW(KVMIO, 0xd2, struct kvm_memory_attributes)
struct kvm_memory_attributes {
    uint64_t address;
    uint64_t size;
    uint64_t attributes;
    uint64_t flags;
};
#define KVM_MEMORY_ATTRIBUTE_PRIVATE (1ULL << 3)
#define KVM_CREATE_GUEST_MEMFD _IOWR(KVMIO, 0xd4, struct kvm_create_guest_memfd)
struct kvm_create_guest_memfd {
    uint64_t size;
    uint64_t flags;
    uint64_t reserved[6];
};
#endif

/* The host may map the file; what is in it is shared with the host from the beginning. */
#ifndef GUEST_MEMFD_FLAG_MMAP
#define GUEST_MEMFD_FLAG_MMAP (1ULL << 0)
#define GUEST_MEMFD_FLAG_INIT_SHARED (1ULL << 1)
#define KVM_CAP_GUEST_MEMFD_FLAGS 244
#endif

#ifndef KVM_PRE_FAULT_MEMORY
#define KVM_CAP_PRE_FAULT_MEMORY 236
#define KVM_PRE_FAULT_MEMORY _IOWR(KVMIO, 0xd5, struct kvm_pre_fault_memory)
struct kvm_pre_fault_memory {
    uint64_t gpa;
    uint64_t size;
    uint64_t flags;
    uint64_t padding[5];
};
#endif

#ifndef KVM_CAP_DIRTY_LOG_RING_WITH_BITMAP
#define KVM_CAP_DIRTY_LOG_RING_WITH_BITMAP 225
#endif

/* What kvm_run's union holds after KVM_EXIT_MEMORY_FAULT, from `hw` on: older headers lack the member memory_fault. */
struct gm_run_memory_fault {
    uint64_t flags; /* KVM_MEMORY_EXIT_FLAG_* */
    uint64_t gpa;
    uint64_t size;
};

/* guestmem's own attributes, in the bits that Linux reserves for these rights. NO_READ needs NO_WRITE. */
#define GM_ATTRIBUTE_NO_READ (1ULL << 0)
#define GM_ATTRIBUTE_NO_WRITE (1ULL << 1)
#define GM_ATTRIBUTE_NO_EXECUTE (1ULL << 2)

#endif
