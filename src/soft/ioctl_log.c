/*
 * soft/ioctl_log.c - KVM_GET_DIRTY_LOG and KVM_CLEAR_DIRTY_LOG: bitmaps between kcore and the user.
 *
 * Neither touches the user's memory under kcore's lock: it may be slow to come, and a guest's own.
 * Source: Linux api.rst at each request.
 */
#include "base/alloc.h"
#include "kcore/dirtylog.h"
#include "soft/ioctl.h"
#include "soft/soft.h"
#include "soft/usercopy.h"

#include <errno.h>

#define WORD_PAGES 64u

static uint64_t words_for(uint64_t page_count)
{
    return (page_count + WORD_PAGES - 1) / WORD_PAGES;
}

/* One word more than needed: an allocator may have nothing to give for nothing. */
static uint64_t *bitmap_new(struct gm_soft *soft, uint64_t words)
{
    return mem_alloc(&soft->allocator, (words + 1) * sizeof(uint64_t));
}

/* The log's own words are what the kernel copies: no others are filled before. */
long ioctl_get_log(struct gm_soft *soft, uint64_t argument)
{
    struct kvm_dirty_log log;
    struct dirtylog_loan loan;
    int rc = usercopy_from(&log, argument, sizeof(log));

    if (rc == 0) {
        rc = kcore_log_lend(&soft->core, log.slot, &loan);
    }
    if (rc == 0) {
        rc = usercopy_to_shared((uintptr_t)log.dirty_bitmap, loan.words,
                                loan.word_count * sizeof(loan.words[0]));
        kcore_log_return(&soft->core, &loan, rc == 0);
    }
    return rc;
}

/*
 * The user's bitmap cannot be read. But Linux reads it last: what is wrong with the rest comes
 * first, which clearing no page at all finds out.
 */
static int error_before(struct gm_soft *soft, const struct kvm_clear_dirty_log *clear,
                        uint64_t *bitmap, int rc)
{
    int clear_rc;

    memset(bitmap, 0, words_for(clear->num_pages) * sizeof(*bitmap));
    clear_rc =
        kcore_log_clear(&soft->core, clear->slot, clear->first_page, clear->num_pages, bitmap);
    return clear_rc != 0 ? clear_rc : rc;
}

static int clear_log(struct gm_soft *soft, const struct kvm_clear_dirty_log *clear)
{
    uint64_t words = words_for(clear->num_pages);
    uint64_t *bitmap = bitmap_new(soft, words);
    int rc;

    if (bitmap == NULL) {
        return -ENOMEM;
    }
    rc = usercopy_from(bitmap, (uintptr_t)clear->dirty_bitmap, words * sizeof(*bitmap));
    if (rc != 0) {
        rc = error_before(soft, clear, bitmap, rc);
    } else {
        rc = kcore_log_clear(&soft->core, clear->slot, clear->first_page, clear->num_pages, bitmap);
    }
    mem_free(&soft->allocator, bitmap);
    return rc;
}

long ioctl_clear_log(struct gm_soft *soft, uint64_t argument)
{
    struct kvm_clear_dirty_log clear;
    uint64_t page_count;
    int rc = usercopy_from(&clear, argument, sizeof(clear));

    if (rc != 0) {
        return rc;
    }
    rc = kcore_log_page_count(&soft->core, clear.slot, &page_count);
    if (rc != 0) {
        /* Which error comes first, of an absent slot and a bad first page, kcore knows. */
        int clear_rc = kcore_log_clear(&soft->core, clear.slot, clear.first_page, 0, NULL);

        return clear_rc != 0 ? clear_rc : rc;
    }
    /* No memory for what no slot can have. */
    if (clear.num_pages > page_count) {
        return -EINVAL;
    }
    return clear_log(soft, &clear);
}
