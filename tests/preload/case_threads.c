/* preload/case_threads.c - several VMs and threads at once. */
#include "cases.h"

#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <sys/eventfd.h>

#define VMS 2
#define VCPUS 2
#define EXITS 2000

struct runner {
    pthread_t thread;
    int vcpu;
    struct kvm_run *run;
};

static void *run_exits(void *opaque)
{
    struct runner *runner = opaque;

    for (int i = 0; i < EXITS; i++) {
        expect_port_exit(runner->vcpu, runner->run);
    }
    return NULL;
}

static void two_vms_run_vcpus_in_threads_of_their_own(void)
{
    struct machine machines[VMS];
    struct runner runners[VMS][VCPUS];

    for (int i = 0; i < VMS; i++) {
        machines[i] = machine_new();
        runners[i][0] = (struct runner){.vcpu = machines[i].vcpu, .run = machines[i].run};
        runners[i][1].vcpu = machine_add_vcpu(&machines[i], 1, &runners[i][1].run);
    }
    for (int i = 0; i < VMS * VCPUS; i++) {
        struct runner *runner = &runners[i / VCPUS][i % VCPUS];

        CHECK(pthread_create(&runner->thread, NULL, run_exits, runner) == 0);
    }
    /* Meanwhile: memory that is nobody's, a guest's, slots. */
    for (int i = 0; i < 200; i++) {
        struct machine *machine = &machines[i % VMS];
        void *other = mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        struct kvm_userspace_memory_region region = {.slot = 9,
                                                     .guest_phys_addr = 0x100000,
                                                     .memory_size = PAGE,
                                                     .userspace_addr = (uintptr_t)other};

        CHECK(ioctl(machine->vm, KVM_SET_USER_MEMORY_REGION, &region) == 0);
        CHECK(madvise(machine->ram, RAM_BYTES, MADV_DONTNEED) == 0);
        region.memory_size = 0;
        CHECK(ioctl(machine->vm, KVM_SET_USER_MEMORY_REGION, &region) == 0);
        CHECK(munmap(other, PAGE) == 0);
    }
    for (int i = 0; i < VMS * VCPUS; i++) {
        CHECK(pthread_join(runners[i / VCPUS][i % VCPUS].thread, NULL) == 0);
    }
    for (int i = 0; i < VMS; i++) {
        CHECK(munmap(runners[i][1].run, RUN_BYTES) == 0);
        CHECK(close(runners[i][1].vcpu) == 0);
        machine_free(&machines[i]);
    }
}

static void vcpu_moves_between_threads(void)
{
    struct machine machine = machine_new();
    struct runner runner = {.vcpu = machine.vcpu, .run = machine.run};

    for (int i = 0; i < 5; i++) {
        CHECK(pthread_create(&runner.thread, NULL, run_exits, &runner) == 0);
        CHECK(pthread_join(runner.thread, NULL) == 0);
        expect_port_exit(machine.vcpu, machine.run);
    }
    machine_free(&machine);
}

/* Its descriptor is closed while it runs: the run goes on, and ends when it is told to. */
static void *run_forever(void *opaque)
{
    struct runner *runner = opaque;

    CHECK_FAILS(ioctl(runner->vcpu, KVM_RUN, 0), EINTR);
    return NULL;
}

static void ignore(int number)
{
    (void)number;
}

