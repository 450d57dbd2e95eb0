/*
 * kvm/test_tool_run.c - `guestmem run` as people use it: the tool is started with firmware images,
 * its output and exit code are looked at. Expected values come from the i440fx and PIIX4 datasheets
 * (what the guests of pcroms.S check), and from what SeaBIOS prints on QEMU's machine of the same
 * kind.
 *
 *   test_tool_run [lab]        on /dev/kvm only, in scripts/lab
 */
#include "guest.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <json-c/json.h>

#define ROM_BYTES 0x10000u
#define RESET_VECTOR (ROM_BYTES - 16)
#define OUTPUT_BYTES 65536u
#define SEABIOS "/usr/share/seabios/bios-256k.bin"
#define SEABIOS_SMALL "/usr/share/seabios/bios.bin"

/* The programs of pcroms.S. */
#define PROGRAM(name) extern const uint8_t name[], name##_end[]
PROGRAM(rom_messages);
PROGRAM(rom_exit_7);
PROGRAM(rom_power_off);
PROGRAM(rom_reset);
PROGRAM(rom_reset_cf9);
PROGRAM(rom_halt);
PROGRAM(rom_spin);
PROGRAM(rom_crash);
PROGRAM(rom_idle);
PROGRAM(rom_pam);
PROGRAM(rom_shadow);
PROGRAM(rom_smram);
PROGRAM(rom_bars);

/* What a run of the tool came to. */
struct outcome {
    int exit_code; /* -1: it was killed */
    char out[OUTPUT_BYTES];
    char err[OUTPUT_BYTES];
};

static char tool_path[4096];
static char folder[] = "/tmp/guestmem-run-XXXXXX";
static struct outcome outcome;
static bool is_in_lab;

static void read_all(const char *path, char *text)
{
    FILE *file = fopen(path, "r");
    size_t got;

    assert_non_null(file);
    got = fread(text, 1, OUTPUT_BYTES - 1, file);
    text[got] = '\0';
    fclose(file);
}

/* Start the tool. @arguments ends with NULL. */
static pid_t start(const char *const *arguments)
{
    const char *argv[16] = {tool_path, "run", "--accel",
                            guest_accel == GM_ACCEL_KVM ? "kvm" : "soft"};
    pid_t child;
    size_t i;

    for (i = 0; arguments[i] != NULL; i++) {
        assert_true(i + 5 < sizeof(argv) / sizeof(argv[0]));
        argv[i + 4] = arguments[i];
    }
    child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        if (freopen("out", "w", stdout) == NULL || freopen("err", "w", stderr) == NULL) {
            _exit(126);
        }
        execv(tool_path, (char *const *)argv);
        _exit(127);
    }
    return child;
}

static void finish(pid_t child)
{
    int status;

    assert_int_equal(waitpid(child, &status, 0), child);
    outcome.exit_code = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
    read_all("out", outcome.out);
    read_all("err", outcome.err);
}

#define RUN(...) finish(start((const char *const[]){__VA_ARGS__, NULL}))

/* Write an image: a program at F000:0000, and a reset vector that jumps there. */
static void write_rom(const uint8_t *program, const uint8_t *end)
{
    static const uint8_t jump[] = {0xea, 0x00, 0x00, 0x00, 0xf0};
    static uint8_t image[ROM_BYTES];
    FILE *file = fopen("rom", "wb");

    assert_non_null(file);
    memset(image, 0xff, sizeof(image));
    memcpy(image, program, (size_t)(end - program));
    memcpy(image + RESET_VECTOR, jump, sizeof(jump));
    assert_int_equal(fwrite(image, sizeof(image), 1, file), 1);
    assert_int_equal(fclose(file), 0);
}

/* Run a program to its end, and give the parsed report. The caller frees it. */
static struct json_object *run_rom(const uint8_t *program, const uint8_t *end)
{
    struct json_object *report;

