/* conformance/ept/guest/vmx.c - a virtual machine in Intel's way: VMX with EPT. */
#include "guest.h"

/* Intel SDM 3D appendix A (capabilities) and B (field encodings); 3C chapter 24 (their layout). */
enum {
    MSR_FEATURE_CONTROL = 0x3a,
    MSR_VMX_BASIC = 0x480,
    MSR_VMX_PIN = 0x481,
    MSR_VMX_PROCESSOR = 0x482,
    MSR_VMX_EXIT = 0x483,
    MSR_VMX_ENTRY = 0x484,
    MSR_VMX_CR0_FIXED0 = 0x486,
    MSR_VMX_CR4_FIXED0 = 0x488,
    MSR_VMX_PROCESSOR2 = 0x48b,
    MSR_VMX_EPT_VPID_CAP = 0x48c,
};

enum {
    GUEST_ES_SELECTOR = 0x800,
    GUEST_ES_LIMIT = 0x4800,
    GUEST_ES_RIGHTS = 0x4814,
    GUEST_ES_BASE = 0x6806,
    HOST_ES_SELECTOR = 0xc00,
    HOST_CS_SELECTOR = 0xc02,
    HOST_SS_SELECTOR = 0xc04,
    HOST_DS_SELECTOR = 0xc06,
    HOST_FS_SELECTOR = 0xc08,
    HOST_GS_SELECTOR = 0xc0a,
    HOST_TR_SELECTOR = 0xc0c,
    EPT_POINTER = 0x201a,
    GUEST_PHYSICAL_ADDRESS = 0x2400,
    LINK_POINTER = 0x2800,
    GUEST_EFER = 0x2806,
    HOST_EFER = 0x2c02,
    PIN_CONTROLS = 0x4000,
    PROCESSOR_CONTROLS = 0x4002,
    EXCEPTION_BITMAP = 0x4004,
    CR3_TARGET_COUNT = 0x400a,
    EXIT_CONTROLS = 0x400c,
    EXIT_MSR_STORE_COUNT = 0x400e,
    EXIT_MSR_LOAD_COUNT = 0x4010,
    ENTRY_CONTROLS = 0x4012,
    ENTRY_MSR_LOAD_COUNT = 0x4014,
    ENTRY_EVENT = 0x4016,
    PROCESSOR2_CONTROLS = 0x401e,
    INSTRUCTION_ERROR = 0x4400,
    EXIT_REASON = 0x4402,
    GUEST_GDTR_LIMIT = 0x4810,
    GUEST_IDTR_LIMIT = 0x4812,
    GUEST_INTERRUPTIBILITY = 0x4824,
    GUEST_ACTIVITY = 0x4826,
    CR0_MASK = 0x6000,
    CR4_MASK = 0x6002,
    EXIT_QUALIFICATION = 0x6400,
    GUEST_CR0 = 0x6800,
    GUEST_CR3 = 0x6802,
    GUEST_CR4 = 0x6804,
    GUEST_GDTR_BASE = 0x6816,
    GUEST_IDTR_BASE = 0x6818,
    GUEST_DR7 = 0x681a,
    GUEST_RSP = 0x681c,
    GUEST_RIP = 0x681e,
    GUEST_RFLAGS = 0x6820,
    HOST_CR0 = 0x6c00,
    HOST_CR3 = 0x6c02,
    HOST_CR4 = 0x6c04,
    HOST_FS_BASE = 0x6c06,
    HOST_GS_BASE = 0x6c08,
    HOST_TR_BASE = 0x6c0a,
    HOST_GDTR_BASE = 0x6c0c,
    HOST_IDTR_BASE = 0x6c0e,
    HOST_RIP = 0x6c16,
};

#define PROCESSOR_USE_SECONDARY (1u << 31)
#define PROCESSOR2_EPT (1u << 1)
#define EXIT_HOST_64_BIT (1u << 9)
#define EXIT_LOAD_EFER (1u << 21)
#define ENTRY_GUEST_64_BIT (1u << 9)
#define ENTRY_LOAD_EFER (1u << 15)

#define REASON_VMCALL 18
#define REASON_EPT_VIOLATION 48
#define REASON_EPT_MISCONFIGURATION 49

