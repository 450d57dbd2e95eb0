/*
 * unit/test_kcore_errno.c - what each change of slots comes to, row by row of what real kernels
 * answered (shared LAB.md's table of KVM_SET_USER_MEMORY_REGION), and what mmu is asked to do for it.
 */
#include "unit/arch.h"

#include "kcore/change.h"

#define MIB UINT64_C(0x100000)
#define HVA UINT64_C(0x7f0000000000)
#define LOG MEMSLOT_LOG
#define READONLY MEMSLOT_READONLY
#define PRIVATE MEMSLOT_GUEST_MEMFD

/* A slot to begin with, as in struct memslot_change. */
struct slot_row {
    uint32_t slot;
    uint32_t flags;
    uint64_t gpa;
    uint64_t size_bytes;
    uint64_t hva;
};

/*
 * The slots that most rows begin with: 1 at 1 MiB, logged, and 2 behind it, read-only. Slot 3 is at
 * 8 MiB, without flags.
 */
static const struct slot_row base_rows[] = {
    {1, LOG, MIB, MIB, HVA},
    {2, READONLY, 2 * MIB, MIB, HVA + MIB},
    {3, 0, 8 * MIB, MIB, HVA + 2 * MIB},
};

struct errno_row {
    const char *name;
    struct slot_row change;
    int expected;
    const char *said; /* of mmu, where it succeeds */
};

#define CREATES "prepare:0.4 commit:0.4:->0 tlb"

