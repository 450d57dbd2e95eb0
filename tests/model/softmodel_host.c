/* model/softmodel_host.c - host memory for tests of the software KVM: see softmodel_host.h. */
#include "model/softmodel_host.h"
#include "model/require.h"

#include <string.h>
#include <sys/mman.h>

#define PAGE_WORDS (HOST_4K / 8)
#define ROOM_BYTES (2 * HOST_1G)

static const int protections[] = {
    [HOST_NOTHING] = PROT_NONE, [HOST_READ] = PROT_READ, [HOST_WRITE] = PROT_READ | PROT_WRITE};

/* Which pages of each 2 MiB are used: its ends and two within. */
static const unsigned hot_pages[HOST_HOT_PAGES] = {0, 1, 300, 511};

static uint64_t map_memory(uint64_t at, uint64_t size_bytes, int protection, int flags)
{
    void *memory = mmap((void *)(uintptr_t)at, size_bytes, protection,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | flags, -1, 0);

    REQUIRE(memory != MAP_FAILED, "mmap of %llu bytes", (unsigned long long)size_bytes);
    return (uint64_t)(uintptr_t)memory;
}

/* @size_bytes without memory, at a multiple of 1 GiB. */
static uint64_t reserve(uint64_t size_bytes)
{
    uint64_t room = map_memory(0, size_bytes + HOST_1G, PROT_NONE, 0);
    uint64_t start = (room + HOST_1G - 1) & ~(HOST_1G - 1);
    uint64_t end = start + size_bytes;

    if (start != room) {
        munmap((void *)(uintptr_t)room, start - room);
    }
    if (end != room + size_bytes + HOST_1G) {
        munmap((void *)(uintptr_t)end, room + size_bytes + HOST_1G - end);
    }
    return start;
}

static void init_area(struct softhost *host, enum softhost_kind kind, uint64_t start,
                      uint64_t size_bytes)
{
    static const uint64_t granules[] = {HOST_4K, HOST_2M, HOST_1G};
    struct softhost_area *area = &host->areas[kind];

    area->start = map_memory(start, size_bytes, PROT_READ | PROT_WRITE, MAP_FIXED);
    area->size_bytes = size_bytes;
    area->granule_bytes = granules[kind];
    area->claimed_bytes = granules[kind];
    area->held = calloc(size_bytes / area->granule_bytes, sizeof(*area->held));
    REQUIRE(area->held != NULL, "no memory");
    /* Populating 1 GiB is fast with huge pages; the areas of smaller ones are to stay sparse. */
    madvise((void *)(uintptr_t)start, size_bytes,
            kind == HOST_AREA_1G ? MADV_HUGEPAGE : MADV_NOHUGEPAGE);
    for (uint64_t i = 0; i < size_bytes / area->granule_bytes; i++) {
        area->held[i] = HOST_WRITE;
    }
    softhost_stamp(host, (struct softhost_stretch){kind, 0, size_bytes / area->granule_bytes});
}

void softhost_init(struct softhost *host)
{
    uint64_t start;

    memset(host, 0, sizeof(*host));
    start = reserve(ROOM_BYTES);
    init_area(host, HOST_AREA_1G, start, HOST_AREA_1G_BYTES);
    init_area(host, HOST_AREA_2M, start + HOST_AREA_1G_BYTES, HOST_AREA_2M_BYTES);
    host->nowhere = start + HOST_AREA_1G_BYTES + HOST_1G / 2;
    host->spare = host->nowhere + HOST_NOWHERE_BYTES;
    init_area(host, HOST_AREA_4K, host->spare + HOST_2M, HOST_AREA_4K_BYTES);
}

void softhost_fini(struct softhost *host)
{
    munmap((void *)(uintptr_t)host->areas[HOST_AREA_1G].start, ROOM_BYTES);
    for (unsigned i = 0; i < HOST_AREAS; i++) {
        free(host->areas[i].held);
    }
}

void softhost_restore(struct softhost *host)
{
    for (unsigned kind = 0; kind < HOST_AREAS; kind++) {
        struct softhost_area *area = &host->areas[kind];

        area->claimed_bytes = area->granule_bytes;
        for (uint64_t i = 0; i < area->size_bytes / area->granule_bytes; i++) {
            if (area->held[i] != HOST_WRITE) {
                softhost_protect(host, (struct softhost_stretch){kind, i, 1}, HOST_WRITE);
            }
        }
    }
}

static const struct softhost_area *area_of(const struct softhost *host, uint64_t hva)
{
    for (unsigned kind = 0; kind < HOST_AREAS; kind++) {
        const struct softhost_area *area = &host->areas[kind];

        if (hva >= area->start && hva - area->start < area->size_bytes) {
            return area;
        }
    }
    return NULL;
}

enum softhost_protection softhost_protection(const struct softhost *host, uint64_t hva)
{
    const struct softhost_area *area = area_of(host, hva);

    if (host->memfd != 0 && hva - host->memfd < HOST_MEMFD_BYTES) {
        return HOST_WRITE;
    }
    return area == NULL ? HOST_NOTHING : area->held[(hva - area->start) / area->granule_bytes];
}

uint64_t softhost_page_bytes(void *opaque, gm_hva_t hva, uint64_t size_bytes)
{
    const struct softhost *host = opaque;
    const struct softhost_area *first = area_of(host, hva);
    const struct softhost_area *last = area_of(host, hva + size_bytes - 1);

    if (first == NULL || last == NULL) {
        return HOST_4K;
    }
    return first->claimed_bytes < last->claimed_bytes ? first->claimed_bytes : last->claimed_bytes;
}

