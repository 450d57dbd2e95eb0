/*
 * unit/test_soft_vcpu_state.c - a vCPU's state by KVM's ioctls: what is set is what is got and what the guest sees, and bad
 * addresses are errors.
 */
#include "vcpu_face.h"

#include "soft/soft.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))
#define BIT(number) (UINT64_C(1) << (number))

static void ask(struct rig *rig, unsigned long request, const void *argument)
{
    assert_int_equal(gm_soft_vcpu_ioctl(rig->vcpu, request, (uintptr_t)argument), 0);
}

static struct rig state_rig(void)
{
    struct rig rig = rig_new(NULL);

    assert_int_equal(rig_set(&rig, 0, 0, 0, RIG_BYTES, 0), 0);
    return rig;
}

/* Flat 32-bit code without paging, about to run @code at 0x1000. */
static void load_32(struct rig *rig, const void *code, size_t count)
{
    struct kvm_segment flat = {
        .limit = UINT32_MAX, .selector = 16, .type = 3, .present = 1, .db = 1, .s = 1, .g = 1};
    struct kvm_sregs sregs;
    struct kvm_regs regs = {.rip = 0x1000, .rsp = 0x8000, .rflags = 2};

    memcpy(rig->memory + 0x1000, code, count);
    ask(rig, KVM_GET_SREGS, &sregs);
    sregs.ds = sregs.es = sregs.ss = flat;
    flat.selector = 8;
    flat.type = 11;
    sregs.cs = flat;
    sregs.cr0 = 0x11;
    ask(rig, KVM_SET_SREGS, &sregs);
    ask(rig, KVM_SET_REGS, &regs);
}

static void run_to(struct rig *rig, uint32_t reason)
{
    ask(rig, KVM_RUN, NULL);
    assert_int_equal(gm_soft_vcpu_run_page(rig->vcpu)->exit_reason, reason);
}

static void registers_come_back_in_their_places(void **state)
{
    struct rig rig = state_rig();
    struct kvm_regs set = {.rax = 1,
                           .rbx = 2,
                           .rcx = 3,
                           .rdx = 4,
                           .rsi = 5,
                           .rdi = 6,
                           .rsp = 7,
                           .rbp = 8,
                           .r8 = 9,
                           .r9 = 10,
                           .r10 = 11,
                           .r11 = 12,
                           .r12 = 13,
                           .r13 = 14,
                           .r14 = 15,
                           .r15 = 16,
                           .rip = 17,
                           .rflags = 0x8d7};
    struct kvm_regs got;

    (void)state;
    ask(&rig, KVM_SET_REGS, &set);
    ask(&rig, KVM_GET_REGS, &got);
    assert_memory_equal(&got, &set, sizeof(set));
    assert_int_equal(rig.vcpu->x86->gpr[X86_RBX], 2);
    assert_int_equal(rig.vcpu->x86->gpr[X86_RSP], 7);
    set.rflags = 0; /* bit 1 is always 1 */
    ask(&rig, KVM_SET_REGS, &set);
    ask(&rig, KVM_GET_REGS, &got);
    assert_int_equal(got.rflags, 2);
    rig_free(&rig);
}

static void registers_are_what_the_guest_sees(void **state)
{
    struct rig rig = state_rig();
    struct kvm_regs regs;

    (void)state;
    load_32(&rig, "\x01\xd8\x11\xd1\xf4", 5); /* add eax,ebx; adc ecx,edx; hlt */
    ask(&rig, KVM_GET_REGS, &regs);
    regs.rax = UINT32_MAX;
    regs.rbx = 1;
    regs.rcx = 10;
    regs.rdx = 20;
    ask(&rig, KVM_SET_REGS, &regs);
    run_to(&rig, KVM_EXIT_HLT);
    ask(&rig, KVM_GET_REGS, &regs);
    assert_int_equal(regs.rax, 0);
    assert_int_equal(regs.rcx, 31);
    assert_int_equal(regs.rip, 0x1005);
    rig_free(&rig);
}

