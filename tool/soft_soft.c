/*
 * soft_soft.c - a script on guestmem's software KVM, by its public headers.
 *
 * Until it has a vCPU that runs instructions, each access is carried out here as Linux KVM and a
 * processor do it together: the processor tries an access, and what it cannot do (no slot there, or
 * a read-only one) KVM's emulator does, piece by piece. To the emulator host memory that cannot be
 * accessed is MMIO; to the processor it is an error. A jump is a fetch of one byte: hlt is the one
 * instruction known.
 */
#include "soft_machine.h"
#include "tool.h"

#include <guestmem/soft_ioctl.h>

#include <errno.h>
#include <linux/kvm.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define OPCODE_HLT 0xf4
#define PAGE_BYTES 4096u
/* The emulator goes on with a string instruction's next byte, without asking the processor to try,
 * but looks up whenever the count is a multiple of this. */
#define STRING_STRETCH 0x400u

struct script_machine {
    struct gm_soft *soft; /* NULL: there is no VM */
    struct gm_soft_vcpu *vcpu;
    struct gm_mmu *mmu;
    struct script_report *report; /* of the access that is under way */
};

static int soft_open(struct script_machine **opened, struct gm_diag *diag)
{
    (void)diag;
    *opened = tool_alloc(sizeof(**opened));
    return 0;
}

static void soft_close(struct script_machine *machine)
{
    free(machine);
}

static void soft_destroy(struct script_machine *machine)
{
    gm_soft_vcpu_free(machine->vcpu);
    machine->vcpu = NULL;
    if (gm_soft_close(machine->soft) != 0) {
        tool_error("soft: the VM does not close");
        exit(TOOL_FAILED);
    }
    machine->soft = NULL;
}

static int soft_create(struct script_machine *machine, struct gm_diag *diag)
{
    const struct gm_soft_options options = {.size = sizeof(options)};
    int result = gm_soft_open(&options, &machine->soft, diag);

    if (result != 0) {
        machine->soft = NULL;
        return result;
    }
    result = gm_soft_vcpu_new(machine->soft, 0, &machine->vcpu);
    if (result != 0) {
        machine->vcpu = NULL;
        snprintf(diag->text, sizeof(diag->text), "a vCPU cannot be made");
        return result;
    }
    machine->mmu = gm_soft_vcpu_mmu(machine->vcpu);
    return 0;
}

static long soft_vm_ioctl(struct script_machine *machine, unsigned long request, void *argument)
{
    return gm_soft_vm_ioctl(machine->soft, request, (uintptr_t)argument);
}

static void soft_invalidate_begin(struct script_machine *machine, gm_hva_t hva, uint64_t size_bytes)
{
    gm_soft_invalidate_begin(machine->soft, hva, size_bytes);
}

static void soft_invalidate_end(struct script_machine *machine, gm_hva_t hva, uint64_t size_bytes)
{
    gm_soft_invalidate_end(machine->soft, hva, size_bytes);
}

/* ---- one load or store ---- */

/* How it went. */
enum result {
    DONE,     /* in memory */
    EMULATED, /* by the emulator, with MMIO exits */
    ENDED,    /* not at all: the line is over, its end is reported */
};

/* Who carries it out. */
enum actor {
    PROCESSOR, /* and the emulator what the processor cannot */
    EMULATOR,  /* alone; the piece lies within one page */
};

struct piece {
    enum gm_mmu_access access; /* GM_MMU_READ, GM_MMU_WRITE */
    gm_gpa_t gpa;
    unsigned size_bytes;
};

static enum result report_end(enum gm_mmu_outcome outcome, const struct gm_mmu_exit *exit)
{
    if (outcome == GM_MMU_ERROR) {
        report_error(exit->error);
    } else {
        report_other(outcome == GM_MMU_RING_FULL ? KVM_EXIT_DIRTY_RING_FULL
                                                 : KVM_EXIT_MEMORY_FAULT);
    }
    return ENDED;
}