static const struct errno_row rows[] = {
    {"create", {4, 0, 16 * MIB, MIB, HVA}, 0, CREATES},
    {"one page", {4, 0, 16 * MIB, 4096, HVA}, 0, CREATES},
    {"size unaligned", {4, 0, 16 * MIB, MIB + 1, HVA}, -EINVAL, ""},
    {"gpa unaligned", {4, 0, 16 * MIB + 2048, MIB, HVA}, -EINVAL, ""},
    {"hva unaligned", {4, 0, 16 * MIB, MIB, HVA + 1}, -EINVAL, ""},
    {"hva of the kernel", {4, 0, 16 * MIB, MIB, UINT64_C(0xffff800000000000)}, -EINVAL, ""},
    {"hva at the end of user space", {4, 0, 16 * MIB, MIB, CHANGE_HVA_END - MIB}, 0, CREATES},
    {"hva a page beyond", {4, 0, 16 * MIB, MIB, CHANGE_HVA_END - MIB + 4096}, -EINVAL, ""},
    {"hva that wraps", {4, 0, 16 * MIB, MIB, UINT64_MAX - 4095}, -EINVAL, ""},
    {"hva 0", {4, 0, 16 * MIB, MIB, 0}, 0, CREATES},
    {"hva of another slot", {4, 0, 16 * MIB, MIB, HVA}, 0, CREATES},
    {"gpa that wraps", {4, 0, UINT64_MAX - 4095, 8192, HVA}, -EINVAL, ""},
    {"gpa that ends at 2^64", {4, 0, UINT64_MAX - 4095, 4096, HVA}, -EINVAL, ""},
    {"gpa 2^52", {4, 0, UINT64_C(1) << 52, 4096, HVA}, -EINVAL, ""},
    {"gpa that ends at 2^52", {4, 0, (UINT64_C(1) << 52) - 4096, 4096, HVA}, 0, CREATES},
    {"gpa that crosses 2^52", {4, 0, (UINT64_C(1) << 52) - 4096, 8192, HVA}, -EINVAL, ""},
    {"size 2^43", {4, 0, UINT64_C(1) << 44, UINT64_C(1) << 43, 0}, -EINVAL, ""},
    {"size 2^43 less a page", {4, 0, UINT64_C(1) << 44, (UINT64_C(1) << 43) - 4096, 0}, 0, CREATES},
    {"slot 32763", {32763, 0, 16 * MIB, MIB, HVA}, 0, "prepare:0.32763 commit:0.32763:->0 tlb"},
    {"slot 32764", {32764, 0, 16 * MIB, MIB, HVA}, -EINVAL, ""},
    {"slot 32767", {32767, 0, 16 * MIB, MIB, HVA}, -EINVAL, ""},
    {"slot 0xffff", {0xffff, 0, 16 * MIB, MIB, HVA}, -EINVAL, ""},
    {"space 1", {0x10004, 0, 16 * MIB, MIB, HVA}, 0, "prepare:1.4 commit:1.4:->0 tlb"},
    {"space 1 where space 0 has slots",
     {0x10001, 0, MIB, 4 * MIB, HVA},
     0,
     "prepare:1.1 commit:1.1:->0 tlb"},
    {"space 2", {0x20000, 0, 16 * MIB, MIB, HVA}, -EINVAL, ""},
    {"flag bit 3", {4, 1u << 3, 16 * MIB, MIB, HVA}, -EINVAL, ""},
    {"flag bit 16", {4, 1u << 16, 16 * MIB, MIB, HVA}, -EINVAL, ""},
    {"flag bit 31", {4, 1u << 31, 16 * MIB, MIB, HVA}, -EINVAL, ""},
    {"log", {4, LOG, 16 * MIB, MIB, HVA}, 0, "prepare:0.4 commit:0.4:->1 tlb"},
    {"readonly", {4, READONLY, 16 * MIB, MIB, HVA}, 0, "prepare:0.4 commit:0.4:->2 tlb"},
    {"log and readonly",
     {4, LOG | READONLY, 16 * MIB, MIB, HVA},
     0,
     "prepare:0.4 commit:0.4:->3 tlb"},
    {"private memory", {4, PRIVATE, 16 * MIB, MIB, HVA}, 0, "prepare:0.4 commit:0.4:->4 tlb"},
    {"private memory, logged", {4, PRIVATE | LOG, 16 * MIB, MIB, HVA}, -EINVAL, ""},
    {"private memory, readonly", {4, PRIVATE | READONLY, 16 * MIB, MIB, HVA}, -EINVAL, ""},
    {"adjacent below", {4, 0, 0, MIB, HVA}, 0, CREATES},
    {"adjacent above", {4, 0, 3 * MIB, 5 * MIB, HVA}, 0, CREATES},
    {"overlap of all", {4, 0, 0, 16 * MIB, HVA}, -EEXIST, ""},
    {"overlap of the same range", {4, 0, 8 * MIB, MIB, HVA}, -EEXIST, ""},
    {"overlap of one page at the start", {4, 0, 0, MIB + 4096, HVA}, -EEXIST, ""},
    {"overlap of one page at the end", {4, 0, 3 * MIB - 4096, MIB, HVA}, -EEXIST, ""},
    {"overlap within", {4, 0, 8 * MIB + 4096, 4096, HVA}, -EEXIST, ""},
    {"overlap, and flags", {4, 1u << 3, MIB, MIB, HVA}, -EINVAL, ""},
    {"overlap, and id", {40000, 0, MIB, MIB, HVA}, -EINVAL, ""},
    {"overlap, and hva", {4, 0, MIB, MIB, HVA + 1}, -EINVAL, ""},

    {"the same again", {1, LOG, MIB, MIB, HVA}, 0, ""},
    {"grow", {3, 0, 8 * MIB, 2 * MIB, HVA + 2 * MIB}, -EINVAL, ""},
    {"shrink", {3, 0, 8 * MIB, 4096, HVA + 2 * MIB}, -EINVAL, ""},
    {"new hva", {3, 0, 8 * MIB, MIB, HVA}, -EINVAL, ""},
    {"readonly on", {3, READONLY, 8 * MIB, MIB, HVA + 2 * MIB}, -EINVAL, ""},
    {"readonly off", {2, 0, 2 * MIB, MIB, HVA + MIB}, -EINVAL, ""},
    {"readonly on, moved", {3, READONLY, 9 * MIB, MIB, HVA + 2 * MIB}, -EINVAL, ""},
    {"private memory on", {3, PRIVATE, 8 * MIB, MIB, HVA + 2 * MIB}, -EINVAL, ""},
    {"log on", {3, LOG, 8 * MIB, MIB, HVA + 2 * MIB}, 0, "commit:0.3:0>1 tlb"},
    {"log off", {1, 0, MIB, MIB, HVA}, 0, "commit:0.1:1>0 tlb"},
    {"move", {3, 0, 16 * MIB, MIB, HVA + 2 * MIB}, 0, "prepare:0.3 flush:0.3 commit:0.3:0>0 tlb"},
    {"move over itself, up",
     {3, 0, 8 * MIB + 4096, MIB, HVA + 2 * MIB},
     0,
     "prepare:0.3 flush:0.3 commit:0.3:0>0 tlb"},
    {"move over itself, down",
     {3, 0, 8 * MIB - 4096, MIB, HVA + 2 * MIB},
     0,
     "prepare:0.3 flush:0.3 commit:0.3:0>0 tlb"},
    {"move and log on",
     {3, LOG, 16 * MIB, MIB, HVA + 2 * MIB},
     0,
     "prepare:0.3 flush:0.3 commit:0.3:0>1 tlb"},
    {"move and log off", {1, 0, 16 * MIB, MIB, HVA}, 0, "prepare:0.1 flush:0.1 commit:0.1:1>0 tlb"},
    {"move onto another", {3, 0, MIB, MIB, HVA + 2 * MIB}, -EEXIST, ""},
    {"move over itself onto another", {1, LOG, MIB + 4096, MIB, HVA}, -EEXIST, ""},
    {"move over itself onto one below", {2, READONLY, 2 * MIB - 4096, MIB, HVA + MIB}, -EEXIST, ""},
    {"move beyond the last gpa", {3, 0, UINT64_C(1) << 52, MIB, HVA + 2 * MIB}, -EINVAL, ""},

    {"delete", {3, 0, 8 * MIB, 0, HVA + 2 * MIB}, 0, "flush:0.3 commit:0.3:0>- tlb"},
    {"delete absent", {4, 0, 0, 0, 0}, -EINVAL, ""},
    {"delete absent, space 1", {0x10003, 0, 0, 0, 0}, -EINVAL, ""},
    {"delete, other gpa and hva", {3, 0, MIB, 0, HVA}, 0, "flush:0.3 commit:0.3:0>- tlb"},
    {"delete, gpa 2^63", {3, 0, UINT64_C(1) << 63, 0, 0}, 0, "flush:0.3 commit:0.3:0>- tlb"},
    {"delete, readonly", {3, READONLY, 0, 0, 0}, 0, "flush:0.3 commit:0.3:0>- tlb"},
    {"delete, gpa unaligned", {3, 0, 1, 0, 0}, -EINVAL, ""},
    {"delete, hva unaligned", {3, 0, 0, 0, 1}, -EINVAL, ""},
    {"delete, hva of the kernel", {3, 0, 0, 0, UINT64_MAX - 4095}, -EINVAL, ""},
    {"delete, bad flags", {3, 1u << 3, 0, 0, 0}, -EINVAL, ""},
    {"delete, bad id", {32764, 0, 0, 0, 0}, -EINVAL, ""},
};

