/*
 * fuzz/soft_ioctl.c - sequences of ioctls on a software VM and its vCPUs, with any value in any field, as the preloaded library
 * hands them on: addresses into pages of all kinds, or into none; anything in the kvm_run area and the dirty rings; host
 * memory that is protected and discarded under slots; allocations that fail; and the guest runs whatever is there.
 *
 * A request whose structure lies where no memory is fails. Nothing else is promised of any values but that the VM stays whole: audits,
 * sanitizers, an end without leaks, and nobody waits for ever.
 *
 * A field is any value. Only where the user would hand over memory of this very program, which Linux would take as well, an address is
 * moved into memory that is meant for it: user_tame().
 */
#include "soft_ioctl.h"

#include "fuzz.h"

#include "base/check.h"
#include "base/rcu.h"
#include "kcore/kcore.h"
#include "mmu/mmu.h"
#include "model/faults.h"
#include "model/random.h"
#include "model/require.h"
#include "soft/soft.h"

#include <guestmem/soft.h>
#include <guestmem/soft_ioctl.h>

#include <errno.h>
#include <pthread.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define RUNS_MAX 6u
#define STEPS_MAX 400u
#define RUN_NS 1000000 /* for which the guest may run */

char require_place[160] = "soft_ioctl";

/* ---- the guest has its time ---- */

/* Another thread kicks the vCPU, which nothing in its state can keep from being heard of. */
static struct {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    struct gm_mmu *mmu; /* NULL: nobody runs */
    bool has_begun;
} kicker = {.lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};

static void *kick(void *opaque)
{
    (void)opaque;
    pthread_mutex_lock(&kicker.lock);
    for (;;) {
        if (kicker.mmu == NULL) {
            pthread_cond_wait(&kicker.changed, &kicker.lock);
            continue;
        }
        pthread_mutex_unlock(&kicker.lock);
        nanosleep(&(struct timespec){.tv_nsec = RUN_NS}, NULL);
        pthread_mutex_lock(&kicker.lock);
        if (kicker.mmu != NULL) {
            gm_mmu_kick(kicker.mmu);
        }
    }
    return NULL;
}

static void kick_soon(struct gm_mmu *mmu)
{
    pthread_t thread;

    pthread_mutex_lock(&kicker.lock);
    if (!kicker.has_begun) {
        kicker.has_begun = true;
        REQUIRE(pthread_create(&thread, NULL, kick, NULL) == 0 && pthread_detach(thread) == 0,
                "no thread");
    }
    kicker.mmu = mmu;
    pthread_cond_signal(&kicker.changed);
    pthread_mutex_unlock(&kicker.lock);
}

/* ---- values ---- */

uint64_t soft_some_value(struct session *session)
{
    switch (rnd_take(1) % 12) {
    case 0:
        return 0;
    case 1:
        return rnd_take(8);
    case 2:
        return user_some_address(&session->user);
    case 3:
        return rnd_take(1) * USER_PAGE; /* guest addresses, sizes */
    case 4:
        return UINT64_C(1) << rnd_take(1) % 64;
    case 5:
        return ~(rnd_take(1) * USER_PAGE);
    case 6:
        return rnd_take(2);
    case 7:
        return rnd_take(1) | rnd_take(1) << 32; /* two small ones */
    case 8:
        return (uint64_t)session->files[rnd_take(1) % FILES] | rnd_take(1) << 32;
    case 9: /* a guest memfd, if there is one; somebody else's descriptor */
        return session->memfd_count != 0
                   ? (uint64_t)session->memfds[rnd_take(1) % session->memfd_count]
                   : 1;
    case 10:
        return UINT64_C(0xfee00000) + rnd_take(1) * 16;
    default:
        return rnd_take(1);
    }
}

