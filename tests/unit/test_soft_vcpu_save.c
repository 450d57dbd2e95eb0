/*
 * unit/test_soft_vcpu_save.c - a vCPU that is saved by KVM's ioctls, in the midst of random code, and restored in another VM comes
 * to the same end as the one that went on.
 */
#include "model/random.h"
#include "vcpu_face.h"

#include "soft/soft.h"

#include <stdio.h>

enum {
    PML4 = 0x1000,
    PDPT = 0x2000,
    PD = 0x3000,
    CODE = 0x10000,
    DATA = 0x40000,
    STACK = 0x80000,
    INSNS = 400,
    ROUNDS = 25,
};

/* All that KVM's ioctls save. */
struct saved {
    struct kvm_regs regs;
    struct kvm_sregs2 sregs;
    struct {
        uint32_t region[1024];
    } xsave; /* struct kvm_xsave */
    struct kvm_xcrs xcrs;
    struct kvm_debugregs debugregs;
    struct kvm_vcpu_events events;
    struct kvm_mp_state mp_state;
    struct face_cpuid cpuid;
    struct face_msrs msrs;
};

static struct rnd rnd;

static uint64_t below(uint64_t end)
{
    return rnd_below(&rnd, end);
}

static void ask(struct rig *rig, unsigned long request, const void *argument)
{
    assert_int_equal(gm_soft_vcpu_ioctl(rig->vcpu, request, (uintptr_t)argument), 0);
}

/* Every MSR that the system names. */
static void list_msrs(struct face_msrs *msrs)
{
    static struct {
        struct {
            uint32_t nmsrs;
        } head; /* struct kvm_msr_list */
        uint32_t indices[250];
    } list;

    list.head.nmsrs = 250;
    assert_int_equal(gm_soft_system_ioctl(KVM_GET_MSR_INDEX_LIST, (uintptr_t)&list), 0);
    memset(msrs, 0, sizeof(*msrs));
    msrs->head.nmsrs = list.head.nmsrs;
    for (uint32_t i = 0; i < list.head.nmsrs; i++) {
        msrs->entries[i].index = list.indices[i];
    }
}

static void save(struct rig *rig, struct saved *saved)
{
    memset(saved, 0, sizeof(*saved));
    saved->cpuid.head.nent = 300;
    list_msrs(&saved->msrs);
    ask(rig, KVM_GET_REGS, &saved->regs);
    ask(rig, KVM_GET_SREGS2, &saved->sregs);
    ask(rig, KVM_GET_XSAVE, &saved->xsave);
    ask(rig, KVM_GET_XCRS, &saved->xcrs);
    ask(rig, KVM_GET_DEBUGREGS, &saved->debugregs);
    ask(rig, KVM_GET_VCPU_EVENTS, &saved->events);
    ask(rig, KVM_GET_MP_STATE, &saved->mp_state);
    ask(rig, KVM_GET_CPUID2, &saved->cpuid);
    assert_int_equal(gm_soft_vcpu_ioctl(rig->vcpu, KVM_GET_MSRS, (uintptr_t)&saved->msrs),
                     saved->msrs.head.nmsrs);
    for (uint32_t i = 0; i < saved->msrs.head.nmsrs; i++) {
        if (saved->msrs.entries[i].index == 0x10) {
            saved->msrs.entries[i].data = 0; /* time goes on */
        }
    }
}

static void restore(struct rig *rig, const struct saved *saved)
{
    ask(rig, KVM_SET_CPUID2, &saved->cpuid);
    ask(rig, KVM_SET_REGS, &saved->regs);
    ask(rig, KVM_SET_SREGS2, &saved->sregs);
    ask(rig, KVM_SET_XSAVE, &saved->xsave);
    ask(rig, KVM_SET_XCRS, &saved->xcrs);
    ask(rig, KVM_SET_DEBUGREGS, &saved->debugregs);
    assert_int_equal(gm_soft_vcpu_ioctl(rig->vcpu, KVM_SET_MSRS, (uintptr_t)&saved->msrs),
                     saved->msrs.head.nmsrs);
    ask(rig, KVM_SET_VCPU_EVENTS, &saved->events);
    ask(rig, KVM_SET_MP_STATE, &saved->mp_state);
}

