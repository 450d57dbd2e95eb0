/*
 * conformance/x86/test_x86_native.c - the interpreter against the host's processor: random states and operands of each
 * form, one instruction each, must end equal in registers, memory, defined flags and exceptions.
 *
 *     GM_X86_CASES    how many
 *     GM_X86_CASE     this one alone, of GM_SEED
 *     GM_X86_SHOWN    how many that differ are printed; 10
 */
#include "guest.h"
#include "native.h"

#include "model/require.h"

#include <Zydis/Zydis.h>

#ifndef X86_NATIVE_CASES
#define X86_NATIVE_CASES 2000000
#endif
#define VECTOR_GP 13
#define VECTOR_PF 14
/* A host that is a guest itself, whose hypervisor interprets some of its instructions, at times answers one with #UD. */
#define ASKED_AGAIN_MAX 3
#define RARE_PART 8 /* of forms that are but faults, one in so many */

/* Flags that are compared: not RF, which differs in signals' frames. */
#define FLAGS_COMPARED UINT64_C(0x247fd5)

struct run {
    struct guest guest;
    struct case_features features;
    uint64_t seed, shown_max;
    uint8_t pristine[CASE_DATA_BYTES];
    uint8_t data[CASE_DATA_BYTES]; /* as the case finds it */
    uint64_t counts[GROUP_COUNT];
    uint64_t count, fault_count, lacking_count, left_out_count, again_count, mismatch_count;
    uint64_t *form_mismatches; /* by form */
};

static void print_bytes(const uint8_t *bytes, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        printf("%02x ", bytes[i]);
    }
}

static void print_code(const struct test_case *test)
{
    ZydisDisassembledInstruction decoded;
    bool is_known = ZYAN_SUCCESS(ZydisDisassembleIntel(ZYDIS_MACHINE_MODE_LONG_64, test->before.rip,
                                                       test->bytes, test->length, &decoded));

    printf("  %s/%s at %#llx (%u of %u bytes mapped): ",
           form_group_name((enum form_group)test->form->group), test->form->name,
           (unsigned long long)test->before.rip, test->mapped, test->length);
    print_bytes(test->bytes, test->length);
    printf(" %s\n", is_known ? decoded.text : "(not decoded)");
}

/* Registers that stay 0 or what they were are left out. */
static void print_value(const char *name, uint64_t before, uint64_t native, uint64_t guest)
{
    printf("  %-6s %016llx  %016llx  %016llx%s\n", name, (unsigned long long)before,
           (unsigned long long)native, (unsigned long long)guest,
           native != guest ? "  differs" : "");
}

static void print_x87(const struct case_state *before, const struct case_state *native,
                      const struct case_state *guest)
{
    const struct case_state *states[] = {before, native, guest};
    uint64_t low[3], high[3];

    print_value("fcw", before->fcw, native->fcw, guest->fcw);
    print_value("fsw", before->fsw, native->fsw, guest->fsw);
    print_value("ftw", before->ftw, native->ftw, guest->ftw);
    for (unsigned i = 0; i < 8; i++) {
        for (unsigned k = 0; k < 3; k++) {
            high[k] = 0;
            memcpy(&low[k], states[k]->st[i], 8);
            memcpy(&high[k], states[k]->st[i] + 8, 2);
        }
        print_value("st", low[0], low[1], low[2]);
        print_value("st.h", high[0], high[1], high[2]);
    }
}

static void print_registers(const struct case_state *before, const struct case_state *native,
                            const struct case_state *guest)
{
    static const char *const names[] = {"rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi",
                                        "r8",  "r9",  "r10", "r11", "r12", "r13", "r14", "r15"};
    char name[16];

    printf("         before            host              interpreter\n");
    for (unsigned i = 0; i < 16; i++) {
        print_value(names[i], before->gpr[i], native->gpr[i], guest->gpr[i]);
    }
    print_value("rip", before->rip, native->rip, guest->rip);
    print_value("rflags", before->rflags, native->rflags & ~UINT64_C(0x10000),
                guest->rflags & ~UINT64_C(0x10000));
    print_value("mxcsr", before->mxcsr, native->mxcsr, guest->mxcsr);
    print_x87(before, native, guest);
    for (unsigned i = 0; i < 32; i++) {
        snprintf(name, sizeof(name), "xmm%u%s", i / 2, i % 2 != 0 ? "h" : "");
        print_value(name, before->xmm[i / 2].u64[i % 2], native->xmm[i / 2].u64[i % 2],
                    guest->xmm[i / 2].u64[i % 2]);
    }
}

