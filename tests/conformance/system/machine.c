/* conformance/system/machine.c - QEMU's machine. */
#include "machine.h"

#include "model/require.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#define EXIT_SKIPPED 77

/* Run run.py. Its exit code. */
static int run_script(const char *const arguments[])
{
    int status;
    pid_t child = fork();

    REQUIRE(child >= 0, "fork: %s", strerror(errno));
    if (child == 0) {
        execv(SYSTEM_RUN_SCRIPT, (char *const *)arguments);
        _exit(127);
    }
    REQUIRE(waitpid(child, &status, 0) == child && WIFEXITED(status), "%s %s died",
            SYSTEM_RUN_SCRIPT, arguments[1]);
    return WEXITSTATUS(status);
}

/* A file of the folder, which is gone afterwards: nothing is left behind, however the test ends. */
static int take_file(const char *folder, const char *name)
{
    char path[128];
    int file;

    snprintf(path, sizeof(path), "%s/%s", folder, name);
    file = open(path, O_RDONLY | O_CLOEXEC);
    REQUIRE(file >= 0 && unlink(path) == 0, "%s: %s", path, strerror(errno));
    return file;
}

static void load_monitor(struct machine *machine, int file)
{
    size_t room = SYSTEM_PLAIN - SYSTEM_MONITOR;
    ssize_t count = pread(file, machine->ram + SYSTEM_MONITOR, room, 0);

    REQUIRE(count > 0 && (size_t)count < room, "the guest program: %zd bytes", count);
    close(file);
}

static void open_ram(struct machine *machine)
{
    machine->ram_file = memfd_create("guestmem-system-ram", MFD_CLOEXEC);
    REQUIRE(machine->ram_file >= 0 && ftruncate(machine->ram_file, SYSTEM_RAM_BYTES) == 0,
            "RAM: %s", strerror(errno));
    machine->ram =
        mmap(NULL, SYSTEM_RAM_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, machine->ram_file, 0);
    REQUIRE(machine->ram != MAP_FAILED, "out of memory");
}

bool machine_open(struct machine *machine)
{
    const char *parent = getenv("TMPDIR");
    char folder[96];
    int code;

    snprintf(folder, sizeof(folder), "%s/guestmem-system-XXXXXX",
             parent != NULL && strlen(parent) < 64 ? parent : "/tmp");
    REQUIRE(mkdtemp(folder) != NULL, "%s: %s", folder, strerror(errno));
    code = run_script((const char *[]){SYSTEM_RUN_SCRIPT, "build", folder, NULL});
    REQUIRE(code == 0 || code == EXIT_SKIPPED, "run.py build: %d", code);
    if (code == 0) {
        open_ram(machine);
        machine->rom_file = take_file(folder, "rom");
        load_monitor(machine, take_file(folder, "monitor"));
    }
    rmdir(folder);
    return code == 0;
}

void machine_close(struct machine *machine)
{
    munmap(machine->ram, SYSTEM_RAM_BYTES);
    close(machine->ram_file);
    close(machine->rom_file);
}

void machine_boot(struct machine *machine, const uint8_t plain[SYSTEM_ARENA_BYTES],
                  uint32_t case_count)
{
    struct system_image *image = (struct system_image *)(machine->ram + SYSTEM_IMAGE);
    char rom[64];
    char ram[64];
    int code;

    *image = (struct system_image){.magic = SYSTEM_IMAGE_MAGIC, .case_count = case_count};
    memcpy(machine->ram, plain, SYSTEM_ARENA_BYTES);
    memcpy(machine->ram + SYSTEM_PLAIN, plain, SYSTEM_ARENA_BYTES);
    memcpy(machine->ram + SYSTEM_PATCHED, plain, SYSTEM_ARENA_BYTES);
    snprintf(rom, sizeof(rom), "/proc/%d/fd/%d", (int)getpid(), machine->rom_file);
    snprintf(ram, sizeof(ram), "/proc/%d/fd/%d", (int)getpid(), machine->ram_file);
    code = run_script((const char *[]){SYSTEM_RUN_SCRIPT, "boot", rom, ram, NULL});
    REQUIRE(code == 0 && image->answer_count == case_count, "run.py boot: %d, after %u of %u cases",
            code, image->answer_count, case_count);
    REQUIRE(memcmp(machine->ram + SYSTEM_PLAIN, plain, SYSTEM_ARENA_BYTES) == 0,
            "a case has reached beyond the arena");
}
