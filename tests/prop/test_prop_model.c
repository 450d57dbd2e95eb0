/*
 * prop/test_prop_model.c - the model itself against QEMU: the 240 maps of tests/data, ranges and sharing.
 *
 * What the property tests expect comes from the model, so the model has to be right by itself; it
 * shares nothing with src/ that could be wrong in the same way.
 */
#include "model/model.h"

#include <dirent.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#define REGIONS_MAX 20000
#define IDS_MAX 200000
#define SPACES_MAX 512
#define TEXT_BYTES ((size_t)1 << 20)
#define MAPS 240

/* One map of the corpus: see corpus/README.md for the format. */
struct machine {
    struct model model;
    int index_of[IDS_MAX]; /* by ID */
    int id_of[REGIONS_MAX];
    int space_roots[SPACES_MAX];
    int space_count;
    char text[TEXT_BYTES]; /* what the model makes of it, as views.txt */
    size_t text_bytes;
};

static gm_size_t number_of(const char *digits)
{
    gm_size_t number = 0;

    for (; *digits != '\0'; digits++) {
        number = number * 16 + (gm_size_t)(*digits <= '9' ? *digits - '0' : *digits - 'a' + 10);
    }
    return number;
}

static void read_region(struct machine *machine, const char *line)
{
    struct model_region *region = &machine->model.regions[machine->model.region_count];
    char addr[40];
    char size[40];
    char flags[20];
    int priority;
    int id;

    assert_int_equal(sscanf(line, "region %d %39s %39s %d %19s", &id, addr, size, &priority, flags),
                     5);
    assert_true(id >= 0 && id < IDS_MAX && machine->model.region_count < REGIONS_MAX);
    *region = (struct model_region){
        .exists = true,
        .kind = strchr(flags, 'T') != NULL ? GM_REGION_MMIO : GM_REGION_CONTAINER,
        .size = number_of(size),
        .addr = (uint64_t)number_of(addr),
        .priority = priority,
        .enabled = strchr(flags, 'E') != NULL,
        .readonly = strchr(flags, 'o') != NULL,
        .nonvolatile = strchr(flags, 'n') != NULL,
        .romd = strchr(flags, 'R') != NULL,
        .ram = MODEL_NONE,
        .target = MODEL_NONE,
        .parent = MODEL_NONE,
    };
    machine->index_of[id] = machine->model.region_count;
    machine->id_of[machine->model.region_count] = id;
    machine->model.region_count++;
}

/* Links come behind all regions. */
static void read_link(struct machine *machine, const char *line)
{
    struct model_region *regions = machine->model.regions;
    unsigned long long offset;
    int first;
    int second;

    if (sscanf(line, "alias %d %d %llx", &first, &second, &offset) == 3) {
        regions[machine->index_of[first]].kind = GM_REGION_ALIAS;
        regions[machine->index_of[first]].target = machine->index_of[second];
        regions[machine->index_of[first]].target_offset = offset;
    } else if (sscanf(line, "sub %d %d", &first, &second) == 2) {
        regions[machine->index_of[second]].parent = machine->index_of[first];
        regions[machine->index_of[second]].added = ++machine->model.next_added;
    } else if (sscanf(line, "as %d", &first) == 1) {
        assert_true(machine->space_count < SPACES_MAX);
        machine->space_roots[machine->space_count++] =
            first >= 0 ? machine->index_of[first] : MODEL_NONE;
    }
}

static void read_tree(struct machine *machine, const char *path)
{
    char line[1024];
    FILE *file = fopen(path, "r");

    assert_non_null(file);
    machine->model.region_count = 0;
    machine->model.next_added = 0;
    machine->space_count = 0;
    while (fgets(line, sizeof(line), file) != NULL) {
        if (strncmp(line, "region ", 7) == 0) {
            read_region(machine, line);
        }
    }
    rewind(file);
    while (fgets(line, sizeof(line), file) != NULL) {
        read_link(machine, line);
    }
    fclose(file);
}

static void __attribute__((format(printf, 2, 3)))
say(struct machine *machine, const char *format, ...)
{
    va_list arguments;

    va_start(arguments, format);
    machine->text_bytes += (size_t)vsnprintf(machine->text + machine->text_bytes,
                                             TEXT_BYTES - machine->text_bytes, format, arguments);
    va_end(arguments);
    assert_true(machine->text_bytes < TEXT_BYTES);
}