static void print_exception(const char *who, const struct case_outcome *outcome)
{
    if (outcome->is_absent) {
        printf("  %s: not there\n", who);
    } else if (outcome->vector < 0) {
        printf("  %s: complete\n", who);
    } else {
        printf("  %s: vector %d, error code %#x, CR2 %#llx\n", who, outcome->vector,
               outcome->error_code, (unsigned long long)outcome->cr2);
    }
}

static void print_memory(const struct run *run, const struct test_case *test)
{
    const uint8_t *native = native_data();
    const uint8_t *guest = guest_data(&run->guest);
    uint64_t offset = test->target - CASE_DATA;

    if (offset <= CASE_DATA_BYTES - 32) {
        printf("  memory at %#llx: ", (unsigned long long)test->target);
        print_bytes(run->data + offset, 32);
        printf("\n");
    }
    for (unsigned i = 0; i < CASE_DATA_BYTES; i++) {
        if (native[i] != guest[i]) {
            printf("  memory at %#llx: before %02x, host %02x, interpreter %02x\n",
                   (unsigned long long)(CASE_DATA + i), run->data[i], native[i], guest[i]);
        }
    }
}

static void show(const struct run *run, const struct test_case *test,
                 const struct case_outcome *native, const struct case_outcome *guest)
{
    printf("%s\n", require_place);
    print_code(test);
    print_exception("host", native);
    print_exception("interpreter", guest);
    print_registers(&test->before, &native->state, &guest->state);
    print_memory(run, test);
}

static bool is_exception_equal(const struct case_outcome *native, const struct case_outcome *guest)
{
    return native->vector == guest->vector &&
           (native->vector < 0 || native->error_code == guest->error_code) &&
           (native->vector != VECTOR_PF || native->cr2 == guest->cr2);
}

static bool are_x87_equal(const struct case_state *native, const struct case_state *guest)
{
    return native->fcw == guest->fcw && native->fsw == guest->fsw && native->ftw == guest->ftw &&
           memcmp(native->st, guest->st, sizeof(native->st)) == 0;
}

static bool are_registers_equal(const struct case_state *native, const struct case_state *guest)
{
    return memcmp(native->gpr, guest->gpr, sizeof(native->gpr)) == 0 &&
           memcmp(native->xmm, guest->xmm, sizeof(native->xmm)) == 0 &&
           native->mxcsr == guest->mxcsr;
}

static bool is_equal(const struct run *run, const struct test_case *test,
                     const struct case_outcome *native, const struct case_outcome *guest)
{
    struct case_mask mask = case_undefined(test, native, &run->features);
    uint64_t flags = FLAGS_COMPARED & ~mask.flags;

    if (guest->is_absent || (native->vector < 0) != (guest->vector < 0) ||
        native->state.rip != guest->state.rip ||
        ((native->state.rflags ^ guest->state.rflags) & flags) != 0) {
        return false;
    }
    if (!mask.is_fault_undefined && !is_exception_equal(native, guest)) {
        return false;
    }
    if (mask.is_result_undefined) {
        return true;
    }
    return are_registers_equal(&native->state, &guest->state) &&
           (mask.is_x87_undefined || are_x87_equal(&native->state, &guest->state)) &&
           (mask.is_memory_undefined ||
            memcmp(native_data(), guest_data(&run->guest), CASE_DATA_BYTES) == 0);
}

/* NULL: the host does not have it. */
static const struct form *choose_form(struct run *run, struct rnd *rnd)
{
    const struct form *form;

    do {
        form = &forms[rnd_below(rnd, forms_count)];
    } while ((form->flags & FORM_RARE) != 0 && !rnd_one_in(rnd, RARE_PART));
    return run->features.has[form->feature] ? form : NULL;
}

/* Behind INT @number a kernel may have something, as guests of hypervisors do; where nothing is, it is #GP of its gate. */
static bool is_call_of_host(uint8_t number)
{
    struct test_case test = {.bytes = {0xcd, number}, .length = 2, .mapped = 2};
    struct case_outcome outcome;

    for (size_t i = 0; i < forms_count; i++) {
        if (forms[i].special == SPECIAL_INTERRUPT) {
            test.form = &forms[i];
        }
    }
    test.before = (struct case_state){
        .rip = CASE_CODE + 0x100, .rflags = 0x202, .mxcsr = 0x1f80, .fcw = 0x37f};
    native_run(&test, &outcome);
    return outcome.vector != VECTOR_GP || outcome.error_code != number * 8u + 2;
}

