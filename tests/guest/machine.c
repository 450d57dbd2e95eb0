/* guest/machine.c - the machine that the compiled guest runs on. */
#include "guest/machine.h"

#include "soft/soft.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#define PTE_TABLE 3u
#define PTE_LARGE_PAGE 0x83u
#define NOT_ENDED UINT64_MAX
#define CPUID_ENTRIES 128u

/* A file where it was built, or in the working directory, which is all that scripts/lab/run gives. */
static void load(const char *path, uint8_t *memory, size_t room)
{
    FILE *file = fopen(path, "rb");
    size_t count;

    if (file == NULL) {
        file = fopen(basename(path), "rb");
    }

    assert_non_null(file);
    count = fread(memory, 1, room, file);
    assert_int_equal(fclose(file), 0);
    assert_in_range(count, 1, room - 1);
}

static void put(uint8_t *memory, uint64_t at, uint64_t value)
{
    memcpy(memory + at, &value, sizeof(value));
}

/* 1 GiB at 0, and at GUEST_KERNEL_BASE, the last but one of all. */
static void make_boot_tables(uint8_t *memory)
{
    const uint64_t pml4 = GUEST_BOOT_TABLES, pdpt = pml4 + GUEST_PAGE, pd = pdpt + GUEST_PAGE;

    put(memory, pml4, pdpt | PTE_TABLE);
    put(memory, pml4 + 511 * 8, pdpt | PTE_TABLE);
    put(memory, pdpt, pd | PTE_TABLE);
    put(memory, pdpt + 510 * 8, pd | PTE_TABLE);
    for (uint64_t i = 0; i < 512; i++) {
        put(memory, pd + i * 8, i * GUEST_BLOCK | PTE_LARGE_PAGE);
    }
}

static void make_memory(struct machine *machine)
{
    const struct machine_options *options = &machine->options;
    struct guest_board *board;

    machine->file = memfd_create("guest", MFD_CLOEXEC);
    assert_true(machine->file >= 0);
    assert_int_equal(ftruncate(machine->file, GUEST_RAM_BYTES), 0);
    for (unsigned i = 0; i < 2; i++) {
        machine->memory[i] =
            mmap(NULL, GUEST_RAM_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, machine->file, 0);
        assert_true(machine->memory[i] != MAP_FAILED);
    }
    load(options->kernel, machine->memory[0] + GUEST_KERNEL, GUEST_KERNEL_END - GUEST_KERNEL);
    load(options->image, machine->memory[0] + GUEST_IMAGE, GUEST_FRAMES - GUEST_IMAGE);
    make_boot_tables(machine->memory[0]);
    board = (struct guest_board *)(machine->memory[0] + GUEST_BOARD);
    board->cpus = options->cpus;
    board->features = options->features;
    board->rounds = options->rounds;
    board->repeats = options->repeats;
}

long machine_ioctl(struct machine *machine, unsigned long request, void *argument)
{
    int rc;

    if (!machine->options.is_kvm) {
        return gm_soft_vm_ioctl(machine->soft, request, (unsigned long)argument);
    }
    rc = ioctl(machine->vm_fd, request, argument);
    return rc >= 0 ? rc : -errno;
}

void machine_set_slot(struct machine *machine, unsigned slot, unsigned mapping, uint32_t flags)
{
    const uint64_t gpa = slot * MACHINE_SLOT_BYTES;
    struct kvm_userspace_memory_region region = {
        .slot = slot,
        .flags = flags,
        .guest_phys_addr = gpa,
        .memory_size = MACHINE_SLOT_BYTES,
        .userspace_addr = (uintptr_t)machine->memory[mapping] + gpa,
    };

    assert_int_equal(machine_ioctl(machine, KVM_SET_USER_MEMORY_REGION, &region), 0);
}

static struct kvm_segment code_segment(void)
{
    return (struct kvm_segment){
        .limit = UINT32_MAX, .selector = 8, .type = 11, .present = 1, .s = 1, .l = 1, .g = 1};
}

static struct kvm_segment data_segment(void)
{
    return (struct kvm_segment){
        .limit = UINT32_MAX, .selector = 16, .type = 3, .present = 1, .db = 1, .s = 1, .g = 1};
}

