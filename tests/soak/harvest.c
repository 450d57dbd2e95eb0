/* soak/harvest.c - the harvester: what the guest had stored before a harvest is in the copy after it. */
#include "soak.h"

#include <inttypes.h>
#include <sched.h>

#define PAGES_MAX (FILE_STRIDE * FILE_PAGES)

static void copy_page(struct soak_block *block, uint64_t page)
{
    for (unsigned i = 0; i < SOAK_VCPUS; i++) {
        block->copy[page][i] = soak_load(soak_word(&block->memories[page], i));
    }
}

void soak_copy_all(struct soak *soak, struct soak_block *block)
{
    pthread_mutex_lock(&soak->host);
    for (uint64_t page = 0; page < block->page_count; page++) {
        copy_page(block, page);
    }
    pthread_mutex_unlock(&soak->host);
}

/* What is stored by now; a vCPU says so after the store. */
static void take_expected(struct soak *soak, const struct soak_block *block,
                          uint64_t (*expected)[SOAK_VCPUS])
{
    pthread_mutex_lock(&soak->model);
    for (uint32_t page = 0; page < block->page_count; page++) {
        const struct soak_memory *memory = &block->memories[page];

        for (unsigned i = 0; i < SOAK_VCPUS; i++) {
            expected[page][i] = memory->shown_at == NOT_SHOWN
                                    ? memory->expect[i]
                                    : soak_load(soak_expect(soak, i, memory->shown_at));
        }
    }
    pthread_mutex_unlock(&soak->model);
}

static void take_dirty(struct soak *soak, struct soak_block *block)
{
    uint64_t size_bytes = gm_ram_size(block->ram);
    struct gm_harvest *harvest;
    uint64_t first;
    uint64_t last;

    for (unsigned i = 0; i < 2 && block->regions[i] != NULL; i++) {
        REQUIRE(gm_region_log_sync(block->regions[i], 0, size_bytes) == 0, "sync");
    }
    REQUIRE(gm_harvest_begin(block->ram, HARVEST_CLIENT, 0, size_bytes, &harvest) == 0, "harvest");
    atomic_fetch_add(&soak->harvested_pages, gm_harvest_page_count(harvest));
    pthread_mutex_lock(&soak->host);
    while (gm_harvest_next(harvest, &first, &last)) {
        for (uint64_t page = first; page <= last; page++) {
            copy_page(block, page);
        }
    }
    pthread_mutex_unlock(&soak->host);
    gm_harvest_commit(harvest);
}

void soak_harvest(struct soak *soak, struct soak_block *block)
{
    uint64_t expected[PAGES_MAX][SOAK_VCPUS];

    if (!block->is_logged) {
        return;
    }
    take_expected(soak, block, expected);
    take_dirty(soak, block);
    for (uint32_t page = 0; page < block->page_count; page++) {
        for (unsigned i = 0; i < SOAK_VCPUS; i++) {
            REQUIRE(block->copy[page][i] >= expected[page][i],
                    "page %" PRIu32 " of %s, vCPU %u: %#" PRIx64 " was harvested, %#" PRIx64
                    " was stored before",
                    page, block->name, i, block->copy[page][i], expected[page][i]);
        }
    }
    atomic_fetch_add(&soak->compared_words, (unsigned long long)block->page_count * SOAK_VCPUS);
    atomic_fetch_add(&soak->harvests, 1);
}

void soak_check_copies(struct soak *soak)
{
    for (unsigned number = 0; number < BLOCKS; number++) {
        struct soak_block *block = &soak->blocks[number];

        soak_harvest(soak, block);
        for (uint32_t page = 0; page < block->page_count && block->is_logged; page++) {
            for (unsigned i = 0; i < SOAK_VCPUS; i++) {
                uint64_t word = soak_load(soak_word(&block->memories[page], i));

                REQUIRE(block->copy[page][i] == word,
                        "page %" PRIu32 " of %s, vCPU %u: %#" PRIx64
                        " was harvested, not %#" PRIx64,
                        page, block->name, i, block->copy[page][i], word);
            }
        }
    }
}

void *soak_harvester(void *opaque)
{
    struct soak *soak = opaque;
    struct rnd rnd = {soak->seed + 1};

    while (!atomic_load(&soak->end)) {
        struct soak_block *block = &soak->blocks[rnd_below(&rnd, BLOCKS)];

        pthread_mutex_lock(&block->log);
        soak_harvest(soak, block);
        pthread_mutex_unlock(&block->log);
        sched_yield();
    }
    return NULL;
}