static void segments_come_back_but_for_what_no_processor_holds(void **state)
{
    /* Fields are cut to their width; what is not present is unusable. */
    struct rig rig = state_rig();
    struct kvm_sregs set, got;

    (void)state;
    ask(&rig, KVM_GET_SREGS, &set);
    set.fs = (struct kvm_segment){.base = 0x12345678,
                                  .limit = 0xfffff,
                                  .selector = 0x33,
                                  .type = 7,
                                  .present = 1,
                                  .dpl = 3,
                                  .db = 1,
                                  .s = 1,
                                  .avl = 1,
                                  .g = 1};
    set.ldt = (struct kvm_segment){.base = 1, .selector = 8, .type = 2, .limit = 3, .unusable = 1};
    set.gdt = (struct kvm_dtable){.base = 0x1111, .limit = 0x2222};
    set.idt = (struct kvm_dtable){.base = 0x3333, .limit = 0x4444};
    set.cr2 = 0x5555;
    set.cr3 = 0x6000;
    set.cr4 = 0x620;
    set.cr8 = 7;
    set.apic_base = 0xfee00100;
    ask(&rig, KVM_SET_SREGS, &set);
    ask(&rig, KVM_GET_SREGS, &got);
    assert_memory_equal(&got, &set, sizeof(set));
    memset(&set.fs, 0xff, sizeof(set.fs));
    set.es.present = 0;
    ask(&rig, KVM_SET_SREGS, &set);
    ask(&rig, KVM_GET_SREGS, &got);
    assert_int_equal(got.fs.type, 15);
    assert_int_equal(got.fs.dpl, 3);
    assert_int_equal(got.fs.unusable, 1);
    assert_int_equal(got.es.unusable, 1);
    rig_free(&rig);
}

static void refused_registers_change_nothing(void **state)
{
    struct rig rig = state_rig();
    struct kvm_sregs before = {0}, bad, after;

    (void)state;
    ask(&rig, KVM_GET_SREGS, &before);
    bad = before;
    bad.cr2 = 0x1234;
    bad.cs.base = 0x5678;
    bad.apic_base = 0xfee00901;
    assert_int_equal(gm_soft_vcpu_ioctl(rig.vcpu, KVM_SET_SREGS, (uintptr_t)&bad), -EINVAL);
    ask(&rig, KVM_GET_SREGS, &after);
    assert_memory_equal(&after, &before, sizeof(before));
    rig_free(&rig);
}

static void control_bits_need_their_features(void **state)
{
    /* Without CPUID what the supported one has may be set, which is all but keys; with it, what it promises. */
    static const struct {
        unsigned bit, function, ebx, ecx;
    } needs[] = {{11, 7, 0, 1u << 2},  {12, 7, 0, 1u << 16}, {16, 7, 1, 0},
                 {17, 1, 0, 1u << 17}, {18, 1, 0, 1u << 26}, {20, 7, 1u << 7, 0},
                 {22, 7, 0, 1u << 3},  {21, 7, 1u << 20, 0}};
    struct kvm_sregs sregs;

    (void)state;
    for (size_t i = 0; i < COUNT(needs); i++) {
        struct rig rig = state_rig();
        struct face_cpuid cpuid = {.head.nent = 2,
                                   .entries = {{.function = 0}, {.function = needs[i].function}}};

        ask(&rig, KVM_GET_SREGS, &sregs);
        sregs.cr4 = BIT(needs[i].bit);
        assert_int_equal(gm_soft_vcpu_ioctl(rig.vcpu, KVM_SET_SREGS, (uintptr_t)&sregs),
                         needs[i].bit == 22 ? -EINVAL : 0);
        ask(&rig, KVM_SET_CPUID2, &cpuid);
        assert_int_equal(gm_soft_vcpu_ioctl(rig.vcpu, KVM_SET_SREGS, (uintptr_t)&sregs), -EINVAL);
        cpuid.entries[1].ebx = needs[i].ebx;
        cpuid.entries[1].ecx = needs[i].ecx;
        ask(&rig, KVM_SET_CPUID2, &cpuid);
        ask(&rig, KVM_SET_SREGS, &sregs);
        rig_free(&rig);
    }
}

