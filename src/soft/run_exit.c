/* soft/run_exit.c - the interpreter's exits, as kvm_run has them; and what comes back. Source: Linux api.rst, "The kvm_run
 * structure". */
#include "soft/run.h"

#include <guestmem/kvm_abi.h>

#include <errno.h>
#include <sched.h>
#include <string.h>

/* Data of ports lies in the page behind kvm_run. */
#define PORT_DATA_OFFSET PAGE_BYTES_4K
/* VMX: "VM-entry failure due to invalid guest state". */
#define ENTRY_FAILURE_STATE 0x80000021u
#define NOP 0x90
#define DR6_FIXED 0xffff0ff0u

static void *port_data(const struct gm_soft_vcpu *vcpu)
{
    return (uint8_t *)vcpu->run + PORT_DATA_OFFSET;
}

static long exit_io(struct gm_soft_vcpu *vcpu)
{
    const struct x86_io *io = &vcpu->x86->io;
    struct kvm_run *run = vcpu->run;

    run->exit_reason = KVM_EXIT_IO;
    run->io.direction = io->is_in ? KVM_EXIT_IO_IN : KVM_EXIT_IO_OUT;
    run->io.size = io->size_bytes;
    run->io.port = io->port;
    run->io.count = io->count;
    run->io.data_offset = PORT_DATA_OFFSET;
    if (!io->is_in) {
        memcpy(port_data(vcpu), &io->data, io->size_bytes);
    }
    vcpu->asked = io->is_in ? ASKED_IN : ASKED_NOTHING;
    vcpu->asked_rip = run_linear_rip(vcpu->x86);
    return 0;
}

static long exit_mmio(struct gm_soft_vcpu *vcpu)
{
    const struct gm_mmu_exit *access = gm_mmu_exit(&vcpu->mmu.face);
    bool is_write = access->access == GM_MMU_WRITE;
    struct kvm_run *run = vcpu->run;

    run->exit_reason = KVM_EXIT_MMIO;
    run->mmio.phys_addr = access->gpa;
    run->mmio.len = access->size_bytes;
    run->mmio.is_write = is_write;
    memset(run->mmio.data, 0, sizeof(run->mmio.data));
    if (is_write) {
        memcpy(run->mmio.data, access->data, access->size_bytes);
    }
    vcpu->asked = is_write ? ASKED_NOTHING : ASKED_LOAD;
    vcpu->asked_rip = run_linear_rip(vcpu->x86);
    return 0;
}

static long exit_msr(struct gm_soft_vcpu *vcpu)
{
    const struct x86_msr_access *access = &vcpu->x86->msr_access;
    struct kvm_run *run = vcpu->run;

    run->exit_reason = access->is_write ? KVM_EXIT_X86_WRMSR : KVM_EXIT_X86_RDMSR;
    run->msr.error = 0;
    memset(run->msr.pad, 0, sizeof(run->msr.pad));
    run->msr.reason = msr_filter_reason(access->result);
    run->msr.index = access->number;
    run->msr.data = access->is_write ? access->value : 0;
    vcpu->asked = ASKED_MSR;
    vcpu->asked_rip = run_linear_rip(vcpu->x86);
    return 0;
}

void run_take_answer(struct gm_soft_vcpu *vcpu)
{
    struct x86_vcpu *cpu = vcpu->x86;
    struct gm_mmu_exit *access = gm_mmu_exit(&vcpu->mmu.face);

    if (vcpu->asked == ASKED_IN) {
        cpu->io.data = 0;
        memcpy(cpu->ahead, port_data(vcpu), (size_t)cpu->io.count * cpu->io.size_bytes);
        memcpy(&cpu->io.data, cpu->ahead, cpu->io.size_bytes);
    } else if (vcpu->asked == ASKED_LOAD) {
        memcpy(access->data, vcpu->run->mmio.data, sizeof(access->data));
    } else if (vcpu->asked == ASKED_MSR) {
        cpu->msr_access.value = __atomic_load_n(&vcpu->run->msr.data, __ATOMIC_RELAXED);
        cpu->msr_access.is_refused = __atomic_load_n(&vcpu->run->msr.error, __ATOMIC_RELAXED) != 0;
    }
    vcpu->asked = ASKED_NOTHING;
}

