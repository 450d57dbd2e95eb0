/*
 * unit/vcpu_face.h - a vCPU that is asked by KVM's ioctls: of the software KVM, or of /dev/kvm, so that both can be asked the same.
 */
#ifndef UNIT_VCPU_FACE_H
#define UNIT_VCPU_FACE_H

#include "soft_rig.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <unistd.h>

struct face {
    bool is_real;
    int system, vm, vcpu; /* descriptors, if it is real */
    struct rig rig;       /* otherwise */
};

static inline struct face face_soft(void)
{
    return (struct face){.rig = rig_new(NULL)};
}

/* Return: false: this machine has no KVM that opens. */
static inline bool face_real(struct face *face)
{
    *face = (struct face){.is_real = true, .system = open("/dev/kvm", O_RDWR | O_CLOEXEC)};
    if (face->system < 0) {
        return false;
    }
    face->vm = ioctl(face->system, KVM_CREATE_VM, 0);
    assert_true(face->vm >= 0);
    face->vcpu = ioctl(face->vm, KVM_CREATE_VCPU, 0);
    assert_true(face->vcpu >= 0);
    return true;
}

static inline void face_close(struct face *face)
{
    if (face->is_real) {
        close(face->vcpu);
        close(face->vm);
        close(face->system);
    } else {
        rig_free(&face->rig);
    }
}

static inline long face_result(int result)
{
    return result < 0 ? -errno : result;
}

static inline long face_system(struct face *face, unsigned long request, const void *argument)
{
    if (face->is_real) {
        return face_result(ioctl(face->system, request, argument));
    }
    return gm_soft_system_ioctl(request, (uintptr_t)argument);
}

static inline long face_ask(struct face *face, unsigned long request, const void *argument)
{
    if (face->is_real) {
        return face_result(ioctl(face->vcpu, request, argument));
    }
    return gm_soft_vcpu_ioctl(face->rig.vcpu, request, (uintptr_t)argument);
}

/* Lists with room for what they are used for here. */
struct face_cpuid {
    struct {
        uint32_t nent, padding;
    } head; /* struct kvm_cpuid2 */
    struct kvm_cpuid_entry2 entries[300];
};

struct face_msrs {
    struct {
        uint32_t nmsrs, pad;
    } head; /* struct kvm_msrs */
    struct kvm_msr_entry entries[260];
};

static inline long face_set_msr(struct face *face, uint32_t index, uint64_t value)
{
    struct face_msrs list = {.head.nmsrs = 1, .entries = {{.index = index, .data = value}}};

    return face_ask(face, KVM_SET_MSRS, &list);
}

static inline uint64_t face_get_msr(struct face *face, uint32_t index)
{
    struct face_msrs list = {.head.nmsrs = 1, .entries = {{.index = index}}};

    assert_int_equal(face_ask(face, KVM_GET_MSRS, &list), 1);
    return list.entries[0].data;
}

#endif
