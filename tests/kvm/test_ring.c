/* tests/kvm/test_ring.c - dirty rings: what is asked for, what is refused, and that each page is harvested once. */
#include "pages.h"

#include <guestmem/soft.h>
#include <guestmem/soft_ioctl.h>

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#define CLIENT 1u

#define NEEDS_RING(pages)                                                                          \
    do {                                                                                           \
        GUEST_NEEDS_KVM();                                                                         \
        if (!pages_init(pages, PAGES_LOG_RING)) {                                                  \
            skip();                                                                                \
        }                                                                                          \
    } while (0)

/* Sync, and harvest and commit all. Return: how many pages there were. */
static uint64_t harvest(struct pages *pages)
{
    struct gm_harvest *harvest;
    uint64_t count;

    assert_int_equal(gm_region_log_sync(pages->region, 0, PAGES_COUNT * 4096u), 0);
    assert_int_equal(gm_harvest_begin(pages->ram, CLIENT, 0, gm_ram_size(pages->ram), &harvest), 0);
    count = gm_harvest_page_count(harvest);
    gm_harvest_commit(harvest);
    return count;
}

static uint64_t full_count(const struct pages *pages)
{
    struct gm_vcpu_stats stats;

    gm_vcpu_stats(pages->guest.vcpu, &stats);
    return stats.rings_full;
}

static void ring_of_odd_size_is_refused(void **state)
{
    /* The kernel wants a power of two, and so do we, with a sentence. */
    struct gm_vm_options options = {.size = sizeof(options), .accel = guest_accel};
    const uint32_t bad[] = {1, 32, 1000, 1025, UINT32_MAX};
    struct gm_diag diag = {0};
    struct gm_vm *vm;

    (void)state;
    for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        options.dirty_ring_entries = bad[i];
        assert_int_equal(gm_vm_open(&options, &vm, &diag), -EINVAL);
        assert_non_null(strstr(diag.text, "power of two"));
    }
}

static void ring_beyond_the_hypervisors_limit_is_refused(void **state)
{
    /* As many entries as fit into 32 bits of bytes are more than any kernel takes. */
    struct gm_vm_options options = {
        .size = sizeof(options), .accel = guest_accel, .dirty_ring_entries = 1u << 27};
    struct gm_diag diag = {0};
    struct gm_vm *vm;
    int rc;

    (void)state;
    GUEST_NEEDS_KVM();
    rc = gm_vm_open(&options, &vm, &diag);
    if (rc == -EOPNOTSUPP) {
        skip();
    }
    assert_int_equal(rc, -EINVAL);
    assert_non_null(strstr(diag.text, "at most"));
}

static void ring_that_fills_is_emptied_and_the_guest_goes_on(void **state)
{
    /* Twice as many pages as the ring has entries, and nobody harvests until the end. */
    struct pages pages;

    (void)state;
    NEEDS_RING(&pages);
    guest_set_log(pages.guest.vm, pages.region, CLIENT, true);
    pages_program(&pages, PAGES_COUNT);
    guest_run_to_hlt(&pages.guest);
    assert_true(full_count(&pages) > 0);
    assert_int_equal(harvest(&pages), PAGES_COUNT);
    pages_fini(&pages);
}

static void ring_harvest_has_what_was_written_since_the_last(void **state)
{
    /* Pages are protected again by each harvest, and only those that are written come again. */
    struct pages pages;

    (void)state;
    NEEDS_RING(&pages);
    guest_set_log(pages.guest.vm, pages.region, CLIENT, true);
    for (unsigned i = 0; i < 3; i++) {
        pages_program(&pages, 100);
        guest_run_to_hlt(&pages.guest);
        assert_int_equal(harvest(&pages), 100);
        assert_int_equal(harvest(&pages), 0);
    }
    assert_int_equal(full_count(&pages), 0);
    pages_fini(&pages);
}

