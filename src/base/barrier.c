/* base/barrier.c - asking the kernel for a barrier in all threads. */
#include "base/barrier.h"

#include <errno.h>
#include <linux/membarrier.h>
#include <sys/syscall.h>
#include <unistd.h>

static int membarrier(int command)
{
    return (int)syscall(SYS_membarrier, command, 0, 0);
}

static bool register_process(void)
{
    return membarrier(MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED) == 0;
}

void barrier_init(struct barrier *barrier)
{
    barrier->light_fences =
        !register_process() || membarrier(MEMBARRIER_CMD_PRIVATE_EXPEDITED) != 0;
}

int barrier_heavy(const struct barrier *barrier)
{
    if (barrier->light_fences) {
        atomic_thread_fence(memory_order_seq_cst); /* pairs with barrier_light()'s */
        return 0;
    }
    if (membarrier(MEMBARRIER_CMD_PRIVATE_EXPEDITED) == 0) {
        return 0;
    }
    /* A process that was forked since may have to register for itself. */
    if (errno == EPERM && register_process() && membarrier(MEMBARRIER_CMD_PRIVATE_EXPEDITED) == 0) {
        return 0;
    }
    return -ENOMEM;
}