static const char *const PARTS[] = {"regs",   "sregs",    "xsave", "xcrs", "debugregs",
                                    "events", "mp_state", "cpuid", "msrs"};

/* The first part in which two states differ; NULL: none. */
static const char *difference(const struct saved *a, const struct saved *b)
{
    const size_t ends[] = {
        offsetof(struct saved, sregs),  offsetof(struct saved, xsave),
        offsetof(struct saved, xcrs),   offsetof(struct saved, debugregs),
        offsetof(struct saved, events), offsetof(struct saved, mp_state),
        offsetof(struct saved, cpuid),  offsetof(struct saved, msrs),
        sizeof(struct saved),
    };
    size_t begin = 0;

    for (size_t i = 0; i < sizeof(ends) / sizeof(ends[0]); i++) {
        if (memcmp((const char *)a + begin, (const char *)b + begin, ends[i] - begin) != 0) {
            return PARTS[i];
        }
        begin = ends[i];
    }
    return NULL;
}

/* Random code: bytes are put at @at. */
struct code {
    uint8_t *at;
};

static void put(struct code *code, uint8_t byte)
{
    *code->at++ = byte;
}

/* A register that is none of RSP, RSI (data), RDI. */
static unsigned any_register(void)
{
    static const uint8_t registers[] = {0, 1, 2, 3, 5, 8, 9, 10, 11, 12, 13, 14, 15};

    return registers[below(sizeof(registers))];
}

static void put_registers(struct code *code, uint8_t prefix, const uint8_t *opcode, size_t count)
{
    unsigned reg = any_register(), rm = any_register();

    if (prefix != 0) {
        put(code, prefix);
    }
    put(code, (uint8_t)(0x48 | reg >> 3 << 2 | rm >> 3));
    for (size_t i = 0; i < count; i++) {
        put(code, opcode[i]);
    }
    put(code, (uint8_t)(0xc0 | (reg & 7) << 3 | (rm & 7)));
}

/* ... with [rsi + disp32]. */
static void put_memory(struct code *code, uint8_t prefix, const uint8_t *opcode, size_t count)
{
    uint32_t disp = (uint32_t)below(0x3000);
    unsigned reg = any_register();

    if (prefix != 0) {
        put(code, prefix);
    }
    put(code, (uint8_t)(0x48 | reg >> 3 << 2));
    for (size_t i = 0; i < count; i++) {
        put(code, opcode[i]);
    }
    put(code, (uint8_t)(0x86 | (reg & 7) << 3));
    memcpy(code->at, &disp, sizeof(disp));
    code->at += sizeof(disp);
}

