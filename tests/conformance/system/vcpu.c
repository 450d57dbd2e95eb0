/* conformance/system/vcpu.c - cases on the software vCPU. */
#include "vcpu.h"

#include "model/require.h"

#define PHYSICAL_BITS 40 /* run.py has it too */
#define BUDGET 3000u

/* The features that CR4's bits ask for; and how many bits addresses have. */
static const struct x86_cpuid_entry cpuid[] = {
    {.function = 1, .ecx = UINT32_MAX},
    {.function = 7, .ebx = UINT32_MAX, .ecx = UINT32_MAX},
    {.function = 0x80000001, .ecx = UINT32_MAX, .edx = UINT32_MAX},
    {.function = 0x80000008, .eax = PHYSICAL_BITS},
};

void vcpu_open(struct vcpu *vcpu)
{
    vcpu->rig = rig_new(NULL);
    REQUIRE(rig_set(&vcpu->rig, 0, 0, 0, SYSTEM_ARENA_BYTES, 0) == 0, "no slot");
    REQUIRE(x86_vcpu_new(vcpu->rig.mmu, NULL, &vcpu->cpu) == 0, "no vCPU");
    vcpu->cpu->cpuid = cpuid;
    vcpu->cpu->cpuid_count = sizeof(cpuid) / sizeof(cpuid[0]);
}

void vcpu_close(struct vcpu *vcpu)
{
    x86_vcpu_free(vcpu->cpu);
    rig_free(&vcpu->rig);
}

static struct x86_segment give_segment(const struct system_segment *from)
{
    unsigned attributes = from->attributes;

    return (struct x86_segment){
        .base = from->base,
        .limit = from->limit,
        .selector = from->selector,
        .type = attributes & 15,
        .s = attributes >> 4 & 1,
        .dpl = attributes >> 5 & 3,
        .present = attributes >> 7 & 1,
        .avl = attributes >> 12 & 1,
        .l = attributes >> 13 & 1,
        .db = attributes >> 14 & 1,
        .g = attributes >> 15 & 1,
        .unusable = (attributes & 0x80) == 0,
    };
}

/* One that cannot be used has no attributes but SS's level. */
static struct system_segment take_segment(const struct x86_segment *from, bool is_stack)
{
    struct system_segment segment = {
        .base = from->base, .limit = from->limit, .selector = from->selector};

    segment.attributes =
        (uint16_t)(from->type | from->s << 4 | from->dpl << 5 | from->present << 7 |
                   from->avl << 12 | from->l << 13 | from->db << 14 | from->g << 15);
    if (from->unusable) {
        segment.attributes = is_stack ? (uint16_t)(from->dpl << 5) : 0;
        segment.limit = 0;
    }
    return segment;
}

static void give_state(struct x86_vcpu *cpu, const struct system_state *state)
{
    x86_vcpu_reset(cpu);
    memcpy(cpu->gpr, state->gpr, sizeof(state->gpr));
    cpu->rip = state->rip;
    cpu->cr0 = state->cr0;
    cpu->cr2 = state->cr2;
    cpu->cr3 = state->cr3;
    cpu->cr4 = state->cr4;
    cpu->cr8 = state->cr8;
    cpu->msr.efer = state->efer;
    memcpy(cpu->dr, state->dr, sizeof(state->dr));
    cpu->dr[6] = state->dr6;
    cpu->dr[7] = state->dr7;
    cpu->xcr0 = state->xcr0;
    cpu->pkru = state->pkru;
    cpu->gdt = (struct x86_table){state->gdt_base, (uint16_t)state->gdt_limit};
    cpu->idt = (struct x86_table){state->idt_base, (uint16_t)state->idt_limit};
    cpu->msr.star = state->msr[SYSTEM_STAR];
    cpu->msr.lstar = state->msr[SYSTEM_LSTAR];
    cpu->msr.cstar = state->msr[SYSTEM_CSTAR];
    cpu->msr.syscall_mask = state->msr[SYSTEM_MASK];
    cpu->msr.kernel_gs_base = state->msr[SYSTEM_KERNEL_GS];
    cpu->msr.sysenter_cs = state->msr[SYSTEM_ENTER_CS];
    cpu->msr.sysenter_esp = state->msr[SYSTEM_ENTER_SP];
    cpu->msr.sysenter_eip = state->msr[SYSTEM_ENTER_IP];
    for (unsigned i = 0; i <= SYSTEM_GS; i++) {
        cpu->segment[i] = give_segment(&state->segment[i]);
    }
    cpu->ldt = give_segment(&state->segment[SYSTEM_LDT]);
    cpu->tr = give_segment(&state->segment[SYSTEM_TR]);
    x86_set_rflags(cpu, state->rflags);
    x86_state_changed(cpu);
}