    write_rom(program, end);
    RUN("--bios", "rom", "--for", "20", "--json");
    report = json_tokener_parse(outcome.out);
    assert_non_null(report);
    return report;
}
#define RUN_ROM(name) run_rom(name, name##_end)

static struct json_object *member(struct json_object *object, const char *name)
{
    struct json_object *value = NULL;

    assert_true(json_object_object_get_ex(object, name, &value));
    return value;
}

static uint64_t count_of(struct json_object *report, const char *group, const char *name)
{
    return json_object_get_uint64(member(member(report, group), name));
}

static void assert_end(struct json_object *report, const char *end, int exit_code)
{
    assert_string_equal(json_object_get_string(member(report, "end")), end);
    assert_int_equal(outcome.exit_code, exit_code);
}

/* A guest of pcroms.S that checks something ended with 0: no check failed. Gives its report. */
static struct json_object *assert_rom_passes(const uint8_t *program, const uint8_t *end)
{
    struct json_object *report = run_rom(program, end);

    assert_string_equal(json_object_get_string(member(report, "end")), "exit-port");
    assert_int_equal(json_object_get_int(member(report, "exit_value")), 0);
    assert_int_equal(count_of(report, "slot_changes", "untouched"), 0);
    assert_int_equal(outcome.exit_code, 0);
    return report;
}

/* Whether a range of the view, or a slot, is of that region. */
static bool shows(struct json_object *report, const char *list, const char *region)
{
    struct json_object *array = member(report, list);
    size_t i;

    for (i = 0; i < json_object_array_length(array); i++) {
        struct json_object *item = json_object_array_get_idx(array, i);

        if (strcmp(json_object_get_string(member(item, "name")), region) == 0) {
            return true;
        }
    }
    return false;
}

static void assert_contains(const char *text, const char *part)
{
    if (strstr(text, part) == NULL) {
        fail_msg("\"%s\" is not in:\n%s", part, text);
    }
}

/* Both message ports reach stdout, and nothing that could move a terminal's cursor does. */
static void tool_run_messages_shown(void **state)
{
    (void)state;
    GUEST_NEEDS_KVM();
    write_rom(rom_messages, rom_messages_end);
    RUN("--bios", "rom", "--for", "20");
    assert_int_equal(outcome.exit_code, 0);
    assert_memory_equal(outcome.out, "A\\x1b\nB\n", 8);
    assert_string_equal(outcome.err, "");
    assert_contains(outcome.out, "the guest wrote to the exit port (value 0)");
    assert_contains(outcome.out, "Flat view of memory,");
}

/* The exit port's value is reported, and is a failure unless it is 0. */
static void tool_run_exit_port_fails(void **state)
{
    struct json_object *report;

    (void)state;
    GUEST_NEEDS_KVM();
    report = RUN_ROM(rom_exit_7);
    assert_end(report, "exit-port", 1);
    assert_int_equal(json_object_get_int(member(report, "exit_value")), 7);
    json_object_put(report);
}

/* Each way of ending has its name and exit code. */
static void tool_run_ends_named(void **state)
{
    static const struct {
        const uint8_t *program;
        const uint8_t *end;
        const char *name;
        int exit_code;
    } ends[] = {
        {rom_power_off, rom_power_off_end, "power-off", 0}, {rom_reset, rom_reset_end, "reset", 0},
        {rom_reset_cf9, rom_reset_cf9_end, "reset", 0},     {rom_halt, rom_halt_end, "halted", 0},
        {rom_crash, rom_crash_end, "crashed", 1},           {rom_idle, rom_idle_end, "idle", 0},
    };
    size_t i;

    (void)state;
    GUEST_NEEDS_KVM();
    for (i = 0; i < sizeof(ends) / sizeof(ends[0]); i++) {
        struct json_object *report = run_rom(ends[i].program, ends[i].end);

        assert_end(report, ends[i].name, ends[i].exit_code);
        json_object_put(report);
    }
}

