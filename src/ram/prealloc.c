/*
 * ram/prealloc.c - making pages present by several threads. Each takes the next chunk until none is
 * left, or one failed. All that they share is atomic; what the pages hold is the kernel's to order.
 */
#include "ram/prealloc.h"

#include "base/addr.h"
#include "base/diag.h"
#include "base/options.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23
#endif

#define THREADS_MAX 256u
#define THREADS_BY_DEFAULT_MAX 16u
#define CHUNK_BYTES ((uint64_t)16 << 20)

struct work {
    struct gm_ram *ram;
    uint64_t begin;
    uint64_t end;
    uint64_t chunk_bytes;
    bool can_populate;
    /* Relaxed, all of them: whoever joins the threads sees what they came to. */
    atomic_uint_fast64_t next;
    atomic_uint_fast64_t done_bytes;
    atomic_int error; /* the first that came */
};

/* ---- one chunk ---- */

/* Is private memory without a file: to touch it fails by no signal. */
static bool is_safe_to_touch(const struct gm_ram *ram)
{
    return ram->kind == GM_RAM_ANON;
}

int prealloc_by_touch(const struct gm_ram *ram, uint64_t offset_bytes, uint64_t size_bytes)
{
    if (ram->freeing == RAM_FREE_PUNCH) {
        return fallocate(ram->fd, 0, (off_t)(ram->file_offset + offset_bytes), (off_t)size_bytes) ==
                       0
                   ? 0
                   : -ENOMEM;
    }
    if (!is_safe_to_touch(ram)) {
        return -EOPNOTSUPP;
    }
    for (uint64_t i = 0; i < size_bytes; i += ram->page_bytes) {
        uint8_t *byte = ram->hva + offset_bytes + i;
        uint8_t held = __atomic_load_n(byte, __ATOMIC_RELAXED);

        /* Stores what is there, or nothing if somebody else was faster: no write is lost. */
        (void)__atomic_compare_exchange_n(byte, &held, held, false, __ATOMIC_RELAXED,
                                          __ATOMIC_RELAXED);
    }
    return 0;
}

/*
 * EFAULT stands for what would have been SIGBUS: no huge page is left, or no shared memory; or
 * no file there.
 */
static int populate_error(const struct gm_ram *ram, int code)
{
    bool is_foreign = ram->kind == GM_RAM_FILE || ram->kind == GM_RAM_CALLER;

    switch (code) {
    case EFAULT:
        return is_foreign ? -EFAULT : -ENOMEM;
    case ENOMEM:
        return ram->kind == GM_RAM_CALLER ? -EFAULT : -ENOMEM;
    case EHWPOISON:
        return -EHWPOISON;
    default:
        return -EFAULT;
    }
}

static int populate(const struct gm_ram *ram, uint64_t offset_bytes, uint64_t size_bytes)
{
    int rc;

    do {
        rc = madvise(ram->hva + offset_bytes, size_bytes, MADV_POPULATE_WRITE);
    } while (rc != 0 && (errno == EINTR || errno == EAGAIN));
    return rc == 0 ? 0 : populate_error(ram, errno);
}

/* Do the next chunk. False: none is left, or somebody failed. */
static bool work_step(struct work *work)
{
    uint64_t at = atomic_fetch_add_explicit(&work->next, work->chunk_bytes, memory_order_relaxed);
    int none = 0;
    uint64_t bytes;
    int rc;

    if (at >= work->end || atomic_load_explicit(&work->error, memory_order_relaxed) != 0) {
        return false;
    }
    bytes = bytes_until(at, work->end - 1, work->chunk_bytes);
    rc = work->can_populate ? populate(work->ram, at, bytes)
                            : prealloc_by_touch(work->ram, at, bytes);
    if (rc != 0) {
        atomic_compare_exchange_strong_explicit(&work->error, &none, rc, memory_order_relaxed,
                                                memory_order_relaxed);
        return false;
    }
    atomic_fetch_add_explicit(&work->done_bytes, bytes, memory_order_relaxed);
    return true;
}

/* ---- threads ---- */

static void *work_main(void *opaque)
{
    while (work_step(opaque)) {
    }
    return NULL;
}

static bool report(struct work *work, const struct gm_ram_prealloc_options *options)
{
    return options->progress == NULL ||
           options->progress(options->opaque,
                             atomic_load_explicit(&work->done_bytes, memory_order_relaxed),
                             work->end - work->begin);
}

static void work_and_report(struct work *work, const struct gm_ram_prealloc_options *options)
{
    int none = 0;

    while (work_step(work)) {
        if (atomic_load_explicit(&work->done_bytes, memory_order_relaxed) <
                work->end - work->begin &&
            !report(work, options)) {
            atomic_compare_exchange_strong_explicit(&work->error, &none, -ECANCELED,
                                                    memory_order_relaxed, memory_order_relaxed);
            return;
        }
    }
}