static void check_row(const struct errno_row *row)
{
    struct arch *arch = arch_open();
    const struct slot_row *change = &row->change;
    uint64_t generations[2];
    unsigned long long holds;
    int rc;

    for (size_t i = 0; i < 3; i++) {
        const struct slot_row *slot = &base_rows[i];

        assert_int_equal(
            arch_set(arch, slot->slot, slot->flags, slot->gpa, slot->size_bytes, slot->hva), 0);
    }
    (void)arch_said(arch);
    generations[0] = arch_generation(arch, 0);
    generations[1] = arch_generation(arch, 1);
    holds = atomic_load(&arch->core.holds);
    rc = arch_set(arch, change->slot, change->flags, change->gpa, change->size_bytes, change->hva);
    if (rc != row->expected) {
        print_error("%s: %d\n", row->name, rc);
    }
    assert_int_equal(rc, row->expected);
    if (row->said[0] == '\0') {
        /* Nothing has happened at all. */
        assert_int_equal(arch_generation(arch, 0), generations[0]);
        assert_int_equal(arch_generation(arch, 1), generations[1]);
        assert_int_equal(atomic_load(&arch->core.holds), holds);
        assert_string_equal(arch_said(arch), "");
    } else {
        assert_int_equal(atomic_load(&arch->core.holds), holds + 1);
        assert_string_equal(arch_said(arch), row->said);
    }
    arch_close(arch);
}

