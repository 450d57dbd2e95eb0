/*
 * conformance/ept/guest/window.c - the guest program's own pages in the tree under test: the code that
 * makes the accesses, and page tables for it.
 *
 *   window_gpa + 0x0000   PML4     of the virtual machine; one entry
 *              + 0x1000   PDPT     one entry
 *              + 0x2000   PD       one entry
 *              + 0x3000   PT       LINEAR_CODE, LINEAR_TARGET
 *              + 0x4000   code     code_begin to code_end
 */
#include "guest.h"

#define PAGE __attribute__((aligned(PAGE_BYTES)))

enum page { PAGE_PML4, PAGE_PDPT, PAGE_PD, PAGE_PT, PAGE_CODE, PAGE_COUNT };

/* Present, writable, accessed; dirty in leaves: so no walk of the virtual machine's has to write. */
#define PTE_TABLE 0x23ull
#define PTE_LEAF 0x63ull

static uint64_t pages[PAGE_COUNT][TABLE_ENTRIES] PAGE;
static uint64_t tables[4][TABLE_ENTRIES] PAGE; /* what hangs from the tree's first empty entry */
static uint64_t *hook;                         /* that entry */

static unsigned index_at(uint64_t address, unsigned level)
{
    return (unsigned)(address >> (3 + 9 * level)) & (TABLE_ENTRIES - 1);
}

static void fill_pages(uint64_t gpa)
{
    for (unsigned level = 4; level > 1; level--) {
        uint64_t next = gpa + (PAGE_PML4 + 5 - level) * PAGE_BYTES;

        pages[4 - level][index_at(LINEAR_CODE, level)] = next | PTE_TABLE;
    }
    pages[PAGE_PT][index_at(LINEAR_CODE, 1)] = (gpa + PAGE_CODE * PAGE_BYTES) | PTE_LEAF;
    for (size_t i = 0; &code_begin[i] < code_end; i++) {
        ((uint8_t *)pages[PAGE_CODE])[i] = code_begin[i];
    }
}

/* The lowest table over @gpa; tables of our own where there are none. NULL: in the way is a leaf. */
static uint64_t *find_table(const struct oracle_image *image, const struct engine *engine,
                            uint64_t gpa)
{
    uint64_t *table = (uint64_t *)(image->root & 0xffffffffff000ull);
    unsigned own_count = 0;

    for (unsigned level = image->levels; level > 1; level--) {
        uint64_t *entry = &table[index_at(gpa, level)];

        if (*entry == 0) {
            if (hook == NULL) {
                hook = entry;
            }
            *entry = (uint64_t)tables[own_count++] | engine->pointer_bits;
        } else if (level <= 3 && (*entry & 0x80) != 0) {
            return NULL;
        }
        table = (uint64_t *)(*entry & 0xffffffffff000ull);
    }
    return table;
}

bool window_open(const struct oracle_image *image, const struct engine *engine)
{
    uint64_t *table = find_table(image, engine, image->window_gpa);

    if (table == NULL || hook == NULL) {
        return false; /* the last table has to be ours, or closing would leave entries behind */
    }
    for (unsigned i = 0; i < PAGE_COUNT; i++) {
        table[index_at(image->window_gpa, 1) + i] = (uint64_t)pages[i] | engine->leaf_bits;
    }
    fill_pages(image->window_gpa);
    return true;
}

void window_close(void)
{
    *hook = 0;
}

uint64_t window_cr3(const struct oracle_image *image)
{
    return image->window_gpa + PAGE_PML4 * PAGE_BYTES;
}

uint64_t window_code(const uint8_t *code)
{
    return LINEAR_CODE + (uint64_t)(code - code_begin);
}

void window_aim(uint64_t gpa)
{
    pages[PAGE_PT][index_at(LINEAR_TARGET, 1)] = (gpa & ~(uint64_t)(PAGE_BYTES - 1)) | PTE_LEAF;
}
