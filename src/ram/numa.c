/* ram/numa.c - on which NUMA nodes memory is made: mbind(2), by libnuma where it was built in. */
#include "base/diag.h"
#include "ram/memory.h"

#include <errno.h>
#include <string.h>

#ifdef GM_HAVE_NUMA

#include <numa.h>
#include <numaif.h>

_Static_assert(sizeof(unsigned long) == sizeof(uint64_t), "a mask is handed over as it is");

static int mode_of(enum gm_numa_policy policy)
{
    switch (policy) {
    case GM_NUMA_BIND:
        return MPOL_BIND;
    case GM_NUMA_INTERLEAVE:
        return MPOL_INTERLEAVE;
    case GM_NUMA_PREFERRED:
        return MPOL_PREFERRED;
    default:
        return MPOL_DEFAULT;
    }
}

int ram_bind(const struct gm_ram *ram, void *start, uint64_t size_bytes, struct gm_diag *diag)
{
    unsigned long nodes[GM_NUMA_NODES_MAX / 64];

    if (ram->numa_policy == GM_NUMA_DEFAULT) {
        return 0;
    }
    if (numa_available() < 0) {
        return diag_set(diag, GM_DIAG_RAM_NUMA, -EOPNOTSUPP, "this kernel has no NUMA policies");
    }
    memcpy(nodes, ram->numa_nodes, sizeof(nodes));
    /* The kernel takes one bit less than it is told of. */
    if (mbind(start, size_bytes, mode_of(ram->numa_policy), nodes, GM_NUMA_NODES_MAX + 1, 0) == 0) {
        return 0;
    }
    return errno == ENOMEM ? diag_set(diag, GM_DIAG_RAM_NUMA, -ENOMEM,
                                      "the kernel has no memory for a NUMA policy")
                           : diag_set(diag, GM_DIAG_RAM_NUMA, -EINVAL,
                                      "memory cannot be bound to these NUMA nodes: "
                                      "/sys/devices/system/node/has_memory shows which there are");
}

#else

int ram_bind(const struct gm_ram *ram, void *start, uint64_t size_bytes, struct gm_diag *diag)
{
    (void)start;
    (void)size_bytes;
    return ram->numa_policy == GM_NUMA_DEFAULT ? 0
                                               : diag_set(diag, GM_DIAG_RAM_NUMA, -EOPNOTSUPP,
                                                          "guestmem was built without libnuma");
}

#endif