static void put_instruction(struct code *code)
{
    static const uint8_t alu[] = {0x01, 0x09, 0x11, 0x19, 0x21, 0x29, 0x31, 0x39, 0x85, 0x87};
    static const uint8_t sse[] = {0x58, 0x59, 0x5c, 0x5e, 0x51, 0x57, 0xfe, 0xef, 0x14, 0x6c};
    uint8_t opcode[2] = {0x0f, 0};

    switch (below(9)) {
    case 0:
        opcode[0] = alu[below(sizeof(alu))];
        put_registers(code, 0, opcode, 1);
        break;
    case 1:
        opcode[0] = alu[below(8)];
        put_memory(code, opcode[0] != 0x39 && below(4) == 0 ? 0xf0 : 0, opcode, 1);
        break;
    case 2:
        opcode[1] = 0xaf; /* imul */
        put_registers(code, 0, opcode, 2);
        break;
    case 3:
        opcode[1] = (uint8_t)(0x40 | below(16)); /* cmov */
        put_registers(code, 0, opcode, 2);
        break;
    case 4: /* mov to memory, from memory */
        opcode[0] = below(2) == 0 ? 0x89 : 0x8b;
        put_memory(code, 0, opcode, 1);
        break;
    case 5: /* push, and pop another */
        put(code, (uint8_t)(0x50 | below(4)));
        put(code, (uint8_t)(0x58 | below(4)));
        break;
    case 6: /* movdqu from memory */
        opcode[1] = 0x6f;
        put_memory(code, 0xf3, opcode, 2);
        break;
    case 7: /* of doubles and integers, packed */
        opcode[1] = sse[below(sizeof(sse))];
        put_registers(code, 0x66, opcode, 2);
        break;
    default: /* wrgsbase, wrfsbase of a register that is made canonical: rolled to 40 bits */
        put(code, 0x48);
        put(code, 0xc1);
        put(code, 0xe8);
        put(code, 24); /* shr rax,24 */
        put(code, 0xf3);
        put(code, 0x48);
        put(code, 0x0f);
        put(code, 0xae);
        put(code, below(2) == 0 ? 0xd0 : 0xd8);
        break;
    }
}

static void map_all(struct rig *rig)
{
    *rig_word(rig, PML4) = PDPT | 7;
    *rig_word(rig, PDPT) = PD | 7;
    *rig_word(rig, PD) = 0x87;
}

static struct rig save_rig(void)
{
    struct rig rig = rig_new(NULL);

    assert_int_equal(rig_set(&rig, 0, 0, 0, RIG_BYTES, 0), 0);
    return rig;
}

/* Random registers, in 64-bit mode. */
static void begin(struct rig *rig)
{
    struct kvm_segment flat = {
        .limit = UINT32_MAX, .selector = 16, .type = 3, .present = 1, .db = 1, .s = 1, .g = 1};
    struct face_cpuid cpuid = {.head.nent = 300};
    struct saved saved;
    uint64_t *gpr = (uint64_t *)&saved.regs;

    assert_int_equal(gm_soft_system_ioctl(KVM_GET_SUPPORTED_CPUID, (uintptr_t)&cpuid), 0);
    save(rig, &saved);
    saved.cpuid = cpuid;
    for (unsigned i = 0; i < 16; i++) {
        gpr[i] = rnd_next(&rnd);
    }
    saved.regs.rsi = DATA;
    saved.regs.rsp = STACK;
    saved.regs.rip = CODE;
    saved.regs.rflags = 2;
    saved.sregs.ds = saved.sregs.es = saved.sregs.ss = saved.sregs.fs = saved.sregs.gs = flat;
    flat.selector = 8;
    flat.type = 11;
    flat.l = 1;
    flat.db = 0;
    saved.sregs.cs = flat;
    saved.sregs.cr0 = 0x80000011;
    saved.sregs.cr3 = PML4;
    saved.sregs.cr4 = 0x10620; /* PAE, OSFXSR, OSXMMEXCPT, FSGSBASE */
    saved.sregs.efer = 0xd01;
    for (unsigned i = 0; i < 8; i++) {
        saved.debugregs.db[i % 4] = rnd_next(&rnd);
    }
    for (unsigned i = 40; i < 104; i++) {
        saved.xsave.region[i] = (uint32_t)rnd_next(&rnd);
    }
    for (uint32_t i = 0; i < saved.msrs.head.nmsrs; i++) {
        if (saved.msrs.entries[i].index == 0xc0000102) {
            saved.msrs.entries[i].data = below(UINT64_C(1) << 47);
        }
    }
    restore(rig, &saved);
}

static void load(struct rig *rig)
{
    struct code code = {rig->memory + CODE};

    for (unsigned i = 0; i < 0x4000; i += 8) {
        *rig_word(rig, DATA + i) = rnd_next(&rnd);
    }
    for (unsigned i = 0; i < INSNS; i++) {
        put_instruction(&code);
    }
    put(&code, 0xf4);
    map_all(rig);
}

