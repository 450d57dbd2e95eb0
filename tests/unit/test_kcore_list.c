/*
 * unit/test_kcore_list.c - lists of changes: all or none, what they come to for each slot, and in which
 * order mmu and followers are told.
 */
#include "unit/arch.h"

#define MIB UINT64_C(0x100000)
#define HVA UINT64_C(0x7f0000000000)
#define LOG MEMSLOT_LOG
#define COUNT(list) (sizeof(list) / sizeof((list)[0]))

#define SET(id, with, at, size)                                                                    \
    {                                                                                              \
        .slot = (id), .flags = (with), .gpa = (at), .size_bytes = (size), .hva = HVA               \
    }
#define DELETE(id) SET(id, 0, 0, 0)

static void apply(struct arch *arch, const struct memslot_change *list, size_t count)
{
    size_t failed = 77;

    assert_int_equal(kcore_apply(&arch->core, list, count, &failed), 0);
    assert_int_equal(failed, 77);
}

static void apply_fails(struct arch *arch, const struct memslot_change *list, size_t count,
                        int expected, size_t at)
{
    uint64_t generation = arch_generation(arch, 0);
    size_t failed = 77;

    assert_int_equal(kcore_apply(&arch->core, list, count, &failed), expected);
    assert_int_equal(failed, at);
    assert_int_equal(arch_generation(arch, 0), generation);
}

/* Slots 1, 2 and 3, a MiB each, at 1, 2 and 3 MiB; 2 is logged. */
static struct arch *open_three(void)
{
    const struct memslot_change list[] = {SET(1, 0, MIB, MIB), SET(2, LOG, 2 * MIB, MIB),
                                          SET(3, 0, 3 * MIB, MIB)};
    struct arch *arch = arch_open();

    apply(arch, list, COUNT(list));
    (void)arch_said(arch);
    return arch;
}

static void list_empty_does_nothing(void **state)
{
    /* No change: no hold, no generation. */
    struct arch *arch = open_three();
    unsigned long long holds = atomic_load(&arch->core.holds);

    (void)state;
    apply(arch, NULL, 0);
    assert_int_equal(atomic_load(&arch->core.holds), holds);
    arch_close(arch);
}

static void list_of_creates_is_one_version(void **state)
{
    /* Three slots, one generation, one hold. */
    const struct memslot_change list[] = {SET(1, 0, MIB, MIB), SET(2, 0, 2 * MIB, MIB),
                                          SET(3, 0, 3 * MIB, MIB)};
    struct arch *arch = arch_open();
    uint64_t generation = arch->core.generation;

    (void)state;
    apply(arch, list, COUNT(list));
    assert_int_equal(arch_generation(arch, 0), generation + 1);
    assert_int_equal(atomic_load(&arch->core.holds), 1);
    assert_string_equal(arch_said(arch), "prepare:0.1 prepare:0.2 prepare:0.3 commit:0.1:->0 "
                                         "commit:0.2:->0 commit:0.3:->0 tlb");
    arch_close(arch);
}

static void list_swap_of_two_slots_is_one_step(void **state)
{
    /* Two slots change places by way of a third: both are flushed before either is there again. */
    const struct memslot_change list[] = {SET(1, 0, 16 * MIB, MIB), SET(3, 0, MIB, MIB),
                                          SET(1, 0, 3 * MIB, MIB)};
    struct arch *arch = open_three();
    uint64_t generation = arch->core.generation;

    (void)state;
    apply(arch, list, COUNT(list));
    assert_string_equal(arch_said(arch), "prepare:0.1 prepare:0.3 prepare:0.1 flush:0.1 flush:0.3 "
                                         "commit:0.1:0>0 commit:0.3:0>0 tlb");
    assert_int_equal(arch->core.generation, generation + 2); /* the invalid step, and the last */
    assert_int_equal(arch_find(arch, 0, 0x100)->id, 3);
    assert_int_equal(arch_find(arch, 0, 0x300)->id, 1);
    assert_null(arch_find(arch, 0, 0x1000));
    arch_close(arch);
}

