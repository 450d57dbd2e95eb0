/* preload/case_descriptors.c - VMs and vCPUs as descriptors: made, duplicated, passed, mapped, polled, closed in any order. */
#include "cases.h"

#include <fcntl.h>
#include <linux/close_range.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>

static void made_as_kvm_has_them(void)
{
    struct machine machine = machine_new();
    int other = open("/dev/kvm", O_RDONLY);

    CHECK(fcntl(other, F_GETFD) == 0);
    CHECK((fcntl(other, F_GETFL) & O_ACCMODE) == O_RDONLY);
    CHECK(ioctl(other, KVM_GET_API_VERSION, 0) == KVM_API_VERSION);
    CHECK(close(other) == 0);
    CHECK(fcntl(machine.vm, F_GETFD) == FD_CLOEXEC && fcntl(machine.vcpu, F_GETFD) == FD_CLOEXEC);
    CHECK((fcntl(machine.vm, F_GETFL) & O_ACCMODE) == O_RDWR);
    /* The lowest numbers, as of any open(). */
    CHECK(machine.vm == machine.system + 1 && machine.vcpu == machine.vm + 1);
    CHECK(access("/dev/kvm", R_OK | W_OK) == 0);
    CHECK_FAILS(ioctl(machine.system, KVM_CREATE_VM, 0x77), EINVAL);
    machine_free(&machine);
}

static void named_in_other_ways(void)
{
    const char *volatile nowhere = (const char *)8;
    int folder = open("/dev", O_RDONLY | O_DIRECTORY);
    int fds[] = {
        open("/dev//./kvm", O_RDWR),
        open("/tmp/../dev/kvm", O_RDWR),
        openat(folder, "kvm", O_RDWR),
        openat(AT_FDCWD, "/dev/kvm", O_RDWR),
        (int)syscall(SYS_openat, folder, "kvm", O_RDWR),
        (int)syscall(SYS_open, "/dev/kvm", O_RDWR),
    };

    for (size_t i = 0; i < sizeof(fds) / sizeof(fds[0]); i++) {
        CHECK(fds[i] >= 0);
        CHECK(ioctl(fds[i], KVM_GET_API_VERSION, 0) == KVM_API_VERSION);
        CHECK(close(fds[i]) == 0);
    }
    CHECK(chdir("/dev") == 0);
    CHECK(ioctl(open("kvm", O_RDWR), KVM_GET_API_VERSION, 0) == KVM_API_VERSION);
    CHECK_FAILS(open("/dev/kvm", O_RDWR | O_DIRECTORY), ENOTDIR);
    CHECK(open("/dev/kvm/kvm", O_RDWR) == -1 &&
          (errno == ENOTDIR || errno == ENOENT)); /* is there a device on the host? */
    CHECK_FAILS(open("/tmp/no-such-folder/kvm", O_RDWR), ENOENT);
    CHECK_FAILS(openat(AT_FDCWD, nowhere, O_RDWR), EFAULT);
}

static void requests_of_the_others_are_refused(void)
{
    struct machine machine = machine_new();
    struct kvm_regs regs;

    CHECK_FAILS(ioctl(machine.vm, KVM_RUN, 0), ENOTTY);
    CHECK_FAILS(ioctl(machine.vm, KVM_GET_REGS, &regs), ENOTTY);
    CHECK_FAILS(ioctl(machine.vcpu, KVM_CREATE_VCPU, 0), EINVAL);
    CHECK_FAILS(ioctl(machine.vcpu, KVM_CREATE_VM, 0), EINVAL);
    CHECK_FAILS(ioctl(machine.system, KVM_RUN, 0), EINVAL);
    CHECK_FAILS(ioctl(machine.system, KVM_CREATE_VCPU, 0), EINVAL);
    /* A terminal's: isatty() asks it. */
    CHECK_FAILS(ioctl(machine.vm, TIOCGWINSZ, &regs), ENOTTY);
    CHECK_FAILS(ioctl(machine.vcpu, TIOCGWINSZ, &regs), EINVAL);
    CHECK_FAILS(ioctl(machine.system, TIOCGWINSZ, &regs), EINVAL);
    CHECK_FAILS(ioctl(STDIN_FILENO, KVM_GET_API_VERSION, 0), ENOTTY);
    CHECK_FAILS(ioctl(-1, KVM_GET_API_VERSION, 0), EBADF);
    CHECK_FAILS(ioctl(1000, KVM_CREATE_VM, 0), EBADF);
    machine_free(&machine);
}

