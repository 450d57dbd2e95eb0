/* tests/kvm/hole.c - a guest that reads and writes all its memory without pause, and a model that knows each word of it. */
#include "hole.h"

#include "model/require.h"

#include <errno.h>
#include <inttypes.h>
#include <sched.h>
#include <string.h>
#include <time.h>

#define PORT 0x20u
#define CODE(vcpu) (GUEST_CODE + 0x200u * (vcpu))
#define DONE(vcpu) (0x7000u + 4 * (vcpu))
#define HOT_BASE 0x7010u
#define WANTED 0x7100u
#define WAIT_SECONDS_MAX 120
#define DWORD(value)                                                                               \
    (uint8_t)(value), (uint8_t)((value) >> 8), (uint8_t)((value) >> 16), (uint8_t)((value) >> 24)

/* ---- the guest ---- */

/* A word of the low RAM. */
static uint32_t *low_word(const struct hole *hole, unsigned gpa)
{
    return (uint32_t *)(void *)((uint8_t *)gm_ram_hva(hole->guest.ram_block) + gpa);
}

static void store(uint32_t *word, uint32_t value)
{
    __atomic_store_n(word, value, __ATOMIC_SEQ_CST);
}

static uint32_t load(const uint32_t *word)
{
    return __atomic_load_n(word, __ATOMIC_SEQ_CST);
}

/* A jump of two bytes; the target is known, or filled in by land(). */
static uint8_t *jump(struct guest *guest, uint8_t opcode, const uint8_t *target)
{
    uint8_t *at = guest->code + 1;

    EMIT(guest, opcode, target == NULL ? 0 : (uint8_t)(target - (at + 1)));
    return at;
}

static void land(const struct guest *guest, uint8_t *at)
{
    *at = (uint8_t)(guest->code - (at + 1));
}

/* EBX: step. EDI: the page, from HOLE_GPA on. ESI: what was loaded. */
static void write_program(struct hole *hole, unsigned vcpu)
{
    struct guest *guest = &hole->guest;
    uint32_t word = HOLE_GPA + 8 * vcpu;
    uint8_t *again, *to_store, *to_hot, *to_bad, *to_good, *to_next;

    guest->code = (uint8_t *)gm_ram_hva(guest->ram_block) + CODE(vcpu);
    again = guest->code;
    EMIT(guest, 0x66, 0x43);                                  /* inc ebx */
    EMIT(guest, 0x66, 0x89, 0xd9);                            /* mov ecx, ebx */
    EMIT(guest, 0x66, 0x83, 0xe1, HOLE_PAGES - 1);            /* and ecx, pages - 1 */
    EMIT(guest, 0x66, 0x89, 0xcf);                            /* mov edi, ecx */
    EMIT(guest, 0x66, 0xc1, 0xe7, 12);                        /* shl edi, 12 */
    EMIT(guest, 0x80, 0xf9, HOLE_PAM_FIRST);                  /* cmp cl, first */
    to_store = jump(guest, 0x72, NULL);                       /* jb store */
    EMIT(guest, 0x80, 0xf9, HOLE_HOT_FIRST);                  /* cmp cl, first */
    to_hot = jump(guest, 0x73, NULL);                         /* jae hot */
    EMIT(guest, 0x67, 0x66, 0x8b, 0x04, 0x8d, DWORD(WANTED)); /* mov eax, [ecx * 4 + wanted] */
    EMIT(guest, 0x67, 0x66, 0x8b, 0xb7, DWORD(word));         /* mov esi, [edi + word] */
    EMIT(guest, 0x66, 0x39, 0xc6);                            /* cmp esi, eax */
    to_bad = jump(guest, 0x75, NULL);                         /* jne bad */
    to_next = jump(guest, 0xeb, NULL);                        /* jmp next */
    land(guest, to_hot);
    EMIT(guest, 0x66, 0x03, 0x3e, LO(HOT_BASE), HI(HOT_BASE)); /* hot: add edi, [hot_base] */
    land(guest, to_store);
    EMIT(guest, 0x67, 0x66, 0x89, 0x9f, DWORD(word)); /* store: mov [edi + word], ebx */
    EMIT(guest, 0x67, 0x66, 0x8b, 0xb7, DWORD(word)); /* mov esi, [edi + word] */
    EMIT(guest, 0x66, 0x39, 0xde);                    /* cmp esi, ebx */
    to_good = jump(guest, 0x74, NULL);                /* je next */
    land(guest, to_bad);
    EMIT_MOV_DX(guest, PORT + 4 * vcpu); /* bad: mov dx, port */
    EMIT(guest, 0x66, 0x89, 0xf0);       /* mov eax, esi */
    EMIT(guest, 0x66, 0xef);             /* out dx, eax */
    land(guest, to_good);
    land(guest, to_next);
    EMIT(guest, 0x66, 0x89, 0x1e, LO(DONE(vcpu)), HI(DONE(vcpu))); /* next: mov [done], ebx */
    (void)jump(guest, 0xeb, again);                                /* jmp again */
}

