/* cmd_translate.c - `guestmem translate`: how a guest's linear addresses translate, step by step. */
#include "json.h"
#include "tool.h"
#include "translate_guest.h"

#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char help[] =
    "Usage: guestmem translate --map FILE --memory IMAGE --cr3 X [OPTION...] GVA...\n"
    "\n"
    "Explain how a guest's virtual addresses translate: each level's entry and its bits, the "
    "guest\n"
    "physical address, the region and slot there; or why the access faults. FILE is a map\n"
    "(guestmem show --help has one), IMAGE the guest's memory: byte N is the byte at guest "
    "physical\n"
    "address N. Numbers are hexadecimal, with or without 0x.\n"
    "\n"
    "  --mode MODE   none, 32, pae, 4 (4 levels, the default) or 5: sets CR0, CR4 and EFER\n"
    "  --cr0 X, --cr4 X, --efer X, --pkru X\n"
    "                registers by themselves; after --mode\n"
    "  --maxphyaddr N  physical address bits, decimal; 52\n"
    "  --write, --fetch, --user   the kind of access; a supervisor's read if not given\n"
    "  --as NAME     the address space; the map's first if not given\n"
    "  --host        also where this process has the byte: HVA, and HPA where that may be read\n"
    "  --json        as JSON\n"
    "  --help        this text\n"
    "\n"
    "Exit code: 0; 1 a failure of this machine; 2 the command line, map or image is wrong; 4 an\n"
    "address does not translate.\n";

enum { TRANSLATE_FAULTS = 4 };

#define CR0_PE (UINT64_C(1) << 0)
#define CR0_WP (UINT64_C(1) << 16)
#define CR0_PG (UINT64_C(1) << 31)
#define CR4_PSE (UINT64_C(1) << 4)
#define CR4_PAE (UINT64_C(1) << 5)
#define CR4_LA57 (UINT64_C(1) << 12)
#define EFER_LME (UINT64_C(1) << 8)
#define EFER_LMA (UINT64_C(1) << 10)
#define EFER_NXE (UINT64_C(1) << 11)

struct request {
    const char *map_path;
    const char *image_path;
    const char *as;
    struct gm_mmu_paging paging;
    bool has_cr3;
    enum gm_mmu_access access;
    enum gm_mmu_view view;
    bool shows_host;
    bool json;
    char **addresses;
    int address_count;
};

static const struct {
    const char *name;
    struct gm_mmu_paging paging;
} modes[] = {
    {"none", {.cr0 = CR0_PE}},
    {"32", {.cr0 = CR0_PG | CR0_WP | CR0_PE, .cr4 = CR4_PSE}},
    {"pae", {.cr0 = CR0_PG | CR0_WP | CR0_PE, .cr4 = CR4_PAE, .efer = EFER_NXE}},
    {"4",
     {.cr0 = CR0_PG | CR0_WP | CR0_PE, .cr4 = CR4_PAE, .efer = EFER_LME | EFER_LMA | EFER_NXE}},
    {"5",
     {.cr0 = CR0_PG | CR0_WP | CR0_PE,
      .cr4 = CR4_PAE | CR4_LA57,
      .efer = EFER_LME | EFER_LMA | EFER_NXE}},
};

static bool parse_number(const char *text, unsigned base, uint64_t *value)
{
    char *end;

    errno = 0;
    *value = strtoull(text, &end, (int)base);
    return *text != '\0' && *text != '-' && *end == '\0' && errno == 0;
}

static bool set_mode(struct request *request, const char *name)
{
    for (size_t i = 0; i < sizeof(modes) / sizeof(modes[0]); i++) {
        if (strcmp(modes[i].name, name) == 0) {
            uint64_t cr3 = request->paging.cr3;
            uint8_t maxphyaddr = request->paging.maxphyaddr;

            request->paging = modes[i].paging;
            request->paging.has_1g_pages = true;
            request->paging.has_pse36 = true;
            request->paging.cr3 = cr3;
            request->paging.maxphyaddr = maxphyaddr;
            return true;
        }
    }
    return false;
}

enum option_key {
    OPTION_MAP = 256,
    OPTION_MEMORY,
    OPTION_CR3,
    OPTION_MODE,
    OPTION_CR0,
    OPTION_CR4,
    OPTION_EFER,
    OPTION_PKRU,
    OPTION_MAXPHYADDR,
    OPTION_WRITE,
    OPTION_FETCH,
    OPTION_USER,
    OPTION_AS,
    OPTION_HOST,
    OPTION_JSON,
    OPTION_HELP,
};

