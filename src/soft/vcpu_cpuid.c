/*
 * soft/vcpu_cpuid.c - a vCPU's CPUID: KVM_SET_CPUID, KVM_SET_CPUID2, KVM_GET_CPUID2.
 *
 * Source: Linux api.rst at each request.
 */
#include "base/alloc.h"
#include "soft/ioctl.h"
#include "soft/soft.h"
#include "soft/usercopy.h"

#include <errno.h>
#include <stddef.h>
#include <string.h>

/* Linear addresses have 48 or 57 bits; CPUID may leave out how many. */
static bool is_valid(const struct x86_cpuid_entry *entries, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        unsigned linear_bits = entries[i].eax >> 8 & 0xff;

        if (entries[i].function == 0x80000008) {
            return linear_bits == 48 || linear_bits == 57 || linear_bits == 0;
        }
    }
    return true;
}

static bool is_same(const struct x86_cpuid_entry *a, const struct x86_cpuid_entry *b)
{
    return a->function == b->function && a->index == b->index && a->is_indexed == b->is_indexed &&
           a->eax == b->eax && a->ebx == b->ebx && a->ecx == b->ecx && a->edx == b->edx;
}

/* A processor does not change once it has run. */
static bool may_become(const struct x86_vcpu *cpu, const struct x86_cpuid_entry *entries,
                       size_t count)
{
    if (!x86_has_run(cpu)) {
        return true;
    }
    if (count != cpu->cpuid_count) {
        return false;
    }
    for (size_t i = 0; i < count; i++) {
        if (!is_same(&entries[i], &cpu->cpuid[i])) {
            return false;
        }
    }
    return true;
}

/* @entries becomes the vCPU's, or is freed. */
static long set_entries(struct gm_soft_vcpu *vcpu, struct x86_cpuid_entry *entries, size_t count)
{
    struct x86_vcpu *cpu = vcpu->x86;

    if (!is_valid(entries, count) || !may_become(cpu, entries, count)) {
        mem_free(&vcpu->soft->allocator, entries);
        return -EINVAL;
    }
    mem_free(&vcpu->soft->allocator, vcpu->cpuid);
    vcpu->cpuid = entries;
    cpu->cpuid = entries;
    cpu->cpuid_count = count;
    x86_state_changed(cpu); /* widths of addresses, sizes of pages */
    return 0;
}

/* One of the user's entries, in either structure. */
typedef int read_fn(uint64_t user_entries, size_t i, struct x86_cpuid_entry *entry);

static int read_entry2(uint64_t user_entries, size_t i, struct x86_cpuid_entry *entry)
{
    struct kvm_cpuid_entry2 given;
    int rc = usercopy_from(&given, user_entries + i * sizeof(given), sizeof(given));

    *entry = (struct x86_cpuid_entry){
        .function = given.function,
        .index = given.index,
        .is_indexed = (given.flags & KVM_CPUID_FLAG_SIGNIFCANT_INDEX) != 0,
        .eax = given.eax,
        .ebx = given.ebx,
        .ecx = given.ecx,
        .edx = given.edx,
    };
    return rc;
}

static int read_entry(uint64_t user_entries, size_t i, struct x86_cpuid_entry *entry)
{
    struct kvm_cpuid_entry given;
    int rc = usercopy_from(&given, user_entries + i * sizeof(given), sizeof(given));

    *entry = (struct x86_cpuid_entry){
        .function = given.function,
        .eax = given.eax,
        .ebx = given.ebx,
        .ecx = given.ecx,
        .edx = given.edx,
    };
    return rc;
}

static long set_cpuid(struct gm_soft_vcpu *vcpu, uint64_t argument, read_fn *read_one)
{
    struct x86_cpuid_entry *entries = NULL;
    struct kvm_cpuid2 head;
    int rc = usercopy_from(&head, argument, sizeof(head));

    if (rc == 0 && head.nent > CPUID_ENTRIES_MAX) {
        rc = -E2BIG;
    }
    if (rc == 0 && head.nent != 0) {
        entries = mem_zalloc(&vcpu->soft->allocator, head.nent * sizeof(*entries));
        rc = entries == NULL ? -ENOMEM : 0;
    }
    for (size_t i = 0; rc == 0 && i < head.nent; i++) {
        rc = read_one(argument + sizeof(head), i, &entries[i]);
    }
    if (rc != 0) {
        mem_free(&vcpu->soft->allocator, entries);
        return rc;
    }
    return set_entries(vcpu, entries, head.nent);
}

_Static_assert(offsetof(struct kvm_cpuid, entries) == offsetof(struct kvm_cpuid2, entries) &&
                   sizeof(struct kvm_cpuid2) == offsetof(struct kvm_cpuid2, entries),
               "both lists have the same head");

long ioctl_set_cpuid(struct gm_soft_vcpu *vcpu, uint64_t argument)
{
    return set_cpuid(vcpu, argument, read_entry);
}

long ioctl_set_cpuid2(struct gm_soft_vcpu *vcpu, uint64_t argument)
{
    return set_cpuid(vcpu, argument, read_entry2);
}

long ioctl_get_cpuid2(struct gm_soft_vcpu *vcpu, uint64_t argument)
{
    const struct x86_vcpu *cpu = vcpu->x86;
    struct kvm_cpuid2 head;
    int rc = usercopy_from(&head, argument, sizeof(head));

    if (rc == 0 && head.nent < cpu->cpuid_count) {
        rc = -E2BIG;
    }
    for (size_t i = 0; rc == 0 && i < cpu->cpuid_count; i++) {
        const struct x86_cpuid_entry *entry = &cpu->cpuid[i];
        const struct kvm_cpuid_entry2 given = {
            .function = entry->function,
            .index = entry->index,
            .flags = entry->is_indexed ? KVM_CPUID_FLAG_SIGNIFCANT_INDEX : 0,
            .eax = entry->eax,
            .ebx = entry->ebx,
            .ecx = entry->ecx,
            .edx = entry->edx,
        };

        rc = usercopy_to(argument + sizeof(head) + i * sizeof(given), &given, sizeof(given));
    }
    head.nent = (uint32_t)cpu->cpuid_count;
    return rc != 0 ? rc : usercopy_to(argument, &head, sizeof(head));
}
