/* guest/kernel/cpu.h - instructions that C does not have, and the layouts that the processor prescribes. */
#ifndef GUEST_KERNEL_CPU_H
#define GUEST_KERNEL_CPU_H

#include "guest/abi.h"

#include <stdbool.h>
#include <stddef.h>

typedef uint64_t u64;
typedef uint32_t u32;
typedef uint16_t u16;
typedef uint8_t u8;

#define PTE_PRESENT 1ul
#define PTE_WRITE 2ul
#define PTE_USER 4ul
#define PTE_DIRTY 0x40ul
#define PTE_LARGE 0x80ul
#define PTE_GLOBAL 0x100ul
#define PTE_NO_EXECUTE (1ul << 63)
#define PTE_FRAME 0x000ffffffffff000ul

#define PF_PRESENT 1u
#define PF_WRITE 2u
#define PF_USER 4u
#define PF_RESERVED 8u
#define PF_FETCH 16u

#define CR4_PGE 0x80ul
#define CR4_OSFXSR 0x200ul
#define CR4_OSXMMEXCPT 0x400ul
#define CR4_PCIDE 0x20000ul
#define CR4_SMEP 0x100000ul
#define CR4_SMAP 0x200000ul
#define CR3_KEEP (1ul << 63)
#define RFLAGS_AC 0x40000ul

#define MSR_EFER 0xc0000080u
#define MSR_STAR 0xc0000081u
#define MSR_LSTAR 0xc0000082u
#define MSR_SYSCALL_MASK 0xc0000084u
#define MSR_GS_BASE 0xc0000101u
#define MSR_KERNEL_GS_BASE 0xc0000102u

#define VECTOR_BP 3
#define VECTOR_DF 8
#define VECTOR_PF 14

#define SELECTOR_CODE 0x08
#define SELECTOR_DATA 0x10
#define SELECTOR_TSS 0x30

/* What boot.S stores of a process. */
struct frame {
    u64 r15, r14, r13, r12, r11, r10, r9, r8, rdi, rsi, rbp, rbx, rdx, rcx, rax;
    u64 vector, error;
    u64 rip, cs, rflags, rsp, ss;
};

struct __attribute__((packed)) tss {
    u32 reserved0;
    u64 rsp[3];
    u64 reserved1;
    u64 ist[7];
    u64 reserved2;
    u16 reserved3;
    u16 io_map;
};

struct gate {
    u16 offset0;
    u16 selector;
    u8 ist;
    u8 type;
    u16 offset1;
    u32 offset2;
    u32 reserved;
};

struct __attribute__((packed)) table_register {
    u16 limit;
    u64 base;
};

#define CPU_READ(name)                                                                             \
    static inline u64 read_##name(void)                                                            \
    {                                                                                              \
        u64 value;                                                                                 \
                                                                                                   \
        __asm__ volatile("mov %%" #name ", %0" : "=r"(value));                                     \
        return value;                                                                              \
    }
#define CPU_WRITE(name)                                                                            \
    static inline void write_##name(u64 value)                                                     \
    {                                                                                              \
        __asm__ volatile("mov %0, %%" #name : : "r"(value) : "memory");                            \
    }
CPU_READ(cr0)
CPU_READ(cr2)
CPU_READ(cr3)
CPU_READ(cr4)
CPU_WRITE(cr0)
CPU_WRITE(cr3)
CPU_WRITE(cr4)

static inline void write_msr(u32 number, u64 value)
{
    __asm__ volatile("wrmsr" : : "c"(number), "a"((u32)value), "d"((u32)(value >> 32)) : "memory");
}

static inline u64 read_msr(u32 number)
{
    u32 low, high;

    __asm__ volatile("rdmsr" : "=a"(low), "=d"(high) : "c"(number));
    return (u64)high << 32 | low;
}

static inline void invlpg(u64 address)
{
    __asm__ volatile("invlpg (%0)" : : "r"(address) : "memory");
}

static inline void cpu_pause(void)
{
    __asm__ volatile("pause" : : : "memory");
}

static inline void out32(u16 port, u32 value)
{
    __asm__ volatile("outl %0, %1" : : "a"(value), "d"(port) : "memory");
}

static inline void out_text(u16 port, const char *text, size_t count)
{
    __asm__ volatile("rep outsb" : "+S"(text), "+c"(count) : "d"(port) : "memory");
}

static inline void stac(void)
{
    __asm__ volatile("stac" : : : "memory", "cc");
}

static inline void clac(void)
{
    __asm__ volatile("clac" : : : "memory", "cc");
}

#endif
