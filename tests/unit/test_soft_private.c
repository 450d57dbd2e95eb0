/*
 * unit/test_soft_private.c - slots that a VM makes for itself, as on Intel, and that there are none
 * as on AMD (docs/decisions/0007-private-slots.md).
 */
#include "soft_rig.h"

#include "model/faults.h"

#include <errno.h>

#define TSS UINT64_C(0xfffbd000)
#define IDENTITY UINT64_C(0xfffbc000)
#define APIC UINT64_C(0xfee00000)

static const struct gm_soft_options intel = {.size = sizeof(intel), .intel_private_slots = true};

static long set_identity(struct rig *rig, uint64_t gpa)
{
    return rig_call(rig, KVM_SET_IDENTITY_MAP_ADDR, &gpa);
}

static bool has_slot(struct rig *rig, uint64_t gpa, struct gm_soft_slot *slot)
{
    struct gm_soft_slot in_smm;
    bool found = gm_soft_find(rig->soft, 0, gpa, slot);

    /* Inside and outside of SMM the same. */
    assert_int_equal(gm_soft_find(rig->soft, 1, gpa, &in_smm), found);
    if (found) {
        assert_int_equal(in_smm.hva, slot->hva);
        assert_int_equal(in_smm.slot, slot->slot | 0x10000);
    }
    return found;
}

static void amd_addresses_make_no_slots(void **state)
{
    /* They are checked only, also when set again; user slots lie where they like. */
    struct rig rig = rig_new_without_vcpu(NULL);
    struct gm_soft_slot slot;

    (void)state;
    assert_int_equal(rig_call_number(&rig, KVM_SET_TSS_ADDR, TSS), 0);
    assert_int_equal(rig_call_number(&rig, KVM_SET_TSS_ADDR, TSS + 1), 0);
    assert_int_equal(set_identity(&rig, IDENTITY), 0);
    rig_add_vcpu(&rig);
    assert_false(has_slot(&rig, TSS, &slot));
    assert_false(has_slot(&rig, IDENTITY, &slot));
    assert_false(has_slot(&rig, APIC, &slot));
    assert_int_equal(rig_set(&rig, 0, 0, IDENTITY, 4 * PAGE, 0), 0);
    assert_int_equal(rig_set(&rig, 1, 0, APIC, PAGE, 0), 0);
    rig_free(&rig);
}

static void intel_slots_are_memory_that_users_may_not_cover(void **state)
{
    /* Three pages, one page, and with the first vCPU the APIC's; the guest can write them. */
    struct rig rig = rig_new_without_vcpu(&intel);
    struct gm_soft_slot slot;

    (void)state;
    assert_int_equal(rig_call_number(&rig, KVM_SET_TSS_ADDR, TSS), 0);
    assert_true(has_slot(&rig, TSS + 2 * PAGE, &slot));
    assert_int_equal(slot.slot, 32764);
    assert_int_equal(slot.size_bytes, 3 * PAGE);
    assert_int_equal(set_identity(&rig, 0), 0); /* the default */
    assert_true(has_slot(&rig, IDENTITY, &slot));
    assert_int_equal(slot.slot, 32765);
    assert_false(has_slot(&rig, APIC, &slot));
    rig_add_vcpu(&rig);
    assert_true(has_slot(&rig, APIC, &slot));
    assert_int_equal(slot.slot, 32766);
    assert_int_equal(rig_set(&rig, 0, 0, TSS + 2 * PAGE, PAGE, 0), -EEXIST);
    assert_int_equal(rig_set(&rig, 0x10000, 0, IDENTITY, PAGE, 0), -EEXIST);
    assert_int_equal(rig_set(&rig, 0, 0, APIC - PAGE, 4 * PAGE, 0), -EEXIST);
    assert_int_equal(rig_set(&rig, 32764, 0, 0, PAGE, 0), -EINVAL);
    assert_int_equal(rig_set(&rig, 32766, 0, 0, 0, 0), -EINVAL);
    rig_store(&rig, TSS + 8, 0x1234);
    rig_store(&rig, APIC, 5);
    assert_int_equal(gm_soft_vcpu_set_space(rig.vcpu, 1), 0);
    assert_int_equal(rig_load(&rig, TSS + 8), 0x1234);
    assert_int_equal(rig_load(&rig, APIC), 5);
    rig_free(&rig);
}

