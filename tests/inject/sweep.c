/*
 * inject/sweep.c - any test program, with the calls that the library makes in it failed one after the other.
 *
 * With GM_SWEEP set, a group of tests is not run but swept: each test runs once in a child process, which writes down the calls
 * that the library makes; then once for each call that was chosen, with that call failed. A test may notice, and fail: that is an
 * end like another. The library must not crash, abort, hang, or make a sanitizer speak. Of calls that come from the same place,
 * by the last DEPTH return addresses, one is chosen.
 *
 *   GM_SWEEP=DEPTH[:SECONDS]   at most so many seconds for each group, in which GM_SEED chooses whose turn it is
 *   GM_SWEEP_TEST=PATTERN      only tests of this name, with * and ?
 *   GM_SWEEP_CALL=KIND:NUMBER  just this call, with all that the test prints; KIND+ for this and later ones
 *
 * The last line on stdout has the counts; one before it names each finding, as the arguments that show it again.
 */
#include "inject/inject.h"

#include "model/random.h"

#include <execinfo.h>
#include <dlfcn.h>
#include <errno.h>
#include <fnmatch.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/pidfd.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#define CHOSEN_MAX 65536u
#define SEEN_SLOTS 262144u  /* places, by hash */
#define OUTPUT_BYTES 65536u /* of a test's output, the end is shown */
#define FRAMES_MAX 32
#define FRAMES_OURS 3      /* of this facility, on top of the library's */
#define TRACED_CALLS 4096u /* of each kind; later only one in TRACED_THEN */
#define TRACED_THEN 64u
#define TIMEOUT_MS 60000
#define LATER_CALLS                                                                                \
    63u /* that fail as well, in "KIND+": not all, for tests that try again until they succeed */
#define EXIT_ENDED 33

enum end {
    END_NONE,     /* the child has died */
    END_PASSED,   /* by itself, all well */
    END_ASSERTED, /* the test has noticed */
    END_LEAKED,   /* all well, and memory is left */
    END_CAUGHT,   /* cmocka has caught a signal */
};

struct choice {
    enum inject_kind kind;
    uint64_t number;
};

/* What children tell their parent. */
struct told {
    _Atomic enum end end;
    atomic_ullong failed; /* how many calls have */
    atomic_flag busy;     /* what follows */
    uint64_t calls[INJECT_KINDS];
    size_t chosen_count;
    size_t choices_lost;
    struct choice chosen[CHOSEN_MAX];
    uint64_t seen[SEEN_SLOTS];
};

struct sweep {
    const struct CMUnitTest *test;
    CMFixtureFunction setup;
    CMFixtureFunction teardown;
    bool is_limited;
    uint64_t deadline_ms; /* of the group */
    struct rnd rnd;
    size_t tests_left; /* who share what is left of it */
    uint64_t tests;
    uint64_t untried; /* tests of which not all was failed */
    uint64_t injected[INJECT_KINDS];
    uint64_t not_reached;
    uint64_t passed;
    uint64_t asserted;
    uint64_t findings;
};

static struct told *told;
static int depth;
static bool is_child;

int __wrap__cmocka_run_group_tests(const char *group, const struct CMUnitTest *tests, size_t count,
                                   CMFixtureFunction setup, CMFixtureFunction teardown);
int __real__cmocka_run_group_tests(const char *group, const struct CMUnitTest *tests, size_t count,
                                   CMFixtureFunction setup, CMFixtureFunction teardown);
int __lsan_do_recoverable_leak_check(void) __attribute__((weak));

