/* conformance/system/guest/guest.c - run the image's cases one after the other: see image.h. */
#include "guest.h"

/* QEMU's isa-debug-exit, where run.py puts it. */
#define EXIT_PORT 0x501

/* Power management of the PIIX4, function 3 of device 1: bit 1 of byte 5b lets SYSTEM_PORT raise SMIs. */
#define PCI_ADDRESS 0xcf8
#define PCI_DATA 0xcfc
#define PCI_SMI_ENABLE 0x80000b58u

#define APIC 0xfee00000u
#define APIC_TPR (APIC + 0x80)
#define APIC_EOI (APIC + 0xb0)
#define APIC_SPURIOUS (APIC + 0xf0)
#define APIC_ISR (APIC + 0x100)
#define APIC_IRR (APIC + 0x200)
#define APIC_ICR (APIC + 0x300)
#define APIC_ICR_HIGH (APIC + 0x310)
#define APIC_LINT0 (APIC + 0x350)
#define APIC_LINT1 (APIC + 0x360)
#define ICR_SELF 0x40000u
#define ICR_NMI 0x400u
#define LVT_MASKED 0x10000u

#define TSS_BUSY 2u                     /* of a descriptor's type */
#define CR4_FOR_XCR0_AND_PKRU 0x440000u /* OSXSAVE, PKE */

struct gate {
    uint16_t offset_low, selector, access, offset_high;
};

static struct gate idt[256];

static const uint32_t msrs[SYSTEM_MSRS] = {
    [SYSTEM_STAR] = 0xc0000081, [SYSTEM_LSTAR] = 0xc0000082,     [SYSTEM_CSTAR] = 0xc0000083,
    [SYSTEM_MASK] = 0xc0000084, [SYSTEM_KERNEL_GS] = 0xc0000102, [SYSTEM_ENTER_CS] = 0x174,
    [SYSTEM_ENTER_SP] = 0x175,  [SYSTEM_ENTER_IP] = 0x176,
};

static struct system_image *const image = (struct system_image *)SYSTEM_IMAGE;
static const struct system_case *const cases = (const struct system_case *)SYSTEM_CASES;
static struct system_answer *const answers = (struct system_answer *)SYSTEM_ANSWERS;
static uint32_t *const arena = (uint32_t *)0;
static const uint32_t *const plain = (const uint32_t *)SYSTEM_PLAIN;
static uint32_t *const patched = (uint32_t *)SYSTEM_PATCHED;

static uint32_t saved_segment(unsigned number)
{
    return number == SYSTEM_LDT ? SAVE_LDT : number == SYSTEM_TR ? SAVE_TR : SAVE_SEGMENT(number);
}

static void take_segment(unsigned number, struct system_segment *segment)
{
    uint32_t at = saved_segment(number);
    uint32_t first = load32(at);

    segment->selector = (uint16_t)first;
    segment->attributes = (uint16_t)(first >> 16);
    segment->limit = load32(at + 4);
    segment->base = load64(at + 8);
}

static void give_segment(unsigned number, const struct system_segment *segment)
{
    uint32_t at = saved_segment(number);
    uint32_t attributes = segment->attributes;

    if (number == SYSTEM_TR) {
        attributes &= ~TSS_BUSY; /* QEMU keeps it as the descriptor was before LTR */
    }
    store32(at, segment->selector | attributes << 16);
    store32(at + 4, segment->limit);
    store64(at + 8, segment->base);
}

/* What the save area does not have. */
static void take_others(struct system_state *state)
{
    uint32_t dr[4], cr2;

    __asm__ volatile("mov %%dr0, %0" : "=r"(dr[0]));
    __asm__ volatile("mov %%dr1, %0" : "=r"(dr[1]));
    __asm__ volatile("mov %%dr2, %0" : "=r"(dr[2]));
    __asm__ volatile("mov %%dr3, %0" : "=r"(dr[3]));
    __asm__ volatile("mov %%cr2, %0" : "=r"(cr2));
    for (unsigned i = 0; i < 4; i++) {
        state->dr[i] = dr[i];
    }
    state->cr2 = cr2;
    for (unsigned i = 0; i < SYSTEM_MSRS; i++) {
        state->msr[i] = read_msr(msrs[i]);
    }
    write_cr4(CR4_FOR_XCR0_AND_PKRU);
    state->xcr0 = read_xcr0();
    state->pkru = read_pkru();
    state->cr8 = load32(APIC_TPR) >> 4;
}