/* Words of a structure, or of what the guest has; bytes, as code. */
static void fill(struct session *session)
{
    uint64_t page = rnd_take(1) % USER_PAGES;
    uint64_t offset = rnd_take(1) * 8;
    unsigned count = (unsigned)rnd_take(1);
    uint8_t *at = session->user.base + page * USER_PAGE + offset;
    bool is_bytes = (count & 0x80) != 0;
    int pipe_fds[2];
    uint64_t value;

    count %= 32;
    if (page == USER_READ_ONLY || page == USER_HOLE || offset + 32 * 8 > USER_PAGE) {
        return;
    }
    /* The page may be protected by now: the kernel writes, and says so. */
    REQUIRE(pipe(pipe_fds) == 0, "a pipe");
    for (unsigned i = 0; i < count; i++) {
        value = is_bytes ? rnd_take(1) : soft_some_value(session);
        REQUIRE(write(pipe_fds[1], &value, 8) == 8, "a pipe");
        if (read(pipe_fds[0], at + (is_bytes ? i : 8 * i), is_bytes ? 1 : 8) < 0) {
            break;
        }
        if (is_bytes) {
            REQUIRE(read(pipe_fds[0], &value, 7) == 7, "a pipe");
        }
    }
    close(pipe_fds[0]);
    close(pipe_fds[1]);
}

/* ---- requests ---- */

/*
 * What the structure hands over is not to be this program's. What of it lies in pages that can be written is changed; the rest is zeroes,
 * or not there.
 */
static void tame(struct session *session, const struct request *request, uint64_t argument)
{
    uint64_t address_at = argument + request->address_at;
    uint64_t size_bytes = 0;
    uint64_t address;

    if (request->address_at == 0 || request->number == KVM_X86_SET_MSR_FILTER ||
        !user_is_data(&session->user, address_at, 8)) {
        return; /* filters are only read from */
    }
    if (request->size_at != 0 && user_is_data(&session->user, argument + request->size_at, 8)) {
        memcpy(&size_bytes, (void *)(uintptr_t)(argument + request->size_at), 8);
    }
    memcpy(&address, (void *)(uintptr_t)address_at, 8);
    address = user_tame(&session->user, address, size_bytes);
    memcpy((void *)(uintptr_t)address_at, &address, 8);
}

/* Where structures mostly are; or anywhere. */
static uint64_t some_argument(struct session *session, const struct request *request)
{
    unsigned way = (unsigned)rnd_take(1);
    uint64_t value;

    if (request->takes_number) {
        return way < 64 ? soft_some_value(session) : 0;
    }
    if (way < 192) {
        return (uintptr_t)session->user.base + way % 4 * USER_PAGE;
    }
    value = way < 224 ? user_some_address(&session->user) : soft_some_value(session);
    value = user_tame(&session->user, value, 2 * USER_PAGE) & ~UINT64_C(7);
    /* What hands over memory stands where it can be looked at before. */
    return request->address_at != 0 && user_is_guests(&session->user, value)
               ? (uintptr_t)session->user.base + value % USER_PAGE
               : value;
}

static long call_vcpu(struct session *session, unsigned number, unsigned long request,
                      uint64_t argument)
{
    struct gm_soft_vcpu *vcpu = session->vcpus[number];
    struct gm_mmu *mmu;
    long rc;

    if (vcpu == NULL) {
        return -ENOENT;
    }
    if (request != KVM_RUN) {
        return gm_soft_vcpu_ioctl(vcpu, request, argument);
    }
    if (session->run_count++ >= RUNS_MAX) {
        return -ENOENT;
    }
    mmu = gm_soft_vcpu_mmu(vcpu);
    kick_soon(mmu);
    rc = gm_soft_vcpu_ioctl(vcpu, request, argument);
    kick_soon(NULL);
    return rc;
}

static void run(struct session *session)
{
    (void)call_vcpu(session, (unsigned)rnd_take(1) % VCPUS, KVM_RUN, 0);
}

void soft_take_memfd(struct session *session, long rc)
{
    if (rc >= 0 && session->memfd_count < MEMFDS_MAX) {
        session->memfds[session->memfd_count++] = (int)rc;
    } else if (rc >= 0) {
        close((int)rc);
    }
}

/* What fails has changed no slot. */
static long call_vm(struct session *session, unsigned long request, uint64_t argument)
{
    struct gm_soft_stats before, after;
    long rc;

    gm_soft_stats(session->soft, &before);
    rc = gm_soft_vm_ioctl(session->soft, request, argument);
    gm_soft_stats(session->soft, &after);
    REQUIRE(rc >= 0 || (after.slots == before.slots && after.generation == before.generation),
            "request %#lx returned %ld, and there are %llu slots, not %llu", request, rc,
            (unsigned long long)after.slots, (unsigned long long)before.slots);
    return rc;
}