static void physical_addresses_are_as_wide_as_cpuid_says(void **state)
{
    struct rig rig = state_rig();
    struct face_cpuid cpuid = {.head.nent = 1,
                               .entries = {{.function = 0x80000008, .eax = 48 << 8 | 40}}};
    struct kvm_sregs sregs;

    (void)state;
    ask(&rig, KVM_SET_CPUID2, &cpuid);
    ask(&rig, KVM_GET_SREGS, &sregs);
    sregs.cr0 = BIT(31) | 0x11;
    sregs.cr4 = 0x20;
    sregs.efer = 0x500;
    sregs.cr3 = BIT(39);
    ask(&rig, KVM_SET_SREGS, &sregs);
    sregs.cr3 = BIT(40);
    assert_int_equal(gm_soft_vcpu_ioctl(rig.vcpu, KVM_SET_SREGS, (uintptr_t)&sregs), -EINVAL);
    assert_int_equal(
        gm_soft_vcpu_ioctl(rig.vcpu, KVM_SET_MSRS,
                           (uintptr_t) &
                               (struct face_msrs){.head.nmsrs = 1,
                                                  .entries = {{.index = 0x200, .data = BIT(40)}}}),
        0);
    rig_free(&rig);
}

static void translate_sees_registers_before_the_first_run(void **state)
{
    /* 32-bit paging with one 4 MiB page, linear 0x400000 to physical 0; and an access of a guest's own mmu user stays. */
    struct rig rig = state_rig();
    struct kvm_translation translation = {.linear_address = 0x412345};
    struct kvm_sregs sregs;

    (void)state;
    ask(&rig, KVM_TRANSLATE, &translation);
    assert_int_equal(translation.physical_address, 0x412345);
    *rig_word(&rig, 0x2000) = UINT64_C(0x83) << 32; /* entry 1 */
    ask(&rig, KVM_GET_SREGS, &sregs);
    sregs.cr0 = BIT(31) | 0x11;
    sregs.cr3 = 0x2000;
    sregs.cr4 = 0x10;
    ask(&rig, KVM_SET_SREGS, &sregs);
    ask(&rig, KVM_TRANSLATE, &translation);
    assert_int_equal(translation.valid, 1);
    assert_int_equal(translation.physical_address, 0x12345);
    translation.linear_address = 0x12345;
    ask(&rig, KVM_TRANSLATE, &translation);
    assert_int_equal(translation.valid, 0);
    rig_free(&rig);
}

/* PAE: linear addresses of the first GiB are those of @pdpt's, by one 2 MiB page. */
static void load_pae(struct rig *rig, const void *code, size_t count)
{
    struct kvm_sregs sregs;

    load_32(rig, code, count);
    *rig_word(rig, 0x2000) = 0x3001; /* PDPTE */
    *rig_word(rig, 0x3000) = 0x83;   /* of physical 0 */
    *rig_word(rig, 0x4000) = 0;      /* a table of nothing */
    ask(rig, KVM_GET_SREGS, &sregs);
    sregs.cr0 |= BIT(31);
    sregs.cr3 = 0x2000;
    sregs.cr4 = 0x20;
    ask(rig, KVM_SET_SREGS, &sregs);
}

static void pdptes_are_those_of_the_processor(void **state)
{
    /* Memory's change after CR3 was loaded, and the second registers tell those that count. */
    struct rig rig = state_rig();
    struct kvm_sregs2 sregs2;

    (void)state;
    load_pae(&rig, "\xf4\xa1\x00\x90\x00\x00\xf4", 7); /* hlt; mov eax,[0x9000]; hlt */
    *rig_word(&rig, 0x9000) = 0x55aa;
    run_to(&rig, KVM_EXIT_HLT);
    *rig_word(&rig, 0x2000) = 0x4001;
    ask(&rig, KVM_GET_SREGS2, &sregs2);
    assert_int_equal(sregs2.flags, KVM_SREGS2_FLAGS_PDPTRS_VALID);
    assert_int_equal(sregs2.pdptrs[0], 0x3001);
    ask(&rig, KVM_SET_SREGS2, &sregs2);
    ask(&rig, KVM_GET_SREGS2, &sregs2);
    assert_int_equal(sregs2.pdptrs[0], 0x3001);
    run_to(&rig, KVM_EXIT_HLT);
    assert_int_equal(rig.vcpu->x86->gpr[X86_RAX], 0x55aa);
    rig_free(&rig);
}

