/*
 * preload/kvm.c - which descriptor has which ioctl. What the software KVM does not know is answered as it answers: -EINVAL
 * on /dev/kvm and on vCPUs, -ENOTTY on VMs.
 */
#include "preload/kvm.h"

#include "preload/object.h"
#include "preload/trace.h"

#include <guestmem/soft_ioctl.h>

#include <errno.h>
#include <string.h>

/* ---- what makes descriptors ---- */

static atomic_uint vm_count;

/* Return: the descriptor; -errno. */
static int publish(struct object *object, struct descriptor *descriptor)
{
    int rc = object_publish(object, descriptor);

    if (rc != 0) {
        return rc;
    }
    descriptor_finish(descriptor);
    return descriptor->fd;
}

static long create_vm(uint64_t type)
{
    struct descriptor descriptor;
    struct object *vm;
    int rc;

    if (type != 0) {
        return -EINVAL;
    }
    vm = object_new(OBJECT_VM);
    if (vm == NULL) {
        return -ENOMEM;
    }
    rc = gm_soft_open(NULL, &vm->soft, NULL);
    if (rc != 0) {
        goto out_object;
    }
    rc = descriptor_new(&descriptor, "kvm-vm");
    if (rc != 0) {
        goto out_soft;
    }
    vm->number = atomic_fetch_add(&vm_count, 1);
    trace_vm_new(vm);
    rc = publish(vm, &descriptor);
    if (rc >= 0) {
        return rc;
    }
    trace_gone(vm);
    descriptor_abandon(&descriptor);
out_soft:
    (void)!gm_soft_close(vm->soft); /* it has no vCPU */
out_object:
    object_abandon(vm);
    return rc;
}

static const char *vcpu_name(unsigned id, char name[24])
{
    char *end = name + 23;

    *end = '\0';
    do {
        *--end = (char)('0' + id % 10);
        id /= 10;
    } while (id != 0);
    end -= 9;
    memcpy(end, "kvm-vcpu:", 9);
    return end;
}

static long create_vcpu(struct object *vm, uint64_t id)
{
    struct descriptor descriptor;
    struct object *vcpu;
    char name[24];
    int rc;

    if (id > UINT32_MAX) {
        return -EINVAL;
    }
    vcpu = object_new(OBJECT_VCPU);
    if (vcpu == NULL) {
        return -ENOMEM;
    }
    vcpu->number = (unsigned)id;
    rc = gm_soft_vcpu_new(vm->soft, vcpu->number, &vcpu->vcpu);
    if (rc != 0) {
        goto out_object;
    }
    rc = descriptor_new(&descriptor, vcpu_name(vcpu->number, name));
    if (rc != 0) {
        goto out_vcpu;
    }
    rc = gm_soft_vcpu_share(vcpu->vcpu, descriptor.inner);
    if (rc == 0) {
        object_get(vm);
        vcpu->vm = vm;
        rc = publish(vcpu, &descriptor);
    }
    if (rc >= 0) {
        return rc;
    }
    if (vcpu->vm != NULL) {
        object_put(vm);
    }
    descriptor_abandon(&descriptor);
out_vcpu:
    gm_soft_vcpu_free(vcpu->vcpu);
out_object:
    object_abandon(vcpu);
    return rc;
}

/* ---- requests ---- */

static long system_ioctl(unsigned request, uint64_t argument)
{
    return request == KVM_CREATE_VM ? create_vm(argument) : gm_soft_system_ioctl(request, argument);
}

/* Slots change in the order in which the trace says so. */
static bool changes_slots(unsigned request)
{
    return request == KVM_SET_USER_MEMORY_REGION || request == KVM_SET_USER_MEMORY_REGION2 ||
           request == KVM_SET_MEMORY_ATTRIBUTES;
}

static long vm_ioctl(struct object *vm, unsigned request, uint64_t argument)
{
    return request == KVM_CREATE_VCPU ? create_vcpu(vm, argument)
                                      : gm_soft_vm_ioctl(vm->soft, request, argument);
}

static void put(void *object)
{
    object_put(object);
}

/*
 * Signals wait, as they do while the kernel is at it; KVM_RUN looks for them by itself, and lets handlers run at its end. One may
 * cancel the thread, if that is allowed at any time, as after the system call. At calls within, where cancelling is left to
 * these, it is not: ioctl() is no such call. Gives the caller's reference back.
 */
static long run_vcpu(struct object *vcpu, uint64_t argument)
{
    struct trace trace = trace_begin();
    int type, state = PTHREAD_CANCEL_ENABLE;
    long result;

    pthread_cleanup_push(put, vcpu);
    pthread_setcanceltype(PTHREAD_CANCEL_DEFERRED, &type);
    if (type == PTHREAD_CANCEL_DEFERRED) {
        pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &state);
    } else {
        pthread_setcanceltype(type, NULL);
    }
    trace_run_begin(vcpu);
    result = gm_soft_vcpu_ioctl(vcpu->vcpu, KVM_RUN, argument);
    trace_run_end(trace, vcpu, result);
    if (type == PTHREAD_CANCEL_DEFERRED) {
        pthread_setcancelstate(state, NULL);
    }
    pthread_cleanup_pop(1);
    return result;
}

static long object_ioctl(struct object *object, int fd, unsigned request, uint64_t argument)
{
    uint64_t mask = signals_block();
    struct trace trace = trace_begin();
    bool is_ordered = trace.is_on && object->kind == OBJECT_VM && changes_slots(request);
    long result;

    if (is_ordered) {
        pthread_mutex_lock(&object->slots_lock);
    }
    result = object->kind == OBJECT_VM ? vm_ioctl(object, request, argument)
                                       : gm_soft_vcpu_ioctl(object->vcpu, request, argument);
    trace_ioctl(trace, object, fd, request, argument, result);
    if (is_ordered) {
        pthread_mutex_unlock(&object->slots_lock);
    }
    signals_restore(mask);
    return result;
}

static bool system_or_foreign_ioctl(int fd, unsigned request, uint64_t argument, long *result)
{
    enum descriptor_kind kind = descriptor_kind(fd);
    struct trace trace;
    uint64_t mask;

    if (kind != DESCRIPTOR_SYSTEM) {
        *result = -EIO;
        return kind == DESCRIPTOR_FOREIGN;
    }
    mask = signals_block();
    trace = trace_begin();
    *result = system_ioctl(request, argument);
    trace_ioctl(trace, NULL, fd, request, argument, *result);
    signals_restore(mask);
    return true;
}

bool kvm_ioctl(int fd, unsigned request, uint64_t argument, long *result)
{
    struct object *object = object_of(fd);

    if (object == NULL) {
        return system_or_foreign_ioctl(fd, request, argument, result);
    }
    if (object->kind == OBJECT_VCPU && request == KVM_RUN && object_is_ours(object)) {
        *result = run_vcpu(object, argument);
        return true;
    }
    *result = object_is_ours(object) ? object_ioctl(object, fd, request, argument) : -EIO;
    object_put(object);
    return true;
}

int kvm_foreign_request_errno(int fd)
{
    struct object *object = object_of(fd);
    int error;

    if (object == NULL) {
        enum descriptor_kind kind = descriptor_kind(fd);

        return kind == DESCRIPTOR_SYSTEM ? EINVAL : kind == DESCRIPTOR_FOREIGN ? EIO : 0;
    }
    error = !object_is_ours(object) ? EIO : object->kind == OBJECT_VCPU ? EINVAL : ENOTTY;
    object_put(object);
    return error;
}
