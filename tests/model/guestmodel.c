/* model/guestmodel.c - the guest's memory, with all that it ever held; and its registers. */
#include "model/guestmodel.h"
#include "model/require.h"

#include <stdlib.h>
#include <string.h>

#define HISTORY_FIRST 8u

void guest_memory_fini(struct guest_memory *memory)
{
    for (size_t i = 0; i < GUEST_WORDS; i++) {
        free(memory->histories[i]);
        memory->histories[i] = NULL;
    }
}

uint64_t guest_memory_place(uint64_t gpa)
{
    uint64_t low_bytes = (uint64_t)GUEST_LOW_PAGES * GUEST_PAGE;

    if (gpa < low_bytes) {
        return gpa;
    }
    if (gpa >= GUEST_HIGH_GPA && gpa - GUEST_HIGH_GPA < GUEST_BYTES - low_bytes) {
        return gpa - GUEST_HIGH_GPA + low_bytes;
    }
    return GUEST_NOWHERE;
}

uint64_t guest_memory_offset(const struct guest_memory *memory, uint64_t gpa)
{
    uint64_t place = guest_memory_place(gpa);
    unsigned slot = place < (uint64_t)GUEST_LOW_PAGES * GUEST_PAGE ? 0 : 1;

    return place != GUEST_NOWHERE && memory->is_there[slot] ? place : GUEST_NOWHERE;
}

uint64_t guest_memory_gpa(uint64_t offset)
{
    uint64_t low_bytes = (uint64_t)GUEST_LOW_PAGES * GUEST_PAGE;

    return offset < low_bytes ? offset : offset - low_bytes + GUEST_HIGH_GPA;
}

uint64_t guest_memory_load(const struct guest_memory *memory, uint64_t offset, unsigned size_bytes)
{
    uint64_t value = 0;

    memcpy(&value, memory->bytes + offset, size_bytes);
    return value;
}

static struct guest_history *grow(struct guest_memory *memory, uint64_t word)
{
    struct guest_history *history = memory->histories[word];
    unsigned capacity = history == NULL ? HISTORY_FIRST : history->capacity * 2;

    if (history != NULL && history->count < history->capacity) {
        return history;
    }
    history = realloc(history, sizeof(*history) + capacity * sizeof(history->values[0]));
    REQUIRE(history != NULL, "no memory");
    if (memory->histories[word] == NULL) {
        history->count = 1;
        history->values[0].since = 0;
        history->values[0].value = guest_memory_load(memory, word * 8, 8);
    }
    history->capacity = capacity;
    memory->histories[word] = history;
    return history;
}

void guest_memory_had_word(struct guest_memory *memory, uint64_t offset, uint64_t value)
{
    struct guest_history *history = grow(memory, offset / 8);

    history->values[history->count].since = ++memory->now;
    history->values[history->count].value = value;
    history->count++;
}

void guest_memory_set_word(struct guest_memory *memory, uint64_t offset, uint64_t value)
{
    guest_memory_had_word(memory, offset, value);
    memcpy(memory->bytes + offset / 8 * 8, &value, sizeof(value));
}

bool guest_memory_value(const struct guest_memory *memory, uint64_t offset, unsigned size_bytes,
                        uint64_t since, unsigned *cursor, uint64_t *value, uint64_t *end)
{
    const struct guest_history *history = memory->histories[offset / 8];
    unsigned back = (*cursor)++;
    uint64_t word;

    if (history == NULL) {
        *end = UINT64_MAX;
        *value = guest_memory_load(memory, offset, size_bytes);
        return back == 0;
    }
    if (back >= history->count) {
        return false;
    }
    *end = back == 0 ? UINT64_MAX : history->values[history->count - back].since;
    if (*end <= since) {
        return false;
    }
    word = history->values[history->count - 1 - back].value;
    *value = size_bytes == 8 ? word : (word >> (offset % 8 * 8) & UINT32_MAX);
    return true;
}

/* ---- registers ---- */

