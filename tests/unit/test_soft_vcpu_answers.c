/*
 * unit/test_soft_vcpu_answers.c - which states a vCPU takes and which it refuses, put as the same questions to the software KVM
 * and to /dev/kvm, where that opens. Each question is put to a new vCPU.
 */
#include "vcpu_face.h"

#include <stdio.h>

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))
#define BIT(number) (UINT64_C(1) << (number))

/* Of whom the answer is expected. */
enum of {
    OF_BOTH,
    OF_SOFT, /* Linux's depends on the processor, or the software KVM's is one of its own (docs/software-kvm.md) */
};

/* A question: the state as it is, changed, and set. */
struct question {
    const char *name;
    unsigned long get, set;
    size_t size;
    void (*change)(void *state);
    long answer;
    enum of of;
};

union state {
    struct kvm_sregs sregs;
    struct kvm_sregs2 sregs2;
    struct kvm_vcpu_events events;
    struct kvm_xsave xsave;
    struct kvm_xcrs xcrs;
    struct kvm_debugregs debugregs;
    struct kvm_mp_state mp_state;
};

#define CR0_PAGED (BIT(31) | 0x11)
#define SREGS(Q)                                                                                   \
    Q(sregs_same, , 0, OF_BOTH)                                                                    \
    Q(sregs_cr0_high_half, s->cr0 |= BIT(32), -EINVAL, OF_BOTH)                                    \
    Q(sregs_cr0_pg_without_pe, s->cr0 = BIT(31), -EINVAL, OF_BOTH)                                 \
    Q(sregs_cr0_nw_without_cd, s->cr0 = BIT(29), -EINVAL, OF_BOTH)                                 \
    Q(sregs_cr0_unused_bit, s->cr0 |= BIT(6), 0, OF_BOTH)                                          \
    Q(sregs_cr0_nothing, s->cr0 = 0, 0, OF_BOTH)                                                   \
    Q(sregs_cr4_high_half, s->cr4 = BIT(40), -EINVAL, OF_BOTH)                                     \
    Q(sregs_cr4_vmxe, s->cr4 = BIT(13), -EINVAL, OF_SOFT)                                          \
    Q(sregs_cr4_smxe, s->cr4 = BIT(14), -EINVAL, OF_BOTH)                                          \
    Q(sregs_cr4_bit_15, s->cr4 = BIT(15), -EINVAL, OF_BOTH)                                        \
    Q(sregs_cr4_bit_19, s->cr4 = BIT(19), -EINVAL, OF_BOTH)                                        \
    Q(sregs_cr4_cet, s->cr4 = BIT(23), -EINVAL, OF_SOFT)                                           \
    Q(sregs_cr4_vme, s->cr4 = 3, 0, OF_BOTH)                                                       \
    Q(sregs_cr4_all_that_is_there, s->cr4 = 0x371fff, 0, OF_SOFT)                                  \
    Q(sregs_cr4_keys_that_no_list_has, s->cr4 = BIT(22), -EINVAL, OF_SOFT)                         \
    Q(sregs_efer_lma_alone, s->efer = 0x400, -EINVAL, OF_BOTH)                                     \
    Q(sregs_efer_lme_alone, s->efer = 0x100, 0, OF_BOTH)                                           \
    Q(sregs_efer_long_without_pg, s->efer = 0x500, -EINVAL, OF_BOTH)                               \
    Q(sregs_efer_unknown_bit, s->efer = 2, -EINVAL, OF_SOFT)                                       \
    Q(sregs_code_is_64_bit, s->cs.l = 1, -EINVAL, OF_BOTH)                                         \
    Q(sregs_paging, s->cr0 = CR0_PAGED, 0, OF_BOTH)                                                \
    Q(sregs_pae, (s->cr0 = CR0_PAGED, s->cr4 = 0x20), 0, OF_BOTH)                                  \
    Q(sregs_long, (s->cr0 = CR0_PAGED, s->cr4 = 0x20, s->efer = 0x500), 0, OF_BOTH)                \
    Q(sregs_long_64, (s->cr0 = CR0_PAGED, s->cr4 = 0x20, s->efer = 0x500, s->cs.l = 1), 0,         \
      OF_BOTH)                                                                                     \
    Q(sregs_long_without_pae, (s->cr0 = CR0_PAGED, s->efer = 0x500), -EINVAL, OF_BOTH)             \
    Q(sregs_long_without_lma, (s->cr0 = CR0_PAGED, s->cr4 = 0x20, s->efer = 0x100), -EINVAL,       \
      OF_BOTH)                                                                                     \
    Q(sregs_long_cr3_too_wide,                                                                     \
      (s->cr0 = CR0_PAGED, s->cr4 = 0x20, s->efer = 0x500, s->cr3 = BIT(52)), -EINVAL, OF_BOTH)    \
    Q(sregs_cr3_too_wide, s->cr3 = BIT(60), 0, OF_BOTH)                                            \
    Q(sregs_cr8_too_large, s->cr8 = 16, 0, OF_BOTH)                                                \
    Q(sregs_apic_low_bit, s->apic_base |= 1, -EINVAL, OF_BOTH)                                     \
    Q(sregs_apic_bit_9, s->apic_base |= BIT(9), -EINVAL, OF_BOTH)                                  \
    Q(sregs_apic_x2_alone, s->apic_base = 0xfee00400, -EINVAL, OF_BOTH)                            \
    Q(sregs_apic_x2, s->apic_base |= BIT(10), -EINVAL, OF_BOTH)                                    \
    Q(sregs_apic_too_wide, s->apic_base |= BIT(52), -EINVAL, OF_BOTH)                              \
    Q(sregs_apic_off, s->apic_base = 0, 0, OF_BOTH)                                                \
    Q(sregs_segment_of_ones, memset(&s->ds, 0xff, sizeof(s->ds)), 0, OF_BOTH)

