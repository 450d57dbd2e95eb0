/*
 * kcore/retire.h - the end of versions of slots: who frees what, and when.
 *
 * Of all versions of a slot the newest owns what lives as long as the slot does; what an old version
 * still owns goes with it (enum memslot_owns). A version of an address space takes with it the tree nodes
 * that only it had, the old versions of slots, and the invalid step that came after it.
 */
#ifndef KCORE_RETIRE_H
#define KCORE_RETIRE_H

#include "kcore/kcore.h"

/* Free a slot that nobody can find, and what it owns. */
void memslot_free(struct kcore *core, struct memslot *slot);

/* The same for a list by dead_next. */
void memslot_free_list(struct kcore *core, struct memslot *slots);

/* Free a version that has been replaced, once nobody reads it. */
void memslots_retire(struct memslots *slots);

/*
 * Something more waits to be freed; or no longer does.
 * A storm of changes would fill memory with what it replaces: liburcu's thread begins only after 10 ms, and frees
 * more slowly than versions can be made. So a change that finds DEAD_MAX things waiting frees them itself,
 * after a grace period that it waits for. It has waited for vCPUs as well, and whoever changes slots less
 * often than some 3,000 times a second never waits here. Few, so that what comes back is still in the caches and
 * in the pool of nodes: with 1,024 a change in a storm took 4 to 16 us, with 128 0.5 to 1 us, the waiting included.
 */
#define DEAD_MAX 128u
void retire_count(struct kcore *core, unsigned count);
void retire_uncount(struct kcore *core, unsigned count);
/* Context: no lock of a VM's; not in a read section. */
void retire_keep_up(struct kcore *core);

/* Free the present version with all of its slots. Nobody reads it. */
void memslots_free_all(struct kcore *core, struct memslots *slots);

#endif