static void run_to_halt(struct rig *rig)
{
    ask(rig, KVM_RUN, NULL);
    assert_int_equal(gm_soft_vcpu_run_page(rig->vcpu)->exit_reason, KVM_EXIT_HLT);
}

static void saved_vcpu_goes_on_elsewhere_as_the_original(void **state)
{
    static struct saved halfway, again, end, end_elsewhere;

    (void)state;
    for (unsigned round = 0; round < ROUNDS; round++) {
        struct rig original = save_rig(), copy = save_rig();
        const char *part;

        load(&original);
        begin(&original);
        assert_int_equal(x86_run(original.vcpu->x86, 1 + below(INSNS - 50)), X86_EXIT_BUDGET);
        save(&original, &halfway);
        memcpy(copy.memory, original.memory, RIG_BYTES);
        restore(&copy, &halfway);
        save(&copy, &again);
        part = difference(&again, &halfway);
        if (part != NULL) {
            fail_msg("round %u: %s does not come back", round, part);
        }
        run_to_halt(&original);
        run_to_halt(&copy);
        save(&original, &end);
        save(&copy, &end_elsewhere);
        part = difference(&end_elsewhere, &end);
        if (part != NULL) {
            fail_msg("round %u: the ends differ in %s", round, part);
        }
        assert_memory_equal(copy.memory, original.memory, RIG_BYTES);
        assert_int_not_equal(halfway.regs.rip, end.regs.rip);
        rig_free(&original);
        rig_free(&copy);
    }
}

static void fault_that_waits_is_delivered_elsewhere(void **state)
{
    /* A division by zero, told as an event between the instruction and its handler. */
    static struct saved waiting;
    struct rig original = save_rig(), copy = save_rig();

    (void)state;
    load(&original);
    begin(&original);
    original.vcpu->x86->event =
        (struct x86_event){.kind = X86_EVENT_EXCEPTION, .vector = 0, .has_error_code = false};
    save(&original, &waiting);
    assert_int_equal(waiting.events.exception.injected, 1);
    memcpy(copy.memory, original.memory, RIG_BYTES);
    restore(&copy, &waiting);
    /* No IDT: the fault that comes of it is the end, as it is for the original. */
    ask(&original, KVM_RUN, NULL);
    ask(&copy, KVM_RUN, NULL);
    assert_int_equal(gm_soft_vcpu_run_page(original.vcpu)->exit_reason, KVM_EXIT_SHUTDOWN);
    assert_int_equal(gm_soft_vcpu_run_page(copy.vcpu)->exit_reason, KVM_EXIT_SHUTDOWN);
    rig_free(&original);
    rig_free(&copy);
}

static void keys_and_pdptes_go_along(void **state)
{
    static struct saved saved, again;
    struct rig original = save_rig(), copy = save_rig();

    (void)state;
    save(&original, &saved);
    saved.xsave.region[128] = 0x203;
    saved.xsave.region[2688 / 4] = 0x55555554;
    saved.sregs.cr0 = 0x80000011;
    saved.sregs.cr4 = 0x20;
    saved.sregs.flags = KVM_SREGS2_FLAGS_PDPTRS_VALID;
    saved.sregs.pdptrs[2] = 0x7001;
    restore(&original, &saved);
    save(&original, &saved);
    assert_int_equal(saved.sregs.pdptrs[2], 0x7001);
    restore(&copy, &saved);
    save(&copy, &again);
    assert_null(difference(&again, &saved));
    assert_int_equal(copy.vcpu->x86->pkru, 0x55555554);
    rig_free(&original);
    rig_free(&copy);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(saved_vcpu_goes_on_elsewhere_as_the_original),
        cmocka_unit_test(fault_that_waits_is_delivered_elsewhere),
        cmocka_unit_test(keys_and_pdptes_go_along),
    };

    rnd.state = rnd_seed("soft_vcpu_save");
    return cmocka_run_group_tests(tests, NULL, NULL);
}
