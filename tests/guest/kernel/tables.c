/* guest/kernel/tables.c - page tables, and the kernel's half of them: text, data, and all of RAM by large pages. */
#include "guest/kernel/kernel.h"

u64 kernel_root;
extern u8 kernel_text_end[], kernel_end[];

u64 *table_entry(u64 root, u64 address, unsigned level, bool make)
{
    u64 table = root;

    for (unsigned at_level = 4;; at_level--) {
        u64 *entry = (u64 *)at(table) + (address >> (3 + 9 * at_level) & 511);

        if (at_level == level) {
            return entry;
        }
        if ((*entry & PTE_PRESENT) == 0) {
            if (!make) {
                return NULL;
            }
            *entry = frame_new() | PTE_PRESENT | PTE_WRITE | PTE_USER;
        } else if ((*entry & PTE_LARGE) != 0) {
            return NULL;
        }
        table = *entry & PTE_FRAME;
    }
}

void kernel_tables_init(void)
{
    u64 start = GUEST_KERNEL_BASE + GUEST_KERNEL;

    kernel_root = frame_new();
    for (u64 address = start; address < (u64)kernel_end; address += GUEST_PAGE) {
        bool is_text = address < (u64)kernel_text_end;

        *table_entry(kernel_root, address, 1, true) = (address - GUEST_KERNEL_BASE) | PTE_PRESENT |
                                                      PTE_GLOBAL |
                                                      (is_text ? 0 : PTE_WRITE | PTE_NO_EXECUTE);
    }
    for (u64 frame = 0; frame < GUEST_RAM_BYTES; frame += GUEST_BLOCK) {
        *table_entry(kernel_root, DIRECT + frame, 2, true) =
            frame | PTE_PRESENT | PTE_WRITE | PTE_LARGE | PTE_GLOBAL | PTE_NO_EXECUTE;
    }
}

/* The image's frames lie in a large page of their own. */
void kernel_tables_check(void)
{
    u64 address = DIRECT + GUEST_FRAMES - GUEST_PAGE;
    u64 *large = table_entry(kernel_root, address, 2, false);
    u64 old = *large;
    u64 table = frame_new();
    u64 *small = at(table);
    volatile u64 *word = (volatile u64 *)address;
    u64 value = *word;

    *word = 0x1234;
    /* The same by small pages, but for one, which is another. */
    for (u64 i = 0; i < 512; i++) {
        small[i] = (old & ~PTE_LARGE) + i * GUEST_PAGE;
    }
    small[511] = frame_new() | PTE_PRESENT | PTE_WRITE | PTE_NO_EXECUTE;
    *large = table | PTE_PRESENT | PTE_WRITE;
    invlpg(address);
    if (*word != 0) {
        panic("a large page that was split still translates ", address);
    }
    *word = 1;
    /* ... and back: what was stored is in the other frame. CR4.PGE flushes all. */
    *large = old;
    write_cr4(read_cr4() & ~CR4_PGE);
    write_cr4(read_cr4() | CR4_PGE);
    if (*word != 0x1234) {
        panic("small pages that were joined still translate ", address);
    }
    *word = value;
    frame_put(small[511] & PTE_FRAME);
    frame_put(table);
}
