/*
 * translate_guest.c - a map and an image become a software VM: a slot for each range of RAM, as far as the image
 * goes, whose host memory is the image itself, mapped privately.
 */
#include "translate_guest.h"

#include "tool.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define PAGE_BYTES 4096u
/* A page's entry in pagemap: 8 bytes, frame number in the low 55 bits, present in bit 63. */
#define PAGEMAP_FRAME ((UINT64_C(1) << 55) - 1)
#define PAGEMAP_PRESENT (UINT64_C(1) << 63)

static int image_failed(const char *path)
{
    tool_error("translate: %s: %s", path, strerror(errno));
    return TOOL_BAD_INPUT;
}

static uint64_t round_up(uint64_t value)
{
    return (value + PAGE_BYTES - 1) / PAGE_BYTES * PAGE_BYTES;
}

/* Slots for the whole pages of one range that the image has. */
static int add_range(struct translate_guest *guest, const struct gm_section *section, int fd,
                     uint32_t *slot_count)
{
    uint64_t first = round_up(section->gpa);
    uint64_t image_end = round_up(guest->image_bytes);
    uint64_t end = section->last < image_end ? section->last + 1 : image_end;
    bool is_readonly = (section->flags & GM_SECTION_READONLY) != 0;
    struct gm_soft_slot slot = {.slot = *slot_count, .flags = is_readonly ? GM_SLOT_READONLY : 0};
    void *memory;
    int rc;

    end -= end % PAGE_BYTES;
    if (first < section->gpa || end <= first) {
        return TOOL_OK;
    }
    memory = mmap(NULL, end - first, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_NORESERVE, fd,
                  (off_t)first);
    if (memory == MAP_FAILED) {
        tool_error("translate: the image cannot be mapped: %s", strerror(errno));
        return TOOL_FAILED;
    }
    slot.gpa = first;
    slot.size_bytes = end - first;
    slot.hva = (uintptr_t)memory;
    rc = gm_soft_set_slots(guest->soft, &slot, 1, NULL);
    if (rc != 0) {
        tool_error("translate: no slot for the range at %llx: %s", (unsigned long long)first,
                   tool_error_name(rc));
        munmap(memory, slot.size_bytes);
        return TOOL_FAILED;
    }
    (*slot_count)++;
    return TOOL_OK;
}

static bool is_memory(const struct gm_section *section)
{
    const struct mapfile_region *region = mapfile_region_of(section->region);

    return region->ram != NULL &&
           ((region->flags & MAPFILE_ROM_DEVICE) == 0 || (section->flags & GM_SECTION_ROMD) != 0);
}

static int add_ranges(struct translate_guest *guest, int fd)
{
    uint32_t slot_count = 0;
    int exit_code = TOOL_OK;

    for (size_t i = 0; i < gm_view_count(guest->view) && exit_code == TOOL_OK; i++) {
        struct gm_section section;

        if (gm_view_at(guest->view, i, &section) && is_memory(&section)) {
            exit_code = add_range(guest, &section, fd, &slot_count);
        }
    }
    return exit_code;
}

static int open_vm(struct translate_guest *guest)
{
    struct gm_diag diag;
    int rc = gm_soft_open(NULL, &guest->soft, &diag);

    if (rc == 0) {
        rc = gm_soft_vcpu_new(guest->soft, 0, &guest->vcpu);
    } else {
        tool_error("translate: %s", diag.text);
        return TOOL_FAILED;
    }
    if (rc != 0) {
        tool_error("translate: no vCPU: %s", tool_error_name(rc));
        return TOOL_FAILED;
    }
    guest->mmu = gm_soft_vcpu_mmu(guest->vcpu);
    return TOOL_OK;
}

static int load_image(struct translate_guest *guest, const char *path)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    struct stat status;
    int exit_code;

    if (fd == -1) {
        return image_failed(path);
    }
    if (fstat(fd, &status) != 0) {
        exit_code = image_failed(path);
    } else if (!S_ISREG(status.st_mode)) {
        tool_error("translate: %s is not a file", path);
        exit_code = TOOL_BAD_INPUT;
    } else {
        guest->image_bytes = (uint64_t)status.st_size;
        exit_code = add_ranges(guest, fd);
    }
    close(fd);
    return exit_code;
}

/* The address space of that name, or the first; NULL: there is none. */
static struct gm_space *find_space(const struct mapfile *mapfile, const char *as)
{
    for (size_t i = 0; i < mapfile->space_count; i++) {
        if (as == NULL || strcmp(mapfile->spaces[i].name, as) == 0) {
            return mapfile->spaces[i].space;
        }
    }
    return NULL;
}

int translate_guest_open(struct translate_guest *guest, const char *map_path, const char *as,
                         const char *image_path)
{
    struct gm_space *space;
    int exit_code;

    memset(guest, 0, sizeof(*guest));
    if (mapfile_load(&guest->mapfile, &guest->lines, map_path) != 0) {
        return TOOL_BAD_INPUT;
    }
    space = find_space(&guest->mapfile, as);
    if (space == NULL) {
        tool_error("translate: %s has no address space%s%s", map_path, as != NULL ? " " : "",
                   as != NULL ? as : "");
        return TOOL_BAD_INPUT;
    }
    guest->view = gm_view_get(space);
    exit_code = open_vm(guest);
    return exit_code == TOOL_OK ? load_image(guest, image_path) : exit_code;
}

void translate_guest_close(struct translate_guest *guest)
{
    gm_soft_vcpu_free(guest->vcpu);
    if (gm_soft_close(guest->soft) != 0) {
        tool_error("translate: the VM does not close");
    }
    if (guest->view != NULL) {
        gm_view_put(guest->view);
    }
    mapfile_free(&guest->mapfile);
    lines_close(&guest->lines);
}

bool translate_host_physical(uint64_t hva, uint64_t *hpa)
{
    int fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
    uint64_t entry = 0;
    bool is_there;

    if (fd == -1) {
        return false;
    }
    is_there = pread(fd, &entry, sizeof(entry), (off_t)(hva / PAGE_BYTES * sizeof(entry))) ==
                   (ssize_t)sizeof(entry) &&
               (entry & PAGEMAP_PRESENT) != 0 && (entry & PAGEMAP_FRAME) != 0;
    close(fd);
    *hpa = (entry & PAGEMAP_FRAME) * PAGE_BYTES + hva % PAGE_BYTES;
    return is_there;
}
