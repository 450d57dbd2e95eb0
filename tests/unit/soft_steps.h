/*
 * unit/soft_steps.h - scripts of ioctls with the answers that Linux gives, for a VM of each kind:
 * the software KVM, and where it opens /dev/kvm, which has to give the same ones.
 */
#ifndef UNIT_SOFT_STEPS_H
#define UNIT_SOFT_STEPS_H

#include <guestmem/soft_ioctl.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#define STEPS_MAX 12
#define STEPS_MEMORY_BYTES 0x80000u
#define STEPS_KERNEL_HVA UINT64_C(0xffff888000000000)
/* Words of the bitmap that log steps give: enough for all the memory. */
#define STEPS_BITMAP_WORDS 4u

enum step_object {
    STEP_ON_VM = 1,
    STEP_ON_SYSTEM,
    STEP_ON_VCPU,  /* the last one made */
    STEP_NEW_VCPU, /* expected 0 stands for any descriptor */
};

enum step_argument {
    STEP_NUMBER, /* `number` as it is, also as an address */
    STEP_REGION, /* userspace_addr is an offset in the memory */
    STEP_REGION_ABSOLUTE,
    STEP_LOG, /* into a bitmap; `number` is expected in its first word, if not STEP_ANY */
    STEP_CLEAR,
    STEP_CAP,
    STEP_ADDRESS, /* of `number` */
};

#define STEP_ANY UINT64_C(0x5a5a5a5a5a5a5a5a)

/* The real KVM of some machine answers otherwise, for the reason beside it. */
#define STEP_SOFT_ONLY (1u << 0)
/* The bitmap of a log step is the kernel's. */
#define STEP_BAD_BITMAP (1u << 1)

struct step {
    enum step_object object;
    unsigned long request;
    enum step_argument kind;
    long expected;
    unsigned flags;
    uint64_t number;
    struct kvm_userspace_memory_region region;
    struct kvm_clear_dirty_log clear;
    struct kvm_enable_cap cap;
};

struct script {
    const char *name;
    struct step steps[STEPS_MAX]; /* up to the first without an object */
};

#define SET_AS(how, slot_, flags_, gpa_, size_, hva_, expected_)                                   \
    {                                                                                              \
        .object = STEP_ON_VM, .request = KVM_SET_USER_MEMORY_REGION, .kind = (how),                \
        .expected = (expected_), .region = {                                                       \
            .slot = (slot_),                                                                       \
            .flags = (flags_),                                                                     \
            .guest_phys_addr = (gpa_),                                                             \
            .memory_size = (size_),                                                                \
            .userspace_addr = (hva_)                                                               \
        }                                                                                          \
    }
#define SET(slot, flags, gpa, size, offset, expected)                                              \
    SET_AS(STEP_REGION, slot, flags, gpa, size, offset, expected)
#define SET_AT(slot, flags, gpa, size, hva, expected)                                              \
    SET_AS(STEP_REGION_ABSOLUTE, slot, flags, gpa, size, hva, expected)
#define DELETE(slot, expected) SET_AT(slot, 0, 0, 0, 0, expected)
#define LOG(slot_, word, expected_)                                                                \
    {                                                                                              \
        .object = STEP_ON_VM, .request = KVM_GET_DIRTY_LOG, .kind = STEP_LOG,                      \
        .expected = (expected_), .number = (word), .region = {                                     \
            .slot = (slot_)                                                                        \
        }                                                                                          \
    }
#define CLEAR(slot_, first_, count_, expected_)                                                    \
    {                                                                                              \
        .object = STEP_ON_VM, .request = KVM_CLEAR_DIRTY_LOG, .kind = STEP_CLEAR,                  \
        .expected = (expected_), .clear = {                                                        \
            .slot = (slot_),                                                                       \
            .num_pages = (count_),                                                                 \
            .first_page = (first_)                                                                 \
        }                                                                                          \
    }
#define BAD_LOG(slot_, expected_)                                                                  \
    {                                                                                              \
        .object = STEP_ON_VM, .request = KVM_GET_DIRTY_LOG, .kind = STEP_LOG,                      \
        .expected = (expected_), .flags = STEP_BAD_BITMAP, .region = {                             \
            .slot = (slot_)                                                                        \
        }                                                                                          \
    }
#define BAD_CLEAR(slot_, first_, count_, expected_)                                                \
    {                                                                                              \
        .object = STEP_ON_VM, .request = KVM_CLEAR_DIRTY_LOG, .kind = STEP_CLEAR,                  \
        .expected = (expected_), .flags = STEP_BAD_BITMAP, .clear = {                              \
            .slot = (slot_),                                                                       \
            .num_pages = (count_),                                                                 \
            .first_page = (first_)                                                                 \
        }                                                                                          \
    }
#define CAP(cap_, flags_, argument, expected_)                                                     \
    {                                                                                              \
        .object = STEP_ON_VM, .request = KVM_ENABLE_CAP, .kind = STEP_CAP,                         \
        .expected = (expected_), .cap = {                                                          \
            .cap = (cap_),                                                                         \
            .flags = (flags_),                                                                     \
            .args = {argument}                                                                     \
        }                                                                                          \
    }
#define CALL(object_, request_, number_, expected_)                                                \
    {                                                                                              \
        .object = (object_), .request = (request_), .kind = STEP_NUMBER, .expected = (expected_),  \
        .number = (number_)                                                                        \
    }
#define CALL_AT(object_, request_, number_, expected_)                                             \
    {                                                                                              \
        .object = (object_), .request = (request_), .kind = STEP_ADDRESS, .expected = (expected_), \
        .number = (number_)                                                                        \
    }
#define NEW_VCPU(id, expected_)                                                                    \
    {                                                                                              \
        .object = STEP_NEW_VCPU, .expected = (expected_), .number = (id)                           \
    }

/* Run scripts, each on a fresh VM. Fails the test where an answer differs. */
void scripts_run_soft(const struct script *scripts, size_t count);
/* The same on /dev/kvm. Return: false, and nothing was run, where that does not open. */
bool scripts_run_real(const struct script *scripts, size_t count);

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

#endif
