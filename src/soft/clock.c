/* soft/clock.c - time-stamp counters of a VM's vCPUs, and kvmclock. */
#include "soft/clock.h"
#include "base/clock.h"

#include "mmu/guest.h"
#include "soft/run.h"
#include "soft/soft.h"
#include "soft/usercopy.h"

#include <errno.h>

#define NS_PER_SECOND UINT64_C(1000000000)

enum {
    MSR_TSC = 0x10,
    MSR_WALL_CLOCK = 0x11,
    MSR_SYSTEM_TIME = 0x12,
    MSR_TSC_ADJUST = 0x3b,
    MSR_WALL_CLOCK_NEW = 0x4b564d00,
    MSR_SYSTEM_TIME_NEW = 0x4b564d01,
};

#define SYSTEM_TIME_ON UINT64_C(1)

/* The page, in words of 64 bits: version, counter, nanoseconds, and how the one becomes the other. */
#define PAGE_TSC 8u
#define PAGE_NS 16u
#define PAGE_SCALE 24u
/* ns = (tsc << shift) * multiplier >> 32: one for one. */
#define SCALE (UINT64_C(0x80000000) | UINT64_C(1) << 32)
#define FLAG_STABLE (UINT64_C(1) << 40)
#define FLAG_STOPPED (UINT64_C(2) << 40)

int clock_init(struct vm_clock *clock)
{
    clock->offset_ns = -clock_now_ns();
    return lock_init(&clock->lock, LOCK_RANK_LEAF);
}

void clock_fini(struct vm_clock *clock)
{
    lock_fini(&clock->lock);
}

void clock_add_vcpu(struct gm_soft_vcpu *vcpu)
{
    struct vm_clock *clock = &vcpu->soft->clock;

    lock_take(&clock->lock);
    if (!clock->has_tsc) {
        clock->has_tsc = true;
        clock->tsc_offset = -clock_now_ns();
    }
    vcpu->x86->msr.tsc_offset = clock->tsc_offset;
    lock_drop(&clock->lock);
}

/* By the user. Who sets vCPUs' counters one after the other to what was read at one time, or to 0, means them to agree: within a
 * second of what the last one was set to they do, as in Linux. */
static void set_tsc(struct gm_soft_vcpu *vcpu, uint64_t value)
{
    struct vm_clock *clock = &vcpu->soft->clock;
    uint64_t now_ns = clock_now_ns();
    uint64_t difference;

    lock_take(&clock->lock);
    difference = value - (now_ns + clock->tsc_offset);
    if (value != 0 && difference + NS_PER_SECOND > 2 * NS_PER_SECOND) {
        clock->tsc_offset = value - now_ns;
    }
    vcpu->x86->msr.tsc_offset = clock->tsc_offset;
    lock_drop(&clock->lock);
    vcpu->clock.is_stale = true;
}

enum x86_msr_result clock_read_msr(struct gm_soft_vcpu *vcpu, uint32_t number, uint64_t *value)
{
    struct vm_clock *clock = &vcpu->soft->clock;

    switch (number) {
    case MSR_WALL_CLOCK:
    case MSR_WALL_CLOCK_NEW:
        lock_take(&clock->lock);
        *value = clock->wall_clock;
        lock_drop(&clock->lock);
        return X86_MSR_DONE;
    case MSR_SYSTEM_TIME:
    case MSR_SYSTEM_TIME_NEW:
        *value = vcpu->clock.system_time;
        return X86_MSR_DONE;
    default:
        return X86_MSR_UNKNOWN;
    }
}

/* A vCPU in the guest is to come out after the instruction, and write its page. */
static void make_stale(struct gm_soft_vcpu *vcpu, enum x86_msr_writer writer)
{
    vcpu->clock.is_stale = true;
    if (writer == X86_MSR_GUEST) {
        kcore_vcpu_request(&vcpu->mmu.base, KCORE_REQUEST_EVENT);
    }
}

enum x86_msr_result clock_write_msr(struct gm_soft_vcpu *vcpu, uint32_t number, uint64_t value,
                                    enum x86_msr_writer writer)
{
    struct vm_clock *clock = &vcpu->soft->clock;

