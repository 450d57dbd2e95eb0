/* preload/case_memory.c - the program changes memory that is a guest's. */
#include "cases.h"

#include <fcntl.h>
#include <sys/shm.h>
#include <sys/syscall.h>

/* `mov al, [0x1000]; inc al; mov [0x1000], al; out 0x10, al`, and again. */
static const uint8_t count_code[] = {0xa0, 0x00, 0x10, 0xfe, 0xc0, 0xa2,
                                     0x00, 0x10, 0xe6, 0x10, 0xeb, 0xf4};
#define COUNTER 0x1000u

static struct machine counting_machine(void)
{
    struct machine machine = machine_new();

    machine_set_code(&machine, count_code, sizeof(count_code));
    return machine;
}

static void expect_count(const struct machine *machine, unsigned count)
{
    expect_port_exit(machine->vcpu, machine->run);
    CHECK(*((const uint8_t *)machine->run + machine->run->io.data_offset) == count);
}

static void guest_and_program_see_the_same_memory(void)
{
    struct machine machine = counting_machine();

    machine.ram[COUNTER] = 41;
    expect_count(&machine, 42);
    CHECK(machine.ram[COUNTER] == 42);
    machine_free(&machine);
}

static void discarded_memory_is_zero(void)
{
    struct machine machine = counting_machine();

    machine.ram[COUNTER] = 41;
    expect_count(&machine, 42);
    CHECK(madvise(machine.ram + COUNTER, PAGE, MADV_DONTNEED) == 0);
    expect_count(&machine, 1);
    CHECK(syscall(SYS_madvise, machine.ram + COUNTER, PAGE, MADV_DONTNEED) == 0);
    expect_count(&machine, 1);
    machine_free(&machine);
}

static void memory_mapped_over_is_what_the_guest_sees(void)
{
    struct machine machine = counting_machine();
    int file = (int)syscall(SYS_memfd_create, "other", 0);
    const uint8_t seven = 7;

    expect_count(&machine, 1);
    CHECK(ftruncate(file, PAGE) == 0 && pwrite(file, &seven, 1, 0) == 1);
    CHECK(mmap(machine.ram + COUNTER, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, file,
               0) == machine.ram + COUNTER);
    expect_count(&machine, 8);
    machine_free(&machine);
}

static void memory_moved_in_is_what_the_guest_sees(void)
{
    struct machine machine = counting_machine();
    uint8_t *other = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    expect_count(&machine, 1);
    other[0] = 99;
    CHECK(mremap(other, PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, machine.ram + COUNTER) ==
          machine.ram + COUNTER);
    expect_count(&machine, 100);
    machine_free(&machine);
}

static void memory_that_went_fails_the_run(void)
{
    struct machine machine = counting_machine();

    expect_count(&machine, 1);
    CHECK(munmap(machine.ram + COUNTER, PAGE) == 0);
    CHECK_FAILS(ioctl(machine.vcpu, KVM_RUN, 0), EFAULT);
    CHECK(mmap(machine.ram + COUNTER, PAGE, PROT_READ | PROT_WRITE,
               MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == machine.ram + COUNTER);
    expect_count(&machine, 1);
    CHECK(mprotect(machine.ram + COUNTER, PAGE, PROT_NONE) == 0);
    CHECK_FAILS(ioctl(machine.vcpu, KVM_RUN, 0), EFAULT);
    CHECK(mprotect(machine.ram + COUNTER, PAGE, PROT_READ) == 0);
    CHECK_FAILS(ioctl(machine.vcpu, KVM_RUN, 0), EFAULT);
    CHECK(syscall(SYS_mprotect, machine.ram + COUNTER, PAGE, PROT_READ | PROT_WRITE) == 0);
    expect_count(&machine, 2);
    CHECK(mremap(machine.ram + COUNTER, PAGE, 2 * PAGE, MREMAP_MAYMOVE) != MAP_FAILED);
    CHECK_FAILS(ioctl(machine.vcpu, KVM_RUN, 0), EFAULT);
}

/* A file that becomes shorter takes pages away that stay mapped. */
static void memory_of_a_file_that_shrinks_fails_the_run(void)
{
    struct machine machine = counting_machine();
    int file = (int)syscall(SYS_memfd_create, "ram", 0);

    CHECK(ftruncate(file, RAM_BYTES) == 0);
    CHECK(mmap(machine.ram, RAM_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, file, 0) ==
          machine.ram);
    expect_count(&machine, 1);
    CHECK(ftruncate(file, COUNTER) == 0);
    CHECK_FAILS(ioctl(machine.vcpu, KVM_RUN, 0), EFAULT);
    CHECK(ftruncate(file, RAM_BYTES) == 0);
    expect_count(&machine, 1);
}

static void memory_of_a_detached_segment_fails_the_run(void)
{
    struct machine machine = machine_new();
    int segment = shmget(IPC_PRIVATE, RAM_BYTES, IPC_CREAT | 0600);
    void *memory = shmat(segment, NULL, 0);
    struct kvm_userspace_memory_region region = {.slot = 0};

    CHECK(segment >= 0 && memory != (void *)-1);
    CHECK(shmctl(segment, IPC_RMID, NULL) == 0);
    CHECK(ioctl(machine.vm, KVM_SET_USER_MEMORY_REGION, &region) == 0);
    region.memory_size = RAM_BYTES;
    region.userspace_addr = (uintptr_t)memory;
    CHECK(ioctl(machine.vm, KVM_SET_USER_MEMORY_REGION, &region) == 0);
    machine_set_code(&machine, count_code, sizeof(count_code));
    expect_count(&machine, 1);
    CHECK(shmdt(memory) == 0);
    CHECK_FAILS(ioctl(machine.vcpu, KVM_RUN, 0), EFAULT);
}

const struct test_case memory_cases[] = {
    {"guest_and_program_see_the_same_memory", guest_and_program_see_the_same_memory, false},
    {"discarded_memory_is_zero", discarded_memory_is_zero, false},
    {"memory_mapped_over_is_what_the_guest_sees", memory_mapped_over_is_what_the_guest_sees, false},
    {"memory_moved_in_is_what_the_guest_sees", memory_moved_in_is_what_the_guest_sees, false},
    /* LAB: reference B has MMIO exits there, where KVM with EPT or NPT has EFAULT. */
    {"memory_that_went_fails_the_run", memory_that_went_fails_the_run, true},
    {"memory_of_a_file_that_shrinks_fails_the_run", memory_of_a_file_that_shrinks_fails_the_run,
     true},
    {"memory_of_a_detached_segment_fails_the_run", memory_of_a_detached_segment_fails_the_run,
     true},
    {NULL, NULL, false},
};
