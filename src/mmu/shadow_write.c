/* mmu/shadow_write.c - a write to guests' tables that was seen. */
#include "mmu/shadow_page.h"

#include "base/point.h"

/* A page that is written so often between its uses is no table any more, or about to be another: what stands for it
 * goes, so that it can be written unseen. */
#define WRITES_MAX 3u

/* Which of the page's entries stand for the guest's entry number @guest_index: *first, and how many. */
static unsigned entries_of(const struct shadow_page *page, unsigned entry_bytes,
                           unsigned guest_index, unsigned *first)
{
    /* 32-bit: an entry of level 2 is two of 2 MiB, so that a page stands for a quarter; of level 1, for half. */
    unsigned each = entry_bytes == 4 && page->role.level == 2 ? 2 : 1;
    unsigned of_page = EPT_ENTRIES / each;

    *first = guest_index % of_page * each;
    return guest_index / of_page == page->role.quadrant ? each : 0;
}

static void drop_written(struct shadow_work *work, struct shadow_page *page, unsigned offset,
                         unsigned size_bytes)
{
    unsigned entry_bytes = work->mmu->shadow.formats[page->role.format].entry_bytes;
    unsigned last = (offset + size_bytes - 1) / entry_bytes;

    for (unsigned guest_index = offset / entry_bytes; guest_index <= last; guest_index++) {
        unsigned first;
        unsigned count = entries_of(page, entry_bytes, guest_index, &first);

        for (unsigned i = 0; i < count; i++) {
            shadow_drop(work, page, first + i);
        }
    }
}

void shadow_written(struct mmu *mmu, unsigned space, uint64_t gpa, uint32_t size_bytes)
{
    struct retired retired = {0};
    struct shadow_work work;
    struct shadow_page *page;

    GM_POINT("shadow-write-made");
    work = shadow_work_begin(mmu, &retired);
    page = shadow_page_first(&mmu->shadow, space, gfn_of(gpa));

    if (page != NULL) {
        atomic_fetch_add_explicit(&mmu->shadow.writes, 1, memory_order_relaxed);
    }
    while (page != NULL) {
        struct shadow_page *next = shadow_page_next(page);

        drop_written(&work, page, (unsigned)(gpa % PAGE_BYTES_4K), size_bytes);
        page->write_count++;
        if (page->write_count > WRITES_MAX) {
            shadow_zap(&work, page);
        }
        page = next;
    }
    shadow_work_end(&work);
}
