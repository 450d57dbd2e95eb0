/*
 * unit/test_fork.c - VMs and fork(): in the child each call is -EIO, closing frees the copy, and the parent's VM does not
 * notice. On the software KVM, and on /dev/kvm where there is one.
 */
#include "model/faults.h"

#include <guestmem/guestmem.h>
#include <guestmem/soft.h>
#include <guestmem/soft_ioctl.h>

#include <errno.h>
#include <linux/kvm.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#define CHILD_SECONDS 30
#define PAGE 4096u
#define RESET_PAGE 0xfffff000u

/* What is not freed yet, in this process. */
static struct faults counted;
static const struct gm_allocator COUNTED = {faults_alloc, faults_free, &counted};

/* A VM whose vCPU runs in circles in a page of RAM at the reset vector. */
struct rig {
    enum gm_accel accel;
    struct gm_vm *vm;
    struct gm_vcpu *vcpu;
    struct gm_ram *block;
    struct gm_region *ram;
    pthread_t thread;
    atomic_bool stops;
    atomic_uint commits;
};

static void set_up(struct rig *rig, enum gm_accel accel)
{
    const struct gm_map_options map = {.size = sizeof(map), .allocator = &COUNTED};
    const struct gm_vm_options options = {.size = sizeof(options), .map = &map, .accel = accel};

    memset(rig, 0, sizeof(*rig));
    rig->accel = accel;
    assert_int_equal(gm_vm_open(&options, &rig->vm, NULL), 0);
    assert_int_equal(gm_ram_new_anon(PAGE, &COUNTED, &rig->block, NULL), 0);
    memcpy((char *)gm_ram_hva(rig->block) + 0xff0, "\xeb\xfe", 2); /* jmp to itself */
    assert_int_equal(gm_region_new_ram(gm_vm_map(rig->vm), "ram", rig->block, &rig->ram), 0);
    assert_int_equal(gm_region_set_addr(rig->ram, RESET_PAGE, NULL), 0);
    assert_int_equal(gm_region_add(gm_vm_memory_root(rig->vm), rig->ram, NULL), 0);
    assert_int_equal(gm_vcpu_new(rig->vm, 0, &rig->vcpu, NULL), 0);
}

static void tear_down(struct rig *rig)
{
    assert_int_equal(gm_vm_close(rig->vm, NULL), 0);
    gm_region_put(rig->ram);
    gm_ram_put(rig->block);
    gm_map_quiesce(NULL);
    assert_int_equal(faults_live(&counted), 0);
}

static bool is_there(enum gm_accel accel)
{
    return accel == GM_ACCEL_SOFT || access("/dev/kvm", R_OK | W_OK) == 0;
}

/* Run in a child, which has some time: 0, or the number of the line that did not hold. */
#define EXPECT(condition)                                                                          \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            return __LINE__;                                                                       \
        }                                                                                          \
    } while (0)

static void in_child(int (*run)(struct rig *rig), struct rig *rig)
{
    pid_t child = fork();
    int status;

    if (child == 0) {
        int line;

        alarm(CHILD_SECONDS);
        line = run(rig);
        if (line != 0) {
            dprintf(STDERR_FILENO, "child: line %d does not hold\n", line);
        }
        _exit(line != 0);
    }
    assert_int_not_equal(child, -1);
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
}

