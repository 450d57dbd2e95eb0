/*
 * unit/x2apic_machine.h - a VM with interrupt chips and four vCPUs, of the software KVM or of /dev/kvm, so that both can be asked
 * the same. The first vCPU runs one instruction at a time, in real mode with interrupts off.
 */
#ifndef UNIT_X2APIC_MACHINE_H
#define UNIT_X2APIC_MACHINE_H

#include "soft_rig.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <unistd.h>

#define VCPUS 4u
#define MSR_APIC_BASE 0x1bu
#define APIC_GPA UINT64_C(0xfee00000)
#define DISABLED UINT64_C(0)
#define XAPIC UINT64_C(0x800)
#define X2APIC UINT64_C(0xc00)
#define NO_MODE UINT64_C(0x400)
#define CODE_GPA 0x10000u
#define GP_HANDLER 0x1000u
#define DONE_PORT 0xf0u
#define GP_PORT 0xf1u
#define CPUID_ROOM 300u

static const unsigned IDS[VCPUS] = {0, 1, 2, 17};

struct machine {
    bool is_real;
    int system, vm, vcpus[VCPUS]; /* descriptors, if it is real */
    struct gm_soft *soft;         /* otherwise */
    struct gm_soft_vcpu *soft_vcpus[VCPUS];
    uint8_t *memory;
    struct kvm_run *run;
    size_t run_bytes;
};

static inline long result_of(int result)
{
    return result < 0 ? -errno : result;
}

static inline long vm_call(struct machine *machine, unsigned long request, const void *argument)
{
    return machine->is_real ? result_of(ioctl(machine->vm, request, argument))
                            : gm_soft_vm_ioctl(machine->soft, request, (uintptr_t)argument);
}

static inline long vcpu_call(struct machine *machine, unsigned i, unsigned long request,
                             const void *argument)
{
    return machine->is_real
               ? result_of(ioctl(machine->vcpus[i], request, argument))
               : gm_soft_vcpu_ioctl(machine->soft_vcpus[i], request, (uintptr_t)argument);
}

static inline long use_x2apic_api(struct machine *machine, uint64_t flags)
{
    const struct kvm_enable_cap enable = {.cap = KVM_CAP_X2APIC_API, .args = {flags}};

    return vm_call(machine, KVM_ENABLE_CAP, &enable);
}

/* The supported CPUID, with the bit of x2APIC mode or without. */
static inline void give_cpuid(struct machine *machine, bool has_x2apic)
{
    struct {
        struct {
            uint32_t nent, padding;
        } head; /* struct kvm_cpuid2 */
        struct kvm_cpuid_entry2 entries[CPUID_ROOM];
    } list = {.head.nent = CPUID_ROOM};
    bool was_supported = false;

    if (machine->is_real) {
        assert_int_equal(ioctl(machine->system, KVM_GET_SUPPORTED_CPUID, &list), 0);
    } else {
        assert_int_equal(gm_soft_system_ioctl(KVM_GET_SUPPORTED_CPUID, (uintptr_t)&list), 0);
    }
    for (uint32_t i = 0; i < list.head.nent; i++) {
        struct kvm_cpuid_entry2 *entry = &list.entries[i];

        if (entry->function == 1) {
            was_supported = (entry->ecx >> 21 & 1) != 0;
            entry->ecx = has_x2apic ? entry->ecx : entry->ecx & ~(1u << 21);
        }
    }
    assert_true(was_supported);
    for (unsigned i = 0; i < VCPUS; i++) {
        assert_int_equal(vcpu_call(machine, i, KVM_SET_CPUID2, &list), 0);
    }
}

static inline bool machine_make_real(struct machine *machine)
{
    uint64_t identity = 0xfffbc000;

    machine->system = open("/dev/kvm", O_RDWR | O_CLOEXEC);
    if (machine->system < 0) {
        return false;
    }
    machine->vm = ioctl(machine->system, KVM_CREATE_VM, 0);
    assert_true(machine->vm >= 0);
    (void)ioctl(machine->vm, KVM_SET_IDENTITY_MAP_ADDR, &identity);
    (void)ioctl(machine->vm, KVM_SET_TSS_ADDR, 0xfffbd000);
    return true;
}

static inline void make_vcpus(struct machine *machine)
{
    for (unsigned i = 0; i < VCPUS; i++) {
        if (machine->is_real) {
            machine->vcpus[i] = ioctl(machine->vm, KVM_CREATE_VCPU, IDS[i]);
            assert_true(machine->vcpus[i] >= 0);
        } else {
            assert_int_equal(gm_soft_vcpu_new(machine->soft, IDS[i], &machine->soft_vcpus[i]), 0);
        }
    }
    if (machine->is_real) {
        machine->run_bytes = (size_t)ioctl(machine->system, KVM_GET_VCPU_MMAP_SIZE, 0);
        machine->run = mmap(NULL, machine->run_bytes, PROT_READ | PROT_WRITE, MAP_SHARED,
                            machine->vcpus[0], 0);
        assert_true(machine->run != MAP_FAILED);
    } else {
        machine->run = gm_soft_vcpu_run_page(machine->soft_vcpus[0]);
    }
}

