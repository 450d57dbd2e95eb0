/*
 * cmd_run.c - `guestmem run`: boot a firmware on a small PC whose memory is a guestmem map, show
 * what the firmware says, and report what became of the map.
 */
#include "tool.h"

#include "pc/bios.h"
#include "pc/clockwork.h"
#include "pc/pc.h"
#include "pc/report.h"

#include <ctype.h>
#include <errno.h>
#include <getopt.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define DEFAULT_MEMORY_BYTES (128 * PC_MIB)
#define LONGEST_RUN_S 1e9

static const char help[] =
    "Usage: guestmem run [--accel auto|kvm|soft] [--memory SIZE] [--bios FILE] [--for SECONDS] "
    "[--json]\n"
    "\n"
    "Boots a firmware on a small PC whose memory is a guestmem map, prints the firmware's "
    "messages\n"
    "as they come, and then reports: flat view, slots, commits, slot changes, exits, dirty pages.\n"
    "\n"
    "  --accel NAME       what runs the guest: kvm needs /dev/kvm; soft is the software KVM, an\n"
    "                     interpreter that needs nothing; auto takes kvm, or else soft (auto)\n"
    "  --memory SIZE      RAM, such as 64M, 2G: 2M to what this host has, in steps of 1M (128M)\n"
    "  --bios FILE        firmware image, 64 KiB to 16 MiB (SeaBIOS, from Debian's package "
    "seabios)\n"
    "  --for SECONDS      end the run after so long, such as 2.5\n"
    "  --json             the report as one JSON object; messages then go to stderr\n"
    "  -h, --help         this text\n"
    "\n"
    "The run ends when the guest powers the machine off, resets it, writes to the exit port 0xf4,\n"
    "halts with interrupts disabled, or crashes; when --for is over; on Ctrl-C; and when the "
    "guest\n"
    "is idle for good: for one second it was halted each of 20 times we looked, and said nothing.\n"
    "The last is how a firmware ends that finds nothing to boot from.\n"
    "\n"
    "The firmware speaks on port 0x402 and on the serial port 0x3f8. The machine: i440fx host\n"
    "bridge with PAM and SMRAM windows, PIIX4, a PCI device with two BARs, CMOS clock, fw_cfg,\n"
    "keyboard controller, serial port; PICs, APICs and PIT are KVM's.\n"
    "\n"
    "Exit code: 0 the run ended as above; 1 the guest crashed, or wrote other than 0 to the exit\n"
    "port, or the machine failed; 2 bad command line or firmware image; 3 --accel kvm, and "
    "/dev/kvm does not open.\n";

/* Where SeaBIOS is, as distributions have it. */
static const char *const seabios_paths[] = {
    "/usr/share/seabios/bios-256k.bin",
    "/usr/share/qemu/bios-256k.bin",
};

struct run_options {
    struct pc_options pc;
    enum gm_accel accel;
    const char *bios_path;
    bool json;
};

static int bad_usage(const char *what, const char *value)
{
    tool_error("run: %s%s (see guestmem run --help)", what, value);
    return TOOL_BAD_INPUT;
}

/* Bytes of memory that this host has: more than that cannot be the guest's RAM. */
static uint64_t host_memory_bytes(void)
{
    long pages = sysconf(_SC_PHYS_PAGES);
    long page_bytes = sysconf(_SC_PAGESIZE);

    return pages > 0 && page_bytes > 0 ? (uint64_t)pages * (uint64_t)page_bytes : 0;
}

/*
 * A number with K, M, G or T, maybe followed by B or iB. Return: false if it is none, or too
 * large.
 */
static bool parse_size(const char *text, uint64_t *size_bytes)
{
    static const char units[] = "KMGT";
    const char *unit;
    unsigned long long number;
    unsigned shift;
    char *end;

    if (text[0] < '0' || text[0] > '9') {
        return false; /* strtoull() would take blanks and signs */
    }
    errno = 0;
    number = strtoull(text, &end, 10);
    unit = memchr(units, toupper((unsigned char)*end), sizeof(units) - 1);
    if (errno != 0 || unit == NULL) {
        return false;
    }
    end++;
    if (*end != '\0' && strcmp(end, "B") != 0 && strcmp(end, "iB") != 0) {
        return false;
    }
    shift = 10 * ((unsigned)(unit - units) + 1);
    if (number > UINT64_MAX >> shift) {
        return false;
    }
    *size_bytes = (uint64_t)number << shift;
    return true;
}