static void reset_vcpu(struct gm_vcpu *vcpu, unsigned index)
{
    struct kvm_regs regs;

    pages_reset_vcpu(vcpu);
    REQUIRE(gm_vcpu_ioctl(vcpu, KVM_GET_REGS, (uintptr_t)&regs) == 0, "get");
    regs.rip = CODE(index);
    regs.rbx = HOLE_FIRST_STEP;
    REQUIRE(gm_vcpu_ioctl(vcpu, KVM_SET_REGS, (uintptr_t)&regs) == 0, "set");
}

uint32_t hole_done(const struct hole *hole, unsigned vcpu)
{
    return load(low_word(hole, DONE(vcpu)));
}

void hole_wait(const struct hole *hole, uint32_t steps)
{
    time_t end = time(NULL) + WAIT_SECONDS_MAX;
    uint32_t before[HOLE_VCPUS];

    for (unsigned i = 0; i < HOLE_VCPUS; i++) {
        before[i] = hole_done(hole, i);
    }
    for (unsigned i = 0; i < HOLE_VCPUS; i++) {
        while (hole_done(hole, i) - before[i] < steps) {
            REQUIRE(time(NULL) < end, "vCPU %u does not get on from step %" PRIu32, i,
                    hole_done(hole, i));
            sched_yield();
        }
    }
}

void hole_use_hot(struct hole *hole, bool used)
{
    store(low_word(hole, HOT_BASE), used ? (HOLE_PAGES - HOLE_HOT_FIRST) * 4096u : 0);
}

uint32_t hole_constant(unsigned page, bool is_window)
{
    return (is_window ? 0xc0000000u : 0xb0000000u) + page;
}

void hole_fill(uint8_t *bytes, uint32_t constant)
{
    for (unsigned i = 0; i < 4096u / sizeof(constant); i++) {
        store((uint32_t *)(void *)bytes + i, constant);
    }
}

/* ---- the model ---- */

uint32_t hole_last_step(uint32_t step, unsigned page)
{
    return step - (step - page) % HOLE_PAGES;
}

/* What shows at a page that is written: the BAR with the higher number, else the next, else RAM. */
static struct hole_memory *memory_at(struct hole *hole, const struct hole_layout *layout,
                                     unsigned page)
{
    for (unsigned bar = HOLE_BARS; bar-- > 0;) {
        unsigned first = layout->bars[bar].page;

        if (layout->bars[bar].is_enabled && page >= first && page - first < hole_bar_pages(bar)) {
            return &hole->bars[bar][page - first];
        }
    }
    return &hole->base[page];
}

static uint32_t constant_at(const struct hole_layout *layout, unsigned page)
{
    return hole_constant(page,
                         page < HOLE_FLASH_FIRST &&
                             layout->pam_is_enabled[(page - HOLE_PAM_FIRST) / HOLE_PAM_PAGES]);
}

bool hole_shows_change(struct hole *hole)
{
    bool is_change = false;

    for (unsigned page = 0; page < HOLE_WRITTEN; page++) {
        is_change |= memory_at(hole, &hole->layout, page) != memory_at(hole, &hole->next, page);
    }
    for (unsigned page = HOLE_PAM_FIRST; page < HOLE_FLASH_FIRST; page++) {
        is_change |= constant_at(&hole->layout, page) != constant_at(&hole->next, page);
    }
    return is_change;
}

static uint32_t word_of(const struct hole_memory *memory, unsigned vcpu)
{
    return load((const uint32_t *)(const void *)memory->bytes + 2 * vcpu);
}

/* All steps that @vcpu has done were done on what is shown. Return: the last of them. */
static uint32_t account(struct hole *hole, unsigned vcpu)
{
    uint32_t done = hole_done(hole, vcpu);
    uint32_t *accounted = &hole->vcpus[vcpu].accounted;

    for (unsigned page = 0; page < HOLE_WRITTEN && hole_is_after(done, *accounted); page++) {
        uint32_t last = hole_last_step(done, page);

        if (hole_is_after(last, *accounted)) {
            memory_at(hole, &hole->layout, page)->steps[vcpu] = last;
        }
    }
    if (hole_is_after(done, *accounted)) {
        *accounted = done;
    }
    return done;
}