static void not_files_to_read(void)
{
    struct machine machine = machine_new();
    int fds[] = {machine.system, machine.vm, machine.vcpu};
    char byte = 0;

    for (size_t i = 0; i < sizeof(fds) / sizeof(fds[0]); i++) {
        CHECK_FAILS(read(fds[i], &byte, 1), EINVAL);
        CHECK_FAILS(write(fds[i], &byte, 1), EINVAL);
        CHECK_FAILS(syscall(SYS_read, fds[i], &byte, 1), EINVAL);
    }
    machine_free(&machine);
}

static void ready_to_those_who_poll(void)
{
    struct machine machine = machine_new();
    struct pollfd polled = {.fd = machine.vcpu, .events = POLLIN | POLLOUT};
    struct epoll_event event = {.events = EPOLLIN};
    int epoll = epoll_create1(0);
    fd_set set;

    CHECK(poll(&polled, 1, 0) == 1 && polled.revents == (POLLIN | POLLOUT));
    FD_ZERO(&set);
    FD_SET(machine.vm, &set);
    CHECK(select(machine.vm + 1, &set, NULL, NULL, NULL) == 1);
    CHECK_FAILS(epoll_ctl(epoll, EPOLL_CTL_ADD, machine.vm, &event), EPERM);
    CHECK_FAILS(epoll_ctl(epoll, EPOLL_CTL_ADD, machine.system, &event), EPERM);
    machine_free(&machine);
}

static void mapped_as_kvm_allows(void)
{
    struct machine machine = machine_new();
    void *map;

    CHECK_FAILS((long)mmap(NULL, PAGE, PROT_READ, MAP_SHARED, machine.vm, 0), ENODEV);
    CHECK_FAILS((long)mmap(NULL, PAGE, PROT_READ, MAP_SHARED, machine.system, 0), ENODEV);
    CHECK_FAILS((long)mmap(NULL, PAGE, PROT_READ | PROT_EXEC, MAP_SHARED, machine.vcpu, 0), EPERM);
    CHECK_FAILS(syscall(SYS_mmap, NULL, PAGE, PROT_READ, MAP_SHARED, machine.vm, 0), ENODEV);
    map = mmap(NULL, RUN_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, machine.vcpu, 0);
    CHECK(map != MAP_FAILED && map != machine.run);
    ((struct kvm_run *)map)->immediate_exit = 1;
    CHECK(machine.run->immediate_exit == 1);
    CHECK_FAILS(ioctl(machine.vcpu, KVM_RUN, 0), EINTR);
    CHECK(munmap(map, RUN_BYTES) == 0);
    machine.run->immediate_exit = 0;
    expect_port_exit(machine.vcpu, machine.run);
    machine_free(&machine);
}

static void ring_is_mapped_from_its_page_on(void)
{
    const size_t ring_bytes = 0x4000;
    const off_t offset = KVM_DIRTY_LOG_PAGE_OFFSET * (off_t)PAGE;
    struct kvm_enable_cap enable = {.cap = KVM_CAP_DIRTY_LOG_RING, .args = {ring_bytes}};
    int system = open("/dev/kvm", O_RDWR);
    int vm = ioctl(system, KVM_CREATE_VM, 0);
    int vcpu;
    void *ring;

    CHECK(ioctl(vm, KVM_ENABLE_CAP, &enable) == 0);
    vcpu = ioctl(vm, KVM_CREATE_VCPU, 0);
    CHECK(vcpu >= 0);
    CHECK_FAILS((long)mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE, vcpu, offset), EINVAL);
    CHECK_FAILS((long)mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE, vcpu, offset + PAGE), EINVAL);
    CHECK_FAILS((long)mmap(NULL, PAGE, PROT_READ | PROT_EXEC, MAP_PRIVATE, vcpu, offset), EPERM);
    ring = mmap(NULL, ring_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, vcpu, offset);
    CHECK(ring != MAP_FAILED);
    CHECK(((struct kvm_dirty_gfn *)ring)[ring_bytes / sizeof(struct kvm_dirty_gfn) - 1].flags == 0);
}

