/* kcore/vcpu.c - vCPUs: coming and going, entering and leaving guest mode. */
#include "kcore/vcpu.h"

#include "base/check.h"
#include "base/point.h"

#include <errno.h>
#include <unistd.h>

/* The gate's kick: under its lock, from the holder's thread. */
static void ask_to_leave(void *opaque)
{
    kcore_vcpu_request(opaque, KCORE_REQUEST_LEAVE);
}

static bool id_is_taken(const struct kcore *core, unsigned id)
{
    for (const struct kcore_vcpu *vcpu = core->vcpus; vcpu != NULL; vcpu = vcpu->next) {
        if (vcpu->id == id) {
            return true;
        }
    }
    return false;
}

static void list_add(struct kcore *core, struct kcore_vcpu *vcpu)
{
    lock_take(&core->vcpus_lock);
    vcpu->next = core->vcpus;
    core->vcpus = vcpu;
    lock_drop(&core->vcpus_lock);
}

static void list_remove(struct kcore *core, struct kcore_vcpu *vcpu)
{
    struct kcore_vcpu **link = &core->vcpus;

    lock_take(&core->vcpus_lock);
    while (*link != vcpu) {
        GM_ASSERT(*link != NULL);
        link = &(*link)->next;
    }
    *link = vcpu->next;
    lock_drop(&core->vcpus_lock);
}

int kcore_vcpu_init(struct kcore_vcpu *vcpu, struct kcore *core, unsigned id, uint32_t *requests)
{
    int rc = 0;

    if (id >= KCORE_VCPU_IDS) {
        return -EINVAL;
    }
    *vcpu = (struct kcore_vcpu){.core = core, .id = id, .requests = requests, .wake_fd = -1};
    lock_take(&core->slots_lock);
    rc = id_is_taken(core, id) ? -EEXIST : ring_init(&vcpu->ring, core->ring_entries);
    if (rc == 0) {
        gate_add(&core->gate, &vcpu->at_gate, ask_to_leave, vcpu);
        list_add(core, vcpu);
        core->vcpu_count++;
    }
    lock_drop(&core->slots_lock);
    return rc;
}

void kcore_vcpu_fini(struct kcore_vcpu *vcpu)
{
    struct kcore *core = vcpu->core;

    GM_ASSERT(!vcpu->in_guest);
    lock_take(&core->slots_lock);
    list_remove(core, vcpu);
    gate_remove(&core->gate, &vcpu->at_gate);
    ring_fini(&vcpu->ring);
    lock_drop(&core->slots_lock);
}

/*
 * LEAVE is cleared before the gate, so that no hold is missed. A holder asks only those whose in_guest
 * it has seen set (base/gate.h), which gate_enter() sets after this:
 *
 * | # | vCPU                       | holder                     | outcome                          |
 * | - | -------------------------- | -------------------------- | -------------------------------- |
 * | 1 | clear; in_guest = 1        |                            |                                  |
 * |   | held is 0: goes in         | held = 1; in_guest is 1    | Asked after the clear: leaves at |
 * |   |                            | sets LEAVE                 | the first boundary.              |
 * | 2 | clear; in_guest = 1        | held = 1; in_guest is 1    | LEAVE is set while it waits, and |
 * |   | held is 1: steps back      | sets LEAVE                 | stays: it comes out once more    |
 * |   | waits; goes in             | releases                   | than it must, and no harm done.  |
 * | 3 | clear                      | held = 1; in_guest is 0    | Not asked, and needs not be: it  |
 * |   | held is 1: waits           |                            | waits at the gate.               |
 *
 * tests/race/test_vcpu_points.c forces them.
 *
 * The load may miss a LEAVE that is on its way, of a hold that is over: as 2. What is not LEAVE is left
 * for who is to see it.
 */
void kcore_vcpu_enter(struct kcore_vcpu *vcpu)
{
    GM_ASSERT(!vcpu->in_guest);
    if ((__atomic_load_n(vcpu->requests, __ATOMIC_RELAXED) & KCORE_REQUEST_LEAVE) != 0) {
        __atomic_fetch_and(vcpu->requests, ~(uint32_t)KCORE_REQUEST_LEAVE, __ATOMIC_RELAXED);
    }
    GM_POINT("vcpu-cleared");
    gate_enter(&vcpu->core->gate, &vcpu->at_gate);
    vcpu->in_guest = true;
}

void kcore_vcpu_leave(struct kcore_vcpu *vcpu)
{
    GM_ASSERT(vcpu->in_guest);
    vcpu->in_guest = false;
    gate_leave(&vcpu->core->gate, &vcpu->at_gate);
}

void kcore_vcpu_request(struct kcore_vcpu *vcpu, unsigned request)
{
    /* Sequentially consistent, as the load, and the store and load of who goes to sleep (soft/sleep.c): either it sees
     * the request, or is seen to sleep. What the asker did before is seen by who acquires the request. */
    __atomic_fetch_or(vcpu->requests, request, __ATOMIC_SEQ_CST);
    GM_POINT("request-made");
    if (atomic_load(&vcpu->is_asleep)) {
        const uint64_t once = 1;
        int saved_errno = errno;

        GM_POINT("request-waking");
        /* It fails only where the eventfd's count is full, which wakes as well. */
        (void)!write(vcpu->wake_fd, &once, sizeof(once));
        errno = saved_errno;
    }
}
