/*
 * tests/kvm/test_attach.c - VMs whose owner made them: own descriptors, own run loop, own kick.
 */
#include "guest.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#define READ_GPA 0x6000u

/* A monitor of its own: everything of KVM is made, run and closed here. */
struct owner {
    int system_fd;
    int vm_fd;
    int vcpu_fd;
    size_t run_bytes;
    struct kvm_run *run;
    struct guest guest; /* its vCPU is the attached one */

    pthread_t thread;
    atomic_bool started;
    atomic_bool end;
    atomic_uint accesses;
    atomic_uint interrupted;
    int kick_signal;
};

static void owner_init(struct owner *owner)
{
    struct gm_vm *vm;

    memset(owner, 0, sizeof(*owner));
    owner->system_fd = open("/dev/kvm", O_RDWR | O_CLOEXEC);
    owner->vm_fd = ioctl(owner->system_fd, KVM_CREATE_VM, 0);
    owner->vcpu_fd = ioctl(owner->vm_fd, KVM_CREATE_VCPU, 0);
    owner->run_bytes = (size_t)ioctl(owner->system_fd, KVM_GET_VCPU_MMAP_SIZE, 0);
    owner->run =
        mmap(NULL, owner->run_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, owner->vcpu_fd, 0);
    assert_true(owner->vcpu_fd >= 0 && owner->run != MAP_FAILED);
    assert_int_equal(gm_vm_attach(owner->system_fd, owner->vm_fd, NULL, &vm, NULL), 0);
    guest_init_in(&owner->guest, vm);
}

static void owner_attach_vcpu(struct owner *owner, void (*kick)(void *opaque))
{
    assert_int_equal(gm_vcpu_attach(owner->guest.vm, owner->vcpu_fd, owner->run, kick, owner,
                                    &owner->guest.vcpu, NULL),
                     0);
    guest_reset_fd(owner->vcpu_fd);
}

static void owner_fini(struct owner *owner)
{
    munmap(owner->run, owner->run_bytes);
    assert_int_equal(close(owner->vcpu_fd), 0);
    assert_int_equal(close(owner->vm_fd), 0);
    assert_int_equal(close(owner->system_fd), 0);
}

/* One bracketed KVM_RUN, as guestmem/vm.h asks for. */
static int owner_run_once(struct owner *owner)
{
    int rc;

    gm_vcpu_enter(owner->guest.vcpu);
    rc = ioctl(owner->vcpu_fd, KVM_RUN, NULL) == -1 ? -errno : 0;
    gm_vcpu_leave(owner->guest.vcpu);
    return rc;
}

static void *owner_loop(void *opaque)
{
    struct owner *owner = opaque;
    enum gm_access outcome;

    atomic_store(&owner->started, true);
    while (!atomic_load(&owner->end)) {
        int rc = owner_run_once(owner);

        if (rc == -EINTR) {
            __atomic_store_n(&owner->run->immediate_exit, 0, __ATOMIC_SEQ_CST);
            atomic_fetch_add(&owner->interrupted, 1);
        } else if (rc != 0 || gm_vcpu_handle_exit(owner->guest.vcpu, owner->run, &outcome) != 1) {
            return (void *)owner; /* not what the guest does */
        } else {
            atomic_fetch_add(&owner->accesses, 1);
        }
    }
    return NULL;
}

/*
 * The guest reads memory and counts, over and over; this thread takes that memory away and puts it back a
 * hundred times. The guest must never find it gone.
 */
static void edit_under_the_owners_loop(struct owner *owner)
{
    struct guest *guest = &owner->guest;
    struct gm_region *region = guest_add_ram(guest, "region", READ_GPA, 0x1000);
    void *result;

    EMIT_LOAD_AL(guest, READ_GPA);
    EMIT(guest, 0xff, 0x06, LO(GUEST_COUNTER), HI(GUEST_COUNTER), 0xeb, 0xf7);
    assert_int_equal(pthread_create(&owner->thread, NULL, owner_loop, owner), 0);
    for (unsigned i = 0; i < 100; i++) {
        guest_set_readonly(guest->vm, region, i % 2 == 0);
        if (i % 8 == 0) {
            guest_wait_spinning(guest);
        }
    }
    atomic_store(&owner->end, true);
    gm_vcpu_kick(guest->vcpu);
    assert_int_equal(pthread_join(owner->thread, &result), 0);
    assert_null(result);
    assert_int_equal(owner->accesses, 0);
    assert_true(owner->interrupted > 0);
    gm_region_put(region);
}