static void duplicates_are_the_same(void)
{
    struct machine machine = machine_new();
    int vcpus[] = {
        dup(machine.vcpu),
        fcntl(machine.vcpu, F_DUPFD, 100),
        fcntl(machine.vcpu, F_DUPFD_CLOEXEC, 0),
        dup2(machine.vcpu, 200),
        dup3(machine.vcpu, 201, O_CLOEXEC),
        (int)syscall(SYS_dup, machine.vcpu),
    };

    CHECK(close(machine.vcpu) == 0);
    for (size_t i = 0; i < sizeof(vcpus) / sizeof(vcpus[0]); i++) {
        CHECK(vcpus[i] >= 0);
        expect_port_exit(vcpus[i], machine.run);
        CHECK(close(vcpus[i]) == 0);
        CHECK_FAILS(ioctl(vcpus[i], KVM_RUN, 0), EBADF);
    }
    /* The vCPU is the VM's, and not made twice. */
    CHECK_FAILS(ioctl(machine.vm, KVM_CREATE_VCPU, 0), EEXIST);
}

static void a_number_used_again_is_what_it_is_now(void)
{
    struct machine machine = machine_new();
    int ends[2];
    char byte = 'x';

    CHECK(pipe(ends) == 0);
    CHECK(dup2(ends[0], machine.vcpu) == machine.vcpu);
    CHECK_FAILS(ioctl(machine.vcpu, KVM_RUN, 0), ENOTTY);
    CHECK(write(ends[1], &byte, 1) == 1 && read(machine.vcpu, &byte, 1) == 1);
    CHECK(dup2(machine.vm, ends[0]) == ends[0]);
    CHECK(ioctl(ends[0], KVM_CHECK_EXTENSION, KVM_CAP_USER_MEMORY) == 1);
    CHECK(dup2(machine.vm, machine.vm) == machine.vm);
    CHECK_FAILS(dup2(1000, machine.vm), EBADF);
    CHECK(ioctl(machine.vm, KVM_CHECK_EXTENSION, KVM_CAP_USER_MEMORY) == 1);
}

/* What goes first, by the digits of a number: the system's, the VM's, the vCPU's descriptor, the mapping. */
static void torn_down_in_any_order(void)
{
    for (unsigned order = 0; order < 256; order++) {
        unsigned done = 0;
        struct machine machine;

        for (unsigned i = 0; i < 4; i++) {
            done |= 1u << (order >> 2 * i & 3);
        }
        if (done != 15) {
            continue;
        }
        machine = machine_new();
        expect_port_exit(machine.vcpu, machine.run);
        for (unsigned i = 0; i < 4; i++) {
            switch (order >> 2 * i & 3) {
            case 0:
                CHECK(close(machine.system) == 0);
                machine.system = -1;
                break;
            case 1:
                CHECK(close(machine.vm) == 0);
                machine.vm = -1;
                break;
            case 2:
                CHECK(close(machine.vcpu) == 0);
                machine.vcpu = -1;
                break;
            default:
                CHECK(munmap(machine.run, RUN_BYTES) == 0);
                machine.run = NULL;
            }
            if (machine.vcpu != -1) {
                CHECK(ioctl(machine.vcpu, KVM_RUN, 0) == 0);
            }
            if (machine.vm != -1) {
                CHECK(ioctl(machine.vm, KVM_CHECK_EXTENSION, KVM_CAP_USER_MEMORY) == 1);
            }
        }
        CHECK(munmap(machine.code, PAGE) == 0 && munmap(machine.ram, RAM_BYTES) == 0);
    }
}