static void intel_slots_move_with_what_is_in_them(void **state)
{
    /* Called again the slot moves, and leaves its place to others. Also under a vCPU. */
    struct rig rig = rig_new_without_vcpu(&intel);
    struct gm_soft_slot slot;

    (void)state;
    assert_int_equal(set_identity(&rig, IDENTITY), 0);
    assert_int_equal(set_identity(&rig, 0x10000), 0);
    assert_false(has_slot(&rig, IDENTITY, &slot));
    assert_true(has_slot(&rig, 0x10000, &slot));
    assert_int_equal(rig_call_number(&rig, KVM_SET_TSS_ADDR, TSS), 0);
    rig_add_vcpu(&rig);
    rig_store(&rig, TSS, 99);
    assert_int_equal(rig_call_number(&rig, KVM_SET_TSS_ADDR, 0x20000), 0);
    assert_int_equal(rig_load(&rig, 0x20000), 99);
    assert_int_equal(rig_set(&rig, 0, 0, TSS, 3 * PAGE, 0), 0);
    assert_int_equal(set_identity(&rig, IDENTITY), -EINVAL);
    rig_free(&rig);
}

static void intel_slot_over_a_users_is_eexist(void **state)
{
    /* Nothing is made, in neither address space; an unaligned address is -EINVAL. */
    struct rig rig = rig_new_without_vcpu(&intel);
    struct gm_soft_slot slot;

    (void)state;
    assert_int_equal(rig_call_number(&rig, KVM_SET_TSS_ADDR, 0xffffe000), -EINVAL);
    assert_int_equal(rig_call_number(&rig, KVM_SET_TSS_ADDR, TSS + 0x10), -EINVAL);
    assert_int_equal(set_identity(&rig, 0x10010), -EINVAL);
    assert_int_equal(rig_set(&rig, 0x10000, 0, TSS, PAGE, 0), 0);
    assert_int_equal(rig_call_number(&rig, KVM_SET_TSS_ADDR, TSS), -EEXIST);
    assert_false(gm_soft_find(rig.soft, 0, TSS, &slot));
    assert_int_equal(rig_set(&rig, 0, 0, APIC, PAGE, 0), 0);
    assert_int_equal(gm_soft_vcpu_new(rig.soft, 0, &rig.vcpu), -EEXIST);
    assert_null(rig.vcpu);
    assert_int_equal(rig_set(&rig, 0, 0, APIC, 0, 0), 0);
    rig_add_vcpu(&rig);
    rig_free(&rig);
}

static void intel_slots_without_memory_are_all_or_none(void **state)
{
    /* Each allocation fails once: no half of a pair is left behind, when made and when moved. */
    struct faults faults = {0};
    const struct gm_allocator allocator = faults_allocator(&faults);
    const struct gm_soft_options options = {
        .size = sizeof(options), .allocator = &allocator, .intel_private_slots = true};
    const uint64_t places[] = {TSS, 0x30000};
    struct rig rig = rig_new_without_vcpu(&options);
    struct gm_soft_slot slot;

    (void)state;
    for (unsigned i = 0; i < 2; i++) {
        unsigned failures = 0;

        for (;; failures++) {
            long rc;

            faults_arm(&faults, failures + 1);
            rc = rig_call_number(&rig, KVM_SET_TSS_ADDR, places[i]);
            if (rc == 0) {
                break;
            }
            assert_int_equal(rc, -ENOMEM);
            assert_false(has_slot(&rig, places[i], &slot));
            assert_int_equal(has_slot(&rig, places[1 - i], &slot), i == 1);
        }
        faults_disarm(&faults);
        assert_true(failures > 2);
        assert_true(has_slot(&rig, places[i], &slot));
    }
    rig_free(&rig);
    assert_int_equal(faults_live(&faults), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(amd_addresses_make_no_slots),
        cmocka_unit_test(intel_slots_are_memory_that_users_may_not_cover),
        cmocka_unit_test(intel_slots_move_with_what_is_in_them),
        cmocka_unit_test(intel_slot_over_a_users_is_eexist),
        cmocka_unit_test(intel_slots_without_memory_are_all_or_none),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