static long call(struct session *session, enum level level, unsigned long request,
                 uint64_t argument)
{
    switch (level) {
    case LEVEL_SYSTEM:
        return gm_soft_system_ioctl(request, argument);
    case LEVEL_VM:
        return call_vm(session, request, argument);
    default:
        return call_vcpu(session, (unsigned)rnd_take(1) % VCPUS, request, argument);
    }
}

static void make_request(struct session *session, enum level level, uint64_t fail_at)
{
    const struct request *request = request_some(level);
    uint64_t argument = some_argument(session, request);
    long rc;

    tame(session, request, argument);
    faults_arm(&session->faults, fail_at);
    rc = call(session, request->level, request->number, argument);
    (void)faults_disarm(&session->faults);
    REQUIRE(rc >= -4095, "request %#lx returned %ld", request->number, rc);
    REQUIRE(rc < 0 || request->takes_number ||
                !user_is_nowhere(&session->user, argument, _IOC_SIZE(request->number)) ||
                (request->number == KVM_SET_SIGNAL_MASK && argument == 0),
            "request %#lx of nothing at %#llx returned %ld", request->number,
            (unsigned long long)argument, rc);
    if (request->number == KVM_CREATE_GUEST_MEMFD && request->level == LEVEL_VM) {
        soft_take_memfd(session, rc);
    }
}

static long call_with(struct session *session, enum level level, unsigned long number, void *it)
{
    return call(session, level, number, (uintptr_t)it);
}

/* A state is got, some of it becomes something else, and it is set: most of it is as it has to be. */
static void modify(struct session *session)
{
    static const struct {
        unsigned long get, set;
        enum level level;
    } states[] = {
        {KVM_GET_REGS, KVM_SET_REGS, LEVEL_VCPU},
        {KVM_GET_SREGS, KVM_SET_SREGS, LEVEL_VCPU},
        {KVM_GET_SREGS2, KVM_SET_SREGS2, LEVEL_VCPU},
        {KVM_GET_FPU, KVM_SET_FPU, LEVEL_VCPU},
        {KVM_GET_XSAVE, KVM_SET_XSAVE, LEVEL_VCPU},
        {KVM_GET_XCRS, KVM_SET_XCRS, LEVEL_VCPU},
        {KVM_GET_DEBUGREGS, KVM_SET_DEBUGREGS, LEVEL_VCPU},
        {KVM_GET_VCPU_EVENTS, KVM_SET_VCPU_EVENTS, LEVEL_VCPU},
        {KVM_GET_MP_STATE, KVM_SET_MP_STATE, LEVEL_VCPU},
        {KVM_GET_LAPIC, KVM_SET_LAPIC, LEVEL_VCPU},
        {KVM_GET_IRQCHIP, KVM_SET_IRQCHIP, LEVEL_VM},
        {KVM_GET_PIT2, KVM_SET_PIT2, LEVEL_VM},
        {KVM_GET_CLOCK, KVM_SET_CLOCK, LEVEL_VM},
    };
    unsigned i = (unsigned)rnd_take(1) % (sizeof(states) / sizeof(states[0]));
    uint64_t words[USER_PAGE / 8] = {rnd_take(1) % 4}; /* which chip */
    size_t word_count = _IOC_SIZE(states[i].set) / 8;

    (void)call_with(session, states[i].level, states[i].get, words);
    for (unsigned count = 1 + (unsigned)rnd_take(1) % 4; count > 0 && word_count != 0; count--) {
        uint8_t *at = (uint8_t *)words + rnd_take(2) % (word_count * 8);
        uint64_t value = soft_some_value(session);

        memcpy(at, &value, (size_t)(at - (uint8_t *)words) <= word_count * 8 - 8 ? 8 : 1);
    }
    (void)call_with(session, states[i].level, states[i].set, words);
}

/* Capabilities that there are. */
static void enable(struct session *session)
{
    static const uint32_t numbers[] = {
        KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2,  KVM_CAP_DIRTY_LOG_RING,
        KVM_CAP_DIRTY_LOG_RING_ACQ_REL,     KVM_CAP_DIRTY_LOG_RING,
        KVM_CAP_DIRTY_LOG_RING_WITH_BITMAP, KVM_CAP_MAX_VCPU_ID,
        KVM_CAP_X86_USER_SPACE_MSR,         KVM_CAP_MSR_PLATFORM_INFO};
    struct kvm_enable_cap cap = {.cap = numbers[rnd_take(1) % 8]};
    unsigned way = (unsigned)rnd_take(1);

    cap.args[0] = way < 64    ? UINT64_C(16384) << way % 8
                  : way < 192 ? way % 8
                              : soft_some_value(session);
    (void)call_with(session, LEVEL_VM, KVM_ENABLE_CAP, &cap);
}

