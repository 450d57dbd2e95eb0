/* soft_guest.c - page tables and code of the guest of a script. */
#include "soft_guest.h"

#include <string.h>

/* Intel SDM 3A, "4-Level Paging". All are marked as used, so that nobody has to write to them. */
#define PTE_PRESENT 0x01u
#define PTE_WRITABLE 0x02u
#define PTE_ACCESSED 0x20u
#define PTE_DIRTY 0x40u
#define PTE_LARGE 0x80u
#define TABLE_FLAGS (PTE_PRESENT | PTE_WRITABLE | PTE_ACCESSED | PTE_DIRTY)
#define LEAF_FLAGS (PTE_PRESENT | PTE_ACCESSED | PTE_DIRTY | PTE_LARGE)

#define TABLE_BYTES 4096u
#define ENTRIES 512u
#define LEAF_SHIFT 21
#define GIBIBYTES (SCRIPT_GVA_END >> 30)

/* The pages of the slot. */
enum {
    PAGE_ROOT = 0,
    PAGE_POINTERS = 1, /* of the writable mapping; then of the read-only one */
    PAGE_DIRECTORIES = 3,
    PAGE_CODE = 13,
};

#define CODE_BYTES 16u

/* Operands: RDI address, RAX value, RSI source, RCX count. Each ends with hlt. */
static const uint8_t code[][CODE_BYTES] = {
    {0x8a, 0x07, 0xf4},             /* mov al, [rdi] */
    {0x66, 0x8b, 0x07, 0xf4},       /* mov ax, [rdi] */
    {0x8b, 0x07, 0xf4},             /* mov eax, [rdi] */
    {0x48, 0x8b, 0x07, 0xf4},       /* mov rax, [rdi] */
    {0x88, 0x07, 0xf4},             /* mov [rdi], al */
    {0x66, 0x89, 0x07, 0xf4},       /* mov [rdi], ax */
    {0x89, 0x07, 0xf4},             /* mov [rdi], eax */
    {0x48, 0x89, 0x07, 0xf4},       /* mov [rdi], rax */
    {0xff, 0xe7},                   /* jmp rdi */
    {0xf0, 0x48, 0x01, 0x07, 0xf4}, /* lock add [rdi], rax */
    {0xf3, 0xa4, 0xf4},             /* rep movsb */
};
enum { CODE_LOAD = 0, CODE_STORE = 4, CODE_JUMP = 8, CODE_ADD = 9, CODE_MOVE = 10 };

static uint64_t page_gpa(unsigned page)
{
    return SCRIPT_GUEST_GPA + page * TABLE_BYTES;
}

void script_guest_fill(void *memory)
{
    uint64_t(*tables)[ENTRIES] = memory;
    unsigned mapping;
    unsigned gibibyte;
    unsigned i;

    memset(memory, 0, SCRIPT_GUEST_BYTES);
    for (mapping = 0; mapping < 2; mapping++) {
        unsigned pointers = PAGE_POINTERS + mapping;

        tables[PAGE_ROOT][mapping] = page_gpa(pointers) | TABLE_FLAGS;
        for (gibibyte = 0; gibibyte < GIBIBYTES; gibibyte++) {
            unsigned directory = PAGE_DIRECTORIES + mapping * (unsigned)GIBIBYTES + gibibyte;

            tables[pointers][gibibyte] = page_gpa(directory) | TABLE_FLAGS;
            for (i = 0; i < ENTRIES; i++) {
                uint64_t frame = ((uint64_t)gibibyte * ENTRIES + i) << LEAF_SHIFT;

                tables[directory][i] = frame | LEAF_FLAGS | (mapping == 0 ? PTE_WRITABLE : 0);
            }
        }
    }
    memcpy(tables[PAGE_CODE], code, sizeof(code));
}

/* 1, 2, 4, 8 to 0, 1, 2, 3. */
static unsigned size_index(unsigned size_bytes)
{
    return (unsigned)__builtin_ctz(size_bytes);
}

uint64_t script_guest_rip(const struct script_access *access)
{
    unsigned index = 0;

    switch (access->kind) {
    case ACCESS_STORE:
        index = CODE_STORE + size_index(access->size_bytes);
        break;
    case ACCESS_LOAD:
        index = CODE_LOAD + size_index(access->size_bytes);
        break;
    case ACCESS_ADD:
        index = CODE_ADD;
        break;
    case ACCESS_MOVE:
        index = CODE_MOVE;
        break;
    case ACCESS_JUMP:
        index = CODE_JUMP;
        break;
    }
    return page_gpa(PAGE_CODE) + (uint64_t)index * CODE_BYTES;
}