static void list_that_fails_changes_nothing(void **state)
{
    /* The third change fails: the first two have not been. */
    const struct memslot_change overlap[] = {DELETE(1), SET(4, LOG, MIB, MIB),
                                             SET(5, 0, 0, 8 * MIB)};
    const struct memslot_change absent[] = {SET(3, LOG, 3 * MIB, MIB), DELETE(9)};
    const struct memslot_change bad[] = {SET(2, LOG, 16 * MIB, MIB), DELETE(2), DELETE(2)};
    struct arch *arch = open_three();
    const struct memslot *slots[4];

    (void)state;
    for (unsigned i = 1; i <= 3; i++) {
        slots[i] = arch_find(arch, 0, 0x100 * i);
    }
    apply_fails(arch, overlap, COUNT(overlap), -EEXIST, 2);
    apply_fails(arch, absent, COUNT(absent), -EINVAL, 1);
    apply_fails(arch, bad, COUNT(bad), -EINVAL, 2);
    for (unsigned i = 1; i <= 3; i++) {
        assert_ptr_equal(arch_find(arch, 0, 0x100 * i), slots[i]);
        assert_ptr_equal(kcore_slot_by_id(&arch->core, i), slots[i]);
    }
    arch_close(arch);
}

static void list_sees_the_changes_before(void **state)
{
    /* What a delete makes free may be taken, and what a create has taken may not. */
    const struct memslot_change frees[] = {DELETE(1), SET(4, 0, MIB, MIB), SET(4, LOG, MIB, MIB),
                                           SET(1, 0, 0, MIB)};
    const struct memslot_change takes[] = {SET(5, 0, 8 * MIB, MIB), SET(6, 0, 8 * MIB, MIB)};
    struct arch *arch = open_three();

    (void)state;
    apply(arch, frees, COUNT(frees));
    assert_string_equal(arch_said(arch), "prepare:0.4 prepare:0.1 flush:0.1 commit:0.1:0>- "
                                         "commit:0.1:->0 commit:0.4:->1 tlb");
    apply_fails(arch, takes, COUNT(takes), -EEXIST, 1);
    arch_close(arch);
}

static void list_create_then_delete_is_nothing(void **state)
{
    /* The slot never was; another change of the list is made all the same. */
    const struct memslot_change nothing[] = {SET(4, LOG, 8 * MIB, MIB), DELETE(4)};
    const struct memslot_change more[] = {SET(4, 0, 8 * MIB, MIB), DELETE(4), SET(5, 0, 0, MIB)};
    struct arch *arch = open_three();
    unsigned long long holds = atomic_load(&arch->core.holds);
    uint64_t generation = arch->core.generation;

    (void)state;
    apply(arch, nothing, COUNT(nothing));
    assert_string_equal(arch_said(arch), "prepare:0.4");
    assert_int_equal(arch->core.generation, generation);
    assert_int_equal(atomic_load(&arch->core.holds), holds);
    apply(arch, more, COUNT(more));
    assert_string_equal(arch_said(arch), "prepare:0.4 prepare:0.5 commit:0.5:->0 tlb");
    arch_close(arch);
}

static void list_changed_and_changed_back_is_nothing(void **state)
{
    /* Away and back, log on and off: the very version that was there stays, with its log. */
    const struct memslot_change away[] = {SET(1, 0, 16 * MIB, MIB), SET(1, 0, MIB, MIB)};
    const struct memslot_change flags[] = {SET(2, 0, 2 * MIB, MIB), SET(2, LOG, 2 * MIB, MIB)};
    struct arch *arch = open_three();
    const struct memslot *first = arch_find(arch, 0, 0x100);
    const struct memslot *second = arch_find(arch, 0, 0x200);
    uint64_t generation = arch->core.generation;

    (void)state;
    apply(arch, away, COUNT(away));
    apply(arch, flags, COUNT(flags));
    assert_string_equal(arch_said(arch), "prepare:0.1 prepare:0.1");
    assert_ptr_equal(arch_find(arch, 0, 0x100), first);
    assert_ptr_equal(arch_find(arch, 0, 0x200), second);
    assert_int_equal(arch->core.generation, generation);
    arch_close(arch);
}

static void list_moved_back_with_other_flags_keeps_its_tables(void **state)
{
    /* As a whole it is a change of flags: what mmu keeps about the slot is that of before. */
    const struct memslot_change list[] = {SET(1, 0, 16 * MIB, MIB), SET(1, LOG, MIB, MIB)};
    struct arch *arch = open_three();
    void *arch_before = arch_find(arch, 0, 0x100)->arch;

    (void)state;
    apply(arch, list, COUNT(list));
    assert_string_equal(arch_said(arch), "prepare:0.1 prepare:0.1 commit:0.1:0>1 tlb");
    assert_ptr_equal(arch_find(arch, 0, 0x100)->arch, arch_before);
    arch_close(arch);
}

