/* conformance/paging/machine.c - RAM that QEMU shares, the model of it, and QEMU itself. */
#include "machine.h"

#include "model/require.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define EXIT_SKIPPED 77
#define PAGE_COUNT (MACHINE_RAM_BYTES / MACHINE_PAGE_BYTES)

/* Present, writable, accessed, dirty: no walk has to write. With U for the page of ring 3's code. */
#define MONITOR_FLAGS UINT64_C(0x63)
#define MONITOR_LARGE UINT64_C(0x80)
#define MONITOR_USER UINT64_C(0x4)

/* The guest program's tables, from PAGING_MONITOR_TABLES on. */
enum monitor_page {
    MONITOR_PT_32,  /* 4 MiB of 4-byte entries */
    MONITOR_PT,     /* 4 MiB of 8-byte entries: two pages */
    MONITOR_PD = 3, /* 1 GiB */
    MONITOR_PDPT,   /* 512 GiB */
    MONITOR_PML4,
    MONITOR_PML5,
    MONITOR_PAGE_COUNT,
};

static uint64_t monitor_page(enum monitor_page page)
{
    return PAGING_MONITOR_TABLES + (uint64_t)page * MACHINE_PAGE_BYTES;
}

bool machine_has(uint64_t gpa)
{
    return gpa < MACHINE_LOW_END || (gpa >= MACHINE_HIGH && gpa < MACHINE_HIGH_END);
}

/* Where a byte of RAM is in the file. */
static size_t offset_of(uint64_t gpa)
{
    return (size_t)(gpa < MACHINE_LOW_END ? gpa : gpa - MACHINE_HIGH + MACHINE_LOW_END);
}

uint64_t machine_load(const struct machine *machine, uint64_t gpa, unsigned size_bytes)
{
    uint64_t value = 0;

    if (machine_has(gpa)) {
        memcpy(&value, machine->model + offset_of(gpa), size_bytes);
    }
    return value;
}

void machine_store(struct machine *machine, uint64_t gpa, unsigned size_bytes, uint64_t value)
{
    if (machine_has(gpa)) {
        uint64_t page = offset_of(gpa) / MACHINE_PAGE_BYTES;

        machine->touched[page / 64] |= UINT64_C(1) << page % 64;
        memcpy(machine->model + offset_of(gpa), &value, size_bytes);
    }
}

void machine_put(struct machine *machine, uint64_t gpa, uint64_t value)
{
    machine_store(machine, gpa, sizeof(value), value);
    memcpy(machine->ram + offset_of(gpa), &value, sizeof(value));
}

static enum guestmem_result model_load(void *opaque, uint64_t gpa, unsigned size_bytes,
                                       uint64_t *value)
{
    *value = machine_load(opaque, gpa, size_bytes);
    return GUESTMEM_OK;
}

static enum guestmem_result model_replace(void *opaque, uint64_t gpa, unsigned size_bytes,
                                          uint64_t expected, uint64_t value)
{
    if (machine_load(opaque, gpa, size_bytes) != expected) {
        return GUESTMEM_AGAIN;
    }
    machine_store(opaque, gpa, size_bytes, value);
    return GUESTMEM_OK;
}