static void pdptes_are_read_anew_with_the_first_registers(void **state)
{
    struct rig rig = state_rig();
    struct kvm_sregs2 sregs2;
    struct kvm_sregs sregs;

    (void)state;
    load_pae(&rig, "\xf4", 1);
    run_to(&rig, KVM_EXIT_HLT);
    *rig_word(&rig, 0x2000) = 0x4001;
    ask(&rig, KVM_GET_SREGS, &sregs);
    ask(&rig, KVM_SET_SREGS, &sregs);
    ask(&rig, KVM_GET_SREGS2, &sregs2);
    assert_int_equal(sregs2.pdptrs[0], 0x4001);
    rig_free(&rig);
}

static void pdptes_that_are_not_valid_are_refused_by_the_run(void **state)
{
    struct rig rig = state_rig();
    struct kvm_sregs2 sregs2;

    (void)state;
    load_pae(&rig, "\xf4", 1);
    ask(&rig, KVM_GET_SREGS2, &sregs2);
    sregs2.pdptrs[0] = 0x3007; /* reserved bits */
    ask(&rig, KVM_SET_SREGS2, &sregs2);
    ask(&rig, KVM_GET_SREGS2, &sregs2);
    assert_int_equal(sregs2.flags, 0);
    run_to(&rig, KVM_EXIT_FAIL_ENTRY);
    rig_free(&rig);
}

static void fpu_keeps_all_but_mxcsr(void **state)
{
    struct rig rig = state_rig();
    struct kvm_fpu set, got;

    (void)state;
    memset(&set, 0x5a, sizeof(set));
    set.pad1 = 0;
    set.pad2 = 0;
    ask(&rig, KVM_SET_FPU, &set);
    ask(&rig, KVM_GET_FPU, &got);
    assert_int_equal(got.mxcsr, 0x1f80); /* which Linux does not take here, either */
    set.mxcsr = got.mxcsr;
    assert_memory_equal(&got, &set, sizeof(set));
    rig_free(&rig);
}

static void xsave_has_the_processors_layout(void **state)
{
    struct rig rig = state_rig();
    struct kvm_xsave area;
    struct x86_vcpu *cpu = rig.vcpu->x86;

    (void)state;
    cpu->fpu.fcw = 0x27f;
    cpu->fpu.st[7][9] = 0x77;
    cpu->xmm[15].u32[3] = 0x99887766;
    cpu->mxcsr = 0x1fc0;
    cpu->pkru = 0x12345678;
    ask(&rig, KVM_GET_XSAVE, &area);
    assert_int_equal(area.region[0] & 0xffff, 0x27f);
    assert_int_equal(area.region[6], 0x1fc0);
    assert_int_equal(area.region[7], 0xffff);
    assert_int_equal(area.region[(32 + 7 * 16 + 8) / 4] >> 8, 0x77);
    assert_int_equal(area.region[(160 + 15 * 16 + 12) / 4], 0x99887766);
    assert_int_equal(area.region[128], 0x203);
    assert_int_equal(area.region[2688 / 4], 0x12345678);

    /* What is not present is as after INIT; MXCSR comes with SSE. */
    area.region[128] = 0;
    area.region[6] = 0x1f80;
    ask(&rig, KVM_SET_XSAVE, &area);
    assert_int_equal(cpu->fpu.fcw, 0x37f);
    assert_int_equal(cpu->fpu.st[7][9], 0);
    assert_int_equal(cpu->xmm[15].u32[3], 0);
    assert_int_equal(cpu->mxcsr, 0x1fc0);
    assert_int_equal(cpu->pkru, 0);
    area.region[128] = 0x203;
    ask(&rig, KVM_SET_XSAVE, &area);
    assert_int_equal(cpu->mxcsr, 0x1f80);
    assert_int_equal(cpu->xmm[15].u32[3], 0x99887766);
    assert_int_equal(cpu->pkru, 0x12345678);
    rig_free(&rig);
}