/* The kernel's own view of it: what /proc/self/fd has. */
static unsigned count_descriptors(void)
{
    unsigned count = 0;

    for (int fd = 0; fd < 1024; fd++) {
        count += fcntl(fd, F_GETFD) != -1;
    }
    return count;
}

static void nothing_is_left_open(void)
{
    unsigned before = count_descriptors();

    for (int i = 0; i < 50; i++) {
        struct machine machine = machine_new();
        int other = dup(machine.vcpu);

        CHECK(close(machine.vcpu) == 0);
        machine.vcpu = other;
        machine_free(&machine);
    }
    CHECK(count_descriptors() == before);
}

static void closed_by_ranges(void)
{
    struct machine machine = machine_new();
    int high = fcntl(machine.vcpu, F_DUPFD, 300);

    CHECK(close_range((unsigned)machine.vm, 299, CLOSE_RANGE_CLOEXEC) == 0);
    expect_port_exit(machine.vcpu, machine.run);
    CHECK(close_range((unsigned)machine.system, 299, 0) == 0);
    CHECK_FAILS(ioctl(machine.vm, KVM_CHECK_EXTENSION, KVM_CAP_USER_MEMORY), EBADF);
    expect_port_exit(high, machine.run);
    closefrom(3);
    CHECK_FAILS(ioctl(high, KVM_RUN, 0), EBADF);
    CHECK_FAILS(close_range(5, 4, 0), EINVAL);
    machine = machine_new();
    expect_port_exit(machine.vcpu, machine.run);
    CHECK(close_range(3, ~0u, CLOSE_RANGE_UNSHARE) == 0);
    machine = machine_new();
    machine_free(&machine);
}

/* Through a socket: another number, from the kernel. */
static void passed_through_a_socket(void)
{
    struct machine machine = machine_new();
    char control[CMSG_SPACE(sizeof(int))] = {0};
    char byte = 0;
    struct iovec bytes = {&byte, 1};
    struct msghdr message = {.msg_iov = &bytes,
                             .msg_iovlen = 1,
                             .msg_control = control,
                             .msg_controllen = sizeof(control)};
    struct cmsghdr *header = CMSG_FIRSTHDR(&message);
    int ends[2];

    CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, ends) == 0);
    *header = (struct cmsghdr){CMSG_LEN(sizeof(int)), SOL_SOCKET, SCM_RIGHTS};
    memcpy(CMSG_DATA(header), &machine.vcpu, sizeof(int));
    CHECK(sendmsg(ends[0], &message, 0) == 1);
    CHECK(close(machine.vcpu) == 0);
    CHECK(recvmsg(ends[1], &message, 0) == 1);
    memcpy(&machine.vcpu, CMSG_DATA(CMSG_FIRSTHDR(&message)), sizeof(int));
    expect_port_exit(machine.vcpu, machine.run);
    machine_free(&machine);
}

const struct test_case descriptor_cases[] = {
    {"made_as_kvm_has_them", made_as_kvm_has_them, false},
    {"named_in_other_ways", named_in_other_ways, false},
    {"requests_of_the_others_are_refused", requests_of_the_others_are_refused, false},
    {"not_files_to_read", not_files_to_read, false},
    {"ready_to_those_who_poll", ready_to_those_who_poll, false},
    {"mapped_as_kvm_allows", mapped_as_kvm_allows, false},
    {"ring_is_mapped_from_its_page_on", ring_is_mapped_from_its_page_on, false},
    {"duplicates_are_the_same", duplicates_are_the_same, false},
    {"a_number_used_again_is_what_it_is_now", a_number_used_again_is_what_it_is_now, false},
    {"torn_down_in_any_order", torn_down_in_any_order, false},
    {"nothing_is_left_open", nothing_is_left_open, false},
    {"closed_by_ranges", closed_by_ranges, false},
    {"passed_through_a_socket", passed_through_a_socket, false},
    {NULL, NULL, false},
};