static int take_memory(struct run_options *options, const char *text)
{
    uint64_t host_bytes = host_memory_bytes();
    uint64_t size_bytes;

    if (!parse_size(text, &size_bytes)) {
        return bad_usage("--memory takes a size such as 128M or 2G, not ", text);
    }
    if (size_bytes < PC_MEMORY_MIN || size_bytes % PC_MIB != 0) {
        return bad_usage("--memory takes 2M or more, in steps of 1M, not ", text);
    }
    if (host_bytes != 0 && size_bytes > host_bytes) {
        tool_error("run: --memory %s is more than this host has, %lluM", text,
                   (unsigned long long)(host_bytes / PC_MIB));
        return TOOL_BAD_INPUT;
    }
    options->pc.memory_bytes = size_bytes;
    return TOOL_OK;
}

static int take_seconds(struct run_options *options, const char *text)
{
    char *end;
    double seconds = strtod(text, &end);

    if (end == text || *end != '\0' || !isfinite(seconds) || seconds <= 0 ||
        seconds > LONGEST_RUN_S) {
        return bad_usage("--for takes a number of seconds above 0, not ", text);
    }
    /* At least one, since 0 means no limit. */
    options->pc.limit_ns = (uint64_t)(seconds * 1e9) + 1;
    return TOOL_OK;
}

static int take_accel(struct run_options *options, const char *text)
{
    static const struct {
        const char *name;
        enum gm_accel accel;
    } known[] = {{"auto", GM_ACCEL_AUTO}, {"kvm", GM_ACCEL_KVM}, {"soft", GM_ACCEL_SOFT}};
    size_t i;

    for (i = 0; i < sizeof(known) / sizeof(known[0]); i++) {
        if (strcmp(text, known[i].name) == 0) {
            options->accel = known[i].accel;
            return TOOL_OK;
        }
    }
    return bad_usage("--accel takes auto, kvm or soft, not ", text);
}

static int take_option(struct run_options *options, int option, const char *value)
{
    switch (option) {
    case 'a':
        return take_accel(options, value);
    case 'm':
        return take_memory(options, value);
    case 'b':
        options->bios_path = value;
        return TOOL_OK;
    case 'f':
        return take_seconds(options, value);
    default:
        options->json = true;
        return TOOL_OK;
    }
}

/* Return: true to go on; false when the command is over, with its exit code. */
static bool parse_options(struct run_options *options, int argc, char **argv, int *exit_code)
{
    static const struct option known[] = {
        {"accel", required_argument, NULL, 'a'},
        {"memory", required_argument, NULL, 'm'},
        {"bios", required_argument, NULL, 'b'},
        {"for", required_argument, NULL, 'f'},
        {"json", no_argument, NULL, 'j'},
        {"help", no_argument, NULL, 'h'},
        {NULL, 0, NULL, 0},
    };
    int option;

    *exit_code = TOOL_OK;
    opterr = 0;
    optind = 0; /* glibc: begin anew, main() has scanned an argv before */
    while (*exit_code == TOOL_OK && (option = getopt_long(argc, argv, ":h", known, NULL)) != -1) {
        if (option == 'h') {
            fputs(help, stdout);
            *exit_code = tool_finish_output();
            return false;
        }
        if (option == ':') {
            *exit_code = bad_usage(argv[optind - 1], " needs a value");
        } else if (option == '?') {
            *exit_code = bad_usage("unknown option ", argv[optind - 1]);
        } else {
            *exit_code = take_option(options, option, optarg);
        }
    }
    if (*exit_code == TOOL_OK && optind < argc) {
        *exit_code = bad_usage("takes options only, not ", argv[optind]);
    }
    return *exit_code == TOOL_OK;
}