static void report_mmio(struct script_machine *machine, enum gm_mmu_access access, gm_gpa_t gpa,
                        uint8_t *data, unsigned size_bytes)
{
    if (access == GM_MMU_WRITE) {
        report_mmio_write(machine->report, gpa, data, size_bytes);
    } else {
        report_mmio_read(machine->report, gpa, data, size_bytes);
    }
}

static enum gm_mmu_outcome enter(struct script_machine *machine)
{
    enum gm_mmu_outcome outcome;

    do {
        outcome = gm_mmu_enter(machine->mmu);
    } while (outcome == GM_MMU_KICKED); /* which nobody does for long */
    return outcome;
}

/* Go on with an access from its first outcome to its end, reporting and answering what is MMIO. */
static enum gm_mmu_outcome go_on(struct script_machine *machine, enum gm_mmu_outcome outcome,
                                 uint64_t *value, enum result *result)
{
    *result = DONE;
    while (outcome == GM_MMU_MMIO) {
        struct gm_mmu_exit *exit = gm_mmu_exit(machine->mmu);

        report_mmio(machine, exit->access, exit->gpa, exit->data, exit->size_bytes);
        *result = EMULATED;
        outcome = gm_mmu_resume(machine->mmu, value);
    }
    return outcome;
}

/* @value: what is stored, or, out, what was loaded. */
static enum result carry_out(struct script_machine *machine, enum actor actor,
                             const struct piece *piece, uint64_t *value)
{
    enum gm_mmu_outcome outcome = enter(machine);
    enum result result = DONE;
    uint8_t data[sizeof(*value)] = {0};

    if (outcome == GM_MMU_OK) {
        outcome = piece->access == GM_MMU_WRITE
                      ? gm_mmu_store(machine->mmu, piece->gpa, piece->size_bytes, *value)
                      : gm_mmu_load(machine->mmu, piece->gpa, piece->size_bytes, value);
        outcome = go_on(machine, outcome, value, &result);
    }
    if (outcome == GM_MMU_OK) {
        gm_mmu_leave(machine->mmu);
        return result;
    }
    if (outcome != GM_MMU_ERROR || actor != EMULATOR) {
        return report_end(outcome, gm_mmu_exit(machine->mmu));
    }
    /* Host memory that is not there. */
    memcpy(data, value, sizeof(data));
    report_mmio(machine, piece->access, piece->gpa, data, piece->size_bytes);
    memcpy(value, data, sizeof(data));
    return EMULATED;
}

/* ---- guest virtual addresses ---- */

/*
 * The processor tries the first byte of an access whose last byte it will not come to: is host
 * memory there, or nothing (MMIO)? A store is tried by exchanging a byte for itself.
 */
static bool is_sound(struct script_machine *machine, gm_gpa_t gpa, enum gm_mmu_access access)
{
    enum gm_mmu_outcome outcome = enter(machine);
    uint64_t value = 0;

    if (outcome == GM_MMU_OK) {
        outcome = access == GM_MMU_WRITE ? gm_mmu_cmpxchg(machine->mmu, gpa, 1, &value, value)
                                         : gm_mmu_load(machine->mmu, gpa, 1, &value);
    }
    if (outcome == GM_MMU_OK) {
        gm_mmu_leave(machine->mmu);
    }
    return outcome != GM_MMU_ERROR;
}

/*
 * Translate the bytes of an access, which do not reach over the border of the two mappings. Return:
 * true; false it cannot be made, and its end is reported: an exception, for which the guest has no
 * handler; or, where only its end is not mapped, what its beginning meets before that.
 */
static bool translate(struct script_machine *machine, uint64_t gva, unsigned size_bytes,
                      enum gm_mmu_access access, gm_gpa_t *gpa)
{
    enum script_mapping mapping = script_guest_translate(gva, gpa);
    gm_gpa_t last;