/* --for ends a guest that never exits, soon after the time it names. */
static void tool_run_time_up_ends(void **state)
{
    struct json_object *report;

    (void)state;
    GUEST_NEEDS_KVM();
    write_rom(rom_spin, rom_spin_end);
    RUN("--bios", "rom", "--for", "0.3", "--json");
    report = json_tokener_parse(outcome.out);
    assert_non_null(report);
    assert_end(report, "time-up", 0);
    assert_in_range(json_object_get_uint64(member(report, "run_ns")), 300000000, 3000000000);
    json_object_put(report);
}

/* The tool waits for signals once it blocks SIGINT; while a thread starts, all are blocked. */
static bool waits_for_signals(unsigned long long blocked)
{
    return (blocked & 1u << (SIGINT - 1)) != 0 && (blocked & 1u << (SIGHUP - 1)) == 0;
}

/* A signal ends the run, and the report still comes. */
static void tool_run_signal_reports(void **state)
{
    static const char *const arguments[] = {"--bios", "rom", NULL};
    const struct timespec pause = {.tv_nsec = 10000000};
    pid_t child;
    int tries;

    (void)state;
    GUEST_NEEDS_KVM();
    write_rom(rom_spin, rom_spin_end);
    child = start(arguments);
    for (tries = 0; tries < 1000; tries++) {
        char path[64];
        char text[OUTPUT_BYTES];
        const char *mask;

        snprintf(path, sizeof(path), "/proc/%d/status", (int)child);
        read_all(path, text);
        mask = strstr(text, "SigBlk:");
        if (mask != NULL && waits_for_signals(strtoull(mask + 7, NULL, 16))) {
            break;
        }
        nanosleep(&pause, NULL);
    }
    assert_int_equal(kill(child, SIGINT), 0);
    finish(child);
    assert_int_equal(outcome.exit_code, 0);
    assert_contains(outcome.out, "interrupted by a signal");
    assert_contains(outcome.out, "dirty pages");
}

/* The shadow windows below 1 MiB: closed, read and write, read only, write only. */
static void tool_run_pam_modes(void **state)
{
    (void)state;
    GUEST_NEEDS_KVM();
    json_object_put(assert_rom_passes(rom_pam, rom_pam_end));
}

/* Firmware copies itself into the RAM beneath it and goes on running there. */
static void tool_run_shadow_copy_runs(void **state)
{
    (void)state;
    GUEST_NEEDS_KVM();
    json_object_put(assert_rom_passes(rom_shadow, rom_shadow_end));
}

/* SMRAM opens, closes, keeps its contents, and stays closed once it is locked. */
static void tool_run_smram_window(void **state)
{
    (void)state;
    GUEST_NEEDS_KVM();
    json_object_put(assert_rom_passes(rom_smram, rom_smram_end));
}

/* BARs tell their size, show where they are put, move, vanish, and never hide the APICs. */
static void tool_run_bars_move(void **state)
{
    struct json_object *report;

    (void)state;
    GUEST_NEEDS_KVM();
    report = assert_rom_passes(rom_bars, rom_bars_end);
    assert_true(shows(report, "ranges", "apics"));
    assert_true(shows(report, "ranges", "testdev-registers"));
    assert_false(shows(report, "ranges", "testdev-memory"));
    assert_false(shows(report, "slots", "testdev-memory"));
    json_object_put(report);
}

/* What SeaBIOS says and leaves on /dev/kvm, for the other KVM to be held against. */
static struct {
    char said[OUTPUT_BYTES];
    struct json_object *report; /* NULL: it was not run there */
} on_kvm;

/* Lines about the clock, which is another, and one with an address of the stack. */
static bool may_differ(const char *line, size_t length)
{
    static const char *const parts[] = {"kvmclock", "CPU Mhz", "pmtimer", "Copying MPTABLE"};

    for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++) {
        if (memmem(line, length, parts[i], strlen(parts[i])) != NULL) {
            return true;
        }
    }
    return false;
}

