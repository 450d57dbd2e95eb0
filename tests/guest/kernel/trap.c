/* guest/kernel/trap.c - exceptions: page faults that are work to do, and others that are somebody's mistake. */
#include "guest/kernel/kernel.h"

#define GATE_INTERRUPT 0x8e
#define GATE_FOR_USERS 0xee

extern u8 trap_stubs[], call_stub[], syscall_entry[];

static struct gate idt[GUEST_VECTOR_CALL + 1];
static u8 double_fault_stack[GUEST_CPUS][4096] __attribute__((aligned(16)));

/* Where the kernel goes on if its access to a process's memory fails; 0: that is a panic. With the last failure. */
static struct {
    u64 resume;
    u64 error;
} fixup;

static void set_gate(unsigned vector, u64 stub, u8 type, u8 ist)
{
    idt[vector] = (struct gate){
        .offset0 = (u16)stub,
        .selector = SELECTOR_CODE,
        .ist = ist,
        .type = type,
        .offset1 = (u16)(stub >> 16),
        .offset2 = (u32)(stub >> 32),
    };
}

/* Null, the kernel's code and data; for SYSRET a gap, data, code; the TSS. */
static void load_gdt(struct cpu *cpu)
{
    u64 tss = (u64)&cpu->tss;
    struct table_register gdtr = {sizeof(cpu->gdt) - 1, (u64)cpu->gdt};

    cpu->gdt[1] = 0x00af9b000000ffff;
    cpu->gdt[2] = 0x00cf93000000ffff;
    cpu->gdt[4] = 0x00cff3000000ffff;
    cpu->gdt[5] = 0x00affb000000ffff;
    cpu->gdt[6] =
        (sizeof(struct tss) - 1) | (tss & 0xffffff) << 16 | 0x89ul << 40 | (tss >> 24 & 0xff) << 56;
    cpu->gdt[7] = tss >> 32;
    __asm__ volatile("lgdt %0\n\t"
                     "push %1\n\t"
                     "lea 1f(%%rip), %%rax\n\t"
                     "push %%rax\n\t"
                     "lretq\n"
                     "1:\n\t"
                     "mov %2, %%ds\n\t"
                     "mov %2, %%es\n\t"
                     "mov %2, %%ss\n\t"
                     "mov %3, %%fs\n\t"
                     "mov %3, %%gs\n\t"
                     "ltr %w4"
                     :
                     : "m"(gdtr), "i"(SELECTOR_CODE), "r"(SELECTOR_DATA), "r"(0), "r"(SELECTOR_TSS)
                     : "rax", "memory");
}

void trap_init(struct cpu *cpu)
{
    struct table_register idtr = {sizeof(idt) - 1, (u64)idt};

    cpu->self = cpu;
    cpu->tss.ist[0] = (u64)double_fault_stack[cpu->number] + sizeof(double_fault_stack[0]);
    cpu->tss.io_map = sizeof(cpu->tss);
    load_gdt(cpu);
    for (unsigned i = 0; i < 32 && cpu->number == 0; i++) {
        set_gate(i, (u64)trap_stubs + i * 16, i == VECTOR_BP ? GATE_FOR_USERS : GATE_INTERRUPT,
                 i == VECTOR_DF ? 1 : 0);
    }
    set_gate(GUEST_VECTOR_CALL, (u64)call_stub, GATE_FOR_USERS, 0);
    __asm__ volatile("lidt %0" : : "m"(idtr));
    write_msr(MSR_GS_BASE, (u64)cpu);
    write_msr(MSR_KERNEL_GS_BASE, 0);
    write_msr(MSR_STAR, 0x001b0008ul << 32);
    write_msr(MSR_LSTAR, (u64)syscall_entry);
    write_msr(MSR_SYSCALL_MASK, 0x40700); /* AC, DF, IF, TF */
}

/* As a signal: the process's handler gets what has happened, and does not return. */
static void tell_process(struct frame *frame, u64 address)
{
    struct thread *thread = this_cpu()->current;

    if (thread->handler == 0) {
        panic("a process without a handler failed at ", frame->rip);
    }
    frame->rdi = frame->vector;
    frame->rsi = frame->error;
    frame->rdx = address;
    frame->rip = thread->handler;
    frame->rsp = ((frame->rsp - 128) & ~15ul) - 8;
}

struct frame *trap_from_user(struct frame *frame)
{
    u64 address = read_cr2();

    if (frame->vector == GUEST_VECTOR_CALL) {
        return syscall_from_user(frame);
    }
    if (frame->vector == VECTOR_PF && address == USER_CALL && frame->rip == USER_CALL) {
        frame->rip = frame->rcx;
        return syscall_from_user(frame);
    }
    kernel_lock();
    if (frame->vector != VECTOR_PF) {
        COUNT(TRAP);
        tell_process(frame, 0);
    } else if ((frame->error & PF_RESERVED) != 0) {
        panic("reserved bits in a page table, at ", address);
    } else if (!space_fault(this_cpu()->space, address, frame->error)) {
        COUNT(VIOLATION);
        tell_process(frame, address);
    }
    kernel_unlock();
    return frame;
}

