/* guest/kernel/lock.c - the kernel's one lock, by tickets. Who waits for it does what the holder asks of it. */
#include "guest/kernel/kernel.h"

static u32 next_ticket, now_serving;

void kernel_lock(void)
{
    u32 ticket = 1;

    __asm__ volatile("lock xaddl %0, %1" : "+r"(ticket), "+m"(next_ticket) : : "memory", "cc");
    while (__atomic_load_n(&now_serving, __ATOMIC_ACQUIRE) != ticket) {
        mailbox_poll();
        cpu_pause();
    }
    mailbox_poll();
}

void kernel_unlock(void)
{
    __atomic_store_n(&now_serving, now_serving + 1, __ATOMIC_RELEASE);
}