#define SREGS2(Q)                                                                                  \
    Q(sregs2_same, , 0, OF_BOTH)                                                                   \
    Q(sregs2_pdptes_without_paging, s->flags = 1, -EINVAL, OF_BOTH)                                \
    Q(sregs2_unknown_flag, s->flags = 2, -EINVAL, OF_BOTH)                                         \
    Q(sregs2_pdptes, (s->flags = 1, s->cr0 = CR0_PAGED, s->cr4 = 0x20, s->pdptrs[0] = 1), 0,       \
      OF_BOTH)                                                                                     \
    Q(sregs2_pdptes_of_long_mode,                                                                  \
      (s->flags = 1, s->cr0 = CR0_PAGED, s->cr4 = 0x20, s->efer = 0x500), -EINVAL, OF_BOTH)

#define EVENTS(Q)                                                                                  \
    Q(events_same, , 0, OF_BOTH)                                                                   \
    Q(events_no_flags, s->flags = 0, 0, OF_BOTH)                                                   \
    Q(events_sipi, s->flags = 2, 0, OF_BOTH)                                                       \
    Q(events_payload_flag, s->flags = 0x10, -EINVAL, OF_BOTH)                                      \
    Q(events_triple_fault_flag, s->flags = 0x20, -EINVAL, OF_BOTH)                                 \
    Q(events_unknown_flag, s->flags = 0x40, -EINVAL, OF_BOTH)                                      \
    Q(events_exception_32, (s->exception.injected = 1, s->exception.nr = 32), -EINVAL, OF_BOTH)    \
    Q(events_exception_nmi, (s->exception.injected = 1, s->exception.nr = 2), -EINVAL, OF_BOTH)    \
    Q(events_exception_31, (s->exception.injected = 1, s->exception.nr = 31), 0, OF_BOTH)          \
    Q(events_number_of_none, s->exception.nr = 32, 0, OF_BOTH)                                     \
    Q(events_pending_without_flag, (s->exception.pending = 1, s->exception.nr = 32), 0, OF_BOTH)   \
    Q(events_smm, (s->flags = 8, s->smi.smm = 1), -EINVAL, OF_SOFT)                                \
    Q(events_smm_without_flag, (s->flags = 0, s->smi.smm = 1), 0, OF_BOTH)

