/*
 * preload/cases.c - `cases --list`: names, with "soft" for what the machine's own KVM is not asked; `cases NAME`: one, exit code 0.
 */
#include "cases.h"

#include <fcntl.h>
#include <sys/wait.h>

#define CODE_GPA 0xfffff000u
#define RESET_OFFSET 0xff0u

static void add_slot(const struct machine *machine, unsigned slot, uint64_t gpa, void *memory,
                     size_t size_bytes)
{
    struct kvm_userspace_memory_region region = {
        .slot = slot,
        .guest_phys_addr = gpa,
        .memory_size = size_bytes,
        .userspace_addr = (uintptr_t)memory,
    };

    CHECK(ioctl(machine->vm, KVM_SET_USER_MEMORY_REGION, &region) == 0);
}

static void *pages(size_t size_bytes)
{
    void *memory =
        mmap(NULL, size_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    CHECK(memory != MAP_FAILED);
    return memory;
}

struct machine machine_new(void)
{
    struct machine machine = {.system = open("/dev/kvm", O_RDWR | O_CLOEXEC)};

    CHECK(machine.system >= 0);
    CHECK(ioctl(machine.system, KVM_GET_API_VERSION, 0) == KVM_API_VERSION);
    machine.vm = ioctl(machine.system, KVM_CREATE_VM, 0);
    CHECK(machine.vm >= 0);
    machine.code = pages(PAGE);
    machine.ram = pages(RAM_BYTES);
    add_slot(&machine, 0, 0, machine.ram, RAM_BYTES);
    add_slot(&machine, 1, CODE_GPA, machine.code, PAGE);
    machine_set_port_loop(&machine);
    machine.vcpu = machine_add_vcpu(&machine, 0, &machine.run);
    return machine;
}

int machine_add_vcpu(const struct machine *machine, unsigned id, struct kvm_run **run)
{
    int vcpu = ioctl(machine->vm, KVM_CREATE_VCPU, id);
    int run_bytes = ioctl(machine->system, KVM_GET_VCPU_MMAP_SIZE, 0);

    CHECK(vcpu >= 0);
    CHECK(run_bytes == RUN_BYTES);
    *run = mmap(NULL, RUN_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, vcpu, 0);
    CHECK(*run != MAP_FAILED);
    return vcpu;
}

void machine_set_code(const struct machine *machine, const void *code, size_t size_bytes)
{
    CHECK(size_bytes <= PAGE - RESET_OFFSET);
    memcpy(machine->code + RESET_OFFSET, code, size_bytes);
}

void machine_set_port_loop(const struct machine *machine)
{
    static const uint8_t code[] = {0xe6, 0x10, 0xeb, 0xfc};

    machine_set_code(machine, code, sizeof(code));
}

void expect_port_exit(int vcpu, const struct kvm_run *run)
{
    CHECK(ioctl(vcpu, KVM_RUN, 0) == 0);
    CHECK(run->exit_reason == KVM_EXIT_IO);
    CHECK(run->io.port == 0x10 && run->io.direction == KVM_EXIT_IO_OUT && run->io.size == 1);
}

void machine_free(struct machine *machine)
{
    CHECK(munmap(machine->run, RUN_BYTES) == 0);
    CHECK(close(machine->vcpu) == 0);
    CHECK(close(machine->vm) == 0);
    CHECK(close(machine->system) == 0);
    CHECK(munmap(machine->code, PAGE) == 0);
    CHECK(munmap(machine->ram, RAM_BYTES) == 0);
}

int in_child(void (*run)(void *opaque), void *opaque)
{
    pid_t child = fork();
    int status = 0;

    CHECK(child >= 0);
    if (child == 0) {
        run(opaque);
        exit(0);
    }
    CHECK(waitpid(child, &status, 0) == child);
    return status;
}

static const struct test_case *const all[] = {descriptor_cases, memory_cases, process_cases,
                                              slot_cases, thread_cases};

int main(int argc, char **argv)
{
    bool is_list = argc == 2 && strcmp(argv[1], "--list") == 0;

    for (size_t i = 0; argc == 2 && i < sizeof(all) / sizeof(all[0]); i++) {
        for (const struct test_case *found = all[i]; found->name != NULL; found++) {
            if (is_list) {
                printf("%s%s\n", found->name, found->soft_only ? " soft" : "");
            } else if (strcmp(found->name, argv[1]) == 0) {
                found->run();
                return 0;
            }
        }
    }
    return is_list ? 0 : 2;
}