static const struct option known_options[] = {
    {"map", required_argument, NULL, OPTION_MAP},
    {"memory", required_argument, NULL, OPTION_MEMORY},
    {"cr3", required_argument, NULL, OPTION_CR3},
    {"mode", required_argument, NULL, OPTION_MODE},
    {"cr0", required_argument, NULL, OPTION_CR0},
    {"cr4", required_argument, NULL, OPTION_CR4},
    {"efer", required_argument, NULL, OPTION_EFER},
    {"pkru", required_argument, NULL, OPTION_PKRU},
    {"maxphyaddr", required_argument, NULL, OPTION_MAXPHYADDR},
    {"write", no_argument, NULL, OPTION_WRITE},
    {"fetch", no_argument, NULL, OPTION_FETCH},
    {"user", no_argument, NULL, OPTION_USER},
    {"as", required_argument, NULL, OPTION_AS},
    {"host", no_argument, NULL, OPTION_HOST},
    {"json", no_argument, NULL, OPTION_JSON},
    {"help", no_argument, NULL, OPTION_HELP},
    {NULL, 0, NULL, 0},
};

/* An option whose value is a number. False: it is none, or not in range. */
static bool take_number(struct request *request, int option, const char *text)
{
    unsigned base = option == OPTION_MAXPHYADDR ? 10 : 16;
    uint64_t value;

    if (!parse_number(text, base, &value)) {
        return false;
    }
    switch (option) {
    case OPTION_CR3:
        request->paging.cr3 = value;
        request->has_cr3 = true;
        return true;
    case OPTION_CR0:
        request->paging.cr0 = value;
        return true;
    case OPTION_CR4:
        request->paging.cr4 = value;
        return true;
    case OPTION_EFER:
        request->paging.efer = value;
        return true;
    case OPTION_PKRU:
        request->paging.pkru = (uint32_t)value;
        return value <= UINT32_MAX;
    default:
        request->paging.maxphyaddr = (uint8_t)value;
        return value >= 32 && value <= 52;
    }
}

/* One option. False: its value is wrong. */
static bool take_option(struct request *request, int option, char *value)
{
    switch (option) {
    case OPTION_MAP:
        request->map_path = value;
        return true;
    case OPTION_MEMORY:
        request->image_path = value;
        return true;
    case OPTION_AS:
        request->as = value;
        return true;
    case OPTION_MODE:
        return set_mode(request, value);
    case OPTION_WRITE:
        request->access = GM_MMU_WRITE;
        return true;
    case OPTION_FETCH:
        request->access = GM_MMU_FETCH;
        return true;
    case OPTION_USER:
        request->view = GM_MMU_USER;
        return true;
    case OPTION_HOST:
        request->shows_host = true;
        return true;
    case OPTION_JSON:
        request->json = true;
        return true;
    default:
        return take_number(request, option, value);
    }
}

static int bad_usage(const char *what, const char *value)
{
    tool_error("translate: %s%s%s (see guestmem translate --help)", what, value != NULL ? " " : "",
               value != NULL ? value : "");
    return TOOL_BAD_INPUT;
}

/* Return: TOOL_OK to go on; otherwise, or with *is_over, the exit code. */
static int parse(struct request *request, int argc, char **argv, bool *is_over)
{
    int option;

    *is_over = false;
    (void)set_mode(request, "4");
    opterr = 0;
    optind = 0; /* glibc: begin anew, main() has scanned an argv before */
    while ((option = getopt_long(argc, argv, ":", known_options, NULL)) != -1) {
        if (option == OPTION_HELP) {
            *is_over = true;
            fputs(help, stdout);
            return tool_finish_output();
        }
        if (option == ':') {
            return bad_usage("a value is missing after", argv[optind - 1]);
        }
        if (option == '?') {
            return bad_usage("unknown option", argv[optind - 1]);
        }
        if (!take_option(request, option, optarg)) {
            return bad_usage("not a value that this option takes:", optarg);
        }
    }
    request->addresses = argv + optind;
    request->address_count = argc - optind;
    if (request->map_path == NULL || request->image_path == NULL || !request->has_cr3) {
        return bad_usage("--map, --memory and --cr3 are needed", NULL);
    }
    if (request->address_count == 0) {
        return bad_usage("GVA is missing", NULL);
    }
    for (int i = 0; i < request->address_count; i++) {
        uint64_t ignored;

        if (!parse_number(request->addresses[i], 16, &ignored)) {
            return bad_usage("not an address:", request->addresses[i]);
        }
    }
    return TOOL_OK;
}