static void list_delete_then_create_is_a_new_slot(void **state)
{
    /* With a fresh log, though all else is as it was. */
    const struct memslot_change list[] = {DELETE(2), SET(2, LOG, 2 * MIB, MIB)};
    struct arch *arch = open_three();
    const struct memslot *before = arch_find(arch, 0, 0x200);
    uint64_t words[4];

    (void)state;
    assert_true(kcore_mark_dirty(&arch->core, NULL, before, (struct gfn){0x207}));
    rcu_enter(); /* `before` is looked at below */
    apply(arch, list, COUNT(list));
    assert_string_equal(arch_said(arch), "prepare:0.2 flush:0.2 commit:0.2:1>- commit:0.2:->1 tlb");
    assert_ptr_not_equal(arch_find(arch, 0, 0x200)->log, before->log);
    assert_ptr_not_equal(arch_find(arch, 0, 0x200)->arch, before->arch);
    rcu_leave();
    assert_int_equal(kcore_log_get(&arch->core, 2, words, 4), 0);
    assert_int_equal(words[0], 0);
    arch_close(arch);
}

static void list_across_spaces_is_one_hold(void **state)
{
    /* Each space has its own new version, with a generation of its own. */
    const struct memslot_change list[] = {SET(1, LOG, MIB, MIB), SET(0x10001, 0, MIB, MIB)};
    struct arch *arch = open_three();
    unsigned long long holds = atomic_load(&arch->core.holds);
    uint64_t generation = arch->core.generation;

    (void)state;
    apply(arch, list, COUNT(list));
    assert_string_equal(arch_said(arch), "prepare:1.1 commit:0.1:0>1 commit:1.1:->0 tlb");
    assert_int_equal(arch_generation(arch, 0), generation + 1);
    assert_int_equal(arch_generation(arch, 1), generation + 2);
    assert_int_equal(atomic_load(&arch->core.holds), holds + 1);
    arch_close(arch);
}

/* The invalid step, seen from within: slot 3, which is not touched, is as always. */
static void look_at_invalid_step(struct arch *arch, const struct memslot *slot)
{
    const struct memslots *slots = kcore_slots(&arch->core, 0);

    assert_int_equal(slots->count, 3);
    assert_int_equal(slots->invalid_count, 2);
    assert_true(arch_find(arch, 0, 0x100)->flags == MEMSLOT_INVALID);
    assert_true(arch_find(arch, 0, 0x200)->flags == (MEMSLOT_INVALID | LOG));
    assert_int_equal(arch_find(arch, 0, 0x300)->flags, 0);
    assert_null(arch_find(arch, 0, 0x1000));
    (void)slot;
}

static void list_invalid_step_shows_all_that_goes(void **state)
{
    /* A delete and a move: while mmu unmaps either, both say so, and what is new is not there. */
    const struct memslot_change list[] = {SET(2, LOG, 16 * MIB, MIB), DELETE(1),
                                          SET(3, LOG, 3 * MIB, MIB)};
    struct arch *arch = open_three();

    (void)state;
    arch->on_flush = look_at_invalid_step;
    apply(arch, list, COUNT(list));
    assert_string_equal(arch_said(arch), "prepare:0.2 flush:0.1 flush:0.2 commit:0.2:1>1 "
                                         "commit:0.1:0>- commit:0.3:0>1 tlb");
    arch_close(arch);
}

struct follower {
    struct kcore_follower base;
    struct arch *arch;
    int number;
};

static void on_created(void *opaque, const struct memslot *slot)
{
    struct follower *follower = opaque;

    arch_check_held(follower->arch);
    arch_say(follower->arch, "c%d:%u.%u ", follower->number, slot->space, slot->id);
}

static void on_removing(void *opaque, const struct memslot *slot)
{
    struct follower *follower = opaque;

    arch_check_held(follower->arch);
    assert_int_equal(slot->flags & MEMSLOT_INVALID, 0);
    arch_say(follower->arch, "r%d:%u.%u ", follower->number, slot->space, slot->id);
}

static void on_flags_changed(void *opaque, const struct memslot *slot)
{
    struct follower *follower = opaque;

    arch_check_held(follower->arch);
    arch_say(follower->arch, "f%d:%u.%u:%x ", follower->number, slot->space, slot->id, slot->flags);
}

static struct follower follower_of(struct arch *arch, int number)
{
    return (struct follower){
        .base = {.created = on_created, .removing = on_removing, .flags_changed = on_flags_changed},
        .arch = arch,
        .number = number,
    };
}

