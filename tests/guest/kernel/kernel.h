/*
 * guest/kernel/kernel.h - a small kernel: address spaces with demand paging and copy-on-write, processes and threads on
 * two processors, without timers and interrupts. One lock is held in all of it. A thread stays on its processor, which
 * runs it until it waits or yields.
 */
#ifndef GUEST_KERNEL_KERNEL_H
#define GUEST_KERNEL_KERNEL_H

#include "guest/kernel/cpu.h"

/* All of RAM, by address, once the kernel's own tables are loaded. */
#define DIRECT 0xffff800000000000ul
#define USER_END 0x800000000000ul

#define SPACE_REGIONS 12u
#define SPACES 12u
#define THREADS 16u

struct region {
    u64 start, end;
    u32 flags; /* MAP_* */
    u64 file;  /* physical address of the file's byte for @start */
};

struct space {
    u64 root;
    u64 pcid;
    u32 threads; /* 0: the entry is free */
    struct region regions[SPACE_REGIONS];
    bool is_stale[GUEST_CPUS]; /* that processor has to forget its translations when it loads it */
};

enum thread_state {
    THREAD_FREE,
    THREAD_READY,
    THREAD_ENDED, /* until somebody has waited for it */
};

struct thread {
    struct frame frame; /* RSP0 is its end, which is aligned to 16 */
    u8 fpu[512] __attribute__((aligned(16)));
    enum thread_state state;
    u32 cpu;
    u32 waits_for; /* thread number + 1; 0: runs */
    struct space *space;
    u64 handler;
    u64 exit_value;
} __attribute__((aligned(16)));

/* What one processor asks the other to forget: while the lock is held, so there is one at a time. */
struct mailbox {
    volatile u64 asked, done;
    volatile u64 address;
};

struct cpu {
    struct cpu *self; /* GS:0 */
    u64 user_rsp;     /* GS:8 */
    u64 frame_end;    /* GS:16 */
    u64 kernel_stack; /* GS:24 */
    u32 number;
    struct thread *current;
    struct space *space; /* that is loaded; NULL: only the kernel's half */
    struct mailbox mailbox;
    struct tss tss;
    u64 gdt[8];
};

extern struct cpu cpus[GUEST_CPUS];
extern struct guest_board *board;
#define COUNT(what) (board->counters[COUNTER_##what]++)

static inline struct cpu *this_cpu(void)
{
    struct cpu *cpu;

    __asm__ volatile("mov %%gs:0, %0" : "=r"(cpu));
    return cpu;
}

/* main.c */
_Noreturn void panic(const char *text, u64 number);
u64 frames_lost(void); /* since before the first process */

/* memory.c: frames have counts of who maps them. Addresses are physical. */
void memory_init(void);
void memory_go_direct(void); /* from here on at() is in the direct mapping */
void *at(u64 frame);
u64 frame_new(void);  /* of zeros */
u64 frame_zero(void); /* the one that all share; once more */
u64 block_new(void);  /* GUEST_BLOCK bytes of zeros */
void frame_get(u64 frame);
void frame_put(u64 frame);
bool frame_is_shared(u64 frame); /* by more than one, or the image's */
u64 frames_free(void);

/* tables.c */
/* The entry of a level (1: 4 KiB) for an address, or NULL: there is no table, and it is not to be made; or a larger
 * page is there. */
u64 *table_entry(u64 root, u64 address, unsigned level, bool make);
void kernel_tables_init(void);
void kernel_tables_load(void);
extern u64 kernel_root;
void kernel_tables_check(void); /* fails in a panic */

/* space.c */
struct space *space_new(void);
struct space *space_fork(struct space *parent);
void space_put(struct space *space); /* a thread has ended */
void space_load(struct space *space);
bool space_add(struct space *space, const struct region *region);
bool space_remove(struct space *space, u64 start, u64 end);
bool space_protect(struct space *space, u64 start, u64 end, u32 flags);
bool space_replace(struct space *space, u64 page, u64 value);
/* Page fault: true, the access can be made now. */
bool space_fault(struct space *space, u64 address, u64 error);

/* flush.c */
void space_flush(struct space *space, u64 address); /* address UINT64_MAX: all */
void mailbox_poll(void);

/* lock.c */
void kernel_lock(void);
void kernel_unlock(void);

/* thread.c */
struct thread *thread_new(struct space *space, u32 cpu);
struct thread *thread_find(u64 number); /* NULL: there is none */
u64 thread_number(const struct thread *thread);
struct frame *thread_schedule(void); /* the frame to go on with; drops the lock */
void thread_exit(u64 value);
void thread_first(void); /* the first process */
/* Store in the present process's memory, at its address. Return: could it be? */
bool user_store(u64 address, u64 value);

/* trap.c */
void trap_init(struct cpu *cpu);
struct frame *trap_from_user(struct frame *frame);
void trap_from_kernel(struct frame *frame);
void trap_checks(void); /* of the kernel's own rights; fails in a panic */

/* syscall.c */
struct frame *syscall_from_user(struct frame *frame);

#endif
