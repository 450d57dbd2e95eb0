/*
 * speed/x86.c - how fast the software vCPU runs compiled integer code in 64-bit mode with paging on.
 *
 *     build/tests/speed/bench-x86 [ROUNDS]
 *
 * prints JSON, of vector and x87 instructions as well. Times are the thread's own, whatever else the machine does.
 */
#include "x86/x86.h"

#include <guestmem/soft_ioctl.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#define MEMORY_BYTES (8u << 20)
#define WORK 0x200000u
#define CODE 0x10000u

static double now_s(void)
{
    struct timespec time;

    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
    return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

static void put(uint8_t *memory, uint64_t at, uint64_t value)
{
    memcpy(memory + at, &value, sizeof(value));
}

static size_t load_code(uint8_t *memory)
{
    FILE *file = fopen(X86_GUEST, "rb");
    size_t count = file != NULL ? fread(memory + CODE, 1, 0x10000, file) : 0;

    if (file != NULL) {
        fclose(file);
    }
    return count;
}

static void set_up(struct x86_vcpu *cpu, uint8_t *memory)
{
    put(memory, 0x1000, 0x2007);
    put(memory, 0x2000, 0x3007);
    for (unsigned i = 0; i < MEMORY_BYTES >> 21; i++) {
        put(memory, 0x3000 + i * 8, (uint64_t)i << 21 | 0x87);
    }
    for (unsigned i = 0; i < X86_SEGMENTS; i++) {
        cpu->segment[i] = (struct x86_segment){
            .limit = UINT32_MAX, .selector = 16, .type = 3, .present = 1, .db = 1, .s = 1, .g = 1};
    }
    cpu->segment[X86_CS].type = 11;
    cpu->segment[X86_CS].selector = 8;
    cpu->segment[X86_CS].l = 1;
    cpu->segment[X86_CS].db = 0;
    cpu->cr0 = 0x80010033;
    cpu->cr3 = 0x1000;
    cpu->cr4 = 0x620;
    cpu->msr.efer = 0xd00;
    cpu->rip = CODE;
    cpu->gpr[X86_RSP] = 0x8fff8;
    x86_state_changed(cpu);
}

/* A loop of eight instructions and its end, by how they are executed. */
struct kernel {
    const char *name;
    const char *code; /* of one of the eight */
    size_t code_bytes;
    uint32_t mxcsr;
};

#define KERNEL(name_, code_, mxcsr_)                                                               \
    {                                                                                              \
        .name = (name_), .code = (code_), .code_bytes = sizeof(code_) - 1, .mxcsr = (mxcsr_)       \
    }

static void run_kernel(struct x86_vcpu *cpu, uint8_t *memory, const struct kernel *kernel)
{
    uint64_t before = cpu->instructions;
    uint8_t *code = memory + CODE;
    enum x86_exit exit;
    double start, seconds;

    for (unsigned i = 0; i < 8; i++) {
        memcpy(code, kernel->code, kernel->code_bytes);
        code += kernel->code_bytes;
    }
    memcpy(code, "\xff\xc9\x0f\x85", 4); /* dec ecx; jnz */
    code += 8;
    put(code - 4, 0, (uint32_t)(memory + CODE - code));
    *code = 0xf4;
    set_up(cpu, memory);
    cpu->mp_state = X86_RUNNABLE;
    cpu->gpr[X86_RCX] = 500000;
    cpu->mxcsr = kernel->mxcsr;
    cpu->fpu = (struct x86_fpu){.fcw = 0x37f, .ftw = 3};
    cpu->xmm[0].f64[0] = cpu->xmm[1].f64[0] = 1;
    start = now_s();
    exit = x86_run(cpu, UINT64_MAX);
    seconds = now_s() - start;
    printf("{\"benchmark\": \"x86-%s\", \"exit\": %d, \"million_per_second\": %.1f}\n",
           kernel->name, exit, (double)(cpu->instructions - before) / seconds / 1e6);
}

static void run_kernels(struct x86_vcpu *cpu, uint8_t *memory)
{
    static const struct kernel kernels[] = {
        KERNEL("sse-integer", "\x66\x0f\xfe\xc1", 0x1f80),         /* paddd */
        KERNEL("sse-scalar", "\xf2\x0f\x59\xc1", 0x1f80),          /* mulsd */
        KERNEL("sse-packed", "\x0f\x58\xc1", 0x1f80),              /* addps */
        KERNEL("sse-scalar-unmasked", "\xf2\x0f\x59\xc1", 0x1780), /* underflow */
        KERNEL("sse-shuffle", "\x66\x0f\x38\x00\xc1", 0x1f80),     /* pshufb */
        KERNEL("x87", "\xd8\xc9", 0x1f80),                         /* fmul */
    };

    for (size_t i = 0; i < sizeof(kernels) / sizeof(kernels[0]); i++) {
        run_kernel(cpu, memory, &kernels[i]);
    }
}

int main(int argc, char **argv)
{
    uint64_t rounds = argc > 1 ? strtoull(argv[1], NULL, 0) : 40;
    uint8_t *memory =
        mmap(NULL, MEMORY_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    struct gm_soft_slot slot = {.size_bytes = MEMORY_BYTES, .hva = (uintptr_t)memory};
    struct gm_soft *soft;
    struct gm_soft_vcpu *vcpu;
    struct x86_vcpu *cpu;
    uint64_t result;
    enum x86_exit exit;
    double start, seconds;

    if (memory == MAP_FAILED || gm_soft_open(NULL, &soft, NULL) != 0 ||
        gm_soft_set_slots(soft, &slot, 1, NULL) != 0 || gm_soft_vcpu_new(soft, 0, &vcpu) != 0 ||
        x86_vcpu_new(gm_soft_vcpu_mmu(vcpu), NULL, &cpu) != 0 || load_code(memory) == 0) {
        return fprintf(stderr, "bench-x86: cannot set up\n"), 1;
    }
    put(memory, WORK + 8, rounds);
    set_up(cpu, memory);
    start = now_s();
    exit = x86_run(cpu, UINT64_MAX);
    seconds = now_s() - start;
    memcpy(&result, memory + WORK, 8);
    printf("{\"benchmark\": \"x86-integer\", \"exit\": %d, \"result\": \"%016lx\", "
           "\"instructions\": %lu, \"seconds\": %.3f, \"million_per_second\": %.1f}\n",
           exit, result, cpu->instructions, seconds, (double)cpu->instructions / seconds / 1e6);
    run_kernels(cpu, memory);
    x86_vcpu_free(cpu);
    gm_soft_vcpu_free(vcpu);
    return gm_soft_close(soft) != 0 || exit != X86_EXIT_HLT;
}