static void follower_is_told_what_is_there(void **state)
{
    /* As it comes, and as it goes: by address, the first space first. */
    struct arch *arch = open_three();
    struct follower follower = follower_of(arch, 1);

    (void)state;
    follower.base.opaque = &follower;
    assert_int_equal(arch_set(arch, 0x10007, 0, 0, MIB, HVA), 0);
    (void)arch_said(arch);
    kcore_follow(&arch->core, &follower.base);
    assert_string_equal(arch_said(arch), "c1:0.1 c1:0.2 c1:0.3 c1:1.7");
    kcore_unfollow(&arch->core, &follower.base);
    assert_string_equal(arch_said(arch), "r1:0.1 r1:0.2 r1:0.3 r1:1.7");
    arch_close(arch);
}

static void followers_are_told_in_order_around_the_flush(void **state)
{
    /* Removing before mmu unmaps, created when the slot can be found; each by all followers in turn. */
    const struct memslot_change list[] = {DELETE(1), SET(2, LOG, 16 * MIB, MIB),
                                          SET(3, LOG, 3 * MIB, MIB), SET(4, 0, MIB, MIB)};
    struct arch *arch = open_three();
    struct follower followers[2] = {follower_of(arch, 1), follower_of(arch, 2)};

    (void)state;
    for (int i = 0; i < 2; i++) {
        followers[i].base.opaque = &followers[i];
        kcore_follow(&arch->core, &followers[i].base);
    }
    (void)arch_said(arch);
    apply(arch, list, COUNT(list));
    assert_string_equal(arch_said(arch),
                        "prepare:0.2 prepare:0.4 r1:0.1 r2:0.1 r1:0.2 r2:0.2 flush:0.1 flush:0.2 "
                        "commit:0.1:0>- commit:0.2:1>1 c1:0.2 c2:0.2 commit:0.3:0>1 f1:0.3:1 "
                        "f2:0.3:1 commit:0.4:->0 c1:0.4 c2:0.4 tlb");
    kcore_unfollow(&arch->core, &followers[0].base);
    (void)arch_said(arch);
    assert_int_equal(arch_set(arch, 4, 0, 0, 0, 0), 0);
    assert_string_equal(arch_said(arch), "r2:0.4 flush:0.4 commit:0.4:0>- tlb");
    kcore_unfollow(&arch->core, &followers[1].base);
    arch_close(arch);
}

static void follower_without_callbacks_is_passed_over(void **state)
{
    /* Each of the three may be NULL. */
    struct kcore_follower follower = {.created = NULL};
    struct arch *arch = open_three();

    (void)state;
    kcore_follow(&arch->core, &follower);
    assert_int_equal(arch_set(arch, 1, LOG, MIB, MIB, HVA), 0);
    assert_int_equal(arch_set(arch, 1, LOG, 0, MIB, HVA), 0);
    kcore_unfollow(&arch->core, &follower);
    arch_close(arch);
}

static void list_private_memory_that_never_was_is_given_back(void **state)
{
    /* The list was taken, so its owner is told, also where the slot came and went within it. */
    struct memslot_change list[] = {SET(4, MEMSLOT_GUEST_MEMFD, 8 * MIB, MIB), DELETE(4),
                                    SET(5, 0, 0, MIB)};
    struct arch *arch = open_three();

    (void)state;
    list[0].private_hva = HVA + MIB;
    list[0].private_owner = arch;
    apply(arch, list, 2);
    assert_int_equal(atomic_load(&arch->privates_gone), 1);
    apply(arch, list, 3);
    rcu_domain_drain(arch->core.deferred);
    assert_int_equal(atomic_load(&arch->privates_gone), 2);
    list[2].gpa = 1; /* the list fails: memory is still the caller's */
    apply_fails(arch, list, 3, -EINVAL, 2);
    rcu_domain_drain(arch->core.deferred);
    assert_int_equal(atomic_load(&arch->privates_gone), 2);
    arch_close(arch);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(list_empty_does_nothing),
        cmocka_unit_test(list_of_creates_is_one_version),
        cmocka_unit_test(list_swap_of_two_slots_is_one_step),
        cmocka_unit_test(list_that_fails_changes_nothing),
        cmocka_unit_test(list_sees_the_changes_before),
        cmocka_unit_test(list_create_then_delete_is_nothing),
        cmocka_unit_test(list_changed_and_changed_back_is_nothing),
        cmocka_unit_test(list_moved_back_with_other_flags_keeps_its_tables),
        cmocka_unit_test(list_delete_then_create_is_a_new_slot),
        cmocka_unit_test(list_across_spaces_is_one_hold),
        cmocka_unit_test(list_invalid_step_shows_all_that_goes),
        cmocka_unit_test(follower_is_told_what_is_there),
        cmocka_unit_test(followers_are_told_in_order_around_the_flush),
        cmocka_unit_test(follower_without_callbacks_is_passed_over),
        cmocka_unit_test(list_private_memory_that_never_was_is_given_back),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
