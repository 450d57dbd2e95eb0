/* soft_run.c - running the lines of a script: what they ask of the machine, and printing the
 * results. */
#include "soft_run.h"

#include "soft_memory.h"
#include "tool.h"

#include <errno.h>
#include <inttypes.h>
#include <linux/kvm.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

/* The largest slot's bitmap; touched as far as it is used. */
#define BITMAP_BYTES ((size_t)1 << 28)
#define BITMAP_WORD_BITS 64u

struct run {
    struct script_machine machine;
    struct script_memory memory;
    void *guest;     /* SCRIPT_GUEST_BYTES, pages: the guest's own slot */
    uint64_t *log;   /* BITMAP_BYTES, pages */
    uint64_t *clear; /* the same; zero between lines */
};

static void print_result(long result)
{
    if (result < 0) {
        printf(" %s", tool_error_name((int)result));
    } else {
        printf(" %ld", result);
    }
}

static void *map_pages(size_t size_bytes)
{
    void *pages = mmap(NULL, size_bytes, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

    return pages != MAP_FAILED ? pages : NULL;
}

/* ---- the VM and its slots ---- */

static long set_slot(struct run *run, const uint64_t *fields, gm_hva_t hva)
{
    struct kvm_userspace_memory_region region = {
        .slot = (uint32_t)fields[0],
        .flags = (uint32_t)fields[1],
        .guest_phys_addr = fields[2],
        .memory_size = fields[3],
        .userspace_addr = hva,
    };

    return run->machine.ops->vm_ioctl(&run->machine, KVM_SET_USER_MEMORY_REGION, &region);
}

/* Return: 0 or -errno, with @diag. */
static long new_vm(struct run *run, struct gm_diag *diag)
{
    const uint64_t guest_slot[] = {SCRIPT_GUEST_SLOT, 0, SCRIPT_GUEST_GPA, SCRIPT_GUEST_BYTES};
    long result;

    run->machine.ops->destroy(&run->machine);
    result = script_memory_reset(&run->memory);
    if (result != 0) {
        snprintf(diag->text, sizeof(diag->text), "the memory cannot be made accessible");
        return result;
    }
    script_guest_fill(run->guest);
    result = machine_create(&run->machine, diag);
    if (result != 0) {
        return result;
    }
    result = set_slot(run, guest_slot, (uintptr_t)run->guest);
    if (result != 0) {
        snprintf(diag->text, sizeof(diag->text), "the guest's own slot cannot be made");
    }
    return result;
}

/* Bits as numbers and first-last. */
static void print_pages(const uint64_t *bitmap, uint64_t page_count)
{
    uint64_t page = 0;

    while (page < page_count) {
        uint64_t first = page;

        while (page < page_count &&
               (bitmap[page / BITMAP_WORD_BITS] >> page % BITMAP_WORD_BITS & 1) != 0) {
            page++;
        }
        if (page - first > 1) {
            printf(" %" PRIx64 "-%" PRIx64, first, page - 1);
        } else if (page != first) {
            printf(" %" PRIx64, first);
        }
        page++;
    }
}

static void run_log(struct run *run, const struct script_line *line)
{
    struct kvm_dirty_log log = {.slot = (uint32_t)line->fields[0], .dirty_bitmap = run->log};
    /* Whole words, as the kernel writes them. */
    size_t word_count = (size_t)((line->fields[1] + BITMAP_WORD_BITS - 1) / BITMAP_WORD_BITS);
    long result;

    memset(run->log, 0, word_count * sizeof(*run->log));
    result = run->machine.ops->vm_ioctl(&run->machine, KVM_GET_DIRTY_LOG, &log);
    print_result(result);
    if (result == 0) {
        print_pages(run->log, word_count * BITMAP_WORD_BITS);
    }
}

static void run_clear(struct run *run, const struct script_line *line)
{
    struct kvm_clear_dirty_log clear = {
        .slot = (uint32_t)line->fields[0],
        .first_page = line->fields[1],
        .num_pages = (uint32_t)line->fields[2],
        .dirty_bitmap = run->clear,
    };
    size_t size_bytes = line->word_count * sizeof(*line->words);

    if (size_bytes != 0) {
        memcpy(run->clear, line->words, size_bytes);
    }
    print_result(run->machine.ops->vm_ioctl(&run->machine, KVM_CLEAR_DIRTY_LOG, &clear));
    memset(run->clear, 0, size_bytes);
}

static void run_cap(struct run *run, const struct script_line *line)
{
    struct kvm_enable_cap cap = {.cap = (uint32_t)line->fields[0], .args = {line->fields[1]}};

    print_result(run->machine.ops->vm_ioctl(&run->machine, KVM_ENABLE_CAP, &cap));
}

/* ---- accesses ---- */

static void run_access(struct run *run, const struct script_line *line)
{
    const uint64_t *fields = line->fields;
    struct script_report report = {0};
    struct script_access access = {0};

    switch (line->verb) {
    case SCRIPT_W:
        access = (struct script_access){ACCESS_STORE, (unsigned)fields[0], fields[1], fields[2], 0};
        break;
    case SCRIPT_R:
        access = (struct script_access){ACCESS_LOAD, (unsigned)fields[0], fields[1], 0, 0};
        break;
    case SCRIPT_RA:
        access = (struct script_access){ACCESS_LOAD, (unsigned)fields[0],
                                        fields[1] + SCRIPT_ALIAS_GVA, 0, 0};
        break;
    case SCRIPT_ADD:
        access = (struct script_access){ACCESS_ADD, 8, fields[0], fields[1], 0};
        break;
    case SCRIPT_MOVS:
        access = (struct script_access){ACCESS_MOVE, 1, fields[0], fields[2], fields[1]};
        break;
    default: /* SCRIPT_X */
        access = (struct script_access){ACCESS_JUMP, 1, fields[0], 0, 0};
        break;
    }
    machine_access(&run->machine, &access, &report);
}

/* ---- the host's side ---- */

/* Something happens to host memory that the guest's mappings have to follow. */
static void run_invalidation(struct run *run, const struct script_line *line)
{
    size_t offset = (size_t)line->fields[0];
    size_t size_bytes = (size_t)line->fields[1];
    gm_hva_t hva = (uintptr_t)run->memory.base + offset;
    int result;

    if (run->machine.ops->invalidate_begin != NULL) {
        run->machine.ops->invalidate_begin(&run->machine, hva, size_bytes);
    }
    if (line->verb == SCRIPT_MADV) {
        result = script_memory_discard(&run->memory, offset, size_bytes);
    } else {
        result = script_memory_protect(&run->memory, offset, size_bytes, (int)line->fields[2]);
    }
    if (run->machine.ops->invalidate_end != NULL) {
        run->machine.ops->invalidate_end(&run->machine, hva, size_bytes);
    }
    print_result(result);
}

static void run_host_access(struct run *run, const struct script_line *line)
{
    uint64_t value = 0;
    int result;

    if (line->verb == SCRIPT_HW) {
        result = script_memory_store(&run->memory, (size_t)line->fields[0], line->fields[1]);
    } else if (line->verb == SCRIPT_HR) {
        result = script_memory_load(&run->memory, (size_t)line->fields[0], &value);
    } else {
        result = script_memory_sum(&run->memory, &value);
    }
    if (result != 0) {
        print_result(result);
    } else if (line->verb != SCRIPT_HW) {
        printf(" %" PRIx64, value);
    }
}

/* ---- all of it ---- */

/* Return: 0; -errno the machine is no more, and @diag says why. */
static long run_line(struct run *run, const struct script_line *line, struct gm_diag *diag)
{
    long result;

    switch (line->verb) {
    case SCRIPT_COMMENT:
        break;
    case SCRIPT_VM:
        result = new_vm(run, diag);
        print_result(result);
        return result;
    case SCRIPT_SET:
        print_result(set_slot(run, line->fields, (uintptr_t)run->memory.base + line->fields[4]));
        break;
    case SCRIPT_SETA:
        print_result(set_slot(run, line->fields, line->fields[4]));
        break;
    case SCRIPT_LOG:
        run_log(run, line);
        break;
    case SCRIPT_CLEAR:
        run_clear(run, line);
        break;
    case SCRIPT_CAP:
        run_cap(run, line);
        break;
    case SCRIPT_MADV:
    case SCRIPT_MPROT:
        run_invalidation(run, line);
        break;
    case SCRIPT_HW:
    case SCRIPT_HR:
    case SCRIPT_SUM:
        run_host_access(run, line);
        break;
    default:
        run_access(run, line);
        break;
    }
    return 0;
}

static int run_lines(struct run *run, const struct script *script)
{
    struct gm_diag diag = {0};
    long result = 0;
    size_t i;

    for (i = 0; i < script->count && result == 0; i++) {
        const struct script_line *line = &script->lines[i];

        fputs(line->text, stdout);
        if (line->verb != SCRIPT_COMMENT) {
            fputs(" ->", stdout);
        }
        result = run_line(run, line, &diag);
        putchar('\n');
    }
    if (result != 0) {
        fflush(stdout);
        tool_error("soft: %s: %s", diag.text, tool_error_name((int)result));
        return TOOL_FAILED;
    }
    return tool_finish_output();
}

int script_run(const struct script *script, const struct script_machine_ops *ops)
{
    struct run run = {0};
    struct gm_diag diag = {0};
    int exit_code;

    run.guest = map_pages(SCRIPT_GUEST_BYTES);
    run.log = map_pages(BITMAP_BYTES);
    run.clear = map_pages(BITMAP_BYTES);
    if (run.guest == NULL || run.log == NULL || run.clear == NULL ||
        script_memory_init(&run.memory) != 0) {
        tool_error("out of memory");
        exit(TOOL_FAILED);
    }
    if (machine_open(&run.machine, ops, &diag) == 0) {
        exit_code = run_lines(&run, script);
        ops->destroy(&run.machine);
        machine_close(&run.machine);
    } else {
        tool_error("soft: %s", diag.text);
        exit_code = TOOL_NO_KVM;
    }
    script_memory_fini(&run.memory);
    munmap(run.clear, BITMAP_BYTES);
    munmap(run.log, BITMAP_BYTES);
    munmap(run.guest, SCRIPT_GUEST_BYTES);
    return exit_code;
}