/* What an outcome means to a person. */
static const char *why(enum gm_mmu_outcome outcome)
{
    switch (outcome) {
    case GM_MMU_OK:
        return "translates";
    case GM_MMU_PAGE_FAULT:
        return "page fault";
    case GM_MMU_PROTECTION:
        return "general protection: not canonical, or invalid PDPTEs";
    case GM_MMU_TABLE_LOST:
        return "a table lies where no memory is";
    case GM_MMU_ERROR:
        return "the image ends before a table";
    default:
        return "cannot be read";
    }
}

struct flag_name {
    uint64_t bit;
    const char *name;
};

static const struct flag_name entry_flags[] = {
    {UINT64_C(1) << 0, "P"},   {UINT64_C(1) << 1, "W"},   {UINT64_C(1) << 2, "U"},
    {UINT64_C(1) << 3, "PWT"}, {UINT64_C(1) << 4, "PCD"}, {UINT64_C(1) << 5, "A"},
    {UINT64_C(1) << 6, "D"},   {UINT64_C(1) << 7, "PS"},  {UINT64_C(1) << 8, "G"},
    {UINT64_C(1) << 63, "NX"},
};

static const struct flag_name error_flags[] = {
    {1u << 0, "P"},    {1u << 1, "W"}, {1u << 2, "U"},
    {1u << 3, "RSVD"}, {1u << 4, "I"}, {1u << 5, "PK"},
};

#define FLAGS_TEXT_BYTES 64

static const char *flags_text(const struct flag_name *names, size_t count, uint64_t bits,
                              char text[FLAGS_TEXT_BYTES])
{
    size_t length = 0;

    text[0] = '\0';
    for (size_t i = 0; i < count; i++) {
        if ((bits & names[i].bit) != 0) {
            length += (size_t)snprintf(text + length, FLAGS_TEXT_BYTES - length, "%s%s",
                                       length != 0 ? " " : "", names[i].name);
        }
    }
    return length != 0 ? text : "-";
}

#define NAMED(array) array, sizeof(array) / sizeof((array)[0])

/* The place of a guest physical address. */
struct place {
    bool has_region;
    struct gm_section section;
    bool has_slot;
    struct gm_soft_slot slot;
    uint64_t hva;
    bool has_hpa;
    uint64_t hpa;
};

static void find_place(struct translate_guest *guest, gm_gpa_t gpa, struct place *place)
{
    place->has_region = gm_view_find(guest->view, gpa, &place->section);
    place->has_slot = gm_soft_find(guest->soft, 0, gpa, &place->slot);
    place->has_hpa = false;
    if (place->has_slot) {
        place->hva = place->slot.hva + (gpa - place->slot.gpa);
        place->has_hpa = translate_host_physical(place->hva, &place->hpa);
    }
}

static void print_place(const struct place *place, gm_gpa_t gpa, bool shows_host)
{
    if (!place->has_region) {
        puts("  region   none: an access there is MMIO that nobody answers");
        return;
    }
    {
        char *name = tool_printable(gm_region_name(place->section.region));

        printf("  region   %s + %" PRIx64 "\n", name,
               place->section.offset + (gpa - place->section.gpa));
        free(name);
    }
    if (!place->has_slot) {
        puts("  slot     none: MMIO, or the image ends before");
        return;
    }
    printf("  slot     %" PRIu32 "  GPA %" PRIx64 "  size %" PRIx64 "%s\n", place->slot.slot,
           place->slot.gpa, place->slot.size_bytes,
           (place->slot.flags & GM_SLOT_READONLY) != 0 ? "  read-only" : "");
    if (shows_host) {
        printf("  HVA      %" PRIx64 "\n", place->hva);
        if (place->has_hpa) {
            printf("  HPA      %" PRIx64 "\n", place->hpa);
        } else {
            puts("  HPA      not told: it takes root, and a page that is present");
        }
    }
}

static void print_text(struct translate_guest *guest, const struct request *request,
                       uint64_t linear, const struct gm_mmu_translation *translation)
{
    static const char *const kinds[] = {"read", "write", "fetch"};
    char text[FLAGS_TEXT_BYTES];

    printf("%" PRIx64 "  %s %s: %s\n", linear, request->view == GM_MMU_USER ? "user" : "supervisor",
           kinds[request->access], why(translation->outcome));
    for (unsigned i = 0; i < translation->depth; i++) {
        printf("  level %u  entry %016" PRIx64 " at %" PRIx64 "  %s\n",
               translation->level_count - i, translation->entries[i], translation->entry_gpas[i],
               flags_text(NAMED(entry_flags), translation->entries[i], text));
    }
    if (translation->outcome == GM_MMU_PAGE_FAULT) {
        printf("  error    %" PRIx32 "  %s   CR2 %" PRIx64 "\n", translation->error_code,
               flags_text(NAMED(error_flags), translation->error_code, text), linear);
    } else if (translation->outcome == GM_MMU_OK) {
        struct place place;

        find_place(guest, translation->gpa, &place);
        printf("  GPA      %" PRIx64 "  page of %" PRIx64 "  %s%s%s\n", translation->gpa,
               translation->page_bytes, translation->is_writable ? "writable" : "read-only",
               translation->is_for_user ? ", user" : ", supervisor",
               translation->is_executable ? ", executable" : ", no-execute");
        print_place(&place, translation->gpa, request->shows_host);
    }
}

