/* conformance/ept/dump.c - the tables of a software KVM as an image. */
#include "dump.h"

#include "model/require.h"

#include <string.h>

#define TABLES_MAX 8192u
#define PAGES_MAX 65536u

/* Frames for leaves of a level: where, and how many. */
static const struct {
    uint64_t first;
    size_t count;
} frame_areas[EPT_LEAF_LEVEL_MAX + 1] = {
    [1] = {ORACLE_DATA_ADDRESS, 4096},
    [2] = {0x20000000, 256},
    [3] = {0x40000000, 2},
};

/* AMD's bits (APM 2, "Page-Translation-Table Entry Fields"); bit 51 is reserved in a machine of 51
 * physical bits, as run.py makes it. */
#define NPT_PRESENT (UINT64_C(1) << 0)
#define NPT_WRITE (UINT64_C(1) << 1)
#define NPT_USER (UINT64_C(1) << 2)
#define NPT_ACCESSED (UINT64_C(1) << 5)
#define NPT_DIRTY (UINT64_C(1) << 6)
#define NPT_LARGE (UINT64_C(1) << 7)
#define NPT_RESERVED (UINT64_C(1) << 51)
#define NPT_NO_EXECUTE (UINT64_C(1) << 63)

static uint64_t table_address(size_t number)
{
    return ORACLE_IMAGE_ADDRESS + PAGE_BYTES_4K * (1 + number);
}

static size_t number_of_table(const struct dump *dump, const uint64_t *table)
{
    for (size_t i = 0; i < dump->table_count; i++) {
        if (dump->tables[i] == table) {
            return i;
        }
    }
    return SIZE_MAX;
}

static uint64_t frame_of_page(struct dump *dump, unsigned level, uint64_t hva)
{
    struct dump_page *page;
    size_t number;

    for (size_t i = 0; i < dump->page_count; i++) {
        if (dump->pages[i].hva == hva && dump->pages[i].level == level) {
            return dump->pages[i].address;
        }
    }
    REQUIRE(dump->page_count < PAGES_MAX, "too many pages are mapped");
    number = dump->level_page_count[level]++ % frame_areas[level].count;
    page = &dump->pages[dump->page_count++];
    page->hva = hva;
    page->level = level;
    page->address = frame_areas[level].first + number * level_bytes(level);
    return page->address;
}

/* An EPT entry, relocated already, as AMD would say it: a misconfiguration has a reserved bit. */
static uint64_t entry_as_npt(unsigned level, uint64_t entry)
{
    uint64_t npt = NPT_PRESENT | NPT_USER;

    if (entry_is_mmio(entry)) {
        return npt | NPT_RESERVED;
    }
    REQUIRE((entry & EPT_READ) != 0, "%#llx is execute-only: NPT cannot say that",
            (unsigned long long)entry);
    npt |= entry & EPT_ADDRESS;
    npt |= (entry & EPT_WRITE) != 0 ? NPT_WRITE : 0;
    npt |= (entry & EPT_EXECUTE) == 0 ? NPT_NO_EXECUTE : 0;
    npt |= (entry & EPT_ACCESSED) != 0 ? NPT_ACCESSED : 0;
    if (entry_is_leaf(level, entry)) {
        npt |= level > 1 ? NPT_LARGE : 0;
        npt |= (entry & EPT_DIRTY) != 0 ? NPT_DIRTY : 0;
    }
    return npt;
}

static uint64_t relocate(struct dump *dump, unsigned level, uint64_t entry)
{
    uint64_t address = entry & EPT_ADDRESS;
    uint64_t relocated = entry;

    if (entry_is_table(level, entry)) {
        address = table_address(number_of_table(dump, entry_table(entry)));
    } else if (entry_is_leaf(level, entry)) {
        address = frame_of_page(dump, level, address);
    }
    relocated = (entry & ~EPT_ADDRESS) | address;
    return dump->format == ORACLE_FORMAT_EPT ? relocated : entry_as_npt(level, relocated);
}

/* mmu_visit() goes through the tables with one of these. */
struct copying {
    struct dump *dump;
    uint64_t *words;
};

static void copy_entry(void *opaque, unsigned level, struct gfn first, const uint64_t *table,
                       uint64_t entry)
{
    struct copying *copying = opaque;
    struct dump *dump = copying->dump;
    size_t number = number_of_table(dump, table);

    REQUIRE(number != SIZE_MAX, "a new table");
    copying->words[number * EPT_ENTRIES + level_index(level, first)] = relocate(dump, level, entry);
}

static void number_tables(void *opaque, unsigned level, struct gfn first, const uint64_t *table,
                          uint64_t entry)
{
    struct dump *dump = opaque;

    (void)first;
    (void)table;
    if (entry_is_table(level, entry)) {
        REQUIRE(dump->table_count < TABLES_MAX, "too many tables");
        dump->tables[dump->table_count++] = entry_table(entry);
    }
}