bool guest_is_pae(const struct gm_mmu_paging *registers)
{
    return (registers->cr0 & GUEST_CR0_PG) != 0 && (registers->cr4 & GUEST_CR4_PAE) != 0 &&
           (registers->efer & GUEST_EFER_LMA) == 0;
}

static enum sdm_mode mode_of(const struct gm_mmu_paging *registers)
{
    if ((registers->efer & GUEST_EFER_LMA) != 0) {
        return (registers->cr4 & GUEST_CR4_LA57) != 0 ? SDM_5_LEVEL : SDM_4_LEVEL;
    }
    return (registers->cr4 & GUEST_CR4_PAE) != 0 ? SDM_PAE : SDM_32;
}

uint64_t guest_root_gpa(const struct gm_mmu_paging *registers)
{
    uint64_t address = registers->cr3 & UINT64_C(0x000ffffffffff000);

    switch (mode_of(registers)) {
    case SDM_32:
        return address & UINT32_MAX;
    case SDM_PAE:
        return registers->cr3 & UINT64_C(0xffffffe0);
    default:
        return address;
    }
}

static unsigned address_bits_of(const struct gm_mmu_paging *registers)
{
    return registers->maxphyaddr != 0 ? registers->maxphyaddr : 52;
}

enum gm_mmu_outcome guest_judge_registers(const struct guestmodel *model,
                                          const struct gm_mmu_paging *registers)
{
    uint64_t root = guest_root_gpa(registers);
    uint64_t reserved = UINT64_C(0x1e6) | UINT64_MAX << address_bits_of(registers);

    if (!guest_is_pae(registers)) {
        return GM_MMU_OK;
    }
    if (guest_memory_offset(&model->memory, root) == GUEST_NOWHERE) {
        return GM_MMU_TABLE_LOST;
    }
    for (unsigned i = 0; i < 4; i++) {
        uint64_t entry =
            guest_memory_load(&model->memory, guest_memory_offset(&model->memory, root) + i * 8, 8);

        if ((entry & GUEST_P) != 0 && (entry & reserved) != 0) {
            return GM_MMU_PROTECTION;
        }
    }
    return GM_MMU_OK;
}

static void compute_rules(struct guest_vcpu *vcpu)
{
    const struct gm_mmu_paging *registers = &vcpu->registers;
    const struct sdm_state state = {
        .mode = mode_of(registers),
        .wp = (registers->cr0 & GUEST_CR0_WP) != 0,
        .pse = (registers->cr4 & GUEST_CR4_PSE) != 0,
        .smep = (registers->cr4 & GUEST_CR4_SMEP) != 0,
        .smap = (registers->cr4 & GUEST_CR4_SMAP) != 0,
        .pke = (registers->cr4 & GUEST_CR4_PKE) != 0,
        .nxe = (registers->efer & GUEST_EFER_NXE) != 0,
        .pkru = registers->pkru,
        .maxphyaddr = address_bits_of(registers),
        .has_pse36 = registers->has_pse36,
        .has_1g = registers->has_1g_pages,
    };

    for (unsigned kind = 0; kind < GUEST_KINDS; kind++) {
        for (unsigned view = 0; view < GUEST_VIEWS; view++) {
            const struct sdm_access access = {
                .kind = kind == GM_MMU_READ    ? SDM_READ
                        : kind == GM_MMU_WRITE ? SDM_WRITE
                                               : SDM_FETCH,
                .by_user = view == GM_MMU_USER,
                .ac = view == GM_MMU_SUPERVISOR_AC,
            };

            sdm_rules(&vcpu->rules[kind][view], &state, &access);
        }
    }
    vcpu->is_paging = (registers->cr0 & GUEST_CR0_PG) != 0;
    vcpu->top = vcpu->is_paging ? vcpu->rules[0][0].top : 0;
    vcpu->entry_bytes = state.mode == SDM_32 ? 4 : 8;
    vcpu->address_bits = state.maxphyaddr;
    vcpu->pcid = (registers->cr4 & GUEST_CR4_PCIDE) != 0 ? registers->cr3 & (GUEST_PCIDS - 1) : 0;
}

