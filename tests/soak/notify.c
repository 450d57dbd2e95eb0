/*
 * soak/notify.c - the notifier: host memory that is changed under the guest.
 *
 * On the software KVM most of it comes while the guest uses the pages: between begin and end of an invalidation they are without rights, or
 * not there, or elsewhere, and what is in them afterwards is what was in them before. A vCPU that goes on by an old translation then stops
 * the test by SIGSEGV, or its store is lost. On /dev/kvm, which hears of it from the kernel, nobody could tell vCPUs to wait: there
 * a page is only mapped anew.
 *
 * Of pages that are parked, on both, other memory takes the place, with other numbers in it: who goes on by an old translation finds old
 * numbers, or stores where nobody looks.
 */
#include "soak.h"

#include <inttypes.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include <linux/kvm.h>

struct notifier {
    struct soak *soak;
    struct rnd rnd;
    void *elsewhere;                 /* a page's address that is nobody's */
    uint32_t file_pages[FILE_PAGES]; /* which of a page's two of the file is mapped: 0 or 1 */
};

/* What one change is about. */
struct change {
    struct soak_memory *memory;
    unsigned page; /* the guest's, where it is */
    uint64_t words[SOAK_VCPUS];
};

static void on_fault(int signal, siginfo_t *info, void *context)
{
    static const char text[] =
        "soak: touched what is not there, as it was taken away or never was: 0x";
    char digits[17];
    uint64_t address = (uintptr_t)info->si_addr;

    (void)signal;
    (void)context;
    for (unsigned i = 0; i < 16; i++) {
        digits[i] = "0123456789abcdef"[address >> (60 - 4 * i) & 0xf];
    }
    digits[16] = '\n';
    if (write(STDERR_FILENO, text, sizeof(text) - 1) > 0) {
        (void)!write(STDERR_FILENO, digits, sizeof(digits));
    }
    abort();
}

static void pass_time(struct notifier *notifier)
{
    if (rnd_one_in(&notifier->rnd, 4)) {
        usleep((useconds_t)rnd_below(&notifier->rnd, 300));
    } else {
        sched_yield();
    }
}

/* ---- the memory of a page ---- */

static void *map_file(struct notifier *notifier, const struct change *change)
{
    struct soak *soak = notifier->soak;
    uint64_t page = (uint64_t)change->page * FILE_STRIDE;
    uint64_t half = notifier->file_pages[change->page - SOAK_FILE];
    uint64_t offset = page * PAGE_BYTES + half * gm_ram_size(soak->blocks[BLOCK_FILE].ram);

    return mmap(change->memory->bytes, PAGE_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED,
                soak->file, (off_t)offset);
}

static bool is_of_file(const struct change *change)
{
    return change->page < SOAK_ANON;
}