/* A slot that may well be, over memory of all kinds. */
static void set_slot(struct session *session)
{
    struct kvm_userspace_memory_region2 region = {
        .slot = (uint32_t)rnd_take(1) % 8,
        .flags = (uint32_t)rnd_take(1) % 8,
        .guest_phys_addr = rnd_take(1) % 64 * USER_PAGE,
        .memory_size = rnd_take(1) % 40 * USER_PAGE,
    };

    region.slot = region.slot < 5 ? region.slot : 0x10000 | (region.slot - 5); /* SMM's */
    region.userspace_addr =
        (uintptr_t)session->user.base + (USER_READ_ONLY + rnd_take(1) % 32) * USER_PAGE;
    if (session->memfd_count != 0) {
        region.guest_memfd = (uint32_t)session->memfds[rnd_take(1) % session->memfd_count];
        region.guest_memfd_offset = rnd_take(1) % 8 * USER_PAGE;
    }
    (void)call_with(session, LEVEL_VM,
                    region.flags < 4 ? KVM_SET_USER_MEMORY_REGION : KVM_SET_USER_MEMORY_REGION2,
                    &region);
}

/* Of another level's, or of nobody's: those are refused, and do nothing. */
static void make_wrong_request(struct session *session)
{
    unsigned long number = request_any_number();
    enum level level = (enum level)(rnd_take(1) % 3);
    struct request request = {.number = number, .level = level, .takes_number = true};

    (void)call(session, request.level, request.number, 0);
}

/* ---- vCPUs ---- */

static void change_vcpu(struct session *session)
{
    unsigned number = (unsigned)rnd_take(1) % VCPUS;
    uint64_t id = soft_some_value(session);

    if (session->vcpus[number] != NULL) {
        gm_soft_vcpu_free(session->vcpus[number]);
        session->vcpus[number] = NULL;
    } else if (gm_soft_vcpu_new(session->soft, (unsigned)id, &session->vcpus[number]) != 0) {
        session->vcpus[number] = NULL;
    }
}

/* Whatever the user puts into the area that is shared with KVM_RUN, or into a ring. */
static void write_area(struct session *session)
{
    unsigned way = (unsigned)rnd_take(1);
    struct gm_soft_vcpu *vcpu = session->vcpus[way % VCPUS];
    uint32_t entry_count = 0;
    struct kvm_dirty_gfn *ring = vcpu != NULL ? gm_soft_vcpu_ring(vcpu, &entry_count) : NULL;
    uint64_t at = way < 128 ? rnd_take(1) : rnd_take(2);
    uint64_t value = soft_some_value(session);

    if (vcpu == NULL) {
        return;
    }
    if (way % 4 >= 2 && ring != NULL) {
        struct kvm_dirty_gfn *entry = &ring[at % entry_count];

        if (value % 2 != 0) {
            entry->slot = (uint32_t)value;
            entry->offset = value >> 8;
        }
        __atomic_store_n(&entry->flags, (uint32_t)rnd_take(1) % 4, __ATOMIC_RELEASE);
        return;
    }
    at = at * 8 % (VCPU_RUN_BYTES - 8);
    memcpy((uint8_t *)gm_soft_vcpu_run_page(vcpu) + at, &value, 8);
}

/* ---- the host's memory ---- */

static void protect(struct session *session)
{
    unsigned page = (unsigned)(USER_GUEST + rnd_take(1) % (USER_PAGES - USER_GUEST));
    gm_hva_t hva = (uintptr_t)session->user.base + (uint64_t)page * USER_PAGE;
    unsigned how = (unsigned)rnd_take(1);

    (void)gm_soft_invalidate_begin(session->soft, hva, USER_PAGE);
    user_protect(&session->user, page, how);
    gm_soft_invalidate_end(session->soft, hva, USER_PAGE);
}

/* ---- all of it ---- */