static void debug_registers_are_as_after_a_move(void **state)
{
    struct rig rig = state_rig();
    struct kvm_debugregs set = {.db = {1, 2, 3, 4}}, got;

    (void)state;
    ask(&rig, KVM_SET_DEBUGREGS, &set);
    ask(&rig, KVM_GET_DEBUGREGS, &got);
    assert_memory_equal(got.db, set.db, sizeof(set.db));
    assert_int_equal(got.dr6, 0xffff0ff0);
    assert_int_equal(got.dr7, 0x400);
    rig_free(&rig);
}

static void every_saved_msr_can_be_got_and_set(void **state)
{
    /* And the guest's WRMSR has the same idea of a value that cannot be. */
    static struct {
        struct {
            uint32_t nmsrs;
        } head; /* struct kvm_msr_list */
        uint32_t indices[200];
    } list;
    struct rig rig = state_rig();

    (void)state;
    list.head.nmsrs = COUNT(list.indices);
    assert_int_equal(gm_soft_system_ioctl(KVM_GET_MSR_INDEX_LIST, (uintptr_t)&list), 0);
    assert_true(list.head.nmsrs > 40);
    for (uint32_t i = 0; i < list.head.nmsrs; i++) {
        struct face_msrs msrs = {.head.nmsrs = 1, .entries = {{.index = list.indices[i]}}};

        assert_int_equal(gm_soft_vcpu_ioctl(rig.vcpu, KVM_GET_MSRS, (uintptr_t)&msrs), 1);
        assert_int_equal(gm_soft_vcpu_ioctl(rig.vcpu, KVM_SET_MSRS, (uintptr_t)&msrs), 1);
    }
    load_32(&rig, "\xb9\x77\x02\x00\x00\x0f\x30\xf4", 8); /* mov ecx,0x277; wrmsr; hlt */
    rig.vcpu->x86->gpr[X86_RAX] = 2;
    rig.vcpu->x86->idt.limit = 0;
    run_to(&rig, KVM_EXIT_SHUTDOWN);
    rig_free(&rig);
}

static void time_goes_on_from_the_counter_that_was_set(void **state)
{
    struct face face = face_soft();
    uint64_t first;

    (void)state;
    assert_int_equal(face_set_msr(&face, 0x10, BIT(50)), 1);
    first = face_get_msr(&face, 0x10);
    assert_true(first >= BIT(50) && first < BIT(50) + UINT64_C(1000000000000));
    assert_true(face_get_msr(&face, 0x10) >= first);
    assert_int_equal(face_ask(&face, KVM_GET_TSC_KHZ, NULL), 1000000);
    assert_int_equal(face_ask(&face, KVM_SET_TSC_KHZ, (void *)1000000), 0);
    assert_int_equal(face_ask(&face, KVM_SET_TSC_KHZ, (void *)2000000), -EINVAL);
    face_close(&face);
}

static void cpuid_comes_back_and_is_what_the_guest_sees(void **state)
{
    struct rig rig = state_rig();
    struct face_cpuid got = {.head.nent = 10};
    struct face_cpuid set = {
        .head.nent = 4,
        .entries = {{.function = 0, .eax = 4, .ebx = 0x756e6547},
                    {.function = 4, .index = 0, .flags = 1, .eax = 0x11},
                    {.function = 4, .index = 1, .flags = 1, .eax = 0x22, .edx = 0x33},
                    {.function = 0x80000000, .eax = 0x80000000}},
    };

    (void)state;
    ask(&rig, KVM_SET_CPUID2, &set);
    ask(&rig, KVM_GET_CPUID2, &got);
    assert_int_equal(got.head.nent, 4);
    assert_memory_equal(got.entries, set.entries, 4 * sizeof(set.entries[0]));
    load_32(&rig, "\x0f\xa2\xf4\x0f\xa2\xf4", 6); /* cpuid; hlt; cpuid; hlt */
    rig.vcpu->x86->gpr[X86_RAX] = 4;
    rig.vcpu->x86->gpr[X86_RCX] = 1;
    run_to(&rig, KVM_EXIT_HLT);
    assert_int_equal(rig.vcpu->x86->gpr[X86_RAX], 0x22);
    assert_int_equal(rig.vcpu->x86->gpr[X86_RDX], 0x33);
    /* Past the last leaf: as the last basic one, on Intel's. */
    rig.vcpu->x86->gpr[X86_RAX] = 0x80000005;
    rig.vcpu->x86->gpr[X86_RCX] = 0;
    run_to(&rig, KVM_EXIT_HLT);
    assert_int_equal(rig.vcpu->x86->gpr[X86_RAX], 0x11);

    /* It has run: the same again is allowed, another is not. */
    ask(&rig, KVM_SET_CPUID2, &set);
    set.entries[3].eax++;
    assert_int_equal(gm_soft_vcpu_ioctl(rig.vcpu, KVM_SET_CPUID2, (uintptr_t)&set), -EINVAL);
    set.entries[3].eax--;
    set.head.nent = 3;
    assert_int_equal(gm_soft_vcpu_ioctl(rig.vcpu, KVM_SET_CPUID2, (uintptr_t)&set), -EINVAL);
    rig_free(&rig);
}

