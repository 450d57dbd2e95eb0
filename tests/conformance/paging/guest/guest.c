/* conformance/paging/guest/guest.c - answer the image's cases one after the other: see image.h. */
#include "guest.h"

#define MSR_EFER 0xc0000080u
#define CR4_PKE 0x400000u
#define FLAGS_ALWAYS 0x2u
#define FLAGS_AC 0x40000u
#define CR0_PG 0x80000000u

/* QEMU's isa-debug-exit, where run.py puts it. */
#define EXIT_PORT 0x501

#define IS_64 (sizeof(word_t) == 8)

/* Access bytes of descriptors: present, and the ring on top. */
#define ACCESS_CODE 0x9bu
#define ACCESS_DATA 0x93u
#define ACCESS_TSS 0x89u
#define ACCESS_LDT 0x82u
#define ACCESS_INTERRUPT_GATE 0x8eu
#define FLAGS_CODE (IS_64 ? 0xau : 0xcu) /* granularity, and long or 32-bit */
#define FLAGS_DATA 0xcu

#define TSS_BYTES 104u
#define TSS_RSP0 4u /* at this offset in both formats; then the 32-bit one has SS0 */

struct __attribute__((packed)) table_pointer {
    uint16_t last;
    word_t base;
};

struct __attribute__((packed)) gate {
    uint16_t offset_low;
    uint16_t selector;
    uint8_t stack;
    uint8_t access;
    uint16_t offset_middle;
#ifdef __x86_64__
    uint32_t offset_high;
    uint32_t unused;
#endif
};

static uint64_t gdt[GDT_COUNT];
static struct gate idt[VECTOR_COUNT];
static uint8_t tss[TSS_BYTES] __attribute__((aligned(8)));

/* A segment descriptor; of system segments in 64-bit mode also the 8 bytes behind it. */
static void describe(unsigned selector, uint64_t base, uint32_t last, unsigned access,
                     unsigned flags)
{
    uint64_t *descriptor = &gdt[selector / 8];

    descriptor[0] = (last & 0xffffu) | (base & 0xffffffu) << 16 | (uint64_t)access << 40 |
                    (uint64_t)(last >> 16 & 0xfu) << 48 | (uint64_t)flags << 52 |
                    (base >> 24 & 0xffu) << 56;
    if ((access & 0x10u) == 0 && IS_64) {
        descriptor[1] = base >> 32;
    }
}

static void set_up_segments(void)
{
    struct table_pointer gdt_pointer = {sizeof(gdt) - 1, (word_t)gdt};
    word_t stack = (word_t)stack_of_traps;

    for (unsigned ring = 0; ring <= 3; ring++) {
        describe(CODE_SELECTOR(ring) & ~7u, 0, 0xfffff, ACCESS_CODE | ring << 5, FLAGS_CODE);
        describe(DATA_SELECTOR(ring) & ~7u, 0, 0xfffff, ACCESS_DATA | ring << 5, FLAGS_DATA);
    }
    __builtin_memcpy(&tss[TSS_RSP0], &stack, sizeof(stack));
    if (!IS_64) {
        tss[8] = DATA_SELECTOR(0);
    }
    describe(TSS_SELECTOR, (word_t)tss, TSS_BYTES - 1, ACCESS_TSS, 0);
    __asm__ volatile("lgdt %0" : : "m"(gdt_pointer));
    /* Data segments that every ring may use, so that no change of ring takes them away. */
    __asm__ volatile("mov %0, %%ds; mov %0, %%es" : : "r"(DATA_SELECTOR(3)));
    __asm__ volatile("mov %0, %%ss" : : "r"(DATA_SELECTOR(0)));
    __asm__ volatile("ltr %w0" : : "r"(TSS_SELECTOR));
}

static void set_up_gates(void)
{
    struct table_pointer idt_pointer = {sizeof(idt) - 1, (word_t)idt};

    for (unsigned i = 0; i < VECTOR_COUNT; i++) {
        word_t offset = vector_entries[i];
        unsigned ring = i == PAGING_VECTOR_DONE ? 3 : 0; /* who may call it */

        idt[i] = (struct gate){
            .offset_low = (uint16_t)offset,
            .selector = CODE_SELECTOR(0),
            .access = (uint8_t)(ACCESS_INTERRUPT_GATE | ring << 5),
            .offset_middle = (uint16_t)(offset >> 16),
        };
    }
    __asm__ volatile("lidt %0" : : "m"(idt_pointer));
}