static long exit_emulation(struct gm_soft_vcpu *vcpu)
{
    const struct x86_vcpu *cpu = vcpu->x86;
    struct kvm_run *run = vcpu->run;

    run->exit_reason = KVM_EXIT_INTERNAL_ERROR;
    run->emulation_failure.suberror = KVM_INTERNAL_ERROR_EMULATION;
    run->emulation_failure.flags = 0;
    run->emulation_failure.ndata = 1;
    if (cpu->byte_count != 0) {
        run->emulation_failure.flags = KVM_INTERNAL_ERROR_EMULATION_FLAG_INSTRUCTION_BYTES;
        run->emulation_failure.ndata = 3;
        run->emulation_failure.insn_size = cpu->byte_count;
        memset(run->emulation_failure.insn_bytes, NOP, sizeof(run->emulation_failure.insn_bytes));
        memcpy(run->emulation_failure.insn_bytes, cpu->bytes, cpu->byte_count);
    }
    return 0;
}

static long exit_denied(struct gm_soft_vcpu *vcpu)
{
    const struct gm_mmu_exit *access = gm_mmu_exit(&vcpu->mmu.face);
    const struct gm_run_memory_fault fault = {
        .flags = (access->attributes & KVM_MEMORY_ATTRIBUTE_PRIVATE) != 0
                     ? KVM_MEMORY_EXIT_FLAG_PRIVATE
                     : 0,
        .gpa = access->gpa & GM_MMU_PAGE_MASK,
        .size = PAGE_BYTES_4K,
    };

    vcpu->run->exit_reason = KVM_EXIT_MEMORY_FAULT;
    memcpy(&vcpu->run->hw, &fault, sizeof(fault));
    return -EFAULT;
}

static long exit_debug(struct gm_soft_vcpu *vcpu)
{
    const struct x86_vcpu *cpu = vcpu->x86;
    struct kvm_debug_exit_arch *debug = &vcpu->run->debug.arch;

    vcpu->run->exit_reason = KVM_EXIT_DEBUG;
    debug->exception = cpu->exit_vector;
    debug->pad = 0;
    debug->pc = run_linear_rip(cpu);
    debug->dr6 = DR6_FIXED | cpu->exit_dr6;
    debug->dr7 = cpu->uses_host_dr ? cpu->host_dr[7] : cpu->dr[7];
    return 0;
}

long run_exit_entry_failure(struct gm_soft_vcpu *vcpu)
{
    vcpu->run->exit_reason = KVM_EXIT_FAIL_ENTRY;
    vcpu->run->fail_entry.hardware_entry_failure_reason = ENTRY_FAILURE_STATE;
    vcpu->run->fail_entry.cpu = (uint32_t)sched_getcpu();
    return 0;
}

/* Host memory is not there. */
static long exit_error(struct gm_soft_vcpu *vcpu)
{
    /* The one error that is not memory's: page-directory pointers in CR3 that no processor loads. */
    return vcpu->x86->error == -EINVAL ? run_exit_entry_failure(vcpu) : vcpu->x86->error;
}

long run_exit(struct gm_soft_vcpu *vcpu, enum x86_exit exit)
{
    switch (exit) {
    case X86_EXIT_IO:
        return exit_io(vcpu);
    case X86_EXIT_MMIO:
        return exit_mmio(vcpu);
    case X86_EXIT_MSR:
        return exit_msr(vcpu);
    case X86_EXIT_INTR:
        vcpu->run->exit_reason = KVM_EXIT_INTR;
        return -EINTR;
    case X86_EXIT_HLT:
        vcpu->x86->mp_state = X86_RUNNABLE; /* to halt is the user's: KVM_RUN goes on behind it */
        vcpu->run->exit_reason = KVM_EXIT_HLT;
        return 0;
    case X86_EXIT_SHUTDOWN:
        vcpu->run->exit_reason = KVM_EXIT_SHUTDOWN;
        return 0;
    case X86_EXIT_EMULATION:
        return exit_emulation(vcpu);
    case X86_EXIT_IRQ_WINDOW:
        vcpu->run->exit_reason = KVM_EXIT_IRQ_WINDOW_OPEN;
        return 0;
    case X86_EXIT_RING_FULL:
        vcpu->run->exit_reason = KVM_EXIT_DIRTY_RING_FULL;
        return 0;
    case X86_EXIT_DENIED:
        return exit_denied(vcpu);
    case X86_EXIT_DEBUG:
        return exit_debug(vcpu);
    case X86_EXIT_ERROR:
        return exit_error(vcpu);
    case X86_EXIT_BUDGET:
        break;
    }
    return RUN_ON;
}