void hole_account(struct hole *hole)
{
    for (unsigned i = 0; i < HOLE_VCPUS; i++) {
        (void)account(hole, i);
    }
}

/* vCPUs are held: one may be in the midst of its next step, and have stored. */
static void account_begun(struct hole *hole, unsigned vcpu)
{
    uint32_t step = account(hole, vcpu) + 1;
    struct hole_memory *memory;

    if (step % HOLE_PAGES < HOLE_WRITTEN && hole_is_after(step, hole->vcpus[vcpu].accounted)) {
        memory = memory_at(hole, &hole->layout, step % HOLE_PAGES);
        if (word_of(memory, vcpu) == step) {
            memory->steps[vcpu] = step;
            hole->vcpus[vcpu].accounted = step;
        }
    }
}

static void check_memory(const struct hole *hole, const struct hole_memory *memory,
                         const char *whose, unsigned page)
{
    for (unsigned i = 0; i < HOLE_VCPUS; i++) {
        REQUIRE(word_of(memory, i) == memory->steps[i],
                "page %u of %s has step %" PRIu32 " of vCPU %u, not %" PRIu32
                "; the vCPU has done %" PRIu32,
                page, whose, word_of(memory, i), i, memory->steps[i], hole_done(hole, i));
    }
}

static void check_all(struct hole *hole)
{
    for (unsigned i = 0; i < HOLE_VCPUS; i++) {
        account_begun(hole, i);
    }
    for (unsigned page = 0; page < HOLE_WRITTEN; page++) {
        check_memory(hole, &hole->base[page], "RAM", page);
    }
    for (unsigned bar = 0; bar < HOLE_BARS; bar++) {
        for (unsigned page = 0; page < hole_bar_pages(bar); page++) {
            check_memory(hole, &hole->bars[bar][page], bar == 0 ? "BAR 0" : "BAR 1", page);
        }
    }
    hole->checks++;
}

static void add_legal(struct hole_vcpu *vcpu, uint32_t step, uint32_t value)
{
    if (vcpu->legal_step != step) {
        vcpu->legal_step = step;
        vcpu->legal_count = 0;
    }
    for (unsigned i = 0; i < vcpu->legal_count; i++) {
        if (vcpu->legal[i] == value) {
            return;
        }
    }
    REQUIRE(vcpu->legal_count < sizeof(vcpu->legal) / sizeof(vcpu->legal[0]), "too many");
    vcpu->legal[vcpu->legal_count++] = value;
}

/* What a step in its midst may find after the change: of a page that is written only if it has stored before. */
static void explain(struct hole *hole, unsigned vcpu)
{
    uint32_t step = hole_done(hole, vcpu) + 1;
    unsigned page = step % HOLE_PAGES;

    if (page < HOLE_WRITTEN) {
        const struct hole_memory *memory = memory_at(hole, &hole->next, page);

        if (hole->vcpus[vcpu].accounted == step && memory->steps[vcpu] != step) {
            add_legal(&hole->vcpus[vcpu], step, memory->steps[vcpu]);
        }
    } else if (page < HOLE_FLASH_FIRST) {
        add_legal(&hole->vcpus[vcpu], step, constant_at(&hole->next, page));
    }
}

/* Slots have changed, and vCPUs are held until settle: the guest has had all it has from what was shown before. */
static int on_apply(void *opaque, struct gm_diag *diag)
{
    struct hole *hole = opaque;

    (void)diag;
    if (!hole->is_staged) {
        return 0;
    }
    hole->is_staged = false;
    check_all(hole);
    pthread_mutex_lock(&hole->mutex);
    for (unsigned i = 0; i < HOLE_VCPUS; i++) {
        explain(hole, i);
    }
    pthread_mutex_unlock(&hole->mutex);
    hole->layout = hole->next;
    for (unsigned page = HOLE_PAM_FIRST; page < HOLE_HOT_FIRST; page++) {
        store(low_word(hole, WANTED + 4 * page), constant_at(&hole->layout, page));
    }
    return 0;
}

static int on_undo(void *opaque)
{
    (void)opaque;
    REQUIRE(false, "a commit failed");
    return 0;
}

static const struct gm_listener_ops listener_ops = {
    .size = sizeof(listener_ops),
    .apply = on_apply,
    .undo = on_undo,
};