static void add_place(struct json_object *object, const struct place *place, gm_gpa_t gpa,
                      bool shows_host)
{
    json_add(object, "region",
             place->has_region ? json_new_text(gm_region_name(place->section.region)) : NULL);
    json_add(object, "region_offset",
             place->has_region ? json_new_hex(place->section.offset + (gpa - place->section.gpa))
                               : NULL);
    json_add(object, "slot", place->has_slot ? json_new_number(place->slot.slot) : NULL);
    if (shows_host) {
        json_add(object, "hva", place->has_slot ? json_new_hex(place->hva) : NULL);
        json_add(object, "hpa", place->has_hpa ? json_new_hex(place->hpa) : NULL);
    }
}

static struct json_object *to_json(struct translate_guest *guest, const struct request *request,
                                   uint64_t linear, const struct gm_mmu_translation *translation)
{
    struct json_object *object = json_new_object();
    struct json_object *entries = json_new_array();
    bool is_ok = translation->outcome == GM_MMU_OK;

    json_add(object, "linear", json_new_hex(linear));
    json_add(object, "outcome", json_new_text(why(translation->outcome)));
    for (unsigned i = 0; i < translation->depth; i++) {
        struct json_object *entry = json_new_object();

        json_add(entry, "level", json_new_number(translation->level_count - i));
        json_add(entry, "address", json_new_hex(translation->entry_gpas[i]));
        json_add(entry, "entry", json_new_hex(translation->entries[i]));
        json_append(entries, entry);
    }
    json_add(object, "entries", entries);
    json_add(object, "error_code",
             translation->outcome == GM_MMU_PAGE_FAULT ? json_new_number(translation->error_code)
                                                       : NULL);
    json_add(object, "gpa", is_ok ? json_new_hex(translation->gpa) : NULL);
    if (is_ok) {
        struct place place;

        find_place(guest, translation->gpa, &place);
        json_add(object, "page_bytes", json_new_hex(translation->page_bytes));
        json_add(object, "writable", json_new_bool(translation->is_writable));
        json_add(object, "user", json_new_bool(translation->is_for_user));
        json_add(object, "executable", json_new_bool(translation->is_executable));
        add_place(object, &place, translation->gpa, request->shows_host);
    }
    return object;
}

/* Guest mode with the request's registers. */
static enum gm_mmu_outcome begin(struct translate_guest *guest, const struct request *request)
{
    enum gm_mmu_outcome outcome = gm_mmu_enter(guest->mmu);

    return outcome == GM_MMU_OK ? gm_mmu_set_paging(guest->mmu, &request->paging) : outcome;
}

static int translate_all(struct translate_guest *guest, const struct request *request)
{
    struct json_object *list = request->json ? json_new_array() : NULL;
    int exit_code = TOOL_OK;

    for (int i = 0; i < request->address_count; i++) {
        struct gm_mmu_translation translation = {0};
        uint64_t linear = strtoull(request->addresses[i], NULL, 16);

        translation.outcome = begin(guest, request);
        if (translation.outcome == GM_MMU_OK) {
            (void)gm_mmu_explain(guest->mmu, linear, request->access, request->view, &translation);
        }
        gm_mmu_leave(guest->mmu);
        exit_code = translation.outcome != GM_MMU_OK ? TRANSLATE_FAULTS : exit_code;
        if (request->json) {
            json_append(list, to_json(guest, request, linear, &translation));
        } else {
            print_text(guest, request, linear, &translation);
        }
    }
    if (request->json) {
        int output_code = json_print(list);

        return output_code != TOOL_OK ? output_code : exit_code;
    }
    return tool_finish_output() != TOOL_OK ? TOOL_FAILED : exit_code;
}

int cmd_translate(int argc, char **argv)
{
    struct request request = {0};
    struct translate_guest guest;
    bool is_over;
    int exit_code = parse(&request, argc, argv, &is_over);

    if (exit_code != TOOL_OK || is_over) {
        return exit_code;
    }
    exit_code = translate_guest_open(&guest, request.map_path, request.as, request.image_path);
    if (exit_code == TOOL_OK) {
        exit_code = translate_all(&guest, &request);
    }
    translate_guest_close(&guest);
    return exit_code;
}
