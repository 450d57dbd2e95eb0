/* conformance/system/arena.c - the plain arena. */
#include "arena.h"

#include <string.h>

#define PORT_OUT 0xe6
#define GATE_BYTES_LONG 16u

static void put(uint8_t *arena, unsigned offset, uint64_t value, unsigned byte_count)
{
    memcpy(arena + offset, &value, byte_count);
}

/* A descriptor of base, limit as it is stored, access byte, and G, D/B, L, AVL. */
static uint64_t descriptor(uint32_t base, uint32_t limit, unsigned access, unsigned flags)
{
    return (limit & 0xffff) | (uint64_t)(base & 0xffffff) << 16 | (uint64_t)access << 40 |
           (uint64_t)(limit >> 16 & 15) << 48 | (uint64_t)flags << 52 |
           (uint64_t)(base >> 24) << 56;
}

static void put_descriptor(uint8_t *arena, unsigned selector, uint64_t value)
{
    put(arena, ARENA_GDT + (selector & ~7u), value, 8);
}

static void put_gdt(uint8_t *arena)
{
    static const struct {
        uint16_t selector;
        uint8_t access, flags;
    } flat[] = {
        {SELECTOR_CODE32, 0x9b, 0xc},       {SELECTOR_DATA32, 0x93, 0xc},
        {SELECTOR_CODE64, 0x9b, 0xa},       {SELECTOR_USER_CODE32, 0xfb, 0xc},
        {SELECTOR_USER_DATA32, 0xf3, 0xc},  {SELECTOR_USER_CODE64, 0xfb, 0xa},
        {SELECTOR_CONFORMING, 0x9f, 0xc},   {SELECTOR_RING1_CODE, 0xbb, 0xc},
        {SELECTOR_RING1_DATA, 0xb3, 0xc},   {SELECTOR_RING2_CODE, 0xdb, 0xc},
        {SELECTOR_RING2_DATA, 0xd3, 0xc},   {SELECTOR_READ_ONLY, 0x91, 0xc},
        {SELECTOR_EXECUTE_ONLY, 0x99, 0xc}, {SELECTOR_ABSENT, 0x13, 0xc},
        {SELECTOR_CONFORMING64, 0x9f, 0xa},
    };

    for (unsigned i = 0; i < sizeof(flat) / sizeof(flat[0]); i++) {
        put_descriptor(arena, flat[i].selector,
                       descriptor(0, 0xfffff, flat[i].access, flat[i].flags));
    }
    put_descriptor(arena, SELECTOR_CODE16, descriptor(0, 0xffff, 0x9b, 0));
    put_descriptor(arena, SELECTOR_DATA16, descriptor(0, 0xffff, 0x93, 0));
    put_descriptor(arena, SELECTOR_USER_CODE16, descriptor(0, 0xffff, 0xfb, 0));
    put_descriptor(arena, SELECTOR_USER_DATA16, descriptor(0, 0xffff, 0xf3, 0));
    put_descriptor(arena, SELECTOR_DOWN32, descriptor(0, 0x6fff, 0x97, 4));
    put_descriptor(arena, SELECTOR_DOWN16, descriptor(0, 0x6fff, 0x97, 0));
    put_descriptor(arena, SELECTOR_SHORT, descriptor(0, 0x80ff, 0x93, 4));
    put_descriptor(arena, SELECTOR_TSS32, descriptor(ARENA_TSS32, ARENA_TSS_LIMIT, 0x8b, 0));
    put_descriptor(arena, SELECTOR_TSS16, descriptor(ARENA_TSS16, ARENA_TSS_LIMIT, 0x83, 0));
    put_descriptor(arena, SELECTOR_TSS64, descriptor(ARENA_TSS64, ARENA_TSS_LIMIT, 0x8b, 0));
    put_descriptor(arena, SELECTOR_LDT, descriptor(ARENA_LDT, ARENA_LDT_LIMIT, 0x82, 0));
    put_descriptor(arena, SELECTOR_FREE_TSS32, descriptor(ARENA_TSS32, ARENA_TSS_LIMIT, 0x89, 0));
    put_descriptor(arena, SELECTOR_FREE_TSS16, descriptor(ARENA_TSS16, ARENA_TSS_LIMIT, 0x81, 0));
    put_descriptor(arena, SELECTOR_FREE_TSS64, descriptor(ARENA_TSS64, ARENA_TSS_LIMIT, 0x89, 0));
    memcpy(arena + ARENA_LDT, arena + ARENA_GDT, ARENA_LDT_LIMIT + 1);
}