static void set_system_registers(struct kvm_sregs *sregs)
{
    sregs->cs = code_segment();
    sregs->ds = sregs->es = sregs->fs = sregs->gs = sregs->ss = data_segment();
    sregs->cr0 = 0x80010033; /* PG, WP, NE, ET, MP, PE */
    sregs->cr3 = GUEST_BOOT_TABLES;
    sregs->cr4 = 0x20;   /* PAE */
    sregs->efer = 0x500; /* LMA, LME */
}

static long cpu_ioctl(struct machine_cpu *cpu, unsigned long request, void *argument)
{
    int rc;

    if (!cpu->machine->options.is_kvm) {
        return gm_soft_vcpu_ioctl(cpu->soft, request, (unsigned long)argument);
    }
    rc = ioctl(cpu->fd, request, argument);
    return rc >= 0 ? rc : -errno;
}

/* What the guest looks for, and is told on the board as well. */
static void fill_cpuid(struct kvm_cpuid2 *cpuid, uint64_t features)
{
    struct kvm_cpuid_entry2 *entry = cpuid->entries;

    cpuid->nent = 4;
    entry[0].eax = 7;
    entry[1].function = 1;
    entry[1].edx = 0xa178; /* PSE, TSC, MSR, PAE, CX8, PGE, CMOV */
    entry[1].edx |= (features & FEATURE_SSE) != 0 ? 7u << 24 : 0; /* FXSR, SSE, SSE2 */
    entry[1].ecx = 1u << 13;                                      /* CMPXCHG16B */
    entry[1].ecx |= (features & FEATURE_PCID) != 0 ? 1u << 17 : 0;
    entry[2].function = 7;
    entry[2].flags = KVM_CPUID_FLAG_SIGNIFCANT_INDEX;
    entry[2].ebx |= (features & FEATURE_SMEP) != 0 ? 1u << 7 : 0;
    entry[2].ebx |= (features & FEATURE_SMAP) != 0 ? 1u << 20 : 0;
    entry[3].function = 0x80000001;
    entry[3].edx = 1u << 29 | 1u << 20 | 1u << 11; /* long mode, NX, SYSCALL */
}

static void set_cpuid(struct machine_cpu *cpu)
{
    const struct machine *machine = cpu->machine;
    struct kvm_cpuid2 *cpuid =
        calloc(1, sizeof(*cpuid) + CPUID_ENTRIES * sizeof(cpuid->entries[0]));

    assert_non_null(cpuid);
    cpuid->nent = CPUID_ENTRIES;
    if (machine->options.is_kvm) {
        assert_int_equal(ioctl(machine->kvm_fd, KVM_GET_SUPPORTED_CPUID, cpuid), 0);
    } else {
        fill_cpuid(cpuid, machine->options.features);
    }
    assert_int_equal(cpu_ioctl(cpu, KVM_SET_CPUID2, cpuid), 0);
    free(cpuid);
}

static void set_registers(struct machine_cpu *cpu)
{
    struct kvm_regs regs = {
        .rip = GUEST_KERNEL_BASE + GUEST_KERNEL, .rdi = cpu->number, .rflags = 2};
    struct kvm_sregs sregs;

    assert_int_equal(cpu_ioctl(cpu, KVM_GET_SREGS, &sregs), 0);
    set_system_registers(&sregs);
    assert_int_equal(cpu_ioctl(cpu, KVM_SET_SREGS, &sregs), 0);
    assert_int_equal(cpu_ioctl(cpu, KVM_SET_REGS, &regs), 0);
}

static void make_cpu(struct machine *machine, unsigned number)
{
    struct machine_cpu *cpu = &machine->cpus[number];

    *cpu = (struct machine_cpu){.machine = machine, .number = number, .end = NOT_ENDED, .fd = -1};
    if (machine->options.is_kvm) {
        cpu->fd = ioctl(machine->vm_fd, KVM_CREATE_VCPU, number);
        assert_true(cpu->fd >= 0);
        cpu->run = mmap(NULL, machine->run_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, cpu->fd, 0);
        assert_true(cpu->run != MAP_FAILED);
    } else {
        assert_int_equal(gm_soft_vcpu_new(machine->soft, number, &cpu->soft), 0);
        cpu->run = gm_soft_vcpu_run_page(cpu->soft);
    }
    set_cpuid(cpu);
    set_registers(cpu);
}

bool machine_kvm_opens(void)
{
    int fd = open("/dev/kvm", O_RDWR | O_CLOEXEC);

    if (fd != -1) {
        close(fd);
    }
    return fd != -1;
}

