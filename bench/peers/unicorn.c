/*
 * bench/peers/unicorn.c - what bench/fault.c and bench/interpreter.py measure, with Unicorn (a JIT made of QEMU's).
 *
 *     code/ROUNDS    nanoseconds for ROUNDS rounds of tests/speed/guest.c, translated before
 *     fill           a load that fills the TLB, less one that hits it
 */
#include "../measure.h"

#include <unicorn/unicorn.h>

#define PAGE 4096ull
#define MEMORY_BYTES (8ull << 20)
#define CODE 0x10000u
#define WORK 0x200000u
#define FILL_START 0x10000000ull
#define FILL_PAGES 4096ull
#define FILL_BYTES ((FILL_PAGES + 65) * PAGE)
#define TURNS 5

static uc_engine *open_engine(void)
{
    uc_engine *engine;

    need(uc_open(UC_ARCH_X86, UC_MODE_64, &engine) == UC_ERR_OK, "Unicorn");
    need(uc_mem_map(engine, 0, MEMORY_BYTES, UC_PROT_ALL) == UC_ERR_OK, "memory");
    return engine;
}

/* ---- compiled code ---- */

static double time_guest(uint64_t rounds, uint64_t unused)
{
    static uint8_t code[0x10000];
    static uc_engine *engine;
    static size_t code_bytes;
    uint64_t stack = 0x8fff8;
    double before;

    (void)unused;
    if (engine == NULL) {
        FILE *file = fopen(X86_GUEST, "rb");

        code_bytes = file != NULL ? fread(code, 1, sizeof(code), file) : 0;
        need(code_bytes != 0, X86_GUEST);
        fclose(file);
        engine = open_engine();
        need(uc_mem_write(engine, CODE, code, code_bytes) == UC_ERR_OK, "code");
    }
    for (uint64_t turn_rounds = 1;; turn_rounds = rounds) {
        need(uc_mem_write(engine, WORK + 8, &turn_rounds, 8) == UC_ERR_OK, "rounds");
        need(uc_reg_write(engine, UC_X86_REG_RSP, &stack) == UC_ERR_OK, "stack");
        before = now_ns();
        need(uc_emu_start(engine, CODE, UINT64_MAX, 0, 0) == UC_ERR_OK, "run");
        if (turn_rounds == rounds) {
            return now_ns() - before;
        }
    }
}

/* ---- the TLB ---- */

/* mov rax, [rbx]; add rbx, rdx; dec rcx; jnz: a load from each page, or (rdx 0) from one. */
static const char loads[] = "\x48\x8b\x03\x48\x01\xd3\x48\xff\xc9\x75\xf5";

static double time_loads(uc_engine *engine, uint64_t stride)
{
    uint64_t start = FILL_START;
    uint64_t count = FILL_PAGES;
    double before;

    /* A change of the map: its TLB is empty. */
    need(uc_mem_protect(engine, 0x700000, PAGE, UC_PROT_READ) == UC_ERR_OK, "protect");
    need(uc_mem_protect(engine, 0x700000, PAGE, UC_PROT_ALL) == UC_ERR_OK, "protect");
    need(uc_reg_write(engine, UC_X86_REG_RBX, &start) == UC_ERR_OK, "rbx");
    need(uc_reg_write(engine, UC_X86_REG_RCX, &count) == UC_ERR_OK, "rcx");
    need(uc_reg_write(engine, UC_X86_REG_RDX, &stride) == UC_ERR_OK, "rdx");
    before = now_ns();
    need(uc_emu_start(engine, CODE, CODE + sizeof(loads) - 1, 0, 0) == UC_ERR_OK, "run");
    return (now_ns() - before) / FILL_PAGES;
}

static double time_fill(uint64_t a, uint64_t b)
{
    static uc_engine *engine;
    double samples[TURNS];

    (void)a;
    (void)b;
    if (engine == NULL) {
        void *memory = host_memory(FILL_BYTES);

        engine = open_engine();
        need(uc_mem_write(engine, CODE, loads, sizeof(loads) - 1) == UC_ERR_OK, "code");
        need(uc_mem_map_ptr(engine, FILL_START, FILL_BYTES, UC_PROT_ALL, memory) == UC_ERR_OK,
             "memory");
        (void)time_loads(engine, PAGE + 64);
    }
    for (int i = 0; i < TURNS; i++) {
        /* A line on in each page, so that the walk is seen, and not the caches. */
        samples[i] = time_loads(engine, PAGE + 64) - time_loads(engine, 0);
    }
    return median(samples, TURNS);
}

int main(int argc, char **argv)
{
    add_case("code/%u", time_guest, 2, 0);
    add_case("fill", time_fill, 0, 0);
    return serve_cases(argc, argv);
}
