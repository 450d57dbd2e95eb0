/*
 * speed/x86.c - how fast the software vCPU runs compiled integer code in 64-bit mode with paging on.
 *
 *     build/tests/bench-x86 [ROUNDS]
 *
 * prints JSON, with the same code's time on the host's own processor beside it.
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

    clock_gettime(CLOCK_MONOTONIC, &time);
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
    x86_vcpu_free(cpu);
    gm_soft_vcpu_free(vcpu);
    return gm_soft_close(soft) != 0 || exit != X86_EXIT_HLT;
}
