/*
 * guest/kernel/space.c - address spaces of processes: their mappings, what page faults find there, and what a fork
 * shares.
 */
#include "guest/kernel/kernel.h"

static struct space spaces[SPACES];

static struct region *find_region(struct space *space, u64 address)
{
    for (u32 i = 0; i < SPACE_REGIONS; i++) {
        struct region *region = &space->regions[i];

        if (region->start <= address && address < region->end) {
            return region;
        }
    }
    return NULL;
}

/* The stack below which the address is, not too far. */
static struct region *find_stack(struct space *space, u64 address)
{
    for (u32 i = 0; i < SPACE_REGIONS; i++) {
        struct region *region = &space->regions[i];

        if ((region->flags & MAP_STACK) != 0 && address < region->start &&
            address >= region->end - USER_STACK_BYTES) {
            return region;
        }
    }
    return NULL;
}

struct space *space_new(void)
{
    for (u32 i = 0; i < SPACES; i++) {
        struct space *space = &spaces[i];

        if (space->threads == 0) {
            *space = (struct space){.root = frame_new(), .pcid = i + 1, .threads = 1};
            space->is_stale[0] = space->is_stale[1] = true;
            for (u32 j = 256; j < 512; j++) {
                ((u64 *)at(space->root))[j] = ((u64 *)at(kernel_root))[j];
            }
            return space;
        }
    }
    panic("no address space is left of ", SPACES);
}

void space_load(struct space *space)
{
    struct cpu *cpu = this_cpu();
    bool has_pcid = (board->features & FEATURE_PCID) != 0;
    u64 root = space != NULL ? space->root : kernel_root;

    if (cpu->space == space) {
        return;
    }
    if (has_pcid && space != NULL) {
        root |= space->pcid | (space->is_stale[cpu->number] ? 0 : CR3_KEEP);
    }
    if (space != NULL) {
        space->is_stale[cpu->number] = false;
    }
    cpu->space = space;
    write_cr3(root);
    COUNT(SWITCH);
}

static bool put_region(struct space *space, const struct region *region)
{
    for (u32 i = 0; i < SPACE_REGIONS; i++) {
        if (space->regions[i].end == 0) {
            space->regions[i] = *region;
            return true;
        }
    }
    return false;
}

bool space_add(struct space *space, const struct region *region)
{
    u64 mask = (region->flags & MAP_LARGE) != 0 ? GUEST_BLOCK - 1 : GUEST_PAGE - 1;

    if (region->start >= region->end || region->end > USER_END ||
        ((region->start | region->end) & mask) != 0) {
        return false;
    }
    for (u32 i = 0; i < SPACE_REGIONS; i++) {
        const struct region *other = &space->regions[i];

        if (other->start < region->end && region->start < other->end) {
            return false;
        }
    }
    return put_region(space, region);
}

/* A large page becomes 512 small ones that map the same, by the same rights. */
static void split(u64 *large)
{
    u64 table = frame_new();

    for (u64 i = 0; i < 512; i++) {
        ((u64 *)at(table))[i] = (*large & ~PTE_LARGE) + i * GUEST_PAGE;
    }
    *large = table | PTE_PRESENT | PTE_WRITE | PTE_USER;
    COUNT(SPLIT);
}

/* The entry for a page, small in any case; NULL: nothing has been mapped near it. */
static u64 *small_entry(struct space *space, u64 address)
{
    u64 *large = table_entry(space->root, address, 2, false);

    if (large == NULL || (*large & PTE_PRESENT) == 0) {
        return NULL;
    }
    if ((*large & PTE_LARGE) != 0) {
        split(large);
    }
    return table_entry(space->root, address, 1, false);
}

static void unmap(struct space *space, u64 start, u64 end)
{
    for (u64 address = start; address < end; address += GUEST_PAGE) {
        u64 *entry = small_entry(space, address);
        u64 old = entry != NULL ? *entry : 0;

        if ((old & PTE_PRESENT) != 0) {
            *entry = 0;
            space_flush(space, address);
            frame_put(old & PTE_FRAME);
        }
    }
}