/* The lock is held. */
void trap_from_kernel(struct frame *frame)
{
    u64 address = read_cr2();

    if (frame->vector == VECTOR_PF && fixup.resume != 0) {
        if ((frame->rflags & RFLAGS_AC) != 0 && this_cpu()->space != NULL &&
            space_fault(this_cpu()->space, address, frame->error)) {
            COUNT(KERNEL);
            return;
        }
        fixup.error = frame->error;
        frame->rip = fixup.resume;
        return;
    }
    panic(frame->vector == VECTOR_DF   ? "double fault at "
          : frame->vector == VECTOR_PF ? "page fault in the kernel at "
                                       : "exception in the kernel at ",
          frame->rip);
}

/* Do something that may fault. Return: the error code; UINT64_MAX: it did not. */
#define TRY(...)                                                                                   \
    ({                                                                                             \
        fixup.error = UINT64_MAX;                                                                  \
        __asm__ volatile("lea 1f(%%rip), %%rax\n\t"                                                \
                         "mov %%rax, %0\n\t" __VA_ARGS__);                                         \
        fixup.resume = 0;                                                                          \
        fixup.error;                                                                               \
    })

bool user_store(u64 address, u64 value)
{
    bool has_smap = (board->features & FEATURE_SMAP) != 0;
    u64 error;

    if (address >= USER_END) {
        return false;
    }
    if (has_smap) {
        stac();
    } else { /* the flag says as well that a fault here is expected */
        __asm__ volatile("pushfq; orl $0x40000, (%%rsp); popfq" : : : "memory", "cc");
    }
    error = TRY("mov %2, (%1)\n1:"
                : "=m"(fixup.resume)
                : "r"(address), "r"(value)
                : "rax", "memory");
    __asm__ volatile("pushfq; andl $~0x40000, (%%rsp); popfq" : : : "memory", "cc");
    return error == UINT64_MAX;
}

static void expect(u64 error, u64 expected, const char *what)
{
    if (error != expected) {
        panic(what, error);
    }
}

/* A frame that a process may use is mapped where the kernel then does what it must not do. */
void trap_checks(void)
{
    const u64 page = USER_MAPPINGS;
    u64 root = frame_new();
    u64 frame = frame_new();
    u64 *entry = table_entry(root, page, 1, true);
    bool has_smap = (board->features & FEATURE_SMAP) != 0;
    bool has_smep = (board->features & FEATURE_SMEP) != 0;

    for (u32 i = 256; i < 512; i++) {
        ((u64 *)at(root))[i] = ((u64 *)at(kernel_root))[i];
    }
    *(u8 *)at(frame) = 0xc3; /* ret */
    *entry = frame | PTE_PRESENT | PTE_USER;
    write_cr3(root);
    expect(TRY("mov (%1), %%al\n1:"
               : "=m"(fixup.resume)
               : "r"(page)
               : "rax", "memory"),
           has_smap ? PF_PRESENT : UINT64_MAX, "a read of a user's page: ");
    /* A failed call has pushed where to return to. */
    expect(TRY("mov %%rsp, %%rbx\n\tcall *%1\n1:\tmov %%rbx, %%rsp"
               : "=m"(fixup.resume)
               : "r"(page)
               : "rax", "rbx", "memory"),
           has_smep ? PF_PRESENT | PF_FETCH : UINT64_MAX, "a call of a user's page: ");
    *entry = frame | PTE_PRESENT | PTE_NO_EXECUTE;
    invlpg(page);
    expect(TRY("mov %%al, (%1)\n1:"
               : "=m"(fixup.resume)
               : "r"(page)
               : "rax", "memory"),
           PF_PRESENT | PF_WRITE, "a write to a read-only page: ");
    expect(TRY("mov %%rsp, %%rbx\n\tcall *%1\n1:\tmov %%rbx, %%rsp"
               : "=m"(fixup.resume)
               : "r"(page)
               : "rax", "rbx", "memory"),
           PF_PRESENT | PF_FETCH, "a call of a page without execution: ");
    write_cr0(read_cr0() & ~0x10000ul); /* WP */
    expect(TRY("mov %%al, (%1)\n1:"
               : "=m"(fixup.resume)
               : "r"(page)
               : "rax", "memory"),
           UINT64_MAX, "a write to a read-only page without WP: ");
    write_cr0(read_cr0() | 0x10000ul);
    *entry = 0;
    invlpg(page);
    expect(TRY("mov (%1), %%al\n1:"
               : "=m"(fixup.resume)
               : "r"(page)
               : "rax", "memory"),
           0, "a read of nothing: ");
    write_cr3(kernel_root);
    frame_put(frame);
    for (unsigned level = 2; level <= 4; level++) {
        frame_put(*table_entry(root, page, level, false) & PTE_FRAME);
    }
    frame_put(root);
}