static void kcore_change_of_each_row_gives_the_kernels_answer(void **state)
{
    /* The whole table, each row on a VM of its own. */
    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        check_row(&rows[i]);
    }
}

static void kcore_delete_twice_is_refused(void **state)
{
    /* The first delete succeeds, the second finds nothing. */
    struct arch *arch = arch_open();

    (void)state;
    assert_int_equal(arch_set(arch, 5, 0, 0, MIB, HVA), 0);
    assert_int_equal(arch_set(arch, 5, 0, 0, 0, HVA), 0);
    assert_int_equal(arch_set(arch, 5, 0, 0, 0, HVA), -EINVAL);
    arch_close(arch);
}

static void kcore_fewer_bits_refuse_slots_beyond(void **state)
{
    /* With 40 physical bits, as real KVM with nested paging: 2^40 is the end. */
    struct arch arch;
    struct kcore_options options = arch_options(&arch);
    const uint64_t end = UINT64_C(1) << 40;

    (void)state;
    options.gpa_bits = 40;
    assert_int_equal(kcore_init(&arch.core, &options), 0);
    assert_int_equal(arch_set(&arch, 0, 0, end, MIB, HVA), -EINVAL);
    assert_int_equal(arch_set(&arch, 0, 0, end - MIB, 2 * MIB, HVA), -EINVAL);
    assert_int_equal(arch_set(&arch, 0, 0, end - MIB, MIB, HVA), 0);
    /* An overlap is looked for before. */
    assert_int_equal(arch_set(&arch, 1, 0, end - MIB, 2 * MIB, HVA), -EEXIST);
    arch_close(&arch);
}

static void kcore_move_over_itself_onto_the_first_frame_is_refused(void **state)
{
    /* The moved slot itself begins at frame 1, right behind the one that it would meet. */
    struct arch *arch = arch_open();

    (void)state;
    assert_int_equal(arch_set(arch, 0, 0, 0, 4096, HVA), 0);
    assert_int_equal(arch_set(arch, 1, 0, 4096, 8192, HVA), 0);
    assert_int_equal(arch_set(arch, 1, 0, 0, 8192, HVA), -EEXIST);
    assert_int_equal(kcore_slot_by_id(&arch->core, 1)->base.value, 1);
    arch_close(arch);
}

static void kcore_one_space_refuses_the_second(void **state)
{
    /* A VM without SMM: address space 1 is EINVAL everywhere. */
    struct arch arch;
    struct kcore_options options = arch_options(&arch);
    uint64_t word;

    (void)state;
    options.spaces = 1;
    assert_int_equal(kcore_init(&arch.core, &options), 0);
    assert_int_equal(arch_set(&arch, 0x10000, 0, 0, MIB, HVA), -EINVAL);
    assert_int_equal(kcore_log_get(&arch.core, 0x10000, &word, 1), -EINVAL);
    arch_close(&arch);
}

static void kcore_tables_that_cannot_map_refuse_the_slot(void **state)
{
    /* What mmu answers is the answer, and nothing else has changed. */
    struct arch *arch = arch_open();
    uint64_t generation = arch_generation(arch, 0);

    (void)state;
    arch->prepare_result = -EINVAL;
    assert_int_equal(arch_set(arch, 0, LOG, 0, MIB, HVA), -EINVAL);
    arch->prepare_result = 0;
    assert_int_equal(arch_generation(arch, 0), generation);
    assert_null(arch_find(arch, 0, 0));
    arch_close(arch);
}

static int set_private(struct arch *arch, uint32_t slot, uint64_t gpa, uint64_t size_bytes)
{
    struct memslot_change change = {.slot = slot, .gpa = gpa, .size_bytes = size_bytes, .hva = HVA};

    return kcore_apply_private(&arch->core, &change, 1);
}

