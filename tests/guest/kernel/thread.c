/* guest/kernel/thread.c - threads: on their processor each runs until it waits or yields. */
#include "guest/kernel/kernel.h"

#define USER_CODE_SELECTOR 0x2b
#define USER_DATA_SELECTOR 0x23

static struct thread threads[THREADS];

/* The image begins with this. */
struct image {
    u64 entry;
    u64 text_end, data_end, bss_end;
};

struct thread *thread_new(struct space *space, u32 cpu)
{
    for (u32 i = 0; i < THREADS; i++) {
        struct thread *thread = &threads[i];

        if (thread->state == THREAD_FREE) {
            *thread = (struct thread){.state = THREAD_READY, .cpu = cpu, .space = space};
            *(u16 *)thread->fpu = 0x37f;         /* FCW */
            *(u32 *)(thread->fpu + 24) = 0x1f80; /* MXCSR */
            thread->frame.cs = USER_CODE_SELECTOR;
            thread->frame.ss = USER_DATA_SELECTOR;
            thread->frame.rflags = 2;
            return thread;
        }
    }
    panic("no thread is left of ", THREADS);
}

u64 thread_number(const struct thread *thread)
{
    return (u64)(thread - threads) + 1;
}

struct thread *thread_find(u64 number)
{
    bool is_one = number > 0 && number <= THREADS && threads[number - 1].state != THREAD_FREE;

    return is_one ? &threads[number - 1] : NULL;
}

void thread_first(void)
{
    const struct image *image = at(GUEST_IMAGE);
    struct space *space = space_new();
    struct thread *thread = thread_new(space, 0);
    const u64 file = GUEST_IMAGE - USER_IMAGE;
    const struct region regions[] = {
        {USER_IMAGE, image->text_end, MAP_READ | MAP_EXECUTE | MAP_FILE, GUEST_IMAGE},
        {image->text_end, image->data_end, MAP_READ | MAP_WRITE | MAP_FILE, file + image->text_end},
        {image->data_end, image->bss_end, MAP_READ | MAP_WRITE, 0},
        {USER_HEAP, USER_HEAP + USER_HEAP_BYTES, MAP_READ | MAP_WRITE, 0},
        {USER_CODE, USER_CODE + USER_CODE_BYTES, MAP_READ | MAP_WRITE | MAP_EXECUTE, 0},
        {USER_STACK_END - GUEST_PAGE, USER_STACK_END, MAP_READ | MAP_WRITE | MAP_STACK, 0},
    };

    for (u32 i = 0; i < sizeof(regions) / sizeof(regions[0]); i++) {
        if (regions[i].start != regions[i].end && !space_add(space, &regions[i])) {
            panic("the image cannot be mapped: region ", i);
        }
    }
    thread->frame.rip = image->entry;
    thread->frame.rsp = USER_STACK_END;
}

/* The next that can run here, after the present one; @present itself comes last. */
static struct thread *next_thread(const struct cpu *cpu)
{
    u32 first = cpu->current != NULL ? (u32)(cpu->current - threads) + 1 : 0;

    for (u32 i = 0; i < THREADS; i++) {
        struct thread *thread = &threads[(first + i) % THREADS];

        if (thread->state == THREAD_READY && thread->cpu == cpu->number && thread->waits_for == 0) {
            return thread;
        }
    }
    return NULL;
}

static bool has_threads(void)
{
    for (u32 i = 0; i < THREADS; i++) {
        if (threads[i].state == THREAD_READY) {
            return true;
        }
    }
    return false;
}

_Noreturn static void end(void)
{
    board->frames_lost = frames_lost();
    kernel_unlock();
    for (;;) {
        out32(GUEST_PORT_END, 0);
    }
}

static void idle(const struct cpu *cpu)
{
    if (!has_threads()) {
        end();
    }
    if (board->cpus == 1) {
        panic("all threads wait, on processor ", cpu->number);
    }
    kernel_unlock();
    for (u32 i = 0; i < 100; i++) {
        mailbox_poll();
        cpu_pause();
    }
    kernel_lock();
}

static void switch_fpu(struct thread *from, struct thread *to)
{
    if ((board->features & FEATURE_SSE) == 0 || from == to) {
        return;
    }
    if (from != NULL) {
        __asm__ volatile("fxsave64 %0" : "=m"(from->fpu));
    }
    __asm__ volatile("fxrstor64 %0" : : "m"(to->fpu));
}

struct frame *thread_schedule(void)
{
    struct cpu *cpu = this_cpu();
    struct thread *thread;

    while ((thread = next_thread(cpu)) == NULL) {
        space_load(NULL);
        idle(cpu);
    }
    switch_fpu(cpu->current, thread);
    space_load(thread->space);
    cpu->current = thread;
    cpu->frame_end = cpu->tss.rsp[0] = (u64)(&thread->frame + 1);
    kernel_unlock();
    return &thread->frame;
}

void thread_exit(u64 value)
{
    struct thread *thread = this_cpu()->current;

    thread->exit_value = value;
    thread->state = THREAD_ENDED;
    space_put(thread->space);
    for (u32 i = 0; i < THREADS; i++) {
        if (threads[i].waits_for == thread_number(thread)) {
            threads[i].waits_for = 0;
        }
    }
}