/* The descriptor that LAR then reads is the word at @linear. */
static void aim_ldt(uint64_t linear)
{
    describe(LDT_SELECTOR, linear, 7, ACCESS_LDT, 0);
    __asm__ volatile("lldt %w0" : : "r"(LDT_SELECTOR));
}

static const uint8_t *stub_of(const struct paging_case *test)
{
    switch (test->kind) {
    case PAGING_KIND_READ:
        return stub_read;
    case PAGING_KIND_WRITE:
        return stub_write;
    case PAGING_KIND_FETCH:
        return stub_fetch;
    default:
        return stub_implicit;
    }
}

static void set_registers(const struct paging_case *test)
{
    write_msr(MSR_EFER, test->efer);
    write_cr4((word_t)test->cr4 | CR4_PKE);
    write_pkru(test->pkru);
    write_cr4((word_t)test->cr4);
    if (IS_64) {
        write_cr0(test->cr0); /* the 32-bit program turns paging on at the last moment */
    }
    write_cr3((word_t)test->cr3); /* a flush, too */
}

static void run_case(const struct paging_case *test)
{
    unsigned ring = test->ring;
    word_t stub = (word_t)stub_of(test);
    struct frame frame = {
        .rip = stub,
        .cs = CODE_SELECTOR(ring),
        .flags = FLAGS_ALWAYS | (test->ac != 0 ? FLAGS_AC : 0),
        .rsp = (word_t)stack_of_access,
        .ss = DATA_SELECTOR(ring),
        .linear = (word_t)test->linear,
        .value = test->written,
        .cr0 = test->cr0,
    };

    if (ring == 3 && (test->cr0 & CR0_PG) != 0) {
        frame.rip = stub - PAGING_STUB + PAGING_STUB_USER;
    }
    aim_ldt(test->linear);
    set_registers(test);
    take_access(&frame);
}

static uint64_t load_entry(const struct paging_image *image, uint64_t place)
{
    return image->entry_bytes == 4 ? *(volatile uint32_t *)(word_t)place
                                   : *(volatile uint64_t *)(word_t)place;
}

static void store_entry(const struct paging_image *image, uint64_t place, uint64_t value)
{
    if (image->entry_bytes == 4) {
        *(volatile uint32_t *)(word_t)place = (uint32_t)value;
    } else {
        *(volatile uint64_t *)(word_t)place = value;
    }
}

static void answer_case(const struct paging_image *image, const struct paging_case *test,
                        struct paging_answer *answer)
{
    for (unsigned i = 0; i < PAGING_LEVEL_COUNT; i++) {
        if (test->places[i] != 0) {
            store_entry(image, test->places[i], test->entries[i]);
        }
    }
    run_case(test);
    if (IS_64) {
        write_cr3((word_t)image->monitor_cr3);
    }
    for (unsigned i = 0; i < PAGING_LEVEL_COUNT; i++) {
        answer->entries[i] = test->places[i] != 0 ? load_entry(image, test->places[i]) : 0;
    }
    for (unsigned i = 0; i < PAGING_LEVEL_COUNT; i++) {
        if (test->places[i] != 0) {
            store_entry(image, test->places[i], 0);
        }
    }
    answer->cr2 = trap.cr2;
    answer->value = (uint32_t)trap.value;
    answer->vector = (uint32_t)trap.vector;
    answer->error_code = (uint32_t)trap.error_code;
}

void guest_main(void)
{
    struct paging_image *image = (struct paging_image *)(word_t)PAGING_IMAGE;
    const struct paging_case *cases = (const struct paging_case *)(word_t)PAGING_CASES;
    struct paging_answer *answers = (struct paging_answer *)(word_t)PAGING_ANSWERS;

    if (image->magic == PAGING_IMAGE_MAGIC) {
        set_up_segments();
        set_up_gates();
        for (uint32_t i = 0; i < image->case_count; i++) {
            answer_case(image, &cases[i], &answers[i]);
            *(volatile uint32_t *)&image->answer_count = i + 1;
        }
    }
    out8(EXIT_PORT, 0);
    for (;;) {
        __asm__ volatile("hlt");
    }
}