/*
 * 4.10.4.1: whether everything is forgotten. What it lists, and what changes how entries are read; the rest
 * (WP, SMEP, SMAP, keys) only changes what cached translations allow.
 */
static bool flushes_all(const struct gm_mmu_paging *a, const struct gm_mmu_paging *b)
{
    uint64_t cr4 = GUEST_CR4_PSE | GUEST_CR4_PAE | GUEST_CR4_PGE | GUEST_CR4_LA57 | GUEST_CR4_PCIDE;

    return ((a->cr0 ^ b->cr0) & GUEST_CR0_PG) != 0 || ((a->cr4 ^ b->cr4) & cr4) != 0 ||
           a->efer != b->efer || a->maxphyaddr != b->maxphyaddr ||
           a->has_1g_pages != b->has_1g_pages || a->has_pse36 != b->has_pse36;
}

static void add_root(struct guest_memory *memory, struct guest_vcpu *vcpu)
{
    struct guest_root root = {
        .pcid = vcpu->pcid, .gpa = guest_root_gpa(&vcpu->registers), .end = UINT64_MAX};

    if (guest_is_pae(&vcpu->registers)) {
        memcpy(root.pdptes, memory->bytes + guest_memory_offset(memory, root.gpa),
               sizeof(root.pdptes));
    }
    if (vcpu->root_count != 0) {
        vcpu->roots[vcpu->current].end = ++memory->now;
    }
    for (unsigned i = 0; i < vcpu->root_count; i++) {
        if (vcpu->roots[i].pcid == root.pcid && vcpu->roots[i].gpa == root.gpa &&
            memcmp(vcpu->roots[i].pdptes, root.pdptes, sizeof(root.pdptes)) == 0) {
            vcpu->roots[i].end = UINT64_MAX;
            vcpu->current = i;
            return;
        }
    }
    REQUIRE(vcpu->root_count < GUEST_ROOTS, "too many roots");
    vcpu->current = vcpu->root_count++;
    vcpu->roots[vcpu->current] = root;
}

bool guest_is_same_mode(const struct gm_mmu_paging *a, const struct gm_mmu_paging *b)
{
    return !flushes_all(a, b);
}

void guest_vcpu_set(struct guestmodel *model, struct guest_vcpu *vcpu,
                    const struct gm_mmu_paging *registers)
{
    bool is_all = flushes_all(&vcpu->registers, registers);
    bool is_kept =
        (registers->cr4 & GUEST_CR4_PCIDE) != 0 && (registers->cr3 & GUEST_CR3_KEEP) != 0;

    vcpu->registers = *registers;
    compute_rules(vcpu);
    if (is_all) {
        vcpu->all_flushed = ++model->memory.now;
        vcpu->root_count = 0;
        vcpu->flush_count = 0;
    }
    if (!is_kept) {
        vcpu->pcid_flushed[vcpu->pcid] = ++model->memory.now;
    }
    add_root(&model->memory, vcpu);
}

void guest_vcpu_flush(struct guestmodel *model, struct guest_vcpu *vcpu, uint64_t linear,
                      bool is_fault)
{
    vcpu->flushes[vcpu->flush_count++ % GUEST_FLUSHES] =
        (struct guest_flush){++model->memory.now, linear, vcpu->pcid, is_fault};
}

unsigned guest_index_bits(const struct guest_vcpu *vcpu, unsigned level)
{
    if (vcpu->entry_bytes == 4) {
        return 10;
    }
    return vcpu->top == 3 && level == 3 ? 2 : 9;
}

unsigned guest_shift(const struct guest_vcpu *vcpu, unsigned level)
{
    return 12 + (level - 1) * (vcpu->entry_bytes == 4 ? 10 : 9);
}

bool guest_is_canonical(const struct guest_vcpu *vcpu, uint64_t linear)
{
    unsigned bits = vcpu->top == 5 ? 57 : 48;
    uint64_t above = linear >> (bits - 1);

    if (vcpu->top < 4) {
        return linear >> 32 == 0;
    }
    return above == 0 || above == UINT64_MAX >> (bits - 1);
}
