/* model/softmodel_race.c - a software VM whose vCPUs run on threads: see softmodel_race.h. */
#include "model/softmodel_race.h"
#include "model/require.h"
#include "model/trap.h"

#include "base/check.h"
#include "soft/soft.h"

#include <sched.h>
#include <string.h>
#include <sys/mman.h>

#define ALIGNMENT (UINT64_C(1) << 21)
#define INSTRUCTIONS_OF_A_SLICE 256u

void race_open(struct race *race, const struct gm_soft_options *options, uint64_t size_bytes)
{
    void *room = mmap(NULL, size_bytes + ALIGNMENT, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

    trap_report();
    REQUIRE(room != MAP_FAILED, "memory");
    memset(race, 0, sizeof(*race));
    race->hva = ((uint64_t)(uintptr_t)room + ALIGNMENT - 1) & ~(ALIGNMENT - 1);
    race->size_bytes = size_bytes;
    pthread_mutex_init(&race->lock, NULL);
    pthread_cond_init(&race->was_reset, NULL);
    REQUIRE(gm_soft_open(options, &race->soft, NULL) == 0, "a VM");
}

void race_enable(struct race *race, unsigned cap, uint64_t argument)
{
    struct kvm_enable_cap enable = {.cap = cap, .args = {argument}};

    REQUIRE(gm_soft_vm_ioctl(race->soft, KVM_ENABLE_CAP, (unsigned long)&enable) == 0,
            "capability %u", cap);
}

void race_set_slot(struct race *race, uint32_t slot, uint32_t flags, uint64_t gpa,
                   uint64_t size_bytes, uint64_t offset)
{
    struct gm_soft_slot change = {slot, flags, gpa, size_bytes, race->hva + offset};
    int result = gm_soft_set_slots(race->soft, &change, 1, NULL);

    REQUIRE(result == 0, "slot %u: %d", slot, result);
}

/* ---- a vCPU's thread ---- */

static void wait_for_reset(struct race_vcpu *vcpu)
{
    struct race *race = vcpu->race;
    uint64_t resets;

    vcpu->rings_full++;
    pthread_mutex_lock(&race->lock);
    resets = race->resets;
    while (race->resets == resets && !atomic_load(&race->is_over)) {
        pthread_cond_wait(&race->was_reset, &race->lock);
    }
    pthread_mutex_unlock(&race->lock);
}

/* Instructions until one does not end, or the test does. */
static enum gm_mmu_outcome run(struct race_vcpu *vcpu)
{
    struct race *race = vcpu->race;
    enum gm_mmu_outcome outcome = gm_mmu_enter(vcpu->mmu);

    while (outcome == GM_MMU_OK &&
           (vcpu->is_cut || !atomic_load_explicit(&race->is_over, memory_order_relaxed))) {
        outcome = race->instruction(vcpu);
        vcpu->is_cut = outcome != GM_MMU_OK;
        if (outcome != GM_MMU_OK) {
            break;
        }
        vcpu->instructions++;
        if (vcpu->instructions % INSTRUCTIONS_OF_A_SLICE == 0) {
            sched_yield(); /* there may be two processors for three threads */
        }
        atomic_store_explicit(&vcpu->done, vcpu->instructions, memory_order_relaxed);
        if (gm_mmu_is_wanted(vcpu->mmu)) {
            outcome = gm_mmu_boundary(vcpu->mmu);
        }
    }
    gm_mmu_leave(vcpu->mmu); /* no matter if it has */
    return outcome;
}

/* An instruction that was cut short is made to its end, the last one too. */
static void *vcpu_main(void *opaque)
{
    struct race_vcpu *vcpu = opaque;
    enum gm_mmu_outcome outcome = GM_MMU_KICKED;

    while (outcome != GM_MMU_OK) {
        outcome = run(vcpu);
        if (outcome == GM_MMU_RING_FULL) {
            if (atomic_load(&vcpu->race->is_over)) {
                return NULL;
            }
            wait_for_reset(vcpu);
        } else if (outcome == GM_MMU_RESTART) {
            vcpu->begun_anew++;
        } else {
            REQUIRE(outcome == GM_MMU_OK, "outcome %d at %#llx, error %d", (int)outcome,
                    (unsigned long long)gm_mmu_exit(vcpu->mmu)->gpa, gm_mmu_exit(vcpu->mmu)->error);
        }
    }
    return NULL;
}

void race_start(struct race *race, struct rnd *rnd, race_instruction_fn *instruction)
{
    race->instruction = instruction;
    for (unsigned i = 0; i < RACE_VCPUS; i++) {
        struct race_vcpu *vcpu = &race->vcpus[i];

        vcpu->race = race;
        vcpu->index = i;
        vcpu->rnd.state = rnd_next(rnd);
        REQUIRE(gm_soft_vcpu_new(race->soft, i, &vcpu->vcpu) == 0, "a vCPU");
        vcpu->mmu = gm_soft_vcpu_mmu(vcpu->vcpu);
    }
    for (unsigned i = 0; i < RACE_VCPUS; i++) {
        REQUIRE(pthread_create(&race->vcpus[i].thread, NULL, vcpu_main, &race->vcpus[i]) == 0,
                "a thread");
    }
}

bool race_has_run(struct race *race, uint64_t instructions)
{
    for (unsigned i = 0; i < RACE_VCPUS; i++) {
        if (atomic_load_explicit(&race->vcpus[i].done, memory_order_relaxed) < instructions) {
            return false;
        }
    }
    return true;
}

void race_note_reset(struct race *race)
{
    pthread_mutex_lock(&race->lock);
    race->resets++;
    pthread_cond_broadcast(&race->was_reset);
    pthread_mutex_unlock(&race->lock);
}

void race_stop(struct race *race)
{
    atomic_store(&race->is_over, true);
    race_note_reset(race);
    for (unsigned i = 0; i < RACE_VCPUS; i++) {
        const struct race_vcpu *vcpu = &race->vcpus[i];

        pthread_join(vcpu->thread, NULL);
        printf("vCPU %u: %llu instructions, %llu begun anew, ring full %llu times\n", i,
               (unsigned long long)vcpu->instructions, (unsigned long long)vcpu->begun_anew,
               (unsigned long long)vcpu->rings_full);
    }
    kcore_hold(&race->soft->core);
    lock_take(&race->soft->core.slots_lock);
    GM_AUDIT(kcore_audit(&race->soft->core));
    GM_AUDIT(mmu_audit(&race->soft->mmu));
    lock_drop(&race->soft->core.slots_lock);
    kcore_release(&race->soft->core);
}

void race_close(struct race *race)
{
    for (unsigned i = 0; i < RACE_VCPUS; i++) {
        gm_soft_vcpu_free(race->vcpus[i].vcpu);
    }
    REQUIRE(gm_soft_close(race->soft) == 0, "closing");
    munmap((void *)(uintptr_t)race->hva, race->size_bytes);
    pthread_cond_destroy(&race->was_reset);
    pthread_mutex_destroy(&race->lock);
}

void race_pass_time(void)
{
    for (int i = 0; i < 3; i++) {
        sched_yield();
    }
}
