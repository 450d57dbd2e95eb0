/* base/fork.c - marks that the kernel wipes in copies of a process, and the thread that takes down a copy. */
#include "base/fork.h"

#include "base/unmap.h"

#include <errno.h>
#include <stddef.h>
#include <sys/mman.h>
#include <unistd.h>

static _Thread_local unsigned alone_depth;

int fork_mark_init(struct fork_mark *mark)
{
    size_t page_bytes = (size_t)sysconf(_SC_PAGESIZE);
    void *page = mmap(NULL, page_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    if (page == MAP_FAILED) {
        return -ENOMEM;
    }
    if (madvise(page, page_bytes, MADV_WIPEONFORK) != 0) {
        int rc = errno == EINVAL ? -EOPNOTSUPP : -ENOMEM; /* EAGAIN: no more mappings */

        host_unmap(page, page_bytes);
        return rc;
    }
    mark->page = page;
    __atomic_store_n(mark->page, 1, __ATOMIC_RELAXED);
    return 0;
}

void fork_mark_fini(struct fork_mark *mark)
{
    host_unmap(mark->page, (size_t)sysconf(_SC_PAGESIZE));
}

void alone_begin(void)
{
    alone_depth++;
}

void alone_end(void)
{
    alone_depth--;
}

bool alone_now(void)
{
    return alone_depth != 0;
}
