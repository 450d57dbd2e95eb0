/*
 * unit/x86_rig.h - a software VM with a vCPU that runs code: in 64-bit mode on identity-mapped memory, unless a test
 * sets it up otherwise.
 */
#ifndef UNIT_X86_RIG_H
#define UNIT_X86_RIG_H

#include "soft_rig.h"
#include "x86/x86.h"

/* 1 MiB of memory, linear addresses are physical ones. */
enum {
    X86_RIG_PML4 = 0x1000,
    X86_RIG_PDPT = 0x2000,
    X86_RIG_PD = 0x3000,
    X86_RIG_GDT = 0x4000,
    X86_RIG_IDT = 0x5000,
    X86_RIG_CODE = 0x10000,
    X86_RIG_DATA = 0x20000,
    X86_RIG_STACK = 0x80000,
};

struct x86_rig {
    struct rig rig;
    struct x86_vcpu *cpu;
};

static inline void x86_rig_put(struct x86_rig *rig, uint64_t gpa, uint64_t value)
{
    memcpy(rig->rig.memory + gpa, &value, sizeof(value));
}

/* A flat segment of a mode: 16, 32 or 64 bits. */
static inline struct x86_segment x86_rig_segment(uint16_t selector, bool is_code, unsigned bits)
{
    return (struct x86_segment){
        .limit = bits == 16 ? 0xffff : 0xffffffff,
        .selector = selector,
        .type = is_code ? 11 : 3,
        .present = 1,
        .db = bits == 32,
        .s = 1,
        .l = bits == 64 && is_code,
        .g = bits != 16,
        .dpl = selector & 3,
    };
}

static inline void x86_rig_set_mode(struct x86_rig *rig, unsigned bits)
{
    struct x86_vcpu *cpu = rig->cpu;

    cpu->segment[X86_CS] = x86_rig_segment(bits == 16 ? 0 : 8, true, bits);
    for (unsigned i = 0; i < X86_SEGMENTS; i++) {
        if (i != X86_CS) {
            cpu->segment[i] = x86_rig_segment(bits == 16 ? 0 : 16, false, bits == 16 ? 16 : 32);
        }
    }
    cpu->cr0 = bits == 64 ? 0x80010033 : bits == 32 ? 0x33 : 0x32;
    cpu->cr4 = bits == 64 ? 0x620 : 0x600; /* PAE, OSFXSR, OSXMMEXCPT */
    cpu->cr3 = bits == 64 ? X86_RIG_PML4 : 0;
    cpu->msr.efer = bits == 64 ? 0xd01 : 0;
    cpu->gdt = (struct x86_table){X86_RIG_GDT, 0xff};
    cpu->idt = (struct x86_table){bits == 16 ? 0 : X86_RIG_IDT, bits == 16 ? 0x3ff : 0xfff};
    cpu->rip = X86_RIG_CODE;
    if (bits == 16) {
        cpu->segment[X86_CS].base = X86_RIG_CODE;
        cpu->segment[X86_CS].selector = X86_RIG_CODE >> 4;
        cpu->rip = 0;
    }
    cpu->gpr[X86_RSP] = bits == 16 ? 0x8000 : X86_RIG_STACK;
    x86_state_changed(cpu);
}

static inline struct x86_rig x86_rig_new_with(const struct gm_soft_options *options, unsigned bits)
{
    struct x86_rig rig = {.rig = rig_new(options)};

    assert_int_equal(rig_set(&rig.rig, 0, 0, 0, RIG_BYTES, 0), 0);
    assert_int_equal(x86_vcpu_new(rig.rig.mmu, NULL, &rig.cpu), 0);
    x86_rig_put(&rig, X86_RIG_PML4, X86_RIG_PDPT | 7);
    x86_rig_put(&rig, X86_RIG_PDPT, X86_RIG_PD | 7);
    x86_rig_put(&rig, X86_RIG_PD, 0x87);
    x86_rig_put(&rig, X86_RIG_GDT + 8,
                bits == 64 ? UINT64_C(0x00af9b000000ffff) : UINT64_C(0x00cf9b000000ffff));
    x86_rig_put(&rig, X86_RIG_GDT + 16, UINT64_C(0x00cf93000000ffff));
    x86_rig_set_mode(&rig, bits);
    return rig;
}

static inline struct x86_rig x86_rig_new(unsigned bits)
{
    return x86_rig_new_with(NULL, bits);
}

static inline void x86_rig_free(struct x86_rig *rig)
{
    x86_vcpu_free(rig->cpu);
    rig_free(&rig->rig);
}

/* Run these bytes from the start of the code. */
static inline enum x86_exit x86_rig_run(struct x86_rig *rig, const void *bytes, size_t count)
{
    memcpy(rig->rig.memory + X86_RIG_CODE, bytes, count);
    rig->cpu->rip = rig->cpu->segment[X86_CS].base == X86_RIG_CODE ? 0 : X86_RIG_CODE;
    return x86_run(rig->cpu, 1000000);
}

/* x86_rig_run(&rig, "\x90\xf4") with the literal's length. */
#define X86_RIG_RUN(rig, literal) x86_rig_run((rig), (literal), sizeof(literal) - 1)

#endif