/* Return: false: this machine has no KVM that opens. */
static inline bool machine_open(struct machine *machine, bool is_real)
{
    struct kvm_userspace_memory_region region = {.memory_size = RIG_BYTES};

    *machine = (struct machine){.is_real = is_real};
    if (is_real) {
        if (!machine_make_real(machine)) {
            return false;
        }
    } else {
        assert_int_equal(gm_soft_open(NULL, &machine->soft, NULL), 0);
    }
    assert_int_equal(vm_call(machine, KVM_CREATE_IRQCHIP, NULL), 0);
    machine->memory =
        mmap(NULL, RIG_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    assert_true(machine->memory != MAP_FAILED);
    region.userspace_addr = (uintptr_t)machine->memory;
    assert_int_equal(vm_call(machine, KVM_SET_USER_MEMORY_REGION, &region), 0);
    make_vcpus(machine);
    give_cpuid(machine, true);
    return true;
}

static inline void machine_close(struct machine *machine)
{
    for (unsigned i = 0; i < VCPUS; i++) {
        if (machine->is_real) {
            close(machine->vcpus[i]);
        } else {
            gm_soft_vcpu_free(machine->soft_vcpus[i]);
        }
    }
    if (machine->is_real) {
        munmap(machine->run, machine->run_bytes);
        close(machine->vm);
        close(machine->system);
    } else {
        assert_int_equal(gm_soft_close(machine->soft), 0);
    }
    munmap(machine->memory, RIG_BYTES);
}

struct one_msr {
    struct {
        uint32_t nmsrs, pad;
    } head; /* struct kvm_msrs */
    struct kvm_msr_entry entry;
};

/* By the user. Return: was it taken? */
static inline bool set_msr(struct machine *machine, unsigned i, uint32_t number, uint64_t value)
{
    const struct one_msr list = {.head.nmsrs = 1, .entry = {.index = number, .data = value}};

    return vcpu_call(machine, i, KVM_SET_MSRS, &list) == 1;
}

static inline bool get_msr(struct machine *machine, unsigned i, uint32_t number, uint64_t *value)
{
    struct one_msr list = {.head.nmsrs = 1, .entry = {.index = number}};
    long done = vcpu_call(machine, i, KVM_GET_MSRS, &list);

    *value = done == 1 ? list.entry.data : 0;
    return done == 1;
}

static inline bool set_mode(struct machine *machine, unsigned i, uint64_t mode)
{
    return set_msr(machine, i, MSR_APIC_BASE, APIC_GPA | mode | (i == 0 ? 0x100 : 0));
}

static inline void get_lapic(struct machine *machine, unsigned i, struct kvm_lapic_state *state)
{
    assert_int_equal(vcpu_call(machine, i, KVM_GET_LAPIC, state), 0);
}

static inline uint32_t register_in(const struct kvm_lapic_state *state, unsigned at)
{
    uint32_t value;

    memcpy(&value, state->regs + at, sizeof(value));
    return value;
}

static inline void put_register(struct kvm_lapic_state *state, unsigned at, uint32_t value)
{
    memcpy(state->regs + at, &value, sizeof(value));
}

/* The first vCPU runs @code with DS at the APIC's page, and then tells. Return: false: it raised #GP. */
static inline bool guest_runs(struct machine *machine, const uint8_t *code, size_t code_bytes,
                              struct kvm_regs *regs)
{
    const uint8_t done[] = {0xe6, DONE_PORT}, gp[] = {0xe6, GP_PORT}; /* out port,al */
    const uint16_t gp_entry[] = {GP_HANDLER, 0};
    struct kvm_sregs sregs;
    bool is_done;

    memcpy(machine->memory + CODE_GPA, code, code_bytes);
    memcpy(machine->memory + CODE_GPA + code_bytes, done, sizeof(done));
    memcpy(machine->memory + GP_HANDLER, gp, sizeof(gp));
    memcpy(machine->memory + 13 * sizeof(gp_entry), gp_entry, sizeof(gp_entry));
    assert_int_equal(vcpu_call(machine, 0, KVM_GET_SREGS, &sregs), 0);
    sregs.cs.base = CODE_GPA;
    sregs.cs.selector = CODE_GPA >> 4;
    sregs.ds.base = APIC_GPA;
    sregs.ss.base = sregs.ss.selector = 0;
    regs->rip = 0;
    regs->rsp = 0xfff0;
    regs->rflags = 2;
    assert_int_equal(vcpu_call(machine, 0, KVM_SET_SREGS, &sregs), 0);
    assert_int_equal(vcpu_call(machine, 0, KVM_SET_REGS, regs), 0);
    assert_int_equal(vcpu_call(machine, 0, KVM_RUN, NULL), 0);
    assert_int_equal(machine->run->exit_reason, KVM_EXIT_IO);
    is_done = machine->run->io.port == DONE_PORT;
    machine->run->immediate_exit = 1; /* completes the access */
    assert_int_equal(vcpu_call(machine, 0, KVM_RUN, NULL), -EINTR);
    machine->run->immediate_exit = 0;
    assert_int_equal(vcpu_call(machine, 0, KVM_GET_REGS, regs), 0);
    return is_done;
}

static inline bool guest_wrmsr(struct machine *machine, uint32_t number, uint64_t value)
{
    struct kvm_regs regs = {.rcx = number, .rax = (uint32_t)value, .rdx = value >> 32};

    return guest_runs(machine, (const uint8_t[]){0x0f, 0x30}, 2, &regs);
}

static inline bool guest_rdmsr(struct machine *machine, uint32_t number, uint64_t *value)
{
    struct kvm_regs regs = {.rcx = number};
    bool is_done = guest_runs(machine, (const uint8_t[]){0x0f, 0x32}, 2, &regs);

    *value = is_done ? (uint32_t)regs.rax | regs.rdx << 32 : 0;
    return is_done;
}

/* mov eax,[at] of the APIC's page */
static inline uint32_t guest_load(struct machine *machine, uint16_t at)
{
    const uint8_t code[] = {0x66, 0xa1, (uint8_t)at, (uint8_t)(at >> 8)};
    struct kvm_regs regs = {0};

    assert_true(guest_runs(machine, code, sizeof(code), &regs));
    return (uint32_t)regs.rax;
}

#endif
