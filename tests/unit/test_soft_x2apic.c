/*
 * unit/test_soft_x2apic.c - x2APIC mode of vCPUs, by guests and by KVM's ioctls: what the SDM and Linux's api.rst say, put as the
 * same questions to the software KVM and, where that opens, to /dev/kvm; and random operations on both, whose states are compared.
 */
#include "x2apic_machine.h"

#include "model/random.h"

#include <stdio.h>

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))
#define ID_ALL 0xffffffffu

/* The same test of both. */
typedef void test_fn(struct machine *machine);

static void ask_both(test_fn *test)
{
    struct machine machine;

    assert_true(machine_open(&machine, false));
    test(&machine);
    machine_close(&machine);
    if (machine_open(&machine, true)) {
        test(&machine);
        machine_close(&machine);
    } else {
        printf("/dev/kvm does not open, and was not asked\n");
    }
}

static void modes_of(struct machine *machine)
{
    /* SDM, figure "Local x2APIC State Transitions". Columns: to DISABLED, XAPIC, X2APIC. */
    static const uint64_t MODES[] = {DISABLED, XAPIC, X2APIC};
    static const bool GUEST_MAY[3][3] = {
        {true, true, false}, {true, true, true}, {true, false, true}};

    for (unsigned from = 0; from < 3; from++) {
        for (unsigned to = 0; to < 3; to++) {
            uint64_t value = APIC_GPA | 0x100 | MODES[to];
            struct kvm_sregs sregs;

            assert_true(set_mode(machine, 0, MODES[from]));
            assert_int_equal(guest_wrmsr(machine, MSR_APIC_BASE, value), GUEST_MAY[from][to]);
            assert_true(set_mode(machine, 0, MODES[from]));
            assert_true(set_mode(machine, 0, MODES[to])); /* a user goes anywhere */
            assert_true(set_mode(machine, 0, MODES[from]));
            assert_int_equal(vcpu_call(machine, 0, KVM_GET_SREGS, &sregs), 0);
            assert_int_equal(sregs.apic_base, APIC_GPA | 0x100 | MODES[from]);
            sregs.apic_base = value;
            assert_int_equal(vcpu_call(machine, 0, KVM_SET_SREGS, &sregs), 0);
        }
        assert_true(set_mode(machine, 0, MODES[from]));
        assert_false(guest_wrmsr(machine, MSR_APIC_BASE, APIC_GPA | 0x100 | NO_MODE));
        assert_false(set_mode(machine, 0, NO_MODE));
        assert_false(set_mode(machine, 0, MODES[from] | 0x200));
    }
}

static void modes_change_as_the_manual_says(void **state)
{
    (void)state;
    ask_both(modes_of);
}

static void without_the_feature(struct machine *machine)
{
    struct kvm_sregs sregs;
    uint64_t value;

    give_cpuid(machine, false);
    assert_false(guest_wrmsr(machine, MSR_APIC_BASE, APIC_GPA | 0x100 | X2APIC));
    assert_false(set_mode(machine, 0, X2APIC));
    assert_int_equal(vcpu_call(machine, 0, KVM_GET_SREGS, &sregs), 0);
    sregs.apic_base = APIC_GPA | 0x100 | X2APIC;
    assert_int_equal(vcpu_call(machine, 0, KVM_SET_SREGS, &sregs), -EINVAL);
    assert_false(get_msr(machine, 0, 0x802, &value));
    assert_false(set_msr(machine, 0, 0x808, 0));
}

static void mode_takes_the_feature(void **state)
{
    (void)state;
    ask_both(without_the_feature);
}

static void page_of(struct machine *machine)
{
    /* Where there are no registers, reads are ones, and nothing comes out. */
    assert_int_equal(guest_load(machine, 0x30), 0x50014);
    assert_true(set_mode(machine, 0, X2APIC));
    assert_int_equal(guest_load(machine, 0x30), 0xffffffff);
    assert_true(set_mode(machine, 0, DISABLED));
    assert_int_equal(guest_load(machine, 0x30), 0xffffffff);
}

static void page_is_a_hole_in_other_modes(void **state)
{
    (void)state;
    ask_both(page_of);
}

