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

/* Free the present version with all of its slots. Nobody reads it. */
void memslots_free_all(struct kcore *core, struct memslots *slots);

#endif
