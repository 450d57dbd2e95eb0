/*
 * guestmem/vm.h - a virtual machine whose memory is a map, on /dev/kvm or on the software KVM.
 *
 * gm_vm_open() makes the VM; gm_vm_attach() takes one that the caller made on /dev/kvm and goes on
 * owning. Both give it a map with two address spaces, memory (2^64) and I/O ports (64 KiB), each with
 * an empty container as root, and attach the slot backend to the memory space.
 *
 * fork(): a map and a VM are for the process that made them. In a child each call that would change them or reach the hypervisor
 * is -EIO (GM_DIAG_FORKED), kicks do nothing, and what frees or closes works: it frees the child's copy, calls the release
 * callbacks of the child's regions, closes the child's descriptors, waits for nobody, and leaves the parent's VM as it is. If another
 * thread was in a call of the VM, or running a vCPU, at the fork, gm_vm_close() closes descriptors only. A child that makes maps of its own
 * registers liburcu's fork handlers (docs/decisions/0014).
 */
#ifndef GUESTMEM_VM_H
#define GUESTMEM_VM_H

#include <guestmem/backend.h>
#include <guestmem/map.h>
#include <guestmem/region.h>
#include <guestmem/space.h>
#include <guestmem/types.h>

struct kvm_run;

#ifdef __cplusplus
extern "C" {
#endif

struct gm_vm;
struct gm_vcpu;
struct gm_soft;
struct gm_soft_options;
struct gm_soft_vcpu;

/* What is under the map. */
enum gm_accel {
    GM_ACCEL_KVM,  /* /dev/kvm */
    GM_ACCEL_SOFT, /* the software KVM (guestmem/soft.h): needs no module, privilege or hardware */
    GM_ACCEL_AUTO, /* /dev/kvm, and where it does not open the software KVM */
};

struct gm_vm_options {
    size_t size;                      /* sizeof(struct gm_vm_options) */
    const struct gm_map_options *map; /* NULL: defaults */
    const char *device;               /* NULL: "/dev/kvm" */
    /* The signal that ends KVM_RUN when a vCPU must leave guest mode; 0: SIGRTMIN. Threads that call
     * gm_vcpu_run() have it blocked from their first call on; no handler is installed. Not used on
     * a software VM. */
    int kick_signal;
    uint32_t max_slots;     /* use fewer than the kernel offers; 0: all */
    bool no_manual_protect; /* do not use KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2 */
    enum gm_accel accel;
    /* Of a software VM; NULL: defaults, and the map's allocator. */
    const struct gm_soft_options *soft;
    /* Pages that vCPUs write come by a ring of so many entries for each vCPU (KVM_CAP_DIRTY_LOG_RING),
     * a power of two from 64 on, within what the kernel takes: a harvest costs what is dirty, not what
     * is mapped. 0: by a log of each slot. docs/kvm-backend.md says what to choose. */
    uint32_t dirty_ring_entries;
};

/*
 * Make a VM: on /dev/kvm, or on the software KVM.
 * GM_ACCEL_AUTO takes the software KVM where the device does not exist, may not be opened or has no
 * driver; what else is wrong with it is an error.
 * Return: 0; -EINVAL; -E2BIG (types.h); -ENOENT, -EACCES, -ENODEV the device cannot be opened (the diag says how to go
 * on); -EOPNOTSUPP the kernel lacks what guestmem needs, or the dirty rings that are asked for; -ENOMEM;
 * or errno of KVM_CREATE_VM and KVM_ENABLE_CAP.
 */
GM_MUST_CHECK int gm_vm_open(const struct gm_vm_options *options, struct gm_vm **vm,
                             struct gm_diag *diag);

/*
 * Give memory to a VM that the caller made. @system_fd is /dev/kvm, @vm_fd the VM; both stay the
 * caller's and must outlive the handle. No slots may be in use yet. Manual dirty-log protection is
 * switched as the options say, whatever it was before, and off at the end; everything else that the
 * caller made (irqchip, vCPUs) is left alone. If he has enabled dirty rings, the options say how large
 * they are (-EINVAL without), all vCPUs that run are attached, and nobody else harvests. Rings that are
 * enabled here stay so. Errors as gm_vm_open(); GM_ACCEL_SOFT is -EINVAL: a software VM of one's own is attached by
 * gm_soft_attach().
 */
GM_MUST_CHECK int gm_vm_attach(int system_fd, int vm_fd, const struct gm_vm_options *options,
                               struct gm_vm **vm, struct gm_diag *diag);

/*
 * Close, or detach from, the VM: slots are deleted, vCPUs of gm_vcpu_new() closed, the map freed.
 * Context: no thread is inside gm_vcpu_run() or an access.
 * Return: 0; in a child of fork() always; -EBUSY a vCPU is running, or one of gm_soft_vcpu_new() is left; or what gm_slots_detach()
 * returned: then it is as it was, but SMM's space may be gone. NULL is allowed.
 */
GM_MUST_CHECK int gm_vm_close(struct gm_vm *vm, struct gm_diag *diag);

/* Its map, borrowed until the VM is closed. Any thread. */
struct gm_map *gm_vm_map(struct gm_vm *vm);
struct gm_space *gm_vm_memory(struct gm_vm *vm);       /* the memory space */
struct gm_space *gm_vm_ports(struct gm_vm *vm);        /* the port space */
struct gm_region *gm_vm_memory_root(struct gm_vm *vm); /* borrowed: its root container, 2^64 */
struct gm_region *gm_vm_ports_root(struct gm_vm *vm);  /* borrowed: 64 KiB */
struct gm_slots *gm_vm_slots(struct gm_vm *vm);
int gm_vm_fd(const struct gm_vm *vm);        /* the VM's descriptor */
int gm_vm_system_fd(const struct gm_vm *vm); /* /dev/kvm; both are -1 of a software VM */

/*
 * Give vCPUs in system management mode a memory of their own: a third space, with its own view, slots and
 * logs (KVM's address space 1). @root is what it shows, often a container with an alias of gm_vm_memory_root()
 * and SMRAM above it. Without, vCPUs in SMM see what all see. It goes when the VM is closed.
 * Context: as gm_txn_commit(), before vCPUs run.
 * Return: 0; -EOPNOTSUPP this kernel has no second address space; -EEXIST there is one already; or what
 * gm_space_new() and gm_slots_attach() return.
 */
GM_MUST_CHECK int gm_vm_add_smm(struct gm_vm *vm, struct gm_region *root, struct gm_diag *diag);
struct gm_space *gm_vm_smm(struct gm_vm *vm); /* borrowed; NULL: there is none */
struct gm_slots *gm_vm_smm_slots(struct gm_vm *vm);

/*
 * Make a file for memory that the guest keeps private, for gm_ram_options.guest_memfd
 * (KVM_CREATE_GUEST_MEMFD). Only slots of this VM take it. docs/kvm-backend.md compares the ways to use it.
 * @size_bytes: whole pages of the host; no memory is taken yet.
 * @flags:      KVM's (guestmem/kvm_abi.h): 0; GUEST_MEMFD_FLAG_MMAP | GUEST_MEMFD_FLAG_INIT_SHARED: the host may map it, too.
 * @fd:         out: the caller's to close, which blocks that took it do not mind; close-on-exec.
 * Context: any thread.
 * Return: 0; -EINVAL size; -EOPNOTSUPP this kernel, or the software KVM, has no guest memfds, or none with these flags; -EMFILE;
 * -ENFILE; -ENOMEM; -EIO in a child of fork(); or another errno of the ioctl.
 */
GM_MUST_CHECK int gm_vm_guest_memfd(struct gm_vm *vm, uint64_t size_bytes, uint64_t flags, int *fd,
                                    struct gm_diag *diag);

/*
 * Say of guest addresses whether the guest's accesses reach private memory (KVM_MEMORY_ATTRIBUTE_PRIVATE) or, as they do at first,
 * memory that it shares with the host (0): KVM_SET_MEMORY_ATTRIBUTES. Contents are not moved; what lies in the half that is left
 * stays until gm_ram_discard_half(). Attributes belong to addresses, whatever a map shows there. An access that they or the
 * slot do not allow makes KVM_RUN come out with KVM_EXIT_MEMORY_FAULT.
 * @attributes: all that these addresses have from now on; others that KVM_CAP_MEMORY_ATTRIBUTES names.
 * Context: any thread, while vCPUs run: none uses what it had before once the call has returned.
 * Return: 0; -EINVAL a range that is empty, wraps, or is not of whole pages; -EOPNOTSUPP this VM lacks one of the
 * attributes; -ENOMEM; -EIO in a child of fork(); or another errno of the ioctl.
 */
GM_MUST_CHECK int gm_vm_set_attributes(struct gm_vm *vm, gm_gpa_t gpa, uint64_t size_bytes,
                                       uint64_t attributes, struct gm_diag *diag);

/* The software KVM under the map, borrowed until the VM is closed; NULL on /dev/kvm. */
struct gm_soft *gm_vm_soft(struct gm_vm *vm);

/*
 * KVM's ioctls that are not memory (interrupt chips, CPUID, clock, ...), of the system and of the VM: to the descriptor, or
 * to the software KVM, so that one program works with both. @argument is a number, or an address as one.
 * Context: any thread. Return: what the ioctl returns, 0 or more, or its errno, negative; -EIO in a child of fork().
 */
long gm_vm_system_ioctl(struct gm_vm *vm, unsigned long request, unsigned long argument);
long gm_vm_ioctl(struct gm_vm *vm, unsigned long request, unsigned long argument);

/*
 * Make a vCPU, or take one that the caller made on /dev/kvm (@run is its mapped kvm_run area, all of
 * KVM_GET_VCPU_MMAP_SIZE bytes; @kick as below).
 * A caller that runs KVM_RUN itself brackets it with gm_vcpu_enter() and gm_vcpu_leave(), so that an
 * edit can hold the vCPU out of guest mode.
 * A software VM's needs neither: an edit holds it at an instruction's boundary.
 * @kick: makes this vCPU's thread leave KVM_RUN soon, if it is in there; called from other threads,
 *        maybe often, and by gm_vcpu_kick(). It takes no lock that is held around an edit. NULL for
 *        the library's signal: then KVM_SET_SIGNAL_MASK of the vCPU is the library's until it is freed.
 * Return: 0; -EINVAL; -EEXIST; -ENOMEM; -EIO in a child of fork(); or errno of KVM_CREATE_VCPU or mmap. Attach also: -EOPNOTSUPP of a software VM, whose
 * vCPUs have no descriptors.
 */
GM_MUST_CHECK int gm_vcpu_new(struct gm_vm *vm, unsigned id, struct gm_vcpu **vcpu,
                              struct gm_diag *diag);
GM_MUST_CHECK int gm_vcpu_attach(struct gm_vm *vm, int vcpu_fd, struct kvm_run *run,
                                 void (*kick)(void *opaque), void *opaque, struct gm_vcpu **vcpu,
                                 struct gm_diag *diag);
/* Close, or detach. Context: its thread is not in guest mode. NULL is allowed. */
void gm_vcpu_free(struct gm_vcpu *vcpu);

/* The vCPU's descriptor, borrowed; -1 of a software VM. */
int gm_vcpu_fd(const struct gm_vcpu *vcpu);
/* The software vCPU, borrowed until the vCPU is freed; NULL on /dev/kvm. */
struct gm_soft_vcpu *gm_vcpu_soft(const struct gm_vcpu *vcpu);
/*
 * The vCPU's ioctls: registers, CPUID and whatever else is not memory; as gm_vm_ioctl(). Not for KVM_SET_SIGNAL_MASK, where the
 * library's kick is used.
 * Context: any thread; waits while the vCPU is in KVM_RUN.
 */
long gm_vcpu_ioctl(struct gm_vcpu *vcpu, unsigned long request, unsigned long argument);
/* The page that KVM_RUN shares with us. */
struct kvm_run *gm_vcpu_kvm_run(const struct gm_vcpu *vcpu);

/*
 * Before and after KVM_RUN. Enter waits while an edit holds the gate, and returns with the vCPU counted
 * as in guest mode: from then on a hold kicks it and waits for gm_vcpu_leave().
 * On a software VM they only say that the vCPU is in use.
 * Context: the vCPU's thread; enter may block. Not from a listener's callback. Where the library's
 * signal is used, enter blocks it in the thread, for good.
 */
void gm_vcpu_enter(struct gm_vcpu *vcpu);
void gm_vcpu_leave(struct gm_vcpu *vcpu);

/*
 * Run the vCPU until something happens that memory does not settle: MMIO and port exits that regions
 * answer are dispatched, a full dirty ring is emptied, and the vCPU goes on; any other exit is returned in
 * kvm_run. Accesses where nothing is mapped read as all ones and drop writes.
 * When it returns -EINTR the instruction of the last memory exit is complete: registers can be read
 * and saved. A signal of the caller's own should call gm_vcpu_kick() from its handler: by itself it
 * may come too early to interrupt anything.
 * Context: one thread at a time for each vCPU; not from a callback of the same vCPU's exit.
 * Return: 0 look at kvm_run->exit_reason; -EINTR gm_vcpu_kick() or another signal; -EFAULT and other
 * errno of KVM_RUN (kvm_run may say more); -EIO in a child of fork().
 */
GM_MUST_CHECK int gm_vcpu_run(struct gm_vcpu *vcpu);

/* Make gm_vcpu_run() return -EINTR soon, or its next call at once. Any thread; async-signal-safe. */
void gm_vcpu_kick(struct gm_vcpu *vcpu);

/*
 * For callers with their own loop: answer an exit if it is MMIO, port I/O or a full dirty ring, on the
 * vCPU's thread. KVM completes an access's
 * instruction at the next KVM_RUN; to stop after it, make one more with kvm_run->immediate_exit set,
 * which returns -EINTR (or the same instruction's next access).
 * @outcome: out, may be NULL: what the access came to.
 * Return: 1 answered, run again; 0 not a memory exit: the caller's (KVM_EXIT_DIRTY_RING_FULL: of a ring
 * that the hypervisor does not take back).
 */
GM_MUST_CHECK int gm_vcpu_handle_exit(struct gm_vcpu *vcpu, struct kvm_run *run,
                                      enum gm_access *outcome);

/*
 * Call the callbacks for coalesced writes that are pending (gm_txn_add_coalesced()), in the order in which they were made.
 * gm_vcpu_run(), gm_vcpu_handle_exit() and accesses to regions with such ranges do so first; this is for whoever wants
 * them to be seen without any of these: a display that is drawn by a clock. If another thread is at it, waits for it.
 * What is collected of a range that a commit removes goes to the region that it was written to.
 * Context: any thread; calls regions' callbacks, and waits for those of other threads, so hold no lock that they take.
 * From inside such a callback, or a listener's, it does nothing.
 */
void gm_vm_flush_coalesced(struct gm_vm *vm);

/* Counts of one vCPU's exits, those that gm_vcpu_run() and gm_vcpu_handle_exit() saw. */
struct gm_vcpu_stats {
    uint64_t runs;
    uint64_t mmio_reads;
    uint64_t mmio_writes;
    uint64_t port_reads;
    uint64_t port_writes;
    uint64_t unmapped; /* accesses where nothing answered */
    uint64_t interrupted;
    uint64_t rings_full; /* dirty rings that were emptied */
    uint64_t other;
};
void gm_vcpu_stats(const struct gm_vcpu *vcpu, struct gm_vcpu_stats *stats);

#ifdef __cplusplus
}
#endif

#endif