static void give_others(const struct system_state *state)
{
    __asm__ volatile("mov %0, %%dr0" : : "r"((uint32_t)state->dr[0]));
    __asm__ volatile("mov %0, %%dr1" : : "r"((uint32_t)state->dr[1]));
    __asm__ volatile("mov %0, %%dr2" : : "r"((uint32_t)state->dr[2]));
    __asm__ volatile("mov %0, %%dr3" : : "r"((uint32_t)state->dr[3]));
    __asm__ volatile("mov %0, %%cr2" : : "r"((uint32_t)state->cr2));
    for (unsigned i = 0; i < SYSTEM_MSRS; i++) {
        write_msr(msrs[i], state->msr[i]);
    }
    write_cr4(CR4_FOR_XCR0_AND_PKRU);
    write_xcr0(state->xcr0);
    write_pkru(state->pkru);
    store32(APIC_TPR, (uint32_t)state->cr8 << 4);
}

static void take_state(struct system_state *state)
{
    for (unsigned i = 0; i < 16; i++) {
        state->gpr[i] = load64(SAVE_GPR(i));
    }
    state->rip = load64(SAVE_RIP);
    state->rflags = load32(SAVE_RFLAGS);
    state->cr0 = load32(SAVE_CR0);
    state->cr3 = load64(SAVE_CR3);
    state->cr4 = load32(SAVE_CR4);
    state->efer = load64(SAVE_EFER);
    state->dr6 = load32(SAVE_DR6);
    state->dr7 = load32(SAVE_DR7);
    state->gdt_base = load64(SAVE_GDT + 8);
    state->gdt_limit = load32(SAVE_GDT + 4);
    state->idt_base = load64(SAVE_IDT + 8);
    state->idt_limit = load32(SAVE_IDT + 4);
    for (unsigned i = 0; i < SYSTEM_SEGMENTS; i++) {
        take_segment(i, &state->segment[i]);
    }
    take_others(state);
}

static void give_state(const struct system_state *state)
{
    for (unsigned i = 0; i < 16; i++) {
        store64(SAVE_GPR(i), state->gpr[i]);
    }
    store64(SAVE_RIP, state->rip);
    store32(SAVE_RFLAGS, (uint32_t)state->rflags);
    store32(SAVE_CR0, (uint32_t)state->cr0);
    store64(SAVE_CR3, state->cr3);
    store32(SAVE_CR4, (uint32_t)state->cr4);
    store64(SAVE_EFER, state->efer);
    store32(SAVE_DR6, (uint32_t)state->dr6);
    store32(SAVE_DR7, (uint32_t)state->dr7);
    store64(SAVE_GDT + 8, state->gdt_base);
    store32(SAVE_GDT + 4, state->gdt_limit);
    store64(SAVE_IDT + 8, state->idt_base);
    store32(SAVE_IDT + 4, state->idt_limit);
    for (unsigned i = 0; i < SYSTEM_SEGMENTS; i++) {
        give_segment(i, &state->segment[i]);
    }
    give_others(state);
}

static void put_word(uint32_t index, uint32_t value)
{
    patched[index] = arena[index] = value;
}

/* Note which words of the arena have changed, and put them back. */
static void take_changes(struct system_answer *answer)
{
    answer->change_count = 0;
    for (uint32_t i = 0; i < SYSTEM_ARENA_BYTES / 4; i++) {
        if (arena[i] != patched[i]) {
            if (answer->change_count < SYSTEM_CHANGES_MAX) {
                answer->changes[answer->change_count] = (struct system_word){4 * i, arena[i]};
            }
            answer->change_count++;
            arena[i] = patched[i];
        }
    }
}

static void put_patches(const struct system_case *test)
{
    for (uint32_t i = 0; i < test->patch_count; i++) {
        put_word(test->patches[i].offset / 4, test->patches[i].value);
    }
}

