/*
 * cmd_kvm.c - `guestmem kvm`: become a program with the preloaded library (tool/preload/), which answers /dev/kvm from the
 * software KVM.
 */
#include "program.h"
#include "tool.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

/* As shells have it. */
#define CANNOT_BE_RUN 126
#define NOT_FOUND 127

#define SCRIPTS_MAX 4 /* an interpreter may be a script; the kernel follows as many */

static const char help[] =
    "Usage: guestmem kvm [--trace FILE] [--] PROGRAM [ARGUMENT]...\n"
    "\n"
    "Run a program that uses /dev/kvm on the software KVM: without hardware, kernel module or "
    "privilege. The\n"
    "program is not changed: a library is loaded before its own, by LD_PRELOAD, and answers for "
    "/dev/kvm and the\n"
    "descriptors that it makes. Everything else is left alone. Processes that the program starts "
    "are treated\n"
    "alike.\n"
    "\n"
    "  --trace FILE   write a line for each call that has to do with a VM's memory, and for each "
    "that failed\n"
    "                 (docs/trace-format.md); guestmem slots FILE explains it\n"
    "  -h, --help     this text\n"
    "\n"
    "The program has to be dynamically linked, and not set-uid. A program that makes system calls "
    "by itself,\n"
    "without the C library, goes past the software KVM.\n"
    "\n"
    "Exit code: the program's; 126 it cannot be run so, 127 it was not found; 1 the library or the "
    "trace's file\n"
    "cannot be used; 2 the command line is wrong.\n";

/* ---- the program ---- */

static bool is_program(const char *path)
{
    struct stat status;

    return stat(path, &status) == 0 && S_ISREG(status.st_mode) && access(path, X_OK) == 0;
}

/* As execvp() looks for it. Return: false: @error says what to tell. */
static bool find_program(const char *name, char path[PROGRAM_PATH_BYTES], int *error)
{
    const char *folders = getenv("PATH");
    struct stat status;

    *error = ENOENT;
    if (strchr(name, '/') != NULL) {
        snprintf(path, PROGRAM_PATH_BYTES, "%s", name);
        if (is_program(path)) {
            return true;
        }
        *error = stat(path, &status) != 0 ? errno : S_ISDIR(status.st_mode) ? EISDIR : EACCES;
        return false;
    }
    if (folders == NULL) {
        folders = "/bin:/usr/bin";
    }
    while (*name != '\0') {
        int length = (int)strcspn(folders, ":");

        snprintf(path, PROGRAM_PATH_BYTES, "%.*s%s%s", length, folders, length != 0 ? "/" : "",
                 name);
        if (is_program(path)) {
            return true;
        }
        if (folders[length] == '\0') {
            break;
        }
        folders += length + 1;
    }
    return false;
}

static int refuse(const char *path, enum program_kind kind)
{
    static const char *const reasons[] = {
        [PROGRAM_STATIC] = "is statically linked: nothing can be loaded before it",
        [PROGRAM_OTHER_MACHINE] = "is no 64-bit x86 program",
        [PROGRAM_OTHER_LOADER] = "is not started by glibc's loader, which the library needs",
        [PROGRAM_PRIVILEGED] =
            "is set-uid, set-gid or has capabilities: nothing can be loaded before it",
        [PROGRAM_UNKNOWN] = "is neither an ELF program nor a script",
    };
    char *name = tool_printable(path);

    tool_error("kvm: %s %s", name, kind == PROGRAM_UNREADABLE ? strerror(errno) : reasons[kind]);
    free(name);
    return CANNOT_BE_RUN;
}

/* Can the library be loaded into what is started? Return: 0, or the exit code after saying why not. */
static int check_program(const char *path)
{
    char names[2][PROGRAM_PATH_BYTES];
    const char *examined = path;
    enum program_kind kind;

    for (int i = 0; i < SCRIPTS_MAX; i++) {
        kind = program_examine(examined, names[i % 2]);
        if (kind == PROGRAM_DYNAMIC) {
            return 0;
        }
        if (kind != PROGRAM_SCRIPT) {
            return refuse(examined, kind);
        }
        examined = names[i % 2];
    }
    tool_error("kvm: %s: its interpreters are scripts, too", path);
    return CANNOT_BE_RUN;
}

/* ---- the environment ---- */