static void api_of(struct machine *machine)
{
    struct kvm_msi msi = {.address_lo = 0xfee11000, .address_hi = 0x55, .data = 0x61};
    struct kvm_lapic_state lapic;

    assert_true(set_mode(machine, 3, X2APIC));
    assert_true(set_msr(machine, 3, 0x80f, 0x1ff));
    get_lapic(machine, 3, &lapic);
    assert_int_equal(register_in(&lapic, 0x20), 17u << 24);
    assert_int_equal(register_in(&lapic, 0xd0), 0x10002);
    assert_int_equal(vm_call(machine, KVM_SIGNAL_MSI, &msi), 1);
    assert_int_equal(use_x2apic_api(machine, 1u << 20), -EINVAL);
    assert_int_equal(use_x2apic_api(machine, KVM_X2APIC_API_USE_32BIT_IDS), 0);
    assert_int_equal(use_x2apic_api(machine, 0), 0); /* takes nothing back */
    get_lapic(machine, 3, &lapic);
    assert_int_equal(register_in(&lapic, 0x20), 17);
    assert_int_equal(vcpu_call(machine, 3, KVM_SET_LAPIC, &lapic), 0);
    put_register(&lapic, 0x20, 17u << 24);
    assert_int_equal(vcpu_call(machine, 3, KVM_SET_LAPIC, &lapic), -EINVAL);
    assert_int_equal(vm_call(machine, KVM_SIGNAL_MSI, &msi), -EINVAL);
    msi.address_hi = 0;
    assert_int_equal(vm_call(machine, KVM_SIGNAL_MSI, &msi), 1);
}

static void capability_changes_ids_for_good(void **state)
{
    (void)state;
    ask_both(api_of);
}

static void filter_of(struct machine *machine)
{
    /* api.rst, KVM_X86_SET_MSR_FILTER: filters that cover x2APIC's MSRs are ignored. An error is one of the value, to the user. */
    const struct kvm_enable_cap enable = {.cap = KVM_CAP_X86_USER_SPACE_MSR,
                                          .args = {KVM_MSR_EXIT_REASON_INVAL}};
    uint64_t none[4] = {0};
    const struct kvm_msr_filter filter = {
        .ranges = {{.flags = KVM_MSR_FILTER_READ | KVM_MSR_FILTER_WRITE,
                    .nmsrs = 0x100,
                    .base = 0x800,
                    .bitmap = (uint8_t *)none}}};
    struct kvm_regs regs = {.rcx = 0x802, .rip = 0};
    uint64_t value;

    assert_int_equal(vm_call(machine, KVM_X86_SET_MSR_FILTER, &filter), 0);
    assert_true(set_mode(machine, 0, X2APIC));
    assert_true(guest_rdmsr(machine, 0x803, &value));
    assert_int_equal(value, 0x50014);
    assert_true(guest_wrmsr(machine, 0x808, 0));
    assert_int_equal(vm_call(machine, KVM_ENABLE_CAP, &enable), 0);
    regs.rcx = 0x80e; /* there is no DFR */
    memcpy(machine->memory + CODE_GPA, "\x0f\x32", 2);
    assert_int_equal(vcpu_call(machine, 0, KVM_SET_REGS, &regs), 0);
    assert_int_equal(vcpu_call(machine, 0, KVM_RUN, NULL), 0);
    assert_int_equal(machine->run->exit_reason, KVM_EXIT_X86_RDMSR);
    assert_int_equal(machine->run->msr.reason, KVM_MSR_EXIT_REASON_INVAL);
}

static void filters_do_not_cover_it(void **state)
{
    (void)state;
    ask_both(filter_of);
}

static void cpuid_follows_the_base(void **state)
{
    /* CPUID.1:EDX.APIC is IA32_APIC_BASE's bit 11. */
    struct kvm_regs regs = {.rax = 1};
    struct machine machine;

    (void)state;
    assert_true(machine_open(&machine, false));
    assert_true(guest_runs(&machine, (const uint8_t[]){0x0f, 0xa2}, 2, &regs));
    assert_int_equal(regs.rdx >> 9 & 1, 1);
    assert_true(set_mode(&machine, 0, DISABLED));
    regs.rax = 1;
    assert_true(guest_runs(&machine, (const uint8_t[]){0x0f, 0xa2}, 2, &regs));
    assert_int_equal(regs.rdx >> 9 & 1, 0);
    machine_close(&machine);
}

