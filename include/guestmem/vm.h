/*
 * guestmem/vm.h - a virtual machine whose memory is a map, on /dev/kvm or on the software KVM.
 *
 * gm_vm_open() makes the VM; gm_vm_attach() takes one that the caller made on /dev/kvm and goes on
 * owning. Both give it a map with two address spaces, memory (2^64) and I/O ports (64 KiB), each with
 * an empty container as root, and attach the slot backend to the memory space.
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
     * gm_vcpu_run() have it blocked from their first call on; no handler is installed. */
    int kick_signal;
    uint32_t max_slots;     /* use fewer than the kernel offers; 0: all */
    bool no_manual_protect; /* do not use KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2 */
    enum gm_accel accel;
    /* Of a software VM; NULL: defaults, and the map's allocator. */
    const struct gm_soft_options *soft;
};

/*
 * Make a VM: on /dev/kvm, or on the software KVM.
 * GM_ACCEL_AUTO takes the software KVM where the device does not exist, may not be opened or has no
 * driver; what else is wrong with it is an error.
 * Return: 0; -EINVAL; -ENOENT, -EACCES, -ENODEV the device cannot be opened (the diag says how to go
 * on); -EOPNOTSUPP the kernel lacks what guestmem needs; -ENOMEM; or errno of KVM_CREATE_VM.
 */
GM_MUST_CHECK int gm_vm_open(const struct gm_vm_options *options, struct gm_vm **vm,
                             struct gm_diag *diag);

/*
 * Give memory to a VM that the caller made. @system_fd is /dev/kvm, @vm_fd the VM; both stay the
 * caller's and must outlive the handle. No slots may be in use yet. Manual dirty-log protection is
 * switched as the options say, whatever it was before, and off at the end; everything else that the
 * caller made (irqchip, vCPUs) is left alone. Errors as gm_vm_open(); GM_ACCEL_SOFT is -EINVAL: a
 * software VM of one's own is attached by gm_soft_attach().
 */
GM_MUST_CHECK int gm_vm_attach(int system_fd, int vm_fd, const struct gm_vm_options *options,
                               struct gm_vm **vm, struct gm_diag *diag);

/*
 * Close, or detach from, the VM: slots are deleted, vCPUs of gm_vcpu_new() closed, the map freed.
 * Context: no thread is inside gm_vcpu_run() or an access.
 * Return: 0; -EBUSY a vCPU is running, or one of gm_soft_vcpu_new() is left; or what gm_slots_detach()
 * returned: then it is as it was. NULL is allowed.
 */
GM_MUST_CHECK int gm_vm_close(struct gm_vm *vm, struct gm_diag *diag);

/* Its map, borrowed until the VM is closed. Any thread. */
struct gm_map *gm_vm_map(struct gm_vm *vm);
struct gm_space *gm_vm_memory(struct gm_vm *vm);       /* the memory space */
struct gm_space *gm_vm_ports(struct gm_vm *vm);        /* the port space */
struct gm_region *gm_vm_memory_root(struct gm_vm *vm); /* borrowed: its root container, 2^64 */
struct gm_region *gm_vm_ports_root(struct gm_vm *vm);  /* borrowed: 64 KiB */
struct gm_slots *gm_vm_slots(struct gm_vm *vm);
int gm_vm_fd(const struct gm_vm *vm); /* for the ioctls that are not memory: irqchip, PIT, ... */
int gm_vm_system_fd(const struct gm_vm *vm); /* /dev/kvm; both are -1 of a software VM */

/*
 * The software KVM under the map, borrowed until the VM is closed; NULL on /dev/kvm. Its vCPUs are those
 * of gm_soft_vcpu_new(): they reach memory, and run no instructions themselves.
 */
struct gm_soft *gm_vm_soft(struct gm_vm *vm);

