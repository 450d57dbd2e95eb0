/* conformance/x86/guest.c - page tables, segments as Linux has them, and gates that lead to HLT. */
#include "guest.h"

#include "model/require.h"

#define STRING_ELEMENTS 8192u

/* Physical addresses. The kernel's linear ones are by KERNEL higher. */
enum {
    GPA_GDT = X86_RIG_GDT,
    GPA_IDT = X86_RIG_IDT,
    GPA_PML4 = 0x6000,
    GPA_PDPT = 0x7000,
    GPA_KERNEL_PDPT = 0x8000,
    GPA_PD = 0x9000,
    GPA_PT = 0xa000,
    GPA_KERNEL_PD = 0xb000,
    GPA_TSS = 0xc000,
    GPA_STACK_END = 0xe000,
    GPA_HANDLERS = 0xf000, /* a HLT for each vector */
    GPA_DATA = 0x20000,
    GPA_CODE = 0x30000,
};
#define KERNEL UINT64_C(0xffff800000000000)

#define PTE_PRESENT UINT64_C(1)
#define PTE_WRITABLE UINT64_C(2)
#define PTE_USER UINT64_C(4)
#define PTE_LARGE UINT64_C(0x80)
#define PTE_NO_EXECUTE (UINT64_C(1) << 63)
#define PTE_TABLE (PTE_PRESENT | PTE_WRITABLE | PTE_USER)

#define SELECTOR_KERNEL_CODE 0x10u
#define SELECTOR_USER_DATA 0x2bu
#define SELECTOR_USER_CODE 0x33u

#define INT3 0xcc
#define HLT 0xf4
#define VECTOR_PF 14
/* Exceptions that push an error code. */
#define VECTORS_WITH_CODE                                                                          \
    (1u << 8 | 1u << 10 | 1u << 11 | 1u << 12 | 1u << 13 | 1u << 14 | 1u << 17)

static void map_pages(struct guest *guest, uint64_t linear, uint64_t gpa, unsigned byte_count,
                      uint64_t flags)
{
    for (unsigned i = 0; i < byte_count / PAGE; i++) {
        x86_rig_put(&guest->rig, GPA_PT + ((linear >> 12 & 511) + i) * 8, (gpa + i * PAGE) | flags);
    }
}

static void make_tables(struct guest *guest)
{
    struct x86_rig *rig = &guest->rig;

    x86_rig_put(rig, GPA_PML4, GPA_PDPT | PTE_TABLE);
    x86_rig_put(rig, GPA_PDPT + (CASE_DATA >> 30) * 8, GPA_PD | PTE_TABLE);
    x86_rig_put(rig, GPA_PD, GPA_PT | PTE_TABLE);
    map_pages(guest, CASE_DATA, GPA_DATA, CASE_WRITABLE_BYTES, PTE_TABLE | PTE_NO_EXECUTE);
    map_pages(guest, CASE_DATA + CASE_WRITABLE_BYTES, GPA_DATA + CASE_WRITABLE_BYTES,
              CASE_DATA_BYTES - CASE_WRITABLE_BYTES, PTE_PRESENT | PTE_USER | PTE_NO_EXECUTE);
    map_pages(guest, CASE_CODE, GPA_CODE, CASE_CODE_BYTES, PTE_TABLE);

    x86_rig_put(rig, GPA_PML4 + 256 * 8, GPA_KERNEL_PDPT | PTE_PRESENT | PTE_WRITABLE);
    x86_rig_put(rig, GPA_KERNEL_PDPT, GPA_KERNEL_PD | PTE_PRESENT | PTE_WRITABLE);
    x86_rig_put(rig, GPA_KERNEL_PD, PTE_LARGE | PTE_PRESENT | PTE_WRITABLE);
}

/* The host's descriptor as a program sees it, 0 where it sees none: not every Linux lets programs have 32-bit code. */
static uint64_t host_descriptor(unsigned index)
{
    uint32_t selector = index * 8 + 3;
    uint32_t rights, limit;
    bool is_there;

    __asm__("lar %2, %1" : "=@ccz"(is_there), "=r"(rights) : "r"(selector));
    if (!is_there) {
        return 0;
    }
    __asm__("lsl %1, %0" : "=r"(limit) : "r"(selector) : "cc");
    limit = (rights & 1u << 23) != 0 ? limit >> 12 : limit;
    return (uint64_t)(rights & 0xf0ff00) << 32 | (uint64_t)(limit & 0xf0000) << 32 |
           (limit & 0xffff);
}