static int calls_are_refused(struct rig *rig)
{
    static const struct gm_listener_ops OPS = {.size = sizeof(OPS)};
    struct gm_map *map = gm_vm_map(rig->vm);
    struct gm_region *root = gm_vm_memory_root(rig->vm);
    struct gm_listener *listener;
    struct gm_diag diag = {0};
    struct gm_region *region;
    struct gm_space *space;
    struct gm_vcpu *vcpu;
    int fd;

    EXPECT(gm_region_set_enabled(rig->ram, false, &diag) == -EIO);
    EXPECT(diag.id == GM_DIAG_FORKED);
    EXPECT(gm_region_del(root, rig->ram, NULL) == -EIO);
    EXPECT(gm_region_new_container(map, "late", PAGE, &region) == -EIO);
    EXPECT(gm_space_new(map, "late", NULL, &space, NULL) == -EIO);
    EXPECT(gm_space_free(gm_vm_ports(rig->vm), NULL) == -EIO);
    EXPECT(gm_listener_register(map, NULL, 0, &OPS, NULL, &listener, NULL) == -EIO);
    EXPECT(gm_region_log_sync(rig->ram, 0, PAGE) == -EIO);
    EXPECT(gm_vm_ioctl(rig->vm, KVM_CHECK_EXTENSION, KVM_CAP_USER_MEMORY) == -EIO);
    EXPECT(gm_vm_system_ioctl(rig->vm, KVM_GET_API_VERSION, 0) == -EIO);
    EXPECT(gm_vm_guest_memfd(rig->vm, PAGE, 0, &fd, &diag) == -EIO && diag.id == GM_DIAG_FORKED);
    EXPECT(gm_vm_set_attributes(rig->vm, 0, PAGE, 0, NULL) == -EIO);
    EXPECT(gm_vcpu_new(rig->vm, 1, &vcpu, &diag) == -EIO);
    EXPECT(diag.id == GM_DIAG_FORKED);
    EXPECT(gm_vcpu_ioctl(rig->vcpu, KVM_GET_MP_STATE, 0) == -EIO);
    EXPECT(gm_vcpu_run(rig->vcpu) == -EIO);
    gm_vcpu_kick(rig->vcpu);
    if (rig->accel == GM_ACCEL_SOFT) {
        struct gm_soft *soft = gm_vm_soft(rig->vm);
        struct gm_soft_vcpu *own;
        const struct gm_soft_slot slot = {.slot = 7};

        EXPECT(gm_soft_vm_ioctl(soft, KVM_CHECK_EXTENSION, KVM_CAP_USER_MEMORY) == -EIO);
        EXPECT(gm_soft_vcpu_ioctl(gm_vcpu_soft(rig->vcpu), KVM_RUN, 0) == -EIO);
        EXPECT(gm_soft_vcpu_new(soft, 1, &own) == -EIO);
        EXPECT(gm_soft_set_slots(soft, &slot, 1, NULL) == -EIO);
    }
    return 0;
}

/* Of a VM at rest: nothing of the copy is left. */
static int close_frees_all(struct rig *rig)
{
    int vm_fd = gm_vm_fd(rig->vm);

    EXPECT(gm_vm_close(rig->vm, NULL) == 0);
    gm_region_put(rig->ram);
    gm_ram_put(rig->block);
    EXPECT(faults_live(&counted) == 0);
    EXPECT(vm_fd == -1 || (close(vm_fd) == -1 && errno == EBADF));
    return 0;
}

static int refused_and_closed(struct rig *rig)
{
    int line = calls_are_refused(rig);

    return line != 0 ? line : close_frees_all(rig);
}

static int vcpu_first(struct rig *rig)
{
    gm_vcpu_free(rig->vcpu);
    return close_frees_all(rig);
}

static int slots_first(struct rig *rig)
{
    gm_region_put(rig->ram);
    gm_ram_put(rig->block);
    EXPECT(gm_vm_close(rig->vm, NULL) == 0);
    EXPECT(faults_live(&counted) == 0);
    return 0;
}

static void *run_until_kicked(void *opaque)
{
    struct rig *rig = opaque;

    assert_int_equal(gm_vcpu_run(rig->vcpu), -EINTR);
    return NULL;
}

/* The vCPU runs for a moment, and a kick ends that: it is as it was. */
static void vcpu_still_runs(struct rig *rig)
{
    assert_int_equal(pthread_create(&rig->thread, NULL, run_until_kicked, rig), 0);
    gm_vcpu_kick(rig->vcpu);
    pthread_join(rig->thread, NULL);
}

static void vm_at_rest(enum gm_accel accel)
{
    struct gm_slots_stats before;
    struct gm_slots_stats after;
    struct gm_slot slot;
    struct rig rig;

    set_up(&rig, accel);
    gm_map_quiesce(NULL); /* what is deferred at the fork is nobody's in the child */
    gm_slots_stats(gm_vm_slots(rig.vm), &before);
    in_child(refused_and_closed, &rig);
    in_child(vcpu_first, &rig);
    in_child(slots_first, &rig);
    gm_slots_stats(gm_vm_slots(rig.vm), &after);
    assert_memory_equal(&before, &after, sizeof(before));
    assert_int_equal(gm_slots_list(gm_vm_slots(rig.vm), &slot, 1), 1);
    vcpu_still_runs(&rig);
    assert_int_equal(gm_region_set_enabled(rig.ram, false, NULL), 0);
    assert_int_equal(gm_region_set_enabled(rig.ram, true, NULL), 0);
    tear_down(&rig);
}