/* Take such lines out. */
static void normalize(char *text)
{
    char *to = text;

    for (char *line = text; *line != '\0';) {
        size_t length = strcspn(line, "\n");

        length += line[length] == '\n';
        if (!may_differ(line, length)) {
            memmove(to, line, length);
            to += length;
        }
        line += length;
    }
    *to = '\0';
}

static void compare_with_kvm(struct json_object *report)
{
    static const char *const members[] = {"ranges", "slots", "commits", "dirty_pages"};

    normalize(outcome.err);
    if (guest_accel == GM_ACCEL_KVM) {
        strcpy(on_kvm.said, outcome.err);
        on_kvm.report = json_object_get(report);
    } else if (on_kvm.report != NULL) {
        assert_string_equal(outcome.err, on_kvm.said);
        for (size_t i = 0; i < sizeof(members) / sizeof(members[0]); i++) {
            assert_string_equal(json_object_to_json_string(member(report, members[i])),
                                json_object_to_json_string(member(on_kvm.report, members[i])));
        }
    }
}

/* An emulated machine beside others may need so long for each tick of the clock that the guest is not halted whenever we look. */
static bool is_time_up(struct json_object *report)
{
    return strcmp(json_object_get_string(member(report, "end")), "time-up") == 0;
}

/* SeaBIOS gets to the end of its boot search, and no memory that did not change is taken away. The same on both KVMs. */
static void tool_run_seabios_searches(void **state)
{
    static const char *const said[] = {
        "SeaBIOS (version ",      "Running on QEMU (i440fx)",
        "Found QEMU fw_cfg",      "bar 0, addr ",
        "bar 1, addr ",           "PS2 keyboard initialized",
        "Found 1 serial ports",   "Scan for option roms",
        "Booting from Floppy...", "Booting from Hard Disk...",
        "No bootable device.",
    };
    struct json_object *report;
    size_t i;

    (void)state;
    GUEST_NEEDS_KVM();
    if (access(SEABIOS, R_OK) != 0) {
        skip();
    }
    RUN("--bios", SEABIOS, "--for", is_in_lab ? "240" : "120", "--json");
    for (i = 0; i < sizeof(said) / sizeof(said[0]); i++) {
        assert_contains(outcome.err, said[i]);
    }
    assert_null(strstr(outcome.err, "WARNING"));
    report = json_tokener_parse(outcome.out);
    assert_non_null(report);
    assert_end(report, is_in_lab && is_time_up(report) ? "time-up" : "idle", 0);
    assert_int_equal(count_of(report, "slot_changes", "untouched"), 0);
    assert_int_equal(count_of(report, "commits", "failed"), 0);
    assert_true(count_of(report, "commits", "total") > 8);
    assert_true(json_object_get_uint64(member(report, "dirty_pages")) > 30);
    assert_true(shows(report, "ranges", "testdev-registers"));
    assert_true(shows(report, "slots", "testdev-memory"));
    assert_string_equal(json_object_get_string(member(report, "accel")),
                        guest_accel == GM_ACCEL_KVM ? "kvm" : "soft");
    compare_with_kvm(report);
    json_object_put(report);
}

/* The 128 KiB build does the same, with RAM on both sides of the PCI hole. */
static void tool_run_seabios_high_memory(void **state)
{
    (void)state;
    GUEST_NEEDS_KVM();
    if (access(SEABIOS_SMALL, R_OK) != 0 ||
        (uint64_t)sysconf(_SC_PHYS_PAGES) * (uint64_t)sysconf(_SC_PAGESIZE) < (uint64_t)4 << 30) {
        skip();
    }
    RUN("--bios", SEABIOS_SMALL, "--for", "120", "--memory", "4G");
    assert_int_equal(outcome.exit_code, 0);
    assert_contains(outcome.out, "addr 0x0000000000000000 len 0x00000000c0000000 [RAM]");
    assert_contains(outcome.out, "addr 0x0000000100000000 len 0x0000000040000000 [RAM]");
    assert_contains(outcome.out, "No bootable device.");
    assert_contains(outcome.out, "100000000  13fffffff  ");
}

