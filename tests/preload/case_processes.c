/* preload/case_processes.c - fork(), vfork(), exec() and signals beside VMs. */
#include "cases.h"

#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>

static void expect_foreign(const struct machine *machine)
{
    CHECK_FAILS(ioctl(machine->vm, KVM_CHECK_EXTENSION, KVM_CAP_USER_MEMORY), EIO);
    CHECK_FAILS(ioctl(machine->vm, KVM_CREATE_VCPU, 5), EIO);
    CHECK_FAILS(ioctl(machine->vcpu, KVM_RUN, 0), EIO);
    CHECK_FAILS(ioctl(machine->vcpu, TIOCGWINSZ, NULL), EIO);
    CHECK(ioctl(machine->system, KVM_GET_API_VERSION, 0) == KVM_API_VERSION);
}

static void use_in_child(void *opaque)
{
    struct machine *machine = opaque;
    struct machine own;

    expect_foreign(machine);
    own = machine_new();
    expect_port_exit(own.vcpu, own.run);
    CHECK(munmap(machine->ram, RAM_BYTES) == 0);
    expect_port_exit(own.vcpu, own.run);
    machine_free(&own);
    CHECK(close(machine->vcpu) == 0 && close(machine->vm) == 0);
}

static void child_of_fork_gets_eio_and_may_have_its_own(void)
{
    struct machine machine = machine_new();

    expect_port_exit(machine.vcpu, machine.run);
    CHECK(in_child(use_in_child, &machine) == 0);
    expect_port_exit(machine.vcpu, machine.run);
    machine_free(&machine);
    machine = machine_new();
    CHECK(in_child(use_in_child, &machine) == 0);
    machine_free(&machine);
}

static void child_of_a_raw_fork_gets_eio(void)
{
    struct machine machine = machine_new();
    pid_t child = (pid_t)syscall(SYS_fork);
    int status = 0;

    if (child == 0) {
        expect_foreign(&machine);
        _exit(0);
    }
    CHECK(waitpid(child, &status, 0) == child && status == 0);
    expect_port_exit(machine.vcpu, machine.run);
    machine_free(&machine);
}

static void vm_outlives_what_a_child_closes(void)
{
    struct machine machine = machine_new();
    pid_t child = vfork();
    int status = 0;

    if (child == 0) {
        close(machine.vcpu);
        close(machine.vm);
        execl("/bin/true", "true", (char *)NULL);
        _exit(1);
    }
    CHECK(waitpid(child, &status, 0) == child && status == 0);
    expect_port_exit(machine.vcpu, machine.run);
    machine_free(&machine);
}

/* The descriptors go with exec(), unless they are told to stay: then they are another process's. */
static void exec_keeps_the_system_and_no_vm(void)
{
    const char *stage = getenv("PRELOAD_CASE_STAGE");
    struct machine machine = {.system = 50, .vm = 51, .vcpu = 52};

    if (stage != NULL) {
        expect_foreign(&machine);
        CHECK_FAILS(ioctl(53, KVM_RUN, 0), EBADF);
        machine = machine_new();
        expect_port_exit(machine.vcpu, machine.run);
        machine_free(&machine);
        return;
    }
    machine = machine_new();
    CHECK(dup2(machine.system, 50) == 50 && dup2(machine.vm, 51) == 51 &&
          dup2(machine.vcpu, 52) == 52);
    CHECK(dup3(machine.vcpu, 53, O_CLOEXEC) == 53);
    setenv("PRELOAD_CASE_STAGE", "2", 1);
    execl("/proc/self/exe", "cases", "exec_keeps_the_system_and_no_vm", (char *)NULL);
    CHECK(false);
}

/* ---- signals ---- */

static volatile sig_atomic_t handled;
static int handler_fd = -1;
static int handler_vm = -1;

static void on_alarm(int number)
{
    int error = errno;

    (void)number;
    handled++;
    /* What a handler may do: also what the library stands before. */
    if (handler_fd >= 0) {
        int fd = dup(handler_fd);

        close(fd);
        fd = open("/dev/null", O_RDWR);
        (void)!write(fd, "", 1);
        close(fd);
        (void)ioctl(handler_fd, TIOCGWINSZ, NULL);
        if (ioctl(handler_vm, KVM_CHECK_EXTENSION, KVM_CAP_USER_MEMORY) != 1) {
            _exit(3);
        }
    }
    errno = error;
}

