/*
 * fuzz/paging.c - a guest's page tables of any bytes, walked through EPT and shadowed, while the guest edits and uses them and the
 * host moves slots, invalidates, logs, tracks, reclaims: beside the model of tests/model, which knows each translation that
 * a processor may still hold. No access comes out otherwise, and nothing stale is left.
 *
 * The input: one byte of what kind the guest is; patches of its tables; then what tests/model takes as chance.
 */
#include "fuzz.h"

#include "model/guestmodel_run.h"
#include "model/random.h"
#include "model/require.h"

#include <string.h>

#define OPERATIONS_MAX 300u

enum kind {
    KIND_SHADOWED = 1u << 0,
    KIND_EMPTY = 1u << 1, /* no tables but by patches; else those of the random guest */
    KIND_BYTES = 1u << 2, /* patches are bytes; else entries and where they lead, nearly good */
};

static unsigned kind;

/* The tables that most walks come by: a few words of each matter. */
static uint64_t some_place(unsigned entry_bytes)
{
    uint64_t page = rnd_take(1) % GUESTRUN_TABLES;
    uint64_t index = rnd_take(1);

    index = index < 240 ? index % 8 : GUEST_PAGE / entry_bytes - 1 - index % 16;
    return page * GUEST_PAGE + index * entry_bytes;
}

static void patch(struct guestrun *run, const struct guest_vcpu *vcpu)
{
    uint64_t place = some_place(vcpu->entry_bytes);
    unsigned level = guestrun_home(vcpu, (unsigned)(place / GUEST_PAGE));
    uint64_t entry;
    unsigned count;

    if ((kind & KIND_BYTES) == 0) {
        entry = guestrun_entry(run, vcpu, level != 0 ? level : 1);
        memcpy(run->model.memory.bytes + place, &entry, vcpu->entry_bytes);
        return;
    }
    count = 1 + (unsigned)rnd_take(1) % 64;
    for (unsigned i = 0; i < count && rnd_input.at != rnd_input.end; i++) {
        run->model.memory.bytes[place + i] = (uint8_t)rnd_take(1);
    }
}

static void fill(struct guestrun *run, const struct guest_vcpu *vcpu)
{
    struct rnd_input input = rnd_input;

    if ((kind & KIND_EMPTY) == 0) { /* by chance: they would take all of the input */
        rnd_input = (struct rnd_input){NULL, NULL};
        guestrun_fill(run, vcpu);
        rnd_input = input;
    }
    for (unsigned count = (unsigned)rnd_take(1) % 64; count > 0; count--) {
        patch(run, vcpu);
    }
}

int fuzz_paging(const uint8_t *data, size_t size)
{
    static struct guestrun run;
    static struct guestrun_counts counts;

    fuzz_begin(data, size);
    memset(&run, 0, sizeof(run));
    kind = (unsigned)rnd_take(1);
    run.rnd.state = rnd_take(1);
    run.is_shadowed = (kind & KIND_SHADOWED) != 0;
    run.fill = fill;
    run.model.promises = GUEST_PROMISE_ALL;
    run.counts = &counts;
    guestrun_begin(&run);
    for (unsigned i = 0; i < OPERATIONS_MAX && rnd_input.at != rnd_input.end; i++) {
        run.operation = i;
        guestrun_operate(&run);
    }
    fuzz_end();
    guestrun_end(&run);
    return 0;
}