    switch (number) {
    case MSR_WALL_CLOCK:
    case MSR_WALL_CLOCK_NEW:
        lock_take(&clock->lock);
        clock->wall_clock = value;
        lock_drop(&clock->lock);
        vcpu->clock.is_wall_asked = value != 0;
        make_stale(vcpu, writer);
        return X86_MSR_DONE;
    case MSR_SYSTEM_TIME:
    case MSR_SYSTEM_TIME_NEW:
        vcpu->clock.system_time = value;
        make_stale(vcpu, writer);
        return X86_MSR_DONE;
    case MSR_TSC:
        if (writer == X86_MSR_HOST) {
            set_tsc(vcpu, value);
            return X86_MSR_DONE;
        }
        make_stale(vcpu, writer);
        return X86_MSR_UNKNOWN;
    case MSR_TSC_ADJUST:
        make_stale(vcpu, writer);
        return X86_MSR_UNKNOWN;
    default:
        return X86_MSR_UNKNOWN;
    }
}

/* Odd while what follows it is being written. */
static uint64_t next_version(uint64_t version)
{
    return (uint32_t)(version + 1) | 1;
}

static enum gm_mmu_outcome store(struct gm_mmu *mmu, uint64_t gpa, unsigned size_bytes,
                                 uint64_t value, enum gm_mmu_outcome before)
{
    return before != GM_MMU_OK ? before : gm_mmu_store(mmu, gpa, size_bytes, value);
}

/* Return: not GM_MMU_OK: guest mode has been left. */
static enum gm_mmu_outcome write_system_time(struct gm_soft_vcpu *vcpu)
{
    struct vm_clock *clock = &vcpu->soft->clock;
    struct gm_mmu *mmu = &vcpu->mmu.face;
    uint64_t gpa = vcpu->clock.system_time & ~SYSTEM_TIME_ON;
    uint64_t version, scale, now_ns, offset_ns;
    enum gm_mmu_outcome outcome = gm_mmu_load(mmu, gpa, 4, &version);

    if (outcome == GM_MMU_OK) {
        outcome = gm_mmu_load(mmu, gpa + PAGE_SCALE, 8, &scale);
    }
    if (outcome != GM_MMU_OK) {
        return outcome;
    }
    lock_take(&clock->lock);
    offset_ns = clock->offset_ns;
    vcpu->clock.generation = atomic_load_explicit(&clock->generation, memory_order_relaxed);
    lock_drop(&clock->lock);
    now_ns = clock_now_ns();
    version = next_version(version);
    scale = SCALE | FLAG_STABLE | (scale & FLAG_STOPPED); /* which the guest clears */
    scale |= vcpu->clock.was_stopped ? FLAG_STOPPED : 0;
    outcome = store(mmu, gpa, 4, version, outcome);
    outcome = store(mmu, gpa + PAGE_TSC, 8, now_ns + vcpu->x86->msr.tsc_offset, outcome);
    outcome = store(mmu, gpa + PAGE_NS, 8, now_ns + offset_ns, outcome);
    outcome = store(mmu, gpa + PAGE_SCALE, 8, scale, outcome);
    outcome = store(mmu, gpa, 4, (uint32_t)(version + 1), outcome);
    if (outcome == GM_MMU_OK) {
        vcpu->clock.was_stopped = false;
    }
    return outcome;
}

/* The time of day when kvmclock was 0: seconds and nanoseconds of 32 bits. Return: as above. */
static enum gm_mmu_outcome write_wall_clock(struct gm_soft_vcpu *vcpu)
{
    struct vm_clock *clock = &vcpu->soft->clock;
    struct gm_mmu *mmu = &vcpu->mmu.face;
    uint64_t gpa, version, ns;
    enum gm_mmu_outcome outcome;