/* Dwords: MXCSR is 6, XSTATE_BV 128, XCOMP_BV 130, the rest of the header to 143. */
#define XSAVE(Q)                                                                                   \
    Q(xsave_same, , 0, OF_BOTH)                                                                    \
    Q(xsave_nothing_present, s->region[128] = 0, 0, OF_BOTH)                                       \
    Q(xsave_x87_and_sse, s->region[128] = 3, 0, OF_BOTH)                                           \
    Q(xsave_bound_registers, s->region[128] |= 8, -EINVAL, OF_BOTH)                                \
    Q(xsave_avx, s->region[128] |= 4, -EINVAL, OF_SOFT)                                            \
    Q(xsave_high_bit, s->region[129] = 1u << 30, -EINVAL, OF_BOTH)                                 \
    Q(xsave_compacted, (s->region[130] = 1, s->region[131] = 1u << 31), -EINVAL, OF_BOTH)          \
    Q(xsave_reserved, s->region[134] = 1, -EINVAL, OF_BOTH)                                        \
    Q(xsave_mxcsr, (s->region[6] = UINT32_MAX, s->region[128] = 3), -EINVAL, OF_BOTH)              \
    Q(xsave_mxcsr_without_sse, (s->region[6] = UINT32_MAX, s->region[128] = 1), -EINVAL, OF_BOTH)

#define XCRS(Q)                                                                                    \
    Q(xcrs_same, , 0, OF_BOTH)                                                                     \
    Q(xcrs_x87_and_sse, s->xcrs[0].value = 3, 0, OF_SOFT)                                          \
    Q(xcrs_no_x87, s->xcrs[0].value = 2, -EINVAL, OF_BOTH)                                         \
    Q(xcrs_nothing, s->xcrs[0].value = 0, -EINVAL, OF_BOTH)                                        \
    Q(xcrs_avx, s->xcrs[0].value = 7, -EINVAL, OF_BOTH)                                            \
    Q(xcrs_flags, s->flags = 1, -EINVAL, OF_BOTH)                                                  \
    Q(xcrs_too_many, s->nr_xcrs = 17, -EINVAL, OF_BOTH)                                            \
    Q(xcrs_none, s->nr_xcrs = 0, 0, OF_BOTH)                                                       \
    Q(xcrs_another, (s->xcrs[0].xcr = 1, s->xcrs[0].value = 99), 0, OF_BOTH)

#define DEBUGREGS(Q)                                                                               \
    Q(debugregs_same, , 0, OF_BOTH)                                                                \
    Q(debugregs_addresses, memset(s->db, 0xff, sizeof(s->db)), 0, OF_BOTH)                         \
    Q(debugregs_dr6_high_half, s->dr6 |= BIT(32), -EINVAL, OF_BOTH)                                \
    Q(debugregs_dr7_high_half, s->dr7 |= BIT(32), -EINVAL, OF_BOTH)                                \
    Q(debugregs_flags, s->flags = 1, -EINVAL, OF_BOTH)                                             \
    Q(debugregs_breakpoint, s->dr7 |= 1, 0, OF_BOTH)

#define MP_STATES(Q)                                                                               \
    Q(mp_state_runnable, s->mp_state = KVM_MP_STATE_RUNNABLE, 0, OF_BOTH)                          \
    Q(mp_state_uninitialized, s->mp_state = KVM_MP_STATE_UNINITIALIZED, -EINVAL, OF_BOTH)          \
    Q(mp_state_init, s->mp_state = KVM_MP_STATE_INIT_RECEIVED, -EINVAL, OF_BOTH)                   \
    Q(mp_state_halted, s->mp_state = KVM_MP_STATE_HALTED, -EINVAL, OF_BOTH)                        \
    Q(mp_state_sipi, s->mp_state = KVM_MP_STATE_SIPI_RECEIVED, -EINVAL, OF_BOTH)                   \
    Q(mp_state_unknown, s->mp_state = 99, -EINVAL, OF_BOTH)

#define CHANGE(type, name, change)                                                                 \
    static void name(void *state)                                                                  \
    {                                                                                              \
        struct type *s = state;                                                                    \
                                                                                                   \
        (void)s;                                                                                   \
        change;                                                                                    \
    }