static void kcore_private_slots_are_the_users_neighbours(void **state)
{
    /* Their ids are not the user's, nor the user's theirs; but they share the addresses. */
    struct arch *arch = arch_open();

    (void)state;
    assert_int_equal(set_private(arch, 32763, 0, MIB), -EINVAL);
    assert_int_equal(set_private(arch, 32767, 0, MIB), -EINVAL);
    assert_int_equal(set_private(arch, 32764, 4 * MIB, MIB), 0);
    assert_int_equal(set_private(arch, 0x10000 + 32766, 4 * MIB, MIB), 0);
    assert_int_equal(arch_set(arch, 0, 0, 0, 8 * MIB, HVA), -EEXIST);
    assert_int_equal(arch_set(arch, 32764, 0, 0, 0, HVA), -EINVAL);
    assert_int_equal(arch_set(arch, 0, 0, 0, 4 * MIB, HVA), 0);
    assert_int_equal(set_private(arch, 32765, MIB, 4096), -EEXIST);
    assert_int_equal(arch_find(arch, 0, 1024)->id, 32764);
    assert_int_equal(set_private(arch, 32764, 0, 0), 0);
    assert_null(arch_find(arch, 0, 1024));
    arch_close(arch);
}

static int owner;

static int set_guest_memfd(struct arch *arch, uint32_t slot, uint64_t gpa, uint64_t private_hva)
{
    struct memslot_change change = {.slot = slot,
                                    .flags = PRIVATE,
                                    .gpa = gpa,
                                    .size_bytes = MIB,
                                    .hva = HVA,
                                    .private_hva = private_hva,
                                    .private_owner = &owner};

    return kcore_apply(&arch->core, &change, 1, NULL);
}

static void kcore_slot_with_private_memory_can_only_be_deleted(void **state)
{
    /* Neither the same change nor another; once it has gone, its owner is told. */
    struct arch *arch = arch_open();

    (void)state;
    assert_int_equal(set_guest_memfd(arch, 1, 0, HVA + 1), -EINVAL);
    assert_int_equal(set_guest_memfd(arch, 1, 0, CHANGE_HVA_END), -EINVAL);
    assert_int_equal(set_guest_memfd(arch, 1, 0, UINT64_MAX - 4095), -EINVAL);
    assert_int_equal(atomic_load(&arch->privates_gone), 0);
    assert_int_equal(set_guest_memfd(arch, 1, 0, HVA + MIB), 0);
    assert_int_equal(arch_find(arch, 0, 5)->private_hva.value, HVA + MIB);
    assert_int_equal(set_guest_memfd(arch, 1, 0, HVA + MIB), -EINVAL);
    assert_int_equal(set_guest_memfd(arch, 1, MIB, HVA + MIB), -EINVAL);
    assert_int_equal(arch_set(arch, 1, 0, 0, MIB, HVA), -EINVAL);
    assert_int_equal(arch_set(arch, 1, 0, MIB, MIB, HVA), -EINVAL);
    assert_int_equal(arch_set(arch, 1, 0, 0, 0, HVA), 0);
    rcu_domain_drain(arch->core.deferred);
    assert_int_equal(atomic_load(&arch->privates_gone), 1);
    assert_ptr_equal(arch->last_private, &owner);
    arch_close(arch);
}

static void kcore_options_out_of_range_are_refused(void **state)
{
    /* Each limit, one beyond it. */
    struct arch arch;
    struct kcore_options options;

    (void)state;
    for (int i = 0; i < 6; i++) {
        options = arch_options(&arch);
        options.spaces = i == 0 ? 0 : i == 1 ? 3 : options.spaces;
        options.gpa_bits = i == 2 ? 35 : i == 3 ? 53 : options.gpa_bits;
        options.generation_bits = i == 4 ? 0 : i == 5 ? 64 : options.generation_bits;
        assert_int_equal(kcore_init(&arch.core, &options), -EINVAL);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(kcore_change_of_each_row_gives_the_kernels_answer),
        cmocka_unit_test(kcore_delete_twice_is_refused),
        cmocka_unit_test(kcore_fewer_bits_refuse_slots_beyond),
        cmocka_unit_test(kcore_move_over_itself_onto_the_first_frame_is_refused),
        cmocka_unit_test(kcore_one_space_refuses_the_second),
        cmocka_unit_test(kcore_tables_that_cannot_map_refuse_the_slot),
        cmocka_unit_test(kcore_private_slots_are_the_users_neighbours),
        cmocka_unit_test(kcore_slot_with_private_memory_can_only_be_deleted),
        cmocka_unit_test(kcore_options_out_of_range_are_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