static void open_kvm(struct machine *machine)
{
    long bytes;

    machine->kvm_fd = open("/dev/kvm", O_RDWR | O_CLOEXEC);
    assert_true(machine->kvm_fd >= 0);
    machine->vm_fd = ioctl(machine->kvm_fd, KVM_CREATE_VM, 0);
    assert_true(machine->vm_fd >= 0);
    bytes = ioctl(machine->kvm_fd, KVM_GET_VCPU_MMAP_SIZE, 0);
    assert_true(bytes > 0);
    machine->run_bytes = (size_t)bytes;
}

void machine_open(struct machine *machine, const struct machine_options *options)
{
    *machine = (struct machine){.options = *options, .kvm_fd = -1, .vm_fd = -1};
    make_memory(machine);
    if (options->is_kvm) {
        open_kvm(machine);
    } else {
        assert_int_equal(gm_soft_open(&options->soft, &machine->soft, NULL), 0);
    }
    for (unsigned i = 0; i < MACHINE_SLOTS; i++) {
        machine_set_slot(machine, i, 0, options->slot_flags);
    }
    for (unsigned i = 0; i < options->cpus; i++) {
        make_cpu(machine, i);
    }
}

void machine_close(struct machine *machine)
{
    for (unsigned i = 0; i < machine->options.cpus; i++) {
        struct machine_cpu *cpu = &machine->cpus[i];

        if (machine->options.is_kvm) {
            munmap(cpu->run, machine->run_bytes);
            close(cpu->fd);
        } else {
            gm_soft_vcpu_free(cpu->soft);
        }
    }
    if (machine->options.is_kvm) {
        close(machine->vm_fd);
        close(machine->kvm_fd);
    } else {
        assert_int_equal(gm_soft_close(machine->soft), 0);
    }
    munmap(machine->memory[0], GUEST_RAM_BYTES);
    munmap(machine->memory[1], GUEST_RAM_BYTES);
    close(machine->file);
}

/* One byte or several, of a string. */
static void add_text(struct machine *machine, const char *bytes, size_t count)
{
    size_t room = sizeof(machine->text) - 1 - machine->text_bytes;

    count = count < room ? count : room;
    memcpy(machine->text + machine->text_bytes, bytes, count);
    machine->text_bytes += count;
}

/* Return: does it go on? */
static bool answer_port(struct machine_cpu *cpu)
{
    const struct kvm_run *run = cpu->run;
    const char *data = (const char *)run + run->io.data_offset;

    if (run->io.direction != KVM_EXIT_IO_OUT) {
        return false;
    }
    if (run->io.port == GUEST_PORT_TEXT) {
        add_text(cpu->machine, data, (size_t)run->io.size * run->io.count);
        return true;
    }
    if (run->io.port == GUEST_PORT_END) {
        uint32_t value;

        memcpy(&value, data, sizeof(value));
        cpu->end = value;
    }
    return false;
}

static void *run_cpu(void *opaque)
{
    struct machine_cpu *cpu = opaque;
    struct timespec time;
    long rc;

    do {
        rc = cpu_ioctl(cpu, KVM_RUN, NULL);
    } while (rc == -EINTR || (rc == 0 && cpu->run->exit_reason == KVM_EXIT_IO && answer_port(cpu)));
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
    cpu->seconds = (double)time.tv_sec + (double)time.tv_nsec / 1e9;
    if (cpu->end != 0) {
        fprintf(stderr, "vCPU %lu: %ld, exit reason %u, guest says: %s\n",
                (unsigned long)cpu->number, rc, cpu->run->exit_reason, cpu->machine->text);
    }
    return NULL;
}

uint64_t machine_instructions(const struct machine_cpu *cpu)
{
    return cpu->soft->x86->instructions;
}

void machine_start(struct machine *machine)
{
    for (unsigned i = 0; i < machine->options.cpus; i++) {
        assert_int_equal(pthread_create(&machine->cpus[i].thread, NULL, run_cpu, &machine->cpus[i]),
                         0);
    }
}

void machine_wait(struct machine *machine)
{
    for (unsigned i = 0; i < machine->options.cpus; i++) {
        assert_int_equal(pthread_join(machine->cpus[i].thread, NULL), 0);
    }
}

const struct guest_board *machine_board(const struct machine *machine)
{
    return (const struct guest_board *)(machine->memory[0] + GUEST_BOARD);
}
