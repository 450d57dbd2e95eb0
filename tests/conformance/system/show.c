/* conformance/system/show.c - a case that differs: its state and program, and what came of it on both sides. */
#include "show.h"

#include "arena.h"

#include <Zydis/Zydis.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#define WORDS (sizeof(struct system_state) / sizeof(uint64_t))
#define PROGRAM_LINES 60

static const char *const word_names[] = {
    "rax",         "rcx",    "rdx",   "rbx",   "rsp",   "rbp", "rsi",         "rdi",
    "r8",          "r9",     "r10",   "r11",   "r12",   "r13", "r14",         "r15",
    "rip",         "rflags", "cr0",   "cr2",   "cr3",   "cr4", "cr8",         "efer",
    "dr0",         "dr1",    "dr2",   "dr3",   "dr6",   "dr7", "xcr0",        "gdt",
    "idt",         "star",   "lstar", "cstar", "fmask", "kgs", "sysenter_cs", "sysenter_sp",
    "sysenter_ip", "limits", "pkru",
};
static const char *const segment_names[] = {"es", "cs", "ss", "ds", "fs", "gs", "ldt", "tr"};

/* Registers are words up to the segments. */
static void show_words(const struct system_state *before, const struct system_state *expected,
                       const struct system_state *got)
{
    const uint64_t *words[] = {(const uint64_t *)before, (const uint64_t *)expected,
                               (const uint64_t *)got};

    for (unsigned i = 0; i < sizeof(word_names) / sizeof(word_names[0]); i++) {
        bool differs = words[1][i] != words[2][i];

        if (differs || i < 8 || (i >= 16 && i <= 23 && words[0][i] != words[1][i])) {
            printf("  %-8s %16llx %16llx %16llx%s\n", word_names[i],
                   (unsigned long long)words[0][i], (unsigned long long)words[1][i],
                   (unsigned long long)words[2][i], differs ? "  differs" : "");
        }
    }
}

static void show_segment(const char *who, const struct system_segment *segment)
{
    printf(" %s %04x %llx+%x %04x", who, segment->selector, (unsigned long long)segment->base,
           segment->limit, segment->attributes);
}

static void show_segments(const struct system_state *before, const struct system_state *expected,
                          const struct system_state *got)
{
    for (unsigned i = 0; i < SYSTEM_SEGMENTS; i++) {
        printf("  %-3s", segment_names[i]);
        show_segment("before", &before->segment[i]);
        show_segment("| ours", &expected->segment[i]);
        if (memcmp(&expected->segment[i], &got->segment[i], sizeof(got->segment[i])) != 0) {
            show_segment("| QEMU", &got->segment[i]);
        }
        printf("\n");
    }
}

static unsigned code_bits(const struct system_state *state)
{
    unsigned attributes = state->segment[SYSTEM_CS].attributes;

    return (state->efer & 0x400) != 0 && (attributes & 0x2000) != 0 ? 64
           : (attributes & 0x4000) != 0                             ? 32
                                                                    : 16;
}

/* As the mode at the beginning has it. */
static void show_program(const uint8_t *arena, const struct system_state *state)
{
    unsigned bits = code_bits(state);
    ZydisMachineMode mode = bits == 64   ? ZYDIS_MACHINE_MODE_LONG_64
                            : bits == 32 ? ZYDIS_MACHINE_MODE_LEGACY_32
                                         : ZYDIS_MACHINE_MODE_LEGACY_16;
    unsigned at = ARENA_CODE;

    for (unsigned lines = 0;
         lines < PROGRAM_LINES && (arena[at] != 0xeb || arena[at - 1] != SYSTEM_PORT);) {
        ZydisDisassembledInstruction decoded;

        if (!ZYAN_SUCCESS(ZydisDisassembleIntel(mode, at, arena + at, 16, &decoded))) {
            printf("  %x: db %02x\n", at, arena[at]);
            at++;
            lines++;
            continue;
        }
        if (decoded.info.mnemonic != ZYDIS_MNEMONIC_NOP) {
            lines++;
            printf("  %x: %s\n", at, decoded.text);
        }
        at += decoded.info.length;
    }
}

/* Those that the other has not. */
static void show_changes(const char *who, const struct system_answer *answer,
                         const struct system_answer *other)
{
    printf("  %s: end %u, %u words changed, these alone:", who, answer->end, answer->change_count);
    for (unsigned i = 0; i < answer->change_count && i < SYSTEM_CHANGES_MAX; i++) {
        bool is_shared = false;

        for (unsigned j = 0; j < other->change_count && j < SYSTEM_CHANGES_MAX; j++) {
            is_shared |=
                memcmp(&answer->changes[i], &other->changes[j], sizeof(answer->changes[i])) == 0;
        }
        if (!is_shared) {
            printf(" [%x]=%08x", answer->changes[i].offset, answer->changes[i].value);
        }
    }
    printf("\n");
}

void show_case(const uint8_t plain[SYSTEM_ARENA_BYTES], const struct system_case *test,
               const struct system_answer *expected, const struct system_answer *got)
{
    static uint8_t arena[SYSTEM_ARENA_BYTES];

    memcpy(arena, plain, sizeof(arena));
    printf("  pending %x; patches:", test->pending);
    for (unsigned i = 0; i < test->patch_count; i++) {
        memcpy(arena + test->patches[i].offset, &test->patches[i].value, 4);
        if (test->patches[i].offset / 0x1000 != ARENA_CODE / 0x1000) {
            printf(" [%x]=%08x", test->patches[i].offset, test->patches[i].value);
        }
    }
    printf("\n");
    show_program(arena, &test->state);
    printf("                     before             ours             QEMU\n");
    show_words(&test->state, &expected->state, &got->state);
    show_segments(&test->state, &expected->state, &got->state);
    show_changes("ours", expected, got);
    show_changes("QEMU", got, expected);
}