    if (mapping == SCRIPT_NOT_MAPPED || (mapping == SCRIPT_READ_ONLY && access == GM_MMU_WRITE)) {
        report_shutdown();
        return false;
    }
    if (script_guest_translate(gva + (size_bytes - 1), &last) != SCRIPT_NOT_MAPPED) {
        return true;
    }
    if (is_sound(machine, *gpa, access)) {
        report_shutdown();
    } else {
        report_error(-EFAULT);
    }
    return false;
}

/* ---- the instructions ---- */

static void run_store(struct script_machine *machine, const struct script_access *access)
{
    struct piece piece = {GM_MMU_WRITE, 0, access->size_bytes};
    uint64_t value = access->value;

    if (translate(machine, access->gva, piece.size_bytes, piece.access, &piece.gpa) &&
        carry_out(machine, PROCESSOR, &piece, &value) != ENDED) {
        report_hlt();
    }
}

static void run_load(struct script_machine *machine, const struct script_access *access)
{
    struct piece piece = {GM_MMU_READ, 0, access->size_bytes};
    uint64_t value = 0;

    if (translate(machine, access->gva, piece.size_bytes, piece.access, &piece.gpa) &&
        carry_out(machine, PROCESSOR, &piece, &value) != ENDED) {
        report_value(value, piece.size_bytes);
    }
}

/*
 * The emulator stores a part of what it has computed, which lies within one page and may be of any
 * size: in memory, or with one MMIO exit.
 */
static void emulate_part(struct script_machine *machine, gm_gpa_t gpa, uint8_t *data,
                         unsigned size_bytes)
{
    unsigned i;

    for (i = 0; i < size_bytes; i++) {
        enum gm_mmu_outcome outcome = enter(machine);

        if (outcome == GM_MMU_OK) {
            outcome = gm_mmu_store(machine->mmu, gpa + i, 1, data[i]);
        }
        if (outcome != GM_MMU_OK) {
            report_mmio_write(machine->report, gpa, data, size_bytes);
            return;
        }
        gm_mmu_leave(machine->mmu);
    }
}

static void emulate_store(struct script_machine *machine, gm_gpa_t gpa, unsigned size_bytes,
                          uint64_t value)
{
    unsigned room_bytes = PAGE_BYTES - (unsigned)(gpa % PAGE_BYTES);
    unsigned head_bytes = size_bytes < room_bytes ? size_bytes : room_bytes;
    uint8_t data[sizeof(value)];

    memcpy(data, &value, sizeof(data));
    emulate_part(machine, gpa, data, head_bytes);
    emulate_part(machine, gpa + head_bytes, data + head_bytes, size_bytes - head_bytes);
}

/* The processor's lock add, once it has loaded what was there. */
static enum result add_to(struct script_machine *machine, gm_gpa_t gpa, uint64_t seen,
                          uint64_t value)
{
    enum gm_mmu_outcome outcome;
    enum result result = DONE;
    uint64_t expected;

    do {
        expected = seen;
        outcome = enter(machine);
        if (outcome == GM_MMU_OK) {
            outcome = gm_mmu_cmpxchg(machine->mmu, gpa, sizeof(value), &seen, expected + value);
            outcome = go_on(machine, outcome, NULL, &result);
        }
        if (outcome != GM_MMU_OK) {
            return report_end(outcome, gm_mmu_exit(machine->mmu));
        }
        gm_mmu_leave(machine->mmu);
    } while (result == DONE && seen != expected);
    return result;
}