static void ring_is_drained_before_its_log_ends(void **state)
{
    /* One client's log goes off and on, while another records by itself: the pages in the ring are its. */
    struct gm_harvest *harvest_of_own;
    struct pages pages;

    (void)state;
    NEEDS_RING(&pages);
    assert_int_equal(gm_ram_dirty_begin(pages.ram, 3), 0);
    guest_set_log(pages.guest.vm, pages.region, CLIENT, true);
    pages_program(&pages, 50);
    guest_run_to_hlt(&pages.guest);
    guest_set_log(pages.guest.vm, pages.region, CLIENT, false);
    assert_int_equal(gm_harvest_begin(pages.ram, 3, 0, gm_ram_size(pages.ram), &harvest_of_own), 0);
    assert_int_equal(gm_harvest_page_count(harvest_of_own), 50);
    gm_harvest_commit(harvest_of_own);
    assert_int_equal(gm_ram_dirty_end(pages.ram, 3), 0);
    pages_fini(&pages);
}

static void ring_is_drained_before_its_slot_goes(void **state)
{
    /* The region is hidden with its pages in the ring, and its number is used again by another. */
    struct gm_harvest *last;
    struct gm_region *other;
    struct pages pages;

    (void)state;
    NEEDS_RING(&pages);
    guest_set_log(pages.guest.vm, pages.region, CLIENT, true);
    pages_program(&pages, 70);
    guest_run_to_hlt(&pages.guest);
    guest_set_enabled(pages.region, false);
    other = guest_add_ram(&pages.guest, "other", PAGES_GPA, PAGES_COUNT * 4096u);
    guest_set_log(pages.guest.vm, other, CLIENT, true);
    assert_int_equal(gm_harvest_begin(pages.ram, CLIENT, 0, gm_ram_size(pages.ram), &last), 0);
    assert_int_equal(gm_harvest_page_count(last), 70);
    gm_harvest_commit(last);
    assert_int_equal(gm_region_log_sync(other, 0, PAGES_COUNT * 4096u), 0);
    assert_int_equal(gm_harvest_begin(gm_region_ram(other), CLIENT, 0, PAGES_COUNT * 4096u, &last),
                     0);
    assert_int_equal(gm_harvest_page_count(last), 0);
    gm_harvest_commit(last);
    gm_region_put(other);
    pages_fini(&pages);
}

static void ring_of_a_vcpu_that_goes_is_drained(void **state)
{
    /* Nobody can look into it afterwards. */
    struct pages pages;

    (void)state;
    NEEDS_RING(&pages);
    guest_set_log(pages.guest.vm, pages.region, CLIENT, true);
    pages_program(&pages, 30);
    guest_run_to_hlt(&pages.guest);
    gm_vcpu_free(pages.guest.vcpu);
    pages.guest.vcpu = NULL;
    assert_int_equal(harvest(&pages), 30);
    pages_fini(&pages);
}

/* A VM that its owner made, with rings, and one vCPU. */
struct owner {
    int system_fd;
    int vm_fd;
    int vcpu_fd;
    size_t run_bytes;
    struct kvm_run *run;
};

/* Return: false: no rings on this kernel. */
static bool owner_init(struct owner *owner, uint32_t entries)
{
    struct kvm_enable_cap enable = {.cap = KVM_CAP_DIRTY_LOG_RING,
                                    .args = {(uint64_t)entries * sizeof(struct kvm_dirty_gfn)}};

    owner->system_fd = open("/dev/kvm", O_RDWR | O_CLOEXEC);
    owner->vm_fd = ioctl(owner->system_fd, KVM_CREATE_VM, 0);
    assert_true(owner->vm_fd >= 0);
    if (ioctl(owner->vm_fd, KVM_ENABLE_CAP, &enable) != 0) {
        close(owner->vm_fd);
        close(owner->system_fd);
        return false;
    }
    owner->run_bytes = (size_t)ioctl(owner->system_fd, KVM_GET_VCPU_MMAP_SIZE, NULL);
    owner->vcpu_fd = ioctl(owner->vm_fd, KVM_CREATE_VCPU, 0);
    assert_true(owner->vcpu_fd >= 0);
    owner->run =
        mmap(NULL, owner->run_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, owner->vcpu_fd, 0);
    assert_true(owner->run != MAP_FAILED);
    return true;
}