static void descriptor_closed_in_a_run_lasts_until_its_end(void)
{
    static const uint8_t forever[] = {0xc6, 0x06, 0x00, 0x10,
                                      0x01, 0xeb, 0xf9}; /* mov [0x1000], 1 */
    struct machine machine = machine_new();
    struct runner runner = {.vcpu = machine.vcpu, .run = machine.run};

    machine_set_code(&machine, forever, sizeof(forever));
    CHECK(sigaction(SIGUSR1, &(struct sigaction){.sa_handler = ignore}, NULL) == 0);
    CHECK(pthread_create(&runner.thread, NULL, run_forever, &runner) == 0);
    while (__atomic_load_n(machine.ram + 0x1000, __ATOMIC_ACQUIRE) == 0) {
    }
    CHECK(close(machine.vcpu) == 0 && close(machine.vm) == 0 && close(machine.system) == 0);
    CHECK(munmap(machine.run, RUN_BYTES) == 0);
    __atomic_store_n(machine.ram + 0x1000, 0, __ATOMIC_RELEASE);
    while (__atomic_load_n(machine.ram + 0x1000, __ATOMIC_ACQUIRE) == 0) {
    }
    CHECK(pthread_kill(runner.thread, SIGUSR1) == 0);
    CHECK(pthread_join(runner.thread, NULL) == 0);
}

/* Each makes and ends its own, at once. */
static void *make_and_end(void *opaque)
{
    (void)opaque;
    for (int i = 0; i < 30; i++) {
        struct machine machine = machine_new();

        expect_port_exit(machine.vcpu, machine.run);
        machine_free(&machine);
    }
    return NULL;
}

static void vms_come_and_go_in_threads(void)
{
    pthread_t threads[3];

    for (int i = 0; i < 3; i++) {
        CHECK(pthread_create(&threads[i], NULL, make_and_end, NULL) == 0);
    }
    for (int i = 0; i < 3; i++) {
        CHECK(pthread_join(threads[i], NULL) == 0);
    }
}

static void *run_until_cancelled(void *opaque)
{
    struct runner *runner = opaque;

    CHECK(pthread_setcanceltype(PTHREAD_CANCEL_ASYNCHRONOUS, NULL) == 0);
    for (;;) {
        (void)ioctl(runner->vcpu, KVM_RUN, 0);
    }
    return NULL;
}

static void thread_that_is_cancelled_in_the_guest_leaves_the_vcpu_whole(void)
{
    /* At any time: slots can be changed afterwards, and the vCPU goes on in another thread. */
    struct machine machine = machine_new();
    struct runner runner = {.vcpu = machine.vcpu, .run = machine.run};
    struct kvm_userspace_memory_region region = {.slot = 9,
                                                 .guest_phys_addr = 0x100000,
                                                 .memory_size = PAGE,
                                                 .userspace_addr = (uintptr_t)machine.ram};

    for (int i = 0; i < 20; i++) {
        struct kvm_regs regs;
        void *result;

        machine_set_code(&machine, "\xeb\xfe", 2); /* jmp itself */
        CHECK(pthread_create(&runner.thread, NULL, run_until_cancelled, &runner) == 0);
        usleep(i % 4 * 1000);
        CHECK(pthread_cancel(runner.thread) == 0);
        CHECK(pthread_join(runner.thread, &result) == 0);
        CHECK(result == PTHREAD_CANCELED);
        region.memory_size = PAGE;
        CHECK(ioctl(machine.vm, KVM_SET_USER_MEMORY_REGION, &region) == 0);
        region.memory_size = 0;
        CHECK(ioctl(machine.vm, KVM_SET_USER_MEMORY_REGION, &region) == 0);
        CHECK(ioctl(machine.vcpu, KVM_GET_REGS, &regs) == 0);
    }
    machine_free(&machine);
}

static void wait_for_count(int fd, uint64_t expected)
{
    uint64_t count = 0;

    while (read(fd, &count, sizeof(count)) == -1 && errno == EAGAIN) {
        usleep(100);
    }
    CHECK(count == expected);
}