static void old_cpuid_has_no_indices(void **state)
{
    struct rig rig = state_rig();
    struct face_cpuid got = {.head.nent = 10};
    struct {
        struct {
            uint32_t nent, padding;
        } head; /* struct kvm_cpuid */
        struct kvm_cpuid_entry entries[2];
    } set = {.head.nent = 2,
             .entries = {{.function = 0, .eax = 1}, {.function = 1, .eax = 2, .edx = 3}}};

    (void)state;
    ask(&rig, KVM_SET_CPUID, &set);
    ask(&rig, KVM_GET_CPUID2, &got);
    assert_int_equal(got.head.nent, 2);
    assert_int_equal(got.entries[1].function, 1);
    assert_int_equal(got.entries[1].eax, 2);
    assert_int_equal(got.entries[1].edx, 3);
    assert_int_equal(got.entries[1].flags, 0);
    rig_free(&rig);
}

/* Real mode's vectors: each at 0x2000 + its number * 16 is hlt. */
static void load_vectors(struct rig *rig)
{
    struct kvm_regs regs = {.rip = 0x1000, .rsp = 0x8000, .rflags = 2};
    struct kvm_sregs sregs;

    for (unsigned i = 0; i < 64; i++) {
        uint32_t entry = 0x2000 + i * 16;

        memcpy(rig->memory + i * 4, &entry, sizeof(entry));
        rig->memory[entry] = 0xf4;
    }
    memset(rig->memory + 0x1000, 0x90, 16);
    rig->memory[0x1010] = 0xf4;
    ask(rig, KVM_GET_SREGS, &sregs);
    sregs.cs.base = 0;
    sregs.cs.selector = 0;
    ask(rig, KVM_SET_SREGS, &sregs);
    ask(rig, KVM_SET_REGS, &regs);
}

static void events_are_delivered_in_their_order(void **state)
{
    /* Exception, then the interrupt, before the handler's first instruction; the NMI is masked. */
    struct rig rig = state_rig();
    struct kvm_vcpu_events events = {
        .flags = KVM_VCPUEVENT_VALID_NMI_PENDING,
        .exception = {.injected = 1, .nr = 13},
        .interrupt = {.injected = 1, .nr = 0x21},
        .nmi = {.pending = 1, .masked = 1},
    };

    (void)state;
    load_vectors(&rig);
    ask(&rig, KVM_SET_VCPU_EVENTS, &events);
    run_to(&rig, KVM_EXIT_HLT);
    assert_int_equal(rig.vcpu->x86->rip, 0x2000 + 0x21 * 16 + 1);
    assert_int_equal(*(uint16_t *)(void *)(rig.memory + 0x8000 - 6), 0x1000);
    assert_int_equal(*(uint16_t *)(void *)(rig.memory + 0x8000 - 12), 0x2000 + 13 * 16);
    ask(&rig, KVM_GET_VCPU_EVENTS, &events);
    assert_int_equal(events.exception.injected, 0);
    assert_int_equal(events.interrupt.injected, 0);
    assert_int_equal(events.nmi.pending, 1);
    events.nmi.masked = 0;
    ask(&rig, KVM_SET_VCPU_EVENTS, &events);
    run_to(&rig, KVM_EXIT_HLT);
    assert_int_equal(rig.vcpu->x86->rip, 0x2000 + 2 * 16 + 1);
    ask(&rig, KVM_GET_VCPU_EVENTS, &events);
    assert_int_equal(events.nmi.masked, 1); /* until IRET */
    rig_free(&rig);
}

