/*
 * conformance/ept/guest/guest.h - the parts of the guest program, and the instructions that C lacks.
 *
 * No C library, no floating point, no interrupts: an exception of the guest program itself ends the
 * machine. Physical memory is mapped one to one.
 */
#ifndef CONFORMANCE_EPT_GUEST_H
#define CONFORMANCE_EPT_GUEST_H

#include "../image.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define PAGE_BYTES 4096u
#define TABLE_ENTRIES 512u

/* Linear addresses of the virtual machine: its code, and the page that a question is about. */
#define LINEAR_CODE 0x400000ull
#define LINEAR_TARGET 0x402000ull

/* Of the virtual machine; the rest of its registers stays as it is. enter.S has the offsets. */
struct registers {
    uint64_t rax;
    uint64_t rdi;
};

/* What ended a run. */
struct exit {
    enum oracle_outcome outcome; /* ORACLE_OK: the call at the end of the access */
    uint64_t detail;
    uint64_t address;
};

/* One kind of virtualisation. */
struct engine {
    uint64_t word_call; /* ORACLE_WORD_VMCALL or ORACLE_WORD_VMMCALL */
    const uint8_t *code_read;
    const uint8_t *code_write;
    uint64_t pointer_bits; /* of an entry that leads to a table and allows everything */
    uint64_t leaf_bits;    /* of an entry for a 4 KiB page of ordinary memory */
    /* Make the virtual machine: its page tables' root has the GPA @cr3. False: not possible here. */
    bool (*start)(const struct oracle_image *image, uint64_t cr3, struct oracle_greeting *greeting);
    /* Run it from @rip to its next exit. */
    void (*run)(uint64_t rip, struct registers *registers, struct exit *exit);
};

extern const struct engine vmx_engine;
extern const struct engine svm_engine;

/* enter.S */
bool vmx_enter(struct registers *registers, bool launched);
void vmx_exited(void);
void svm_enter(struct registers *registers, uint64_t vmcb);
extern const uint8_t code_begin[], code_vmx_read[], code_vmx_write[], code_svm_read[],
    code_svm_write[], code_end[];

/* window.c: the guest program's own pages in the tree, and the virtual machine's page tables. */
bool window_open(const struct oracle_image *image, const struct engine *engine);
void window_close(void);
uint64_t window_cr3(const struct oracle_image *image);
uint64_t window_code(const uint8_t *code); /* its linear address */
void window_aim(uint64_t gpa);             /* LINEAR_TARGET then leads to the page of @gpa */

/* port.c: the stream to the host. */
void port_send(const void *bytes, size_t count);
void port_power_off(void);

static inline const void *image_part(const struct oracle_image *image, uint64_t offset)
{
    return (const uint8_t *)image + offset;
}

static inline void out8(uint16_t port, uint8_t value)
{
    __asm__ volatile("outb %0, %1" : : "a"(value), "Nd"(port));
}

static inline uint64_t read_msr(uint32_t number)
{
    uint32_t low;
    uint32_t high;

    __asm__ volatile("rdmsr" : "=a"(low), "=d"(high) : "c"(number));
    return (uint64_t)high << 32 | low;
}

static inline void write_msr(uint32_t number, uint64_t value)
{
    __asm__ volatile("wrmsr" : : "c"(number), "a"((uint32_t)value), "d"((uint32_t)(value >> 32)));
}

struct cpuid {
    uint32_t eax, ebx, ecx, edx;
};

static inline struct cpuid cpuid(uint32_t leaf)
{
    struct cpuid answer;

    __asm__ volatile("cpuid"
                     : "=a"(answer.eax), "=b"(answer.ebx), "=c"(answer.ecx), "=d"(answer.edx)
                     : "a"(leaf), "c"(0));
    return answer;
}

#define READ_CONTROL_REGISTER(number)                                                              \
    static inline uint64_t read_cr##number(void)                                                   \
    {                                                                                              \
        uint64_t value;                                                                            \
                                                                                                   \
        __asm__ volatile("mov %%cr" #number ", %0" : "=r"(value));                                 \
        return value;                                                                              \
    }
READ_CONTROL_REGISTER(0)
READ_CONTROL_REGISTER(3)
READ_CONTROL_REGISTER(4)

static inline void write_cr0(uint64_t value)
{
    __asm__ volatile("mov %0, %%cr0" : : "r"(value) : "memory");
}

static inline void write_cr4(uint64_t value)
{
    __asm__ volatile("mov %0, %%cr4" : : "r"(value) : "memory");
}

#endif
