/*
 * kvm/backend.h - the table of slot operations for one VM on /dev/kvm: slots, their logs, the run gate
 * and the memory space's eventfds.
 */
#ifndef KVM_BACKEND_H
#define KVM_BACKEND_H

#include "base/gate.h"
#include "kvm/kvm.h"

#include <guestmem/backend.h>

#include <stdbool.h>
#include <stdint.h>

/* Do not use KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2. */
#define KVM_BACKEND_NO_MANUAL_PROTECT (1u << 0)

struct kvm_backend {
    int vm_fd; /* borrowed */
    bool manual_protect;
    struct kvm_features features;
    struct gate gate; /* the VM's vCPUs stand here */
};

/*
 * Make the backend of a VM. Sets whether its logs are cleared by hand; whatever it was before.
 * Return: 0; -ENOMEM and other errno of a mutex; errno of KVM_ENABLE_CAP.
 */
int kvm_backend_init(struct kvm_backend *backend, int vm_fd, const struct kvm_features *features,
                     uint32_t flags, struct gm_diag *diag);

/* Give it up; the VM's logs are as Linux makes them. No vCPU is at the gate, no slots use it. */
void kvm_backend_fini(struct kvm_backend *backend);

/* What gm_slots_attach() wants to know. @max_slots: fewer than the kernel has; 0: all. */
struct gm_backend_options kvm_backend_options(const struct kvm_backend *backend,
                                              uint32_t max_slots);

/* The operations; the backend is their opaque pointer. */
struct gm_backend_ops kvm_backend_ops(const struct kvm_backend *backend);

/*
 * Add, remove one eventfd. @is_port: in the port space, not in memory.
 * Return: 0; -EOPNOTSUPP any-size eventfds that this kernel lacks; errno of KVM_IOEVENTFD.
 */
struct gm_eventfd;
int kvm_eventfd_add(const struct kvm_backend *backend, const struct gm_eventfd *eventfd,
                    bool is_port);
int kvm_eventfd_del(const struct kvm_backend *backend, const struct gm_eventfd *eventfd,
                    bool is_port);

#endif