static void set_alarm(long interval_us)
{
    struct sigaction action = {.sa_handler = on_alarm};
    struct itimerval timer = {{0, interval_us}, {0, interval_us != 0 ? interval_us : 1000}};

    CHECK(sigaction(SIGALRM, &action, NULL) == 0);
    CHECK(setitimer(ITIMER_REAL, &timer, NULL) == 0);
}

static void signal_ends_a_run(void)
{
    static const uint8_t forever[] = {0xeb, 0xfe};
    struct machine machine = machine_new();
    sigset_t alarm_set;
    /* struct kvm_signal_mask and its 8 bytes: none is blocked while the guest runs. */
    _Alignas(struct kvm_signal_mask) uint8_t mask[sizeof(struct kvm_signal_mask) + 8] = {8};

    machine_set_code(&machine, forever, sizeof(forever));
    set_alarm(0);
    CHECK_FAILS(ioctl(machine.vcpu, KVM_RUN, 0), EINTR);
    CHECK(handled == 1 && machine.run->exit_reason == KVM_EXIT_INTR);
    /* One that is blocked, but not while the guest runs: it ends the run, and stays pending. */
    sigemptyset(&alarm_set);
    sigaddset(&alarm_set, SIGALRM);
    CHECK(sigprocmask(SIG_BLOCK, &alarm_set, NULL) == 0);
    CHECK(ioctl(machine.vcpu, KVM_SET_SIGNAL_MASK, mask) == 0);
    set_alarm(0);
    CHECK_FAILS(ioctl(machine.vcpu, KVM_RUN, 0), EINTR);
    CHECK(handled == 1);
    CHECK(sigprocmask(SIG_UNBLOCK, &alarm_set, NULL) == 0);
    CHECK(handled == 2);
    machine_free(&machine);
}

static void handlers_may_come_at_any_time(void)
{
    int ends[2];

    CHECK(pipe(ends) == 0);
    for (int i = 0; i < 20; i++) {
        struct machine machine = machine_new();
        void *other = mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

        handler_fd = ends[0];
        handler_vm = machine.vm;
        set_alarm(200);
        for (int j = 0; j < 200; j++) {
            struct kvm_userspace_memory_region region = {
                .slot = 9, .guest_phys_addr = 0x100000, .userspace_addr = (uintptr_t)other};

            while (ioctl(machine.vcpu, KVM_RUN, 0) != 0) {
                CHECK(errno == EINTR);
            }
            region.memory_size = j % 2 == 0 ? PAGE : 0;
            CHECK(ioctl(machine.vm, KVM_SET_USER_MEMORY_REGION, &region) == 0);
            CHECK(mprotect(other, PAGE, j % 2 == 0 ? PROT_NONE : PROT_READ) == 0);
        }
        handler_fd = -1;
        CHECK(setitimer(ITIMER_REAL, &(struct itimerval){0}, NULL) == 0);
        CHECK(munmap(other, PAGE) == 0);
        machine_free(&machine);
    }
    CHECK(handled > 0);
}

/* For the driver, which looks at how it ended. */
static void dies_while_a_vcpu_runs(void)
{
    static const uint8_t forever[] = {0xeb, 0xfe};
    struct machine machine = machine_new();

    machine_set_code(&machine, forever, sizeof(forever));
    signal(SIGALRM, SIG_DFL);
    alarm(1);
    (void)ioctl(machine.vcpu, KVM_RUN, 0);
    CHECK(false);
}

const struct test_case process_cases[] = {
    {"child_of_fork_gets_eio_and_may_have_its_own", child_of_fork_gets_eio_and_may_have_its_own,
     false},
    {"child_of_a_raw_fork_gets_eio", child_of_a_raw_fork_gets_eio, false},
    {"vm_outlives_what_a_child_closes", vm_outlives_what_a_child_closes, false},
    {"exec_keeps_the_system_and_no_vm", exec_keeps_the_system_and_no_vm, false},
    {"signal_ends_a_run", signal_ends_a_run, false},
    {"handlers_may_come_at_any_time", handlers_may_come_at_any_time, false},
    {"dies_while_a_vcpu_runs", dies_while_a_vcpu_runs, false},
    {NULL, NULL, false},
};