static void put_tss(uint8_t *arena)
{
    static const uint16_t stacks[] = {SELECTOR_DATA32, SELECTOR_RING1_DATA, SELECTOR_RING2_DATA};

    for (unsigned level = 0; level < 3; level++) {
        unsigned sp = ARENA_SP_TSS + 0x80 * level;

        put(arena, ARENA_TSS32 + 4 + 8 * level, sp | (uint64_t)stacks[level] << 32, 8);
        put(arena, ARENA_TSS16 + 2 + 4 * level, sp | (uint32_t)stacks[level] << 16, 4);
        put(arena, ARENA_TSS64 + 4 + 8 * level, sp, 8);
    }
    for (unsigned i = 0; i < 7; i++) {
        put(arena, ARENA_TSS64 + 0x24 + 8 * i, ARENA_SP_IST + 0x80 * i, 8);
    }
    put(arena, ARENA_TSS32 + 0x66, ARENA_TSS_BITMAP, 2);
    put(arena, ARENA_TSS64 + 0x66, ARENA_TSS_BITMAP, 2);
}

/* Interrupt gates. INT3 and INTO, and what a case calls by INT n, are for all. */
static void put_gates(uint8_t *arena)
{
    for (unsigned i = 0; i < 256; i++) {
        unsigned handler = ARENA_HANDLERS + ARENA_HANDLER_BYTES * i;
        uint64_t level = i == 3 || i == 4 || i >= 0x30 ? 0x60 : 0;
        uint64_t gate = handler | (0x80 | level) << 40;

        put(arena, ARENA_IVT + 4 * i, handler, 4);
        put(arena, ARENA_IDT32 + 8 * i, gate | SELECTOR_CODE32 << 16 | UINT64_C(0xe) << 40, 8);
        put(arena, ARENA_IDT16 + 8 * i, gate | SELECTOR_CODE16 << 16 | UINT64_C(0x6) << 40, 8);
        put(arena, ARENA_IDT64 + GATE_BYTES_LONG * i,
            gate | SELECTOR_CODE64 << 16 | UINT64_C(0xe) << 40, 8);
        put(arena, handler, PORT_OUT | SYSTEM_PORT << 8 | 0xfeeb0000u,
            4); /* and a jump to itself */
    }
}

static void put_page_tables(uint8_t *arena)
{
    put(arena, ARENA_PML4, ARENA_PDPT | ARENA_PTE, 8);
    put(arena, ARENA_PDPT, ARENA_PD | ARENA_PTE, 8);
    put(arena, ARENA_PAE_PDPT, ARENA_PD | 1, 8);
    put(arena, ARENA_PD, ARENA_PT | ARENA_PTE, 8);
    put(arena, ARENA_PD32, ARENA_PT32 | ARENA_PTE, 4);
    for (unsigned page = 0; page < SYSTEM_ARENA_BYTES / 0x1000; page++) {
        put(arena, ARENA_PT + 8 * page, page << 12 | ARENA_PTE, 8);
        put(arena, ARENA_PT32 + 4 * page, page << 12 | ARENA_PTE, 4);
    }
}

/* Ways back, 32 bytes each: plain IRET; without and with an error code, behind the slot. By 16, 32, 64 bits. */
static void put_bodies(uint8_t *arena)
{
    static const char *const bodies[3][3] = {
        {"\xcf", "\x55\x89\xe5\x83\x4e\x02\x1f\xff\x46\x02\x5d\xcf",
         "\x55\x89\xe5\x83\x4e\x04\x1f\xff\x46\x04\x5d\x83\xc4\x02\xcf"},
        {"\xcf", "\x83\x0c\x24\x1f\xff\x04\x24\xcf",
         "\x83\xc4\x04\x83\x0c\x24\x1f\xff\x04\x24\xcf"},
        {"\x48\xcf", "\x48\x83\x0c\x24\x1f\x48\xff\x04\x24\x48\xcf",
         "\x48\x83\xc4\x08\x48\x83\x0c\x24\x1f\x48\xff\x04\x24\x48\xcf"},
    };

    for (unsigned size = 0; size < 3; size++) {
        for (unsigned kind = 0; kind < 3; kind++) {
            memcpy(arena + ARENA_BODIES + 0x80 * size + 0x20 * kind, bodies[size][kind],
                   strlen(bodies[size][kind]));
        }
    }
}

void arena_make(uint8_t arena[SYSTEM_ARENA_BYTES])
{
    memset(arena, 0, SYSTEM_ARENA_BYTES);
    put_gdt(arena);
    put_tss(arena);
    put_gates(arena);
    put_page_tables(arena);
    put_bodies(arena);
}

/* Traps and interrupts have their return address behind the instruction already. */
static int is_fault(unsigned vector)
{
    return vector < 32 && vector != 1 && vector != 2 && vector != 3 && vector != 4;
}

void arena_go_on(uint8_t arena[SYSTEM_ARENA_BYTES], unsigned vector, unsigned bits)
{
    unsigned at = ARENA_HANDLERS + ARENA_HANDLER_BYTES * vector;
    unsigned kind = !is_fault(vector) ? 0 : arena_has_error_code(vector) ? 2 : 1;
    unsigned body = ARENA_BODIES + (bits == 16 ? 0 : bits == 32 ? 0x80 : 0x100) + 0x20 * kind;

    put(arena, at, 0xe9, 1);
    if (bits == 16) {
        put(arena, at + 1, body - (at + 3), 2);
    } else {
        put(arena, at + 1, body - (at + 5), 4);
    }
}