/* Run run.py. Its exit code. */
static int run_script(const char *const arguments[])
{
    int status;
    pid_t child = fork();

    REQUIRE(child >= 0, "fork: %s", strerror(errno));
    if (child == 0) {
        execv(PAGING_RUN_SCRIPT, (char *const *)arguments);
        _exit(127);
    }
    REQUIRE(waitpid(child, &status, 0) == child && WIFEXITED(status), "%s %s died",
            PAGING_RUN_SCRIPT, arguments[1]);
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

static enum machine_result build_guest(struct machine *machine)
{
    const char *parent = getenv("TMPDIR");
    char folder[96];
    int code;

    snprintf(folder, sizeof(folder), "%s/guestmem-paging-XXXXXX",
             parent != NULL && strlen(parent) < 64 ? parent : "/tmp");
    REQUIRE(mkdtemp(folder) != NULL, "%s: %s", folder, strerror(errno));
    code = run_script((const char *[]){PAGING_RUN_SCRIPT, "build", folder, NULL});
    if (code == 0) {
        machine->rom_file = take_file(folder, "rom");
        machine->monitor_files[0] = take_file(folder, "monitor32");
        machine->monitor_files[1] = take_file(folder, "monitor64");
    }
    rmdir(folder);
    REQUIRE(code == 0 || code == EXIT_SKIPPED, "run.py build: %d", code);
    return code == 0 ? MACHINE_OK : MACHINE_MISSING;
}

enum machine_result machine_open(struct machine *machine)
{
    *machine = (struct machine){
        .ram_file = -1,
        .rom_file = -1,
        .monitor_files = {-1, -1},
        .model = MAP_FAILED,
        .ram = MAP_FAILED,
        .memory = {model_load, model_replace, machine},
    };
    if (build_guest(machine) == MACHINE_MISSING) {
        return MACHINE_MISSING;
    }
    machine->ram_file = memfd_create("guestmem-paging-ram", MFD_CLOEXEC);
    REQUIRE(machine->ram_file >= 0 && ftruncate(machine->ram_file, MACHINE_RAM_BYTES) == 0,
            "RAM: %s", strerror(errno));
    machine->ram =
        mmap(NULL, MACHINE_RAM_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, machine->ram_file, 0);
    machine->touched = calloc(PAGE_COUNT / 64, sizeof(machine->touched[0]));
    REQUIRE(machine->ram != MAP_FAILED && machine->touched != NULL, "out of memory");
    return MACHINE_OK;
}

void machine_close(struct machine *machine)
{
    const int files[] = {machine->ram_file, machine->rom_file, machine->monitor_files[0],
                         machine->monitor_files[1]};

    if (machine->model != MAP_FAILED) {
        munmap(machine->model, MACHINE_RAM_BYTES);
    }
    if (machine->ram != MAP_FAILED) {
        munmap(machine->ram, MACHINE_RAM_BYTES);
    }
    for (size_t i = 0; i < sizeof(files) / sizeof(files[0]); i++) {
        if (files[i] >= 0) {
            close(files[i]);
        }
    }
    free(machine->touched);
}

/* Present for all, writable: rights are settled further down. */
static uint64_t monitor_pointer(enum monitor_page page)
{
    return monitor_page(page) | MONITOR_FLAGS | MONITOR_USER;
}

static void put_monitor_tables(struct machine *machine)
{
    for (uint64_t i = 0; i < 1024; i++) {
        uint64_t gpa = i * MACHINE_PAGE_BYTES;
        uint64_t entry = gpa | MONITOR_FLAGS;
        uint64_t place_32 = monitor_page(MONITOR_PT_32) + i * 4;

        if (gpa == PAGING_STUB_USER) {
            entry = PAGING_STUB | MONITOR_FLAGS | MONITOR_USER;
        }
        machine_put(machine, monitor_page(MONITOR_PT) + i * 8, entry);
        machine_store(machine, place_32, 4, entry);
        memcpy(machine->ram + place_32, &entry, 4);
    }
    for (uint64_t i = 0; i < 512; i++) {
        machine_put(machine, monitor_page(MONITOR_PD) + i * 8,
                    i << 21 | MONITOR_FLAGS | MONITOR_LARGE);
        machine_put(machine, monitor_page(MONITOR_PDPT) + i * 8,
                    i << 30 | MONITOR_FLAGS | MONITOR_LARGE);
    }
    machine_put(machine, monitor_page(MONITOR_PD), monitor_pointer(MONITOR_PT));
    machine_put(machine, monitor_page(MONITOR_PD) + 8, monitor_pointer(MONITOR_PT + 1));
    machine_put(machine, monitor_page(MONITOR_PDPT), monitor_pointer(MONITOR_PD));
    machine_put(machine, monitor_page(MONITOR_PML4), monitor_pointer(MONITOR_PDPT));
    machine_put(machine, monitor_page(MONITOR_PML5), monitor_pointer(MONITOR_PML4));
}

uint64_t machine_monitor_entry(enum paging_mode mode)
{
    switch (mode) {
    case PAGING_32:
        return monitor_pointer(MONITOR_PT_32);
    case PAGING_PAE:
        return monitor_page(MONITOR_PD) | PAGING_PRESENT;
    case PAGING_4:
        return monitor_pointer(MONITOR_PDPT);
    default:
        return monitor_pointer(MONITOR_PML4);
    }
}

static void load_monitor(struct machine *machine, int file)
{
    size_t room = PAGING_MONITOR_TABLES - PAGING_MONITOR;
    ssize_t count = pread(file, machine->ram + PAGING_MONITOR, room, 0);

    REQUIRE(count > 0 && (size_t)count < room, "the guest program: %zd bytes", count);
}

void machine_reset(struct machine *machine, struct paging_image *image)
{
    if (machine->model != MAP_FAILED) {
        munmap(machine->model, MACHINE_RAM_BYTES);
    }
    machine->model = mmap(NULL, MACHINE_RAM_BYTES, PROT_READ | PROT_WRITE,
                          MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    REQUIRE(machine->model != MAP_FAILED, "out of memory");
    memset(machine->touched, 0, PAGE_COUNT / 8);
    REQUIRE(ftruncate(machine->ram_file, 0) == 0 &&
                ftruncate(machine->ram_file, MACHINE_RAM_BYTES) == 0,
            "RAM: %s", strerror(errno));
    image->magic = PAGING_IMAGE_MAGIC;
    image->monitor_cr3 = monitor_page(image->is_la57 ? MONITOR_PML5 : MONITOR_PML4);
    *machine_image(machine) = *image;
    put_monitor_tables(machine);
}

void machine_boot(struct machine *machine, unsigned physical_bits)
{
    const struct paging_image *image = machine_image(machine);
    char bits[16];
    char rom[64];
    char ram[64];
    int code;

    load_monitor(machine, machine->monitor_files[image->is_long ? 1 : 0]);
    snprintf(rom, sizeof(rom), "/proc/%d/fd/%d", (int)getpid(), machine->rom_file);
    snprintf(ram, sizeof(ram), "/proc/%d/fd/%d", (int)getpid(), machine->ram_file);
    snprintf(bits, sizeof(bits), "%u", physical_bits);
    code = run_script((const char *[]){PAGING_RUN_SCRIPT, "boot", rom, ram, bits, NULL});
    REQUIRE(code == 0 && image->answer_count == image->case_count,
            "run.py boot: %d, after %u of %u cases", code, image->answer_count, image->case_count);
}

/* Whose content the model does not know: the guest program, its tables, the questions and answers. */
static bool is_own(uint64_t offset)
{
    return offset < PAGING_TABLES || (offset >= PAGING_IMAGE && offset < PAGING_IMAGE_END);
}

static void compare_page(const struct machine *machine, uint64_t page)
{
    size_t start = (size_t)page * MACHINE_PAGE_BYTES;

    if (is_own(start) ||
        memcmp(machine->ram + start, machine->model + start, MACHINE_PAGE_BYTES) == 0) {
        return;
    }
    for (size_t i = start; i < start + MACHINE_PAGE_BYTES; i += 4) {
        uint32_t got;
        uint32_t want;

        memcpy(&got, machine->ram + i, sizeof(got));
        memcpy(&want, machine->model + i, sizeof(want));
        REQUIRE(got == want, "RAM at offset %#zx is %#x, and should be %#x", i, got, want);
    }
}

void machine_compare(const struct machine *machine)
{
    off_t end = 0;

    for (uint64_t page = 0; page < PAGE_COUNT; page++) {
        if ((machine->touched[page / 64] >> page % 64 & 1) != 0) {
            compare_page(machine, page);
        }
    }
    for (;;) { /* and what the emulated processor wrote where the model has nothing */
        off_t start = lseek(machine->ram_file, end, SEEK_DATA);

        if (start < 0) {
            return;
        }
        end = lseek(machine->ram_file, start, SEEK_HOLE);
        for (off_t at = start; at < end; at += MACHINE_PAGE_BYTES) {
            compare_page(machine, (uint64_t)at / MACHINE_PAGE_BYTES);
        }
    }
}