/*
 * Make a vCPU, or take one that the caller made (@run is its mapped kvm_run area, all of
 * KVM_GET_VCPU_MMAP_SIZE bytes; @kick as below).
 * A caller that runs KVM_RUN itself brackets it with gm_vcpu_enter() and gm_vcpu_leave(), so that an
 * edit can hold the vCPU out of guest mode.
 * @kick: makes this vCPU's thread leave KVM_RUN soon, if it is in there; called from other threads,
 *        maybe often, and by gm_vcpu_kick(). It takes no lock that is held around an edit. NULL for
 *        the library's signal: then KVM_SET_SIGNAL_MASK of the vCPU is the library's until it is freed.
 * Return: 0; -EINVAL; -EEXIST; -ENOMEM; -EOPNOTSUPP of a software VM (see gm_vm_soft()); or errno of
 * KVM_CREATE_VCPU or mmap.
 */
GM_MUST_CHECK int gm_vcpu_new(struct gm_vm *vm, unsigned id, struct gm_vcpu **vcpu,
                              struct gm_diag *diag);
GM_MUST_CHECK int gm_vcpu_attach(struct gm_vm *vm, int vcpu_fd, struct kvm_run *run,
                                 void (*kick)(void *opaque), void *opaque, struct gm_vcpu **vcpu,
                                 struct gm_diag *diag);
/* Close, or detach. Context: its thread is not in guest mode. NULL is allowed. */
void gm_vcpu_free(struct gm_vcpu *vcpu);

/* The vCPU's descriptor: for registers, CPUID and whatever else is not memory. Borrowed. */
int gm_vcpu_fd(const struct gm_vcpu *vcpu);
/* The page that KVM_RUN shares with us. */
struct kvm_run *gm_vcpu_kvm_run(const struct gm_vcpu *vcpu);

/*
 * Before and after KVM_RUN. Enter waits while an edit holds the gate, and returns with the vCPU counted
 * as in guest mode: from then on a hold kicks it and waits for gm_vcpu_leave().
 * Context: the vCPU's thread; enter may block. Not from a listener's callback. Where the library's
 * signal is used, enter blocks it in the thread, for good.
 */
void gm_vcpu_enter(struct gm_vcpu *vcpu);
void gm_vcpu_leave(struct gm_vcpu *vcpu);

/*
 * Run the vCPU until something happens that memory does not settle: MMIO and port exits that regions
 * answer are dispatched and the vCPU goes on; any other exit is returned in kvm_run. Accesses where
 * nothing is mapped read as all ones and drop writes.
 * When it returns -EINTR the instruction of the last memory exit is complete: registers can be read
 * and saved. A signal of the caller's own should call gm_vcpu_kick() from its handler: by itself it
 * may come too early to interrupt anything.
 * Context: one thread at a time for each vCPU; not from a callback of the same vCPU's exit.
 * Return: 0 look at kvm_run->exit_reason; -EINTR gm_vcpu_kick() or another signal; -EFAULT and other
 * errno of KVM_RUN (kvm_run may say more).
 */
GM_MUST_CHECK int gm_vcpu_run(struct gm_vcpu *vcpu);

/* Make gm_vcpu_run() return -EINTR soon, or its next call at once. Any thread; async-signal-safe. */
void gm_vcpu_kick(struct gm_vcpu *vcpu);

/*
 * For callers with their own loop: answer an exit if it is MMIO or port I/O. KVM completes its
 * instruction at the next KVM_RUN; to stop after it, make one more with kvm_run->immediate_exit set,
 * which returns -EINTR (or the same instruction's next access).
 * @outcome: out, may be NULL: what the access came to.
 * Return: 1 answered, run again; 0 not a memory exit: the caller's.
 */
GM_MUST_CHECK int gm_vcpu_handle_exit(struct gm_vcpu *vcpu, struct kvm_run *run,
                                      enum gm_access *outcome);

/* Counts of one vCPU's exits, those that gm_vcpu_run() and gm_vcpu_handle_exit() saw. */
struct gm_vcpu_stats {
    uint64_t runs;
    uint64_t mmio_reads;
    uint64_t mmio_writes;
    uint64_t port_reads;
    uint64_t port_writes;
    uint64_t unmapped; /* accesses where nothing answered */
    uint64_t interrupted;
    uint64_t other;
};
void gm_vcpu_stats(const struct gm_vcpu *vcpu, struct gm_vcpu_stats *stats);

#ifdef __cplusplus
}
#endif

#endif