uint64_t softhost_hot_page(const struct softhost *host, uint64_t hva, unsigned n)
{
    const struct softhost_area *area = area_of(host, hva);

    if (area == NULL || area->granule_bytes == HOST_4K) {
        return hva & ~(HOST_4K - 1);
    }
    return (hva & ~(HOST_2M - 1)) + hot_pages[n % HOST_HOT_PAGES] * HOST_4K;
}

/* ---- stretches ---- */

uint64_t softhost_stretch_start(const struct softhost *host, struct softhost_stretch stretch)
{
    const struct softhost_area *area = &host->areas[stretch.kind];

    return area->start + stretch.first * area->granule_bytes;
}

uint64_t softhost_stretch_bytes(const struct softhost *host, struct softhost_stretch stretch)
{
    return stretch.count * host->areas[stretch.kind].granule_bytes;
}

struct softhost_stretch softhost_random_stretch(const struct softhost *host, struct rnd *rnd)
{
    struct softhost_stretch stretch = {.kind = rnd_one_in(rnd, 12)  ? HOST_AREA_1G
                                               : rnd_one_in(rnd, 3) ? HOST_AREA_2M
                                                                    : HOST_AREA_4K};
    const struct softhost_area *area = &host->areas[stretch.kind];
    uint64_t granules = area->size_bytes / area->granule_bytes;
    uint64_t left;

    stretch.first = rnd_below(rnd, granules);
    left = granules - stretch.first;
    stretch.count = 1 + rnd_below(rnd, left < 24 ? left : 24);
    return stretch;
}

void softhost_protect(struct softhost *host, struct softhost_stretch stretch,
                      enum softhost_protection to)
{
    struct softhost_area *area = &host->areas[stretch.kind];
    void *start = (void *)(uintptr_t)softhost_stretch_start(host, stretch);

    REQUIRE(mprotect(start, softhost_stretch_bytes(host, stretch), protections[to]) == 0,
            "mprotect");
    for (uint64_t i = 0; i < stretch.count; i++) {
        area->held[stretch.first + i] = to;
    }
}

/* Words that occur nowhere else, in a page that can be written. */
static void stamp_page(struct softhost *host, uint64_t hva)
{
    uint64_t *words = (uint64_t *)(uintptr_t)hva;

    for (uint64_t i = 0; i < PAGE_WORDS; i++) {
        words[i] = (++host->stamps) * UINT64_C(0x9e3779b97f4a7c15);
    }
}

void softhost_stamp(struct softhost *host, struct softhost_stretch stretch)
{
    const struct softhost_area *area = &host->areas[stretch.kind];

    for (uint64_t i = 0; i < stretch.count; i++) {
        uint64_t start = area->start + (stretch.first + i) * area->granule_bytes;

        if (area->held[stretch.first + i] != HOST_WRITE) {
            continue;
        }
        if (area->granule_bytes == HOST_4K) {
            stamp_page(host, start);
            continue;
        }
        for (uint64_t at = start; at < start + area->granule_bytes; at += HOST_2M) {
            for (unsigned n = 0; n < HOST_HOT_PAGES; n++) {
                stamp_page(host, softhost_hot_page(host, at, n));
            }
        }
    }
}

void softhost_resize(struct softhost *host)
{
    struct softhost_area *area = &host->areas[HOST_AREA_2M];

    area->claimed_bytes = area->claimed_bytes == HOST_2M ? HOST_4K : HOST_2M;
}

void softhost_discard(struct softhost *host, struct softhost_stretch stretch)
{
    void *start = (void *)(uintptr_t)softhost_stretch_start(host, stretch);

    REQUIRE(madvise(start, softhost_stretch_bytes(host, stretch), MADV_DONTNEED) == 0, "madvise");
}

/* Nothing of another thread's may come to lie in between: the old place stays mapped, empty. */
static void move_page(uint64_t from, uint64_t to)
{
    void *result = mremap((void *)(uintptr_t)from, HOST_4K, HOST_4K,
                          MREMAP_MAYMOVE | MREMAP_FIXED | MREMAP_DONTUNMAP, (void *)(uintptr_t)to);

    REQUIRE(result == (void *)(uintptr_t)to, "mremap");
}

void softhost_exchange(struct softhost *host, uint64_t one, uint64_t other)
{
    struct softhost_area *area = &host->areas[HOST_AREA_4K];
    uint64_t at_one = area->start + one * HOST_4K;
    uint64_t at_other = area->start + other * HOST_4K;
    enum softhost_protection held = area->held[one];

    if (one == other) {
        return;
    }
    move_page(at_one, host->spare);
    move_page(at_other, at_one);
    move_page(host->spare, at_other);
    area->held[one] = area->held[other];
    area->held[other] = held;
}

void softhost_map_memfd(struct softhost *host, int fd)
{
    void *memory = mmap(NULL, HOST_MEMFD_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

    REQUIRE(memory != MAP_FAILED, "mmap of a guest memfd");
    host->memfd = (uint64_t)(uintptr_t)memory;
    for (uint64_t at = 0; at < HOST_MEMFD_BYTES; at += HOST_4K) {
        stamp_page(host, host->memfd + at);
    }
}

void softhost_unmap_memfd(struct softhost *host)
{
    if (host->memfd != 0) {
        munmap((void *)(uintptr_t)host->memfd, HOST_MEMFD_BYTES);
        host->memfd = 0;
    }
}