static void run_add(struct script_machine *machine, const struct script_access *access)
{
    struct piece piece = {GM_MMU_READ, 0, sizeof(access->value)};
    uint64_t value = 0;
    enum result result;

    /* The load comes first, so that is what meets the end of a mapping; but it may not be made
     * where the store may not. */
    if (!translate(machine, access->gva, piece.size_bytes, GM_MMU_READ, &piece.gpa) ||
        !translate(machine, access->gva, piece.size_bytes, GM_MMU_WRITE, &piece.gpa)) {
        return;
    }
    result = carry_out(machine, PROCESSOR, &piece, &value);
    if (result == EMULATED) {
        emulate_store(machine, piece.gpa, piece.size_bytes, value + access->value);
    } else if (result == DONE) {
        result = add_to(machine, piece.gpa, value, access->value);
    }
    if (result != ENDED) {
        report_hlt();
    }
}

/*
 * rep movsb. After an exit of a write the processor has its turn again; after a byte that the
 * emulator wrote to memory, the emulator goes on.
 */
static void run_move(struct script_machine *machine, const struct script_access *access)
{
    enum actor actor = PROCESSOR;
    uint64_t i;

    for (i = 0; i < access->value; i++) {
        struct piece from = {GM_MMU_READ, 0, 1};
        struct piece to = {GM_MMU_WRITE, 0, 1};
        uint64_t value = 0;
        enum result result;

        if (report_is_full(machine->report) ||
            !translate(machine, access->source_gva + i, 1, from.access, &from.gpa)) {
            return;
        }
        result = carry_out(machine, actor, &from, &value);
        if (result == EMULATED) {
            actor = EMULATOR;
        }
        if (result == ENDED || !translate(machine, access->gva + i, 1, to.access, &to.gpa)) {
            return;
        }
        result = carry_out(machine, actor, &to, &value);
        if (result == ENDED) {
            return;
        }
        if (result == EMULATED || (access->value - i - 1) % STRING_STRETCH == 0) {
            actor = PROCESSOR;
        }
    }
    if (!report_is_full(machine->report)) {
        report_hlt();
    }
}

static void run_jump(struct script_machine *machine, const struct script_access *access)
{
    enum gm_mmu_outcome outcome;
    uint8_t opcode = 0;
    gm_gpa_t gpa;

    if (!translate(machine, access->gva, 1, GM_MMU_FETCH, &gpa)) {
        return;
    }
    outcome = enter(machine);
    if (outcome == GM_MMU_OK) {
        outcome = gm_mmu_fetch(machine->mmu, gpa, 1, &opcode);
    }
    if (outcome == GM_MMU_OK) {
        gm_mmu_leave(machine->mmu);
        if (opcode == OPCODE_HLT) {
            report_hlt();
            return;
        }
    } else if (outcome != GM_MMU_MMIO) {
        report_end(outcome, gm_mmu_exit(machine->mmu));
        return;
    }
    report_internal_error(KVM_INTERNAL_ERROR_EMULATION);
}

/* Without the slot of its page tables and code the guest cannot so much as begin. */
static bool has_guest(struct script_machine *machine)
{
    struct gm_soft_slot slot;

    return gm_soft_find(machine->soft, 0, SCRIPT_GUEST_GPA, &slot);
}

static void soft_access(struct script_machine *machine, const struct script_access *access,
                        struct script_report *report)
{
    machine->report = report;
    if (!has_guest(machine)) {
        report_shutdown();
        return;
    }
    switch (access->kind) {
    case ACCESS_STORE:
        run_store(machine, access);
        break;
    case ACCESS_LOAD:
        run_load(machine, access);
        break;
    case ACCESS_ADD:
        run_add(machine, access);
        break;
    case ACCESS_MOVE:
        run_move(machine, access);
        break;
    case ACCESS_JUMP:
        run_jump(machine, access);
        break;
    }
}

const struct script_machine_ops script_soft_ops = {
    .name = "soft",
    .open = soft_open,
    .close = soft_close,
    .destroy = soft_destroy,
    .create = soft_create,
    .vm_ioctl = soft_vm_ioctl,
    .access = soft_access,
    .invalidate_begin = soft_invalidate_begin,
    .invalidate_end = soft_invalidate_end,
};
