/*
 * ram/advice.c - what the kernel is advised of a block's memory.
 *
 * An advice that is refused takes back those before it. Advice about huge pages cannot be taken
 * back (neither for nor against is a state that one cannot return to), so it comes last.
 */
#include "base/diag.h"
#include "ram/make.h"
#include "ram/memory.h"

#include <errno.h>
#include <sys/mman.h>

#define KIND(kind) (1u << (kind))
#define MAPPED_KINDS (~KIND(GM_RAM_UNBACKED))
#define THP_KINDS                                                                                  \
    (KIND(GM_RAM_ANON) | KIND(GM_RAM_SHARED) | KIND(GM_RAM_MEMFD) | KIND(GM_RAM_CALLER))

/* One of a pair; its opposite stands beside it, and the second is what is so without advice. */
struct advice {
    uint32_t bit;
    int number; /* of madvise(2) */
    unsigned kinds;
    bool is_private_only; /* the kernel would pass over it otherwise, without a word */
    const char *name;
};

static const struct advice ADVICE[] = {
    {GM_RAM_ADVICE_NO_DUMP, MADV_DONTDUMP, MAPPED_KINDS, false, "leave it out of core dumps"},
    {GM_RAM_ADVICE_DUMP, MADV_DODUMP, MAPPED_KINDS, false, "dump it"},
    {GM_RAM_ADVICE_NO_FORK, MADV_DONTFORK, MAPPED_KINDS, false, "keep it from children"},
    {GM_RAM_ADVICE_FORK, MADV_DOFORK, MAPPED_KINDS, false, "let children have it"},
    {GM_RAM_ADVICE_WIPE_ON_FORK, MADV_WIPEONFORK, KIND(GM_RAM_ANON) | KIND(GM_RAM_CALLER), true,
     "zero it in children"},
    {GM_RAM_ADVICE_KEEP_ON_FORK, MADV_KEEPONFORK, KIND(GM_RAM_ANON) | KIND(GM_RAM_CALLER), true,
     "keep it in children"},
    {GM_RAM_ADVICE_MERGE, MADV_MERGEABLE, KIND(GM_RAM_ANON) | KIND(GM_RAM_CALLER), true,
     "merge equal pages"},
    {GM_RAM_ADVICE_NO_MERGE, MADV_UNMERGEABLE, KIND(GM_RAM_ANON) | KIND(GM_RAM_CALLER), true,
     "not merge pages"},
    {GM_RAM_ADVICE_HUGE, MADV_HUGEPAGE, THP_KINDS, false, "use transparent huge pages"},
    {GM_RAM_ADVICE_NO_HUGE, MADV_NOHUGEPAGE, THP_KINDS, false, "use no transparent huge pages"},
};
#define ADVICE_COUNT (sizeof(ADVICE) / sizeof(ADVICE[0]))
#define ADVICE_ALL ((GM_RAM_ADVICE_KEEP_ON_FORK << 1) - 1)

int advice_check(uint32_t advice, struct gm_diag *diag)
{
    for (size_t i = 0; i < ADVICE_COUNT; i += 2) {
        uint32_t pair = ADVICE[i].bit | ADVICE[i + 1].bit;

        if ((advice & pair) == pair) {
            return diag_set(diag, GM_DIAG_RAM_ADVICE, -EINVAL,
                            "memory cannot be advised both to %s and to %s", ADVICE[i].name,
                            ADVICE[i + 1].name);
        }
    }
    return (advice & ~ADVICE_ALL) == 0 ? 0
                                       : diag_set(diag, GM_DIAG_RAM_ADVICE, -EINVAL,
                                                  "there is no advice 0x%x", advice & ~ADVICE_ALL);
}

static int refuse(const struct advice *advice, const char *who, struct gm_diag *diag)
{
    return diag_set(diag, GM_DIAG_RAM_ADVICE, -EOPNOTSUPP, "%s cannot be advised to %s", who,
                    advice->name);
}

static int check_kind(const struct gm_ram *ram, uint32_t wanted, struct gm_diag *diag)
{
    for (size_t i = 0; i < ADVICE_COUNT; i++) {
        const struct advice *advice = &ADVICE[i];

        if ((wanted & advice->bit) == 0) {
            continue;
        }
        if ((advice->kinds & KIND(ram->kind)) == 0) {
            return refuse(advice, "this kind of RAM block", diag);
        }
        if (advice->is_private_only && !ram_is_private(ram)) {
            return refuse(advice, "shared memory", diag);
        }
    }
    return 0;
}

/*
 * Back to what the block was advised before: the first of the pair if it was that, else the
 * second.
 */
static void take_back(const struct gm_ram *ram, void *start, uint64_t size_bytes, size_t i)
{
    const struct advice *first = &ADVICE[i & ~(size_t)1];
    const struct advice *before = (ram->advice & first->bit) != 0 ? first : first + 1;

    (void)madvise(start, size_bytes, before->number);
}

int ram_advise_part(const struct gm_ram *ram, void *start, uint64_t size_bytes, uint32_t wanted,
                    struct gm_diag *diag)
{
    int rc = check_kind(ram, wanted, diag);

    for (size_t i = 0; rc == 0 && i < ADVICE_COUNT; i++) {
        if ((wanted & ADVICE[i].bit) == 0 || madvise(start, size_bytes, ADVICE[i].number) == 0) {
            continue;
        }
        rc = errno == ENOMEM || errno == EAGAIN
                 ? diag_set(diag, GM_DIAG_RAM_ADVICE, -ENOMEM,
                            "the kernel has no memory to take an advice")
                 : refuse(&ADVICE[i], "this kernel", diag);
        while (i > 0) {
            i--;
            if ((wanted & ADVICE[i].bit) != 0) {
                take_back(ram, start, size_bytes, i);
            }
        }
        break;
    }
    return rc;
}

/* With the new advice in place of what it contradicts. */
static uint32_t with(uint32_t advice, uint32_t wanted)
{
    for (size_t i = 0; i < ADVICE_COUNT; i += 2) {
        uint32_t pair = ADVICE[i].bit | ADVICE[i + 1].bit;

        advice = (wanted & pair) != 0 ? (advice & ~pair) | (wanted & pair) : advice;
    }
    return advice;
}

int gm_ram_advise(struct gm_ram *ram, uint32_t advice, struct gm_diag *diag)
{
    int rc = advice_check(advice, diag);

    if (rc != 0) {
        return rc;
    }
    lock_take(&ram->memory_lock);
    rc = ram_advise_part(ram, ram->hva, ram_size(ram), advice, diag);
    if (rc == 0) {
        ram->advice = with(ram->advice, advice);
    }
    lock_drop(&ram->memory_lock);
    return rc;
}
