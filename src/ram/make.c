/* ram/make.c - from options to a block. */
#include "ram/make.h"

#include "base/addr.h"
#include "base/alloc.h"
#include "base/diag.h"
#include "base/options.h"
#include "ram/backing.h"
#include "ram/memory.h"
#include "ram/private.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#define SIZE_BYTES_MAX ((uint64_t)1 << 63)
#define HUGE_PAGE_BYTES ((uint64_t)2 << 20)

static const struct options_kind OPTIONS = OPTIONS_KIND(gm_ram_options, opaque);

static bool has_nodes(const struct gm_ram_options *options)
{
    uint64_t any = 0;

    for (size_t i = 0; i < GM_NUMA_NODES_MAX / 64; i++) {
        any |= options->numa_nodes[i];
    }
    return any != 0;
}

static bool can_resize(enum gm_ram_kind kind)
{
    return kind != GM_RAM_FILE && kind != GM_RAM_CALLER;
}

static int check_sizes(const struct gm_ram_options *options, struct gm_diag *diag)
{
    if (options->size_bytes == 0 || options->size_bytes > SIZE_BYTES_MAX) {
        return diag_set(diag, GM_DIAG_RAM_SIZE, -EINVAL,
                        "a RAM block of 0x%" PRIx64 " bytes: it must be 1 to 2^63 bytes",
                        options->size_bytes);
    }
    if (options->max_size_bytes != 0 &&
        (options->max_size_bytes < options->size_bytes ||
         options->max_size_bytes > SIZE_BYTES_MAX || !can_resize(options->kind))) {
        return diag_set(diag, GM_DIAG_RAM_OPTIONS, -EINVAL,
                        "a RAM block of 0x%" PRIx64 " bytes cannot grow to 0x%" PRIx64,
                        options->size_bytes, options->max_size_bytes);
    }
    return 0;
}

static int check_pages(const struct gm_ram_options *options, struct gm_diag *diag)
{
    bool has_choice = options->kind == GM_RAM_HUGETLB || options->kind == GM_RAM_CALLER;

    if (options->page_bytes != 0 &&
        (!has_choice || !is_power_of_two(options->page_bytes) ||
         options->page_bytes < ram_host_page_bytes() || options->page_bytes > SIZE_BYTES_MAX)) {
        return diag_set(diag, GM_DIAG_RAM_OPTIONS, -EINVAL,
                        "a RAM block of kind %d cannot have pages of 0x%" PRIx64,
                        (int)options->kind, options->page_bytes);
    }
    return 0;
}

static int check_numa(const struct gm_ram_options *options, struct gm_diag *diag)
{
    bool has_pages = options->kind != GM_RAM_FILE && options->kind != GM_RAM_UNBACKED;

    if (options->numa_policy > GM_NUMA_PREFERRED ||
        (options->numa_policy != GM_NUMA_DEFAULT) != has_nodes(options)) {
        return diag_set(diag, GM_DIAG_RAM_OPTIONS, -EINVAL,
                        "a NUMA policy goes with a set of nodes, and the other way round");
    }
    if (options->numa_policy != GM_NUMA_DEFAULT && !has_pages) {
        return diag_set(diag, GM_DIAG_RAM_OPTIONS, -EINVAL,
                        "a file's pages, and no pages, have no NUMA policy");
    }
    return 0;
}