static void without_chips_there_are_no_registers(void **state)
{
    /* The base is the vCPU's own, and has the same modes; the MSRs are the user's to answer. */
    struct rig rig = rig_new(NULL);
    struct machine machine = {.soft = rig.soft};
    uint64_t value;

    (void)state;
    for (unsigned i = 0; i < VCPUS; i++) {
        machine.soft_vcpus[i] = rig.vcpu;
    }
    assert_false(set_mode(&machine, 0, X2APIC)); /* no CPUID yet */
    give_cpuid(&machine, true);
    assert_true(set_mode(&machine, 0, X2APIC));
    assert_true(get_msr(&machine, 0, MSR_APIC_BASE, &value));
    assert_int_equal(value, APIC_GPA | 0x100 | X2APIC);
    assert_false(set_mode(&machine, 0, NO_MODE));
    assert_false(get_msr(&machine, 0, 0x802, &value));
    assert_false(set_msr(&machine, 0, 0x808, 0));
    rig_free(&rig);
}

/* ---- both beside each other ---- */

struct pair {
    struct machine ours, theirs;
    struct rnd rnd;
    uint64_t mode; /* of all */
    /* What older Linux has not: */
    bool refuses_reserved; /* bits of ICR are #GP */
    bool keeps_ids;        /* KVM_SET_LAPIC changes none */
};

/*
 * Left out: what the timer counts; PPR, in whose place KVM has what was last asked for; and ICR's upper half in other modes, as KVM
 * has two places for it.
 */
static void expect_same_states(struct pair *pair)
{
    for (unsigned i = 0; i < VCPUS; i++) {
        struct kvm_lapic_state ours, theirs;

        get_lapic(&pair->ours, i, &ours);
        get_lapic(&pair->theirs, i, &theirs);
        for (unsigned at = 0; at < sizeof(ours.regs); at += 0x10) {
            bool counts = at != 0x390 && at != 0xa0 && (at != 0x310 || pair->mode == X2APIC);

            if (counts && register_in(&ours, at) != register_in(&theirs, at)) {
                fail_msg("vCPU %u, register %#x: %#x, of /dev/kvm %#x", i, at,
                         register_in(&ours, at), register_in(&theirs, at));
            }
        }
    }
}

/* After a change of modes, which leaves KVM's upper half where it was: a message to oneself. */
static void write_icrs(struct pair *pair)
{
    for (unsigned i = 0; pair->mode == X2APIC && i < VCPUS; i++) {
        assert_true(set_msr(&pair->ours, i, 0x830, 0x44020));
        assert_true(set_msr(&pair->theirs, i, 0x830, 0x44020));
    }
}

/* By way of a disabled APIC: straight back to xAPIC mode older Linux leaves the ID in the other's place. */
static void enter_mode(struct pair *pair, unsigned i)
{
    assert_true(set_mode(&pair->ours, i, DISABLED) && set_mode(&pair->ours, i, pair->mode));
    assert_true(set_mode(&pair->theirs, i, DISABLED) && set_mode(&pair->theirs, i, pair->mode));
}

static void change_modes(struct pair *pair)
{
    static const uint64_t MODES[] = {DISABLED, XAPIC, X2APIC, X2APIC};

    pair->mode = MODES[rnd_below(&pair->rnd, COUNT(MODES))];
    for (unsigned i = 0; i < VCPUS; i++) {
        enter_mode(pair, i);
    }
    write_icrs(pair);
}

static void change_mode_by_guest(struct pair *pair)
{
    static const uint64_t MODES[] = {DISABLED, XAPIC, NO_MODE, X2APIC};
    uint64_t value = APIC_GPA | 0x100 | MODES[rnd_below(&pair->rnd, COUNT(MODES))];
    uint64_t ours, theirs;

    value |= rnd_one_in(&pair->rnd, 8) ? UINT64_C(1) << rnd_below(&pair->rnd, 8) : 0;
    assert_int_equal(guest_wrmsr(&pair->ours, MSR_APIC_BASE, value),
                     guest_wrmsr(&pair->theirs, MSR_APIC_BASE, value));
    assert_true(get_msr(&pair->ours, 0, MSR_APIC_BASE, &ours));
    assert_true(get_msr(&pair->theirs, 0, MSR_APIC_BASE, &theirs));
    assert_int_equal(ours, theirs);
    enter_mode(pair, 0);
    write_icrs(pair);
}

static uint32_t random_msr(struct rnd *rnd)
{
    static const uint32_t THERE[] = {0x802, 0x803, 0x808, 0x80a, 0x80b, 0x80d, 0x80f, 0x828,
                                     0x830, 0x832, 0x833, 0x834, 0x835, 0x836, 0x837, 0x83f};

    return rnd_one_in(rnd, 4) ? 0x800 + (uint32_t)rnd_below(rnd, 0x100)
                              : THERE[rnd_below(rnd, COUNT(THERE))];
}