/* A vCPU has loaded something else than what it expected. */
static enum gm_access on_mismatch(void *opaque, uint64_t offset, unsigned size_bytes,
                                  uint64_t value, struct gm_attrs attrs)
{
    struct hole *hole = opaque;
    unsigned index = (unsigned)(offset / 4);
    struct hole_vcpu *vcpu = &hole->vcpus[index];
    uint32_t step = hole_done(hole, index) + 1;
    bool is_legal = false;

    (void)attrs;
    REQUIRE(size_bytes == 4 && index < HOLE_VCPUS, "the guest has lost its way");
    pthread_mutex_lock(&hole->mutex);
    for (unsigned i = 0; i < vcpu->legal_count && vcpu->legal_step == step; i++) {
        is_legal |= vcpu->legal[i] == value;
    }
    pthread_mutex_unlock(&hole->mutex);
    REQUIRE(is_legal, "vCPU %u, step %" PRIu32 ": %#" PRIx64 " at page %" PRIu32, index, step,
            value, step % HOLE_PAGES);
    atomic_fetch_add(&hole->explained, 1);
    return GM_ACCESS_OK;
}

static enum gm_access on_mismatch_read(void *opaque, uint64_t offset, unsigned size_bytes,
                                       uint64_t *value, struct gm_attrs attrs)
{
    (void)opaque;
    (void)offset;
    (void)size_bytes;
    (void)attrs;
    *value = 0;
    return GM_ACCESS_DECODE;
}

static const struct gm_io_ops mismatch_ops = {
    .size = sizeof(mismatch_ops),
    .read = on_mismatch_read,
    .write = on_mismatch,
};

/* ---- running ---- */

static void *vcpu_thread(void *opaque)
{
    struct hole_vcpu *vcpu = opaque;
    const struct kvm_run *run = gm_vcpu_kvm_run(vcpu->vcpu);

    while (!atomic_load(&vcpu->hole->end)) {
        int rc = gm_vcpu_run(vcpu->vcpu);

        REQUIRE(rc == -EINTR, "gm_vcpu_run: %d, exit %u", rc, run->exit_reason);
    }
    return NULL;
}

void hole_start(struct hole *hole)
{
    struct gm_vm *vm = hole->guest.vm;

    REQUIRE(pthread_mutex_init(&hole->mutex, NULL) == 0, "mutex");
    REQUIRE(gm_region_new_mmio(gm_vm_map(vm), "mismatch", 4 * HOLE_VCPUS, &mismatch_ops, hole,
                               &hole->mismatch) == 0,
            "mismatch");
    REQUIRE(gm_region_set_addr(hole->mismatch, PORT, NULL) == 0, "set_addr");
    REQUIRE(gm_region_add(gm_vm_ports_root(vm), hole->mismatch, NULL) == 0, "add");
    /* After the slots', which apply last of all. */
    REQUIRE(gm_listener_register(gm_vm_map(vm), gm_vm_memory(vm), INT32_MAX, &listener_ops, hole,
                                 &hole->listener, NULL) == 0,
            "listener");
    for (unsigned page = HOLE_PAM_FIRST; page < HOLE_HOT_FIRST; page++) {
        store(low_word(hole, WANTED + 4 * page), constant_at(&hole->layout, page));
    }
    for (unsigned i = 0; i < HOLE_VCPUS; i++) {
        struct hole_vcpu *vcpu = &hole->vcpus[i];

        vcpu->hole = hole;
        vcpu->accounted = HOLE_FIRST_STEP;
        store(low_word(hole, DONE(i)), HOLE_FIRST_STEP);
        write_program(hole, i);
        REQUIRE(gm_vcpu_new(vm, i, &vcpu->vcpu, NULL) == 0, "vCPU %u", i);
        reset_vcpu(vcpu->vcpu, i);
        REQUIRE(pthread_create(&vcpu->thread, NULL, vcpu_thread, vcpu) == 0, "thread");
    }
}

void hole_check_exits(const struct hole *hole)
{
    for (unsigned i = 0; i < HOLE_VCPUS; i++) {
        struct gm_vcpu_stats stats;

        gm_vcpu_stats(hole->vcpus[i].vcpu, &stats);
        REQUIRE(stats.mmio_reads + stats.mmio_writes + stats.unmapped == 0,
                "vCPU %u: %" PRIu64 " reads and %" PRIu64 " writes came out as MMIO, %" PRIu64
                " unmapped",
                i, stats.mmio_reads, stats.mmio_writes, stats.unmapped);
    }
}

void hole_stop(struct hole *hole)
{
    atomic_store(&hole->end, true);
    for (unsigned i = 0; i < HOLE_VCPUS; i++) {
        gm_vcpu_kick(hole->vcpus[i].vcpu);
        REQUIRE(pthread_join(hole->vcpus[i].thread, NULL) == 0, "join");
    }
    check_all(hole);
    hole_check_exits(hole);
    REQUIRE(gm_listener_unregister(hole->listener, NULL) == 0, "unregister");
    gm_region_put(hole->mismatch);
    pthread_mutex_destroy(&hole->mutex);
}