static void audit(struct session *session)
{
    struct kcore *core = &session->soft->core;

    kcore_hold(core);
    lock_take(&core->slots_lock);
    GM_AUDIT(kcore_audit(core));
    GM_AUDIT(mmu_audit(&session->soft->mmu));
    lock_drop(&core->slots_lock);
    kcore_release(core);
}

static void step(struct session *session)
{
    unsigned way = (unsigned)rnd_take(1) % 42;

    switch (way) {
    case 0:
        soft_boot(session);
        break;
    case 1:
        protect(session);
        break;
    case 2:
        change_vcpu(session);
        break;
    case 3:
    case 4:
        write_area(session);
        break;
    case 5:
        make_wrong_request(session);
        break;
    case 6:
        make_request(session, (enum level)(rnd_take(1) % 3), 1 + rnd_take(1) % 16);
        break;
    case 7:
    case 8:
    case 9:
    case 10:
    case 11:
    case 12:
    case 13:
        fill(session);
        break;
    case 14:
        make_request(session, LEVEL_SYSTEM, 0);
        break;
    case 32:
    case 33:
        modify(session);
        break;
    case 34:
        enable(session);
        break;
    case 35:
    case 36:
        set_slot(session);
        break;
    case 37:
        run(session);
        break;
    case 38:
    case 39:
        soft_use_device(session);
        break;
    case 40:
        soft_program(session);
        run(session);
        break;
    default:
        make_request(session, way % 2 == 0 ? LEVEL_VM : LEVEL_VCPU, 0);
        break;
    }
}

static uint64_t small_pages(void *opaque, gm_hva_t hva, uint64_t size_bytes)
{
    (void)opaque;
    (void)hva;
    (void)size_bytes;
    return USER_PAGE;
}

static void begin(struct session *session)
{
    static const unsigned widths[] = {36, 40, 48, 52};
    unsigned way = (unsigned)rnd_take(1);
    const struct gm_soft_options options = {
        .size = sizeof(options),
        .allocator = &session->allocator,
        .gpa_bits = widths[way % 4],
        .log = (way & 4) != 0 ? GM_SOFT_LOG_BUFFER : GM_SOFT_LOG_PROTECT,
        .eager_split = (way & 8) != 0,
        .shadow_paging = (way & 16) != 0,
        .intel_private_slots = (way & 32) != 0,
        .page_bytes = small_pages, /* so as not to read smaps each time */
    };

    memset(session, 0, sizeof(*session));
    session->allocator = faults_allocator(&session->faults);
    user_begin(&session->user);
    REQUIRE(gm_soft_open(&options, &session->soft, NULL) == 0, "no VM");
    if ((way & 128) != 0) {
        (void)gm_soft_vm_ioctl(session->soft, KVM_CREATE_IRQCHIP, 0);
        (void)gm_soft_vm_ioctl(session->soft, KVM_CREATE_PIT, 0);
    }
    if ((way & 64) != 0) { /* else there may be rings before there are vCPUs */
        REQUIRE(gm_soft_vcpu_new(session->soft, 0, &session->vcpus[0]) == 0, "no vCPU");
    }
    for (unsigned i = 0; i < FILES; i++) {
        session->files[i] = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
        REQUIRE(session->files[i] >= 0, "no eventfd");
    }
}

static void end(struct session *session)
{
    audit(session);
    for (unsigned i = 0; i < VCPUS; i++) {
        gm_soft_vcpu_free(session->vcpus[i]);
    }
    REQUIRE(gm_soft_close(session->soft) == 0, "the VM is in use");
    for (unsigned i = 0; i < FILES; i++) {
        close(session->files[i]);
    }
    for (unsigned i = 0; i < session->memfd_count; i++) {
        close(session->memfds[i]);
    }
    user_end(&session->user);
    rcu_drain();
    REQUIRE(faults_live(&session->faults) == 0, "%lld allocations are left",
            (long long)faults_live(&session->faults));
}

int fuzz_soft_ioctl(const uint8_t *data, size_t size)
{
    static struct session session;

    fuzz_begin(data, size);
    begin(&session);
    for (unsigned i = 0; i < STEPS_MAX && rnd_input.at != rnd_input.end; i++) {
        step(&session);
    }
    fuzz_end();
    end(&session);
    return 0;
}
