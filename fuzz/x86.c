/* fuzz/x86.c - run an input: see x86.h. */
#include "x86.h"
#include "fuzz.h"

#include "conformance/system/arena.h"
#include "model/require.h"
#include "x86/x86.h"

#include <guestmem/soft_ioctl.h>

#include <stdbool.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

char require_place[160] = "fuzz";

#define PAGE 4096u
#define EXITS_MAX 300u /* of one run: MMIO and ports come out each by itself */
#define RUNS_MAX 64u
#define BUDGET_LAST 400u
#define BUDGET_SLACK 512u /* the budget is looked at between blocks */
#define FLAGS_NEVER UINT64_C(0xffffffffffc08028)

/* The guest's memory: tables and program; more, which page tables may lead to; a read-only page. */
enum {
    SLOT_LOW,
    SLOT_HIGH,
    SLOT_ROM,
    SLOT_COUNT,
};
static const struct {
    uint64_t gpa, size_bytes;
    uint32_t flags;
} slots[SLOT_COUNT] = {
    [SLOT_LOW] = {0, SYSTEM_ARENA_BYTES, 0},
    [SLOT_HIGH] = {0x100000, 4 * PAGE, 0},
    [SLOT_ROM] = {0x140000, PAGE, KVM_MEM_READONLY},
};

struct fuzz {
    const uint8_t *at, *end;
    struct gm_soft *soft;
    struct gm_soft_vcpu *vcpu;
    struct x86_vcpu *cpu;
    uint8_t *memory[SLOT_COUNT]; /* between pages that nobody may touch */
    uint64_t answers;
    unsigned code_at;
    unsigned run_count;
    bool is_logged[SLOT_COUNT];
};

static uint64_t take(struct fuzz *fuzz, unsigned byte_count)
{
    uint64_t value = 0;
    size_t left = (size_t)(fuzz->end - fuzz->at);

    memcpy(&value, fuzz->at, left < byte_count ? left : byte_count);
    fuzz->at += left < byte_count ? left : byte_count;
    return value;
}