static void say_range(struct machine *machine, const struct model_range *range)
{
    gm_size_t size = (gm_size_t)(range->last - range->start) + 1;
    char bytes[24] = "10000000000000000";

    if (size < GM_SIZE_2_64) {
        snprintf(bytes, sizeof(bytes), "%llx", (unsigned long long)size);
    }
    say(machine, "range %llx %s %d %llx %s%s%s%s\n", (unsigned long long)range->start, bytes,
        machine->id_of[range->region], (unsigned long long)range->offset,
        range->flags & GM_SECTION_READONLY ? "o" : "",
        range->flags & GM_SECTION_NONVOLATILE ? "n" : "", range->flags & GM_SECTION_ROMD ? "R" : "",
        range->flags == 0 ? "-" : "");
}

static void say_views(struct machine *machine)
{
    struct model_view view = {0};
    struct model_index index;
    int roots[SPACES_MAX];
    int count = 0;
    size_t r;
    int at;
    int i;

    machine->text_bytes = 0;
    model_index_init(&index, &machine->model, 100000000);
    for (i = 0; i < machine->space_count; i++) {
        int root = MODEL_NONE;

        assert_int_equal(model_resolve(&index, machine->space_roots[i], &root), 0);
        for (at = 0; at < count && roots[at] != root; at++) {
        }
        roots[at] = root;
        count += at == count;
        say(machine, "as %d %d\n", i, at);
    }
    for (i = 0; i < count; i++) {
        assert_int_equal(model_render(&index, roots[i], &view), 0);
        say(machine, "view %d %d %zu\n", i, roots[i] != MODEL_NONE ? machine->id_of[roots[i]] : -1,
            view.count);
        for (r = 0; r < view.count; r++) {
            say_range(machine, &view.ranges[r]);
        }
    }
    model_index_fini(&index);
    model_view_fini(&view);
}

static void require_views(struct machine *machine, const char *path)
{
    char *wanted = malloc(TEXT_BYTES);
    FILE *file = fopen(path, "r");
    size_t wanted_bytes;

    assert_non_null(file);
    wanted_bytes = fread(wanted, 1, TEXT_BYTES, file);
    fclose(file);
    if (wanted_bytes != machine->text_bytes || memcmp(wanted, machine->text, wanted_bytes) != 0) {
        fail_msg("the model makes something else of %s", path);
    }
    free(wanted);
}

/* Unpack tests/data, which is found from this file's place, into a new folder. */
static void unpack(char *folder)
{
    char command[1200];
    char here[1000] = __FILE__;
    char *slash = strrchr(here, '/');

    *(slash != NULL ? slash : here) = '\0';
    assert_non_null(mkdtemp(folder));
    snprintf(command, sizeof(command), "tar -xJf %s/../data/qemu-7.2-maps.tar.xz -C %s", here,
             folder);
    assert_int_equal(system(command), 0); // NOLINT(cert-env33-c): a fixed command
}

static void model_makes_of_240_machines_what_qemu_does(void **state)
{
    /* Each map's views.txt comes out of its tree.txt, byte by byte. */
    struct machine *machine = calloc(1, sizeof(*machine));
    char folder[] = "/tmp/guestmem-maps-XXXXXX";
    char path[600];
    struct dirent *entry;
    unsigned maps = 0;
    DIR *directory;

    (void)state;
    unpack(folder);
    model_init(&machine->model, REGIONS_MAX);
    directory = opendir(folder);
    assert_non_null(directory);
    while ((entry = readdir(directory)) != NULL) {
        if (entry->d_name[0] == '.') {
            continue;
        }
        snprintf(path, sizeof(path), "%s/%s/tree.txt", folder, entry->d_name);
        read_tree(machine, path);
        say_views(machine);
        snprintf(path, sizeof(path), "%s/%s/views.txt", folder, entry->d_name);
        require_views(machine, path);
        maps++;
    }
    closedir(directory);
    assert_int_equal(maps, MAPS);
    snprintf(path, sizeof(path), "rm -r %s", folder);
    assert_int_equal(system(path), 0); // NOLINT(cert-env33-c): a folder that mkdtemp() named
    model_fini(&machine->model);
    free(machine);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(model_makes_of_240_machines_what_qemu_does),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
