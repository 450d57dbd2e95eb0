/*
 * soft/vcpu_msrs.c - KVM_GET_MSRS, KVM_SET_MSRS, which MSRs there are, and the time-stamp counter's frequency.
 *
 * Source: Linux api.rst at each request.
 */
#include "soft/ioctl.h"
#include "soft/soft.h"
#include "soft/usercopy.h"

#include <errno.h>
#include <stddef.h>

#define ENTRIES_END 256u
#define TSC_KHZ 1000000u /* it counts nanoseconds */

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

/* What is a vCPU's state and is told by no other request: for saving it. */
static const uint32_t SAVED[] = {
    0x10,                          /* TSC */
    0x11,       0x12,              /* kvmclock, by its older numbers */
    0x3b,                          /* TSC_ADJUST */
    0x8b,                          /* BIOS_SIGN_ID */
    0x17a,      0x17b,             /* MCG_STATUS, MCG_CTL */
    0xce,                          /* PLATFORM_INFO */
    0x174,                         /* SYSENTER_CS, _ESP, _EIP */
    0x175,      0x176,      0x1a0, /* MISC_ENABLE */
    0x1fc,                         /* POWER_CTL */
    0x200,                         /* MTRR_PHYSBASE0, MTRR_PHYSMASK0, to 7 */
    0x201,      0x202,      0x203,      0x204,      0x205, 0x206, 0x207, 0x208, 0x209,
    0x20a,      0x20b,      0x20c,      0x20d,      0x20e, 0x20f, 0x250, /* MTRR_FIX64K, 16K, 4K */
    0x258,      0x259,      0x268,      0x269,      0x26a, 0x26b, 0x26c, 0x26d, 0x26e,
    0x26f,      0x277,                              /* PAT */
    0x2ff,                                          /* MTRR_DEF_TYPE */
    0xc0000081,                                     /* STAR, LSTAR, CSTAR, FMASK */
    0xc0000082, 0xc0000083, 0xc0000084, 0xc0000102, /* KERNEL_GS_BASE */
    0xc0000103,                                     /* TSC_AUX */
    0x6e0,                                          /* TSC_DEADLINE */
    0x4b564d00, 0x4b564d01,                         /* kvmclock */
};

/* What says how the processor is made. */
static const struct kvm_msr_entry FEATURES[] = {
    {.index = 0x8b, .data = UINT64_C(1) << 32}, {.index = 0x345}, /* PERF_CAPABILITIES: none */
};

/* One entry of a list. Return: false: the list ends before it. */
typedef bool msr_fn(struct gm_soft_vcpu *vcpu, struct kvm_msr_entry *entry);

static bool get_one(struct gm_soft_vcpu *vcpu, struct kvm_msr_entry *entry)
{
    uint64_t value;

    if (x86_get_msr(vcpu->x86, entry->index, &value) != X86_MSR_DONE) {
        return false;
    }
    entry->data = value;
    return true;
}

static bool set_one(struct gm_soft_vcpu *vcpu, struct kvm_msr_entry *entry)
{
    return x86_set_msr(vcpu->x86, entry->index, entry->data) == X86_MSR_DONE;
}

static bool get_feature(struct gm_soft_vcpu *vcpu, struct kvm_msr_entry *entry)
{
    (void)vcpu;
    for (size_t i = 0; i < COUNT(FEATURES); i++) {
        if (FEATURES[i].index == entry->index) {
            entry->data = FEATURES[i].data;
            return true;
        }
    }
    return false;
}

/* Return: how many entries were done before one that could not be, or -errno. */
static long do_list(struct gm_soft_vcpu *vcpu, uint64_t argument, msr_fn *do_one, bool is_read)
{
    uint64_t user_entries = argument + offsetof(struct kvm_msrs, entries);
    struct kvm_msr_entry entries[ENTRIES_END];
    struct kvm_msrs head;
    size_t size_bytes;
    long done = 0;
    int rc = usercopy_from(&head, argument, sizeof(head));

    if (rc == 0 && head.nmsrs >= ENTRIES_END) {
        rc = -E2BIG;
    }
    if (rc != 0) {
        return rc;
    }
    size_bytes = head.nmsrs * sizeof(entries[0]);
    rc = usercopy_from(entries, user_entries, size_bytes);
    while (rc == 0 && done < (long)head.nmsrs && do_one(vcpu, &entries[done])) {
        done++;
    }
    if (rc == 0 && is_read) {
        rc = usercopy_to(user_entries, entries, size_bytes);
    }
    return rc != 0 ? rc : done;
}

long ioctl_get_msrs(struct gm_soft_vcpu *vcpu, uint64_t argument)
{
    return do_list(vcpu, argument, get_one, true);
}

long ioctl_set_msrs(struct gm_soft_vcpu *vcpu, uint64_t argument)
{
    return do_list(vcpu, argument, set_one, false);
}

long ioctl_get_feature_msrs(uint64_t argument)
{
    return do_list(NULL, argument, get_feature, true);
}

/* The number is told even where there is no room for the list. */
static long give_indices(uint64_t argument, const uint32_t *indices, uint32_t count)
{
    struct kvm_msr_list list;
    uint32_t room;
    int rc = usercopy_from(&list, argument, sizeof(list));

    if (rc != 0) {
        return rc;
    }
    room = list.nmsrs;
    list.nmsrs = count;
    rc = usercopy_to(argument, &list, sizeof(list));
    if (rc == 0 && room < count) {
        rc = -E2BIG;
    }
    if (rc == 0) {
        rc = usercopy_to(argument + offsetof(struct kvm_msr_list, indices), indices,
                         count * sizeof(indices[0]));
    }
    return rc;
}

long ioctl_get_msr_indices(uint64_t argument)
{
    return give_indices(argument, SAVED, COUNT(SAVED));
}

long ioctl_get_feature_msr_indices(uint64_t argument)
{
    uint32_t indices[COUNT(FEATURES)];

    for (size_t i = 0; i < COUNT(FEATURES); i++) {
        indices[i] = FEATURES[i].index;
    }
    return give_indices(argument, indices, COUNT(FEATURES));
}

long ioctl_get_tsc_khz(struct gm_soft_vcpu *vcpu, uint64_t argument)
{
    (void)vcpu;
    (void)argument;
    return TSC_KHZ;
}

/* There is one frequency; 0 asks for it by no number. */
long ioctl_set_tsc_khz(struct gm_soft_vcpu *vcpu, uint64_t argument)
{
    uint32_t khz = (uint32_t)argument;

    (void)vcpu;
    return khz == 0 || khz == TSC_KHZ ? 0 : -EINVAL;
}
