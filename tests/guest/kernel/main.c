/* guest/kernel/main.c - each processor's way from the host's page tables to the first process. */
#include "guest/kernel/kernel.h"

struct cpu cpus[GUEST_CPUS];
struct guest_board *board = (struct guest_board *)GUEST_BOARD;

static u64 frames_before; /* the first process was made */
static u32 is_ready;      /* the other processor may come */

_Noreturn void kernel_main(u64 number);
_Noreturn void resume_frame(struct frame *frame);
extern u8 kernel_stacks[];

static size_t length_of(const char *text)
{
    size_t length = 0;

    while (text[length] != '\0') {
        length++;
    }
    return length;
}

_Noreturn void panic(const char *text, u64 number)
{
    char digits[17];

    for (int i = 15; i >= 0; i--, number >>= 4) {
        digits[i] = "0123456789abcdef"[number & 15];
    }
    digits[16] = '\n';
    out_text(GUEST_PORT_TEXT, text, length_of(text));
    out_text(GUEST_PORT_TEXT, digits, sizeof(digits));
    for (;;) {
        out32(GUEST_PORT_END, 1);
    }
}

static void set_features(void)
{
    u64 features = board->features;
    u64 cr4 = read_cr4() | CR4_PGE;

    cr4 |= (features & FEATURE_SSE) != 0 ? CR4_OSFXSR | CR4_OSXMMEXCPT : 0;
    cr4 |= (features & FEATURE_PCID) != 0 ? CR4_PCIDE : 0;
    cr4 |= (features & FEATURE_SMEP) != 0 ? CR4_SMEP : 0;
    cr4 |= (features & FEATURE_SMAP) != 0 ? CR4_SMAP : 0;
    write_cr4(cr4);
}

/* The host's tables map all of this as well. */
static void first_init(void)
{
    memory_init();
    kernel_tables_init();
    write_cr3(kernel_root);
    memory_go_direct();
    board = at(GUEST_BOARD);
}

static void first_start(void)
{
    kernel_tables_check();
    trap_checks();
    frames_before = frames_free();
    thread_first();
    __atomic_store_n(&is_ready, 1, __ATOMIC_RELEASE);
}

u64 frames_lost(void)
{
    return frames_before - frames_free();
}

void kernel_main(u64 number)
{
    struct cpu *cpu = &cpus[number];

    cpu->number = (u32)number;
    cpu->kernel_stack = (u64)kernel_stacks + (number + 1) * 0x4000;
    while (number != 0 && __atomic_load_n(&is_ready, __ATOMIC_ACQUIRE) == 0) {
        cpu_pause();
    }
    write_msr(MSR_EFER, read_msr(MSR_EFER) | 0x801); /* NXE, SCE */
    if (number == 0) {
        first_init();
    } else {
        write_cr3(kernel_root);
    }
    set_features();
    trap_init(cpu);
    kernel_lock();
    if (number == 0) {
        first_start();
    }
    resume_frame(thread_schedule());
}