/* The caller's memory and page size; and what else only one kind has. */
static int check_kind(const struct gm_ram_options *options, struct gm_diag *diag)
{
    bool is_memfd = options->kind == GM_RAM_MEMFD || options->kind == GM_RAM_HUGETLB;
    uint64_t page_bytes = options->page_bytes != 0 ? options->page_bytes : ram_host_page_bytes();
    uint64_t at = hva_of(options->memory).value;

    if (options->kind < GM_RAM_ANON || options->kind > GM_RAM_UNBACKED) {
        return diag_set(diag, GM_DIAG_RAM_OPTIONS, -EINVAL, "there is no RAM kind %d",
                        (int)options->kind);
    }
    if ((options->flags & ~(GM_RAM_PRIVATE | GM_RAM_GUEST_MEMFD)) != 0 ||
        ((options->flags & GM_RAM_PRIVATE) != 0 && options->kind != GM_RAM_FILE)) {
        return diag_set(diag, GM_DIAG_RAM_OPTIONS, -EINVAL,
                        "GM_RAM_PRIVATE, of files only, and GM_RAM_GUEST_MEMFD are the only flags");
    }
    if (is_memfd && (options->name == NULL ||
                     strnlen(options->name, BACKING_NAME_BYTES_MAX + 1) > BACKING_NAME_BYTES_MAX)) {
        return diag_set(diag, GM_DIAG_RAM_OPTIONS, -EINVAL,
                        "a memfd needs a name of at most %u bytes", BACKING_NAME_BYTES_MAX);
    }
    if ((options->kind == GM_RAM_CALLER) != (options->memory != NULL) ||
        (options->kind != GM_RAM_CALLER && options->release != NULL)) {
        return diag_set(diag, GM_DIAG_RAM_OPTIONS, -EINVAL,
                        "memory and its release belong to GM_RAM_CALLER");
    }
    if (options->kind == GM_RAM_CALLER && (((at | options->size_bytes) & (page_bytes - 1)) != 0 ||
                                           !range_holds(0, UINT64_MAX, at, options->size_bytes))) {
        return diag_set(diag, GM_DIAG_RAM_OPTIONS, -EINVAL,
                        "the caller's memory 0x%" PRIx64 "+0x%" PRIx64 " does not consist of pages",
                        at, options->size_bytes);
    }
    return 0;
}

static int check(const struct gm_ram_options *options, struct gm_diag *diag)
{
    int rc = check_kind(options, diag);

    if (rc == 0) {
        rc = check_sizes(options, diag);
    }
    if (rc == 0) {
        rc = check_pages(options, diag);
    }
    if (rc == 0) {
        rc = check_numa(options, diag);
    }
    if (rc == 0) {
        rc = private_check(options, diag);
    }
    return rc != 0 ? rc : advice_check(options->advice, diag);
}

static uint64_t round_up(uint64_t size_bytes, uint64_t page_bytes)
{
    return align_down(size_bytes + (page_bytes - 1), page_bytes); /* far below 2^64 */
}

static enum ram_freeing freeing_of(const struct gm_ram_options *options)
{
    switch (options->kind) {
    case GM_RAM_ANON:
        return RAM_FREE_DONTNEED;
    case GM_RAM_SHARED:
        return RAM_FREE_REMOVE;
    case GM_RAM_MEMFD:
    case GM_RAM_HUGETLB:
        return RAM_FREE_PUNCH;
    case GM_RAM_FILE:
        return (options->flags & GM_RAM_PRIVATE) != 0 ? RAM_FREE_DONTNEED : RAM_FREE_PUNCH;
    case GM_RAM_UNBACKED:
        return RAM_FREE_NOTHING;
    default:
        return RAM_FREE_NEVER; /* the caller's: looked up later */
    }
}

static void fill(struct gm_ram *ram, const struct gm_ram_options *options)
{
    ref_init(&ram->refs);
    ram->kind = options->kind;
    ram->flags = options->flags;
    ram->freeing = freeing_of(options);
    ram->fd = -1;
    ram->guest_memfd = -1;
    ram->file_offset = options->kind == GM_RAM_FILE ? options->file_offset : 0;
    ram->page_bytes = options->page_bytes != 0          ? options->page_bytes
                      : options->kind == GM_RAM_HUGETLB ? HUGE_PAGE_BYTES
                                                        : ram_host_page_bytes();
    ram->numa_policy = options->numa_policy;
    memcpy(ram->numa_nodes, options->numa_nodes, sizeof(ram->numa_nodes));
    ram->advice = options->advice;
    ram->resized = options->resized;
    ram->opaque = options->opaque;
    ram->is_resizable = options->max_size_bytes != 0;
}

