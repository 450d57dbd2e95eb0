/* ram/lookup.c - what memory of the caller's is, as /proc/self/maps says it. */
#include "base/addr.h"
#include "base/diag.h"
#include "base/lines.h"
#include "ram/backing.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>

/* One mapping of the process. */
struct mapping {
    uint64_t start;
    uint64_t end;
    char rights[5]; /* "rwxp", or s for shared */
};

/* What the mappings of a range have in common. */
struct lookup {
    uint64_t next; /* the range is mapped up to here */
    uint64_t end;
    bool any_shared;
    bool any_private;
    bool any_denied;
};

static bool parse(const char *line, struct mapping *mapping)
{
    return sscanf(line, "%" SCNx64 "-%" SCNx64 " %4s", &mapping->start, &mapping->end,
                  mapping->rights) == 3;
}

/* Take one mapping in; they ascend. False: no more is needed. */
static bool take(struct lookup *lookup, const struct mapping *mapping)
{
    if (mapping->end <= lookup->next) {
        return true;
    }
    if (mapping->start > lookup->next) {
        return false;
    }
    lookup->any_denied |= mapping->rights[0] != 'r' || mapping->rights[1] != 'w';
    lookup->any_shared |= mapping->rights[3] == 's';
    lookup->any_private |= mapping->rights[3] == 'p';
    lookup->next = mapping->end;
    return lookup->next < lookup->end;
}

int backing_look_up(struct gm_ram *ram, struct gm_diag *diag)
{
    uint64_t start = hva_of(ram->hva).value;
    struct lookup lookup = {.next = start, .end = start + ram_size(ram)};
    struct mapping mapping;
    struct lines lines;
    char line[256];

    lines_open(&lines, "/proc/self/maps");
    while (lines_next(&lines, line, sizeof(line)) &&
           (!parse(line, &mapping) || take(&lookup, &mapping))) {
    }
    lines_close(&lines);
    if (lookup.next < lookup.end) {
        return diag_set(diag, GM_DIAG_RAM_CALLER_MEMORY, -EINVAL,
                        "nothing is mapped at 0x%" PRIx64 " of the caller's memory", lookup.next);
    }
    if (lookup.any_denied) {
        return diag_set(diag, GM_DIAG_RAM_CALLER_MEMORY, -EACCES,
                        "the caller's memory is not readable and writable");
    }
    ram->freeing = lookup.any_shared && lookup.any_private ? RAM_FREE_NEVER
                   : lookup.any_shared                     ? RAM_FREE_REMOVE
                                                           : RAM_FREE_DONTNEED;
    return 0;
}