static uint32_t random_destination(struct rnd *rnd)
{
    switch (rnd_below(rnd, 5)) {
    case 0:
        return IDS[rnd_below(rnd, VCPUS)];
    case 1:
        return ID_ALL;
    case 2:
        return (uint32_t)rnd_below(rnd, 2) << 16 | (uint32_t)(rnd_next(rnd) & 0xffff);
    case 3:
        return (uint32_t)rnd_below(rnd, 0x101);
    default:
        return (uint32_t)rnd_next(rnd);
    }
}

/* One that both take in the same way: fixed, asserted, of a legal vector. Some with reserved bits. */
static uint64_t random_command(struct rnd *rnd, bool has_reserved)
{
    uint64_t command =
        (uint64_t)random_destination(rnd) << 32 | 0x4000 | (16 + rnd_below(rnd, 240));

    command |= rnd_below(rnd, 2) << 11 | rnd_below(rnd, 2) << 15 | rnd_below(rnd, 4) << 18;
    return has_reserved && rnd_one_in(rnd, 6) ? command | UINT64_C(1) << (12 + rnd_below(rnd, 20))
                                              : command;
}

/* Not what is our own: bits of LVT entries that are read-only. Nor what goes by time: the timer stays masked. */
static uint64_t random_value(struct pair *pair, uint32_t number)
{
    struct rnd *rnd = &pair->rnd;
    uint64_t value = rnd_next(rnd) & (rnd_one_in(rnd, 8) ? UINT64_MAX : UINT32_MAX);

    switch (number) {
    case 0x808: /* the lower half of which KVM loses on AMD, by way of CR8 */
        return value & ~UINT64_C(0xf);
    case 0x830:
        return random_command(rnd, pair->refuses_reserved);
    case 0x832:
        return (value & ~UINT64_C(0x65000)) | 0x10000;
    case 0x838:
        return value & ~(uint64_t)UINT32_MAX;
    case 0x828:
        return rnd_one_in(rnd, 2) ? 0 : value;
    case 0x83f:
        return 16 + rnd_below(rnd, 300);
    default:
        return number > 0x832 && number < 0x838 ? value & ~UINT64_C(0x5000) : value;
    }
}

static void write_msr(struct pair *pair)
{
    uint32_t number = random_msr(&pair->rnd);
    uint64_t value = random_value(pair, number);
    unsigned i = (unsigned)rnd_below(&pair->rnd, VCPUS);
    bool ours, theirs;

    if (rnd_one_in(&pair->rnd, 2)) {
        ours = guest_wrmsr(&pair->ours, number, value);
        theirs = guest_wrmsr(&pair->theirs, number, value);
    } else {
        ours = set_msr(&pair->ours, i, number, value);
        theirs = set_msr(&pair->theirs, i, number, value);
    }
    if (ours != theirs) {
        fail_msg("WRMSR %#x of %#llx: %d, of /dev/kvm %d", number, (unsigned long long)value, ours,
                 theirs);
    }
}

static void read_msr(struct pair *pair)
{
    uint32_t number = random_msr(&pair->rnd);
    unsigned i = (unsigned)rnd_below(&pair->rnd, VCPUS);
    uint64_t our_value, their_value;
    bool ours, theirs;

    if (rnd_one_in(&pair->rnd, 2)) {
        ours = guest_rdmsr(&pair->ours, number, &our_value);
        theirs = guest_rdmsr(&pair->theirs, number, &their_value);
    } else {
        ours = get_msr(&pair->ours, i, number, &our_value);
        theirs = get_msr(&pair->theirs, i, number, &their_value);
    }
    if (ours != theirs || our_value != their_value) {
        fail_msg("RDMSR %#x: %d, %#llx, of /dev/kvm %d, %#llx", number, ours,
                 (unsigned long long)our_value, theirs, (unsigned long long)their_value);
    }
}

/* Whom nobody is, KVM says in two ways. */
static long sent_to(long result)
{
    return result == -EPERM ? 0 : result;
}

static void send_msi(struct pair *pair)
{
    uint32_t to = random_destination(&pair->rnd);
    const struct kvm_msi msi = {.address_lo = 0xfee00000 | (to & 0xff) << 12 |
                                              (uint32_t)rnd_below(&pair->rnd, 2) << 2,
                                .address_hi = to & ~(rnd_one_in(&pair->rnd, 8) ? 0 : 0xffu),
                                .data = 16 + (uint32_t)rnd_below(&pair->rnd, 240)};
    long ours = sent_to(vm_call(&pair->ours, KVM_SIGNAL_MSI, &msi));
    long theirs = sent_to(vm_call(&pair->theirs, KVM_SIGNAL_MSI, &msi));

    if (ours != theirs) {
        fail_msg("MSI to %#x %#x: %ld, of /dev/kvm %ld", msi.address_hi, msi.address_lo, ours,
                 theirs);
    }
}