static void take_state(const struct x86_vcpu *cpu, struct system_state *state)
{
    *state = (struct system_state){0};
    memcpy(state->gpr, cpu->gpr, sizeof(state->gpr));
    state->rip = cpu->rip;
    state->rflags = x86_get_rflags(cpu);
    state->cr0 = cpu->cr0;
    state->cr2 = cpu->cr2;
    state->cr3 = cpu->cr3;
    state->cr4 = cpu->cr4;
    state->cr8 = cpu->cr8;
    state->efer = cpu->msr.efer;
    memcpy(state->dr, cpu->dr, sizeof(state->dr));
    state->dr6 = cpu->dr[6];
    state->dr7 = cpu->dr[7];
    state->xcr0 = cpu->xcr0;
    state->pkru = cpu->pkru;
    state->gdt_base = cpu->gdt.base;
    state->gdt_limit = cpu->gdt.limit;
    state->idt_base = cpu->idt.base;
    state->idt_limit = cpu->idt.limit;
    state->msr[SYSTEM_STAR] = cpu->msr.star;
    state->msr[SYSTEM_LSTAR] = cpu->msr.lstar;
    state->msr[SYSTEM_CSTAR] = cpu->msr.cstar;
    state->msr[SYSTEM_MASK] = cpu->msr.syscall_mask;
    state->msr[SYSTEM_KERNEL_GS] = cpu->msr.kernel_gs_base;
    state->msr[SYSTEM_ENTER_CS] = cpu->msr.sysenter_cs;
    state->msr[SYSTEM_ENTER_SP] = cpu->msr.sysenter_esp;
    state->msr[SYSTEM_ENTER_IP] = cpu->msr.sysenter_eip;
    for (unsigned i = 0; i <= SYSTEM_GS; i++) {
        state->segment[i] = take_segment(&cpu->segment[i], i == SYSTEM_SS);
    }
    state->segment[SYSTEM_LDT] = take_segment(&cpu->ldt, false);
    state->segment[SYSTEM_TR] = take_segment(&cpu->tr, false);
}

static bool take_changes(const struct vcpu *vcpu, struct system_answer *answer)
{
    answer->change_count = 0;
    for (uint32_t at = 0; at < SYSTEM_ARENA_BYTES; at += 4) {
        if (memcmp(vcpu->rig.memory + at, vcpu->plain + at, 4) != 0) {
            if (answer->change_count == SYSTEM_CHANGES_MAX) {
                return false;
            }
            answer->changes[answer->change_count].offset = at;
            memcpy(&answer->changes[answer->change_count++].value, vcpu->rig.memory + at, 4);
        }
    }
    return true;
}

/* Past the write that ends the case, and what a trap after it does. An SMI comes before an interrupt. */
static enum vcpu_end finish(struct vcpu *vcpu, struct system_answer *answer)
{
    unsigned al = vcpu->cpu->io.data & 0xff;

    if ((al & ~1u) == SYSTEM_AL_DEAF) {
        return VCPU_END_UNCLEAR;
    }
    vcpu->cpu->request_irq_window = false;
    vcpu->cpu->guest_debug_step = false;
    if (x86_run(vcpu->cpu, 1) != X86_EXIT_BUDGET) {
        return VCPU_END_UNCLEAR;
    }
    answer->end = SYSTEM_END_PORT;
    take_state(vcpu->cpu, &answer->state);
    return VCPU_END_ANSWER;
}

/* The waiting interrupt, if the task priority lets it pass. */
static enum vcpu_end interrupt(struct x86_vcpu *cpu, uint32_t *pending)
{
    if (*pending >> 4 <= cpu->cr8) {
        return VCPU_END_UNCLEAR; /* it would have to be asked again after each MOV to CR8 */
    }
    x86_interrupt(cpu, (uint8_t)*pending);
    cpu->request_irq_window = false;
    *pending = 0;
    return VCPU_END_ANSWER;
}