static void owner_fini(struct owner *owner)
{
    munmap(owner->run, owner->run_bytes);
    close(owner->vcpu_fd);
    close(owner->vm_fd);
    close(owner->system_fd);
}

static void attach_to_rings_needs_their_size(void **state)
{
    /* KVM does not tell it; without it there would be neither logs nor rings. */
    struct gm_vm_options options = {.size = sizeof(options)};
    struct gm_diag diag = {0};
    struct gm_vcpu *vcpu;
    struct owner owner;
    struct gm_vm *vm;

    (void)state;
    GUEST_NEEDS_DEV_KVM();
    if (!owner_init(&owner, PAGES_RING_ENTRIES)) {
        skip();
    }
    assert_int_equal(gm_vm_attach(owner.system_fd, owner.vm_fd, &options, &vm, &diag), -EINVAL);
    assert_non_null(strstr(diag.text, "dirty_ring_entries"));
    for (uint32_t entries = PAGES_RING_ENTRIES / 2; entries <= PAGES_RING_ENTRIES * 2;
         entries *= 2) {
        int expected = entries == PAGES_RING_ENTRIES ? 0 : -EINVAL;

        options.dirty_ring_entries = entries;
        assert_int_equal(gm_vm_attach(owner.system_fd, owner.vm_fd, &options, &vm, &diag), 0);
        assert_int_equal(gm_vcpu_attach(vm, owner.vcpu_fd, owner.run, NULL, NULL, &vcpu, &diag),
                         expected);
        assert_int_equal(gm_vm_close(vm, &diag), 0);
    }
    owner_fini(&owner);
}

static void own_loop_empties_the_ring_by_handle_exit(void **state)
{
    /* The owner's VM, its rings and its loop: a full ring is one more exit that is answered. */
    struct gm_vm_options options = {.size = sizeof(options),
                                    .dirty_ring_entries = PAGES_RING_ENTRIES};
    struct owner owner;
    struct pages pages;
    struct gm_vm *vm;

    (void)state;
    GUEST_NEEDS_DEV_KVM();
    if (!owner_init(&owner, PAGES_RING_ENTRIES)) {
        skip();
    }
    assert_int_equal(gm_vm_attach(owner.system_fd, owner.vm_fd, &options, &vm, NULL), 0);
    guest_init_in(&pages.guest, vm);
    assert_int_equal(
        gm_vcpu_attach(vm, owner.vcpu_fd, owner.run, NULL, NULL, &pages.guest.vcpu, NULL), 0);
    pages_add(&pages);
    guest_set_log(vm, pages.region, CLIENT, true);
    pages_program(&pages, PAGES_COUNT);
    do {
        gm_vcpu_enter(pages.guest.vcpu);
        assert_int_equal(ioctl(owner.vcpu_fd, KVM_RUN, NULL), 0);
        gm_vcpu_leave(pages.guest.vcpu);
    } while (gm_vcpu_handle_exit(pages.guest.vcpu, owner.run, NULL) == 1);
    assert_int_equal(owner.run->exit_reason, KVM_EXIT_HLT);
    assert_true(full_count(&pages) > 0);
    assert_int_equal(harvest(&pages), PAGES_COUNT);
    pages_fini(&pages);
    owner_fini(&owner);
}