/* The case is set up again, and the host asked. */
static void ask_host(const struct run *run, const struct test_case *test,
                     struct case_outcome *outcome)
{
    memcpy(native_data(), run->data, CASE_WRITABLE_BYTES);
    native_run(test, outcome);
}

static void run_case(struct run *run, uint64_t number)
{
    struct rnd rnd = {run->seed + number * UINT64_C(0xd1342543de82ef95)};
    struct case_outcome native, guest;
    struct test_case test;
    const struct form *form = choose_form(run, &rnd);

    if (form == NULL) {
        run->lacking_count++;
        return;
    }
    snprintf(require_place, sizeof(require_place), "GM_SEED=%llu GM_X86_CASE=%llu",
             (unsigned long long)run->seed, (unsigned long long)number);
    memcpy(run->data, run->pristine, CASE_WRITABLE_BYTES);
    case_make(&test, &rnd, form, run->data);
    if (case_is_left_out(&test, run->data) ||
        (form->special == SPECIAL_INTERRUPT && is_call_of_host((uint8_t)test.immediate))) {
        run->left_out_count++;
        return;
    }
    memcpy(guest_data(&run->guest), run->data, CASE_WRITABLE_BYTES);
    ask_host(run, &test, &native);
    guest_run(&run->guest, &test, &guest);
    for (unsigned i = 0; i < ASKED_AGAIN_MAX && !is_equal(run, &test, &native, &guest); i++) {
        ask_host(run, &test, &native);
        run->again_count += is_equal(run, &test, &native, &guest);
    }
    run->counts[form->group]++;
    run->count++;
    run->fault_count += native.vector >= 0;
    if (!is_equal(run, &test, &native, &guest)) {
        run->form_mismatches[form - forms]++;
        if (run->mismatch_count++ < run->shown_max) {
            show(run, &test, &native, &guest);
        }
    }
}

static void print_totals(const struct run *run)
{
    for (size_t i = 0; i < forms_count; i++) {
        if (run->form_mismatches[i] != 0) {
            printf("%s/%s, opcode %x: %llu differ\n",
                   form_group_name((enum form_group)forms[i].group), forms[i].name, forms[i].opcode,
                   (unsigned long long)run->form_mismatches[i]);
        }
    }
    printf("x86_native: %llu cases of %zu forms, %llu of them exceptions, "
           "%llu that the host lacks, %llu left out, %llu asked again:",
           (unsigned long long)run->count, forms_count, (unsigned long long)run->fault_count,
           (unsigned long long)run->lacking_count, (unsigned long long)run->left_out_count,
           (unsigned long long)run->again_count);
    for (unsigned i = 0; i < GROUP_COUNT; i++) {
        printf(" %s %llu", form_group_name((enum form_group)i), (unsigned long long)run->counts[i]);
    }
    printf("\n");
    fflush(stdout);
}

/* The host's processor and the interpreter do the same to the same state. */
static void x86_random_instruction_is_as_on_host(void **state)
{
    static struct run run;
    uint64_t count = rnd_setting("GM_X86_CASES", X86_NATIVE_CASES);
    uint64_t only = rnd_setting("GM_X86_CASE", UINT64_MAX);
    struct rnd rnd;

    (void)state;
    run.seed = rnd_seed("x86_native");
    run.shown_max = rnd_setting("GM_X86_SHOWN", 10);
    rnd.state = run.seed;
    for (size_t i = 0; i < sizeof(run.pristine); i++) {
        run.pristine[i] = (uint8_t)(rnd_next(&rnd) >> 32);
    }
    memcpy(run.data, run.pristine, sizeof(run.data));
    run.form_mismatches = calloc(forms_count, sizeof(*run.form_mismatches));
    assert_non_null(run.form_mismatches);
    guest_init(&run.guest, run.pristine);
    native_init(run.pristine);
    run.features = native_features();
    if (only != UINT64_MAX) {
        run_case(&run, only);
    }
    for (uint64_t i = 0; i < count && only == UINT64_MAX; i++) {
        run_case(&run, i);
    }
    print_totals(&run);
    free(run.form_mismatches);
    guest_free(&run.guest);
    assert_int_equal(run.mismatch_count, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(x86_random_instruction_is_as_on_host),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