static void attach_leaves_the_owners_descriptors(void **state)
{
    /* After the detach the VM has no slots of ours, works, and everything is still open. */
    struct kvm_userspace_memory_region region = {.memory_size = GUEST_RAM_BYTES};
    struct owner owner;
    uint8_t *memory;

    (void)state;
    GUEST_NEEDS_KVM();
    owner_init(&owner);
    owner_attach_vcpu(&owner, NULL);
    EMIT_HLT(&owner.guest);
    guest_run_to_hlt(&owner.guest);
    guest_fini(&owner.guest);

    memory =
        mmap(NULL, GUEST_RAM_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    assert_true(memory != MAP_FAILED);
    region.userspace_addr = (uintptr_t)memory;
    region.slot = 77;
    memory[GUEST_CODE] = 0xf4;
    assert_int_equal(ioctl(owner.vm_fd, KVM_SET_USER_MEMORY_REGION, &region), 0);
    guest_reset_fd(owner.vcpu_fd);
    assert_int_equal(ioctl(owner.vcpu_fd, KVM_RUN, NULL), 0);
    assert_int_equal(owner.run->exit_reason, KVM_EXIT_HLT);
    munmap(memory, GUEST_RAM_BYTES);
    owner_fini(&owner);
}

static void detach_takes_eventfds_back(void **state)
{
    /* Memory's and ports' eventfds are gone from KVM: the owner can add the same ones. */
    struct kvm_ioeventfd requests[] = {
        {.addr = GUEST_MMIO + 4, .len = 2},
        {.addr = GUEST_PORT + 4, .len = 2, .flags = KVM_IOEVENTFD_FLAG_PIO},
    };
    struct gm_eventfd ours = {.offset = 4, .size_bytes = 2, .fd = eventfd(0, EFD_NONBLOCK)};
    struct owner owner;
    struct gm_txn *txn;

    (void)state;
    GUEST_NEEDS_KVM();
    owner_init(&owner);
    assert_int_equal(gm_txn_begin(gm_vm_map(owner.guest.vm), &txn), 0);
    assert_int_equal(gm_txn_add_eventfd(txn, owner.guest.mmio, &ours), 0);
    assert_int_equal(gm_txn_add_eventfd(txn, owner.guest.ports, &ours), 0);
    assert_int_equal(gm_txn_commit(txn, NULL), 0);
    for (unsigned i = 0; i < 2; i++) {
        requests[i].fd = ours.fd;
        assert_int_equal(ioctl(owner.vm_fd, KVM_IOEVENTFD, &requests[i]), -1);
        assert_int_equal(errno, EEXIST);
    }
    guest_fini(&owner.guest);
    for (unsigned i = 0; i < 2; i++) {
        assert_int_equal(ioctl(owner.vm_fd, KVM_IOEVENTFD, &requests[i]), 0);
    }
    close(ours.fd);
    owner_fini(&owner);
}

static void detach_leaves_the_owners_eventfd(void **state)
{
    /* What we added and removed again is not ours: the owner's own at the same port stays. */
    struct gm_eventfd ours = {.offset = 4, .size_bytes = 2, .fd = eventfd(0, EFD_NONBLOCK)};
    struct kvm_ioeventfd request = {
        .addr = GUEST_PORT + 4, .len = 2, .fd = ours.fd, .flags = KVM_IOEVENTFD_FLAG_PIO};
    struct owner owner;

    (void)state;
    GUEST_NEEDS_KVM();
    owner_init(&owner);
    for (unsigned i = 0; i < 2; i++) {
        struct gm_txn *txn;

        assert_int_equal(gm_txn_begin(gm_vm_map(owner.guest.vm), &txn), 0);
        assert_int_equal(i == 0 ? gm_txn_add_eventfd(txn, owner.guest.ports, &ours)
                                : gm_txn_del_eventfd(txn, owner.guest.ports, &ours),
                         0);
        assert_int_equal(gm_txn_commit(txn, NULL), 0);
    }
    assert_int_equal(ioctl(owner.vm_fd, KVM_IOEVENTFD, &request), 0);
    guest_fini(&owner.guest);
    assert_int_equal(ioctl(owner.vm_fd, KVM_IOEVENTFD, &request), -1);
    assert_int_equal(errno, EEXIST);
    close(ours.fd);
    owner_fini(&owner);
}

static void attach_again_after_detach_works(void **state)
{
    /* A VM can be attached to, detached from, and attached to again. */
    struct owner owner;
    struct gm_vm *vm;

    (void)state;
    GUEST_NEEDS_KVM();
    owner_init(&owner);
    owner_attach_vcpu(&owner, NULL);
    gm_vcpu_free(owner.guest.vcpu);
    guest_fini(&owner.guest);
    assert_int_equal(gm_vm_attach(owner.system_fd, owner.vm_fd, NULL, &vm, NULL), 0);
    guest_init_in(&owner.guest, vm);
    owner_attach_vcpu(&owner, NULL);
    EMIT_HLT(&owner.guest);
    guest_run_to_hlt(&owner.guest);
    guest_fini(&owner.guest);
    owner_fini(&owner);
}

static void own_loop_answers_exits(void **state)
{
    /* enter, KVM_RUN, leave, handle_exit: memory exits are answered, HLT is the owner's. */
    enum gm_access outcome = GM_ACCESS_DENIED;
    struct owner owner;

    (void)state;
    GUEST_NEEDS_KVM();
    owner_init(&owner);
    owner_attach_vcpu(&owner, NULL);
    owner.guest.mmio_seen.next_value = 0x42;
    EMIT_LOAD_AL(&owner.guest, GUEST_MMIO);
    EMIT_STORE_AL(&owner.guest, GUEST_HOLE);
    EMIT_HLT(&owner.guest);
    assert_int_equal(owner_run_once(&owner), 0);
    assert_int_equal(gm_vcpu_handle_exit(owner.guest.vcpu, owner.run, &outcome), 1);
    assert_int_equal(outcome, GM_ACCESS_OK);
    assert_int_equal(owner_run_once(&owner), 0);
    assert_int_equal(owner.run->mmio.data[0], 0x42);
    assert_int_equal(gm_vcpu_handle_exit(owner.guest.vcpu, owner.run, &outcome), 1);
    assert_int_equal(outcome, GM_ACCESS_DECODE);
    assert_int_equal(owner_run_once(&owner), 0);
    assert_int_equal(owner.run->exit_reason, KVM_EXIT_HLT);
    assert_int_equal(gm_vcpu_handle_exit(owner.guest.vcpu, owner.run, &outcome), 0);
    guest_fini(&owner.guest);
    owner_fini(&owner);
}

static void own_loop_with_our_signal_is_held_out(void **state)
{
    /* No kick function given: enter and leave make the library's signal reach KVM_RUN. */
    struct owner owner;

    (void)state;
    GUEST_NEEDS_KVM();
    owner_init(&owner);
    owner_attach_vcpu(&owner, NULL);
    edit_under_the_owners_loop(&owner);
    guest_fini(&owner.guest);
    owner_fini(&owner);
}

static void do_nothing(int signal_number)
{
    (void)signal_number;
}

/* The usual way of a monitor: a flag that KVM looks at before it enters, and a signal for after. */
static void owner_kick(void *opaque)
{
    struct owner *owner = opaque;

    __atomic_store_n(&owner->run->immediate_exit, 1, __ATOMIC_SEQ_CST);
    if (atomic_load(&owner->started)) {
        pthread_kill(owner->thread, SIGUSR1);
    }
}

static void own_loop_with_own_kick_is_held_out(void **state)
{
    /* The owner's kick is called until its vCPU has left. */
    const struct sigaction nothing = {.sa_handler = do_nothing};
    const struct sigaction as_before = {.sa_handler = SIG_DFL};
    struct owner owner;

    (void)state;
    GUEST_NEEDS_KVM();
    owner_init(&owner);
    sigaction(SIGUSR1, &nothing, NULL);
    owner_attach_vcpu(&owner, owner_kick);
    edit_under_the_owners_loop(&owner);
    guest_fini(&owner.guest);
    sigaction(SIGUSR1, &as_before, NULL);
    owner_fini(&owner);
}

static void our_loop_with_own_kick_ends(void **state)
{
    /* gm_vcpu_run() with the owner's kick: it leaves immediate_exit clear behind it. */
    struct owner owner;

    (void)state;
    GUEST_NEEDS_KVM();
    owner_init(&owner);
    owner_attach_vcpu(&owner, owner_kick);
    EMIT_HLT(&owner.guest);
    gm_vcpu_kick(owner.guest.vcpu);
    assert_int_equal(gm_vcpu_run(owner.guest.vcpu), -EINTR);
    assert_int_equal(owner.run->immediate_exit, 0);
    guest_run_to_hlt(&owner.guest);
    guest_fini(&owner.guest);
    owner_fini(&owner);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(attach_leaves_the_owners_descriptors),
        cmocka_unit_test(detach_takes_eventfds_back),
        cmocka_unit_test(detach_leaves_the_owners_eventfd),
        cmocka_unit_test(attach_again_after_detach_works),
        cmocka_unit_test(own_loop_answers_exits),
        cmocka_unit_test(own_loop_with_our_signal_is_held_out),
        cmocka_unit_test(own_loop_with_own_kick_is_held_out),
        cmocka_unit_test(our_loop_with_own_kick_ends),
    };

    return guest_exit_code(cmocka_run_group_tests(tests, NULL, NULL));
}
