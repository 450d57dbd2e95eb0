/*
 * ram/harvest.c - a harvest: a range's dirty pages, taken out of the record as a transaction.
 *
 * A harvest holds a reference on its block, and on the set of pages that it took from: when the client
 * ends meanwhile, an abort gives the pages back to a set that nobody reads any more.
 */
#include "base/addr.h"
#include "base/alloc.h"
#include "base/point.h"
#include "ram/dirty.h"
#include "ram/pagelist.h"
#include "ram/ram.h"

#include <guestmem/ram.h>

#include <errno.h>

struct gm_harvest {
    struct gm_ram *ram;
    struct pageset *set;
    struct pagelist pages;
};

static void harvest_free(struct gm_harvest *harvest)
{
    struct gm_ram *ram = harvest->ram;

    pagelist_fini(&harvest->pages);
    pageset_put(harvest->set);
    mem_free(&ram->allocator, harvest);
    gm_ram_put(ram);
}

/* Take the pages, and make sure that what was stored before their marks is seen from here on. */
static int take(struct gm_harvest *harvest, uint64_t offset_bytes, uint64_t size_bytes)
{
    uint64_t last_byte = offset_bytes + (size_bytes - 1);
    int result = pageset_take(harvest->set, offset_bytes >> PAGE_SHIFT_4K,
                              last_byte >> PAGE_SHIFT_4K, &harvest->pages);

    GM_POINT("harvest-taken");
    /* Who took nothing reads nothing, and need not disturb the writers. */
    if (result == 0 && harvest->pages.page_count > 0) {
        result = barrier_heavy(&harvest->ram->dirty.barrier);
    }
    return result;
}

int gm_harvest_begin(struct gm_ram *ram, unsigned client, uint64_t offset_bytes,
                     uint64_t size_bytes, struct gm_harvest **harvest)
{
    struct gm_harvest *made;
    struct pageset *set;
    int result = 0;

    if (client >= GM_DIRTY_CLIENTS || !range_holds(0, ram_size(ram), offset_bytes, size_bytes)) {
        return -EINVAL;
    }
    set = ram_dirty_set_get(ram, client);
    if (set == NULL) {
        return -ENOENT;
    }
    made = mem_alloc(&ram->allocator, sizeof(*made));
    if (made == NULL) {
        pageset_put(set);
        return -ENOMEM;
    }
    gm_ram_get(ram);
    made->ram = ram;
    made->set = set;
    pagelist_init(&made->pages, &ram->allocator);
    if (size_bytes > 0) {
        result = take(made, offset_bytes, size_bytes);
    }
    if (result != 0) {
        gm_harvest_abort(made);
        return result;
    }
    *harvest = made;
    return 0;
}

bool gm_harvest_next(struct gm_harvest *harvest, uint64_t *first_page, uint64_t *last_page)
{
    return pagelist_next(&harvest->pages, first_page, last_page);
}

uint64_t gm_harvest_page_count(const struct gm_harvest *harvest)
{
    return harvest->pages.page_count;
}

void gm_harvest_commit(struct gm_harvest *harvest)
{
    harvest_free(harvest);
}

void gm_harvest_abort(struct gm_harvest *harvest)
{
    pageset_give_back(harvest->set, &harvest->pages);
    harvest_free(harvest);
}