static void fork_of_a_vm_at_rest_is_refused_and_freed(void **state)
{
    (void)state;
    vm_at_rest(GM_ACCEL_SOFT);
}

static void fork_of_a_kvm_vm_at_rest_is_refused_and_freed(void **state)
{
    (void)state;
    if (!is_there(GM_ACCEL_KVM)) {
        skip();
    }
    vm_at_rest(GM_ACCEL_KVM);
}

static void *toggle(void *opaque)
{
    struct rig *rig = opaque;

    while (!rig->stops) {
        assert_int_equal(gm_region_set_enabled(rig->ram, false, NULL), 0);
        assert_int_equal(gm_region_set_enabled(rig->ram, true, NULL), 0);
        rig->commits++;
    }
    return NULL;
}

/* Of a VM in the middle of something: no call waits for threads that are not there. */
static int close_does_not_hang(struct rig *rig)
{
    int line = calls_are_refused(rig);
    int vm_fd = gm_vm_fd(rig->vm);

    EXPECT(line == 0);
    EXPECT(gm_vm_close(rig->vm, NULL) == 0);
    EXPECT(vm_fd == -1 || (close(vm_fd) == -1 && errno == EBADF));
    return 0;
}

static int vcpu_then_vm(struct rig *rig)
{
    gm_vcpu_free(rig->vcpu);
    EXPECT(gm_vm_close(rig->vm, NULL) == 0);
    return 0;
}

static void vm_in_use(enum gm_accel accel)
{
    pthread_t runner;
    struct rig rig;

    set_up(&rig, accel);
    /* Commits without pause, many of them copied half-way. */
    assert_int_equal(pthread_create(&rig.thread, NULL, toggle, &rig), 0);
    for (int i = 0; i < 20; i++) {
        unsigned seen = rig.commits;

        in_child(close_does_not_hang, &rig);
        while (rig.commits == seen) {
            usleep(100);
        }
    }
    rig.stops = true;
    pthread_join(rig.thread, NULL);
    /* A vCPU in the guest. */
    assert_int_equal(pthread_create(&runner, NULL, run_until_kicked, &rig), 0);
    for (int i = 0; i < 10; i++) {
        in_child(i % 2 == 0 ? close_does_not_hang : vcpu_then_vm, &rig);
    }
    gm_vcpu_kick(rig.vcpu);
    pthread_join(runner, NULL);
    tear_down(&rig);
}

static void fork_of_a_vm_in_use_does_not_hang(void **state)
{
    (void)state;
    vm_in_use(GM_ACCEL_SOFT);
}

static void fork_of_a_kvm_vm_in_use_does_not_hang(void **state)
{
    (void)state;
    if (!is_there(GM_ACCEL_KVM)) {
        skip();
    }
    vm_in_use(GM_ACCEL_KVM);
}

/* ---- writes that are pending, and eventfds ---- */

static atomic_uint writes_seen;

static enum gm_access count_write(void *opaque, uint64_t offset, unsigned size_bytes,
                                  uint64_t value, struct gm_attrs attrs)
{
    (void)opaque, (void)offset, (void)size_bytes, (void)value, (void)attrs;
    writes_seen++;
    return GM_ACCESS_OK;
}

/* A port whose writes are collected; the guest writes to it once, and halts. */
static void leave_a_write_pending(struct rig *rig)
{
    static const struct gm_io_ops OPS = {.size = sizeof(OPS), .write = count_write};
    struct gm_region *port;
    struct gm_txn *txn;

    assert_int_equal(gm_region_new_mmio(gm_vm_map(rig->vm), "port", 1, &OPS, NULL, &port), 0);
    assert_int_equal(gm_region_set_addr(port, 0x10, NULL), 0);
    assert_int_equal(gm_region_add(gm_vm_ports_root(rig->vm), port, NULL), 0);
    assert_int_equal(gm_txn_begin(gm_vm_map(rig->vm), &txn), 0);
    assert_int_equal(gm_txn_add_coalesced(txn, port, 0, GM_COALESCED_WHOLE), 0);
    assert_int_equal(gm_txn_commit(txn, NULL), 0);
    gm_region_put(port);
    memcpy((char *)gm_ram_hva(rig->block) + 0xff0, "\xe6\x10\xf4", 3); /* out 0x10, al; hlt */
    gm_vcpu_enter(rig->vcpu);
    assert_int_equal(gm_vcpu_ioctl(rig->vcpu, KVM_RUN, 0), 0);
    gm_vcpu_leave(rig->vcpu);
    assert_int_equal(gm_vcpu_kvm_run(rig->vcpu)->exit_reason, KVM_EXIT_HLT);
}