/* Those of ring 0, which programs cannot tell from none, are Linux's; those of ring 3 the host's. */
static void make_gdt(struct guest *guest)
{
    static const uint64_t supervisor[] = {
        0, UINT64_C(0x00cf9b000000ffff), /* 32-bit code */
        UINT64_C(0x00af9b000000ffff),    /* 64-bit code */
        UINT64_C(0x00cf93000000ffff),    /* data */
    };

    for (unsigned i = 0; i * 8 < CASE_SELECTORS_END; i++) {
        bool is_supervisor = i < sizeof(supervisor) / sizeof(supervisor[0]);

        x86_rig_put(&guest->rig, GPA_GDT + i * 8,
                    is_supervisor ? supervisor[i] : host_descriptor(i));
    }
}

/* Interrupt gates to HLT. INT3 and INTO may be called by ring 3. */
static void make_idt(struct guest *guest)
{
    memset(guest->rig.rig.memory + GPA_HANDLERS, HLT, 256);
    for (unsigned i = 0; i < 256; i++) {
        uint64_t offset = KERNEL + GPA_HANDLERS + i;
        uint64_t type = i == 3 || i == 4 ? 0xee : 0x8e;

        x86_rig_put(&guest->rig, GPA_IDT + i * 16,
                    (offset & 0xffff) | (uint64_t)SELECTOR_KERNEL_CODE << 16 | type << 40 |
                        (offset >> 16 & 0xffff) << 48);
        x86_rig_put(&guest->rig, GPA_IDT + i * 16 + 8, offset >> 32);
    }
    x86_rig_put(&guest->rig, GPA_TSS + 4, KERNEL + GPA_STACK_END);
    x86_rig_put(&guest->rig, GPA_TSS + 0x60, UINT64_C(0x68) << 48); /* no I/O permission bitmap */
}

static void make_registers(struct guest *guest)
{
    struct x86_vcpu *cpu = guest->rig.cpu;

    for (unsigned i = 0; i < X86_SEGMENTS; i++) {
        cpu->segment[i] = (struct x86_segment){.unusable = 1};
    }
    cpu->segment[X86_CS] = x86_rig_segment(SELECTOR_USER_CODE, true, 64);
    cpu->segment[X86_SS] = x86_rig_segment(SELECTOR_USER_DATA, false, 32);
    cpu->segment[X86_GS].base = CASE_GS_BASE;
    memcpy(guest->user_segments, cpu->segment, sizeof(cpu->segment));
    cpu->tr = (struct x86_segment){
        .base = KERNEL + GPA_TSS, .limit = 0x67, .selector = 0x40, .type = 11, .present = 1};
    cpu->ldt = (struct x86_segment){.unusable = 1};
    cpu->gdt = (struct x86_table){KERNEL + GPA_GDT, 127};
    cpu->idt = (struct x86_table){KERNEL + GPA_IDT, 0xfff};
    cpu->cr0 = 0x80050033; /* with AM */
    cpu->cr3 = GPA_PML4;
    cpu->cr4 = 0x50620; /* OSXSAVE, FSGSBASE, OSXMMEXCPT, OSFXSR, PAE */
    cpu->xcr0 = 3;
    cpu->msr.efer = 0xd01;
    cpu->guest_debug_step = true;
    x86_state_changed(cpu);
}

void guest_init(struct guest *guest, const uint8_t data[CASE_DATA_BYTES])
{
    guest->rig = x86_rig_new(64);
    memcpy(guest_data(guest), data, CASE_DATA_BYTES);
    memset(guest->rig.rig.memory + GPA_CODE, INT3, CASE_CODE_BYTES);
    make_tables(guest);
    make_gdt(guest);
    make_idt(guest);
    make_registers(guest);
}

void guest_free(struct guest *guest)
{
    x86_rig_free(&guest->rig);
}

uint8_t *guest_data(const struct guest *guest)
{
    return guest->rig.rig.memory + GPA_DATA;
}

static void load_state(struct guest *guest, const struct case_state *state)
{
    struct x86_vcpu *cpu = guest->rig.cpu;

    memcpy(cpu->gpr, state->gpr, sizeof(state->gpr));
    memcpy(cpu->xmm, state->xmm, sizeof(state->xmm));
    cpu->rip = state->rip;
    cpu->mxcsr = state->mxcsr;
    cpu->fpu = (struct x86_fpu){.fcw = state->fcw, .fsw = state->fsw, .ftw = (uint8_t)state->ftw};
    for (unsigned i = 0; i < 8; i++) {
        memcpy(cpu->fpu.st[i], state->st[i], sizeof(state->st[i]));
    }
    x86_set_rflags(cpu, state->rflags);
}