#define ROW(letters, type, name, answer, of)                                                       \
    {#name, KVM_GET_##letters, KVM_SET_##letters, sizeof(struct type), name, answer, of},

#define CHANGE_SREGS(name, change, answer, of) CHANGE(kvm_sregs, name, change)
#define CHANGE_SREGS2(name, change, answer, of) CHANGE(kvm_sregs2, name, change)
#define CHANGE_EVENTS(name, change, answer, of) CHANGE(kvm_vcpu_events, name, change)
#define CHANGE_XSAVE(name, change, answer, of) CHANGE(kvm_xsave, name, change)
#define CHANGE_XCRS(name, change, answer, of) CHANGE(kvm_xcrs, name, change)
#define CHANGE_DEBUGREGS(name, change, answer, of) CHANGE(kvm_debugregs, name, change)
#define CHANGE_MP_STATE(name, change, answer, of) CHANGE(kvm_mp_state, name, change)

#define ROW_SREGS(name, change, answer, of) ROW(SREGS, kvm_sregs, name, answer, of)
#define ROW_SREGS2(name, change, answer, of) ROW(SREGS2, kvm_sregs2, name, answer, of)
#define ROW_EVENTS(name, change, answer, of) ROW(VCPU_EVENTS, kvm_vcpu_events, name, answer, of)
#define ROW_XSAVE(name, change, answer, of) ROW(XSAVE, kvm_xsave, name, answer, of)
#define ROW_XCRS(name, change, answer, of) ROW(XCRS, kvm_xcrs, name, answer, of)
#define ROW_DEBUGREGS(name, change, answer, of) ROW(DEBUGREGS, kvm_debugregs, name, answer, of)
#define ROW_MP_STATE(name, change, answer, of) ROW(MP_STATE, kvm_mp_state, name, answer, of)

SREGS(CHANGE_SREGS)
SREGS2(CHANGE_SREGS2)
EVENTS(CHANGE_EVENTS)
XSAVE(CHANGE_XSAVE)
XCRS(CHANGE_XCRS)
DEBUGREGS(CHANGE_DEBUGREGS)
MP_STATES(CHANGE_MP_STATE)

static const struct question QUESTIONS[] = {SREGS(ROW_SREGS) SREGS2(ROW_SREGS2) EVENTS(
    ROW_EVENTS) XSAVE(ROW_XSAVE) XCRS(ROW_XCRS) DEBUGREGS(ROW_DEBUGREGS) MP_STATES(ROW_MP_STATE)};

/* An MSR that is written, and read. */
struct msr_question {
    uint32_t index;
    uint64_t value;
    long done;      /* by KVM_SET_MSRS */
    uint64_t after; /* what it then holds, but for the time-stamp counter */
    enum of of;
};

#define FIX 0x0606060606060606
#define PAT_AT_RESET 0x0007040600070406
static const struct msr_question MSRS[] = {
    {0xc0000080, 0x500, 1, 0x100, OF_BOTH}, /* LMA is the processor's */
    {0xc0000080, 0xd01, 1, 0x901, OF_BOTH},
    {0xc0000080, 2, 0, 0, OF_BOTH},
    {0xc0000080, 0x1000, 0, 0, OF_SOFT},
    {0x277, 2, 0, PAT_AT_RESET, OF_SOFT}, /* kvm_pvm takes it */
    {0x277, 7, 1, 7, OF_BOTH},
    {0x2ff, 0xc06, 1, 0xc06, OF_BOTH},
    {0x2ff, 2, 0, 0, OF_BOTH},
    {0x2ff, 0x1000, 0, 0, OF_BOTH},
    {0x200, 6, 1, 6, OF_BOTH},
    {0x200, 2, 0, 0, OF_BOTH},
    {0x200, 0x106, 0, 0, OF_BOTH},
    {0x200, BIT(52), 0, 0, OF_BOTH},
    {0x20f, 0x800, 1, 0x800, OF_BOTH},
    {0x20f, 1, 0, 0, OF_BOTH},
    {0x250, FIX, 1, FIX, OF_BOTH},
    {0x250, 2, 0, 0, OF_BOTH},
    {0x26f, FIX, 1, FIX, OF_BOTH},
    {0xfe, 0, 0, 0x508, OF_BOTH},
    {0x174, BIT(40), 1, BIT(40), OF_BOTH},
    {0x175, BIT(60), 1, 0, OF_BOTH},
    {0xc0000082, BIT(60), 0, 0, OF_BOTH},
    {0xc0000082, ~BIT(46), 1, ~BIT(46), OF_BOTH},
    {0xc0000084, UINT64_MAX, 1, UINT64_MAX, OF_BOTH},
    {0xc0000100, BIT(60), 0, 0, OF_BOTH},
    {0xc0000102, 0x1234, 1, 0x1234, OF_BOTH},
    {0xc0000103, 5, 1, 5, OF_SOFT}, /* takes a processor that has it */
    {0xc0000103, BIT(40), 0, 0, OF_SOFT},
    {0x1b, 0xfee00900, 1, 0xfee00900, OF_BOTH},
    {0x1b, 1, 0, 0xfee00900, OF_BOTH},
    {0x8b, 7, 1, 7, OF_BOTH},
    {0x1a0, 1, 1, 1, OF_BOTH},
};

static unsigned asked;

/* A vCPU of the kind that is asked. */
static bool begin(struct face *face, bool is_real, enum of of)
{
    if (!is_real) {
        *face = face_soft();
        return true;
    }
    return of == OF_BOTH && face_real(face);
}

static void put(const struct question *question, bool is_real)
{
    union state state = {0};
    struct face face;
    long answer;

    if (!begin(&face, is_real, question->of)) {
        return;
    }
    asked++;
    assert_int_equal(face_ask(&face, question->get, &state), 0);
    question->change(&state);
    answer = face_ask(&face, question->set, &state);
    if (answer != question->answer) {
        print_error("%s: %ld\n", question->name, answer);
    }
    assert_int_equal(answer, question->answer);
    face_close(&face);
}

static void put_msr(const struct msr_question *question, bool is_real)
{
    struct face face;
    long done;

    if (!begin(&face, is_real, question->of)) {
        return;
    }
    asked++;
    done = face_set_msr(&face, question->index, question->value);
    if (done != question->done || face_get_msr(&face, question->index) != question->after) {
        print_error("MSR %x: %ld\n", question->index, done);
    }
    assert_int_equal(done, question->done);
    assert_int_equal(face_get_msr(&face, question->index), question->after);
    face_close(&face);
}

static void put_all(bool is_real)
{
    asked = 0;
    for (size_t i = 0; i < COUNT(QUESTIONS); i++) {
        put(&QUESTIONS[i], is_real);
    }
    for (size_t i = 0; i < COUNT(MSRS); i++) {
        put_msr(&MSRS[i], is_real);
    }
}

/* Lists: how many entries there may be, and what is said where they are too many or too few. */
static void put_lists(bool is_real)
{
    static struct face_cpuid cpuid;
    static struct face_msrs msrs;
    struct kvm_msr_list indices = {0};
    struct face face;
    uint32_t supported;
    uint32_t held;

    if (!begin(&face, is_real, OF_BOTH)) {
        return;
    }
    cpuid = (struct face_cpuid){0};
    assert_int_equal(face_system(&face, KVM_GET_SUPPORTED_CPUID, &cpuid), -E2BIG);
    cpuid.head.nent = 300;
    assert_int_equal(face_system(&face, KVM_GET_SUPPORTED_CPUID, &cpuid), 0);
    supported = cpuid.head.nent;
    assert_in_range(supported, 5, 256);
    assert_int_equal(face_ask(&face, KVM_SET_CPUID2, &cpuid), 0);
    cpuid.head.nent = supported - 1;
    assert_int_equal(face_system(&face, KVM_GET_SUPPORTED_CPUID, &cpuid), -E2BIG);
    assert_int_equal(cpuid.head.nent, supported - 1);
    cpuid.head.nent = 300;
    assert_int_equal(face_ask(&face, KVM_GET_CPUID2, &cpuid), 0);
    if (cpuid.head.nent == 300) { /* Linux 6.1 forgets to say how many there are */
        assert_true(is_real);
        held = supported;
    } else { /* Linux 6.18 can leave entries out that it was given */
        held = cpuid.head.nent;
        assert_in_range(held, is_real ? 1 : supported, supported);
    }
    cpuid.head.nent = held - 1;
    assert_int_equal(face_ask(&face, KVM_GET_CPUID2, &cpuid), -E2BIG);
    assert_int_equal(cpuid.head.nent, held - 1);
    cpuid.head.nent = 257;
    assert_int_equal(face_ask(&face, KVM_SET_CPUID2, &cpuid), -E2BIG);
    assert_int_equal(face_ask(&face, KVM_SET_CPUID, &cpuid), -E2BIG);

    /* Linear addresses have 48 bits, or 57; and there may be no leaf, or no list. */
    cpuid = (struct face_cpuid){.head.nent = 1, .entries = {{.function = 0x80000008}}};
    cpuid.entries[0].eax = 45 << 8;
    assert_int_equal(face_ask(&face, KVM_SET_CPUID2, &cpuid), -EINVAL);
    cpuid.entries[0].eax = 48 << 8 | 40;
    assert_int_equal(face_ask(&face, KVM_SET_CPUID2, &cpuid), 0);
    cpuid.head.nent = 0;
    assert_int_equal(face_ask(&face, KVM_SET_CPUID2, &cpuid), 0);
    assert_int_equal(face_ask(&face, KVM_GET_CPUID2, &cpuid), 0);

    /* Only the emulated ones look at padding. */
    assert_int_equal(face_system(&face, KVM_GET_EMULATED_CPUID, &cpuid), -E2BIG);
    cpuid.head.nent = 20;
    cpuid.entries[19].padding[2] = 1;
    assert_int_equal(face_system(&face, KVM_GET_EMULATED_CPUID, &cpuid), -EINVAL);
    cpuid.entries[19].padding[2] = 0;
    assert_int_equal(face_system(&face, KVM_GET_EMULATED_CPUID, &cpuid), 0);

    assert_int_equal(face_system(&face, KVM_GET_MSR_INDEX_LIST, &indices), -E2BIG);
    assert_in_range(indices.nmsrs, 10, 1000);
    indices.nmsrs = 0;
    assert_int_equal(face_system(&face, KVM_GET_MSR_FEATURE_INDEX_LIST, &indices), -E2BIG);
    msrs = (struct face_msrs){.head.nmsrs = 256};
    assert_int_equal(face_ask(&face, KVM_GET_MSRS, &msrs), -E2BIG);
    assert_int_equal(face_ask(&face, KVM_SET_MSRS, &msrs), -E2BIG);
    msrs.head.nmsrs = 0;
    assert_int_equal(face_ask(&face, KVM_GET_MSRS, &msrs), 0);
    assert_int_equal(face_ask(&face, KVM_SET_MSRS, &msrs), 0);

    /* Up to the first that there is not. */
    msrs = (struct face_msrs){
        .head.nmsrs = 3,
        .entries = {{.index = 0xc0000102, .data = 1}, {.index = 0xdead}, {.index = 0x174}}};
    assert_int_equal(face_ask(&face, KVM_SET_MSRS, &msrs), 1);
    assert_int_equal(face_get_msr(&face, 0xc0000102), 1);
    msrs.entries[0].data = 0;
    assert_int_equal(face_ask(&face, KVM_GET_MSRS, &msrs), 1);
    assert_int_equal(msrs.entries[0].data, 1);

    /* Of the system: those that say what processors there are. */
    msrs = (struct face_msrs){.head.nmsrs = 2, .entries = {{.index = 0x8b}, {.index = 0xdead}}};
    assert_int_equal(face_system(&face, KVM_GET_MSRS, &msrs), 1);
    face_close(&face);
}

/* What comes in from outside, and how it is told. */
static void put_events(bool is_real)
{
    struct kvm_interrupt interrupt = {.irq = 256};
    struct kvm_vcpu_events events;
    struct kvm_sregs sregs;
    struct face face;

    if (!begin(&face, is_real, OF_BOTH)) {
        return;
    }
    assert_int_equal(face_ask(&face, KVM_INTERRUPT, &interrupt), -EINVAL);
    interrupt.irq = 32;
    assert_int_equal(face_ask(&face, KVM_INTERRUPT, &interrupt), 0);
    interrupt.irq = 33; /* it takes the other's place */
    assert_int_equal(face_ask(&face, KVM_INTERRUPT, &interrupt), 0);
    assert_int_equal(face_ask(&face, KVM_NMI, NULL), 0);
    assert_int_equal(face_ask(&face, KVM_GET_VCPU_EVENTS, &events), 0);
    assert_int_equal(events.flags, 0xd);
    assert_int_equal(events.interrupt.injected, 1);
    assert_int_equal(events.interrupt.nr, 33);
    assert_int_equal(events.nmi.pending, 1);
    assert_int_equal(face_ask(&face, KVM_GET_SREGS, &sregs), 0);
    assert_int_equal(sregs.interrupt_bitmap[0], BIT(33));

    /* An exception comes first, an interrupt stays behind it. Breakpoints' is not told: INT3 makes it again. */
    events.exception.injected = 1;
    events.exception.nr = 13;
    events.exception.has_error_code = 1;
    events.exception.error_code = 0x58;
    events.interrupt.shadow = KVM_X86_SHADOW_INT_STI;
    events.nmi.pending = 0;
    events.nmi.masked = 1;
    assert_int_equal(face_ask(&face, KVM_SET_VCPU_EVENTS, &events), 0);
    memset(&events, 0xff, sizeof(events));
    assert_int_equal(face_ask(&face, KVM_GET_VCPU_EVENTS, &events), 0);
    assert_int_equal(events.exception.injected, 1);
    assert_int_equal(events.exception.nr, 13);
    assert_int_equal(events.exception.has_error_code, 1);
    assert_int_equal(events.exception.error_code, 0x58);
    assert_int_equal(events.interrupt.injected, 1);
    assert_int_equal(events.interrupt.nr, 33);
    assert_true((events.interrupt.shadow & KVM_X86_SHADOW_INT_STI) !=
                0); /* AMD's have one shadow */
    assert_int_equal(events.nmi.pending, 0);
    assert_int_equal(events.nmi.masked, 1);
    events.exception.nr = 3;
    assert_int_equal(face_ask(&face, KVM_SET_VCPU_EVENTS, &events), 0);
    assert_int_equal(face_ask(&face, KVM_GET_VCPU_EVENTS, &events), 0);
    assert_int_equal(events.exception.injected, 0);

    assert_int_equal(face_ask(&face, KVM_SET_TSC_KHZ, NULL), 0);
    assert_int_equal(face_ask(&face, KVM_SET_TSC_KHZ, (void *)(uintptr_t)1000), -EINVAL);
    assert_in_range(face_ask(&face, KVM_GET_TSC_KHZ, NULL), 1000, 10000000);
    assert_int_equal(face_ask(&face, KVM_KVMCLOCK_CTRL, NULL), -EINVAL);
    face_close(&face);
}

static void soft_vcpu_answers_what_is_expected(void **state)
{
    /* Reserved bits, modes that contradict themselves, values that no register holds. */
    (void)state;
    put_all(false);
    put_lists(false);
    put_events(false);
    assert_int_equal(asked, COUNT(QUESTIONS) + COUNT(MSRS));
}

static void real_vcpu_answers_what_is_expected_here(void **state)
{
    /* Expectations are no opinion: the kernel of this machine is asked, if it has a KVM. */
    struct face face;

    (void)state;
    if (!face_real(&face)) {
        skip();
    }
    face_close(&face);
    put_all(true);
    put_lists(true);
    put_events(true);
    print_message("asked %u of %zu questions\n", asked, COUNT(QUESTIONS) + COUNT(MSRS));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(soft_vcpu_answers_what_is_expected),
        cmocka_unit_test(real_vcpu_answers_what_is_expected_here),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