/*
 * With fewer threads than wanted it takes longer, which is no failure. Signals are for the
 * caller's threads.
 */
static unsigned start(struct work *work, pthread_t *threads, unsigned count)
{
    unsigned started = 0;
    sigset_t all;
    sigset_t before;

    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    while (started < count && pthread_create(&threads[started], NULL, work_main, work) == 0) {
        started++;
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return started;
}

static unsigned thread_count(const struct work *work, unsigned wanted)
{
    uint64_t chunks = (work->end - work->begin + work->chunk_bytes - 1) / work->chunk_bytes;
    long online = sysconf(_SC_NPROCESSORS_ONLN);

    if (wanted == 0) {
        wanted = online > 0 ? (unsigned)online : 1;
        wanted = wanted < THREADS_BY_DEFAULT_MAX ? wanted : THREADS_BY_DEFAULT_MAX;
    }
    return wanted < chunks ? wanted : (unsigned)chunks;
}

static int work_all(struct work *work, const struct gm_ram_prealloc_options *options)
{
    pthread_t threads[THREADS_MAX];
    unsigned started = start(work, threads, thread_count(work, options->thread_count) - 1);
    int rc;

    work_and_report(work, options);
    for (unsigned i = 0; i < started; i++) {
        pthread_join(threads[i], NULL);
    }
    rc = atomic_load_explicit(&work->error, memory_order_relaxed);
    if (rc == 0) {
        (void)report(work, options); /* all of it: too late to be stopped */
    }
    return rc;
}

/* ---- the call ---- */

static const struct options_kind OPTIONS = OPTIONS_KIND(gm_ram_prealloc_options, opaque);

/* No shrinking until the end. */
static int enter(struct gm_ram *ram, struct work *work,
                 const struct gm_ram_prealloc_options *options, struct gm_diag *diag)
{
    uint64_t at = options->offset_bytes;
    uint64_t size_bytes = options->size_bytes;
    int rc = 0;

    lock_take(&ram->size_lock);
    if (size_bytes == 0 && at < ram_size(ram)) {
        size_bytes = ram_size(ram) - at;
    }
    if (size_bytes == 0 || !range_holds(0, ram_size(ram), at, size_bytes)) {
        rc = diag_set(diag, GM_DIAG_RAM_RANGE, -EINVAL,
                      "0x%" PRIx64 "+0x%" PRIx64 " is no range of the RAM block", at, size_bytes);
    } else if (ram->is_resizing) {
        rc = diag_set(diag, GM_DIAG_RAM_BUSY, -EBUSY, "the RAM block is being resized");
    } else {
        ram->prealloc_count++;
        work->begin = align_down(at, ram->page_bytes);
        work->end = align_down(at + size_bytes + (ram->page_bytes - 1), ram->page_bytes);
    }
    lock_drop(&ram->size_lock);
    return rc;
}

static void leave(struct gm_ram *ram)
{
    lock_take(&ram->size_lock);
    ram->prealloc_count--;
    lock_drop(&ram->size_lock);
}

static int explain(int rc, struct gm_diag *diag)
{
    switch (rc) {
    case -ECANCELED:
        return diag_set(diag, GM_DIAG_RAM_PREALLOC, rc, "preallocation was stopped");
    case -ENOMEM:
        return diag_set(diag, GM_DIAG_RAM_PREALLOC, rc,
                        "the host has no memory, or no huge pages, for all of the range");
    case -EOPNOTSUPP:
        return diag_set(diag, GM_DIAG_RAM_PREALLOC, rc,
                        "this kernel lacks MADV_POPULATE_WRITE (5.14) for this RAM block");
    default:
        return diag_set(diag, GM_DIAG_RAM_PREALLOC, rc,
                        "pages of the range cannot be made present: %s", strerror(-rc));
    }
}

int gm_ram_prealloc(struct gm_ram *ram, const struct gm_ram_prealloc_options *theirs,
                    struct gm_diag *diag)
{
    struct gm_ram_prealloc_options options;
    struct work work = {.ram = ram};
    int rc = options_take(&OPTIONS, &options, theirs, diag);

    if (rc != 0) {
        return rc;
    }
    if (options.thread_count > THREADS_MAX) {
        return diag_set(diag, GM_DIAG_RAM_PREALLOC, -EINVAL, "more than %u threads are asked for",
                        THREADS_MAX);
    }
    rc = enter(ram, &work, &options, diag);
    if (rc != 0) {
        return rc;
    }
    if (ram->freeing != RAM_FREE_NOTHING) {
        work.chunk_bytes = ram->page_bytes > CHUNK_BYTES ? ram->page_bytes : CHUNK_BYTES;
        work.can_populate = madvise(NULL, 0, MADV_POPULATE_WRITE) == 0;
        atomic_init(&work.next, work.begin);
        rc = work_all(&work, &options);
    }
    leave(ram);
    return rc == 0 ? 0 : explain(rc, diag);
}