bool space_remove(struct space *space, u64 start, u64 end)
{
    struct region *region = find_region(space, start);
    struct region rest;

    if (region == NULL || start >= end || end > region->end ||
        ((start | end) & (GUEST_PAGE - 1)) != 0) {
        return false;
    }
    rest = (struct region){end, region->end, region->flags, region->file + (end - region->start)};
    region->end = start;
    if (region->start == region->end) {
        *region = (struct region){0};
    }
    unmap(space, start, end);
    return rest.start == rest.end || put_region(space, &rest);
}

bool space_protect(struct space *space, u64 start, u64 end, u32 flags)
{
    const u32 rights = MAP_READ | MAP_WRITE | MAP_EXECUTE;
    struct region *region = find_region(space, start);

    if (region == NULL || region->start != start || region->end != end) {
        return false;
    }
    region->flags = (region->flags & ~rights) | (flags & rights);
    /* Rights come back page by page, in faults. */
    for (u64 address = start; address < end; address += GUEST_PAGE) {
        u64 *entry = small_entry(space, address);

        if (entry != NULL && (*entry & PTE_PRESENT) != 0) {
            *entry &= ~PTE_WRITE;
            *entry =
                (flags & MAP_EXECUTE) != 0 ? *entry & ~PTE_NO_EXECUTE : *entry | PTE_NO_EXECUTE;
            space_flush(space, address);
        }
    }
    return true;
}

static u64 leaf_rights(const struct region *region)
{
    return PTE_PRESENT | PTE_USER | ((region->flags & MAP_EXECUTE) != 0 ? 0 : PTE_NO_EXECUTE);
}

bool space_replace(struct space *space, u64 page, u64 value)
{
    struct region *region = find_region(space, page);
    u64 *entry = table_entry(space->root, page, 1, false);
    u64 frame, old;

    if (region == NULL || entry == NULL || (*entry & PTE_PRESENT) == 0) {
        return false;
    }
    frame = frame_new();
    for (u64 i = 0; i < GUEST_PAGE / sizeof(u64); i++) {
        ((u64 *)at(frame))[i] = value;
    }
    old = *entry;
    *entry = frame | leaf_rights(region) | ((region->flags & MAP_WRITE) != 0 ? PTE_WRITE : 0);
    space_flush(space, page);
    frame_put(old & PTE_FRAME);
    return true;
}

static u64 frame_copy(u64 frame)
{
    u64 copy = frame_new();
    u64 *to = at(copy), *from = at(frame), words = GUEST_PAGE / 8;

    __asm__ volatile("rep movsq" : "+D"(to), "+S"(from), "+c"(words) : : "memory");
    return copy;
}

/* The first access to a page. */
static void fill_page(const struct region *region, u64 *entry, u64 page, bool is_write)
{
    u64 rights = leaf_rights(region) | (is_write ? PTE_WRITE : 0);

    if ((region->flags & MAP_FILE) != 0) {
        u64 frame = region->file + (page - region->start);

        if (is_write) {
            COUNT(COPY);
            frame = frame_copy(frame);
        } else {
            COUNT(FILE);
        }
        *entry = frame | rights;
    } else if (is_write) {
        COUNT(ANONYMOUS);
        *entry = frame_new() | rights;
    } else {
        COUNT(ZERO);
        *entry = frame_zero() | rights;
    }
}

/* The first write to a page that may be shared. */
static void unshare_page(struct space *space, u64 *entry, u64 page)
{
    u64 old = *entry;

    if (frame_is_shared(old & PTE_FRAME)) {
        COUNT(COPY);
        *entry = frame_copy(old & PTE_FRAME) | (old & ~PTE_FRAME) | PTE_WRITE;
        space_flush(space, page); /* the frame is another */
        frame_put(old & PTE_FRAME);
    } else {
        COUNT(REUSE);
        *entry = old | PTE_WRITE;
        invlpg(page); /* others have fewer rights, and will fault */
    }
}