static void visit(struct dump *dump, mmu_visit_fn *function, void *opaque)
{
    lock_take(&dump->mmu->core->slots_lock);
    mmu_visit(dump->mmu, dump->space, function, opaque);
    lock_drop(&dump->mmu->core->slots_lock);
}

static void *allocate(size_t count, size_t size_bytes)
{
    void *memory = calloc(count, size_bytes);

    REQUIRE(memory != NULL, "out of memory");
    return memory;
}

uint64_t *dump_again(struct dump *dump)
{
    struct copying copying = {dump, allocate(dump->table_count * EPT_ENTRIES, sizeof(uint64_t))};

    visit(dump, copy_entry, &copying);
    return copying.words;
}

void dump_take(struct dump *dump, struct mmu *mmu, unsigned space, enum oracle_format format)
{
    memset(dump, 0, sizeof(*dump));
    dump->mmu = mmu;
    dump->space = space;
    dump->format = format;
    dump->tables = allocate(TABLES_MAX, sizeof(dump->tables[0]));
    dump->pages = allocate(PAGES_MAX, sizeof(dump->pages[0]));
    dump->tables[0] = atomic_load(&mmu->roots[space]);
    dump->table_count = 1;
    visit(dump, number_tables, dump);
    dump->words = dump_again(dump);
}

void dump_drop(struct dump *dump)
{
    free(dump->tables);
    free(dump->pages);
    free(dump->words);
}

/* Does an entry of the dump lead to a table, and to which? SIZE_MAX: it does not. */
static size_t table_below(const struct dump *dump, unsigned level, uint64_t entry)
{
    bool is_table =
        dump->format == ORACLE_FORMAT_EPT
            ? entry_is_table(level, entry)
            : level > 1 && (entry & NPT_PRESENT) != 0 && (entry & (NPT_LARGE | NPT_RESERVED)) == 0;

    if (!is_table) {
        return SIZE_MAX;
    }
    return ((entry & EPT_ADDRESS) - table_address(0)) / PAGE_BYTES_4K;
}

unsigned dump_walk(const struct dump *dump, uint64_t gpa, size_t indices[EPT_LEVELS_MAX])
{
    unsigned count = 0;
    size_t number = 0;

    for (unsigned level = dump->mmu->levels; number != SIZE_MAX; level--) {
        indices[count] = number * EPT_ENTRIES + level_index(level, gfn_of(gpa));
        number = table_below(dump, level, dump->words[indices[count]]);
        count++;
    }
    return count;
}

bool dump_is_host(const struct dump *dump, uint64_t address, uint64_t host)
{
    for (size_t i = 0; i < dump->page_count; i++) {
        const struct dump_page *page = &dump->pages[i];

        if (range_holds(page->address, level_bytes(page->level), address, 1) &&
            page->hva + (address - page->address) == host) {
            return true;
        }
    }
    return false;
}

/* Frames that are used; shared ones once. */
static size_t make_frames(const struct dump *dump, struct oracle_frame *frames)
{
    size_t count = 0;

    for (unsigned level = 1; level <= EPT_LEAF_LEVEL_MAX; level++) {
        for (size_t i = 0; i < dump->level_page_count[level] && i < frame_areas[level].count; i++) {
            frames[count].address = frame_areas[level].first + i * level_bytes(level);
            frames[count].size_bytes = level_bytes(level);
            count++;
        }
    }
    return count;
}

static void write_all(FILE *file, const void *bytes, size_t count)
{
    REQUIRE(fwrite(bytes, 1, count, file) == count, "the image cannot be written");
}

void dump_write(const struct dump *dump, FILE *file, uint64_t window_gpa,
                const struct oracle_query *queries, size_t query_count)
{
    static const uint8_t zeroes[PAGE_BYTES_4K];
    struct oracle_frame *frames = allocate(PAGES_MAX, sizeof(frames[0]));
    struct oracle_image image = {
        .magic = ORACLE_IMAGE_MAGIC,
        .format = dump->format,
        .levels = dump->mmu->levels,
        .root = table_address(0),
        .window_gpa = window_gpa,
        .tables_offset = PAGE_BYTES_4K,
        .table_count = dump->table_count,
        .frames_offset = PAGE_BYTES_4K * (1 + dump->table_count),
        .frame_count = make_frames(dump, frames),
        .query_count = query_count,
    };

    if (dump->format == ORACLE_FORMAT_EPT) {
        image.root |= 6 | (image.levels - 1) << 3 | 1u << 6; /* write-back, levels, A/D flags */
    }
    image.queries_offset = image.frames_offset + image.frame_count * sizeof(frames[0]);
    image.size_bytes = image.queries_offset + query_count * sizeof(queries[0]);
    write_all(file, &image, sizeof(image));
    write_all(file, zeroes, PAGE_BYTES_4K - sizeof(image));
    write_all(file, dump->words, dump->table_count * PAGE_BYTES_4K);
    write_all(file, frames, image.frame_count * sizeof(frames[0]));
    write_all(file, queries, query_count * sizeof(queries[0]));
    free(frames);
}