static void undo_patches(const struct system_case *test)
{
    for (uint32_t i = 0; i < test->patch_count; i++) {
        put_word(test->patches[i].offset / 4, plain[test->patches[i].offset / 4]);
    }
}

static bool is_vector_set(uint32_t registers, uint32_t vector)
{
    return (load32(registers + 0x10 * (vector / 32)) >> vector % 32 & 1) != 0;
}

/* An interrupt that the case has not taken, or not acknowledged; NMIs that are held back. */
static void settle_pending(uint32_t pending)
{
    const struct __attribute__((packed)) {
        uint16_t limit;
        uint32_t base;
    } pointer = {sizeof(idt) - 1, (uint32_t)idt};

    if (pending == SYSTEM_PENDING_NMI) {
        allow_nmi();
    } else if (pending != 0) {
        store32(APIC_TPR, 0);
        if (is_vector_set(APIC_ISR, pending)) {
            store32(APIC_EOI, 0);
        }
        if (is_vector_set(APIC_IRR, pending)) {
            __asm__ volatile("lidt %0" : : "m"(pointer));
            wait_interrupt();
        }
    }
}

static void make_pending(uint32_t pending)
{
    if (pending != 0) {
        store32(APIC_ICR_HIGH, 0);
        store32(APIC_ICR, pending == SYSTEM_PENDING_NMI ? ICR_NMI : ICR_SELF | pending);
    }
}

static void start_case(void)
{
    const struct system_case *test = &cases[image->answer_count];

    if (image->answer_count == image->case_count) {
        out8(EXIT_PORT, 0);
        for (;;) {
            __asm__ volatile("hlt");
        }
    }
    put_patches(test);
    give_state(&test->state);
    image->is_running = 1;
    make_pending(test->pending);
}

/* Of the case under way. */
static void end_case(enum system_end end)
{
    const struct system_case *test = &cases[image->answer_count];
    struct system_answer *answer = &answers[image->answer_count];

    answer->end = end;
    if (end == SYSTEM_END_PORT) {
        take_state(&answer->state);
        settle_pending(test->pending);
    }
    take_changes(answer);
    undo_patches(test);
    image->is_running = 0;
    *(volatile uint32_t *)&image->answer_count += 1;
}

/* By SMI: a case has come to its end, or guest_main() wants the first to begin. */
void guest_trap(void)
{
    if (image->is_running != 0) {
        end_case(SYSTEM_END_PORT);
    }
    start_case();
}

static void set_up_devices(void)
{
    out8(0x21, 0xff); /* no interrupt of the 8259s */
    out8(0xa1, 0xff);
    out32(PCI_ADDRESS, PCI_SMI_ENABLE);
    out8(PCI_DATA + 3, 2);
    store32(APIC_SPURIOUS, 0x1ff);
    store32(APIC_LINT0, LVT_MASKED);
    store32(APIC_LINT1, LVT_MASKED);
}

static void set_up_gates(void)
{
    uint32_t offset = (uint32_t)take_interrupt;

    for (unsigned i = 0; i < 256; i++) {
        idt[i] = (struct gate){(uint16_t)offset, 8, 0x8e00, (uint16_t)(offset >> 16)};
    }
}

/* After each reset. */
void guest_main(void)
{
    uint8_t *entry = (uint8_t *)(SYSTEM_SMBASE + 0x8000);

    if (image->magic == SYSTEM_IMAGE_MAGIC) {
        for (const uint8_t *from = smi_entry; from < smi_entry_end; from++) {
            *entry++ = *from;
        }
        set_up_devices();
        set_up_gates();
        if (image->is_running != 0) {
            end_case(image->is_stuck != 0 ? SYSTEM_END_STUCK : SYSTEM_END_SHUTDOWN);
        }
        image->is_stuck = 0;
        for (uint32_t i = 0; i < SYSTEM_ARENA_BYTES / 4; i++) {
            put_word(i, plain[i]); /* whatever the reset has cut off */
        }
        out8(SYSTEM_PORT, 0);
    }
    for (;;) {
        __asm__ volatile("hlt");
    }
}