/* Their own states, with other IDs and half of the vectors gone, so that room is for more. */
static void set_states(struct pair *pair)
{
    unsigned i = (unsigned)rnd_below(&pair->rnd, VCPUS);
    bool is_other_id = pair->keeps_ids && pair->mode == X2APIC && rnd_one_in(&pair->rnd, 4);
    struct kvm_lapic_state ours, theirs;
    uint32_t id = (uint32_t)rnd_next(&pair->rnd);
    long our_result, their_result;

    get_lapic(&pair->ours, i, &ours);
    get_lapic(&pair->theirs, i, &theirs);
    for (unsigned at = 0x200; at < 0x280; at += 0x10) {
        uint32_t mask = (uint32_t)rnd_next(&pair->rnd);

        put_register(&ours, at, register_in(&ours, at) & mask);
        put_register(&theirs, at, register_in(&theirs, at) & mask);
    }
    if (is_other_id) {
        put_register(&ours, 0x20, id);
        put_register(&theirs, 0x20, id);
        put_register(&ours, 0xd0, id);
        put_register(&theirs, 0xd0, id);
    }
    our_result = vcpu_call(&pair->ours, i, KVM_SET_LAPIC, &ours);
    their_result = vcpu_call(&pair->theirs, i, KVM_SET_LAPIC, &theirs);
    assert_int_equal(our_result, their_result);
}

static void one_operation(struct pair *pair)
{
    switch (rnd_below(&pair->rnd, 12)) {
    case 0:
        change_modes(pair);
        break;
    case 1:
        change_mode_by_guest(pair);
        break;
    case 2:
    case 3:
        send_msi(pair);
        break;
    case 4:
        set_states(pair);
        break;
    case 5:
    case 6:
        read_msr(pair);
        break;
    case 7:
        if (pair->mode != XAPIC) {
            assert_int_equal(guest_load(&pair->ours, 0x80), guest_load(&pair->theirs, 0x80));
        }
        break;
    default:
        write_msr(pair);
        break;
    }
    expect_same_states(pair);
}

/* Return: false: /dev/kvm does not open. */
static bool ask_what_is_new(struct pair *pair)
{
    struct kvm_lapic_state lapic;
    struct machine machine;
    uint64_t id;

    if (!machine_open(&machine, true)) {
        return false;
    }
    assert_true(set_mode(&machine, 0, X2APIC));
    pair->refuses_reserved = !set_msr(&machine, 0, 0x830, 0x44040 | 1u << 13);
    get_lapic(&machine, 0, &lapic);
    put_register(&lapic, 0x20, 5u << 24);
    pair->keeps_ids = vcpu_call(&machine, 0, KVM_SET_LAPIC, &lapic) == 0 &&
                      get_msr(&machine, 0, 0x802, &id) && id == 0;
    machine_close(&machine);
    return true;
}

static void random_operations_are_as_the_kernels(void **state)
{
    uint64_t steps = rnd_setting("GM_STEPS", 800);
    static struct pair pair;

    (void)state;
    pair.rnd.state = rnd_seed("x2apic");
    if (!ask_what_is_new(&pair)) {
        printf("1 comparison skipped, /dev/kvm does not open\n");
        skip();
    }
    for (uint64_t flags = 0; flags < 4; flags++) {
        assert_true(machine_open(&pair.theirs, true));
        assert_true(machine_open(&pair.ours, false));
        assert_int_equal(use_x2apic_api(&pair.ours, flags), 0);
        assert_int_equal(use_x2apic_api(&pair.theirs, flags), 0);
        pair.mode = XAPIC;
        for (uint64_t step = 0; step < steps; step++) {
            one_operation(&pair);
        }
        machine_close(&pair.ours);
        machine_close(&pair.theirs);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(modes_change_as_the_manual_says),
        cmocka_unit_test(mode_takes_the_feature),
        cmocka_unit_test(page_is_a_hole_in_other_modes),
        cmocka_unit_test(capability_changes_ids_for_good),
        cmocka_unit_test(filters_do_not_cover_it),
        cmocka_unit_test(cpuid_follows_the_base),
        cmocka_unit_test(without_chips_there_are_no_registers),
        cmocka_unit_test(random_operations_are_as_the_kernels),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