static void interrupt_waits_for_the_end_of_an_instruction_that_is_answered(void **state)
{
    /* The port is read once, and the return address is behind the instruction. */
    struct rig rig = state_rig();
    struct kvm_interrupt interrupt = {.irq = 0x22};
    struct kvm_run *run = gm_soft_vcpu_run_page(rig.vcpu);

    (void)state;
    load_vectors(&rig);
    memcpy(rig.memory + 0x1000, "\xe4\x60", 2); /* in al,0x60 */
    run_to(&rig, KVM_EXIT_IO);
    ask(&rig, KVM_INTERRUPT, &interrupt);
    ask(&rig, KVM_NMI, NULL);
    *((uint8_t *)run + run->io.data_offset) = 0x5c;
    run_to(&rig, KVM_EXIT_HLT);
    assert_int_equal(rig.vcpu->x86->gpr[X86_RAX] & 0xff, 0x5c);
    assert_int_equal(*(uint16_t *)(void *)(rig.memory + 0x8000 - 6), 0x1002);
    /* The interrupt first, as in Linux, and the NMI in its handler. */
    assert_int_equal(rig.vcpu->x86->rip, 0x2000 + 2 * 16 + 1);
    assert_int_equal(*(uint16_t *)(void *)(rig.memory + 0x8000 - 12), 0x2000 + 0x22 * 16);
    rig_free(&rig);
}

static void shadow_holds_an_interrupt_window_back(void **state)
{
    struct rig rig = state_rig();
    struct kvm_vcpu_events events = {.flags = KVM_VCPUEVENT_VALID_SHADOW,
                                     .interrupt.shadow = KVM_X86_SHADOW_INT_MOV_SS};
    struct kvm_run *run = gm_soft_vcpu_run_page(rig.vcpu);

    (void)state;
    load_vectors(&rig);
    x86_set_rflags(rig.vcpu->x86, 0x202);
    ask(&rig, KVM_SET_VCPU_EVENTS, &events);
    ask(&rig, KVM_GET_VCPU_EVENTS, &events);
    assert_int_equal(events.interrupt.shadow, KVM_X86_SHADOW_INT_MOV_SS);
    run->request_interrupt_window = 1;
    run_to(&rig, KVM_EXIT_IRQ_WINDOW_OPEN);
    assert_int_equal(rig.vcpu->x86->rip, 0x1001);
    rig_free(&rig);
}