/* Writes that do not exit: to an eventfd, and to a zone, whose ring each vCPU's mapping shows. */
static void eventfds_and_coalesced_writes_do_not_exit(void)
{
    /* out 0x20, al; out 0x21, al; out 0x10, al; jmp back */
    static const uint8_t code[] = {0xe6, 0x20, 0xe6, 0x21, 0xe6, 0x10, 0xeb, 0xf8};
    struct machine machine = machine_new();
    struct kvm_run *second_run;
    int second = machine_add_vcpu(&machine, 1, &second_run);
    int fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    struct kvm_ioeventfd bell = {.addr = 0x20, .len = 1, .fd = fd, .flags = KVM_IOEVENTFD_FLAG_PIO};
    struct kvm_coalesced_mmio_zone zone = {.addr = 0x21, .size = 1, .pio = 1};
    const struct kvm_coalesced_mmio_ring *rings[] = {(void *)((uint8_t *)machine.run + 2 * PAGE),
                                                     (void *)((uint8_t *)second_run + 2 * PAGE)};

    machine_set_code(&machine, code, sizeof(code));
    CHECK(ioctl(machine.vm, KVM_IOEVENTFD, &bell) == 0);
    CHECK_FAILS(ioctl(machine.vm, KVM_IOEVENTFD, &bell), EEXIST);
    CHECK(ioctl(machine.vm, KVM_REGISTER_COALESCED_MMIO, &zone) == 0);
    expect_port_exit(machine.vcpu, machine.run);
    expect_port_exit(second, second_run);
    wait_for_count(fd, 2);
    for (int i = 0; i < 2; i++) {
        CHECK(rings[i]->first == 0 && rings[i]->last == 2);
        CHECK(rings[i]->coalesced_mmio[1].phys_addr == 0x21);
        CHECK(rings[i]->coalesced_mmio[1].len == 1 && rings[i]->coalesced_mmio[1].pio == 1);
    }
    bell.flags |= KVM_IOEVENTFD_FLAG_DEASSIGN;
    CHECK(ioctl(machine.vm, KVM_IOEVENTFD, &bell) == 0);
    CHECK(ioctl(machine.vm, KVM_UNREGISTER_COALESCED_MMIO, &zone) == 0);
    CHECK(munmap(second_run, RUN_BYTES) == 0 && close(second) == 0);
    machine_free(&machine);
    CHECK(close(fd) == 0);
}

/* A signal of the program's is an interrupt of the VM's. */
static void irqfd_interrupts(void)
{
    int system = open("/dev/kvm", O_RDWR | O_CLOEXEC);
    int vm = ioctl(system, KVM_CREATE_VM, 0);
    int fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    struct kvm_irqfd irqfd = {.fd = (uint32_t)fd, .gsi = 5};
    struct kvm_irqchip chip = {.chip_id = KVM_IRQCHIP_PIC_MASTER};
    const uint64_t one = 1;

    CHECK(ioctl(vm, KVM_CREATE_IRQCHIP, 0) == 0);
    CHECK(ioctl(vm, KVM_IRQFD, &irqfd) == 0);
    CHECK(write(fd, &one, sizeof(one)) == sizeof(one));
    do {
        CHECK(ioctl(vm, KVM_GET_IRQCHIP, &chip) == 0);
    } while (chip.chip.pic.irr == 0);
    CHECK(chip.chip.pic.irr == 1 << 5);
    irqfd.flags = KVM_IRQFD_FLAG_DEASSIGN;
    CHECK(ioctl(vm, KVM_IRQFD, &irqfd) == 0);
    CHECK(close(vm) == 0 && close(system) == 0 && close(fd) == 0);
}

const struct test_case thread_cases[] = {
    {"two_vms_run_vcpus_in_threads_of_their_own", two_vms_run_vcpus_in_threads_of_their_own, false},
    {"vcpu_moves_between_threads", vcpu_moves_between_threads, false},
    {"descriptor_closed_in_a_run_lasts_until_its_end",
     descriptor_closed_in_a_run_lasts_until_its_end, false},
    {"vms_come_and_go_in_threads", vms_come_and_go_in_threads, false},
    {"thread_that_is_cancelled_in_the_guest_leaves_the_vcpu_whole",
     thread_that_is_cancelled_in_the_guest_leaves_the_vcpu_whole, false},
    {"eventfds_and_coalesced_writes_do_not_exit", eventfds_and_coalesced_writes_do_not_exit, false},
    {"irqfd_interrupts", irqfd_interrupts, false},
    {NULL, NULL, false},
};