static int print_report(const struct run_options *options, struct gm_vm *vm, struct pc *pc,
                        const struct gm_diag *diag)
{
    struct report report;
    int exit_code;

    report_init(&report, vm, pc, diag->text);
    exit_code = options->json ? report_print_json(&report) : report_print(&report);
    report_fini(&report);
    return exit_code;
}

/* Run the machine and report. Return: the exit code. */
static int run_pc(const struct run_options *options, struct gm_vm *vm, struct pc *pc)
{
    struct gm_diag diag = {0};
    struct pc_result result;
    enum pc_end end = pc_run(pc, &diag);
    int exit_code;

    pc_result(pc, &result);
    if (end == PC_FAILED || end == PC_CRASHED) {
        tool_error("run: %s: %s", report_end_text(end), diag.text);
    }
    exit_code = print_report(options, vm, pc, &diag);
    if (end == PC_FAILED || end == PC_CRASHED || (end == PC_EXIT_PORT && result.value != 0)) {
        return TOOL_FAILED;
    }
    return exit_code;
}

/* Read the firmware image that was asked for, or else SeaBIOS. Return: an exit code. */
static int load_bios(struct run_options *options)
{
    const char *path = options->bios_path;
    struct gm_diag diag = {0};
    size_t i;

    for (i = 0; path == NULL && i < sizeof(seabios_paths) / sizeof(seabios_paths[0]); i++) {
        if (access(seabios_paths[i], F_OK) == 0) {
            path = seabios_paths[i];
        }
    }
    if (path == NULL) {
        tool_error("run: SeaBIOS is not installed: apt-get install seabios, or give --bios FILE");
        return TOOL_BAD_INPUT;
    }
    if (bios_load(path, &options->pc.bios, &diag) != 0) {
        tool_error("run: %s", diag.text);
        return TOOL_BAD_INPUT;
    }
    return TOOL_OK;
}

/* Build the machine on an open VM, and run it. Return: the exit code. */
static int run_on(const struct run_options *options, struct gm_vm *vm)
{
    struct gm_diag diag = {0};
    struct pc *pc = NULL;
    int exit_code = TOOL_FAILED;

    if (pc_new(vm, &options->pc, &pc, &diag) != 0) {
        tool_error("run: %s", diag.text);
    } else {
        exit_code = run_pc(options, vm, pc);
    }
    pc_free(pc);
    return exit_code;
}

/* Return: the exit code. */
static int open_and_run(const struct run_options *options)
{
    const struct gm_vm_options vm_options = {.size = sizeof(vm_options), .accel = options->accel};
    struct gm_diag diag = {0};
    struct gm_vm *vm = NULL;
    int exit_code;

    if (gm_vm_open(&vm_options, &vm, &diag) != 0) {
        tool_error("run: %s; or take --accel soft", diag.text);
        return TOOL_NO_KVM;
    }
    if (options->accel == GM_ACCEL_AUTO && gm_vm_soft(vm) != NULL) {
        tool_error("run: /dev/kvm does not open: the guest runs on the software KVM");
    }
    exit_code = run_on(options, vm);
    if (gm_vm_close(vm, &diag) != 0) {
        tool_error("run: the machine cannot be closed: %s", diag.text);
        exit_code = TOOL_FAILED;
    }
    return exit_code;
}

int cmd_run(int argc, char **argv)
{
    struct run_options options = {.pc = {.memory_bytes = DEFAULT_MEMORY_BYTES},
                                  .accel = GM_ACCEL_AUTO};
    sigset_t old_mask;
    int exit_code;

    if (!parse_options(&options, argc, argv, &exit_code)) {
        return exit_code;
    }
    options.pc.console = options.json ? stderr : stdout;
    exit_code = load_bios(&options);
    if (exit_code != TOOL_OK) {
        return exit_code;
    }
    clockwork_block_signals(&old_mask);
    exit_code = open_and_run(&options);
    clockwork_restore_signals(&old_mask);
    gm_ram_put(options.pc.bios);
    return exit_code;
}