static void save_state(const struct guest *guest, struct case_state *state)
{
    const struct x86_vcpu *cpu = guest->rig.cpu;

    memcpy(state->gpr, cpu->gpr, sizeof(state->gpr));
    memcpy(state->xmm, cpu->xmm, sizeof(state->xmm));
    state->rip = cpu->rip;
    state->mxcsr = cpu->mxcsr;
    state->fcw = cpu->fpu.fcw;
    state->fsw = cpu->fpu.fsw;
    state->ftw = cpu->fpu.ftw;
    for (unsigned i = 0; i < 8; i++) {
        memcpy(state->st[i], cpu->fpu.st[i], sizeof(state->st[i]));
    }
    state->rflags = x86_get_rflags(cpu);
}

/* In a handler: what was pushed is the state of ring 3, to which the vCPU goes back. */
static void take_exception(struct guest *guest, struct case_outcome *outcome)
{
    struct x86_vcpu *cpu = guest->rig.cpu;
    uint64_t frame[5];

    outcome->vector = (int)(cpu->rip - 1 - KERNEL - GPA_HANDLERS);
    REQUIRE(outcome->vector >= 0 && outcome->vector < 256, "HLT at %#llx",
            (unsigned long long)cpu->rip);
    memcpy(frame, guest->rig.rig.memory + GPA_STACK_END - sizeof(frame), sizeof(frame));
    if (outcome->vector < 32 && (VECTORS_WITH_CODE >> outcome->vector & 1) != 0) {
        memcpy(&outcome->error_code,
               guest->rig.rig.memory + GPA_STACK_END - sizeof(frame) - sizeof(uint64_t),
               sizeof(outcome->error_code));
    }
    outcome->state.rip = frame[0];
    outcome->state.rflags = frame[2];
    outcome->state.gpr[X86_RSP] = frame[3];
    outcome->cr2 = outcome->vector == VECTOR_PF ? cpu->cr2 : 0;
    REQUIRE(frame[1] == SELECTOR_USER_CODE && frame[4] == SELECTOR_USER_DATA,
            "CS %#llx, SS %#llx pushed", (unsigned long long)frame[1],
            (unsigned long long)frame[4]);
}

static void to_ring_3(struct guest *guest)
{
    struct x86_vcpu *cpu = guest->rig.cpu;

    memcpy(cpu->segment, guest->user_segments, sizeof(cpu->segment));
    cpu->mp_state = X86_RUNNABLE;
    x86_state_changed(cpu);
}

/* Of the host. The interpreter computes with the guest's, and must leave these alone. */
struct host_control {
    uint16_t fcw;
    uint32_t mxcsr;
};

static struct host_control host_control(void)
{
    struct host_control control;

    __asm__ volatile("fnstcw %0\n\tstmxcsr %1" : "=m"(control.fcw), "=m"(control.mxcsr));
    control.mxcsr &= ~UINT32_C(0x3f); /* flags are nobody's */
    return control;
}

void guest_run(struct guest *guest, const struct test_case *test, struct case_outcome *outcome)
{
    struct x86_vcpu *cpu = guest->rig.cpu;
    uint8_t *code = guest->rig.rig.memory + GPA_CODE + (test->before.rip - CASE_CODE);
    bool is_repeated = (test->form->flags & FORM_REPEAT) != 0;
    struct host_control before = host_control(), after;
    enum x86_exit exit;

    memcpy(code, test->bytes, test->mapped);
    load_state(guest, &test->before);
    do {
        /* A fault is one, its handler's HLT another; elements of strings count, too. */
        exit = x86_run(cpu, 2 + (is_repeated ? STRING_ELEMENTS : 0));
    } while (exit == X86_EXIT_DEBUG && is_repeated && cpu->rip == test->before.rip);
    after = host_control();
    REQUIRE(after.fcw == before.fcw && after.mxcsr == before.mxcsr, "host's control: %x, %x",
            after.fcw, after.mxcsr);
    if (test->form->special == SPECIAL_BIT) { /* may have changed it */
        memset(guest->rig.rig.memory + GPA_CODE, INT3, CASE_CODE_BYTES);
    }
    memset(code, INT3, test->mapped);
    *outcome = (struct case_outcome){.vector = -1, .is_absent = exit == X86_EXIT_EMULATION};
    save_state(guest, &outcome->state);
    switch (exit) {
    case X86_EXIT_DEBUG:
        if (test->form->group == GROUP_SEGMENT) {
            to_ring_3(guest);
        }
        break;
    case X86_EXIT_EMULATION:
        break;
    case X86_EXIT_HLT:
        take_exception(guest, outcome);
        to_ring_3(guest);
        break;
    default:
        REQUIRE(false, "exit %d, fault %u", exit, cpu->fault.vector);
    }
}