/* A bad command line is one line on stderr, and exit code 2. */
static void tool_run_bad_options_refused(void **state)
{
    static const char *const bad[][3] = {
        {"--memory", "0"},
        {"--memory", "1M"},
        {"--memory", "12345"},
        {"--memory", "-1G"},
        {"--memory", "2.5G"},
        {"--memory", "3000K"},
        {"--memory", "128M "},
        {"--memory", "1Gx"},
        {"--memory", ""},
        {"--memory", "99999999T"},
        {"--memory", "18446744073709551615T"},
        {"--for", "0"},
        {"--for", "-1"},
        {"--for", "nan"},
        {"--for", "inf"},
        {"--for", "1s"},
        {"--for", ""},
        {"--accel", "tcg"},
        {"--bios", "/nonexistent"},
        {"--bios", "/dev/null"},
        {"--bios", "/tmp"},
        {"--for"},
        {"--nonsense"},
        {"something"},
    };
    size_t i;

    (void)state;
    for (i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        finish(start(bad[i]));
        assert_int_equal(outcome.exit_code, 2);
        assert_string_equal(outcome.out, "");
        assert_memory_equal(outcome.err, "guestmem: run: ", 15);
        assert_ptr_equal(strchr(outcome.err, '\n'), outcome.err + strlen(outcome.err) - 1);
    }
}

/* --help is on stdout and names every option. */
static void tool_run_help_complete(void **state)
{
    static const char *const options[] = {"--accel", "--memory", "--bios", "--for", "--json"};
    size_t i;

    (void)state;
    RUN("--help");
    assert_int_equal(outcome.exit_code, 0);
    for (i = 0; i < sizeof(options) / sizeof(options[0]); i++) {
        assert_contains(outcome.out, options[i]);
    }
}

/* The tool stands in the build folder, one above the tests. */
static bool find_tool(void)
{
    char self[2048];
    ssize_t length = readlink("/proc/self/exe", self, sizeof(self) - 1);

    if (length <= 0) {
        return false;
    }
    self[length] = '\0';
    *strrchr(self, '/') = '\0';
    snprintf(tool_path, sizeof(tool_path), "%s/../guestmem", self);
    return access(tool_path, X_OK) == 0 && mkdtemp(folder) != NULL && chdir(folder) == 0;
}

int main(int argument_count, char **arguments)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tool_run_messages_shown),
        cmocka_unit_test(tool_run_exit_port_fails),
        cmocka_unit_test(tool_run_ends_named),
        cmocka_unit_test(tool_run_time_up_ends),
        cmocka_unit_test(tool_run_signal_reports),
        cmocka_unit_test(tool_run_pam_modes),
        cmocka_unit_test(tool_run_shadow_copy_runs),
        cmocka_unit_test(tool_run_smram_window),
        cmocka_unit_test(tool_run_bars_move),
        cmocka_unit_test(tool_run_seabios_searches),
        cmocka_unit_test(tool_run_seabios_high_memory),
        cmocka_unit_test(tool_run_bad_options_refused),
        cmocka_unit_test(tool_run_help_complete),
    };
    int exit_code;

    if (!find_tool()) {
        fprintf(stderr, "the tool is not beside the tests\n");
        return 1;
    }
    is_in_lab = argument_count > 1 && strcmp(arguments[1], "lab") == 0;
    exit_code = is_in_lab
                    ? guest_exit_code(cmocka_run_group_tests_name("on /dev/kvm", tests, NULL, NULL))
                    : GUEST_RUN_ON_BOTH(tests);
    json_object_put(on_kvm.report);
    remove("rom");
    remove("out");
    remove("err");
    (void)!chdir("/");
    rmdir(folder);
    return exit_code;
}
