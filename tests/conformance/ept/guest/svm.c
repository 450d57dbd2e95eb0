/* conformance/ept/guest/svm.c - a virtual machine in AMD's way: SVM with nested paging. */
#include "guest.h"

#define MSR_EFER 0xc0000080
#define MSR_VM_HSAVE_PA 0xc0010117
#define MSR_PAT 0x277
#define EFER_SVME 0x1000ull
#define EFER_SVME_NXE_LMA_LME 0x1d00ull
#define CPUID_SVM 0x8000000a
#define CPUID_SVM_NESTED_PAGING 1u

/* AMD APM 2, appendix B: offsets in the VMCB. */
enum {
    VMCB_INTERCEPT_EXCEPTIONS = 0x8,
    VMCB_INTERCEPT_MISC1 = 0xc,
    VMCB_INTERCEPT_MISC2 = 0x10,
    VMCB_ASID = 0x58,
    VMCB_TLB_CONTROL = 0x5c,
    VMCB_EXIT_CODE = 0x70,
    VMCB_EXIT_INFO_1 = 0x78,
    VMCB_EXIT_INFO_2 = 0x80,
    VMCB_NESTED_PAGING = 0x90,
    VMCB_NESTED_CR3 = 0xb0,
    VMCB_ES = 0x400, /* selector, rights, limit, base; then CS, SS, DS, FS, GS, GDTR, LDTR, ... */
    VMCB_IDTR = 0x480,
    VMCB_TR = 0x490,
    VMCB_EFER = 0x4d0,
    VMCB_CR4 = 0x548,
    VMCB_CR3 = 0x550,
    VMCB_CR0 = 0x558,
    VMCB_DR7 = 0x560,
    VMCB_DR6 = 0x568,
    VMCB_RFLAGS = 0x570,
    VMCB_RIP = 0x578,
    VMCB_RSP = 0x5d8,
    VMCB_RAX = 0x5f8,
    VMCB_PAT = 0x668,
};

#define INTERCEPT_SHUTDOWN (1u << 31)
#define INTERCEPT_VMRUN_VMMCALL 3u
#define EXIT_VMMCALL 0x81
#define EXIT_NESTED_PAGE_FAULT 0x400
#define EXIT_INVALID UINT64_MAX

#define CR0_PG_NE_ET_PE 0x80000031ull
#define CR4_PAE 0x20ull
#define RIGHTS_CODE 0xa9bu
#define RIGHTS_DATA 0xc93u
#define RIGHTS_TASK 0x8bu

static uint8_t vmcb[PAGE_BYTES] __attribute__((aligned(PAGE_BYTES)));
static uint8_t host_save[PAGE_BYTES] __attribute__((aligned(PAGE_BYTES)));

static void put64(unsigned offset, uint64_t value)
{
    *(volatile uint64_t *)&vmcb[offset] = value;
}

static void put32(unsigned offset, uint32_t value)
{
    *(volatile uint32_t *)&vmcb[offset] = value;
}

static uint64_t get64(unsigned offset)
{
    return *(volatile uint64_t *)&vmcb[offset];
}

static void put_segment(unsigned offset, uint32_t selector, uint32_t rights, uint32_t limit)
{
    put32(offset, selector | rights << 16);
    put32(offset + 4, limit);
    put64(offset + 8, 0);
}

static bool start(const struct oracle_image *image, uint64_t cr3, struct oracle_greeting *greeting)
{
    greeting->capabilities = cpuid(CPUID_SVM).edx;
    if ((greeting->capabilities & CPUID_SVM_NESTED_PAGING) == 0) {
        return false;
    }
    write_msr(MSR_EFER, read_msr(MSR_EFER) | EFER_SVME);
    write_msr(MSR_VM_HSAVE_PA, (uint64_t)host_save);
    put32(VMCB_INTERCEPT_EXCEPTIONS, 0xffffffff); /* the virtual machine has no handlers */
    put32(VMCB_INTERCEPT_MISC1, INTERCEPT_SHUTDOWN);
    put32(VMCB_INTERCEPT_MISC2, INTERCEPT_VMRUN_VMMCALL);
    put32(VMCB_ASID, 1);
    put32(VMCB_TLB_CONTROL, 1); /* flush everything at each entry */
    put64(VMCB_NESTED_PAGING, 1);
    put64(VMCB_NESTED_CR3, image->root);
    for (unsigned offset = VMCB_ES; offset < VMCB_IDTR; offset += 0x10) {
        put_segment(offset, 0x10, RIGHTS_DATA, 0xffffffff);
    }
    put_segment(VMCB_ES + 0x10, 0x18, RIGHTS_CODE, 0xffffffff);
    put_segment(VMCB_IDTR, 0, 0, 0xffff);
    put_segment(VMCB_TR, 0x20, RIGHTS_TASK, 0x67);
    put64(VMCB_EFER, EFER_SVME_NXE_LMA_LME);
    put64(VMCB_CR0, CR0_PG_NE_ET_PE);
    put64(VMCB_CR3, cr3);
    put64(VMCB_CR4, CR4_PAE);
    put64(VMCB_DR6, 0xffff0ff0);
    put64(VMCB_DR7, 0x400);
    put64(VMCB_PAT, read_msr(MSR_PAT));
    return true;
}

static void run(uint64_t rip, struct registers *registers, struct exit *exit)
{
    uint64_t code;

    put64(VMCB_RIP, rip);
    put64(VMCB_RAX, registers->rax);
    put64(VMCB_RSP, 0);
    put64(VMCB_RFLAGS, 2);
    svm_enter(registers, (uint64_t)vmcb);
    registers->rax = get64(VMCB_RAX);
    code = get64(VMCB_EXIT_CODE);
    exit->detail = get64(VMCB_EXIT_INFO_1);
    exit->address = get64(VMCB_EXIT_INFO_2);
    switch (code) {
    case EXIT_VMMCALL:
        exit->outcome = ORACLE_OK;
        break;
    case EXIT_NESTED_PAGE_FAULT:
        exit->outcome = ORACLE_NESTED_FAULT;
        break;
    case EXIT_INVALID:
        exit->outcome = ORACLE_NO_ENTRY;
        break;
    default:
        exit->outcome = ORACLE_OTHER_EXIT;
        exit->address = exit->detail;
        exit->detail = code;
    }
}

const struct engine svm_engine = {
    .word_call = ORACLE_WORD_VMMCALL,
    .code_read = code_svm_read,
    .code_write = code_svm_write,
    .pointer_bits = 0x27, /* present, writable, user, accessed */
    .leaf_bits = 0x67,    /* and dirty */
    .start = start,
    .run = run,
};