static void bad_addresses_are_errors(void **state)
{
    static const unsigned long requests[] = {
        KVM_GET_REGS,     KVM_SET_REGS,        KVM_GET_SREGS,       KVM_SET_SREGS,
        KVM_GET_SREGS2,   KVM_SET_SREGS2,      KVM_GET_FPU,         KVM_SET_FPU,
        KVM_GET_XSAVE,    KVM_GET_XSAVE2,      KVM_SET_XSAVE,       KVM_GET_XCRS,
        KVM_SET_XCRS,     KVM_GET_DEBUGREGS,   KVM_SET_DEBUGREGS,   KVM_GET_MSRS,
        KVM_SET_MSRS,     KVM_SET_CPUID,       KVM_SET_CPUID2,      KVM_GET_CPUID2,
        KVM_GET_MP_STATE, KVM_SET_MP_STATE,    KVM_GET_VCPU_EVENTS, KVM_SET_VCPU_EVENTS,
        KVM_INTERRUPT,    KVM_SET_GUEST_DEBUG,
    };
    static const unsigned long system_requests[] = {KVM_GET_SUPPORTED_CPUID, KVM_GET_EMULATED_CPUID,
                                                    KVM_GET_MSR_INDEX_LIST,
                                                    KVM_GET_MSR_FEATURE_INDEX_LIST, KVM_GET_MSRS};
    struct rig rig = state_rig();
    char *pages = mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    uint32_t *count = (uint32_t *)(void *)(pages + PAGE - 8);

    (void)state;
    assert_true(pages != MAP_FAILED);
    assert_int_equal(mprotect(pages + PAGE, PAGE, PROT_NONE), 0);
    for (size_t i = 0; i < COUNT(requests); i++) {
        assert_int_equal(gm_soft_vcpu_ioctl(rig.vcpu, requests[i], 8), -EFAULT);
    }
    for (size_t i = 0; i < COUNT(system_requests); i++) {
        assert_int_equal(gm_soft_system_ioctl(system_requests[i], 8), -EFAULT);
    }
    /* The head can be read, and the list behind it cannot. */
    *count = 100;
    assert_int_equal(gm_soft_vcpu_ioctl(rig.vcpu, KVM_GET_MSRS, (uintptr_t)count), -EFAULT);
    assert_int_equal(gm_soft_vcpu_ioctl(rig.vcpu, KVM_SET_MSRS, (uintptr_t)count), -EFAULT);
    assert_int_equal(gm_soft_vcpu_ioctl(rig.vcpu, KVM_SET_CPUID2, (uintptr_t)count), -EFAULT);
    assert_int_equal(gm_soft_system_ioctl(KVM_GET_SUPPORTED_CPUID, (uintptr_t)count), -EFAULT);
    assert_int_equal(*count, 100);
    assert_int_equal(gm_soft_system_ioctl(KVM_GET_EMULATED_CPUID, (uintptr_t)count), -EFAULT);
    munmap(pages, 2 * PAGE);
    rig_free(&rig);
}

static void *no_memory(void *opaque, size_t size_bytes)
{
    (void)opaque;
    (void)size_bytes;
    return NULL;
}

static void without_memory_cpuid_stays(void **state)
{
    /* The list is the one thing here that is allocated. */
    struct rig rig = state_rig();
    struct face_cpuid set = {.head.nent = 1, .entries = {{.function = 0, .eax = 7}}};
    struct face_cpuid got = {.head.nent = 1};
    struct gm_allocator allocator = rig.soft->allocator;

    (void)state;
    ask(&rig, KVM_SET_CPUID2, &set);
    set.entries[0].eax = 8;
    rig.soft->allocator.alloc = no_memory;
    assert_int_equal(gm_soft_vcpu_ioctl(rig.vcpu, KVM_SET_CPUID2, (uintptr_t)&set), -ENOMEM);
    rig.soft->allocator = allocator;
    ask(&rig, KVM_GET_CPUID2, &got);
    assert_int_equal(got.entries[0].eax, 7);
    rig_free(&rig);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(registers_come_back_in_their_places),
        cmocka_unit_test(registers_are_what_the_guest_sees),
        cmocka_unit_test(segments_come_back_but_for_what_no_processor_holds),
        cmocka_unit_test(refused_registers_change_nothing),
        cmocka_unit_test(control_bits_need_their_features),
        cmocka_unit_test(physical_addresses_are_as_wide_as_cpuid_says),
        cmocka_unit_test(translate_sees_registers_before_the_first_run),
        cmocka_unit_test(pdptes_are_those_of_the_processor),
        cmocka_unit_test(pdptes_are_read_anew_with_the_first_registers),
        cmocka_unit_test(pdptes_that_are_not_valid_are_refused_by_the_run),
        cmocka_unit_test(fpu_keeps_all_but_mxcsr),
        cmocka_unit_test(xsave_has_the_processors_layout),
        cmocka_unit_test(debug_registers_are_as_after_a_move),
        cmocka_unit_test(every_saved_msr_can_be_got_and_set),
        cmocka_unit_test(time_goes_on_from_the_counter_that_was_set),
        cmocka_unit_test(cpuid_comes_back_and_is_what_the_guest_sees),
        cmocka_unit_test(old_cpuid_has_no_indices),
        cmocka_unit_test(events_are_delivered_in_their_order),
        cmocka_unit_test(interrupt_waits_for_the_end_of_an_instruction_that_is_answered),
        cmocka_unit_test(shadow_holds_an_interrupt_window_back),
        cmocka_unit_test(bad_addresses_are_errors),
        cmocka_unit_test(without_memory_cpuid_stays),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