/* Other memory, of the same kind, in place of what is there or is not. It holds no numbers yet. */
static void map_other(struct notifier *notifier, const struct change *change)
{
    void *mapped;

    if (is_of_file(change)) {
        notifier->file_pages[change->page - SOAK_FILE] ^= 1;
        mapped = map_file(notifier, change);
    } else {
        mapped = mmap(change->memory->bytes, PAGE_BYTES, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
    }
    REQUIRE(mapped == change->memory->bytes, "mmap");
}

static void load_words(struct change *change)
{
    for (unsigned i = 0; i < SOAK_VCPUS; i++) {
        change->words[i] = soak_load(soak_word(change->memory, i));
    }
}

static void store_words(const struct change *change)
{
    for (unsigned i = 0; i < SOAK_VCPUS; i++) {
        soak_store(soak_word(change->memory, i), change->words[i]);
    }
}

static void require_words(const struct change *change)
{
    for (unsigned i = 0; i < SOAK_VCPUS; i++) {
        REQUIRE(soak_load(soak_word(change->memory, i)) == change->words[i],
                "page %u was written while it was being taken away", change->page);
    }
}

/* ---- while the guest uses it; what is in it stays ---- */

static void guard(struct notifier *notifier, struct change *change)
{
    REQUIRE(mprotect(change->memory->bytes, PAGE_BYTES, PROT_NONE) == 0, "mprotect");
    pass_time(notifier);
    REQUIRE(mprotect(change->memory->bytes, PAGE_BYTES, PROT_READ | PROT_WRITE) == 0, "mprotect");
    require_words(change);
}

/* Its address stays reserved, since other threads map memory as well. */
static void unmap_and_map(struct notifier *notifier, struct change *change)
{
    REQUIRE(mmap(change->memory->bytes, PAGE_BYTES, PROT_NONE,
                 MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == change->memory->bytes,
            "mmap");
    pass_time(notifier);
    map_other(notifier, change);
    store_words(change);
    pass_time(notifier);
    require_words(change);
}

static void drop_and_fill(struct notifier *notifier, struct change *change)
{
    int advice = is_of_file(change) ? MADV_REMOVE : MADV_DONTNEED;

    REQUIRE(madvise(change->memory->bytes, PAGE_BYTES, advice) == 0, "madvise");
    pass_time(notifier);
    for (unsigned i = 0; i < SOAK_VCPUS; i++) {
        REQUIRE(soak_load(soak_word(change->memory, i)) == 0, "page %u was written while empty",
                change->page);
    }
    store_words(change);
}

/* What is left there is mapped, and empty. */
static void move_page(void *from, void *to)
{
    REQUIRE(mremap(from, PAGE_BYTES, PAGE_BYTES, MREMAP_MAYMOVE | MREMAP_FIXED | MREMAP_DONTUNMAP,
                   to) == to,
            "mremap");
}

/* Stores to its address are lost meanwhile. */
static void move_away_and_back(struct notifier *notifier, struct change *change)
{
    move_page(change->memory->bytes, notifier->elsewhere);
    pass_time(notifier);
    move_page(notifier->elsewhere, change->memory->bytes);
    require_words(change);
}

/* Also of /dev/kvm's guest: it has the same page of the file again, which nobody sees go. */
static void map_again(struct notifier *notifier, struct change *change)
{
    if (is_of_file(change)) {
        REQUIRE(map_file(notifier, change) == change->memory->bytes, "mmap");
    } else if (notifier->soak->soft != NULL) {
        guard(notifier, change);
    }
}

static void (*const unseen[])(struct notifier *notifier, struct change *change) = {
    map_again, guard, unmap_and_map, drop_and_fill, move_away_and_back,
};

/* ---- while its pages are parked; with other numbers ---- */

static void map_other_in_place(struct notifier *notifier, struct change *change)
{
    map_other(notifier, change);
    store_words(change);
}

/* Memory that is ready takes the place of what is there, at once. */
static void move_other_in_place(struct notifier *notifier, struct change *change)
{
    struct soak_memory ready = {.bytes = notifier->elsewhere};

    if (is_of_file(change)) {
        map_other_in_place(notifier, change);
        return;
    }
    REQUIRE(mmap(notifier->elsewhere, PAGE_BYTES, PROT_READ | PROT_WRITE,
                 MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == notifier->elsewhere,
            "mmap");
    for (unsigned i = 0; i < SOAK_VCPUS; i++) {
        soak_store(soak_word(&ready, i), change->words[i]);
    }
    move_page(notifier->elsewhere, change->memory->bytes);
}

static void drop_and_fill_anew(struct notifier *notifier, struct change *change)
{
    int advice = is_of_file(change) ? MADV_REMOVE : MADV_DONTNEED;

    (void)notifier;
    REQUIRE(madvise(change->memory->bytes, PAGE_BYTES, advice) == 0, "madvise");
    store_words(change);
}

static void (*const replaced[])(struct notifier *notifier, struct change *change) = {
    map_other_in_place,
    move_other_in_place,
    drop_and_fill_anew,
};

/* ---- one change ---- */

static void invalidate(struct notifier *notifier, struct change *change,
                       void (*act)(struct notifier *notifier, struct change *change))
{
    struct gm_soft *soft = notifier->soak->soft;
    gm_hva_t hva = (uintptr_t)change->memory->bytes;

    if (soft != NULL) {
        (void)gm_soft_invalidate_begin(soft, hva, PAGE_BYTES);
    }
    if (act != NULL) {
        act(notifier, change);
    }
    if (soft != NULL) {
        gm_soft_invalidate_end(soft, hva, PAGE_BYTES);
    }
    atomic_fetch_add(&notifier->soak->invalidations, 1);
}

/* The same as invalidate(), with words that are read when no vCPU writes them any more. */
static void change_unseen(struct notifier *notifier, struct change *change)
{
    struct gm_soft *soft = notifier->soak->soft;
    gm_hva_t hva = (uintptr_t)change->memory->bytes;
    size_t kinds = sizeof(unseen) / sizeof(unseen[0]);
    uint64_t kind = soft == NULL ? 0 : rnd_below(&notifier->rnd, kinds);

    pthread_mutex_lock(&notifier->soak->host);
    if (soft != NULL) {
        (void)gm_soft_invalidate_begin(soft, hva, PAGE_BYTES);
        load_words(change);
    }
    unseen[kind](notifier, change);
    if (soft != NULL) {
        gm_soft_invalidate_end(soft, hva, PAGE_BYTES);
    }
    pthread_mutex_unlock(&notifier->soak->host);
    atomic_fetch_add(&notifier->soak->invalidations, 1);
}

/* A mark comes after what it is about, and what the guest expects after both. */
static void change_parked(struct notifier *notifier, struct change *change)
{
    struct soak *soak = notifier->soak;
    struct soak_block *block = &soak->blocks[is_of_file(change) ? BLOCK_FILE : BLOCK_ANON];
    uint64_t offset = (uint64_t)(change->memory - block->memories) * PAGE_BYTES;

    soak_park(soak, change->page, 1);
    soak_check(soak, change->page);
    pthread_mutex_lock(&soak->host);
    for (unsigned i = 0; i < SOAK_VCPUS; i++) {
        change->words[i] = soak_load(soak_expect(soak, i, change->page)) + 1;
    }
    if (rnd_one_in(&notifier->rnd, 4)) {
        REQUIRE(gm_ram_discard(block->ram, offset, PAGE_BYTES, NULL) == 0, "discard");
        store_words(change);
    } else {
        invalidate(notifier, change, replaced[rnd_below(&notifier->rnd, 3)]);
    }
    gm_ram_dirty_mark(block->ram, offset, PAGE_BYTES, ~0u);
    for (unsigned i = 0; i < SOAK_VCPUS; i++) {
        soak_store(soak_expect(soak, i, change->page), change->words[i]);
    }
    pthread_mutex_unlock(&soak->host);
    soak_unpark(soak, change->page, 1);
    atomic_fetch_add(&soak->replaced_pages, 1);
}

/* Pages that the guest needs in each step: its program, and its own tables. No word of theirs is looked at. */
static void change_low(struct notifier *notifier)
{
    static const unsigned offsets[] = {SOAK_OWN_PML4, SOAK_OWN_PDPT, SOAK_OWN_PD, SOAK_OWN_PT};
    struct soak *soak = notifier->soak;
    uint64_t which = rnd_below(&notifier->rnd, 1 + 4 * SOAK_VCPUS);
    unsigned offset = which == 0
                          ? SOAK_CODE
                          : SOAK_OWN * (1 + (unsigned)(which - 1) / 4) + offsets[(which - 1) % 4];
    void *bytes = (uint8_t *)gm_ram_hva(soak->low_block) + offset;

    (void)gm_soft_invalidate_begin(soak->soft, (uintptr_t)bytes, PAGE_BYTES);
    REQUIRE(mprotect(bytes, PAGE_BYTES, PROT_NONE) == 0, "mprotect");
    pass_time(notifier);
    REQUIRE(mprotect(bytes, PAGE_BYTES, PROT_READ | PROT_WRITE) == 0, "mprotect");
    gm_soft_invalidate_end(soak->soft, (uintptr_t)bytes, PAGE_BYTES);
    atomic_fetch_add(&soak->invalidations, 1);
}

/* Any page that could be shown; its rights alone. */
static void guard_any(struct notifier *notifier)
{
    struct soak *soak = notifier->soak;
    struct soak_block *block =
        &soak->blocks[BLOCK_WINDOWED + rnd_below(&notifier->rnd, BLOCKS - BLOCK_WINDOWED)];
    struct change change = {.memory =
                                &block->memories[rnd_below(&notifier->rnd, block->page_count)]};
    gm_hva_t hva = (uintptr_t)change.memory->bytes;

    pthread_mutex_lock(&soak->host);
    (void)gm_soft_invalidate_begin(soak->soft, hva, PAGE_BYTES);
    load_words(&change);
    guard(notifier, &change);
    gm_soft_invalidate_end(soak->soft, hva, PAGE_BYTES);
    pthread_mutex_unlock(&soak->host);
    atomic_fetch_add(&soak->invalidations, 1);
}

/* What else comes from the host's side: pages are asked for their age, and tables get few pages, or enough again. */
static void disturb(struct notifier *notifier)
{
    struct soak *soak = notifier->soak;
    const struct soak_block *block = &soak->blocks[rnd_below(&notifier->rnd, BLOCKS)];
    uint64_t limit = rnd_one_in(&notifier->rnd, 2) ? 64 + rnd_below(&notifier->rnd, 64) : 4096;

    switch (rnd_below(&notifier->rnd, 8)) {
    case 0:
        REQUIRE(gm_vm_ioctl(soak->vm, KVM_SET_NR_MMU_PAGES, limit) == 0, "a limit");
        break;
    case 1:
        gm_soft_zap_all(soak->soft);
        break;
    default:
        (void)gm_soft_age(soak->soft, (uintptr_t)gm_ram_hva(block->ram), gm_ram_size(block->ram));
        break;
    }
}

static void change_once(struct notifier *notifier)
{
    struct soak *soak = notifier->soak;
    unsigned page = (unsigned)rnd_below(&notifier->rnd, SOAK_WINDOWED);
    struct change change = {.memory = soak->shown[page], .page = page};

    switch (rnd_below(&notifier->rnd, soak->soft != NULL ? 8 : 3)) {
    case 0:
        change_parked(notifier, &change);
        break;
    case 3:
        change_low(notifier);
        break;
    case 4:
        guard_any(notifier);
        break;
    case 5:
        disturb(notifier);
        break;
    default:
        change_unseen(notifier, &change);
        break;
    }
}

void *soak_notifier(void *opaque)
{
    struct soak *soak = opaque;
    struct notifier notifier = {.soak = soak, .rnd = {soak->seed + 2}};
    struct sigaction action = {.sa_sigaction = on_fault, .sa_flags = SA_SIGINFO};
    struct sigaction before;

    REQUIRE(sigaction(SIGSEGV, &action, &before) == 0, "sigaction");
    notifier.elsewhere = mmap(NULL, PAGE_BYTES, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    REQUIRE(notifier.elsewhere != MAP_FAILED, "mmap");
    while (!atomic_load(&soak->end)) {
        change_once(&notifier);
        pass_time(&notifier);
    }
    munmap(notifier.elsewhere, PAGE_BYTES);
    REQUIRE(sigaction(SIGSEGV, &before, NULL) == 0, "sigaction");
    return NULL;
}