static int flushes_nothing(struct rig *rig)
{
    gm_vm_flush_coalesced(rig->vm);
    EXPECT(writes_seen == 0);
    return close_frees_all(rig);
}

static void pending_write(enum gm_accel accel)
{
    struct rig rig;

    writes_seen = 0;
    set_up(&rig, accel);
    leave_a_write_pending(&rig);
    gm_map_quiesce(NULL);
    in_child(flushes_nothing, &rig);
    in_child(vcpu_first, &rig);
    assert_int_equal(writes_seen, 0);
    gm_vm_flush_coalesced(rig.vm);
    assert_int_equal(writes_seen, 1);
    tear_down(&rig);
}

static void fork_leaves_pending_writes_to_the_parent(void **state)
{
    (void)state;
    pending_write(GM_ACCEL_SOFT);
}

static void fork_leaves_pending_writes_of_kvm_to_the_parent(void **state)
{
    (void)state;
    if (!is_there(GM_ACCEL_KVM)) {
        skip();
    }
    pending_write(GM_ACCEL_KVM);
}

static int close_is_enough(struct rig *rig)
{
    EXPECT(gm_vm_close(rig->vm, NULL) == 0);
    EXPECT(faults_live(&counted) == 0);
    return 0;
}

static void fork_leaves_irqfds_to_the_parent(void **state)
{
    /* The child ends no thread of the parent's, and takes nothing out of what it waits for. */
    const struct gm_map_options map = {.size = sizeof(map), .allocator = &COUNTED};
    const struct gm_vm_options options = {
        .size = sizeof(options), .map = &map, .accel = GM_ACCEL_SOFT};
    struct kvm_irqchip chip = {.chip_id = KVM_IRQCHIP_PIC_MASTER};
    struct kvm_irqfd irqfd = {.fd = (uint32_t)eventfd(0, EFD_CLOEXEC), .gsi = 5};
    struct rig rig = {.accel = GM_ACCEL_SOFT};

    (void)state;
    assert_int_equal(gm_vm_open(&options, &rig.vm, NULL), 0);
    assert_int_equal(gm_vm_ioctl(rig.vm, KVM_CREATE_IRQCHIP, 0), 0);
    assert_int_equal(gm_vm_ioctl(rig.vm, KVM_IRQFD, (uintptr_t)&irqfd), 0);
    gm_map_quiesce(NULL);
    in_child(close_is_enough, &rig);
    assert_int_equal(eventfd_write((int)irqfd.fd, 1), 0);
    for (unsigned i = 0; chip.chip.pic.irr == 0 && i < CHILD_SECONDS * 1000; i++) {
        usleep(1000);
        assert_int_equal(gm_vm_ioctl(rig.vm, KVM_GET_IRQCHIP, (uintptr_t)&chip), 0);
    }
    assert_int_equal(chip.chip.pic.irr, 1 << 5);
    assert_int_equal(gm_vm_close(rig.vm, NULL), 0);
    close((int)irqfd.fd);
    gm_map_quiesce(NULL);
    assert_int_equal(faults_live(&counted), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(fork_of_a_vm_at_rest_is_refused_and_freed),
        cmocka_unit_test(fork_of_a_kvm_vm_at_rest_is_refused_and_freed),
        cmocka_unit_test(fork_of_a_vm_in_use_does_not_hang),
        cmocka_unit_test(fork_of_a_kvm_vm_in_use_does_not_hang),
        cmocka_unit_test(fork_leaves_pending_writes_to_the_parent),
        cmocka_unit_test(fork_leaves_pending_writes_of_kvm_to_the_parent),
        cmocka_unit_test(fork_leaves_irqfds_to_the_parent),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