static uint64_t now_ms(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

/* ---- in a child ---- */

static _Noreturn void end_child(enum end end)
{
    atomic_store(&told->failed, inject_disarm());
    atomic_store(&told->end, end);
    fflush(NULL);
    _exit(EXIT_ENDED);
}

void inject_test_failed(void)
{
    if (is_child) {
        end_child(END_ASSERTED);
    }
}

/* cmocka's, which its assertions end in: going on by longjmp(), out of locks and threads, would show nothing. */
void _fail(const char *file, int line)
{
    void (*next)(const char *file, int line) =
        (void (*)(const char *, int))(uintptr_t)dlsym(RTLD_NEXT, "_fail");

    if (is_child) {
        printf("%s:%d: error: Failure!\n", file, line);
    }
    inject_test_failed();
    next(file, line);
    abort();
}

static uint64_t place_of_call(enum inject_kind kind)
{
    void *frames[FRAMES_MAX];
    int count =
        backtrace(frames, depth + FRAMES_OURS < FRAMES_MAX ? depth + FRAMES_OURS : FRAMES_MAX);
    uint64_t hash = UINT64_C(0xcbf29ce484222325) ^ (uint64_t)kind;

    for (int i = FRAMES_OURS; i < count; i++) {
        hash = (hash ^ (uintptr_t)frames[i]) * UINT64_C(0x9e3779b97f4a7c15);
        hash ^= hash >> 29;
    }
    return hash | 1; /* 0 is no place */
}

/* Under told's flag. Places are kept from test to test. */
static bool is_new_place(uint64_t place)
{
    uint64_t at = place % SEEN_SLOTS;
    unsigned tries;

    for (tries = 0; tries < 64 && told->seen[at] != 0; tries++) {
        if (told->seen[at] == place) {
            return false;
        }
        at = (at + 1) % SEEN_SLOTS;
    }
    told->seen[at] = place;
    return true;
}

static void note_call(enum inject_kind kind, uint64_t number_of_all)
{
    uint64_t place = 0;
    uint64_t number;

    (void)number_of_all;
    while (atomic_flag_test_and_set(&told->busy)) {
    }
    number = ++told->calls[kind];
    atomic_flag_clear(&told->busy);
    if (number <= TRACED_CALLS || number % TRACED_THEN == 0) {
        place = place_of_call(kind);
        while (atomic_flag_test_and_set(&told->busy)) {
        }
        if (is_new_place(place)) {
            if (told->chosen_count < CHOSEN_MAX) {
                told->chosen[told->chosen_count++] = (struct choice){kind, number};
            } else {
                told->choices_lost++;
            }
        }
        atomic_flag_clear(&told->busy);
    }
}

static _Noreturn void run_child(const struct sweep *sweep, const struct choice *choice,
                                uint64_t last)
{
    int failed_count;

    is_child = true;
    if (choice != NULL) {
        inject_arm(INJECT_BIT(choice->kind), choice->number, last);
    } else {
        inject_on_call = note_call;
        inject_arm(INJECT_BIT(INJECT_KINDS) - 1, 0, 0);
    }
    failed_count =
        __real__cmocka_run_group_tests("swept", sweep->test, 1, sweep->setup, sweep->teardown);
    if (failed_count != 0) {
        end_child(END_CAUGHT);
    }
    if (__lsan_do_recoverable_leak_check != NULL && __lsan_do_recoverable_leak_check() != 0) {
        end_child(END_LEAKED);
    }
    end_child(END_PASSED);
}

/* ---- the parent ---- */

/* A child's end; what it printed is in @output. NULL: nothing fails. */
static enum end try(const struct sweep *sweep, const struct choice *choice, uint64_t last,
                    int output, const char **how)
{
    struct pollfd ended = {.events = POLLIN};
    pid_t child;
    int status;

    told->end = END_NONE;
    atomic_flag_clear(&told->busy); /* a thread may have held it when the last child ended */
    told->failed = 0;
    fflush(NULL);
    child = fork();
    if (child == 0) {
        setpgid(0, 0);
        if (output >= 0) {
            dup2(output, STDOUT_FILENO);
            dup2(output, STDERR_FILENO);
        }
        run_child(sweep, choice, last);
    }
    ended.fd = pidfd_open(child, 0);
    if (poll(&ended, 1, TIMEOUT_MS) == 0) {
        *how = "hung";
        kill(-child, SIGKILL);
    } else {
        *how = "died";
    }
    kill(child, SIGKILL);
    waitpid(child, &status, 0);
    close(ended.fd);
    if (told->end == END_NONE && WIFSIGNALED(status) && strcmp(*how, "died") == 0) {
        *how = strsignal(WTERMSIG(status));
    }
    return told->end;
}

static void show_output(int output)
{
    static char text[OUTPUT_BYTES + 1];
    off_t size_bytes = lseek(output, 0, SEEK_END);
    off_t from = size_bytes > (off_t)OUTPUT_BYTES ? size_bytes - (off_t)OUTPUT_BYTES : 0;
    ssize_t got = pread(output, text, OUTPUT_BYTES, from);

    text[got > 0 ? got : 0] = '\0';
    for (const char *line = strtok(text, "\n"); line != NULL; line = strtok(NULL, "\n")) {
        printf("    %s\n", line);
    }
}

static void fail_one(struct sweep *sweep, const struct choice *choice, bool with_later, int output)
{
    const char *how;
    enum end end;

    if (ftruncate(output, 0) != 0 || lseek(output, 0, SEEK_SET) != 0) {
        abort();
    }
    end = try(sweep, choice, choice->number + (with_later ? LATER_CALLS : 0), output, &how);
    sweep->injected[choice->kind]++;
    if (end == END_PASSED || end == END_ASSERTED) {
        sweep->passed += end == END_PASSED;
        sweep->asserted += end == END_ASSERTED;
        sweep->not_reached += told->failed == 0; /* threads: this time there were fewer calls */
        return;
    }
    sweep->findings++;
    printf("finding: GM_SWEEP=%d GM_SWEEP_TEST=%s GM_SWEEP_CALL=%s%s:%llu: %s\n", depth,
           sweep->test->name, inject_kind_names[choice->kind], with_later ? "+" : "",
           (unsigned long long)choice->number,
           end == END_LEAKED   ? "leaked"
           : end == END_CAUGHT ? "a signal, or no fixture"
                               : how);
    show_output(output);
}

/* How a chosen call fails: alone, and, as undoing may fail then, with some that come later. */
static bool fails_twice(enum inject_kind kind)
{
    return kind == INJECT_ALLOC || kind == INJECT_IOCTL || kind == INJECT_MAP;
}

/* In a limited time each has the same chance. */
static void shuffle(struct choice *choices, size_t count, struct rnd *rnd)
{
    for (size_t i = count; i > 1; i--) {
        size_t other = rnd_below(rnd, i);
        struct choice kept = choices[i - 1];

        choices[i - 1] = choices[other];
        choices[other] = kept;
    }
}

/* When the test at hand has to be done. */
static uint64_t deadline_of_test(const struct sweep *sweep)
{
    uint64_t now = now_ms();

    if (!sweep->is_limited) {
        return UINT64_MAX;
    }
    return now >= sweep->deadline_ms ? now : now + (sweep->deadline_ms - now) / sweep->tests_left;
}

static void sweep_test(struct sweep *sweep, int output)
{
    uint64_t deadline_ms = deadline_of_test(sweep);
    const char *how;
    enum end end;

    memset(told->calls, 0, sizeof(told->calls));
    told->chosen_count = 0;
    end = try(sweep, NULL, 0, output, &how);
    if (end != END_PASSED) {
        printf("not swept: %s: fails, or leaks, when nothing is failed\n", sweep->test->name);
        show_output(output);
        sweep->untried++;
        return;
    }
    sweep->tests++;
    if (sweep->is_limited) {
        shuffle(told->chosen, told->chosen_count, &sweep->rnd);
    }
    for (size_t i = 0; i < told->chosen_count; i++) {
        if (now_ms() > deadline_ms) {
            sweep->untried++;
            return;
        }
        fail_one(sweep, &told->chosen[i], false, output);
        if (fails_twice(told->chosen[i].kind)) {
            fail_one(sweep, &told->chosen[i], true, output);
        }
    }
}

/* "KIND:NUMBER" or "KIND+:NUMBER". */
static struct choice parse_choice(const char *text, uint64_t *last)
{
    struct choice choice = {INJECT_KINDS, 0};
    size_t length = strcspn(text, "+:");

    for (unsigned kind = 0; kind < INJECT_KINDS; kind++) {
        if (strlen(inject_kind_names[kind]) == length &&
            strncmp(text, inject_kind_names[kind], length) == 0) {
            choice.kind = kind;
        }
    }
    choice.number = strtoull(text + strcspn(text, ":") + 1, NULL, 10);
    *last = choice.number + (text[length] == '+' ? LATER_CALLS : 0);
    if (choice.kind == INJECT_KINDS || choice.number == 0) {
        fprintf(stderr, "GM_SWEEP_CALL=%s: no such call\n", text);
        exit(2);
    }
    return choice;
}

static int one_call(const struct sweep *sweep, const char *text)
{
    const char *how = "";
    uint64_t last;
    struct choice choice = parse_choice(text, &last);
    enum end end = try(sweep, &choice, last, -1, &how);

    printf("%s: %s, %llu calls failed\n", sweep->test->name,
           end == END_PASSED     ? "passed"
           : end == END_ASSERTED ? "the test has noticed"
           : end == END_LEAKED   ? "leaked"
           : end == END_CAUGHT   ? "a signal, or no fixture"
                                 : how,
           (unsigned long long)told->failed);
    return end == END_PASSED || end == END_ASSERTED ? 0 : 1;
}

static void report(const struct sweep *sweep)
{
    uint64_t all = 0;

    printf("swept: %s: %llu tests, %llu not wholly;", program_invocation_short_name,
           (unsigned long long)sweep->tests, (unsigned long long)sweep->untried);
    for (unsigned kind = 0; kind < INJECT_KINDS; kind++) {
        printf(" %s %llu", inject_kind_names[kind], (unsigned long long)sweep->injected[kind]);
        all += sweep->injected[kind];
    }
    printf("; %llu injected, %llu passed, %llu noticed, %llu not reached, %llu findings\n",
           (unsigned long long)all, (unsigned long long)sweep->passed,
           (unsigned long long)sweep->asserted, (unsigned long long)sweep->not_reached,
           (unsigned long long)sweep->findings);
    fflush(stdout);
}

int __wrap__cmocka_run_group_tests(const char *group, const struct CMUnitTest *tests, size_t count,
                                   CMFixtureFunction setup, CMFixtureFunction teardown)
{
    const char *setting = getenv("GM_SWEEP");
    const char *pattern = getenv("GM_SWEEP_TEST");
    const char *call = getenv("GM_SWEEP_CALL");
    struct sweep sweep = {.setup = setup, .teardown = teardown};
    void *warm[1];
    char *rest;
    int result = 0;
    int output;

    if (setting == NULL) {
        return __real__cmocka_run_group_tests(group, tests, count, setup, teardown);
    }
    depth = (int)strtol(setting, &rest, 10);
    sweep.is_limited = *rest == ':';
    if (sweep.is_limited) {
        sweep.deadline_ms = now_ms() + strtoull(rest + 1, NULL, 10) * 1000;
        sweep.rnd.state = rnd_setting("GM_SEED", 1);
    }
    output = memfd_create("output", MFD_CLOEXEC);
    told = mmap(NULL, sizeof(*told), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (told == MAP_FAILED || output < 0) {
        abort();
    }
    (void)backtrace(warm, 1); /* its first call allocates */
    for (size_t i = 0; i < count; i++) {
        sweep.test = &tests[i];
        sweep.tests_left = count - i;
        if (pattern != NULL && fnmatch(pattern, tests[i].name, 0) != 0) {
            continue;
        }
        if (call != NULL) {
            result = one_call(&sweep, call) != 0 ? 1 : result;
        } else {
            sweep_test(&sweep, output);
        }
    }
    if (call == NULL) {
        report(&sweep);
    }
    munmap(told, sizeof(*told));
    close(output);
    return sweep.findings != 0 ? 1 : result;
}