/* Beside the tool, where it was built; or where it was installed, from the tool's folder on. */
static bool find_library(char library[PATH_MAX])
{
    static const char *const places[] = {"guestmem-preload.so", ("../" INSTALLED_PRELOAD),
                                         INSTALLED_PRELOAD};
    char self[PATH_MAX];
    ssize_t length = readlink("/proc/self/exe", self, sizeof(self) - 1);

    for (size_t i = 0; length > 0 && i < sizeof(places) / sizeof(places[0]); i++) {
        char path[2 * PATH_MAX];

        self[length] = '\0';
        *(strrchr(self, '/') + 1) = '\0';
        snprintf(path, sizeof(path), "%s%s", places[i][0] == '/' ? "" : self, places[i]);
        if (realpath(path, library) != NULL) {
            return true;
        }
    }
    tool_error("kvm: guestmem-preload.so is neither beside the tool nor in " INSTALLED_PRELOAD);
    return false;
}

/* The loader takes blanks and colons for the end of a name. */
static bool set_preload(const char *library)
{
    const char *before = getenv("LD_PRELOAD");
    char value[3 * PATH_MAX];
    int length;

    if (strpbrk(library, " :") != NULL) {
        tool_error("kvm: the loader cannot load %s: its name has a blank or a colon", library);
        return false;
    }
    length = snprintf(value, sizeof(value), "%s%s%s", library, before != NULL ? ":" : "",
                      before != NULL ? before : "");
    if (length >= (int)sizeof(value)) {
        tool_error("kvm: LD_PRELOAD is too long");
        return false;
    }
    setenv("LD_PRELOAD", value, 1);
    return true;
}

/* The file with its first line; the library appends. */
static bool begin_trace(const char *name)
{
    static const char first_line[] = "guestmem-trace 1\n";
    int fd = open(name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    char value[PATH_MAX + 32];
    char path[PATH_MAX];
    struct timespec now;

    if (fd < 0 || write(fd, first_line, sizeof(first_line) - 1) != sizeof(first_line) - 1 ||
        realpath(name, path) == NULL) {
        tool_error("kvm: cannot write %s: %s", name, strerror(errno));
        return false;
    }
    close(fd);
    clock_gettime(CLOCK_MONOTONIC, &now);
    snprintf(value, sizeof(value), "%" PRIu64 ":%s",
             (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec, path);
    setenv("GUESTMEM_KVM_TRACE", value, 1);
    return true;
}

/* ---- the command ---- */

/* Return: the index of PROGRAM; 0 after saying what is wrong, or --help. */
static int parse(int argc, char **argv, const char **trace)
{
    int i = 1;

    for (; i < argc && argv[i][0] == '-'; i++) {
        if (strcmp(argv[i], "--") == 0) {
            i++;
            break;
        }
        if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0) {
            fputs(help, stdout);
            return 0;
        }
        if (strcmp(argv[i], "--trace") == 0 && i + 1 < argc) {
            *trace = argv[++i];
        } else if (strncmp(argv[i], "--trace=", 8) == 0) {
            *trace = argv[i] + 8;
        } else if (strcmp(argv[i], "--trace") == 0) {
            tool_error("kvm: --trace needs a value (see guestmem kvm --help)");
            return -1;
        } else {
            tool_error("kvm: unknown option %s (see guestmem kvm --help)", argv[i]);
            return -1;
        }
    }
    if (i >= argc) {
        tool_error("kvm: PROGRAM is missing (see guestmem kvm --help)");
        return -1;
    }
    return i;
}

int cmd_kvm(int argc, char **argv)
{
    char path[PROGRAM_PATH_BYTES];
    char library[PATH_MAX];
    const char *trace = NULL;
    int program = parse(argc, argv, &trace);
    int error;
    int code;

    if (program <= 0) {
        return program == 0 ? tool_finish_output() : TOOL_BAD_INPUT;
    }
    if (!find_program(argv[program], path, &error)) {
        bool is_name = strchr(argv[program], '/') == NULL;

        tool_error("%s: %s", argv[program], is_name ? "command not found" : strerror(error));
        return error == ENOENT || error == ENOTDIR ? NOT_FOUND : CANNOT_BE_RUN;
    }
    code = check_program(path);
    if (code != 0) {
        return code;
    }
    if (!find_library(library) || !set_preload(library) || (trace != NULL && !begin_trace(trace))) {
        return TOOL_FAILED;
    }
    execv(path, argv + program);
    tool_error("%s: %s", argv[program], strerror(errno));
    return errno == ENOENT ? NOT_FOUND : CANNOT_BE_RUN;
}