/* A file's page size is known once it is open, so the sizes are set twice. */
static void set_sizes(struct gm_ram *ram, const struct gm_ram_options *options)
{
    uint64_t size = round_up(options->size_bytes, ram->page_bytes);

    atomic_store_explicit(&ram->size, size, memory_order_relaxed); /* nobody knows the block yet */
    ram->max_size = ram->is_resizable ? round_up(options->max_size_bytes, ram->page_bytes) : size;
}

static int give_memory(struct gm_ram *ram, const struct gm_ram_options *options,
                       struct gm_diag *diag)
{
    int rc = backing_open(ram, options, diag);

    if (rc != 0) {
        return rc;
    }
    set_sizes(ram, options);
    rc = private_open(ram, options, diag);
    if (rc != 0) {
        return rc;
    }
    switch (ram->kind) {
    case GM_RAM_UNBACKED:
        return ram_advise_part(ram, NULL, 0, ram->advice, diag);
    case GM_RAM_CALLER:
        rc = ram_bind(ram, ram->hva, ram_size(ram), diag);
        return rc != 0 ? rc : ram_advise_part(ram, ram->hva, ram_size(ram), ram->advice, diag);
    default:
        if (memory_reserve(ram) != 0) {
            return diag_set(diag, GM_DIAG_RAM_HOST_FULL, -ENOMEM,
                            "the host has no addresses left for a RAM block of 0x%" PRIx64 " bytes",
                            ram->max_size);
        }
        return memory_map(ram, 0, ram_size(ram), diag);
    }
}

int gm_ram_new(const struct gm_ram_options *theirs, struct gm_ram **ram, struct gm_diag *diag)
{
    struct gm_ram_options taken;
    const struct gm_ram_options *options = &taken;
    const struct gm_allocator *from;
    struct gm_ram *made;
    int rc = options_take(&OPTIONS, &taken, theirs, diag);

    if (rc == 0) {
        rc = check(options, diag);
    }
    if (rc != 0) {
        return rc;
    }
    from = mem_allocator_or_default(options->allocator);
    made = mem_zalloc(from, sizeof(*made));
    if (made == NULL || ram_init_locks(made) != 0) {
        mem_free(from, made);
        return diag_set(diag, GM_DIAG_NO_MEMORY, -ENOMEM,
                        "no memory for the record of a RAM block");
    }
    made->allocator = *from;
    fill(made, options);
    set_sizes(made, options);
    rc = give_memory(made, options, diag);
    if (rc != 0) {
        ram_free(made);
        return rc;
    }
    made->release = options->release; /* not if the making failed */
    *ram = made;
    return 0;
}

int gm_ram_new_anon(uint64_t size_bytes, const struct gm_allocator *allocator, struct gm_ram **ram,
                    struct gm_diag *diag)
{
    const struct gm_ram_options options = {
        .size = sizeof(options),
        .allocator = allocator,
        .kind = GM_RAM_ANON,
        .size_bytes = size_bytes,
    };

    return gm_ram_new(&options, ram, diag);
}

int gm_ram_new_memfd(const char *name, uint64_t size_bytes, const struct gm_allocator *allocator,
                     struct gm_ram **ram, struct gm_diag *diag)
{
    const struct gm_ram_options options = {
        .size = sizeof(options),
        .allocator = allocator,
        .kind = GM_RAM_MEMFD,
        .size_bytes = size_bytes,
        .name = name,
    };

    return gm_ram_new(&options, ram, diag);
}

int gm_ram_new_unbacked(uint64_t size_bytes, const struct gm_allocator *allocator,
                        struct gm_ram **ram, struct gm_diag *diag)
{
    const struct gm_ram_options options = {
        .size = sizeof(options),
        .allocator = allocator,
        .kind = GM_RAM_UNBACKED,
        .size_bytes = size_bytes,
    };

    return gm_ram_new(&options, ram, diag);
}