/* Ports where QEMU's machine has nothing, or, at 80, what takes and gives anything. */
static bool is_port_free(unsigned port)
{
    return port == 0x80 || (port >= 0x300 && port < 0x370) || (port >= 0x378 && port < 0x3b0) ||
           (port >= 0xc00 && port < 0xcf0) || (port >= 0xe000 && port < 0xf000);
}

/* Who sees each instruction before it is run, and may end it all. NULL: nobody. */
struct looker {
    vcpu_look_fn *look;
    void *opaque;
};

static enum vcpu_end run_to_end(struct vcpu *vcpu, uint32_t pending, const struct looker *looker,
                                struct system_answer *answer)
{
    struct x86_vcpu *cpu = vcpu->cpu;
    uint64_t end = cpu->instructions + BUDGET;

    cpu->request_irq_window = pending != 0;
    cpu->guest_debug_step = looker != NULL;
    while (cpu->instructions < end) {
        enum vcpu_end what = VCPU_END_ANSWER;

        if (looker != NULL && !looker->look(looker->opaque, vcpu)) {
            return VCPU_END_UNCLEAR;
        }
        /* A budget of one ends before a handler's first instruction, too, which is to be seen. */
        switch (x86_run(cpu, looker != NULL ? 1 : end - cpu->instructions)) {
        case X86_EXIT_DEBUG:
            break;
        case X86_EXIT_IO:
            if (!cpu->io.is_in && cpu->io.port == SYSTEM_PORT) {
                return finish(vcpu, answer);
            }
            if (!is_port_free(cpu->io.port)) {
                return VCPU_END_UNCLEAR;
            }
            /* As QEMU has it where nothing is. */
            cpu->io.data = cpu->io.port % cpu->io.size_bytes == 0 ? UINT32_MAX : 0;
            break;
        case X86_EXIT_IRQ_WINDOW:
            what = interrupt(cpu, &pending);
            break;
        case X86_EXIT_HLT:
            what = pending != 0 && x86_can_interrupt(cpu) ? interrupt(cpu, &pending)
                                                          : VCPU_END_ENDLESS;
            break;
        case X86_EXIT_SHUTDOWN:
            answer->end = SYSTEM_END_SHUTDOWN;
            return VCPU_END_ANSWER;
        case X86_EXIT_EMULATION:
            return VCPU_END_ABSENT;
        case X86_EXIT_BUDGET:
            what = looker != NULL ? VCPU_END_ANSWER : VCPU_END_ENDLESS;
            break;
        default:
            return VCPU_END_OUTSIDE;
        }
        if (what != VCPU_END_ANSWER) {
            return what;
        }
    }
    return VCPU_END_ENDLESS;
}

static enum vcpu_end run(struct vcpu *vcpu, const struct system_case *test,
                         const struct looker *looker, struct system_answer *answer)
{
    bool is_nmi = test->pending == SYSTEM_PENDING_NMI;
    enum vcpu_end end;

    memcpy(vcpu->rig.memory, vcpu->plain, SYSTEM_ARENA_BYTES);
    give_state(vcpu->cpu, &test->state);
    gm_mmu_flush_all(vcpu->rig.mmu);
    if (is_nmi) {
        x86_nmi(vcpu->cpu);
    }
    *answer = (struct system_answer){0};
    end = run_to_end(vcpu, is_nmi ? 0 : test->pending, looker, answer);
    return take_changes(vcpu, answer) ? end : VCPU_END_UNCLEAR;
}

enum vcpu_end case_run(struct vcpu *vcpu, const uint8_t plain[SYSTEM_ARENA_BYTES],
                       const struct system_case *test, struct system_answer *answer)
{
    memcpy(vcpu->plain, plain, SYSTEM_ARENA_BYTES);
    for (uint32_t i = 0; i < test->patch_count; i++) {
        memcpy(vcpu->plain + test->patches[i].offset, &test->patches[i].value, 4);
    }
    return run(vcpu, test, NULL, answer);
}

void vcpu_walk(struct vcpu *vcpu, const struct system_case *test, vcpu_look_fn *look, void *opaque,
               const struct system_answer *answer)
{
    const struct looker looker = {look, opaque};
    struct system_answer stepped;
    enum vcpu_end end = run(vcpu, test, &looker, &stepped);

    REQUIRE(end != VCPU_END_ANSWER || memcmp(&stepped, answer, sizeof(stepped)) == 0,
            "single steps lead elsewhere");
}
