/*
 * guest/kernel/flush.c - forgetting translations, here and on the other processor, which looks into its mailbox whenever
 * it is in the kernel.
 */
#include "guest/kernel/kernel.h"

#define ALL UINT64_MAX

static void flush_here(u64 address)
{
    if (address == ALL) {
        write_cr3(read_cr3()); /* without CR3_KEEP */
    } else {
        invlpg(address);
    }
}

void mailbox_poll(void)
{
    struct mailbox *mailbox = &this_cpu()->mailbox;
    u64 asked = __atomic_load_n(&mailbox->asked, __ATOMIC_ACQUIRE);

    if (asked != mailbox->done) {
        flush_here(mailbox->address);
        __atomic_store_n(&mailbox->done, asked, __ATOMIC_RELEASE);
    }
}

static void ask(struct mailbox *mailbox, u64 address)
{
    COUNT(SHOOTDOWN);
    mailbox->address = address;
    __atomic_store_n(&mailbox->asked, mailbox->asked + 1, __ATOMIC_RELEASE);
    while (__atomic_load_n(&mailbox->done, __ATOMIC_ACQUIRE) != mailbox->asked) {
        cpu_pause();
    }
}

void space_flush(struct space *space, u64 address)
{
    struct cpu *here = this_cpu();

    for (u32 i = 0; i < board->cpus; i++) {
        if (cpus[i].space != space) {
            space->is_stale[i] = true;
        } else if (&cpus[i] == here) {
            flush_here(address);
        } else {
            ask(&cpus[i].mailbox, address);
        }
    }
}