#define CR4_VMXE 0x2000ull
#define CR4_PAE 0x20ull
#define CR0_PG_NE_ET_PE 0x80000031ull
#define EFER_NXE_LMA_LME 0xd00ull
#define SELECTOR_DATA 0x10
#define SELECTOR_CODE 0x18
#define SELECTOR_TASK 0x20 /* no descriptor is there; the processor only refuses 0 */

/* Access rights of segments; 0x10000 is an unusable one. */
#define RIGHTS_CODE 0xa09bu
#define RIGHTS_DATA 0xc093u
#define RIGHTS_TASK 0x8bu
#define RIGHTS_NONE 0x10000u

static uint32_t vmxon_region[PAGE_BYTES / 4] __attribute__((aligned(PAGE_BYTES)));
static uint32_t vmcs[PAGE_BYTES / 4] __attribute__((aligned(PAGE_BYTES)));
static bool launched;

static void put(uint64_t field, uint64_t value)
{
    __asm__ volatile("vmwrite %1, %0" : : "r"(field), "r"(value) : "cc");
}

static uint64_t get(uint64_t field)
{
    uint64_t value = 0;

    __asm__ volatile("vmread %1, %0" : "=r"(value) : "r"(field) : "cc");
    return value;
}

/* What of @wanted the capability MSR lets be set, and what it wants set. */
static void put_controls(uint64_t field, uint32_t msr, uint32_t wanted)
{
    uint64_t allowed = read_msr(msr);

    put(field, (wanted | (uint32_t)allowed) & (uint32_t)(allowed >> 32));
}

static bool allows(uint32_t msr, uint32_t control)
{
    return (read_msr(msr) >> 32 & control) != 0;
}

static void put_segment(unsigned number, uint64_t selector, uint64_t limit, uint64_t rights)
{
    put(GUEST_ES_SELECTOR + 2 * number, selector);
    put(GUEST_ES_LIMIT + 2 * number, limit);
    put(GUEST_ES_RIGHTS + 2 * number, rights);
    put(GUEST_ES_BASE + 2 * number, 0);
}

static void put_guest(uint64_t cr3)
{
    for (unsigned i = 0; i < 6; i++) { /* ES, CS, SS, DS, FS, GS */
        put_segment(i, i == 1 ? SELECTOR_CODE : SELECTOR_DATA, 0xffffffff,
                    i == 1 ? RIGHTS_CODE : RIGHTS_DATA);
    }
    put_segment(6, 0, 0xffff, RIGHTS_NONE); /* LDTR */
    put_segment(7, SELECTOR_TASK, 0x67, RIGHTS_TASK);
    put(GUEST_GDTR_BASE, 0);
    put(GUEST_GDTR_LIMIT, 0xffff);
    put(GUEST_IDTR_BASE, 0);
    put(GUEST_IDTR_LIMIT, 0xffff);
    put(GUEST_CR0, CR0_PG_NE_ET_PE | read_msr(MSR_VMX_CR0_FIXED0));
    put(GUEST_CR3, cr3);
    put(GUEST_CR4, CR4_PAE | read_msr(MSR_VMX_CR4_FIXED0));
    put(GUEST_EFER, EFER_NXE_LMA_LME);
    put(GUEST_DR7, 0x400);
    put(GUEST_RSP, 0);
    put(GUEST_RFLAGS, 2);
    put(GUEST_INTERRUPTIBILITY, 0);
    put(GUEST_ACTIVITY, 0);
    put(LINK_POINTER, UINT64_MAX);
}

static void put_host(void)
{
    for (uint64_t field = HOST_ES_SELECTOR; field <= HOST_GS_SELECTOR; field += 2) {
        put(field, field == HOST_CS_SELECTOR ? SELECTOR_CODE : SELECTOR_DATA);
    }
    put(HOST_TR_SELECTOR, SELECTOR_TASK);
    put(HOST_CR0, read_cr0());
    put(HOST_CR3, read_cr3());
    put(HOST_CR4, read_cr4());
    put(HOST_EFER, EFER_NXE_LMA_LME);
    put(HOST_FS_BASE, 0);
    put(HOST_GS_BASE, 0);
    put(HOST_TR_BASE, 0);
    put(HOST_GDTR_BASE, 0);
    put(HOST_IDTR_BASE, 0);
    put(HOST_RIP, (uint64_t)vmx_exited);
}