    lock_take(&clock->lock);
    gpa = clock->wall_clock;
    ns = run_realtime_ns() - (clock_now_ns() + clock->offset_ns);
    lock_drop(&clock->lock);
    outcome = gm_mmu_load(mmu, gpa, 4, &version);
    version = next_version(version);
    outcome = store(mmu, gpa, 4, version, outcome);
    outcome = store(mmu, gpa + 4, 4, ns / NS_PER_SECOND, outcome);
    outcome = store(mmu, gpa + 8, 4, ns % NS_PER_SECOND, outcome);
    return store(mmu, gpa, 4, (uint32_t)(version + 1), outcome);
}

typedef enum gm_mmu_outcome write_fn(struct gm_soft_vcpu *vcpu);

/* Where there is no memory nothing is told, as in Linux. */
static void write_page(struct gm_soft_vcpu *vcpu, write_fn *write)
{
    enum gm_mmu_outcome outcome;

    do {
        guest_enter_at_boundary(&vcpu->mmu);
        outcome = write(vcpu);
    } while (outcome == GM_MMU_RESTART);
    if (outcome == GM_MMU_OK) {
        gm_mmu_leave(&vcpu->mmu.face);
    }
}

void clock_tell(struct gm_soft_vcpu *vcpu)
{
    struct vcpu_clock *own = &vcpu->clock;
    unsigned generation = atomic_load_explicit(&vcpu->soft->clock.generation, memory_order_acquire);

    if (!own->is_stale && own->generation == generation) {
        return;
    }
    own->is_stale = false;
    own->generation = generation;
    if (own->is_wall_asked) {
        own->is_wall_asked = false;
        write_page(vcpu, write_wall_clock);
    }
    if ((own->system_time & SYSTEM_TIME_ON) != 0) {
        write_page(vcpu, write_system_time);
    }
}

long ioctl_get_clock(struct gm_soft *soft, uint64_t argument)
{
    struct kvm_clock_data data = {.flags = KVM_CLOCK_TSC_STABLE | KVM_CLOCK_REALTIME |
                                           KVM_CLOCK_HOST_TSC};

    lock_take(&soft->clock.lock);
    data.realtime = run_realtime_ns();
    data.host_tsc = clock_now_ns();
    data.clock = data.host_tsc + soft->clock.offset_ns;
    lock_drop(&soft->clock.lock);
    return usercopy_to(argument, &data, sizeof(data));
}

/* vCPUs in the guest are told at once. */
static void request_all(struct gm_soft *soft)
{
    lock_take(&soft->core.vcpus_lock);
    for (struct kcore_vcpu *vcpu = soft->core.vcpus; vcpu != NULL; vcpu = vcpu->next) {
        kcore_vcpu_request(vcpu, KCORE_REQUEST_EVENT);
    }
    lock_drop(&soft->core.vcpus_lock);
}

/* With KVM_CLOCK_REALTIME the time that has passed since then is added. */
long ioctl_set_clock(struct gm_soft *soft, uint64_t argument)
{
    const uint32_t known = KVM_CLOCK_TSC_STABLE | KVM_CLOCK_REALTIME | KVM_CLOCK_HOST_TSC;
    struct kvm_clock_data data;
    uint64_t realtime_ns;
    int rc = usercopy_from(&data, argument, sizeof(data));

    if (rc != 0) {
        return rc;
    }
    if ((data.flags & ~known) != 0) {
        return -EINVAL;
    }
    realtime_ns = run_realtime_ns();
    if ((data.flags & KVM_CLOCK_REALTIME) != 0 && realtime_ns > data.realtime) {
        data.clock += realtime_ns - data.realtime;
    }
    lock_take(&soft->clock.lock);
    soft->clock.offset_ns = data.clock - clock_now_ns();
    /* Release; pairs with the acquire in clock_tell(). */
    atomic_fetch_add_explicit(&soft->clock.generation, 1, memory_order_release);
    lock_drop(&soft->clock.lock);
    request_all(soft);
    return 0;
}

/* The guest was stopped: its watchdogs are to know. */
long ioctl_kvmclock_ctrl(struct gm_soft_vcpu *vcpu, uint64_t argument)
{
    (void)argument;
    if ((vcpu->clock.system_time & SYSTEM_TIME_ON) == 0) {
        return -EINVAL;
    }
    vcpu->clock.was_stopped = true;
    vcpu->clock.is_stale = true;
    return 0;
}