static void attach_again_finds_the_front_of_the_ring(void **state)
{
    /* The rings outlive the first attach, and nobody tells the second how far they were read. */
    struct gm_vm_options options = {.size = sizeof(options),
                                    .dirty_ring_entries = PAGES_RING_ENTRIES};
    struct owner owner;

    (void)state;
    GUEST_NEEDS_DEV_KVM();
    if (!owner_init(&owner, PAGES_RING_ENTRIES)) {
        skip();
    }
    for (uint32_t count = 100; count <= 300; count += 100) {
        struct pages pages;
        struct gm_vm *vm;

        assert_int_equal(gm_vm_attach(owner.system_fd, owner.vm_fd, &options, &vm, NULL), 0);
        guest_init_in(&pages.guest, vm);
        assert_int_equal(
            gm_vcpu_attach(vm, owner.vcpu_fd, owner.run, NULL, NULL, &pages.guest.vcpu, NULL), 0);
        pages_add(&pages);
        guest_set_log(vm, pages.region, CLIENT, true);
        assert_int_equal(harvest(&pages), 0);
        pages_program(&pages, count);
        guest_run_to_hlt(&pages.guest);
        assert_int_equal(harvest(&pages), count);
        pages_fini(&pages);
    }
    owner_fini(&owner);
}

static void soft_loop_empties_the_ring_by_its_own_call(void **state)
{
    /* The software vCPU's KVM_RUN without our loop; and one whose rings no map harvests. */
    struct gm_soft_vcpu *vcpu;
    struct kvm_run *run;
    struct pages pages;
    struct gm_soft *alone;
    unsigned fulls = 0;

    (void)state;
    assert_true(pages_init(&pages, PAGES_LOG_RING));
    guest_set_log(pages.guest.vm, pages.region, CLIENT, true);
    pages_program(&pages, PAGES_COUNT);
    vcpu = gm_vcpu_soft(pages.guest.vcpu);
    run = gm_soft_vcpu_run_page(vcpu);
    assert_int_equal(gm_soft_vcpu_ioctl(vcpu, KVM_RUN, 0), 0);
    while (run->exit_reason == KVM_EXIT_DIRTY_RING_FULL) {
        fulls++;
        assert_true(gm_soft_vcpu_empty_ring(vcpu));
        assert_int_equal(gm_soft_vcpu_ioctl(vcpu, KVM_RUN, 0), 0);
    }
    assert_int_equal(run->exit_reason, KVM_EXIT_HLT);
    assert_true(fulls > 0);
    assert_int_equal(harvest(&pages), PAGES_COUNT);
    pages_fini(&pages);

    assert_int_equal(gm_soft_open(NULL, &alone, NULL), 0);
    assert_int_equal(gm_soft_vcpu_new(alone, 0, &vcpu), 0);
    assert_false(gm_soft_vcpu_empty_ring(vcpu));
    gm_soft_vcpu_free(vcpu);
    assert_int_equal(gm_soft_close(alone), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ring_of_odd_size_is_refused),
        cmocka_unit_test(ring_beyond_the_hypervisors_limit_is_refused),
        cmocka_unit_test(ring_that_fills_is_emptied_and_the_guest_goes_on),
        cmocka_unit_test(ring_harvest_has_what_was_written_since_the_last),
        cmocka_unit_test(ring_is_drained_before_its_log_ends),
        cmocka_unit_test(ring_is_drained_before_its_slot_goes),
        cmocka_unit_test(ring_of_a_vcpu_that_goes_is_drained),
        cmocka_unit_test(attach_to_rings_needs_their_size),
        cmocka_unit_test(own_loop_empties_the_ring_by_handle_exit),
        cmocka_unit_test(attach_again_finds_the_front_of_the_ring),
    };
    const struct CMUnitTest soft_tests[] = {
        cmocka_unit_test(soft_loop_empties_the_ring_by_its_own_call),
    };

    return GUEST_RUN_ON_BOTH(tests) ||
           cmocka_run_group_tests_name("of the software KVM alone", soft_tests, NULL, NULL) != 0;
}