static void put_all_controls(uint64_t eptp)
{
    put_controls(PIN_CONTROLS, MSR_VMX_PIN, 0);
    put_controls(PROCESSOR_CONTROLS, MSR_VMX_PROCESSOR, PROCESSOR_USE_SECONDARY);
    put_controls(PROCESSOR2_CONTROLS, MSR_VMX_PROCESSOR2, PROCESSOR2_EPT);
    put_controls(EXIT_CONTROLS, MSR_VMX_EXIT, EXIT_HOST_64_BIT | EXIT_LOAD_EFER);
    put_controls(ENTRY_CONTROLS, MSR_VMX_ENTRY, ENTRY_GUEST_64_BIT | ENTRY_LOAD_EFER);
    put(EPT_POINTER, eptp);
    put(EXCEPTION_BITMAP, 0xffffffff); /* the virtual machine has no handlers */
    put(CR3_TARGET_COUNT, 0);
    put(EXIT_MSR_STORE_COUNT, 0);
    put(EXIT_MSR_LOAD_COUNT, 0);
    put(ENTRY_MSR_LOAD_COUNT, 0);
    put(ENTRY_EVENT, 0);
    put(CR0_MASK, 0);
    put(CR4_MASK, 0);
}

/* VMXON, VMCLEAR and VMPTRLD all say in the flags whether they failed. */
#define VMX_INSTRUCTION(name)                                                                      \
    static bool name(const uint32_t *region)                                                       \
    {                                                                                              \
        uint64_t address = (uint64_t)region;                                                       \
        bool failed;                                                                               \
                                                                                                   \
        __asm__ volatile(#name " %1" : "=@ccbe"(failed) : "m"(address) : "memory");                \
        return !failed;                                                                            \
    }
VMX_INSTRUCTION(vmxon)
VMX_INSTRUCTION(vmclear)
VMX_INSTRUCTION(vmptrld)

static bool start(const struct oracle_image *image, uint64_t cr3, struct oracle_greeting *greeting)
{
    if ((read_msr(MSR_FEATURE_CONTROL) & 1) == 0) {
        write_msr(MSR_FEATURE_CONTROL, 5); /* locked, VMX outside of SMX */
    }
    if (!allows(MSR_VMX_PROCESSOR, PROCESSOR_USE_SECONDARY) ||
        !allows(MSR_VMX_PROCESSOR2, PROCESSOR2_EPT)) {
        return false;
    }
    greeting->capabilities = read_msr(MSR_VMX_EPT_VPID_CAP);
    write_cr0(read_cr0() | read_msr(MSR_VMX_CR0_FIXED0));
    write_cr4(read_cr4() | CR4_VMXE);
    vmxon_region[0] = (uint32_t)read_msr(MSR_VMX_BASIC) & 0x7fffffff;
    vmcs[0] = vmxon_region[0];
    if (!vmxon(vmxon_region) || !vmclear(vmcs) || !vmptrld(vmcs)) {
        return false;
    }
    put_all_controls(image->root);
    put_guest(cr3);
    put_host();
    return true;
}

static void run(uint64_t rip, struct registers *registers, struct exit *exit)
{
    uint64_t reason;

    put(GUEST_RIP, rip);
    if (!vmx_enter(registers, launched)) {
        exit->outcome = ORACLE_NO_ENTRY;
        exit->detail = get(INSTRUCTION_ERROR);
        exit->address = 0;
        return;
    }
    launched = true;
    reason = get(EXIT_REASON);
    exit->detail = get(EXIT_QUALIFICATION);
    exit->address = get(GUEST_PHYSICAL_ADDRESS);
    switch (reason) {
    case REASON_VMCALL:
        exit->outcome = ORACLE_OK;
        break;
    case REASON_EPT_VIOLATION:
        exit->outcome = ORACLE_VIOLATION;
        break;
    case REASON_EPT_MISCONFIGURATION:
        exit->outcome = ORACLE_MISCONFIGURATION;
        exit->detail = 0; /* is not defined */
        break;
    default:
        exit->outcome = ORACLE_OTHER_EXIT;
        exit->address = exit->detail;
        exit->detail = reason;
    }
}

const struct engine vmx_engine = {
    .word_call = ORACLE_WORD_VMCALL,
    .code_read = code_vmx_read,
    .code_write = code_vmx_write,
    .pointer_bits = 0x7,
    .leaf_bits = 0x37, /* read, write, execute; write-back */
    .start = start,
    .run = run,
};