/* A fault in a mapping by large pages. Return: has it been handled? Else a small page is there. */
static bool fault_large(struct space *space, const struct region *region, u64 address,
                        bool is_write)
{
    u64 *large = table_entry(space->root, address, 2, true);
    u64 start = address & ~(GUEST_BLOCK - 1);

    if ((*large & PTE_PRESENT) == 0) {
        if (start < region->start || start + GUEST_BLOCK > region->end) {
            return false; /* a hole was made in it */
        }
        COUNT(LARGE);
        *large = block_new() | leaf_rights(region) | PTE_LARGE |
                 ((region->flags & MAP_WRITE) != 0 ? PTE_WRITE : 0);
        return true;
    }
    if ((*large & PTE_LARGE) == 0) {
        return false;
    }
    if (is_write && (*large & PTE_WRITE) == 0) {
        split(large);
        space_flush(space, address);
        return false;
    }
    COUNT(SPURIOUS);
    return true;
}

static struct region *grow_stack(struct space *space, u64 page)
{
    struct region *stack = find_stack(space, page);

    if (stack != NULL) {
        board->counters[COUNTER_GROWTH] += (stack->start - page) / GUEST_PAGE;
        stack->start = page;
    }
    return stack;
}

bool space_fault(struct space *space, u64 address, u64 error)
{
    u64 page = address & ~(GUEST_PAGE - 1);
    bool is_write = (error & PF_WRITE) != 0;
    struct region *region = find_region(space, address);
    u64 *entry;

    if (address >= USER_END) {
        return false;
    }
    region = region != NULL ? region : grow_stack(space, page);
    if (region == NULL || (region->flags & MAP_READ) == 0 ||
        (is_write && (region->flags & MAP_WRITE) == 0) ||
        ((error & PF_FETCH) != 0 && (region->flags & MAP_EXECUTE) == 0)) {
        return false;
    }
    if ((region->flags & MAP_LARGE) != 0 && fault_large(space, region, address, is_write)) {
        return true;
    }
    entry = table_entry(space->root, page, 1, true);
    if ((*entry & PTE_PRESENT) == 0) {
        fill_page(region, entry, page, is_write);
    } else if (is_write && (*entry & PTE_WRITE) == 0) {
        unshare_page(space, entry, page);
    } else {
        COUNT(SPURIOUS);
    }
    return true;
}

/* Call @visit for each entry of the process's half that leads anywhere, tables after what is in them. */
typedef void visit_fn(u64 *entry, unsigned level, u64 address, void *opaque);
static void visit(u64 table, unsigned level, u64 address, visit_fn *each, void *opaque)
{
    for (u64 i = 0; i < (level == 4 ? 256 : 512); i++) {
        u64 *entry = (u64 *)at(table) + i;
        u64 there = address | i << (3 + 9 * level);

        if ((*entry & PTE_PRESENT) == 0) {
            continue;
        }
        if (level > 1 && (*entry & PTE_LARGE) == 0) {
            visit(*entry & PTE_FRAME, level - 1, there, each, opaque);
        }
        each(entry, level, there, opaque);
    }
}

static bool is_leaf(u64 entry, unsigned level)
{
    return level == 1 || (entry & PTE_LARGE) != 0;
}

static void share_leaf(u64 *entry, unsigned level, u64 address, void *opaque)
{
    struct space *child = opaque;

    if (!is_leaf(*entry, level)) {
        return;
    }
    *entry &= ~PTE_WRITE;
    for (u64 i = 0; i < (level == 1 ? 1 : 512); i++) {
        frame_get((*entry & PTE_FRAME) + i * GUEST_PAGE);
    }
    *table_entry(child->root, address, level, true) = *entry;
}

struct space *space_fork(struct space *parent)
{
    struct space *child = space_new();

    for (u32 i = 0; i < SPACE_REGIONS; i++) {
        child->regions[i] = parent->regions[i];
    }
    visit(parent->root, 4, 0, share_leaf, child);
    space_flush(parent, UINT64_MAX);
    return child;
}

static void free_entry(u64 *entry, unsigned level, u64 address, void *opaque)
{
    u64 count = level != 1 && is_leaf(*entry, level) ? 512 : 1;

    (void)address;
    (void)opaque;
    for (u64 i = 0; i < count; i++) {
        frame_put((*entry & PTE_FRAME) + i * GUEST_PAGE);
    }
}

void space_put(struct space *space)
{
    if (--space->threads == 0) {
        space_load(NULL);
        visit(space->root, 4, 0, free_entry, NULL);
        frame_put(space->root);
    }
}