static uint8_t *map_guarded(uint64_t size_bytes)
{
    uint8_t *whole =
        mmap(NULL, size_bytes + 2 * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    REQUIRE(whole != MAP_FAILED && mprotect(whole + PAGE, size_bytes, PROT_READ | PROT_WRITE) == 0,
            "no memory");
    return whole + PAGE;
}

/* A slot is there, or not. It fails where ROM would be logged, and nothing is changed then. */
static void put_slot(struct fuzz *fuzz, unsigned number, bool is_there)
{
    const struct gm_soft_slot change = {
        .slot = number,
        .flags = is_there ? slots[number].flags |
                                (fuzz->is_logged[number] ? KVM_MEM_LOG_DIRTY_PAGES : 0u)
                          : 0,
        .gpa = slots[number].gpa,
        .size_bytes = is_there ? slots[number].size_bytes : 0,
        .hva = (uintptr_t)fuzz->memory[number],
    };

    if (gm_soft_set_slots(fuzz->soft, &change, 1, NULL) != 0) {
        fuzz->is_logged[number] = false;
    }
}

static void open_machine(struct fuzz *fuzz, bool is_shadowed)
{
    const struct gm_soft_options options = {
        .size = sizeof(options), .shadow_paging = is_shadowed, .gpa_bits = 40};

    REQUIRE(gm_soft_open(&options, &fuzz->soft, NULL) == 0, "no VM");
    for (unsigned i = 0; i < SLOT_COUNT; i++) {
        fuzz->memory[i] = map_guarded(slots[i].size_bytes);
        memset(fuzz->memory[i], i == SLOT_ROM ? 0x90 : 0, slots[i].size_bytes);
        put_slot(fuzz, i, true);
    }
    arena_make(fuzz->memory[SLOT_LOW]);
    REQUIRE(gm_soft_vcpu_new(fuzz->soft, 0, &fuzz->vcpu) == 0, "no vCPU");
    REQUIRE(x86_vcpu_new(gm_soft_vcpu_mmu(fuzz->vcpu), NULL, &fuzz->cpu) == 0, "no vCPU");
}

static void close_machine(struct fuzz *fuzz)
{
    x86_vcpu_free(fuzz->cpu);
    gm_soft_vcpu_free(fuzz->vcpu);
    REQUIRE(gm_soft_close(fuzz->soft) == 0, "the VM is in use");
    for (unsigned i = 0; i < SLOT_COUNT; i++) {
        munmap(fuzz->memory[i] - PAGE, slots[i].size_bytes + 2 * PAGE);
    }
}

static struct x86_segment flat(uint16_t selector, bool is_code, unsigned bits)
{
    return (struct x86_segment){
        .limit = bits == 16 ? 0xffff : UINT32_MAX,
        .selector = selector,
        .type = is_code ? 11 : 3,
        .present = 1,
        .dpl = selector & 3,
        .db = bits == 32,
        .s = 1,
        .l = is_code && bits == 64,
        .g = bits != 16,
    };
}

/* The eight modes, ring 0 and 3. */
static void set_mode(struct fuzz *fuzz, unsigned choice)
{
    static const struct {
        uint8_t bits, is_long;
        uint32_t cr0, cr3, cr4;
    } modes[8] = {
        {16, 0, 0x32, 0, 0x600},
        {16, 0, 0x33, 0, 0x600},
        {32, 0, 0x33, 0, 0x600},
        {32, 0, 0x80010033, ARENA_PD32, 0x600},
        {32, 0, 0x80010033, ARENA_PAE_PDPT, 0x620},
        {32, 1, 0x80010033, ARENA_PML4, 0x620},
        {64, 1, 0x80010033, ARENA_PML4, 0x50620},
        {64, 1, 0x80010033, ARENA_PML4, 0x350620},
    };
    struct x86_vcpu *cpu = fuzz->cpu;
    unsigned bits = modes[choice & 7].bits;
    unsigned ring = (choice & 7) != 0 && (choice & 8) != 0 ? 3 : 0;
    uint16_t code = bits == 64 ? SELECTOR_CODE64 : bits == 32 ? SELECTOR_CODE32 : SELECTOR_CODE16;
    uint16_t data = bits == 16 ? SELECTOR_DATA16 : SELECTOR_DATA32;

    if (ring == 3) {
        code = bits == 64   ? SELECTOR_USER_CODE64
               : bits == 32 ? SELECTOR_USER_CODE32
                            : SELECTOR_USER_CODE16;
        data = bits == 16 ? SELECTOR_USER_DATA16 : SELECTOR_USER_DATA32;
    }
    for (unsigned i = 0; i < X86_SEGMENTS; i++) {
        cpu->segment[i] = (choice & 7) == 0 ? flat(0, i == X86_CS, 16)
                          : i == X86_CS     ? flat(code, true, bits)
                                            : flat(data, false, bits == 16 ? 16 : 32);
    }
    cpu->cr0 = modes[choice & 7].cr0;
    cpu->cr3 = modes[choice & 7].cr3;
    cpu->cr4 = modes[choice & 7].cr4;
    cpu->msr.efer = modes[choice & 7].is_long ? 0xd01 : 0;
    cpu->gdt = (struct x86_table){ARENA_GDT, ARENA_GDT_LIMIT};
    cpu->idt = (choice & 7) == 0           ? (struct x86_table){ARENA_IVT, 0x3ff}
               : modes[choice & 7].is_long ? (struct x86_table){ARENA_IDT64, 0xfff}
                                           : (struct x86_table){ARENA_IDT32, 0x7ff};
    cpu->tr = (struct x86_segment){
        .base = modes[choice & 7].is_long ? ARENA_TSS64 : ARENA_TSS32,
        .limit = ARENA_TSS_LIMIT,
        .selector = modes[choice & 7].is_long ? SELECTOR_TSS64 : SELECTOR_TSS32,
        .type = 11,
        .present = 1,
    };
    cpu->rip = ARENA_CODE;
    cpu->gpr[X86_RSP] = ring == 3 ? ARENA_SP3 : ARENA_SP0;
    x86_state_changed(cpu);
}

static void put_code(struct fuzz *fuzz)
{
    unsigned count = (unsigned)take(fuzz, 1);

    for (; count > 0 && fuzz->at < fuzz->end; count--) {
        uint8_t byte = (uint8_t)take(fuzz, 1);

        if (fuzz->code_at < ARENA_CODE + ARENA_CODE_BYTES) {
            fuzz->memory[SLOT_LOW][fuzz->code_at++] = byte;
        }
    }
}

/* Pages of the low slot, then of the high one. */
static void put_bytes(struct fuzz *fuzz)
{
    unsigned page = (unsigned)take(fuzz, 1) % 20;
    unsigned offset = (unsigned)take(fuzz, 2) % PAGE;
    unsigned count = (unsigned)take(fuzz, 1);
    uint8_t *memory = page < 16 ? fuzz->memory[SLOT_LOW] + (size_t)page * PAGE
                                : fuzz->memory[SLOT_HIGH] + (size_t)(page - 16) * PAGE;

    for (; count > 0 && offset < PAGE && fuzz->at < fuzz->end; count--) {
        memory[offset++] = (uint8_t)take(fuzz, 1);
    }
}

static void set_control(struct fuzz *fuzz)
{
    struct x86_vcpu *cpu = fuzz->cpu;
    unsigned number = (unsigned)take(fuzz, 1) % 18;
    uint64_t value = take(fuzz, 8);
    uint64_t *const plain[] = {&cpu->cr0, &cpu->cr2,  &cpu->cr3,      &cpu->cr4,
                               &cpu->cr8, &cpu->xcr0, &cpu->msr.efer, &cpu->rip};

    if (number < 8) {
        *plain[number] = value;
    } else if (number < 16) {
        cpu->dr[number - 8] = value;
    } else if (number == 16) {
        cpu->pkru = (uint32_t)value;
    } else {
        x86_set_rflags(cpu, value);
    }
}

static void set_segment(struct fuzz *fuzz)
{
    struct x86_vcpu *cpu = fuzz->cpu;
    unsigned number = (unsigned)take(fuzz, 1) % 8;
    struct x86_segment *segment = number < 6    ? &cpu->segment[number]
                                  : number == 6 ? &cpu->ldt
                                                : &cpu->tr;
    uint16_t selector = (uint16_t)take(fuzz, 2);
    unsigned attributes = (unsigned)take(fuzz, 2);
    uint32_t limit = (uint32_t)take(fuzz, 4);

    *segment = (struct x86_segment){
        .base = take(fuzz, 8),
        .limit = limit,
        .selector = selector,
        .type = attributes & 15,
        .s = attributes >> 4 & 1,
        .dpl = attributes >> 5 & 3,
        .present = attributes >> 7 & 1,
        .unusable = attributes >> 8 & 1,
        .avl = attributes >> 12 & 1,
        .l = attributes >> 13 & 1,
        .db = attributes >> 14 & 1,
        .g = attributes >> 15 & 1,
    };
}

static void set_table(struct fuzz *fuzz)
{
    struct x86_table *table = take(fuzz, 1) % 2 == 0 ? &fuzz->cpu->gdt : &fuzz->cpu->idt;

    table->limit = (uint16_t)take(fuzz, 2);
    table->base = take(fuzz, 8);
}

static void set_msr(struct fuzz *fuzz)
{
    struct x86_msrs *msr = &fuzz->cpu->msr;
    uint64_t *const places[] = {&msr->star,         &msr->lstar,         &msr->cstar,
                                &msr->syscall_mask, &msr->sysenter_cs,   &msr->sysenter_esp,
                                &msr->sysenter_eip, &msr->kernel_gs_base};
    unsigned number = (unsigned)take(fuzz, 1) % 8;

    *places[number] = take(fuzz, 8);
}

static void set_xmm(struct fuzz *fuzz)
{
    unsigned number = (unsigned)take(fuzz, 1) % 17;
    uint64_t value = take(fuzz, 8);

    if (number == 16) {
        fuzz->cpu->mxcsr = (uint32_t)value & 0xffff;
    } else {
        fuzz->cpu->xmm[number].u64[0] = fuzz->cpu->xmm[number].u64[1] = value;
    }
}

/* As KVM_SET_VCPU_EVENTS and its like would: an interrupt only where it may come. */
static void set_event(struct fuzz *fuzz)
{
    struct x86_vcpu *cpu = fuzz->cpu;
    unsigned kind = (unsigned)take(fuzz, 1) % 6;
    uint8_t vector = (uint8_t)take(fuzz, 1);
    uint32_t error_code = (uint32_t)take(fuzz, 2);

    switch (kind) {
    case 0:
        if (x86_can_interrupt(cpu)) {
            x86_interrupt(cpu, vector);
        }
        break;
    case 1:
        x86_nmi(cpu);
        break;
    case 2:
        cpu->event = (struct x86_event){.kind = X86_EVENT_EXCEPTION,
                                        .vector = vector & 31,
                                        .has_error_code = arena_has_error_code(vector & 31),
                                        .error_code = error_code};
        break;
    case 3:
        cpu->request_irq_window = vector & 1;
        break;
    case 4:
        cpu->guest_debug_step = vector & 1;
        break;
    default:
        gm_mmu_kick(cpu->mmu);
        break;
    }
}

static void get_log(struct fuzz *fuzz, unsigned slot)
{
    uint64_t bitmap[SYSTEM_ARENA_BYTES / PAGE / 64 + 1];
    const struct kvm_dirty_log log = {.slot = slot, .dirty_bitmap = bitmap};

    gm_soft_vm_ioctl(fuzz->soft, KVM_GET_DIRTY_LOG, (unsigned long)&log);
}

/* Or no more. */
static void track(struct fuzz *fuzz, uint64_t gpa)
{
    if (gm_soft_untrack(fuzz->soft, 0, gpa) != 0 && gm_soft_track(fuzz->soft, 0, gpa) != 0) {
        return; /* no slot is there */
    }
}

static void act_as_host(struct fuzz *fuzz)
{
    unsigned what = (unsigned)take(fuzz, 1) % 9;
    unsigned argument = (unsigned)take(fuzz, 1);
    unsigned slot = argument % SLOT_COUNT;
    uint64_t page = argument / SLOT_COUNT * PAGE % slots[slot].size_bytes;
    uintptr_t hva = (uintptr_t)fuzz->memory[slot] + page;

    switch (what) {
    case 0:
        put_slot(fuzz, slot, false);
        put_slot(fuzz, slot, true);
        break;
    case 1:
        put_slot(fuzz, slot, false);
        break;
    case 2:
        put_slot(fuzz, slot, true);
        break;
    case 3:
        fuzz->is_logged[slot] = !fuzz->is_logged[slot];
        put_slot(fuzz, slot, true);
        break;
    case 4:
        get_log(fuzz, slot);
        break;
    case 5:
        gm_soft_invalidate_begin(fuzz->soft, hva, PAGE);
        gm_soft_invalidate_end(fuzz->soft, hva, PAGE);
        break;
    case 6:
        (void)gm_soft_age(fuzz->soft, hva, slots[slot].size_bytes - page);
        break;
    case 7:
        gm_soft_zap_all(fuzz->soft);
        break;
    default:
        track(fuzz, slots[slot].gpa + page);
        break;
    }
}

static void answer(struct fuzz *fuzz, enum x86_exit exit)
{
    fuzz->answers = fuzz->answers << 7 | fuzz->answers >> 57;
    if (exit == X86_EXIT_IO) {
        fuzz->cpu->io.data = (uint32_t)fuzz->answers;
    } else {
        memcpy(gm_mmu_exit(fuzz->cpu->mmu)->data, &fuzz->answers, 8);
    }
}

/* What holds of a vCPU that is out, whatever it has run. */
static void check(const struct fuzz *fuzz, uint64_t before, uint64_t budget)
{
    const struct x86_vcpu *cpu = fuzz->cpu;

    REQUIRE(cpu->instructions - before <= budget + BUDGET_SLACK, "%llu instructions of %llu",
            (unsigned long long)(cpu->instructions - before), (unsigned long long)budget);
    REQUIRE((x86_get_rflags(cpu) & (FLAGS_NEVER | 2)) == 2, "flags %#llx",
            (unsigned long long)x86_get_rflags(cpu));
    REQUIRE(cpu->gpr[X86_GPR_ZERO] == 0 && cpu->cpl <= 3, "broken");
    REQUIRE(cpu->answer_count <= X86_ANSWERS_MAX && cpu->answer_next <= cpu->answer_count,
            "answers");
    REQUIRE(fuzz->memory[SLOT_ROM][0] == 0x90 &&
                memcmp(fuzz->memory[SLOT_ROM], fuzz->memory[SLOT_ROM] + 1, PAGE - 1) == 0,
            "read-only memory was written");
}

static void run(struct fuzz *fuzz, uint64_t budget)
{
    struct x86_vcpu *cpu = fuzz->cpu;
    uint64_t end = cpu->instructions + budget;

    if (fuzz->run_count++ >= RUNS_MAX) {
        return;
    }
    x86_state_changed(cpu);
    for (unsigned i = 0; i < EXITS_MAX && cpu->instructions < end; i++) {
        uint64_t before = cpu->instructions;
        enum x86_exit exit = x86_run(cpu, end - before);

        check(fuzz, before, end - before);
        switch (exit) {
        case X86_EXIT_IO:
        case X86_EXIT_MMIO:
            answer(fuzz, exit);
            break;
        case X86_EXIT_IRQ_WINDOW:
            REQUIRE(x86_can_interrupt(cpu), "a window that is closed");
            x86_interrupt(cpu, (uint8_t)fuzz->answers);
            cpu->request_irq_window = false;
            break;
        case X86_EXIT_DEBUG:
        case X86_EXIT_INTR:
            break;
        case X86_EXIT_BUDGET:
            return;
        case X86_EXIT_HLT:
            cpu->mp_state = X86_RUNNABLE;
            return;
        default: /* nothing of it goes on */
            return;
        }
    }
}

static void operate(struct fuzz *fuzz)
{
    switch ((enum x86_fuzz_op)(take(fuzz, 1) % FUZZ_OPS)) {
    case FUZZ_CODE:
        put_code(fuzz);
        break;
    case FUZZ_PUT:
        put_bytes(fuzz);
        break;
    case FUZZ_GPR: {
        unsigned number = (unsigned)take(fuzz, 1) % 16;

        fuzz->cpu->gpr[number] = take(fuzz, 8);
        break;
    }
    case FUZZ_CONTROL:
        set_control(fuzz);
        break;
    case FUZZ_SEGMENT:
        set_segment(fuzz);
        break;
    case FUZZ_TABLE:
        set_table(fuzz);
        break;
    case FUZZ_MSR:
        set_msr(fuzz);
        break;
    case FUZZ_XMM:
        set_xmm(fuzz);
        break;
    case FUZZ_EVENT:
        set_event(fuzz);
        break;
    case FUZZ_ANSWERS:
        fuzz->answers = take(fuzz, 8);
        break;
    case FUZZ_HOST:
        act_as_host(fuzz);
        break;
    default:
        run(fuzz, take(fuzz, 2));
        break;
    }
}

int fuzz_x86(const uint8_t *data, size_t size)
{
    struct fuzz fuzz = {.at = data, .end = data + size, .code_at = ARENA_CODE};
    unsigned mode = (unsigned)take(&fuzz, 1);

    open_machine(&fuzz, (mode & 0x10) != 0);
    set_mode(&fuzz, mode);
    while (fuzz.at < fuzz.end) {
        operate(&fuzz);
    }
    run(&fuzz, BUDGET_LAST);
    close_machine(&fuzz);
    return 0;
}
