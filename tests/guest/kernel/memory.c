/* guest/kernel/memory.c - frames of memory, and how many map each. */
#include "guest/kernel/kernel.h"

#define FRAME_COUNT (GUEST_RAM_BYTES / GUEST_PAGE)

static u64 offset; /* of the mapping by which the kernel reaches all of RAM */
static u16 users[FRAME_COUNT];
static u16 free_frames[FRAME_COUNT];
static u32 free_count;
static u64 next_block = GUEST_BLOCKS;
static u64 zeros;

void memory_go_direct(void)
{
    offset = DIRECT;
}

void *at(u64 frame)
{
    return (void *)(offset + frame);
}

static void fill(u64 frame, u64 bytes, u64 value)
{
    u64 *words = at(frame);

    bytes /= sizeof(*words);
    __asm__ volatile("rep stosq" : "+D"(words), "+c"(bytes) : "a"(value) : "memory");
}

u64 frame_new(void)
{
    u64 frame;

    if (free_count == 0) {
        panic("no frame is left of ", FRAME_COUNT);
    }
    frame = free_frames[--free_count] * GUEST_PAGE;
    users[frame / GUEST_PAGE] = 1;
    fill(frame, GUEST_PAGE, 0);
    return frame;
}

void memory_init(void)
{
    for (u64 frame = GUEST_BLOCKS; frame > GUEST_FRAMES; frame -= GUEST_PAGE) {
        free_frames[free_count++] = (u16)(frame / GUEST_PAGE - 1);
    }
    zeros = frame_new();
}

u64 frame_zero(void)
{
    frame_get(zeros);
    return zeros;
}

/* Blocks come back as frames: there are enough for one run. */
u64 block_new(void)
{
    u64 block = next_block;

    if (block == GUEST_RAM_BYTES) {
        panic("no block is left of ", (GUEST_RAM_BYTES - GUEST_BLOCKS) / GUEST_BLOCK);
    }
    next_block += GUEST_BLOCK;
    for (u64 i = 0; i < GUEST_BLOCK / GUEST_PAGE; i++) {
        users[block / GUEST_PAGE + i] = 1;
    }
    fill(block, GUEST_BLOCK, 0);
    return block;
}

static bool is_managed(u64 frame)
{
    return frame >= GUEST_FRAMES;
}

void frame_get(u64 frame)
{
    if (is_managed(frame)) {
        users[frame / GUEST_PAGE]++;
    }
}

/* What is freed is spoilt, so that whoever still has it in a TLB sees it. */
void frame_put(u64 frame)
{
    if (!is_managed(frame)) {
        return;
    }
    if (users[frame / GUEST_PAGE] == 0) {
        panic("freed twice: ", frame);
    }
    if (--users[frame / GUEST_PAGE] == 0) {
        fill(frame, GUEST_PAGE, 0xdeaddeaddeaddead);
        free_frames[free_count++] = (u16)(frame / GUEST_PAGE);
    }
}

bool frame_is_shared(u64 frame)
{
    return !is_managed(frame) || users[frame / GUEST_PAGE] > 1;
}

/* A block that was never taken counts as what it will be. */
u64 frames_free(void)
{
    return free_count + (GUEST_RAM_BYTES - next_block) / GUEST_PAGE;
}
